"""Records in the form that Kafka has them in, for tests that have no broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from rater.stream.fetching import RECORDS, FetchedBatch

BYTES_MAX = 2**24


def batch_of(records: Sequence[Any]) -> FetchedBatch:
    """Return consumer's records (offset, key, value, headers) as a batch, its offsets counted from 0."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 0, 0, 0, BYTES_MAX)
    for record in records:
        builder.append(record.offset, 0, record.key, record.value, list(record.headers))
    return FetchedBatch(0, records[-1].offset + 1, bytes(builder.build())[RECORDS:])
