"""What lists show of a client's packages, as golden cases write it."""

from __future__ import annotations

from typing import Any

from rater.core.amounts import format_micros
from rater.core.catalog.compiled import Catalog
from rater.core.instants import rfc3339
from rater.queries.client_packages import ClientPackageUse, uses
from rater.queries.clients import Held
from rater.queries.limits import LimitUse


def listed(held: Held, catalog: Catalog | None, now_ms: int) -> dict[str, Any]:
    """Return id → fields of each client package of a client.

    left: by limit, in counting units or money. waiting: what a pending charge comes to. Instants are RFC
    3339, but end_date, which is as it was asked for.
    """
    dates = {of.id: of.end_date for of in held.state.packages}
    return {use.id: {**_fields(use), "end_date": dates[use.id]} for use in uses(held, catalog, now_ms)}


def _fields(use: ClientPackageUse) -> dict[str, Any]:
    return {
        "status": use.status.value,
        "state": use.state.value,
        "period": use.period,
        "period_start": _instant(use.period_start_ms),
        "period_stop": _instant(use.period_stop_ms),
        "renewal": _instant(use.renewal_ms),
        "waiting": None if use.pending is None else format_micros(use.pending.total),
        "activations": use.activations,
        "charged": use.charged,
        "left": {limit.limit: _left(limit) for limit in use.limits},
    }


def _left(limit: LimitUse) -> str:
    return format_micros(limit.left) if limit.kind == "money" else str(limit.left)


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
