"""Volume that is about to expire: due moments that hold nothing up, counters as they are, and settings."""

from __future__ import annotations

import json
from typing import Any

from rater.core.bucket.messages import CounterChange
from rater.core.clients.lifecycle import due_change
from rater.core.clients.planning import Cause, Known, Plan
from rater.core.clients.state import ClientState, read_state
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.notices import Notices
from rater.core.offline import Rater

START = 1_793_491_200_000  # 2026-11-01T00:00:00Z
FIELD = "3.1.m"


def rater(hours: int = 24, **package: Any) -> Rater:
    """Return a rater whose client "42" has ten minutes of ten days since START."""
    limits = [{"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 10, "rollover": 2}]
    spec = {"id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "10 days", **package}
    made = Rater(notices=Notices((), hours * HOUR_MS))
    file = {
        "currencies": {"base": "USD", "rates": {}}, "packages": [{"limits": limits, **spec}],
        "clients": [{"id": "42", "currency": "USD", "balance": "9"}],
        "client_packages": [{"id": "3", "client": "42", "package": "P"}],
    }  # fmt: skip
    assert made.load([("catalog.json", json.dumps(file).encode())], START) == []
    made.take()
    return made


def due(made: Rater, at_ms: int, used: int | None, *, closing: bool = True) -> Any:
    """Return what is due, where the limit's counter is said to be so; None: nothing is said."""
    known = Known(9_000_000, {} if used is None else {FIELD: used})
    return due_change(
        made.states["42"], made.catalog, upto_ms=at_ms, now_ms=at_ms, known=known, cause=Cause("tick"),
        closing=closing,
    )  # fmt: skip


def told(state: ClientState) -> list[bool]:
    """Return of each period of the client's first client package whether it was told of."""
    life = state.packages[0].life
    assert life is not None
    return [one.told for one in life.periods]


def test_it_is_due_a_notice_before_the_stop() -> None:
    """The index has the moment; what calls do before them does not, and comes at its own."""
    state = rater().states["42"]
    assert (state.due_ms, state.calls_ms) == (START + 9 * DAY_MS, START + 10 * DAY_MS)
    off = rater(hours=0).states["42"]
    assert (off.due_ms, off.calls_ms) == (START + 10 * DAY_MS, START + 10 * DAY_MS)
    money = rater(limits=[{"id": "b", "type": "money", "service": "calls", "code": "*", "limit": "1"}])
    assert money.states["42"].due_ms == START + 10 * DAY_MS
    endless = rater(period=None)
    assert endless.states["42"].due_ms is None


def test_calls_neither_tell_nor_wait_for_it() -> None:
    """Before a call at the stop the renewal is done, though nobody has told of what expires."""
    made = rater()
    assert due(made, START + 9 * DAY_MS, 0, closing=False) is None
    change = due(made, START + 10 * DAY_MS, 0, closing=False)
    assert [event.type for event in change.events] == ["renewed"]
    assert told(read_state(change.write.state)) == [False, False]


def test_what_is_told_holds_for_the_very_counter() -> None:
    """A call that comes between makes the bucket refuse it; with the number that it names it is told."""
    made = rater()
    change = due(made, START + 9 * DAY_MS, None)
    assert change.write.counters == [CounterChange(FIELD, 0, 0, 0)]
    change = due(made, START + 9 * DAY_MS, 70)
    assert change.write.counters == [CounterChange(FIELD, 70, 70, 0)]
    (event,) = change.events
    assert json.loads(event.value)["data"]["limits"] == [{"limit": "m", "left": "530", "expires": "410"}]
    assert change.write.delta == 0
    for nothing in (480, 600):  # 120 s move, or none is left
        change = due(made, START + 9 * DAY_MS, nothing)
        assert change.events == ()
        assert told(read_state(change.write.state)) == [True]


def test_a_counter_that_is_told_narrows_what_was_asked_before() -> None:
    """A plan that moves volume holds for many counters; with a notice of the same limit for one."""
    made = rater()
    plan = Plan(made.states["42"], made.catalog, Known(0, {FIELD: 7}), Cause("t"))
    assert plan.counter_up_to(FIELD, 100) == 7
    plan.count(FIELD, 5)
    assert plan.counter(FIELD) == 7
    assert plan.counter_up_to(FIELD, 100) == 7
    assert plan.change(None, None, START).write.counters == [CounterChange(FIELD, 7, 7, 5)]


def test_periods_of_the_past_are_not_told_of() -> None:
    """An activation in the past opens what is over already; of the period that runs it is told."""
    made = rater()
    packages = [{"id": "4", "client": "42", "package": "P", "activate_in_past": True,
                 "start_date": "2026-09-12T00:00:00Z"}]  # fmt: skip
    file = json.dumps({"client_packages": packages}).encode()
    assert made.load([("more.json", file)], START + HOUR_MS) == []
    made.take()
    made.tick(START + 9 * DAY_MS)
    events = [json.loads(event) for event in made.take()[1]]
    assert {(one["client_package"], one["at"]) for one in events if one["type"] == "limit_expiring"} == {
        ("3", "2026-11-10T00:00:00.000Z"), ("4", "2026-11-10T00:00:00.000Z"),
    }  # fmt: skip


def test_a_notice_as_long_as_the_period_is_told_when_it_begins() -> None:
    """Of the first period with its activation; and settings that are turned on count for what is open."""
    longer = rater(hours=8760)
    assert longer.states["42"].due_ms == START + 10 * DAY_MS
    assert told(longer.states["42"]) == [True]
    made = rater(hours=0)
    assert (due(made, START + 9 * DAY_MS, 0), told(made.states["42"])) == (None, [False])
    made.catalog = longer.catalog
    change = due(made, START + 9 * DAY_MS, 0)
    assert [event.type for event in change.events] == ["limit_expiring"]
