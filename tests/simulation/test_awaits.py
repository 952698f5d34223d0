"""One small story, and a worker dies or stands still in it at every step that it takes."""

from __future__ import annotations

import asyncio
import os

import pytest

from simulation.checking import check
from simulation.scenario import call_of, catalog
from simulation.world import Failure, Slot, World

pytestmark = pytest.mark.usefixtures("simulated")

EACH = int(os.environ.get("RATER_AWAITS_EACH", "5"))
"""Every n-th step is tried, beginning with another one in each test; 1: all."""
PARTS = 6


async def story(world: World, slot: Slot, step: int, for_s: float) -> None:
    """Take a lane with a rebuilt store, load, rate, reject, find duplicates, commit; at a step it stops."""
    process = slot.process
    assert process is not None
    process.turns[step] = (lambda: world.freeze(slot, for_s)) if for_s else (lambda: world.crash(slot))
    await asyncio.sleep(0.05)
    world.add_worker()
    await world.begin_load(catalog(), applied=True)
    for number, client in enumerate(("free", "both", "volume", "money")):
        world.send(0, {**call_of(f"n{number}", client), "term": {"client": "vendor"}})
    world.send(0, b"{")
    await asyncio.sleep(0.09)
    world.server.lose()
    world.send(0, call_of("n0", "free"))
    world.send(0, call_of("n1", "both", 31))
    world.send(0, call_of("n4", "both"))
    load = world.begin_load(catalog(2))
    await asyncio.sleep(1.2)
    world.send(0, call_of("n5", "volume"))
    await load
    await asyncio.sleep(for_s + 1)
    world.heal()
    await world.drained(60.0)
    world.send(0, call_of("n2", "volume"))
    await world.drained(60.0)
    await world.stop_workers()
    await asyncio.sleep(0.1)
    world.faults += world.halts + check(world)


def play(step: int, for_s: float) -> int:
    """Play the story; returns how many steps the worker made in it."""
    world = World(7)

    async def begin(world: World) -> None:
        await story(world, world.add_worker(), step, for_s)

    try:
        world.run(begin, deadline_s=300.0)
    except Failure as failure:
        pytest.fail(f"step {step}:\n{failure.story}\n{failure}", pytrace=False)
    return world.processes[0].steps


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("for_s", [0.0, 8.0], ids=["dies", "stands still"])
def test_every_step(for_s: float, part: int) -> None:
    """Wherever a worker is killed, or frozen until its lanes are another's, nothing is lost or doubled."""
    steps = play(10**9, 0.0)
    first = 1 + part * EACH
    tried = range(first, steps, PARTS * EACH)
    assert len(tried) > 5
    for step in tried:
        play(step, for_s)
