"""What a CDR takes of Kafka's disk, and what a batch costs whatever it carries: CPU and bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sizes import Sizes
from system import Sample, Servers, System, between
from world import World

SLOW_RATE = 200
"""CDRs of a second in the second part: each lane has a batch of few for each age."""
TICK_S = 0.05


async def batches(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Rate a full topic, then a trickle, and look at what the files of the topics have grown by."""
    is_whole = sizes.cdrs >= 100_000  # noqa: PLR2004 - the quick sizes
    world = World(clients=20_000 if is_whole else 1_000)
    slow_s = 60 if is_whole else 5
    async with System(on, "batches") as system:
        await system.start()
        await system.load(world.catalog())
        calls = world.calls(sizes.cdrs * 2 + SLOW_RATE * slow_s * 2, "b")
        await system.preload(islice(calls, sizes.cdrs))
        warm = await system.until(sizes.cdrs)
        files = sizes_of(system)
        await system.preload(islice(calls, sizes.cdrs))
        full = await system.until(sizes.cdrs * 2)
        grown = {topic: size - files[topic] for topic, size in sizes_of(system).items()}
        of_cdr = {topic: size / sizes.cdrs for topic, size in grown.items()}
        await _trickle(system, calls, slow_s)  # the broker compiles its code for it
        first, files = await system.sample(), sizes_of(system)
        await _trickle(system, calls, slow_s)
        last = await system.until(sizes.cdrs * 2 + SLOW_RATE * slow_s * 2)
        journal = sizes_of(system)[system.topics.transactions] - files[system.topics.transactions]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "clients": world.clients,
        "bytes": {topic.removeprefix(system.topics.prefix): size for topic, size in of_cdr.items()},
        **_of_batch(
            warm, full, first, last, journal - of_cdr[system.topics.transactions] * (last.cdrs - first.cdrs)
        ),
    }


async def _trickle(system: System, calls: Iterator[bytes], seconds: int) -> None:
    for _ in range(round(seconds / TICK_S)):
        began = time.monotonic()
        await system.preload(islice(calls, round(SLOW_RATE * TICK_S)))
        await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - began)))


def _of_batch(warm: Sample, full: Sample, first: Sample, last: Sample, more_bytes: float) -> dict[str, float]:
    """Return what a batch costs beside its CDRs: what the trickle took more than full batches of as many."""
    quick, slow = between(warm, full), between(first, last)
    cdrs, commits = slow.cdrs, slow.commits
    return {
        "batch_ms": (slow.worker_us - quick.worker_us) * cdrs / commits / 1000,
        "kafka_batch_ms": (slow.kafka_us - quick.kafka_us) * cdrs / commits / 1000,
        "batch_bytes": more_bytes / commits,
        "records_of_a_batch": slow.records_per_commit,
        "others_cores": slow.others_cores,
    }


def sizes_of(system: System) -> dict[str, int]:
    """Return the bytes of each topic's files: records alone, for indexes are of a fixed size."""
    found = dict.fromkeys((*system.topics.data, system.topics.transactions, system.topics.events), 0)
    for path in (system.on.folder / "kafka").rglob("*.log"):
        topic, _, partition = path.parent.name.rpartition("-")
        if topic in found and partition.isdigit():
            found[topic] += path.stat().st_size
    return found
