"""Ingesting: a file is cut into records, none of its bytes is lost, and memory is bounded by one record."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import Counter
from typing import BinaryIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rater.core.sources.cutting import RECORD_BYTES_MAX, Record, records
from rater.core.sources.source_map import SourceMap
from rater.source_maps import open_map


def _map(name: str) -> SourceMap:
    found = open_map(name)
    assert isinstance(found, SourceMap)
    return found


_JSON = _map("asterisk")
_CSV = _map("asterisk-csv")
_ESL = _map("freeswitch-esl")


def _cut(data: bytes, source_map: SourceMap | None = _JSON) -> list[tuple[int, bytes]]:
    return [(record.line, record.raw) for record in records(io.BytesIO(data), source_map)]


# JSON


def test_json_lines() -> None:
    """Each line is a record with its number; blank lines, line ends and a byte order mark are none of it."""
    assert _cut(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"a":2}\nno json\n{"a":3}') == [
        (1, b'{"a":1}'),
        (4, b'{"a":2}'),
        (5, b"no json"),
        (6, b'{"a":3}'),
    ]


def test_documents_over_lines() -> None:
    """A document over several lines is one record, whatever brackets its strings hold."""
    one = b'{\n "a": "}{[\\"}",\n "b": {"c": [1, 2]}\n}'
    two = b'{\n "a": 2\n}'
    assert _cut(one + b"\n\n" + two + b"\n") == [(1, one), (6, two)]


def test_list_of_records() -> None:
    """The members of a list are records; a list inside of a record is its own."""
    data = b'[\n {"a": [1]},\n {\n  "b": 2\n },\n {"c": 3}]\n'
    assert _cut(data) == [(2, b'{"a": [1]}'), (3, b'{\n  "b": 2\n }'), (6, b'{"c": 3}')]
    assert _cut(b'[{"a":1},{"a":2}]') == [(1, b'{"a":1}'), (1, b'{"a":2}')]


def test_documents_on_one_line() -> None:
    """Documents that follow each other without a line break are still apart, where the file is of such."""
    assert _cut(b'{\n"a":1}{"b":2} {"c":\n3}') == [(1, b'{\n"a":1}'), (2, b'{"b":2}'), (2, b'{"c":\n3}')]


def test_documents_glued_together() -> None:
    """Documents that follow each other on lines that are whole by themselves are apart, too."""
    assert _cut(b'{"a":1}{"b":2}\n{"c":"}{"} {"d":{}}\n{"e":4}') == [
        (1, b'{"a":1}'),
        (1, b'{"b":2}'),
        (2, b'{"c":"}{"}'),
        (2, b'{"d":{}}'),
        (3, b'{"e":4}'),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"7(29544) NOTICE: acc [acc_cdr.c:395]: write_cdr_entry(): ACC: call ended: duration=1.2",
        b"{1 2 INVITE c7a1@192.0.2.55} NOTICE: acc [acc.c:279]: acc_log_request(): ACC: transaction answered",
        b"[acc_cdr.c:395] started",
        b"done [3/4] {x} }] of it",
        b"[1, 2]",
    ],
)
def test_a_line_of_a_log_is_one_record(line: bytes) -> None:
    """Brackets in text that is no JSON do not cut it: one line, one rejection."""
    assert _cut(line + b"\n" + line) == [(1, line), (2, line)]
    assert _cut(b'{"a":1}\n' + line) == [(1, b'{"a":1}'), (2, line)]


def test_json_behind_the_head_of_a_log() -> None:
    """A record that a log wrote behind its own text is a record of its own."""
    assert _cut(b'7(1) ALERT: [x] CDR {"a":{"b":1}}\n') == [
        (1, b"7(1) ALERT: [x] CDR"),
        (1, b'{"a":{"b":1}}'),
    ]


def test_garbage_between_documents() -> None:
    """What stands between documents is a record of its own, to be rejected with its line."""
    assert _cut(b'{\n"a":1\n}\nwhat is this\n{\n"b":2\n}\n}\n') == [
        (1, b'{\n"a":1\n}'),
        (4, b"what is this"),
        (5, b'{\n"b":2\n}'),
        (8, b"}"),
    ]


def test_document_that_never_ends() -> None:
    """A document that was cut off is one bad record and takes no others with it."""
    assert _cut(b'{\n  "a": 1,\n{"b":2}\n{"c":3}\n') == [
        (1, b'{\n  "a": 1,'),
        (3, b'{"b":2}'),
        (4, b'{"c":3}'),
    ]


def test_list_on_one_long_line() -> None:
    """A list that is too long to be read as one line is refused with the remedy."""
    data = b"[" + b'{"a":1},' * (RECORD_BYTES_MAX // 8 + 1) + b"{}]"
    with pytest.raises(ValueError, match="write an object on each line"):
        _cut(data)


def test_cdrs_need_no_map() -> None:
    """CDRs as JSON lines are taken as they are."""
    assert _cut(b'\n{"id":"1"}\n{"id":"2"}\n', None) == [(2, b'{"id":"1"}'), (3, b'{"id":"2"}')]


@pytest.mark.parametrize("source_map", [None, _JSON, _CSV, _ESL])
def test_nothing_in_nothing(source_map: SourceMap | None) -> None:
    """An empty file, or one of blanks, has no record."""
    assert _cut(b"", source_map) == _cut(b" \n\r\n\n", source_map) == []


# CSV


def test_csv_lines() -> None:
    """Each line is a record, header rows too: what they are, the map says."""
    assert _cut(b'"a","b"\r\n\r\n"c","d"', _CSV) == [(1, b'"a","b"'), (3, b'"c","d"')]


def test_header_rows_go_with_their_rows() -> None:
    """Each row has the header row above it; those above the first have none. A byte order mark is no row."""
    first, second = b"dst,src,uniqueid,answer", b"\xef\xbb\xbfsrc,dst,uniqueid,answer"
    needed = b",start,end,billsec,disposition,accountcode,channel,dstchannel,lastapp"
    data = b"\n".join([b"0,0", first + needed, b"1,2", b"", b"3,4", second + needed, b"5,6"])
    found = [(one.line, one.raw, one.columns) for one in records(io.BytesIO(data), _CSV)]
    assert found == [
        (1, b"0,0", None),
        (2, first + needed, first + needed),
        (3, b"1,2", first + needed),
        (5, b"3,4", first + needed),
        (6, second + needed, second + needed),
        (7, b"5,6", second + needed),
    ]


def test_a_header_row_that_cannot_be_read() -> None:
    """The file is refused with line, column and remedy."""
    with pytest.raises(ValueError, match=r"line 2: the header row names no channel, .* more, which the map"):
        _cut(b"0,0\nsrc,dst,uniqueid\n", _CSV)


def test_quoted_newlines() -> None:
    """A line break in quotes is of the cell, and doubled quotes do not end it."""
    data = b'"a","x ""y""\nz","b"\n"c","d"\n'
    assert _cut(data, _CSV) == [(1, b'"a","x ""y""\nz","b"'), (3, b'"c","d"')]


def test_quote_inside_of_a_cell() -> None:
    """A quote counts only where a cell begins: inches take no lines with them."""
    assert _cut(b'a,5" pipe,b\nc,d\n', _CSV) == [(1, b'a,5" pipe,b'), (2, b"c,d")]


def test_forgotten_quote() -> None:
    """A quote that is never closed spoils its own line alone."""
    lines = [f'"{number}","x"'.encode() for number in range(40)]
    data = b'"a","open\n' + b"\n".join(lines)
    assert _cut(data, _CSV) == [(1, b'"a","open'), *enumerate(lines, start=2)]
    assert _cut(b'1,"open\n2,x\n3,"y"\n', _CSV) == [(1, b'1,"open'), (2, b"2,x"), (3, b'3,"y"')]
    assert _cut(b'"a","open\n"b","c"', _CSV) == [(1, b'"a","open'), (2, b'"b","c"')]


def test_cdrs_of_csv() -> None:
    """CSV with the CDR's field names becomes CDRs: sides, whole numbers, and nothing for empty cells."""
    data = (
        b"id, called,duration_ms,answered_at,orig.client,term.gateway,tag\n"
        b'1,380441234567,65039,2026-11-03T10:00:00Z,"42",,x\n'
        b"2,380441234567,-1,,,gw-kiev,\n"
        b"3,380441234567,1.5,,,,\n"
    )
    made = [json.loads(raw) for _, raw in _cut(data, None)]
    assert made == [
        {
            "id": "1",
            "called": "380441234567",
            "duration_ms": 65039,
            "answered_at": "2026-11-03T10:00:00Z",
            "orig": {"client": "42"},
        },
        {"id": "2", "called": "380441234567", "duration_ms": -1, "term": {"gateway": "gw-kiev"}},
        {"id": "3", "called": "380441234567", "duration_ms": "1.5"},
    ]


def test_cell_too_many() -> None:
    """A row with more cells than the header is left as it is: its cells have moved, so it is no CDR."""
    assert _cut(b"id,called\n1,380,44\n2,380,\n", None) == [
        (2, b"1,380,44"),
        (3, b'{"id":"2","called":"380"}'),
    ]


def test_cdrs_of_csv_that_were_cut() -> None:
    """A row with fewer cells than the header row, or an open quote, is left as it is: it becomes no CDR."""
    whole = b'"1","380441234567","65039","42"'
    for cut in {*range(1, len(whole))} - {whole.rindex(b",") + 1}:  # there its last cell is empty: see below
        made = [raw for _, raw in _cut(b"id,called,duration_ms,orig.client\n" + whole[:cut], None)]
        assert made == [whole[:cut]]


def test_cdrs_of_csv_files_put_together() -> None:
    """Each header row holds for the rows below it, in whatever order it names the fields."""
    data = b"id,called\n1,380\n\xef\xbb\xbfcalled, id,,\n381,2,,\n"
    assert _cut(data, None) == [(2, b'{"id":"1","called":"380"}'), (4, b'{"called":"381","id":"2"}')]


def test_cdrs_of_csv_with_a_column_twice() -> None:
    """Which of two columns is meant is not guessed; the file is refused, also half-way."""
    with pytest.raises(ValueError, match="line 3: the header row names called twice"):
        _cut(b"id,called\n1,380\nid,called,called\n", None)


@pytest.mark.parametrize(
    ("data", "source_map"),
    [
        (b"a,b\nc,d", _CSV),
        (b'a,b\nc,"d\nd"', _CSV),
        (b"id,called,caller\n1,2,", None),
        (b"Event-Name: A\nx: 1", _ESL),
    ],
)
def test_a_last_line_without_its_break(data: bytes, source_map: SourceMap | None) -> None:
    """A row or an event at whose end no line break stands may be cut off, and is marked; with it, none is."""
    found = list(records(io.BytesIO(data), source_map))
    assert [one.ended for one in found] == [*[True] * (len(found) - 1), False]
    assert all(one.ended for one in records(io.BytesIO(data + b"\r\n"), source_map))


def test_no_header() -> None:
    """CSV without a header row is refused, with what is missing and the remedy."""
    with pytest.raises(
        ValueError, match=r"line 2 is no header row of CDRs: 1, 380.*or give the source a map"
    ):
        _cut(b"\n1,380\n", None)


# Events


def test_events() -> None:
    """Blocks of lines with an empty line between are events; line breaks are of either kind."""
    data = b"\nEvent-Name: A\nx: 1\n\n\r\nEvent-Name: B\r\nx: 2\r\n\r\n"
    assert _cut(data, _ESL) == [(2, b"Event-Name: A\nx: 1"), (6, b"Event-Name: B\r\nx: 2")]


def test_events_without_empty_lines() -> None:
    """A new Event-Name begins a new event: none is swallowed by the one before."""
    data = b"Event-Name: A\nx: 1\nvariable_Event-Name: C\nEvent-Name: B\nx: 2"
    assert _cut(data, _ESL) == [
        (1, b"Event-Name: A\nx: 1\nvariable_Event-Name: C"),
        (4, b"Event-Name: B\nx: 2"),
    ]


def test_events_of_the_socket() -> None:
    """The event socket's own header stays with no event: it is a record without Event-Name, and skipped."""
    data = b"Content-Length: 30\nContent-Type: text/event-plain\n\nEvent-Name: A\nx: 1\n\n"
    assert [line for line, _ in _cut(data, _ESL)] == [1, 4]


def test_events_as_json() -> None:
    """Events in their JSON form are JSON lines, or documents over lines."""
    assert _cut(b'{"Event-Name":"A"}\n{"Event-Name":"B"}\n', _ESL) == [
        (1, b'{"Event-Name":"A"}'),
        (2, b'{"Event-Name":"B"}'),
    ]
    assert _cut(b'{\n "Event-Name": "A"\n}\n', _ESL) == [(1, b'{\n "Event-Name": "A"\n}')]


# Bounds


class _Endless(io.RawIOBase):
    """A file of one pattern, over and over, that notes how much of it was asked for at once."""

    def __init__(self, pattern: bytes, size: int) -> None:
        self._pattern = pattern
        self._left = size

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= RECORD_BYTES_MAX + 1
        line = self._pattern[:size]
        taken = line[: max(self._left, 0)]
        self._left -= len(taken)
        return taken


@pytest.mark.parametrize(
    ("source_map", "pattern"),
    [
        (_JSON, b"{" * 65536),
        (_JSON, b'{"a":' + b" " * 300 + b"\n"),
        (_CSV, b"x" * 65536),
        (_ESL, b"name: " + b"x" * 5000 + b"\n"),
    ],
)
def test_records_are_bounded(source_map: SourceMap, pattern: bytes) -> None:
    """A file that is one endless record is cut, far above what a CDR may have, so it is rejected."""
    stream: BinaryIO = _Endless(pattern, 3 * RECORD_BYTES_MAX)  # type: ignore[assignment]
    for record in records(stream, source_map):
        assert isinstance(record, Record)
        assert len(record.raw) <= RECORD_BYTES_MAX + 1


_PIECES = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"\n", b"\r\n", b"\n\n", b" ", b'{"a":1}', b":"]
        ),
        st.sampled_from([b"Event-Name: A", b'"x\ny"', b"\xef\xbb\xbf", b"\x00"]),
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@example(data=b"[}{", source_map=_JSON)
@given(data=_PIECES, source_map=st.sampled_from([_JSON, _CSV, _ESL]))
def test_no_byte_is_lost(data: bytes, source_map: SourceMap) -> None:
    """Every visible byte stands in a record, but the brackets and commas of a list; lines never go back."""
    cut = _cut(data, source_map)
    seen = _visible(b"".join(raw for _, raw in cut))
    visible = _visible(data.removeprefix(b"\xef\xbb\xbf"))
    if source_map is _CSV or (source_map is _ESL and visible[:1] not in (b"{", b"[")):
        assert seen == visible
    else:
        left_out = Counter(visible)
        left_out.subtract(seen)
        assert all(count >= 0 for count in left_out.values())
        assert set(+left_out) <= set(b"[],")
    assert [line for line, _ in cut] == sorted(line for line, _ in cut)


def _visible(data: bytes) -> bytes:
    return b"".join(data.split())


@settings(max_examples=100, deadline=None)
@given(data=_PIECES)
def test_cdr_files_of_any_bytes(data: bytes) -> None:
    """Without a map a file gives records, or a ValueError that says what it lacks."""
    try:
        _cut(data, None)
    except ValueError as error:
        assert "no header row of CDRs" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize(
    ("data", "source_map"),
    [
        (b'{"a":"' + b"x" * 2**20 + b'"}', _JSON),
        (b'{"a":"' + b"\\x" * 2**19, _JSON),
        (b'{"a":' + b'"' * 2**20, _JSON),
        (b'"' + b"x" * 2**20 + b'",b', _CSV),
        (b'"' + b'""' * 2**19 + b'",b', _CSV),
    ],
    ids=["text", "backslashes", "quotes", "cell", "quotes of a cell"],
)
def test_memory_is_bounded_by_the_record(data: bytes, source_map: SourceMap) -> None:
    """A text of a MiB takes a few, not the hundred bytes of each character that going back would need."""
    tracemalloc.start()
    try:
        assert len(_cut(data, source_map)) == 1
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
