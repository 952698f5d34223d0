"""Types of the compiled ASN.1 modules (pycrate), as readers of BER contents into plain values.

A SEQUENCE or SET becomes a dict by the names of ASN.1, a SEQUENCE OF a list, a CHOICE a dict of one member
(an IP address a text), an ENUMERATED its name; OCTET STRINGs become texts by the name of their type
(`values.py`), hexadecimal where the type has no rule of its own. Of pycrate nothing but the description of
types is used: its own decoder takes all that follows an unknown field for unknown too, and refuses a SET that
has one (decision 0090).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rater.mobile import values
from rater.mobile.ber import Broken, Element, Octets, element, tag_name, tag_of

# ruff: noqa: SLF001 - _cont, _tagc, _tr and _typeref are what pycrate has of a type, and it has no other names for it

Take = Callable[[Octets, Element], Any]
"""(octets, the element in them) → the value of its contents. Raises Broken."""

UNKNOWN = "unknown"
"""Member with what a type does not know, such as fields of a newer release: a list of tag and contents."""

_UNKNOWN_OCTETS_MAX = 256  # of each that are shown; nothing is read from them
_SEGMENTS_DEPTH_MAX = 4
_INTEGER_OCTETS_MAX = 16  # far above any count; bounds what JSON writes out
_IP_ADDRESS = "IPAddress"
_OF_OCTETS: dict[str, Callable[[bytes], str]] = {
    "TBCD-STRING": values.tbcd,
    "AddressString": values.address,
    "BCDDirectoryNumber": values.directory_number,
    "SmsTpDestinationNumber": values.sms_address,
    "TimeStamp": values.time_stamp,
    "PLMN-Id": values.plmn,
    "MCC-MNC": values.plmn,
    "IPBinV4Address": values.ip,
    "IPBinV6Address": values.ip,
    "DiameterIdentity": values.text,
    "BCDString": values.bcd,
    "AsciiString": values.text,
    "NumberString": values.text,
    "HexString": values.text,
    "Currency": values.text,
}
"""Name of a type, or of one that it is made of → how its octets are read."""


class Types:
    """Readers of the types of one ASN.1 module, each made when it is wanted first."""

    def __init__(self) -> None:
        self._made: dict[int, Take] = {}

    def take(self, kind: Any) -> Take:
        """Return the reader of a type's contents. kind: an object of pycrate."""
        made = self._made.get(id(kind))
        if made is None:
            made = self._made[id(kind)] = self._contents(kind)
        return made

    def table(self, kind: Any) -> dict[int, Take]:
        """Return tag → reader, of each tag that a value of the type may begin with."""
        chain = [tag_of(number, class_) for class_, number in kind._tagc]
        if not chain:
            return self._alternatives(kind) if kind.TYPE == "CHOICE" else {}
        take = self.take(kind)
        for inner in reversed(chain[1:]):
            take = _unwrapped(inner, take)
        return {chain[0]: take}

    def _alternatives(self, kind: Any) -> dict[int, Take]:
        is_flat = _IP_ADDRESS in _names(kind)
        return {
            tag: _alternative(name, take, is_flat=is_flat)
            for name, one in (kind._cont or {}).items()
            for tag, take in self.table(one).items()
        }

    def _contents(self, kind: Any) -> Take:
        parts: Any = getattr(kind, "_cont", None)
        match kind.TYPE:
            case "SEQUENCE" | "SET" if parts is not None:
                named = ((name, self.table(one)) for name, one in parts.items())
                return _members({tag: (name, take) for name, table in named for tag, take in table.items()})
            case "SEQUENCE OF" | "SET OF" if parts is not None:
                return _items(self.table(parts))
            case "CHOICE":
                return _chosen(self._alternatives(kind))
            case "ENUMERATED":
                return _enumerated({number: name for name, number in parts.items()})
            case "OCTET STRING":
                rules = [_OF_OCTETS[name] for name in _names(kind) if name in _OF_OCTETS]
                return _octets(rules[0] if rules else values.hexadecimal)
        return _PLAIN.get(kind.TYPE, _octets(values.hexadecimal))


def _names(kind: Any) -> list[str]:
    """Return the names of the types that a type is made of, the nearest first."""
    found: list[str] = []
    while kind is not None and kind._typeref is not None:
        called = getattr(kind._typeref, "called", None)
        if called:
            found.append(called[-1])
        kind = kind._tr
    return found


def _members(fields: dict[int, tuple[str, Take]]) -> Take:
    def take(octets: Octets, whole: Element) -> dict[str, Any]:
        found: dict[str, Any] = {}
        at, end = whole.begin, whole.end
        while at < end:
            one = element(octets, at, end)
            field = fields.get(one.tag)
            if field is None:
                found.setdefault(UNKNOWN, []).append(_unknown(octets, one))
            elif field[0] in found:
                raise Broken(at, f"{field[0]} comes twice")
            else:
                found[field[0]] = field[1](octets, one)
            at = one.next
        return found

    return take


def _items(table: dict[int, Take]) -> Take:
    def take(octets: Octets, whole: Element) -> list[Any]:
        found: list[Any] = []
        at, end = whole.begin, whole.end
        while at < end:
            one = element(octets, at, end)
            item = table.get(one.tag)
            if item is None:
                raise Broken(at, f"{tag_name(one.tag)} is no item of the list")
            found.append(item(octets, one))
            at = one.next
        return found

    return take


def _chosen(table: dict[int, Take]) -> Take:
    def take(octets: Octets, whole: Element) -> Any:
        one = element(octets, whole.begin, whole.end)
        if one.next != whole.end:
            raise Broken(one.next, "more than one value of a choice")
        chosen = table.get(one.tag)
        return {UNKNOWN: [_unknown(octets, one)]} if chosen is None else chosen(octets, one)

    return take


def _unwrapped(tag: int, take: Take) -> Take:
    def unwrap(octets: Octets, whole: Element) -> Any:
        one = element(octets, whole.begin, whole.end)
        if one.tag != tag or one.next != whole.end:
            raise Broken(whole.begin, f"{tag_name(one.tag)} where {tag_name(tag)} belongs")
        return take(octets, one)

    return unwrap


def _alternative(name: str, take: Take, *, is_flat: bool) -> Take:
    if is_flat:
        return lambda octets, one: _inmost(take(octets, one))
    return lambda octets, one: {name: take(octets, one)}


def _inmost(value: Any) -> Any:
    """Return the text of an IP address: that of version 6 may come with a prefix length."""
    while isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return value


def _unknown(octets: Octets, one: Element) -> dict[str, str]:
    end = min(one.end, one.begin + _UNKNOWN_OCTETS_MAX)
    return {"tag": tag_name(one.tag), "octets": bytes(octets[one.begin : end]).hex()}


def _integer(octets: Octets, one: Element) -> int:
    if one.is_constructed or not 0 < one.end - one.begin <= _INTEGER_OCTETS_MAX:
        raise Broken(one.begin, f"a number of {one.end - one.begin} octets")
    return int.from_bytes(octets[one.begin : one.end], "big", signed=True)


def _enumerated(names: dict[int, str]) -> Take:
    def take(octets: Octets, one: Element) -> str | int:
        number = _integer(octets, one)
        return names.get(number, number)  # one of a newer release has no name here

    return take


def _octets(read: Callable[[bytes], str]) -> Take:
    def take(octets: Octets, one: Element) -> str:
        if one.is_constructed:
            return read(_joined(octets, one, 0))
        return read(bytes(octets[one.begin : one.end]))

    return take


def _joined(octets: Octets, whole: Element, depth: int) -> bytes:
    """Return the octets of a string that comes in segments (X.690, 8.7.3)."""
    if depth > _SEGMENTS_DEPTH_MAX:
        raise Broken(whole.begin, "a string in segments of segments")
    parts: list[bytes] = []
    at = whole.begin
    while at < whole.end:
        one = element(octets, at, whole.end)
        inner = _joined(octets, one, depth + 1) if one.is_constructed else octets[one.begin : one.end]
        parts.append(bytes(inner))
        at = one.next
    return b"".join(parts)


_PLAIN: dict[str, Take] = {
    "INTEGER": _integer,
    "BOOLEAN": lambda octets, one: any(octets[one.begin : one.end]),
    "NULL": lambda *_: True,
    **dict.fromkeys(("IA5String", "UTF8String", "GraphicString", "VisibleString"), _octets(values.text)),
}
"""Types that are read without looking at what they are made of; what is in none of them is hexadecimal."""
