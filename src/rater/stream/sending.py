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


async def send_one(client: Connection, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """Write one record and wait until all copies have it; what is repeated below is written once.

    Raises Halt where it may not be written, StreamDown where it is not known to be: whoever sends again has
    to be one whose record does nothing twice.
    """
    producer = await started(
        lambda: AIOKafkaProducer(
            **{
                "enable_idempotence": True,
                "retry_backoff_ms": RETRY_BACKOFF_MS,
                "request_timeout_ms": REQUEST_TIMEOUT_MS,
                **client,
            }
        ),
        OPEN_DEADLINE_S,
    )
    try:
        async with asyncio.timeout(OPEN_DEADLINE_S):
            await producer.send_and_wait(topic, value, key=key, partition=partition)
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, TimeoutError) as error:
        raise StreamDown(
            f"Kafka did not confirm the record for {topic} ({type(error).__name__}: {error})"
        ) from error
    finally:
        await shut(producer)
