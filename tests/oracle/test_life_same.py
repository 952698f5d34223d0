"""The product lives as the oracle of packages says: pairs of options, random scenarios, and faults found."""

from __future__ import annotations

import pytest

from oracle.life_compare import compared, difference, scenario_of, smallest, told
from oracle.life_pairs import pairs

SEEDS = 120
FOUND = (309, 407, 414, 635, 641, 725, 843, 854, 1015, 1048)
"""Random scenarios further on that showed a fault."""


NAMES = [
    *(("pairs", number) for number in range(len(pairs()))),
    *(("random", seed) for seed in (*range(SEEDS), *FOUND)),
]
PARTS = 4


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_the_product_lives_as_the_oracle(part: int) -> None:
    """Transactions, events, refusals, balances, draws and ends are the same in all scenarios."""
    results = map(compared, NAMES[part::PARTS])
    assert {name: problem for name, _, problem in results if problem is not None} == {}


def test_a_difference_is_seen_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle that asks for no funds differs, and a scenario is cut down to what shows it."""
    monkeypatch.setattr("oracle.life.deny", lambda _package: False)
    scenarios = [scenario_of(("random", seed)) for seed in range(20)]
    scenario = next(one for one in scenarios if difference(one.steps) is not None)
    fewer, problem = smallest(scenario, lambda: False)
    assert len(fewer) < len(scenario.steps) / 2
    assert difference(fewer) == (len(fewer) - 1, problem)
    assert len(told(fewer)) == len(fewer)
