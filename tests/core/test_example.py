"""The example catalog, and the one in CONTRACTS.md: both are what `rater load` takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from rater.core.catalog.specs import (
    AccountSpec,
    ClientPackageSpec,
    ClientSpec,
    DidLimitSpec,
    DidSpec,
    DiscountSpec,
    FeeSpec,
    IdentificationRule,
    LimitSpec,
    PackageSpec,
    ResellerSpec,
    ServiceSpec,
    TaxProfileSpec,
    TaxSpec,
    TermsSpec,
)
from rater.core.catalog_files.merging import read_files, warnings
from rater.core.catalog_files.unmatched import unmatched
from rater.core.offline import Rater, Transaction
from rater.core.periods import canonical_when, when_ms, zone_of

EXAMPLE = (Path(__file__).parents[2] / "config" / "example.yaml").read_bytes()

CONTRACTS = Path(__file__).parents[2] / "src" / "rater" / "core" / "CONTRACTS.md"
CONTRACT = CONTRACTS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0].encode()
"""The one of CONTRACTS.md, Catalog file."""

NOW = when_ms(canonical_when("2026-11-20T12:00:00Z"), zone_of("UTC"))


def names(form: type[msgspec.Struct]) -> set[str]:
    """Return the names of a row's fields."""
    return set(form.__struct_fields__)


ROWS: dict[str, set[str]] = {
    "currencies": {"base", "rates"},
    "currencies.rates.GBP": {"rate", "from"},
    "services": names(ServiceSpec),
    "resellers": names(ResellerSpec),
    "code_decks": {"name", "codes"},  # or file
    "rate_tables": {"name", "currency", "code_deck", "rates"},  # or file
    "rate_tables.rates": {
        "code", "price", "setup_fee", "min_time", "interval", "grace_time", "effective_from", "effective_to",
    },
    "tax_profiles": names(TaxProfileSpec),
    "tax_profiles.taxes": names(TaxSpec),
    "packages": names(PackageSpec),
    "packages.fees": names(FeeSpec),
    "packages.discounts": names(DiscountSpec),
    "packages.did_limits": names(DidLimitSpec),
    "packages.limits": names(LimitSpec),
    "clients": names(ClientSpec),
    "clients.payment_terms": names(TermsSpec),
    "clients.accounts": names(AccountSpec),
    "identification": names(IdentificationRule),
    "client_packages": names(ClientPackageSpec),
    "dids": names(DidSpec),
}  # fmt: skip
"""Every kind of row of a catalog file, and its fields."""


def fields(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield (kind of row, field) of all that stands in a catalog file."""
    for row in value if isinstance(value, list) else [value]:
        if isinstance(row, dict):
            for name, of in row.items():
                yield path, name
                yield from fields(f"{path}.{name}".lstrip("."), of)


@pytest.fixture(params=[EXAMPLE, CONTRACT], ids=["example.yaml", "CONTRACTS.md"])
def catalog(request: pytest.FixtureRequest) -> bytes:
    """Each of the two catalogs."""
    assert isinstance(request.param, bytes)
    return request.param


def test_it_loads_without_faults(catalog: bytes) -> None:
    """Every field is accepted, and loading it again changes nothing."""
    rater = Rater()
    assert [str(fault) for fault in rater.load([("catalog.yaml", catalog)], NOW)] == []
    assert rater.catalog.version == 1
    assert rater.load([("catalog.yaml", catalog)], NOW + 86_400_000) == []
    assert rater.catalog.version == 1


def test_nothing_of_it_matches_nothing(catalog: bytes) -> None:
    """Each limit, exclude and rule of it can hold."""
    rater = Rater()
    assert rater.load([("catalog.yaml", catalog)], NOW) == []
    assert rater.content is not None
    assert unmatched(rater.content) == []


def test_it_shows_every_field(catalog: bytes) -> None:
    """Each field that a catalog file may have stands in it."""
    shown: dict[str, set[str]] = {}
    for path, name in fields("", yaml.load(catalog, yaml.BaseLoader)):  # noqa: S506 - texts alone
        shown.setdefault(path, set()).add(name)
    assert shown[""] == {path for path in ROWS if "." not in path}
    for path, wanted in ROWS.items():
        assert shown[path] == wanted, path


def test_the_second_package_shows_the_defaults(catalog: bytes) -> None:
    """What the second package writes out is what holds where it is left out."""
    rater = Rater()
    assert rater.load([("catalog.yaml", catalog)], NOW) == []
    assert rater.content is not None
    spec = rater.content.packages["2"].latest
    bare = PackageSpec(spec.id, spec.name, spec.type, spec.currency)
    lists = {"fees", "discounts", "did_limits", "limits", "reseller"}
    for name in names(PackageSpec) - lists:
        assert getattr(spec, name) == getattr(bare, name), name


def test_a_call_draws_from_its_package() -> None:
    """The example is at work: a call of client 42 to Kiev takes minutes of `Kiev 100` and costs nothing."""
    rater = Rater()
    assert rater.load([("example.yaml", EXAMPLE)], NOW) == []
    record = {
        "id": "1", "called": "380441234567", "duration_ms": 65_039, "answered_at": "2026-11-20T12:00:00Z",
        "caller": "14155550100", "orig": {"gateway": "gw-kiev", "ip": "203.0.113.7", "login": "1001"},
    }  # fmt: skip
    (ended,) = rater.rate(msgspec.json.encode(record), NOW + 65_039)
    assert isinstance(ended, Transaction)
    transaction = msgspec.json.decode(ended.value)
    assert (transaction["client"], transaction["account"]) == ("42", "sip-1001")
    assert (transaction["code"], transaction["amount"]) == ("38044", "0")
    assert [(draw["package_name"], draw["limit"], draw["taken"]) for draw in transaction["draws"]] == [
        ("Kiev 100", "m1", "66")
    ]


@pytest.mark.parametrize("raw", [EXAMPLE, CONTRACT], ids=["example.yaml", "CONTRACTS.md"])
def test_only_what_is_without_effect_is_told(raw: bytes) -> None:
    """Fees, taxes, discounts, alignment and renewals are in force, so no remark is made of them."""
    told = warnings(read_files([("c.yaml", raw)], lambda _: b""))
    subjects = {"DID limits of packages", "on_hold_days of packages", "dids", "low_balance of clients"}
    assert {note.split(" (")[0].split(":")[0] for note in told} <= subjects
