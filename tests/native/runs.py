"""Runs of sorted entries, as the native engine and files have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from rater.core.rerating.sorting import Sorted

_lengths = Struct("<II")


def written(entries: Iterable[Sorted]) -> bytes:
    """Return entries as a run."""
    return b"".join(_lengths.pack(len(key), len(raw)) + key + raw for key, raw in entries)


def entries_of(run: bytes) -> Iterator[Sorted]:
    """Yield the entries of a run."""
    at = 0
    while at < len(run):
        key, raw = _lengths.unpack_from(run, at)
        at += _lengths.size + key + raw
        yield run[at - raw - key : at - raw], run[at - raw : at]
