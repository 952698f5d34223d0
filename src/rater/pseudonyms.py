"""Telephone numbers in logs: each is shown as a pseudonym, the same one wherever the same key is used."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from typing import Any

HIDDEN = "<number>"
"""What is shown where there is no key: without one everybody could try all numbers."""
SHOWN_BYTES = 8

_NUMBER = re.compile(
    r"""
      \+\d(?:[\s().\u2010-\u2015/-]{0,2}\d){5,}  # +380 44 123-45-67, with dots or typographic dashes, too
    | (?<!\d)(?<!\]@)(?<!offset\ )\d{7,}         # 380441234567; cdrs[0]@1234567 is a place
    | (?<![\d-])(?!\d{4}-\d\d-\d\d(?!\d))      # (044) 123-45-67; not a date
      \(?\d{2,5}\)?(?:[\s\u2010-\u2015/-]\d{2,5}){2,}
    | (?<![\d.])(?!\d\d\.\d\d\.\d{4}(?!\d))       # 044.123.4567; neither a date nor an address
      \d{2,5}(?:\.\d{2,5})+\.\d{4}(?!\.?\d)
    """,
    re.VERBOSE,
)


class Pseudonyms:
    """Texts without telephone numbers: any seven digits and more are taken for one."""

    def __init__(self, key: str | None) -> None:
        """key: a secret; None: all numbers look the same."""
        self._key = key.encode() if key else None

    def of(self, number: str) -> str:
        """Return what stands for a number. Only its digits count, so however it is written it is the same."""
        if self._key is None:
            return HIDDEN
        digits = "".join(str(unicodedata.digit(char)) for char in number if char.isdecimal())
        digest = hmac.digest(self._key, digits.encode(), hashlib.sha256)[:SHOWN_BYTES]
        return f"<number {digest.hex()}>"

    def hide(self, value: Any) -> Any:
        """Return a value of a log line without numbers; whole numbers stay: they are offsets and counts."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self.hide(key): self.hide(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.hide(each) for each in value]
        return _NUMBER.sub(lambda found: self.of(found[0]), str(value))
