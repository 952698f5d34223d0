"""A client as it was just before one of its transactions, as the journal tells."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from rater.core.journal.records import STEP_INDEX, ChangeRecord, Effect, Identity

_TURNS = {2: 0, 0: 1, 6: 2, 4: 3, 3: 4, 1: 5, 7: 6, 5: 7}
"""Index of what a record of calls does (`CHANGE_INDEX_MIN`) → its turn: what is due before orig, orig, the
fee that it brings, what it wakes; then the same of term."""
_OF_ORIG = {0, 6, 4}


class Place(NamedTuple):
    """Where a transaction lies in the journal, and what its header says."""

    lane: int
    offset: int
    effect: Effect


class Before:
    """Folds the journal's records of one client that came before one of its usage transactions.

    In a lane records of one topic come in their order, whatever the order in the journal, which has changes
    of a batch ahead of its sides. Other lanes are to be read up to the broker's time of the transaction:
    which of two lanes drew first is not kept, so what was used is exact where the client's calls came by one.
    """

    def __init__(self, place: Place) -> None:
        """Begin with nothing."""
        self.place = place
        self.state: bytes | None = None
        """The client's state; None: no change of it was read."""
        self.history: dict[str, bytes] = {}
        """CLIENT_PACKAGE.PERIOD → row, of periods that have left the state: a late call falls into them."""
        self.balance = 0
        """Micros of the client's currency."""
        self.of_record = 0
        """The part of it that the transaction's own record has brought, by its other side."""
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.cut = False
        """The journal begins behind its first record, so the sums are not what the client had."""
        self._version = 0
        self._changes: dict[int, Identity] = {}
        """Lane → the change that was read last: transactions of this identity are its shares."""

    def add(self, lane: int, offset: int, said: Effect | ChangeRecord) -> None:
        """Take in a record of the client, unless it came behind the transaction.

        A change counts as a whole, so its transactions do not. But of the change that the transaction itself
        is of (a re-rate's) those count that stand before it.
        """
        own, identity = self.place.effect, _identity(said)
        if lane == self.place.lane and identity == _identity(own):
            if isinstance(said, Effect) and offset < self.place.offset:
                self._count(said.balance, said.counters)
            return
        if isinstance(said, ChangeRecord):
            self._changes[lane] = identity
        elif self._changes.get(lane) == identity:
            return
        if not self._is_before(lane, offset, said):
            return
        balance = said.delta if isinstance(said, ChangeRecord) else said.balance
        self._count(balance, said.counters)
        if isinstance(said, ChangeRecord):
            self.history |= dict(said.history)
            if said.version > self._version:
                self._version, self.state = said.version, said.state
        of_record = (lane, *identity[:2]) == (self.place.lane, own.topic, own.offset)
        if of_record and said.index % STEP_INDEX in _OF_ORIG:
            self.of_record += balance

    def _count(self, balance: int, counters: list[tuple[str, int]]) -> None:
        self.balance += balance
        for field, units in counters:
            self.counters[field] += units

    def _is_before(self, lane: int, offset: int, said: Effect | ChangeRecord) -> bool:
        own = self.place.effect
        if lane != self.place.lane:
            return True
        if said.topic != own.topic:
            return offset < self.place.offset
        turns = [_TURNS.get(index % STEP_INDEX, 0) for index in (said.index, own.index)]
        return (said.offset, turns[0]) < (own.offset, turns[1])


def _identity(of: Effect | ChangeRecord) -> Identity:
    return of.topic, of.offset, of.index
