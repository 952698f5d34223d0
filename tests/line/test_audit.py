"""`rater audit` is silent where all is well, and names what is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from rater.cli.running import audit_again, audit_once
from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def rated(system_of: SystemOf) -> Any:
    """Return a system that has rated some calls; its worker has ended."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(5, 2))
        cdrs = calls(300, 3, time.time_ns() // 1_000_000, clients=5, contested=1, contested_clients=2)
        await asyncio.gather(
            system.send([(raw, None) for raw in cdrs[::2]]),
            system.send([(raw, None) for raw in cdrs[1::2]], partition=1),
        )
        await system.settled()
    return system


async def audit(system: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit code of the audit, and what it printed."""
    capsys.readouterr()
    code = await audit_once(system.settings)
    return code, "".join(capsys.readouterr())


async def one_with_draws(system: Any) -> tuple[Any, dict[str, Any]]:
    """Return a record of the journal whose transaction drew from a limit, and the transaction."""
    records = await system.read(system.topics.transactions)
    for record in records:
        transaction = json.loads(record.value or b"{}")
        if transaction.get("draws") and transaction["amount"] != "0":
            return record, transaction
    pytest.fail("no transaction drew and cost something")


async def client_key(redis: Redis, system: Any, client: str) -> str:
    """Return the key under which a client's balance and counters lie."""
    pattern = f"{system.settings.redis.prefix}{{*}}:c:{client}"
    (key,) = [str(name.decode()) async for name in redis.scan_iter(match=pattern)]
    return key


async def test_all_is_well(system_of: SystemOf, capsys: pytest.CaptureFixture[str]) -> None:
    """A system that nothing has touched has no finding and ends with 0."""
    code, told = await audit(await rated(system_of), capsys)
    assert (code, "counters and balances agree" in told) == (0, True), told


async def test_a_changed_counter_is_named(system_of: SystemOf, capsys: pytest.CaptureFixture[str]) -> None:
    """A counter that something else has changed is named with its client and both numbers."""
    system = await rated(system_of)
    _, transaction = await one_with_draws(system)
    draw = transaction["draws"][0]
    field = f"{draw['client_package']}.{draw['period']}.{draw['limit']}"
    async with Redis.from_url(system.settings.redis.url) as redis:
        used = await redis.hincrby(await client_key(redis, system, transaction["client"]), field, 7)
    code, told = await audit(system, capsys)
    assert code == 1
    assert f"client {transaction['client']} counter {field}" in told
    assert f"Redis has {used}, the journal's draws sum to {used - 7}" in told
    assert "read: 1 finding\n" in told


async def test_a_lost_effect_is_named(system_of: SystemOf, capsys: pytest.CaptureFixture[str]) -> None:
    """A record of the journal whose effect Redis lost is found by its balance and by each counter it drew."""
    system = await rated(system_of)
    _, transaction = await one_with_draws(system)
    async with Redis.from_url(system.settings.redis.url) as redis:
        key = await client_key(redis, system, transaction["client"])
        await redis.hincrby(key, "b", -round(float(transaction["amount"]) * 10**6))
        for draw in transaction["draws"]:
            field = f"{draw['client_package']}.{draw['period']}.{draw['limit']}"
            taken = float(draw["taken"]) * (10**6 if draw["kind"] == "money" else 1)
            await redis.hincrby(key, field, -round(taken))
    code, told = await audit(system, capsys)
    assert code == 1
    assert f"client {transaction['client']}: Redis has" in told
    for draw in transaction["draws"]:
        assert f"counter {draw['client_package']}.{draw['period']}.{draw['limit']}: Redis has" in told


async def test_a_doubled_transaction_is_named(
    system_of: SystemOf, capsys: pytest.CaptureFixture[str]
) -> None:
    """A transaction that stands twice in the journal is named with both places."""
    system = await rated(system_of)
    record, transaction = await one_with_draws(system)
    await system.send_whole(system.topics.transactions, record)
    code, told = await audit(system, capsys)
    assert code == 1
    assert (
        f"{transaction['id']} revision 1 usage was published before, at [{record.partition}]@{record.offset}"
        in told
    )


async def test_an_audit_that_repeats_serves_what_it_found(
    system_of: SystemOf, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a span it audits again and again, and Prometheus reads the number of findings."""
    system = await rated(system_of)
    _, transaction = await one_with_draws(system)
    async with Redis.from_url(system.settings.redis.url) as redis:
        await redis.hincrby(await client_key(redis, system, transaction["client"]), "b", 1)
    capsys.readouterr()
    running = asyncio.create_task(audit_again(system.settings, 1))
    told = ""

    async def found() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "read: 1 finding\n" in told

    await system.until(found)
    async with aiohttp.ClientSession() as session, session.get(told.split(maxsplit=1)[0]) as answer:
        assert "rater_audit_drift 1.0" in await answer.text()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
