"""The transaction of a side, as bytes.

What goes into it is put together before the draw and kept with the outcome, and `rendered` is the only way to
a transaction: so a replay writes the same bytes. Source of the rules: RULES.md 2, steps 9 to 13, and 2.2;
CONTRACTS.md, Transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from msgspec import Struct

from rater.core.amounts import format_micros
from rater.core.bucket.messages import DrawItem, DrawResult, ItemCandidate, Outcome
from rater.core.catalog.codes import NO_RATE, RateText
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import CALLS, SIDES, Cdr
from rater.core.json_text import quoted
from rater.core.rating.identifying import Identified
from rater.core.rating.matching import PLACED_MAX, Asked, Matched, Part, Terms, Texts, fields_of
from rater.core.rating.pricing import Priced, Why
from rater.core.reasons import Reason, Rejection, Side, shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_MS = 1000
_MINUTE_MS = 60_000


class Said(Struct, array_like=True, gc=False):
    """What a transaction says of its call.

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


class Context(Said, array_like=True, gc=False):
    """What of a side goes into its transaction besides the draw's result."""

    terms: Terms
    rate: RateText
    candidates: tuple[Part, ...]


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


_encode = msgspec.msgpack.Encoder().encode


def asked_of(matched: Matched, names: list[str], fields: dict[str, int]) -> Asked:
    """Return the candidates with their fields' indices in `fields`, to which new ones are added.

    names: of the candidates' fields.
    """
    places = tuple([fields.setdefault(name, len(fields)) for name in names])
    found = matched.placed.get(places)
    if found is None:
        # Clients with the same packages call the same places: what is made here is seldom for one alone.
        found = matched.asked
        if places != tuple(range(len(places))):
            found = Asked([ItemCandidate(at, *one[1:]) for at, one in zip(places, found, strict=True)])
        if len(matched.placed) >= PLACED_MAX:
            matched.placed.clear()
        matched.placed[places] = found
    return found


def request(
    identified: Identified,
    priced: Priced,
    matched: Matched,
    use_index: int,
    fields: dict[str, int],
    key: bytes,
    content: bytes,
    same_record: bool,  # noqa: FBT001 - the draw's own order of fields
) -> DrawItem:
    """Return the item that asks the draw for this side.

    fields: counter field → its index among the use's fields; new ones are added.
    """
    asked = asked_of(matched, fields_of(matched.parts, _packages(identified)), fields)
    return DrawItem(use_index, key, content, priced.billed, priced.cost, same_record, asked)


def terms_of(identified: Identified, side: Side, catalog: Catalog) -> tuple[Terms, msgspec.Raw]:
    """Return what stands in the transactions of all calls of this side, account, service and packages.

    And its msgpack, which goes into each draw call: of 50 packages it takes ten times as long as of one.
    """
    holder = identified.opened or identified.route
    found: tuple[Terms, msgspec.Raw] | None = holder.terms
    if found is None:
        terms = _terms(identified, side, catalog)
        found = holder.terms = terms, msgspec.Raw(_encode(terms))
    return found


def _terms(identified: Identified, side: Side, catalog: Catalog) -> Terms:
    client, route = identified.view, identified.route
    account = "null" if route.account is None else quoted(route.account)
    return Terms(
        client.id,
        f'{side}","client":{quoted(client.id)},"account":{account},'
        f'"side":"{side}","service":{quoted(route.service.name)},"cdr":{{"source":"',
        "" if route.service.name == CALLS else 'null,"volume":',
        _end(client.currency, catalog.version),
        _packages(identified),
    )


def _packages(identified: Identified) -> Texts:
    return () if identified.opened is None else identified.opened.packages


def rate_text(identified: Identified) -> RateText:
    """Return what stands in the transactions of all calls of this rate."""
    rate = identified.rate
    return NO_RATE if rate is None else rate.text()


@lru_cache(maxsize=256)
def _end(currency: str, version: int) -> str:
    return f',"currency":{quoted(currency)},"catalog":{version}'


def said(cdr: Cdr) -> tuple[str, str, str | None]:
    """Return source, id and caller as JSON has them between quotes."""
    if cdr.plain:
        return cdr.source, cdr.id, cdr.caller
    source, name = quoted(cdr.source)[1:-1], quoted(cdr.id)[1:-1]
    return source, name, None if cdr.caller is None else quoted(cdr.caller)[1:-1]


def plain_id(of: Said) -> str:
    """Return a CDR's id as it came."""
    found: str = msgspec.json.decode(f'"{of.id}"')
    return found


def catalog_of(terms: Terms) -> int:
    """Return the version of the catalog that a side was rated by."""
    return int(terms.end.rpartition(":")[2])


def context(
    cdr: Cdr, side: Side, identified: Identified, priced: Priced, matched: Matched, catalog: Catalog
) -> Context:
    """Return what `render` needs besides the draw's result."""
    source, name, caller = said(cdr)
    amount = cdr.duration_ms if cdr.service == CALLS else cdr.volume
    assert amount is not None  # noqa: S101 - every CDR has the one that its service needs
    return Context(
        SIDES.index(side), source, name, cdr.at_ms, caller, cdr.called, amount, priced.billed, priced.why,
        priced.fx, terms_of(identified, side, catalog)[0], rate_text(identified), matched.parts,
    )  # fmt: skip


def render(of: Context, result: DrawResult) -> bytes:
    """Return the transaction's JSON: the context, and what the draw gave (outcome RATED)."""
    return rendered(of, of.terms, of.rate, of.candidates, result)


_amount = lru_cache(maxsize=16_384)(format_micros)
"""Most calls cost what others cost: 0.05 µs, not 0.4."""


def rendered(of: Said, terms: Terms, rate: RateText, parts: tuple[Part, ...], result: DrawResult) -> bytes:
    """Return the same of a call, its terms, rate and candidates: one text, for 0.5 µs in all."""
    _, amount, sufficient, takes = result
    source, name, why, fx, billed = of.source, of.id, of.why, of.fx, of.billed
    outcome = "rated" if why is None else f'zero","why":"{why}'
    fee = rate.setup_fee if why is None else "0"
    caller = "null" if of.caller is None else f'"{of.caller}"'
    draws, overage = "", billed
    for index, taken, left, covered in takes:
        money, waive, group, _, prefix, tag, used_fx = parts[index]
        held, _, period = terms.packages[group]
        draws += f',{{"client_package":{held}{prefix}{period}{tag}'
        if money:
            draws += f'{_amount(taken)}","left":"{format_micros(left)}","covered":"{_amount(covered)}"}}'
            fx += used_fx
        else:
            draws += f'{taken}","left":"{left}"}}'
            overage -= taken
            if waive:
                fee = "0"
    judged = "" if sufficient is None else _JUDGED[sufficient]
    rates = _fx(fx) if fx else ""
    return (
        f'{{"revision":1,"type":"usage","id":"{source}/{name}/{terms.ids}{source}","id":"{name}"}},'
        f'"at":"{instant_text(of.at_ms)}","outcome":"{outcome}","caller":{caller},"called":"{of.called}",'
        f'"duration_ms":{terms.amount}{of.amount},{rate.fragment},"billed":{billed}{terms.end},"draws":[{draws[1:]}],'
        f'"overage":{overage},"setup_fee":"{fee}","amount":"{_amount(amount)}"{judged}{rates}}}'
    ).encode()


_JUDGED = (',"balance_sufficient":false', ',"balance_sufficient":true')


def _fx(objects: tuple[str, ...]) -> str:
    # A currency may have been used by the rate and by a limit: each is shown once.
    return f',"fx":[{",".join(dict.fromkeys(objects))}]'


_SECONDS = tuple(f"{second:02d}." for second in range(60))
_MILLIS = tuple(f"{ms:03d}Z" for ms in range(1000))


def instant_text(at_ms: int) -> str:
    """Return an instant as transactions write it: RFC 3339, UTC, milliseconds."""
    minute, ms = divmod(at_ms, _MINUTE_MS)
    return _minute(minute) + _SECONDS[ms // _SECOND_MS] + _MILLIS[ms % _SECOND_MS]


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:")
