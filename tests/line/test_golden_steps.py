"""The golden cases in steps through the real line: Kafka, Redis, loads, commands and a worker."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from golden.cases import Got
from golden.listing import listed
from golden.steps import Shown, compare_steps, load_step_cases, outcome_of, tick
from golden.steps_together import TaggedSteps, Turn, rounds, tagged_steps
from golden.together import merged_catalogs
from line.test_golden_line import allow_the_future
from rater import app
from rater.config.settings import Events
from rater.core.amounts import format_micros
from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import did_name
from rater.core.instants import rfc3339
from rater.jobs.audit import audit
from rater.queries.catalog import newest
from rater.queries.clients import state_of
from rater.stream.journal import Mark, understood

pytestmark = pytest.mark.kafka

PARTITIONS = 4
WINDOW_DAYS = 366
"""Cases share lanes, so a lane may be ahead of a case's calls."""
DEADLINE_S = 60.0

Outcomes = dict[str, list[list[Got]]]
"""What came of each step of each case, by its tag."""


CASES = load_step_cases()


@pytest.mark.parametrize("settings", sorted({case.settings for case in CASES}, key=repr), ids=repr)
async def test_golden_cases(settings: Events, system_of: Callable[..., Awaitable[Any]]) -> None:
    """On real servers each step of each case brings what its file expects, and the audit finds nothing.

    Cases with other settings are done by workers of their own.
    """
    cases = tagged_steps([case for case in CASES if case.settings == settings])
    environ = {
        "RATER_WORKER__DUPLICATE_WINDOW_DAYS": str(WINDOW_DAYS),
        "RATER_EVENTS__LIMIT_PERCENTS": ",".join(map(str, settings.limit_percents)),
        "RATER_EVENTS__EXPIRING_NOTICE_HOURS": str(settings.expiring_notice_hours),
    }
    system = await system_of(partitions=PARTITIONS, environ=environ)
    await allow_the_future(system)
    async with system.worker(), line_of(system, cases) as line:
        for turns in rounds(cases):
            await line.do(turns)
        shown = await shown_of(system, cases)
        store = await app.connect_store(system.settings)
        try:
            findings = list((await audit(system.client, system.topics, store)).findings)
        finally:
            await store.close()
    faults = {
        one.case.name: compare_steps(one.case, line.outcomes[one.tag], shown[one.tag], duplicates_shown=False)
        for one in cases
    }
    assert {name: of for name, of in faults.items() if of} == {}
    assert findings == []
    assert len(faults) == len(cases)


async def shown_of(system: Any, cases: Sequence[TaggedSteps]) -> dict[str, Shown]:
    """Return what is there at the end, by the cases' tags."""
    found = {}
    async with app.connections(system.settings) as at:
        catalog = await newest(at.kafka, at.topics, at.catalogs)
        for one in cases:
            balances, packages = {}, {}
            for client in one.clients:
                held = await state_of(at.store, client)
                balances[client] = format_micros(held.balance)
                packages.update(listed(held, catalog, one.case.end_ms))
            found[one.tag] = Shown(*json.loads(one.plain(json.dumps([balances, packages]))))
    return found


@asynccontextmanager
async def line_of(system: Any, cases: Sequence[TaggedSteps]) -> AsyncIterator[Line]:
    """Give a line that reads from the beginning what a system publishes."""
    topics = system.topics
    names = (topics.transactions, topics.events, topics.rejected, topics.commands)
    reader = AIOKafkaConsumer(**system.client, isolation_level="read_committed", fetch_max_wait_ms=10)
    await reader.start()
    try:
        places = [TopicPartition(name, lane) for name in names for lane in range(PARTITIONS)]
        reader.assign(places)
        await reader.seek_to_beginning(*places)
        yield Line(system, cases, reader)
    finally:
        await reader.stop()


class Line:
    """Does rounds of steps, and knows afterwards what came of each."""

    def __init__(self, system: Any, cases: Sequence[TaggedSteps], reader: AIOKafkaConsumer) -> None:
        self.system, self.reader = system, reader
        self.buckets = system.settings.redis.buckets
        self.turns: list[Turn] = []
        """The round that is under way."""
        self.waiting: dict[TopicPartition, int] = {}
        """Where each lane has to get in each topic: behind the last command and CDR."""
        self.reached: dict[int, Mark] = {}
        """The last mark of each lane."""
        self.places: dict[tuple[str, int, int], tuple[str, int]] = {}
        """Case's tag and step by topic, partition and offset of the record that was sent."""
        self.outcomes: Outcomes = {one.tag: [[] for _ in one.case.steps] for one in cases}
        self.tags = {one.tag: one for one in cases}

    async def do(self, turns: list[Turn]) -> None:
        """Do a round, and wait until all that comes of it is there, also of what lanes command themselves."""
        self.turns = turns
        await (self._load(turns) if turns[0].step.kind == "load" else self._send(turns))
        async with asyncio.timeout(DEADLINE_S):
            while not (await self._read() and self._settled()):
                pass

    def _settled(self) -> bool:
        return all(
            place.partition in self.reached
            and self.reached[place.partition].positions.get(place.topic, 0) >= at
            for place, at in self.waiting.items()
        )

    async def _read(self) -> bool:
        """Note what has been published; returns whether that is all there is."""
        for records in (await self.reader.getmany(timeout_ms=20)).values():
            for record in records:
                self._note(record)
        ends = await self.reader.end_offsets(list(self.reader.assignment()))
        return all([await self.reader.position(place) >= end for place, end in ends.items()])

    async def _load(self, turns: list[Turn]) -> None:
        catalog = merged_catalogs([(turn.of.case.name, turn.step.value) for turn in turns])
        refused = await self.system.tried_load(catalog, at_ms=turns[0].step.at_ms, name="catalog.json")
        for sentence in refused:
            (turn,) = turns
            self._add(turn.of.tag, turn.number, ("refused", None, sentence))

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
            end = self.system.sent[topic, partition]
            self.waiting[TopicPartition(topic, partition)] = end
            for number, (turn, _, _) in enumerate(records, end - len(records)):
                self.places[topic, partition, number] = turn.of.tag, turn.number

    def _records(self, turn: Turn) -> list[tuple[str, bytes]]:
        """Return what is to be sent, each with the client or DID by whose bucket it finds its partition."""
        of, step = turn.of, turn.step
        if step.kind == "cdr":
            return [(of.clients[0], step.value)]
        if step.kind == "command":
            command = json.loads(step.value)
            number = command["args"].get("number")
            return [(command["client"] if number is None else did_name(number), step.value)]
        clients: dict[int, list[str]] = defaultdict(list)
        for client in of.clients:
            clients[bucket_of(client, self.buckets)].append(client)
        command_id = f"{of.case.name}-{turn.number}"
        at = rfc3339(step.at_ms)
        return [
            (of_bucket[0], tick(f"{command_id}-{bucket}", at, {"bucket": bucket, "clients": of_bucket}))
            for bucket, of_bucket in clients.items()
        ]

    # ------------------------------------------------------------------ what comes out
    def _note(self, record: ConsumerRecord) -> None:
        """Take a record of the worker's topics: a mark, or what came of a step of this round."""
        topics = self.system.topics
        if record.topic == topics.transactions:
            control = understood(record.headers)
            if isinstance(control, Mark):
                self.reached[record.partition] = control
            elif record.value is not None:
                transaction = json.loads(record.value)
                self._came(transaction["client"], outcome_of(transaction))
        elif record.topic == topics.events:
            self._note_event(json.loads(record.value))
        elif record.topic == topics.rejected:
            headers = {name: value.decode() for name, value in record.headers}
            place = headers["source_topic"], int(headers["source_partition"]), int(headers["source_offset"])
            about = {"reason": headers["reason"], "value": headers["value"]}
            self._add(*self.places[place], ("rejected", headers["side"] or None, about))
        elif record.value is not None and not record.headers:
            self.waiting[TopicPartition(record.topic, record.partition)] = record.offset + 1

    def _note_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "command_refused":
            self._came(event["client"] or event["cause"], ("refused", None, event["data"]["reason"]))
        elif event["client"] is not None:
            self._came(event["client"], ("event", None, event))

    def _came(self, about: str, got: Got) -> None:
        """Add what came out to the case's step of this round; about: a client, or the command."""
        turn = next((turn for turn in self.turns if _is_of(turn, about)), None)
        assert turn is not None, f"there is no step of {about} in this round: {got}"
        self._add(turn.of.tag, turn.number, got)

    def _add(self, tag: str, number: int, got: Got) -> None:
        kind, side, value = got
        plain = json.loads(self.tags[tag].plain(json.dumps(value)))
        self.outcomes[tag][number].append((kind, side, plain))


def _is_of(turn: Turn, about: str) -> bool:
    return about.startswith((turn.of.tag, f"{turn.of.case.name}-"))
