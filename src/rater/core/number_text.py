"""Characters of telephone numbers: digits, blanks and hyphens of all scripts become those of ASCII.

Whoever copies a number from a web page or a phone book brings what looks like `+380 44 123-45-67` and is
not: blanks that do not break, hyphens of typography, marks of direction that have no width, digits of
another script (decisions/0070-what-a-number-looks-like.md).
"""

from __future__ import annotations

import re
import unicodedata

CHARS_MAX = 256
"""A number of 64 digits with marks between them all; what is longer is none, and is not looked at."""

_NO_WIDTH = frozenset(
    {0x034F, 0x20E3, *range(0x180B, 0x180E), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
)
"""What joins, varies or frames the character before it; other characters of no width are of category Cf."""
_HYPHENS = frozenset(
    {0x2043, 0x2212}
)  # a bullet and the minus sign: no dashes to Unicode (Pd), to people they are
_FULL_WIDTH = range(0xFF01, 0xFF5F)
_FULL_WIDTH_MOVED = 0xFEE0

# A first digit, so that -1 is no number. A zero alone in parentheses, behind a country code, is not dialled.
# Blanks are not given back (`*+`): a text of them alone would take time by its cube.
_SEPARATED = re.compile(r" *+\+? *+\(? *+[0-9](?:[ ()-]*[0-9])*[ )]*")
_MARKS = str.maketrans("", "", " +-()")
# Where the zero is a part of the number, it is dialled from abroad, too: in Italy, San Marino, Ivory Coast,
# Gabon and Congo.
_TRUNK_ZERO = re.compile(r"((?:\+|00) *+(?!39|378|225|24[12])[0-9 -]*[0-9] *)\( *0 *\)")


class _Ascii:
    """What `str.translate` asks for each character."""

    def __getitem__(self, code: int) -> int | str | None:
        char = chr(code)
        if char.isascii():
            return " " if char in "\t\n\r" else code
        if code in _FULL_WIDTH:
            return code - _FULL_WIDTH_MOVED
        category = unicodedata.category(char)
        if category == "Nd":
            return str(unicodedata.decimal(char))
        if category == "Pd" or code in _HYPHENS:
            return "-"
        if char.isspace():
            return " "
        return None if category == "Cf" or code in _NO_WIDTH else code


_ASCII = _Ascii()
_PLANES = (range(0x80, 0x20000), range(0xE0000, 0xE1000))
"""Where there are characters that are read as others; between lie ideographs, and nothing."""


def replaced() -> dict[str, str]:
    """Return what characters beyond ASCII are read as, where that is another text: 30 ms."""
    found = ((chr(code), _ASCII[code], code) for plane in _PLANES for code in plane)
    return {
        char: "" if to is None else to if isinstance(to, str) else chr(to)
        for char, to, code in found
        if to != code
    }


def ascii_form(text: str) -> str:
    """Return the text with digits, blanks, hyphens and full-width characters as ASCII has them.

    What has no width is left out, any other character stays. A text of more than CHARS_MAX comes back as it
    is.
    """
    seen = text.isascii() and text.isprintable()
    return text if seen or len(text) > CHARS_MAX else text.translate(_ASCII)


def without_trunk_zero(text: str) -> str:
    """Return `+44 (0)20 …` as it is dialled: without the zero that is for callers in the country.

    Takes time by the square of the length: not for texts of more than CHARS_MAX.
    """
    return _TRUNK_ZERO.sub(r"\1", text, 1) if "(" in text else text


def digits_of(text: str) -> str:
    """Return the digits of a number that has `+` in front, and blanks, hyphens or parentheses between them.

    What has anything else comes back as it was. Source of the rule: RULES.md 2, step 1.
    """
    if len(text) > CHARS_MAX:
        return text
    plain = without_trunk_zero(ascii_form(text))
    return plain.translate(_MARKS) if _SEPARATED.fullmatch(plain) else text
