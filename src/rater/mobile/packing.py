"""Packed files: what gzip has packed is read as if it were not."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile, GzipFile
from io import BufferedReader

PACKING_FAULTS = (EOFError, BadGzipFile, zlib.error)
"""What reading of a damaged packed file raises."""

_MAGIC = b"\x1f\x8b"


def unpacked(stream: BufferedReader) -> BufferedReader | GzipFile:
    """Return the stream itself, or what is packed in it; told by its first octets, not by the file's name."""
    return GzipFile(fileobj=stream) if stream.peek(len(_MAGIC))[:2] == _MAGIC else stream
