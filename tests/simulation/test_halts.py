"""Where data is gone the worker stops with a sentence: it neither waits for ever nor goes on without it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from simulation.broker import Partition
from simulation.checking import check
from simulation.scenario import call_of, catalog
from simulation.world import World

pytestmark = pytest.mark.usefixtures("simulated")

Harm = Callable[[World], None]


def play(harm: Harm, *, halts: bool) -> str:
    """Rate some calls, stop the worker, do harm, start it again; returns what it stopped with."""

    async def story(world: World) -> None:
        world.may_halt = True
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        for number in range(4):
            world.send(0, call_of(f"n{number}", "both"))
            await world.drained(60.0)  # a commit each: what the store knows of the journal is one commit late
        world.crash(slot)
        slot.wanted = False
        world.send(0, call_of("unread", "free"))
        world.send(0, call_of("unread too", "free"))
        harm(world)
        slot.wanted = True
        world.start(slot)
        if halts:
            await world.until(lambda: world.halts)
            slot.wanted = False
        else:
            await world.drained(60.0)
            await world.stop_workers()
            await asyncio.sleep(0.1)
            world.faults += world.halts + check(world)

    world = World(1)
    world.run(story)
    return "\n".join(world.halts)


def begin_at(world: World, topic: str, offset: int) -> None:
    """Take away what lies before an offset."""
    world.broker.partition((topic, 0)).begin = offset


def test_truncated_journal_with_an_emptied_store() -> None:
    """A store that is to be rebuilt from what the journal no longer has: stop."""

    def harm(world: World) -> None:
        world.server.lose()
        begin_at(world, "transactions", 5)

    said = play(harm, halts=True)
    assert "CutError: transactions[0] begins at offset 5, but is needed from 0" in said


def test_truncated_journal_with_a_whole_store() -> None:
    """What the store has already is not needed: the worker goes on, and all sums hold."""
    play(lambda world: begin_at(world, "transactions", 2), halts=False)


def test_emptied_journal() -> None:
    """A journal without any mark left, though it had some: stop, and begin at no guessed place."""

    def harm(world: World) -> None:
        begin_at(world, "transactions", world.broker.partition(("transactions", 0)).end)

    assert "Halt: transactions[0] begins at offset" in play(harm, halts=True)


def test_recreated_journal() -> None:
    """A journal that begins anew while the store knows the old one: stop."""

    def harm(world: World) -> None:
        world.broker.topics["transactions"] = [Partition()]

    assert "Halt: Redis knows of lane 0 what lies beyond the end of transactions[0]" in play(harm, halts=True)


def test_unread_input_removed() -> None:
    """Retention that takes away calls nobody has rated: stop."""
    said = play(lambda world: begin_at(world, "cdrs", 5), halts=True)
    assert "Halt: cdrs[0] begins at offset 5, but was read up to 4 only" in said


def test_read_input_removed() -> None:
    """Retention that takes away what was rated does not matter."""

    def harm(world: World) -> None:
        begin_at(world, "cdrs", 4)

    play(harm, halts=False)


def test_recreated_input_that_is_shorter() -> None:
    """An input topic that ends before our position is another one: stop."""

    def harm(world: World) -> None:
        world.broker.topics["cdrs"] = [Partition()]

    assert "Halt: cdrs[0] is not the topic that was read before" in play(harm, halts=True)


def test_recreated_input_that_is_longer() -> None:
    """An input topic that was recreated and has grown past our position is found by its record's time."""

    def harm(world: World) -> None:
        world.broker.topics["cdrs"] = [Partition()]
        for number in range(9):
            world.send(0, call_of(f"other{number}", "free"))

    assert "Halt: cdrs[0] is not the topic that was read before" in play(harm, halts=True)


@pytest.mark.parametrize("topic", ["cdrs", "pbx", "commands", "transactions"])
def test_recreated_while_a_worker_runs(topic: str) -> None:
    """Also one without a single record: the worker stops within seconds, and writes no more."""

    async def story(world: World) -> None:
        world.may_halt = True
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        world.send(0, call_of("n1", "both"))
        await world.drained(60.0)
        slot.wanted = False
        at = world.loop.now
        world.broker.create(topic, 1, world.broker.settings[topic])
        await world.until(lambda: world.halts)
        assert world.loop.now - at < 5
        (journal,) = world.broker.topics["transactions"]
        assert topic != "transactions" or not journal.entries

    world = World(1, extra_topic=True)
    world.run(story)
    assert re.search(rf"{topic}(\[0\])? is not the topic that was read before", "".join(world.halts))


def test_what_was_drawn_of_a_topic_that_is_gone_is_undone() -> None:
    """An input topic that is read anew: no outcome of the old one is published for a record of the new one.

    A call of the old topic was drawn and not published; at its offset lies another call now. Nothing of the
    first is left, the second is rated, and what comes again of what was published is a duplicate.
    """

    async def story(world: World) -> None:
        world.may_halt = True
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        world.send(0, call_of("n1", "both"))
        await world.drained(60.0)
        world.server.done = lambda _who, what: world.crash(slot) if what == "draw" else None
        world.send(0, call_of("lost", "both", 50))
        slot.wanted = False
        await world.until(lambda: slot.worker is None)
        world.server.done = lambda _who, _what: None
        world.broker.create("cdrs", 1, world.broker.settings["cdrs"])
        world.sent.clear()
        world.send(0, call_of("n1", "both"))
        world.send(0, call_of("n2", "both", 20))
        slot.wanted = True
        world.start(slot)
        await world.until(lambda: world.halts)
        slot.wanted = False
        (identity,) = re.findall(r"topics.recreated = '(.{22})'", world.halts.pop())
        world.settings = replace(world.settings, topics=replace(world.settings.topics, recreated=identity))
        for number in (3, 4):  # the second time its id stands in the mark
            slot.wanted = True
            world.start(slot)
            world.send(0, call_of(f"n{number}", "both"))
            await world.drained(60.0)
            await world.stop_workers()
        world.faults += world.halts + check(world)

    World(1).run(story)
