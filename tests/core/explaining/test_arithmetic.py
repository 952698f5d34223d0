"""The arithmetic of transactions beside what is published of them: what the golden cases do not have."""

from __future__ import annotations

from fractions import Fraction

from rater.core.catalog.specs import BUILT_IN
from rater.core.explaining.arithmetic import arithmetic, decimal_of

SERVICES = {service.name: service for service in BUILT_IN}
RATE = {
    "currency": "USD", "price": "0.0001", "setup_fee": "0", "min_time": 0, "interval": 1, "grace_time": 0,
}  # fmt: skip
USAGE = {
    "type": "usage", "id": "s/c/orig", "service": "calls", "side": "orig", "outcome": "rated",
    "duration_ms": 1000, "rate": RATE, "billed": 1, "setup_fee": "0", "draws": [], "amount": "-0.000002",
    "currency": "USD",
}  # fmt: skip


def test_a_cost_below_a_millionth_of_the_limits_currency_is_covered() -> None:
    """No draw is shown, the amount is 0 (RULES.md 2.2); an amount of 0 for more than that is a fault."""
    worked = arithmetic(USAGE, SERVICES)
    assert worked.micros == -2
    assert worked.lines[-1] == "amount: -0.000002 USD"
    worked = arithmetic({**USAGE, "amount": "0"}, SERVICES)
    assert worked.micros == 0
    assert "0.000002 USD are less than half a millionth in the currency of a money limit" in worked.lines[-2]
    dear = {**USAGE, "rate": {**RATE, "price": "60"}, "amount": "0"}
    assert arithmetic(dear, SERVICES).micros == -1_000_000


def test_exact_numbers_are_shown_whole_or_cut_with_a_mark() -> None:
    """Twelve decimals at most, and no float."""
    for number, text in (
        (Fraction(1, 3), "0.333333333333…"), (Fraction(-1, 8), "-0.125"), (Fraction(5), "5"),
        (Fraction(0), "0"),
        (Fraction(1, 10**12), "0.000000000001"), (Fraction(-7, 10**13), "-0.000000000000…"),
    ):  # fmt: skip
        assert decimal_of(number) == text
