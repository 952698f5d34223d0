"""One worker process: it takes the lanes that the group assigns to it, and drops those taken away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import structlog

from rater.errors import Fenced, Halt, Retake, StreamDown, Wait
from rater.stream.group import Ownership
from rater.stream.lane_reader import LaneReader
from rater.stream.watching import TopicWatch
from rater.worker.faults import ours, worst
from rater.worker.line import Line
from rater.worker.shared import Shared
from rater.worker.takeover import take
from rater.worker.watching import Watch

log = structlog.get_logger()
BACKOFF_S = (0.05, 2.0)
"""First and longest wait before a lane is taken again."""
DRAIN_S = 10.0
"""How long a lane may take to commit what it has drawn when it is to be given up; then it is abandoned, which
is safe: the next owner publishes it. A rebalance stops every worker of the group meanwhile, and is over
without those who are not back when their session would be: half of it at most."""

LET_GO_S = 30.0
"""How long an abandoned lane may take to close its connections: those of a dead broker take some 20 s."""


class Worker:
    """One worker process: the lanes that the group assigns to it."""

    def __init__(self, shared: Shared) -> None:
        """Own no lane yet."""
        self.shared = shared
        self.connections = shared.connections
        self.readiness = shared.readiness
        self.stopping = asyncio.Event()
        self._lanes: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._watch = Watch(shared)
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = False
        self._session_s = shared.connections.settings.kafka.session_timeout_ms / 1000

    async def run(self) -> None:
        """Rate until `stopping` is set (then drain), or until a Halt, which is raised."""
        client, topics = self.connections.client, self.connections.topics
        kafka = self.connections.settings.kafka
        ownership = Ownership(
            client, kafka.group_id, topics.commands, session_timeout_ms=kafka.session_timeout_ms
        )
        watched = TopicWatch(client, topics)
        try:
            await watched.open()
            await watched.look([], {})  # before a lane is taken, so that each is of what is known
            await self._run(ownership, watched)
        finally:
            await watched.close()

    async def _run(self, ownership: Ownership, topics: TopicWatch) -> None:
        await ownership.start(self.drop, self.assign)
        polling = asyncio.create_task(ownership.run())
        watching = asyncio.create_task(self._watch.run(ownership, topics))
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            ends: list[asyncio.Future[Any]] = [polling, stopping, watching, self._fault]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._ending = True
            if watching.done():
                # A topic is another one: nothing more is to be written, and what was drawn is kept.
                for _, task in self._lanes.values():
                    task.cancel()
            await self.drop(set(self._lanes))
        finally:
            stopping.cancel()
            watching.cancel()
            await ownership.stop()
            await asyncio.gather(polling, return_exceptions=True)
        if watching.done() and not watching.cancelled():
            watching.result()
        if self._fault.done():
            self._fault.result()
        if polling.cancelled():
            raise StreamDown("a library cancelled its own work, and ours for the group with it")
        polling.result()

    def readers(self) -> list[tuple[int, LaneReader]]:
        """Return lane → reader of the lanes that rate now."""
        return [(number, lane.reader) for number, lane in self._watch.lanes.items()]

    def overdue(self) -> int:
        """Return how much due work of our lanes is not in work yet."""
        return sum(lane.overdue for lane in self._watch.lanes.values())

    async def assign(self, lanes: set[int]) -> None:
        """Begin to serve lanes; none any more when we end: nobody would drain them."""
        if self._ending:
            return
        for lane in sorted(lanes - self._lanes.keys()):
            stop = asyncio.Event()
            self.readiness.unready(lane, "the lane is being taken")
            task = asyncio.create_task(self._serve(lane, stop), name=f"lane-{lane}")
            self._lanes[lane] = (stop, task)
            self.readiness.lanes.add(lane)

    async def drop(self, lanes: set[int]) -> None:
        """Give lanes up: drain them, and abandon what is not drained in time.

        Workers that were thrown out of the group for it would come back, and stop what the others take just
        then: for ever, where that takes long.
        """
        # They are ours until they have ended: a worker that is to end meanwhile waits for them, too.
        gone = {lane: self._lanes[lane] for lane in sorted(lanes & self._lanes.keys())}
        for stop, _ in gone.values():
            stop.set()
        if gone:
            drain_s = DRAIN_S if self._ending else min(DRAIN_S, self._session_s / 2)
            _, late = await asyncio.wait([task for _, task in gone.values()], timeout=drain_s)
            for task in late:
                task.cancel()
            await self._abandoned(late)
        for lane in gone:
            self._lanes.pop(lane, None)
        for lane in lanes:
            self.readiness.lanes.discard(lane)
            self.readiness.ready(lane)
            self._watch.dropped(lane)

    async def _abandoned(self, lanes: set[asyncio.Task[None]]) -> None:
        """Wait until cancelled lanes have let go. One that does not would hold up the whole group: we end."""
        if not lanes:
            return
        _, deaf = await asyncio.wait(lanes, timeout=LET_GO_S)
        if deaf and not self._fault.done():
            names = ", ".join(sorted(task.get_name() for task in deaf))
            self._fault.set_exception(
                Halt(
                    f"{names} did not end {LET_GO_S:g} s after it was abandoned, so this worker ends: start "
                    "it again, and report it with this log"
                )
            )

    async def _serve(self, lane: int, stop: asyncio.Event) -> None:
        """Take a lane and rate it, again and again, until it is to be given up."""
        wait_s = BACKOFF_S[0]
        while not stop.is_set():
            began = time.monotonic()
            try:
                await ours(self._take_and_rate, lane, stop)
            except (Wait, Fenced, Retake) as error:
                self.readiness.unready(lane, f"taking the lane again: {str(error) or type(error).__name__}")
                log.warning("lane lost", lane=lane, fault=type(error).__name__, reason=str(error))
                wait_s = (
                    BACKOFF_S[0] if time.monotonic() - began > BACKOFF_S[1] else min(2 * wait_s, BACKOFF_S[1])
                )
                await _wait(stop, wait_s)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever else it is stops the worker, by `run`
                if not self._fault.done():
                    self._fault.set_exception(error)
                return

    async def _take_and_rate(self, number: int, stop: asyncio.Event) -> None:
        lane = await take(number, self.shared)
        try:
            self._watch.taken(lane)
            self.readiness.ready(number)
            if lane.catalog is None:
                self.readiness.bare.add(number)
            # A task of its own: where half of the line fails, the TaskGroup of Python 3.11 and 3.12 cancels
            # the task that waits for it for good, and what the lane asks next would count as cancelled.
            await asyncio.create_task(Line(lane, self.shared).run(stop))
            await lane.reader.commit_last()
        except BaseExceptionGroup as group:
            raise worst(group) from group
        finally:
            self.readiness.bare.discard(number)
            self._watch.lost(lane)
            await lane.close()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
