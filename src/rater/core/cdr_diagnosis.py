"""Why a record is no CDR: it is read untyped, and the first reason is looked for in the order of the list.

Nothing raises here, whatever the bytes. Complete: what nothing is wrong with comes out as a CDR. Source of
the rules: CONTRACTS.md "CDR" and "Reject reasons"; RULES.md 2, steps 1, 3 and 5, and 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from rater.core.amounts import LIMIT
from rater.core.cdr import (
    CALENDAR_MS_MAX,
    CALLER_CHARS_MAX,
    CALLS,
    DEPTH_MAX,
    DIGITS_MAX,
    ID_CHARS_MAX,
    MAX_BYTES,
    RESERVED_SOURCES,
    SIDES,
    SOURCE_CHARS_MAX,
    WRAPPED_END,
    WRAPPED_MIN,
    Arrival,
    Cdr,
    Party,
)
from rater.core.instants import SECOND_MS, milliseconds
from rater.core.json_text import UNREADABLE
from rater.core.number_text import digits_of
from rater.core.reasons import Reason, Rejection, Side, shown

Instant = Annotated[datetime, Meta(tz=True)]
"""A time with an offset, as msgspec reads RFC 3339."""
Times = tuple[int | None, int | None, int | None]
"""Set up, answered, ended: ms since 1970 UTC."""

_decode_fields: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
).decode

REFUSED = (*UNREADABLE, TypeError, OverflowError)
"""What else a record raises. OverflowError: an int of more than 64 bits, an instant that is none in UTC."""


class _Unreadable:
    """A JSON number that no Python number holds: stands for its field, whose own reason is then given.

    A plain class, which msgspec refuses to encode: inside a side it makes that side malformed.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class _Fault(Struct, frozen=True):
    reason: Reason
    detail: str
    value: object = ""

    def at(self, side: Side | None) -> Rejection:
        return Rejection(self.reason, self.detail, shown(self.value), side)


_RANK = {reason: rank for rank, reason in enumerate(Reason)}


def diagnose_bytes(raw: bytes | None, arrival: Arrival) -> Cdr | tuple[Rejection, ...]:
    """Return the CDR of a record's bytes, or the first reason for each side; None: a tombstone."""
    if raw is None:
        return (_Fault(Reason.MALFORMED, "the record has no value; send one JSON object").at(None),)
    if len(raw) > MAX_BYTES:
        detail = f"the record has {len(raw)} bytes; at most {MAX_BYTES} are taken"
        return (_Fault(Reason.TOO_LARGE, detail, len(raw)).at(None),)
    try:
        raw.decode()
        if not too_deep(raw):
            return diagnose(_untyped(raw), arrival, _parsed)
        detail = f"lists and objects lie more than {DEPTH_MAX} deep in each other; send a flat object"
    except UNREADABLE as error:
        detail = (
            f"the record is no JSON in UTF-8 ({error}); send one JSON object"
            if raw
            else "the record is empty"
        )
    return (_Fault(Reason.MALFORMED, detail, raw).at(None),)


def too_deep(raw: bytes) -> bool:
    """Return whether lists and objects lie deeper in each other than DEPTH_MAX, be it JSON or not."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for mark in _MARKS.finditer(raw):
        first = mark[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > DEPTH_MAX:
            return True
    return False


_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Texts, and what begins or ends a list or an object."""


def _untyped(raw: bytes) -> object:
    """Return the decoded record; where a number is beyond all bounds, that field alone is unreadable."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        fields = _decode_fields(raw)
    return {name: _field(text) for name, text in fields.items()}


def _field(raw: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return _Unreadable(shown(bytes(raw)))


def diagnose(
    record: object, arrival: Arrival, instant: Callable[[object], int]
) -> Cdr | tuple[Rejection, ...]:
    """Return the CDR, or the first reason for each side.

    record: anything. instant: gives the ms of an instant as the record has it, TypeError or ValueError where
    that is none.
    """
    if not isinstance(record, Mapping):
        detail = f"the record is a {type(record).__name__}; send one JSON object"
        return (_Fault(Reason.MALFORMED, detail, record).at(None),)
    fields: Mapping[str, object] = record
    fault, cdr = _common(fields, arrival, instant)
    sides = [side for side in SIDES if fields.get(side) is not None]
    if not sides:
        missing = _Fault(Reason.MISSING_FIELD, "neither `orig` nor `term` is there; name the side to rate")
        return (_first(fault, missing).at(None),)
    parties: dict[str, Party] = {}
    rejected: list[Rejection] = []
    for side in sides:
        party = _party(fields[side], side)
        if isinstance(party, _Fault):
            rejected.append(_first(fault, party).at(side))
        elif fault is not None:
            rejected.append(fault.at(side))
        else:
            parties[side] = party
    if cdr is None or not parties:
        return tuple(rejected)
    return msgspec.structs.replace(cdr, rejected=tuple(rejected), **parties)


def _first(one: _Fault | None, other: _Fault) -> _Fault:
    """Return the fault that comes first in the list of reasons; of equal ones, the first given."""
    return one if one is not None and _RANK[one.reason] <= _RANK[other.reason] else other


def _common(
    fields: Mapping[str, object], arrival: Arrival, instant: Callable[[object], int]
) -> tuple[_Fault, None] | tuple[None, Cdr]:
    """Return the first fault of what both sides share, or the CDR still without sides."""
    fault = _text_fault(fields) or _missing(fields, arrival.services)
    if fault is not None:
        return fault, None
    times = _times(fields, instant)
    if isinstance(times, _Fault):
        return times, None
    setup_ms, answered_ms, ended_ms = times
    at_ms = next(
        (ms for ms in (answered_ms, setup_ms, ended_ms) if ms is not None), 0
    )  # `_missing` saw to one
    service = str(fields.get("service") or CALLS)
    called = digits_of(str(fields["called"]))
    fault = (
        _late_or_early(at_ms, arrival)
        or _bad_amount(fields)
        or _not_over(at_ms, fields.get("duration_ms"), arrival)
        or _bad_target(called, str(fields["called"]), service, arrival)
    )
    if fault is not None:
        return fault, None
    caller: Any = fields.get("caller")
    duration: Any = fields.get("duration_ms")
    volume: Any = fields.get("volume")
    return None, Cdr(
        source=str(fields.get("source") or "default"),
        id=str(fields["id"]),
        service=service,
        setup_ms=setup_ms,
        answered_ms=answered_ms,
        ended_ms=ended_ms,
        at_ms=at_ms,
        duration_ms=duration,
        volume=volume,
        used=(duration if service == CALLS else volume) > 0,
        caller=None if caller is None else caller_text(caller),
        called=called,
        orig=None,
        term=None,
    )


def caller_text(caller: str) -> str:
    """Return a caller as it is kept: as it came, but digits where it is a number with something between."""
    written_plainly = caller.isascii() and caller.removeprefix("+").isalnum()
    return (caller if written_plainly else digits_of(caller))[:CALLER_CHARS_MAX]


def _text_fault(fields: Mapping[str, object]) -> _Fault | None:
    for name in ("id", "source", "service", "called", "caller"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            return _Fault(Reason.MALFORMED, f"`{name}` is no text; send it as a JSON string", value)
        if value is not None and not _encodable(value):
            return _Fault(Reason.MALFORMED, f"`{name}` holds half a character; send UTF-8", value)
    name = str(fields.get("id") or "")
    if len(name) > ID_CHARS_MAX:
        return _Fault(
            Reason.MALFORMED, f"`id` is longer than {ID_CHARS_MAX} characters; send a shorter one", name
        )
    source = fields.get("source")
    if source is not None and (
        not 0 < len(str(source)) <= SOURCE_CHARS_MAX or "/" in str(source) or source in RESERVED_SOURCES
    ):
        detail = (
            f"`source` has to be 1 to {SOURCE_CHARS_MAX} characters without `/`, and not cp or adjust, with "
            "which ids of fees and adjustments begin; rename the source"
        )
        return _Fault(Reason.MALFORMED, detail, source)
    if fields.get("service") == "":
        return _Fault(Reason.MALFORMED, "`service` is empty; name a service or leave the field out", "")
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing(fields: Mapping[str, object], services: frozenset[str]) -> _Fault | None:
    for name in ("id", "called"):
        if not fields.get(name):
            return _Fault(
                Reason.MISSING_FIELD, f"`{name}` is missing or empty; every CDR needs it", fields.get(name)
            )
    name = _amount_name(fields, services)
    amount = fields.get(name)
    if amount is None:
        return _Fault(
            Reason.MISSING_FIELD, f"`{name}` is missing; say how much is to be rated, 0 if unanswered"
        )
    if fields.get("answered_at") is not None:
        return None
    if isinstance(amount, bool) or amount != 0:
        detail = f"`answered_at` is missing and `{name}` is not 0; say when it was answered"
        return _Fault(Reason.MISSING_FIELD, detail, amount)
    if fields.get("setup_at") is None and fields.get("ended_at") is None:
        detail = "`answered_at`, `setup_at` and `ended_at` are missing; an unanswered call needs one of them"
        return _Fault(Reason.MISSING_FIELD, detail)
    return None


def _amount_name(fields: Mapping[str, object], services: frozenset[str]) -> str:
    """Return which field says how much; of a service that nobody knows, either does: that is its fault."""
    service = fields.get("service") or CALLS
    if service == CALLS or (service not in services and fields.get("volume") is None):
        return "duration_ms"
    return "volume"


def _times(fields: Mapping[str, object], instant: Callable[[object], int]) -> Times | _Fault:
    """Return set up, answered, ended in ms, or the first that is no time."""
    found: list[int | None] = []
    for name in ("setup_at", "answered_at", "ended_at"):
        value = fields.get(name)
        try:
            found.append(None if value is None else instant(value))
        except REFUSED:
            detail = f"`{name}` is no time; send RFC 3339 with an offset, such as 2026-11-03T10:00:00.000Z"
            return _Fault(Reason.BAD_TIME, detail, value)
    setup_ms, answered_ms, ended_ms = found
    return setup_ms, answered_ms, ended_ms


def _parsed(value: object) -> int:
    if not isinstance(value, str):
        raise TypeError  # msgspec would take numbers
    return milliseconds(msgspec.convert(value, Instant))


def known_ms(value: object) -> int:
    """Return an instant that is ms already."""
    return msgspec.convert(value, int)


def _late_or_early(at_ms: int, arrival: Arrival) -> _Fault | None:
    if at_ms > arrival.last_ms:
        ahead_s = (at_ms - arrival.lane_ms) // SECOND_MS
        detail = (
            f"the call is {ahead_s} s ahead of the latest Kafka timestamp of its lane, more than an hour; "
            "check the clock of the switch, and of who stamps its records"
        )
        if arrival.last_ms == CALENDAR_MS_MAX:
            detail = "the call is beyond the year 9998; check the clock of the switch"
        return _Fault(Reason.TIME_IN_FUTURE, detail, at_ms)
    if at_ms < arrival.first_ms:
        age_s = (arrival.lane_ms - at_ms) // SECOND_MS
        detail = (
            f"the call is {age_s} s older than the latest Kafka timestamp of its lane, and the duplicate "
            f"window is {arrival.window_ms // SECOND_MS} s; send it with --late (rater recycle, rater ingest)"
        )
        return _Fault(Reason.TOO_OLD, detail, at_ms)
    return None


def _bad_amount(fields: Mapping[str, object]) -> _Fault | None:
    for name in ("duration_ms", "volume"):
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LIMIT:
            detail = (
                f"`{name}` is not a whole number from 0 to 2^53 - 1; send it as one, or correct its unit in "
                "the source's map"
            )
            return _Fault(Reason.BAD_DURATION, detail, value)
        if WRAPPED_MIN <= value < WRAPPED_END:
            detail = (
                f"`{name}` is {value - WRAPPED_END} in 32 bits without sign, a count below zero; correct the "
                "switch"
            )
            return _Fault(Reason.BAD_DURATION, detail, value)
    return None


def _not_over(at_ms: int, duration: object, arrival: Arrival) -> _Fault | None:
    """Return the fault of a call that its record cannot have come after. duration: ms, checked, or None."""
    if not isinstance(duration, int) or at_ms + duration <= arrival.last_ms:
        return None
    detail = (
        f"by `duration_ms` the call ends {(at_ms + duration - arrival.lane_ms) // SECOND_MS} s after its "
        "record came, more than an hour; correct the switch, or the unit of the duration in the source's map"
    )
    if arrival.last_ms == CALENDAR_MS_MAX:
        detail = "by `duration_ms` the call ends beyond the year 9998; correct the switch or the source's map"
    return _Fault(Reason.BAD_DURATION, detail, duration)


def _bad_target(called: str, written: str, service: str, arrival: Arrival) -> _Fault | None:
    if not (called.isdigit() and called.isascii() and len(called) <= DIGITS_MAX):
        detail = (
            f"`called` is not 1 to {DIGITS_MAX} digits after an optional +, but for what parts them; "
            "let the source's map normalise it, or the switch write it as text where it was a number with a "
            "fraction or an exponent"
        )
        return _Fault(Reason.NUMBER_INVALID, detail, written)
    if service not in arrival.services:
        detail = f"`service` {shown(service)!r} is not in the catalog; load it, or correct the source's map"
        return _Fault(Reason.SERVICE_UNKNOWN, detail, service)
    return None


# What stands in for absent fields of a given rate, to tell a missing field from a wrong one.
_RATE_FILL = {"code": "0", "price": "0", "currency": "XXX"}


def _party(value: object, side: Side) -> Party | _Fault:
    try:
        text = msgspec.json.encode(value)
        return msgspec.json.decode(text, type=Party)
    except REFUSED as error:
        missing = _missing_in_rate(value)
        if missing:
            detail = f"`{side}.rate` lacks {', '.join(missing)}; a given rate needs code, price and currency"
            return _Fault(Reason.MISSING_FIELD, detail, value)
        return _Fault(
            Reason.MALFORMED, f"`{side}` cannot be read ({error}); correct the field that it names", value
        )


def _missing_in_rate(value: object) -> list[str]:
    """Return the names that the given rate lacks when nothing else is wrong with the side."""
    rate = value.get("rate") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(rate, dict):
        return []
    missing = [name for name in _RATE_FILL if rate.get(name) is None]
    filled = {**rate, **{name: _RATE_FILL[name] for name in missing}}
    try:
        msgspec.convert({**value, "rate": filled}, Party)
    except REFUSED:
        return []
    return missing
