"""The fields of a catalog file's rows, read one by one; whatever is wrong is noted, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any

from msgspec import Struct

from rater.core.amounts import COUNT_MAX, E10, parse_e10, parse_micros
from rater.core.catalog.codes import CODE_DIGITS_MAX
from rater.core.instants import DAY_MS
from rater.core.periods import canonical_when, parse_span, when_ms, zone_of
from rater.core.reasons import shown

TEXT_CHARS_MAX = 200
CODE_NAME_CHARS_MAX = 1000
"""Public decks list many towns in one code name."""
PRICE_MAX = 900_000_000
"""Of prices, fees and currency rates, in units of the currency: below 2^63 in 10^-10."""
HINTS_MAX = 1000
"""A hint takes 0.1 ms: a file with so many faults was not misspelt."""

_UTC = zone_of("UTC")
CURRENCY = re.compile(r"[A-Za-z0-9]{1,16}")
CURRENCY_PROBLEM = "not a currency; write 1 to 16 letters or digits, such as USD"
CODE = re.compile(rf"[0-9]{{1,{CODE_DIGITS_MAX}}}")
CODE_PROBLEM = f"not digits alone; write 1 to {CODE_DIGITS_MAX} of them"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class Fault(Struct, frozen=True):
    """One thing that is wrong in a catalog file: where, what is there, and a sentence with the remedy."""

    file: str
    path: str
    value: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.value, self.problem) if part)


def what(value: object) -> str:
    """Return a value as faults show it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = shown(value)
    return repr(text)[1:-1] if _CONTROL.search(text) else text


def plain(text: str) -> bool:
    """Return whether a text has no control characters."""
    return text.isprintable() or not _CONTROL.search(text)


def is_over(start: str, end: str) -> bool:
    """Return whether an end is not after the start; a day of doubt where one is a date at the client."""
    doubt = 0 if len(start) == len(end) else DAY_MS
    return when_ms(end, _UTC) <= when_ms(start, _UTC) - doubt


@cache
def names_of(form: type[Struct]) -> frozenset[str]:
    """Return the names of a row's fields."""
    return frozenset(form.__struct_fields__)


class Source:
    """A file being read: its name, the faults so far, and how it writes things down."""

    def __init__(self, name: str, faults: list[Fault], *, is_csv: bool = False) -> None:
        """Add to these faults. In CSV all values are text, and an empty one is none."""
        self.name = name
        self.faults = faults
        self.is_csv = is_csv

    def fault(self, path: str, value: object, problem: str) -> None:
        """Note a fault."""
        if len(path) > TEXT_CHARS_MAX or not plain(path):  # a name of the file's may be anything
            path = what(path)
        self.faults.append(Fault(self.name, path, what(value), problem))


Rows = Iterable[tuple[str, Mapping[Any, Any]]]
"""(path, row) of each."""

REQUIRED: Any = object()
"""Instead of a default: the field has none."""


class Fields:
    """The fields of one mapping; each method reads one, notes what is wrong, and then returns a stand-in."""

    __slots__ = ("_before", "path", "source", "values")

    def __init__(
        self, source: Source, path: str, values: Mapping[Any, Any], known: frozenset[Any] | type[Struct]
    ) -> None:
        """Refuse unknown fields at once."""
        self.source = source
        self.path = path
        self.values = values
        self._before = len(source.faults)
        names = known if isinstance(known, frozenset) else names_of(known)
        if not values.keys() <= names:
            for name in values:
                if name not in names:
                    hint = nearest(name, names) if len(source.faults) < HINTS_MAX else ""
                    hint = hint or "; leave it out"
                    source.fault(self.at(name), values[name], f"unknown field{hint}")

    @property
    def good(self) -> bool:
        """Whether nothing was wrong so far, in this mapping and in what was read meanwhile."""
        return len(self.source.faults) == self._before

    def at(self, name: object) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else str(name)

    def fault(self, name: str, problem: str) -> None:
        """Note a fault of a field."""
        self.source.fault(self.at(name), self.values.get(name), problem)

    def _absent(self, name: str, default: Any, stand_in: Any) -> Any:
        if default is not REQUIRED:
            return default
        self.fault(name, "missing; give it")
        return stand_in

    def text(
        self, name: str, default: Any = REQUIRED, *, empty: bool = False, most: int = TEXT_CHARS_MAX
    ) -> Any:
        """Return a text, not empty and without control characters."""
        value = self.values.get(name)
        if value is None:
            return self._absent(name, default, "")
        if not isinstance(value, str):
            self.fault(name, unquoted(value, "a text"))
        elif not value and not empty:
            self.fault(name, "is empty; give a text, or leave it out")
        elif len(value) > most:
            self.fault(name, f"has more than {most} characters; shorten it")
        elif not plain(value):
            self.fault(name, "has control characters; take them out")
        else:
            return value
        return ""

    def name(self, name: str) -> str:
        """Return a text that others refer to; what lacks its quotes is a fault, and known by what it says."""
        text: str = self.text(name)
        value = None if text else self.values.get(name)
        return text if value is None or isinstance(value, str | dict | list) else str(value)

    def form(self, name: str, form: re.Pattern[str], problem: str, default: Any = REQUIRED) -> Any:
        """Return a text of a form."""
        value = self.text(name, default)
        if value and not form.fullmatch(value):
            self.fault(name, problem)
        return value

    def choice(self, name: str, choices: Sequence[str], default: Any = REQUIRED) -> Any:
        """Return one of the names."""
        value = self.values.get(name)
        if value is None:
            return self._absent(name, default, "")
        if value in choices:
            return value
        self.fault(name, f"not one of {', '.join(choices)}{nearest(value, choices) or '; write one of them'}")
        return ""

    def flag(self, name: str) -> bool:
        """Return true or false; false where it is absent."""
        value = self.values.get(name)
        if value is None:
            return False
        if self.source.is_csv and isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        if not isinstance(value, bool):
            self.fault(name, "not true or false; write one of them, without quotes")
        return value is True

    def integer(self, name: str, default: Any, low: int, high: int = COUNT_MAX) -> Any:
        """Return a whole number in the range."""
        value = self.values.get(name)
        if value is None:
            return self._absent(name, default, low)
        if self.source.is_csv and isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fault(name, "not a whole number; write digits alone, without quotes and leading zeros")
        elif not low <= value <= high:
            self.fault(name, f"out of range; write {low} to {high}")
        else:
            return value
        return low

    def decimal(
        self, name: str, default: Any = REQUIRED, low: int | None = None, *, money: bool = False
    ) -> Any:
        """Return a decimal in 10^-10, or (money) in 10^-6; refused unquoted. `low`: the smallest possible."""
        value = self.values.get(name)
        if value is None:
            return self._absent(name, default, 0)
        if not isinstance(value, str):
            self.fault(name, unquoted(value, "a decimal"))
            return 0
        try:
            number = micros(value) if money else e10(value)
        except ValueError as error:
            self.fault(name, str(error))
            return 0
        if low is not None and number < low:
            self.fault(name, "too small; it must be above 0" if low else "too small; it must be 0 or more")
        return number

    def when(self, name: str, default: Any = None) -> Any:
        """Return a date or instant in its one spelling."""
        value = self.values.get(name)
        if value is None:
            return self._absent(name, default, "")
        try:
            return canonical_when(value if isinstance(value, str) else "")
        except ValueError as error:
            self.fault(name, str(error))
            return default

    def instant(self, name: str) -> int | None:
        """Return an instant in ms; a bare date is 00:00 UTC; None where it is absent."""
        value = self.when(name)
        return None if value is None else when_ms(value, _UTC)

    def span(self, name: str, default: Any = None) -> Any:
        """Return a period in its one spelling."""
        value = self.text(name, default)
        if not value:
            return value
        try:
            return str(parse_span(value))
        except ValueError as error:
            self.fault(name, str(error))
            return None

    def mapping(self, name: str, example: str) -> Mapping[Any, Any]:
        """Return a mapping; an empty one where it is absent."""
        value = self.values.get(name)
        if value is None or isinstance(value, dict):
            return value or {}
        self.fault(name, f"not a mapping; write {example}")
        return {}

    def sequence(self, name: str) -> list[Any]:
        """Return a list; an empty one where it is absent."""
        value = self.values.get(name)
        if value is None or isinstance(value, list):
            return value or []
        self.fault(name, "not a list; write [A, B, …], or a line with a dash for each")
        return []

    def rows(self, name: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
        """Yield (path, mapping) of what should be a list of mappings; the others are faults."""
        for position, value in enumerate(self.sequence(name)):
            at = f"{self.at(name)}[{position}]"
            if isinstance(value, dict):
                yield at, value
            else:
                self.source.fault(at, value, "not a row; write {field: value, …}")

    def texts(self, name: str, form: re.Pattern[str] | None = None, problem: str = "") -> list[str]:
        """Return a list of texts, each of the form."""
        values = self.sequence(name)
        items = {f"{name}[{position}]": value for position, value in enumerate(values)}
        row = Fields(self.source, self.path, items, frozenset(items))
        for item in items:
            row.form(item, form, problem) if form is not None else row.text(item)
        return values


def check_dates(row: Fields, start: str | None, end: str | None) -> None:
    """Refuse an end that is not after the start."""
    if start and end and is_over(start, end):
        row.fault("end_date", f"not after start_date ({start}); change one of them")


def nearest(name: object, names: Collection[str]) -> str:
    """Return a hint at the name that was meant; empty when none is near."""
    found = get_close_matches(str(name), sorted(names), n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else ""


def unquoted(value: object, wanted: str) -> str:
    """Return what is wrong with a value that should have been text."""
    if isinstance(value, dict | list):
        return f"not {wanted}; write one value, in quotes"
    return f"not {wanted}: without quotes its digits or letters are lost; quote it"


@lru_cache(maxsize=65_536)
def e10(text: str) -> int:
    """Return a price, fee or currency rate in 10^-10; ValueError with a sentence where it is none."""
    value = parse_e10(text)
    if abs(value) > PRICE_MAX * E10:
        raise ValueError(f"out of range; at most {PRICE_MAX}")
    return value


micros = lru_cache(maxsize=65_536)(parse_micros)
