"""Runs out of seeds: the real worker, loader and audit under whatever goes wrong, then all is checked.

RATER_SEEDS=N runs so many seeds, RATER_SEED=N that one alone, and prints its story when it fails. Of three
seeds the workers of one rate by Python, of one natively, of one by both in turns;
RATER_SIMULATED_ENGINE=native says it of all.
"""

from __future__ import annotations

import os

import pytest
from engine_choice import is_native_here

from rater.core.line import steps
from rater.errors import Halt
from simulation.life import Life
from simulation.loads import Backlog, Loads
from simulation.scenario import Scenario
from simulation.world import Failure

pytestmark = pytest.mark.usefixtures("simulated")

SEEDS = int(os.environ.get("RATER_SEEDS", "160"))
ENGINE = os.environ.get("RATER_SIMULATED_ENGINE")
"""native, python or both, for all seeds."""
ONE = os.environ.get("RATER_SEED")
PARTS = 12
"""The seeds are run in so many tests, which several processes may share (pytest -n)."""


def run(seed: int, kind: type[Scenario] = Scenario) -> str:
    """Run a seed; returns its story."""
    scenario = kind(seed)
    scenario.world.engine = engine_of(seed)
    try:
        scenario.run()
    except Failure as failure:
        test = {Scenario: "seeds", Loads: "loads", Backlog: "backlogs", Life: "life"}[kind]
        again = f"RATER_SEED={seed} .venv/bin/pytest tests/simulation/test_seeds.py::test_{test}"
        faults = "\n".join(failure.faults)
        pytest.fail(f"seed {seed}: {faults}\nagain: {again}\n\n{failure.story}\n\n{faults}", pytrace=False)
    return scenario.world.told()


def engine_of(seed: int) -> str:
    """Return what workers of a seed rate by: a third by Python, a third by both in turns."""
    return ENGINE or (("python", "native", "both")[seed % 3] if is_native_here() else "python")


LIFE_OF, LOADS_OF, BACKLOGS_OF = 8, 8, 25
"""So many seeds make one of these, which take longer."""


def parted(seeds: int, parts: int = PARTS) -> pytest.MarkDecorator:
    """Return a decorator: the seeds that a test runs, in parts."""
    ranges = [range(part, seeds, parts) for part in range(min(seeds, parts))]
    if ONE is not None:
        ranges = [range(int(ONE), int(ONE) + 1)]
    return pytest.mark.parametrize("seeds", ranges, ids=lambda seeds: f"from-{seeds.start}")


@parted(SEEDS)
def test_seeds(seeds: range) -> None:
    """Whatever goes wrong: once all heals, each side has one outcome, and sums and limits hold."""
    for seed in seeds:
        run(seed)


@parted(SEEDS // LOADS_OF + 1)
def test_loads(seeds: range) -> None:
    """Calls over loads, with draws that are late: each outcome is that of some order of loads and calls.

    No lane rates with a client's state and a catalog that is older; what is sent after a load was answered is
    rated by it, whoever rates it.
    """
    for seed in seeds:
        run(seed, Loads)


@parted(SEEDS // BACKLOGS_OF + 1)
def test_backlogs(seeds: range) -> None:
    """Hundreds of records in a batch, of many days, accounts and limits: each is rated as if alone."""
    for seed in seeds:
        run(seed, Backlog)


@parted(SEEDS // LIFE_OF + 1)
def test_life(seeds: range) -> None:
    """Packages with fees and short periods, little money, commands: each fee, period and event is there once.

    Calls before, across and after due moments draw from what is open then. In runs of one lane all of it is
    what the oracle of packages says.
    """
    for seed in seeds:
        run(seed, Life)


@pytest.mark.parametrize("seed", [3, 14])
def test_a_seed_repeats(seed: int) -> None:
    """A seed tells the same story each time, step by step: else a failure could not be looked into."""
    assert run(seed) == run(seed)


@pytest.mark.parametrize("kind", [Loads, Backlog, Life])
def test_loads_repeat(kind: type[Scenario]) -> None:
    """The same is true of runs with loads, of backlogs, and of packages that live."""
    assert run(2, kind) == run(2, kind)


def test_a_failure_tells_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that goes wrong says how to run it again, and what happened, in order."""

    def broken(*_: object) -> object:
        raise Halt("broken for the test")

    monkeypatch.setattr(steps, "render", broken)
    with pytest.raises(pytest.fail.Exception) as caught:
        run(5)
    said = str(caught.value)
    assert "RATER_SEED=5" in said
    assert "ended with Halt: broken for the test" in said
    assert said.index("starts") < said.index("broken for the test", said.index("starts"))
