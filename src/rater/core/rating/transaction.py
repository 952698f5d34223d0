"""The transaction of a side, as bytes.

What goes into it is put together before the draw and kept with the outcome, and `rendered` is the only way to
a transaction: so a replay writes the same bytes. Source of the rules: RULES.md 2, steps 9 to 13, and 2.2;
CONTRACTS.md, Transaction.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import format_micros
from rater.core.bucket.messages import DrawResult, Outcome
from rater.core.catalog.codes import RateText
from rater.core.catalog.offers import LimitText
from rater.core.cdr import CALLS, Cdr
from rater.core.clients.views import ClientView, PeriodText
from rater.core.instants import rfc3339
from rater.core.json_text import quoted
from rater.core.rating.pricing import Why
from rater.core.reasons import Reason, Rejection, Side, shown


class TransactionHead(Struct, array_like=True, gc=False):
    """JSON that all transactions of one client, account, side and service share, in three pieces.

        ..."id":"SOURCE/ID/ ids SOURCE","id":... ,"duration_ms": amount 60000, ... ,"billed":60 end ,"draws":

    ids: from the side in the transaction's id to before the CDR's source; amount: what stands before the
    duration or volume; end: from `currency` to `catalog`. packages: of the client packages that are open, by
    `LimitText.group`; none where none was looked for.
    """

    client: str
    ids: str
    amount: str
    end: str
    packages: tuple[PeriodText, ...]


class CallText(Struct, array_like=True, gc=False):
    """What a transaction says of its call alone.

    side: 0 orig, 1 term. source, id, caller and called as JSON has them between quotes. amount: milliseconds,
    or counting units of other services. fx: JSON objects of the currency rates that the price needed.
    """

    side: int
    source: str
    id: str
    at_ms: int
    caller: str | None
    called: str
    amount: int
    billed: int
    why: Why | None
    fx: tuple[str, ...]


class FeeText(NamedTuple):
    """A fee that a side may bring (`FeeAsk`): what is published of it if it does.

    group: of its client package, as `LimitText.group`. value: the fee's transaction, JSON. net: signed
    micros, as counted.
    """

    group: int
    value: str
    net: int


class Context(CallText, array_like=True, gc=False):
    """All that goes into the transaction of a side besides the draw's result; fees: as its item asked."""

    head: TransactionHead
    rate: RateText
    limits: tuple[LimitText, ...]
    fees: tuple[FeeText, ...] = ()


def refused(outcome: int, cdr_id: str, side: Side) -> Rejection:
    """Return the rejection of a side whose draw said DIFFERS or OUT_OF_RANGE."""
    if outcome == Outcome.DIFFERS:
        detail = (
            "the same source, id and side was rated before with other rating content; "
            "give each call an id of its own, or correct a rated one by re-rating"
        )
        return Rejection(Reason.DUPLICATE_DIFFERS, detail, shown(cdr_id), side)
    detail = (
        "the amount or the balance after it is beyond 2^53 micros (9007199254.740992); "
        "correct the rate or the duration, or adjust the balance"
    )
    return Rejection(Reason.AMOUNT_OUT_OF_RANGE, detail, shown(cdr_id), side)


def head_of(
    view: ClientView, account: str | None, side: Side, service: str, packages: tuple[PeriodText, ...],
    catalog: int, job: str | None = None,
) -> TransactionHead:  # fmt: skip
    """Return what stands in the transactions of all calls of this side, account, service and packages.

    job: the re-rating job that has them rated.
    """
    made_by = "" if job is None else f',"job":{quoted(job)}'
    of = "null" if account is None else quoted(account)
    return TransactionHead(
        view.id,
        f'{side}",{view.text},"account":{of},"side":"{side}","service":{quoted(service)},"cdr":{{"source":"',
        "" if service == CALLS else 'null,"volume":',
        f',{view.currency_text}{made_by},"catalog":{catalog}',
        packages,
    )


def names_of(cdr: Cdr) -> tuple[str, str, str | None]:
    """Return source, id and caller as JSON has them between quotes; of a plain one they are as they are."""
    source, name = quoted(cdr.source)[1:-1], quoted(cdr.id)[1:-1]
    return source, name, None if cdr.caller is None else quoted(cdr.caller)[1:-1]


def plain_id(of: CallText) -> str:
    """Return a CDR's id as it came."""
    found: str = msgspec.json.decode(f'"{of.id}"')
    return found


def catalog_of(head: TransactionHead) -> int:
    """Return the version of the catalog that a side was rated by."""
    return int(head.end.rpartition(":")[2])


def rendered(
    of: CallText, head: TransactionHead, rate: RateText, limits: tuple[LimitText, ...], result: DrawResult
) -> bytes:
    """Return the transaction's JSON: what was kept of the side, and what the draw gave (outcome RATED)."""
    _, amount, sufficient, takes, told, _ = result
    source, name, why, fx, billed = of.source, of.id, of.why, of.fx, of.billed
    outcome = "rated" if why is None else f'zero","why":"{why}'
    fee = rate.setup_fee if why is None else "0"
    caller = "null" if of.caller is None else f'"{of.caller}"'
    draws, overage = "", billed
    for index, taken, left, covered in takes:
        money, waive, group, _, prefix, tag, used_fx, _ = limits[index]
        held, _, period = head.packages[group]
        draws += f',{{"client_package":{held}{prefix}{period}{tag}'
        if money:
            draws += f'{format_micros(taken)}","left":"{format_micros(left)}",'
            draws += f'"covered":"{format_micros(covered)}"}}'
            fx += used_fx
        else:
            draws += f'{taken}","left":"{left}"}}'
            overage -= taken
            if waive:
                fee = "0"
    judged = "" if sufficient is None else _JUDGED[sufficient]
    if told is not None and told.covered is not None:
        judged += _COVERED[told.covered]
    rates = _fx(fx) if fx else ""
    return (
        f'{{"revision":1,"type":"usage","id":"{source}/{name}/{head.ids}{source}","id":"{name}"}},'
        f'"at":"{rfc3339(of.at_ms)}","outcome":"{outcome}","caller":{caller},"called":"{of.called}",'
        f'"duration_ms":{head.amount}{of.amount},{rate.fragment},"billed":{billed}{head.end},"draws":[{draws[1:]}],'
        f'"overage":{overage},"setup_fee":"{fee}","amount":"{format_micros(amount)}"{judged}{rates}}}'
    ).encode()


_JUDGED = (',"balance_sufficient":false', ',"balance_sufficient":true')
_COVERED = (',"fee_covered":false', ',"fee_covered":true')


def _fx(objects: tuple[str, ...]) -> str:
    # A currency may have been used by the rate and by a limit: each is shown once.
    return f',"fx":[{",".join(dict.fromkeys(objects))}]'
