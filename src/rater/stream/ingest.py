"""Writing the records of a file to a source's topic (`rater ingest`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.partitioner import DefaultPartitioner

from rater.errors import Halt, StreamDown
from rater.stream.batches import BATCH_BYTES
from rater.stream.connecting import (
    FORBIDDEN,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Connection,
    ignore,
    later,
    refusal,
    shut,
    started,
)
from rater.stream.producer import OPEN_DEADLINE_S
from rater.stream.topics import RECORD_BYTES_MAX, configured, missing, partition_counts

IN_FLIGHT = 8
"""Batches of 1 MB, or of one larger record, that `Ingest` keeps unconfirmed: memory stays bounded, the link
busy."""


class Ingest:
    """A plain idempotent producer for many records: `rater ingest` repeats harmlessly, so no transactions."""

    def __init__(self, client: Connection, topic: str, *, deadline_s: float = OPEN_DEADLINE_S) -> None:
        """Nothing is connected before `open`. deadline_s: for connecting, and for a batch's confirmation."""
        self.topic = topic
        self._room: int | None = None  # for a batch in the topic, bytes; asked for when one may be too large
        self.client = client
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
        count = (await partition_counts(self.client, [self.topic], deadline_s=self._deadline_s))[self.topic]
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
                **self.client,
            }
        )

    async def send(
        self, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> bool:
        """Send one record: with a key to the partition that any Kafka client chooses, else round robin.

        Returns False where the topic takes none of its size. Waits while too much is unconfirmed. Raises
        StreamDown when a batch was not confirmed (send again: it is harmless), Halt when the topic does not
        take a whole batch.
        """
        if self._producer is None:
            raise StreamDown("the producer is closed")
        if len(value) >= BATCH_BYTES and not await self._fits(self._producer, value, key, headers):
            return False
        partition = self._turn if key is None else self._choose(key, self._partitions, self._partitions)
        while True:  # the partition whose turn it is then may hold a full batch too, of records with keys
            batch = self._filling.get(partition)
            if batch is None:
                batch = self._filling[partition] = self._producer.create_batch()
            if batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is not None:
                return True
            await self._send(partition, batch)
            partition = self._turn if key is None else partition

    async def _fits(
        self,
        producer: AIOKafkaProducer,
        value: bytes,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> bool:
        """Return whether the topic takes a record that fills a batch by itself, as far as we may know.

        Asked before: a batch that the broker refuses leaves a gap in the library's sequence numbers, and the
        broker then refuses all that comes after it (findings/aiokafka-refused-batch.sh).
        """
        if self._room is None:
            self._room = await self._room_in_topic()
        batch = producer.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        return len(batch._build()) <= self._room  # noqa: SLF001 - the library tells no compressed size before

    async def _room_in_topic(self) -> int:
        try:
            found = await configured(self.client, [self.topic], deadline_s=self._deadline_s)
        except Halt:  # we may not know
            return RECORD_BYTES_MAX
        return int(found[self.topic]["max.message.bytes"])

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
            return Halt(f"a batch is larger than {self.topic} takes; raise the topic's max.message.bytes")
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
