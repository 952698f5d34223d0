"""The audit: what the journal says that every counter and balance must be, and what is wrong in itself.

A fold over the values of `rater.transactions` (not over the packed headers that the worker reconciles by, so
that a fault in those is found too). Promises checked: every transaction once, each side of each CDR rated
once, header and value agree, net and taxes make the amount, the transactions of a change add up to what it
did. What is held against the store, client by client: `comparing`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from rater.core.amounts import LIMIT, parse_micros
from rater.core.catalog.offers import ROLLED, counter_field
from rater.core.instants import milliseconds
from rater.core.journal.comparing import MOVES, Book, Finding, Move, Step, Stored, compare
from rater.core.journal.records import Identity
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.core.reasons import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rater.core.journal.records import ChangeRecord, Effect

PROBLEMS_MAX = 1000
"""Findings that are kept whole; beyond it they are only counted (a lost topic would fill the memory)."""


class _Draw(msgspec.Struct):
    client_package: str
    limit: str
    kind: str
    period: int
    taken: str
    rolled: bool = False


class _Tax(msgspec.Struct):
    amount: str


class _Transaction(msgspec.Struct):
    id: str
    revision: int
    type: str
    client: str
    amount: str
    draws: list[_Draw] = []
    side: str | None = None
    cdr: dict[str, Any] | None = None
    client_package: str | None = None
    period: int | None = None
    net: str | None = None
    taxes: list[_Tax] = []
    reverses: int | None = None
    of: list[str] = []
    at: str = ""


class Open(msgspec.Struct):
    """A change whose transactions are being read. left: micros that they have still to add up to."""

    identity: Identity
    where: str
    said: str
    left: int


class Seen(msgspec.Struct, gc=False):
    """A transaction that was read first of its name. owner: CRC-32 of its client; amount: micros.

    lane_ms: its lane's time, None: it has no duplicates (fees), or does not say.
    """

    partition: int
    offset: int
    owner: int
    amount: int
    lane_ms: int | None = None


_decoder = msgspec.json.Decoder(_Transaction)


class Ledger:
    """The sums of a journal that has been read so far."""

    def __init__(self, opened: dict[int, Open] | None = None, *, keep_names: bool = False) -> None:
        """Start with nothing read. opened: changes whose transactions follow, by partition.

        keep_names: note what the transactions are called that were read first of their name.
        """
        self.transactions = 0
        self.books: defaultdict[str, Book] = defaultdict(Book)
        self.findings: list[Finding] = []
        self.findings_total = 0
        self.unsettled = 0
        """Clients that moved all the time, and could not be compared."""
        self.seen: dict[int, Seen] = {}
        """Digest of a transaction's name → the first one."""
        self.names: dict[int, tuple[str, str]] | None = {} if keep_names else None
        """The same → its name, its client."""
        self.taken_back: dict[int, tuple[int, int]] = {}
        """Digest of a first usage that was reversed → micros of its reversal, the call's time in ms.

        These may be of long ago; what else is reversed is among the moves.
        """
        self.opened: dict[int, Open] = {} if opened is None else opened
        """Partition → the change that was read last."""
        self.watched: Collection[str] = ()
        """Clients whose steps are noted."""
        self.steps: defaultdict[str, list[Step]] = defaultdict(list)
        self.lane_ms: dict[int, int] = {}
        """Partition → the lane's time, ms."""

    def add(self, partition: int, offset: int, value: bytes, effect: Effect | None) -> None:
        """Fold in one transaction; `effect` is its packed header, None where it has none."""
        where = f"rater.transactions[{partition}]@{offset}"
        self._share(partition, effect)
        try:
            transaction = _decoder.decode(value)
            amount = parse_micros(transaction.amount)
            taken = [
                (counter_field(d.client_package, d.period, d.limit) + (ROLLED if d.rolled else ""), _taken(d))
                for d in transaction.draws
            ] + _brought(transaction, amount)
            parts = _parts(transaction)
        except UNREADABLE as error:
            self.find("unreadable", where, f"no transaction can be read here: {shown(str(error))}")
            return
        self.transactions += 1
        name = f"{transaction.id} revision {transaction.revision} {transaction.type}"
        if effect is not None:
            self.lane_ms[partition] = effect.lane_ms
        expires = None if effect is None or not effect.key else effect.lane_ms
        seen = Seen(partition, offset, crc32(transaction.client.encode()), amount, expires)
        self._once(where, name, transaction.client, seen)
        book = self.books[transaction.client]
        book.balance += amount
        for field, units in taken:
            book.counters[field] += units
        if transaction.client in self.watched:
            self.steps[transaction.client].append(Step(partition, amount, taken))
        if transaction.type in MOVES or transaction.revision > 1:
            of, reverses = transaction.of, transaction.reverses
            move = Move(transaction.id, transaction.type, transaction.revision, amount, reverses, of)
            book.moves.append(move)
            self._take_back(transaction, amount)
        if parts is not None and parts != amount:
            self.find(
                "sum", where, f"{shown(name)}: net and taxes make {parts} micros, its amount is {amount}"
            )
        self._compare_header(where, name, transaction.client, amount, taken, effect)

    def _take_back(self, of: _Transaction, amount: int) -> None:
        if of.type != TransactionType.REVERSAL or of.side is None or of.reverses != 1:
            return
        try:
            at_ms = milliseconds(datetime.fromisoformat(of.at))
        except ValueError:
            at_ms = LIMIT
        self.taken_back[digest_of(f"{of.id} revision 1 {TransactionType.USAGE}")] = amount, at_ms

    def control(self, partition: int, offset: int, change: ChangeRecord | None) -> None:
        """Fold in a control record; change: of a client, None for any other. Its transactions follow."""
        self._close(partition)
        if change is None:
            return
        self.lane_ms[partition] = change.lane_ms
        book = self.books[change.client]
        book.change(change.version, change.instead, change.state)
        for field, delta in change.counters:
            book.counters[field] += delta
        if change.client in self.watched:
            self.steps[change.client].append(Step(partition, 0, change.counters))
        self.opened[partition] = Open(
            (change.topic, change.offset, change.index), f"rater.transactions[{partition}]@{offset}",
            f"the change of client {shown(change.client)} to version {change.version} added "
            f"{change.delta} micros",
            change.delta,
        )  # fmt: skip

    def _share(self, partition: int, effect: Effect | None) -> None:
        """Take a transaction's effect off the change before it, if it is one of its transactions."""
        of = self.opened.get(partition)
        if of is None:
            return
        if effect is not None and (effect.topic, effect.offset, effect.index) == of.identity:
            of.left -= effect.balance
            # The change has these counters, and the transaction's draws are counted by themselves.
            told_twice = [(field, -units) for field, units in effect.counters]
            book = self.books[effect.client]
            for field, units in told_twice:
                book.counters[field] += units
            if told_twice and effect.client in self.watched:
                self.steps[effect.client].append(Step(partition, 0, told_twice))
        else:
            self._close(partition)

    def _close(self, partition: int) -> None:
        of = self.opened.pop(partition, None)
        if of is not None and of.left:
            self.find("change", of.where, f"{of.said}, its transactions leave {of.left} of it open")

    def _once(self, where: str, name: str, client: str, seen: Seen) -> None:
        """Note a transaction; one of the same id at another client is another call, or a wrong rule."""
        digest = digest_of(name)
        first = self.seen.setdefault(digest, seen)
        if first is not seen:
            self.repeated(where, name, client, first, same=first.owner == seen.owner)
        elif self.names is not None:
            self.names[digest] = name, client

    def repeated(self, where: str, name: str, client: str, first: Seen, *, same: bool) -> None:
        """Note that a transaction was published before; same: of the same client."""
        place = f"at [{first.partition}]@{first.offset}"
        if same:
            self.find("repeated", where, f"{shown(name)} was published before, {place}")
        else:
            self.find(
                "other_client", where,
                f"{shown(name)} of client {shown(client)} was published of another client before, {place}: "
                "did identification rules change, or do two switches share a source and ids?",
            )  # fmt: skip

    def _compare_header(
        self,
        where: str,
        name: str,
        client: str,
        amount: int,
        taken: list[tuple[str, int]],
        effect: Effect | None,
    ) -> None:
        if effect is None:
            self.find(
                "header",
                where,
                f"{shown(name)} has no header with its effects: a lost store could not be rebuilt from it",
            )
            return
        sums: dict[str, int] = {}
        for field, units in taken:
            sums[field] = sums.get(field, 0) + units
        if (effect.client, effect.balance, dict(effect.counters)) != (client, amount, sums):
            self.find(
                "header", where,
                f"{shown(name)}: the header says {_told(effect.client, effect.balance, effect.counters)}, "
                f"the transaction {_told(client, amount, sums.items())}",
            )  # fmt: skip

    def find(self, kind: str, where: str, problem: str) -> None:
        """Note a finding."""
        self.findings_total += 1
        if len(self.findings) < PROBLEMS_MAX:
            self.findings.append(Finding(kind, where, problem))

    def compare(self, client: str, stored: Stored | None) -> list[Finding]:
        """Return where a client's bucket, or what the journal says of the client, is not as it must be."""
        return compare(client, self.book(client), stored, self.usage)

    def book(self, client: str) -> Book:
        """Return what the journal says of a client."""
        return self.books.get(client) or Book()

    def usage(self, name: str) -> int | None:
        """Return the amount of a transaction, micros; None: it was not published."""
        seen = self.seen.get(digest_of(name))
        return None if seen is None else seen.amount

    def clients(self) -> Iterable[str]:
        """Return every client that the journal names."""
        return self.books.keys()


def digest_of(name: str) -> int:
    """Return the digest of a transaction's name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def _parts(transaction: _Transaction) -> int | None:
    """Return what net and taxes make, micros; None: it has none."""
    if transaction.net is None:
        return None
    return parse_micros(transaction.net) + sum(parse_micros(tax.amount) for tax in transaction.taxes)


def _told(client: str, amount: int, counters: Iterable[tuple[str, int]]) -> str:
    return f"{shown(client)} {amount} {shown(dict(counters))}"


def _brought(fee: _Transaction, amount: int) -> list[tuple[str, int]]:
    """Return what is counted of a fee that a call brought (charge on event), or of its reversal.

    Such a one names its call.
    """
    if fee.client_package is None or not fee.cdr:
        return []
    charged = -1 if fee.type == TransactionType.REVERSAL else 1
    begin = counter_field(fee.client_package, fee.period or 0, "fee")
    return [
        (f"{begin}.charged", charged),
        (f"{begin}.net", parse_micros(fee.net or "")),
        (f"{begin}.amount", amount),
    ]


def _taken(draw: _Draw) -> int:
    """Return what was drawn. Raises ValueError for what no counter holds."""
    taken = parse_micros(draw.taken) if draw.kind == "money" else int(draw.taken)
    if abs(taken) > LIMIT:
        raise ValueError(f"a draw of {shown(draw.taken)!r} is beyond what counters hold")
    return taken
