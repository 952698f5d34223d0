"""Jobs among the actors: calls are rated again while they flow, and all dies; and each safeguard off."""

from __future__ import annotations

import os

import pytest

from simulation.rerates import Rerates
from simulation.test_seeds import engine_of, parted
from simulation.world import Failure

pytestmark = pytest.mark.usefixtures("simulated")

SEEDS = int(os.environ.get("RATER_RERATE_SEEDS", "24"))


@parted(SEEDS, 4)
def test_rerates(seeds: range) -> None:
    """RATER_RERATE_SEEDS=N runs so many, RATER_SEED=N that one."""
    for seed in seeds:
        scenario = Rerates(seed)
        scenario.world.engine = engine_of(seed)
        try:
            scenario.run()
        except Failure as failure:
            faults = "\n".join(failure.faults)
            pytest.fail(f"seed {seed}: {faults}\n\n{failure.story}\n\n{faults}", pytrace=False)
