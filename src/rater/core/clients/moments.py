"""What becomes due of a client's packages, and when: state and catalog say it.

Source of the rules: RULES.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Package
from rater.core.clients.state import (
    ClientPackage,
    ClientState,
    HeldPeriod,
    Life,
    Waiting,
    id_order,
    zone_name,
)
from rater.core.instants import BEGINNING_MS, NEVER_MS, SECOND_MS
from rater.core.periods import before, parse_span

TAKE_OVER, ACTIVATE, RENEW, ENABLE, ROLL = "take over", "activate", "renew", "enable", "roll"
EXPIRE, GIVE_UP, CANCEL, WITHDRAW = "expire", "give up", "cancel", "withdraw"
CLOSING = {EXPIRE, GIVE_UP, CANCEL, WITHDRAW}
"""What the home lane alone does: a call that did it could archive what a top-up before it would have kept."""


class Due(NamedTuple):
    """Something that is due of a client package."""

    at_ms: int
    what: str


def zone_of(state: ClientState, catalog: Catalog, at_ms: int) -> ZoneInfo:
    """Return the client's time zone, by its rules at an instant."""
    return catalog.zones.at(state.zone, at_ms)


def end_of(held: ClientPackage, package: Package, zone: ZoneInfo) -> int | None:
    """Return the earlier end date of a client package and its package, None: neither has one."""
    ends = [at for at in (held.end_ms, package.latest.end_ms(zone)) if at is not None]
    return min(ends, default=None)


def due_of(state: ClientState, held: ClientPackage, catalog: Catalog) -> Due | None:
    """Return what is due of a client package next; None: nothing ever."""
    package, life = catalog.packages.get(held.package), held.life
    if package is None:
        return None
    if life is None:
        return Due(BEGINNING_MS, TAKE_OVER)
    if life.ended_ms is not None:
        return None
    # Dates of packages are those of the clock by which the last period was opened.
    by_ms = life.periods[-1].by_ms if life.periods else state.changed_ms
    zone = catalog.zones.at(zone_name(state, by_ms) if life.periods else state.zone, by_ms)
    found = [due for due in _moments(held, life, package, zone) if due.at_ms < NEVER_MS]
    return min(found, key=lambda due: (due.at_ms, due.what not in CLOSING), default=None)


def _moments(held: ClientPackage, life: Life, package: Package, zone: ZoneInfo) -> Iterator[Due]:
    end, last = end_of(held, package, zone), life.periods[-1] if life.periods else None
    if (gone := package.cancelled_ms(held.assigned_ms)) is not None:
        yield Due(gone, CANCEL)
    if life.waiting is not None:
        yield from _while_waiting(life.waiting, package, end)
    elif last is None:
        begin = package.latest.start_ms(zone)
        start = held.start_ms if begin is None else max(held.start_ms, begin)
        yield Due(max(held.assigned_ms, start), ACTIVATE)
        if end is not None and not (held.activate_in_past and start < end):  # else that opens what is past
            yield Due(max(end, held.assigned_ms), EXPIRE)
    else:
        yield _after(last, held, life, package, zone)
    if (rolling := rolls_into(life)) is not None:
        yield Due(life.periods[rolling].start_ms, ROLL)


def _while_waiting(waiting: Waiting, package: Package, end: int | None) -> Iterator[Due]:
    if waiting.until_ms is not None:
        yield Due(waiting.until_ms, GIVE_UP)
    if end is not None:
        yield Due(end, EXPIRE)
    enabled = [since for since, status in package.statuses()[1:] if status == "active"]
    yield from (Due(since, ENABLE) for since in enabled if since > waiting.status_ms)


def _after(last: HeldPeriod, held: ClientPackage, life: Life, package: Package, zone: ZoneInfo) -> Due:
    """Return what follows the last period that was opened."""
    end = end_of(held, package, zone)
    if end is not None and max(package.changed_ms, end - 1) < last.start_ms and len(life.periods) > 1:
        return Due(max(package.changed_ms, held.assigned_ms), WITHDRAW)
    if last.stop_ms is not None and not life.last and (end is None or end > last.stop_ms):
        return Due(renewal_ms(last, package, zone), RENEW)
    return Due(min([at for at in (last.stop_ms, end) if at is not None], default=NEVER_MS), EXPIRE)


def rolls_into(life: Life) -> int | None:
    """Return the place of the first period that unused volume is to be moved into; None: there is none."""
    place = len(life.periods)
    while place > 1 and life.periods[place - 1].rolled is None:
        place -= 1
    return place if place < len(life.periods) else None


def renewal_ms(last: HeldPeriod, package: Package, zone: ZoneInfo) -> int:
    """Return when the period after this one is due: its stop, a second before, or in advance."""
    assert last.stop_ms is not None  # noqa: S101 - the caller's
    spec = package.at(last.by_ms).spec
    moment = last.stop_ms
    if spec.advance_renew is not None:
        moment = before(last.stop_ms, parse_span(spec.advance_renew), zone)
    elif spec.renewal_charge == "before_period" and not spec.charge_on_event:
        moment = last.stop_ms - SECOND_MS
    return max(moment, last.start_ms, last.by_ms)  # not before it was opened itself


def due_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return when something is due of a client next, None: never."""
    found = [due.at_ms for held in state.packages if (due := due_of(state, held, catalog)) is not None]
    return min(found, default=None)


def changed_packages(before: Catalog, after: Catalog) -> list[tuple[str, int]]:
    """Return the packages whose status or dates are others, and since when.

    Something may be due of their clients that the index does not know of.
    """
    return [
        (of, max(package.changed_ms, package.statuses()[-1][0]))
        for of, package in sorted(after.packages.items())
        if (old := before.packages.get(of)) is not None
        and (
            old.statuses() != package.statuses()
            or (old.latest.spec.start_date, old.latest.spec.end_date)
            != (package.latest.spec.start_date, package.latest.spec.end_date)
        )
    ]


def due_before_calls_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return the first moment from which a call has something to be done before it; None: never."""
    found = [
        due.at_ms
        for held in state.packages
        if (due := due_of(state, held, catalog)) is not None and due.what not in CLOSING
    ]
    return min(found, default=None)


def turn(catalog: Catalog, held: ClientPackage, at_ms: int) -> tuple[int, tuple[int, int, str]]:
    """Return what several client packages at one instant are ordered by: priority, then id."""
    package = catalog.packages.get(held.package)
    return (0 if package is None else package.at(at_ms).priority), id_order(held.id)
