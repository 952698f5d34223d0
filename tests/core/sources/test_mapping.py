"""Source maps: what the shipped ones make of each switch's records, the language, its faults, hostile bytes.

The records in tests/data/sources are written by hand in the shape of the switches' own.
"""

from __future__ import annotations

import copy
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rater.core.cdr import Arrival, Cdr, Party
from rater.core.cdr_decoding import check
from rater.core.reasons import Reason, Rejection
from rater.core.sources.cutting import records
from rater.core.sources.source_map import MapFault, Skipped, SourceMap, as_json, compile_map, describe
from rater.core.zones import Release, Zones, installed

_ROOT = Path(__file__).parents[3]
_DATA = _ROOT / "tests" / "data" / "sources"
_FILES = {
    "freeswitch": "freeswitch.jsonl",
    "freeswitch-esl": "freeswitch-esl.txt",
    "asterisk": "asterisk.jsonl",
    "asterisk-csv": "asterisk.csv",
    "cisco-cucm": "cisco-cucm.csv",
    "opensips": "opensips.jsonl",
    "kamailio": "kamailio.jsonl",
    "tap3": "tap3.jsonl",
    "ts32298": "ts32298.jsonl",
}
_NOON_MS = 1_793_700_000_000  # 2026-11-03 10:00 UTC, when the calls of the samples are answered
_ARRIVAL = Arrival(
    lane_ms=_NOON_MS + 600_000, window_ms=7 * 86_400_000, services=frozenset({"calls", "messages", "data"})
)


def _shipped(name: str, **defaults: object) -> SourceMap:
    text = (_ROOT / "config" / "sources" / f"{name}.toml").read_text("utf-8")
    return _map_of(text, name, defaults)


def _compiled(text: str, /, **defaults: object) -> SourceMap:
    return _map_of(text, "own", defaults)


def _map_of(text: str, name: str, defaults: dict[str, object]) -> SourceMap:
    found = compile_map(text, name, {"source": "s1", **defaults})
    assert isinstance(found, SourceMap), [str(fault) for fault in found]
    return found


def _faults(text: str, **defaults: object) -> list[MapFault]:
    found = compile_map(text, "own", defaults)
    assert isinstance(found, list)
    return found


def _became(
    source_map: SourceMap, raw: bytes, columns: bytes | None = None
) -> Cdr | Skipped | tuple[Rejection, ...]:
    mapped = source_map.apply(raw, columns)
    if not isinstance(mapped, dict):
        return mapped
    found = check(mapped, _ARRIVAL)
    return source_map.named(found) if isinstance(found, tuple) else found


def _summary(found: Cdr | Skipped | tuple[Rejection, ...]) -> str:
    if isinstance(found, Skipped):
        return f"skipped: {found.reason}"
    if isinstance(found, tuple):
        return "rejected: " + ", ".join(f"{one.reason} of {one.side}" for one in found)
    amount = (
        f"call of {found.duration_ms} ms" if found.volume is None else f"{found.volume} of {found.service}"
    )
    what = amount if found.answered_ms is not None else "zero"
    sides = "".join(f", {side}: {_named(party)}" for side, party in found.sides())
    refused = "".join(f", {one.side}: {one.reason}" for one in found.rejected)
    return f"{what} from {found.caller} to {found.called}, {found.at_ms - _NOON_MS} ms{sides}{refused}"


def _named(party: Party) -> str:
    names = ("client", "account", "gateway", "ip", "login")
    return " ".join(f"{name}={value}" for name in names if (value := getattr(party, name)))


def _summaries(name: str, **defaults: object) -> list[str]:
    source_map = _shipped(name, **defaults)
    with (_DATA / _FILES[name]).open("rb") as file:
        return [
            _summary(_became(source_map, record.raw, record.columns)) for record in records(file, source_map)
        ]


# The shipped maps

_FREESWITCH = [
    "call of 65039 ms from 1001 to 380441234567, 0 ms, orig: account=sip-1001 ip=192.0.2.55 login=1001",
    "call of 65039 ms from 1001 to 380441234567, 0 ms, term: gateway=gw-kiev ip=203.0.113.7",
    "zero from 1001 to 14155550100, -7880 ms, orig: account=sip-1001 ip=192.0.2.55",
    "skipped: a leg to a registered user: nobody is paid for it",
    "skipped: a loopback leg, which repeats another",
    "call of 65039 ms from 1001 to 380441234567, 0 ms, term: ip=203.0.113.9",
    "rejected: number_invalid of orig",  # *98
    "rejected: bad_duration of orig",  # -5
    "rejected: bad_time of orig",  # "soon"
]
_OFFICE = "orig: account=sip-101 gateway=101 login=101"
_KIEV = "term: gateway=gw-kiev"
_SIP = "orig: account=sip-1001 ip=192.0.2.55"
_PHONE = "orig: gateway=SEP00000000A001 ip=192.0.2.200"
_TRUNK = "term: gateway=SIP-Trunk-Kyiv ip=203.0.113.7"
_DIALOG = f"call of 65039 ms from 1001 to 380441234567, 0 ms, {_SIP}, {_KIEV} ip=203.0.113.7"
_IMSI = "001010123456789"
_ROAMER = f"orig: account={_IMSI}"
_EXPECTED = {
    "freeswitch": _FREESWITCH,
    "freeswitch-esl": [
        _FREESWITCH[0],
        "skipped: another event than CHANNEL_HANGUP_COMPLETE",
        *_FREESWITCH[1:],
    ],
    "asterisk": [
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_OFFICE}, {_KIEV}",
        f"zero from 101 to 380441234567, -7880 ms, {_OFFICE}, {_KIEV}",
        f"zero from 101 to 380441234567, -7880 ms, {_OFFICE}, {_KIEV}",  # BUSY, with billsec and no time
        f"call of 65000 ms from 101 to 201, 0 ms, {_KIEV}",  # through a Local channel
        "skipped: between two Local channels, which repeat others",
        "rejected: number_invalid of orig",  # the extension s
        "rejected: bad_time of orig, bad_time of term",
        "rejected: bad_duration of orig, bad_duration of term",
        "rejected: missing_field of orig, missing_field of term",  # no linkedid
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_KIEV}, orig: malformed",
        "rejected: malformed of orig, malformed of term",  # dst is an object
        f"call of 65000 ms from 101 to 380441234567, 0 ms, orig: gateway=trunk-a login=trunk-a, {_KIEV}",
        "skipped: a Local channel into an application, which calls nobody",
        "skipped: a Local channel that reached nobody",
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_KIEV}",  # a queue has called
        "rejected: missing_field of None",  # answered, and neither side is named
    ],
    "asterisk-csv": [
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_OFFICE}, {_KIEV}",
        f"zero from 101 to 380441234567, -8000 ms, {_OFFICE}, {_KIEV}",
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_OFFICE}, {_KIEV}",  # without newcdrcolumns
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_OFFICE}, {_KIEV}",  # a line break in quotes
        "skipped: between two Local channels, which repeat others",
        "rejected: bad_time of orig, bad_time of term",
        "rejected: number_invalid of orig",  # the extension h
        "rejected: bad_duration of orig, bad_duration of term",  # -1
        "skipped: a Local channel into an application, which calls nobody",
        "skipped: a Local channel that reached nobody",
        f"call of 65000 ms from 101 to 380441234567, 0 ms, {_KIEV}",  # a queue has called
        "rejected: malformed of None",
    ],
    "cisco-cucm": [
        "skipped: header row",
        "skipped: the row of types",
        f"call of 65000 ms from 2001 to 380441234567, 0 ms, {_PHONE}, {_TRUNK}",
        f"zero from 2001 to 380441234567, -8000 ms, {_PHONE}",
        f"call of 65000 ms from 2001 to 2002, 0 ms, {_PHONE}",  # to one of our telephones
        "skipped: no CDR of a call (cdrRecordType is not 1)",
        "skipped: nothing was dialled",
        f"call of 65000 ms from 2001 to 380441234567, 0 ms, {_PHONE} login=olena, {_TRUNK}",
        "rejected: bad_time of orig, bad_time of term",
        "rejected: bad_duration of orig, bad_duration of term",
        f"call of 65000 ms from 2001 to 380441234567, 0 ms, {_TRUNK}, orig: malformed",  # 34 bits of address
        "skipped: a leg into a conference bridge",
        "rejected: missing_field of orig, missing_field of term",  # answered, and nothing was dialled
        "rejected: missing_field of orig, missing_field of term",  # it lasted, and nobody answered
    ],
    "opensips": [
        _DIALOG,
        _DIALOG,  # without the JSON-RPC around it
        _DIALOG,  # hung up by the callee
        f"zero from 1001 to 380441234567, 0 ms, {_SIP}",  # missed: 486
        "skipped: E_ACC_EVENT, a transaction and no call; account with the flag cdr",
        "rejected: missing_field of orig, missing_field of term",  # an E_ACC_CDR without a duration
        "rejected: bad_time of orig, bad_time of term",
        "rejected: number_invalid of orig, number_invalid of term",
        "rejected: missing_field of None",  # nobody is named
        "rejected: bad_duration of orig, bad_duration of term",  # 2^53 ms
    ],
    "kamailio": [
        f"call of 65039 ms from 1001 to 380441234567, 0 ms, {_SIP}, {_KIEV} ip=203.0.113.7",
        f"zero from 1001 to 380441234567, -7583 ms, {_SIP}, {_KIEV}",  # a dialog that failed
        f"call of 0 ms from 1001 to 380441234567, 0 ms, {_SIP}, {_KIEV} ip=203.0.113.7",  # hung up at once
        f"zero from 1001 to 380441234567, -7899 ms, {_SIP}, {_KIEV}",  # asked for credentials
        f"call of 65039 ms from 1001 to 380441234567, 0 ms, {_SIP}, {_KIEV} ip=203.0.113.7",  # with them
        f"call of 7200512 ms from 1001 to 380441234567, -7200000 ms, {_SIP}, {_KIEV} ip=203.0.113.7",
        "rejected: missing_field of None",  # expired, with cdr_expired_dlg_enable of acc alone
        "skipped: a transaction that did not fail: an answered call is a CDR, written when it ends",
        "skipped: a transaction that begins no call",  # BYE
        f"zero from 1001 to 380441234567, -8000 ms, {_SIP}",  # missed: 404
        "skipped: asked for credentials: the call is the INVITE that brings them",
        f"zero from 1001 to 380441234567, -7401 ms, {_SIP}",  # acc_time_mode 2
        f"zero from 1001 to 380441234567, -8000 ms, {_SIP}",  # acc_time_mode 4
        "skipped: a transaction that begins no call",  # PRACK
        f"zero from 1001 to 380441234567, 10000 ms, {_SIP}",  # a refused re-INVITE
        f"call of 65039 ms from 1001 to 380441234567, 0 ms, {_SIP}, {_KIEV} ip=203.0.113.7",  # its call
    ],
    "tap3": [
        f"1 of messages from 12025550101 to 380441234567, 1200000 ms, {_ROAMER}",
        f"call of 65000 ms from 12025550101 to 380441234567, 0 ms, {_ROAMER}",
        f"call of 61000 ms from 442079460123 to 8483847849, 600000 ms, term: account={_IMSI}",
        f"2442 of data from 12025550101 to 8483847849, 1800000 ms, {_ROAMER}",
        "skipped: no call, message or data session",
        "rejected: bad_time of orig",  # no UTC offset of its code
        "rejected: missing_field of orig",  # what was dialled abroad alone
        f"call of 0 ms from 12025550101 to 380441234567, 0 ms, {_ROAMER}",
        "skipped: of a test file (fileTypeIndicator T)",
        "rejected: malformed of None",  # broken BER
    ],
    "ts32298": [
        f"call of 65000 ms from 12025550101 to 380441234567, 5000 ms, {_ROAMER}",
        f"zero from 12025550101 to 380441234567, 0 ms, {_ROAMER}",
        f"call of 61000 ms from 442079460123 to 12025550101, 603000 ms, term: account={_IMSI}",
        f"1 of messages from 12025550101 to 380501234567, 1200000 ms, {_ROAMER}",
        f"zero from 12025550101 to 380501234567, 1200000 ms, {_ROAMER}",  # not delivered
        f"2442 of data from 12025550101 to 00101, 1800000 ms, {_ROAMER}",
        "skipped: no subscriber's call, message or data session",
        "rejected: bad_time of orig",
        "rejected: missing_field of orig",  # it goes on with a call, and says not since when
        "rejected: missing_field of orig",  # no network
        "rejected: malformed of None",  # cut off
    ],
}


def test_every_shipped_map_is_tried() -> None:
    """Each map in config/sources has samples here."""
    assert {path.stem for path in (_ROOT / "config" / "sources").glob("*.toml")} == set(_EXPECTED)


@pytest.mark.parametrize("name", _EXPECTED)
def test_shipped_map(name: str) -> None:
    """Each record of the samples becomes the call, the zero, the skip or the rejection that is meant."""
    assert _summaries(name) == _EXPECTED[name]


def test_freeswitch_forms_are_one() -> None:
    """The JSON of a leg and the event of the same leg give the same CDR, all of it."""
    made = []
    for name in ("freeswitch", "freeswitch-esl"):
        source_map = _shipped(name)
        with (_DATA / _FILES[name]).open("rb") as file:
            became = [_became(source_map, record.raw) for record in records(file, source_map)]
        made.append([one for one in became if isinstance(one, Cdr)])
    assert made[0] == made[1]
    assert len(made[0]) == 4


def test_freeswitch_event_as_json() -> None:
    """An event in its JSON form gives the CDR of its text form, although its values are not URL-encoded."""
    source_map = _shipped("freeswitch-esl")
    text = (_DATA / "freeswitch-esl.txt").read_bytes().split(b"\n\n")[0]
    names = dict(line.split(": ", 1) for line in text.decode().split("\n"))
    as_json = json.dumps({name: value.replace("%20", " ") for name, value in names.items()})
    assert isinstance(source_map.apply(text), dict)
    assert source_map.apply(as_json.encode()) == source_map.apply(text)


def test_opensips_id_is_of_the_dialog() -> None:
    """Whoever hangs up, with or without JSON-RPC around it, a dialog has one id."""
    source_map = _shipped("opensips")
    with (_DATA / "opensips.jsonl").open("rb") as file:
        ids = [_became(source_map, record.raw) for record in records(file, source_map)][:3]
    assert len({one.id for one in ids if isinstance(one, Cdr)}) == 1


def test_rejection_names_the_switch_field() -> None:
    """What the CDR's own check refuses is told with the switch's field and the map."""
    source_map = _shipped("asterisk")
    raw = (_DATA / "asterisk.jsonl").read_bytes().splitlines()[7]
    found = _became(source_map, raw)
    assert isinstance(found, tuple)
    assert found[0].detail.endswith("(map asterisk: duration_ms is read from billsec)")
    assert found[0].value == "x"


# Numbers

_NUMBERS = {
    "380441234567": "380441234567",
    "+380441234567": "380441234567",
    "+380 (44) 123-45.67": "380441234567",
    "00380441234567": "380441234567",
    "sip:380441234567@pbx.example.com": "380441234567",
    "sip:+380441234567@[2001:db8::1]:5060;user=phone": "380441234567",
    "SIPS:00380441234567@pbx.example.com": "380441234567",
    "tel:+380-44-123-45-67;phone-context=example.com": "380441234567",
    '"Olena" <sip:00380441234567@pbx.example.com>;tag=7': "380441234567",
    "sip:%2B380441234567@pbx.example.com": "380441234567",
    "sip:380441234567;npdi@pbx.example.com": "380441234567",
    "*98": "*98",
    "s": "s",
    "sip:olena.k@pbx.example.com": "olena.k",
    "٣٨٠٤٤١٢٣٤٥٦٧": "380441234567",  # digits of Arabic
    "\uff0b\uff13\uff18\uff10\uff14\uff14\uff11\uff12\uff13\uff14\uff15\uff16\uff17": "380441234567",
    "+380\u00a044\u2011123\u201145\u201367": "380441234567",  # a blank that does not break, hyphens, a dash
    "\u202a+380441234567\u202c": "380441234567",  # marks of direction, as a phone book copies them
    "\ufeff38044\u200b1234\u00ad567": "380441234567",
    "sip:%E2%80%8B380441234567@pbx.example.com": "380441234567",
    "\u2212380441234567": "-380441234567",  # a minus is no hyphen between digits
    "38044\u00bd234567": "38044\u00bd234567",  # a half is no digit
    "00380441234567#": "380441234567",
    "+380441234567 #": "380441234567",
    "sip:00380441234567%23@pbx.example.com": "380441234567",
    "00380441234567#,,123#": "380441234567",
    "380441234567,,123": "380441234567",
    "380441234567 ,123": "380441234567",
    "380441234567!0132": "380441234567",
    "380441234567p123": "380441234567",
    "380441234567WW9#": "380441234567",
    "tel:380441234567;postd=pp22": "380441234567",
    "+380 (0)44 123 45 67": "380441234567",
    "00380(0)441234567": "380441234567",
    "+39 (0)6 1234567": "39061234567",  # dialled from abroad, too
    "00378 (0)549 123456": "3780549123456",
    "00380441234567##": "380441234567",
    "380,441,234,567": "380,441,234,567",  # of a spreadsheet, or 380 and what is dialled after
    "+380,441": "+380,441",
    "38,04,41,23,456": "38,04,41,23,456",  # in groups of two
    "3,80441234567E+11": "3,80441234567E+11",  # a float with the comma of most of Europe
    "65,5": "65,5",
    "3804,412": "3804",
    "380,,441": "380",
    "#": "#",
    ",,123": ",,123",
    "*21*380441234567#": "*21*380441234567",  # forwarding is switched on, nobody is called
    "380441234567#1": "380441234567#1",
    "380441234567px": "380441234567px",
    "0441234567": "0441234567",  # national: whose, the map does not know
}
_FIELD_OF_NUMBER = {"asterisk": "dst", "opensips": "called", "kamailio": "dst_user"}


@pytest.mark.parametrize("name", _FIELD_OF_NUMBER)
def test_forms_of_numbers(name: str) -> None:
    """A number in `+`, `00`, URI or bare form becomes bare digits; what is no number is kept to be shown."""
    source_map = _shipped(name)
    record = json.loads((_DATA / _FILES[name]).read_bytes().splitlines()[0])
    fields = record.get("params", record)
    for written, meant in _NUMBERS.items():
        fields[_FIELD_OF_NUMBER[name]] = written
        mapped = source_map.apply(json.dumps(record).encode())
        assert isinstance(mapped, dict), written
        assert mapped["called"] == meant, written


_ENDINGS = {
    "0044201234567": "44201234567",
    "0044201234567#": "44201234567",
    "+44201234567#": "44201234567",
    "0044201234567,,123": "44201234567",
    "0044201234567!0132": "44201234567",
    "0044201234567p9": "44201234567",
    "+44 (0)201234567": "44201234567",
    "\u202a+44\u00a020\u2011123\u20114567\u202c": "44201234567",
    "0044\u200b201234567": "44201234567",
    "\u0660\u0660\u0664\u0664201234567": "44201234567",
    "\u221244201234567": "-44201234567",
    "0044201234567#5": "0044201234567#5",
}


@pytest.mark.parametrize("name", _FILES)
def test_what_a_number_looks_like_in_every_map(name: str) -> None:
    """A number that people can read is read by every shipped map, in its format's own writing."""
    source_map = _shipped(name)
    raws = [record.raw for record in records(io.BytesIO((_DATA / _FILES[name]).read_bytes()), source_map)]
    raw = next(raw for raw in raws if isinstance(found := _became(source_map, raw), Cdr) and found.used)
    for written, meant in _ENDINGS.items():
        piece = written.encode()
        if name == "freeswitch-esl":
            piece = quote(written).encode()
        elif source_map.format == "csv":
            piece = f'"{written}"'.encode() if b'"00380' not in raw else piece
        mapped = source_map.apply(re.sub(rb"(?:\+|00)380441234567(?![0-9@])", piece, raw))
        assert isinstance(mapped, dict), written
        assert mapped["called"] == meant, written


_SMALL = """
format = "json"
[fields]
id = "id"
answered_at = {path = "at", format = "epoch"}
duration = {path = "d", unit = "s"}
called = "to"
caller = "from"
[orig]
account = "who"
gateway = "peer"
[term]
gateway = "trunk"
"""
_RECORD = {
    "id": "1",
    "at": "1793700000",
    "d": 65,
    "to": "100",
    "from": "0441112233",
    "who": "a",
    "trunk": "gw-1",
}


def _mapped(text: str, record: dict[str, Any], **defaults: object) -> dict[str, Any]:
    found = _compiled(text, **defaults).apply(json.dumps(record).encode())
    assert isinstance(found, dict), found
    return found


@pytest.mark.parametrize(
    ("defaults", "written", "meant"),
    [
        ({"country": "380"}, "0441234567", "380441234567"),
        ({"country": "380"}, "+0441234567", "0441234567"),  # international, whatever follows
        ({"country": "7", "trunk_prefix": "8"}, "84951234567", "74951234567"),
        ({"rules": [{"prefix": "011", "to": ""}], "country": "1"}, "011380441234567", "380441234567"),
        ({"rules": [{"digits": [7, 7], "to": "38044"}]}, "1234567", "380441234567"),
        ({"rules": [{"digits": 7, "to": "38044"}]}, "12345678", "12345678"),
        ({"strip": ["9", "9#"]}, "9#380441234567", "380441234567"),  # the longest
        ({"strip": ["tp-"]}, "sip:tp-380441234567@gw", "380441234567"),
        ({"strip": ["tp-"]}, "tp-380441234567,,1", "380441234567"),
        ({"suffix": ["*1", "1*1"]}, "380441234561*1", "38044123456"),  # the longest, and the map's no more
        ({"suffix": ["*1"]}, "380441234567#", "380441234567#"),
        ({"suffix": []}, "380441234567#", "380441234567#"),
        ({"suffix": ["99"]}, "38044123456799", "380441234567"),
        ({"rules": [{"digits": 7, "to": "38044"}]}, "1234567#", "380441234567"),  # counted without it
        ({"letters": "keypad"}, "1800FLOWERS#", "18003569377"),
        ({"letters": "keypad"}, "1800p1234", "180071234"),  # letters are dialled here, and p is one
        ({}, "1-800-FLOWERS", "1-800-FLOWERS"),
        ({"letters": "keypad"}, "1-800-FLOWERS", "18003569377"),
        ({"letters": "drop"}, "A380441234567", "380441234567"),
        ({"letters": "keypad"}, "voicemail", "voicemail"),  # a name, without any digit
    ],
)
def test_rules_of_the_source(defaults: dict[str, object], written: str, meant: str) -> None:
    """A source's defaults say how numbers are written at this switch."""
    assert _mapped(_SMALL, {**_RECORD, "to": written}, **defaults)["called"] == meant


# The source's defaults


def test_gateways_make_the_term_side() -> None:
    """Where the source lists its carriers, other peers give no term side, and all of them give none to it."""
    listed = {"gateways": ["gw-*", "kyiv"]}
    assert _mapped(_SMALL, _RECORD, **listed)["term"] == {"gateway": "gw-1"}
    assert "term" not in _mapped(_SMALL, {**_RECORD, "trunk": "phone-1"}, **listed)
    assert "term" not in _mapped(_SMALL, _RECORD, gateways=[])


def test_client_of_the_source() -> None:
    """A source's client pays where the record names nobody, and does not stand beside another's account."""
    assert _mapped(_SMALL, {**_RECORD, "who": ""}, client="42")["orig"] == {"client": "42"}
    assert _mapped(_SMALL, _RECORD, client="42")["orig"] == {"account": "a"}


def test_source_and_service_of_the_source() -> None:
    """The CDR bears the source's name, and its service where the map gives none."""
    mapped = _mapped(_SMALL, _RECORD, service="conference")
    assert (mapped["source"], mapped["service"]) == ("s1", "conference")


def test_zone_of_the_source() -> None:
    """Local times are read in the source's zone, which wins over the map's."""
    source_map = _shipped("asterisk-csv", zone="Europe/Kyiv")
    found = source_map.apply((_DATA / "asterisk.csv").read_bytes().split(b"\n")[0])
    assert isinstance(found, dict)
    assert as_json(found)["answered_at"] == "2026-11-03T08:00:00.000Z"


def test_local_times_are_read_by_the_catalogs_zones() -> None:
    """A map reads local times as the catalog of the lane says, not the install; same rules, same map."""
    here = installed()
    other = Release(1000, "9999a", "9999.1", {"Europe/Kyiv": here.rules["Asia/Kolkata"]})
    source_map = _shipped("asterisk-csv", zone="Europe/Kyiv")
    record = (_DATA / "asterisk.csv").read_bytes().split(b"\n")[0]
    same, moved = source_map.under(Zones([here])), source_map.under(Zones([here, other]))
    assert source_map.under(Zones([here, other])) is moved
    assert moved.version == same.version == source_map.version
    answered = []
    for one in (source_map, same, moved):
        found = one.apply(record)
        assert isinstance(found, dict)
        answered.append(as_json(found)["answered_at"][11:16])
    assert answered == ["08:00", "08:00", "04:30"]
    epochs = _compiled(_SMALL)
    assert epochs.under(Zones([here, other])) is epochs


# Times, durations, ids


@pytest.mark.parametrize(
    ("form", "written", "meant"),
    [
        ('"iso"', "2026-11-03T12:00:00.039+02:00", "2026-11-03T10:00:00.039Z"),
        ('"iso"', "2026-11-03 12:00:00.0399+0200", "2026-11-03T10:00:00.039Z"),
        ('"iso"', "2026-11-03T10:00:00Z", "2026-11-03T10:00:00.000Z"),
        ('"iso"', "2026-11-03 12.00", None),
        ('"iso"', "2026-02-30T12:00:00Z", None),
        ('"epoch"', "1793700000.0391", "2026-11-03T10:00:00.039Z"),
        ('"epoch_ms"', "1793700000039", "2026-11-03T10:00:00.039Z"),
        ('"epoch_us"', "1793700000039999", "2026-11-03T10:00:00.039Z"),
        ('"epoch"', "-1", None),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 10:00:00 AM", "2026-11-03T10:00:00.000Z"),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/3/2026 9:59:59\u202fpm", "2026-11-03T21:59:59.000Z"),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 12:00:00 AM", "2026-11-03T00:00:00.000Z"),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 12:30:00 P.M.", "2026-11-03T12:30:00.000Z"),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 13:00:00 PM", None),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 0:00:00 AM", None),
        ('"%m/%d/%Y %I:%M:%S %p", zone = "UTC"', "11/03/2026 10:00:00", None),
        ('"%d.%m.%Y %H:%M:%S", zone = "Europe/Kyiv"', "03.11.2026 12:00:00", "2026-11-03T10:00:00.000Z"),
        ('"%d.%m.%Y %H:%M:%S", zone = "Europe/Kyiv"', "31.04.2026 12:00:00", None),
        ('"%a %b %d %H:%M:%S.%f %Y %z"', "Tue Nov  3 12:00:00.5 2026 +0200", "2026-11-03T10:00:00.500Z"),
        # The hour that comes twice is the first one; the one that is left out counts from before the change.
        ('"%Y-%m-%d %H:%M", zone = "Europe/Kyiv"', "2026-10-25 03:30", "2026-10-25T00:30:00.000Z"),
        ('"%Y-%m-%d %H:%M", zone = "Europe/Kyiv"', "2026-03-29 03:30", "2026-03-29T01:30:00.000Z"),
    ],
)
def test_times(form: str, written: str, meant: str | None) -> None:
    """A time is read to the millisecond, what is finer cut off, or it is rejected as bad_time."""
    text = _SMALL.replace('"epoch"', form)
    found = _compiled(text).apply(json.dumps({**_RECORD, "at": written}).encode())
    if meant is None:
        assert isinstance(found, tuple)
        assert (found[0].reason, found[0].value) == (Reason.BAD_TIME, written)
    else:
        assert isinstance(found, dict)
        assert as_json(found)["answered_at"] == meant


def test_time_without_zone() -> None:
    """A local time of a source that has no zone is refused, and the remedy named: no call is hours off."""
    text = _SMALL.replace('"epoch"', '"iso"')
    found = _compiled(text).apply(json.dumps({**_RECORD, "at": "2026-11-03 12:00:00"}).encode())
    assert isinstance(found, tuple)
    assert "zone in [sources.NAME.defaults]" in found[0].detail


@pytest.mark.parametrize(
    ("unit", "written", "meant"),
    [
        ("s", "65.039", 65_039),
        ("s", 65, 65_000),
        ("s", "0.0004", 0),
        ("s", "0.0005", 1),
        ("ms", "65039.4", 65_039),
        ("us", "65039500", 65_040),
        ("s", "9007199254740.992", "9007199254740.992"),
        ("s", "-1", "-1"),
        ("s", "1:05", "1:05"),
        ("s", True, "true"),
        ("min", "8.1667", 490_002),
        ("min", 1.5, 90_000),
        ("h:m:s", "00:08:10", 490_000),
        ("h:m:s", "0:01:05.0395", 65_040),
        ("h:m:s", "100:00:00", 360_000_000),
        ("h:m:s", "08:10", "08:10"),  # hours and minutes, or minutes and seconds
        ("h:m:s", "00:60:00", "00:60:00"),
        ("h:m:s", "-00:00:05", "-00:00:05"),
        ("h:m:s", "65", "65"),
        ("m:s", "08:10", 490_000),
        ("m:s", "90:00.5", 5_400_500),
        ("m:s", "00:08:10", "00:08:10"),
        ("m:s", "1:5", 65_000),
    ],
)
def test_durations(unit: str, written: object, meant: object) -> None:
    """Decimals of any unit become whole milliseconds, half up; what is none stays, to be a bad_duration."""
    text = _SMALL.replace('unit = "s"', f'unit = "{unit}"')
    assert _mapped(text, {**_RECORD, "d": written})["duration_ms"] == meant


def test_long_ids_stay_apart() -> None:
    """An id longer than a CDR's may be is shortened by its digest, so that the call is rated, and once."""
    ids = [_mapped(_SMALL, {**_RECORD, "id": "x" * 250 + end})["id"] for end in ("1", "2", "1")]
    assert [len(one) for one in ids] == [200, 200, 200]
    assert ids[0] == ids[2] != ids[1]
    assert isinstance(check(_mapped(_SMALL, {**_RECORD, "id": "x" * 250}), _ARRIVAL), Cdr)


def test_first_reason_of_several() -> None:
    """Of several faults of a record the first in the contract's order is given."""
    record = {**_RECORD, "at": "soon", "d": "x", "to": "", "trunk": None}
    found = _compiled(_SMALL).apply(json.dumps(record).encode())
    assert isinstance(found, tuple)
    assert [(one.reason, one.side) for one in found] == [(Reason.MISSING_FIELD, "orig")]


def test_volume() -> None:
    """A map of another service gives a volume instead of a duration."""
    text = _SMALL.replace('duration = {path = "d", unit = "s"}', 'volume = "d"\nservice = {value = "data"}')
    mapped = _mapped(text, _RECORD)
    assert (mapped["service"], mapped["volume"]) == ("data", 65)
    assert "duration_ms" not in mapped


def _amount_of(expression: str, record: dict[str, Any]) -> object:
    """Return the duration or volume that an expression in the place of the small map's gives."""
    text = _SMALL.replace('duration = {path = "d", unit = "s"}', expression)
    mapped = _mapped(text, {**_RECORD, **record})
    return mapped.get("duration_ms", mapped.get("volume"))


@pytest.mark.parametrize(
    ("expression", "record", "meant"),
    [
        ('{path = "d", unit = "ms", scale = 10}', {"d": 6513}, 65_130),
        ('{path = "d", unit = "s", scale = "1/8000"}', {"d": 520_313}, 65_039),  # samples of 8 kHz
        ('{path = "d", unit = "s", scale = "0.1"}', {"d": "0.0049"}, 0),
        ('{path = "d", unit = "s", scale = "0.1"}', {"d": "0.005"}, 1),
        ('{path = "d", unit = "s", scale = 10}', {"d": "-5"}, "-5"),
        ('{path = "d", unit = "s", scale = 10}', {"d": "x"}, "x"),
        ('{path = "d", match = "PT(.+)S", unit = "s", scale = 1}', {"d": "PT65.039S"}, 65_039),
        ('{sum = [{path = "m", unit = "min"}, {path = "d", unit = "s"}]}', {"m": 1, "d": "5.0394"}, 65_039),
        ('{sum = ["d", "m?"], unit = "s"}', {"d": "0.0003"}, 0),
        ('{sum = ["d", "m?"], unit = "s"}', {"d": "0.0003", "m": "0.0003"}, 1),  # rounded once
        ('{sum = ["d", {path = "m", unit = "ms"}], unit = "s", scale = 2}', {"d": 1, "m": 1}, 2_002),
        ('{sum = ["d", "m"], unit = "s"}', {"d": 1, "m": "x"}, "x"),
        ('[{sum = ["d", "m"], unit = "s"}, {path = "d", unit = "s"}]', {"d": 65}, 65_000),
        ('{sum = [["n", "d"], {path = "m", unit = "h:m:s"}], unit = "s"}', {"d": 1, "m": "0:01:04"}, 65_000),
    ],
)
def test_durations_that_are_computed(expression: str, record: dict[str, Any], meant: object) -> None:
    """Ticks, samples, minutes beside seconds: computed exactly, and rounded once to milliseconds, half up."""
    assert _amount_of(f"duration = {expression}", record) == meant


@pytest.mark.parametrize(
    ("expression", "record", "meant"),
    [
        ('{sum = ["in", "out"], scale = "1/1024"}', {"in": 1_120_000, "out": "4000000"}, 5_000),
        ('{sum = ["in", "out?"], scale = "1/1024"}', {"in": 1}, 1),
        ('{sum = ["in?", "out?"], scale = "1/1024"}', {"out": 1025}, 2),
        ('{sum = ["in", "out"], scale = "1/1024"}', {"in": 512, "out": 512}, 1),  # not 1 + 1
        ('{sum = ["in", "out"], scale = "1/1024"}', {"in": 0, "out": 0}, 0),
        ('{sum = ["in", "out"], scale = "1/1024"}', {"in": -1, "out": 5000}, "-1"),
        ('{sum = ["in", "out"], scale = "1/1024"}', {"in": 2**62, "out": 0}, 2**52),
        ('{path = "in", scale = 1024}', {"in": "1.5"}, 1_536),
        ('{path = "in", scale = "1/1024"}', {"in": 5_120_000.0}, 5_000),
        ('{path = "in", scale = "1/3"}', {"in": 1}, 1),
        ('"in"', {"in": "1.5"}, "1.5"),
        ('"in"', {"in": "7"}, 7),
    ],
)
def test_volumes_that_are_computed(expression: str, record: dict[str, Any], meant: object) -> None:
    """Octets of both ways become counting units: what is left of one counts as a whole one."""
    assert _amount_of(f"volume = {expression}", record) == meant


def test_a_sum_without_a_value() -> None:
    """Where a part without `?` is missing, or all are, the record has no volume: it is not 0."""
    for parts, there in (('["in", "out"]', "in"), ('["in?", "out?"]', "x")):
        text = _SMALL.replace('duration = {path = "d", unit = "s"}', f"volume = {{sum = {parts}}}")
        found = _compiled(text).apply(json.dumps({**_RECORD, there: 5}).encode())
        assert isinstance(found, tuple)
        assert found[0].reason == Reason.MISSING_FIELD
        assert found[0].detail.startswith("volume: nothing in in + out; ")


_SPAN = _SMALL.replace(
    'duration = {path = "d", unit = "s"}',
    'ended_at = "end"\nduration = [{path = "d", unit = "s"}, {from = "answered_at", to = "ended_at"}]',
).replace('format = "epoch"', 'format = "iso"')


def test_duration_between_two_times() -> None:
    """A record with answer and release and no duration: to the millisecond; below zero is bad_duration."""
    record = {**_RECORD, "d": "", "at": "2026-11-03T10:00:00.120Z"}
    for end, meant in {
        "2026-11-03T10:01:05.250Z": 65_130,
        "2026-11-03T12:01:05.250+02:00": 65_130,
        "2026-11-03T10:00:00.120Z": 0,
        "2026-11-03T09:59:59.120Z": "-1000",
    }.items():
        assert _mapped(_SPAN, {**record, "end": end})["duration_ms"] == meant
    assert _mapped(_SPAN, {**record, "end": "2026-11-03T10:01:05Z", "d": 7})["duration_ms"] == 7_000
    for fields, reason in (
        ({}, Reason.MISSING_FIELD),
        ({"end": "soon"}, Reason.BAD_TIME),
        ({"end": "2026-11-03T10:01:05Z", "at": ""}, Reason.MISSING_FIELD),
    ):
        found = _compiled(_SPAN).apply(json.dumps({**record, **fields}).encode())
        assert isinstance(found, tuple)
        assert {one.reason for one in found} == {reason}


def test_large_index_of_a_list() -> None:
    """A path may name any member of a list; it costs no memory."""
    text = _SMALL.replace('called = "to"', 'called = "to.4000000.x"')
    found = _compiled(text).apply(json.dumps({**_RECORD, "to": [{"x": "1"}]}).encode())
    assert isinstance(found, tuple)
    assert found[0].reason == Reason.MISSING_FIELD


def test_version_tells_maps_apart() -> None:
    """The version changes with the text and with the defaults, and with nothing else."""
    versions = {
        _compiled(_SMALL).version,
        _compiled(_SMALL + "#").version,
        _compiled(_SMALL, client="42").version,
        _map_of(_SMALL, "other", {}).version,
    }
    assert len(versions) == 3


def test_describe() -> None:
    """`rater sources test` tells of a call, of a skip and of a rejection what an engineer looks for."""
    source_map = _shipped("asterisk")
    lines = (_DATA / "asterisk.jsonl").read_bytes().splitlines()
    rows = [dict(describe(raw, source_map.apply(raw))) for raw in lines]
    assert rows[0]["duration"] == "65.000 s"
    assert rows[0]["term"] == "gateway gw-kiev"
    assert rows[1]["outcome"] == "unanswered"
    assert rows[4]["outcome"].startswith("skipped: between two Local channels")
    assert (rows[6]["outcome"], rows[6]["value"]) == ("rejected: bad_time", "2026-11-03 12.00")
    assert rows[6]["why"].startswith("answered_at: answer is no time of the format iso")


# Floats

_AS_JSON = {
    "asterisk": ("dst", "accountcode"),
    "freeswitch": ("callflow.0.caller_profile.destination_number", "variables.accountcode"),
    "freeswitch-esl": ("Caller-Destination-Number", "variable_accountcode"),
    "kamailio": ("dst_user", "account"),
    "opensips": ("called", "account"),
}


def _json_record(name: str) -> dict[str, Any]:
    if name == "freeswitch-esl":
        text = (_DATA / _FILES[name]).read_bytes().split(b"\n\n")[0].decode()
        return dict(line.split(": ", 1) for line in text.split("\n"))
    record: dict[str, Any] = json.loads((_DATA / _FILES[name]).read_bytes().splitlines()[0])
    return record


def _with_literals(record: dict[str, Any], literals: dict[str, str], *, flat: bool = False) -> bytes:
    """Return the record as JSON with these literals in these fields, as a switch would write them."""
    record = copy.deepcopy(record)
    text = {}
    for number, (path, literal) in enumerate(literals.items()):
        holder: Any = record.get("params", record)
        *outer, name = [path] if flat else path.split(".")
        for key in outer:
            holder = holder[int(key) if isinstance(holder, list) else key]
        holder[name] = f"~{number}~"
        text[f'"~{number}~"'] = literal
    raw = json.dumps(record)
    for mark, literal in text.items():
        raw = raw.replace(mark, literal)
    return raw.encode()


@pytest.mark.parametrize(
    "literal", ["380441234567.0", "3.80441234567e11", "3.80441234567E+11", "380441234567.000"]
)
@pytest.mark.parametrize("name", _AS_JSON)
def test_a_number_that_was_a_float(name: str, literal: str) -> None:
    """A whole number that JSON has as a float is that number, as the called one and as an account."""
    called, account = _AS_JSON[name]
    raw = _with_literals(
        _json_record(name), {called: literal, account: literal}, flat=name == "freeswitch-esl"
    )
    found = _became(_shipped(name), raw)
    assert isinstance(found, Cdr)
    assert found.called == "380441234567"
    assert found.orig is not None
    assert found.orig.account == "380441234567"


@pytest.mark.parametrize(
    "literal",
    ["380441234567.5", "380441234567.00000001", "1e300", "1e999", "9007199254740992.0", "3.80441e+11",
     "1e-300", "12345678901234567890.0", "3.804412e11", "1.0e99999999999"],
)  # fmt: skip
@pytest.mark.parametrize("name", _AS_JSON)
def test_a_float_that_is_no_whole_number(name: str, literal: str) -> None:
    """A fraction, 2^53 and more, digits that an exponent stands for: refused, never another number."""
    called, account = _AS_JSON[name]
    flat = name == "freeswitch-esl"
    found = _became(_shipped(name), _with_literals(_json_record(name), {called: literal}, flat=flat))
    assert isinstance(found, tuple)
    # At OpenSIPS the number and the account are parts of the id, too.
    assert {one.reason for one in found} == {
        Reason.MALFORMED if name == "opensips" else Reason.NUMBER_INVALID
    }
    assert found[0].value == literal
    found = _became(_shipped(name), _with_literals(_json_record(name), {account: literal}, flat=flat))
    rejected = found if isinstance(found, tuple) else found.rejected if isinstance(found, Cdr) else ()
    sides = ["orig", "term"] if name == "opensips" else ["orig"]
    assert [(one.reason, one.side) for one in rejected] == [(Reason.MALFORMED, side) for side in sides]


@pytest.mark.parametrize("name", _AS_JSON)
def test_a_float_that_was_cut_short(name: str) -> None:
    """Of a number of 15 digits %.14g leaves 14, so what it wrote may be any of ten: refused as a number."""
    called, account = _AS_JSON[name]
    flat = name == "freeswitch-esl"
    whole = {called: "3.80441234567891e14", account: "3.80441234567891e+14"}
    found = _became(_shipped(name), _with_literals(_json_record(name), whole, flat=flat))
    assert isinstance(found, Cdr)
    assert found.called == "380441234567891"
    found = _became(
        _shipped(name), _with_literals(_json_record(name), {called: "3.8044123456789e+14"}, flat=flat)
    )
    assert isinstance(found, tuple)
    assert {one.reason for one in found} <= {Reason.MALFORMED, Reason.NUMBER_INVALID}


def test_floats_of_ids_and_durations() -> None:
    """An id 1793699992.1 that is a number is refused: it may be 1793699992.10; a duration has a fraction."""
    small = json.dumps(_RECORD)
    ids = {"1793699992.0": "1793699992", "-0.0": "0", "12": "12", "1e2": "100", "-7.0": "-7"}
    for literal, meant in ids.items():
        mapped = _compiled(_SMALL).apply(small.replace('"1"', literal, 1).encode())
        assert isinstance(mapped, dict)
        assert mapped["id"] == meant
    refused = _compiled(_SMALL).apply(small.replace('"1"', "1793699992.1", 1).encode())
    assert isinstance(refused, tuple)
    assert (refused[0].reason, refused[0].value) == (Reason.MALFORMED, "1793699992.1")
    assert refused[0].detail.startswith("id: is a JSON number with a fraction")
    for literal, ms in {
        "65.0": 65_000, "65.039": 65_039, "6.5039e1": 65_039, "65.03900003433228": 65_039, "0.0": 0,
        "-0.0": 0, "6.5e1": 65_000, "0.0004999": 0, "5e-4": 1,
    }.items():  # fmt: skip
        mapped = _compiled(_SMALL).apply(small.replace("65", literal).encode())
        assert isinstance(mapped, dict)
        assert mapped["duration_ms"] == ms, literal
    for literal in ("1e300", "-6.0", "-6", "1e999", "9007199254740992.0"):
        found = _became(_compiled(_SMALL), small.replace("65", literal).encode())
        assert isinstance(found, tuple)
        assert {one.reason for one in found} == {Reason.BAD_DURATION}, literal
    found = _became(_compiled(_SMALL), small.replace('"1793700000"', "1.793700e+09").encode())
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {Reason.BAD_TIME}


_compiled_small = _compiled(_SMALL)


@example(125_000_000_000_000, 0, 14, "e")  # 1.25000000000000e14: nothing was cut off
@given(st.integers(0, 2**53 - 1), st.integers(0, 20), st.integers(-3, 20), st.sampled_from(["e", "E", "e+"]))
def test_every_spelling_of_a_whole_number(number: int, zeros: int, moved: int, power: str) -> None:
    """All digits and the point anywhere, with the exponent that goes with it: it is that number."""
    digits = str(number)
    place = max(1, len(digits) - max(moved, 0))
    whole, fraction = digits[:place], digits[place:] + "0" * zeros
    literal = f"{whole}.{fraction or '0'}{power}{len(digits) - place}"
    record = json.dumps(_RECORD).replace('"100"', literal).replace('"a"', f"{number}.0").encode()
    mapped = _compiled_small.apply(record)
    assert isinstance(mapped, dict)
    assert (mapped["called"], mapped["orig"]["account"]) == (digits, digits)


@given(st.floats() | st.floats(-1e20, 1e20) | st.integers(-(2**60), 2**60).map(float))
def test_a_float_is_never_another_number(value: float) -> None:
    """However a float is written, it becomes the number and the account that it is, or none at all.

    As a text, whose point may set digits apart, this holds for whole numbers.
    """
    for written in (repr(value), f"{value:f}", f"{value:e}", f"{value:g}", f"{value:.17g}"):
        text = json.dumps({**_RECORD, "to": written, "who": written})
        mapped = _compiled_small.apply(text.replace(f'"{written}"', written).encode())
        if isinstance(mapped, dict):
            for got in (mapped["called"], mapped["orig"]["account"]):
                assert not str(got).removeprefix("-").isdecimal() or int(got) == float(written), written
        mapped = _compiled_small.apply(text.encode())
        if value.is_integer() and isinstance(mapped, dict) and mapped["called"].isdecimal():
            assert int(mapped["called"]) == float(written), written


_TEXTS = {
    "380441234567.0": "380441234567",
    "+380441234567.0": "380441234567",
    "00380441234567.0": "380441234567",
    "380441234567.000000": "380441234567",
    "sip:380441234567.0@pbx.example.com": "380441234567",
    "3.80441234567E+11": "380441234567",
    "3.80441234567e11": "380441234567",
    "3.80441E+11": "3.80441E+11",
    "3.80441E11": "3.80441E11",
    "3.80441234567891E+14": "380441234567891",
    "3.8044123456789E+14": "3.8044123456789E+14",
    "380441234567.5": "380441234567.5",
    "380441234567.500000": "380441234567.500000",
    "555.0000": "555.0000",
    "9007199254740993.0": "9007199254740993.0",
    "-1": "-1",
    "-380441234567": "-380441234567",
    "-0": "-0",
    ".5": ".5",
    "nan": "nan",
    "44.123.45.67": "441234567",
    "555.1234": "5551234",
}


@pytest.mark.parametrize("letters", ["keep", "drop", "keypad"])
@pytest.mark.parametrize("written", _TEXTS)
def test_floats_in_texts(written: str, letters: str) -> None:
    """A CSV cell, an event's value or a JSON string that has been a float is that number, or is none."""
    text = _SMALL + '[numbers]\nrules = [{prefix = "00", to = ""}]\n'
    assert _mapped(text, {**_RECORD, "to": written}, letters=letters)["called"] == _TEXTS[written]
    columns = text.replace('"json"', f'"csv"\ncolumns = {json.dumps([*_RECORD, "peer?"])}')
    row = ",".join(map(str, {**_RECORD, "to": written}.values()))
    mapped = _compiled(columns, letters=letters).apply(row.encode())
    assert isinstance(mapped, dict)
    assert mapped["called"] == _TEXTS[written]


def test_texts_of_ids_and_accounts_stay() -> None:
    """A text is what the switch wrote: Asterisk's first id of a second ends in .0, which is part of it."""
    mapped = _mapped(_SMALL, {**_RECORD, "id": "1793699992.0", "who": "1001.0"})
    assert (mapped["id"], mapped["orig"]["account"]) == ("1793699992.0", "1001.0")


def test_floats_in_records_that_are_read_as_a_whole() -> None:
    """Where paths contradict each other all of a record is decoded, and its floats are read the same."""
    text = _SMALL.replace('"to"', '["to.0.x", "to"]')
    for literal, meant in (("380441234567.0", "380441234567"), ("380441234567.5", "380441234567.5")):
        raw = json.dumps(_RECORD).replace('"100"', literal).encode()
        for source_map in (_compiled(text), _compiled(_SMALL)):
            mapped = source_map.apply(raw)
            assert isinstance(mapped, dict)
            assert mapped["called"] == meant


def test_match_on_a_float() -> None:
    """Digits that a map's expression takes out of a number with a fraction are meant; the rest is refused."""
    for pattern, meant in (("([0-9]+)[.].*", "380"), ("(.+)", "380.5")):
        text = _SMALL.replace('"to"', f'{{path = "to", match = "{pattern}"}}')
        assert _mapped(text, {**_RECORD, "to": 380.5})["called"] == meant


# Numbers that cannot be


def test_nobody_pays_for_what_was_not_answered() -> None:
    """A duration below zero of a call that nobody answered is a zero transaction, in every map."""
    lines = (_DATA / "asterisk.jsonl").read_bytes().splitlines()
    missed = {"asterisk": json.dumps({**json.loads(lines[1]), "billsec": -5}).encode()}
    missed["opensips"] = json.dumps(
        {**json.loads((_DATA / "opensips.jsonl").read_bytes().splitlines()[0])["params"], "sip_code": "486",
         "duration": "-5", "ms_duration": "-5000"}
    ).encode()  # fmt: skip
    row = (_DATA / "asterisk.csv").read_bytes().split(b"\n")[1]
    missed["asterisk-csv"] = re.sub(rb",0,(?=\"?NO ANSWER)", b",-5,", row)
    rows = (_DATA / "cisco-cucm.csv").read_bytes().splitlines()
    missed["cisco-cucm"] = (
        rows[2].replace(b"1793700000", b"0").replace(b",65,", b",-5,").replace(b'"65"', b'"-5"')
    )
    for name, raw in missed.items():
        assert b"-5" in raw, name
        found = _became(_shipped(name), raw)
        assert isinstance(found, Cdr), (name, found)
        assert (found.used, found.answered_ms, found.duration_ms) == (False, None, 0), name
    both = rows[2].replace(b"1793700000", b"0")
    found = _became(_shipped("cisco-cucm"), both)
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {Reason.MISSING_FIELD}  # it lasted, so it is not given away


_WRAPS_S = ["4294967290", "4294967295", "18446744073709551610", "18446744073709551615", "136298900000", "-6"]
_WRAPS_MS = [*_WRAPS_S, "4294967290000", "18446744073709545"]
_WRONG = {
    "asterisk": [("billsec", _WRAPS_S)],
    "asterisk-csv": [("65", _WRAPS_S)],
    "cisco-cucm": [("65", _WRAPS_S)],
    "freeswitch": [("variables.billmsec", _WRAPS_MS)],
    "freeswitch-esl": [("variable_billmsec", _WRAPS_MS)],
    "kamailio": [("duration", [*_WRAPS_S, "136298900000.000000"])],
    "opensips": [("ms_duration", _WRAPS_MS)],
}


def _with_value(name: str, field: str, value: str) -> bytes:
    """Return a shipped map's sample of an answered call with this value, as the switch would write it."""
    source_map = _shipped(name)
    with (_DATA / _FILES[name]).open("rb") as file:
        raws = [record.raw for record in records(file, source_map)]
    raw = next(raw for raw in raws if isinstance(became := _became(source_map, raw), Cdr) and became.used)
    if name in ("asterisk-csv", "cisco-cucm"):
        pieces = raw.replace(b'"', b"").split(b",") if name == "cisco-cucm" else raw.split(b",")
        assert pieces.count(field.encode()) == 1
        return b",".join(value.encode() if piece == field.encode() else piece for piece in pieces)
    if name == "freeswitch-esl":
        lines = raw.decode().split("\n")
        assert any(line.startswith(f"{field}: ") for line in lines)
        return "\n".join(
            f"{field}: {value}" if line.startswith(f"{field}: ") else line for line in lines
        ).encode()
    return _with_literals(json.loads(raw), {field: json.dumps(value)})


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [(name, field, value) for name, of in _WRONG.items() for field, values in of for value in values],
)
def test_durations_that_cannot_be(name: str, field: str, value: str) -> None:
    """A duration below zero, kept without its sign in 32 or 64 bits, or in another unit, is bad_duration."""
    found = _became(_shipped(name), _with_value(name, field, value))
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {Reason.BAD_DURATION}
    assert f"(map {name}: duration_ms is read from " in found[0].detail


_EDGES = [0, 3_600, 4_200_000, 2**31, 2**32, 2**53, 2**63, 2**64]


@given(
    name=st.sampled_from(sorted(_WRONG)),
    number=st.builds(int.__add__, st.sampled_from(_EDGES), st.integers(-70_000, 70_000)) | st.integers(),
    days=st.sampled_from([0, 6, 90]),
)
def test_any_duration(name: str, number: int, days: int) -> None:
    """Whatever whole number a switch gives as duration: a call of that length, over by then, or bad_duration.

    By then: an hour after its record. 0 is a call of nothing.
    """
    field = _WRONG[name][0][0]
    unit_ms = 1 if name in ("freeswitch", "freeswitch-esl", "opensips") else 1000
    arrival = Arrival(_NOON_MS + days * 86_400_000, 100 * 86_400_000, frozenset({"calls"}))
    mapped = _MAPS[name].apply(_with_value(name, field, str(number)))
    assert isinstance(mapped, dict)
    found = check(mapped, arrival)
    ms = number * unit_ms
    if 0 <= ms <= days * 86_400_000 + 3_600_000 and not 2**32 - 2**16 <= ms < 2**32:
        assert isinstance(found, Cdr)
        assert found.duration_ms == ms
    else:
        assert isinstance(found, tuple)
        assert {one.reason for one in found} == {Reason.BAD_DURATION}


@pytest.mark.parametrize("name", ["freeswitch", "freeswitch-esl", "opensips"])
def test_milliseconds_below_zero_in_a_long_window(name: str) -> None:
    """-6 ms in 32 bits without sign would be a call of 50 days: refused where the window is longer, too."""
    mapped = _shipped(name).apply(_with_value(name, _WRONG[name][0][0], "4294967290"))
    assert isinstance(mapped, dict)
    late = Arrival(_NOON_MS + 60 * 86_400_000, 100 * 86_400_000, frozenset({"calls"}))
    found = check(mapped, late)
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {Reason.BAD_DURATION}


_TIMES_WRONG = {
    "cisco-cucm": "1793700000",
    "freeswitch": "variables.answer_uepoch",
    "freeswitch-esl": "variable_answer_uepoch",
    "kamailio": "start_time",
    "opensips": "created",
}


@pytest.mark.parametrize(
    "value", ["4294967290", "18446744073709551615", "-1", "179370000000000000000", "86400", "1.5e9"]
)
@pytest.mark.parametrize("name", _TIMES_WRONG)
def test_times_that_cannot_be(name: str, value: str) -> None:
    """A time below zero without its sign, in another unit or far off: no call is rated at such a one."""
    found = _became(_shipped(name), _with_value(name, _TIMES_WRONG[name], value))
    assert isinstance(found, tuple)
    assert {one.reason for one in found} <= {Reason.BAD_TIME, Reason.TIME_IN_FUTURE, Reason.TOO_OLD}


def test_seconds_until_the_answer() -> None:
    """OpenSIPS adds setuptime to created: -6 without its sign leads into the year 2162."""
    found = _became(_shipped("opensips"), _with_value("opensips", "setuptime", "4294967290"))
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {Reason.TIME_IN_FUTURE}


# Faults of maps


def test_all_faults_are_named() -> None:
    """Everything that is wrong with a map comes at once, each with path, value and remedy."""
    faults = _faults(
        """
        format = "xml"
        descripton = "typo"
        zone = "Kyiv"
        where = [{path = "a", equals = "b"}, {path = "a", equal = "b", reason = "r"}]
        answered = [{any = []}]
        [numbers]
        strip = [""]
        rules = [{prefix = "+", to = ""}, {to = "1"}, {prefix = "0", to = "1", digits = 0}]
        [fields]
        id = {path = "x", value = "y"}
        setup_at = {path = "start", format = "%d.%m %H:%M"}
        answered_at = {path = "answer", format = "%Y-%m-%d %H:%M", zone = 2}
        duration = "billsec"
        volume = "octets"
        caller = {path = "src", match = "("}
        [orig]
        ip = {path = "a", form = "int16"}
        acount = "b"
        """,
        gateway=["x"],
        client=42,
        country="+380",
    )
    assert {fault.path: fault.value for fault in faults} == {
        "descripton": "'typo'",
        "format": "'xml'",
        "zone": "'Kyiv'",
        "where[0].reason": "",
        "where[1].equal": "'b'",
        "where[1]": "'no test'",
        "answered[0].any": "'[]'",
        "numbers.strip[0]": "",
        "numbers.rules[0].prefix": "'+'",
        "numbers.rules[1]": "{'to': '1'}",
        "numbers.rules[2].digits": "0",
        "fields.id": "'path, value'",
        "fields.setup_at.format": "'%d.%m %H:%M'",
        "fields.answered_at.zone": "2",
        "fields.answered_at.format": "'%Y-%m-%d %H:%M'",
        "fields.duration.unit": "",
        "fields.duration": "'billsec'",
        "fields.caller.match": "'('",
        "fields.called": "",
        "orig.ip.form": "'int16'",
        "orig.acount": "'b'",
        "defaults.gateway": "['x']",
        "defaults.client": "42",
        "defaults.country": "'+380'",
    }
    told = {fault.path: str(fault) for fault in faults}
    assert told["descripton"] == "own: descripton = 'typo': there is no such key; did you mean description?"
    assert told["defaults.gateway"].endswith("did you mean gateways?")
    assert told["orig.acount"].endswith("did you mean account?")
    assert told["fields.called"].endswith('is missing; name what gives it: called = "FIELD"')
    assert all(len(fault.problem) > 10 for fault in faults)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("format = ", "(the file)"),
        ("", "format"),
        ("x = " + "[" * 5000 + "]" * 5000, "(the file)"),
        (_SMALL.replace('"to"', "{}"), "fields.called"),
        (_SMALL.replace('"to"', "{path = {}}"), "fields.called.path"),
        (_SMALL.replace('"to"', "[]"), "fields.called"),
        (_SMALL.replace('"to"', "5"), "fields.called"),
        (_SMALL.replace('"to"', '"a..b"'), "fields.called"),
        (_SMALL.replace('"to"', f'"{"a." * 40}b"'), "fields.called"),
        (_SMALL.replace('"to"', '"$.to"'), "fields.called"),
        (_SMALL.replace('"to"', "{join = []}"), "fields.called.join"),
        (_SMALL.replace('"to"', '{path = "to", separator = "-"}'), "fields.called.separator"),
        (_SMALL.replace('"json"', '"csv"'), "columns"),
        (
            _SMALL.replace('"json"', '"csv"\ncolumns = ["id", "d", "at", "to", "from", "who", "peer"]'),
            "term.gateway",
        ),
        (_SMALL.replace('"json"', '"esl"\nunwrap = "params"'), "unwrap"),
        (_SMALL.replace("[orig]", "[[orig]]"), "orig"),
        (_SMALL.partition("[orig]")[0], "orig"),
        (_SMALL.replace('unit = "s"', 'unit = "s", scale = 0'), "fields.duration.scale"),
        (_SMALL.replace('unit = "s"', 'unit = "s", scale = "1/0"'), "fields.duration.scale"),
        (_SMALL.replace('unit = "s"', 'unit = "s", scale = 0.1'), "fields.duration.scale"),
        (_SMALL.replace('unit = "s"', 'unit = "s", scale = true'), "fields.duration.scale"),
        (_SMALL.replace('unit = "s"', 'unit = "h"'), "fields.duration.unit"),
        (_SMALL.replace('unit = "s"', "scale = 2"), "fields.duration.unit"),
        (_SMALL.replace('path = "d", unit = "s"', 'sum = ["d"]'), "fields.duration.sum[0].unit"),
        (_SMALL.replace('path = "d"', "sum = []"), "fields.duration.sum"),
        (_SMALL.replace('path = "d"', 'path = "d", sum = ["d"]'), "fields.duration.path"),
        (_SMALL.replace('path = "d", unit = "s"', 'from = "answered_at"'), "fields.duration.to"),
        (_SMALL.replace('path = "d", unit = "s"', 'from = "at", to = "setup_at"'), "fields.duration.from"),
        (
            _SMALL.replace('path = "d", unit = "s"', 'from = "answered_at", to = "answered_at"'),
            "fields.duration",
        ),
        (
            _SMALL.replace('path = "d", unit = "s"', 'from = "answered_at", to = "ended_at"'),
            "fields.duration.to",
        ),
        (
            _SMALL.replace('duration = {path = "d", unit = "s"}', 'volume = {path = "d", unit = "s"}'),
            "fields.volume.unit",
        ),
        (_SMALL.replace('"epoch"', '"%Y-%m-%d %I:%M", zone = "UTC"'), "fields.answered_at.format"),
        (_SMALL.replace('"epoch"', '"%Y-%m-%d %H:%M %p", zone = "UTC"'), "fields.answered_at.format"),
        (_SMALL.replace('"epoch"', '"%Y-%m-%d %H %I:%M %p", zone = "UTC"'), "fields.answered_at.format"),
        (_SMALL + '[numbers]\nsuffix = "#"', "numbers.suffix"),
        ("fields = 1\norig = 2\nwhere = 3\nnumbers = 4\nformat = 5", "fields"),
    ],
)
def test_fault_of_a_map(text: str, path: str) -> None:
    """A map that cannot work is refused with the key that is wrong, and never by an exception."""
    assert path in {fault.path for fault in _faults(text)}


# Hostile bytes

_MAPS = {name: _shipped(name) for name in _FILES}
_SAMPLES = {
    name: [record.raw for record in records(io.BytesIO((_DATA / file).read_bytes()), _MAPS[name])]
    for name, file in _FILES.items()
}


def _survives(source_map: SourceMap, raw: bytes) -> None:
    found = source_map.apply(raw)
    assert isinstance(found, (dict, Skipped, tuple))
    assert found == source_map.apply(raw)
    rows = describe(raw, found)
    assert "".join(row.text for row in rows).encode() is not None
    if isinstance(found, dict):
        became = check(found, _ARRIVAL)
        assert isinstance(became, Cdr) or source_map.named(became)
    elif isinstance(found, tuple):
        assert found


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(_FILES)), raw=st.binary(max_size=400))
def test_any_bytes(name: str, raw: bytes) -> None:
    """Nothing leaves apply(), whatever the bytes."""
    _survives(_MAPS[name], raw)


_HOSTILE = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([
        b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"%00", b"%ff%fe", b'"', b",", b"\n", b"\r\n", b":",
        b"{", b"}", b"[", b"]", b"null", b"1e999", b"-1", b"9" * 400, b"9" * 5000, b"[" * 3000,
        b'{"a":' * 3000,
        "٣٤".encode(), b"9999-12-31T23:59:59-23:59", b"0001-01-01T00:00:00+23:59", b"253402300799999999",
    ]),
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(_FILES)))
def test_mutated_records(data: st.DataObject, name: str) -> None:
    """Nothing leaves apply() when a switch's record has been damaged or forged."""
    raw = data.draw(st.sampled_from(_SAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(begin, min(begin + 40, len(raw))))
        raw = raw[:begin] + data.draw(_HOSTILE) + raw[end:]
    _survives(_MAPS[name], raw)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1793700000", "+380441234567", "2026-11-03T10:00:00Z", "sip:1@2", "0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(["freeswitch", "asterisk", "opensips", "kamailio"]))
def test_any_value_in_any_field(data: st.DataObject, name: str) -> None:
    """Nothing leaves apply() when fields hold values of any kind."""
    record = json.loads(data.draw(st.sampled_from(_SAMPLES[name])))
    holder = data.draw(st.sampled_from([record, *(one for one in record.values() if isinstance(one, dict))]))
    for key in data.draw(st.sets(st.sampled_from(sorted(holder)), min_size=1, max_size=3)):
        holder[key] = data.draw(_JSON)
    _survives(_MAPS[name], json.dumps(record).encode())


_LEAVES = st.one_of(
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from(
        ["", "a", "a.b", "$.a", "(", "iso", "%", "%d", "UTC", "no/zone", "csv", "json", "esl", "s"]
    ),
    st.just([]),
    st.just({}),
    st.just(["a", 1]),
    st.just({"path": ["a"], "match": "(.)", "absent": ["0"]}),
    st.just({"join": ["a?", {"value": "b"}], "sorted": True}),
)
_TABLES = {
    name: tomllib.loads((_ROOT / "config" / "sources" / f"{name}.toml").read_text("utf-8")) for name in _FILES
}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(_FILES)))
def test_mutated_maps(data: st.DataObject, name: str) -> None:
    """Whatever stands in a map, it is compiled or its faults are named; then it takes any record."""
    table = copy.deepcopy(_TABLES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(_places(table)))
        holder[key] = copy.deepcopy(data.draw(_LEAVES))
    text = "\n".join(f"{_toml(key)} = {_toml(value)}" for key, value in table.items())
    found = compile_map(text, name)
    if isinstance(found, SourceMap):
        _survives(found, data.draw(st.sampled_from(_SAMPLES[name])))
    else:
        assert all(fault.path and fault.problem for fault in found)


def _places(value: Any) -> list[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in pairs for place in ((value, key), *_places(one))]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


_SERVICES = """
format = "json"
fault = "fault"
[fields]
id = "id"
called = "to"
service = "kind"
setup_at = {path = "at", format = "epoch"}
answered_at = {path = "at", format = "epoch"}
duration = {path = "seconds", unit = "s"}
volume = "pieces"
[orig]
account = "who"
"""


def test_duration_and_volume_of_several_services() -> None:
    """Calls have a duration, records of other services a volume; what a record lacks is named."""
    record = {"id": "1", "to": "380", "at": 1_793_700_000, "who": "a", "seconds": 65, "pieces": 2}
    call = _mapped(_SERVICES, {**record, "kind": "calls"})
    assert (call["duration_ms"], "volume" in call) == (65_000, False)
    assert _mapped(_SERVICES, record)["duration_ms"] == 65_000  # without a service: calls
    message = _mapped(_SERVICES, {**record, "kind": "messages"})
    assert (message["volume"], "duration_ms" in message) == (2, False)
    for kind, lacking, told in (("calls", "seconds", "duration_ms"), ("data", "pieces", "volume")):
        raw = json.dumps({**record, "kind": kind, lacking: None}).encode()
        refused = _compiled(_SERVICES).apply(raw)
        assert isinstance(refused, tuple)
        assert refused[0].detail.startswith(f"{told}: nothing in {lacking}")
    assert [fault.path for fault in _faults(_SERVICES.replace('service = "kind"\n', ""))] == [
        "fields.duration"
    ]


def test_a_record_that_says_why_it_could_not_be_read() -> None:
    """It is malformed with that sentence, whatever else it has."""
    raw = json.dumps({"fault": "octet 7: \x01", "id": "1"}).encode()
    (refused,) = _rejected(_compiled(_SERVICES).apply(raw))
    assert (refused.reason, refused.side) == (Reason.MALFORMED, None)
    assert refused.detail == "octet 7: \\x01 (map own)"
    (refused,) = _rejected(_compiled(_SERVICES).apply(b'{"fault": {"why": 1}}'))
    assert refused.reason is Reason.MALFORMED


def _rejected(found: object) -> tuple[Rejection, ...]:
    assert isinstance(found, tuple)
    return found
