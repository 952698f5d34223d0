"""The money of a deck's prices where no cell says it: titles, formats, the letter above, decimal marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rater.core.decks import words
from rater.core.decks.cells import Cell, has_decimal_comma, may_be_thousands
from rater.core.decks.headers import Header


def column_problems(
    header: Header, formats: Mapping[int, Sequence[str]], currency: str
) -> Iterator[tuple[str, str, str]]:
    """Yield (field, title, problem) of price columns that are not in this currency for a minute.

    formats: place of a column → formats of numbers in it.
    """
    for name in ("price", "setup_fee"):
        at = header.columns.get(name, -1)
        title = header.titles.get(at, "")
        if (other := words.other_currency(title, currency)) is not None:
            yield name, title, f"is in {other}, the table is in {currency}; import into another table"
        for shown in formats.get(at, ()):
            if (how := words.shown_otherwise(shown, currency)) is not None:
                problem = (
                    f"numbers that are shown {how} (format {shown}), the table is in {currency}; correct the "
                    "numbers or the format"
                )
                yield name, title, problem
    try:
        words.check_unit(header.titles.get(header.columns["price"], ""))
    except words.Unit as error:
        yield "price", "", str(error)


def letter_problems(lines: Iterable[tuple[int, str]], currency: str) -> Iterator[tuple[int, str, str]]:
    """Yield (row, line, problem) of lines above the rows that tell of prices in other money."""
    for number, line in lines:
        other = words.tells_other_money(line, currency)
        if other is not None:
            problem = (
                f"tells of prices in {other}, the table is in {currency}; import into another table, or take "
                "the line out if it is wrong"
            )
            yield number, line, problem


class Marks:
    """The decimal marks of a deck whose profile does not say them."""

    def __init__(self) -> None:
        self._has_comma = False
        self._points: list[tuple[int, str, Cell]] = []

    def add(self, number: int, name: str, cell: Cell) -> None:
        """Look at the cell of a field that was read as a price, in this row."""
        self._has_comma = self._has_comma or has_decimal_comma(cell)
        if may_be_thousands(cell):
            self._points.append((number, name, cell))

    def problems(self) -> Iterator[tuple[int, str, Cell, str]]:
        """Yield (row, field, cell, problem) of each `1.234` where other prices have decimal commas."""
        for number, name, cell in self._points if self._has_comma else ():
            problem = (
                "is the point a decimal mark or one of thousands? other prices have a decimal comma: say it "
                'in the profile: decimal = ","'
            )
            yield number, name, cell, problem
