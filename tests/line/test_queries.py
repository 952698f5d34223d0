"""The queries, asked of real servers: what a load and some calls left is answered, in whole units."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from rater import app
from rater.core.kinds import ClientPackageStatus, TransactionType
from rater.core.reasons import Reason
from rater.core.zones import INSTALLED
from rater.queries import catalog, client_packages, clients, rejected, transactions
from rater.queries.catalog import TimeZones

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
T = TypeVar("T")

LIMITS = [
    {"id": "v", "type": "volume", "service": "calls", "code": "380*", "limit": 100},
    {"id": "m", "type": "money", "service": "calls", "code": "*", "limit": "20.00"},
]
LOW = {"low_balance": "5"}
CATALOG = {
    "currencies": {"base": "USD"},
    "resellers": [{"id": "7"}],
    "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine", "1": "USA"}}],
    "rate_tables": [
        {"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": [{"code": "380", "price": "0.06"}]}
    ],
    "packages": [
        {"id": "1", "name": "Kiev 100", "type": "customer", "currency": "USD", "limits": LIMITS},
        {"id": "2", "name": "Other", "type": "customer", "currency": "USD", "limits": LIMITS},
    ],
    "clients": [
        {
            "id": of, "name": name, "currency": "USD", "time_zone": "UTC", "balance": balance,
            "rate_tables": {"orig": {"calls": "retail"}}, "accounts": accounts, **more,
        }
        for of, name, balance, accounts, more in (
            ("42", "Rose", "10.50", [{"id": "sip-2"}, {"id": "sip-1"}], {"reseller": "7"} | LOW),
            ("43", "Lily", "0", [], {}),
        )
    ],
    "client_packages": [
        {"id": of, "client": client, "package": package, "activate_in_past": True, **dates}
        for of, client, package, dates in (
            ("active", "42", "1", {"start_date": "2026-01-01T00:00:00Z", "quantity": 2}),
            ("own", "42", "2", {"start_date": "2026-01-01T00:00:00Z", "account": "sip-2"}),
            ("coming", "42", "1", {"start_date": "2099-01-01T00:00:00Z"}),
            ("ended", "42", "1", {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-02T00:00:00Z"}),
            ("lily", "43", "1", {"start_date": "2026-01-01T00:00:00Z"}),
        )
    ],
}  # fmt: skip


def call(of_id: str, called: str, **side: str) -> bytes:
    """Return a call of a minute that has just been answered."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {"id": of_id, "called": called, "answered_at": at, "duration_ms": 60_000, "orig": side}
    ).encode()


async def rated(system_of: SystemOf) -> Any:
    """Return a system of two lanes that has rated three calls and rejected two; its worker has ended."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(json.dumps(CATALOG).encode())
        await system.send([(call("1", "380441234567", client="42"), None)])
        await system.send([(call("2", "380441234567", client="42", account="sip-1"), None)], partition=1)
        await system.settled()
        await system.send([(call("3", "380441234567", client="43"), None), (b"\xff", None)])
        await system.send([(call("4", "12125550100", client="43"), None)], partition=1)
        await system.settled()
    return system


async def listed(rows: AsyncIterator[T]) -> list[T]:
    """Return all of them."""
    return [row async for row in rows]


async def test_clients_and_what_is_left_of_their_packages(system_of: SystemOf) -> None:
    """Balances in micros, limits in units and micros with what calls drew, filtered as asked."""
    system = await rated(system_of)
    now_ms = time.time_ns() // 1_000_000
    async with app.connections(system.settings) as at:
        found = {one.id: one for one in await listed(clients.clients(at.store))}
        assert sorted(found) == ["42", "43"]
        rose = found["42"]
        assert (rose.balance, rose.credit_limit, rose.low_balance) == (10_500_000, 0, 5_000_000)
        assert (rose.name, rose.reseller, rose.currency, rose.time_zone) == ("Rose", "7", "USD", "UTC")
        assert (rose.accounts, rose.client_packages, rose.catalog) == (["sip-1", "sip-2"], 4, 1)
        assert rose.rate_tables == {"orig": {"calls": "retail"}}
        assert [one.id for one in await listed(clients.clients(at.store, reseller="7"))] == ["42"]
        assert len(await listed(clients.clients(at.store, limit=1))) == 1

        shown, uses = await client_packages.client(at, "42", now_ms)
        assert shown == rose
        assert {use.id: use.status.value for use in uses} == {
            "active": "active", "own": "active", "coming": "pending", "ended": "archive",
        }  # fmt: skip
        active = uses[0]
        volume, money = active.limits
        assert (volume.size, volume.used, volume.left, volume.unit) == (12_000, 120, 11_880, "second")
        assert (money.size, money.used, money.left, money.unit) == (40_000_000, 0, 40_000_000, "USD")
        assert (active.period, active.period_start_ms) == (1, active.start_ms)
        assert uses[2].limits == []

        async def ids(**wanted: Any) -> list[str]:
            asked = client_packages.client_packages(at, client_packages.Wanted(**wanted), now_ms)
            return [use.id for use in await listed(asked)]

        async def page(rows: int, number: int, **wanted: Any) -> tuple[list[str], int]:
            asked = client_packages.Wanted(**wanted)
            found = await client_packages.page_of(at, asked, now_ms, rows=rows, page=number)
            return [use.id for use in found.rows], found.total

        everything = ["active", "coming", "ended", "lily", "own"]
        assert sorted(await ids()) == everything
        assert await page(2, 1, client="42") == (["active", "own"], 4)
        assert await page(2, 2, client="42") == (["coming", "ended"], 4)
        assert await page(2, 3) == (["lily"], 5)
        assert await page(2, 4) == ([], 5)
        assert await page(1, 1, statuses={ClientPackageStatus.PENDING}) == (["coming"], 1)
        assert await ids(account="sip-2") == ["active", "own", "coming", "ended"]
        assert await ids(account="sip-1") == ["active", "coming", "ended"]
        assert await ids(package="2") == ["own"]
        assert await ids(client_package="lily", client="43") == ["lily"]
        assert await ids(statuses={ClientPackageStatus.PENDING}) == ["coming"]
        for missing in ({"client": "44"}, {"account": "sip-9"}):
            with pytest.raises(clients.NotThereError, match="there is no"):
                await ids(**missing)
        with pytest.raises(clients.NotThereError) as raised:
            await client_packages.client(at, "44", now_ms)
        assert (raised.value.kind, raised.value.id) == ("client", "44")


async def test_transactions_and_rejected_records(system_of: SystemOf) -> None:
    """The newest first, of a client, a type, a reason or a source, as they were published."""
    system = await rated(system_of)
    topics, kafka = system.topics, system.client

    async def ids(**asked: Any) -> list[str]:
        found = await listed(transactions.transactions(kafka, topics, **asked))
        return [one.transaction["id"] for one in found if one.transaction is not None]

    usage = TransactionType.USAGE
    every = await ids()
    assert len(every) == 4
    assert every[0] == "default/3/orig"
    assert every[-1] == "adjust/42/opening"
    assert set(await ids(of_type=usage)) == {f"default/{number}/orig" for number in (1, 2, 3)}
    assert await ids(of_type=usage, client="43") == ["default/3/orig"]
    assert await ids(of_type=TransactionType.REFUND) == []
    assert await ids(limit=1) == every[:1]
    passed: list[int] = []
    assert await ids(until_ms=0, passed=passed.append) == []
    assert await ids(since_ms=0, passed=passed.append) == every
    assert sum(passed) >= 4
    (newest,) = await listed(transactions.transactions(kafka, topics, limit=1))
    assert newest.raw == json.dumps(newest.transaction, separators=(",", ":")).encode()

    sources = {topics.cdrs: "default"}
    found = await listed(rejected.rejected(kafka, topics, sources))
    assert {(one.reason, one.side, one.source, one.catalog) for one in found} == {
        ("malformed", None, "default", 1), ("rate_missing", "orig", "default", 1),
    }  # fmt: skip
    (garbled,) = await listed(rejected.rejected(kafka, topics, sources, reason=Reason.MALFORMED))
    assert (garbled.record, garbled.topic, garbled.partition) == (b"\xff", topics.cdrs, 0)
    assert isinstance(garbled.offset, int)
    assert await listed(rejected.rejected(kafka, topics, {}, source_topic="pbx")) == []
    assert len(await listed(rejected.rejected(kafka, topics, sources, limit=1))) == 1


async def test_the_catalog_in_force(system_of: SystemOf) -> None:
    """None before the first load; then its version, content and release of time zones, and it is compiled."""
    system = await system_of(partitions=2)
    parts = system.client, system.topics, app.catalogs_of(system.settings)
    assert await catalog.newest(*parts) is None
    assert await catalog.in_force(*parts) is None
    assert catalog.time_zones(await catalog.in_force(*parts)) == TimeZones(
        INSTALLED, None, None, load_brings=True
    )
    async with system.worker():
        await system.load(json.dumps(CATALOG).encode())
    compiled, found = await catalog.newest(*parts), await catalog.in_force(*parts)
    assert compiled is not None
    assert found is not None
    assert (compiled.version, found[0]) == (1, 1)
    assert sorted(compiled.packages) == sorted(found[1].packages) == ["1", "2"]
    assert catalog.time_zones(await catalog.in_force(*parts)) == TimeZones(
        INSTALLED, 1, INSTALLED, load_brings=False
    )
