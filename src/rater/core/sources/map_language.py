r"""The language of source maps, and the plan that a map is compiled to (CONTRACTS.md, Sources).

A map is a TOML file that says which field of a switch's record gives which field of a CDR. It declares:
no code, no loops. `#` begins a comment. Every key that is not named here is a fault.

    description = "what it reads, for people"
    format = "json"                # json: one object | csv: one line | esl: a FreeSWITCH event, text or JSON
                                   # | datagram: an OpenSIPS event, datagram text or JSON
    zone = "Europe/Kyiv"           # IANA zone of times that carry no offset
    unwrap = "params"              # json, datagram: the member that holds the record, if there (JSON-RPC)
    url_encoded = true             # json, csv: values are %XX-encoded (those of events as text always are)
    columns = ["a", "b?"]          # csv: the names of the columns, in their order; "?": a file may lack it
    separator = ";"                # csv: one character, default ","
    fault = "fault"                # why `rater ingest --format` could not read something: a record that
                                   # has this is malformed, with that sentence

    [[where]]                      # must hold, in this order, else the record is skipped: it is no call
    path = "Event-Name"
    equals = "CHANNEL_HANGUP_COMPLETE"
    reason = "another event than a hang-up"

    [[answered]]                   # all must hold, else the call is unanswered: duration 0, no answered_at
    path = "disposition"
    equals = "ANSWERED"

    [numbers]                      # caller and called: how numbers are written here
    strip = ["9#"]                 # technical prefixes: the longest that fits is taken off
    suffix = ["#", "*1"]           # technical ends, the same; without it # and ##, which end dialling
    letters = "keypad"             # keep (default: such a number is invalid), drop, keypad (2 is ABC)
    rules = [
      {prefix = "00", to = ""}, {prefix = "0", to = "380", digits = 10}, {digits = [7, 9], to = "38044"},
    ]

    [fields]                       # what the CDR gets: EXPRESSIONS
    id = {join = ["linkedid", "sequence", "uniqueid?"]}
    setup_at = {path = "start", format = "iso"}
    answered_at = ...
    ended_at = ...
    duration = {path = "billsec", unit = "s"}       # or a volume, see AMOUNTS
    called = "dst"
    caller = "src"
    service = "kind"               # or {value = "messages"}; without it: calls

    [orig]                         # a side: client, account, gateway, ip, login; of [term] the same
    login = {path = "channel", match = "[^/]+/(.+)-[0-9a-f]+"}
    [[orig.when]]                  # all must hold, else the record has not this side
    path = "direction"
    not_in = ["outbound"]

An EXPRESSION is a path, a list of alternatives (the first that has a value counts), or a table:

    path = "a.b.0"        json: names joined by dots, numbers index lists, "$." begins outside of `unwrap`,
                          and 0 is also what stands in the place of a list; csv: a column; esl: a header;
                          datagram: as json, and in datagram text `a.b.0` is the attribute of this name and
                          `$.method` the event's name
    path = ["a", "b"]     alternatives
    value = "calls"       a constant
    join = ["a", "b?"]    several joined by `separator` (default "-"); without a value where one without "?"
                          has none; `sorted = true` joins them in alphabetical order
    match = "x-(.+)"      a regular expression for the whole text; its first group is the value, if it fits
    absent = ["0"]        texts that mean "no value"; an empty text always does
    format, zone, plus    times: `iso` (default), `epoch`, `epoch_ms`, `epoch_us` (0 means "no value"), or a
                          pattern of %Y %y %m %b %d %H %I %p %M %S %f %z %a %% (`%m/%d/%Y %I:%M:%S %p`; %I
                          and %p go together; a blank is any blank); zone of this field; `plus`: a duration
                          added to it
    form = "int32"        ip: a 32-bit number, signed or not, first octet lowest (Cisco)

AMOUNTS. A map gives a duration, or the volume of a service that is not counted in time, in its counting units
as the catalog has them: `data` is counted in KiB, so octets have to be scaled.

    duration = {path = "billsec", unit = "s"}                     # s | ms | us | min, decimals allowed
    duration = {path = "length", unit = "h:m:s"}                  # 00:08:10, 1:00:00.5; or m:s, 08:10
    duration = {path = "ticks", unit = "ms", scale = 10}          # 6513 ticks of 10 ms are 65.130 s
    duration = {from = "answered_at", to = "ended_at"}            # two of the [fields], to the millisecond
    duration = {sum = [{path = "min", unit = "min"}, {path = "sec", unit = "s"}]}
    volume = "pieces"                                             # whole counting units, else bad_duration
    volume = {sum = ["octets_in", "octets_out?"], scale = "1/1024"}    # octets of both ways in KiB

    unit                  of what is read; in a sum of all of it, unless a part has its own
    sum                   amounts added up: paths, or tables with what an amount has; without a value where
                          one without "?" has none
    scale                 a factor above 0: a whole number, or in quotes a decimal or a fraction

Amounts are computed exactly and rounded once, at the end: durations half up to milliseconds, scaled or summed
volumes up to whole counting units (1025 octets are 2 KiB). An amount that is none, or below zero, is
bad_duration. A map of several services gives both: `duration` is read where the record's `service` is calls,
`volume` elsewhere. `from` and `to` need both times: say by [[answered]] which calls were not answered.

A CONDITION is an expression's keys and one of `equals = "x"`, `in = ["x"]`, `not_in = ["x"]` (holds without a
value), `exists = true|false`, `matches = "regex"`, `not_matches = "regex"` (holds without a value); or
`any = [CONDITION, ...]`, of which one must hold.

A row of CSV is read in the order of `columns`, or in that of the header row that comes with it: `rater
ingest` sends each row with its file's, as the record header `columns`. A row that lacks a column which the
map reads, and which has no "?", is rejected.

Bytes that a format does not allow are shown in the texts (`\xe9`, `\x01`); nothing is lost by them.
JSON numbers are texts like all others: 65, and 65.0 too, is "65". One with a fraction, of 2^53 and more, or
with an exponent in the place of digits (3.80441e+11) is a duration or a time; as a telephone number, an
account or an id it is refused. Texts stay as they are written, `"65.0"` too, but for telephone numbers.

Numbers, such as `"Al" <sip:+380-44@pbx;a=b>;tag=7`, lose scheme, host, parameters and visual separators by
themselves, and what is dialled after the answer: from a comma or `!` on (`380441234567,,123`), or p or w with
digits where letters are kept. Digits of any script, blanks and hyphens of Unicode are as those of ASCII, and
what has no width is left out. `suffix` comes next, then `strip`, then `letters`; one with `+` is
international and done (the zero of `+44 (0)20` is not dialled); else the first rule that fits puts `to` in
the place of `prefix`. `digits` counts the prefix in. `380441234567.0` and `3.80441234567E+11` are
380441234567. What is no number, or not surely one (`555.00`), stays as it is, and is rejected as
number_invalid.

A source of the settings gives defaults (`[sources.pbx1.defaults]`), which win over the map where they are
rules and fill in where they are values: `DEFAULTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from rater.core.sources.csv_reading import CsvReader
from rater.core.sources.formats import RecordReader, Slots

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
    "suffix": "technical ends of numbers, instead of the map's",
    "rules": "number rules, instead of the map's",
    "letters": "what becomes of letters in numbers (keep, drop, keypad), instead of the map's",
    "country": "country code: numbers that begin with trunk_prefix get it instead, after all rules",
    "trunk_prefix": 'what national numbers begin with where `country` is given, default "0"',
}
"""What a source may give: texts; `gateways`, `strip`, `suffix`, `rules` are lists, `orig`, `term` tables."""

FORMATS = ("json", "csv", "esl", "datagram")
TIMES = ("setup_at", "answered_at", "ended_at")
PARTY = ("client", "account", "gateway", "ip", "login")

TEXT_KEYS = frozenset({"path", "value", "join", "separator", "sorted", "match", "absent"})
"""Keys of every expression that is a table."""

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

    reader: RecordReader | CsvReader
    format: str
    separator: str
    fault: Extract | None
    where: tuple[tuple[Condition, str], ...]
    constants: dict[str, object]
    fields: tuple[tuple[str, Extract], ...]
    """id, service, caller, called: what is copied as it is read."""
    times: tuple[tuple[str, Extract], ...]
    times_unanswered: tuple[tuple[str, Extract], ...]
    """Without `answered_at`: of an unanswered call it is not read, whatever stands there."""
    amounts: tuple[tuple[str, Extract], ...]
    """`duration_ms` or `volume`, and what gives it; of both, the first is that of calls."""
    answered: tuple[Condition, ...]
    sides: tuple[tuple[str, SidePlan], ...]
    origins: dict[str, str]
    """Field of the CDR → the switch's fields that give it, for people."""
    zones: tuple[ZoneInfo, ...]
    """By which local times are read."""
