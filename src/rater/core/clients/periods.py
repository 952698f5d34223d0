"""The periods of a client package: what they are counted from, and which settings they keep.

Source of the rules: RULES.md section 3 (Editing) and section 4 (Assign, Periods).
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter, itemgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.packages import Package, PackageVersion
from rater.core.clients.state import ClientPackage, ClientState
from rater.core.instants import BEGINNING_MS, NEVER_MS, SECOND_MS
from rater.core.periods import (
    Anchor,
    Span,
    anchor_at,
    boundaries_passed,
    boundary,
    midnight_of,
    period_at,
    renewal,
    when_ms,
)


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
    return at_ms - at_ms % SECOND_MS


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


def period_of(state: ClientState, held: ClientPackage, package: Package, at_ms: int) -> Period | None:
    """Return the period of a client package that holds an instant; None: it is not active then."""
    return period_around(state, held, package, at_ms)[0]


def period_around(
    state: ClientState, held: ClientPackage, package: Package, at_ms: int
) -> tuple[Period | None, int, int]:
    """Return the period that holds an instant, and the [from, until) around it in which that is so.

    A period keeps the version of the package, and the client's time zone with its rules, that were in
    force when it opened (`opening`). It lies between the dates that the package has in this catalog, and
    ends at the client package's own end date. The status of the package is not looked at.
    """
    runs = _runs(state, held, package)
    place = bisect_right(runs, at_ms, key=attrgetter("since_ms")) - 1
    if place < 0:
        return None, BEGINNING_MS, held.start_ms
    run, until = runs[place], runs[place + 1].since_ms if place + 1 < len(runs) else NEVER_MS
    latest = package.latest
    begin, end = latest.start_ms(run.zone), latest.end_ms(run.zone)
    if held.end_ms is not None:
        end = held.end_ms if end is None else min(end, held.end_ms)
    if end is not None and at_ms >= end:
        return None, max(run.since_ms, end), until
    if begin is not None and at_ms < begin:
        return None, run.since_ms, min(begin, until)
    found = period_at(run.anchor, run.span, run.zone, at_ms, end)
    assert found is not None  # noqa: S101 - it is neither before the anchor nor at the end
    number, start, stop = found
    version = package.at(opening(held, start))
    if begin is not None:
        start = max(start, begin)
    period = Period(version, run.first + number - 1, start, stop, latest)
    return period, start, NEVER_MS if stop is None else stop


def _runs(state: ClientState, held: ClientPackage, package: Package) -> list[_Run]:
    """Return the runs.

    A changed length or zone holds from the next renewal, whose start is the anchor. So do other rules of
    the same zone (a release of tzdata), but what was asked for stays: the local date and time.
    """
    zones, opened = package.zones, opening(held, held.start_ms)
    name = _zone_name(state, opened)
    if name == _zone_name(state, held.assigned_ms):
        asked = first_anchor(held, package, zones.at(name, held.assigned_ms))
    else:  # as after any change of the zone: the start is the anchor
        asked = anchor_at(held.start_ms, zones.at(name, opened))
    local, anchor, changes = asked.local, asked, _changes(state, package)
    if opened < zones.since_ms:
        # Until the catalog carries time zones, periods are counted as they always were: from the clock at
        # the first start. Those that opened so keep their bounds.
        anchor = anchor_at(held.start_ms, zones.at(name, opened))
        if anchor != asked and zones.carried:
            changes = sorted({*changes, zones.since_ms})
    runs = [_Run(anchor, 1, package.at(opened).span, zones.at(name, opened))]
    for change in changes:
        run = runs[-1]
        if run.span is None:
            break
        if change <= opening(held, run.since_ms):
            continue
        n = boundaries_passed(run.anchor, run.span, run.zone, change) + 1
        start = boundary(run.anchor, run.span, run.zone, n)
        if start is None:
            break
        opened = opening(held, start)
        span, name = package.at(opened).span, _zone_name(state, opened)
        zone = zones.at(name, opened)
        if (span, name) != (run.span, run.zone.key):
            same_clock = name == run.zone.key and opened >= zones.since_ms
            anchor = renewal(run.anchor, run.span, run.zone, n) if same_clock else anchor_at(start, zone)
            local = anchor.local
            runs.append(_Run(anchor, run.first + n, span, zone))
        elif (zone, local) != (run.zone, run.anchor.local):
            runs.append(_Run(Anchor(start, local, n), run.first, span, zone))
    return runs


def _changes(state: ClientState, package: Package) -> list[int]:
    """Return the instants at which something came into force that periods are cut by, in order."""
    found = {*package.changes(), *package.zones.changes(state.zone)}
    for since, name in state.zones:
        found |= {since, *package.zones.changes(name)}
    return sorted(found)


def _zone_name(state: ClientState, at_ms: int) -> str:
    zones = state.zones
    if not zones:
        return state.zone
    return zones[max(bisect_right(zones, at_ms, key=itemgetter(0)) - 1, 0)][1]
