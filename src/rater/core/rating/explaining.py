"""Why a limit of a client was passed over.

Reasons: CONTRACTS.md, Passed over. Source of the rules: RULES.md 2 step 8, 2.1 and 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rater.core.bucket.drawing import Funds
from rater.core.bucket.messages import DrawItem, DrawResult
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import LimitType, PackageType
from rater.core.clients.periods import period_of
from rater.core.clients.views import ClientView
from rater.core.reasons import PassOver


class Passed(NamedTuple):
    """A limit that was no candidate, and why; period: of its client package at the call's time, if any."""

    client_package: str
    package: str
    package_name: str
    limit_id: str
    kind: LimitType
    period: int | None
    reason: PassOver


def passed_over(
    view: ClientView, account: str | None, service: str, kind: PackageType, code: str, billed: int,
    at_ms: int, catalog: Catalog,
) -> Iterator[Passed]:  # fmt: skip
    """Give each limit of the client that is no candidate, with the first reason of the list that holds.

    kind: of the packages that can apply; code: that of the rate that was found.
    """
    for held in view.packages:
        package = catalog.packages.get(held.package)
        if package is None:
            continue
        period = period_of(view.state, held, package, at_ms)
        version = package.at(at_ms) if period is None else period.version
        active = period is not None and package.status_at(at_ms) == "active"
        for limit in version.limits:
            reason: PassOver | None = PassOver.NOT_ACTIVE
            if active:
                other = held.account not in (None, account)
                why = limit.why_not(service, code)
                reason = PassOver.OTHER_ACCOUNT if other else why
                if not other and why is not PassOver.OTHER_SERVICE and version.type != kind:
                    reason = PassOver.WRONG_TYPE
                elif reason is None and billed < limit.min_call:
                    reason = PassOver.SHORT_CALL
            if reason is not None:
                number = None if period is None else period.number
                name = package.latest.name
                yield Passed(held.id, held.package, name, limit.id, limit.kind, number, reason)


def not_drawn(item: DrawItem, used: list[int], funds: Funds, result: DrawResult) -> dict[int, PassOver]:
    """Return why each candidate (its place) that gave nothing was passed over, by the counters before.

    Arguments as in `drawing.draw_item`, with its result.
    """
    gave = {index for index, *_ in result.takes}
    out: dict[int, PassOver] = {}
    for index, asked in enumerate(item.candidates):
        if index in gave:
            continue
        if asked.size <= used[asked.field]:
            reason = PassOver.USED_UP
        elif not _fee_covered(asked.group, item, used, funds):
            reason = PassOver.FEE_NOT_COVERED
        elif asked.allow and funds.before + funds.credit_limit < 0:
            reason = PassOver.BALANCE_BELOW_ZERO
        else:
            reason = PassOver.LOWER_IN_ORDER
        out[index] = reason
    return out


def _fee_covered(group: int, item: DrawItem, used: list[int], funds: Funds) -> bool:
    """Return whether the fee that the first draw from a client package brings is covered, or none is due."""
    return all(
        used[fee.field]
        or not fee.deny
        or fee.amount >= 0
        or funds.balance + funds.credit_limit + fee.amount >= 0
        for fee in item.fees
        if fee.group == group
    )
