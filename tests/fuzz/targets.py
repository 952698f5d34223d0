"""What is fuzzed: each target takes bytes, runs the product on them, and asserts what must hold.

An input is (kind, bytes); a file of the corpus is `NAME.KIND`. What is not an AssertionError of a check is an
exception that the product let out.
"""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import mobile_files
import traffic
from fuzz import world
from fuzz.mutating import Mutator, dumped, packed
from golden.cases import Case, load_cases
from rater.cli import topics
from rater.cli.printing import print_rows
from rater.core.amounts import parse_micros
from rater.core.bucket.messages import hint_of
from rater.core.catalog.codes import Row
from rater.core.catalog.specs import Content, RateTableSpec
from rater.core.catalog_files.merging import Existing, Fault, Merged, merge
from rater.core.cdr import MAX_BYTES, Arrival, Cdr
from rater.core.cdr_decoding import check
from rater.core.decks.cells import text_of
from rater.core.decks.planning import Plan, plan
from rater.core.decks.profile import Profile
from rater.core.instants import DAY_MS
from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Stored
from rater.core.journal.outcomes import KeptChange, write_copy
from rater.core.journal.records import ChangeRecord, Effect, StateRecord
from rater.core.offline import Duplicate, Ended, Rater, Transaction
from rater.core.reasons import VALUE_CHARS_MAX, Reason, Rejection
from rater.core.sources.cutting import records
from rater.core.sources.source_map import Skipped, SourceMap, compile_map, describe
from rater.deck_files import Unreadable, sheet_of
from rater.errors import Halt
from rater.mobile import reading
from rater.queries.rejected import rejected_of
from rater.queries.transactions import published
from rater.source_maps import open_map, shipped
from rater.stream.browsing import Seen
from rater.stream.journal import Mark, Owner, understood
from workbook import Error, Value, sheet, workbook

DATA = Path(__file__).parents[1] / "data" / "sources"
DETAIL_CHARS_MAX = 1000
"""A sentence: it becomes a Kafka header, and a line on a screen."""
RECORD_S_MAX = 1.0
"""Of the processor, for one record of 64 KiB at most: what is not linear takes minutes."""
FILE_S_MAX = 5.0
"""The same, for a catalog or map file: most have some KB."""

BOM = b"\xef\xbb\xbf"

Input = tuple[str, bytes]


@dataclass(frozen=True)
class Target:
    """inputs: how many a short run makes."""

    seeds: Callable[[], list[Input]]
    mutate: Callable[[Mutator, Input], bytes]
    check: Callable[[str, bytes], None]
    inputs: int


def sentence(text: str, most: int = DETAIL_CHARS_MAX) -> None:
    """Check what is told to people: there is some of it, bounded, and it can be written."""
    assert text, "nothing is told"
    assert len(text) <= most, f"{len(text)} characters are told: {text[:200]}"
    text.encode()


def quick(began: float, most: float) -> None:
    """Check that an input did not take long."""
    took = time.process_time() - began
    assert took < most, f"took {took:.1f} s"


# ------------------------------------------------------------------ CDRs
@cache
def cases() -> dict[str, Case]:
    """Return the golden cases by name."""
    return {case.name: case for case in load_cases()}


@cache
def rater(name: str) -> tuple[Rater, int]:
    """Return a rater with the case's catalog, and a time at which its records may come."""
    made = Rater()
    case = cases().get(name)
    if case is None:  # of tests/line/test_poison.py
        text, at_ms = traffic.catalog(4, 1), world.LOADED_MS
    else:
        text, at_ms = case.catalog, max(at_ms for _, at_ms in case.records)
    faults = made.load([("catalog.yaml", text)], world.LOADED_MS)
    assert not faults, faults
    return made, at_ms


def cdr_seeds() -> list[Input]:
    """Return the records of the golden cases."""
    return [(case.name, raw) for case in cases().values() for raw, _ in case.records if len(raw) < MAX_BYTES]


def mutated_json(mutator: Mutator, given: Input) -> bytes:
    """Change a JSON text: mostly its values, sometimes its bytes."""
    _, raw = given
    try:
        value = json.loads(raw)
    except ValueError:
        return mutator.cut(raw)
    if mutator.random.random() < 0.2:
        return mutator.cut(raw)
    raw = dumped(mutator.value(value))
    return mutator.cut(raw) if mutator.random.random() < 0.1 else raw


def check_cdr(kind: str, raw: bytes) -> None:
    """Each side has one outcome, or the record has one; told in bounds; again it is a duplicate."""
    made, at_ms = rater(kind)
    began = time.process_time()
    ended = made.rate(raw, at_ms)
    quick(began, RECORD_S_MAX)
    sides = [one.side for one in ended]
    assert sides in ([None], ["orig"], ["term"], ["orig", "term"]), sides
    known = _sides_of(raw)
    if known is not None and not (sides == [None] and _reason(ended[0]) in _WHOLE):
        assert sides == known, f"{sides} have an outcome, {known} are there"
    for one in ended:
        check_ended(one)
    again = made.rate(raw, at_ms)
    assert [_kind(one) for one in again] == [
        ("duplicate", one.side) if isinstance(one, Transaction) else _kind(one) for one in ended
    ]


_WHOLE = (Reason.MALFORMED, Reason.TOO_LARGE)


def _reason(one: Ended) -> Reason | None:
    return one.reason if isinstance(one, Rejection) else None


def _kind(one: Ended) -> tuple[str, str | None]:
    if isinstance(one, Rejection):
        return one.reason, one.side
    return ("duplicate" if isinstance(one, Duplicate) else "transaction"), one.side


def _sides_of(raw: bytes) -> list[str | None] | None:
    """Return the sides as another reader of JSON sees them; None where it cannot tell."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return [None]
    return [side for side in ("orig", "term") if record.get(side) is not None] or [None]


def check_ended(one: Ended) -> None:
    """A transaction is JSON with an amount; a rejection tells in bounds."""
    if isinstance(one, Transaction):
        value = json.loads(one.value)
        parse_micros(value["amount"])
        assert value["side"] == one.side
    elif isinstance(one, Rejection):
        check_rejection(one)


def check_rejection(one: Rejection) -> None:
    """A rejection tells in bounds."""
    sentence(one.detail)
    assert len(one.value) <= VALUE_CHARS_MAX
    one.value.encode()


# ------------------------------------------------------------------ records of switches
@cache
def source_map(name: str) -> SourceMap:
    """Return a shipped map, with a zone for times that have none."""
    found = open_map(name, {"zone": "Europe/Kyiv", "account": "sip-1"})
    assert isinstance(found, SourceMap), found
    return found


def _cut(name: str) -> Iterator[bytes]:
    made = source_map(name)
    for path in sorted(DATA.glob(f"{name.removesuffix('-csv')}.*")):
        if (path.suffix == ".csv") == (made.format == "csv"):
            with path.open("rb") as stream:
                yield from (record.raw for record in records(stream, made))


def source_seeds() -> list[Input]:
    """Return the records of each switch."""
    return [(name, raw) for name in shipped() for raw in _cut(name)]


def mutated_record(mutator: Mutator, given: Input) -> bytes:
    """Change a record by its format."""
    name, raw = given
    if raw.lstrip()[:1] == b"{":
        return mutated_json(mutator, given)
    if mutator.random.random() < 0.3:
        return mutator.cut(raw)
    mark = source_map(name).separator.encode() if source_map(name).format == "csv" else b"\n"
    return mutator.lines(raw.replace(mark, b"\n")).replace(b"\n", mark)


def check_source(kind: str, raw: bytes, columns: bytes | None = None) -> None:
    """A record of a switch becomes a CDR that is taken or refused, is skipped, or is refused at once."""
    made = source_map(kind)
    began = time.process_time()
    found = made.apply(raw, columns)
    if isinstance(found, dict):
        taken = check(found, Arrival(world.LOADED_MS + 50 * DAY_MS, 100 * DAY_MS, frozenset({"calls"})))
        refused = made.named(taken.rejected if isinstance(taken, Cdr) else taken)
        assert isinstance(taken, Cdr) or refused
    else:
        refused = () if isinstance(found, Skipped) else found
        assert isinstance(found, Skipped) or refused
    quick(began, RECORD_S_MAX)
    sides = [one.side for one in refused]
    assert sides in ([], [None], ["orig"], ["term"], ["orig", "term"]), sides
    for one in refused:
        check_rejection(one)
    for _, text in describe(raw, found):
        text.encode("utf-8", "backslashreplace")


def file_seeds() -> list[Input]:
    """Return files of CSV with a header row, in the map's order and in others."""
    rows = [line.split(",") for line in (DATA / "cisco-cucm.csv").read_text("utf-8").splitlines()]
    orders = [[*range(len(rows[0]))], [*range(len(rows[0]) - 1, -1, -1)]]
    orders.append(orders[0][30:] + orders[0][:30])
    files = [
        "\n".join(",".join(row[at] for at in order) for row in rows if len(row) == len(rows[0]))
        for order in orders
    ]
    return [("cisco-cucm", one.encode()) for one in (*files, "\n".join(files))]


def mutated_file(mutator: Mutator, given: Input) -> bytes:
    """Change a file of CSV: its rows, its cells, its bytes."""
    _, raw = given
    choice = mutator.random.random()
    if choice < 0.4:
        return mutator.lines(raw)
    return mutator.lines(raw.replace(b",", b"\n")).replace(b"\n", b",") if choice < 0.7 else mutator.cut(raw)


def check_file(kind: str, raw: bytes) -> None:
    """A file is refused in a sentence, or each of its rows by itself is what a record may be."""
    began = time.process_time()
    try:
        found = list(records(io.BytesIO(raw), source_map(kind)))
    except ValueError as error:
        sentence(str(error))
        return
    quick(began, FILE_S_MAX)
    assert b"".join(b"".join(one.raw for one in found).split()) == b"".join(raw.removeprefix(BOM).split())
    for one in found:
        check_source(kind, one.raw, one.columns)


# ------------------------------------------------------------------ source maps
COMPUTED = b"""
format = "json"
[numbers]
strip = ["9#"]
suffix = ["#", "*1"]
[fields]
id = "linkedid"
answered_at = {path = "answer", format = "%m/%d/%Y %I:%M:%S %p", zone = "UTC"}
ended_at = "end"
duration = [
  {path = "length", unit = "h:m:s"},
  {sum = [{path = "durationsec", unit = "min"}, "billsec?"], unit = "s", scale = "1/60"},
  {from = "answered_at", to = "ended_at"},
]
called = "dst"
[orig]
account = "accountcode"
"""
VOLUMES = (
    COMPUTED.partition(b"duration = ")[0]
    + b"""
volume = {sum = ["durationsec", "billsec?"], scale = "1/1024"}
called = "dst"
[orig]
account = "accountcode"
"""
)


def map_seeds() -> list[Input]:
    """Return the text of each shipped map, and of two that compute."""
    own = [("toml", text) for text in (COMPUTED, VOLUMES)]
    return [*(("toml", path.read_bytes()) for path in shipped().values()), *own * 3]


def check_map(_: str, raw: bytes) -> None:
    """A map compiles, or each fault is a sentence; what compiles takes any record."""
    text = raw.decode("utf-8", "replace")
    began = time.process_time()
    made = compile_map(text, "fuzzed.toml", {"zone": "UTC"})
    quick(began, FILE_S_MAX)
    if isinstance(made, list):
        assert made
        for fault in made:
            sentence(str(fault), 2 * DETAIL_CHARS_MAX)
        return
    for name in ("asterisk", "freeswitch-esl", "cisco-cucm"):
        made.apply(next(_cut(name)))


# ------------------------------------------------------------------ catalogs
def catalog_seeds() -> list[Input]:
    """Return the catalogs of the golden cases, as YAML and as JSON, one with everything, and CSV files."""
    import yaml  # noqa: PLC0415 - of seeds only

    rich = yaml.load(world.RICH, yaml.BaseLoader)  # noqa: S506 - every scalar is a text
    texts = [case.catalog for name, case in cases().items() if int(name[:2]) % 3 == 0]
    as_json = [json.dumps(yaml.load(text, yaml.BaseLoader)).encode() for text in texts]  # noqa: S506 - the same
    return [
        *(("yaml", text) for text in (*texts, *[world.RICH] * 20)),
        *(("json", text) for text in (*as_json, *[json.dumps(rich).encode()] * 20)),
        *(("csv", text) for text in world.CSVS * 5),
    ]


def mutated_catalog(mutator: Mutator, given: Input) -> bytes:
    """Change a catalog by its format."""
    kind, raw = given
    if kind == "json":
        return mutated_json(mutator, given)
    if kind == "csv" and mutator.random.random() < 0.5:
        return mutator.lines(raw.replace(b",", b"\n")).replace(b"\n", b",")
    return mutator.lines(raw) if mutator.random.random() < 0.5 else mutator.cut(raw, [world.RICH])


def check_catalog(kind: str, raw: bytes) -> None:
    """A catalog is loaded, or every fault is a sentence and nothing changed."""
    made = Rater()
    assert not made.load([("loaded.yaml", world.RICH)], world.LOADED_MS, world.open_part)
    before = _state(made)
    began = time.process_time()
    faults = made.load([(f"fuzzed.{kind}", raw)], world.LOADED_MS + DAY_MS, lambda name: _part(name, raw))
    quick(began, FILE_S_MAX)
    if faults:
        assert _state(made) == before, "a refused load changed something"
        for fault in faults:
            assert isinstance(fault, Fault)
            sentence(str(fault), 5 * DETAIL_CHARS_MAX)
        return
    assert not made.load(
        [(f"fuzzed.{kind}", raw)], world.LOADED_MS + 2 * DAY_MS, lambda name: _part(name, raw)
    )
    cdr, at_ms = cases()["09-vendor-package"].records[0]
    for one in made.rate(cdr, at_ms):
        check_ended(one)


def _part(name: str, raw: bytes) -> bytes:
    """Return what lies beside a catalog; under a name that is not known, the fuzzed bytes themselves."""
    try:
        return world.open_part(name)
    except OSError:
        return raw


def _state(made: Rater) -> tuple[Any, ...]:
    return (
        made.catalog.version, msgspec.msgpack.encode(made.content), dict(made.states),
        {name: made.balance(name) for name in made.states}, dict(made.views.accounts),
    )  # fmt: skip


# ------------------------------------------------------------------ commands
def command_seeds() -> list[Input]:
    """Return the commands of a load, and others."""
    return [("json", raw) for raw in world.commands()]


def check_command(_: str, raw: bytes) -> None:
    """Whatever lies on the commands topic: a lane goes on, with a catalog or not; nothing is bent."""
    began = time.process_time()
    world.obeyed(raw, with_catalog=True)
    world.obeyed(raw, with_catalog=False)
    quick(began, 4 * RECORD_S_MAX)


def body_seeds() -> list[Input]:
    """Return a body of the catalog and its objects, as a manifest's author may have garbled them."""
    return [(kind, raw) for kind, raw in world.content_records()]


def mutated_msgpack(mutator: Mutator, given: Input) -> bytes:
    """Change msgpack: mostly its values."""
    _, raw = given
    if mutator.random.random() < 0.3:
        return mutator.cut(raw)
    return packed(mutator.value(msgspec.msgpack.decode(raw)))


def check_body(kind: str, raw: bytes) -> None:
    """A manifest whose content is no catalog is refused, and the lane goes on with the one it has."""
    world.adopted(kind, raw)


# ------------------------------------------------------------------ records of the journal
FEE = (
    b'{"id":"cp/3/1/subscription_fee","revision":1,"type":"subscription_fee","client":"42","account":null,'
    b'"client_package":"3","package":"1","period":1,"net":"-0.00001","taxes":[{"name":"VAT","percent":"20",'
    b'"amount":"-0.000002"}],"amount":"-0.000012","currency":"USD","catalog":1,'
    b'"cdr":{"source":"default","id":"a1"}}'
)
"""The fee of a period that a call brought (charge on event)."""


def journal_seeds() -> list[Input]:
    """Return records of every kind that the journal holds: (headers, key, value, timestamp), as msgpack."""
    effect = Effect("t.cdrs", 0, 5, 0, world.LOADED_MS, world.LOADED_MS, b"k" * 8, b"c" * 4, "42", -6000,
                    [("3.1.m1", 60)])  # fmt: skip
    client = world.register()
    state = StateRecord("t.commands", 5, 2, "42", 1, client, [("sip-1", "42")])
    change = ChangeRecord(
        "t.commands", 5, 2, world.LOADED_MS, world.LOADED_MS, "42", 1, client, 50, [("3.1.m1", 60)],
        [hint_of(world.LOADED_MS, "42")], ["1"], [("3.1", b"row")],
        [(1, write_copy(KeptChange("t.cdrs", 6, 2, 0, "42", 1, client, 0, [], (), ()), "id"))], [1],
    )  # fmt: skip
    fee = Effect("t.cdrs", 0, 5, 6, world.LOADED_MS, world.LOADED_MS, b"", b"", "42", -12,
                 [("3.1.fee.charged", 1), ("3.1.fee.net", -10), ("3.1.fee.amount", -12)])  # fmt: skip
    mark = Mark({"t.commands": 8, "t.cdrs": 6}, {"t.cdrs": world.LOADED_MS}, 1, 3, world.LOADED_MS)
    pack = msgspec.msgpack.encode
    records: list[tuple[list[tuple[str, bytes]], bytes | None, bytes | None]] = [
        ([("control", pack(said))], None, None)
        for said in (state, change, mark, ["mark", {"t.cdrs": 6}, {}, 1, 3, 7], Owner("w", "g"), ["content"])
    ]
    records.append(([("e", pack(fee))], b"42", FEE))
    records += [([("e", pack(effect))], b"42", value) for value in world.transactions()]
    headers = [("reason", b"malformed"), ("detail", b"is no text"), ("value", b"5"), ("side", b"orig"),
               ("source_topic", b"t.cdrs"), ("source_partition", b"0"), ("source_offset", b"5"),
               ("catalog", b"1"), ("attempt", b"1")]  # fmt: skip
    records.append((headers, b"k", b'{"id": 5}'))
    return [("msgpack", pack([*record, world.LOADED_MS])) for record in records]


def mutated_journal(mutator: Mutator, given: Input) -> bytes:
    """Change a record: the values in its header, its value's JSON, or the whole."""
    record = msgspec.msgpack.decode(given[1])
    headers, _, value, _ = record
    match mutator.random.randrange(5):
        case 0 | 1 if headers:
            at = mutator.random.randrange(len(headers))
            name, raw = headers[at]
            headers[at] = [
                name,
                mutated_msgpack(mutator, (name, raw)) if name in ("e", "control") else mutator.cut(raw),
            ]
        case 2 | 3 if value:
            record[2] = mutated_json(mutator, ("json", value))
        case _:
            record = mutator.value(record)
    return packed(record)


def _record(raw: bytes) -> Seen | None:
    """Return the record as Kafka's client would hand it out; None where Kafka could not hold it."""
    try:
        headers, key, value, at_ms = msgspec.msgpack.decode(
            raw, type=tuple[list[tuple[str, bytes | None]], bytes | None, bytes | None, int]
        )
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not -(2**63) <= at_ms < 2**63:
        return None
    return Seen(0, 7, at_ms, key, value, headers)  # type: ignore[arg-type]  # a header may be null


def check_journal(_: str, raw: bytes) -> None:
    """A record in the journal is understood, is nothing of ours, or halts with a sentence; audits find it."""
    seen = _record(raw)
    if seen is None:
        return
    began = time.process_time()
    try:
        said = understood(seen.headers)
    except Halt as error:
        sentence(str(error))
        said = None
    else:
        world.taken(said)
    ledger = Ledger()
    if seen.value is not None:
        for offset in (7, 8):
            ledger.add(0, offset, seen.value, said if isinstance(said, Effect) else None)
        assert ledger.findings, "the same value twice is no finding"
    for client in list(ledger.clients()):
        client.encode()  # it is asked of Redis
        ledger.books[client].moved()
        other = Stored(5, {"a.1.b": 7}, b"?")
        for finding in (*ledger.compare(client, None), *ledger.compare(client, other)):
            ledger.find(finding.kind, finding.where, finding.problem)
    quick(began, RECORD_S_MAX)
    for finding in ledger.findings:
        sentence(finding.where)
        sentence(finding.problem)


def check_lists(_: str, raw: bytes) -> None:
    """The lists of the CLI show any record, as text and as JSON."""
    seen = _record(raw)
    if seen is None:
        return
    began = time.process_time()
    rows: list[tuple[dict[str, Any], Any]] = [
        (dict(topics.rejected_row(rejected_of(seen, {"t.cdrs": "default"}))), topics.REJECTED)
    ]
    if seen.value is not None:
        rows.append((dict(topics.transaction_row(published(seen, seen.value))), topics.TRANSACTION))
    for row, columns in rows:
        for as_json in (False, True):
            out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
            with redirect_stdout(out):
                print_rows([row], columns, as_json=as_json)
    quick(began, RECORD_S_MAX)


# ------------------------------------------------------------------ carriers' decks
DECK_ROWS: list[list[Value]] = [
    ["ACME", "rates as of 1 December"],
    ["Country Code", "Area Code", "Destination", "Rate USD/min", "Connection Fee", "Increment",
     "Effective Date", "End Date", "Status"],
    [380.0, "44, 50-52", "Ukraine", 0.0455, 0.01, "60/1", date(2026, 12, 1), None, "Increase"],
    [39.0, "06", "Italy Rome", "$0.02", None, "1/1", "2026-11-01", "2027-01-01", "New"],
    ["+44", None, "UK", "1,234.5", Error("#N/A"), 6.0, "13/12/2026", None, "Closed"],
    ["Legend"],
]  # fmt: skip
DECK_CONTENT = Content(
    base="USD",
    rate_tables={
        "t": RateTableSpec("t", "USD", None, [Row("380", 10**9), Row("44", 10**8, 0, 60, 60, 3, 0, None)])
    },
)


def deck_seeds() -> list[Input]:
    """Return decks: a workbook, its sheet's XML, and text with separators, in encodings, packed."""
    rows = [
        [text_of(value) if isinstance(value, str | float | date) else "" for value in row]
        for row in DECK_ROWS
    ]
    texts = ["\n".join(mark.join(row) for row in rows).encode() for mark in (";", "\t", "|")]
    days = [  # around world.LOADED_MS, 2026-09-15
        "Code;Rate;Effective Date;End Date;Status", "380;0,05;2026-09-01", "380;0,06;2026-10-01",
        "380;;2026-11-01;;closed", "1242-1246;0,1;2026-08-01;2026-12-31", "44;0,2;2026-09-01;2026-09-10",
        "44;0,3;2026-10-01", "7;1;", "7;2;2026-09-16;;new", "49;;;;blocked",
    ]  # fmt: skip
    full = "\n".join(days).encode("cp1252")
    return [
        ("xlsx", workbook({"Rates": DECK_ROWS})),
        *[("sheet", sheet(DECK_ROWS).encode())] * 3,
        *[("csv", text) for text in (*texts, full, full, full) * 2],
        ("csv", texts[1].decode().encode("utf-16")),
        ("csv", gzip.compress(texts[0])),
    ]


def mutated_deck(mutator: Mutator, given: Input) -> bytes:
    """Change a deck: its cells, its lines, its bytes."""
    kind, raw = given
    if kind == "csv" and mutator.random.random() < 0.5:
        return mutator.lines(raw.replace(b";", b"\n")).replace(b"\n", b";")
    return mutator.lines(raw) if mutator.random.random() < 0.4 else mutator.cut(raw)


def check_deck(kind: str, raw: bytes) -> None:
    """A deck becomes a plan that loads, and then says nothing new; or every fault is a sentence."""
    if kind == "sheet":
        raw = workbook({"Rates": []}, first=raw)
    began = time.process_time()
    for which in ("full", "partial"):
        profile = Profile(kind=which, increment="1/1")
        made = _planned(raw, profile, DECK_CONTENT)
        quick(began, FILE_S_MAX)
        if isinstance(made, str):
            sentence(made, 5 * DETAIL_CHARS_MAX)
        elif isinstance(made, list):
            assert made
            for fault in made:
                sentence(str(fault), 5 * DETAIL_CHARS_MAX)
        else:
            merged = merge(DECK_CONTENT, made.rows(), world.LOADED_MS, Existing({}, {}))
            assert isinstance(merged, Merged)
            again = _planned(raw, profile, merged.content)
            assert isinstance(again, Plan)
            assert again.table == made.table, "the same deck again changes something"


def _planned(raw: bytes, profile: Profile, content: Content) -> Plan | list[Fault] | str:
    try:
        read = sheet_of("deck", raw, None, {})
        return plan(content, 1, read, "t", profile, effective_ms=None, now_ms=world.LOADED_MS)
    except Unreadable as error:
        return str(error)


def mutated_map(mutator: Mutator, given: Input) -> bytes:
    """Change the text of a map."""
    return mutator.lines(given[1]) if mutator.random.random() < 0.6 else mutator.cut(given[1])


# ------------------------------------------------------------------ files of mobile networks
@cache
def mobile_seeds() -> list[Input]:
    """Return files of both formats, with lengths of both forms, bare and with headers."""
    events = [
        mobile_files.mo_call(), mobile_files.mt_call(), mobile_files.mo_sms(), mobile_files.gprs(),
        mobile_files.supplementary(),
    ]  # fmt: skip
    cdrs = [
        mobile_files.mo_record(), mobile_files.mt_record(), mobile_files.sms_record(),
        mobile_files.session_record(), mobile_files.session_record("sGWRecord"), mobile_files.trunk_record(),
    ]  # fmt: skip
    return [
        *(("tap3", mobile_files.tap_file(events, is_indefinite=one)) for one in (False, True)),
        ("tap3", mobile_files.tap_file(events[:1]) + mobile_files.tap_file(events[1:])),
        ("ts32298", b"".join(cdrs)),
        *(("ts32298", mobile_files.framed(cdrs, release=one)) for one in (3, 7)),
    ]


def mutated_octets(mutator: Mutator, given: Input) -> bytes:
    """Change the octets of a file."""
    kind, raw = given
    return mutator.cut(raw, [other for form, other in mobile_seeds() if form == kind])


def check_mobile(kind: str, raw: bytes) -> None:
    """A file is refused by a sentence, or all of it becomes records that are taken, skipped or refused."""
    began = time.process_time()
    told: list[str] = []
    try:
        rows = [record.raw for record in reading.records(io.BytesIO(raw), kind, told.append)]
    except ValueError as fault:
        sentence(str(fault))
        return
    quick(began, RECORD_S_MAX)
    for one in told:
        sentence(one)
    for row in rows:
        assert json.loads(row)["format"] == kind
        check_source(kind, row)
    assert told or not any(b'"fault":' in row[:40] for row in rows), "a fault is not told"


TARGETS = {
    "cdrs": Target(cdr_seeds, mutated_json, check_cdr, 5_000),
    "sources": Target(source_seeds, mutated_record, check_source, 6_000),
    "files": Target(file_seeds, mutated_file, check_file, 500),
    "maps": Target(map_seeds, mutated_map, check_map, 2_000),
    "catalogs": Target(catalog_seeds, mutated_catalog, check_catalog, 500),
    "commands": Target(command_seeds, mutated_json, check_command, 400),
    "bodies": Target(body_seeds, mutated_msgpack, check_body, 300),
    "journal": Target(journal_seeds, mutated_journal, check_journal, 4_000),
    "mobile": Target(mobile_seeds, mutated_octets, check_mobile, 3_000),
    "decks": Target(deck_seeds, mutated_deck, check_deck, 1_500),
    "lists": Target(journal_seeds, mutated_journal, check_lists, 2_000),
}
