"""A lane's requests to its buckets.

Each bears the lane's token and the number that the bucket expects (`BucketCursor`), so that one of a dead
owner, or one that comes twice, is refused. While a lane rates it waits for a store that is down or closed;
while it is taken nothing is waited for here: taking it begins again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from rater.core.bucket.messages import (
    EXPIRE_GENERATIONS_MAX,
    DrawReply,
    DrawRequest,
    FenceReply,
    Reconcile,
    Status,
    ViewsReply,
    bucket_of,
    clients_of,
)
from rater.core.clients.alike import Alike
from rater.core.clients.planning import Known
from rater.core.clients.state import ClientState, read_state
from rater.core.clients.views import Views
from rater.core.instants import HOUR_MS
from rater.core.journal.outcomes import KeptChange, Upon, changes_of, write_copy
from rater.core.line import steps
from rater.core.line.batch import Batch, Side
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import WOKEN_INDEX_MIN, index_of, woken
from rater.core.line.steps import Requests
from rater.core.sources.source_map import SourceMap
from rater.errors import Fenced, Halt, Retake, StoreDown
from rater.store.buckets import Buckets
from rater.worker.due_work import DueWork
from rater.worker.lane import Lane
from rater.worker.shared import Shared

PROBE_S = 1.0
"""An idle lane asks its buckets this often whether they still know it: else a flushed store stays closed for
all."""
EXPIRE_S = 60.0
"""How often a lane lets each bucket drop generations of duplicates that nobody can ask for any more."""
CLOSED_RETRY_S = 0.05
"""How long to wait for the other lanes to register at a bucket's gate before asking again."""
CLOSED_WHY = (
    "waiting until every lane has registered with the store: it lost history, or workers of another version "
    "still have lanes"
)
DOWN_RETRY_S = 0.2
"""How long to wait before a call that did nothing is repeated while the store is away."""
ASK_WHOLE_MAX = 10_000
"""Clients remembered as such whose first limits did not do; emptied when full. Without it the sides of their
bucket would be matched and drawn twice in each batch: from identify to pack, 19 of a side's 29 µs
(benchmarks/line.py). It changes nothing but that."""


class Reply(Protocol):
    """What every reply of the store has."""

    @property
    def status(self) -> Status:
        """What became of the call."""


R = TypeVar("R", bound=Reply)
T = TypeVar("T")


class LaneBuckets:
    """The buckets as one lane calls them."""

    def __init__(self, lane: Lane, shared: Shared) -> None:
        """Call for this lane. What is shared stands here too, for those who work with both."""
        self.lane = lane
        self.connections = shared.connections
        self.views = shared.views
        self.native = shared.native
        self.readiness = shared.readiness
        self._slowest = shared.oldest
        self.keep_ms = 0
        """Calls from before cannot come any more, whatever the lane; 0: not known yet."""
        self.ask_whole: set[str] = set()
        """Clients that are asked with all of their limits at once. Only how often is asked depends on it."""
        self.due = DueWork(lane, shared.connections, self.asked)
        """What is due of clients of the lane's own buckets, and that no call meets."""
        self.alike: Alike | None = None
        """What was planned for new clients of the load that is carried out."""
        self._asked_at = self._expired_at = time.monotonic()

    # ------------------------------------------------------------------ taking the lane
    async def fence(self, bucket: int) -> FenceReply:
        """Make the lane ours in a bucket; returns what the bucket keeps of it, or that a rival has it."""
        reply = await self.connections.store.fence(bucket, self.lane.number, self.lane.token)
        if reply.status == Status.OK:
            self.lane.cursors[bucket].expected = reply.number
        return reply

    async def reconcile(self, bucket: int, what: Reconcile) -> None:
        """Add corrections to a bucket. Raises Fenced (a rival took the lane), Retake."""
        self._go_on(bucket, *await self.connections.store.reconcile(bucket, what))

    async def register(self, bucket: int) -> None:
        """Register the lane at a bucket's gate. Raises Fenced (a rival took the lane), Retake."""
        lane, expected = self.lane, self.lane.cursors[bucket].expected
        reply = await self.connections.store.register(bucket, lane.number, lane.token, expected)
        self._go_on(bucket, *reply)

    def _go_on(self, bucket: int, status: Status, expected: int) -> None:
        if status == Status.FENCED:
            raise Fenced
        if status != Status.OK:
            raise Retake(status.name)
        self.lane.cursors[bucket].expected = expected

    # ------------------------------------------------------------------ rating
    async def look_up(self, bucket: int, clients: set[str], accounts: set[str], views: Views) -> None:
        """Fetch views of one bucket into the cache."""
        reply = await self.fetch(bucket, clients, accounts)
        views.learn(clients, accounts, reply.states, reply.accounts, reply.balances)

    async def states(self, bucket: int, clients: set[str]) -> dict[str, tuple[ClientState, Known]]:
        """Return clients of a bucket as they are, without having views of them: nobody calls."""
        reply = await self.fetch(bucket, clients, set())
        return {
            client: (read_state(raw), Known(reply.balances.get(client)))
            for client, raw in reply.states.items()
        }

    async def fetch(self, bucket: int, clients: set[str], accounts: set[str]) -> ViewsReply:
        """Return states and account entries of one bucket."""
        lane, store = self.lane, self.connections.store
        return await self.asked(
            lambda: store.views(
                bucket, lane.number, lane.token, lane.cursors[bucket].expected, list(clients), list(accounts)
            )
        )

    async def draw(self, batch: Batch, requests: Requests, views: Views) -> list[Side]:
        """Draw from all buckets at once; returns the sides that have to be matched again."""
        drawn = await self.together(
            [self.draw_one(batch, bucket, builder, views) for bucket, builder in requests.items()]
        )
        return [
            side
            for builder, done in zip(requests.values(), drawn, strict=True)
            if not done
            for side in builder.sides
        ]

    def map_of(self, topic: str) -> SourceMap | None:
        """Return the map by which a topic's records are read, by the time zones in force; None: by none."""
        source_map, catalog = self.connections.maps.get(topic), self.lane.catalog
        return source_map if source_map is None or catalog is None else source_map.under(catalog.zones)

    async def together(self, asking: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Ask several buckets at once; returns what each says."""
        tasks = [asyncio.create_task(one) for one in asking]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            # Else one that waits for its bucket would go on asking, and tell of a lane that is not ours.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def take_whole(self, clients: set[str]) -> None:
        """Note clients whose first limits did not do."""
        if clients and len(self.ask_whole) >= ASK_WHOLE_MAX:
            self.ask_whole.clear()
        self.ask_whole |= clients

    async def draw_one(
        self, batch: Batch, bucket: int, builder: RequestBuilder, views: Views, *, keep: bool = True
    ) -> bool:
        """Draw from one bucket; False: nothing was changed, the sides have to be matched again.

        Views were stale, and are fresh now; or something is due first, and the request knows what; or the
        first limits of a side did not do, and it gets all. keep: have views of clients that were changed;
        else they are looked up when they are wanted again.
        """
        cursor = self.lane.cursors[bucket]
        request, reply = await self._draw(bucket, builder)
        if reply.status == Status.STALE:
            for client, state in reply.stale:
                views.put(client, state)
                views.known.pop(client, None)
            self.connections.metrics.redis_retried()
            return False
        if reply.status == Status.DUE:
            builder.due = reply.due
            for due in reply.due:
                if due.item is not None:  # its balance is behind what the call did before, which is not done
                    views.parted.setdefault(due.client, builder.sides[due.item])  # the first of several
                    continue
                before = views.known.get(due.client, Known())
                views.known[due.client] = Known(due.balance, {**before.counters, **due.counters})
            self.connections.metrics.redis_retried()
            return False
        if reply.status == Status.MORE:
            self.take_whole(steps.ask_whole(builder, reply.more))
            self.connections.metrics.redis_retried()
            return False
        cursor.expected = reply.number
        batch.requests[bucket] = request.number
        for change in request.changes:
            views.changed(change.client, change.state, keep=keep)
            if self.native is not None:
                self.native.changed(change.client, change.state, keep=keep)
        for client in clients_of(request):
            views.known.pop(client, None)  # it was as it is no more
        steps.settle(batch, builder, reply)
        return True

    async def _draw(self, bucket: int, builder: RequestBuilder) -> tuple[DrawRequest, DrawReply]:
        """Ask a bucket, until changes have with them what of other lanes they go on from (outrun.py)."""
        lane, cursor, store = self.lane, self.lane.cursors[bucket], self.connections.store
        while True:
            request = builder.request(lane.standing, lane.token, cursor.expected, cursor.trim, cursor.floor)
            reply = await self.asked(partial(store.draw, bucket, request))
            if reply.status != Status.UNSETTLED:
                return request, reply
            upon = await unpublished(store, bucket, reply.unsettled, lane)
            for client, changes in upon.items():
                builder.carry(client, changes)

    async def wake(self, batch: Batch, side: Side, views: Views) -> int:
        """Do what clears of pending charges now that a side has raised its client's balance.

        Returns the version of the catalog that has to be had before, 0: it is done.
        """
        assert side.head is not None  # noqa: S101 - it was drawn
        client, bucket = side.head.client, bucket_of(side.head.client, self.connections.store.count)
        while True:
            if client not in views.fetched or client not in views.known:
                await self.look_up(bucket, {client}, set(), views)
            view, catalog = views.fetched.get(client), self.lane.catalog
            if view is None or catalog is None:
                return 0  # it is gone: the next draw of the client finds it out
            if view.catalog > catalog.version:
                return view.catalog
            change = woken(side, view, catalog, views, self.lane.standing, self.keep_ms)
            if change is None:
                return 0
            request = RequestBuilder()
            index = index_of(batch, side, WOKEN_INDEX_MIN)
            request.change(change, side.topic, side.record, index)
            if await self.draw_one(batch, bucket, request, views):
                return 0

    # ------------------------------------------------------------------ now and then
    async def probe_if_idle(self) -> None:
        """Ask every bucket whether it still knows us, unless one was asked anything in the last PROBE_S."""
        if time.monotonic() - self._asked_at >= PROBE_S:
            for bucket in range(self.connections.store.count):
                await self.asked(partial(self._probe, bucket), patient=False)

    async def _probe(self, bucket: int) -> ViewsReply:
        lane, store = self.lane, self.connections.store
        status = await store.probe(bucket, lane.number, lane.token, lane.cursors[bucket].expected)
        return ViewsReply(status, {}, {})

    async def expire_if_due(self) -> None:
        """Expire once in EXPIRE_S."""
        if time.monotonic() - self._expired_at >= EXPIRE_S:
            await self.expire()

    async def expire(self) -> None:
        """Let every bucket drop generations of duplicates that are over for all lanes."""
        self._expired_at = time.monotonic()
        slowest_ms = await self._slowest.lane_ms(self.connections)
        self.keep_ms = max(0, slowest_ms - self.connections.window_ms - HOUR_MS)
        for bucket in range(self.connections.store.count):
            while await self._expire(bucket) == EXPIRE_GENERATIONS_MAX:
                pass

    async def _expire(self, bucket: int) -> int:
        """Return how many generations were dropped."""
        lane, cursor = self.lane, self.lane.cursors[bucket]
        length_ms, store = self.connections.generation_ms, self.connections.store
        reply = await self.asked(
            lambda: store.expire(
                bucket, lane.number, lane.token, cursor.expected, lane.standing.lane_ms, length_ms
            ),
            patient=False,
        )
        if reply.status == Status.OK:
            cursor.expected = reply.number
        return reply.dropped

    # ------------------------------------------------------------------ inside
    async def asked(self, ask: Callable[[], Awaitable[R]], *, patient: bool = True) -> R:
        """Ask a bucket; wait while it is down or closed; leave the line when it does not know us.

        patient: wait for a closed one too; else that is the reply.
        """
        metrics, readiness, number = self.connections.metrics, self.readiness, self.lane.number
        while True:
            self._asked_at = time.monotonic()
            try:
                reply = await ask()
            except StoreDown as error:
                readiness.unready(number, str(error))
                metrics.redis_retried()
                await asyncio.sleep(DOWN_RETRY_S)
                continue
            if reply.status == Status.CLOSED:
                readiness.unready(number, CLOSED_WHY)
                if not patient:
                    return reply
                metrics.redis_retried()
                await asyncio.sleep(CLOSED_RETRY_S)
                continue
            _check(reply.status)
            readiness.ready(number)
            return reply


def _check(status: Status) -> None:
    """Raise what to do about a bucket that does not answer as one of ours."""
    if status == Status.FENCED:
        raise Fenced
    if status == Status.REGRESSED:
        raise Retake("the store does not know this lane as it was left: it went backwards or was emptied")
    if status == Status.LOST:
        raise Halt(
            "a client's keys are gone from Redis while the rest of its bucket is there; nothing but rater "
            "may write or evict keys of its prefix. Delete all keys of the prefix: they are rebuilt from "
            "Kafka"
        )


async def unpublished(
    store: Buckets, bucket: int, unsettled: list[tuple[str, int]], own: Lane
) -> dict[str, list[Upon]]:
    """Return, by client, the changes that are kept of another lane, and those that they went on from.

    Of these only what their lanes keep still: all else is published. unsettled: clients, each with the lane
    of its last change. own: the asking lane, which publishes its own in their order.
    """
    kept: dict[int, list[KeptChange]] = {}
    found: dict[str, list[Upon]] = {}
    for client, other in unsettled:
        found[client] = []
        lanes, asked = [other], {own.number}
        while lanes:
            lane = lanes.pop()
            if lane in asked:
                continue
            asked.add(lane)
            if lane not in kept:
                outcomes = await store.kept(bucket, lane)
                kept[lane] = [change for _, context, _ in outcomes for change in changes_of(context)]
            for change in kept[lane]:
                if change.client == client:
                    copy = write_copy(change, own.ids.get(change.topic, ""))
                    found[client].append(Upon(lane, copy))
                    lanes += [of.lane for of in change.upon]
    return found
