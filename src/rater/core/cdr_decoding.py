"""A record's bytes, or a decoded mapping, become a checked CDR, or the first reason against it.

Nothing raises here, whatever the bytes. The fast way is one typed decode; whatever it does not take goes the
slow way (`cdr_diagnosis`), which is complete: the fast one only saves time. Source of the rules: CONTRACTS.md
"CDR" and "Reject reasons"; RULES.md 2, steps 1, 3 and 5, and 2.3.
"""

from __future__ import annotations

from collections.abc import Callable
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
from rater.core.cdr_diagnosis import UNREADABLE, Instant, diagnose, diagnose_bytes
from rater.core.instants import EPOCH
from rater.core.reasons import Rejection

_DAY_MS = 86_400_000
_SECOND_MS = 1000
_US_OF_MS = 1000
_BACKSLASH = ord("\\")

# Of the fast way: what is larger has to be looked at, so it goes the slow way.
_Amount = Annotated[int, Meta(ge=0, lt=WRAPPED_MIN)]


class _Record(Struct, gc=False):
    """The fields that are needed, as JSON has them."""

    id: str
    called: str
    source: str = "default"
    service: str = CALLS
    setup_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None
    duration_ms: _Amount | None = None
    volume: _Amount | None = None
    caller: str | None = None
    orig: Party | None = None
    term: Party | None = None


_decode_record: Callable[[bytes], _Record] = msgspec.json.Decoder(_Record).decode

_FAST_FAULTS = (*UNREADABLE, TypeError)


def decode(raw: bytes | None, arrival: Arrival) -> Cdr | tuple[Rejection, ...]:
    """Return the CDR of a Kafka record's value, or a Rejection for each side that could be read (else one).

    raw None is a tombstone: malformed. Never raises.
    """
    try:
        if raw is not None and len(raw) <= MAX_BYTES:
            if not raw.isascii():
                raw.decode()  # msgspec does not look into the fields that it skips
            # JSON has no control characters in texts, so without a backslash every text is as it was written.
            found = _checked(_decode_record(raw), arrival, _BACKSLASH not in raw)
            if found is not None:
                return found
    except _FAST_FAULTS:
        pass  # the slow way finds out why
    return diagnose_bytes(raw, arrival)


def decode_object(record: object, arrival: Arrival) -> Cdr | tuple[Rejection, ...]:
    """Return the same as `decode` for a record that is decoded already (source maps, files). Never raises."""
    try:
        raw = msgspec.json.encode(record)
        found = _checked(_decode_record(raw), arrival, _BACKSLASH not in raw)
    except (*UNREADABLE, TypeError, OverflowError):
        found = None
    return diagnose(record, arrival) if found is None else found


def _checked(record: _Record, arrival: Arrival, plain: bool) -> Cdr | None:  # noqa: FBT001 - as Cdr has it
    """Return the CDR when nothing is wrong with the record; None sends it the slow way, which says what."""
    service, source, called, caller = record.service, record.source, record.called, record.caller
    orig, term, setup, answered, ended = (
        record.orig, record.term, record.setup_at, record.answered_at, record.ended_at
    )  # fmt: skip
    duration_ms = record.duration_ms
    amount = duration_ms if service == CALLS else record.volume
    # `milliseconds` written out for each: three calls would be a tenth of decoding.
    setup_ms = answered_ms = ended_ms = None
    if setup is not None:
        since = setup - EPOCH
        setup_ms = since.days * _DAY_MS + since.seconds * _SECOND_MS + since.microseconds // _US_OF_MS
    if ended is not None:
        since = ended - EPOCH
        ended_ms = since.days * _DAY_MS + since.seconds * _SECOND_MS + since.microseconds // _US_OF_MS
    if answered is not None:
        since = answered - EPOCH
        answered_ms = since.days * _DAY_MS + since.seconds * _SECOND_MS + since.microseconds // _US_OF_MS
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
    if caller is not None and len(caller) > CALLER_CHARS_MAX:
        caller = caller[:CALLER_CHARS_MAX]
    return Cdr(
        source, record.id, service, setup_ms, answered_ms, ended_ms, at_ms, duration_ms, record.volume,
        amount > 0, caller, called, orig, term, (), plain,
    )  # fmt: skip
