"""What a side costs, and its transaction (RULES.md 2 steps 6, 7 and 10 to 13, 2.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.bucket.messages import DrawResult, Outcome
from rater.core.catalog.codes import Rate, price_text
from rater.core.catalog.offers import LimitText, pack_text
from rater.core.cdr import Arrival, Cdr, GivenRate, Party
from rater.core.cdr_decoding import decode
from rater.core.instants import rfc3339
from rater.core.journal.outcomes import Pending, unpack_entries
from rater.core.line import batch as batch_module
from rater.core.line import steps as steps_module
from rater.core.line.draw_request import RequestBuilder
from rater.core.offline import Rater, Record, Transaction
from rater.core.rating import duplicates as duplicates_module
from rater.core.rating import pricing
from rater.core.rating.transaction import rendered
from rater.core.reasons import Reason, Rejection, Side

AT_MS = 1_793_872_800_000
CATALOG = """
currencies: {base: USD, rates: {EUR: "1.08", GBP: "1.27", JPY: "0.0067"}}
clients: [{id: "42", name: Rose, currency: USD}, {id: "43", name: Violet, currency: GBP}]
packages: [{id: P, name: P, type: customer, currency: USD, limits: [
  {id: m, type: volume, service: calls, code: "*", limit: 9}]}]
client_packages: [{id: "7", client: "42", package: P, start_date: 2026-11-01, activate_in_past: true}]
"""
PRICES = st.decimals(-3, 3, places=10, allow_nan=False, allow_infinity=False)


def loaded(catalog: str = CATALOG) -> Rater:
    """Return a rater with this catalog."""
    rater = Rater()
    faults = rater.load([("catalog.yaml", catalog.encode())], AT_MS)
    assert not faults, faults
    return rater


def half_up(value: Fraction) -> int:
    """Round to whole micros, half away from zero."""
    return int(abs(value) + Fraction(1, 2)) * (1 if value > 0 else -1)


def call(duration_ms: int = 60_000, **changes: Any) -> Cdr:
    """Return a call of client 42."""
    cdr = decode(
        b'{"id": "a", "called": "380501234567", "duration_ms": 60000, "answered_at": "2026-11-05T10:00:00Z",'
        b'"caller": "1", "orig": {"client": "42"}}',
        Arrival(AT_MS, 86_400_000, frozenset({"calls"})),
    )
    assert isinstance(cdr, Cdr)
    return msgspec.structs.replace(cdr, duration_ms=duration_ms, **changes)


def priced_at(
    rater: Rater, rate: Rate | None, cdr: Cdr, side: Side = "orig", client: str = "42"
) -> pricing.Priced | Rejection:
    """Return what the client's call costs at this rate."""
    return pricing.price(cdr, side, rate, rater.views.clients[client].currency, rater.catalog)


def rate_of(price: Decimal, fee: Decimal = Decimal(0), currency: str = "USD", **rest: int) -> Rate:
    """Return a rate of code 380."""
    units: dict[str, Any] = {"min_time": 0, "interval": 1, "grace_time": 0, **rest}
    return rated(currency, "380", int(price * 10**10), int(fee * 10**10), *units.values())


def rated(
    currency: str, code: str, price_e10: int, fee_e10: int, min_time: int, interval: int, grace_time: int
) -> Rate:
    """Return a rate without a table."""
    price = price_e10, fee_e10, min_time, interval, grace_time
    return Rate(currency, code, "null", *price, price_text(None, currency, *price))


# ---------------------------------------------------------------- billed volume


@given(st.integers(1, 10**7), st.integers(0, 300), st.integers(1, 300))
def test_billed_volume(raw: int, min_time: int, interval: int) -> None:
    """The minimal time, then whole intervals, rounded up; calls by the millisecond, others by the unit."""
    seconds = Fraction(raw, 1000)
    expected = min_time + max(0, ceil((seconds - min_time) / interval)) * interval
    assert pricing.billed_calls(raw, min_time, interval) == expected
    units = min_time + max(0, ceil(Fraction(raw - min_time, interval))) * interval
    assert pricing.billed_units(raw, min_time, interval) == units


@pytest.mark.parametrize(("min_time", "interval", "billed"), [(0, 1, 66), (60, 60, 120), (30, 6, 66)])
def test_billed_volume_of_the_page(min_time: int, interval: int, billed: int) -> None:
    """65.039 s at 1/1, 60/60 and 30/6, as RULES.md has it."""
    assert pricing.billed_calls(65_039, min_time, interval) == billed


# ---------------------------------------------------------------- cost


@given(
    PRICES, PRICES, st.integers(1, 10**7), st.sampled_from(["orig", "term"]),
    st.sampled_from(["USD", "EUR", "GBP", "JPY"]), st.sampled_from(["42", "43"]), st.data(),
)  # fmt: skip
def test_the_cost_is_exact_and_rounded_once(
    price: Decimal,
    fee: Decimal,
    duration_ms: int,
    side: Side,
    currency: str,
    client: str,
    data: st.DataObject,
) -> None:
    """Price x overage / unit + fee, converted through the base, signed by side, half up: at any overage."""
    rater = loaded()
    found = priced_at(rater, rate_of(price, fee, currency), call(duration_ms), side, client)
    assert isinstance(found, pricing.Priced)
    worth = {"USD": Fraction(1), "EUR": Fraction("1.08"), "GBP": Fraction("1.27"), "JPY": Fraction("0.0067")}
    to_client = worth[currency] / worth["USD" if client == "42" else "GBP"]
    sign = -1 if side == "orig" else 1
    overage = data.draw(st.integers(0, found.billed))
    for units in (found.billed, overage):
        exact = sign * (Fraction(price) * units / 60 + Fraction(fee)) * to_client * 10**6
        assert found.cost.at(units) == half_up(exact)
        without = sign * Fraction(price) * units / 60 * to_client * 10**6
        assert found.cost.without_s().at(units) == half_up(without)
    whole = sign * (Fraction(price) * found.billed / 60 + Fraction(fee))
    assert found.sign == (whole > 0) - (whole < 0)
    assert bool(found.fx) == (currency != ("USD" if client == "42" else "GBP"))


def test_the_other_side_is_the_negation() -> None:
    """Half up by magnitude: what one pays the other gets, to the last millionth."""
    rater = loaded()
    rate = rate_of(Decimal("0.00001"))
    orig, term = priced_at(rater, rate, call(3000), "orig"), priced_at(rater, rate, call(3000), "term")
    assert isinstance(orig, pricing.Priced)
    assert isinstance(term, pricing.Priced)
    assert (orig.cost.at(3), term.cost.at(3)) == (-1, 1)


@pytest.mark.parametrize(
    ("price", "duration_ms", "refused"),
    [
        ("9007199254.740992", 60_000, False),
        ("9007199254.7409924999", 60_000, False),
        ("9007199254.7409925", 60_000, True),
        ("-9007199254.7409925", 60_000, True),
        ("0", 2**53 - 1, False),
    ],
)
def test_the_largest_amount(price: str, duration_ms: int, refused: bool) -> None:  # noqa: FBT001 - expected
    """A cost that rounds to more than 2^53 micros is refused, one that rounds to 2^53 is not."""
    rater = loaded()
    found = priced_at(rater, rate_of(Decimal(price)), call(duration_ms))
    assert isinstance(found, Rejection) is refused
    if isinstance(found, Rejection):
        assert found.reason is Reason.AMOUNT_OUT_OF_RANGE


def test_the_largest_volume() -> None:
    """An interval that bills more than 2^53 units is refused: counters could not hold it."""
    rater = loaded()
    for min_time, kind in ((1, pricing.Priced), (2, Rejection)):
        rate = rate_of(Decimal(0), interval=2**53 - 1, min_time=min_time)
        assert isinstance(priced_at(rater, rate, call()), kind)


def test_zero_transactions() -> None:
    """Unanswered: no rate at all. Grace: compared in milliseconds for calls, in units for the rest."""
    rater = loaded()
    whys = []
    of = rate_of(Decimal(1), Decimal(1), grace_time=5)
    unanswered = call(0, answered_ms=None)
    for cdr, rate in ((unanswered, None), (call(0), None), (call(5000), of), (call(5001), of)):
        found = priced_at(rater, rate, cdr)
        assert isinstance(found, pricing.Priced)
        whys.append((found.why, found.billed, found.cost.at(0)))
    assert whys == [("unanswered", 0, 0), ("grace", 0, 0), ("grace", 0, 0), (None, 6, -1_000_000)]


# ---------------------------------------------------------------- duplicates


def digests(
    party: Party, client: str = "42", account: str | None = None, index: int = 0, **changes: Any
) -> tuple[bytes, bytes]:
    """Return key and content of a call, as a draw of it names them."""
    cdr = call(orig=party, term=party, **changes)
    side = built(loaded(), cdr, None, client=client, account=account, index=index)[0].row
    assert side is not None
    return side.key, side.content


def test_the_key_names_the_side() -> None:
    """A duplicate is found by source, id and side at a client: another of either is another key."""
    party = Party("42")
    keys = {digests(party, index=index)[0] for index in (0, 1)}
    keys |= {digests(party, source="b")[0], digests(party, id="b")[0], digests(party, "43")[0]}
    assert len(keys) == 5
    assert {len(key) for key in keys} == {duplicates_module.KEY_BYTES}


def test_the_key_of_earlier_versions_is_in_the_same_group() -> None:
    """The client changes the last four bytes alone: the store groups by the first."""
    for index in (0, 1):
        key, older = duplicates_module.keys_of(call(), index, 0x01020304)
        assert key[:4] == older[:4]
        assert [a ^ b for a, b in zip(key[4:], older[4:], strict=True)] == [1, 2, 3, 4]
        assert duplicates_module.keys_of(call(), index, 0) == (older, older)


def test_the_content_is_what_is_rated() -> None:
    """Service, number, times, volume, client, account, given rate; not the caller, and no unused volume."""
    same = digests(Party("42"))
    assert digests(Party(account="x", gateway="y"), caller="2", volume=9) == same
    rate = GivenRate("380", "0.10", "USD")
    other: list[dict[str, Any]] = [
        {"called": "1"}, {"service": "data"}, {"setup_ms": 1}, {"answered_ms": 1}, {"ended_ms": 1},
        {"duration_ms": 1},
    ]  # fmt: skip
    contents = [
        same[1],
        digests(Party("42", rate=rate))[1],
        digests(Party("42"), "43")[1],
        digests(Party("42"), account="a")[1],
        *(digests(Party("42"), **one)[1] for one in other),
    ]
    assert len(set(contents)) == len(contents)


def test_given_rates_compare_by_value() -> None:
    """A price of "0.10" is "0.1", also beyond 64 bits; each other field of the rate counts."""
    rate = GivenRate("380", "9007199254.10", "USD", "Ukraine", "2000000000.0", 1, 2, 3)
    content = digests(Party("42", rate=rate))[1]
    equal = msgspec.structs.replace(rate, price="9007199254.1", setup_fee="2000000000")
    assert digests(Party("42", rate=equal))[1] == content
    for name, value in {
        "code": "38", "price": "1", "currency": "EUR", "code_name": None, "setup_fee": "1", "min_time": 0,
        "interval": 1, "grace_time": 0,
    }.items():  # fmt: skip
        assert digests(Party("42", rate=msgspec.structs.replace(rate, **{name: value})))[1] != content, name


# ---------------------------------------------------------------- the transaction

STANDING = batch_module.Standing(
    0, "commands", 86_400_000, 90_000_000, batch_module.LanePosition(lane_ms=AT_MS)
)


def built(
    rater: Rater, cdr: Cdr, rate: Rate | None, *, client: str = "42", account: str | None = None,
    index: int = 0, priced: pricing.Priced | None = None, limits: Sequence[LimitText] = (),
) -> tuple[batch_module.Side, RequestBuilder]:  # fmt: skip
    """Return a side with what its transaction says, and the request that it was added to.

    limits: those that it may draw from, of a client package 7 in its first period. priced: None: as it is.
    """
    found = priced_at(rater, rate, cdr, "term" if index else "orig", client) if priced is None else priced
    assert isinstance(found, pricing.Priced)
    party = cdr.term if index else cdr.orig
    side = batch_module.Side("cdrs", Record(b"", AT_MS), index, cdr, party)
    side.view, side.account, side.rate, side.priced = rater.views.clients[client], account, rate, found
    if limits:
        side.opened = side.view.opened(account, cdr.service, "customer", cdr.at_ms, rater.catalog)
        (one,) = side.opened.offers.candidates
        side.candidates = tuple(
            [
                msgspec.structs.replace(one, money=of.money, waive=of.waive, text=of, packed=pack_text(of))
                for of in limits
            ]
        )
    builder = RequestBuilder()
    version = rater.catalog.version
    builder.add(side, cdr, side.view, found, version)
    return side, builder


def text_of(side: batch_module.Side, result: DrawResult) -> bytes:
    """Return the transaction of a side that was drawn, or that was replayed."""
    assert side.row is not None
    assert side.head is not None
    assert side.rate_text is not None
    return rendered(side.row, side.head, side.rate_text, side.limits, result)


@given(
    st.integers(-(2**53), 2**53), st.integers(0, 2**53), st.integers(0, 10**30),
    st.sampled_from([None, False, True]),
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=3), st.text(max_size=9),
)  # fmt: skip
def test_a_kept_context_gives_the_same_bytes(
    amount: int,
    billed: int,
    fee_e10: int,
    sufficient: bool | None,  # noqa: FBT001 - drawn
    kinds: list[tuple[bool, bool]],
    name: str,
) -> None:
    """What was decided before a crash is published as it would have been: packed, read back, rendered."""
    rater = loaded()
    limits = [LimitText(money, waive, 0, ".m", ',"period":', ',"taken":"', ("{}",)) for money, waive in kinds]
    priced = pricing.Priced(None, billed, pricing.NOTHING, 0)
    rate = rated("USD", "380", 10**10, fee_e10, 0, 1, 0)
    made, builder = built(rater, call(id=name, caller=name, plain=False), rate, priced=priced, limits=limits)
    result = DrawResult(Outcome.RATED, amount, sufficient, tuple((n, 1, 2, 3) for n in range(len(limits))))
    (entry,) = unpack_entries(builder.request(STANDING, 0, 1, 0, 0).context)
    batch = batch_module.Batch(STANDING, [])
    steps_module.replay(batch, made.record, Pending(entry, result))
    (kept,) = batch.sides
    assert kept.cdr is None
    assert text_of(kept, result) == text_of(made, result)
    transaction = json.loads(text_of(made, result))
    assert transaction["id"] == f"default/{name}/orig"
    assert Decimal(transaction["amount"]) == Decimal(amount).scaleb(-6)


_TEXTS = st.text(max_size=9) | st.text('ab"\\/é\x7f\u2028\U0001f600', max_size=9)


@given(_TEXTS.filter(bool), _TEXTS | st.none(), st.booleans(), st.booleans(), st.integers(0, 9))
def test_texts_are_escaped_where_they_need_it(
    name: str,
    caller: str | None,
    escaped: bool,  # noqa: FBT001 - drawn
    messages: bool,  # noqa: FBT001 - drawn
    seconds: int,
) -> None:
    """A transaction says what its record said, whatever the texts, the service and the outcome."""
    rater = loaded()
    amount = "volume" if messages else "duration_ms"
    record = {
        "id": name, "called": "380501234567", "answered_at": "2026-11-05T10:00:00Z", "source": "s",
        "caller": caller, "orig": {"client": "42"}, "service": "messages" if messages else "calls",
        amount: seconds * 1000,
    }  # fmt: skip
    raw = json.dumps(record, ensure_ascii=escaped).encode()
    cdr = decode(raw, Arrival(AT_MS, 86_400_000, frozenset({"calls", "messages"})))
    assert isinstance(cdr, Cdr)
    assert cdr.plain == (b"\\" not in raw)
    rate = rated("USD", "38", 10**9, 0, 0, 1, 5) if cdr.used else None
    priced = priced_at(rater, rate, cdr)
    assert isinstance(priced, pricing.Priced)
    one, other = (
        text_of(
            built(rater, msgspec.structs.replace(cdr, plain=plain), rate)[0],
            DrawResult(Outcome.RATED, 0, None, ()),
        )
        for plain in (False, cdr.plain)
    )
    assert one == other
    transaction = json.loads(one)
    assert transaction["cdr"] == {"source": "s", "id": name}
    assert (transaction["id"], transaction["caller"]) == (f"s/{name}/orig", caller)
    assert (transaction["service"], transaction[amount]) == (cdr.service, seconds * 1000)
    assert transaction.get("why") == priced.why


_SCENES = st.fixed_dictionaries({
    "price": PRICES, "fee": PRICES, "interval": st.sampled_from([1, 6, 60]), "waive": st.booleans(),
    "limits": st.lists(st.tuples(st.sampled_from(["volume", "money"]), st.integers(1, 3)), max_size=3),
    "type": st.sampled_from(["customer", "vendor"]), "package": st.sampled_from(["USD", "EUR"]),
    "rate": st.sampled_from(["USD", "EUR"]), "client": st.sampled_from(["USD", "GBP"]),
})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_SCENES, st.lists(st.tuples(st.integers(1, 200_000), st.sampled_from(["orig", "term"])), max_size=6))
def test_a_transaction_can_be_recomputed(scene: dict[str, Any], calls: list[tuple[int, str]]) -> None:
    """Every number that is needed is in it: overage, setup fee and what was covered give the amount."""
    limits = [
        {"type": kind, "service": "calls", "code": "*", "limit": size if kind == "volume" else f"0.{size}"}
        for kind, size in scene["limits"]
    ]
    rate = {
        "code": "3",
        "price": f"{scene['price']:f}",
        "setup_fee": f"{scene['fee']:f}",
        "interval": scene["interval"],
    }
    catalog = {
        "currencies": {"base": "USD", "rates": {"EUR": "1.08", "GBP": "1.27"}},
        "rate_tables": [{"name": "t", "currency": scene["rate"], "rates": [rate]}],
        "packages": [{"id": "P", "name": "P", "type": scene["type"], "currency": scene["package"],
                      "limits": limits, "setup_fee": "dont_charge" if scene["waive"] else "charge"}],
        "clients": [{"id": "42", "name": "Rose", "currency": scene["client"],
                     "rate_tables": {"orig": {"calls": "t"}, "term": {"calls": "t"}}}],
        "client_packages": [{"id": "1", "client": "42", "package": "P", "start_date": "2026-11-01T00:00:00Z",
                             "activate_in_past": True}],
    }  # fmt: skip
    rater = loaded(json.dumps(catalog))
    for number, (duration_ms, side) in enumerate(calls):
        cdr = {"id": str(number), "called": "380", "duration_ms": duration_ms,
               "answered_at": "2026-11-05T10:00:00Z", side: {"client": "42"}}  # fmt: skip
        (ended,) = rater.rate(json.dumps(cdr).encode(), AT_MS)
        assert isinstance(ended, Transaction)
        check_recomputed(json.loads(ended.value), scene)


def check_recomputed(of: dict[str, Any], scene: dict[str, Any]) -> None:
    """Recompute an amount from its transaction alone (and the catalog's rates, where `fx` names them)."""
    worth = {"USD": Fraction(1)} | {one["from"]: Fraction(one["rate"]) for one in of.get("fx", ())}
    volumes = [draw for draw in of["draws"] if draw["kind"] == "volume"]
    money = [draw for draw in of["draws"] if draw["kind"] == "money"]
    assert sum(int(draw["taken"]) for draw in volumes) + of["overage"] == of["billed"]
    rate = of["rate"]
    sign = -1 if of["side"] == "orig" else 1
    exact = sign * (Fraction(rate["price"]) * of["overage"] / 60 + Fraction(of["setup_fee"]))
    cost = half_up(exact * worth[rate["currency"]] / worth[of["currency"]] * 10**6)
    covered = sum(round(Fraction(draw["covered"]) * 10**6) for draw in money)
    amount = round(Fraction(of["amount"]) * 10**6)
    if cost < 0:
        assert amount in (cost + covered, 0)
    else:
        assert amount in (cost - covered, 0)
    if amount != cost - (covered if cost > 0 else -covered):
        # Covered, and no draw shows it: worth less than half a millionth in the package's currency.
        assert abs(cost) == 1
        assert scene["package"] != of["currency"]
    expected_fee = Fraction(0) if volumes and scene["waive"] else Fraction(rate["setup_fee"])
    assert Fraction(of["setup_fee"]) == expected_fee


def test_a_zero_transaction_names_nothing() -> None:
    """What was not looked up is null, and draws are empty."""
    rater = loaded()
    made, _ = built(rater, call(0, answered_ms=None), None)
    transaction = json.loads(text_of(made, DrawResult(Outcome.RATED, 0, None, ())))
    assert made.row is not None
    assert made.row.why == "unanswered"
    assert {
        "outcome": "zero",
        "why": "unanswered",
        "rate": None,
        "code": None,
        "draws": [],
    }.items() <= transaction.items()


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1)))  # noqa: DTZ001 - UTC is added below
def test_instants(at: datetime) -> None:
    """RFC 3339, UTC, milliseconds."""
    at = at.replace(tzinfo=UTC, microsecond=at.microsecond // 1000 * 1000)
    ms = (at - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution * 1000)
    assert rfc3339(ms) == at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
