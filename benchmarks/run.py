"""The benchmark: the shipped worker against real Kafka and Redis, measured by CPU time from /proc.

    python benchmarks/run.py [main] [growth] [memory] [latency] [load] [renewals] [batches]
        [rerating] [offline] [rebuilding] [report]

Each part writes benchmarks/results/PART.json and its pictures; `report` (always at the end) writes README.md
of all results that there are, and the figures of `rater plan` (capacity.py). Without a part: all but growth.
It takes minutes; `--quick` shows that all works, and only prints.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import capacity
import msgspec
import plots
import stages
from batches import batches
from growing import LINES, growth
from lateness import latency
from loading import loading
from memory import memory
from offline import offline
from processes import processors
from rebuilding import rebuilding
from renewals import renewals
from report import report
from rerating import rerating
from sizes import QUICK, WHOLE, Sizes
from system import HERE, Servers, System, build_before, servers
from world import World

RESULTS = HERE / "results"


async def measure_main(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure the worker, the build before and the pass-through in turn, then take a profile."""
    is_whole = sizes.cdrs > QUICK.cdrs
    world, few = World(clients=100_000 if is_whole else 2_000), World(clients=20_000 if is_whole else 1_000)
    async with System(on, "main") as system, build_before(on, sizes.against) as before:
        await system.start()
        load_s = await system.load(world.catalog())
        await system.stop()
        if before is not None:
            await before.load_by_program(world.catalog())
        rounds, published = await _rounds(system, before, world, sizes)
        stages_found = await _profile(system, world, sizes)
        about = await _about(system)
    async with System(on, "few") as system:
        await system.start()
        await system.load(few.catalog())
        await system.stop()
        few_rounds, _ = await _rounds(system, None, few, sizes)
    about["against"] = _commit(sizes.against)
    return {"world": msgspec.to_builtins(world), "rounds": rounds, "stages": stages_found, "about": about,
            "few": few_rounds, "load_s": load_s, "out_bytes": _mean_size(published)}  # fmt: skip


async def _rounds(
    system: System, before: System | None, world: World, sizes: Sizes
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Measure in turn; returns the rounds, and what the first of them published."""
    sample = system.on.folder / f"{system.name}.msgpack"
    published: list[Any] = []
    rounds = []
    for number in range(sizes.rounds):
        starts, named = dict(system.sent), f"r{number}"
        measured = await system.measure(world, named, sizes.warm, sizes.cdrs)
        other = None if before is None else await before.measure(world, named, sizes.warm, sizes.cdrs)
        if not published:
            published = await system.published(3000)
            sample.write_bytes(msgspec.msgpack.encode(published))
        produced = measured.sides / measured.cdrs
        passed = await system.pass_through(starts, sizes.warm, sample, produced)
        rounds.append({
            "worker": msgspec.to_builtins(measured), "before": msgspec.to_builtins(other),
            "pass_us": passed[0], "pass_rate": passed[1],
        })  # fmt: skip
        beside = "" if other is None else f", the build before {other.worker_us:.1f} and {other.redis_us:.1f}"
        print(
            f"round {number + 1}, {world.clients:,} clients: worker {measured.worker_us:.1f} µs, Redis "
            f"{measured.redis_us:.1f} µs{beside}, pass-through {passed[0]:.1f} µs of CPU per CDR; "
            f"{measured.rate:,.0f} CDR/s"
        )
    return rounds, published


def _commit(tree: str) -> str:
    """Return which commit a working tree is at."""
    if not tree:
        return ""
    asked = ["git", "-C", tree, "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - ours


def _mean_size(records: list[Any]) -> float:
    sizes = [
        len(key or b"") + len(value) + sum(len(raw) for _, raw in headers) for key, value, headers in records
    ]
    return sum(sizes) / len(sizes)


async def _profile(system: System, world: World, sizes: Sizes) -> dict[str, float]:
    """Run once more with the sampler inside; what it costs itself is not in the measured rounds."""
    out = system.on.folder / "stacks"
    await system.preload(world.calls(sizes.warm + sizes.cdrs, "profile"))
    await system.start(launcher=(str(HERE / "sampled.py"), str(out)))
    (process,) = system.workers.values()
    await system.until(sizes.warm)
    process.signal(signal.SIGUSR1)
    await system.until(sizes.warm + sizes.cdrs * 0.95)
    process.signal(signal.SIGUSR2)
    await system.stop()
    found = stages.read(out)
    plots.flame(system.on.results / "flame.svg", f"The worker's CPU time, {world.clients:,} clients", found)
    return stages.stages(found)


async def _about(system: System) -> dict[str, Any]:
    server, heap = await system.info("server"), await system.info("memory")
    cpus = processors()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{len(cpus)} x {cpus[0]}",
        "python": platform.python_version(),
        "redis": f"Redis {server['redis_version']}, {heap['mem_allocator']}",
        "aiokafka": version("aiokafka"),
        "settings": {"batch_records_max": system.settings.worker.batch_records_max,
                     "batch_age_ms": system.settings.worker.batch_age_ms,
                     "partitions": system.partitions, "buckets": system.settings.redis.buckets},
    }  # fmt: skip


PARTS: dict[str, Callable[[Servers, Sizes], Awaitable[dict[str, Any]]]] = {
    "main": measure_main, "growth": growth, "memory": memory, "latency": latency,
    "load": loading, "renewals": renewals, "batches": batches, "rerating": rerating, "offline": offline,
    "rebuilding": rebuilding,
}  # fmt: skip
USUAL = [part for part in PARTS if part != "growth"]
"""Without a part that is asked for."""


async def run(parts: list[str], sizes: Sizes, results: Path) -> None:
    """Measure parts, each on servers of its own, and write what was found."""
    for part in parts:
        with TemporaryDirectory(prefix="rater-bench-") as folder:
            async with servers(Path(folder), results) as on:
                found = await PARTS[part](on, sizes)
        (results / f"{part}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "report", []], help=" ".join(USUAL))
    parser.add_argument("--quick", action="store_true", help="show that all works")
    parser.add_argument("--rounds", type=int, help="of the main measurement")
    parser.add_argument("--against", default="", metavar="TREE", help="measure another build beside, of main")
    parser.add_argument("--renewed", type=int, help="client packages, of renewals beside calls")
    parser.add_argument("--line", action="append", choices=LINES, help="of growth, again; all without it")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else WHOLE
    if asked.rounds:
        sizes = sizes._replace(rounds=asked.rounds)
    if asked.renewed:
        sizes = sizes._replace(renewed=asked.renewed)
    sizes = sizes._replace(lines=tuple(asked.line or ()), against=asked.against)
    parts = [part for part in asked.parts or USUAL if part in PARTS]
    if asked.quick:
        with TemporaryDirectory(prefix="rater-bench-") as results:
            asyncio.run(run(parts, sizes, Path(results)))
            print(report(Path(results)))
        return
    RESULTS.mkdir(exist_ok=True)
    asyncio.run(run(parts, sizes, RESULTS))
    (HERE / "README.md").write_text(report(RESULTS), encoding="utf-8")
    capacity.KEPT.write_text(capacity.text(RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
