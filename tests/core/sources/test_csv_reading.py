"""Rows of CSV by the header row of their file: any order gives the same calls, and what is wrong is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.cdr import MAX_BYTES
from rater.core.reasons import Reason, Rejection
from rater.core.sources.csv_reading import _ORDERS_MAX
from rater.core.sources.cutting import Record, records
from rater.core.sources.source_map import Skipped, SourceMap, compile_map

_ROOT = Path(__file__).parents[3]
_DATA = _ROOT / "tests" / "data" / "sources"
Rows = list[list[str]]


def _shipped(name: str) -> SourceMap:
    text = (_ROOT / "config" / "sources" / f"{name}.toml").read_text("utf-8")
    found = compile_map(text, name, {"source": "s1"})
    assert isinstance(found, SourceMap)
    return found


_CUCM = _shipped("cisco-cucm")
_ASTERISK = _shipped("asterisk-csv")
_OWN_TEXT = """
format = "csv"
columns = ["id", "from", "to", "at", "seconds", "note?"]
[fields]
id = "id"
caller = "from"
called = "to"
answered_at = {path = "at", format = "epoch"}
duration = {path = "seconds", unit = "s"}
[orig]
login = "from"
account = "note"
"""


def _own(text: str = _OWN_TEXT) -> SourceMap:
    found = compile_map(text, "own")
    assert isinstance(found, SourceMap), found
    return found


_OWN = _own()


def _rows(name: str) -> Rows:
    return list(csv.reader(io.StringIO((_DATA / name).read_text("utf-8"), newline="")))


def _written(rows: Sequence[Sequence[str]], separator: str = ",") -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(rows)
    return out.getvalue().encode()


def _file(rows: Sequence[Sequence[str]], source_map: SourceMap = _CUCM) -> list[Record]:
    return list(records(io.BytesIO(_written(rows)), source_map))


def _ends(found: list[Record], source_map: SourceMap = _CUCM) -> list[object]:
    """Return what becomes of the rows of a file, each by itself as it goes to the topic."""
    return [source_map.apply(record.raw, record.columns) for record in found]


def _calls(found: list[object]) -> list[object]:
    return [one for one in found if isinstance(one, dict)]


def _rejection(found: object) -> Rejection:
    assert isinstance(found, tuple)
    (one,) = found
    assert isinstance(one, Rejection)
    return one


def _moved(rows: Rows, order: Callable[[int], int]) -> Rows:
    """Return the rows with their columns in another order, and one column more in front."""
    places = sorted(range(len(rows[0])), key=order)
    return [["new" if not at else "7", *(row[place] for place in places)] for at, row in enumerate(rows)]


_CUCM_ROWS = [row for row in _rows("cisco-cucm.csv") if row]
_HEADER, _TYPES, _CALL = _CUCM_ROWS[:3]
_OF_MAP = _ends(_file(_CUCM_ROWS))


def _with(row: list[str], **change: str) -> list[str]:
    return [change.get(name, cell) for name, cell in zip(_HEADER, row, strict=True)]


@pytest.mark.parametrize("order", [lambda at: -at, lambda at: at * 17 % 61, lambda at: at])
def test_another_order_gives_the_same_calls(order: Callable[[int], int]) -> None:
    """Whatever order a file's header row names, each row becomes what it does in the map's order."""
    found = _ends(_file(_moved(_CUCM_ROWS, order)))
    assert _calls(found) == _calls(_OF_MAP)
    assert len(_calls(found)) == 6
    assert [type(one) for one in found] == [type(one) for one in _OF_MAP]
    skipped = [one.reason for one in found if isinstance(one, Skipped)]
    assert skipped == [one.reason for one in _OF_MAP if isinstance(one, Skipped)]


def test_what_is_remembered_of_header_rows_changes_nothing() -> None:
    """A map that met more header rows than it remembers reads each row as one that meets its first."""
    rows = [
        record
        for step in range(2 * _ORDERS_MAX)
        for record in _file(_moved(_CUCM_ROWS[:3], lambda at, step=step: at * (2 * step + 1) % 61))[2:]  # type: ignore[misc]
    ]
    assert len({record.columns for record in rows}) > _ORDERS_MAX
    for record in [*rows, *reversed(rows)]:
        assert _CUCM.apply(record.raw, record.columns) == _shipped("cisco-cucm").apply(
            record.raw, record.columns
        )


def test_caller_and_called_change_places() -> None:
    """A file whose header row has the numbers in exchanged columns is read with each where it belongs."""
    rows = [list(row) for row in _CUCM_ROWS[:3]]
    caller, called = _HEADER.index("callingPartyNumber"), _HEADER.index("finalCalledPartyNumber")
    for row in rows:
        row[caller], row[called] = row[called], row[caller]
    found = _file(rows)
    (mapped,) = _calls(_ends(found))
    assert isinstance(mapped, dict)
    assert (mapped["caller"], mapped["called"]) == ("2001", "380441234567")
    assert found[2].columns == found[0].raw


def test_a_header_row_of_another_order_by_topic_is_rejected_by_name() -> None:
    """A record has no header row before it: one of another order is rejected; a types row is skipped."""
    moved = _moved(_CUCM_ROWS, lambda at: -at)
    header, types = (_written([row]).rstrip() for row in moved[:2])
    one = _rejection(_CUCM.apply(header))
    assert one.reason is Reason.MALFORMED
    assert "cdrRecordType is column 62 in this header row and column 1 for its record" in one.detail
    assert "rater ingest" in one.detail
    assert _CUCM.apply(_written([_HEADER]).rstrip()) == Skipped("header row")
    assert isinstance(_CUCM.apply(_written([_TYPES]).rstrip()), Skipped)
    assert isinstance(_CUCM.apply(types), Skipped | tuple)


@pytest.mark.parametrize("kind", ["INTEGER", "VARCHAR(50)", "VARCHAR(129)", "UNIQUEIDENTIFIER", "STRING"])
def test_types_rows(kind: str) -> None:
    """Each name of a type is one, wherever the row stands: first, in the middle, twice, or not at all."""
    types = [kind] * len(_HEADER)
    assert _CUCM.apply(_written([types]).rstrip()) == Skipped("the row of types")
    for rows in ([types, _HEADER, _CALL], [_HEADER, _CALL, types], [_HEADER, types, types, _CALL], [_CALL]):
        assert len(_calls(_ends(_file(rows)))) == 1


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        str.lower,
        lambda name: f" {name}\t",
    ],
)
def test_spellings_of_names(change: Callable[[str], str]) -> None:
    """Case, blanks around a name and a byte order mark in front of a file make no other columns."""
    for rows in (_CUCM_ROWS, _moved(_CUCM_ROWS, lambda at: -at)):
        raw = b"\xef\xbb\xbf" + _written([[change(name) for name in rows[0]], *rows[1:]])
        assert _calls(_ends(list(records(io.BytesIO(raw), _CUCM)))) == _calls(_OF_MAP)


def test_names_in_quotes_behind_a_byte_order_mark() -> None:
    """Quotes around the first name stay quotes behind a byte order mark, in the middle of a file too."""
    quoted = b'\xef\xbb\xbf"to","id","from","at","seconds"\n380441234567,%d,2001,1793700000,65\n'
    raw = quoted % 1 + quoted % 2
    found = _calls(_ends(list(records(io.BytesIO(raw), _OWN)), _OWN))
    assert [(one["id"], one["called"]) for one in found if isinstance(one, dict)] == [
        ("1", "380441234567"),
        ("2", "380441234567"),
    ]


def test_files_put_together() -> None:
    """In a file of several each header row holds for the rows below it; above the first, the map's order."""
    rows = [_CALL, *_moved(_CUCM_ROWS, lambda at: -at)[:3], *_CUCM_ROWS[:3]]
    found = _ends(_file(rows))
    assert _calls(found) == [_calls(_OF_MAP)[0]] * 3


def _refused(rows: Sequence[Sequence[str]], source_map: SourceMap = _CUCM) -> str:
    with pytest.raises(ValueError, match="line ") as caught:
        _file(rows, source_map)
    return str(caught.value)


def test_a_header_row_that_lacks_a_column() -> None:
    """The file is refused with line and names; a record that comes with it is rejected in the same words."""
    cut = [row[:47] + row[48:] for row in _CUCM_ROWS]
    assert cut[0] == [name for name in _HEADER if name != "dateTimeConnect"]
    told = _refused([*_CUCM_ROWS[:2], *cut])
    assert told.startswith("line 3: the header row names no dateTimeConnect, which the map reads; ")
    one = _rejection(_CUCM.apply(_written([cut[2]]).rstrip(), _written([cut[0]]).rstrip()))
    assert one.reason is Reason.MALFORMED
    assert "names no dateTimeConnect" in one.detail
    assert _CUCM.apply(_written([cut[1]]).rstrip(), _written([cut[0]]).rstrip()) == Skipped(
        "the row of types"
    )


def test_a_column_that_may_be_lacking() -> None:
    """Cisco's own documents have two names for the leg's identifier; the map reads it for want of a pkid."""
    rows = [["destLegCallIdentifier" if name == "destLegIdentifier" else name for name in _HEADER], _CALL]
    assert _calls(_ends(_file(rows))) == _calls(_OF_MAP)[:1]


def test_a_header_row_that_names_a_column_twice() -> None:
    """Which of them is meant, nobody knows; of one that the map does not read it does not matter."""
    rows = [["duration" if name == "origSpan" else name for name in _HEADER], _CALL]
    assert "names duration twice" in _refused(rows)
    raw, columns = _written([_CALL]).rstrip(), _written([rows[0]]).rstrip()
    assert "names duration twice" in _rejection(_CUCM.apply(raw, columns)).detail
    rows = [["origNodeId" if name == "origSpan" else name for name in _HEADER], _CALL]
    assert len(_calls(_ends(_file(rows)))) == 1


def test_columns_that_differ_in_case_alone() -> None:
    """Where a map has two such columns, the spelling tells them apart."""
    text = _OWN_TEXT.replace('"note?"', '"To"').replace('account = "note"', 'account = "To"')
    own = _own(text)
    rows = [["To", "to", "id", "from", "at", "seconds"], ["a", "380441234567", "1", "2", "1793700000", "5"]]
    (mapped,) = _calls(_ends(_file(rows, own), own))
    assert isinstance(mapped, dict)
    assert (mapped["called"], mapped["orig"]["account"]) == ("380441234567", "a")


@pytest.mark.parametrize(("separator", "shown"), [(";", "';'"), ("\t", r"'\t'"), ("|", "'|'")])
def test_another_separator(separator: str, shown: str) -> None:
    """A header row with another separator than the map's is refused with both; so is each row by topic."""
    raw = _written(_CUCM_ROWS, separator)
    with pytest.raises(ValueError, match="line 1: ") as caught:
        list(records(io.BytesIO(raw), _CUCM))
    assert f"has {shown} between columns, and the map ','" in str(caught.value)
    row = raw.splitlines()[2]
    assert "has no ',' between columns" in _rejection(_CUCM.apply(row)).detail


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_of_a_map(separator: str) -> None:
    """A map with another separator reads header rows of it in any order."""
    own = _own(f"separator = {json.dumps(separator)}\n{_OWN_TEXT}")
    rows = [
        ["seconds", "note", "to", "from", "id", "at"],
        ["65", "", "380441234567", "2001", "1", "1793700000"],
    ]
    (mapped,) = _calls(_ends(list(records(io.BytesIO(_written(rows, separator)), own)), own))
    assert isinstance(mapped, dict)
    assert (mapped["called"], mapped["duration_ms"], mapped["orig"]) == (
        "380441234567",
        65000,
        {"login": "2001"},
    )


# Rows that lack cells, or have too many


def test_a_row_that_was_cut_is_never_a_call() -> None:
    """Wherever a file is cut, its last row is rejected, or is whole: it becomes no shorter call."""
    whole = b",".join(cell.encode() for cell in _CALL)
    columns = _written([_HEADER]).rstrip()
    ends = [cut for cut in range(1, len(whole)) if isinstance(_CUCM.apply(whole[:cut], columns), dict)]
    last = len(whole) - len(_CALL[-1])
    assert ends == list(range(last, len(whole)))  # within the last cell, which the map does not read
    assert not any(isinstance(_CUCM.apply(whole[:cut], columns), Skipped) for cut in range(1, len(whole)))
    needed = len(b",".join(cell.encode() for cell in _CALL[:58]))
    ends = [cut for cut in range(1, len(whole)) if isinstance(_CUCM.apply(whole[:cut]), dict)]
    assert min(ends) == needed - len(_CALL[57])  # without a header row: within the last one that it reads


def test_a_cut_row_of_asterisk_is_no_unanswered_call() -> None:
    """One that ends before its disposition is not taken for a call that nobody answered."""
    row = (_DATA / "asterisk.csv").read_bytes().splitlines()[0]
    for cut in range(1, row.index(b"DOCUMENTATION")):
        found = _ASTERISK.apply(row[:cut])
        assert isinstance(found, tuple), row[:cut]


def test_a_row_with_fewer_cells_than_its_header_row() -> None:
    """Even where what the map reads is there: it has been cut off, or its cells are others."""
    one = _rejection(_ends(_file([_HEADER, _CALL[:-1]]))[1])
    assert "the row has 60 cells and needs 61" in one.detail


@pytest.mark.parametrize("at", [0, 1, 30, 61])
def test_a_column_whose_name_begins_with_a_digit(at: int) -> None:
    """Its header row is one for all that: else the rows below it would be read in the map's order."""
    order = [*range(61)]
    order[8], order[30] = order[30], order[8]  # caller and called
    header, call = ([row[place] for place in order] for row in (_HEADER, _CALL))
    header.insert(at, "3gpp_reference")
    call.insert(at, "7")
    assert _calls(_ends(_file([header, call]))) == _calls(_ends(_file([_HEADER, _CALL])))
    alone = _rejection([_CUCM.apply(_written([header]).rstrip())][0])
    assert "send the file with `rater ingest`" in alone.detail


def test_a_row_with_more_cells_than_its_header_row() -> None:
    """A separator without quotes has moved the cells behind it; blank ones at the end are none."""
    moved = [*_CALL[:9], "a, b", *_CALL[9:]]
    one = _rejection(_ends(_file([_HEADER, moved]))[1])
    assert "the row has 62 cells and the header row 61" in one.detail
    assert len(_calls(_ends(_file([_HEADER, [*_CALL, "", " "]])))) == 1
    assert len(_calls(_ends(_file([[*_HEADER, "", ""], [*_CALL, "", ""]])))) == 1


def test_columns_of_newer_releases_without_a_header_row() -> None:
    """Cells behind the last column that is known are not read."""
    assert _calls([_CUCM.apply(_written([[*_CALL, "a", "b"]]).rstrip())]) == _calls(_OF_MAP)[:1]


def test_quality_records() -> None:
    """A CMR is shorter than a CDR and says so in its first cell: skipped by topic. Its file is refused."""
    cmr = ["2", "1", "4001", "1", "2001", "101", "1793700065", "3250", "559000"]
    assert _CUCM.apply(_written([cmr]).rstrip()) == Skipped("no CDR of a call (cdrRecordType is not 1)")
    names = [
        "cdrRecordType", "globalCallID_callManagerId", "globalCallID_callId", "nodeId", "directoryNum",
        "callIdentifier", "dateTimeStamp", "numberPacketsSent", "numberOctetsSent",
    ]  # fmt: skip
    assert "names no " in _refused([names, ["INTEGER"] * 9, cmr])
    assert _CUCM.apply(_written([cmr]).rstrip(), _written([names]).rstrip()) == Skipped(
        "no CDR of a call (cdrRecordType is not 1)"
    )


def test_asterisk_with_a_header_row() -> None:
    """A table's export with a header row, in its own order and without the newer columns."""
    names = [
        "uniqueid", "dst", "src", "accountcode", "disposition", "billsec", "start", "answer", "end",
        "channel", "dstchannel", "lastapp",
    ]  # fmt: skip
    row = [
        "1793699992.1", "00380441234567", "101", "sip-101", "ANSWERED", "65", "2026-11-03 09:59:52",
        "2026-11-03 10:00:00", "2026-11-03 10:01:05", "PJSIP/101-0000000a", "PJSIP/gw-kiev-0000000b", "Dial",
    ]  # fmt: skip
    (mapped,) = _calls(_ends(_file([names, row], _ASTERISK), _ASTERISK))
    assert isinstance(mapped, dict)
    assert (mapped["caller"], mapped["called"], mapped["duration_ms"]) == ("101", "380441234567", 65000)
    assert "names no answer" in _refused([[name for name in names if name != "answer"], row[:-1]], _ASTERISK)


@pytest.mark.parametrize(("count", "became"), [(16, tuple), (17, dict), (18, dict), (21, dict)])
def test_columns_that_asterisk_may_leave_out(count: int, became: type) -> None:
    """Without newcdrcolumns and loguserfield the rows are shorter; without uniqueid a call has no name."""
    row = next(csv.reader([(_DATA / "asterisk.csv").read_text("utf-8").splitlines()[0]]))
    assert isinstance(_ASTERISK.apply(_written([row[:count]]).rstrip()), became)


def test_conditions_that_a_cut_row_cannot_answer() -> None:
    """A row is skipped by the cells that it has; one that lacks what the condition asks for is rejected."""
    text = _OWN_TEXT + '[[where]]\npath = "seconds"\nequals = "65"\nreason = "another"\n'
    own = _own(text)
    assert own.apply(b"1,2001,380441234567,1793700000,6") == Skipped("another")
    assert "was cut off" in _rejection(own.apply(b"1,2001,380441234567,1793700000")).detail
    assert "was cut off" in _rejection(own.apply(b"1,2001,3804412")).detail


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'1,2001,"380441234567,1793700000,65,\n', "a quote is never closed"),
        (b"1,2001,380441234567,1793700000,65\n2,2001,380441234567,1793700000,65", "it has several lines"),
        (b"1,2001,380441234567,1793700000,65\r2,2001,380441234567,1793700000,65", "it has several lines"),
        (b'1,"2001",380441234567,1793700000,65\n2,2001,380441234567,1793700000,65', "it has several lines"),
    ],
)
def test_more_or_less_than_a_row(raw: bytes, told: str) -> None:
    """A record that is more than one row, or the begin of one, is rejected: no call in it is lost unsaid."""
    assert told in _rejection(_OWN.apply(raw)).detail


def test_a_line_break_in_quotes() -> None:
    """It is of its cell, in a header row and in a row."""
    rows = [["a\nb", "to", "id", "from", "at", "seconds"], ["x\r\ny", "380", "1", "2", "1793700000", "65"]]
    (mapped,) = _calls(_ends(_file(rows, _OWN), _OWN))
    assert isinstance(mapped, dict)
    assert mapped["called"] == "380"


@pytest.mark.parametrize("columns", [b"", b"x", b'"id', b"id,from", b"\x00", b"id," * 22000, b"\xff,\xfe"])
def test_header_rows_that_are_none(columns: bytes) -> None:
    """A record whose header `columns` does not name what the map reads is rejected with that reason."""
    one = _rejection(_OWN.apply(b"1,2001,380441234567,1793700000,65", columns))
    assert one.reason is Reason.MALFORMED
    assert one.detail.startswith("the header row ")
    assert len(columns) <= MAX_BYTES or str(len(columns)) in one.detail


def test_columns_say_nothing_to_other_formats() -> None:
    """A record header of this name with a record of JSON is not looked at."""
    source_map = _shipped("asterisk")
    raw = (_DATA / "asterisk.jsonl").read_bytes().splitlines()[0]
    assert source_map.apply(raw, b"nonsense") == source_map.apply(raw)


def test_many_header_rows() -> None:
    """However many a topic has, each row is read by its own."""
    for number in range(100):
        columns = b"new%d,to,id,from,at,seconds" % number
        found = _OWN.apply(b"x,380441234567,%d,2001,1793700000,65" % number, columns)
        assert isinstance(found, dict)
        assert (found["id"], found["called"]) == (str(number), "380441234567")


@settings(max_examples=200, deadline=None)
@given(order=st.permutations(range(len(_HEADER))), cut=st.integers(0, 20))
def test_any_order(order: list[int], cut: int) -> None:
    """Every order of the columns gives the same calls, whatever columns that are not read are left out."""
    unread = [
        at for at in order if _HEADER[at] in {"origSpan", "destSpan", "origNodeId", "lastRedirectDn", "x"}
    ]
    kept = [at for at in order if at not in unread[:cut]]
    rows = [[row[at] for at in kept] for row in _CUCM_ROWS]
    assert _calls(_ends(_file(rows))) == _calls(_OF_MAP)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200), columns=st.binary(max_size=200))
def test_any_bytes(raw: bytes, columns: bytes) -> None:
    """Nothing leaves apply(), whatever the bytes of the record and of its header."""
    for source_map in (_CUCM, _ASTERISK, _OWN):
        assert isinstance(source_map.apply(raw, columns), dict | tuple | Skipped)
        source_map.header_fault(raw)
