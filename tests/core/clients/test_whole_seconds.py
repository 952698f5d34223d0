"""Instants of client packages are whole seconds, whatever brings them (RULES.md section 4)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from rater.core.clients.moments import opened_ms
from rater.core.instants import milliseconds
from rater.core.offline import Rater, Transaction

CATALOG = {
    "currencies": {"base": "USD"},
    "rate_tables": [{"name": "in", "currency": "USD", "rates": [{"code": "1", "price": "6"}]}],
    "packages": [
        {
            "id": "1", "name": "P", "type": "customer", "currency": "USD", "period": "10 days",
            "advance_renew": "9 days", "fees": [{"type": "subscription", "name": "S", "rate": "5"}],
            "limits": [],
        }
    ],
    "clients": [{"id": "42", "currency": "USD", "rate_tables": {"term": {"calls": "in"}}}],
    "client_packages": [
        {"id": "3", "client": "42", "package": "1", "start_date": "2026-11-08", "activate_in_past": True}
    ],
}  # fmt: skip
PAID = "2026-11-10T12:00:04.893Z"


def ms(text: str) -> int:
    """Return an instant."""
    return milliseconds(datetime.fromisoformat(text))


def adjusted(rater: Rater) -> None:
    """Pay by a command."""
    row = {"id": "c", "key": "k", "at": PAID, "do": "adjust", "client": "42", "args": {"amount": "6"}}
    rater.command(json.dumps(row).encode(), ms(PAID))


def called(rater: Rater) -> None:
    """Pay by a call that earns money."""
    call: dict[str, Any] = {"id": "c", "called": "1201", "answered_at": "2026-11-10T11:59:04.893Z"}
    raw = json.dumps({**call, "duration_ms": 60_000, "term": {"client": "42"}}).encode()
    (ended,) = rater.rate(raw, ms(PAID))
    assert isinstance(ended, Transaction)


@pytest.mark.parametrize("pay", [adjusted, called])
def test_what_money_opens_is_opened_at_a_whole_second(pay: Any) -> None:
    """So is the renewal that is due at once, and waits for the next money, whatever is asked after it."""
    rater = Rater()
    loaded = ms("2026-11-10T10:00:00.500Z")
    assert rater.load([("c.json", json.dumps(CATALOG).encode())], loaded) == []
    pay(rater)
    rater.tick(ms("2026-11-11T00:00:00Z"))
    (held,) = rater.states["42"].packages
    assert held.life is not None
    assert held.life.waiting is not None
    (period,) = held.life.periods
    second = ms("2026-11-10T12:00:04Z")
    assert (opened_ms(period), held.life.waiting.since_ms) == (second, second)
    assert rater.states["42"].changed_ms == second
