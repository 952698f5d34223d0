"""What holds of the oracle of packages in every scenario, and that scenarios hold what they are made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from oracle.life import World
from oracle.life_fees import micros_of
from oracle.life_pairs import (
    CommandStep,
    LifeScenario,
    Step,
    may,
    of_options,
    pairs,
    pairs_of,
    values,
)
from oracle.life_random import random_scenario
from oracle.scenario import LoadStep

ROWS = pairs()
SEEDS = range(60)


def scenarios() -> list[LifeScenario]:
    """Return all pairs and some random ones."""
    return [*(of_options(row, seed) for seed, row in enumerate(ROWS)), *map(random_scenario, SEEDS)]


def run(steps: Iterable[Step]) -> tuple[World, list[dict[str, Any]], Counter[str]]:
    """Return the world after the steps, all its transactions in order, and how often what came."""
    world, published, told = World(4000), [], Counter[str]()
    for step in steps:
        if isinstance(step, LoadStep):
            world.load(step.file, step.at_ms)
        elif isinstance(step, CommandStep):
            world.command(step.row, step.record_ms)
            if step.row.get("dry_run"):
                continue
        else:
            sides = world.rate(step.raw, step.record_ms)
            published += [side["value"] for side in sides if side["outcome"] == "transaction"]
            told.update(side["outcome"] for side in sides)
        published += world.result.transactions
        told.update(event.type for event in world.result.events)
        told.update("refused" for _ in range(world.result.refused is not None))
    return world, published, told


def test_every_pair_comes() -> None:
    """Each two values that may stand together are in a row."""
    found = {pair for row in ROWS for pair in pairs_of(row)}
    wanted = {
        (one, other) for one in values() for other in values() if one[0] != other[0] and may(one, other)
    }
    assert {pair for pair in wanted if pair not in found and pair[::-1] not in found} == set()


def test_sums() -> None:
    """Balances are sums of transactions; what is removed adds up to 0; no id and type comes twice."""
    seen: Counter[str] = Counter()
    for scenario in scenarios():
        world, published, told = run(scenario.steps)
        seen += told
        balances: Counter[str] = Counter()
        for one in published:
            balances[one["client"]] += micros_of(one) if one.get("amount") else 0
        assert {client: balances[client] for client in world.balances} == world.balances
        ids = [(one["id"], one["type"]) for one in published]
        assert len(set(ids)) == len(ids)
        for client, owner in world.owners.items():
            for identifier in owner.removed:
                rows = [one for one in published if one.get("client_package") == identifier]
                assert sum(micros_of(one) for one in rows if one["client"] == client) == 0
    assert {"renewed_late", "charge_cleared", "removed", "rerate_needed", "refused", "archived"} <= set(seen)


@pytest.mark.parametrize("row", [row for row in ROWS if row["funds"] == "plenty"], ids=str)
def test_lateness_changes_nothing(row: dict[str, str]) -> None:
    """Where funds suffice, ticks at every step and one at the end publish the same fees."""
    scenario = of_options({**row, "tick": "eager"}, 1)
    ticks = [step for step in scenario.steps if isinstance(step, CommandStep) and step.row["do"] == "tick"]
    fewer = [step for step in scenario.steps if step not in ticks]
    last = CommandStep(scenario.steps[-1].record_ms, ticks[-1].row)  # type: ignore[union-attr]  # a record
    often, seldom = run([*scenario.steps, last]), run([*fewer, last])
    assert sorted(map(str, often[1])) == sorted(map(str, seldom[1]))
