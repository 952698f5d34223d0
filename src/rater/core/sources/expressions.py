"""Expressions of a map: checked, and compiled to what extracts a text, time, duration, number or address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rater.core.amounts import half_up
from rater.core.reasons import Reason
from rater.core.sources.extractors import (
    added,
    changed,
    converted,
    first,
    int32,
    joined,
    matched,
    measured,
    present,
    spanned,
    summed,
    worked_out,
)
from rater.core.sources.formats import OUTER, Slots
from rater.core.sources.map_language import TEXT_KEYS, TIMES, Extract
from rater.core.sources.pieces import Pieces
from rater.core.sources.telephone import Numbering, normalise
from rater.core.sources.values import (
    CLOCKS,
    UNITS,
    address,
    carries_zone,
    count,
    duration_reader,
    exact_reader,
    factor,
    time_reader,
)

_KIND_KEYS = {
    "time": {"format", "zone", "plus"}, "duration": {"unit", "scale"}, "volume": {"scale"}, "ip": {"form"},
}  # fmt: skip
_PATH_NAMES_MAX = 32


class Given(NamedTuple):
    """An expression, compiled: its extractor, and the switch's names in it."""

    take: Extract
    origin: str


def _nothing(_: Slots) -> None:
    """Stand for what could not be compiled; there is a fault of it."""


FAULTY = Given(_nothing, "")


def _is_exact(value: object) -> bool:
    """Return whether an amount is computed with, before it is rounded."""
    return isinstance(value, dict) and ("sum" in value or "scale" in value or value.get("unit") in CLOCKS)


class Expressions:
    """Compiles the expressions of one map, and numbers the paths that they name.

    A method takes the expression and its path in the map; where it is at fault, `pieces` has the fault, and
    FAULTY stands in.
    """

    def __init__(
        self,
        pieces: Pieces,
        form: str,
        *,
        unwrap: str | None,
        columns: Sequence[str] | None,
        zone: ZoneInfo | None,
        numbering: Numbering,
    ) -> None:
        """Compile for records of a form (json, csv, esl).

        unwrap: the member that holds the record; columns: those of csv, else None; zone: of times without an
        offset; numbering: how numbers are written.
        """
        self.slots: dict[str, int] = {}
        """Path in a record → its place in the slots."""
        self.times: dict[str, Given] = {}
        """The CDR's times that were compiled; a duration may be the span between two."""
        self._pieces = pieces
        self._format = form
        self._unwrap = unwrap
        self._columns = columns
        self._zone = zone
        self._numbering = numbering

    def text(self, value: object, where: str, kind: str = "text") -> Given:
        """Compile an expression to what gives a text; kind: whose keys it may have besides."""
        if isinstance(value, str):
            return self._path(value, where)
        if isinstance(value, list):
            return self._alternatives(value, where, lambda one, at: self.text(one, at, kind))
        if not isinstance(value, dict):
            self._pieces.fault(
                where, value, 'is a path in quotes, a list of alternatives, or a table: {path = "FIELD"}'
            )
            return FAULTY
        self._pieces.keys(value, TEXT_KEYS | _KIND_KEYS.get(kind, set()), where)
        sources = [key for key in ("path", "value", "join") if key in value]
        if len(sources) != 1:
            self._pieces.fault(where, ", ".join(sources), "needs one of path, value and join")
            return FAULTY
        given = self._source(sources[0], value, where)
        if "match" in value:
            given = given._replace(take=matched(given.take, self._pieces.pattern(value, "match", where)))
        if "absent" in value:
            given = given._replace(
                take=present(given.take, frozenset(self._pieces.texts(value, "absent", f"{where}.")))
            )
        return given

    def _source(self, key: str, value: dict[str, Any], where: str) -> Given:
        for odd in {"separator", "sorted"} & value.keys() if key != "join" else ():
            self._pieces.fault(f"{where}.{odd}", value[odd], "belongs to join; take it away")
        if key == "path":
            return self.text(value["path"], f"{where}.path")
        if key == "join":
            return self._join(value, where)
        constant = self._pieces.text(value, "value", f"{where}.")
        return Given(lambda _: constant or None, f'"{constant}"')

    def _path(self, path: str, where: str) -> Given:
        is_json = self._format in ("json", "datagram")
        names = path.removeprefix(OUTER).split(".") if is_json else [path]
        outside = path.startswith(OUTER) and self._unwrap is None and is_json
        if outside or not all(names) or len(names) > _PATH_NAMES_MAX:
            problem = (
                f'is no path; write up to {_PATH_NAMES_MAX} names joined by dots, like "variables.uuid" '
                '("$." needs unwrap)'
            )
            self._pieces.fault(where, path, problem)
            return FAULTY
        if self._columns is not None and path not in self._columns:
            self._pieces.unknown(path, self._columns, "", path, at=where, what="column")
            return FAULTY
        slot = self.slots.setdefault(path, len(self.slots))
        return Given(lambda slots: slots[slot] or None, path)

    def _alternatives(self, ones: list[Any], where: str, read: Callable[[Any, str], Given]) -> Given:
        if not ones:
            self._pieces.fault(where, ones, "is an empty list; name at least one field")
        given = [read(one, f"{where}[{index}]") for index, one in enumerate(ones)]
        takes = tuple(one.take for one in given)
        origin = ", ".join(dict.fromkeys(one.origin for one in given))
        return Given(takes[0] if len(takes) == 1 else first(takes), origin)

    def _join(self, value: dict[str, Any], where: str) -> Given:
        if not isinstance(value.get("sorted", False), bool):
            self._pieces.fault(f"{where}.sorted", value["sorted"], "is true or false, without quotes")
        separator = self._pieces.text(value, "separator", f"{where}.") if "separator" in value else "-"
        in_order = value.get("sorted") is True
        return self._parts(
            value, "join", where, self.text, lambda parts: joined(parts, separator, in_order=in_order)
        )

    def time(self, value: object, where: str) -> Given:
        """Compile to what gives a time, ms; a Problem where it is none."""
        if isinstance(value, list):
            return self._alternatives(value, where, self.time)
        given = self.text(value, where, "time")
        table = value if isinstance(value, dict) else {}
        form = self._pieces.text(table, "format", f"{where}.") if "format" in table else "iso"
        zone = self._pieces.zone(table["zone"], f"{where}.zone") if "zone" in table else self._zone
        read = time_reader(form, zone)
        if isinstance(read, str):
            self._pieces.fault(f"{where}.format", form, read)
            return FAULTY
        if zone is None and not carries_zone(form):
            problem = 'has no zone; add zone = "Area/City" to the map or to [sources.NAME.defaults]'
            self._pieces.fault(f"{where}.format", form, problem)
        field = where.split(".")[1].partition("[")[0]
        hint = (
            "; texts without an offset need zone in [sources.NAME.defaults]"
            if form == "iso" and zone is None
            else ""
        )
        detail = (
            f"{field}: {given.origin} is no time of the format {form}{hint}; correct the switch or the map"
        )
        take = converted(given.take, read, Reason.BAD_TIME, detail)
        if "plus" in table:
            more = self.duration(table["plus"], f"{where}.plus")
            detail = f"{field}: {more.origin} cannot be added to {given.origin}; correct the map"
            return Given(summed(take, more.take, detail), f"{given.origin} + {more.origin}")
        return Given(take, given.origin)

    def duration(self, value: object, where: str) -> Given:
        """Compile to what gives a duration, ms; the text where it is none."""
        if isinstance(value, list):
            return self._alternatives(value, where, self.duration)
        if isinstance(value, dict) and {"from", "to"} & value.keys():
            return self._span(value, where)
        if _is_exact(value):
            given = self._exact(value, where, "duration", "")
            return Given(worked_out(given.take, lambda ms: half_up(*ms.as_integer_ratio())), given.origin)
        given = self.text(value, where, "duration")
        unit = self._unit(value, where)
        return Given(measured(given.take, duration_reader(unit)), given.origin) if unit else FAULTY

    def _unit(self, value: object, where: str) -> str:
        table = value if isinstance(value, dict) else {}
        return self._pieces.one_of(table, "unit", (*UNITS, *CLOCKS), f"{where}.unit")

    def _span(self, value: dict[str, Any], where: str) -> Given:
        self._pieces.keys(value, {"from", "to"}, where)
        ends = [self._pieces.one_of(value, key, TIMES, f"{where}.{key}") for key in ("from", "to")]
        for key, name in zip(("from", "to"), ends, strict=True):
            if name and name not in self.times:
                self._pieces.fault(f"{where}.{key}", name, f'is not given; add {name} = "FIELD" to [fields]')
        if ends[0] and ends[0] == ends[1]:
            self._pieces.fault(
                where, ends[0], "is both from and to, so every call would last 0; name two times"
            )
        begin, end = (self.times.get(name, FAULTY) for name in ends)
        return Given(spanned(begin.take, end.take), f"{begin.origin} and {end.origin}")

    def volume(self, value: object, where: str) -> Given:
        """Compile to what gives a number of counting units; the text where it is none."""
        if isinstance(value, list):
            return self._alternatives(value, where, self.volume)
        if _is_exact(value):
            given = self._exact(value, where, "volume", "")
            return Given(worked_out(given.take, ceil), given.origin)
        given = self.text(value, where, "volume")
        return Given(measured(given.take, count), given.origin)

    def _exact(self, value: object, where: str, kind: str, unit: str) -> Given:
        """Compile an amount to what gives it exactly.

        kind: duration or volume. unit: of the sum that it is a part of, else "".
        """
        if isinstance(value, list):
            return self._alternatives(value, where, lambda one, at: self._exact(one, at, kind, unit))
        table = value if isinstance(value, dict) else {}
        if "sum" in table:
            self._pieces.keys(table, {"sum"} | _KIND_KEYS[kind], where)
        if kind == "duration" and ("unit" in table or not (unit or "sum" in table)):
            unit = self._unit(table, where)
        if "sum" in table:
            given = self._sum(table, where, kind, unit)
        else:
            given = self.text(value, where, kind)
            given = given._replace(take=measured(given.take, exact_reader(unit)))
        if "scale" not in table:
            return given
        times = factor(table["scale"])
        if times is None:
            problem = 'is no factor; give a whole number above 0, or in quotes "0.001" or "1/1024"'
            self._pieces.fault(f"{where}.scale", table["scale"], problem)
            return FAULTY
        return given._replace(take=worked_out(given.take, lambda amount: amount * times))

    def _sum(self, table: dict[str, Any], where: str, kind: str, unit: str) -> Given:
        return self._parts(table, "sum", where, lambda one, at: self._exact(one, at, kind, unit), added)

    def _parts(
        self,
        table: dict[str, Any],
        key: str,
        where: str,
        read: Callable[[object, str], Given],
        put: Callable[[tuple[tuple[Extract, bool], ...]], Extract],
    ) -> Given:
        """Compile what is put together of several, of which those with a `?` behind may lack a value."""
        parts: list[tuple[Extract, bool]] = []
        origins: list[str] = []
        for index, one in enumerate(self._pieces.items(table, key, f"{where}.")):
            optional = isinstance(one, str) and one.endswith("?")
            given = read(one[:-1] if isinstance(one, str) and optional else one, f"{where}.{key}[{index}]")
            parts.append((given.take, optional))
            origins.append(given.origin)
        if not parts:
            self._pieces.fault(f"{where}.{key}", table[key], "is empty; name the fields to put together")
        return Given(put(tuple(parts)), " + ".join(origins))

    def number(self, value: object, where: str) -> Given:
        """Compile to what gives a telephone number as the map writes them."""
        given = self.text(value, where)
        numbering = self._numbering
        return Given(changed(given.take, lambda text: normalise(text, numbering)), given.origin)

    def ip(self, value: object, where: str) -> Given:
        """Compile to what gives an IP address."""
        if isinstance(value, list):
            return self._alternatives(value, where, self.ip)
        given = self.text(value, where, "ip")
        if not (isinstance(value, dict) and "form" in value):
            return Given(changed(given.take, address), given.origin)
        self._pieces.one_of(value, "form", ("int32",), f"{where}.form")
        return Given(
            int32(given.take, f"{where}: {given.origin} is no 32-bit number; correct the map"), given.origin
        )
