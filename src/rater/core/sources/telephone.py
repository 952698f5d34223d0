"""Telephone numbers as switches write them become digits (CONTRACTS.md, Sources).

Nothing here raises on any text. What is no number, or not surely one, comes back as it was, so that it is
shown with its rejection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_letters
from typing import NamedTuple
from urllib.parse import unquote

from rater.core.number_text import CHARS_MAX, ascii_form, without_trunk_zero
from rater.core.sources.values import EXACT_END, POINT_MAX, SCHEME, cut_short, written_out


class NumberRule(NamedTuple):
    """Numbers that begin with `prefix` and have so many digits (prefix included) get `to` in its place."""

    prefix: str
    to: str
    digits_min: int
    digits_max: int


class Numbering(NamedTuple):
    """How numbers are written at a switch.

    strip: technical prefixes, the first that fits is taken off; suffix: technical ends, the same. rules: then
    the first that fits. letters: what each letter of a number becomes, as `str.translate` takes it; None
    keeps them.
    """

    strip: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    rules: tuple[NumberRule, ...] = ()
    letters: Mapping[int, int | None] | None = None


SUFFIX = ("##", "#")
"""What is taken off the end of numbers where neither map nor source says otherwise: it ends dialling."""

LETTERS: dict[str, Mapping[int, int | None] | None] = {
    "keep": None,
    "drop": str.maketrans("", "", ascii_letters),
    "keypad": str.maketrans(ascii_letters, "22233344455566677778889999" * 2),
}
"""What may be done with letters: kept (such a number is invalid), left out, or dialled (E.161, 2 is ABC)."""

_NAME_ADDRESS = re.compile(r"[^<]*<([^<>]*)>.*", re.DOTALL)  # "Alice" <sip:1001@pbx>;tag=7
_SEPARATORS = str.maketrans("", "", " -.()")  # RFC 3966: visual separators, and the blank that people add
# Of texts with one point. Somebody may have set a group of digits apart by it (555.1234), but hardly a single
# digit, nor zeros alone, and E.164 has no more than 15 digits.
_FLOAT_NUMBER = re.compile(r"(\+?[0-9]+)\.([0-9]|0+|(?<=[0-9]{10}\.)[0-9]{6,})")
_EXPONENT_NUMBER = re.compile(r"[0-9]\.[0-9]+[eE][+-]?[0-9]{1,4}")
_ZEROS_OF_A_GROUP = (2, 3, 4)
_PREFIX_CHARS = "+*#"
_DIALLED = _PREFIX_CHARS + "0123456789"
_WITH_LETTERS = re.compile(r"\+?(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[0-9A-Za-z]+")
# What telephones and dial strings wait by before they dial on; of letters, in RFC 2806, p and w.
_PAUSE = re.compile(r"(?<=[0-9#]) *[,!]")
# A group of a spreadsheet's (380,441,234,567; 38,04,41,23,456), or the whole part of a decimal (3,80441E+11).
_GROUPED = re.compile(r"\+?[0-9]{1,3},[0-9].*", re.DOTALL)
_PAUSE_LETTER = re.compile(r"([-+0-9 .()#*]*[0-9#])[pPwW][0-9*#pPwW,!]*")


def normalise(text: str, numbering: Numbering) -> str:
    """Return the digits of a number as a switch writes it: a URI, `+`, `00`, a technical prefix, bare.

    What is dialled after the call was answered (`,,123`, `!0132`, `p123`) is no part of it. A number written
    with `+` is international already and no rule touches it. What is no number (letters, `s`, `*98`, -1)
    comes back as it was, for `number_invalid` to show. One that has been a float on its way (380441234567.0)
    is the whole number that it was; where that is not sure, it is none.
    """
    if not _is_plain(text) and not _is_plain(text := _user(ascii_form(text))):
        if len(text) > CHARS_MAX:
            return text
        whole = _whole(_dialled_first(text, with_letters=numbering.letters is None))
        if whole is None:
            return text
        text = _bare(without_trunk_zero(whole))
    text = _stripped(text, numbering)
    if numbering.letters is not None and _WITH_LETTERS.fullmatch(plain := text.translate(_SEPARATORS)):
        text = plain.translate(numbering.letters)
    if text[:1] == "+":
        digits = text[1:]
        return digits if digits.isdecimal() and digits.isascii() else text
    for rule in numbering.rules:
        if text.startswith(rule.prefix) and rule.digits_min <= len(text) <= rule.digits_max:
            return rule.to + text[len(rule.prefix) :] if text.isdecimal() and text.isascii() else text
    return text


def _is_plain(text: str) -> bool:
    """Return whether it is digits, after an optional +: most are."""
    digits = text[1:] if text[:1] == "+" else text
    return digits.isdecimal() and digits.isascii()


def _stripped(text: str, numbering: Numbering) -> str:
    """Return a number without its technical end and prefix; of an end alone nothing is taken off."""
    for suffix in numbering.suffix:
        if text.endswith(suffix) and len(text) > len(suffix):
            text = text[: -len(suffix)]
            break
    for prefix in numbering.strip:
        if text.startswith(prefix):
            return text[len(prefix) :]
    return text


def _dialled_first(text: str, *, with_letters: bool) -> str:
    """Return what is dialled to make the call. with_letters: p and w are pauses, too, and no letters."""
    if with_letters and (found := _PAUSE_LETTER.fullmatch(text)):
        return found[1]
    if not (pause := _PAUSE.search(text)) or _GROUPED.fullmatch(text):
        return text
    return text[: pause.start()]


def _whole(text: str) -> str | None:
    """Return a number as it was before it became a float; other texts as they are. None: it is no number."""
    if text.startswith(("-", ".")):
        return None
    if "." not in text:
        return text
    if found := _FLOAT_NUMBER.fullmatch(text):
        whole, fraction = found.groups()
        # 555.0000 may be 555 or 5550000; from 2^53 on digits are lost.
        sure = not fraction.strip("0") and len(fraction) not in _ZEROS_OF_A_GROUP
        return whole if sure and len(whole) <= POINT_MAX and int(whole) < EXACT_END else None
    if _EXPONENT_NUMBER.fullmatch(text):
        whole = written_out(text)
        return whole if whole.isdecimal() and not cut_short(text) else None
    return text


def _user(text: str) -> str:
    """Return the user part of a URI."""
    if "<" in text and (found := _NAME_ADDRESS.fullmatch(text)):
        text = found[1]
    if scheme := SCHEME.match(text):
        text = text[scheme.end() :]
    text = text.partition("@")[0].partition(";")[0].partition(":")[0].strip()
    return ascii_form(unquote(text, errors="backslashreplace")).strip() if "%" in text else text


def _bare(text: str) -> str:
    """Return a number without its visual separators."""
    plain = text.translate(_SEPARATORS)
    return plain if plain.strip(_PREFIX_CHARS) and not plain.strip(_DIALLED) else text
