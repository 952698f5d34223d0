"""The steps over a batch, where no real server is needed to see it; the rest is in tests/line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.bucket.messages import DrawResult, Status
from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import decode
from rater.core.clients.state import write_state
from rater.core.clients.views import ClientView, Views
from rater.core.line import batch as batch_module
from rater.core.line import steps as steps_module
from rater.core.line.batch import LanePosition, Side
from rater.core.line.offline import Rater
from rater.core.rating import matching, transaction
from rater.core.rating.identifying import Identified, route_of

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
    rater: Rater, view: ClientView, number: int, answered_at: str, seconds: int = 1
) -> tuple[Side, Identified]:
    """Return a call of client 42, identified."""
    cdr = decode(
        b'{"id":"%d","called":"380501234567","duration_ms":%d,"answered_at":"%s",'
        b'"orig":{"client":"42"}}' % (number, seconds * 1000, answered_at.encode()),
        Arrival(AT_MS, 864_000_000, frozenset({"calls"})),
    )
    assert isinstance(cdr, Cdr)
    route = view.memo.get(("orig", None, "calls"))
    if route is None:
        route = route_of(view, "orig", None, rater.catalog.services["calls"], rater.catalog)
    assert route.table is not None
    rate = route.table.lookup(cdr.called, cdr.at_ms)
    record = SimpleNamespace(offset=number, timestamp=AT_MS)
    return Side("cdrs", record, 0, cdr, cdr.orig), Identified(view, route, rate)


def test_calls_of_a_client_share_the_view_that_was_fetched() -> None:
    """What was fetched for a batch holds for all of its sides, whatever others put into the cache."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG).encode())], AT_MS)
    register = rater.registers["42"]
    views = Views({"42": ClientView(msgspec.structs.replace(register, version=2))})
    sides = [found_in(rater, ClientView(register), number, NOON)[0] for number in range(2)]
    views.put("42", write_state(msgspec.structs.replace(register, version=3)))
    views.clients["42"] = ClientView(msgspec.structs.replace(register, version=4))
    found, lacking = steps_module.identify(sides, rater.catalog, views)
    assert not lacking
    assert [of.view.version for _, of in found] == [3, 3]


def test_two_periods_of_a_client_in_one_call() -> None:
    """They have the same candidates and counters of their own; the call of the one that is over is late."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG | DAILY).encode())], AT_MS)
    view = ClientView(rater.registers["42"])
    times = "2026-11-04T10:00:00Z", NOON, "2026-11-04T11:00:00Z"
    found = [found_in(rater, view, number, at) for number, at in enumerate(times)]
    calls, _ = steps_module.match(found, rater.catalog, Views(), 1)
    (call,) = calls.values()
    standing = batch_module.Standing(0, "commands", 864_000_000, 867_600_000, LanePosition(lane_ms=AT_MS))
    request = call.request(standing, 0, 1, 0, 0)
    assert [use.fields for use in request.uses] == [["7.4.a", "7.5.a"]]
    assert [[one.field for one in item.candidates] for item in request.items] == [[0], [1], [0]]
    assert [side.late for side, _ in found] == [True, False, True]


def test_the_numbers_of_counter_fields_are_shared_and_few() -> None:
    """What is asked for at other places is right each time, and of what is remembered there is a bound."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG | DAILY).encode())], AT_MS)
    view = ClientView(rater.registers["42"])
    side, identified = found_in(rater, view, 1, NOON)
    assert side.cdr is not None
    matched = matching.match(identified, "orig", side.cdr.at_ms, 1, -1, rater.catalog)
    assert isinstance(matched, matching.Matched)
    numbers = [*range(3 * matching.PLACED_MAX), 1, 1]
    found = [transaction.asked_of(matched, ["x"], {"x": number}) for number in numbers]
    assert [one.field for (one,) in found] == numbers
    assert found[0] is matched.asked
    assert found[-1] is found[-2]
    assert [one._replace(field=0) for (one,) in found] == [matched.asked[0]] * len(numbers)
    assert len(matched.placed) <= matching.PLACED_MAX


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
        view = ClientView(rater.registers["42"])
        standing = batch_module.Standing(0, "commands", 864_000_000, 867_600_000, LanePosition(lane_ms=AT_MS))
        number, expected = 0, rater.bucket.lanes[0].call
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
            number, expected = number + len(batch), reply.call
            yield tuple(reply.results)


def test_what_came_in_is_cut_into_equal_batches() -> None:
    """None is left out, each topic keeps its order, and the positions stand behind the last ones."""
    standing = batch_module.Standing(0, "commands", 86_400_000, 90_000_000, LanePosition(lane_ms=AT_MS))
    records = [SimpleNamespace(offset=number, timestamp=AT_MS) for number in range(250)]
    batches = batch_module.slices(standing, [("cdrs", records), ("commands", records)], 120)
    assert [batch.records for batch in batches] == [100, 100, 100, 100, 100]
    assert [record for batch in batches for record in batch.commands] == records
    assert [record for batch in batches for _, part in batch.polled for record in part] == records
    position = standing.position
    for batch in batches:
        position = position.behind(batch.last)
    assert position.positions == {"cdrs": 250, "commands": 250}
    assert position.times == {"cdrs": AT_MS, "commands": AT_MS}
