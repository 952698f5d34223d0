"""Duplicates are found at their client, whatever the buckets, also where an earlier version rated them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from rater import app
from rater.core.cdr import Cdr
from rater.core.line import draw_request
from rater.core.rating.duplicates import keys_of
from rater.jobs.audit import audit
from traffic import calls, catalog, distinct_sides

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def usage_of(system: Any) -> Counter[tuple[str, str]]:
    """Return how many transactions each side of a call has, by id and client."""
    return Counter(
        (one["id"], one["client"]) for one in await system.transactions() if one["type"] == "usage"
    )


async def reasons_of(system: Any) -> Counter[str]:
    """Return how many sides were rejected, by reason."""
    return Counter(dict(record.headers)["reason"].decode() for record in await system.rejected())


def older_alone(cdr: Cdr, index: int, _crc: int) -> tuple[bytes, bytes]:
    """Return the key of a side as earlier versions made it, alone."""
    _, older = keys_of(cdr, index, 0)
    return older, older


async def test_what_an_earlier_version_rated_is_not_charged_again(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys in Redis and headers of the journal without the client: a repeat is known, after a rebuild too."""
    system = await system_of(partitions=2)
    cdrs = calls(60, 7, time.time_ns() // 1_000_000, clients=5, contested=0.5, contested_clients=2)
    with monkeypatch.context() as before:
        before.setattr(draw_request, "keys_of", older_alone)  # as it was until 2026-11
        async with system.worker():
            await system.load(catalog(5, 2))
            await system.send([(raw, None) for raw in cdrs])
            await system.settled()
    rated = await usage_of(system)
    assert {name for name, _ in rated} == distinct_sides(cdrs)
    other = json.dumps(json.loads(cdrs[0]) | {"duration_ms": 1}).encode()
    async with system.worker():
        await system.send([(raw, None) for raw in cdrs], partition=1)
        await system.send([(other, None)])
        await system.settled()
    assert await usage_of(system) == rated
    differing = await reasons_of(system)
    assert set(differing) == {"duplicate_differs"}
    async with Redis.from_url(system.settings.redis.url) as redis:
        found = [name async for name in redis.scan_iter(match=f"{system.settings.redis.prefix}{{*}}:*")]
        await redis.unlink(*found)
    async with system.worker():
        await system.send([(raw, None) for raw in cdrs])
        await system.settled()
    assert await usage_of(system) == rated
    assert await reasons_of(system) == differing


@pytest.mark.parametrize("buckets", [1, 3])
async def test_the_same_id_at_another_client_is_another_call(system_of: SystemOf, buckets: int) -> None:
    """Both are rated, whatever the number of buckets; repeats are known, and the audit tells of it."""
    system = await system_of(environ={"RATER_REDIS__BUCKETS": str(buckets)})
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    same = {"id": "same", "called": "380441234567", "answered_at": at, "duration_ms": 60_000}
    records = [json.dumps(same | {"orig": {"client": f"c{n % 4}"}}).encode() for n in range(8)]
    async with system.worker():
        await system.load(catalog(4, 0))
        await system.send([(raw, None) for raw in records])
        await system.settled()
    assert await usage_of(system) == Counter({("default/same/orig", f"c{n}"): 1 for n in range(4)})
    assert not await reasons_of(system)
    store = await app.connect_store(system.settings)
    try:
        findings = (await audit(system.client, system.topics, store)).findings
    finally:
        await store.close()
    assert [finding.kind for finding in findings] == ["other_client"] * 3
    assert "default/same/orig" in findings[0].problem
