"""Files of the mobile trade become records: one line of JSON for each (`rater ingest --format`).

A record is `{"format", "record", "service", "pieces", "volume", "file", "event"}` where it has them; event
has the names of ASN.1. What cannot be read is `{"format", "fault", "offset", "octets"}`, so that it is
rejected by name and not lost. Memory is bounded by the longest record, not by the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import Any

import msgspec

from rater.core.sources.cutting import Record
from rater.mobile.ber import Window
from rater.mobile.tap3 import TapFile
from rater.mobile.ts32298 import CdrFile
from rater.mobile.walking import Found, Lost

_TOLD_MAX = 10
MISSING = "--format {}: its reader is not installed; pip install 'rater[asn1]'"


FORMS = ("tap3", "ts32298")
"""Formats, and the names of the shipped maps that read their records."""


def looks_like(begin: bytes) -> bool:
    """Return whether octets begin as files of these formats do, and as no text in UTF-8 does."""
    return (begin[:1] in (b"\x61", b"\x62") and begin[1:2] >= b"\x80") or b"\xa0" <= begin[:1] < b"\xc0"


class Missing(Exception):  # noqa: N818 - named for what is so
    """The extra with the compiled ASN.1 modules is not installed."""


def records(stream: BufferedIOBase, form: str, tell: Callable[[str], None]) -> Iterator[Record]:
    """Yield the records of a file, each as one JSON object; `line` is its place, from 1.

    stream: unpacked; form: tap3 (GSMA TD.57), or ts32298, bare or in files of TS 32.297; tell: gets a
    sentence for each fault, with its offset.

    Raises ValueError with a sentence where the file is of no such format at all, Missing without the extra.
    """
    window = Window(stream)
    try:
        file = TapFile(window, tell) if form == "tap3" else CdrFile(window, tell)
    except ModuleNotFoundError as error:
        raise Missing(MISSING.format(form)) from error
    lost = 0
    for place, part in enumerate(file.parts(), start=1):
        if isinstance(part, Lost):
            lost += 1
            if lost <= _TOLD_MAX:
                tell(_sentence(part))
            yield Record(place, _json(_unread(form, part)))
        else:
            yield Record(place, _json(_read(form, part, file.about(part))))
    if lost > _TOLD_MAX:
        tell(f"{lost - _TOLD_MAX} more places cannot be read; all {lost} are sent, to be rejected by name")
    if window.damage:
        tell(window.damage)


def _read(form: str, found: Found, about: dict[str, Any]) -> dict[str, Any]:
    return {"format": form, "record": found.name, **about, "event": found.value}


def _unread(form: str, lost: Lost) -> dict[str, Any]:
    return {
        "format": form, "fault": _sentence(lost), "offset": lost.offset, "octets": lost.octets.hex(),
    }  # fmt: skip


def _sentence(lost: Lost) -> str:
    return f"octet {lost.offset}: {lost.size} octets cannot be read: {lost.why}"


_json: Callable[[Any], bytes] = msgspec.json.Encoder().encode
