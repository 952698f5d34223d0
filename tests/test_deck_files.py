"""Files of decks: workbooks, text of any separator and encoding, packed; else a sentence."""

from __future__ import annotations

import gzip
import io
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from rater.core.catalog.codes import Row
from rater.core.catalog.specs import Content, RateTableSpec
from rater.core.decks.cells import Cell
from rater.core.decks.planning import Plan, plan
from rater.core.decks.profile import Profile
from rater.core.decks.reading import Sheet
from rater.deck_files import Unreadable, read_sheet
from workbook import Error, Formula, Raw, Value, Zeros, workbook

TEXT = "Code;Ziel;Preis\n380;Österreich \N{EN DASH} Süd;0,05\n"
ROWS = [["Code", "Ziel", "Preis"], ["380", "Österreich \N{EN DASH} Süd", "0,05"]]


def opened(
    folder: Path,
    raw: bytes,
    name: str = "deck",
    wanted: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Sheet:
    """Return the sheet of a file with these bytes."""
    path = folder / name
    path.write_bytes(raw)
    return read_sheet(path, wanted, columns or {})


def cells(sheet: Sheet) -> list[list[Cell]]:
    """Return the cells, whose rows are numbered from 1."""
    rows = list(sheet.rows)
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    return [list(row) for _, row in rows]


def zipped(**members: bytes) -> bytes:
    """Return a ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name.replace("__dot__", ".").replace("__in__", "/"), raw)
    return out.getvalue()


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (TEXT.encode(), "UTF-8"),
        (TEXT.encode("utf-8-sig"), "UTF-8"),
        (TEXT.encode("cp1252"), "Windows-1252"),
        (TEXT.encode("utf-16"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.replace("\n", "\r\n").encode(), "UTF-8"),
    ],
)
def test_encodings(raw: bytes, encoding: str, tmp_path: Path) -> None:
    """With mark or without, each encoding gives the same cells, and it is told which was read."""
    sheet = opened(tmp_path, raw)
    assert cells(sheet) == ROWS
    assert sheet.notes[0] == f"read as text in {encoding}, separated by `;`"
    assert len(sheet.notes) == (2 if encoding == "Windows-1252" else 1)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_separators(mark: str, tmp_path: Path) -> None:
    """The separator is the one by which a header row is found, whatever the letter above it has more of."""
    head = mark.join(["Code", "Destination", "Rate"])
    text = f"Dear; partner; see|below, please\n\n{head}\n380{mark}Ukraine, all{mark}0.1\n"
    if mark == ",":
        text = text.replace("Ukraine, all", '"Ukraine, all"')
    assert cells(opened(tmp_path, text.encode()))[2:] == [
        ["Code", "Destination", "Rate"],
        ["380", "Ukraine, all", "0.1"],
    ]


@pytest.mark.parametrize("text", ["44;0,05;0,01\n", "44\t0,05\t0,01\n", "44,0.05,x;y;z\n"])
def test_separators_without_header(text: str, tmp_path: Path) -> None:
    """Where columns are named by letters, the cells tell what separates them."""
    (tmp_path / "deck").write_text(text, "utf-8")
    rows = cells(read_sheet(tmp_path / "deck", None, {"code": "A", "price": "B"}))
    assert (rows[0][0], str(rows[0][1]).replace(",", ".")) == ("44", "0.05")


def test_a_quoted_cell_over_two_lines(tmp_path: Path) -> None:
    """A row with a line break in quotes is one row; its number is that of its last line."""
    sheet = opened(tmp_path, b'Code,Destination,Rate\n380,"Ukraine\nall",0.1\n')
    assert list(sheet.rows) == [(1, ["Code", "Destination", "Rate"]), (3, ["380", "Ukraine\nall", "0.1"])]


def test_packed(tmp_path: Path) -> None:
    """A deck in .gz, in .zip, and one in the other; a workbook too."""
    raw = TEXT.encode()
    for packed in (
        gzip.compress(raw), zipped(deck__dot__csv=raw), gzip.compress(zipped(a__in__deck=raw)),
        zipped(deck=raw, __MACOSX__in__deck=b"x", __dot__DS_Store=b"x"),
    ):  # fmt: skip
        assert cells(opened(tmp_path, packed)) == ROWS
    book = workbook({"S": [["Code", "Rate"], ["380", 0.1]]})
    assert cells(opened(tmp_path, zipped(deck=book)))[1] == ["380", 0.1]


UNREADABLE = [
    (b"", "is empty"),
    (b" \n", "is empty"),
    (b"\x1f\x8b\x08garbage", "damaged gzip"),
    (gzip.compress(TEXT.encode(), mtime=0)[:-4], "damaged gzip"),
    (b"PK\x03\x04garbage", "a damaged archive"),
    (zipped(a=b"x", b=b"y"), "holds 2 files (a, b); unpack it"),
    (zipped(), "holds 0 files (none)"),
    (zipped(a=zipped(b=zipped(c=zipped(d=b"x")))), "packed again and again"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "is a workbook of the old form (XLS), or one with a password; save",
    ),
    (b"%PDF-1.7", "is a PDF; save the deck as a workbook"),
    (zipped(content__dot__xml=b""), "XLSB or ODS"),
    (zipped(xl__in__workbook__dot__bin=b""), "XLSB or ODS"),
    (zipped(xl__in__workbook__dot__xml=b"<x/>"), "xl/_rels/workbook.xml.rels: is missing"),
    (b"Code,Rate\n380,\x81\xff\n", "neither UTF-8 nor Windows-1252"),
    (b"Code,Rate\n380,\0\n", "zero bytes"),
    (b"\xff\xfeC", "no UTF-16 text"),
]


@pytest.mark.parametrize(("raw", "said"), UNREADABLE)
def test_what_cannot_be_read_is_a_sentence(raw: bytes, said: str, tmp_path: Path) -> None:
    """Damaged, locked, of another form: what it is, and what to do."""
    with pytest.raises(Unreadable) as caught:
        cells(opened(tmp_path, raw))
    assert said in str(caught.value)


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    """It would swallow the rows behind it: refused, with the line."""
    with pytest.raises(Unreadable, match="quotation mark that is not closed"):
        cells(opened(tmp_path, b'Code,Destination,Rate\n380,"Ukraine,0.1\n381,x,0.1\n'))


def test_a_member_with_a_password(tmp_path: Path) -> None:
    """A locked archive is said to be one."""
    raw = bytearray(zipped(deck=b"x"))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Unreadable, match="locked with a password"):
        opened(tmp_path, bytes(raw))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any deck is refused before it is in memory."""
    monkeypatch.setattr("rater.deck_files.UNPACKED_MAX", 1000)
    for raw in (gzip.compress(b" " * 2000), zipped(deck=b" " * 2000)):
        with pytest.raises(Unreadable, match="no deck is so large"):
            opened(tmp_path, raw)


# ------------------------------------------------------------------------------------------------- workbooks
def rows_of(folder: Path, rows: Sequence[Sequence[Value]], **more: Any) -> list[list[Cell]]:
    """Return the cells of a workbook with one sheet."""
    return cells(opened(folder, workbook({"Rates": rows}, **more)))


def test_cells_of_a_workbook(tmp_path: Path) -> None:
    """Numbers are floats, dates dates; what Excel writes with 17 digits is the number that was typed."""
    typed: list[Value] = [
        "0044",
        380.0,
        0.1,
        Raw("7.0000000000000007E-2"),
        date(2026, 12, 1),
        True,
        None,
        " x ",
    ]
    assert rows_of(tmp_path, [typed]) == [["0044", 380.0, 0.1, 0.07, date(2026, 12, 1), True, "", " x "]]


def test_cells_that_calamine_tells_as_empty(tmp_path: Path) -> None:
    """An error and a formula without value are no empty cells: an optional one would be passed over."""
    found = rows_of(tmp_path, [["Code", "Rate", "Connection fee"], ["380", Error("#N/A"), Formula("1+1")]])
    assert found[1] == ["380", "#N/A", "a formula without value"]


def test_rows_and_columns_keep_their_numbers(tmp_path: Path) -> None:
    """Empty rows and columns in front do not move the others."""
    found = rows_of(tmp_path, [[], [], [None, None, "Code", "Rate"], [None, None, "380", Error("#REF!")]])
    assert found == [["", "", "", ""], ["", "", "", ""], ["", "", "Code", "Rate"], ["", "", "380", "#REF!"]]


def test_zeros_that_a_format_shows(tmp_path: Path) -> None:
    """The format of numbers that shows zeros in front is told with its column."""
    sheet = opened(tmp_path, workbook({"S": [["CC", "Area", "Rate"], [39.0, Zeros(6), 0.1]]}))
    assert (cells(sheet)[1], sheet.zeros) == ([39.0, 6.0, 0.1], {1: "000"})


def test_a_bomb_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are in memory as a whole: many are refused, and so is a part that is larger than it says."""
    out = io.BytesIO(workbook({"Rates": [["Code", "Rate"], ["380", 0.1]]}))
    texts = b"<sst>" + b"<si/>" * 1000 + b"</sst>"
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/sharedStrings.xml", texts)
    raw = out.getvalue()
    opened(tmp_path, raw)
    size = len(texts).to_bytes(4, "little")
    with pytest.raises(Unreadable, match="damaged workbook"):
        opened(tmp_path, raw.replace(size, (100).to_bytes(4, "little")))
    monkeypatch.setattr("rater.deck_files.workbooks._STRINGS_MAX", 5000)
    with pytest.raises(Unreadable, match="no deck has so much text"):
        opened(tmp_path, raw)


def test_formats_and_hidden_rows(tmp_path: Path) -> None:
    """A format of money or percent is told with its column; hidden rows are read, and told."""
    extra = '<row r="3" hidden="1"><c r="A3"><v>381</v></c><c r="B3" s="3"><v>0.5</v></c></row>'
    sheet = opened(tmp_path, workbook({"S": [["Code", "Rate"], [380.0, 0.1]]}, extra=extra))
    assert (cells(sheet)[2], sheet.formats, sheet.zeros) == ([381.0, 0.5], {1: ["0.00%"]}, {})
    assert sheet.notes == ("rows that the workbook hides are read too; there are 1",)


def test_a_stray_cell_far_away_is_refused(tmp_path: Path) -> None:
    """Calamine would make room for all cells up to it, and end the process."""
    for at in ('r="XFD1048576"', "r = 'XFD1048576'", 's="1" r="xfd1048576"', 'r="XFD0001048576"'):
        extra = f'<row r="5"><c {at}><v>1</v></c></row>'
        with pytest.raises(Unreadable, match="reaches to XFD1048576: delete the cells beyond the deck"):
            opened(tmp_path, workbook({"Rates": [["Code", "Rate"]]}, extra=extra))
    for at in ("A99999999999999999999999", "ZZZZZZZZZZZZ1"):  # which overflow
        extra = f'<row r="5"><c r="{at}"><v>1</v></c></row>'
        with pytest.raises(Unreadable, match="delete the cells beyond the deck"):
            opened(tmp_path, workbook({"Rates": [["Code", "Rate"]]}, extra=extra))
    far = '<row r="100000"><c r="B100000"><v>1</v></c></row>'
    assert len(cells(opened(tmp_path, workbook({"Rates": [["Code", "Rate"]]}, extra=far)))) == 100_000


def test_which_sheet_is_read(tmp_path: Path) -> None:
    """The only visible one with a header row, or the one that is wanted, in any spelling."""
    deck: list[list[Value]] = [["Code", "Rate"], ["380", 0.1]]
    raw = workbook({"Letter": [["Dear partner"]], "Rates": deck, "Old": deck}, hidden=["Old"])
    sheet = opened(tmp_path, raw)
    assert (sheet.name, cells(sheet)[1]) == ("Rates", ["380", 0.1])
    assert sheet.notes == ("the sheet 'Rates' is read; not Letter",)
    assert opened(tmp_path, raw, wanted="old ").name == "Old"
    with pytest.raises(Unreadable, match="there is no such sheet; there are Letter, Rates, Old"):
        opened(tmp_path, raw, wanted="Prices")
    with pytest.raises(Unreadable, match="several sheets have a header row: A, B"):
        opened(tmp_path, workbook({"A": deck, "B": deck}))
    with pytest.raises(Unreadable, match="no header row"):
        opened(tmp_path, workbook({"A": [["x"]], "B": [["y"]]}))


def test_a_damaged_workbook(tmp_path: Path) -> None:
    """Whatever calamine raises becomes a sentence."""
    raw = workbook({"Rates": [["Code", "Rate"], ["380", 0.1]]})
    at = raw.index(b"xl/worksheets/sheet1.xml") + 60
    for broken in (raw[:at] + b"\xff\xff\xff" + raw[at + 3 :], raw[: len(raw) // 2]):
        with pytest.raises(Unreadable, match="damaged"):
            opened(tmp_path, broken)
    with pytest.raises(Unreadable, match="cannot be read"):
        opened(tmp_path, workbook({"Rates": [["Code", "Rate"]]}, extra="<row><c"))


# ----------------------------------------------------------------------------------------------- 300,000 rows
N = 300_000


@pytest.mark.slow
@pytest.mark.parametrize("form", [pytest.param("xlsx", marks=pytest.mark.long), "csv"])
def test_300_000_rows(form: str, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """A deck of 300,000 rows against a table of as many: all are compared. Time and memory are printed."""
    head = ("Code", "Destination", "Rate", "Increment", "Effective Date", "Status")
    path = tmp_path / f"deck.{form}"
    if form == "csv":
        with path.open("w", encoding="cp1252") as out:
            out.write(";".join(head) + "\n")
            for n in range(N):
                out.write(f"{380_000_000 + n};Zürich {n % 500};0,{n % 977:04};60/1;01.12.2026;Increase\n")
    else:
        day = date(2026, 12, 1)
        rows = [
            (380_000_000.0 + n, f"Zürich {n % 500}", n % 977 / 10_000, "60/1", day, "Increase")
            for n in range(N)
        ]
        path.write_bytes(workbook({"Rates": [head, *rows]}))
        del rows
    table = RateTableSpec(
        "t", "USD", None, [Row(str(380_000_000 + n), n % 950 * 10**6, 0, 60, 1) for n in range(N)]
    )
    content = Content(base="USD", rate_tables={"t": table})
    began = time.process_time()
    sheet = read_sheet(path, None, {})
    made = plan(content, 1, sheet, "t", Profile(kind="full", dates="dmy"), effective_ms=None, now_ms=10**12)
    took = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
    figure(
        f"{form}: {N} rows read and compared in {took:.1f} s, {peak:.0f} MB at most, with all tests before"
    )
    assert isinstance(made, Plan), made[:3]
    assert sum(made.difference.counts[kind] for kind in ("dearer", "cheaper", "unchanged")) == N
