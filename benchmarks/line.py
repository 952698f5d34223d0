"""CPU of the pure steps of the line, without Kafka and Redis: what is instructions, and what is memory.

    python benchmarks/line.py [CLIENTS]

Each figure is µs of a CDR side, the draw's reply made up. `new`: calls of clients that mostly have not called
before. `known`: the same calls again. `small`: 250 of them again and again, so that all stays in the
processor's nearest cache: the instructions alone.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from world import World

from rater.app import spare_collector
from rater.core.bucket.messages import DrawReply, DrawRequest, DrawResult, Outcome, Status
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.changes import apply_entry
from rater.core.clients.state import write_state
from rater.core.clients.views import Views
from rater.core.line import batch as batch_module
from rater.core.line import steps as steps_module
from rater.core.line.batch import Standing
from rater.core.line.steps import Found
from rater.store.keys import Keys
from rater.store.packing import pack_draw

BUCKETS = 4
CDRS = 50_000
BATCH = 4000
SMALL = 250
DAY_MS = 86_400_000
KEYS = Keys("rater", 0, BUCKETS)


class Inside:
    """A lane without its servers: registers in a dict, replies that give every call its first candidate."""

    def __init__(self, catalog: Catalog, registers: dict[str, bytes], now_ms: int) -> None:
        self.catalog = catalog
        self.registers = registers
        self.services = catalog.service_names
        self.views = Views({}, {})
        self.standing = Standing(0, "commands", 7 * DAY_MS, 8 * DAY_MS, {}, {}, now_ms, {})
        self.spent: Counter[str] = Counter()
        self.sides = 0
        self._at = 0.0

    def rate(self, records: Sequence[Any]) -> None:
        """Take records through the steps, as `worker.Line.rate` does."""
        self.sides += self._steps(records)
        self._spent("free")  # of all that the steps made

    def _steps(self, records: Sequence[Any]) -> int:
        (batch,) = batch_module.slices(self.standing, [("cdrs", list(records))], len(records))
        self._at = time.thread_time()
        sides = steps_module.decode(batch, self.standing, {}, self.services)
        self._spent("decode")
        found = self._identify(sides)
        self._spent("identify")
        calls, _ = steps_module.match(found, self.catalog, self.views, BUCKETS)
        self._spent("match")
        for call in calls.values():
            request = call.request(self.standing, 1, 1, 0, 0)
            pack_draw(request, KEYS)
            self._spent("pack")
            reply = _reply(request)
            self._at = time.thread_time()
            steps_module.settle(batch, call, reply)
        steps_module.render(batch, self.standing)
        self._spent("render")
        return len(batch.sides)

    def _identify(self, sides: list[batch_module.Side]) -> Found:
        self.views = Views(self.views.clients, self.views.accounts)
        while True:
            found, lacking = steps_module.identify(sides, self.catalog, self.views)
            if not lacking:
                return found
            for clients, _ in lacking.by_bucket(BUCKETS).values():
                self.views.learn(clients, set(), {client: self.registers[client] for client in clients}, {})

    def _spent(self, stage: str) -> None:
        now = time.thread_time()
        self.spent[stage] += int((now - self._at) * 1e9)
        self._at = now

    def told(self, name: str) -> str:
        """Return the figures since the last time, in µs of a side."""
        each = {stage: ns / self.sides / 1000 for stage, ns in self.spent.items()}
        self.spent.clear()
        self.sides = 0
        stages = "  ".join(f"{stage} {us:.1f}" for stage, us in each.items())
        return f"{name:6} {sum(each.values()):6.1f} = {stages}"


def _reply(request: DrawRequest) -> DrawReply:
    results = [
        DrawResult(Outcome.RATED, 0, None, ((0, item.billed, 1000, 5),))
        if item.candidates and item.billed
        else DrawResult(Outcome.RATED, -12_345, None, ())
        for item in request.items
    ]
    return DrawReply(Status.OK, 2, results, [], [])


def main() -> None:
    """Measure it."""
    world = World(clients=int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    now_ms = int(time.time() * 1000)
    file = read_files([("catalog.json", world.catalog())], lambda _: b"")
    merged = merge(None, file, now_ms, Existing({}, {}))
    assert isinstance(merged, Merged), merged
    catalog = compile_catalog(merged.content, 1)
    registers = {entry.id: write_state(apply_entry(None, entry, catalog, now_ms)) for entry in merged.entries}
    records = [
        SimpleNamespace(offset=n, timestamp=now_ms, key=None, value=raw, headers=())
        for n, raw in enumerate(world.calls(2 * CDRS, "line"))
    ]
    del file, merged
    spare_collector()
    lane = Inside(catalog, registers, now_ms)
    for first in (0, CDRS):
        for at in range(first, first + CDRS, BATCH):
            lane.rate(records[at : min(at + BATCH, first + CDRS)])
        print(lane.told("new"))
    for at in range(CDRS, 2 * CDRS, BATCH):
        lane.rate(records[at : min(at + BATCH, 2 * CDRS)])
    print(lane.told("known"))
    for _ in range(CDRS // SMALL):
        lane.rate(records[:SMALL])
    print(lane.told("small"))


if __name__ == "__main__":
    main()
