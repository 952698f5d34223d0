"""A slow, plain reference of rating, written from the rules alone: RULES.md (sections) and CONTRACTS.md.

It shares no code with the product, so that its errors are not the product's. Whole numbers and exact
fractions only, one call at a time, nothing remembered but the rows of the catalogs, counters, balances and
duplicates.
Read it beside RULES.md: each function names the section and step that it follows.

Kept in catalogs but not applied here: fees and all that hangs on them (discounts, taxes, funds, charge on
event, alignment), advance renewal, `renew_for`, rollover: life.py adds them. Here every period simply opens
when it is due.

Words used for values: micros = whole millionths of a currency; ms = milliseconds since 1970-01-01 UTC;
a row = an object of the catalog file as it was loaded.
"""

from __future__ import annotations

import calendar
import json
import re
import unicodedata
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from fractions import Fraction
from functools import cache
from importlib.resources import files
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

Row = dict[str, Any]

MICROS = 1_000_000
LARGEST = 2**53
WRAPPED = range(2**32 - 65_536, 2**32)
"""A count below zero that lost its sign: switches count in 32 bits (src/rater/core/README.md)."""
"""Costs, balances and money counters beyond it are refused, of either sign (RULES.md 2.2)."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NEVER_MS = 10**18
MS_DIGITS = 13
"""Of a time in milliseconds, from 2001 to 2286."""
"""An instant after all that a calendar can say, for periods of thousands of years."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIDES = ("orig", "term")
SERVICES = {"calls": 60, "messages": 1, "data": 1024}
"""Service → counting units of one price unit; always there (RULES.md 1)."""


class Rejected(Exception):  # noqa: N818 - it is what becomes of a side, not an error of the program
    """A side cannot be rated: a reason of the closed list, the offending value where its wording is known."""

    def __init__(self, reason: str, value: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        known = isinstance(value, str | int) and not isinstance(value, bool)
        self.value = str(value) if known and len(str(value)) <= 64 else None


# --- Numbers and texts -----------------------------------------------------------------------------------


def half_up(number: Fraction) -> int:
    """Round to a whole number, half up by magnitude: -0.5 → -1 (RULES.md 2.2)."""
    rounded = int(abs(number) + Fraction(1, 2))
    return -rounded if number < 0 else rounded


def round_up(number: Fraction) -> int:
    """Return the smallest whole number that is not below."""
    return -(-number.numerator // number.denominator)


def decimal_text(number: Fraction) -> str:
    """Write a decimal number in its shortest form without exponent: "0.1", "-0.006", "0"."""
    places = 0
    while (number * 10**places).denominator != 1:
        places += 1
    digits = str(abs(number.numerator * 10**places // number.denominator)).rjust(places + 1, "0")
    whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
    return ("-" if number < 0 else "") + whole + ("." + part if part else "")


def money_text(micros: int) -> str:
    """Write micros as a decimal of their currency."""
    return decimal_text(Fraction(micros, MICROS))


def decimal(value: object) -> Fraction:
    """Return a decimal of a catalog exactly, whether quoted or a JSON number."""
    return Fraction(str(value))


def as_read(name: object) -> str:
    """Return a name as people compare it: trimmed, inner blanks folded, without case or look-alike forms."""
    folded = unicodedata.normalize("NFKC", str(name)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def id_order(identifier: str) -> tuple[int, int, str]:
    """Order of ids: numbers as numbers, before all others (RULES.md 2.1, rule 5)."""
    if re.fullmatch(r"[0-9]+", identifier):
        return 0, int(identifier), identifier
    return 1, 0, identifier


# --- Times and zones -------------------------------------------------------------------------------------

RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def instant(text: str) -> int | None:
    """Return a time of RFC 3339 with offset in ms (what is finer is cut off); None for any other text."""
    found = RFC_3339.fullmatch(text)
    if found is None:
        return None
    *numbers, fraction, sign, hours, minutes = found.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    offset = (int(hours) * 60 + int(minutes)) * 60_000 if sign else 0
    if sign and (int(hours) > 23 or int(minutes) > 59):
        return None
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    milliseconds = int((fraction or "0").ljust(3, "0")[:3])
    return to_ms(moment) + milliseconds + (offset if sign == "-" else -offset)


def to_ms(moment: datetime) -> int:
    """Return an instant as ms."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def time_text(ms: int) -> str:
    """Write an instant as transactions do: UTC with milliseconds."""
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache  # the files never change: read for each call they would be nine tenths of the time
def time_zone(name: str) -> ZoneInfo:
    """Return a zone of the package tzdata, never of the machine's own files."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def at_local(local: datetime, zone: tzinfo) -> int:
    """Return when a local time is: in a gap moved forward by it, a repeated hour's first (RULES.md 3)."""
    try:
        return to_ms(local.replace(tzinfo=zone, fold=0).astimezone(UTC))
    except OverflowError:
        return NEVER_MS


def local_at(ms: int, zone: tzinfo) -> datetime:
    """Return the local date and time of an instant."""
    moment = (EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
    return moment.replace(tzinfo=None, fold=0)


def asked(text: str, zone: tzinfo) -> tuple[int, datetime]:
    """Return a catalog's time: its instant, and the local date and time asked for (a bare date: 00:00)."""
    ms = instant(text)
    if ms is not None:
        return ms, local_at(ms, zone)
    midnight = datetime.combine(date.fromisoformat(text), datetime.min.time())
    return at_local(midnight, zone), midnight


def in_utc(text: str | None) -> int | None:
    """Return the instant from or to which a rate counts: a bare date is 00:00 UTC; None: no bound."""
    return None if text is None else asked(text, UTC)[0]


def later(local: datetime, count: int, unit: str) -> datetime | None:
    """Add days or months as calendars do: 31 January + 1 month = 28 February. None: out of reach."""
    if unit == "day":
        try:
            return local + timedelta(days=count)
        except OverflowError:
            return None
    years, month = divmod(local.month - 1 + count, 12)
    year = local.year + years
    if year > 9999:
        return None
    day = min(local.day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day)


# --- The catalog -----------------------------------------------------------------------------------------


class Version(NamedTuple):
    """A row as one load brought it. load: the load's number, for loads of the same second."""

    at_ms: int
    load: int
    row: Row


class Rate(NamedTuple):
    """An identified rate (RULES.md 2, steps 4, 6, 7). table: None where the CDR gave the rate."""

    table: str | None
    code: str
    code_name: str | None
    currency: str
    price: Fraction
    setup_fee: Fraction
    min_time: int
    interval: int
    grace_time: int

    def shown(self) -> Row:
        """Return the transaction's `rate`."""
        return {
            "table": self.table, "currency": self.currency, "price": decimal_text(self.price),
            "setup_fee": decimal_text(self.setup_fee), "min_time": self.min_time, "interval": self.interval,
            "grace_time": self.grace_time,
        }  # fmt: skip


@dataclass
class Catalog:
    """All that was loaded so far. Of packages, clients and client packages every version, oldest first."""

    base: str = "USD"
    currencies: dict[str, list[Row]] = field(default_factory=dict)
    services: dict[str, int] = field(default_factory=lambda: dict(SERVICES))
    decks: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, Row] = field(default_factory=dict)
    rules: list[Row] = field(default_factory=list)
    packages: dict[str, list[Version]] = field(default_factory=dict)
    clients: dict[str, list[Version]] = field(default_factory=dict)
    client_packages: dict[str, list[Version]] = field(default_factory=dict)
    loads: int = 0
    loaded_ms: int = -1

    def load(self, file: Row, at_ms: int) -> None:
        """Insert or update by id or name, tables and decks as a whole; absence deletes nothing."""
        self.loads += 1
        self.loaded_ms = max(self.loaded_ms, at_ms)
        currencies = file.get("currencies") or {}
        self.base = currencies.get("base", self.base)
        for name, given in (currencies.get("rates") or {}).items():
            self.currencies[name] = given if isinstance(given, list) else [{"rate": given}]
        for row in file.get("services") or []:
            self.services[row["name"]] = int(row["price_unit"])
        for row in file.get("code_decks") or []:
            self.decks[as_read(row["name"])] = dict(row["codes"])
        for row in file.get("rate_tables") or []:
            self.tables[row["name"]] = row
        for row in file.get("identification") or []:
            self._put_rule(row)
        for row in file.get("clients") or []:
            self._put(self.clients, self._with_accounts(row))
        for row in file.get("packages") or []:
            self._put(self.packages, row)
        for row in file.get("client_packages") or []:
            self._put(self.client_packages, row)

    def _put(self, kind: dict[str, list[Version]], row: Row) -> None:
        kind.setdefault(row["id"], []).append(Version(self.loaded_ms, self.loads, row))

    def _with_accounts(self, row: Row) -> Row:
        """Keep the client's accounts that the new row does not name: absence deletes nothing."""
        before = self.clients[row["id"]][-1].row["accounts"] if row["id"] in self.clients else []
        accounts = {account["id"]: account for account in [*before, *(row.get("accounts") or [])]}
        return {**row, "accounts": list(accounts.values())}

    def _put_rule(self, row: Row) -> None:
        """A rule has no id: its conditions tell which it is. It keeps its place, new ones come last."""
        conditions = {name: row.get(name) for name in ("side", *CONDITIONS)}
        for place, rule in enumerate(self.rules):
            if {name: rule.get(name) for name in conditions} == conditions:
                self.rules[place] = row
                return
        self.rules.append(row)

    def client(self, identifier: str) -> Row:
        """Return the client's newest row."""
        return self.clients[identifier][-1].row

    def package(self, identifier: str) -> Row:
        """Return the package's newest row."""
        return self.packages[identifier][-1].row

    def owner(self, account: str) -> str | None:
        """Return the client of an account: account ids are unique in the system (RULES.md 2, step 2)."""
        for client, versions in self.clients.items():
            if any(row["id"] == account for row in versions[-1].row["accounts"]):
                return client
        return None

    def code_name(self, deck: str | None, code: str) -> str | None:
        """Return the code's name in a deck, as it is written there."""
        return None if deck is None else self.decks.get(as_read(deck), {}).get(code)

    def active(self, package: str, at_ms: int) -> bool:
        """Tell if the package's status at that time was active; the first one counts from the beginning."""
        versions = self.packages[package]
        until_then = [version for version in versions if version.at_ms <= at_ms] or versions[:1]
        return bool((until_then[-1].row.get("status") or "active") == "active")

    def per_base(self, currency: str, at_ms: int) -> Fraction:
        """Return how much of the base one unit is worth at that time (RULES.md 2.2)."""
        if currency == self.base:
            return Fraction(1)
        dated = [(in_utc(row.get("from")), row["rate"]) for row in self.currencies.get(currency, [])]
        begun = [(-NEVER_MS if since is None else since, rate) for since, rate in dated]
        begun = [(since, rate) for since, rate in begun if since <= at_ms]
        if not begun:
            raise Rejected("currency_unknown", currency)
        return decimal(max(begun, key=lambda row: row[0])[1])


@dataclass
class Conversion:
    """Conversions of one side at its call's time, and the `fx` that tells of them."""

    catalog: Catalog
    at_ms: int
    shown: list[Row] = field(default_factory=list)

    def factor(self, source: str, target: str) -> Fraction:
        """Return the worth of one unit of `source` in `target`; other pairs go through the base."""
        if source == target:
            return Fraction(1)
        worth = self.catalog.per_base(source, self.at_ms)
        return worth / self.catalog.per_base(target, self.at_ms)

    def show(self, source: str, target: str) -> None:
        """Add to `fx` what a conversion used: a line for each currency that is not the base, each once."""
        for currency in (source, target) if source != target else ():
            if currency != self.catalog.base:
                rate = decimal_text(self.catalog.per_base(currency, self.at_ms))
                line = {"from": currency, "to": self.catalog.base, "rate": rate}
                if line not in self.shown:
                    self.shown.append(line)


# --- Periods of a client package (RULES.md 4) -----------------------------------------------------------


class Length(NamedTuple):
    """How long a period is. unit: hour, day or month (a year is twelve)."""

    units: int
    unit: str


class Period(NamedTuple):
    """One run of a client package. stop_ms: excluded, None: no end. package: the row it opened with."""

    number: int
    start_ms: int
    stop_ms: int | None
    package: Row
    quantity: int
    activated_ms: int
    drawn_from_ms: int
    """Before it the package's start date, as it is today, has not come."""


def opened_with(versions: list[Version], start_ms: int, assigned: Version) -> Row:
    """Return the row in force when a period opened (RULES.md 3, Editing).

    What had begun by the assignment is opened by the load that assigns, with what that load brings. What
    begins later opens when it begins: before a load of that same instant, for what is due comes first.
    """
    if start_ms <= assigned.at_ms:
        return [version for version in versions if version.load <= assigned.load][-1].row
    return [version for version in versions if version.at_ms < start_ms][-1].row


def length_of(package: Row) -> Length | None:
    """Return the package's period as a number of hours, days or months; None: it runs once, until its end."""
    if package.get("period") is None:
        return None
    count, unit = package["period"].split()
    unit = unit.removesuffix("s")
    return Length(int(count) * 12, "month") if unit == "year" else Length(int(count), unit)


def zone_of(client: Row) -> str:
    """Return the name of the client's time zone."""
    return client.get("time_zone") or "UTC"


def known_with(versions: list[Version], load: int) -> Row:
    """Return the row that holds after a load."""
    return [version for version in versions if version.load <= load][-1].row


def first_start(catalog: Catalog, versions: list[Version]) -> tuple[int, datetime, str]:
    """Return when the first period starts, the local date and time that was asked for, and in which zone.

    The latest of the assignment's start, the package's start and, without `activate_in_past` (or without any
    start), the moment of assignment; all as the load that assigns has them. Later changes move it no more.
    """
    assigned = versions[0]
    row = assigned.row
    zone_name = zone_of(known_with(catalog.clients[row["client"]], assigned.load))
    package = known_with(catalog.packages[row["package"]], assigned.load)
    zone = time_zone(zone_name)
    starts = [asked(text, zone) for text in (row.get("start_date"), package.get("start_date")) if text]
    if not row.get("activate_in_past") or not starts:
        starts.append((assigned.at_ms, local_at(assigned.at_ms, zone)))
    return (*max(starts, key=lambda start: start[0]), zone_name)


def own_end(catalog: Catalog, versions: list[Version]) -> int | None:
    """Return the client package's own end: a date is read in the zone that held when a load brought it."""
    text = versions[-1].row.get("end_date")
    if text is None:
        return None
    brought = versions[-1]
    for version in reversed(versions):
        if version.row.get("end_date") != text:
            break
        brought = version
    zone = zone_of(known_with(catalog.clients[versions[0].row["client"]], brought.load))
    return asked(text, time_zone(zone))[0]


def periods(catalog: Catalog, versions: list[Version]) -> Iterator[Period]:
    """Give the periods of a client package from the first one on, in order, without end if it has none.

    They run from anchor + k·period to anchor + (k+1)·period in the client's zone. A changed period length or
    zone holds from the next period, whose start becomes the anchor. The package's dates are those of the
    newest catalog, read in the zone that the period is counted in; its start date moves no anchor.
    """
    assigned = versions[0]
    of_package, of_client = catalog.packages[assigned.row["package"]], catalog.clients[assigned.row["client"]]
    dates = catalog.package(assigned.row["package"])
    end = own_end(catalog, versions)
    start, local, zone_name = first_start(catalog, versions)
    zone = time_zone(zone_name)
    activated, number = start, 1
    length: Length | None = None
    anchor, anchor_local, steps = start, local, 0
    while True:
        package = opened_with(of_package, start, assigned)
        client = opened_with(of_client, start, assigned)
        if zone_of(client) != zone_name or length_of(package) != length or number == 1:
            if zone_of(client) != zone_name:
                zone_name, zone = zone_of(client), time_zone(zone_of(client))
                local = local_at(start, zone)
            length = length_of(package)
            anchor, anchor_local, steps = start, local, 0
        steps += 1
        stop, local = boundary(anchor, anchor_local, steps, length, zone)
        begin, cut = (dates.get(name) and asked(dates[name], zone)[0] for name in ("start_date", "end_date"))
        bounded = min((bound for bound in (stop, end, cut) if bound is not None), default=None)
        if bounded is not None and bounded <= start:
            return
        quantity = int(opened_with(versions, start, assigned).get("quantity") or 1)
        yield Period(number, start, bounded, package, quantity, activated, max(start, begin or start))
        if stop is None:
            return
        start, number = stop, number + 1


def boundary(
    anchor: int, local: datetime, steps: int, length: Length | None, zone: tzinfo
) -> tuple[int | None, datetime]:
    """Return where the period ends that is `steps` lengths after the anchor: its instant and local time.

    Hours are elapsed hours; days, months and years are calendar time at the client (RULES.md 3). A gap moves
    the instant alone, the local time stays the one asked for. None: there is no end.
    """
    if length is None:
        return None, local
    if length.unit == "hour":
        stop = anchor + length.units * steps * HOUR_MS
        return stop, local_at(stop, zone)
    end = later(local, length.units * steps, length.unit)
    return (NEVER_MS, local) if end is None else (at_local(end, zone), end)


def period_at(catalog: Catalog, versions: list[Version], at_ms: int) -> Period | None:
    """Return the period that an instant is in, open or closed long since (RULES.md 2, step 5)."""
    for period in periods(catalog, versions):
        if period.start_ms > at_ms:
            return None
        if period.stop_ms is None or at_ms < period.stop_ms:
            return period if at_ms >= period.drawn_from_ms else None
    return None


# --- Reading a record (CONTRACTS.md, CDR) ----------------------------------------------------------------

LARGEST_RECORD = 64 * 1024
SEEN_MAX = 256
TIMES = ("setup_at", "answered_at", "ended_at")
CONDITIONS = ("gateway", "ip", "login", "caller_prefix")
SIDE_FIELDS = ("client", "account", "gateway", "ip", "login")
DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]{1,10})?")


@dataclass
class Call:
    """One side of a CDR that has the form it must. raw: ms of calls, counting units of other services."""

    source: str
    id: str
    side: str
    service: str
    number: str
    written: str
    caller: str | None
    times: tuple[int | None, ...]
    at_ms: int
    raw: int
    duration_ms: int | None
    named: Row
    given: Rate | None

    @property
    def identity(self) -> str:
        """Return the id of its transaction."""
        return f"{self.source}/{self.id}/{self.side}"


def read_record(raw: bytes | None) -> Row:
    """Return the record's JSON object; too large is looked at before anything is parsed."""
    if raw is not None and len(raw) > LARGEST_RECORD:
        raise Rejected("too_large")
    try:
        record = json.loads((raw or b"").decode(), parse_constant=_no_number)
        json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise Rejected("malformed") from None
    if not isinstance(record, dict):
        raise Rejected("malformed")
    return record


def read_sides(raw: bytes | None) -> tuple[Row, list[str]]:
    """Return the record and which sides it has, orig first; without any it is refused as a whole."""
    record = read_record(raw)
    sides = [side for side in SIDES if record.get(side) is not None]
    if not sides:
        check_types(record)
        raise Rejected("missing_field")
    return record, sides


def _no_number(name: str) -> None:
    raise ValueError(name)


def text_of(row: Row, name: str, default: str | None = None) -> str | None:
    """Return a text field; null is as good as absent."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise Rejected("malformed", value)
    return default if value is None else value


def check_types(record: Row) -> None:
    """Refuse fields of the record as a whole that have another type than they must."""
    for name in ("id", "called", "caller", "service"):
        text_of(record, name)
    source = text_of(record, "source", "default")
    if not source or "/" in source or source in {"cp", "adjust"}:
        raise Rejected("malformed")


def given_fields(side: Row) -> Row | None:
    """Return the side's own rate with all fields of the right type; those that are missing are None."""
    rate = side.get("rate")
    if rate is None:
        return None
    if not isinstance(rate, dict):
        raise Rejected("malformed", rate)
    texts = {name: text_of(rate, name) for name in ("code", "code_name", "currency")}
    numbers = {name: text_of(rate, name) for name in ("price", "setup_fee")}
    lengths = {name: rate.get(name) for name in ("min_time", "interval", "grace_time")}
    if texts["code"] is not None and not re.fullmatch("[0-9]+", texts["code"]):
        raise Rejected("malformed")
    for number in numbers.values():
        if number is not None and not DECIMAL.fullmatch(number):
            raise Rejected("malformed")
    for name, length in lengths.items():
        whole = isinstance(length, int) and not isinstance(length, bool)
        if length is not None and not (whole and (1 if name == "interval" else 0) <= length < 2**31):
            raise Rejected("malformed")
    return {**texts, **numbers, **lengths}


def make_rate(row: Row, *, table: str | None, currency: str, code_name: str | None) -> Rate:
    """Return a rate of a row of a table or a CDR; `interval` is 1, the others 0 where nothing is said."""
    return Rate(
        table, row["code"], code_name, currency, decimal(row["price"]), decimal(row.get("setup_fee") or 0),
        int(row.get("min_time") or 0), int(row.get("interval") or 1), int(row.get("grace_time") or 0),
    )  # fmt: skip


def read_call(record: Row, side: str, now_ms: int | None, window_ms: int, services: Container[str]) -> Call:
    """Return one side's call, or reject it for the first reason of the list, up to `number_invalid`."""
    check_types(record)  # malformed
    named = record[side]
    if not isinstance(named, dict):
        raise Rejected("malformed")
    if any(not isinstance(named.get(name), str | None) for name in SIDE_FIELDS):
        raise Rejected("malformed")
    named_by = {name: text_of(named, name) for name in SIDE_FIELDS}
    given = given_fields(named)
    _check_missing(record, given, services)
    times = tuple(_time(record, name) for name in TIMES)  # bad_time
    at_ms = next(time for time in (times[1], times[0], times[2]) if time is not None)  # step 5
    if now_ms is not None and at_ms > now_ms + HOUR_MS:
        raise Rejected("time_in_future")
    if now_ms is not None and at_ms < now_ms - window_ms:
        raise Rejected("too_old")
    _check_duration(record, times[1], now_ms)  # bad_duration
    raw: int = record[volume_field(record, services)]
    called: str = record["called"]
    number = seen_number(called)
    if not re.fullmatch("[0-9]+", number):
        raise Rejected("number_invalid", called if called.isprintable() else None)  # shown with escapes
    rate = None
    if given is not None:
        rate = make_rate(given, table=None, currency=given["currency"], code_name=given["code_name"])
    source = "default" if record.get("source") is None else record["source"]
    service = "calls" if record.get("service") is None else record["service"]
    return Call(
        source=source, id=record["id"], side=side, service=service, number=number, written=called,
        caller=seen_caller(record.get("caller")), times=times, at_ms=at_ms, raw=raw,
        duration_ms=record.get("duration_ms"), named=named_by, given=rate,
    )  # fmt: skip


def seen_number(written: str) -> str:
    """Return the digits of a number as people see them (RULES.md 2, step 1); else the text as it is."""
    if len(written) > SEEN_MAX:
        return written
    text = ""
    for one in written:
        kind = unicodedata.category(one)
        if kind == "Nd":
            text += str(unicodedata.decimal(one))
        elif kind == "Pd" or one in "\u2212\u2043":
            text += "-"
        elif one.isspace():
            text += " "
        elif kind != "Cf":
            text += unicodedata.normalize("NFKC", one)
    abroad = re.match(r"((?:\+|00)[0-9 -]*[0-9] *)\( *0 *\)", text.lstrip())
    # (0): dialled within the country alone, but where it belongs to the number
    if abroad is not None and not re.match(r"(\+|00) *(39|378|225|241|242)", abroad[1]):
        text = abroad[1] + text.lstrip()[abroad.end() :]
    looks_so = re.fullmatch(r" *\+? *\(? *[0-9]([ ()-]*[0-9])*[ )]*", text)
    return "".join(one for one in text if one in "0123456789") if looks_so else written


def seen_caller(written: str | None) -> str | None:
    """Return a caller as it is kept: digits where signs stand between them, else as it came."""
    if written is None or (written.isascii() and written.removeprefix("+").isalnum()):
        return written
    return seen_number(written)


def volume_field(record: Row, services: Container[str]) -> str:
    """Return which field says how much: the duration of calls, `volume` instead of it for other services.

    Of a service that nobody knows either does: what is wrong is the service.
    """
    service = text_of(record, "service", "calls")
    unknown = service not in services and record.get("volume") is None
    return "duration_ms" if service == "calls" or unknown else "volume"


def _check_missing(record: Row, given: Row | None, services: Container[str]) -> None:
    """Refuse a CDR without what it needs: id, number, volume, a time, the core of a given rate."""
    if not record.get("id") or not record.get("called"):
        raise Rejected("missing_field")
    volume = record.get(volume_field(record, services))
    if volume is None:
        raise Rejected("missing_field")
    unanswered = volume == 0 and isinstance(volume, int) and not isinstance(volume, bool)
    needed = TIMES if unanswered else ("answered_at",)
    if all(record.get(name) is None for name in needed):
        raise Rejected("missing_field")
    if given is not None and None in (given["code"], given["price"], given["currency"]):
        raise Rejected("missing_field")


def _time(record: Row, name: str) -> int | None:
    value = record.get(name)
    if value is None:
        return None
    ms = instant(value) if isinstance(value, str) else None
    if ms is None:
        raise Rejected("bad_time", value)
    return ms


def _check_duration(record: Row, answered: int | None, now_ms: int | None) -> None:
    """Durations and volumes are whole, 0 to 2^53 - 1; a call is over by an hour after its record came.

    A duration that stands beside the volume of another service is judged too.
    """
    for name in ("duration_ms", "volume"):
        value = record.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 0 <= value < LARGEST and value not in WRAPPED):
            raise Rejected("bad_duration", value if whole else None)
    duration = record.get("duration_ms") or 0
    if answered is not None and now_ms is not None and answered + duration > now_ms + HOUR_MS:
        raise Rejected("bad_duration", duration)


# --- Rating one side (RULES.md 2) -----------------------------------------------------------------------


def identify(catalog: Catalog, call: Call) -> tuple[str, str | None]:
    """Step 2: return client and account, named by the CDR or found by the first rule that holds."""
    client, account = call.named["client"], call.named["account"]
    if client is None and account is None:
        rule = next((rule for rule in catalog.rules if holds(rule, call)), None)
        if rule is None:
            raise Rejected("client_unknown")
        client, account = rule.get("client"), rule.get("account")
    if client is not None and client not in catalog.clients:
        raise Rejected("client_unknown", client)
    if account is None:
        return client, None
    owner = catalog.owner(account)
    if owner is None:
        raise Rejected("account_unknown", account)
    if client is not None and client != owner:
        raise Rejected("account_mismatch", account)
    return owner, account


def holds(rule: Row, call: Call) -> bool:
    """Tell if all the conditions that a rule gives hold for the side."""
    named = call.named
    return (
        rule["side"] == call.side
        and same_name(rule.get("gateway"), named["gateway"])
        and same_name(rule.get("login"), named["login"])
        and (rule.get("ip") is None or in_network(named["ip"], rule["ip"]))
        and (
            rule.get("caller_prefix") is None
            or caller_digits(call.caller or "").startswith(rule["caller_prefix"].removeprefix("+"))
        )
    )


def same_name(wanted: str | None, named: str | None) -> bool:
    """Tell if a name is the one that a rule wants, but for blanks around; without one, any is."""
    return wanted is None or wanted.strip() == (named or "").strip()


def caller_digits(written: str) -> str:
    """Return a number without `+` and what sets its digits apart; other texts as they are."""
    text = written.strip()
    if text[:1] not in tuple("+(0123456789"):
        return written
    return "".join(one for one in text if one not in " \t\u00a0-.()").removeprefix("+")


def in_network(address: str | None, network: str) -> bool:
    """Tell if an address, IPv4 or IPv6, is in the network; what is no address is in none.

    All of IPv4 is looked for where it lies in IPv6, behind ::ffff:0:0/96; a network that is wider than that
    has none of it.
    """
    first, _, bits = network.strip().partition("/")
    try:
        wanted, asked = as_ipv6(first), as_ipv6(bare_address(address or ""))
    except ValueError:
        return False
    size = int(ip_network(network.strip(), strict=False).prefixlen) if bits else 128
    if "." in first and ":" not in first and bits:
        size += 96
    if asked >> 32 == MAPPED and size < 96:
        return False
    return wanted >> 128 - size == asked >> 128 - size


MAPPED = 0xFFFF


def as_ipv6(text: str) -> int:
    """Return an address as the number of one of IPv6. Raises ValueError."""
    address = ip_address(text)
    return (MAPPED << 32) + int(address) if address.version == 4 else int(address)


def bare_address(written: str) -> str:
    """Return what stands in brackets, or before the port of IPv4, without a zone."""
    text = written.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text.partition("%")[0]


def identify_rate(catalog: Catalog, call: Call, client: str, account: str | None) -> Rate:
    """Step 4: the given rate, else the longest code in force in the account's or client's table."""
    if call.given is not None:
        return call.given
    row = catalog.client(client)
    accounts = [one for one in row["accounts"] if one["id"] == account]
    tables = [
        ((one.get("rate_tables") or {}).get(call.side) or {}).get(call.service) for one in (*accounts, row)
    ]
    name = next((table for table in tables if table is not None), None)
    table = catalog.tables[name] if name is not None else {"rates": []}
    for length in range(len(call.number), 0, -1):
        code = call.number[:length]
        found = row_in_force([one for one in table["rates"] if one["code"] == code], call.at_ms)
        if found is not None:
            code_name = catalog.code_name(table.get("code_deck"), code)
            return make_rate(found, table=name, currency=table["currency"], code_name=code_name)
    raise Rejected("rate_missing", call.written if call.written == call.number else None)


def row_in_force(rows: list[Row], at_ms: int) -> Row | None:
    """Return the row with the latest start up to then, if its end has not come; no earlier one instead."""
    begun = []
    for row in rows:
        since = in_utc(row.get("effective_from"))
        if since is None or since <= at_ms:
            begun.append((-NEVER_MS if since is None else since, row))
    if not begun:
        return None
    row = max(begun, key=lambda one: one[0])[1]
    until = in_utc(row.get("effective_to"))
    return row if until is None or at_ms < until else None


def billed_volume(call: Call, rate: Rate) -> int | None:
    """Step 6: the minimal time, then whole intervals; None up to the grace time."""
    raw = Fraction(call.raw, 1000) if call.service == "calls" else Fraction(call.raw)
    if raw <= rate.grace_time:
        return None
    beyond = max(raw - rate.min_time, Fraction(0))
    return rate.min_time + round_up(beyond / rate.interval) * rate.interval


class Candidate(NamedTuple):
    """A limit that can apply to a call, with the period it would be drawn in (step 8)."""

    client_package: Version
    package: Row
    period: Period
    limit: Row
    position: int

    @property
    def limit_id(self) -> str:
        """Return the limit's id: its position where it was given none."""
        return str(self.limit["id"]) if self.limit.get("id") is not None else str(self.position)

    @property
    def counter(self) -> tuple[str, str]:
        """Return what names its counter: client, and client package, period and limit."""
        parts = (self.client_package.row["id"], str(self.period.number), self.limit_id)
        escaped = (part.replace("%", "%25").replace(".", "%2E") for part in parts)
        return self.client_package.row["client"], ".".join(escaped)

    def order(self) -> tuple[Any, ...]:
        """Section 2.1: volume before money, priority, expiration, code, account, activation, id, position."""
        code = self.limit.get("code") or ""
        row, stop = self.client_package.row, self.period.stop_ms
        return (
            self.limit["type"] != "volume",
            int(self.package.get("priority") or 0),
            (stop is None, stop or 0),
            (1, -len(code)) if code.endswith("*") else (0, 0),
            row.get("account") is None,
            self.period.activated_ms,
            id_order(row["id"]),
            self.position,
        )

    def size(self, services: dict[str, int]) -> int:
        """Return the limit as it was copied into the period, times quantity: counting units, or micros."""
        limit = decimal(self.limit["limit"]) * self.period.quantity
        if self.limit["type"] == "money":
            return half_up(limit * MICROS)
        return int(limit * services[service_of(self.limit)])


def service_of(limit: Row) -> str:
    """Return the service that a limit is for."""
    return limit.get("service") or "calls"


def allows(one: Candidate) -> bool:
    """Tell if the package's rule is `allow`: it is passed over below a balance of zero (section 2.1)."""
    return bool(one.package.get("client_balance") == "allow")


def code_fits(pattern: str, code: str) -> bool:
    """Section 3.1: `121` is that code alone, `121*` that and every longer one, `*` all."""
    return code.startswith(pattern[:-1]) if pattern.endswith("*") else code == pattern


def limit_fits(catalog: Catalog, limit: Row, code: str) -> bool:
    """Section 3.1: the identified code, or its name in the limit's deck, is the limit's, not excluded."""
    if limit.get("code") is not None:
        fits = code_fits(limit["code"], code)
    else:
        name = catalog.code_name(limit.get("code_deck"), code)
        fits = name is not None and as_read(name) == as_read(limit["code_name"])
    return fits and not any(code_fits(pattern, code) for pattern in limit.get("exclude") or [])


def find_candidates(
    catalog: Catalog, call: Call, client: str, account: str | None, rate: Rate, billed: int, cost: Cost
) -> list[Candidate]:
    """Step 8 and section 2.1: return the limits that can apply, in their order, whatever is left of them."""
    pays = call.side == "orig" if cost.exact == 0 else cost.exact < 0
    found = []
    for versions in catalog.client_packages.values():
        row = versions[0].row
        package = catalog.package(row["package"])
        of_account = row.get("account") is None or row["account"] == account
        of_type = package["type"] == ("customer" if pays else "vendor")
        if row["client"] != client or not of_account or not of_type:
            continue
        period = period_at(catalog, versions, call.at_ms)
        if period is None or not catalog.active(row["package"], call.at_ms):
            continue
        for position, limit in enumerate(period.package.get("limits") or []):
            applies = service_of(limit) == call.service and limit_fits(catalog, limit, rate.code)
            if applies and billed >= int(limit.get("min_call") or 0):
                found.append(Candidate(versions[0], package, period, limit, position))
    return sorted(found, key=Candidate.order)


class Cost(NamedTuple):
    """A cost, signed: exactly in the rate's currency, and rounded once in the client's (section 2.2)."""

    exact: Fraction
    micros: int


def cost_of(call: Call, rate: Rate, volume: int, setup_fee: Fraction, unit: int, factor: Fraction) -> Cost:
    """Steps 7 and 10 to 11: price x volume / price unit + setup fee; orig negative, term positive."""
    cost = rate.price * volume / unit + setup_fee
    exact = -cost if call.side == "orig" else cost
    return Cost(exact, half_up(exact * factor * MICROS))


def in_range(micros: int) -> int:
    """Refuse what is beyond 2^53 millionths."""
    if abs(micros) > LARGEST:
        raise Rejected("amount_out_of_range")
    return micros


@dataclass
class Draws:
    """What one call takes of one client package's limits."""

    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    shown: list[Row] = field(default_factory=list)
    volume: int = 0

    def take(self, one: Candidate, units: int, left: int, **more: str) -> None:
        """Take so many units or micros of a limit that had `left`."""
        money = one.limit["type"] == "money"
        write = money_text if money else str
        self.taken[one.counter] = units
        self.shown.append({
            "client_package": one.client_package.row["id"], "package": one.package["id"],
            "package_name": one.package["name"], "limit": one.limit_id, "kind": one.limit["type"],
            "period": one.period.number, "taken": write(units), "left": write(left - units),
            "tag": one.package.get("dynamic_tag"), **more,
        })  # fmt: skip


class Reference:
    """Rates records one after another, each under the catalog that was loaded last.

    balances: client → micros. counters: (client, "CLIENT_PACKAGE.PERIOD.LIMIT" with % and . of ids written as
    %25 and %2E) → units, or micros of the package's currency; only counters that something was taken from.
    """

    def __init__(self, window_days: int = 7) -> None:
        self.balances: dict[str, int] = {}
        self.counters: dict[tuple[str, str], int] = {}
        self.window_ms = window_days * DAY_MS
        self.catalog = Catalog()
        self.number = 0
        self._lanes: dict[int, int] = {}
        self._rated: dict[tuple[str, str, str, str], tuple[Any, int]] = {}

    def load(self, file: dict[str, Any], at_ms: int, version: int) -> None:
        """Take in a catalog file that is known to be valid: a decoded JSON object, decks and rates inline.

        at_ms: the load's now, whole seconds. version: number of the catalog that this load makes. A client
        that is new gets its opening balance; nothing else touches a balance but calls.
        """
        self.number = version
        self.catalog.load(file, at_ms)
        for row in file.get("clients") or []:
            self.balances.setdefault(row["id"], half_up(decimal(row.get("balance") or 0) * MICROS))

    def rate(self, raw: bytes | None, record_ms: int, lane: int = 0) -> list[dict[str, Any]]:
        """Rate one Kafka record, a plain CDR, now; return what becomes of each side, orig first.

        record_ms: the record's timestamp; none where it is -1 or in another unit. Each outcome has `side` and
        `outcome`: `transaction` with `value`, `rejected` with `reason` and `value` (None where its wording is
        not known), or `duplicate`.
        """
        now = self._time(record_ms, lane)
        try:
            record, sides = read_sides(raw)
        except Rejected as fault:
            return [_rejected(None, fault)]
        before = dict(self.balances)
        outcomes = []
        for side in sides:
            try:
                outcomes.append(self._side(record, side, now, before))
            except Rejected as fault:
                outcomes.append(_rejected(side, fault))
        return outcomes

    def _time(self, record_ms: int, lane: int) -> int | None:
        """Step 5: the lane's time, the highest so far of its records and of all loads; None: none known."""
        told = record_ms if len(str(record_ms)) == MS_DIGITS else -1
        now = max(self._lanes.get(lane, -1), told, self.catalog.loaded_ms)
        self._lanes[lane] = now
        return None if now < 0 else now

    def _side(self, record: Row, side: str, now: int | None, before: dict[str, int]) -> Row:
        """Rate one side and keep what came of it; a rejected side leaves no trace (section 2.3).

        A repeat is a duplicate, or differs, if it could be rated now; else it is rejected for what lacks.
        """
        call = read_call(record, side, now, self.window_ms, self.catalog.services)
        if call.service not in self.catalog.services:
            raise Rejected("service_unknown", call.service)
        client, account = identify(self.catalog, call)
        earlier = self._earlier(call, client, now)
        content = _content(call, account)
        value, taken, micros = self._rate(call, client, account, before[client], repeat=earlier is not None)
        if earlier == content:
            return {"side": side, "outcome": "duplicate"}
        if earlier is not None:
            raise Rejected("duplicate_differs", call.id)
        for counter, units in taken.items():
            self.counters[counter] = self.counters.get(counter, 0) + units
        self.balances[client] += micros
        self._rated[call.source, call.id, side, client] = (content, call.at_ms)
        return {"side": side, "outcome": "transaction", "value": value}

    def _earlier(self, call: Call, client: str, now: int | None) -> tuple[Any, ...] | None:
        """Section 2.3: return the content rated before under this id, side and client, within the window."""
        content, at_ms = self._rated.get((call.source, call.id, call.side, client), (None, 0))
        remembered = now is None or at_ms >= now - self.window_ms
        return content if remembered else None

    def _rate(
        self, call: Call, client: str, account: str | None, balance: int, *, repeat: bool
    ) -> tuple[Row, dict[tuple[str, str], int], int]:
        """Steps 3 to 13: return the transaction, what it takes of counters, and its amount in micros.

        balance: before the record, which is what the rule `allow` is judged on. repeat: nothing of it is
        drawn, so what a draw would make impossible is not looked at.
        """
        currency = self.catalog.client(client)["currency"]
        value = self._head(call, client, account, currency)
        if call.raw == 0:
            why = "unanswered" if call.times[1] is None else "grace"
            return {**value, "outcome": "zero", "why": why}, {}, 0
        rate = identify_rate(self.catalog, call, client, account)
        value.update(code=rate.code, code_name=rate.code_name, rate=rate.shown())
        billed = billed_volume(call, rate)
        if billed is None:
            return {**value, "outcome": "zero", "why": "grace"}, {}, 0

        conversion = Conversion(self.catalog, call.at_ms)
        factor = conversion.factor(rate.currency, currency)
        conversion.show(rate.currency, currency)
        unit = self.catalog.services[call.service]
        cost = cost_of(call, rate, billed, rate.setup_fee, unit, factor)
        in_range(cost.micros)

        candidates = self._candidates(call, client, account, rate, billed, cost)
        for one in candidates:  # a money limit that fits needs a rate of its currency, drawn or not
            if one.limit["type"] == "money":
                conversion.factor(currency, one.package["currency"])
        if repeat:
            return value, {}, 0
        sufficient = balance + self._credit(client) >= 0
        judged = any(allows(one) for one in candidates)
        usable = [one for one in candidates if sufficient or not allows(one)]
        usable = [one for one in usable if self._fee_covered(client, one)]
        first = next((one for one in usable if self._left(one) > 0), None)
        chosen = [one for one in usable if first is not None and one.client_package is first.client_package]

        draws = Draws()
        self._draw_volumes(draws, chosen, billed)
        waived = draws.volume > 0 and first is not None and first.package.get("setup_fee") == "dont_charge"
        setup_fee = Fraction(0) if waived else rate.setup_fee
        rest = cost_of(call, rate, billed - draws.volume, setup_fee, unit, factor).micros
        if rest and cost.micros and (rest < 0) == (cost.micros < 0):
            covered = self._draw_money(draws, chosen, abs(rest), currency, conversion)
            rest += covered if rest < 0 else -covered
        in_range(rest)
        in_range(self.balances[client] + rest)
        value.update(
            billed=billed,
            draws=draws.shown,
            overage=billed - draws.volume,
            setup_fee=decimal_text(setup_fee),
            amount=money_text(rest),
        )
        if judged:
            value["balance_sufficient"] = sufficient
        if conversion.shown:
            value["fx"] = conversion.shown
        return value, draws.taken, rest

    def _candidates(
        self, call: Call, client: str, account: str | None, rate: Rate, billed: int, cost: Cost
    ) -> list[Candidate]:
        """Return the limits that can apply, in their order; life.py knows which periods were opened."""
        return find_candidates(self.catalog, call, client, account, rate, billed, cost)

    def _fee_covered(self, client: str, one: Candidate) -> bool:
        """Tell if the fee that a first draw would bring is covered; there are fees in life.py alone."""
        del client, one
        return True

    def _head(self, call: Call, client: str, account: str | None, currency: str) -> Row:
        """Return the transaction of a call of which nothing is looked up yet."""
        volume = {} if call.service == "calls" else {"volume": call.raw}
        return {
            "id": call.identity, "revision": 1, "type": "usage", "client": client, "account": account,
            "side": call.side, "service": call.service, "cdr": {"source": call.source, "id": call.id},
            "at": time_text(call.at_ms), "outcome": "rated",
            "caller": None if call.caller is None else call.caller[:64], "called": call.number,
            "duration_ms": call.duration_ms, **volume, "code": None, "code_name": None, "rate": None,
            "billed": 0, "draws": [], "overage": 0,
            "setup_fee": "0", "amount": "0", "currency": currency, "catalog": self.number,
        }  # fmt: skip

    def _credit(self, client: str) -> int:
        return half_up(decimal(self.catalog.client(client).get("credit_limit") or 0) * MICROS)

    def _left(self, one: Candidate) -> int:
        return one.size(self.catalog.services) - self.counters.get(one.counter, 0)

    def _draw_volumes(self, draws: Draws, chosen: list[Candidate], billed: int) -> None:
        """Take the smaller of need and rest of each volume limit in turn (section 2.1)."""
        for one in chosen:
            if one.limit["type"] != "volume":
                continue
            most = one.limit.get("per_call_max")
            needs = [billed - draws.volume, self._left(one), *([int(most)] if most is not None else [])]
            units = min(needs)
            if units > 0:
                draws.take(one, units, self._left(one))
                draws.volume += units

    def _draw_money(
        self, draws: Draws, chosen: list[Candidate], cost: int, currency: str, conversion: Conversion
    ) -> int:
        """Cover a cost from the money limits in turn; return what they cover of it (step 12, section 2.2).

        Both are unsigned micros of the client's currency.
        """
        open_cost = cost
        for one in chosen:
            left = self._left(one)
            if one.limit["type"] != "money" or left <= 0 or open_cost == 0:
                continue
            of_package = one.package["currency"]
            need = half_up(open_cost * conversion.factor(currency, of_package))
            if need == 0:
                return cost
            taken, covered = need, open_cost
            if left < need:
                worth = half_up(left * conversion.factor(of_package, currency))
                taken, covered = left, min(worth, open_cost)
            conversion.show(currency, of_package)
            in_range(self.counters.get(one.counter, 0) + taken)
            draws.take(one, taken, left, currency=of_package, covered=money_text(covered))
            open_cost -= covered
        return cost - open_cost


def _content(call: Call, account: str | None) -> tuple[Any, ...]:
    """Section 2.3: what must be equal in a duplicate; a given rate by its values, not its writing."""
    return call.service, call.number, call.times, call.raw, account, call.given


def _rejected(side: str | None, fault: Rejected) -> Row:
    return {"side": side, "outcome": "rejected", "reason": fault.reason, "value": fault.value}
