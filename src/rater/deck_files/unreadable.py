"""What a file is that cannot be read as a deck: where, and a sentence."""

from __future__ import annotations

UNPACKED_MAX = 256 << 20
"""Bytes of a deck's text, unpacked: 300,000 rows have some 20 MB."""


class Unreadable(Exception):  # noqa: N818 - named for what it is
    """A file that is no deck. file, place: where; problem: what is wrong, and the remedy."""

    def __init__(self, file: str, place: str, problem: str) -> None:
        super().__init__(": ".join(part for part in (file, place, problem) if part))
        self.file, self.place, self.problem = file, place, problem
