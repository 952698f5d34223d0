"""Spans, dates at a client, and periods (RULES.md section 3, Period, and section 4, Periods)."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rater.core.instants import milliseconds
from rater.core.periods import (
    Anchor,
    Span,
    anchor_at,
    boundaries_passed,
    boundary,
    canonical_when,
    in_step,
    parse_span,
    period_at,
    surely_shorter,
    when_ms,
    zone_of,
)

KYIV = zone_of("Europe/Kyiv")
NEW_YORK = zone_of("America/New_York")
UTC_ZONE = zone_of("UTC")

# Changes of an hour, of half an hour, at midnight, none, and a day that was left out (Apia, 30 Dec 2011).
ZONES = st.sampled_from(
    (
        "UTC",
        "Europe/Kyiv",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Pacific/Apia",
    )
).map(zone_of)
ANCHORS = st.integers(0, 50 * 366 * 86_400).map(lambda second: second * 1000)
SPANS = st.one_of(
    st.builds(Span, st.integers(1, 24), st.just("hour")),
    st.builds(Span, st.integers(1, 400), st.just("day")),
    st.builds(Span, st.integers(1, 12), st.just("month")),
    st.builds(Span, st.integers(1, 5), st.just("year")),
)


def at(text: str, zone: ZoneInfo = UTC_ZONE) -> int:
    """Return the instant of a local time (the first of two)."""
    return milliseconds(datetime.fromisoformat(text).replace(tzinfo=zone))


def local(at_ms: int, zone: ZoneInfo) -> datetime:
    """Return the clock on the client's wall at an instant."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return utc.astimezone(zone).replace(tzinfo=None)


def starts(anchor: str, span: str, zone: ZoneInfo, number: int) -> list[str]:
    """Return the first starts of periods, as the client's clock shows them."""
    bounds = (boundary(anchor_at(at(anchor, zone), zone), parse_span(span), zone, n) for n in range(number))
    return [local(bound, zone).isoformat(timespec="minutes") for bound in bounds if bound is not None]


# -------------------------------------------------------------------------------------------------- spans
@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1 hour", Span(1, "hour")),
        ("24 hours", Span(24, "hour")),
        ("1 day", Span(1, "day")),
        ("99999 days", Span(99_999, "day")),
        ("12 months", Span(12, "month")),
        ("99999 years", Span(99_999, "year")),
        ("2 month", Span(2, "month")),
        ("1 days", Span(1, "day")),
    ],
)
def test_a_span_is_a_number_and_a_unit(text: str, span: Span) -> None:
    """`N hour|day|month|year`, plural accepted, up to the largest number of each unit."""
    assert parse_span(text) == span


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("75 hours", "hours end at 24, use days"),
        ("25 hours", "use days"),
        ("100000 days", "use years"),
        ("13 months", "use years"),
        ("100000 years", "no period at all"),
        ("0 days", "at least 1 day"),
        ("1 week", "write it like"),
        ("month", "write it like"),
        ("1.5 months", "write it like"),
        ("-1 day", "write it like"),
        ("1 month 2 days", "write it like"),
        ("", "write it like"),
    ],
)
def test_spans_are_normalized(text: str, remedy: str) -> None:
    """75 hours is refused, for hours end at 24; so is all that is no span, with what to write instead."""
    with pytest.raises(ValueError, match=remedy):
        parse_span(text)


@settings(deadline=None)
@given(SPANS)
def test_a_span_has_one_spelling(span: Span) -> None:
    """A span written and read again is the same."""
    assert parse_span(str(span)) == span


@settings(deadline=None)
@given(SPANS, SPANS, ZONES, ANCHORS)
def test_surely_shorter_is_true_everywhere(one: Span, other: Span, zone: ZoneInfo, anchor: int) -> None:
    """`advance_renew` < `period` wherever in the calendar: what is called shorter ends earlier, always."""
    assume(zone.key != "Pacific/Apia")
    if surely_shorter(one, other):
        first, second = (
            boundary(anchor_at(anchor, zone), one, zone, 1),
            boundary(anchor_at(anchor, zone), other, zone, 1),
        )
        assert first is not None
        assert second is not None
        assert first < second


@pytest.mark.parametrize(
    ("one", "other", "shorter"),
    [
        ("27 days", "1 month", True),
        ("28 days", "1 month", False),  # February
        ("30 days", "1 month", False),
        ("11 months", "1 year", True),
        ("12 months", "1 year", False),
        ("1 year", "12 months", False),
        ("22 hours", "1 day", True),
        ("23 hours", "1 day", False),  # a day of 23 hours
        ("1 month", "32 days", True),
        ("1 month", "31 days", False),
        ("58 days", "2 months", True),  # February and March
        ("59 days", "2 months", False),
        ("364 days", "1 year", True),
        ("1 day", "1 day", False),
    ],
)
def test_surely_shorter_examples(one: str, other: str, shorter: bool) -> None:  # noqa: FBT001
    """What is as long in the shortest month, or on the shortest day, is not shorter; the rest is."""
    assert surely_shorter(parse_span(one), parse_span(other)) is shorter


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ("1 month", "1 month", True),
        ("3 months", "1 month", True),
        ("1 month", "1 year", True),
        ("5 months", "1 year", False),
        ("7 days", "14 days", True),
        ("7 days", "10 days", False),
        ("30 days", "1 month", False),
        ("24 hours", "1 day", False),
        ("6 hours", "24 hours", True),
    ],
)
def test_periods_in_step_with_payment_terms(one: str, other: str, fits: bool) -> None:  # noqa: FBT001
    """Equal, or one a multiple of the other; 24 hours is not 1 day (RULES.md 4, Align to payment terms)."""
    assert in_step(parse_span(one), parse_span(other)) is fits
    assert in_step(parse_span(other), parse_span(one)) is fits


# -------------------------------------------------------------------------------------- dates and instants
@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00Z"),
        ("2026-11-01 02:00+0200", "2026-11-01T00:00:00Z"),
        ("2026-11-01t00:00:00.000z", "2026-11-01T00:00:00Z"),
        ("2024-02-29", "2024-02-29"),
    ],
)
def test_an_instant_has_one_spelling(text: str, spelling: str) -> None:
    """The same instant is the same text, so that writing it otherwise changes nothing in the catalog."""
    assert canonical_when(text) == spelling
    assert canonical_when(spelling) == spelling


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("2026-11-01T00:00:00", "offset"),
        ("2026-02-29", "no such date"),
        ("2026-11-01T25:00:00Z", "no such date or time"),
        ("2026-11-01T00:00:00+25:00", "no such date or time"),
        ("2026-11-01T00:00:00.5Z", "whole seconds"),
        ("2026-11-01T00:00:00.0000001Z", "whole seconds"),
        ("1969-12-31", "years are 1970 to 9998"),
        ("9999-01-01", "years are 1970 to 9998"),
        ("9999-12-31T23:59:59-10:00", "no such date or time"),
        ("1.11.2026", "write"),
        ("", "write"),
    ],
)
def test_what_is_no_instant_is_refused(text: str, remedy: str) -> None:
    """An instant of the catalog has an offset, whole seconds and a year that clocks know."""
    with pytest.raises(ValueError, match=remedy):
        canonical_when(text)


def test_a_bare_date_is_midnight_at_the_client() -> None:
    """A date without time is 00:00 at the client: two clients in two zones begin at two instants."""
    assert when_ms("2026-11-01", KYIV) == at("2026-10-31T22:00")
    assert when_ms("2026-11-01", NEW_YORK) == at("2026-11-01T04:00")
    assert when_ms("2026-11-01T00:00:00Z", KYIV) == when_ms("2026-11-01T00:00:00Z", NEW_YORK)


def test_a_midnight_that_is_left_out_moves_forward() -> None:
    """In Sao Paulo 4 November 2018 began at 01:00."""
    zone = zone_of("America/Sao_Paulo")
    assert local(when_ms("2018-11-04", zone), zone).isoformat() == "2018-11-04T01:00:00"


@pytest.mark.parametrize("name", ["", "Europe/Nowhere", "../etc/passwd", "Europe", "a\0b"])
def test_zones_have_names(name: str) -> None:
    """What is no IANA name is a sentence, whatever it is."""
    with pytest.raises(ValueError, match="write an IANA name"):
        zone_of(name)


# ------------------------------------------------------------------------------------------------- periods
def test_month_ends_do_not_drift() -> None:
    """31 Jan → 28 Feb → 31 Mar: each period is counted from the anchor, not from the last one."""
    days = starts("2026-01-31T00:00", "1 month", KYIV, 6)
    assert [day[:10] for day in days] == [
        "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30",
    ]  # fmt: skip
    assert {day[11:] for day in days} == {"00:00"}


def test_leap_days() -> None:
    """29 February comes back in leap years, and is the 28th in the others; also by months."""
    assert [day[:10] for day in starts("2024-02-29T00:00", "1 year", UTC_ZONE, 5)] == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29",
    ]  # fmt: skip
    assert starts("2023-11-30T00:00", "3 months", UTC_ZONE, 2)[1] == "2024-02-29T00:00"


def test_days_keep_the_time_across_a_change_of_clocks() -> None:
    """Days are calendar time at the client: the day of the change in Kyiv has 25 hours, or 23."""
    assert starts("2026-10-24T00:00", "1 day", KYIV, 3)[2] == "2026-10-26T00:00"
    day = parse_span("1 day")
    autumn, spring = at("2026-10-25T00:00", KYIV), at("2026-03-29T00:00", KYIV)
    assert boundary(anchor_at(autumn, KYIV), day, KYIV, 1) == autumn + 25 * 3_600_000
    assert boundary(anchor_at(spring, KYIV), day, KYIV, 1) == spring + 23 * 3_600_000


def test_a_gap_moves_forward() -> None:
    """03:30 of 29 March 2026 is left out in Kyiv: that period begins at 04:30, the next at 03:30 again."""
    assert starts("2026-03-28T03:30", "1 day", KYIV, 3) == [
        "2026-03-28T03:30", "2026-03-29T04:30", "2026-03-30T03:30",
    ]  # fmt: skip


def test_a_repeated_hour_takes_the_first() -> None:
    """03:30 comes twice in Kyiv on 25 October 2026: first in summer time, three hours ahead of UTC."""
    assert boundary(anchor_at(at("2026-10-24T03:30", KYIV), KYIV), parse_span("1 day"), KYIV, 1) == at(
        "2026-10-25T00:30"
    )


def test_hours_are_elapsed_hours() -> None:
    """24 hours is not 1 day: across the change of clocks the client's clock shows another hour."""
    assert starts("2026-10-24T12:00", "24 hours", KYIV, 3) == [
        "2026-10-24T12:00", "2026-10-25T11:00", "2026-10-26T11:00",
    ]  # fmt: skip


def test_two_zones_have_two_renewals() -> None:
    """The same package renews at midnight of each client: at different instants."""
    month = parse_span("1 month")
    kyiv = boundary(anchor_at(at("2026-11-01T00:00", KYIV), KYIV), month, KYIV, 1)
    new_york = boundary(anchor_at(at("2026-11-01T00:00", NEW_YORK), NEW_YORK), month, NEW_YORK, 1)
    assert kyiv == at("2026-11-30T22:00")
    assert new_york == at("2026-12-01T05:00")


def test_the_period_that_holds_an_instant() -> None:
    """A period is from its start, included, to its stop, excluded; nothing holds before the anchor."""
    anchor, month = at("2026-11-01T00:00"), parse_span("1 month")
    second = at("2026-12-01T00:00")
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, anchor - 1, None) is None
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, anchor, None) == (1, anchor, second)
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, second - 1, None) == (1, anchor, second)
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, second, None) == (
        2,
        second,
        at("2027-01-01T00:00"),
    )


def test_a_period_is_cut_by_the_end() -> None:
    """The end date stops the last period, and no period holds from it on."""
    anchor, month, end = at("2026-11-01T00:00"), parse_span("1 month"), at("2026-12-10T00:00")
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, end - 1, end) == (
        2,
        at("2026-12-01T00:00"),
        end,
    )
    assert period_at(anchor_at(anchor, UTC_ZONE), month, UTC_ZONE, end, end) is None


def test_without_period_it_runs_once() -> None:
    """No period = runs once, until the end date."""
    anchor, end = at("2026-11-01T00:00"), at("2030-01-01T00:00")
    assert period_at(anchor_at(anchor, UTC_ZONE), None, UTC_ZONE, end - 1, end) == (1, anchor, end)
    assert period_at(anchor_at(anchor, UTC_ZONE), None, UTC_ZONE, end * 2, None) == (1, anchor, None)


def test_a_period_beyond_the_calendar_has_no_stop() -> None:
    """99999 years end after all calendars: the first period has no stop, and nothing raises."""
    anchor = at("2026-11-01T00:00")
    for text in ("99999 years", "99999 days"):
        span = parse_span(text)
        assert boundary(anchor_at(anchor, KYIV), span, KYIV, 50_000_000) is None
    assert period_at(
        anchor_at(anchor, KYIV), parse_span("99999 years"), KYIV, at("9990-01-01T00:00"), None
    ) == (
        1,
        anchor,
        None,
    )


@settings(deadline=None)
@given(ZONES, ANCHORS, SPANS, st.integers(0, 20 * 366 * 86_400_000))
def test_periods_tile_time(zone: ZoneInfo, anchor: int, span: Span, after: int) -> None:
    """Every instant from the anchor on lies in exactly one period; the next one starts where it stops."""
    instant = anchor + after
    found = period_at(anchor_at(anchor, zone), span, zone, instant, None)
    assert found is not None
    number, start, stop = found
    assert stop is not None
    assert anchor <= start <= instant < stop
    assert period_at(anchor_at(anchor, zone), span, zone, start, None) == found
    assert period_at(anchor_at(anchor, zone), span, zone, stop - 1, None) == found
    following = period_at(anchor_at(anchor, zone), span, zone, stop, None)
    assert following is not None
    assert following[1] == stop
    # The day that Apia left out is a period that no instant lies in.
    assert following[0] == number + 1 or zone.key == "Pacific/Apia"


@settings(deadline=None)
@given(ZONES, ANCHORS, SPANS, st.integers(0, 300))
def test_boundaries_are_counted_from_the_anchor(zone: ZoneInfo, anchor: int, span: Span, n: int) -> None:
    """Boundary n shows the anchor's clock and its day, or the last of a shorter month; hours are elapsed."""
    bound = boundary(anchor_at(anchor, zone), span, zone, n)
    assert bound is not None
    assert boundaries_passed(anchor_at(anchor, zone), span, zone, bound) >= n
    if span.unit == "hour":
        assert bound == anchor + n * span.count * 3_600_000
        return
    clock, first = local(bound, zone), local(anchor, zone)
    if span.unit == "day":
        wanted = first + timedelta(days=n * span.count)
    else:
        months = first.year * 12 + first.month - 1 + n * span.count * (12 if span.unit == "year" else 1)
        wanted = first
        for day in range(first.day, 27, -1):  # the last day that the month has
            try:
                wanted = first.replace(year=months // 12, month=months % 12 + 1, day=day)
                break
            except ValueError:
                continue
        else:
            wanted = first.replace(year=months // 12, month=months % 12 + 1)
    if clock != wanted:
        exists = wanted.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wanted
        assert not exists, "a clock that shows the time was passed over"
        assert clock > wanted, "a gap moves forward"
    elif n:
        earlier = (local(bound - minutes * 60_000, zone) for minutes in (30, 60))
        assert wanted not in earlier, "a repeated hour takes the first"


@settings(deadline=None)
@given(ZONES, ANCHORS, SPANS, st.integers(0, 10 * 366 * 86_400_000), st.integers(1, 10 * 366 * 86_400_000))
def test_an_end_only_cuts(zone: ZoneInfo, anchor: int, span: Span, after: int, end_after: int) -> None:
    """An end date changes no number and no start: it cuts the stop, and takes away what comes later."""
    free = period_at(anchor_at(anchor, zone), span, zone, anchor + after, None)
    cut = period_at(anchor_at(anchor, zone), span, zone, anchor + after, anchor + end_after)
    assert free is not None
    if after >= end_after:
        assert cut is None
    else:
        assert free[2] is not None
        assert cut == (free[0], free[1], min(free[2], anchor + end_after))


def test_time_zones_are_those_of_the_locked_package(tmp_path: Path) -> None:
    """Zones never come from the machine, whose rules may be others; an unknown one is unknown everywhere."""
    utc = resources.files("tzdata.zoneinfo").joinpath("UTC").read_bytes()
    for name in ("Europe/Kyiv", "Europe/Atlantis"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(utc)
    code = """
from datetime import datetime
from rater.core.periods import zone_of
print(datetime(2026, 1, 1, tzinfo=zone_of("Europe/Kyiv")).utcoffset())
zone_of("Europe/Atlantis")
"""
    ran = subprocess.run(  # noqa: S603 - this test's own code
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "2:00:00\n"
    assert "no such time zone" in ran.stderr


def test_a_gap_moves_only_the_boundary_that_lies_in_it() -> None:
    """In Cairo 24 April 2026 began at 01:00: asked for from its midnight, each later day begins at 00:00."""
    zone = zone_of("Africa/Cairo")
    asked = Anchor(when_ms("2026-04-24", zone), datetime(2026, 4, 24))  # noqa: DTZ001 - local
    clocks = [local(boundary(asked, parse_span("1 day"), zone, n) or 0, zone).isoformat() for n in range(3)]
    assert clocks == ["2026-04-24T01:00:00", "2026-04-25T00:00:00", "2026-04-26T00:00:00"]
