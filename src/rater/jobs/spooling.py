"""Lists that are larger than the memory: kept in files of a temporary folder, sorted, gone through again."""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from rater.core.rerating.sorting import Sorted

SORTED_MAX = 50_000
"""Entries that are sorted in memory at once."""
SORTED_BYTES = 24 * 2**20
SPOOLED_BYTES = 4 * 2**20
"""A list stays in memory up to this size."""
PARTS_MAX = 64
"""So many sorted parts of a size become one: each is an open file, and a process may have a thousand."""
_BUFFER_BYTES = 2**16

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

    def __init__(self, entries: Iterable[Sorted]) -> None:
        self._file = _opened()
        self._file.writelines(_lengths.pack(len(key), len(raw)) + key + raw for key, raw in entries)

    def __iter__(self) -> Iterator[Sorted]:
        self._file.seek(0)
        read, size = self._file.read, _lengths.size
        while head := read(size):
            key, raw = _lengths.unpack(head)
            both = read(key + raw)
            yield both[:key], both[key:]

    def close(self) -> None:
        self._file.close()


def _opened() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=_BUFFER_BYTES)


class Sorter:
    """Entries in any order in, sorted out: parts of bounded size are sorted in memory and merged.

    Parts that are many are merged to a larger one, and those again, so that few files are open.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._now: list[Sorted] = []
        self._bytes = 0
        self._parts: list[list[_Part]] = []
        """By how often they were merged."""

    def add(self, *entries: Sorted) -> None:
        """Add some: no more than a few thousand at once."""
        self._now += entries
        self._bytes += sum([len(key) + len(raw) for key, raw in entries])
        if len(self._now) >= SORTED_MAX or self._bytes >= SORTED_BYTES:
            self._now.sort()
            self._put(_Part(self._now), 0)
            self._now, self._bytes = [], 0

    def _put(self, part: _Part, turn: int) -> None:
        """Keep a part. turn: how often it was merged."""
        if turn == len(self._parts):
            self._parts.append([])
        parts = self._parts[turn]
        parts.append(part)
        if len(parts) == PARTS_MAX:
            self._put(_Part(merged(*parts)), turn + 1)
            for old in parts:
                old.close()
            self._parts[turn] = []

    def __iter__(self) -> Iterator[Sorted]:
        """Yield all, sorted."""
        self._now.sort()
        return merged(*(part for parts in self._parts for part in parts), self._now)

    def close(self) -> None:
        """Let go of it."""
        for parts in self._parts:
            for part in parts:
                part.close()


def merged(*several: Iterable[Sorted]) -> Iterator[Sorted]:
    """Yield the entries of several that are sorted, sorted."""
    return heapq.merge(*several)
