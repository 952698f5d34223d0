"""Octets of mobile networks' records become texts: digits, addresses, times.

What is not as its rule says becomes `0x` and the octets in hexadecimal: who reads it as a time or a number
then refuses it by that text, and nobody takes it for another one. Nothing here raises.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime

_TBCD = "0123456789*#abc"  # 3GPP TS 29.002, TBCD-STRING; the sixteenth is the filler
_FILLER = 0xF
_INTERNATIONAL = 1
_ALPHANUMERIC = 5
_EXTENSION = 0x80
_SMS_OCTETS_MIN = 2  # the type of address, and a digit
_TIME_OCTETS = 9
_PLMN_OCTETS = 3
_SIGNS = {0x2B: "+", 0x2D: "-"}
_SEPTETS = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)  # 3GPP TS 23.038, the default alphabet


def hexadecimal(octets: bytes) -> str:
    """Return octets that have no other form, such as references: `00a1`."""
    return octets.hex()


def unread(octets: bytes) -> str:
    """Return what stands for octets that are not as their rule says: `0x00a1`."""
    return f"0x{octets.hex()}"


def text(octets: bytes) -> str:
    """Return a text, octets that are no UTF-8 escaped as hexadecimal. Blanks around it say nothing."""
    return octets.decode("utf-8", "backslashreplace").strip(" \0")


def tbcd(octets: bytes) -> str:
    """Return the digits of a TBCD-STRING (TS 29.002): the first in the lower half of each octet."""
    return _digits(octets, first=0) or unread(octets)


def bcd(octets: bytes) -> str:
    """Return the digits of a BCDString of TAP (TD.57): the first in the upper half of each octet."""
    return _digits(octets, first=4) or unread(octets)


def _digits(octets: bytes, *, first: int) -> str:
    """Return digits up to the filler, "" where something else than filler follows it, or there is none."""
    found: list[str] = []
    is_over = False
    for octet in octets:
        for shift in (first, 4 - first):
            half = octet >> shift & 0xF
            if half == _FILLER:
                is_over = True
            elif is_over:
                return ""
            else:
                found.append(_TBCD[half])
    return "".join(found)


def address(octets: bytes) -> str:
    """Return an AddressString (TS 29.002): nature of address and plan, then TBCD; `+` where international."""
    return _numbered(octets[0], octets[1:], octets) if len(octets) > 1 else unread(octets)


def directory_number(octets: bytes) -> str:
    """Return a BCDDirectoryNumber (TS 32.298, the form of TS 24.008): the same, maybe with an octet 3a."""
    rest = octets[1:] if octets[:1] >= b"\x80" else octets[2:]
    return _numbered(octets[0], rest, octets) if rest else unread(octets)


def sms_address(octets: bytes) -> str:
    """Return an address field of TS 23.040: its length in digits, type of address, digits or letters.

    Some exchanges leave the length out: a type of address has the highest bit set, a length never.
    """
    if not octets:
        return unread(octets)
    count = None
    rest = octets
    if octets[0] < _EXTENSION:
        count, rest = octets[0], octets[1:]
    if len(rest) < _SMS_OCTETS_MIN or (count is not None and (count + 1) // 2 != len(rest) - 1):
        return unread(octets)
    if rest[0] >> 4 & 7 == _ALPHANUMERIC:
        return _letters(rest[1:], count) or unread(octets)
    return _numbered(rest[0], rest[1:], octets)


def _numbered(kind: int, digits: bytes, whole: bytes) -> str:
    found = _digits(digits, first=0)
    if not found:
        return unread(whole)
    return f"+{found}" if kind >> 4 & 7 == _INTERNATIONAL else found


def _letters(packed: bytes, halves: int | None) -> str:
    bits = int.from_bytes(packed, "little")
    count = len(packed) * 8 // 7 if halves is None else halves * 4 // 7
    return "".join(_SEPTETS[bits >> 7 * place & 0x7F] for place in range(count)).strip("\0@ ")


def time_stamp(octets: bytes) -> str:
    """Return a TimeStamp (TS 32.298) as RFC 3339: YYMMDDhhmmss in BCD, `+` or `-`, hhmm; of this century."""
    sign = _SIGNS.get(octets[6]) if len(octets) == _TIME_OCTETS else None
    digits = octets[:6].hex() + octets[7:].hex()
    if sign is None or not digits.isdecimal():
        return unread(octets)
    year, month, day, hour, minute, second, ahead, minutes = re.findall("..", digits)
    return _real(f"20{year}-{month}-{day}T{hour}:{minute}:{second}{sign}{ahead}:{minutes}") or unread(octets)


_LOCAL = re.compile("([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")
_OFFSET = re.compile("([+-][0-9]{2})([0-9]{2})")


def local_time(stamp: str, offset: str | None) -> str:
    """Return a LocalTimeStamp of TAP (YYYYMMDDhhmmss) with its UTC offset (`+0100`) as RFC 3339.

    offset: None where the file has none of the code. What is no time comes back with what is wrong with it.
    """
    if offset is None:
        return f"{stamp} without a UTC offset"
    time, ahead = _LOCAL.fullmatch(stamp), _OFFSET.fullmatch(offset)
    if time is None or ahead is None:
        return f"{stamp} {offset}"
    year, month, day, hour, minute, second = time.groups()
    made = f"{year}-{month}-{day}T{hour}:{minute}:{second}{ahead[1]}:{ahead[2]}"
    return _real(made) or f"{stamp} {offset}"


def _real(made: str) -> str | None:
    """Return a time that there is."""
    try:
        datetime.fromisoformat(made)
    except ValueError:  # 30 February, an offset of 25 hours
        return None
    return made


def plmn(octets: bytes) -> str:
    """Return the digits of a PLMN-Id (TS 24.008): country code, three, then network code, two or three."""
    if len(octets) != _PLMN_OCTETS:
        return unread(octets)
    a, b, c = octets.hex()[0:2], octets.hex()[2:4], octets.hex()[4:6]
    country, network = a[1] + a[0] + b[1], c[1] + c[0] + b[0]
    digits = country + network.removesuffix("f")
    return digits if digits.isdecimal() else unread(octets)


def ip(octets: bytes) -> str:
    """Return an IP address of 4 or 16 octets."""
    try:
        return str(ipaddress.ip_address(octets))
    except ValueError:
        return unread(octets)
