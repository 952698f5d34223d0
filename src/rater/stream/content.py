"""Reading a catalog's content: the pieces that a manifest points to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    OffsetOutOfRangeError,
)

from rater.errors import Halt, NoCatalog, StreamDown
from rater.stream.connecting import (
    Connection,
    reading,
)
from rater.stream.ingest import Ingest
from rater.stream.journal import DEADLINE_S, end_offsets
from rater.stream.producer import Writer
from rater.stream.tail import EventTail, Tail

__all__ = ["EventTail", "Ingest", "Tail", "Writer", "read_content", "undecided"]

GAP_MAX = 16
"""Offsets that a read rather passes over than seeks: transaction markers lie between records."""


async def read_content(
    client: Connection, topic: str, offsets: Sequence[int], *, deadline_s: float = DEADLINE_S
) -> dict[int, bytes]:
    """Return the values at these offsets of partition 0.

    Raises Halt when one was removed, NoCatalog when no committed record was ever there, StreamDown when
    reading stands still.
    """
    wanted = set(offsets)
    if not wanted:
        return {}
    place = TopicPartition(topic, 0)
    found: dict[int, bytes] = {}
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        begin = (await reader.beginning_offsets([place]))[place]
        if min(wanted) >= begin:
            for first, last in _runs(sorted(wanted)):
                await _read_run(reader, place, first, last, wanted, found, deadline_s)
    gone = sorted(wanted - found.keys())
    if gone:
        raise (Halt if gone[0] < begin else NoCatalog)(
            f"{topic}[0] has no record at offset {gone[0]}, which the catalog lists: it was removed or the "
            "topic was recreated; restore the topic from a backup"
        )
    return found


async def undecided(
    client: Connection, topic: str, partitions: Sequence[int], *, deadline_s: float = DEADLINE_S
) -> set[int]:
    """Return the partitions in which a Kafka transaction is open, so that nothing behind it can be read.

    Raises StreamDown, Halt.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    settings = {"isolation_level": "read_uncommitted"}
    async with reading(client, places, deadline_s=deadline_s, **settings) as reader:
        written = await reader.end_offsets(places)
    decided = await end_offsets(client, topic, partitions, deadline_s=deadline_s)  # after it: else it lags
    return {place.partition for place in places if decided[place.partition] < written[place]}


def _runs(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of what is read in one go."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > GAP_MAX:
            yield first, last
            first = offset
        last = offset
    yield first, last


async def _read_run(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    first: int,
    last: int,
    wanted: set[int],
    found: dict[int, bytes],
    deadline_s: float,
) -> None:
    reader.seek(place, first)
    moved, at = time.monotonic(), first
    # Up to the high watermark and not to the end of what is decided, which lags behind a commit.
    while at <= last and at < (reader.highwater(place) or at + 1):
        try:
            records = (await reader.getmany(place, timeout_ms=200)).get(place, [])
        except OffsetOutOfRangeError:  # behind the end: the topic was recreated
            return
        for record in records:
            if record.offset in wanted:
                found[record.offset] = record.value or b""
        now = await reader.position(place)
        if now > at:
            moved, at = time.monotonic(), now
        elif time.monotonic() - moved > deadline_s:
            raise StreamDown(f"{place.topic}[{place.partition}]@{at} could not be read for {deadline_s:g} s")
