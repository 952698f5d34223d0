"""Rejected records are sent again: which are chosen, what was sent before, and how each goes out.

A record of `rater.rejected` names where it came from, its origin. What was sent again is noted in the same
partition, in the Kafka transaction that sends it, as a control record *recycled*: so what is rejected below
such a note and named by it is done, whichever of its sides was rejected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rater.core.cdr import Arrival, Cdr
from rater.core.journal.records import CONTROL_HEADER, JOB_HEADER, Headers
from rater.core.journal.traces import TRACE_HEADER, trace_of
from rater.core.line.reading import read
from rater.core.reasons import Reason
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.source_map import SourceMap

_DIGITS_MAX = 18


class Recycled(Struct, array_like=True, frozen=True, tag="recycled"):
    """Records that were sent again: of this partition of a source's topic, by their offsets."""

    topic: str = ""
    offsets: list[int] = []


_notes = msgspec.msgpack.Decoder(Recycled)
_pack = msgspec.msgpack.Encoder().encode


def note_headers(note: Recycled) -> Headers:
    """Return the headers of a note."""
    return [(CONTROL_HEADER, _pack(note))]


class Refused(NamedTuple):
    """A record of `rater.rejected`. at_ms: the broker's time of it; origin: its topic and offset there.

    taken_back: a re-rating has reversed the side, and rejects it. Such a record lies in its client's lane,
    whichever its origin's partition is, and a repeat of it is a duplicate: a re-rating rates it again.
    """

    at: int
    at_ms: int
    reason: str
    origin: tuple[str, int]
    attempt: int
    columns: bytes | None
    key: bytes | None
    value: bytes | None
    taken_back: bool
    trace: bytes | None = None


class Choice(Struct, frozen=True):
    """Which are asked for; None: whichever. since_ms is of it, until_ms is not."""

    reason: Reason | None = None
    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def has(self, one: Refused) -> bool:
        """Return whether a rejected record is one of these."""
        return (
            self.reason in (None, one.reason)
            and self.topic in (None, one.origin[0])
            and (self.since_ms is None or one.at_ms >= self.since_ms)
            and (self.until_ms is None or one.at_ms < self.until_ms)
        )


def note_of(headers: Sequence[tuple[str, bytes]]) -> Recycled | None:
    """Return what a control record says, None: it is none. Raises ValueError for one that cannot be read."""
    for name, raw in headers:
        if name == CONTROL_HEADER:
            try:
                return _notes.decode(raw)
            except msgspec.MsgspecError as error:
                raise ValueError(str(error)) from error
    return None


def refused_of(
    at: int, at_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Refused | None:
    """Return a rejected record, None: it does not say where it is of, and was not written by rater."""
    found = {name: raw or b"" for name, raw in headers}
    topic, offset = found.get("source_topic", b""), _whole(found.get("source_offset", b""))
    if not topic or offset is None:
        return None
    reason, origin = found.get("reason", b""), (topic.decode("utf-8", "replace"), offset)
    return Refused(
        at, at_ms, reason.decode("utf-8", "replace"), origin,
        _whole(found.get("attempt", b"")) or 1, found.get(COLUMNS), key, value,
        JOB_HEADER in found, trace_of(headers),
    )  # fmt: skip


def _whole(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else None


class Notes:
    """What was sent again of one partition."""

    def __init__(self) -> None:
        """Know of nothing."""
        self._until: defaultdict[str, dict[int, int]] = defaultdict(dict)
        """Topic → origin's offset → offset of the last note that names it."""

    def add(self, at: int, note: Recycled) -> None:
        """Take in a note that lies at this offset."""
        self._until[note.topic].update(dict.fromkeys(note.offsets, at))

    def has(self, one: Refused) -> bool:
        """Return whether a rejected record was sent again.

        One that lies behind the note was rejected later: its topic was recreated, and is another's.
        """
        topic, offset = one.origin
        return self._until[topic].get(offset, -1) > one.at


class Again(Struct):
    """A record on its way out: offset is that of its origin, in this lane's partition of the topic."""

    lane: int
    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    attempt: int
    columns: bytes | None
    trace: bytes | None = None

    @property
    def headers(self) -> Headers:
        """Return its headers, without what was looked up of it."""
        named = (COLUMNS, self.columns), (TRACE_HEADER, self.trace)
        kept = [(name, value) for name, value in named if value is not None]
        return [("attempt", b"%d" % self.attempt), *kept]

    @property
    def size(self) -> int:
        """Return about how many bytes it has."""
        return len(self.value or b"") + len(self.key or b"") + len(self.columns or b"") + 100


def again(lane: int, one: Refused) -> Again:
    """Return a rejected record as it is sent again."""
    return Again(lane, *one.origin, one.key, one.value, one.attempt + 1, one.columns, one.trace)


def is_too_old(record: Again, arrival: Arrival, source_map: SourceMap | None) -> bool:
    """Return whether a lane that reads the record now finds a call older than the duplicate window."""
    found = read(record, arrival, source_map)
    rejected = found.rejected if isinstance(found, Cdr) else found if isinstance(found, tuple) else ()
    return any(one.reason is Reason.TOO_OLD for one in rejected)


def notes_for(records: Sequence[Again]) -> Iterator[tuple[int, Headers]]:
    """Yield lane and headers of each note that goes with these records."""
    offsets: Mapping[tuple[int, str], list[int]] = defaultdict(list)
    for record in records:
        offsets[record.lane, record.topic].append(record.offset)
    for (lane, topic), found in offsets.items():
        yield lane, note_headers(Recycled(topic, found))
