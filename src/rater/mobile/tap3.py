"""Files of TAP 3 (GSMA TD.57): what a DataInterChange says of itself, and its call events, one by one.

Containers are entered and their ends are not waited for: a file whose lengths are wrong or indefinite, and
several files in one, are read alike. Of the file's tables, what an event names by a code is put in the place
of the code or beside it: times become texts with their offset, recording entities and exchange rates are
named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from rater.mobile import values
from rater.mobile.ber import Broken, Window, element, header, identifier, tag_name, tag_of
from rater.mobile.types import Take, Types
from rater.mobile.walking import Found, Lost, Walk

_TRANSFER_BATCH, _NOTIFICATION, _CALL_EVENTS, _BATCH_CONTROL, _ACCOUNTING, _NETWORK, _MESSAGES, _AUDIT = (
    tag_of(number, 1) for number in (1, 2, 3, 4, 5, 6, 8, 15)
)
_CONTAINERS = (_TRANSFER_BATCH, _NOTIFICATION, _CALL_EVENTS)
_FILLER = b"\0\n\r\x1a \xff"  # ends of indefinite lengths, and what the last block of a file is filled with
_HEADER_OCTETS_MAX = 16
_MESSAGE_CODES = ("20", "21", "22")  # tele services of TD.57: short messages, those taken, those sent
_SERVICES = {
    "mobileOriginatedCall": "calls", "mobileTerminatedCall": "calls", "mobileSession": "calls",
    "messagingEvent": "messages", "gprsCall": "data",
}  # fmt: skip
_OF_FILE = (
    "sender", "recipient", "fileSequenceNumber", "rapFileSequenceNumber", "fileTypeIndicator",
    "fileCreationTimeStamp", "specificationVersionNumber", "releaseVersionNumber",
)  # fmt: skip
_OF_MONEY = ("tapCurrency", "localCurrency", "tapDecimalPlaces")
_STAMP, _CODE, _OFFSET = "localTimeStamp", "utcTimeOffsetCode", "utcTimeOffset"


class TapFile:
    """One TAP file, read from the window's first octet."""

    def __init__(self, window: Window, tell: Callable[[str], None]) -> None:
        """tell: is told a sentence for what is wrong with the file as a whole."""
        from pycrate_asn1dir.TAP3 import TAP_0312  # noqa: PLC0415 - an extra, and it takes a moment

        table, self._heads = _readers(TAP_0312)
        self._events = frozenset(table)
        self._walk = Walk(window, table, map(identifier, table), lambda _, value: bool(value))
        self._window = window
        self._tell = tell
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._is_open = False
        self._file: dict[str, Any] = {}
        self._tables = Tables()

    def parts(self) -> Iterator[Found | Lost]:
        """Yield call events and what cannot be read. Raises ValueError where this is no TAP file at all."""
        window = self._window
        first = bytes(window.ahead(2)[:1])
        if first not in (b"\x61", b"\x62"):
            what = f"0x{first.hex()}" if first else "nothing"
            msg = f"begins with {what}; a TAP 3 file begins with 0x61 (transfer batch) or 0x62 (notification)"
            raise ValueError(msg)
        while held := window.ahead(_HEADER_OCTETS_MAX):
            if held[0] in _FILLER and window.skip(_FILLER):
                continue
            try:
                tag, _, _, size = header(held, 0, len(held))
            except Broken as broken:
                yield self._walk.lost(f"{broken.why} (octet {window.offset + broken.at})")
                continue
            if tag in _CONTAINERS:
                self._enter(tag, window.offset)
                window.take(size)
            elif tag in self._events:
                yield self._event()
            else:
                yield from self._aside(tag)
        self._close()

    def _event(self) -> Found | Lost:
        self._count += 1
        found = self._walk.record()
        return found if isinstance(found, Lost) else found._replace(value=self._tables.named(found.value))

    def about(self, found: Found) -> dict[str, Any]:
        """Return what file and kind of an event say of it: service, pieces, subscriber, zone, file."""
        service = _service(found.name, found.value)
        told: dict[str, Any] = {}
        if service is not None:
            told["service"] = service
        if service == "messages":
            told["pieces"] = 1
        side = _side(found.name, found.value)
        if side is not None:
            told[side] = _subscriber(found.value)
            if (side == "term" or service == "data") and "sender" in self._file:
                told["zone"] = _zone(self._file["sender"])
        return {**told, "file": {**self._file, "place": self._count}}

    def _enter(self, tag: int, offset: int) -> None:
        if tag == _CALL_EVENTS:
            return
        self._close()
        self._begin()
        self._is_open = tag == _TRANSFER_BATCH
        if not self._is_open:
            self._tell(f"octet {offset}: a notification, which says that there are no call events")

    def _close(self) -> None:
        if self._is_open:
            self._tell(f"ends at octet {self._window.offset} without auditControlInfo: it was cut off")

    def _aside(self, tag: int) -> Iterator[Lost]:
        """Take what is no call event: what the file says of itself, else what is not known."""
        window = self._window
        try:
            size = window.size_of_next()
            octets = window.ahead(size)
            take = self._heads.get(tag)
            if take is None and tag != _MESSAGES:
                yield self._walk.lost(f"{tag_name(tag)} is nothing that TAP 3.12 knows", size)
                return
            self._walk.check(octets, 0, size)
            if take is not None:
                self._keep(tag, take(octets, element(octets, 0, size)))
            window.take(size)
        except Broken as broken:
            yield self._walk.lost(f"{broken.why} (octet {window.offset + broken.at})")

    def _keep(self, tag: int, value: dict[str, Any]) -> None:
        if tag == _BATCH_CONTROL:
            self._file |= {name: self._tables.named(value[name]) for name in _OF_FILE if name in value}
        elif tag == _ACCOUNTING:
            self._file |= {name: value[name] for name in _OF_MONEY if name in value}
            self._tables.rates = _by(value.get("currencyConversionInfo", ()), "exchangeRateCode")
        elif tag == _NETWORK:
            self._tables.offsets = _by(value.get("utcTimeOffsetInfo", ()), _CODE)
            self._tables.entities = _by(value.get("recEntityInfo", ()), "recEntityCode")
        else:
            self._is_open = False
            said = value.get("callEventDetailsCount")
            if said is not None and said != self._count:
                self._tell(f"says that it has {said} call events; {self._count} were found")


@cache
def _readers(module: Any) -> tuple[dict[int, Take], dict[int, Take]]:
    """Return the readers of call events, and of what a file says of itself, by tag."""
    types = Types()
    kinds = (module.BatchControlInfo, module.AccountingInfo, module.NetworkInfo, module.AuditControlInfo)
    return types.table(module.CallEventDetail), {
        tag: take for kind in kinds for tag, take in types.table(kind).items()
    }


class Tables:
    """What a file's events name by codes."""

    def __init__(self) -> None:
        self.offsets: dict[object, dict[str, Any]] = {}
        self.entities: dict[object, dict[str, Any]] = {}
        self.rates: dict[object, dict[str, Any]] = {}

    def named(self, value: Any) -> Any:
        """Return a value of an event with times as texts, and what its codes name beside them."""
        if isinstance(value, list):
            return [self.named(one) for one in value]
        if not isinstance(value, dict):
            return value
        if _STAMP in value and value.keys() <= {_STAMP, _CODE, _OFFSET}:
            given = value if _OFFSET in value else self.offsets.get(value.get(_CODE), {})
            return values.local_time(value[_STAMP], given.get(_OFFSET))
        made = {name: self.named(one) for name, one in value.items()}
        entity = self.entities.get(value.get("recEntityCode"))
        if entity is not None and "recEntityId" in entity:
            made["recEntityId"] = entity["recEntityId"]
        rate = self.rates.get(value.get("exchangeRateCode"))
        if rate is not None:
            made["currencyConversion"] = {
                name: one for name, one in rate.items() if name != "exchangeRateCode"
            }
        return made


def _by(rows: Any, code: str) -> dict[object, dict[str, Any]]:
    """Return a file's table by its codes."""
    return {row[code]: row for row in rows if code in row}


def _service(name: str, event: dict[str, Any]) -> str | None:
    """Return the service of an event; None: it is no call, message or data session."""
    if name in ("mobileOriginatedCall", "mobileTerminatedCall"):
        used = event.get("basicServiceUsedList") or [{}]
        code = used[0].get("basicService", {}).get("serviceCode", {}).get("teleServiceCode")
        return "messages" if code in _MESSAGE_CODES else "calls"
    return _SERVICES.get(name)


def _side(name: str, event: dict[str, Any]) -> str | None:
    """Return whether the subscriber made (orig) or took (term) what it tells of; None: it does not say it.

    That of sessions and messages of IMS stands in a code whose values are the partners' to know.
    """
    if name in ("mobileOriginatedCall", "gprsCall") or (
        name == "mobileSession" and "requestedDestination" in event
    ):
        return "orig"
    return "term" if name == "mobileTerminatedCall" else None


def _subscriber(event: dict[str, Any]) -> dict[str, str]:
    """Return imsi and msisdn of the subscriber, as far as the event has them, or min and mdn as such."""
    basic = event.get("basicCallInformation") or event.get("gprsBasicCallInformation", {})
    party = basic.get("chargeableSubscriber") or basic.get("gprsChargeableSubscriber", {}).get(
        "chargeableSubscriber"
    )
    (known,) = (party or {"": event.get("chargedParty", {})}).values()
    names = {"imsi": "imsi", "msisdn": "msisdn", "min": "imsi", "mdn": "msisdn"}
    return {name: known[given] for given, name in names.items() if given in known}


def _zone(network: str) -> str:
    """Return a network's code as digits, as rate tables have them: of each character its ASCII code."""
    return "".join(f"{octet:02}" for octet in network.upper().encode("ascii", "replace"))
