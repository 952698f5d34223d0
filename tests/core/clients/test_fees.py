"""What fees come to: one rounding, taxes included or added, shares, discounts, currencies (RULES.md 4)."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.amounts import E10, LIMIT, MICRO, format_e10
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import (
    Content,
    CurrencyRow,
    DiscountSpec,
    FeeSpec,
    PackageHistory,
    PackageSpec,
)
from rater.core.clients.fees import Fee, Taxes, Unpayable, charged_of, fee_of, negated
from rater.core.kinds import TransactionType
from rater.core.zones import installed

VAT: Taxes = [("VAT", "20")]


def catalog_of(
    currency: str = "USD", rates: dict[str, list[CurrencyRow]] | None = None, **fields: Any
) -> Catalog:
    """Return a catalog of package "1"."""
    spec = PackageSpec("1", "n", "customer", currency, **fields)
    history = PackageHistory([(0, spec)], [(0, "active")], assigned=True)
    content = Content(base="USD", currencies=rates or {}, packages={"1": history}, zones=[installed()])
    return compile_catalog(content, 1)


def fee(
    *rates: str, taxes: Taxes = (), included: bool = False, quantity: int = 1, count: int = 1,
    share: tuple[int, int] | None = None, discounts: tuple[tuple[int, str], ...] = (),
    kind: TransactionType = TransactionType.SUBSCRIPTION_FEE, catalog: Catalog | None = None, at_ms: int = 0,
) -> Fee | None:  # fmt: skip
    """Return the fee of subscription rows."""
    catalog = catalog or catalog_of(
        fees=tuple(FeeSpec("subscription", "f", rate) for rate in rates),
        discounts=tuple(DiscountSpec(n, discount) for n, discount in discounts),
        fees_include_taxes=included,
    )
    return fee_of(
        kind, catalog.packages["1"].latest, quantity=quantity, share=share, count=count, taxes=taxes,
        currency="USD", catalog=catalog, at_ms=at_ms,
    )  # fmt: skip


def comes_to(found: Fee | None) -> tuple[int, list[int], int]:
    """Return net, taxes and amount, positive = to pay."""
    assert found is not None
    one = found.charged
    assert one.net + sum(part for _, _, part in one.taxes) == one.amount == found.amount
    return -one.net, [-part for _, _, part in one.taxes], -one.amount


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        # RULES.md 7, example 15
        ({"rates": ["5.00"], "taxes": VAT, "included": True}, (4_166_667, [833_333], 5_000_000)),
        ({"rates": ["5.00"], "taxes": VAT}, (5_000_000, [1_000_000], 6_000_000)),
        # examples 11, 17, 18, 20
        ({"rates": ["30"], "share": (20, 30)}, (20_000_000, [], 20_000_000)),
        ({"rates": ["30"], "share": (2, 31)}, (1_935_484, [], 1_935_484)),
        ({"rates": ["30"], "share": (21, 31)}, (20_322_581, [], 20_322_581)),
        ({"rates": ["30"], "share": (20, 30), "discounts": ((1, "3.00"),), "quantity": 2, "taxes": VAT},
         (36_000_000, [7_200_000], 43_200_000)),
        # example 16: the discount counts for each piece
        ({"rates": ["5.00"], "discounts": ((2, "1.00"),), "quantity": 3}, (15_000_000, [], 15_000_000)),
        ({"rates": ["5.00"], "discounts": ((2, "1.00"),), "quantity": 3, "count": 2},
         (12_000_000, [], 12_000_000)),
        # rows are summed before anything is rounded
        ({"rates": ["0.0000004", "0.0000004"]}, (1, [], 1)),
        ({"rates": ["0.0000005"]}, (1, [], 1)),
        ({"rates": ["-0.0000005"]}, (-1, [], -1)),
        ({"rates": ["0.0000004"]}, (0, [], 0)),
        # not below 0; a fee that pays the client is not lowered
        ({"rates": ["5.00"], "discounts": ((1, "9"),)}, (0, [], 0)),
        ({"rates": ["-5.00"], "discounts": ((1, "9"),)}, (-5_000_000, [], -5_000_000)),
        # the row with the highest count reached
        ({"rates": ["5"], "discounts": ((3, "2"), (2, "1"), (9, "4")), "count": 8},
         (3_000_000, [], 3_000_000)),
        # taxes: each on the net; included, the last one takes the remainder
        ({"rates": ["1.00"], "taxes": [("a", "7"), ("b", "3.5")]}, (1_000_000, [70_000, 35_000], 1_105_000)),
        ({"rates": ["1.00"], "taxes": [("a", "7"), ("b", "3.5")], "included": True},
         (904_977, [63_348, 31_675], 1_000_000)),
        ({"rates": ["0.000001"], "taxes": [("a", "50"), ("b", "50")], "included": True}, (1, [1, -1], 1)),
        ({"rates": ["-5.00"], "taxes": VAT, "included": True}, (-4_166_667, [-833_333], -5_000_000)),
        ({"rates": ["5.00"], "taxes": [("a", "0")], "included": True}, (5_000_000, [0], 5_000_000)),
    ],
)  # fmt: skip
def test_what_a_fee_comes_to(asked: dict[str, Any], wanted: tuple[int, list[int], int]) -> None:
    """In millionths, to pay; sums always agree."""
    rates = asked.pop("rates")
    assert comes_to(fee(*rates, **asked)) == wanted


def test_an_activation_has_no_discount() -> None:
    """Discounts are of subscriptions; and each type has its own rows."""
    catalog = catalog_of(
        fees=(
            FeeSpec("activation", "a", "2"),
            FeeSpec("subscription", "f", "5"),
            FeeSpec("activation", "b", "1"),
        ),
        discounts=(DiscountSpec(1, "1"),),
    )
    kinds = (TransactionType.ACTIVATION_FEE, TransactionType.SUBSCRIPTION_FEE)
    found = [fee(kind=kind, catalog=catalog) for kind in kinds]
    assert [comes_to(one)[2] for one in found] == [3_000_000, 4_000_000]
    assert [json.loads(bytes(one.lines)) for one in found if one is not None] == [
        [{"name": "a", "note": "", "rate": "2"}, {"name": "b", "note": "", "rate": "1"}],
        [{"name": "f", "note": "", "rate": "5"}, {"discount": "-1", "activation_count": 1}],
    ]
    assert fee("5", kind=TransactionType.ACTIVATION_FEE) is None


def test_a_fee_in_another_currency_goes_by_its_date() -> None:
    """Converted exactly, rounded once; before the first rate it waits, with a sentence that says which."""
    rates = {"EUR": [CurrencyRow(10_800_000_000, 1000), CurrencyRow(11_000_000_000, 2000)]}
    catalog = catalog_of("EUR", rates, fees=(FeeSpec("subscription", "f", "0.333333"),))
    assert [comes_to(fee(catalog=catalog, at_ms=at_ms))[2] for at_ms in (1000, 1999, 2000)] == [
        360_000, 360_000, 366_666,
    ]  # fmt: skip
    found = fee(catalog=catalog, at_ms=1000)
    assert found is not None
    assert [json.loads(one) for one in found.fx] == [{"from": "EUR", "to": "USD", "rate": "1.08"}]
    with pytest.raises(
        Unpayable, match=r"its fees are in EUR, and there is no rate to USD at 1970-.*; load"
    ) as told:
        fee(catalog=catalog, at_ms=999)
    assert told.value.reason == "currency_unknown"


@pytest.mark.parametrize("taxes", [(), VAT])
def test_a_fee_out_of_range_is_told(taxes: Taxes) -> None:
    """Net, taxes and gross stay within 2⁵³ millionths."""
    most = format_e10(LIMIT * (E10 // MICRO))
    if taxes:
        with pytest.raises(Unpayable, match="correct the rate or the quantity"):
            fee(most, taxes=taxes)
    else:
        assert comes_to(fee(most))[2] == LIMIT
    with pytest.raises(Unpayable) as told:
        fee(most, taxes=taxes, quantity=2)
    assert told.value.reason == "amount_out_of_range"


_rates = st.integers(-(10**14), 10**14).map(format_e10)
_taxes = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 10**12).map(format_e10)), max_size=3,
    unique_by=lambda tax: tax[0],
)  # fmt: skip


def half_up(exact: Fraction) -> int:
    """Round by magnitude."""
    size = (abs(exact) * 2 + 1) // 2
    return int(size) if exact >= 0 else -int(size)


@settings(deadline=None)
@given(
    st.lists(_rates, min_size=1, max_size=4), st.integers(1, 1000), st.booleans(), _taxes,
    st.none() | st.tuples(st.integers(1, 10**6), st.integers(10**6, 10**8)),
)  # fmt: skip
def test_one_rounding(
    rates: list[str], quantity: int, included: bool, taxes: Taxes, share: tuple[int, int] | None  # noqa: FBT001
) -> None:  # fmt: skip
    """With exact fractions: net or gross is rounded once, and the sums agree; a refund is the opposite."""
    try:
        found = fee(*rates, quantity=quantity, included=included, taxes=taxes, share=share)
    except Unpayable:
        return
    net, parts, gross = comes_to(found)
    exact = sum(map(Fraction, rates), Fraction()) * quantity * Fraction(*(share or (1, 1))) * MICRO
    assert (gross if included else net) == half_up(exact)
    percents = [Fraction(percent) / 100 for _, percent in taxes]
    if included:
        assert net == half_up(half_up(exact) / (1 + sum(percents, Fraction())))
        assert parts[:-1] == [half_up(net * percent) for percent in percents[:-1]]
    else:
        assert parts == [half_up(net * percent) for percent in percents]
    assert found is not None
    one = found.charged
    back = negated(one)
    assert (back.net, back.amount) == (-one.net, -one.amount)
    # The counters of charge on event keep net and amount: the rest follows from them.
    assert charged_of(one.net, one.amount, taxes) == one
