"""What a side costs before packages: billed volume, and the cost as a form of the overage.

Source of the rules: RULES.md 2, steps 3, 6 and 7, and 2.2.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from rater.core.amounts import E10, LIMIT, MICRO, Form, form, format_e10
from rater.core.catalog.codes import Rate
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.currencies import currency_unknown, fx_objects
from rater.core.cdr import CALLS, Cdr
from rater.core.instants import SECOND_MS
from rater.core.reasons import Reason, Rejection, Side, shown

Why = Literal["unanswered", "grace"]
_E10_IN_MICRO = E10 // MICRO

NOTHING = Form(0, 0, 1)
"""The cost of a zero transaction."""


class Priced(Struct, gc=False):
    """A side with its price, before any limit is asked.

    why: why it is a zero transaction; None: it is rated. billed in counting units. cost: signed micros of the
    client's currency at so much overage (counting units), setup fee included. sign: that of the exact cost
    before packages. fx: JSON objects of the currency rates used.
    """

    why: Why | None
    billed: int
    cost: Form
    sign: int
    fx: tuple[str, ...] = ()


def billed_calls(duration_ms: int, min_time: int, interval: int) -> int:
    """Return the billed seconds: the minimal time, then whole intervals, rounded up (RULES.md 2, step 6)."""
    over_ms = duration_ms - min_time * SECOND_MS
    if over_ms <= 0:
        return min_time
    return min_time - (-over_ms // (interval * SECOND_MS)) * interval


def billed_units(volume: int, min_time: int, interval: int) -> int:
    """Return the billed counting units of a service that is not counted in time."""
    over = volume - min_time
    return min_time if over <= 0 else min_time - (-over // interval) * interval


_UNANSWERED = Priced("unanswered", 0, NOTHING, 0)
_GRACE = Priced("grace", 0, NOTHING, 0)


def price(cdr: Cdr, side: Side, rate: Rate | None, currency: str, catalog: Catalog) -> Priced | Rejection:
    """Return the cost before packages, or why there is none: currency_unknown, amount_out_of_range.

    currency: the client's. Nothing is drawn and nothing charged here. Exact: one rounding, in `Form.at`.
    """
    if rate is None:  # nothing was used; 0 is within any grace time
        return _UNANSWERED if cdr.answered_ms is None else _GRACE
    if cdr.service == CALLS:
        raw_ms = cdr.duration_ms or 0
        in_grace = raw_ms <= rate.grace_time * SECOND_MS
        billed = billed_calls(raw_ms, rate.min_time, rate.interval)
    else:
        raw = cdr.volume or 0
        in_grace = raw <= rate.grace_time
        billed = billed_units(raw, rate.min_time, rate.interval)
    if in_grace:
        return _GRACE
    unit = catalog.services[cdr.service].price_unit
    a, s, d = rate.price_e10, rate.setup_fee_e10 * unit, unit * _E10_IN_MICRO
    if side == "orig":
        a, s = -a, -s
    fx: tuple[str, ...] = ()
    if rate.currency != currency:
        pair = catalog.convert(rate.currency, currency, cdr.at_ms)
        if pair is None:
            return currency_unknown(catalog, (rate.currency, currency), cdr.at_ms, side)
        a, s, d = a * pair[0], s * pair[0], d * pair[1]
        fx = fx_objects(catalog, (rate.currency, currency), cdr.at_ms)
    exact = a * billed + s
    if billed > LIMIT or (2 * abs(exact) + d) // (2 * d) > LIMIT:
        return _out_of_range(rate.currency, format_e10(rate.price_e10), billed, side)
    return Priced(None, billed, form(a, s, d), (exact > 0) - (exact < 0), fx)


def _out_of_range(currency: str, text: str, billed: int, side: Side) -> Rejection:
    detail = (
        f"{billed} units at {text} {currency} cost more than 2^53 micros (9007199254.740992); "
        "correct the rate or the duration"
    )
    return Rejection(Reason.AMOUNT_OUT_OF_RANGE, detail, shown(f"{text} {currency}"), side)
