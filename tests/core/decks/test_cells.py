"""What a cell of a deck means: codes, prices, dates, increments; and what may mean two things is refused."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.decks.cells import Cell, codes_of, increment_of, is_nothing, price_of, text_of, when_of
from rater.core.decks.profile import DateOrder

CODES: list[tuple[Cell, list[str]]] = [
    ("380", ["380"]),
    (380.0, ["380"]),
    ("+380", ["380"]),
    ("00380", ["380"]),
    ("00 380", ["380"]),
    ("+380 44", ["38044"]),
    ("1 242", ["1242"]),
    (" 44 7, 44 8 ", ["447", "448"]),
    ("447;448/449\n4470", ["447", "448", "449", "4470"]),
    ("1242-1246", ["1242", "1243", "1244", "1245", "1246"]),
    ("1242 \u2013 1244", ["1242", "1243", "1244"]),
    ("+1242-+1243", ["1242", "1243"]),
    ("1242-1243, 1250", ["1242", "1243", "1250"]),
    ("380, 38044", ["380", "38044"]),
    ("447, 44", ["447", "44"]),
    ("380,", ["380"]),
    (999999999999999.0, ["999999999999999"]),
    ("\uff13\uff18\uff10", ["380"]),
    ("\u0663\u0668\u0660", ["380"]),
    ("44\u00a020", ["4420"]),
    ("1242\u200b", ["1242"]),
    ("380, 381", ["380", "381"]),
    ("44 20", ["4420"]),
]


@pytest.mark.parametrize(("cell", "codes"), CODES)
def test_codes(cell: Cell, codes: list[str]) -> None:
    """Codes come as numbers, with + and 00, blanks, in lists and ranges."""
    assert codes_of(cell) == codes


AREAS: list[tuple[Cell, list[str]]] = [
    (44.0, ["38044"]),
    ("06", ["38006"]),
    ("20-23", ["38020", "38021", "38022", "38023"]),
    ("09-11", ["38009", "38010", "38011"]),
    ("2-8, 95", ["3802", "3803", "3804", "3805", "3806", "3807", "3808", "38095"]),
    ("7 911", ["3807911"]),
    ("242,246", ["380242", "380246"]),
]


@pytest.mark.parametrize(("cell", "codes"), AREAS)
def test_area_codes(cell: Cell, codes: list[str]) -> None:
    """An area code is put behind its country's; zeros in front belong to it, as in Italy."""
    assert codes_of(cell, "380") == codes


NO_CODES: list[tuple[Cell, str]] = [
    ("7-8", "a range or one code"),
    ("44-77", "a range or one code"),
    ("44-49", "a range or one code"),
    ("380-480", "a range or one code"),
    ("44-20", "a range or one code"),
    ("1242-46", "a range or one code"),
    ("1-242", "a range or one code"),
    ("1246-1242", "backwards"),
    ("1000000-1999999", "more than 10000"),
    ("447,8,9", "write each code in full"),
    ("447 448", "one code or several"),
    ("7911 7912", "one code or several"),
    ("44 7 44 8", "one code or several"),
    ("44 49 33", "one code or several"),
    ("1,242", "marks of thousands; write the list as 1, 242"),
    ("380,442", "marks of thousands"),
    ("44,207,123", "marks of thousands"),
    ("0380", "begins with 0"),
    ("0", "begins with 0"),
    ("00", "begins with 0"),
    ("3.80E+11", "no exponent"),
    ("380.0", "write digits"),
    ("38O", "write digits"),
    ("380-", "write digits"),
    (",", "no code"),
    ("1234567890123456", "more than 15"),
    (380.5, "a fraction"),
    (2.0**53, "digits are lost"),
    (-380.0, "digits are lost"),
    (float("inf"), "a fraction"),
    (True, "format the column as text"),
    (date(2026, 1, 1), "format the column as text"),
    (timedelta(1), "format the column as text"),
]


@pytest.mark.parametrize(("cell", "problem"), NO_CODES)
def test_what_is_no_code(cell: Cell, problem: str) -> None:
    """What may be two things is refused, not guessed; so are digits that a float has lost."""
    with pytest.raises(ValueError, match=problem):
        codes_of(cell)


@pytest.mark.parametrize("cell", ["20 21", "1,684", "20,121"])
def test_what_is_no_area_code(cell: str) -> None:
    """Areas side by side are a list to people and no code; so is 1684 as a workbook shows it."""
    with pytest.raises(ValueError, match=r"several|thousands"):
        codes_of(cell, "44")


def test_a_list_means_so_many_codes_at_most() -> None:
    """Ranges of a list count together."""
    with pytest.raises(ValueError, match="in several rows"):
        codes_of("10000-19999,110000-119998")


PRICES: list[tuple[Cell, str | None, int]] = [
    (0.1, None, 1_000_000_000),
    (7.0000000000000007e-2, None, 700_000_000),
    (1e-10, None, 1),
    (2.5e-05, None, 250_000),
    (1.0, None, 10_000_000_000),
    (0.0, None, 0),
    ("0.0123", None, 123_000_000),
    (".05", None, 500_000_000),
    ("0,0123", None, 123_000_000),
    ("0,123", None, 1_230_000_000),
    ("1,2345", None, 12_345_000_000),
    ("1,5", None, 15_000_000_000),
    ("$0.05", None, 500_000_000),
    ("US$ 0.05", None, 500_000_000),
    ("0.05 USD", None, 500_000_000),
    ("usd0.05", None, 500_000_000),
    ("-0.05", None, -500_000_000),
    ("\u22120.05", None, -500_000_000),
    ("$-0.05", None, -500_000_000),
    ("+0.05", None, 500_000_000),
    ("1.234", ",", 12_340_000_000_000),
    ("1,234", ",", 12_340_000_000),
    ("1,234", ".", 12_340_000_000_000),
    ("1.234,56", ",", 12_345_600_000_000),
    ("1.234,56", None, 12_345_600_000_000),
    ("1,234.56", None, 12_345_600_000_000),
    ("1.234", None, 12_340_000_000),
    ("1 234.5", None, 12_345_000_000_000),
    ("1'234.5", None, 12_345_000_000_000),
    ("12", ",", 120_000_000_000),
    ("1\u00a0234,5", None, 12_345_000_000_000),
    ("0,05\u00a0$", None, 500_000_000),
    ("\u0660.\u0665", None, 5_000_000_000),
    (0.1 + 0.2, None, 3_000_000_000),
    (0.0105 * 1.1, None, 115_500_000),
    (1234567.0123456789, None, 12_345_670_123_456_789),
    ("0.0500000000000", None, 500_000_000),
]


@pytest.mark.parametrize(("cell", "mark", "price"), PRICES)
def test_prices(cell: Cell, mark: str | None, price: int) -> None:
    """A price is exact, whatever marks, signs and floats it is written with."""
    assert price_of(cell, "USD", mark) == price


NO_PRICES: list[tuple[Cell, str | None, str]] = [
    (1 / 3, None, "more than 10 decimals"),
    (1e-11, None, "more than 10 decimals"),
    (1e300, None, "."),
    (float("nan"), None, "."),
    ("1,234", None, "comma a decimal mark"),
    ("0,05", ".", "decimal mark '.'"),
    ("0.05", ",", "decimal mark ','"),
    ("0,0,5", None, "decimal mark"),
    ("1.2.3", None, "decimal mark"),
    ("0.05 EUR", None, "the table is in USD"),
    ("€0.05", None, "the table is in USD"),
    ("0.05 per min", None, "beside the number"),
    ("5%", None, "beside the number"),
    ("(0.05)", None, "beside the number"),
    ("1e-3", None, "not a price"),
    ("#N/A", None, "not a price"),
    ("call us", None, "not a price"),
    ("0.00000000001", None, "more than 10 decimals"),
    ("1000000000", None, "out of range"),
    (True, None, "format the column"),
    (date(2026, 1, 1), None, "format the column"),
    (time(1), None, "format the column"),
]


@pytest.mark.parametrize(("cell", "mark", "problem"), NO_PRICES)
def test_what_is_no_price(cell: Cell, mark: str | None, problem: str) -> None:
    """Another currency, an ambiguous comma, a float that no one has typed: refused."""
    with pytest.raises(ValueError, match=problem):
        price_of(cell, "USD", mark)


@given(st.integers(0, 10**14), st.sampled_from([None, ".", ","]))
def test_a_price_of_a_workbook_is_the_decimal_that_was_typed(units: int, mark: str | None) -> None:
    """Up to 15 digits a decimal goes through a float and comes back; so it does as text."""
    text = f"{units // 10**10}.{units % 10**10:010}"
    assert price_of(float(text), None, mark) == units
    assert price_of(text.replace(".", mark or "."), None, mark) == units


WHENS: list[tuple[Cell, DateOrder | None, str]] = [
    (date(2026, 12, 1), None, "2026-12-01"),
    (datetime(2026, 12, 1), None, "2026-12-01"),  # noqa: DTZ001 - as a workbook has it
    ("2026-12-01", None, "2026-12-01"),
    ("2026-12-01 00:00:00", None, "2026-12-01"),
    ("2026-12-01T05:00:00+02:00", None, "2026-12-01T05:00:00+02:00"),
    ("2026/12/01", "dmy", "2026-12-01"),
    ("20261201", None, "2026-12-01"),
    (20261201.0, None, "2026-12-01"),
    ("01/12/2026", "dmy", "2026-12-01"),
    ("01/12/2026", "mdy", "2026-01-12"),
    ("01.12.26", "dmy", "2026-12-01"),
    ("26-12-01", "ymd", "2026-12-01"),
    ("13/12/2026", None, "2026-12-13"),
    ("12/13/2026", None, "2026-12-13"),
    ("12/12/2026", None, "2026-12-12"),
    ("1-Dec-2026", None, "2026-12-01"),
    ("01 December 2026", None, "2026-12-01"),
    ("Dec 1, 2026", None, "2026-12-01"),
    ("01-Dec-26", None, "2026-12-01"),
    ("1 Sept 2026", None, "2026-09-01"),
    ("May 1, 2026", None, "2026-05-01"),
]


@pytest.mark.parametrize(("cell", "order", "when"), WHENS)
def test_dates(cell: Cell, order: DateOrder | None, when: str) -> None:
    """Dates of workbooks, of ISO, with the month's name, and in the profile's order."""
    assert when_of(cell, order) == when


NO_WHENS: list[tuple[Cell, DateOrder | None, str]] = [
    ("01/12/2026", None, "which is the day"),
    ("01.12.26", None, "which of its numbers is the year"),
    ("13/12/2026", "mdy", "no such date"),
    ("2026-02-30", None, "no such date"),
    ("31/02/2026", "dmy", "no such date"),
    ("01 Mai 2026", None, "not a date"),
    ("1. marraskuu 2026", None, "not a date"),
    ("1 marzo 2026", None, "not a date"),
    ("immediately", None, "not a date"),
    (46357.0, None, "a number"),
    (datetime(2026, 12, 1, 5), None, "without offset"),  # noqa: DTZ001 - as a workbook has it
    (True, None, "a number"),
]


@pytest.mark.parametrize(("cell", "order", "problem"), NO_WHENS)
def test_what_is_no_date(cell: Cell, order: DateOrder | None, problem: str) -> None:
    """Day and month that may be exchanged are refused, not guessed."""
    with pytest.raises(ValueError, match=problem):
        when_of(cell, order)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("60/1", (60, 1)),
        ("1/1", (1, 1)),
        ("30 / 6", (30, 6)),
        ("60+1", (60, 1)),
        ("60\u201360", (60, 60)),
        ("6", (6, 6)),
        (6.0, (6, 6)),
        ("60 sec", (60, 60)),
    ],
)
def test_increments(cell: Cell, seconds: tuple[int, int]) -> None:
    """An increment is minimal time and interval; of one number both."""
    assert increment_of(cell) == seconds


@pytest.mark.parametrize(
    "cell", ["60/0", "0", "1 min", "60/1/1", "", "a/b", 1.5, date(2026, 1, 1), True, "-6", "1e3"]
)
def test_what_is_no_increment(cell: Cell) -> None:
    """`1/1` that a workbook made a date of is refused, so is an interval of 0."""
    with pytest.raises(ValueError, match=r"increment|interval"):
        increment_of(cell)


def test_texts_of_numbers_have_no_exponent() -> None:
    """A cell is shown by the digits that mean it."""
    assert [text_of(cell) for cell in (380.0, 1e-05, 0.1, True, " x ")] == [
        "380",
        "0.00001",
        "0.1",
        "TRUE",
        "x",
    ]


def test_what_says_nothing() -> None:
    """Dashes and n/a are nothing; a zero is something."""
    assert all(is_nothing(cell) for cell in ("", " ", "-", "\u2014", "N/A", "none"))
    assert not any(is_nothing(cell) for cell in ("0", 0.0, "x", False))
