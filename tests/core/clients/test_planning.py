"""Plans: the interval of balances and counters for which the same change comes out (decision 0060)."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from histories import START_MS, Step, World, histories
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.amounts import LIMIT
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import due_change
from rater.core.clients.planning import STEP_MAX, Cause, Known, Plan, read_period
from rater.core.clients.state import read_state
from rater.core.instants import HOUR_MS, rfc3339

CAUSE = Cause("tick")


def plan_of(world: World, balance: int | None) -> Plan:
    """Return a plan of the world's client "a"."""
    rater = world.rater
    return Plan(rater.states["a"], rater.catalog, Known(balance), CAUSE)


# -------------------------------------------------------------------------------------------------- intervals
def asked(plan: Plan, seed: int) -> list[object]:
    """Ask and move at random, by what was answered; returns the answers, which are what a change rests on."""
    chance, answers = Random(seed), list[object]()  # noqa: S311 - the same each time
    for number in range(chance.randint(1, 12)):
        amount = chance.randint(-3000, 3000)
        match chance.randrange(5):
            case 0:
                answers.append(plan.reaches(amount))
            case 1:
                answers.append(plan.affords(amount))
            case 2 if plan.fits(amount):
                plan.move("adjustment", amount, b"{}")
            case 3 if plan.affords(amount):
                plan.move("subscription_fee", -amount, b"{}")
                answers.append("paid")
            case _:
                # Later questions rest on the answers before.
                chance.seed(f"{seed}/{number}/{answers}")
    return answers


def test_every_balance_of_an_interval_gives_the_same() -> None:
    """2,000 random sequences of questions and movements: nothing else is answered within [least, most]."""
    world = World("a")
    for seed in range(2000):
        chance = Random(-seed - 1)  # noqa: S311 - the same each time
        plan = plan_of(world, balance := chance.randint(-5000, 5000))
        answers = asked(plan, seed)
        change = plan.change(None, None, START_MS)
        least, most = change.write.least, change.write.most
        assert least <= balance <= most
        inside = [least, most, *(chance.randint(max(least, -9000), min(most, 9000)) for _ in range(6))]
        for other in inside:
            again = plan_of(world, other)
            assert asked(again, seed) == answers, (seed, other)
            made = again.change(None, None, START_MS)
            # The mark of low_balance is asked too, so the same events come.
            assert (made.write.delta, kinds(made)) == (change.write.delta, kinds(change))


def kinds(change: Change) -> tuple[list[tuple[str, int]], list[str]]:
    """Return what a change publishes, in short."""
    return [(one.type, one.amount) for one in change.transactions], [one.type for one in change.events]


@settings(deadline=None, max_examples=60)
@given(histories(least=2), st.integers(1, 600), st.randoms(use_true_random=False))
def test_every_balance_of_an_interval_gives_the_same_change(
    steps: list[Step], later: int, chance: Any
) -> None:
    """Due work planned for another balance and other counters of its conditions is the same, to the byte."""
    world = World("a", balance="4.00")
    for number, step in enumerate(steps):
        world.do("a", step, number)
    rater, upto = world.rater, START_MS + (steps[-1].hour + later) * HOUR_MS
    state = rater.states["a"]

    def made(known: Known) -> Change | None:
        return due_change(
            state, rater.catalog, upto_ms=upto, now_ms=upto, known=known, cause=CAUSE, closing=True
        )

    known = rater.known("a")
    change = made(known)
    if change is None:
        return
    write = change.write
    assert write.least <= (known.balance or 0) <= write.most
    counters = {one.field: (one.least, one.most) for one in write.counters}
    for _ in range(4):
        balance = chance.choice([write.least, write.most, chance.randint(write.least, write.most)])
        used = dict(known.counters) | {
            field: chance.randint(max(least, 0), most) if most >= 0 else most
            for field, (least, most) in counters.items()
        }
        assert made(Known(balance, used)) == change


def test_counters_are_conditions() -> None:
    """One is asked for exactly, or up to a value; what is added stands beside it."""
    world = World("a")
    rater = world.rater
    plan = Plan(rater.states["a"], rater.catalog, Known(0, {"x": 5, "y": 7, "z": 9}), CAUSE)
    assert (plan.counter("x"), plan.counter_up_to("y", 8), plan.counter_up_to("z", 8), plan.counter("n")) == (
        5, 7, 9, 0,
    )  # fmt: skip
    plan.count("x", 3)
    plan.count("x", 1)
    found = plan.change(None, None, START_MS).write.counters
    assert [tuple(one) for one in found] == [
        ("x", 5, 5, 4), ("y", -LIMIT, 8, 0), ("z", 9, 9, 0), ("n", 0, 0, 0),
    ]  # fmt: skip


def test_a_balance_that_is_told_is_the_only_one() -> None:
    """A result that says a balance holds for that one alone."""
    plan = plan_of(World("a"), 70)
    plan.move("adjustment", 30, b"{}")
    assert plan.pin() == 100
    write = plan.change(None, None, START_MS).write
    assert (write.least, write.most, write.delta) == (70, 70, 30)


@pytest.mark.parametrize(
    ("balance", "amount", "fits"), [(LIMIT, 1, False), (LIMIT, 0, True), (-LIMIT, -1, False)]
)
def test_sums_stay_within_range(balance: int, amount: int, *, fits: bool) -> None:
    """What would leave ±2⁵³ does not fit; and a plan says so to the bucket."""
    plan = plan_of(World("a"), balance)
    assert plan.fits(amount) is fits
    write = plan.change(None, None, START_MS).write
    assert write.least <= balance <= write.most


# ------------------------------------------------------------------------------------------------------ steps
def test_a_long_plan_goes_on_in_steps() -> None:
    """After STEP_MAX transactions a plan ends; asked again with its state, it goes on to the end."""
    world = World("a", balance="9000.00")
    told = world.do("a", Step(0, "assign", 0, {"package": "ten", "quantity": 1}), 1)
    assert told is not None
    assert told["type"] == "command_done"
    rater, upto = world.rater, START_MS + 3000 * 24 * HOUR_MS
    state, balance, sizes, ids = rater.states["a"], rater.balance("a"), [], []
    while True:
        change = due_change(
            state, rater.catalog, upto_ms=upto, now_ms=upto, known=Known(balance), cause=CAUSE, closing=True
        )
        if change is None:
            break
        assert change.write.version == state.version + 1
        state, balance = read_state(change.write.state), balance + change.write.delta
        sizes.append(len(change.transactions))
        ids += [json.loads(one.value)["id"] for one in change.transactions]
    assert sizes == [STEP_MAX] * 4 + [300 - 4 * STEP_MAX]
    assert ids == [f"cp/a-1/{number}/subscription_fee" for number in range(2, 302)]


def test_periods_that_no_call_can_be_in_become_history() -> None:
    """They leave the state with the next change of their client package, all but the newest."""
    world = World("a", balance="9000.00")
    world.do("a", Step(0, "assign", 0, {"package": "ten"}), 1)
    rater, upto = world.rater, START_MS + 45 * 24 * HOUR_MS
    keep_ms = START_MS + 20 * 24 * HOUR_MS
    change = due_change(
        rater.states["a"], rater.catalog, upto_ms=upto, now_ms=upto, known=Known(), cause=CAUSE,
        closing=True, keep_ms=keep_ms,
    )  # fmt: skip
    assert change is not None
    life = read_state(change.write.state).packages[0].life
    assert life is not None
    assert [one.number for one in life.periods] == [3, 4, 5]
    rows = {field: read_period(raw) for field, raw in change.write.history}
    assert {field: (one.number, one.stop_ms) for field, one in rows.items()} == {
        "a-1.1": (1, START_MS + 10 * 24 * HOUR_MS), "a-1.2": (2, keep_ms),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- events
def test_an_event_names_the_version_behind_it() -> None:
    """Its id is CLIENT/VERSION/TYPE/CLIENT_PACKAGE/PERIOD: the same for the same change, no other has it."""
    world = World("a")
    world.do("a", Step(0, "assign", 0, {"package": "ten"}), 1)
    version = world.rater.states["a"].version
    assert [one["id"] for one in world.events] == [
        f"a/{version}/assigned/a-1/0", f"a/{version}/activated/a-1/1",
    ]  # fmt: skip
    assert {one["cause"] for one in world.events} == {"a-c1"}
    assert [(one["before"], one["after"]["status"]) for one in world.events[:1]] == [(None, "pending")]
    assert world.events[1]["after"] == {
        "status": "active", "period": 1, "period_start": rfc3339(START_MS),
        "period_stop": rfc3339(START_MS + 10 * 24 * HOUR_MS), "end_date": None, "waiting": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "amount", "told"),
    [
        ("3.00", "-0.000001", "low_balance"), ("3.000001", "-0.000001", None),
        ("2.999999", "0.000001", "balance_restored"),
        ("2.00", "0.50", None), ("2.00", "-0.50", None), ("10.00", "1.00", None),
    ],
)  # fmt: skip
def test_the_mark_is_crossed(before: str, amount: str, told: str | None) -> None:
    """A balance is low below the mark of 3.00, not at it; each crossing is told once."""
    world = World("a", balance=before)
    world.events.clear()
    at = rfc3339(START_MS)
    raw = {"id": "c", "key": "k", "at": at, "do": "adjust", "client": "a", "args": {"amount": amount}}
    world.rater.command(json.dumps(raw).encode(), START_MS)
    found = [json.loads(one)["type"] for one in world.rater.take()[1]]
    assert [kind for kind in found if kind != "command_done"] == ([] if told is None else [told])
