"""The line with the native engine in the lead, over the oracle's buckets, as a worker has it.

The engine rates all that it can, and its requests draw. What it returns goes through the steps behind that:
sides that are rejected, and all sides of clients of whom something is due. What comes of the oracle's cases
must be what the steps alone make of them, in every byte of each side, and in what the buckets hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine_choice import rating_by

from oracle import lanes, variants
from oracle.scenario import make

NAMES = ("cut-1", "cut-7", "cut-all", "evict", "stale-all", "crash-stale", "lanes-between-2")


def compare(seed: int, names: Sequence[str] = NAMES, size: int | None = None) -> None:
    """Run a scenario by the steps, one record at a time, and by the engine under each variant."""
    scenario = make(seed, size=size)
    with lanes.standing_in():
        with rating_by("python"):
            wanted = variants.base(scenario)
        with rating_by("native"):
            for name in names:
                variants.check(scenario, name, wanted, seed)
