"""The records of a file, one after the other, whatever lies between them: what is broken is passed over.

A length that was damaged leads into the middle of another record. So each element is read with its type
before it is taken; where that fails, the next place is looked for at which a whole record of the format
begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rater.mobile.ber import ELEMENT_BYTES_MAX, Broken, Octets, Window, element, header, tag_name
from rater.mobile.types import UNKNOWN, Take

LOST_OCTETS_MAX = 4096
"""Of what cannot be read so many octets are kept, to be looked at."""

_SEARCH_OCTETS_MAX = 1 << 28
"""What the search for records may read in one file, octets that are read again counted again. A search in
damage of megabytes reads a few times its size; what reads more was made to waste time."""
_TRY_OCTETS = 16  # what a try costs at least
_SOUGHT_MAX, _SOUGHT_INDEFINITE_MAX = 1 << 17, 1 << 13
"""The longest record that is found by a search; of indefinite length, whose end has to be looked for."""


class Found(NamedTuple):
    """A record: name and value of its type, where it begins in the file, its octets."""

    offset: int
    name: str
    value: dict[str, Any]
    octets: bytes


class Lost(NamedTuple):
    """Octets that are no record: the first ones of `size`, where they begin, why."""

    offset: int
    why: str
    octets: bytes
    size: int


class Walk:
    """Takes records from a window.

    table: tag of a record → its reader, which gives {name: value}; heads: the octets that may begin one;
    is_one: whether a decoded (name, value) is a record indeed, asked where one is looked for.
    """

    def __init__(
        self,
        window: Window,
        table: dict[int, Take],
        heads: Iterable[bytes],
        is_one: Callable[[str, dict[str, Any]], bool],
    ) -> None:
        self._window = window
        self._table = table
        self._heads = re.compile(b"|".join(re.escape(head) for head in sorted(heads, reverse=True)))
        self._is_one = is_one
        self._left = _SEARCH_OCTETS_MAX

    def record(self, before: int = 0) -> Found | Lost:
        """Take the record that comes next, or pass over what is none.

        before: octets of a header in front of it, which are taken too, and are no part of what is found.
        """
        window = self._window
        offset = window.offset
        size = 0
        try:
            size = window.size_of_next(before)
            held = window.ahead(before + size)
            name, value = self._read(held, before, before + size)
            if UNKNOWN in value:
                self.check(held, before, before + size)
        except Broken as broken:
            return self.lost(
                f"{broken.why} (octet {offset + broken.at})", before + size if size else 0, before
            )
        window.take(before)
        return Found(offset + before, name, value, window.take(size))

    def lost(self, why: str, most: int = 0, before: int = 0) -> Lost:
        """Pass over octets up to where a record begins. most: no further than so many, 0: to the end.

        before: octets of a header that stand in front of a record, and are left there.
        """
        window = self._window
        offset = window.offset
        kept, count = b"", 0
        while True:
            held = window.ahead((most or ELEMENT_BYTES_MAX) + ELEMENT_BYTES_MAX)
            until = min(most or ELEMENT_BYTES_MAX, len(held))
            at = self._next(held, 1 + before, until, len(held))
            step = until if at is None else at - before
            kept += window.take(step)[: LOST_OCTETS_MAX - len(kept)]
            count += step
            if at is not None or most or not window.ahead(1):
                return Lost(offset, why, kept, count)

    def passed(self, why: str, count: int) -> Lost:
        """Pass over so many octets, whatever they are."""
        offset = self._window.offset
        taken = self._window.take(count)
        return Lost(offset, why, taken[:LOST_OCTETS_MAX], len(taken))

    def _next(self, held: Octets, at: int, until: int, end: int) -> int | None:
        """Return where the next record begins, in [at, until), that is there as a whole before `end`."""
        while self._left > 0 and (found := self._heads.search(held, at, until)):
            at = found.start()
            try:
                is_endless = header(held, at, end).length is None
                most = _SOUGHT_INDEFINITE_MAX if is_endless else _SOUGHT_MAX
                size = element(held, at, min(end, at + most)).next - at
                name, value = self._read(held, at, at + size)
            except Broken as broken:
                self._left -= max(broken.at - at, 0) + _TRY_OCTETS  # so far it was read
            else:
                self._left -= size + _TRY_OCTETS
                if UNKNOWN not in value and self._is_one(name, value):
                    return at
            at += 1
        return None

    def check(self, octets: Octets, begin: int, end: int) -> None:
        """Raise Broken where a record is inside of an element, whose length was too large and took it in."""
        if self._next(octets, begin + 1, end, end) is not None:
            raise Broken(begin, "another record is inside of it")

    def _read(self, octets: Octets, begin: int, end: int) -> tuple[str, dict[str, Any]]:
        one = element(octets, begin, end)
        take = self._table.get(one.tag)
        if take is None:
            raise Broken(begin, f"{tag_name(one.tag)} is no record of the format as pycrate has it")
        if not one.is_constructed:
            raise Broken(begin, f"{tag_name(one.tag)} has no fields")
        ((name, value),) = take(octets, one).items()
        return name, value
