"""Volume of a period that is about to expire unused: when it is told, and how much it is.

Source of the rules: RULES.md section 4 (Thresholds).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from rater.core.catalog.offers import ROLLED, counter_field, size_of
from rater.core.catalog.packages import Package
from rater.core.clients.moments import end_by, next_notice, volumes_of
from rater.core.clients.periods import Period
from rater.core.clients.planning import Plan
from rater.core.clients.state import ClientPackage, zone_name
from rater.core.instants import rfc3339
from rater.core.kinds import EventType


def tell_expiring(plan: Plan, place: int, at_ms: int) -> None:
    """Tell of the volume that the period will lose at its stop, if it is any; never again of this period."""
    held = plan.packages[place]
    package, life = plan.catalog.packages[held.package], held.life
    found = next_notice(plan.state, held, package, plan.catalog)
    assert life is not None and found is not None  # noqa: S101, PT018 - that is due
    _, period = found
    limits = list(_expiring(plan, held, package, period, at_ms))
    number = period.number
    periods = tuple([replace(one, told=True) if one.number == number else one for one in life.periods])
    # Its version stays: nothing has changed for who edits it.
    held = plan.packages[place] = replace(held, life=replace(life, periods=periods))
    if limits:
        assert period.stop_ms is not None  # noqa: S101 - it is next_notice's
        data = {"stop": rfc3339(period.stop_ms), "limits": limits}
        plan.tell(EventType.LIMIT_EXPIRING, held, at_ms, period=number, data=data)


def _expiring(
    plan: Plan, held: ClientPackage, package: Package, period: Period, at_ms: int
) -> Iterator[dict[str, str]]:
    """Yield the limits of which volume expires, with what is left of each and what of that will be lost."""
    one = period.held
    into = _rolling(plan, held, package, period, at_ms)
    for limit in volumes_of(period.version):
        field = counter_field(held.id, one.number, limit.id)
        own = size_of(limit, held.quantity, one.share, one.moved.get(limit.id, 0)) - plan.counter(field)
        rolled = (one.rolled or {}).get(limit.id, 0)
        if rolled:
            rolled -= plan.counter(field + ROLLED)
        rolls = min(own, limit.rollover * held.quantity) if limit.id in into else 0
        if own - rolls + rolled > 0:
            yield {"limit": limit.id, "left": str(own + rolled), "expires": str(own - rolls + rolled)}


def _rolling(plan: Plan, held: ClientPackage, package: Package, period: Period, at_ms: int) -> set[str]:
    """Return the volume limits of the period that follows, if one does and nothing has moved into it yet."""
    life, one = held.life, period.held
    assert life is not None  # noqa: S101 - it has had a period
    following = next((of for of in life.periods if of.number > one.number), None)
    if following is not None and following.rolled is not None:
        return set()
    by_ms = at_ms if following is None else following.by_ms
    zone = plan.catalog.zones.at(zone_name(plan.state, one.by_ms), one.by_ms)
    end = end_by(held, package.at(at_ms), zone)
    if following is None and (
        life.last or (end is not None and one.stop_ms is not None and end <= one.stop_ms)
    ):
        return set()
    return {limit.id for limit in volumes_of(package.at(by_ms))}
