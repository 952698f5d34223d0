"""One catalog tried on calls: the seam behind which rating without servers lies (decision 0108)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from rater.core.catalog.specs import ClientPackageSpec
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.core.instants import DAY_MS, SECOND_MS, instant
from rater.core.offline import Ended, Rater
from rater.core.periods import when_ms
from rater.core.sources.source_map import SourceMap
from rater.core.trial.arrival import Arrived

FIRST_DAYS_MS = 2 * DAY_MS
"""Of 1970: a client package that starts in these may start before the earliest load."""


class Tried(NamedTuple):
    """What became of a record: each side, orig first; changes: transactions beside them, fees and refunds.

    arrived None: these changes became due behind the last record.
    """

    arrived: Arrived | None
    ended: Sequence[Ended]
    changes: Sequence[bytes]


class Waiting(NamedTuple):
    """A client package that waits to be activated or renewed in the end: since when, and why."""

    client: str
    client_package: str
    since_ms: int
    reason: str


class Trial:
    """Rates records by one catalog, with what becomes due meanwhile; keeps all of its clients in memory."""

    def __init__(self, rater: Rater, source_map: SourceMap | None = None) -> None:
        """Read records by this map; None: they are CDRs. rater: with nothing loaded yet."""
        self._rater = rater
        self._map = source_map
        self._last_ms: int | None = None

    def load(self, file: CatalogFile, first_ms: int) -> list[Fault]:
        """Load a catalog as it would be there when the first call comes; returns the faults.

        first_ms: the first call's time. What it assigns without a start date begins then, all else on its
        date (`begin_ms`).
        """
        first_ms -= first_ms % SECOND_MS
        begun = copy(file)
        begun.client_packages = [_begun(placed, first_ms) for placed in file.client_packages]
        faults = self._rater.merge(begun, begin_ms(file, first_ms))
        self._rater.take()  # opening balances: what was there before
        return faults

    def rate(self, records: Iterable[Arrived]) -> list[Tried]:
        """Rate records in their order; returns what became of each."""
        records = list(records)
        rated = self._rater.rate_each([arrived.record for arrived in records], self._map)
        self._rater.take()  # events
        for arrived in records:
            if arrived.at_ms is not None and (self._last_ms is None or arrived.at_ms > self._last_ms):
                self._last_ms = arrived.at_ms
        return [Tried(arrived, *found) for arrived, found in zip(records, rated, strict=True)]

    def finish(self) -> Tried:
        """Do what is due up to the last call's time, also of clients without calls."""
        if self._last_ms is not None:
            self._rater.tick(self._last_ms)
        return Tried(None, (), self._rater.take()[0])

    def waiting(self) -> list[Waiting]:
        """Return the client packages that wait to be paid, or for their package."""
        return [
            Waiting(state.id, held.id, held.life.waiting.since_ms, held.life.waiting.reason)
            for state in self._rater.states.values()
            for held in state.packages
            if held.life is not None and held.life.waiting is not None
        ]

    def counters(self) -> dict[tuple[str, str], int]:
        """Return (client, counter field) → what is used of it, of those that are not 0."""
        return {
            (client, name): units
            for client in self._rater.states
            for name, units in self._rater.used(client).items()
            if units
        }

    def price_units(self) -> dict[str, int]:
        """Return how many counting units one price unit of each service is."""
        return {name: service.price_unit for name, service in self._rater.catalog.services.items()}


def begin_ms(file: CatalogFile, first_ms: int) -> int:
    """Return when a catalog is loaded: before the first call, and before anything in it is to begin.

    A day before: dates are 00:00 at the client. So each client package begins when its row says.
    """
    dates = [placed.value.start_date for placed in file.client_packages if placed.good]
    starts = [when_ms(date, _ZONE) - DAY_MS for date in dates if date is not None]
    return max(SECOND_MS, min([first_ms - SECOND_MS, *starts]))


def _begun(placed: Placed[ClientPackageSpec], first_ms: int) -> Placed[ClientPackageSpec]:
    """Return a row of a client package that has a start date: the first call's time where it has none."""
    start = placed.value.start_date
    if start is None:
        return placed._replace(value=replace(placed.value, start_date=_written(first_ms)))
    if placed.good and when_ms(start, _ZONE) <= FIRST_DAYS_MS:
        # No load can be before it: it begins then all the same, and not at the load.
        return placed._replace(value=replace(placed.value, activate_in_past=True))
    return placed


_ZONE = ZoneInfo("UTC")


def _written(at_ms: int) -> str:
    """Return an instant in whole seconds as catalog files spell it."""
    return datetime.strftime(instant(at_ms).astimezone(UTC), "%Y-%m-%dT%H:%M:%SZ")
