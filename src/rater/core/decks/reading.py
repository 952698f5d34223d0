"""A deck's sheet becomes rows of codes; every cell that cannot be read is a fault with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import chain, islice
from typing import Any, NamedTuple

from msgspec import Struct

from rater.core.catalog_files.fields import CODE_NAME_CHARS_MAX, Fault, plain, what
from rater.core.catalog_files.remarks import some
from rater.core.decks import words
from rater.core.decks.cells import (
    Cell,
    codes_of,
    increment_of,
    is_nothing,
    letters,
    price_of,
    seconds_of,
    text_of,
    when_of,
)
from rater.core.decks.headers import HEADER_ROWS, Header, find_header
from rater.core.decks.money import Marks, column_problems, letter_problems
from rater.core.decks.profile import Profile
from rater.core.naming import name_key
from rater.core.periods import canonical_when, when_ms, zone_of

CODES_MAX = 2_000_000
"""Codes of one deck: more are a range that somebody miswrote."""


class Sheet(NamedTuple):
    """The cells of a deck.

    file: as faults name it. name: of a workbook's sheet; empty for text. rows: (number, cells). zeros: place
    of a column → the format of numbers in it that shows zeros in front (`000`), which are no part of them.
    notes: on how the file was read. formats: place of a column → other formats of numbers in it; like zeros
    and notes known when the rows are asked for.
    """

    file: str
    name: str
    rows: Iterable[tuple[int, Sequence[Cell]]]
    zeros: Mapping[int, str] = {}
    notes: Sequence[str] = ()
    formats: Mapping[int, Sequence[str]] = {}


class DeckRow(Struct, gc=False):
    """What a deck says of one code; units as in the catalog's rows. None: the deck does not say.

    row: the number of its row in the file. price_e10 is None where the status is `blocked` or `closed`.
    """

    code: str
    row: int
    name: str | None
    price_e10: int | None
    setup_fee_e10: int | None
    min_time: int | None
    interval: int | None
    from_ms: int | None
    to_ms: int | None
    status: str | None


class RateDeck(NamedTuple):
    """A deck that was read: its rows by code and begin, where they stand, and sentences on the reading."""

    sheet: Sheet
    header: Header
    rows: list[DeckRow]
    notes: list[str]

    def place(self, row: int) -> str:
        """Return where the code of a row stands; empty for 0, which is none."""
        name = "code" if "code" in self.header.columns else "country_code"
        return place(self.sheet, self.header, row, name) if row else ""


def place(sheet: Sheet, header: Header, number: int, name: str) -> str:
    """Return where a cell stands: `Rates!D12` of a workbook, else line and column."""
    if sheet.name:
        return f"{sheet.name}!{letters(header.columns[name])}{number}"
    return f"line {number}, {header.title(name)}"


def read_deck(
    sheet: Sheet, profile: Profile, currency: str, effective_ms: int | None
) -> RateDeck | list[Fault]:
    """Return a deck's rows, or every fault.

    currency: the table's. effective_ms: from when rows hold that do not say it.
    """
    rows = iter(sheet.rows)
    first = list(islice(rows, HEADER_ROWS))
    try:
        header = find_header(first, profile.columns)
    except ValueError as error:
        return [Fault(sheet.file, sheet.name, "", str(error))]
    return _Reading(sheet, header, profile, currency, effective_ms).read(chain(first, rows))


class _Reading:
    """One sheet under way."""

    def __init__(
        self, sheet: Sheet, header: Header, profile: Profile, currency: str, effective_ms: int | None
    ) -> None:
        self.sheet, self.header, self.profile = sheet, header, profile
        self.currency, self.effective_ms = currency, effective_ms
        self.faults: list[Fault] = []
        self.rows: list[DeckRow] = []
        self.legend: list[str] = []
        self.full_codes = "code" in header.columns
        self._statuses = {words.plain(word): status for word, status in profile.statuses.items()}
        self._zone = zone_of(profile.zone)
        self._memos: dict[str, dict[tuple[type, Cell], Any]] = {name: {} for name in header.columns}
        self._letter: list[tuple[int, str]] = []
        self._number = 0
        self._marks = Marks()
        self._two_names: set[str] = set()

    def read(self, rows: Iterable[tuple[int, Sequence[Cell]]]) -> RateDeck | list[Fault]:
        """Return the deck, or every fault."""
        self._check_columns()
        for number, cells in rows:
            if number <= self.header.row:
                self._before_header(number, cells)
            else:
                self._row(number, cells)
            if len(self.rows) > CODES_MAX:
                self._fault(number, "code", "", f"more than {CODES_MAX} codes; write ranges as shorter codes")
                break
        if not self.rows and not self.faults:
            self.faults.append(Fault(self.sheet.file, self.sheet.name, "", "has no row with a code"))
        for number, line, problem in letter_problems(self._letter, self.currency):
            where = f"{self.sheet.name}!{number}" if self.sheet.name else f"line {number}"
            self.faults.append(Fault(self.sheet.file, where, what(line[:80]), problem))
        for number, name, cell, problem in self._marks.problems():
            self._fault(number, name, cell, problem)
        self.rows.sort(key=_begin)
        self._check_doubles()
        return self.faults or RateDeck(
            self.sheet,
            self.header,
            self.rows,
            list(_notes(self.sheet, self.header, self.legend, sorted(self._two_names))),
        )

    def _fault(self, number: int, name: str, cell: Cell, problem: str) -> None:
        where = place(self.sheet, self.header, number, name)
        self.faults.append(Fault(self.sheet.file, where, what(text_of(cell)), problem))

    def _check_columns(self) -> None:
        columns = self.header.columns
        for name, title, problem in column_problems(self.header, self.sheet.formats, self.currency):
            self._fault(self.header.row, name, title, problem)
        zeros = self.sheet.zeros.get(columns.get("area_code", -1))
        if zeros and not self.full_codes:
            problem = (
                f"numbers that are shown with zeros in front (format {zeros}), which are lost: format the "
                "column as text, and write the codes again"
            )
            self._fault(self.header.row, "area_code", self.header.title("area_code"), problem)

    def _before_header(self, number: int, cells: Sequence[Cell]) -> None:
        """Refuse a date of effect that stands above the rows, and is asked for by nobody."""
        if number == self.header.row:
            return
        self._letter.append((number, " ".join(cell for cell in cells if isinstance(cell, str))))
        if "effective_from" in self.header.columns or self.effective_ms is not None:
            return
        for at, cell in enumerate(cells):
            if isinstance(cell, str) and words.tells_effect(cell):
                where = f"{self.sheet.name}!{letters(at)}{number}" if self.sheet.name else f"line {number}"
                problem = (
                    "tells from when the deck holds, and no column does; give --effective DATE (or write the "
                    "column in --columns effective_from=…)"
                )
                self.faults.append(Fault(self.sheet.file, where, what(cell), problem))

    # ------------------------------------------------------------------------------------------- one row
    def _cell(self, cells: Sequence[Cell], name: str) -> Cell:
        at = self.header.columns.get(name, len(cells))
        return cells[at] if at < len(cells) else ""

    def _row(self, number: int, cells: Sequence[Cell]) -> None:
        code = self._cell(cells, "code" if self.full_codes else "area_code")
        country = self._cell(cells, "country_code") if "country_code" in self.header.columns else ""
        if self._is_none(number, code, country, cells):
            return
        before, self._number = len(self.faults), number
        self._check_width(number, cells)
        status = self._read(number, "status", cells, self._status)
        codes = self._codes(number, code, country)
        row = DeckRow(
            "", number, self._name(number, self._cell(cells, "name")), None, None, None, None,
            self._read(number, "effective_from", cells, self._when),
            self._read(number, "effective_to", cells, self._end), status,
        )  # fmt: skip
        if row.from_ms is None:
            row.from_ms = self.effective_ms
        if status not in {"closed", "blocked"}:
            self._fill(row, number, cells)
        if row.to_ms is not None and row.from_ms is not None and row.to_ms <= row.from_ms:
            end = self._cell(cells, "effective_to")
            self._fault(number, "effective_to", end, "before its begin; correct one of them")
        if len(self.faults) == before:
            self.rows += _of_each(row, codes)

    def _check_width(self, number: int, cells: Sequence[Cell]) -> None:
        """Refuse cells beyond the header row of a text: a separator without quotes has moved the others."""
        width = self.header.width
        if not self.sheet.name and self.header.row and any(map(text_of, cells[width:])):
            problem = f"{len(cells)} cells, the header row has {width}; quote those that hold the separator"
            self._fault(number, "price", self._cell(cells, "price"), problem)

    def _fill(self, row: DeckRow, number: int, cells: Sequence[Cell]) -> None:
        """Read what a code costs."""
        if is_nothing(price := self._cell(cells, "price")):
            self._fault(number, "price", price, "no price; give it, or a status such as closed")
            return
        self._read(number, "currency", cells, self._currency)
        row.price_e10 = self._read(number, "price", cells, self._price)
        if "setup_fee" in self.header.columns:
            row.setup_fee_e10 = fee = self._read(number, "setup_fee", cells, self._price) or 0
            if fee < 0:
                self._fault(number, "setup_fee", self._cell(cells, "setup_fee"), "below 0; correct it")
        row.min_time, row.interval = self._read(number, "increment", cells, increment_of) or (None, None)
        first = self._read(number, "min_time", cells, seconds_of)
        after = self._read(number, "interval", cells, seconds_of)
        row.min_time = row.min_time if first is None else first
        row.interval = row.interval if after is None else after
        if after == 0:
            self._fault(number, "interval", "0", "an interval of 0 seconds; write 1 or more")

    def _is_none(self, number: int, code: Cell, country: Cell, cells: Sequence[Cell]) -> bool:
        """Return whether a row holds no code: blank, a title again, a line of text."""
        head, price = code if self.full_codes else country, self._cell(cells, "price")
        if is_nothing(code) and is_nothing(country):
            if not is_nothing(price):
                name = "code" if self.full_codes else "country_code"
                self._fault(number, name, head, "no code; give it, or leave the row out")
            return True
        if not isinstance(head, str) or head.isdecimal() or not any(letter.isalpha() for letter in head):
            return False
        titles = self.header.titles.values()
        if head.strip() in titles and text_of(price) in titles:
            return True
        # Where no header row is known, it and the letter above it are text too.
        above = not self.header.row and not self.rows and isinstance(price, str) and not _has_digit(price)
        if above or (is_nothing(price) and is_nothing(self._cell(cells, "status"))):
            self.legend.append(what(head.strip()[:60]))
            return True
        return False

    def _read(self, number: int, name: str, cells: Sequence[Cell], read: Callable[[Cell], Any]) -> Any:
        """Return what the cell of a field means. None: nothing, or a fault.

        Each value is read once, for a deck has few: that spares 9.5 of the 15.4 µs of a row.
        """
        at = self.header.columns.get(name)
        if at is None or at >= len(cells):
            return None
        memo, cell = self._memos[name], cells[at]
        key = cell.__class__, cell
        found = memo.get(key)
        if found is None:
            try:
                found = memo[key] = (None if is_nothing(cell) else read(cell), "")
            except ValueError as error:
                found = memo[key] = None, str(error)
        value, problem = found
        if problem:
            self._fault(number, name, cell, problem)
        return value

    def _price(self, cell: Cell) -> int:
        found = price_of(cell, self.currency, self.profile.decimal)
        if self.profile.decimal is None:
            self._marks.add(self._number, "price", cell)
        return found

    def _currency(self, cell: Cell) -> None:
        if text_of(cell).upper() != self.currency.upper():
            raise ValueError(
                f"the table is in {self.currency}; import rows of another currency into another one"
            )

    def _when(self, cell: Cell) -> int:
        return when_ms(canonical_when(when_of(cell, self.profile.dates)), self._zone)

    def _end(self, cell: Cell) -> int | None:
        """Return the end of the day that is a row's last; None for the year 9999, which says that none is."""
        text = when_of(cell, self.profile.dates)
        if text.startswith("9999-"):
            return None
        if len(text) == len("2026-12-01"):
            text = (date.fromisoformat(text) + timedelta(1)).isoformat()
        return when_ms(canonical_when(text), self._zone)

    def _status(self, cell: Cell) -> str:
        text = text_of(cell)
        status = self._statuses.get(words.plain(text)) or words.status_of(text)
        if status is None:
            problem = (
                f"no status that is known; say in the profile what it means: statuses = {{{what(text)!r} = "
                f'"increase"}} ({", ".join(words.STATUSES)}), or do not read the column: --columns status='
            )
            raise ValueError(problem)
        return status

    def _name(self, number: int, cell: Cell) -> str | None:
        text = text_of(cell)
        if not text:
            return None
        if len(text) > CODE_NAME_CHARS_MAX:
            self._fault(number, "name", cell, f"more than {CODE_NAME_CHARS_MAX} characters; shorten it")
        if not plain(text):
            text = " ".join(text.split())
            if not plain(text):
                self._fault(number, "name", cell, "has control characters; take them out")
        return text

    def _codes(self, number: int, code: Cell, country: Cell) -> list[str]:
        try:
            if self.full_codes:
                return _of_country(codes_of(code), country)
            heads = codes_of(country)
            if len(heads) > 1:
                self._fault(number, "country_code", country, "several codes; write one country in each row")
            if is_nothing(code):
                return heads
        except ValueError as error:
            name = "code" if self.full_codes else "country_code"
            self._fault(number, name, code if self.full_codes else country, str(error))
            return []
        try:
            return codes_of(code, heads[0])
        except ValueError as error:
            self._fault(number, "area_code", code, str(error))
            return []

    def _check_doubles(self) -> None:
        """Refuse two rows of one code and begin, unless they say the same; then one is kept."""
        self.rows, differ, self._two_names = _once(self.rows)
        name = "code" if self.full_codes else "country_code"
        for first, row in differ:
            where = place(self.sheet, self.header, first.row, name)
            problem = f"{where} says something else of this code from the same day on; leave one out"
            self._fault(row.row, name, row.code, problem)


def _of_country(codes: list[str], country: Cell) -> list[str]:
    """Return codes that begin with the country code beside them, if there is one; else raise ValueError."""
    if is_nothing(country):
        return codes
    (head, *_) = codes_of(country)
    if not all(code.startswith(head) for code in codes):
        problem = (
            f"does not begin with the country code {head} beside it: where the columns are to be "
            "put together, say --columns country_code=…,area_code=…,code="
        )
        raise ValueError(problem)
    return codes


def _once(rows: Sequence[DeckRow]) -> tuple[list[DeckRow], list[tuple[DeckRow, DeckRow]], set[str]]:
    """Return sorted rows, one for each code and begin, pairs that differ, and codes with another name."""
    kept: list[DeckRow] = []
    differ: list[tuple[DeckRow, DeckRow]] = []
    named: set[str] = set()
    for row in rows:
        if not kept or _begin(kept[-1]) != _begin(row):
            kept.append(row)
        elif _said(kept[-1]) != _said(row):
            differ.append((kept[-1], row))
        elif row.name is not None and name_key(row.name) != name_key(kept[-1].name or ""):
            named.add(row.code)
    return kept, differ, named


def _notes(sheet: Sheet, header: Header, legend: list[str], two_names: list[str]) -> Iterator[str]:
    """Yield sentences on how a sheet was read."""
    yield from sheet.notes
    if two_names:
        yield f"codes that come twice, under another name; the first row's counts: {some(two_names)}"
    if unread := header.unread:
        yield f"columns that are not read: {some([what(title) for title in unread])}"
    if legend:
        yield f"rows without code and price, taken for text: {some(legend)}"
    for name in ("code", "country_code"):
        zeros = sheet.zeros.get(header.columns.get(name, -1))
        if zeros:
            yield (
                f"codes of the column {header.title(name)!r} are numbers that are shown with zeros in "
                f"front (format {zeros}), and were read without; make the column text where they count"
            )


def _begin(row: DeckRow) -> tuple[str, int]:
    return row.code, -1 if row.from_ms is None else row.from_ms


def _said(row: DeckRow) -> tuple[object, ...]:
    return (
        row.price_e10, row.setup_fee_e10, row.min_time, row.interval, row.to_ms,
        row.status in {"closed", "blocked"},
    )  # fmt: skip


def _of_each(row: DeckRow, codes: Sequence[str]) -> Iterator[DeckRow]:
    values = (
        row.row, row.name, row.price_e10, row.setup_fee_e10, row.min_time, row.interval, row.from_ms,
        row.to_ms, row.status,
    )  # fmt: skip
    for code in codes:
        yield DeckRow(code, *values)


def _has_digit(text: str) -> bool:
    return any(letter.isdigit() for letter in text)
