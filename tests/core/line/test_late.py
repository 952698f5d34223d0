"""Calls older than the duplicate window, by what the journal said of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.kinds import DuplicateKind, SideOutcome
from rater.core.line import steps
from rater.core.line.batch import Batch, LanePosition, Standing
from rater.core.line.late import LATE, late_header
from rater.core.reasons import Side

NOW_MS = 1_796_000_000_000  # 2026-11-30
WINDOW_MS = 7 * DAY_MS
OLD = {"id": "x", "called": "380501234567", "answered_at": "2026-10-01T00:00:00Z", "duration_ms": 1000}
BOTH = {"orig": {"client": "c1"}, "term": {"client": "c2"}}
Taken = tuple[list[Side | None], list[tuple[str, str | None]], int]


def taken(*headers: tuple[str, bytes], **cdr: Any) -> Taken:
    """Return sides that are rated, reasons and sides that are rejected, and how many are duplicates."""
    value = json.dumps({**OLD, **BOTH, **cdr}).encode()
    record = SimpleNamespace(offset=5, timestamp=NOW_MS, key=None, value=value, headers=headers)
    standing = Standing(0, "commands", WINDOW_MS, WINDOW_MS + HOUR_MS, LanePosition())
    batch = Batch(standing, [("cdrs", [record])])
    sides = steps.decode(batch, standing, {}, frozenset(["calls"]))
    rejected = [one.rejection for one in batch.sides if one.rejection is not None]
    duplicates = batch.counts.duplicates[DuplicateKind.SAME]
    assert duplicates == sum(
        number for (_, outcome), number in batch.counts.sides.items() if outcome == SideOutcome.DUPLICATE
    )
    return [side.name for side in sides], [(one.reason.value, one.side) for one in rejected], duplicates


TOO_OLD: Taken = ([], [("too_old", "orig"), ("too_old", "term")], 0)


def test_a_call_that_was_looked_up_has_no_age() -> None:
    """What the journal does not know is rated, what it knows is a duplicate, what nobody asked is too old."""
    assert taken() == TOO_OLD
    assert taken(late_header(NOW_MS, [], ["orig", "term"])) == (["orig", "term"], [], 0)
    assert taken(late_header(NOW_MS, ["orig"], ["term"])) == (["term"], [], 1)
    assert taken(late_header(NOW_MS, [], ["term"])) == (["term"], [("too_old", "orig")], 0)
    assert taken(late_header(NOW_MS, ["term"], [])) == ([], [("too_old", "orig")], 1)


def test_a_younger_call_is_looked_up_too() -> None:
    """Of one within the window a side that nobody asked for is known as any."""
    young = {"answered_at": "2026-11-29T00:00:00Z"}
    assert taken(late_header(NOW_MS, ["orig"], []), **young) == (["term"], [], 1)


def test_other_faults_are_told() -> None:
    """A number that is none is rejected, but not that of a side that the journal knows."""
    header = late_header(NOW_MS, [], ["orig", "term"])
    wrong = [("number_invalid", "orig"), ("number_invalid", "term")]
    assert taken(header, called="x-y") == ([], wrong, 0)


@pytest.mark.parametrize(
    "header",
    [
        (LATE, b""), (LATE, b"{}"), (LATE, b'{"at_ms":1796000000000,"rate":["both"]}'), (LATE, None),
        ("other", b"1"), late_header(NOW_MS - WINDOW_MS - 1, [], ["orig", "term"]),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_as_if_it_were_not_there(header: Any) -> None:
    """An answer older than the window cannot know what was rated since and is forgotten already."""
    assert taken(header) == TOO_OLD
