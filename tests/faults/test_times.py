"""How long things take: measured and printed, for machines differ; asserted is what must hold."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from faults.behind import USUAL, aborted, lag_of
from faults.rig import PARTITIONS, SESSION_MS, Rig, Slot, started, until
from faults.test_campaign import SEED

pytestmark = [pytest.mark.kafka, pytest.mark.long]

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]
ROUNDS = 6
LAG_BACK_S = 10.0
"""So soon after a worker of three was told to end the others, and its successor, are as far as before. Asked
where the machine has its processors for us: a worker that waits for one does nothing."""
BUSY = 2.0
"""Of a machine: processes that want to run, for each processor. Broker, Redis and workers are some."""


async def shared(rig: Rig, workers: int) -> None:
    """Wait until so many workers share the lanes evenly: while one has fewer, some are still going over."""

    def all_owned() -> bool:
        owned = [len(lanes) for slot in rig.running() if (lanes := rig.lanes_of(slot))]
        return sum(owned) == PARTITIONS and len(owned) == workers and max(owned) - min(owned) <= 1

    await until(all_owned, f"{workers} workers share the lanes")


def replayed(rig: Rig) -> int:
    """Return how many decisions were found unpublished when lanes were taken."""
    return sum(
        int(line.get("pending", 0))
        for slot in rig.slots
        for log in rig.folder.glob(f"worker-{slot.number}-*.log")
        for line in slot_events(slot, log.name)
    )


def slot_events(slot: Slot, name: str) -> list[dict[str, Any]]:
    """Return the events of an earlier process of a slot."""
    kept, slot.log = slot.log, slot.log.with_name(name)
    try:
        return slot.events()
    finally:
        slot.log = kept


@pytest.mark.fault("F6")
async def test_rolling_restart(start: Start, figure: Figure) -> None:
    """Three workers under load, restarted one after the other: each drains and leaves nothing undone.

    No Kafka transaction with records is aborted, none of the decisions is published by another than made it,
    and the lag is back soon.
    """
    rig = await start(21, workers=3, environ=USUAL)
    for slot in rig.slots:
        await started(slot)
    await shared(rig, 3)
    await rig.progress(everywhere=True)
    rig.watched.late_ms.clear()
    before = replayed(rig)
    began = time.monotonic()
    back: list[float] = []
    async with lag_of(rig) as lag:
        for slot in rig.slots:
            ended = time.monotonic()
            assert await rig.end(slot, signal.SIGTERM) == 0
            rig.launch(slot, environ=USUAL)
            await started(slot)
            await shared(rig, 3)
            await rig.progress(everywhere=True)
            back.append(lag.behind_since(ended, most=rig.rate_per_s))
    took, crowded = time.monotonic() - began, os.getloadavg()[0] / (os.cpu_count() or 1)
    again = replayed(rig) - before
    told = rig.lateness()
    verdict = await rig.sound()
    undone = await aborted(rig)
    figure(
        f"rolling restart of 3 workers at {rig.rate_per_s} CDR/s: {took:.1f} s, {told}, more than a second "
        f"of calls waited until {max(back):.1f} s after a worker was told to end, decided by one and "
        f"published by another: {again}, records of aborted Kafka transactions: {undone}, load {crowded:.1f} "
        f"for each processor; {verdict}"
    )
    assert again == 0
    assert undone == 0
    if crowded <= BUSY:
        assert max(back) <= LAG_BACK_S, back


@pytest.mark.fault("F1")
async def test_take_over(start: Start, figure: Figure) -> None:
    """From a worker's end to the first owner record of the last of its lanes: killed, and told to end."""
    rig = await start(22, workers=2)
    times: dict[signal.Signals, list[float]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    for number in [signal.SIGKILL, signal.SIGTERM] * ROUNDS:
        rig.revive()
        for slot in rig.running():
            await started(slot)
        await shared(rig, 2)
        slot = rig.any_running()
        lanes, seen = rig.lanes_of(slot), len(rig.watched.owners)
        assert slot.process is not None
        slot.ended_by_us = True
        at_ms = time.time_ns() // 10**6
        slot.process.send_signal(number)

        def taken(lanes: list[int] = lanes, seen: int = seen) -> bool:
            return set(lanes) <= {one.lane for one in rig.watched.owners[seen:]}

        await until(taken, "its lanes are taken over")
        firsts = {
            lane: next(one.at_ms for one in rig.watched.owners[seen:] if one.lane == lane) for lane in lanes
        }
        times[number].append((max(firsts.values()) - at_ms) / 1000)
        await until(lambda slot=slot: not slot.alive, "it has ended")  # type: ignore[misc]
    await rig.sound()
    for number, told in ((signal.SIGKILL, "killed"), (signal.SIGTERM, "drained")):
        figure(
            f"lanes of a {told} worker taken over after {statistics.median(times[number]):.2f} s (median of "
            f"{ROUNDS}), at most {max(times[number]):.2f} s; session timeout {SESSION_MS / 1000:g} s"
        )


async def test_the_figure(start: Start, figure: Figure) -> None:
    """One line of numbers with kills and restarts going on: of workers, and of Redis without its data."""
    rig = await start(SEED, workers=2)
    rig.rate_per_s = 1000
    await rig.progress(everywhere=True)
    rig.watched.late_ms.clear()
    began, before = time.monotonic(), rig.watched.results
    faults = 0
    for number in range(12):
        await rig.progress(3000)
        if number % 4 == 3:
            await rig.empty(rig.primary)
        elif number % 4 == 1:
            await rig.redis("FLUSHALL")
        else:
            await rig.end(rig.any_running(), signal.SIGKILL if number % 4 else signal.SIGTERM)
        faults += 1
    await rig.progress(3000, everywhere=True)
    took = time.monotonic() - began
    results = rig.watched.results - before
    told = rig.lateness()
    verdict = await rig.sound(store_kept=False)
    figure(
        f"THE FIGURE: {results / took:.0f} results/s of {rig.rate_per_s} CDR/s offered for {took:.0f} s, "
        f"with {faults} kills and restarts; {told}; {verdict}; seed {SEED}"
    )
