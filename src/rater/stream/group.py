"""Who owns a lane: the consumer group on `rater.commands`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
)

from rater.errors import Halt, StreamDown
from rater.stream.connecting import (
    FORBIDDEN,
    RETRY_S,
    Connection,
    consumer,
    ignore,
    refusal,
    shut,
    started,
)
from rater.stream.producer import OPEN_DEADLINE_S, log
from rater.stream.topics import administrator

POLL_MS = 200
"""The group's poll: how late `stop` and a failed callback are seen."""


ANSWER_S = 2.0
"""A broker that has not answered after so long is away, as far as readiness goes."""

Callback = Callable[[set[int]], Awaitable[None]]

MISFIT = (InvalidSessionTimeoutError, InconsistentGroupProtocolError, InvalidGroupIdError)
"""What the group's coordinator says to settings that will never do."""


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka ships no types
    """The group on `rater.commands` alone: which lanes are ours. It reads nothing."""

    def __init__(
        self,
        client: Connection,
        group: str,
        commands_topic: str,
        *,
        session_timeout_ms: int = 30_000,
        heartbeat_interval_ms: int | None = None,
        open_deadline_s: float = OPEN_DEADLINE_S,
    ) -> None:
        """session_timeout_ms: after so long a silence our lanes go to others."""
        self._topic = commands_topic
        self._open_deadline_s = open_deadline_s
        self._stopped = asyncio.Event()
        self._failed: BaseException | None = None
        self._consumer: Any = None
        self._settings = {
            "group_id": group,
            "session_timeout_ms": session_timeout_ms,
            "rebalance_timeout_ms": session_timeout_ms,
            # How late the others hear of a new member.
            "heartbeat_interval_ms": heartbeat_interval_ms or min(1000, session_timeout_ms // 5),
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "auto_offset_reset": "latest",  # nothing is read, so it does not matter which; "none" would raise
            "max_partition_fetch_bytes": 1,  # one batch may come before the callback has paused the partition
            "fetch_max_wait_ms": 500,
        }
        self._client = client

    async def start(self, on_revoked: Callback, on_assigned: Callback) -> None:
        """Join the group. Each rebalance revokes all lanes, then assigns ours, within milliseconds.

        on_revoked: must end fast (one batch), for the whole group waits for it. Neither is called by `stop`.
        What a callback raises is raised by `run`. Raises StreamDown, Halt.
        """
        self._on_revoked, self._on_assigned = on_revoked, on_assigned
        self._consumer = await started(
            lambda: consumer(self._client, **self._settings), self._open_deadline_s
        )
        self._consumer.subscribe([self._topic], listener=self)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Hand the lanes to the callback; called by aiokafka, which would swallow what it raises."""
        await self._call(self._on_revoked, revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Pause the partitions and hand the lanes to the callback; called by aiokafka."""
        self._consumer.pause(*assigned)
        await self._call(self._on_assigned, assigned)

    async def _call(self, callback: Callback, places: Iterable[TopicPartition]) -> None:
        lanes = {place.partition for place in places}
        if self._failed is not None or (not lanes and callback is self._on_revoked):
            return  # aiokafka revokes "nothing" before the first assignment
        try:
            await callback(lanes)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self._stopped.is_set():
                raise  # by `stop`: no fault
            self._failed = error
            if not isinstance(error, Exception):
                raise

    async def run(self) -> None:
        """Keep polling until `stop`: the library leaves the group when nobody polls.

        Raises what a callback raised, Halt when the broker refuses us, StreamDown when the library's part in
        the group has died: it would never get a lane again.
        """
        last: KafkaError | None = None
        while not self._stopped.is_set():
            try:
                await self._poll()
            except FORBIDDEN as error:
                raise Halt(refusal(error)) from error
            except MISFIT as error:
                raise Halt(
                    f"Kafka does not take us into the group of kafka.group_id ({type(error).__name__}): "
                    "kafka.session_timeout_ms must lie within the broker's group.min.session.timeout.ms and "
                    "group.max.session.timeout.ms, and no other program may use the group"
                ) from error
            except KafkaError as error:
                if error is last:  # the very same one: what its dead task left behind, not a new failure
                    raise StreamDown(f"reading the group's lanes has failed for good: {error}") from error
                last = error
                log.warning("group poll failed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(RETRY_S)
            if self._failed is not None:
                raise self._failed

    async def _poll(self) -> None:
        """Poll once, or until `stop`: within a rebalance the library waits until that is over."""
        polling = asyncio.ensure_future(self._consumer.getmany(timeout_ms=POLL_MS))
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([polling, stopped], return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                polling.result()
        finally:
            ignore(polling)
            polling.cancel()
            stopped.cancel()

    async def answers(self) -> bool:
        """Return whether the broker answers now, within `ANSWER_S`."""
        place = TopicPartition(self._topic, 0)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._consumer.end_offsets([place])
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    async def stop(self) -> None:
        """Leave the group, so that others take our lanes at once; `run` ends."""
        self._stopped.set()
        if self._consumer is not None:
            await shut(self._consumer)


async def member_count(client: Connection, group: str, *, deadline_s: float = OPEN_DEADLINE_S) -> int:
    """Return how many members a group has: workers that run. Raises StreamDown, Halt."""
    admin = await administrator(client, deadline_s)
    try:
        found = await admin.describe_consumer_groups([group])
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, OSError) as error:
        raise StreamDown(f"Kafka did not answer ({type(error).__name__}: {error})") from error
    finally:
        await shut(admin)
    return sum(len(of[5]) for reply in found for of in reply.groups)
