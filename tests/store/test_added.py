"""What the native engine has added up and packed does to Redis what the same values do."""

from __future__ import annotations

from contextlib import AsyncExitStack
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio
from engine_choice import is_native_here, unpacked
from kafka_form import batch_of

from rater.core.bucket.messages import Status
from rater.core.journal.reconciling import Reconciling
from rater.core.journal.records import Effect, effect_headers
from rater.store.buckets import Buckets
from rater.worker.adding import Adding

pytestmark = pytest.mark.skipif(not is_native_here(), reason="there is no native engine")
GENERATION_MS = 1000


def effects(rng: Random, count: int) -> list[Any]:
    """Return so many transactions of a few clients, in their order of time."""
    fields = ["1.1.a", "1.1.b", "2.1.fee.net"]
    return [
        SimpleNamespace(
            offset=at, key=b"", value=b"{}",
            headers=effect_headers(
                Effect(
                    "t", 0, at, rng.choice((0, 1, 2)), 0, at * 10, b"%8d" % rng.randrange(count), b"%4d" % at,
                    rng.choice(("a", "\u00fc", "c")), rng.choice((0, -1, 2**53, 7)),
                    [(of, rng.choice((-1, 1, 2**53))) for of in rng.sample(fields, rng.randrange(3))],
                )
            ),
        )
        for at in range(count)
    ]  # fmt: skip


async def dumped(server: Any, prefix: str) -> dict[bytes, Any]:
    """Return all that lies under a prefix, by the rest of its key."""
    found = {}
    async for name in server.scan_iter(match=f"{prefix}*"):
        kind = await server.type(name)
        found[name.removeprefix(prefix.encode())] = (
            await server.hgetall(name) if kind == b"hash" else await server.get(name)
        )
    return found


@pytest.mark.parametrize("count", [0, 1, 20, 700])
async def test_packed_as_unpacked(redis_url: str, prefix: str, count: int) -> None:
    """Sums, duplicates of several generations, and a change beside them that Python has read."""
    from rater.native.holding import Native  # noqa: PLC0415 - it is here

    records, held = effects(Random(count), count), []  # noqa: S311 - the same again
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
        for way in ("packed", "unpacked"):
            own = f"{prefix}{way}:"
            store = await Buckets.connect(redis_url, prefix=own, buckets=1, lanes=1)
            stack.push_async_callback(store.close)
            fenced = await store.fence(0, 0, 50)
            found = Reconciling(fenced, bucket=0, buckets=1, positions={}, generation_ms=GENERATION_MS)
            adding = Adding([found], GENERATION_MS, Native())
            if records:
                adding.read_batch(batch_of(records), 0, count)
            what = adding.with_sums(0, found.finish(0, 50, fenced.number, 50))
            assert what.added is not None
            what.balances, what.counters = [("b", 5), ("a", 1)], [("a", "9.1.x", 3)]
            what.duplicates = [(1, b"otherkey", b"same")]
            what.states = [("a", 1, b"state")]
            status, _ = await store.reconcile(0, what if way == "packed" else unpacked(what))
            assert status == Status.OK
            held.append(await dumped(server, own))
    assert held[0] == held[1]
    assert len(held[0]) >= 4
