"""Putting buckets in place by snapshots, before any lane brings them to its journal (PROTOCOL.md 3, rule 17).

The lane that sees to a bucket does it; the others wait. A crash begins it again: what is put in place takes
the place of what is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec import structs

from rater.core.bucket.messages import FenceReply, Status
from rater.core.bucket.restoring import Restore, RestoreReply
from rater.core.journal.snapshots import (
    AccountsHead,
    ClientHead,
    Head,
    PackagesHead,
    index_of,
    reach_of,
    read_client,
    read_pairs,
)
from rater.core.json_text import UNREADABLE
from rater.errors import Fenced, Halt, Retake
from rater.stream.journal import end_offset
from rater.stream.snapshots import SnapshotIndex, SnapshotIndexes, read_snapshots, unreadable
from rater.worker.buckets import LaneBuckets

log = structlog.get_logger()

CLIENTS_PART = 500
"""Clients put in place by one call: about 10 ms of the server's time."""
PAIRS_PART = 2000
"""Entries of an index put in place by one call."""
WAIT_S = 0.2
"""How often a lane asks whether a bucket is in place that another lane sees to."""
TOLD_S = 5.0
"""How often progress is told in the log."""


class InPlace(NamedTuple):
    """A bucket that may be brought to the journal. included: `Reconciling.included`."""

    fenced: FenceReply
    included: Callable[[str], int] | None = None


async def put_in_place(
    buckets: LaneBuckets, fenced: Sequence[FenceReply], indexes: SnapshotIndexes
) -> list[InPlace]:
    """Return each bucket when it is in place: what it keeps of its lane, and what snapshots have of clients.

    Raises Fenced, Retake, Halt and what the servers raise.
    """
    connections, own = buckets.connections, buckets.lane.number
    topics, client, count = connections.topics, connections.client, connections.store.count
    blank = [bucket for bucket, reply in enumerate(fenced) if reply.base == 0 and not reply.outcomes]
    blank = [bucket for bucket in blank if (await _ask(buckets, bucket)).whole is None]
    partitions = sorted({bucket % topics.partitions for bucket in blank})
    ends = {each: await end_offset(client, topics.snapshots, each) for each in partitions}
    mine = list[int]()
    for bucket in blank:
        partition = bucket % topics.partitions
        index = await indexes.upto(client, topics, partition, count, ends[partition])
        if index.usable(bucket) is None:
            # Whichever lane comes first says so: from then on nobody puts anything in place.
            await _ask(buckets, bucket, floors=[])
        elif partition == own:
            mine.append(bucket)
    if mine:
        index = await indexes.upto(client, topics, own, count, ends[own])
        await _Restoring(buckets, mine, index, ends[own]).run()
    return [await _settled(buckets, bucket, reply, indexes) for bucket, reply in enumerate(fenced)]


async def _ask(
    buckets: LaneBuckets, bucket: int, what: Restore | None = None, floors: list[int] | None = None
) -> RestoreReply:
    """Put a part in place, or ask how far the bucket is. Raises Fenced, Retake."""
    lane, cursor = buckets.lane, buckets.lane.cursors[bucket]
    what = what or Restore(lane.number, lane.token, cursor.expected, floors=floors)
    reply = await buckets.connections.store.restore(bucket, what)
    if reply.status == Status.FENCED:
        raise Fenced
    if reply.status != Status.OK:
        raise Retake(reply.status.name)
    cursor.expected = reply.number
    return reply


async def _settled(
    buckets: LaneBuckets, bucket: int, fenced: FenceReply, indexes: SnapshotIndexes
) -> InPlace:
    """Return a bucket when it is in place, whoever does it."""
    if fenced.base or fenced.outcomes:
        return InPlace(fenced)
    connections, own = buckets.connections, buckets.lane.number
    partition = bucket % connections.topics.partitions
    while (reply := await _ask(buckets, bucket)).whole is None:
        why = f"waiting until lane {partition} has put bucket {bucket} in place by its snapshots"
        buckets.readiness.unready(own, why)
        await asyncio.sleep(WAIT_S)
    fenced = structs.replace(fenced, floor=reply.floor, base=reply.base)
    if not reply.whole or reply.base:
        return InPlace(fenced)
    topics, count = connections.topics, connections.store.count
    index = await indexes.upto(connections.client, topics, partition, count, reply.whole)
    held = index.clients.get(bucket, {})

    def included(client: str) -> int:
        placed = held.get(client)
        return 0 if placed is None else reach_of(placed.positions, own)

    return InPlace(fenced, included)


class _Restoring:
    """Our own buckets, being put in place by one pass over our snapshots."""

    def __init__(self, buckets: LaneBuckets, mine: Sequence[int], index: SnapshotIndex, upto: int) -> None:
        self._buckets, self._index, self._upto = buckets, index, upto
        rounds = {bucket: index.usable(bucket) for bucket in mine}
        self._rounds = {bucket: found for bucket, found in rounds.items() if found is not None}
        self._parts = {bucket: self._part(bucket) for bucket in mine}
        self._done, self._told_at = 0, time.monotonic()

    async def run(self) -> None:
        """Do it, by one pass over the topic."""
        topics, own = self._buckets.connections.topics, self._buckets.lane.number
        log.info("buckets are put in place by snapshots", lane=own, buckets=[*self._rounds], upto=self._upto)
        client = self._buckets.connections.client
        async for records in read_snapshots(client, topics.snapshots, own, self._upto):
            for offset, head, body in records:
                if head.bucket in self._rounds and self._index.is_latest(offset, head):
                    self._take(offset, head, body)
                    await self._flush(head.bucket, least=CLIENTS_PART)
            self._tell()
        for bucket, found in self._rounds.items():
            await self._flush(bucket, least=1)
            last = self._part(bucket)
            lanes = range(topics.partitions)
            last.floors, last.upto = [reach_of(found.positions, lane) for lane in lanes], self._upto
            await _ask(self._buckets, bucket, last)

    def _take(self, offset: int, head: Head, body: bytes) -> None:
        part = self._parts[head.bucket]
        try:
            if isinstance(head, ClientHead):
                row = read_client(head, body)
                members, hints = index_of(row)
                part.clients.append(row)
                part.members += members
                part.hints += hints
            elif isinstance(head, AccountsHead):
                part.accounts += read_pairs(body)  # of a shard: some thousands
            elif isinstance(head, PackagesHead):
                part.members += read_pairs(body)
        except (*UNREADABLE, TypeError) as error:
            topic, own = self._buckets.connections.topics.snapshots, self._buckets.lane.number
            raise Halt(unreadable(topic, own, offset, error)) from error

    def _part(self, bucket: int) -> Restore:
        lane = self._buckets.lane
        return Restore(lane.number, lane.token, lane.cursors[bucket].expected)

    async def _flush(self, bucket: int, *, least: int) -> None:
        """Put in place what has come together, if there are so many clients, or many entries of indexes."""
        part = self._parts[bucket]
        pairs = len(part.accounts) + len(part.members)
        if len(part.clients) < least and pairs < (PAIRS_PART if least > 1 else 1):
            return
        self._done += len(part.clients)
        part.number = self._part(bucket).number
        await _ask(self._buckets, bucket, part)
        self._parts[bucket] = self._part(bucket)

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= TOLD_S:
            self._told_at = time.monotonic()
            total = sum(len(self._index.clients.get(bucket, ())) for bucket in self._rounds)
            log.info("putting clients in place", lane=self._buckets.lane.number, done=self._done, of=total)
