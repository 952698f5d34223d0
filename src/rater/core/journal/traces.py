"""The trace that a record is of (W3C Trace Context): read of its header, passed on to what is published."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rater.core.journal.records import Headers
from rater.core.kinds import Stage

TRACE_HEADER = "traceparent"
"""Of a record: version, trace, the span that sent it, flags. What is published of it bears the same."""
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header, in the 55 bytes of version 00."""
SAMPLED = 1
"""Of the flags: whoever began the trace has its spans kept."""


class Trace(NamedTuple):
    """A `traceparent` taken apart: ids as hexadecimal digits."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether its spans are kept."""
        return bool(self.flags & SAMPLED)


class Timed(NamedTuple):
    """How long a step of the line took of a batch, Unix time in nanoseconds."""

    stage: Stage
    begin_ns: int
    end_ns: int


def trace_of(headers: Iterable[tuple[str, bytes]] | None) -> bytes | None:
    """Return the `traceparent` of a record, None: it has none, or none of that form."""
    for name, value in headers or ():
        if name == TRACE_HEADER:
            return valid(value)
    return None


def valid(value: bytes | None) -> bytes | None:
    """Return a `traceparent`, None: it is none, and is not passed on."""
    return value if value and _FORM.fullmatch(value) else None


def read_trace(value: bytes) -> Trace:
    """Take apart what `valid` returned."""
    _, trace_id, span_id, flags = value.decode().split("-")
    return Trace(trace_id, span_id, int(flags, 16))


class Traces:
    """The traces of a batch's records; of nearly all batches: none."""

    def __init__(self, polled: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Look for those of records, topic by topic."""
        self.of: dict[tuple[str, int], bytes] = {}
        """Topic and offset → `traceparent`."""
        self.first: tuple[int, bytes] | None = None
        """The first one whose spans are kept, with the Kafka timestamp of its record, ms."""
        for topic, records in polled:
            for record in records:
                if record.headers and (trace := trace_of(record.headers)) is not None:
                    self.of[topic, record.offset] = trace
                    if self.first is None and read_trace(trace).is_sampled:
                        self.first = record.timestamp, trace

    def __bool__(self) -> bool:
        return bool(self.of)

    def headers(self, topic: str, offset: int) -> Headers:
        """Return what is published of a record bears besides."""
        if not self:
            return []
        trace = self.of.get((topic, offset))
        return [] if trace is None else [(TRACE_HEADER, trace)]

    def by_record(self, topic: str, records: Sequence[Any]) -> list[bytes | None] | None:
        """Return those of records, as the native engine takes them; None: none has one."""
        return [self.of.get((topic, record.offset)) for record in records] if self.of else None
