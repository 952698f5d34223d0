"""`rater rate` and the line agree: the same transactions and rejections, record by record.

The line is the worker's own on buckets in memory (lanes.py), cut at random; files are those of the oracle's
scenarios, with native/world.py's fees, taxes, roll-over and currencies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import dropwhile
from random import Random
from typing import Any

import pytest
from engine_choice import rates_offline
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from native.world import richer
from oracle import lanes
from oracle.lanes import System, read_of
from oracle.scenario import DAY_MS, LoadStep, RecordStep, Scenario, make, second
from rater.core.offline import FOREVER_MS, Duplicate, Rater, Transaction
from rater.core.sources.cutting import Record as Piece
from rater.core.trial.arrival import Arrived, arrivals, first_call_ms, together
from rater.core.trial.trial import Trial, begin_ms

EXAMPLES = int(os.environ.get("OFFLINE_EXAMPLES", "40"))
PARTS = max(1, EXAMPLES // 1000)
"""Of the examples, so that several processes share them (make test-explain): each has seeds of its own."""
SEEDS = 10**6
WINDOW_DAYS = 366
"""The longest that a worker takes; `rater rate` has none, so what lies further back is left out."""

NOW_MS = 1_793_491_200_000

Outcome = tuple[str | None, str, Any]
"""(side, transaction, rejected or duplicate; the transaction, or reason and value)."""


def offline(rater: Rater, file: dict[str, Any], calls: list[Arrived]) -> tuple[Trial, list[list[Outcome]]]:
    """Return the trial of a catalog on calls, and what becomes of each side of each record."""
    trial = Trial(rater)
    assume(not trial.load(read_of(json.dumps(file)), first_call_ms(calls, 0)))  # a made rule may be doubled
    return trial, [sorted(map(_outcome, one.ended), key=str) for one in trial.rate(calls)]


def _outcome(ended: Any) -> Outcome:
    if isinstance(ended, Transaction):
        return ended.side, "transaction", json.loads(ended.value)
    if isinstance(ended, Duplicate):
        return ended.side, "duplicate", None
    return ended.side, "rejected", (ended.reason.value, ended.value)


def online(scenario: Scenario, seed: int) -> tuple[System, list[list[Outcome]]]:
    """Return the line, and the same of it; cut at random."""
    rng, found = Random(seed), list[System]()  # noqa: S311 - the same again

    async def work() -> None:
        system = System(scenario, witness=False)
        found.append(system)
        await system.open()
        first, *records = scenario.steps
        assert isinstance(first, LoadStep)
        system.load(first)
        while await system.step(0, 0):
            pass
        for number, step in enumerate(records, 1):
            assert isinstance(step, RecordStep)
            system.send(step, number, 0)
        while await system.step(0, rng.choice((1, 2, 7, 100))):
            pass

    lanes.run(work)
    (system,) = found
    return system, [
        sorted(map(_published, system.ended[number]), key=str) for number in range(1, len(scenario.steps))
    ]


def _published(ended: Any) -> Outcome:
    value = (ended.reason, ended.value) if ended.outcome == "rejected" else ended.value
    return ended.side, ended.outcome, value


def pieces(scenario: Scenario, share: int) -> Iterator[Piece]:
    """Yield every second record of a scenario, as a file has them."""
    records = [step for step in scenario.steps if isinstance(step, RecordStep)]
    for line, step in enumerate(records[share::2], 1):
        yield Piece(line, step.raw)


@pytest.mark.parametrize("part", range(PARTS))
@settings(
    max_examples=EXAMPLES // PARTS, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
@example(number=123, rich=True)  # sums that a change rests on are others, and sides come before it
@given(number=st.integers(0, SEEDS - 1), rich=st.booleans())
def test_offline_and_line_agree(part: int, number: int, rich: bool) -> None:  # noqa: FBT001 - by name
    """Two files of calls end alike offline and on a line that reads what comes together of them."""
    seed = part * SEEDS + number
    scenario = make(seed)
    load = scenario.steps[0]
    assert isinstance(load, LoadStep)
    file = richer(load.file, seed, load.at_ms) if rich else load.file
    found = together([arrivals(pieces(scenario, of), f"{of}.jsonl", None, NOW_MS) for of in range(2)])
    timed = dropwhile(lambda one: one.at_ms is None, found)  # before the first call nothing tells a time
    calls = [one for one in timed if one.behind_ms < (WINDOW_DAYS - 1) * DAY_MS]
    tried = [offline(rater, file, calls) for rater in rates_offline(FOREVER_MS)]
    first_ms = first_call_ms(calls, 0) // 1000 * 1000
    at_ms = begin_ms(read_of(json.dumps(file)), first_ms)
    begun = {**file, "client_packages": [_begun(row, first_ms) for row in file.get("client_packages", [])]}
    steps = [RecordStep(one.record.timestamp, one.record.value or b"", 0) for one in calls]
    system, published = online(
        Scenario(seed, (LoadStep(at_ms, begun), *steps), window_days=WINDOW_DAYS), seed
    )
    for trial, ended in tried:
        assert ended == published
        assert trial.counters() == system.final().counters


def _begun(row: dict[str, Any], first_ms: int) -> dict[str, Any]:
    """Return a client package that has a start date: that of the first call where its row has none."""
    return row if row.get("start_date") else {**row, "start_date": second(first_ms)}
