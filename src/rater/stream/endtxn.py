"""The end of a Kafka transaction: no silent repeat of it, and no end that the broker forgot.

aiokafka sends an EndTxn that was not answered again, by itself, and reports success. The broker tells neither
copy from the end of the *next* transaction, for aiokafka does not raise the epoch with each one
(KAFKA-17754): a late first copy commits records which we have decided not to publish. So one EndTxn is sent
once. Without an answer its result is unknown, and the lane is taken again: the new producer's epoch makes the
late copy harmless.

A broker answers EndTxn when it has decided, and marks the partitions afterwards. Where all replicas of one
are killed in between, the coordinator that comes up first finds the partition without a leader, takes it for
deleted and leaves it out (KRaft; seen with Apache Kafka 4.3). What was written then stays open there, seen by
nobody that reads what is committed, until the same producer ends another Kafka transaction in that partition:
however it was decided, it goes the way of that one. So a new producer begins with an abort in all partitions
of its kind (`include`), each Kafka transaction includes the partitions of the one before, which then have one
end, and what could repeat a commit is kept until the next one has succeeded (`Line.commit`).

This reaches into private parts of aiokafka, so it refuses any version that it was not tested with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.producer import AIOKafkaProducer
from aiokafka.producer import sender as aiokafka_sender

from rater.errors import Halt
from rater.stream.connecting import ignore

TESTED = "0.14."
"""Versions of aiokafka that the hook was tested with."""


async def _end_once(self: Any, node_id: Any) -> bool:
    """Send EndTxn once; stands in for BaseHandler.do, which repeats it after a lost answer."""
    sender = self._sender
    answer = await sender.client.send(node_id, self.create_request(), group=self.group)
    # An *answered* retriable error (the coordinator moves or loads) was not carried out and may be repeated.
    back_off = self.handle_response(answer)
    if back_off is not None:
        await asyncio.sleep(back_off)
    return back_off is None


def install() -> None:
    """Put the hook in place; again is harmless.

    Raises Halt for a version of aiokafka it was not tested with.
    """
    if not aiokafka.__version__.startswith(TESTED):
        raise Halt(
            f"aiokafka {aiokafka.__version__} is installed, but this version of rater is safe with {TESTED}x "
            f"only: install it by pip install 'aiokafka=={TESTED}*'"
        )
    aiokafka_sender.EndTxnHandler.do = _end_once


def include(producer: AIOKafkaProducer, places: Iterable[tuple[str, int]]) -> None:
    """Let the open Kafka transaction end in these partitions, whether it writes to them or not.

    They are added by one request, so it ends in all of them or in none.
    """
    for topic, partition in places:
        producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, partition))  # noqa: SLF001 - the point of this module


async def over(producer: AIOKafkaProducer, within_s: float) -> None:
    """Wait until the end that was asked for is over, whatever came of it; at most so long."""
    await asyncio.wait([producer._txn_manager._transaction_waiter], timeout=within_s)  # noqa: SLF001 - the point of this module


def hush(producer: AIOKafkaProducer) -> None:
    """Ignore how a given-up Kafka transaction, and its batches that were not sent yet, end."""
    ignore(producer._txn_manager._transaction_waiter)  # noqa: SLF001 - the point of this module
    for queue in producer._message_accumulator._batches.values():  # noqa: SLF001 - the same
        for batch in queue:
            ignore(batch._drain_waiter)  # noqa: SLF001 - the same


def cause(producer: AIOKafkaProducer) -> BaseException | None:
    """Return what has ended a producer for good; calls after it only say that its state is wrong."""
    error: BaseException | None = producer._message_accumulator._exception  # noqa: SLF001 - the same
    return error
