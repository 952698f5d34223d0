"""Topics that were recreated: the worker stops and says which, rather than rate again or lose calls."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest_v4

from rater import app
from rater.errors import Halt
from rater.stream import metadata, watching
from rater.stream.topics import partition_counts
from rater.worker.process import Worker
from traffic import calls, catalog, distinct_sides

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


@pytest.fixture
def pbx(prefix: str) -> dict[str, str]:
    """Settings of a source with a topic of this test's own."""
    return {"RATER_SOURCES__PBX__TOPIC": f"{prefix}.pbx"}


@contextlib.asynccontextmanager
async def admin_of(system: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an admin client."""
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def delete(system: Any, topic: str) -> None:
    """Delete a topic and wait until it is gone."""
    async with admin_of(system) as admin:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await system.until(gone)
    system.sent.pop((topic, 0), None)


def cdrs_of(count: int, seed: int) -> list[bytes]:
    """Return so many calls, some of which are repeated."""
    return calls(count, seed, time.time_ns() // 1_000_000, clients=3, contested_clients=1)


async def rating(system: Any, topic: str, cdrs: list[bytes]) -> subprocess.Popen[bytes]:
    """Return a worker process that has rated calls of a topic."""
    process: subprocess.Popen[bytes] = system.start_worker()
    await system.load(catalog(3, 1))
    await system.send([(raw, None) for raw in cdrs], topic=topic)
    await system.settled()
    return process


async def stopped(system: Any, process: subprocess.Popen[bytes]) -> str:
    """Wait until a worker has stopped by itself; returns its log."""

    async def ended() -> bool:
        return process.poll() is not None

    await system.until(ended)
    told = str((system.folder / f"worker-{system.processes.index(process)}.log").read_text())
    assert process.returncode == 1
    assert "Traceback" not in told
    return told


def named_id(told: str) -> str:
    """Return the id that a worker's last words name for topics.recreated."""
    return str(re.findall(r"topics\.recreated = '([A-Za-z0-9_-]{22})'", told)[-1])


async def rated_once(system: Any, cdrs: list[bytes]) -> None:
    """Assert that each of these calls has its transactions, once, and that the audit agrees."""
    usages = [one["id"].split("/", 1)[1] for one in await system.transactions() if one["type"] == "usage"]
    assert len(usages) == len(set(usages))
    assert {one.split("/", 1)[1] for one in distinct_sides(cdrs)} == set(usages)
    ledger = await app.audit(system.settings)
    assert not ledger.findings_total, ledger.findings


@pytest.mark.parametrize("name", ["transactions", "cdrs", "commands"])
async def test_a_recreated_topic_stops_the_worker(system_of: SystemOf, name: str) -> None:
    """Its records are gone, and its offsets begin again: exit code 1, with a sentence that names it."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog(3, 1))
        await system.send([(raw, None) for raw in cdrs_of(100, 3)])
        await system.settled()
    topic = getattr(system.topics, name)
    await delete(system, topic)
    await system.topics.create(system.client, 1)
    told = await stopped(system, system.start_worker())
    assert f"{topic}[0]" in told
    assert "recreated" in told


async def test_a_topic_recreated_under_a_worker_loses_nothing(
    system_of: SystemOf, pbx: dict[str, str]
) -> None:
    """A switch that goes on sending while its topic is deleted and made again: all that it has is rated.

    The worker stops within seconds and names topic, id and remedy; with the remedy it reads the new topic
    from its beginning, although that is longer by then than what was read of the old one.
    """
    system = await system_of(environ=pbx)
    topic = system.topics.data[1]
    cdrs = cdrs_of(500, 3)
    process = await rating(system, topic, cdrs[:60])
    await system.send([(raw, None) for raw in cdrs[60:80]], topic=topic)
    await system.settled()
    await delete(system, topic)
    await system.topics.create(system.client, 1)
    at = time.monotonic()
    for number in range(80, 300, 20):  # beyond where the worker stood
        await system.send([(raw, None) for raw in cdrs[number : number + 20]], topic=topic)
    told = await stopped(system, process)
    assert time.monotonic() - at < 15
    assert f"{topic} is not the topic that was read before: its id is " in told
    await system.send([(raw, None) for raw in cdrs[300:]], topic=topic)
    assert named_id(await stopped(system, system.start_worker())) == named_id(told)
    system.environ["RATER_TOPICS__RECREATED"] = named_id(told)
    system.start_worker()
    await system.settled()
    await rated_once(system, cdrs)


@pytest.mark.parametrize("name", ["cdrs", "commands"])
async def test_an_own_input_recreated_under_a_worker_stops_it(system_of: SystemOf, name: str) -> None:
    """Also without any record in the new topic: its name is told within seconds."""
    system = await system_of()
    process = await rating(system, system.topics.cdrs, cdrs_of(20, 3))
    topic = getattr(system.topics, name)
    await delete(system, topic)
    await system.topics.create(system.client, 1)
    told = await stopped(system, process)
    assert re.search(rf"{topic}(\[0\])? is not the topic that was read before: its id is ", told)


async def test_a_journal_recreated_under_a_worker_stops_it(system_of: SystemOf) -> None:
    """Before more than one commit is written into a journal that has lost its past."""
    system = await system_of()
    cdrs = cdrs_of(200, 3)
    process = await rating(system, system.topics.cdrs, cdrs[:100])
    await delete(system, system.topics.transactions)
    await system.topics.create(system.client, 1)
    with contextlib.suppress(KafkaError):
        for raw in cdrs[100:]:
            await system.send([(raw, None)])
            if process.poll() is not None:
                break
    told = await stopped(system, process)
    assert f"{system.topics.transactions}" in told
    assert "restore it from a backup" in told or "Redis knows of lane 0" in told
    assert len(await system.transactions()) < 100


@pytest.mark.parametrize("name", ["pbx", "transactions", "commands"])
async def test_a_missing_topic_is_told(system_of: SystemOf, pbx: dict[str, str], name: str) -> None:
    """/readyz names it within seconds, the library repeats itself seldom; a stop still works."""
    system = await system_of(environ=pbx)
    data = system.topics.data[1]
    topic = data if name == "pbx" else f"{system.topics.prefix}{name}"
    process = await rating(system, data, cdrs_of(20, 3))
    port = system.metrics_port(process)
    await delete(system, topic)
    said = ""

    async def told() -> bool:
        nonlocal said
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            said = await answer.text()
            return answer.status == 503 and f"{topic}: the topic is missing" in said

    await system.until(told)
    assert "does not answer" not in said
    assert system.stop_worker(process) == 0
    lines = (system.folder / "worker-0.log").read_text().splitlines()
    assert len([line for line in lines if "not found in cluster metadata" in line]) <= 1
    assert len([line for line in lines if '"topic missing"' in line]) == 1


async def test_partitions_added_under_a_worker_stop_it(system_of: SystemOf) -> None:
    """Nobody would read the new ones: refused as at the start, with the same sentence."""
    system = await system_of()
    process = await rating(system, system.topics.cdrs, cdrs_of(20, 3))
    async with admin_of(system) as admin:
        await admin.create_partitions({system.topics.cdrs: NewPartitions(2)})
    told = await stopped(system, process)
    assert f"{system.topics.cdrs}: has 2 partitions, but topics.partitions is 1" in told


async def test_a_source_may_grow_up_to_the_lanes(system_of: SystemOf, pbx: dict[str, str]) -> None:
    """The lane that has a partition of it now reads it, from its beginning, without a restart."""
    system = await system_of(partitions=2, environ=pbx)
    topic = system.topics.data[1]
    await delete(system, topic)
    async with admin_of(system) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1048588"})])
        cdrs = cdrs_of(40, 3)
        async with system.worker():
            await system.load(catalog(3, 1))
            await system.send([(raw, None) for raw in cdrs[:20]], topic=topic)
            await system.settled()
            await admin.create_partitions({topic: NewPartitions(2)})

            async def grown() -> bool:
                return await partition_counts(system.client, [topic]) == {topic: 2}

            await system.until(grown)
            async with AIOKafkaProducer(**system.client) as producer:  # the other one does not know yet
                for raw in cdrs[20:]:
                    last = await producer.send_and_wait(topic, raw, partition=1)
                    system.sent[topic, 1] = last.offset + 1
            await system.settled()
    await rated_once(system, cdrs)


async def test_an_id_tells_what_times_do_not(system_of: SystemOf) -> None:
    """A topic recreated while no worker ran is found although it has records of the same times, and more."""
    system = await system_of()
    at_ms, cdrs = time.time_ns() // 1_000_000, cdrs_of(60, 3)
    async with system.worker():
        await system.load(catalog(3, 1))
        await system.send([(raw, at_ms) for raw in cdrs[:20]])
        await system.settled()
    await delete(system, system.topics.cdrs)
    await system.topics.create(system.client, 1)
    await system.send([(raw, at_ms) for raw in cdrs[20:]])
    told = await stopped(system, system.start_worker())
    assert f"{system.topics.cdrs}[0] is not the topic that was read before: its id is " in told
    system.environ["RATER_TOPICS__RECREATED"] = f"{'x' * 22}, {named_id(told)}"
    system.start_worker()
    await system.settled()
    await rated_once(system, cdrs)


@pytest.mark.parametrize("records", [0, 40])
async def test_a_broker_that_tells_no_ids(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    """There one that was missing for a while is another one, or it ends before what was read."""
    monkeypatch.setattr(metadata.Ask, "_CLASSES", (MetadataRequest_v4,))
    monkeypatch.setattr(watching, "VERIFY_S", 0.0)
    system = await system_of()
    cdrs = cdrs_of(60, 3)
    halted = r"cdrs(\[0\])? (is not the topic that was read before: .* another name|no longer has offset 20)"
    async with app.connected(system.settings) as shared:
        worker = Worker(shared)
        running = asyncio.create_task(worker.run())
        await system.load(catalog(3, 1))
        await system.send([(raw, None) for raw in cdrs[:20]])
        await system.settled()
        await delete(system, system.topics.cdrs)

        async def missed() -> bool:
            return bool(shared.readiness.topic_faults)

        await system.until(missed)
        await system.topics.create(system.client, 1)
        await system.send([(raw, None) for raw in cdrs[20 : 20 + records]])
        with pytest.raises(Halt, match=halted):
            await asyncio.wait_for(running, 30)


async def test_records_of_a_topic_without_an_id_are_compared(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that did not see it missing finds another record where the last one was."""
    monkeypatch.setattr(metadata.Ask, "_CLASSES", (MetadataRequest_v4,))
    monkeypatch.setattr(watching, "VERIFY_S", 0.0)
    system = await system_of()
    async with app.connected(system.settings) as shared:
        worker = Worker(shared)
        running = asyncio.create_task(worker.run())
        await system.load(catalog(3, 1))
        await system.send([(raw, None) for raw in cdrs_of(20, 3)])
        await system.settled()
        (source,) = [source for _, source in worker.readers()]
        source.committed({system.topics.cdrs: 20}, {system.topics.cdrs: 5})
        with pytest.raises(
            Halt, match=r"cdrs\[0\] is not the topic that was read before: the record at offset"
        ):
            await asyncio.wait_for(running, 30)
