"""The golden cases in steps through the real line: Kafka, Redis, loads, commands and a worker."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from golden.cases import Got
from golden.steps import Shown, compare_steps, load_step_cases, outcome_of, tick, told
from golden.steps_together import TaggedSteps, Turn, rounds, tagged_steps
from golden.together import merged_catalogs
from line.test_golden_line import allow_the_future
from rater import app
from rater.core.amounts import format_micros
from rater.core.bucket.messages import bucket_of
from rater.core.instants import rfc3339
from rater.jobs.audit import audit

pytestmark = pytest.mark.kafka

PARTITIONS = 4
WINDOW_DAYS = 366
"""Cases share lanes, so a lane may be ahead of a case's calls."""


async def test_golden_cases(system_of: Callable[..., Awaitable[Any]]) -> None:
    """On real servers each step of each case brings what its file expects, and the audit finds nothing."""
    cases = tagged_steps(load_step_cases())
    window = {"RATER_WORKER__DUPLICATE_WINDOW_DAYS": str(WINDOW_DAYS)}
    system = await system_of(partitions=PARTITIONS, environ=window)
    await allow_the_future(system)
    async with system.worker():
        line = Line(system, cases)
        for turns in rounds(cases):
            await line.do(turns)
        outcomes = await line.outcomes()
        store = await app.connect_store(system.settings)
        try:
            balances = {client: await store.client(client) for one in cases for client in one.clients}
            findings = list((await audit(system.client, system.topics, store)).findings)
        finally:
            await store.close()
    faults = {}
    for one in cases:
        there = {client: balances[client] for client in one.clients}
        shown = Shown(
            {one.plain(client): format_micros(found[1]) for client, found in there.items() if found},
            told(outcomes[one.tag]),
        )
        faults[one.case.name] = compare_steps(one.case, outcomes[one.tag], shown, duplicates_shown=False)
    assert {name: of for name, of in faults.items() if of} == {}
    assert findings == []
    assert len(faults) == len(cases)


class Line:
    """Does rounds of steps, and knows afterwards what came of each."""

    def __init__(self, system: Any, cases: Sequence[TaggedSteps]) -> None:
        self.system = system
        self.buckets = system.settings.redis.buckets
        self.rounds: list[list[Turn]] = []
        self.ends: list[dict[TopicPartition, int]] = []
        """Where the topics of results ended after each round."""
        self.places: dict[tuple[str, int, int], tuple[str, int]] = {}
        """Case's tag and step by topic, partition and offset of the record that was sent."""
        self.found = {one.tag: [list[Got]() for _ in one.case.steps] for one in cases}
        self.tags = {one.tag: one for one in cases}

    async def do(self, turns: list[Turn]) -> None:
        """Do a round, and wait until all that comes of it is there."""
        if turns[0].step.kind == "load":
            await self._load(turns)
        else:
            await self._send(turns)
        await self.system.settled()
        self.rounds.append(turns)
        self.ends.append(await self._ends())

    async def _load(self, turns: list[Turn]) -> None:
        catalog = merged_catalogs([(turn.of.case.name, turn.step.value) for turn in turns])
        refused = await self.system.tried_load(catalog, at_ms=turns[0].step.at_ms, name="catalog.json")
        for sentence in refused:
            (turn,) = turns
            self.found[turn.of.tag][turn.number].append(("refused", None, turn.of.plain(sentence)))
        await self.system.all_commands_read()

    async def _send(self, turns: list[Turn]) -> None:
        waiting: dict[tuple[str, int], list[tuple[Turn, bytes, int]]] = defaultdict(list)
        for turn in turns:
            step = turn.step
            topic = self.system.topics.cdrs if step.kind == "cdr" else self.system.topics.commands
            for client, value in self._records(turn):
                partition = bucket_of(client, self.buckets) % PARTITIONS
                waiting[topic, partition].append((turn, value, step.at_ms))
        for (topic, partition), records in waiting.items():
            await self.system.send(
                [(value, at_ms) for _, value, at_ms in records], topic=topic, partition=partition
            )
            first = self.system.sent[topic, partition] - len(records)
            for number, (turn, _, _) in enumerate(records):
                self.places[topic, partition, first + number] = turn.of.tag, turn.number

    def _records(self, turn: Turn) -> list[tuple[str, bytes]]:
        """Return what is to be sent, each with the client by whose bucket it finds its partition."""
        of, step = turn.of, turn.step
        if step.kind == "cdr":
            return [(of.clients[0], step.value)]
        if step.kind == "command":
            return [(json.loads(step.value)["client"], step.value)]
        clients: dict[int, list[str]] = defaultdict(list)
        for client in of.clients:
            clients[bucket_of(client, self.buckets)].append(client)
        command_id = f"{of.case.name}-{turn.number}"
        at = rfc3339(step.at_ms)
        return [
            (of_bucket[0], tick(f"{command_id}-{bucket}", at, {"bucket": bucket, "clients": of_bucket}))
            for bucket, of_bucket in clients.items()
        ]

    async def _ends(self) -> dict[TopicPartition, int]:
        topics = self.system.topics
        places = [
            TopicPartition(topic, lane)
            for topic in (topics.transactions, topics.events)
            for lane in range(PARTITIONS)
        ]
        reader = AIOKafkaConsumer(**self.system.client)
        await reader.start()
        try:
            return dict(await reader.end_offsets(places))
        finally:
            await reader.stop()

    async def outcomes(self) -> dict[str, list[list[Got]]]:
        """Return what came of each step of each case, by its tag."""
        topics = self.system.topics
        for record in await self.system.read(topics.transactions):
            if record.value is not None:
                transaction = json.loads(record.value)
                self._note(record, transaction["client"], outcome_of(transaction))
        for record in await self.system.read(topics.events):
            event = json.loads(record.value)
            if event["type"] == "command_refused":
                self._note(
                    record, event["client"] or event["cause"], ("refused", None, event["data"]["reason"])
                )
            elif event["client"] is not None:
                self._note(record, event["client"], ("event", None, event))
        for record in await self.system.rejected():
            headers = {name: value.decode() for name, value in record.headers}
            place = headers["source_topic"], int(headers["source_partition"]), int(headers["source_offset"])
            tag, number = self.places[place]
            about = {"reason": headers["reason"], "value": headers["value"]}
            self.found[tag][number].append(("rejected", headers["side"] or None, self._plain(tag, about)))
        return self.found

    def _note(self, record: Any, about: str, got: Got) -> None:
        """Add what came out to the step of the round in which it came; about: has the case's tag in it."""
        place = TopicPartition(record.topic, record.partition)
        number = bisect.bisect_right([ends[place] for ends in self.ends], record.offset)
        turn = next((turn for turn in self.rounds[number] if _is_of(turn, about)), None)
        assert turn is not None, f"round {number} has no step of {about}: {got}"
        kind, side, value = got
        self.found[turn.of.tag][turn.number].append((kind, side, self._plain(turn.of.tag, value)))

    def _plain(self, tag: str, value: Any) -> Any:
        return msgspec.json.decode(self.tags[tag].plain(msgspec.json.encode(value).decode()))


def _is_of(turn: Turn, about: str) -> bool:
    return about.startswith((turn.of.tag, f"{turn.of.case.name}-"))
