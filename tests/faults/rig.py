"""What the fault tests run on: a broker, two Redis servers, three workers, each behind its own proxies.

`Servers` live as long as the test run; a `Rig` is one installation on them (topics, prefix, workers) with a
load that keeps flowing, a reader that watches what comes out, and what a fault needs to hurt it. Ports are
fixed for the run: the broker advertises to each worker the port of its own proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.asyncio import Redis as RedisClient

from faults import auditor
from faults.proxy import HOST, Gate
from rater.config import Settings, load
from rater.local.kafka import Kafka
from rater.local.redis import Redis
from rater.stream.connecting import shut
from rater.stream.topics import Topics

SLOTS = 3
"""Workers; each has its own listener of the broker and its own proxies."""
PARTITIONS = 4
BUCKETS = 2
SESSION_MS = 3000
"""The shortest that a machine with two busy cores keeps without taking the living for dead."""
REDIS_TIMEOUT_S = 1.5
HEALED_S = 240.0
"""I12 asks for 60 s from the last fault until all is done; it is printed, for busy machines need more."""
DEADLINE_S = 240.0
HOOKED = Path(__file__).with_name("hooked.py")
_PORTS = range(20_000, 32_000)  # as in rater.local: no outgoing connection takes them while a server is down


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody uses now."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind((HOST, random.choice(_PORTS)))  # noqa: S311 - a port
                found.append(one.getsockname()[1])
        return found


async def until(
    condition: Callable[[], Awaitable[bool] | bool], what: str, deadline_s: float = DEADLINE_S
) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + deadline_s
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.05)


class Servers:
    """One broker, and two Redis servers that write an append-only file; the first is the primary at first."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        """Start them; settings: more of the broker's."""
        ports = free_ports(2 + 3 * SLOTS)
        self.direct, controller = ports[:2]
        self.listeners = ports[2 : 2 + SLOTS]
        self.kafka_doors = ports[2 + SLOTS : 2 + 2 * SLOTS]
        self.redis_doors = ports[2 + 2 * SLOTS :]
        names = [f"W{slot}" for slot in range(SLOTS)]
        own = [f"{name}://{HOST}:{port}" for name, port in zip(names, self.listeners, strict=True)]
        doors = [f"{name}://{HOST}:{port}" for name, port in zip(names, self.kafka_doors, strict=True)]
        protocols = ",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names))
        self.kafka = Kafka.start(
            folder / "kafka",
            port=self.direct,
            settings={
                "listeners": ",".join(
                    [f"PLAINTEXT://{HOST}:{self.direct}", *own, f"CONTROLLER://{HOST}:{controller}"]
                ),
                "advertised.listeners": ",".join([f"PLAINTEXT://{HOST}:{self.direct}", *doors]),
                "listener.security.protocol.map": protocols,
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                # Longer than the demo's: its own controller fences a broker that is starved of CPU.
                "broker.session.timeout.ms": "4500",
                **(settings or {}),
            },
        )
        self.stores = [self.store(folder / "redis-0"), self.store(folder / "redis-1")]

    @staticmethod
    def store(folder: Path) -> Redis:
        """Start a Redis that keeps its data, and tells a replica's loss at once."""
        return Redis.start(folder, append_only=True, settings={"repl-diskless-sync-delay": "0"})

    @property
    def bootstrap(self) -> str:
        """The broker, without a proxy."""
        return f"{HOST}:{self.direct}"

    def heal(self) -> None:
        """Bring back whatever a test left killed, frozen or short of disk."""
        for server in (self.kafka, *self.stores):
            server.resume()
            if not server.running:
                server.restart()
            unlimited(server.pid, resource.RLIMIT_FSIZE)

    def stop(self) -> None:
        """End them."""
        for server in (self.kafka, *self.stores):
            server.kill()


class ThreeBrokers(Servers):
    """Three brokers, three copies of all, a write waits for two. Workers reach them without a proxy."""

    def __init__(self, folder: Path) -> None:
        """Start them together: one alone is no quorum."""
        ports = free_ports(6 + 3 * SLOTS)
        plain, controllers = ports[:3], ports[3:6]
        self.listeners, self.kafka_doors = ports[6 : 6 + SLOTS], ports[6 + SLOTS : 6 + 2 * SLOTS]
        self.redis_doors = ports[6 + 2 * SLOTS :]
        self.addresses = ",".join(f"{HOST}:{port}" for port in plain)
        voters = ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(controllers, 1))
        copies = {
            f"{topic}.replication.factor": "3"
            for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        }

        def start(number: int) -> Kafka:
            return Kafka.start(
                folder / f"kafka-{number}",
                port=plain[number - 1],
                settings={
                    "node.id": str(number),
                    "controller.quorum.voters": voters,
                    "listeners": f"PLAINTEXT://{HOST}:{plain[number - 1]},"
                    f"CONTROLLER://{HOST}:{controllers[number - 1]}",
                    "transaction.state.log.min.isr": "2",
                    **copies,
                },
            )

        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(start, 1)
            formatted = folder / "kafka-1" / "data" / "meta.properties"
            while not formatted.exists() and not first.done():
                time.sleep(0.05)
            for number in (2, 3):
                copied(formatted.parent, folder / f"kafka-{number}" / "data", number)
            others = [pool.submit(start, number) for number in (2, 3)]
            self.brokers = [one.result() for one in (first, *others)]
        self.kafka = self.brokers[0]
        self.stores = [self.store(folder / "redis-0"), self.store(folder / "redis-1")]

    @property
    def bootstrap(self) -> str:
        """All brokers."""
        return self.addresses

    def heal(self) -> None:
        """Bring back what does not run."""
        for server in (*self.brokers, *self.stores):
            if not server.running:
                server.restart()

    def stop(self) -> None:
        """End them."""
        for server in (*self.brokers, *self.stores):
            server.kill()


def copied(data: Path, to: Path, number: int) -> None:
    """Give a data folder the format of the first node's, as another node of the same cluster."""
    to.mkdir(parents=True)
    shutil.copy(data / "bootstrap.checkpoint", to)
    own = urlsafe_b64encode(bytes([1, *[number] * 15])).decode().rstrip("=")
    own_lines = {"node.id": f"node.id={number}", "directory.id": f"directory.id={own}"}
    lines = [
        own_lines.get(line.partition("=")[0], line)
        for line in (data / "meta.properties").read_text().splitlines()
    ]
    (to / "meta.properties").write_text("\n".join(lines) + "\n")


def limited(pid: int, what: int, soft: int) -> None:
    """Set the soft limit of a process, so that it can be lifted again."""
    _, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, hard))


def unlimited(pid: int, what: int) -> None:
    """Lift a soft limit."""
    _, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (hard, hard))


@dataclass
class Slot:
    """A worker's place: its proxies, its process, what it was started with."""

    number: int
    kafka: Gate
    redis: Gate
    clock: Path
    process: subprocess.Popen[bytes] | None = None
    log: Path = Path()
    ended_by_us: bool = False

    @property
    def alive(self) -> bool:
        """Whether a process runs (frozen counts)."""
        return self.process is not None and self.process.poll() is None

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of the log of the present process."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else ():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


@dataclass(frozen=True)
class Order:
    """A command and the lane that it goes to."""

    raw: bytes
    lane: int


@dataclass
class Owned:
    """An owner record: who took a lane, and when."""

    lane: int
    worker: str
    at_ms: int


@dataclass
class Watched:
    """What the reader of the results has seen."""

    records: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    results: int = 0
    late_ms: list[int] = field(default_factory=list)
    """Of each usage transaction: from the call's record to the transaction, by their timestamps."""
    positions: dict[int, dict[str, int]] = field(default_factory=dict)
    """Lane → positions of its last mark."""
    owners: list[Owned] = field(default_factory=list)
    of_lane: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    read_to: dict[TopicPartition, int] = field(default_factory=dict)
    """Where the reader stands: markers and what was aborted count too."""


async def started(slot: Slot) -> None:
    """Wait until a worker minds signals (before, SIGTERM ends it as it ends any program), or has ended."""
    await until(
        lambda: not slot.alive or any("metrics_port" in line for line in slot.events()),
        f"worker {slot.number} has started",
    )


class Rig:
    """One installation under load."""

    def __init__(
        self,
        servers: Servers,
        folder: Path,
        seed: int,
        catalog: bytes,
        *,
        partitions: int = PARTITIONS,
        buckets: int = BUCKETS,
    ) -> None:
        """Nothing runs yet."""
        self.partitions = partitions
        self.buckets = buckets
        self.servers = servers
        self.folder = folder
        self.rng = random.Random(seed)  # noqa: S311 - the same faults again
        self.catalog = catalog
        self.prefix = f"t{uuid4().hex[:12]}"
        self.copies = 3 if isinstance(servers, ThreeBrokers) else 1
        self.cluster: list[str] = []
        """URLs of the nodes of a Redis cluster, where one is used in place of the servers' Redis."""
        self.topics = Topics(f"{self.prefix}.", partitions)
        self.primary = servers.stores[0]
        self.slots: list[Slot] = []
        self.watched = Watched()
        self.exits: list[str] = []
        self.sent = 0
        self.missed = 0
        """Faults that found nothing to hurt."""
        self.least = 2
        """So many workers there are at least: one that ended is replaced."""
        self.rate_per_s = 250
        self.feeding = asyncio.Event()
        self.recent: list[bytes] = []
        self._source: Iterable[bytes | Order] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._producer: AIOKafkaProducer | None = None
        self._started = 0

    # ------------------------------------------------------------------ life
    async def start(
        self, source: Iterable[bytes | Order], workers: int = 2, environ: dict[str, str] | None = None
    ) -> None:
        """Make topics, start proxies and workers, load the catalog, and let the load flow.

        environ: other settings of the workers.
        """
        await asyncio.to_thread(self.servers.heal)
        for number in range(SLOTS):
            clock = self.folder / f"clock-{number}"
            clock.write_bytes(struct.pack(">q", 0))
            slot = Slot(
                number, Gate("kafka", self.servers.listeners[number]), Gate("redis", self.primary.port), clock
            )
            await slot.kafka.start(self.servers.kafka_doors[number])
            await slot.redis.start(self.servers.redis_doors[number])
            self.slots.append(slot)
        await self.topics.create({"bootstrap_servers": self.servers.bootstrap}, self.copies)
        for slot in self.slots[:workers]:
            self.launch(slot, environ=environ)
        if workers:
            # A load gives up after some seconds without an answer, and a busy machine starts workers slowly.
            await until(self._all_taken, f"workers have taken all lanes; {self.told()}")
        await self.load_catalog()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.servers.bootstrap, acks="all", request_timeout_ms=5000, linger_ms=5
        )
        await self._producer.start()
        self._source = source
        self.feeding.set()
        self._tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._watch())]

    def _all_taken(self) -> bool:
        events = [line for slot in self.slots if slot.process is not None for line in slot.events()]
        lanes = {line["lane"] for line in events if line.get("event") == "lane taken"}
        return len(lanes) == self.partitions

    async def close(self) -> None:
        """End everything of this installation, also its topics."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self.slots:
            if slot.process is not None and slot.alive:
                slot.process.kill()
                await asyncio.to_thread(slot.process.wait)
            await slot.kafka.stop()
            await slot.redis.stop()
        await asyncio.to_thread(self.servers.heal)
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                await self._producer.stop()
        with contextlib.suppress(KafkaError):
            async with self.admin() as admin:
                await admin.delete_topics([spec.name for spec in self.topics.specs(1)])
        for store in self.servers.stores:
            async with RedisClient.from_url(store.url) as client:
                await client.replicaof("NO", "ONE")
                await client.flushall()

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Give an admin client of the broker."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    def environ(self, slot: Slot) -> dict[str, str]:
        """Return the settings of a worker: its servers are its own proxies."""
        return {
            **self.settings_of(
                self.servers.bootstrap if self.copies > 1 else f"{HOST}:{slot.kafka.port}",
                f"redis://{HOST}:{slot.redis.port}",
            ),
            "RATER_WORKER__ID": f"w{slot.number}-{self._started}",
            "RATER_FAULT_CLOCK": str(slot.clock),
            "RATER_FAULT_BLOCK_S": str(SESSION_MS / 1000 + 1),
        }

    def settings_of(self, bootstrap: str, redis_url: str) -> dict[str, str]:
        """Return the settings of this installation on the given servers."""
        return {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "RATER_KAFKA__GROUP_ID": self.prefix,
            "RATER_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_MS),
            "RATER_REDIS__URL": self._cluster_url() or redis_url,
            "RATER_REDIS__PREFIX": self.prefix,
            "RATER_REDIS__BUCKETS": str(self.buckets),
            "RATER_REDIS__TIMEOUT_S": str(REDIS_TIMEOUT_S),
            "RATER_TOPICS__PREFIX": f"{self.prefix}.",
            "RATER_TOPICS__PARTITIONS": str(self.partitions),
            "RATER_TOPICS__REPLICATION_FACTOR": str(self.copies),
            "RATER_METRICS__PORT": "0",
        }

    def _cluster_url(self) -> str:
        """Return the URL that names all nodes of the Redis cluster, "" where there is none."""
        return ",".join(self.cluster).replace(",redis://", ",")

    def settings(self) -> Settings:
        """Return the settings as the product reads them, for its own audit."""
        settings = load(None, self.settings_of(self.servers.bootstrap, self.primary.url), {})
        assert isinstance(settings, Settings)
        return settings

    async def load_catalog(self) -> None:
        """Load the catalog as an operator does."""
        path = self.folder / "catalog.json"
        path.write_bytes(self.catalog)
        loading = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rater", "load", str(path),
            env={**os.environ, **self.settings_of(self.servers.bootstrap, self.primary.url)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await asyncio.wait_for(loading.communicate(), DEADLINE_S)
        assert loading.returncode == 0, told.decode()

    # ------------------------------------------------------------------ workers
    def launch(self, slot: Slot, point: str | None = None, environ: dict[str, str] | None = None) -> None:
        """Start a worker; point: where it sends itself a signal (hooked.py); environ: other settings."""
        self._started += 1
        slot.log = self.folder / f"worker-{slot.number}-{self._started}.log"
        slot.ended_by_us = False
        whole = {**os.environ, **self.environ(slot), **(environ or {})}
        if point is not None:
            whole["RATER_FAULT_POINT"] = point
        with slot.log.open("wb") as log:
            slot.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, str(HOOKED), "worker"], env=whole, stdout=log, stderr=log
            )

    def running(self) -> list[Slot]:
        """Return the slots whose worker lives."""
        return [slot for slot in self.slots if slot.alive]

    def any_running(self) -> Slot:
        """Return one of them, as the seed says; starts one when there is none."""
        self.revive()
        return self.rng.choice(self.running())

    async def owning(self) -> Slot:
        """Wait until living workers have lanes, and return one of those, as the seed says."""

        def owners() -> bool:
            self.revive()
            return any(self.lanes_of(slot) for slot in self.running())

        await until(owners, f"a worker has lanes; {self.told()}")
        return self.rng.choice([slot for slot in self.running() if self.lanes_of(slot)])

    async def end(self, slot: Slot, number: signal.Signals = signal.SIGKILL) -> int:
        """End a worker by a signal and return its exit code."""
        assert slot.process is not None
        slot.ended_by_us = True
        slot.process.send_signal(number)
        if number == signal.SIGKILL:
            slot.process.send_signal(signal.SIGCONT)
        return await asyncio.to_thread(slot.process.wait, DEADLINE_S)

    def revive(self) -> None:
        """Start again what has ended, as a supervisor does, and note why it ended."""
        for slot in self.slots:
            if slot.process is None or slot.alive:
                continue
            if not slot.ended_by_us:
                tail = slot.log.read_text(errors="replace").splitlines()[-3:]
                self.exits.append(f"worker {slot.number}, code {slot.process.returncode}: {' | '.join(tail)}")
            slot.process = None
        for slot in self.slots:
            if not slot.alive and len(self.running()) < self.least:
                self.launch(slot)

    # ------------------------------------------------------------------ load
    async def _feed(self) -> None:
        assert self._producer is not None
        source = iter(self._source)
        behind = 0.0
        at = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            await self.feeding.wait()
            now = time.monotonic()
            behind = min(behind + (now - at) * self.rate_per_s, self.rate_per_s)
            at = now
            while behind >= 1:
                behind -= 1
                one = next(source)
                with contextlib.suppress(KafkaError):
                    await (self.put(one) if isinstance(one, bytes) else self.order(one))

    async def order(self, one: Order) -> None:
        """Send a command; what Kafka did with it is seen in the topic."""
        assert self._producer is not None
        sending = await self._producer.send(self.topics.commands, one.raw, partition=one.lane)
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def put(self, raw: bytes, partition: int | None = None) -> None:
        """Send a record; what Kafka did with it is seen in the topic."""
        assert self._producer is not None
        lane = self.rng.randrange(self.partitions) if partition is None else partition
        sending = await self._producer.send(self.topics.cdrs, raw, partition=lane)
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.sent += 1
        self.recent = [*self.recent[-400:], raw]

    async def progress(self, results: int = 60, *, everywhere: bool = False) -> None:
        """Wait until so many more results came out, or some in every lane."""
        goal = self.watched.results + results
        lanes = dict(self.watched.of_lane)

        def more() -> bool:
            self.revive()
            of_lane = self.watched.of_lane
            if everywhere and any(of_lane[lane] < lanes.get(lane, 0) + 5 for lane in range(self.partitions)):
                return False
            return self.watched.results >= goal

        await until(more, f"{results} more results; {self.told()}")

    def told(self) -> str:
        """Return the last words of the workers."""
        last = [
            f"{slot.number}: {' | '.join(slot.log.read_text(errors='replace').splitlines()[-3:])}"
            for slot in self.slots
            if slot.process is not None
        ]
        return "\n".join([*last, *self.exits[-3:]])

    # ------------------------------------------------------------------ results
    async def _watch(self) -> None:
        """Read what is committed while it comes, from where we are whatever happens."""
        places = [
            TopicPartition(topic, lane)
            for topic in (self.topics.transactions, self.topics.rejected)
            for lane in range(self.partitions)
        ]
        next_offset = dict.fromkeys(places, 0)
        while True:
            reader = AIOKafkaConsumer(
                bootstrap_servers=self.servers.bootstrap, auto_offset_reset="none", enable_auto_commit=False,
                isolation_level="read_committed", fetch_max_wait_ms=100, request_timeout_ms=5000,
            )  # fmt: skip
            try:
                await reader.start()
                reader.assign(places)
                for place, at in next_offset.items():
                    reader.seek(place, at)
                while True:
                    for place, records in (await reader.getmany(timeout_ms=200)).items():
                        for record in records:
                            self._see(record)
                            next_offset[place] = record.offset + 1
                    for place in places:
                        self.watched.read_to[place] = await reader.position(place)
            except (KafkaError, OSError):
                await asyncio.sleep(0.2)
            finally:
                await shut(reader)

    def _see(self, record: Any) -> None:
        one = auditor.record_of(record)
        watched = self.watched
        watched.records.append(one.digest)
        if one.topic == self.topics.rejected or auditor.EFFECT in one.headers:
            watched.results += 1
        if auditor.EFFECT in one.headers:
            watched.of_lane[one.partition] += 1
            topic, _, _, _, record_ms, *_ = msgspec.msgpack.decode(one.headers[auditor.EFFECT])
            if topic == self.topics.cdrs:
                watched.late_ms.append(one.at_ms - record_ms)
        if auditor.CONTROL in one.headers:
            tag, *said = msgspec.msgpack.decode(one.headers[auditor.CONTROL])
            if tag == "mark_v4":
                watched.positions[one.partition] = said[0]
            elif tag == "owner":
                watched.owners.append(Owned(one.partition, said[0], one.at_ms))

    def owner_of(self, lane: int) -> str:
        """Return who took a lane last, as far as seen."""
        return next((one.worker for one in reversed(self.watched.owners) if one.lane == lane), "")

    def lanes_of(self, slot: Slot) -> list[int]:
        """Return the lanes that the slot's present worker owns, as far as seen."""
        name = slot.log.stem.removeprefix("worker-")
        return [lane for lane in range(self.partitions) if self.owner_of(lane) == f"w{name}"]

    async def settled(self, deadline_s: float = HEALED_S) -> float:
        """Stop the load, wait until all of it is behind a mark (I12) and seen; return how long, in s."""
        self.feeding.clear()
        assert self._producer is not None
        with contextlib.suppress(KafkaError):
            await self._producer.flush()
        began = time.monotonic()
        places = [TopicPartition(self.topics.cdrs, lane) for lane in range(self.partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=self.servers.bootstrap) as reader:
            ends = await reader.end_offsets(places)

            def done() -> bool:
                self.revive()
                positions = self.watched.positions
                return all(
                    positions.get(place.partition, {}).get(place.topic, 0) >= end
                    for place, end in ends.items()
                )

            await until(done, f"I12: everything behind a mark; {self.told()}", deadline_s)
            took = time.monotonic() - began
            await self._seen()
        return took

    async def _seen(self) -> None:
        """Wait until no Kafka transaction is open (I8), and the reader has seen all that was written."""
        places = [
            TopicPartition(topic, lane)
            for topic in (self.topics.transactions, self.topics.rejected)
            for lane in range(self.partitions)
        ]
        async with AIOKafkaConsumer(bootstrap_servers=self.servers.bootstrap) as reader:

            async def read() -> bool:
                ends = await reader.end_offsets(places)
                return all(self.watched.read_to.get(place, 0) >= end for place, end in ends.items())

            await until(read, "I8: all is decided, and the reader has seen it")

    async def rest(self) -> None:
        """End all workers in order, so that nothing moves while the auditor reads."""
        for slot in self.running():
            await started(slot)
            await self.end(slot, signal.SIGTERM)
        await self._seen()

    def lateness(self) -> str:
        """Return how late results came, as it is printed."""
        late = sorted(self.watched.late_ms)
        p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
        return f"result after {p50} ms (p50), {p99} ms (p99), {late[-1]} ms (latest)"

    async def sound(self, *, store_kept: bool = True) -> auditor.Verdict:
        """Wait until all is healed, audit; fail with every finding and every worker that ended unasked."""
        await self.settled()
        verdict = auditor.audit(await self.evidence(store_kept=store_kept))
        assert not verdict.found, "\n".join([str(verdict), *verdict.found[:50]])
        assert not self.exits, "\n".join(self.exits)
        return verdict

    async def evidence(self, *, store_kept: bool) -> auditor.Evidence:
        """Read everything, at rest, for the auditor; store_kept: Redis never forgot what it had answered."""
        await self.rest()
        found = await auditor.collect(
            self.servers.bootstrap,
            self.topics.prefix,
            self.partitions,
            self.cluster or [self.primary.url],
            self.prefix,
            self.catalog,
        )
        found.watched = list(self.watched.records)
        found.store_kept = store_kept
        return found

    # ------------------------------------------------------------------ what a fault does to servers
    def lead_redis(self, store: Redis, slots: Iterable[Slot] | None = None) -> None:
        """Lead workers to a Redis; their connections are reset."""
        for slot in self.slots if slots is None else slots:
            slot.redis.target = store.port
            slot.redis.reset()

    @property
    def spare(self) -> Redis:
        """The Redis that is not in use."""
        first, second = self.servers.stores
        return second if self.primary is first else first

    async def empty(self, store: Redis) -> None:
        """Start a Redis afresh, without any data."""
        await asyncio.to_thread(store.kill)
        shutil.rmtree(store.folder / "appendonlydir", ignore_errors=True)
        await asyncio.to_thread(store.restart)

    async def redis(self, *command: str, store: Redis | None = None) -> Any:
        """Send a command to the primary, or another."""
        async with RedisClient.from_url((store or self.primary).url) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
