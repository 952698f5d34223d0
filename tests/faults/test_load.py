"""More than a worker can take, or in a shape that it does not like: it stays within bounds and loses nothing.

Nearly each test has a short version for every run, and all have a long one for `make test-faults`. Bounds
are on memory, open files, tasks and outcomes, never on speed: how fast it went is printed.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import cycle, repeat
from typing import Any

import pytest

import traffic
from faults import auditor
from faults.calls import calls
from faults.measured import MINUTES, WARM_UP, files, held, highest, keys, sampled, tasks
from faults.proxy import END_TXN, Rule
from faults.rig import Rig, Slot, until
from faults.test_times import shared

pytestmark = pytest.mark.kafka

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]

short_and_long = pytest.mark.parametrize(
    "times", [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.long)]
)
"""How many times as many calls."""

COMMIT_S = 8.0
"""So long the broker takes to end a Kafka transaction in the overload: below a request's timeout (10 s)."""
OVERLOADS = [
    pytest.param(60.0, 1500, id="short"),
    pytest.param((MINUTES or 10) * 60, 1000, id="long", marks=pytest.mark.long),
]
"""Seconds, CDRs per second. One lane commits some 5000 CDRs at most in each of its Kafka transactions."""
GROWTH_MIB = 16.0
"""Memory may be so much higher in the second half than in the first: a batch of 4000 CDRs more or less, as
the halves are cut (8 MiB). A queue without bound in front of a commit takes 1.7 KiB for each CDR of lag,
and the lag grows by 20,000 CDRs from half to half: 33 MiB."""
LAG_LEAST = 16_000
"""More than a worker has in its hands: what is committed, two batches ahead, and a fetch."""
NUMBERS = 6
"""Of a client in Redis: balance, version, its package's two counters; two more if the month changes now."""
LANES = 64
CLIENTS = 100_000
LARGE_EVERY = 50
LARGE_BYTES = 64 * 1024
SLOW_S = 0.2


def call(name: str, number: int, client: str, **more: str) -> bytes:
    """Return a CDR."""
    rng = random.Random(f"{name}-{number}")  # noqa: S311 - traffic
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - rng.randrange(3600)))
    called = rng.choice(["380501234567", "380441234567", "12125550100"])
    return json.dumps({
        "id": f"{name}-{number}", "called": called, "answered_at": at,
        "duration_ms": rng.randrange(1, 300_000), "orig": {"client": client}, **more,
    }).encode()  # fmt: skip


def calls_of(name: str, clients: Iterable[str]) -> Iterator[bytes]:
    """Yield a CDR of each of these clients, one after the other."""
    return (call(name, number, client) for number, client in enumerate(clients))


async def flowing(rig: Rig) -> None:
    """Wait until all lanes rate CDRs; the first results are of the catalog: balances that it sets."""
    await until(lambda: len(rig.watched.late_ms) > 0, f"a CDR is rated; {rig.told()}")
    await rig.progress(everywhere=True)


async def together(rig: Rig) -> None:
    """Wait until two workers share the lanes and each lane goes on, so that none is still being taken.

    The second worker joins later than the first one rates, and then the first one takes its own lanes anew.
    """
    await flowing(rig)
    await shared(rig, 2)
    await rig.progress(everywhere=True)


async def alone(start: Start, seed: int, **options: Any) -> tuple[Rig, Slot]:
    """Start an installation with one worker, never a second, and wait until it rates all lanes."""
    rig = await start(seed, workers=1, **options)
    rig.least = 1
    await flowing(rig)
    return rig, rig.slots[0]


@pytest.mark.parametrize(("seconds", "rate_per_s"), OVERLOADS)
async def test_input_faster_than_the_worker(
    start: Start, figure: Figure, seconds: float, rate_per_s: int
) -> None:
    """CDRs come faster than they can be committed: the lag grows, memory does not; then all is rated.

    The broker ends a Kafka transaction after 8 s only, so that one lane commits less than comes in, on any
    machine. It fails when a queue between poll, draw and commit has no bound, when a source reads ahead of
    what is rated, or when what is committed is not let go.
    """
    rig, slot = await alone(start, 31, partitions=1)
    before = held(slot)
    rig.rate_per_s = rate_per_s
    slot.kafka.arm(Rule({END_TXN}, "hold", times=10**9, seconds=COMMIT_S))
    lags = []
    async with sampled(slot) as (memory,):
        for share in (WARM_UP, (1 - WARM_UP) / 2, (1 - WARM_UP) / 2):
            await asyncio.sleep(seconds * share)
            lags.append(rig.sent - rig.watched.positions[0].get(rig.topics.cdrs, 0))
    slot.kafka.rules.clear()
    first, second = highest(memory)
    settled_s = await rig.settled()
    after = held(slot)
    verdict = await rig.sound()
    figure(
        f"overload: {rate_per_s} CDR/s for {seconds:g} s, lag at the end {lags[-1]} CDRs; worker "
        f"{before:.0f} MiB at first, in the halves at most {first:.0f} and {second:.0f} MiB, {after:.0f} MiB "
        f"when the lag was worked off after {settled_s:.1f} s; {verdict}; {rig.lateness()}"
    )
    assert lags == sorted(lags), f"no overload: {lags}"
    assert lags[-1] > LAG_LEAST, f"no overload: {lags}"
    assert second <= first + GROWTH_MIB


@pytest.mark.fault("F40")
@short_and_long
async def test_one_client_has_all_calls(start: Start, figure: Figure, times: int) -> None:
    """Every CDR, in all lanes of two workers, is of one client: each lane goes on, limits are exact.

    It fails when lanes that draw from one client keep making each other's draws stale (then one starves),
    when a draw does not see all others, or when what Redis keeps of a client grows with its calls.
    """
    rig = await start(32, source=calls_of("one", repeat("c0")))
    await flowing(rig)
    rig.rate_per_s = 1000
    await rig.progress(3000 * times, everywhere=True)
    verdict = await rig.sound()
    stored = (await auditor.read_store([rig.primary.url], rig.prefix))["c0"]
    figure(
        f"one client has all of {rig.sent} CDRs: {verdict}; {len(stored)} numbers of it in Redis; "
        f"{rig.lateness()}"
    )
    assert len(stored) <= NUMBERS, stored


@pytest.mark.long
async def test_many_lanes_on_one_worker(start: Start, figure: Figure) -> None:
    """One worker rates 64 lanes: each goes on, and files and tasks are so many for each lane, not more.

    It fails when a lane gets no turn, when heartbeats get none (the lanes would be taken again), when a lane
    leaves connections or tasks behind as it rates, or when 64 lanes cannot be drained in time.
    """
    rig, slot = await alone(start, 33, partitions=LANES)
    owners = len(rig.watched.owners)
    opened, running = files(slot), await tasks(slot)
    rig.rate_per_s = 600
    await rig.progress(15_000, everywhere=True)
    after = files(slot), await tasks(slot)
    memory, taken = held(slot), len(rig.watched.owners)
    await rig.settled()
    code = await rig.end(slot, signal.SIGTERM)
    verdict = await rig.sound()
    figure(
        f"{LANES} lanes on one worker: {opened} files and {running} tasks at first, {after[0]} and "
        f"{after[1]} later, {memory:.0f} MiB; {verdict}; {rig.lateness()}"
    )
    assert (owners, taken) == (LANES, LANES)
    assert after[0] <= opened + LANES
    # Each lane may just be drawing and sending, which are tasks; a leak adds some with each batch.
    assert after[1] <= running + 4 * LANES
    assert code == 0


@pytest.mark.long  # loading the clients alone takes half a minute
async def test_many_clients_in_one_bucket(start: Start, figure: Figure) -> None:
    """One bucket has 100,000 clients, calls are of ever another one; then Redis is emptied, and rebuilt.

    It fails when a call to Redis takes longer the more clients a bucket has, until it counts as lost (the
    lane is then taken again and again), or when the bucket is not rebuilt whole.
    """
    clients = [f"c{number}" for number in range(CLIENTS)]
    rig = await start(
        34, source=calls_of("many", cycle(clients)), catalog=traffic.catalog(CLIENTS, 0), buckets=1
    )
    await together(rig)
    owners = len(rig.watched.owners)
    rig.rate_per_s = 1500
    await rig.progress(20_000, everywhere=True)
    taken = len(rig.watched.owners) - owners
    memory = max(held(slot) for slot in rig.running())
    await rig.redis("FLUSHALL")
    await rig.progress(20_000, everywhere=True)
    again = len(rig.watched.owners) - owners - taken
    settled_s = await rig.settled()
    found, _ = await keys(rig)
    verdict = await rig.sound(store_kept=False)
    figure(
        f"{CLIENTS} clients in one bucket: workers {memory:.0f} MiB at most, lanes taken {again} times after "
        f"Redis was emptied, settled after {settled_s:.1f} s; {verdict}; {rig.lateness()}"
    )
    assert taken == 0
    assert (found["r"], found["c"]) == (CLIENTS, CLIENTS)


def with_large(seed: int) -> Iterator[bytes]:
    """Yield CDRs; every 50th is as large as one may be, and the one behind it a byte larger: unreadable."""
    for number, raw in enumerate(calls(seed)):
        if number % LARGE_EVERY == 0:
            small = call("large", number, "c0", note="")
            yield call("large", number, "c0", note="x" * (LARGE_BYTES - len(small)))
            yield b'{"note": "' + b"x" * (LARGE_BYTES - 9)
        yield raw


@short_and_long
async def test_large_records_beside_small_ones(start: Start, figure: Figure, times: int) -> None:
    """Records of 64 KiB lie between small ones: they are rated, a byte more is rejected with all its bytes.

    It fails when a large record is lost, cut, or holds up its lane, or when memory grows with their number:
    a batch holds as many as one fetch brings (1 MiB), not its 4000 records.
    """
    rig = await start(35, source=with_large(35))
    await flowing(rig)
    rig.rate_per_s = 500
    async with sampled(*rig.running()) as memory:
        await rig.progress(2000 * times, everywhere=True)
    halves = [highest(samples) for samples in memory]
    verdict = await rig.sound()
    told = ", ".join(f"{first:.0f} and {second:.0f}" for first, second in halves)
    figure(
        f"{2 * rig.sent // LARGE_EVERY} of {rig.sent} records have 64 KiB: workers at most {told} MiB in the "
        f"halves; {verdict}; {rig.lateness()}"
    )
    assert all(second <= first + GROWTH_MIB for first, second in halves)


@pytest.mark.fault("F31")
@short_and_long
async def test_redis_far_away(start: Start, figure: Figure, times: int) -> None:
    """Each answer of Redis comes 200 ms late; in the long version also while a killed worker's lanes go over.

    It fails when a wait for Redis counts as a lost call (the lanes would be taken again), when lanes wait for
    each other's answers, so that less is rated than comes in and the lag is not worked off, or when a lane
    cannot be taken over such a way.
    """
    rig = await start(36)
    await together(rig)
    for slot in rig.slots:
        slot.redis.delay_s = SLOW_S
    owners = len(rig.watched.owners)
    rig.rate_per_s = 500
    await rig.progress(1000 * times, everywhere=True)
    taken = len(rig.watched.owners) - owners
    if times > 1:
        await rig.end(rig.slots[0])
        await rig.progress(5000, everywhere=True)
    settled_s = await rig.settled()
    verdict = await rig.sound()
    figure(
        f"Redis {SLOW_S * 1000:.0f} ms away at {rig.rate_per_s} CDR/s, a worker killed {int(times > 1)} "
        f"times: {rig.lateness()}, settled after {settled_s:.1f} s; {verdict}"
    )
    assert taken == 0
