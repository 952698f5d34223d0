"""Rebuilding an emptied Redis: by snapshots and the journal's tail, and by the whole journal.

    python benchmarks/rebuilding.py [CLIENTS] [CDRS]

Nine tenths of the calls were rated 20 days ago, beyond the duplicate window; then each client was written to
the snapshots; the last tenth was rated now. Redis is emptied and `rater rebuild` run, with the snapshots and
with none. Printed: digest before and after, seconds, CPU of `rater` and of Redis, journal offsets read per
core-second of `rater`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from processes import cpu
from redis.asyncio import Redis
from sizes import Sizes
from system import Servers, System, servers
from world import World

from rater import app
from rater.core.instants import DAY_MS, milliseconds, rfc3339
from rater.stream.coverage import last_rounds

AGO_MS = 20 * DAY_MS
NEVER = {"RATER_WORKER__SNAPSHOTS_EVERY_S": "0"}
OFTEN = {"RATER_WORKER__SNAPSHOTS_EVERY_S": "60"}
READY_S = 3600.0
STARTED = "2026-01-01T00:00:00Z"


class Rebuilt(NamedTuple):
    """One run of `rater rebuild`, and the digest that Redis had then."""

    told: dict[str, Any]
    digest: str
    seconds: float
    cpu_s: float
    redis_s: float


def earlier(cdrs: Iterable[bytes]) -> Iterator[bytes]:
    """Yield calls as of AGO_MS before."""
    for raw in cdrs:
        cdr = orjson.loads(raw)
        for name in ("setup_at", "answered_at", "ended_at"):
            cdr[name] = rfc3339(milliseconds(datetime.fromisoformat(cdr[name])) - AGO_MS)
        yield orjson.dumps(cdr)


def without_periods(catalog: bytes) -> bytes:
    """Return a catalog in which nothing is due: a command of now would bring the lanes' time to now."""
    found = orjson.loads(catalog)
    for package in found["packages"]:
        package.pop("period", None)
    for held in found["client_packages"]:
        held["start_date"] = STARTED
    return orjson.dumps(found)


async def rebuilt(system: System) -> Rebuilt:
    """Empty Redis, and let `rater rebuild` bring it back."""
    async with Redis.from_url(system.on.redis.url) as server:
        await server.flushall()
    redis_s, began = cpu(system.on.redis.pid).total, time.monotonic()
    told, cpu_s = await asyncio.to_thread(run_rebuild, {**os.environ, **system.environ, **NEVER})
    seconds, redis_s = time.monotonic() - began, cpu(system.on.redis.pid).total - redis_s
    return Rebuilt(told, (await app.digest_of(system.settings)).text, seconds, cpu_s, redis_s)


def run_rebuild(environ: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Run `rater rebuild`; returns what it tells, and the CPU it took."""
    command = [sys.executable, "-m", "rater", "rebuild", "--json"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)  # noqa: S603 - our own program
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return json.loads(told), used.ru_utime + used.ru_stime


async def fill(system: System, world: World, count: int) -> None:
    """Rate the calls, with a round of snapshots before the last tenth of them."""
    ago_ms, old = int(time.time() * 1000) - AGO_MS, count * 9 // 10
    system.environ |= NEVER
    await system.start()
    await system.load(without_periods(world.catalog()), ago_ms)
    await system.preload(earlier(world.calls(old, "old")), ago_ms)
    await system.until(old, READY_S)
    await system.stop()
    system.environ |= OFTEN
    await system.start()
    buckets = system.settings.redis.buckets
    while len(await last_rounds(system.client, system.topics, buckets)) < buckets:  # noqa: ASYNC110 - Kafka's
        await asyncio.sleep(1)
    await system.stop()
    system.environ |= NEVER
    await system.start()
    await system.preload(world.calls(count - old, "new"))
    await system.until(count - old, READY_S)
    await system.stop()


async def without_snapshots(system: System) -> None:
    """Make the topic of snapshots anew."""
    from rater.stream.topics import administrator  # noqa: PLC0415 - nothing else here needs it

    admin = await administrator(system.client, READY_S)
    await admin.delete_topics([system.topics.snapshots])
    await admin.close()
    await asyncio.sleep(3)
    await system.topics.create(system.client, 1)


def shown(name: str, found: Rebuilt, before: str) -> str:
    """Return a line of the result."""
    records = found.told["records"]
    return (
        f"{name:<20} {found.seconds:7.1f} s, CPU {found.cpu_s:6.1f} s, Redis {found.redis_s:5.1f} s; "
        f"{records:,} offsets, {records / found.cpu_s:,.0f} of a core-second; digest "
        + ("equal" if found.digest == before else f"ANOTHER: {found.digest}")
    )


async def measure(on: Servers, clients: int, count: int) -> dict[str, Any]:
    """Fill a system, and rebuild its Redis twice."""
    async with System(on, "rebuilding") as system:
        await fill(system, World(clients=clients), count)
        before = (await app.digest_of(system.settings)).text
        print(f"{clients:,} clients, {count:,} calls: digest {before}")
        runs = dict[str, dict[str, Any]]()
        for name in ("snapshots and tail", "the whole journal"):
            if runs:
                await without_snapshots(system)
            found = await rebuilt(system)
            print(shown(name, found, before))
            runs[name] = {
                "seconds": found.seconds, "cpu_s": found.cpu_s, "redis_s": found.redis_s,
                "records": found.told["records"], "same": found.digest == before,
            }  # fmt: skip
    return {"clients": clients, "cdrs": count, "runs": runs}


async def rebuilding(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure a smaller one than by itself: the slope of the journal is the same."""
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    return await measure(on, *((1_000, 20_000) if is_quick else (50_000, 400_000)))


async def main(clients: int, count: int) -> None:
    """Start the servers and measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with servers(Path(folder), Path(folder)) as on:
            await measure(on, clients, count)


if __name__ == "__main__":
    asked = [int(each) for each in sys.argv[1:]]
    asyncio.run(main(*(asked + [100_000, 1_000_000][len(asked) :])))
