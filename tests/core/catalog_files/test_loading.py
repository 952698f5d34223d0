"""Catalog files (CONTRACTS.md, Catalog file): their forms, their faults, and what a load makes of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.catalog.specs import (
    ClientPackageSpec,
    ClientSpec,
    Content,
    DeckSpec,
    DidSpec,
    IdentificationRule,
    PackageSpec,
    objects,
)
from rater.core.catalog_files import client_rows, fast_rows, fields
from rater.core.catalog_files.fields import names_of
from rater.core.catalog_files.merging import CatalogFile, Existing, Fault, merge, read_files, warnings
from rater.core.clients.state import write_state
from rater.core.offline import Rater
from rater.core.periods import canonical_when, when_ms, zone_of

REMEDY = re.compile(
    r"\b(write|give|quote|leave|shorten|take|change|choose|correct|keep|make|save|assign|load|enable|round|must"
    r"|at most|use|did you mean|add)\b"
)
"""Each fault says what to do."""


def ms(text: str) -> int:
    """Return the instant of a date or time in UTC."""
    return when_ms(canonical_when(text), zone_of("UTC"))


NOW = ms("2026-11-10T12:00:00Z")

BASE = """
currencies: {base: USD, rates: {EUR: "1.08"}}
resellers: [{id: "1", name: Main}]
code_decks: [{name: a-z, codes: {"380": Ukraine, "38044": Ukraine Kiev}}]
rate_tables: [{name: retail, currency: USD, code_deck: a-z, rates: [{code: "380", price: "0.10"}]}]
tax_profiles: [{name: vat20, taxes: [{name: VAT, percent: "20"}]}]
packages:
  - {id: "1", name: Kiev 100, type: customer, currency: USD, period: 1 month,
     limits: [{id: m1, type: volume, service: calls, code: "38044*", limit: 100}]}
  - {id: "2", name: Free, type: customer, currency: USD}
clients:
  - {id: "42", name: Rose, currency: USD, time_zone: Europe/Kyiv, balance: "50.00",
     rate_tables: {orig: {calls: retail}}, accounts: [{id: sip-1001}]}
  - {id: "43", currency: EUR, accounts: [{id: trunk-1}]}
client_packages: [{id: "3", client: "42", package: "1", start_date: 2026-11-01, activate_in_past: true}]
"""


def read(text: str | bytes, name: str = "c.yaml", parts: Mapping[str, bytes] | None = None) -> CatalogFile:
    """Return the rows of a file that has no faults."""
    found = read_all({name: text}, parts)
    assert [str(fault) for fault in found.faults] == []
    return found


def faults(text: str | bytes, name: str = "c.yaml", parts: Mapping[str, bytes] | None = None) -> list[Fault]:
    """Return the faults of a file by itself."""
    return read_all({name: text}, parts).faults


def read_all(files: Mapping[str, str | bytes], parts: Mapping[str, bytes] | None = None) -> CatalogFile:
    """Read files that are loaded together, with the CSV parts that lie beside them."""

    def open_file(name: str) -> bytes:
        if name not in (parts or {}):
            raise FileNotFoundError(2, "No such file or directory", name)
        return (parts or {})[name]

    raw = [(name, text.encode() if isinstance(text, str) else text) for name, text in files.items()]
    return read_files(raw, open_file)


def loaded(*texts: str, at: int = NOW) -> Rater:
    """Return what loads make, one after the other."""
    rater = Rater()
    for text in texts:
        assert [str(fault) for fault in rater.load([("base.yaml", text.encode())], at)] == []
    return rater


def state(rater: Rater) -> Any:
    """Return all that a load can change."""
    content = rater.content or Content()
    states = {name: write_state(state) for name, state in rater.states.items()}
    balances = {name: rater.balance(name) for name in rater.states}
    return objects(content), states, balances, dict(rater.views.accounts), rater.catalog.version


# -------------------------------------------------------------------------------- faults of a file by itself
def package(rest: str) -> str:
    """Return a file of one package."""
    return f'packages: [{{id: "1", name: n, type: customer, currency: USD, {rest}}}]'


def limit(rest: str) -> str:
    """Return a file of one package with one limit."""
    return package(f'limits: [{{type: volume, service: calls, code: "1", limit: 1, {rest}}}]')


def rate(rest: str) -> str:
    """Return a file of one rate table with one row."""
    return f'rate_tables: [{{name: r, currency: USD, rates: [{{code: "1", price: "1", {rest}}}]}}]'


def client(rest: str) -> str:
    """Return a file of one client."""
    return f'clients: [{{id: "1", currency: USD, {rest}}}]'


def held(rest: str) -> str:
    """Return a file of one client package."""
    return f'client_packages: [{{id: "1", client: "2", package: "3", {rest}}}]'


LONG = "x" * 201

FAULTS: list[tuple[str, str, str, str]] = [
    # the file
    ("", "", "null", "the file is empty"),
    ("- 1", "", "[1]", "write sections"),
    ("client: []", "client", "[]", "did you mean `clients`?"),
    ("colour: red", "colour", "red", "unknown field; leave it out"),
    ("clients: [", "line 2, column 1", "null", "not YAML"),
    ("a: 1\n---\nb: 2", "line 2, column 1", "null", "another document"),
    ("dids: []\ndids: []", "line 2", "dids", "stands there twice"),
    ("clients: {a: 1}", "clients", "{'a': 1}", "not a list"),
    ("clients: [1]", "clients[0]", "1", "not a row"),
    ("clients:\n  - null", "clients[0]", "null", "not a row"),
    # texts
    ("resellers: [{name: x}]", "resellers[0].id", "null", "missing; give it"),
    ("resellers: [{id: null}]", "resellers[0].id", "null", "missing; give it"),
    ("resellers: [{id: 1}]", "resellers[0].id", "1", "quote it"),
    ("resellers: [{id: 1.5}]", "resellers[0].id", "1.5", "quote it"),
    ("resellers: [{id: yes}]", "resellers[0].id", "true", "quote it"),
    ("resellers: [{id: []}]", "resellers[0].id", "[]", "not a text"),
    ('resellers: [{id: ""}]', "resellers[0].id", "", "is empty"),
    ('resellers: [{id: "a\\tb"}]', "resellers[0].id", "a\\tb", "control characters"),
    (f"resellers: [{{id: {LONG}}}]", "resellers[0].id", "x" * 200, "more than 200 characters"),
    ('resellers: [{id: "1", nmae: x}]', "resellers[0].nmae", "x", "did you mean `name`?"),
    # currencies
    ("currencies: 5", "currencies", "5", "not a mapping"),
    ("currencies: {bass: USD}", "currencies.bass", "USD", "did you mean `base`?"),
    ('currencies: {base: "U$"}', "currencies.base", "U$", "not a currency"),
    ("currencies: {base: USD, rates: {EUR: 1.08}}", "currencies.rates.EUR", "1.08", "quote it"),
    ('currencies: {base: USD, rates: {EUR: "0"}}', "currencies.rates.EUR", "0", "above 0"),
    ('currencies: {base: USD, rates: {EUR: "-1"}}', "currencies.rates.EUR", "-1", "above 0"),
    ("currencies: {base: USD, rates: {EUR: []}}", "currencies.rates.EUR", "[]", "give one"),
    ("currencies: {base: USD, rates: {EUR: null}}", "currencies.rates.EUR", "null", "missing"),
    ('currencies: {base: USD, rates: {USD: "1"}}', "currencies.rates.USD", "1", "leave it out"),
    ('currencies: {base: USD, rates: {5: "1"}}', "currencies.rates.5", "5", "not a currency"),
    ("currencies: {base: USD, rates: [EUR]}", "currencies.rates", "['EUR']", "not a mapping"),
    (
        'currencies: {base: USD, rates: {EUR: [{rate: "1"}, {rate: "2"}]}}',
        "currencies.rates.EUR[1].from", "null", "another rate has the same",
    ),
    (
        'currencies: {base: USD, rates: {EUR: [{rate: "1", from: tomorrow}]}}',
        "currencies.rates.EUR[0].from", "tomorrow", "not a date or time",
    ),
    # services, resellers, taxes
    ("services: [{name: s, unit: u}]", "services[0].price_unit", "null", "missing"),
    ("services: [{name: s, unit: u, price_unit: 0}]", "services[0].price_unit", "0", "out of range"),
    ("services: [{name: s, unit: u, price_unit: 1099511627777}]", "services[0].price_unit", "1099511627777",
     "write 1 to 1099511627776"),
    ("services: [{name: s, unit: u, price_unit: 1.0}]", "services[0].price_unit", "1.0", "whole number"),
    ("services: [{name: s, unit: u, price_unit: true}]", "services[0].price_unit", "true", "whole number"),
    ("services: [{name: s, unit: u, price_unit: 010}]", "services[0].price_unit", "010", "leading zeros"),
    ("services: [{name: s, unit: u, price_unit: 1:30}]", "services[0].price_unit", "1:30", "whole number"),
    ("tax_profiles: [{name: t, taxes: x}]", "tax_profiles[0].taxes", "x", "not a list"),
    (
        "tax_profiles: [{name: t, taxes: [{name: VAT, percent: 20}]}]",
        "tax_profiles[0].taxes[0].percent", "20", "quote it",
    ),
    (
        'tax_profiles: [{name: t, taxes: [{name: VAT, percent: "-1"}]}]',
        "tax_profiles[0].taxes[0].percent", "-1", "0 or more",
    ),
    # decks
    ("code_decks: [{name: d}]", "code_decks[0].codes", "null", "exactly one of codes and file"),
    ('code_decks: [{name: d, codes: {}, file: "d.csv"}]', "code_decks[0].codes", "{}", "exactly one"),
    ("code_decks: [{name: d, codes: [380]}]", "code_decks[0].codes", "[380]", "not a mapping"),
    ("code_decks: [{name: d, codes: {0380: U}}]", 'code_decks[0].codes["0380"]', "0380", "quote it"),
    ("code_decks: [{name: d, codes: {380: U}}]", 'code_decks[0].codes["380"]', "380", "quote it"),
    ('code_decks: [{name: d, codes: {"38a": U}}]', 'code_decks[0].codes["38a"]', "38a", "not digits alone"),
    ('code_decks: [{name: d, codes: {"380": no}}]', 'code_decks[0].codes["380"]', "false", "quoted"),
    ('code_decks: [{name: d, codes: {"380": ""}}]', 'code_decks[0].codes["380"]', "", "not a code name"),
    ('code_decks: [{name: d, codes: {"1": a, "1": b}}]', "line 1", "1", "stands there twice"),
    ("code_decks: [{name: d, file: none.csv}]", "code_decks[0].file", "none.csv", "cannot be read"),
    ("code_decks: [{name: d, file: 5}]", "code_decks[0].file", "5", "quote it"),
    # rates
    ("rate_tables: [{name: r, currency: USD}]", "rate_tables[0].rates", "null", "exactly one of rates"),
    ("rate_tables: [{name: r, rates: []}]", "rate_tables[0].currency", "null", "missing"),
    (rate("prise: 1"), "rate_tables[0].rates[0].prise", "1", "did you mean `price`?"),
    (rate("setup_fee: 0"), "rate_tables[0].rates[0].setup_fee", "0", "quote it"),
    (rate('setup_fee: "1e3"'), "rate_tables[0].rates[0].setup_fee", "1e3", "not a decimal number"),
    (rate('setup_fee: ".5"'), "rate_tables[0].rates[0].setup_fee", ".5", "not a decimal number"),
    (
        rate('setup_fee: "0.00000000001"'),
        "rate_tables[0].rates[0].setup_fee", "0.00000000001", "more than 10 decimals",
    ),
    (
        rate('setup_fee: "900000001"'),
        "rate_tables[0].rates[0].setup_fee", "900000001", "out of range; at most 900000000",
    ),
    (rate("interval: 0"), "rate_tables[0].rates[0].interval", "0", "write 1 to"),
    (rate("min_time: -1"), "rate_tables[0].rates[0].min_time", "-1", "write 0 to"),
    (rate('grace_time: "5"'), "rate_tables[0].rates[0].grace_time", "5", "without quotes"),
    (rate("grace_time: 2147483648"), "rate_tables[0].rates[0].grace_time", "2147483648", "out of range"),
    (rate("effective_from: 5"), "rate_tables[0].rates[0].effective_from", "5", "not a date or time"),
    (
        rate("effective_from: 2026-02-30"),
        "rate_tables[0].rates[0].effective_from", "2026-02-30", "no such date",
    ),
    (
        rate("effective_from: 2026-01-01T00:00:00"),
        "rate_tables[0].rates[0].effective_from", "2026-01-01T00:00:00", "without offset",
    ),
    (
        rate("effective_from: 2026-01-02, effective_to: 2026-01-02T00:00:00Z"),
        "rate_tables[0].rates[0].effective_to", "2026-01-02T00:00:00Z", "not after effective_from",
    ),
    (
        'rate_tables: [{name: r, currency: USD, rates: [{code: 01, price: "1"}]}]',
        "rate_tables[0].rates[0].code", "01", "quote it",
    ),
    (
        'rate_tables: [{name: r, currency: USD, rates: [{code: 38, price: "1"}]}]',
        "rate_tables[0].rates[0].code", "38", "quote it",
    ),
    (
        'rate_tables: [{name: r, currency: USD, rates: [{code: "1*", price: "1"}]}]',
        "rate_tables[0].rates[0].code", "1*", "not digits alone",
    ),
    (
        'rate_tables: [{name: r, currency: USD, rates: [{code: "1", price: 0.10}]}]',
        "rate_tables[0].rates[0].price", "0.10", "quote it",
    ),
    (
        'rate_tables: [{name: r, currency: USD, rates: [{code: "1", price: "1"}, {code: "1", price: "2"}]}]',
        "rate_tables[0].rates[1].code", "1", "has the same code and effective_from",
    ),
    (
        rate('effective_from: 2026-01-01}, {code: "1", price: "2", effective_from: 2026-01-01T00:00Z'),
        "rate_tables[0].rates[1].code", "1", "has the same code and effective_from",
    ),
    # packages
    ('packages: [{id: "1", name: n, currency: USD}]', "packages[0].type", "null", "missing"),
    (package("status: activ"), "packages[0].status", "activ", "did you mean `active`?"),
    (package("status: no"), "packages[0].status", "false", "not one of active, disabled, archived"),
    (package("setup_fee: waive"), "packages[0].setup_fee", "waive", "charge, dont_charge"),
    (package("client_balance: [allow]"), "packages[0].client_balance", "['allow']", "allow, deny"),
    (package("renewal_charge: later"), "packages[0].renewal_charge", "later", "before_period"),
    (package('full_charge: "true"'), "packages[0].full_charge", "true", "without quotes"),
    (package("charge_on_event: 1"), "packages[0].charge_on_event", "1", "not true or false"),
    (package("priority: 1.5"), "packages[0].priority", "1.5", "not a whole number"),
    (package("period: 75 hours"), "packages[0].period", "75 hours", "hours end at 24, use days"),
    (package("period: 1 fortnight"), "packages[0].period", "1 fortnight", "not a period"),
    (package("period: 30"), "packages[0].period", "30", "not a text"),
    (
        package("period: 1 month, advance_renew: 30 days"),
        "packages[0].advance_renew", "30 days", "not shorter than the period",
    ),
    (package("advance_renew: 1 day"), "packages[0].advance_renew", "1 day", "needs a period"),
    (package("renew_for: 1 day"), "packages[0].renew_for", "1 day", "needs a period"),
    (
        package("align_to_payment_terms: true"),
        "packages[0].align_to_payment_terms", "true", "needs a period",
    ),
    (
        package("start_date: 2026-11-02, end_date: 2026-11-02"),
        "packages[0].end_date", "2026-11-02", "not after start_date",
    ),
    (
        package("start_date: 2026-11-02, end_date: 2026-11-01T00:00:00Z"),
        "packages[0].end_date", "2026-11-01T00:00:00Z", "not after start_date",
    ),
    (
        package("fees: [{type: monthly, name: n, rate: '1'}]"),
        "packages[0].fees[0].type", "monthly", "activation, subscription",
    ),
    (
        package("fees: [{type: activation, name: n, rate: 1}]"),
        "packages[0].fees[0].rate", "1", "quote it",
    ),
    (
        package("discounts: [{activation_count: 2, discount: '1'}, {activation_count: 2, discount: '2'}]"),
        "packages[0].discounts[1].activation_count", "2", "stands there twice",
    ),
    (
        package("discounts: [{activation_count: 0, discount: '1'}]"),
        "packages[0].discounts[0].activation_count", "0", "out of range",
    ),
    (package("did_limits: [{}]"), "packages[0].did_limits[0].quantity", "null", "missing"),
    (
        package("did_limits: [{quantity: 1, allowed_tags: [a, 5]}]"),
        "packages[0].did_limits[0].allowed_tags[1]", "5", "quote it",
    ),
    (
        package("did_limits: [{quantity: 1, allowed_tags: kyiv}]"),
        "packages[0].did_limits[0].allowed_tags", "kyiv", "not a list",
    ),
    # limits
    (limit('code_name: "U", code_deck: d'), "packages[0].limits[0].code", "1", "exactly one of code and"),
    (
        package("limits: [{type: volume, service: calls, limit: 1}]"),
        "packages[0].limits[0].code", "null", "give one of them",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: 1, code_name: U}]"),
        "packages[0].limits[0].code_deck", "null", "missing",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: 1, code: 38044}]"),
        "packages[0].limits[0].code", "38044", "quote it",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: 1, code: '3*8'}]"),
        "packages[0].limits[0].code", "3*8", "at the end alone",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: 0, code: '1'}]"),
        "packages[0].limits[0].limit", "0", "out of range; write 1 to",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: '0.0', code: '1'}]"),
        "packages[0].limits[0].limit", "0.0", "above 0",
    ),
    (
        package("limits: [{type: volume, service: calls, limit: 2.5, code: '1'}]"),
        "packages[0].limits[0].limit", "2.5", "quote it",
    ),
    (
        package("limits: [{type: money, service: calls, limit: 2, code: '1'}]"),
        "packages[0].limits[0].limit", "2", "quote it",
    ),
    (
        package("limits: [{type: money, service: calls, limit: '0', code: '1'}]"),
        "packages[0].limits[0].limit", "0", "above 0",
    ),
    (
        package("limits: [{type: money, service: calls, limit: '0.0000001', code: '1'}]"),
        "packages[0].limits[0].limit", "0.0000001", "more than 6 decimals",
    ),
    (
        package("limits: [{type: money, service: calls, limit: '9007199255', code: '1'}]"),
        "packages[0].limits[0].limit", "9007199255", "out of range",
    ),
    (
        package("limits: [{type: money, service: calls, limit: '1', code: '1', per_call_max: 5}]"),
        "packages[0].limits[0].per_call_max", "5", "for volume limits only",
    ),
    (
        package("limits: [{type: money, service: calls, limit: '1', code: '1', rollover: 5}]"),
        "packages[0].limits[0].rollover", "5", "for volume limits only",
    ),
    (limit("min_call: -1"), "packages[0].limits[0].min_call", "-1", "out of range"),
    (limit("per_call_max: 0"), "packages[0].limits[0].per_call_max", "0", "out of range"),
    (limit("rollover: -1"), "packages[0].limits[0].rollover", "-1", "out of range"),
    (limit("exclude: ['1*', 12]"), "packages[0].limits[0].exclude[1]", "12", "quote it"),
    (limit("exclude: ['1**']"), "packages[0].limits[0].exclude[0]", "1**", "not a code"),
    (
        package(
            "limits: [{type: volume, service: calls, limit: 1, code: '1'},"
            " {id: '0', type: volume, service: calls, limit: 1, code: '2'}]"
        ),
        "packages[0].limits[1].id", "0", "the id of packages[0].limits[0] too",
    ),
    # clients
    ('clients: [{id: "1"}]', "clients[0].currency", "null", "missing"),
    (client("time_zone: Kyiv"), "clients[0].time_zone", "Kyiv", "or upgrade tzdata"),
    (client("time_zone: 2"), "clients[0].time_zone", "2", "quote it"),
    (client("balance: 50.00"), "clients[0].balance", "50.00", "quote it"),
    (client("balance: 0"), "clients[0].balance", "0", "quote it"),
    (client('credit_limit: "-1"'), "clients[0].credit_limit", "-1", "0 or more"),
    (client('low_balance: "5,00"'), "clients[0].low_balance", "5,00", "not a decimal number"),
    (client("payment_terms: monthly"), "clients[0].payment_terms", "monthly", "not a mapping"),
    (
        client("payment_terms: {every: 1 month}"),
        "clients[0].payment_terms.anchor", "null", "missing",
    ),
    (
        client("payment_terms: {every: 1 week, anchor: 2026-01-01}"),
        "clients[0].payment_terms.every", "1 week", "not a period",
    ),
    (client("rate_tables: retail"), "clients[0].rate_tables", "retail", "not a mapping"),
    (
        client("rate_tables: {origin: {calls: retail}}"),
        "clients[0].rate_tables.origin", "{'calls': 'retail'}", "did you mean `orig`?",
    ),
    (client("rate_tables: {orig: retail}"), "clients[0].rate_tables.orig", "retail", "not a mapping"),
    (
        client("rate_tables: {orig: {calls: null}}"),
        "clients[0].rate_tables.orig.calls", "null", "missing",
    ),
    (client("accounts: [sip-1]"), "clients[0].accounts[0]", "sip-1", "not a row"),
    (
        client("accounts: [{id: a, rate_tables: {term: {calls: 5}}}]"),
        "clients[0].accounts[0].rate_tables.term.calls", "5", "quote it",
    ),
    (
        client("accounts: [{id: a}, {id: a}]"),
        "clients[0].accounts[1].id", "a", "clients[0].accounts[0].id is the same",
    ),
    # identification
    (
        'identification: [{side: both, client: "1"}]',
        "identification[0].side", "both", "not one of orig, term",
    ),
    ("identification: [{side: orig}]", "identification[0].client", "null", "missing"),
    (
        'identification: [{side: orig, client: "1", ip: 203.0.113.1/24}]',
        "identification[0].ip", "203.0.113.1/24", "write 203.0.113.0/24 for the network",
    ),
    (
        'identification: [{side: orig, client: "1", caller_prefix: "1a"}]',
        "identification[0].caller_prefix", "1a", "not digits alone",
    ),
    (
        'identification: [{side: orig, client: "1", login: a}, {side: orig, client: "2", login: a}]',
        "identification[1]", "2", "identification[0] asks for the same",
    ),
    # client packages and DIDs
    (held("quantity: 0"), "client_packages[0].quantity", "0", "out of range"),
    (held("quantity: 1000001"), "client_packages[0].quantity", "1000001", "1 to 1000000"),
    (held("activate_in_past: maybe"), "client_packages[0].activate_in_past", "maybe", "true or false"),
    (held("start_date: soon"), "client_packages[0].start_date", "soon", "not a date or time"),
    (
        held("start_date: 2026-11-02T10:00:00.5Z"),
        "client_packages[0].start_date", "2026-11-02T10:00:00.5Z", "whole seconds",
    ),
    (
        held("start_date: 2026-11-02, end_date: 2026-11-01"),
        "client_packages[0].end_date", "2026-11-01", "not after start_date",
    ),
    ('dids: [{number: "+380"}]', "dids[0].number", "+380", "not digits alone"),
    ('dids: [{number: "380", tags: [""]}]', "dids[0].tags[0]", "", "is empty"),
    # named twice
    ('resellers: [{id: "1"}, {id: "1"}]', "resellers[1].id", "1", "resellers[0] is the same"),
    (
        client("") + "\nservices: [{name: a, unit: u, price_unit: 1}, {name: a, unit: u, price_unit: 1}]",
        "services[1].name", "a", "services[0] is the same",
    ),
    ('dids: [{number: "1"}, {number: "1"}]', "dids[1].number", "1", "dids[0] is the same"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "value", "problem"), FAULTS)
def test_a_fault_names_file_path_value_and_remedy(text: str, path: str, value: str, problem: str) -> None:
    """Each fault of a file by itself is the only one found, and names file, path, value and what to do."""
    (fault,) = faults(text)
    assert (fault.file, fault.path, fault.value) == ("c.yaml", path, value)
    assert problem in fault.problem
    assert REMEDY.search(fault.problem), fault.problem
    assert str(fault).startswith("c.yaml: ")
    assert "\n" not in str(fault)


def test_all_faults_of_a_file_are_named_at_once() -> None:
    """Faults in every section, and several in one row, are told together, in the order of the file."""
    text = """
currencies: {base: USD, rates: {EUR: 1.08}}
packages:
  - {id: 1, name: n, type: custom, currency: USD, advance_renew: 1 day, fees: [{type: activation}],
     limits: [{type: volume, service: calls, code: 380, limit: 0, exclude: ["4*4"]}]}
clients: [{id: "1", currency: USD, balance: 5, time_zone: Kiev, accounts: [{}]}]
client_packages: [{id: "1", client: "1", quantity: 0}]
"""
    assert [fault.path for fault in faults(text)] == [
        "currencies.rates.EUR",
        "packages[0].id",
        "packages[0].type",
        "packages[0].fees[0].name",
        "packages[0].fees[0].rate",
        "packages[0].limits[0].limit",
        "packages[0].limits[0].code",
        "packages[0].limits[0].exclude[0]",
        "packages[0].advance_renew",
        "clients[0].time_zone",
        "clients[0].balance",
        "clients[0].accounts[0].id",
        "client_packages[0].package",
        "client_packages[0].quantity",
    ]


# ------------------------------------------------------------------------------------------------- the forms
def test_yaml_json_and_csv_say_the_same() -> None:
    """The same rows in YAML, JSON and CSV make the same content and the same clients."""
    rows = yaml.load(BASE, yaml.BaseLoader)  # noqa: S506 - all of it text, as quoted in JSON
    rows["packages"][0]["limits"][0]["limit"] = 100
    clients, held = rows.pop("clients"), rows.pop("client_packages")
    held[0]["activate_in_past"] = True
    whole = json.dumps(rows | {"clients": clients, "client_packages": held}).encode()
    files = [
        ("rest.json", json.dumps(rows).encode()),
        ("clients.csv", csv(clients)),
        ("held.csv", csv([{**held[0], "activate_in_past": "TRUE"}])),
    ]
    from_json, from_csv = Rater(), Rater()
    assert from_json.load([("c.json", whole)], NOW) == []
    assert from_csv.load(files, NOW) == []
    assert state(from_json) == state(from_csv) == state(loaded(BASE))


def csv(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a CSV; what is not text in a cell is JSON."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(header)]
    for row in rows:
        cells = (row.get(name, "") for name in header)
        lines.append(",".join(cell if isinstance(cell, str) else _cell(cell) for cell in cells))
    return "\r\n".join(lines).encode("utf-8-sig")


def _cell(value: object) -> str:
    return '"' + json.dumps(value).replace('"', '""') + '"'


def test_decks_and_tables_in_csv() -> None:
    """`file: NAME.csv` gives the same deck and table as the rows in the catalog file."""
    parts = {
        "a-z.csv": b"code,code_name\n380,Ukraine\n38044,Ukraine Kiev\n",
        "retail.csv": (
            b"price,code,setup_fee,min_time,interval,grace_time,effective_from,effective_to\n"
            b"0.10,380,0.05,60,60,5,2026-01-01,2027-01-01T00:00:00Z\n\n0.06,38044,,,,,,\n"
        ),
    }
    file = read(
        "code_decks: [{name: a-z, file: a-z.csv}]\n"
        "rate_tables: [{name: retail, currency: USD, code_deck: a-z, file: retail.csv}]",
        parts=parts,
    )
    inline = read("""
code_decks: [{name: a-z, codes: {"380": Ukraine, "38044": Ukraine Kiev}}]
rate_tables: [{name: retail, currency: USD, code_deck: a-z, rates: [
  {code: "38044", price: "0.06"},
  {code: "380", price: "0.10", setup_fee: "0.05", min_time: 60, interval: 60, grace_time: 5,
   effective_from: 2026-01-01, effective_to: 2027-01-01T00:00:00Z}]}]
""")
    assert file.code_decks[0].value == inline.code_decks[0].value
    assert file.rate_tables[0].value == inline.rate_tables[0].value
    (first, second) = file.rate_tables[0].value.rates
    assert (first.code, first.price_e10, first.setup_fee_e10) == ("380", 10**9, 5 * 10**8)
    assert (first.min_time, first.interval, first.grace_time) == (60, 60, 5)
    assert (first.from_ms, first.to_ms) == (ms("2026-01-01"), ms("2027-01-01"))
    assert (second.setup_fee_e10, second.min_time, second.interval, second.grace_time) == (0, 0, 1, 0)
    assert (second.from_ms, second.to_ms) == (None, None)


PART_FAULTS = [
    (b"code\n1\n", "line 1", "code", "lacks the column `price`"),
    (b"code,price,prise\n1,1,1\n2,2,2\n", "line 1", "prise", "unknown column; did you mean `price`?"),
    (b"code,price,code\n1,1,1\n", "line 1", "code", "a column that stands there twice"),
    (b"code,price\n1\n", "line 2", "1", "has 1 cells, the header has 2"),
    (b"code,price\n1,1,000\n", "line 2", "1,1,000", "quote commas"),
    (b'code,price\n"1,1\n', "line 2", "null", "not CSV"),
    (b"code,price\n1,\n", "line 2.price", "null", "missing"),
    (b"code,price\n\n1x,1\n", "line 3.code", "1x", "not digits alone"),
    (b"code,price,interval\n1,1,1.0\n", "line 2.interval", "1.0", "not a whole number"),
    (b"code,price,interval\n1,1,null\n", "line 2.interval", "null", "not a whole number"),
    (b"code,price\n1,1\n1,2\n", "line 3.code", "1", "line 2 has the same code and effective_from"),
    (b"code,price\n\xff,1\n", "byte 11", "null", "not UTF-8 (0xFF; is it Windows-1252?)"),
    (b"code;price\n1;1\n", "line 1", "code;price", "its cells are separated by `;`"),
    (b"Code\tRate\n1\t1\n", "line 1", "Code\\tRate", "its cells are separated by tabs"),
    (b"Dest|Rate\n1|1\n", "line 1", "Dest|Rate", "its cells are separated by `|`"),
    (b"PK\x03\x04[Content_Types].xml", "", "", "is a workbook (XLSX)"),
    (b"PK\x03\x04deck.csv", "", "", "is a ZIP archive"),
    (b"\x1f\x8b\x08", "", "", "is packed with gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "", "", "a workbook of the old form"),
    ("code,price\n1,1\n".encode("utf-16"), "", "", "is UTF-16 text"),
    ("code,price\n1,1\n".encode("utf-16-le"), "", "", "is UTF-16 text"),
]


@pytest.mark.parametrize(("raw", "path", "value", "problem"), PART_FAULTS)
def test_faults_of_a_csv_beside_name_its_line(raw: bytes, path: str, value: str, problem: str) -> None:
    """The CSV of a rate table is named with line and value; a wrong column is one fault, not one a row."""
    (fault,) = faults("rate_tables: [{name: r, currency: USD, file: r.csv}]", parts={"r.csv": raw})
    assert (fault.file, fault.path, fault.value) == ("r.csv", path, value)
    assert problem in fault.problem
    assert REMEDY.search(fault.problem), fault.problem


def test_an_empty_csv_lacks_its_columns() -> None:
    """Without a header each column that is needed is named."""
    found = faults("rate_tables: [{name: r, currency: USD, file: r.csv}]", parts={"r.csv": b""})
    assert [fault.problem for fault in found] == [
        "lacks the column `code`; add it",
        "lacks the column `price`; add it",
    ]


def test_a_code_twice_in_a_csv_deck() -> None:
    """A code stands in a deck once, in CSV as in YAML."""
    raw = b"code,code_name\n1,USA\n1,Canada\n"
    (fault,) = faults("code_decks: [{name: d, file: d.csv}]", parts={"d.csv": raw})
    assert (fault.file, fault.path, fault.value) == ("d.csv", "line 3.code", "1")


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("deck.xlsx", b"PK\x03\x04\x14\0xl/workbook.xml", "is a workbook (XLSX), not a catalog"),
        ("deck.zip", b"PK\x03\x04\x14\0deck.csv", "is a ZIP archive, not a catalog"),
        ("catalog.yaml", b"\x1f\x8b\x08", "is packed with gzip, not a catalog"),
        ("deck.pdf", b"%PDF-1.7", "is a PDF, not a catalog"),
        ("deck.txt", b"Code\tRate\n380\t0.1\n", "is text whose cells are separated by tabs, not a catalog"),
        ("deck.csv", b"Code;Rate\n380;0,1\n", "its cells are separated by `;`"),
        ("deck.csv", b"Code,Rate\n380,0.1\n", "a carrier's deck is read by"),
        ("deck.csv", "Code,Rate\n".encode("utf-16"), "is UTF-16 text, not CSV in UTF-8"),
    ],
)
def test_a_carriers_deck_is_named_with_the_command_for_it(name: str, raw: bytes, said: str) -> None:
    """A load says which separator, encoding, packing or workbook it met, and which command reads it."""
    (fault,) = read_files([(name, raw)], lambda _: b"").faults
    assert said in fault.problem
    assert "rater decks import FILE --table NAME" in fault.problem


def test_a_catalog_in_utf_16_or_without_ending_is_read() -> None:
    """YAML knows UTF-16 by its mark; a catalog's name may end as it likes."""
    text = 'currencies: {base: USD}\nresellers: [{id: "1", name: "a;b|c"}]\n'
    for name, raw in (
        ("c.yaml", text.encode("utf-16")),
        ("catalog", text.encode()),
        ("c.txt", text.encode()),
    ):
        assert read_files([(name, raw)], lambda _: b"").faults == []


CSV_FAULTS = [
    (b"id,name\n1,x\n", "line 1", "id,name", "not clients"),
    (b"client,package\n1,2\n", "line 1", "client,package", "lacks the column `id`"),
    (b"id,client,package,quantity\n1,2,3,1.0\n", "line 2.quantity", "1.0", "not a whole number"),
    (b"id,client,package,activate_in_past\n1,2,3,1\n", "line 2.activate_in_past", "1", "not true or false"),
    (b"id,currency,balance\n1,USD,1e3\n", "line 2.balance", "1e3", "not a decimal number"),
    (b"id,currency,accounts\n1,USD,sip-1\n", "line 2.accounts", "sip-1", "not a list"),
    (b'id,currency,accounts\n1,USD,"[{""id"": 5}]"\n', "line 2.accounts[0].id", "5", "quote it"),
    (b"id,currency\n1,USD\n1,USD\n", "line 3.id", "1", "line 2 is the same"),
]


@pytest.mark.parametrize(("raw", "path", "value", "problem"), CSV_FAULTS)
def test_faults_of_a_csv_of_clients(raw: bytes, path: str, value: str, problem: str) -> None:
    """A CSV of clients or client packages, told by its header, is checked as strictly as YAML."""
    (fault,) = faults(raw, "c.csv")
    assert (fault.file, fault.path, fault.value) == ("c.csv", path, value)
    assert problem in fault.problem
    assert REMEDY.search(fault.problem), fault.problem


JSON_FAULTS = [
    (b'{"clients": [}', "", "null", "not JSON"),
    (b'{"dids": [], "dids": []}', "dids", "[]", "stands there twice"),
    (b'{"clients": [{"id": "1", "currency": "USD", "id": "2"}]}', "clients[0].id", "2", "stands there twice"),
    (
        b'{"clients": [{"id": "1", "currency": "USD", "balance": 1.50}]}',
        "clients[0].balance",
        "1.50",
        "quote it",
    ),
    (
        b'{"clients": [{"id": "1", "currency": "USD", "balance": NaN}]}',
        "clients[0].balance",
        "NaN",
        "quote it",
    ),
    (b'{"dids": [{"number": "1", "tags": ["\\ud800"]}]}', "dids[0].tags[0]", "\\ud800", "control characters"),
    (b"[" * 100_000, "", "null", "not JSON"),
    (b'{"clients": [{"id": "\xff"}]}', "", "null", "not JSON"),
]


@pytest.mark.parametrize(("raw", "path", "value", "problem"), JSON_FAULTS)
def test_faults_of_json(raw: bytes, path: str, value: str, problem: str) -> None:
    """JSON is checked like YAML: names that come twice have a path, numbers show as written."""
    (fault,) = faults(raw, "c.json")
    assert (fault.file, fault.path, fault.value) == ("c.json", path, value)
    assert problem in fault.problem
    assert REMEDY.search(fault.problem), fault.problem


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe\x00",
        b"a: \xff",
        b"{[1]: 2}",
        b"a: *x",
        b"a: !!python/object:os.system x",
        b"[" * 5000,
        b"\x00",
    ],
)
def test_broken_yaml_is_one_sentence(raw: bytes) -> None:
    """Whatever bytes a file holds, a fault of one line comes of it, and no traceback."""
    (fault,) = faults(raw)
    assert fault.problem.startswith("not YAML: ")
    assert "\n" not in str(fault)


def test_yaml_in_braces_is_yaml() -> None:
    """A file that begins like JSON and is none is read as YAML; JSON without its suffix is read as well."""
    assert read("{dids: [{number: '1'}]}").dids[0].value.number == "1"
    assert read(b'\xef\xbb\xbf{"dids": [{"number": "1"}]}', "c.json").dids[0].value.number == "1"


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["c.yaml", "c.json", "c.csv"]))
def test_any_bytes_are_read_or_refused(raw: bytes, name: str) -> None:
    """No content makes reading raise, nor merging what was read."""
    assert merge(None, read_all({name: raw}), NOW, Existing({}, {}))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["1", "calls", "volume"]),
    lambda of: (
        st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), of, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = sorted(
    {
        name
        for spec in (PackageSpec, ClientSpec, ClientPackageSpec, IdentificationRule, DidSpec)
        for name in names_of(spec)
    }
    | {"base", "unit", "price_unit", "codes", "code_deck", "rates", "file", "taxes"}
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted({*yaml.safe_load(BASE), "services", "identification", "dids"})),
    st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=6),
    st.booleans(),
)
def test_any_values_are_read_or_refused(section: str, row: dict[str, Any], after: bool) -> None:  # noqa: FBT001
    """Values of any type in any field, alone or in a row that is good or loaded, never make a load raise."""
    rows = yaml.load(BASE, yaml.BaseLoader)  # noqa: S506 - all of it text, as quoted in JSON
    was = rows.get(section, {})
    rows[section] = {**was, **row} if section == "currencies" else [row, {**was[0], **row}] if was else [row]
    rater = loaded(BASE) if after else Rater()
    before = state(rater)
    if rater.load([("c.yaml", yaml.safe_dump(rows).encode())], NOW):
        assert state(rater) == before


def test_several_files_are_one_load() -> None:
    """What two files of one load bring is a fault in the second, which names the first."""
    other = client("accounts: [{id: x}]").replace('id: "1"', 'id: "2"')
    (fault,) = read_all({"a.yaml": client("accounts: [{id: x}]"), "b.yaml": other}).faults
    assert (fault.file, fault.path, fault.value) == ("b.yaml", "clients[0].accounts[0].id", "x")
    assert "a.yaml: clients[0].accounts[0].id is the same" in fault.problem
    bases = read_all({"a.yaml": "currencies: {base: USD}", "b.yaml": "currencies: {base: EUR}"})
    assert [(fault.file, fault.path, fault.value) for fault in bases.faults] == [
        ("b.yaml", "currencies.base", "EUR")
    ]


# ------------------------------------------------------------------------- faults against what is loaded
def packages(rest: str = "") -> str:
    """Return package 1 of BASE as a file, with one thing changed or added."""
    return f"""
packages:
  - {{id: "1", name: Kiev 100, type: customer, currency: USD, period: 1 month, {rest}
     limits: [{{id: m1, type: volume, service: calls, code: "38044*", limit: 100}}]}}
"""


def other(rest: str) -> str:
    """Return a new package as a file."""
    return f'packages: [{{id: "9", name: n, type: customer, currency: USD, {rest}}}]'


def limits(rest: str) -> str:
    """Return a new package with one limit as a file."""
    return other(f"limits: [{{type: volume, service: calls, {rest}}}]")


def assigned(rest: str) -> str:
    """Return a new client package of client 42 as a file."""
    return f'client_packages: [{{id: "9", client: "42", {rest}}}]'


def again(rest: str) -> str:
    """Return client package 3 of BASE as a file."""
    return f'client_packages: [{{id: "3", client: "42", {rest}}}]'


AGAINST = [
    # currencies and services
    ("currencies: {base: EUR}", "currencies.base", "EUR", "the base is USD and cannot change any more"),
    ('currencies: {rates: {USD: "1"}}', "currencies.rates.USD", "USD", "is the base"),
    ("services: [{name: calls, unit: s, price_unit: 60}]", "services[0]", "s / 60", "cannot change any more"),
    # references of tables and packages
    (
        "rate_tables: [{name: r, currency: usd, rates: []}]",
        "rate_tables[0].currency", "usd", "did you mean 'USD'?",
    ),
    (
        "rate_tables: [{name: r, currency: USD, code_deck: a_z, rates: []}]",
        "rate_tables[0].code_deck", "a_z", "no such code deck, neither in the file nor loaded",
    ),
    ('currencies: {rates: {eur: "1"}}', "currencies.rates.eur", "eur", "letter case alone; write EUR"),
    ('currencies: {rates: {Usd: "1"}}', "currencies.rates.Usd", "Usd", "letter case alone; write USD"),
    (other("reseller: '7'"), "packages[0].reseller", "7", "no such reseller"),
    (
        'packages: [{id: "9", name: n, type: customer, currency: GBP}]',
        "packages[0].currency", "GBP", "no such",
    ),
    (
        other("limits: [{type: volume, service: fax, code: '1', limit: 1}]"),
        "packages[0].limits[0].service", "fax", "no such service",
    ),
    (
        limits("code_deck: none, code_name: U, limit: 1"),
        "packages[0].limits[0].code_deck", "none", "no such code deck",
    ),
    (
        limits("code_deck: a-z, code_name: Ukrain, limit: 1"),
        "packages[0].limits[0].code_name", "Ukrain", "no such code name in code deck 'a-z'",
    ),
    (
        limits("code: '1', limit: '0.01'"),
        "packages[0].limits[0].limit", "0.01", "not a whole number of seconds",
    ),
    (
        limits("code: '1', limit: 1, rollover: '0.001'"),
        "packages[0].limits[0].rollover", "0.001", "not a whole number of seconds",
    ),
    # what is fixed
    (packages().replace("USD", "EUR"), "packages[0].currency", "EUR", "fixed since the package was assigned"),
    (packages().replace("customer", "vendor"), "packages[0].type", "vendor", "fixed since the package was"),
    # clients
    ('clients: [{id: "9", currency: GBP}]', "clients[0].currency", "GBP", "no such currency"),
    (
        'clients: [{id: "42", currency: EUR}]',
        "clients[0].currency", "EUR", "is USD and cannot change any more",
    ),
    ('clients: [{id: "9", currency: USD, reseller: "7"}]', "clients[0].reseller", "7", "no such reseller"),
    (
        'clients: [{id: "9", currency: USD, tax_profile: v}]',
        "clients[0].tax_profile", "v", "no such tax profile",
    ),
    (
        'clients: [{id: "9", currency: USD, rate_tables: {orig: {calls: none}}}]',
        "clients[0].rate_tables.orig.calls", "none", "no such rate table",
    ),
    (
        'clients: [{id: "9", currency: USD, rate_tables: {orig: {fax: retail}}}]',
        "clients[0].rate_tables.orig", "fax", "no such service",
    ),
    (
        'clients: [{id: "9", currency: USD, rate_tables: {orig: {5: retail}}}]',
        "clients[0].rate_tables.orig", "5", "no such service",
    ),
    (
        'clients: [{id: "9", currency: USD, accounts: [{id: a, rate_tables: {term: {calls: none}}}]}]',
        "clients[0].accounts[0].rate_tables.term.calls", "none", "no such rate table",
    ),
    (
        'clients: [{id: "9", currency: USD, accounts: [{id: sip-1001}]}]',
        "clients[0].accounts[0].id", "sip-1001", "belongs to client '42'",
    ),
    # identification and DIDs
    ('identification: [{side: orig, client: "9"}]', "identification[0].client", "9", "no such client"),
    (
        'identification: [{side: orig, client: "42", account: trunk-1}]',
        "identification[0].account", "trunk-1", "belongs to client '43'",
    ),
    (
        'identification: [{side: orig, client: "42", account: sip-9}]',
        "identification[0].account", "sip-9", "no such account",
    ),
    ('dids: [{number: "380", account: sip-9}]', "dids[0].account", "sip-9", "no such account"),
    # assigning
    (
        'client_packages: [{id: "9", client: "9", package: "1"}]',
        "client_packages[0].client", "9", "no such client",
    ),
    (assigned('package: "9"'), "client_packages[0].package", "9", "no such package"),
    (assigned('package: "1", account: sip-9'), "client_packages[0].account", "sip-9", "no such account"),
    (assigned('package: "1", account: trunk-1'), "client_packages[0].account", "trunk-1", "client '43'"),
    (
        assigned('package: "1", end_date: 2026-11-10T12:00:00Z'),
        "client_packages[0].end_date", "2026-11-10T12:00:00Z", "would never run",
    ),
    (
        assigned('package: "1", start_date: 2026-12-01, end_date: 2026-11-30T22:00:00Z'),
        "client_packages[0].end_date", "2026-11-30T22:00:00Z", "would never run",
    ),
    (
        packages("align_to_payment_terms: true,") + assigned('package: "1"'),
        "client_packages[0].package", "1", "give the client payment_terms",
    ),
    (
        packages("end_date: 2026-11-10,") + assigned('package: "1"'),
        "client_packages[0].package", "1", "ends on 2026-11-10",
    ),
    (
        packages("status: disabled,") + assigned('package: "1"'),
        "client_packages[0].package", "1", "disabled: it cannot be assigned; enable it first",
    ),
    (
        packages("status: archived,") + assigned('package: "1"'),
        "client_packages[0].package", "1", "archived: it cannot be assigned",
    ),
    (
        packages().replace("limit: 100", "limit: 900000000") + assigned('package: "1", quantity: 1000000'),
        "client_packages[0].quantity", "1000000", "more than counters hold",
    ),
    (
        'client_packages: [{id: "3", client: "43", package: "1"}, {id: "8", client: "42", package: "1"}]',
        "client_packages[0].id", "3", "is one of client '42'",
    ),
    # editing what is assigned: the end date alone
    (
        again('package: "2", start_date: 2026-11-01, activate_in_past: true'),
        "client_packages[0].package", "2", "is 1",
    ),
    (
        again('package: "1", activate_in_past: true'),
        "client_packages[0].start_date", "null", "is 2026-11-01 and",
    ),
    (
        again('package: "1", start_date: 2026-11-01'),
        "client_packages[0].activate_in_past", "false", "it is true",
    ),
    (
        again('package: "1", start_date: 2026-11-01, activate_in_past: true, quantity: 2'),
        "client_packages[0].quantity", "2", "it is 1 and cannot change any more",
    ),
    (
        again('package: "1", start_date: 2026-11-01, activate_in_past: true, account: sip-1001'),
        "client_packages[0].account", "sip-1001", "it is null and cannot change any more",
    ),
    (
        again('package: "1", start_date: 2026-11-01, activate_in_past: true, end_date: 2026-11-10T11:59:59Z'),
        "client_packages[0].end_date", "2026-11-10T11:59:59Z", "before now",
    ),
    # a deck that a package goes by
    (
        "code_decks: [{name: a-z, codes: {}}]\n" + limits("code_deck: a-z, code_name: Ukraine, limit: 1"),
        "packages[0].limits[0].code_name", "Ukraine", "no such code name in code deck 'a-z'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "value", "problem"), AGAINST)
def test_a_fault_against_what_is_loaded(text: str, path: str, value: str, problem: str) -> None:
    """What does not go with the loaded catalog is named alike, and a faulty file changes nothing."""
    rater = loaded(BASE)
    before = state(rater)
    (fault,) = rater.load([("c.yaml", text.encode())], NOW)
    assert (fault.file, fault.path, fault.value) == ("c.yaml", path, value)
    assert problem in fault.problem
    assert REMEDY.search(fault.problem), fault.problem
    assert state(rater) == before


def test_a_faulty_load_changes_nothing_of_its_good_rows() -> None:
    """One fault anywhere, in any file of the load, and the good rows of all files are left out as well."""
    rater = loaded(BASE)
    before = state(rater)
    good = 'resellers: [{id: "2", name: New}]\nclients: [{id: "44", currency: USD, accounts: [{id: new}]}]'
    found = rater.load(
        [("good.yaml", good.encode()), ("bad.yaml", b'clients: [{id: "45", currency: GBP}]')], NOW
    )
    assert [(fault.file, fault.path) for fault in found] == [("bad.yaml", "clients[0].currency")]
    assert state(rater) == before
    assert rater.load([("good.yaml", good.encode())], NOW) == []
    assert state(rater) != before


def test_all_faults_against_what_is_loaded_are_named_at_once() -> None:
    """References that lead nowhere are told together, over all sections."""
    rater = loaded(BASE)
    text = """
rate_tables: [{name: r, currency: GBP, code_deck: x, rates: []}]
packages: [{id: "9", name: n, type: customer, currency: GBP, reseller: "7"}]
clients: [{id: "9", currency: GBP, tax_profile: x}]
identification: [{side: orig, client: "77"}]
client_packages: [{id: "9", client: "9", package: "77"}]
dids: [{number: "1", account: none}]
"""
    assert {fault.path for fault in rater.load([("c.yaml", text.encode())], NOW)} == {
        "rate_tables[0].currency", "rate_tables[0].code_deck", "packages[0].currency", "packages[0].reseller",
        "clients[0].currency", "clients[0].tax_profile", "identification[0].client",
        "client_packages[0].package", "dids[0].account",
    }  # fmt: skip


NAMED = """
packages: [{id: "9", name: n, type: customer, currency: USD, status: STATUS,
  limits: [{id: x, type: volume, service: calls, code_deck: a-z, code_name: Ukraine Kiev, limit: 1}]}]
"""


BOTH = """
currencies: {rates: {EUR: 1.08}}
code_decks: [{name: new, codes: {380: Ukraine}}]
rate_tables: [{name: new, currency: GBP, code_deck: none, rates: [{code: "1"}]}]
packages:
  - {id: "1", name: Kiev 100, type: vendor, currency: USD, priority: high}
  - {id: "9", name: n, type: customer, currency: USD, reseller: "7",
     limits: [{type: volume, service: fax, code_deck: x, code_name: U, limit: -1}]}
clients: [{id: "43", currency: USD, balance: 5, tax_profile: none, accounts: [{id: sip-1001}]}]
client_packages:
  - {id: "3", client: "42", package: "2", start_date: soon, activate_in_past: true}
  - {id: "4", client: "43", account: none, package: "7", quantity: 0}
dids: [{number: x, account: none}]
"""
BOTH_PATHS = {
    "currencies.rates.EUR", 'code_decks[0].codes["380"]', "rate_tables[0].currency",
    "rate_tables[0].code_deck", "rate_tables[0].rates[0].price", "packages[0].type", "packages[0].priority",
    "packages[1].reseller", "packages[1].limits[0].service", "packages[1].limits[0].code_deck",
    "packages[1].limits[0].limit", "clients[0].currency", "clients[0].balance", "clients[0].tax_profile",
    "clients[0].accounts[0].id", "client_packages[0].package", "client_packages[0].start_date",
    "client_packages[1].account", "client_packages[1].package", "client_packages[1].quantity",
    "dids[0].number", "dids[0].account",
}  # fmt: skip


def test_faults_of_form_hide_no_others() -> None:
    """One run names faults of form, references that lead nowhere and conflicts, also all in one row."""
    rater = loaded(BASE)
    before = state(rater)
    found = rater.load([("c.yaml", BOTH.encode())], NOW)
    assert sorted(fault.path for fault in found) == sorted(BOTH_PATHS)
    assert all(REMEDY.search(fault.problem) for fault in found)
    assert state(rater) == before


def test_faults_of_several_files_are_named_at_once() -> None:
    """A fault of form in one file hides no reference of another that leads nowhere, and the reverse."""
    dead, form = 'client_packages: [{id: "9", client: "42", package: "7"}]', 'clients: [{id: "44"}]'
    for first, second in ((dead, form), (form, dead)):
        rater = loaded(BASE)
        before = state(rater)
        found = rater.load([("a.yaml", first.encode()), ("b.yaml", second.encode())], NOW)
        assert sorted((fault.file, fault.path) for fault in found) == sorted(
            (name, "client_packages[0].package" if text is dead else "clients[0].currency")
            for name, text in (("a.yaml", first), ("b.yaml", second))
        )
        assert state(rater) == before


# What refers to all that may be broken: first what is named, then by whom.
REFERRING = """
client_packages: [{id: "5", client: C, account: A, package: P, end_date: 2026-11-10T12:00:01Z}]
identification: [{side: orig, client: C, account: A, login: l}]
dids: [{number: "1", account: A}]
rate_tables: [{name: t, currency: USD, code_deck: D, rates: []}]
packages:
  - {id: x, name: n, type: customer, currency: CUR, reseller: R, limits: [
     {type: volume, service: S, code_deck: D, code_name: N, limit: "2.5", rollover: "2.5"}]}
clients: [{id: x, currency: CUR, reseller: R, tax_profile: X, rate_tables: {orig: {S: T}}}]
"""
GOOD = {
    "C": '"42"', "A": "sip-1001", "P": '"1"', "D": "a-z", "N": "Ukraine", "CUR": "EUR", "R": '"1"',
    "S": "messages", "T": "retail", "X": "vat20",
}  # fmt: skip


def referring(**names: str) -> str:
    """Return rows that refer to what is loaded, but for the names that are given."""
    text = REFERRING.replace("2.5", "2") if names.get("S", "messages") == "messages" else REFERRING
    return re.sub(r"\b[A-Z]+\b", lambda found: (GOOD | names).get(found[0], found[0]), text)


BROKEN: list[tuple[str, dict[str, str], str]] = [
    # rows at fault, named by others
    ('clients: [{id: "7", currency: USD, balance: 5, accounts: [{id: a7}]}]', {"C": '"7"', "A": "a7"}, "nce"),
    ("clients: [{id: 7, currency: USD, accounts: [{id: 8}]}]", {"C": '"7"', "A": '"8"'}, "id"),
    ('clients: [{id: "7", currency: USD, accounts: a7}]', {"C": '"7"', "A": "a7"}, "accounts"),
    ('clients: [{id: "7", currency: USD, accounts: [a7]}]', {"C": '"7"', "A": "a7"}, "accounts[0]"),
    ('clients: [{id: "42", currency: USD, time_zone: Kiew}]', {}, "time_zone"),
    ('packages: [{id: "7", name: n, type: customer, currency: USD, period: 1 week}]', {"P": '"7"'}, "period"),
    ('packages: [{id: "7", name: n, type: customer, currency: USD, status: no}]', {"P": '"7"'}, "status"),
    (
        """packages: [{id: "7", name: n, type: customer, currency: USD, period: 1 day, start_date: 2026-12-01,
          end_date: 2026-11-01, align_to_payment_terms: true}]""",
        {"P": '"7"'}, "end_date",
    ),
    (
        """packages: [{id: "7", name: n, type: customer, currency: USD, period: 1 day,
          align_to_payment_terms: true}]
clients: [{id: "42", currency: USD, payment_terms: {every: 1 week, anchor: 2026-01-01}}]""",
        {"P": '"7"'}, "payment_terms.every",
    ),
    (
        """client_packages: [{id: "6", client: "42", package: "1", start_date: soon, activate_in_past: true,
          end_date: 2026-11-05}]""",
        {}, "start_date",
    ),
    ("code_decks: [{name: d7, codes: {380: Ukraine}}]", {"D": "d7", "N": "Kyiv"}, 'codes["380"]'),
    ("code_decks: [{name: d7, file: none.csv}]", {"D": "d7"}, "file"),
    ('rate_tables: [{name: t7, currency: USD, rates: [{code: "1"}]}]', {"T": "t7"}, "rates[0].price"),
    ("rate_tables: [{name: 7, currency: USD, rates: []}]", {"T": '"7"'}, "name"),
    ('resellers: [{id: "7", name: 7}]', {"R": '"7"'}, "name"),
    ("services: [{name: s7, unit: u, price_unit: 0}]", {"S": "s7"}, "price_unit"),
    ("tax_profiles: [{name: x7, taxes: [{name: VAT}]}]", {"X": "x7"}, "percent"),
    ("currencies: {rates: {GBP: 1.3}}", {"CUR": "GBP"}, "rates.GBP"),
    ('currencies: {rates: {777: "1"}}', {"CUR": '"777"'}, "rates.777"),
    ("currencies: {bass: GBP}", {"CUR": "GBP"}, "bass"),
    ('currencies: {base: GBP, rates: {CHF: "1"}}', {"CUR": "GBP"}, "base"),
    # rows of which nothing is known
    ('clients: {"7": {}}', {"C": '"7"', "A": "a7"}, "clients"),
    ("clients: [null]", {"C": '"7"', "A": "a7"}, "clients[0]"),
    ('client: [{id: "7"}]', {"C": '"7"', "A": "a7"}, "client"),
    ('packages: [{id: "8", name: n, type: customer, currency: USD}]\npackages: []', {"P": '"7"'}, "line 3"),
    ("clients: [", {name: "x7" for name in GOOD if name not in "DN"} | {"D": "d7"}, "line 3, column 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "names", "path"), BROKEN)
def test_what_refers_to_faulty_rows_has_no_fault(text: str, names: dict[str, str], path: str) -> None:
    """A row that is at fault, or cannot be read at all, is the only fault: none follows from it."""
    rater = loaded(BASE)
    before = state(rater)
    files = [("a.yaml", f"\n{text}".encode()), ("b.yaml", referring(**names).encode())]
    found = rater.load(files, NOW)
    assert [(fault.file, fault.path.endswith(path)) for fault in found] == [("a.yaml", True)] * len(found)
    assert len(found) == (2 if "id: 8" in text else 1), [str(fault) for fault in found]
    assert state(rater) == before
    without = rater.load(files[1:], NOW)
    assert bool(without) == bool(names), "what refers to it has a fault of its own without it"


TOGETHER = [
    # no more faults than these
    ((), 'currencies: {bass: USD, rates: {EUR: "1"}}', ["currencies.bass"]),
    ((), "services: [{name: calls, unit: u, price_unit: x}]", ["services[0].price_unit"]),
    ((BASE,), 'currencies: {base: EUR}\nresellers: [{id: ""}, {id: ""}]', [
        "resellers[0].id", "resellers[1].id", "currencies.base",
    ]),
    ((BASE,), 'clients: [{id: "7", currency: USD, accounts: [{id: ""}, {id: ""}]}]', [
        "clients[0].accounts[0].id", "clients[0].accounts[1].id",
    ]),
    ((BASE,), other('limits: [{id: "", type: money, service: calls, code: "1", limit: "1"}, {id: ""}]'), [
        "packages[0].limits[0].id", "packages[0].limits[1].type", "packages[0].limits[1].id",
        "packages[0].limits[1].service", "packages[0].limits[1].limit", "packages[0].limits[1].code",
    ]),
    ((BASE,), 'identification: [{side: x, client: "42", login: a}, {side: y, client: "43", login: a}]', [
        "identification[0].side", "identification[1].side",
    ]),
    ((BASE, NAMED.replace("STATUS", "active")), "code_decks: [{name: a-z, codes: {380: U}}]", [
        'code_decks[0].codes["380"]',
    ]),
    ((BASE, NAMED.replace("STATUS", "archived")), other("priority: x"), ["packages[0].priority"]),
    (
        (BASE,),
        other('limits: [{type: volume, service: fax, code: "1", limit: 1000000}]') + assigned('package: "9"'),
        ["packages[0].limits[0].service"],
    ),
    ((BASE,), 'clients: [{id: "42", currency: GBP}]', ["clients[0].currency"]),
    ((BASE,), packages().replace("USD", "GBP"), ["packages[0].currency"]),
    # and no fewer
    ((BASE,), 'clients: [{id: "7", currency: USD, rate_tables: {orig: {a: retail, b: retail}}}]', [
        "clients[0].rate_tables.orig", "clients[0].rate_tables.orig",
    ]),
    (
        (BASE,),
        """clients: [{id: "7", currency: USD, accounts: x}, {id: "8", currency: USD}]
client_packages: [{id: "9", client: "8", account: none, package: "2"}]""",
        ["clients[0].accounts", "client_packages[0].account"],
    ),
    ((BASE,), 'client_packages: [{id: "9", client: "7", package: "7", quantity: 0}]', [
        "client_packages[0].quantity", "client_packages[0].client", "client_packages[0].package",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "text", "paths"), TOGETHER)
def test_one_fault_is_told_once(before: tuple[str, ...], text: str, paths: list[str]) -> None:
    """What stands in for a value that cannot be read makes no fault, and hides none of others."""
    found = loaded(*before).load([("c.yaml", text.replace("}]client", "}]\nclient").encode())], NOW)
    assert [fault.path for fault in found] == paths


@pytest.mark.parametrize(
    "raw",
    [
        b"id,currency\n7,USD,x\n",
        b"id,currency,colour\n7,USD,red\n",
        b"id,name\n7,x\n",
        b"id,currency\n\xff,USD",
    ],
)
def test_what_refers_to_a_csv_that_cannot_be_read_has_no_fault(raw: bytes) -> None:
    """A CSV of clients with a wrong column, header, line or encoding is one fault, not one for each use."""
    text = referring(C='"7"', A="a7")
    assert len(loaded(BASE).load([("b.yaml", text.encode())], NOW)) == 3
    (fault,) = loaded(BASE).load([("a.csv", raw), ("b.yaml", text.encode())], NOW)
    assert fault.file == "a.csv"


def test_currencies_need_a_base() -> None:
    """Rates say what a currency is worth in the base, so there is one."""
    (fault,) = Rater().load([("c.yaml", b'currencies: {rates: {EUR: "1.08"}}')], NOW)
    assert (fault.path, fault.value) == ("currencies.rates.EUR", "EUR")
    assert "give currencies.base" in fault.problem


# ------------------------------------------------------------------------------------------ what a load does
def test_loading_the_same_file_twice_changes_nothing() -> None:
    """Loading the same file twice changes nothing, at whatever time: no new version, no client touched."""
    rater = loaded(BASE)
    before = state(rater)
    assert rater.load([("base.yaml", BASE.encode())], NOW + 86_400_000) == []
    assert state(rater) == before


def test_absence_deletes_nothing_but_in_decks_and_tables() -> None:
    """A file without a row leaves the row; decks and tables are replaced as a whole."""
    rater = loaded(BASE, 'resellers: [{id: "2", name: Two}]')
    assert rater.content is not None
    assert set(rater.content.resellers) == {"1", "2"}
    assert set(rater.content.packages) == {"1", "2"}
    assert rater.load([("c", b'code_decks: [{name: a-z, codes: {"1": USA}}]')], NOW) == []
    assert rater.load([("c", b'clients: [{id: "42", currency: USD, accounts: [{id: sip-2}]}]')], NOW) == []
    assert rater.content.decks["a-z"].codes == {"1": "USA"}
    assert set(rater.states["42"].accounts) == {"sip-1001", "sip-2"}
    assert [of.id for of in rater.states["42"].packages] == ["3"]


SMALLER = 'code_decks: [{name: a-z, codes: {"380": Ukraine}}]\n'


def test_a_deck_keeps_the_code_names_that_packages_go_by() -> None:
    """A deck may not lose a code name that a limit of a package goes by."""
    rater = loaded(BASE, NAMED.replace("STATUS", "disabled"))
    (fault,) = rater.load([("c.yaml", SMALLER.encode())], NOW)
    assert (fault.path, fault.value) == ("code_decks[0].codes", "Ukraine Kiev")
    assert "limit 'x' of package '9'" in fault.problem


def test_an_archived_package_holds_no_code_name() -> None:
    """Archived is final: the deck may lose the name, and the unchanged row is accepted even so."""
    archived = NAMED.replace("STATUS", "archived")
    rater = loaded(BASE, archived, SMALLER)
    before = state(rater)
    assert rater.load([("c.yaml", (SMALLER + archived).encode())], NOW) == []
    assert state(rater) == before
    (fault,) = rater.load([("c.yaml", NAMED.replace("STATUS", "active").encode())], NOW)
    assert (fault.path, fault.value) == ("packages[0]", "9")
    assert "archived, which is final; make a new one" in fault.problem


def test_unchanged_rows_of_disabled_packages_are_accepted() -> None:
    """What is assigned to a disabled package already stays, and can be loaded again."""
    disabled = BASE.replace("name: Kiev 100,", "name: Kiev 100, status: disabled,")
    rater = loaded(BASE, disabled)
    before = state(rater)
    assert rater.load([("c.yaml", disabled.encode())], NOW) == []
    assert state(rater) == before


def test_volumes_are_counted_and_money_is_in_micros() -> None:
    """`limit` and `rollover` are in price units or money, `min_call` and `per_call_max` in counting units."""
    rater = loaded(
        BASE,
        """
services: [{name: hours, unit: second, price_unit: 3600}]
packages: [{id: "9", name: n, type: customer, currency: USD, limits: [
  {type: volume, service: calls, code: "1", limit: "2.5", min_call: 6, per_call_max: 3600, rollover: 30},
  {type: volume, service: data, code: "*", limit: 3},
  {type: volume, service: hours, code: "1*", limit: 1},
  {type: money, service: calls, code: "1", limit: "2.000001", min_call: 6}]}]
""",
    )
    assert rater.content is not None
    calls, data, hours, money = rater.content.packages["9"].latest.limits
    assert (calls.limit, calls.min_call, calls.per_call_max, calls.rollover) == (150, 6, 3600, 1800)
    assert (data.limit, hours.limit) == (3072, 3600)
    assert (money.limit, money.min_call, money.rollover) == (2_000_001, 6, 0)
    assert [limit.id for limit in (calls, data, hours, money)] == ["0", "1", "2", "3"]


def test_the_defaults() -> None:
    """What is left out has the default that CONTRACTS.md writes out in its second package."""
    short = 'packages: [{id: "9", name: n, type: customer, currency: USD}]'
    full = """
packages: [{id: "9", name: n, reseller: null, status: active, type: customer, currency: USD, period: null,
  advance_renew: null, renew_for: null, fees_include_taxes: false, align_to_payment_terms: false,
  full_charge: false, charge_on_event: false, setup_fee: charge, client_balance: deny,
  renewal_charge: on_period, priority: 0, dynamic_tag: null, start_date: null, end_date: null, fees: [],
  discounts: [], did_limits: [], limits: []}]
"""
    assert read(short).packages == read(full).packages
    bare = read('clients: [{id: "9", currency: USD}]').clients[0].value
    assert (bare.name, bare.time_zone, bare.balance, bare.credit_limit) == ("", "UTC", 0, 0)
    row = read('client_packages: [{id: "9", client: "1", package: "1"}]').client_packages[0].value
    assert (row.account, row.start_date, row.end_date, row.activate_in_past, row.quantity) == (
        None, None, None, False, 1,
    )  # fmt: skip


def test_the_opening_balance_is_set_once() -> None:
    """`balance` sets the opening balance of a client that is new, nothing else."""
    rater = loaded(BASE)
    assert (rater.balance("42"), rater.balance("43")) == (50_000_000, 0)
    version = rater.catalog.version
    assert rater.load([("c.yaml", BASE.replace("50.00", "70.00").encode())], NOW) == []
    assert (rater.balance("42"), rater.catalog.version) == (50_000_000, version)


def test_a_package_has_a_history() -> None:
    """Periods keep the version they opened with: what no load assigned, a command may have assigned."""
    rater = loaded(BASE)
    later = NOW + 86_400_000
    text = packages().replace("100}", "200}") + '  - {id: "2", name: New, type: vendor, currency: EUR}'
    assert rater.load([("c.yaml", text.encode())], later) == []
    assert rater.content is not None
    kiev, free = rater.content.packages["1"], rater.content.packages["2"]
    assert [(since, spec.limits[0].limit) for since, spec in kiev.versions] == [(NOW, 6000), (later, 12_000)]
    assert [(since, spec.name, spec.type) for since, spec in free.versions] == [
        (NOW, "Free", "customer"), (later, "New", "vendor"),
    ]  # fmt: skip
    text = '  - {id: "2", name: New, type: vendor, currency: EUR, status: disabled}'
    assert rater.load([("c.yaml", ("packages:\n" + text).encode())], later) == []
    assert rater.content.packages["2"].statuses == [(NOW, "active"), (later, "disabled")]


def test_a_clock_that_was_put_back_keeps_histories_in_order() -> None:
    """Versions and statuses are by instant, whatever the clock of the load says."""
    rater = loaded(BASE, packages("status: disabled,"), packages("priority: 5,"), at=NOW)
    assert rater.load([("c.yaml", packages().encode())], NOW - 86_400_000) == []
    assert rater.content is not None
    history = rater.content.packages["1"]
    for instants in ([since for since, _ in history.versions], [since for since, _ in history.statuses]):
        assert instants == sorted(set(instants))
    assert history.status == "active"


def test_an_end_date_can_be_edited_until_it_is_over() -> None:
    """The end date may change to now or later; one that has passed is final."""
    rater = loaded(BASE)
    row = again('package: "1", start_date: 2026-11-01, activate_in_past: true, end_date: END')
    assert rater.load([("c.yaml", row.replace("END", "2026-11-20").encode())], NOW) == []
    assert rater.states["42"].packages[0].end_ms == ms("2026-11-19T22:00:00Z")
    assert rater.load([("c.yaml", row.replace("END", "2026-11-10T12:00:00Z").encode())], NOW) == []
    (fault,) = rater.load([("c.yaml", row.replace("END", "2026-12-01").encode())], NOW + 1000)
    assert (fault.path, fault.value) == ("client_packages[0].end_date", "2026-12-01")
    assert "it ended on 2026-11-10T12:00:00Z, which is final" in fault.problem


@pytest.mark.parametrize(
    ("period", "every", "good"),
    [("1 month", "1 month", True), ("3 months", "1 month", True), ("1 month", "30 days", False)],
)
def test_aligned_packages_go_with_the_payment_terms(period: str, every: str, good: bool) -> None:  # noqa: FBT001
    """The period equals the terms, or one is a multiple of the other; else the assignment is refused."""
    text = f"""
packages:
  - {{id: "9", name: n, type: customer, currency: USD, period: {period}, align_to_payment_terms: true}}
clients: [{{id: "42", currency: USD, payment_terms: {{every: {every}, anchor: 2026-01-01}}}}]
client_packages: [{{id: "9", client: "42", package: "9"}}]
"""
    found = loaded(BASE).load([("c.yaml", text.encode())], NOW)
    assert [fault.path for fault in found] == ([] if good else ["client_packages[0].package"])


_RULES = st.lists(
    st.builds(
        IdentificationRule,
        side=st.just("orig"),
        client=st.sampled_from(["42", "43"]),
        login=st.sampled_from(["a", "b", "c", "d", "e"]),
    ),
    unique_by=lambda rule: rule.login,
    max_size=5,
)


@settings(deadline=None)
@given(_RULES, _RULES)
def test_identification_rules_keep_the_order_of_the_file(
    first: list[IdentificationRule], second: list[IdentificationRule]
) -> None:
    """The file's rules hold in its order and replace those with the same conditions; no other rule goes."""
    rater = loaded(BASE, _rules(first), _rules(second))
    assert rater.content is not None
    rules = rater.content.identification
    assert [rule for rule in rules if rule in second] == second
    logins = {rule.login for rule in second}
    assert [rule for rule in rules if rule.login not in logins] == [
        rule for rule in first if rule.login not in logins
    ]
    version = rater.catalog.version
    assert rater.load([("c.yaml", _rules(second).encode())], NOW) == []
    assert rater.catalog.version == version


def test_identification_rules_stay_in_their_place() -> None:
    """The file's rules stand where the first of them stood; new ones come last when none was there."""
    a, b, c, d = (IdentificationRule("orig", "42", login=login) for login in "abcd")
    for second, order in (([b], "abc"), ([c, d, b], "acdb"), ([d], "abcd")):
        rater = loaded(BASE, _rules([a, b, c]), _rules(second))
        assert rater.content is not None
        assert "".join(rule.login or "" for rule in rater.content.identification) == order


def _rules(rules: list[IdentificationRule]) -> str:
    rows = [{"side": rule.side, "client": rule.client, "login": rule.login} for rule in rules]
    return json.dumps({"identification": rows})


def test_renaming_an_assigned_package_is_warned_against() -> None:
    """Renaming an assigned package is possible, and warned against; else nobody has the old name."""
    rater = loaded(BASE)
    free = '  - {id: "2", name: F, type: customer, currency: USD}'
    renamed = read(packages().replace("Kiev 100", "Kiev") + free)
    assert warnings(renamed, rater.content) == [
        "package 1 is assigned and renamed, 'Kiev 100' becomes 'Kiev': earlier transactions keep the old name"
    ]
    assert warnings(read(packages()), rater.content) == []


def test_a_hint_where_holding_dids_ends_before_renewal_does() -> None:
    """A hint is shown where on-hold days and `renew_for` differ."""
    text = packages("renew_for: DAYS, did_limits: [{quantity: 1, on_hold_days: 5}],")
    notes = {days: " ".join(warnings(read(text.replace("DAYS", days)))) for days in ("5 days", "6 days")}
    assert "on_hold_days" not in notes["5 days"]
    assert "on_hold_days of packages (1)" in notes["6 days"]


# ---------------------------------------------------------------------------------- names as people read them
def told(rater: Rater, text: str) -> list[str]:
    """Return what a load says that is unusual, which has no faults; nothing is loaded."""
    file = read(text)
    content = rater.content
    merged = merge(content, file, NOW, Existing(rater.states, rater.views.accounts))
    assert not isinstance(merged, list), [str(fault) for fault in merged]
    return [*warnings(file, content), *merged.notes]


def test_a_rate_table_that_loses_codes_is_told() -> None:
    """A load replaces a table as a whole: codes that the file lacks are named; closed ones are there."""
    text = 'rate_tables: [{name: RETAIL, currency: USD, rates: [{code: "44", price: "0.1"}]}]'
    assert "rate table retail loses 1 code (380)" in told(loaded(BASE), text)
    assert not any("loses" in note for note in told(loaded(BASE), BASE))


BAHAMAS = """
code_decks: [{name: a-z, codes: {"1242": Bahamas, "124235": "Bahamas ", "124236": "BAHAMAS", "1": USA}}]
"""


def test_code_names_that_are_one_are_told() -> None:
    """Spellings of one code name are told with their codes, and what one would not see is shown."""
    assert told(loaded(BASE), BAHAMAS) == [
        'code deck a-z: "Bahamas" (1 code), "Bahamas " (1 code) and "BAHAMAS" (1 code) are one name'
    ]
    deck = {"name": "d", "codes": {"1": "Nauru", "2": "Nauru\u200b", "3": "Nauru\u200b", "4": "N\u0430uru"}}
    one, other = told(Rater(), json.dumps({"code_decks": [deck]}))
    assert one == 'code deck d: "Nauru" (1 code) and "Nauru\\u200b" (2 codes) are one name'
    assert "mixes letters of two alphabets" in other
    assert "'N\\u0430uru'" in other


def test_thousands_of_spellings_are_told_in_a_few_lines() -> None:
    """A deck of many names in two spellings each does not flood the screen."""
    codes = {f"{n:04}": f"Town {n // 2}{' ' * (n % 2)}" for n in range(2000)}
    lines = told(Rater(), json.dumps({"code_decks": [{"name": "d", "codes": codes}]}))
    assert len(lines) == 21
    assert lines[-1] == "and 980 more notes on names like these"


def test_a_code_name_of_a_limit_is_found_in_any_spelling() -> None:
    """A limit's code name need not be spelt as in the deck; how it is read is told, once for all places."""
    text = """
packages: [{id: "9", name: n, type: customer, currency: USD, limits: [
  {type: volume, service: calls, code_deck: a-z, code_name: " UKRAINE\u00a0 kiev", limit: 1},
  {type: money, service: calls, code_deck: a-z, code_name: " UKRAINE\u00a0 kiev", limit: "1"}]}]
"""
    (note,) = told(loaded(BASE), text)
    assert note.startswith(
        'code name " UKRAINE\\u00a0 kiev" (packages[0].limits[0].code_name, packages[0].limits[1]'
    )
    assert note.endswith(') is "Ukraine Kiev"')


def test_a_deck_that_spells_a_name_otherwise_keeps_it() -> None:
    """A deck may come with another spelling of a code name that a limit goes by."""
    rater = loaded(BASE, NAMED.replace("STATUS", "active"))
    text = 'code_decks: [{name: a-z, codes: {"380": "Ukraine \u2013 Kiev", "1": "UKRAINE  kiev"}}]'
    assert rater.load([("c.yaml", text.encode())], NOW) == []


RENAMED = """
services: [{name: SMS, unit: piece, price_unit: 1}]
code_decks: [{name: " A\u2013Z", codes: {"380": Ukraine, "38044": Ukraine Kiev}}]
rate_tables: [{name: "Retail ", currency: USD, code_deck: "A-Z", rates: [{code: "380", price: "0.20"}]}]
tax_profiles: [{name: VAT20, taxes: [{name: VAT, percent: "21"}]}]
packages:
  - {id: "9", name: n, type: customer, currency: USD, limits: [
      {type: volume, service: Sms, code_deck: A-z, code_name: Ukraine, limit: 1}]}
clients:
  - {id: "42", name: Rose, currency: USD, time_zone: Europe/Kyiv, tax_profile: "vat20 ",
     rate_tables: {orig: {Calls: RETAIL}}, accounts: [{id: sip-1001, rate_tables: {term: {sms: "retail"}}}]}
"""


def test_a_row_updates_the_row_of_its_name_in_any_spelling() -> None:
    """Rows and references in another spelling mean what is loaded, which keeps its spelling; all is told."""
    rater = loaded(BASE, "services: [{name: sms, unit: piece, price_unit: 1}]")
    notes = told(rater, RENAMED)
    assert rater.load([("c.yaml", RENAMED.encode())], NOW) == []
    content = rater.content
    assert content is not None
    assert list(content.decks) == ["a-z"] == [deck.name for deck in content.decks.values()]
    (table,) = content.rate_tables.values()
    assert (list(content.rate_tables), table.name, table.code_deck) == (["retail"], "retail", "a-z")
    assert table.rates[0].price_e10 == 2_000_000_000
    (profile,) = content.tax_profiles.values()
    assert (list(content.tax_profiles), profile.name, profile.taxes[0].percent) == (["vat20"], "vat20", "21")
    assert list(content.services) == ["sms"]
    (limit,) = content.packages["9"].latest.limits
    assert (limit.service, limit.code_deck, limit.code_name) == ("sms", "a-z", "Ukraine")
    rose = rater.states["42"]
    assert (rose.rate_tables, rose.tax_profile) == ({"orig": {"calls": "retail"}}, "vat20")
    assert rose.accounts["sip-1001"] == {"term": {"sms": "retail"}}
    assert {
        'code deck " A\u2013Z" is "a-z", as it was loaded first: that is updated',
        'rate table "RETAIL" (clients[0].rate_tables.orig.Calls) is "retail"',
        'service "Calls" (clients[0].rate_tables.orig) is "calls"',
    } < set(notes)
    assert len(notes) == 10, notes
    before = state(rater)
    assert rater.load([("c.yaml", RENAMED.encode())], NOW) == []
    assert state(rater) == before  # loading the same file twice changes nothing


@pytest.mark.parametrize(
    ("section", "row"),
    [
        ("services", "unit: u, price_unit: 1"),
        ("code_decks", "codes: {}"),
        ("rate_tables", "currency: USD, rates: []"),
        ("tax_profiles", "taxes: []"),
    ],
)
def test_two_rows_of_one_name_are_a_fault(section: str, row: str) -> None:
    """Two rows of one file whose names read the same are a fault that names both, loaded or not."""
    text = f'currencies: {{base: USD}}\n{section}: [{{name: "x", {row}}}, {{name: "X ", {row}}}]'
    for rater in (Rater(), loaded(text.replace('"X "', '"y"')), loaded(text.replace('"x"', '"y"'))):
        (fault,) = rater.load([("c.yaml", text.encode())], NOW)
        assert (fault.path, fault.value) == (f"{section}[1].name", "X ")
        assert "c.yaml: " + section + '[0] has this name too, spelt "x"; leave one out' in fault.problem


APART = """
code_decks: [{name: a-z, codes: {"380": Ukraine}}, {name: "A-Z ", codes: {"1": USA}}]
packages:
  - {id: "9", name: n, type: customer, currency: USD, limits: [
      {type: volume, service: calls, code_deck: a-z, code_name: Ukraine, limit: 1},
      {type: volume, service: calls, code_deck: "A-Z ", code_name: USA, limit: 1}]}
"""


def test_what_an_earlier_load_kept_apart_stays_so() -> None:
    """Two decks of one name, stored before this rule, load again; a third spelling is a fault."""
    rater = loaded(BASE, APART.replace('"A-Z "', '"b"'))
    content = rater.content
    assert content is not None
    deck = content.decks.pop("b")
    content.decks["A-Z "] = DeckSpec("A-Z ", deck.codes)
    for limit in content.packages["9"].latest.limits[1:]:
        limit.code_deck = "A-Z "
    before = state(rater)
    assert told(rater, APART) == [
        'code deck "a-z" reads like "A-Z ", and both stay: an earlier load had both',
        'code deck "A-Z " reads like "a-z", and both stay: an earlier load had both',
    ]
    assert rater.load([("c.yaml", APART.encode())], NOW) == []
    assert state(rater) == before
    for text, path in (
        ("code_decks: [{name: A-Z, codes: {}}]", "code_decks[0].name"),
        (
            packages().replace('code: "38044*"', "code_deck: A-Z, code_name: USA"),
            "packages[0].limits[0].code_deck",
        ),
    ):
        (fault,) = rater.load([("c.yaml", text.encode())], NOW)
        assert (fault.path, fault.value) == (path, "A-Z")
        assert 'may be "a-z" or "A-Z ", which are both loaded; write one of them just so' in fault.problem


def test_a_service_in_two_spellings_of_one_client() -> None:
    """A client's tables name a service once, in whatever spelling."""
    text = 'clients: [{id: "9", currency: USD, rate_tables: {orig: {calls: retail, Calls: retail}}}]'
    (fault,) = loaded(BASE).load([("c.yaml", text.encode())], NOW)
    assert (fault.path, fault.value) == ("clients[0].rate_tables.orig", "Calls")
    assert 'is service "calls", which stands there too; leave one out' in fault.problem


def test_ids_are_compared_as_they_are() -> None:
    """An id with a blank at its end is another id, as a switch may send it; that it has one is told."""
    text = 'clients: [{id: "42 ", currency: USD, accounts: [{id: sip-1001\u00a0}]}]'
    rater = loaded(BASE)
    assert told(rater, text) == [
        'ids of clients ("42 "): a blank at an end and an invisible character are part of an id',
        'ids of accounts ("sip-1001\\u00a0"): a blank at an end and an invisible character are part of an id',
    ]
    assert rater.load([("c.yaml", text.encode())], NOW) == []
    assert set(rater.states) == {"42", "42 ", "43"}


# ------------------------------------------------------------------------------------------ rows as usual
TEXTS: list[Any] = [
    "1", "", "a" * 200, "a" * 201, "\x7f", "a\nb", "Ж", "\u00ad", "\u3000", "\ud800", None, 1, True, [], {},
    ["1"],
]  # fmt: skip
AMOUNTS: list[Any] = [None, "0", "5.00", "-1", "0.0000001", "1e3", "9007199254.740993", "", " 1", 1, 0, True]
DATES: list[Any] = [
    None, "2026-11-01", "2026-11-02", "2026-11-01T00:00:00Z", "2026-11-01 02:00+02:00", "2026-02-30", "",
    20261101,
]  # fmt: skip
TABLES: list[Any] = [
    None, {}, {"orig": {"calls": "retail"}}, {"orig": {}, "term": {"calls": "a", "sms": "b"}}, {"orig": None},
    {"both": {"calls": "a"}}, {"orig": {"": "a"}}, {"orig": {"calls": "\x7f"}}, {"orig": {"calls": 1}}, [],
    "retail",
]  # fmt: skip


def rows(usual: dict[str, Any], odd: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return rows as usual but for one or two fields, each pair of values once."""
    changes = [(name, value) for name, values in odd.items() for value in values]
    changes += [("colour", "red"), *(("id", value) for value in TEXTS)]
    return [usual | dict(pair) for pair in combinations_with_replacement(changes, 2)]


CLIENTS = rows({"id": "1", "currency": "USD", "rate_tables": TABLES[2], "accounts": [{"id": "a"}]}, {
    "currency": ["USD1", *TEXTS], "name": TEXTS, "reseller": TEXTS, "tax_profile": TEXTS,
    "time_zone": ["Europe/Kyiv", "Mars/Base", *TEXTS], "balance": AMOUNTS, "credit_limit": AMOUNTS,
    "low_balance": AMOUNTS, "rate_tables": TABLES,
    "payment_terms": [
        None, {"every": "1 month", "anchor": "2026-01-01"}, {"every": " 2  months", "anchor": "2026-01-01"},
        {"every": " 2 months\n", "anchor": "2026-01-01"},
        {"every": "1 months", "anchor": "2026-01-01T00:00:00Z"},
        {"every": "1 month", "anchor": "2026-01-01", "colour": "red"},
        {"every": "1 month"}, {"every": None, "anchor": None}, {"every": "1 month", "anchor": "x"}, {}, [],
        "monthly",
    ],
    "accounts": [
        None, [], [{"id": "a"}], [{"id": "a", "rate_tables": TABLES[3]}], [{"id": "a"}, {"id": "a"}],
        [{"id": 1}], [{"id": "a", "colour": "red"}], [{"id": "\x7f"}],
        [{"id": "a", "rate_tables": {"orig": {}}}], [{}], [None], ["a"],
        {"id": "a"}, "a",
    ],
})  # fmt: skip
HELD = rows({"id": "1", "client": "1", "package": "1"}, {
    "client": TEXTS, "package": TEXTS, "account": TEXTS,
    "start_date": DATES, "end_date": DATES, "activate_in_past": [None, True, False, "true", 1],
    "quantity": [None, 1, 2, 0, -1, 1_000_001, True, "1", [], "x"],
})  # fmt: skip


def one_by_one(files: dict[str, str | bytes]) -> CatalogFile:
    """Return what files say, read field by field."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_rows, "parse", lambda _: None)
        patch.setattr(client_rows, "_at_once", lambda *_: None)
        return read_all(files)


@pytest.mark.parametrize(("section", "odd"), [("clients", CLIENTS), ("client_packages", HELD)])
def test_rows_as_usual_are_read_as_field_by_field(section: str, odd: list[dict[str, Any]]) -> None:
    """Reading rows at once gives what reading their fields gives, or leaves it to that."""
    ways = Counter[bool]()
    for row in odd:
        text = json.dumps({section: [row, row]})
        assert vars(read_all({"c.json": text})) == vars(one_by_one({"c.json": text})), text
        ways[fast_rows.parse(text.encode()) is not None] += 1
    assert min(ways.values()) > 500, ways
    text = json.dumps({section: odd})
    assert vars(read_all({"c.json": text})) == vars(one_by_one({"c.json": text}))


NAMES_TWICE: list[tuple[str, str]] = [
    ('"balance": "1"', '"balance": "1", "balance": "1"'),
    ('"balance": "1"', '"balance": "1", "balance" : "1"'),
    ('"balance": "1"', '"balance"\n: "1", "balance": "1"'),
    ('"balance": "1"', '"balance": "1", "\\u0062alance": "2"'),
    ('"balance": "1"', '"balance": "1", "name": "\\u0022:", "balance": "1"'),
    ('"balance": "1"', '"balance": "1", "name": "\\"\\u003a", "balance": "1"'),
    ('"balance": "1"', '"balance": "1", "name": "\\u0022\\u003A", "balance": "1"'),
    ('"balance": "1"', '"balance": "1", "name": ":", "name": ":"'),
    ('"id": "a"', '"id": "a", "id": "b"'),
    ('"calls": "t"', '"calls": "t", "calls": "t"'),
    ('"orig":', '"orig": {"calls": "t"}, "orig":'),
    ('"anchor":', '"anchor": "2026-01-01", "anchor":'),
    ('"client": "1"', '"client": "1", "client": null'),
    ('"clients":', '"clients": [], "clients":'),
    ('"client_packages":', '"client_packages": [], "client_packages":'),
    ('"dids":', '"dids": [{"number": "1"}], "dids":'),
    ('"number": "2"', '"number": "2", "number": "2"'),
]


@pytest.mark.parametrize(("once", "twice"), NAMES_TWICE)
def test_names_that_come_twice_are_found_at_once_too(once: str, twice: str) -> None:
    """No name of a row, nor of the file, comes twice without being told, however it is written."""
    text = (
        '{"dids": [{"number": "2"}], "clients": [{"id": "1", "currency": "USD", "balance": "1",'
        ' "rate_tables": {"orig": {"calls": "t"}},'
        ' "payment_terms": {"every": "1 month", "anchor": "2026-01-01"},'
        ' "accounts": [{"id": "a"}]}], "client_packages": [{"id": "1", "client": "1", "package": "1"}]}'
    )
    assert fast_rows.parse(text.encode()) is not None
    assert not read_all({"c.json": text}).faults
    assert text.count(once) == 1
    for raw in (text.replace(once, twice), json.dumps(json.loads(text), indent=1).replace(once, twice)):
        found = read_all({"c.json": raw})
        assert any(fault.problem == "stands there twice; leave one out" for fault in found.faults), raw
        assert vars(found) == vars(one_by_one({"c.json": raw}))


@settings(deadline=None)
@given(
    st.lists(
        st.text(max_size=6) | st.sampled_from(['":', '\\":', ":", '"', " :", "\\", "\u00e9"]), max_size=6
    )
)
def test_texts_do_not_look_like_names_that_come_twice(texts: list[str]) -> None:
    """Whatever texts hold, a file of them is read as field by field."""
    rows = [{"id": f"{n}", "currency": "USD", "name": text} for n, text in enumerate(texts)]
    for raw in (json.dumps({"clients": rows}), json.dumps({"clients": rows}, ensure_ascii=False)):
        files: dict[str, str | bytes] = {"c.json": raw.encode("utf-8", "surrogatepass")}
        assert vars(read_all(files)) == vars(one_by_one(files))


def test_usual_rows_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of clients and what they have is read without looking at one field after the other."""
    monkeypatch.setattr(client_rows, "Fields", _NoRow)
    for name, text in (("c.yaml", BASE), ("c.json", json.dumps(yaml.safe_load(BASE), default=str))):
        found = read(text, name)
        assert [placed.value.id for placed in found.clients] == ["42", "43"]
        assert [placed.value.start_date for placed in found.client_packages] == ["2026-11-01"]
        assert [placed.path for placed in found.clients] == ["clients[0]", "clients[1]"]


class _NoRow(fields.Fields):
    """Fields of any row but those that come by the million."""

    def __init__(self, source: Any, path: str, values: Mapping[Any, Any], known: Any) -> None:
        assert known not in {ClientSpec, ClientPackageSpec}, f"{path} was read field by field"
        super().__init__(source, path, values, known)
