"""Ingesting: a file of CDRs, or of a switch's own records, is cut into records (`rater ingest`).

Streams: memory is bounded by one record, whatever the size of the file. Every byte that is not blank ends up
in a record, so that what cannot be read is rejected with its line and not lost.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import msgspec

from rater.core.cdr import MAPPED_BYTES_MAX
from rater.core.sources.csv_reading import cells_of
from rater.core.sources.datagrams import EVENT_NAME
from rater.core.sources.map_language import PARTY
from rater.core.sources.source_map import SourceMap

RECORD_BYTES_MAX = MAPPED_BYTES_MAX + 1
"""What is longer is cut there: more than any source takes, so it is rejected as too_large all the same."""

_CSV_LINES_MAX = 16  # of one record with line breaks in quotes; more are a quote that somebody forgot
_BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """One record of a file.

    line: where it begins, from 1; raw: its bytes, as they are in the file; columns: of CSV with a map, the
    header row that it stands below, None: below none; ended: False of a row of CSV, or an event as text,
    whose last line has no line break: it may be cut off, or be written just now.
    """

    line: int
    raw: bytes
    columns: bytes | None = None
    ended: bool = True


class _Line(NamedTuple):
    number: int
    text: bytes  # with its line break
    cut: bool

    @property
    def ended(self) -> bool:
        """Whether it has its line break, or had it where it was too long."""
        return self.cut or self.text.endswith(b"\n")


def records(stream: BinaryIO, source_map: SourceMap | None = None) -> Iterator[Record]:
    """Yield the records of a file.

    source_map: whose records they are. None: CDRs, as JSON or as CSV with a header row of the CDR's field
    names (`orig.client` and so on for the sides); those of CSV come as JSON.

    Raises ValueError with a sentence where the file as a whole is wrong: a CSV header row by which the rows
    below it cannot be read, a JSON list on one line that is too long to be read, OpenSIPS' text where the map
    reads JSON.
    """
    lines = _lines(stream)
    if source_map is None:
        first = next((line for line in lines if line.text.strip()), None)
        if first is None:
            return
        together = chain([first], lines)
        is_json = first.text.lstrip()[:1] in (b"{", b"[")
        yield from _json(together) if is_json else _cdrs_of_csv(together)
    elif source_map.format == "csv":
        yield from _rows(lines, source_map)
    elif source_map.format == "esl":
        yield from _events(lines, _ESL_FIRST, leads=False)
    elif source_map.format == "datagram":
        yield from _events(lines, EVENT_NAME, leads=True)
    else:
        yield from _json(lines)


def _lines(stream: BinaryIO) -> Iterator[_Line]:
    number = 0
    while text := stream.readline(RECORD_BYTES_MAX + 1):
        number += 1
        cut = len(text) > RECORD_BYTES_MAX and not text.endswith(b"\n")
        if cut:
            while (rest := stream.readline(RECORD_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
        yield _Line(number, text.removeprefix(_BOM) if number == 1 else text, cut)


# JSON

# Nothing is given back (`++`): the engine would keep a hundred bytes for each one of a long text.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\]]', re.DOTALL)
_CLOSING = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_OPENS = re.compile(
    rb'\{\s*(?:["}]|\Z)|\[\s*(?:[{\[\]]|\Z)'
)  # else a bracket between records is text: [acc.c:39]
_GLUED = re.compile(rb"\}\s*\{")  # between documents that follow each other without a line break


def _json(lines: Iterable[_Line]) -> Iterator[Record]:
    """Yield JSON lines, documents over several lines, or the members of a list: told by the first line."""
    lines = iter(lines)
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return
    if EVENT_NAME.fullmatch(first.text):
        name = first.text.decode().strip()
        msg = (
            f"line {first.number} is the name of an OpenSIPS event, {name}, and the map reads JSON; "
            'give the source the map opensips, or your own map format = "datagram"'
        )
        raise ValueError(msg)
    if first.cut and first.text.lstrip()[:1] == b"[":
        msg = f"line {first.number} is a list of over {RECORD_BYTES_MAX} bytes; write an object on each line"
        raise ValueError(msg)
    together = chain([first], lines)
    if _is_whole(first.text):
        for line in together:
            if _GLUED.search(line.text) and not line.cut:
                yield from _documents([line])
            elif line.text.strip():
                yield Record(line.number, line.text.rstrip(b"\r\n"))
    else:
        yield from _documents(together)


def _is_whole(text: bytes) -> bool:
    text = text.strip()
    return text.startswith(b"{") and sum(_CLOSING.get(token[0], 0) for token in _TOKEN.finditer(text)) == 0


def _documents(lines: Iterable[_Line]) -> Iterator[Record]:
    cutter = _Cutter()
    for line in lines:
        yield from cutter.feed(line)
    yield from cutter.rest()


class _Cutter:
    """Cuts JSON text into objects by counting brackets outside of strings."""

    def __init__(self) -> None:
        self._depth = 0
        self._base = 0  # 1 inside of a list of records
        self._begin = 0  # the line where the present record begins
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, line: _Line) -> Iterator[Record]:
        if self._parts and line.text.startswith(b'{"'):
            # A document's own lines are indented: the record before was never closed; it is not to take this.
            yield from self.rest()
        done = 0
        for token in _TOKEN.finditer(line.text):
            step = _CLOSING.get(token[0], 0)
            if step > 0:
                if self._depth == self._base and not self._parts:
                    if not _OPENS.match(line.text, token.start()):
                        continue
                    if token[0] == b"[" and line.text[done : token.start()].strip():
                        continue  # a list stands by itself
                    yield from self._between(line, line.text[done : token.start()])
                    done = token.start()
                    if token[0] == b"[" and self._base == 0:
                        self._base = self._depth = 1
                        done = token.end()
                        continue
                    self._begin = line.number
                    self._parts = [b""]
                self._depth += 1
            elif step < 0:
                done = yield from self._close(line, done, token)
        tail = line.text[done:]
        if self._parts:
            self._keep(tail)
        else:
            yield from self._between(line, tail)

    def rest(self) -> Iterator[Record]:
        """Yield what was begun and not ended."""
        if self._parts:
            yield self._taken()
        self._depth = self._base

    def _close(self, line: _Line, done: int, token: re.Match[bytes]) -> Generator[Record, None, int]:
        if not self._parts:
            if self._base == 0 or token[0] == b"}":
                return done  # a bracket too many is part of the text between records
            yield from self._between(line, line.text[done : token.start()])
            self._base = self._depth = 0
            return token.end()
        self._depth -= 1
        if self._depth > self._base:
            return done
        self._keep(line.text[done : token.end()])
        yield self._taken()
        return token.end()

    def _between(self, line: _Line, text: bytes) -> Iterator[Record]:
        garbage = text.strip(b" \t\r\n," if self._base else None)
        if garbage:
            yield Record(line.number, garbage)

    def _keep(self, text: bytes) -> None:
        room = RECORD_BYTES_MAX - self._size
        self._parts.append(text[:room])
        self._size += min(len(text), room)

    def _taken(self) -> Record:
        record = Record(self._begin, b"".join(self._parts).rstrip(b"\r\n"))
        self._parts = []
        self._size = 0
        return record


# CSV


def _rows(lines: Iterable[_Line], source_map: SourceMap) -> Iterator[Record]:
    """Yield rows with the header row above them: of files that were put together each has its own."""
    columns: bytes | None = None
    for row in _csv(lines, source_map.separator.encode()):
        if source_map.is_header(row.raw):
            if fault := source_map.header_fault(row.raw):
                msg = f"line {row.line}: {fault}"
                raise ValueError(msg)
            columns = row.raw
        yield row if columns is None else row._replace(columns=columns)


def _csv(lines: Iterable[_Line], separator: bytes) -> Iterator[Record]:
    """Yield lines; one that ends inside of quotes goes on in the next."""
    lines = iter(lines)
    waiting: list[_Line] = []
    while line := waiting.pop(0) if waiting else next(lines, None):
        if not line.text.strip():
            continue
        parts = [line]
        is_open = line.text.count(b'"') % 2 == 1 and _ends_open(line.text, separator)
        while is_open and len(parts) < _CSV_LINES_MAX:
            more = waiting.pop(0) if waiting else next(lines, None)
            if more is None:
                break
            parts.append(more)
            if not _may_go_on(more.text, separator):
                break
            is_open = _ends_open(more.text, separator, inside=True)
        if is_open:  # never closed: this line is wrong by itself, those after it are records
            waiting = [*parts[1:], *waiting]
            parts = parts[:1]
        raw = b"".join(part.text for part in parts)[:RECORD_BYTES_MAX]
        yield Record(line.number, raw.rstrip(b"\r\n"), ended=parts[-1].ended)


_QUOTED = re.compile(rb'(?:[^"]++|"")*+')


def _may_go_on(text: bytes, separator: bytes) -> bool:
    """Return whether a line may go on with the open cell of the line before: after its quote a cell ends."""
    found = _QUOTED.match(text)
    after = text[found.end() + 1 :].strip(b"\r\n") if found else b""
    return not after or after.startswith(separator)


def _ends_open(text: bytes, separator: bytes, *, inside: bool = False) -> bool:
    """Return whether a line ends inside of a quoted cell. inside: it begins there.

    A quote counts only where a cell begins.
    """
    position = 0
    while True:
        if inside or text[position : position + 1] == b'"':
            found = _QUOTED.match(text, position if inside else position + 1)
            position = found.end() if found else len(text)
            if position >= len(text):
                return True
            inside = False
        position = text.find(separator, position) + 1
        if not position:
            return False


# Events of FreeSWITCH and OpenSIPS

_ESL_FIRST = re.compile(rb"Event-Name:.*", re.DOTALL)


def _events(lines: Iterable[_Line], name: re.Pattern[bytes], *, leads: bool) -> Iterator[Record]:
    """Yield events: blocks of lines, an empty line or the name of a new event between; or JSON.

    name: of the line that names an event. leads: it is always the first of its event, so whatever stands
    before it is none of it, and a line of JSON is an event by itself; else only a second one begins another
    event.
    """
    lines = iter(lines)
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return
    together = chain([first], lines)
    if first.text.lstrip()[:1] in (b"{", b"[") and not (leads and _is_whole(first.text)):
        yield from _json(together)
        return
    block = _Block()
    for line in together:
        if leads and line.text.lstrip()[:1] == b"{":  # OpenSIPS was updated: both forms are in one file
            yield from block.taken()
            yield from _json([line])
            continue
        begins = name.fullmatch(line.text) is not None
        if not line.text.strip() or (begins and block.named):
            yield from block.taken()
        if line.text.strip():
            block.add(line, named=begins or leads)
    yield from block.taken()


class _Block:
    """The lines of one event, as far as there is room."""

    def __init__(self) -> None:
        self._empty()

    def _empty(self) -> None:
        self.named = False
        self._ended = True
        self._begin = 0
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, line: _Line, *, named: bool) -> None:
        self._begin = self._begin or line.number
        self.named = self.named or named
        self._ended = line.ended
        part = line.text[: RECORD_BYTES_MAX - self._size]
        if part:
            self._parts.append(part)
        self._size += len(part)

    def taken(self) -> Iterator[Record]:
        """Yield the event, if there is one, and begin the next."""
        if self._parts:
            yield Record(self._begin, b"".join(self._parts).rstrip(b"\r\n"), ended=self._ended)
        self._empty()


# CDRs of CSV

_CDR_COLUMNS = frozenset({
    "id", "source", "service", "setup_at", "answered_at", "ended_at", "duration_ms", "volume",
    "caller", "called",
    *(f"{side}.{name}" for side in ("orig", "term") for name in PARTY),
})  # fmt: skip


def _cdrs_of_csv(lines: Iterable[_Line]) -> Iterator[Record]:
    """Yield CDRs as JSON from a CSV file with a header row; of files that were put together each has its own.

    A row with fewer cells than its header row, or an open quote, was cut off; one with more has cells that
    moved. As it is, it is no JSON, and is rejected.
    """
    names: list[str] = []
    for row in _csv(lines, b","):
        try:
            cells = cells_of(row.raw.decode("utf-8", "backslashreplace").strip("\ufeff"), ",")
        except ValueError:
            cells = []
        found = [cell.strip() for cell in cells]
        if not names or {"id", "called"} <= set(found):
            names = _names(row, found)
            continue
        whole = len(cells) >= len(names) and not any(found[len(names) :])
        yield row._replace(raw=_cdr(names, found) if whole else row.raw)


def _names(header: Record, names: list[str]) -> list[str]:
    if not {"id", "called"} <= set(names):
        shown = ", ".join(names) or header.raw.decode("utf-8", "backslashreplace")
        msg = (
            f"line {header.line} is no header row of CDRs: {shown[:200]}; name the columns "
            f"id, called, duration_ms, answered_at, orig.client and so on, or give the source a map"
        )
        raise ValueError(msg)
    twice = next((name for name in names if name in _CDR_COLUMNS and names.count(name) > 1), None)
    if twice is not None:
        msg = f"line {header.line}: the header row names {twice} twice; take one away"
        raise ValueError(msg)
    while not names[-1]:
        names.pop()
    return names


def _cdr(names: list[str], cells: list[str]) -> bytes:
    cdr: dict[str, Any] = {}
    for name, text in zip(names, cells, strict=False):
        if not text or name not in _CDR_COLUMNS:
            continue
        is_whole = name in ("duration_ms", "volume") and re.fullmatch(r"-?[0-9]{1,18}", text)
        side, dot, field = name.partition(".")
        (cdr.setdefault(side, {}) if dot else cdr)[field if dot else name] = int(text) if is_whole else text
    return msgspec.json.encode(cdr)
