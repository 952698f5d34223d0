"""A change that one lane has drawn and not published, another one publishes upon it, and Redis is emptied.

Nothing of the first is left but the copy that the second has with it (decision 0099).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest

from simulation.checking import journaled, transactions_of
from simulation.life import DIDS
from simulation.life_checking import check_life, events_of
from simulation.scenario import call_of
from simulation.world import Failure, Slot, World

pytestmark = pytest.mark.usefixtures("simulated")

HOME, OTHER = 0, 1
"""The lane of the commands of the one bucket, and one that has calls alone."""
OPENED = {"activated", "renewed", "renewed_late"}
Row = dict[str, Any]


def catalog(*, more: bool = False) -> bytes:
    """Return a client with two packages by the hour, of which one gives a number; more: another client."""
    package = {
        "type": "customer", "currency": "USD", "period": "1 hour",
        "fees": [{"type": "subscription", "name": "hour", "rate": "1.00"}],
    }  # fmt: skip
    client = {
        "currency": "USD",
        "balance": "20.00",
        "credit_limit": "0",
        "rate_tables": {"orig": {"calls": "retail"}},
    }
    clients = [
        {**client, "id": "42", "name": "42", "accounts": [{"id": "sip"}]},
        {**client, "id": "late", "name": "late"},
    ]
    assigned = [
        {"id": "a", "client": "42", "package": "A"}, {"id": "b", "client": "42", "package": "B"},
        {"id": "c", "client": "late", "package": "B"},
    ]  # fmt: skip
    return json.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [{"code": "1", "price": "1"}]}],
        "packages": [
            {**package, "id": "A", "name": "A", "did_limits": [{"quantity": 1, "on_hold_days": 1}]},
            {**package, "id": "B", "name": "B"},
        ],
        "dids": [{"number": DIDS[0]}],
        "clients": clients if more else clients[:1],
        "client_packages": assigned if more else assigned[:2],
    }).encode()  # fmt: skip


def call(name: str, client: str = "42") -> Row:
    """Return a call of an hour later."""
    return {**call_of(name, client), "answered_at": "2026-09-21T15:13:25.100Z"}


def order(do: str, at: str = "2026-09-21T15:13:21Z", **more: Any) -> Row:
    """Return a command."""
    return {"id": f"{do}-1", "key": f"{do}-1", "do": do, "client": "42", "at": at, "args": {}, **more}


def of_lane(world: World, lane: int) -> Slot:
    """Return where the worker runs that has a lane."""
    return next(slot for slot in world.slots if slot.worker and lane in slot.worker.readiness.lanes)


async def outrun(world: World, lane: int, first: Callable[[], object], second: Callable[[], object]) -> None:
    """Let a lane draw a change and die, another one publish one upon it, and Redis lose both."""
    slot, bucket = of_lane(world, lane), world.server.buckets[0]
    made = {name: held.version or 0 for name, held in bucket.clients.items()}
    changed: list[str] = []

    def done(_who: str, what: str) -> None:
        if what != "draw" or changed:
            return
        for name, held in bucket.clients.items():
            if (held.version or 0) > made.get(name, 0) and bucket.unsettled[name][0] == lane:
                changed.append(name)
                slot.wanted = False
                world.crash(slot)

    world.server.done = done
    first()
    await world.until(lambda: changed)
    upon = bucket.clients[changed[0]].version or 0
    second()
    await world.until(lambda: any(said[5] == changed[0] and said[6] > upon for _, said in journaled(world)))
    world.server.done = lambda _who, _what: None
    world.server.lose()
    slot.wanted = True
    world.start(slot)
    await world.drained(60.0)


async def renewal(world: World) -> None:
    """A call opens the second hour of both packages; a top-up is published upon it."""
    world.skip(3600)
    top_up = order("adjust", args={"amount": "5.00"}, reason="r")
    await outrun(world, OTHER, lambda: world.send(OTHER, call("n1")), lambda: world.order(top_up))


async def commanded(world: World, do: str, **asked: Any) -> None:
    """A command is carried out; a call opens the second hour upon it."""
    world.skip(3590)

    def calls() -> None:
        world.skip(15)
        world.send(OTHER, call("n1"))

    await outrun(world, HOME, lambda: world.order(order(do, "2026-09-21T15:13:11Z", **asked)), calls)


top_up = partial(commanded, do="adjust", args={"amount": "5.00"}, reason="r")
stop = partial(commanded, do="stop_now", client_package="a")
number = partial(commanded, do="did_assign", args={"number": DIDS[0], "account": "sip"})


async def load(world: World) -> None:
    """A load makes a client, with its balance and its first hour; a call opens the second one upon it."""
    loading: list[asyncio.Task[None]] = []

    def calls() -> None:
        world.skip(3605)
        world.send(OTHER, call("n1", "late"))

    await outrun(world, HOME, lambda: loading.append(world.begin_load(catalog(more=True))), calls)
    await loading[0]


async def nothing(_store: Any, _bucket: int, unsettled: list[tuple[str, int]], _own: Any) -> dict[str, Any]:
    """Return no copies, in place of `unpublished`."""
    return {client: [] for client, _ in unsettled}


STORIES: dict[str, tuple[Callable[[World], Awaitable[None]], dict[str, int], dict[str, int]]] = {
    "renewal": (renewal, {"42": 4}, {}),
    "top-up": (top_up, {"42": 4}, {"adjustment": 2}),
    "stop": (stop, {"42": 3}, {"refund": 1}),
    "number": (number, {"42": 4}, {}),
    "load": (load, {"late": 2}, {}),
}
"""Story, fees of a client that are charged in it, other transactions of the client."""


@pytest.mark.parametrize("name", STORIES)
def test_outrun(name: str) -> None:
    """What the first lane drew is published once, by its record, as it was; without the copy it is not."""
    story, fees, others = STORIES[name]

    async def told(world: World) -> None:
        for _ in range(2):
            world.add_worker()
        await world.begin_load(catalog(), applied=True)
        await world.shared()
        await story(world)
        for _ in range(2):  # whoever takes the lane next finds nothing to be made again
            world.crash(of_lane(world, HOME))
            await asyncio.sleep(10.0)
            world.send(HOME, call_of(f"m{world.loop.now}", "42"))
            await world.drained(60.0)
        await world.stop_workers()
        world.faults += world.halts + check_life(world) + await world.audited()
        ((client, count),) = fees.items()
        said = [one.said for one in transactions_of(world) if one.said["client"] == client]
        kinds = Counter(one["type"] for one in said)
        opened = Counter(
            (of["client_package"], of["period"]) for of in events_of(world) if of["type"] in OPENED
        )
        if kinds["subscription_fee"] != count or any(kinds[kind] != of for kind, of in others.items()):
            world.faults.append(f"{client} has {dict(kinds)}")
        if any(times > 1 for times in opened.values()):
            world.faults.append(f"opened {opened}")

    for seed in range(4):
        World(seed, lanes=2, window_days=1).run(told)
    with mock.patch("rater.worker.buckets.unpublished", nothing), pytest.raises(Failure) as failure:
        World(0, lanes=2, window_days=1).run(told)
    assert any(fault.startswith("I12") for fault in failure.value.faults)
