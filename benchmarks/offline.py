"""What a CDR costs that is rated in memory, without servers: natively, and by the steps and the twin.

    .venv/bin/python benchmarks/offline.py [--calls 100000] [--clients 20000] [--rounds 3]

Calls and clients are those of the main measurement; loading and making calls is not counted. Both publish the
same, or it says so and ends with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sizes import Sizes
from system import Servers, System
from world import World

from rater.core.offline import Rater, Record, Transaction
from rater.jobs.native_rating import NativeRater

WARM = 4000
"""Calls that are rated before: views are made, memory is had."""
STEPS_SHARE = 10
"""The steps rate a part of the calls, or it would take minutes."""


class Cost(NamedTuple):
    """CPU of a record in µs, user and system; a digest of what was published of the first ones."""

    us: float
    digest: str


def cpu_s() -> float:
    """Return the process's CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def loaded(rater: Rater, catalog: bytes, at_ms: int) -> Rater:
    """Load the catalog and bring clients up to now."""
    faults = rater.load([("catalog.json", catalog)], at_ms)
    if faults:
        raise ValueError(str(faults[0]))
    rater.tick(at_ms)
    rater.take()
    return rater


def cost(rater: Rater, records: Sequence[Record], compared: int) -> Cost:
    """Rate; the first calls are not counted."""
    digest = hashlib.sha256()
    gc.collect()
    gc.freeze()
    begun = cpu_s()
    for at in range(0, len(records), WARM):
        ended = rater.rate_all(records[at : at + WARM])
        if at == 0:
            begun = cpu_s()
        for sides in ended[: max(0, compared - at)]:
            for side in sides:
                digest.update(side.value if isinstance(side, Transaction) else repr(side).encode())
    used = cpu_s() - begun
    gc.unfreeze()
    return Cost(used / (len(records) - WARM) * 1e6, digest.hexdigest())


def costs(calls: int, clients: int, rounds: int) -> dict[str, Any]:
    """Measure each way; returns µs of a CDR, the best of the rounds, and whether all published the same."""
    world, at_ms = World(clients=clients), int(time.time() * 1000)
    catalog = world.catalog()
    records = [Record(raw, at_ms, at) for at, raw in enumerate(world.calls(calls + WARM, "offline"))]
    few = len(records) // STEPS_SHARE + WARM
    kinds: dict[str, tuple[Callable[[], Rater], int]] = {
        "natively": (NativeRater, len(records)),
        "natively, calls known to come once": (partial(NativeRater, unique=True), len(records)),
        "by the steps and the twin": (Rater, few),
    }
    digests, found = set[str](), dict[str, float]()
    for name, (make, count) in kinds.items():
        some = [
            cost(loaded(make(), catalog, at_ms), records[:count], few)
            for _ in range(rounds if count > few else 1)
        ]
        digests.update(one.digest for one in some)
        found[name] = min(one.us for one in some)
        sys.stdout.write(
            f"{name:36} {found[name]:6.1f} µs of CPU a CDR (best of {len(some)}), {count - WARM:,}\n"
        )
        sys.stdout.flush()
    return {"calls": calls, "clients": clients, "us": found, "same": len(digests) == 1}


async def offline(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure it beside the live worker, with the same clients: its µs of a CDR, too."""
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    calls, clients = (20_000, 1_000) if is_quick else (100_000, 20_000)
    world = World(clients=clients)
    async with System(on, "offline") as system:
        await system.start()
        await system.load(world.catalog())
        await system.stop()
        live = await system.measure(world, "live", sizes.warm, sizes.cdrs)
    found = await asyncio.to_thread(costs, calls, clients, 1 if is_quick else 3)
    return {**found, "worker_us": live.worker_us}


def main() -> int:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = costs(given.calls, given.clients, given.rounds)
    if not found["same"]:
        sys.stdout.write("they do not publish the same\n")
    return int(not found["same"])


if __name__ == "__main__":
    sys.exit(main())
