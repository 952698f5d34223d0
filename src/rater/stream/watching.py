"""Watching the topics while we read and write them: each has to stay the one that it was.

A topic that is deleted and created again keeps its name. The library goes on in it at the offset where it
stood, as soon as it is that long, and passes over what lies before; so the broker is asked who each topic is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from rater.errors import Halt, StreamDown
from rater.stream.connecting import FORBIDDEN, NOBODY, Connection, consumer, refusal, shut, started
from rater.stream.lane_reader import LaneReader
from rater.stream.metadata import Found
from rater.stream.position_check import ends_before
from rater.stream.topics import Topics, administrator, described, missing

ANSWER_S = 2.0
"""How long a look may take; the next one follows in a second."""
AGAIN_S = 0.2
"""What is wrong is looked at twice: a broker may be behind the others for a moment."""
VERIFY_S = 5.0
"""How often records are compared where a broker tells no ids: it costs a connection for each lane."""
OPEN_DEADLINE_S = 60.0
DOWN = (KafkaError, OSError, TimeoutError, StreamDown, *NOBODY)
"""No answer now."""


class TopicWatch:
    """Knows each topic from the first look on."""

    def __init__(self, client: Connection, topics: Topics) -> None:
        """Nothing is connected before `open`."""
        self._client = client
        self._topics = topics
        self._inputs = [*topics.data, topics.commands, topics.transactions]
        """Those that have to stay the same ones: what else we write to is read by others."""
        self._known: dict[str, str] = {}
        """Topic -> id, "" where the broker tells none."""
        self._ends: dict[TopicPartition, int] = {}
        self._missing: list[str] = []
        self.answered = False
        """Whether the broker answered the last look."""
        self._verified_at = time.monotonic()
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Connect. Raises StreamDown when the broker stays away, Halt when it refuses us."""
        self._admin = await administrator(self._client, OPEN_DEADLINE_S)
        # Of what is not committed too: the marker of our own last commit may not be written yet.
        self._reader = await started(
            lambda: consumer(self._client, isolation_level="read_uncommitted"), OPEN_DEADLINE_S
        )

    async def close(self) -> None:
        """Let go; never raises."""
        for client in (self._admin, self._reader):
            if client is not None:
                await shut(client)

    async def look(self, sources: Sequence[LaneReader], journal: Mapping[int, int]) -> list[str]:
        """Return a sentence for each topic that is missing; without an answer of the broker those of before.

        sources: of the lanes that are ours. journal: lane -> the offset up to which we wrote. Raises Halt
        where a topic is another one than before, shorter than what we read or wrote, or has other partitions.
        """
        reached = {TopicPartition(self._topics.transactions, lane): at for lane, at in journal.items()}
        for source in sources:
            reached.update(source.reached())
        self.answered = False
        try:
            found, wrong = await self._wrong(reached)
            self.answered = True
            if wrong:
                await asyncio.sleep(AGAIN_S)
                found, again = await self._wrong(reached)
                wrong = {what: again[what] for what in wrong if what in again}
            if wrong:
                raise Halt("\n".join(wrong.values()))
            self._missing = [missing(name) for name, topic in found.items() if topic is None]
            if "" in self._known.values() and not self._missing:
                await self._compare(sources)
        except FORBIDDEN as error:
            raise Halt(refusal(error)) from error
        except DOWN:
            return self._missing
        partitions = {name: topic.partitions for name, topic in found.items() if topic is not None}
        for source in sources:
            source.grown(partitions)
            source.ends.update(
                (place, self._ends[place]) for place in source.reached() if place in self._ends
            )
        return self._missing

    async def _compare(self, sources: Sequence[LaneReader]) -> None:
        """Look at the last record read of each topic: all that tells where there are no ids."""
        if time.monotonic() - self._verified_at >= VERIFY_S:
            self._verified_at = time.monotonic()
            for source in sources:
                async with asyncio.timeout(ANSWER_S):
                    await source.verify()

    async def _wrong(
        self, reached: Mapping[TopicPartition, int]
    ) -> tuple[dict[str, Found | None], dict[str, str]]:
        """Return what each topic is, and what is wrong -> the sentence."""
        topics, wrong = self._topics, dict[str, str]()
        async with asyncio.timeout(ANSWER_S):
            found = await described(self._admin, [*self._inputs, topics.rejected, topics.events])
        for name in self._inputs:
            topic = found[name]
            if topic is None:
                continue
            known = self._known[name] = self._known.get(name) or topic.id
            if topic.id and topic.id != known:
                why = f"its id is {topic.id}, but was {known}"
                wrong[name] = topics.another(name, None, why, topic.id)
            elif not topic.id and missing(name) in self._missing:
                wrong[name] = topics.another(name, None, "it was missing for a while")
        there = {name: topic.partitions for name, topic in found.items() if topic is not None}
        for sentence in topics.misfits(there):
            wrong[sentence] = sentence
        if not wrong:
            places = [place for place in reached if place.partition < there.get(place.topic, 0)]
            with contextlib.suppress(*DOWN):  # also one without a leader: of that one nothing is known
                self._ends = await self._ask_ends(places)
                for place, end in self._ends.items():
                    if end < reached[place]:
                        why, identity = ends_before(end, reached[place]), self._known[place.topic]
                        wrong[str(place)] = topics.another(place.topic, place.partition, why, identity)
        return found, wrong

    async def _ask_ends(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self._reader is None or not places:
            return {}
        async with asyncio.timeout(ANSWER_S):
            ends: dict[TopicPartition, int] = await self._reader.end_offsets(places)
            return ends
