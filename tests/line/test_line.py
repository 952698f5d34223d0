"""The straight line on real Kafka and Redis."""

from __future__ import annotations

import asyncio
import json
import platform
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from rater import __version__, app
from rater.cli.running import load_files
from rater.core.zones import INSTALLED, installed
from rater.jobs.audit import audit
from rater.jobs.load import Loader
from rater.queries.catalog import in_force
from traffic import calls, catalog, distinct_sides, fold

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def check_store(system: Any, transactions: list[dict[str, Any]]) -> None:
    """Check that Redis holds the sums of what was published, and that no limit is overdrawn."""
    balances, counters = fold(transactions)
    store = await app.connect_store(system.settings)
    try:
        for client, balance in balances.items():
            found = await store.client(client)
            assert found is not None
            assert found[1] == balance * 10**6, client
            folded = {
                field: int(taken * (10**6 if kind == "money" else 1))
                for (name, field, kind), taken in counters.items()
                if name == client
            }
            assert {field: used for field, used in found[2].items() if used} == folded
            small = client.startswith("hot")
            assert all(
                used <= ((30 * 60, 20_000_000) if small else (6_000_000, 5_000_000_000))[int(field[-1])]
                for field, used in folded.items()
            )
    finally:
        await store.close()


async def findings(system: Any) -> list[Any]:
    """Return what the audit finds."""
    store = await app.connect_store(system.settings)
    try:
        return list((await audit(system.client, system.topics, store)).findings)
    finally:
        await store.close()


async def test_a_call_is_rated(system_of: SystemOf) -> None:
    """A load and one call give one transaction with the draw, the amount and the catalog's version."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog(2, 1))
        cdr = {"id": "1", "called": "380441234567", "answered_at": now(), "duration_ms": 90_000,
               "orig": {"client": "c1"}}  # fmt: skip
        await system.send([(json.dumps(cdr).encode(), None)])
        await system.settled()
        usage = [one for one in await system.transactions() if one["type"] == "usage"]
        assert [(one["id"], one["amount"], one["billed"], one["catalog"]) for one in usage] == [
            ("default/1/orig", "0", 90, 1)
        ]
        assert usage[0]["draws"][0]["taken"] == "90"
        assert await findings(system) == []


async def test_a_call_of_a_period_that_is_over_is_counted_late(system_of: SystemOf) -> None:
    """It draws from the period it was in, once, also when it comes twice; a call of today is not late."""
    system = await system_of()
    daily = json.loads(catalog(1, 0))
    daily["packages"][0]["period"] = "1 day"
    held = daily["client_packages"][0]
    async with system.worker() as worker:
        await system.load(json.dumps(daily).encode())
        for name, answered in (("late", now(36)), ("today", now()), ("late", now(36))):
            cdr = {"id": name, "called": "380441234567", "answered_at": answered, "duration_ms": 60_000,
                   "orig": {"client": held["client"]}}  # fmt: skip
            await system.send([(json.dumps(cdr).encode(), None)])
        await system.settled()
        usage = {one["cdr"]["id"]: one for one in await system.transactions() if one["type"] == "usage"}
        periods = {name: one["draws"][0]["period"] for name, one in usage.items()}
        assert periods["today"] - periods["late"] in {1, 2}
        assert worker.connections.metrics.registry.get_sample_value("rater_late_total") == 1


async def test_loading_twice_changes_nothing(system_of: SystemOf) -> None:
    """The same file again publishes nothing and keeps the version."""
    system = await system_of(partitions=2)
    async with system.worker():
        first = await system.load(catalog(20, 5))
        again = await system.load(catalog(20, 5))
        assert (first.version, first.changed, again.version, again.changed) == (1, True, 1, False)


async def test_a_load_from_a_newer_install_brings_its_time_zones(
    system_of: SystemOf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file is a new catalog then; all workers rate by its release, and the metric names it."""
    system = await system_of(partitions=2)
    newer = replace(installed(), iana="9999a", package="9999.1")
    async with system.worker() as worker:
        await system.load(catalog(2, 1))
        registry = worker.connections.metrics.registry
        engine = worker.connections.metrics.engine
        labels = {"version": __version__, "engine": engine, "python": platform.python_version()}
        assert registry.get_sample_value("rater_build_info", labels | {"tzdata": INSTALLED}) == 1
        monkeypatch.setattr("rater.core.catalog_files.merging.installed", lambda: newer)
        loaded = await system.load(catalog(2, 1))
        assert (loaded.version, loaded.changed) == (2, True)
        assert f"time zones: tzdata {INSTALLED} -> 9999a from now" in capsys.readouterr().out
        assert registry.get_sample_value("rater_build_info", labels | {"tzdata": "9999a"}) == 1
        found = await in_force(system.client, system.topics, app.catalogs_of(system.settings))
        assert found is not None
        assert (found[0], [of.iana for of in found[1].zones]) == (2, [INSTALLED, "9999a"])
        monkeypatch.undo()
        loaded = await system.load(catalog(2, 1))
        assert (loaded.version, loaded.changed) == (2, False)
        assert "and the catalog keeps its newer 9999a" in capsys.readouterr().out


async def test_a_faulty_catalog_changes_nothing(
    system_of: SystemOf, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every fault is named with file, path, value and remedy, the exit code is 2, and no topic has grown."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog(3, 1))
        before = [await system.read(topic) for topic in (system.topics.commands, system.topics.transactions)]
        faulty = json.loads(catalog(4, 1))
        faulty["clients"][0]["currency"] = "XYZ"
        faulty["packages"][0]["limits"][0]["limit"] = -1
        path = system.folder / "faulty.json"
        path.write_text(json.dumps(faulty))
        code = await load_files(system.settings, [str(path)])
        told = capsys.readouterr().err
        after = [await system.read(topic) for topic in (system.topics.commands, system.topics.transactions)]
    assert code == 2
    for fault in ("clients[0].currency", "XYZ", "packages[0].limits[0].limit", "-1"):
        assert fault in told
    assert told.count("faulty.json") == 2
    assert "2 faults: nothing was changed" in told
    known = [[record.offset for record in records if record.value] for records in before]
    assert [[record.offset for record in records if record.value] for records in after] == known


async def test_a_load_that_dies_half_way_changes_nothing(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it dies after writing its content the catalog in use stays, and the next load is whole."""
    system = await system_of(partitions=2)
    async with system.worker() as worker:
        await system.load(catalog(3, 1))
        with monkeypatch.context() as patched:
            patched.setattr(Loader, "_commands", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await system.load(catalog(30, 2))
        assert "rater_catalog_version 1.0" in worker.connections.metrics.exposition().decode()
        again = await system.load(catalog(30, 2))
        assert (again.version, again.changed) == (2, True)
        assert await findings(system) == []


def now(hours: int = 0) -> str:
    """Return this instant, or one so many hours before it, as a CDR writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - hours * 3600))


async def send_all(system: Any, cdrs: list[bytes]) -> None:
    """Send CDRs without keys, spread over all partitions."""
    lanes = system.topics.partitions
    await asyncio.gather(
        *(system.send([(raw, None) for raw in cdrs[lane::lanes]], partition=lane) for lane in range(lanes))
    )


@pytest.mark.slow
async def test_contested_limits_with_a_killed_worker(system_of: SystemOf) -> None:
    """200,000 unkeyed CDRs, two workers, one killed: each distinct side once, sums right, no overdraw."""
    system = await system_of(partitions=4)
    doomed, _ = system.start_worker(), system.start_worker()
    await system.load(catalog())
    cdrs = calls(200_000, 7, time.time_ns() // 1_000_000)
    sending = asyncio.create_task(send_all(system, cdrs))
    await some_rated(system, 5_000)
    doomed.send_signal(signal.SIGKILL)
    await sending
    await system.settled()
    transactions = await system.transactions()
    each_once(transactions, cdrs)
    assert not await system.rejected()
    await check_store(system, transactions)


def each_once(transactions: list[dict[str, Any]], cdrs: list[bytes]) -> None:
    """Each distinct side of the CDRs has one transaction, and there are no others."""
    usage = Counter(one["id"] for one in transactions if one["type"] == "usage")
    assert set(usage) == distinct_sides(cdrs)
    assert max(usage.values()) == 1


async def some_rated(system: Any, count: int) -> None:
    """Wait until so many offsets of the input are behind marks."""
    end = time.monotonic() + 60
    while (
        sum(at for (topic, _), at in (await system.positions()).items() if topic == system.topics.cdrs)
        < count
    ):
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_redis_is_emptied_while_calls_flow(
    system_of: SystemOf, start_redis: Callable[..., Any]
) -> None:
    """FLUSHALL, four lanes, two workers: all is rebuilt from the journal before anything new is decided."""
    redis = start_redis()
    system = await system_of(partitions=4, redis=redis.url)
    system.start_worker(), system.start_worker()
    await system.load(catalog())
    cdrs = calls(60_000, 11, time.time_ns() // 1_000_000)
    half = len(cdrs) // 2
    await send_all(system, cdrs[:half])
    await some_rated(system, 10_000)
    async with Redis.from_url(redis.url) as server:
        await server.flushall()
    await send_all(system, cdrs[half:])
    await system.settled()
    transactions = await system.transactions()
    each_once(transactions, cdrs)
    await check_store(system, transactions)
    assert await findings(system) == []


async def test_calls_of_a_client_are_drawn_in_their_order(system_of: SystemOf) -> None:
    """Also where the account of the first has to be looked up, unlike the client of the next."""
    system = await system_of()
    with_account = json.loads(catalog(2, 1))
    with_account["clients"][2]["accounts"] = [{"id": "phone"}]
    cdr = {"called": "380441234567", "answered_at": now(), "duration_ms": 1_000_000}
    async with system.worker():
        await system.load(json.dumps(with_account).encode())
        first = {"id": "0", **cdr, "orig": {"client": "hot0"}}
        await system.send([(json.dumps(first).encode(), None)])
        await system.settled()  # the client's view is known now, the account is not
        await system.send([
            (json.dumps({"id": "1", **cdr, "orig": {"account": "phone"}}).encode(), None),
            (json.dumps({"id": "2", **cdr, "orig": {"client": "hot0"}}).encode(), None),
        ])  # fmt: skip
        await system.settled()
    usage = [one for one in await system.transactions() if one["type"] == "usage"]
    minutes = [[draw["taken"] for draw in one["draws"] if draw["kind"] == "volume"] for one in usage]
    assert [one["id"] for one in usage] == ["default/0/orig", "default/1/orig", "default/2/orig"]
    assert minutes == [["1000"], ["800"], []]
