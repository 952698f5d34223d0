"""Reading the journal for a lane that is taken: what each bucket lacks of it, in parts.

Where the buckets keep nothing of the lane, as after a loss of all, the native engine adds up what its
transactions say: the same sums, several times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from rater.core.bucket.added import AddedSums
from rater.core.bucket.messages import Reconcile
from rater.core.journal.reconciling import Reconciling, by_bucket
from rater.errors import Halt, Retake
from rater.store.packing import RECONCILE_ARGUMENTS, RECONCILE_KEYS
from rater.stream.fetching import FetchedBatch
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
        self._sizes = [0] * len(found)
        if native is not None and native.effects is not None and not any(each.keeps for each in found):
            self._effects = native.effects(
                generation_ms, found[0].first_generation, [each.read_from for each in found],
                [each.floor for each in found], [each.included for each in found],
            )  # fmt: skip

    @property
    def natively(self) -> bool:
        """Whether batches are taken as Kafka has them."""
        return self._effects is not None

    def read(self, records: Sequence[Any]) -> None:
        """Take records of the journal, in order. Raises Halt where one cannot be read."""
        self._take([(record.offset, understood(record.headers)) for record in records])

    def read_batch(self, batch: FetchedBatch, start: int, until: int) -> None:
        """Take the records of a batch with start <= offset < until, `natively`. Raises Halt, Retake."""
        assert self._effects is not None  # noqa: S101 - it was asked before
        try:
            with self._watching():
                left, self._sizes = self._effects.add(batch.first, batch.records, start, until)
        except ValueError as error:
            raise Halt(f"the journal's batch at offset {batch.first} cannot be read: {error}") from error
        self._take([(offset, understood([(name, raw or b"")])) for offset, name, raw in left])

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
                taken = self._effects.take(bucket, RECONCILE_KEYS, RECONCILE_ARGUMENTS)
            self._sizes[bucket] = 0
            what.lane_ms = max(what.lane_ms, taken[0])
            what.added = AddedSums(*taken[1:])
        return what
