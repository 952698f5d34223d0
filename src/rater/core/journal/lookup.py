"""Calls that are looked up in the journal: which of their sides have a transaction, whoever its client is.

Effects name the digest of what a duplicate is found by (`rating/duplicates.py`); where one is met, the
transaction's id decides. So a digest that is another's by chance costs a look, and no call.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from rater.core.cdr import SIDES, Cdr
from rater.core.journal.records import CHANGE_INDEX_MIN, Effect
from rater.core.json_text import UNREADABLE
from rater.core.rating.duplicates import keys_of
from rater.core.reasons import Side


class _Named(msgspec.Struct):
    id: str


_named = msgspec.json.Decoder(_Named)


class Lookup:
    """Sides that are asked for, and those of them that were found."""

    def __init__(self) -> None:
        """Ask for nothing yet."""
        self._asked: dict[bytes, str] = {}
        """Key without the client → transaction's id. Of two ids with one key the one that came last."""
        self._found: set[str] = set()

    def ask(self, cdr: Cdr) -> None:
        """Ask for the sides of a call."""
        for name, _ in cdr.sides():
            self._asked[keys_of(cdr, SIDES.index(name), 0)[1]] = _id(cdr, name)

    def __len__(self) -> int:
        """Return how many sides are asked for."""
        return len(self._asked)

    def see(self, value: bytes, effect: Effect) -> None:
        """Take in a transaction of the journal."""
        if effect.index >= CHANGE_INDEX_MIN or not effect.key:
            return
        own = int.from_bytes(effect.key, "big") ^ crc32(effect.client.encode())
        for key in (own.to_bytes(len(effect.key), "big"), effect.key):  # and as earlier versions made it
            if key in self._asked:
                try:
                    self._found.add(_named.decode(value).id)
                except (
                    UNREADABLE
                ):  # the header says whose it is; what is wrong with the value, the audit says
                    self._found.add(self._asked[key])

    def known(self, cdr: Cdr) -> list[Side]:
        """Return the sides of a call that have a transaction."""
        return [name for name, _ in cdr.sides() if _id(cdr, name) in self._found]


def _id(cdr: Cdr, side: str) -> str:
    return f"{cdr.source}/{cdr.id}/{side}"
