"""What Kamailio and OpenSIPS write: calls, failed transactions, events of billing scripts, datagrams.

No map may skip what was answered and lasted: it is mapped, or rejected by name.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import check
from rater.core.reasons import Rejection
from rater.core.sources.cutting import records
from rater.core.sources.source_map import Mapped, Skipped, SourceMap, describe
from rater.source_maps import open_map, shipped

DATA = Path(__file__).parents[2] / "data" / "sources"
ANSWERED_MS = 1_793_700_000_000  # 2026-11-03 10:00 UTC
ARRIVAL = Arrival(ANSWERED_MS + 600_000, 7 * 86_400_000, frozenset({"calls"}))
CDR = {
    "start_time": "1793700000.000", "end_time": "1793700065.039", "duration": "65.039", "callid": "c",
    "from_tag": "f", "to_tag": "t", "account": "sip-1001", "src_user": "1001", "dst_user": "380441234567",
}  # fmt: skip
MISSED = {
    "time": 1793700010, "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": "c",
    "sip_code": "488", "sip_reason": "Not Acceptable Here",
    "account": "sip-1001", "src_user": "1001", "dst_user": "380441234567",
}  # fmt: skip
EVENT = {
    "event": "CGR_CALL_END", "callid": "c", "from_tag": "f", "to_tag": "t", "Account": "sip-1001",
    "Destination": "+380441234567", "SetupTime": "1793699992", "AnswerTime": "1793700000", "Usage": "65",
}  # fmt: skip
OPENSIPS = {
    "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": "c", "sip_code": "200",
    "time": "1793700000", "duration": "65", "ms_duration": "65039", "setuptime": "8", "created": "1793699992",
    "account": "sip-1001", "caller": "1001", "called": "380441234567",
}  # fmt: skip


def _map(name: str) -> SourceMap:
    found = open_map(name, {"source": "s"})
    assert isinstance(found, SourceMap)
    return found


KAMAILIO, OPENSIPS_MAP = _map("kamailio"), _map("opensips")


def _of(record: dict[str, Any], source_map: SourceMap = KAMAILIO) -> Mapped | Skipped | tuple[Rejection, ...]:
    """Return what becomes of a record by its map and by the checks of CDRs."""
    mapped = source_map.apply(json.dumps(record).encode())
    if not isinstance(mapped, dict):
        return mapped
    found = check(mapped, ARRIVAL)
    return source_map.named(found) if isinstance(found, tuple) else mapped


def _call(record: dict[str, Any], source_map: SourceMap = KAMAILIO) -> Mapped:
    found = _of(record, source_map)
    assert isinstance(found, dict), found
    return found


def _without(record: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names} | more


# Calls and transactions of Kamailio


def test_a_refused_transaction_leaves_the_calls_id_alone() -> None:
    """A refused re-INVITE has the tags of its call and an id of its own; a call keeps its id of before."""
    refused, call = _call(MISSED), _call(CDR)
    assert call["id"] == "c-f-t"
    assert (call["duration_ms"], call["answered_at"]) == (65_039, ANSWERED_MS)
    assert refused["id"] == "c-f-t-488-1793700010"
    assert refused["duration_ms"] == 0
    assert _call({**MISSED, "time": 1793700010.5993941})["id"] == refused["id"]
    assert _call({**MISSED, "time": 1793700020})["id"] != refused["id"]
    assert _call({**MISSED, "sip_code": "486"})["id"] != refused["id"]


@pytest.mark.parametrize(
    "more", [{"sip_code": "200"}, {"method": "BYE", "sip_code": "481"}, {"method": "BYE"}]
)
def test_a_cdr_with_fields_of_transactions_is_a_call(more: dict[str, str]) -> None:
    """cdr_extra may name method and code, which are those of the BYE: the call is one all the same."""
    call = _call({**CDR, **more})
    assert (call["id"], call["duration_ms"], call["answered_at"]) == ("c-f-t", 65_039, ANSWERED_MS)


@pytest.mark.parametrize(
    "method",
    ["BYE", "ACK", "CANCEL", "PRACK", "PUBLISH", "UPDATE", "INFO", "MESSAGE", "REGISTER", "OPTIONS",
     "SUBSCRIBE", "NOTIFY", "REFER", "FOO"],
)  # fmt: skip
@pytest.mark.parametrize("source_map", [KAMAILIO, OPENSIPS_MAP], ids=["kamailio", "opensips"])
def test_only_an_invite_begins_a_call(method: str, source_map: SourceMap) -> None:
    """Other transactions are skipped, failed ones too."""
    found = _of({**MISSED, "method": method, "sip_code": "481"}, source_map)
    assert found == Skipped("a transaction that begins no call")


@pytest.mark.parametrize("code", ["401", "407"])
@pytest.mark.parametrize("source_map", [KAMAILIO, OPENSIPS_MAP], ids=["kamailio", "opensips"])
def test_a_challenge_is_no_call(code: str, source_map: SourceMap) -> None:
    """The INVITE that brings the credentials is the call, and it may have the tags of the one refused."""
    found = _of({**MISSED, "sip_code": code}, source_map)
    assert isinstance(found, Skipped)
    assert found.reason.startswith("asked for credentials")


def test_an_answered_transaction_does_not_say_what_is_set_up() -> None:
    """The call of an answered transaction is a CDR; whether CDRs are enabled, the record does not tell."""
    found = _of({**MISSED, "sip_code": "200"})
    assert isinstance(found, Skipped)
    assert "enable" not in found.reason


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        (1793699992, 1793699992000),  # acc_time_mode 0 and 1
        ("1793699992", 1793699992000),
        (1793699992.5993941, 1793699992599),  # 2
        ("2026-11-03 09:59:52", 1793699992000),  # 3 and 4, and a DATETIME of SQL
        ("2026-11-03 09:59:52.599", 1793699992599),
        ("2026-11-03T11:59:52+02:00", 1793699992000),
    ],
)
def test_times_of_missed_calls(time: object, ms: int) -> None:
    """Every acc_time_mode is read; a time without an offset by the map's zone."""
    assert _call({**MISSED, "time": time})["setup_at"] == ms


def test_rows_of_sql() -> None:
    """A row of acc_cdrs has dates, of the server's zone, which the source's defaults name."""
    row = {
        **CDR, "start_time": "2026-11-03 12:00:00", "end_time": "2026-11-03 12:01:05",
        "duration": 65.039, "id": 7,
    }  # fmt: skip
    source_map = open_map("kamailio", {"source": "s", "zone": "Europe/Kyiv"})
    assert isinstance(source_map, SourceMap)
    call = _call(row, source_map)
    assert (call["answered_at"], call["ended_at"]) == (ANSWERED_MS, ANSWERED_MS + 65_000)
    assert call["duration_ms"] == 65_039
    # MySQL's 0.000 of a dialog that failed is no text, so it is told from "0.000".
    assert "answered_at" not in _call({**row, "duration": 0.0}, source_map)


@pytest.mark.parametrize(
    "time", ["2026-11-03 9.59", "yesterday", "1793699992,5", "2026-13-03 09:59:52", "-1"]
)
def test_times_that_are_none(time: str) -> None:
    """What is no time of any mode is bad_time, with the value."""
    found = _of({**MISSED, "time": time})
    assert isinstance(found, tuple)
    assert (found[0].reason, found[0].value) == ("bad_time", time)


@pytest.mark.parametrize(
    ("duration", "answered", "outcome"),
    [
        ("0", False, "unanswered"),
        ("0.000", True, "a call"),
        ("0.001", True, "a call"),
        (0, False, "unanswered"),
    ],
)
def test_less_than_a_millisecond(duration: object, outcome: str, *, answered: bool) -> None:
    """A failed dialog has "0", an answered one of less than a millisecond "0.000": it was answered."""
    call = _call({**CDR, "end_time": CDR["start_time"], "duration": duration})
    assert ("answered_at" in call) is answered
    assert dict(describe(b"", call))["outcome"] == outcome
    judged = check(call, ARRIVAL)
    assert isinstance(judged, Cdr)
    assert judged.used is (duration == "0.001")


def test_an_expired_dialog_without_fields() -> None:
    """With cdr_expired_dlg_enable of acc alone the record does not say whose it is: rejected, not lost."""
    found = _of(
        {**CDR, "callid": "", "from_tag": "", "to_tag": "", "account": "", "src_user": "", "dst_user": ""}
    )
    assert isinstance(found, tuple)
    assert found[0].reason == "missing_field"


# Call-end events of scripts, with names of their own


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        _without(EVENT, "Usage", Usage="65s"),
        _without(EVENT, "Usage", Usage="65000ms"),
        _without(EVENT, "Usage", Usage=65),
        _without(EVENT, "Usage", "AnswerTime", Usage="65.000", AnswerTime="2026-11-03T10:00:00Z"),
        _without(EVENT, "Usage", EndTime="1793700065"),
        _without(EVENT, "Usage", "event", Usage="", EndTime="2026-11-03T10:01:05Z"),
        _without(EVENT, "Account", AccountID="sip-1001"),
        _without(EVENT, "SetupTime"),
        _without(EVENT, "event", "from_tag", "to_tag", "callid", OriginID="c-f-t"),
        _without(
            EVENT, "Account", "Destination", "SetupTime", "AnswerTime", "Usage", cgr_account="sip-1001",
            cgr_destination="380441234567", cgr_answertime="1793700000", cgr_setuptime="1793699992",
            cgr_duration="65",
        ),
        _without(
            EVENT, "Account", "Destination", "AnswerTime", "Usage", cgrAccount="sip-1001",
            cgrDestination="380441234567", cgrAnswerTime="1793700000", cgrDuration="65",
        ),
        {**EVENT, "method": "BYE", "sip_code": "200"},
        {**EVENT, "method": "INVITE", "sip_code": "200"},
    ],
)  # fmt: skip
def test_a_call_end_event_is_a_call(event: dict[str, Any]) -> None:
    """Account, destination, answer time and usage under a billing script's names are those of a call."""
    call = _call(event)
    assert (call["id"], call["answered_at"], call["duration_ms"]) == ("c-f-t", ANSWERED_MS, 65_000)
    assert call["called"] == "380441234567"
    assert call["orig"] == {"account": "sip-1001"}


@pytest.mark.parametrize(
    ("event", "reason", "named"),
    [
        (_without(EVENT, "Usage", TalkTime="65"), "missing_field", "duration_ms"),
        (_without(EVENT, "Usage", Usage="a minute"), "bad_duration", "duration_ms"),
        (_without(EVENT, "Usage", Usage="-5"), "bad_duration", "duration_ms"),
        (_without(EVENT, "Usage", Usage="65000000000"), "bad_duration", "duration_ms"),  # nanoseconds
        (_without(EVENT, "AnswerTime", Answered="1793700000"), "missing_field", "answered_at"),
        (_without(EVENT, "Destination", Dest="380441234567"), "missing_field", "called"),
        (_without(EVENT, "Account", Who="sip-1001"), "missing_field", "who made the call"),
        (_without(EVENT, "callid", CallIdentifier="c"), "missing_field", "id"),
        ({"call": "c", "from": "1001", "to": "380441234567", "answered": "1793700000", "seconds": 65},
         "missing_field", "id"),
        (_without(EVENT, "Usage", method="INVITE", sip_code="200", seconds="65"),
         "missing_field", "duration_ms"),
    ],
)  # fmt: skip
def test_names_that_the_map_does_not_know_are_rejected(
    event: dict[str, Any], reason: str, named: str
) -> None:
    """An answered call whose names are others is never skipped: the rejection says what is missing."""
    found = _of(event)
    assert isinstance(found, tuple), found
    assert found[0].reason == reason
    assert named in found[0].detail


@pytest.mark.parametrize("name", ["CGR_AUTH_REQUEST", "CGR_CALL_START", "CGR_AUTH_REPLY"])
def test_events_before_the_end_of_a_call(name: str) -> None:
    """They tell of no usage yet."""
    found = _of(_without(EVENT, "Usage", event=name))
    assert found == Skipped("an event before the end of a call")
    for nothing in ("0", "0.000", "0s", 0):
        assert _of({**EVENT, "event": name, "Usage": nothing}) == found
    assert isinstance(_of({**EVENT, "event": name}), dict)


# OpenSIPS


def test_a_missed_event_leaves_the_calls_id_alone() -> None:
    """As at Kamailio: a refused re-INVITE has the tags of its call; a call keeps its id of before."""
    refused = _without(OPENSIPS, "duration", "ms_duration", "setuptime", "created", sip_code="488")
    assert _call(OPENSIPS, OPENSIPS_MAP)["id"] == "c-f-t-sip-1001-380441234567"
    assert _call(refused, OPENSIPS_MAP)["id"] == "c-f-t-sip-1001-380441234567-488-1793700000"


@pytest.mark.parametrize("names", [("sip_code",), ("sip_code", "method"), ("method",), ("setuptime",)])
def test_a_duration_is_a_call(names: tuple[str, ...]) -> None:
    """Whatever else a CDR lacks, its duration is charged."""
    call = _call(_without(OPENSIPS, *names), OPENSIPS_MAP)
    assert call["duration_ms"] == 65_039
    assert "answered_at" in call


def test_a_cdr_without_duration_is_rejected() -> None:
    """An answered call whose CDR has no duration is told, not skipped: with JSON-RPC around it or without."""
    bare = _without(OPENSIPS, "duration", "ms_duration")
    wrapped = {"jsonrpc": "2.0", "method": "E_ACC_CDR", "params": _without(bare, "created", "setuptime")}
    for record in (bare, wrapped):
        found = _of(record, OPENSIPS_MAP)
        assert isinstance(found, tuple)
        assert found[0].reason == "missing_field"


def test_an_answered_transaction_of_opensips() -> None:
    """Without JSON-RPC around it, it is told by what it lacks of a CDR."""
    found = _of(_without(OPENSIPS, "duration", "ms_duration", "created", "setuptime"), OPENSIPS_MAP)
    assert isinstance(found, Skipped)


# Datagrams of OpenSIPS


def _datagrams() -> list[bytes]:
    with (DATA / "opensips.txt").open("rb") as file:
        return [record.raw for record in records(file, OPENSIPS_MAP)]


def test_a_datagram_is_the_event_that_json_is() -> None:
    """The text of an event gives the CDR, the missed call and the skip of its JSON-RPC form."""
    events = [json.loads(line) for line in (DATA / "opensips.jsonl").read_bytes().splitlines()]
    same = [
        event for event in events if event.get("method") in ("E_ACC_CDR", "E_ACC_MISSED_EVENT", "E_ACC_EVENT")
    ]
    wanted = [same[0], same[2], same[3]]
    texts = _datagrams()
    assert len(texts) == 3
    made = [OPENSIPS_MAP.apply(raw) for raw in texts]
    assert made == [OPENSIPS_MAP.apply(json.dumps(event).encode()) for event in wanted]
    assert [isinstance(one, dict) for one in made] == [True, True, False]


@pytest.mark.parametrize("change", [
    lambda raw: raw.replace(b"\n", b"\r\n"),
    lambda raw: raw + b"\n",
    lambda raw: b"\n" + raw,
    lambda raw: raw.replace(b"callid::c7a1@192.0.2.55", b'callid::"c7a1@192.0.2.55"'),
    lambda raw: raw + b"\ncallid::c7a1@192.0.2.55",
    lambda raw: raw + b'\nnote::"a\ncalled::4912345\n\\"b\\""',
    lambda raw: raw + b'\nnote::"not closed\nother::"',
    lambda raw: raw + b"\nnote::a::b\nan argument without a name\nname::\xe9\x01",
    lambda raw: raw.replace(b"E_ACC_CDR", b"E_ACC_CDR "),
])  # fmt: skip
def test_forms_of_a_datagram(change: Any) -> None:
    """Line ends, quotes, what is repeated and what the map does not read change nothing."""
    raw = _datagrams()[0]
    assert OPENSIPS_MAP.apply(change(raw)) == OPENSIPS_MAP.apply(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"callid::c\nduration::65", b"hello", b"\xff\xfe\x00", b"e_acc_cdr\ncallid::c", b"[]"]
)
def test_what_is_no_datagram(raw: bytes) -> None:
    """A record that is neither JSON nor an event's name and attributes is malformed, with a sentence."""
    found = OPENSIPS_MAP.apply(raw)
    assert isinstance(found, tuple)
    assert [one.reason for one in found] == ["malformed"]


@pytest.mark.parametrize("between", [b"\0", b"\nMY_EVENT\n", b"\n12:00 E_ACC_CDR\n"])
def test_two_datagrams_in_one_record(between: bytes) -> None:
    """A second event whose name is not seen is not lost behind the first: the record is rejected by name."""
    first, second = _datagrams()[0], _datagrams()[0].replace(b"callid::c7a1", b"callid::c7a2")
    found = OPENSIPS_MAP.apply(first + between + second)
    assert isinstance(found, tuple)
    assert found[0].reason == "malformed"
    assert "callid comes twice, as c7a1@192.0.2.55 and c7a2@192.0.2.55" in found[0].detail


def test_a_value_over_several_lines() -> None:
    """A value in quotes may have line ends; what stands behind them is no attribute."""
    raw = _datagrams()[0].replace(b"account::sip-1001", b'account::"sip\ncalled::1 \\"x\\""')
    made = OPENSIPS_MAP.apply(raw)
    assert isinstance(made, dict)
    assert made["called"] == OPENSIPS_MAP.apply(_datagrams()[0])["called"]  # type: ignore[call-overload, index]
    assert made["orig"]["account"].startswith("sip")


def test_bytes_of_a_datagram_are_shown() -> None:
    """A byte that is no UTF-8 in a field that is read is shown, as in other texts."""
    raw = _datagrams()[0].replace(b"account::sip-1001", b"account::caf\xe9")
    made = OPENSIPS_MAP.apply(raw)
    assert isinstance(made, dict)
    assert made["orig"]["account"] == r"caf\xe9"


def test_a_file_of_datagrams_is_cut_into_events() -> None:
    """One event a record, an empty line or the next event's name between; and what is none by itself."""
    text = (DATA / "opensips.txt").read_bytes()
    whole = [record.line for record in records(io.BytesIO(text), OPENSIPS_MAP)]
    assert whole == [1, 20, 33]
    glued = [record.raw for record in records(io.BytesIO(text.replace(b"\n\n", b"\n")), OPENSIPS_MAP)]
    assert glued == _datagrams()
    odd = b"what is\nthis\n" + text + b"\n\nE_ACC_CDR\n"
    made = [OPENSIPS_MAP.apply(record.raw) for record in records(io.BytesIO(odd), OPENSIPS_MAP)]
    kinds = ["rejected" if isinstance(one, tuple) else type(one).__name__ for one in made]
    assert kinds == ["rejected", "dict", "dict", "Skipped", "rejected"]


def test_datagrams_for_a_map_of_json() -> None:
    """One sentence for the whole file, with the remedy, and no rejection for each line."""
    with pytest.raises(ValueError, match=r"line 1 is the name of an OpenSIPS event, E_ACC_CDR.*map opensips"):
        list(records(io.BytesIO((DATA / "opensips.txt").read_bytes()), KAMAILIO))


def test_json_of_datagrams() -> None:
    """Newer OpenSIPS sends JSON-RPC: as lines, or one after the other, as datagrams have no line ends."""
    one = json.dumps({"jsonrpc": "2.0", "method": "E_ACC_CDR", "params": OPENSIPS}).encode()
    for between in (b"\n", b"", b" ", b"\r\n\r\n"):
        cut = [record.raw.strip() for record in records(io.BytesIO(one + between + one), OPENSIPS_MAP)]
        assert cut == [one, one]


def test_text_and_json_in_one_file() -> None:
    """Before and after an update of OpenSIPS: each event is one record, in whatever form."""
    text = _datagrams()[0]
    line = json.dumps({"jsonrpc": "2.0", "method": "E_ACC_CDR", "params": OPENSIPS}).encode()
    for parts in ([text, line, text], [line, text, line], [line, line, text]):
        for between in (b"\n", b"\n\n", b"\r\n"):
            found = records(io.BytesIO(between.join(parts)), OPENSIPS_MAP)
            assert [record.raw for record in found] == parts
    broken = b"\n".join([line, line[:50], line[:60], text])
    assert [record.raw for record in records(io.BytesIO(broken), OPENSIPS_MAP)] == broken.split(b"\n", 3)


# No map skips what was answered and lasted


def _calls(name: str) -> Iterator[bytes]:
    """Yield the records of a map's samples that are calls of some length."""
    source_map = _map(name)
    for path in sorted(DATA.glob(f"{name.removesuffix('-csv')}.*")):
        if (path.suffix == ".csv") == (source_map.format == "csv"):
            with path.open("rb") as file:
                for record in records(file, source_map):
                    mapped = source_map.apply(record.raw)
                    if isinstance(mapped, dict) and mapped.get("duration_ms") not in (0, None):
                        yield record.raw


def _less(raw: bytes, separator: str) -> Iterator[bytes]:
    """Yield a record without one of its fields, for each of them."""
    if raw[:1] != b"{":
        pieces = raw.split(separator.encode())
        empty = [] if separator == "\n" else [b""]
        yield from (
            separator.encode().join([*pieces[:at], *empty, *pieces[at + 1 :]]) for at in range(len(pieces))
        )
        return
    record = json.loads(raw)
    for path in _leaves(record):
        less = copy.deepcopy(record)
        holder = less
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        yield json.dumps(less).encode()


def _leaves(value: Any) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in pairs:
        yield (key,)
        yield from ((key, *path) for path in _leaves(one))


NO_CALL = {
    # Asterisk writes every field: an empty `dstchannel` of a Local channel says that it reached nobody.
    "a Local channel into an application, which calls nobody",
    # `rater ingest` makes these records and names the service of each event that is read.
    "no call, message or data session",
    "no subscriber's call, message or data session",
}


@pytest.mark.parametrize("name", list(shipped()))
def test_a_call_that_lacks_a_field_is_not_skipped(name: str) -> None:
    """Whatever field of an answered call is missing, it is mapped or rejected: a skip would lose it."""
    source_map = _map(name)
    separator = source_map.separator if source_map.format == "csv" else "\n"
    tried = 0
    for raw in _calls(name):
        for less in _less(raw, separator):
            tried += 1
            found = source_map.apply(less)
            assert not isinstance(found, Skipped) or found.reason in NO_CALL, (found, less)
    assert tried > 15
