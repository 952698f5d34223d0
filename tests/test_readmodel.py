"""The read model's own rules, on SQLite and on PostgreSQL where it is: pages, reversals, time, retention."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import postgres
import pytest
from sqlalchemy import text

from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import Content, PackageHistory, PackageSpec
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life, Waiting, id_order
from rater.core.commands.records import Event, write_command, write_event
from rater.core.journal.records import CONTROL_HEADER
from rater.core.kinds import Do, EventType, TransactionType
from rater.core.line.recycling import Recycled, note_headers
from rater.core.notices import NOTICES
from rater.core.reasons import Reason
from rater.errors import Halt
from rater.readmodel import lists, more_lists, schema, transaction_writing
from rater.readmodel.asked import (
    ClientPackages,
    Clients,
    Commands,
    Events,
    Jobs,
    Listed,
    Packages,
    Page,
    RejectedRecords,
    Transactions,
    WrongAskedError,
)
from rater.readmodel.client_writing import Turned
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, Changed
from rater.readmodel.standings import order_key
from rater.readmodel.writing import Writer

AT_MS = 1_800_000_000_000
DATABASES = ["sqlite", "postgresql"] if postgres.is_here() else ["sqlite"]


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[], str]]:
    """Return what gives the URL of a PostgreSQL, which is started when it is first asked for."""
    running: list[str] = []
    context = postgres.server()

    def url() -> str:
        if not running:
            running.append(context.__enter__())
        return running[0]

    yield url
    if running:
        context.__exit__(None, None, None)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path, served: Callable[[], str]) -> Iterator[Database]:
    """Return a database without rows."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path}/a.sqlite")
    else:
        made = Database(served())
        with made.engine.begin() as run:
            run.execute(text("DROP SCHEMA rater_admin_2 CASCADE"))
        made.close()
        made = Database(served())
    yield made
    made.close()


def record(offset: int, value: Any, *, ms: int = AT_MS, part: int = 0, headers: Any = ()) -> Any:
    """Return a record as Kafka's library gives it."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return SimpleNamespace(
        partition=part, offset=offset, timestamp=ms, key=None, value=raw, headers=list(headers)
    )


def usage(of: str, client: str, **more: Any) -> dict[str, Any]:
    """Return a usage."""
    return {
        "id": f"fs1/{of}/orig", "revision": 1, "type": "usage", "client": client, "account": None,
        "at": "2026-11-03T10:00:00.000Z", "called": "380", "code": "380", "code_name": "Ukraine",
        "billed": 60, "draws": [{"package_name": "Kiev"}, {"package_name": "Kiev"}], "amount": "-0.06",
        "currency": "USD",
    } | more  # fmt: skip


def written(writer: Writer, *records: Any, upto: int) -> Batch:
    """Write records of the journal, up to an offset."""
    batch = Batch()
    for one in records:
        batch.add_journal(one)
    writer.write(batch, {("t", 0): upto}, None, AT_MS)
    return batch


def transactions(database: Database, asked: Transactions, page: Page | None = None) -> Listed[Any]:
    """Return transactions."""
    with database.engine.connect() as run:
        return lists.transactions(run, asked, page or Page())


@pytest.mark.parametrize("early", [True, False], ids=["while-building", "built"])
def test_every_page(database: Database, monkeypatch: pytest.MonkeyPatch, *, early: bool) -> None:
    """Pages by keys, forwards and back, show each transaction once, over all segments, in their order."""
    monkeypatch.setattr(transaction_writing, "SEGMENT_ROWS", 25)
    writer = Writer(database)
    if not early:
        writer.finish()
    for begin in range(0, 150, 30):
        here = range(begin, begin + 30)
        some = [record(at, usage(str(at), str(at % 3)), ms=AT_MS + at // 7) for at in here]
        written(writer, *some, upto=begin + 30)
    late = [record(at, usage(str(at), "1"), ms=AT_MS + at - 150) for at in range(150, 160)]
    written(Writer(database), *late, upto=160)  # of a lane that is behind; and the writer is another one
    if early:
        Writer(database).finish()
    for asked in (
        Transactions(client="1"), Transactions(), Transactions(type=TransactionType.USAGE, client="2"),
        Transactions(since_ms=AT_MS + 3, until_ms=AT_MS + 18), Transactions(client="1", since_ms=AT_MS + 3),
    ):  # fmt: skip
        whole = transactions(database, asked, Page(rows=1000)).rows
        assert len(whole) > 20
        places = [(row.published_ms, row.partition, row.offset) for row in whole]
        assert places == sorted(set(places), reverse=True)
        forwards, page = [], Page(rows=7)
        while True:
            listed = transactions(database, asked, page)
            assert listed.total == len(whole)
            forwards += listed.rows
            if listed.next is None:
                break
            page = Page(rows=7, after=listed.next)
        assert forwards == whole
        back: list[Any] = listed.rows
        while listed.previous is not None:
            listed = transactions(database, asked, Page(rows=7, before=listed.previous))
            back = listed.rows + back
        assert back == whole
        assert transactions(database, asked, Page(rows=5, skip=9)).rows == whole[9:14]
    with database.engine.connect() as run:
        assert run.execute(text("SELECT count(*) FROM segment")).scalar_one() > 3


@pytest.mark.parametrize(
    ("page", "field"),
    [
        (Page(rows=0), "rows"), (Page(rows=100_000), "rows"), (Page(skip=-1), "skip"),
        (Page(skip=10**5), "skip"), (Page(after="x", before="x"), "before"), (Page(after="x"), "after"),
        (Page(after="kwEC"), "after"), (Page(before="ä"), "before"), (Page(after="k8///////////"), "after"),
        (Page(after="A" * 100_000), "after"), (Page(after=""), "after"),
    ],
)  # fmt: skip
def test_pages_that_cannot_be(tmp_path: Path, page: Page, field: str) -> None:
    """A page out of bounds, or a key of another list, is refused by the name of its field."""
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    with pytest.raises(WrongAskedError) as raised:
        transactions(database, Transactions(), page)
    assert raised.value.field == field
    database.close()


@pytest.mark.parametrize("early", [True, False], ids=["while-building", "built"])
def test_reversals(database: Database, *, early: bool) -> None:
    """What is reversed stands no more, whichever of the two is read first; counts and lists go by it."""
    writer = Writer(database)
    if not early:
        writer.finish()
    back = {"type": "reversal", "reverses": 1}
    written(writer, record(1, usage("a", "1")), record(2, usage("a", "2")), upto=3)
    written(writer, record(3, usage("a", "1", **back)), record(4, usage("b", "1", **back)), upto=5)
    written(writer, record(5, usage("a", "1", revision=2)), upto=6)
    if not early:
        writer = Writer(database)  # what waits is kept
    written(writer, record(6, usage("b", "1")), upto=7)
    if early:
        writer.finish()
        written(writer, record(7, usage("c", "1", **back)), upto=8)
        written(writer, record(8, usage("c", "1")), upto=9)
    standing = transactions(database, Transactions())
    assert [(row.client, row.id, row.revision) for row in standing.rows] == [
        ("1", "fs1/a/orig", 2), ("2", "fs1/a/orig", 1),
    ]  # fmt: skip
    assert standing.total == 2
    every = transactions(database, Transactions(reversals=True))
    assert every.total == len(every.rows) == (8 if early else 6)
    of_id = transactions(database, Transactions(id="fs1/a", client="1", reversals=True))
    assert [(row.revision, row.type, row.stands) for row in of_id.rows] == [
        (2, "usage", True), (1, "reversal", False), (1, "usage", False),
    ]  # fmt: skip
    only = transactions(database, Transactions(type=TransactionType.REVERSAL))
    assert only.total == (3 if early else 2)


def test_what_cannot_be_read(database: Database) -> None:
    """What others wrote is in no list, and does not stop anything; U+0000 is shown."""
    strange = record(4, usage("\x00é\ud800", "1", account="\x00"))
    batch = written(
        Writer(database), record(1, b"{"), record(2, usage("a", "1", amount="x")),
        record(3, usage("a", "1", at="y")), strange, record(5, usage("b", "1", type="gift")),
        record(6, None), upto=9,
    )  # fmt: skip
    assert batch.unreadable == 5  # a lone surrogate is no text
    batch = written(Writer(database), record(9, usage("\x00é", "1", account="\x00")), upto=10)
    (row,) = transactions(database, Transactions()).rows
    assert (batch.unreadable, row.id, row.account, row.drawn) == (0, "fs1/\\x00é/orig", "\\x00", "Kiev")


def test_rejected(database: Database) -> None:
    """Rejected records are marked when they were sent again, and go when their records have gone."""
    batch, writer = Batch(), Writer(database)

    def refused(reason: str, origin: int) -> list[tuple[str, bytes]]:
        texts = {"reason": reason, "side": "orig", "detail": "d\x00", "value": "\x07", "source_topic": "in",
                 "source_partition": "0", "source_offset": str(origin), "attempt": "1"}  # fmt: skip
        return [(name, of.encode()) for name, of in texts.items()]

    for at in range(6):
        batch.add_rejected(record(at, b"raw", headers=refused("malformed" if at % 2 else "too_old", at)))
    batch.add_rejected(record(6, None, headers=note_headers(Recycled("in", [1, 2]))))
    batch.add_rejected(record(7, b"raw", headers=refused("too_old", 2)))
    batch.add_rejected(record(8, None, headers=[(CONTROL_HEADER, b"\xc1")]))
    writer.write(batch, {("r", 0): 9}, None, AT_MS)
    assert batch.unreadable == 1
    with database.engine.connect() as run:
        again = more_lists.rejected(run, RejectedRecords(again=True), Page())
        assert [(row.offset, row.detail, row.value) for row in again.rows] == [
            (2, "d\\x00", "\\x07"), (1, "d\\x00", "\\x07"),
        ]  # fmt: skip
        assert more_lists.rejected(run, RejectedRecords(reason=Reason.TOO_OLD), Page()).total == 4
    assert writer.trim("rejected", {0: 3}) == 3
    with database.engine.connect() as run:
        left = more_lists.rejected(run, RejectedRecords(), Page())
        assert (left.total, [row.offset for row in left.rows]) == (4, [7, 5, 4, 3])
        assert more_lists.rejected(run, RejectedRecords(reason=Reason.TOO_OLD), Page()).total == 2


def test_commands_events_jobs(database: Database) -> None:
    """A command gets its result whichever is read first; a job is the sum of what its events tell."""
    batch, writer = Batch(), Writer(database)

    def tell(offset: int, kind: EventType, **more: Any) -> None:
        event = Event(f"e{offset}", kind, "2026-11-03T10:00:00.000Z", **more)
        batch.add_event(record(offset, write_event(event)))

    window = {"job": "j", "from": "2026-11-01T00:00:00.000Z", "to": "2026-11-02T00:00:00.000Z"}
    tell(1, EventType.COMMAND_REFUSED, cause="c1", data={"reason": "no\x00"})
    tell(2, EventType.RERATE_STARTED, client="1", data=window)
    tell(3, EventType.RERATE_STARTED, client="2", data=window)
    tell(4, EventType.RERATE_DONE, client="1", data=window | {"given_up": False, "calls": 5, "changed": 2})
    tell(5, EventType.RERATE_DONE, client="1", data={})
    manifest = {"part": "manifest", "version": 1, "offset": 0}
    sent: list[tuple[str, Do, dict[str, Any], int]] = [
        ("c1", Do.ADJUST, {"amount": "1"}, 0), ("tick/1", Do.TICK, {}, 0),
        ("l", Do.LOAD_CATALOG, manifest, 0), ("l", Do.LOAD_CATALOG, manifest, 1),
        ("l", Do.LOAD_CATALOG, {"part": "clients", "version": 1, "bucket": 0, "entries": []}, 1),
    ]  # fmt: skip
    for offset, (of_id, do, args, part) in enumerate(sent):
        raw = write_command(of_id, do, AT_MS, args, actor="anna", client="1" if do == Do.ADJUST else None)
        batch.add_command(record(offset, raw, part=part))
    batch.add_command(record(9, b"{}"))
    writer.write(batch, {("e", 0): 6}, None, AT_MS)
    assert batch.unreadable == 2
    assert batch.sent == [("c1", 0, 0), ("tick/1", 0, 1), ("l", 0, 2), ("l", 1, 3)]
    with database.engine.connect() as run:
        asked = more_lists.commands(run, Commands(), Page())
        assert [(row.id, row.result, row.detail) for row in asked.rows] == [
            ("l", None, None), ("c1", "refused", "no\\x00"),
        ]  # fmt: skip
        assert more_lists.commands(run, Commands(system=True), Page()).total == 3
        (job,) = more_lists.jobs(run, Jobs(open=True), Page()).rows
        assert (job.clients, job.done, job.given_up, job.calls, job.changed) == (2, 1, 0, 5, 2)
        assert more_lists.jobs(run, Jobs(open=False), Page()).rows == []
        assert more_lists.events(run, Events(client="1"), Page()).total == 3
        few = more_lists.events(run, Events(answers=False), Page())
        assert (few.total, [row.offset for row in few.rows]) == (4, [5, 4, 3, 2])
        for wanted, part, place, rows, offsets in (
            (Events(answers=False), 0, 0, 9, [2, 3, 4, 5]), (Events(), 0, 0, 9, [1, 2, 3, 4, 5]),
            (Events(), 0, 3, 2, [3, 4]), (Events(), 1, 0, 9, []),
            (Events(client="1", type=EventType.RERATE_DONE), 0, 2, 9, [4, 5]),
        ):  # fmt: skip
            assert [row.offset for row in more_lists.events_on(run, wanted, part, place, rows)] == offsets
    assert writer.trim("event", {0: 3}) == 2


def test_a_changed_package(database: Database) -> None:
    """Packages follow the catalog: new, changed, deleted."""
    writer = Writer(database)

    def content(**names: str) -> Content:
        specs = {
            of: PackageSpec(id=of, name=name, type="customer", currency="USD") for of, name in names.items()
        }
        return Content(
            packages={of: PackageHistory([(0, spec)], [(0, "active")]) for of, spec in specs.items()}
        )

    writer.catalog(1, content(a="One", b="Two"))
    writer.catalog(2, content(b="Zwei", c="Three"))
    with database.engine.connect() as run:
        found = more_lists.packages(run, Packages(), Page())
        assert [(row.id, row.name) for row in found.rows] == [("b", "Zwei"), ("c", "Three")]
        assert [row.id for row in more_lists.packages(run, Packages(text="%"), Page()).rows] == []
        assert lists.clients(run, Clients(text="%"), Page()).rows == []
    assert database.said()["catalog"] == "2"


def test_one_writer(database: Database) -> None:
    """Who writes from positions that another has moved is stopped, and has written nothing."""
    one, other = Writer(database), Writer(database)
    written(one, record(1, usage("a", "1")), upto=2)
    with pytest.raises(Halt, match="another process follows the topics into"):
        written(other, record(1, usage("a", "1")), upto=2)
    written(Writer(database), record(2, usage("b", "1")), upto=3)
    assert transactions(database, Transactions()).total == 2


def test_order_of_ids() -> None:
    """Ids are sorted as they are elsewhere: numbers as numbers and first."""
    ids = ["10", "9", "a", "09", "0", "00", "B", "9" * 64, "9" * 65, "ä", "9a"]
    assert sorted(ids, key=order_key) == sorted(ids, key=id_order)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.sqlite", "postgresql://u:secret@127.0.0.1:1/x"])
def test_a_database_that_is_not_there(url: str) -> None:
    """What cannot be opened is told with the setting, and without the password."""
    with pytest.raises(Halt, match=r"admin\.database") as raised:
        Database(url)
    assert "secret" not in str(raised.value)


def test_the_columns_of_types() -> None:
    """A type's number in the rows is its place; a new one comes at the end."""
    assert schema.KINDS[:6] == (
        "usage",
        "activation_fee",
        "subscription_fee",
        "refund",
        "adjustment",
        "reversal",
    )


def test_what_time_alone_changes(database: Database) -> None:
    """What waits for funds is active until its period stops, and then pending, without any record of it."""
    spec = PackageSpec(id="1", name="One", type="customer", currency="USD")
    content = Content(base="USD", packages={"1": PackageHistory([(0, spec)], [(0, "active")])})
    catalog = compile_catalog(content, 1, NOTICES)
    life = Life(
        numbered=1, count=1, periods=(HeldPeriod(1, AT_MS, AT_MS + 1000, AT_MS, 1),), first_ms=AT_MS,
        waiting=Waiting("renewal", "funds", AT_MS, total=5),
    )  # fmt: skip
    held = ClientPackage("p", "1", None, 1, AT_MS, AT_MS, None, life=life)
    state = ClientState("42", 3, 1, "Rose", None, "USD", "UTC", 0, None, None, None, {}, {}, [held], 0)
    writer = Writer(database)
    writer.catalog(1, content)
    changed = {"42": Changed(3, state, (1, 7))}
    writer.restore(changed, catalog, AT_MS)

    def statuses() -> list[tuple[str, int | None]]:
        with database.engine.connect() as run:
            found = lists.client_packages(run, ClientPackages(), Page())
        assert found.total == len(found.rows)
        return [(row.status, row.period_stop_ms) for row in found.rows]

    assert statuses() == [("active", AT_MS + 1000)]
    assert writer.turned(AT_MS + 999, 9) == []
    assert writer.turned(AT_MS + 1000, 9) == [Turned("42", 3, (1, 7))]
    writer.restore(changed, catalog, AT_MS + 1000)
    assert statuses() == [("pending", None)]
    assert writer.turned(AT_MS + 10**9, 9) == []
    writer.restore({"42": Changed(2, state, (0, 1))}, catalog, AT_MS)  # an older version changes nothing
    assert statuses() == [("pending", None)]
