"""Why a limit of a client was passed over.

Reasons: CONTRACTS.md, Passed over. Source of the rules: RULES.md 2 step 8, 2.1 and 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rater.core.bucket.messages import DrawItem, DrawResult
from rater.core.bucket.model import Funds
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Limit
from rater.core.catalog.specs import PackageType
from rater.core.clients.state import ClientPackage
from rater.core.clients.views import ClientView
from rater.core.rating.identifying import Identified
from rater.core.rating.matching import Candidate
from rater.core.reasons import PassOver


class Passed(NamedTuple):
    """A limit that was passed over, and why."""

    client_package: str
    package_name: str
    limit_id: str
    reason: PassOver


def passed_over(
    identified: Identified, wanted: PackageType, at_ms: int, billed: int, catalog: Catalog
) -> Iterator[Passed]:
    """Give each limit of the client that is no candidate, with the first reason of the list that holds."""
    view = identified.view
    for held in view.packages:
        package = catalog.packages.get(held.package)
        if package is None:
            continue
        period = view.period(held, package, at_ms)
        version = package.at(at_ms) if period is None else period.version
        active = period is not None and package.status_at(at_ms) == "active"
        fits = version.type == wanted
        for limit in version.limits:
            reason = _why(identified, held, limit, billed, fits=fits) if active else PassOver.NOT_ACTIVE
            if reason is not None:
                yield Passed(held.id, package.latest.name, limit.id, reason)


def _why(
    identified: Identified, held: ClientPackage, limit: Limit, billed: int, *, fits: bool
) -> PassOver | None:
    route, rate = identified.route, identified.rate
    if held.account not in (None, route.account):
        return PassOver.OTHER_ACCOUNT
    why = limit.why_not(route.service.name, "" if rate is None else rate.code)
    if why is PassOver.OTHER_SERVICE:
        return why
    if not fits:
        return PassOver.WRONG_TYPE
    if why is not None:
        return why
    return PassOver.SHORT_CALL if billed < limit.min_call else None


def not_drawn(
    view: ClientView,
    candidates: tuple[Candidate, ...],
    item: DrawItem,
    used: list[int],
    funds: Funds,
    result: DrawResult,
) -> tuple[Passed, ...]:
    """Return why each candidate that gave nothing was passed over, given the counters before the draw.

    Arguments as in `drawing.draw_item`, with its result.
    """
    gave = {index for index, *_ in result.takes}
    out = []
    for index, (candidate, asked) in enumerate(zip(candidates, item.candidates, strict=True)):
        if index in gave:
            continue
        if asked.size <= used[asked.field]:
            reason = PassOver.USED_UP
        elif asked.allow and funds.before + funds.credit_limit < 0:
            reason = PassOver.BALANCE_BELOW_ZERO
        else:
            reason = PassOver.LOWER_IN_ORDER
        held = view.packages[candidate.group]
        out.append(Passed(held.id, candidate.package_name, candidate.limit_id, reason))
    return tuple(out)
