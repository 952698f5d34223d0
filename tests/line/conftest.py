"""The whole line on real servers: topics, a load, workers in this process or as processes, results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from engine_choice import is_native_here

from line.secured import Authority, Guarded, KafkaAdmin, broker_settings
from rater import app
from rater.config import Settings, load
from rater.core.catalog_files.merging import Fault
from rater.jobs.load import Loaded, Loader
from rater.local.child import HOST
from rater.local.kafka import Kafka
from rater.stream import journal
from rater.worker.process import Worker

DEADLINE_S = 90.0
SOON = {"RATER_KAFKA__SESSION_TIMEOUT_MS": "3000"}
"""Settings where a worker is killed: the other one gets its lanes so soon, as in the fault suite."""
HOOKED = Path(__file__).parents[1] / "faults" / "hooked.py"


class System:
    """One set of topics and one Redis prefix, with everything a test does to it."""

    def __init__(self, settings: Settings, folder: Path, environ: dict[str, str]) -> None:
        self.settings = settings
        self.client = app.kafka_client(settings)
        self.topics = app.topics_of(settings)
        self.folder = folder
        self.environ = environ
        self.processes: list[subprocess.Popen[bytes]] = []
        self.sent: dict[tuple[str, int], int] = {}
        self._producer: AIOKafkaProducer | None = None

    async def create(self) -> None:
        """Make the topics."""
        await self.topics.create(self.client, 1)
        self._producer = AIOKafkaProducer(**self.client, max_request_size=12_000_000)
        await self._producer.start()

    async def configure(self, topics: Iterable[str], change: dict[str, str]) -> None:
        """Change settings of topics, and wait until the broker goes by them."""
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        topic_type = ConfigResourceType.TOPIC
        whole = {
            spec.name: {**spec.settings, **change} for spec in self.topics.specs(1) if spec.name in topics
        }

        async def taken_over() -> bool:
            replies = await admin.describe_configs([ConfigResource(topic_type, name) for name in whole])
            found = [{entry[0]: entry[1] for entry in one[4]} for reply in replies for one in reply.resources]
            return all(change.items() <= settings.items() for settings in found)

        try:
            resources = [
                ConfigResource(topic_type, name, configs=settings) for name, settings in whole.items()
            ]
            await admin.alter_configs(resources)
            await until(taken_over)
        finally:
            await admin.close()

    async def close(self) -> None:
        """End what was started."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self._producer is not None:
            await self._producer.stop()

    # ------------------------------------------------------------------ input
    async def load(self, catalog: bytes, at_ms: int | None = None, name: str = "catalog.yaml") -> Loaded:
        """Load a catalog while workers run; `at_ms` is the load's now."""
        loaded = await self._load(catalog, at_ms, name)
        assert not isinstance(loaded, list), [str(fault) for fault in loaded]
        assert loaded.applied
        return loaded

    async def tried_load(
        self, catalog: bytes, at_ms: int | None = None, name: str = "catalog.yaml"
    ) -> list[str]:
        """Load a catalog that may be refused; returns why it is, in sentences."""
        loaded = await self._load(catalog, at_ms, name)
        if isinstance(loaded, list):
            return [str(fault) for fault in loaded]
        assert loaded.applied
        return loaded.refused

    async def _load(self, catalog: bytes, at_ms: int | None, name: str) -> Loaded | list[Fault]:
        path = self.folder / name
        path.write_bytes(catalog)
        store = await app.connect_store(self.settings)
        now = (lambda: at_ms) if at_ms is not None else (lambda: int(time.time()) * 1000)
        loader = Loader(
            self.client, self.topics, store, app.catalogs_of(self.settings), print, "test", now_ms=now
        )
        try:
            return await loader.load([path])
        finally:
            await store.close()

    async def send(
        self,
        records: Iterable[tuple[bytes | None, int | None]],
        *,
        topic: str | None = None,
        partition: int = 0,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Send (value, record time) to one partition, in order, and wait until the broker has them.

        headers: of each.
        """
        assert self._producer is not None
        name = topic or self.topics.cdrs
        futures = [
            await self._producer.send(
                name,
                value,
                key=None if value is not None else b"k",
                partition=partition,
                timestamp_ms=time_ms,
                headers=list(headers or []),
            )
            for value, time_ms in records
        ]
        for future in futures:
            sent = await future
            self.sent[name, partition] = sent.offset + 1

    async def send_whole(self, topic: str, record: Any) -> None:
        """Send a record again as it is: key, value and headers."""
        assert self._producer is not None
        await self._producer.send_and_wait(
            topic, record.value, key=record.key, headers=list(record.headers), partition=record.partition
        )

    # ------------------------------------------------------------------ workers
    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """Run a worker in this process; it is drained at the end, and what it raised is raised."""
        async with app.connected(self.settings) as shared:
            worker = Worker(shared)
            running = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stopping.set()
                await running

    def start_worker(self, point: str | None = None, **environ: str) -> subprocess.Popen[bytes]:
        """Start a worker as a process of its own. point: where it kills itself (faults/hooked.py).

        environ: settings that are its own.
        """
        program = ["-m", "rater"] if point is None else [str(HOOKED)]
        more = {} if point is None else {"RATER_FAULT_POINT": point}
        with (self.folder / f"worker-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, *program, "worker", "--metrics-port", "0"],
                env={**os.environ, **self.environ, **environ, **more},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    async def started(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a worker process minds signals: before, SIGTERM ends it as it ends any program."""
        log = self.folder / f"worker-{self.processes.index(process)}.log"

        async def told() -> bool:
            return "metrics_port" in log.read_text()

        await until(told)

    def metrics_port(self, process: subprocess.Popen[bytes]) -> int:
        """Return the port at which a worker process tells of itself."""
        log = self.folder / f"worker-{self.processes.index(process)}.log"
        (started,) = [line for line in log.read_text().splitlines() if "metrics_port" in line]
        return int(json.loads(started)["metrics_port"])

    def stop_worker(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """End a worker process and return its exit code."""
        process.send_signal(number)
        return process.wait(30)

    # ------------------------------------------------------------------ output
    async def read(self, topic: str) -> list[Any]:
        """Return every committed record of a topic, by partition and offset."""
        reader = AIOKafkaConsumer(
            **self.client,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await reader.start()
        try:
            places = [TopicPartition(topic, lane) for lane in range(self.topics.partitions)]
            reader.assign(places)
            ends = await reader.end_offsets(places)
            await reader.seek_to_beginning(*places)
            found: list[Any] = []
            while any([await reader.position(place) < ends[place] for place in places]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += records
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await reader.stop()

    async def transactions(self) -> list[dict[str, Any]]:
        """Return every published transaction."""
        return [
            json.loads(record.value) for record in await self.read(self.topics.transactions) if record.value
        ]

    async def commands(self) -> list[Any]:
        """Return every command record: JSON, without what a load keeps beside them."""
        records = await self.read(self.topics.commands)
        return [record for record in records if record.value and not record.headers]

    async def rejected(self) -> list[Any]:
        """Return every rejected record; `.value` are the original bytes."""
        return await self.read(self.topics.rejected)

    async def marks(self) -> dict[int, journal.Mark]:
        """Return the last mark of each lane that has one."""
        found: dict[int, journal.Mark] = {}
        for lane in range(self.topics.partitions):
            end = await journal.end_offset(self.client, self.topics.transactions, lane)
            mark = end and await journal.last_mark(self.client, self.topics.transactions, lane, end - 1)
            if mark:
                found[lane] = mark
        return found

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return (topic, partition) → next offset, by the last mark of each lane."""
        marks = await self.marks()
        return {(topic, lane): at for lane, mark in marks.items() for topic, at in mark.positions.items()}

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition, with a deadline."""
        await until(condition)

    async def settled(self) -> None:
        """Wait until everything that was sent is behind a mark."""

        async def all_marked() -> bool:
            positions = await self.positions()
            return all(positions.get(place, 0) >= at for place, at in self.sent.items())

        await until(all_marked)


async def until(condition: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < end, f"not within {deadline_s} s"
        await asyncio.sleep(0.05)


ONE_ENGINE = {
    "test_audit",
    "test_decks",
    "test_dids",
    "test_engines",
    "test_late",
    "test_lost_topics",
    "test_month",
    "test_queries",
    "test_readmodel",
    "test_rate",
    "test_readiness",
    "test_recycling",
    "test_rights",
    "test_secured",
    "test_snapshots",
    "test_spans",
    "test_rerate",
    "test_rerate_offered",
    "test_rebuilding",
}
"""Modules in which it does not matter by which engine calls are rated."""


LONG_BY_PYTHON = {
    "test_calls_a_message_and_a_session_of_each_format",
    "test_contested_limits_with_a_killed_worker",
    "test_redis_is_emptied_while_calls_flow",
}
"""Tests that `make test-long` runs by Python, and CI by the native engine alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the line by both engines, where the native one is."""
    one = metafunc.module.__name__.rpartition(".")[2] in ONE_ENGINE
    if "engine" in metafunc.fixturenames and is_native_here() and not one:
        is_long = metafunc.function.__name__ in LONG_BY_PYTHON
        python = pytest.param("python", marks=pytest.mark.long) if is_long else "python"
        metafunc.parametrize("engine", ["native", python])


@pytest.fixture
def engine() -> str:
    """Return what workers rate by: the native engine where it is."""
    return "auto"


@pytest.fixture
async def system_of(
    kafka: str, redis_url: str, prefix: str, tmp_path: Path, engine: str
) -> AsyncIterator[Callable[..., Awaitable[System]]]:
    """Return a maker of systems, all of which end with the test; options: partitions, redis, environ."""
    made: list[System] = []

    async def make(**options: Any) -> System:
        environ = {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": options.get("kafka", kafka),
            "RATER_KAFKA__GROUP_ID": prefix,
            "RATER_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "RATER_REDIS__URL": options.get("redis", redis_url),
            "RATER_REDIS__PREFIX": prefix,
            "RATER_TOPICS__PREFIX": f"{prefix}.",
            "RATER_TOPICS__PARTITIONS": str(options.get("partitions", 1)),
            "RATER_TOPICS__REPLICATION_FACTOR": "1",
            "RATER_METRICS__PORT": "0",
            "RATER_WORKER__ENGINE": engine,
            **options.get("environ", {}),
        }
        settings = load(None, environ, {})
        assert isinstance(settings, Settings), settings
        system = System(settings, tmp_path, environ)
        made.append(system)
        await system.create()
        return system

    yield make
    for system in made:
        await system.close()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The run's broker that asks who we are."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    ports, settings = broker_settings(authority)
    with Kafka.start(folder / "kafka", port=ports.plain, settings=settings):
        yield Guarded(ports, authority, KafkaAdmin(f"{HOST}:{ports.plain}"))
