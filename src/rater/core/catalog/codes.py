"""Codes of destinations: decks, rate tables, the search for a number's longest code, patterns of limits.

Source of the rules: RULES.md 2, step 4 (rates), and 3.1 (patterns).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from rater.core.amounts import format_e10
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.core.json_text import members, quoted
from rater.core.naming import name_key

CODE_DIGITS_MAX = 64
"""Digits of a code and of a number at most (E.164 has 15; technical prefixes add some)."""

WILDCARD = "*"


class Deck:
    """A code deck: code → code name."""

    __slots__ = ("__dict__", "codes", "name")

    def __init__(self, name: str, codes: dict[str, str]) -> None:
        """Take over `codes`, which must not be changed any more."""
        self.name = name
        self.codes = codes

    @cached_property
    def _by_name(self) -> dict[str, frozenset[str]]:
        found: dict[str, list[str]] = {}
        for code, name in self.codes.items():
            found.setdefault(name, []).append(code)
        named: dict[str, frozenset[str]] = {}
        for name, codes in found.items():
            key = name_key(name)
            named[key] = named.get(key, frozenset()).union(codes)
        return named

    def codes_named(self, name: str) -> frozenset[str]:
        """Return the codes that bear a code name, in any spelling that reads the same; empty: none does."""
        return self._by_name.get(name_key(name), frozenset())


class PriceText(NamedTuple):
    """What of a transaction follows from a rate's table and price.

    rate: the JSON of `rate`. setup_fee: as it is written.
    """

    rate: str
    setup_fee: str


class RateText(Struct, array_like=True, gc=False):
    """What of a transaction follows from the rate.

    fragment: the JSON of `code`, `code_name` and `rate`. setup_fee: as it is written, for a fee in 10^-10 may
    be more than the 64 bits of msgpack's ints.
    """

    fragment: str
    setup_fee: str


NO_RATE = RateText('"code":null,"code_name":null,"rate":null', "0")


class Rate(Struct, gc=False):
    """What a side of a call is rated at: a row of a rate table, or what the CDR itself gave (no table).

    price_e10 of one price unit and setup_fee_e10 are in 10^-10 of the currency; min_time, interval and
    grace_time in counting units, interval >= 1. name: the code's name as JSON has it, or null; price: how
    transactions write it, and the table. A table's row is in force in [from_ms, to_ms).
    """

    currency: str
    code: str
    name: str
    price_e10: int
    setup_fee_e10: int
    min_time: int
    interval: int
    grace_time: int
    price: PriceText
    from_ms: int = BEGINNING_MS
    to_ms: int = NEVER_MS

    def text(self) -> RateText:
        """Return what of a transaction follows from the rate (CONTRACTS.md, Transaction)."""
        price, fee = self.price
        return RateText(f'"code":"{self.code}","code_name":{self.name},"rate":{price}', fee)


def price_text(
    table: str | None, currency: str, price_e10: int, setup_fee_e10: int, min_time: int, interval: int,
    grace_time: int,
) -> PriceText:  # fmt: skip
    """Return what a transaction says of a price; arguments as in `Rate`. table None: the CDR brought it."""
    fee = format_e10(setup_fee_e10)
    rate = {
        "table": table, "currency": currency, "price": format_e10(price_e10), "setup_fee": fee,
        "min_time": min_time, "interval": interval, "grace_time": grace_time,
    }  # fmt: skip
    return PriceText(f"{{{members(rate)}}}", fee)


def name_text(name: str | None) -> str:
    """Return what a transaction says of a code's name."""
    return "null" if name is None else quoted(name)


class Row(Struct, array_like=True, gc=False):
    """A row of a rate table as the catalog keeps it; units as in `Rate`. None: from the beginning, no end."""

    code: str
    price_e10: int
    setup_fee_e10: int = 0
    min_time: int = 0
    interval: int = 1
    grace_time: int = 0
    from_ms: int | None = None
    to_ms: int | None = None

    @property
    def begin_ms(self) -> int:
        """From when it is in force."""
        return BEGINNING_MS if self.from_ms is None else self.from_ms

    @property
    def terms(self) -> tuple[int, int, int, int, int]:
        """What it costs: price, setup fee, minimal time, interval, grace time."""
        return self.price_e10, self.setup_fee_e10, self.min_time, self.interval, self.grace_time


_HEAD = 3
"""Digits by which the lengths of a table's codes are told apart."""


class RateTable:
    """A rate table, searched by number."""

    __slots__ = ("__dict__", "_by_code", "_lengths", "_shorter", "currency", "deck", "name")

    def __init__(self, name: str, currency: str, deck: Deck | None, rows: Iterable[Row]) -> None:
        """Take the rows of the table."""
        self.name = name
        self.currency = currency
        self.deck = deck
        self._by_code: dict[str, Rate | list[Rate]] = {}
        """A list where a code has several, the one that begins last first; most codes have one."""
        self._fill(rows)
        lengths: dict[str, set[int]] = {}
        for code in self._by_code:
            lengths.setdefault(code[:_HEAD], set()).add(len(code))
        shorter = {len(code) for code in self._by_code if len(code) < _HEAD}
        self._shorter = tuple(sorted(shorter, reverse=True))
        self._lengths = {
            head: tuple(sorted(found | shorter, reverse=True))
            for head, found in lengths.items()
            if len(head) == _HEAD
        }
        """First digits → lengths of the codes that begin so or with fewer digits, longest first: of the codes
        that begin a number the longest counts."""

    def _fill(self, rows: Iterable[Row]) -> None:
        table = self._by_code
        codes: dict[str, str] = {} if self.deck is None else self.deck.codes
        # A deck has many codes of one name, and at one price.
        names = {name: name_text(name) for name in (None, *codes.values())}
        prices: dict[tuple[int, int, int, int, int], PriceText] = {}
        for row in rows:
            terms = row.terms
            text = prices.get(terms)
            if text is None:
                text = prices[terms] = price_text(self.name, self.currency, *terms)
            stop = NEVER_MS if row.to_ms is None else row.to_ms
            name = names[codes.get(row.code)]
            rate = Rate(self.currency, row.code, name, *terms, text, row.begin_ms, stop)
            other = table.setdefault(row.code, rate)
            if isinstance(other, list):
                other.append(rate)
            elif other is not rate:
                table[row.code] = [other, rate]
        for several in table.values():
            if isinstance(several, list):
                several.sort(key=attrgetter("from_ms"), reverse=True)

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self._by_code)

    @cached_property
    def codes(self) -> list[str]:
        """The codes, in order."""
        return sorted(self._by_code)

    @cached_property
    def rows(self) -> int:
        """How many rows it has: a code has one for each date."""
        return sum(1 if isinstance(found, Rate) else len(found) for found in self._by_code.values())

    def rates_of(self, code: str) -> list[Rate]:
        """Return the rates of a code, the one that begins first before the others; empty: it has none."""
        found = self._by_code.get(code, [])
        return [found] if isinstance(found, Rate) else found[::-1]

    def lookup(self, number: str, at_ms: int) -> Rate | None:
        """Return the rate of the longest code that begins the number and has a row in force at `at_ms`.

        `number` is digits alone. Of the rows of one code the one with the latest `effective_from` <= at
        counts, if at is before its `effective_to`; else the next shorter code is asked.
        """
        # Not remembered by number: most numbers come once, and an area's few lengths are tried in 0.3 µs.
        by_code = self._by_code
        for length in self._lengths.get(number[:_HEAD], self._shorter):
            found = by_code.get(number[:length])  # of a shorter number all of it, which is as good
            for rate in (found,) if isinstance(found, Rate) else found or ():
                if at_ms < rate.from_ms:
                    continue
                if rate.to_ms <= at_ms:
                    break
                return rate
        return None


EXACT = 0
"""The rank of an exact code and of a code name: before every wildcard (RULES.md 2.1, rule 4)."""


def pattern_rank(pattern: str, code: str) -> int | None:
    """Return how specific the pattern is for the identified code, smaller = more; None: it does not match.

    `121` matches 121 alone (EXACT), `121*` 121 and every longer code that begins with it, `*` every code.
    """
    matches = code.startswith(pattern[:-1]) if pattern.endswith(WILDCARD) else pattern == code
    return rank_of(pattern) if matches else None


def rank_of(pattern: str) -> int:
    """Return how specific a pattern is for what it matches: a longer wildcard comes before a shorter one."""
    return 2 + CODE_DIGITS_MAX - len(pattern) if pattern.endswith(WILDCARD) else EXACT
