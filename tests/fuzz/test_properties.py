"""The checks of the targets on what Hypothesis makes up from nothing: bytes, JSON, contents of headers."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import targets, world
from fuzz.mutating import NAMES, TEXTS, dumped
from rater.core.commands.records import read_event
from rater.core.journal.records import ChangeRecord, Effect, StateRecord
from rater.stream.journal import EarlierMark, Mark, Owner

SOME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
NAME = st.sampled_from(NAMES) | st.text(max_size=5)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(TEXTS)
JSON = st.recursive(LEAF, lambda of: st.lists(of, max_size=4) | st.dictionaries(NAME, of, max_size=6))
RECORD = st.dictionaries(NAME, JSON, max_size=12).map(dumped) | JSON.map(dumped) | st.binary(max_size=200)


@SOME
@given(RECORD)
def test_a_cdr(raw: bytes) -> None:
    """Any bytes: each side has one outcome, or the record has one."""
    targets.check_cdr("74-identification-rules", raw)


@SOME
@given(
    st.sampled_from(["asterisk", "asterisk-csv", "cisco-cucm", "freeswitch-esl", "kamailio", "opensips"]),
    RECORD,
)
def test_a_record_of_a_switch(name: str, raw: bytes) -> None:
    """Any bytes: taken, skipped, or refused."""
    targets.check_source(name, raw)


@settings(SOME, max_examples=20)
@given(RECORD)
def test_a_command(raw: bytes) -> None:
    """Any bytes: the lane goes on."""
    targets.check_command("json", raw)


@settings(SOME, max_examples=20)
@given(st.sampled_from(["yaml", "json", "csv"]), RECORD)
def test_a_catalog(kind: str, raw: bytes) -> None:
    """Any bytes: refused with faults, and nothing changes."""
    targets.check_catalog(kind, raw)


@SOME
@given(RECORD)
def test_an_event(raw: bytes) -> None:
    """Any bytes on the events topic: `rater load`, which waits there, passes over what is none."""
    event = read_event(raw)
    assert event is None or isinstance(event.id, str)


INT = st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 2) | st.sampled_from([2**53 - 1, 2**53, 2**53 + 1])
TEXT = st.text(max_size=8)
BYTES = st.binary(max_size=9)
FIELD = TEXT | st.sampled_from(["3.1.m1", "3.1"])
SAID: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        Effect,
        TEXT,
        INT,
        INT,
        INT,
        INT,
        INT,
        BYTES,
        BYTES,
        TEXT,
        INT,
        st.lists(st.tuples(TEXT, INT), max_size=3),
    ),
    st.builds(
        ChangeRecord,
        TEXT,
        *[INT] * 4,
        st.just("42"),
        st.just(1),
        st.just(world.register()),
        INT,
        st.lists(st.tuples(FIELD, INT), max_size=3),
        st.lists(st.tuples(INT, st.sampled_from([b"", b"\x00\x0142", b"\x00\x0143"])), max_size=2),
        st.lists(TEXT, max_size=2),
        st.lists(st.tuples(FIELD, BYTES), max_size=2),
    ),
    st.builds(StateRecord, TEXT, INT, INT, TEXT, INT, BYTES, st.lists(st.tuples(TEXT, TEXT), max_size=3)),
    *(
        st.builds(kind, st.dictionaries(TEXT, INT), st.dictionaries(TEXT, INT), INT, INT, INT)
        for kind in (Mark, EarlierMark)
    ),
    st.builds(Owner, TEXT, TEXT),
)


@settings(SOME, max_examples=150)
@given(SAID, st.none() | RECORD, INT)
def test_a_record_of_the_journal(said: Any, value: bytes | None, at_ms: int) -> None:
    """A header of the right shape with any numbers: taken, or Halt with a sentence; lists and audit go on."""
    header = ("e" if isinstance(said, Effect) else "control", msgspec.msgpack.encode(said))
    raw = msgspec.msgpack.encode([[header], b"k", value, at_ms])
    targets.check_journal("msgpack", raw)
    targets.check_lists("msgpack", raw)
