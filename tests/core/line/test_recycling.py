"""Rejected records: what was sent again is known by its notes, and each goes out as it came."""

from __future__ import annotations

import pytest

from rater.core.journal.traces import TRACE_HEADER
from rater.core.line.recycling import (
    Choice,
    Notes,
    Recycled,
    again,
    note_headers,
    note_of,
    notes_for,
    refused_of,
)
from rater.core.reasons import Reason

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = [
    ("reason", b"rate_missing"), ("side", b"orig"), ("source_topic", b"pbx"), ("source_partition", b"1"),
    ("source_offset", b"7"), ("attempt", b"2"), ("columns", b"id,called"),
]  # fmt: skip


def test_a_record_goes_out_as_it_came() -> None:
    """Its bytes, key and header row, and one attempt more."""
    one = refused_of(30, 1000, b"k", b"v", HEADERS)
    assert one is not None
    out = again(1, one)
    assert (out.lane, out.topic, out.offset, out.key, out.value) == (1, "pbx", 7, b"k", b"v")
    assert out.headers == [("attempt", b"3"), ("columns", b"id,called")]
    plain = refused_of(30, 1000, None, None, HEADERS[:5])
    assert plain is not None
    assert again(1, plain).headers == [("attempt", b"2")]
    traced = refused_of(30, 1000, None, None, [*HEADERS[:5], (TRACE_HEADER, TRACE)])
    assert traced is not None
    assert again(1, traced).headers == [("attempt", b"2"), (TRACE_HEADER, TRACE)]
    by_job = refused_of(30, 1000, None, None, [*HEADERS, ("job", b"j")])
    assert by_job is not None
    assert (one.taken_back, by_job.taken_back) == (False, True)


@pytest.mark.parametrize("lacking", ["source_topic", "source_offset"])
def test_what_rater_did_not_write_is_passed_over(lacking: str) -> None:
    """Without an origin there is nowhere to send it to."""
    assert refused_of(1, 1, None, b"v", [one for one in HEADERS if one[0] != lacking]) is None
    assert refused_of(1, 1, None, b"v", [*HEADERS[:2], (lacking, b"x1")]) is None
    assert refused_of(1, 1, None, b"v", []) is None


def test_notes() -> None:
    """A note is of what lies before it: behind it the topic is another one of that name."""
    one = refused_of(30, 1000, None, b"v", HEADERS)
    assert one is not None
    ((lane, headers),) = notes_for([again(1, one), again(1, one)])
    note = note_of(headers)
    assert (lane, note) == (1, Recycled("pbx", [7, 7]))
    notes = Notes()
    assert not notes.has(one)
    notes.add(29, Recycled("pbx", [7]))
    notes.add(31, Recycled("other", [7]))
    assert not notes.has(one)
    notes.add(31, Recycled("pbx", [6, 7]))
    assert notes.has(one)
    assert note_of(HEADERS) is None
    assert note_of(note_headers(Recycled())) == Recycled()
    with pytest.raises(ValueError, match=r"."):
        note_of([("control", b"\xc1")])


def test_which_are_asked_for() -> None:
    """By reason, topic and time; the end does not belong to it."""
    one = refused_of(30, 1000, None, b"v", HEADERS)
    assert one is not None
    right = (
        Choice(), Choice(Reason.RATE_MISSING, "pbx", 1000, 1001), Choice(since_ms=1000),
        Choice(until_ms=1001),
    )  # fmt: skip
    assert all(choice.has(one) for choice in right)
    wrong = (
        Choice(Reason.MALFORMED), Choice(topic="cdrs"), Choice(since_ms=1001), Choice(until_ms=1000),
    )  # fmt: skip
    assert not any(choice.has(one) for choice in wrong)
