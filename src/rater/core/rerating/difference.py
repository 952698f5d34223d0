"""What is published of calls that were rated again: reversals, successors, first revisions; nothing else.

Source of the rules: RULES.md section 5; CONTRACTS.md, Transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rater.core.clients.state import ClientState
from rater.core.kinds import TransactionType
from rater.core.reasons import Rejection
from rater.core.rerating.calls import Draw, Fee, PastSide, Takes, Told, read_told
from rater.core.rerating.rating import NewFee, Rated, Unchanged


class Movement(NamedTuple):
    """A transaction to be published: type, signed micros, JSON, and what it adds to counters."""

    type: str
    amount: int
    value: bytes
    takes: Takes


class Row(NamedTuple):
    """A transaction that changes, as people are told of it; None: there is none, before or after."""

    transaction: str
    revision: int
    before: int | None
    after: int | None


class Entry(Struct):
    """What changes with one call: all of it, or nothing. rejection: why it cannot be rated any more."""

    call: PastSide | None
    movements: list[Movement] = []
    rows: list[Row] = []
    rejection: Rejection | None = None
    first: bool = False
    """A call that was rejected, and is rated for the first time."""

    @property
    def amount(self) -> int:
        """What it adds to the balance, micros."""
        return sum(one.amount for one in self.movements)

    @property
    def takes(self) -> Takes:
        """What it adds to counters."""
        return [take for one in self.movements for take in one.takes]


def open_fees(state: ClientState, fees: Iterable[Fee]) -> dict[str, Fee]:
    """Return by their ids those fees that are decided anew: their periods count.

    state: with all of its periods. What was given back, or reversed with its client package, stays as it is.
    """
    fees = list(fees)
    if not fees:
        return {}  # nearly always
    open_now = {
        f"cp/{held.id}/{period.number}/{TransactionType.SUBSCRIPTION_FEE}"
        for held in state.packages
        for period in (held.life.periods if held.life is not None else ())
        if not (period.voided or period.refunded)
    }
    return {fee.id: fee for fee in fees if fee.id in open_now}


class Differing:
    """One client's calls before and after: yields what changes, and sums up.

    fees: `open_fees`, those that were brought by the calls that are rated again. job: its id.
    """

    def __init__(self, job: str, fees: Mapping[str, Fee], brought: Iterable[str]) -> None:
        """Begin. brought: ids of the fees that these calls have brought so far, and that stand."""
        self._job = job
        self._fees = dict(fees)
        self._open = set(brought)
        """Fees that stand and that no call has brought again yet."""
        self.calls = self.changed = 0
        self.volume_before = self.volume_after = 0
        self.amount_before = self.amount_after = 0

    def entries(self, rated: Iterable[Rated | Unchanged]) -> Iterator[Entry]:
        """Yield what changes, in order; fees that no call brings any more come last."""
        for one in rated:
            if isinstance(one, Unchanged):
                self._pass(one)
                continue
            entry = self._entry(one)
            self.calls += bool(one.before is not None or one.value)
            if entry.movements:
                self.changed += 1
                yield entry
        left = Entry(None)
        for fee_id in sorted(self._open):
            fee = self._fees[fee_id]
            told = fee.told()
            self.amount_before += told.micros
            left.movements.append(reversal(told, fee.value, self._job))
            left.rows.append(Row(fee_id, fee.revision, told.micros, None))
        if left.movements:
            yield left

    def _pass(self, some: Unchanged) -> None:
        self.calls += some.calls
        self.volume_before += some.volume
        self.volume_after += some.volume
        self.amount_before += some.amount
        self.amount_after += some.amount

    def _entry(self, one: Rated) -> Entry:
        call, before = one.call, one.before
        after = read_told(one.value) if one.value else None
        entry = Entry(call, first=not call.revision)
        if before is not None:
            self.amount_before += before.micros
            self.volume_before += before.billed
        if after is not None:
            self.amount_after += one.amount
            self.volume_after += after.billed
        if before is not None and after is None:
            entry.rejection = one.rejection
            entry.movements.append(reversal(before, call.value, self._job))
            entry.rows.append(Row(call.name, call.revision, before.micros, None))
        elif after is not None and (before is None or differs(before, after)):
            if before is not None:
                entry.movements.append(reversal(before, call.value, self._job))
            revision = call.revision + 1
            value = revised(one.value, revision, self._job)
            entry.movements.append(Movement(TransactionType.USAGE, one.amount, value, one.takes))
            micros = None if before is None else before.micros
            entry.rows.append(Row(call.name, revision, micros, one.amount))
        if one.fee is not None:
            self._brought(entry, one.fee)
        return entry

    def _brought(self, entry: Entry, fee: NewFee) -> None:
        """Take a fee that a call brings: what the period's fee was before is reversed, unless it is this."""
        told = read_told(fee.value)
        old = self._fees.get(told.id)
        stands = old is not None and told.id in self._open
        self._open.discard(told.id)
        self.amount_after += fee.amount
        if old is not None and stands:
            was = old.told()
            self.amount_before += was.micros
            if (was.cdr, was.amount, was.net, was.at) == (told.cdr, told.amount, told.net, told.at):
                return
            entry.movements.append(reversal(was, old.value, self._job))
        # The register knows the next one of a fee of which the journal has nothing left.
        revision = told.revision if old is None else old.revision + 1
        value = revised(fee.value, revision, self._job)
        entry.movements.append(Movement(TransactionType.SUBSCRIPTION_FEE, fee.amount, value, fee.takes))
        entry.rows.append(
            Row(told.id, revision, old.told().micros if old is not None and stands else None, fee.amount)
        )


def differs(before: Told, after: Told) -> bool:
    """Return whether a call ends otherwise: amount, rate, billed volume, a draw or a tag (RULES.md 5)."""
    return (
        (before.amount, before.billed, before.code, before.rate)
        != (after.amount, after.billed, after.code, after.rate)
    ) or [*map(_drawn, before.draws)] != [*map(_drawn, after.draws)]


def _drawn(draw: Draw) -> tuple[object, ...]:
    return (
        draw.client_package, draw.period, draw.limit, draw.kind, draw.rolled, draw.taken, draw.covered,
        draw.tag,
    )  # fmt: skip


def reversal(told: Told, value: bytes, job: str) -> Movement:
    """Return what takes a transaction back: its id again, with negated numbers."""
    of: dict[str, Any] = msgspec.json.decode(value)
    of |= {"type": TransactionType.REVERSAL, "reverses": told.revision, "job": job}
    for name in ("amount", "setup_fee", "net"):
        if name in of:
            of[name] = _negated(of[name])
    for name in ("duration_ms", "volume", "billed", "overage"):
        if of.get(name) is not None:
            of[name] = -of[name]
    for draw in of.get("draws", ()):
        draw |= {name: _negated(draw[name]) for name in ("taken", "covered") if name in draw}
    for tax in of.get("taxes", ()):
        tax["amount"] = _negated(tax["amount"])
    takes = [(field, -units) for field, units in told.takes()]
    return Movement(TransactionType.REVERSAL, -told.micros, msgspec.json.encode(of), takes)


def _negated(decimal: str) -> str:
    if decimal.startswith("-"):
        return decimal[1:]
    return decimal if decimal == "0" else f"-{decimal}"


def revised(value: bytes, revision: int, job: str) -> bytes:
    """Return a transaction as a later revision of itself, which a job has made."""
    of: dict[str, Any] = msgspec.json.decode(value)
    return msgspec.json.encode({**of, "revision": revision, "job": job})
