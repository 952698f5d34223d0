"""Records as calls: each by a source's map or as a CDR of ours, judged by the lane's time at its place.

Both the steps and what goes on behind the native engine read by this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import check
from rater.core.cdr_decoding import decode as decode_cdr
from rater.core.instants import is_stamp
from rater.core.kinds import DuplicateKind, SideOutcome
from rater.core.line.batch import SIDE_INDEX, Batch, Record, Side, Standing, timestamp
from rater.core.line.late import ageless, late_of, sides_but
from rater.core.reasons import Reason, Rejection
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.formats import Skipped
from rater.core.sources.source_map import Mapped, SourceMap


class Readable(Protocol):
    """What is read of a record."""

    @property
    def value(self) -> bytes | None:
        """Its bytes."""

    @property
    def headers(self) -> Any:
        """Its headers, or nothing."""


def begin_ms(batch: Batch, standing: Standing) -> int:
    """Return the lane's time before a batch's calls: its commands come first."""
    stamps: list[int] = [*filter(is_stamp, map(timestamp, batch.commands))]
    return max([standing.lane_ms, *stamps])


def arrivals(
    batch: Batch, lane_ms: int, window_ms: int, services: frozenset[str]
) -> Iterator[tuple[str, Record, Arrival]]:
    """Yield topic and record of each call, and what it is judged by: the lane's time rises with them."""
    arrival = Arrival(lane_ms, window_ms, services)
    for topic, records in batch.polled:
        for record in records:
            if record.timestamp > lane_ms and is_stamp(record.timestamp):
                lane_ms = record.timestamp
                arrival = Arrival(lane_ms, window_ms, services)
            yield topic, record, arrival


def read(
    record: Readable, arrival: Arrival, source_map: SourceMap | None
) -> Cdr | tuple[Rejection, ...] | Skipped:
    """Return the call of a record, or why there is none. source_map: None, it is a CDR of ours.

    Of one that was looked up in the journal: the call without the sides that it knows, and whatever its age
    with those that it does not.
    """
    late = late_of(record.headers, arrival) if record.headers else None
    found = _read(record, arrival if late is None else ageless(arrival), source_map)
    if late is None or not isinstance(found, Cdr):
        return found
    left = sides_but(late.rate, late.known)  # nobody looked for them: the map has changed since
    aged = _read(record, arrival, source_map) if left else found
    rejected = [one for one in found.rejected if one.side not in late.known]
    if not isinstance(aged, Cdr) and not isinstance(aged, Skipped):
        rejected += [one for one in aged if one.side in left]
        gone = [*late.known, *left]
    else:
        gone = late.known
    orig, term = (
        None if name in gone else party for name, party in (("orig", found.orig), ("term", found.term))
    )
    return replace(found, orig=orig, term=term, rejected=tuple(rejected))


def count_known(batch: Batch, record: Readable, arrival: Arrival) -> None:
    """Count the sides of a call that the journal knows, though the duplicate window has forgotten them."""
    late = late_of(record.headers, arrival) if record.headers else None
    for side in () if late is None else late.known:
        batch.counts.sides[side, SideOutcome.DUPLICATE] += 1
        batch.counts.duplicates[DuplicateKind.SAME] += 1


def _read(
    record: Readable, arrival: Arrival, source_map: SourceMap | None
) -> Cdr | tuple[Rejection, ...] | Skipped:
    if source_map is None:
        return decode_cdr(record.value, arrival)
    mapped = mapped_of(record, source_map)
    if not isinstance(mapped, dict):
        return mapped
    found = check(mapped, arrival)
    if isinstance(found, Cdr):
        return found if not found.rejected else replace(found, rejected=source_map.named(found.rejected))
    return source_map.named(found)


def mapped_of(record: Readable, source_map: SourceMap) -> Mapped | tuple[Rejection, ...] | Skipped:
    """Return what a source's map makes of a record."""
    columns = header_of(record, COLUMNS) if source_map.format == "csv" else None
    return source_map.apply(record.value or b"", columns)


def take_rejected(
    batch: Batch, topic: str, record: Record, rejected: tuple[Rejection, ...], replayed: Sequence[int],
    catalog: int,
) -> None:  # fmt: skip
    """Take what is rejected as it is read.

    replayed: indices of sides that were decided before. catalog: the version whose services it was read by.
    """
    for rejection in rejected:
        index = -1 if rejection.side is None else SIDE_INDEX[rejection.side]
        if index not in replayed:
            by = catalog if rejection.reason is Reason.SERVICE_UNKNOWN else 0
            batch.sides.append(Side(topic, record, index, rejection=rejection, catalog=by))


def header_of(record: Readable, name: str) -> bytes | None:
    """Return the value of a record's header, of several the first."""
    for found, value in record.headers or ():
        if found == name:
            header: bytes | None = value
            return header
    return None
