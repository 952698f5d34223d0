"""A deck as text: its encoding, what separates its cells, its rows."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping
from itertools import islice

from rater.core.decks.headers import HEADER_ROWS, Header, find_header
from rater.core.decks.reading import Sheet
from rater.core.file_forms import SEPARATORS, decoded
from rater.deck_files.unreadable import UNPACKED_MAX, Unreadable


def text_sheet(file: str, raw: bytes, columns: Mapping[str, str]) -> Sheet:
    """Return the rows of a text; raises Unreadable, also while they are read."""
    if len(raw) > UNPACKED_MAX:
        raise Unreadable(file, "", f"has more than {UNPACKED_MAX >> 20} MiB; no deck is so large")
    try:
        text, encoding = decoded(raw)
    except ValueError as error:
        raise Unreadable(file, "", str(error)) from None
    if not text.strip():
        raise Unreadable(file, "", "is empty")
    if "\0" in text:
        raise Unreadable(file, "", "holds zero bytes, so it is no text; save the deck as CSV or .xlsx")
    mark = _separator(file, text, columns)
    notes = [f"read as text in {encoding}, separated by {SEPARATORS[mark]}"]
    if encoding == "Windows-1252":
        notes.append(
            "names with other letters than Western European ones may be wrong: then save it as UTF-8"
        )
    return Sheet(file, "", _rows(file, text, mark), notes=notes)


def _rows(file: str, text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not CSV: {error}; a quotation mark that is not closed?"
            raise Unreadable(file, f"line {reader.line_num}", problem) from None
        yield reader.line_num, cells


def _separator(file: str, text: str, columns: Mapping[str, str]) -> str:
    """Return what separates the cells: that by which a header row is found, else what is there most often."""
    found: dict[str, int] = {}
    for mark in SEPARATORS:
        rows = _first(file, text, mark)
        try:
            header = find_header(rows, columns)
        except ValueError:
            continue
        found[mark] = len(header.titles) or sum(_has_code(cells, header) for _, cells in rows)
    if found:
        return max(found, key=lambda mark: found[mark])
    head = "".join(islice(io.StringIO(text), HEADER_ROWS))
    return max(SEPARATORS, key=head.count)


def _has_code(cells: list[str], header: Header) -> bool:
    """Return whether a row has a code, and its other columns, where no header row tells it."""
    at = header.columns.get("code", header.columns.get("country_code", 0))
    return len(cells) > max(header.columns.values()) and _CODE.fullmatch(cells[at]) is not None


_CODE = re.compile(r"[+0-9 -]*[0-9] *")


def _first(file: str, text: str, mark: str) -> list[tuple[int, list[str]]]:
    """Return the first rows, as far as they can be read by this separator."""
    out: list[tuple[int, list[str]]] = []
    with contextlib.suppress(Unreadable):
        out.extend(islice(_rows(file, text, mark), HEADER_ROWS))
    return out
