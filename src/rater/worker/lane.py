"""A lane that is ours: all of its state, once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from rater.core.catalog.compiled import Catalog
from rater.core.journal.traces import Timed
from rater.core.kinds import Stage
from rater.core.line import trimming
from rater.core.line.batch import Batch, LanePosition, Standing
from rater.core.line.trimming import Settled
from rater.metrics import Metrics
from rater.stream.journal import Mark
from rater.stream.lane_reader import LaneReader
from rater.stream.producer import LaneProducer
from rater.tracing import Tracer
from rater.worker.shared import WorkerConnections


class BucketCursor(Struct):
    """How far the lane has come with one bucket."""

    expected: int = 0
    """Number that the bucket expects the lane's next request to have."""
    trim: int = 0
    """Outcomes of requests up to this number may be forgotten by the bucket."""
    floor: int = 0
    """Offset of the journal: the bucket agrees with what lies before."""
    published: int = 0
    """Number of the last request of which all is published, but for what is pending."""


class Progress:
    """What the lane is doing, for whoever watches it."""

    def __init__(self, metrics: Metrics, lane: int = 0, tracer: Tracer | None = None) -> None:
        """tracer: makes spans of it; None: nobody does."""
        self._metrics, self._lane, self._tracer = metrics, lane, tracer
        self._timed: list[Timed] = []
        """Steps of the batch that is processed, where spans are made of them."""
        self._commit: Timed | None = None
        self._stages: list[Stage] = []
        """Stages that are under way: one batch is committed while the next is processed."""
        self.committed_at = time.monotonic()
        """When something was committed last, or nothing waited."""
        self.unfinished: dict[str, int] = {}
        """Topic → first offset of what waited when the lane was lost, until something is committed again."""

    @contextlib.contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Measure a stage of the line, and know of it while it lasts."""
        self._stages.append(name)
        begin_ns = 0 if self._tracer is None else time.time_ns()
        try:
            with self._metrics.stage(name):
                yield
        finally:
            self._stages.remove(name)
            if self._tracer is not None:
                self._note(Timed(name, begin_ns, time.time_ns()))

    def _note(self, timed: Timed) -> None:
        if timed.stage == "commit":
            self._commit = timed
        else:
            self._timed.append(timed)

    def processed(self, batch: Batch) -> None:
        """Keep how long the steps of a batch took."""
        if self._tracer is not None:
            batch.timed, self._timed = self._timed, []

    @property
    def step(self) -> str:
        """The stage of the first record that is not committed."""
        return "commit" if "commit" in self._stages else self._stages[-1] if self._stages else "poll"

    def committed(self, batches: Sequence[Batch]) -> None:
        """Note that something was committed."""
        self.committed_at, self.unfinished = time.monotonic(), {}
        if self._tracer is None or self._commit is None:
            return
        for batch in batches:
            timed = [*batch.timed, self._commit]
            trace_id = self._tracer.publish(self._lane, batch, timed)
            if trace_id:
                self._metrics.exemplify(timed, trace_id)
            if batch.traces.first is not None:
                self._metrics.exemplify_arrival(*batch.traces.first, self._commit.end_ns // 1_000_000)


class Lane:
    """A lane that is ours: who we are there, where it stands, and what each bucket expects of it."""

    reader: LaneReader
    """Of its input; there once buckets and journal agree."""

    def __init__(
        self,
        number: int,
        token: int,
        producer: LaneProducer,
        mark: Mark,
        connections: WorkerConnections,
        *,
        anew: frozenset[str] = frozenset(),
    ) -> None:
        """Stand at `mark`, with nothing known of the buckets yet. anew: see the attribute."""
        self.number = number
        self.token = token
        """The fence token: offset of our owner record."""
        self.producer = producer
        self.ids = mark.ids
        """Input topic → its id."""
        self.anew = anew
        """Topics that are other ones than those of which outcomes are kept, and read from their beginning."""
        self.catalog: Catalog | None = None
        """What `standing.position` names."""
        position = LanePosition(mark.positions, mark.times, mark.lane_ms, mark.catalog, mark.body, mark.life)
        self.standing = Standing(
            number, connections.topics.commands, connections.window_ms, connections.generation_ms, position
        )
        self.cursors = [BucketCursor() for _ in range(connections.store.count)]
        self.progress = Progress(connections.metrics, number, connections.tracer)
        self.overdue = 0
        """Due moments of its own buckets that are over and not in work, when that was looked at last."""
        self._unproven: Settled | None = None
        """What buckets may forget when the next commit has succeeded."""

    def adopt(self, catalog: Catalog, body: int) -> None:
        """Rate by this catalog from now on; body: offset of its body."""
        self.catalog = catalog
        self.standing.position = replace(self.standing.position, catalog=catalog.version, body=body)

    def all_taken_over(self) -> None:
        """Note that nothing of a version before is left in the lane's own buckets."""
        self.standing.position = replace(self.standing.position, life=True)

    def mark(self, position: LanePosition) -> Mark:
        """Return the mark of a Kafka transaction that ends at this position."""
        return Mark(
            positions=dict(position.positions), times=dict(position.times), catalog=position.catalog,
            body=position.body, lane_ms=position.lane_ms, token=self.token, ids=self.ids,
            life=position.life,
        )  # fmt: skip

    def processed(self, batch: Batch) -> None:
        """Note that all of a batch is decided and rendered: it waits for its commit."""
        batch.pending_left = len(self.standing.pending)
        self.progress.processed(batch)

    def committed(self, batches: Sequence[Batch], mark_offset: int) -> None:
        """Note that batches were committed; tells the buckets, with the next draws, what they may forget."""
        last = batches[-1]
        for batch in batches:
            for bucket, request in batch.requests.items():
                self.cursors[bucket].published = request
        now = Settled(tuple(cursor.published for cursor in self.cursors), mark_offset + 1)
        settled, self._unproven = trimming.forgettable(self._unproven, now, last.pending_left)
        if settled is not None:
            for cursor, request in zip(self.cursors, settled.requests, strict=True):
                cursor.trim, cursor.floor = request, settled.floor
        self.reader.committed(last.position.positions, last.position.times)
        self.progress.committed(batches)

    async def close(self) -> None:
        """Let go of the producer and the reader; what was not committed stays undecided or pending."""
        await asyncio.gather(self.producer.close(), self.reader.close(), return_exceptions=True)
