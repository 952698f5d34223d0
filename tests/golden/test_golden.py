"""The golden cases through the core: decode, identify, match, draw (the twin), rate."""

from __future__ import annotations

import msgspec
import pytest

from golden.cases import LOADED_AT, Case, Got, compare, load_cases
from rater.core.offline import Duplicate, Ended, Rater
from rater.core.periods import to_ms
from rater.core.reasons import PassOver, Reason, Rejection

CASES = load_cases()


def got(ended: Ended) -> Got:
    """Return an outcome of the core as `compare` takes it."""
    if isinstance(ended, Rejection):
        return "rejected", ended.side, {"reason": ended.reason.value, "value": ended.value}
    if isinstance(ended, Duplicate):
        return "duplicate", ended.side, None
    return "transaction", ended.side, msgspec.json.decode(ended.value)


def loaded(case: Case) -> Rater:
    """Return a rater with the case's catalog."""
    rater = Rater()
    faults = rater.load([(f"{case.name}.yaml", case.catalog)], to_ms(LOADED_AT))
    assert not faults
    return rater


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """What the file expects of each record comes out, and limits are passed over for the reasons it gives."""
    rater = loaded(case)
    outcomes = []
    for (raw, record_ms), passed in zip(case.records, case.explain, strict=True):
        if passed:
            (explained,) = rater.explain(raw, record_ms)
            reasons = {f"{one.package_name}/{one.limit_id}": one.reason.value for one in explained.passed}
            assert passed.items() <= reasons.items(), (case.title, raw, reasons)
        outcomes.append([got(ended) for ended in rater.rate(raw, record_ms)])
    assert compare(case, outcomes) == [], case.title


def test_every_reason_has_a_case() -> None:
    """Each reject reason and each reason to pass over a limit comes in some case (fees come later)."""
    rejected = {
        one["rejected"] for case in CASES for every in case.expected for of in every for one in of
        if "rejected" in one
    }  # fmt: skip
    passed = {reason for case in CASES for of in case.explain for reason in of.values()}
    assert set(Reason) <= rejected
    assert set(PassOver) - {PassOver.FEE_NOT_COVERED} <= passed


def test_sums_agree() -> None:
    """Balances and counters are the sums of amounts and of what draws took, in every case."""
    for case in CASES:
        rater = loaded(case)
        opening = {client: rater.balance(client) for client in rater.registers}
        amounts: dict[str, int] = {}
        for raw, record_ms in case.records:
            for kind, _, value in map(got, rater.rate(raw, record_ms)):
                if kind == "transaction":
                    micros = round(float(value["amount"]) * 10**6)
                    amounts[value["client"]] = amounts.get(value["client"], 0) + micros
        for client, before in opening.items():
            assert rater.balance(client) - before == amounts.get(client, 0), (case.name, client)
