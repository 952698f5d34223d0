"""Rows of packages, with their fees, discounts and limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from rater.core.amounts import COUNT_MAX, E10, format_e10
from rater.core.catalog.codes import CODE_DIGITS_MAX
from rater.core.catalog.specs import (
    ClientBalance,
    DidLimitSpec,
    DiscountSpec,
    FeeSpec,
    FeeType,
    LimitSpec,
    LimitType,
    PackageSpec,
    PackageType,
    RenewalCharge,
    SetupFee,
    Status,
)
from rater.core.catalog_files.fields import (
    CODE_NAME_CHARS_MAX,
    CURRENCY,
    CURRENCY_PROBLEM,
    PRICE_MAX,
    REQUIRED,
    Fields,
    Source,
    check_dates,
)
from rater.core.periods import parse_span, surely_shorter

_PATTERN = re.compile(rf"[0-9]{{0,{CODE_DIGITS_MAX}}}\*|[0-9]{{1,{CODE_DIGITS_MAX}}}")
_PATTERN_PROBLEM = (
    f'not a code; write 1 to {CODE_DIGITS_MAX} digits, with "*" at the end alone, as in "38044*"'
)


def read_package(source: Source, path: str, values: Mapping[Any, Any]) -> PackageSpec:
    """Return a package."""
    row = Fields(source, path, values, PackageSpec)
    identity = row.name("id")
    spec = PackageSpec(
        id=identity,
        name=row.text("name"),
        type=row.choice("type", get_args(PackageType)),
        currency=row.form("currency", CURRENCY, CURRENCY_PROBLEM),
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
    check_dates(row, spec.start_date, spec.end_date)
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
