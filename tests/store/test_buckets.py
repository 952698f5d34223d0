"""The buckets on real servers: money that is exact or refused, and every fault of a server by its name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from importlib import resources
from typing import Any

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from rater.core.amounts import LIMIT, Form
from rater.core.bucket.messages import (
    DUE_HINTS_MAX,
    DUE_HOURS_MAX,
    EXPIRE_GENERATIONS_MAX,
    HOUR_MS,
    ClientWrite,
    CounterChange,
    DrawItem,
    DrawReply,
    DrawRequest,
    Due,
    ItemCandidate,
    Outcome,
    Reconcile,
    Status,
    Use,
    hint_of,
    read_hint,
)
from rater.core.bucket.model import Bucket
from rater.errors import Halt, StoreDown
from rater.local.child import HOST
from rater.local.redis import Redis
from rater.store.buckets import Buckets
from rater.store.keys import Keys, meta_key
from rater.store.stored_clients import StoredClient

LENGTH_MS = 1000
CLIENT = "c"
NOTHING = Form(0, 0, 1)


@asynccontextmanager
async def connected(url: str, prefix: str, **options: Any) -> AsyncIterator[Buckets]:
    """A store of one bucket and one lane."""
    given = {"buckets": 1, "lanes": 1, "timeout_s": 30.0, **options}
    store = await Buckets.connect(url, prefix=prefix, **given)
    try:
        yield store
    finally:
        await store.close()


class Lane:
    """Lane 0 at bucket 0 of a store: remembers the number of the next call."""

    def __init__(self, store: Buckets) -> None:
        self.store = store
        self.token = 1
        self.number = 0
        self._keys = 0

    async def take(self) -> Lane:
        """Take the lane and register it."""
        self.number = (await self.store.fence(0, 0, self.token)).number
        _, self.number = await self.store.register(0, 0, self.token, self.number)
        return self

    async def draw(
        self, items: list[DrawItem], uses: list[Use], changes: list[ClientWrite] | None = None, **options: Any
    ) -> DrawReply:
        """Draw, with what is not given left empty."""
        given: dict[str, Any] = {
            "lane_ms": 0, "generation": 0, "trim": 0, "floor": 0, "accounts": [], "context": b"", **options,
        }  # fmt: skip
        request = DrawRequest(
            lane=0,
            token=self.token,
            number=self.number,
            changes=changes or [],
            uses=uses,
            items=items,
            **given,
        )
        reply = await self.store.draw(0, request)
        self.number = reply.number
        return reply

    async def create(self, *clients: str) -> None:
        """Make clients of version 1 without money."""
        await self.draw([], [], [ClientWrite(client, 0, 1, b"register") for client in clients])

    async def charge(self, micros: int) -> int:
        """Charge the client so much; returns what became of it."""
        self._keys += 1
        key = b"%08d" % self._keys
        item = DrawItem(0, key, b"same", 0, Form(0, micros, 1), same_record=False, candidates=())
        reply = await self.draw([item], [Use(CLIENT, 1, 0, [])])
        assert reply.status == Status.OK
        return reply.results[0].outcome

    async def reconcile(self, **what: Any) -> Status:
        """Add corrections."""
        request = Reconcile(lane=0, token=self.token, number=self.number, floor=0, **what)
        status, self.number = await self.store.reconcile(0, request)
        return status

    async def balance(self) -> int:
        """Return the client's balance."""
        found = await self.store.client(CLIENT)
        assert found is not None
        return found[1]


def dump(url: str, prefix: str) -> dict[bytes, bytes]:
    """Return all that the server holds under the prefix."""
    with redis.Redis.from_url(url) as admin:
        return {key: admin.dump(key) for key in admin.scan_iter(f"{prefix}*")}


# ------------------------------------------------------------------ money
@pytest.mark.parametrize("sign", [1, -1])
async def test_balance_reaches_the_limit_and_no_further(redis_url: str, prefix: str, sign: int) -> None:
    """A balance may be exactly 2^53 either way; what would pass it is refused, and nothing moves."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        assert await lane.charge(sign * (LIMIT - 1)) == Outcome.RATED
        assert await lane.charge(sign * 2) == Outcome.OUT_OF_RANGE
        assert await lane.charge(sign) == Outcome.RATED
        assert await lane.balance() == sign * LIMIT
        assert await lane.charge(sign) == Outcome.OUT_OF_RANGE
        assert await lane.balance() == sign * LIMIT
        assert await lane.charge(-sign * LIMIT) == Outcome.RATED
        assert await lane.balance() == 0


@pytest.mark.parametrize("beyond", [LIMIT + 1, LIMIT + 2, 2**61, -LIMIT - 1, -(2**61)])
async def test_balance_beyond_doubles_stays_exact(redis_url: str, prefix: str, beyond: int) -> None:
    """A sum beyond 2^53, where a double may be another integer, is kept exactly and never drawn from."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        await lane.reconcile(balances=[(CLIENT, beyond)])
        for micros in (1, -1, 0):
            assert await lane.charge(micros) == Outcome.OUT_OF_RANGE
        reply = await lane.draw([], [], [ClientWrite(CLIENT, 1, 2, b"", delta=-1 if beyond > 0 else 1)])
        assert (reply.status, reply.due) == (Status.DUE, [Due(CLIENT, None, beyond, {})])
        assert await lane.balance() == beyond
        await lane.reconcile(balances=[(CLIENT, 7 - beyond)])
        assert await lane.charge(1) == Outcome.RATED
        assert await lane.balance() == 8


@pytest.mark.parametrize("beyond", [2**62 + 2**12, 2**63 - 1, 2**63, -(2**63) - 1, 2**70])
async def test_sum_near_the_end_of_64_bits_changes_nothing(redis_url: str, prefix: str, beyond: int) -> None:
    """Corrections with a sum that Redis could not add are refused whole, also those that come before it."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT, "other")
        before = dump(redis_url, prefix)
        with pytest.raises(Halt, match=r"RATER_SUM .*:c:c would leave 64 bits"):
            await lane.reconcile(
                balances=[("other", 5), (CLIENT, beyond)], duplicates=[(0, b"12345678", b"same")]
            )
        assert dump(redis_url, prefix) == before


@pytest.mark.parametrize("used", [-1, LIMIT + 1, 2**61])
async def test_odd_counter_is_not_drawn_from(redis_url: str, prefix: str, used: int) -> None:
    """A counter below 0 or beyond 2^53 refuses what may draw from it; calls without limits are charged."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        await lane.reconcile(counters=[(CLIENT, "1.1.a", used)])
        limit = ItemCandidate(0, LIMIT, 1, False, False, False, 0, None, None)  # noqa: FBT003 - its own order
        items = [
            DrawItem(0, b"12345678", b"same", 1, Form(0, -1, 1), same_record=False, candidates=(limit,)),
            DrawItem(0, b"87654321", b"same", 1, Form(0, -1, 1), same_record=False, candidates=()),
        ]
        reply = await lane.draw(items, [Use(CLIENT, 1, 0, ["1.1.a"])])
        assert [result.outcome for result in reply.results] == [Outcome.OUT_OF_RANGE, Outcome.RATED]
        assert await store.client(CLIENT) == (b"register", -1, {"1.1.a": used})


async def test_change_of_a_balance_beyond_the_limit_is_due(redis_url: str, prefix: str) -> None:
    """A change that would take the balance out of the range does nothing, and tells what lies there."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        assert (await lane.draw([], [], [ClientWrite(CLIENT, 0, 1, b"", delta=-LIMIT)])).status == Status.OK
        for delta in (-1, -LIMIT):
            reply = await lane.draw([], [], [ClientWrite(CLIENT, 1, 2, b"", delta=delta)])
            assert (reply.status, reply.due) == (Status.DUE, [Due(CLIENT, None, -LIMIT, {})])
        assert await lane.balance() == -LIMIT


def hard_costs() -> list[tuple[Form, int]]:
    """Return costs whose exact value lies at, just below and just above a half, an integer and the limit."""
    found = []
    for d in (1, 2, 3, 7, 10**6, 2**26 - 1, 2**52 - 1, 2**52, 2**53 + 1, 10**17 + 3, 6 * 10**10, 2**70 + 1):
        for units in (0, 1, 66, 10**7, LIMIT - 1):
            for a in (1, -(10**7), 10**10 + 1, 3 * 10**23):
                for q in (0, 1, 10**7 - 1, 2**52, LIMIT - 1, LIMIT):
                    for r in {0, 1, d // 2, d // 2 + 1, (d + 1) // 2 - 1, d - 1}:
                        for sign in (1, -1):
                            found.append((Form(a, sign * (q * d + r) - a * units, d), units))  # noqa: PERF401
    return found


async def test_costs_are_rounded_exactly(redis_url: str, prefix: str) -> None:
    """Whatever form a cost has, the script charges what exact arithmetic does, rounded once, half up."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        costs = hard_costs()
        twin = Bucket()
        twin.fence(0, 1)
        number = twin.register(0, 1, 1, 1)[1]
        size = 500
        names = [f"c{at}" for at in range(size)]
        await lane.create(*names)
        twin.draw(_call(number, changes=[ClientWrite(name, 0, 1, b"register") for name in names]))
        for at in range(0, len(costs), size):
            part = costs[at : at + size]
            items = [
                DrawItem(k, b"%08d" % (at + k), b"same", units, cost, same_record=False, candidates=())
                for k, (cost, units) in enumerate(part)
            ]
            uses = [Use(name, 1, 0, []) for name in names[: len(part)]]
            request = _call(lane.number, uses=uses, items=items)
            expected = twin.draw(request)
            reply = await store.draw(0, request)
            assert reply == expected
            lane.number = reply.number


def _call(number: int, **what: Any) -> DrawRequest:
    given = {"changes": [], "accounts": [], "uses": [], "items": [], "context": b"", **what}
    return DrawRequest(lane=0, token=1, number=number, lane_ms=0, generation=0, trim=0, floor=0, **given)


async def test_large_calls(redis_url: str, prefix: str) -> None:
    """A call beyond what Lua's stack takes at once (items, counters, clients) is done as any other."""
    count = 4200  # above 3,600, which is functions.lua's CHUNK
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        twin = Bucket()
        twin.fence(0, 1)
        twin.register(0, 1, 1, 1)
        fields = [f"1.1.{number}" for number in range(count)]
        candidates = [
            (ItemCandidate(at, 100, 1, False, False, False, 0, None, None),)  # noqa: FBT003 - its own order
            for at in range(count)
        ]
        items = [
            DrawItem(0, b"%08d" % at, b"same", 60, NOTHING, same_record=False, candidates=candidates[at])
            for at in range(count)
        ]
        request = _call(
            lane.number,
            changes=[
                ClientWrite(
                    f"c{at}",
                    0,
                    1,
                    b"register",
                    delta=at,
                    counters=[
                        CounterChange(f"2.{number}.a", 0, 0, 7) for number in range(0 if at else count)
                    ],
                )
                for at in range(count)
            ],
            uses=[Use("c0", 1, 0, fields)],
            items=[*items, *items[:10]],
            accounts=[(f"a{at}", f"c{at}") for at in range(count)],
        )
        reply = await store.draw(0, request)
        assert reply == twin.draw(request)
        assert reply.results[-1].outcome == Outcome.DUPLICATE
        names, accounts = [f"c{at}" for at in range(count)], [f"a{at}" for at in range(count)]
        views = await store.views(0, 0, 1, reply.number, names, accounts)
        assert views == twin.views(0, 1, reply.number, names, accounts)
        state, balance, used = await store.client("c0") or (b"", 0, {})
        moved = {f"2.{number}.a": 7 for number in range(count)}
        assert (state, balance, used) == (b"register", 0, dict.fromkeys(fields, 60) | moved)


# ------------------------------------------------------------------ provisioning and reading
@pytest.mark.parametrize(("what", "other"), [("buckets", {"buckets": 2}), ("lanes", {"lanes": 3})])
async def test_other_numbers_are_refused(
    redis_url: str, prefix: str, what: str, other: dict[str, int]
) -> None:
    """The numbers of buckets and lanes hold for ever; the fault says what is there and what is asked for."""
    async with connected(redis_url, prefix):
        pass
    with pytest.raises(Halt, match=rf"{re.escape(meta_key(prefix))} .* {what} = 1, and \d are asked for"):
        async with connected(redis_url, prefix, **other):
            pass


async def test_who_reads_fixes_nothing(redis_url: str, prefix: str) -> None:
    """A store that was emptied may get other numbers, whoever looks at it first; then they hold for all."""
    async with connected(redis_url, prefix, fixes=False):
        pass
    async with connected(redis_url, prefix, buckets=2, fixes=False):
        pass
    async with connected(redis_url, prefix, buckets=2):
        pass
    with pytest.raises(Halt, match="buckets = 2, and 1 are asked for"):
        async with connected(redis_url, prefix, fixes=False):
            pass


async def test_reading_for_people(redis_url: str, prefix: str) -> None:
    """Lists and look-ups give what was written, over several buckets, and leave out what does not exist."""
    names = [f"client {number}" for number in range(20)]
    async with connected(redis_url, prefix, buckets=3) as store:
        for bucket in range(3):
            call = (await store.fence(bucket, 0, 1)).number
            _, call = await store.register(bucket, 0, 1, call)
            mine = [name for name in names if store._by_bucket([name]).get(bucket)]  # noqa: SLF001
            changes = [ClientWrite(name, 0, 1, name.encode(), delta=5) for name in mine]
            request = _call(call, changes=changes, accounts=[(name, name) for name in mine])
            assert (await store.draw(bucket, request)).status == Status.OK
        assert sorted([name async for name in store.scan_clients()]) == sorted(names)
        assert await store.states([*names[:3], "nobody"]) == {name: name.encode() for name in names[:3]}
        assert await store.accounts([*names[:3], "none"]) == {name: name for name in names[:3]}
        assert await store.client(names[7]) == (names[7].encode(), 5, {})
        assert await store.client("nobody") is None
        every = await store.several([*names, "nobody"])
        assert every == {name: StoredClient(name.encode(), 5, {}, {}) for name in names}


async def test_check_says_what_is_wrong(start_redis: Callable[..., Redis], prefix: str) -> None:
    """A server that would evict keys is named, with the setting to change; a good one is not."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        assert await store.check() == []
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("maxmemory-policy", "allkeys-lru")
            admin.function_flush()
        said = "\n".join(await store.check())
    assert f"127.0.0.1:{server.port} has maxmemory-policy allkeys-lru" in said
    assert "lacks the functions rater_v4" in said


# ------------------------------------------------------------------ generations
@pytest.mark.parametrize(("asked", "outcome"), [(3, 0), (4, 1), (5, 1), (6, 1), (7, 0)])
async def test_neighbour_generations_are_asked(redis_url: str, prefix: str, asked: int, outcome: int) -> None:
    """A repeat is found from the generation before and the one after: lanes are not equally far."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        item = DrawItem(0, b"12345678", b"same", 0, NOTHING, same_record=False, candidates=())
        assert (await lane.draw([item], [Use(CLIENT, 1, 0, [])], generation=5)).results[0].outcome == 0
        reply = await lane.draw([item], [Use(CLIENT, 1, 0, [])], generation=asked)
        assert reply.results[0].outcome == outcome


async def test_allow_is_judged_before_the_record(redis_url: str, prefix: str) -> None:
    """Both sides of a record see the balance before it; the next record sees what they left."""
    limit = ItemCandidate(
        0, 100, 1, money=False, waive=False, allow=True, cap=0, to_package=None, to_client=None
    )
    items = [
        DrawItem(0, b"%08d" % at, b"same", 1, Form(0, -1, 1), same_record=at == 1, candidates=(limit,))
        for at in range(3)
    ]
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        reply = await lane.draw(items, [Use(CLIENT, 1, 0, ["1.1.a"])])
        assert [result.balance_sufficient for result in reply.results] == [True, True, False]
        assert [len(result.takes) for result in reply.results] == [1, 1, 0]


async def test_generations_go_with_the_slowest_lane(redis_url: str, prefix: str) -> None:
    """Duplicate entries are dropped when no lane can ask for them any more: the slowest lane says when."""
    async with connected(redis_url, prefix, lanes=2) as store:
        fast = Lane(store)
        calls = {}
        for lane in (0, 1):
            calls[lane] = (await store.fence(0, lane, 1)).number
            _, calls[lane] = await store.register(0, lane, 1, calls[lane])
        fast.number = calls[0]
        await fast.create(CLIENT)
        item = DrawItem(0, b"12345678", b"same", 0, NOTHING, same_record=False, candidates=())
        assert (await fast.draw([item], [Use(CLIENT, 1, 0, [])], generation=3)).status == Status.OK
        slow = calls[1]
        # A lane without a time, then one whose records are still in the next generation, hold it back.
        for slow_ms in (0, 4 * LENGTH_MS + 999):
            _, slow, dropped = await store.expire(0, 1, 1, slow, slow_ms, LENGTH_MS)
            assert dropped == 0
            _, fast.number, dropped = await store.expire(0, 0, 1, fast.number, 90 * LENGTH_MS, LENGTH_MS)
            assert dropped == 0
        assert (await fast.draw([item], [Use(CLIENT, 1, 0, [])], generation=4)).results[0].outcome == 1
        _, slow, dropped = await store.expire(0, 1, 1, slow, 5 * LENGTH_MS, LENGTH_MS)
        assert dropped == 1
        assert (await fast.draw([item], [Use(CLIENT, 1, 0, [])], generation=4)).results[0].outcome == 0


async def test_many_duplicates(redis_url: str, prefix: str) -> None:
    """However many entries a generation has and the one before had: each is found, none takes 40 bytes."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        made = [blake2b(b"%d" % n, digest_size=8).digest() for n in range(90_000)]
        for at in range(0, len(made), 15_000):
            await lane.reconcile(duplicates=[(3, key, b"same") for key in made[at : at + 15_000]])
        with redis.Redis.from_url(redis_url) as admin:
            size: Any = admin.memory_usage(f"{prefix}{{0}}:u:3", samples=0)
        assert size / len(made) < 40

        async def outcomes(keys: list[bytes], generation: int, content: bytes = b"same") -> set[int]:
            items = [DrawItem(0, key, content, 0, NOTHING, same_record=False, candidates=()) for key in keys]
            reply = await lane.draw(items, [Use(CLIENT, 1, 0, [])], generation=generation)
            assert reply.status == Status.OK
            return {result.outcome for result in reply.results}

        some = made[::40]
        new = [blake2b(b"new %d" % n, digest_size=8).digest() for n in range(5000)]
        for generation in (3, 4, 2):
            assert await outcomes(some, generation) == {Outcome.DUPLICATE}
            assert await outcomes(some, generation, b"else") == {Outcome.DIFFERS}
        assert await outcomes(new, 4) == {Outcome.RATED}
        assert await outcomes(new, 4) == await outcomes(new, 5) == {Outcome.DUPLICATE}
        await lane.reconcile(forget=[(3, key) for key in some], duplicates=[(3, some[0], b"else")])
        assert await outcomes(some[1:], 3) == {Outcome.RATED}
        assert await outcomes(some[:1], 3, b"else") == {Outcome.DUPLICATE}
        assert await outcomes(made[1::40], 3) == {Outcome.DUPLICATE}


@pytest.mark.parametrize(("small", "last"), [(False, False), (True, False), (False, True)])
async def test_duplicates_that_share_cells(redis_url: str, prefix: str, *, small: bool, last: bool) -> None:
    """Whoever has the cell of a key: it is found in each generation near, and kept once.

    small: the generation has two cells, which are soon taken. last: it has three chunks left.
    """
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        with redis.Redis.from_url(redis_url) as admin:
            name = f"{prefix}{{0}}:u:3"
            if small:
                admin.hset(name, mapping={"z": 2, "n": 0, "o": 0, "w": 3})
            if last:
                admin.hset(name, mapping={"z": 2**20, "n": 0, "o": 0, "w": 3, "s": 65535 - 3})
            made = [bytes([n % 5, 0, 0, 0, n % 3, n // 256, n % 256, 0]) for n in range(3000)]
            made += [blake2b(b"%d" % n, digest_size=8).digest() for n in range(9000)]

            async def outcomes(keys: list[bytes], generation: int = 3, content: bytes = b"same") -> set[int]:
                items = [
                    DrawItem(0, key, content, 0, NOTHING, same_record=False, candidates=()) for key in keys
                ]
                reply = await lane.draw(items, [Use(CLIENT, 1, 0, [])], generation=generation)
                return {result.outcome for result in reply.results}

            for at in range(0, len(made), 1500):
                part = made[at : at + 1500]
                assert await outcomes(part[:40]) == {Outcome.RATED}
                assert await outcomes(part[40:]) == {Outcome.RATED}
                for generation in (3, 4, 2):
                    assert await outcomes(part, generation) == {Outcome.DUPLICATE}
                    assert await outcomes(part, generation, b"else") == {Outcome.DIFFERS}
                gone = part[::7]
                await lane.reconcile(forget=[(3, key) for key in gone])
                assert await outcomes(gone) == {Outcome.RATED}
                await lane.reconcile(duplicates=[(3, key, b"else") for key in gone])
                assert await outcomes(gone) == {Outcome.DIFFERS}
            fields: Any = admin.hgetall(name)
        counts = {count: int(fields.pop(count)) for count in (b"n", b"o", b"w", b"s", b"e", b"k", b"z")}
        assert sorted(at[:8] for texts in fields.values() for at in entries(texts)) == sorted(made)
        assert counts[b"k"] + counts[b"n"] >= len(made)
        assert 2 <= counts[b"k"] < 4500 if small or last else counts[b"k"] > 8000


def entries(text: bytes) -> list[bytes]:
    """Return the entries of a chunk or a group of duplicates: key and content of each."""
    return [text[at : at + 12] for at in range(0, len(text), 12)]


async def test_cells_of_a_call_that_came_to_nothing(redis_url: str, prefix: str) -> None:
    """A refused call leaves no key behind: when it is asked again its keys are new, and then known."""
    cost = Form(5, 0, 1)
    keys = [bytes([n % 2, 0, 0, 0, 7, n, 0, 0]) for n in range(20)]
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        items = [DrawItem(0, key, b"same", 1, cost, same_record=False, candidates=()) for key in keys]
        cut = [DrawItem(0, key, b"same", 1, cost, same_record=False, candidates=(), cut=True) for key in keys]
        for _ in range(2):
            assert (await lane.draw(cut, [Use(CLIENT, 1, 0, [])])).status == Status.MORE
        reply = await lane.draw(items, [Use(CLIENT, 1, 0, [])])
        assert {result.outcome for result in reply.results} == {Outcome.RATED}
        reply = await lane.draw(items, [Use(CLIENT, 1, 0, [])])
        assert {result.outcome for result in reply.results} == {Outcome.DUPLICATE}


async def test_first_key_of_a_generation_whose_cell_is_taken(redis_url: str, prefix: str) -> None:
    """A generation whose first key has to go to a group, for a refused call has its cell, is asked for it.

    Also when the generation before has grown meanwhile, by which the number of cells is chosen.
    """
    refused, key, later = ((2**20 + 5).to_bytes(4, "little") + bytes([mark, 0, 0, 0]) for mark in range(3))
    use = [Use(CLIENT, 1, 0, [])]

    def item(one: bytes, **what: Any) -> DrawItem:
        return DrawItem(0, one, b"same", 1, Form(5, 0, 1), same_record=False, candidates=(), **what)

    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        assert (await lane.draw([item(refused, cut=True)], use, generation=3)).status == Status.MORE
        assert (await lane.draw([item(key)], use, generation=3)).results[0].outcome == Outcome.RATED
        with redis.Redis.from_url(redis_url) as admin:
            admin.hset(f"{prefix}{{0}}:u:2", mapping={"z": 2**20, "k": 2**18})
        for generation in (4, 2, 3):
            reply = await lane.draw([item(key)], use, generation=generation)
            assert reply.results[0].outcome == Outcome.DUPLICATE
        assert (await lane.draw([item(later)], use, generation=3)).results[0].outcome == Outcome.RATED
        assert (await lane.draw([item(later)], use, generation=4)).results[0].outcome == Outcome.DUPLICATE


@pytest.mark.parametrize("taken", [False, True])
async def test_a_key_that_was_out_of_range_is_new(redis_url: str, prefix: str, *, taken: bool) -> None:
    """What was not rated takes no cell for good, also where the same key is rated later in the call."""
    huge = Form(LIMIT, 0, 1)
    keys = [bytes([0, 0, 0, 0, 7, n, 0, 0]) for n in (0, 1, 2, 1)]
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        costs = [Form(5, 0, 1), huge, NOTHING, NOTHING]
        items = [
            DrawItem(0, key, b"same", 1, cost, same_record=False, candidates=())
            for key, cost in zip(keys, costs, strict=True)
        ]
        if taken:
            before = DrawItem(0, b"\0\0\0\0\x08\0\0\0", b"same", 0, NOTHING, same_record=False, candidates=())
            await lane.draw([before], [Use(CLIENT, 1, 0, [])])
        reply = await lane.draw(items, [Use(CLIENT, 1, 0, [])])
        assert [result.outcome for result in reply.results] == [0, Outcome.OUT_OF_RANGE, 0, 0]
        reply = await lane.draw(items[1:], [Use(CLIENT, 1, 0, [])])
        assert {result.outcome for result in reply.results} == {Outcome.DUPLICATE}


async def test_generations_go_in_bounded_steps(redis_url: str, prefix: str) -> None:
    """One call drops a bounded number of generations, also empty ones; repeated, it catches up."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.reconcile(duplicates=[(0, b"12345678", b"same"), (40, b"12345678", b"same")])
        steps = []
        for _ in range(4):
            _, lane.number, dropped = await store.expire(0, 0, 1, lane.number, 42 * LENGTH_MS, LENGTH_MS)
            steps.append(dropped)
        assert steps == [EXPIRE_GENERATIONS_MAX, EXPIRE_GENERATIONS_MAX, 9, 0]
        assert not [key for key in dump(redis_url, prefix) if b":u:" in key or b":f:" in key]


# ------------------------------------------------------------------ the due index, members, balances
async def test_hints_come_in_bounded_pieces(redis_url: str, prefix: str) -> None:
    """A reply brings so many hints and no more; what was read before is not brought again."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        hints = [hint_of(at * 1000, f"c{at}") for at in range(2 * DUE_HINTS_MAX + 10)]
        await lane.reconcile(hints=hints)
        known: dict[int, int] = {}
        found: list[tuple[int, bytes]] = []
        sizes = []
        for _ in range(4):
            reply = await store.due(0, 0, 1, lane.number, 9, known)
            assert reply.total == len(hints)
            for hour, elements in reply.hints:
                known[hour] = known.get(hour, 0) + len(elements)
                found += [(hour, element) for element in elements]
            sizes.append(sum(len(elements) for _, elements in reply.hints))
        assert sizes == [DUE_HINTS_MAX, DUE_HINTS_MAX, 10, 0]
        assert found == hints
        assert read_hint(*found[3700]) == (3_700_000, "c3700")


async def test_the_due_index_passes_a_long_gap(redis_url: str, prefix: str) -> None:
    """Hours that lie far apart are found; the lowest one moves on by a bounded number of them."""
    far = 3 * DUE_HOURS_MAX + 7
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.reconcile(hints=[(0, b"\x00\x00a"), (far, b"\x00\x00b")])
        for hour in (0, 0, 0, 0, far):
            reply = await store.due(0, 0, 1, lane.number, far, {})
            assert reply.hints[-1] == (far, [b"\x00\x00b"])
            gone = await store.drop_due(0, 0, 1, lane.number, hour, 1, far)
            assert gone.dropped == (len(reply.hints) == 2 or hour == far)
            lane.number = gone.number
        assert (await store.due(0, 0, 1, lane.number, far, {})).total == 0
        with redis.Redis.from_url(redis_url) as admin:
            assert admin.hget(Keys(prefix, 0, 1).gate, "due_min") == b"%d" % (far + 1)


async def test_an_hour_that_grew_is_not_dropped(redis_url: str, prefix: str) -> None:
    """What came since the caller has read stays, also where it is the same client once more."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.reconcile(hints=[(5, b"\x00\x00a")])
        await lane.reconcile(hints=[(5, b"\x00\x00a")])
        gone = await store.drop_due(0, 0, 1, lane.number, 5, 1, 5)
        assert (gone.status, gone.dropped) == (Status.OK, False)
        assert (await store.due(0, 0, 1, gone.number, 5, {5: 1})).hints == [(5, [b"\x00\x00a"])]


@pytest.mark.parametrize("lists", [1, 30 * 24 * 4])
async def test_memory_of_the_due_index(start_redis: Callable[..., Redis], prefix: str, lists: int) -> None:
    """A quarter of a million clients are hinted at in less than 40 bytes each.

    All at one midnight, or at every hour of 30 days in four buckets, whose lists lie in one here.
    """
    clients, server = 250_000, start_redis()
    async with connected(server.url, prefix) as store:
        lane = await Lane(store).take()
        with redis.Redis.from_url(server.url) as admin:
            before: Any = admin.info("memory")
            for at in range(0, clients, 5000):
                few = range(at, at + 5000)
                await lane.reconcile(hints=[hint_of(one % lists * HOUR_MS, f"client-{one}") for one in few])
            after: Any = admin.info("memory")
        each = (after["used_memory"] - before["used_memory"]) / clients
        print(f"{each:.1f} bytes for each of {clients} clients, in {lists} lists")  # noqa: T201 - the figure
        assert 8 < each < 40


async def test_views_bring_balances_beyond_doubles(redis_url: str, prefix: str) -> None:
    """A balance comes with the state, every digit of it; a client without a state has none."""
    async with connected(redis_url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create("a", "b")
        await lane.reconcile(balances=[("a", 2**53 + 1), ("new", 3)])
        reply = await store.views(0, 0, 1, lane.number, ["new", "b", "a"], ["account"])
        assert reply.balances == {"a": 2**53 + 1, "b": 0}


# ------------------------------------------------------------------ faults of a server
async def test_short_memory(start_redis: Callable[..., Redis], prefix: str) -> None:
    """Out of memory, nothing is drawn and nothing changes; old generations, which take room, are dropped."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        await lane.reconcile(duplicates=[(0, b"12345678", b"same")])
        before = dump(server.url, prefix)
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("maxmemory", 1)
            with pytest.raises(StoreDown, match=f"127.0.0.1:{server.port} does nothing.*maxmemory"):
                await lane.charge(1)
            assert dump(server.url, prefix) == before
            _, lane.number, dropped = await store.expire(0, 0, 1, lane.number, 9 * LENGTH_MS, LENGTH_MS)
            assert dropped == 8
            admin.config_set("maxmemory", 0)
        assert await lane.charge(1) == Outcome.RATED


async def test_replica_is_not_written(start_redis: Callable[..., Redis], prefix: str) -> None:
    """A server that has become a replica does nothing, until it is a primary again and the lane is taken."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        with redis.Redis.from_url(server.url) as admin:
            admin.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreDown, match=r"does nothing.*ReadOnlyError"):
                await lane.charge(1)
            admin.replicaof("NO", "ONE")
        assert await store.probe(0, 0, lane.token, lane.number) == Status.REGRESSED
        await lane.take()
        assert await lane.charge(1) == Outcome.RATED


async def test_flushed_functions_are_loaded_again(start_redis: Callable[..., Redis], prefix: str) -> None:
    """Where functions were removed, the call did nothing and they are loaded; repeated, it is done."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        with redis.Redis.from_url(server.url) as admin:
            admin.function_flush()
        with pytest.raises(StoreDown, match="loaded again"):
            await lane.charge(1)
        assert await lane.charge(1) == Outcome.RATED


async def test_emptied_store_knows_nobody(start_redis: Callable[..., Redis], prefix: str) -> None:
    """After FLUSHALL a lane is told to be taken again; taken, it starts from nothing."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        with redis.Redis.from_url(server.url) as admin:
            admin.flushall()
        assert await store.probe(0, 0, 1, lane.number) == Status.REGRESSED
        reply = await lane.draw([], [Use(CLIENT, 1, 0, [])])
        assert reply.status == Status.REGRESSED
        await lane.take()
        assert (await lane.draw([], [Use(CLIENT, 1, 0, [])])).status == Status.LOST


async def test_emptied_behind_a_stale_view(redis_url: str, prefix: str) -> None:
    """Where the fresh register is gone before it was read, the lane is taken again."""
    async with connected(redis_url, prefix) as store, AsyncRedis.from_url(redis_url) as server:
        lane = await Lane(store).take()
        await lane.draw([], [], [ClientWrite(CLIENT, 0, 2, b"register")])
        await server.delete(Keys(prefix, 0, 1).client_state + CLIENT)
        assert (await lane.draw([], [Use(CLIENT, 1, 0, [])])).status == Status.REGRESSED


async def test_another_run_is_closed_until_all_agree(start_redis: Callable[..., Redis], prefix: str) -> None:
    """A restarted server that kept its data decides nothing until every lane has registered again."""
    server = start_redis(append_only=True)
    async with connected(server.url, prefix, lanes=2) as store:
        calls = {}
        for lane in (0, 1):
            calls[lane] = (await store.fence(0, lane, 1)).number
            _, calls[lane] = await store.register(0, lane, 1, calls[lane])
        assert await store.probe(0, 0, 1, calls[0]) == Status.OK
        await asyncio.to_thread(server.restart)
        assert await store.probe(0, 0, 1, calls[0]) == Status.REGRESSED
        _, calls[0] = await store.register(0, 0, 1, calls[0])
        assert await store.probe(0, 0, 1, calls[0]) == Status.CLOSED
        assert await store.probe(0, 1, 1, calls[1]) == Status.REGRESSED
        _, calls[1] = await store.register(0, 1, 1, calls[1])
        assert await store.probe(0, 0, 1, calls[0]) == Status.OK


async def test_workers_of_the_versions_before_wait(redis_url: str, prefix: str) -> None:
    """Where a lane registers, the gates of rater_v1 to rater_v3 close: their workers would rate without us.

    And the other way round: what they had open does not open this version's gate.
    """
    async with connected(redis_url, prefix, lanes=2) as store, AsyncRedis.from_url(redis_url) as server:
        state = Keys(prefix, 0, 1).gate
        before: dict[Any, Any] = {
            "open": "run", "r:0": "run", "opened": "run", "run:0": "run", "agreed": "run", "in:0": "run",
        }  # fmt: skip
        others: dict[Any, Any] = {"r:1": "run", "run:1": "run", "in:1": "run", "t:0": "7"}
        await server.hset(state, mapping=before | others)
        call = (await store.fence(0, 0, 1)).number
        assert await store.probe(0, 0, 1, call) == Status.REGRESSED
        _, call = await store.register(0, 0, 1, call)
        assert await store.probe(0, 0, 1, call) == Status.CLOSED
        assert await server.hmget(state, *before) == [None] * 6
        assert await server.hmget(state, *others) == [b"run", b"run", b"run", b"7"]


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
async def test_a_server_that_leads_again_is_closed(
    start_redis: Callable[..., Redis], prefix: str, flavour: str
) -> None:
    """Failover, and back before all lanes have registered: the server's run is the same, its data is not.

    What it gets back says that it is open, of the time before it lost what was written since.
    """
    first, second = start_redis(flavour=flavour), start_redis(flavour=flavour)
    calls = {}
    async with connected(first.url, prefix, lanes=2) as store:
        for lane in (0, 1):
            calls[lane] = (await store.fence(0, lane, 1)).number
            _, calls[lane] = await store.register(0, lane, 1, calls[lane])
        assert await store.probe(0, 0, 1, calls[0]) == Status.OK
        await lead(second, first)
    async with connected(second.url, prefix, lanes=2) as store:
        assert await store.probe(0, 0, 1, calls[0]) == Status.REGRESSED
        _, calls[0] = await store.register(0, 0, 1, calls[0])
        assert await store.probe(0, 0, 1, calls[0]) == Status.CLOSED
        await lead(first, second)
    async with connected(first.url, prefix, lanes=2) as store:
        assert await store.probe(0, 0, 1, calls[0]) == Status.REGRESSED


async def lead(server: Redis, instead_of: Redis) -> None:
    """Make a server a replica that has all data of the other one, and then no replica any more."""
    async with AsyncRedis.from_url(server.url, decode_responses=True) as admin:
        await admin.replicaof(HOST, instead_of.port)
        async with asyncio.timeout(30):
            while (await admin.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
        await admin.replicaof("NO", "ONE")


async def test_key_of_another_kind(redis_url: str, prefix: str) -> None:
    """A key that somebody else writes stops the worker, with the prefix as the thing to look at."""
    async with connected(redis_url, prefix) as store:
        with redis.Redis.from_url(redis_url) as admin:
            admin.set(Keys(prefix, 0, 1).lane(0), "not a hash")
        with pytest.raises(Halt, match=r"WRONGTYPE.*redis\.prefix"):
            await store.fence(0, 0, 1)


OTHER = """#!lua name=rater_v4
local function other() return %s end
redis.register_function('rater_v4_fence', other)
redis.register_function('rater_v4_reconcile', other)
redis.register_function('rater_v4_register', other)
redis.register_function('rater_v4_draw', other)
redis.register_function('rater_v4_change', other)
redis.register_function('rater_v4_expire', other)
redis.register_function('rater_v4_views', other)
redis.register_function('rater_v4_probe', other)
redis.register_function('rater_v4_due', other)
redis.register_function('rater_v4_drop_due', other)
redis.register_function('rater_v4_members', other)
"""


STEPS: dict[str, Callable[[Buckets], Any]] = {
    "fence": lambda store: store.fence(0, 0, 1),
    "reconcile": lambda store: store.reconcile(0, Reconcile(0, 1, 0, 0)),
    "register": lambda store: store.register(0, 0, 1, 0),
    "draw": lambda store: store.draw(0, _call(0, uses=[Use(CLIENT, 1, 0, [])])),
    "change": lambda store: store.draw(0, _call(0, changes=[ClientWrite(CLIENT, 0, 1, b"")])),
    "views": lambda store: store.views(0, 0, 1, 0, [CLIENT], ["a"]),
    "probe": lambda store: store.probe(0, 0, 1, 0),
    "expire": lambda store: store.expire(0, 0, 1, 0, 0, LENGTH_MS),
    "due": lambda store: store.due(0, 0, 1, 0, 5, {}),
    "drop_due": lambda store: store.drop_due(0, 0, 1, 0, 5, 0, 5),
    "members": lambda store: store.list_members(0, 0, 1, 0, "p", 0, 9),
}


@pytest.mark.parametrize(
    ("reply", "steps"),
    [
        *((reply, tuple(STEPS)) for reply in ("'OK'", "{}", "false", "7", "{0}", "{99, 1}", "{0, 'x'}")),
        ("{0, 1}", ("fence", "draw", "change", "views", "expire", "due", "drop_due", "members")),
        ("{0, 1, 'x'}", ("fence", "draw", "change", "views", "due", "members")),
        ("{0, 1, 2, 0}", ("due",)),
        ("{5, 1, {7}}", ("draw", "change")),
        ("{7, 1, {7}}", ("draw", "change")),
        ("{7, 1, {{0, -1, 'x'}}}", ("change",)),
        ("{7, 1, {{0, -1, 5, 6}}}", ("change",)),
    ],
)
async def test_reply_of_other_functions(
    start_redis: Callable[..., Redis], prefix: str, reply: str, steps: tuple[str, ...]
) -> None:
    """A reply that this version cannot read is no result: Halt, naming function and bucket."""
    server = start_redis()
    async with connected(server.url, prefix) as store:
        with redis.Redis.from_url(server.url) as admin:
            admin.function_load(OTHER % reply, replace=True)
        for name in steps:
            with pytest.raises(Halt, match=rf"rater_v4_{name} at {prefix}.*functions\.lua"):
                await STEPS[name](store)


# ------------------------------------------------------------------ rights
async def _everything(store: Buckets) -> None:
    """Do each step that a worker may ask for, with something in it."""
    lane = await Lane(store).take()
    await lane.create(CLIENT)
    await lane.reconcile(
        balances=[(CLIENT, 5)],
        counters=[(CLIENT, "1.1.a", 1)],
        states=[(CLIENT, 1, b"register")],
        accounts=[("a", CLIENT)],
        duplicates=[(0, b"12345678", b"same")],
        forget=[(0, b"12345678")],
        pending=[(1, b"context", b"\x91\x00")],
        hints=[(7, b"\x00\x00c")],
        members=[("gold", CLIENT)],
        history=[(CLIENT, 1, "3.1", b"row")],
    )
    item = DrawItem(0, b"12345678", b"same", 0, NOTHING, same_record=False, candidates=())
    assert (await lane.draw([item], [Use(CLIENT, 1, 0, ["1.1.a"])], trim=1)).status == Status.OK
    assert (await lane.draw([], [Use(CLIENT, 9, 0, [])])).stale == [(CLIENT, b"register")]
    await lane.draw([], [], accounts=[("a", ""), ("b", CLIENT)])
    await store.views(0, 0, 1, lane.number, [CLIENT], ["b"])
    await store.probe(0, 0, 1, lane.number)
    assert (await store.due(0, 0, 1, lane.number, 7, {})).hints == [(7, [b"\x00\x00c"])]
    assert (await store.list_members(0, 0, 1, lane.number, "gold", 0, 9)).clients == [CLIENT]
    assert await store.history(CLIENT) == {"3.1": b"row"}
    gone = await store.drop_due(0, 0, 1, lane.number, 7, 1, 7)
    assert gone.dropped
    lane.number = gone.number
    _, lane.number, dropped = await store.expire(0, 0, 1, lane.number, 9 * LENGTH_MS, LENGTH_MS)
    assert dropped
    assert await store.client(CLIENT) is not None
    assert await store.states([CLIENT])
    assert await store.accounts(["b"])
    assert [name async for name in store.scan_clients()] == [CLIENT]
    assert [name async for name in store.members("gold")] == [CLIENT]
    assert [name async for name in store.members("silver")] == []
    assert await store.check() == []


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_rights_are_those_that_are_used(
    start_redis: Callable[..., Redis], user_rights: Any, prefix: str, flavour: str
) -> None:
    """The user of config/redis-worker.acl can do all that a worker does, and has no right beyond."""
    used: set[str] = set()
    for cluster in (False, True):
        server = start_redis(flavour=flavour, cluster=cluster)
        with redis.Redis.from_url(server.url) as admin:
            password = user_rights.set_user(admin, prefix)
            admin.config_resetstat()
            async with connected(server.url, prefix, username=prefix, password=password) as store:
                await _everything(store)
            stats: Any = admin.info("commandstats")
        used |= {name.removeprefix("cmdstat_") for name in stats}
    granted = {rule[1:] for rule in user_rights.rights(prefix) if rule.startswith("+")}
    assert granted == used - {"auth", "config|resetstat", "client|setinfo", "select", "hello"}


@pytest.mark.parametrize("right", ["+set", "+hset", "+hdel", "+hincrby", "+unlink"])
async def test_missing_right_is_found_before_anything_is_written(
    start_redis: Callable[..., Redis], user_rights: Any, prefix: str, right: str
) -> None:
    """A user who lacks what some WRITE phase needs takes no lane: a step would else stop half-way."""
    server = start_redis()
    with redis.Redis.from_url(server.url) as admin:
        rules = [rule for rule in user_rights.rights(prefix) if rule != right]
        password = user_rights.set_user(admin, prefix, rules)
    async with connected(server.url, prefix, username=prefix, password=password) as store:
        before = dump(server.url, prefix)
        with pytest.raises(Halt, match=rf"may not {right[1:].upper()} .*`rater config acl`"):
            await store.fence(0, 0, 1)
        assert dump(server.url, prefix) == before


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_functions_loaded_by_an_administrator(
    start_redis: Callable[..., Redis], user_rights: Any, prefix: str, flavour: str
) -> None:
    """Without the right to load, what an administrator has loaded is used; else the fault says how."""
    server = start_redis(flavour=flavour)
    with redis.Redis.from_url(server.url) as admin:
        rules = [rule for rule in user_rights.rights(prefix) if not rule.startswith("+function")]
        password = user_rights.set_user(admin, prefix, rules)
    with pytest.raises(Halt, match=r"grant \+function\|load, or let an administrator load them"):
        async with connected(server.url, prefix, username=prefix, password=password):
            pass
    async with connected(server.url, prefix):
        pass
    async with connected(server.url, prefix, username=prefix, password=password) as store:
        await Lane(store).take()


@pytest.mark.parametrize("rights", ["+function|list", ""])
async def test_functions_of_an_earlier_version_that_stay_are_told(
    start_redis: Callable[..., Redis], user_rights: Any, prefix: str, rights: str
) -> None:
    """Functions that lack what is called, and may not be replaced, are told at once: none waits for them."""
    server = start_redis()
    code = resources.files("rater.store").joinpath("functions.lua").read_text("utf-8")
    with redis.Redis.from_url(server.url) as admin:
        admin.function_load(code.replace("redis.register_function('rater_v4_change', bound(change))\n", ""))
        rules = [rule for rule in user_rights.rights(prefix) if not rule.startswith("+function")]
        password = user_rights.set_user(admin, prefix, [*rules, *rights.split()])
    with pytest.raises(Halt, match=r"grant \+function\|load, or let an administrator load them"):
        async with connected(server.url, prefix, username=prefix, password=password):
            pass


async def test_other_prefix_is_out_of_reach(
    start_redis: Callable[..., Redis], user_rights: Any, prefix: str
) -> None:
    """A worker's user cannot touch keys of another prefix."""
    server = start_redis()
    with redis.Redis.from_url(server.url) as admin:
        password = user_rights.set_user(admin, prefix)
    with pytest.raises(Halt, match=r"denied access.*`rater config acl`"):
        async with connected(server.url, f"{prefix}x", username=prefix, password=password):
            pass
