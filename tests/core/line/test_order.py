"""Events come in the order in which what they tell of was drawn."""

from __future__ import annotations

import json
from typing import Any

from rater.core.instants import HOUR_MS, rfc3339
from rater.core.offline import Rater

BEGIN_MS = 1_790_000_000_000
CATALOG: dict[str, Any] = {
    "currencies": {"base": "USD"},
    "rate_tables": [{"name": "in", "currency": "USD", "rates": [{"code": "1", "price": "6"}]}],
    "packages": [
        {
            "id": "P", "name": "P", "type": "customer", "currency": "USD",
            "fees": [{"type": "activation", "name": "a", "rate": "5"}],
        }
    ],
    "clients": [
        {
            "id": "42", "currency": "USD", "balance": "1", "low_balance": "3",
            "rate_tables": {"term": {"calls": "in"}},
        }
    ],
    "client_packages": [{"id": "3", "client": "42", "package": "P"}],
}  # fmt: skip


def test_what_a_call_clears_is_told_behind_what_the_call_tells() -> None:
    """A call restores the balance, and the fee that it clears takes it below the mark: that comes last."""
    rater = Rater()
    assert rater.load([("c.json", json.dumps(CATALOG).encode())], BEGIN_MS) == []
    rater.take()
    call = {"id": "1", "called": "1201", "answered_at": rfc3339(BEGIN_MS + HOUR_MS), "duration_ms": 60_000}
    rater.rate(json.dumps({**call, "term": {"client": "42"}}).encode(), BEGIN_MS + 2 * HOUR_MS)
    assert rater.balance("42") == 2_000_000
    told = [json.loads(one)["type"] for one in rater.take()[1]]
    assert told == ["balance_restored", "charge_cleared", "activated", "low_balance"]
