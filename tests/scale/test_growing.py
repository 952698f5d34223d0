"""Partitions are added by `rater topics grow`, between two runs of workers; each call is rated once."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from line.test_snapshots import CATALOG, FEW, OFTEN, command, empty, findings, rounds, send, state
from rater import app
from rater.errors import Halt
from rater.store.keys import meta_key
from rater.stream.partitions import add_partitions
from traffic import calls, catalog, distinct_sides

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
BEFORE, AFTER = 2, 4
TWO_BUCKETS = {"RATER_REDIS__BUCKETS": "2"}
NO_MORE = {**TWO_BUCKETS, "RATER_WORKER__SNAPSHOTS_EVERY_S": "0"}
"""The snapshots that there are stay those of before."""


@pytest.mark.long
async def test_partitions_are_added(system_of: SystemOf) -> None:
    """Calls of before are known in new partitions, others rated; Redis comes back by snapshots of before."""
    made = calls(500, 7, time.time_ns() // 1_000_000, **FEW)
    narrow = await system_of(partitions=BEFORE, environ={**TWO_BUCKETS, **OFTEN})
    wide = await system_of(partitions=AFTER, environ=NO_MORE)
    async with narrow.worker():
        await narrow.load(CATALOG)
        await send(narrow, made[:200])
        await narrow.settled()
        await rounds(narrow, int(time.time() * 1000))
        with pytest.raises(Halt, match="1 worker runs in the group"):
            await app.grow_topics(wide.settings, print)
    await send(narrow, made[200:300])  # which wait
    await refused(wide, "add some by `rater topics grow`")
    await add_partitions(wide.client, [wide.topics.transactions], AFTER)  # as who was interrupted left them
    await refused(narrow, "has 4 partitions, but topics.partitions is 2")
    code, printed, said = await command(wide, "topics", "grow", "--json")
    assert (code, json.loads(printed)) == (0, {"before": BEFORE, "partitions": AFTER}), said
    await refused(narrow, "has 4 partitions, but topics.partitions is 2")
    wide.sent |= narrow.sent
    async with wide.worker():
        await send(wide, made[:400])  # three quarters of them again, in other partitions than before
        await wide.settled()
        assert (await wide.load(catalog(FEW["clients"] + 1, FEW["contested_clients"]))).version == 2
        await send(wide, made[400:])
        await wide.settled()
    before = await state(wide)
    await empty(wide)
    async with wide.worker():
        await send(wide, made)
        await wide.settled()
    assert await state(wide) == before
    assert await findings(wide) == []
    usage = [
        (record.partition, json.loads(record.value))
        for record in await wide.read(wide.topics.transactions)
        if record.value and b'"type":"usage"' in record.value
    ]
    assert sorted(one["id"] for _, one in usage) == sorted(distinct_sides(made))
    assert {lane for lane, _ in usage} == set(range(AFTER))


async def refused(system: Any, why: str) -> None:
    """See that no worker starts, and that it says why."""
    with pytest.raises(Halt, match=why):
        async with system.worker():
            pass


async def test_again_changes_nothing(system_of: SystemOf) -> None:
    """Done twice, or begun again behind the last step but one, no lane gets a catalog twice."""
    narrow = await system_of(partitions=BEFORE, environ=TWO_BUCKETS)
    wide = await system_of(partitions=AFTER, environ=TWO_BUCKETS)
    async with narrow.worker():
        await narrow.load(CATALOG)
    assert await app.grow_topics(wide.settings, print) == BEFORE
    grown = await wide.commands()
    assert [record.partition for record in grown if b"grown/" in record.value] == [2, 3]
    assert await app.grow_topics(wide.settings, print) == AFTER
    key = meta_key(wide.settings.redis.prefix)
    async with Redis.from_url(wide.settings.redis.url) as server:
        await server.hset(key, "lanes", str(BEFORE))
    await refused(wide, "says lanes = 2, and 4 are asked for; .* `rater topics grow`")
    assert await app.grow_topics(wide.settings, print) == BEFORE
    assert len(await wide.commands()) == len(grown)
    async with wide.worker() as worker:
        await wide.until(lambda: ready(worker))


async def ready(worker: Any) -> bool:
    """Return whether all lanes are taken and have a catalog."""
    return not worker.shared.readiness.reasons()


async def test_what_cannot_be_done_is_refused(system_of: SystemOf) -> None:
    """Fewer partitions, or more where buckets would change lanes: a sentence, and nothing is changed."""
    narrow = await system_of(partitions=BEFORE)
    await (await app.connect_store(narrow.settings)).close()  # it fixes the numbers
    for partitions, why in ((AFTER, "redis.buckets is 4, more than the 2 partitions"), (1, "taken away")):
        other = await system_of(partitions=partitions)
        with pytest.raises(Halt, match=why):
            await app.grow_topics(other.settings, print)
    other = await system_of(partitions=AFTER, environ=TWO_BUCKETS)
    with pytest.raises(Halt, match="Redis was first used with 4"):
        await app.grow_topics(other.settings, print)
    assert await narrow.topics.check(narrow.client) == []
