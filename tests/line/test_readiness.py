"""A worker tells whether it can rate: /readyz with the reason while Kafka or Redis is away, and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an answer of the worker."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


async def until_ready(system: Any, port: int, *, ready: bool) -> str:
    """Wait until the worker is (or is not) ready; returns what it says."""
    said = ""

    async def as_wanted() -> bool:
        nonlocal said
        status, said = await ask(port, "readyz")
        return (status == 200) is ready

    await system.until(as_wanted)
    return said


async def test_readiness_follows_kafka_and_redis(
    system_of: SystemOf, start_kafka: Callable[..., Any], start_redis: Callable[..., Any]
) -> None:
    """Frozen or restarted servers make it not ready, with the reason; then it is ready and rates again."""
    kafka, redis = start_kafka(), start_redis()
    system = await system_of(kafka=kafka.bootstrap_servers, redis=redis.url)
    process = system.start_worker()
    await system.load(catalog(3, 1))
    port = system.metrics_port(process)
    await until_ready(system, port, ready=True)

    redis.pause()
    said = await until_ready(system, port, ready=False)
    assert f"Redis at 127.0.0.1:{redis.port}" in said
    assert (await ask(port, "livez"))[0] == 200
    redis.resume()
    await until_ready(system, port, ready=True)

    kafka.pause()
    said = await until_ready(system, port, ready=False)
    assert kafka.bootstrap_servers in said
    kafka.resume()
    await until_ready(system, port, ready=True)

    redis.restart()  # it keeps nothing: all comes back from the journal
    await until_ready(system, port, ready=True)
    cdrs = calls(200, 5, time.time_ns() // 1_000_000, clients=3, contested_clients=1)
    await system.send([(raw, None) for raw in cdrs])
    await system.settled()
    distinct = {json.loads(raw)["id"] for raw in cdrs}
    assert {
        one["id"].split("/")[1] for one in await system.transactions() if one["type"] == "usage"
    } == distinct
    _, exposition = await ask(port, "metrics")
    assert f"rater_cdrs_total {len(cdrs)}.0" in exposition
    assert "rater_catalog_version 1.0" in exposition
