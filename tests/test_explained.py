"""What a call would come to, also one of a period that has left its client's register."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from rater.core.clients.planning import history_field, write_period
from rater.core.clients.state import write_state
from rater.core.instants import DAY_MS, rfc3339
from rater.core.offline import Rater
from rater.queries.explained import what_if

START = 1_793_491_200_000
"""2026-11-01T00:00:00Z."""
CATALOG = b"""
currencies: {base: USD}
rate_tables: [{name: retail, currency: USD, rates: [{code: "380", price: "0.60"}]}]
packages:
  - {id: "1", name: Daily, type: customer, currency: USD, period: 1 day,
     limits: [{id: m, type: volume, service: calls, code: "380*", limit: 1}]}
clients:
  - {id: "1", currency: USD, time_zone: UTC, balance: "9", rate_tables: {orig: {calls: retail}}}
client_packages: [{id: "7", client: "1", package: "1"}]
"""


def call(at_ms: int, seconds: int) -> bytes:
    """Return a call."""
    of = {"id": "c", "answered_at": rfc3339(at_ms), "duration_ms": seconds * 1000, "called": "380501"}
    return json.dumps({**of, "orig": {"client": "1"}}).encode()


async def test_a_call_of_a_period_that_has_left_the_register(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of then covers it, less what was drawn then."""
    rater = Rater(window_ms=DAY_MS)
    assert not rater.load([("c.yaml", CATALOG)], START)
    rater.rate(call(START, 20), START + 20_000)
    for day in range(1, 9):
        rater.tick(START + day * DAY_MS)
    state = rater.states["1"]
    (held,) = state.packages
    assert held.life is not None
    *old, last = held.life.periods
    assert len(old) > 7
    history = {history_field(held.id, one.number): write_period(one) for one in old}
    state = replace(state, packages=[replace(held, life=replace(held.life, periods=(last,)))])

    class Store:
        async def accounts(self, _: Any) -> dict[str, str]:
            return {}

        async def client(self, name: str) -> Any:
            return write_state(state), rater.balance(name), rater.used(name)

        async def history(self, _: str) -> dict[str, bytes]:
            return history

    async def newest(*_: Any) -> Any:
        return rater.catalog

    monkeypatch.setattr("rater.queries.catalog.newest", newest)
    at: Any = SimpleNamespace(store=Store(), kafka=None, topics=None, catalogs=None)
    for day, taken, amount in ((0, "40", "-0.2"), (2, "60", "0"), (8, "60", "0")):
        (row,) = await what_if(at, call(START + day * DAY_MS, 60))
        assert (row["candidates"][0]["taken"], row["amount"]) == (taken, amount)
