"""What is left of the limits of a client package in a period."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from rater.core.amounts import half_up
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import counter_field
from rater.core.catalog.packages import Limit
from rater.core.clients.state import ClientPackage
from rater.queries.standing import Opened


class LimitUse(Struct, frozen=True, kw_only=True):
    """A limit of a client package in a period.

    size: the limit times the quantity and the share of the period, with what was rolled into it and without
    what was moved out. size, used and left of a money limit are micros of `unit`, a currency; of a volume,
    whole counting units, named by `unit`. left is never below 0.
    """

    limit: str
    kind: str
    service: str
    code: str | None
    code_name: str | None
    unit: str
    size: int
    used: int
    left: int


def limits_of(
    held: ClientPackage, period: Opened, counters: Mapping[str, int], catalog: Catalog
) -> list[LimitUse]:
    """Return the limits of a client package in one of its periods. counters: field → used, of the client."""
    return [_limit(held, period, limit, counters, catalog) for limit in period.version.limits]


def size_of(limit: Limit, quantity: int, period: Opened) -> int:
    """Return the size of a limit in a period (RULES.md section 4, Align to payment terms, and Renewal)."""
    whole = limit.size * quantity
    if period.held is None:
        return whole
    if period.held.share is not None:
        of, among = period.held.share
        # Volume down to the counting unit, money half up.
        whole = half_up(whole * of, among) if limit.kind == "money" else whole * of // among
    return whole + period.held.rolled.get(limit.id, 0) - period.held.moved.get(limit.id, 0)


def _limit(
    held: ClientPackage, period: Opened, limit: Limit, counters: Mapping[str, int], catalog: Catalog
) -> LimitUse:
    size = size_of(limit, held.quantity, period)
    used = counters.get(counter_field(held.id, period.number, limit.id), 0)
    is_money = limit.kind == "money"
    return LimitUse(
        limit=limit.id,
        kind=limit.kind,
        service=limit.service,
        code=limit.code,
        code_name=limit.code_name,
        unit=period.version.currency if is_money else catalog.services[limit.service].unit,
        size=size,
        used=used,
        left=max(size - used, 0),
    )
