"""Snapshots on real Kafka and Redis: an emptied store comes back by them and the journal's tail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.checking import record_faults
from rater import app
from rater.core.journal.snapshots import read_head
from rater.jobs.audit import audit
from rater.jobs.digest import digest
from rater.stream.coverage import last_rounds
from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
SLOWLY = """
import asyncio, sys
from rater.store.buckets import Buckets
from rater.worker import restoring
restoring.CLIENTS_PART = 5
restore = Buckets.restore
async def slowly(self, *what):
    await asyncio.sleep(0.3)
    return await restore(self, *what)
Buckets.restore = slowly
from rater.cli import main
sys.exit(main(sys.argv[1:]))
"""
OFTEN = {"RATER_WORKER__SNAPSHOTS_EVERY_S": "1"}
LOOK_S = 0.3
NULL = b"\xc0"
"""Null, msgpack."""
FEW = {"clients": 80, "contested_clients": 10}
CATALOG = catalog(FEW["clients"], FEW["contested_clients"])


async def state(system: Any) -> str:
    """Return the digest of what Redis holds."""
    async with app.opened_store(system.settings) as store:
        return (await digest(store)).text


async def empty(system: Any) -> None:
    """Take away all keys of the system's prefix, as FLUSHALL would."""
    server = Redis.from_url(system.settings.redis.url)
    try:
        names = [name async for name in server.scan_iter(f"{system.settings.redis.prefix}{{*", count=1000)]
        if names:
            await server.unlink(*names)
    finally:
        await server.aclose()


async def rounds(system: Any, since_ms: int) -> None:
    """Wait until each bucket has a round that began after an instant."""
    buckets = system.settings.redis.buckets

    async def ended() -> bool:
        await asyncio.sleep(LOOK_S)  # a look reads the end of the topic, which the rounds make longer
        last = await last_rounds(system.client, system.topics, buckets)
        return len(last) == buckets and min(found.at_ms for found in last.values()) > since_ms

    await system.until(ended)
    assert await last_rounds(system.client, system.topics, 2 * buckets) == {}


async def described(system: Any) -> None:
    """Each record of each kind is as its schema says (deploy/contracts), and without its value it is not."""
    records = await system.read(system.topics.snapshots)
    assert {type(read_head(one.headers)).__name__ for one in records} == {
        "ClientHead", "RoundHead", "AccountsHead", "PackagesHead",
    }  # fmt: skip
    assert [fault for one in records for fault in record_faults("snapshots", one.value, one.headers)] == []
    of_clients = [one for one in records if not one.key.startswith(b"\0")]
    assert list(record_faults("snapshots", NULL, of_clients[0].headers))


async def findings(system: Any) -> list[Any]:
    """Return what the audit finds."""
    async with app.opened_store(system.settings) as store:
        return list((await audit(system.client, system.topics, store)).findings)


async def send(system: Any, cdrs: list[bytes]) -> None:
    """Send calls over all lanes."""
    lanes = system.topics.partitions
    for lane in range(lanes):
        await system.send([(cdr, None) for cdr in cdrs[lane::lanes]], partition=lane)


async def test_a_store_that_was_emptied_comes_back(system_of: SystemOf) -> None:
    """Its digest is the one before; of the journal only what no snapshot has is added, and nothing twice."""
    system = await system_of(partitions=2, environ=OFTEN)
    async with system.worker():
        await system.load(CATALOG)
        made = calls(600, 7, time.time_ns() // 1_000_000, **FEW)
        await send(system, made[:200])
        await system.settled()
        await rounds(system, int(time.time() * 1000))
        await send(system, made[200:400])
        await system.settled()
    await described(system)
    before = await state(system)
    await empty(system)
    assert await state(system) != before
    async with system.worker():
        await send(system, made[:400])  # duplicates of what lies behind the snapshots, and of the tail
        await system.settled()
    assert await state(system) == before
    async with system.worker():
        await send(system, made[400:])
        await system.settled()
    assert await state(system) != before
    assert await findings(system) == []


async def command(system: Any, *arguments: str) -> tuple[int, str, str]:
    """Run `rater`; returns its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rater", *arguments, env={**os.environ, **system.environ},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_rebuild_from_the_command_line(system_of: SystemOf) -> None:
    """It refuses while workers run; killed half way and run again it gives the digest of before."""
    system = await system_of(partitions=2, environ=OFTEN)
    async with system.worker():
        await system.load(CATALOG)
        await send(system, calls(200, 7, time.time_ns() // 1_000_000, **FEW))
        await system.settled()
        await rounds(system, int(time.time() * 1000))
        code, _, said = await command(system, "rebuild")
        assert (code, "1 worker runs in the group" in said) == (1, True), said
    before = await state(system)
    await empty(system)
    rebuilding = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SLOWLY, "rebuild", env={**os.environ, **system.environ}
    )
    async with app.opened_store(system.settings) as store:

        async def half() -> bool:
            return len([name async for name in store.scan_clients()]) > 0

        await system.until(half)
    rebuilding.kill()
    assert await rebuilding.wait() == -signal.SIGKILL
    assert await state(system) != before
    code, printed, said = await command(system, "rebuild", "--json")
    assert code == 0, said
    told = json.loads(printed)
    assert told["lanes"] == 2
    code, printed, _ = await command(system, "rebuild", "--check")
    assert (code, printed) == (0, f"90 clients, digest {before}\n")
    assert await findings(system) == []
