"""What a file is that cannot be read as a deck: where, and a sentence."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

UNPACKED_MAX = 256 << 20
"""Bytes of a deck's text, unpacked: 300,000 rows have some 20 MB."""

DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip
"""What reading of a damaged archive raises."""


class Unreadable(Exception):  # noqa: N818 - named for what it is
    """A file that is no deck. file, place: where; problem: what is wrong, and the remedy."""

    def __init__(self, file: str, place: str, problem: str) -> None:
        super().__init__(": ".join(part for part in (file, place, problem) if part))
        self.file, self.place, self.problem = file, place, problem
