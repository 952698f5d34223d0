"""What the journal says of one client, and where the client in the store, or the journal itself, differs.

Promises checked: counters = sum of draws and changes, balance = sum of amounts, of the changes of a client
none is missing, the register is that of the last one; a refund gives back what was charged, and no more; a
reversal takes back what was published, and the next revision comes after it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import product
from math import prod
from typing import NamedTuple

import msgspec

from rater.core.clients.state import did_name, dids_of, read_state
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.core.reasons import shown

MOVES = frozenset({
    TransactionType.ACTIVATION_FEE, TransactionType.SUBSCRIPTION_FEE, TransactionType.REFUND,
    TransactionType.REVERSAL,
})  # fmt: skip
"""Types that others refer to, or that refer to others. (Of usage: those of later revisions.)"""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be: where, and what.

    kind: repeated, other_client, unreadable, header, sum, change, counter, balance, register, refund,
    reversal, did, removed.
    """

    kind: str
    where: str
    problem: str


class Move(NamedTuple):
    """A fee, refund or reversal, or usage of a later revision. amount: micros; of: ids that it gives back."""

    id: str
    type: str
    revision: int
    amount: int
    reverses: int | None = None
    of: Sequence[str] = ()


class Stored(NamedTuple):
    """A client as its bucket holds it: micros, counter field → used. state: its register, None: unknown."""

    balance: int
    counters: dict[str, int]
    state: bytes | None = None


class Book(msgspec.Struct):
    """What the journal says of a client.

    changes: how many were read; lowest, highest: of their versions, 0: there was none. state: digest of the
    register that the highest made.
    """

    balance: int = 0
    counters: defaultdict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    changes: int = 0
    lowest: int = 0
    highest: int = 0
    state: bytes = b""
    moves: list[Move] = []

    def change(self, version: int, instead: Sequence[int], state: bytes) -> None:
        """Take in a change to a version; instead: versions that it stands for besides."""
        versions = version, *instead
        self.changes += len(versions)
        self.lowest = min(versions) if not self.lowest else min(self.lowest, *versions)
        if version >= self.highest:
            self.state = register_digest(state)
        self.highest = max(self.highest, *versions)

    def moved(self) -> tuple[int, dict[str, int], int]:
        """Return what changes with each movement: two that are equal lie in a quiet time."""
        return self.balance, dict(self.counters), self.changes


class Step(NamedTuple):
    """What one record of the journal did to a client's sums: micros, counter fields with what was added."""

    lane: int
    balance: int
    counters: Sequence[tuple[str, int]]


Sums = frozenset[tuple[str, int]]
"""Differences that are not 0: of counter fields, and of the balance by the field ""."""

_WAYS_MAX = 100_000
"""So many combinations of lanes are tried; beyond it a client is looked at again."""


def is_on_its_way(before: tuple[int, Mapping[str, int]], stored: Stored, steps: Sequence[Step]) -> bool:
    """Return whether the store was just ahead: what it had more was published afterwards.

    before: balance and counters by the journal as it was read before the store was asked. steps: what was
    read after that. Each lane draws in the order in which it publishes, so the store has the first ones of
    each lane, how many is not known.
    """
    balance, counters = before
    wanted = {"": stored.balance - balance}
    for field in counters.keys() | stored.counters.keys():
        wanted[field] = stored.counters.get(field, 0) - counters.get(field, 0)
    by: defaultdict[int, list[Step]] = defaultdict(list)
    for step in steps:
        by[step.lane].append(step)
    ways = sorted(map(_begins, by.values()), key=len)
    last = set(ways.pop()) if ways else {frozenset()}
    if prod(map(len, ways)) > _WAYS_MAX:
        return False
    return any(_less(wanted, chosen) in last for chosen in product(*ways))


def _begins(steps: Sequence[Step]) -> list[Sums]:
    """Return what the first 0, 1, 2 … of the steps come to."""
    sums: Counter[str] = Counter()
    found = [frozenset[tuple[str, int]]()]
    for step in steps:
        sums[""] += step.balance
        for field, units in step.counters:
            sums[field] += units
        found.append(frozenset((field, units) for field, units in sums.items() if units))
    return found


def _less(wanted: Mapping[str, int], chosen: Sequence[Sums]) -> Sums:
    left = Counter(wanted)
    for sums in chosen:
        left.subtract(dict(sums))
    return frozenset((field, units) for field, units in left.items() if units)


def register_digest(state: bytes) -> bytes:
    """Return the digest of a register."""
    return blake2b(state, digest_size=8).digest()


def compare(
    client: str, book: Book, stored: Stored | None, usage: Callable[[str], int | None]
) -> list[Finding]:
    """Return what is wrong with a client.

    usage: name of a transaction of usage → micros, None: it was not published.
    """
    balance, counters, state = stored or Stored(0, {})
    where = f"client {shown(client)}"
    out = []
    if balance != book.balance:
        text = f"Redis has {balance} micros, the journal's amounts sum to {book.balance}"
        out.append(Finding("balance", where, text))
    for field in sorted(book.counters.keys() | counters.keys()):
        used, drawn = counters.get(field, 0), book.counters.get(field, 0)
        if used != drawn:
            text = f"Redis has {used}, the journal's draws sum to {drawn}"
            out.append(Finding("counter", f"{where} counter {shown(field)}", text))
    if book.state and state is not None and register_digest(state) != book.state:
        text = f"its register in Redis is not that of its change to version {book.highest} in the journal"
        out.append(Finding("register", where, text))
    faults = [*_refund_faults(book.moves), *_reversal_faults(book.moves, usage)]
    return [*out, *_gaps(where, book), *(Finding(kind, where, text) for kind, text in faults)]


def held_numbers(stored: Stored | None) -> list[str]:
    """Return the DIDs that a client holds by its register; none where that cannot be read."""
    if stored is None or stored.state is None:
        return []
    try:
        return [did.number for _, did in dids_of(read_state(stored.state))]
    except UNREADABLE:  # `compare` says that it is another than the journal has
        return []


def compare_dids(
    client: str, numbers: Sequence[str], owners: Mapping[str, str], inventory: Container[str] | None
) -> Iterator[Finding]:
    """Yield the DIDs that a client holds and that are not its own.

    owners: entries of the account index. inventory: DIDs of the catalog, None: not known.
    """
    for number in numbers:
        owner = owners.get(did_name(number))
        where = f"DID {shown(number)}"
        if owner != client:
            given = "has no entry" if owner is None else f"is entered for client {shown(owner)}"
            yield Finding("did", where, f"client {shown(client)} holds it, and it {given}")
        elif inventory is not None and number not in inventory:
            yield Finding("did", where, f"client {shown(client)} holds it, and the catalog has no such DID")


def compare_entry(number: str, owner: str | None, held: Container[str]) -> Iterator[Finding]:
    """Yield that a DID is entered for a client that does not hold it: nobody can be given it.

    held: what its owner holds.
    """
    if owner is not None and number not in held:
        text = f"it is entered for client {shown(owner)}, which does not hold it"
        yield Finding("did", f"DID {shown(number)}", text)


def _gaps(where: str, book: Book) -> Iterator[Finding]:
    """Yield what tells that not each version of a client is one change (decision 0098)."""
    lacking = book.highest - book.lowest + 1 - book.changes if book.changes else 0
    if lacking:
        what = (
            f"{-lacking} came twice"
            if lacking < 0
            else f"{lacking} {'is' if lacking == 1 else 'are'} lacking"
        )
        text = (
            f"of its changes to versions {book.lowest} to {book.highest}, {what}: what Redis lost "
            "before it was published, and later ones rest on, has no fees, refunds and events"
        )
        yield Finding("change", where, text)


def _refund_faults(moves: Sequence[Move]) -> Iterator[tuple[str, str]]:
    """Yield kind and sentence of each refund that is not what was charged."""
    sums: Counter[str] = Counter()
    for move in moves:
        sums[move.id] += move.amount
    for move in moves:
        charged = sum(sums[of] for of in move.of)
        if move.type == TransactionType.REFUND and sums[move.id] != -charged:
            of = shown(", ".join(move.of))
            yield "refund", f"{shown(move.id)} comes to {sums[move.id]} micros, and {of} to {charged}"


def _reversal_faults(moves: Sequence[Move], usage: Callable[[str], int | None]) -> Iterator[tuple[str, str]]:
    """Yield the same of each reversal of something else, and of each revision that nothing made room for."""
    there = {(one.id, one.revision): one.amount for one in moves if one.type != TransactionType.REVERSAL}
    back = {(one.id, one.reverses) for one in moves if one.type == TransactionType.REVERSAL}
    for move in moves:
        if move.type == TransactionType.REVERSAL:
            name = f"the reversal of {shown(move.id)} revision {move.reverses}"
            was = there.get((move.id, move.reverses or 0))
            if was is None:
                was = usage(f"{move.id} revision {move.reverses} {TransactionType.USAGE}")
            if was is None:
                yield "reversal", f"{name} takes back what was not published"
            elif was != -move.amount:
                yield "reversal", f"{name} moves {move.amount} micros, and what it takes back {was}"
        elif move.revision > 1 and (move.id, move.revision - 1) not in back:
            text = f"{shown(move.id)} revision {move.revision} was published, and the one before not reversed"
            yield "reversal", text
