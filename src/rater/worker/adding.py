"""Reading the journal for a lane that is taken: what each bucket lacks of it, in parts.

Where the buckets keep nothing of the lane, as after a loss of all, the native engine adds up what its
transactions say: the same sums, several times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from rater.core.bucket.messages import Reconcile
from rater.core.journal.reconciling import Reconciling, by_bucket
from rater.core.journal.records import EFFECT_HEADER, ChangeRecord, Effect, Identity
from rater.errors import Retake
from rater.stream.journal import understood

if TYPE_CHECKING:
    from rater.native.engine import Effects
    from rater.native.holding import Native

log = structlog.get_logger()


class Adding:
    """The buckets of a lane that are compared with its journal, by records as they come."""

    def __init__(self, found: Sequence[Reconciling], generation_ms: int, native: Native | None) -> None:
        """native: None: Python does it."""
        self._found, self._native = found, native
        self._effects: Effects | None = None
        self._shares_of: Identity | None = None
        """Of the last change, until a transaction of something else comes."""
        self._sizes = [0] * len(found)
        if native is not None and native.effects is not None and not any(each.keeps for each in found):
            self._effects = native.effects(
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
            if self._shares_of is None and headers and headers[0][0] == EFFECT_HEADER:
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
            with self._watching():
                self._sizes = self._effects.add(run)
        except ValueError:
            self._take([(offset, understood([(EFFECT_HEADER, raw)])) for offset, raw in run])

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Take the lane again at a panic, or where sums leave 64 bits: what was added may be half done.

        Python does it from then on. What buckets were given before has its floor there.
        """
        native = self._native
        assert native is not None  # noqa: S101 - it is watched
        try:
            yield
        except (native.panic, OverflowError) as panic:
            native.effects = None
            log.error("the native engine panicked over effects", panic=str(panic))  # noqa: TRY400 - no use
            raise Retake(
                f"the native engine panicked over effects of the journal ({panic}): Python reads them from "
                "now on; report it"
            ) from panic

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
            with self._watching():
                lane_ms, balances, counters, duplicates = self._effects.take(bucket)
            self._sizes[bucket] = 0
            what.lane_ms = max(what.lane_ms, lane_ms)
            what.balances += balances
            what.counters += counters
            what.duplicates += duplicates
        return what
