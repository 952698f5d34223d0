"""Clients with lives of their own: the script leads to what they must have, and to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from rater.core.commands.records import write_command
from rater.core.kinds import Do
from rater.core.offline import Rater, Transaction
from rater.demo import catalog
from rater.demo.lives import LIVES, RENEWS, STOPS, WAITS, Doing, Order, Script, differences, has_lived
from rater.demo.tally import Tally

MADE_MS = 1_795_588_000_000  # 25 Nov 2026


class World:
    """The script's clients without Kafka and Redis, with a clock that goes on when somebody sleeps."""

    def __init__(self, *, loaded_after_s: int = 2, but: Callable[[Order], bool] = lambda _: False) -> None:
        """but: orders that get lost."""
        self.now_ms, self._but = MADE_MS + loaded_after_s * 1000, but
        self.until_ms = self.now_ms + 120_000
        self.rater, self.tally = Rater(), Tally(keep_ids=True)
        assert self.rater.load([("catalog.json", catalog.file_bytes(MADE_MS))], self.now_ms) == []
        self._seen()

    def _seen(self) -> None:
        transactions, events = self.rater.take()
        for value in transactions:
            self.tally.transaction(value)
        for value in events:
            self.tally.event(value)

    async def call(self, record: dict[str, Any]) -> None:
        """Rate a call."""
        for ended in self.rater.rate(orjson.dumps(record), self.now_ms):
            assert isinstance(ended, Transaction), ended
            self.tally.transaction(ended.value)
        self._seen()

    async def order(self, one: Order) -> None:
        """Carry a command out."""
        if self._but(one):
            return
        raw = write_command(
            one.name, one.do, self.now_ms // 1000 * 1000, one.args, client=one.client,
            client_package=one.client_package,
        )  # fmt: skip
        self.rater.command(raw, self.now_ms)
        self._seen()

    async def sleep(self, seconds: float) -> None:
        """Let time pass; what is due is done. Raises TimeoutError when the play takes too long."""
        self.now_ms += int(seconds * 1000)
        self.rater.tick(self.now_ms)
        self._seen()
        await asyncio.sleep(0)
        if self.now_ms > self.until_ms:
            raise TimeoutError

    async def play(self) -> None:
        """Play the script to its end, or for two minutes of its time."""
        doing = Doing(self.call, self.order, self.sleep, lambda: self.now_ms, 5.0)
        with contextlib.suppress(TimeoutError):
            await Script(MADE_MS, self.tally, doing).run()

    def balances(self) -> dict[str, int]:
        """Return what they have."""
        return {client: self.rater.balance(client) for client in LIVES}


@pytest.mark.parametrize("loaded_after_s", [0, 2, 60])
async def test_all_of_it_happens(loaded_after_s: int) -> None:
    """However late the catalog comes into use, each has what it must have, and all was seen once."""
    world = World(loaded_after_s=loaded_after_s)
    await world.play()
    assert all(has_lived(world.tally, client) for client in LIVES)
    assert differences(world.tally, world.balances()) == []
    assert world.tally.twice == []


async def test_what_did_not_happen_is_told() -> None:
    """Without the top-up one waits for ever; its balance and each thing that is missing are named."""
    world = World(but=lambda one: one.do == Do.ADJUST)
    await world.play()
    assert not has_lived(world.tally, WAITS)
    found = differences(world.tally, world.balances())
    assert f"client {WAITS} has 0 of charge_cleared, and must have 1" in found
    # Its call was charged at 0.10 a minute, and the one after it was not made: the script waits.
    assert f"client {WAITS} has 2.8, and must have 1" in found


async def test_what_is_too_much_is_told() -> None:
    """A fee or an event too many, another balance, and a refused command are differences."""
    world = World()
    await world.play()
    fee = {"id": "x", "type": "subscription_fee", "client": RENEWS, "amount": "-2", "currency": "USD"}
    world.tally.transaction(orjson.dumps(fee))
    event = {"id": "y", "type": "cancelled", "client": STOPS, "at": "2026-11-25T10:00:00.000Z"}
    world.tally.event(orjson.dumps(event))
    world.tally.refused.append("demo-303-assign: no")
    assert differences(world.tally, world.balances() | {WAITS: 1}) == [
        "the command demo-303-assign: no",
        "client 301 has 3 of subscription_fee, and must have 2",
        "client 302 has 0.000001, and must have 1",
        "client 303 has 1 of cancelled, and must have 0",
    ]


async def test_whoever_waits_is_topped_up() -> None:
    """One after the other, by what is missing and more; nobody is left in the end."""
    world = World()
    await world.play()
    waiting = len(world.tally.waiting)
    assert waiting > 1
    orders: list[Order] = []

    async def order(one: Order) -> None:
        orders.append(one)
        await world.order(one)

    doing = Doing(world.call, order, world.sleep, lambda: world.now_ms, 1.0)
    paying = asyncio.create_task(Script(MADE_MS, world.tally, doing).top_up())
    for _ in range(3 * waiting):
        await asyncio.sleep(0)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)
    assert world.tally.waiting == {}
    assert len(orders) == waiting
    assert world.tally.events["charge_cleared"] == waiting + 1
