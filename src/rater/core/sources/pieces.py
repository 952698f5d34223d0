"""Pieces of a map, each of the type that it has to be; every fault of one is kept with its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

from rater.core.reasons import VALUE_CHARS_MAX, shown
from rater.core.sources.map_language import MapFault
from rater.core.zones import Zones


class Pieces:
    """Returns pieces of a map's tables; where one is at fault, what stands in for it.

    A prefix ends with the dot before the key; `where` is the path of the piece itself.
    """

    def __init__(self, name: str, zones: Zones) -> None:
        """Read pieces of a map. name: the faults' `file`; zones: those that there are."""
        self.faults: list[MapFault] = []
        self.zones: dict[str, ZoneInfo] = {}
        """By name: those that the map names."""
        self._name = name
        self._zones = zones

    def fault(self, path: str, value: object, problem: str) -> None:
        """Keep a fault of the piece at a path."""
        text = repr(value) if isinstance(value, str) and value else shown(value)
        self.faults.append(MapFault(self._name, path, text[:VALUE_CHARS_MAX], problem))

    def unknown(
        self, key: str, known: Iterable[str], prefix: str, value: object, *, at: str = "", what: str = "key"
    ) -> None:
        """Keep a fault of a name that is not known, with one that looks like it; at: its path."""
        names = list(known)
        near = get_close_matches(key, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names)[:40])}"
        self.fault(at or f"{prefix}{key}", value, f"there is no such {what}; {hint}")

    def keys(self, table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        """Keep a fault of each key of a table that is not known."""
        prefix = f"{where}." if where else ""
        known = frozenset(known)
        for key in table:
            if key not in known:
                self.unknown(key, known, prefix, table[key])

    def table(self, table: Mapping[str, Any], key: str, prefix: str = "") -> dict[str, Any]:
        """Return the table of a key, empty where there is none."""
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self.fault(f"{prefix}{key}", value, f"is a table; write [{prefix}{key}] and its keys below it")
        return {}

    def items(self, table: Mapping[str, Any], key: str, prefix: str) -> list[Any]:
        """Return the list of a key, empty where there is none."""
        value = table.get(key, [])
        if isinstance(value, list):
            return value
        self.fault(f"{prefix}{key}", value, "is a list; write it in [ ], tables as [[…]]")
        return []

    def texts(self, table: Mapping[str, Any], key: str, prefix: str) -> list[str]:
        """Return the texts of a list."""
        texts: list[str] = []
        for index, one in enumerate(self.items(table, key, prefix)):
            if isinstance(one, str) and (one or key == "absent"):
                texts.append(one)
            else:
                self.fault(f"{prefix}{key}[{index}]", one, 'is a text that is not empty; quote it: "0"')
        return texts

    def text(self, table: Mapping[str, Any], key: str, prefix: str) -> str:
        """Return the text of a key, "" where there is none."""
        value = table.get(key, "")
        if isinstance(value, str):
            return value
        self.fault(f"{prefix}{key}", value, 'is a text; quote it: "0"')
        return ""

    def one_of(self, table: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> str:
        """Return the value of a key, which is one of these; "" where it is none."""
        value = table.get(key)
        if isinstance(value, str) and value in known:
            return value
        problem = (
            f"is missing; give one of {', '.join(known)}"
            if value is None
            else f"is none of {', '.join(known)}"
        )
        self.fault(where, "" if value is None else value, problem)
        return ""

    def zone(self, value: object, where: str) -> ZoneInfo | None:
        """Return the zone of a name; None: there is no name, or no such zone."""
        if value is None:
            return None
        try:
            found = self._zones.latest(value)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            self.fault(where, value, "is no IANA time zone; write one like Europe/Kyiv or UTC")
            return None
        self.zones[found.key] = found
        return found

    def pattern(self, table: Mapping[str, Any], key: str, where: str) -> re.Pattern[str]:
        """Return the regular expression of a key."""
        text = self.text(table, key, f"{where}.")
        try:
            return re.compile(text)
        # ValueError: (?L) is of bytes only
        except (re.error, RecursionError, OverflowError, ValueError) as error:
            self.fault(f"{where}.{key}", text, f"is no regular expression: {error}")
            return re.compile("")
