"""Files that are sent: as the body of a request to the API, or with a form of the console; bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from rater.admin.problems import Problem

FILE_BYTES_MAX = 32 << 20
"""A deck of 300,000 rows has some 5 MB as a workbook, 20 MB as text; packed text has a tenth."""
READ_S = 100.0
"""So long a file may take to come."""
_FIELD_BYTES_MAX = 20_000
_PARTS_MAX = 50
_CHUNK_BYTES = 256 << 10


_MALFORMED = (ValueError, AssertionError, RuntimeError, TypeError, LookupError, HttpProcessingError)
"""What aiohttp raises of a multipart body that is none."""


class Upload(NamedTuple):
    """A file that came with a form. name: as the browser said, without folders."""

    name: str
    raw: bytes


async def read_file(request: web.Request) -> bytes:
    """Return the body of a request. Raises Problem where it is no file, or too large."""
    if request.content_type != "application/octet-stream":
        raise Problem(415, "send the file itself as the body, with Content-Type: application/octet-stream")
    raw = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for some in request.content.iter_chunked(_CHUNK_BYTES):
                raw += some
                if len(raw) > FILE_BYTES_MAX:
                    raise _too_large()
    except TimeoutError:
        raise _too_slow() from None
    return bytes(raw)


async def read_form(
    request: web.Request, check: Callable[[dict[str, str]], None]
) -> tuple[dict[str, str], Upload | None]:
    """Return the fields of a form, the first of each name, and its file; None: none was chosen.

    check: raises Problem where the fields that came before the file are not those of a form of ours. It is
    asked before the file is read. Raises Problem for what is no such form.
    """
    if request.content_type != "multipart/form-data":
        raise Problem(415, "this takes forms of its own pages alone")
    fields: dict[str, str] = {}
    upload = None
    try:
        async with asyncio.timeout(READ_S):
            reader = await request.multipart()
            for _ in range(_PARTS_MAX):
                part = await reader.next()
                if part is None:
                    break
                if not isinstance(part, BodyPartReader):
                    raise _no_form()
                if part.filename is None:
                    raw = await _bounded(part, _FIELD_BYTES_MAX, _no_form)
                    fields.setdefault(part.name or "", raw.decode())
                else:
                    check(fields)
                    raw = await _bounded(part, FILE_BYTES_MAX, _too_large)
                    if part.filename and upload is None:
                        upload = Upload(part.filename.replace("\\", "/").rpartition("/")[2], raw)
            else:
                raise _no_form()
    except TimeoutError:
        raise _too_slow() from None
    except _MALFORMED as error:
        raise _no_form() from error
    return fields, upload


async def _bounded(part: BodyPartReader, most: int, refused: Callable[[], Problem]) -> bytes:
    raw = bytearray()
    read: Callable[[int], Awaitable[bytes]] = part.read_chunk
    while some := await read(_CHUNK_BYTES):
        raw += some
        if len(raw) > most:
            raise refused()
    return bytes(raw)


def _too_large() -> Problem:
    return Problem(
        413, f"more than {FILE_BYTES_MAX >> 20} MiB are not taken; pack the deck by gzip, or import it by "
        "`rater decks import`",
    )  # fmt: skip


def _too_slow() -> Problem:
    return Problem(400, f"the file did not come within {READ_S:.0f} s")


def _no_form() -> Problem:
    return Problem(400, "this is no form with a file; open the page again, and send it from there")
