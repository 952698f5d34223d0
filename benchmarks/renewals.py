"""Renewals: client packages that are all due at one instant, on real servers, alone and beside calls.

    python benchmarks/run.py renewals
    python benchmarks/renewals.py [CLIENTS] [--calls RATE] [--profile OUT]     # one run; 0: no calls

Every client has one package with a taxed subscription fee. What is asked: how long until all are renewed,
what a renewal costs in times of a side, what calls notice of it, and whether each fee was charged once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from lateness import STEP_S, Watch, within_ms
from sizes import Sizes
from system import HERE, Sample, Servers, System, between, servers
from world import World

CLIENTS = 1_000_000
QUICK_CLIENTS = 10_000
"""With so few the servers are warmed up for a twelfth of the time."""
CALLS_S = 2_000.0
"""CDRs a second while they are renewed."""
LOAD_US = 300
"""Of a client, generously: the load has to be over before they are due."""
QUIET_S = 12.0
"""The worker's cost while nothing comes and nothing is due is measured for so long."""
LIMIT_S = 1_800.0
_FEE = re.compile(rb'"id":"cp/(\d+)\.0/(\d+)/subscription_fee"')


class Fees(Watch):
    """Counts the subscription fees of each client beside the calls."""

    def __init__(self, system: System, clients: int, *, is_sampled: bool) -> None:
        """is_sampled: the worker was started with the profiler inside."""
        super().__init__(system)
        self.is_sampled = is_sampled
        self.charged = bytearray(clients)
        self.total = 0

    def note(self, value: bytes, now: float) -> None:
        """Note a transaction that came at this moment."""
        found = _FEE.search(value)
        if found is None or found[2] == b"1":  # the load opened and charged the first period
            super().note(value, now)
            return
        self.charged[int(found[1])] += 1
        self.total += 1


async def renewals(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Renew many alone, for the cost; and ten times as many while calls are rated, for time and latency."""
    return {
        "alone": await one_run(on, "alone", max(2_000, sizes.renewed // 10), 0.0, sizes),
        "beside": await one_run(on, "beside", sizes.renewed, CALLS_S, sizes),
    }


async def one_run(
    on: Servers, name: str, clients: int, calls_s: float, sizes: Sizes, profile: Path | None = None
) -> dict[str, Any]:
    """Renew so many while so many calls a second are rated; 0: none, and what a side costs is measured."""
    warm_s = 60.0 if calls_s else sizes.warm / 10_000
    due_s = int(time.time() + clients * LOAD_US / 1e6 + 2 * warm_s + 30)
    world = World(clients=clients, renewal_s=due_s)
    async with System(on, f"renewals-{name}") as system:
        await system.start(launcher=(str(HERE / "sampled.py"), str(profile)) if profile else ("-m", "rater"))
        load_s = await system.load(world.catalog())
        watch = Fees(system, clients, is_sampled=profile is not None)
        reading = asyncio.create_task(watch.run())
        try:
            found = await (_beside(watch, world, calls_s) if calls_s else _alone(watch, world, sizes))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        found |= {
            "clients": clients, "calls_s": calls_s, "load_s": load_s, "charged_once": watch.charged.count(1),
            "load_average": os.getloadavg()[0], "index_bytes": (await system.key_bytes())["d"] / clients,
        }  # fmt: skip
        await system.forget()
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
    return found


async def _alone(watch: Fees, world: World, sizes: Sizes) -> dict[str, Any]:
    """Measure a side, nothing, and renewals, one after the other."""
    system = watch.system
    before = await system.sample()
    total = await system.preload(world.calls(sizes.warm + sizes.cdrs, "sides"))
    first = await system.until(before.cdrs + sizes.warm)
    sides = between(first, await system.until(before.cdrs + total))
    _must_be_ahead(world)
    first = await system.sample()
    await asyncio.sleep(QUIET_S)
    quiet = await system.sample()
    await _due(world)
    begun = await system.sample()
    _profile(watch, signal.SIGUSR1)
    seconds = await _all_renewed(watch, world)
    ended = await system.sample()
    _profile(watch, signal.SIGUSR2)
    return {
        "seconds": seconds, "side_us": sides.side_us, "redis_side_us": sides.redis_side_us,
        **_costs(begun, ended, first, quiet, world.clients),
    }  # fmt: skip


async def _beside(watch: Fees, world: World, calls_s: float) -> dict[str, Any]:
    """Measure calls, and then calls and renewals."""
    system = watch.system
    await watch.warm_up(world, is_quick=world.clients < QUICK_CLIENTS)
    first = await system.sample()
    before = await watch.feed(world, calls_s, "before")
    quiet = await system.sample()
    _must_be_ahead(world)
    await _due(world)
    begun = await system.sample()
    _profile(watch, signal.SIGUSR1)
    renewing = asyncio.create_task(_all_renewed(watch, world))
    meanwhile: list[float] = []
    by_step = []
    while not renewing.done():
        late = await watch.feed(world, calls_s, f"t{len(meanwhile)}", STEP_S / 2, 0.0)
        by_step.append(within_ms(late, 0.99))
        meanwhile += late
    ended = await system.sample()
    _profile(watch, signal.SIGUSR2)
    return {
        "seconds": await renewing, "before_ms": spread_ms(before),
        "meanwhile_ms": spread_ms(sorted(meanwhile)), "by_step_ms": by_step,
        **_costs(begun, ended, first, quiet, world.clients),
    }  # fmt: skip


def _must_be_ahead(world: World) -> None:
    assert world.renewal_s is not None
    ahead_s = world.renewal_s - time.time()
    assert ahead_s > QUIET_S, f"they are due in {ahead_s:.0f} s: LOAD_US is too low for this machine"


async def _due(world: World) -> None:
    assert world.renewal_s is not None
    await asyncio.sleep(world.renewal_s - time.time())


async def _all_renewed(watch: Fees, world: World) -> float:
    """Return when the last fee was there to be read, in seconds since all were due."""
    assert world.renewal_s is not None
    until = time.monotonic() + LIMIT_S
    while watch.total < world.clients:
        watch.system.must_run()
        assert time.monotonic() < until, f"{watch.total} of {world.clients} within {LIMIT_S} s"
        await asyncio.sleep(0.05)
    return time.time() - world.renewal_s


def _costs(begun: Sample, ended: Sample, first: Sample, quiet: Sample, clients: int) -> dict[str, float]:
    """Return µs of CPU for each renewal, beside what the same time took before they were due."""
    share = (ended.at_s - begun.at_s) / (quiet.at_s - first.at_s)
    costs = {"worker_share": (ended.worker_s - begun.worker_s) / (ended.at_s - begun.at_s)}
    for name in ("worker", "redis", "kafka"):
        spent = getattr(ended, f"{name}_s") - getattr(begun, f"{name}_s")
        idle = getattr(quiet, f"{name}_s") - getattr(first, f"{name}_s")
        costs[f"{name}_us"] = (spent - share * idle) / clients * 1e6
    return costs


def spread_ms(late: list[float]) -> dict[str, float]:
    """Return p50, p99 and the most of latencies in seconds, sorted."""
    return {"p50": within_ms(late, 0.5), "p99": within_ms(late, 0.99), "max": within_ms(late, 1)}


def _profile(watch: Fees, which: signal.Signals) -> None:
    """Begin or end the profile."""
    for process in watch.system.workers.values() if watch.is_sampled else ():
        process.signal(which)


async def _main(clients: int, calls_s: float, profile: Path | None) -> None:
    sizes = Sizes(rounds=1, warm=min(600_000, 3 * clients), cdrs=100_000)
    with TemporaryDirectory(prefix="rater-bench-") as folder:
        async with servers(Path(folder), Path(folder)) as on:
            await one_run(on, "one", clients, calls_s, sizes, profile)


def main() -> None:
    """Measure one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clients", nargs="?", type=int, default=CLIENTS)
    parser.add_argument("--calls", type=float, default=CALLS_S)
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()
    asyncio.run(_main(given.clients, given.calls, given.profile))


if __name__ == "__main__":
    main()
