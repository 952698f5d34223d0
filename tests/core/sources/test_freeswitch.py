"""What FreeSWITCH writes beside the records of tests/data/sources: older forms, large ones, odd durations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import check
from rater.core.reasons import Reason, Rejection
from rater.core.sources.source_map import SourceMap
from rater.core.zones import Zones
from rater.source_maps import open_map

_DATA = Path(__file__).parents[2] / "data" / "sources" / "freeswitch.jsonl"
_ARRIVAL = Arrival(1_793_700_600_000, 7 * 86_400_000, frozenset({"calls"}))


def _leg(number: int) -> dict[str, Any]:
    """Return a document of the samples: 0 an A leg, 1 a B leg through a gateway, 5 one to an address."""
    leg: dict[str, Any] = json.loads(_DATA.read_bytes().splitlines()[number])
    return leg


def _became(document: dict[str, Any], name: str = "freeswitch") -> Cdr | tuple[Rejection, ...]:
    found = open_map(name, {"source": "s1"})
    assert isinstance(found, SourceMap), found
    mapped = found.apply(json.dumps(document).encode())
    assert isinstance(mapped, dict), mapped
    return check(mapped, _ARRIVAL)


def _event(document: dict[str, Any]) -> dict[str, str]:
    """Return the event of the same leg, as JSON, as far as the map reads it."""
    profile = document["callflow"][0]["caller_profile"]
    variables = {
        f"variable_{name}": value.replace("%40", "@") for name, value in document["variables"].items()
    }
    return {
        "Event-Name": "CHANNEL_HANGUP_COMPLETE",
        "Unique-ID": profile["uuid"],
        "Caller-Caller-ID-Number": profile["caller_id_number"],
        "Caller-Destination-Number": profile["destination_number"],
        **variables,
    }


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_a_single_callflow_is_an_object(number: int) -> None:
    """Releases of before 2016 write one callflow as an object: the same CDR as of a list of one."""
    leg = _leg(number)
    single = {**leg, "callflow": leg["callflow"][0]}
    assert isinstance(_became(leg), Cdr)
    assert _became(single) == _became(leg)


@pytest.mark.parametrize("empty", [{}, []])
def test_an_empty_element_is_no_value(empty: object) -> None:
    """Programs that make JSON of XML write an empty element so; where it is needed it is missing."""
    leg = _leg(0)
    lacking = {name: value for name, value in leg["variables"].items() if name != "accountcode"}
    without = _became({**leg, "variables": {**lacking, "sip_gateway": ""}})
    assert isinstance(without, Cdr)
    assert _became({**leg, "variables": {**lacking, "accountcode": empty, "sip_gateway": empty}}) == without
    found = open_map("freeswitch")
    assert isinstance(found, SourceMap)
    refused = found.apply(
        json.dumps({**leg, "variables": {**lacking, "uuid": empty}, "callflow": empty}).encode()
    )
    assert isinstance(refused, tuple)
    assert refused[0].reason is Reason.MISSING_FIELD


def test_documents_grow() -> None:
    """A document of nearly 1 MiB is read, one byte more is too_large; a source may say another size."""
    raw = json.dumps({**_leg(0), "x": "<~>"}).encode()
    for size, bytes_max in ((2**20, 2**20), (70_000, 70_000), (2**21, 2**21)):
        large = raw.replace(b"<~>", b"x" * (size - len(raw) + 3))
        assert len(large) == size
        made = open_map("freeswitch", {"source": "s1"}, bytes_max=bytes_max)
        assert isinstance(made, SourceMap)
        assert made.apply(large) == made.apply(raw)
        assert made.under(Zones()).bytes_max == bytes_max
        refused = made.apply(large + b" ")
        assert isinstance(refused, tuple)
        assert (refused[0].reason, refused[0].value) == (Reason.TOO_LARGE, str(size + 1))


def test_two_callflows() -> None:
    """After a transfer the first one counts, which is the last in time."""
    leg = _leg(0)
    before = json.loads(json.dumps(leg["callflow"][0]))
    before["caller_profile"]["destination_number"] = "100"
    assert _became({**leg, "callflow": [*leg["callflow"], before]}) == _became(leg)


@pytest.mark.parametrize("callflow", [None, [], {}, "", "x", 5, [None], [[]], {"1": {}}])
def test_variables_alone(callflow: object) -> None:
    """Without a callflow an A leg was asked for sip_req_user, a B leg bears its number in its name."""
    for number, called in ((0, {"sip_req_user": "00380441234567"}), (1, {}), (5, {})):
        leg = _leg(number)
        leg["variables"] |= {"sip_from_user": "1001", **called}
        whole = _became(leg)
        alone = {"variables": leg["variables"]} | ({} if callflow is None else {"callflow": callflow})
        if number == 0:
            assert _became({"cdr": alone}) == _became(alone)  # the root element was kept
        assert _became(alone) == whole


def test_called_of_a_leg_to_a_gateway() -> None:
    """The name of a leg to a gateway has no address: sofia/PROFILE/NUMBER."""
    leg = _leg(1)
    leg["variables"] |= {"channel_name": "sofia/external/380441234567", "sip_from_user": "1001"}
    assert _became({"variables": leg["variables"]}) == _became(leg)


def test_no_number_of_the_caller_is_called() -> None:
    """The name of an A leg bears the caller's number: without sip_req_user nobody was called."""
    variables = _leg(0)["variables"]
    found = open_map("freeswitch")
    assert isinstance(found, SourceMap)
    rejected = found.apply(json.dumps({"variables": variables}).encode())
    assert isinstance(rejected, tuple)
    assert rejected[0].reason is Reason.MISSING_FIELD
    assert rejected[0].detail.startswith("called: nothing in ")


@pytest.mark.parametrize("billmsec", ["-5", "-1793699992120", "0", ""])
@pytest.mark.parametrize("answered", ["0", "", None])
@pytest.mark.parametrize("name", ["freeswitch", "freeswitch-esl"])
def test_billmsec_of_a_call_that_nobody_answered(name: str, answered: str | None, billmsec: str) -> None:
    """It may be below zero: a zero transaction, whatever stands there, and no field is missing."""
    leg = _leg(0)
    leg["variables"] |= {"billmsec": billmsec, "billsec": "0", "answer_uepoch": answered or ""}
    if answered is None:
        del leg["variables"]["answer_uepoch"]
    found = _became(leg if name == "freeswitch" else _event(leg), name)
    assert isinstance(found, Cdr)
    assert (found.used, found.duration_ms, found.answered_ms) == (False, 0, None)
    assert found.at_ms == found.setup_ms


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"billmsec": "-5"}, Reason.BAD_DURATION),  # it was answered
        ({"billmsec": "65039", "answer_uepoch": "0"}, Reason.MISSING_FIELD),  # a duration and no answer
        ({"billmsec": "65039", "answer_uepoch": ""}, Reason.MISSING_FIELD),
        ({"billmsec": "", "billsec": "65", "answer_uepoch": "0"}, Reason.MISSING_FIELD),
    ],
)
@pytest.mark.parametrize("name", ["freeswitch", "freeswitch-esl"])
def test_no_duration_is_taken_for_unanswered(name: str, variables: dict[str, str], reason: Reason) -> None:
    """A duration without an answer, or below zero with one, is refused, not given away."""
    leg = _leg(0)
    leg["variables"] |= variables
    found = _became(leg if name == "freeswitch" else _event(leg), name)
    assert isinstance(found, tuple)
    assert {one.reason for one in found} == {reason}
