"""The read model on real servers: its rows are what topics and Redis say, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rater import app
from rater.core.commands.records import write_command
from rater.core.kinds import ClientPackageStatus, DidState, Do, EventType, TransactionType
from rater.core.reasons import Reason
from rater.queries import client_packages, listed
from rater.readmodel.asked import (
    ClientPackages,
    Clients,
    Commands,
    Dids,
    Events,
    Jobs,
    Packages,
    Page,
    PendingCharges,
    RejectedRecords,
    Transactions,
)

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
SOON_S = 30.0
EVERY = frozenset(ClientPackageStatus)
CATALOG = {
    "currencies": {"base": "USD"},
    "resellers": [{"id": "7"}],
    "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine"}}],
    "rate_tables": [
        {"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": [{"code": "380", "price": "0.06"}]}
    ],
    "packages": [
        {
            "id": "1", "name": "Kiev 100", "type": "customer", "currency": "USD", "dynamic_tag": "promo",
            "limits": [{"id": "v", "type": "volume", "service": "calls", "code": "380*", "limit": 100}],
            "did_limits": [{"quantity": 1, "allowed_tags": ["kyiv"], "on_hold_days": 5}],
        },
        {
            "id": "2", "name": "Monthly", "type": "customer", "currency": "USD", "period": "1 month",
            "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}],
        },
    ],
    "clients": [
        {
            "id": of, "name": name, "currency": "USD", "time_zone": "UTC", "balance": balance,
            "rate_tables": {"orig": {"calls": "retail"}}, "accounts": [{"id": f"sip-{of}"}], **more,
        }
        for of, name, balance, more in (
            ("42", "Rose", "10.50", {"reseller": "7"}), ("43", "Lily", "0", {}), ("100", "Ölaf", "9", {}),
        )
    ],
    "client_packages": [
        {"id": of, "client": client, "package": package, "activate_in_past": True, **dates}
        for of, client, package, dates in (
            ("active", "42", "1", {"start_date": "2026-01-01T00:00:00Z", "quantity": 2}),
            ("coming", "42", "1", {"start_date": "2099-01-01T00:00:00Z"}),
            ("ended", "42", "1", {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-02T00:00:00Z"}),
            ("poor", "43", "2", {}),
            ("own", "100", "1", {"start_date": "2026-01-01T00:00:00Z", "account": "sip-100"}),
        )
    ],
    "dids": [{"number": "380441112233", "tags": ["kyiv"], "account": "sip-42"}, {"number": "380441112234"}],
}  # fmt: skip


def call(of_id: str, called: str, client: str) -> bytes:
    """Return a call of a minute that has just been answered."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps(
        {"id": of_id, "called": called, "answered_at": at, "duration_ms": 60_000, "orig": {"client": client}}
    ).encode()


async def lived(system_of: SystemOf, database: str, **environ: str) -> Any:
    """Return a system of two lanes in which a bit of everything has happened; its worker has ended."""
    system = await system_of(partitions=2, environ={"RATER_ADMIN__DATABASE": database, **environ})
    async with system.worker():
        await system.load(json.dumps(CATALOG).encode())
        await system.send([(call("1", "380441234567", "42"), None), (call("2", "1", "42"), None)])
        await system.send([(call("3", "380441234567", "100"), None), (b"\xff\x00", None)], partition=1)
        await system.settled()
        async with app.sender(system.settings, print) as sender:
            for number, (do, client, of, args) in enumerate(
                [
                    (Do.ADJUST, "42", None, {"amount": "1.25"}),
                    (Do.CANCEL, "100", "own", {}),
                    (Do.CANCEL, "100", "nothing", {}),
                ]
            ):
                raw = write_command(
                    f"c{number}", do, int(time.time() * 1000), args, actor="anna", client=client,
                    client_package=of, reason="ticket",
                )  # fmt: skip
                await sender.send(f"c{number}", client, raw)
    return system


def sqlite_of(folder: Path) -> str:
    """Return the URL of a database that is not there yet."""
    return f"sqlite:///{folder}/admin.sqlite"


async def now(model: Any) -> None:
    """Wait until all is in the rows, and the indexes are made."""
    assert await model.wait_until_now(SOON_S)
    while not (await model.state()).built:
        await asyncio.sleep(0.05)


async def test_lists(system_of: SystemOf, tmp_path: Path) -> None:
    """Each list shows what happened, with its counts, and its filters hold."""
    system = await lived(system_of, sqlite_of(tmp_path))
    async with app.read_model(system.settings) as model:
        await now(model)
        await lists_are_right(system, model)


async def lists_are_right(system: Any, model: Any) -> None:
    """Look at every list."""
    state = await model.state()
    assert (state.built, state.progress, state.since_ms, model.failed()) == (True, 1.0, None, None)
    assert state.behind_s < SOON_S
    page = Page()
    told = await system.transactions()
    found = await model.transactions(Transactions(), page)
    assert found.total == len(found.rows) == len(told) == state.rows["transactions"]
    keys = {(one["client"], one["id"], one["revision"], one["amount"]) for one in told}
    assert {(row.client, row.id, row.revision, amount(row.amount)) for row in found.rows} == keys
    assert found.rows == sorted(found.rows, key=lambda row: (-row.published_ms, -row.partition, -row.offset))
    calls_of = await model.transactions(Transactions(id="default/1"), page)
    assert [(row.id, row.what, row.drawn, row.billed, row.called) for row in calls_of.rows] == [
        ("default/1/orig", "Ukraine", "Kiev 100", 60, "380441234567")
    ]
    for asked, number in (
        (Transactions(client="42"), 3), (Transactions(client="42", type=TransactionType.ADJUSTMENT), 2),
        (Transactions(type=TransactionType.USAGE), 2), (Transactions(account="sip-42"), 0),
        (Transactions(account="nobody"), 0), (Transactions(client_package="active"), 0),
        (Transactions(type=TransactionType.REVERSAL), 0), (Transactions(since_ms=2**50), 0),
        (Transactions(client="42", type=TransactionType.USAGE, until_ms=2**50), 1),
    ):  # fmt: skip
        listing = await model.transactions(asked, page)
        assert (listing.total, len(listing.rows)) == (number, number), asked

    clients = await model.clients(Clients(), page)
    assert [(row.id, row.name, row.accounts, row.pending_charges) for row in clients.rows] == [
        ("42", "Rose", 1, 0), ("43", "Lily", 1, 1), ("100", "Ölaf", 1, 0),
    ]  # fmt: skip
    for asked_clients, ids in (
        (Clients(text="ÖL"), ["100"]), (Clients(text="sip-43"), ["43"]), (Clients(text="42"), ["42"]),
        (Clients(reseller="7"), ["42"]), (Clients(text="rose", reseller="8"), []),
    ):  # fmt: skip
        some = await model.clients(asked_clients, page)
        assert ([row.id for row in some.rows], some.total) == (ids, len(ids)), asked_clients
    await client_packages_are_right(system, model)
    await others_are_right(model)


async def client_packages_are_right(system: Any, model: Any) -> None:
    """Look at client packages: as Redis has them, and what they wait for."""
    now_ms = time.time_ns() // 1_000_000
    async with app.connections(system.settings) as at:
        for wanted in (
            ClientPackages(), ClientPackages(statuses=EVERY), ClientPackages(statuses=[]),
            ClientPackages(client="42", statuses=EVERY), ClientPackages(package="1", statuses=EVERY),
            ClientPackages(account="sip-100", statuses=EVERY), ClientPackages(client_package="ended"),
            ClientPackages(client_package="ended", statuses=EVERY),
            ClientPackages(package="2", statuses=[ClientPackageStatus.PENDING]),
        ):  # fmt: skip
            slow = await client_packages.page_of(
                at,
                client_packages.Wanted(
                    client=wanted.client, account=wanted.account, package=wanted.package,
                    client_package=wanted.client_package, statuses=wanted.statuses,
                ),
                now_ms, rows=50, page=1,
            )  # fmt: skip
            quick = await listed.client_packages(at, model, wanted, Page(), now_ms)
            assert (quick.rows, quick.total) == (slow.rows, slow.total), wanted
            rows = (await model.client_packages(wanted, Page())).rows
            assert [(row.id, row.status, row.state, row.period_stop_ms, row.version) for row in rows] == [
                (use.id, use.status, use.state, use.period_stop_ms, use.version) for use in slow.rows
            ]
        (charge,) = (await listed.pending_charges(at, model, PendingCharges(), Page())).rows
        (row,) = (await model.pending_charges(PendingCharges(client="43"), Page())).rows
        assert (charge.id, charge.total, charge.missing) == (row.id, row.total, 5_000_000)
        (rose,) = (await listed.clients(at, model, Clients(text="42"), Page())).rows
        assert rose.balance == 11_750_000
        newest = (await model.transactions(Transactions(), Page(rows=1))).rows[0]
        record = await listed.text(at, system.topics.transactions, newest.partition, newest.offset)
        assert record is not None
        assert json.loads(record.value or b"")["id"] == newest.id


async def others_are_right(model: Any) -> None:
    """Look at packages, numbers, rejected records, events, commands, jobs."""
    page = Page()
    for asked, ids in (
        (Packages(), ["1", "2"]), (Packages(dynamic_tag="promo"), ["1"]), (Packages(did_tag="kyiv"), ["1"]),
        (Packages(text="month"), ["2"]), (Packages(statuses=["disabled"]), []), (Packages(reseller="7"), []),
    ):  # fmt: skip
        assert [row.id for row in (await model.packages(asked, page)).rows] == ids, asked
    (kiev, monthly) = (await model.packages(Packages(), page)).rows
    assert (kiev.assigned, monthly.assigned, monthly.subscription_fee) == (2, 1, "5")
    numbers = await model.dids(Dids(), page)
    assert [(row.number, row.state, row.client, row.tags) for row in numbers.rows] == [
        ("380441112233", DidState.IN_USE, "42", ("kyiv",)), ("380441112234", DidState.FREE, None, ()),
    ]  # fmt: skip
    for asked_dids, number in (
        (Dids(client="42"), 1), (Dids(state=DidState.FREE), 1), (Dids(state=DidState.ON_HOLD), 0),
        (Dids(tag="kyiv"), 1), (Dids(tag="k%"), 0), (Dids(number="3804"), 2),
    ):  # fmt: skip
        assert (await model.dids(asked_dids, page)).total == number, asked_dids
    refused = await model.rejected(RejectedRecords(), page)
    assert sorted(row.reason for row in refused.rows) == [Reason.MALFORMED, Reason.RATE_MISSING]
    assert (await model.rejected(RejectedRecords(reason=Reason.RATE_MISSING, again=False), page)).total == 1
    assert (await model.rejected(RejectedRecords(again=True), page)).rows == []
    commands = await model.commands(Commands(), page)
    told = {row.id: (row.do, row.actor, row.result) for row in commands.rows}
    assert told["c0"] == (Do.ADJUST, "anna", "done")
    assert told["c2"] == (Do.CANCEL, "anna", "refused")
    assert sum(row.do == Do.LOAD_CATALOG for row in commands.rows) == 1
    assert commands.total == len(commands.rows)
    assert (await model.commands(Commands(client="100", actor="anna"), page)).total == 2
    assert (await model.commands(Commands(system=True), page)).total >= commands.total
    assert (await model.events(Events(client="100", type=EventType.CANCELLED), page)).total == 1
    assert (await model.events(Events(type=EventType.COMMAND_REFUSED), page)).total == 1
    assert (await model.jobs(Jobs(), page)).rows == []


def amount(micros: int) -> str:
    """Return an amount as transactions write it."""
    sign, whole = "-" if micros < 0 else "", abs(micros)
    return (sign + f"{whole // 10**6}.{whole % 10**6:06}").rstrip("0").rstrip(".")
