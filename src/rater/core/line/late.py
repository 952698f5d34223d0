"""Calls older than the duplicate window: what was looked up of them in the journal, and what that allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from rater.core.cdr import SIDES, Arrival
from rater.core.json_text import UNREADABLE
from rater.core.reasons import Side

LATE = "late"
"""Header of a record whose sides were looked up in the journal (`--late`; CONTRACTS.md, Headers)."""


class Late(Struct, frozen=True):
    """What the journal said of a record's sides. at_ms: when it was asked, before it was read."""

    at_ms: int
    rate: list[Side] = []
    """It has no transaction of these."""
    known: list[Side] = []
    """It has one."""

    def holds(self, arrival: Arrival) -> bool:
        """Return whether it holds still.

        What was rated since is known as a duplicate, but no longer than the window: who looked longer ago
        does not know of what the window has forgotten meanwhile.
        """
        return arrival.lane_ms - self.at_ms <= arrival.window_ms


_decoder = msgspec.json.Decoder(Late)


def late_header(at_ms: int, known: Sequence[Side], rate: Sequence[Side]) -> tuple[str, bytes]:
    """Return the header of a record of which these sides were, and were not, in the journal at `at_ms`."""
    return LATE, msgspec.json.encode(Late(at_ms, [*rate], [*known]))


def late_of(headers: Sequence[tuple[str, bytes]] | None, arrival: Arrival) -> Late | None:
    """Return what a record's headers say, None where it says nothing that holds: then its age is judged."""
    for name, raw in headers or ():
        if name == LATE:
            try:
                late = _decoder.decode(raw)
            except (*UNREADABLE, TypeError):
                return None
            return late if late.holds(arrival) else None
    return None


def is_late(record: Any) -> bool:
    """Return whether a record has the header, whatever it says."""
    return any(name == LATE for name, _ in record.headers)


def ageless(arrival: Arrival) -> Arrival:
    """Return what a record is judged by, whatever its age."""
    return Arrival(arrival.lane_ms, max(arrival.lane_ms, arrival.window_ms), arrival.services)


def sides_but(*named: Sequence[Side]) -> list[Side]:
    """Return the sides that are on none of the lists."""
    return [side for side in SIDES if not any(side in some for some in named)]
