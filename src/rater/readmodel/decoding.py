"""Records of the topics become rows, batch by batch: what their lists show, and what changes other rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgspec
from msgspec import Struct

from rater.core.amounts import parse_micros
from rater.core.clients.state import ClientState, read_state
from rater.core.commands.records import LOADS, read_command, read_event
from rater.core.instants import milliseconds
from rater.core.journal.records import CONTROL_HEADER, JOB_HEADER, ChangeRecord, Effect
from rater.core.json_text import UNREADABLE
from rater.core.kinds import Do, EventType, Result
from rater.core.line.recycling import note_of
from rater.core.visible_text import visible
from rater.readmodel.schema import KINDS, REVERSAL, USAGE
from rater.stream.journal import Control, Mark, understood

SHOWN_CHARS = 400
"""So much of a sentence is kept in a row."""
_DIGITS_MAX = 18
_RFC3339_CHARS = 24
_SYSTEM = ("tick/", "freed/", "dids/")
"""Ids of our own commands begin so."""


class Record(Protocol):
    """A record as Kafka's library gives it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Changed(NamedTuple):
    """A client's state of a version, and where it lies."""

    version: int
    state: ClientState
    place: tuple[int, int]


class Reversal(NamedTuple):
    """What a reversal takes back: a client's transaction, its id and revision."""

    client: str
    id: str
    revision: int


class Batch:
    """What some records say: rows for tables, in their columns' order, and what changes others."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.records = 0
        self.unreadable = 0
        self.txns: list[tuple[Any, ...]] = []
        self.reversals: list[Reversal] = []
        self.changed: dict[str, Changed] = {}
        self.rejected: list[tuple[Any, ...]] = []
        self.again: list[tuple[int, str, list[int], int]] = []
        """(partition, topic, offsets there, offset of the note) of records that were sent again."""
        self.events: list[tuple[Any, ...]] = []
        self.results: list[tuple[str, str, str | None]] = []
        self.jobs: list[tuple[Any, ...]] = []
        self.commands: list[tuple[Any, ...]] = []
        self.sent: list[tuple[str, int, int]] = []
        """(id, partition, offset) of commands."""
        self.marks: dict[int, Mark] = {}
        """Lane → its last mark."""

    # ------------------------------------------------------------------ the journal
    def add_journal(self, record: Record) -> None:
        """Take a record of `rater.transactions`. Raises Halt for a control record that cannot be read."""
        self.records += 1
        if record.value is None:
            said = understood(record.headers) if _is_ours(record.headers) else None
            if said is not None:
                self._control(record, said)
            return
        try:
            self._transaction(record, record.value)
        except (*UNREADABLE, KeyError, ValueError):
            self.unreadable += 1

    def _control(self, record: Record, said: Effect | Control) -> None:
        if isinstance(said, Mark):
            self.marks[record.partition] = said
        elif isinstance(said, ChangeRecord):
            before = self.changed.get(said.client)
            if before is None or before.version < said.version:
                place = record.partition, record.offset
                self.changed[said.client] = Changed(said.version, read_state(said.state), place)

    def _transaction(self, record: Record, value: bytes) -> None:
        told = _told(value)
        kind, name = _kind[told.type], told.id
        usage = kind == USAGE or (kind == REVERSAL and told.called is not None)
        if usage:
            what = told.code_name or told.code or told.why or ""
        else:
            what = told.package_name or told.reason or ""
        draws = told.draws
        drawn = "" if not draws else _names([draw.package_name for draw in draws])
        row = (
            record.timestamp, record.partition, record.offset, 0, told.client, told.account, name,
            id_key(name.rpartition("/")[0]), told.revision, kind, at_ms(told.at), told.client_package,
            told.called, what, drawn, told.billed, _micros(told.amount), told.currency,
            0 if kind == REVERSAL else 1,
        )  # fmt: skip
        self.txns.append(_clean(row) if b"\\u0000" in value else row)
        if told.reverses is not None:
            self.reversals.append(Reversal(told.client, name, told.reverses))

    # ------------------------------------------------------------------ rejected records
    def add_rejected(self, record: Record) -> None:
        """Take a record of `rater.rejected`."""
        self.records += 1
        if any(name == CONTROL_HEADER for name, _ in record.headers):
            try:
                note = note_of(record.headers)
            except ValueError:
                self.unreadable += 1
                return
            if note is not None and note.offsets:
                self.again.append((record.partition, note.topic, note.offsets, record.offset))
            return
        said = {name: (raw or b"").decode("utf-8", "replace") for name, raw in record.headers}
        row = (
            record.timestamp, record.partition, record.offset, visible(said.get("reason", "")),
            said.get("side") or None, visible(said.get("detail", ""))[:SHOWN_CHARS],
            visible(said.get("value", ""))[:SHOWN_CHARS], visible(said.get("source_topic", "")) or None,
            _whole(said.get("source_partition")), _whole(said.get("source_offset")),
            _whole(said.get("attempt")), visible(said.get(JOB_HEADER, "")) or None, 0,
        )  # fmt: skip
        self.rejected.append(_clean(row))

    # ------------------------------------------------------------------ events
    def add_event(self, record: Record) -> None:
        """Take a record of `rater.events`."""
        self.records += 1
        event = None if record.value is None else read_event(record.value)
        if event is None:
            self.unreadable += record.value is not None
            return
        try:
            happened_ms = at_ms(event.at)
        except ValueError:
            self.unreadable += 1
            return
        self.events.append(
            _clean((
                record.timestamp, record.partition, record.offset, event.id, event.type, happened_ms,
                event.client, event.client_package, event.package_name, event.cause, event.actor,
            ))
        )  # fmt: skip
        data = event.data if isinstance(event.data, dict) else {}
        if event.type == EventType.COMMAND_DONE and event.cause:
            self.results.append((visible(event.cause), Result.DONE, None))
        elif event.type == EventType.COMMAND_REFUSED and event.cause:
            self.results.append((visible(event.cause), Result.REFUSED, visible(str(data.get("reason")))))
        elif event.type in {EventType.RERATE_STARTED, EventType.RERATE_DONE}:
            try:
                self.jobs.append(_job_row(data, happened_ms, started=event.type == EventType.RERATE_STARTED))
            except (KeyError, TypeError, ValueError):
                self.unreadable += 1

    # ------------------------------------------------------------------ commands
    def add_command(self, record: Record) -> None:
        """Take a record of `rater.commands`: of a load its manifest in partition 0 alone."""
        self.records += 1
        if record.value is None or any(name == CONTROL_HEADER for name, _ in record.headers):
            return
        command = read_command(record.value)
        if isinstance(command, str):
            self.unreadable += 1
            return
        try:
            part = _part(command.args).part
        except UNREADABLE:
            part = ""
        if command.do in LOADS and part not in ("", "manifest"):
            return
        self.sent.append((command.id, record.partition, record.offset))
        if command.do in LOADS and record.partition:
            return
        ours = command.id.startswith(_SYSTEM) or command.do in (Do.RERATE, Do.TICK)
        self.commands.append(
            _clean((
                record.timestamp, record.partition, record.offset, command.id, command.key, command.do,
                milliseconds(command.at), command.actor, command.reason, command.client,
                command.client_package, command.dry_run, int(ours),
            ))
        )  # fmt: skip


class _Draw(Struct, gc=False):
    package_name: str = ""


class _Told(Struct, gc=False):
    """What rows have of a transaction."""

    id: str
    revision: int
    type: str
    client: str
    at: str
    amount: str
    currency: str
    account: str | None = None
    client_package: str | None = None
    called: str | None = None
    code: str | None = None
    code_name: str | None = None
    why: str | None = None
    package_name: str | None = None
    reason: str | None = None
    billed: int | None = None
    draws: list[_Draw] = []
    reverses: int | None = None


class _Part(Struct):
    part: str = ""


_told = msgspec.json.Decoder(_Told).decode
_part = msgspec.json.Decoder(_Part).decode
_kind = {str(kind): place for place, kind in enumerate(KINDS)}
_micros = lru_cache(maxsize=65_536)(parse_micros)


def id_key(name: str) -> int:
    """Return what transactions of a call, or of another thing, are found by: of their id without its end."""
    return crc32(name.encode("utf-8", "surrogatepass"))


def at_ms(text: str) -> int:
    """Return the instant of an RFC 3339 text, as records write it or in another spelling. ValueError."""
    if len(text) == _RFC3339_CHARS and text[-1] == "Z":
        return _second_ms(text[:19]) + int(text[20:23])
    return milliseconds(datetime.fromisoformat(text))


@lru_cache(maxsize=4096)
def _second_ms(text: str) -> int:
    return milliseconds(datetime.fromisoformat(f"{text}+00:00"))


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(dict.fromkeys(names))


def _clean(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row without U+0000, which PostgreSQL takes in no text."""
    return tuple(of.replace("\x00", "\\x00") if isinstance(of, str) and "\x00" in of else of for of in row)


def _is_ours(headers: Sequence[tuple[str, bytes]]) -> bool:
    return any(name == CONTROL_HEADER for name, _ in headers)


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) <= _DIGITS_MAX else None


def _job_row(data: dict[str, Any], happened_ms: int, *, started: bool) -> tuple[Any, ...]:
    """Return what an event adds to a job's row."""
    given_up = not started and data["given_up"] is True
    return (
        visible(str(data["job"])), at_ms(data["from"]), at_ms(data["to"]), happened_ms, happened_ms,
        int(started), int(not started and not given_up), int(given_up),
        0 if started else int(data["calls"]), 0 if started else int(data["changed"]),
    )  # fmt: skip
