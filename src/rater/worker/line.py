"""The straight line of one lane while we own it.

poll → decode → identify → price → match → draw → render → commit. What the steps decide is in
core/line/steps.py; what they promise together in README.md ("The protocol in one page"); how a lane is taken
in takeover.py.

A client's change is no step: `rater.commands` brings it, commands.py has it decided (core/clients/changes.py)
and drawn by the same request to the bucket. What is due of a client before a call is decided beside its sides
(core/line/due.py) and drawn with them, before them (decisions/0060-one-change.md).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any

from rater.core.clients.views import Views
from rater.core.commands.records import write_command
from rater.core.instants import is_stamp
from rater.core.kinds import Do
from rater.core.line import steps
from rater.core.line.batch import Batch, Side, slices
from rater.core.line.due import part
from rater.core.line.steps import Lacking, Requests
from rater.worker.ahead import ROUNDS_MAX, go_ahead
from rater.worker.buckets import PROBE_S, LaneBuckets
from rater.worker.commands import OWN_TICK, carry_out, catch_up
from rater.worker.faults import ours
from rater.worker.index import to_numbers
from rater.worker.lane import Lane
from rater.worker.outrun import make_again
from rater.worker.panics import proven
from rater.worker.past import Past
from rater.worker.rerating import first_sides, leave_rejected
from rater.worker.shared import Shared
from rater.worker.snapshots import Snapshots

BATCHES_AHEAD_MAX = 2
"""Batches drawn and waiting while others are committed: enough to overlap draw and commit (PROTOCOL.md
5.3), few enough that a take-over replays little and memory stays bounded."""
BACKLOG_RECORDS = 1000
"""A lane that is so many records behind does not wait for company."""
COMMIT_RECORDS_MAX = 4000
"""Records, read from the input, whose results one Kafka transaction takes together: beyond it only latency
grows (PROTOCOL.md 5.3)."""
REST_MS = 4
"""How long what has gathered in the broker meanwhile may take to come."""
TICK_S = 3600.0
"""A lane whose time does not move, for nothing comes or records with old times, writes itself a command so
often: its record's time moves the lane's, which else would hold back what is dropped by the slowest lane.
Kafka refuses a record an hour ahead, so a wrong clock does no harm."""
STALE_S = 600.0
"""Records without a time are judged by a lane's time that is no older, and else by a tick that is read first:
at most one in so many seconds (decisions/0080-records-without-a-time.md)."""
TICK_AGAIN_S = 5.0
"""So long records without a time wait for their tick until another is written."""


def has_undated(polled: list[tuple[str, list[Any]]], commands: str) -> bool:
    """Return whether there are calls without a time. commands: a topic of none."""
    every = (record for topic, records in polled if topic != commands for record in records)
    return any(not is_stamp(record.timestamp) for record in every)


class Line:
    """One lane, taken: rates its records until told to stop, then drains."""

    def __init__(self, lane: Lane, shared: Shared) -> None:
        """Work on a lane that `takeover.take` returned."""
        self.lane = lane
        self.shared, self.connections = shared, shared.connections
        self.buckets = LaneBuckets(lane, shared)
        self.snapshots = Snapshots(self.buckets, shared.oldest)
        self.past = Past(shared.connections.store)
        self.moved_at = time.monotonic()
        """When something came in last."""
        self.risen_at, self.risen_to = self.moved_at, 0
        """When the lane's time was seen to rise last, or was to by a tick; and what it was."""
        self.undated: list[tuple[str, list[Any]]] = []
        """Polled, some without a time: they wait for the tick."""
        self.tick, self.ticked_at = b"", float("-inf")
        """The last command of the lane to itself; when that was made for records without a time."""

    async def run(self, stop: asyncio.Event) -> None:
        """Process and commit, overlapping; returns when `stop` is set and all that was drawn is committed."""
        ready: asyncio.Queue[Batch | None] = asyncio.Queue(BATCHES_AHEAD_MAX)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ours(self._process_all, ready, stop))
            tasks.create_task(ours(self._commit_all, ready))

    async def _process_all(self, ready: asyncio.Queue[Batch | None], stop: asyncio.Event) -> None:
        while not stop.is_set():
            batches = deque(await self.poll())
            while batches:  # held by nobody else, so that one that is committed is gone
                batch = batches.popleft()
                await self.process(batch)
                if not batch.polled:  # no calls: one commit for what a tick did and for the next
                    batch.ticks += await self.buckets.due.ticks()
                batch.release()
                await ready.put(batch)
                del batch
            await self.buckets.expire_if_due()
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

    # ------------------------------------------------------------------ the line
    async def poll(self) -> list[Batch]:
        """Return what has come in, in slices; a lane that keeps up lets a batch gather for the batch age."""
        if self.undated:
            return await self._poll_commands()
        reader = self.lane.reader
        if self._keeps_up():
            await asyncio.sleep(self.moved_at + self.shared.batch_age_s - time.monotonic())
        is_due = self.buckets.due.ready() or self.snapshots.ready()
        polled = await reader.poll(timeout_ms=0 if is_due else int(PROBE_S * 1000))
        if polled:
            if self._keeps_up():
                # That brought what the library fetched ahead when the last batch went; this brings the rest.
                polled += await reader.poll(timeout_ms=REST_MS)
            self.moved_at = time.monotonic()
        else:
            await self.buckets.probe_if_idle()
        if not self._lacks_time(polled):
            ticks = [self._tick()] if self._stands_still() else await self._due_ticks()
            return [*self._slices(polled), *ticks, *await self.snapshots.batches()]
        commands, self.ticked_at = self.connections.topics.commands, time.monotonic()
        self.undated = [part for part in polled if part[0] != commands]
        return [*self._slices([part for part in polled if part[0] == commands]), self._tick()]

    async def _poll_commands(self) -> list[Batch]:
        """Return the commands that have come in; with the tick what waits for it, behind them."""
        polled = await self.lane.reader.poll(timeout_ms=int(PROBE_S * 1000), commands_only=True)
        if any(record.value == self.tick for _, records in polled for record in records):
            polled, self.undated = polled + self.undated, []
        elif time.monotonic() - self.ticked_at >= TICK_AGAIN_S:
            # The end of its Kafka transaction may be forgotten by the brokers: the next one's ends it too.
            self.ticked_at = time.monotonic()
            return [*self._slices(polled), self._tick()]
        return self._slices(polled)

    async def process(self, batch: Batch) -> None:
        """Bring a batch from bytes to transactions; nothing of it is visible before `commit`."""
        lane, standing = self.lane, self.lane.standing
        await make_again(self.buckets, batch)
        for record in batch.commands:
            await carry_out(self.buckets, batch, record)
        batch.position = standing.position  # commands may have brought a catalog
        ahead = go_ahead(self.buckets, batch)
        with lane.progress.stage("decode"):
            sides = self._decode(batch) if ahead is None else ahead.take()
        if batch.decided_by > batch.catalog:
            # An owner before had read that load; the mark names no older one than what it goes with.
            await catch_up(self.buckets, batch, batch.decided_by)
        views = self.shared.views.of_batch()
        if ahead is not None:
            wake, match = partial(self.wake, batch, views), partial(self.match, batch, views=views)
            sides = await proven(await ahead.rate(wake), ahead.doubtful, standing, match)
        await self.decide(batch, [*sides, *first_sides(self.buckets, batch)], views)
        leave_rejected(batch)
        batch.position = standing.position = standing.position.behind(batch.last)
        with lane.progress.stage("render"):
            steps.render(batch, standing)
            if ahead is not None:
                ahead.publish()
        lane.processed(batch)

    async def commit(self, batches: list[Batch]) -> None:
        """Publish in one Kafka transaction: transactions, rejected, events, and the mark: how far we are."""
        lane = self.lane
        with lane.progress.stage("commit"):
            mark_offset = await lane.producer.commit(
                [out for batch in batches for out in batch.journaled()],
                [out for batch in batches for out in batch.rejected],
                [out for batch in batches for out in batch.events],
                lane.mark(batches[-1].position),
                [out for batch in batches for out in batch.ticks],
                to_numbers(batches, self.connections.store.count, self.connections.topics.partitions),
                [out for batch in batches for out in batch.snapshots],
            )
        lane.committed(batches, mark_offset)
        committed_ms = time.time_ns() // 1_000_000
        for batch in batches:
            self.connections.metrics.add(batch.counts, committed_ms=committed_ms)

    # ------------------------------------------------------------------ from sides to results
    async def decide(self, batch: Batch, sides: list[Side], views: Views) -> None:
        """Identify, price, match and draw until each side is decided: nearly always once.

        Sides that do not come to rest within ROUNDS_MAX are taken apart; one record alone is asked until it
        does, which only changes of its client, one after the other, can hold up.
        """
        every, rounds = sides, 0
        await self.wake(batch, views)
        while sides:
            requests, later = await self.match(batch, sides, views)
            if again := steps.outdated(every, self.lane.catalog):
                # The lane has caught up since: what was rejected until then is judged by the same catalog.
                again |= set(map(id, sides))
                sides = [side for side in every if id(side) in again]
                continue
            with self.lane.progress.stage("draw"):
                again = set(map(id, await self.buckets.draw(batch, requests, views)))
            again |= set(map(id, later))
            sides = [side for side in sides if id(side) in again]
            await self.wake(batch, views)
            rounds += 1
            if rounds >= ROUNDS_MAX and len(parted := steps.halves(sides)) > 1:
                for part in parted:
                    for side in part:
                        side.whole = True
                    await self.decide(batch, part, views)
                return

    async def match(self, batch: Batch, sides: list[Side], views: Views) -> tuple[Requests, list[Side]]:
        """Identify, price and match sides; returns the requests to draw them, and those that wait for these.

        Each time that something is lacking, it is had the next time: so this ends. Nothing is changed by it,
        so it is safe at any crash.
        """
        stage, buckets, count = self.lane.progress.stage, self.buckets, self.connections.store.count
        while True:
            catalog = self.lane.catalog
            assert catalog is not None  # noqa: S101 - data is read from when there is one
            with stage("identify"):
                lacking = steps.identify(sides, catalog, views)
            if not lacking:
                with stage("price"):
                    parted = part(sides, catalog, views, self.lane.standing, buckets.keep_ms)
                    await self.past.show(parted.now)
                    lacking = steps.price(parted.now, catalog, views)
                if not lacking:
                    with stage("match"):
                        requests, lacking = steps.match(parted.now, catalog, views, count, buckets.ask_whole)
                    if not lacking:
                        steps.add_changes(requests, batch, parted.changes, count)
                        views.parted.clear()
                        return requests, parted.later
            with stage("identify"):
                await self.have(batch, lacking, views)

    async def wake(self, batch: Batch, views: Views) -> None:
        """Try pending charges again of clients whose balance calls have raised to what they wait for."""
        while batch.woken:
            side = batch.woken.pop(0)
            while (catalog := await self.buckets.wake(batch, side, views)) > 0:
                await catch_up(self.buckets, batch, catalog)

    async def have(self, batch: Batch, lacking: Lacking, views: Views) -> None:
        """Fetch views and account entries, and catch up with the catalog that they need."""
        for bucket, (clients, accounts) in lacking.by_bucket(self.connections.store.count).items():
            await self.buckets.look_up(bucket, clients, accounts, views)
        catalog = self.lane.catalog
        if catalog is not None and lacking.catalog > catalog.version:
            await catch_up(self.buckets, batch, lacking.catalog)

    # ------------------------------------------------------------------ inside
    def _slices(self, polled: list[tuple[str, list[Any]]]) -> list[Batch]:
        return slices(self.lane.standing, polled, self.connections.settings.worker.batch_records_max)

    def _lacks_time(self, polled: list[tuple[str, list[Any]]]) -> bool:
        """Return whether there are calls without a time, and nothing recent that they could be judged by.

        The clock only says when to ask: what comes of it is a record's, as Kafka has it.
        """
        behind_ms = time.time_ns() // 1_000_000 - self.lane.standing.lane_ms
        if time.monotonic() - self.ticked_at < STALE_S or behind_ms < STALE_S * 1000:
            return False
        return has_undated(polled, self.connections.topics.commands)

    def _stands_still(self) -> bool:
        """Return whether the lane's time has not moved for TICK_S."""
        lane_ms = self.lane.standing.lane_ms
        if lane_ms > self.risen_to:
            self.risen_at, self.risen_to = time.monotonic(), lane_ms
        return time.monotonic() - self.risen_at >= TICK_S

    def _tick(self) -> Batch:
        """Return a batch that is nothing but a command of a lane to itself, with the time of now."""
        standing, at_ms, self.risen_at = self.lane.standing, time.time_ns() // 1_000_000, time.monotonic()
        batch = Batch(standing, [])
        self.tick = write_command(f"{OWN_TICK}{standing.lane}/{at_ms}", Do.TICK, at_ms, {})
        batch.ticks.append((None, self.tick, []))
        return batch

    async def _due_ticks(self) -> list[Batch]:
        """Return a batch of commands to ourselves that have done what is due now, if anything is."""
        batch = Batch(self.lane.standing, [])
        batch.ticks += await self.buckets.due.ticks()
        return [batch] if batch.ticks else []

    def _keeps_up(self) -> bool:
        """Return whether hardly anything waits: neither in the broker nor commands that were fetched."""
        reader = self.lane.reader
        return reader.backlog() < BACKLOG_RECORDS and not reader.held

    def _decode(self, batch: Batch) -> list[Side]:
        maps = {topic: self.buckets.map_of(topic) for topic in self.connections.maps}
        services = self.lane.catalog.service_names if self.lane.catalog is not None else frozenset[str]()
        return steps.decode(batch, self.lane.standing, maps, services)
