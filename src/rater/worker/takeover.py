"""Taking a lane: from "the group says it is ours" to "buckets and journal agree, we stand at the mark".

Order matters (PROTOCOL.md 4.3): the producer's init fences the old owner in Kafka, the owner
record's offset is the token that fences it in Redis, the journal up to that record is then complete and says
what was published, and only a bucket that agrees with it is registered at its gate. A crash anywhere starts
again from the top.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import structlog
from msgspec import structs

from rater.core.bucket.messages import FenceReply, Status
from rater.core.journal.reconciling import Reconciling
from rater.errors import Fenced, Halt
from rater.stream.journal import (
    Mark,
    Owner,
    end_offset,
    last_mark,
    offset_of,
    read_batches,
    read_range,
    read_records,
)
from rater.stream.lane_reader import LaneReader
from rater.stream.producer import LaneProducer
from rater.stream.topics import topic_ids
from rater.worker.adding import Adding
from rater.worker.buckets import LaneBuckets
from rater.worker.lane import Lane
from rater.worker.restoring import TOLD_S, InPlace, put_in_place
from rater.worker.shared import Shared, SlowestLane, WorkerConnections

log = structlog.get_logger()

RECONCILE_EFFECTS_MAX = 5000
"""Effects added by one reconcile call: about 10 ms of the server's time."""
TAIL_DEADLINE_S = 60.0
"""The longest wait for the journal up to our owner record: a Kafka transaction of somebody else that is open
in our journal partition ends within its timeout (30 s) and the broker's scan for such."""
RIVAL_S = 5.0
"""How long a rival's owner record may take to be seen in the journal after its token was in the store."""


NEVER = 2**53
"""Behind every offset."""


async def take(number: int, shared: Shared) -> Lane:
    """Take the lane, whatever state its last owner left it in.

    Raises Fenced (a rival took it meanwhile), Retake or a Wait (begin again), Halt (data is gone).
    """
    connections = shared.connections
    group = connections.settings.kafka.group_id
    native = shared.native is not None
    producer = LaneProducer(connections.client, connections.topics, group, number, native=native)
    try:
        await producer.open()
        token = await producer.claim(Owner(connections.worker_id, group))
        found = await last_mark(
            connections.client, connections.topics.transactions, number, token, deadline_s=TAIL_DEADLINE_S
        )
        last = found or Mark(positions={}, times={}, catalog=0, body=0, lane_ms=0)
        mark, anew = await _recognise(number, last, connections)
        lane = Lane(number, token, producer, mark, connections, anew=anew)
        lane.catalog = await connections.catalogs.at(mark.catalog, mark.body)
        connections.metrics.catalog(lane.catalog)
        await _agree(LaneBuckets(lane, shared), mark, shared)
        # A store that fell back may not know clients any more that we hold views of: what made them is lost.
        shared.forget_views()
        lane.reader = LaneReader(
            connections.client, connections.topics, number, mark.positions, mark.times, group,
            ids=lane.ids, include_data=lane.catalog is not None,
        )  # fmt: skip
        await lane.reader.open()
    except BaseException:
        await producer.close()
        raise
    log.info("lane taken", lane=number, token=token, pending=len(lane.standing.pending))
    return lane


async def _recognise(lane: int, mark: Mark, connections: WorkerConnections) -> tuple[Mark, frozenset[str]]:
    """Return the mark with the ids that the input topics have now, and which of them are to be read anew.

    Raises Halt where a data topic is another than was read, unless its id is among `topics.recreated`: its
    positions are of the one that is gone. Journal and commands are known by what is in them, for they may
    have been restored from a backup, which gives them other ids.
    """
    topics = connections.topics
    ids = await topic_ids(connections.client, [*topics.data, topics.commands])
    anew: set[str] = set()
    for topic in topics.data:
        identity, known = ids[topic], mark.ids.get(topic, "")
        if not identity or identity == known:
            continue
        if identity in connections.settings.topics.recreated_ids or (known and topic not in mark.positions):
            anew.add(topic)
        elif known:
            why = f"its id is {identity}, but the one that was read has {known}"
            raise Halt(topics.another(topic, lane, why, identity))
    if anew:
        log.warning("topics read from their beginning", lane=lane, topics=sorted(anew))
    return structs.replace(
        mark,
        positions={topic: at for topic, at in mark.positions.items() if topic not in anew},
        times={topic: at for topic, at in mark.times.items() if topic not in anew},
        ids={**mark.ids, **{topic: identity for topic, identity in ids.items() if identity}},
    ), frozenset(anew)


async def _agree(buckets: LaneBuckets, mark: Mark, shared: Shared) -> None:
    """Fence all buckets, bring each to what the journal says, and register it at its gate.

    The journal's tail is read once, from where the first bucket needs it: fetched and decoded for each bucket
    by itself it would cost as many times.
    """
    lane = buckets.lane
    every = range(len(lane.cursors))
    fenced = await asyncio.gather(*(_fence(buckets, bucket) for bucket in every))
    in_place = await put_in_place(buckets, fenced, shared.indexes)
    found = [_compared(buckets, bucket, each, mark.token) for bucket, each in enumerate(in_place)]
    start = await _start(buckets, mark, found, shared.slowest)
    try:
        adding = Adding(found, buckets.connections.generation_ms, shared.native)
        await _read_journal(buckets, adding, found, start, shared)
        shared.read[lane.number] = lane.token - start
    finally:
        shared.rebuilding.pop(lane.number, None)
    await asyncio.gather(*(_finish(buckets, adding, bucket, each) for bucket, each in enumerate(found)))
    # The journal has to know it before a gate may open: from then on others draw on what the buckets have.
    await lane.producer.commit([], [], [], lane.mark(lane.standing.position))
    await asyncio.gather(*(buckets.register(bucket) for bucket in every))
    for cursor in lane.cursors:
        cursor.published = cursor.expected - 1
    if not shared.rebuilding:
        shared.indexes.clear()


async def _start(buckets: LaneBuckets, mark: Mark, found: list[Reconciling], slowest: SlowestLane) -> int:
    """Return from where the journal is read; tells buckets that are built anew which duplicates they need."""
    lane, connections = buckets.lane, buckets.connections
    start = min(reconciling.read_from for reconciling in found)
    in_place = any(reconciling.included is not None for reconciling in found)
    if not ((start == 0 or in_place) and mark.positions):
        return start
    # Else a store that is emptied would be filled with the duplicates of the whole journal before the
    # first are dropped again. The one before that of the slowest lane is asked too.
    first_generation = await slowest.lane_ms(connections) // connections.generation_ms - 1
    for reconciling in found:
        reconciling.first_generation = first_generation
        reconciling.published = slowest.positions
    if in_place:
        at_ms, journal = first_generation * connections.generation_ms, connections.topics.transactions
        known = await offset_of(connections.client, journal, lane.number, at_ms, lane.token)
        for reconciling in found:
            if reconciling.included is not None:
                reconciling.read_from = min(reconciling.floor, known)
        start = min(reconciling.read_from for reconciling in found)
    return start


async def _read_journal(
    buckets: LaneBuckets, adding: Adding, found: list[Reconciling], start: int, shared: Shared
) -> None:
    """Read the journal up to our owner record, and correct buckets as much has come together."""
    lane, told_at = buckets.lane, time.monotonic()
    async for upto in _added(adding, buckets.connections, lane, start):
        full = {
            bucket: found[bucket].part(lane.number, lane.token, lane.cursors[bucket].expected, upto)
            for bucket in adding.full(RECONCILE_EFFECTS_MAX)
        }
        await asyncio.gather(
            *(buckets.reconcile(bucket, adding.with_sums(bucket, part)) for bucket, part in full.items())
        )
        done, of = shared.rebuilding[lane.number] = upto - start, lane.token - start
        shared.readiness.unready(
            lane.number, f"the lane is being taken: {done} of {of} records of the journal are read"
        )
        if time.monotonic() - told_at >= TOLD_S:
            told_at = time.monotonic()
            log.info("the journal is read", lane=lane.number, done=done, of=of)


async def _added(
    adding: Adding, connections: WorkerConnections, lane: Lane, start: int
) -> AsyncIterator[int]:
    """Have the journal from an offset to our owner record added up; yields, part by part, how far it is."""
    asked = connections.client, connections.topics.transactions, lane.number, start, lane.token
    if adding.natively:
        async for batch in read_batches(*asked):
            adding.read_batch(batch, start, lane.token)
            yield min(batch.end, lane.token)
        return
    async for records in read_records(*asked):
        adding.read(records)
        yield records[-1].offset + 1


async def _fence(buckets: LaneBuckets, bucket: int) -> FenceReply:
    """Fence one bucket; returns what it keeps of the lane."""
    lane, connections = buckets.lane, buckets.connections
    fenced = await buckets.fence(bucket)
    if fenced.status == Status.FENCED:
        await _find_rival(lane, connections)
        raise Fenced
    # Each owner record of a journal has an offset of its own.
    if fenced.floor > lane.token or fenced.token == lane.token:
        raise Halt(_other_journal(lane, connections))
    lane.standing.lane_ms = max(lane.standing.lane_ms, fenced.lane_ms)
    return fenced


def _compared(buckets: LaneBuckets, bucket: int, in_place: InPlace, ready_token: int) -> Reconciling:
    """Return a bucket's comparison with the journal, which has read nothing yet."""
    lane, connections = buckets.lane, buckets.connections
    found = Reconciling(
        # What is kept of a topic that is gone comes no more: none of it stays pending.
        in_place.fenced, bucket=bucket, buckets=connections.store.count,
        positions={**lane.standing.position.positions, **dict.fromkeys(lane.anew, NEVER)},
        generation_ms=connections.generation_ms, ready_token=ready_token,
    )  # fmt: skip
    found.included = in_place.included
    return found


async def _finish(buckets: LaneBuckets, adding: Adding, bucket: int, reconciling: Reconciling) -> None:
    """Make the last corrections of a bucket, which agrees with the journal then."""
    lane, cursor = buckets.lane, buckets.lane.cursors[bucket]
    last = reconciling.finish(lane.number, lane.token, cursor.expected, lane.token)
    await buckets.reconcile(bucket, adding.with_sums(bucket, last))
    lane.standing.pending.update(reconciling.pending)
    cursor.floor = lane.token


async def _find_rival(lane: Lane, connections: WorkerConnections) -> None:
    """Return when the journal shows an owner after us; Halt when there is none: it is another journal then.

    The store's token is an offset of the journal, so one beyond ours belongs to a record that must be there.
    """
    topic, deadline = connections.topics.transactions, time.monotonic() + RIVAL_S
    start = lane.token + 1
    while time.monotonic() < deadline:
        end = await end_offset(connections.client, topic, lane.number)
        async for records in read_range(connections.client, topic, lane.number, start, max(start, end)):
            if any(isinstance(said, Owner) for _, _, _, said in records):
                return
        start = max(start, end)
        await asyncio.sleep(RIVAL_S / 50)
    raise Halt(_other_journal(lane, connections))


def _other_journal(lane: Lane, connections: WorkerConnections) -> str:
    place = f"{connections.topics.transactions}[{lane.number}]"
    return (
        f"Redis knows of lane {lane.number} what lies beyond the end of {place}: the topic was recreated, or "
        "redis.prefix belongs to another installation; restore the topic, or give this installation a "
        "redis.prefix of its own"
    )
