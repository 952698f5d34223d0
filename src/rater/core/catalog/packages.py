"""What is sold: packages over time, and their limits by the codes that they are for.

Pure and read only once built. Source of the rules: RULES.md 2.1, section 3 and 3.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from msgspec import Struct

from rater.core.catalog.codes import EXACT, WILDCARD, Deck, pattern_rank, rank_of
from rater.core.catalog.specs import (
    LimitSpec,
    LimitType,
    PackageHistory,
    PackageSpec,
    PackageType,
    ServiceSpec,
    Status,
)
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.core.periods import Span, parse_span, when_ms
from rater.core.reasons import PassOver
from rater.core.zones import Zones

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
        "allow", "charges", "currency", "id", "limits", "name", "priority", "rolls", "span", "spec", "tag",
        "type", "waive_setup",
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
        self.charges = frozenset(row.type for row in spec.fees)
        """Types of the rows of fees that it has."""
        self.rolls = any(limit.rollover for limit in limits)
        """Whether anything of a period may be moved into the next."""

    def start_ms(self, zone: ZoneInfo) -> int | None:
        """Return the instant before which nothing of it is in force, for a client in this zone."""
        return None if self.spec.start_date is None else when_ms(self.spec.start_date, zone)

    def end_ms(self, zone: ZoneInfo) -> int | None:
        """Return the instant at which the last period ends at the latest, for a client in this zone."""
        return None if self.spec.end_date is None else when_ms(self.spec.end_date, zone)


class Package:
    """A package over time."""

    __slots__ = ("_since", "_status_since", "_statuses", "archived_ms", "id", "statuses", "versions", "zones")

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
        self.statuses = tuple(statuses)
        """(instant since which, status), the first from the beginning."""
        self.archived_ms = next((since for since, status in statuses if status == "archived"), None)
        """Since when it is archived; None: it is not."""

    def at(self, at_ms: int) -> PackageVersion:
        """Return the version in force at an instant: that of a period is the one at the period's opening."""
        return self.versions[bisect_right(self._since, at_ms, 1) - 1]

    def status_at(self, at_ms: int) -> Status:
        """Return the status at an instant."""
        return self._statuses[bisect_right(self._status_since, at_ms, 1) - 1]

    def status_around(self, at_ms: int) -> tuple[int, int]:
        """Return the [from, until) around an instant in which the status stays what it is."""
        since = self._status_since
        place = bisect_right(since, at_ms, 1) - 1
        return (
            since[place] if place else BEGINNING_MS,
            since[place + 1] if place + 1 < len(since) else NEVER_MS,
        )

    def cancelled_ms(self, assigned_ms: int) -> int | None:
        """Return when its archiving cancels a client package that was assigned then; None: never."""
        return None if self.archived_ms is None else max(self.archived_ms, assigned_ms)

    def changes(self) -> Sequence[int]:
        """Return the instants at which a later version came into force."""
        return self._since[1:]

    def since(self, at_ms: int) -> Sequence[tuple[int, int, PackageVersion]]:
        """Return the version in force at an instant and those after it: [from, until) in which each holds.

        The first one holds from the beginning, the last one for ever.
        """
        place = bisect_right(self._since, at_ms, 1)
        changes = self._since[place:]
        return [*zip([BEGINNING_MS, *changes], [*changes, NEVER_MS], self.versions[place - 1 :], strict=True)]

    def ended(self, from_ms: int, zone: ZoneInfo) -> tuple[int, bool] | None:
        """Return when an end date ends what a client has, None: none does; and whether its load did.

        The first since from_ms that comes while its version holds, also where a later version takes it back.
        One that was over when it was loaded comes with the load.
        """
        if len(self.versions) == 1:
            end = self.versions[0].end_ms(zone)
            return None if end is None else (end, False)
        for since, until, version in self.since(from_ms):
            end = version.end_ms(zone)
            if end is not None and end <= until:  # what is due at a load's instant is done before it
                return max(end, since), end <= since
        return None

    @property
    def changed_ms(self) -> int:
        """When the present version came into force."""
        return self._since[-1]

    @property
    def latest(self) -> PackageVersion:
        """The package of this catalog: its name, priority, tag, rules and dates hold for every period."""
        return self.versions[-1]


def package_of(of: str, history: PackageHistory, decks: dict[str, Deck], zones: Zones) -> Package:
    """Return a package over time, made ready from its history in the catalog."""
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
