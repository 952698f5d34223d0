"""How far topics reach: their offsets, and since when they have all that was written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing

from aiokafka import TopicPartition

from rater.stream.connecting import Connection, reading
from rater.stream.journal import DEADLINE_S, read_records


async def bounds(
    client: Connection, topic: str, partitions: int, *, deadline_s: float = DEADLINE_S
) -> dict[int, tuple[int, int]]:
    """Return per partition the first offset that is there, and the one below which all is decided."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    async with reading(client, places, deadline_s=deadline_s) as reader:
        first = await reader.beginning_offsets(places)
        end = await reader.end_offsets(places)
        return {place.partition: (first[place], end[place]) for place in places}


async def begins_ms(client: Connection, topic: str, spans: Mapping[int, tuple[int, int]]) -> int | None:
    """Return the time from which on a topic has all that was ever written; None: from its beginning on.

    spans: `bounds`. Where nothing is left of a partition, that time is now.
    """
    times = [
        await first_ms(client, topic, partition, first, end)
        for partition, (first, end) in spans.items()
        if first
    ]
    return max(times, default=None)


async def first_ms(client: Connection, topic: str, partition: int, first: int, end: int) -> int:
    """Return the broker's time of the first record from an offset on, now where there is none below `end`."""
    async with aclosing(read_records(client, topic, partition, first, end)) as batches:
        async for records in batches:
            return int(records[0].timestamp)
    return time.time_ns() // 1_000_000
