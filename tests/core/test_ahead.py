"""What a package would come to: its next periods, and the codes that its limits catch."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from rater.core.amounts import format_micros
from rater.core.catalog.codes import Row
from rater.core.catalog.specs import (
    Content,
    DeckSpec,
    DiscountSpec,
    FeeSpec,
    LimitSpec,
    PackageSpec,
    RateTableSpec,
)
from rater.core.instants import rfc3339
from rater.core.trial.ahead import PERIODS, caught, periods_ahead

AT_MS = 1_795_996_800_000  # 2026-11-30T00:00:00Z
PACKAGE = PackageSpec(
    "1", "Kiev 100", "customer", "USD", period="1 month",
    fees=[FeeSpec("activation", "Set-up", "2"), FeeSpec("subscription", "Monthly", "5")],
    discounts=[DiscountSpec(3, "1.50")],
)  # fmt: skip
CONTENT = Content(base="USD")


def told(spec: PackageSpec, content: Content = CONTENT, **more: Any) -> list[tuple[str, list[str]]]:
    """Return start and fees of each period."""
    found = periods_ahead(content, spec, AT_MS, **more)
    assert found.refused is None
    return [
        (rfc3339(one.start_ms)[:10], [format_micros(fee.amount) for fee in one.fees]) for one in found.periods
    ]


def test_six_periods_are_charged_as_they_open() -> None:
    """Activation once, the discount from its activation on, months of the calendar."""
    assert told(PACKAGE) == [
        ("2026-11-30", ["-2", "-5"]), ("2026-12-30", ["-5"]), ("2027-01-30", ["-3.5"]),
        ("2027-02-28", ["-3.5"]), ("2027-03-30", ["-3.5"]), ("2027-04-30", ["-3.5"]),
    ]  # fmt: skip


def test_an_end_date_ends_them() -> None:
    """No period runs past the end of a temporary package."""
    assert len(told(replace(PACKAGE, end_date="2027-01-10"))) == 2
    once = replace(PACKAGE, period=None, discounts=[])
    assert told(once) == [("2026-11-30", ["-2", "-5"])]


def test_an_aligned_package_begins_with_a_part() -> None:
    """Aligned to terms of its own period from the first of the month: one day of thirty is charged first."""
    found = periods_ahead(CONTENT, replace(PACKAGE, align_to_payment_terms=True), AT_MS)
    assert found.terms == "1 month from 2026-11-01"
    assert found.periods[0].share == (86_400, 30 * 86_400)
    assert [format_micros(fee.amount) for fee in found.periods[0].fees] == ["-0.066667", "-0.166667"]
    assert len(found.periods) == PERIODS


def test_a_fee_of_the_first_call_is_not_among_them() -> None:
    """Charge on event: without a call a period costs nothing."""
    found = periods_ahead(CONTENT, replace(PACKAGE, charge_on_event=True), AT_MS)
    assert found.by_event
    assert [len(one.fees) for one in found.periods] == [1, 0, 0, 0, 0, 0]


def test_what_cannot_be_assigned_says_why() -> None:
    """A package that has ended."""
    found = periods_ahead(CONTENT, replace(PACKAGE, end_date="2026-01-01"), AT_MS)
    assert found.periods == []
    assert "end date" in str(found.refused)


RATES = Content(
    base="USD",
    decks={"a-z": DeckSpec("a-z", {"380": "Ukraine", "38044": "Ukraine Kiev"})},
    rate_tables={
        "retail": RateTableSpec(
            "retail", "USD", "a-z", [Row(code, 1) for code in ("380", "38044", "38050", "1212")]
        )
    },
)


@pytest.mark.parametrize(
    ("limit", "codes", "warning"),
    [
        ({"code": "380*"}, 3, None),
        ({"code": "*"}, 4, None),
        ({"code": "380"}, 1, "without a star it catches exactly one code, 380, and not the 2 longer ones"),
        ({"code": "38044"}, 1, "without a star it catches exactly one code, 38044; 38044* catches all"),
        ({"code": "3804412*"}, 0, "finer than any rate: calls there are rated by 38044"),
        ({"code": "49*"}, 0, "no rate table has such a code"),
        ({"code_deck": "a-z", "code_name": "ukraine kiev"}, 1, None),
        ({"code_deck": "a-z", "code_name": "Mars"}, 0, "no rate bears this name"),
    ],
)
def test_what_a_limit_catches(limit: dict[str, Any], codes: int, warning: str | None) -> None:
    """Codes of the rate tables, and a sentence where that is not what one would expect."""
    (found,) = caught(RATES, [LimitSpec("m1", "volume", "calls", 60, **limit)])
    assert found.codes == codes
    assert (found.warning is None) == (warning is None)
    assert warning is None or warning in str(found.warning)
