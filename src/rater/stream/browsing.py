"""Browsing a topic backwards, for people.

The newest record first, without reading what is older than asked for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from rater.core.instants import HOUR_MS
from rater.errors import Halt, StreamDown
from rater.stream.connecting import Connection, reading

STEP = 200
"""Offsets of the first step back in a partition; each further step is twice as long, up to `STEP_MAX`."""
STEP_MAX = 20_000
CLOCKS_MS = HOUR_MS
"""Timestamps may fall: clocks of machines differ, and transaction markers lie between. But not by so much."""
DEADLINE_S = 20.0
"""So long a command waits for Kafka."""


class Seen(NamedTuple):
    """A record as it lies in Kafka. at_ms: its timestamp."""

    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


async def newest(
    client: Connection,
    topic: str,
    partitions: Sequence[int],
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    passed: Callable[[int], None] = lambda _: None,
    deadline_s: float = DEADLINE_S,
) -> AsyncGenerator[Seen, None]:
    """Yield the committed records of a topic, the newest first (by timestamp; in a partition: by offset).

    since_ms, until_ms: bounds of the timestamp, the latter excluded; passed: told how many offsets each step
    read. Raises Halt when the topic is not there, StreamDown when Kafka does not answer within `deadline_s`
    seconds.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(client, [], deadline_s=deadline_s) as reader:
        await _must_exist(reader, topic, deadline_s)
        reader.assign(places)
        bounds = await _bounds(reader, places, since_ms, until_ms, deadline_s)
        # (newest first, then stable): one record of each partition waits in the heap
        waiting: list[tuple[int, int, Seen, AsyncIterator[Seen]]] = []
        for place, (begin, end) in bounds.items():
            await _push(waiting, _backwards(reader, place, begin, end, passed, deadline_s))
        while waiting:
            _, _, seen, more = heapq.heappop(waiting)
            if (since_ms is None or seen.at_ms >= since_ms) and (until_ms is None or seen.at_ms < until_ms):
                yield seen
            await _push(waiting, more)


async def offsets_at(
    client: Connection, topic: str, partitions: Sequence[int], at_ms: int, *, deadline_s: float = DEADLINE_S
) -> dict[int, int]:
    """Return by partition the first offset of this timestamp or a later one, else the end.

    Markers of Kafka transactions count: they have the time at which these ended.

    Raises as `newest`.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(client, [], deadline_s=deadline_s) as reader:
        await _must_exist(reader, topic, deadline_s)
        reader.assign(places)
        bounds = await _bounds(reader, places, at_ms, None, deadline_s)
        return {place.partition: begin for place, (begin, _) in bounds.items()}


async def record_at(
    client: Connection, topic: str, partition: int, offset: int, *, deadline_s: float = DEADLINE_S
) -> Seen | None:
    """Return the record at an offset; None: there is none any more, or no such topic. Raises as `newest`."""
    place = TopicPartition(topic, partition)
    async with reading(client, [], deadline_s=deadline_s) as reader:
        if topic not in await _within(reader.topics(), deadline_s):
            return None
        reader.assign([place])
        ((begin, end),) = (await _bounds(reader, [place], None, None, deadline_s)).values()
        if not begin <= offset < end:
            return None
        return next(iter(await _window(reader, place, offset, offset + 1, deadline_s)), None)


async def _push(waiting: list[tuple[int, int, Seen, AsyncIterator[Seen]]], more: AsyncIterator[Seen]) -> None:
    seen = await anext(more, None)
    if seen is not None:
        heapq.heappush(waiting, (-seen.at_ms, seen.partition, seen, more))


async def _must_exist(reader: AIOKafkaConsumer, topic: str, deadline_s: float) -> None:
    if topic not in await _within(reader.topics(), deadline_s):
        raise Halt(f"there is no topic {topic} in this Kafka; make it with: rater topics create")


async def _within(asked: Any, deadline_s: float) -> Any:
    try:
        async with asyncio.timeout(deadline_s):
            return await asked
    except TimeoutError as error:
        message = (
            f"Kafka does not answer within {deadline_s:g} s; is kafka.bootstrap_servers right, and does the "
            "topic have as many partitions as topics.partitions says?"
        )
        raise StreamDown(message) from error


async def _bounds(
    reader: AIOKafkaConsumer,
    places: list[TopicPartition],
    since_ms: int | None,
    until_ms: int | None,
    deadline_s: float,
) -> dict[TopicPartition, tuple[int, int]]:
    """Return for each partition the offsets to read: begin <= offset < end."""
    begins = dict(await _within(reader.beginning_offsets(places), deadline_s))
    ends = dict(await _within(reader.end_offsets(places), deadline_s))
    if since_ms is not None:
        found = await _within(reader.offsets_for_times(dict.fromkeys(places, max(since_ms, 0))), deadline_s)
        # None: nothing is that new
        begins |= {place: at.offset if at is not None else ends[place] for place, at in found.items()}
    if until_ms is not None:
        later = dict.fromkeys(places, max(until_ms, 0) + CLOCKS_MS)
        found = await _within(reader.offsets_for_times(later), deadline_s)
        ends |= {place: min(at.offset, ends[place]) for place, at in found.items() if at is not None}
    return {place: (begins[place], ends[place]) for place in places}


async def _backwards(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    passed: Callable[[int], None],
    deadline_s: float,
) -> AsyncIterator[Seen]:
    """Yield the records of one partition from `end` down to `begin`."""
    step = STEP
    while end > begin:
        start = max(begin, end - step)
        found = await _window(reader, place, start, end, deadline_s)
        passed(end - start)
        for seen in reversed(found):
            yield seen
        end, step = start, min(step * 2, STEP_MAX)


async def _window(
    reader: AIOKafkaConsumer, place: TopicPartition, start: int, end: int, deadline_s: float
) -> list[Seen]:
    """Return the records with start <= offset < end, in order; the position also passes what is no record."""
    reader.seek(place, start)
    found: list[Seen] = []
    clock = asyncio.get_running_loop().time
    moved, at = clock(), start
    while at < end:
        records = (await reader.getmany(place, timeout_ms=200)).get(place, [])
        found += [
            Seen(place.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
            for record in records
            if record.offset < end
        ]
        now = await reader.position(place)
        if now > at:
            moved, at = clock(), now
        elif clock() - moved > deadline_s:
            raise StreamDown(f"{place.topic}[{place.partition}] cannot be read at offset {at}: nothing comes")
    return found
