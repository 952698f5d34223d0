"""The topic of snapshots, `rater.snapshots`: what its records are, and reading them up to an exact place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from rater.core.bucket.messages import bucket_of
from rater.core.journal.snapshots import (
    ClientHead,
    Head,
    Positions,
    RoundHead,
    read_head,
)
from rater.core.json_text import UNREADABLE
from rater.core.reasons import shown
from rater.errors import Halt
from rater.stream.connecting import Connection, reading
from rater.stream.journal import DEADLINE_S, read_until
from rater.stream.topics import Topics


class Placed(NamedTuple):
    """A client's snapshot: its offset, and its positions."""

    offset: int
    positions: Positions


class SnapshotIndex:
    """The latest snapshot of each client of a partition, without what it says."""

    def __init__(self, lanes: int, buckets: int) -> None:
        """Nothing is read yet."""
        self.rounds: dict[int, RoundHead] = {}
        """Bucket → the last round that was ended."""
        self.clients: dict[int, dict[str, Placed]] = {}
        """Bucket → client → its latest."""
        self._latest: dict[tuple[str | int, ...], int] = {}
        self._positions: dict[Positions, Positions] = {}
        self._lanes, self._buckets = lanes, buckets

    def add(self, offset: int, head: Head) -> None:
        """Take one record, in order."""
        if isinstance(head, ClientHead):
            if bucket_of(head.client, self._buckets) != head.bucket:
                return  # of a store that had more or fewer buckets
            # Those of one reading have the same positions: they are kept once.
            positions = self._positions.setdefault(head.positions, head.positions)
            self.clients.setdefault(head.bucket, {})[head.client] = Placed(offset, positions)
            return
        self._latest[head.place] = offset
        if isinstance(head, RoundHead):
            self.rounds[head.bucket] = head

    def is_latest(self, offset: int, head: Head) -> bool:
        """Return whether no later record stands for the same."""
        if isinstance(head, ClientHead):
            latest = self.clients.get(head.bucket, {}).get(head.client)
            return latest is not None and latest.offset == offset
        return self._latest[head.place] == offset

    def usable(self, bucket: int) -> RoundHead | None:
        """Return the round that a bucket can be put in place by; None: there is none, or clients lack."""
        found = self.rounds.get(bucket)
        if found is None or not found.counts(self._lanes, self._buckets):
            return None
        return found if len(self.clients.get(bucket, ())) >= found.clients else None


async def read_snapshots(
    client: Connection, topic: str, partition: int, upto: int
) -> AsyncIterator[list[tuple[int, Head, bytes]]]:
    """Yield (offset, head, body) of the committed records below an offset, in order, in batches.

    Raises Halt where one cannot be read, StreamDown when reading stands still.
    """
    place = TopicPartition(topic, partition)
    async with reading(client, [place], deadline_s=DEADLINE_S) as reader:
        first = (await reader.beginning_offsets([place]))[place]
        async for records in read_until(reader, place, first, upto, DEADLINE_S):
            found = [(record.offset, _head_of(record), record.value or b"") for record in records]
            yield [(offset, head, body) for offset, head, body in found if head is not None]


def _head_of(record: ConsumerRecord) -> Head | None:
    try:
        return read_head(record.headers)
    except (*UNREADABLE, TypeError) as error:
        raise Halt(unreadable(record.topic, record.partition, record.offset, error)) from error


def unreadable(topic: str, partition: int, offset: int, error: Exception) -> str:
    """Return the sentence for a snapshot that cannot be read, and the remedy."""
    return (
        f"{topic}[{partition}] has a snapshot at offset {offset} that cannot be read ({shown(str(error))}): "
        "it was written by a newer version of rater or by something else; run the version that wrote it, or "
        "delete and create the topic again: Redis is then rebuilt from the journal alone"
    )


async def read_index(
    client: Connection, topics: Topics, partition: int, buckets: int, upto: int
) -> SnapshotIndex:
    """Return the index of a partition's records below an offset. Raises as `read_snapshots`."""
    index = SnapshotIndex(topics.partitions, buckets)
    async for records in read_snapshots(client, topics.snapshots, partition, upto):
        for offset, head, _ in records:
            index.add(offset, head)
    return index


class SnapshotIndexes:
    """The indexes of snapshots that lanes of a process read while buckets are put in place."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._found: dict[tuple[int, int], SnapshotIndex] = {}
        self._reading = asyncio.Lock()

    async def upto(
        self, client: Connection, topics: Topics, partition: int, buckets: int, end: int
    ) -> SnapshotIndex:
        """Return the index of a partition below an offset; one of another offset is forgotten.

        buckets: of the store.
        """
        async with self._reading:
            if (partition, end) not in self._found:
                self._found = {place: held for place, held in self._found.items() if place[0] != partition}
                self._found[partition, end] = await read_index(client, topics, partition, buckets, end)
            return self._found[partition, end]

    def clear(self) -> None:
        """Forget all of them: the buckets are in place."""
        self._found.clear()
