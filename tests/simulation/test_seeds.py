"""Runs out of seeds: the real worker, loader and audit under whatever goes wrong, then all is checked.

RATER_SEEDS=N runs so many seeds, RATER_SEED=N that one alone, and prints its story when it fails.
"""

from __future__ import annotations

import os

import pytest

from rater.errors import Halt
from simulation.scenario import Scenario
from simulation.world import Failure

pytestmark = pytest.mark.usefixtures("simulated")

SEEDS = int(os.environ.get("RATER_SEEDS", "400"))
ONE = os.environ.get("RATER_SEED")
PARTS = 12
"""The seeds are run in so many tests, which several processes may share (pytest -n)."""


def run(seed: int) -> str:
    """Run a seed; returns its story."""
    scenario = Scenario(seed)
    try:
        scenario.run()
    except Failure as failure:
        again = f"RATER_SEED={seed} .venv/bin/pytest tests/simulation/test_seeds.py"
        faults = "\n".join(failure.faults)
        pytest.fail(f"seed {seed}: {faults}\nagain: {again}\n\n{failure.story}\n\n{faults}", pytrace=False)
    return scenario.world.told()


PARTED = (
    [range(part, SEEDS, PARTS) for part in range(PARTS)] if ONE is None else [range(int(ONE), int(ONE) + 1)]
)


@pytest.mark.parametrize("seeds", PARTED, ids=lambda seeds: f"from-{seeds.start}")
def test_seeds(seeds: range) -> None:
    """Whatever goes wrong: once all heals, each side has one outcome, and sums and limits hold."""
    for seed in seeds:
        run(seed)


@pytest.mark.parametrize("seed", [3, 14])
def test_a_seed_repeats(seed: int) -> None:
    """A seed tells the same story each time, step by step: else a failure could not be looked into."""
    assert run(seed) == run(seed)


def test_a_failure_tells_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that goes wrong says how to run it again, and what happened, in order."""

    def broken(*_: object) -> object:
        raise Halt("broken for the test")

    monkeypatch.setattr("rater.worker.batching.render", broken)
    with pytest.raises(pytest.fail.Exception) as caught:
        run(5)
    said = str(caught.value)
    assert "RATER_SEED=5" in said
    assert "ended with Halt: broken for the test" in said
    assert said.index("starts") < said.index("broken for the test", said.index("starts"))
