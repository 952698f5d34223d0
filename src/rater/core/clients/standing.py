"""Where a client package stands at a moment: its status, what comes next for it, its period then."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Package
from rater.core.clients.earlier import take_over
from rater.core.clients.moments import end_of, renewal_ms, zone_of
from rater.core.clients.periods import Period, period_of
from rater.core.clients.state import ClientPackage, ClientState, Life
from rater.core.kinds import ClientPackageState as State
from rater.core.kinds import ClientPackageStatus as Status


class Standing(NamedTuple):
    """Where a client package stands. period: the one that holds the moment.

    renewal_ms: when it is due to renew, None: it does not, or waits already. life: as the register has it, or
    as a worker will take over what a version before left.
    """

    status: Status
    state: State
    life: Life
    period: Period | None = None
    renewal_ms: int | None = None


def standing(state: ClientState, held: ClientPackage, catalog: Catalog | None, now_ms: int) -> Standing:
    """Return where a client package stands. What the catalog does not know has no period."""
    package = None if catalog is None else catalog.packages.get(held.package)
    if catalog is None or package is None:
        status = Status.PENDING if now_ms < held.start_ms else Status.ARCHIVE
        life = held.life or Life()
        return Standing(status, State.NEW if status == Status.PENDING else State.ARCHIVE, life)
    if held.life is None:
        held = replace(held, life=take_over(state, held, package, now_ms, now_ms))
    life, end = held.life or Life(), end_of(held, package, zone_of(state, catalog, now_ms))
    is_over = life.ended_ms is not None and life.ended_ms <= now_ms
    if is_over or package.status_at(now_ms) == "archived":
        return Standing(Status.ARCHIVE, State.ARCHIVE, life)
    period = period_of(state, held, package, now_ms)
    if life.waiting is not None:
        waits = State.WAITS_FOR_FUNDS if life.waiting.reason == "funds" else State.WAITS
        return Standing(Status.PENDING if period is None else Status.ACTIVE, waits, life, period)
    if not life.periods:
        if end is not None and end <= now_ms:
            return Standing(Status.ARCHIVE, State.ARCHIVE, life)
        return Standing(Status.PENDING, State.NEW, life)
    return _next(state, package, Standing(Status.ACTIVE, State.ENDS, life, period), end, catalog)


def _next(
    state: ClientState, package: Package, stands: Standing, end: int | None, catalog: Catalog
) -> Standing:
    """Return what follows the last period that was opened (as `moments.due_of` has it)."""
    last = stands.life.periods[-1]
    if last.stop_ms is None and end is None:
        return stands._replace(state=State.RUNS)
    if last.stop_ms is None or stands.life.last or (end is not None and end <= last.stop_ms):
        return stands
    at_ms = renewal_ms(last, package, zone_of(state, catalog, state.changed_ms))
    return stands._replace(state=State.RENEWS, renewal_ms=at_ms)
