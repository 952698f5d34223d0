"""Browsing a topic backwards, on a real broker."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from rater.errors import Halt
from rater.stream import browsing
from rater.stream.browsing import Seen, newest, offsets_at, record_at
from rater.stream.topics import Topics

pytestmark = pytest.mark.kafka

STEP_MS = 1_000
BEGIN_MS = time.time_ns() // 1_000_000 - 60_000


async def fill(client: dict[str, Any], topic: str, rows: int) -> None:
    """Write records with rising timestamps, alternately to two partitions, some in Kafka transactions."""
    producer = AIOKafkaProducer(**client, transactional_id=f"{topic}-writer")
    await producer.start()
    try:
        for first in range(0, rows, 5):
            await producer.begin_transaction()
            for number in range(first, min(first + 5, rows)):
                await producer.send(
                    topic,
                    str(number).encode(),
                    partition=number % 2,
                    timestamp_ms=BEGIN_MS + number * STEP_MS,
                )
            await producer.commit_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0, timestamp_ms=BEGIN_MS + rows * STEP_MS)
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def read(client: dict[str, Any], topic: str, **more: Any) -> list[int]:
    """Return the numbers in the order in which they are browsed."""
    found: list[Seen] = [seen async for seen in newest(client, topic, range(2), **more)]
    return [int(seen.value or b"-1") for seen in found]


async def test_the_newest_comes_first_across_partitions(
    client: dict[str, Any], topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All committed records come once, by falling time, whatever the steps; aborted ones never."""
    monkeypatch.setattr(browsing, "STEP", 3)
    await fill(client, topics.cdrs, 23)
    passed: list[int] = []
    assert await read(client, topics.cdrs, passed=passed.append) == list(range(22, -1, -1))
    assert sum(passed) > 23  # markers lie between
    since, until = BEGIN_MS + 5 * STEP_MS, BEGIN_MS + 9 * STEP_MS
    assert await read(client, topics.cdrs, since_ms=since, until_ms=until) == [8, 7, 6, 5]
    assert await read(client, topics.cdrs, since_ms=BEGIN_MS + 10**9) == []
    assert await read(client, topics.cdrs, until_ms=BEGIN_MS) == []


async def test_one_may_stop_early_and_an_empty_topic_is_empty(client: dict[str, Any], topics: Topics) -> None:
    """Who has seen enough goes; where nothing is, nothing comes."""
    assert await read(client, topics.rejected) == []
    await fill(client, topics.cdrs, 4)
    browsed = newest(client, topics.cdrs, range(2))
    assert (await anext(browsed)).value == b"3"
    await browsed.aclose()


async def test_one_record_and_where_a_time_begins(
    client: dict[str, Any], topics: Topics, prefix: str
) -> None:
    """A record is found by its place, or is not there; of a time the first offset at or behind it."""
    await fill(client, topics.cdrs, 10)
    begun = await offsets_at(client, topics.cdrs, range(2), BEGIN_MS + 4 * STEP_MS)
    one = await record_at(client, topics.cdrs, 0, begun[0])
    assert one is not None
    assert (one.value, one.at_ms) == (b"4", BEGIN_MS + 4 * STEP_MS)
    assert begun[1] == 2  # the marker behind 1 and 3, which is of now
    five = await record_at(client, topics.cdrs, 1, begun[1] + 1)
    assert five is not None
    assert five.value == b"5"
    ends = await offsets_at(client, topics.cdrs, range(2), BEGIN_MS + 10**9)
    assert await record_at(client, topics.cdrs, 1, ends[1]) is None
    assert await record_at(client, topics.cdrs, 1, ends[1] - 1) is None  # a marker
    assert await record_at(client, f"{prefix}.none", 0, 0) is None


async def test_a_missing_topic_is_a_sentence(client: dict[str, Any], prefix: str) -> None:
    """It is not waited for, and not made by asking for it."""
    with pytest.raises(Halt, match=r"there is no topic .* make it with: rater topics create"):
        await read(client, f"{prefix}.none")
