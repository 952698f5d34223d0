"""The golden cases in steps through the core: loads, commands, due work and calls, one after the other."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import msgspec
import pytest

from golden.cases import Got
from golden.listing import listed
from golden.steps import (
    SYSTEM_EVENTS,
    Shown,
    Step,
    StepCase,
    compare_steps,
    load_step_cases,
    outcome_of,
    tick,
)
from golden.test_golden import got
from rater.core.amounts import format_micros
from rater.core.catalog.offers import counter_field
from rater.core.explaining.sides import explain
from rater.core.instants import rfc3339
from rater.core.offline import Rater
from rater.queries.clients import Held

CASES = load_step_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: StepCase) -> None:
    """What the file expects of each step comes out, and at the end there is what it says."""
    rater = Rater(notices=case.settings.notices)
    outcomes = [_done(rater, case, number, step) for number, step in enumerate(case.steps)]
    assert compare_steps(case, outcomes, _shown(rater, case)) == [], case.title


def _shown(rater: Rater, case: StepCase) -> Shown:
    balances, packages = {}, {}
    for client, state in rater.states.items():
        held = Held(state, rater.used(client), rater.balance(client))
        balances[client] = format_micros(held.balance)
        packages.update(listed(held, rater.catalog, case.end_ms))
    return Shown(balances, packages)


def _done(rater: Rater, case: StepCase, number: int, step: Step) -> list[Got]:
    """Do a step; returns all that comes of it."""
    outcomes: list[Got] = []
    if step.kind == "load":
        faults = rater.load([(f"{case.name}.yaml", step.value)], step.at_ms)
        outcomes += [("refused", None, str(fault)) for fault in faults]
    elif step.kind == "command":
        rater.command(step.value, step.at_ms)
    elif step.kind == "tick":
        rater.command(tick(f"{case.name}-{number}", rfc3339(step.at_ms), {}), step.at_ms)
    else:
        if step.explain:
            (explained,) = explain(rater, step.value, step.at_ms)
            reasons = {of: reason.value for of, reason in explained.reasons.items()}
            assert step.explain.items() <= reasons.items(), (case.title, number, reasons)
        outcomes += [got(ended) for ended in rater.rate(step.value, step.at_ms)]
    transactions, events = rater.take()
    outcomes += [outcome_of(msgspec.json.decode(value)) for value in transactions]
    return outcomes + [_event(msgspec.json.decode(value)) for value in events]


def _event(event: dict[str, object]) -> Got:
    if event["type"] == "command_refused":
        data = event["data"]
        assert isinstance(data, dict)
        return "refused", None, data["reason"]
    return "event", None, event


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sums_agree(case: StepCase) -> None:
    """Balances are the sums of amounts, counters those of what draws took, and nothing comes twice."""
    rater = Rater(notices=case.settings.notices)
    every = [got for number, step in enumerate(case.steps) for got in _done(rater, case, number, step)]
    transactions = [value for kind, _, value in every if kind == "transaction"]
    for client in rater.states:
        amounts = [Decimal(one["amount"]) for one in transactions if one["client"] == client]
        assert rater.balance(client) == sum(amounts, Decimal(0)).scaleb(6), client
        taken = Counter[str]()
        for one in transactions:
            for draw in one.get("draws", ()) if one["client"] == client else ():
                name = counter_field(draw["client_package"], draw["period"], draw["limit"])
                units = Decimal(draw["taken"]).scaleb(6 if draw["kind"] == "money" else 0)
                taken[name + (".rolled" if draw.get("rolled") else "")] += int(units)
        used = {name: units for name, units in rater.used(client).items() if units and name in taken}
        assert used == {name: units for name, units in taken.items() if units}, client
    keys = [(one["client"], one["id"], one["revision"], one["type"]) for one in transactions]
    assert len(set(keys)) == len(keys)
    events = [event["id"] for kind, _, event in every if kind == "event"]
    assert len(set(events)) == len(events)
    for one in transactions:
        if "net" in one:
            taxes = sum((Decimal(tax["amount"]) for tax in one["taxes"]), Decimal(0))
            assert Decimal(one["net"]) + taxes == Decimal(one["amount"]), one


def test_differences_are_found() -> None:
    """Whatever comes that a file does not name, and whatever does not come, is told."""
    case = next(case for case in CASES if case.name == "101-pending-charge-and-top-up")
    rater = Rater(notices=case.settings.notices)
    outcomes = [_done(rater, case, number, step) for number, step in enumerate(case.steps)]
    shown = _shown(rater, case)
    assert compare_steps(case, outcomes, shown) == []
    for number, of in enumerate(outcomes):
        for place, one in enumerate(of):
            opening = number == 0 and one[0] == "transaction"
            if opening or (one[0] == "event" and one[2]["type"] in SYSTEM_EVENTS):
                continue
            without, twice = [list(step) for step in outcomes], [list(step) for step in outcomes]
            del without[number][place]
            twice[number].append(one)
            assert compare_steps(case, without, shown), (number, one)
            assert compare_steps(case, twice, shown), (number, one)
    refused = [[*of] for of in outcomes]
    refused[1].append(("refused", None, "no"))
    assert compare_steps(case, refused, shown)
    packages = {**shown.client_packages["3"], "status": "pending"}
    assert compare_steps(case, outcomes, Shown({"42": "1"}, shown.client_packages))
    assert compare_steps(case, outcomes, Shown(shown.balances, {"3": packages}))
