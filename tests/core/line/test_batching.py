"""The steps over a batch, where no real server is needed to see it; the rest is in tests/line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.bucket.messages import DrawResult, Status
from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import decode
from rater.core.clients.state import write_state
from rater.core.clients.views import ClientView, Views
from rater.core.journal.outcomes import unpack_entries
from rater.core.journal.records import Effect
from rater.core.line import batch as batch_module
from rater.core.line import steps as steps_module
from rater.core.line.batch import LanePosition, Side
from rater.core.offline import Rater
from rater.core.offline import Record as OfflineRecord
from rater.core.rating import matching
from rater.core.rating.transaction import Context

_context = msgspec.msgpack.Decoder(Context)

AT_MS = 1_793_880_000_000
NOON = "2026-11-05T10:00:00Z"
CATALOG: dict[str, Any] = {
    "currencies": {"base": "USD"},
    "code_decks": [{"name": "d", "codes": {"380": "Ukraine"}}],
    "rate_tables": [
        {"name": "r", "currency": "USD", "code_deck": "d", "rates": [{"code": "380", "price": "1"}]}
    ],
    "clients": [{"id": "42", "name": "Rose", "currency": "USD", "rate_tables": {"orig": {"calls": "r"}}}],
}


DAILY = {
    "packages": [
        {"id": "P", "name": "Daily", "type": "customer", "currency": "USD", "period": "1 day",
         "limits": [{"id": "a", "type": "volume", "service": "calls", "code": "*", "limit": 1000}]}
    ],
    "client_packages": [
        {"id": "7", "client": "42", "package": "P", "start_date": "2026-11-01", "activate_in_past": True}
    ],
}  # fmt: skip


def found_in(
    rater: Rater, view: ClientView, number: int, answered_at: str, seconds: int = 1, client: str = "42"
) -> Side:
    """Return a call of a client, identified and priced."""
    cdr = decode(
        b'{"id":"%d","called":"380501234567","duration_ms":%d,"answered_at":"%s",'
        b'"orig":{"client":"%s"}}' % (number, seconds * 1000, answered_at.encode(), client.encode()),
        Arrival(AT_MS, 864_000_000, frozenset({"calls"})),
    )
    assert isinstance(cdr, Cdr)
    side = Side("cdrs", SimpleNamespace(offset=number, timestamp=AT_MS), 0, cdr, cdr.orig)
    views = Views()
    views.fetched[client] = view
    for step in (steps_module.identify, steps_module.price):
        assert not step([side], rater.catalog, views)
    assert side.rejection is None
    return side


def test_calls_of_a_client_share_the_view_that_was_fetched() -> None:
    """What was fetched for a batch holds for all of its sides, whatever others put into the cache."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG).encode())], AT_MS)
    state = rater.states["42"]
    views = Views({"42": ClientView(msgspec.structs.replace(state, version=2))})
    sides = [found_in(rater, ClientView(state), number, NOON) for number in range(2)]
    views.put("42", write_state(msgspec.structs.replace(state, version=3)))
    views.clients["42"] = ClientView(msgspec.structs.replace(state, version=4))
    assert not steps_module.identify(sides, rater.catalog, views)
    assert [of.view.version for of in sides if of.view is not None] == [3, 3]


def test_two_periods_of_a_client_in_one_call() -> None:
    """They have the same candidates and counters of their own; the call of the one that is over is late."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG | DAILY).encode())], AT_MS)
    view = ClientView(rater.states["42"])
    times = "2026-11-04T10:00:00Z", NOON, "2026-11-04T11:00:00Z"
    found = [found_in(rater, view, number, at) for number, at in enumerate(times)]
    calls, _ = steps_module.match(found, rater.catalog, Views(), 1)
    (call,) = calls.values()
    standing = batch_module.Standing(0, "commands", 864_000_000, 867_600_000, LanePosition(lane_ms=AT_MS))
    request = call.request(standing, 0, 1, 0, 0)
    assert [use.fields for use in request.uses] == [["7.4.a", "7.5.a"]]
    assert [[one.field for one in item.candidates] for item in request.items] == [[0], [1], [0]]
    assert [side.late for side in found] == [True, False, True]


def test_what_calls_of_a_request_share_is_kept_once() -> None:
    """Heads, rates and limits are numbered by what they say, so each row names its own, whoever is between.

    Calls of two clients with one package, in two periods, share nothing that differs.
    """
    other = {"id": "43", "name": "Violet", "currency": "USD", "rate_tables": {"orig": {"calls": "r"}}}
    both = deepcopy(CATALOG | DAILY)
    both["clients"].append(other)
    both["client_packages"].append(both["client_packages"][0] | {"id": "8", "client": "43"})
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(both).encode())], AT_MS)
    times = "2026-11-04T10:00:00Z", NOON, "2026-11-04T11:00:00Z", NOON
    sides = [
        found_in(rater, rater.views.clients[client], 2 * number + place, at, client=client)
        for number, at in enumerate(times)
        for place, client in enumerate(("42", "43"))
    ]
    requests, _ = steps_module.match(sides, rater.catalog, Views(), 1)
    request = requests[0].request(
        batch_module.Standing(0, "c", 1, 1, LanePosition(lane_ms=AT_MS)), 0, 1, 0, 0
    )
    kept = [_context.decode(entry.context) for entry in unpack_entries(request.context)]
    assert [
        (of.head.client, of.head.packages[one.group].field + one.field, of.id)
        for of in kept
        for one in of.limits
    ] == [
        (client, f"{'7' if client == '42' else '8'}.{4 + number % 2}.a", str(2 * number + place))
        for number in range(len(times))
        for place, client in enumerate(("42", "43"))
    ]
    assert [use.fields for use in request.uses] == [["7.4.a", "7.5.a"], ["8.4.a", "8.5.a"]]
    assert [[one.field for one in item.candidates] for item in request.items] == [[0], [0], [1], [1]] * 2
    told = msgspec.msgpack.decode(request.context[1:])
    assert [len(shared) for shared in told[:4]] == [1, 4, 1, 1]


LIMITS = st.fixed_dictionaries({
    "type": st.sampled_from(["volume", "money"]),
    "limit": st.integers(1, 9),
    "client_balance": st.sampled_from(["allow", "deny"]),
    "setup_fee": st.sampled_from(["charge", "dont_charge"]),
})  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.lists(LIMITS, min_size=1, max_size=3), min_size=1, max_size=5),
    st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=4), min_size=1, max_size=8),
    st.sampled_from([0, 30]),
)
def test_the_first_limits_do_or_all_are_asked(
    packages: list[list[dict[str, Any]]], batches: list[list[int]], fee: int
) -> None:
    """Whether a draw names the first limits and then all, or all at once: the same comes out."""
    told = {first: list(drawn(packages, batches, fee, first)) for first in (1, 2, 99)}
    assert told[1] == told[2] == told[99]


def drawn(
    packages: list[list[dict[str, Any]]], batches: list[list[int]], fee: int, first: int
) -> Iterator[tuple[DrawResult, ...]]:
    """Draw calls of so many seconds, a batch after the other, as the worker does."""
    catalog = deepcopy(CATALOG) | {
        "packages": [
            {"id": f"P{n}", "name": "P", "type": "customer", "currency": "USD",
             "client_balance": own[0]["client_balance"], "setup_fee": own[0]["setup_fee"],
             "limits": [{"id": f"l{m}", "type": limit["type"], "service": "calls", "code": "*",
                         "limit": str(limit["limit"])} for m, limit in enumerate(own)]}
            for n, own in enumerate(packages)
        ],
        "client_packages": [
            {"id": str(n), "client": "42", "package": f"P{n}", "start_date": "2026-11-01",
             "activate_in_past": True}
            for n in range(len(packages))
        ],
    }  # fmt: skip
    catalog["rate_tables"][0]["rates"][0]["setup_fee"] = f"0.{fee}"
    with mock.patch.object(matching, "FIRST_MAX", first):
        rater = Rater()
        assert not rater.load([("catalog.json", json.dumps(catalog).encode())], AT_MS)
        view = ClientView(rater.states["42"])
        standing = batch_module.Standing(0, "commands", 864_000_000, 867_600_000, LanePosition(lane_ms=AT_MS))
        number, expected = 0, rater.bucket.lanes[0].number
        for batch in batches:
            asked, whole = 0, set[str]()
            while True:
                found = [found_in(rater, view, number + n, NOON, s) for n, s in enumerate(batch)]
                calls, _ = steps_module.match(found, rater.catalog, Views(), 1, whole)
                (call,) = calls.values()
                reply = rater.bucket.draw(call.request(standing, 0, expected, expected, 0))
                if reply.status != Status.MORE:
                    break
                whole |= steps_module.ask_whole(call, reply.more)
                asked += 1
                assert asked == 1
            assert reply.status == Status.OK
            number, expected = number + len(batch), reply.number
            yield tuple(reply.results)


def test_what_came_in_is_cut_into_equal_batches() -> None:
    """None is left out, each topic keeps its order, and the positions stand behind the last ones."""
    standing = batch_module.Standing(0, "commands", 86_400_000, 90_000_000, LanePosition(lane_ms=AT_MS))
    records = [SimpleNamespace(offset=number, timestamp=AT_MS, headers=()) for number in range(250)]
    batches = batch_module.slices(standing, [("cdrs", records), ("commands", records)], 120)
    assert [batch.records for batch in batches] == [100, 100, 100, 100, 100]
    assert [record for batch in batches for record in batch.commands] == records
    assert [record for batch in batches for _, part in batch.polled for record in part] == records
    position = standing.position
    for batch in batches:
        position = position.behind(batch.last)
    assert position.positions == {"cdrs": 250, "commands": 250}
    assert position.times == {"cdrs": AT_MS, "commands": AT_MS}


UNTOLD = (-1, 0, 1, AT_MS // 1000, 10**12 - 1, 10**13, AT_MS * 1000, AT_MS * 10**6, -62_135_596_800_000)
"""No time, and what is one in seconds, micro- and nanoseconds, or of the year 1, which is Go's zero."""


def test_a_time_that_tells_nothing_moves_nothing() -> None:
    """Neither the lane's time, nor the generation that a batch is of; each record is in one all the same."""
    standing = batch_module.Standing(0, "commands", 86_400_000, 90_000_000, LanePosition(lane_ms=AT_MS))
    times = [*UNTOLD, AT_MS + 90_000_000, *UNTOLD, AT_MS, AT_MS + 180_000_000, -1]
    records = [
        SimpleNamespace(offset=number, timestamp=at, value=b"", key=None, headers=())
        for number, at in enumerate(times)
    ]
    odd = [one for one in records if one.timestamp in UNTOLD]
    (batch,) = batch_module.slices(standing, [("commands", odd), ("cdrs", odd)], 10_000)
    steps_module.decode(batch, standing, {}, frozenset())
    assert standing.lane_ms == AT_MS
    batches = batch_module.slices(standing, [("cdrs", records)], 10_000)
    assert [record for batch in batches for _, part in batch.polled for record in part] == records
    generations = []
    for batch in batches:
        steps_module.decode(batch, standing, {}, frozenset())
        generations.append(standing.lane_ms // 90_000_000 - AT_MS // 90_000_000)
    assert generations == [0, 1, 2]
    assert standing.lane_ms == AT_MS + 180_000_000


@pytest.mark.parametrize("untold", UNTOLD)
def test_a_call_is_rated_whatever_its_record_has_for_a_time(untold: int) -> None:
    """It is judged by what the lane knows, is late for nobody, and is undone where a duplicate was kept.

    What is kept and published of it has -1: another number would be no time either, or none that the journal
    takes.
    """
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps({**CATALOG, **DAILY}).encode())], AT_MS)
    call = {"called": "380501234567", "duration_ms": 1000, "orig": {"client": "42"}}
    raws = [json.dumps({**call, "id": name, "answered_at": NOON}).encode() for name in ("a", "b", "a")]
    rater.standing.lane_ms = AT_MS
    batch = batch_module.Batch(
        rater.standing, [("cdrs", [OfflineRecord(raw, untold, n) for n, raw in enumerate(raws)])]
    )
    sides = steps_module.decode(batch, rater.standing, {}, rater.catalog.service_names)
    assert len(sides) == 3
    views = rater.fresh_views()
    for builder in rater.matched(batch, sides, views)[0]:
        assert rater._drawn(batch, builder, views)  # noqa: SLF001 - the same
    steps_module.render(batch, rater.standing)
    assert (batch.rejected, batch.counts.late, len(batch.transactions)) == ([], 0, 2)
    for _, _, headers in batch.transactions:
        effect = msgspec.msgpack.decode(dict(headers)["e"], type=Effect)
        assert (effect.record_ms, effect.lane_ms) == (-1, AT_MS)
    kept = [entry for call in rater.bucket.lanes[0].outcomes.values() for entry in unpack_entries(call[0])]
    assert {entry.record_ms for entry in kept if entry.key} == {-1}
