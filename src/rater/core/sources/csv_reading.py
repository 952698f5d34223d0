"""A line of CSV becomes slots: by the map's order of columns, or by that of the header row of its file.

Names of columns are compared without blanks around them, and without regard to case where none is spelt the
same.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from typing import NamedTuple

from rater.core.cdr import MAX_BYTES
from rater.core.reasons import Reason, shown
from rater.core.sources.damaged import controls_shown, text_of
from rater.core.sources.formats import Problem, Skipped, Slot, Slots, plain

COLUMNS = "columns"
"""Name of the record header that holds the header row of a record's file (CONTRACTS.md, Headers)."""

_SEPARATORS = ",;\t|"  # that files are written with, for the sentence that names the right one
_NAMES_MIN = 2  # known names in a header row
_NAMES_SURE = 5  # with so many it is one, whatever its other cells say
_NAMES_TOLD = 5
_BEFORE_NAMES = b' \t"\xef\xbb\xbf'
_ORDERS_MAX = 32  # header rows that are remembered: a topic has few, and one of 130 names costs 54 of 69 µs
_END = "\0end"  # a cell behind the last one: an open quote swallows it


class Unread(Exception):  # noqa: N818 - it is caught at once, and tells of no error
    """A slot was asked for that a partial row has not."""


class _Partial(list[Slot]):
    """The slots of a row that lacks cells which the map reads; asking for one of those raises Unread."""

    def __init__(self, slots: Slots, missing: Collection[int]) -> None:
        super().__init__(slots)
        self._missing = frozenset(missing)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204 - as list
        if index in self._missing:
            raise Unread
        return super().__getitem__(index)


class Partial(NamedTuple):
    """A row that lacks cells which the map reads. slots: those it has; problem: why it is no call."""

    slots: Slots
    problem: Problem


class _Order(NamedTuple):
    """Where the cells of a row stand.

    at: the index for each path, None where there is no such column. least, most: how many cells a row has;
    most None: those behind are of a newer release. fault: why rows cannot be read by this header row; "".
    """

    at: tuple[int | None, ...]
    least: int
    most: int | None
    fault: str


class CsvReader:
    """Reads one line of CSV."""

    def __init__(
        self,
        paths: Sequence[str],
        columns: Sequence[str],
        *,
        optional: Collection[str] = (),
        separator: str = ",",
        url_encoded: bool = False,
    ) -> None:
        """columns: the names in the map's order; optional: those that may be lacking; paths: those read."""
        self._paths = tuple(paths)
        self._columns = tuple(columns)
        self._names = frozenset(name.casefold() for name in columns)
        self._spelt = frozenset(columns)
        self._digits = any("0" <= name[:1] <= "9" for name in columns)
        self._mark = next((path for path in paths if path not in optional), "").encode()
        self._optional = frozenset(optional)
        self._separator = separator
        self._clean = plain if url_encoded else str.strip
        at = tuple(self._columns.index(path) for path in paths)
        needed = (index for index, path in zip(at, paths, strict=True) if path not in self._optional)
        self._own = _Order(at, max(needed, default=0) + 1, None, "")
        self._orders: dict[bytes, _Order] = {}

    def read(self, raw: bytes, columns: bytes | None = None) -> Slots | Skipped | Problem | Partial:
        """Return the slots. columns: the header row of the record's file; None: it has none.

        Without a header row, cells after the last known column are ignored; with one, a row has as many cells
        as it. Skipped: the header row. A Problem: no CSV, one cell only, cells that have moved, a header row
        in another order than the record's.
        """
        order = self._own if columns is None else self._order_of(columns)
        cells = self._cells(_text(raw), self._separator)
        if isinstance(cells, Problem):
            return cells
        if self._names_columns(cells):
            return self._header(cells, order)
        count = len(cells)
        if count < order.least or order.fault:
            return self._partial(cells, order)
        if order.most is not None and count > order.most and any(map(str.strip, cells[order.most :])):
            detail = (
                f"the row has {count} cells and the header row {order.most}: a {self._separator!r} without "
                "quotes has moved some; let what writes the file quote its cells"
            )
            return Problem(Reason.MALFORMED, detail, shown(cells[order.most]))
        clean = self._clean
        return [clean(cells[at]) if at is not None and at < count else None for at in order.at]

    def is_header(self, raw: bytes) -> bool:
        """Return whether a line is a header row, be it with another separator or faulty."""
        if raw.lstrip(_BEFORE_NAMES)[:1].isdigit() and not self._digits and self._mark not in raw:
            return False  # most lines are rows, and most of those need not be parsed for it
        text = _text(raw)
        return self._is_header_with(text, self._separator) or self._other_separator(text) is not None

    def header_fault(self, raw: bytes) -> str:
        """Return why rows cannot be read by this header row: a sentence; "": they can."""
        text = _text(raw)
        other = None if self._is_header_with(text, self._separator) else self._other_separator(text)
        if other is not None:
            return (
                f"the header row has {other!r} between columns, and the map {self._separator!r}; "
                "give the source a copy of the map with this separator"
            )
        return self._order_of(raw).fault

    def _is_header_with(self, text: str, separator: str) -> bool:
        cells = self._cells(text, separator)
        return not isinstance(cells, Problem) and self._names_columns(cells)

    def _other_separator(self, text: str) -> str | None:
        if self._separator in text:
            return None
        return next((mark for mark in _SEPARATORS if self._is_header_with(text, mark)), None)

    def _names_columns(self, cells: list[str]) -> bool:
        """Return whether cells are names of columns: many, or some and no number, as calls have."""
        known = 0
        for cell in cells:
            name = cell.strip().casefold()
            if name in self._names:
                known += 1
            elif "0" <= name[:1] <= "9":
                return len(self._spelt.intersection(cells)) >= _NAMES_SURE
        return known >= _NAMES_MIN

    def _cells(self, text: str, separator: str) -> list[str] | Problem:
        try:
            cells = cells_of(text, separator)
        except ValueError as error:
            return Problem(Reason.MALFORMED, str(error), shown(text))
        if len(cells) > 1:
            return cells if text.isprintable() else [controls_shown(cell.strip()) for cell in cells]
        if not text.strip():
            return Problem(Reason.MALFORMED, "the line is empty", "")
        return Problem(
            Reason.MALFORMED,
            f"the line has no {separator!r} between columns; give the map the switch's own separator",
            shown(text),
        )

    def _order_of(self, columns: bytes) -> _Order:
        if len(columns) > MAX_BYTES:
            detail = f"the header row has {len(columns)} bytes; at most {MAX_BYTES} are taken"
            return self._without_order(detail)
        order = self._orders.get(columns)
        if order is None:
            if len(self._orders) >= _ORDERS_MAX:
                self._orders.clear()
            cells = self._cells(_text(columns), self._separator)
            order = self._orders[columns] = (
                self._without_order(f"the header row cannot be read: {cells.detail}")
                if isinstance(cells, Problem)
                else self._order(cells)
            )
        return order

    def _without_order(self, fault: str) -> _Order:
        return _Order((None,) * len(self._paths), 0, None, fault)

    def _order(self, cells: list[str]) -> _Order:
        """Return where the columns of a header row stand, with what is wrong with it."""
        names = [cell.strip() for cell in cells]
        while names and not names[-1]:
            names.pop()
        folded = [name.casefold() for name in names]
        at: list[int | None] = []
        lacking, twice = [], []
        for path in self._paths:
            found = [index for index, name in enumerate(names) if name == path] or [
                index for index, name in enumerate(folded) if name == path.casefold()
            ]
            at.append(found[0] if len(found) == 1 else None)
            if len(found) > 1:
                twice.append(path)
            elif not found and path not in self._optional:
                lacking.append(path)
        return _Order(tuple(at), len(names), len(names), _fault(lacking, twice))

    def _header(self, cells: list[str], order: _Order) -> Skipped | Problem:
        found = self._order(cells)
        if found.fault:
            return Problem(Reason.MALFORMED, found.fault, shown(self._separator.join(cells)))
        for path, at, expected in zip(self._paths, found.at, order.at, strict=True):
            if at is not None and at != expected:
                place = "another one" if expected is None else f"column {expected + 1}"
                detail = (
                    f"{path} is column {at + 1} in this header row and {place} for its record; send the file "
                    "with `rater ingest`, which reads rows by their header row, or give the source a map "
                    "whose columns stand in this order"
                )
                return Problem(Reason.MALFORMED, detail, shown(cells[at]))
        return Skipped("header row")

    def _partial(self, cells: list[str], order: _Order) -> Partial:
        count, slots, missing = len(cells), list[Slot](), set[int]()
        for index, (path, at) in enumerate(zip(self._paths, order.at, strict=True)):
            slots.append(self._clean(cells[at]) if at is not None and at < count else None)
            # The last cell that is there may be what was left of it.
            is_whole = at is not None and at < count - (count < order.least)
            if not is_whole and (order.fault or path not in self._optional):
                missing.add(index)
        detail = order.fault or (
            f"the row has {count} cells and needs {order.least}: it was cut off, or the switch writes other "
            "columns; give the source a map with its columns (with ? behind those that may be lacking)"
        )
        return Partial(_Partial(slots, missing), Problem(Reason.MALFORMED, detail, shown(cells[-1])))


def cells_of(text: str, separator: str) -> list[str]:
    """Return the cells of a line without its line break. Raises ValueError with a sentence: it is no CSV."""
    if '"' not in text and "\n" not in text and "\r" not in text:
        return text.split(separator)
    try:
        (cells,) = csv.reader([f"{text}{separator}{_END}"], delimiter=separator)
    except csv.Error as error:
        why = "it has several lines" if "new-line" in str(error) else str(error)
        msg = f"the line is no CSV ({why}); one line is one record"
        raise ValueError(msg) from error
    if cells.pop() != _END:
        msg = "a quote is never closed: the line was cut off, or a quote in a cell is not doubled"
        raise ValueError(msg)
    return cells


def _text(raw: bytes) -> str:
    return text_of(raw).strip("\r\n")


def _fault(lacking: list[str], twice: list[str]) -> str:
    if twice:
        return f"the header row names {twice[0]} twice, so it is not told which is meant; take one away"
    if not lacking:
        return ""
    more = f" and {len(lacking) - _NAMES_TOLD} more" if len(lacking) > _NAMES_TOLD else ""
    return (
        f"the header row names no {', '.join(lacking[:_NAMES_TOLD])}{more}, which the map reads; it is "
        "another file than the map is for, or give the source a map with the file's names"
    )
