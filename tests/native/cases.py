"""The oracle's cases with both engines: loads in the middle, any cut, stale views, crashes, lanes in turns.

PYTHONPATH=src:tests python -m native.cases --cases 200
"""

from __future__ import annotations

import argparse
import sys
from random import Random

from native.shadow import SEEN, Different, shadowing
from oracle import lanes, variants
from oracle.scenario import make

NAMES = ("cut-1", "cut-7", "cut-all", "stale", "stale-all", "evict", "crash-stale", "lanes-between-2")
"""Of the oracle's variants those that are different to an engine."""


def compare(seed: int, names: tuple[str, ...] = NAMES, size: int | None = None) -> None:
    """Compare the engines over a scenario under each variant; raises Different."""
    scenario = make(seed, size=size)
    with lanes.standing_in(), shadowing():
        for name in names:
            rng = Random(f"{name} {seed}")  # noqa: S311 - the same again
            variants._Run(scenario, variants.VARIANTS[name], rng).result()  # noqa: SLF001 - what it draws is not compared


def main() -> int:
    """Compare so many cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for seed in range(given.seed, given.seed + given.cases):
        try:
            compare(seed)
        except Different as error:
            sys.stdout.write(f"seed {seed}: {error}\n1 difference\n")
            return 1
    sys.stdout.write(f"{SEEN}\n0 differences\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
