"""Clients as Redis keeps them: what loads make of them, and their periods (RULES.md section 4)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lives import lived

from rater.core.amounts import LIMIT
from rater.core.bucket.messages import bucket_of
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import (
    AccountSpec,
    ClientEntry,
    ClientPackageSpec,
    ClientSpec,
    Content,
    PackageHistory,
    PackageSpec,
)
from rater.core.clients.loading import load_change
from rater.core.clients.periods import Period, period_around, period_of
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, read_state, write_state
from rater.core.clients.views import ClientView
from rater.core.offline import Rater, Transaction
from rater.core.periods import canonical_when, when_ms, zone_of
from rater.core.zones import installed

DAY_MS = 86_400_000


def at(text: str, zone: str = "UTC") -> int:
    """Return the instant of a date or time."""
    return when_ms(canonical_when(text), zone_of(zone))


LOADED = at("2026-11-10T12:00:00Z")


def catalog_of(*versions: tuple[int, PackageSpec], number: int = 1) -> Catalog:
    """Return a catalog of one package, "1"."""
    history = PackageHistory(list(versions), [(0, "active")], assigned=True)
    return compile_catalog(Content(base="USD", packages={"1": history}, zones=[installed()]), number)


def package(**fields: Any) -> PackageSpec:
    """Return package "1"."""
    return PackageSpec(**{"id": "1", "name": "n", "type": "customer", "currency": "USD", **fields})


MONTHLY = catalog_of((0, package(period="1 month")))


def client(**fields: Any) -> ClientSpec:
    """Return client "42"."""
    return ClientSpec(**{"id": "42", "currency": "USD", "time_zone": "Europe/Kyiv", **fields})


def held(**fields: Any) -> ClientPackageSpec:
    """Return client package "3" of client "42", of package "1"."""
    return ClientPackageSpec(**{"id": "3", "client": "42", "package": "1", **fields})


def apply_entry(state: ClientState | None, entry: ClientEntry, catalog: Catalog, at_ms: int) -> ClientState:
    """Return the client that a load makes, what is due until then done before; the same one for nothing."""
    while (change := load_change(state, entry, catalog, at_ms=at_ms, cause=Cause("load"))) is not None:
        more, state = state is not None and change.due_by(at_ms), read_state(change.write.state)
        if not more:
            return state
    assert state is not None
    return state


def register_of(
    *specs: ClientPackageSpec, catalog: Catalog = MONTHLY, at_ms: int = LOADED, **fields: Any
) -> ClientState:
    """Return the new client that one load makes."""
    return apply_entry(None, ClientEntry("42", client(**fields), list(specs)), catalog, at_ms)


def period(of: ClientView | ClientState, catalog: Catalog, at_ms: int) -> Period | None:
    """Return the period of the client's first client package that holds an instant."""
    seen = ClientView(lived(of.state if isinstance(of, ClientView) else of, catalog, at_ms))
    return period_of(seen.state, seen.packages[0], catalog.packages["1"], at_ms)


def bounds(found: Period | None) -> tuple[int, str, str | None] | None:
    """Return number, start and stop as text."""
    if found is None:
        return None
    return found.number, text(found.start_ms), None if found.stop_ms is None else text(found.stop_ms)


def text(at_ms: int) -> str:
    """Return an instant as text."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%MZ")


# ------------------------------------------------------------------------------------------------------ loads
def test_a_register_is_written_and_read() -> None:
    """What Redis keeps is what was written, byte for byte the same for the same client."""
    state = register_of(
        held(end_date="2027-01-01"), balance=5, accounts=[AccountSpec("a", {"orig": {"calls": "retail"}})]
    )
    raw = write_state(state)
    assert read_state(raw) == state
    assert write_state(read_state(raw)) == raw
    with pytest.raises(msgspec.MsgspecError):
        read_state(b"\x01")


def test_a_load_of_a_new_client_is_one_change() -> None:
    """It makes version 1 of one that must not exist, with its opening balance as one adjustment."""
    change = load_change(
        None,
        ClientEntry("42", client(balance=5), [held()]),
        MONTHLY,
        at_ms=LOADED,
        cause=Cause("load", "anna"),
    )
    assert change is not None
    write = change.write
    assert (write.client, write.expected, write.version, write.delta, write.counters) == ("42", 0, 1, 5, [])
    assert write.state == write_state(register_of(held(), balance=5))
    assert (write.least, write.most) == (-LIMIT, LIMIT - 5)
    ((kind, amount, value, _),) = change.transactions
    assert (kind, amount) == ("adjustment", 5)
    assert [event.type for event in change.events] == ["assigned", "activated"]
    said = json.loads(value)
    assert (said["id"], said["amount"], said["actor"]) == ("adjust/42/opening", "0.000005", "anna")


def test_a_load_of_a_known_client_moves_no_money() -> None:
    """Its version rises by one and its balance stays, whatever the row says; else there is no change."""
    state = register_of(held(), balance=5)
    asked: dict[str, Any] = {"catalog": MONTHLY, "at_ms": LOADED, "cause": Cause("load", "anna")}
    renamed = load_change(state, ClientEntry("42", client(name="Rose", balance=9), []), **asked)
    assert renamed is not None
    assert (renamed.write.expected, renamed.write.version, renamed.write.delta) == (1, 2, 0)
    assert renamed.transactions == ()
    assert load_change(state, ClientEntry("42", client(balance=9), [held()]), **asked) is None


@pytest.mark.parametrize("packages", [[], [held()]], ids=["alone", "with a package"])
@pytest.mark.parametrize("known", [False, True])
def test_a_time_zone_that_there_is_not(packages: list[Any], known: bool) -> None:  # noqa: FBT001
    """No client gets it, new or not, whatever else is asked: its calls could not be rated."""
    state = register_of(*packages) if known else None
    entry = ClientEntry("42", client(time_zone="Nowhere"), packages)
    with pytest.raises(ValueError, match="no such time zone"):
        load_change(state, entry, MONTHLY, at_ms=LOADED, cause=Cause("load"))


@pytest.mark.parametrize(("there", "opening"), [(LIMIT, 1), (-LIMIT, -1), (2**60, 5), (LIMIT - 4, 5)])
def test_an_opening_balance_has_to_fit(there: int, opening: int) -> None:
    """Where a known balance leaves no room the load is refused; the condition says the same to the bucket."""
    entry = ClientEntry("42", client(balance=opening), [])
    change = load_change(None, entry, MONTHLY, at_ms=LOADED, cause=Cause("load"))
    assert change is not None
    assert not change.write.least <= there <= change.write.most
    with pytest.raises(ValueError, match="cannot be added"):
        load_change(None, entry, MONTHLY, at_ms=LOADED, cause=Cause("load"), known=Known(there))


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(1, 64))
def test_the_bucket_is_the_checksum_of_the_id(client_id: str, buckets: int) -> None:
    """A client's bucket is CRC-32 of its id modulo the number of buckets: others compute it too."""
    assert bucket_of(client_id, buckets) == crc32(client_id.encode()) % buckets


def test_a_new_client_has_what_the_load_says() -> None:
    """A new client is version 1, needs the catalog that it came with, and opens with its balance."""
    catalog = catalog_of((0, package()), number=17)
    state = register_of(
        catalog=catalog,
        name="Rose",
        balance=50,
        credit_limit=7,
        low_balance=5,
        accounts=[AccountSpec("sip-1")],
    )
    assert (state.version, state.catalog, state.opening) == (1, 17, 50)
    assert (state.name, state.currency, state.zone) == ("Rose", "USD", "Europe/Kyiv")
    assert (state.credit_limit, state.low_balance, state.accounts) == (7, 5, {"sip-1": {}})


def test_an_entry_for_nobody_is_an_error() -> None:
    """A client package needs its client: there, or brought along."""
    with pytest.raises(ValueError, match="does not exist"):
        apply_entry(None, ClientEntry("42", None, [held()]), MONTHLY, LOADED)


def test_the_same_entry_again_changes_nothing() -> None:
    """The same row changes no version; nor does another balance, or a row without the accounts."""
    state = register_of(held(), balance=5, accounts=[AccountSpec("a")])
    for spec in (client(balance=5, accounts=[AccountSpec("a")]), client(balance=9), None):
        entry = ClientEntry("42", spec, [held()])
        assert apply_entry(state, entry, MONTHLY, LOADED + DAY_MS) is state


def test_a_change_is_a_new_version_of_the_client() -> None:
    """Changed fields are taken, accounts are added, the old register stays as it was."""
    state = register_of(held(), accounts=[AccountSpec("a"), AccountSpec("b")])
    before = write_state(state)
    spec = client(name="New", accounts=[AccountSpec("b", {"orig": {"calls": "r"}}), AccountSpec("c")])
    changed = apply_entry(state, ClientEntry("42", spec), catalog_of((0, package()), number=2), LOADED)
    assert (changed.version, changed.catalog, changed.name) == (2, 2, "New")
    assert changed.accounts == {"a": {}, "b": {"orig": {"calls": "r"}}, "c": {}}
    assert changed.packages == state.packages
    assert write_state(state) == before


def test_what_is_assigned_keeps_all_but_its_end() -> None:
    """Two loads at once may disagree: of a client package that is there only the end date changes."""
    state = register_of(held(quantity=2))
    entry = ClientEntry("42", None, [held(quantity=5, end_date="2026-12-01"), held(id="4")])
    changed = apply_entry(state, entry, MONTHLY, LOADED)
    assert [(of.id, of.quantity, of.end_ms) for of in changed.packages] == [
        ("3", 2, at("2026-12-01", "Europe/Kyiv")),
        ("4", 1, None),
    ]
    assert state.packages[0].end_ms is None


def test_a_client_package_of_nothing_is_left_out() -> None:
    """A package that the catalog lacks is not assigned; the rest of the entry is."""
    state = register_of(held(package="77"), held(id="4"))
    assert [of.id for of in state.packages] == ["4"]


def test_the_accounts_table_replaces_the_clients() -> None:
    """An account's table replaces the client's for its side and service; else the client's holds."""
    seen = ClientView(
        register_of(
            rate_tables={"orig": {"calls": "retail", "data": "bytes"}},
            accounts=[AccountSpec("a", {"orig": {"calls": "special"}}), AccountSpec("b")],
        )
    )
    assert seen.table_name("a", "orig", "calls") == "special"
    assert seen.table_name("a", "orig", "data") == "bytes"
    assert seen.table_name("b", "orig", "calls") == seen.table_name(None, "orig", "calls") == "retail"
    assert seen.table_name("a", "term", "calls") is None
    assert [name in seen.accounts for name in ("a", "c")] == [True, False]


# ---------------------------------------------------------------------------------------------------- starts
@pytest.mark.parametrize(
    ("start", "in_past", "package_start", "first"),
    [
        (None, False, None, "2026-11-10T12:00Z"),
        (None, True, None, "2026-11-10T12:00Z"),
        ("2026-11-01", False, None, "2026-11-10T12:00Z"),
        ("2026-11-01", True, None, "2026-10-31T22:00Z"),
        ("2026-11-20", False, None, "2026-11-19T22:00Z"),
        ("2026-11-20", True, None, "2026-11-19T22:00Z"),
        ("2026-11-01T00:00:00Z", True, None, "2026-11-01T00:00Z"),
        ("2026-11-01", True, "2026-11-05", "2026-11-04T22:00Z"),
        ("2026-11-01", False, "2026-11-20", "2026-11-19T22:00Z"),
        (None, True, "2026-11-05", "2026-11-04T22:00Z"),
    ],
)
def test_the_first_period_starts(
    start: str | None,
    in_past: bool,  # noqa: FBT001
    package_start: str | None,
    first: str,
) -> None:
    """At the latest of the assignment's start, the package's and, unless activated in the past, the load."""
    catalog = catalog_of((0, package(period="1 month", start_date=package_start)))
    state = register_of(held(start_date=start, activate_in_past=in_past), catalog=catalog)
    assert text(state.packages[0].start_ms) == first


def test_instants_are_whole_seconds() -> None:
    """A load at 12:00:00.999 assigns at 12:00:00."""
    state = register_of(held(), at_ms=LOADED + 999)
    assert (state.packages[0].start_ms, state.packages[0].assigned_ms) == (LOADED, LOADED)


def test_a_bare_date_is_the_clients_also_when_the_zone_changes_with_it() -> None:
    """The zone that a load gives holds for the dates of the same load."""
    entry = ClientEntry("42", client(time_zone="America/New_York"), [held(start_date="2026-12-01")])
    changed = apply_entry(register_of(), entry, MONTHLY, LOADED)
    assert text(changed.packages[0].start_ms) == "2026-12-01T05:00Z"


# --------------------------------------------------------------------------------------------------- periods
def test_periods_are_at_the_client() -> None:
    """Period n begins n-1 months after the anchor, on the client's clock, across the change of clocks."""
    state = register_of(held(start_date="2026-10-01", activate_in_past=True))
    assert bounds(period(state, MONTHLY, at("2026-10-31T21:59:59Z"))) == (
        1, "2026-09-30T21:00Z", "2026-10-31T22:00Z",
    )  # fmt: skip
    assert bounds(period(state, MONTHLY, at("2026-10-31T22:00:00Z"))) == (
        2, "2026-10-31T22:00Z", "2026-11-30T22:00Z",
    )  # fmt: skip
    assert period(state, MONTHLY, at("2026-09-30T20:59:59Z")) is None


def test_where_the_last_of_several_periods_is_counted_from_is_kept() -> None:
    """Of several that are opened at once, too, the last one may be taken back: then the one before counts."""
    (one,) = register_of(held(start_date="2026-10-01", activate_in_past=True)).packages
    assert one.life is not None
    assert len(one.life.periods) > 1
    assert one.life.counted is not None
    assert one.life.uncounted is not None
    assert one.life.uncounted.place == one.life.counted.place - 1


@pytest.mark.parametrize(
    ("own", "packages", "stop"),
    [
        ("2026-12-10", None, "2026-12-09T22:00Z"),
        (None, "2026-12-10", "2026-12-09T22:00Z"),
        ("2026-12-05", "2026-12-10", "2026-12-04T22:00Z"),
        ("2026-12-10", "2026-12-05", "2026-12-04T22:00Z"),
    ],
)
def test_the_earlier_end_bounds_the_last_period(own: str | None, packages: str | None, stop: str) -> None:
    """A period is bounded by the earlier end date of package and client package; none holds from it on."""
    catalog = catalog_of((0, package(period="1 month", end_date=packages)))
    state = register_of(held(start_date="2026-11-01", activate_in_past=True, end_date=own), catalog=catalog)
    assert bounds(period(state, catalog, at("2026-12-02"))) == (2, "2026-11-30T22:00Z", stop)
    assert period(state, catalog, at("2026-12-10")) is None


def test_without_period_it_runs_once_until_its_end() -> None:
    """A package without period has one period, also when it gets a period later: it is not renewed."""
    catalog = catalog_of((0, package()), (at("2026-12-01"), package(period="1 day")))
    state = register_of(held(), catalog=catalog)
    assert bounds(period(state, catalog, at("2028-01-01"))) == (1, "2026-11-10T12:00Z", None)


def test_a_period_keeps_the_version_that_it_opened_with() -> None:
    """What a period grants and costs is that of its opening; the other settings are those of the catalog."""
    edited = at("2026-12-15")
    catalog = catalog_of((0, package(period="1 month")), (edited, package(period="1 month", priority=7)))
    state = register_of(held(start_date="2026-11-01", activate_in_past=True), catalog=catalog)
    for day, version in (("2026-11-05", 0), ("2026-12-31T21:59:59Z", 0), ("2026-12-31T22:00:00Z", 1)):
        found = period(state, catalog, at(day))
        assert found is not None
        assert found.version is catalog.packages["1"].versions[version], day
        assert found.latest.priority == 7, day


@pytest.mark.parametrize("span", [None, "1 month"])
def test_the_dates_of_a_package_are_those_of_the_catalog(span: str | None) -> None:
    """Edited dates bound every period, opened or not: nothing before the start, nothing from the end on."""
    catalog = catalog_of(
        (0, package(period=span)),
        (at("2026-11-20"), package(period=span, start_date="2026-11-05", end_date="2026-11-25")),
    )
    state = register_of(held(start_date="2026-11-01", activate_in_past=True), catalog=catalog)
    assert period(state, catalog, at("2026-11-04T21:59:59Z")) is None
    for day in ("2026-11-04T22:00:00Z", "2026-11-24T21:59:59Z"):
        assert bounds(period(state, catalog, at(day))) == (1, "2026-11-04T22:00Z", "2026-11-24T22:00Z")
    assert period(state, catalog, at("2026-11-24T22:00:00Z")) is None


def test_an_earlier_start_of_a_package_moves_no_anchor() -> None:
    """A client package that is assigned starts when it was assigned to: an earlier package adds nothing."""
    catalog = catalog_of(
        (0, package(period="1 month", start_date="2026-12-01")),
        (at("2026-11-20"), package(period="1 month", start_date="2026-11-01")),
    )
    state = register_of(held(), catalog=catalog)
    assert period(state, catalog, at("2026-11-25")) is None
    assert bounds(period(state, catalog, at("2026-12-05"))) == (
        1,
        "2026-11-30T22:00Z",
        "2026-12-31T22:00Z",
    )


_EDITED = """
currencies: {base: USD}
rate_tables: [{name: r, currency: USD, rates: [{code: "1", price: "0.06", setup_fee: "0.05"}]}]
packages: [
  {id: "1", name: Old, type: customer, currency: USD, FIRST limits: [
    {id: m, type: volume, service: calls, code: "1", limit: SIZE}]},
  {id: "2", name: Other, type: customer, currency: USD, priority: 5, limits: [
    {id: m, type: volume, service: calls, code: "1", limit: 100}]}]
clients: [{id: "42", currency: USD, balance: "-1.00", rate_tables: {orig: {calls: r}}}]
client_packages: [
  {id: "3", client: "42", package: "1", start_date: 2026-11-01T00:00:00Z, activate_in_past: true},
  {id: "4", client: "42", package: "2", start_date: 2026-11-01T00:00:00Z, activate_in_past: true}]
"""


def drawn(rater: Rater, instant: str, key: str) -> tuple[str, list[tuple[str, str, int, str | None, str]]]:
    """Rate a call of a minute; return its amount, and of each draw package, name, period, tag and left."""
    record = {
        "id": key, "called": "1", "duration_ms": 60_000, "answered_at": instant, "orig": {"client": "42"},
    }  # fmt: skip
    (ended,) = rater.rate(msgspec.json.encode(record), at("2026-11-30T00:00:00Z"))
    assert isinstance(ended, Transaction), ended
    found = msgspec.json.decode(ended.value)
    draws = [
        (one["client_package"], one["package_name"], one["period"], one["tag"], one["left"])
        for one in found["draws"]
    ]
    return found["amount"], draws


@pytest.mark.parametrize("span", ["", "period: 1 month,"])
def test_an_edited_package_has_its_new_settings_in_the_periods_that_run(span: str) -> None:
    """Priority, tag, name and setup fee rule are the catalog's, for earlier calls too; limits stay."""
    rater = Rater(30 * DAY_MS)
    old = _EDITED.replace("FIRST", span).replace("SIZE", "10")
    settings_ = f"{span} priority: 9, dynamic_tag: vip, setup_fee: dont_charge,"
    new = _EDITED.replace("Old", "New").replace("FIRST", settings_).replace("SIZE", "50")
    assert rater.load([("a.yaml", old.encode())], at("2026-11-01")) == []

    assert drawn(rater, "2026-11-10T00:00:00Z", "a") == ("-0.05", [("3", "Old", 1, None, "540")])
    assert rater.load([("b.yaml", new.encode())], at("2026-11-15")) == []
    assert drawn(rater, "2026-11-20T00:00:00Z", "b") == ("-0.05", [("4", "Other", 1, None, "5940")])
    ended = new.replace("priority: 5,", "priority: 5, end_date: 2026-11-18,")
    assert rater.load([("c.yaml", ended.encode())], at("2026-11-16")) == []
    for key, instant, left in (("c", "2026-11-20T00:00:00Z", "480"), ("d", "2026-11-18T00:00:00Z", "420")):
        assert drawn(rater, instant, key) == ("0", [("3", "New", 1, "vip", left)])
    assert drawn(rater, "2026-11-17T23:59:59Z", "e")[1] == [("4", "Other", 1, None, "5880")]


def test_the_order_follows_the_end_dates_of_the_catalog() -> None:
    """An edited end date bounds the period that runs, and so its place by expiration."""
    rater = Rater(30 * DAY_MS)
    old = _EDITED.replace("FIRST", "priority: 5,").replace("SIZE", "10")
    assert rater.load([("a.yaml", old.encode())], at("2026-11-01")) == []
    assert drawn(rater, "2026-11-20T00:00:00Z", "a")[1] == [("3", "Old", 1, None, "540")]
    new = old.replace("name: Other,", "name: Other, end_date: 2026-11-28,")
    assert rater.load([("b.yaml", new.encode())], at("2026-11-15")) == []
    assert drawn(rater, "2026-11-20T00:00:00Z", "b")[1] == [("4", "Other", 1, None, "5940")]


def test_an_archived_package_bounds_the_period_that_runs() -> None:
    """Nobody has cancelled the client package yet, and its period stops when the package was archived."""
    state = register_of(held(start_date="2026-11-01", activate_in_past=True))
    for archived, bound in (("2026-11-15", "2026-11-15"), ("2026-11-02", "2026-11-10T12:00:00Z")):
        history = PackageHistory(
            [(0, package(period="1 month"))], [(0, "active"), (at(archived), "archived")], assigned=True
        )
        catalog = compile_catalog(Content(base="USD", packages={"1": history}, zones=[installed()]), 2)
        found = period_of(state, state.packages[0], catalog.packages["1"], at(bound) - 1)
        assert found is not None
        assert found.stop_ms == at(bound)
        assert period_of(state, state.packages[0], catalog.packages["1"], at(bound)) is None


def test_an_edited_client_balance_rule_holds_at_once() -> None:
    """A period that runs is passed over for its balance as the catalog says, not its opening."""
    rater = Rater(30 * DAY_MS)
    allow = _EDITED.replace("FIRST", "client_balance: allow,").replace("SIZE", "10")
    deny = _EDITED.replace("FIRST", "client_balance: deny,").replace("SIZE", "10")
    found = []
    for day, catalog in (("2026-11-01", allow), ("2026-11-15", deny), ("2026-11-16", allow)):
        assert rater.load([("a.yaml", catalog.encode())], at(day)) == []
        found.append([held for held, *_ in drawn(rater, "2026-11-10T00:00:00Z", day)[1]])
    assert found == [["4"], ["3"], ["4"]]


@settings(deadline=None)
@given(
    span=st.sampled_from([None, "1 day", "1 month"]),
    dates=st.lists(
        st.tuples(*[st.none() | st.integers(1, 28).map(lambda day: f"2026-11-{day:02d}")] * 2), max_size=3
    ),
    end=st.none() | st.integers(1, 28).map(lambda day: f"2026-11-{day:02d}"),
    hour=st.integers(-48, 31 * 24),
)
def test_the_span_around_an_instant_is_of_one_period(
    span: str | None, dates: list[tuple[str | None, str | None]], end: str | None, hour: int
) -> None:
    """In the whole of [from, until) the period, or that there is none, is that of the instant."""
    catalog = catalog_of(
        (0, package(period=span)),
        *(
            (at(f"2026-11-{9 + n:02d}"), package(period=span, start_date=begin, end_date=stop))
            for n, (begin, stop) in enumerate(dates)
        ),
    )
    state = register_of(held(start_date="2026-11-01", activate_in_past=True, end_date=end), catalog=catalog)
    moved = apply_entry(
        state, ClientEntry("42", client(time_zone="America/New_York")), catalog, at("2026-11-12")
    )
    for of in (ClientView(state), ClientView(moved)):
        instant = at("2026-11-01") + hour * 3_600_000
        of = ClientView(lived(of.state, catalog, instant))  # noqa: PLW2901
        found, since, until = period_around(of.state, of.packages[0], catalog.packages["1"], instant)
        assert since <= instant < until
        for other in (max(since, instant - 100 * DAY_MS), min(until - 1, instant + 100 * DAY_MS)):
            assert period_of(of.state, of.packages[0], catalog.packages["1"], other) == found


def test_periods_opened_in_the_past_have_the_version_of_the_assignment() -> None:
    """Activation in the past opens the elapsed periods when it is done, so by the package as it is then."""
    catalog = catalog_of(
        (0, package(period="1 month")), (at("2026-11-05"), package(period="10 days", priority=7))
    )
    state = register_of(held(start_date="2026-10-01", activate_in_past=True), catalog=catalog)
    found = period(state, catalog, at("2026-10-15"))
    assert bounds(found) == (2, "2026-10-10T21:00Z", "2026-10-20T21:00Z")
    assert found is not None
    assert found.version.priority == 7


def test_a_changed_length_holds_from_the_next_renewal() -> None:
    """The next renewal is still when it was; its start becomes the anchor, and numbers go on."""
    catalog = catalog_of((0, package(period="1 month")), (at("2026-12-15"), package(period="10 days")))
    state = register_of(held(start_date="2026-11-01", activate_in_past=True), catalog=catalog)
    wanted = [
        ("2026-12-20", (2, "2026-11-30T22:00Z", "2026-12-31T22:00Z")),
        ("2027-01-05", (3, "2026-12-31T22:00Z", "2027-01-10T22:00Z")),
        ("2027-01-15", (4, "2027-01-10T22:00Z", "2027-01-20T22:00Z")),
    ]
    assert [bounds(period(state, catalog, at(day))) for day, _ in wanted] == [found for _, found in wanted]


@pytest.mark.parametrize(
    ("edited", "version", "stop"),
    [
        ("2026-11-30T21:59:59Z", 1, "2026-12-01T22:00Z"),
        ("2026-11-30T22:00:00Z", 0, "2026-12-31T22:00Z"),
        ("2026-11-30T22:00:01Z", 0, "2026-12-31T22:00Z"),
    ],
)
def test_a_load_comes_after_what_is_due_at_its_instant(edited: str, version: int, stop: str) -> None:
    """A renewal at the very instant of a load is done before it: the load holds from the next one."""
    catalog = catalog_of((0, package(period="1 month")), (at(edited), package(period="1 day")))
    state = register_of(held(start_date="2026-11-01", activate_in_past=True), catalog=catalog)
    found = period(state, catalog, at("2026-12-01"))
    assert bounds(found) == (2, "2026-11-30T22:00Z", stop)
    assert found is not None
    assert found.version is catalog.packages["1"].versions[version]


def test_what_a_load_assigns_opens_with_what_it_brings() -> None:
    """A package that is edited and assigned by one load opens as edited, and in the zone of that load."""
    catalog = catalog_of((0, package()), (LOADED, package(period="1 day")))
    state = register_of(catalog=catalog)
    entry = ClientEntry("42", client(time_zone="America/New_York"), [held()])
    state = apply_entry(state, entry, catalog, LOADED)
    assert bounds(period(state, catalog, LOADED)) == (1, "2026-11-10T12:00Z", "2026-11-11T12:00Z")
    assert bounds(period(state, catalog, at("2027-03-20"))) == (
        130, "2027-03-19T11:00Z", "2027-03-20T11:00Z",
    )  # fmt: skip


def test_a_changed_zone_holds_from_the_next_renewal() -> None:
    """The period that runs ends when it would have; then the new zone's clock counts from there."""
    state = register_of(held(start_date="2026-11-01", activate_in_past=True))
    moved = apply_entry(
        state, ClientEntry("42", client(time_zone="America/New_York")), MONTHLY, at("2026-11-15")
    )
    wanted = [
        ("2026-11-20", (1, "2026-10-31T22:00Z", "2026-11-30T22:00Z")),
        ("2026-12-20", (2, "2026-11-30T22:00Z", "2026-12-30T22:00Z")),  # 17:00 on the 30th in New York
        ("2027-04-15", (6, "2027-03-30T21:00Z", "2027-04-30T21:00Z")),  # summer time there
    ]
    assert [bounds(period(moved, MONTHLY, at(day))) for day, _ in wanted] == [found for _, found in wanted]


def test_a_package_ends_at_the_midnight_of_the_period_that_it_cuts() -> None:
    """A changed zone moves no end of a period that runs, so a late call finds the period that it was in."""
    catalog = catalog_of((0, package(end_date="2026-12-01")))
    state = register_of(held(start_date="2026-11-01", activate_in_past=True), catalog=catalog)
    moved = apply_entry(
        state, ClientEntry("42", client(time_zone="America/New_York")), catalog, at("2026-11-15")
    )
    for of in (state, moved):
        assert bounds(period(of, catalog, at("2026-11-20"))) == (1, "2026-10-31T22:00Z", "2026-11-30T22:00Z")
        assert period(of, catalog, at("2026-11-30T22:00:00Z")) is None


def test_a_late_call_is_in_the_last_period_after_the_zone_was_changed() -> None:
    """A call after the end does not make rating forget how long the period ran in the earlier zone."""
    catalog = """
currencies: {base: USD}
rate_tables: [{name: r, currency: USD, rates: [{code: "1", price: "1"}]}]
packages: [{id: "1", name: n, type: customer, currency: USD, end_date: 2026-12-01, limits: [
  {type: volume, service: calls, code: "1", limit: 100}]}]
clients: [{id: "42", currency: USD, time_zone: ZONE, rate_tables: {orig: {calls: r}}}]
client_packages: [{id: "3", client: "42", package: "1"}]
"""
    rater = Rater()
    for zone, day in (("America/New_York", "2026-11-10"), ("Europe/Kyiv", "2026-11-20")):
        assert rater.load([("c.yaml", catalog.replace("ZONE", zone).encode())], at(day)) == []
    amounts = []
    for number, instant in enumerate(("2026-12-01T05:00:00Z", "2026-12-01T04:59:59Z")):
        record = {
            "id": str(number), "called": "1", "duration_ms": 60_000, "answered_at": instant,
            "orig": {"client": "42"},
        }  # fmt: skip
        (ended,) = rater.rate(msgspec.json.encode(record), at("2026-12-01T06:00:00Z"))
        assert isinstance(ended, Transaction)
        amounts.append(msgspec.json.decode(ended.value)["amount"])
    assert len(amounts) == 2
    assert amounts[0] != "0"
    assert amounts[1] == "0"


@pytest.mark.parametrize(
    ("own", "of_package", "later"),
    [
        ("2026-04-24", None, "2026-05-23T21:00Z"),
        (None, "2026-04-24", "2026-05-23T21:00Z"),
        ("2026-04-20", "2026-04-24", "2026-05-23T21:00Z"),
        ("2026-04-23T22:00:00Z", "2026-04-20", "2026-05-23T22:00Z"),  # 01:00, and so at 01:00 each month
    ],
)
def test_a_midnight_that_does_not_exist_moves_only_its_own_period(
    own: str | None, of_package: str | None, later: str
) -> None:
    """In Cairo 24 April 2026 begins at 01:00: later months begin at 00:00, unless 01:00 was asked for."""
    catalog = catalog_of((0, package(period="1 month", start_date=of_package)))
    state = register_of(
        held(start_date=own), catalog=catalog, at_ms=at("2026-04-10"), time_zone="Africa/Cairo"
    )
    assert bounds(period(state, catalog, at("2026-04-25"))) == (1, "2026-04-23T22:00Z", later)
    following = period(state, catalog, at("2026-05-25"))
    assert following is not None
    assert (following.number, text(following.start_ms)) == (2, later)


def test_a_zone_that_changes_before_the_first_period_makes_its_start_the_anchor() -> None:
    """The date was asked for in Kyiv; in Beirut that instant is 01:00, for it has no midnight."""
    state = register_of(held(start_date="2026-03-29"), at_ms=at("2026-03-10"))
    entry = ClientEntry("42", client(time_zone="Asia/Beirut"))
    state = apply_entry(state, entry, MONTHLY, at("2026-03-20"))
    assert bounds(period(state, MONTHLY, at("2026-04-01"))) == (
        1,
        "2026-03-28T22:00Z",
        "2026-04-28T22:00Z",
    )


def test_a_renewal_in_a_gap_keeps_the_clock_that_was_asked_for() -> None:
    """A changed length counts from the renewal's 00:00, also where that began at 01:00."""
    catalog = catalog_of((0, package(period="1 month")), (at("2026-04-10"), package(period="10 days")))
    state = register_of(
        held(start_date="2026-03-24"), catalog=catalog, at_ms=at("2026-03-10"), time_zone="Africa/Cairo"
    )
    assert bounds(period(state, catalog, at("2026-04-25"))) == (
        2,
        "2026-04-23T22:00Z",
        "2026-05-03T21:00Z",
    )


def test_an_hour_that_comes_twice_is_the_first_of_the_two() -> None:
    """In Havana 2 November 2025 has two midnights: a date asks for the first; elapsed hours count both."""
    for span, stop in (("1 day", "2025-11-03T05:00Z"), ("24 hours", "2025-11-03T04:00Z")):
        catalog = catalog_of((0, package(period=span)))
        state = register_of(
            held(start_date="2025-11-02"), catalog=catalog, at_ms=at("2025-10-10"),
            time_zone="America/Havana",
        )  # fmt: skip
        assert bounds(period(state, catalog, at("2025-11-02T05:30:00Z"))) == (1, "2025-11-02T04:00Z", stop)


def test_two_clients_in_two_zones_have_their_own_midnights() -> None:
    """One package, two clients: each in the period of its own clock at one instant."""
    instant = at("2026-12-01T02:00:00Z")
    numbers = []
    for zone in ("Europe/Kyiv", "America/New_York"):
        state = register_of(held(start_date="2026-11-01", activate_in_past=True), time_zone=zone)
        found = period(state, MONTHLY, instant)
        assert found is not None
        numbers.append(found.number)
    assert numbers == [2, 1]


def test_a_remembered_period_is_not_given_to_another_instant() -> None:
    """Asking back and forth gives the same as asking each time anew."""
    state = register_of(held(start_date="2026-09-01", activate_in_past=True, end_date="2026-12-10"))
    instants = [
        at(day)
        for day in ("2026-10-05", "2026-12-05", "2026-10-05", "2026-08-01", "2026-12-20", "2026-09-05")
    ]
    seen = ClientView(state)
    assert [period(seen, MONTHLY, instant) for instant in instants] == [
        period(state, MONTHLY, instant) for instant in instants
    ]


def test_a_load_opens_all_that_it_assigns() -> None:
    """However many: calls that lie in their periods come before any tick."""
    rows = [held(id=str(number), start_date=text(LOADED), activate_in_past=True) for number in range(70)]
    at_once = register_of(*rows)
    later = apply_entry(register_of(), ClientEntry("42", None, rows), MONTHLY, LOADED + 1000)
    for of in (*at_once.packages, *later.packages):
        assert of.life is not None
        assert len(of.life.periods) == 1


_SPANS = st.sampled_from([None, "1 hour", "24 hours", "1 day", "7 days", "1 month", "3 months", "1 year"])
_ZONES = st.sampled_from(["Europe/Kyiv", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])
_AFTER = st.integers(-60, 400).map(lambda day: LOADED + day * DAY_MS)


@settings(deadline=None)
@given(
    first=_SPANS,
    lengths=st.dictionaries(_AFTER, _SPANS, max_size=3),
    zones=st.dictionaries(
        st.integers(1, 400).map(lambda day: LOADED + day * DAY_MS + 7000), _ZONES, max_size=3
    ),
    start_day=st.integers(-16, 60),
    after=st.integers(0, 500 * DAY_MS),
)
def test_periods_tile_time_whatever_changes(
    first: str | None,
    lengths: dict[int, str | None],
    zones: dict[int, str],
    start_day: int,
    after: int,
) -> None:
    """Under any changes of length and zone, the next period starts where one stops, numbered one more."""
    catalog = catalog_of(
        (0, package(period=first)), *((since, package(period=of)) for since, of in sorted(lengths.items()))
    )
    start = text(LOADED + start_day * DAY_MS).replace("Z", ":00Z")
    state = register_of(held(start_date=start, activate_in_past=True), catalog=catalog)
    for since, zone in sorted(zones.items()):
        state = apply_entry(state, ClientEntry("42", client(time_zone=zone)), catalog, since)
    instant = state.packages[0].start_ms + after
    found = period(state, catalog, instant)
    assert found is not None
    assert found.start_ms <= instant
    assert period(state, catalog, found.start_ms) == found
    if found.stop_ms is None:
        return
    assert instant < found.stop_ms
    assert period(state, catalog, found.stop_ms - 1) == found
    following = period(state, catalog, found.stop_ms)
    assert following is not None
    assert (following.number, following.start_ms) == (found.number + 1, found.stop_ms)


@settings(deadline=None, max_examples=20)
@given(
    first=_SPANS,
    lengths=st.dictionaries(_AFTER, _SPANS, max_size=3),
    later=st.tuples(st.integers(401, 800).map(lambda day: LOADED + day * DAY_MS), _SPANS, _ZONES),
    after=st.integers(0, 400 * DAY_MS),
)
@example(
    "1 hour", {LOADED + 3 * DAY_MS: "3 months"}, (LOADED + 401 * DAY_MS, None, "Asia/Kolkata"), 95 * DAY_MS
)
def test_a_change_touches_no_period_that_has_opened(
    first: str | None, lengths: dict[int, str | None], later: tuple[int, str | None, str], after: int
) -> None:
    """A later length or zone leaves every period as it was that opened before: late calls find it again."""
    versions = [
        (0, package(period=first)),
        *((since, package(period=of)) for since, of in sorted(lengths.items())),
    ]
    since, span, zone = later
    catalog, edited = catalog_of(*versions), catalog_of(*versions, (since, package(period=span)))
    state = register_of(held(), catalog=catalog)
    moved = apply_entry(state, ClientEntry("42", client(time_zone=zone)), edited, since)
    before, now = period(state, catalog, LOADED + after), period(moved, edited, LOADED + after)
    assert before is not None
    assert now is not None
    assert (now.number, now.start_ms, now.stop_ms) == (before.number, before.start_ms, before.stop_ms)
    assert now.version.spec == before.version.spec
