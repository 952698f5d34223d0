"""Batches of a partition as Kafka has them, read whole: no object is made of a record, or of what it holds.

The library makes a dozen objects of each record. Who has the native engine read records by the million
(worker/adding.py) asks the broker itself, through the client that each consumer of the library has.

This reaches into parts of aiokafka that are not documented: a consumer's `_client`, the fetch request and its
response, the reader of a batch's head. tests/stream/test_fetching.py compares what comes with what consumers
read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from rater.stream.connecting import FETCH_MAX_BYTES, FORBIDDEN, PARTITION_FETCH_BYTES, RETRY_S

READ_COMMITTED = 1
WAIT_MS = 50
"""So long the broker waits for records that are not there yet."""
LENGTH, BEHIND_LENGTH, MAGIC, RECORDS = 8, 12, 16, 61
"""Where these stand in a batch; https://kafka.apache.org/documentation/#recordbatch."""
MAGIC_NUMBER = 2
WITH_REPLICA = 11
"""From this version of a response on a replica stands between aborted transactions and batches."""
UNPACKED: Sequence[Callable[[bytes], bytes]] = bytes, gzip_decode, snappy_decode, lz4_decode, zstd_decode
"""By the number of a compression."""


class FetchedBatch(NamedTuple):
    """A batch. first: the offset that those of its records are counted from; end: the one behind it.

    records: as Kafka has them, uncompressed; none of a batch that is not committed, or of Kafka's own.
    """

    first: int
    end: int
    records: bytes


async def fetched(reader: AIOKafkaConsumer, place: TopicPartition, at: int) -> Iterable[FetchedBatch]:
    """Return the batches from the one on that has an offset; none yet, or that the broker cannot say now.

    Raises KafkaError for what does not pass by itself, or where a batch is damaged.
    """
    client: Any = reader._client  # noqa: SLF001 - aiokafka has no other way to its connections
    node = client.cluster.leader_for_partition(place)
    if node is None or node < 0:
        return await _later(client)
    asked = [(place.topic, [(place.partition, at, PARTITION_FETCH_BYTES)])]
    request = FetchRequest(WAIT_MS, 1, FETCH_MAX_BYTES, READ_COMMITTED, asked, rack_id="")
    try:
        response = await client.send(node, request)
    except FORBIDDEN:
        raise
    except KafkaError:
        return await _later(client)
    ((_, ((_, code, _, *rest),)),) = response.topics
    error = for_code(code)
    if error in (OffsetOutOfRangeError, TopicAuthorizationFailedError):
        raise error(place.topic)
    if error is not NoError:
        return await _later(client)
    data, before = rest[-1], rest[-3:-1] if response.API_VERSION >= WITH_REPLICA else rest[-2:-1]
    return _batches(data or b"", before[0] or ())


async def _later(client: Any) -> Iterable[FetchedBatch]:
    """Return nothing, after a while, and with where the partition is asked for anew."""
    client.force_metadata_update()
    await asyncio.sleep(RETRY_S)
    return ()


def _batches(data: bytes, aborted: Sequence[tuple[int, int]]) -> Iterator[FetchedBatch]:
    """Yield what was fetched; the last one may be cut off. aborted: producer, first offset."""
    coming, aborts = sorted(aborted, key=itemgetter(1)), set[int]()
    at = 0
    while (end := at + BEHIND_LENGTH) <= len(data):
        end += int.from_bytes(data[at + LENGTH : end])
        if end > len(data):
            return
        raw, at = data[at:end], end
        head = DefaultRecordBatch(raw)
        if raw[MAGIC] != MAGIC_NUMBER or not head.validate_crc():
            raise CorruptRecordException(f"a batch at offset {head.base_offset} is damaged")
        while coming and coming[0][1] <= head.base_offset:
            aborts.add(coming.pop(0)[0])
        records = b""
        if head.is_control_batch:
            marker = next(iter(head), None)
            if marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER:
                aborts.discard(head.producer_id)
        elif not (head.is_transactional and head.producer_id in aborts):
            records = UNPACKED[head.compression_type](raw[RECORDS:])
        yield FetchedBatch(head.base_offset, head.next_offset, records)
