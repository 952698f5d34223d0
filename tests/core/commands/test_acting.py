"""What commands do to a client, and each sentence that refuses one (RULES.md section 4, Stopping)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from histories import HOURS, START_MS, Step, World, micros

from rater.core.clients.planning import STEP_MAX
from rater.core.instants import HOUR_MS, rfc3339

DAY = 24

DISABLED = "packages: [{id: ten, name: T, type: customer, currency: USD, period: 10 days, status: STATUS}]"


def day(number: int) -> str:
    """Return a date so many days after the start, as an instant."""
    return rfc3339(START_MS + number * DAY * HOUR_MS)


def done(world: World, *steps: Step, first: int = 0) -> dict[str, Any]:
    """Do steps, all but the last without refusal; returns what is told of the last. first: of their keys."""
    told: dict[str, Any] | None = None
    for number, step in enumerate(steps, first):
        assert told is None or told["type"] == "command_done", told
        told = world.do("a", step, number)
    assert told is not None
    return told


def assign(package: str, hour: int = 0, **args: Any) -> Step:
    """Return the assignment of a package."""
    return Step(hour, "assign", 0, {"package": package, **args})


def act(do: str, hour: int, **args: Any) -> Step:
    """Return an action on the client's first client package."""
    return Step(hour, do, 0, args)


REFUSED: dict[str, tuple[tuple[Step, ...], str]] = {
    "no package": ((assign("none"),), "there is no package 'none'; `rater packages list` shows them"),
    "no account": ((assign("ten", account="x"),), "client 'a' has no account 'x'"),
    "id twice": ((assign("ten", id="x"), assign("once", 1, id="x")), "the id 'x' is or was that of a client"),
    "id of a removed one": (
        (assign("once"), act("cancel", 1), act("remove", 2), assign("once", 3, id="a-1")),
        "the id 'a-1' is or was that of a client package; give another",
    ),
    "quantity": (
        (assign("monthly", quantity=10**13),), "args of assign: Expected `int` <= 1000000",
    ),
    "end before start": (
        (assign("ten", start_date=day(9), end_date=day(9)),),
        f"end_date {day(9)[:19]}Z is not after start_date",
    ),
    "end is over": (
        (assign("ten", 30 * DAY, end_date=day(20)),),
        f"its end date, {day(20)}, is not after the start of its first period, {day(30)}; change the dates",
    ),
    "end is over, in the past": (
        (assign("ten", 30 * DAY, start_date=day(9), end_date=day(20)),),
        f"its end date, {day(20)}, is not after the start of its first period, {day(30)}; change the dates",
    ),
    "too many periods": (
        (assign("ahead", start_date="1999-01-01", activate_in_past=True),),
        "an activation in the past opens at most 400 periods; begin later",
    ),
    "end edited to before now": (
        (assign("ten"), act("edit_end_date", 9 * DAY, end_date=day(8))),
        f"the end date {day(8)[:19]}Z is before now; give now or later",
    ),
    "end edited to before the start": (
        (assign("ten", start_date=day(9)), act("edit_end_date", 1, end_date=day(9))),
        f"the end date {day(9)[:19]}Z is not after the start of the first period; give a later one" ),
    "end edited in the archive": (
        (assign("ten"), act("cancel", 1), act("edit_end_date", 2, end_date=None)),
        "client package 'a-1' is in the archive, which is final; assign it anew",
    ),
    "stop in the archive": (
        (assign("ten"), act("cancel", 1), act("stop_now", 2)),
        "client package 'a-1' is in the archive already",
    ),
    "stop at period end in the archive": (
        (assign("ten"), act("stop_now", 1), act("stop_at_period_end", 2)), "is in the archive already",
    ),
    "cancel in the archive": (
        (assign("ten"), act("stop_now", 1), act("cancel", 2)),
        "client package 'a-1' is in the archive already",
    ),
    "stop what is pending": (
        (assign("ten", start_date=day(9)), act("stop_now", 1)),
        "client package 'a-1' is pending: it can only be cancelled",
    ),
    "stop at period end what is pending": (
        (assign("ten", start_date=day(9)), act("stop_at_period_end", 1)),
        "client package 'a-1' is pending: it can only be cancelled",
    ),
    "stop what waits after its stop": (
        (assign("monthly", quantity=2), act("stop_now", 32 * DAY)),
        "client package 'a-1' is pending: it can only be cancelled",
    ),
    "stop at period end twice": (
        (assign("ten"), act("stop_at_period_end", 1), act("stop_at_period_end", 2)),
        "client package 'a-1' is stopped at its period's end already",
    ),
    "stop at the end of what has none": (
        (assign("once"), act("stop_at_period_end", 1)),
        "the period of client package 'a-1' has no end; stop it now, cancel it, or give it an end date",
    ),
    "remove what runs": (
        (assign("ten"), act("remove", 1)),
        "client package 'a-1' is not in the archive; stop or cancel it first",
    ),
    "remove what is pending": (
        (assign("ten", start_date=day(9)), act("remove", 1)),
        "client package 'a-1' is not in the archive; stop or cancel it first",
    ),
    "no pending charge": (
        (assign("ten"), act("invoice_pending_charge", 1)), "client package 'a-1' has no pending charge",
    ),
    "marked twice": (
        (assign("monthly", quantity=9), act("invoice_pending_charge", 1), act("invoice_pending_charge", 2)),
        "the pending charge of client package 'a-1' is marked already",
    ),
    "balance out of range": (
        (Step(0, "adjust", 0, {"amount": str(2**53 - 10**7 + 1)}),),
        "the balance would leave ±9007199254.740992; give a smaller amount",
    ),
    "nothing": ((Step(0, "adjust", 0, {"amount": "0"}),), "amount 0 changes nothing; write another"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """A sentence says what and why; nothing is changed, and the key can be used again."""
    steps, sentence = REFUSED[name]
    world = World("a")
    told = done(world, *steps)
    assert told["type"] == "command_refused", told
    assert sentence in told["data"]["reason"]
    before = world.rater.states["a"], world.rater.balance("a")
    again = world.do("a", steps[-1], len(steps) - 1)
    assert again is not None
    assert again["type"] == "command_refused"
    assert (world.rater.states["a"], world.rater.balance("a")) == before


@pytest.mark.parametrize(
    ("status", "remedy"), [("disabled", "enable it first"), ("archived", "assign another")]
)
def test_what_is_not_active_cannot_be_assigned(status: str, remedy: str) -> None:
    """The sentence says what can be done about it."""
    world = World("a")
    world.load(DISABLED.replace("STATUS", status), 1)
    told = done(world, assign("ten", 2))
    assert told["data"]["reason"] == f"package 'ten' is {status}: it cannot be assigned; {remedy}"


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ("payment_terms: {every: 7 days, anchor: 2026-01-01}", "neither"),
        ("payment_terms: null", "there are none"),
    ],
)
def test_what_does_not_fit_the_terms_cannot_be_assigned(terms: str, problem: str) -> None:
    """An aligned package needs terms that its period goes with."""
    world = World("a")
    world.load(
        'clients: [{id: "a", currency: USD, time_zone: Europe/Kyiv, ' + terms + "}]", 1
    )  # what it leaves out gets its default
    told = done(world, assign("aligned", 2))
    assert told["type"] == "command_refused"
    assert problem in told["data"]["reason"]


def raw(world: World, **fields: Any) -> dict[str, Any]:
    """Carry out a command of these fields; returns its result."""
    at = rfc3339(START_MS)
    command = {"id": "c", "at": at, "client": "a", "args": {}, **fields}
    world.rater.command(json.dumps(command).encode(), START_MS)
    told: list[dict[str, Any]] = [json.loads(one) for one in world.rater.take()[1]]
    (result,) = [one for one in told if one["type"].startswith("command_")]
    return result


def test_a_version_that_was_changed_meanwhile_is_refused() -> None:
    """`expect_version` is that of the client package, not of the client."""
    world = World("a")
    done(world, assign("ten"), Step(0, "adjust", 0, {"amount": "1"}))
    of = {"do": "cancel", "client_package": "a-1"}
    told = raw(world, key="x", expect_version=7, **of)
    assert told["data"]["reason"] == (
        "client package 'a-1' is at version 1, not 7: it was changed meanwhile; look at it again"
    )
    assert raw(world, key="x", expect_version=1, **of)["type"] == "command_done"


def test_who_is_not_there_is_told() -> None:
    """A client, a client package."""
    world = World("a")
    told = raw(world, do="adjust", client="b", args={"amount": "1"})
    assert told["data"]["reason"] == "there is no client 'b'"
    told = raw(world, do="cancel", client_package="x")
    assert told["data"]["reason"] == "client 'a' has no client package 'x'"


def test_a_key_for_something_else_is_refused() -> None:
    """Same key and content: repeated; other content: refused. A client has its own keys."""
    world = World("a", "b")
    first = raw(world, do="adjust", key="k", args={"amount": "1"})
    again = raw(world, do="adjust", key="k", id="d", args={"amount": "1"})
    assert (first["data"]["repeated"], again["data"]["repeated"]) == (False, True)
    for fields in ({"do": "adjust", "args": {"amount": "2"}}, {"do": "assign", "args": {"package": "ten"}}):
        told = raw(world, key="k", **fields)
        assert told["data"]["reason"] == (
            "the key 'k' was used for something else of this client; give another key"
        )
    assert raw(world, do="adjust", key="k", client="b", args={"amount": "2"})["type"] == "command_done"
    assert (world.rater.balance("a"), world.rater.balance("b")) == (11_000_000, 12_000_000)


def test_due_work_comes_before_a_command() -> None:
    """What is due up to its `at` is paid first; a retry is decided by the command that brought money."""
    world = World("a", balance="2.00")
    done(world, assign("monthly", quantity=1))  # 6.075 with taxes are more than 2.00 and the credit of 1.00
    done(world, Step(3 * DAY, "adjust", 0, {"amount": str(10 * 10**6)}), first=1)
    (fee,) = [one for one in world.transactions if one["type"] == "subscription_fee"]
    assert (fee["at"], fee["amount"]) == (day(3), "-6.075")
    told = [(one["type"], one["at"]) for one in world.events if one["client_package"] == "a-1"]
    assert told == [
        ("assigned", day(0)), ("charge_pending", day(0)), ("charge_cleared", day(3)), ("activated", day(3)),
    ]  # fmt: skip


def test_a_full_plan_leaves_the_command_to_the_next_step() -> None:
    """Due work of STEP_MAX transactions goes by itself, so that an assignment can be refused as ever."""
    world = World("a", balance="9000.00")
    done(world, assign("ten"))
    hour = STEP_MAX * 10 * DAY  # as many renewals are due by then
    told = world.do("a", assign("ahead", hour, start_date="1999-01-01", activate_in_past=True), 5)
    assert told is not None
    assert "at most 400 periods" in told["data"]["reason"]
    told = world.do("a", assign("once", hour), 6)
    assert told is not None
    assert [one["type"] for one in told["data"]["transactions"]] == ["activation_fee", "subscription_fee"]


@pytest.mark.parametrize("renewals", [1, STEP_MAX, STEP_MAX + 1])
def test_a_refused_command_leaves_no_time_behind(renewals: int) -> None:
    """However much was due before it, and done in steps: what comes after may be of an earlier instant."""
    world = World("a", balance="9000.00")
    done(world, assign("ten"))
    due = renewals * 10 * DAY
    told = world.do("a", act("remove", due + 2), 5)
    assert told is not None
    assert told["type"] == "command_refused"
    done(world, assign("once", due + 1), first=6)
    (activated,) = [one for one in world.events if one["type"] == "activated" and one["period"] == 1][1:]
    assert activated["at"] == rfc3339(START_MS + (due + 1) * HOUR_MS)


def test_steps_before_a_command_are_dated_as_those_of_a_tick() -> None:
    """A balance that renewals took below its mark is told of as of then, not of the command behind them."""
    told = []
    later = (STEP_MAX + 9) * 7 * DAY
    for finds in ("tick", "cancel"):
        world = World("a", balance="100.00")
        done(world, assign("ahead"))
        if finds == "cancel":
            done(world, act("cancel", later), first=5)
        world.tick(later)
        kinds = {"renewed", "low_balance"}
        told.append([(one["type"], one["at"]) for one in world.events if one["type"] in kinds])
    by_tick, by_command = told
    assert "low_balance" in dict(by_tick)
    assert by_command == by_tick


def test_what_an_assignment_opens_is_opened_with_it() -> None:
    """However many periods of the past: a call that lies in the last of them does not wait for a tick."""
    world, days = World("a", balance="9000.00"), (STEP_MAX + 5) * 10
    told = world.do("a", assign("ten", start_date=day(-days)[:10], activate_in_past=True), 1)
    assert told is not None
    fees = [one for one in told["data"]["transactions"] if one["type"] == "subscription_fee"]
    assert [one["period"] for one in fees] == list(range(1, STEP_MAX + 7))
    life = world.rater.states["a"].packages[0].life
    assert life is not None
    assert len(life.periods) == STEP_MAX + 6


def test_what_a_stop_gives_back() -> None:
    """Of a first period both fees in one refund, with their taxes; of what was renewed ahead, its own."""
    world = World("a", balance="100.00")
    told = done(world, assign("ten"), act("stop_now", 5))
    (refund,) = told["data"]["transactions"]
    assert refund["of"] == ["cp/a-1/1/activation_fee", "cp/a-1/1/subscription_fee"]
    assert (refund["net"], refund["amount"]) == ("3", "3.645")
    assert refund["taxes"] == [
        {"name": "VAT", "percent": "20", "amount": "0.6"},
        {"name": "city", "percent": "1.5", "amount": "0.045"},
    ]  # fmt: skip
    assert world.rater.balance("a") == 100_000_000
    done(world, assign("ahead", 6, id="w"), first=5)
    world.tick(6 * DAY)
    told = done(world, Step(6 * DAY + 6, "stop_at_period_end", 1, {}), first=6)
    (refund,) = told["data"]["transactions"]
    assert (refund["id"], micros(refund["amount"])) == ("cp/w/2/refund", 4_000_000)
    world.tick(HOURS)
    life = world.rater.states["a"].packages[1].life
    assert life is not None
    assert (life.ended, life.numbered, life.count, len(life.periods)) == ("expired", 2, 1, 1)
