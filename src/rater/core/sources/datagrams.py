"""The events of OpenSIPS become texts: the lines that event_datagram writes, or JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rater.core.reasons import Reason, shown
from rater.core.sources.damaged import controls_shown, text_of
from rater.core.sources.formats import OUTER, JsonReader, Problem, Skipped, Slots

EVENT_NAME = re.compile(rb"E_[A-Za-z0-9_]+[ \t\r]*\n?")
"""The first line of an event: E_ACC_CDR."""
_NAME_PATH = f"{OUTER}method"  # where JSON-RPC has it
_QUOTED = re.compile(r'"(.*)"')


class DatagramReader:
    """Reads one OpenSIPS event: JSON, or the text of event_datagram, its name and lines of `name::value`."""

    def __init__(self, paths: Sequence[str], *, unwrap: str | None = None) -> None:
        self._index = {path: position for position, path in enumerate(paths)}
        self._json = JsonReader(paths, unwrap=unwrap)

    def read(self, raw: bytes) -> Slots | Skipped | Problem:
        """Return the slots; of an attribute that comes twice the first counts. A Problem: no event."""
        text = text_of(raw).strip()
        if text[:1] == "{":
            return self._json.read(raw)
        first, *attributes = text.split("\n")
        if not EVENT_NAME.fullmatch(first.encode()):
            if not text:
                return Problem(Reason.MALFORMED, "the record is empty", "")
            detail = "the record is no event: neither a name (E_ACC_CDR) and lines of `name::value` nor JSON"
            return Problem(Reason.MALFORMED, detail, shown(raw))
        slots: Slots = [None] * len(self._index)
        if _NAME_PATH in self._index:
            slots[self._index[_NAME_PATH]] = first.strip()
        for line in attributes:
            name, _, value = line.partition("::")
            position = self._index.get(name)
            if position is not None and slots[position] is None:
                slots[position] = _unquoted(controls_shown(value).strip())
        return slots


def _unquoted(value: str) -> str:
    """Return a value without the quotes that OpenSIPS puts around what has quotes or line ends in it."""
    found = _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", found[1]).strip() if found else value
