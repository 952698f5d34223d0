"""Writing one record, and waiting until the brokers have it: a command."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rater.errors import Halt, StreamDown
from rater.stream.connecting import (
    FORBIDDEN,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Connection,
    refusal,
    shut,
    started,
)
from rater.stream.producer import OPEN_DEADLINE_S
from rater.stream.topics import RECORD_BYTES_MAX


class Sending:
    """Writes records one by one, each waited for until all copies have it.

    What is repeated below is written once. Writing raises Halt where it may not be, StreamDown where it is
    not known to be: whoever sends again has to be one whose record does nothing twice.
    """

    def __init__(self, client: Connection) -> None:
        """Nothing is connected before `open`."""
        self._client = client
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect. Raises StreamDown, Halt."""
        self._producer = await started(
            lambda: AIOKafkaProducer(
                **{
                    "enable_idempotence": True,
                    "retry_backoff_ms": RETRY_BACKOFF_MS,
                    "request_timeout_ms": REQUEST_TIMEOUT_MS,
                    "max_request_size": RECORD_BYTES_MAX,
                    **self._client,
                }
            ),
            OPEN_DEADLINE_S,
        )

    async def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Write one record."""
        if self._producer is None:
            raise StreamDown("nothing is open to write by")
        try:
            async with asyncio.timeout(OPEN_DEADLINE_S):
                await self._producer.send_and_wait(topic, value, key=key, partition=partition)
        except FORBIDDEN as error:
            raise Halt(refusal(error)) from error
        except (KafkaError, TimeoutError) as error:
            raise StreamDown(
                f"Kafka did not confirm the record for {topic} ({type(error).__name__}: {error})"
            ) from error

    async def close(self) -> None:
        """Let go; never raises."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await shut(producer)


async def send_one(client: Connection, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """Write one record and wait until all copies have it. Raises as `Sending`."""
    sending = Sending(client)
    await sending.open()
    try:
        await sending.send(topic, partition, key, value)
    finally:
        await sending.close()
