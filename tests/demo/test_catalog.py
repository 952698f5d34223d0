"""The example catalog: whole, the same every time, and accepted as `rater load` would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.core.catalog_files.unmatched import unmatched
from rater.core.offline import Rater
from rater.demo import catalog, deck, lives, prices

NOW_MS = 1_795_588_000_000  # 25 Nov 2026


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The example catalog."""
    return catalog.build(NOW_MS)


def test_it_is_the_same_every_time(example: dict[str, Any]) -> None:
    """Two builds at one moment are equal, and the file is that build."""
    assert catalog.build(NOW_MS) == example
    assert orjson.loads(catalog.file_bytes(NOW_MS)) == example


def test_packages_of_all_kinds_are_there(example: dict[str, Any]) -> None:
    """Each kind of package and each rule of limits has an example, so that each can be seen at work."""
    limits = [limit for package in example["packages"] for limit in package["limits"]]
    assert any(limit["type"] == "volume" and str(limit.get("code")).endswith("*") for limit in limits)
    assert any("code_name" in limit for limit in limits)
    assert any(limit["type"] == "money" for limit in limits)
    for rule in ("exclude", "min_call", "per_call_max"):
        assert any(rule in limit for limit in limits), rule
    assert {package["type"] for package in example["packages"]} == {"customer", "vendor"}
    assert any(package.get("client_balance") == "allow" for package in example["packages"])
    assert {limit["service"] for limit in limits} == {"calls", "messages", "data"}


def test_nothing_of_it_matches_nothing() -> None:
    """Each limit, exclude and rule of it can hold."""
    rater = Rater()
    assert rater.load([("catalog.json", catalog.file_bytes(NOW_MS))], NOW_MS) == []
    assert rater.content is not None
    assert unmatched(rater.content) == []


def test_references_lead_somewhere(example: dict[str, Any]) -> None:
    """Whatever names a client, an account, a package, a table or a code name names one that exists."""
    clients = {client["id"]: client for client in example["clients"]}
    accounts = {
        account["id"]: client["id"] for client in example["clients"] for account in client.get("accounts", [])
    }
    packages = {package["id"]: package for package in example["packages"]}
    tables = {table["name"] for table in example["rate_tables"]}
    assert len(clients) == catalog.CLIENTS + len(lives.LIVES)
    assert len({client["name"] for client in clients.values()}) == len(clients)
    for assigned in example["client_packages"]:
        assert packages[assigned["package"]].get("status", "active") == "active"
        if assigned.get("account") is not None:
            assert accounts[assigned["account"]] == assigned["client"]
        vendor = "term" in clients[assigned["client"]]["rate_tables"]
        assert (packages[assigned["package"]]["type"] == "vendor") == vendor
    for rule in example["identification"]:
        assert accounts[rule["account"]] == rule["client"]
    for client in clients.values():
        for services in client["rate_tables"].values():
            assert set(services.values()) <= tables


def test_limits_by_code_name_have_rated_codes(example: dict[str, Any]) -> None:
    """A code name of a limit is borne by a code that the price list has: else no call could draw from it."""
    priced = {row["code"] for table in example["rate_tables"] for row in table["rates"]}
    names = {name for code, name in deck.codes().items() if code in priced}
    for package in example["packages"]:
        for limit in package["limits"]:
            assert limit.get("code_name", "Ukraine") in names


def test_prices_are_decimals_and_codes_come_once(example: dict[str, Any]) -> None:
    """Every price is a plain decimal text, and a code has one row for each date that it begins."""
    for table in example["rate_tables"]:
        rows = [(row["code"], row.get("effective_from")) for row in table["rates"]]
        assert len(rows) == len(set(rows))
        for row in table["rates"]:
            assert re.fullmatch(r"0\.[0-9]{1,6}", row["price"]), row


def test_capitals_are_priced() -> None:
    """The code of a country's busiest place is one of its priced codes, so that packages for it draw."""
    for country in prices.COUNTRIES:
        codes = {one.code for one in prices.destinations(country)}
        assert not country.capital or country.capital in codes, country.name


def test_the_loader_takes_it(tmp_path: Path) -> None:
    """`rater load` finds no fault in it."""
    loading = pytest.importorskip("rater.core.catalog_files.merging")
    raw = catalog.file_bytes(NOW_MS)
    read = loading.read_files([("catalog.json", raw)], lambda name: (tmp_path / name).read_bytes())
    merged = loading.merge(None, read, NOW_MS, loading.Existing({}, {}))
    assert not isinstance(merged, list), [str(fault) for fault in merged][:5]
    assert len(merged.entries) == catalog.CLIENTS + len(lives.LIVES)
