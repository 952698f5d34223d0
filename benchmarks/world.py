"""What is measured with: a catalog of many clients with a real deck, and the CDRs of their calls."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate, islice
from typing import Any

import orjson

from rater.demo import deck, prices
from rater.demo.prices import Country

SEED = 1876
CDR_BYTES = 400
TEMPLATES = 60
"""Packages on sale; clients share them, as customers of a carrier do."""
VENDORS = 200
"""Clients of the `term` side."""
USUAL = 20
PERIOD_DAYS = 30
"""Of packages that are renewed at one instant: not a month, for not every day is one of the month before."""
FEE = "10.00"
STARTS_S = 540 * 86_400
HISTORY_S = 3600
"""Calls were answered within so many seconds before now."""
_SPREAD = 2_654_435_761  # a prime: neighbours come far apart
_DIGITS = 12
"""Of a number whose country is none of the deck's busy ones."""


@dataclass(frozen=True)
class World:
    """The size of everything; the defaults are those of the main measurement."""

    clients: int = 100_000
    packages: int = 1
    """Client packages of each client, with 1 to 5 limits each."""
    codes: int = 36_235
    both_sides: float = 0.2
    hot: float = 0.0
    """Share of the calls that one client makes, beside its share of the others."""
    duplicates: float = 0.0
    """Share of the records that are an earlier one again."""
    usual: float = 0.0
    """Share of the calls to one of the caller's `USUAL` own numbers; the others go to a new number each."""
    limits: int | None = None
    """So many limits in each package, all of them of minutes; None: 1 to 5, of minutes and money."""
    every: bool = False
    """Each package has a limit for all codes, so that further ones do not make more calls draw."""
    plenty: bool = False
    """Limits that are never used up, so that a few clients with many calls draw as often as many with few."""
    renewal_s: int | None = None
    """Seconds since 1970 at which the period of all customers stops, and the next one costs a taxed fee."""

    @cached_property
    def deck(self) -> dict[str, str]:
        """The codes: the demo's real deck; fewer: the shortest; more: prefixed with further digits."""
        real = deck.codes()
        if self.codes <= len(real):
            chosen = sorted(real, key=lambda code: (len(code), code))[: self.codes]
            return {code: real[code] for code in sorted(chosen)}
        codes, digit = dict(real), 0
        while len(codes) < self.codes:
            for code, name in real.items():
                for last in (f"{digit:02d}", f"{digit + 50:02d}"):
                    codes.setdefault(code + last, f"{name} {last}")
            digit += 1
        return dict(sorted(islice(codes.items(), self.codes)))

    # ------------------------------------------------------------------ the catalog
    def catalog(self) -> bytes:
        """Return it as a JSON file for `rater load`."""
        chance = random.Random(SEED)  # noqa: S311 - example prices
        today = datetime.now(UTC)
        rows = [
            {
                "code": code,
                "price": f"0.{chance.randrange(50, 3000):04d}",
                "interval": (1, 6, 60)[len(code) % 3],
            }
            for code in self.deck
        ]
        cheaper = [{"code": row["code"], "price": f"{float(str(row['price'])) / 2:.5f}"} for row in rows]
        clients, held = [], []
        for n in range(self.clients + VENDORS):
            is_vendor = n >= self.clients
            tables = {"term": {"calls": "wholesale"}} if is_vendor else {"orig": {"calls": "retail"}}
            clients.append({
                "id": str(n), "name": f"Client {n}", "currency": "USD",
                "time_zone": ("Europe/Kyiv", "Europe/Berlin", "UTC")[n % 3], "balance": "1000.00",
                "rate_tables": tables, "accounts": [{"id": f"sip-{n}"}],
            })  # fmt: skip
            # Customers came at any time of the last year and a half, so that hardly two periods are the same.
            began = today - timedelta(seconds=chance.randrange(STARTS_S))
            if self.renewal_s is not None and not is_vendor:
                began = datetime.fromtimestamp(self.renewal_s, UTC) - timedelta(days=PERIOD_DAYS)
                clients[-1] |= {
                    "tax_profile": "vat20",
                    "balance": "1000000.00",
                }  # whoever calls most can pay too
            start = f"{began:%Y-%m-%dT%H:%M:%SZ}"
            for each in range(1 if is_vendor else self.packages):
                package = f"v{n % TEMPLATES}" if is_vendor else f"p{(n + each) % TEMPLATES}"
                held.append({"id": f"{n}.{each}", "client": str(n), "package": package,
                             "start_date": start, "activate_in_past": True})  # fmt: skip
        return orjson.dumps({
            "currencies": {"base": "USD"},
            "tax_profiles": [{"name": "vat20", "taxes": [{"name": "VAT", "percent": "20"}]}],
            "code_decks": [{"name": "a-z", "codes": self.deck}],
            "rate_tables": [
                {"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": rows},
                {"name": "wholesale", "currency": "USD", "code_deck": "a-z", "rates": cheaper},
            ],
            "packages": [self._package(n, kind) for kind in ("customer", "vendor") for n in range(TEMPLATES)],
            "clients": clients,
            "client_packages": held,
        })  # fmt: skip

    def _package(self, n: int, kind: str) -> dict[str, Any]:
        """Return a package: two in three have a limit for all codes (`every`: all), others for countries."""
        chance = random.Random(SEED + n)  # noqa: S311 - example packages
        count = self.limits or 1 + n % 5
        countries = [country for country in prices.COUNTRIES if country.code in self.deck]
        # "0" to "9" as well: with few codes there are fewer countries than limits.
        codes = [country.code for country in countries] + [str(digit) for digit in range(1, 10)]
        chosen = [f"{code}*" for code in dict.fromkeys(chance.sample(codes, count))]
        if n % 3 or self.every:
            chosen[-1] = "*"
        limits: list[dict[str, Any]] = []
        for number, code in enumerate(chosen):
            money = self.limits is None and number == count - 1 and n % 4 == 1
            size = chance.randrange(20, 500) if money else chance.randrange(500, 20_000)
            size *= 10_000 if self.plenty else 1
            limits.append({
                "type": "money" if money else "volume", "service": "calls", "code": code,
                "limit": f"{size}.00" if money else size,
            })  # fmt: skip
        costs: dict[str, Any] = {"period": "1 month"}
        if self.renewal_s is not None and kind == "customer":
            costs = {
                "period": f"{PERIOD_DAYS} days",
                "fees": [{"type": "subscription", "name": "Monthly", "rate": FEE}],
            }
        return {"id": f"{'v' if kind == 'vendor' else 'p'}{n}", "name": f"Package {n}", "type": kind,
                "currency": "USD", "limits": limits, **costs}  # fmt: skip

    # ------------------------------------------------------------------ the calls
    def calls(self, count: int, name: str) -> Iterator[bytes]:
        """Yield CDRs of 400 bytes; `name` begins their ids. Clients are drawn by Zipf's law."""
        chance = random.Random(f"{SEED}{name}")  # noqa: S311 - traffic
        now = datetime.now(UTC)
        moments = [_text(now - timedelta(milliseconds=ms)) for ms in range(0, HISTORY_S * 1000, 250)]
        shuffled = list(range(self.clients))
        chance.shuffle(shuffled)  # the busy ones are not those with the lowest numbers
        clients = chance.choices(shuffled, cum_weights=self._zipf, k=count)
        codes = chance.choices(self._destinations, cum_weights=self._weights, k=count)
        earlier: list[bytes] = []
        for n, (client, (code, digits)) in enumerate(zip(clients, codes, strict=True)):
            if earlier and chance.random() < self.duplicates:
                yield earlier[int(chance.random() * len(earlier))]
                continue
            if self.hot and chance.random() < self.hot:
                client = shuffled[0]  # noqa: PLW2901 - that one instead
            digits_of = int(chance.random() * 10**12)
            if self.usual and chance.random() < self.usual:
                own = (client * USUAL + int(chance.random() * USUAL)) * _SPREAD
                (code, digits), digits_of = codes[own % count], own % 10**12  # noqa: PLW2901 - its own number
            ended = int(chance.random() * (len(moments) - 2420))
            talked = int(chance.expovariate(1 / 480)) % 2400  # quarters of a second; two minutes on average
            number = code + f"{digits_of:012d}"[: digits - len(code)]
            term = ""
            if chance.random() < self.both_sides:
                vendor = self.clients + int(chance.random() * VENDORS)
                term = f',"term":{{"client":"{vendor}","account":"sip-{vendor}"}}'
            cdr = (
                f'{{"id":"{name}-{n}","setup_at":"{moments[ended + talked + 20]}",'
                f'"answered_at":"{moments[ended + talked]}","ended_at":"{moments[ended]}",'
                f'"duration_ms":{talked * 250 + 7},"caller":"1415{client:07d}","called":"{number}",'
                f'"orig":{{"client":"{client}","account":"sip-{client}"}}{term},'
                f'"tags":{{"node":"a3","codec":"PCMA","cause":"16","trace":"'
            )
            raw = f"{cdr}{'x7f3a9c1' * 50}"[: CDR_BYTES - 3].encode() + b'"}}'
            if self.duplicates:
                earlier.append(raw)
            yield raw

    @cached_property
    def _zipf(self) -> list[float]:
        return list(accumulate(1 / rank for rank in range(1, self.clients + 1)))

    @cached_property
    def _busy(self) -> list[tuple[Country, list[str]]]:
        """The busy countries that the deck has codes of, with these: every call has a rate."""
        found = (
            (country, [one.code for one in prices.destinations(country) if one.code in self.deck])
            for country in prices.COUNTRIES
        )
        return [(country, codes) for country, codes in found if codes]

    @cached_property
    def _destinations(self) -> list[tuple[str, int]]:
        found = [(code, country.digits) for country, codes in self._busy for code in codes]
        rest = [code for code in self.deck if len(code) < _DIGITS]
        return found + [(code, _DIGITS) for code in rest]

    @cached_property
    def _weights(self) -> list[float]:
        """Nine calls in ten go to the busy countries, by their weights; one to any code of the deck."""
        weights: list[float] = []
        for country, codes in self._busy:
            weights += [country.weight / len(codes)] * len(codes)
        rest = len(self._destinations) - len(weights)
        return list(accumulate(weights + [sum(weights) / 9 / rest] * rest))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
