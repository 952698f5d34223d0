"""Writing in Kafka transactions: for a lane, and for whoever writes beside the lanes.

`LaneProducer` is the one writer of a lane's partitions; starting it fences the writer before (PROTOCOL.md
5.1). `Writer` writes elsewhere under an id of its own. `Ownership` is the consumer group on `rater.commands`,
which shares out lanes. Nobody here repeats what may have been done: an unknown result ends the producer, and
the lane is taken again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, Unpack

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
)

from rater.core.journal.records import Headers, Outgoing, Run
from rater.errors import Fenced, Halt, Retake
from rater.stream import endtxn
from rater.stream.batches import BATCH_BYTES, COMPRESSION, batches, sizes
from rater.stream.connecting import (
    FORBIDDEN,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Connection,
    ignore,
    later,
    reading,
    refusal,
    shut,
    started,
)
from rater.stream.journal import Mark, Owner, control_record
from rater.stream.topics import RECORD_BYTES_MAX, Topics

log = structlog.get_logger()

TRANSACTION_TIMEOUT_MS = 30_000
"""A dead worker that nobody replaces holds up readers of its journal partition so long, and 10 s more."""
COMMIT_DEADLINE_S = 25.0
"""Ours for a whole Kafka transaction: longer than a broker restart, and the broker's own timeout comes later.

A big one gets more (`BYTES_PER_S`); then the broker's may be the first, and the answer is Fenced.
"""
LOAD_TIMEOUT_MS = 600_000
"""A catalog of many MB may take minutes; brokers allow 15 by default (transaction.max.timeout.ms)."""
OPEN_DEADLINE_S = 60.0
ABORT_S = 2.0
"""So long giving up waits for an abort; the next owner's start aborts as well."""
BYTES_PER_S = 2 * 2**20
"""The slowest link that a big write is given time for."""


class Group(NamedTuple):
    """Records for one partition, in order."""

    topic: str
    partition: int
    records: Sequence[Outgoing | Run]
    at_ms: int | None = None
    """Their timestamp; None: when their batches are made."""


Place = tuple[str, int]
"""Topic and partition."""


class Limits(TypedDict, total=False):
    """How long a transactional producer waits, where it is not as long as above."""

    commit_deadline_s: float
    open_deadline_s: float
    request_timeout_ms: int
    transaction_timeout_ms: int


class _Transactional:
    """A transactional producer that is used up by the first thing that goes wrong."""

    def __init__(
        self,
        client: Connection,
        transactional_id: str,
        places: Iterable[Place],
        *,
        native: bool = True,
        **limits: Unpack[Limits],
    ) -> None:
        """Nothing is connected before `open`. Raises Halt for an untested aiokafka.

        places: all that earlier producers of the id may have written to. native: the native engine writes the
        batches, where it is here.
        """
        endtxn.install()
        self.transactional_id = transactional_id
        self._client = client
        self._native = native
        self._unsure = set(places)
        """Where the last producer's Kafka transaction may have been forgotten by the brokers (`endtxn`)."""
        self._before: set[Place] = set()
        """The same of our own last one."""
        self._settings = {
            "acks": "all",
            "compression_type": COMPRESSION,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES,
            "max_request_size": RECORD_BYTES_MAX,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "request_timeout_ms": limits.get("request_timeout_ms", REQUEST_TIMEOUT_MS),
            "transaction_timeout_ms": limits.get("transaction_timeout_ms", TRANSACTION_TIMEOUT_MS),
            **client,
            "transactional_id": transactional_id,
        }
        self._commit_deadline_s = limits.get("commit_deadline_s", COMMIT_DEADLINE_S)
        self._open_deadline_s = limits.get("open_deadline_s", OPEN_DEADLINE_S)
        self._producer: AIOKafkaProducer | None = None
        self._open = False  # a Kafka transaction

    async def open(self) -> None:
        """Connect; when this returns, every earlier producer of the id is fenced and its transaction aborted.

        Raises StreamDown when the broker stays away, Halt when it refuses us.
        """
        self._producer = await started(lambda: AIOKafkaProducer(**self._settings), self._open_deadline_s)
        if self._unsure:
            # A marker for a partition that its leader has not made yet waits for 30 s in the broker.
            places = [TopicPartition(*place) for place in self._unsure]
            async with reading(self._client, places, deadline_s=self._open_deadline_s) as reader:
                await reader.end_offsets(places)

    async def close(self) -> None:
        """Let go, aborting what is open; never raises. Closing again does nothing."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _give_up(producer, abort=self._open)
            await shut(producer)

    async def _abandon(self, *, abort: bool = False) -> None:
        """Let go, in the background: a lost answer holds `stop` for the rest of the request timeout.

        What is to be aborted is aborted first: a program that ends by this fault takes its background along,
        and readers would stand still until the Kafka transaction times out.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await _give_up(producer, abort=abort)
            finally:
                later(shut(producer))

    async def _transact(self, groups: Iterable[Group]) -> list[list[int]]:
        """Write all groups in one Kafka transaction; return the offsets of each group's records.

        Raises Fenced, Halt (a record too large, no permission: nothing is published), or Retake when the
        outcome is unknown or nothing was published; after any of them this producer is closed.
        """
        producer = self._producer
        if producer is None:
            raise Retake(f"the producer {self.transactional_id} is closed")
        groups = list(groups)
        filled = [self._batches(producer, group) for group in groups]
        size = sum(batch.size() for of_group in filled for batch in of_group)
        try:
            async with asyncio.timeout(self._commit_deadline_s + size / BYTES_PER_S):
                return await self._write(producer, groups, filled)
        except ProducerFenced as error:
            await self._abandon()
            raise self._fenced() from error
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            await self._abandon(abort=self._open)
            raise Halt(_too_large(groups)) from error
        except InvalidTimestampError as error:
            await self._abandon(abort=self._open)
            raise Halt(
                f"{self.transactional_id}: the broker refuses the time of our records: this clock is "
                "ahead of its own by more than the topic's message.timestamp.after.max.ms; set the clock, or "
                "set message.timestamp.type to LogAppendTime (rater topics create does so for new topics)"
            ) from error
        except FORBIDDEN as error:
            await self._abandon(abort=self._open)
            raise Halt(refusal(error)) from error
        # AssertionError and IllegalOperation: what aiokafka's dead states say
        except (KafkaError, OSError, TimeoutError, AssertionError, IllegalOperation) as error:
            await self._abandon(abort=self._open)
            if isinstance(endtxn.cause(producer), ProducerFenced):
                raise self._fenced() from error
            raise Retake(f"{self.transactional_id}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self._abandon(abort=self._open)
            raise

    def _batches(self, producer: AIOKafkaProducer, group: Group) -> list[Any]:
        at_ms = time.time_ns() // 1_000_000 if group.at_ms is None else group.at_ms
        return list(batches(producer, group.records, at_ms, native=self._native))

    def _fenced(self) -> Fenced:
        return Fenced(f"{self.transactional_id}: a newer producer has this id, or we were too slow")

    async def _write(
        self, producer: AIOKafkaProducer, groups: list[Group], filled: list[list[Any]]
    ) -> list[list[int]]:
        if self._unsure:
            await producer.begin_transaction()
            endtxn.include(producer, self._unsure)
            await producer.abort_transaction()
            self._unsure = set()
        await producer.begin_transaction()
        self._open = True
        written = {(group.topic, group.partition) for group in groups}
        endtxn.include(producer, self._before | written)
        sent: list[_Sent] = []
        try:
            await _send(producer, groups, filled, sent)
            # Each delivery is looked at: a commit succeeds even when a batch was refused.
            results = await asyncio.gather(*(each.delivery for each in sent), return_exceptions=True)
        except BaseException:
            for each in sent:
                ignore(each.delivery)
            raise
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            raise next((error for error in failed if isinstance(error, ProducerFenced)), failed[0])
        self._open = False  # from here on only the broker knows
        try:
            await producer.commit_transaction()
        except asyncio.CancelledError:
            await endtxn.over(producer, ABORT_S)  # else it may not even be asked
            raise
        self._before = written
        return self._offsets(len(groups), sent)

    def _offsets(self, groups: int, sent: list[_Sent]) -> list[list[int]]:
        offsets: list[list[int]] = [[] for _ in range(groups)]
        for each in sent:
            first = each.delivery.result().offset
            if first < 0:
                raise Retake(f"{self.transactional_id}: the broker did not say where it wrote")
            offsets[each.group] += range(first, first + each.records)
        return offsets


class _Sent(NamedTuple):
    group: int
    records: int
    delivery: asyncio.Future[Any]


async def _send(
    producer: AIOKafkaProducer, groups: list[Group], filled: list[list[Any]], sent: list[_Sent]
) -> None:
    """Hand all batches to the library, noting each in `sent`.

    First batches of all partitions go before second ones: one AddPartitions and one Produce for them.
    """
    for turn in range(max((len(of_group) for of_group in filled), default=0)):
        for number, group in enumerate(groups):
            if turn < len(filled[number]):
                batch = filled[number][turn]
                delivery = await producer.send_batch(batch, group.topic, partition=group.partition)
                sent.append(_Sent(number, batch.record_count(), delivery))


async def _give_up(producer: AIOKafkaProducer, *, abort: bool) -> None:
    endtxn.hush(producer)
    if abort:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ABORT_S):
                await producer.abort_transaction()
        endtxn.hush(producer)


def _too_large(groups: list[Group]) -> str:
    found = [(size, group.topic, group.partition) for group in groups for size in sizes(group.records)]
    size, topic, partition = max(found, default=(0, "", 0))
    return (
        f"a record of about {size} bytes for {topic}[{partition}] is larger than the topic takes: set its "
        f"max.message.bytes to {RECORD_BYTES_MAX} (rater topics create does so for new topics)"
    )


class LaneProducer(_Transactional):
    """The writer of lane p: partition p of transactions, rejected, events and snapshots, by the id GROUP-p.

    It may write commands to any lane.
    """

    def __init__(
        self, client: Connection, topics: Topics, group: str, lane: int, *, native: bool = True,
        **limits: Unpack[Limits],
    ) -> None:  # fmt: skip
        """native: see `_Transactional`."""
        # Not of snapshots: one that is forgotten there is ended by the next, and takes nothing with it.
        places = [(topic, lane) for topic in (topics.transactions, topics.rejected, topics.events)]
        places += [(topics.commands, other) for other in range(topics.partitions)]
        super().__init__(client, f"{group}-{lane}", places, native=native, **limits)
        self.topics = topics
        self.lane = lane
        self.reached = 0
        """Offset behind the last record that we wrote to the journal."""

    async def claim(self, owner: Owner) -> int:
        """Append the owner record; its offset is the fence token, and the journal is complete below it.

        Raises what `commit` raises.
        """
        group = Group(self.topics.transactions, self.lane, [control_record(owner)])
        [[offset]] = await self._transact([group])
        self.reached = offset + 1
        return offset

    async def commit(
        self,
        transactions: Sequence[Outgoing | Run],
        rejected: Sequence[Outgoing],
        events: Sequence[Outgoing],
        mark: Mark,
        commands: Sequence[Outgoing] = (),
        elsewhere: Mapping[int, Sequence[Outgoing]] = MappingProxyType({}),
        snapshots: Sequence[Outgoing] = (),
    ) -> int:
        """Publish all of it or nothing, the mark last; return the mark's offset in the journal.

        commands: of the lane to itself. elsewhere: to others, by their numbers.
        Raises Fenced (a rival, or we were too slow), Retake (unknown, or nothing was published: take the lane
        again), Halt (never published: a record too large for its topic, no permission; or the journal is
        another one).
        """
        groups = [
            Group(self.topics.transactions, self.lane, [*transactions, control_record(mark)]),
            Group(self.topics.rejected, self.lane, rejected),
            Group(self.topics.events, self.lane, events),
            Group(self.topics.snapshots, self.lane, snapshots),
            Group(self.topics.commands, self.lane, [*commands, *elsewhere.get(self.lane, ())]),
            *(
                Group(self.topics.commands, lane, found)
                for lane, found in elsewhere.items()
                if lane != self.lane
            ),
        ]
        offsets = await self._transact(group for group in groups if group.records)
        first, last = offsets[0][0], offsets[0][-1]
        if first < self.reached:
            why = f"offset {first} was given to a record after {self.reached - 1} was"
            raise Halt(self.topics.another(self.topics.transactions, self.lane, why))
        self.reached = last + 1
        return last


class Writer(_Transactional):
    """A writer to any partitions under an id of its own: opening it fences the writer before with that id."""

    def __init__(
        self,
        client: Connection,
        transactional_id: str,
        places: Iterable[Place] = (),
        *,
        at_ms: int | None = None,
        **limits: Unpack[Limits],
    ) -> None:
        """at_ms: the timestamp of what it writes; None: when that is. places: see `_Transactional`."""
        self.at_ms = at_ms
        limits.setdefault("transaction_timeout_ms", LOAD_TIMEOUT_MS)
        super().__init__(client, transactional_id, places, **limits)

    async def write(
        self, records: Sequence[tuple[str, int, bytes | None, bytes | None, Headers]]
    ) -> list[int]:
        """Write (topic, partition, key, value, headers) in one Kafka transaction; return the offsets.

        Raises Fenced (another program has this id now), Retake (unknown, or nothing was written: open a new
        writer and look), Halt (never written).
        """
        groups: dict[tuple[str, int], list[Outgoing]] = {}
        places: list[tuple[tuple[str, int], int]] = []
        for topic, partition, key, value, headers in records:
            group = groups.setdefault((topic, partition), [])
            places.append(((topic, partition), len(group)))
            group.append((key, value, headers))
        written = await self._transact(Group(*place, group, self.at_ms) for place, group in groups.items())
        offsets = dict(zip(groups, written, strict=True))
        return [offsets[place][number] for place, number in places]
