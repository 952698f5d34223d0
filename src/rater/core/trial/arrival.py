"""When the records of files arrive, and in which order (decision 0108): a call comes in when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import Any, NamedTuple

from rater.core.cdr import Arrival, Cdr, EveryService
from rater.core.instants import DAY_MS, UNSTAMPED_MS, is_stamp
from rater.core.line.reading import read
from rater.core.offline import Record
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.cutting import Record as Piece
from rater.core.sources.source_map import SourceMap


class Arrived(NamedTuple):
    """A record as it comes in.

    record: its timestamp is the end of its call; of one that is no call, when the calls above it had come.
    at_ms: the call's time; None: it is no call. come_ms: when it comes, not before those above it in its
    file. behind_ms: so long before that its call ended. file, line: where it stands.
    """

    record: Record
    at_ms: int | None
    come_ms: int
    behind_ms: int
    file: str
    line: int


_ANY_TIME = Arrival(0, 0, EveryService())
"""Whatever the calendar has: no lane's time is known, and the catalog is still to come."""


AHEAD_MS = 5 * 366 * DAY_MS
"""So far ahead of now, or of the calls above it, an end is believed: else one wrong year would renew all
packages up to it."""


def arrivals(
    pieces: Iterable[Piece], file: str, source_map: SourceMap | None, now_ms: int
) -> Iterator[Arrived]:
    """Yield the records of a file in its order, each with when it comes in.

    now_ms: the present time; what ends long behind it comes before its call, and is `time_in_future`.
    """
    come_ms = UNSTAMPED_MS
    for piece in pieces:
        headers = () if piece.columns is None else ((COLUMNS, piece.columns),)
        record = Record(piece.raw, come_ms, headers=headers)
        found = _read(record, source_map)
        if not isinstance(found, Cdr):
            yield Arrived(record, None, come_ms, 0, file, piece.line)
        elif (end_ms := _end_ms(found)) > max(now_ms, come_ms) + AHEAD_MS:
            yield Arrived(record._replace(timestamp=max(now_ms, come_ms)), None, come_ms, 0, file, piece.line)
        else:
            behind_ms, come_ms = max(0, come_ms - end_ms), max(come_ms, end_ms)
            record = record._replace(timestamp=end_ms)
            yield Arrived(record, found.at_ms, come_ms, behind_ms, file, piece.line)


def _end_ms(cdr: Cdr) -> int:
    """Return when a call ended: as its record says, unless that is before its time."""
    if cdr.ended_ms is not None and cdr.ended_ms >= cdr.at_ms:
        return cdr.ended_ms
    return cdr.at_ms + (cdr.duration_ms or 0)


def _read(record: Any, source_map: SourceMap | None) -> Cdr | object:
    return read(record, _ANY_TIME, source_map)


def together(files: Iterable[Iterable[Arrived]]) -> Iterator[Arrived]:
    """Yield the records of several files as they come in; those of one file keep their order."""
    return merge(*files, key=attrgetter("come_ms"))


def first_call_ms(records: Iterable[Arrived], now_ms: int) -> int:
    """Return the time of the earliest call among the first records; now_ms where none is a call.

    Times that no Kafka record has (1970, of a clock that was not set) are none.
    """
    return min(
        (one.at_ms for one in records if one.at_ms is not None and is_stamp(one.at_ms)), default=now_ms
    )
