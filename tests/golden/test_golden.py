"""The golden cases through the core: decode, identify, price, match, draw (the twin), render."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
import pytest

from golden.cases import EDITED_AT, LOADED_AT, Case, Got, compare, load_cases
from golden.steps import load_step_cases
from rater.core.catalog.offers import counter_field
from rater.core.explaining.sides import explain
from rater.core.instants import milliseconds
from rater.core.offline import Duplicate, Ended, Rater
from rater.core.reasons import PassOver, Reason, Rejection

CASES = load_cases()
EXAMPLES = set(range(1, 24))
"""The worked examples of RULES.md 7."""


def got(ended: Ended) -> Got:
    """Return an outcome of the core as `compare` takes it."""
    if isinstance(ended, Rejection):
        return "rejected", ended.side, {"reason": ended.reason.value, "value": ended.value}
    if isinstance(ended, Duplicate):
        return "duplicate", ended.side, None
    return "transaction", ended.side, msgspec.json.decode(ended.value)


def loaded(case: Case) -> Rater:
    """Return a rater with the case's catalog, as it was edited."""
    rater = Rater()
    for catalog, at in ((case.catalog, LOADED_AT), (case.edited, EDITED_AT)):
        if catalog is not None:
            assert not rater.load([(f"{case.name}.yaml", catalog)], milliseconds(at))
    return rater


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """What the file expects of each record comes out, and limits are passed over for the reasons it gives."""
    rater = loaded(case)
    outcomes = []
    for (raw, record_ms), passed in zip(case.records, case.explain, strict=True):
        if passed:
            (explained,) = explain(rater, raw, record_ms)
            reasons = {of: reason.value for of, reason in explained.reasons.items()}
            assert passed.items() <= reasons.items(), (case.title, raw, reasons)
        outcomes.append([got(ended) for ended in rater.rate(raw, record_ms)])
    assert compare(case, outcomes) == [], case.title


def test_every_reason_has_a_case() -> None:
    """Each reject reason and each reason to pass over a limit comes in some case."""
    rejected = {
        one["rejected"] for case in CASES for every in case.expected for of in every for one in of
        if "rejected" in one
    }  # fmt: skip
    explained = [of for case in CASES for of in case.explain]
    explained += [step.explain for case in load_step_cases() for step in case.steps]
    assert set(Reason) <= rejected
    assert set(PassOver) <= {reason for of in explained for reason in of.values()}


def test_every_example_has_a_file() -> None:
    """Each worked example has the file of its number, whose title says so."""
    titles = {case.name: case.title for case in CASES} | {case.name: case.title for case in load_step_cases()}
    numbered = {int(name.split("-")[0]): title for name, title in titles.items()}
    assert len(numbered) == len(titles)
    assert {number for number, title in numbered.items() if re.search(rf"\b{number}\)", title)} == EXAMPLES


def test_sums_agree() -> None:
    """Balances are the sums of amounts, and counters those of what draws took, in every case."""
    for case in CASES:
        rater = loaded(case)
        opening = {client: rater.balance(client) for client in rater.states}
        amounts: dict[str, Decimal] = {}
        taken: dict[tuple[str, str], Decimal] = {}
        for raw, record_ms in case.records:
            for kind, _, value in map(got, rater.rate(raw, record_ms)):
                if kind != "transaction":
                    continue
                client = value["client"]
                amounts[client] = amounts.get(client, Decimal(0)) + Decimal(value["amount"]).scaleb(6)
                for draw in value["draws"]:
                    field = counter_field(draw["client_package"], draw["period"], draw["limit"])
                    units = Decimal(draw["taken"]).scaleb(6 if draw["kind"] == "money" else 0)
                    taken[client, field] = taken.get((client, field), Decimal(0)) + units
        for client, before in opening.items():
            assert rater.balance(client) - before == amounts.get(client, 0), (case.name, client)
            used = {(client, field): number for field, number in rater.used(client).items() if number}
            assert used == {key: number for key, number in taken.items() if key[0] == client}, case.name
