"""The native sums of the journal's effects are those of `Reconciling`, whatever is read in which pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from engine_choice import unpacked
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_form import batch_of

from rater.core.bucket.messages import FenceReply, Status
from rater.core.bucket.model import Bucket
from rater.core.journal.reconciling import Reconciling
from rater.core.journal.records import ChangeRecord, Effect, Headers, change_record, effect_headers
from rater.errors import Halt, Retake
from rater.native.holding import Native
from rater.stream.fetching import FetchedBatch
from rater.worker.adding import Adding

BUCKETS, GENERATION_MS, PARTS, END = 3, 1000, 4, 100
clients = st.sampled_from(["a", "b", "ü", "42", "sip-7", ""])
sums = st.integers(-(2**53), 2**53)
fields = st.sampled_from(["1.1.a", "1.1.b", "2.1.fee.net"])
counted = st.lists(st.tuples(fields, sums), max_size=3, unique_by=lambda of: of[0])
effects = st.builds(
    Effect, topic=st.just("t"), partition=st.just(0), offset=st.integers(0, 9), index=st.integers(0, 7),
    record_ms=sums, lane_ms=st.integers(0, 9 * GENERATION_MS), key=st.sampled_from([b"", b"k" * 8, b"l" * 8]),
    content=st.binary(min_size=4, max_size=4), client=clients, balance=sums,
    counters=counted,
)  # fmt: skip
changes = st.builds(
    ChangeRecord, topic=st.just("t"), offset=st.integers(0, 9), index=st.integers(2, 7), record_ms=sums,
    lane_ms=st.integers(0, 9 * GENERATION_MS), client=st.just("a"), version=st.integers(1, 9),
    state=st.just(b""), delta=sums, counters=counted,
)  # fmt: skip


def record(offset: int, headers: list[tuple[str, bytes]]) -> SimpleNamespace:
    """Return a record as a consumer has it."""
    return SimpleNamespace(offset=offset, key=b"key", value=b"value", headers=headers)


def added(records: list[Any], native: Any, snapshots: dict[str, int] | None, floor: int) -> list[Bucket]:
    """Return buckets that were brought to a journal, read in pieces."""
    buckets = [Bucket() for _ in range(BUCKETS)]
    found = []
    for number, bucket in enumerate(buckets):
        reply: FenceReply = bucket.fence(0, 50)
        reply.floor = floor
        found.append(
            Reconciling(reply, bucket=number, buckets=BUCKETS, positions={}, generation_ms=GENERATION_MS)
        )
        found[-1].first_generation, found[-1].read_from = 2, min(floor, 1)
        included: Callable[[str], int] | None = None
        if snapshots is not None:
            included = lambda client: snapshots.get(client, 0)  # noqa: E731 - of the test's arguments
        found[-1].included = included
    adding = Adding(found, GENERATION_MS, native)
    calls = [1] * BUCKETS
    for at in range(0, len(records), PARTS):
        some = records[at : at + PARTS]
        if adding.natively:
            adding.read_batch(batch_of(some), 0, END)
        else:
            adding.read(some)
        for number in adding.full(3):
            part = adding.with_sums(number, found[number].part(0, 50, calls[number], records[at].offset + 1))
            status, calls[number] = buckets[number].reconcile(unpacked(part))
            assert status == Status.OK
    for number, bucket in enumerate(buckets):
        bucket.reconcile(unpacked(adding.with_sums(number, found[number].finish(0, 50, calls[number], 50))))
    return buckets


def held(bucket: Bucket) -> Any:
    """Return what a bucket holds, without sums that are 0."""
    of = {
        name: (client.balance, {field: used for field, used in client.used.items() if used})
        for name, client in bucket.clients.items()
    }
    return {name: sums for name, sums in of.items() if any(sums)}, bucket.duplicates.generations, bucket.times


def _together(said: list[Effect | ChangeRecord]) -> Iterator[Effect | ChangeRecord]:
    """Yield records as a lane writes them: a change's transactions stand right behind it, or not at all."""
    changed: set[tuple[str, int, int]] = set()
    last = None
    for of in said:
        identity = of.topic, of.offset, of.index
        if isinstance(of, Effect) and identity in changed and identity != last:
            continue
        if isinstance(of, ChangeRecord):
            changed.add(identity)
        last = identity
        yield of


TRACED: tuple[Headers, Headers] = ([], [("traceparent", b"00-1-1-01")])
"""What stands behind the effect of a call: nothing, or its trace."""


@settings(deadline=None, max_examples=200)
@given(
    said=st.lists(st.one_of(effects, effects, effects, changes), max_size=14),
    snapshots=st.none() | st.dictionaries(clients, st.integers(0, 14)),
    floor=st.integers(0, 8),
)
def test_sums_are_those_of_python(
    said: list[Effect | ChangeRecord], snapshots: dict[str, int] | None, floor: int
) -> None:
    """With snapshots, floors and changes of clients among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rater.stream.journal._check_state", lambda _: None)
        records = [
            record(
                at, effect_headers(of) + TRACED[at % 2] if isinstance(of, Effect) else change_record(of)[2]
            )
            for at, of in enumerate(_together(said))
        ]
        by_python = added(records, None, snapshots, floor)
        natively = added(records, Native(), snapshots, floor)
    assert [held(bucket) for bucket in natively] == [held(bucket) for bucket in by_python]


@pytest.mark.parametrize(
    "raw", [b"", b"\x90", effect_headers(Effect("t", 0, 0, 0, 0, 0, b"", b"", "a", 2**53 + 1, []))[0][1]]
)
def test_what_cannot_be_read_halts(raw: bytes) -> None:
    """As it does without the engine, and nothing of what was read with it is taken."""
    good = effect_headers(Effect("t", 0, 0, 0, 0, 0, b"", b"", "a", 1, []))
    records = [record(0, good), record(1, [("e", raw)])]
    for native in (None, Native()):
        with pytest.raises(Halt, match="cannot be read"):
            added(records, native, None, 0)


def test_after_a_panic_python_does_it() -> None:
    """The lane is taken again: what was added natively may be half done."""
    native = Native()

    def panics(_: str) -> int:
        raise native.panic

    reply: FenceReply = Bucket().fence(0, 50)
    found = Reconciling(reply, bucket=0, buckets=1, positions={}, generation_ms=GENERATION_MS)
    found.included = panics
    headers = effect_headers(Effect("t", 0, 0, 0, 0, 0, b"", b"", "a", 1, []))
    with pytest.raises(Retake, match="panicked over effects"):
        Adding([found], GENERATION_MS, native).read_batch(batch_of([record(0, headers)]), 0, END)
    found.included = None
    again = Adding([found], GENERATION_MS, native)
    assert not again.natively
    again.read([record(0, headers)])
    assert found.size == 1  # by Python


@pytest.mark.parametrize(
    ("headers", "halts"),
    [
        ([("x", b"1"), ("e", b"\x90")], True),
        ([("e", None)], True),
        ([("control", b"\x91\xa3new")], True),
        ([("x", b"1"), ("y", None)], False),
        ([], False),
    ],
)
def test_headers_are_understood_as_python_does(headers: Any, halts: bool) -> None:  # noqa: FBT001 - of the table
    """The first of ours counts, wherever it stands; what is none of ours is passed by."""
    for native in (None, Native()):
        with pytest.raises(Halt, match="cannot be read") if halts else nullcontext():
            assert [held(bucket)[0] for bucket in added([record(0, headers)], native, None, 0)] == [{}] * 3


def test_of_a_batch_only_what_was_asked_for_is_taken() -> None:
    """Records before `start` and from `until` on are others'."""
    headers = effect_headers(Effect("t", 0, 0, 0, 0, 0, b"", b"", "a", 1, []))
    found = Reconciling(Bucket().fence(0, 50), bucket=0, buckets=1, positions={}, generation_ms=GENERATION_MS)
    adding = Adding([found], GENERATION_MS, Native())
    adding.read_batch(batch_of([record(at, headers) for at in range(10)]), 3, 7)
    assert unpacked(adding.with_sums(0, found.finish(0, 50, 1, 50))).balances == [("a", 4)]


def test_what_are_no_records_halts() -> None:
    """A batch that is damaged behind its sum was written by something else."""
    found = Reconciling(Bucket().fence(0, 50), bucket=0, buckets=1, positions={}, generation_ms=GENERATION_MS)
    with pytest.raises(Halt, match="batch at offset 7"):
        Adding([found], GENERATION_MS, Native()).read_batch(FetchedBatch(7, 8, b"\x7f"), 0, END)
