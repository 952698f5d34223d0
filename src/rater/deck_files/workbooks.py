"""A deck as a workbook (XLSX), by calamine; and what calamine does not tell, or does not survive.

Looked for in the file itself: how far a sheet reaches (calamine makes room for every cell of the rectangle at
once; with a stray cell in the last row and column that is 550 GB, and the process is gone), cells that are
errors and formulas without value (they come as empty), and formats that show zeros in front of numbers.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from rater.core.decks.cells import Cell, letters
from rater.core.decks.headers import HEADER_ROWS, find_header, place_of
from rater.core.decks.reading import Sheet
from rater.core.decks.words import SIGNS_SHOWN
from rater.core.naming import name_key
from rater.deck_files.unreadable import DAMAGED, Unreadable

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

CELLS_MAX = 20_000_000
"""Cells of a sheet's rectangle, 32 bytes each: a million rows of twenty columns."""
_PARTS_MAX = 1 << 30
"""Bytes of a workbook's parts, unpacked."""
_STRINGS_MAX = 128 << 20
"""Bytes of a part that is in memory as a whole: texts, formats."""
_WHOLE = frozenset({
    "xl/sharedstrings.xml", "xl/styles.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels",
})  # fmt: skip
_CHUNK = 1 << 20


def workbook_sheet(
    file: str, raw: bytes, archive: zipfile.ZipFile, wanted: str | None, columns: Mapping[str, str]
) -> Sheet:
    """Return the sheet that is wanted, else the only visible one with a header row."""
    import python_calamine  # noqa: PLC0415 - most commands read no workbook

    parts = _Parts(file, archive)
    book: CalamineWorkbook = _guarded(file, lambda: python_calamine.load_workbook(io.BytesIO(raw)))
    visible = [
        meta.name
        for meta in book.sheets_metadata
        if meta.visible == python_calamine.SheetVisibleEnum.Visible
        and meta.typ == python_calamine.SheetTypeEnum.WorkSheet
    ]
    if wanted is not None:
        names = [meta.name for meta in book.sheets_metadata if name_key(meta.name) == name_key(wanted)]
        if len(names) != 1:
            has = ", ".join(meta.name for meta in book.sheets_metadata)
            raise Unreadable(file, wanted, f"there is no such sheet; there are {has}")
    else:
        names = visible
    sheets = [_sheet(file, name, book, parts) for name in names]
    if len(sheets) == 1:
        return sheets[0].whole()
    return _chosen(file, sheets, columns)


def _chosen(file: str, sheets: list[_Found], columns: Mapping[str, str]) -> Sheet:
    good, problem = [], "has no visible sheet"
    for sheet in sheets:
        try:
            find_header(islice(sheet.rows(), HEADER_ROWS), columns)
        except ValueError as error:
            problem = str(error)
        else:
            good.append(sheet)
    if len(good) == 1:
        others = ", ".join(sheet.name for sheet in sheets if sheet is not good[0])
        return good[0].whole((f"the sheet {good[0].name!r} is read; not {others}",))
    if good:
        names = ", ".join(sheet.name for sheet in good)
        problem = (
            f"several sheets have a header row: {names}; say which in the profile: sheet = {good[0].name!r}"
        )
    raise Unreadable(file, "", problem)


class _Found(NamedTuple):
    """A sheet that was opened. odd: (row, place) → text of cells that calamine does not tell."""

    file: str
    name: str
    sheet: CalamineSheet
    scan: _Scan

    def rows(self) -> Iterator[tuple[int, list[Cell]]]:
        """Yield (number, cells)."""
        start = self.sheet.start
        if start is None:
            return
        odd = self.scan.odd
        # Rows come from the first on; columns begin where the first cell does.
        left: list[Cell] = [""] * start[1]
        for number, cells in enumerate(self.sheet.iter_rows(), 1):
            row: list[Cell] = [*left, *cells] if left else list(cells)
            for place, text in odd.get(number, {}).items() if odd else ():
                row += [""] * (place + 1 - len(row))
                row[place] = text
            yield number, row

    def whole(self, notes: tuple[str, ...] = ()) -> Sheet:
        """Return the sheet as the reader of decks takes it."""
        scan = self.scan
        if scan.hidden:
            notes = (*notes, f"rows that the workbook hides are read too; there are {scan.hidden}")
        return Sheet(self.file, self.name, self.rows(), scan.zeros, notes, scan.formats)


def _sheet(file: str, name: str, book: CalamineWorkbook, parts: _Parts) -> _Found:
    scan = parts.scan(name)
    area = scan.rows * scan.columns
    if area > CELLS_MAX:
        corner = f"{letters(scan.columns - 1)}{scan.rows}"
        problem = f"reaches to {corner}: delete the cells beyond the deck, and save it again"
        raise Unreadable(file, name, problem)
    return _Found(file, name, _guarded(file, lambda: book.get_sheet_by_name(name)), scan)


def _guarded(file: str, read: Callable[[], Any]) -> Any:
    """Return what calamine reads; whatever it raises, panics of Rust too, is a file that cannot be read."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - PanicException is no Exception
        problem = f"is a workbook that cannot be read ({error}); open it, and save it as .xlsx again"
        raise Unreadable(file, "", problem) from None


# ------------------------------------------------------------------------------- what calamine does not say
class _Scan(NamedTuple):
    """A sheet's part, looked through."""

    rows: int
    columns: int
    odd: dict[int, dict[int, str]]
    zeros: dict[int, str]
    formats: dict[int, list[str]]
    hidden: int


_USUAL = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"')
_CELLS = re.compile(rb'[<:]c\s[^>]*?\br\s*=\s*["\']([A-Za-z]+)([0-9]+)["\']')
_HIDDEN = re.compile(rb'[<:]row\s[^>]*?\bhidden\s*=\s*["\'](?:1|true)["\']')
_ROWS = re.compile(rb'[<:]row\s[^>]*?\br\s*=\s*["\']([0-9]+)["\']')
_ERROR = re.compile(
    rb'[<:]c\s(?=[^>]*\bt\s*=\s*["\']e["\'])[^>]*?\br\s*=\s*["\']([A-Za-z]+)([0-9]+)["\'][^>]*>'
    rb"(?:(?![<:]c\s).)*?[<:]v\b[^>]*>([^<]*)<",
    re.DOTALL,
)
_EMPTY_FORMULA = re.compile(
    rb'[<:]c\s[^>]*?\br\s*=\s*["\']([A-Za-z]+)([0-9]+)["\'][^>]*>\s*'
    rb"<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</"
)
_FORMAT = re.compile(r"<(?:\w+:)?numFmt\b[^>]*>")
_XFS = re.compile(r"<(?:\w+:)?cellXfs\b.*?</(?:\w+:)?cellXfs>", re.DOTALL)
_XF = re.compile(r"<(?:\w+:)?xf\b[^>]*>")
_ZEROS = re.compile(r'["\\+0 -]+[;@]*')
_MORE = re.compile(rf'%|[{SIGNS_SHOWN}]|\[\$[^-\]]|"[^"]*\w[^"]*"|[0#?],+(?![0#?,])')
"""Of a format: percents, money, words, thousands that are left out."""
_SHEET = re.compile(r"<(?:\w+:)?sheet\b[^>]*>")
_RELATION = re.compile(r"<(?:\w+:)?Relationship\b[^>]*>")


class _Parts:
    """The parts of a workbook as they lie in its archive."""

    def __init__(self, file: str, archive: zipfile.ZipFile) -> None:
        self.file, self.archive = file, archive
        if sum(info.file_size for info in archive.infolist()) > _PARTS_MAX:
            raise Unreadable(file, "", f"has more than {_PARTS_MAX >> 20} MiB unpacked; no deck is so large")
        for info in archive.infolist():
            if info.filename.lower() in _WHOLE:
                self._check_size(info)
        targets = {
            _attribute(tag, "Id"): _attribute(tag, "Target")
            for tag in _RELATION.findall(self._text("xl/_rels/workbook.xml.rels"))
        }
        self.paths: dict[str, str] = {}
        for tag in _SHEET.findall(self._text("xl/workbook.xml")):
            target = targets.get(_attribute(tag, r"\w+:id"), "")
            self.paths[_attribute(tag, "name")] = target[1:] if target.startswith("/") else f"xl/{target}"
        self.formats = self._formats()

    def _check_size(self, info: zipfile.ZipInfo) -> None:
        """Refuse a part of texts that is too large, or larger than it says: calamine unpacks all of it."""
        if info.file_size > _STRINGS_MAX:
            problem = f"has more than {_STRINGS_MAX >> 20} MiB unpacked; no deck has so much text"
            raise Unreadable(self.file, info.filename, problem)
        try:
            with self.archive.open(info) as stream:
                while stream.read(_CHUNK):  # at the end the check sum is compared
                    pass
        except DAMAGED as error:
            raise self._damaged(error) from None

    def scan(self, name: str) -> _Scan:
        """Return how far a sheet reaches, and what in it calamine does not tell."""
        path = self.paths.get(name)
        if path is None or path not in self.archive.namelist():
            raise Unreadable(self.file, name, "cannot be found in the workbook; save it as .xlsx again")
        rows = columns = hidden = 0
        odd: dict[int, dict[int, str]] = {}
        styles: set[tuple[bytes, bytes]] = set()
        styled = self._styled()
        for chunk in self._chunks(path):
            cells = _USUAL.findall(chunk)
            if len(cells) < chunk.count(b"<c") + chunk.count(b":c"):
                cells = _CELLS.findall(chunk)
            if cells:
                names, numbers = zip(*cells, strict=True)
                columns = max(columns, *(place_of(one[:9].decode().upper()) + 1 for one in set(names)))
                rows = max(rows, *map(_number, set(numbers)))
            rows = max(rows, *map(_number, _ROWS.findall(chunk)), 0)
            for found in _ERROR.findall(chunk) if b'"e"' in chunk or b"'e'" in chunk else ():
                _put(odd, found, html.unescape(found[2].decode("utf-8", "replace")) or "#ERROR")
            for found in _EMPTY_FORMULA.findall(chunk) if b"<f" in chunk or b":f" in chunk else ():
                _put(odd, found, "a formula without value")
            if styled is not None:
                styles.update(styled.findall(chunk))
            hidden += len(_HIDDEN.findall(chunk)) if b"hidden" in chunk else 0
        return _Scan(rows, columns, odd, *self._of_columns(styles), hidden)

    def _of_columns(self, styles: set[tuple[bytes, bytes]]) -> tuple[dict[int, str], dict[int, list[str]]]:
        """Return place of a column → format with zeros in front, and → its other formats."""
        zeros: dict[int, str] = {}
        formats: dict[int, list[str]] = {}
        for style, letters_ in sorted(styles):
            place, code = place_of(letters_.decode().upper()), self.formats[int(style)]
            if _ZEROS.fullmatch(code):
                zeros.setdefault(place, code)
            else:
                formats.setdefault(place, []).append(code)
        return zeros, formats

    def _styled(self) -> re.Pattern[bytes] | None:
        """Return what finds numbers of the formats that are looked for."""
        if not self.formats:
            return None
        numbers = "|".join(map(str, self.formats)).encode()
        return re.compile(
            rb'[<:]c\s(?=[^>]*\bs\s*=\s*["\'](' + numbers + rb')["\'])(?![^>]*\bt\s*=\s*["\'](?!n["\']))'
            rb'[^>]*?\br\s*=\s*["\']([A-Za-z]+)[0-9]+["\']'
        )

    def _formats(self) -> dict[int, str]:
        """Return style → format, of those that show zeros in front (`000`, `"00"0`) or more besides."""
        text = self._text("xl/styles.xml") if "xl/styles.xml" in self.archive.namelist() else ""
        formats = {
            _attribute(tag, "numFmtId"): _attribute(tag, "formatCode") for tag in _FORMAT.findall(text)
        }
        table = _XFS.search(text)
        styles = _XF.findall(table[0]) if table is not None else ()
        formats |= {"9": "0%", "10": "0.00%"}
        of_styles = {style: formats.get(_attribute(tag, "numFmtId"), "") for style, tag in enumerate(styles)}
        return {
            style: code
            for style, code in of_styles.items()
            if (code.count("0") > 1 and _ZEROS.fullmatch(code)) or _MORE.search(code)
        }

    def _text(self, path: str) -> str:
        try:
            return self.archive.read(path).decode("utf-8", "replace")
        except KeyError:
            raise Unreadable(self.file, path, "is missing in the workbook; save it as .xlsx again") from None
        except DAMAGED as error:
            raise self._damaged(error) from None

    def _chunks(self, path: str) -> Iterator[bytes]:
        """Yield a part cut between cells."""
        rest = b""
        try:
            with self.archive.open(path) as stream:
                while chunk := stream.read(_CHUNK):
                    rest += chunk
                    cut = max(rest.rfind(b"<c "), rest.rfind(b":c "), rest.rfind(b"<row "))
                    if cut > 0:
                        yield rest[:cut]
                        rest = rest[cut:]
        except DAMAGED as error:
            raise self._damaged(error) from None
        yield rest

    def _damaged(self, error: Exception) -> Unreadable:
        return Unreadable(self.file, "", f"is a damaged workbook ({error}); fetch it again")


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'\s{name}\s*=\s*(?:"([^"]*)"|\'([^\']*)\')', tag)
    return html.unescape(found[1] if found[1] is not None else found[2]) if found is not None else ""


def _number(digits: bytes) -> int:
    """Return a row's number; of one with more digits than any, which calamine lets overflow, a large one."""
    return int(digits[:20])


def _put(odd: dict[int, dict[int, str]], found: tuple[bytes, ...], text: str) -> None:
    odd.setdefault(_number(found[1]), {})[place_of(found[0].decode().upper())] = text
