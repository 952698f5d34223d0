"""The audit: what the journal says that every counter and balance must be, and what is wrong in itself.

A fold over the values of `rater.transactions` (not over the packed headers that the worker reconciles by, so
that a fault in those is found too). Promises checked: every transaction once, each side of each CDR rated
once, header and value agree, the transactions of a change add up to what it did, of the changes of a client
none is missing, counters = sum of draws and changes, balances = sum of amounts.
"""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from rater.core.amounts import LIMIT, parse_micros
from rater.core.catalog.offers import ROLLED, counter_field
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.core.reasons import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rater.core.journal.records import ChangeRecord, Effect, Identity

PROBLEMS_MAX = 1000
"""Findings that are kept whole; beyond it they are only counted (a lost topic would fill the memory)."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be: where, and what."""

    kind: str  # repeated | other_client | unreadable | header | change | counter | balance
    where: str
    problem: str


class _Draw(msgspec.Struct):
    client_package: str
    limit: str
    kind: str
    period: int
    taken: str
    rolled: bool = False


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


class _Open(msgspec.Struct):
    """A change whose transactions are being read. left: micros that they have still to add up to."""

    identity: Identity
    where: str
    said: str
    left: int


_decoder = msgspec.json.Decoder(_Transaction)


class Ledger:
    """The sums of a journal that has been read so far."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.transactions = 0
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.counters: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.findings: list[Finding] = []
        self.findings_total = 0
        self._seen: dict[int, tuple[int, int, int]] = {}
        """Digest of a transaction's id → partition, offset, CRC-32 of its client."""
        self._versions: dict[str, tuple[int, int, int]] = {}
        """Client → how many changes of it were read, the lowest of their versions, the highest."""
        self._open: dict[int, _Open] = {}
        """Partition → the change that was read last."""

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
        except UNREADABLE as error:
            self.find("unreadable", where, f"no transaction can be read here: {shown(str(error))}")
            return
        self.transactions += 1
        name = f"{transaction.id} revision {transaction.revision} {transaction.type}"
        self._once(where, name, transaction.client, (partition, offset))
        self.balances[transaction.client] += amount
        for field, units in taken:
            self.counters[transaction.client][field] += units
        self._compare_header(where, name, transaction.client, amount, taken, effect)

    def control(self, partition: int, offset: int, change: ChangeRecord | None) -> None:
        """Fold in a control record; change: of a client, None for any other. Its transactions follow."""
        self._close(partition)
        if change is None:
            return
        count, lowest, highest = self._versions.get(change.client, (0, change.version, change.version))
        versions = change.version, *change.instead
        self._versions[change.client] = count + len(versions), min(lowest, *versions), max(highest, *versions)
        for field, delta in change.counters:
            self.counters[change.client][field] += delta
        self._open[partition] = _Open(
            (change.topic, change.offset, change.index), f"rater.transactions[{partition}]@{offset}",
            f"the change of client {shown(change.client)} to version {change.version} added "
            f"{change.delta} micros",
            change.delta,
        )  # fmt: skip

    def _share(self, partition: int, effect: Effect | None) -> None:
        """Take a transaction's effect off the change before it, if it is one of its transactions."""
        of = self._open.get(partition)
        if of is None:
            return
        if effect is not None and (effect.topic, effect.offset, effect.index) == of.identity:
            of.left -= effect.balance
            for (
                field,
                units,
            ) in effect.counters:  # the change has them, and the transaction's draws are counted
                self.counters[effect.client][field] -= units
        else:
            self._close(partition)

    def _close(self, partition: int) -> None:
        of = self._open.pop(partition, None)
        if of is not None and of.left:
            self.find("change", of.where, f"{of.said}, its transactions leave {of.left} of it open")

    def _once(self, where: str, name: str, client: str, place: tuple[int, int]) -> None:
        """Note a transaction; one of the same id at another client is another call, or a wrong rule."""
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        crc = crc32(client.encode())
        partition, offset, owner = self._seen.setdefault(digest, (*place, crc))
        if (partition, offset) == place:
            return
        first = f"at [{partition}]@{offset}"
        if owner == crc:
            self.find("repeated", where, f"{shown(name)} was published before, {first}")
        else:
            self.find(
                "other_client", where,
                f"{shown(name)} of client {shown(client)} was published of another client before, {first}: "
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

    def compare(self, client: str, stored: tuple[int, dict[str, int]] | None) -> list[Finding]:
        """Return where the journal's sums of a client differ from its bucket's, and changes that are lost."""
        balance, counters = stored if stored is not None else (0, {})
        out = []
        owed = self.balances.get(client, 0)
        if balance != owed:
            text = f"Redis has {balance} micros, the journal's amounts sum to {owed}"
            out.append(Finding("balance", f"client {shown(client)}", text))
        folded: dict[str, int] = self.counters.get(client) or {}
        for field in sorted(folded.keys() | counters.keys()):
            used, drawn = counters.get(field, 0), folded.get(field, 0)
            if used != drawn:
                text = f"Redis has {used}, the journal's draws sum to {drawn}"
                out.append(Finding("counter", f"client {shown(client)} counter {shown(field)}", text))
        return out + self._gaps(client)

    def _gaps(self, client: str) -> list[Finding]:
        """Return what tells that not each version of a client is one change (decision 0098)."""
        count, lowest, highest = self._versions.get(client, (1, 0, 0))
        lacking = highest - lowest + 1 - count
        if not lacking:
            return []
        what = (
            f"{-lacking} came twice"
            if lacking < 0
            else f"{lacking} {'is' if lacking == 1 else 'are'} lacking"
        )
        text = (
            f"of its changes to versions {lowest} to {highest}, {what}: what Redis lost "
            "before it was published, and later ones rest on, has no fees, refunds and events"
        )
        return [Finding("change", f"client {shown(client)}", text)]

    def clients(self) -> Iterable[str]:
        """Return every client that the journal names."""
        return self.balances.keys() | self._versions.keys()


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
