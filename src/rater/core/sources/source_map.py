"""A source map applied: a switch's own record becomes a CDR (CONTRACTS.md, Sources).

`compile_map` reads a map once; `SourceMap.apply` then turns the bytes of each record into the object that
`rater.core.cdr_decoding.check` takes. Pure: no file is read here, `rater.sources` finds maps and
`rater.ingesting` cuts files into records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from rater.core.cdr import CALLS, ID_CHARS_MAX, MAPPED_BYTES, SIDES
from rater.core.instants import rfc3339
from rater.core.reasons import Reason, Rejection, Side, shown
from rater.core.sources.csv_reading import CsvReader, Partial, Unread
from rater.core.sources.formats import Inexact, Problem, Skipped, Slots
from rater.core.sources.map_compiling import compile_plan
from rater.core.sources.map_language import (
    DEFAULTS,
    TIMES,
    Condition,
    Extract,
    MapFault,
    Plan,
    SidePlan,
)
from rater.core.zones import Zones

__all__ = [
    "DEFAULTS",
    "MapFault",
    "Row",
    "Skipped",
    "SourceMap",
    "as_json",
    "compile_map",
    "describe",
    "unanswered",
]

Mapped = dict[str, Any]
"""A CDR as an object: the JSON of CONTRACTS.md, decoded, but instants are ms since 1970 UTC."""

_PRECEDENCE = {reason: rank for rank, reason in enumerate(Reason)}
_SHOWN_MAX = 60  # of a record, on a line of a terminal
_INEXACT = (
    "is a JSON number with a fraction, of 2^53 or more, or with an exponent that may stand for other digits; "
    "let the switch write it as text"
)


def compile_map(
    text: str,
    name: str,
    defaults: Mapping[str, object] | None = None,
    zones: Zones | None = None,
    *,
    bytes_max: int = MAPPED_BYTES,
) -> SourceMap | list[MapFault]:
    """Return the compiled map, or every fault of it: which key, which value, what to do.

    text: the TOML; name: the map's name or path, for messages; defaults: what the source's settings say
    (`DEFAULTS`), with `source` for the source's own name; zones: by which local times are read, those
    installed here where there is no catalog yet; bytes_max: of a record, what is larger is too_large.
    """
    given = dict(defaults or {})
    plan = compile_plan(text, name, given, zones or Zones())
    if isinstance(plan, list):
        return plan
    digest = blake2b(
        f"{text}\0{sorted(given.items(), key=str)!r}".encode("utf-8", "backslashreplace"), digest_size=8
    )
    return SourceMap(name, digest.hexdigest(), plan, text, given, bytes_max)


class SourceMap:
    """A compiled map: the same bytes give the same result, always, under one catalog (`under`).

    name: as given. version: 16 hex digits of the map's text and the source's defaults. format and separator:
    how files of such records are cut (`rater.ingesting`). bytes_max: of a record.
    """

    __slots__ = (
        "_defaults",
        "_naming",
        "_plan",
        "_text",
        "_under",
        "bytes_max",
        "format",
        "name",
        "separator",
        "version",
    )

    def __init__(
        self, name: str, version: str, plan: Plan, text: str, defaults: dict[str, object], bytes_max: int
    ) -> None:
        self.name = name
        self.version = version
        self.format = plan.format
        self.separator = plan.separator
        self._plan = plan
        self._naming = re.compile(rf"\b({'|'.join(plan.origins)})\b")
        self._text = text
        self._defaults = defaults
        self.bytes_max = bytes_max
        self._under = self

    @property
    def takes_faults(self) -> bool:
        """Whether it has `fault`, and so reads the records of `rater ingest --format`."""
        return self._plan.fault is not None

    def under(self, zones: Zones) -> SourceMap:
        """Return the map that reads local times by these zones: those of the lane's catalog.

        Compiled anew where the rules of a zone that it uses are others.
        """
        for known in (self, self._under):
            if all(zones.latest(zone.key) is zone for zone in known._plan.zones):  # noqa: SLF001 - of this class
                return known
        made = compile_map(self._text, self.name, self._defaults, zones, bytes_max=self.bytes_max)
        assert isinstance(made, SourceMap)  # noqa: S101 - it was without faults, and a known zone stays known
        self._under = made
        return made

    def apply(self, raw: bytes, columns: bytes | None = None) -> Mapped | Skipped | tuple[Rejection, ...]:
        """Return the CDR as an object, Skipped for what is no call, or rejections. Never raises.

        columns: of CSV, the header row of the record's file, where it has one: its record header `columns`.

        Rejections are as those of `cdr.decode`: one for each side that could be read, else one without side;
        of several faults the first in order of precedence. What needs the time of arrival or the catalog is
        not judged here: a duration that is none stays a text, and a number keeps its letters, for `cdr` to
        reject.
        """
        if len(raw) > self.bytes_max:
            detail = (
                f"the record has {len(raw)} bytes; at most {self.bytes_max} are taken: raise its source's "
                "record_bytes_max, or have the switch write less"
            )
            return (self._rejection(Problem(Reason.TOO_LARGE, detail, str(len(raw)))),)
        reader = self._plan.reader
        slots = (
            reader.read(raw)
            if columns is None or not isinstance(reader, CsvReader)
            else reader.read(raw, columns)
        )
        if not isinstance(slots, list):
            return self._unmapped(slots)
        if self._plan.fault is not None and (fault := self._plan.fault(slots)) is not None:
            told = fault if isinstance(fault, Problem) else Problem(Reason.MALFORMED, shown(fault), "")
            return (self._rejection(told),)
        for condition, reason in self._plan.where:
            if not condition(slots):
                return Skipped(reason)
        return self._mapped(slots)

    def _unmapped(self, found: Skipped | Problem | Partial) -> Skipped | tuple[Rejection, ...]:
        """Return what becomes of what is no whole record: a partial one may be seen not to be a call."""
        if isinstance(found, Skipped):
            return found
        if isinstance(found, Problem):
            return (self._rejection(found),)
        try:
            for condition, reason in self._plan.where:
                if not condition(found.slots):
                    return Skipped(reason)
        except Unread:
            pass
        return (self._rejection(found.problem),)

    def is_header(self, raw: bytes) -> bool:
        """Return whether a line is a header row of CSV, be it a faulty one."""
        return isinstance(self._plan.reader, CsvReader) and self._plan.reader.is_header(raw)

    def header_fault(self, raw: bytes) -> str:
        """Return why the rows below a header row cannot be read by it: a sentence; "": they can."""
        return self._plan.reader.header_fault(raw) if isinstance(self._plan.reader, CsvReader) else ""

    def named(self, rejections: tuple[Rejection, ...]) -> tuple[Rejection, ...]:
        """Return what `cdr_decoding.check` said of a mapped record, with the switch's field names added."""
        return tuple(self._with_origin(one) for one in rejections)

    def _mapped(self, slots: Slots) -> Mapped | tuple[Rejection, ...]:
        cdr: Mapped = dict(self._plan.constants)
        problems: list[Problem] = []
        faulty: dict[str, list[Problem]] = {}
        self._shared(slots, cdr, problems)
        for side, plan in self._plan.sides:
            of_side: list[Problem] = []
            party = _party(plan, slots, side, of_side)
            if party:
                cdr[side] = party
            if of_side:
                faulty[side] = of_side
        self._complete(cdr, problems)
        if problems or faulty:
            return self._refused(cdr, problems, faulty)
        if len(cdr["id"]) > ID_CHARS_MAX:
            cdr["id"] = _shortened(cdr["id"])
        return cdr

    def _refused(
        self, cdr: Mapped, problems: list[Problem], faulty: dict[str, list[Problem]]
    ) -> Mapped | tuple[Rejection, ...]:
        """Return the first fault of each side, or the CDR where one of two sides alone is faulty.

        The faulty one then stands there with what it holds, for `cdr` to reject: it does not stop the other.
        """
        sides: list[Side] = [side for side in SIDES if side in cdr]
        if not problems and len(faulty) < len(sides):
            return cdr
        found: list[Rejection] = []
        for side in sides or (None,):
            every = [*problems, *(faulty.get(side, ()) if side else ())]
            problem = min(every, key=lambda one: _PRECEDENCE[one.reason])
            found.append(self._rejection(problem, side))
        return tuple(found)

    def _shared(self, slots: Slots, cdr: Mapped, problems: list[Problem]) -> None:
        """Take what both sides share. Of an unanswered call, answer and duration are not read."""
        plan = self._plan
        answered = _all(plan.answered, slots)
        problems.extend(_take(plan.fields, slots, cdr))
        for name, take in plan.times if answered else plan.times_unanswered:
            value = take(slots)
            if value.__class__ is int:
                cdr[name] = value
            elif value is not None:
                problems.append(_in_field(name, value))
        name, take = self._amount(cdr)
        value = take(slots) if answered else 0
        if value.__class__ is Problem:
            problems.append(_in_field(name, value))
        elif value is not None:
            cdr[name] = value

    def _amount(self, cdr: Mapped) -> tuple[str, Extract]:
        amounts = self._plan.amounts
        return amounts[0] if len(amounts) == 1 or cdr.get("service", CALLS) == CALLS else amounts[1]

    def _complete(self, cdr: Mapped, problems: list[Problem]) -> None:
        for name in ("id", "called", self._amount(cdr)[0]):
            if name in cdr:
                continue
            if not any(problem.detail.startswith(f"{name}: ") for problem in problems):
                origin = self._plan.origins.get(name, "")
                detail = f"{name}: nothing in {origin}; the record lacks it, or the map names another field"
                problems.append(Problem(Reason.MISSING_FIELD, detail, ""))
        if "orig" not in cdr and "term" not in cdr:
            detail = (
                "the record names neither who made the call nor who got it; see the map's [orig] and [term]"
            )
            problems.append(Problem(Reason.MISSING_FIELD, detail, ""))

    def _rejection(self, problem: Problem, side: Side | None = None) -> Rejection:
        return Rejection(problem.reason, f"{problem.detail} (map {self.name})", problem.value, side)

    def _with_origin(self, one: Rejection) -> Rejection:
        found = self._naming.search(one.detail)
        origin = self._plan.origins[found[1]] if found else ""
        told = (
            f"map {self.name}: {found[1]} is read from {origin}" if found and origin else f"map {self.name}"
        )
        return Rejection(one.reason, f"{one.detail} ({told})", one.value, one.side)


def _shortened(name: str) -> str:
    """Return an id that is short enough: a SIP Call-ID with both tags may be longer than ids of CDRs are."""
    digest = blake2b(name.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
    return f"{name[: ID_CHARS_MAX - len(digest) - 1]}~{digest}"


def _all(conditions: tuple[Condition, ...], slots: Slots) -> bool:
    for condition in conditions:  # noqa: SIM110 - a generator costs as much as the conditions, for each record
        if not condition(slots):
            return False
    return True


def _take(fields: tuple[tuple[str, Extract], ...], slots: Slots, into: Mapped) -> list[Problem]:
    """Take texts as they are read; what is none stands there as a list, which `cdr` takes for no text."""
    problems: list[Problem] = []
    for name, take in fields:
        value = take(slots)
        if value.__class__ is Inexact:
            if name == "called":
                into[name] = str(
                    value
                )  # it has a point or an exponent: number_invalid, in its place in the list
                continue
            value = Problem(Reason.MALFORMED, _INEXACT, shown(value))
        if value.__class__ is str:
            into[name] = value
        elif value is not None:
            into[name] = [value.value]
            problems.append(_in_field(name, value))
    return problems


def _party(plan: SidePlan, slots: Slots, side: str, problems: list[Problem]) -> Mapped:
    """Return what names one side; empty where the record has not this side."""
    if not _all(plan.when, slots):
        return {}
    party: Mapped = {}
    faults = _take(plan.fields, slots, party)
    if plan.constants:
        _fill(party, plan.constants)
    if plan.gateways is not None and not plan.gateways.fullmatch(str(party.get("gateway", ""))):
        return {}
    problems.extend(fault._replace(detail=f"{side}.{fault.detail}") for fault in faults)
    return party


def _fill(party: Mapped, constants: Mapping[str, str]) -> None:
    """Fill in what the record has not. Who pays is one answer: no client is added to a record's account."""
    paid = "client" in party or "account" in party
    for name, value in constants.items():
        if name not in party and not (paid and name in ("client", "account")):
            party[name] = value


def _in_field(name: str, problem: Problem) -> Problem:
    if problem.detail.startswith(f"{name}: "):
        return problem
    return problem._replace(detail=f"{name}: {problem.detail}")


# For people


def as_json(cdr: Mapped) -> dict[str, Any]:
    """Return the CDR as CONTRACTS.md writes it: instants as texts (those that are stay so)."""
    return {
        name: rfc3339(value) if name in TIMES and isinstance(value, int) else value
        for name, value in cdr.items()
    }


class Row(NamedTuple):
    """One line of `rater sources test`: a label and its text."""

    label: str
    text: str


def describe(raw: bytes, result: Mapped | Skipped | tuple[Rejection, ...]) -> list[Row]:
    """Return what became of a record, for people: outcome, id, times, duration, numbers, sides; or why not.

    result: what `SourceMap.apply` returned, or the rejections of `cdr_decoding.check` after it.
    """
    if isinstance(result, Skipped):
        return [Row("outcome", f"skipped: {result.reason}"), Row("record", _excerpt(raw))]
    if isinstance(result, tuple):
        rows = [Row("outcome", f"rejected: {result[0].reason}"), Row("why", result[0].detail)]
        if result[0].value:
            rows.append(Row("value", result[0].value))
        if sides := ", ".join(one.side for one in result if one.side):
            rows.append(Row("sides", sides))
        return [*rows, Row("record", _excerpt(raw))]
    result = as_json(result)
    rows = [Row("outcome", "unanswered" if unanswered(result) else "a call")]
    for name in ("id", "source", "service", "setup_at", "answered_at", "ended_at"):
        if name in result:
            rows.append(Row(name, str(result[name])))
    if "volume" in result:
        rows.append(Row("volume", str(result["volume"])))
    else:
        rows.append(Row("duration", _seconds(result["duration_ms"])))
    rows.extend(Row(name, str(result[name])) for name in ("caller", "called") if name in result)
    for side in ("orig", "term"):
        if side in result:
            rows.append(Row(side, ", ".join(f"{name} {value}" for name, value in result[side].items())))
    return rows


def unanswered(cdr: Mapped) -> bool:
    """Return whether nothing was used and the CDR does not say that it was answered (RULES.md 2, step 3)."""
    return cdr.get("volume", cdr.get("duration_ms")) == 0 and cdr.get("answered_at") is None


def _seconds(duration: object) -> str:
    return f"{duration // 1000}.{duration % 1000:03d} s" if isinstance(duration, int) else str(duration)


def _excerpt(raw: bytes) -> str:
    text = shown(" ".join(raw[: 4 * _SHOWN_MAX].decode("utf-8", "backslashreplace").split()))
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
