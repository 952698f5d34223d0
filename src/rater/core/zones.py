"""The rules of time zones, which lanes agree on: the catalog carries them, release by release of tzdata.

A load brings those of the install that it runs on, where they are newer; whoever rates uses the catalog's,
whatever is installed. So two installs, or an upgrade one worker after the other, cut no period at two
instants. Source of the rules: RULES.md section 4 (Periods).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from io import BytesIO
from zoneinfo import ZoneInfo

import tzdata
from msgspec import Struct
from msgspec.structs import replace

from rater.core.instants import NEVER_MS
from rater.core.periods import zone_of

INSTALLED: str = tzdata.IANA_VERSION
"""The release that is installed here, "2026f"."""


class Release(Struct, array_like=True, frozen=True, gc=False):
    """A release of the time zone database.

    since_ms: the `at` of the load that brought it; the first counts from the beginning. iana: "2026f";
    package: version of the Python package, "2026.6". rules: zone → TZif (RFC 9636), of all zones; of a later
    release those that differ from the ones before it.
    """

    since_ms: int
    iana: str
    package: str
    rules: dict[str, bytes]

    def newer(self, other: Release) -> bool:
        """Return whether this release came after the other."""
        return (self.iana, _numbers(self.package)) > (other.iana, _numbers(other.package))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


@lru_cache(maxsize=1)
def installed() -> Release:
    """Return the release that is installed here."""
    folder = resources.files("tzdata")
    names = folder.joinpath("zones").read_text("utf-8").split()
    rules = {name: folder.joinpath("zoneinfo", *name.split("/")).read_bytes() for name in names}
    return Release(0, INSTALLED, tzdata.__version__, rules)


def brought(releases: list[Release], here: Release, at_ms: int) -> list[Release]:
    """Return the releases that a catalog has after a load from an install that has `here`.

    The same list when nothing changes: the catalog's newest is that one, or a newer one.
    """
    if not releases:
        return [replace(here, since_ms=at_ms)]
    newest = releases[-1]
    if not here.newer(newest):
        return releases
    before: dict[str, bytes] = {}
    for release in releases:
        before |= release.rules
    rules = {name: raw for name, raw in here.rules.items() if before.get(name) != raw}
    # After the one before even when a clock was put back.
    return [*releases, replace(here, since_ms=max(at_ms, newest.since_ms + 1000), rules=rules)]


def notes(before: list[Release], after: list[Release], here: Release) -> tuple[str, ...]:
    """Return what a load tells of it, a sentence or none. before, after: the catalog's releases."""
    newest = after[-1]
    if not before:
        return (f"time zones: the catalog has those of tzdata {newest.iana} from now, whatever is installed",)
    if len(after) > len(before):
        change = f"tzdata {before[-1].iana} -> {newest.iana} from now"
        return (f"time zones: {change}; periods that are open keep their bounds",)
    if newest.newer(here):
        keeps = f"the catalog keeps its newer {newest.iana}; upgrade this install"
        return (f"time zones: tzdata {here.iana} is installed here, and {keeps}",)
    return ()


class Zones:
    """The time zones of one catalog by name and instant.

    A catalog that was loaded before catalogs carried them has none: then those installed here are used.
    """

    __slots__ = ("_found", "_releases", "_since")

    def __init__(self, releases: Sequence[Release] = ()) -> None:
        """Take the releases by instant."""
        self._releases = tuple(releases)
        self._since = [release.since_ms for release in releases]
        self._found: dict[tuple[str, int], ZoneInfo] = {}
        """By name and number of releases until then: as many as zones are in use."""

    @property
    def since_ms(self) -> int:
        """When the catalog began to carry time zones."""
        return self._since[0] if self._since else NEVER_MS

    @property
    def name(self) -> str:
        """The release in force now, "2026f"; without any, the one installed here."""
        return self._releases[-1].iana if self._releases else INSTALLED

    @property
    def carried(self) -> bool:
        """Whether the catalog has time zones of its own."""
        return bool(self._releases)

    def at(self, name: str, at_ms: int) -> ZoneInfo:
        """Return the zone by the release in force at an instant; ValueError when there is none of the name.

        Equal rules are the same object.
        """
        place = bisect_right(self._since, at_ms, 1)
        found = self._found.get((name, place))
        if found is None:
            found = self._found[name, place] = self._zone(name, place)
        return found

    def _zone(self, name: str, place: int) -> ZoneInfo:
        # A zone that is newer than the instant has the rules that it came with.
        for release in (*reversed(self._releases[:place]), *self._releases[place:]):
            rules = release.rules.get(name)
            if rules is not None:
                return _zone(name, rules)
        return zone_of(name)  # of a machine's own, before there were releases

    def latest(self, name: str) -> ZoneInfo:
        """Return the zone by the newest release."""
        return self.at(name, NEVER_MS)

    def changes(self, name: str) -> list[int]:
        """Return the instants since which the zone has other rules than before."""
        return [release.since_ms for release in self._releases[1:] if name in release.rules]


@lru_cache(maxsize=4096)
def _zone(name: str, rules: bytes) -> ZoneInfo:
    return ZoneInfo.from_file(BytesIO(rules), key=name)
