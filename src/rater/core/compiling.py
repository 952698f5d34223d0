"""The content of the catalog made ready for rating: tables and rules indexed, packages by instant.

Pure and read only once built, but for memos. Source of the rules: domain.md 2.1 to 2.4, section 3 and 3.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import gcd
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from rater.core.amounts import E10
from rater.core.catalog import (
    Content,
    CurrencyRow,
    IdentificationRule,
    LimitSpec,
    LimitType,
    PackageHistory,
    PackageSpec,
    PackageType,
    ServiceSpec,
    Status,
)
from rater.core.codes import BEGINNING_MS, EXACT, NEVER_MS, WILDCARD, Deck, RateTable, pattern_rank, rank_of
from rater.core.periods import Span, parse_span, when_ms
from rater.core.reasons import PassOver
from rater.core.zones import Zones

_MEMO_MAX = 65_536
_MEMO_KEY_CHARS_MAX = 300
"""A CDR has 64 KiB, and a memo full of such would have 4 GB."""
_ADDRESS_CHARS_MAX = 64
"""IPv6 has 45 and a zone; the same."""


Service = ServiceSpec


class Limit(Struct, frozen=True, eq=False):
    """An allowance of a package version; identity is its equality.

    size: counting units (volume) or micros of the package's currency (money), before the client package's
    quantity. cap: most that one call may take, None: no such bound. rollover in counting units.
    """

    id: str
    position: int
    kind: LimitType
    service: str
    size: int
    min_call: int
    cap: int | None
    rollover: int
    code: str | None
    code_name: str | None
    deck: str | None
    exclude: tuple[str, ...]
    named: frozenset[str] = frozenset()
    """The codes that bear code_name in the deck."""

    def rank(self) -> int:
        """Return how specific the limit is for the codes that it matches, smaller = more."""
        return EXACT if self.code is None else rank_of(self.code)

    def matches(self, code: str) -> bool:
        """Return whether the limit is for the identified code; `exclude` is not looked at."""
        return code in self.named if self.code is None else pattern_rank(self.code, code) is not None

    def excludes(self, code: str) -> bool:
        """Return whether `exclude` takes the identified code out."""
        return any(pattern_rank(pattern, code) is not None for pattern in self.exclude)

    def why_not(self, service: str, code: str) -> PassOver | None:
        """Return why the limit is not for this service and code (for explain); None: it is."""
        if service != self.service:
            return PassOver.OTHER_SERVICE
        if not self.matches(code):
            return PassOver.CODE_MISMATCH
        return PassOver.EXCLUDED if self.excludes(code) else None


class Limits:
    """Limits of one service by the codes that they are for, as sets of bits: 1 << place among them.

    One look-up for each length of wildcard, however many limits there are. Not remembered by code: a carrier
    sees all of a deck, and the limits of many packages together would fill gigabytes.
    """

    __slots__ = ("_every", "_exact", "_excluding", "_lengths", "_wild")

    def __init__(self, limits: Iterable[Limit]) -> None:
        """Index the limits."""
        self._exact: dict[str, int] = {}
        self._wild: dict[str, int] = {}
        self._excluding: list[tuple[int, Limit]] = []
        for place, limit in enumerate(limits):
            bit = 1 << place
            if limit.exclude:
                self._excluding.append((bit, limit))
            if limit.code is not None and limit.code.endswith(WILDCARD):
                beginning = limit.code[:-1]
                self._wild[beginning] = self._wild.get(beginning, 0) | bit
                continue
            for code in limit.named if limit.code is None else (limit.code,):
                self._exact[code] = self._exact.get(code, 0) | bit
        self._every = self._wild.pop("", 0)
        self._lengths = tuple(sorted(set(map(len, self._wild))))

    def select(self, code: str) -> int:
        """Return the limits for an identified code."""
        found, wild = self._every, self._wild
        if code in self._exact:
            found |= self._exact[code]
        for length in self._lengths:
            beginning = code[:length]
            if beginning in wild:
                found |= wild[beginning]
        for bit, limit in self._excluding:
            if found & bit and limit.excludes(code):
                found -= bit
        return found


class PackageVersion:
    """A package as it was from some instant on."""

    __slots__ = (
        "allow", "currency", "id", "limits", "name", "priority", "span", "spec", "tag", "type",
        "waive_setup",
    )  # fmt: skip

    def __init__(self, spec: PackageSpec, limits: tuple[Limit, ...]) -> None:
        """Take a checked package and its limits."""
        self.spec = spec
        self.id = spec.id
        self.name = spec.name
        self.type: PackageType = spec.type
        self.currency = spec.currency
        self.span: Span | None = None if spec.period is None else parse_span(spec.period)
        self.priority = spec.priority
        self.tag = spec.dynamic_tag
        self.waive_setup = spec.setup_fee == "dont_charge"
        self.allow = spec.client_balance == "allow"
        self.limits = limits

    def start_ms(self, zone: ZoneInfo) -> int | None:
        """Return the instant before which nothing of it is in force, for a client in this zone."""
        return None if self.spec.start_date is None else when_ms(self.spec.start_date, zone)

    def end_ms(self, zone: ZoneInfo) -> int | None:
        """Return the instant at which the last period ends at the latest, for a client in this zone."""
        return None if self.spec.end_date is None else when_ms(self.spec.end_date, zone)


class Package:
    """A package over time."""

    __slots__ = ("_since", "_status_since", "_statuses", "id", "versions", "zones")

    def __init__(
        self,
        of: str,
        versions: Sequence[tuple[int, PackageVersion]],
        statuses: Sequence[tuple[int, Status]],
        zones: Zones,
    ) -> None:
        """Take versions and statuses by instant, one at least; the first counts from the beginning."""
        self.id = of
        self.zones = zones
        """Those of the catalog, by which its periods are cut."""
        self.versions = tuple(version for _, version in versions)
        self._since = [since for since, _ in versions]
        self._statuses = tuple(status for _, status in statuses)
        self._status_since = [since for since, _ in statuses]

    def at(self, at_ms: int) -> PackageVersion:
        """Return the version in force at an instant: that of a period is the one at the period's opening."""
        return self.versions[max(bisect_right(self._since, at_ms) - 1, 0)]

    def status_at(self, at_ms: int) -> Status:
        """Return the status at an instant."""
        return self._statuses[max(bisect_right(self._status_since, at_ms) - 1, 0)]

    def status_around(self, at_ms: int) -> tuple[int, int]:
        """Return the [from, until) around an instant in which the status stays what it is."""
        since = self._status_since
        place = max(bisect_right(since, at_ms) - 1, 0)
        return (
            since[place] if place else BEGINNING_MS,
            since[place + 1] if place + 1 < len(since) else NEVER_MS,
        )

    def changes(self) -> Sequence[int]:
        """Return the instants at which a later version came into force."""
        return self._since[1:]

    @property
    def latest(self) -> PackageVersion:
        """The package of this catalog: its name, priority, tag, rules and dates hold for every period."""
        return self.versions[-1]


# --------------------------------------------------------------------------------------------- identification
_Place = tuple[int, str, str | None]
"""(position in the file, client, account)."""

_Shape = tuple[bool, int, int, bool, int]
"""gateway given, IP version (0 none), prefix bits, login given, digits of the caller prefix (0 none)."""

_Address = IPv4Address | IPv6Address


class _Group:
    """The rules of one shape: which fields are given, how long their prefixes are. One dict look-up."""

    __slots__ = ("first", "places", "shape")

    def __init__(self, shape: _Shape, position: int) -> None:
        self.shape = shape
        self.first = position
        self.places: dict[tuple[object, ...], _Place] = {}

    def find(self, gateway: str | None, ip: _Address | None, login: str | None, caller: str) -> _Place | None:
        by_gateway, version, bits, by_login, digits = self.shape
        network = 0
        if version:
            if ip is None or ip.version != version:
                return None
            network = int(ip) >> (ip.max_prefixlen - bits)
        key = (gateway if by_gateway else None, network, login if by_login else None, caller[:digits])
        return self.places.get(key)


class Rules:
    """The identification rules: file order, the first whose given fields all hold.

    Costs a look-up for each shape of rule (which fields, how long a network), not for each rule.
    """

    __slots__ = ("_groups", "_memo")

    def __init__(self, rules: Iterable[IdentificationRule]) -> None:
        """Index the rules."""
        groups: dict[tuple[str, _Shape], _Group] = {}
        for position, rule in enumerate(rules):
            shape, key = _shape(rule)
            group = groups.setdefault((rule.side, shape), _Group(shape, position))
            group.places.setdefault(key, (position, rule.client, rule.account))
        self._groups = {
            side: sorted((g for (of, _), g in groups.items() if of == side), key=lambda g: g.first)
            for side in ("orig", "term")
        }
        self._memo: dict[tuple[str | None, ...], tuple[str, str | None] | None] = {}

    def find(
        self, side: str, gateway: str | None, ip: str | None, login: str | None, caller: str | None
    ) -> tuple[str, str | None] | None:
        """Return (client, account or None) of the first rule that holds; None: no rule does."""
        if not self._groups[side]:
            return None
        key = (side, gateway, ip, login, caller)
        if key in self._memo:
            return self._memo[key]
        found = self._find(self._groups[side], gateway, ip, login, caller)
        if sum(len(text) for text in key if text) <= _MEMO_KEY_CHARS_MAX:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            self._memo[key] = found
        return found

    def _find(
        self, groups: list[_Group], gateway: str | None, ip: str | None, login: str | None, caller: str | None
    ) -> tuple[str, str | None] | None:
        address = None if ip is None or len(ip) > _ADDRESS_CHARS_MAX else _address(ip)
        number = "" if caller is None else caller.removeprefix("+")
        best: _Place | None = None
        for group in groups:
            if best is not None and best[0] < group.first:
                break
            place = group.find(gateway, address, login, number)
            if place is not None and (best is None or place[0] < best[0]):
                best = place
        return None if best is None else (best[1], best[2])


def _shape(rule: IdentificationRule) -> tuple[_Shape, tuple[object, ...]]:
    version = bits = network = 0
    if rule.ip is not None:
        given = ip_network(rule.ip)
        version, bits = given.version, given.prefixlen
        network = int(given.network_address) >> (given.max_prefixlen - bits)
    prefix = rule.caller_prefix or ""
    shape = (rule.gateway is not None, version, bits, rule.login is not None, len(prefix))
    return shape, (rule.gateway, network, rule.login, prefix)


@lru_cache(maxsize=_MEMO_MAX)
def _address(text: str) -> _Address | None:
    """Return the address; None when the text is none, then no rule with a network holds."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


# ---------------------------------------------------------------------------------------------------- catalog
class Catalog:
    """One version of the catalog, ready for rating."""

    __slots__ = (
        "_currencies",
        "base",
        "decks",
        "packages",
        "rules",
        "service_names",
        "services",
        "shared",
        "tables",
        "version",
        "zones",
    )

    def __init__(self, content: Content, version: int) -> None:
        """Compile the content."""
        self.version = version
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
            of: _package(of, history, self.decks, self.zones) for of, history in content.packages.items()
        }
        self.rules = Rules(content.identification)
        self.shared: dict[Any, Any] = {}
        """For whoever matches: what clients with the same packages share. Bound it."""
        self._currencies = {name: _by_time(rows) for name, rows in content.currencies.items()}

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


def compile_catalog(content: Content, version: int) -> Catalog:
    """Return the catalog ready for rating. The content must not be changed afterwards."""
    return Catalog(content, version)


def _by_time(rows: list[CurrencyRow]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ordered = sorted((BEGINNING_MS if row.from_ms is None else row.from_ms, row.rate_e10) for row in rows)
    return tuple(since for since, _ in ordered), tuple(rate for _, rate in ordered)


def _package(of: str, history: PackageHistory, decks: dict[str, Deck], zones: Zones) -> Package:
    versions = [
        (since, PackageVersion(spec, tuple(_limit(n, row, decks) for n, row in enumerate(spec.limits))))
        for since, spec in history.versions
    ]
    return Package(of, versions, history.statuses, zones)


def _limit(position: int, spec: LimitSpec, decks: dict[str, Deck]) -> Limit:
    named: frozenset[str] = frozenset()
    if spec.code_name is not None and spec.code_deck in decks:
        named = decks[spec.code_deck].codes_named(spec.code_name)
    return Limit(
        id=spec.id, position=position, kind=spec.type, service=spec.service, size=spec.limit,
        min_call=spec.min_call, cap=spec.per_call_max, rollover=spec.rollover, code=spec.code,
        code_name=spec.code_name, deck=spec.code_deck, exclude=tuple(spec.exclude), named=named,
    )  # fmt: skip
