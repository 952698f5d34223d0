"""Stand-ins for aiokafka's producer, consumer and admin client: what rater.stream uses, traps included.

- `commit_transaction` succeeds although a batch was refused, and asks nobody when nothing was sent.
- An unanswered EndTxn is repeated in silence, unless rater's hook is in place: then it is an error.
- `stop` leaves an open Kafka transaction open; errors of a fenced producer lie in its deliveries.
- `getmany` that raises has passed over records of other partitions; it hands out nothing for markers and
  aborted records, but the position passes them; `end_offsets` is the end of what is decided.
- Callbacks of the group run beside, their exceptions are swallowed; a poll lasts as long as a rebalance.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
    ProducerFenced,
)
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.record.default_records import DefaultRecordBatch
from kafka_form import batch_of

from rater.errors import StreamDown
from rater.stream.batches import WrittenBatch
from rater.stream.batches import batches as _batches
from rater.stream.fetching import FetchedBatch
from simulation.broker import Broker, Partition, Place, Raw
from simulation.clockwork import OUTSIDE, PROCESS, Process, chance

BROKERS: dict[str, Broker] = {}
"""By bootstrap_servers."""
RETRY_S = 0.02
FETCH_WHOLE = 4
"""So few records come in one answer."""
STOCK_END = aiokafka_sender.BaseHandler.do


class _Client:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.broker = BROKERS[settings["bootstrap_servers"]]
        self.process: Process | None = PROCESS.get()
        self.tasks: list[asyncio.Task[Any]] = []
        self.closed = False

    async def ask(self, call: Callable[[], Any], *, connect: bool = False) -> Any:
        """Ask the broker."""
        return await self.broker.ask(self.process, call, connect=connect)

    def begin(self, work: Any) -> None:
        """Run something beside."""
        self.tasks = [task for task in self.tasks if not task.done()]
        task = asyncio.create_task(work)
        task.add_done_callback(self._noted)
        self.tasks.append(task)

    def _noted(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, KafkaError):
            self.broker.broken.append(repr(error))

    async def end_tasks(self) -> None:
        """Stop what runs beside."""
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


class Metadata(SimpleNamespace):
    """What a delivery says."""

    offset: int


class Batch:
    """A batch builder."""

    def __init__(self, bytes_max: int, records_max: int) -> None:
        self.records: list[Raw] = []
        self._bytes = 0
        self._bytes_max, self._records_max = bytes_max, records_max

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> object | None:
        """Add a record; None: the batch is full."""
        size = 70 + len(key or b"") + len(value or b"") + sum(len(raw) for _, raw in headers)
        full = self._bytes + size > self._bytes_max or (0 < self._records_max <= len(self.records))
        if self.records and full:
            return None
        self.records.append((key, value, tuple(headers), timestamp))
        self._bytes += size
        return self

    def size(self) -> int:
        """Return the bytes in it."""
        return self._bytes

    def record_count(self) -> int:
        """Return the records in it."""
        return len(self.records)


def batches(producer: Any, records: Any, at_ms: int, *, native: bool) -> Iterator[Any]:
    """Cut into builders where batches are of few records; else natively, where the engine is here."""
    if isinstance(producer, Producer) and producer.broker.batch_records_max:
        native = native and any(isinstance(record, bytes) for record in records)  # which no builder takes
    return _batches(producer, records, at_ms, native=native)


def _read(batch: WrittenBatch) -> list[Raw]:
    """Return what a broker finds in a batch that was written natively."""
    read = DefaultRecordBatch(batch._build())  # noqa: SLF001 - the sender's
    assert read.validate_crc()
    return [(record.key, record.value, tuple(record.headers), record.timestamp) for record in read]


class Sending(_Client):
    """As `rater.stream.sending.Sending`: records one by one, each known to be written."""

    async def open(self) -> None:
        """Connect."""
        await self._within(lambda: None)

    async def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Write a record."""
        await self._within(lambda: self.broker.put((topic, partition), [(key, value, (), None)]))

    async def _within(self, call: Callable[[], Any]) -> None:
        try:
            await self.ask(call, connect=True)
        except KafkaError as error:
            raise StreamDown(str(error)) from error

    async def close(self) -> None:
        """Let go."""


class Producer(_Client):
    """A transactional producer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings)
        self.name: str = settings["transactional_id"]
        self.state = "new"  # ready | open | committing | aborting | fatal
        self.epoch = -1
        self.added: set[Place] = set()
        self.to_add: set[Place] = set()
        self.queues: dict[Place, list[tuple[list[Raw], asyncio.Future[Any]]]] = {}
        self.deliveries: list[asyncio.Future[Any]] = []
        # what rater.stream.endtxn looks at
        self._txn_manager = SimpleNamespace(
            _transaction_waiter=None, maybe_add_partition_to_txn=lambda place: self.to_add.add(tuple(place))
        )
        self._message_accumulator = SimpleNamespace(_batches={}, _exception=None)

    async def start(self) -> None:
        """Fence whoever has the id, end what it left open."""
        timeout_s = self.settings.get("transaction_timeout_ms", 60_000) / 1000
        await self.ask(lambda: None, connect=True)
        given = None
        while given is None:
            given = await self.ask(lambda: self.broker.init(self.name, timeout_s))
            if given is None:
                await asyncio.sleep(RETRY_S)
        _, self.epoch = given
        self.state = "ready"

    async def stop(self) -> None:
        """Let go; what is open stays open."""
        if not self.closed:
            self.closed = True
            await self.end_tasks()

    def _fatal(self, error: BaseException) -> None:
        self.state = "fatal"
        self._message_accumulator._exception = error  # noqa: SLF001 - as the library has it
        for queue in self.queues.values():
            for _, delivery in queue:
                if not delivery.done():
                    delivery.set_exception(error)
        self.queues = {}

    def _expect(self, *states: str) -> None:
        if self.closed:
            raise IllegalOperation("the producer is closed")
        if self.state == "fatal":
            raise self._message_accumulator._exception or AssertionError("Invalid state transition")  # noqa: SLF001
        assert self.state in states, f"Invalid state transition from {self.state}"

    async def begin_transaction(self) -> None:
        """Begin; the broker is not asked."""
        self._expect("ready")
        await asyncio.sleep(0)
        self.state, self.added, self.to_add, self.deliveries = "open", set(), set(), []

    def create_batch(self) -> Batch:
        """Return an empty batch."""
        return Batch(self.settings.get("max_batch_size", 16_384), self.broker.batch_records_max)

    async def send_batch(
        self, batch: Batch | WrittenBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """Hand a batch over; batches of a partition go one after the other, partitions beside each other."""
        self._expect("open")
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.deliveries.append(delivery)
        place = (topic, partition)
        queue = self.queues.get(place)
        if queue is None:
            self.queues[place] = queue = []
            self.begin(self._drain(place, queue))
        queue.append((batch.records if isinstance(batch, Batch) else _read(batch), delivery))
        await asyncio.sleep(0)
        return delivery

    async def send_and_wait(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int = 0,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> Any:
        """Send one record and wait until it is delivered."""
        batch = self.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        return await (await self.send_batch(batch, topic, partition=partition))

    async def _drain(self, place: Place, queue: list[tuple[list[Raw], asyncio.Future[Any]]]) -> None:
        try:
            self.to_add.add(place)
            await self._add()
        except ProducerFenced as error:
            self._fatal(error)
            return
        while queue:
            await self._produce(place, *queue.pop(0))
        self.queues.pop(place, None)

    async def _add(self) -> None:
        """Take what is to be added into the Kafka transaction, all by one request."""
        while places := self.to_add - self.added:
            if await self.ask(partial(self.broker.add, self.name, self.epoch, places)):
                self.added |= places
            else:
                await asyncio.sleep(RETRY_S)

    async def _produce(self, place: Place, records: list[Raw], delivery: asyncio.Future[Any]) -> None:
        try:
            first = await self.ask(lambda: self.broker.produce(self.name, self.epoch, place, records))
        except KafkaError as error:  # the state of the Kafka transaction does not know of it
            if not delivery.done():
                delivery.set_exception(error)
        else:
            if not delivery.done():
                delivery.set_result(Metadata(offset=first))

    async def commit_transaction(self) -> None:
        """Commit: also when a batch was refused."""
        self._expect("open")
        self.state = "committing"
        await self._end(commit=True)

    async def abort_transaction(self) -> None:
        """Abort."""
        self._expect("open")
        self.state = "aborting"
        await self._end(commit=False)

    async def _end(self, *, commit: bool) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._txn_manager._transaction_waiter = waiter  # noqa: SLF001 - as the library has it
        self.begin(self._ending(waiter, commit=commit))
        await asyncio.shield(waiter)

    async def _ending(self, waiter: asyncio.Future[None], *, commit: bool) -> None:
        try:
            if self.deliveries:
                await asyncio.wait(self.deliveries)
            await self._add()
            if self.added:
                await self._end_txn(commit=commit)
        except KafkaError as error:
            self._fatal(error)
            if not waiter.done():
                waiter.set_exception(error)
            return
        self.state = "ready"
        if not waiter.done():
            waiter.set_result(None)

    async def _end_txn(self, *, commit: bool) -> None:
        broker, faults, loop = self.broker, self.broker.faults, asyncio.get_running_loop()
        epoch = self.epoch
        timeout_s = self.settings.get("request_timeout_ms", 40_000) / 1000
        while True:
            lost, held = chance(broker.rng, faults.end_lost), chance(broker.rng, faults.end_held)
            if lost or held:
                late_s = broker.rng.uniform(0.01, 4.0) if held else broker.delay()
                what = "arrives late" if held else "is carried out and its answer lost"
                broker.tell("kafka", f"{self.name}: an EndTxn {what}")
                loop.call_later(late_s, self._late, epoch, commit, context=OUTSIDE)
                await asyncio.sleep(broker.rng.choice((0.005, timeout_s)))  # the connection breaks, or not
                if aiokafka_sender.EndTxnHandler.do is STOCK_END:
                    continue
                raise KafkaConnectionError("no answer")
            if await self.ask(lambda: broker.end(self.name, epoch, commit=commit)):
                return
            await asyncio.sleep(RETRY_S)

    def _late(self, epoch: int, commit: bool) -> None:  # noqa: FBT001 - a timer's argument
        with contextlib.suppress(KafkaError):
            self.broker.end(self.name, epoch, commit=commit)


class Consumer(_Client):
    """A consumer with partitions of its own, or those that a group gives it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings)
        self.places: dict[TopicPartition, int | None] = {}
        self.paused: set[TopicPartition] = set()
        self.high: dict[TopicPartition, int] = {}
        self.stable: dict[TopicPartition, int] = {}
        self.listener: Any = None
        self.topic = ""
        self.member = ""
        self.settled = asyncio.Event()
        self.settled.set()

    async def start(self) -> None:
        """Connect."""
        await self.ask(lambda: None, connect=True)

    async def stop(self) -> None:
        """Let go, and leave the group; no callback is called.

        Raises CancelledError, as the library does, where a fetch ahead has failed and is to be tried again.
        """
        if self.closed:
            return
        self.closed = True
        self.settled.set()
        await self.end_tasks()
        if self.places and not self.broker.reachable(self.process):
            raise asyncio.CancelledError
        if self.member:
            group, member = self.settings["group_id"], self.member
            self.broker.rng.random()
            with contextlib.suppress(KafkaError):
                await self.ask(lambda: self.broker.leave(group, member))

    # ------------------------------------------------------------------ where it stands
    def assign(self, places: Iterable[TopicPartition]) -> None:
        """Read these."""
        self.places = dict.fromkeys(places)
        self.paused = set()

    def assignment(self) -> set[TopicPartition]:
        """Return what is read."""
        return set(self.places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from an offset."""
        if place not in self.places:
            raise IllegalStateError(f"{place} is not assigned")
        self.places[place] = offset

    async def seek_to_beginning(self, *places: TopicPartition) -> None:
        """Go on from the first record that is kept."""
        for place, offset in (await self.beginning_offsets(list(places or self.places))).items():
            self.places[place] = offset

    def pause(self, *places: TopicPartition) -> None:
        """Read these no more for now."""
        self.paused |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        """Read these again."""
        self.paused -= set(places)

    async def position(self, place: TopicPartition) -> int:
        """Return the next offset; it passes markers and aborted records."""
        at = self.places[place]
        if at is None:
            at = (await self.beginning_offsets([place]))[place]
            self.places[place] = at
        return at

    def highwater(self, place: TopicPartition) -> int | None:
        """Return the end as of the last fetch, with what is not decided."""
        return self.high.get(place)

    def last_stable_offset(self, place: TopicPartition) -> int | None:
        """Return the end of what is decided, as of the last fetch."""
        return self.stable.get(place)

    def _partition(self, place: TopicPartition) -> Partition:
        return self.broker.partition((place.topic, place.partition))

    async def topics(self) -> set[str]:
        """Return the topics that are there."""
        found: set[str] = await self.ask(lambda: set(self.broker.topics))
        return found

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offsets that are kept."""
        return dict(await self.ask(lambda: {place: self._partition(place).begin for place in places}))

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets below which all is decided."""
        return dict(await self.ask(lambda: {place: self._end_of(self._partition(place)) for place in places}))

    def _end_of(self, partition: Partition) -> int:
        committed = self.settings.get("isolation_level") == "read_committed"
        return partition.stable if committed else partition.end

    # ------------------------------------------------------------------ reading
    async def getmany(
        self, *places: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Return what there is, else wait."""
        if self.closed:
            raise IllegalOperation("the consumer is closed")
        await self.settled.wait()
        reading = [place for place in places or self.places if place not in self.paused]
        if not reading:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        fetch = _Fetch(self, reading, timeout_ms / 1000, max_records)
        found: dict[TopicPartition, list[ConsumerRecord]] = await self.ask(fetch.begin)
        for place, at in fetch.reached.items():
            if place in self.places:
                self.places[place] = at
        self.high.update(fetch.high)
        self.stable.update(fetch.stable)
        if fetch.error is not None:
            raise fetch.error
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets of a group without members."""
        group = self.settings["group_id"]

        def keep() -> None:
            for place, offset in offsets.items():
                self.broker.offsets[group, place.topic, place.partition] = offset

        await self.ask(keep)

    # ------------------------------------------------------------------ the group
    def subscribe(self, topics: list[str], listener: Any) -> None:
        """Join the group of the settings, in the background."""
        (self.topic,) = topics
        self.listener = listener
        self.settled.clear()
        self.begin(self._belong())

    async def _belong(self) -> None:
        group, session_s = self.settings["group_id"], self.settings["session_timeout_ms"] / 1000
        generation = -1
        while True:
            self.settled.clear()
            # While the callback drains, the session is kept; the time of the rebalance runs.
            keeping = asyncio.create_task(self._beat(group, generation))
            self.tasks.append(keeping)
            with contextlib.suppress(Exception):
                await self.listener.on_partitions_revoked(list(self.places))
            keeping.cancel()
            self.places = {}
            self.member, generation, lanes = await self.ask(
                lambda: self.broker.join(group, self.member, self.topic, session_s)
            )
            self.assign([TopicPartition(self.topic, lane) for lane in lanes])
            self.settled.set()
            with contextlib.suppress(Exception):
                await self.listener.on_partitions_assigned(list(self.places))
            if await self._beat(group, generation, "ok") == "unknown":
                self.member = ""

    async def _beat(self, group: str, generation: int, *while_told: str) -> str:
        """Tell the group that we are there, as long as it says one of these (none: whatever it says)."""
        said = "ok"
        while not while_told or said in while_told:
            await asyncio.sleep(self.settings["heartbeat_interval_ms"] / 1000)
            if self.member:
                said = await self.ask(lambda: self.broker.heartbeat(group, self.member, generation))
        return said


class _Fetch:
    """One request for records: answered when there are some, or when the time is over."""

    def __init__(
        self, consumer: Consumer, places: list[TopicPartition], wait_s: float, max_records: int | None
    ) -> None:
        self.consumer, self.places, self.max_records = consumer, places, max_records
        self.wait_s = wait_s
        self.reached: dict[TopicPartition, int] = {}
        self.high: dict[TopicPartition, int] = {}
        self.stable: dict[TopicPartition, int] = {}
        self.error: Exception | None = None
        self.starts = dict(consumer.places)

    def begin(self) -> Any:
        """Answer, or return a future of the answer."""
        found = self._look()
        if found or self.error is not None or self.wait_s <= 0:
            return found
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        timer = loop.call_later(self.wait_s, self._over, answer, context=OUTSIDE)
        self._watch(answer, timer)
        return answer

    def _over(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_result({})

    def _watch(self, answer: asyncio.Future[Any], timer: asyncio.TimerHandle) -> None:
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def woken(_: object) -> None:
            if answer.done():
                return
            found = self._look()
            if found or self.error is not None:
                timer.cancel()
                answer.set_result(found)
            else:
                self._watch(answer, timer)

        watcher.add_done_callback(woken, context=OUTSIDE)
        for place in self.places:
            self.consumer._partition(place).watchers.append(watcher)  # noqa: SLF001 - its helper

    def _look(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        broker = self.consumer.broker
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        left = self.max_records if self.max_records is not None else 2**31
        beside = len(self.consumer.places) > 1
        for place in self.places:
            if beside and (place.topic, place.partition) in broker.held:
                continue
            partition = self.consumer._partition(place)  # noqa: SLF001 - its helper
            start = self._start(place, partition)
            self.high[place] = partition.end
            self.stable[place] = partition.stable
            if start < partition.begin or start > partition.end:
                self.error = OffsetOutOfRangeError({place: start})
                return {}
            records: list[ConsumerRecord] = []
            at = start
            for entry in partition.entries[start : self._stop(start, partition)]:
                if len(records) >= left:
                    break
                at = entry.offset + 1
                if entry.visible or (not entry.control and not self._committed()):
                    records.append(_record(place, entry))
            left -= len(records)
            self.reached[place] = at
            if records:
                found[place] = records
        if found and chance(broker.rng, broker.faults.fetch_failed):
            broker.tell("kafka", "a fetch fails, and what it had read of other partitions is passed over")
            self.error = KafkaError("a batch cannot be read")
        return found

    def _start(self, place: TopicPartition, partition: Partition) -> int:
        at = self.reached.get(place, self.starts.get(place))
        if at is not None:
            return at
        earliest = self.consumer.settings.get("auto_offset_reset") == "earliest"
        return partition.begin if earliest else partition.end

    def _stop(self, start: int, partition: Partition) -> int:
        """Return how far one answer reaches: to the end, or as far as its size allows."""
        broker, end = self.consumer.broker, self.consumer._end_of(partition)  # noqa: SLF001 - its helper
        if self.consumer.settings.get("max_partition_fetch_bytes") == 1:
            return min(end, start + 1 + int(broker.rng.random() * 3))
        if broker.fetch_max:
            return min(end, start + broker.fetch_max)
        if end - start > FETCH_WHOLE and chance(broker.rng, 0.3):
            return start + 1 + int(broker.rng.random() * (end - start))
        return end

    def _committed(self) -> bool:
        return self.consumer.settings.get("isolation_level") == "read_committed"


def _record(place: TopicPartition, entry: Any) -> ConsumerRecord:
    return ConsumerRecord(
        place.topic, place.partition, entry.offset, entry.at_ms, 0, entry.key, entry.value, None,
        -1 if entry.key is None else len(entry.key), -1 if entry.value is None else len(entry.value),
        entry.headers,
    )  # fmt: skip


async def fetched(reader: Consumer, place: TopicPartition, at: int) -> list[FetchedBatch]:
    """Stand in for `rater.stream.fetching.fetched`: what a consumer reads, as a batch."""
    reader.resume(place)
    reader.seek(place, at)
    polled = await reader.getmany(place, timeout_ms=500)
    end, records = await reader.position(place), polled.get(place)
    if not records:
        return [FetchedBatch(at, end, b"")] if end > at else []
    return [batch_of(records)._replace(end=end)]


class Admin(_Client):
    """An admin client: which topics there are, and their settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings)

    async def start(self) -> None:
        """Connect."""
        await self.ask(lambda: None, connect=True)

    async def close(self) -> None:
        """Let go."""

    async def _send_request(self, request: Any) -> Any:
        """Answer a question for topics."""
        broker = self.broker

        def answer() -> list[dict[str, Any]]:
            return [
                {
                    "topic": name,
                    "error_code": 0,
                    "id": broker.topic_ids[name],
                    "partitions": list(range(len(broker.topics[name]))),
                }
                if name in broker.topics
                else {"topic": name, "error_code": 3, "partitions": []}
                for name in request.names
            ]

        topics = await self.ask(answer)
        return SimpleNamespace(to_object=lambda: {"topics": topics})

    async def describe_configs(self, resources: list[Any]) -> list[Any]:
        """Return settings of topics."""
        names = [resource.name for resource in resources]
        found = await self.ask(lambda: {name: self.broker.settings[name] for name in names})
        entries = [(0, "", 2, name, list(settings.items())) for name, settings in found.items()]
        return [SimpleNamespace(resources=entries)]
