"""Catalog files become checked rows: one fault for each thing that is wrong, not the first alone.

What a file says by itself is checked here; what it says about what is loaded already, in `loading`. So that
one run names the faults of both, faulty rows are handed on as well, marked, with stand-ins for what could not
be read. Source of the rules: CONTRACTS.md "Catalog file", RULES.md section 3 and 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from ipaddress import ip_network
from itertools import islice
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Struct

from rater.core.amounts import COUNT_MAX, E10, format_e10
from rater.core.catalog.codes import CODE_DIGITS_MAX, Row
from rater.core.catalog.specs import (
    AccountSpec,
    ClientBalance,
    ClientPackageSpec,
    ClientSpec,
    CurrencyRow,
    CurrencySpec,
    DeckSpec,
    DidLimitSpec,
    DidSpec,
    DiscountSpec,
    FeeSpec,
    FeeType,
    IdentificationRule,
    LimitSpec,
    LimitType,
    PackageSpec,
    PackageType,
    RateTableSpec,
    RenewalCharge,
    ResellerSpec,
    ServiceSpec,
    SetupFee,
    Status,
    Tables,
    TaxProfileSpec,
    TaxSpec,
    TermsSpec,
)
from rater.core.catalog_files import fast_rows
from rater.core.catalog_files.fields import (
    CODE_NAME_CHARS_MAX,
    CURRENCY,
    HINTS_MAX,
    PRICE_MAX,
    QUANTITY_MAX,
    REQUIRED,
    Fault,
    Fields,
    Source,
    is_over,
    names_of,
    plain,
    unquoted,
    what,
)
from rater.core.catalog_files.syntax import csv_header, csv_rows, parse
from rater.core.cdr import SIDES
from rater.core.instants import BEGINNING_MS
from rater.core.periods import parse_span, surely_shorter, zone_of

_UTC = zone_of("UTC")
_CODE = re.compile(rf"[0-9]{{1,{CODE_DIGITS_MAX}}}")
_PATTERN = re.compile(rf"[0-9]{{0,{CODE_DIGITS_MAX}}}\*|[0-9]{{1,{CODE_DIGITS_MAX}}}")
_PREFIX = re.compile(rf"\+?[0-9]{{1,{CODE_DIGITS_MAX}}}")
_CODE_PROBLEM = f"not digits alone; write 1 to {CODE_DIGITS_MAX} of them"
_PATTERN_PROBLEM = (
    f'not a code; write 1 to {CODE_DIGITS_MAX} digits, with "*" at the end alone, as in "38044*"'
)
_CURRENCY_PROBLEM = "not a currency; write 1 to 16 letters or digits, such as USD"

T = TypeVar("T")
R = TypeVar("R", bound=Struct)
OpenFile = Callable[[str], bytes]


class Placed(NamedTuple, Generic[T]):
    """A checked row and where it stands, for the faults that show when it meets what is loaded.

    Not good: it has faults already, and stand-ins for what could not be read.
    """

    file: str
    path: str
    value: T
    good: bool = True


class CatalogFile:
    """The checked rows of one or several files that are loaded together, and all that is wrong with them.

    `limit` and `rollover` of volume limits are in 10^-10 price units still: their service may be known to the
    loaded catalog alone.

    faulty: (section, id or name) of the rows with faults. lost: sections (and "accounts") some of whose rows
    cannot be told at all, so that whatever is referred to may be one of them.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.faults: list[Fault] = []
        self.faulty: set[tuple[str, str]] = set()
        self.lost: set[str] = set()
        self.base: Placed[str] | None = None
        self.currencies: list[Placed[CurrencySpec]] = []
        self.services: list[Placed[ServiceSpec]] = []
        self.resellers: list[Placed[ResellerSpec]] = []
        self.code_decks: list[Placed[DeckSpec]] = []
        self.rate_tables: list[Placed[RateTableSpec]] = []
        self.tax_profiles: list[Placed[TaxProfileSpec]] = []
        self.packages: list[Placed[PackageSpec]] = []
        self.clients: list[Placed[ClientSpec]] = []
        self.identification: list[Placed[IdentificationRule]] = []
        self.client_packages: list[Placed[ClientPackageSpec]] = []
        self.dids: list[Placed[DidSpec]] = []


# -------------------------------------------------------------------------------------------------- rows
def _service(source: Source, path: str, values: Mapping[Any, Any]) -> ServiceSpec:
    row = Fields(source, path, values, ServiceSpec)
    return ServiceSpec(row.name("name"), row.text("unit"), row.integer("price_unit", REQUIRED, 1, 1_000_000))


def _reseller(source: Source, path: str, values: Mapping[Any, Any]) -> ResellerSpec:
    row = Fields(source, path, values, ResellerSpec)
    identity = row.name("id")
    return ResellerSpec(identity, row.text("name", identity))


def _tax_profile(source: Source, path: str, values: Mapping[Any, Any]) -> TaxProfileSpec:
    row = Fields(source, path, values, TaxProfileSpec)
    taxes = []
    for at, item in row.rows("taxes"):
        tax = Fields(source, at, item, TaxSpec)
        taxes.append(TaxSpec(tax.text("name"), format_e10(tax.decimal("percent", low=0))))
    return TaxProfileSpec(row.name("name"), taxes)


def _package(source: Source, path: str, values: Mapping[Any, Any]) -> PackageSpec:
    row = Fields(source, path, values, PackageSpec)
    identity = row.name("id")
    spec = PackageSpec(
        id=identity,
        name=row.text("name"),
        type=row.choice("type", get_args(PackageType)),
        currency=row.form("currency", CURRENCY, _CURRENCY_PROBLEM),
        reseller=row.text("reseller", None),
        status=row.choice("status", get_args(Status), "active"),
        period=row.span("period"),
        advance_renew=row.span("advance_renew"),
        renew_for=row.span("renew_for"),
        fees_include_taxes=row.flag("fees_include_taxes"),
        align_to_payment_terms=row.flag("align_to_payment_terms"),
        full_charge=row.flag("full_charge"),
        charge_on_event=row.flag("charge_on_event"),
        setup_fee=row.choice("setup_fee", get_args(SetupFee), "charge"),
        client_balance=row.choice("client_balance", get_args(ClientBalance), "deny"),
        renewal_charge=row.choice("renewal_charge", get_args(RenewalCharge), "on_period"),
        priority=row.integer("priority", 0, -COUNT_MAX),
        dynamic_tag=row.text("dynamic_tag", None),
        start_date=row.when("start_date"),
        end_date=row.when("end_date"),
        fees=[_fee(source, at, item) for at, item in row.rows("fees")],
        discounts=_discounts(row),
        did_limits=[_did_limit(source, at, item) for at, item in row.rows("did_limits")],
        limits=_limits(row),
    )
    _check_periods(row, spec)
    _check_dates(row, spec.start_date, spec.end_date)
    return spec


def _check_periods(row: Fields, spec: PackageSpec) -> None:
    """Refuse what does not go with the period; whether it can be read was looked at before."""
    if row.values.get("period") is None:
        for name in ("advance_renew", "renew_for", "align_to_payment_terms"):
            if row.values.get(name) not in (None, False):
                row.fault(name, "needs a period, and the package has none; give one, or leave this out")
    elif spec.period and spec.advance_renew:
        advance, period = parse_span(spec.advance_renew), parse_span(spec.period)
        if not surely_shorter(advance, period):
            row.fault("advance_renew", f"not shorter than the period ({period}) in every month; shorten it")


def _check_dates(row: Fields, start: str | None, end: str | None) -> None:
    """Refuse an end that is not after the start."""
    if start and end and is_over(start, end):
        row.fault("end_date", f"not after start_date ({start}); change one of them")


def _fee(source: Source, path: str, values: Mapping[Any, Any]) -> FeeSpec:
    row = Fields(source, path, values, FeeSpec)
    kind = row.choice("type", get_args(FeeType))
    return FeeSpec(kind, row.text("name"), format_e10(row.decimal("rate")), row.text("note", "", empty=True))


def _discounts(row: Fields) -> list[DiscountSpec]:
    found: dict[int, DiscountSpec] = {}
    for at, item in row.rows("discounts"):
        one = Fields(row.source, at, item, DiscountSpec)
        spec = DiscountSpec(
            one.integer("activation_count", REQUIRED, 1), format_e10(one.decimal("discount", low=0))
        )
        if one.good and spec.activation_count in found:
            one.fault("activation_count", "stands there twice; leave one out")
        found[spec.activation_count] = spec
    return [found[count] for count in sorted(found)]


def _did_limit(source: Source, path: str, values: Mapping[Any, Any]) -> DidLimitSpec:
    row = Fields(source, path, values, DidLimitSpec)
    quantity = row.integer("quantity", REQUIRED, 1)
    return DidLimitSpec(quantity, row.texts("allowed_tags"), row.integer("on_hold_days", 0, 0))


def _limits(package: Fields) -> list[LimitSpec]:
    out: list[LimitSpec] = []
    paths: dict[str, str] = {}
    for at, item in package.rows("limits"):
        row = Fields(package.source, at, item, LimitSpec)
        spec = _limit(row, str(len(out)))
        if spec.id and spec.id in paths:
            problem = (
                f"the id of {paths[spec.id]} too (a limit without one has its position); change one of them"
            )
            package.source.fault(row.at("id"), spec.id, problem)
        paths.setdefault(spec.id, at)
        out.append(spec)
    return out


def _limit(row: Fields, position: str) -> LimitSpec:
    kind: LimitType = row.choice("type", get_args(LimitType))
    spec = LimitSpec(
        id=row.text("id", position),
        type=kind,
        service=row.text("service"),
        limit=_allowance(row, "limit", kind, 1),
        code_deck=row.text("code_deck", None),
        code=row.form("code", _PATTERN, _PATTERN_PROBLEM, None),
        code_name=row.text("code_name", None, most=CODE_NAME_CHARS_MAX),
        exclude=row.texts("exclude", _PATTERN, _PATTERN_PROBLEM),
        min_call=row.integer("min_call", 0, 0),
        per_call_max=row.integer("per_call_max", None, 1),
        rollover=_allowance(row, "rollover", kind, 0),
    )
    if (spec.code is None) == (spec.code_name is None):
        row.fault("code", "not exactly one of code and code_name; give one of them")
    if spec.code_name is not None and spec.code_deck is None:
        row.fault("code_deck", "missing; give the code deck that the code name is one of")
    if kind == "money":
        for name in ("per_call_max", "rollover"):
            if row.values.get(name) not in (None, 0, "0"):
                row.fault(name, "for volume limits only; leave it out")
    return spec


def _allowance(row: Fields, name: str, kind: str, low: int) -> Any:
    """Return a limit: micros of money, or 10^-10 price units of volume (whole ones need no quotes)."""
    default = REQUIRED if low else 0
    if kind == "money":
        return row.decimal(name, default, low, money=True) if name == "limit" else 0
    if isinstance(row.values.get(name), int):
        return row.integer(name, default, low, PRICE_MAX) * E10
    return row.decimal(name, default, low)


def _rule(source: Source, path: str, values: Mapping[Any, Any]) -> IdentificationRule:
    row = Fields(source, path, values, IdentificationRule)
    prefix = row.form("caller_prefix", _PREFIX, _CODE_PROBLEM, None)
    network = row.text("ip", None)
    if network:
        try:
            network = str(ip_network(network))
        except ValueError as error:
            row.fault("ip", f"not a network ({error}); write it like 203.0.113.0/24")
    return IdentificationRule(
        side=row.choice("side", SIDES), client=row.text("client"), account=row.text("account", None),
        gateway=row.text("gateway", None), ip=network, login=row.text("login", None),
        caller_prefix=prefix and prefix.removeprefix("+"),
    )  # fmt: skip


def _did(source: Source, path: str, values: Mapping[Any, Any]) -> DidSpec:
    row = Fields(source, path, values, DidSpec)
    number = row.form("number", _CODE, _CODE_PROBLEM)
    return DidSpec(number, row.texts("tags"), row.text("account", None))


def _client(source: Source, path: str, values: Mapping[Any, Any]) -> ClientSpec:
    found = _at_once(values, fast_rows.ClientRow, fast_rows.client_of)
    if found is not None:
        return found
    row = Fields(source, path, values, ClientSpec)
    zone = row.text("time_zone", "UTC")
    try:
        zone_of(zone or "UTC")
    except ValueError as error:
        row.fault("time_zone", str(error))
    return ClientSpec(
        id=row.name("id"),
        currency=row.form("currency", CURRENCY, _CURRENCY_PROBLEM),
        name=row.text("name", "", empty=True),
        reseller=row.text("reseller", None),
        time_zone=zone,
        balance=row.decimal("balance", 0, money=True),
        credit_limit=row.decimal("credit_limit", 0, 0, money=True),
        low_balance=row.decimal("low_balance", None, money=True),
        payment_terms=_terms(row),
        tax_profile=row.text("tax_profile", None),
        rate_tables=_tables(row),
        accounts=[_account(source, at, item) for at, item in row.rows("accounts")],
    )


def _terms(row: Fields) -> TermsSpec | None:
    value = row.mapping("payment_terms", '{every: 1 month, anchor: "2026-01-01"}')
    if not isinstance(row.values.get("payment_terms"), dict):
        return None
    terms = Fields(row.source, row.at("payment_terms"), value, TermsSpec)
    return TermsSpec(terms.span("every", REQUIRED), terms.when("anchor", REQUIRED))


def _account(source: Source, path: str, values: Mapping[Any, Any]) -> AccountSpec:
    row = Fields(source, path, values, AccountSpec)
    return AccountSpec(row.name("id"), _tables(row))


def _tables(row: Fields) -> Tables:
    value = row.mapping("rate_tables", "{orig: {calls: TABLE}}")
    if not value:
        return {}
    out: Tables = {}
    sides = Fields(row.source, row.at("rate_tables"), value, frozenset(SIDES))
    for side in SIDES:
        tables = sides.mapping(side, "{calls: TABLE}")
        if tables:
            names = Fields(row.source, sides.at(side), tables, frozenset(tables))
            out[side] = {str(service): names.text(service) for service in tables}
    return out


def _client_package(source: Source, path: str, values: Mapping[Any, Any]) -> ClientPackageSpec:
    found = _at_once(values, fast_rows.ClientPackageRow, fast_rows.client_package_of)
    if found is not None:
        return found
    row = Fields(source, path, values, ClientPackageSpec)
    spec = ClientPackageSpec(
        id=row.name("id"), client=row.text("client"), package=row.text("package"),
        account=row.text("account", None), start_date=row.when("start_date"), end_date=row.when("end_date"),
        activate_in_past=row.flag("activate_in_past"), quantity=row.integer("quantity", 1, 1, QUANTITY_MAX),
    )  # fmt: skip
    _check_dates(row, spec.start_date, spec.end_date)
    return spec


def _at_once(values: Mapping[Any, Any], form: type[R], made: Callable[[R], T | None]) -> T | None:
    """Return what a row says, read at once; None: it is to be read field by field."""
    try:
        row = msgspec.convert(values, form)
    except (msgspec.ValidationError, ValueError):
        return None
    return made(row)


# -------------------------------------------------------------------------------------- decks and tables
_Rows = Iterable[tuple[str, Mapping[Any, Any]]]
"""(path, row) of each."""


def _part(
    row: Fields, open_file: OpenFile, columns: frozenset[str], required: tuple[str, ...]
) -> tuple[Source, _Rows]:
    """Return the rows of the CSV that stands beside the catalog file."""
    source = Source(row.text("file"), row.source.faults, is_csv=True)
    if not row.good:
        return source, ()
    try:
        raw = open_file(source.name)
    except OSError as error:
        row.fault("file", f"cannot be read ({error.strerror or 'no such file'}); correct the name")
        return source, ()
    return source, csv_rows(source, raw, columns, required)


def _in_file(row: Fields, name: str) -> bool:
    """Return whether the rows stand in a file beside; they stand there or here."""
    if (row.values.get("file") is None) == (row.values.get(name) is None):
        row.fault(name, f"not exactly one of {name} and file; give one of them")
    return row.values.get("file") is not None


def _deck(open_file: OpenFile, source: Source, path: str, values: Mapping[Any, Any]) -> DeckSpec:
    row = Fields(source, path, values, frozenset(("name", "codes", "file")))
    name = row.name("name")
    codes: dict[Any, Any] = {}
    if _in_file(row, "codes"):
        part, rows = _part(row, open_file, frozenset(("code", "code_name")), ("code", "code_name"))
        for at, cells in rows:
            code, code_name = cells.get("code"), cells.get("code_name")
            _check_code(part, f"{at}.code", code, f"{at}.code_name", code_name)
            if code in codes:
                part.fault(f"{at}.code", code, "stands in the deck twice; leave one out")
            codes[code] = code_name
    else:
        codes = dict(row.mapping("codes", '{"380": Ukraine}'))
        for code, code_name in codes.items():
            at = f'{row.at("codes")}["{what(code)}"]'
            _check_code(source, at, code, at, code_name)
    return DeckSpec(name, codes)


def _check_code(source: Source, path: str, code: object, name_path: str, code_name: object) -> None:
    if not isinstance(code, str):
        source.fault(path, code, unquoted(code, "a code") if code is not None else "missing; give it")
    elif not _CODE.fullmatch(code):
        source.fault(path, code, _CODE_PROBLEM)
    if (
        not isinstance(code_name, str)
        or not 0 < len(code_name) <= CODE_NAME_CHARS_MAX
        or not plain(code_name)
    ):
        problem = f"not a code name; write a text of 1 to {CODE_NAME_CHARS_MAX} characters, quoted"
        source.fault(name_path, code_name, problem)


_RATE = frozenset((
    "code", "price", "setup_fee", "min_time", "interval", "grace_time", "effective_from", "effective_to",
))  # fmt: skip


def _rate_table(open_file: OpenFile, source: Source, path: str, values: Mapping[Any, Any]) -> RateTableSpec:
    row = Fields(source, path, values, frozenset(("name", "currency", "code_deck", "rates", "file")))
    name, currency = row.name("name"), row.form("currency", CURRENCY, _CURRENCY_PROBLEM)
    deck = row.text("code_deck", None)
    if _in_file(row, "rates"):
        rates = _rates(*_part(row, open_file, _RATE, ("code", "price")))
    else:
        rates = _rates(source, row.rows("rates"))
    return RateTableSpec(name, currency, deck, rates)


def _rates(source: Source, rows: _Rows) -> list[Row]:
    """Return the rows, sorted by code and `effective_from`."""
    out: dict[tuple[str, int], Row] = {}
    places: dict[tuple[str, int], str] = {}
    for at, values in rows:
        row = Fields(source, at, values, _RATE)
        rate = Row(
            row.form("code", _CODE, _CODE_PROBLEM), row.decimal("price"), row.decimal("setup_fee", 0),
            row.integer("min_time", 0, 0), row.integer("interval", 1, 1), row.integer("grace_time", 0, 0),
            row.instant("effective_from"), row.instant("effective_to"),
        )  # fmt: skip
        if not row.good:
            continue
        since = BEGINNING_MS if rate.from_ms is None else rate.from_ms
        if rate.to_ms is not None and rate.to_ms <= since:
            row.fault("effective_to", "not after effective_from; change one of them")
        key = (rate.code, since)
        if key in out:
            row.fault("code", f"{places[key]} has the same code and effective_from; change or leave out one")
        places[key], out[key] = at, rate
    return [out[key] for key in sorted(out)]


# ------------------------------------------------------------------------------------------------- files
def read_files(files: Sequence[tuple[str, bytes]], open_file: OpenFile) -> CatalogFile:
    """Return the checked rows of files (name, content) that are loaded together, and their faults.

    The form is told by the name: .csv, .json, else YAML. `open_file` opens the CSV that a deck or table
    names; it raises OSError when it cannot. A CSV file itself holds clients or client packages, told by its
    header.
    """
    out = CatalogFile()
    sections: dict[str, _Read] = {
        **_SECTIONS,
        "code_decks": partial(_deck, open_file),
        "rate_tables": partial(_rate_table, open_file),
    }
    for name, raw in files:
        if name.lower().endswith(".csv"):
            _read_csv(Source(name, out.faults, is_csv=True), raw, out)
            continue
        source = Source(name, out.faults)
        parsed = fast_rows.parse(raw)
        found = parse(source, raw if parsed is None else parsed.rest)
        if isinstance(found, dict):
            row = Fields(source, "", found, frozenset(("currencies", *sections)))
            _currencies(row, out)
            for section, read in sections.items():
                if parsed is not None and section in parsed.rows:
                    _usual_rows(source, parsed.rows[section], read, section, out)
                else:
                    _rows_of(source, row.rows(section), read, section, out)
            continue
        out.lost |= _ALL
        if found is not None:
            source.fault("", found, f"not a catalog; write sections such as {', '.join(_SECTIONS)}")
    out.lost.update(_lost(out.faults))
    if "clients" in out.lost:
        out.lost.add("accounts")
    _unique(out)
    return out


_Read = Callable[[Source, str, Mapping[Any, Any]], Any]

_SECTIONS: dict[str, _Read] = {
    "services": _service,
    "resellers": _reseller,
    "tax_profiles": _tax_profile,
    "packages": _package,
    "clients": _client,
    "identification": _rule,
    "client_packages": _client_package,
    "dids": _did,
}
"""Sections that need no file beside theirs."""

_KEYS = {
    "services": "name", "resellers": "id", "tax_profiles": "name", "code_decks": "name",
    "rate_tables": "name", "packages": "id", "clients": "id", "client_packages": "id", "dids": "number",
}  # fmt: skip
"""What the rows of a section are known by."""

_ALL = frozenset(("currencies", "accounts", *_KEYS))
_WHOLE = re.compile(r"(?:.*\.)?(accounts)(?:\[\d+\])?|(currencies)(?:\.\w+)?|(\w+)(?:\[\d+\])?")
"""Paths of sections and rows, which are at fault as a whole."""


def _lost(faults: list[Fault]) -> Iterable[str]:
    """Yield the sections that have rows of which nothing is known: no rows, misspelt, or there twice."""
    places = [_WHOLE.fullmatch(fault.path) for fault in faults]
    names = dict.fromkeys(place[place.lastindex or 0] for place in places if place is not None)
    for name in islice(names, HINTS_MAX):
        yield from get_close_matches(name, _ALL, n=1)
    yield from {fault.value for fault in faults if fault.path.startswith("line ")} & _ALL


def _rows_of(source: Source, rows: _Rows, read: _Read, section: str, out: CatalogFile) -> None:
    to = getattr(out, section)
    for path, values in rows:
        before = len(out.faults)
        spec = read(source, path, values)
        good = len(out.faults) == before
        to.append(Placed(source.name, path, spec, good))
        if not good and section in _KEYS:
            out.faulty.add((section, getattr(spec, _KEYS[section])))


def _usual_rows(source: Source, rows: Sequence[Struct], read: _Read, section: str, out: CatalogFile) -> None:
    made, to = fast_rows.SPECS[section], getattr(out, section)
    for position, row in enumerate(rows):
        path = f"{section}[{position}]"
        spec = made(row)
        if spec is not None:
            to.append(Placed(source.name, path, spec))
        else:
            _rows_of(source, [(path, msgspec.to_builtins(row))], read, section, out)


def _currencies(sections: Fields, out: CatalogFile) -> None:
    source = sections.source
    value = sections.mapping("currencies", '{base: USD, rates: {EUR: "1.08"}}')
    row = Fields(source, "currencies", value, frozenset(("base", "rates")))
    base = row.form("base", CURRENCY, _CURRENCY_PROBLEM, None)
    if base is not None:
        if out.base is not None and out.base.value != base:
            row.fault("base", f"{out.base.file} says {out.base.value}, and there is one base; leave one out")
        out.base = Placed(source.name, "currencies.base", base)
    rates = row.mapping("rates", '{EUR: "1.08"}')
    for name, raw in rates.items():
        path = f"currencies.rates.{name}"
        before, spec = len(out.faults), CurrencySpec(str(name), [])
        if not isinstance(name, str) or not CURRENCY.fullmatch(name):
            source.fault(path, name, _CURRENCY_PROBLEM + ", quoted")
        elif name == base:
            source.fault(path, raw, "the base is worth 1 of itself; leave it out")
        else:
            of = Fields(source, "currencies.rates", rates, frozenset(rates))
            spec = CurrencySpec(name, _currency(of, name))
        out.currencies.append(Placed(source.name, path, spec, len(out.faults) == before))


def _currency(rates: Fields, name: str) -> list[CurrencyRow]:
    """Return the rates of one currency: a decimal, or rows with `from`."""
    value = rates.values[name]
    if not isinstance(value, list):
        return [CurrencyRow(rates.decimal(name, low=1))]
    if not value:
        rates.fault(name, "without a rate; give one")
    found: dict[int, CurrencyRow] = {}
    for at, item in rates.rows(name):
        row = Fields(rates.source, at, item, frozenset(("rate", "from")))
        spec = CurrencyRow(row.decimal("rate", low=1), row.instant("from"))
        since = BEGINNING_MS if spec.from_ms is None else spec.from_ms
        if row.good and since in found:
            row.fault("from", "another rate has the same; change or leave out one")
        found[since] = spec
    return [found[since] for since in sorted(found)]


def _read_csv(source: Source, raw: bytes, out: CatalogFile) -> None:
    """Read a CSV file of clients or client packages, told by its header."""
    header = csv_header(raw)
    before = len(out.faults)
    if {"client", "package"} <= header:
        rows: _Rows = csv_rows(source, raw, names_of(ClientPackageSpec), ("id",))
        _rows_of(source, rows, _client_package, "client_packages", out)
    elif {"id", "currency"} <= header:
        rows = csv_rows(source, raw, names_of(ClientSpec))
        if len(out.faults) > before:
            out.lost.add("clients")
        _rows_of(source, ((path, _nested(values)) for path, values in rows), _client, "clients", out)
    else:
        out.lost.add("clients")
        problem = (
            "not clients (id, currency, …), nor client packages (id, client, package, …); correct the line, "
            "or name a code deck or rate table in a catalog file: file: NAME.csv"
        )
        source.fault("line 1", ",".join(sorted(header)), problem)


def _nested(values: dict[str, str]) -> dict[str, Any]:
    """Return a client's row with its JSON cells read; what is no JSON stays text, which is a fault then."""
    out: dict[str, Any] = dict(values)
    for name in ("accounts", "rate_tables", "payment_terms"):
        if name in values:
            try:
                out[name] = msgspec.json.decode(values[name])
            except (msgspec.DecodeError, RecursionError):
                continue
    return out


# -------------------------------------------------------------------------------------------- uniqueness
def _unique(out: CatalogFile) -> None:
    """Refuse what is named twice in what is loaded together."""
    for section, field in _KEYS.items():
        _once(out, section, attrgetter(field), f".{field}")
    _once(out, "currencies", attrgetter("name"), "")
    _once(out, "identification", IdentificationRule.conditions, "")
    _accounts_once(out)


def _once(out: CatalogFile, section: str, key: Callable[[Any], Any], field: str) -> None:
    first: dict[Any, Placed[Any]] = {}
    for placed in getattr(out, section):
        if section == "identification" and not placed.good:
            continue  # what it asks for is not known
        name = key(placed.value)
        other = first.setdefault(name, placed)
        if other is not placed and name:
            value = what(name) if field or section == "currencies" else placed.value.client
            problem = f"{other.file}: {other.path} is the same; leave one out"
            if section == "identification":
                problem = f"{other.file}: {other.path} asks for the same, so this never holds; leave one out"
            out.faults.append(Fault(placed.file, placed.path + field, value, problem))


def _accounts_once(out: CatalogFile) -> None:
    owners: dict[str, tuple[Placed[ClientSpec], int]] = {}
    for placed in out.clients:
        for position, account in enumerate(placed.value.accounts):
            other = owners.get(account.id)
            if other is not None and account.id:
                path = f"{other[0].file}: {other[0].path}.accounts[{other[1]}].id"
                problem = f"{path} is the same; account ids are unique in the system, change one"
                path = f"{placed.path}.accounts[{position}].id"
                out.faults.append(Fault(placed.file, path, account.id, problem))
            owners[account.id] = placed, position
