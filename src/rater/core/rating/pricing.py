"""What a side costs before packages: billed volume, and the cost as a form of the overage.

Source of the rules: RULES.md 2, steps 3, 6 and 7, and 2.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from msgspec import Struct

from rater.core.amounts import E10, LIMIT, MICRO, Form, form, format_e10
from rater.core.catalog.codes import Rate
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import CALLS, Cdr
from rater.core.instants import SECOND_MS
from rater.core.rating.currencies import currency_unknown, fx_objects
from rater.core.rating.identifying import Identified
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


class Plan(Struct, gc=False):
    """What calls of one rate have in common, for one side, a price unit and clients of the rate's currency.

    cost and sign as in `Priced`, for up to billed_max units; sign None: it differs from call to call.
    """

    unit: int
    cost: Form
    sign: int | None
    billed_max: int


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


def price(cdr: Cdr, side: Side, identified: Identified, catalog: Catalog) -> Priced | Rejection:
    """Return the cost before packages, or why there is none: currency_unknown, amount_out_of_range.

    Nothing is drawn and nothing charged here. Exact: one rounding, in `Form.at`.
    """
    rate = identified.rate
    if rate is None:
        return _UNANSWERED
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
    if rate.currency == identified.view.currency:
        plan: Plan | None = rate.orig if side == "orig" else rate.term
        if plan is None or plan.unit != identified.route.service.price_unit:
            plan = plan_of(rate, side, identified.route.service.price_unit)
        if billed <= plan.billed_max and plan.sign is not None:
            return Priced(None, billed, plan.cost, plan.sign)
    return _price(cdr.at_ms, side, identified, billed, catalog)


def _price(
    at_ms: int, side: Side, identified: Identified, billed: int, catalog: Catalog
) -> Priced | Rejection:
    """Return `price` where it depends on more of the call than what is billed: in other currencies, say."""
    rate, currency = identified.rate, identified.view.currency
    assert rate is not None  # noqa: S101 - the caller's
    a, s, d = _cost(rate.price_e10, rate.setup_fee_e10, side, identified.route.service.price_unit)
    fx: tuple[str, ...] = ()
    if rate.currency != currency:
        pair = catalog.convert(rate.currency, currency, at_ms)
        if pair is None:
            return currency_unknown(catalog, (rate.currency, currency), at_ms, side)
        a, s, d = a * pair[0], s * pair[0], d * pair[1]
        fx = fx_objects(catalog, (rate.currency, currency), at_ms)
    exact = a * billed + s
    if billed > LIMIT or (2 * abs(exact) + d) // (2 * d) > LIMIT:
        return _out_of_range(rate.currency, format_e10(rate.price_e10), billed, side)
    sign = (exact > 0) - (exact < 0)
    return Priced(None, billed, form(a, s, d), sign, fx)


def _cost(price_e10: int, setup_fee_e10: int, side: Side, unit: int) -> tuple[int, int, int]:
    """Return the signed cost in micros of the rate's currency, as a form that is not reduced."""
    a, s, d = price_e10, setup_fee_e10 * unit, unit * _E10_IN_MICRO
    return (-a, -s, d) if side == "orig" else (a, s, d)


def plan_of(rate: Rate, side: Side, unit: int) -> Plan:
    """Work out what calls of a rate have in common, and keep it with the rate."""
    plan = _plan(rate.price_e10, rate.setup_fee_e10, side, unit)
    if side == "orig":
        rate.orig = plan
    else:
        rate.term = plan
    return plan


@lru_cache(maxsize=16_384)
def _plan(price_e10: int, setup_fee_e10: int, side: Side, unit: int) -> Plan:
    """Return it: a deck has many codes at one price."""
    cost = form(*_cost(price_e10, setup_fee_e10, side, unit))
    sign = None
    if cost.a * cost.s >= 0:  # of one sign, so the cost has it for whatever is billed, which is 1 at least
        sign = (cost.a + cost.s > 0) - (cost.a + cost.s < 0)
    room = (LIMIT - 1) * cost.d - abs(cost.s)  # rounding may add one
    return Plan(unit, cost, sign, min(LIMIT, room // max(abs(cost.a), 1)) if room > 0 else 0)


def _out_of_range(currency: str, text: str, billed: int, side: Side) -> Rejection:
    detail = (
        f"{billed} units at {text} {currency} cost more than 2^53 micros (9007199254.740992); "
        "correct the rate or the duration"
    )
    return Rejection(Reason.AMOUNT_OUT_OF_RANGE, detail, shown(f"{text} {currency}"), side)
