"""A map's text becomes a plan, or every fault of it and of its source's defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rater.core.sources.conditions import Conditions
from rater.core.sources.csv_reading import CsvReader
from rater.core.sources.datagrams import DatagramReader
from rater.core.sources.expressions import Expressions, Given
from rater.core.sources.formats import EslReader, JsonReader, RecordReader
from rater.core.sources.map_language import (
    DEFAULTS,
    FORMATS,
    PARTY,
    TIMES,
    Extract,
    MapFault,
    Plan,
    SidePlan,
)
from rater.core.sources.number_rules import numbering
from rater.core.sources.pieces import Pieces
from rater.core.zones import Zones

_TOP = frozenset({
    "description", "format", "zone", "unwrap", "url_encoded", "columns", "separator", "fault",
    "where", "answered", "numbers", "fields", "orig", "term",
})  # fmt: skip
_FIELDS = frozenset({"id", "service", *TIMES, "duration", "volume", "caller", "called"})
_CSV_COLUMNS_MIN = 2  # a line is told from garbage, and a header row from a record, by more than one cell
_OF_FORMATS = {
    "unwrap": ("json", "datagram"), "url_encoded": ("json", "csv"),
    "columns": ("csv",), "separator": ("csv",),
}  # fmt: skip
"""Key → the formats that it belongs to."""
_TOO_DEEP = "is nested too deep; take brackets away"


def compile_plan(text: str, name: str, defaults: Mapping[str, object], zones: Zones) -> Plan | list[MapFault]:
    """Return the plan of a map's text, or every fault of it and of the defaults. name: the faults' `file`."""
    pieces = Pieces(name, zones)
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # its own, and what int() says of too many digits
        problem = f"is not TOML: {error}; `rater sources show asterisk` prints an example"
        return [MapFault(name, "(the file)", "", problem)]
    except RecursionError:
        return [MapFault(name, "(the file)", "", _TOO_DEEP)]
    try:
        plan = _plan(pieces, table, defaults)
    except RecursionError:
        return [MapFault(name, "(the file)", "", _TOO_DEEP)]
    return pieces.faults or plan


def _plan(pieces: Pieces, table: dict[str, Any], defaults: Mapping[str, object]) -> Plan:
    pieces.keys(table, _TOP, "")
    _check_defaults(pieces, defaults)
    head = _head(pieces, table, defaults)
    fields = pieces.table(table, "fields")
    pieces.keys(fields, _FIELDS, "fields")
    expressions = Expressions(
        pieces,
        head.format,
        unwrap=head.unwrap,
        columns=head.columns,
        zone=head.zone,
        numbering=numbering(pieces, table, defaults),
    )
    conditions = Conditions(pieces, expressions)
    where = conditions.wheres(table)
    answered = conditions.all_of(table, "answered")
    expressions.times = {
        key: expressions.time(fields[key], f"fields.{key}") for key in TIMES if key in fields
    }
    given = {
        key: expressions.times.get(key) or _field(expressions, key, fields[key])
        for key in fields
        if key in _FIELDS
    }
    for key in ("id", "called"):
        if key not in fields:
            pieces.fault(f"fields.{key}", "", f'is missing; name what gives it: {key} = "FIELD"')
    amounts = _amounts(pieces, fields, given)
    fault = expressions.text(table["fault"], "fault").take if "fault" in table else None
    times = tuple((key, given[key].take) for key in TIMES if key in given)
    sides = _Sides(pieces, expressions, conditions, defaults).plans(table)
    return Plan(
        reader=_reader(head, list(expressions.slots)),
        format=head.format,
        separator=head.separator,
        fault=fault,
        where=where,
        constants={key: str(defaults[key]) for key in ("source", "service") if defaults.get(key)},
        fields=tuple((key, given[key].take) for key in ("id", "service", "caller", "called") if key in given),
        times=times,
        times_unanswered=tuple(one for one in times if one[0] != "answered_at"),
        amounts=amounts,
        answered=answered,
        sides=sides,
        origins={("duration_ms" if key == "duration" else key): one.origin for key, one in given.items()},
        zones=tuple(pieces.zones.values()),
    )


class _Head(NamedTuple):
    """What a map says of its records as a whole."""

    format: str
    zone: ZoneInfo | None
    unwrap: str | None
    url_encoded: bool
    columns: list[str] | None
    optional: frozenset[str]
    """Columns that a file may lack."""
    separator: str


def _head(pieces: Pieces, table: dict[str, Any], defaults: Mapping[str, object]) -> _Head:
    pieces.text(table, "description", "")
    form = pieces.one_of(table, "format", FORMATS, "format")
    zone = pieces.zone(
        defaults.get("zone", table.get("zone")), "defaults.zone" if "zone" in defaults else "zone"
    )
    unwrap = pieces.text(table, "unwrap", "") or None
    for key, formats in _OF_FORMATS.items():
        if key in table and form and form not in formats:
            pieces.fault(key, table[key], f"is of {' and '.join(formats)} only; take it away")
    if not isinstance(table.get("url_encoded", False), bool):
        pieces.fault("url_encoded", table["url_encoded"], "is true or false, without quotes")
    columns, optional = None, frozenset[str]()
    if form == "csv":
        named = pieces.texts(table, "columns", "")
        columns = [name.removesuffix("?") for name in named]
        optional = frozenset(name.removesuffix("?") for name in named if name.endswith("?"))
        if len(columns) < _CSV_COLUMNS_MIN or len(set(columns)) < len(columns):
            problem = "needs two or more names, each once, in the order of the file"
            pieces.fault("columns", table.get("columns", ""), problem)
        if len(pieces.text(table, "separator", "") or ",") != 1:
            pieces.fault("separator", table["separator"], 'is one character, such as ";" or "\\t"')
    encoded = table.get("url_encoded") is True
    return _Head(form, zone, unwrap, encoded, columns, optional, str(table.get("separator", ",")))


def _reader(head: _Head, paths: list[str]) -> RecordReader | CsvReader:
    if head.columns is not None:
        known = [path for path in paths if path in head.columns]
        return CsvReader(
            known,
            head.columns,
            optional=head.optional,
            separator=head.separator,
            url_encoded=head.url_encoded,
        )
    if head.format == "esl":
        return EslReader(paths)
    if head.format == "datagram":
        return DatagramReader(paths, unwrap=head.unwrap)
    return JsonReader(paths, unwrap=head.unwrap, url_encoded=head.url_encoded)


def _check_defaults(pieces: Pieces, defaults: Mapping[str, object]) -> None:
    for key, value in defaults.items():
        if key not in DEFAULTS:
            pieces.unknown(key, DEFAULTS, "defaults.", value)
        elif key not in ("orig", "term", "gateways", "strip", "suffix", "rules") and not (
            isinstance(value, str) and value
        ):
            pieces.fault(f"defaults.{key}", value, 'is a text; quote it: "42"')
    for key in ("country", "trunk_prefix"):
        value = defaults.get(key, "0")
        if isinstance(value, str) and value and not (value.isascii() and value.isdecimal()):
            pieces.fault(f"defaults.{key}", value, "holds digits only, without + or 00")
    if "/" in str(defaults.get("source", "")):
        pieces.fault(
            "defaults.source",
            defaults["source"],
            "has a /, which parts the names in a transaction's id",
        )


def _field(expressions: Expressions, key: str, value: object) -> Given:
    where = f"fields.{key}"
    if key == "duration":
        return expressions.duration(value, where)
    if key == "volume":
        return expressions.volume(value, where)
    if key in ("caller", "called"):
        return expressions.number(value, where)
    return expressions.text(value, where)


def _amounts(
    pieces: Pieces, fields: dict[str, Any], given: dict[str, Given]
) -> tuple[tuple[str, Extract], ...]:
    names = [name for name in ("duration", "volume") if name in fields]
    if not names or (len(names) > 1 and "service" not in fields):
        problem = (
            'give one of duration = {path = "FIELD", unit = "s"} and volume = "FIELD"; both only where '
            'service = "FIELD" tells of which a record is'
        )
        pieces.fault("fields.duration", fields.get("duration", ""), problem)
    return tuple(("duration_ms" if name == "duration" else name, given[name].take) for name in names)


class _Sides:
    """Compiles the sides of the CDR."""

    def __init__(
        self,
        pieces: Pieces,
        expressions: Expressions,
        conditions: Conditions,
        defaults: Mapping[str, object],
    ) -> None:
        self._pieces = pieces
        self._expressions = expressions
        self._conditions = conditions
        self._defaults = defaults

    def plans(self, table: dict[str, Any]) -> tuple[tuple[str, SidePlan], ...]:
        """Return the plans of those that the map or the defaults give anything of."""
        if not {"orig", "term", "client", "account"} & {*table, *self._defaults}:
            self._pieces.fault(
                "orig",
                "",
                'the map has no side; say who pays: [orig] with account = "FIELD" or login = "FIELD"',
            )
        plans = ((side, self._side(side, self._pieces.table(table, side))) for side in ("orig", "term"))
        return tuple((side, plan) for side, plan in plans if plan.fields or plan.constants)

    def _side(self, side: str, table: dict[str, Any]) -> SidePlan:
        self._pieces.keys(table, {*PARTY, "when"}, side)
        fields: list[tuple[str, Extract]] = []
        for key in PARTY:
            if key in table:
                read = self._expressions.ip if key == "ip" else self._expressions.text
                fields.append((key, read(table[key], f"{side}.{key}").take))
        constants = self._pieces.table(self._defaults, side, "defaults.")
        self._pieces.keys(constants, PARTY, f"defaults.{side}")
        for key, value in constants.items():
            if not (isinstance(value, str) and value):
                self._pieces.fault(f"defaults.{side}.{key}", value, 'is a text; quote it: "42"')
        if side == "orig":
            payer = {key: self._defaults[key] for key in ("client", "account") if key in self._defaults}
            constants = {**payer, **constants}
        return SidePlan(
            when=self._conditions.all_of(table, "when", f"{side}."),
            fields=tuple(fields),
            constants={key: str(value) for key, value in constants.items()},
            gateways=self._gateways() if side == "term" else None,
        )

    def _gateways(self) -> re.Pattern[str] | None:
        if "gateways" not in self._defaults:
            return None
        names = self._pieces.texts(self._defaults, "gateways", "defaults.")
        return re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in names) or r"(?!)")
