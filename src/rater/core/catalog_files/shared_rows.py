"""Rows of what clients share: services, resellers, tax profiles, currencies, identification, DIDs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rater.core.addresses import network_of
from rater.core.amounts import format_e10
from rater.core.catalog.codes import CODE_DIGITS_MAX
from rater.core.catalog.specs import (
    PRICE_UNIT_MAX,
    CurrencyRow,
    CurrencySpec,
    DidSpec,
    IdentificationRule,
    ResellerSpec,
    ServiceSpec,
    TaxProfileSpec,
    TaxSpec,
)
from rater.core.catalog_files.fields import (
    CODE,
    CODE_PROBLEM,
    CURRENCY,
    CURRENCY_PROBLEM,
    REQUIRED,
    Fields,
    Source,
)
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.core.cdr import SIDES
from rater.core.instants import BEGINNING_MS

_PREFIX = re.compile(rf"\+?[0-9]{{1,{CODE_DIGITS_MAX}}}")


def read_service(source: Source, path: str, values: Mapping[Any, Any]) -> ServiceSpec:
    """Return a service."""
    row = Fields(source, path, values, ServiceSpec)
    return ServiceSpec(
        row.name("name"), row.text("unit"), row.integer("price_unit", REQUIRED, 1, PRICE_UNIT_MAX)
    )


def read_reseller(source: Source, path: str, values: Mapping[Any, Any]) -> ResellerSpec:
    """Return a reseller."""
    row = Fields(source, path, values, ResellerSpec)
    identity = row.name("id")
    return ResellerSpec(identity, row.text("name", identity))


def read_tax_profile(source: Source, path: str, values: Mapping[Any, Any]) -> TaxProfileSpec:
    """Return a tax profile."""
    row = Fields(source, path, values, TaxProfileSpec)
    taxes = []
    for at, item in row.rows("taxes"):
        tax = Fields(source, at, item, TaxSpec)
        taxes.append(TaxSpec(tax.text("name"), format_e10(tax.decimal("percent", low=0))))
    return TaxProfileSpec(row.name("name"), taxes)


def read_identification_rule(source: Source, path: str, values: Mapping[Any, Any]) -> IdentificationRule:
    """Return a rule that tells whose call it is."""
    row = Fields(source, path, values, IdentificationRule)
    prefix = row.form("caller_prefix", _PREFIX, CODE_PROBLEM, None)
    network = row.text("ip", None)
    if network:
        try:
            network = str(network_of(network))
        except ValueError as error:
            row.fault("ip", f"not a network ({error}); write it like 203.0.113.0/24, without a port")
    return IdentificationRule(
        side=row.choice("side", SIDES), client=row.text("client"), account=row.text("account", None),
        gateway=_stripped(row, "gateway"), ip=network, login=_stripped(row, "login"),
        caller_prefix=prefix and prefix.removeprefix("+"),
    )  # fmt: skip


def _stripped(row: Fields, name: str) -> str | None:
    """Return a text without blanks around it: so it is compared."""
    value: str | None = row.text(name, None)
    if value and not value.strip():
        row.fault(name, "is blank; give a text, or leave it out")
    return value and value.strip()


def read_did(source: Source, path: str, values: Mapping[Any, Any]) -> DidSpec:
    """Return a DID."""
    row = Fields(source, path, values, DidSpec)
    number = row.form("number", CODE, CODE_PROBLEM)
    return DidSpec(number, row.texts("tags"), row.text("account", None))


def read_currencies(sections: Fields, out: CatalogFile) -> None:
    """Read the base and the rates of `currencies` into what files say."""
    source = sections.source
    value = sections.mapping("currencies", '{base: USD, rates: {EUR: "1.08"}}')
    row = Fields(source, "currencies", value, frozenset(("base", "rates")))
    base = row.form("base", CURRENCY, CURRENCY_PROBLEM, None)
    if base is not None:
        if out.base is not None and out.base.value != base:
            row.fault("base", f"{out.base.file} says {out.base.value}, and there is one base; leave one out")
        out.base = Placed(source.name, "currencies.base", base)
    rates = row.mapping("rates", '{EUR: "1.08"}')
    for name, raw in rates.items():
        path = f"currencies.rates.{name}"
        before, spec = len(out.faults), CurrencySpec(str(name), [])
        if not isinstance(name, str) or not CURRENCY.fullmatch(name):
            source.fault(path, name, CURRENCY_PROBLEM + ", quoted")
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
