"""Looking after what the lanes of a process do not notice themselves.

One without records does not see that Kafka is away, one that stands still says nothing, and none sees that a
topic is another one. What is found is told by /readyz and the log, and nothing else is done about it; but a
topic that is another one is a Halt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from rater.errors import Retake, Wait
from rater.stream.group import Ownership
from rater.stream.watching import TopicWatch
from rater.worker.faults import ours
from rater.worker.lane import Lane
from rater.worker.shared import Shared

log = structlog.get_logger()
WATCH_S = 1.0
"""How long to wait between two looks."""


class Watch:
    """Watches the lanes that rate, and those that were lost while records waited."""

    def __init__(self, shared: Shared) -> None:
        self.lanes: dict[int, Lane] = {}
        """The lanes that rate now."""
        self._shared = shared
        self._readiness = shared.readiness
        self._lost: dict[int, tuple[float, dict[str, int]]] = {}
        """Lane, lost while records waited → when it committed last, and their topics and offsets."""

    # ------------------------------------------------------------------ which lanes
    def taken(self, lane: Lane) -> None:
        """Watch a lane that begins to rate; one that is lost again and again makes no progress either."""
        self.lanes[lane.number] = lane
        if lane.number in self._lost:
            lane.progress.committed_at, lane.progress.unfinished = self._lost.pop(lane.number)

    def lost(self, lane: Lane) -> None:
        """Remember of a lane that rates no more what waited in it."""
        del self.lanes[lane.number]
        waiting = lane.reader.polled() or lane.progress.unfinished
        if waiting:
            self._lost[lane.number] = lane.progress.committed_at, waiting

    def dropped(self, number: int) -> None:
        """Forget a lane that is another worker's now."""
        self._lost.pop(number, None)

    # ------------------------------------------------------------------ looking
    async def run(self, ownership: Ownership, topics: TopicWatch) -> None:
        """Look again and again. Raises Halt where a topic is another one."""
        while True:
            try:
                await ours(self._look, ownership, topics)
            except (Wait, Retake) as error:
                log.warning("watching failed", fault=type(error).__name__, reason=str(error))
            await asyncio.sleep(WATCH_S)

    async def _look(self, ownership: Ownership, topics: TopicWatch) -> None:
        answers = await ownership.answers()
        await self._look_at_topics(topics)
        # It was asked where rater.commands ends, which nobody can tell while that topic is missing.
        self._readiness.kafka_away = not answers and not (topics.answered and self._readiness.topic_faults)
        await self._look_for_stuck()
        for lane in list(self.lanes.values()):
            await lane.reader.commit_offsets()

    async def _look_at_topics(self, topics: TopicWatch) -> None:
        """Tell which topics are missing. Raises Halt where one is not what it was."""
        lanes = list(self.lanes.values())
        faults = await topics.look(
            [lane.reader for lane in lanes], {lane.number: lane.producer.reached for lane in lanes}
        )
        for sentence in faults:
            if sentence not in self._readiness.topic_faults:
                log.error("topic missing", reason=sentence)
        self._readiness.topic_faults = faults

    async def _look_for_stuck(self) -> None:
        """Tell which lanes make no progress, and which do again."""
        known, found = self._readiness.stuck, dict[int, str]()
        for number, committed_at, waiting, step in await self._stuck():
            seconds, places = time.monotonic() - committed_at, _places(waiting, number)
            found[number] = (
                f"nothing was committed for {seconds:.0f} s while {places} waits; "
                f"the lane is at the step {step}"
            )
            if number not in known:
                topic, offset = next(iter(waiting.items()))
                log.error(
                    "lane stuck", lane=number, topic=topic, offset=offset, step=step, reason=found[number]
                )
        for number in known.keys() - found.keys():
            log.info("lane no longer stuck", lane=number)
        self._readiness.stuck = found
        self._shared.connections.metrics.stuck(len(found))

    async def _stuck(self) -> list[tuple[int, float, Mapping[str, int], str]]:
        """Return (lane, when it committed last, topic → first offset that waits, its step)."""
        after_s = self._shared.connections.settings.worker.stuck_after_s
        found: list[tuple[int, float, Mapping[str, int], str]] = []
        for number, lane in list(self.lanes.items()):
            # For a batch to gather is not too long.
            if waiting := await self._waiting(lane, after_s + self._shared.batch_age_s):
                found.append((number, lane.progress.committed_at, waiting, lane.progress.step))
        latest = time.monotonic() - after_s
        found += [
            (number, committed_at, waiting, "take")
            for number, (committed_at, waiting) in self._lost.items()
            if number not in self.lanes and committed_at <= latest
        ]
        return found

    async def _waiting(self, lane: Lane, after_s: float) -> dict[str, int]:
        """Return topic → first offset of what waits if nothing was committed for so long, else nothing."""
        waiting, now = await lane.reader.waiting() or lane.progress.unfinished, time.monotonic()
        if not waiting:
            lane.progress.committed_at = now
        return waiting if now - lane.progress.committed_at >= after_s else {}


def _places(waiting: Mapping[str, int], lane: int) -> str:
    return " and ".join(f"{topic}[{lane}] from offset {offset}" for topic, offset in waiting.items())
