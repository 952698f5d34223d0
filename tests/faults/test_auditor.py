"""The auditor notices each kind of damage: what is whole has no finding, each change has the right one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from faults.auditor import CONTROL, EFFECT, Evidence, Rec, audit
from faults.calls import catalog

JOURNAL, CDRS = "t.transactions", "t.cdrs"
AT = "2026-11-26T10:00:00Z"


def cdr(offset: int, client: str = "hot0", duration_ms: int = 60_000, name: str | None = None) -> Rec:
    """Return an input record."""
    body = {"id": name or str(offset), "called": "380441234567", "answered_at": AT,
            "duration_ms": duration_ms, "orig": {"client": client}}  # fmt: skip
    return Rec(CDRS, 0, offset, 0, json.dumps(body).encode(), {})


def rated(at: int, offset: int, left: int, taken: int = 60, overage: int = 0) -> Rec:
    """Return the transaction of a call that drew minutes of hot0; what is over costs 0.06 a minute."""
    amount = f"-{0.06 * overage / 60:.2f}"
    body: dict[str, Any] = {
        "id": f"default/{offset}/orig", "revision": 1, "type": "usage", "client": "hot0",
        "called": "380441234567", "at": "2026-11-26T10:00:00.000Z", "duration_ms": 60_000,
        "billed": taken + overage, "overage": overage,
        "setup_fee": "0", "amount": amount, "rate": {"price": "0.06"},
        "draws": [{"client_package": "p-hot0", "package": "small", "limit": "0", "kind": "volume",
                   "period": 1, "taken": str(taken), "left": str(left)}],
    }  # fmt: skip
    effect = [CDRS, 0, offset, 0, 0, 0, b"", b"", "hot0", round(float(amount) * 1e6), [["p-hot0.1.0", taken]]]
    return Rec(JOURNAL, 0, at, 0, json.dumps(body).encode(), {EFFECT: msgspec.msgpack.encode(effect)})


def mark(at: int, position: int) -> Rec:
    """Return a mark."""
    said = ["mark_v4", {CDRS: position}, {CDRS: 0}, 1, 2, position]
    return Rec(JOURNAL, 0, at, 0, None, {CONTROL: msgspec.msgpack.encode(said)})


def refused(offset: int, record: Rec) -> Rec:
    """Return the rejection of a record without side."""
    headers = {"source_partition": b"0", "source_offset": b"%d" % record.offset, "side": b""}
    return Rec("t.rejected", 0, offset, 0, record.value, headers)


def whole() -> Evidence:
    """Return what a small run without any damage leaves."""
    broken = Rec(CDRS, 0, 3, 0, b"{", {})
    inputs = [cdr(0), cdr(1), cdr(2, name="1"), broken, cdr(4)]
    journal = [rated(0, 0, 1740), mark(1, 1), rated(3, 1, 1680), rated(4, 4, 1660, 20, 40), mark(5, 5)]
    rejected = [refused(0, broken)]
    event = Rec("t.events", 0, 0, 0, b'{"id": "e"}', {})
    return Evidence(
        json.loads(catalog()), CDRS, inputs, journal, rejected, [event],
        {"hot0": {"v": 1, "b": -40_000, "p-hot0.1.0": 140}}, {"t.transactions[0]": (7, 7)},
        [one.digest for one in (*journal, *rejected)],
    )  # fmt: skip


def changed(record: Rec, **fields: Any) -> Rec:
    """Return a record with other fields in its value."""
    return replace(record, value=json.dumps({**json.loads(record.value or b""), **fields}).encode())


def as_left(record: Rec, left: str) -> Rec:
    """Return a transaction whose draw left something else."""
    draws = json.loads(record.value or b"")["draws"]
    return changed(record, draws=[{**draws[0], "left": left}])


def drop(records: list[Rec], number: int) -> None:
    """Take a record away."""
    del records[number]


def put(records: list[Rec], number: int, record: Rec) -> None:
    """Put another record in the place of one."""
    records[number] = record


DAMAGE: dict[str, tuple[Callable[[Evidence], Any], str]] = {
    "a lost transaction": (lambda e: drop(e.journal, 0), "I1 lost"),
    "a doubled transaction": (lambda e: e.journal.append(replace(e.journal[0], offset=9)), "I3 doubled"),
    "a second decision": (lambda e: e.journal.append(replace(e.journal[0], offset=9)), "I7 twice"),
    "a revision": (lambda e: put(e.journal, 0, changed(e.journal[0], revision=2)), "I3 revision"),
    "an invented call": (lambda e: drop(e.inputs, 0), "I4 invented"),
    "a counter": (lambda e: e.stored["hot0"].update({"p-hot0.1.0": 141}), "I2 drift"),
    "a balance": (lambda e: e.stored["hot0"].update(b=0), "I2 drift"),
    "an unknown client in Redis": (lambda e: e.stored.update(x={"v": 1, "b": 5}), "I2 drift"),
    "an emptied Redis": (lambda e: e.stored.clear(), "I2 drift"),
    "a lost unit": (lambda e: put(e.journal, 0, changed(e.journal[0], billed=61)), "I5 units"),
    "a wrong amount": (lambda e: put(e.journal, 3, changed(e.journal[3], amount="-0.05")), "I5 amount"),
    "a draw on an older state": (lambda e: put(e.journal, 2, as_left(e.journal[2], "1740")), "I6 order"),
    "an overdrawn limit": (lambda e: e.catalog["packages"][1]["limits"][0].update(limit=2), "I6 overdrawn"),
    "another lane's record": (lambda e: put(e.journal, 0, replace(e.journal[0], partition=1)), "I7 lane"),
    "a header of something else": (
        lambda e: put(e.journal, 0, replace(e.journal[0], headers=e.journal[2].headers)),
        "I7 source",
    ),
    "an amount without its header": (
        lambda e: put(e.journal, 0, replace(e.journal[0], headers=e.journal[3].headers)),
        "I7 header",
    ),
    "an open transaction": (lambda e: e.ends.update({"t.transactions[0]": (9, 7)}), "I8 open"),
    "a lost rejection": (lambda e: drop(e.rejected, 0), "I9 lost"),
    "a doubled rejection": (lambda e: e.rejected.append(e.rejected[0]), "I9 doubled"),
    "other bytes": (lambda e: put(e.rejected, 0, replace(e.rejected[0], value=b"}")), "I9 bytes"),
    "a call rejected that was rated": (lambda e: e.rejected.append(refused(1, e.inputs[0])), "I9 doubled"),
    "another length under a known id, rated as a repeat": (
        lambda e: put(e.inputs, 2, cdr(2, name="1", duration_ms=1)),
        "I9 lost",
    ),
    "a record that was not seen": (lambda e: e.watched.pop(), "I10 unseen"),
    "a record that vanished": (lambda e: drop(e.rejected, 0), "I10 vanished"),
    "a record that came twice": (lambda e: e.watched.append(e.watched[0]), "I10 order"),
    "a mark that goes back": (lambda e: put(e.journal, 4, mark(5, 0)), "I11 back"),
    "a record behind its mark": (lambda e: put(e.journal, 1, mark(1, 0)), "I11 between"),
    "no last mark": (lambda e: drop(e.journal, 4), "I11 unmarked"),
    "an event told twice": (lambda e: e.events.append(e.events[0]), "events"),
}  # fmt: skip


def test_what_is_whole_has_no_finding() -> None:
    """A run without damage: three sides, nothing lost, doubled or drifted."""
    verdict = audit(whole())
    assert verdict.found == []
    assert (verdict.sides, verdict.lost, verdict.doubled, verdict.drift) == (3, 0, 0, 0)


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_noticed(what: str) -> None:
    """Each damage has a finding that begins with the invariant that it breaks."""
    harm, says = DAMAGE[what]
    evidence = copy.deepcopy(whole())
    harm(evidence)
    found = audit(evidence).found
    assert any(one.startswith(says) for one in found), found


def test_a_forgetful_store_excuses_no_overdraw() -> None:
    """Where Redis forgot, what was left may differ from the journal's order; limits and sums may not."""
    evidence = whole()
    evidence.store_kept = False
    put(evidence.journal, 2, as_left(evidence.journal[2], "1740"))
    assert not [one for one in audit(evidence).found if one.startswith("I6")]
    evidence.catalog["packages"][1]["limits"][0]["limit"] = 2
    assert any(one.startswith("I6 overdrawn") for one in audit(evidence).found)
