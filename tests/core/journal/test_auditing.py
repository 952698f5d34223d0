"""What the audit finds in changes of clients: sums that their transactions do not make, and counters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Stored
from rater.core.journal.records import ChangeRecord, Effect

SHARES = (12, -5)


def change(delta: int, counters: list[tuple[str, int]] | None = None, version: int = 7) -> ChangeRecord:
    """Return a change of client c by record 3."""
    return ChangeRecord("commands", 3, 2, 0, 0, "c", version, b"", delta, counters or [])


def share(micros: int, **other: Any) -> tuple[bytes, Effect]:
    """Return a transaction of record 3, or of another, and its header."""
    given: dict[str, Any] = {
        "topic": "commands", "partition": 0, "offset": 3, "index": 2, "record_ms": 0, "lane_ms": 0,
        "key": b"", "content": b"", "client": "c", "balance": micros, "counters": [], **other,
    }  # fmt: skip
    said = {"id": f"adjust/c/{micros}", "revision": 1, "type": "adjustment", "client": "c", "amount": "0"}
    return json.dumps(said | {"amount": f"{micros / 10**6:.6f}"}).encode(), Effect(**given)


@pytest.mark.parametrize(
    ("delta", "found"),
    [
        (7, []),
        (8, ["the change of client c to version 7 added 8 micros, its transactions leave 1 of it open"]),
    ],
)
def test_transactions_of_a_change_add_up_to_it(delta: int, found: list[str]) -> None:
    """What a change did to a balance is what its transactions move, which the next record ends."""
    ledger = Ledger()
    ledger.control(0, 10, change(delta, [("1.1.a", 4), ("1.1.a", -1)]))
    for at, micros in enumerate(SHARES, 11):
        ledger.add(0, at, *share(micros))
    assert not ledger.findings
    ledger.control(0, 13, None)
    assert [(one.kind, one.problem) for one in ledger.findings] == [("change", problem) for problem in found]
    assert ledger.compare("c", Stored(sum(SHARES), {"1.1.a": 3})) == []


def test_a_change_that_was_made_again_stands_for_its_versions() -> None:
    """Redis had lost them, and later ones rest on them; so none is lacking, and none came twice."""
    ledger = Ledger()
    for version, instead in ((3, []), (5, []), (7, [4, 6])):
        one = change(0, version=version)
        one.instead = instead
        ledger.control(0, 10, one)
    assert ledger.compare("c", None) == []


def test_a_transaction_of_another_record_is_no_share() -> None:
    """It ends the change before it, and moves money by itself; another partition's does neither."""
    ledger = Ledger()
    ledger.control(0, 10, change(12))
    ledger.add(1, 4, *share(5, offset=9))
    assert not ledger.findings
    ledger.add(0, 11, *share(12, offset=4))
    assert [one.where for one in ledger.findings] == ["rater.transactions[0]@10"]
    assert ledger.books["c"].balance == 17


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ([3, 5, 4], ""), ([], ""), ([9], ""),
        ([3, 6, 4], "of its changes to versions 3 to 6, 1 is lacking"),
        ([2, 6], "of its changes to versions 2 to 6, 3 are lacking"),
        ([3, 4, 4], "of its changes to versions 3 to 4, 1 came twice"),
    ],
)  # fmt: skip
def test_each_version_of_a_client_is_one_change(versions: list[int], told: str) -> None:
    """Lanes are read one after the other, so in any order; what is lacking later ones rest on."""
    ledger = Ledger()
    for lane, version in enumerate(versions):
        ledger.control(lane, 10, change(0, version=version))
    assert set(ledger.clients()) == ({"c"} if versions else set())
    problems = [one.problem for one in ledger.compare("c", None)]
    assert len(problems) == bool(told)
    assert all(problem.startswith(told) for problem in problems)


def test_draws_of_a_change_are_counted_once() -> None:
    """A re-rate's change has what its transactions draw, too; their headers say which share that is."""
    draw = {"client_package": "1", "period": 1, "limit": "m", "kind": "volume"}
    usage = {"revision": 1, "type": "usage", "client": "c", "id": "s/1/orig", "amount": "0"}
    ledger = Ledger()
    ledger.watched = {"c"}

    def add(offset: int, said: dict[str, Any], taken: int, counters: list[tuple[str, int]]) -> None:
        _, effect = share(0, counters=counters)
        said = {**usage, **said, "draws": [{**draw, "taken": str(taken)}]}
        ledger.add(0, offset, json.dumps(said).encode(), effect)

    add(1, {}, 60, [("1.1.m", 60)])
    ledger.control(0, 2, change(0, [("1.1.m", -20)]))
    add(3, {"type": "reversal", "reverses": 1}, -60, [("1.1.m", -60)])
    add(4, {"revision": 2}, 40, [("1.1.m", 40)])
    ledger.control(0, 5, None)
    assert ledger.findings == []
    assert ledger.compare("c", Stored(0, {"1.1.m": 40})) == []
    assert [one.kind for one in ledger.compare("c", Stored(0, {"1.1.m": 60}))] == ["counter"]
    assert sum(units for step in ledger.steps["c"] for _, units in step.counters) == 40
    add(6, {"revision": 3}, 40, [("1.1.m", 30)])
    assert [one.kind for one in ledger.findings] == ["header"]
