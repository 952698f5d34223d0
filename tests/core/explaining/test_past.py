"""A published side whose past is not known whole: what is told then, and what a client was before it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from rater.core.cdr import Party
from rater.core.clients.state import write_state
from rater.core.explaining.before import Before, Place
from rater.core.explaining.past import AGAIN, CUT, GONE, NO_STATE, NOT_EXACT, put, usage
from rater.core.instants import rfc3339
from rater.core.journal.records import ChangeRecord, Effect
from rater.core.offline import Rater, Transaction

NOVEMBER_MS = 1_793_491_200_000
CATALOG = {
    "currencies": {"base": "USD"},
    "rate_tables": [{"name": "t", "currency": "USD", "rates": [{"code": "380", "price": "0.60"}]}],
    "packages": [
        {"id": of, "name": of, "type": "customer", "currency": "USD", "priority": place,
         "limits": [{"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 1}]}
        for place, of in enumerate(("A", "B"))
    ],
    "clients": [
        {"id": "42", "name": "Rose", "currency": "USD", "time_zone": "UTC", "balance": "9",
         "rate_tables": {"orig": {"calls": "t"}}, "accounts": []}
    ],
    "client_packages": [
        {"id": of, "client": "42", "package": of, "start_date": "2026-11-01"} for of in ("A", "B")
    ],
}  # fmt: skip


def effect(offset: int, index: int = 0, *, units: int = 0, balance: int = 0, topic: str = "cdrs") -> Effect:
    """Return what a side of a record did: units of package A's limit, micros."""
    counters = [("A.1.m", units)] if units else []
    return Effect(topic, 0, offset, index, NOVEMBER_MS, NOVEMBER_MS, b"", b"", "42", balance, counters)


def rated() -> tuple[Rater, dict[str, Any]]:
    """Return a rater that has rated a call of 90 s, and its transaction."""
    rater = Rater()
    assert not rater.load([("c.json", json.dumps(CATALOG).encode())], NOVEMBER_MS)
    call = {
        "id": "c", "called": "380501", "duration_ms": 90_000, "answered_at": rfc3339(NOVEMBER_MS + 1000),
        "orig": {"client": "42"},
    }  # fmt: skip
    (ended,) = rater.rate(json.dumps(call).encode(), NOVEMBER_MS + 91_000)
    assert isinstance(ended, Transaction)
    return rater, json.loads(ended.value)


def told(before: Before, party: Party | None) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return what is told of the candidates of that call, and the notes."""
    rater, one = rated()
    row = usage(one, before, rater.catalog, party, None)
    limits = [(of["client_package"], of["taken"], of["passed_over"]) for of in row["candidates"]]
    return limits, row["notes"]


def test_what_is_not_known_is_said() -> None:
    """Without a state, or where counters differ, the draws stand; the record of the call may be gone."""
    rater, _ = rated()
    place = Place(0, 9, effect(5))
    before = Before(place)
    assert told(before, Party(client="42")) == ([("A", "60", None)], [NO_STATE])
    before.state = write_state(rater.states["42"])
    whole = [("A", "60", None), ("B", None, "lower_in_order")]
    assert told(before, Party(client="42")) == (whole, [])
    assert told(before, None) == (whole, [GONE])
    before.counters["A.1.m"] = 60  # as if another lane had drawn it before
    assert told(before, Party(account="a")) == ([("A", "60", None), ("B", None, None)], [NOT_EXACT])


def test_a_record_comes_behind_those_before_its_own() -> None:
    """In its lane by the place of records, whatever the journal's order; of its record by turns."""
    before = Before(Place(0, 50, effect(5, 1)))
    state = write_state(rated()[0].states["42"])
    change = ChangeRecord("cdrs", 6, 2, NOVEMBER_MS, NOVEMBER_MS, "42", 9, state, 0, [("A.1.m", 1000)])
    for offset, said, units, balance in (
        (40, change, 0, 0),  # due before a later call of the same batch
        (60, effect(4, units=1, balance=-10), 1, -10),  # a call before, published behind
        (41, effect(6, units=7, balance=-7), 1, -10),
        (42, effect(5, 0, units=2, balance=-100), 3, -110),  # orig of the same record
        (43, effect(5, 6, balance=-1000), 3, -1110),  # the fee that orig brought
        (44, effect(5, 7, balance=-5), 3, -1110),  # and that term brings
        (45, effect(99, 2, balance=500, topic="commands"), 3, -610),
        (51, effect(1, 2, balance=500, topic="commands"), 3, -610),
    ):
        before.add(0, offset, said)
        assert (before.counters["A.1.m"], before.balance) == (units, balance), (offset, said)
    assert before.of_record == -1100
    assert before.state is None
    later = Before(Place(0, 50, effect(5)))
    later.add(1, 999, change)  # of another lane, by the broker's time before it
    assert (later.counters["A.1.m"], later.state) == (1000, state)


def test_a_change_counts_once_with_its_transactions() -> None:
    """A re-rate's change says as a whole what its transactions say by shares; it counts once."""
    state = write_state(rated()[0].states["42"])
    change = ChangeRecord(
        "commands", 3, 2, NOVEMBER_MS, NOVEMBER_MS, "42", 9, state, -25, [("A.1.m", 5)]
    )  # fmt: skip
    back = effect(3, 2, units=-55, balance=75, topic="commands")
    again = effect(3, 2, units=60, balance=-100, topic="commands")
    before = Before(Place(0, 50, effect(5)))
    for offset, said in ((40, change), (41, back), (42, again), (43, effect(4, units=7, balance=-1))):
        before.add(0, offset, said)
    assert (before.counters["A.1.m"], before.balance) == (12, -26)
    own = Before(Place(0, 42, again))  # what that one is, before it: its reversal stands there
    for offset, said in ((40, change), (41, back), (42, again)):
        own.add(0, offset, said)
    assert (own.counters["A.1.m"], own.balance, own.state) == (-55, 75, None)


def test_a_record_of_another_lane_is_not_the_same_one() -> None:
    """Offsets count by partition: what another one has at the same place is no other side of the call."""
    before = Before(Place(0, 50, effect(5, 1)))
    before.add(1, 9, effect(5, 0, units=2, balance=-100))
    assert (before.balance, before.of_record, before.counters["A.1.m"]) == (-100, 0, 2)


def test_what_a_cut_journal_and_a_job_leave_unknown_is_said() -> None:
    """Sums of a journal without its begin are none; what a job has rated again is as it said."""
    rater, _ = rated()
    cut = Before(Place(0, 9, effect(5)))
    cut.state, cut.cut = write_state(rater.states["42"]), True
    assert told(cut, Party(client="42")) == ([("A", "60", None)], [CUT])
    again = Before(Place(0, 9, effect(5, 2, topic="commands")))
    again.state = write_state(rater.states["42"])
    whole = [("A", "60", None), ("B", None, "lower_in_order")]
    assert told(again, None) == (whole, [AGAIN.format(job=None)])


def test_a_client_of_a_newer_catalog_is_refused() -> None:
    """A rater that has an older one says so, rather than ask for ever."""
    rater, _ = rated()
    state = replace(rater.states["42"], catalog=2)
    put(rater, write_state(state), 0, {})
    with pytest.raises(ValueError, match="a client needs catalog 2, not 1"):
        rater.rate(b'{"id": "d", "called": "380501", "duration_ms": 0, "setup_at": "2026-11-01T00:00:00Z", '
                   b'"orig": {"client": "42"}}', NOVEMBER_MS)  # fmt: skip
