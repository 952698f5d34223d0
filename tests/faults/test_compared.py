"""What compares a backlog is silent where all is right, and notices each kind of damage."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

from faults import compared
from faults.auditor import Rec
from faults.backlog import GROUPS, Backlog
from faults.compared import Published, Report, Run
from oracle.reference import Reference, money_text

NOW_MS = 1_795_910_400_000
"""2026-11-29T00:00:00Z: clocks of Europe and America went back within the span."""
CDRS = 1600
Place = tuple[int, int, int]
Damage = Callable[[Run, Published], None]


@pytest.fixture(scope="module")
def rated() -> tuple[Run, list[Rec], Published]:
    """Return a backlog's records of the first group, rated by the reference, and what it published."""
    backlog = Backlog(5, 24, NOW_MS)
    rater = Reference(100)
    run = Run("", "", backlog.catalog, NOW_MS, 100, {})
    compared.loaded(run, 0, rater)
    records: list[Rec] = []
    published = Published({}, {})
    for group, raw in backlog.records(CDRS):
        if group != 0:
            continue
        records.append(Rec("cdrs", 0, len(records), NOW_MS, raw, {}))
        for side in rater.rate(raw, NOW_MS):
            index = compared.SIDES.index(side["side"]) if side["side"] else -1
            if side["outcome"] == "transaction":
                published.transactions[0, len(records) - 1, index] = side["value"]
            elif side["outcome"] == "rejected":
                published.rejected[0, len(records) - 1, index] = side["reason"], side["value"] or ""
    for client in compared.clients_of(run, 0):
        run.stored[client] = {"v": 1, "b": rater.balances[client]}
    for (client, name), number in rater.counters.items():
        run.stored[client][name] = number
    return run, records, published


def found(rated: tuple[Run, list[Rec], Published], damage: Damage | None, *, keyed: bool) -> Report:
    """Return what is found after damage; unkeyed: with the records in another order."""
    run, records, published = copy.deepcopy(rated)
    if damage is not None:
        damage(run, published)
    if keyed:
        return compared.compare_lane(run, 0, records, published, Report())
    random.Random(1).shuffle(records)  # noqa: S311 - the same again
    return compared.compare_group(run, 0, records, published, Report())


def first(published: Published, kind: str = "", **more: Any) -> tuple[Place, dict[str, Any]]:
    """Return the first transaction that drew from a limit of this kind (none: any that cost something)."""
    for place, value in published.transactions.items():
        kinds = [draw["kind"] for draw in value["draws"]]
        fits = kind in kinds if kind else value["amount"] != "0"
        if fits and all(value.get(name) == wanted for name, wanted in more.items()):
            return place, value
    pytest.fail(f"no transaction with {kind} {more}")


@pytest.mark.parametrize("keyed", [True, False])
def test_what_is_right_is_silent(rated: tuple[Run, list[Rec], Published], *, keyed: bool) -> None:
    """Nothing is found in what the reference itself published, in any order; each outcome is there."""
    report = found(rated, None, keyed=keyed)
    assert report.found == []
    assert report.counts["records"] > CDRS / GROUPS / 2
    assert min(report.counts[name] for name in ("transaction", "rejected", "duplicate", "draws")) > 3


def lost(_: Run, published: Published) -> None:
    """Take a transaction out."""
    del published.transactions[first(published)[0]]


def twice(_: Run, published: Published) -> None:
    """Rate a repeat again, as another record."""
    (lane, offset, index), value = first(published)
    published.transactions[lane, offset + 100_000, index] = value


def dearer(run: Run, published: Published) -> None:
    """Charge a micro more, in Redis too."""
    value = first(published)[1]
    run.stored[value["client"]]["b"] -= 1
    value["amount"] = money_text(compared.micros(value["amount"]) - 1)


def more_taken(run: Run, published: Published) -> None:
    """Take a unit more from a volume limit, and charge for one less."""
    value = first(published, "volume")[1]
    draw = next(draw for draw in value["draws"] if draw["kind"] == "volume")
    draw["taken"] = str(int(draw["taken"]) + 1)
    value["overage"] -= 1
    stored(run, value, draw, 1)


def not_drawn(run: Run, published: Published) -> None:
    """Charge a call that a limit with enough left covers."""
    value = first(published, "volume", overage=0)[1]
    for draw in value["draws"]:
        stored(run, value, draw, -compared.units(draw))
    value.update(draws=[], overage=value["billed"])


def another_period(run: Run, published: Published) -> None:
    """Draw from the period before."""
    value = next(
        value for value in published.transactions.values() if any(d["period"] > 1 for d in value["draws"])
    )
    draw = next(draw for draw in value["draws"] if draw["period"] > 1)
    stored(run, value, draw, -compared.units(draw))
    draw["period"] -= 1
    stored(run, value, draw, compared.units(draw))


def another_rate(_: Run, published: Published) -> None:
    """Show another price than that of the code found."""
    first(published)[1]["rate"]["price"] = "0.99"


def covered_less(_: Run, published: Published) -> None:
    """Let a money limit cover a micro less than it took."""
    value = first(published, "money")[1]
    draw = next(draw for draw in value["draws"] if draw["kind"] == "money")
    draw["covered"] = money_text(compared.micros(draw["covered"]) - 1)


def rejected_otherwise(_: Run, published: Published) -> None:
    """Give another reason."""
    place = next(iter(published.rejected))
    published.rejected[place] = "too_old", published.rejected[place][1]


def rejected_and_rated(_: Run, published: Published) -> None:
    """Reject what was rated."""
    published.rejected[first(published)[0]] = "rate_missing", ""


def counter_drifts(run: Run, _: Published) -> None:
    """Let a counter of Redis be one more."""
    client = next(iter(client for client, stored in run.stored.items() if len(stored) > 2))
    name = next(name for name in run.stored[client] if name not in {"b", "v"})
    run.stored[client][name] += 1


def stored(run: Run, value: dict[str, Any], draw: dict[str, Any], number: int) -> None:
    """Add to the counter that a draw is of."""
    parts = (draw["client_package"], str(draw["period"]), draw["limit"])
    name = ".".join(part.replace("%", "%25").replace(".", "%2E") for part in parts)
    of_client = run.stored[value["client"]]
    of_client[name] = of_client.get(name, 0) + number


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lost, "was rated 0 times"), (twice, "of no side"), (dearer, "-0."), (more_taken, "is overdrawn"),
        (not_drawn, "had more"), (another_period, "which cannot apply"), (another_rate, "'price': '0.99'"),
        (covered_less, "covered"), (rejected_otherwise, "too_old"), (rejected_and_rated, "rate_missing"),
        (counter_drifts, "Redis"),
    ],
)  # fmt: skip
def test_damage_is_noticed(
    rated: tuple[Run, list[Rec], Published], damage: Damage, words: str, *, keyed: bool
) -> None:
    """Each damage is found, also where the order of draws is open; there it is told as what it is."""
    problems = found(rated, damage, keyed=keyed).found
    assert problems
    assert keyed or any(words in problem for problem in problems), problems
