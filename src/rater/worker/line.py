"""The straight line of one lane while we own it: poll → decode → identify → match → draw → rate → commit.

How a lane is taken is in takeover.py, what the steps decide in core/line/steps.py, what they promise together
in README.md ("The protocol in one page").
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from rater.core.bucket.messages import EXPIRE_GENERATIONS_MAX, Status, ViewsReply
from rater.core.clients.views import Views
from rater.core.commands.records import Do, write_command
from rater.core.line import batch as batch_module
from rater.core.line import steps
from rater.core.line.batch import Batch, Side
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.steps import Lacking, Requests
from rater.errors import Fenced, Halt, Retake, StoreDown
from rater.stream.journal import Mark
from rater.worker.commands import catch_up, obey
from rater.worker.shared import Parts
from rater.worker.takeover import Taken

BATCHES_AHEAD_MAX = 2
"""Batches drawn and waiting while others are committed: enough to overlap draw and commit (PROTOCOL.md
5.3), few enough that a take-over replays little and memory stays bounded."""
BACKLOG_RECORDS = 1000
"""A lane that is so many records behind does not wait for company."""
COMMIT_RECORDS_MAX = 4000
"""Records, read from the input, whose results one Kafka transaction takes together: beyond it only latency
grows (PROTOCOL.md 5.3)."""
AGE_LANES = 4
"""The batch age is for so many lanes and grows with more: a batch costs 2-3 ms of this process whatever it
carries, 1-1.5 of it the Kafka transaction (PROTOCOL.md 5.3)."""
REST_MS = 4
"""How long what has gathered in the broker meanwhile may take to come."""
EXPIRE_S = 60.0
"""How often a lane lets each bucket drop generations of duplicates that nobody can ask for any more."""
TICK_S = 3600.0
"""A lane without records writes itself a command so often: its record's time moves the lane's, which else
would hold back what is dropped by the slowest lane. Kafka refuses a record an hour ahead, so a wrong clock
does no harm."""
PROBE_S = 1.0
"""An idle lane asks its buckets this often whether they still know it: else a flushed store stays closed for
all."""
CLOSED_RETRY_S = 0.05
"""How long to wait for the other lanes to register at a bucket's gate before asking again."""
DOWN_RETRY_S = 0.2
"""How long to wait before a call that did nothing is repeated while the store is away."""
ROUNDS_MAX = 8
"""So often sides are matched again because a client's state changed meanwhile, or the first limits did not
do; nearly all come to rest in two. Then they are taken apart, in the end to one record with all limits."""
ASK_WHOLE_MAX = 10_000
"""Clients remembered as such whose first limits did not do; emptied when full: what it saves is a repeat."""


class Reply(Protocol):
    """What every reply of the store has."""

    @property
    def status(self) -> Status:
        """What became of the call."""


R = TypeVar("R", bound=Reply)


class Line:
    """One lane, taken: rates its records until told to stop, then drains."""

    def __init__(self, taken: Taken, parts: Parts) -> None:
        """Work on what `taking.take` returned."""
        self.taken = taken
        self.parts = parts
        self.asked_at = self.expired_at = self.moved_at = self.progressed_at = time.monotonic()
        self.ask_whole: set[str] = set()
        """Clients that are asked with all of their limits at once. Only how often is asked depends on it."""
        self.unfinished: dict[str, int] = {}
        """Topic → first offset of what waited when the lane was lost, until something is committed again."""
        self.steps: list[str] = []
        """Steps of the line that are under way: one batch is committed while the next is rated."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a step of the line, and know of it while it lasts."""
        self.steps.append(name)
        try:
            with self.parts.metrics.stage(name):
                yield
        finally:
            self.steps.remove(name)

    async def stuck(self) -> dict[str, int]:
        """Return topic → first offset of what waits if nothing was committed for too long, else nothing.

        For a batch to gather is not too long.
        """
        waiting, now = await self.taken.source.waiting() or self.unfinished, time.monotonic()
        if not waiting:
            self.progressed_at = now
        after_s = self.parts.settings.worker.stuck_after_s + self.age_s
        return waiting if now - self.progressed_at >= after_s else {}

    @property
    def age_s(self) -> float:
        """So long a lane that keeps up lets a batch gather."""
        return self.parts.settings.worker.batch_age_ms / 1000 * max(1.0, len(self.parts.lanes) / AGE_LANES)

    @property
    def step(self) -> str:
        """The step of the first record that is not committed."""
        return "commit" if "commit" in self.steps else self.steps[-1] if self.steps else "poll"

    async def run(self, stop: asyncio.Event) -> None:
        """Rate and commit, overlapping; returns when `stop` is set and all that was drawn is committed."""
        ready: asyncio.Queue[Batch | None] = asyncio.Queue(BATCHES_AHEAD_MAX)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_ours(self._rate_all, ready, stop))
            tasks.create_task(_ours(self._commit_all, ready))

    async def _rate_all(self, ready: asyncio.Queue[Batch | None], stop: asyncio.Event) -> None:
        while not stop.is_set():
            batches = deque(await self.poll())
            while batches:  # held by nobody else, so that one that is committed is gone
                batch = batches.popleft()
                await self.rate(batch)
                batch.release()
                await ready.put(batch)
                del batch
            if time.monotonic() - self.expired_at >= EXPIRE_S:
                await self.expire()
        await ready.put(None)

    async def _commit_all(self, ready: asyncio.Queue[Batch | None]) -> None:
        batch = await ready.get()
        while batch is not None:
            batches, records = [batch], batch.records
            batch = None
            while records < COMMIT_RECORDS_MAX and not ready.empty():
                batch = ready.get_nowait()
                if batch is None:
                    await self.commit(batches)
                    return
                batches.append(batch)
                records += batch.records
            await self.commit(batches)
            del batches
            batch = await ready.get()

    async def poll(self) -> list[Batch]:
        """Return what has come in, in slices; a lane that keeps up lets a batch gather for the batch age."""
        settings, source = self.parts.settings.worker, self.taken.source
        if self.keeps_up():
            await asyncio.sleep(self.moved_at + self.age_s - time.monotonic())
        polled = await source.poll(timeout_ms=int(PROBE_S * 1000))
        if polled:
            if self.keeps_up():
                # That brought what the library fetched ahead when the last batch went; this brings the rest.
                polled += await source.poll(timeout_ms=REST_MS)
            self.moved_at = time.monotonic()
        elif time.monotonic() - self.moved_at >= TICK_S:
            return [self.tick()]
        elif time.monotonic() - self.asked_at >= PROBE_S:
            await self.probe()
        return batch_module.slices(self.taken.standing, polled, settings.batch_records_max)

    def keeps_up(self) -> bool:
        """Return whether hardly anything waits: neither in the broker nor commands that were fetched."""
        source = self.taken.source
        return source.backlog() < BACKLOG_RECORDS and not source.held

    async def rate(self, batch: Batch) -> None:
        """Bring a batch from bytes to transactions; nothing of it is visible before `commit`."""
        parts, taken, stage = self.parts, self.taken, self.stage
        for record in batch.commands:
            await obey(self, batch, record)
        if taken.catalog is not None:
            parts.bare.discard(taken.lane)
        batch.catalog, batch.body = (taken.catalog.version, taken.body) if taken.catalog else (0, 0)
        services = taken.catalog.service_names if taken.catalog else frozenset()
        with stage("decode"):
            maps = parts.maps
            if taken.catalog is not None:
                maps = {topic: found.under(taken.catalog.zones) for topic, found in maps.items()}
            sides = steps.decode(batch, taken.standing, maps, services)
        if sides:
            await self.decide(batch, sides, parts.batch_views())
        if taken.catalog is not None:  # it may have caught up meanwhile
            batch.catalog, batch.body = taken.catalog.version, taken.body
        with stage("rate"):
            steps.render(batch, taken.standing)
        batch.pending_left = len(taken.standing.pending)

    async def decide(self, batch: Batch, sides: list[Side], views: Views) -> None:
        """Match and draw until each side is decided: nearly always once.

        Sides that do not come to rest within ROUNDS_MAX are taken apart; one record alone is asked until it
        does, which only changes of its client, one after the other, can hold up.
        """
        every, rounds = sides, 0
        while sides:
            calls = await self.match(sides, views)
            if again := steps.outdated(every, self.taken.catalog):
                # The lane has caught up since: what was rejected until then is judged by the same catalog.
                again |= set(map(id, sides))
                sides = [side for side in every if id(side) in again]
                continue
            with self.stage("draw"):
                sides = await self.draw(batch, calls, views)
            rounds += 1
            if rounds >= ROUNDS_MAX and len(parted := steps.halves(sides)) > 1:
                for part in parted:
                    for side in part:
                        side.whole = True
                    await self.decide(batch, part, views)
                return

    async def match(self, sides: list[Side], views: Views) -> Requests:
        """Return the calls of sides: whose they are, what they may draw from, what they cost.

        Each time that something is lacking, it is had the next time: so this ends.
        """
        while True:
            await self.identify(sides, views)
            catalog = self.taken.catalog
            assert catalog is not None  # noqa: S101 - data is read from when there is one
            with self.stage("match"):
                lacking = steps.price(sides, catalog, views)
                if not lacking:
                    requests, lacking = steps.match(
                        sides, catalog, views, self.parts.store.count, self.ask_whole
                    )
                    if not lacking:
                        return requests
            with self.stage("identify"):
                await self.have(lacking, views)

    async def identify(self, sides: list[Side], views: Views) -> None:
        """Find whose calls they are, having what is lacking first (read-only: safe at any crash)."""
        with self.stage("identify"):
            while True:
                catalog = self.taken.catalog
                assert catalog is not None  # noqa: S101 - data is read from when there is one
                lacking = steps.identify(sides, catalog, views)
                if not lacking:
                    return
                await self.have(lacking, views)

    async def have(self, lacking: Lacking, views: Views) -> None:
        """Fetch views and account entries, and catch up with the catalog that they need."""
        for bucket, (clients, accounts) in lacking.by_bucket(self.parts.store.count).items():
            await self.look_up(bucket, clients, accounts, views)
        catalog = self.taken.catalog
        if catalog is not None and lacking.catalog > catalog.version:
            await catch_up(self, lacking.catalog)

    async def look_up(self, bucket: int, clients: set[str], accounts: set[str], views: Views) -> None:
        """Fetch views of one bucket into the cache."""
        lane, token = self.taken.lane, self.taken.token
        reply = await self.asked(
            lambda: self.parts.store.views(
                bucket, lane, token, self.taken.calls[bucket], list(clients), list(accounts)
            )
        )
        views.learn(clients, accounts, reply.registers, reply.accounts)

    async def draw(self, batch: Batch, calls: Requests, views: Views) -> list[Side]:
        """Draw from all buckets at once; returns the sides that have to be matched again."""
        tasks = [
            asyncio.create_task(self.draw_one(batch, bucket, call, views)) for bucket, call in calls.items()
        ]
        try:
            drawn = await asyncio.gather(*tasks)
        except BaseException:
            # Else one that waits for its bucket would go on asking, and tell of a lane that is not ours.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return [
            side for call, done in zip(calls.values(), drawn, strict=True) if not done for side in call.sides
        ]

    async def draw_one(self, batch: Batch, bucket: int, call: RequestBuilder, views: Views) -> bool:
        """Draw from one bucket; False: nothing was changed, the sides have to be matched again.

        Views were stale, and are fresh now; or something is due first, and the request knows what; or the
        first limits of a side did not do, and it gets all.
        """
        taken = self.taken
        request = call.request(
            taken.standing, taken.token, taken.calls[bucket], taken.trims[bucket], taken.floors[bucket]
        )
        reply = await self.asked(lambda: self.parts.store.draw(bucket, request))
        if reply.status == Status.STALE:
            for client, register in reply.stale:
                views.put(client, register)
            self.parts.metrics.redis_retried()
            return False
        if reply.status == Status.DUE:
            call.due = reply.due
            self.parts.metrics.redis_retried()
            return False
        if reply.status == Status.MORE:
            if len(self.ask_whole) >= ASK_WHOLE_MAX:
                self.ask_whole.clear()
            self.ask_whole |= steps.ask_whole(call, reply.more)
            self.parts.metrics.redis_retried()
            return False
        taken.calls[bucket] = reply.call
        batch.calls[bucket] = request.call
        steps.settle(batch, call, reply)
        return True

    async def commit(self, batches: list[Batch]) -> None:
        """Publish in one Kafka transaction: transactions, rejected, events, and the mark: how far we are."""
        taken, last = self.taken, batches[-1]
        mark = Mark(
            positions=last.positions,
            times=last.times,
            catalog=last.catalog,
            body=last.body,
            lane_ms=last.lane_ms,
            token=taken.token,
            ids=taken.ids,
        )
        with self.stage("commit"):
            offset = await taken.producer.commit(
                [out for batch in batches for out in (*batch.controls, *batch.transactions)],
                [out for batch in batches for out in batch.rejected],
                [out for batch in batches for out in batch.events],
                mark,
                [out for batch in batches for out in batch.ticks],
            )
        for batch in batches:
            for bucket, call in batch.calls.items():
                taken.published[bucket] = call
        if not last.pending_left:
            # What a predecessor drew and did not publish is kept until it is published too. Then it all goes
            # with the floor's next rise: kept and not found in the journal from there on, it would be undone.
            # One commit late: brokers that are killed may forget the last one, and never the one before.
            if taken.behind is not None:
                taken.trims, floor = taken.behind
                taken.floors = [floor] * len(taken.floors)
            taken.behind = list(taken.published), offset + 1
        committed_ms = time.time_ns() // 1_000_000
        for batch in batches:
            self.parts.metrics.add(batch.counts, committed_ms=committed_ms)
        taken.source.committed(last.positions, last.times)
        self.progressed_at, self.unfinished = time.monotonic(), {}

    async def probe(self) -> None:
        """Ask every bucket whether it still knows us, while nothing comes in."""
        lane, token = self.taken.lane, self.taken.token
        for bucket in range(self.parts.store.count):
            await self.asked(partial(self._probe, bucket, lane, token), patient=False)

    async def expire(self) -> None:
        """Let every bucket drop generations of duplicates that are over for all lanes."""
        taken, store = self.taken, self.parts.store
        self.expired_at = time.monotonic()
        for bucket in range(store.count):
            dropped = EXPIRE_GENERATIONS_MAX
            while dropped == EXPIRE_GENERATIONS_MAX:
                reply = await self.asked(
                    lambda bucket=bucket: store.expire(  # type: ignore[misc]  # the loop's value, bound now
                        bucket, taken.lane, taken.token, taken.calls[bucket], taken.standing.lane_ms,
                        self.parts.generation_ms,
                    ),
                    patient=False,
                )  # fmt: skip
                dropped = reply.dropped
                if reply.status == Status.OK:
                    taken.calls[bucket] = reply.call

    def tick(self) -> Batch:
        """Return a batch that is nothing but a command to this lane, with the time of now."""
        self.moved_at = time.monotonic()
        batch, at_ms = Batch(self.taken.standing, []), time.time_ns() // 1_000_000
        command = write_command(f"tick/{self.taken.lane}/{at_ms}", Do.TICK, at_ms, {})
        batch.ticks.append((None, command, []))
        return batch

    async def _probe(self, bucket: int, lane: int, token: int) -> ViewsReply:
        status = await self.parts.store.probe(bucket, lane, token, self.taken.calls[bucket])
        return ViewsReply(status, {}, {})

    async def asked(self, ask: Callable[[], Awaitable[R]], *, patient: bool = True) -> R:
        """Ask a bucket; wait while it is down or closed; leave the line when it does not know us."""
        while True:
            self.asked_at = time.monotonic()
            try:
                reply = await ask()
            except StoreDown as error:
                self.parts.unready(self.taken.lane, str(error))
                self.parts.metrics.redis_retried()
                await asyncio.sleep(DOWN_RETRY_S)
                continue
            if reply.status == Status.CLOSED:
                self.parts.unready(
                    self.taken.lane, "the store lost history; waiting until every lane has reconciled it"
                )
                if not patient:
                    return reply
                self.parts.metrics.redis_retried()
                await asyncio.sleep(CLOSED_RETRY_S)
                continue
            if reply.status == Status.FENCED:
                raise Fenced
            if reply.status == Status.REGRESSED:
                raise Retake(
                    "the store does not know this lane as it was left: it went backwards or was emptied"
                )
            if reply.status == Status.LOST:
                raise Halt(
                    "a client's keys are gone from Redis while the rest of its bucket is there; nothing but "
                    "rater may write or evict keys of its prefix. Delete all keys of the prefix: they are "
                    "rebuilt from Kafka"
                )
            self.parts.ready(self.taken.lane)
            return reply


async def _ours(work: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Do a part of a lane's work; a cancellation that nobody asked for is Retake.

    Libraries pass on those of their own tasks, and a task that one ends has ended without a word: its lane
    would be served by nobody.
    """
    try:
        await work(*arguments)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Retake("a library cancelled its own work, and ours with it") from None
