"""Changes that were outrun and lost, where more goes wrong than that (decision 0099)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from simulation import shelf
from simulation.checking import journaled, transactions_of
from simulation.life_checking import check_life
from simulation.test_outrun import HOME, OTHER, call, catalog, of_lane, order, outrun
from simulation.world import Slot, World

pytestmark = pytest.mark.usefixtures("simulated")

Row = dict[str, Any]
SEEDS = 3


async def begin(world: World, file: bytes | None = None) -> None:
    """Have a worker for each lane, and the catalog."""
    for _ in range(world.lanes):
        world.add_worker()
    await world.begin_load(file or catalog(), applied=True)
    await world.shared()


async def finished(world: World, *, lives: bool = True) -> None:
    """Let all be worked off, and check."""
    await world.drained(90.0)
    await world.stop_workers()
    world.faults += world.halts + (check_life(world) if lives else []) + await world.audited()


async def published(world: World, client: str, upon: int, lane: int | None = None) -> None:
    """Wait until a later version of a client is in the journal, or in that of a lane."""
    await world.until(
        lambda: any(
            said[5] == client and said[6] > upon and lane in (None, at[0]) for at, said in journaled(world)
        )
    )


def dies_at(world: World, slot: Slot, changed: Callable[[], bool]) -> list[int]:
    """Have a worker die at the draw with which something is so; returns what is not empty then."""
    gone: list[int] = []

    def done(_who: str, what: str) -> None:
        if what == "draw" and not gone and changed():
            gone.append(1)
            slot.wanted = False
            world.crash(slot)

    world.server.done = done
    return gone


def emptied(world: World) -> None:
    """Lose all, and let nothing more happen at draws."""
    world.server.done = lambda _who, _what: None
    world.server.lose()


def again(world: World, slot: Slot) -> None:
    """Start a worker again."""
    slot.wanted = True
    world.start(slot)


def version(world: World) -> int:
    """Return the version of the client in the store, 0: it is not there."""
    held = world.server.buckets[0].clients.get("42")
    return (held.version or 0) if held is not None else 0


def told(story: Callable[[World], Awaitable[None]], lanes: int = 2) -> None:
    """Tell a story with several seeds."""
    for seed in range(SEEDS):
        World(seed, lanes=lanes, window_days=1).run(story)


@pytest.mark.parametrize("who", ["late", "later"])
def test_one_client_of_a_chunk(who: str) -> None:
    """A load's chunk makes two clients, a call goes on from one of them: the other is made all the same.

    Though it is the last one with which the chunk tells that it is done.
    """
    file = json.loads(catalog(more=True))
    file["clients"].append({**file["clients"][1], "id": "later", "name": "later"})
    file["client_packages"].append({"id": "d", "client": "later", "package": "B"})

    async def story(world: World) -> None:
        await begin(world)
        slot, bucket = of_lane(world, HOME), world.server.buckets[0]
        gone = dies_at(world, slot, lambda: "later" in bucket.states)
        load = world.begin_load(json.dumps(file).encode())
        await world.until(lambda: gone)
        world.skip(3605)
        world.send(OTHER, call("n1", who))
        await published(world, who, 1)
        emptied(world)
        again(world, slot)
        await load
        await finished(world)
        world.faults += [
            f"{one} is not there" for one in ("late", "later") if one not in world.server.buckets[0].states
        ]

    told(story)


def test_a_take_over_that_keeps_outcomes_anew() -> None:
    """HOME's change is kept anew when it takes its lane again; another one's upon it is still that one's.

    HOME draws and loses the reply, OTHER draws upon it and hangs, HOME takes its lane again and goes on from
    that: it has to take a copy along, for OTHER dies and all is lost.
    """

    async def story(world: World) -> None:
        await begin(world)
        server, other, steps = world.server, of_lane(world, OTHER), [0]
        first = order("adjust", "2026-09-21T14:13:20Z", args={"amount": "1.00"}, reason="r")
        world.order({**first, "id": "x1", "key": "x1"})
        await published(world, "42", 1)
        await world.drained(20.0)  # and not trimmed
        world.skip(3588)
        steps[0] = version(world)

        def done(_who: str, what: str) -> None:
            if what != "draw" or version(world) <= steps[-1]:
                return
            steps.append(version(world))
            if len(steps) == 2:
                server.reply_lost = 1.0
                world.loop.outside(0.0001, setattr, server, "reply_lost", 0.0)
                world.skip(15)
                world.send(OTHER, call("n1"))
            elif len(steps) == 3:
                world.freeze(other, 5.9)

        server.done = done
        second = order("adjust", "2026-09-21T15:13:10Z", args={"amount": "5.00"}, reason="r")
        world.order({**second, "id": "x2", "key": "x2"})
        await world.until(lambda: len(steps) > 2)
        server.done = lambda _who, _what: None
        third = order("adjust", "2026-09-21T15:13:22Z", args={"amount": "2.00"}, reason="r")
        world.order({**third, "id": "x3", "key": "x3"})
        await published(world, "42", steps[-1])
        world.crash(other)
        server.lose()
        await finished(world)

    told(story)


@pytest.mark.parametrize("flushed", [False, True])
def test_a_copy_of_a_topic_that_is_gone(flushed: bool) -> None:  # noqa: FBT001
    """A renewal by a call was copied; the calls' topic is recreated: a call at its place brings nothing."""

    async def story(world: World) -> None:
        await begin(world)
        world.skip(3600)
        top_up = order("adjust", args={"amount": "5.00"}, reason="r")
        await outrun(world, OTHER, lambda: world.send(OTHER, call("n1")), lambda: world.order(top_up))
        before = fees(world)
        await world.stop_workers()
        world.broker.create("cdrs", 2, world.broker.settings["cdrs"])
        identity = base64.urlsafe_b64encode(world.broker.topic_ids["cdrs"]).rstrip(b"=").decode()
        world.settings = replace(world.settings, topics=replace(world.settings.topics, recreated=identity))
        for slot in world.slots:
            again(world, slot)
        await world.shared()
        if flushed:
            await asyncio.sleep(2.0)
            world.server.lose()
        world.send(OTHER, call("other"))
        await world.drained(60.0)
        await finished(world, lives=False)
        if fees(world) != before:
            world.faults.append(f"{before} fees were {fees(world)} behind a call of a new topic")

    told(story)


def fees(world: World) -> int:
    """Return how many fees were charged."""
    return Counter(one.said["type"] for one in transactions_of(world))["subscription_fee"]


def test_a_top_up_that_is_made_again_clears_what_waits() -> None:
    """A top-up, the second hour upon it, both lost; before it is made again the third hour waits."""
    file = json.loads(catalog())
    file["clients"][0]["balance"] = "2.10"

    async def story(world: World) -> None:
        await begin(world, json.dumps(file).encode())
        world.skip(3590)
        slot, upon = of_lane(world, HOME), version(world)
        gone = dies_at(world, slot, lambda: version(world) > upon)
        world.order(order("adjust", "2026-09-21T15:13:11Z", args={"amount": "8.00"}, reason="r"))
        await world.until(lambda: gone)
        upon = version(world)
        world.skip(15)
        world.send(OTHER, call("n1"))
        await published(world, "42", upon)
        emptied(world)
        world.skip(3600)
        world.send(OTHER, {**call("n2"), "answered_at": "2026-09-21T16:13:28Z"})
        again(world, slot)
        await finished(world)

    asked = shelf.Shelf.list_copies

    async def slowly(self: shelf.Shelf, bucket: int, lane: int, token: int, number: int) -> Any:
        await asyncio.sleep(1.5 if lane == HOME else 0.0)
        return await asked(self, bucket, lane, token, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shelf.Shelf, "list_copies", slowly)
        told(story)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_lost_twice(first: int, second: int) -> None:
    """A top-up is carried by a lane, lost, made again, carried by another, lost again: the newer copy holds.

    The one that carried it first comes to the bucket last.
    """

    async def story(world: World) -> None:
        await begin(world)
        world.skip(3590)
        home = of_lane(world, HOME)
        seen, dies = [version(world)], [True]

        def done(_who: str, what: str) -> None:
            if what != "draw" or version(world) <= seen[-1]:
                return
            seen.append(version(world))
            made = world.server.buckets[0].unsettled.get("42")
            if dies[0] and made is not None and made[0] == HOME:
                dies[0] = home.wanted = False
                world.crash(of_lane(world, HOME))

        world.server.done = done
        world.order(order("adjust", "2026-09-21T15:13:11Z", args={"amount": "8.00"}, reason="r"))
        await world.until(lambda: not dies[0])
        upon = seen[-1]
        world.skip(15)
        world.send(first, call("n1"))
        await published(world, "42", upon, first)
        dies[0] = True
        world.server.lose()
        seen.append(max(said[6] for _, said in journaled(world) if said[5] == "42"))
        again(world, home)
        await world.until(lambda: not dies[0])
        upon = version(world)
        world.skip(3600)
        world.send(second, {**call("n2"), "answered_at": "2026-09-21T16:13:28Z"})
        await published(world, "42", upon, second)
        slow = of_lane(world, first)
        emptied(world)
        world.freeze(slow, 3.0)
        again(world, home)
        await finished(world)

    told(story, lanes=3)
