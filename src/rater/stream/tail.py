"""Reading a topic from its end on: for whoever waits for what is written next."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
)

from rater.errors import Halt, StreamDown
from rater.stream.connecting import (
    FORBIDDEN,
    Connection,
    consumer,
    refusal,
    shut,
    started,
)
from rater.stream.journal import end_offsets
from rater.stream.producer import OPEN_DEADLINE_S
from rater.stream.topics import Topics


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
