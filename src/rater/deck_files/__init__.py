"""Files of carriers' decks: unpacked, and read as a workbook or as text; what they mean is core/decks."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from rater.core.decks.reading import Sheet
from rater.core.file_forms import HEAD_BYTES, packing
from rater.deck_files.texts import text_sheet
from rater.deck_files.unreadable import DAMAGED, UNPACKED_MAX, Unreadable
from rater.deck_files.workbooks import workbook_sheet

__all__ = ["Unreadable", "read_sheet", "sheet_of"]

_DEPTH_MAX = 2
"""A deck in a .zip in a .gz is one; more is none."""


def read_sheet(path: Path, wanted: str | None, columns: Mapping[str, str]) -> Sheet:
    """Return the sheet of a deck's file: a workbook (XLSX), or text in any encoding, packed or not.

    wanted: the name of a workbook's sheet. columns: field → header or letter, to find the header row by.
    Raises Unreadable with a sentence, also while the rows are read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(str(path), "", (error.strerror or "cannot be read").lower()) from None
    return sheet_of(str(path), raw, wanted, columns)


def sheet_of(file: str, raw: bytes, wanted: str | None, columns: Mapping[str, str], depth: int = 0) -> Sheet:
    """Return the sheet of a file's bytes; as `read_sheet`. depth: how often it was packed."""
    kind = packing(raw[:HEAD_BYTES])
    if kind is None:
        return text_sheet(file, raw, columns)
    if depth > _DEPTH_MAX:
        raise Unreadable(file, "", "is packed again and again; unpack it")
    if kind == "packed with gzip":
        return sheet_of(file, _gunzipped(file, raw), wanted, columns, depth + 1)
    if not raw.startswith(b"PK"):
        raise Unreadable(file, "", f"is {kind}; save the deck as a workbook (.xlsx) or as CSV")
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except DAMAGED as error:
        raise Unreadable(file, "", f"is a damaged archive or workbook ({error}); fetch it again") from None
    with archive:
        names = set(archive.namelist())
        if "xl/workbook.xml" in names:
            return workbook_sheet(file, raw, archive, wanted, columns)
        if "xl/workbook.bin" in names or "content.xml" in names:
            raise Unreadable(file, "", "is a workbook of another form (XLSB or ODS); save it as .xlsx")
        member = _only_member(file, archive)
        return sheet_of(
            f"{file}/{member.filename}", _member(file, archive, member), wanted, columns, depth + 1
        )


def _gunzipped(file: str, raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            out = stream.read(UNPACKED_MAX + 1)
    except DAMAGED as error:
        raise Unreadable(file, "", f"is damaged gzip ({error}); fetch it again") from None
    return _small(file, out)


def _small(file: str, raw: bytes) -> bytes:
    if len(raw) > UNPACKED_MAX:
        raise Unreadable(file, "", f"has more than {UNPACKED_MAX >> 20} MiB unpacked; no deck is so large")
    return raw


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the files that may be a deck: not folders, nor what systems put beside."""
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        # `is_dir` of a name that is empty is an IndexError.
        if info.filename and not info.filename.endswith("/") and not hidden:
            yield info


def _only_member(file: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = list(_members(archive))
    if len(members) != 1:
        names = ", ".join(info.filename for info in members[:5]) or "none"
        raise Unreadable(
            file, "", f"holds {len(members)} files ({names}); unpack it, and import the deck itself"
        )
    return members[0]


def _member(file: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise Unreadable(file, info.filename, "is locked with a password; unpack it")
    try:
        with archive.open(info) as stream:
            return _small(file, stream.read(UNPACKED_MAX + 1))
    except DAMAGED as error:
        raise Unreadable(file, info.filename, f"cannot be unpacked ({error}); unpack it by hand") from None
