"""How far the workers of a rig are behind, sample by sample; and what they began to publish and did not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition

from faults.rig import Rig, until
from rater.config.settings import Settings

SAMPLE_S = 0.1
_DEFAULTS = Settings()
USUAL = {
    "RATER_KAFKA__SESSION_TIMEOUT_MS": str(_DEFAULTS.kafka.session_timeout_ms),
    "RATER_REDIS__TIMEOUT_S": str(_DEFAULTS.redis.timeout_s),
}
"""Patience as workers have it: the rig's is short, for faults that one waits for."""


@dataclass
class Lag:
    """(moment, records that wait), in order: records in the topic of CDRs less the positions of marks."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def behind_since(self, moment: float, most: int) -> float:
        """Return until when more than `most` waited, in seconds after the moment; 0: they never did."""
        return max((at - moment for at, waits in self.samples if at >= moment and waits > most), default=0.0)


@asynccontextmanager
async def lag_of(rig: Rig) -> AsyncIterator[Lag]:
    """Give the lag of a rig, written down until the end."""
    lag = Lag()
    places = [TopicPartition(rig.topics.cdrs, lane) for lane in range(rig.partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=rig.servers.bootstrap) as reader:

        async def sample() -> None:
            while True:
                ends = await reader.end_offsets(places)
                done = sum(
                    rig.watched.positions.get(place.partition, {}).get(place.topic, 0) for place in places
                )
                lag.samples.append((time.monotonic(), sum(ends.values()) - done))
                await asyncio.sleep(SAMPLE_S)

        task = asyncio.create_task(sample())
        try:
            yield lag
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def aborted(rig: Rig) -> int:
    """Return how many records of aborted Kafka transactions lie in the topics of results, at rest.

    They are what a reader sees that asks for everything, and one of committed records does not.
    """
    topics = (rig.topics.transactions, rig.topics.rejected, rig.topics.events)
    places = [TopicPartition(topic, lane) for topic in topics for lane in range(rig.partitions)]
    found = [await _offsets(rig, places, level) for level in ("read_uncommitted", "read_committed")]
    assert found[1] <= found[0]
    return len(found[0] - found[1])


async def _offsets(rig: Rig, places: list[TopicPartition], level: str) -> set[tuple[TopicPartition, int]]:
    """Return the places of all records that a reader of this isolation level sees."""
    found: set[tuple[TopicPartition, int]] = set()
    reader = AIOKafkaConsumer(
        bootstrap_servers=rig.servers.bootstrap, isolation_level=level, enable_auto_commit=False
    )
    await reader.start()
    try:
        reader.assign(places)
        await reader.seek_to_beginning()
        ends = await reader.end_offsets(places)

        async def read() -> bool:
            for place, records in (await reader.getmany(timeout_ms=200)).items():
                found.update((place, record.offset) for record in records)
            return all([await reader.position(place) >= end for place, end in ends.items()])

        await until(read, f"all records are read, {level}")
    finally:
        await reader.stop()
    return found
