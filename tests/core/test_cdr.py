"""The CDR: what is taken, and for what is not, the first reason of the list (CONTRACTS.md)."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.cdr import MAX_BYTES, Arrival, Cdr, GivenRate, Party
from rater.core.cdr_decoding import check, decode
from rater.core.instants import milliseconds, rfc3339
from rater.core.number_text import CHARS_MAX, digits_of
from rater.core.offline import Rater, Transaction
from rater.core.reasons import VALUE_CHARS_MAX, Reason, Rejection, shown

DAY_MS = 86_400_000
AT = "2026-11-05T10:00:00Z"
AT_MS = 1_793_872_800_000
ARRIVAL = Arrival(AT_MS, 7 * DAY_MS, frozenset({"calls", "messages"}))
GOOD: dict[str, Any] = {
    "id": "a", "called": "380441234567", "duration_ms": 60_000, "answered_at": AT, "orig": {"client": "42"},
}  # fmt: skip


def sent(**changes: object) -> Cdr | tuple[Rejection, ...]:
    """Decode the good record with changes; None takes a field away."""
    record = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return decode(json.dumps(record).encode(), ARRIVAL)


def taken(**changes: object) -> Cdr:
    """Decode the good record with changes, which must be taken."""
    found = sent(**changes)
    assert isinstance(found, Cdr)
    return found


TIME_NAMES = ("setup_at", "answered_at", "ended_at")


def mapped(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as a source map gives it: instants in ms. What is no instant stays as it is."""
    return {name: ms_of(value) if name in TIME_NAMES else value for name, value in record.items()}


def ms_of(value: object) -> object:
    """Return the ms of an RFC 3339 text, anything else as it is."""
    at = datetime.fromisoformat(value) if isinstance(value, str) and value[:1] == "2" else None
    return value if at is None or at.tzinfo is None else milliseconds(at)


# ---------------------------------------------------------------- a naive reading of the contract

TIMES: list[object] = [
    None, AT, "2026-11-05T12:00:00+02:00", "2026-11-05T10:00:00", "noon", 5, "2026-10-29T10:00:00Z",
    "2026-10-29T09:59:59.999Z", "2026-11-05T11:00:00Z", "2026-11-05T11:00:00.001Z",
]  # fmt: skip
AMOUNTS: list[object] = [
    None, 0, 1, 60_000, 3_600_000, 3_600_001, -1, 1.5, "1", True, 2**32 - 2**16 - 1, 2**32 - 2**16, 2**32 - 1,
    2**32, 2**53 - 1, 2**53, 2**64 - 1, [1],
]  # fmt: skip
RECORDS = st.fixed_dictionaries({
    "id": st.sampled_from([None, "", "a", "x" * 200, "x" * 201, 5]),
    "source": st.sampled_from([None, "", "fs1", "a/b", "cp", "adjust", "x" * 65, 5]),
    "service": st.sampled_from([None, "calls", "messages", "fax", "", 5]),
    "called": st.sampled_from(
        [None, "", "+", "380", "+380", "++380", "38x", "٣٨٠", "3 8-0", "1" * 64, "1" * 65, 5]
    ),
    "caller": st.sampled_from([None, "", "14155550100", 5]),
    "setup_at": st.sampled_from(TIMES), "answered_at": st.sampled_from(TIMES),
    "ended_at": st.sampled_from(TIMES),
    "duration_ms": st.sampled_from(AMOUNTS), "volume": st.sampled_from(AMOUNTS),
    "orig": st.sampled_from([None, {}, {"client": "42"}, {"client": 42}, 5, {"rate": {"code": "1"}}]),
    "term": st.sampled_from([None, {"account": "sip-1"}, {"rate": {"code": "1", "price": "x"}}]),
})  # fmt: skip
LIKELY = st.fixed_dictionaries({
    name: st.just(GOOD.get(name)) | st.just(GOOD.get(name)) | one for name, one in (
        ("id", st.sampled_from([None, "", "b"])), ("called", st.sampled_from(["", "+1", "x", "٣٨٠"])),
        ("duration_ms", st.sampled_from(AMOUNTS)), ("answered_at", st.sampled_from(TIMES)),
        ("ended_at", st.sampled_from(TIMES)), ("service", st.sampled_from(["messages", "fax"])),
        ("orig", st.sampled_from([None, 5])),
    )
})  # fmt: skip


def common_reason(record: dict[str, Any]) -> Reason | None:  # noqa: C901, PLR0911, PLR0912 - a long list
    """Return the first reason against what both sides share, as CONTRACTS.md says it; None: there is none."""
    for name in ("id", "source", "service", "called", "caller"):
        if record[name] is not None and not isinstance(record[name], str):
            return Reason.MALFORMED
    if len(record["id"] or "") > 200 or record["service"] == "":
        return Reason.MALFORMED
    source = "default" if record["source"] is None else record["source"]
    if not 0 < len(source) <= 64 or "/" in source or source in {"cp", "adjust"}:
        return Reason.MALFORMED
    service = record["service"] or "calls"
    by_time = service == "calls" or (service == "fax" and record["volume"] is None)
    amount = record["duration_ms" if by_time else "volume"]
    if not record["id"] or not record["called"] or amount is None:
        return Reason.MISSING_FIELD
    zero = not isinstance(amount, bool) and amount == 0
    times = [record[name] for name in ("answered_at", "setup_at", "ended_at")]
    if times[0] is None and (not zero or times[1:] == [None, None]):
        return Reason.MISSING_FIELD
    if any(time in ("2026-11-05T10:00:00", "noon", 5) for time in times):
        return Reason.BAD_TIME
    at = datetime.fromisoformat(next(time for time in times if time is not None))
    ahead_ms = round((at - datetime.fromisoformat(AT)).total_seconds() * 1000)
    if ahead_ms > 3_600_000:
        return Reason.TIME_IN_FUTURE
    if ahead_ms < -7 * DAY_MS:
        return Reason.TOO_OLD
    for given_amount in (record["duration_ms"], record["volume"]):
        whole = isinstance(given_amount, int) and not isinstance(given_amount, bool)
        if given_amount is not None and not (whole and 0 <= given_amount < 2**53):
            return Reason.BAD_DURATION
        if given_amount is not None and given_amount + 2**16 in range(2**32, 2**32 + 2**16):
            return Reason.BAD_DURATION
    if ahead_ms + (record["duration_ms"] or 0) > 3_600_000:
        return Reason.BAD_DURATION
    number = record["called"].removeprefix("+")
    if number in ("٣٨٠", "3 8-0"):
        number = "380"
    if not 0 < len(number) <= 64 or set(number) - set("0123456789"):
        return Reason.NUMBER_INVALID
    return None if service in ARRIVAL.services else Reason.SERVICE_UNKNOWN


def side_reason(side: object) -> Reason | None:
    """Return the reason against one side."""
    if not isinstance(side, dict) or isinstance(side.get("client"), int):
        return Reason.MALFORMED
    if side.get("rate") is None:
        return None
    return Reason.MALFORMED if side["rate"].get("price") == "x" else Reason.MISSING_FIELD


@settings(max_examples=500)
@given(RECORDS | LIKELY.map(lambda some: {**dict.fromkeys(
    ("source", "caller", "setup_at", "volume", "term")), **some}))  # fmt: skip
def test_the_first_reason_of_the_list_is_given(record: dict[str, Any]) -> None:
    """Each side ends by the first reason that holds against it; without any, it is taken; nothing raises."""
    present = {name: value for name, value in record.items() if value is not None}
    shared = [reason for reason in (common_reason(record),) if reason is not None]
    sides = [side for side in ("orig", "term") if record[side] is not None]
    expected: dict[str | None, Reason | None] = {}
    order = list(Reason).index
    for side in sides:
        own = side_reason(record[side])
        expected[side] = min([*shared, *([own] if own else [])], key=order, default=None)
    if not sides:
        expected[None] = min([*shared, Reason.MISSING_FIELD], key=order)
    raw = json.dumps(present).encode()
    ways = [decode(raw, ARRIVAL)]
    if 5 not in (record[name] for name in TIME_NAMES):  # it would be a time: 5 ms after 1970
        ways.append(check(mapped(present), ARRIVAL))
    for found in ways:
        rejected = found.rejected if isinstance(found, Cdr) else found
        got: dict[str | None, Reason | None] = {one.side: one.reason for one in rejected}
        assert len(got) == len(rejected)
        if isinstance(found, Cdr):
            got |= {side: None for side, _ in found.sides()}
        assert got == expected, record


_TEXTS = (
    st.sampled_from(["", "a", "380441234567", "+1", 'a"b', "a\\b", "a\x1fb", "a\x7fb", "é", "a/b"])
    | st.text()
)
_NO_TEXTS = st.sampled_from([["x"], 5, 1.0, True, {}, 2**64])
_AROUND = st.integers(-8 * DAY_MS, 2 * 3_600_000).map(lambda ms: AT_MS + ms)
_PARTY = st.dictionaries(
    st.sampled_from(["client", "account", "gateway", "ip", "login"]), _TEXTS | _NO_TEXTS, max_size=3
)
_GIVEN: dict[str, Any] = {"code": "380", "price": "0.1", "currency": "USD", "interval": 0}
_RATES = st.dictionaries(st.sampled_from(sorted(_GIVEN)), st.just(None)).map(
    lambda some: {"rate": {name: _GIVEN[name] for name in some}}
)
MAPPED = st.fixed_dictionaries(
    {"id": _TEXTS, "called": st.sampled_from(["380441234567", "+380"]), "orig": _PARTY},
    optional={
        "source": _TEXTS, "service": st.sampled_from(["calls", "messages", "fax", ""]), "caller": _TEXTS,
        "setup_at": _AROUND, "answered_at": st.just(AT_MS) | _AROUND | st.integers(0, 253_402_300_799_999),
        "ended_at": _AROUND, "duration_ms": st.just(60_000) | st.sampled_from(AMOUNTS),
        "volume": st.sampled_from(AMOUNTS), "term": _PARTY | _RATES,
    },
)  # fmt: skip
ANY_MAPPED = st.tuples(
    st.just({"duration_ms": 60_000, "answered_at": AT_MS}) | st.just({}),
    MAPPED,
    st.dictionaries(st.sampled_from(["id", "source", "called", "caller", "orig"]), _NO_TEXTS, max_size=1),
).map(lambda parts: {**parts[1], **parts[0], **parts[2]})


@settings(max_examples=500)
@given(ANY_MAPPED)
def test_fields_of_a_map_are_judged_as_their_json(fields: dict[str, Any]) -> None:
    """What a map read becomes the very CDR, or the very rejections, that its JSON becomes."""
    written = {name: rfc3339(value) if name in TIME_NAMES else value for name, value in fields.items()}
    raw = json.dumps(written, ensure_ascii=False).encode()
    assert check(fields, ARRIVAL) == decode(raw, ARRIVAL)


@pytest.mark.parametrize("changes", [{"caller": "\ud800"}, {"orig": {"client": "\ud800"}}])
def test_half_a_character_of_a_map(changes: dict[str, Any]) -> None:
    """A text that no UTF-8 can write is refused, as no transaction could hold it."""
    found = check(mapped({**GOOD, **changes}), ARRIVAL)
    assert not isinstance(found, Cdr)
    assert [one.reason for one in found] == [Reason.MALFORMED]


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "term", "rate"]), inner),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nothing_raises(raw: bytes) -> None:
    """Whatever the bytes: a CDR, or rejections whose texts are bounded and can be written to headers."""
    found = decode(raw, ARRIVAL)
    rejected = found.rejected if isinstance(found, Cdr) else found
    assert isinstance(found, Cdr) or rejected
    for one in rejected:
        assert len(one.value) <= VALUE_CHARS_MAX
        one.value.encode()
        one.detail.encode()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (b"[" * 60_000, Reason.MALFORMED),
        (b'{"id": "\xff"}', Reason.MALFORMED),
        (b"x" * (MAX_BYTES + 1), Reason.TOO_LARGE),
        (json.dumps({**GOOD, "id": "\ud800"}).encode(), Reason.MALFORMED),
        (json.dumps(GOOD).encode().replace(b"60000", b"1e999"), Reason.BAD_DURATION),
        (json.dumps(GOOD).encode().replace(b"60000", b"9" * 5000), Reason.BAD_DURATION),
    ],
)
def test_hostile_bytes(raw: bytes | None, reason: Reason) -> None:
    """No value, no UTF-8, deep nesting, half characters, numbers beyond bounds: a reason, never an error."""
    found = decode(raw, ARRIVAL)
    assert not isinstance(found, Cdr)
    assert [one.reason for one in found] == [reason]


def test_unknown_fields_are_ignored() -> None:
    """What the contract does not name may hold anything, but has to be UTF-8."""
    raw = json.dumps(GOOD).encode()[:-1]
    assert isinstance(decode(raw + b', "tags": [1e999, {}], "x": null}', ARRIVAL), Cdr)
    assert not isinstance(decode(raw + b', "tags": "\xff"}', ARRIVAL), Cdr)


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_how_deep_a_record_is(begin: str, end: str) -> None:
    """100 lists and objects in each other are taken, the record included; 101 are not, whatever the stack."""
    raw = json.dumps({**GOOD, "text": "[{" * 200})[:-1]

    def nested(depth: int) -> bytes:
        return f'{raw}, "x": {begin * depth}1{end * depth}}}'.encode()

    def deeper(frames: int, depth: int) -> object:
        return decode(nested(depth), ARRIVAL) if not frames else deeper(frames - 1, depth)

    assert isinstance(deeper(0, 99), Cdr)
    assert isinstance(deeper(300, 99), Cdr)
    found = decode(nested(100), ARRIVAL)
    assert not isinstance(found, Cdr)
    assert found[0].reason is Reason.MALFORMED
    assert "100 deep" in found[0].detail


def test_the_largest_record() -> None:
    """64 KiB are taken, one byte more is not."""
    raw = json.dumps({**GOOD, "tags": ""}).encode()
    raw = raw[:-2] + b"x" * (MAX_BYTES - len(raw)) + raw[-2:]
    assert isinstance(decode(raw, ARRIVAL), Cdr)
    assert not isinstance(decode(raw + b" ", ARRIVAL), Cdr)


def test_the_calls_time() -> None:
    """The time is when it was answered; of an unanswered call when it was set up, else when it ended."""
    early, late = "2026-11-05T09:59:00.250Z", "2026-11-05T10:01:00Z"
    assert taken(setup_at=early, ended_at=late).at_ms == AT_MS
    nobody = taken(duration_ms=0, answered_at=None, setup_at=early, ended_at=late)
    assert (nobody.at_ms, nobody.used) == (AT_MS - 59_750, False)
    assert taken(duration_ms=0, answered_at=None, ended_at=late).at_ms == AT_MS + 60_000


def test_defaults_and_forms() -> None:
    """`source` is default, `service` calls; one + is stripped; a long caller is cut, for it is only shown."""
    cdr = taken(called="+380441234567", caller="1" * 99, answered_at="2026-11-05T12:00:00.0009+02:00")
    assert (cdr.source, cdr.service, cdr.called, cdr.at_ms) == ("default", "calls", "380441234567", AT_MS)
    assert cdr.caller == "1" * 64


HOUR_MS = 3_600_000


def arriving(lane_ms: int, window_days: int = 7, **changes: object) -> Cdr | tuple[Rejection, ...]:
    """Decode the good record with changes, of a lane whose time is so many ms since 1970."""
    arrival = Arrival(lane_ms, window_days * DAY_MS, ARRIVAL.services)
    return decode(json.dumps({**GOOD, **changes}).encode(), arrival)


@pytest.mark.parametrize("service", ["calls", "messages"])
def test_a_call_is_over_when_its_record_comes(service: str) -> None:
    """Answered + duration is at most an hour after the lane's time, whatever the service; else it is refused.

    The time at which it ended, as the switch says it, plays no part: the duration wins.
    """
    known: dict[str, Any] = {"service": service, "volume": 1, "ended_at": AT}
    found = arriving(AT_MS + 30_000, duration_ms=HOUR_MS + 30_000, **known)
    assert isinstance(found, Cdr)
    found = arriving(AT_MS + 30_000, duration_ms=HOUR_MS + 30_001, **known)
    assert not isinstance(found, Cdr)
    assert [(one.reason, one.side, one.value) for one in found] == [
        (Reason.BAD_DURATION, "orig", str(HOUR_MS + 30_001))
    ]
    assert "ends 3600 s after its record came" in found[0].detail


def test_without_a_time_of_the_lane_the_calendar_bounds_a_call() -> None:
    """Where no record had a timestamp nothing is judged by the lane's time, until the year 9998 ends."""
    assert isinstance(arriving(0), Cdr)
    assert isinstance(arriving(0, duration_ms=136_298_900_000), Cdr)
    assert isinstance(arriving(0, answered_at="9998-12-31T23:59:00Z", duration_ms=59_999), Cdr)
    for changes, reason in (
        ({"answered_at": "9998-12-31T23:59:00Z", "duration_ms": 60_000}, Reason.BAD_DURATION),
        ({"answered_at": "9999-01-01T00:00:00Z"}, Reason.TIME_IN_FUTURE),
        ({"duration_ms": 2**53 - 1}, Reason.BAD_DURATION),
    ):
        found = arriving(0, **changes)
        assert not isinstance(found, Cdr)
        assert [one.reason for one in found] == [reason]
        assert "beyond the year 9998" in found[0].detail


# A side that cannot be read sends the record the slow way.
WAYS: list[dict[str, Any]] = [{}, {"term": 5}]


def test_the_last_call_of_the_calendar() -> None:
    """A call at the end of the year 9998 is rated, in whatever zone and period, as one of 1969 is."""
    spans = ("1 hour", "1 day", "1 month", "1 year", "99999 days")
    limit = {"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 1}
    zones = ("Pacific/Kiritimati", "Pacific/Midway")
    rater = Rater()
    catalog = {
        "currencies": {"base": "USD"},
        "code_decks": [{"name": "all", "codes": {"380": "Ukraine"}}],
        "rate_tables": [
            {"name": "r", "currency": "USD", "code_deck": "all", "rates": [{"code": "380", "price": "0.1"}]}
        ],
        "clients": [
            {"id": f"{at}", "name": zone, "currency": "USD", "time_zone": zone,
             "rate_tables": {"orig": {"calls": "r"}}}
            for at, zone in enumerate(zones)
        ],
        "packages": [
            {"id": span, "name": span, "type": "customer", "currency": "USD", "period": span,
             "limits": [limit]}
            for span in spans
        ],
        "client_packages": [
            {"id": f"{at}-{span}", "client": f"{at}", "package": span, "start_date": "2026-01-01",
             "activate_in_past": True}
            for at, _ in enumerate(zones) for span in spans
        ],
    }  # fmt: skip
    assert not rater.load([("all.json", json.dumps(catalog).encode())], 0)
    for client, _ in enumerate(zones):
        for at in ("9998-12-31T23:59:00Z", "1969-12-31T23:59:59Z"):
            cdr = {**GOOD, "id": f"{client}{at}", "answered_at": at, "duration_ms": 59_000}
            raw = json.dumps({**cdr, "orig": {"client": f"{client}"}}).encode()
            assert [type(ended) for ended in rater.rate(raw, -1)] == [Transaction], (client, at)


@given(
    st.integers(0, 2 * HOUR_MS), st.integers(0, 2**53 - 1) | st.integers(0, 3 * HOUR_MS),
    st.sampled_from([{}, {"volume": 0}, {"volume": HOUR_MS}]), st.sampled_from(WAYS),
)  # fmt: skip
def test_both_ways_agree_on_ends(
    behind_ms: int, duration_ms: int, more: dict[str, Any], way: dict[str, Any]
) -> None:
    """Whether the fast way takes a record or the slow one looks at it, the same durations are refused."""
    found = arriving(AT_MS + behind_ms, duration_ms=duration_ms, **more, **way)
    over = duration_ms <= behind_ms + HOUR_MS and not 2**32 - 2**16 <= duration_ms < 2**32
    if isinstance(found, Cdr):
        assert over
        assert (found.duration_ms, found.volume) == (duration_ms, more.get("volume"))
    else:
        assert not over
        assert found[0].reason is Reason.BAD_DURATION


@pytest.mark.parametrize("amount", [2**32 - 1, 2**32 - 6, 2**32 - 2**16, 2**64 - 1, 2**64 - 6, 2**63])
@pytest.mark.parametrize("field", ["duration_ms", "volume"])
def test_a_count_below_zero_without_its_sign(field: str, amount: int) -> None:
    """-1 and its like, kept in 32 or 64 bits without sign, are refused even where the window is of years."""
    service = "calls" if field == "duration_ms" else "messages"
    found = arriving(AT_MS + 365 * DAY_MS, 400, service=service, **{field: amount})
    assert not isinstance(found, Cdr)
    assert [(one.reason, one.value) for one in found] == [(Reason.BAD_DURATION, str(amount))]


def test_large_volumes_are_taken() -> None:
    """What lies beside the counts below zero is a volume: a session of weeks carries more than 4 TiB."""
    for volume in (2**32 - 2**16 - 1, 2**32, 2**53 - 1):
        assert taken(service="messages", volume=volume).volume == volume


_FORMS = [
    "380441234567", "+380441234567", "+380 44 123-45-67", "+380 (44) 1234567", "+380 (0)44 1234567",
    "٣٨٠٤٤١٢٣٤٥٦٧", "380\u00a044\u20111234567", "\u202a+380441234567\u202c", "\ufeff380441234567",
    "\u3000+380\u200944 123\u201445\u201367 ", "\uff13\uff18\uff10441234567", " 380441234567\t",
]  # fmt: skip


@pytest.mark.parametrize("number", _FORMS)
def test_forms_of_a_number(number: str) -> None:
    """Blanks, hyphens, parentheses, digits of any script, marks of no width: it is what one sees."""
    cdr = taken(called=number, caller=number)
    assert cdr.called == "380441234567"
    assert cdr.caller == (number if number == "+380441234567" else "380441234567")
    for name in ("Олена \u2013 1", "anonymous", "", "+", "a-1", "Olena K.", "0" * 64):
        assert taken(caller=name).caller == name


@pytest.mark.parametrize(
    "number",
    ["++380", "+", "38x", "²", "1" * 65, "-380", "\u2212380", "(-380)", "380.0", "380,1", "380#", "38\u00bd",
     "\u200b", "- -", "38 " * 100, "380\x01", "380\x00"],
)  # fmt: skip
def test_no_number(number: str) -> None:
    """What is more than 1 to 64 digits and what parts them is none, a number below zero neither."""
    found = sent(called=number)
    assert not isinstance(found, Cdr)
    assert found[0].reason is Reason.NUMBER_INVALID
    assert found[0].value.isprintable()


def test_what_cannot_be_seen_is_shown() -> None:
    """The value of a rejection shows blanks and marks that look like nothing, and half a character."""
    found = sent(called="38\u200b0\u00a0x\x01")
    assert not isinstance(found, Cdr)
    assert found[0].value == r"38\u200b0\xa0x\x01"
    assert shown("a\ud800b") == r"a\ud800b"
    assert shown("Київ \u2013 1") == "Київ \u2013 1"
    assert len(shown("\u200b" * 300)) == 200


def test_one_side_does_not_stop_the_other() -> None:
    """A side that cannot be read is rejected on its own."""
    cdr = taken(term={"client": 5})
    assert [side for side, _ in cdr.sides()] == ["orig"]
    assert [(one.reason, one.side) for one in cdr.rejected] == [(Reason.MALFORMED, "term")]


def test_a_given_rate() -> None:
    """What is absent has the catalog's defaults; what is no decimal or no digits is malformed."""
    rate = {"code": "380", "price": "-0.0000000001", "currency": "USD"}
    party = taken(orig={"client": "42", "rate": rate}).orig
    assert party == Party("42", rate=GivenRate("380", "-0.0000000001", "USD", None, "0", 0, 1, 0))
    wrong: dict[str, object] = {
        "price": "1e3",
        "setup_fee": "0.00000000001",
        "code": "38*",
        "interval": 0,
        "min_time": -1,
        "grace_time": 2**31,
    }
    # A line break at the end is no digit: it would stand in the transaction as it is, which is no JSON then.
    for name, value in [*wrong.items(), ("code", "380\n")]:
        found = sent(orig={"client": "42", "rate": {**rate, name: value}})
        assert not isinstance(found, Cdr)
        assert found[0].reason is Reason.MALFORMED


@pytest.mark.parametrize("field", ["min_time", "interval", "grace_time"])
def test_counts_of_a_given_rate(field: str) -> None:
    """They are at most what the catalog takes; a count below zero without its sign is above that."""
    rate = {"code": "380", "price": "0.1", "currency": "USD", field: 2**31 - 1}
    assert isinstance(sent(orig={"client": "42", "rate": rate}), Cdr)
    for count in (2**31, 2**32 - 1, 2**64 - 1):
        found = sent(orig={"client": "42", "rate": {**rate, field: count}})
        assert not isinstance(found, Cdr)
        assert found[0].reason is Reason.MALFORMED
        assert field in found[0].detail


def test_numbers_are_no_texts() -> None:
    """In a plain CDR a JSON number is neither an id, nor a number, nor a duration with a fraction."""
    for name, reason in (
        ("id", Reason.MALFORMED), ("called", Reason.MALFORMED), ("caller", Reason.MALFORMED),
        ("duration_ms", Reason.BAD_DURATION),
    ):  # fmt: skip
        found = sent(**{name: 380441234567.0})
        assert not isinstance(found, Cdr)
        assert [one.reason for one in found] == [reason]


@given(st.builds(dict, id=st.text(max_size=250), source=st.text(max_size=70), caller=st.text(max_size=70)))
def test_texts_come_back_as_they_were(texts: dict[str, str]) -> None:
    """Ids are any text: what is taken is kept as it was, in every script."""
    found = decode(msgspec.json.encode({**GOOD, **texts}), ARRIVAL)
    if isinstance(found, Cdr):
        assert (found.id, found.source, found.caller) == (texts["id"], texts["source"], texts["caller"][:64])


def test_a_number_of_blanks_is_soon_read() -> None:
    """What takes time by a power of its length would let one sender hold up a lane."""
    since = time.process_time()
    for _ in range(200):
        assert digits_of(written := " " * (CHARS_MAX - 1) + "x") == written
    assert time.process_time() - since < 1  # 0.01 s; by the cube of the length it was 4 s
