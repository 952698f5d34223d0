"""Reading several topics on from given places, all partitions at once: for whoever follows them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from rater.errors import Halt, StreamDown
from rater.stream.connecting import FORBIDDEN, Connection, consumer, refusal, shut, started
from rater.stream.producer import OPEN_DEADLINE_S

Place = tuple[str, int]
"""Topic and partition."""
GATHER_S = 0.25
"""So long records are gathered at most while more of them come."""


class Onward:
    """Reads on. After a fault `positions` are not trusted: another one goes on from what is kept."""

    def __init__(self, client: Connection, positions: Mapping[Place, int]) -> None:
        """positions: of every partition that is read, the offset to begin at."""
        self._client = client
        self.positions = dict(positions)
        """The offset behind what was read; it passes markers and aborted records, too."""
        self._consumer: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Connect. Raises StreamDown, Halt."""
        self._consumer = await started(lambda: consumer(self._client), OPEN_DEADLINE_S)
        self._consumer.assign([TopicPartition(*place) for place in self.positions])
        for place, offset in self.positions.items():
            self._consumer.seek(TopicPartition(*place), offset)

    async def gather(self, records_max: int, wait_ms: int) -> dict[Place, list[ConsumerRecord]]:
        """Return what has come in, in order within a partition: about `records_max` at most.

        Raises StreamDown, Halt.
        """
        reader = self._consumer
        if reader is None:
            raise StreamDown("the reader is closed")
        found: dict[Place, list[ConsumerRecord]] = {}
        number, began = 0, time.monotonic()
        try:
            while True:
                polled = await reader.getmany(
                    timeout_ms=0 if number else wait_ms, max_records=records_max - number
                )
                for place, records in polled.items():
                    found.setdefault((place.topic, place.partition), []).extend(records)
                    number += len(records)
                if not polled or number >= records_max or time.monotonic() - began > GATHER_S:
                    break
            for place in self.positions:
                self.positions[place] = await reader.position(TopicPartition(*place))
        except FORBIDDEN as error:
            raise Halt(refusal(error)) from error
        except KafkaError as error:
            raise StreamDown(f"Kafka did not let us read ({type(error).__name__}: {error})") from error
        return found

    def waits(self, place: Place) -> bool:
        """Return whether a partition has more that is committed, as far as is known without asking."""
        end = None if self._consumer is None else self._consumer.last_stable_offset(TopicPartition(*place))
        return end is None or end < 0 or self.positions[place] < end

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
