"""What a file is by its first bytes: packed, a workbook, UTF-16; its text, and what separates its cells."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from gzip import BadGzipFile, GzipFile
from io import BufferedReader

HEAD_BYTES = 4096
"""So many bytes tell what a file is."""
SEPARATORS = {",": "commas", ";": "`;`", "\t": "tabs", "|": "`|`"}
"""Of cells, and how sentences call them."""

PACKING_FAULTS = (EOFError, BadGzipFile, zlib.error)
"""What reading of a damaged packed file raises."""

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04", b"PK\x05\x06"
"""The second: one without members."""
_UTF16 = "UTF-16 text"
_PACKED = (
    (_GZIP, "packed with gzip"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\x00", "packed with xz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a workbook of the old form (XLS), or one with a password"),
    (b"%PDF", "a PDF"),
)
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_NAMES = {"utf-8-sig": "UTF-8", "utf-32": "UTF-32", "utf-16": "UTF-16"}


def packing(head: bytes) -> str | None:
    """Return what a file is that is no text, as sentences say it: "packed with gzip"; None: it may be."""
    if head.startswith(_ZIP):
        if b"mimetypeapplication/vnd.oasis" in head[:100]:
            return "a workbook (ODS)"
        is_workbook = any(name in head for name in (b"[Content_Types].xml", b"xl/", b"_rels/.rels"))
        return "a workbook (XLSX)" if is_workbook else "a ZIP archive"
    return next((told for magic, told in _PACKED if head.startswith(magic)), None)


def unpacked(stream: BufferedReader) -> BufferedReader | GzipFile:
    """Return the stream itself, or what gzip has packed in it; told by its first bytes, not by a name."""
    return GzipFile(fileobj=stream) if stream.peek(len(_GZIP)).startswith(_GZIP) else stream


def foreign(head: bytes) -> str | None:
    """Return what a file is where it is no text in an 8-bit encoding, by its first bytes; None: it may be."""
    return packing(head) or (_UTF16 if _wide(head) is not None else None)


def _wide(head: bytes) -> str | None:
    """Return the encoding of text whose characters have 2 or 4 bytes, with or without byte order mark."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return None if encoding == "utf-8-sig" else encoding
    # Latin letters and digits have a zero byte in one place of two; no other text has zero bytes.
    pairs = head[: HEAD_BYTES // 2 * 2]
    even, odd = pairs[::2], pairs[1::2]
    if len(odd) > 1 and even.count(0) + odd.count(0) > len(odd) // 2:
        if not even.count(0):
            return "utf-16-le"
        if not odd.count(0):
            return "utf-16-be"
    return None


def decoded(raw: bytes) -> tuple[str, str]:
    """Return text and the name of its encoding: UTF-8 and UTF-16 with or without mark, else Windows-1252.

    Raises ValueError with a sentence where it is none of them.
    """
    encoding = _wide(raw[:HEAD_BYTES])
    if encoding is not None:
        name = "UTF-32" if encoding == "utf-32" else "UTF-16"
        try:
            return raw.decode(encoding).removeprefix("\ufeff"), name
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start}: no {name} text; save the file as UTF-8") from None
    try:
        return raw.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        place, value = error.start, raw[error.start]
    try:
        return raw.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        message = f"byte {place} (0x{value:02X}): neither UTF-8 nor Windows-1252; save the file as UTF-8"
        raise ValueError(message) from None


def separator(lines: Iterable[str]) -> str | None:
    """Return what separates the cells of these lines, if it is not commas; None: commas, or there is none."""
    first = next((line for line in lines if line.strip()), "")
    counts = {mark: first.count(mark) for mark in SEPARATORS}
    most = max(counts, key=lambda mark: counts[mark])
    return most if counts[most] and most != "," else None
