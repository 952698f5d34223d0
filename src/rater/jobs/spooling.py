"""Lists that are larger than the memory: kept in files of a temporary folder, sorted, gone through again."""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING

from rater.core.rerating.calls import TOGETHER
from rater.core.rerating.sorting import Sorted
from rater.errors import Halt

if TYPE_CHECKING:
    from rater.native.engine import Merged, SomeCalls, Sorting
    from rater.native.holding import Native

SORTED_MAX = 50_000
"""Entries that are sorted in memory at once."""
SORTED_BYTES = 24 * 2**20
SPOOLED_BYTES = 4 * 2**20
"""A list stays in memory up to this size."""
PARTS_MAX = 64
"""So many sorted parts of a size become one: each is an open file, and a process may have a thousand."""
CHUNK_BYTES = 2**18
"""Written at once, where entries come natively."""
_BUFFER_BYTES = 2**16
_BROKEN = (
    "the native engine panicked over sorted calls: run it again with RATER_WORKER__ENGINE=python, and "
    "report this"
)

_length = struct.Struct("<I")
_lengths = struct.Struct("<II")


class Spool:
    """Pieces of bytes in the order in which they were added; gone through as often as one likes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        """All of them, once they are many."""
        self.count = self.size = 0

    def add(self, raw: bytes) -> None:
        """Add one; not while it is gone through."""
        self.count += 1
        self.size += len(raw)
        if self._file is not None:
            self._file.write(_length.pack(len(raw)) + raw)
            return
        self._pieces.append(raw)
        if self.size > SPOOLED_BYTES:
            self._file = _opened()
            self._file.writelines(_length.pack(len(one)) + one for one in self._pieces)
            self._pieces = []

    def __iter__(self) -> Iterator[bytes]:
        """Yield them. One at a time goes through a spool."""
        if self._file is None:
            yield from self._pieces
            return
        self._file.seek(0)
        read, size = self._file.read, _length.size
        while head := read(size):
            yield read(*_length.unpack(head))
        self._file.seek(0, 2)

    def close(self) -> None:
        """Let go of it."""
        self._pieces = []
        if self._file is not None:
            self._file.close()


class _Part:
    """Sorted entries in a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """chunks: entries as `_entry` writes them, as many in each as one likes."""
        self._file = _opened()
        self._file.writelines(chunks)

    def file(self) -> IO[bytes]:
        """Return the file, to be read from its beginning."""
        self._file.seek(0)
        return self._file

    def __iter__(self) -> Iterator[Sorted]:
        read, size = self.file().read, _lengths.size
        while head := read(size):
            key, raw = _lengths.unpack(head)
            both = read(key + raw)
            yield both[:key], both[key:]

    def close(self) -> None:
        self._file.close()


def _entry(of: Sorted) -> bytes:
    key, raw = of
    return _lengths.pack(len(key), len(raw)) + key + raw


def _chunks(of: Sorting | Merged) -> Iterator[bytes]:
    return iter(partial(of.run, CHUNK_BYTES), b"")


def _opened() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=_BUFFER_BYTES)


class _Parts:
    """Sorted parts; those that are many are merged to a larger one, and those again: few files are open."""

    def __init__(self, merge: Callable[[list[_Part]], Iterable[bytes]]) -> None:
        """merge: gives the entries of several parts as the chunks of one."""
        self._merge = merge
        self.by_turns: list[list[_Part]] = []
        """By how often they were merged."""

    def put(self, chunks: Iterable[bytes], turn: int = 0) -> None:
        """Keep a part. turn: how often it was merged."""
        if turn == len(self.by_turns):
            self.by_turns.append([])
        parts = self.by_turns[turn]
        parts.append(_Part(chunks))
        if len(parts) == PARTS_MAX:
            self.put(self._merge(parts), turn + 1)
            for old in parts:
                old.close()
            self.by_turns[turn] = []

    def __iter__(self) -> Iterator[_Part]:
        return (part for parts in self.by_turns for part in parts)

    def close(self) -> None:
        for part in self:
            part.close()


class Sorter:
    """Entries in any order in, sorted out: parts of bounded size are sorted in memory and merged."""

    def __init__(self) -> None:
        """Begin empty."""
        self._now: list[Sorted] = []
        self._bytes = 0
        self._parts = _Parts(lambda parts: map(_entry, merged(*parts)))

    def add(self, *entries: Sorted) -> None:
        """Add some: no more than a few thousand at once."""
        self._now += entries
        self._bytes += sum([len(key) + len(raw) for key, raw in entries])
        if len(self._now) >= SORTED_MAX or self._bytes >= SORTED_BYTES:
            self._now.sort()
            self._parts.put(map(_entry, self._now))
            self._now, self._bytes = [], 0

    def __iter__(self) -> Iterator[Sorted]:
        """Yield all, sorted."""
        self._now.sort()
        return merged(*self._parts, self._now)

    def close(self) -> None:
        """Let go of it."""
        self._parts.close()


class NativeSorter:
    """The same by the native engine, which makes no objects of entries. Raises Halt where it panics."""

    def __init__(self, native: Native) -> None:
        """Begin empty."""
        self._native = native
        self.now = native.sorting()
        """What is sorted in memory next; `engine.Gathering` adds to it."""
        self._parts = _Parts(self._merged)

    def add(self, *entries: Sorted) -> None:
        """Add some."""
        with self._watching():
            for key, raw in entries:
                self.now.add(key, raw)
        self.look()

    def look(self) -> None:
        """Have what was added go to a file, where it is much."""
        if self.now.size() >= SORTED_BYTES:
            with self._watching():
                self._parts.put(_chunks(self.now))

    def calls(self, code: str) -> Iterator[SomeCalls]:
        """Yield the clients' calls, once. code: as `sorting.latest` takes it."""
        with self._watching():
            found = self._native.merged(
                [part.file() for part in self._parts], b"".join(_chunks(self.now)), code
            )
            while (some := found.calls(TOGETHER)) is not None:
                yield some

    def close(self) -> None:
        """Let go of it."""
        self._parts.close()

    def _merged(self, parts: list[_Part]) -> Iterator[bytes]:
        return _chunks(self._native.merged([part.file() for part in parts], b"", ""))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except self._native.panic as panic:
            raise Halt(f"{_BROKEN}: {panic}") from panic


def merged(*several: Iterable[Sorted]) -> Iterator[Sorted]:
    """Yield the entries of several that are sorted, sorted."""
    return heapq.merge(*several)
