"""Periods as versions before 2026-12 counted them: by the calendar alone, without anything that renews them.

What they left is taken over once: the periods so far as if they had been opened, nothing of them charged
(decisions/0092-the-life-of-packages.md). The dates that first periods are counted from are still those here.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.packages import Package
from rater.core.clients.state import ClientPackage, ClientState, Counted, HeldPeriod, Life, zone_name
from rater.core.instants import DAY_MS, HOUR_MS, NEVER_MS, SECOND_MS
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

KEPT_MS = 40 * DAY_MS
"""How long ago a period that is taken over may have stopped, where nobody knows how old calls may be."""


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


class _Counted(NamedTuple):
    """A period of a client package: [start, stop), None without end; opened: whose package version it has."""

    number: int
    start_ms: int
    stop_ms: int | None
    opened_ms: int


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


def _period_around(
    state: ClientState, held: ClientPackage, package: Package, at_ms: int
) -> tuple[_Counted | None, int]:
    """Return the period that holds an instant, and until when that is so.

    It lies between the dates that the package has in this catalog, and ends at the client package's own end
    date. The status of the package is not looked at.
    """
    runs = _runs(state, held, package)
    place = bisect_right(runs, at_ms, key=attrgetter("since_ms")) - 1
    if place < 0:
        return None, held.start_ms
    run, until = runs[place], runs[place + 1].since_ms if place + 1 < len(runs) else NEVER_MS
    latest = package.latest
    begin, end = latest.start_ms(run.zone), latest.end_ms(run.zone)
    if held.end_ms is not None:
        end = held.end_ms if end is None else min(end, held.end_ms)
    if end is not None and at_ms >= end:
        return None, until
    if begin is not None and at_ms < begin:
        return None, min(begin, until)
    found = period_at(run.anchor, run.span, run.zone, at_ms, None)
    assert found is not None  # noqa: S101 - it is not before the anchor
    number, start, stop = found
    period = _Counted(run.first + number - 1, start, stop, opening(held, start))
    return period, NEVER_MS if stop is None else stop


def take_over(state: ClientState, held: ClientPackage, package: Package, now_ms: int, keep_ms: int) -> Life:
    """Return the life of a client package that a version before 2026-12 counted by the calendar.

    The periods so far are opened with the numbers that they had, for counters go by them; nothing of them is
    charged, and the next renewal is. keep_ms: calls from before cannot come any more; 0: not known.
    """
    periods: list[HeldPeriod] = []
    at_ms = max(held.start_ms, keep_ms or now_ms - KEPT_MS)
    while at_ms <= now_ms:
        found, until = _period_around(state, held, package, at_ms)
        if found is not None:
            periods.append(
                HeldPeriod(
                    found.number, found.start_ms, found.stop_ms, found.opened_ms, found.number, rolled={}
                )
            )
        at_ms = max(until, at_ms + 1)
    life = Life(version=1)
    if not periods:
        ended = held.end_ms is not None and held.end_ms <= now_ms
        return Life(version=1, ended_ms=held.end_ms, ended="expired") if ended else life
    run = _run_at(state, held, package, periods[-1].start_ms)
    last = periods[-1]
    return Life(
        version=1, numbered=last.number, count=last.number, periods=tuple(periods),
        counted=_counted(run, last.number), first_ms=held.start_ms,
    )  # fmt: skip


def _run_at(state: ClientState, held: ClientPackage, package: Package, at_ms: int) -> _Run:
    runs = _runs(state, held, package)
    return runs[max(bisect_right(runs, at_ms, key=attrgetter("since_ms")) - 1, 0)]


def _counted(run: _Run, number: int) -> Counted:
    """Return from where the periods after this one are counted."""
    anchor, span = run.anchor, run.span
    at_ms = anchor.at_ms
    if span is not None and span.unit == "hour":
        at_ms -= anchor.first * span.count * HOUR_MS
    return Counted(
        at_ms, anchor.local.isoformat(), None if span is None else str(span), run.zone.key,
        number - run.first + 1,
    )  # fmt: skip


def _runs(state: ClientState, held: ClientPackage, package: Package) -> list[_Run]:
    """Return the runs.

    A changed length or zone holds from the next renewal, whose start is the anchor. So do other rules of
    the same zone (a release of tzdata), but what was asked for stays: the local date and time.
    """
    zones, opened = package.zones, opening(held, held.start_ms)
    name = zone_name(state, opened)
    if name == zone_name(state, held.assigned_ms):
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
        span, name = package.at(opened).span, zone_name(state, opened)
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
