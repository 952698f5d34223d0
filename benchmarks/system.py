"""The measured system: its servers, topics, workers, and the marks between which it is measured."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from processes import STOP_S, Process, busy_s, cpu, rss_mb
from redis.asyncio import Redis as Client
from world import World

import rater
from rater import app
from rater.config import Settings, load
from rater.jobs.load import Loader
from rater.local.kafka import Kafka
from rater.local.redis import Redis

WIRE_RECORDS = 500
"""Records of a batch as the switches' collectors send them."""
READY_S = 900.0
SAMPLE_S = 0.5
_SAMPLE = re.compile(r"^(rater_\w+)(\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
HERE = Path(__file__).parent


class Servers(NamedTuple):
    """One broker and one Redis."""

    kafka: Kafka
    redis: Redis
    folder: Path
    results: Path
    """Where pictures are put."""


class Sample(NamedTuple):
    """What is known at one instant. counts: of all workers together, as they tell them at /metrics."""

    at_s: float
    worker_s: float
    worker_system_s: float
    redis_s: float
    kafka_s: float
    busy_s: float
    counts: dict[str, float]

    @property
    def cdrs(self) -> float:
        """Records whose results are committed."""
        return self.counts.get("rater_cdrs_total", 0.0)


class Measured(msgspec.Struct):
    """What lies between two marks; µs are CPU time per CDR."""

    cdrs: int
    sides: int
    seconds: float
    worker_us: float
    worker_system_us: float
    redis_us: float
    kafka_us: float
    others_cores: float
    """Cores that were busy with anything but the worker, Redis and Kafka."""
    rate: float
    commits: float
    records_per_commit: float
    redis_calls: float
    redis_call_us: float
    draws: float
    duplicates: float
    rejected: float
    rss_mb: float = 0.0
    redis_mb: float = 0.0

    @property
    def side_us(self) -> float:
        """Worker CPU of a side."""
        return self.worker_us * self.cdrs / self.sides

    @property
    def redis_side_us(self) -> float:
        """Redis CPU of a side."""
        return self.redis_us * self.cdrs / self.sides


@asynccontextmanager
async def servers(folder: Path, results: Path) -> AsyncIterator[Servers]:
    """Start the servers: the broker with its whole compiler, and the Redis that has jemalloc."""
    with (
        Kafka.start(folder / "kafka", heap_mb=1024, fast_jit=True, say=print) as kafka,
        Redis.start(folder / "redis", flavour="redis") as redis,
    ):
        yield Servers(kafka, redis, folder, results)


@asynccontextmanager
async def build_before(on: Servers, tree: str) -> AsyncIterator[System | None]:
    """Give a system whose workers are of another working tree, on a Redis of its own; none: None."""
    if not tree:
        yield None
        return
    folder, source = on.folder / "before", await asyncio.to_thread(Path(tree, "src").resolve)
    await asyncio.to_thread(folder.mkdir)
    with Redis.start(folder / "redis", flavour="redis") as redis:
        own, more = on._replace(redis=redis, folder=folder), {"PYTHONPATH": str(source)}
        async with System(own, "before", more=more) as system:
            yield system


class System:
    """One set of topics and one Redis prefix, with its workers."""

    def __init__(
        self, on: Servers, name: str, *, partitions: int = 4, more: Mapping[str, str] | None = None
    ) -> None:
        """more: further settings, as variables of the environment."""
        self.on, self.name, self.partitions = on, name, partitions
        self.environ = {
            "PYTHONPATH": str(Path(rater.__file__).parents[1]),
            "RATER_KAFKA__BOOTSTRAP_SERVERS": on.kafka.bootstrap_servers,
            "RATER_KAFKA__GROUP_ID": name,
            "RATER_REDIS__URL": on.redis.url,
            "RATER_REDIS__PREFIX": name,
            "RATER_TOPICS__PREFIX": f"{name}.",
            "RATER_TOPICS__PARTITIONS": str(partitions),
            "RATER_TOPICS__REPLICATION_FACTOR": "1",
            **(more or {}),
        }
        settings = load(None, self.environ, {})
        assert isinstance(settings, Settings), settings
        self.settings = settings
        self.client = app.kafka_client(settings)
        self.topics = app.topics_of(settings)
        self.workers: dict[int, Process] = {}  # metrics port -> process
        self.sent = dict.fromkeys(range(partitions), 0)
        self._ports = iter(range(19_464 + hash(name) % 400, 20_000))
        self._session: aiohttp.ClientSession
        self._producer: AIOKafkaProducer
        self._redis: Client

    async def __aenter__(self) -> Self:
        await self.topics.create(self.client, 1)
        self._producer = AIOKafkaProducer(**self.client, max_batch_size=2**20, linger_ms=0)
        await self._producer.start()
        self._session = aiohttp.ClientSession()
        self._redis = Client.from_url(self.on.redis.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._producer.stop()
        await self._session.close()
        await self._redis.aclose()

    # ------------------------------------------------------------------ workers
    async def start(self, count: int = 1, launcher: tuple[str, ...] = ("-m", "rater")) -> None:
        """Start workers."""
        for _ in range(count):
            port = next(self._ports)
            environ = {**self.environ, "RATER_METRICS__PORT": str(port)}
            log = self.on.folder / f"{self.name}-{port}.log"
            self.workers[port] = Process([sys.executable, *launcher, "worker"], log, environ)

    async def stop(self) -> None:
        """End the workers in order."""
        for process in self.workers.values():
            await asyncio.to_thread(process.stop, STOP_S)
        self.workers = {}

    def must_run(self) -> None:
        """Raise when a worker has ended."""
        for process in self.workers.values():
            process.must_run()

    async def load(self, catalog: bytes, at_ms: int | None = None) -> float:
        """Load a catalog while workers run; return the seconds it took. at_ms: the load's now."""
        path = self.on.folder / f"{self.name}.json"
        path.write_bytes(catalog)
        began = time.monotonic()
        store = await app.connect_store(self.settings)
        own, now = app.catalogs_of(self.settings), (lambda: int(time.time()) * 1000)
        loader = Loader(
            self.client, self.topics, store, own, lambda _: None, "benchmark",
            now_ms=now if at_ms is None else (lambda: at_ms),
        )  # fmt: skip
        try:
            loaded = await loader.load([path])
        finally:
            await store.close()
        assert not isinstance(loaded, list), [str(fault) for fault in loaded[:5]]
        self.must_run()
        assert loaded.applied
        assert not loaded.refused, loaded.refused[:3]
        return time.monotonic() - began

    async def load_by_program(self, catalog: bytes) -> None:
        """Load a catalog by the program of the workers' own build."""
        path = self.on.folder / f"{self.name}.json"
        path.write_bytes(catalog)
        await self.start()
        command, log = [sys.executable, "-m", "rater", "load", str(path)], path.with_suffix(".log")
        with Process(command, log, self.environ) as loading:
            await asyncio.to_thread(loading.finished)
        await self.stop()

    # ------------------------------------------------------------------ input
    async def preload(self, cdrs: Iterable[bytes], at_ms: int | None = None) -> int:
        """Put CDRs into the topic, evenly, in wire batches; return how many. at_ms: their records' time."""
        source, total = iter(cdrs), 0
        while True:
            waiting = []
            for partition in self.sent:
                batch = self._producer.create_batch()
                for raw in islice(source, WIRE_RECORDS):
                    batch.append(timestamp=at_ms, key=None, value=raw)
                if batch.record_count():
                    waiting.append(
                        await self._producer.send_batch(batch, self.topics.cdrs, partition=partition)
                    )
                    self.sent[partition] += batch.record_count()
                    total += batch.record_count()
            if not waiting:
                return total
            await asyncio.gather(*waiting)

    # ------------------------------------------------------------------ marks
    async def sample(self) -> Sample:
        """Ask the workers what they have committed, and /proc what it has cost."""
        counts: dict[str, float] = {}
        for port in self.workers:
            try:
                async with self._session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = await answer.text()
            except aiohttp.ClientConnectionError:
                continue  # it is about to start
            for name, labels, value in _SAMPLE.findall(text):
                key = name + (labels if name == "rater_stage_seconds_count" else "")
                counts[key] = counts.get(key, 0.0) + float(value)
        return self._cost(counts)

    def _cost(self, counts: dict[str, float]) -> Sample:
        self.must_run()
        used = [cpu(process.pid) for process in self.workers.values()]
        return Sample(
            time.monotonic(), sum(one.total for one in used), sum(one.system for one in used),
            cpu(self.on.redis.pid).total, cpu(self.on.kafka.pid).total, busy_s(), counts,
        )  # fmt: skip

    async def until(self, cdrs: float, limit_s: float = READY_S) -> Sample:
        """Return the first sample with so many CDRs committed; the workers are asked more often near it."""
        end = time.monotonic() + limit_s
        while True:
            now = await self.sample()
            if now.cdrs >= cdrs:
                return now
            assert time.monotonic() < end, f"not within {limit_s} s: {now}"
            await asyncio.sleep(SAMPLE_S if now.cdrs < 0.95 * cdrs else SAMPLE_S / 10)

    async def measure(self, world: World, name: str, warm: int, count: int, workers: int = 1) -> Measured:
        """Start workers, let them do `warm` calls, and measure `count` calls from the first to the last.

        Start-up lies before the first mark: connecting, taking lanes, reading the catalog, cold caches. While
        the measured calls are put into the topics the workers stand still, with nothing begun and nothing
        left: so exactly the work for these calls lies between the marks.
        """
        calls = list(world.calls(warm + count, name))
        await self.preload(calls[:warm])
        await self.start(workers)
        before = await self.until(warm)
        for process in self.workers.values():
            process.signal(signal.SIGSTOP)
        await self.preload(calls[warm:])
        await self._redis.config_resetstat()
        first = self._cost(before.counts)
        for process in self.workers.values():
            process.signal(signal.SIGCONT)
        last = await self.until(warm + count)
        measured = between(first, last, await self._redis.info("commandstats"))
        measured.rss_mb = sum(rss_mb(process.pid) for process in self.workers.values())
        measured.redis_mb = int((await self.info("memory"))["used_memory"]) / 1e6
        await self.stop()
        return measured

    # ------------------------------------------------------------------ output
    async def published(self, count: int) -> list[tuple[bytes | None, bytes | None, list[Any]]]:
        """Return about so many of the last usage transactions, as they lie in the topic."""
        reader = AIOKafkaConsumer(**self.client, isolation_level="read_committed")
        await reader.start()
        try:
            place = TopicPartition(self.topics.transactions, 0)
            reader.assign([place])
            end = (await reader.end_offsets([place]))[place]
            reader.seek(place, max(0, end - 2 * count))
            found: list[Any] = []
            while len(found) < count and await reader.position(place) < end:
                found += [
                    (record.key, record.value, [(name, bytes(raw)) for name, raw in record.headers])
                    for record in (await reader.getmany(timeout_ms=500)).get(place, [])
                    if record.value
                ]
            return found[:count]
        finally:
            await reader.stop()

    async def info(self, section: str) -> dict[str, Any]:
        """Return a section of Redis' INFO."""
        return await self._redis.info(section)

    async def forget(self) -> None:
        """Empty Redis, for the next system on it."""
        await self.stop()
        await self._redis.flushall()

    async def key_bytes(self) -> Counter[str]:
        """Return the bytes of all keys by kind (store/keys.py): what MEMORY USAGE says of each, whole."""
        found: Counter[str] = Counter()
        keys = [key async for key in self._redis.scan_iter(f"{self.name}{{*}}:*", count=1000)]
        for at in range(0, len(keys), 1000):
            asking = self._redis.pipeline(transaction=False)
            for key in keys[at : at + 1000]:
                asking.memory_usage(key, samples=0)
            for key, size in zip(keys[at : at + 1000], await asking.execute(), strict=True):
                found[key.partition(b"}:")[2].partition(b":")[0].decode()] += size or 0
        return found

    async def pass_through(
        self, starts: Mapping[int, int], warm: int, sample: Path, produced: float
    ) -> tuple[float, float]:
        """Let the pass-through worker read what the worker has read; return µs of CPU per CDR, and CDR/s."""
        target = f"{self.name}.passed"
        await self._create(target)
        plan, log = self.on.folder / "plan.json", self.on.folder / f"{target}-{sum(starts.values())}.log"
        plan.write_bytes(msgspec.json.encode({
            "bootstrap_servers": self.on.kafka.bootstrap_servers,
            "source": self.topics.cdrs, "target": target,
            "starts": starts, "warm": {n: at + warm // len(starts) for n, at in starts.items()},
            "ends": self.sent, "produced": produced, "sample": str(sample),
            "batch_records": self.settings.worker.batch_records_max,
            "age_s": self.settings.worker.batch_age_ms / 1000,
        }))  # fmt: skip
        with Process([sys.executable, str(HERE / "passing.py"), str(plan)], log, {}) as process:
            await asyncio.to_thread(process.finished)
        cpu_s, seconds, cdrs = json.loads(process.told().splitlines()[-1])
        return cpu_s / cdrs * 1e6, cdrs / seconds

    async def _create(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(topic, self.partitions, 1, topic_configs={"max.message.bytes": str(11 * 2**20)})]
            )
        finally:
            await admin.close()


def between(first: Sample, last: Sample, stats: Mapping[str, Any] | None = None) -> Measured:
    """Return what lies between two marks."""

    def more(name: str) -> float:
        return last.counts.get(name, 0.0) - first.counts.get(name, 0.0)

    cdrs, seconds = last.cdrs - first.cdrs, last.at_s - first.at_s
    commits = more('rater_stage_seconds_count{stage="commit"}')
    ours = (last.worker_s - first.worker_s, last.redis_s - first.redis_s, last.kafka_s - first.kafka_s)
    calls = (stats or {}).get("cmdstat_fcall", {"calls": 0, "usec": 0})
    return Measured(
        cdrs=round(cdrs),
        sides=round(more("rater_sides_total")),
        seconds=seconds,
        worker_us=ours[0] / cdrs * 1e6,
        worker_system_us=(last.worker_system_s - first.worker_system_s) / cdrs * 1e6,
        redis_us=ours[1] / cdrs * 1e6,
        kafka_us=ours[2] / cdrs * 1e6,
        others_cores=(last.busy_s - first.busy_s - sum(ours)) / seconds,
        rate=cdrs / seconds,
        commits=commits,
        records_per_commit=cdrs / commits if commits else 0.0,
        redis_calls=calls["calls"] / cdrs,
        redis_call_us=calls["usec"] / cdrs,
        draws=more("rater_draws_total") / cdrs,
        duplicates=more("rater_duplicates_total") / cdrs,
        rejected=more("rater_rejected_total") / cdrs,
    )
