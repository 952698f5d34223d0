"""What compares a backlog is silent where all is right, and notices each kind of damage."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from faults import compared
from faults.auditor import CONTROL, EFFECT, Rec
from faults.backlog import GROUPS, Backlog
from faults.compared import Lost, Published, Report, Run
from oracle.reference import Reference, Row, money_text

NOW_MS = 1_795_910_400_000
"""2026-11-29T00:00:00Z: clocks of Europe and America went back within the span."""
CDRS = 1600
Place = tuple[int, int, int]
Damage = Callable[[Run, Published], None]


@pytest.fixture(scope="module")
def backlog() -> tuple[Row, list[Rec]]:
    """Return a backlog's catalog, and its records of the first group."""
    backlog = Backlog(5, 24, NOW_MS)
    of_group = [raw for group, raw in backlog.records(CDRS) if group == 0]
    return backlog.catalog, [Rec("cdrs", 0, at, NOW_MS, raw, {}) for at, raw in enumerate(of_group)]


@pytest.fixture(scope="module")
def rated(backlog: tuple[Row, list[Rec]]) -> tuple[Run, list[Rec], Published]:
    """Return a backlog's records of the first group, rated by the reference, and what it published."""
    catalog, records = backlog
    run, published = Run("", "", catalog, NOW_MS, 100, {}), none()
    rater = rater_of(run)
    for record in records:
        publish(rater, record, published)
    run.stored.update(stored_by(rater, run))
    return run, records, published


def none() -> Published:
    """Return that nothing was published."""
    return Published({}, {}, {})


def rater_of(run: Run) -> Reference:
    """Return the reference with the catalog."""
    rater = Reference(run.window_days)
    compared.loaded(run, 0, rater)
    return rater


def publish(rater: Reference, record: Rec, published: Published, span: int = 0) -> None:
    """Rate a record, and publish what comes of it."""
    for side in rater.rate(record.value, record.at_ms):
        index = compared.SIDES.index(side["side"]) if side["side"] else -1
        place = 0, record.offset, index
        if side["outcome"] == "transaction":
            published.transactions[place], published.spans[place] = side["value"], span
        elif side["outcome"] == "rejected":
            published.rejected[place] = side["reason"], side["value"] or ""


def stored_by(rater: Reference, run: Run) -> dict[str, dict[str, int]]:
    """Return what Redis holds after that."""
    out = {client: {"v": 1, "b": rater.balances[client]} for client in compared.clients_of(run, 0)}
    for (client, name), number in rater.counters.items():
        out[client][name] = number
    return out


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


# --- Redis was emptied

SPANS = (0, 1)
"""Before and after it."""


def emptied(backlog: tuple[Row, list[Rec]], seed: int) -> tuple[Run, list[Rec], Published]:
    """Return what the reference publishes in some order of lanes, when Redis is emptied half way.

    Of the records up to then some are decided and not published; they are decided anew, in another order.
    """
    catalog, records = backlog
    rng = random.Random(seed)  # noqa: S311 - the same again
    order = rng.sample(records, len(records))
    half = len(order) // 2
    run, published, lost = Run("", "", catalog, NOW_MS, 100, {}), none(), []
    before, after = rater_of(run), rater_of(run)
    for record in order[:half]:
        if rng.random() < 0.3:
            publish(before, record, none())
            lost.append(record)
            continue
        counters, balances, known = dict(before.counters), dict(before.balances), set(before._rated)  # noqa: SLF001
        publish(before, record, published)
        add_difference(after.counters, counters, before.counters)
        add_difference(after.balances, balances, before.balances)
        after._rated.update({name: before._rated[name] for name in before._rated.keys() - known})  # noqa: SLF001
    run = replace(run, lost=(Lost(stored_by(before, run), {0: 0}),))
    rest = lost + order[half:]
    for record in rng.sample(rest, len(rest)):
        publish(after, record, published, 1)
    run.stored.update(stored_by(after, run))
    return run, records, published


def add_difference(to: dict[Any, int], old: dict[Any, int], new: dict[Any, int]) -> None:
    """Add what has been added to other numbers."""
    for name, number in new.items():
        to[name] = to.get(name, 0) + number - old.get(name, 0)


def test_what_redis_lost_was_used_up(backlog: tuple[Row, list[Rec]]) -> None:
    """The reference itself leaves in a limit what a published call met as used up; that is no finding."""
    met = []
    for seed in (1, 3, 6, 12):
        run, records, published = emptied(backlog, seed)
        assert found((run, records, published), None, keyed=False).found == []
        never = replace(run, lost=()), records, published._replace(spans={})
        met += found(never, None, keyed=False).found
    assert any("had more" in problem for problem in met)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("damage", [dearer, more_taken, not_drawn])
def test_damage_is_noticed_though_redis_was_emptied(
    backlog: tuple[Row, list[Rec]], damage: Damage, span: int
) -> None:
    """Each is found at its place, before Redis was emptied and after it."""
    run, records, published = emptied(backlog, 6)
    of_span = {place: one for place, one in published.transactions.items() if published.spans[place] == span}
    was = copy.deepcopy((of_span, run.stored))
    damage(run, published._replace(transactions=of_span))
    (place,) = [place for place, one in of_span.items() if one != was[0][place]]
    if span == 0:
        for client, held in run.stored.items():
            add_difference(run.lost[0].stored[client], was[1][client], held)
    report = found((run, records, published), None, keyed=False)
    assert any(problem.startswith(f"{place} ") for problem in report.found), report.found


def test_who_decided_before_redis_was_emptied() -> None:
    """A token that a bucket knew decides nothing afterwards; where it knew none, the one before counts."""
    lost = tuple(Lost({}, {0: token}) for token in (5, -1, 9))
    run, report, journal = Run("", "t.", {}, NOW_MS, 100, {}, lost), Report(), []
    for token in (0, 5, 9, 12):
        owner = {CONTROL: msgspec.msgpack.encode(("owner", "worker", "group"))}
        effect = {EFFECT: msgspec.msgpack.encode(("t.cdrs", 0, 100 + token, 1))}
        journal.append(Rec("t.transactions", 0, token, NOW_MS, None, owner))
        journal.append(Rec("t.transactions", 0, token + 1, NOW_MS, b"{}", effect))
    spans = compared.published_of(run, 0, journal, [], report).spans
    assert spans == {(0, 100, 1): 0, (0, 105, 1): 0, (0, 109, 1): 2, (0, 112, 1): 3}
    assert report.found == []
