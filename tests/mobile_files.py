"""Files of mobile networks, made by pycrate's own encoder, as TD.57, TS 32.297 and TS 32.298 describe them.

Numbers are those that are kept for documentation or are nobody's; networks are test networks (001-01, code
TESTN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycrate_asn1dir import CDR
from pycrate_asn1dir.TAP3 import TAP_0312

IMSI, MSISDN, DIALLED = "001010123456789", "12025550101", "380441234567"
SENDER = "TSTN1"
ZONE = "8483847849"
"""The sender as the digits that a rate table has: T, S, T, N, 1 in ASCII."""
DAY = "20261103"

Event = tuple[str, dict[str, Any]]


def bcd(digits: str) -> bytes:
    """Return a BCDString of TAP."""
    return bytes.fromhex(digits + "f" * (len(digits) % 2))


def tbcd(digits: str) -> bytes:
    """Return a TBCD-STRING of MAP."""
    return bytes(octet >> 4 | (octet & 0xF) << 4 for octet in bcd(digits))


def address(digits: str, kind: int = 0x91) -> bytes:
    """Return an AddressString; kind 0x91: international, 0xa1: national, of the telephone numbering plan."""
    return bytes([kind]) + tbcd(digits)


def stamp(clock: str, offset: str = "+0000") -> bytes:
    """Return a TimeStamp of TS 32.298 of the day; clock: hhmmss."""
    return bytes.fromhex(DAY[2:] + clock) + offset[:1].encode() + bytes.fromhex(offset[1:])


# TAP


def local(clock: str, code: int = 0) -> dict[str, Any]:
    """Return a local time of TAP of the day."""
    return {"localTimeStamp": f"{DAY}{clock}".encode(), "utcTimeOffsetCode": code}


def sim(imsi: str = IMSI) -> tuple[str, dict[str, Any]]:
    """Return a chargeable subscriber."""
    return "simChargeableSubscriber", {"imsi": bcd(imsi), "msisdn": bcd(MSISDN)}


def _place(reference: str) -> dict[str, Any]:
    network = {"recEntityCode": 1, **({"callReference": bytes.fromhex(reference)} if reference else {})}
    return {"networkLocation": network}


def _used(tele_service: str) -> list[dict[str, Any]]:
    details = [{"chargeType": b"00", "charge": 1500, "chargeableUnits": 65, "chargedUnits": 65}]
    return [
        {
            "basicService": {"serviceCode": ("teleServiceCode", tele_service.encode())},
            "chargeInformationList": [
                {"chargedItem": b"D", "exchangeRateCode": 3, "chargeDetailList": details}
            ],
        }
    ]


def mo_call(reference: str = "00a1", seconds: int = 65, clock: str = "110000", **basic: Any) -> Event:
    """Return a call that a subscriber made abroad."""
    return "mobileOriginatedCall", {
        "basicCallInformation": {
            "chargeableSubscriber": sim(),
            "destination": {"calledNumber": bcd(DIALLED), "dialledDigits": b"00380441234567"},
            "callEventStartTimeStamp": local(clock),
            "totalCallEventDuration": seconds,
            "causeForTerm": 0,
            **basic,
        },
        "locationInformation": _place(reference),
        "basicServiceUsedList": _used("11"),
    }


def mt_call(reference: str = "00b1", seconds: int = 61) -> Event:
    """Return a call that a subscriber took abroad."""
    return "mobileTerminatedCall", {
        "basicCallInformation": {
            "chargeableSubscriber": sim(),
            "callOriginator": {"callingNumber": bcd("442079460123")},
            "callEventStartTimeStamp": local("111000"),
            "totalCallEventDuration": seconds,
        },
        "locationInformation": _place(reference),
        "basicServiceUsedList": _used("11"),
    }


def mo_sms(reference: str = "00c1") -> Event:
    """Return a short message that a subscriber sent abroad."""
    name, event = mo_call(
        reference,
        0,
        "112000",
        destination={"calledNumber": bcd("12025550199"), "sMSDestinationNumber": b"00380501234567"},
    )
    return name, {**event, "basicServiceUsedList": _used("22")}


def gprs(charging_id: int = 77, incoming: int = 2_000_000, outgoing: int = 500_001) -> Event:
    """Return a data session of a subscriber abroad."""
    return "gprsCall", {
        "gprsBasicCallInformation": {
            "gprsChargeableSubscriber": {"chargeableSubscriber": sim()},
            "callEventStartTimeStamp": local("113000"),
            "totalCallEventDuration": 600,
            "partialTypeIndicator": b"T",
            "chargingId": charging_id,
        },
        "gprsLocationInformation": {"gprsNetworkLocation": {"recEntity": [1, 2]}},
        "gprsServiceUsed": {"dataVolumeIncoming": incoming, "dataVolumeOutgoing": outgoing},
    }


def supplementary() -> Event:
    """Return an event that is no call, message or data session."""
    return "supplServiceEvent", {
        "chargeableSubscriber": sim(),
        "supplServiceUsed": {"supplServiceCode": b"21"},
    }


def event(given: Event) -> bytes:
    """Return a call event as BER."""
    TAP_0312.CallEventDetail.set_val(given)
    return bytes(TAP_0312.CallEventDetail.to_ber())


def _part(kind: Any, value: dict[str, Any]) -> bytes:
    kind.set_val(value)
    return bytes(kind.to_ber())


def constructed(head: bytes, contents: bytes, *, is_indefinite: bool = False) -> bytes:
    """Return an element of these contents."""
    if is_indefinite:
        return head + b"\x80" + contents + b"\0\0"
    size = len(contents)
    return head + (bytes([size]) if size < 0x80 else b"\x84" + size.to_bytes(4, "big")) + contents


def tap_heads(number: int = 1, **control: Any) -> bytes:
    """Return what stands before a file's events."""
    return (
        _part(TAP_0312.BatchControlInfo, {
            "sender": SENDER.encode(), "recipient": b"HOMEN", "fileSequenceNumber": f"{number:05}".encode(),
            "fileCreationTimeStamp": {"localTimeStamp": f"{DAY}120000".encode(), "utcTimeOffset": b"+0100"},
            "specificationVersionNumber": 3, "releaseVersionNumber": 12, **control,
        })
        + _part(TAP_0312.AccountingInfo, {
            "localCurrency": b"EUR", "tapCurrency": b"SDR", "tapDecimalPlaces": 3,
            "currencyConversionInfo": [
                {"exchangeRateCode": 3, "numberOfDecimalPlaces": 5, "exchangeRate": 118_000},
            ],
        })
        + _part(TAP_0312.NetworkInfo, {
            "utcTimeOffsetInfo": [{"utcTimeOffsetCode": 0, "utcTimeOffset": b"+0100"}],
            "recEntityInfo": [{"recEntityCode": 1, "recEntityType": 1, "recEntityId": b"12025550100"}],
        })
    )  # fmt: skip


def tap_file(
    events: Sequence[Event | bytes],
    number: int = 1,
    *,
    is_indefinite: bool = False,
    said: int | None = None,
    **control: Any,
) -> bytes:
    """Return a TAP file. said: how many events its end says that it has."""
    inner = b"".join(one if isinstance(one, bytes) else event(one) for one in events)
    audit = _part(TAP_0312.AuditControlInfo, {"callEventDetailsCount": len(events) if said is None else said})
    listed = constructed(b"\x63", inner, is_indefinite=is_indefinite)
    return constructed(b"\x61", tap_heads(number, **control) + listed + audit, is_indefinite=is_indefinite)


# TS 32.298

RECORDER = address("12025550100")


def mo_record(reference: str = "0a1b", **fields: Any) -> bytes:
    """Return an MSC's record of a call that a subscriber made; a field of None is left out."""
    return _cs("moCallRecord", {
        "recordType": 0, "servedIMSI": tbcd(IMSI), "servedMSISDN": address(MSISDN),
        "callingNumber": address(MSISDN), "calledNumber": address(DIALLED), "recordingEntity": RECORDER,
        "location": {"locationAreaCode": b"\0\1", "cellId": b"\0\2"},
        "seizureTime": stamp("100000"), "answerTime": stamp("100005"), "releaseTime": stamp("100110"),
        "callDuration": 65, "causeForTerm": 0, "diagnostics": ("gsm0408Cause", 16),
        "callReference": bytes.fromhex(reference), **fields,
    })  # fmt: skip


def mt_record(**fields: Any) -> bytes:
    """Return an MSC's record of a call that a subscriber took."""
    return _cs("mtCallRecord", {
        "recordType": 1, "servedIMSI": tbcd(IMSI), "servedMSISDN": address(MSISDN),
        "callingNumber": address("442079460123"), "recordingEntity": RECORDER, "seizureTime": stamp("101000"),
        "answerTime": stamp("101003"), "releaseTime": stamp("101104"), "callDuration": 61, "causeForTerm": 0,
        "callReference": b"\x0c\x01", **fields,
    })  # fmt: skip


def sms_record(**fields: Any) -> bytes:
    """Return an MSC's record of a short message that a subscriber sent."""
    return _cs("moSMSRecord", {
        "recordType": 6, "servedIMSI": tbcd(IMSI), "servedMSISDN": address(MSISDN),
        "msClassmark": b"\x33\x19\x81", "serviceCentre": address("12025550198"), "recordingEntity": RECORDER,
        "messageReference": b"\x2a", "originationTime": stamp("112000", "+0100"),
        "destinationNumber": b"\x0c\x91" + tbcd("380501234567"),
        **fields,
    })  # fmt: skip


def trunk_record() -> bytes:
    """Return an MSC's record of the same call at the trunk that it left by."""
    return _cs("outGatewayRecord", {
        "recordType": 4, "callingNumber": address(MSISDN), "calledNumber": address(DIALLED),
        "recordingEntity": RECORDER, "seizureTime": stamp("100000"), "answerTime": stamp("100005"),
        "releaseTime": stamp("100110"), "callDuration": 65, "causeForTerm": 0, "callReference": b"\x0a\x1b",
    })  # fmt: skip


def session_record(name: str = "pGWRecord", **fields: Any) -> bytes:
    """Return a gateway's record of a data session; `sGWRecord` has its own address besides."""
    gateway = ("iPBinaryAddress", ("iPBinV4Address", bytes([192, 0, 2, 7])))
    value = {
        "recordType": 85, "servedIMSI": tbcd(IMSI), "p-GWAddress": gateway, "chargingID": 4711,
        "servingNodeAddress": [gateway], "accessPointNameNI": "internet", "servedMSISDN": address(MSISDN),
        "listOfTrafficVolumes": [traffic(1_000_000, 200_000), traffic(1_000_000, 300_001)],
        "recordOpeningTime": stamp("113000", "+0100"), "duration": 600, "causeForRecClosing": 0,
        "recordSequenceNumber": 1, "localSequenceNumber": 9,
        "servingNodePLMNIdentifier": bytes.fromhex("00f110"),
        "servingNodeType": ["mME"], "chargingCharacteristics": b"\x08\0",
        **fields,
    }  # fmt: skip
    if name == "sGWRecord":
        value |= {"recordType": 84, "s-GWAddress": value.pop("p-GWAddress")}
    kind = CDR.GPRSChargingDataTypes.GPRSRecord
    kind.set_val((name, {field: one for field, one in value.items() if one is not None}))
    return bytes(kind.to_ber())


def traffic(down: int, up: int) -> dict[str, Any]:
    """Return a container of a session."""
    return {
        "dataVolumeGPRSUplink": up, "dataVolumeGPRSDownlink": down, "changeCondition": "recordClosure",
        "changeTime": stamp("114000", "+0100"),
    }  # fmt: skip


def _cs(name: str, fields: dict[str, Any]) -> bytes:
    kind = CDR.CSChargingDataTypes.CSRecord
    kind.set_val((name, {field: one for field, one in fields.items() if one is not None}))
    return bytes(kind.to_ber())


def framed(records: Sequence[bytes], *, said: int | None = None, release: int = 3, coding: int = 1) -> bytes:
    """Return a file of TS 32.297. release: 7 has an octet more; coding: 1 is BER."""
    extension = b"\x09" if release == 7 else b""
    parts = [
        len(one).to_bytes(2, "big") + bytes([release << 5 | 2, coding << 5 | 7]) + extension + one
        for one in records
    ]
    body = b"".join(parts)
    count = len(records) if said is None else said
    head = (
        (54 + len(body)).to_bytes(4, "big") + (54).to_bytes(4, "big") + bytes([release << 5, release << 5])
        + bytes(8) + count.to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\1" + bytes(20) + b"\0" + bytes(6)
    )  # fmt: skip
    return head + body
