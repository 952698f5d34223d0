"""The fee that the first call of a period brings: what the draw is asked, what is published if it does.

Source of the rules: RULES.md section 4 (Charge on event).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import Candidate
from rater.core.cdr import Cdr
from rater.core.clients.fees import Unpayable, fee_fields, fee_of, fee_text
from rater.core.clients.views import ClientView, Opened
from rater.core.kinds import TransactionType
from rater.core.rating.transaction import FeeText
from rater.core.reasons import Reason, Rejection, Side, shown


class EventFee(Struct, frozen=True):
    """A fee as the draw is asked for it.

    fields: its counters. amount: signed micros. deny: balance and credit limit have to cover it.
    """

    text: FeeText
    fields: tuple[str, str, str]
    amount: int
    deny: bool


def event_fees(
    opened: Opened, view: ClientView, candidates: Sequence[Candidate], cdr: Cdr, side: Side, catalog: Catalog
) -> tuple[EventFee, ...] | Rejection:
    """Return the fees of those client packages that the call may draw from, charged before or not.

    A period is free while no call has drawn from it. Rejection: a fee cannot be worked out.
    """
    groups = {one.group for one in candidates}
    out = []
    for group, held, period in opened.by_event:
        if group not in groups:
            continue
        one = period.held
        try:
            fee = fee_of(
                TransactionType.SUBSCRIPTION_FEE, period.version, quantity=held.quantity, share=one.share,
                count=one.count, taxes=one.taxes, currency=view.currency, catalog=catalog, at_ms=cdr.at_ms,
            )  # fmt: skip
        except Unpayable as error:
            reason, package = Reason(error.reason), period.latest.id
            return Rejection(reason, f"package {shown(package)}: {error}", shown(package), side)
        if fee is None:
            continue
        value = fee_text(
            view.state, held, period.latest.name, one, fee, stop_ms=period.stop_ms,
            currency=period.version.currency, at_ms=cdr.at_ms, catalog=catalog.version,
            cdr=(cdr.source, cdr.id),
        )  # fmt: skip
        text = FeeText(group, value.decode(), fee.charged.net)
        fields = fee_fields(held.id, one.number)
        out.append(EventFee(text, fields, fee.amount, not period.latest.allow))
    return tuple(out)
