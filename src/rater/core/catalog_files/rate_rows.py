"""Rows of code decks and rate tables: in the catalog file, or in a CSV that stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rater.core.catalog.codes import Row
from rater.core.catalog.specs import DeckSpec, RateTableSpec
from rater.core.catalog_files.fields import (
    CODE,
    CODE_NAME_CHARS_MAX,
    CODE_PROBLEM,
    CURRENCY,
    CURRENCY_PROBLEM,
    Fields,
    Rows,
    Source,
    plain,
    unquoted,
    what,
)
from rater.core.catalog_files.syntax import csv_rows
from rater.core.instants import BEGINNING_MS

OpenFile = Callable[[str], bytes]
"""Opens the file beside the catalog file by its name; raises OSError when it cannot."""


def _part(
    row: Fields, open_file: OpenFile, columns: frozenset[str], required: tuple[str, ...]
) -> tuple[Source, Rows]:
    """Return the rows of the CSV that stands beside the catalog file."""
    source = Source(row.text("file"), row.source.faults, is_csv=True)
    if not row.good:
        return source, ()
    try:
        raw = open_file(source.name)
    except OSError as error:
        row.fault("file", f"cannot be read ({error.strerror or 'no such file'}); correct the name")
        return source, ()
    return source, csv_rows(source, raw, columns, required)


def _in_file(row: Fields, name: str) -> bool:
    """Return whether the rows stand in a file beside; they stand there or here."""
    if (row.values.get("file") is None) == (row.values.get(name) is None):
        row.fault(name, f"not exactly one of {name} and file; give one of them")
    return row.values.get("file") is not None


def read_deck(open_file: OpenFile, source: Source, path: str, values: Mapping[Any, Any]) -> DeckSpec:
    """Return a code deck."""
    row = Fields(source, path, values, frozenset(("name", "codes", "file")))
    name = row.name("name")
    codes: dict[Any, Any] = {}
    if _in_file(row, "codes"):
        part, rows = _part(row, open_file, frozenset(("code", "code_name")), ("code", "code_name"))
        for at, cells in rows:
            code, code_name = cells.get("code"), cells.get("code_name")
            _check_code(part, f"{at}.code", code, f"{at}.code_name", code_name)
            if code in codes:
                part.fault(f"{at}.code", code, "stands in the deck twice; leave one out")
            codes[code] = code_name
    else:
        codes = dict(row.mapping("codes", '{"380": Ukraine}'))
        for code, code_name in codes.items():
            at = f'{row.at("codes")}["{what(code)}"]'
            _check_code(source, at, code, at, code_name)
    return DeckSpec(name, codes)


def _check_code(source: Source, path: str, code: object, name_path: str, code_name: object) -> None:
    if not isinstance(code, str):
        source.fault(path, code, unquoted(code, "a code") if code is not None else "missing; give it")
    elif not CODE.fullmatch(code):
        source.fault(path, code, CODE_PROBLEM)
    if (
        not isinstance(code_name, str)
        or not 0 < len(code_name) <= CODE_NAME_CHARS_MAX
        or not plain(code_name)
    ):
        problem = f"not a code name; write a text of 1 to {CODE_NAME_CHARS_MAX} characters, quoted"
        source.fault(name_path, code_name, problem)


_RATE = frozenset((
    "code", "price", "setup_fee", "min_time", "interval", "grace_time", "effective_from", "effective_to",
))  # fmt: skip


def read_rate_table(
    open_file: OpenFile, source: Source, path: str, values: Mapping[Any, Any]
) -> RateTableSpec:
    """Return a rate table."""
    row = Fields(source, path, values, frozenset(("name", "currency", "code_deck", "rates", "file")))
    name, currency = row.name("name"), row.form("currency", CURRENCY, CURRENCY_PROBLEM)
    deck = row.text("code_deck", None)
    if _in_file(row, "rates"):
        rates = _rates(*_part(row, open_file, _RATE, ("code", "price")))
    else:
        rates = _rates(source, row.rows("rates"))
    return RateTableSpec(name, currency, deck, rates)


def _rates(source: Source, rows: Rows) -> list[Row]:
    """Return the rows, sorted by code and `effective_from`."""
    out: dict[tuple[str, int], Row] = {}
    places: dict[tuple[str, int], str] = {}
    for at, values in rows:
        row = Fields(source, at, values, _RATE)
        rate = Row(
            row.form("code", CODE, CODE_PROBLEM), row.decimal("price"), row.decimal("setup_fee", 0),
            row.integer("min_time", 0, 0), row.integer("interval", 1, 1), row.integer("grace_time", 0, 0),
            row.instant("effective_from"), row.instant("effective_to"),
        )  # fmt: skip
        if not row.good:
            continue
        since = BEGINNING_MS if rate.from_ms is None else rate.from_ms
        if rate.to_ms is not None and rate.to_ms <= since:
            row.fault("effective_to", "not after effective_from; change one of them")
        key = (rate.code, since)
        if key in out:
            row.fault("code", f"{places[key]} has the same code and effective_from; change or leave out one")
        places[key], out[key] = at, rate
    return [out[key] for key in sorted(out)]
