"""Files of 3GPP TS 32.298 records: bare, one after the other, or in files of TS 32.297, each with a header.

Read are the records of the CS and PS domains that pycrate has, and those of a GGSN, which it has no more:
they have the numbers of fields that the records of a P-GW, made from them, have kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from typing import Any

from rater.mobile.ber import Broken, Window, header, identifier, tag_of
from rater.mobile.types import Take, Types
from rater.mobile.walking import Found, Lost, Walk

_CONTEXT = 2
_GGSN, _EGGSN = tag_of(21, _CONTEXT), tag_of(70, _CONTEXT)
_TYPES_OF_GGSN = {"ggsnPDPRecord": 19, "egsnPDPRecord": 70}  # releases before 8
_TYPE_NAMES = {"transitRecord": "transitCallRecord"}
_EXTENSIONS = tag_of(
    15, 2
)  # recTypeExtensions: a maker's own kinds of records, with no fields that are agreed on
_CLASS_AND_FORM, _CONTEXT_CONSTRUCTED = 0xE0, 0xA0
_FILLER = b"\0\xff"
_SERVICES = {
    "moCallRecord": "calls", "mtCallRecord": "calls",
    "moSMSRecord": "messages", "mtSMSRecord": "messages",
    "sgsnSMORecord": "messages", "sgsnSMTRecord": "messages",
    "sgsnPDPRecord": "data", "ggsnPDPRecord": "data", "egsnPDPRecord": "data", "sGWRecord": "data",
    "pGWRecord": "data", "ePDGRecord": "data", "tWAGRecord": "data",
}  # fmt: skip
_TAKEN = ("mtCallRecord", "mtSMSRecord", "sgsnSMTRecord")
_SUBSCRIBER = (("imsi", "servedIMSI"), ("msisdn", "servedMSISDN"))
_VOLUMES = {
    "listOfTrafficVolumes": ("dataVolumeGPRSUplink", "dataVolumeGPRSDownlink"),
    "listOfServiceData": ("datavolumeFBCUplink", "datavolumeFBCDownlink"),
}
"""Containers of a session's volumes, and their names of both ways: of the bearer, else of its services."""

# TS 32.297, 6.1
_FILE_HEADER_OCTETS_MIN, _FILE_HEADER_OCTETS_MAX = 50, 50 + 2 * 65_535 + 4
_COUNT_AT, _UNKNOWN = 18, 0xFFFF_FFFF
_CDR_HEADER_OCTETS = 4
_RELEASE_EXTENDED = 7  # of three bits: the release stands in an octet of its own
_BER = 1
_FORMATS = {2: "unaligned PER", 3: "aligned PER", 4: "XER"}


class CdrFile:
    """One file of CDRs, read from the window's first octet."""

    def __init__(self, window: Window, tell: Callable[[str], None]) -> None:
        """tell: is told a sentence for what is wrong with the file as a whole."""
        from pycrate_asn1dir import CDR  # noqa: PLC0415 - an extra, and it takes two seconds

        table, self._numbers = _readers(CDR)
        self._walk = Walk(window, table, map(identifier, table), self._is_record)
        self._window = window
        self._tell = tell
        self._count = 0
        self._header_size = _CDR_HEADER_OCTETS

    def parts(self) -> Iterator[Found | Lost]:
        """Yield records and what cannot be read. Raises ValueError where this is no such file at all."""
        held = self._window.ahead(_COUNT_AT + 4)
        if _has_file_header(held):
            yield from self._framed()
            return
        try:
            tag = header(held, 0, len(held)).tag
        except Broken:
            tag = 0
        if tag & 3 != _CONTEXT:
            what = f"0x{bytes(held[:4]).hex()}" if held else "nothing"
            msg = f"begins with {what}: neither a record of TS 32.298 nor the header of a file of TS 32.297"
            raise ValueError(msg)
        yield from self._bare()

    def about(self, found: Found) -> dict[str, Any]:
        """Return what the kind of the record says of it: service, pieces, volume, digest, place."""
        service = _SERVICES.get(found.name)
        told: dict[str, Any] = {}
        if service is not None:
            told["service"] = service
            known = {name: found.value.get(field) for name, field in _SUBSCRIBER}
            told["term" if found.name in _TAKEN else "orig"] = {
                name: one for name, one in known.items() if one
            }
        if service == "messages":
            told["pieces"] = 1
        elif service == "data" and (volume := _volume(found.value)) is not None:
            told["volume"] = volume
        digest = blake2b(found.octets, digest_size=16).hexdigest()
        return {**told, "digest": digest, "file": {"place": self._count}}

    def _is_record(self, name: str, value: dict[str, Any]) -> bool:
        return "recordType" in value and value["recordType"] == self._numbers[_TYPE_NAMES.get(name, name)]

    def _bare(self) -> Iterator[Found | Lost]:
        window = self._window
        while held := window.ahead(1):
            if held[0] not in _FILLER or not window.skip(_FILLER):
                yield self._record()

    def _framed(self) -> Iterator[Found | Lost]:
        """Read a file of TS 32.297: its header, then records with a header before each."""
        window = self._window
        head = window.take(int.from_bytes(window.ahead(8)[4:8], "big"))
        said = int.from_bytes(head[_COUNT_AT : _COUNT_AT + 4], "big")
        while window.ahead(1):
            found = self._next_framed()
            if found is not None:
                yield found
        if said not in (_UNKNOWN, self._count):
            self._tell(f"says that it has {said} records; {self._count} were found")

    def _next_framed(self) -> Found | Lost | None:
        """Take a record and its header: length, release, format; one octet more from release 10 on."""
        window = self._window
        held = window.ahead(_CDR_HEADER_OCTETS)
        if not any(held[:_CDR_HEADER_OCTETS]):
            window.take(1)
            return None
        head = bytes(held[:_CDR_HEADER_OCTETS]).ljust(_CDR_HEADER_OCTETS, b"\0")
        length, release, coding = int.from_bytes(head[:2], "big"), head[2] >> 5, head[3] >> 5
        if coding not in (_BER, *_FORMATS):
            self._count += 1
            return self._walk.lost("where a record's header belongs stands none", before=self._header_size)
        self._header_size = _CDR_HEADER_OCTETS + (release == _RELEASE_EXTENDED)
        if coding in _FORMATS:
            self._count += 1
            why = f"a record in the format {_FORMATS[coding]}; BER alone is read"
            return self._walk.passed(why, self._header_size + length)
        return self._record(self._header_size)

    def _record(self, before: int = 0) -> Found | Lost:
        self._count += 1
        return self._walk.record(before)


def _has_file_header(held: bytes | bytearray) -> bool:
    """Return whether a file begins with the header of TS 32.297: two lengths, its own within the file's."""
    if len(held) < _COUNT_AT + 4 or held[0] & _CLASS_AND_FORM == _CONTEXT_CONSTRUCTED:
        return False
    length, own = int.from_bytes(held[:4], "big"), int.from_bytes(held[4:8], "big")
    return _FILE_HEADER_OCTETS_MIN <= own <= min(_FILE_HEADER_OCTETS_MAX, length)


@cache
def _readers(module: Any) -> tuple[dict[int, Take], dict[str, int]]:
    """Return the readers of records by tag, and the recordType of each name."""
    types = Types()
    table = types.table(module.CSChargingDataTypes.CSRecord)
    table |= types.table(module.GPRSChargingDataTypes.GPRSRecord)
    del table[_EXTENSIONS]
    gateway = types.take(module.GPRSChargingDataTypes.PGWRecord)
    table[_GGSN], table[_EGGSN] = _named("ggsnPDPRecord", gateway), _named("egsnPDPRecord", gateway)
    numbers = module.GenericChargingDataTypes.RecordType._cont  # noqa: SLF001 - pycrate's own name
    return table, {**dict(numbers.items()), **_TYPES_OF_GGSN}


def _named(name: str, take: Take) -> Take:
    return lambda octets, one: {name: take(octets, one)}


def _volume(record: dict[str, Any]) -> dict[str, int] | None:
    """Return the octets of a session in both directions, summed over its containers; None: it has none."""
    for name, ways in _VOLUMES.items():
        if containers := record.get(name):
            up, down = (sum(one.get(way, 0) for one in containers) for way in ways)
            return {"uplink": up, "downlink": down}
    return None
