"""All golden cases as one: one catalog, and lanes of records, for a system that is slow to start.

The cases know nothing of each other and call their clients alike. So the ids and names of each get a number
in front, which is taken away again from what comes out. Left alone are currencies, services and what
identification rules look at: cases agree in them, or use names of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from golden.cases import EDITED_AT, LOADED_AT, Case

YEARS = 28
"""Calendars repeat after them: days of the week, leap years, changes of clocks."""
_MOVED = datetime(2026 + YEARS, 1, 1, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC)
MOVED_MS = _MOVED // timedelta(milliseconds=1)
_YEAR = re.compile(r"\b20([23][0-9])-")
_DAY_MS = 86_400_000
_LATE_MAX_MS = 4 * _DAY_MS
"""A lane may be so far ahead of a case's records: its calls stay within the duplicate window of 7 days."""

_TIME_REASONS = {"too_old", "time_in_future", "bad_duration"}
KEPT_SOURCES = {"cp", "adjust"}
"""Refused as such: with a tag in front they would be sources like others."""
_NAMES = {"id", "name", "client", "account", "package", "code_deck", "tax_profile", "number"}


def later(text: str) -> str:
    """Return a text with its dates, which are those of 2020 to 2039, 28 years later."""
    return _YEAR.sub(lambda found: f"20{int(found[1]) + YEARS}-", text)


def later_at() -> datetime:
    """Return when the catalog of all cases is loaded."""
    return LOADED_AT + _MOVED


def edited_at() -> datetime:
    """Return when what some cases edit of it is loaded."""
    return EDITED_AT + _MOVED


@dataclass(frozen=True)
class Tagged:
    """A case whose ids have a number in front. The number's digits keep the order of ids that are numbers."""

    case: Case
    tag: str

    def plain(self, text: str) -> str:
        """Return a text that came out as the case knows it."""
        return text.replace(self.tag, "")


def tagged(cases: Sequence[Case]) -> list[Tagged]:
    """Return the cases with ids of their own, 28 years later."""
    return [_tagged(case, f"6060{number:04d}") for number, case in enumerate(cases)]


def _tagged(case: Case, tag: str) -> Tagged:
    moved = _later(case)
    if tag in moved.catalog.decode() or any(tag in raw.decode() for raw, _ in moved.records):
        raise ValueError(f"{case.name} has {tag} in it; choose another tag")
    records = [(tagged_record(raw, tag), record_ms) for raw, record_ms in moved.records]
    edited = None if moved.edited is None else tagged_catalog(moved.edited, tag)
    catalog = tagged_catalog(moved.catalog, tag)
    return Tagged(replace(moved, catalog=catalog, records=records, edited=edited), tag)


def tagged_catalog(text: bytes, tag: str) -> bytes:
    """Return the catalog, as JSON, with the tag in front of its ids and names."""
    found = {
        section: rows if section in ("currencies", "services") else _named(rows, tag)
        for section, rows in yaml.safe_load(text).items()
    }
    return json.dumps(found, default=str).encode()


def _later(case: Case) -> Case:
    """Return the case 28 years later.

    A record cannot be older than what its lane has read, and a load is of now. In the future nothing is late.
    """
    return replace(
        case,
        catalog=later(case.catalog.decode()).encode(),
        edited=None if case.edited is None else later(case.edited.decode()).encode(),
        records=[(later(raw.decode()).encode(), ms + MOVED_MS) for raw, ms in case.records],
        expected=json.loads(later(json.dumps(case.expected))),
    )


def _named(value: Any, tag: str, name: str = "", *, leaves: bool = False) -> Any:
    """Return part of a catalog with the tag in front of its ids and names; leaves: every text is a name."""
    if isinstance(value, dict):
        leaves = leaves or name == "rate_tables"  # of a client or account: side → service → table
        return {key: _named(inner, tag, key, leaves=leaves) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, tag) for inner in value]
    return tag + value if isinstance(value, str) and (leaves or name in _NAMES) else value


def tagged_record(raw: bytes, tag: str) -> bytes:
    """Return the record with the tag in front of its source and of the clients and accounts that it names."""
    try:
        cdr = json.loads(raw)
    except ValueError:
        return raw
    if not isinstance(cdr, dict):
        return raw
    source = cdr.get("source", "default")
    cdr["source"] = source if source in KEPT_SOURCES else tag + source
    for side in (cdr.get("orig"), cdr.get("term")):
        if isinstance(side, dict):
            side.update({name: tag + side[name] for name in ("client", "account") if name in side})
    return json.dumps(cdr, ensure_ascii=False).encode()


def merged(cases: Sequence[Tagged], *, edited: bool = False) -> bytes:
    """Return one catalog file that holds those of all cases, or what they edit."""
    catalogs = [(one.case.name, one.case.edited if edited else one.case.catalog) for one in cases]
    return merged_catalogs([(name, catalog) for name, catalog in catalogs if catalog is not None])


def merged_catalogs(catalogs: Sequence[tuple[str, bytes]]) -> bytes:
    """Return one catalog file that holds those of cases, by name, as `tagged_catalog` made them."""
    whole: dict[str, Any] = {"currencies": {"base": "USD", "rates": {}}}
    for name, catalog in catalogs:
        for section, rows in json.loads(catalog).items():
            if section == "currencies":
                _agree(whole["currencies"], rows, name)
            else:
                whole.setdefault(section, []).extend(rows)
    return json.dumps(whole).encode()


def _agree(whole: dict[str, Any], currencies: dict[str, Any], name: str) -> None:
    for currency, rate in currencies.get("rates", {}).items():
        if whole["rates"].setdefault(currency, rate) != rate or currencies["base"] != whole["base"]:
            raise ValueError(
                f"{name} has another rate of {currency} than the cases before; take another name"
            )


def lanes(cases: Sequence[Tagged]) -> list[list[Tagged]]:
    """Spread the cases over lanes, each in the order in which its records may follow each other.

    The time of a lane never runs backwards, so a case comes where the lane is not too far ahead; one that is
    about the time of its records, where the lane is not ahead at all.
    """
    found: list[tuple[int, list[Tagged]]] = []
    for one in sorted(cases, key=lambda one: max(ms for _, ms in one.case.records)):
        first = one.case.records[0][1]
        last = max(ms for _, ms in one.case.records)
        slack = 0 if _about_time(one.case) else _LATE_MAX_MS
        for number, (lane_ms, lane) in enumerate(found):
            if lane_ms <= first + slack:
                lane.append(one)
                found[number] = max(lane_ms, last), lane
                break
        else:
            found.append((last, [one]))
    return [lane for _, lane in found]


def _about_time(case: Case) -> bool:
    return any(one.get("rejected") in _TIME_REASONS for every in case.expected for of in every for one in of)
