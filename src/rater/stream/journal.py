"""The journal, `rater.transactions`: what its headers say, and reading it up to an exact place.

A transaction carries in the header `e` what it did to the store, so that reconciling parses no JSON. Records
with a null value and a header `control` are ours: *mark* (where the lane stands; the last record of each
Kafka transaction), *owner* (who took the lane; its offset is the fence token), *change* (what a client was
changed to) and *state* (entries of the account index).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Annotated

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Meta, Struct

from rater.core.clients.state import read_state
from rater.core.clients.views import ClientView
from rater.core.journal.outcomes import read_copy
from rater.core.journal.records import (
    CONTROL_HEADER,
    EFFECT_HEADER,
    ChangeRecord,
    Effect,
    Outgoing,
    StateRecord,
)
from rater.core.json_text import UNREADABLE
from rater.core.reasons import shown
from rater.errors import Halt, StreamDown
from rater.stream.connecting import Connection, reading
from rater.stream.fetching import FetchedBatch, fetched
from rater.stream.topics import configured

DEADLINE_S = 60.0
"""So long a read may stand still.

A dead owner's transaction times out before (lanes.TRANSACTION_TIMEOUT_MS + 10 s).
"""
READ_RECORDS_MAX = 2000
"""Records in memory at once: a compressed fetch brings ten times as many, and lanes are taken together."""
STEP_BACK = 1000
"""Offsets to step back for the last mark.

The last commit ends with one, so it is nearly always among them.
"""


class CutError(Halt):
    """Records that are asked for are there no more."""


_Whole = Annotated[int, Meta(ge=0, lt=2**53)]


class Mark(Struct, array_like=True, frozen=True, tag="mark_v4"):
    """Where the lane stands after the Kafka transaction that this record ends.

    Its tag is another than those of versions before, so that a worker of one of these stops where it takes a
    lane that we have had: it would not find the duplicates that cells tell of.
    """

    positions: dict[str, _Whole]  # topic -> next offset
    times: dict[str, int]  # topic -> timestamp of the record before that offset, ms
    catalog: _Whole  # version, 0: none was loaded
    body: _Whole  # offset of the catalog's body in partition 0 of rater.commands
    lane_ms: _Whole
    token: int = -1  # of the owner who wrote it
    ids: dict[str, str] = {}  # input topic -> its id, of the topic that the position is of
    life: bool = False  # what a version before 2026-12 left in the lane's own buckets is taken over


class EarlierMark(Mark, array_like=True, frozen=True, tag="mark"):
    """A mark as versions before the life of packages wrote it; it is read and no longer written."""


class GroupsMark(Mark, array_like=True, frozen=True, tag="mark_v3"):
    """A mark as versions wrote it that kept all duplicates in groups; it is read and no longer written."""


class Owner(Struct, array_like=True, frozen=True, tag="owner"):
    """Who took the lane."""

    worker: str
    group: str


class Piece(Struct, array_like=True, frozen=True, tag="content"):
    """The record's value is part of a catalog's content; only in `rater.commands`."""


Control = Mark | EarlierMark | GroupsMark | Owner | ChangeRecord | StateRecord | Piece
Read = tuple[int, bytes | None, bytes | None, Effect | Control | None]
"""A record of the journal: offset, key, value, and what its header says."""

_encoder = msgspec.msgpack.Encoder()
_effects = msgspec.msgpack.Decoder(Effect)
_controls = msgspec.msgpack.Decoder(Control)


def control_record(control: Mark | Owner | Piece) -> Outgoing:
    """Return the record of a mark, an owner, or (its value is put in) a piece of content."""
    return None, None, [(CONTROL_HEADER, _encoder.encode(control))]


def understood(headers: Sequence[tuple[str, bytes]]) -> Effect | Control | None:
    """Return what a record's headers say; None: nothing of ours.

    Raises Halt where it cannot be read: it was written by a newer version, or by something else.
    """
    for name, raw in headers:
        if name not in (EFFECT_HEADER, CONTROL_HEADER):
            continue
        try:
            said: Effect | Control = (_effects if name == EFFECT_HEADER else _controls).decode(raw)
            if isinstance(said, ChangeRecord) or (isinstance(said, StateRecord) and said.client):
                _check_state(said)
        except (*UNREADABLE, TypeError) as error:
            raise Halt(
                f"the journal has a header {name!r} that cannot be read ({shown(str(error))}): it was "
                "written by a newer version of rater or by something else; run the version that wrote it"
            ) from error
        return said
    return None


def _check_state(of: ChangeRecord | StateRecord) -> None:
    """Raise ValueError unless it holds its client's state: Redis is to hold what can be read."""
    state = read_state(of.state)
    if (state.id, state.version) != (of.client, of.version):
        message = f"a change of client {of.client!r} holds the state of {state.id!r}"
        raise ValueError(message)
    if isinstance(of, ChangeRecord) and any(element[2:] != of.client.encode() for _, element in of.hints):
        message = f"a change of client {of.client!r} holds a hint of another"
        raise ValueError(message)
    for _, copy in of.upon if isinstance(of, ChangeRecord) else ():
        if read_copy(copy).change.client != of.client:
            message = f"a change of client {of.client!r} holds one of another"
            raise ValueError(message)
    ClientView(state)


async def read_range(
    client: Connection, topic: str, partition: int, start: int, until: int, *, deadline_s: float = DEADLINE_S
) -> AsyncIterator[list[Read]]:
    """Yield the committed records with start <= offset < until, in order, in batches; as `read_records`."""
    async for records in read_records(client, topic, partition, start, until, deadline_s=deadline_s):
        yield [_read(record) for record in records]


async def read_records(
    client: Connection, topic: str, partition: int, start: int, until: int, *, deadline_s: float = DEADLINE_S
) -> AsyncGenerator[list[ConsumerRecord]]:
    """Yield the committed records of any topic with start <= offset < until, in order, in batches.

    Waits until everything below `until` is decided, so `until` must be an offset that was written. Raises
    CutError when the topic no longer reaches back to `start`, StreamDown when nothing comes for `deadline_s`
    seconds.
    """
    if start >= until:
        return
    place = TopicPartition(topic, partition)
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        first = (await reader.beginning_offsets([place]))[place]
        if first > start:
            raise CutError(_truncated(place, start, first))
        async for records in read_until(reader, place, start, until, deadline_s):
            yield records


async def read_batches(
    client: Connection, topic: str, partition: int, start: int, until: int, *, deadline_s: float = DEADLINE_S
) -> AsyncGenerator[FetchedBatch, None]:
    """Yield the committed batches that have records with start <= offset < until, in order.

    The first and the last may have others besides. Waits and raises as `read_records`.
    """
    if start >= until:
        return
    place = TopicPartition(topic, partition)
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        reader.pause(place)  # the consumer itself reads nothing
        first = (await reader.beginning_offsets([place]))[place]
        if first > start:
            raise CutError(_truncated(place, start, first))
        moved, at = time.monotonic(), start
        while at < until:
            for batch in await fetched(reader, place, at):
                if batch.first >= until:
                    return
                at = batch.end
                if batch.records:
                    yield batch
                moved = time.monotonic()  # also when who reads has taken its time
            if time.monotonic() - moved > deadline_s:
                raise StreamDown(_stands_still(place, at, until, deadline_s))


def _read(record: ConsumerRecord) -> Read:
    return record.offset, record.key, record.value, understood(record.headers)


async def read_until(
    reader: AIOKafkaConsumer, place: TopicPartition, start: int, until: int, deadline_s: float
) -> AsyncIterator[list[ConsumerRecord]]:
    """Yield the committed records in start <= offset < until; ends exactly when the position has passed it.

    The position also passes markers and aborted records; `end_offsets` lags behind our own commits and an
    empty `getmany` says nothing, so neither may end it.
    """
    reader.seek(place, start)
    moved, at = time.monotonic(), start
    while at < until:
        polled = await reader.getmany(place, timeout_ms=500, max_records=READ_RECORDS_MAX)
        records = polled.get(place, [])
        now = await reader.position(place)
        if now > at:
            moved, at = time.monotonic(), now
        elif time.monotonic() - moved > deadline_s:
            raise StreamDown(_stands_still(place, at, until, deadline_s))
        if records and records[-1].offset >= until:
            records = [record for record in records if record.offset < until]
        if records:
            yield records


async def last_mark(
    client: Connection, topic: str, partition: int, owner_offset: int, *, deadline_s: float = DEADLINE_S
) -> Mark | None:
    """Return the last mark below our owner record; None: the lane never committed.

    All that was committed before our producer was initialised lies below that record, and nothing follows
    there. Raises Halt when marks were removed, StreamDown when the journal is undecided for `deadline_s`
    seconds.
    """
    place = TopicPartition(topic, partition)
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        first = (await reader.beginning_offsets([place]))[place]
        end, back = owner_offset + 1, STEP_BACK
        while True:
            start = max(first, owner_offset - back)
            found: Mark | None = None
            async for records in read_until(reader, place, start, end, deadline_s):
                for record in records:
                    said = understood(record.headers)
                    if isinstance(said, Mark) and record.offset < owner_offset:
                        found = said
            if found is not None:
                return found
            if start == first:
                break
            end, back = start, back * 4
    if first > 0:
        raise Halt(_truncated(place, 0, first))
    return None


async def offset_of(
    client: Connection, topic: str, partition: int, at_ms: int, until: int, *, deadline_s: float = DEADLINE_S
) -> int:
    """Return an offset of the journal below which the lane's time was below an instant; `until` at most.

    It is looked for by the times that records tell, which never go back within a lane. Raises Halt where the
    journal begins later than that, StreamDown.
    """
    place = TopicPartition(topic, partition)
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        first: int = (await reader.beginning_offsets([place]))[place]
        low, high = first, until
        while low < high:
            middle = (low + high) // 2
            found = await _lane_ms_from(reader, place, middle, high, deadline_s)
            if found is None or found[1] >= at_ms:
                high = middle
            else:
                low = found[0] + 1
        if first and low == first:
            raise Halt(_truncated(place, 0, first))
    return low


async def _lane_ms_from(
    reader: AIOKafkaConsumer, place: TopicPartition, start: int, until: int, deadline_s: float
) -> tuple[int, int] | None:
    """Return (offset, lane time) of the first record from `start` on that tells one; None: none does."""
    async for records in read_until(reader, place, start, until, deadline_s):
        for record in records:
            said = understood(record.headers)
            if isinstance(said, Mark | Effect | ChangeRecord):
                return record.offset, said.lane_ms
    return None


async def last_marks(
    client: Connection, topic: str, lanes: int, *, deadline_s: float = DEADLINE_S
) -> list[Mark | None]:
    """Return the last mark of each lane, as far as is decided; None: the lane never committed.

    Raises as `last_mark`.
    """
    ends = await end_offsets(client, topic, range(lanes), deadline_s=deadline_s)
    # A commit ends with its mark and Kafka's own marker, so the last mark lies below the last offset.
    # An empty journal is not asked: `last_mark` would wait for a record.
    asked = {
        lane: last_mark(client, topic, lane, end - 1, deadline_s=deadline_s)
        for lane, end in ends.items()
        if end > 1
    }
    found = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
    return [found.get(lane) for lane in range(lanes)]


async def end_offsets(
    client: Connection, topic: str, partitions: Sequence[int], *, deadline_s: float = DEADLINE_S
) -> dict[int, int]:
    """Return per partition the offset below which all is decided; it lags behind commits by milliseconds."""
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(client, places, deadline_s=deadline_s) as reader:
        ends: Mapping[TopicPartition, int] = await reader.end_offsets(places)
        return {place.partition: end for place, end in ends.items()}


async def removed(client: Connection, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Return where partitions begin whose first records are gone, of a topic that keeps all its records.

    Of one that does not, it is as it was set up.
    """
    found = (await configured(client, [topic]))[topic]
    if found.get("retention.ms") != "-1" or found.get("retention.bytes") != "-1":
        return {}
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(client, places, deadline_s=DEADLINE_S) as reader:
        begins: Mapping[TopicPartition, int] = await reader.beginning_offsets(places)
    return {place.partition: begin for place, begin in begins.items() if begin}


async def end_offset(
    client: Connection, topic: str, partition: int, *, deadline_s: float = DEADLINE_S
) -> int:
    """Return `end_offsets` of one partition."""
    return (await end_offsets(client, topic, [partition], deadline_s=deadline_s))[partition]


def _truncated(place: TopicPartition, start: int, first: int) -> str:
    return (
        f"{place.topic}[{place.partition}] begins at offset {first}, but is needed from {start}: records "
        "were removed (retention, delete-records) or the topic was recreated. If it is the journal, set "
        "retention.ms=-1 and retention.bytes=-1 and restore the topic from a backup; else run this again"
    )


def _stands_still(place: TopicPartition, at: int, until: int, deadline_s: float) -> str:
    return (
        f"{place.topic}[{place.partition}] is undecided from offset {at} to {until} for {deadline_s:g} s: "
        "some other producer holds a Kafka transaction open there; only rater's lane may write this "
        "partition"
    )
