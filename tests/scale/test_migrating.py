"""A slot that is being moved key by key: whatever is asked of its bucket is done whole or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rater.core.amounts import Form
from rater.core.bucket.messages import DrawItem, Status, Use
from rater.errors import StoreDown
from rater.local.redis import Flavour
from scale.cluster import Cluster, ask, slot_of
from store.test_buckets import CLIENT, Lane, connected, dump

StartCluster = Callable[..., Awaitable[Cluster]]
GENERATION = 5


def item(number: int) -> DrawItem:
    """Return a call that costs 5 micros."""
    return DrawItem(0, b"%08d" % number, b"same", 0, Form(0, 5, 1), same_record=False, candidates=())


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
async def test_a_call_is_done_whole_or_not_at_all(
    start_cluster: StartCluster, prefix: str, flavour: Flavour
) -> None:
    """All that a call names may be there, and be gone while it runs: what it has dropped itself.

    In a slot that moves key by key, a key that a function has emptied counts as moved away, and its next
    command on it fails: half of the call would be done. So no call that writes is taken there.
    """
    cluster = await start_cluster(flavour, primaries=2, with_replicas=False)
    slot = slot_of(0)
    source = await cluster.primary(slot)
    (target,) = (node for node in cluster.nodes if node is not source)
    async with connected(source.url, prefix) as store:
        lane = await Lane(store).take()
        await lane.create(CLIENT)
        for generation in (GENERATION - 1, GENERATION + 1, GENERATION):
            reply = await lane.draw([item(generation)], [Use(CLIENT, 1, 0, [])], generation=generation)
            assert reply.status == Status.OK
        before, number = dump(source.url, prefix), lane.number
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", await ask(target, "CLUSTER", "MYID"))
        with pytest.raises(StoreDown, match="TryAgain"):
            await lane.draw([item(9)], [Use(CLIENT, 1, 0, [])], generation=GENERATION, trim=number - 1)
        with pytest.raises(StoreDown, match="TryAgain"):
            await lane.reconcile(drop_calls=list(range(number)), pending=[(number, b"", b"")])
        assert dump(source.url, prefix) == before
        await ask(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        reply = await lane.draw([item(9)], [Use(CLIENT, 1, 0, [])], generation=GENERATION, trim=number - 1)
        assert reply.status == Status.OK
        assert await lane.balance() == 4 * 5
