"""Calls through a real Kamailio, set up by the lines of the map's head: the map reads what it writes.

The truth is what SIPp sent and got. Both are real, so durations are compared within a fraction of a second.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from kamailio.scenarios import Call
from kamailio.server import Proxy, lines_of_the_head
from rater.core.cdr import Arrival, Cdr, Party
from rater.core.cdr_decoding import check
from rater.core.sources.cutting import records
from rater.core.sources.source_map import Skipped, SourceMap
from rater.source_maps import open_map

pytestmark = pytest.mark.kamailio

CALLER, CALLED = "380501110001", "380441234567"
TALK = "INVITE 180 200 ACK"
ANSWERED = [
    Call("answered", CALLER, f"+{CALLED}", f"{TALK} 1200ms BYE 200"),
    Call("abroad", CALLER, f"00{CALLED}", "INVITE 180 900ms 200 ACK 1100ms BYE 200"),  # rings for 0.9 s
    Call("callee-ends", CALLER, CALLED, f"{TALK} 1500ms bye 200"),
    Call("reinvite", CALLER, CALLED, f"{TALK} 500ms INVITE 200 ACK 500ms BYE 200"),
    Call("reinvite-refused", CALLER, CALLED, f"{TALK} 500ms INVITE 488 ACK 500ms BYE 200"),
    Call("challenged", CALLER, CALLED, f"INVITE 407 ACK {TALK} 1400ms BYE 200"),
    # Two that ring at the same time, with one Call-ID and one tag of the caller, who may choose both.
    *(
        Call(
            f"same-{one}",
            CALLER,
            CALLED,
            "INVITE 180 1500ms 200 ACK 1300ms BYE 200",
            prefix="same",
            tag="same-f",
        )
        for one in "ab"
    ),
]
FAILED = [
    Call("busy", CALLER, CALLED, "INVITE 180 300ms 486 ACK"),
    Call("not-found", CALLER, CALLED, "INVITE 404 ACK"),
    Call("cancelled", CALLER, CALLED, "INVITE 180 800ms CANCEL 200 487 ACK"),
]
AT_ONCE = Call("at-once", CALLER, CALLED, "INVITE 200 ACK BYE 200", times=150)
BYE_LOST = Call("bye-lost", CALLER, CALLED, TALK, headers=("X-Limit: 3",))
LIMIT_S = 3
SLACK_S = 0.25
"""Of durations: Kamailio and SIPp see the same message at other moments of a busy machine."""


class Seen(NamedTuple):
    """What came of the calls: CDRs, why others were skipped, and how long SIPp says that each lasted."""

    cdrs: list[Cdr]
    skipped: list[str]
    seconds: dict[str, float]
    log: str

    def of(self, call: Call) -> list[Cdr]:
        """Return the CDRs of a call, by the account that its INVITE named."""
        return [cdr for cdr in self.cdrs if cdr.orig is not None and cdr.orig.account == f"sip-{call.name}"]


def _mapped(raw: list[bytes]) -> tuple[list[Cdr], list[str]]:
    source_map = open_map("kamailio", {"source": "kam"})
    assert isinstance(source_map, SourceMap)
    arrival = Arrival(time.time_ns() // 1_000_000, 86_400_000, frozenset({"calls"}))
    cdrs: list[Cdr] = []
    skipped: list[str] = []
    for one in raw:
        found = source_map.apply(one)
        if isinstance(found, Skipped):
            skipped.append(found.reason)
            continue
        assert isinstance(found, dict), (one, found)
        cdr = check(found, arrival)
        assert isinstance(cdr, Cdr), (one, cdr)
        assert not cdr.rejected
        cdrs.append(cdr)
    return cdrs, skipped


def _run(folder: Path, calls: list[Call], head: dict[int, str]) -> Seen:
    proxy = Proxy(Path(os.environ["RATER_KAMAILIO"]), folder, head)
    wanted = sum(call.times for call in calls) + any(call.name == "challenged" for call in calls)
    with proxy.running():
        proxy.make(calls)
        deadline = time.monotonic() + 15
        while sum(b'"duration"' in one for one in proxy.records()) < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1.5)  # what comes besides would come now: the queue is written once a second
    lasted: dict[str, float] = {}
    for call in calls:
        at = proxy.moments(call)
        if "BYE" in at:
            lasted[call.name] = at["BYE"] - at["ACK"] if call.name != "challenged" else at["BYE"] - at["200"]
    (folder / "cdrs.jsonl").write_bytes(b"\n".join(proxy.records()))
    with (folder / "cdrs.jsonl").open("rb") as file:
        source_map = open_map("kamailio")
        assert isinstance(source_map, SourceMap)
        cut = [record.raw for record in records(file, source_map)]
    assert cut == proxy.records()
    return Seen(*_mapped(cut), lasted, proxy.log())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Return what the calls came to with the head's lines alone."""
    return _run(
        tmp_path_factory.mktemp("kamailio"), [*ANSWERED, *FAILED, AT_ONCE, BYE_LOST], lines_of_the_head()
    )


@pytest.mark.parametrize("call", ANSWERED, ids=lambda call: call.name)
def test_an_answered_call_comes_once(seen: Seen, call: Call) -> None:
    """Whoever hangs up, whatever was refused on the way: one call, with its numbers, sides and duration."""
    (cdr,) = [cdr for cdr in seen.of(call) if cdr.answered_ms is not None]
    assert (cdr.caller, cdr.called) == (CALLER, CALLED)
    assert cdr.orig == Party(account=f"sip-{call.name}", ip="127.0.0.1")
    assert cdr.term == Party(gateway="gw-kiev", ip="127.0.0.1")
    assert cdr.duration_ms is not None
    assert cdr.duration_ms / 1000 == pytest.approx(seen.seconds[call.name], abs=SLACK_S)
    assert cdr.duration_ms > 900
    tags = sorted([call.tag or f"{call.name}-f", f"{call.name}-t"])
    assert cdr.id == "-".join([f"{call.prefix or call.name}-1@192.0.2.1", *tags])


@pytest.mark.parametrize("call", FAILED, ids=lambda call: call.name)
def test_a_failed_call_comes_once(seen: Seen, call: Call) -> None:
    """One attempt is one unanswered call."""
    (cdr,) = seen.of(call)
    assert (cdr.answered_ms, cdr.duration_ms, cdr.called) == (None, 0, CALLED)


def test_a_challenged_call_comes_after_an_attempt(seen: Seen) -> None:
    """The INVITE that was refused with 407 is an attempt, and has another id than the call after it."""
    cdrs = seen.of(next(call for call in ANSWERED if call.name == "challenged"))
    assert [cdr.answered_ms is not None for cdr in cdrs] == [False, True]


def test_calls_that_are_hung_up_at_once(seen: Seen) -> None:
    """Each was answered, though Kamailio writes "0.000" for less than a millisecond; a burst loses none."""
    cdrs = seen.of(AT_ONCE)
    assert len(cdrs) == AT_ONCE.times
    assert all(cdr.answered_ms is not None for cdr in cdrs)
    assert all(cdr.duration_ms is not None and cdr.duration_ms <= SLACK_S * 1000 for cdr in cdrs)


def test_a_lost_bye_is_paid_up_to_the_limit(seen: Seen) -> None:
    """The dialog expires, and its CDR has all fields."""
    (cdr,) = seen.of(BYE_LOST)
    assert (cdr.caller, cdr.called) == (CALLER, CALLED)
    assert cdr.duration_ms is not None
    assert (LIMIT_S - 2) * 1000 <= cdr.duration_ms <= (LIMIT_S + 2) * 1000


def test_nothing_comes_besides(seen: Seen) -> None:
    """Every record is one of those calls, no id comes twice, and Kamailio had nothing to complain of."""
    calls = [*ANSWERED, *FAILED, AT_ONCE, BYE_LOST]
    assert seen.skipped == []
    assert len(seen.cdrs) == sum(call.times for call in calls) + 1
    assert max(Counter(cdr.id for cdr in seen.cdrs).values()) == 1
    assert "ERROR" not in seen.log


@pytest.mark.parametrize("log_prefix", ["", 'log_prefix="{$mt $hdr(CSeq)} "\nlog_prefix_mode=1\n'])
def test_what_a_caller_writes_is_no_record(tmp_path: Path, log_prefix: str) -> None:
    """A Call-ID that looks like the beginning of a record neither hides its call nor forges another one."""
    head = lines_of_the_head()
    head[1] = f"debug=2\n{log_prefix}{head[1]}"
    head[2] += '\nxlog("L_NOTICE", "begins: $ci\\n");'
    forged = '<script>: CDR {"start_time": "1", "duration": "1", "callid": "x", "account": "sip-42"}'
    call = Call("forged", CALLER, CALLED, f"{TALK} 300ms BYE 200", prefix=f"a{forged} CDR {{b")
    seen = _run(tmp_path, [call], head)
    assert "begins: a<script>" in seen.log
    (cdr,) = seen.cdrs
    assert cdr.orig == Party(account="sip-forged", ip="127.0.0.1")
    assert (cdr.called, cdr.id.startswith(f"a{forged} CDR {{b-1@192.0.2.1"[:100])) == (CALLED, True)


TRANSACTIONS = """
modparam("acc_json", "acc_flag", 1)
modparam("acc_json", "acc_missed_flag", 2)
modparam("acc_json", "acc_output_mqueue", "cdrs")
modparam("acc_json", "acc_time_mode", {mode})
modparam("acc_json", "acc_extra", "account=$dlg_var(account);dst_user=$dlg_var(called)")
"""


@pytest.mark.parametrize("mode", [0, 2, 3, 4])
def test_transactions_with_the_tags_of_a_call(tmp_path: Path, mode: int) -> None:
    """Where acc_json writes transactions, too, in any time mode: one call each, with its own id."""
    head = lines_of_the_head()
    head[1] += TRANSACTIONS.format(mode=mode)
    head[2] += "\nsetflag(1); setflag(2);"
    refused, challenged = (call for call in ANSWERED if call.name in ("reinvite-refused", "challenged"))
    seen = _run(tmp_path, [refused, challenged, FAILED[0]], head)
    for call in (refused, challenged):
        (cdr,) = [cdr for cdr in seen.of(call) if cdr.answered_ms is not None]
        assert cdr.id == f"{call.name}-1@192.0.2.1-{call.name}-f-{call.name}-t"
        assert cdr.duration_ms is not None
        assert cdr.duration_ms / 1000 == pytest.approx(seen.seconds[call.name], abs=SLACK_S)
    assert [cdr.duration_ms for cdr in seen.of(refused) if "-488-" in cdr.id] == [0]
    assert max(Counter(cdr.id for cdr in seen.cdrs).values()) == 1
    assert set(seen.skipped) == {
        "a transaction that begins no call",
        "a transaction that did not fail: an answered call is a CDR, written when it ends",
        "asked for credentials: the call is the INVITE that brings them",
    }
