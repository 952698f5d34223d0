"""What becomes due of a client's packages, and when: state and catalog say it.

Source of the rules: RULES.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Limit, Package, PackageVersion
from rater.core.clients.did_rows import hold_end, rows_of
from rater.core.clients.periods import Period, dates_from
from rater.core.clients.state import (
    ClientPackage,
    ClientState,
    HeldPeriod,
    Life,
    Waiting,
    id_order,
    zone_name,
)
from rater.core.instants import BEGINNING_MS, NEVER_MS, SECOND_MS, earlier
from rater.core.periods import before, parse_span

TAKE_OVER, ACTIVATE, RENEW, ENABLE, ROLL = "take over", "activate", "renew", "enable", "roll"
HOLD = "hold"
NOTICE = "notice"
"""The home lane alone does it, too; but nothing waits for it."""
EXPIRE, GIVE_UP, CANCEL, WITHDRAW, FREE = "expire", "give up", "cancel", "withdraw", "free"
CLOSING = {EXPIRE, GIVE_UP, CANCEL, WITHDRAW, FREE}
"""What the home lane alone does: a call that did it could archive what a top-up before it would have kept."""


class Due(NamedTuple):
    """Something that is due of a client package. loaded: by what the load of that very instant says."""

    at_ms: int
    what: str
    loaded: bool = False


def zone_of(state: ClientState, catalog: Catalog, at_ms: int) -> ZoneInfo:
    """Return the client's time zone, by its rules at an instant."""
    return catalog.zones.at(state.zone, at_ms)


def end_of(held: ClientPackage, package: Package, zone: ZoneInfo) -> int | None:
    """Return when an end date ends a client package: its own, or one of its package; None: none does."""
    ending = _ending(held, package, zone)
    return None if ending is None else ending.at_ms


def _ending(held: ClientPackage, package: Package, zone: ZoneInfo) -> Due | None:
    ends = [] if held.end_ms is None else [(held.end_ms, False)]
    if (ended := package.ended(dates_from(held), zone)) is not None:
        ends.append(ended)
    return Due(min(ends)[0], EXPIRE, min(ends)[1]) if ends else None


def end_by(held: ClientPackage, version: PackageVersion, zone: ZoneInfo) -> int | None:
    """Return the earlier end date of a client package and a version of its package, None: neither has one."""
    return earlier(held.end_ms, version.end_ms(zone))


def clock_of(state: ClientState, held: ClientPackage, catalog: Catalog) -> ZoneInfo:
    """Return the time zone by which dates of a client package are read: of its last period's opening."""
    periods = held.life.periods if held.life is not None else ()
    by_ms = periods[-1].by_ms if periods else state.changed_ms
    return catalog.zones.at(zone_name(state, by_ms) if periods else state.zone, by_ms)


def due_of(state: ClientState, held: ClientPackage, catalog: Catalog, *, holds: bool = True) -> Due | None:
    """Return what is due of a client package next; None: nothing ever.

    holds: also that DIDs go on hold, which takes nothing from what waits.
    """
    package, life = catalog.packages.get(held.package), held.life
    if package is None:
        return None
    if life is None:
        return Due(BEGINNING_MS, TAKE_OVER)
    zone = clock_of(state, held, catalog)
    found = _moments(held, life, package, zone) if life.ended_ms is None else []
    if life.dids:
        found += _of_dids(held, life, package, zone, catalog)
    found = [due for due in found if due.at_ms < NEVER_MS and (holds or due.what != HOLD)]
    return min(found, key=_order, default=None) if len(found) != 1 else found[0]


def _order(due: Due) -> tuple[int, int]:
    """Return what sorts what is due of one client package.

    At one instant what closes goes first, but before what a load ends all that was due until then is done;
    and what opens a period at the stop of the one before goes before DIDs are put on hold.
    """
    if due.what == HOLD:
        return due.at_ms, 2
    if due.what in CLOSING:
        return due.at_ms, 3 if due.what == CANCEL or due.loaded else 0
    return due.at_ms, 1


def notice_of(state: ClientState, held: ClientPackage, catalog: Catalog) -> Due | None:
    """Return when unused volume of a client package is told of next; None: of none ever.

    At one instant what is due goes before it.
    """
    if not catalog.notices.expiring_ms or (package := catalog.packages.get(held.package)) is None:
        return None
    found = next_notice(state, held, package, catalog)
    return None if found is None or found[0] >= NEVER_MS else Due(found[0], NOTICE)


def next_notice(
    state: ClientState, held: ClientPackage, package: Package, catalog: Catalog
) -> tuple[int, Period] | None:
    """Return when unused volume is told of next, and of which period; None: of none.

    Not before the period begins or was opened, nor before a load that lets it end so early. Dates of the
    package are those that were loaded by then.
    """
    notice_ms, life = catalog.notices.expiring_ms, held.life
    if not notice_ms or life is None or life.ended_ms is not None:
        return None
    for one in life.periods:
        if one.told or one.voided or not volumes_of(package.at(one.by_ms)):
            continue
        zone = catalog.zones.at(zone_name(state, one.by_ms), one.by_ms)
        for since, until, version in package.since(one.by_ms):
            start, stop = version.start_ms(zone), earlier(one.stop_ms, end_by(held, version, zone))
            if stop is None:
                continue
            start = one.start_ms if start is None else max(start, one.start_ms)
            at_ms = max(stop - notice_ms, start, opened_ms(one), since)
            if at_ms < stop and at_ms <= until:
                return at_ms, Period(one, package.at(one.by_ms), start, stop, package.latest)
    return None


def volumes_of(version: PackageVersion) -> list[Limit]:
    """Return the volume limits of a package."""
    return [limit for limit in version.limits if limit.kind == "volume"]


def _moments(held: ClientPackage, life: Life, package: Package, zone: ZoneInfo) -> list[Due]:
    ending, found = _ending(held, package, zone), list[Due]()
    if (gone := package.cancelled_ms(held.assigned_ms)) is not None:
        found.append(Due(gone, CANCEL))
    if life.waiting is not None:
        found += _while_waiting(life.waiting, package, ending)
    elif not life.periods:
        first = _activation(held, package, zone)
        found.append(first)
        start = earliest_start(held, package.at(first.at_ms - (not first.loaded)), zone)
        # What begins in the past and ended there is opened all the same, and closed then.
        if ending is not None and not (held.activate_in_past and start < ending.at_ms):
            found.append(ending._replace(at_ms=max(ending.at_ms, held.assigned_ms)))
    else:
        found += _after(life.periods[-1], ending, held, life, package, zone)
    if (rolling := rolls_into(life)) is not None:
        found.append(Due(life.periods[rolling].start_ms, ROLL))
    return found


def _while_waiting(waiting: Waiting, package: Package, ending: Due | None) -> Iterator[Due]:
    if waiting.until_ms is not None:
        yield Due(waiting.until_ms, GIVE_UP)
    if ending is not None:
        yield ending
    enabled = [since for since, status in package.statuses[1:] if status == "active"]
    yield from (Due(since, ENABLE) for since in enabled if since > waiting.status_ms)


def _of_dids(
    held: ClientPackage, life: Life, package: Package, zone: ZoneInfo, catalog: Catalog
) -> Iterator[Due]:
    """Yield when DIDs go on hold, for a renewal waits, and when the hold of the first one runs out."""
    stop_ms = life.ended_ms
    if stop_ms is None:
        if life.waiting is None or not life.periods or life.periods[-1].stop_ms is None:
            return
        stop_ms = life.periods[-1].stop_ms
    if any(did.hold_until_ms is None for did in life.dids):
        yield Due(stop_ms, HOLD)
    ends = [did.hold_until_ms for did in life.dids]
    if None in ends:
        version = package.at(life.periods[-1].by_ms)
        rows = rows_of([did.number for did in life.dids], version.spec.did_limits, held.quantity, catalog)
        ends = [
            hold_end(row, stop_ms, zone) if end is None else end for end, row in zip(ends, rows, strict=True)
        ]
    if known := [end for end in ends if end is not None]:
        yield Due(min(known), FREE)


def _after(
    last: HeldPeriod, ending: Due | None, held: ClientPackage, life: Life, package: Package, zone: ZoneInfo
) -> Iterator[Due]:
    """Yield what may follow the last period that was opened; ending: by an end date."""
    if len(life.periods) > 1:
        for since, _, version in package.since(dates_from(held))[1:]:
            cut = version.end_ms(zone)
            if since < last.start_ms and cut is not None and cut <= last.start_ms:
                yield Due(since, WITHDRAW, loaded=True)
                break
    if ending is not None:
        yield ending
    if (renewal := _renewal(last, held, life, package, zone)) is not None:
        yield renewal
    elif last.stop_ms is not None:
        yield Due(last.stop_ms, EXPIRE)


def _activation(held: ClientPackage, package: Package, zone: ZoneInfo) -> Due:
    """Return when the first period is due: when its start has come, as the package says it by then."""
    for since, until, version in package.since(held.assigned_ms):
        start = max(held.assigned_ms, earliest_start(held, version, zone))
        if start <= until:
            return Due(max(start, since), ACTIVATE, start <= since)
    return Due(NEVER_MS, ACTIVATE)


def earliest_start(held: ClientPackage, version: PackageVersion, zone: ZoneInfo) -> int:
    """Return when the first period starts at the earliest, by the package's start date too."""
    begin = version.start_ms(zone)
    return held.start_ms if begin is None else max(held.start_ms, begin)


def _renewal(
    last: HeldPeriod, held: ClientPackage, life: Life, package: Package, zone: ZoneInfo
) -> Due | None:
    """Return when the next period is due: when no end date forbids it by then; None: never."""
    if last.stop_ms is None or life.last:
        return None
    due_ms = max(renewal_ms(last, package, zone), life.dates_ms)
    for since, _, version in package.since(max(due_ms - 1, dates_from(held))):
        end = end_by(held, version, zone)
        if end is None or end > last.stop_ms:
            return Due(max(due_ms, since), RENEW, due_ms <= max(since, life.dates_ms))
    return None


def rolls_into(life: Life) -> int | None:
    """Return the place of the first period that unused volume is to be moved into; None: there is none."""
    place = len(life.periods)
    while place > 1 and life.periods[place - 1].rolled is None:
        place -= 1
    return place if place < len(life.periods) else None


def opened_ms(period: HeldPeriod) -> int:
    """Return the second in which a period was opened: by what was in force then, or a moment before."""
    return -(-period.by_ms // SECOND_MS) * SECOND_MS


def renewal_ms(last: HeldPeriod, package: Package, zone: ZoneInfo) -> int:
    """Return when the period after this one is due: its stop, a second before, or in advance."""
    assert last.stop_ms is not None  # noqa: S101 - the caller's
    spec = package.at(last.by_ms).spec
    moment = last.stop_ms
    if spec.advance_renew is not None:
        moment = before(last.stop_ms, parse_span(spec.advance_renew), zone)
    elif spec.renewal_charge == "before_period" and not spec.charge_on_event:
        moment = last.stop_ms - SECOND_MS
    return max(moment, last.start_ms, opened_ms(last))


def due_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return when something is due of a client next, None: never."""
    return due_moments(state, catalog)[0]


def due_before_calls_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return the first moment from which a call has something to be done before it; None: never."""
    return due_moments(state, catalog)[1]


def due_moments(state: ClientState, catalog: Catalog) -> tuple[int | None, int | None]:
    """Return when something is due of a client next, and the first of it that calls do before them."""
    return first_of(
        [(due_of(state, held, catalog), notice_of(state, held, catalog)) for held in state.packages]
    )


def first_of(found: Iterable[tuple[Due | None, Due | None]]) -> tuple[int | None, int | None]:
    """Return the first moment of what is due of client packages or to be told, and of what calls do."""
    first = calls = None
    for due, notice in found:
        if due is not None:
            first = earlier(first, due.at_ms)
            if due.what not in CLOSING:
                calls = earlier(calls, due.at_ms)
        if notice is not None:
            first = earlier(first, notice.at_ms)
    return first, calls


def changed_packages(before: Catalog, after: Catalog) -> list[tuple[str, int]]:
    """Return the packages whose status or dates are others, and since when.

    Something may be due of their clients that the index does not know of.
    """
    return [
        (of, max(package.changed_ms, package.statuses[-1][0]))
        for of, package in sorted(after.packages.items())
        if (old := before.packages.get(of)) is not None
        and (
            old.statuses != package.statuses
            or (old.latest.spec.start_date, old.latest.spec.end_date)
            != (package.latest.spec.start_date, package.latest.spec.end_date)
        )
    ]


def turn(catalog: Catalog, held: ClientPackage, at_ms: int) -> tuple[int, tuple[int, int, str]]:
    """Return what several client packages at one instant are ordered by: priority, then id."""
    package = catalog.packages.get(held.package)
    return (0 if package is None else package.at(at_ms).priority), id_order(held.id)
