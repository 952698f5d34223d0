"""A deck's rows: the header found by the trade's words, what is skipped and told, and every fault's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace

from rater.core.catalog_files.fields import Fault
from rater.core.decks.cells import Cell
from rater.core.decks.headers import Header, find_header
from rater.core.decks.profile import Profile
from rater.core.decks.reading import RateDeck, Sheet, read_deck
from rater.core.decks.words import Unit, field_of, status_of
from rater.core.periods import when_ms, zone_of

Rows = Sequence[Sequence[Cell]]


def read(rows: Rows, *, name: str = "Rates", zeros: Mapping[int, str] | None = None, **profile: Any) -> Any:
    """Return what is read of these rows: a deck, or faults."""
    sheet = Sheet("acme.xlsx", name, enumerate(rows, 1), zeros or {})
    return read_deck(sheet, Profile(**profile), "USD", None)


def deck(rows: Rows, **profile: Any) -> RateDeck:
    """Return a deck that has no faults."""
    found = read(rows, **profile)
    assert isinstance(found, RateDeck), [str(fault) for fault in found]
    return found


def told(found: RateDeck | list[Fault]) -> list[str]:
    """Return the faults as they are told."""
    assert isinstance(found, list)
    return [str(fault) for fault in found]


def day(text: str, zone: str = "UTC") -> int:
    """Return the instant of a date."""
    return when_ms(text, zone_of(zone))


TITLES = [
    ("Prefix", "code"), ("Dial Code", "code"), ("DIAL CODES", "code"), ("Destination Code", "code"),
    ("Breakout", "code"), ("Vorwahl", "code"), ("Country Code", "country_code"), ("CC", "country_code"),
    ("Area Code", "area_code"), ("City codes", "area_code"), ("Destination", "name"), ("Zone name", "name"),
    ("Country", "country"), ("Rate", "price"), ("Rate (USD/min)", "price"), ("Price/min", "price"),
    ("New Rate", "price"), ("Price per Minute, EUR", "price"), ("$/min", "price"), ("US$ per min", "price"),
    ("Old rate", "old price"), ("Current Rate", "old price"), ("Preis", "price"),
    ("Connection Fee", "setup_fee"), ("Setup fee", "setup_fee"), ("Price per call", "setup_fee"),
    ("Charge/call", "setup_fee"), ("Call rate", "price"), ("Rate per call minute", "price"),
    ("Billing Increment", "increment"), ("Increments (sec)", "increment"),
    ("Initial Increment", "min_time"), ("1st Interval", "min_time"), ("Next Interval", "interval"),
    ("Effective Date", "effective_from"), ("Valid from", "effective_from"),
    ("effective_date", "effective_from"),
    ("End Date", "effective_to"), ("Status", "status"), ("Rate Change", "status"), ("Currency", "currency"),
    ("Comment", None), ("Rate Type", None), ("Peak Rate", None), ("Rate ID", None), ("Effective Rate", None),
    ("", None), ("ACME rates effective 1 December", None), ("Route class", None), ("USD", None),
]  # fmt: skip


@pytest.mark.parametrize(("title", "name"), TITLES)
def test_titles(title: str, name: str | None) -> None:
    """The trade's words for a column, in any case and with the unit behind."""
    assert field_of(title) == name


@pytest.mark.parametrize(
    "title", ["Rate per second", "Price/sec", "Rate (cents)", "\u00a2/min", "Rate, pence"]
)
def test_prices_of_other_units_are_refused(title: str) -> None:
    """A price of a second or in cents would be taken for one of a minute: it is refused by a sentence."""
    with pytest.raises(Unit, match=r"second|cents"):
        field_of(title)


def header(rows: Rows, given: Mapping[str, str] | None = None) -> Header:
    """Return the header that is found."""
    return find_header(enumerate(rows, 1), given or {})


def test_the_header_stands_below_the_letter() -> None:
    """Rows before the header are the carrier's letter; columns that mean nothing are told."""
    found = header([["ACME"], [], ["Code", "Our Comment", "Destination", "Rate"]])
    assert (found.row, found.columns) == (3, {"code": 0, "name": 2, "price": 3})
    assert found.unread == ["Our Comment"]


@pytest.mark.parametrize(
    ("titles", "columns"),
    [
        (["Code", "Old Rate", "New Rate"], {"code": 0, "price": 2}),
        (["Code", "Current Rate"], {"code": 0, "price": 1}),
        (["Country", "Destination", "Code", "Rate"], {"name": 1, "code": 2, "price": 3}),
        (["Country", "Code", "Rate"], {"name": 0, "code": 1, "price": 2}),
        (["Country Code", "Rate"], {"country_code": 0, "price": 1}),
        (["Country Code", "Area Code", "Rate"], {"country_code": 0, "area_code": 1, "price": 2}),
    ],
)
def test_which_of_several_columns_counts(titles: list[str], columns: dict[str, int]) -> None:
    """A new rate before an old one, a destination before a country."""
    assert header([titles]).columns == columns


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        ([["Code", "Rate", "Price"]], {}, "both B 'Rate' and C 'Price' may be the price"),
        ([["Code", "Prefix", "Rate"]], {}, "may be the code; say which: --columns code=A"),
        ([["Area Code", "Rate"]], {}, "no header row with a code and a price"),
        ([["Code", "Peak Rate", "Off-Peak Rate"]], {}, "nearest is row 1: code"),
        ([["Code", "Rate per second"]], {}, "price of a second"),
        ([["380", "0.1"]], {}, "--columns code=A,price=D"),
        ([["Code", "Rate"]], {"price": "Cost to you"}, "'cost to you'"),
        ([], {}, "no header row"),
    ],
)
def test_no_header_or_two_is_a_sentence(rows: Rows, given: dict[str, str], said: str) -> None:
    """What is nearest to a header is named, and how to say it."""
    with pytest.raises(ValueError, match="row") as caught:
        header(rows, given)
    assert said in str(caught.value)


def test_columns_by_word_and_letter() -> None:
    """Given columns count before the words; a field that is given empty is not read."""
    found = header(
        [["Where", "Code", "Rate", "Price", "Status"]], {"code": "Where", "price": "D", "status": ""}
    )
    assert found.columns == {"code": 0, "price": 3}
    assert header([["380", "x", "0.1"]], {"code": "A", "price": "C"}) == Header(
        0, {"code": 0, "price": 2}, {}, []
    )


def test_a_deck_with_letter_and_legend() -> None:
    """Codes in two columns, ranges, a status, dates: each code is a row; text below is told, not lost."""
    found = deck(
        [
            ["ACME Telecom"],
            ["", ""],
            ["Country Code", "Area Code", "Destination", "Rate", "Increment", "Effective Date", "Status"],
            [44.0, "20, 30-31", " UK  London ", 0.0123, "60/1", date(2026, 12, 1), "Increase"],
            [39.0, "06", "Italy Rome", 0.01, "1/1", date(2026, 11, 1), "No change"],
            ["", "", "", "", "", "", ""],
            ["Country Code", "Area Code", "Destination", "Rate", "Increment", "Effective Date", "Status"],
            [380.0, "", "Ukraine", "", "", date(2026, 12, 1), "Closed"],
            ["Prices exclude VAT."],
        ],
        zone="Europe/Kyiv",
    )
    december, november = day("2026-12-01", "Europe/Kyiv"), day("2026-11-01", "Europe/Kyiv")
    assert [
        (row.code, row.price_e10, row.min_time, row.interval, row.from_ms, row.status) for row in found.rows
    ] == [
        ("380", None, None, None, december, "closed"),
        ("3906", 100_000_000, 1, 1, november, "unchanged"),
        ("4420", 123_000_000, 60, 1, december, "increase"),
        ("4430", 123_000_000, 60, 1, december, "increase"),
        ("4431", 123_000_000, 60, 1, december, "increase"),
    ]
    assert found.rows[2].name == "UK  London"
    assert found.place(found.rows[2].row) == "Rates!A4"
    assert found.notes == ["rows without code and price, taken for text: Prices exclude VAT."]


def test_what_a_deck_does_not_say_is_not_said() -> None:
    """Without columns for fee, increment and date the rows say nothing of them; an empty fee is none."""
    (row,) = deck([["Code", "Rate"], ["380", "0.1"]]).rows
    assert (row.setup_fee_e10, row.min_time, row.interval, row.from_ms, row.to_ms) == (None,) * 5
    (row,) = deck([["Code", "Rate", "Connection fee"], ["380", "0.1", ""]]).rows
    assert row.setup_fee_e10 == 0


def test_a_row_means_the_same_beside_others() -> None:
    """Each value is read once: a row beside others, with equal and alike cells, is what it is alone."""
    head = ("Code", "Rate", "Setup Fee", "Increment", "Effective Date", "Effective To", "Status")
    values: list[Sequence[Cell]] = [
        (0.1, 0.0, "60/1", "2026-12-01", "", "new"), ("0.1", "0", 60.0, date(2026, 12, 1), "", "New"),
        (1.0, "1.0", "1", "2026-12-01", "2026-12-31", ""), ("1", 1.0, 1.0, "", "9999-12-31", "increase"),
        ("", "", "", "", "2026-12-31", "closed"), (0.1, "0.1", "60/60", "2027-01-01", "", "blocked"),
    ]  # fmt: skip
    rows = [(str(44_000 + n), *values[n * 5 % len(values)]) for n in range(30)]
    together = deck([head, *rows]).rows
    alone = [replace(row, row=n) for n, one in enumerate(rows, 2) for row in deck([head, one]).rows]
    assert together == alone
    assert len(together) == len(rows)


def test_two_columns_of_increments() -> None:
    """First and next interval may have a column each."""
    (row,) = deck([["Code", "Rate", "First Interval", "Next Interval"], ["380", "0.1", "30", 6.0]]).rows
    assert (row.min_time, row.interval) == (30, 6)


HEAD = ["Code", "Destination", "Rate", "Effective Date", "Status"]
FAULTS: list[tuple[Sequence[Cell], str]] = [
    (["38O", "x", "0.1"], "acme.xlsx: Rates!A2: 38O: not a code; write digits"),
    (["", "x", "0.1"], "Rates!A2: no code"),
    (["380", "x", ""], "Rates!C2: no price; give it, or a status such as closed"),
    (["380", "x", "n/a"], "Rates!C2: n/a: no price"),
    (["380", "x", "0.1", "01/12/2026"], "Rates!D2: 01/12/2026: which is the day"),
    (["380", "x", "0.1", "", "Reviewed"], "Rates!E2: Reviewed: no status that is known"),
    (["380", "x", "0.1", "", "D"], "Rates!E2: D: no status that is known"),
    (["380", "x", "0.1 EUR"], "Rates!C2: 0.1 EUR: has 'EUR' beside the number"),
    (["380", "x\x07y", "0.1"], "Rates!B2: x\\x07y: has control characters"),
    (["380", "x" * 1001, "0.1"], "Rates!B2"),
    ([380.5, "x", "0.1"], "Rates!A2: 380.5: not a code: a number with a fraction"),
    (["380", "x", "#N/A"], "Rates!C2: #N/A: not a price"),
    (["380", "x", "0.1", "9999-01-01"], "Rates!D2: 9999-01-01: out of range"),
]


@pytest.mark.parametrize(("cells", "said"), FAULTS)
def test_faults_name_sheet_row_and_value(cells: Sequence[Cell], said: str) -> None:
    """Each cell that cannot be read is one fault with its place."""
    (fault,) = told(read([HEAD, cells, ["381", "y", "0.1"]]))
    assert said in fault


def test_all_faults_are_told_and_of_a_text_the_line() -> None:
    """One run names them all; in a text by line and title."""
    found = told(read([HEAD, ["38x", "x", "abc"], ["381", "y", "0.1", "soon"]], name=""))
    assert [fault.partition(": ")[2].partition(": ")[0] for fault in found] == [
        "line 2, Code", "line 2, Rate", "line 3, Effective Date",
    ]  # fmt: skip


def test_a_code_twice() -> None:
    """Rows that say the same are one; those that say something else are refused, ranges included."""
    assert len(deck([HEAD, ["380", "x", "0.1"], ["380", "y", "0.10"]]).rows) == 1
    (fault,) = told(read([HEAD, ["1242-1246", "x", "0.1"], ["1244", "y", "0.2"]]))
    assert "Rates!A3: 1244: Rates!A2 says something else of this code" in fault
    assert len(deck([HEAD, ["380", "x", "0.1", "2026-11-01"], ["380", "x", "0.2", "2026-12-01"]]).rows) == 2


def test_country_and_code_that_do_not_fit() -> None:
    """A code that does not begin with the country code beside it may be an area: refused, with a way out."""
    rows: Rows = [["Country Code", "Code", "Rate"], ["380", "44", "0.1"]]
    (fault,) = told(read(rows))
    assert "does not begin with the country code 380" in fault
    columns = {"country_code": "Country Code", "area_code": "Code", "code": ""}
    assert [row.code for row in deck(rows, columns=columns).rows] == ["38044"]
    assert [row.code for row in deck([rows[0], ["380", "38044", "0.1"]]).rows] == ["38044"]


def test_zeros_that_a_format_shows() -> None:
    """Zeros in front that are no part of the number: told of whole codes, refused of area codes."""
    found = read([["Code", "Rate"], [380.0, "0.1"]], zeros={0: "00000"})
    assert isinstance(found, RateDeck)
    assert "shown with zeros in front (format 00000)" in found.notes[0]
    faults = told(read([["Country Code", "Area Code", "Rate"], [39.0, 6.0, "0.1"]], zeros={1: "00"}))
    assert "Rates!B1: Area Code: numbers that are shown with zeros in front (format 00)" in faults[0]


def test_a_date_above_the_rows_is_not_passed_over() -> None:
    """Where no column tells from when the deck holds, a line above that does stops the import."""
    rows: Rows = [["Rates effective: 1 December 2026"], ["Code", "Rate"], ["380", "0.1"]]
    (fault,) = told(read(rows))
    assert fault.startswith(
        "acme.xlsx: Rates!A1: Rates effective: 1 December 2026: tells from when the deck holds"
    )
    sheet = Sheet("acme.xlsx", "Rates", enumerate(rows, 1))
    found = read_deck(sheet, Profile(), "USD", day("2026-12-01"))
    assert isinstance(found, RateDeck)
    assert [row.from_ms for row in found.rows] == [day("2026-12-01")]


def test_the_currency_column_is_the_tables() -> None:
    """A row of another currency is refused."""
    (fault,) = told(read([["Code", "Rate", "Currency"], ["380", "0.1", "usd"], ["381", "0.1", "EUR"]]))
    assert "Rates!C3: EUR: the table is in USD" in fault


@pytest.mark.parametrize("title", ["Rate EUR", "Price (EUR/min)", "\u20ac per min", "\u00a3/min"])
def test_a_title_in_another_currency(title: str) -> None:
    """A price column that names another currency than the table's is refused."""
    (fault,) = told(read([["Code", title], ["380", "0.1"]]))
    assert f"Rates!B1: {title}: is in " in fault
    assert "the table is in USD" in fault
    assert len(deck([["Code", "Rate US$"], ["380", "0.1"]]).rows) == 1


@pytest.mark.parametrize(
    ("title", "said"), [("Rate (cents/min)", "is a price in cents"), ("Price/sec", "the price of a second")]
)
def test_the_unit_of_a_column_that_was_named(title: str, said: str) -> None:
    """Who names a column has not said that its prices are of another unit."""
    for column in (title, "B"):
        (fault,) = told(read([["Code", title], ["380", "5"]], columns={"price": column}))
        assert said in fault
    rows: Rows = [["Code", "Rate, billing per second, USD/min"], ["380", "5"]]
    assert len(deck(rows, columns={"price": "B"}).rows) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["All prices in EUR"], "tells of prices in EUR"),
        (["Currency:", "GBP"], "tells of prices in GBP"),
        (["Rates are \u20ac per minute"], "tells of prices in \u20ac"),
        (["Rates in US cents"], "tells of prices in cents"),
    ],
)
def test_another_currency_above_the_rows_is_not_passed_over(line: list[str], said: str) -> None:
    """The letter says what the columns do not."""
    (fault,) = told(read([line, ["Code", "Rate"], ["380", "5"]]))
    assert said in fault
    assert fault.startswith("acme.xlsx: Rates!1: ")


@pytest.mark.parametrize(
    "line",
    ["All prices in USD", "Please try our new rates", "EUR account: DE00", "Rates in EUR and USD", "$ rates"],
)
def test_a_letter_that_says_nothing_else(line: str) -> None:
    """The table's own currency, a word like a currency, a currency of something else."""
    assert len(deck([[line], ["Code", "Rate"], ["380", "5"]]).rows) == 1


def test_a_point_among_decimal_commas() -> None:
    """1.234 in a column of decimal commas may be thousands; 0.06 may not."""
    rows: Rows = [["Code", "Rate"], ["380", "0,05"], ["381", "1.234"], ["382", "0.06"]]
    (fault,) = told(read(rows))
    assert "Rates!B3: 1.234: is the point a decimal mark" in fault
    assert deck([*rows[:2], *rows[3:]]).rows[1].price_e10 == 600_000_000
    assert deck([rows[0], *rows[2:]]).rows[0].price_e10 == 12_340_000_000
    assert deck(rows[:3], decimal=",").rows[1].price_e10 == 12_340_000_000_000


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("[$\u20ac-407]#,##0.0000", "shown in \u20ac"), ('0.00"EUR"', "shown in EUR"),
        ("0.00%", "shown as percents"),
        ("#,##0.0,", "shown in thousands"), ('0.0"\u00a2"', "shown in cents"), ('0.0" ct"', "shown in cents"),
    ],
)  # fmt: skip
def test_formats_that_show_another_price(shown: str, said: str) -> None:
    """What people see in a workbook is the number with its format: with another currency it is refused."""
    decks: list[Rows] = [[["Code", "Rate"], ["380", 5.0]], [["Code", "Rate", "Setup fee"], ["380", 5.0, 1.0]]]
    for rows in decks:
        sheet = Sheet("acme.xlsx", "Rates", enumerate(rows, 1), formats={len(rows[0]) - 1: [shown]})
        (fault,) = told(read_deck(sheet, Profile(), "USD", None))
        assert said in fault


@pytest.mark.parametrize(
    "shown", ['"$"#,##0.00', "[$-409]#,##0.00", "[$USD] 0.00", "[Red]0.00", '_("$"* #,##0.00_)']
)
def test_formats_that_show_the_price(shown: str) -> None:
    """Marks of thousands and the table's own currency change nothing."""
    sheet = Sheet("a", "Rates", enumerate([["Code", "Rate"], ["380", 5.0]], 1), formats={1: [shown]})
    assert isinstance(read_deck(sheet, Profile(), "USD", None), RateDeck)


def test_a_code_under_two_names() -> None:
    """The first name counts, and it is told."""
    (note,) = deck(
        [HEAD, ["380", "Ukraine", "0.1"], ["380", "Kyiv", "0.10"], ["381", "x", "1"], ["381", " X", "1"]]
    ).notes
    assert note == "codes that come twice, under another name; the first row's counts: 380"


def test_more_cells_than_titles() -> None:
    """A decimal comma between commas moves cells: a price of 0 must not come of it."""
    rows: Rows = [["Code", "Name", "Rate"], ["380", "Ukraine", "0", "05"], ["381", "x", "0.1", " "]]
    (fault,) = told(read(rows, name=""))
    assert fault == (
        "acme.xlsx: line 2, Rate: 0: 4 cells, the header row has 3; quote those that hold the separator"
    )
    assert len(deck(rows).rows) == 2


def test_words_of_the_profile() -> None:
    """A carrier's own words of status are the profile's."""
    (row,) = deck([HEAD, ["380", "x", "", "", "D"]], statuses={"d": "closed"}).rows
    assert row.status == "closed"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("NEW", "new"), ("Rate Increase", "increase"), ("decreased", "decrease"), ("No Change", "unchanged"),
        ("Blocked", "blocked"), ("Code deleted", "closed"), ("discontinued", "closed"), ("=", "unchanged"),
        ("\u2191", "increase"), ("D", None), ("N", None), ("maybe", None),
    ],
)  # fmt: skip
def test_words_of_status(text: str, status: str | None) -> None:
    """The trade's words; a letter alone may mean two things."""
    assert status_of(text) == status


@pytest.mark.parametrize("rows", [[HEAD], [HEAD, ["", "", ""]], [HEAD, ["Note", "", ""]]])
def test_a_deck_without_codes(rows: Rows) -> None:
    """A deck that says nothing is a fault, as a full one would close the whole table."""
    assert told(read(rows)) == ["acme.xlsx: Rates: has no row with a code"]


def test_an_end_before_its_begin() -> None:
    """A row that ends when it begins is refused."""
    rows: Rows = [
        ["Code", "Rate", "Valid from", "Valid to"],
        ["380", "0.1", "2026-12-02", "2026-12-01"],
    ]
    (fault,) = told(read(rows))
    assert "Rates!D2: 2026-12-01: before its begin" in fault


@pytest.mark.parametrize(
    ("cell", "end"),
    [
        ("2026-12-31", "2027-01-01"),
        (date(2026, 12, 1), "2026-12-02"),
        ("2026-12-31T12:00:00Z", "2026-12-31T12:00:00Z"),
        ("9999-12-31", None),
        (date(9999, 12, 31), None),
        ("", None),
    ],
)
def test_the_day_of_an_end_belongs_to_the_row(cell: Cell, end: str | None) -> None:
    """Valid to 31 December is to the end of that day; the year 9999 says that there is no end."""
    (row,) = deck([["Code", "Rate", "Valid from", "Valid to"], ["380", "0.1", "2026-12-01", cell]]).rows
    assert row.to_ms == (None if end is None else day(end))
