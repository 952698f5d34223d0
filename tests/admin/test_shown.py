"""Values as pages show them."""

from __future__ import annotations

import pytest

from rater.admin.shown import MINUS, decimal_money, local, money, query, rfc_ms, volume


@pytest.mark.parametrize(
    ("micros", "currency", "text"),
    [
        (0, "USD", "0.00\u00a0USD"),
        (5_000_000, "USD", "5.00\u00a0USD"),
        (-4_213, "USD", f"{MINUS}0.004213\u00a0USD"),
        (1_234_567_500_000, "EUR", "1,234,567.50\u00a0EUR"),
        (100_000_000, "JPY", "100\u00a0JPY"),
        (100_500_000, "JPY", "100.5\u00a0JPY"),
        (1_000_000, "KWD", "1.000\u00a0KWD"),
        ("-12.5", None, f"{MINUS}12.50"),
        (None, "USD", ""),
    ],
)
def test_money_has_the_digits_of_its_currency(
    micros: int | str | None, currency: str | None, text: str
) -> None:
    """No digit is lost: what an amount has beyond its currency's digits is shown."""
    assert money(micros, currency) == text


def test_prices_keep_all_their_decimals() -> None:
    """Rates of packages have up to ten."""
    assert decimal_money("0.0000000001", "USD") == "0.0000000001\u00a0USD"
    assert decimal_money("-1234", "USD") == f"{MINUS}1,234.00\u00a0USD"


def test_volumes_are_in_price_units() -> None:
    """Seconds as minutes, KiB as MB, pieces as they are."""
    assert [volume(6000, "second"), volume(5405, "second"), volume(7, "second")] == ["100", "90:05", "0:07"]
    assert [volume(2048, "KiB"), volume(1536, "KiB"), volume(1500, "piece")] == ["2", "1.50", "1,500"]


def test_local_times() -> None:
    """An instant at the client, and in UTC."""
    at_ms = rfc_ms("2026-12-01T00:00:00.000Z")
    assert local(at_ms) == "2026-12-01 00:00"
    assert local(at_ms, "Europe/Kyiv") == "2026-12-01 02:00"
    assert local(None) == ""


def test_queries_leave_out_what_is_empty() -> None:
    """Filters stand in the URL, escaped."""
    values = {"client": "a&b=<c>", "account": "", "status": ["pending", "active"], "flag": True, "none": None}
    assert query(values) == "?client=a%26b%3D%3Cc%3E&status=pending&status=active&flag=1"
    assert query({}) == ""
