"""Re-rating a window of calls: CDRs of a core-second beside the live worker's, memory, live calls meanwhile.

    python benchmarks/run.py rerating

The calls come in any order; a first run brings them into call order, a second finds nothing, a third is a
preview after one price in ten has changed, and the last goes on beside live calls. Each is `rater rerate` as
its own process; its CPU is all that it took, start and catalog included.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from lateness import STEP_S, Watch, within_ms
from sizes import Sizes
from system import Servers, System
from world import World

CDRS, CLIENTS = 1_000_000, 20_000
LIVE_CDRS_S = 1_000.0
"""Live calls beside a run: with sender, reader and servers they take half of two cores."""
FILLED_S = 3600.0
CHANGED = 10
"""One price in so many is another one in the end."""
NICE = 10
"""The job gives way to the servers and workers on its cores, as it would have cores of its own elsewhere."""
AGO = timedelta(days=2)
LOOK_S = 0.1


class Run(NamedTuple):
    """One run of `rater rerate`: what it told in the end, CPU seconds, and the most memory it had, MB."""

    told: dict[str, Any]
    cpu_s: float
    peak_mb: float
    seconds: float

    def us(self, cdrs: int) -> float:
        """Return its CPU of a CDR, µs."""
        return self.cpu_s / cdrs * 1e6


def rerate(environ: dict[str, str], log: Path, begin: datetime, end: datetime, *options: str) -> Run:
    """Run it over a window."""
    window = ["--from", begin.isoformat(), "--to", end.isoformat()]
    command = [
        "nice",
        f"-n{NICE}",
        sys.executable,
        "-m",
        "rater",
        "rerate",
        "--all",
        *window,
        "--json",
        *options,
    ]
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *options], env=environ, stdout=out)  # noqa: S603 - our own program
        peak_mb = 0.0
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak_mb = max(peak_mb, so_far_mb(process.pid))
            time.sleep(LOOK_S)
    process.returncode = status
    assert status == 0, f"`rater rerate` ended with {status}"
    with log.open("rb") as told:
        told.seek(max(0, log.stat().st_size - 4096))
        last = json.loads(told.read().splitlines()[-1])
    return Run(last, used.ru_utime + used.ru_stime, peak_mb, time.monotonic() - began)


def so_far_mb(pid: int) -> float:
    """Return the most memory that a process had by now, MB.

    Not as `wait4` tells: that begins with what its parent had when it was forked.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def changed(catalog: bytes) -> bytes:
    """Return the catalog with another price of some codes."""
    found = orjson.loads(catalog)
    for row in found["rate_tables"][0]["rates"][::CHANGED]:
        row["price"] = f"{row['price']}1"
    return orjson.dumps(found)


async def fill(system: System, world: World, sizes: Sizes, count: int) -> float:
    """Rate the calls; returns the worker's CPU of a CDR, µs, of a part of them."""
    live = await system.measure(world, "live", sizes.warm, sizes.cdrs)
    left = count - sizes.warm - sizes.cdrs
    await system.preload(world.calls(left, "more"))
    await system.start()
    await system.until(left, FILLED_S)
    return live.worker_us


async def beside(system: System, world: World, run: Any, *, is_quick: bool) -> dict[str, Any]:
    """Run while live calls come; returns the run, and their latencies before and meanwhile."""
    watch = Watch(system)
    reading = asyncio.create_task(watch.run())
    try:
        await watch.warm_up(world, is_quick=is_quick)
        before = await watch.feed(world, LIVE_CDRS_S, "before")
        going, meanwhile = asyncio.create_task(asyncio.to_thread(run)), list[float]()
        while not going.done():
            meanwhile += await watch.feed(world, LIVE_CDRS_S, f"t{len(meanwhile)}", STEP_S, 0.0)
        found = await going
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return {"run": found, "before_ms": spread_ms(before), "meanwhile_ms": spread_ms(sorted(meanwhile))}


def spread_ms(late: list[float]) -> dict[str, float]:
    """Return what is told of latencies."""
    return {"p50": within_ms(late, 0.5), "p99": within_ms(late, 0.99), "max": within_ms(late, 1)}


async def rerating(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure a window of 1,000,000 CDRs."""
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    count, world = (60_000, World(clients=1_000)) if is_quick else (CDRS, World(clients=CLIENTS))
    catalog = world.catalog()
    async with System(on, "rerating") as system:
        await system.start()
        await system.load(catalog)
        await system.stop()
        worker_us = await fill(system, world, sizes, count)
        environ, log = {**os.environ, **system.environ}, on.folder / "rerate.jsonl"
        end = datetime.now(UTC)

        def run(*options: str, begin: datetime = end - AGO, until: datetime = end) -> Run:
            return rerate(environ, log, begin, until, *options)

        runs: dict[str, Run] = {}
        steps = {
            "none": lambda: run(begin=end - 2 * AGO, until=end - AGO),
            "ordered": lambda: run("--apply", "--job", "first"),
            "unchanged": run,
        }
        for name, step in steps.items():
            runs[name] = await asyncio.to_thread(step)
            show(name, runs[name], count, worker_us)
        await system.load(changed(catalog))
        runs["changed"] = await asyncio.to_thread(run)
        show("changed", runs["changed"], count, worker_us)
        live = await beside(system, world, run, is_quick=is_quick)
        runs["beside"] = live.pop("run")
        show("beside", runs["beside"], count, worker_us)
    # The live calls are of the window's time, so the last run had more of them.
    sides = runs["unchanged"].told["calls"]
    more = {name: (one.told["calls"] or sides) / sides for name, one in runs.items()}
    found = {name: {**one._asdict(), "us": one.us(count) / more[name]} for name, one in runs.items()}
    return {"cdrs": count, "clients": world.clients, "worker_us": worker_us, "runs": found, **live,
            "rate": LIVE_CDRS_S}  # fmt: skip


def show(name: str, run: Run, cdrs: int, worker_us: float) -> None:
    """Print a line of the result."""
    print(
        f"{name:10} {run.us(cdrs):5.1f} µs of a CDR, {worker_us / run.us(cdrs):.2f} x the worker "
        f"({worker_us:.1f} µs); {run.peak_mb:.0f} MB; {run.seconds:.0f} s; {run.told}"
    )
