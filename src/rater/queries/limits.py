"""What is left of the limits of a client package in a period."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import ROLLED, counter_field, size_of
from rater.core.catalog.packages import Limit, PackageVersion
from rater.core.clients.state import ClientPackage, HeldPeriod


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
    held: ClientPackage, period: HeldPeriod, version: PackageVersion, counters: Mapping[str, int],
    catalog: Catalog,
) -> list[LimitUse]:  # fmt: skip
    """Return the limits of a client package in one of its periods.

    version: of the package, that of the period. counters: field → used, of the client.
    """
    return [_limit(held, period, version, limit, counters, catalog) for limit in version.limits]


def _limit(
    held: ClientPackage, period: HeldPeriod, version: PackageVersion, limit: Limit,
    counters: Mapping[str, int], catalog: Catalog,
) -> LimitUse:  # fmt: skip
    field = counter_field(held.id, period.number, limit.id)
    size = size_of(limit, held.quantity, period.share, period.moved.get(limit.id, 0))
    size += (period.rolled or {}).get(limit.id, 0)
    used = counters.get(field, 0) + counters.get(field + ROLLED, 0)
    return LimitUse(
        limit=limit.id,
        kind=limit.kind,
        service=limit.service,
        code=limit.code,
        code_name=limit.code_name,
        unit=version.currency if limit.kind == "money" else catalog.services[limit.service].unit,
        size=size,
        used=used,
        left=max(size - used, 0),
    )
