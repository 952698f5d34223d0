"""The language of source maps, its check, and what a map is compiled to (CONTRACTS.md, Sources).

A map is a TOML file that says which field of a switch's record gives which field of a CDR. It declares, it
does not compute: no code, no loops. `#` begins a comment. Every key that is not named here is a fault.

    description = "what it reads, for people"
    format = "json"                # json: one object | csv: one line | esl: a FreeSWITCH event, text or JSON
    zone = "Europe/Kyiv"           # IANA zone of times that carry no offset
    unwrap = "params"              # json: the member that holds the record, where there is one (JSON-RPC)
    url_encoded = true             # json, csv: values are %XX-encoded (those of events as text always are)
    columns = ["a", "b"]           # csv: the names of the columns, in their order
    separator = ";"                # csv: one character, default ","

    [[where]]                      # must hold, in this order, else the record is skipped: it is no call
    path = "Event-Name"
    equals = "CHANNEL_HANGUP_COMPLETE"
    reason = "another event than a hang-up"

    [[answered]]                   # all must hold, else the call is unanswered: duration 0, no answered_at
    path = "disposition"
    equals = "ANSWERED"

    [numbers]                      # caller and called: how numbers are written here
    strip = ["9#"]                 # technical prefixes: the longest that fits is taken off
    letters = "keypad"             # keep (default: such a number is invalid), drop, keypad (2 is ABC)
    rules = [
      {prefix = "00", to = ""}, {prefix = "0", to = "380", digits = 10}, {digits = [7, 9], to = "38044"},
    ]

    [fields]                       # what the CDR gets: EXPRESSIONS
    id = {join = ["linkedid", "sequence", "uniqueid?"]}
    setup_at = {path = "start", format = "iso"}
    answered_at = ...
    ended_at = ...
    duration = {path = "billsec", unit = "s"}       # or volume = "octets" (whole counting units)
    called = "dst"
    caller = "src"
    service = "kind"               # or {value = "messages"}; without it: calls

    [orig]                         # a side: client, account, gateway, ip, login; of [term] the same
    login = {path = "channel", match = "[^/]+/(.+)-[0-9a-f]+"}
    [[orig.when]]                  # all must hold, else the record has not this side
    path = "direction"
    not_in = ["outbound"]

An EXPRESSION is a path, a list of alternatives (the first that has a value counts), or a table:

    path = "a.b.0"        json: names joined by dots, numbers index lists, "$." begins outside of `unwrap`;
                          csv: a column; esl: a header
    path = ["a", "b"]     alternatives
    value = "calls"       a constant
    join = ["a", "b?"]    several joined by `separator` (default "-"); without a value where one without "?"
                          has none; `sorted = true` joins them in alphabetical order
    match = "x-(.+)"      a regular expression for the whole text; its first group is the value, if it fits
    absent = ["0"]        texts that mean "no value"; an empty text always does
    format, zone, plus    times: `iso` (default), `epoch`, `epoch_ms`, `epoch_us` (0 means "no value"), or a
                          pattern of %Y %y %m %b %d %H %M %S %f %z %a %%; zone of this field; `plus`: a
                          duration added to it
    unit                  durations: s | ms | us, decimals allowed, rounded half up to milliseconds
    form = "int32"        ip: a 32-bit number, signed or not, first octet lowest (Cisco)

A CONDITION is an expression's keys and one of `equals = "x"`, `in = ["x"]`, `not_in = ["x"]` (holds without a
value), `exists = true|false`, `matches = "regex"`, `not_matches = "regex"` (holds without a value); or
`any = [CONDITION, ...]`, of which one must hold.

JSON numbers are texts like all others: 65, and 65.0 too, is "65". One with a fraction, of 2^53 and more, or
with an exponent in the place of digits (3.80441e+11) is a duration or a time; as a telephone number, an
account or an id it is refused. Texts stay as they are written, `"65.0"` too, but for telephone numbers.

Numbers, such as `"Al" <sip:+380-44@pbx;a=b>;tag=7`, lose scheme, host, parameters and visual separators by
themselves; `strip` comes next, then `letters`; one with `+` is international and done; else the first rule
that fits puts `to` in the place of `prefix`. `digits` counts the prefix in. `380441234567.0` and
`3.80441234567E+11` are 380441234567. What is no number, or not surely one (`555.00`), stays as it is, and is
rejected as number_invalid.

A source of the settings gives defaults (`[sources.pbx1.defaults]`), which win over the map where they are
rules and fill in where they are values: `DEFAULTS`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from rater.core.reasons import VALUE_CHARS_MAX, Reason, shown
from rater.core.sources.formats import (
    OUTER,
    CsvReader,
    EslReader,
    Inexact,
    JsonReader,
    Problem,
    RecordReader,
    Slots,
)
from rater.core.sources.values import (
    AMOUNT_MAX,
    LETTERS,
    TIME_MS_MAX,
    UNITS,
    Numbering,
    NumberRule,
    Reader,
    address,
    carries_zone,
    duration_reader,
    int32_address,
    normalise,
    time_reader,
)
from rater.core.zones import Zones

DEFAULTS = {
    "source": "the source's name, of the CDR",
    "service": "the service of records for which the map gives none",
    "zone": "the zone of times that carry no offset; wins over the map's",
    "client": "the client that pays (orig) where the record names neither client nor account",
    "account": "the account that pays (orig), the same",
    "orig": "a table: client, account, gateway, ip, login of the side, where the record has none",
    "term": "the same of the other side",
    "gateways": "names (or beginnings, `gw-*`) of the gateways that are carriers: only they give a term side",
    "strip": "technical prefixes, instead of the map's",
    "rules": "number rules, instead of the map's",
    "letters": "what becomes of letters in numbers (keep, drop, keypad), instead of the map's",
    "country": "country code: numbers that begin with trunk_prefix get it instead, after all rules",
    "trunk_prefix": 'what national numbers begin with where `country` is given, default "0"',
}
"""What a source may give: texts, but `gateways`, `strip`, `rules` are lists, `orig` and `term` tables."""

FORMATS = ("json", "csv", "esl")
TIMES = ("setup_at", "answered_at", "ended_at")
PARTY = ("client", "account", "gateway", "ip", "login")

_TOP = frozenset({
    "description", "format", "zone", "unwrap", "url_encoded", "columns", "separator",
    "where", "answered", "numbers", "fields", "orig", "term",
})  # fmt: skip
_FIELDS = frozenset({"id", "service", *TIMES, "duration", "volume", "caller", "called"})
_TEXT_KEYS = frozenset({"path", "value", "join", "separator", "sorted", "match", "absent"})
_KIND_KEYS = {"time": {"format", "zone", "plus"}, "duration": {"unit"}, "ip": {"form"}}
_OPERATORS = frozenset({"equals", "in", "not_in", "exists", "matches", "not_matches"})
_DIGITS_MAX = 64
_PATH_NAMES_MAX = 32
_CSV_COLUMNS_MIN = 2  # a line is told from garbage, and a header row from a record, by more than one cell

Extract = Callable[[Slots], Any]
"""Slots → text or number, None (no value), or a Problem."""
Condition = Callable[[Slots], bool]


class MapFault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a map or a source's defaults; `problem` says what, and what to do."""

    file: str
    path: str
    value: str
    problem: str

    def __str__(self) -> str:
        shown_value = f" = {self.value}" if self.value else ""
        return f"{self.file}: {self.path}{shown_value}: {self.problem}"


@dataclass(frozen=True, slots=True)
class SidePlan:
    """One side of the CDR: when it is there, where its fields come from, and what fills them in."""

    when: tuple[Condition, ...]
    fields: tuple[tuple[str, Extract], ...]
    constants: dict[str, str]
    gateways: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A map that was checked and compiled."""

    reader: RecordReader
    format: str
    separator: str
    where: tuple[tuple[Condition, str], ...]
    constants: dict[str, object]
    fields: tuple[tuple[str, Extract], ...]
    """id, service, caller, called: what is copied as it is read."""
    times: tuple[tuple[str, Extract], ...]
    times_unanswered: tuple[tuple[str, Extract], ...]
    """Without `answered_at`: of an unanswered call it is not read, whatever stands there."""
    amount: tuple[str, Extract]
    """`duration_ms` or `volume`, and what gives it."""
    answered: tuple[Condition, ...]
    sides: tuple[tuple[str, SidePlan], ...]
    origins: dict[str, str]
    """Field of the CDR → the switch's fields that give it, for people."""
    zones: tuple[ZoneInfo, ...]
    """By which local times are read."""


def compile_plan(text: str, name: str, defaults: Mapping[str, object], zones: Zones) -> Plan | list[MapFault]:
    """Return the plan of a map's text, or every fault of it and of the defaults. name: the faults' `file`."""
    checker = _Checker(name, defaults, zones)
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # its own, and what int() says of too many digits
        problem = f"is not TOML: {error}; `rater sources show asterisk` prints an example"
        return [MapFault(name, "(the file)", "", problem)]
    except RecursionError:
        return [MapFault(name, "(the file)", "", _TOO_DEEP)]
    try:
        plan = checker.plan(table)
    except RecursionError:
        return [MapFault(name, "(the file)", "", _TOO_DEEP)]
    return checker.faults or plan


_TOO_DEEP = "is nested too deep; take brackets away"


class _Given(NamedTuple):
    """An expression, compiled: its extractor, and the switch's names in it."""

    take: Extract
    origin: str


def _nothing(_: Slots) -> None:
    """Stand for what could not be compiled; there is a fault of it."""


_FAULTY = _Given(_nothing, "")


class _Checker:
    """Compiles a map piece by piece, and keeps every fault with its path."""

    def __init__(self, name: str, defaults: Mapping[str, object], zones: Zones) -> None:
        self.faults: list[MapFault] = []
        self._zones = zones
        self._used: dict[str, ZoneInfo] = {}
        self._name = name
        self._defaults = defaults
        self._slots: dict[str, int] = {}
        self._columns: list[str] | None = None
        self._format = ""
        self._unwrap: str | None = None
        self._zone: ZoneInfo | None = None
        self._numbering = Numbering()

    # The whole

    def plan(self, table: dict[str, Any]) -> Plan:
        self._keys(table, _TOP, "")
        self._check_defaults()
        self._head(table)
        fields = self._table(table, "fields")
        self._keys(fields, _FIELDS, "fields")
        self._numbering = self._numbers(table)
        where = self._wheres(table)
        answered = self._conditions(table, "answered")
        given = {key: self._field(key, fields[key]) for key in fields if key in _FIELDS}
        for key in ("id", "called"):
            if key not in fields:
                self._fault(f"fields.{key}", "", f'is missing; name what gives it: {key} = "FIELD"')
        amount = self._amount(fields, given)
        times = tuple((key, given[key].take) for key in TIMES if key in given)
        sides = self._sides(table)
        return Plan(
            reader=self._reader(table),
            format=self._format,
            separator=str(table.get("separator", ",")),
            where=where,
            constants={
                key: str(self._defaults[key]) for key in ("source", "service") if self._defaults.get(key)
            },
            fields=tuple(
                (key, given[key].take) for key in ("id", "service", "caller", "called") if key in given
            ),
            times=times,
            times_unanswered=tuple(one for one in times if one[0] != "answered_at"),
            amount=amount,
            answered=answered,
            sides=sides,
            origins={("duration_ms" if key == "duration" else key): one.origin for key, one in given.items()},
            zones=tuple(self._used.values()),
        )

    def _head(self, table: dict[str, Any]) -> None:
        self._text(table, "description", "")
        self._format = self._one_of(table, "format", FORMATS, "format")
        zone = self._defaults.get("zone", table.get("zone"))
        self._zone = self._zone_of(zone, "defaults.zone" if "zone" in self._defaults else "zone")
        self._unwrap = self._text(table, "unwrap", "") or None
        only = {
            "unwrap": ("json",),
            "url_encoded": ("json", "csv"),
            "columns": ("csv",),
            "separator": ("csv",),
        }
        for key, formats in only.items():
            if key in table and self._format and self._format not in formats:
                self._fault(key, table[key], f"is of {' and '.join(formats)} only; take it away")
        if not isinstance(table.get("url_encoded", False), bool):
            self._fault("url_encoded", table["url_encoded"], "is true or false, without quotes")
        if self._format == "csv":
            self._columns = self._texts(table, "columns", "")
            if len(self._columns) < _CSV_COLUMNS_MIN or len(set(self._columns)) < len(self._columns):
                problem = "needs two or more names, each once, in the order of the file"
                self._fault("columns", table.get("columns", ""), problem)
            if len(self._text(table, "separator", "") or ",") != 1:
                self._fault("separator", table["separator"], 'is one character, such as ";" or "\\t"')

    def _reader(self, table: dict[str, Any]) -> RecordReader:
        paths = list(self._slots)
        encoded = table.get("url_encoded") is True
        if self._columns is not None:
            known = [path for path in paths if path in self._columns]
            return CsvReader(
                known, self._columns, separator=str(table.get("separator", ",")), url_encoded=encoded
            )
        if self._format == "esl":
            return EslReader(paths)
        return JsonReader(paths, unwrap=self._unwrap, url_encoded=encoded)

    def _field(self, key: str, value: object) -> _Given:
        where = f"fields.{key}"
        if key in TIMES:
            return self._time(value, where)
        if key == "duration":
            return self._duration(value, where)
        if key == "volume":
            return self._volume(value, where)
        if key in ("caller", "called"):
            return self._number(value, where)
        return self._expression(value, where)

    def _amount(self, fields: dict[str, Any], given: dict[str, _Given]) -> tuple[str, Extract]:
        if ("duration" in fields) == ("volume" in fields):
            problem = 'give one of duration = {path = "FIELD", unit = "s"} and volume = "FIELD"'
            self._fault("fields.duration", fields.get("duration", ""), problem)
        if "volume" in fields:
            return "volume", given.get("volume", _FAULTY).take
        return "duration_ms", given.get("duration", _FAULTY).take

    # Sides

    def _sides(self, table: dict[str, Any]) -> tuple[tuple[str, SidePlan], ...]:
        if not {"orig", "term", "client", "account"} & {*table, *self._defaults}:
            self._fault(
                "orig",
                "",
                'the map has no side; say who pays: [orig] with account = "FIELD" or login = "FIELD"',
            )
        plans = ((side, self._side(side, self._table(table, side))) for side in ("orig", "term"))
        return tuple((side, plan) for side, plan in plans if plan.fields or plan.constants)

    def _side(self, side: str, table: dict[str, Any]) -> SidePlan:
        self._keys(table, {*PARTY, "when"}, side)
        fields: list[tuple[str, Extract]] = []
        for key in PARTY:
            if key in table:
                read = self._ip if key == "ip" else self._expression
                fields.append((key, read(table[key], f"{side}.{key}").take))
        constants = self._table(self._defaults, side, "defaults.")
        self._keys(constants, PARTY, f"defaults.{side}")
        for key, value in constants.items():
            if not (isinstance(value, str) and value):
                self._fault(f"defaults.{side}.{key}", value, 'is a text; quote it: "42"')
        if side == "orig":
            payer = {key: self._defaults[key] for key in ("client", "account") if key in self._defaults}
            constants = {**payer, **constants}
        return SidePlan(
            when=self._conditions(table, "when", f"{side}."),
            fields=tuple(fields),
            constants={key: str(value) for key, value in constants.items()},
            gateways=self._gateways() if side == "term" else None,
        )

    def _gateways(self) -> re.Pattern[str] | None:
        if "gateways" not in self._defaults:
            return None
        names = self._texts(self._defaults, "gateways", "defaults.")
        return re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in names) or r"(?!)")

    def _check_defaults(self) -> None:
        for key, value in self._defaults.items():
            if key not in DEFAULTS:
                self._unknown(key, DEFAULTS, "defaults.", value)
            elif key not in ("orig", "term", "gateways", "strip", "rules") and not (
                isinstance(value, str) and value
            ):
                self._fault(f"defaults.{key}", value, 'is a text; quote it: "42"')
        for key in ("country", "trunk_prefix"):
            value = self._defaults.get(key, "0")
            if isinstance(value, str) and value and not (value.isascii() and value.isdecimal()):
                self._fault(f"defaults.{key}", value, "holds digits only, without + or 00")
        if "/" in str(self._defaults.get("source", "")):
            self._fault(
                "defaults.source",
                self._defaults["source"],
                "has a /, which parts the names in a transaction's id",
            )

    # Conditions

    def _wheres(self, table: dict[str, Any]) -> tuple[tuple[Condition, str], ...]:
        found: list[tuple[Condition, str]] = []
        for index, one in enumerate(self._list(table, "where", "")):
            where = f"where[{index}]"
            if not isinstance(one, dict):
                self._fault(where, one, "is a table; write [[where]] and its keys below it")
                continue
            reason = self._text(one, "reason", f"{where}.")
            if not reason:
                self._fault(
                    f"{where}.reason", "", 'is missing; say why such a record is no call: reason = "…"'
                )
            found.append((self._condition({k: v for k, v in one.items() if k != "reason"}, where), reason))
        return tuple(found)

    def _conditions(self, table: Mapping[str, Any], key: str, prefix: str = "") -> tuple[Condition, ...]:
        ones = self._list(table, key, prefix)
        return tuple(self._condition(one, f"{prefix}{key}[{index}]") for index, one in enumerate(ones))

    def _condition(self, one: object, where: str) -> Condition:
        if not isinstance(one, dict):
            self._fault(where, one, 'is a condition, a table: {path = "FIELD", equals = "TEXT"}')
            return bool
        if "any" in one:
            self._keys(one, {"any"}, where)
            options = self._conditions(one, "any", f"{where}.")
            if one["any"] == []:
                self._fault(f"{where}.any", "[]", "is empty; name at least one condition")
            return _any(options)
        operators = _OPERATORS & one.keys()
        self._keys(one, _TEXT_KEYS | _OPERATORS, where)
        if len(operators) != 1:
            names = ", ".join(sorted(operators)) or "no test"
            self._fault(
                where, names, f"a condition has one of {', '.join(sorted(_OPERATORS))}, or any = [...]"
            )
            return bool
        (operator,) = operators
        take = self._expression({k: v for k, v in one.items() if k not in _OPERATORS}, where).take
        return self._test(operator, one, take, where)

    def _test(self, operator: str, one: dict[str, Any], take: Extract, where: str) -> Condition:
        if operator == "exists":
            if not isinstance(one["exists"], bool):
                self._fault(f"{where}.exists", one["exists"], "is true or false, without quotes")
            wanted = one["exists"] is True
            return lambda slots: (take(slots) is not None) is wanted
        if operator in ("matches", "not_matches"):
            pattern = self._pattern(one, operator, where)
            wanted = operator == "matches"
            return lambda slots: _fits(pattern, take(slots)) is wanted
        if operator == "equals":
            texts = frozenset({self._text(one, "equals", f"{where}.")})
        else:
            texts = frozenset(self._texts(one, operator, f"{where}."))
        wanted = operator != "not_in"
        return lambda slots: (take(slots) in texts) is wanted

    # Expressions

    def _expression(self, value: object, where: str, kind: str = "text") -> _Given:
        """Compile an expression to one that gives a text."""
        if isinstance(value, str):
            return self._path(value, where)
        if isinstance(value, list):
            return self._alternatives(value, where, lambda one, at: self._expression(one, at, kind))
        if not isinstance(value, dict):
            self._fault(
                where, value, 'is a path in quotes, a list of alternatives, or a table: {path = "FIELD"}'
            )
            return _FAULTY
        self._keys(value, _TEXT_KEYS | _KIND_KEYS.get(kind, set()), where)
        sources = [key for key in ("path", "value", "join") if key in value]
        if len(sources) != 1:
            self._fault(where, ", ".join(sources), "needs one of path, value and join")
            return _FAULTY
        given = self._source(sources[0], value, where)
        if "match" in value:
            given = given._replace(take=_matched(given.take, self._pattern(value, "match", where)))
        if "absent" in value:
            given = given._replace(
                take=_present(given.take, frozenset(self._texts(value, "absent", f"{where}.")))
            )
        return given

    def _source(self, key: str, value: dict[str, Any], where: str) -> _Given:
        for odd in {"separator", "sorted"} & value.keys() if key != "join" else ():
            self._fault(f"{where}.{odd}", value[odd], "belongs to join; take it away")
        if key == "path":
            return self._expression(value["path"], f"{where}.path")
        if key == "join":
            return self._join(value, where)
        constant = self._text(value, "value", f"{where}.")
        return _Given(lambda _: constant or None, f'"{constant}"')

    def _path(self, path: str, where: str) -> _Given:
        names = path.removeprefix(OUTER).split(".") if self._format == "json" else [path]
        outside = path.startswith(OUTER) and self._unwrap is None and self._format == "json"
        if outside or not all(names) or len(names) > _PATH_NAMES_MAX:
            problem = (
                f'is no path; write up to {_PATH_NAMES_MAX} names joined by dots, like "variables.uuid" '
                '("$." needs unwrap)'
            )
            self._fault(where, path, problem)
            return _FAULTY
        if self._columns is not None and path not in self._columns:
            self._unknown(path, self._columns, "", path, at=where, what="column")
            return _FAULTY
        slot = self._slots.setdefault(path, len(self._slots))
        return _Given(lambda slots: slots[slot] or None, path)

    def _alternatives(self, ones: list[Any], where: str, read: Callable[[Any, str], _Given]) -> _Given:
        if not ones:
            self._fault(where, ones, "is an empty list; name at least one field")
        given = [read(one, f"{where}[{index}]") for index, one in enumerate(ones)]
        takes = tuple(one.take for one in given)
        origin = ", ".join(dict.fromkeys(one.origin for one in given))
        return _Given(takes[0] if len(takes) == 1 else _first(takes), origin)

    def _join(self, value: dict[str, Any], where: str) -> _Given:
        parts: list[tuple[Extract, bool]] = []
        origins: list[str] = []
        for index, one in enumerate(self._list(value, "join", f"{where}.")):
            optional = isinstance(one, str) and one.endswith("?")
            given = self._expression(one[:-1] if optional else one, f"{where}.join[{index}]")
            parts.append((given.take, optional))
            origins.append(given.origin)
        if not parts:
            self._fault(f"{where}.join", value["join"], "is empty; name the fields to join")
        if not isinstance(value.get("sorted", False), bool):
            self._fault(f"{where}.sorted", value["sorted"], "is true or false, without quotes")
        separator = self._text(value, "separator", f"{where}.") if "separator" in value else "-"
        return _Given(
            _joined(tuple(parts), separator, in_order=value.get("sorted") is True), " + ".join(origins)
        )

    # Kinds of values

    def _time(self, value: object, where: str) -> _Given:
        if isinstance(value, list):
            return self._alternatives(value, where, self._time)
        given = self._expression(value, where, "time")
        table = value if isinstance(value, dict) else {}
        form = self._text(table, "format", f"{where}.") if "format" in table else "iso"
        zone = self._zone_of(table["zone"], f"{where}.zone") if "zone" in table else self._zone
        read = time_reader(form, zone)
        if isinstance(read, str):
            self._fault(f"{where}.format", form, read)
            return _FAULTY
        if zone is None and not carries_zone(form):
            problem = 'has no zone; add zone = "Area/City" to the map or to [sources.NAME.defaults]'
            self._fault(f"{where}.format", form, problem)
        field = where.split(".")[1].partition("[")[0]
        hint = (
            "; texts without an offset need zone in [sources.NAME.defaults]"
            if form == "iso" and zone is None
            else ""
        )
        detail = (
            f"{field}: {given.origin} is no time of the format {form}{hint}; correct the switch or the map"
        )
        take = _converted(given.take, read, Reason.BAD_TIME, detail)
        if "plus" in table:
            more = self._duration(table["plus"], f"{where}.plus")
            detail = f"{field}: {more.origin} cannot be added to {given.origin}; correct the map"
            return _Given(_sum(take, more.take, detail), f"{given.origin} + {more.origin}")
        return _Given(take, given.origin)

    def _duration(self, value: object, where: str) -> _Given:
        if isinstance(value, list):
            return self._alternatives(value, where, self._duration)
        given = self._expression(value, where, "duration")
        unit = self._one_of(value if isinstance(value, dict) else {}, "unit", tuple(UNITS), f"{where}.unit")
        if not unit:
            return _FAULTY
        return _Given(_measured(given.take, duration_reader(unit)), given.origin)

    def _volume(self, value: object, where: str) -> _Given:
        given = self._expression(value, where)
        return _Given(_measured(given.take, _count), given.origin)

    def _number(self, value: object, where: str) -> _Given:
        given = self._expression(value, where)
        numbering = self._numbering
        return _Given(_changed(given.take, lambda text: normalise(text, numbering)), given.origin)

    def _ip(self, value: object, where: str) -> _Given:
        if isinstance(value, list):
            return self._alternatives(value, where, self._ip)
        given = self._expression(value, where, "ip")
        if not (isinstance(value, dict) and "form" in value):
            return _Given(_changed(given.take, address), given.origin)
        self._one_of(value, "form", ("int32",), f"{where}.form")
        return _Given(
            _int32(given.take, f"{where}: {given.origin} is no 32-bit number; correct the map"), given.origin
        )

    # Numbers

    def _numbers(self, table: dict[str, Any]) -> Numbering:
        numbers = self._table(table, "numbers")
        self._keys(numbers, {"strip", "rules", "letters"}, "numbers")
        of_strip = (self._defaults, "defaults.") if "strip" in self._defaults else (numbers, "numbers.")
        of_rules = (self._defaults, "defaults.") if "rules" in self._defaults else (numbers, "numbers.")
        strip = self._texts(of_strip[0], "strip", of_strip[1])
        rules = [
            rule
            for index, one in enumerate(self._list(of_rules[0], "rules", of_rules[1]))
            if (rule := self._rule(one, f"{of_rules[1]}rules[{index}]"))
        ]
        if country := self._defaults.get("country"):
            rules.append(
                NumberRule(str(self._defaults.get("trunk_prefix", "0")), str(country), 1, _DIGITS_MAX)
            )
        of_letters = (self._defaults, "defaults.") if "letters" in self._defaults else (numbers, "numbers.")
        letters = "keep"
        if "letters" in of_letters[0]:
            letters = self._one_of(of_letters[0], "letters", tuple(LETTERS), f"{of_letters[1]}letters")
        by_length = tuple(sorted(strip, key=len, reverse=True))
        return Numbering(by_length, tuple(rules), LETTERS.get(letters))

    def _rule(self, one: object, where: str) -> NumberRule | None:
        if not isinstance(one, dict):
            self._fault(where, one, 'is a rule, a table: {prefix = "00", to = ""}')
            return None
        self._keys(one, {"prefix", "to", "digits"}, where)
        if "to" not in one or not {"prefix", "digits"} & one.keys():
            self._fault(where, one, 'needs to, and prefix or digits: {prefix = "0", to = "380", digits = 10}')
        for key in ("prefix", "to"):
            text = self._text(one, key, f"{where}.")
            if text and not (text.isascii() and text.isdecimal()):
                self._fault(f"{where}.{key}", text, "holds digits only; other characters go to strip")
        low, high = self._digits(one.get("digits", [1, _DIGITS_MAX]), f"{where}.digits")
        return NumberRule(
            self._text(one, "prefix", f"{where}."), self._text(one, "to", f"{where}."), low, high
        )

    def _digits(self, value: object, where: str) -> tuple[int, int]:
        match value:
            case int() if not isinstance(value, bool) and 0 < value <= _DIGITS_MAX:
                return value, value
            case [int(low), int(high)] if 0 < low <= high <= _DIGITS_MAX:
                return low, high
            case _:
                self._fault(
                    where, value, f"is a count, or the least and the most: 10 or [7, 10], up to {_DIGITS_MAX}"
                )
                return 1, _DIGITS_MAX

    # Pieces

    def _fault(self, path: str, value: object, problem: str) -> None:
        text = repr(value) if isinstance(value, str) and value else shown(value)
        self.faults.append(MapFault(self._name, path, text[:VALUE_CHARS_MAX], problem))

    def _unknown(
        self, key: str, known: Iterable[str], prefix: str, value: object, *, at: str = "", what: str = "key"
    ) -> None:
        names = list(known)
        near = get_close_matches(key, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names)[:40])}"
        self._fault(at or f"{prefix}{key}", value, f"there is no such {what}; {hint}")

    def _keys(self, table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        prefix = f"{where}." if where else ""
        known = frozenset(known)
        for key in table:
            if key not in known:
                self._unknown(key, known, prefix, table[key])

    def _table(self, table: Mapping[str, Any], key: str, prefix: str = "") -> dict[str, Any]:
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self._fault(f"{prefix}{key}", value, f"is a table; write [{prefix}{key}] and its keys below it")
        return {}

    def _list(self, table: Mapping[str, Any], key: str, prefix: str) -> list[Any]:
        value = table.get(key, [])
        if isinstance(value, list):
            return value
        self._fault(f"{prefix}{key}", value, "is a list; write it in [ ], tables as [[…]]")
        return []

    def _texts(self, table: Mapping[str, Any], key: str, prefix: str) -> list[str]:
        texts: list[str] = []
        for index, one in enumerate(self._list(table, key, prefix)):
            if isinstance(one, str) and (one or key == "absent"):
                texts.append(one)
            else:
                self._fault(f"{prefix}{key}[{index}]", one, 'is a text that is not empty; quote it: "0"')
        return texts

    def _text(self, table: Mapping[str, Any], key: str, prefix: str) -> str:
        value = table.get(key, "")
        if isinstance(value, str):
            return value
        self._fault(f"{prefix}{key}", value, 'is a text; quote it: "0"')
        return ""

    def _one_of(self, table: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> str:
        value = table.get(key)
        if isinstance(value, str) and value in known:
            return value
        problem = (
            f"is missing; give one of {', '.join(known)}"
            if value is None
            else f"is none of {', '.join(known)}"
        )
        self._fault(where, "" if value is None else value, problem)
        return ""

    def _zone_of(self, value: object, where: str) -> ZoneInfo | None:
        if value is None:
            return None
        try:
            found = self._zones.latest(value)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            self._fault(where, value, "is no IANA time zone; write one like Europe/Kyiv or UTC")
            return None
        self._used[found.key] = found
        return found

    def _pattern(self, table: Mapping[str, Any], key: str, where: str) -> re.Pattern[str]:
        text = self._text(table, key, f"{where}.")
        try:
            return re.compile(text)
        # ValueError: (?L) is of bytes only
        except (re.error, RecursionError, OverflowError, ValueError) as error:
            self._fault(f"{where}.{key}", text, f"is no regular expression: {error}")
            return re.compile("")


def _any(options: tuple[Condition, ...]) -> Condition:
    def holds(slots: Slots) -> bool:
        for option in options:  # noqa: SIM110 - a generator costs as much as the conditions, for each record
            if option(slots):
                return True
        return False

    return holds


# What expressions are compiled to. A value that is no text (None, a Problem) passes through all of them; an
# Inexact is a text to conditions, to `match`, `absent` and to what reads durations and times.


def _first(takes: tuple[Extract, ...]) -> Extract:
    def take(slots: Slots) -> Any:
        for one in takes:
            value = one(slots)
            if value is not None:
                return value
        return None

    return take


def _joined(parts: tuple[tuple[Extract, bool], ...], separator: str, *, in_order: bool) -> Extract:
    def take(slots: Slots) -> Any:
        texts: list[str] = []
        for part, optional in parts:
            value = part(slots)
            if value.__class__ is str:
                texts.append(value)
            elif value is not None or not optional:
                return value
        return separator.join(sorted(texts) if in_order else texts) or None

    return take


def _matched(take: Extract, pattern: re.Pattern[str]) -> Extract:
    group = 1 if pattern.groups else 0

    def matched(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        found = pattern.fullmatch(text)
        piece = found[group] or None if found else None
        if piece is None or text.__class__ is str or piece.isdecimal():
            return piece  # digits that the map's author has taken out by themselves are meant
        return Inexact(piece)

    return matched


def _present(take: Extract, absent: frozenset[str]) -> Extract:
    def present(slots: Slots) -> Any:
        text = take(slots)
        return None if isinstance(text, str) and text in absent else text

    return present


def _changed(take: Extract, change: Callable[[str], str | None]) -> Extract:
    def changed(slots: Slots) -> Any:
        text = take(slots)
        return change(text) or None if text.__class__ is str else text

    return changed


def _converted(take: Extract, read: Reader, reason: Reason, detail: str) -> Extract:
    """Return an extractor of numbers, of which 0 means: no value."""

    def converted(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        number = read(text)
        return Problem(reason, detail, shown(text)) if number is None else number or None

    return converted


def _measured(take: Extract, read: Reader) -> Extract:
    """Return an extractor of amounts. What is none stays a text: the call's time is judged before it."""

    def measured(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        number = read(text)
        return str(text) if number is None else number

    return measured


def _sum(take: Extract, more: Extract, detail: str) -> Extract:
    def total(slots: Slots) -> Any:
        base = take(slots)
        if base.__class__ is not int:
            return base
        extra = more(slots)
        if extra is None:
            return base
        if extra.__class__ is int and base + extra <= TIME_MS_MAX:
            return base + extra
        return extra if extra.__class__ is Problem else Problem(Reason.BAD_TIME, detail, shown(extra))

    return total


def _int32(take: Extract, detail: str) -> Extract:
    def converted(slots: Slots) -> Any:
        text = take(slots)
        if text.__class__ is not str:
            return text
        found = int32_address(text)
        return Problem(Reason.MALFORMED, detail, shown(text)) if found is None else found or None

    return converted


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _count(text: str) -> int | None:
    if text.isdecimal() and text.isascii() and len(text) <= len(str(AMOUNT_MAX)):
        return int(text)
    return None
