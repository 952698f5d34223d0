"""An emptied Redis comes back on real servers: of a cut journal, in other buckets, beside an audit."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from line.test_audit import going_on, until_drift
from line.test_snapshots import OFTEN, command, empty, findings, rounds, state
from rater.config import Settings, load
from rater.core.instants import DAY_MS, HOUR_MS, rfc3339
from rater.stream.coverage import last_rounds
from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
FEW = {"clients": 20, "contested_clients": 4}
CATALOG = catalog(FEW["clients"], FEW["contested_clients"])
KEPT_MS = 21 * DAY_MS + 2 * HOUR_MS
"""The shortest retention of the journal that is allowed by default."""


def made(name: int, count: int, at_ms: int) -> list[bytes]:
    """Return calls of the hour before an instant."""
    return calls(count, name, at_ms, **FEW)


async def sent(system: Any, cdrs: list[bytes], at_ms: int) -> None:
    """Send calls over all lanes, in records of this time, and wait until they are rated."""
    lanes = system.topics.partitions
    for lane in range(lanes):
        await system.send([(cdr, at_ms) for cdr in cdrs[lane::lanes]], partition=lane)
    await system.settled()


def otherwise(system: Any, **environ: str) -> Any:
    """Return the same topics and Redis with other settings."""
    settings = load(None, {**system.environ, **environ}, {})
    assert isinstance(settings, Settings), settings
    other = type(system)(settings, system.folder, {**system.environ, **environ})
    other.sent, other._producer = system.sent, system._producer  # noqa: SLF001 - the same topics
    return other


async def cut(system: Any, ends: dict[int, int]) -> None:
    """Remove what the journal has below these offsets, as retention does."""
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    journal = system.topics.transactions
    await admin.delete_records(
        {TopicPartition(journal, lane): RecordsToDelete(end) for lane, end in ends.items()}
    )
    await admin.close()


async def test_a_journal_that_is_cut_behind_snapshots(system_of: SystemOf, tmp_path: Path) -> None:
    """Redis comes back by snapshots and what is left; audit and lists say since when they see."""
    system, now_ms = await system_of(partitions=2, environ=OFTEN), time.time_ns() // 1_000_000
    file, middle = str(tmp_path / "audit.sqlite"), dict[int, int]()
    async with system.worker():
        await system.load(CATALOG, now_ms - 30 * DAY_MS)
        for number, days in enumerate((25, 20, 19)):
            await sent(system, made(number, 60, now_ms - days * DAY_MS), now_ms - days * DAY_MS)
            if not number:
                middle = await ends(system)
        await rounds(system, int(time.time() * 1000))
    async with going_on(system, file) as drift:
        assert await drift() == 0
    await system.configure([system.topics.transactions], {"retention.ms": str(KEPT_MS)})
    await cut(system, middle)
    async with system.worker():
        await sent(system, made(3, 60, now_ms), now_ms)
    before = await state(system)
    await empty(system)
    code, printed, said = await command(system, "rebuild", "--json")
    assert code == 0, said
    assert await state(system) == before
    code, _, said = await command(system, "audit")
    assert (code, "where records were removed; an audit adds up all of them" in said) == (1, True), said
    async with going_on(system, file) as drift:  # begun before: it needs what is new alone
        await until_drift(drift, 0)
    async with system.worker():
        again = [*made(2, 60, now_ms - 19 * DAY_MS), *made(3, 60, now_ms)]
        await sent(system, again, now_ms)  # too old, and duplicates
        await sent(system, made(4, 60, now_ms), now_ms)
    assert {json.loads(one.value)["id"].partition("-")[0] for one in await system.rejected()} == {"2"}
    rated = [one["id"] for one in await system.transactions() if one["type"] == "usage"]
    assert len(rated) == len(set(rated))
    async with going_on(system, file) as drift:
        await until_drift(drift, 0)
    window = "--from", rfc3339(now_ms - 40 * DAY_MS), "--to", rfc3339(now_ms)
    code, printed, said = await command(system, "rerate", "--all", *window)
    assert (code, "the journal begins at" in said) == (0, True), said
    code, printed, said = await command(system, "transactions", "--limit", "100000")
    assert (code, "is gone" in said) == (0, True), said
    code, printed, said = await command(system, "check")
    assert "retention" not in printed + said


async def ends(system: Any) -> dict[int, int]:
    """Return by lane the offset of its last mark."""
    found: dict[int, int] = {}
    for record in await system.read(system.topics.transactions):
        found[record.partition] = record.offset
    return found


@pytest.mark.long
async def test_what_snapshots_do_not_reach_back_to(system_of: SystemOf) -> None:
    """A journal that is cut further than they reach is refused with a sentence: nothing is half rebuilt."""
    system, now_ms = await system_of(partitions=2, environ=OFTEN), time.time_ns() // 1_000_000
    async with system.worker():
        await system.load(CATALOG, now_ms - 30 * DAY_MS)
        await sent(system, made(0, 60, now_ms), now_ms)
        await rounds(system, int(time.time() * 1000))
        reached = await last_rounds(system.client, system.topics, system.settings.redis.buckets)
    never = otherwise(system, RATER_WORKER__SNAPSHOTS_EVERY_S="0")
    async with never.worker():
        await sent(never, made(1, 60, now_ms), now_ms)
    await cut(system, {0: max(one.positions[0] for one in reached.values()) + 1})
    await empty(system)
    code, _, said = await command(system, "rebuild")
    assert code == 1
    assert "begins at offset" in said


@pytest.mark.long
@pytest.mark.parametrize("way", ["rebuild", "worker"])
async def test_emptied_and_other_buckets(system_of: SystemOf, way: str) -> None:
    """Snapshots of another number of buckets are none: the whole journal is read; new ones are written."""
    system, now_ms = await system_of(partitions=2, environ=OFTEN), time.time_ns() // 1_000_000
    async with system.worker():
        await system.load(CATALOG)
        await sent(system, made(0, 100, now_ms), now_ms)
        await rounds(system, int(time.time() * 1000))
    before = await state(system)
    await empty(system)
    code, _, said = await command(system, "audit")  # who only looks fixes no number
    assert code == 1, said
    other = otherwise(system, RATER_REDIS__BUCKETS="7")
    if way == "rebuild":
        code, _, said = await command(other, "rebuild")
        assert code == 0, said
        assert await state(other) == before
    async with other.worker():
        await sent(other, made(0, 100, now_ms), now_ms)  # duplicates all of them
        await rounds(other, int(time.time() * 1000))
    assert await state(other) == before
    async with other.worker():
        await sent(other, made(1, 100, now_ms), now_ms)
    assert await findings(other) == []
    rated = [one["id"] for one in await other.transactions() if one["type"] == "usage"]
    assert len(rated) == len(set(rated))
    before = await state(other)
    await empty(other)
    code, _, said = await command(other, "rebuild")
    assert code == 0, said
    assert await state(other) == before
    code, _, said = await command(system, "rebuild")
    assert (code, "says buckets = 7, and 4 are asked for" in said) == (1, True), said


@pytest.mark.parametrize(
    "waits_s", [(0.3,), pytest.param((0.0, 1.0, 2.2), marks=pytest.mark.long)], ids=["once", "often"]
)
async def test_emptied_beside_an_audit(
    system_of: SystemOf, tmp_path: Path, waits_s: tuple[float, ...]
) -> None:
    """It tells that Redis has lost all, where it looks meanwhile; behind the rebuild all is well again."""
    system, now_ms = await system_of(partitions=2, environ=OFTEN), time.time_ns() // 1_000_000
    async with system.worker():
        await system.load(CATALOG)
        await sent(system, made(0, 100, now_ms), now_ms)
        await rounds(system, int(time.time() * 1000))
        await sent(system, made(1, 100, now_ms), now_ms)
    before = await state(system)
    async with going_on(system, str(tmp_path / "audit.sqlite")) as drift:
        await until_drift(drift, 0)
        for after_s in waits_s:
            await empty(system)
            await asyncio.sleep(after_s)
            code, _, said = await command(system, "rebuild")
            assert code == 0, said
            assert await state(system) == before, after_s
            await until_drift(drift, 0)
