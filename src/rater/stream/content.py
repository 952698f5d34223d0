"""Reading and writing beside the lanes: a catalog's content, `rater ingest`, and waiting for events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
)
from aiokafka.partitioner import DefaultPartitioner

from rater.errors import Halt, NoCatalog, StreamDown
from rater.stream.connecting import (
    FORBIDDEN,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Connection,
    consumer,
    ignore,
    later,
    reading,
    refusal,
    shut,
    started,
)
from rater.stream.journal import DEADLINE_S, end_offsets
from rater.stream.lanes import BATCH_BYTES, OPEN_DEADLINE_S, Writer
from rater.stream.topics import RECORD_BYTES_MAX, Topics, missing, partition_counts

__all__ = ["EventTail", "Ingest", "Tail", "Writer", "read_content", "undecided"]

GAP_MAX = 16
"""Offsets that a read rather passes over than seeks: transaction markers lie between records."""
IN_FLIGHT = 8
"""Batches of 1 MB that `Ingest` keeps unconfirmed: memory stays bounded, the link busy."""


async def read_content(
    client: Connection, topic: str, offsets: Sequence[int], *, deadline_s: float = DEADLINE_S
) -> dict[int, bytes]:
    """Return the values at these offsets of partition 0.

    Raises Halt when one was removed, NoCatalog when no committed record was ever there, StreamDown when
    reading stands still.
    """
    wanted = set(offsets)
    if not wanted:
        return {}
    place = TopicPartition(topic, 0)
    found: dict[int, bytes] = {}
    async with reading(client, [place], deadline_s=deadline_s) as reader:
        begin = (await reader.beginning_offsets([place]))[place]
        if min(wanted) >= begin:
            for first, last in _runs(sorted(wanted)):
                await _read_run(reader, place, first, last, wanted, found, deadline_s)
    gone = sorted(wanted - found.keys())
    if gone:
        raise (Halt if gone[0] < begin else NoCatalog)(
            f"{topic}[0] has no record at offset {gone[0]}, which the catalog lists: it was removed or the "
            "topic was recreated; restore the topic from a backup"
        )
    return found


async def undecided(
    client: Connection, topic: str, partitions: Sequence[int], *, deadline_s: float = DEADLINE_S
) -> set[int]:
    """Return the partitions in which a Kafka transaction is open, so that nothing behind it can be read.

    Raises StreamDown, Halt.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    settings = {"isolation_level": "read_uncommitted"}
    async with reading(client, places, deadline_s=deadline_s, **settings) as reader:
        written = await reader.end_offsets(places)
    decided = await end_offsets(client, topic, partitions, deadline_s=deadline_s)  # after it: else it lags
    return {place.partition for place in places if decided[place.partition] < written[place]}


def _runs(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of what is read in one go."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > GAP_MAX:
            yield first, last
            first = offset
        last = offset
    yield first, last


async def _read_run(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    first: int,
    last: int,
    wanted: set[int],
    found: dict[int, bytes],
    deadline_s: float,
) -> None:
    reader.seek(place, first)
    moved, at = time.monotonic(), first
    # Up to the high watermark and not to the end of what is decided, which lags behind a commit.
    while at <= last and at < (reader.highwater(place) or at + 1):
        try:
            records = (await reader.getmany(place, timeout_ms=200)).get(place, [])
        except OffsetOutOfRangeError:  # behind the end: the topic was recreated
            return
        for record in records:
            if record.offset in wanted:
                found[record.offset] = record.value or b""
        now = await reader.position(place)
        if now > at:
            moved, at = time.monotonic(), now
        elif time.monotonic() - moved > deadline_s:
            raise StreamDown(f"{place.topic}[{place.partition}]@{at} could not be read for {deadline_s:g} s")


class Ingest:
    """A plain idempotent producer for many records: `rater ingest` repeats harmlessly, so no transactions."""

    def __init__(self, client: Connection, topic: str, *, deadline_s: float = OPEN_DEADLINE_S) -> None:
        """Nothing is connected before `open`. deadline_s: for connecting, and for a batch's confirmation."""
        self.topic = topic
        self._client = client
        self._deadline_s = deadline_s
        self._producer: AIOKafkaProducer | None = None
        self._partitions: list[int] = []
        self._choose = DefaultPartitioner()
        self._turn = 0  # the partition that records without keys go to now
        self._filling: dict[int, Any] = {}  # aiokafka's batch builders
        self._pending: set[asyncio.Future[Any]] = set()

    async def open(self) -> None:
        """Connect. Raises StreamDown, or Halt when there is no such topic or we may not write to it."""
        # Asked of the broker first: the producer's own question would create a missing topic on many brokers.
        count = (await partition_counts(self._client, [self.topic], deadline_s=self._deadline_s))[self.topic]
        if count is None:
            raise Halt(missing(self.topic))
        self._partitions = list(range(count))
        self._producer = await started(self._make, self._deadline_s)

    def _make(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **{
                "enable_idempotence": True,
                "compression_type": "zstd",
                "max_batch_size": BATCH_BYTES,
                "max_request_size": RECORD_BYTES_MAX,
                "retry_backoff_ms": RETRY_BACKOFF_MS,
                "request_timeout_ms": REQUEST_TIMEOUT_MS,
                **self._client,
            }
        )

    async def send(self, value: bytes, key: bytes | None = None) -> None:
        """Send one record: with a key to the partition that any Kafka client chooses, else round robin.

        Waits while too much is unconfirmed. Raises StreamDown when a batch was not confirmed (send again: it
        is harmless), Halt when a record is too large.
        """
        if self._producer is None:
            raise StreamDown("the producer is closed")
        partition = self._turn if key is None else self._choose(key, self._partitions, self._partitions)
        while True:  # the partition whose turn it is then may hold a full batch too, of records with keys
            batch = self._filling.get(partition)
            if batch is None:
                batch = self._filling[partition] = self._producer.create_batch()
            if batch.append(timestamp=None, key=key, value=value, headers=[]) is not None:
                return
            await self._send(partition, batch)
            partition = self._turn if key is None else partition

    async def _send(self, partition: int, batch: Any) -> None:
        """Send a full batch; records without keys go on in the next partition."""
        del self._filling[partition]
        if partition == self._turn:
            self._turn = (partition + 1) % len(self._partitions)
        while len(self._pending) >= IN_FLIGHT:
            await self._confirm(asyncio.FIRST_COMPLETED)
        assert self._producer is not None  # noqa: S101 - `send` looked
        try:
            async with asyncio.timeout(self._deadline_s):
                delivery = await self._producer.send_batch(batch, self.topic, partition=partition)
        except (KafkaError, TimeoutError) as error:
            raise self._failed(error) from error
        self._pending.add(delivery)

    async def flush(self) -> None:
        """Wait until all is confirmed. Raises what `send` raises."""
        for partition, batch in list(self._filling.items()):
            await self._send(partition, batch)
        await self._confirm(asyncio.ALL_COMPLETED)

    async def _confirm(self, when: str) -> None:
        if not self._pending:
            return
        done, self._pending = await asyncio.wait(self._pending, timeout=self._deadline_s, return_when=when)
        errors = [error for delivery in done if (error := delivery.exception()) is not None]
        if errors:
            raise self._failed(errors[0]) from errors[0]
        if not done or (self._pending and when == asyncio.ALL_COMPLETED):
            raise StreamDown(f"Kafka did not confirm a batch for {self._deadline_s:g} s")

    def _failed(self, error: BaseException) -> Halt | StreamDown:
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
            return Halt(f"a record is larger than {self.topic} takes; raise the topic's max.message.bytes")
        if isinstance(error, FORBIDDEN):
            return Halt(refusal(error))
        return StreamDown(f"Kafka did not take a batch ({type(error).__name__}: {error})")

    async def close(self) -> None:
        """Let go; what is not confirmed may be lost. Never raises."""
        for delivery in self._pending:
            ignore(delivery)
        producer, self._producer = self._producer, None
        if producer is not None:
            await (shut(producer) if not self._pending else later(shut(producer)))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Tail:
    """Follows a topic from given offsets: `rater load` waits so for the lanes' answers in `rater.events`."""

    def __init__(self, client: Connection, topic: str, offsets: Mapping[int, int]) -> None:
        """offsets: partition -> where to begin, of `journal.end_offsets` before the question was asked."""
        self._client = client
        self._offsets = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        self._consumer: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Connect. Raises StreamDown, Halt."""
        self._consumer = await started(lambda: consumer(self._client), OPEN_DEADLINE_S)
        self._consumer.assign(list(self._offsets))
        for place, offset in self._offsets.items():
            self._consumer.seek(place, offset)

    async def poll(self, timeout_ms: int) -> list[ConsumerRecord]:
        """Return what has come in, in order within a partition; none after `timeout_ms`.

        Raises StreamDown, Halt.
        """
        if self._consumer is None:
            raise StreamDown("the tail is closed")
        try:
            polled = await self._consumer.getmany(timeout_ms=timeout_ms)
        except FORBIDDEN as error:
            raise Halt(refusal(error)) from error
        except KafkaError as error:
            raise StreamDown(f"Kafka did not let us read ({type(error).__name__}: {error})") from error
        return [record for records in polled.values() for record in records]

    async def close(self) -> None:
        """Let go; never raises."""
        reader, self._consumer = self._consumer, None
        if reader is not None:
            await shut(reader)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class EventTail:
    """Follows `rater.events` from now on: what is written after `open` is seen."""

    def __init__(self, client: Connection, topics: Topics) -> None:
        """Nothing is connected before `open`."""
        self._client = client
        self._topics = topics
        self._tail: Tail | None = None

    async def open(self) -> None:
        """Connect and note where the topic ends. Raises StreamDown, Halt."""
        ends = await end_offsets(self._client, self._topics.events, range(self._topics.partitions))
        self._tail = Tail(self._client, self._topics.events, ends)
        await self._tail.open()

    async def poll(self, timeout_ms: int) -> list[bytes]:
        """Return the events that have come in, as JSON; none after `timeout_ms`. Raises StreamDown, Halt."""
        if self._tail is None:
            raise StreamDown("the tail is closed")
        return [record.value for record in await self._tail.poll(timeout_ms) if record.value is not None]

    async def close(self) -> None:
        """Let go; never raises."""
        if self._tail is not None:
            await self._tail.close()
