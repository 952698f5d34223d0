"""Texts of a switch become values of a CDR: times, durations, volumes, addresses (CONTRACTS.md, Sources).

A reader is compiled once from what a map says and returns None for a text that it does not understand: what
to do about that is the caller's. Nothing here raises on any text, and no float is involved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from rater.core.instants import SECOND_MS, milliseconds

Reader = Callable[[str], int | None]

EPOCHS = {"epoch": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""Formats of times that count from 1970, and the microseconds of one unit."""

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "min": 60_000_000}
"""Units of durations, in microseconds."""

CLOCKS = ("h:m:s", "m:s")
"""Durations as a clock shows them; seconds may have decimals."""

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
EXACT_END = 2**53  # from here on a binary float is not exact: what was written may be another number
_POINT_MIN, POINT_MAX = -9, len(str(EXACT_END))
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
    if lossy or not _POINT_MIN <= point <= POINT_MAX:
        return literal
    if len(digits) > point:
        return f"{sign}{digits[: max(point, 0)] or '0'}.{'0' * -point}{digits[max(point, 0) :]}"
    text = digits.ljust(point, "0")
    return literal if int(text) >= EXACT_END else sign + text


def cut_short(literal: str) -> bool:
    """Return whether C's %.14g may have left out digits of a whole number: 3.8044123456789e+14 is one of ten.

    So Lua and older PHP print numbers of 15 digits and more. As a time or a duration it is near enough.
    """
    mantissa, exponent, power = literal.lower().partition("e")
    # Zeros at the end count: %.14g writes none, so who wrote them wrote all digits.
    digits = len(mantissa.lstrip("+-0").replace(".", "").lstrip("0"))
    return bool(exponent) and digits <= _LUA_DIGITS <= int(power)


# Times


def time_reader(form: str, zone: ZoneInfo | None) -> Reader | str:
    """Return a reader of texts into ms since 1970 UTC, or a sentence that says what is wrong with the format.

    form: `iso` (RFC 3339 and its relatives: `T` or a blank, any offset), `epoch`, `epoch_ms`, `epoch_us`, or
    a pattern like `%d.%m.%Y %H:%M:%S`, in which a blank stands for any. zone: of texts that carry no offset;
    a local time that comes twice is the first, one that is left out in spring counts from before the change.
    Fractions of a millisecond are cut off.
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
    "I": r"(?P<I>[0-9]{1,2})",
    "p": r"(?P<p>[AaPp]\.?[Mm]\.?)",
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
_HALF_DAY = 12


def _pattern_reader(form: str, zone: ZoneInfo | None) -> Reader | str:
    parts = re.split(r"%(.)", form)
    names = parts[1::2]
    known = ", ".join(f"%{name}" for name in _DIRECTIVES)
    for name in names:
        if name not in _DIRECTIVES:
            return f"has %{name}, which is none of {known}"
        if names.count(name) > 1 and name != "%":
            return f"has %{name} more than once; keep one"
    if fault := _incomplete(set(names)):
        return fault
    if form.endswith("%") and (len(form) - len(form.rstrip("%"))) % 2:
        return "ends in a single %; write %% for the character"
    pattern = re.compile("".join(_literal(p) if i % 2 == 0 else _DIRECTIVES[p] for i, p in enumerate(parts)))

    def read(text: str) -> int | None:
        found = pattern.fullmatch(text)
        if found is None:
            return None
        try:
            return _instant(_moment(found.groupdict(default="")), zone)
        except (ValueError, KeyError):  # a 30 February, a month "Foo"
            return None

    return read


def _incomplete(names: set[str]) -> str:
    """Return what a pattern lacks, or has of two kinds; "": nothing."""
    for either in ("Yy", "mb", "d", "HI", "M"):
        if not set(either) & names:
            return f"has no %{either[0]}; a time needs a year, a month, a day, hours and minutes"
    if ("I" in names) != ("p" in names) or {"H", "I"} <= names:
        return "has %I without %p, or %p without %I, or %H besides; write %I and %p, or %H alone"
    return ""


def _literal(text: str) -> str:
    """Return what matches a pattern's own characters. Newer programs write U+202F before AM and PM."""
    return r"\s".join(map(re.escape, text.split(" ")))


def _moment(given: dict[str, str]) -> datetime:
    year = int(given["Y"]) if given.get("Y") else _CENTURY + int(given["y"])
    month = int(given["m"]) if given.get("m") else _MONTHS[given["b"].lower()]
    fraction = given.get("f", "")
    return datetime(
        year,
        month,
        int(given["d"]),
        _hour(given),
        int(given["M"]),
        int(given.get("S") or "0"),
        int(fraction.ljust(6, "0")[:6]) if fraction else 0,
        tzinfo=_offset(given.get("z", "")),
    )


def _hour(given: dict[str, str]) -> int:
    """Return the hour of the day: 12 AM is 0, 12 PM is 12. Raises ValueError for 0 AM and 13 PM."""
    if "I" not in given:
        return int(given["H"])
    hour = int(given["I"])
    if not 1 <= hour <= _HALF_DAY:
        raise ValueError
    return hour % _HALF_DAY + (_HALF_DAY if given["p"][0] in "Pp" else 0)


def _offset(text: str) -> timezone | None:
    if not text:
        return None
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


# Durations and volumes


def duration_reader(unit: str) -> Reader:
    """Return a reader of decimal texts into whole ms, half up. unit: a key of `UNITS`.

    Negative ones and those of 2^53 ms and more are not read.
    """
    unit_us = UNITS[unit]

    def read(text: str) -> int | None:
        us = _microseconds(text, unit_us)
        return None if us is None or us >= AMOUNT_MAX * _US_OF_MS else (us + _US_OF_MS // 2) // _US_OF_MS

    return read


_CLOCK = {
    "h:m:s": re.compile(r"([0-9]{1,9}):([0-5]?[0-9]):([0-5]?[0-9])(?:\.([0-9]{1,60}))?"),
    "m:s": re.compile(r"(0*)([0-9]{1,9}):([0-5]?[0-9])(?:\.([0-9]{1,60}))?"),
}
_HOUR_S, _MINUTE_S = 3600, 60


def exact_reader(unit: str) -> Callable[[str], Fraction | None]:
    """Return a reader of texts into exact amounts, not rounded.

    unit: a key of `UNITS` or one of `CLOCKS`, then it reads milliseconds; "": a decimal as it is. Negative
    ones are not read.
    """
    if unit in _CLOCK:
        clock = _CLOCK[unit]
        return lambda text: _clock_ms(clock.fullmatch(text))
    factor = Fraction(UNITS[unit], _US_OF_MS) if unit else Fraction(1)

    def read(text: str) -> Fraction | None:
        found = _DECIMAL.fullmatch(text)
        return None if found is None else _fraction(found[1], found[2]) * factor

    return read


def _clock_ms(found: re.Match[str] | None) -> Fraction | None:
    if found is None:
        return None
    hours, minutes, seconds, fraction = found.groups(default="")
    whole = int(hours or "0") * _HOUR_S + int(minutes) * _MINUTE_S + int(seconds)
    return _fraction(str(whole), fraction) * SECOND_MS


def _fraction(whole: str, fraction: str | None) -> Fraction:
    fraction = fraction or ""
    return Fraction(int(whole + fraction), 10 ** len(fraction))


_FACTOR = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:/([0-9]{1,18}))?")


def factor(value: object) -> Fraction | None:
    """Return the factor that a map gives: 10, "0.001", "1/1024"; None: it is none, or not above 0."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _FACTOR.fullmatch(text) if isinstance(text, str) else None
    if found is None or not int(found[3] or "1"):
        return None
    return _fraction(found[1], found[2]) / int(found[3] or "1") or None


def count(text: str) -> int | None:
    """Return the whole number that the digits are, or None."""
    if text.isdecimal() and text.isascii() and len(text) <= len(str(AMOUNT_MAX)):
        return int(text)
    return None


# Addresses

SCHEME = re.compile(r"(?:sips?|tel):", re.IGNORECASE)
_HOST_PORT = re.compile(r"\[?([^\[\]]+?)\]?(?::[0-9]{1,5})?")
_WORD_BITS = 32
_ADDRESS_CHARS_MAX = 300  # a URI with a host name of 253 characters; bounds what the cache holds


def address(text: str) -> str:
    """Return an IP address without scheme, user, brackets and port; what is none comes back as it was."""
    return _address(text) if len(text) <= _ADDRESS_CHARS_MAX else text


@lru_cache(maxsize=4096)  # gateways are few: 0.1 µs instead of 0.6
def _address(text: str) -> str:
    if scheme := SCHEME.match(text):
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
