"""A batch whose sides do not come to rest ends all the same, and so does one that lacks something."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fuzz.world import LOADED_MS, Lane, load_of
from rater.core.bucket.messages import DrawReply, DrawRequest, Status, ViewsReply
from rater.core.instants import instant
from rater.worker.ahead import ROUNDS_MAX

CALLS = 9


def calls(client: str = "42") -> list[bytes]:
    """Return calls of a client, the second of each pair with both sides."""
    at = instant(LOADED_MS).isoformat()
    return [
        json.dumps(
            {"id": f"n{n}", "called": "380501234567", "answered_at": at, "duration_ms": 1000 * n}
            | {"orig": {"client": client}} | ({"term": {"client": client}} if n % 2 else {})
        ).encode()
        for n in range(1, CALLS + 1)
    ]  # fmt: skip


def drawn(answer: Any) -> tuple[list[int], list[str]]:
    """Rate the calls at a store that answers draws so; returns the items of each draw, and the ids."""
    asked: list[int] = []

    async def go() -> list[str]:
        lane = Lane()
        await lane.rate(load_of().commands)
        real = lane.store.draw

        async def draw(bucket: int, request: DrawRequest) -> DrawReply:
            asked.append(len(request.items))
            return answer(lane, bucket, request) or await real(bucket, request)

        lane.store.draw = draw  # type: ignore[method-assign]
        batch = await lane.rate([], calls())
        assert not batch.rejected
        return [json.loads(value or b"")["id"] for _, value, _ in batch.transactions]

    ids = asyncio.run(go())
    return asked, ids


def wanted() -> list[str]:
    """Return the transactions of the calls, in the order of their records."""
    sides = [("orig", "term") if n % 2 else ("orig",) for n in range(1, CALLS + 1)]
    return [f"default/n{n}/{side}" for n, of in enumerate(sides, 1) for side in of]


def stale(lane: Lane, bucket: int, request: DrawRequest) -> DrawReply | None:
    """Answer that views are old, unless the call is of one record."""
    if len({item.older[:4] for item in request.items}) < 2 or len(request.items) < 3:
        return None
    states = lane.store.buckets[bucket].states
    fresh = [(use.client, states[use.client]) for use in request.uses]
    return DrawReply(Status.STALE, request.number, [], [], fresh)


def more(_lane: Lane, _bucket: int, request: DrawRequest) -> DrawReply | None:
    """Answer that the first limits did not do, unless the call is of one record."""
    if len(request.items) < 3:
        return None
    return DrawReply(Status.MORE, request.number, [], [], [], more=[0])


@pytest.mark.parametrize("answer", [stale, more])
def test_sides_that_do_not_come_to_rest_are_taken_apart(answer: Any) -> None:
    """In the end each record is asked alone, both of its sides together, in the order of the records."""
    asked, ids = drawn(answer)
    assert ids == wanted()
    assert asked[:ROUNDS_MAX] == [len(ids)] * ROUNDS_MAX
    assert sum(items < 3 for items in asked) == CALLS
    assert len(asked) <= ROUNDS_MAX * 2 * CALLS


def test_looking_up_ends_whatever_others_do_to_the_cache() -> None:
    """What was fetched for a batch stays with it, though the cache is emptied after each question."""

    async def go() -> None:
        lane = Lane()
        await lane.rate(load_of().commands)
        cache, asked = lane.shared.views, 0
        real = lane.store.views

        async def views(*arguments: Any) -> ViewsReply:
            nonlocal asked
            asked += 1
            cache.clear()
            return await real(*arguments)

        lane.store.views = views  # type: ignore[assignment,method-assign]
        cache.clients.clear()
        batch = await lane.rate([], calls())
        assert len(batch.transactions) == len(wanted())
        assert asked <= 2

    asyncio.run(go())
