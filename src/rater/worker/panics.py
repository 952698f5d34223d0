"""What a lane does about a panic of the native engine: it is taken again, and Python rates the record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rater.core.json_text import UNREADABLE
from rater.core.line import reading
from rater.core.line.batch import Side, Standing
from rater.core.line.steps import Requests
from rater.core.reasons import Reason, Rejection, shown
from rater.core.reasons import Side as SideName
from rater.core.sources.formats import Skipped
from rater.core.sources.source_map import SourceMap
from rater.errors import Fenced, Halt, Retake, Wait
from rater.worker.buckets import LaneBuckets
from rater.worker.shared import VIEWS_MAX

if TYPE_CHECKING:
    from rater.core.line.engine import Rating
    from rater.native.holding import Native

log = structlog.get_logger()


def unrateable(error: Exception, side: SideName | None = None) -> Rejection:
    """Return how a record is rejected that neither engine can rate: its bytes are kept."""
    detail = f"rater cannot rate this record ({shown(repr(error))}): report it, with the record"
    return Rejection(Reason.MALFORMED, detail, "", side)


def value_of(record: Any, source_map: SourceMap | None) -> bytes | tuple[Rejection, ...] | Skipped | None:
    """Return a record as the engine takes it, or why a source's map makes no call of it; None: no bytes."""
    if source_map is None:
        value: bytes | None = record.value
        return value
    mapped = reading.mapped_of(record, source_map)
    if not isinstance(mapped, dict):
        return mapped
    try:
        return msgspec.json.encode(mapped)
    except (*UNREADABLE, OverflowError):  # texts that are none, or such numbers: the steps reject them
        return None


async def proven(
    sides: list[Side],
    doubtful: list[Side],
    standing: Standing,
    match: Callable[[list[Side]], Awaitable[tuple[Requests, list[Side]]]],
) -> list[Side]:
    """Return the sides without those that the steps fail over, up to their requests: they are rejected.

    doubtful: those of records over which the native engine panicked; of others a failure is one of all.
    match: changes nothing.
    """
    for side in doubtful:
        try:
            requests, _ = await match([side])
            for builder in requests.values():
                builder.request(standing, 0, 0, 0, 0)
        except (Halt, Fenced, Retake, Wait):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            side.rejection = unrateable(error, side.name)
    failed = {id(side) for side in doubtful if side.rejection is not None}
    return [side for side in sides if id(side) not in failed]


class Guard:
    """Watches over what the engine does with a batch's records."""

    def __init__(
        self,
        native: Native,
        buckets: LaneBuckets,
        begin_ms: int,
        topics: Sequence[str],
        records: Sequence[Any],
    ) -> None:
        """begin_ms: the lane's time before the batch. topics: that of each record."""
        self._native, self._buckets, self._lane = native, buckets, buckets.lane
        self._begin_ms, self._topics, self._records = begin_ms, topics, records

    def catalog(self) -> Any:
        """Return the lane's catalog as the engine has it. Raises Retake where it has not."""
        version = 0 if self._lane.catalog is None else self._lane.catalog.version
        found = self._native.catalog(version)
        if found is None:
            raise Retake(f"the native engine has no catalog {version}: its calls are rated by Python")
        return found

    def batch(self) -> Rating:
        """Return an empty batch of the engine."""
        window_ms = self._lane.standing.window_ms
        return self._native.batch(self._lane.number, self._begin_ms, window_ms, views_max=VIEWS_MAX)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the lane again at a panic: nothing of the batch is kept but what was drawn: it comes again."""
        try:
            yield
        except self._native.panic as panic:
            raise Retake(self._blame(panic)) from panic

    def _blame(self, panic: BaseException) -> str:
        """Keep the records from the engine that it panics over, each alone; returns the sentence."""
        found = [number for number in range(len(self._records)) if self._panics_over(number)]
        numbers = found or range(len(self._records))
        places = [(self._topics[at], self._lane.number, self._records[at].offset) for at in numbers]
        self._native.distrust(places)
        topic, lane, offset = places[0]
        whole = "" if found else " or one of the batch behind it"
        log.error("the native engine panicked", topic=topic, partition=lane, offset=offset, panic=str(panic))
        return (
            f"the native engine panicked over {topic}[{lane}]@{offset}{whole} ({panic}): Python rates "
            f"{'it' if len(places) == 1 else f'these {len(places)} records'} the next time; report it with "
            "the record"
        )

    def _panics_over(self, number: int) -> bool:
        """Return whether the engine panics over one record, up to its request: nothing is changed by it."""
        record, topic = self._records[number], self._topics[number]
        source_map, count = self._buckets.map_of(topic), self._buckets.connections.store.count
        value = value_of(record, source_map)
        if not isinstance(value, bytes):
            return False  # it was not given to the engine
        try:
            alone, catalog, mapped = self.batch(), self.catalog(), source_map is not None
            alone.decode(catalog, topic, [value], [record.offset], [record.timestamp], mapped=mapped)
            if any(alone.identify(catalog)) or any(alone.prepare(catalog, count, ())):
                return False  # what it lacks was not there yet when the engine panicked
            for request, _ in alone.requests():
                alone.packed(request, 0, 0, 0)
        except self._native.panic:
            return True
        return False
