"""Lists that are larger than the memory: kept in files of a temporary folder, sorted, gone through again."""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import IO

import msgspec

from rater.core.rerating.calls import Key

SORTED_MAX = 50_000
"""Entries that are sorted in memory at once."""
SORTED_BYTES = 24 * 2**20
SPOOLED_BYTES = 4 * 2**20
"""A list stays in memory up to this size."""

Sorted = tuple[Key, bytes]
"""What is sorted: a key, and what stands under it."""

_length = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode
_sorted = msgspec.msgpack.Decoder(tuple[Key, bytes])


class Spool:
    """Pieces of bytes in the order in which they were added; gone through as often as one likes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115 - `close` closes it
        self.count = 0

    def add(self, raw: bytes) -> None:
        """Add one; not while it is gone through."""
        self._file.write(_length.pack(len(raw)))
        self._file.write(raw)
        self.count += 1

    def __iter__(self) -> Iterator[bytes]:
        """Yield them. One at a time goes through a spool."""
        self._file.seek(0)
        while head := self._file.read(_length.size):
            yield self._file.read(*_length.unpack(head))
        self._file.seek(0, 2)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


class Sorter:
    """Entries in any order in, sorted out: parts of bounded size are sorted in memory and merged."""

    def __init__(self) -> None:
        """Begin empty."""
        self._now: list[Sorted] = []
        self._bytes = 0
        self._parts: list[Spool] = []

    def add(self, entry: Sorted) -> None:
        """Add one."""
        self._now.append(entry)
        self._bytes += len(entry[1])
        if len(self._now) >= SORTED_MAX or self._bytes >= SORTED_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._now.sort(key=_key)
        part = Spool()
        for entry in self._now:
            part.add(_encode(entry))
        self._parts.append(part)
        self._now, self._bytes = [], 0

    def __iter__(self) -> Iterator[Sorted]:
        """Yield all, sorted."""
        self._now.sort(key=_key)
        return heapq.merge(*map(_entries, self._parts), self._now, key=_key)

    def close(self) -> None:
        """Let go of it."""
        for part in self._parts:
            part.close()


def _entries(part: Spool) -> Iterator[Sorted]:
    return map(_sorted.decode, part)


def merged(*several: Iterable[Sorted]) -> Iterator[Sorted]:
    """Yield the entries of several that are sorted, sorted."""
    return heapq.merge(*several, key=_key)


_key = itemgetter(0)
