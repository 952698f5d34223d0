"""Duplicates are known for the window and no longer, whatever the records' times do."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from rater.worker import buckets, line
from traffic import catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def call(number: int, at_ms: int) -> bytes:
    """Return a call that ended a second before `at_ms`."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000 - 61))
    cdr = {"id": str(number), "called": "12125550100", "answered_at": at, "duration_ms": 60_000}
    return json.dumps({**cdr, "orig": {"client": f"c{number % 5}"}}).encode()


async def generations(system: Any) -> set[int]:
    """Return the generations of duplicates that Redis holds."""
    async with Redis.from_url(system.settings.redis.url) as redis:
        pattern = f"{system.settings.redis.prefix}*:u:*"
        return {int(key.rsplit(b":", 1)[1]) async for key in redis.scan_iter(match=pattern)}


async def test_old_generations_are_dropped_by_the_slowest_lane(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty days of calls at once: repeats in the window are known, by another lane too; old ones go.

    They do not come back when the store is emptied and built anew.
    """
    monkeypatch.setattr(buckets, "EXPIRE_S", 0.0)
    system = await system_of(partitions=2)
    days = [(n, START_MS + n * DAY_MS // 2) for n in range(80)]
    async with system.worker():
        await system.load(catalog(5, 1), at_ms=START_MS)
        await system.send([(call(n, at_ms), at_ms) for n, at_ms in days])
        await system.settled()
        kept_back = await generations(system)
        # The other lane stood still: nothing could go. It gets each call again, two days later.
        await system.send([(call(n, at_ms), at_ms + 2 * DAY_MS) for n, at_ms in days], partition=1)
        await system.settled()

        async def dropped() -> bool:
            return len(await generations(system)) <= 3

        await system.until(dropped)
        kept = await generations(system)
        monkeypatch.setattr(buckets, "EXPIRE_S", 3600.0)
        async with Redis.from_url(system.settings.redis.url) as redis:
            await redis.flushall()
        again = [(call(n, at_ms), days[-1][1] + 2 * DAY_MS) for n, at_ms in days[-4:]]
        await system.send(again)
        await system.settled()
        rebuilt = await generations(system)
    assert len(kept_back) > 5
    assert rebuilt == kept  # not those of forty days
    ids = [one["id"] for one in await system.transactions() if one["type"] == "usage"]
    assert sorted(ids) == sorted(f"default/{n}/orig" for n, _ in days)
    assert await system.rejected() == []


async def test_an_idle_lane_moves_its_time(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane without records writes itself a tick, and its time is then that of the tick."""
    monkeypatch.setattr(line, "TICK_S", 0.5)
    system = await system_of()
    async with system.worker():
        await system.load(catalog(2, 1), at_ms=START_MS)

        async def moved() -> bool:
            return any(mark.lane_ms > START_MS + DAY_MS for mark in (await system.marks()).values())

        await system.until(moved)
    assert any(json.loads(record.value)["do"] == "tick" for record in await system.commands())
