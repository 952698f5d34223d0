"""What is due at the very instant of a load is done before it (RULES.md section 4, Assign)."""

from __future__ import annotations

import json

import pytest

from rater.core.instants import HOUR_MS
from rater.core.offline import Rater

BEGIN_MS = 1_790_000_000_000


def _packages(status: str) -> list[tuple[str, bytes]]:
    package = {
        "id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "1 hour", "status": status,
        "fees": [{"type": "subscription", "name": "s", "rate": "1.00"}],
    }  # fmt: skip
    return [("packages.json", json.dumps({"packages": [package]}).encode())]


def _first() -> list[tuple[str, bytes]]:
    ((_, packages),) = _packages("active")
    file = {
        "currencies": {"base": "USD"}, **json.loads(packages),
        "clients": [{"id": "42", "currency": "USD", "balance": "10.00", "rate_tables": {}}],
        "client_packages": [{"id": "h", "client": "42", "package": "P"}],
    }  # fmt: skip
    return [("catalog.json", json.dumps(file).encode())]


@pytest.mark.parametrize("status", ["disabled", "archived"])
@pytest.mark.parametrize(("late_ms", "periods"), [(-1000, 1), (0, 2)])
def test_a_renewal_at_the_instant_of_a_load(status: str, late_ms: int, periods: int) -> None:
    """A renewal that is due as its package is disabled or archived is done; one a second later is not."""
    rater = Rater()
    assert rater.load(_first(), BEGIN_MS) == []
    at_ms = BEGIN_MS + HOUR_MS + late_ms
    assert rater.load(_packages(status), at_ms) == []
    tick = {"id": "t", "do": "tick", "at": "2026-09-21T16:00:00Z", "args": {}}
    rater.command(json.dumps(tick).encode(), BEGIN_MS + 2 * HOUR_MS)
    taken = [json.loads(one) for one in rater.take()[0]]
    fees = [one["period"] for one in taken if one["type"] == "subscription_fee"]
    assert fees == list(range(1, periods + 1))
