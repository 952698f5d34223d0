"""Where periods begin and stop: gaps and folds of clocks, ends of months, grids of payment terms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.packages import PackageVersion
from rater.core.catalog.specs import Content, PackageHistory, PackageSpec, TermsSpec
from rater.core.clients.counting import Bounds, aligned, asked_local, first_bounds, next_bounds
from rater.core.periods import Anchor, anchor_at, canonical_when, parse_span, when_ms
from rater.core.zones import installed

UTC_ZONE = ZoneInfo("UTC")


def version(period: str | None, **fields: Any) -> PackageVersion:
    """Return a version of a package."""
    spec = PackageSpec("1", "n", "customer", "USD", period=period, **fields)
    history = PackageHistory([(0, spec)], [(0, "active")], assigned=True)
    return (
        compile_catalog(Content(base="USD", packages={"1": history}, zones=[installed()]), 1)
        .packages["1"]
        .latest
    )


def asked(text: str, zone: ZoneInfo) -> Anchor:
    """Return an anchor that was asked for."""
    return Anchor(when_ms(canonical_when(text), zone), asked_local(text, zone))


def series(
    count: int, first: Anchor, of: PackageVersion, zone: ZoneInfo, terms: TermsSpec | None = None
) -> list[Bounds]:
    """Return the first periods, one after the other."""
    found = [first_bounds(first, of, zone, terms)]
    while len(found) < count:
        last = found[-1]
        assert last.stop_ms is not None
        found.append(next_bounds(last.counted, last.stop_ms, of, zone, terms))
    return found


def local(at_ms: int | None, zone: ZoneInfo) -> str:
    """Return an instant by the clock there."""
    assert at_ms is not None
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone).strftime("%Y-%m-%dT%H:%M%z")


# ----------------------------------------------------------------------------------------------- by the clock
@pytest.mark.parametrize(
    ("zone", "start", "period", "stops"),
    [
        ("UTC", "2027-01-31", "1 month", ["2027-02-28T00:00+0000", "2027-03-31T00:00+0000"]),
        ("UTC", "2027-10-31", "2 months", ["2027-12-31T00:00+0000", "2028-02-29T00:00+0000"]),
        ("UTC", "2028-02-29", "2 years", ["2030-02-28T00:00+0000", "2032-02-29T00:00+0000"]),
        ("UTC", "2026-11-30", "3 months", ["2027-02-28T00:00+0000", "2027-05-30T00:00+0000"]),
        # Days are those of the clock: 23 hours in March, 25 in October.
        ("Europe/Kyiv", "2026-10-24", "1 day", ["2026-10-25T00:00+0300", "2026-10-26T00:00+0200"]),
        ("Europe/Kyiv", "2027-03-27", "1 day", ["2027-03-28T00:00+0200", "2027-03-29T00:00+0300"]),
        # Hours are elapsed ones: the clock moves.
        ("Europe/Kyiv", "2026-10-24", "24 hours", ["2026-10-25T00:00+0300", "2026-10-25T23:00+0200"]),
        # A local time in a gap moves forward, for that boundary alone.
        ("Europe/Kyiv", "2027-03-27T01:30:00Z", "1 day", ["2027-03-28T04:30+0300", "2027-03-29T03:30+0300"]),
        # One that comes twice is the first.
        ("Europe/Kyiv", "2026-10-24T00:30:00Z", "1 day", ["2026-10-25T03:30+0300", "2026-10-26T03:30+0200"]),
        # A midnight that does not exist.
        ("Africa/Cairo", "2026-03-24", "1 month", ["2026-04-24T01:00+0300", "2026-05-24T00:00+0300"]),
        # A day that does not exist is no period, be it the first or a later one.
        ("Pacific/Apia", "2011-12-30", "1 day", ["2012-01-01T00:00+1400", "2012-01-02T00:00+1400"]),
        ("Pacific/Apia", "2011-12-29", "1 day", ["2011-12-31T00:00+1400", "2012-01-01T00:00+1400"]),
    ],
)  # fmt: skip
def test_boundaries_do_not_drift(zone: str, start: str, period: str, stops: list[str]) -> None:
    """Each is counted from the local time that was asked for, not from the one before."""
    clock = ZoneInfo(zone)
    found = series(len(stops), asked(start, clock), version(period), clock)
    assert [local(one.stop_ms, clock) for one in found] == stops
    assert [one.start_ms for one in found[1:]] == [one.stop_ms for one in found[:-1]]
    assert {one.share for one in found} == {None}


def test_without_a_period_there_is_no_stop() -> None:
    """It runs once."""
    found = first_bounds(asked("2026-11-01", UTC_ZONE), version(None), UTC_ZONE, None)
    assert (found.stop_ms, found.share, found.counted.span) == (None, None, None)


@pytest.mark.parametrize(
    ("period", "zone", "stop"),
    [
        ("10 days", "UTC", "2027-02-10T00:00+0000"),
        ("1 day", "UTC", "2027-02-01T00:00+0000"),
        ("1 month", "America/New_York", "2027-02-28T19:00-0500"),  # the 30th at 19:00 there is the anchor
        ("12 months", "UTC", "2028-01-31T00:00+0000"),
    ],
)
def test_what_changes_is_counted_from_the_next_start(period: str, zone: str, stop: str) -> None:
    """A new length or clock holds from the stop of what runs."""
    first = series(1, asked("2026-12-31", UTC_ZONE), version("1 month"), UTC_ZONE)[0]
    assert first.stop_ms is not None
    clock = ZoneInfo(zone)
    found = next_bounds(first.counted, first.stop_ms, version(period), clock, None)
    assert (found.start_ms, local(found.stop_ms, clock)) == (first.stop_ms, stop)


def test_a_year_is_twelve_months() -> None:
    """The same length in another unit changes nothing that is counted."""
    year = series(1, asked("2028-02-29", UTC_ZONE), version("1 year"), UTC_ZONE)[0]
    assert year.stop_ms is not None
    following = [
        next_bounds(year.counted, year.stop_ms, version(of), UTC_ZONE, None).counted
        for of in ("1 year", "12 months")
    ]
    assert following[0] == following[1]


# ------------------------------------------------------------------------------------------------------ grids
TERMS = TermsSpec(every="1 month", anchor="2026-01-01")


@pytest.mark.parametrize(
    ("period", "every", "anchor", "start", "stop", "share", "then"),
    [
        # worked examples 11 and 17
        ("1 month", "1 month", "2026-01-01", "2026-11-11", "2026-12-01", (20, 30), ["2027-01-01"]),
        ("1 month", "1 month", "2026-01-01", "2027-01-30", "2027-02-01", (2, 31), ["2027-03-01"]),
        # the terms' anchor lies ahead
        ("1 month", "1 month", "2028-01-15", "2026-11-11", "2026-11-15", (4, 31), ["2026-12-15"]),
        # anchored on the 31st: no first start decides the ends of months
        ("1 month", "1 month", "2026-01-31", "2027-02-10", "2027-02-28", (18, 28), ["2027-03-31"]),
        ("1 month", "1 month", "2026-01-31", "2027-03-10", "2027-03-31", (21, 31), ["2027-04-30"]),
        # the package's period is shorter than the terms: its own grid, from the terms' anchor
        ("1 month", "3 months", "2026-01-01", "2026-11-11", "2026-12-01", (20, 30), ["2027-01-01"]),
        # it is longer: the first piece ends with the terms, and is a part of the whole period that does
        ("3 months", "1 month", "2026-01-01", "2026-11-11", "2026-12-01", (20, 91), ["2027-03-01"]),
        ("1 year", "1 month", "2026-01-01", "2026-12-30", "2027-01-01", (2, 365), ["2028-01-01"]),
        ("14 days", "7 days", "2026-11-02", "2026-11-11", "2026-11-16", (5, 14), ["2026-11-30"]),
        # on a point of the grid: a whole one
        ("1 month", "1 month", "2026-01-01", "2026-11-01", "2026-12-01", None, ["2027-01-01"]),
        ("3 months", "1 month", "2026-01-01", "2026-11-01", "2027-02-01", None, ["2027-05-01"]),
    ],
)  # fmt: skip
def test_the_first_period_is_cut_to_the_grid(
    period: str,
    every: str,
    anchor: str,
    start: str,
    stop: str,
    share: tuple[int, int] | None,
    then: list[str],
) -> None:
    """The share is of the whole period that ends at the same point; later periods are whole ones."""
    of = version(period, align_to_payment_terms=True)
    found = series(1 + len(then), asked(start, UTC_ZONE), of, UTC_ZONE, TermsSpec(every=every, anchor=anchor))
    assert [local(one.stop_ms, UTC_ZONE)[:10] for one in found] == [stop, *then]
    assert found[0].share == (None if share is None else (share[0] * 86_400, share[1] * 86_400))
    assert {one.share for one in found[1:]} == {None}


def test_a_change_of_clocks_changes_no_share() -> None:
    """RULES.md 7, example 18: 21 of 31 days by the clock, though one of them has 25 hours."""
    kyiv = ZoneInfo("Europe/Kyiv")
    of = version("1 month", align_to_payment_terms=True)
    (found,) = series(1, asked("2026-10-11", kyiv), of, kyiv, TERMS)
    assert (local(found.stop_ms, kyiv), found.share) == ("2026-11-01T00:00+0200", (21 * 86_400, 31 * 86_400))


def test_full_charge_is_cut_and_costs_all() -> None:
    """The stop is that of the grid, the share that of a whole period."""
    of = version("1 month", align_to_payment_terms=True, full_charge=True)
    (found,) = series(1, asked("2026-11-11", UTC_ZONE), of, UTC_ZONE, TERMS)
    assert (local(found.stop_ms, UTC_ZONE)[:10], found.share) == ("2026-12-01", None)


def test_changed_terms_cut_the_period_that_begins_then() -> None:
    """As at a first activation: the new grid counts from there."""
    of = version("1 month", align_to_payment_terms=True)
    first = series(1, asked("2026-11-01", UTC_ZONE), of, UTC_ZONE, TERMS)[0]
    assert first.stop_ms is not None
    new = TermsSpec(every="1 month", anchor="2026-01-10")
    found = next_bounds(first.counted, first.stop_ms, of, UTC_ZONE, new)
    assert (local(found.stop_ms, UTC_ZONE)[:10], found.share) == ("2026-12-10", (9 * 86_400, 30 * 86_400))


@pytest.mark.parametrize(
    ("period", "every", "fits"),
    [
        ("1 month", "1 month", True), ("12 months", "1 year", True), ("1 year", "3 months", True),
        ("7 days", "14 days", True), ("7 days", "1 month", False), ("2 months", "3 months", False),
        ("24 hours", "1 day", False), ("6 hours", "12 hours", True), (None, "1 month", False),
    ],
)  # fmt: skip
def test_which_periods_fit_which_terms(period: str | None, every: str, *, fits: bool) -> None:
    """One is a multiple of the other, in one unit; years are months."""
    terms = TermsSpec(every=every, anchor="2026-01-01")
    assert aligned(version(period, align_to_payment_terms=True), terms) is fits
    assert not aligned(version(period), terms)
    assert not aligned(version(period, align_to_payment_terms=True), None)


_SPANS = st.sampled_from(["1 hour", "7 hours", "1 day", "10 days", "1 month", "2 months", "1 year"])
_ZONES = st.sampled_from(["UTC", "Europe/Kyiv", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(_SPANS, _ZONES, st.booleans()), min_size=1, max_size=12),
    st.integers(1_767_225_600, 1_830_297_600),
    st.sampled_from(["2026-01-31", "2027-06-15", "2026-11-01T05:30:00Z"]),
    st.sampled_from(["1 month", "1 day", "12 hours"]),
)
def test_periods_follow_each_other(
    lengths: list[tuple[str, str, bool]], start_s: int, anchor: str, every: str
) -> None:
    """Whatever changes between them, none is empty, and none is much longer than its length."""
    terms, counted, start = TermsSpec(every=every, anchor=anchor), None, start_s * 1000
    longest = {"hour": 3_600_000, "day": 86_400_000, "month": 31 * 86_400_000, "year": 366 * 86_400_000}
    for period, name, align in lengths:
        zone, of = ZoneInfo(name), version(period, align_to_payment_terms=align)
        if counted is None:
            found = first_bounds(anchor_at(start, zone), of, zone, terms)
        else:
            found = next_bounds(counted, start, of, zone, terms)
        assert found.start_ms == start
        assert found.stop_ms is not None
        assert found.stop_ms > start
        span = parse_span(period)
        # A renewal that a change of clocks or of zones leaves nothing of is passed over: one more span.
        assert found.stop_ms - start <= 2 * span.count * longest[span.unit] + 2 * 86_400_000
        assert found.share is None or 0 < found.share[0] < found.share[1]
        counted, start = found.counted, found.stop_ms
