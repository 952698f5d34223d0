"""The header row of a deck: found by its words, or by what the profile says of its columns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rater.core.decks.cells import Cell, letters
from rater.core.decks.words import Unit, field_of, plain

HEADER_ROWS = 200
"""So many rows are looked through for it: what stands before is the carrier's letter."""

_LETTERS = re.compile(r"[A-Z]{1,3}")
_ASIDE = ("country", "old price")
"""Columns that are read where no better one is there: a name, a price."""
_MEANT = {"country": "name", "old price": "price"}


class Header(NamedTuple):
    """The columns of a deck.

    row: the number of the header row, 0 where all columns were named by letters and there is none. columns:
    field → place, from 0. titles: place → what stands above it. unread: titles of columns that mean nothing.
    width: cells of the header row.
    """

    row: int
    columns: dict[str, int]
    titles: dict[int, str]
    unread: list[str]
    width: int = 0

    def title(self, name: str) -> str:
        """Return what stands above a field's column; the field's name where nothing does."""
        return self.titles.get(self.columns[name], name)


def find_header(rows: Iterable[tuple[int, Sequence[Cell]]], given: Mapping[str, str]) -> Header:
    """Return the header of a sheet's first rows (number, cells).

    given: field → header or letter of its column; empty: none. Raises ValueError with a sentence where there
    is no header row, or where it can be read in two ways.
    """
    by_letter = {name: place_of(text) for name, text in given.items() if text and _LETTERS.fullmatch(text)}
    by_words = {name: plain(text) for name, text in given.items() if text and name not in by_letter}
    nearest: tuple[int, int, list[str]] = 0, 0, []
    for number, cells in rows:
        titles = {at: cell.strip() for at, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()}
        columns, problem = _columns(titles, given, by_words)
        written = len(columns)
        columns |= by_letter
        if _whole(columns) and (written or not by_letter):
            if problem:
                raise ValueError(f"row {number}: {problem}")
            return Header(number, columns, titles, _unread(titles, columns), len(cells))
        if written > nearest[0] or (written and problem):
            nearest = written, number, [problem] if problem else sorted(columns)
    if _whole(by_letter):
        return Header(0, by_letter, {}, [])
    raise ValueError(_none_found(nearest, by_words))


def _whole(columns: Mapping[str, int]) -> bool:
    return "price" in columns and ("code" in columns or "country_code" in columns)


def _none_found(nearest: tuple[int, int, list[str]], by_words: Mapping[str, str]) -> str:
    count, number, known = nearest
    near = f" (nearest is row {number}: {', '.join(known)})" if count else ""
    named = f", nor {', '.join(repr(text) for text in by_words.values())}" if by_words else ""
    return (
        f"no header row with a code and a price{named} in the first {HEADER_ROWS} rows{near}; name the "
        "columns by their headers or letters: --columns code=A,price=D"
    )


def _columns(
    titles: Mapping[int, str], given: Mapping[str, str], by_words: Mapping[str, str]
) -> tuple[dict[str, int], str]:
    """Return the fields of a row's titles, and what is wrong with them."""
    found: dict[str, list[int]] = defaultdict(list)
    problem = ""
    named = {text: name for name, text in by_words.items()}
    for at, title in titles.items():
        name = named.get(plain(title))
        if name is None:
            try:
                name = field_of(title)
            except Unit as error:
                problem = problem or ("" if "price" in given else str(error))
                name = "price"
            if name is None or _MEANT.get(name, name) in given:
                continue
        found[name].append(at)
    for aside in _ASIDE:
        places = found.pop(aside, [])
        if places:
            found.setdefault(_MEANT[aside], places)
    for name, places in found.items():
        if len(places) > 1 and name != "name" and not problem:
            several = " and ".join(f"{letters(at)} {titles[at]!r}" for at in places)
            problem = f"both {several} may be the {name}; say which: --columns {name}={letters(places[0])}"
    return {name: places[0] for name, places in found.items()}, problem


def _unread(titles: Mapping[int, str], columns: Mapping[str, int]) -> list[str]:
    return [title for at, title in titles.items() if at not in columns.values()]


def place_of(text: str) -> int:
    """Return the place, from 0, of a column's letters."""
    place = 0
    for letter in text:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1
