"""What a lane does about a panic of the native engine: it is taken again, and Python rates the record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rater.core.cdr import SIDES
from rater.core.clients.state import write_state
from rater.core.instants import is_stamp
from rater.core.json_text import UNREADABLE
from rater.core.line import reading
from rater.core.line.batch import Batch, Side, Standing, timestamp
from rater.core.line.steps import Requests
from rater.core.reasons import Reason, Rejection, shown
from rater.core.reasons import Side as SideName
from rater.core.sources.formats import Skipped
from rater.core.sources.source_map import SourceMap
from rater.errors import Fenced, Halt, Retake, Wait
from rater.worker.buckets import LaneBuckets
from rater.worker.shared import VIEWS_MAX

if TYPE_CHECKING:
    from rater.core.line.engine import Place, Rating
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
        topics: list[str],
        records: list[Any],
        maps: Mapping[str, SourceMap | None],
    ) -> None:
        """begin_ms: the lane's time before the batch. topics: that of each record.

        maps: topic → by which its records are read.
        """
        self._native, self._buckets, self._lane = native, buckets, buckets.lane
        self._begin_ms, self._topics, self._records, self._maps = begin_ms, topics, records, maps

    def catalog(self) -> Any:
        """Return the lane's catalog as the engine has it; None: it has not."""
        return None if self._lane.catalog is None else self._native.catalog(self._lane.catalog.version)

    def batch(self, lane_ms: int | None = None) -> Rating:
        """Return an empty batch of the engine. lane_ms: the lane's time before it; None: before the batch."""
        before_ms, window_ms = self._begin_ms if lane_ms is None else lane_ms, self._lane.standing.window_ms
        return self._native.batch(self._lane.number, before_ms, window_ms, views_max=VIEWS_MAX)

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

    def count_returned(self, batch: Batch, suspect: set[Place]) -> None:
        """Tell of sides that the reference rates and the engine does not: a fault of the engine's.

        suspect: those of which it said so. It is none where the lane has caught up, or the client was
        changed, since then: the engine is asked again by what the reference went by.
        """
        if not suspect:
            return
        numbers = {id(record): number for number, record in enumerate(self._records)}
        rated = [
            side
            for side in batch.sides
            if side.rejection is None
            and (numbers.get(id(side.record), -1), side.index) in suspect
            and self.rejects(numbers[id(side.record)], side)
        ]
        if rated:
            places = [f"{side.topic}[{self._lane.number}]@{side.offset}" for side in rated[:10]]
            batch.counts.returned += len(rated)
            log.error("the native engine returned calls that Python rates", calls=len(rated), first=places)

    def rejects(self, number: int, side: Side) -> bool:
        """Return whether the engine rejects a side that the steps have rated, by what these went by."""
        source_map = self._maps[side.topic]
        value, view, record = value_of(self._records[number], source_map), side.view, self._records[number]
        by = self.catalog()
        if view is None or by is None or not isinstance(value, bytes):
            return False  # it was replayed, or is not the engine's
        owners = {} if side.account is None else {side.account: view.id}
        lane_ms = max([self._begin_ms, *filter(is_stamp, map(timestamp, self._records[:number]))])
        try:
            alone = self.batch(lane_ms)
            alone.decode(
                by, side.topic, [value], [record.offset], [record.timestamp], mapped=source_map is not None,
                replayed=[((1 << len(SIDES)) - 1) ^ (1 << side.index)],
            )  # fmt: skip
            alone.learn([view.id], list(owners), {view.id: write_state(view.state)}, owners)
            count = self._buckets.connections.store.count
            if any(alone.identify(by)) or any(alone.prepare(by, count, ())):
                return True  # it asks for what the steps did without
            alone.requests()
            return (0, side.index) not in alone.taken({0}) or (0, side.index) in alone.rejected()
        except self._native.panic:
            return True

    def _panics_over(self, number: int) -> bool:
        """Return whether the engine panics over one record, up to its request: nothing is changed by it."""
        record, topic = self._records[number], self._topics[number]
        source_map, count = self._maps[topic], self._buckets.connections.store.count
        value = value_of(record, source_map)
        alone, catalog, mapped = self.batch(), self.catalog(), source_map is not None
        if catalog is None or not isinstance(value, bytes):
            return False  # it was not given to the engine
        try:
            alone.decode(catalog, topic, [value], [record.offset], [record.timestamp], mapped=mapped)
            if any(alone.identify(catalog)) or any(alone.prepare(catalog, count, ())):
                return False  # what it lacks was not there yet when the engine panicked
            for request, _ in alone.requests():
                alone.packed(request, 0, 0, 0)
        except self._native.panic:
            return True
        return False
