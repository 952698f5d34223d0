"""Which row of a package's DID limits a DID counts in, and how long that lets it be on hold.

Source of the rules: RULES.md section 4, DIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import DidLimitSpec
from rater.core.instants import milliseconds
from rater.core.periods import Span, after

_LAST_MS = milliseconds(datetime(9998, 12, 31, tzinfo=UTC))
"""A hold that ends beyond the calendar ends with it."""


def fits(row: DidLimitSpec, tags: Sequence[str]) -> bool:
    """Return whether a row allows a DID with these tags; one without tags allows any."""
    return not row.allowed_tags or not set(row.allowed_tags).isdisjoint(tags)


def tags_of(number: str, catalog: Catalog) -> Sequence[str]:
    """Return the tags that a DID has in the catalog."""
    spec = catalog.dids.get(number)
    return () if spec is None else spec.tags


def rows_of(
    numbers: Sequence[str], rows: Sequence[DidLimitSpec], quantity: int, catalog: Catalog
) -> list[DidLimitSpec | None]:
    """Return the row that each DID counts in, one after the other: the first that it fits and that has room.

    quantity: of the client package. None: there is none, as after an edit of the package.
    """
    room = [row.quantity * quantity for row in rows]
    found: list[DidLimitSpec | None] = []
    for number in numbers:
        tags = tags_of(number, catalog)
        place = next((at for at, row in enumerate(rows) if room[at] and fits(row, tags)), None)
        found.append(None if place is None else rows[place])
        if place is not None:
            room[place] -= 1
    return found


def hold_end(row: DidLimitSpec | None, stop_ms: int, zone: ZoneInfo) -> int | None:
    """Return until when a DID is on hold after a stop, by the calendar; None: it is freed at once."""
    if row is None or not row.on_hold_days:
        return None
    end = after(stop_ms, Span(row.on_hold_days, "day"), zone)
    return _LAST_MS if end is None else end
