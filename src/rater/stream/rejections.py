"""Rejected records, read up to an exact place, and sent again with a note of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from rater.core.journal.records import Headers
from rater.core.line.recycling import Recycled, note_headers
from rater.stream.connecting import Connection, reading
from rater.stream.journal import DEADLINE_S, end_offsets, read_until
from rater.stream.producer import Writer
from rater.stream.topics import Topics

TIMEOUT_MS = 10_000
"""So soon the broker ends a Kafka transaction that a killed recycling left open: lanes read no further than
to its beginning."""

Sending = tuple[str, int, bytes | None, bytes | None, Headers]
"""Topic, partition, key, value, headers."""


class Rejections:
    """The topic of rejected records, for one recycling."""

    def __init__(self, client: Connection, topics: Topics) -> None:
        """Nothing is connected before `open`."""
        self._client, self._topics = client, topics
        self._ends: dict[int, int] = {}
        self._writer: Writer | None = None

    @property
    def records(self) -> int:
        """Return how many offsets there are to read."""
        return sum(self._ends.values())

    async def look(self) -> None:
        """Take what is decided now as the end, for reading alone."""
        lanes = range(self._topics.partitions)
        self._ends = await end_offsets(self._client, self._topics.rejected, lanes)

    async def open(self) -> None:
        """Fence every recycling before, and take all that these have written as there.

        What they committed may not be visible yet, so a note of ours is the end, below which all is decided.
        """
        topic, lanes = self._topics.rejected, range(self._topics.partitions)
        self._writer = Writer(
            self._client, f"{self._topics.prefix}recycle", [(topic, lane) for lane in lanes],
            transaction_timeout_ms=TIMEOUT_MS,
        )  # fmt: skip
        await self._writer.open()
        begun = await self._writer.write(
            [(topic, lane, None, None, note_headers(Recycled())) for lane in lanes]
        )
        self._ends = dict(zip(lanes, begun, strict=True))

    async def read(self, lane: int) -> AsyncIterator[list[ConsumerRecord]]:
        """Yield the records of a partition, in order, in batches."""
        place, end = TopicPartition(self._topics.rejected, lane), self._ends[lane]
        async with reading(self._client, [place], deadline_s=DEADLINE_S) as reader:
            first = (await reader.beginning_offsets([place]))[place]
            if first < end:
                async for records in read_until(reader, place, first, end, DEADLINE_S):
                    yield records

    async def send(self, records: Sequence[Sending], notes: Sequence[tuple[int, Headers]]) -> None:
        """Write records and the notes of them in one Kafka transaction: all of it or nothing.

        Raises Fenced (another recycling has begun), Retake (unknown, or nothing was written), Halt.
        """
        assert self._writer is not None  # noqa: S101 - it was opened
        noted: list[Sending] = [(self._topics.rejected, lane, None, None, headers) for lane, headers in notes]
        await self._writer.write([*records, *noted])

    async def close(self) -> None:
        """Let go. Never raises."""
        if self._writer is not None:
            await self._writer.close()
