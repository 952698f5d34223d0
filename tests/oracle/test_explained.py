"""What `rater explain` says of transactions agrees with what the line published, as of then.

The line is the worker's own (lanes.py); its journal is read as a whole, behind the last call: catalogs were
loaded meanwhile, clients renewed, volume rolled over.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from random import Random
from typing import Any, cast

import msgspec
import pytest

from golden.explained import agrees
from native.world import richer
from oracle import lanes
from oracle.lanes import System
from oracle.scenario import LoadStep, RecordStep, Scenario, make
from rater.core.amounts import parse_micros
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.cdr import Arrival, Cdr, EveryService
from rater.core.cdr_decoding import decode
from rater.core.explaining.arithmetic import arithmetic
from rater.core.explaining.before import Before, Place
from rater.core.explaining.past import GONE, NOT_EXACT, usage
from rater.core.explaining.telling import in_words
from rater.core.journal.records import ChangeRecord, Effect
from rater.core.offline import Rater

CALLS = int(os.environ.get("EXPLAINED_CALLS", "600"))
"""Sides of calls that are explained; `make test-explain` takes 10,000."""


FEES = 10
"""So many subscription fees at least, and roll-over."""


class Stamped(list[Any]):
    """A lane of the journal that knows when each record came, as the broker does."""

    def __init__(self, clock: Iterator[int]) -> None:
        super().__init__()
        self.clock, self.times = clock, list[int]()

    def append(self, one: Any) -> None:
        """Take a record."""
        self.times.append(next(self.clock))
        super().append(one)


Journal = list[tuple[int, int, Effect | ChangeRecord]]


def published(scenario: Scenario, lanes_count: int) -> System:
    """Return the line behind a scenario, cut at random."""
    rng, found = Random(scenario.seed), list[System]()  # noqa: S311 - the same again

    async def work() -> None:
        system = System(scenario, lanes=lanes_count, witness=False)
        found.append(system)
        clock = count()
        system.broker.journal = [Stamped(clock) for _ in range(lanes_count)]
        await system.open()
        for number, step in enumerate(scenario.steps):
            if isinstance(step, LoadStep):
                await _all(system, rng)
                system.load(step)
                await _all(system, rng)
            else:
                system.send(step, number, step.lane_hint % lanes_count)
        await _all(system, rng)

    lanes.run(work)
    return found[0]


async def _all(system: System, rng: Random) -> None:
    while any([await system.step(lane, rng.choice((1, 3, 20, 100))) for lane in range(system.lanes)]):
        pass


def accepted(scenario: Scenario) -> bool:
    """Return whether its loads, made richer, are right: a made rule may stand twice."""
    rater, seed = Rater(), scenario.seed
    files = [
        (json.dumps(richer(step.file, seed, step.at_ms)).encode(), step.at_ms)
        for step in scenario.steps
        if isinstance(step, LoadStep)
    ]
    return not any(rater.load([("c.json", file)], at_ms) for file, at_ms in files)


def rich(seed: int, size: int) -> Scenario:
    """Return a scenario; of an odd seed its loads have fees, taxes and roll-over beside."""
    made = make(seed, size=size)
    if not seed % 2 or not accepted(made):
        return made
    steps = [
        LoadStep(step.at_ms, richer(step.file, seed, step.at_ms)) if isinstance(step, LoadStep) else step
        for step in made.steps
    ]
    return Scenario(seed, tuple(steps), made.window_days)


def transactions(system: System) -> Iterator[tuple[Place, dict[str, Any], Journal]]:
    """Yield each transaction with its place, and its client's journal."""
    own: dict[bytes | None, Journal] = defaultdict(list)
    for lane, journal in enumerate(system.broker.journal):
        for offset, (key, _, said) in enumerate(journal):
            if isinstance(said, Effect | ChangeRecord):
                own[key].append((lane, offset, said))
    for lane, journal in enumerate(system.broker.journal):
        for offset, (key, value, said) in enumerate(journal):
            if value is not None and isinstance(said, Effect):
                yield Place(lane, offset, said), msgspec.json.decode(value), own[key]


def explained(system: System, place: Place, one: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """Return what is told of a side of a call, by its record, the journal and the catalog of then."""
    before, times = Before(place), [of.times for of in cast("list[Stamped]", system.broker.journal)]
    own = times[place.lane][place.offset]
    for lane, offset, said in journal:
        if lane == place.lane or times[lane][offset] < own:
            before.add(lane, offset, said)
    step = system.scenario.steps[place.effect.offset]
    assert isinstance(step, RecordStep)
    cdr = decode(step.raw, Arrival(0, 0, EveryService()))
    assert isinstance(cdr, Cdr)
    party = cdr.orig if one["side"] == "orig" else cdr.term
    return usage(one, before, catalog_of(system, one["catalog"]), party, None)


@cache
def catalog_of(system: System, version: int) -> Catalog:
    """Return a version of the catalog."""
    return compile_catalog(system.contents[version], version)


@pytest.mark.parametrize("lanes_count", [1, 2])
def test_explanations_agree_with_what_was_published(lanes_count: int, figure: Callable[[str], None]) -> None:
    """Draws, amount, client and account of each side; the arithmetic of each fee, too.

    By one lane all is exact; by two it is said where it may not be.
    """
    counts, seed = Counter[str](), 1000 * lanes_count
    while counts["sides"] < CALLS // 2 or counts["subscription_fee"] < FEES or not counts["rolled"]:
        seed += 1
        system = published(rich(seed, 60), lanes_count)
        for place, one, journal in transactions(system):
            counts[one["type"]] += 1
            if one["type"] != "usage":
                worked = arithmetic(one, catalog_of(system, one["catalog"]).services)
                assert worked.micros == parse_micros(one["amount"]), (seed, worked.lines, one)
                continue
            row = explained(system, place, one, journal)
            counts["sides"] += 1
            counts["rolled"] += any(draw.get("rolled") for draw in one["draws"])
            counts["drawn"] += bool(one["draws"])
            if row["notes"] == [NOT_EXACT]:
                counts["not exact"] += 1
                row["notes"] = []
            assert GONE not in row["notes"]
            assert agrees(row, one) == [], (seed, place, one, [*in_words(row)])
            for limit in row["candidates"]:
                told = limit["taken"] is not None, limit["passed_over"] is not None
                assert sum(told) == 1 or counts["not exact"]
    assert counts["drawn"] > counts["sides"] // 20
    assert counts["not exact"] <= (counts["sides"] // 20 if lanes_count > 1 else 0)
    figure(f"explained, {lanes_count} lanes: {dict(counts)}")
