"""Kafka batches for the library's sender: finished ones of the native engine, or its own builders, filled.

aiokafka takes a batch as a `BatchBuilder`, which it asks for a record at a time, objects made for each. Where
the native engine is here it writes the records of a batch in one call, and `WrittenBatch` answers to the
sender in the place of the builder (decisions/0107-batches-written-natively.md). The bytes are the same.

This reaches into private parts of aiokafka: `_set_producer_state` and `_build`. tests/stream/test_batches.py
compares names and signatures with those of the version that is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.codec import zstd_encode
from aiokafka.record.util import decode_varint

from rater.core.journal.records import Outgoing, Run

BATCH_BYTES = 2**20
"""Uncompressed; the broker takes 1,048,588 by default. A single larger record goes in a batch of its own."""
COMPRESSION = "zstd"
LEVEL = 1
"""Of zstd: it takes three quarters of the library's 3, and transactions get no more bytes (decision 0107)."""
HEADER_BYTES = 61
"""Of a batch, which count among its bytes."""
LENGTH_BYTES = 4
"""Of a record's length in a run, ahead of it."""

log = structlog.get_logger()


@lru_cache(maxsize=1)
def engine() -> Any:
    """Return the native engine's module; None: it cannot be used here."""
    try:
        from rater.native import engine  # noqa: PLC0415 - reads its sources, which programs that write nothing need not
    except ImportError:
        return None
    return engine


class WrittenBatch:
    """A batch whose records are there, with what the library's sender asks of a `BatchBuilder`.

    It is closed from the beginning: nothing is added to it.
    """

    def __init__(self, records: bytes, count: int, at_ms: int) -> None:
        """records: so many, as Kafka has them, uncompressed."""
        self._records = records
        self._count = count
        self._at_ms = at_ms
        self._producer = (-1, -1, 0)
        self._buffer: bytes | None = None

    def append(self, *, timestamp: Any, key: Any, value: Any, headers: Sequence[Any] = ()) -> None:
        """Take nothing more, as a full builder."""

    def close(self) -> None:
        """It is."""

    def closed(self) -> bool:
        """Return that it is."""
        return True

    def size(self) -> int:
        """Return the bytes of the batch, compressed once it is built."""
        return HEADER_BYTES + len(self._records) if self._buffer is None else len(self._buffer)

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """Return the finished batch; the same one when it is sent again."""
        if self._buffer is None:
            records, self._records = zstd_encode(self._records, LEVEL), b""
            self._buffer = engine().kafka_batch(records, self._count, self._at_ms, self._producer)
        return self._buffer


def batches(
    producer: AIOKafkaProducer, records: Sequence[Outgoing | Run], at_ms: int, *, native: bool = True
) -> Iterator[Any]:
    """Yield batches with up to `BATCH_BYTES` of records, in their order; a larger record has its own.

    records: with runs only where the native engine is, which wrote them. at_ms: the time of all. native: by
    that engine, where it is here.
    """
    if not native or engine() is None:
        yield from _filled(producer, records, at_ms)
        return
    try:
        found = engine().kafka_records(list(records), BATCH_BYTES)
    except engine().Panic:
        log.exception("the native engine panicked over records for Kafka: the library writes them")
        yield from _filled(producer, _apart(records), at_ms)
        return
    for written, count in found:
        yield WrittenBatch(written, count, at_ms)


def sizes(records: Sequence[Outgoing | Run]) -> Iterator[int]:
    """Yield about how many bytes each record has."""
    for record in records:
        if not isinstance(record, bytes):
            key, value, _ = record
            yield len(key or b"") + len(value or b"")
            continue
        at = 0
        while at < len(record):  # its length before each
            size = int.from_bytes(record[at : at + LENGTH_BYTES], "little")
            yield size
            at += LENGTH_BYTES + size


def _apart(records: Sequence[Outgoing | Run]) -> Iterator[Outgoing]:
    """Yield records, those of runs as any other."""
    for record in records:
        if not isinstance(record, bytes):
            yield record
            continue
        at = 0
        while at < len(record):
            at += LENGTH_BYTES
            key, at = _bytes_at(record, at)
            value, at = _bytes_at(record, at)
            count, at = decode_varint(record, at)
            headers = []
            for _ in range(count):
                name, at = _bytes_at(record, at)
                header, at = _bytes_at(record, at)
                headers.append(((name or b"").decode(), header or b""))
            yield key, value, headers


def _bytes_at(run: Run, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(run, at)
    return (None, at) if size < 0 else (run[at : at + size], at + size)


def _filled(producer: AIOKafkaProducer, records: Iterable[Any], at_ms: int) -> Iterator[Any]:
    """Yield the library's own builders."""
    batch: Any = None
    for key, value, headers in records:
        if batch is None or batch.append(timestamp=at_ms, key=key, value=value, headers=headers) is None:
            if batch is not None:
                yield batch
            batch = producer.create_batch()
            batch.append(timestamp=at_ms, key=key, value=value, headers=headers)
    if batch is not None:
        yield batch
