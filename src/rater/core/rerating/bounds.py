"""For which counters and balances the same result comes out: what a live call may move meanwhile.

A re-rate is worked out beside the line, and calls go on. So with what it changes go the intervals of those
numbers that it rests on: a counter with enough left may give to live calls, one that is used up may be used
up further, and only where the last units are fought for has the client to be worked out anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from rater.core.amounts import LIMIT
from rater.core.bucket.drawing import Funds
from rater.core.bucket.messages import DrawItem, DrawResult

ANYTHING = (-2 * LIMIT, 2 * LIMIT)
"""What a number may have moved by that nothing rests on."""


class Bounds:
    """By how much counters and balance may have moved, so that each call still ends as it did."""

    def __init__(self) -> None:
        """Begin with nothing that anything rests on."""
        self.fields: dict[str, tuple[int, int]] = {}
        self.balance = ANYTHING

    def of(self, field: str) -> tuple[int, int]:
        """Return by how much a counter may have moved: the least and the most."""
        return self.fields.get(field, ANYTHING)

    def _narrow(self, field: str, least: int, most: int) -> None:
        low, high = self.of(field)
        self.fields[field] = max(low, least), min(high, most)

    def note(
        self, item: DrawItem, fields: Sequence[str], used: list[int], funds: Funds, result: DrawResult,
        *, judged: bool, fee_judged: bool,
    ) -> None:  # fmt: skip
        """Note what the result of an item rests on.

        judged, fee_judged: whether the balance was asked for the one rule or the other, for no transaction
        has kept the answer.
        """
        taken = {index: units for index, units, _, _ in result.takes}
        for index, candidate in enumerate(item.candidates):
            rest = candidate.size - used[candidate.field]
            units = taken.get(index)
            if rest <= 0:
                least, most = rest, ANYTHING[1]
            elif units is None:
                least, most = ANYTHING[0], rest - 1
            else:
                # What took all that was left would have taken more, or just not.
                least, most = (0, 0) if units == rest else (ANYTHING[0], rest - units)
            self._narrow(fields[candidate.field], least, most)
        for ask in item.fees:
            self._narrow(fields[ask.field], 0, 0)
        if judged and result.balance_sufficient is not None:
            self._at(-funds.credit_limit - funds.before)
        if fee_judged:
            for ask in item.fees:
                if ask.deny and ask.amount < 0 and not used[ask.field]:
                    self._at(-funds.credit_limit - ask.amount - funds.balance)

    def _at(self, mark: int) -> None:
        """Stay on this side of a mark. mark: what the balance would have to move by to stand at it."""
        low, high = self.balance
        self.balance = (max(low, mark), high) if mark <= 0 else (low, min(high, mark - 1))
