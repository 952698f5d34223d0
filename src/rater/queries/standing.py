"""Where a client package stands at a moment: its status, what comes next for it, its period then."""

from __future__ import annotations

from typing import NamedTuple

from rater.core.catalog.packages import Package, PackageVersion
from rater.core.clients.periods import period_of
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life
from rater.core.instants import SECOND_MS
from rater.core.kinds import ClientPackageState as State
from rater.core.kinds import ClientPackageStatus as Status
from rater.core.periods import anchor_at, boundary, parse_span

FUNDS = "funds"
"""The reason of a `Waiting` that money ends."""


class Opened(NamedTuple):
    """A period of a client package: [start, stop), None without end; version: what it grants and costs.

    held: as the register has it, None of a client package that periods follow each other in by themselves.
    """

    number: int
    start_ms: int
    stop_ms: int | None
    version: PackageVersion
    held: HeldPeriod | None = None


class Standing(NamedTuple):
    """Where a client package stands. period: the one that holds the moment.

    renewal_ms: when it is due to renew, None: it does not, or waits already.
    """

    status: Status
    state: State
    period: Opened | None
    renewal_ms: int | None = None


def standing(state: ClientState, held: ClientPackage, package: Package | None, now_ms: int) -> Standing:
    """Return where a client package stands. package: as the catalog has it, None where that has none such."""
    if held.life is None:
        return _by_calendar(state, held, package, now_ms)
    return _by_life(state, held, held.life, package, now_ms)


def opened(state: ClientState, held: ClientPackage, package: Package, period: HeldPeriod) -> Opened:
    """Return a period of the register with the stop that counts, and the version of its opening."""
    end = end_ms(state, held, package)
    stop = min((at for at in (period.stop_ms, end) if at is not None), default=None)
    return Opened(period.number, period.start_ms, stop, package.at(period.by_ms), period)


def end_ms(state: ClientState, held: ClientPackage, package: Package) -> int | None:
    """Return the end of a client package: the earlier of its own end date and the package's."""
    ends = (held.end_ms, package.latest.end_ms(package.zones.latest(state.zone)))
    return min((at for at in ends if at is not None), default=None)


def _by_calendar(state: ClientState, held: ClientPackage, package: Package | None, now_ms: int) -> Standing:
    """Return it for one that an earlier build assigned: its periods follow each other by themselves.

    It is active where a period holds the moment and the package is not archived, pending before the first.
    """
    begins = None if package is None else package.latest.start_ms(package.zones.latest(state.zone))
    if package is not None:
        found = period_of(state, held, package, now_ms)
        if found is not None and package.status_at(now_ms) != "archived":
            period = Opened(found.number, found.start_ms, found.stop_ms, found.version)
            return _active(state, held, package, period, is_last=False)
    if now_ms < max(held.start_ms, begins or 0):
        return Standing(Status.PENDING, State.NEW, None)
    return Standing(Status.ARCHIVE, State.ARCHIVE, None)


def _by_life(
    state: ClientState, held: ClientPackage, life: Life, package: Package | None, now_ms: int
) -> Standing:
    if life.ended_ms is not None and life.ended_ms <= now_ms:
        return Standing(Status.ARCHIVE, State.ARCHIVE, None)
    period = None
    if package is not None:
        every = [opened(state, held, package, one) for one in life.periods if not one.voided]
        period = next((one for one in reversed(every) if _holds(one, now_ms)), None)
    if life.waiting is not None:
        reason = State.WAITS_FOR_FUNDS if life.waiting.reason == FUNDS else State.WAITS
        return Standing(Status.PENDING if period is None else Status.ACTIVE, reason, period)
    if package is None or not life.periods:
        return Standing(Status.PENDING, State.NEW, None)
    if period is None:  # what is due is not done yet: it renews, or goes to the archive
        end = end_ms(state, held, package)
        is_over = life.last or (end is not None and end <= now_ms)
        return Standing(Status.ACTIVE, State.ENDS if is_over else State.RENEWS, None)
    return _active(state, held, package, period, is_last=life.last)


def _holds(period: Opened, at_ms: int) -> bool:
    return period.start_ms <= at_ms and (period.stop_ms is None or at_ms < period.stop_ms)


def _active(
    state: ClientState, held: ClientPackage, package: Package, period: Opened, *, is_last: bool
) -> Standing:
    stop, end = period.stop_ms, end_ms(state, held, package)
    if stop is None:
        return Standing(Status.ACTIVE, State.RUNS, period)
    if is_last or period.version.span is None or (end is not None and end <= stop):
        return Standing(Status.ACTIVE, State.ENDS, period)
    return Standing(Status.ACTIVE, State.RENEWS, period, _renewal_ms(state, package, stop))


def _renewal_ms(state: ClientState, package: Package, stop_ms: int) -> int | None:
    """Return when the period after one that stops then is due (RULES.md section 4, Renewal)."""
    spec = package.latest.spec
    if spec.advance_renew is not None:
        zone = package.zones.latest(state.zone)
        return boundary(anchor_at(stop_ms, zone), parse_span(spec.advance_renew), zone, -1)
    before = spec.renewal_charge == "before_period" and not spec.charge_on_event
    return stop_ms - SECOND_MS if before else stop_ms
