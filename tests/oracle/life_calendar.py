"""Where periods begin and end (RULES.md 4, Periods, Align to payment terms), by the calendar of dateutil.

Nothing of the product and nothing of reference.py's own calendar: month ends are `relativedelta`'s, gaps and
repeated hours those of `dateutil.tz`. The rules of zones are those of the package tzdata, as the product's.

A boundary is a pair: the instant (ms), and the local date and time that was asked for, which a gap does not
move: what is counted on from it is counted from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from dateutil import tz
from dateutil.relativedelta import relativedelta

Row = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
NEVER_MS = 10**18
"""An instant after all that a calendar can say."""
FIRST_MS = -62_000_000_000_000
"""Long before any, for what has been from the beginning."""


class Boundary(NamedTuple):
    """When something begins or ends. local: without zone, as it was asked for."""

    ms: int
    local: datetime


class Length(NamedTuple):
    """So many hours (elapsed), days or months (of the calendar); a year is twelve months."""

    many: int
    unit: str


@cache
def zone_named(name: str) -> tz.tzfile:
    """Return a zone, read by dateutil from the files of the package tzdata."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return tz.tzfile(file, name)


def length_of(text: str | None) -> Length | None:
    """Return `3 months` as a length; None: without end."""
    if text is None:
        return None
    count, unit = text.split()
    unit = unit.removesuffix("s")
    return Length(int(count) * 12, "month") if unit == "year" else Length(int(count), unit)


def at_local(local: datetime, zone: str) -> int:
    """Return when a local time is: in a gap moved forward by it, of a repeated one the first."""
    try:
        there = tz.resolve_imaginary(local.replace(tzinfo=zone_named(zone), fold=0))
        return (there.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
    except (OverflowError, ValueError):
        return NEVER_MS


def local_at(ms: int, zone: str) -> datetime:
    """Return what clocks show at an instant."""
    there = (EPOCH + timedelta(milliseconds=ms)).astimezone(zone_named(zone))
    return there.replace(tzinfo=None, fold=0)


def boundary_at(ms: int, zone: str) -> Boundary:
    """Return an instant as a boundary."""
    return Boundary(ms, local_at(ms, zone))


def asked(text: str | date, zone: str) -> Boundary:
    """Return a time of a catalog or command: RFC 3339, or a date, which is 00:00 in the zone."""
    if len(str(text)) == len("2026-11-01"):
        local = datetime.combine(date.fromisoformat(str(text)), datetime.min.time())
        return Boundary(at_local(local, zone), local)
    moment = datetime.fromisoformat(str(text))
    return boundary_at((moment - EPOCH) // timedelta(milliseconds=1), zone)


def later(start: Boundary, length: Length, times: int, zone: str) -> Boundary:
    """Return the boundary that is so many lengths after another (before it, where `times` is below 0)."""
    count = length.many * times
    if length.unit == "hour":
        ms = start.ms + count * HOUR_MS
        return boundary_at(ms, zone)
    try:
        step = relativedelta(days=count) if length.unit == "day" else relativedelta(months=count)
        local = start.local + step
    except (OverflowError, ValueError):
        return Boundary(NEVER_MS, datetime.max)  # noqa: DTZ901 - a local time has no zone
    return Boundary(at_local(local, zone), local)


class Terms(NamedTuple):
    """Payment terms: a client's invoices are every so often, counted from the anchor in both directions."""

    every: Length
    anchor: str


def fits(period: Length | None, terms: Terms | None) -> bool:
    """Tell if a package of that period can be aligned: equal to the terms, or one a multiple of the other."""
    if period is None or terms is None or period.unit != terms.every.unit:
        return False
    longer, shorter = max(period.many, terms.every.many), min(period.many, terms.every.many)
    return longer % shorter == 0


class Cut(NamedTuple):
    """A first period: its places on the grid and its share of a whole period (1 where it is one).

    start: where it begins, which lies on the grid only where nothing is cut. wall: seconds by the local clock
    of it and of the whole one, None where nothing is cut.
    """

    start: Boundary
    stop_place: int
    share: Fraction
    wall: tuple[int, int] | None


@dataclass(frozen=True)
class Grid:
    """What periods are counted on. anchor: place 0; step: between places; per: places of one period."""

    anchor: Boundary
    step: Length | None
    per: int
    zone: str
    aligned: bool

    def point(self, place: int) -> Boundary | None:
        """Return the boundary at a place; None: periods have no end."""
        if self.step is None:
            return self.anchor if place == 0 else None
        point = later(self.anchor, self.step, place, self.zone)
        return None if point.ms >= NEVER_MS else point

    def instant(self, place: int) -> int:
        """Return when a place is."""
        point = self.point(place)
        return NEVER_MS if point is None else point.ms

    def first(self, start: Boundary) -> Cut:
        """Return the period that begins at a moment, on the grid or between two of its points."""
        if not self.aligned:
            return Cut(start, 1, Fraction(1), None)
        place = 0
        while self.instant(place) > start.ms:
            place -= 1
        while self.instant(place + 1) <= start.ms:
            place += 1
        if self.instant(place) == start.ms:
            return Cut(start, place + self.per, Fraction(1), None)
        stop, begin = self.point(place + 1), self.point(place + 1 - self.per)
        assert stop is not None  # an aligned grid has steps
        assert begin is not None
        part = (stop.local - start.local) // timedelta(seconds=1)
        whole = (stop.local - begin.local) // timedelta(seconds=1)
        return Cut(start, place + 1, Fraction(part, whole), (part, whole))


def free_grid(start: Boundary, period: Length | None, zone: str) -> Grid:
    """Return the grid of a package that is not aligned: its first start + k periods."""
    return Grid(start, period, 1, zone, aligned=False)


def aligned_grid(period: Length, terms: Terms, zone: str) -> Grid:
    """Return the grid of an aligned one: the terms' anchor + k times the shorter of period and terms."""
    step = min(period, terms.every, key=lambda length: length.many)
    return Grid(asked(terms.anchor, zone), step, period.many // step.many, zone, aligned=True)
