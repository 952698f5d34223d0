"""Bytes that a format does not allow cost no call: what no map reads is passed over, the rest is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rater.core.cdr import Arrival
from rater.core.cdr_decoding import decode
from rater.core.reasons import Reason
from rater.core.sources.damaged import controls_shown, mended_json, text_of
from rater.core.sources.source_map import SourceMap, compile_map
from rater.source_maps import open_map

_DATA = Path(__file__).parents[2] / "data" / "sources"
_JSON = {
    "asterisk": "accountcode",
    "freeswitch": "variables.accountcode",
    "freeswitch-esl": "variable_accountcode",
    "kamailio": "account",
    "opensips": "login",
}
"""Shipped map of JSON → a field that it reads as a text of the orig side."""


def _map(name: str) -> SourceMap:
    found = open_map(name, {"source": "s1"})
    assert isinstance(found, SourceMap), found
    return found


def _record(name: str) -> dict[str, Any]:
    if name == "freeswitch-esl":
        text = (_DATA / "freeswitch-esl.txt").read_text("utf-8").split("\n\n")[0]
        return dict(line.split(": ", 1) for line in text.split("\n"))
    record: dict[str, Any] = json.loads((_DATA / f"{name}.jsonl").read_bytes().splitlines()[0])
    return record


def _raw(name: str, path: str, piece: bytes) -> bytes:
    """Return the sample with these bytes inside of the string at a path, whatever they are."""
    record = _record(name)
    holder: Any = record.get("params", record)
    *outer, leaf = [path] if name == "freeswitch-esl" else path.split(".")
    for key in outer:
        holder = holder[int(key) if isinstance(holder, list) else key]
    holder[leaf] = "<~>"
    return json.dumps(record).encode().replace(b"<~>", piece)


def _mapped(name: str, raw: bytes) -> dict[str, Any]:
    found = _map(name).apply(raw)
    assert isinstance(found, dict), found
    return found


_BYTES = {
    b"\x01": r"\x01",
    b"\x00": r"\x00",
    b"\x1f": r"\x1f",
    b"\xe9": r"\xe9",
    b"\xc3": r"\xc3",
    b"\xff\xfe": r"\xff\xfe",
    b"\xed\xa0\x80": r"\xed\xa0\x80",  # half a character
    b"\\ud800": r"\ud800",
    b"\\ud83d\\u0041": r"\ud83dA",
    b"\\q": r"\q",
    b"C:\\pbx": r"C:\pbx",
    b"\\u12": r"\u12",
    b"\\\x01": r"\\x01",
    b"a\tb\r\nc": "a\tb\r\nc",
    b'\\\\\\"\\/\\u00e9\\ud83d\\ude00': '\\"/é\U0001f600',
}
"""What stands in a JSON string → what is read."""


@pytest.mark.parametrize("piece", _BYTES)
@pytest.mark.parametrize("name", _JSON)
def test_bad_bytes_in_json(name: str, piece: bytes) -> None:
    """In a field that no map reads they change nothing; in one that is read they are shown."""
    whole = _mapped(name, json.dumps(_record(name)).encode())
    unread = "variable_sip_recover_contact" if name == "freeswitch-esl" else "sip_recover_contact"
    assert _mapped(name, _raw(name, unread, b"<sip:1001@" + piece + b">;x")) == whole
    mapped = _mapped(name, _raw(name, _JSON[name], b"x" + piece + b"y"))
    assert f"x{_BYTES[piece]}y" in mapped["orig"].values()
    assert {key: one for key, one in mapped.items() if key != "orig"} == {
        key: one for key, one in whole.items() if key != "orig"
    }


def test_both_in_one_record() -> None:
    """A bad byte that nobody reads does not change how the others are read: escapes, floats, other fields."""
    raw = _raw("asterisk", "accountcode", b"\\u0041\xe9\\n1").replace(b'"101"', b'"\x01101"', 1)
    assert _mapped("asterisk", raw)["orig"]["account"] == "A\\xe9\n1"
    raw = _raw("asterisk", "userfield", b"\x01").replace(b'"00380441234567"', b"380441234567.0")
    assert _mapped("asterisk", raw)["called"] == "380441234567"


@pytest.mark.parametrize("name", _JSON)
def test_marks_around_json(name: str) -> None:
    """A mark of the byte order in front, and the zero that ends a text in C, are no part of the record."""
    raw = json.dumps(_record(name)).encode()
    for around in (b"\xef\xbb\xbf" + raw, raw + b"\0", b"\xef\xbb\xbf\r\n" + raw + b"\n\0\0"):
        assert _mapped(name, around) == _mapped(name, raw)


@pytest.mark.parametrize("name", _JSON)
@pytest.mark.parametrize(
    "raw",
    [b'{"a": 1', b'{"a" 1}', b'{"a": "b}', b"\x01{}", b'{"a": nan}', b"{'a': 1}", b'{"a":\x011}', b"\xff"],
)
def test_what_is_no_json_stays_malformed(name: str, raw: bytes) -> None:
    """Bytes are mended inside of strings alone."""
    found = _map(name).apply(raw)
    assert isinstance(found, tuple)
    assert found[0].reason is Reason.MALFORMED
    assert (found[0].detail + found[0].value).isprintable()


def test_cdrs_without_a_map_are_strict() -> None:
    """The form of our own is JSON as RFC 8259 has it: whoever writes it has an encoder."""
    arrival = Arrival(1_793_700_600_000, 7 * 86_400_000, frozenset({"calls"}))
    cdr = b'{"id": "1", "called": "380", "duration_ms": 0, "setup_at": "2026-11-03T10:00:00Z", "orig": {},'
    cdr += b'"x": "%b"}'
    assert not isinstance(decode(cdr % b"a", arrival), tuple)
    for piece in (b"\x01", b"\xe9", b"\\q"):
        found = decode(cdr % piece, arrival)
        assert isinstance(found, tuple)
        assert found[0].reason is Reason.MALFORMED


# Lines and cells


def test_bad_bytes_in_lines_and_cells() -> None:
    """CSV and event text show the same bytes the same way; tabs and ends of lines are as they are."""
    lines = (_DATA / "asterisk.csv").read_bytes().split(b"\n")
    for piece in (b"\x01", b"\x00", b"\xe9", b"\x1f"):
        raw = lines[0].replace(b"sip-101", b"x" + piece + b"y", 1)
        assert raw != lines[0]
        assert _mapped("asterisk-csv", raw)["orig"]["account"] == f"x{_BYTES[piece]}y"
        assert _mapped("asterisk-csv", b"\xef\xbb\xbf" + lines[0]) == _mapped("asterisk-csv", lines[0])
        event = (_DATA / "freeswitch-esl.txt").read_bytes().split(b"\n\n")[0]
        raw = event.replace(b"variable_accountcode: sip-1001", b"variable_accountcode: x" + piece + b"y")
        assert _mapped("freeswitch-esl", raw)["orig"]["account"] == f"x{_BYTES[piece]}y"
        assert _mapped("freeswitch-esl", b"\xef\xbb\xbf" + event) == _mapped("freeswitch-esl", event)


def test_a_zero_byte_in_a_quoted_cell() -> None:
    """Python's CSV reader takes none, a call is not lost by it."""
    made = compile_map(
        'format = "csv"\ncolumns = ["id", "at", "d", "to", "who"]\n[fields]\nid = "id"\ncalled = "to"\n'
        'answered_at = {path = "at", format = "epoch"}\nduration = {path = "d", unit = "s"}\n'
        '[orig]\naccount = "who"',
        "own",
    )
    assert isinstance(made, SourceMap)
    found = made.apply(b'1,1793700000,65,380441234567,"a,\0b"')
    assert isinstance(found, dict)
    assert found["orig"] == {"account": r"a,\x00b"}


# Any bytes

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(_VALUES, st.booleans())
def test_good_json_is_not_changed(value: object, ascii_only: bool) -> None:  # noqa: FBT001 - of hypothesis
    """What JSON allows means the same after it was mended."""
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert msgspec.json.decode(mended_json(raw)) == value


@example(b'\\"')
@example(b"\\\\\xe9")
@given(st.binary(max_size=60))
def test_any_bytes_in_a_string(piece: bytes) -> None:
    """Whatever stands between two quotes, but quotes and a backslash at the end: a text comes of it."""
    piece = piece.replace(b'"', b"'")
    if len(piece) - len(piece.rstrip(b"\\")) & 1:
        piece += b"x"
    text = msgspec.json.decode(mended_json(b'{"a": "' + piece + b'"}'))["a"]
    assert isinstance(text, str)
    text.encode()


@given(st.binary(max_size=100))
def test_any_bytes_are_text(raw: bytes) -> None:
    """A line has no control characters but tabs and ends of lines, and can be written."""
    text = controls_shown(text_of(raw))
    text.encode()
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


def test_blank_controls_around_a_cell_are_blanks() -> None:
    """Those that part fields and lines of other forms are cut off; within a text they are shown."""
    shipped = _map("asterisk-csv")
    row = (_DATA / "asterisk.csv").read_bytes().splitlines()[0]
    padded = row.replace(b'"sip-101"', b'"\x1fsip-101\x0b\x1c"')
    assert shipped.apply(padded) == shipped.apply(row)
    within = shipped.apply(row.replace(b'"sip-101"', b'"sip\x1f101"'))
    assert isinstance(within, dict)
    assert within["orig"]["account"] == "sip\\x1f101"
    event = (_DATA / "freeswitch-esl.txt").read_bytes().split(b"\n\n")[0]
    events = _map("freeswitch-esl")
    assert events.apply(event.replace(b"sip-1001\n", b"sip-1001\x1f\n")) == events.apply(event)


@pytest.mark.parametrize("name", ["asterisk", "asterisk-csv"])
@pytest.mark.parametrize(
    ("disposition", "duration_ms"),
    [
        ("ANSWERED", 65_000), ("ANSWERED\x01", 65_000), ("ANSW", 65_000), ("", 65_000),
        ("NO ANSWER", 0), ("no answer", 0), ("BUSY", 0), ("FAILED", 0), ("CONGESTION", 0),
    ],
)  # fmt: skip
def test_a_damaged_disposition_gives_no_call_away(name: str, disposition: str, duration_ms: int) -> None:
    """A call that lasted is unanswered where its disposition says so, not where that says nothing."""
    raw = (_DATA / ("asterisk.csv" if name == "asterisk-csv" else "asterisk.jsonl")).read_bytes()
    found = _map(name).apply(raw.splitlines()[0].replace(b"ANSWERED", disposition.encode()))
    assert isinstance(found, dict)
    assert found["duration_ms"] == duration_ms
