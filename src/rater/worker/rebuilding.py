"""`rater rebuild`: each lane is taken as workers take it, which brings Redis to the journal, and let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from rater.errors import Fenced, Halt, Retake, Wait
from rater.stream.group import member_count
from rater.worker.shared import Shared
from rater.worker.takeover import take

ATTEMPTS = 5
"""How often a lane is taken before its fault is told."""
LOOK_S = 0.5
"""How often progress is told."""

Told = Callable[[int, int], None]
"""Called with the records of the journal read so far and those to be read, as far as is known."""


class Rebuilt(NamedTuple):
    """What was done. records: of the journal that were read."""

    lanes: int
    records: int
    seconds: float


async def rebuild(shared: Shared, told: Told) -> Rebuilt:
    """Bring all buckets to the journal. Raises Halt where workers run, which do it by themselves."""
    connections, began = shared.connections, time.monotonic()
    group = connections.settings.kafka.group_id
    workers = await member_count(connections.client, group)
    if workers:
        raise Halt(
            f"{workers} {'worker runs' if workers == 1 else 'workers run'} in the group {group}: an emptied "
            "store is rebuilt by them, as their log tells; or stop them and rebuild again"
        )
    lanes = range(connections.topics.partitions)
    taking = [asyncio.create_task(_take(lane, shared)) for lane in lanes]
    read: dict[int, tuple[int, int]] = {}
    try:
        going_on: set[asyncio.Task[int]] = set(taking)
        while going_on:
            done, going_on = await asyncio.wait(going_on, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
            for lane in done:
                lane.result()
            read |= shared.rebuilding
            told(sum(at for at, _ in read.values()), sum(total for _, total in read.values()))
    finally:
        # Where one lane fails, the others are not to go on behind the back of who is told so.
        for lane in taking:
            lane.cancel()
        await asyncio.gather(*taking, return_exceptions=True)
    return Rebuilt(len(lanes), sum(lane.result() for lane in taking), time.monotonic() - began)


async def _take(number: int, shared: Shared) -> int:
    """Take a lane and let it go; returns how many records of its journal lay in what was read."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            lane = await take(number, shared)
        except Fenced as error:
            raise Halt(f"lane {number} was taken by a worker meanwhile; it rebuilds the store") from error
        except (Retake, Wait):
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(attempt)
        else:
            await lane.close()
            return shared.read.pop(number, 0)
    return 0
