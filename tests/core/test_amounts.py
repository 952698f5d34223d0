"""Exact numbers."""

from hypothesis import given
from hypothesis import strategies as st

from rater.core.amounts import form, format_e10, format_micros, half_up, parse_e10, parse_micros


@given(st.integers(-(2**53), 2**53))
def test_micros_round_trip(value: int) -> None:
    """An amount written and read again is the same amount."""
    assert parse_micros(format_micros(value)) == value


@given(st.integers(-(10**25), 10**25))
def test_prices_round_trip(value: int) -> None:
    """A price written and read again is the same price."""
    assert parse_e10(format_e10(value)) == value


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**30))
def test_half_up_is_by_magnitude(n: int, d: int) -> None:
    """A reversal is the exact negation, and the error of rounding is at most a half."""
    assert half_up(-n, d) == -half_up(n, d)
    assert abs(2 * (half_up(n, d) * d - n)) <= d


def test_half_rounds_away_from_zero() -> None:
    """0.0000005 of a currency is one micro, with either sign (RULES.md 7, example 13)."""
    assert half_up(1, 2) == 1
    assert half_up(-1, 2) == -1


@given(
    st.integers(-(10**20), 10**20),
    st.integers(-(10**20), 10**20),
    st.integers(1, 10**20),
    st.integers(0, 10**9),
)
def test_a_reduced_form_has_the_same_values(a: int, s: int, d: int, x: int) -> None:
    """Reducing a form by the common divisor changes no value."""
    assert form(a, s, d).at(x) == half_up(a * x + s, d)
