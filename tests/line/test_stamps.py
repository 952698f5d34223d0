"""Records whose Kafka timestamp tells nothing are judged by a tick of their lane, read before them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rater.stream.stamps import remarks
from rater.worker import line
from traffic import catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
HOUR_MS = 3_600_000
FOREVER_MS = 2**63 - 1


def now_ms() -> int:
    """Return the time of now."""
    return time.time_ns() // 1_000_000


def call(number: int, ended_ms: int) -> bytes:
    """Return a call of a minute."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended_ms / 1000 - 60))
    cdr = {"id": str(number), "called": "12125550100", "answered_at": at, "duration_ms": 60_000}
    return json.dumps({**cdr, "orig": {"client": f"c{number % 5}"}}).encode()


async def ticks(system: Any) -> list[dict[str, Any]]:
    """Return the commands of lanes to themselves."""
    found = [json.loads(record.value) for record in await system.commands()]
    return [one for one in found if one["do"] == "tick"]


@pytest.mark.fault("F37")
async def test_records_without_a_time_are_rated(system_of: SystemOf) -> None:
    """None, one in seconds, one in 1970, one in microseconds or nanoseconds: all calls of now are rated.

    The catalog was loaded nine hours ago and nothing else had a time since. There is one tick for all, and
    what is published can be read by whoever takes the lane next.
    """
    system = await system_of()
    await system.configure([system.topics.cdrs], {"message.timestamp.after.max.ms": str(FOREVER_MS)})
    now = now_ms()
    stamps = [-1, now // 1000, 1, -1, now * 1000, now * 10**6, 0, -1]
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=(now - 9 * HOUR_MS) // 1000 * 1000)
        await system.send([(call(n, now - n), stamp) for n, stamp in enumerate(stamps)])
        await system.settled()
    async with system.worker():
        await system.send([(call(n, now - n), -1) for n in range(len(stamps))])  # again: duplicates
        await system.send([(call(n, now_ms()), -1) for n in range(100, 110)])
        await system.settled()
    assert await system.rejected() == []
    ids = [one["id"] for one in await system.transactions() if one["type"] == "usage"]
    assert ids == [f"default/{n}/orig" for n in (*range(len(stamps)), *range(100, 110))]
    assert len(await ticks(system)) == 1
    (mark,) = (await system.marks()).values()
    assert now <= mark.lane_ms <= now_ms()


async def test_a_call_of_the_future_without_a_time(system_of: SystemOf) -> None:
    """A switch whose clock is two hours ahead is found out all the same, and how to mend it is told."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=(now_ms() - 9 * HOUR_MS) // 1000 * 1000)
        await system.send([(call(n, now_ms() + n * HOUR_MS // 2), -1) for n in range(6)])
        await system.settled()
    ids = [one["id"] for one in await system.transactions() if one["type"] == "usage"]
    assert ids == ["default/0/orig", "default/1/orig", "default/2/orig"]
    for record in await system.rejected():
        headers = dict(record.headers)
        assert headers["reason"] in {b"time_in_future", b"bad_duration"}
    assert len(await system.rejected()) == 3
    assert len(await ticks(system)) == 1


async def test_a_busy_lane_ticks_again(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records without a time keep a lane busy: its time goes on, and by no more ticks than are needed."""
    monkeypatch.setattr(line, "STALE_S", 1.0)
    system = await system_of()
    began = now_ms()
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=began // 1000 * 1000)
        for number in range(40):
            await system.send([(call(number, now_ms()), -1)])
            await system.settled()
    took_s = (now_ms() - began) / 1000
    assert await system.rejected() == []
    assert 2 <= len(await ticks(system)) <= took_s + 1
    times = [one["at"] for one in await ticks(system)]
    assert times == sorted(times)


async def test_a_lane_whose_records_have_an_old_time_ticks(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer whose clock stands still moves nothing: its lane goes on by a tick now and then."""
    monkeypatch.setattr(line, "TICK_S", 1.0)
    system = await system_of()
    began = now_ms()
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=began // 1000 * 1000)
        for number in range(40):
            await system.send([(call(number, now_ms()), began - 3 * 24 * HOUR_MS)])
            await system.settled()
        (mark,) = (await system.marks()).values()
    took_s = (now_ms() - began) / 1000
    assert 2 <= len(await ticks(system)) <= took_s + 1
    assert mark.lane_ms >= began + (took_s - 3) * 1000
    assert await system.rejected() == []


async def test_records_with_a_time_bring_no_tick(system_of: SystemOf) -> None:
    """Of a backlog whose records have their times nothing is judged by now, however old it is."""
    system = await system_of()
    old = now_ms() - 30 * 24 * HOUR_MS
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=old // 1000 * 1000)
        await system.send([(call(n, old + n * HOUR_MS), old + n * HOUR_MS) for n in range(5)])
        await system.settled()
    assert await system.rejected() == []
    assert await ticks(system) == []


async def test_check_tells_which_topic_has_records_without_a_time(system_of: SystemOf, prefix: str) -> None:
    """What kind of time the newest records of each partition have instead, and the setting that mends it."""
    system = await system_of(partitions=2, environ={"RATER_SOURCES__PBX__TOPIC": f"{prefix}.pbx"})
    (cdrs, own), now = system.topics.data, now_ms()
    assert await remarks(system.client, system.topics) == []
    await system.send([(b"x", now), (b"x", now - 30 * 24 * HOUR_MS)])
    assert await remarks(system.client, system.topics) == []
    await system.send([(b"x", now), (b"x", -1), (b"x", now)], partition=1)
    await system.send([(b"x", now // 1000)] * 30, topic=own)
    told = await remarks(system.client, system.topics)
    assert [text.partition(",")[0] for text in told] == [
        f"{cdrs}: 1 of the newest records have no Kafka timestamp (the last is [1]@1: -1)",
        f"{own}: 20 of the newest records have a Kafka timestamp in seconds",
    ]
    assert all("message.timestamp.type=LogAppendTime" in text for text in told)
    await system.send([(b"x", now)] * 20, partition=1)  # mended at the producer
    await system.configure([own], {"message.timestamp.type": "LogAppendTime"})
    assert await remarks(system.client, system.topics) == []


async def test_check_tells_of_a_topic_that_takes_the_far_future(system_of: SystemOf) -> None:
    """One record of next year would make all calls of its lane too old; the broker's time does not."""
    system = await system_of()
    topics = [system.topics.cdrs, system.topics.commands]
    await system.configure(topics, {"message.timestamp.after.max.ms": str(FOREVER_MS)})
    told = await remarks(system.client, system.topics)
    assert [text.partition(" is ")[0] for text in told] == [
        f"{name}: message.timestamp.after.max.ms" for name in topics
    ]
    stamped = {"message.timestamp.type": "LogAppendTime"}
    await system.configure(topics, {"message.timestamp.after.max.ms": str(FOREVER_MS), **stamped})
    assert await remarks(system.client, system.topics) == []
