"""A long run with faults: what a worker that lives through all of them holds stays the same."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from faults.calls import HOT, OTHERS
from faults.kinds import KINDS, Kind
from faults.measured import MINUTES, files, highest, keys, sampled, tasks
from faults.rig import BUCKETS, PARTITIONS, Rig, started, until
from faults.test_campaign import SEED, hurt, judged
from faults.test_times import shared
from rater.store.keys import ACCOUNT_SHARDS

pytestmark = [pytest.mark.kafka, pytest.mark.fault("F42")]

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]

ENDING = {
    "worker_killed", "worker_drained", "memory_short", "files_short", "dies_at_a_point", "freezes_at_a_point",
}  # fmt: skip
"""Kinds that may end any worker: a new process has nothing that could have grown. Here the two that are
measured live on, and a third comes and goes (`workers_come_and_go`)."""
GROWTH_MIB = 32.0
"""A worker's memory may be so much higher in the second half than in the first: rebuilding Redis from a
journal that has grown meanwhile, and backlogs of other sizes."""
FILES_MORE, TASKS_MORE = 10, 10
"""More than at first, in both workers together: connections that were opened with the first fault only (to
the coordinator of the group, to Redis after a lost one), and what is just being asked. What leaks does so
with each of 10 faults or more, most of which reset connections or move lanes."""
SHORT_S = 60.0
"""Up to so many seconds only quick faults are chosen."""
OUTCOMES_MAX = 2000
"""Outcomes in Redis that are not known to be published: the last batches of each lane."""

PACKAGES = 2
"""Of all clients' (tests/traffic.py)."""
KEYS_MAX = {
    "c": OTHERS + HOT, "r": OTHERS + HOT, "l": PARTITIONS * BUCKETS, "o": PARTITIONS * BUCKETS,
    "g": BUCKETS, "u": 3 * BUCKETS, "f": 3 * BUCKETS, "meta": 1, "a": ACCOUNT_SHARDS * BUCKETS,
    "p": PACKAGES * BUCKETS,
}  # fmt: skip
"""Keys of each kind (store/keys.py): what there is of clients, lanes and buckets, whatever happened."""


async def at_rest(rig: Rig) -> tuple[int, int]:
    """Return the files and tasks of two workers together, when they share the lanes.

    Together, for both grow with the lanes that a worker has, and faults move lanes from one to the other.
    """
    await shared(rig, 2)
    await rig.progress(everywhere=True)  # a lane that is being taken has not all of its connections
    pair = rig.slots[:2]
    return sum(map(files, pair)), sum([await tasks(slot) for slot in pair])


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(15.0, id="short"),
        pytest.param((MINUTES or 30) * 60, id="long", marks=pytest.mark.long),
    ],
)
async def test_soak(start: Start, figure: Figure, seconds: float) -> None:
    """Faults without end: memory, files and tasks of two workers and the keys in Redis stay what they were.

    It fails when each fault, each lane that is taken or each batch leaves something behind: a connection, a
    task, memory, an outcome or a key; also when one of the two workers ends.
    """
    began = time.monotonic()
    rig = await start(SEED)
    long = seconds > SHORT_S
    rig.rate_per_s = 100 if long else 250  # each loss reads the whole journal again
    chosen = [kind for kind in KINDS.values() if kind.name not in ENDING and (kind.quick or long)]
    pair = rig.slots[:2]
    for slot in pair:
        await started(slot)
    processes = [slot.process for slot in pair]
    await rig.progress(everywhere=True)
    first = now = await at_rest(rig)
    end = time.monotonic() + seconds
    done: list[str] = []
    left: list[Kind] = []
    async with sampled(*pair) as memory:
        while time.monotonic() < end:
            left = left or rig.rng.sample(chosen, len(chosen))
            done += await hurt(rig, [left.pop()], (0.3, 0.6))
        await rig.progress(everywhere=True)

    async def as_at_first() -> bool:
        nonlocal now
        now = await at_rest(rig)
        return now[0] <= first[0] + FILES_MORE and now[1] <= first[1] + TASKS_MORE

    back = True
    try:
        await until(as_at_first, "files and tasks are as at first", 30)
    except AssertionError:
        back = False
    await rig.progress(everywhere=True)
    found, outcomes = await keys(rig)
    halves = [highest(samples) for samples in memory]
    told = ", ".join(f"{before:.0f} and {after:.0f}" for before, after in halves)
    await judged(
        rig, figure,
        f"soak of {seconds / 60:g} min: workers at most {told} MiB in the halves; files {first[0]} and "
        f"{now[0]}, tasks {first[1]} and {now[1]}; {found.total()} keys, {outcomes} outcomes kept",
        done, began, store_kept=False,
    )  # fmt: skip
    assert [slot.process for slot in pair] == processes, done
    assert back, f"files and tasks: {first}, now {now}"
    assert all(after <= before + GROWTH_MIB for before, after in halves), told
    assert all(count <= KEYS_MAX.get(kind, 0) for kind, count in found.items()), found
    assert outcomes <= OUTCOMES_MAX
