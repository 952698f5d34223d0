"""What the Kafka side's tests share: topics, a scene to write and read in, a proxy, a broker with rights."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.conn import AIOKafkaConnection

from rater.local.child import HOST
from rater.local.kafka import Kafka
from rater.local.server import free_ports
from rater.stream.connecting import reading, settle
from rater.stream.journal import Mark, read_range
from rater.stream.lane_reader import LaneReader
from rater.stream.producer import LaneProducer, Writer
from rater.stream.topics import Topics, partition_counts

END_TXN = 26


@pytest.fixture
def client(kafka: str) -> dict[str, Any]:
    """Connection settings of the test broker."""
    return {"bootstrap_servers": kafka}


@pytest_asyncio.fixture
async def topics(client: dict[str, Any], prefix: str) -> AsyncIterator[Topics]:
    """All topics of a test of its own, with two lanes; afterwards nothing is left in the background."""
    made = Topics(prefix, 2)
    await made.create(client, 1)
    yield made
    await settle()
    await asyncio.sleep(0)  # transports that were closed end in the loop's next turn


@pytest_asyncio.fixture
async def admin(client: dict[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of the test broker."""
    made = AIOKafkaAdminClient(**client)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


class MakeTopics(Protocol):
    """Creates topics: name -> partitions, settings; returns when the broker answers for them."""

    async def __call__(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Create them in one call."""


@pytest.fixture
def make_topics(client: dict[str, Any], admin: AIOKafkaAdminClient) -> MakeTopics:
    """Create topics as a test wants them, right or wrong."""

    async def make(topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        await admin.create_topics(
            [NewTopic(name, count, 1, topic_configs=dict(own)) for name, (count, own) in topics.items()]
        )
        async with asyncio.timeout(10):
            while None in (await partition_counts(client, list(topics))).values():
                pass  # the controller has made them, the broker learns of them within milliseconds

    return make


class Scene:
    """Writers and readers of one test's topics; what it opened is closed when the test ends."""

    def __init__(
        self,
        client: dict[str, Any],
        topics: Topics,
        admin: AIOKafkaAdminClient,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        """Nothing is open yet."""
        self.client, self.topics = client, topics
        self._admin = admin
        self.group = f"{topics.prefix}g"
        self._stack = stack

    @staticmethod
    def mark(number: int) -> Mark:
        """Return a mark that differs from those of other numbers."""
        return Mark({"t.cdrs": number}, {"t.cdrs": number}, 1, 2, number)

    async def lane(self, lane: int = 0, **limits: Any) -> LaneProducer:
        """Return an open producer of a lane."""
        producer = LaneProducer(self.client, self.topics, self.group, lane, **limits)
        self._stack.push_async_callback(producer.close)
        await producer.open()
        return producer

    async def writer(self, name: str, **limits: Any) -> Writer:
        """Return an open writer of an id of this test's own."""
        writer = Writer(self.client, f"{self.topics.prefix}{name}", **limits)
        self._stack.push_async_callback(writer.close)
        await writer.open()
        return writer

    async def source(
        self, positions: dict[str, int], times: dict[str, int] | None = None, *, lane: int = 0, **more: Any
    ) -> LaneReader:
        """Return an open source of a lane."""
        topics = more.pop("topics", self.topics)
        source = LaneReader(self.client, topics, lane, positions, times or {}, self.group, **more)
        self._stack.push_async_callback(source.close)
        await source.open()
        return source

    async def transactional(self, name: str, **settings: Any) -> AIOKafkaProducer:
        """Return a started producer of the library, to leave Kafka transactions open or to abort them."""
        producer = AIOKafkaProducer(
            **self.client, transactional_id=f"{self.topics.prefix}{name}", retry_backoff_ms=20, **settings
        )
        self._stack.push_async_callback(producer.stop)
        await producer.start()
        return producer

    async def put(
        self, topic: str, values: Sequence[bytes], partition: int = 0, first_ms: int | None = None
    ) -> None:
        """Write records, confirmed; the timestamps rise by a millisecond from `first_ms`."""
        async with AIOKafkaProducer(**self.client, enable_idempotence=True) as producer:
            for number, value in enumerate(values):
                at_ms = None if first_ms is None else first_ms + number
                await producer.send_and_wait(topic, value, partition=partition, timestamp_ms=at_ms)

    async def abort(self, topic: str, value: bytes = b"aborted", times: int = 1) -> None:
        """Write Kafka transactions of one record to partition 0 and abort them."""
        producer = await self.transactional("aborter")
        for _ in range(times):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, partition=0)
            await producer.abort_transaction()

    async def journal(self, until: int) -> list[Any]:
        """Return the journal of lane 0 below an offset."""
        read = read_range(self.client, self.topics.transactions, 0, 0, until, deadline_s=20)
        return [record async for records in read for record in records]

    async def decided(self, topic: str, until: int) -> list[Any]:
        """Return the values of partition 0 below an offset, once no Kafka transaction is open there."""
        read = read_range(self.client, topic, 0, 0, until, deadline_s=20)
        return [value async for records in read for _, _, value, _ in records]

    async def committed(self, topic: str, partition: int = 0) -> list[Any]:
        """Return the committed records of a partition; all that was written to it is waited for."""
        place = TopicPartition(topic, partition)
        async with reading(self.client, [place], deadline_s=10) as reader, asyncio.timeout(20):
            reader.seek(place, (await reader.beginning_offsets([place]))[place])
            found: list[Any] = []
            while (end := reader.highwater(place)) is None or await reader.position(place) < end:
                found += (await reader.getmany(place, timeout_ms=100)).get(place, [])
            return found

    async def remove_before(self, topic: str, offset: int) -> None:
        """Remove the records of partition 0 below an offset, as retention does."""
        await self._admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})


@pytest_asyncio.fixture
async def scene(client: dict[str, Any], topics: Topics, admin: AIOKafkaAdminClient) -> AsyncIterator[Scene]:
    """Writers and readers of this test's topics."""
    async with contextlib.AsyncExitStack() as stack:
        yield Scene(client, topics, admin, stack)


class Proxy:
    """A TCP proxy that passes Kafka's frames on, and treats the answers to EndTxn as `mode` says."""

    def __init__(self, host: str, port: int) -> None:
        """Stand in front of the broker at host:port."""
        self.host, self.port = host, port
        self.mode = "pass"  # "lose": the answer is dropped; "cut": the connection is closed instead
        self.end_txns = 0
        self.answered = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client until either side closes."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        there, here = await asyncio.open_connection(self.host, self.port)
        ends: set[int] = set()
        pumps = [
            asyncio.create_task(self._requests(reader, here, ends)),
            asyncio.create_task(self._answers(there, writer, ends)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            here.close()
            writer.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.tasks.discard(task)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[int]
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame = await _frame(reader)
                api, _, correlation = struct.unpack(">hhi", frame[4:12])
                if api == END_TXN:
                    self.end_txns += 1
                    ends.add(correlation)
                writer.write(frame)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[int]
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame = await _frame(reader)
                if struct.unpack(">i", frame[4:8])[0] in ends and self.mode != "pass":
                    self.answered.set()
                    if self.mode == "cut":
                        return
                    continue
                writer.write(frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])


Proxied = Callable[[], AbstractAsyncContextManager[Proxy]]
Guarded = Callable[[str, str], dict[str, Any]]
"""User and password -> connection settings."""


@pytest.fixture
def proxied(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Proxied:
    """Lead every connection that this process opens to the broker through a proxy, whatever it advertises."""

    @contextlib.asynccontextmanager
    async def through() -> AsyncIterator[Proxy]:
        host, _, port = kafka.rpartition(":")
        proxy = Proxy(host, int(port))
        server = await asyncio.start_server(proxy.serve, HOST, 0)
        here = server.sockets[0].getsockname()[1]
        original = AIOKafkaConnection.__init__

        def redirected(self: Any, at: str, number: int, **settings: Any) -> None:
            to = (HOST, here) if number == int(port) else (at, number)
            original(self, *to, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(AIOKafkaConnection, "__init__", redirected)
            try:
                yield proxy
            finally:
                server.close()
                for task in list(proxy.tasks):
                    task.cancel()
                await asyncio.gather(*proxy.tasks, return_exceptions=True)
                await server.wait_closed()

    return through


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Connection settings for a user of a broker with passwords and rights, which creates missing topics.

    `admin` may do all, `guest` nothing; the password is the name.
    """
    plain, sasl, controller = free_ports(3)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "listeners": f"PLAINTEXT://{HOST}:{plain},SASL://{HOST}:{sasl},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{plain},SASL://{HOST}:{sasl}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": f'{login} user_admin="admin" user_guest="guest";',
        "connection.failed.authentication.delay.ms": "0",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin",
        "auto.create.topics.enable": "true",
    }

    def of(user: str, password: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": f"{HOST}:{sasl}",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }

    server = Kafka.start(tmp_path_factory.mktemp("guarded"), port=plain, settings=settings)
    yield of
    server.kill()
