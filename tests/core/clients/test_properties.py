"""What holds for all histories of a client's packages (RULES.md section 4)."""

from __future__ import annotations

from typing import Any

from histories import HOURS, Step, World, histories, micros, moved, published
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.clients.state import write_state

few = settings(deadline=None, max_examples=100)


def kept(world: World, client: str = "a") -> tuple[bytes, int, dict[str, int]]:
    """Return all that a bucket keeps of a client."""
    rater = world.rater
    return write_state(rater.states[client]), rater.balance(client), rater.used(client)


@few
@given(histories(), st.integers(0, 500))
def test_due_work_done_twice_is_done_once(steps: list[Step], later: int) -> None:
    """Asked again for what is due until an instant, nothing changes and nothing is published."""
    world = World("a")
    for number, step in enumerate(steps):
        world.do("a", step, number)
    world.tick(steps[-1].hour + later)
    before, said = kept(world), (len(world.transactions), len(world.events))
    world.tick(steps[-1].hour + later)
    assert kept(world) == before
    assert (len(world.transactions), len(world.events)) == said


@few
@given(histories(), st.lists(st.integers(0, HOURS + 500), max_size=8))
def test_time_in_one_step_or_in_many(steps: list[Step], ticks: list[int]) -> None:
    """Ticks between what is done change no transaction and no event: ids, amounts and dates are the same."""
    one, many = World("a"), World("a")
    for number, step in enumerate(steps):
        one.do("a", step, number)
    end = HOURS + 500
    one.tick(end)
    rest = sorted(ticks)
    for number, step in enumerate(steps):
        while rest and rest[0] < step.hour:
            many.tick(rest.pop(0))
        many.do("a", step, number)
    for hour in (*rest, end):
        many.tick(hour)
    assert published(many, "a", crossings=False) == published(one, "a", crossings=False)
    assert kept(many)[1:] == kept(one)[1:]


@few
@given(histories())
def test_a_balance_is_the_sum_of_its_transactions(steps: list[Step]) -> None:
    """After each step, whatever was refused; no id with its revision and type comes twice."""
    world = World("a")
    for number, step in enumerate(steps):
        world.do("a", step, number)
        assert world.rater.balance("a") == moved(world, "a")
    world.tick(HOURS + 300)
    assert world.rater.balance("a") == moved(world, "a")
    names = [(one["id"], one["revision"], one["type"]) for one in world.transactions]
    # Reversed are a fee and a refund, each by a name of its own.
    assert len(set(names)) == len(names)
    ids = [one["id"] for one in world.events]
    assert len(set(ids)) == len(ids)


@few
@given(histories(), st.integers(0, 3))
def test_what_is_stopped_costs_what_the_rule_says(steps: list[Step], place: int) -> None:
    """Stop now gives back the period that runs and what was renewed ahead; removing it, all the rest."""
    world = World("a")
    for number, step in enumerate(steps):
        world.do("a", step, number)
    hour = steps[-1].hour + 1
    held = world.rater.states["a"].packages
    if not held:
        return
    of = held[place % len(held)].id
    place = [one.id for one in held].index(of)
    told = world.do("a", Step(hour, "stop_now", place, {}), 900)
    assert told is not None
    if told["type"] == "command_done":
        (stopped,) = [
            one for one in world.events if one["type"] == "stopped" and one["cause"] == told["cause"]
        ]
        for period, amount in sums(world, of).items():
            assert period < stopped["period"] or amount == 0, (period, amount)
    told = world.do("a", Step(hour, "remove", place, {}), 901)
    assert told is not None
    if told["type"] == "command_done":
        assert set(sums(world, of).values()) <= {0}
    else:
        assert "is not in the archive" in told["data"]["reason"]


def sums(world: World, client_package: str) -> dict[int, int]:
    """Return what each period of a client package has moved, in micros."""
    out: dict[int, int] = {}
    for one in world.transactions:
        if one["id"].startswith(f"cp/{client_package}/"):
            out[one["period"]] = out.get(one["period"], 0) + micros(one["amount"])
    return out


@few
@given(histories(most=6), histories(most=6), st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter(ones: list[Step], twos: list[Step], chance: Any) -> None:
    """In any order that keeps that of each client, each has the same end: all due work is of one client."""
    alone = []
    for client, steps in (("a", ones), ("b", twos)):
        world = World("a", "b")
        for number, step in enumerate(steps):
            world.do(client, step, number)
        world.tick(HOURS + 300)
        alone.append((published(world, client), kept(world, client)[1:]))
    world, waiting = World("a", "b"), {"a": list(enumerate(ones)), "b": list(enumerate(twos))}
    while any(waiting.values()):
        client = chance.choice([of for of, steps in waiting.items() if steps])
        number, step = waiting[client].pop(0)
        world.do(client, step, number)
    world.tick(HOURS + 300)
    assert [(published(world, client), kept(world, client)[1:]) for client in ("a", "b")] == alone


@few
@given(histories(least=2))
def test_a_dry_run_tells_what_is_done_then(steps: list[Step]) -> None:
    """It changes nothing, and what the command then does is what it told: refusals, money and events."""
    world = World("a")
    for number, step in enumerate(steps):
        if step.do == "call":
            world.do("a", step, number)
            continue
        world.tick(step.hour)  # what is due before is no part of it
        before, said = kept(world), (len(world.transactions), len(world.events))
        dry = world.do("a", step, number, dry_run=True)
        assert (len(world.transactions), len(world.events)) == said
        assert kept(world) == before
        done = world.do("a", step, number)
        if dry is None or done is None:
            assert dry is done
            continue
        assert dry["type"] == done["type"]
        assert dry["client_package"] == done["client_package"]
        if dry["type"] == "command_refused":
            assert dry == done
            continue
        assert dry["data"] == done["data"] | {"dry_run": True}
        news = world.transactions[said[0] :], world.events[said[1] :]
        assert news[0] == done["data"]["transactions"]
        assert [{name: one[name] for name in one if name != "id"} for one in news[1]] == done["data"][
            "events"
        ]
        assert micros(done["data"]["balance_after"]) == world.rater.balance("a")


@few
@given(histories(most=8))
def test_a_key_moves_once(steps: list[Step]) -> None:
    """Each command again, at the end: it is told as done, and moves nothing."""
    world, done = World("a"), []
    for number, step in enumerate(steps):
        told = world.do("a", step, number)
        if told is not None and told["type"] == "command_done" and step.do in ("assign", "adjust"):
            done.append((number, step, told))
    world.tick(HOURS)
    before = kept(world)
    for number, step, told in done:
        again = world.do("a", step, number)
        assert again is not None
        assert (again["data"]["repeated"], again["client_package"]) == (True, told["client_package"])
    assert kept(world) == before


def test_histories_do_what_they_are_for() -> None:
    """The world above has fees, renewals, calls that bring fees and pending charges: none is empty."""
    world = World("a", balance="30.00")
    for number, package in enumerate(("monthly", "ten", "event", "ahead", "aligned", "pays", "once")):
        told = world.do("a", Step(0, "assign", 0, {"package": package}), number)
        assert told is not None
        assert told["type"] == "command_done", told
    world.do("a", Step(30, "call", 0, ("1", "orig", 60)), 50)
    world.tick(24 * 45)
    kinds = {one["type"] for one in world.transactions}
    assert kinds >= {"usage", "activation_fee", "subscription_fee", "adjustment"}
    told_of = {one["type"] for one in world.events}
    assert told_of >= {"assigned", "activated", "renewed", "charge_pending", "archived", "low_balance"}
