"""What a version before 2026-12 left in the store of a load that it did not publish is carried to its end."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from rater.core.bucket.model import Bucket
from rater.core.journal.outcomes import KeptChange, unpack_kept
from simulation.checking import check
from simulation.scenario import catalog
from simulation.world import World

pytestmark = pytest.mark.usefixtures("simulated")


def as_earlier(bucket: Bucket, left_out: str | None) -> int:
    """Put a lane's outcomes of changes into the form of then; returns how many changes they hold.

    left_out: a client whose version was old then, so that its part of the call was not done.
    """
    found = 0
    for number, (context, packed) in list(bucket.lanes[0].outcomes.items()):
        kept = unpack_kept(context, packed)
        changes = [one for one in kept if isinstance(one, KeptChange)]
        if not changes:
            continue
        entries, done = [], []
        for one in changes:
            opening = one.transactions[0].value if one.transactions else None
            apply = msgpack.encode(["apply", one.version, one.state, one.delta, opening])
            place = (one.topic, one.offset, one.index, one.record_ms)
            entries.append([*place, b"", b"", one.client, apply])
            done.append(int(one.client != left_out))
        if left_out is not None:
            del bucket.clients[left_out], bucket.states[left_out]
        bucket.lanes[0].outcomes[number] = msgpack.encode(entries), msgpack.encode([len(done), *done])
        found += len(changes)
    return found


@pytest.mark.parametrize("left_out", [None, "late"])
def test_a_load_that_an_earlier_version_drew(left_out: str | None) -> None:
    """Its clients and opening balances are published as they were decided; that it is done is told once.

    What its call had left out is done too.
    """

    async def story(world: World) -> None:
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)

        def done(_who: str, what: str) -> None:
            if what == "draw" and "late" in world.server.buckets[0].clients:
                slot.wanted = False
                world.crash(slot)

        world.server.done = done
        await world.begin_load(catalog(2))
        world.server.done = lambda _who, _what: None
        assert as_earlier(world.server.buckets[0], left_out) == 2
        slot.wanted = True
        world.start(slot)
        world.heal()
        await world.drained(60.0)
        await world.stop_workers()
        world.faults += world.halts + check(world)
        assert world.server.buckets[0].clients["late"].balance == 5_000_000

    World(1).run(story)
