"""Texts of a switch become values of a CDR: times, durations, numbers, addresses (CONTRACTS.md, Sources).

A reader is compiled once from what a map says and returns None for a text that it does not understand: what
to do about that is the caller's. Nothing here raises on any text, and no float is involved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from string import ascii_letters
from typing import NamedTuple
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from rater.core.instants import milliseconds

Reader = Callable[[str], int | None]

EPOCHS = {"epoch": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""Formats of times that count from 1970, and the microseconds of one unit."""

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Units of durations, in microseconds."""

TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999: what RFC 3339 can write."""

AMOUNT_MAX = 2**53
"""Durations and volumes stay below it (CONTRACTS.md: `bad_duration`)."""

_US_OF_MS = 1_000
_ISO_CHARS_MIN = len("2026-01-15T10:30")  # shorter ones are dates without a time of day
# More digits than any count of microseconds has; the bound keeps int() away from hostile input. Binary floats
# that were written out have long fractions: 65.03900003433228.
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,60}))?")
_WHOLE_DIGITS_MAX = 20


# Floats

_FLOAT = re.compile(r"(-?)([0-9]{1,60})(?:\.([0-9]{1,60}))?(?:[eE]([+-]?[0-9]{1,4}))?")
_EXACT_END = 2**53  # from here on a binary float is not exact: what was written may be another number
_POINT_MIN, _POINT_MAX = -9, len(str(_EXACT_END))
_LOSSY_DIGITS_MAX = 7  # C's %g keeps 6 digits of a number, %e 7
_LUA_DIGITS = 14
_LOSSY_FROM_DIGITS = 8  # the shortest number that they shorten


def written_out(literal: str) -> str:
    """Return a decimal without exponent and needless zeros: 3.80441234567e11 and 380441234567.0 are the same.

    It comes back as it is where that would be a guess: 2^53 and more, or an exponent that stands for digits
    that C's %g and %e leave out (3.80441e+11 may be any of a million numbers). Zero has no sign.
    """
    found = _FLOAT.fullmatch(literal)
    if found is None:
        return literal
    sign, whole, fraction, power = found.groups(default="")
    given = (whole + fraction).lstrip("0")
    digits = given.rstrip("0")
    if not digits:
        return "0"
    point = len(given) - len(fraction) + int(power or "0")  # place of the point in the digits
    lossy = len(digits) <= _LOSSY_DIGITS_MAX and point >= _LOSSY_FROM_DIGITS and len(given) < point
    if lossy or not _POINT_MIN <= point <= _POINT_MAX:
        return literal
    if len(digits) > point:
        return f"{sign}{digits[: max(point, 0)] or '0'}.{'0' * -point}{digits[max(point, 0) :]}"
    text = digits.ljust(point, "0")
    return literal if int(text) >= _EXACT_END else sign + text


# Times


def time_reader(form: str, zone: ZoneInfo | None) -> Reader | str:
    """Return a reader of texts into ms since 1970 UTC, or a sentence that says what is wrong with the format.

    form: `iso` (RFC 3339 and its relatives: `T` or a blank, any offset), `epoch`, `epoch_ms`, `epoch_us`, or
    a pattern like `%d.%m.%Y %H:%M:%S`. zone: of texts that carry no offset; a local time that comes twice is
    the first, one that is left out in spring counts from before the change. Fractions of a millisecond are
    cut off.
    """
    if form in EPOCHS:
        return _epoch_reader(EPOCHS[form])
    if form == "iso":
        return lambda text: _iso(text, zone)
    if "%" not in form:
        return (
            "is no format of times; use iso, epoch, epoch_ms, epoch_us, or a pattern like %Y-%m-%d %H:%M:%S"
        )
    return _pattern_reader(form, zone)


def carries_zone(form: str) -> bool:
    """Return whether texts of this format can be read without a zone; those of `iso` show it one by one."""
    return form in EPOCHS or form == "iso" or "%z" in form


def _epoch_reader(unit_us: int) -> Reader:
    def read(text: str) -> int | None:
        us = _microseconds(text, unit_us)
        return None if us is None or us > TIME_MS_MAX * _US_OF_MS else us // _US_OF_MS

    return read


def _microseconds(text: str, unit_us: int) -> int | None:
    """Return a decimal count of units in microseconds (what is finer is cut off), or None."""
    if text.isdecimal() and text.isascii() and len(text) <= _WHOLE_DIGITS_MAX:
        return int(text) * unit_us
    found = _DECIMAL.fullmatch(text)
    if found is None:
        return None
    whole, fraction = found.groups(default="")
    cut: int = int(fraction or "0") * unit_us // 10 ** len(fraction)
    return int(whole) * unit_us + cut


def _iso(text: str, zone: ZoneInfo | None) -> int | None:
    # fromisoformat takes much more than RFC 3339: "2026-01-15 10.30" is 10:00 to it.
    if len(text) < _ISO_CHARS_MIN or text[4] != "-" or text[13] != ":":
        return None
    try:
        return _instant(datetime.fromisoformat(text), zone)
    except ValueError:
        return None


def _instant(moment: datetime, zone: ZoneInfo | None) -> int | None:
    if moment.tzinfo is None:
        if zone is None:
            return None
        moment = moment.replace(tzinfo=zone)
    try:
        ms = milliseconds(moment)
    except OverflowError:  # an offset that leads out of the years 1 to 9999
        return None
    return ms if 0 <= ms <= TIME_MS_MAX else None


_DIRECTIVES = {
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "m": r"(?P<m>[0-9]{1,2})",
    "b": r"(?P<b>[A-Za-z]{3})",
    "d": r" ?(?P<d>[0-9]{1,2})",
    "H": r"(?P<H>[0-9]{1,2})",
    "M": r"(?P<M>[0-9]{2})",
    "S": r"(?P<S>[0-9]{2})",
    "f": r"(?P<f>[0-9]{1,9})",
    "z": r"(?P<z>Z|[+-][0-9]{2}:?[0-9]{2})",
    "a": r"[A-Za-z]{3}",
    "%": "%",
}
# In English whatever the machine's language: switches write these.
_MONTHS = {
    name: number
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)  # noqa: SIM905 - a row of twelve is read better than a column
}
_CENTURY = 2000


def _pattern_reader(form: str, zone: ZoneInfo | None) -> Reader | str:
    parts = re.split(r"%(.)", form)
    names = parts[1::2]
    known = ", ".join(f"%{name}" for name in _DIRECTIVES)
    for name in names:
        if name not in _DIRECTIVES:
            return f"has %{name}, which is none of {known}"
        if names.count(name) > 1 and name != "%":
            return f"has %{name} more than once; keep one"
    for either in ("Yy", "mb", "d", "H", "M"):
        if not set(either) & set(names):
            return f"has no %{either[0]}; a time needs a year, a month, a day, hours and minutes"
    if form.endswith("%") and (len(form) - len(form.rstrip("%"))) % 2:
        return "ends in a single %; write %% for the character"
    pattern = re.compile("".join(re.escape(p) if i % 2 == 0 else _DIRECTIVES[p] for i, p in enumerate(parts)))

    def read(text: str) -> int | None:
        found = pattern.fullmatch(text)
        if found is None:
            return None
        try:
            return _instant(_moment(found.groupdict(default="")), zone)
        except (ValueError, KeyError):  # a 30 February, a month "Foo"
            return None

    return read


def _moment(given: dict[str, str]) -> datetime:
    year = int(given["Y"]) if given.get("Y") else _CENTURY + int(given["y"])
    month = int(given["m"]) if given.get("m") else _MONTHS[given["b"].lower()]
    fraction = given.get("f", "")
    return datetime(
        year,
        month,
        int(given["d"]),
        int(given["H"]),
        int(given["M"]),
        int(given.get("S") or "0"),
        int(fraction.ljust(6, "0")[:6]) if fraction else 0,
        tzinfo=_offset(given.get("z", "")),
    )


def _offset(text: str) -> timezone | None:
    if not text:
        return None
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


# Durations


def duration_reader(unit: str) -> Reader:
    """Return a reader of decimal texts into whole ms, half up. unit: a key of `UNITS`.

    Negative ones and those of 2^53 ms and more are not read.
    """
    unit_us = UNITS[unit]

    def read(text: str) -> int | None:
        us = _microseconds(text, unit_us)
        return None if us is None or us >= AMOUNT_MAX * _US_OF_MS else (us + _US_OF_MS // 2) // _US_OF_MS

    return read


# Numbers


class NumberRule(NamedTuple):
    """Numbers that begin with `prefix` and have so many digits (prefix included) get `to` in its place."""

    prefix: str
    to: str
    digits_min: int
    digits_max: int


class Numbering(NamedTuple):
    """How numbers are written at a switch.

    strip: technical prefixes, the first that fits is taken off. rules: then the first that fits. letters:
    what each letter of a number becomes, as `str.translate` takes it; None keeps them.
    """

    strip: tuple[str, ...] = ()
    rules: tuple[NumberRule, ...] = ()
    letters: Mapping[int, int | None] | None = None


LETTERS: dict[str, Mapping[int, int | None] | None] = {
    "keep": None,
    "drop": str.maketrans("", "", ascii_letters),
    "keypad": str.maketrans(ascii_letters, "22233344455566677778889999" * 2),
}
"""What may be done with letters: kept (such a number is invalid), left out, or dialled (E.161, 2 is ABC)."""


_NAME_ADDRESS = re.compile(r"[^<]*<([^<>]*)>.*", re.DOTALL)  # "Alice" <sip:1001@pbx>;tag=7
_SCHEME = re.compile(r"(?:sips?|tel):", re.IGNORECASE)
_SEPARATORS = str.maketrans("", "", " -.()")  # RFC 3966: visual separators, and the blank that people add


def cut_short(literal: str) -> bool:
    """Return whether C's %.14g may have left out digits of a whole number: 3.8044123456789e+14 is one of ten.

    So Lua and older PHP print numbers of 15 digits and more. As a time or a duration it is near enough.
    """
    mantissa, exponent, power = literal.lower().partition("e")
    # Zeros at the end count: %.14g writes none, so who wrote them wrote all digits.
    digits = len(mantissa.lstrip("+-0").replace(".", "").lstrip("0"))
    return bool(exponent) and digits <= _LUA_DIGITS <= int(power)


# Of texts with one point. Somebody may have set a group of digits apart by it (555.1234), but hardly a single
# digit, nor zeros alone, and E.164 has no more than 15 digits.
_FLOAT_NUMBER = re.compile(r"(\+?[0-9]+)\.([0-9]|0+|(?<=[0-9]{10}\.)[0-9]{6,})")
_EXPONENT_NUMBER = re.compile(r"[0-9]\.[0-9]+[eE][+-]?[0-9]{1,4}")
_ZEROS_OF_A_GROUP = (2, 3, 4)
_PREFIX_CHARS = "+*#"
_DIALLED = _PREFIX_CHARS + "0123456789"
_WITH_LETTERS = re.compile(r"\+?(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[0-9A-Za-z]+")


def normalise(text: str, numbering: Numbering) -> str:
    """Return the digits of a number as a switch writes it: a URI, `+`, `00`, a technical prefix, bare.

    A number written with `+` is international already and no rule touches it. What is no number (letters,
    `s`, `*98`, -1) comes back as it was, for `number_invalid` to show. One that has been a float on its way
    (380441234567.0) is the whole number that it was; where that is not sure, it is none.
    """
    if not (text.isdecimal() and text.isascii()):
        text = _user(text)
        whole = _whole(text)
        if whole is None:
            return text
        text = _bare(whole)
    for prefix in numbering.strip:
        if text.startswith(prefix):
            text = text[len(prefix) :]
            break
    if numbering.letters is not None and _WITH_LETTERS.fullmatch(plain := text.translate(_SEPARATORS)):
        text = plain.translate(numbering.letters)
    if text[:1] == "+":
        digits = text[1:]
        return digits if digits.isdecimal() and digits.isascii() else text
    for rule in numbering.rules:
        if text.startswith(rule.prefix) and rule.digits_min <= len(text) <= rule.digits_max:
            return rule.to + text[len(rule.prefix) :] if text.isdecimal() and text.isascii() else text
    return text


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
        return whole if sure and len(whole) <= _POINT_MAX and int(whole) < _EXACT_END else None
    if _EXPONENT_NUMBER.fullmatch(text):
        whole = written_out(text)
        return whole if whole.isdecimal() and not cut_short(text) else None
    return text


def _user(text: str) -> str:
    """Return the user part of a URI."""
    if "<" in text and (found := _NAME_ADDRESS.fullmatch(text)):
        text = found[1]
    if scheme := _SCHEME.match(text):
        text = text[scheme.end() :]
    text = text.partition("@")[0].partition(";")[0].partition(":")[0].strip()
    return unquote(text, errors="backslashreplace") if "%" in text else text


def _bare(text: str) -> str:
    """Return a number without its visual separators."""
    plain = text.translate(_SEPARATORS)
    return plain if plain.strip(_PREFIX_CHARS) and not plain.strip(_DIALLED) else text


# Addresses

_HOST_PORT = re.compile(r"\[?([^\[\]]+?)\]?(?::[0-9]{1,5})?")
_WORD_BITS = 32
_ADDRESS_CHARS_MAX = 300  # a URI with a host name of 253 characters; bounds what the cache holds


def address(text: str) -> str:
    """Return an IP address without scheme, user, brackets and port; what is none comes back as it was."""
    return _address(text) if len(text) <= _ADDRESS_CHARS_MAX else text


@lru_cache(maxsize=4096)  # gateways are few: 0.1 µs instead of 0.6
def _address(text: str) -> str:
    if scheme := _SCHEME.match(text):
        text = text[scheme.end() :].partition("@")[2].partition(";")[0] or text
    if text.count(":") > 1 and not text.startswith("["):
        return text  # IPv6 as it is: the last group is no port
    found = _HOST_PORT.fullmatch(text)
    return found[1] if found else text


def int32_address(text: str) -> str | None:
    """Return the IPv4 address of a 32-bit number, signed or not, first octet lowest; 0 is "", no address.

    Cisco's form: -1139627840 is 0xBC12A8C0, read backwards 192.168.18.188. None: not a 32-bit number.
    """
    return _int32_address(text) if len(text) <= len("-2147483648") else None


@lru_cache(maxsize=4096)
def _int32_address(text: str) -> str | None:
    digits = text.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii() and len(digits) <= len("4294967295")):
        return None
    number = int(text)
    if not -(1 << (_WORD_BITS - 1)) <= number < 1 << _WORD_BITS:
        return None
    octets = (number % (1 << _WORD_BITS)).to_bytes(4, "little")
    return ".".join(map(str, octets)) if number else ""
