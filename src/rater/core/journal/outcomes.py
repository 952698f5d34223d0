"""What is kept of a draw until Kafka has it: enough to publish each decision as it was made.

A call of sides is kept in one piece: a table of what many of them have in common, and a row for each. It is
written for every side and read after a crash alone, so writing is what has to be cheap: half of the bytes and
a third of the time of one entry for each side (entries are 1.1 kB, rows 0.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct, msgpack

from rater.core.catalog.codes import RateText
from rater.core.rating.matching import Part, Terms
from rater.core.rating.transaction import Context, Said

_ROWS = b"\x00"
"""Begins rows; entries begin with a msgpack array, which this is not."""


T = TypeVar("T")


class Record(Protocol):
    """A Kafka record, as far as it matters here."""

    offset: int
    timestamp: int


class OutcomeEntry(Struct, array_like=True):
    """What is kept of one decision besides its result: the record, and what renders the transaction."""

    topic: str
    offset: int
    index: int
    record_ms: int
    key: bytes
    content: bytes
    client: str
    context: bytes  # msgpack of rating.Context; for an apply: of ApplyContext


class Kept(Said, array_like=True, gc=False):
    """A side's row: its record, its digests, and where in the tables stands what it shares with others."""

    topic: int
    offset: int
    record_ms: int
    key: bytes
    content: bytes
    terms: int
    rate: int
    parts: int


class Tables:
    """What the rows of one call share; told apart by identity, for equal ones are the same object.

    All but the topics are to live as long as the call does.
    """

    __slots__ = ("_at", "parts", "rates", "terms", "topics")

    def __init__(self) -> None:
        self._at: dict[int, int] = {}
        self.topics: list[str] = []
        self.terms: list[msgspec.Raw] = []
        """As msgpack, which `rating.terms_of` keeps, as the parts are."""
        self.rates: list[RateText] = []
        self.parts: list[msgspec.Raw] = []

    def topic(self, topic: str) -> int:
        """Return the number of a topic: there are a few, and mostly it is the last one again."""
        topics = self.topics
        if not topics or topics[-1] != topic:
            if topic in topics:
                return topics.index(topic)
            topics.append(topic)
        return len(topics) - 1

    def number(self, one: T, among: list[T]) -> int:
        """Return the number of one among the terms, the rates or the parts."""
        at = self._at.get(id(one))
        if at is None:
            at = self._at[id(one)] = len(among)
            among.append(one)
        return at


class _Call(Struct, array_like=True):
    topics: list[str]
    terms: list[Terms]
    rates: list[RateText]
    parts: list[tuple[Part, ...]]
    rows: list[Kept]


_encode = msgpack.Encoder().encode
_calls = msgpack.Decoder(_Call)
_entries = msgpack.Decoder(list[OutcomeEntry])


def pack_entries(entries: Sequence[OutcomeEntry]) -> bytes:
    """Return DrawRequest.context of these decisions: the applies, then the items, in their order."""
    return _encode(entries)


def pack_rows(tables: Tables, rows: list[Kept]) -> bytes:
    """Return the same of a call that has sides alone."""
    return _ROWS + _encode((tables.topics, tables.terms, tables.rates, tables.parts, rows))


def unpack_entries(raw: bytes) -> list[OutcomeEntry]:
    """Return the decisions that `pack_entries` or `pack_rows` packed, in the order of the results."""
    if raw[:1] != _ROWS:
        return _entries.decode(raw)
    call = _calls.decode(memoryview(raw)[1:])
    return [
        OutcomeEntry(
            call.topics[row.topic], row.offset, row.side, row.record_ms, row.key, row.content,
            call.terms[row.terms].client,
            _encode(context_of(row, call.terms[row.terms], call.rates[row.rate], call.parts[row.parts])),
        )
        for row in call.rows
    ]  # fmt: skip


def context_of(row: Kept, terms: Terms, rate: RateText, parts: tuple[Part, ...]) -> Context:
    """Return what renders a side by itself."""
    return Context(
        row.side, row.source, row.id, row.at_ms, row.caller, row.called, row.amount, row.billed, row.why,
        row.fx, terms, rate, parts,
    )  # fmt: skip


def row_of(of: Context, key: bytes, content: bytes, record: Record) -> Kept:
    """Return the row of a side that stands by itself; the numbers of what it shares mean nothing."""
    return Kept(
        of.side, of.source, of.id, of.at_ms, of.caller, of.called, of.amount, of.billed, of.why, of.fx,
        0, record.offset, record.timestamp, key, content, 0, 0, 0,
    )  # fmt: skip
