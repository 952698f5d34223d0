"""Records rated in memory, by the twin one by one and natively in batches: what comes of each is the same.

Loads, commands and ticks stand between the batches. Compared are transactions, rejected sides and duplicates
of each record, transactions and events of changes, balances and counters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from random import Random

from native.shadow import SEEN, same
from oracle.life_pairs import Step
from oracle.life_random import random_scenario
from oracle.scenario import LoadStep, RecordStep, make
from rater.core.instants import DAY_MS
from rater.core.offline import Rater, Record
from rater.jobs.native_rating import NativeRater

WINDOWS_MS = (7 * DAY_MS, 7 * DAY_MS, DAY_MS, 400 * DAY_MS)


class Both:
    """A rater of each kind."""

    def __init__(self, window_ms: int, rng: Random) -> None:
        self.rng = rng
        self.reference, self.native = Rater(window_ms), NativeRater(window_ms)
        self.waiting: list[Record] = []

    def step(self, step: Step, number: int) -> None:
        """Take a step; records wait until there is something else, or the batch is cut."""
        if isinstance(step, RecordStep):
            self.waiting.append(Record(step.raw, step.record_ms, number))
            if self.rng.random() < 0.03:
                self.rate()
            return
        self.rate()
        if isinstance(step, LoadStep):
            files = [("catalog.json", json.dumps(step.file).encode())]
            same("faults", self.reference.load(files, step.at_ms), self.native.load(files, step.at_ms))
        else:
            for rater in (self.reference, self.native):
                rater.command(json.dumps(step.row).encode(), step.record_ms)
        self.changes()

    def rate(self) -> None:
        """Rate what waits."""
        records, self.waiting = self.waiting, []
        ended = [rater.rate_all(records) for rater in (self.reference, self.native)]
        for record, *found in zip(records, *ended, strict=True):
            same("record", *found, record)
            SEEN.sides += len(found[0])
        self.changes()

    def changes(self) -> None:
        """Compare what changes published; of one record, that of either client may be first."""
        expected, found = self.reference.take(), self.native.take()
        for what, one, other in zip(("transactions", "events"), expected, found, strict=True):
            same(what, by_client(one), by_client(other))
        SEEN.transactions += len(expected[0])
        SEEN.events += len(expected[1])

    def held(self) -> None:
        """Compare what is held of each client."""
        same("clients", sorted(self.reference.bucket.clients), self.native.held.clients())
        for client in self.reference.states:
            same("balance", self.reference.balance(client), self.native.balance(client), client)
            same("counters", *[some(rater.used(client)) for rater in (self.reference, self.native)], client)
        same("lane_ms", self.reference.standing.lane_ms, self.native.standing.lane_ms)


def by_client(values: list[bytes]) -> dict[str, list[bytes]]:
    """Return the values of each client, in their order."""
    found = defaultdict[str, list[bytes]](list)
    for value in values:
        found[json.loads(value)["client"]].append(value)
    return found


def some(used: dict[str, int]) -> dict[str, int]:
    """Return the counters that something was drawn from."""
    return {field: value for field, value in used.items() if value}


def compare(seed: int, size: int | None = None) -> None:
    """Compare over a scenario of calls, or (of each other seed) of lives; raises Different."""
    rng = Random(f"offline {seed}")  # noqa: S311 - the same again
    steps: Sequence[Step] = random_scenario(seed, size).steps if seed % 2 else make(seed, size=size).steps
    both = Both(rng.choice(WINDOWS_MS), rng)
    for number, step in enumerate(steps):
        both.step(step, number)
    both.rate()
    both.held()
