"""Where the periods of a client package begin and stop, one after the other.

Source of the rules: RULES.md section 4 (Periods, Align to payment terms).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.packages import PackageVersion
from rater.core.catalog.specs import TermsSpec
from rater.core.clients.state import Counted
from rater.core.instants import milliseconds
from rater.core.periods import (
    Anchor,
    Span,
    anchor_at,
    boundary,
    grid_place,
    in_step,
    local_of,
    midnight_of,
    parse_span,
    renewal,
    steps_of,
    surely_shorter,
    when_ms,
)


class Bounds(NamedTuple):
    """A period to be opened: [start, stop), None: without end. share as in `HeldPeriod`."""

    start_ms: int
    stop_ms: int | None
    share: tuple[int, int] | None
    counted: Counted


def first_bounds(anchor: Anchor, version: PackageVersion, zone: ZoneInfo, terms: TermsSpec | None) -> Bounds:
    """Return the first period, which begins at the anchor; also the first one by another length or clock."""
    span = version.span
    if span is not None and terms is not None and aligned(version, terms):
        return _on_grid(anchor, span, version, zone, terms)
    place, stop, begin = 1, None, Anchor(anchor.at_ms, anchor.local)
    while span is not None:
        stop = boundary(begin, span, zone, place)
        if stop is None or stop > anchor.at_ms:  # else the zone leaves that day out
            break
        place += 1
    counted = Counted(
        anchor.at_ms, anchor.local.isoformat(), None if span is None else str(span), zone.key, place
    )
    return Bounds(anchor.at_ms, stop, None, counted)


@lru_cache(maxsize=4096)
def next_bounds(
    counted: Counted, start_ms: int, version: PackageVersion, zone: ZoneInfo, terms: TermsSpec | None
) -> Bounds:
    """Return the period that begins where the one before stops as scheduled.

    A changed length, time zone or terms holds from here, and this start is what is counted from then.
    Remembered, for many clients have the same: 6 of the 60 µs of a renewal (benchmarks/line.py, `renewals`).
    """
    span = version.span
    wanted = terms if terms is not None and aligned(version, terms) else None
    step = None if counted.span is None else parse_span(counted.span)
    same_span = step is not None and span is not None and _times(step, counted.stride) == _times(span, 1)
    anchor = Anchor(counted.at_ms, datetime.fromisoformat(counted.local))
    if step is not None and same_span and zone.key == counted.zone and wanted == counted.terms:
        place = counted.place + counted.stride
        stop = boundary(anchor, step, zone, place)
        while stop is not None and stop <= start_ms:  # other rules of the zone may leave nothing of it
            place += counted.stride
            stop = boundary(anchor, step, zone, place)
        return Bounds(start_ms, stop, None, _at(counted, place))
    here = anchor_at(start_ms, zone)
    if step is not None and zone.key == counted.zone:
        here = Anchor(start_ms, renewal(anchor, step, zone, counted.place).local)
    return first_bounds(here, version, zone, terms)


def _at(counted: Counted, place: int) -> Counted:
    return Counted(
        counted.at_ms, counted.local, counted.span, counted.zone, place, counted.stride, counted.terms
    )


def _times(span: Span, times: int) -> tuple[int, str]:
    """Return a length as it is compared: years are months."""
    if span.unit == "year":
        return span.count * 12 * times, "month"
    return span.count * times, span.unit


def aligned(version: PackageVersion, terms: TermsSpec | None) -> bool:
    """Return whether periods of the package are aligned to these terms: it says so, and the two fit."""
    return (
        version.spec.align_to_payment_terms
        and version.span is not None
        and terms is not None
        and in_step(version.span, parse_span(terms.every))
    )


def _on_grid(anchor: Anchor, span: Span, version: PackageVersion, zone: ZoneInfo, terms: TermsSpec) -> Bounds:
    """Return the period that is cut to the next point of the grid: the shorter of both from the anchor."""
    every = parse_span(terms.every)
    step = every if surely_shorter(every, span) else span
    stride = steps_of(span, step)
    grid = Anchor(when_ms(terms.anchor, zone), asked_local(terms.anchor, zone))
    here = grid_place(grid, step, zone, anchor.at_ms)
    counted = Counted(grid.at_ms, grid.local.isoformat(), str(step), zone.key, here, stride, terms)
    if boundary(grid, step, zone, here) == anchor.at_ms:
        stop = boundary(grid, step, zone, here + stride)
        return Bounds(anchor.at_ms, stop, None, _at(counted, here + stride))
    stop = boundary(grid, step, zone, here + 1)
    share = None
    if stop is not None and not version.spec.full_charge:
        end = _clock(grid, step, zone, here + 1)
        whole = end - _clock(grid, step, zone, here + 1 - stride)
        share = _seconds(end - anchor.local), _seconds(whole)
    return Bounds(anchor.at_ms, stop, share, _at(counted, here + 1))


def _clock(grid: Anchor, step: Span, zone: ZoneInfo, n: int) -> datetime:
    """Return what the clock was asked to show at a boundary."""
    return renewal(grid, step, zone, n).local


def _seconds(span: timedelta) -> int:
    return span.days * 86_400 + span.seconds


def asked_local(when: str, zone: ZoneInfo) -> datetime:
    """Return the local time that a date or an instant asks for."""
    midnight = midnight_of(when)
    return local_of(milliseconds(datetime.fromisoformat(when)), zone) if midnight is None else midnight
