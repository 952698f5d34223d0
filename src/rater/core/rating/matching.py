"""Which limits a call may draw from, in their order; nothing is drawn here.

Source of the rules: RULES.md 2 step 8, 2.1 and 3.1.
"""

from __future__ import annotations

import msgspec

from rater.core.amounts import Form
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.currencies import currency_unknown, fx_objects
from rater.core.catalog.offers import Candidate, pack_text
from rater.core.catalog.specs import PackageType
from rater.core.clients.views import ClientView, Opened
from rater.core.reasons import Rejection, Side

FIRST_MAX = 4
"""Candidates that a draw is asked with at first: those that a call of a client with many packages needs."""


def package_type(cost_sign: int, side: Side) -> PackageType:
    """Return which packages can apply: by the sign of the cost, else by side (RULES.md 2, step 8)."""
    return "customer" if (cost_sign < 0 if cost_sign else side == "orig") else "vendor"


def match(
    opened: Opened, view: ClientView, side: Side, code: str, billed: int, at_ms: int, catalog: Catalog,
    *, whole: bool,
) -> tuple[tuple[Candidate, ...], bool] | Rejection:  # fmt: skip
    """Return the limits that a call may draw from, in the order of RULES.md 2.1, and whether there are more.

    code: that of the rate that was found. whole: all of them, for who does not ask again; else maybe the
    first few (`FIRST_MAX`), which change nothing unless they leave volume or money over. Rejection: a money
    limit's currency has no rate at the call's time.
    """
    offers = opened.offers
    places = offers.limits.select(code)
    foreign = places & opened.foreign
    if not (whole or foreign or places & offers.short):
        rest = places
        for _ in range(FIRST_MAX):
            rest &= rest - 1
        first = places - rest
        # `allow` of any that fits makes the transaction tell of the balance: then one of these has it.
        if rest and (first & offers.allowing or not rest & offers.allowing):
            return offers.chosen(first), True
    candidates = offers.chosen(places)
    if places & offers.short:
        candidates = tuple([one for one in candidates if billed >= one.min_call])
    if foreign:
        every = []
        for one in candidates:
            found = _converted(one, view.currency, at_ms, catalog, side)
            if isinstance(found, Rejection):
                return found
            every.append(found)
        candidates = tuple(every)
    return candidates, False


def _converted(
    one: Candidate, currency: str, at_ms: int, catalog: Catalog, side: Side
) -> Candidate | Rejection:
    """Return a limit; a money limit of another currency than the client's with how it is converted."""
    if not one.money or one.currency == currency:
        return one
    pair = (currency, one.currency)
    found = catalog.convert(*pair, at_ms)
    if found is None:
        return currency_unknown(catalog, pair, at_ms, side)
    n, d = found
    text = one.text._replace(fx=fx_objects(catalog, pair, at_ms))
    return msgspec.structs.replace(
        one, to_package=Form(n, 0, d), to_client=Form(d, 0, n), text=text, packed=pack_text(text)
    )
