"""The golden cases in steps through the core: loads, commands, due work and calls, one after the other."""

from __future__ import annotations

import msgspec
import pytest

from golden.cases import Got
from golden.steps import Shown, Step, StepCase, compare_steps, load_step_cases, outcome_of, tick, told
from golden.test_golden import got
from rater.core.amounts import format_micros
from rater.core.instants import rfc3339
from rater.core.line.offline import Rater

CASES = load_step_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: StepCase) -> None:
    """What the file expects of each step comes out, and at the end there is what it says."""
    rater = Rater()
    outcomes = [_done(rater, case, number, step) for number, step in enumerate(case.steps)]
    balances = {client: format_micros(rater.balance(client)) for client in rater.states}
    assert compare_steps(case, outcomes, Shown(balances, told(outcomes))) == [], case.title


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
            (explained,) = rater.explain(step.value, step.at_ms)
            reasons = {f"{one.package_name}/{one.limit_id}": one.reason.value for one in explained.passed}
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
