"""Conversions between currencies: how a transaction shows them, and what is missing for one.

Source of the rules: RULES.md 2.2.
"""

from __future__ import annotations

from rater.core.amounts import format_e10
from rater.core.catalog.compiled import Catalog
from rater.core.json_text import quoted
from rater.core.reasons import Reason, Rejection, Side, shown


def fx_objects(catalog: Catalog, currencies: tuple[str, str], at_ms: int) -> tuple[str, ...]:
    """Return the transaction's `fx` objects for a conversion: of each currency its rate to the base.

    Other pairs go through the base, and a quotient of two rates has no exact decimal: so both are shown.
    """
    out = []
    for name in currencies:
        rate = catalog.fx(name, at_ms)
        if name != catalog.base and rate is not None:
            out.append(
                f'{{"from":{quoted(name)},"to":{quoted(catalog.base or "")},"rate":"{format_e10(rate)}"}}'
            )
    return tuple(out)


def currency_unknown(catalog: Catalog, currencies: tuple[str, str], at_ms: int, side: Side) -> Rejection:
    """Return the rejection of a side that needs a conversion for which a rate is missing at its time."""
    unknown = next((name for name in currencies if catalog.fx(name, at_ms) is None), currencies[0])
    detail = (
        f"currency {shown(unknown)!r} has no rate in force at the call's time; "
        "load one that is dated before it, or correct the record's rate"
    )
    return Rejection(Reason.CURRENCY_UNKNOWN, detail, shown(unknown), side)
