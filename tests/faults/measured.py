"""What a worker holds: memory, open files and tasks of its process, keys in Redis; and how long it is loaded.

RATER_FAULT_MINUTES sets the length of the long runs of overload and soak (by default 10 and 30).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
from redis.asyncio import Redis as RedisClient

from faults.rig import Rig, Slot, until

MINUTES = float(os.environ.get("RATER_FAULT_MINUTES", "0"))
MIB = 2**20
SAMPLE_S = 0.5
WARM_UP = 0.25
"""Of the samples: until then caches and buffers fill, and the allocator gets its arenas."""


def held(slot: Slot) -> float:
    """Return the memory that a worker's process has, in MiB."""
    assert slot.process is not None
    return psutil.Process(slot.process.pid).memory_info().rss / MIB


def files(slot: Slot) -> int:
    """Return how many files and connections a worker has open."""
    assert slot.process is not None
    return psutil.Process(slot.process.pid).num_fds()


async def tasks(slot: Slot) -> int:
    """Return how many asyncio tasks a worker has, as it says itself (hooked.py)."""

    def told() -> list[int]:
        return [line["tasks"] for line in slot.events() if "tasks" in line]

    before = len(told())
    assert slot.process is not None
    slot.process.send_signal(signal.SIGUSR2)
    await until(lambda: len(told()) > before, f"worker {slot.number} counts its tasks")
    return told()[-1]


@asynccontextmanager
async def sampled(*slots: Slot) -> AsyncIterator[list[list[float]]]:
    """Give the memory of each of these workers, in MiB, written down twice a second until the end."""
    found: list[list[float]] = [[] for _ in slots]

    async def sample() -> None:
        while True:
            for slot, samples in zip(slots, found, strict=True):
                samples.append(held(slot))
            await asyncio.sleep(SAMPLE_S)

    task = asyncio.create_task(sample())
    try:
        yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, psutil.NoSuchProcess):
            await task


def highest(samples: list[float]) -> tuple[float, float]:
    """Return the highest of the first and of the second half of what comes after the warm-up."""
    warm = samples[int(len(samples) * WARM_UP) :]
    middle = len(warm) // 2
    return max(warm[:middle]), max(warm[middle:])


async def keys(rig: Rig) -> tuple[Counter[str], int]:
    """Return how many keys of each kind Redis has (store/keys.py), and how many outcomes are kept in them."""
    found: Counter[str] = Counter()
    outcomes = 0
    async with RedisClient.from_url(rig.primary.url) as redis:
        async for key in redis.scan_iter(match=f"{rig.prefix}{{*", count=1000):
            kind = key.decode().partition("}:")[2].partition(":")[0]
            found[kind] += 1
            if kind == "o":
                outcomes += await redis.hlen(key)
    return found, outcomes
