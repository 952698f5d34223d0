"""`rater audit` is silent where all is well, and names what is not."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from redis.asyncio import Redis

from rater import app
from rater.cli.running import audit_again, audit_once
from rater.core.bucket.messages import bucket_of
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.journal.auditing import Ledger
from rater.errors import Halt
from rater.jobs.audit_file import AuditFile
from rater.jobs.late import call_of, look_up_calls
from rater.store.keys import Keys
from rater.stream.producer import Writer
from rater.stream.topics import topic_ids
from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
DIDS = b"""
currencies: {base: USD}
dids: [{number: "100", account: sip}, {number: "101"}]
packages:
  - {id: "1", name: Numbers, type: customer, currency: USD, period: 1 month,
     fees: [{type: subscription, name: Monthly, rate: "5.00"}], did_limits: [{quantity: 1}]}
clients: [{id: "42", currency: USD, balance: "10.00", accounts: [{id: sip}]}, {id: "43", currency: USD}]
client_packages: [{id: "1", client: "42", package: "1"}]
"""


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


async def test_a_deleted_record_is_named(
    system_of: SystemOf, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same journal without one transaction: what it moved and drew is more than the others come to."""
    system = await rated(system_of)
    record, transaction = await one_with_draws(system)
    copy = await system_of(partitions=2, environ={"RATER_TOPICS__PREFIX": f"{prefix}-copy."})
    writer = Writer(system.client, f"{prefix}-copy")
    await writer.open()
    await writer.write(
        [
            (copy.topics.transactions, one.partition, one.key, one.value, [*one.headers])
            for one in await system.read(system.topics.transactions)
            if (one.partition, one.offset) != (record.partition, record.offset)
        ]
    )
    await writer.close()
    code, told = await audit(copy, capsys)
    assert code == 1
    draw = transaction["draws"][0]
    field = f"{draw['client_package']}.{draw['period']}.{draw['limit']}"
    assert f"client {transaction['client']}: Redis has" in told
    assert f"client {transaction['client']} counter {field}: Redis has" in told
    assert f"read: {1 + len(transaction['draws'])} finding" in told


async def test_damage_of_a_life_is_named(system_of: SystemOf, capsys: pytest.CaptureFixture[str]) -> None:
    """A fee that comes twice, a register that another hand wrote, and a DID that is entered elsewhere."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(DIDS)
    assert (await audit(system, capsys))[0] == 0
    (fee,) = [
        record
        for record in await system.read(system.topics.transactions)
        if record.value and json.loads(record.value)["type"] == "subscription_fee"
    ]
    await system.send_whole(system.topics.transactions, fee)
    settings = system.settings.redis
    async with Redis.from_url(settings.url) as redis:
        (key,) = [key async for key in redis.scan_iter(match=f"{settings.prefix}{{*}}:r:43")]
        await redis.append(key, b"\xc0")
        for number, client in (("100", "44"), ("101", "42")):
            name = f"\x01{number}"
            keys = Keys(settings.prefix, bucket_of(name, settings.buckets), settings.buckets)
            await redis.hset(keys.accounts(name), name, client)
    code, told = await audit(system, capsys)
    assert code == 1
    assert "cp/1/1/subscription_fee revision 1 subscription_fee was published before, at " in told
    assert "client 42: Redis has" in told  # the balance: it was charged once
    assert "client 43: its register in Redis is not that of its change to version" in told
    assert "DID 100: client 42 holds it, and it is entered for client 44" in told
    assert "DID 100: it is entered for client 44, which does not hold it" in told
    assert "DID 101: it is entered for client 42, which does not hold it" in told


async def test_an_audit_goes_on_from_its_file(
    system_of: SystemOf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Under traffic it has no finding; damage is served within the minute, also a restart later.

    The journal is read once: a second process begins where the first one was killed.
    """
    system, file = await rated(system_of), str(tmp_path / "audit.sqlite")
    _, transaction = await one_with_draws(system)
    async with going_on(system, file) as drift, system.worker():
        for n in range(5):
            cdrs = calls(
                200, 10 + n, time.time_ns() // 1_000_000, clients=5, contested=1, contested_clients=2
            )
            await system.send([(raw, None) for raw in cdrs], partition=n % 2)
            assert await drift() == 0
        await system.settled()
    capsys.readouterr()
    async with Redis.from_url(system.settings.redis.url) as redis:
        key = await client_key(redis, system, transaction["client"])
        await redis.hincrby(key, "b", 1)
        began = time.monotonic()
        async with going_on(system, file) as drift:
            await until_drift(drift, 1)
            assert time.monotonic() - began < 60
            await redis.hincrby(key, "b", -1)
            await until_drift(drift, 0)
            record, _ = await one_with_draws(system)
            await system.send_whole(system.topics.transactions, record)
            await until_drift(drift, 2 + len(transaction["draws"]))
    kept = AuditFile(file, await journal_of(system), 2, 7 * DAY_MS + HOUR_MS)
    kept_is(kept, await app.audit(system.settings))
    async with going_on(system, file) as drift:
        admin = AIOKafkaAdminClient(**system.client)
        await admin.start()
        await admin.delete_records({TopicPartition(system.topics.transactions, 0): RecordsToDelete(3)})
        await admin.close()
        await until_drift(drift, 3 + len(transaction["draws"]))
    with pytest.raises(Halt, match=r"\[0\] is needed from offset 0 on, where records were removed; an audit"):
        await app.audit(system.settings)
    now_ms = time.time_ns() // 1_000_000
    call = call_of(SimpleNamespace(value=calls(1, 99, now_ms)[0], headers=()), None, now_ms)
    assert call is not None
    with pytest.raises(Halt, match=r"--late needs all of .* the first records of partition 0 were removed"):
        await look_up_calls(system.client, system.topics, [call])
    told = capsys.readouterr()
    assert f"client {transaction['client']}: Redis has" in told.out
    assert f"{transaction['id']} revision 1 usage was published before, at [{record.partition}]" in told.out
    assert f"{system.topics.transactions}[0]: its records before offset 3 were removed" in told.out


def kept_is(kept: AuditFile, ledger: Ledger) -> None:
    """Assert that the file of an audit has what the whole journal says."""
    assert kept.count("transactions") == ledger.transactions
    assert {name: kept.book(name) for name in kept.clients("", 100)} == {
        name: ledger.book(name) for name in sorted(ledger.clients())
    }
    kept.close()


async def test_a_client_that_always_moves(system_of: SystemOf) -> None:
    """What the store has more than the journal is published next: it is no drift, and it is settled."""
    system, ended = await system_of(partitions=2), asyncio.Event()

    async def traffic() -> None:
        n = 0
        while not ended.is_set():
            now_ms = time.time_ns() // 1_000_000
            cdrs = calls(20, n, now_ms, contested=1, contested_clients=1)
            await system.send([(raw, None) for raw in cdrs], partition=n % 2)
            n += 1

    async with system.worker():
        await system.load(catalog(1, 1))
        sending = asyncio.create_task(traffic())
        try:
            await system.until(lambda: _some(system))
            for _ in range(2):
                ledger = await app.audit(system.settings)
                assert (ledger.findings, ledger.unsettled) == ([], 0)
        finally:
            ended.set()
            await sending


async def _some(system: Any) -> bool:
    return len(await system.transactions()) > 100


async def journal_of(system: Any) -> dict[str, str]:
    """Return what the file of an audit knows the journal by."""
    ids = await topic_ids(system.client, [system.topics.transactions])
    return {"journal": ids[system.topics.transactions]}


@asynccontextmanager
async def going_on(system: Any, file: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Run an audit that goes on, every second; gives what asks it for `rater_audit_drift`."""
    running, told = asyncio.create_task(audit_again(system.settings, 1, file)), io.StringIO()
    with contextlib.redirect_stderr(told):
        await system.until(lambda: _has(told, "read: "))
    url = told.getvalue().split(maxsplit=1)[0]

    async def drift() -> float:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            (line,) = re.findall(r"^rater_audit_drift (.*)$", await answer.text(), re.MULTILINE)
        return float(line)

    try:
        yield drift
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _has(told: io.StringIO, text: str) -> bool:
    return text in told.getvalue()


async def until_drift(drift: Callable[[], Awaitable[float]], wanted: float) -> None:
    """Wait until the audit serves this number."""
    end = time.monotonic() + 60
    while (found := await drift()) != wanted:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.2)
