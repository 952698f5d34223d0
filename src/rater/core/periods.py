"""Calendar spans, local dates, and the periods of a client package.

Source of the rules: RULES.md section 3 (Period) and section 4 (Periods). Hours are elapsed hours; days,
months and years are calendar time at the client: a local time that a change of clocks leaves out moves
forward by what was left out, one that comes twice is taken the first time. A period is [start, stop).
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from rater.core.instants import EPOCH, HOUR_MS, instant, milliseconds

Unit = Literal["hour", "day", "month", "year"]

_MAX: dict[Unit, int] = {"hour": 24, "day": 99_999, "month": 12, "year": 99_999}
_LARGER: dict[Unit, str] = {"hour": "days", "day": "years", "month": "years", "year": "no period at all"}
_SPAN = re.compile(r"([0-9]{1,9}) (hour|day|month|year)s?")

_DAYS_SHORTEST = (0, 28, 59, 89, 120, 150, 181, 212, 242, 273, 303, 334)
"""Days of so many months in a row at least: beginning in February, then 31, 30, 31, …"""
_DAYS_LONGEST = (0, 31, 62, 92, 123, 153, 184, 215, 245, 276, 306, 337)
_MONTHS_OF_YEAR = 12
_YEAR_MAX = 9998  # one less than Python's: a local time of its last year may be none in UTC

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}"
    r"(:[0-9]{2}(?P<fraction>\.[0-9]+)?)?(?P<offset>[Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)


class Span(NamedTuple):
    """A length of calendar time, one unit; count >= 1."""

    count: int  # type: ignore[assignment]  # hides the count() of tuples, which nobody wants here
    unit: Unit

    def __str__(self) -> str:
        return f"{self.count} {self.unit}" + ("s" if self.count > 1 else "")


@lru_cache(maxsize=4096)
def parse_span(text: str) -> Span:
    """Return the span that a text such as "1 month" or "10 days" names.

    Raises ValueError with a sentence: 1-24 hours, 1-99999 days, 1-12 months, 1-99999 years (RULES.md section
    3).
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError('not a period; write it like "1 month": a whole number and hour, day, month or year')
    count = int(found[1])
    unit: Unit = next(unit for unit in get_args(Unit) if unit == found[2])
    if count < 1:
        raise ValueError(f"not a period; it is at least 1 {unit}")
    if count > _MAX[unit]:
        raise ValueError(f"{unit}s end at {_MAX[unit]}, use {_LARGER[unit]}")
    return Span(count, unit)


def surely_shorter(span: Span, than: Span) -> bool:
    """Return whether a span is shorter than another wherever in the calendar the two are counted.

    A month has 28 to 31 days, a year 365 or 366, a day 23 to 25 hours.
    """
    if span.unit == than.unit:
        return span.count < than.count
    if {span.unit, than.unit} == {"month", "year"}:
        return _months(span) < _months(than)
    return _longest_hours(span) < _shortest_hours(than)


def in_step(one: Span, other: Span) -> bool:
    """Return whether the spans are equal, or one is a multiple of the other."""
    if one.unit == other.unit:
        a, b = one.count, other.count
    elif {one.unit, other.unit} == {"month", "year"}:
        a, b = _months(one), _months(other)
    else:
        return False
    return a % b == 0 or b % a == 0


def _months(span: Span) -> int:
    return span.count * (_MONTHS_OF_YEAR if span.unit == "year" else 1)


def _shortest_hours(span: Span) -> int:
    return _hours(span, 365, _DAYS_SHORTEST, -1)


def _longest_hours(span: Span) -> int:
    return _hours(span, 366, _DAYS_LONGEST, 1)


def _hours(span: Span, year: int, months: tuple[int, ...], clocks: int) -> int:
    """Return the hours of a span when years and runs of months have so many days; clocks: their change."""
    if span.unit == "hour":
        return span.count
    years, rest = divmod(_months(span), _MONTHS_OF_YEAR)
    days = span.count if span.unit == "day" else years * year + months[rest]
    return days * 24 + clocks


# ----------------------------------------------------------------------------------------- instants and dates
@lru_cache(maxsize=512)
def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name; ValueError with a sentence when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "no such time zone in the tzdata that is installed here; write an IANA name such as "
            '"Europe/Kyiv" or "UTC", or upgrade tzdata where it is a new one'
        ) from None


@lru_cache(maxsize=65_536)
def canonical_when(text: str) -> str:
    """Return a date or instant in its one spelling: "2026-11-01", or "2026-11-01T00:00:00Z" in UTC.

    Raises ValueError with a sentence: an instant has an offset and whole seconds; years are 1970 to 9998.
    """
    date, instant = _DATE.fullmatch(text), _INSTANT.fullmatch(text)
    if date is None and instant is None:
        raise ValueError('not a date or time; write "2026-11-01" or "2026-11-01T00:00:00Z"')
    if instant is not None and instant["offset"] is None:
        raise ValueError('a time without offset; add "Z" for UTC, or an offset such as "+02:00"')
    if instant is not None and (instant["fraction"] or "").strip(".0"):
        raise ValueError("instants of the catalog are whole seconds; leave the fraction out")
    try:
        at = datetime.fromisoformat(text.upper())
        at = at.replace(tzinfo=UTC) if date is not None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("no such date or time; correct it") from None
    if not EPOCH.year <= at.year <= _YEAR_MAX:
        raise ValueError(f"out of range; years are {EPOCH.year} to {_YEAR_MAX}")
    return text if date is not None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=65_536)
def when_ms(when: str, zone: ZoneInfo) -> int:
    """Return the instant of a canonical date (00:00 in the zone) or instant."""
    midnight = midnight_of(when)
    return milliseconds(datetime.fromisoformat(when)) if midnight is None else _local_ms(midnight, zone)


def midnight_of(when: str) -> datetime | None:
    """Return the local 00:00 that a canonical bare date asks for; None: it is an instant."""
    return datetime.fromisoformat(when) if len(when) == len("2026-11-01") else None


def _local_ms(local: datetime, zone: ZoneInfo) -> int:
    """Return the instant of a local time; fold 0 is the rule: gaps go forward, the first of two counts."""
    return milliseconds(local.replace(tzinfo=zone, fold=0).astimezone(UTC))


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return instant(at_ms).astimezone(zone).replace(tzinfo=None)


# ---------------------------------------------------------------------------------------------------- periods
class Anchor(NamedTuple):
    """What periods are counted from: boundary n is n spans after a local time; n is `first` or more.

    local: the local date and time that was asked for, also where a change of clocks leaves it out. Boundary
    `first` is at_ms, whatever the clock shows then: the start of the first period, or the stop of the last
    one that other rules of the time zone had made.
    """

    at_ms: int
    local: datetime
    first: int = 0


def anchor_at(at_ms: int, zone: ZoneInfo) -> Anchor:
    """Return the anchor that an instant is: its local time was asked for."""
    return Anchor(at_ms, _local(at_ms, zone))


def boundary(anchor: Anchor, span: Span, zone: ZoneInfo, n: int) -> int | None:
    """Return anchor + n spans, always counted from the anchor so that nothing drifts.

    31 January, 28 February, 31 March. None: beyond the calendar, so never.
    """
    if n == anchor.first:
        return anchor.at_ms
    if span.unit == "hour":
        return anchor.at_ms + (n - anchor.first) * span.count * HOUR_MS
    local = _calendar(anchor.local, n * span.count, span.unit)
    return None if local is None else _local_ms(local, zone)


def renewal(anchor: Anchor, span: Span, zone: ZoneInfo, n: int) -> Anchor:
    """Return boundary n, which there is, as an anchor: what its clock was to show was asked for."""
    at_ms = boundary(anchor, span, zone, n)
    assert at_ms is not None  # noqa: S101 - the caller's
    local = None if span.unit == "hour" else _calendar(anchor.local, n * span.count, span.unit)
    return anchor_at(at_ms, zone) if local is None else Anchor(at_ms, local)


def _calendar(anchor: datetime, steps: int, unit: Unit) -> datetime | None:
    """Return the local time so many days, months or years later; None: beyond the calendar."""
    if unit == "day":
        try:
            local = anchor + timedelta(days=steps)
        except OverflowError:
            return None
        return local if local.year <= _YEAR_MAX else None
    months = anchor.month - 1 + steps * (_MONTHS_OF_YEAR if unit == "year" else 1)
    year, month = anchor.year + months // _MONTHS_OF_YEAR, months % _MONTHS_OF_YEAR + 1
    if year > _YEAR_MAX:
        return None
    day = min(anchor.day, monthrange(year, month)[1])
    return anchor.replace(year=year, month=month, day=day)


def period_at(
    anchor: Anchor, span: Span | None, zone: ZoneInfo, at_ms: int, end_ms: int | None
) -> tuple[int, int, int | None] | None:
    """Return (number, start, stop) of the period that holds an instant; stop None: without end.

    The period that begins at boundary 0 has number 1. Without span there is one period, from the anchor to
    the end. None: before the anchor, or at or after the end.
    """
    if at_ms < anchor.at_ms or (end_ms is not None and at_ms >= end_ms):
        return None
    if span is None:
        return 1, anchor.at_ms, end_ms
    n, begins, stop = _around(anchor, span, zone, at_ms)
    if end_ms is not None and (stop is None or end_ms < stop):
        stop = end_ms
    return n + 1, begins, stop


def grid_place(anchor: Anchor, span: Span, zone: ZoneInfo, at_ms: int) -> int:
    """Return the number of the last boundary at or before an instant; it may lie before the anchor."""
    n = _guess(anchor, span, zone, at_ms)
    while (found := boundary(anchor, span, zone, n)) is None or found > at_ms:
        n -= 1
    while (found := boundary(anchor, span, zone, n + 1)) is not None and found <= at_ms:
        n += 1
    return n


def steps_of(span: Span, step: Span) -> int:
    """Return how many steps a span has; both are `in_step`, and the step is not the longer one."""
    if span.unit == step.unit:
        return span.count // step.count
    return _months(span) // _months(step)


def local_of(at_ms: int, zone: ZoneInfo) -> datetime:
    """Return the local time of an instant, without its offset."""
    return _local(at_ms, zone)


def after(at_ms: int, span: Span, zone: ZoneInfo) -> int | None:
    """Return the instant a span later, by the calendar of the zone; None: beyond the calendar."""
    return boundary(anchor_at(at_ms, zone), span, zone, 1)


def before(at_ms: int, span: Span, zone: ZoneInfo) -> int:
    """Return the instant a span earlier, by the calendar of the zone."""
    found = boundary(anchor_at(at_ms, zone), span, zone, -1)
    assert found is not None  # noqa: S101 - the calendar ends in the other direction
    return found


def boundaries_passed(anchor: Anchor, span: Span, zone: ZoneInfo, at_ms: int) -> int:
    """Return the number of the last boundary at or before an instant, which is not before the anchor."""
    return _around(anchor, span, zone, at_ms)[0]


def _around(anchor: Anchor, span: Span, zone: ZoneInfo, at_ms: int) -> tuple[int, int, int | None]:
    """Return the last boundary's number at an instant, and start and stop of the period that holds it."""
    n = max(_guess(anchor, span, zone, at_ms), anchor.first)
    start = boundary(anchor, span, zone, n)
    while start is None or (n > anchor.first and start > at_ms):
        n -= 1
        start = boundary(anchor, span, zone, n)
    stop = boundary(anchor, span, zone, n + 1)
    while stop is not None and stop <= at_ms:
        n, start = n + 1, stop
        stop = boundary(anchor, span, zone, n + 1)
    return n, start, stop


def _guess(anchor: Anchor, span: Span, zone: ZoneInfo, at_ms: int) -> int:
    """Return about which boundary was passed last; the caller corrects it, by one or two at most."""
    if span.unit == "hour":
        return anchor.first + (at_ms - anchor.at_ms) // (span.count * HOUR_MS)
    local, at = anchor.local, _local(at_ms, zone)
    if span.unit == "day":
        return (at - local).days // span.count
    months = (at.year - local.year) * _MONTHS_OF_YEAR + at.month - local.month
    return months // _months(span)
