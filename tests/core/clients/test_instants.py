"""What is due at the very instant of a load is done before it (RULES.md section 4, Assign)."""

from __future__ import annotations

import json

import pytest

from rater.core.instants import HOUR_MS, rfc3339
from rater.core.offline import Rater, Transaction

BEGIN_MS = 1_790_000_000_000


def _packages(status: str, limit: int = 2) -> list[tuple[str, bytes]]:
    package = {
        "id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "1 hour", "status": status,
        "fees": [{"type": "subscription", "name": "s", "rate": "1.00"}],
        "limits": [{"id": "v", "type": "volume", "service": "calls", "code": "1*", "limit": limit}],
    }  # fmt: skip
    return [("packages.json", json.dumps({"packages": [package]}).encode())]


def _first() -> list[tuple[str, bytes]]:
    ((_, packages),) = _packages("active")
    file = {
        "currencies": {"base": "USD"}, **json.loads(packages),
        "rate_tables": [{"name": "r", "currency": "USD", "rates": [{"code": "1", "price": "0.1"}]}],
        "clients": [
            {"id": "42", "currency": "USD", "balance": "10.00", "rate_tables": {"orig": {"calls": "r"}}}
        ],
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


@pytest.mark.parametrize(("order", "taken"), [("assign load", "120"), ("load assign", "60")])
def test_a_load_in_the_second_of_an_assignment(order: str, taken: str) -> None:
    """What was opened before a load of the same second keeps what it was opened with."""
    rater = Rater()
    assert rater.load(_first(), BEGIN_MS) == []
    at_ms = BEGIN_MS + 10_000
    assign = {
        "id": "c", "key": "k", "do": "assign", "at": rfc3339(at_ms), "client": "42", "args": {"package": "P"},
    }  # fmt: skip
    cancel = {"id": "d", "do": "cancel", "at": rfc3339(at_ms), "client": "42", "client_package": "h"}
    rater.command(json.dumps(cancel).encode(), at_ms)
    for step in order.split():
        if step == "load":
            assert rater.load(_packages("active", limit=1), at_ms) == []
        else:
            rater.command(json.dumps(assign).encode(), at_ms)
    call = {"id": "1", "called": "1201", "answered_at": rfc3339(at_ms + 1000), "duration_ms": 300_000}
    raw = json.dumps({**call, "orig": {"client": "42"}}).encode()
    (ended,) = rater.rate(raw, at_ms + 301_000)
    assert isinstance(ended, Transaction)
    assert [draw["taken"] for draw in json.loads(ended.value)["draws"]] == [taken]
