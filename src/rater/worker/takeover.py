"""Taking a lane: from "the group says it is ours" to "buckets and journal agree, we stand at the mark".

Order matters (PROTOCOL.md 4.3): the producer's init fences the old owner in Kafka, the owner
record's offset is the token that fences it in Redis, the journal up to that record is then complete and says
what was published, and only a bucket that agrees with it is registered at its gate. A crash anywhere starts
again from the top.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from msgspec import structs

from rater.core.bucket.messages import Reconcile, Status
from rater.core.catalog.compiled import Catalog
from rater.core.journal.reconciling import Reconciling
from rater.core.line.batch import Standing
from rater.errors import Fenced, Halt, Retake
from rater.stream.journal import Mark, Owner, end_offset, last_mark, last_marks, read_range
from rater.stream.lane_reader import LaneReader
from rater.stream.producer import LaneProducer
from rater.stream.topics import topic_ids
from rater.worker.shared import Parts

log = structlog.get_logger()

RECONCILE_EFFECTS_MAX = 5000
"""Effects added by one reconcile call: about 10 ms of the server's time."""
TAIL_DEADLINE_S = 60.0
"""The longest wait for the journal up to our owner record: a Kafka transaction of somebody else that is open
in our journal partition ends within its timeout (30 s) and the broker's scan for such."""
LOOK_BACK_S = 60.0
"""The last marks of all lanes are read again so often, at most: every lane of a worker needs them at once."""
RIVAL_S = 5.0
"""How long a rival's owner record may take to be seen in the journal after its token was in the store."""


NEVER = 2**53
"""Behind every offset."""


class Taken:
    """A lane that is ours: where it stands, and what each bucket expects of its next call."""

    def __init__(self, lane: int, token: int, producer: LaneProducer, mark: Mark, parts: Parts) -> None:
        """Stand at `mark`, with nothing known of the buckets yet."""
        buckets = parts.store.count
        self.lane = lane
        self.token = token
        self.producer = producer
        self.source: LaneReader
        self.catalog: Catalog | None = None
        self.body = mark.body
        self.ids = mark.ids
        """Input topic -> its id."""
        self.anew: frozenset[str] = frozenset()
        """Topics that are other ones than those of which outcomes are kept, and read from their beginning."""
        self.obeyed = mark.positions.get(parts.topics.commands, 0)
        """Offset after the last command that was obeyed."""
        self.standing = Standing(
            lane, parts.topics.commands, parts.window_ms, parts.generation_ms, dict(mark.positions),
            dict(mark.times), mark.lane_ms, {},
        )  # fmt: skip
        self.calls = [0] * buckets
        self.trims = [0] * buckets
        self.floors = [0] * buckets
        self.published = [0] * buckets
        """Number of the last call of which all is published, but for what is pending."""
        self.behind: tuple[list[int], int] | None = None
        """Trims and floor of the last commit, which the next one proves (`endtxn`)."""

    async def close(self) -> None:
        """Let go of the producer and the consumer; what was not committed stays undecided or pending."""
        await asyncio.gather(self.producer.close(), self.source.close(), return_exceptions=True)


async def take(lane: int, parts: Parts) -> Taken:
    """Take the lane, whatever state its last owner left it in.

    Raises Fenced (a rival took it meanwhile), Retake or a Wait (begin again), Halt (data is gone).
    """
    kafka = parts.settings.kafka
    producer = LaneProducer(parts.client, parts.topics, kafka.group_id, lane)
    try:
        await producer.open()
        token = await producer.claim(Owner(parts.worker_id, kafka.group_id))
        found = await last_mark(
            parts.client, parts.topics.transactions, lane, token, deadline_s=TAIL_DEADLINE_S
        )
        last = found or Mark(positions={}, times={}, catalog=0, body=0, lane_ms=0)
        mark, anew = await _recognise(lane, last, parts)
        taken = Taken(lane, token, producer, mark, parts)
        taken.anew = anew
        taken.catalog = await parts.catalogs.at(mark.catalog, mark.body)
        parts.metrics.catalog(taken.catalog)
        await _agree(taken, mark, parts)
        taken.published = [call - 1 for call in taken.calls]
        # A store that fell back may not know clients any more that we hold views of: what made them is lost.
        parts.views.clear()
        parts.accounts.clear()
        taken.source = LaneReader(
            parts.client, parts.topics, lane, taken.standing.positions, taken.standing.times, kafka.group_id,
            ids=taken.ids, include_data=taken.catalog is not None,
        )  # fmt: skip
        await taken.source.open()
    except BaseException:
        await producer.close()
        raise
    log.info("lane taken", lane=lane, token=token, pending=len(taken.standing.pending))
    return taken


async def _recognise(lane: int, mark: Mark, parts: Parts) -> tuple[Mark, frozenset[str]]:
    """Return the mark with the ids that the input topics have now, and which of them are to be read anew.

    Raises Halt where a data topic is another than was read, unless its id is among `topics.recreated`: its
    positions are of the one that is gone. Journal and commands are known by what is in them, for they may
    have been restored from a backup, which gives them other ids.
    """
    ids = await topic_ids(parts.client, [*parts.topics.data, parts.topics.commands])
    anew: set[str] = set()
    for topic in parts.topics.data:
        identity, known = ids[topic], mark.ids.get(topic, "")
        if not identity or identity == known:
            continue
        if identity in parts.settings.topics.recreated_ids or (known and topic not in mark.positions):
            anew.add(topic)
        elif known:
            why = f"its id is {identity}, but the one that was read has {known}"
            raise Halt(parts.topics.another(topic, lane, why, identity))
    if anew:
        log.warning("topics read from their beginning", lane=lane, topics=sorted(anew))
    return structs.replace(
        mark,
        positions={topic: at for topic, at in mark.positions.items() if topic not in anew},
        times={topic: at for topic, at in mark.times.items() if topic not in anew},
        ids={**mark.ids, **{topic: identity for topic, identity in ids.items() if identity}},
    ), frozenset(anew)


async def _agree(taken: Taken, mark: Mark, parts: Parts) -> None:
    """Fence all buckets, bring each to what the journal says, and register it at its gate.

    The journal's tail is read once, from where the first bucket needs it: fetched and decoded for each bucket
    by itself it would cost as many times.
    """
    buckets = await asyncio.gather(
        *(_fence(taken, bucket, mark.token, parts) for bucket in range(parts.store.count))
    )
    start = min(reconciling.read_from for reconciling in buckets)
    if start == 0 and taken.standing.positions:  # a bucket is built anew, and the lane is not
        first_generation = await _first_generation(parts)
        for reconciling in buckets:
            reconciling.first_generation = first_generation
    async for records in read_range(parts.client, parts.topics.transactions, taken.lane, start, taken.token):
        for reconciling in buckets:
            first = reconciling.read_from
            reconciling.read((offset, said) for offset, _, _, said in records if offset >= first)
        upto = records[-1][0] + 1
        full = [
            _reconcile(
                taken, bucket, parts, reconciling.part(taken.lane, taken.token, taken.calls[bucket], upto)
            )
            for bucket, reconciling in enumerate(buckets)
            if reconciling.size >= RECONCILE_EFFECTS_MAX
        ]
        await asyncio.gather(*full)
    await asyncio.gather(*(_finish(taken, bucket, parts, each) for bucket, each in enumerate(buckets)))
    # The journal has to know it before a gate may open: from then on others draw on what the buckets have.
    ready = structs.replace(mark, token=taken.token, lane_ms=taken.standing.lane_ms)
    await taken.producer.commit([], [], [], ready)
    await asyncio.gather(*(_register(taken, bucket, parts) for bucket in range(parts.store.count)))


async def _first_generation(parts: Parts) -> int:
    """Return the earliest generation of duplicates that any lane may still ask for.

    It is the one before that of the lane whose last mark is the oldest: lane time never runs backwards, so
    what was read a while ago holds too. Else a store that is emptied would be filled with the duplicates of
    the whole journal before the first are dropped again.
    """
    async with parts.looking_back:
        if time.monotonic() - parts.looked_back_at > LOOK_BACK_S:
            marks = await last_marks(parts.client, parts.topics.transactions, parts.topics.partitions)
            parts.slowest_ms = min(0 if mark is None else mark.lane_ms for mark in marks)
            parts.looked_back_at = time.monotonic()
    return parts.slowest_ms // parts.generation_ms - 1


async def _fence(taken: Taken, bucket: int, ready_token: int, parts: Parts) -> Reconciling:
    """Fence one bucket; returns its comparison with the journal, which has read nothing yet."""
    standing, store = taken.standing, parts.store
    fenced = await store.fence(bucket, taken.lane, taken.token)
    if fenced.status == Status.FENCED:
        await _find_rival(taken, parts)
        raise Fenced
    # Each owner record of a journal has an offset of its own.
    if fenced.floor > taken.token or fenced.token == taken.token:
        raise Halt(_other_journal(taken, parts))
    taken.calls[bucket] = fenced.call
    standing.lane_ms = max(standing.lane_ms, fenced.lane_ms)
    return Reconciling(
        # What is kept of a topic that is gone comes no more: none of it stays pending.
        fenced, bucket=bucket, buckets=store.count,
        positions={**standing.positions, **dict.fromkeys(taken.anew, NEVER)},
        generation_ms=parts.generation_ms, ready_token=ready_token,
    )  # fmt: skip


async def _finish(taken: Taken, bucket: int, parts: Parts, reconciling: Reconciling) -> None:
    """Make the last corrections of a bucket, which agrees with the journal then."""
    last = reconciling.finish(taken.lane, taken.token, taken.calls[bucket], taken.token)
    if last is not None:
        await _reconcile(taken, bucket, parts, last)
    taken.standing.pending.update(reconciling.pending)
    taken.floors[bucket] = taken.token


async def _register(taken: Taken, bucket: int, parts: Parts) -> None:
    """Register the lane at a bucket's gate."""
    status, call = await parts.store.register(bucket, taken.lane, taken.token, taken.calls[bucket])
    taken.calls[bucket] = _done(status, call)


async def _find_rival(taken: Taken, parts: Parts) -> None:
    """Return when the journal shows an owner after us; Halt when there is none: it is another journal then.

    The store's token is an offset of the journal, so one beyond ours belongs to a record that must be there.
    """
    topic, deadline = parts.topics.transactions, time.monotonic() + RIVAL_S
    start = taken.token + 1
    while time.monotonic() < deadline:
        end = await end_offset(parts.client, topic, taken.lane)
        async for records in read_range(parts.client, topic, taken.lane, start, max(start, end)):
            if any(isinstance(said, Owner) for _, _, _, said in records):
                return
        start = max(start, end)
        await asyncio.sleep(RIVAL_S / 50)
    raise Halt(_other_journal(taken, parts))


def _other_journal(taken: Taken, parts: Parts) -> str:
    place = f"{parts.topics.transactions}[{taken.lane}]"
    return (
        f"Redis knows of lane {taken.lane} what lies beyond the end of {place}: the topic was recreated, or "
        "redis.prefix belongs to another installation; restore the topic, or give this installation a "
        "redis.prefix of its own"
    )


async def _reconcile(taken: Taken, bucket: int, parts: Parts, what: Reconcile) -> None:
    status, call = await parts.store.reconcile(bucket, what)
    taken.calls[bucket] = _done(status, call)


def _done(status: Status, call: int) -> int:
    if status == Status.FENCED:
        raise Fenced
    if status != Status.OK:
        raise Retake(status.name)
    return call
