"""One worker process: it takes the lanes that the group assigns to it, and drops those taken away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from rater.errors import Fenced, Retake, StreamDown, Wait
from rater.stream.group import Ownership
from rater.stream.lane_reader import LaneReader
from rater.stream.watching import TopicWatch
from rater.worker.line import PROBE_S, Line, _ours
from rater.worker.shared import Parts
from rater.worker.takeover import take

log = structlog.get_logger()
BACKOFF_S = (0.05, 2.0)
"""First and longest wait before a lane is taken again."""
DRAIN_S = 10.0
"""How long a lane may take to commit what it has drawn when it is to be given up; then it is abandoned, which
is safe: the next owner publishes it. A rebalance stops every worker of the group meanwhile."""


class Worker:
    """One worker process: the lanes that the group assigns to it."""

    def __init__(self, parts: Parts) -> None:
        """Own no lane yet."""
        self.parts = parts
        self.stopping = asyncio.Event()
        self._lanes: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._lines: dict[int, Line] = {}
        self._lost: dict[int, tuple[float, dict[str, int]]] = {}
        """Lane, lost while records waited → when it committed last, and their topics and offsets."""
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = False

    async def run(self) -> None:
        """Rate until `stopping` is set (then drain), or until a Halt, which is raised."""
        kafka = self.parts.settings.kafka
        ownership = Ownership(
            self.parts.client,
            kafka.group_id,
            self.parts.topics.commands,
            session_timeout_ms=kafka.session_timeout_ms,
        )
        topics = TopicWatch(self.parts.client, self.parts.topics)
        try:
            await topics.open()
            await topics.look([], {})  # before a lane is taken, so that each is of what is known
            await self._run(ownership, topics)
        finally:
            await topics.close()

    async def _run(self, ownership: Ownership, topics: TopicWatch) -> None:
        await ownership.start(self.drop, self.assign)
        polling = asyncio.create_task(ownership.run())
        watching = asyncio.create_task(self._watch(ownership, topics))
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

    async def _watch(self, ownership: Ownership, topics: TopicWatch) -> None:
        """Look once a second after what the lanes themselves do not notice.

        One without records does not see that Kafka is away, one that stands still says nothing, and none sees
        that a topic is another one. Raises Halt.
        """
        while True:
            try:
                await _ours(self._look, ownership, topics)
            except (Wait, Retake) as error:
                log.warning("watching failed", fault=type(error).__name__, reason=str(error))
            await asyncio.sleep(PROBE_S)

    async def _look(self, ownership: Ownership, topics: TopicWatch) -> None:
        answers = await ownership.answers()
        await self._look_at_topics(topics)
        # It was asked where rater.commands ends, which nobody can tell while that topic is missing.
        self.parts.kafka_away = not answers and not (topics.answered and self.parts.topic_faults)
        await self._look_for_stuck()
        for line in list(self._lines.values()):
            await line.taken.source.commit_offsets()

    async def _look_at_topics(self, topics: TopicWatch) -> None:
        """Tell which topics are missing. Raises Halt where one is not what it was."""
        taken = [line.taken for line in self._lines.values()]
        faults = await topics.look(
            [one.source for one in taken], {one.lane: one.producer.reached for one in taken}
        )
        for sentence in faults:
            if sentence not in self.parts.topic_faults:
                log.error("topic missing", reason=sentence)
        self.parts.topic_faults = faults

    async def _look_for_stuck(self) -> None:
        """Tell which lanes make no progress, and which do again."""
        found: dict[int, str] = {}
        stuck = [
            (lane, line.progressed_at, waiting, line.step)
            for lane, line in list(self._lines.items())
            if (waiting := await line.stuck())
        ]
        latest = time.monotonic() - self.parts.settings.worker.stuck_after_s
        stuck += [
            (lane, progressed_at, waiting, "take")
            for lane, (progressed_at, waiting) in self._lost.items()
            if lane not in self._lines and progressed_at <= latest
        ]
        for lane, progressed_at, waiting, step in stuck:
            seconds, places = time.monotonic() - progressed_at, _places(waiting, lane)
            found[lane] = (
                f"nothing was committed for {seconds:.0f} s while {places} waits; "
                f"the lane is at the step {step}"
            )
            if lane not in self.parts.stuck:
                topic, offset = next(iter(waiting.items()))
                log.error("lane stuck", lane=lane, topic=topic, offset=offset, step=step, reason=found[lane])
        for lane in self.parts.stuck.keys() - found.keys():
            log.info("lane no longer stuck", lane=lane)
        self.parts.stuck = found
        self.parts.metrics.stuck(len(found))

    def sources(self) -> list[tuple[int, LaneReader]]:
        """Return lane → source of the lanes that rate now."""
        return [(lane, line.taken.source) for lane, line in self._lines.items()]

    async def assign(self, lanes: set[int]) -> None:
        """Begin to serve lanes; none any more when we end: nobody would drain them."""
        if self._ending:
            return
        for lane in sorted(lanes - self._lanes.keys()):
            stop = asyncio.Event()
            self.parts.unready(lane, "the lane is being taken")
            task = asyncio.create_task(self._serve(lane, stop), name=f"lane-{lane}")
            self._lanes[lane] = (stop, task)
            self.parts.lanes.add(lane)

    async def drop(self, lanes: set[int]) -> None:
        """Give lanes up: drain them, and abandon what is not drained in time."""
        gone = [self._lanes.pop(lane) for lane in sorted(lanes & self._lanes.keys())]
        for stop, _ in gone:
            stop.set()
        if gone:
            _, late = await asyncio.wait([task for _, task in gone], timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for lane in lanes:
            self.parts.lanes.discard(lane)
            self.parts.ready(lane)
            self._lost.pop(lane, None)

    async def _serve(self, lane: int, stop: asyncio.Event) -> None:
        """Take a lane and rate it, again and again, until it is to be given up."""
        wait_s = BACKOFF_S[0]
        while not stop.is_set():
            began = time.monotonic()
            try:
                await _ours(self._take_and_rate, lane, stop)
            except (Wait, Fenced, Retake) as error:
                self.parts.unready(lane, f"taking the lane again: {str(error) or type(error).__name__}")
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

    async def _take_and_rate(self, lane: int, stop: asyncio.Event) -> None:
        taken = await take(lane, self.parts)
        try:
            self.parts.ready(lane)
            if taken.catalog is None:
                self.parts.bare.add(lane)
            line = self._lines[lane] = Line(taken, self.parts)
            if lane in self._lost:  # one that is lost again and again makes no progress either
                line.progressed_at, line.unfinished = self._lost.pop(lane)
            await line.run(stop)
            await taken.source.commit_last()
        except BaseExceptionGroup as group:
            raise _worst(group) from group
        finally:
            self.parts.bare.discard(lane)
            lost = self._lines.pop(lane, None)
            if lost is not None and (waiting := taken.source.polled() or lost.unfinished):
                self._lost[lane] = lost.progressed_at, waiting
            await taken.close()


def _places(waiting: dict[str, int], lane: int) -> str:
    return " and ".join(f"{topic}[{lane}] from offset {offset}" for topic, offset in waiting.items())


def _worst(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the one fault that says what to do: stop before drop before take again before wait.

    What is none of these stops too. Of equals it is the last.
    """
    faults = [
        _worst(fault) if isinstance(fault, BaseExceptionGroup) else fault
        for fault in reversed(group.exceptions)
    ]
    return min(faults, key=_order)


def _order(fault: BaseException) -> int:
    kinds = (Fenced, Retake, Wait)
    return next((number for number, kind in enumerate(kinds) if isinstance(fault, kind)), -1)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
