"""What buckets may forget: outcomes that are published for good, and the journal that they agree with.

An outcome is kept in its bucket until its transaction is published, for whoever takes the lane next publishes
it again; then it is trimmed. A bucket's floor is the offset of the journal from where it is compared with
what is kept when the lane is taken. Both are of one commit, and are told to the buckets together.
"""

from __future__ import annotations

from msgspec import Struct


class Settled(Struct, frozen=True):
    """What is settled with a commit."""

    requests: tuple[int, ...]
    """For each bucket the number of the last request of which all is published."""
    floor: int
    """Offset of the journal behind the commit."""


def forgettable(before: Settled | None, now: Settled, pending: int) -> tuple[Settled | None, Settled | None]:
    """Return what buckets may forget after a commit, and what they may once the next one has succeeded.

    before: what this commit was to prove (the second of what was returned for the one before). now: what is
    settled with this one. pending: outcomes of a predecessor that are not published yet. None for what
    buckets may forget: no more than they were told. Two rules:

    - While outcomes of a predecessor wait to be published nothing is forgotten: a second crash would lose
      them. Then it all goes at once with the floor's rise, for an outcome that is kept and not found in the
      journal from the floor on would be undone (decisions/0006-trim-after-the-predecessor.md).
    - One commit late: brokers that are killed may forget the last commit that they confirmed, and never the
      one before (decisions/0025-forgotten-commits.md).
    """
    if pending:
        return None, before
    return before, now
