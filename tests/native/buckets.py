"""Calls of a bucket, made from a seed: the twin and the native bucket answer alike, and hold the same."""

from __future__ import annotations

from random import Random
from typing import Any

from msgspec.structs import replace

from native.shadow import SEEN, same
from rater.core.amounts import LIMIT, Form
from rater.core.bucket.messages import (
    ANY_RISE,
    ClientWrite,
    CounterChange,
    DrawItem,
    DrawReply,
    DrawRequest,
    FeeAsk,
    ItemCandidate,
    Status,
    Use,
    hint_of,
)
from rater.core.bucket.model import Bucket
from rater.jobs.native_rating import reply_of
from rater.native import engine
from rater.store.keys import Keys
from rater.store.packing import pack_draw

KEYS = Keys("rater:", 3, 4)
CLIENTS = ("c0", "c\u00e91", "c2")
LIMITS = ("1.1.a", "1.1.b", "2.7.a", "2.7.b")
SUMS = tuple(f"{period}.fee.{name}" for period in ("1.1", "2.7") for name in ("charged", "net", "amount"))
FIELDS = [*LIMITS, *SUMS]
CONTENTS = (b"same", b"same", b"same", b"else")
ANSWERED = {Status.OK, Status.LOST, Status.STALE, Status.DUE, Status.MORE}
"""What a bucket of one owner answers."""


def native_of(bucket: Bucket) -> engine.Bucket:
    """Return a native bucket that holds what the twin does."""
    made = engine.Bucket()
    for client, held in bucket.clients.items():
        made.put(client, held.version, held.balance, held.used)
    for generation, entries in bucket.duplicates.generations.items():
        for key, content in entries.items():
            made.remember(generation, key, content)
    return made


def check(twin: Bucket, native: engine.Bucket, request: DrawRequest, expected: DrawReply) -> None:
    """Have the native bucket carry out what the twin has, with this reply; raises Different."""
    if expected.status not in ANSWERED:
        return
    args = pack_draw(request, KEYS)
    found = reply_of(native.draw(args.keys, args.argv), request)
    if expected.status == Status.STALE:
        expected = replace(expected, stale=[(client, b"") for client, _ in expected.stale])
    same("reply", expected, found, request)
    held = {client: told(native.client(client)) for client in native.clients()}
    same(
        "clients",
        {name: told((one.version, one.balance, one.used)) for name, one in twin.clients.items()},
        held,
    )
    keys = sum(map(len, twin.duplicates.generations.values()))
    same("keys", keys, len(native))


def told(held: tuple[int | None, int, dict[str, int]] | None) -> object:
    """Return what is held of a client; a counter at 0 is none."""
    return held and (*held[:2], {field: used for field, used in held[2].items() if used})


class Maker:
    """Makes calls at a bucket."""

    def __init__(self, rng: Random, twin: Bucket) -> None:
        self.rng, self.twin = rng, twin

    def number(self, most: int = 200) -> int:
        """Return a number that is nearly always small."""
        return self.rng.randrange(most + 1) if self.rng.random() < 0.9 else self.rng.randrange(LIMIT + 1)

    def signed(self, most: int) -> int:
        """Return a number of either sign."""
        return self.rng.choice((-1, 1)) * self.number(most)

    def form(self) -> Form:
        """Return a cost, mostly one that doubles hold."""
        rng = self.rng
        if rng.random() < 0.8:
            sign = rng.choice((-1, -1, 1))
            return Form(
                sign * rng.randrange(300), sign * rng.randrange(200), rng.choice((1, 1, 2, 7, 60, 100))
            )
        return Form(self.signed(2**70), self.signed(2**70), rng.choice((1, rng.randrange(1, 2**70))))

    def rate(self) -> Form:
        """Return a conversion."""
        rng = self.rng
        most = rng.choice((9, 9, 9, 2**40))
        return Form(rng.randrange(1, most + 1), 0, rng.randrange(1, most + 1))

    def candidates(
        self, allows: tuple[bool, bool], cost: int, used: dict[str, int]
    ) -> tuple[ItemCandidate, ...]:
        """Return volume limits, then money limits; those of a client package agree in `allow`.

        cost: unsigned; some limits have just that left. used: of the client.
        """
        rng, found = self.rng, list[ItemCandidate]()
        kinds = sorted(rng.random() < 0.5 for _ in range(rng.randrange(5)))
        for field, money in zip(rng.sample(range(len(LIMITS)), len(LIMITS)), kinds, strict=False):
            group, exchange = rng.randrange(2), money and rng.random() < 0.4
            cap = rng.choice((0, self.number(100)))
            if found and not money and found[-1].cap > 0 and rng.random() < 0.7:
                group, cap = found[-1].group, -found[-1].cap - rng.choice((0, 0, 10))
            rate = self.rate() if exchange else None
            size = self.number(400)
            if money and rng.random() < 0.3:
                size = min(LIMIT, max(0, used.get(LIMITS[field], 0)) + (rate.at(cost) if rate else cost))
            found.append(
                ItemCandidate(
                    field, size, group, money, not money and rng.random() < 0.3, allows[group],
                    cap, rate, self.rate() if exchange else None,
                )
            )  # fmt: skip
        return tuple(found)

    def fee(self, funds: int) -> int:
        """Return a fee: some take just what there is."""
        just = 0 < funds <= LIMIT and self.rng.random() < 0.3
        return -funds if just else -self.number(80)

    def item(self, uses: list[Use]) -> DrawItem:
        """Return an item whose cost before packages is in range, as the caller has to see to."""
        rng, cost, billed = self.rng, self.form(), self.number()
        key, use = rng.randrange(40), rng.randrange(len(uses))
        cost = cost if abs(cost.at(billed)) <= LIMIT else Form(0, 0, 1)
        held = self.twin.clients.get(uses[use].client)
        funds = (held.balance if held else 0) + uses[use].credit_limit
        allows = rng.random() < 0.4, rng.random() < 0.4
        fees = tuple(
            FeeAsk(group, len(LIMITS) + 3 * group, self.signed(60), self.fee(funds), not allows[group])
            for group in rng.choice(((), (), (), (0,), (1,), (0, 1), (1, 0)))
        )
        limits = self.candidates(allows, abs(cost.at(billed)), held.used if held else {})
        return DrawItem(
            use=use, key=b"key%5d" % key, older=b"key%5d" % rng.choice((key, key, rng.randrange(40))),
            content=rng.choice(CONTENTS), billed=billed, same_record=rng.random() < 0.3,
            cost=cost, candidates=limits,
            cut=not fees and rng.random() < 0.1, fees=fees,
        )  # fmt: skip

    def low(self) -> int:
        """Return what a sum has to be at least."""
        return self.rng.choice((-LIMIT, -LIMIT, -LIMIT, -1000, 0))

    def high(self) -> int:
        """Return what a sum has to be at most."""
        return self.rng.choice((LIMIT, LIMIT, LIMIT, 1000))

    def change(self, client: str) -> ClientWrite:
        """Return a change; mostly it may be done."""
        rng, held = self.rng, self.twin.clients.get(client)
        version = (held and held.version) or 0
        counters = [
            CounterChange(field, self.low(), self.high(), rng.choice((0, self.signed(100))))
            for field in rng.sample([*FIELDS, "1.1.moved"], rng.randrange(4))
        ]
        return ClientWrite(
            client, version if rng.random() < 0.95 else 9, version + 1, b"state", self.low(), self.high(),
            self.signed(3000), counters, [hint_of(rng.randrange(10**9), client)], ["p"], [("1.1", b"row")],
        )  # fmt: skip

    def request(self, number: int) -> DrawRequest:
        """Return a call at the bucket as it is."""
        rng, twin = self.rng, self.twin
        changes = [self.change(client) for client in CLIENTS if rng.random() < 0.15]
        after: dict[str, Any] = {name: held.version for name, held in twin.clients.items()}
        after |= {change.client: change.version for change in changes}
        wrong = rng.choice((*[None] * 15, *CLIENTS))
        wait, low = (
            rng.choice((None, None, 0, ANY_RISE, self.signed(900))),
            rng.choice((None, 0, self.signed(900))),
        )
        uses = [
            Use(
                name, (after.get(name) or 0) + (name == wrong), rng.choice((0, 500, LIMIT)), FIELDS, wait, low
            )
            for name in CLIENTS
            if after.get(name) or rng.random() < 0.02
        ]
        items = [self.item(uses) for _ in range(rng.randrange(7))] if uses else []
        return DrawRequest(
            0, 0, number, 5, rng.choice((3, 3, 3, 4, 5)), 0, 0, changes, [], uses, items, b"context"
        )


def compare(seed: int, calls: int = 60) -> None:
    """Make calls; raises Different."""
    rng, twin = Random(f"bucket {seed}"), Bucket()  # noqa: S311 - the same again
    number = twin.fence(0, 0).number
    _, number = twin.register(0, 0, number, 1)
    native, maker = engine.Bucket(), Maker(rng, twin)
    for _ in range(calls):
        if rng.random() < 0.1 and twin.clients:  # as a store that was corrected may be
            held = twin.clients[rng.choice(sorted(twin.clients))]
            held.balance = rng.choice((any_sum(rng), 0, 700))
            held.used[rng.choice(FIELDS)] = any_sum(rng)
            native = native_of(twin)
        request = maker.request(number)
        expected = twin.draw(request)
        check(twin, native, request, expected)
        number = expected.number
        SEEN.sides += len(request.items)
        SEEN.requests += 1


def any_sum(rng: Random) -> int:
    """Return a sum as a fault of the store may leave it, or any other."""
    return rng.choice((-5, 0, 30, 2**54, -(2**54), LIMIT, -LIMIT))
