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
from msgspec import UNSET, Struct, UnsetType

from rater.core.amounts import E10, LIMIT, MICRO, Form, form, format_e10, format_micros
from rater.core.cdr import CALLS, Cdr, GivenRate, Party
from rater.core.compiling import Catalog
from rater.core.drawing import DrawItem, DrawResult, Outcome
from rater.core.identifying import Identified, given_rate
from rater.core.matching import Matched, Part, currency_unknown, fx_objects
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
    setup_fee_e10: int
    fx: tuple[bytes, ...] = ()


class Context(Struct, array_like=True, gc=False):
    """What of a side goes into its transaction besides the draw's result; kept with the outcome.

    head: the transaction's JSON up to and including `"catalog":N`, without the closing brace. setup_fee: as
    it is written, for a fee in 10^-10 may be more than the 64 bits of msgpack's ints.
    """

    client: str
    head: bytes
    billed: int
    setup_fee: str
    candidates: tuple[Part, ...]
    zero: bool = False
    fx: tuple[bytes, ...] = ()


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


def price(cdr: Cdr, side: Side, identified: Identified, catalog: Catalog) -> Priced | Rejection:
    """Return the cost before packages, or why there is none: currency_unknown, amount_out_of_range.

    Nothing is drawn and nothing charged here. Exact: one rounding, in `Form.at`.
    """
    rate = identified.rate
    if rate is None:
        return Priced("unanswered", 0, NOTHING, 0, 0)
    if cdr.service == CALLS:
        raw_ms = cdr.duration_ms or 0
        in_grace = raw_ms <= rate.grace_time * _SECOND_MS
        billed = billed_calls(raw_ms, rate.min_time, rate.interval)
    else:
        raw = cdr.volume or 0
        in_grace = raw <= rate.grace_time
        billed = billed_units(raw, rate.min_time, rate.interval)
    if in_grace:
        return Priced("grace", 0, NOTHING, 0, 0)
    unit = identified.service.price_unit
    a, s, d = rate.price_e10, rate.setup_fee_e10 * unit, unit * _E10_IN_MICRO
    if side == "orig":
        a, s = -a, -s
    fx: tuple[bytes, ...] = ()
    currency = identified.view.currency
    if rate.currency != currency:
        pair = catalog.convert(rate.currency, currency, cdr.at_ms)
        if pair is None:
            return currency_unknown(catalog, (rate.currency, currency), cdr.at_ms, side)
        a, s, d = a * pair[0], s * pair[0], d * pair[1]
        fx = fx_objects(catalog, (rate.currency, currency), cdr.at_ms)
    exact = a * billed + s
    if billed > LIMIT or (2 * abs(exact) + d) // (2 * d) > LIMIT:
        return _out_of_range(rate.currency, format_e10(rate.price_e10), billed, side)
    sign = (exact > 0) - (exact < 0)
    return Priced(None, billed, form(a, s, d), sign, rate.setup_fee_e10, fx)


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


_encode_content = msgspec.msgpack.Encoder().encode


def digests(cdr: Cdr, side: Side, identified: Identified, party: Party) -> tuple[bytes, bytes]:
    """Return (key, content): what a duplicate is found by, and what must be equal in it.

    Content: service, number, times, volume, the client and account found, and a given rate (contracts.md,
    Reject reasons).
    """
    # `source` has no slash, and the side no other form: the joined text names exactly one triple.
    key = blake2b(f"{cdr.source}/{cdr.id}/{side}".encode(), digest_size=KEY_BYTES).digest()
    content = (
        cdr.service, cdr.called, cdr.setup_ms, cdr.answered_ms, cdr.ended_ms,
        cdr.duration_ms if cdr.service == CALLS else cdr.volume,
        identified.view.id, identified.account, None if party.rate is None else _by_value(party.rate),
    )  # fmt: skip
    # Not against forgery: nothing is won by a repeat that passes as the same.
    return key, crc32(_encode_content(content)).to_bytes(CONTENT_BYTES, "big")


def _by_value(given: GivenRate) -> tuple[object, ...]:
    """Return a given rate by value: "0.10" is "0.1". Prices as text, for msgpack's ints have 64 bits."""
    rate = given_rate(given)
    return (
        rate.code, rate.code_name, rate.currency, format_e10(rate.price_e10), format_e10(rate.setup_fee_e10),
        rate.min_time, rate.interval, rate.grace_time,
    )  # fmt: skip


def request(
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
    asked = matched.asked
    if asked:
        names = matched.fields
        if not fields:  # a client's first side in a call, as most are
            fields.update(names)
        elif [fields.get(name) for name in names] != list(names.values()):
            asked = tuple([one._replace(field=fields.setdefault(name, len(fields)))
                           for name, one in zip(names, asked, strict=True)])  # fmt: skip
    return DrawItem(use_index, key, content, priced.billed, priced.cost, same_record, asked)


# ---------------------------------------------------------------- the transaction


class _Ref(Struct, gc=False):
    source: str
    id: str


class _Head(Struct, gc=False):
    """The first part of a transaction, in the order of contracts.md."""

    id: str
    client: str
    account: str | None
    side: str
    service: str
    cdr: _Ref
    at: str
    outcome: str
    why: str | UnsetType
    caller: str | None
    called: str
    duration_ms: int | None
    volume: int | UnsetType | None
    code: str | None
    code_name: str | None
    rate: msgspec.Raw | None
    billed: int
    currency: str
    catalog: int


_encode_head = msgspec.json.Encoder().encode
_BEGIN = b'{"revision":1,"type":"usage",'


def context(
    cdr: Cdr, side: Side, identified: Identified, priced: Priced, matched: Matched, catalog: Catalog
) -> Context:
    """Return what `render` needs besides the draw's result."""
    view, rate = identified.view, identified.rate
    calls = cdr.service == CALLS
    head = _Head(
        f"{cdr.source}/{cdr.id}/{side}", view.id, identified.account, side, cdr.service,
        _Ref(cdr.source, cdr.id), instant_text(cdr.at_ms),
        "rated" if priced.why is None else "zero", UNSET if priced.why is None else priced.why,
        cdr.caller, cdr.called, cdr.duration_ms if calls else None, UNSET if calls else cdr.volume,
        None if rate is None else rate.code, None if rate is None else rate.code_name,
        None if rate is None else msgspec.Raw(rate.fragment()), priced.billed, view.currency, catalog.version,
    )  # fmt: skip
    return Context(
        view.id, _BEGIN + _encode_head(head)[1:-1], priced.billed,
        format_e10(priced.setup_fee_e10) if priced.setup_fee_e10 else "0", matched.parts,
        priced.why is not None, priced.fx,
    )  # fmt: skip


def render(of: Context, result: DrawResult) -> bytes:
    """Return the transaction's JSON: the context, and what the draw gave (outcome RATED)."""
    overage = of.billed
    fee = of.setup_fee
    draws: list[bytes] = []
    fx = of.fx
    for index, taken, left, covered in result.takes:
        money, waive, _, prefix, suffix, used_fx = of.candidates[index]
        if money:
            numbers = (prefix, format_micros(taken), format_micros(left), format_micros(covered), suffix)
            draws.append(_money_draw(*numbers))
            fx += used_fx
        else:
            draws.append(b'%b%d","left":"%d%b' % (prefix, taken, left, suffix))
            overage -= taken
            if waive:
                fee = "0"
    return b'%b,"draws":[%b],"overage":%d,"setup_fee":"%b","amount":"%b"%b%b}' % (
        of.head,
        b",".join(draws),
        overage,
        fee.encode(),
        format_micros(result.amount).encode(),
        _judged(result.balance_sufficient),
        _fx(fx),
    )


def _money_draw(prefix: bytes, taken: str, left: str, covered: str, suffix: bytes) -> bytes:
    return b'%b%b","left":"%b","covered":"%b%b' % (
        prefix,
        taken.encode(),
        left.encode(),
        covered.encode(),
        suffix,
    )


def _judged(sufficient: bool | None) -> bytes:  # noqa: FBT001 - one of the result's values
    if sufficient is None:
        return b""
    return b',"balance_sufficient":true' if sufficient else b',"balance_sufficient":false'


def _fx(objects: tuple[bytes, ...]) -> bytes:
    # A currency may have been used by the rate and by a limit: each is shown once.
    return b',"fx":[%b]' % b",".join(dict.fromkeys(objects)) if objects else b""


def instant_text(at_ms: int) -> str:
    """Return an instant as transactions write it: RFC 3339, UTC, milliseconds."""
    minute, ms = divmod(at_ms, _MINUTE_MS)
    return f"{_minute(minute)}{ms // _SECOND_MS:02d}.{ms % _SECOND_MS:03d}Z"


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:")
