"""What a side costs, and its transaction: billed volume, the cost as a form, the bytes.

Order: `price` → `matching.match` → `request` + `context` → the draw → `render`. The form and the context are
made before the draw, the context is kept with the outcome, and `render` is the only way to a transaction: a
replay writes the same bytes. Source of the rules: domain.md 2, steps 3 and 6 to 13, and 2.2; contracts.md,
Transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from rater.core.amounts import E10, LIMIT, MICRO, Form, form, format_e10, format_micros
from rater.core.cdr import CALLS, SIDES, Cdr, GivenRate, Party
from rater.core.codes import NO_RATE, Rate, RateText
from rater.core.compiling import Catalog
from rater.core.drawing import DrawItem, DrawResult, ItemCandidate, Outcome
from rater.core.identifying import Identified, given_rate
from rater.core.matching import (
    PLACED_MAX,
    Asked,
    Matched,
    Part,
    Terms,
    Texts,
    currency_unknown,
    fields_of,
    fx_objects,
)
from rater.core.quoting import quoted
from rater.core.reasons import Reason, Rejection, Side, shown

Why = Literal["unanswered", "grace"]

KEY_BYTES = 8
"""Of the digest that a duplicate is found by: 10^9 calls in a window collide with a chance of 3 %."""

CONTENT_BYTES = 4
"""Of the checksum that tells a duplicate that differs."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_E10_IN_MICRO = E10 // MICRO
_SECOND_MS = 1000
_MINUTE_MS = 60_000

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


class Plan(Struct, gc=False):
    """What calls of one rate have in common, for one side, a price unit and clients of the rate's currency.

    cost and sign as in `Priced`, for up to billed_max units; sign None: it differs from call to call.
    """

    unit: int
    cost: Form
    sign: int | None
    billed_max: int


# ---------------------------------------------------------------- billed volume and cost


def billed_calls(duration_ms: int, min_time: int, interval: int) -> int:
    """Return the billed seconds: the minimal time, then whole intervals, rounded up (domain.md 2.6)."""
    over_ms = duration_ms - min_time * _SECOND_MS
    if over_ms <= 0:
        return min_time
    return min_time - (-over_ms // (interval * _SECOND_MS)) * interval


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
        in_grace = raw_ms <= rate.grace_time * _SECOND_MS
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


# ---------------------------------------------------------------- the draw's item


_encode = msgspec.msgpack.Encoder().encode
_blank = blake2b(digest_size=2 * KEY_BYTES)


def keys(cdr: Cdr) -> tuple[bytes, bytes]:
    """Return digests of source, id and side, of the originating and of the terminating one (`key_of`)."""
    # A copy of an empty one takes 0.19 µs, a new one 0.30 µs. `source` has no slash: the text is of one pair.
    digest = _blank.copy()
    digest.update(f"{cdr.source}/{cdr.id}".encode())
    both = digest.digest()
    return both[:KEY_BYTES], both[KEY_BYTES:]


def key_of(digest: bytes, client_crc: int) -> bytes:
    """Return what a duplicate is found by: source, id and side (one of `keys`) at a client.

    The last four bytes take the client's CRC-32 in; the first stay, which the store groups entries by: a key
    as earlier versions made it (the digest alone) lies in the same group.
    """
    return (int.from_bytes(digest, "big") ^ client_crc).to_bytes(KEY_BYTES, "big")


def told(cdr: Cdr) -> bytes:
    """Return what of a CDR must be equal in a duplicate, whatever the side (contracts.md, Reject reasons)."""
    return _encode((
        cdr.service, cdr.called, cdr.setup_ms, cdr.answered_ms, cdr.ended_ms,
        cdr.duration_ms if cdr.service == CALLS else cdr.volume,
    ))  # fmt: skip


def content(told: bytes, identified: Identified, party: Party) -> bytes:
    """Return the checksum of what must be equal in a duplicate: `told`, the client, account, a given rate."""
    # Not against forgery: nothing is won by a repeat that passes as the same.
    route = identified.route
    found = route.checksum
    if found is None:
        found = route.checksum = crc32(_encode((identified.view.id, route.account)))
    found = crc32(told, found)
    if party.rate is not None:
        found = crc32(_by_value(party.rate), found)
    return found.to_bytes(CONTENT_BYTES, "big")


def digests(cdr: Cdr, side: Side, identified: Identified, party: Party) -> tuple[bytes, bytes]:
    """Return (key, content): what a duplicate is found by, and what must be equal in it."""
    key = key_of(keys(cdr)[SIDES.index(side)], identified.view.crc)
    return key, content(told(cdr), identified, party)


@lru_cache(maxsize=4096)
def _by_value(given: GivenRate) -> bytes:
    """Return a given rate by value: "0.10" is "0.1". Prices as text, for msgpack's ints have 64 bits."""
    rate = given_rate(given)
    return _encode((
        rate.code, rate.code_name, rate.currency, format_e10(rate.price_e10), format_e10(rate.setup_fee_e10),
        rate.min_time, rate.interval, rate.grace_time,
    ))  # fmt: skip


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


# ---------------------------------------------------------------- the transaction


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
