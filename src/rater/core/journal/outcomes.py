"""What is kept of a draw until Kafka has it: enough to publish each decision as it was made.

A request of sides is kept in one piece: tables of what many of them share, and a row for each. It is written
for every side and read after a crash alone, so writing is what has to be cheap: half of the bytes and
a third of the time of one entry for each side (entries are 1.1 kB, rows 0.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, msgpack

from rater.core.catalog.codes import RateText
from rater.core.catalog.offers import LimitText
from rater.core.rating.transaction import CallText, Context, TransactionHead

_ROWS = b"\x00"
"""Begins rows; entries begin with a msgpack array, which this is not."""


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


class OutcomeRow(CallText, array_like=True, gc=False):
    """A side's row: its record, its digests, and where in the tables stands what it shares with others."""

    topic: int
    offset: int
    record_ms: int
    key: bytes
    content: bytes
    head: int
    rate: int
    limits: int


class _Request(Struct, array_like=True):
    topics: list[str]
    heads: list[TransactionHead]
    rates: list[RateText]
    limits: list[tuple[LimitText, ...]]
    rows: list[OutcomeRow]


_encode = msgpack.Encoder().encode
_requests = msgpack.Decoder(_Request)
_entries = msgpack.Decoder(list[OutcomeEntry])


def pack_entries(entries: Sequence[OutcomeEntry]) -> bytes:
    """Return DrawRequest.context of these decisions: the applies, then the items, in their order."""
    return _encode(entries)


def pack_rows(
    topics: Sequence[str], heads: Sequence[TransactionHead], rates: Sequence[RateText],
    limits: Sequence[tuple[LimitText, ...]], rows: Sequence[OutcomeRow],
) -> bytes:  # fmt: skip
    """Return the same of a request that has sides alone; rows name what they share by its number."""
    return _ROWS + _encode((topics, heads, rates, limits, rows))


def unpack_entries(raw: bytes) -> list[OutcomeEntry]:
    """Return the decisions that `pack_entries` or `pack_rows` packed, in the order of the results."""
    if raw[:1] != _ROWS:
        return _entries.decode(raw)
    kept = _requests.decode(memoryview(raw)[1:])
    return [
        OutcomeEntry(
            kept.topics[row.topic], row.offset, row.side, row.record_ms, row.key, row.content,
            kept.heads[row.head].client,
            _encode(context_of(row, kept.heads[row.head], kept.rates[row.rate], kept.limits[row.limits])),
        )
        for row in kept.rows
    ]  # fmt: skip


def context_of(
    row: OutcomeRow, head: TransactionHead, rate: RateText, limits: tuple[LimitText, ...]
) -> Context:
    """Return what renders a side by itself."""
    return Context(
        row.side, row.source, row.id, row.at_ms, row.caller, row.called, row.amount, row.billed, row.why,
        row.fx, head, rate, limits,
    )  # fmt: skip


def row_of(of: Context, key: bytes, content: bytes, record: Record) -> OutcomeRow:
    """Return the row of a side that stands by itself; the numbers of what it shares mean nothing."""
    return OutcomeRow(
        of.side, of.source, of.id, of.at_ms, of.caller, of.called, of.amount, of.billed, of.why, of.fx,
        0, record.offset, record.timestamp, key, content, 0, 0, 0,
    )  # fmt: skip
