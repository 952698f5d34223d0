"""A worker tells whether it can rate: /readyz with the reason while Kafka or Redis is away, and metrics."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import structlog
from aiokafka import TopicPartition

from rater.errors import StoreUnknown
from rater.store.buckets import Buckets
from rater.stream.connecting import reading
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


async def test_a_worker_waits_for_kafka_and_redis_that_start_later(
    system_of: SystemOf, start_kafka: Callable[..., Any], start_redis: Callable[..., Any]
) -> None:
    """A worker that starts before its servers says for which it waits, and rates when they are there."""
    kafka, redis = start_kafka(), start_redis()
    system = await system_of(kafka=kafka.bootstrap_servers, redis=redis.url)
    kafka.stop()
    redis.stop()
    process = system.start_worker()
    await system.until(lambda: logged(system, "waiting for Kafka"))
    port = system.metrics_port(process)
    said = await until_ready(system, port, ready=False)
    assert "waiting for Kafka: Kafka is not reachable at kafka.bootstrap_servers" in said
    assert kafka.bootstrap_servers in said
    assert (await ask(port, "livez"))[0] == 200

    await asyncio.to_thread(kafka.restart)
    await system.until(lambda: logged(system, "waiting for Redis"))
    said = await until_ready(system, port, ready=False)
    assert f"waiting for Redis: Redis at 127.0.0.1:{redis.port} is not reachable" in said

    await asyncio.to_thread(redis.restart)
    await system.until(lambda: logged(system, "worker started"))
    await system.load(catalog(1, 1))
    await until_ready(system, port, ready=True)
    await system.send([(raw, None) for raw in calls(1, 1, time.time_ns() // 1_000_000, clients=1)])
    await system.settled()
    assert system.stop_worker(process) == 0


async def test_a_worker_that_waits_can_be_stopped(
    system_of: SystemOf, start_kafka: Callable[..., Any]
) -> None:
    """SIGTERM ends a worker that waits for Kafka, in order and with code 0."""
    kafka = start_kafka()
    system = await system_of(kafka=kafka.bootstrap_servers)
    kafka.stop()
    process = system.start_worker()
    await system.until(lambda: logged(system, "waiting for Kafka"))
    assert await asyncio.to_thread(system.stop_worker, process) == 0


async def logged(system: Any, event: str) -> bool:
    """Return whether the first worker process has told of this."""
    log = (system.folder / "worker-0.log").read_text()
    return any(json.loads(line)["event"] == event for line in log.splitlines() if line.endswith("}"))


async def test_a_lane_that_makes_no_progress_is_told(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that never ends is named, with topic and offset, at /readyz, in the log and by the gauge.

    When it ends, the lane is ready again.
    """
    system = await system_of(environ={"RATER_WORKER__STUCK_AFTER_S": "1"})
    goes_on = asyncio.Event()
    goes_on.set()
    ask = Buckets._draw  # noqa: SLF001 - what both engines draw by

    async def held(buckets: Buckets, *arguments: Any) -> Any:
        await goes_on.wait()
        return await ask(buckets, *arguments)

    monkeypatch.setattr(Buckets, "_draw", held)
    (raw,) = calls(1, 1, time.time_ns() // 1_000_000, clients=1, contested_clients=1)[:1]
    async with system.worker() as worker:
        await system.load(catalog(1, 1))
        await system.send([(raw, None)])
        await system.settled()
        assert worker.readiness.stuck == {}
        goes_on.clear()
        with structlog.testing.capture_logs() as told:
            await system.send([(raw, None)])

            async def stuck() -> bool:
                return bool(worker.readiness.reasons())

            await system.until(stuck)
            (reason,) = worker.readiness.reasons()
            assert reason.startswith("lane 0: nothing was committed for ")
            assert reason.endswith(
                f"{system.topics.cdrs}[0] from offset 1 waits; the lane is at the step draw"
            )
            assert b"rater_stuck_lanes 1.0" in worker.connections.metrics.exposition()
            goes_on.set()

            async def well() -> bool:
                return not worker.readiness.reasons()

            await system.until(well)
        lines = [line for line in told if "stuck" in line["event"]]
        assert [line["event"] for line in lines] == ["lane stuck", "lane no longer stuck"]
        assert (lines[0]["topic"], lines[0]["offset"], lines[0]["step"]) == (system.topics.cdrs, 1, "draw")
        assert b"rater_stuck_lanes 0.0" in worker.connections.metrics.exposition()


async def test_a_batch_that_gathers_is_no_lane_that_stands_still(system_of: SystemOf) -> None:
    """A batch age above worker.stuck_after_s makes no lane stuck."""
    environ = {"RATER_WORKER__STUCK_AFTER_S": "1", "RATER_WORKER__BATCH_AGE_MS": "3000"}
    system = await system_of(environ=environ)
    cdrs = calls(2, 1, time.time_ns() // 1_000_000, clients=1, contested_clients=1)
    with structlog.testing.capture_logs() as told:
        async with system.worker():
            await system.load(catalog(1, 1))
            for raw in cdrs:
                await system.send([(raw, None)])
                await system.settled()
    assert not [line for line in told if "stuck" in line["event"]]


async def test_a_worker_without_a_catalog_is_live_not_ready(system_of: SystemOf) -> None:
    """It says what to do, and is ready when it was done."""
    system = await system_of()
    process = system.start_worker()

    async def started() -> bool:
        return "metrics_port" in (system.folder / "worker-0.log").read_text()

    await system.until(started)
    port = system.metrics_port(process)

    async def told() -> bool:
        return "lane 0: there is no catalog yet; load one by `rater load`" in (await ask(port, "readyz"))[1]

    await system.until(told)
    assert (await ask(port, "readyz"))[0] == 503
    assert (await ask(port, "livez"))[0] == 200
    await system.load(catalog(1, 1))
    await until_ready(system, port, ready=True)


async def test_a_lane_that_is_taken_again_and_again_makes_no_progress(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as stuck, also while it is being taken; not when nothing of it waited."""
    system = await system_of(environ={"RATER_WORKER__STUCK_AFTER_S": "2"})
    fault, ask = asyncio.Event(), Buckets._draw  # noqa: SLF001 - what both engines draw by

    async def lost(buckets: Buckets, *arguments: Any) -> Any:
        if fault.is_set():
            raise StoreUnknown("Redis did not answer")
        return await ask(buckets, *arguments)

    monkeypatch.setattr(Buckets, "_draw", lost)
    (raw,) = calls(1, 1, time.time_ns() // 1_000_000, clients=1, contested_clients=1)[:1]
    async with system.worker() as worker:
        await system.load(catalog(1, 1))
        await system.send([(raw, None)])
        await system.settled()
        fault.set()
        with structlog.testing.capture_logs() as told:
            await system.send([(raw, None)])

            async def stuck() -> bool:
                return b"rater_stuck_lanes 1.0" in worker.connections.metrics.exposition()

            await system.until(stuck)
            assert f"{system.topics.cdrs}[0] from offset 1 waits" in worker.readiness.stuck[0]
            fault.clear()

            async def well() -> bool:
                return not worker.readiness.reasons() and not worker.readiness.stuck

            await system.until(well)
        lines = [line for line in told if "stuck" in line["event"]]
        assert [line["event"] for line in lines] == ["lane stuck", "lane no longer stuck"]


async def test_an_idle_system_has_no_lag_for_the_tools_of_kafka(system_of: SystemOf) -> None:
    """Within seconds the group's offsets are the ends of all topics, markers passed; so after a stop."""
    system = await system_of()
    places = [TopicPartition(topic, 0) for topic in (system.topics.cdrs, system.topics.commands)]
    group = f"{system.settings.kafka.group_id}.lanes"
    async with reading(
        system.client, places, deadline_s=10, group_id=group, isolation_level="read_uncommitted"
    ) as reader:

        async def level() -> bool:
            ends = await reader.end_offsets(places)
            return all([await reader.committed(place) == end for place, end in ends.items()])

        raws = calls(20, 1, time.time_ns() // 1_000_000, clients=1, contested_clients=1)
        async with system.worker():
            await system.load(catalog(1, 1))
            await system.send([(raw, None) for raw in raws[:10]])
            await system.settled()
            await system.until(level)
            await system.send([(raw, None) for raw in raws[10:]])
            await system.settled()
        assert await level()


async def test_a_record_without_a_time_is_rated(system_of: SystemOf) -> None:
    """Kafka takes -1 for "no time": it is rated, and neither latency nor lag are of half a century."""
    system = await system_of()
    now_ms = time.time_ns() // 1_000_000
    first, second = calls(2, 1, now_ms, clients=1, contested_clients=1)[:2]
    async with system.worker() as worker:
        await system.load(catalog(1, 1))
        await system.send([(first, None)])
        await system.settled()
        lane_ms = (await system.marks())[0].lane_ms
        await system.send([(second, -1)])
        await system.settled()
        assert (await system.marks())[0].lane_ms == lane_ms
        (seconds,) = re.findall(
            rb"rater_end_to_end_seconds_sum ([0-9.e+]+)", worker.connections.metrics.exposition()
        )
        assert float(seconds) < 1000
    usages = {one["id"].split("/")[1] for one in await system.transactions() if one["type"] == "usage"}
    assert usages == {json.loads(raw)["id"] for raw in (first, second)}
