"""Files of mobile networks become records: what is in them, and what becomes of files that are broken."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from pycrate_asn1dir import CDR
from pycrate_asn1dir.TAP3 import TAP_0312

import mobile_files as made
from rater.cli.files import _result
from rater.core.file_forms import unpacked
from rater.core.sources.source_map import Skipped, SourceMap
from rater.mobile.reading import Missing, records
from rater.source_maps import open_map

T = "tap3"
R = "ts32298"


def read(data: bytes, form: str = T) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records of a file, and what is told of it."""
    told: list[str] = []
    return [json.loads(record.raw) for record in records(io.BytesIO(data), form, told.append)], told


def mapped(data: bytes, form: str = T) -> list[Any]:
    """Return what the shipped map makes of each record: a CDR, why it is skipped, or reasons."""
    shipped = open_map(form)
    assert isinstance(shipped, SourceMap)
    ends: list[Any] = []
    for record in records(io.BytesIO(data), form, lambda _: None):
        found = _result(record, shipped)
        if isinstance(found, Skipped):
            ends.append(found.reason)
        else:
            ends.append([str(one.reason) for one in found] if isinstance(found, tuple) else found)
    return ends


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    """Return the name of each record, `fault` of what cannot be read."""
    return ["fault" if "fault" in row else row["record"] for row in rows]


# ------------------------------------------------------------------ TAP


def test_what_a_tap_record_says() -> None:
    """Names of ASN.1, digits, times with their offset, codes resolved from the file's own tables."""
    (row,), told = read(made.tap_file([made.mo_call()]))
    assert told == []
    assert row["file"] == {
        "sender": "TSTN1", "recipient": "HOMEN", "fileSequenceNumber": "00001",
        "fileCreationTimeStamp": "2026-11-03T12:00:00+01:00", "specificationVersionNumber": 3,
        "releaseVersionNumber": 12, "tapCurrency": "SDR", "localCurrency": "EUR", "tapDecimalPlaces": 3,
        "place": 1,
    }  # fmt: skip
    assert row["orig"] == {"imsi": made.IMSI, "msisdn": made.MSISDN}
    event = row["event"]
    assert event["basicCallInformation"]["callEventStartTimeStamp"] == "2026-11-03T11:00:00+01:00"
    assert event["basicCallInformation"]["destination"]["calledNumber"] == made.DIALLED
    assert event["locationInformation"]["networkLocation"] == {
        "recEntityCode": 1, "callReference": "00a1", "recEntityId": "12025550100",
    }  # fmt: skip
    charged = event["basicServiceUsedList"][0]["chargeInformationList"][0]
    assert charged["currencyConversion"] == {"numberOfDecimalPlaces": 5, "exchangeRate": 118_000}
    assert charged["chargeDetailList"][0]["charge"] == 1500


def test_a_call_each_way_a_message_and_a_session_of_tap() -> None:
    """The shipped map: who, whom, when, how much; data by the network visited, in KiB rounded up."""
    call, taken, message, session, other = mapped(
        made.tap_file([made.mo_call(), made.mt_call(), made.mo_sms(), made.gprs(), made.supplementary()])
    )
    assert call == {
        "id": f"TSTN1-mobileOriginatedCall-{made.IMSI}-00a1-1-2026-11-03T11:00:00+01:00", "service": "calls",
        "caller": made.MSISDN, "called": made.DIALLED, "answered_at": 1_793_700_000_000,
        "duration_ms": 65_000, "orig": {"account": made.IMSI},
    }  # fmt: skip
    assert taken["term"] == {"account": made.IMSI}
    assert (taken["caller"], taken["called"], taken["duration_ms"]) == ("442079460123", made.ZONE, 61_000)
    assert (message["service"], message["called"], message["volume"]) == ("messages", "380501234567", 1)
    assert (session["service"], session["called"], session["volume"]) == ("data", made.ZONE, 2442)
    assert other == "no call, message or data session"


def test_without_a_reference_the_place_in_the_file_names_an_event() -> None:
    """Two messages of one second without reference are two; the file again gives the same ids."""
    data = made.tap_file([made.mo_sms(""), made.mo_sms("")], 7)
    first, second = mapped(data)
    assert first["id"] == "TSTN1-HOMEN-00007-2026-11-03T12:00:00+01:00-1"
    assert second["id"] == "TSTN1-HOMEN-00007-2026-11-03T12:00:00+01:00-2"
    assert mapped(data) == [first, second]


def test_a_test_file_is_not_rated() -> None:
    """A file whose fileTypeIndicator is T was sent to try things out."""
    assert mapped(made.tap_file([made.mo_call()], fileTypeIndicator=b"T")) == [
        "of a test file (fileTypeIndicator T)"
    ]


def test_an_ims_session_is_rated_where_it_says_who_began_it() -> None:
    """With a requested destination it was made; without one nobody can tell, and it is rejected by name."""
    session = {
        "mobileSessionService": 1, "totalCallEventDuration": 30, "eventReference": b"ref-1",
        "chargedParty": {"imsi": made.bcd(made.IMSI), "msisdn": made.bcd(made.MSISDN)},
        "serviceStartTimestamp": made.local("110000"),
        "nonChargedParty": {"nonChargedPartyNumber": made.bcd("442079460123")},
    }  # fmt: skip
    begun = {**session, "requestedDestination": {"requestedNumber": made.bcd(made.DIALLED)}}
    message = {
        key: value
        for key, value in session.items()
        if key not in ("mobileSessionService", "totalCallEventDuration")
    }
    rows = mapped(made.tap_file([
        ("mobileSession", begun), ("mobileSession", session),
        ("messagingEvent", {**message, "messagingEventService": 1}),
    ]))  # fmt: skip
    assert (rows[0]["orig"], rows[0]["called"], rows[0]["duration_ms"]) == (
        {"account": made.IMSI}, made.DIALLED, 30_000,
    )  # fmt: skip
    assert rows[1:] == [["missing_field"], ["missing_field"]]


def test_a_time_whose_offset_the_file_lacks_is_no_time() -> None:
    """It is rejected as bad_time, and the value says what is missing."""
    data = made.tap_file([made.mo_call(callEventStartTimeStamp=made.local("110000", 9))])
    (row,), _ = read(data)
    assert (
        row["event"]["basicCallInformation"]["callEventStartTimeStamp"]
        == "20261103110000 without a UTC offset"
    )
    assert mapped(data) == [["bad_time"]]


@pytest.mark.parametrize("is_indefinite", [False, True])
def test_lengths_of_both_forms(is_indefinite: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Files with indefinite lengths are read alike, also where an event itself has one."""
    one = made.event(made.mo_call())
    tagged = made.constructed(one[:1], one[3:], is_indefinite=is_indefinite)
    rows, told = read(made.tap_file([tagged, made.gprs()], is_indefinite=is_indefinite) + b"\0" * 20)
    assert (kinds(rows), told) == (["mobileOriginatedCall", "gprsCall"], [])


def test_what_a_newer_release_adds_is_kept_and_harmless() -> None:
    """A field that TAP 3.12 has not stands as unknown, wherever it comes; all others are read."""
    plain = made.event(made.mo_call())[3:]
    new = b"\x7f\x8f\x7f\x03\x02\x01\x05"
    for contents in (new + plain, plain + new):
        data = made.tap_file([made.constructed(b"\x69", contents)])
        (row,), told = read(data)
        assert row["event"]["unknown"] == [{"tag": "application 2047", "octets": "020105"}]
        assert told == []
        assert mapped(data)[0]["called"] == made.DIALLED


def test_an_event_of_a_newer_release_is_rejected_by_name() -> None:
    """What is no event of TAP 3.12 is passed over, told, and sent as a fault; its neighbours are read."""
    new = made.constructed(b"\x7f\x8f\x7f", b"\x02\x01\x05" * 30)
    data = made.tap_file([made.mo_call(), new, made.gprs()], said=2)
    rows, told = read(data)
    assert kinds(rows) == ["mobileOriginatedCall", "fault", "gprsCall"]
    assert len(told) == 1
    assert "application 2047 is nothing that TAP 3.12 knows" in told[0]
    assert mapped(data)[1] == ["malformed"]


def test_a_notification_has_no_events() -> None:
    """It is told, and nothing is sent."""
    rows, told = read(made.constructed(b"\x62", made.tap_heads()))
    assert rows == []
    assert "notification" in told[0]


def test_several_files_in_one() -> None:
    """Each goes by its own sender, number and offsets."""
    rows, told = read(made.tap_file([made.mo_call()], 1) + made.tap_file([made.gprs(), made.gprs(78)], 2))
    assert told == []
    assert [(row["file"]["fileSequenceNumber"], row["file"]["place"]) for row in rows] == [
        ("00001", 1), ("00002", 1), ("00002", 2),
    ]  # fmt: skip


def test_a_file_that_is_cut_off() -> None:
    """Events before the cut are read, the rest is a fault with its offset; and the missing end is told."""
    data = made.tap_file([made.mo_call(), made.mo_call("00a2"), made.gprs()])
    at = data.index(made.event(made.mo_call("00a2")))
    rows, told = read(data[: at + 60])
    assert kinds(rows) == ["mobileOriginatedCall", "fault"]
    assert rows[1]["offset"] == at
    assert rows[1]["octets"] == data[at : at + 60].hex()
    assert told[0].startswith(f"octet {at}: 60 octets cannot be read")
    assert "without auditControlInfo" in told[-1]


def test_a_file_whose_end_counts_more_than_there_is() -> None:
    """What the file says of itself is held against what is found."""
    _, told = read(made.tap_file([made.mo_call()], said=5))
    assert told == ["says that it has 5 call events; 1 were found"]


def test_a_damaged_length_costs_one_event() -> None:
    """Too long, too short, far too long: the events after it are read."""
    events = [made.event(made.mo_call(f"00a{number}")) for number in range(4)]
    second = events[1]
    assert second[:2] == b"\x69\x81"
    size = second[2]
    for wrong in (size + 40, size - 40, size + 1, size + len(second), size + 2 * len(second)):
        damaged = second[:1] + b"\x82" + wrong.to_bytes(2, "big") + second[3:]
        rows, told = read(made.tap_file([events[0], damaged, *events[2:]]))
        assert told
        found = [
            row["event"]["locationInformation"]["networkLocation"]["callReference"]
            for row in rows
            if "event" in row
        ]
        assert found == ["00a0", "00a2", "00a3"], wrong
    far = second[:1] + b"\x84\x7f\xff\xff\xff" + second[3:]
    rows, _ = read(made.tap_file([events[0], far, *events[2:]]))
    assert kinds(rows) == ["mobileOriginatedCall", "fault", "mobileOriginatedCall", "mobileOriginatedCall"]


def test_a_field_that_comes_twice_makes_an_event_unreadable() -> None:
    """Which of both would be charged is anybody's guess."""
    plain = made.event(made.gprs())
    head = 2 if plain[1] < 0x80 else 3
    twice = made.constructed(b"\x6e", plain[head:] + made.event(made.gprs(78))[head:])
    rows, told = read(made.tap_file([twice]))
    assert kinds(rows) == ["fault"]
    assert "comes twice" in told[0]


# ------------------------------------------------------------------ TS 32.298


def test_calls_a_message_and_a_session_of_ts32298() -> None:
    """The shipped map: who, whom, when, how much; data by the network that served, in KiB rounded up."""
    call, taken, message, session, trunk = mapped(
        made.mo_record() + made.mt_record() + made.sms_record() + made.session_record() + made.trunk_record(),
        R,
    )
    assert call == {
        "id": f"moCallRecord-+12025550100-{made.IMSI}-0a1b-2026-11-03T10:00:05+00:00", "service": "calls",
        "caller": made.MSISDN, "called": made.DIALLED, "setup_at": 1_793_700_000_000,
        "answered_at": 1_793_700_005_000, "ended_at": 1_793_700_070_000, "duration_ms": 65_000,
        "orig": {"account": made.IMSI},
    }  # fmt: skip
    assert taken["term"] == {"account": made.IMSI}
    assert (taken["caller"], taken["called"], taken["duration_ms"]) == ("442079460123", made.MSISDN, 61_000)
    assert (message["called"], message["volume"], message["answered_at"]) == (
        "380501234567",
        1,
        1_793_701_200_000,
    )
    assert (session["called"], session["volume"], session["answered_at"]) == (
        "00101",
        2442,
        1_793_701_800_000,
    )
    assert trunk == "no subscriber's call, message or data session"


def test_what_a_session_record_says() -> None:
    """Volumes as octets, summed beside their containers; addresses, networks, names of enumerations."""
    (row,), _ = read(made.session_record(), R)
    assert row["volume"] == {"uplink": 500_001, "downlink": 2_000_000}
    event = row["event"]
    assert (event["p-GWAddress"], event["servingNodePLMNIdentifier"]) == ("192.0.2.7", "00101")
    assert event["listOfTrafficVolumes"][0]["changeTime"] == "2026-11-03T11:40:00+01:00"
    assert event["servingNodeType"] == ["mME"]


def test_volumes_of_services_where_the_bearer_has_none() -> None:
    """Flow based charging counts by service; what both lists hold is one traffic."""
    service = {
        "ratingGroup": 1, "localSequenceNumber": 1, "serviceConditionChange": (1, 8),
        "timeOfReport": made.stamp("113000"),
        "datavolumeFBCUplink": 1024, "datavolumeFBCDownlink": 1,
    }  # fmt: skip
    data = made.session_record(
        listOfTrafficVolumes=None, listOfServiceData=[service, {**service, "ratingGroup": 2}]
    )
    assert read(data, R)[0][0]["volume"] == {"uplink": 2048, "downlink": 2}
    assert mapped(data, R)[0]["volume"] == 3
    both = made.session_record(listOfServiceData=[service])
    assert read(both, R)[0][0]["volume"] == {"uplink": 500_001, "downlink": 2_000_000}
    none = made.session_record(listOfTrafficVolumes=None)
    assert mapped(none, R) == [["missing_field"]]


def test_a_call_that_rang_is_no_call() -> None:
    """Without answer, callDuration is how long it rang; but a record may go on with a long call."""
    rang, goes_on = mapped(
        made.mo_record(answerTime=None) + made.mo_record(answerTime=None, sequenceNumber=2), R
    )
    assert rang["duration_ms"] == 0
    assert "answered_at" not in rang
    assert goes_on == ["missing_field"]


def test_parts_of_a_long_call_are_apart() -> None:
    """Each partial record has its own id and its own time."""
    first, second = mapped(
        made.mo_record(sequenceNumber=1, causeForTerm=1)
        + made.mo_record(sequenceNumber=2, answerTime=made.stamp("100110"), callDuration=40),
        R,
    )
    assert first["id"] != second["id"]
    assert (first["duration_ms"], second["duration_ms"]) == (65_000, 40_000)


def test_a_message_that_failed_is_not_charged() -> None:
    """Its record has a result."""
    (message,) = mapped(made.sms_record(smsResult=("gsm0408Cause", 38)), R)
    assert message["volume"] == 0


def test_givenof_a_ggsn() -> None:
    """Of releases before 8: read by the fields that a P-GW's record has kept."""
    plain = made.session_record()
    assert plain[:2] == b"\xbf\x4f"
    for tag, kind, name in ((b"\xb5", 19, "ggsnPDPRecord"), (b"\xbf\x46", 70, "egsnPDPRecord")):
        data = tag + plain[2:].replace(b"\x80\x01\x55", b"\x80\x01" + bytes([kind]), 1)
        (row,), told = read(data, R)
        assert (row["record"], row["volume"], told) == (name, {"uplink": 500_001, "downlink": 2_000_000}, [])
        assert mapped(data, R)[0]["volume"] == 2442


@pytest.mark.parametrize("release", [3, 7])
def test_files_of_ts32297(release: int) -> None:
    """A file header, and a header before each record, of five octets from release 10 on."""
    given = [made.mo_record(), made.sms_record(), made.session_record()]
    rows, told = read(made.framed(given, release=release), R)
    assert (kinds(rows), told) == (["moCallRecord", "moSMSRecord", "pGWRecord"], [])
    _, told = read(made.framed(given, release=release, said=4), R)
    assert told == ["says that it has 4 records; 3 were found"]
    rows, told = read(made.framed(given, release=release, coding=3), R)
    assert kinds(rows) == ["fault"] * 3
    assert "aligned PER" in told[0]


def test_a_broken_record_in_a_file_of_ts32297() -> None:
    """The records before and after it are read."""
    second = bytearray(made.sms_record())
    second[5] = 0x7F
    rows, told = read(made.framed([made.mo_record(), bytes(second), made.mo_record("0a1c")]), R)
    assert kinds(rows) == ["moCallRecord", "fault", "moCallRecord"]
    assert len(told) == 1


def test_a_damaged_length_of_a_session_costs_one_record() -> None:
    """Where it takes in the next record, as a field that is not known, the next is read all the same."""
    given = [made.session_record(recordSequenceNumber=number) for number in range(1, 4)]
    first = given[0]
    assert first[:3] == b"\xbf\x4f\x81"
    longer = first[:2] + b"\x82" + (first[3] + len(given[1])).to_bytes(2, "big") + first[4:]
    rows, told = read(longer + given[1] + given[2], R)
    assert [row["event"]["recordSequenceNumber"] for row in rows if "event" in row] == [2, 3]
    assert len(told) == 1


def test_givenof_other_domains_are_rejected_by_name() -> None:
    """CHF and IMS records are no records that are read; nothing is lost in silence."""
    charging = made.constructed(b"\xbf\x81\x48", b"\x80\x01\x05" * 20)
    data = made.mo_record() + charging + made.mo_record("0a1c")
    rows, told = read(data, R)
    assert kinds(rows) == ["moCallRecord", "fault", "moCallRecord"]
    assert "context 200 is no record of the format" in told[0]
    assert mapped(data, R)[1] == ["malformed"]


@pytest.mark.parametrize("form", [T, R])
def test_records_between_noise(form: str) -> None:
    """Whatever lies between records, each of them is found, and all of the noise is told or counted."""
    noise = random.Random(1)  # noqa: S311 - nothing secret
    one = made.event(made.mo_call()) if form == T else made.mo_record()
    parts = b"".join(one + noise.randbytes(200) for _ in range(600))
    rows, told = read(b"\x61\x80\x63\x80" + parts if form == T else parts, form)
    found = [
        row for row in rows if row.get("event", {}).keys() >= {"basicCallInformation"} or "digest" in row
    ]
    assert len(found) == 600
    assert sum(len(row["octets"]) // 2 for row in rows if "fault" in row) > 600 * 190
    assert any("more places cannot be read" in sentence for sentence in told)


def test_filler_between_records() -> None:
    """Blocks are filled up with zeros, or with ones."""
    rows, told = read(made.mo_record() + b"\0" * 300 + made.mt_record() + b"\xff" * 300, R)
    assert (kinds(rows), told) == (["moCallRecord", "mtCallRecord"], [])


# ------------------------------------------------------------------ any file


@pytest.mark.parametrize("form", [T, R])
@pytest.mark.parametrize("data", [b"", b"id,called\n1,2\n", b'{"id": 1}\n', b"\x1f", b"\x00" * 100])
def test_what_is_no_such_file_is_refused(form: str, data: bytes) -> None:
    """With a sentence, and nothing is sent."""
    with pytest.raises(ValueError, match="begins with"):
        read(data, form)


def test_the_other_format_is_refused() -> None:
    """A TAP file is no file of TS 32.298, nor the other way round."""
    with pytest.raises(ValueError, match="begins with"):
        read(made.tap_file([made.mo_call()]), R)
    with pytest.raises(ValueError, match="begins with"):
        read(made.mo_record(), T)


def test_packed_files(tmp_path: Path) -> None:
    """Gzip is unpacked; where it is cut off, what was there is read, and the damage is told."""
    noise = random.Random(7)  # noqa: S311 - nothing secret: it keeps gzip from packing all of it into one block
    many = [made.mo_call(noise.randbytes(8).hex()) for _ in range(3000)]
    packed = gzip.compress(made.tap_file(many))
    for name, data in (("whole.gz", packed), ("cut.gz", packed[: len(packed) // 2])):
        (tmp_path / name).write_bytes(data)
        told: list[str] = []
        with (tmp_path / name).open("rb") as stream:
            rows = [json.loads(record.raw) for record in records(unpacked(stream), T, told.append)]
        if name == "whole.gz":
            assert (len(rows), told) == (3000, [])
        else:
            assert 500 < len(rows) < 3000
            assert any("the packed file is damaged" in sentence for sentence in told)


@pytest.mark.parametrize(("form", "module"), [(T, "pycrate_asn1dir.TAP3"), (R, "pycrate_asn1dir.CDR")])
def test_without_the_extra(form: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("pycrate_asn1dir." + module.rpartition(".")[2], raising=False)
    with pytest.raises(Missing, match=r"pip install 'rater\[asn1\]'"):
        read(b"", form)


def test_the_decoder_says_what_pycrates_own_says() -> None:
    """Numbers, names and lists of whole records are those that pycrate decodes."""
    for data, kind in (
        (made.event(made.mo_call()), TAP_0312.CallEventDetail),
        (made.event(made.gprs()), TAP_0312.CallEventDetail),
        (made.mo_record(), CDR.CSChargingDataTypes.CSRecord),
        (made.session_record(), CDR.GPRSChargingDataTypes.GPRSRecord),
    ):
        kind.from_ber(data)
        theirs = kind.get_val()
        form = T if kind is TAP_0312.CallEventDetail else R
        (row,), _ = read(made.tap_file([data]) if form == T else data, form)
        assert row["record"] == theirs[0]
        _same(row["event"], theirs[1])


def _same(ours: Any, theirs: Any) -> None:
    """Check that all numbers and names are there; texts are made of octets by rules that pycrate has not."""
    if isinstance(theirs, dict):
        assert theirs.keys() <= set(ours) or isinstance(ours, str)
        for name in theirs.keys() if isinstance(ours, dict) else ():
            _same(ours[name], theirs[name])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            _same(one, other)
    elif isinstance(theirs, bool | int):
        assert ours == theirs
