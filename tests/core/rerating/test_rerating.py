"""Calls rated again: what changes, in which order, and that nothing else does (RULES.md section 5)."""

from __future__ import annotations

from rerates import DAY, START, Books

from rater.core.rerating.client import Window

CATALOG = """
currencies: {{base: USD}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "{price}"}}, {{code: "1", price: "0.02"}}]}}
packages:
  - {{id: "1", name: Ten, type: customer, currency: USD, period: 1 month,
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: {limit}}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "100", credit_limit: "0",
     rate_tables: {{orig: {{calls: retail}}}}, accounts: []}}
client_packages:
  - {{id: "7", client: "1", account: null, package: "1", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
"""
HOUR = 3_600_000


def books(price: str = "0.60", limit: int = 10) -> Books:
    """Return a client with minutes of a month, and no calls yet."""
    return Books(CATALOG.format(price=price, limit=limit))


def test_calls_that_came_in_order_change_nothing() -> None:
    """Neither does a second run."""
    made = books()
    for n in range(12):
        made.call(f"c{n}", START + n * HOUR, 60)
    assert made.rerate() == []
    made.sums_agree()


def test_a_late_call_takes_its_turn() -> None:
    """It came last and found nothing left; in call order it is the first, and the last call pays."""
    made = books()
    for n in range(10):
        made.call(f"c{n}", START + (n + 1) * HOUR, 60)
    made.call("late", START, 60)
    assert made.standing()["default/late/orig"][0] == "-0.6"
    entries = made.rerate()
    rows = [row for entry in entries for row in entry.rows]
    assert [(row.transaction, row.revision, row.before, row.after) for row in rows] == [
        ("default/late/orig", 2, -600_000, 0),
        ("default/c9/orig", 2, 0, -600_000),
    ]
    made.sums_agree()
    assert made.rerate() == []


def test_a_changed_rate_and_back() -> None:
    """What is free has another rate, too; the way back ends where it began."""
    made = books(limit=1)
    for n in range(5):
        made.call(f"c{n}", START + n * HOUR, 30)
    first = made.standing()
    made.load(CATALOG.format(price="1.20", limit=1))
    assert len(made.rerate()) == 5  # of the free ones the rate has changed
    made.sums_agree()
    assert made.rerate() == []
    made.load(CATALOG.format(price="0.60", limit=1))
    made.rerate()
    made.sums_agree()
    assert made.standing() == first


def test_a_window_and_a_code() -> None:
    """Calls of other times and codes stay as they are."""
    made = books(limit=1)
    for n in range(4):
        made.call(f"c{n}", START + n * HOUR, 60)
        made.call(f"d{n}", START + n * HOUR, 60, called="12125550100")
    made.load(CATALOG.format(price="1.20", limit=1).replace('"0.02"', '"0.04"'))
    entries = made.rerate(Window(START + HOUR, START + 3 * HOUR), "38")
    assert [entry.rows[0].transaction for entry in entries] == ["default/c1/orig", "default/c2/orig"]
    made.sums_agree()
    assert made.work(Window(START + HOUR, START + DAY)).difference.calls == 0


def test_a_call_that_cannot_be_rated_any_more_and_comes_back() -> None:
    """It has no transaction that stands, and is rated by the next run that can."""
    made = books()
    made.call("c0", START, 60)
    made.call("c1", START + HOUR, 60)
    made.load(CATALOG.format(price="0.60", limit=10).replace('"380", price', '"381", price'))
    entries = made.rerate()
    assert [entry.rejection is not None and entry.rejection.reason for entry in entries] == [
        "rate_missing"
    ] * 2
    assert made.standing() == {}
    made.sums_agree()
    assert made.rerate() == []
    made.load(CATALOG.format(price="0.60", limit=10))
    rows = [entry.rows[0] for entry in made.rerate()]
    assert [(row.revision, row.before, row.after) for row in rows] == [(2, None, 0), (2, None, 0)]
    made.sums_agree()
