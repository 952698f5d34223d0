"""A backlog of forty days on real Kafka and Redis, two workers that are killed, a Redis that is flushed.

Short in `make test`; RATER_BACKLOG_CDRS=500000 for the long runs (`make test-backlog`), RATER_BACKLOG_SEED
for other calls and other moments.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from faults import auditor, compared
from faults.backlog import GROUPS, Backlog
from rater import app
from rater.core.bucket.messages import bucket_of
from rater.local.redis import Redis as RedisServer
from rater.store.keys import Keys

pytestmark = pytest.mark.kafka

log = logging.getLogger(__name__)
Figure = Callable[[str], None]
SEED = int(os.environ.get("RATER_BACKLOG_SEED", "1"))
LONG = "RATER_BACKLOG_CDRS" in os.environ
CDRS = int(os.environ.get("RATER_BACKLOG_CDRS", "2500"))
CLIENTS = 300 if LONG else 60
KILLS, FLUSHES = (12, 2) if LONG else (1, 1)
WINDOW_DAYS = 100
STILL_S = 180.0
"""So long the workers may get no further."""
SENT_AT_ONCE = 20_000


async def put(system: Any, backlog: Backlog, rng: random.Random | None) -> None:
    """Send all records, stamped now: each group's with a key into its own lane, or (rng) into any."""
    ends: Counter[int] = Counter()
    async with AIOKafkaProducer(**system.client, linger_ms=20, max_batch_size=262_144) as producer:
        waiting = []
        for group, raw in backlog.records(CDRS):
            lane = group if rng is None else rng.randrange(GROUPS)
            key = b"group %d" % group if rng is None else None
            header = [(compared.GROUP, b"%d" % group)]
            waiting.append(
                await producer.send(system.topics.cdrs, raw, key=key, partition=lane, headers=header)
            )
            if len(waiting) == SENT_AT_ONCE:
                await asyncio.gather(*waiting)
                waiting.clear()
            ends[lane] += 1
        await asyncio.gather(*waiting)
    system.sent = {(system.topics.cdrs, lane): end for lane, end in ends.items()}


async def rebuilt(system: Any, store: RedisServer) -> None:
    """Wait until every bucket is open: a flush may come after the last record, and not be made good yet."""
    keys = system.settings.redis
    names = [Keys(keys.prefix, bucket, keys.buckets).gate for bucket in range(keys.buckets)]
    until = time.monotonic() + STILL_S
    async with Redis.from_url(store.url) as redis:
        while not all([await redis.hexists(name, "joined") for name in names]):
            assert time.monotonic() < until, "the store is not rebuilt"
            await asyncio.sleep(0.05)


async def emptied(system: Any, clients: list[str], store: RedisServer) -> compared.Lost:
    """Empty Redis; return what was in it, read in the same step: nothing is drawn between."""
    keys = system.settings.redis
    buckets = [Keys(keys.prefix, bucket, keys.buckets) for bucket in range(keys.buckets)]
    lanes = [(lane, bucket.lane(lane)) for bucket in buckets for lane in range(GROUPS)]
    hashes = [buckets[bucket_of(client, len(buckets))].client + client for client in clients]
    async with Redis.from_url(store.url) as redis, redis.pipeline(transaction=True) as step:
        for _, name in lanes:
            step.hget(name, "token")
        for name in hashes:
            step.hgetall(name)
        step.flushall()
        *said, _ = await step.execute()
    tokens = dict.fromkeys(range(GROUPS), -1)
    for (lane, _), token in zip(lanes, said[: len(lanes)], strict=True):
        tokens[lane] = max(tokens[lane], int(token or -1))
    stored = map(auditor.numbers, said[len(lanes) :])
    return compared.Lost(dict(zip(clients, stored, strict=True)), tokens)


async def worked_off(
    system: Any, backlog: Backlog, rng: random.Random, store: RedisServer
) -> tuple[compared.Lost, ...]:
    """Start two workers; kill one or flush Redis at moments that are drawn, until all is behind a mark.

    Returns what was in Redis at each flush.
    """
    moments = [(rng.random() * 0.9, what) for what in ["kill"] * KILLS + ["flush"] * FLUSHES]
    if not LONG:  # done too soon for moments that are drawn
        moments = [(0.01, "kill"), (0.02, "flush")]
    moments.sort()
    living = [system.start_worker(), system.start_worker()]
    done, moved, lost = -1, time.monotonic(), []
    while done < CDRS:
        positions = await system.positions()
        now_done = sum(min(positions.get(place, 0), end) for place, end in system.sent.items())
        if now_done > done:
            done, moved = now_done, time.monotonic()
        assert time.monotonic() < moved + STILL_S, f"{done} of {CDRS} are behind marks, and no more come"
        for worker in living:
            assert worker.poll() is None, f"worker ended with {worker.returncode}"
        if moments and done >= moments[0][0] * CDRS:
            what = moments.pop(0)[1]
            log.info("%s after %d of %d", what, done, CDRS)
            if what == "flush":
                lost.append(await emptied(system, backlog.names, store))
            else:
                doomed = living.pop(rng.randrange(2))
                doomed.send_signal(signal.SIGKILL)
                doomed.wait()
                living.append(system.start_worker())
        await asyncio.sleep(0.05)
    assert not moments
    await rebuilt(system, store)
    for worker in living:
        await system.started(worker)
        assert system.stop_worker(worker) == 0
    return tuple(lost)


async def checked(
    system: Any, run: compared.Run, check: Callable[[compared.Run, int], compared.Report]
) -> Counter[str]:
    """Compare each lane or group in a process of its own; return what was counted, and fail with findings."""
    loop, context = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    counts: Counter[str] = Counter()
    found: list[str] = []
    with ProcessPoolExecutor(min(GROUPS, os.cpu_count() or 1), context) as pool:
        asked = [loop.run_in_executor(pool, check, run, number) for number in range(GROUPS)]
        for report in await asyncio.gather(*asked):
            counts.update(report.counts)
            found += report.found
    for topic in ("transactions", "events"):
        records, ends = await auditor.read_topic(run.bootstrap, f"{run.topics}{topic}", GROUPS)
        found += auditor.open_transactions(ends)
        found += auditor.marks(records) if topic == "transactions" else auditor.unique_events(records)
    ledger = await app.audit(system.settings)
    found += [f"{finding.where}: {finding.problem}" for finding in ledger.findings]
    assert not found, "\n".join([f"{counts['findings']} findings", *found])
    return counts


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "unkeyed"])
async def test_a_backlog(
    caplog: pytest.LogCaptureFixture,
    system_of: Callable[..., Awaitable[Any]],
    start_redis: Callable[..., RedisServer],
    figure: Figure,
    *,
    keyed: bool,
) -> None:
    """Keyed, each transaction equals the reference's; unkeyed, all does that hangs on no order; sums hold."""
    caplog.set_level(logging.WARNING, "aiokafka")  # it tells of each look at the marks
    began = time.monotonic()
    rng = random.Random(f"{SEED} {keyed}")  # noqa: S311 - the same again
    redis = start_redis()
    environ = {
        "RATER_WORKER__DUPLICATE_WINDOW_DAYS": str(WINDOW_DAYS),
        "RATER_WORKER__BATCH_RECORDS_MAX": "4000" if LONG else "100",
        "RATER_KAFKA__SESSION_TIMEOUT_MS": "6000" if LONG else "3000",
    }
    system = await system_of(partitions=GROUPS, redis=redis.url, environ=environ)
    at_ms = int(time.time()) * 1000
    backlog = Backlog(SEED, CLIENTS, at_ms)
    async with system.worker():
        await system.load(json.dumps(backlog.catalog).encode(), at_ms)
    await put(system, backlog, None if keyed else rng)
    sent = time.monotonic()
    lost = await worked_off(system, backlog, rng, redis)
    rated = time.monotonic()
    stored = await auditor.read_store([redis.url], system.settings.redis.prefix)
    run = compared.Run(
        system.client["bootstrap_servers"], system.topics.prefix, backlog.catalog, at_ms, WINDOW_DAYS, stored,
        lost,
    )  # fmt: skip
    counts = await checked(system, run, compared.check_lane if keyed else compared.check_group)
    assert counts["records"] == CDRS
    figure(
        f"backlog {'keyed' if keyed else 'unkeyed'}: {CDRS} CDRs of {CLIENTS} clients, seed {SEED}, "
        f"kills: {KILLS}, flushes: {FLUSHES}; {counts['transaction']} transactions, {counts['draws']} draws, "
        f"{counts['rejected']} rejected, {counts['duplicate']} duplicates, {counts['counters']} counters and "
        f"balances equal, audit clean; sent {sent - began:.0f} s, rated {rated - sent:.0f} s, compared "
        f"{time.monotonic() - rated:.0f} s"
    )
