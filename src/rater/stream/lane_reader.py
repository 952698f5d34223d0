"""What a lane reads: partition p of `rater.commands` and of every data topic, from where the journal says.

It belongs to no group: who owns the lane is decided elsewhere, and the fence makes sure. Whatever goes wrong
while reading, our own next offsets are not trusted further: the lane is taken again from its mark.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from rater.core.instants import is_stamp
from rater.errors import Halt, Retake
from rater.stream.connecting import FORBIDDEN, Connection, consumer, refusal, shut, started
from rater.stream.group_offsets import GroupOffsets, shown_in
from rater.stream.position_check import PositionCheck, lost
from rater.stream.topics import Topics, missing, partition_counts

FETCH_MAX_WAIT_MS = 100
"""How long a seek or a resumed partition waits for the poll that is out."""
OPEN_DEADLINE_S = 60.0
COMMANDS_BYTES = 64 * 1024
"""Of one poll: no command is added beyond. One of a load brings 200 clients in 85 kB and takes some 30 ms
of a core, a fetch of compressed ones a hundred of them; calls wait behind what was polled with them, in each
lane. With 400 clients and two of these at a poll p99 of calls beside a load of 200,000 was 1,195 ms in place
of 680, and the load took four fifths of the time."""


TICK, TICK_BYTES = b'"do":"tick"', 16 * 1024
"""A tick of a hundred clients is short, and counts as so many bytes: it takes some 10 ms too."""


class LaneReader:
    """The reader of one lane."""

    def __init__(
        self,
        client: Connection,
        topics: Topics,
        lane: int,
        positions: Mapping[str, int],
        times: Mapping[str, int],
        group: str,
        *,
        ids: Mapping[str, str] | None = None,
        include_data: bool = True,
        open_deadline_s: float = OPEN_DEADLINE_S,
    ) -> None:
        """Stand at the mark's `positions` and `times`; a topic without one is new and read from its begin.

        group: of the settings; offsets are committed under `shown_in` of it. ids: of the topics, as they are
        now. include_data: False while there is no catalog; then only commands are polled.
        """
        self.topics = topics
        self.lane = lane
        self.next: dict[str, int] = dict(positions)
        """Per topic the offset after the last record polled; for the topics read, from `open` on."""
        self.times: dict[str, int] = dict(times)
        """Per topic the timestamp of that record, ms."""
        self.include_data = include_data
        self.outdated = ""
        """Why it has to be opened again; "": it has not."""
        self.held: list[ConsumerRecord] = []
        """Commands that were fetched and not polled yet."""
        self.published: dict[str, int] = dict(positions)
        """Per topic the offset up to which all is published, says a mark; of those read, from `open` on."""
        self._marked: tuple[Mapping[str, int], Mapping[str, int]] = dict(positions), dict(times)
        """Positions and times of the last mark."""
        self.ends: dict[TopicPartition, int] = {}
        """Ends as whoever watches the topics was told: of what is not fetched the library knows none."""
        self._published_ms: dict[str, int] = {topic: at for topic, at in times.items() if is_stamp(at)}
        """Per topic the timestamp of the last record before that offset that bears one."""
        self._idle_ms: dict[str, int] = {}
        """Per topic when nothing waited last, by our clock, ms."""
        self._client = client
        self._check = PositionCheck(client, topics, lane, ids or {}, open_deadline_s)
        self._group = shown_in(group)
        self._open_deadline_s = open_deadline_s
        self._places: dict[str, TopicPartition] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._offsets = GroupOffsets()

    async def open(self) -> None:
        """Verify the positions and begin to read.

        Raises Halt when unread records are gone or a topic was recreated or is missing, StreamDown when the
        broker stays away.
        """
        self._places = await self._partitions()
        places = list(self._places.values())
        begins = await self.verify()
        for topic, place in self._places.items():
            begin = begins[place]
            if topic not in self.next and topic == self.topics.commands and begin > 0:
                raise Halt(lost(place, 0, begin))
            self.published[topic] = self.next.setdefault(topic, begin)
        self._consumer = await started(self._reader, self._open_deadline_s)
        self._consumer.assign(places)
        for topic, place in self._places.items():
            self._consumer.seek(place, self.next[topic])
        if not self.include_data:
            self._consumer.pause(*self._data())

    def _reader(self) -> AIOKafkaConsumer:
        return consumer(self._client, group_id=self._group, fetch_max_wait_ms=FETCH_MAX_WAIT_MS)

    def _data(self) -> list[TopicPartition]:
        return [place for topic, place in self._places.items() if topic != self.topics.commands]

    async def _partitions(self) -> dict[str, TopicPartition]:
        """Return what there is to read: a source's own topic may have fewer partitions than lanes."""
        wanted = [self.topics.commands, *self.topics.data]
        counts = await partition_counts(self._client, wanted, deadline_s=self._open_deadline_s)
        for topic, count in counts.items():
            if count is None:
                raise Halt(missing(topic))
        return {
            topic: TopicPartition(topic, self.lane) for topic in wanted if self.lane < (counts[topic] or 0)
        }

    async def verify(self) -> dict[TopicPartition, int]:
        """Raise Halt unless each topic has what is not committed, and is the one that the last mark is of.

        Returns their first offsets. Raises StreamDown when the broker stays away.
        """
        return await self._check.places(self._places, *self._marked)

    async def poll(
        self, timeout_ms: int, *, commands_only: bool = False
    ) -> list[tuple[str, list[ConsumerRecord]]]:
        """Return what has come in, by topic; at most one fetch of each, empty after `timeout_ms` without any.

        Of commands about COMMANDS_BYTES: those fetched beyond them come with the next polls, and until then
        nothing but data is fetched. commands_only: the others stay where they are. Raises Retake after any
        error (records may have been passed over), Halt when unread records are gone.
        """
        if self._consumer is None:
            raise Retake(f"the source of lane {self.lane} is closed")
        if self.outdated:
            raise Retake(self.outdated)
        try:
            data = [] if commands_only else self._data()
            if not self.held:
                places = [self._places[self.topics.commands]] if commands_only else []
                polled = await self._consumer.getmany(*places, timeout_ms=timeout_ms)
            else:
                polled = await self._consumer.getmany(*data) if data else {}
        except OffsetOutOfRangeError as error:
            raise Halt(await self._check.out_of_range(error)) from error
        except FORBIDDEN as error:
            raise Halt(refusal(error)) from error
        except Exception as error:
            raise Retake(f"reading lane {self.lane} failed ({type(error).__name__}: {error})") from error
        return self._taken({place.topic: records for place, records in polled.items() if records})

    def _taken(self, polled: dict[str, list[ConsumerRecord]]) -> list[tuple[str, list[ConsumerRecord]]]:
        """Move the positions behind what is returned, and hold the commands that are too many."""
        commands = self.topics.commands
        for topic, records in polled.items():
            if records[0].offset < self.next[topic]:
                raise Retake(f"{topic}[{self.lane}] came again from offset {records[0].offset}")
        held = self.held or polled.get(commands, [])
        if held:
            count = _count(held)
            polled[commands], self.held = held[:count], held[count:]
        for topic, records in polled.items():
            if self.published[topic] == self.next[topic]:  # only markers lie before the first of these
                self.published[topic] = records[0].offset
            self.next[topic] = records[-1].offset + 1
            self.times[topic] = records[-1].timestamp
        return list(polled.items())

    async def enable_data(self) -> None:
        """Read the data topics too, from now on: there is a catalog."""
        if not self.include_data and self._consumer is not None:
            self._consumer.resume(*self._data())
        self.include_data = True

    def committed(self, positions: Mapping[str, int], times: Mapping[str, int]) -> None:
        """Note what a mark says that was committed: lag and group offsets count from there."""
        self._marked = positions, times
        for topic, at in positions.items():
            self.published[topic] = max(at, self.published.get(topic, 0))
        self._published_ms.update((topic, at) for topic, at in times.items() if is_stamp(at))

    async def lag(self) -> dict[str, tuple[int, int | None]]:
        """Return per topic how many records are not committed, and since when (ms) they wait at the most.

        That is the timestamp of the last record that is committed, or when nothing waited last: after a quiet
        hour the first record has not waited for an hour. None: nothing waits, or neither is known. Markers of
        Kafka transactions behind what waits count too. Raises Retake where the library does not tell.
        """
        behind: dict[str, tuple[int, int | None]] = {}
        for topic, place in self._places.items():
            if self._consumer is None:
                return {}
            # The library's position: unlike ours it has passed the marker behind the last record.
            end = max(self._consumer.highwater(place) or 0, self.ends.get(place, 0))
            records = max(0, end - await _position(self._consumer, place))
            records += self.next[topic] - self.published[topic]
            records += len(self.held) if topic == self.topics.commands else 0
            if not records:
                self._idle_ms[topic] = time.time_ns() // 1_000_000
            known = [at[topic] for at in (self._published_ms, self._idle_ms) if topic in at]
            behind[topic] = (records, max(known, default=None) if records else None)
        return behind

    def reached(self) -> dict[TopicPartition, int]:
        """Return how far each partition was read: it cannot be shorter."""
        return {place: self.next[topic] for topic, place in self._places.items() if topic in self.next}

    def grown(self, partitions: Mapping[str, int]) -> None:
        """Take the lane again, by the next poll, when a data topic has our partition that had it not.

        partitions: topic -> how many it has now.
        """
        for topic in self.topics.data:
            if self._places and topic not in self._places and self.lane < partitions.get(topic, 0):
                self.outdated = f"{topic} has a partition {self.lane} now"

    def polled(self) -> dict[str, int]:
        """Return topic → offset of the first record that was polled and is not committed."""
        return {
            topic: self.published[topic]
            for topic in self._places
            if topic in self.published
            and (self.next[topic] > self.published[topic] or (self.held and topic == self.topics.commands))
        }

    async def waiting(self) -> dict[str, int]:
        """Return topic → offset of the first record that was polled, or could be, and is not committed.

        What lies behind another program's open Kafka transaction cannot be polled.
        """
        found = self.polled()
        for topic, place in self._places.items():
            reader = self._consumer
            if reader is None:
                return {}
            if topic not in found and (self.include_data or topic == self.topics.commands):
                at = await _position(reader, place)
                if (reader.last_stable_offset(place) or 0) > at:
                    found[topic] = at
        return found

    def backlog(self) -> int:
        """Return how many records lie ahead of what was polled, as far as the last fetches tell."""
        reader = self._consumer
        if reader is None:
            return 0
        return sum(
            max(0, (reader.highwater(place) or 0) - self.next[topic])
            for topic, place in self._places.items()
            if self.include_data or topic == self.topics.commands
        )

    async def commit_offsets(self) -> None:
        """Commit the group's offsets where they have changed; does not wait, and errors do not matter."""
        if self._consumer is None or self._offsets.busy():
            return
        consumer, offsets = self._consumer, dict[TopicPartition, int]()
        for topic, place in self._places.items():
            offsets[place] = self.published[topic]
            if self.next[topic] == self.published[topic] and not self.held:
                # Past the markers behind the last record: for Kafka's tools they would wait for ever.
                offsets[place] = max(offsets[place], await _position(consumer, place))
            if self._consumer is None or self._offsets.busy():  # meanwhile it was closed, or another commits
                return
        self._offsets.commit(consumer, offsets)

    async def commit_last(self) -> None:
        """Commit the group's offsets as they are in the end; waits for it, but not for long."""
        await self._offsets.committed()
        await self.commit_offsets()
        await self._offsets.committed()

    async def close(self) -> None:
        """Let go; never raises. Closing again does nothing."""
        reader, self._consumer = self._consumer, None
        await self._offsets.committed()
        if reader is not None:
            await shut(reader)


async def _position(reader: AIOKafkaConsumer, place: TopicPartition) -> int:
    """Return where the library stands. Raises Retake where it does not tell."""
    try:
        at: int = await reader.position(place)
    except KafkaError as error:
        raise Retake(f"{place.topic}[{place.partition}] is not read ({error!r})") from error
    return at


def _count(commands: list[ConsumerRecord]) -> int:
    """Return how many of the commands one poll returns, at least one."""
    total = 0
    for count, record in enumerate(commands, 1):
        value = record.value or b""
        total += max(len(value), TICK_BYTES) if TICK in value else len(value)
        if total >= COMMANDS_BYTES:
            return count
    return len(commands)
