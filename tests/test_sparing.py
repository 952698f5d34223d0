"""The collector that looks seldom: what comes and goes in cycles does not pile up."""

from __future__ import annotations

import json
import subprocess
import sys

ROUNDS = 40
CYCLES = 2_000
"""Of each round: as lanes are, in use when the collector looks at the youngest, and dropped later."""
ROUNDS_LEFT_MAX = 12
PROGRAM = f"""
import json
from rater.app import spare_collector

class Client:
    alive = 0
    def __init__(self):
        self.own = self
        Client.alive += 1
    def __del__(self):
        Client.alive -= 1

spare_collector()
most = 0
for _ in range({ROUNDS}):
    lanes = [Client() for _ in range({CYCLES})]
    batch = [[] for _ in range(110_000)]  # so the youngest are looked at
    del batch, lanes
    most = max(most, Client.alive)
print(json.dumps(most))
"""


def test_what_comes_and_goes_does_not_pile_up() -> None:
    """Of forty rounds not more than some are left at any time."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: S603
    assert CYCLES <= json.loads(done.stdout) <= ROUNDS_LEFT_MAX * CYCLES
