"""A batch through the native engine, ahead of the steps: these go on with what it returns.

In which order, and why that is right: decisions/0103-how-a-worker-goes-by-an-engine.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rater.core.bucket.messages import PackedDraw, Status
from rater.core.cdr import SIDES, Arrival, Cdr
from rater.core.clients.changes import ChangeEvent
from rater.core.journal.outcomes import Decided
from rater.core.journal.records import CDR_INDICES, Headers, Identity
from rater.core.kinds import DuplicateKind, SideOutcome, TransactionType
from rater.core.line import reading, steps
from rater.core.line.batch import Batch, Side
from rater.core.line.engine import Lacking, Place, Rendered
from rater.core.line.late import is_late
from rater.core.rating.transaction import TransactionHead, refused
from rater.core.reasons import Rejection
from rater.core.sources.formats import Skipped
from rater.core.sources.source_map import SourceMap
from rater.worker.buckets import LaneBuckets
from rater.worker.commands import catch_up
from rater.worker.panics import Guard, unrateable, value_of

if TYPE_CHECKING:
    from rater.native.holding import Native

ROUNDS_MAX = 8
"""So often sides are asked again because a client's state changed meanwhile, or the first limits did not do;
nearly all come to rest in two. Then the steps go on with those of the engine, and after as many take theirs
apart, in the end to one record with all limits."""
OUTCOMES = (SideOutcome.RATED, SideOutcome.ZERO, SideOutcome.DUPLICATE)
"""Of which `Rendered.sides` has numbers."""


def go_ahead(buckets: LaneBuckets, batch: Batch) -> Ahead | None:
    """Return a batch's way through the native engine; None: the steps do all of it."""
    native, catalog = buckets.native, buckets.lane.catalog
    if native is None or catalog is None or native.catalog(catalog.version) is None or not batch.polled:
        return None
    if _breaks_order(batch, buckets.lane.standing.pending):
        return None
    return Ahead(native, buckets, batch, catalog.service_names)


def _breaks_order(batch: Batch, pending: dict[Identity, Decided]) -> bool:
    """Return whether something is pending of a record behind one of which nothing is: a bucket lost that.

    What the engine rates is published behind what is replayed; the steps keep the order of the records.
    """
    if not pending:
        return False
    for topic, records in batch.polled:
        decided = [any((topic, of.offset, index) in pending for index in CDR_INDICES) for of in records]
        if decided != sorted(decided, reverse=True):
            return True
    return False


class Ahead:
    """One batch of a lane: `take`, then `rate`, and `publish` behind what the steps render."""

    def __init__(self, native: Native, buckets: LaneBuckets, batch: Batch, services: frozenset[str]) -> None:
        """Take nothing yet. services: of the catalog by which records are read."""
        self._native, self._buckets, self._batch = native, buckets, batch
        self._lane = buckets.lane
        self._begin_ms = reading.begin_ms(batch, self._lane.standing)
        self._read_by, self._services = batch.catalog, services
        self._maps = {topic: buckets.map_of(topic) for topic, _ in batch.polled}
        """By what records are read, also those that the steps read again after the lane has caught up: else
        one could be read otherwise the second time, and a side be lost."""
        self._records = [record for _, records in batch.polled for record in records]
        self._topics = [topic for topic, records in batch.polled for _ in records]
        self._guard = Guard(native, buckets, self._begin_ms, self._topics, self._records, self._maps)
        self._rating = self._guard.batch()
        self._refused: set[int] = set()
        """Numbers of records that the engine did not take, or not with all sides."""
        self._kept_back: set[int] = set()
        """Those of them that it was not given."""
        self._distrusted: set[int] = set()
        """Those of them over which it panicked before."""
        self.doubtful: list[Side] = []
        """Their sides: they may be too much for the steps, too."""
        self._unmapped: dict[int, tuple[Rejection, ...] | Skipped] = {}
        """What a source's map made of records that are no calls."""
        self._replayed: dict[int, Sequence[int]] = {}
        """Record → indices that were decided before, where there are some."""
        self._suspect: set[Place] = set()
        """Sides of which the engine says that they are to be rejected."""
        self._told: dict[int, int] = {}
        """Request → how many events of the batch are of what was drawn before it."""
        self._rendered: Rendered | None = None

    # ------------------------------------------------------------------ decode
    def take(self) -> list[Side]:
        """Take the batch's records; what was decided before is replayed at once. No side is left yet."""
        batch, standing, first = self._batch, self._lane.standing, 0
        for topic, records in batch.polled:
            replayed = None
            if standing.pending:
                found = [steps.replay_of(batch, standing, topic, record) for record in records]
                self._replayed |= {first + at: indices for at, indices in enumerate(found) if indices}
                replayed = [sum(1 << index for index in indices if index < len(SIDES)) for indices in found]
            mapped = self._maps[topic] is not None
            values = self._values(topic, records, first)
            with self._guard.watching():
                self._refused.update(
                    self._rating.decode(
                        self._guard.catalog(), topic, values, [record.offset for record in records],
                        [record.timestamp for record in records], mapped=mapped, replayed=replayed,
                        traces=batch.traces.by_record(topic, records),
                    )
                )  # fmt: skip
            first += len(records)
        standing.lane_ms = self._rating.lane_ms
        return []

    def _values(self, topic: str, records: Sequence[Any], first: int) -> list[bytes | None]:
        """Return what the engine is given of records. first: number of the first of them."""
        source_map, native = self._maps[topic], self._native
        late = {number for number, record in enumerate(records, first) if record.headers and is_late(record)}
        self._kept_back |= late  # the engine knows of no age but that by the window
        if source_map is None and not native.distrusts and not late:
            return [record.value for record in records]  # nearly always
        values = [value_of(record, source_map) for record in records]
        if source_map is not None:
            for number, value in enumerate(values, first):
                if not isinstance(value, bytes):
                    self._kept_back.add(number)
                    if value is not None:
                        self._unmapped[number] = value
        if native.distrusts:
            for number, record in enumerate(records, first):
                if not native.trusts((topic, self._lane.number, record.offset)):
                    self._kept_back.add(number)
                    self._distrusted.add(number)
        return [
            value if isinstance(value, bytes) and number not in self._kept_back else None
            for number, value in enumerate(values, first)
        ]

    # ------------------------------------------------------------------ identify to draw
    async def rate(self, wake: Callable[[], Awaitable[None]]) -> list[Side]:
        """Draw all that the engine rates; returns the sides that the steps go on with.

        wake: tries pending charges again that what was drawn has raised a balance to, before what follows.
        """
        stage, count = self._lane.progress.stage, self._buckets.connections.store.count
        rounds = 0
        while True:
            await wake()  # what replays have woken, then what the last round has
            catalog = self._guard.catalog()
            if catalog is None:  # the lane has caught up with one that the engine cannot read
                with self._guard.watching():
                    self._rating.give_back(None)
                break
            with self._guard.watching():
                with stage("identify"):
                    lacking = self._rating.identify(catalog)
                if not any(lacking):
                    with stage("match"):
                        lacking = self._rating.prepare(catalog, count, self._buckets.ask_whole)
            if any(lacking):
                with stage("identify"):
                    await self._have(lacking)
                continue
            with self._guard.watching():
                requests = self._rating.requests()
            if not requests:
                break
            rounds += 1
            with stage("draw"):
                await self._buckets.together(
                    [self._draw(*request, last=rounds == ROUNDS_MAX) for request in requests]
                )
        with self._guard.watching(), stage("render"):
            rendered = self._rendered = self._rating.render(written=self._native.writes)
        self._tell(rendered)
        with stage("decode"):
            return self._left()

    def _tell(self, rendered: Rendered) -> None:
        """Add events where they belong: behind what was drawn before, before what their sides have woken."""
        with self._guard.watching():
            drawn_by = self._rating.drawn_by
            placed = [
                (self._told[drawn_by(*place)], [ChangeEvent(kind, key, value)], self._trace(place))
                for kind, key, value, place in rendered["events"]
            ]
        self._batch.tell_among(placed)

    def _trace(self, place: Place) -> Headers:
        number, _ = place
        return self._batch.traces.headers(self._topics[number], self._records[number].offset)

    async def _have(self, lacking: Lacking) -> None:
        """Fetch states of clients, and account entries, and catch up with the catalog that they need."""
        wanted = steps.Lacking()
        wanted.clients, wanted.accounts = set(lacking[0]), set(lacking[1])
        for bucket, (clients, accounts) in wanted.by_bucket(self._buckets.connections.store.count).items():
            reply = await self._buckets.fetch(bucket, clients, accounts)
            with self._guard.watching():
                self._rating.learn(list(clients), list(accounts), reply.states, reply.accounts)
        if self._lane.catalog is not None and lacking[2] > self._lane.catalog.version:
            await catch_up(self._buckets, self._batch, lacking[2])

    async def _draw(self, number: int, bucket: int, *, last: bool) -> None:
        """Draw by one request. Where nothing was done its sides are open again; last: given back."""
        lane, rating = self._lane, self._rating
        cursor, standing = lane.cursors[bucket], lane.standing
        generation = standing.lane_ms // standing.generation_ms
        with self._guard.watching():
            packed = rating.packed(number, generation, cursor.trim, cursor.floor)
        call = PackedDraw(lane.number, lane.token, cursor.expected, generation, *packed)
        store = self._buckets.connections.store
        reply = await self._buckets.asked(partial(store.draw_packed, bucket, call))
        with self._guard.watching():
            if reply.status == Status.OK:
                cursor.expected = reply.number
                self._told[number] = len(self._batch.events)
                self._batch.requests[bucket] = call.number
                self._batch.woken += [self._woken(*woken) for woken in rating.settle(number, reply.packed)]
                return
            for client, state in reply.stale:
                rating.put(client, state)
            self._buckets.take_whole(set(rating.again(number, reply.more)))
            rating.give_back(call.clients if last else [due.client for due in reply.due])
        self._buckets.connections.metrics.redis_retried()

    def _woken(self, record: int, index: int, client: str) -> Side:
        """Return a side that took its client's balance to what it waits for, as the steps know it."""
        side = Side(self._topics[record], self._records[record], index)
        side.head = TransactionHead(client, "", "", "", ())
        return side

    # ------------------------------------------------------------------ what the steps go on with
    def _left(self) -> list[Side]:
        """Return the sides that are left to the steps, as they read them; what cannot be read is rejected."""
        batch = self._batch
        with self._guard.watching():
            returned, rejected = set(self._rating.returned()), self._rating.rejected()
            taken = set(self._rating.taken(self._refused) if self._refused else ())
        numbers = self._refused | {number for number, _ in returned}
        self._suspect = set(rejected)
        if not numbers:
            return []
        sides: list[Side] = []
        window_ms = self._lane.standing.window_ms
        for number, (topic, record, arrival) in enumerate(
            reading.arrivals(batch, self._begin_ms, window_ms, self._services)
        ):
            if number not in numbers:
                continue
            found = self._unmapped.get(number) or self._read(number, record, arrival, self._maps[topic])
            replayed = self._replayed.get(number, ())
            if isinstance(found, Cdr):
                reading.count_known(batch, record, arrival)
                for name, party in found.sides():
                    place = number, SIDES.index(name)
                    unread = number in self._refused and place not in taken and place[1] not in replayed
                    if place in returned or unread:
                        sides.append(side := Side(topic, record, place[1], found, party))
                        batch.sides.append(side)  # in the order of the records, among what is rejected
                        self.doubtful += sides[-1:] if number in self._distrusted else []
                    if unread and number not in self._kept_back:
                        self._suspect.add(place)
            if number in self._refused and not isinstance(found, Skipped):
                faulty = found.rejected if isinstance(found, Cdr) else found
                reading.take_rejected(batch, topic, record, faulty, replayed, self._read_by)
        return sides

    def _read(
        self, number: int, record: Any, arrival: Arrival, source_map: SourceMap | None
    ) -> Cdr | tuple[Rejection, ...] | Skipped:
        """Return the call of a record; one that made the engine panic may be too much for the steps, too."""
        try:
            return reading.read(record, arrival, source_map)
        except Exception as error:
            if number not in self._distrusted:
                raise
            return (unrateable(error),)

    def publish(self) -> None:
        """Add what the engine renders of its sides; what was refused is rejected as the reference says."""
        assert self._rendered is not None  # noqa: S101 - it was rated
        found, batch, counts = self._rendered, self._batch, self._batch.counts
        batch.transactions += found["transactions"]
        batch.runs += [found["run"]] if found["run"] else []
        for which, row in zip(SIDES, found["sides"], strict=True):
            counts.sides.update(
                {(which, outcome): number for outcome, number in zip(OUTCOMES, row, strict=True) if number}
            )
            counts.duplicates[DuplicateKind.SAME] += row[OUTCOMES.index(SideOutcome.DUPLICATE)]
            counts.transactions[TransactionType.USAGE] += sum(row[:2])
        counts.transactions[TransactionType.SUBSCRIPTION_FEE] += found["fees"]
        counts.draws["volume"] += found["draws"][0]
        counts.draws["money"] += found["draws"][1]
        counts.late += found["late"]
        for (number, index), outcome, name, catalog in found["refused"]:
            side = Side(self._topics[number], self._records[number], index, catalog=catalog)
            steps.reject(batch, side, refused(outcome, name, SIDES[index]))
        self._guard.count_returned(batch, self._suspect)
