"""The periods of a client package: what they are counted from, and which settings they keep.

Source of the rules: RULES.md section 3 (Editing) and section 4 (Assign, Periods).
"""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.packages import Package, PackageVersion
from rater.core.clients.state import ClientPackage
from rater.core.periods import (
    Anchor,
    Span,
    anchor_at,
    midnight_of,
    when_ms,
)

_SECOND_MS = 1000


def opening(held: ClientPackage, start_ms: int) -> int:
    """Return the last instant whose loads count for a period that begins at `start_ms`.

    What is due at a load's instant is done before the load (RULES.md section 4, Assign), but for what the
    load itself assigns. With activation in the past, the assignment opens what had begun by then.
    """
    return max(start_ms - 1, held.assigned_ms)


def first_anchor(held: ClientPackage, package: Package, zone: ZoneInfo) -> Anchor:
    """Return what a client package's periods are counted from: the local date and time that was asked for.

    A bare date asks for 00:00, also where that does not exist and the first period begins later; an instant,
    and the moment of a load, for the local time that it is. zone: the client's at the first period, by its
    rules at the assignment.
    """
    for when in (held.start_date, package.at(held.assigned_ms).spec.start_date):
        midnight = None if when is None else midnight_of(when)
        if when is not None and midnight is not None and when_ms(when, zone) == held.start_ms:
            return Anchor(held.start_ms, midnight)
    return anchor_at(held.start_ms, zone)


def whole_second(at_ms: int) -> int:
    """Return the instant's second: instants of the catalog are whole seconds."""
    return at_ms - at_ms % _SECOND_MS


class Period(NamedTuple):
    """A period of a client package: [start, stop), None without end.

    version: that of its opening, for what it grants and costs. latest: the package of this catalog, for its
    priority, dynamic tag, name, setup fee rule and client-balance rule (RULES.md section 3, Editing).
    """

    version: PackageVersion
    number: int
    start_ms: int
    stop_ms: int | None
    latest: PackageVersion


class _Run(NamedTuple):
    """Periods of one length and zone, from some instant on; `first`: number of the one from boundary 0."""

    anchor: Anchor
    first: int
    span: Span | None
    zone: ZoneInfo

    @property
    def since_ms(self) -> int:
        """The start of the first of these periods."""
        return self.anchor.at_ms
