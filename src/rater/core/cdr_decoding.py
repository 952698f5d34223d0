"""A record's bytes, or the fields that a source map read, become a checked CDR or rejections.

Nothing raises here, whatever the bytes. The fast way is one typed decode; whatever it does not take goes the
slow way (`cdr_diagnosis`), which is complete: the fast one only saves time. Bytes and fields of a map differ
in how their instants are read; the checks are the same ones. Source of the rules: CONTRACTS.md "CDR" and
"Reject reasons"; RULES.md 2, steps 1, 3 and 5, and 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from rater.core.cdr import (
    CALLER_CHARS_MAX,
    CALLS,
    DIGITS_MAX,
    ID_CHARS_MAX,
    MAX_BYTES,
    RESERVED_SOURCES,
    SOURCE_CHARS_MAX,
    WRAPPED_MIN,
    Arrival,
    Cdr,
    Party,
)
from rater.core.cdr_diagnosis import (
    REFUSED,
    Instant,
    Times,
    caller_text,
    diagnose,
    diagnose_bytes,
    known_ms,
    too_deep,
)
from rater.core.instants import milliseconds
from rater.core.reasons import Rejection

_BACKSLASH = ord("\\")

# Of the fast way: what is larger has to be looked at, so it goes the slow way.
_Amount = Annotated[int, Meta(ge=0, lt=WRAPPED_MIN)]


class _Fields(Struct, gc=False):
    """The fields that are needed, but for the instants."""

    id: str
    called: str
    source: str = "default"
    service: str = CALLS
    duration_ms: _Amount | None = None
    volume: _Amount | None = None
    caller: str | None = None
    orig: Party | None = None
    term: Party | None = None


class _Written(_Fields, gc=False):
    """The fields as JSON has them."""

    setup_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None


class _Mapped(_Fields, gc=False):
    """The fields as a source map gives them: instants are ms since 1970 UTC."""

    setup_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None


_decode_record: Callable[[bytes], _Written] = msgspec.json.Decoder(_Written).decode


def decode(raw: bytes | None, arrival: Arrival) -> Cdr | tuple[Rejection, ...]:
    """Return the CDR of a Kafka record's value, or a Rejection for each side that could be read (else one).

    raw None is a tombstone: malformed. Never raises.
    """
    try:
        if raw is not None and len(raw) <= MAX_BYTES:
            if not raw.isascii():
                raw.decode()  # msgspec does not look into the fields that it skips
            record = _decode_record(raw)
            if too_deep(raw):
                return diagnose_bytes(raw, arrival)
            setup, answered, ended = record.setup_at, record.answered_at, record.ended_at
            times = (
                None if setup is None else milliseconds(setup),
                None if answered is None else milliseconds(answered),
                None if ended is None else milliseconds(ended),
            )
            # JSON has no control characters in texts, so without a backslash every text is as it was written.
            found = _checked(record, times, arrival, _BACKSLASH not in raw)
            if found is not None:
                return found
    except REFUSED:
        pass  # the slow way finds out why
    return diagnose_bytes(raw, arrival)


def check(fields: Mapping[str, object], arrival: Arrival) -> Cdr | tuple[Rejection, ...]:
    """Return the same as `decode` for the fields that a source map read. Never raises.

    fields: as in the JSON of CONTRACTS.md "CDR", but instants are ms since 1970 UTC.
    """
    try:
        record = msgspec.convert(fields, _Mapped)
        times = record.setup_at, record.answered_at, record.ended_at
        # The encoder says soonest whether JSON escapes anything in texts. It refuses half characters, too.
        found = _checked(record, times, arrival, _BACKSLASH not in msgspec.json.encode(fields))
    except REFUSED:
        found = None
    return diagnose(fields, arrival, known_ms) if found is None else found


def _checked(record: _Fields, times: Times, arrival: Arrival, plain: bool) -> Cdr | None:  # noqa: FBT001 - as Cdr has it
    """Return the CDR when nothing is wrong with the record; None sends it the slow way, which says what."""
    service, source, called, caller = record.service, record.source, record.called, record.caller
    orig, term, duration_ms = record.orig, record.term, record.duration_ms
    setup_ms, answered_ms, ended_ms = times
    amount = duration_ms if service == CALLS else record.volume
    if answered_ms is not None:
        at_ms: int | None = answered_ms
    else:
        at_ms = (ended_ms if setup_ms is None else setup_ms) if not amount else None
    if called[:1] == "+":
        called = called[1:]
    if (
        amount is None
        or at_ms is None
        or not arrival.first_ms <= at_ms <= arrival.last_ms - (duration_ms or 0)
        or not (called.isdigit() and called.isascii() and len(called) <= DIGITS_MAX)
        or service not in arrival.services
        or not 0 < len(record.id) <= ID_CHARS_MAX
        or not 0 < len(source) <= SOURCE_CHARS_MAX
        or "/" in source
        or source in RESERVED_SOURCES
        or (orig is None and term is None)
    ):
        return None
    if caller is not None and not (caller.isalnum() and caller.isascii() and len(caller) <= CALLER_CHARS_MAX):
        caller = caller_text(caller)
    return Cdr(
        source, record.id, service, setup_ms, answered_ms, ended_ms, at_ms, duration_ms, record.volume,
        amount > 0, caller, called, orig, term, (), plain,
    )  # fmt: skip
