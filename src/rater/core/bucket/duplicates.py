"""The duplicates of a bucket: under which content a key was rated, generation by generation."""

from __future__ import annotations

from collections.abc import Mapping

from rater.core.bucket.messages import EXPIRE_GENERATIONS_MAX

_NONE: Mapping[bytes, bytes] = {}


class Duplicates:
    """Keys as they were remembered: generation → key → content."""

    def __init__(self) -> None:
        """Start without any."""
        self.generations: dict[int, dict[bytes, bytes]] = {}
        self.lowest: int | None = None
        """No generation below has keys; None: there never were any."""

    def known(
        self, generation: int, key: bytes, older: bytes = b"", fresh: Mapping[bytes, bytes] = _NONE
    ) -> bytes | None:
        """Return the content under which a key was rated, asking this generation and its neighbours.

        older: the key as earlier versions made it; asked where the key itself is not known. fresh: keys that
        a call is about to add to this generation.
        """
        for near in (generation, generation - 1, generation + 1):
            entries = self.generations.get(near, _NONE)
            added = fresh if near == generation else _NONE
            found = entries.get(key) or added.get(key) or entries.get(older) or added.get(older)
            if found is not None:
                return found
        return None

    def remember(self, generation: int, key: bytes, content: bytes) -> None:
        """Keep a key in a generation."""
        self.generations.setdefault(generation, {})[key] = content
        if self.lowest is None or generation < self.lowest:
            self.lowest = generation

    def forget(self, generation: int, key: bytes) -> None:
        """Drop a key of a generation."""
        self.generations.get(generation, {}).pop(key, None)

    def expire(self, bound: int) -> int:
        """Drop generations below one, EXPIRE_GENERATIONS_MAX at most; returns how many."""
        if self.lowest is None:
            return 0
        stop = max(self.lowest, min(bound, self.lowest + EXPIRE_GENERATIONS_MAX))
        dropped = stop - self.lowest
        for generation in range(self.lowest, stop):
            self.generations.pop(generation, None)
        self.lowest = stop
        return dropped
