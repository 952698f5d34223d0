"""Reading the journal for a lane that is taken: what each bucket lacks of it, in parts.

Where the buckets keep nothing of the lane, as after a loss of all, the native engine adds up what its
transactions say: the same sums, several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rater.core.bucket.messages import Reconcile
from rater.core.journal.reconciling import Reconciling, by_bucket
from rater.core.journal.records import EFFECT_HEADER, ChangeRecord, Effect, Identity
from rater.stream.journal import understood

if TYPE_CHECKING:
    from rater.native.engine import Effects


class Adding:
    """The buckets of a lane that are compared with its journal, by records as they come."""

    def __init__(
        self, found: Sequence[Reconciling], generation_ms: int, effects: Callable[..., Effects] | None
    ) -> None:
        """effects: makes what adds up natively; None: Python does it."""
        self._found = found
        self._effects: Effects | None = None
        self._shares_of: Identity | None = None
        """Of the last change, until a transaction of something else comes."""
        self._sizes = [0] * len(found)
        if effects is not None and not any(each.keeps for each in found):
            self._effects = effects(
                generation_ms, found[0].first_generation, [each.read_from for each in found],
                [each.floor for each in found], [each.included for each in found],
            )  # fmt: skip

    def read(self, records: Sequence[Any]) -> None:
        """Take records of the journal, in order. Raises Halt where one cannot be read."""
        if self._effects is None:
            self._take([(record.offset, understood(record.headers)) for record in records])
            return
        run: list[tuple[int, bytes]] = []
        rest: list[tuple[int, object]] = []
        for record in records:
            headers = record.headers
            if self._shares_of is None and len(headers) == 1 and headers[0][0] == EFFECT_HEADER:
                run.append((record.offset, headers[0][1]))
                continue
            said = understood(headers)
            rest.append((record.offset, said))
            if isinstance(said, ChangeRecord):
                self._shares_of = said.topic, said.offset, said.index
            elif isinstance(said, Effect) and (said.topic, said.offset, said.index) != self._shares_of:
                self._shares_of = None
        self._take(rest)
        try:
            self._sizes = self._effects.add(run)
        except ValueError:
            self._take([(offset, understood([(EFFECT_HEADER, raw)])) for offset, raw in run])

    def _take(self, said: list[tuple[int, object]]) -> None:
        if not said:
            return
        for reconciling, part in zip(self._found, by_bucket(said, len(self._found)), strict=True):
            first = reconciling.read_from
            reconciling.read([one for one in part if one[0] >= first] if said[0][0] < first else part)

    def full(self, most: int) -> list[int]:
        """Return the buckets of which so much or more has come together."""
        return [at for at, each in enumerate(self._found) if each.size + self._sizes[at] >= most]

    def with_sums(self, bucket: int, what: Reconcile) -> Reconcile:
        """Return corrections of a bucket with what was added up natively, which begins anew."""
        if self._effects is not None:
            lane_ms, balances, counters, duplicates = self._effects.take(bucket)
            self._sizes[bucket] = 0
            what.lane_ms = max(what.lane_ms, lane_ms)
            what.balances += balances
            what.counters += counters
            what.duplicates += duplicates
        return what
