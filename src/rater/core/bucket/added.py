"""What the native engine has added up of a journal, as a call of the store has it."""

from __future__ import annotations

from typing import NamedTuple


class AddedSums(NamedTuple):
    """What the native engine has added up, as a call of the store has it (`store.packing`).

    Of sums and duplicates: how many values, and these as msgpack. Keys of the clients come first in the call,
    then two of each generation; its bytes are the duplicates' keys and contents in turns.
    """

    clients: list[str]
    sums: tuple[int, bytes]
    generations: list[int]
    duplicates: tuple[int, bytes]
    blobs: list[bytes]
