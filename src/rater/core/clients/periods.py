"""The periods of a client package that a call may fall into, as its register has them.

Source of the rules: RULES.md 2, step 8, section 3 (Editing) and section 4 (Periods).
"""

from __future__ import annotations

from typing import NamedTuple

from rater.core.catalog.packages import Package, PackageVersion
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, zone_name
from rater.core.instants import BEGINNING_MS, NEVER_MS


class Period(NamedTuple):
    """A period of a client package, and until when it may be drawn from: [start, stop), None without end.

    version: that of its opening, for what it grants and costs. latest: the package of this catalog, for its
    priority, dynamic tag, name, setup fee rule and client-balance rule (RULES.md section 3, Editing).
    """

    held: HeldPeriod
    version: PackageVersion
    start_ms: int
    stop_ms: int | None
    latest: PackageVersion

    @property
    def number(self) -> int:
        """Counts from 1."""
        return self.held.number


def period_of(state: ClientState, held: ClientPackage, package: Package, at_ms: int) -> Period | None:
    """Return the period of a client package that holds an instant; None: it is not active then."""
    return period_around(state, held, package, at_ms)[0]


def period_around(
    state: ClientState, held: ClientPackage, package: Package, at_ms: int
) -> tuple[Period | None, int, int]:
    """Return the period that holds an instant, and the [from, until) around it in which that is so.

    It lies between the dates that the package has in this catalog, and ends at the client package's own end
    date, or when that was closed, or when the package was archived. Whether it is disabled is not looked at.
    """
    life = held.life
    since, until = BEGINNING_MS, NEVER_MS
    for one in reversed(life.periods if life is not None else ()):
        period = bounded(state, held, package, one)
        if period is None:
            continue
        stop = NEVER_MS if period.stop_ms is None else period.stop_ms
        if at_ms >= stop:
            return None, max(since, stop), until
        if at_ms >= period.start_ms:
            return period, period.start_ms, min(stop, until)
        until = min(until, period.start_ms)
    return None, since, until


def dates_from(held: ClientPackage) -> int:
    """Return the instant from which on the dates of its package's versions say what is due of it."""
    life = held.life
    if life is None or not life.periods:
        return max(held.assigned_ms, 0 if life is None else life.dates_ms)
    return max(life.periods[-1].by_ms, life.dates_ms)


def bounded(state: ClientState, held: ClientPackage, package: Package, one: HeldPeriod) -> Period | None:
    """Return a period with the bounds that it has now; None: nothing of it may be drawn from."""
    if one.voided:
        return None
    latest, life = package.latest, held.life
    zone = package.zones.at(zone_name(state, one.by_ms), one.by_ms)
    begin = latest.start_ms(zone)
    start = one.start_ms if begin is None else max(begin, one.start_ms)
    stops = [one.stop_ms, held.end_ms, latest.end_ms(zone), None if life is None else life.ended_ms]
    # The tick that closes it may still be to come.
    ended = package.ended(dates_from(held), zone)
    stops += [package.cancelled_ms(held.assigned_ms), None if ended is None else ended[0]]
    stop = min([at for at in stops if at is not None], default=None)
    if stop is not None and stop <= start:
        return None
    return Period(one, package.at(one.by_ms), start, stop, latest)
