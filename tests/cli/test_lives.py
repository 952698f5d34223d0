"""Client packages whose life the register holds, as lists, `show`, `history` and pending charges show it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cli.conftest import CONTENT, KIEV, Capture, PutRecords, Store, register, seen
from rater.cli import main
from rater.core.catalog.offers import counter_field
from rater.core.catalog.specs import PackageHistory
from rater.core.clients.state import Charged, ClientState, HeldPeriod, Life, Waiting, client_package_name
from rater.core.instants import DAY_MS, rfc3339

StoreOf = Callable[..., Store]

NOW = time.time_ns() // 1_000_000
PAST, FUTURE = NOW - 10 * DAY_MS, NOW + 20 * DAY_MS
FEE = Charged("subscription_fee", -5_000_000, (), -5_000_000)
FUNDS = Waiting("renewal", "funds", PAST, FUTURE, 0, 5_000_000, 1_000_000, 60_000_000)


def period(number: int, start_ms: int, stop_ms: int | None, **more: Any) -> HeldPeriod:
    """Return an opened period."""
    return HeldPeriod(number, start_ms, stop_ms, start_ms, number, charged=(FEE,), **more)


def client(life: Life, *, end_ms: int | None = None) -> ClientState:
    """Return client 42 with a client package `cp` of this life."""
    state = register(cp=(PAST, end_ms))
    state.packages[0].life = life
    return state


def listed(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("life", "end_ms", "status", "state"),
    [
        (Life(), None, "pending", "new"),
        (Life(waiting=FUNDS), None, "pending", "waits for funds"),
        (Life(periods=(period(1, PAST, FUTURE),)), None, "active", "renews"),
        (Life(periods=(period(1, PAST, FUTURE),), last=True), None, "active", "ends"),
        pytest.param(Life(periods=(period(1, PAST, FUTURE),)), FUTURE, "active", "ends", id="an end date"),
        (Life(periods=(period(1, PAST, FUTURE),), waiting=FUNDS), None, "active", "waits for funds"),
        (Life(periods=(period(1, PAST, NOW - 1000),), waiting=FUNDS), None, "pending", "waits for funds"),
        (Life(periods=(period(1, PAST, NOW - 1000),)), None, "active", "renews"),
        (Life(periods=(period(1, PAST, NOW - 1000),), last=True), None, "active", "ends"),
        (Life(periods=(period(1, PAST, FUTURE),), ended_ms=NOW - 1000), None, "archive", "archive"),
        (Life(periods=(period(1, PAST, FUTURE, voided=True),), ended_ms=PAST), None, "archive", "archive"),
        (Life(periods=(period(1, PAST, None),)), None, "active", "runs"),
    ],
)
def test_where_it_stands(
    life: Life, end_ms: int | None, status: str, state: str, store_of: StoreOf, capsys: Capture
) -> None:
    """Status and what comes next."""
    store_of(client(life, end_ms=end_ms))
    (row,) = listed(capsys, "client-packages", "list", "--status", "all")
    assert (row["status"], row["state"]) == (status, state)


def test_what_waits_for_something_else_than_funds(store_of: StoreOf, capsys: Capture) -> None:
    """The reason stands with the state."""
    waiting = msgspec.structs.replace(FUNDS, reason="package_disabled")
    store_of(client(Life(waiting=waiting)))
    assert main(["client-packages", "list"]) == 0
    assert "waits (package disabled)" in capsys.readouterr().out


def test_limits_of_a_period(store_of: StoreOf, capsys: Capture) -> None:
    """Quantity and share, volume down and money half up; what was rolled in and moved out."""
    held = period(3, PAST, FUTURE, share=(2, 3), rolled={"m1": 600}, moved={"m1": 100})
    store_of(
        client(Life(periods=(held,))),
        {counter_field("cp", 3, "m1"): 900, counter_field("cp", 3, "m1") + ".rolled": 600},
    )
    (row,) = listed(capsys, "client-packages", "list")
    volume, money = row["limits"]
    assert (volume["size"], volume["used"], volume["left"]) == ("8500", "1500", "7000")
    assert (money["size"], money["left"]) == ("2.666667", "2.666667")


def test_system_information(store_of: StoreOf, capsys: Capture) -> None:
    """What RULES.md section 4 lists, the pending charge and the periods, of one client package."""
    spec = msgspec.structs.replace(KIEV, align_to_payment_terms=True, advance_renew="3 days")
    history = PackageHistory([(0, spec)], [(0, "active")], assigned=True)
    content = msgspec.structs.replace(CONTENT, packages={"1": history})
    stop = FUTURE - FUTURE % 1000
    life = Life(version=7, count=4, numbered=5, periods=(period(5, PAST, stop),))
    store_of(client(life), content=content).index.append(client_package_name("cp"))
    (row,) = listed(capsys, "client-packages", "show", "cp")
    assert (row["account"], row["charge_on_event"], row["charged"]) == (None, False, True)
    assert (row["reactivations"], row["version"]) == (4, 7)
    assert (row["align_to_payment_terms"], row["recalculate_to_period"]) == (True, True)
    assert row["next_renewal"] == rfc3339(stop - 3 * DAY_MS)
    assert [one["period"] for one in row["periods"]] == [5]
    assert main(["client-packages", "show", "cp"]) == 0
    out = capsys.readouterr().out
    for text in ("All Accounts", "active, renews", "reactivations           4", "0 / 12000 second"):
        assert text in out


def test_the_fee_of_a_period_with_charge_on_event(store_of: StoreOf, capsys: Capture) -> None:
    """It is charged once its counter says so."""
    spec = msgspec.structs.replace(KIEV, charge_on_event=True)
    content = msgspec.structs.replace(CONTENT, packages={"1": PackageHistory([(0, spec)], [(0, "active")])})
    held = msgspec.structs.replace(period(2, PAST, FUTURE), charged=())
    for counters, charged in (({}, False), ({"cp.2.fee.charged": 1}, True)):
        store_of(client(Life(periods=(held,))), counters, content=content).index.append("\x00cp")
        (row,) = listed(capsys, "client-packages", "show", "cp")
        assert (row["charge_on_event"], row["charged"]) == (True, charged)


def test_a_client_package_that_the_index_lacks(store_of: StoreOf, capsys: Capture) -> None:
    """All clients are searched, which is told."""
    store_of(client(Life()))
    assert main(["client-packages", "show", "cp"]) == 0
    assert "client package cp is not in the index; all clients are searched" in capsys.readouterr().err


def test_history_is_that_of_register_and_rows(store_of: StoreOf, capsys: Capture) -> None:
    """The newest first; older periods were moved out of the register; those of others are not shown."""
    old, middle, now = (
        period(1, PAST - 60 * DAY_MS, PAST - 30 * DAY_MS),
        period(2, PAST - 30 * DAY_MS, PAST, voided=True),
        period(3, PAST, FUTURE),
    )
    store = store_of(
        client(
            Life(
                periods=(
                    middle,
                    now,
                )
            )
        ),
        {counter_field("cp", 1, "m1"): 12_000},
    )
    rows = {"cp.1": old, "cp.2": middle, "other.1": old, "c.p.1": now}
    store.rows = {name: msgspec.msgpack.encode(row) for name, row in rows.items()}
    found = listed(capsys, "client-packages", "history", "cp")
    assert [(row["period"], row["voided"], row["limits"][0]["used"]) for row in found] == [
        (3, False, "0"), (2, True, "0"), (1, False, "12000"),
    ]  # fmt: skip
    assert found[2]["stop"] == rfc3339(PAST - 30 * DAY_MS)
    assert found[0]["fees"] == [{"type": "subscription_fee", "amount": "-5"}]
    assert main(["client-packages", "history", "cp"]) == 0
    out = capsys.readouterr().out
    assert "12000 / 12000 second" in out
    assert "voided" in out


def test_a_row_of_history_that_is_none_is_told(store_of: StoreOf, capsys: Capture) -> None:
    """Somebody else wrote there."""
    store_of(client(Life())).rows = {"cp.1": b"\xc1"}
    assert main(["client-packages", "history", "cp"]) == 1
    assert (
        "what Redis holds of earlier periods of client package cp cannot be read" in capsys.readouterr().err
    )


def test_history_of_one_that_was_taken_over(store_of: StoreOf, capsys: Capture) -> None:
    """What it had before, and neither register nor history has, is counted by the calendar."""
    begin, now = PAST - 60 * DAY_MS, period(9, PAST, FUTURE)
    state = register(cp=(begin, None))
    state.packages[0].life = Life(periods=(now,), numbered=9, count=9, first_ms=begin)
    store_of(state)
    found = listed(capsys, "client-packages", "history", "cp")
    assert [row["period"] for row in found] == [9, 2, 1]
    assert found[2]["start"] == rfc3339(begin)


@pytest.mark.usefixtures("store")
def test_history_of_one_that_an_earlier_build_assigned(capsys: Capture) -> None:
    """Its periods follow each other by themselves, up to now."""
    found = listed(capsys, "client-packages", "history", "active")
    assert [row["period"] for row in found] == list(range(len(found), 0, -1))
    assert len(found) >= 40


# -------------------------------------------------------------------------------------------- pending charges
def test_a_pending_charge(store_of: StoreOf, capsys: Capture) -> None:
    """The full amount with its parts, and what balance and credit limit lack (CONTRACTS.md, Events)."""
    state = client(Life(numbered=4, waiting=FUNDS))
    state.credit_limit = 1_000_000
    store_of(state)
    charge = {
        "id": "cp/5", "client": "42", "client_package": "cp", "period": 5,
        "amounts": {"activation": "0", "subscription": "5", "tax": "1", "total": "60"},
        "missing": "9.006", "currency": "USD", "since": rfc3339(PAST), "retry_until": rfc3339(FUTURE),
        "invoiced": False, "package": "1", "kind": "renewal", "reason": "funds",
    }  # fmt: skip
    assert listed(capsys, "pending-charges", "list") == [charge]
    assert listed(capsys, "pending-charges", "list", "--client", "42") == [charge]
    (shown,) = listed(capsys, "clients", "show", "42")
    assert shown["pending_charges"] == [charge]
    (row,) = listed(capsys, "clients", "list")
    assert row["pending_charges"] == 1
    assert main(["pending-charges", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:8] == [
        "cp/5", "42", "cp", "0", "5", "1", "60", "9.006",
    ]  # fmt: skip
    assert main(["clients", "show", "42"]) == 0
    assert "pending charges\n" in capsys.readouterr().out


def test_what_ended_waits_no_more(store_of: StoreOf, capsys: Capture) -> None:
    """Nothing is pending of the archive."""
    store_of(client(Life(waiting=FUNDS, ended_ms=PAST)))
    assert main(["pending-charges", "list"]) == 0
    assert capsys.readouterr().err == "nothing waits\n"


# ------------------------------------------------------------------------------------------------- by account
def usage(account: str | None, limit: str, taken: str, **more: Any) -> Any:
    """Return a transaction's record with one draw from period 3 of `cp`."""
    draw = {"client_package": "cp", "period": 3, "limit": limit, "taken": taken, **more}
    return seen(json.dumps({"type": "usage", "client": "42", "account": account, "draws": [draw]}).encode())


def test_use_by_account(store_of: StoreOf, topic: PutRecords, capsys: Capture) -> None:
    """Takes of the last period that has begun, of the client's accounts; reversals are taken back."""
    back = json.loads(usage("sip-1", "m1", "-60").value) | {"type": "reversal"}
    topic(
        usage("sip-1", "m1", "60"), usage("sip-1", "m1", "30"),
        usage("sip-2", "b1", "0.05", currency="USD"), usage(None, "m1", "7"),
        usage("sip-1", "m1", "1", period=2), usage("sip-1", "m1", "1", client_package="x"),
        usage("sip-1", "m1", "many"), seen(json.dumps(back).encode()), seen(b'{"type": "adjustment"}'),
        seen(b'{"type": "usage", "draws": [1, {"client_package": "cp", "period": 3}]}'), seen(b"garbled"),
    )  # fmt: skip
    coming = period(4, FUTURE, FUTURE + DAY_MS)
    store_of(
        client(
            Life(
                periods=(
                    period(3, PAST, FUTURE),
                    coming,
                )
            )
        )
    )
    assert listed(capsys, "client-packages", "show", "cp", "--by-account") == [
        {"account": "sip-1", "period": 3, "limit": "m1", "taken": "30", "currency": None},
        {"account": "sip-2", "period": 3, "limit": "b1", "taken": "0.05", "currency": "USD"},
        {"account": None, "period": 3, "limit": "m1", "taken": "7", "currency": None},
    ]
