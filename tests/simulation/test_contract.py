"""What the simulation relies on, asked of the in-memory Kafka and store and of the real ones alike."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError, ProducerFenced
from aiokafka.producer import sender as aiokafka_sender

from rater.core.amounts import Form
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawRequest,
    Outcome,
    Reconcile,
    Status,
    Use,
    bucket_of,
)
from rater.errors import Fenced, Halt
from rater.store.buckets import Buckets
from rater.stream import connecting, endtxn
from rater.stream.group import Ownership
from rater.stream.journal import Mark, Owner, last_mark, read_range
from rater.stream.lane_reader import LaneReader
from rater.stream.producer import LaneProducer
from rater.stream.topics import Topics
from simulation import clients, shelf
from simulation.broker import Broker
from simulation.clockwork import Clock

BOTH = [pytest.param("memory"), pytest.param("real", marks=pytest.mark.kafka)]
DEADLINE_S = 20.0


class Side:
    """One Kafka, in memory or real, and what a test opens in it."""

    def __init__(self, servers: str, prefix: str, stack: contextlib.AsyncExitStack) -> None:
        self.client = {"bootstrap_servers": servers}
        self.topics = Topics(prefix, 2)
        self.topic = self.topics.transactions
        self.stack = stack
        self.broker = clients.BROKERS.get(servers)

    async def create(self) -> None:
        """Make the topics."""
        if self.broker is None:
            await self.topics.create(self.client, 1)
            return
        for spec in self.topics.specs(1):
            self.broker.create(spec.name, spec.partitions, dict(spec.settings))

    async def producer(self, name: str = "p", **settings: Any) -> Any:
        """Return a started transactional producer."""
        make: Any = AIOKafkaProducer if self.broker is None else clients.Producer
        made = make(
            **self.client, transactional_id=f"{self.topics.prefix}{name}", retry_backoff_ms=20, **settings
        )
        self.stack.push_async_callback(made.stop)
        await made.start()
        return made

    async def reader(self, *partitions: int, **settings: Any) -> Any:
        """Return a consumer of what is committed, at the beginning of the partitions."""
        make: Any = AIOKafkaConsumer if self.broker is None else clients.Consumer
        own = {"isolation_level": "read_committed", "auto_offset_reset": "none", "fetch_max_wait_ms": 50}
        made = make(**self.client, enable_auto_commit=False, **{**own, **settings})
        self.stack.push_async_callback(made.stop)
        await made.start()
        places = [self.place(partition) for partition in partitions or (0,)]
        made.assign(places)
        for place in places:
            made.seek(place, 0)
        return made

    def place(self, partition: int = 0) -> TopicPartition:
        """Return a partition of the topic."""
        return TopicPartition(self.topic, partition)

    async def put(self, producer: Any, *values: bytes, partition: int = 0) -> list[int]:
        """Write records in one Kafka transaction; returns their offsets."""
        await producer.begin_transaction()
        offsets = [
            (await producer.send_and_wait(self.topic, each, partition=partition)).offset for each in values
        ]
        await producer.commit_transaction()
        return offsets

    async def truncate(self, before: int) -> None:
        """Take away what lies before an offset."""
        if self.broker is not None:
            self.broker.partition((self.topic, 0)).begin = before
            return
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            await admin.delete_records({self.place(): RecordsToDelete(before)})
        finally:
            await admin.close()


@pytest_asyncio.fixture(params=BOTH)
async def side(
    request: pytest.FixtureRequest, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Side]:
    """The in-memory Kafka, then the real one."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            servers = prefix
            clients.BROKERS[servers] = Broker(random.Random(1))  # noqa: S311 - a simulation
            stack.callback(clients.BROKERS.pop, servers)
            monkeypatch.setattr(connecting, "AIOKafkaConsumer", clients.Consumer)
            monkeypatch.setattr("rater.stream.producer.AIOKafkaProducer", clients.Producer)
            monkeypatch.setattr("rater.stream.producer.time", Clock())
            monkeypatch.setattr("rater.stream.topics.AIOKafkaAdminClient", clients.Admin)
        else:
            servers = request.getfixturevalue("kafka")
        made = Side(servers, prefix, stack)
        await made.create()
        yield made
    await connecting.settle()


async def read(reader: Any, until: int) -> list[bytes]:
    """Return the values up to an offset of partition 0."""
    (place,) = reader.assignment()
    found: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        while await reader.position(place) < until:
            found += [record.value for record in (await reader.getmany(timeout_ms=100)).get(place, [])]
    return found


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)


# ----------------------------------------------------------------------------------- Kafka transactions
async def test_open_is_not_visible(side: Side) -> None:
    """A reader of what is committed sees nothing of an open Kafka transaction, and its end lies before it."""
    producer, reader = await side.producer(), await side.reader()
    await producer.begin_transaction()
    await producer.send_and_wait(side.topic, b"a", partition=0)
    assert await reader.getmany(timeout_ms=200) == {}
    assert await reader.position(side.place()) == 0
    assert (await reader.end_offsets([side.place()]))[side.place()] == 0
    assert reader.highwater(side.place()) == 1
    await producer.commit_transaction()
    assert await read(reader, 1) == [b"a"]


async def test_markers_take_offsets(side: Side) -> None:
    """Each Kafka transaction takes one offset more in each partition, and the position passes it."""
    producer, reader = await side.producer(), await side.reader()
    assert await side.put(producer, b"a", b"b") == [0, 1]
    assert await side.put(producer, b"c") == [3]
    assert await read(reader, 5) == [b"a", b"b", b"c"]
    assert (await reader.end_offsets([side.place()]))[side.place()] == 5


async def test_aborted_is_passed_over(side: Side) -> None:
    """Aborted records are not handed out, and the position passes them."""
    producer, reader = await side.producer(), await side.reader()
    await producer.begin_transaction()
    await producer.send_and_wait(side.topic, b"never", partition=0)
    await producer.abort_transaction()
    assert await side.put(producer, b"a") == [2]
    assert await read(reader, 4) == [b"a"]


async def test_reader_of_everything(side: Side) -> None:
    """Without read_committed, open records are handed out and the end is the very end."""
    producer = await side.producer()
    reader = await side.reader(isolation_level="read_uncommitted")
    await producer.begin_transaction()
    await producer.send_and_wait(side.topic, b"open", partition=0)
    assert await read(reader, 1) == [b"open"]
    assert (await reader.end_offsets([side.place()]))[side.place()] == 1


async def test_start_fences_the_one_before(side: Side) -> None:
    """A second producer of the id ends what the first left open, and the first can write no more."""
    first = await side.producer()
    await first.begin_transaction()
    await first.send_and_wait(side.topic, b"left open", partition=0)
    second = await side.producer()
    with pytest.raises(ProducerFenced):
        await first.send_and_wait(side.topic, b"zombie", partition=0)
    with pytest.raises(ProducerFenced):
        await first.commit_transaction()
    (offset,) = await side.put(second, b"mine")
    assert await read(await side.reader(), offset + 1) == [b"mine"]


async def test_an_idle_zombie_is_fenced_at_its_first_send(side: Side) -> None:
    """A fenced producer that begins anew is refused when it sends; with nothing sent, nobody is asked."""
    first = await side.producer()
    await side.producer()
    await first.begin_transaction()
    await first.commit_transaction()
    await first.begin_transaction()
    with pytest.raises(ProducerFenced):
        await first.send_and_wait(side.topic, b"zombie", partition=0)


async def test_stop_leaves_it_open(side: Side) -> None:
    """A producer that is stopped leaves its Kafka transaction open; the next start of the id ends it."""
    first, reader = await side.producer(), await side.reader()
    await first.begin_transaction()
    await first.send_and_wait(side.topic, b"left open", partition=0)
    await first.stop()
    assert (await reader.end_offsets([side.place()]))[side.place()] == 0
    await side.producer()

    async def freed() -> bool:
        return bool((await reader.end_offsets([side.place()]))[side.place()])

    await until(freed)


async def test_commit_after_a_refused_batch(side: Side) -> None:
    """A commit succeeds although a batch was refused: only its delivery tells."""
    producer, reader = await side.producer(max_request_size=40_000_000, max_batch_size=30_000_000), None
    await producer.begin_transaction()
    await producer.send_and_wait(side.topic, b"small", partition=0)
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(side.topic, b"x" * 20_000_000, partition=1)
    await producer.commit_transaction()
    reader = await side.reader()
    assert await read(reader, 1) == [b"small"]


async def test_next_transaction_at_once(side: Side) -> None:
    """A Kafka transaction may begin while markers of the last one are still being written."""
    producer = await side.producer()
    offsets = [(await side.put(producer, b"%d" % number))[0] for number in range(10)]
    assert offsets == list(range(0, 20, 2))


async def test_a_transaction_times_out(side: Side) -> None:
    """One that lasts too long is aborted by the broker, and its producer is fenced."""
    producer, reader = await side.producer(transaction_timeout_ms=1000), await side.reader()
    await producer.begin_transaction()
    await producer.send_and_wait(side.topic, b"late", partition=0)

    async def freed() -> bool:
        return bool((await reader.end_offsets([side.place()]))[side.place()])

    await until(freed)
    with pytest.raises(KafkaError):
        await producer.commit_transaction()
    assert await read(reader, 2) == []


# ---------------------------------------------------------------------------------------------- reading
async def test_offsets_out_of_range(side: Side) -> None:
    """An offset that is gone, or was never there, is an error, and the position stays."""
    producer, reader = await side.producer(), await side.reader()
    await side.put(producer, b"a", b"b", b"c")
    await read(reader, 3)
    reader.seek(side.place(), 10)
    with pytest.raises(OffsetOutOfRangeError):
        await reader.getmany(timeout_ms=2000)
    await side.truncate(2)
    assert (await reader.beginning_offsets([side.place()]))[side.place()] == 2
    reader.seek(side.place(), 0)
    with pytest.raises(OffsetOutOfRangeError):
        await reader.getmany(timeout_ms=2000)
    assert await reader.position(side.place()) == 0


async def test_pause_loses_nothing(side: Side) -> None:
    """A paused partition hands out nothing; resumed, it goes on where it stood."""
    producer, reader = await side.producer(), await side.reader()
    reader.pause(side.place())
    await side.put(producer, b"a")
    assert await reader.getmany(timeout_ms=100) == {}
    reader.resume(side.place())
    assert await read(reader, 1) == [b"a"]


async def test_max_records(side: Side) -> None:
    """The position after a poll of few records is behind the last of them."""
    producer, reader = await side.producer(), await side.reader()
    await side.put(producer, b"a", b"b", b"c")

    async def one() -> bool:
        records = (await reader.getmany(timeout_ms=100, max_records=1)).get(side.place(), [])
        return [record.value for record in records] == [b"a"]

    await until(one)
    assert await reader.position(side.place()) == 1


# ------------------------------------------------------------------------------- rater's own, on both
async def test_lane_of_two_owners(side: Side) -> None:
    """Owner records, marks and the journal's tail are the same on both; a second owner fences the first."""
    first = LaneProducer(side.client, side.topics, side.topics.prefix, 0)
    side.stack.push_async_callback(first.close)
    await first.open()
    token = await first.claim(Owner("a", "g"))
    mark = Mark({"x": 1}, {"x": 2}, 3, 4, 5)
    at = await first.commit([(b"k", b"v", [])], [(None, b"bad", [])], [(None, b"event", [])], mark)
    assert (token, at) == (1, 4)  # an abort's marker comes first: what was before may have been forgotten
    second = LaneProducer(side.client, side.topics, side.topics.prefix, 0)
    side.stack.push_async_callback(second.close)
    await second.open()
    own = await second.claim(Owner("b", "g"))
    assert own == 7
    assert await last_mark(side.client, side.topic, 0, own) == mark
    read_back = [
        (offset, value)
        async for part in read_range(side.client, side.topic, 0, 0, own)
        for offset, _, value, _ in part
    ]
    assert read_back == [(1, None), (3, b"v"), (4, None)]
    with pytest.raises(Fenced):
        await first.commit([(b"k", b"zombie", [])], [], [], mark)


async def test_source(side: Side) -> None:
    """A lane's source stands where it is told, verifies the record before, halts when records are gone."""
    side.topic = side.topics.cdrs
    producer = await side.producer()
    await side.put(producer, b"a", b"b", b"c")
    source = LaneReader(side.client, side.topics, 0, {}, {}, "g")
    side.stack.push_async_callback(source.close)
    await source.open()
    found: list[bytes] = []

    async def three() -> bool:
        found.extend(record.value for _, records in await source.poll(100) for record in records)
        return len(found) == 3

    await until(three)
    assert found == [b"a", b"b", b"c"]
    assert source.next[side.topic] == 3
    await side.truncate(2)
    late = LaneReader(side.client, side.topics, 0, {side.topic: 1, side.topics.commands: 0}, {}, "g")
    with pytest.raises(Halt, match="begins at offset 2"):
        await late.open()
    wrong = LaneReader(side.client, side.topics, 0, {side.topic: 3}, {side.topic: 1}, "g")
    with pytest.raises(Halt, match="not the topic that was read before"):
        await wrong.open()


async def test_group(side: Side) -> None:
    """Lanes are shared in ranges; who joins or leaves makes all give theirs up first, then get new ones."""
    said: list[tuple[str, str, set[int]]] = []

    async def join(name: str) -> Ownership:
        async def revoked(lanes: set[int]) -> None:
            said.append((name, "revoked", lanes))

        async def assigned(lanes: set[int]) -> None:
            said.append((name, "assigned", lanes))

        member = Ownership(
            side.client, f"{side.topics.prefix}g", side.topics.commands, session_timeout_ms=6000,
            heartbeat_interval_ms=100,
        )  # fmt: skip
        side.stack.push_async_callback(member.stop)
        await member.start(revoked, assigned)
        polling = asyncio.create_task(member.run())
        side.stack.push_async_callback(asyncio.wait, [polling])
        side.stack.push_async_callback(member.stop)
        return member

    async def has(*wanted: tuple[str, str, set[int]]) -> bool:
        return all(each in said for each in wanted)

    await join("a")
    await until(lambda: has(("a", "assigned", {0, 1})))
    second = await join("b")
    await until(lambda: has(("a", "revoked", {0, 1})))
    shared = {frozenset({0}), frozenset({1})}

    async def halves() -> bool:
        last = {name: frozenset(lanes) for name, what, lanes in said if what == "assigned"}
        return set(last.values()) == shared and len(last) == 2

    await until(halves)
    said.clear()
    await second.stop()
    await until(lambda: has(("a", "assigned", {0, 1})))
    assert not [each for each in said if each[0] == "b"]


async def test_an_unanswered_end(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory as in tests/stream/test_endtxn.py: with the hook an error, without it a silent repeat."""
    monkeypatch.setattr(aiokafka_sender.EndTxnHandler, "do", clients.STOCK_END)
    async with contextlib.AsyncExitStack() as stack:
        broker = clients.BROKERS[prefix] = Broker(random.Random(2))  # noqa: S311 - a simulation
        side = Side(prefix, prefix, stack)
        await side.create()
        stock = await side.producer(request_timeout_ms=50)
        await stock.begin_transaction()
        await stock.send_and_wait(side.topic, b"a")
        broker.faults.end_lost = 0.8
        await stock.commit_transaction()
        broker.faults.end_lost = 1.0
        endtxn.install()
        hooked = await side.producer(request_timeout_ms=50)
        await hooked.begin_transaction()
        await hooked.send_and_wait(side.topic, b"b")
        with pytest.raises(KafkaError):
            await hooked.commit_transaction()
        broker.faults.end_lost = 0.0
        assert await read(await side.reader(), 3) == [b"a", b"b"]
    del clients.BROKERS[prefix]


# ------------------------------------------------------------------------------------------------ Redis
@pytest_asyncio.fixture(params=["memory", "real"])
async def store(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Any]:
    """The in-memory store, then the real one: two buckets, one lane."""
    if request.param == "memory":
        url, make = prefix, shelf.Shelf
        shelf.SERVERS[url] = shelf.Server(random.Random(1), 2)  # noqa: S311 - a simulation
    else:
        url, make = request.getfixturevalue("redis_url"), Buckets  # type: ignore[assignment]
    made = await make.connect(url, prefix=prefix, buckets=2, lanes=1)
    yield made
    await made.close()
    shelf.SERVERS.pop(prefix, None)


CLIENT = next(f"c{n}" for n in range(9) if bucket_of(f"c{n}", 2) == 0)
LATER = next(f"d{n}" for n in range(9) if bucket_of(f"d{n}", 2) == 0)


def call(number: int, **what: Any) -> DrawRequest:
    """Return a call of lane 0 with token 5."""
    own: dict[str, Any] = {
        "lane": 0, "token": 5, "number": number, "lane_ms": 1000, "generation": 3, "trim": 0, "floor": 0,
        "changes": [], "accounts": [], "uses": [], "items": [], "context": b"c",
    }  # fmt: skip
    return DrawRequest(**{**own, **what})


def item(key: bytes, cost: int) -> DrawItem:
    """Return an item that costs so much."""
    return DrawItem(0, key * 8, b"same", 1, Form(0, cost, 1), same_record=False, candidates=())


async def test_store_from_fence_to_draw(store: Any) -> None:
    """Fence, register, change, draw, find a duplicate, be stale, be fenced: all answers are the same."""
    fenced = await store.fence(0, 0, 5)
    assert (fenced.status, fenced.number, fenced.outcomes) == (Status.OK, 1, [])
    assert (await store.draw(0, call(1))).status == Status.REGRESSED
    assert await store.register(0, 0, 5, 1) == (Status.OK, 2)
    made = call(2, changes=[ClientWrite(CLIENT, 0, 1, b"view", delta=70)], accounts=[("acc", CLIENT)])
    reply = await store.draw(0, made)
    assert (reply.status, reply.number) == (Status.OK, 3)
    reply = await store.draw(0, call(3, uses=[Use(CLIENT, 1, 0, [])], items=[item(b"k", -7), item(b"k", -7)]))
    assert [result.outcome for result in reply.results] == [Outcome.RATED, Outcome.DUPLICATE]
    stale = await store.draw(0, call(4, uses=[Use(CLIENT, 9, 0, [])], items=[item(b"l", -7)]))
    assert (stale.status, stale.stale) == (Status.STALE, [(CLIENT, b"view")])
    assert (await store.draw(0, call(4, uses=[Use(LATER, 1, 0, [])]))).status == Status.LOST
    assert (await store.views(0, 0, 5, 4, [CLIENT, LATER], [])).states == {CLIENT: b"view"}
    assert await store.client(CLIENT) == (b"view", 63, {})
    assert await store.client(LATER) is None
    assert await store.states([CLIENT, LATER]) == {CLIENT: b"view"}
    assert [name async for name in store.scan_clients()] == [CLIENT]
    again = await store.fence(0, 0, 6)
    assert (again.number, [number for number, _, _ in again.outcomes], again.lane_ms) == (5, [2, 3], 1000)
    assert (await store.draw(0, call(4))).status == Status.FENCED
    assert (await store.fence(0, 0, 5)).status == Status.FENCED


async def test_store_reconciles(store: Any) -> None:
    """Corrections are added, outcomes dropped and put in place, and the floor is raised."""
    await store.fence(0, 0, 5)
    what = Reconcile(
        lane=0, token=5, number=1, floor=9, lane_ms=50, balances=[(CLIENT, 4)],
        counters=[(CLIENT, "p.0.l", 3)],
        states=[(CLIENT, 2, b"view")], accounts=[("acc", CLIENT)], pending=[(1, b"kept", b"\x91\x00")],
    )  # fmt: skip
    assert await store.reconcile(0, what) == (Status.OK, 2)
    assert await store.reconcile(0, what) == (Status.REGRESSED, 2)
    assert await store.client(CLIENT) == (b"view", 4, {"p.0.l": 3})
    fenced = await store.fence(0, 0, 6)
    assert (fenced.floor, fenced.base, fenced.outcomes) == (9, 9, [(1, b"kept", b"\x91\x00")])
    assert await store.probe(0, 0, 6, fenced.number) == Status.REGRESSED
