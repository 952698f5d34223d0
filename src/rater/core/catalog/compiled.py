"""One version of the catalog, ready for rating: tables and rules indexed, packages by instant.

Pure and read only once built. Source of the rules: RULES.md 2.2 (currencies), section 3.
"""

from __future__ import annotations

from bisect import bisect_right
from math import gcd

from rater.core.amounts import E10
from rater.core.catalog.codes import Deck, RateTable
from rater.core.catalog.offers import Offer, Offers
from rater.core.catalog.packages import package_of
from rater.core.catalog.rules import Rules
from rater.core.catalog.specs import (
    Content,
    CurrencyRow,
)
from rater.core.instants import BEGINNING_MS
from rater.core.notices import NOTICES, Notices
from rater.core.zones import Zones

VERSIONS_KEPT = 3
"""Compiled versions that a process keeps: its lanes adopt a load within moments of each other, so the present
and the last one serve."""
OFFERS_MAX = 4096
"""Sets of packages whose offers are remembered: what a carrier sells together."""


class Catalog:
    """One version of the catalog, ready for rating."""

    __slots__ = (
        "_currencies",
        "_offers",
        "base",
        "decks",
        "dids",
        "notices",
        "packages",
        "rules",
        "service_names",
        "services",
        "tables",
        "tax_profiles",
        "version",
        "zones",
    )

    def __init__(self, content: Content, version: int, notices: Notices) -> None:
        """Compile the content."""
        self.version = version
        self.notices = notices
        self.base = content.base
        self.zones = Zones(content.zones)
        self.services = content.all_services()
        self.service_names = frozenset(self.services)
        self.decks = {name: Deck(name, deck.codes) for name, deck in content.decks.items()}
        self.tables = {
            name: RateTable(name, table.currency, self.decks.get(table.code_deck or ""), table.rates)
            for name, table in content.rate_tables.items()
        }
        self.packages = {
            of: package_of(of, history, self.decks, self.zones) for of, history in content.packages.items()
        }
        self.dids = content.dids
        self.rules = Rules(content.identification)
        self.tax_profiles = {
            name: tuple([(tax.name, tax.percent) for tax in profile.taxes])
            for name, profile in content.tax_profiles.items()
        }
        """By name: (name, percent) of each tax, in order."""
        self._offers: dict[tuple[str, tuple[Offer, ...]], Offers] = {}
        self._currencies = {name: _by_time(rows) for name, rows in content.currencies.items()}

    def offers(self, service: str, packages: tuple[Offer, ...]) -> Offers:
        """Return what open packages offer to calls of a service.

        Remembered, for clients with the same packages share it: else the first call of each would cost a
        fifth more (benchmarks/line.py, `new`).
        """
        found = self._offers.get((service, packages))
        if found is None:
            if len(self._offers) >= OFFERS_MAX:
                self._offers.clear()
            found = self._offers[service, packages] = Offers(packages, service, self.notices.limit_percents)
        return found

    def fx(self, currency: str, at_ms: int) -> int | None:
        """Return what 1 of the currency is worth in the base at an instant, in 10^-10; None: no rate yet."""
        if currency == self.base:
            return E10
        since, rates = self._currencies.get(currency, ((), ()))
        position = bisect_right(since, at_ms) - 1
        return rates[position] if position >= 0 else None

    def convert(self, source: str, target: str, at_ms: int) -> tuple[int, int] | None:
        """Return (n, d), reduced: x of the source currency is exactly x * n / d of the target; None: no rate.

        The same currency is (1, 1) whether it has a rate or not.
        """
        if source == target:
            return 1, 1
        n, d = self.fx(source, at_ms), self.fx(target, at_ms)
        if n is None or d is None:
            return None
        common = gcd(n, d)
        return n // common, d // common


def compile_catalog(content: Content, version: int, notices: Notices = NOTICES) -> Catalog:
    """Return the catalog ready for rating. The content must not be changed afterwards."""
    return Catalog(content, version, notices)


def _by_time(rows: list[CurrencyRow]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ordered = sorted((BEGINNING_MS if row.from_ms is None else row.from_ms, row.rate_e10) for row in rows)
    return tuple(since for since, _ in ordered), tuple(rate for _, rate in ordered)
