"""Calls are rated again natively as by the twin, byte for byte; so is the journal read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from core.rerating.test_properties import HOUR, catalog
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_form import batch_of
from rerates import DAY, START, Books

from native.runs import entries_of, written
from native.shadow import SEEN
from rater.core.journal.records import CHANGE_INDEX_MIN, EFFECT_HEADER, Effect, effect_headers
from rater.core.notices import NOTICES
from rater.core.rerating import calls, rating
from rater.core.rerating.calls import PastSide, Sent, apart, read_told, unpack
from rater.core.rerating.client import Sums, Window, Work
from rater.core.rerating.rating import ClientRating, Unchanged
from rater.core.rerating.sorting import Sorted, latest, sorted_as
from rater.jobs.native_again import NativeAgain, Unlike, ways
from rater.jobs.rerate_reading import Selection, place_of, told_of
from rater.native import engine
from rater.native.holding import Native

TOGETHER = 3
"""Calls that are rated together here, so that a client's go in several parts."""
ALWAYS = Window(0, 2 * START)
RATE = {"code": "999", "price": "0.3", "currency": "EUR", "code_name": 'a "name"', "interval": 6}
LOST = catalog().replace('{code: "38044", price', '{code: "38045", price').replace('"1", price', '"2", price')

_pack = msgspec.msgpack.Encoder().encode


class BothBooks(Books):
    """Books whose calls are rated again both ways; it goes on by what the engine makes of them."""

    def __init__(self, text: str) -> None:
        self.native = Native()
        super().__init__(text)

    def load(self, text: str) -> None:
        """Load a catalog into both."""
        super().load(text)
        assert self.rater.content is not None
        self.native.load(self.rater.content, self.rater.catalog.version, NOTICES)

    def work(self, window: Window, code: str = "", unrated: Iterable[PastSide] = ()) -> Work:
        """Work client 1's calls out both ways, and compare."""
        unrated = list(unrated)
        reference, found = super().work(window, code, unrated), self.natively(window, code, unrated)
        assert told(found) == told(reference)
        return self.natively(window, code, unrated)

    def natively(self, window: Window, code: str, unrated: Iterable[PastSide]) -> Work:
        """Work them out by the engine."""
        with patch.object(self, "again", self.by_engine):
            return super().work(window, code, unrated)

    def by_engine(self, state: Any, sums: Sums) -> NativeAgain:
        """Return the engine's way."""
        again, _ = ways(self.native, self.rater.catalog, state, sums)
        assert isinstance(again, NativeAgain)
        return again


def told(work: Work) -> list[Any]:
    """Return all that a re-rate comes to: entries, sums, pieces with their intervals."""
    entries = list(work.entries())
    of = work.difference
    SEEN.sides += of.calls
    sums = [
        of.calls, of.changed, of.volume_before, of.volume_after, of.amount_before, of.amount_after,
    ]  # fmt: skip
    bounds = work._again.bounds  # noqa: SLF001 - what the pieces are cut by
    return [
        [_pack(entry) for entry in entries], sums, sorted(bounds.fields.items()), bounds.balance,
        [_pack(piece) for piece in work.pieces(entries)],
    ]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def few_together() -> Iterator[None]:
    """Have few calls rated together."""
    with patch.object(rating, "TOGETHER", TOGETHER), patch.object(calls, "TOGETHER", TOGETHER):
        yield


CALLS = st.lists(
    st.tuples(
        st.integers(0, 47), st.sampled_from(["38044123", "38050123", "12125550100"]),
        st.integers(0, 200), st.sampled_from(["orig", "orig", "term", "both", "given", "account"]),
        st.sampled_from(["c", 'd"\\', "e\u00e9\u20ac", "f/x", "g%."]),
    ),
    min_size=1, max_size=9,
)  # fmt: skip
CHANGES = st.sampled_from([
    catalog(), catalog(price="0.20"), catalog(tag="other"), catalog(fee="2.00"), catalog(price="0"),
    catalog(balance="deny"), LOST,
])  # fmt: skip
PARTIES: dict[str, dict[str, Any]] = {
    "orig": {},
    "term": {"orig": None, "term": {"client": "1"}},
    "both": {"term": {"client": "1"}},
    "given": {"orig": {"client": "1", "rate": RATE}},
    "account": {"orig": {"account": "a1"}},
}


def with_account(text: str) -> str:
    """Return a catalog whose client has an account with a rate table of its own, and little money."""
    return text.replace("accounts: []", "accounts: [{id: a1, rate_tables: {orig: {calls: retail}}}]")


def books(calls: list[Any], text: str, order: list[int]) -> BothBooks:
    """Return books of these calls, which came in this order."""
    made = BothBooks(with_account(text))
    made.now_ms = START + 48 * HOUR
    made.rater.tick(made.now_ms)
    for n in order:
        hour, called, seconds, side, name = calls[n]
        more = dict(PARTIES[side])
        if not seconds:
            more |= {"answered_at": None, "setup_at": "2026-11-01T12:00:00.500Z"}
        made.call(f"{name}{n}", START + hour * HOUR, seconds, called, **more)
    return made


@settings(max_examples=60, deadline=None)
@given(calls=CALLS, first=CHANGES, then=CHANGES, back=CHANGES, data=st.data())
def test_both_rate_alike(calls: list[Any], first: str, then: str, back: str, data: st.DataObject) -> None:
    """Through changes of the catalog: entries, rejections, fees, sums, bounds and pieces are equal."""
    made = books(calls, first, data.draw(st.permutations(range(len(calls)))))
    begin, hours = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 40))
    made.rerate()
    made.load(with_account(then))
    made.rerate(Window(START + begin * HOUR, START + (begin + hours) * HOUR))
    made.rerate(code=data.draw(st.sampled_from(["", "380"])))
    made.sums_agree()
    made.load(with_account(back))
    made.rerate()
    made.sums_agree()
    made.work(ALWAYS, unrated=[past(n) for n in range(data.draw(st.integers(0, 3)))])
    gathered_alike(made, data)


def past(n: int) -> PastSide:
    """Return a call that was rejected."""
    called = ["38044123", "49", "12125550100"][n]
    sent = Sent("rater.cdrs", b"{}")
    return PastSide(
        "1", None, 0, "s", f"r{n}", "calls", START + n, 60_000, unanswered=False, caller=None, called=called,
        sent=sent,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    balance=st.integers(-3, 3), credit=st.integers(0, 2),
    calls=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 90)), min_size=1, max_size=8), data=st.data(),
)  # fmt: skip
def test_answers_about_funds_are_alike(
    balance: int, credit: int, calls: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Little money, fees that it has to cover, setup fees that want a balance: what was answered stays."""
    text = catalog(fee="1.00", balance=data.draw(st.sampled_from(["allow", "deny"])))
    text = text.replace(
        'balance: "100", credit_limit: "0"', f'balance: "{balance}", credit_limit: "{credit}"'
    )
    made = BothBooks(text)
    for n in data.draw(st.permutations(range(len(calls)))):
        hour, seconds = calls[n]
        made.call(f"c{n}", START + hour * HOUR, seconds, "38044123")
    made.rerate()
    made.load(text.replace('fee: "1.00"', 'fee: "0.50"').replace('price: "0.10"', 'price: "0.90"'))
    made.rerate()
    made.sums_agree()


def gathered_alike(made: Books, data: st.DataObject) -> None:
    """Read the journal both ways: the same entries, names, and commands of jobs."""
    values = [*made.journal, b"{}", b"{", b'{"id": 1}', b"\xff"]
    records: list[Any] = [(value, effect_headers(effect_of(value, n))) for n, value in enumerate(values)]
    records += [(None, [("control", b"x")]), (b"{}", []), (b"{}", [(EFFECT_HEADER, b"no effect")])]
    selection = Selection(
        data.draw(st.sampled_from([None, frozenset({"1"}), frozenset({"2"})])),
        Window(START + data.draw(st.integers(0, 40)) * HOUR, START + 41 * HOUR),
    )
    found, jobs, _, left = gathered(selection, records)
    entries, pieces, unread = list[Sorted](), list[tuple[int, str, int]](), list[int]()
    for n, (value, headers) in enumerate(records):
        if n >= len(values):
            unread += [n] if headers else []
            continue
        effect, one = msgspec.msgpack.decode(headers[0][1], type=Effect), told_of(value or b"")
        if not selection.has_client(effect.client):
            continue
        if one is None or one.client_package is not None:
            unread.append(n)
            continue
        if one.job is not None:
            pieces.append((n, one.client, effect.offset))
        if selection.has(one):
            entries.append(sorted_as(one, value or b"", place_of(one, effect)))
    assert (jobs, left) == (pieces, [(n, records[n][0], *records[n][1][0]) for n in unread])
    entries.sort()
    assert [key for key, _ in found] == [key for key, _ in entries]
    assert [raw and unpack(raw) for _, raw in found] == [raw and unpack(raw) for _, raw in entries]
    merged, last = engine.Merged([], written(found), ""), list[Any]()
    while (some := merged.calls(TOGETHER)) is not None:
        last += map(unpack, apart(some[2]))
    assert last == [unpack(raw) for _, _, raw in latest(entries)]


def gathered(selection: Selection, records: list[Any], waiting: Iterable[bytes] = ()) -> tuple[Any, ...]:
    """Return what is read natively of (value, headers): entries in order, and what `take` tells."""
    sorting = engine.Sorting()
    gathering = Native().gathering(selection.clients, selection.window, set(waiting))
    batch = batch_of(
        [
            SimpleNamespace(offset=n, key=None, value=value, headers=headers)
            for n, (value, headers) in enumerate(records)
        ]
    )
    told = gathering.take(sorting, batch.first, batch.records, 0, len(records))
    return list(entries_of(sorting.run(2**20))), *told


def effect_of(value: bytes, offset: int) -> Effect:
    """Return the effect that the journal would have of a transaction."""
    try:
        told = read_told(value)
    except (msgspec.MsgspecError, ValueError):
        return Effect("rater.cdrs", 0, offset, 0, 0, 0, b"", b"", "1", 0, [])
    own = told.type == "usage" and told.job is None
    index = int(told.side == "term") if own else CHANGE_INDEX_MIN
    topic = "rater.cdrs" if own else "rater.commands"
    return Effect(topic, 2, offset, index, 0, 0, b"", b"", told.client, 0, [])


def test_names_that_are_waited_for() -> None:
    """Whosever they are: a rejected call may have been rated at another client."""
    made = BothBooks(catalog())
    for name in ("a", "b"):
        made.call(name, START, 60)
    records: Any = [(value, effect_headers(effect_of(value, 0))) for value in made.journal]
    names = [blake2b(f"default/{name}/orig".encode(), digest_size=16).digest() for name in ("b", "z")]
    selection = Selection(frozenset({"2"}), ALWAYS)
    found, _, rated, left = gathered(selection, records, names)
    assert (found, rated) == ([], names[:1])
    assert all(read_told(value).type != "usage" for _, value, *_ in left)


def test_calls_that_end_as_they_did_are_counted_alone() -> None:
    """Also those that a job had rated, by another catalog, and whose limits had more left then."""
    made = BothBooks(with_account(catalog()))
    for n in range(7):
        made.call(f"c{n}", START + n * HOUR, 30, "12125550100")
    work, rated = made.natively(ALWAYS, "", ()), list[Any]()
    again = work._again  # noqa: SLF001 - what it is given
    rated = list(again.rate(work._calls()))  # noqa: SLF001 - the same
    assert [one.calls for one in rated if isinstance(one, Unchanged)] == [3, 3, 1]
    assert len(rated) == 3 + len([one for one in rated if not isinstance(one, Unchanged)])


@contextmanager
def failing(error: BaseException) -> Iterator[None]:
    """Have the engine fail where it takes back what calls drew."""

    class Failing:
        def take_back(self, _: bytes) -> None:
            raise error

    with patch.object(Native, "again", lambda *_: Failing()):
        yield


@pytest.mark.parametrize("error", [ValueError("odd"), OverflowError("large"), engine.Panic("out of bounds")])
def test_what_the_engine_cannot_rate_goes_to_the_twin(error: BaseException) -> None:
    """It says so, and the next way is the twin."""
    made = books([(1, "38044123", 60, "orig", "c")], catalog(), [0])
    with failing(error), pytest.raises(Unlike):
        made.natively(ALWAYS, "", ())
    state, sums = made.rater.states["1"], Sums(made.rater.balance("1"), made.rater.used("1"))
    assert [type(way).__name__ for way in ways(made.native, made.rater.catalog, state, sums)] == [
        "NativeAgain", "Twin",
    ]  # fmt: skip
    assert [type(way).__name__ for way in ways(None, made.rater.catalog, state, sums)] == ["Twin"]


def test_a_call_that_the_engine_alone_rejects_goes_to_the_twin() -> None:
    """A fault of the engine's costs time, and no money."""
    made = books([(1, "38044123", 60, "orig", "c")], catalog(), [0])
    made.load(with_account(LOST).replace('"380"', '"381"'))
    work = made.natively(ALWAYS, "", ())
    with patch.object(ClientRating, "rejection", lambda *_: None), pytest.raises(Unlike):
        list(work.entries())


def test_sums_beyond_what_the_engine_holds() -> None:
    """The twin rates by ints of any size."""
    made = books([(1, "38044123", 60, "orig", "c")], catalog(), [0])
    for balance, used in ((2**63, {}), (0, {"7.1.a": 2**62 + 1})):
        again, _ = ways(made.native, made.rater.catalog, made.rater.states["1"], Sums(balance, used))
        with pytest.raises(Unlike):
            again.take_back([b""], {})


def test_days_of_many_revisions() -> None:
    """A month of changes: each run finds what the one before has published."""
    made = books([(n, "38050123", 50, "orig", "c") for n in range(6)], catalog(), [5, 3, 1, 0, 2, 4])
    for n in range(6):
        made.load(with_account(catalog(price=f"0.{n + 1}0")))
        made.rerate(Window(START, START + DAY))
        made.sums_agree()
    rows = [json.loads(value) for value in made.journal]
    assert max(row["revision"] for row in rows) > 5
