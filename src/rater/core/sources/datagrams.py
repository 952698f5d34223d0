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
# A value in quotes may have line ends in it, and what looks like an attribute behind them.
_ATTRIBUTE = re.compile(
    r'^(?P<name>[^\n:]+(?::[^\n:]+)*)::(?P<value>"(?:[^"\\]|\\.)*"(?=[ \t\r]*(?:\n|\Z))|[^\n]*)',
    re.MULTILINE | re.DOTALL,
)
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)


class DatagramReader:
    """Reads one OpenSIPS event: JSON, or the text of event_datagram, its name and lines of `name::value`."""

    def __init__(self, paths: Sequence[str], *, unwrap: str | None = None) -> None:
        self._index = {path: position for position, path in enumerate(paths)}
        self._json = JsonReader(paths, unwrap=unwrap)

    def read(self, raw: bytes) -> Slots | Skipped | Problem:
        """Return the slots. A Problem: no event, or more than one, which would be lost but for the first."""
        text = text_of(raw).strip()
        if text[:1] == "{":
            return self._json.read(raw)
        first, _, attributes = text.partition("\n")
        if not EVENT_NAME.fullmatch(first.encode()):
            if not text:
                return Problem(Reason.MALFORMED, "the record is empty", "")
            detail = "the record is no event: neither a name (E_ACC_CDR) and lines of `name::value` nor JSON"
            return Problem(Reason.MALFORMED, detail, shown(raw))
        slots: Slots = [None] * len(self._index)
        if _NAME_PATH in self._index:
            slots[self._index[_NAME_PATH]] = first.strip()
        for found in _ATTRIBUTE.finditer(attributes):
            name = found["name"]
            position = self._index.get(name)
            if position is None:
                continue
            value = _unquoted(controls_shown(found["value"]).strip())
            if slots[position] not in {None, value}:
                detail = (
                    f"{name} comes twice, as {slots[position]} and {value}: several events in one record? "
                    "give each its own, in a file with an empty line between"
                )
                return Problem(Reason.MALFORMED, shown(detail), shown(raw))
            slots[position] = value
        return slots


def _unquoted(value: str) -> str:
    """Return a value without the quotes that OpenSIPS puts around what has quotes or line ends in it."""
    found = _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL).strip() if found else value
