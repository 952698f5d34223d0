"""Traces of records: which form is passed on, and on what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rater.core.journal.traces import TRACE_HEADER, Trace, Traces, read_trace, trace_of, valid

GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "value",
    [
        b"", None, GOOD[:-1], GOOD + b"-more", GOOD.upper(), b"ff" + GOOD[2:], GOOD.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + GOOD[35:], GOOD[:36] + b"0" * 16 + b"-01", GOOD + b"\n", b"x" * 1_000_000,
    ],
)  # fmt: skip
def test_another_form_is_not_passed_on(value: bytes | None) -> None:
    """What is no `traceparent` of 55 bytes would only make records grow."""
    assert valid(value) is None


def test_a_trace_is_taken_apart() -> None:
    """Ids as they are, and whether its spans are kept; a later version of this form is read as this one."""
    assert read_trace(GOOD) == Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
    assert read_trace(GOOD).is_sampled
    assert not read_trace(GOOD[:-1] + b"2").is_sampled
    assert valid(b"01" + GOOD[2:]) is not None


def test_the_first_header_of_the_name_counts() -> None:
    """As of all headers."""
    assert trace_of([("a", b"1"), (TRACE_HEADER, GOOD), (TRACE_HEADER, b"no")]) == GOOD
    assert trace_of([(TRACE_HEADER, b"no"), (TRACE_HEADER, GOOD)]) is None
    assert trace_of(None) is None


def record(offset: int, headers: Any = ()) -> Any:
    """Return a record."""
    return SimpleNamespace(offset=offset, timestamp=1000 + offset, headers=headers)


def test_what_is_published_of_a_record_bears_its_trace() -> None:
    """That of its topic and offset."""
    traces = Traces([("t", [record(1), record(2, [(TRACE_HEADER, GOOD)])]), ("u", [record(2, [("a", b"")])])])
    assert traces.headers("t", 2) == [(TRACE_HEADER, GOOD)]
    assert traces.headers("t", 1) == traces.headers("u", 2) == []
    assert traces.first == (1002, GOOD)
    assert traces.by_record("t", [record(1), record(2)]) == [None, GOOD]
    none = Traces([("t", [record(1)])])
    assert not none
    assert (none.first, none.by_record("t", [record(1)]), none.headers("t", 1)) == (None, None, [])
