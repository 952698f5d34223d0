"""What is kept of a draw until Kafka has it: enough to publish each decision as it was made.

A request of sides is kept in one piece: tables of what many of them share, and a row for each. It is written
for every side and read after a crash alone, so writing is what has to be cheap: half of the bytes and
a third of the time of one entry for each side (entries are 1.1 kB, rows 0.15). Changes of clients are kept
before the sides, whole: their transactions and events are published as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Raw, Struct, msgpack, structs

from rater.core.bucket.messages import (
    DrawResult,
    pack_results,
    unpack_results,
)
from rater.core.catalog.codes import RateText
from rater.core.catalog.offers import LimitText
from rater.core.clients.changes import Change, ChangeEvent, ChangeTransaction
from rater.core.clients.views import PeriodText
from rater.core.instants import stamp_of
from rater.core.kinds import TransactionType
from rater.core.rating.transaction import CallText, Context, FeeText, TransactionHead

_ROWS = b"\x00"
"""Begins rows; entries begin with a msgpack array, which this is not."""
_CHANGES = b"\x01"
"""Begins changes, behind which rows or entries of sides stand."""


class Record(Protocol):
    """A Kafka record, as far as it matters here."""

    @property
    def offset(self) -> int:
        """Its place in its partition."""

    @property
    def timestamp(self) -> int:
        """Its Kafka timestamp, ms."""


class OutcomeEntry(Struct, array_like=True):
    """What is kept of a side besides its result: the record, and what renders the transaction."""

    topic: str
    offset: int
    index: int
    record_ms: int
    key: bytes
    content: bytes
    client: str
    context: bytes  # msgpack of rating's Context; in an older version's call of applies: of _ApplyContext


class _ApplyContext(Struct, array_like=True, tag="apply"):
    """What a version before 2026-12 kept of a client's new state."""

    version: int
    state: bytes
    delta: int
    transaction: bytes | None


class Pending(NamedTuple):
    """A side that was decided and is not published yet."""

    entry: OutcomeEntry
    result: DrawResult
    woke: bool = False
    """It took its client's balance to what the client waits for."""

    @property
    def client(self) -> str:
        """Whose side it is."""
        return self.entry.client

    @property
    def identity(self) -> tuple[str, int, int]:
        """Topic, offset, index."""
        return self.entry.topic, self.entry.offset, self.entry.index


class Upon(NamedTuple):
    """A change of another lane that a change goes on from. copy: `write_copy`."""

    lane: int
    copy: bytes


class KeptChange(Struct, array_like=True):
    """A change that was carried out: the record it came of, what it did, and all that is published of it."""

    topic: str
    offset: int
    index: int
    record_ms: int
    client: str
    version: int
    state: bytes
    delta: int
    counters: list[tuple[str, int]]
    transactions: tuple[ChangeTransaction, ...]
    events: tuple[ChangeEvent, ...]
    hints: list[tuple[int, bytes]] = []
    members: list[str] = []
    history: list[tuple[str, bytes]] = []
    upon: list[Upon] = []
    """Changes of other lanes that it goes on from, where they may be unpublished."""
    instead: list[int] = []
    """Versions that it was made under before, and that Redis has lost."""

    @property
    def identity(self) -> tuple[str, int, int]:
        """Topic, offset, index."""
        return self.topic, self.offset, self.index


Decided = Pending | KeptChange
"""A decision that was made and is not published yet."""


def kept_change(change: Change, topic: str, record: Record, index: int) -> KeptChange:
    """Return what is kept of a change that a record asks for."""
    write = change.write
    return KeptChange(
        topic, record.offset, index, stamp_of(record.timestamp), write.client, write.version, write.state,
        write.delta, [(of.field, of.delta) for of in write.counters if of.delta], change.transactions,
        change.events, write.hints, write.members, write.history,
    )  # fmt: skip


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
    fees: tuple[FeeText, ...] = ()


HeadRow = tuple[str, str, str, str, Raw]
"""A `TransactionHead` as it is kept, its packages packed: that is done once for many draws of a client."""
NOTHING_OPEN = Raw(msgpack.encode(()))


class _Request(Struct, array_like=True):
    topics: list[str]
    heads: list[TransactionHead]
    rates: list[RateText]
    limits: list[tuple[LimitText, ...]]
    rows: list[OutcomeRow]


_encode = msgpack.Encoder().encode
_requests = msgpack.Decoder(_Request)
_entries = msgpack.Decoder(list[OutcomeEntry])
_applies = msgpack.Decoder(_ApplyContext)
_changes = msgpack.Decoder(tuple[list[KeptChange], bytes])


def pack_rows(
    topics: Sequence[str], heads: Sequence[HeadRow], rates: Sequence[RateText],
    limits: Sequence[Sequence[Raw]], rows: Sequence[OutcomeRow],
) -> bytes:  # fmt: skip
    """Return DrawRequest.context of sides alone; rows name what they share by its number."""
    return _ROWS + _encode((topics, heads, rates, limits, rows))


def pack_changes(changes: Sequence[KeptChange], sides: bytes) -> bytes:
    """Return DrawRequest.context of a call of changes. sides: as `pack_rows` packs those of the same call."""
    return _CHANGES + _encode((changes, sides))


def pack_kept(kept: Sequence[Decided]) -> tuple[bytes, bytes]:
    """Return context and packed results of one call that decided all of these."""
    sides = [one for one in kept if isinstance(one, Pending)]
    changes = [one for one in kept if isinstance(one, KeptChange)]
    woken = [place for place, side in enumerate(sides) if side.woke]
    context = _encode([side.entry for side in sides])
    if changes or woken:
        context = pack_changes(changes, context)
    return context, pack_results(woken, [side.result for side in sides])


def unpack_kept(context: bytes, packed: bytes) -> list[Decided]:
    """Return the decisions of a call, as it was made or as `pack_kept` put it together, changes first.

    Of applies of versions before 2026-12 those that were done are changes too, without events.
    """
    head, results = unpack_results(packed)
    if context[:1] == _CHANGES:
        changes, sides = _changes.decode(memoryview(context)[1:])
        return [*changes, *_sides(unpack_entries(sides), results, head)]
    entries = unpack_entries(context)
    if context[:1] == _ROWS:
        return [*_sides(entries, results, head)]
    applies = [_applied(entry) for entry, done in zip(entries, head, strict=False) if done]
    return [*applies, *_sides(entries[len(head) :], results, [])]


def _sides(entries: list[OutcomeEntry], results: list[DrawResult], woken: list[int]) -> list[Pending]:
    pairs = enumerate(zip(entries, results, strict=True))
    return [Pending(entry, result, place in woken) for place, (entry, result) in pairs]


def _applied(entry: OutcomeEntry) -> KeptChange:
    of = _applies.decode(entry.context)
    opening = (
        ()
        if of.transaction is None
        else (ChangeTransaction(TransactionType.ADJUSTMENT, of.delta, of.transaction),)
    )
    return KeptChange(
        entry.topic, entry.offset, entry.index, entry.record_ms, entry.client, of.version, of.state,
        of.delta, [], opening, (),
    )  # fmt: skip


def changes_of(context: bytes) -> list[KeptChange]:
    """Return what is kept of the changes of a call."""
    return _changes.decode(memoryview(context)[1:])[0] if context[:1] == _CHANGES else []


class Copy(Struct, array_like=True):
    """A change as other lanes keep it that go on from it. topic_id: of its record's topic, "": not known."""

    topic_id: str
    change: KeptChange


def write_copy(change: KeptChange, topic_id: str) -> bytes:
    """Return a copy of a change; what it goes on from itself is kept beside it."""
    return _encode(Copy(topic_id, structs.replace(change, upon=[])))


_copy = msgpack.Decoder(Copy)


def read_copy(raw: bytes) -> Copy:
    """Return the copy in the bytes; msgspec.MsgspecError when there is none."""
    return _copy.decode(raw)


def entries_of(context: bytes) -> list[OutcomeEntry]:
    """Return what is kept of the sides of a call, whether it made changes too or not."""
    if context[:1] == _CHANGES:
        return unpack_entries(_changes.decode(memoryview(context)[1:])[1])
    return unpack_entries(context)


def unpack_entries(raw: bytes) -> list[OutcomeEntry]:
    """Return what is kept of sides, in the order of their results: rows, or entries for each alone."""
    if raw[:1] != _ROWS:
        return _entries.decode(raw) if raw else []
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
        row.fx, head, rate, limits, row.fees,
    )  # fmt: skip


class BroughtFee(NamedTuple):
    """The fee that a side brought: signed micros, its counters with what they got, its transaction."""

    amount: int
    counters: list[tuple[str, int]]
    value: bytes


def brought_fee(
    packages: tuple[PeriodText, ...], fees: tuple[FeeText, ...], result: DrawResult
) -> BroughtFee | None:
    """Return the fee that was charged with a side, None for none. packages: of its head."""
    fee = result.fee
    if fee is None or fee.charged is None:
        return None
    text = fees[fee.charged]
    begin = f"{packages[text.group].field}.fee."
    counters = [(f"{begin}charged", 1), (f"{begin}net", text.net), (f"{begin}amount", fee.amount)]
    return BroughtFee(fee.amount, counters, text.value.encode())


def row_of(of: Context, key: bytes, content: bytes, record: Record) -> OutcomeRow:
    """Return the row of a side that stands by itself; the numbers of what it shares mean nothing."""
    return OutcomeRow(
        of.side, of.source, of.id, of.at_ms, of.caller, of.called, of.amount, of.billed, of.why, of.fx,
        0, record.offset, stamp_of(record.timestamp), key, content, 0, 0, 0, of.fees,
    )  # fmt: skip
