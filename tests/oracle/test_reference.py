"""The reference against the golden cases, and its calendar against examples computed by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
import yaml

from golden.cases import EDITED_AT, LOADED_AT, Case, Got, _Loader, compare, load_cases
from oracle.reference import Reference, half_up, instant, period_at, periods, time_text, to_ms

CASES = load_cases()


def ms(text: str) -> int:
    """Return a time as milliseconds."""
    return to_ms(datetime.fromisoformat(text).astimezone(UTC))


def loaded(case: Case) -> Reference:
    """Return a reference with the case's catalog, as it was edited."""
    reference = Reference()
    for version, (catalog, at) in enumerate(((case.catalog, LOADED_AT), (case.edited, EDITED_AT)), 1):
        if catalog is not None:
            reference.load(yaml.load(catalog, _Loader), to_ms(at), version)  # noqa: S506 - a safe loader's child
    return reference


class Unknown:
    """A value whose wording the reference does not know: it is taken for any."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = None  # type: ignore[assignment]  # equal to too much


def got(ended: dict[str, Any]) -> Got:
    """Return an outcome of the reference as `compare` takes it."""
    if ended["outcome"] == "transaction":
        return "transaction", ended["side"], ended["value"]
    if ended["outcome"] == "duplicate":
        return "duplicate", ended["side"], None
    value = Unknown() if ended["value"] is None else ended["value"]
    return "rejected", ended["side"], {"reason": ended["reason"], "value": value}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """The reference gives what each golden case expects, rejections and duplicates included."""
    reference = loaded(case)
    outcomes = [[got(ended) for ended in reference.rate(raw, record_ms)] for raw, record_ms in case.records]
    assert compare(case, outcomes) == [], case.title


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sums(case: Case) -> None:
    """Counters are the sums of what was taken, balances the opening ones plus the sums of amounts."""
    reference = loaded(case)
    balances = defaultdict(int, reference.balances)
    counters: defaultdict[tuple[str, str], int] = defaultdict(int)
    for raw, record_ms in case.records:
        for ended in reference.rate(raw, record_ms):
            value = ended.get("value")
            if ended["outcome"] != "transaction" or not isinstance(value, dict):
                continue
            balances[value["client"]] += int(Fraction(value["amount"]) * 1_000_000)
            for draw in value["draws"]:
                scale = 1_000_000 if draw["kind"] == "money" else 1
                parts = (draw["client_package"], str(draw["period"]), draw["limit"])
                name = ".".join(part.replace("%", "%25").replace(".", "%2E") for part in parts)
                counters[value["client"], name] += int(Fraction(draw["taken"]) * scale)
    assert reference.balances == balances
    assert reference.counters == counters


def world(
    period: str | None = "1 month", *, zone: str = "UTC", start: str | None = None, **more: Any
) -> Reference:
    """Return a reference with one client package "1" of 10 minutes, loaded at 2026-09-15 (or `at`)."""
    reference = Reference(window_days=4000)
    reference.load(
        catalog(period, zone=zone, start=start, **more), ms(more.get("at", "2026-09-15T00:00:00Z")), 1
    )
    return reference


def catalog(
    period: str | None = "1 month",
    *,
    zone: str = "UTC",
    start: str | None = None,
    past: bool = True,
    minutes: int = 10,
    of_package: dict[str, Any] | None = None,
    of_client_package: dict[str, Any] | None = None,
    at: str = "",
) -> dict[str, Any]:
    """Return a catalog of one client with one client package; `at` is for `world` alone."""
    del at
    limit = {"id": "m", "type": "volume", "service": "calls", "code": "*", "limit": minutes}
    package = {
        "id": "P",
        "name": "P",
        "type": "customer",
        "currency": "USD",
        "period": period,
        "limits": [limit],
    }
    given = {"id": "1", "client": "42", "package": "P", "start_date": start, "activate_in_past": past}
    tables = {"orig": {"calls": "t"}}
    return {
        "currencies": {"base": "USD", "rates": {}},
        "rate_tables": [{"name": "t", "currency": "USD", "rates": [{"code": "1", "price": "0.60"}]}],
        "clients": [{"id": "42", "name": "R", "currency": "USD", "time_zone": zone, "rate_tables": tables}],
        "packages": [{**package, **(of_package or {})}],
        "client_packages": [{**given, **(of_client_package or {})}],
    }


def starts(reference: Reference, count: int) -> list[str]:
    """Return when the first periods of client package "1" start."""
    found = periods(reference.catalog, reference.catalog.client_packages["1"])
    return [
        time_text(period.start_ms).removesuffix(":00.000Z")
        for _, period in zip(range(count), found, strict=False)
    ]


def call(reference: Reference, at: str, seconds: int = 60, **more: Any) -> dict[str, Any]:
    """Rate a call of client 42 at that time, its record a day before nothing else; return its transaction."""
    number = str(len(reference._rated))  # noqa: SLF001 - another id for each
    record = {
        "id": number,
        "called": "12",
        "answered_at": at,
        "duration_ms": seconds * 1000,
        "orig": {"client": "42"},
    }
    (ended,) = reference.rate(json.dumps({**record, **more}).encode(), ms(at) + seconds * 1000)
    assert ended["outcome"] == "transaction", ended
    value = ended["value"]
    assert isinstance(value, dict)
    return value


def drawn(reference: Reference, at: str, seconds: int = 60) -> list[tuple[int, str, str]]:
    """Return (period, taken, left) of the draws of a call."""
    return [(draw["period"], draw["taken"], draw["left"]) for draw in call(reference, at, seconds)["draws"]]


def test_month_ends_do_not_drift() -> None:
    """31 January → 28 February → 31 March (RULES.md 4, Periods)."""
    assert starts(world(start="2026-01-31T00:00:00Z"), 4) == [
        "2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00", "2026-04-30T00:00",
    ]  # fmt: skip


def test_a_leap_day_comes_back() -> None:
    """Years from 29 February end on 28 February, but in leap years."""
    assert starts(world("1 year", start="2024-02-29T00:00:00Z"), 5)[::4] == [
        "2024-02-29T00:00",
        "2028-02-29T00:00",
    ]
    assert starts(world("1 year", start="2024-02-29T00:00:00Z"), 2)[1] == "2025-02-28T00:00"


def test_days_are_the_clients_and_hours_elapse() -> None:
    """When Kyiv's clocks go back on 25 October 2026 the day has 25 hours; 24 hours stay 24 (RULES.md 3)."""
    days = world("1 day", zone="Europe/Kyiv", start="2026-10-24")
    assert starts(days, 3) == ["2026-10-23T21:00", "2026-10-24T21:00", "2026-10-25T22:00"]
    hours = world("24 hours", zone="Europe/Kyiv", start="2026-10-24")
    assert starts(hours, 3) == ["2026-10-23T21:00", "2026-10-24T21:00", "2026-10-25T21:00"]


def test_a_gap_moves_its_own_boundary_alone() -> None:
    """Cairo has no midnight on 24 April 2026: that period begins at 01:00 there, the later ones at 00:00."""
    assert starts(world(zone="Africa/Cairo", start="2026-04-24"), 3) == [
        "2026-04-23T22:00", "2026-05-23T21:00", "2026-06-23T21:00",
    ]  # fmt: skip


def test_a_repeated_hour_takes_the_first() -> None:
    """01:30 in New York on 1 November 2026 comes twice; a day that ends then ends at the first."""
    reference = world("1 day", zone="America/New_York", start="2026-10-31T01:30:00-04:00")
    assert starts(reference, 3) == ["2026-10-31T05:30", "2026-11-01T05:30", "2026-11-02T06:30"]


def test_the_first_period_starts_at_the_latest() -> None:
    """Latest of start date, package's start and, without activate in the past or any start, the load."""
    assert starts(world(start="2026-09-01T00:00:00Z"), 1) == ["2026-09-01T00:00"]
    assert starts(world(start="2026-09-01T00:00:00Z", past=False), 1) == ["2026-09-15T00:00"]
    assert starts(world(start="2026-10-01T00:00:00Z", past=False), 1) == ["2026-10-01T00:00"]
    assert starts(world(start=None), 1) == ["2026-09-15T00:00"]
    later = world(start="2026-09-01", of_package={"start_date": "2026-09-20"})
    assert starts(later, 1) == ["2026-09-20T00:00"]


def test_a_changed_period_holds_from_the_next_renewal() -> None:
    """The month that runs ends as it began; from there on the days count, and the numbers go on."""
    reference = world(start="2026-10-31T00:00:00Z", at="2026-10-31T00:00:00Z")
    reference.load(catalog("10 days", start="2026-10-31T00:00:00Z"), ms("2026-11-05T00:00:00Z"), 2)
    assert starts(reference, 4) == [
        "2026-10-31T00:00",
        "2026-11-30T00:00",
        "2026-12-10T00:00",
        "2026-12-20T00:00",
    ]
    versions = reference.catalog.client_packages["1"]
    found = period_at(reference.catalog, versions, ms("2026-12-10T00:00:00Z"))
    assert found is not None
    assert found.number == 3


def test_a_changed_zone_holds_from_the_next_renewal() -> None:
    """From the renewal after the move the months run on that moment's local time in the new zone."""
    reference = world(zone="Europe/Kyiv", start="2026-10-01")
    reference.load(catalog(zone="America/New_York", start="2026-10-01"), ms("2026-10-10T00:00:00Z"), 2)
    assert starts(reference, 4) == [
        "2026-09-30T21:00",
        "2026-10-31T22:00",
        "2026-11-30T23:00",
        "2026-12-31T23:00",
    ]


def test_what_a_period_grants_is_that_of_its_opening() -> None:
    """A raised limit holds from the next period; the one that runs keeps what it opened with."""
    reference = world(start="2026-10-01T00:00:00Z", minutes=2)
    assert drawn(reference, "2026-10-05T00:00:00Z") == [(1, "60", "60")]
    reference.load(catalog(start="2026-10-01T00:00:00Z", minutes=5), ms("2026-10-10T00:00:00Z"), 2)
    assert drawn(reference, "2026-10-15T00:00:00Z") == [(1, "60", "0")]
    assert drawn(reference, "2026-10-31T23:59:59Z") == []
    assert drawn(reference, "2026-11-01T00:00:00Z") == [(2, "60", "240")]


def test_a_load_comes_after_what_is_due_at_its_instant() -> None:
    """A package that is edited at the instant of a renewal: the period opened before it."""
    reference = world(start="2026-10-01T00:00:00Z", minutes=2)
    reference.load(catalog(start="2026-10-01T00:00:00Z", minutes=5), ms("2026-11-01T00:00:00Z"), 2)
    assert drawn(reference, "2026-11-01T00:00:00Z") == [(2, "60", "60")]


def test_names_and_dates_are_the_newest() -> None:
    """Name, tag and end date are of the catalog that the call is rated under, without a period too."""
    reference = world(None, start="2026-10-01T00:00:00Z")
    newer = {"name": "Q", "dynamic_tag": "t", "end_date": "2026-10-20"}
    reference.load(
        catalog(None, start="2026-10-01T00:00:00Z", of_package=newer), ms("2026-10-10T00:00:00Z"), 2
    )
    (draw,) = call(reference, "2026-10-15T00:00:00Z")["draws"]
    assert (draw["package_name"], draw["tag"]) == ("Q", "t")
    assert call(reference, "2026-10-20T00:00:00Z")["draws"] == []


def test_status_is_that_of_the_calls_time() -> None:
    """A late call draws from a package that was active at its time; while disabled nothing is drawn."""
    reference = world(start="2026-10-01T00:00:00Z")
    disabled = catalog(start="2026-10-01T00:00:00Z", of_package={"status": "disabled"})
    reference.load(disabled, ms("2026-10-10T00:00:00Z"), 2)
    reference.load(catalog(start="2026-10-01T00:00:00Z"), ms("2026-10-20T00:00:00Z"), 3)
    assert drawn(reference, "2026-10-10T00:00:00Z") == []
    assert drawn(reference, "2026-10-20T00:00:00Z") == [(1, "60", "540")]
    assert drawn(reference, "2026-10-09T23:59:59Z") == [(1, "60", "480")]


def test_a_call_that_would_not_be_over_is_refused() -> None:
    """Answered + duration at most an hour after the lane's time; of no lane's time nothing is asked."""
    record = {"id": "a", "called": "12", "answered_at": "2026-10-05T00:00:00Z", "orig": {"client": "42"}}
    for past_hour, reason in ((0, None), (1, "bad_duration")):
        reference = world(start="2026-10-01T00:00:00Z")
        raw = json.dumps({**record, "duration_ms": 3_600_000 + past_hour}).encode()
        (ended,) = reference.rate(raw, ms("2026-10-05T00:00:00Z"))
        assert ended.get("reason") == reason
    (ended,) = Reference().rate(json.dumps({**record, "duration_ms": 10**14}).encode(), -1)
    assert ended["reason"] == "client_unknown"


def test_fields_of_transactions() -> None:
    """A transaction has the fields of CONTRACTS.md, and no others."""
    always = {
        "id", "revision", "type", "client", "account", "side", "service", "cdr", "at", "outcome", "caller",
        "called", "duration_ms", "code", "code_name", "rate", "billed", "draws", "overage", "setup_fee",
        "amount", "currency", "catalog",
    }  # fmt: skip
    reference = world(start="2026-10-01T00:00:00Z")
    assert call(reference, "2026-10-05T00:00:00Z").keys() == always
    assert call(reference, "2026-10-05T00:00:00Z", 0).keys() == always | {"why"}


def test_numbers() -> None:
    """Half up is by magnitude; times of RFC 3339 have an offset."""
    assert [half_up(Fraction(number, 2)) for number in (-3, -1, 1, 3)] == [-2, -1, 1, 2]
    assert instant("2026-11-05T10:00:00.1239+02:00") == ms("2026-11-05T08:00:00.123Z")
    assert instant("2026-11-05T10:00:00") is None
    assert instant("2026-02-30T10:00:00Z") is None


def test_a_period_of_thousands_of_years_does_not_end() -> None:
    """A stop that no calendar has is later than any other, and earlier than none."""
    reference = world("99999 years", start="2026-10-01T00:00:00Z")
    given = {"id": "2", "client": "42", "package": "Q", "start_date": "2026-10-01", "activate_in_past": True}
    endless = catalog(None)["packages"][0] | {"id": "Q"}
    reference.load({"packages": [endless], "client_packages": [given]}, ms("2026-09-15T00:00:00Z"), 2)
    (draw,) = call(reference, "2026-11-05T00:00:00Z")["draws"]
    assert (draw["client_package"], draw["period"]) == ("1", 1)


def test_the_same_length_in_other_words_is_no_change() -> None:
    """`1 months` is `1 month`: periods from the 31st do not begin to drift."""
    reference = world(start="2026-10-31T00:00:00Z", at="2026-10-31T00:00:00Z")
    reference.load(catalog("1 months", start="2026-10-31T00:00:00Z"), ms("2026-11-05T00:00:00Z"), 2)
    assert starts(reference, 3) == ["2026-10-31T00:00", "2026-11-30T00:00", "2026-12-31T00:00"]


def test_an_end_date_cuts_the_period_that_runs() -> None:
    """An end date that a later load gives holds for calls rated from then on."""
    reference = world(start="2026-10-01T00:00:00Z")
    assert drawn(reference, "2026-10-20T00:00:00Z") == [(1, "60", "540")]
    ended = catalog(start="2026-10-01T00:00:00Z", of_client_package={"end_date": "2026-10-15T00:00:00Z"})
    reference.load(ended, ms("2026-10-10T00:00:00Z"), 2)
    assert drawn(reference, "2026-10-14T23:59:59Z") == [(1, "60", "480")]
    assert drawn(reference, "2026-10-15T00:00:00Z") == []


def test_names_are_compared_as_people_read_them() -> None:
    """Case, blanks and look-alike forms make no other code name; tables and decks are replaced as a whole."""
    file = catalog(start="2026-10-01T00:00:00Z")
    file["code_decks"] = [{"name": "a-z", "codes": {"1": " North\u00a0 AMERICA"}}]
    file["rate_tables"][0]["code_deck"] = "A-Z "
    limit = {"id": "m", "type": "volume", "code_deck": "a-z", "code_name": "north america", "limit": 10}
    file["packages"][0]["limits"] = [limit]
    reference = Reference()
    reference.load(file, ms("2026-09-15T00:00:00Z"), 1)
    assert drawn(reference, "2026-10-20T00:00:00Z") == [(1, "60", "540")]
    reference.load({"code_decks": [{"name": "a-z", "codes": {"2": "Asia"}}]}, ms("2026-10-20T00:00:00Z"), 2)
    value = call(reference, "2026-10-20T00:01:00Z")
    assert (value["code_name"], value["draws"], value["catalog"]) == (None, [], 2)


def test_a_load_that_names_a_table_replaces_it() -> None:
    """A code that the new table lacks has no rate any more, for a repeat of what was rated neither."""
    reference = world(start="2026-10-01T00:00:00Z")
    record = {"id": "a", "called": "12", "answered_at": "2026-10-20T00:00:00Z", "orig": {"client": "42"}}
    raw = json.dumps({**record, "duration_ms": 1000}).encode()
    other = json.dumps({**record, "duration_ms": 1000, "id": "b"}).encode()
    now = ms("2026-10-20T00:01:00Z")
    assert [ended["outcome"] for ended in reference.rate(raw, now)] == ["transaction"]
    table = {"name": "t", "currency": "USD", "rates": [{"code": "2", "price": "1"}]}
    reference.load({"rate_tables": [table]}, now, 2)
    assert [ended.get("reason") for ended in reference.rate(raw, now)] == ["rate_missing"]
    assert [ended.get("reason") for ended in reference.rate(other, now)] == ["rate_missing"]


def test_networks_of_both_kinds() -> None:
    """A rule's network may be IPv4 or IPv6, or one address; what is no address is in none."""
    file = catalog(start=None)
    networks = {"a": "203.0.113.0/24", "b": "2001:db8::/32", "c": "198.51.100.7"}
    file["clients"] += [{**file["clients"][0], "id": name} for name in networks]
    file["identification"] = [
        {"side": "orig", "ip": network, "client": name} for name, network in networks.items()
    ]
    reference = Reference()
    reference.load(file, ms("2026-09-15T00:00:00Z"), 1)
    found = []
    for address in ("203.0.113.255", "2001:DB8::7", "198.51.100.7", "198.51.100.8", "nowhere"):
        record = {"id": address, "called": "12", "answered_at": "2026-10-20T00:00:00Z", "duration_ms": 1000}
        raw = json.dumps({**record, "orig": {"ip": address}}).encode()
        (ended,) = reference.rate(raw, ms("2026-10-20T00:00:01Z"))
        found.append(ended["value"]["client"] if ended["outcome"] == "transaction" else ended["reason"])
    assert found == ["a", "b", "c", "client_unknown", "client_unknown"]


def test_a_long_caller_is_cut() -> None:
    """Of a caller the transaction has 64 characters."""
    reference = world(start="2026-10-01T00:00:00Z")
    assert call(reference, "2026-10-05T00:00:00Z", caller="1" * 65)["caller"] == "1" * 64


def test_each_lane_has_its_own_time() -> None:
    """What is too old on a lane that saw later records is rated on another; a load moves all lanes."""

    def outcome(reference: Reference, lane: int) -> str:
        record = {"id": str(lane), "called": "12", "answered_at": "2026-10-05T00:00:00Z", "duration_ms": 1000}
        raw = json.dumps({**record, "orig": {"client": "42"}}).encode()
        (ended,) = reference.rate(raw, ms("2026-10-05T00:00:01Z"), lane)
        return str(ended.get("reason", ended["outcome"]))

    reference = Reference()
    reference.load(catalog(start="2026-10-01T00:00:00Z"), ms("2026-09-15T00:00:00Z"), 1)
    assert reference.rate(None, ms("2026-10-13T00:00:00Z"), 0)[0]["reason"] == "malformed"
    assert (outcome(reference, 0), outcome(reference, 1)) == ("too_old", "transaction")
    reference.load({}, ms("2026-10-13T00:00:00Z"), 2)
    assert outcome(reference, 2) == "too_old"


def test_reasons_of_one_record() -> None:
    """Each side that can be read is rejected by itself; what no side can be read of, once."""
    reference = world(start="2026-10-01T00:00:00Z")
    now = ms("2026-10-05T00:00:00Z")
    good = {"called": "12", "answered_at": "2026-10-05T00:00:00Z", "duration_ms": 0, "id": "a"}
    sides = {"orig": {"client": "42"}, "term": {"client": "42", "rate": {"code": "1", "price": 1}}}

    def reasons(raw: bytes) -> list[tuple[Any, Any]]:
        return [(ended["side"], ended.get("reason")) for ended in reference.rate(raw, now)]

    assert reasons(json.dumps({**good, **sides}).encode()) == [("orig", None), ("term", "malformed")]
    both = json.dumps({**good, **sides, "called": 5}).encode()
    assert reasons(both) == [("orig", "malformed"), ("term", "malformed")]
    assert reasons(json.dumps(good).encode()) == [(None, "missing_field")]
    for raw in (b"", b"\xff", b'{"id": NaN}', b'{"id": "\\ud800"}', b"null", b"[" * 60_000):
        assert reasons(raw) == [(None, "malformed")]
