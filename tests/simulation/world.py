"""A whole system in one thread: the real worker, loader and audit on the in-memory Kafka and store."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import sys
import time as real_time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
from aiokafka.producer import sender as aiokafka_sender
from msgspec.structs import replace

from rater import app
from rater.config import Settings, load
from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import did_name
from rater.core.instants import rfc3339
from rater.errors import Wait
from rater.jobs.audit import audit
from rater.jobs.load import Loaded, Loader
from rater.metrics import Metrics
from rater.worker.process import Worker
from simulation import clients, shelf
from simulation.broker import Broker, Entry, Faults, Place
from simulation.clockwork import PROCESS, Clock, Loop, Process, Stuck, clear_away, inline

SESSION_S = 6.0
TIMEOUT_S = 5.0
STOP_S = 60.0


NATIVE = "the native engine panicked", "the native engine returned"
"""What workers log of faults of the engine: in no run."""
STALE_S = 1.0
"""As `rater.worker.line.STALE_S`, which is minutes."""


class Sent(msgspec.Struct):
    """One input record as it was sent."""

    topic: str
    lane: int
    offset: int
    raw: bytes
    cdr: dict[str, Any] | None
    at_s: float = 0.0


class Ordered(msgspec.Struct):
    """One command as it was sent."""

    lane: int
    offset: int
    said: dict[str, Any]
    stamp_ms: int


class Slot:
    """A place where a worker runs; when it ends, another is started there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None
        self.task: asyncio.Task[None] | None = None
        self.worker: Worker | None = None
        self.wanted = True
        self.starts = 0


class Failure(Exception):  # noqa: N818 - what it is
    """What a run has done that it must not: sentences, and the story."""

    def __init__(self, faults: list[str], world: World) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.story = world.told()


@functools.cache
def settings_of(
    lanes: int, buckets: int, batch_max: int, extra_topic: bool,  # noqa: FBT001 - a key
    window_days: int, snapshots_s: int,
) -> Settings:  # fmt: skip
    """Return the settings of a system."""
    environ = {
        "RATER_KAFKA__BOOTSTRAP_SERVERS": "simulated",
        "RATER_KAFKA__GROUP_ID": "g",
        "RATER_KAFKA__SESSION_TIMEOUT_MS": str(int(SESSION_S * 1000)),
        "RATER_REDIS__URL": "redis://simulated",
        "RATER_REDIS__BUCKETS": str(buckets),
        "RATER_REDIS__TIMEOUT_S": str(TIMEOUT_S),
        "RATER_TOPICS__PREFIX": "",
        "RATER_TOPICS__PARTITIONS": str(lanes),
        "RATER_TOPICS__REPLICATION_FACTOR": "1",
        "RATER_WORKER__BATCH_RECORDS_MAX": str(batch_max),
        "RATER_WORKER__DUPLICATE_WINDOW_DAYS": str(window_days),
        "RATER_WORKER__SNAPSHOTS_EVERY_S": str(snapshots_s),
        "RATER_WORKER__ID": "w",
    }
    if extra_topic:
        environ["RATER_SOURCES__PBX__TOPIC"] = "pbx"
    settings = load(None, environ, {})
    assert isinstance(settings, Settings), settings
    return settings


class World:
    """One run."""

    def __init__(
        self, seed: int, *, lanes: int = 1, buckets: int = 1, batch_max: int = 4000,
        extra_topic: bool = False, window_days: int = 7, snapshots_s: int = 86_400,
    ) -> None:  # fmt: skip
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.loop = Loop()
        self.story: list[tuple[float, str, str]] = []
        self.broker = Broker(self.rng, self.tell)
        self.server = shelf.Server(self.rng, buckets, self.tell)
        self.settings = settings_of(lanes, buckets, batch_max, extra_topic, window_days, snapshots_s)
        self.topics = app.topics_of(self.settings)
        self.lanes, self.buckets = lanes, buckets
        self.processes: list[Process] = []
        self.slots: list[Slot] = []
        self.sent: list[Sent] = []
        self.ordered: list[Ordered] = []
        self.faults: list[str] = []
        self.loads: list[asyncio.Task[Any]] = []
        self.files: dict[str, bytes] = {}
        """Id of a load -> its catalog file."""
        self.loading: dict[Process, bytes] = {}
        self.answered: list[tuple[float, int]] = []
        """(when, version): from then on every lane rates by it, or by a later one."""
        self.calm = False
        """Nothing goes wrong in it: then what a lane does is one after the other."""
        self.healed = False
        self.engine = "python"
        """What workers rate by: native, python, both."""
        self.main: asyncio.Task[Any] | None = None
        self.halts: list[str] = []
        """What workers stopped with for good; that ends the run, unless it is what is looked for."""
        self.may_halt = False
        self.kept: list[Any] = []
        """Results of tasks that died: nothing of them may be collected while the run goes on."""
        for spec in self.topics.specs(1):
            own = {
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "cleanup.policy": "delete",
                "max.message.bytes": "1048588",
            }
            own |= spec.settings
            self.broker.create(spec.name, spec.partitions, own)

    def tell(self, who: str, what: str) -> None:
        """Note a step of the story."""
        self.story.append((self.loop.now, who, what))

    def told(self) -> str:
        """Return the story."""
        return "\n".join(f"{at:9.4f}  {who:<9} {what}" for at, who, what in self.story)

    # ------------------------------------------------------------------ running
    def run(self, work: Callable[[World], Any], deadline_s: float = 600.0) -> None:
        """Run it to its end; raises Failure with what was found."""
        clients.BROKERS["simulated"] = self.broker
        shelf.SERVERS["redis://simulated"] = self.server
        _Current.world = self
        try:
            self.main = self.loop.create_task(asyncio.wait_for(work(self), deadline_s))
            self.loop.run_until_complete(self.main)
        except TimeoutError:
            self.faults.append(f"not done within {deadline_s:g} s of its own time")
        except asyncio.CancelledError:
            self.faults += self.halts
        except Stuck as stuck:
            self.faults.append(str(stuck))
        finally:
            with contextlib.suppress(Stuck):
                clear_away(self.loop, self.processes)
            _Current.world = None
        self.faults += self.broker.broken
        self.faults += [f"{who}: {what}" for _, who, what in self.story if any(one in what for one in NATIVE)]
        if self.faults:
            raise Failure(self.faults, self)

    def process(self, name: str) -> Process:
        """Return a new process."""
        made = Process(name)
        self.processes.append(made)
        return made

    # ------------------------------------------------------------------ workers
    def add_worker(self) -> Slot:
        """Have one worker more."""
        slot = Slot(f"worker{len(self.slots)}")
        self.slots.append(slot)
        self.start(slot)
        return slot

    def start(self, slot: Slot) -> None:
        """Start a worker in a place, unless one is there."""
        if slot.process is not None and slot.process.alive:
            return
        slot.starts += 1
        name = slot.name if slot.starts == 1 else f"{slot.name}.{slot.starts}"
        slot.process = process = self.process(name)
        self.tell(name, "starts")
        slot.task = self.loop.spawn(process, self._work(slot))
        slot.task.add_done_callback(lambda task: self._ended(slot, process, task))

    def restart(self, slot: Slot) -> None:
        """Start a worker again, unless its place is given up."""
        if slot.wanted:
            self.start(slot)

    async def _work(self, slot: Slot) -> None:
        process = slot.process
        assert process is not None
        try:
            async with app.connected(self._settings_of(slot)) as shared:
                slot.worker = Worker(shared)
                if not slot.wanted:
                    slot.worker.stopping.set()
                await slot.worker.run()
        finally:
            await self.loop.end_rest(process)

    def _settings_of(self, slot: Slot) -> Settings:
        """Return the settings of a worker: of two engines one takes over from the other, and back."""
        engine = self.engine
        if engine == "both":
            engine = "native" if (slot.starts + len(slot.name) + int(slot.name[-1])) % 2 else "python"
        worker = replace(self.settings.worker, engine=engine)
        return replace(self.settings, worker=worker)

    def _ended(self, slot: Slot, process: Process, task: asyncio.Task[None]) -> None:
        if process.state == "ghost" or slot.process is not process:
            return
        process.state = "dead"
        slot.worker = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.tell(process.name, f"ends: {type(error).__name__}: {error}")
            if not isinstance(error, Wait) and str(error) != AWAY:
                self.halts.append(f"{process.name} ended with {type(error).__name__}: {error}")
                if self.main is not None and not self.may_halt:
                    self.main.cancel()
        else:
            self.tell(process.name, "ends")
        if slot.wanted:
            self.loop.outside(0.5, self.restart, slot)

    def crash(self, slot: Slot) -> None:
        """Kill a worker; another is started there a little later."""
        process = slot.process
        if process is None or not process.alive:
            return
        self.tell(process.name, "is killed")
        process.state = "dead"
        self.kept.append((slot.task, slot.worker))
        slot.worker = None
        if slot.wanted:
            self.loop.outside(self.rng.choice((0.05, 1.0, 8.0)), self.restart, slot)

    def freeze(self, slot: Slot, for_s: float) -> None:
        """Stop a worker for a while: it knows nothing of it."""
        process = slot.process
        if process is None or process.state != "runs":
            return
        self.tell(process.name, f"is frozen for {for_s:.2f} s")
        process.state = "frozen"
        self.loop.outside(for_s, self.thaw, process)

    def thaw(self, process: Process) -> None:
        """Let a frozen worker go on."""
        if process.state == "frozen":
            self.tell(process.name, "goes on")
            self.loop.resume(process)

    async def stop_workers(self) -> None:
        """End all workers as SIGTERM does."""
        for slot in self.slots:
            slot.wanted = False
            if slot.worker is not None:
                slot.worker.stopping.set()
        tasks = [
            slot.task
            for slot in self.slots
            if slot.task is not None and slot.process is not None and slot.process.alive
        ]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            if late:
                self.faults.append(f"{len(late)} workers do not end within {STOP_S:g} s")

    # ------------------------------------------------------------------ input
    def send(
        self, lane: int, cdr: dict[str, Any] | bytes, topic: str = "cdrs", stamp: int | None = None
    ) -> Sent:
        """Append one input record. stamp: its timestamp; None: that of now."""
        raw = cdr if isinstance(cdr, bytes) else json.dumps(cdr).encode()
        (offset,) = self.broker.put((topic, lane), [(None, raw, (), stamp)])
        sent = Sent(topic, lane, offset, raw, None if isinstance(cdr, bytes) else cdr, self.loop.now)
        self.sent.append(sent)
        self.tell("input", f"{topic}[{lane}]@{offset} {raw.decode(errors='replace')}")
        return sent

    def order(self, said: dict[str, Any]) -> Ordered:
        """Append a command to the partition of its client's bucket, or of its number's.

        Without either, to some partition.
        """
        number = said["args"].get("number")
        name = said.get("client") if number is None else did_name(number)
        lane = bucket_of(name, self.buckets) % self.lanes if name else self.rng.randrange(self.lanes)
        place = self.topics.commands, lane
        (offset,) = self.broker.put(place, [(None, json.dumps(said).encode(), (), None)])
        one = Ordered(lane, offset, said, self.broker.partition(place).entries[offset].at_ms)
        self.ordered.append(one)
        self.tell("input", f"{place[0]}[{lane}]@{offset} {json.dumps(said)}")
        return one

    def skip(self, for_s: float) -> None:
        """Let the clock on the wall go on while nothing happens."""
        self.loop.skipped_s += for_s
        self.tell("world", f"{for_s / 3600:.2f} hours pass: it is {rfc3339(int(self.loop.wall_s() * 1000))}")

    def begin_load(self, catalog: bytes, crash_at: int = 0, *, applied: bool = False) -> asyncio.Task[None]:
        """Load a catalog; when the loader dies or is refused, again.

        crash_at: the step that it dies at; applied: again also when no worker has answered. Without, again
        where no worker can answer, for the brokers have forgotten to mark the load as committed.
        """
        task = self.loop.create_task(self._load(catalog, crash_at, applied=applied))
        self.loads.append(task)
        return task

    async def _load(self, catalog: bytes, crash_at: int, *, applied: bool) -> None:
        for attempt in range(200):
            process = self.process(f"loader{attempt or ''}")
            died: asyncio.Future[None] = self.loop.create_future()

            def die(process: Process = process, died: asyncio.Future[None] = died) -> None:
                self.tell(process.name, "is killed")
                process.state = "dead"
                if not died.done():
                    died.set_result(None)

            if crash_at and not attempt:
                process.turns[crash_at] = die
            self.loading[process] = catalog
            work = self.loop.spawn(process, self._load_once(catalog))
            self.kept.append(work)
            ends: list[asyncio.Future[Any]] = [work, died]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            unseen = bool(self.broker.ids["catalog"].unmarked) if "catalog" in self.broker.ids else False
            if work.done() and work.exception() is None and not unseen and (work.result() or not applied):
                return
            if work.done() and (error := work.exception()) is not None:
                self.tell(process.name, f"ends: {type(error).__name__}: {error}")
            await asyncio.sleep(0.5)
        self.faults.append("a catalog could not be loaded")

    async def _load_once(self, catalog: bytes) -> bool:
        store = await app.connect_store(self.settings)
        now = int(self.loop.wall_s()) * 1000
        loader = Loader(
            app.kafka_client(self.settings), self.topics, store, app.catalogs_of(self.settings),
            lambda _: None, "sim", now_ms=lambda: now,
        )  # fmt: skip
        file: Any = SimpleNamespace(read_bytes=lambda: catalog, parent=Path())
        loaded = await loader.load([file])
        if not isinstance(loaded, Loaded):
            if not all("dids[" in str(one) for one in loaded):  # whether one is free is not known before
                self.faults.append(f"the catalog is refused: {loaded[0]}")
            return True
        self.tell("loader", f"catalog {loaded.version}: changed {loaded.changed}, applied {loaded.applied}")
        if loaded.applied and not loaded.refused:
            self.answered.append((self.loop.now, loaded.version))
        if refused := [one for one in loaded.refused if "DID" not in one]:
            self.faults.append(f"a part of the catalog is refused: {refused[0]}")
        return loaded.applied

    # ------------------------------------------------------------------ what became of it
    def visible(self, place: Place) -> list[Entry]:
        """Return the committed records of a partition."""
        return [entry for entry in self.broker.partition(place).entries if entry.visible]

    def positions(self, lane: int) -> dict[str, int]:
        """Return the positions of a lane's last mark, read without rater's code."""
        for entry in reversed(self.broker.partition((self.topics.transactions, lane)).entries):
            if entry.visible and entry.value is None and entry.headers and entry.headers[0][0] == "control":
                said = msgspec.msgpack.decode(entry.headers[0][1])
                if said[0] == "mark_v4":
                    found: dict[str, int] = said[1]
                    return found
        return {}

    def behind(self) -> list[str]:
        """Return what no mark has passed yet, what is undecided, and what is not rebuilt."""
        left = []
        for lane in range(self.lanes):
            positions = self.positions(lane)
            for topic in (*self.topics.data, self.topics.commands):
                visible = self.visible((topic, lane))
                end = visible[-1].offset + 1 if visible else 0
                if positions.get(topic, 0) < end:
                    left.append(f"{topic}[{lane}] is marked up to {positions.get(topic, 0)} of {end}")
            journal = self.broker.partition((self.topics.transactions, lane))
            if journal.stable != journal.end:  # of who was killed; the lane's next owner ends it
                left.append(f"the journal of lane {lane} is decided up to {journal.stable} of {journal.end}")
        left += [
            f"bucket {number} is closed"
            for number, bucket in enumerate(self.server.buckets)
            if bucket.open != bucket.run_id
        ]
        return left

    async def drained(self, within_s: float) -> None:
        """Wait until all input lies behind a mark, and every bucket is open."""
        until = self.loop.now + within_s
        while left := self.behind():
            if self.loop.now > until:
                self.faults.append(f"not drained within {within_s:g} s: {'; '.join(left)}")
                return
            await asyncio.sleep(0.1)

    async def shared(self) -> None:
        """Wait until each worker has a lane."""
        await self.until(
            lambda: all(slot.worker is not None and slot.worker.readiness.lanes for slot in self.slots)
        )

    async def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait until something is so."""
        end = self.loop.now + within_s
        while not condition():
            if self.loop.now > end:
                message = f"not within {within_s:g} s"
                raise Stuck(message)
            await asyncio.sleep(0.01)

    def heal(self) -> None:
        """End all that goes wrong."""
        self.tell("world", "everything heals")
        self.healed = True
        self.broker.faults = Faults()
        self.broker.held.clear()
        self.broker.up = self.server.up = True
        self.broker.on_commit = None
        self.server.reply_lost = self.server.request_held = self.server.slow = 0.0
        self.server.late = 0.0
        for process in self.processes:
            process.kafka_cut = process.store_cut = False
            process.turns = {}
            self.thaw(process)
        for slot in self.slots:
            slot.wanted = True
            self.start(slot)

    async def audited(self) -> list[str]:
        """Return what `rater audit` finds."""
        process = self.process("audit")

        async def look() -> list[str]:
            store = await app.connect_store(self.settings)
            ledger = await audit(app.kafka_client(self.settings), self.topics, store)
            return [f"audit: {finding.where}: {finding.problem}" for finding in ledger.findings]

        return await self.loop.spawn(process, look())


class _Current:
    world: World | None = None


class _Log:
    """Stands in for structlog: what rater logs belongs to the story."""

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return self._tell

    @staticmethod
    def _tell(event: str, **fields: Any) -> None:
        world, process = _Current.world, PROCESS.get()
        if world is not None:
            said = " ".join(f"{name}={value}" for name, value in fields.items())
            world.tell(process.name if process is not None else "?", f"log: {event} {said}")


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Put the clock, the random ids and the in-memory ports where rater looks for the real ones."""
    clock, log = Clock(), _Log()
    with contextlib.ExitStack() as stack:

        def put(target: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(target, name, value))

        for name, module in list(sys.modules.items()):
            if name.startswith("rater.") and not name.startswith(("rater.cli", "rater.demo", "rater.local")):
                if getattr(module, "time", None) is real_time:
                    put(module, "time", clock)
                if hasattr(module, "log") and name != "rater.logs":
                    put(module, "log", log)
        # Rarer things often: parts of a rebuild, generations dropped, ticks of idle lanes, all limits, steps.
        put(sys.modules["rater.core.rating.matching"], "FIRST_MAX", 1)
        for name in ("planning", "lifecycle"):
            put(sys.modules[f"rater.core.clients.{name}"], "STEP_MAX", 3)
        put(sys.modules["rater.worker.takeover"], "RECONCILE_EFFECTS_MAX", 4)
        put(sys.modules["rater.worker.buckets"], "EXPIRE_S", 1.5)
        put(sys.modules["rater.worker.snapshots"], "CLIENTS_READ", 2)
        put(sys.modules["rater.worker.restoring"], "CLIENTS_PART", 2)
        put(sys.modules["rater.worker.line"], "TICK_S", 5.0)
        put(sys.modules["rater.worker.line"], "STALE_S", STALE_S)
        put(asyncio, "to_thread", inline)
        put(sys.modules["rater.jobs.load"], "uuid", SimpleNamespace(uuid4=_uuid))
        put(app, "Buckets", shelf.Shelf)
        put(app, "Metrics", functools.cache(Metrics))  # they decide nothing, and take long to make
        put(sys.modules["rater.stream.connecting"], "AIOKafkaConsumer", clients.Consumer)
        put(sys.modules["rater.stream.producer"], "AIOKafkaProducer", clients.Producer)
        put(sys.modules["rater.stream.producer"], "batches", clients.batches)
        put(sys.modules["rater.stream.journal"], "fetched", clients.fetched)
        put(sys.modules["rater.jobs.rerate_sending"], "Sending", clients.Sending)
        put(sys.modules["rater.stream.topics"], "AIOKafkaAdminClient", clients.Admin)
        put(sys.modules["rater.stream.topics"], "why_down", _away)
        put(aiokafka_sender.EndTxnHandler, "do", clients.STOCK_END)
        yield


AWAY = "Kafka is away"


async def _away(*_: object) -> str:
    """Stand in for the look at the sockets of a Kafka that does not answer."""
    return AWAY


def _uuid() -> Any:
    world = _Current.world
    assert world is not None
    load_id, process = f"{world.rng.getrandbits(64):016x}", PROCESS.get()
    if process is not None and process in world.loading:
        world.files[load_id] = world.loading[process]
    return SimpleNamespace(hex=load_id)
