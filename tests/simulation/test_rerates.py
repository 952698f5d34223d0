"""Jobs among the actors: calls are rated again while they flow, and all dies; and each safeguard off."""

from __future__ import annotations

import os
from dataclasses import replace as replaced
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.clients.planning import Plan
from rater.core.commands import rerates
from rater.core.commands.records import RerateSwapArgs
from rater.jobs.rerate_reading import Reading
from simulation.rerates import RERATES, Contested, Rerates
from simulation.scenario import Profile
from simulation.test_ablations import check
from simulation.test_seeds import engine_of, parted
from simulation.world import Failure

pytestmark = pytest.mark.usefixtures("simulated")

SEEDS = int(os.environ.get("RATER_RERATE_SEEDS", "12"))


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


def profile(name: str, **more: Any) -> Profile:
    """Return a profile of jobs, with these faults only."""
    return replaced(RERATES, name=name, **{"faults": (0, 0), **more})


def test_version_of_the_client() -> None:
    """Without it a piece is taken that was worked out before another: calls are taken back twice."""
    swap = rerates._swap  # noqa: SLF001 - the safeguard is in it

    def without(plan: Plan, args: RerateSwapArgs, at_ms: int) -> dict[str, Any]:
        return swap(plan, replace(args, version=plan.state.version), at_ms)

    check(mock.patch.object(rerates, "_swap", without), profile("rerates together"), "I3 R4", Rerates, 20)


class _Whatever(int):
    """As many as one likes."""

    def __eq__(self, _: object) -> bool:
        return True

    def __add__(self, _: int) -> _Whatever:
        return self

    __hash__ = int.__hash__


def test_pieces_that_the_journal_has() -> None:
    """Without counting them, a job goes by a journal that was read before another one wrote to it."""
    off = mock.patch.object(Reading, "pieces", return_value=_Whatever())
    check(off, profile("rerates together"), "I3 R4", Rerates, 4)


def test_intervals() -> None:
    """Without them a piece is taken though live calls have drawn what it rests on: limits are overdrawn."""
    off = mock.patch("rater.core.rerating.client._interval", return_value=(-LIMIT, LIMIT))
    check(off, profile("rerates beside calls", lanes=(1,)), "I6", Contested)


def test_two_processes_of_one_job() -> None:
    """The lock lets both in, so each asks whether the other has had a piece published since it read."""
    Rerates(246).run()
    # The second has read the client when the first had begun, and comes when that has had a piece published.
    Rerates(154, profile("rerates together")).run()
