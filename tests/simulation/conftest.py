"""What the simulation's tests share: the in-memory ports in place of the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.world import in_place


@pytest.fixture
def simulated() -> Iterator[None]:
    """The clock, the ids and the ports of the simulation, where rater looks for the real ones."""
    with in_place():
        yield
