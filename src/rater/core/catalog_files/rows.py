"""Catalog files become checked rows: one fault for each thing that is wrong, not the first alone.

What a file says by itself is checked here; what it says about what is loaded already, in `merging`. So that
one run names the faults of both, faulty rows are handed on as well, marked, with stand-ins for what could not
be read. Source of the rules: CONTRACTS.md "Catalog file", RULES.md section 3 and 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from rater.core.catalog.specs import ClientPackageSpec, ClientSpec
from rater.core.catalog_files import fast_rows
from rater.core.catalog_files.client_rows import nested, read_client, read_client_package
from rater.core.catalog_files.doubles import refuse_doubles
from rater.core.catalog_files.fields import HINTS_MAX, Fault, Fields, Rows, Source, names_of
from rater.core.catalog_files.package_rows import read_package
from rater.core.catalog_files.placed import KEYS, CatalogFile, Placed
from rater.core.catalog_files.rate_rows import OpenFile, read_deck, read_rate_table
from rater.core.catalog_files.shared_rows import (
    read_currencies,
    read_did,
    read_identification_rule,
    read_reseller,
    read_service,
    read_tax_profile,
)
from rater.core.catalog_files.syntax import REMEDY, csv_header, csv_rows, parse
from rater.core.file_forms import HEAD_BYTES, SEPARATORS, foreign, packing, separator


def read_files(files: Sequence[tuple[str, bytes]], open_file: OpenFile) -> CatalogFile:
    """Return the checked rows of files (name, content) that are loaded together, and their faults.

    The form is told by the name: .csv, .json, else YAML. `open_file` opens the CSV that a deck or table
    names; it raises OSError when it cannot. A CSV file itself holds clients or client packages, told by its
    header.
    """
    out = CatalogFile()
    sections: dict[str, _Read] = {
        **_SECTIONS,
        "code_decks": partial(read_deck, open_file),
        "rate_tables": partial(read_rate_table, open_file),
    }
    for name, raw in files:
        if name.lower().endswith(".csv"):
            _read_csv(Source(name, out.faults, is_csv=True), raw, out)
            continue
        source = Source(name, out.faults)
        if _is_foreign(source, raw):
            out.lost |= _ALL
            continue
        parsed = fast_rows.parse(raw)
        found = parse(source, raw if parsed is None else parsed.rest)
        if isinstance(found, dict):
            row = Fields(source, "", found, frozenset(("currencies", *sections)))
            read_currencies(row, out)
            for section, read in sections.items():
                if parsed is not None and section in parsed.rows:
                    _usual_rows(source, parsed.rows[section], read, section, out)
                else:
                    _rows_of(source, row.rows(section), read, section, out)
            continue
        out.lost |= _ALL
        if found is not None:
            source.fault("", found, f"not a catalog; write sections such as {', '.join(_SECTIONS)}")
    out.lost.update(_lost(out.faults))
    if "clients" in out.lost:
        out.lost.add("accounts")
    refuse_doubles(out)
    return out


def read_packages(name: str, raw: bytes, statuses: Mapping[str, str]) -> CatalogFile:
    """Return the packages of a file: one as in a catalog, a list of them, or a catalog's `packages` alone.

    statuses: of a package whose row gives none, by id.
    """
    out = CatalogFile()
    source = Source(name, out.faults)
    found = None if _is_foreign(source, raw) else parse(source, raw)
    if isinstance(found, list) or (isinstance(found, dict) and "packages" in found and "id" not in found):
        whole = found if isinstance(found, dict) else {"packages": found}
        rows: Rows = Fields(source, "", whole, frozenset(("packages",))).rows("packages")
    elif isinstance(found, dict):
        rows = [("package", found)]
    else:
        rows = []
    told = [
        (at, {**row, "status": statuses.get(str(row.get("id")))} if row.get("status") is None else row)
        for at, row in rows
    ]
    _rows_of(source, told, read_package, "packages", out)
    if not told and not out.faults:
        source.fault("", found, "no package; write one as in a catalog file, or a list of them")
    refuse_doubles(out)
    return out


_Read = Callable[[Source, str, Mapping[Any, Any]], Any]

_SECTIONS: dict[str, _Read] = {
    "services": read_service,
    "resellers": read_reseller,
    "tax_profiles": read_tax_profile,
    "packages": read_package,
    "clients": read_client,
    "identification": read_identification_rule,
    "client_packages": read_client_package,
    "dids": read_did,
}
"""Sections that need no file beside theirs."""

_CATALOGS = (".yaml", ".yml", ".json")


def _is_foreign(source: Source, raw: bytes) -> bool:
    """Refuse what is no catalog by its first bytes: packed, a workbook, cells of a deck."""
    told = packing(raw[:HEAD_BYTES])
    if told is None and not source.name.lower().endswith(_CATALOGS):
        lines = raw[:HEAD_BYTES].decode("utf-8", "replace").splitlines()
        mark = separator(lines)
        if mark is not None and not lines[0].lstrip().startswith(("{", "-", "#")):
            told = f"text whose cells are separated by {SEPARATORS[mark]}"
    if told is not None:
        source.fault("", "", f"is {told}, not a catalog; {REMEDY}")
    return told is not None


_ALL = frozenset(("currencies", "accounts", *KEYS))
_WHOLE = re.compile(r"(?:.*\.)?(accounts)(?:\[\d+\])?|(currencies)(?:\.\w+)?|(\w+)(?:\[\d+\])?")
"""Paths of sections and rows, which are at fault as a whole."""


def _lost(faults: list[Fault]) -> Iterable[str]:
    """Yield the sections that have rows of which nothing is known: no rows, misspelt, or there twice."""
    places = [_WHOLE.fullmatch(fault.path) for fault in faults]
    names = dict.fromkeys(place[place.lastindex or 0] for place in places if place is not None)
    for name in islice(names, HINTS_MAX):
        yield from get_close_matches(name, _ALL, n=1)
    yield from {fault.value for fault in faults if fault.path.startswith("line ")} & _ALL


def _rows_of(source: Source, rows: Rows, read: _Read, section: str, out: CatalogFile) -> None:
    to = getattr(out, section)
    for path, values in rows:
        before = len(out.faults)
        spec = read(source, path, values)
        good = len(out.faults) == before
        to.append(Placed(source.name, path, spec, good))
        if not good and section in KEYS:
            out.faulty.add((section, getattr(spec, KEYS[section])))


def _usual_rows(source: Source, rows: Sequence[Struct], read: _Read, section: str, out: CatalogFile) -> None:
    made, to = fast_rows.SPECS[section], getattr(out, section)
    for position, row in enumerate(rows):
        path = f"{section}[{position}]"
        spec = made(row)
        if spec is not None:
            to.append(Placed(source.name, path, spec))
        else:
            _rows_of(source, [(path, msgspec.to_builtins(row))], read, section, out)


def _read_csv(source: Source, raw: bytes, out: CatalogFile) -> None:
    """Read a CSV file of clients or client packages, told by its header."""
    told = foreign(raw[:HEAD_BYTES])
    if told is not None:
        source.fault("", "", f"is {told}, not CSV in UTF-8; {REMEDY}")
        out.lost.add("clients")
        return
    header = csv_header(raw)
    before = len(out.faults)
    if {"client", "package"} <= header:
        rows: Rows = csv_rows(source, raw, names_of(ClientPackageSpec), ("id",))
        _rows_of(source, rows, read_client_package, "client_packages", out)
    elif {"id", "currency"} <= header:
        rows = csv_rows(source, raw, names_of(ClientSpec))
        if len(out.faults) > before:
            out.lost.add("clients")
        _rows_of(source, ((path, nested(values)) for path, values in rows), read_client, "clients", out)
    else:
        out.lost.add("clients")
        problem = (
            "not clients (id, currency, …), nor client packages (id, client, package, …); correct the line, "
            "or name a code deck or rate table in a catalog file: file: NAME.csv; a carrier's deck is read "
            "by `rater decks import FILE --table NAME`"
        )
        mark = separator(header) if len(header) == 1 else None
        if mark is not None:
            problem = f"its cells are separated by {SEPARATORS[mark]}; {REMEDY}"
        source.fault("line 1", ",".join(sorted(header)), problem)
