"""Whether a lane's topics still are those that it has read, and have what it has not read yet."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from rater.errors import Halt, StreamDown
from rater.stream.connecting import Connection, reading
from rater.stream.topics import Topics, topic_ids

VERIFY_DEADLINE_S = 30.0


class PositionCheck:
    """Compares a lane's positions with its topics, by their offsets and the time of the last record read."""

    def __init__(
        self, client: Connection, topics: Topics, lane: int, ids: Mapping[str, str], deadline_s: float
    ) -> None:
        """Look over this connection. ids: of the topics, as they were; deadline_s: for connecting."""
        self._client = client
        self._topics = topics
        self._lane = lane
        self._ids = ids
        self._deadline_s = deadline_s

    async def places(
        self, wanted: Mapping[str, TopicPartition], positions: Mapping[str, int], times: Mapping[str, int]
    ) -> dict[TopicPartition, int]:
        """Return the first offset of each place. wanted: topic → place; positions, times: of a mark.

        Raises Halt unless each topic has what lies after its position, and the record before that is of its
        time; StreamDown when the broker stays away.
        """
        places = list(wanted.values())
        # One record of each topic is looked at: a fetch of one byte brings one batch.
        async with reading(
            self._client, places, deadline_s=self._deadline_s, max_partition_fetch_bytes=1
        ) as reader:
            begins: dict[TopicPartition, int] = await reader.beginning_offsets(places)
            ends = await reader.end_offsets(places)
            for topic, place in wanted.items():
                begin, end = begins[place], ends[place]
                position = positions.get(topic, begin)
                if begin > position:
                    raise Halt(lost(place, position, begin))
                if end < position:
                    raise Halt(self._another(topic, ends_before(end, position)))
                if topic in times and begin < position:
                    await self._compare(reader, place, position - 1, end, times[topic])
        return begins

    def _another(self, topic: str, why: str) -> str:
        return self._topics.another(topic, self._lane, why, self._ids.get(topic, ""))

    async def _compare(
        self, reader: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int, known_ms: int
    ) -> None:
        """Raise Halt unless the last record read is the same: a recreated topic may have grown past it."""
        reader.pause(*reader.assignment())
        reader.resume(place)
        reader.seek(place, offset)
        until = time.monotonic() + VERIFY_DEADLINE_S
        records: list[ConsumerRecord] = []
        while not records and await reader.position(place) < end:
            if time.monotonic() > until:
                raise StreamDown(f"{place.topic}[{place.partition}]@{offset} could not be read")
            records = (await reader.getmany(place, timeout_ms=500, max_records=1)).get(place, [])
        if not records or records[0].offset != offset:
            why = f"there is no record at offset {offset}, the last one that was read"
            raise Halt(self._another(place.topic, why))
        found_ms = records[0].timestamp
        if found_ms != known_ms:
            why = (
                f"the record at offset {offset} is of {found_ms} ms, but the one that was read was of "
                f"{known_ms} ms"
            )
            raise Halt(self._another(place.topic, why))

    async def out_of_range(self, error: OffsetOutOfRangeError) -> str:
        """Return why an offset that was to be read is not there."""
        places = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        place, offset = next(iter(places.items()), (TopicPartition("a topic", self._lane), -1))
        known = self._ids.get(place.topic, "")
        identity = (await topic_ids(self._client, [place.topic]))[place.topic] if known else ""
        if identity and identity != known:
            return self._topics.another(
                place.topic, self._lane, f"its id is {identity}, but was {known}", identity
            )
        return (
            f"{place.topic}[{place.partition}] no longer has offset {offset}: records that nobody has rated "
            "were removed (retention), or the topic was recreated; lengthen its retention.ms and restore "
            "the records"
        )


def lost(place: TopicPartition, position: int, begin: int) -> str:
    """Return the sentence of a topic that begins after what was read of it."""
    return (
        f"{place.topic}[{place.partition}] begins at offset {begin}, but was read up to {position} only: "
        "records that nobody has read were removed (retention, delete-records); restore them, and lengthen "
        "retention.ms"
    )


def ends_before(end: int, position: int) -> str:
    """Return why a topic that ends at `end` is not the one that was read up to `position`."""
    return f"it ends at offset {end}, but was read up to {position}"
