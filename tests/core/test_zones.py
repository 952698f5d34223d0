"""Time zones by the catalog: two installs agree, and another release moves no period that is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lives import lived
from msgspec.structs import replace

from rater.core import zones as zones_module
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content, PackageHistory, PackageSpec, from_objects, objects
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.earlier import first_anchor
from rater.core.clients.periods import period_around, period_of
from rater.core.clients.state import ClientPackage, ClientState, Life, read_state
from rater.core.clients.views import ClientView
from rater.core.offline import Rater, Transaction
from rater.core.periods import anchor_at, canonical_when, when_ms, zone_of
from rater.core.zones import Release, Zones, brought, installed, notes

DAY_MS = 86_400_000
HAVANA = "America/Havana"
HERE = installed()


def at(text: str) -> int:
    """Return the instant of a time."""
    return when_ms(canonical_when(text), zone_of("UTC"))


def text(at_ms: int | None) -> str | None:
    """Return an instant as text."""
    if at_ms is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%MZ")


def release(iana: str, havana: str, package: str = "2026.1", since: int = 0) -> Release:
    """Return a release whose rules for Havana are those of another zone."""
    return Release(since, iana, package, {**HERE.rules, HAVANA: HERE.rules[havana]})


WINTER = release("2026e", "America/New_York")
"""Havana goes back to winter time on 1 November 2026: midnight is 05:00 UTC from then on."""
SUMMER = release("2026f", "America/Puerto_Rico")
"""It stays in summer time: midnight is 04:00 UTC."""

FILE = """
currencies: {base: USD}
rate_tables: [{name: r, currency: USD, rates: [{code: "1", price: "1"}]}]
packages: [{id: "1", name: n, type: customer, currency: USD, period: PERIOD, limits: [
  {type: volume, service: calls, code: "1", limit: 100}]}]
clients: [{id: "42", currency: USD, time_zone: America/Havana, rate_tables: {orig: {calls: r}}}]
client_packages: [{id: "3", client: "42", package: "1", start_date: START, activate_in_past: true}]
"""


def use(patch: pytest.MonkeyPatch, here: Release) -> None:
    """Install a release."""
    patch.setattr("rater.core.catalog_files.merging.installed", lambda: here)


def loaded(
    patch: pytest.MonkeyPatch, *loads: tuple[Release, str], period: str = "1 month", start: str = "2026-11-01"
) -> Rater:
    """Return a rater that has loaded the same file again and again, each time from another install."""
    rater = Rater(100 * DAY_MS)
    file = FILE.replace("PERIOD", period).replace("START", start).encode()
    for here, when in loads:
        use(patch, here)
        assert rater.load([("c.yaml", file)], at(when)) == []
    return rater


def bounds(rater: Rater, *instants: str) -> list[tuple[int, str | None, str | None]]:
    """Return number, start and stop of the periods that hold the instants."""
    seen = rater.views.clients["42"]
    out = []
    for instant in instants:
        state = lived(seen.state, rater.catalog, at(instant))
        found = period_of(state, state.packages[0], rater.catalog.packages["1"], at(instant))
        assert found is not None
        out.append((found.number, text(found.start_ms), text(found.stop_ms)))
    return out


# ---------------------------------------------------------------------------------------------- two installs
@pytest.mark.parametrize("here", [WINTER, SUMMER])
def test_the_catalogs_zones_are_used_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch, here: Release
) -> None:
    """A worker reads time zones from the catalog alone, as the load wrote them: two installs agree."""
    rater = loaded(monkeypatch, (here, "2026-10-10"))
    assert rater.content is not None
    content = from_objects(objects(rater.content))

    def nothing(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(zones_module, "zone_of", nothing)
    monkeypatch.setattr(zones_module, "installed", nothing)
    rater.catalog = compile_catalog(content, 1)
    rater.views.clients["42"] = ClientView(rater.states["42"])
    midnight = "05" if here is WINTER else "04"
    assert bounds(rater, "2026-11-20") == [(1, "2026-11-01T04:00Z", f"2026-12-01T{midnight}:00Z")]


def test_a_period_that_is_open_keeps_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load from a newer install holds from the next renewal; then midnights are the new ones."""
    before = loaded(monkeypatch, (WINTER, "2026-10-10"))
    rater = loaded(monkeypatch, (WINTER, "2026-10-10"), (SUMMER, "2026-11-15"))
    asked = ("2026-11-02", "2026-11-20", "2026-12-01T04:30:00Z")
    assert bounds(rater, *asked) == bounds(before, *asked)
    assert bounds(rater, "2026-12-01T04:59:59Z", "2026-12-01T05:00:00Z", "2027-01-01T04:00:00Z") == [
        (1, "2026-11-01T04:00Z", "2026-12-01T05:00Z"),
        (2, "2026-12-01T05:00Z", "2027-01-01T04:00Z"),
        (3, "2027-01-01T04:00Z", "2027-02-01T04:00Z"),
    ]


def test_another_release_lets_no_month_end_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for stays when the rules change in February: the 31st comes back in March."""
    rater = loaded(monkeypatch, (WINTER, "2026-10-10"), (SUMMER, "2027-02-15"), start="2026-10-31")
    assert bounds(rater, "2027-02-20", "2027-03-02", "2027-04-02") == [
        (4, "2027-01-31T05:00Z", "2027-02-28T05:00Z"),
        (5, "2027-02-28T05:00Z", "2027-03-31T04:00Z"),
        (6, "2027-03-31T04:00Z", "2027-04-30T04:00Z"),
    ]


def test_hours_do_not_care_about_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elapsed hours are counted on from the first start, by whatever rules."""
    start = "2026-11-01T00:00:00Z"
    one = loaded(monkeypatch, (WINTER, "2026-10-10"), period="7 hours", start=start)
    two = loaded(monkeypatch, (WINTER, "2026-10-10"), (SUMMER, "2026-11-15"), period="7 hours", start=start)
    asked = ("2026-11-14T23:00:00Z", "2026-11-15T00:00:00Z", "2026-12-24T12:00:00Z")
    assert bounds(two, *asked) == bounds(one, *asked)


def test_a_call_is_rated_by_the_catalogs_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that two releases put into two periods draws by the catalog's, through all of rating."""
    for here, number in ((WINTER, 1), (SUMMER, 2)):
        rater = loaded(monkeypatch, (here, "2026-10-10"))
        record = {
            "id": "a", "called": "1", "duration_ms": 60_000, "answered_at": "2026-12-01T04:30:00Z",
            "orig": {"client": "42"},
        }  # fmt: skip
        (ended,) = rater.rate(msgspec.json.encode(record), at("2026-12-01T06:00:00Z"))
        assert isinstance(ended, Transaction)
        assert msgspec.json.decode(ended.value)["draws"][0]["period"] == number


# ------------------------------------------------------------------------------------------------------ loads
def merged(patch: pytest.MonkeyPatch, here: Release, content: Content | None, when: str) -> Merged:
    """Load one and the same file from an install."""
    use(patch, here)
    file = b"currencies: {base: USD}"
    out = merge(content, read_files([("c.yaml", file)], lambda _: b""), at(when), Existing({}, {}))
    assert isinstance(out, Merged)
    return out


def test_a_newer_release_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file from a newer install makes a new catalog, and says so; from an older one it does not."""
    first = merged(monkeypatch, WINTER, None, "2026-10-10")
    assert (first.changed, first.notes) == (True, ())
    again = merged(monkeypatch, WINTER, first.content, "2026-10-11")
    assert (again.changed, again.notes, again.content) == (False, (), first.content)
    newer = merged(monkeypatch, SUMMER, first.content, "2026-11-15")
    assert newer.changed
    assert newer.notes == (
        "time zones: tzdata 2026e -> 2026f from now; periods that are open keep their bounds",
    )
    assert [(of.iana, of.since_ms, len(of.rules)) for of in newer.content.zones] == [
        ("2026e", at("2026-10-10"), len(HERE.rules)), ("2026f", at("2026-11-15"), 1),
    ]  # fmt: skip
    older = merged(monkeypatch, WINTER, newer.content, "2026-11-16")
    assert not older.changed
    assert older.content.zones == newer.content.zones
    (note,) = older.notes
    assert note == (
        "time zones: tzdata 2026e is installed here, and the catalog keeps its newer 2026f; "
        "upgrade this install"
    )


def test_a_catalog_from_before_gets_its_zones_with_the_next_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog without time zones is used with those installed, until any load brings them, and says so."""
    old = replace(merged(monkeypatch, WINTER, None, "2026-10-10").content, zones=[])
    assert "zones" not in objects(old)
    assert from_objects(objects(old)) == old
    assert Zones(old.zones).at(HAVANA, 0) is zone_of(HAVANA)
    new = merged(monkeypatch, WINTER, old, "2026-10-11")
    assert (new.changed, new.notes) == (
        True, ("time zones: the catalog has those of tzdata 2026e from now, whatever is installed",),
    )  # fmt: skip


def test_time_zones_are_an_object_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written once, not with each load: the same releases are the same bytes."""
    one = merged(monkeypatch, WINTER, None, "2026-10-10").content
    two = merged(monkeypatch, WINTER, replace(one, services={}), "2026-10-12").content
    assert objects(one)["zones"] == objects(two)["zones"]
    assert len(objects(one)["main"]) < 1000
    assert from_objects(objects(one)) == one


@pytest.mark.parametrize(
    ("iana", "package", "newer"),
    [
        ("2026f", "2026.6", False), ("2026g", "2026.7", True), ("2027a", "2027.1", True),
        ("2026f", "2026.6.1", True), ("2026f", "2026.10", True), ("2026e", "2026.9", False),
    ],
)  # fmt: skip
def test_which_release_is_newer(iana: str, package: str, newer: bool) -> None:  # noqa: FBT001
    """By its IANA name, then by the package's numbers."""
    assert release(iana, HAVANA, package).newer(release("2026f", HAVANA, "2026.6")) is newer


def test_a_clock_that_was_put_back_reorders_no_releases() -> None:
    """A newer release holds after the one before it, whatever the clock of the load says."""
    releases = brought(brought([], WINTER, 5_000_000), SUMMER, 1000)
    assert [of.since_ms for of in releases] == [5_000_000, 5_001_000]
    assert notes([], releases, SUMMER)


def test_the_zone_of_an_instant() -> None:
    """The first release counts from the beginning; a zone without other rules is one object throughout."""
    zones = Zones(brought(brought([], WINTER, 1_000_000), SUMMER, 2_000_000))
    old, new = zones.at(HAVANA, 0), zones.at(HAVANA, 2_000_000)
    assert old is zones.at(HAVANA, 1_999_999) is not new
    assert new is zones.latest(HAVANA)
    assert (old.key, new.key) == (HAVANA, HAVANA)
    assert zones.at("Europe/Kyiv", 0) is zones.latest("Europe/Kyiv")
    assert (zones.changes(HAVANA), zones.changes("Europe/Kyiv")) == ([2_000_000], [])


def test_zones_come_and_go() -> None:
    """A zone that a release leaves out keeps its rules; one that is new has them at earlier instants too."""
    kyiv, utc = HERE.rules["Europe/Kyiv"], HERE.rules["UTC"]
    zones = Zones(
        brought(
            brought([], Release(0, "2026e", "1", {"Old/Zone": kyiv}), 1000),
            Release(0, "2026f", "2", {"New/Zone": utc}),
            9000,
        )
    )
    assert zones.latest("Old/Zone") is zones.at("Old/Zone", 0)
    assert zones.latest("New/Zone") is zones.at("New/Zone", 0)
    with pytest.raises(ValueError, match="write an IANA name"):
        zones.at("No/Zone", 0)


# ------------------------------------------------------------------------------- anchors of earlier versions
def cairo(*, carries_since: str | None) -> tuple[ClientView, Catalog]:
    """Return a client in Cairo with a monthly package from 24 April 2026, assigned on the 10th."""
    zone = zone_of("Africa/Cairo")
    held = ClientPackage(
        "3", "1", None, 1, at("2026-04-10"), when_ms("2026-04-24", zone), None, start_date="2026-04-24"
    )
    state = ClientState("42", 1, 1, "", None, "USD", "Africa/Cairo", 0, None, None, None, {}, {}, [held], 0)
    package = PackageSpec("1", "n", "customer", "USD", period="1 month")
    zones = [] if carries_since is None else [replace(HERE, since_ms=at(carries_since))]
    content = Content(
        packages={"1": PackageHistory([(0, package)], [(0, "active")], assigned=True)}, zones=zones
    )
    return ClientView(state), compile_catalog(content, 1)


@pytest.mark.parametrize(
    ("carries_since", "found"),
    [
        (None, ["04-23T22:00Z", "05-23T22:00Z", "06-23T22:00Z", "07-23T22:00Z"]),
        ("2026-06-10", ["04-23T22:00Z", "05-23T22:00Z", "06-23T22:00Z", "07-23T21:00Z"]),
        ("2026-04-20", ["04-23T22:00Z", "05-23T21:00Z", "06-23T21:00Z", "07-23T21:00Z"]),
        ("2026-04-10", ["04-23T22:00Z", "05-23T21:00Z", "06-23T21:00Z", "07-23T21:00Z"]),
    ],
)
def test_an_open_period_of_an_earlier_version_keeps_its_bounds(
    carries_since: str | None, found: list[str]
) -> None:
    """What was opened at 01:00 ends at 01:00; the first load that brings time zones lets 00:00 return."""
    seen, catalog = cairo(carries_since=carries_since)
    starts, number, instant = [], 0, at("2026-04-25")
    for _ in range(4):
        state = lived(seen.state, catalog, instant)
        period = period_of(state, state.packages[0], catalog.packages["1"], instant)
        assert period is not None
        assert period.number == number + 1
        number, instant = period.number, period.stop_ms or 0
        starts.append(text(period.start_ms))
    assert starts == [f"2026-{one}" for one in found]


def test_a_first_start_by_an_earlier_release_is_the_date_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules that change between assignment and first period: it starts when it was to, then at midnights."""
    rater = loaded(
        monkeypatch, (WINTER, "2026-10-10"), (SUMMER, "2026-11-15"), start="2026-12-01", period="1 day"
    )
    assert bounds(rater, "2026-12-01T12:00:00Z", "2026-12-02T12:00:00Z") == [
        (1, "2026-12-01T05:00Z", "2026-12-02T04:00Z"), (2, "2026-12-02T04:00Z", "2026-12-03T04:00Z"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- properties
_RULES = st.sampled_from([
    "America/New_York", "America/Puerto_Rico", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kolkata",
])  # fmt: skip
_DAYS = st.integers(1, 400)
_START = at("2026-03-01")


def several(first: str, later: dict[int, str]) -> list[Release]:
    """Return releases with these rules for Havana, by day since the start."""
    out = brought([], release("2026a", first), _START)
    for number, (day, rules) in enumerate(sorted(later.items())):
        out = brought(out, release(f"2027{chr(ord('a') + number)}", rules), _START + day * DAY_MS + 7000)
    return out


def seen_with(
    releases: list[Release], lengths: dict[int, str | None], *, life: bool
) -> tuple[ClientView, Catalog]:
    """Return a client in Havana with a package from 24 April 2026, whose midnights may not exist.

    life: assigned by this version, or (False) by one before.
    """
    versions: list[tuple[int, PackageSpec]] = [
        (since, PackageSpec("1", "n", "customer", "USD", period=span))
        for since, span in sorted({-1: "1 month", **lengths}.items())
    ]
    content = Content(
        packages={
            "1": PackageHistory(
                [(_START + day * DAY_MS, spec) for day, spec in versions], [(0, "active")], assigned=True
            )
        },
        zones=releases,
    )
    start = when_ms("2026-04-24", Zones(releases).at(HAVANA, _START))
    held = ClientPackage(
        "3", "1", None, 1, _START, start, None, start_date="2026-04-24", life=Life() if life else None
    )
    state = ClientState("42", 1, 1, "", None, "USD", HAVANA, 0, None, None, None, {}, {}, [held], 0)
    return ClientView(state), compile_catalog(content, 1)


_LENGTHS: Any = st.dictionaries(
    _DAYS, st.sampled_from(["1 day", "24 hours", "1 month", "1 year"]), max_size=2
)


@settings(deadline=None)
@given(
    _RULES, st.dictionaries(_DAYS, _RULES, max_size=3), _LENGTHS, st.integers(0, 300 * DAY_MS), st.booleans()
)
def test_periods_tile_time_whatever_releases_come(
    first: str,
    later: dict[int, str],
    lengths: dict[int, str | None],
    after: int,
    life: bool,  # noqa: FBT001
) -> None:
    """The next period starts where one stops, numbered one more, under any releases and lengths."""
    seen, catalog = seen_with(several(first, later), lengths, life=life)
    package, instant = catalog.packages["1"], seen.packages[0].start_ms + after
    state = lived(seen.state, catalog, instant)
    held = state.packages[0]
    found, since, until = period_around(state, held, package, instant)
    assert found is not None
    assert found.stop_ms is not None
    assert found.start_ms <= instant < found.stop_ms
    assert (since, until) == (found.start_ms, found.stop_ms)
    assert period_of(state, held, package, found.start_ms) == found
    assert period_of(state, held, package, found.stop_ms - 1) == found
    state = lived(state, catalog, found.stop_ms)
    following = period_of(state, state.packages[0], package, found.stop_ms)
    assert following is not None
    assert following.start_ms == found.stop_ms
    assert following.number == found.number + 1


@settings(deadline=None)
@given(
    _RULES, st.dictionaries(_DAYS, _RULES, max_size=2), _LENGTHS, st.tuples(st.integers(401, 500), _RULES),
    st.integers(0, 200 * DAY_MS), st.booleans(),
)  # fmt: skip
def test_a_release_touches_no_period_that_has_opened(
    first: str,
    later: dict[int, str],
    lengths: dict[int, str | None],
    last: tuple[int, str],
    after: int,
    life: bool,  # noqa: FBT001
) -> None:
    """Each period that opened before a release came has the bounds that it had without it."""
    seen, catalog = seen_with(several(first, later), lengths, life=life)
    _, newer = seen_with(several(first, later | {last[0]: last[1]}), lengths, life=life)
    instant = min(seen.packages[0].start_ms + after, _START + last[0] * DAY_MS)
    old, new = lived(seen.state, catalog, instant), lived(seen.state, newer, instant)
    before = period_of(old, old.packages[0], catalog.packages["1"], instant)
    now = period_of(new, new.packages[0], newer.packages["1"], instant)
    assert before is not None
    assert now is not None
    assert (now.number, now.start_ms, now.stop_ms) == (before.number, before.start_ms, before.stop_ms)


def test_an_anchor_is_the_first_start_where_no_date_fits() -> None:
    """A start that no bare date explains (a time with offset, a load) is its own local time."""
    seen, catalog = cairo(carries_since="2026-04-01")
    zone = catalog.zones.latest("Africa/Cairo")
    held = replace(seen.packages[0], start_ms=at("2026-04-25T10:00:00Z"))
    assert first_anchor(held, catalog.packages["1"], zone) == anchor_at(held.start_ms, zone)
    assert read_state(msgspec.msgpack.encode(seen.state)) == seen.state
