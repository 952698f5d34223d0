"""A change of a client, as a value.

A `Change` is decided by pure functions (`loading`, `lifecycle`, `actions`), carried out whole or not at
all by one call of the bucket, kept whole with its outcome and published from what was kept. Why:
decisions/0060-one-change.md.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from rater.core.bucket.messages import ClientWrite


class ChangeTransaction(NamedTuple):
    """One transaction of a change: its type, its signed micros of the client's currency, its JSON.

    counters: its share of what the change adds to counters; others are of the change alone.
    """

    type: str
    amount: int
    value: bytes
    counters: tuple[tuple[str, int], ...] = ()


class ChangeEvent(NamedTuple):
    """One event of a change: its type, its key, its JSON."""

    type: str
    key: bytes
    value: bytes


class Change(Struct):
    """What becomes of a client: the new state and its conditions, and all that is published of it.

    The amounts of the transactions add up to the write's delta. due_ms: when something is due next, as the
    new state has it; None: never.
    """

    write: ClientWrite
    transactions: tuple[ChangeTransaction, ...] = ()
    events: tuple[ChangeEvent, ...] = ()
    due_ms: int | None = None

    def due_by(self, upto_ms: int) -> bool:
        """Return whether something is due up to an instant still."""
        return self.due_ms is not None and self.due_ms <= upto_ms
