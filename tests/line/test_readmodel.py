"""The read model on real servers: its rows are what topics and Redis say, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from line.conftest import until
from rater import app
from rater.core.commands.records import write_command
from rater.core.journal.records import ChangeRecord
from rater.core.journal.snapshots import ClientHead, read_client, read_head
from rater.core.kinds import ClientPackageStatus, DidState, Do, EventType, TransactionType
from rater.core.reasons import Reason
from rater.errors import Halt
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
from rater.readmodel.database import Database
from rater.readmodel.schema import KINDS
from rater.stream.journal import Mark, understood
from traffic import calls, catalog

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
            ("paid", "42", "2", {}),
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
    await until(lambda: built(model))


async def built(model: Any) -> bool:
    """Return whether the read model is built; it follows."""
    assert model.failed() is None
    return bool((await model.state()).built)


async def test_lists(system_of: SystemOf, tmp_path: Path) -> None:
    """Each list shows what happened, with its counts, and its filters hold."""
    system = await lived(system_of, sqlite_of(tmp_path))
    async with app.read_model(system.settings) as model:
        await now(model)
        await lists_are_right(system, model)
    await commands_list_from_it(system, sqlite_of(tmp_path), tmp_path)


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
        (Transactions(client="42"), 4), (Transactions(client="42", type=TransactionType.ADJUSTMENT), 2),
        (Transactions(type=TransactionType.USAGE), 2), (Transactions(account="sip-42"), 0),
        (Transactions(account="nobody"), 0), (Transactions(client_package="paid"), 1),
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


async def client_packages_are_right(system: Any, model: Any, *, journal_whole: bool = True) -> None:
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
        assert rose.balance == 6_750_000
        if not journal_whole:
            return
        newest = (await model.transactions(Transactions(), Page(rows=1))).rows[0]
        record = await listed.text(at, system.topics.transactions, newest.partition, newest.offset)
        assert record is not None
        assert json.loads(record.value or b"")["id"] == newest.id


async def commands_list_from_it(system: Any, database: str, folder: Path) -> None:
    """Lists of commands are the same with it and without; how old it is, and why it is not asked, is told."""
    settings = folder / "rater.toml"
    text = '[admin]\ndatabase = "{}"\n'

    async def told(database: str, *arguments: str) -> tuple[Any, str]:
        settings.write_text(text.format(database))
        environ = {**os.environ, **system.environ}
        environ.pop("RATER_ADMIN__DATABASE")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "rater", "--config", str(settings), *arguments, "--json"],
            capture_output=True, text=True, check=False, timeout=120, env=environ,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()] or done.returncode, done.stderr

    for arguments in (
        ("client-packages", "list", "--status", "all", "--rows", "2", "--page", "2"),
        ("clients", "list"), ("pending-charges", "list"),
    ):  # fmt: skip
        quick, age = await told(database, *arguments)
        slow, why = await told(f"sqlite:///{folder}/none.sqlite", *arguments)
        assert sorted(quick, key=str) == sorted(slow, key=str)
        assert quick
        assert re.search(r"^from the read model, \d+ s behind the topics$", age, re.MULTILINE), age
        assert "not from the read model: there is no " in why
    status, why = await told(database, "client-packages", "show", "nothing")
    assert (status, "all clients are searched" in why) == (2, False), why
    assert "there is no client package nothing" in why


async def others_are_right(model: Any) -> None:
    """Look at packages, numbers, rejected records, events, commands, jobs."""
    page = Page()
    for asked, ids in (
        (Packages(), ["1", "2"]), (Packages(dynamic_tag="promo"), ["1"]), (Packages(did_tag="kyiv"), ["1"]),
        (Packages(text="month"), ["2"]), (Packages(statuses=["disabled"]), []), (Packages(reseller="7"), []),
    ):  # fmt: skip
        assert [row.id for row in (await model.packages(asked, page)).rows] == ids, asked
    (kiev, monthly) = (await model.packages(Packages(), page)).rows
    assert (kiev.assigned, monthly.assigned, monthly.subscription_fee) == (2, 2, "5")
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


# ------------------------------------------------------------------------------------------- killed
KILLS = int(os.environ.get("RATER_READMODEL_KILLS", "2"))
KINDS_OF_DATABASE = ["sqlite", *(["postgresql"] if "RATER_POSTGRES_NEEDED" in os.environ else [])]


async def administered(system: Any, folder: Path) -> subprocess.Popen[bytes]:
    """Start `rater admin`, which follows the topics into the system's database; wait until it serves."""
    (folder / "token").write_text("0123456789abcdef" * 2)
    token = f'{{name = "anna", role = "view", token_file = "{folder}/token"}}'
    (folder / "admin.toml").write_text(f"[admin]\nport = 0\ntokens = [{token}]\n")
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "rater", "--config", str(folder / "admin.toml"), "admin"],
        stderr=subprocess.PIPE, env={**os.environ, **system.environ},
    )  # fmt: skip
    assert process.stderr is not None
    said = b""
    while b"admin started" not in said:
        line = await asyncio.to_thread(process.stderr.readline)
        assert line, said.decode()
        said += line
    return process


@contextlib.contextmanager
def url_of(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of a database of this kind that is not there yet."""
    if kind == "sqlite":
        yield sqlite_of(folder)
    else:
        with postgres.server() as url:
            yield url


@pytest.mark.parametrize("kind", KINDS_OF_DATABASE)
async def test_killed(system_of: SystemOf, tmp_path: Path, kind: str) -> None:
    """`rater admin` is killed at random while it builds and follows: rows are the topics', none twice."""
    with url_of(kind, tmp_path) as url:
        await killed_again_and_again(await lived(system_of, url), tmp_path, url)


async def killed_again_and_again(system: Any, folder: Path, url: str) -> None:
    """Kill it while calls come in, then compare what is there."""
    chance = random.Random(7)  # noqa: S311 - moments
    killed = 0
    async with system.worker():
        await system.load(catalog(20, 3))
        raws = calls(800, 5, time.time_ns() // 1_000_000, clients=20, contested_clients=3)
        sending = asyncio.create_task(slowly(system, raws))
        while not sending.done() or killed < KILLS:
            process = await administered(system, folder)
            await asyncio.sleep(chance.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        await sending
        await system.settled()
        async with app.sender(system.settings, print) as sender:
            for do in (Do.CANCEL, Do.REMOVE):  # its fee is reversed
                raw = write_command(
                    f"gone-{do}", do, int(time.time() * 1000), {}, client="42", client_package="paid"
                )
                await sender.send(f"gone-{do}", "42", raw)
    async with app.read_model(system.settings) as model:
        await now(model)
        state = await model.state()
        both = await model.transactions(Transactions(client_package="paid", reversals=True), Page())
        assert sorted((row.type, row.stands) for row in both.rows) == [
            ("reversal", False), ("subscription_fee", False),
        ]  # fmt: skip
        assert (await model.transactions(Transactions(client_package="paid"), Page())).rows == []
    await equal_to_topics(system, url, state.rows)


async def slowly(system: Any, raws: list[bytes]) -> None:
    """Send calls over some seconds, to both lanes."""
    for at in range(0, len(raws), 100):
        await system.send([(raw, None) for raw in raws[at : at + 100]], partition=at // 100 % 2)
        await asyncio.sleep(0.2)


async def equal_to_topics(system: Any, url: str, kept: dict[str, int]) -> None:
    """Compare the rows of a database with what the topics say."""
    topics, database = system.topics, Database(url, makes=False)
    with contextlib.closing(database), database.engine.connect() as rows:

        def found(asked: str) -> list[Any]:
            return [tuple(row) for row in rows.exec_driver_sql(asked)]

        told = [
            (record.timestamp, record.partition, record.offset, one["client"], one["id"], one["revision"],
             one["type"], one["amount"])
            for record in await system.read(topics.transactions)
            if record.value
            for one in [json.loads(record.value)]
        ]  # fmt: skip
        mine = [
            (*row[:6], KINDS[row[6]], amount(row[7]))
            for row in found("SELECT ms, part, place, client, id, revision, kind, amount FROM txn")
        ]
        assert sorted(mine) == sorted(told)
        back = {(one[3], one[4]) for one in told if one[6] == "reversal"}
        standing = [one for one in told if (one[3], one[4]) not in back]
        assert kept["transactions"] == len(standing) == found("SELECT sum(stands) FROM txn")[0][0]
        for table, name in (("event", topics.events), ("rejected", topics.rejected)):
            records = [
                (record.partition, record.offset)
                for record in await system.read(name)
                if record.value is not None
            ]
            assert sorted(found(f"SELECT part, place FROM {table}")) == records  # noqa: S608 - a name
        versions = await versions_of(system)
        assert dict(found("SELECT id, version FROM client")) == versions
        statuses = dict(found("SELECT status, count(*) FROM client_package GROUP BY status"))
        assert kept["client_packages"] == sum(statuses.values())
        assert kept["clients"] == len(versions)
        counts = dict(found("SELECT name, number FROM count"))
        for number, status in enumerate(ClientPackageStatus):
            assert counts.get(f"client_packages/{status}", 0) == statuses.get(number, 0)
        assert counts["pending_charges"] == len(found("SELECT 1 FROM client_package WHERE since_ms > 0"))
        kinds = Counter(KINDS[kind] for (kind,) in found("SELECT kind FROM txn WHERE stands = 1"))
        kinds["reversal"] = sum(one[6] == "reversal" for one in told)
        assert +kinds == +Counter({kind: counts.get(f"transactions/{kind}", 0) for kind in KINDS})
        if database.is_sqlite:
            assert found("PRAGMA integrity_check") == [("ok",)]


async def test_two_writers(system_of: SystemOf, tmp_path: Path) -> None:
    """A second process that follows into the same database is told, and changes nothing."""
    system = await lived(system_of, sqlite_of(tmp_path))
    async with app.read_model(system.settings) as one, app.read_model(system.settings) as other:
        await until(lambda: failed(one, other))
    told = one.failed() or other.failed()
    assert "another process follows the topics" in str(told)
    async with app.read_model(system.settings) as model:
        await now(model)
        rows = (await model.state()).rows
    await equal_to_topics(system, sqlite_of(tmp_path), rows)


async def failed(*models: Any) -> bool:
    """Return whether one of them has stopped."""
    return any(model.failed() for model in models)


async def test_another_journal(system_of: SystemOf, tmp_path: Path, prefix: str) -> None:
    """A database of topics that were created anew is refused; so is another program's file."""
    system = await lived(system_of, sqlite_of(tmp_path))
    async with app.read_model(system.settings) as model:
        await now(model)
    with contextlib.closing(sqlite3.connect(tmp_path / "admin.v2.sqlite", isolation_level=None)) as file:
        file.execute("UPDATE about SET value = 'x' WHERE name LIKE 'topic/%transactions'")
    async with app.read_model(system.settings) as model:
        await until(lambda: failed(model))
        assert f"{prefix}.transactions was created anew" in str(model.failed())
    (tmp_path / "admin.v2.sqlite").unlink()
    with contextlib.closing(sqlite3.connect(tmp_path / "admin.v2.sqlite")) as file:
        file.execute("CREATE TABLE mine (x)")
    with pytest.raises(Halt, match="a database of something else"):
        async with app.read_model(system.settings):
            pass


async def test_a_cut_journal(system_of: SystemOf, tmp_path: Path) -> None:
    """Where the journal was cut, clients come from snapshots, and it is said since when there is more."""
    system = await lived(system_of, sqlite_of(tmp_path), RATER_WORKER__SNAPSHOTS_EVERY_S="1")
    async with system.worker():
        await until(lambda: is_covered(system))
    records = await system.read(system.topics.transactions)
    marks = {record.partition: record for record in records if not record.value and is_mark(record.headers)}
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    try:
        await admin.delete_records({
            TopicPartition(record.topic, lane): RecordsToDelete(before_offset=record.offset)
            for lane, record in marks.items()
        })  # fmt: skip
    finally:
        await admin.close()
    async with app.read_model(system.settings) as model:
        await now(model)
        state = await model.state()
        assert state.since_ms == max(record.timestamp for record in marks.values())
        assert state.rows["transactions"] == 0
        await client_packages_are_right(system, model, journal_whole=False)


def is_mark(headers: Any) -> bool:
    """Return whether a record of the journal is a mark."""
    return isinstance(understood(headers), Mark)


async def is_covered(system: Any) -> bool:
    """Return whether each client has a snapshot of its newest state."""
    found: dict[str, int] = {}
    for record in await system.read(system.topics.snapshots):
        head = read_head(record.headers)
        if isinstance(head, ClientHead):
            found[head.client] = read_client(head, record.value).version
    return found == await versions_of(system)


async def versions_of(system: Any) -> dict[str, int]:
    """Return the newest version of each client, as the journal tells."""
    versions: dict[str, int] = {}
    for record in await system.read(system.topics.transactions):
        said = None if record.value else understood(record.headers)
        if isinstance(said, ChangeRecord):
            versions[said.client] = max(said.version, versions.get(said.client, 0))
    return versions
