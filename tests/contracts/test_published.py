"""Records as they are really written, against their schemas: of golden cases, and of a run of the demo."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.checking import faults, record_faults
from golden.cases import EDITED_AT, LOADED_AT, load_cases
from golden.steps import load_step_cases, tick
from rater.config.settings import OWN_TOPICS, Settings
from rater.core.instants import milliseconds, rfc3339
from rater.core.kinds import EventType, TransactionType
from rater.core.offline import Ended, Rater, Transaction
from rater.demo.run import PARTITIONS
from rater.stream.connecting import shut

CALLS = 300
DEADLINE_S = 120.0
HANDLED = {"catalog_loaded", "command_refused", "rerate_started", "rerate_done"}
"""Events that come of lanes and of jobs, not of golden cases; `package_changed` neither: of lanes, too."""


def case_records() -> Iterator[tuple[bytes, list[Ended], Rater]]:
    """Yield each record of the golden cases, what became of it, and the rater that has what came beside."""
    for case in load_cases():
        rater = Rater()
        for catalog, at in ((case.catalog, LOADED_AT), (case.edited, EDITED_AT)):
            if catalog is not None:
                assert not rater.load([(f"{case.name}.yaml", catalog)], milliseconds(at))
        for raw, record_ms in case.records:
            yield raw, rater.rate(raw, record_ms), rater
    for steps in load_step_cases():
        rater = Rater(notices=steps.settings.notices)
        for number, step in enumerate(steps.steps):
            ended: list[Ended] = []
            if step.kind == "load":
                rater.load([(f"{steps.name}.yaml", step.value)], step.at_ms)
            elif step.kind == "command":
                rater.command(step.value, step.at_ms)
                yield step.value, [], rater
                continue
            elif step.kind == "tick":
                rater.command(tick(f"{steps.name}-{number}", rfc3339(step.at_ms), {}), step.at_ms)
            else:
                ended = rater.rate(step.value, step.at_ms)
            yield step.value if step.kind == "cdr" else b"", ended, rater


def test_all_that_comes_of_the_golden_cases() -> None:
    """Transactions, events, commands, CDRs that were rated: each is as its schema says; all types come."""
    found: list[str] = []
    types: Counter[str] = Counter()
    for raw, ended, rater in case_records():
        transactions, events = rater.take()
        of_sides = [one.value for one in ended if isinstance(one, Transaction)]
        for value in (*transactions, *of_sides):
            types[json.loads(value)["type"]] += 1
            found += [f"{value!r}: {fault}" for fault in faults("transaction", json.loads(value))]
        told = {json.loads(value)["type"] for value in events}
        for value in events:
            types[json.loads(value)["type"]] += 1
            found += [f"{value!r}: {fault}" for fault in faults("event", json.loads(value))]
        if of_sides and len(of_sides) == len(ended):
            found += [f"{raw!r}: {fault}" for fault in faults("cdr", msgspec.json.decode(raw))]
        elif raw.startswith(b'{"id"') and b'"do"' in raw and "command_refused" not in told:
            found += [f"{raw!r}: {fault}" for fault in faults("command", json.loads(raw))]
    assert found[:20] == []
    assert set(TransactionType) <= set(types)
    assert set(EventType) - HANDLED - {EventType.PACKAGE_CHANGED} <= set(types)


# ------------------------------------------------------------------------------------------------- the demo
class Found(NamedTuple):
    """A record. topic: without prefix; place: its partition and offset."""

    topic: str
    place: tuple[int, int]
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def source(self) -> tuple[int, int]:
        """Where a rejected record lay."""
        named = dict(self.headers)
        return int(named["source_partition"]), int(named["source_offset"])


async def demonstrated() -> list[Found]:
    """Run `rater demo` and return all records of its topics: topic without prefix, value, headers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rater", "demo", "--calls", str(CALLS), "--exit",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = b""
    while not (told := re.search(rb"^Kafka: (\S+)", said, re.MULTILINE)):
        line = await asyncio.wait_for(process.stderr.readline(), DEADLINE_S)
        assert line, said.decode()
        said += line
    ended = asyncio.Event()
    reading = asyncio.create_task(read_all(told[1].decode(), ended))
    rest = await asyncio.wait_for(process.stderr.read(), DEADLINE_S)
    await process.wait()
    ended.set()
    found = await reading
    assert process.returncode == 0, (said + rest).decode()
    return found


async def read_all(bootstrap: str, ended: asyncio.Event) -> list[Found]:
    """Read what is committed until it has ended: then its broker is gone, too."""
    found: list[Found] = []
    prefix = Settings().topics.prefix
    reader = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    await reader.start()
    try:
        reader.assign(
            [TopicPartition(prefix + name, lane) for name in OWN_TOPICS for lane in range(PARTITIONS)]
        )
        while not ended.is_set():
            for place, records in (await reader.getmany(timeout_ms=100)).items():
                found += [
                    Found(
                        place.topic.removeprefix(prefix), (one.partition, one.offset), one.value,
                        list(one.headers),
                    )
                    for one in records
                ]  # fmt: skip
        return found
    finally:
        await shut(reader)


@pytest.mark.kafka
@pytest.mark.slow
async def test_all_that_a_demo_publishes() -> None:
    """Each record of each topic is as its schema says; with a member less, wrong or too many it is not.

    A CDR that is not was rejected.
    """
    records = await demonstrated()
    rejected = {one.source for one in records if one.topic == "rejected" and one.headers}
    wrong = [
        f"{one.topic} {one.value!r}: {fault}"
        for one in records
        if one.topic != "cdrs" or one.place not in rejected
        for fault in record_faults(one.topic, one.value, one.headers)
    ]
    assert wrong[:20] == []
    seen = Counter(one.topic for one in records if one.value is not None)
    # Snapshots come once a day: tests/line/test_snapshots.py has some. Of so few calls none may be rejected:
    # the golden cases have each reason.
    assert set(OWN_TOPICS) - {"snapshots", "rejected"} <= set(seen), seen
    assert seen["cdrs"] >= CALLS
    types = Counter(
        json.loads(one.value)["type"] for one in records if one.topic == "transactions" and one.value
    )
    assert types["usage"] >= CALLS / 2
    for one in first_of_each(records):
        for broken in damaged(one.value or b""):
            assert list(record_faults(one.topic, broken, one.headers)), broken


def first_of_each(records: list[Found]) -> list[Found]:
    """Return a record of each type of transaction, event and command."""
    first: dict[tuple[str, str], Found] = {}
    for one in records:
        if (
            one.topic in ("transactions", "events", "commands")
            and one.value
            and "control" not in dict(one.headers)
        ):
            of = json.loads(one.value)
            first.setdefault((one.topic, of.get("type", of.get("do"))), one)
    return list(first.values())


def damaged(value: bytes) -> Iterator[bytes]:
    """Yield a record with something wrong: its id is lacking, is a number; its type is none."""
    of: dict[str, Any] = json.loads(value)
    yield json.dumps({name: one for name, one in of.items() if name != "id"}).encode()
    yield json.dumps({**of, "id": 7}).encode()
    kind = "do" if "do" in of else "type"
    yield json.dumps({**of, kind: "nonsense"}).encode()
    if kind == "type":
        yield json.dumps({**of, "nonsense": 1}).encode()
        yield json.dumps({**of, "at": "yesterday"}).encode()


def test_a_broken_rejection_is_told() -> None:
    """A reason that is on no list, a header that lacks."""
    headers = [
        ("reason", b"too_old"), ("detail", b"send it with --late"), ("value", b""), ("side", b"orig"),
        ("source_topic", b"rater.cdrs"), ("source_partition", b"0"), ("source_offset", b"7"),
        ("catalog", b"1"), ("attempt", b"1"),
    ]  # fmt: skip
    assert list(record_faults("rejected", b"{}", headers)) == []
    assert list(record_faults("rejected", b"{}", [("reason", b"too_dear"), *headers[1:]]))
    assert list(record_faults("rejected", b"{}", headers[1:]))
