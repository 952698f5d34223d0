"""CPU of the native engine over batches, without Kafka and Redis: what is instructions, and what is memory.

    python benchmarks/natively.py [CLIENTS] [--rounds N]

Each figure is µs of a CDR, by the engine that is installed for this tree: `new`: calls of clients that mostly
have not called before; `known`: other calls after these; `small`: 250 of them again and again, so that all
stays in the processor's nearest cache. The draw's reply is made up, and read by the engine as the store's is.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from world import World

from line import BATCH, BUCKETS, CDRS, CLIENTS, SMALL, Inside, prepared
from rater.app import spare_collector
from rater.core.bucket.messages import DrawResult, Outcome, pack_results
from rater.core.instants import DAY_MS
from rater.native.engine import Batch, kafka_records
from rater.native.feeding import load, new_cache

KAFKA_BATCH_BYTES = 2**20


class Natively:
    """A lane without its servers, by the native engine."""

    def __init__(self, inside: Inside) -> None:
        """Begin with an empty cache."""
        self.states = inside.states
        self.catalog = load(inside.content, 1)
        self.cache = new_cache()
        self.lane_ms = inside.standing.position.lane_ms
        self.spent: Counter[str] = Counter()
        self.cdrs = 0

    def rate(self, records: Sequence[Any]) -> None:
        """Take records through the engine, as `worker.Ahead` does."""
        values = [record.value for record in records]
        offsets = [record.offset for record in records]
        stamps = [record.timestamp for record in records]
        self._rate(values, offsets, stamps)
        self.cdrs += len(records)

    def _rate(self, values: list[bytes], offsets: list[int], stamps: list[int]) -> None:
        with self._stage("decode"):
            batch = Batch(self.cache, 0, self.lane_ms, 7 * DAY_MS)
            batch.decode(self.catalog, "cdrs", values, offsets, stamps)
        while True:
            with self._stage("identify"):
                clients, accounts, _ = batch.identify(self.catalog)
            if not clients:
                break
            states = {client: self.states[client] for client in clients}
            with self._stage("learn"):
                batch.learn(clients, accounts, states, {})
        with self._stage("match"):
            assert not any(batch.prepare(self.catalog, BUCKETS, ()))
        with self._stage("request"):
            requests = batch.requests()
        packed: Any = None
        for number, _ in requests:
            with self._stage("pack"):
                packed = batch.packed(number, 1, 1, 0)
            reply = _reply(len(packed[2]) // 20)
            with self._stage("settle"):
                batch.settle(number, reply)
        with self._stage("render"):
            rendered = batch.render(written=True)
        with self._stage("write"):
            kafka_records([rendered["run"]], KAFKA_BATCH_BYTES)
        with self._stage("free"):
            del batch, rendered, requests, packed

    @contextmanager
    def _stage(self, name: str) -> Any:
        began = time.thread_time_ns()
        yield
        self.spent[name] += time.thread_time_ns() - began

    def told(self, name: str) -> str:
        """Return the figures since the last time, in µs of a CDR."""
        each = {stage: ns / self.cdrs / 1000 for stage, ns in self.spent.items()}
        self.spent.clear()
        self.cdrs = 0
        return f"{name:8} {sum(each.values()):6.2f} = " + "  ".join(f"{s} {us:.2f}" for s, us in each.items())


def _reply(items: int) -> bytes:
    return pack_results([], [DrawResult(Outcome.RATED, -12_345, None, ())] * items)


def measure(clients: int) -> None:
    """Measure, and print a line for each workload."""
    inside, records = prepared(World(clients=clients), 3 * CDRS)
    lane = Natively(inside)
    spare_collector()
    for name, part in (("new", records[:CDRS]), ("known", records[CDRS:])):
        for at in range(0, len(part), BATCH):
            lane.rate(part[at : at + BATCH])
        print(lane.told(name), flush=True)
    for _ in range(CDRS // SMALL):
        lane.rate(records[:SMALL])
    print(lane.told("small"))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clients", nargs="?", type=int, default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    for _ in range(asked.rounds):
        measure(asked.clients)


if __name__ == "__main__":
    main()
