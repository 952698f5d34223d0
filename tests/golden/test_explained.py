"""What is explained of the golden cases: each text as its file has it, each number as it was published."""

from __future__ import annotations

import msgspec
import pytest

from golden.cases import Case, load_cases
from golden.explained import FOLDER, agrees, texts
from golden.steps import StepCase, load_step_cases, tick
from golden.test_golden import loaded
from rater.core.amounts import parse_micros
from rater.core.explaining.arithmetic import arithmetic
from rater.core.explaining.sides import explain
from rater.core.explaining.telling import told
from rater.core.instants import rfc3339
from rater.core.offline import Rater, Transaction
from rater.core.reasons import Rejection


def test_texts_are_those_of_the_files() -> None:
    """Each case has its text (python tests/golden/explained.py writes them), and there is no other file."""
    written = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.txt")}
    found = texts()
    assert found.keys() == written.keys()
    assert {name: text for name, text in found.items() if written[name] != text} == {}


def sides(rater: Rater, raw: bytes, record_ms: int) -> None:
    """Rate a record, and hold what came of each side against what was explained just before."""
    explained = {one.side: one for one in explain(rater, raw, record_ms)}
    known = rater.bucket.duplicates
    for ended in rater.rate(raw, record_ms):
        one = explained[ended.side]
        if isinstance(ended, Transaction):
            assert agrees(told(one, rater.catalog), msgspec.json.decode(ended.value)) == []
        elif isinstance(ended, Rejection) and ended.reason != "duplicate_differs":
            assert (one.side, one.ended) == (ended.side, ended)
    assert known is rater.bucket.duplicates


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.name)
def test_sides_are_explained_as_they_end(case: Case) -> None:
    """Client, account, billed volume, draws and amount of each side are those that come out."""
    rater = loaded(case)
    if len(case.expected) > 1:  # calls that meet: of both sides of a record either may come first
        return
    for raw, record_ms in case.records:
        sides(rater, raw, record_ms)


@pytest.mark.parametrize("case", load_step_cases(), ids=lambda case: case.name)
def test_fees_are_explained_as_they_are(case: StepCase) -> None:
    """The arithmetic of each transaction, fees and refunds too, comes to its amount."""
    rater = Rater(notices=case.settings.notices)
    for number, step in enumerate(case.steps):
        if step.kind == "load":
            rater.load([(f"{case.name}.yaml", step.value)], step.at_ms)
        elif step.kind == "command":
            rater.command(step.value, step.at_ms)
        elif step.kind == "tick":
            rater.command(tick(f"{case.name}-{number}", rfc3339(step.at_ms), {}), step.at_ms)
        else:
            sides(rater, step.value, step.at_ms)
        for raw in rater.take()[0]:
            one = msgspec.json.decode(raw)
            worked = arithmetic(one, rater.catalog.services)
            assert worked.micros == parse_micros(one["amount"]), (worked.lines, one)
            assert worked.lines[-1] == f"amount: {one['amount']} {one['currency']}"
