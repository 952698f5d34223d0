"""The auditor notices each kind of damage to packages that live; what is whole has no finding."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from faults.auditor import CONTROL, EFFECT, Evidence, Rec, audit
from faults.life_auditor import HOUR_MS, audit_lives, instant_ms, made_again
from faults.lives import packages
from faults.test_auditor import drop, put

JOURNAL, CDRS, COMMANDS = "t.transactions", "t.cdrs", "t.commands"
BEGIN_MS = instant_ms("2026-11-30T08:00:00Z")
AT_MS = BEGIN_MS + HOUR_MS + 600_000
HELD = {"client": "rich0", "client_package": "rich0-hourly", "period": 1}
FEE_OF = "cp/rich0-hourly/1"
EVENT = {"client": "poor0", "client_package": "poor0-event", "period": 1}
Change = tuple[str, int, int]


def instant(offset_ms: int) -> str:
    """Return an instant of the run."""
    minute = offset_ms // 60_000
    return f"2026-11-30T{8 + minute // 60:02}:{minute % 60:02}:00.000Z"


def transaction(kind: str, amount: str, **fields: Any) -> dict[str, Any]:
    """Return a transaction; of a fee its period is the hour of its number."""
    body: dict[str, Any] = {"revision": 1, "type": kind, "amount": amount, **fields}
    if "period" in fields:
        begin = (fields["period"] - 1) * HOUR_MS
        name = fields["client_package"]
        body |= {
            "id": f"cp/{name}/{fields['period']}/{kind}", "net": amount, "quantity": 1,
            "period_start": instant(begin), "period_stop": instant(begin + HOUR_MS),
        }  # fmt: skip
    return body


def published(
    at: int, offset: int, index: int, body: dict[str, Any], counters: Any = (), topic: str = COMMANDS
) -> Rec:
    """Return the record of a transaction: whose it is, and what it adds."""
    effect = [
        topic,
        0,
        offset,
        index,
        0,
        0,
        b"",
        b"",
        body["client"],
        round(float(body["amount"]) * 1e6),
        counters,
    ]
    return Rec(JOURNAL, 0, at, 0, json.dumps(body).encode(), {EFFECT: msgspec.msgpack.encode(effect)})


def control(at: int, *said: Any) -> Rec:
    """Return a record of the journal that is no transaction."""
    return Rec(JOURNAL, 0, at, 0, None, {CONTROL: msgspec.msgpack.encode(said)})


def changed(at: int, offset: int, client: str, version: int, delta: int, instead: Sequence[int] = ()) -> Rec:
    """Return the record of a change. instead: versions of before that it stands for."""
    rest: tuple[list[Any], ...] = [], [], [], [], [], list(instead)
    return control(at, "change", COMMANDS, offset, 2, 0, 0, client, version, b"", delta, *rest)


def state(*client_packages: Any) -> bytes:
    """Return a client's state; its settings are of no concern here."""
    return msgspec.msgpack.encode([*[None] * 13, client_packages])


def held(of_id: str, package: str, periods: int, waiting: Any = None) -> list[Any]:
    """Return a client package in a state, with periods of an hour that follow each other."""
    rows: list[list[Any]] = [
        [n + 1, begin, begin + HOUR_MS, 0, n + 1, None, [], {}, {}, [], False, False]
        for n, begin in enumerate(range(BEGIN_MS, BEGIN_MS + periods * HOUR_MS, HOUR_MS))
    ]  # fmt: skip
    life = [1, periods, periods, rows, waiting, None, "", False]
    return [of_id, package, None, 1, 0, 0, None, instant(0), None, True, life]


def event(kind: str, about: dict[str, Any], **fields: Any) -> Rec:
    """Return an event."""
    name = f"{about['client']}/{kind}/{about.get('client_package')}/{fields.get('period')}"
    said = {"id": name, "type": kind,
            "client_package": None, "cause": "", **about, **fields}  # fmt: skip
    return Rec("t.events", 0, 0, 0, json.dumps(said).encode(), {})


USAGE = {
    "id": "default/7/orig", "revision": 1, "type": "usage", "client": "poor0", "called": "380441234567",
    "at": instant(1_200_000), "duration_ms": 60_000, "billed": 60, "overage": 0, "setup_fee": "0",
    "amount": "0", "rate": {"price": "0.06"},
    "draws": [{"client_package": "poor0-event", "package": "event", "limit": "m", "kind": "volume",
               "period": 1, "taken": "60", "left": "660"}],
}  # fmt: skip
KEY = f"key.{hashlib.blake2b(b'k1', digest_size=8).hexdigest()}"
TOP_UP = {"id": "order-1", "key": "k1", "do": "adjust", "client": "poor0", "args": {"amount": "1.0"}}
BROUGHT = {f"poor0-event.1.fee.{name}": value for name, value in
           (("charged", 1), ("net", -300_000), ("amount", -300_000))}  # fmt: skip


def whole() -> Evidence:
    """Return what is left of a renewal, a top-up and a call that brings a fee, and no damage."""
    fees = [
        transaction("activation_fee", "-0.5", **HELD), transaction("subscription_fee", "-1", **HELD),
        transaction("subscription_fee", "-1", **{**HELD, "period": 2}),
    ]  # fmt: skip
    opening = [
        {
            "id": f"adjust/{client}/opening",
            "revision": 1,
            "type": "adjustment",
            "client": client,
            "amount": amount,
        }
        for client, amount in (("rich0", "10"), ("poor0", "0.2"))
    ]
    money = {"id": "adjust/poor0/k1", "revision": 1, "type": "adjustment", "client": "poor0", "amount": "1"}
    brought = {**transaction("subscription_fee", "-0.3", **EVENT), "cdr": {"source": "default", "id": "7"}}
    journal = [
        changed(0, 0, "rich0", 1, 8_500_000), published(1, 0, 2, opening[0]), published(2, 0, 2, fees[0]),
        published(3, 0, 2, fees[1]), changed(4, 1, "poor0", 1, 200_000), published(5, 1, 2, opening[1]),
        changed(6, 2, "rich0", 2, -1_000_000), published(7, 2, 2, fees[2]),
        changed(8, 3, "poor0", 2, 1_000_000), published(9, 3, 2, money),
        published(10, 0, 0, USAGE, [["poor0-event.1.m", 60]], CDRS),
        published(11, 0, 6, brought, list(BROUGHT.items()), CDRS),
        control(12, "mark_v4", {CDRS: 1, COMMANDS: 4}, {}, 1, 2, 3),
    ]  # fmt: skip
    cdr = {"id": "7", "called": "380441234567", "answered_at": USAGE["at"], "duration_ms": 60_000,
           "orig": {"client": "poor0"}}  # fmt: skip
    data = {"dry_run": False, "repeated": False, "transactions": [money], "events": []}
    active = {"after": {"period": 1}}
    events = [
        event("assigned", HELD), event("activated", HELD, **active), event("renewed", HELD, period=2),
        event("assigned", EVENT), event("activated", EVENT, **active),
        event("assigned", {**EVENT, "client_package": "poor0-hourly"}),
        event("command_done", {"client": "poor0"}, cause="order-1", data=data),
    ]  # fmt: skip
    stored: dict[str, dict[str, int]] = {
        "rich0": {"v": 2, "b": 7_500_000},
        "poor0": {
            "v": 2,
            "b": 900_000,
            KEY: 5,
            "poor0-event.1.m": 60,
            **BROUGHT,
        },
    }
    states = {
        "rich0": state(held("rich0-hourly", "hourly", 2)),
        "poor0": state(
            held("poor0-event", "event", 2),
            held("poor0-hourly", "hourly", 0, ["activation", "funds", 0, None, 0, 0, 0, 1_500_000]),
        ),
    }
    events.append(event("renewed", EVENT, period=2))
    return Evidence(
        {"packages": packages()}, CDRS, [Rec(CDRS, 0, 0, 0, json.dumps(cdr).encode(), {})], journal, [],
        events, stored, {}, commands=[Rec(COMMANDS, 0, 3, 0, json.dumps(TOP_UP).encode(), {})], states=states,
    )  # fmt: skip


def again(records: list[Rec], number: int) -> None:
    """Put a record there a second time."""
    records.append(replace(records[number], offset=99))


def edit(records: list[Rec], number: int, **fields: Any) -> None:
    """Change fields of a record's value."""
    put(
        records,
        number,
        replace(
            records[number], value=json.dumps({**json.loads(records[number].value or b""), **fields}).encode()
        ),
    )


def refund(e: Evidence, amount: str) -> None:
    """Add a refund of rich0's first period."""
    e.journal.append(published(99, 5, 2, transaction("refund", amount, **HELD)))


def void(e: Evidence, *, voided: bool = True) -> None:
    """Make rich0's first period void."""
    row = held("rich0-hourly", "hourly", 2)
    row[10][3][0][10] = voided
    e.states["rich0"] = state(row)


def half(e: Evidence) -> None:
    """Give a part of what a void period cost back."""
    void(e)
    refund(e, "1")


def not_called(e: Evidence) -> None:
    """Lose the call that brought a fee."""
    drop(e.journal, 10)
    drop(e.inputs, 0)


def key_again(e: Evidence) -> None:
    """Carry out a command again under its key, as if it were another."""
    e.commands.append(replace(e.commands[0], value=json.dumps({**TOP_UP, "id": "order-2"}).encode()))
    again(e.events, 6)
    edit(e.events, -1, cause="order-2", id="2")


def with_periods(e: Evidence, count: int) -> None:
    """Let rich0 have so many periods."""
    e.states["rich0"] = state(held("rich0-hourly", "hourly", count))


DAMAGE: dict[str, tuple[Callable[[Evidence], Any], str]] = {
    "a fee charged twice": (lambda e: again(e.journal, 7), "L1 doubled"),
    "a top-up published twice": (lambda e: again(e.journal, 9), "L1 doubled"),
    "a period without its fee": (lambda e: drop(e.journal, 7), "L2 not charged"),
    "an activation without its fee": (lambda e: drop(e.journal, 2), "L2 not charged"),
    "a fee without its period": (lambda e: with_periods(e, 1), "L2 not opened"),
    "a fee that no call brought": (not_called, "L2 charged"),
    "a fee of another amount": (lambda e: edit(e.journal, 7, net="-2"), "L2 amount"),
    "a fee of another hour": (lambda e: edit(e.journal, 7, period_start=instant(0)), "L2 start"),
    "a refund of a period that runs": (lambda e: refund(e, "1.5"), "L3 void"),
    "a period that is void, and its money is kept": (void, "L3 void"),
    "a refund of half": (half, "L3 refund"),
    "a removal that gives nothing back": (lambda e: e.states.update(rich0=state()), "L3 removed"),
    "a reversal of what is there": (
        lambda e: e.journal.append(
            published(99, 5, 2, {**transaction("reversal", "1", **HELD), "id": f"{FEE_OF}/subscription_fee"})
        ),
        "L3 reversed",
    ),
    "a draw whose fee is lacking": (lambda e: drop(e.journal, 11), "L4 not opened"),
    "a draw outside of its period": (lambda e: edit(e.journal, 10, at=instant(HOUR_MS)), "L4 outside"),
    "a change that came twice": (lambda e: e.journal.append(changed(99, 7, "rich0", 2, 0)), "L5 doubled"),
    "a change that is lost": (lambda e: drop(e.journal, 6), "L5 lost"),
    "a change that Redis has not": (lambda e: e.stored["rich0"].update(v=1), "L5 old"),
    "a change whose transaction is lost": (lambda e: drop(e.journal, 7), "L5 shares"),
    "a command without a result": (lambda e: drop(e.events, 6), "L6 result"),
    "a command with two results": (lambda e: again(e.events, 6), "L6 result"),
    "a top-up that is told of and lost": (lambda e: drop(e.journal, 9), "L6 unpublished"),
    "a top-up of another amount": (lambda e: edit(e.commands, 0, args={"amount": "2"}), "L6 adjustment"),
    "a key that took effect never": (
        lambda e: edit(e.events, 6, data={"repeated": True, "transactions": [], "events": []}), "L6 key"
    ),
    "a key that took effect twice": (key_again, "L6 key"),
    "a top-up that nobody asked for": (lambda e: edit(e.journal, 9, id="adjust/poor0/k9"), "L6 invented"),
    "a key that Redis forgot": (
        lambda e: e.stored["poor0"].pop(KEY),
        "L7 keys",
    ),
    "an activation told twice": (lambda e: again(e.events, 1), "L8 doubled"),
    "an assignment that is not told": (lambda e: drop(e.events, 0), "L8 assigned"),
    "a removal that did nothing": (lambda e: e.events.append(event("removed", HELD)), "L8 removed"),
    "a renewal that is not told": (lambda e: drop(e.events, 2), "L8 opened"),
    "a renewal told twice": (lambda e: again(e.events, 2), "L8 opened"),
    "a renewal that is missed": (lambda e: with_periods(e, 1), "L9 due"),
    "a period too many": (lambda e: with_periods(e, 4), "L9 periods"),
    "a charge that waits with money there": (lambda e: e.stored["poor0"].update(b=1_500_000), "L9 waits"),
    "a fee that was not covered": (lambda e: e.stored["poor0"].update(b=-1), "L10 owes"),
}  # fmt: skip


def test_what_is_whole_has_no_finding() -> None:
    """A run without damage: neither the one audit nor the other finds anything."""
    assert audit(whole()).found == []
    assert audit_lives(whole(), AT_MS) == []


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_noticed(what: str) -> None:
    """Each damage has a finding that begins with the invariant that it breaks."""
    harm, says = DAMAGE[what]
    evidence = copy.deepcopy(whole())
    harm(evidence)
    found = audit_lives(evidence, AT_MS)
    assert any(one.startswith(says) for one in found), found


def test_a_change_that_was_made_again() -> None:
    """It stands for the version under which Redis had lost it; without saying so, that is missing."""
    evidence = whole()
    assert made_again(evidence) == 0
    evidence.journal.append(changed(99, 9, "rich0", 4, 0, instead=[3]))
    evidence.stored["rich0"]["v"] = 4
    assert audit_lives(evidence, AT_MS) == []
    assert made_again(evidence) == 1
    evidence.journal[-1] = changed(99, 9, "rich0", 4, 0)
    assert audit_lives(evidence, AT_MS) == ["L5 lost: rich0 has version 4, and no change to [3]"]


def test_an_event_told_twice_is_noticed() -> None:
    """Of events the other audit knows that each is told once; and what a brought fee adds to counters."""
    evidence = whole()
    again(evidence.events, 1)
    evidence.stored["poor0"]["poor0-event.1.fee.charged"] = 2
    put(evidence.journal, 11, published(11, 0, 6, json.loads(evidence.journal[11].value or b""), [], CDRS))
    found = audit(evidence).found
    for says in ("events", "I2 drift", "I7 header"):
        assert any(one.startswith(says) for one in found), found
