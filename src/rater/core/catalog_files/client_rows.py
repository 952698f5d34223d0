"""Rows of clients and their packages; as they come by the million, each is read at once where it can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from rater.core.amounts import QUANTITY_MAX
from rater.core.catalog.specs import AccountSpec, ClientPackageSpec, ClientSpec, Tables, TermsSpec
from rater.core.catalog_files import fast_rows
from rater.core.catalog_files.fields import (
    CURRENCY,
    CURRENCY_PROBLEM,
    REQUIRED,
    Fields,
    Source,
    check_dates,
)
from rater.core.cdr import SIDES
from rater.core.periods import zone_of

T = TypeVar("T")
R = TypeVar("R", bound=Struct)


def read_client(source: Source, path: str, values: Mapping[Any, Any]) -> ClientSpec:
    """Return a client."""
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
        currency=row.form("currency", CURRENCY, CURRENCY_PROBLEM),
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


def read_client_package(source: Source, path: str, values: Mapping[Any, Any]) -> ClientPackageSpec:
    """Return a client's package."""
    found = _at_once(values, fast_rows.ClientPackageRow, fast_rows.client_package_of)
    if found is not None:
        return found
    row = Fields(source, path, values, ClientPackageSpec)
    spec = ClientPackageSpec(
        id=row.name("id"), client=row.text("client"), package=row.text("package"),
        account=row.text("account", None), start_date=row.when("start_date"), end_date=row.when("end_date"),
        activate_in_past=row.flag("activate_in_past"), quantity=row.integer("quantity", 1, 1, QUANTITY_MAX),
    )  # fmt: skip
    check_dates(row, spec.start_date, spec.end_date)
    return spec


def _at_once(values: Mapping[Any, Any], form: type[R], made: Callable[[R], T | None]) -> T | None:
    """Return what a row says, read at once; None: it is to be read field by field."""
    try:
        row = msgspec.convert(values, form)
    except (msgspec.ValidationError, ValueError):
        return None
    return made(row)


def nested(values: dict[str, str]) -> dict[str, Any]:
    """Return a client's row with its JSON cells read; what is no JSON stays text, which is a fault then."""
    out: dict[str, Any] = dict(values)
    for name in ("accounts", "rate_tables", "payment_terms"):
        if name in values:
            try:
                out[name] = msgspec.json.decode(values[name])
            except (msgspec.DecodeError, RecursionError):
                continue
    return out
