"""CPU of the pure steps of the line, without Kafka and Redis: what is instructions, and what is memory.

    python benchmarks/line.py [CLIENTS]
    python benchmarks/line.py [CLIENTS] --against PATH [--rounds N]

Each figure is µs of a CDR side, the draw's reply made up. `new`: calls of clients that mostly have not called
before (its first line: when nobody has). `known`: the same calls again. `small`: 250 of them again and again,
so that all stays in the processor's nearest cache: the instructions alone. `packages`: clients that hold 50
packages each, a fiftieth of so many clients, whose calls were made before. `renewals`: µs of a renewal of the
one package of a client; `tenfold`: of a client, all of whose ten packages are renewed at once.

With --against another working tree is measured in turn with this one, each by its own benchmarks/line.py and
its own src, in N rounds (5): medians of both and their ratio, which two runs on a busy machine do not give.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from world import World

from rater.app import spare_collector
from rater.core.bucket.messages import DrawReply, DrawRequest, DrawResult, Outcome, Status
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import read_state
from rater.core.clients.views import Views
from rater.core.commands.records import TICK_CLIENTS_MAX
from rater.core.instants import DAY_MS
from rater.core.line import batch as batch_module
from rater.core.line import steps
from rater.core.line.batch import LanePosition, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import part
from rater.store.keys import Keys
from rater.store.packing import pack_draw

BUCKETS = 4
CDRS = 50_000
BATCH = 4000
SMALL = 250
CLIENTS = 100_000
PACKAGES = 50
RENEWED = 20_000
ROUNDS = 5
BALANCE = 1_000_000_000
"""Micros of each client."""
KEYS = Keys("rater", 0, BUCKETS)


class Inside:
    """A lane without its servers: registers in a dict, replies that give every call its first candidate."""

    def __init__(self, content: Content, states: dict[str, bytes], now_ms: int) -> None:
        self.content = content
        self.catalog = catalog = compile_catalog(content, 1)
        self.states = states
        self.services = catalog.service_names
        self.views = Views({}, {})
        self.standing = Standing(0, "commands", 7 * DAY_MS, 8 * DAY_MS, LanePosition(lane_ms=now_ms))
        self.spent: Counter[str] = Counter()
        self.sides = 0
        self._at = 0.0

    def rate(self, records: Sequence[Any]) -> None:
        """Take records through the steps, as `worker.Line.process` does."""
        self.sides += self._steps(records)
        self._spent("free")  # of all that the steps made

    def _steps(self, records: Sequence[Any]) -> int:
        (batch,) = batch_module.slices(self.standing, [("cdrs", list(records))], len(records))
        self._at = time.thread_time()
        sides = steps.decode(batch, self.standing, {}, self.services)
        self._spent("decode")
        self._identify(sides)
        self._spent("identify")
        assert not part(sides, self.catalog, self.views, self.standing, 0).changes  # nothing is due
        steps.price(sides, self.catalog, self.views)
        self._spent("price")
        calls, _ = steps.match(sides, self.catalog, self.views, BUCKETS)
        self._spent("match")
        for call in calls.values():
            request = call.request(self.standing, 1, 1, 0, 0)
            self.pack(request)
            self._spent("pack")
            reply = _reply(request)
            self._at = time.thread_time()
            steps.settle(batch, call, reply)
        steps.render(batch, self.standing)
        self._spent("render")
        return len(batch.sides)

    def pack(self, request: DrawRequest) -> None:
        """Make what is sent to Redis."""
        pack_draw(request, KEYS)

    def _identify(self, sides: list[batch_module.Side]) -> None:
        self.views = Views(self.views.clients, self.views.accounts)
        while True:
            lacking = steps.identify(sides, self.catalog, self.views)
            if not lacking:
                return
            for clients, _ in lacking.by_bucket(BUCKETS).values():
                states = {client: self.states[client] for client in clients}
                self.views.learn(clients, set(), states, {}, dict.fromkeys(clients, BALANCE))

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
        return f"{name:8} {sum(each.values()):6.1f} = {stages}"

    def renew(self, clients: Sequence[str], due_ms: int) -> None:
        """Do what is due of clients, as `worker.commands` does a tick."""
        tick = SimpleNamespace(offset=0, timestamp=due_ms, key=None, value=b"", headers=())
        batch = batch_module.Batch(self.standing, [("commands", [tick])])
        self._at = time.thread_time()
        waiting, known, cause = list(clients), Known(BALANCE), Cause("due/0/1/1/1")
        while waiting:
            states = [read_state(self.states[client]) for client in waiting]
            self._spent("look up")
            request, changes = RequestBuilder(), list[Change]()
            for place, state in enumerate(states):
                change = due_change(
                    state, self.catalog, upto_ms=due_ms, now_ms=due_ms, known=known, cause=cause,
                    closing=True, keep_ms=1,
                )  # fmt: skip
                if change is not None:
                    changes.append(change)
                    request.change(change, "commands", tick, batch.step_index("commands", 0, 2 + place))
            self._spent("plan")
            if request.changes:
                pack_draw(request.request(self.standing, 1, 1, 0, 0), KEYS)
                self._spent("pack")
            steps.settle(batch, request, DrawReply(Status.OK, 2, [], [], []))
            self.states |= {change.write.client: change.write.state for change in changes}
            waiting = [change.write.client for change in changes if change.due_by(due_ms)]
            self.sides += len(changes)
        steps.render(batch, self.standing)
        self._spent("render")


def _reply(request: DrawRequest) -> DrawReply:
    results = [
        DrawResult(Outcome.RATED, 0, None, ((0, item.billed, 1000, 5),))
        if item.candidates and item.billed
        else DrawResult(Outcome.RATED, -12_345, None, ())
        for item in request.items
    ]
    return DrawReply(Status.OK, 2, results, [], [])


def _loaded(entry: ClientEntry, catalog: Catalog, at_ms: int) -> bytes:
    """Return the state of a new client, with what is due of it done."""
    change = load_change(None, entry, catalog, at_ms=at_ms, cause=Cause("load"))
    assert change is not None
    return change.write.state


def prepared(world: World, cdrs: int) -> tuple[Inside, list[Any]]:
    """Return a lane with the world's catalog and clients, and records of so many calls."""
    now_ms = int(time.time() * 1000)
    file = read_files([("catalog.json", world.catalog())], lambda _: b"")
    merged = merge(None, file, now_ms, Existing({}, {}))
    assert isinstance(merged, Merged), merged
    catalog = compile_catalog(merged.content, 1)
    states = {entry.id: _loaded(entry, catalog, now_ms) for entry in merged.entries}
    records = [
        SimpleNamespace(offset=n, timestamp=now_ms, key=None, value=raw, headers=())
        for n, raw in enumerate(world.calls(cdrs, "line"))
    ]
    return Inside(merged.content, states, now_ms), records


def measure(clients: int) -> None:
    """Measure this tree, and print a line for each workload."""
    lane, records = prepared(World(clients=clients), 2 * CDRS)
    spare_collector()
    for half in (records[:CDRS], records[CDRS:]):
        rate_all(lane, half)
        print(lane.told("new"))
    rate_all(lane, records[CDRS:])
    print(lane.told("known"))
    for _ in range(CDRS // SMALL):
        lane.rate(records[:SMALL])
    print(lane.told("small"))
    del lane, records
    lane, records = prepared(World(clients=max(1, clients // PACKAGES), packages=PACKAGES), CDRS)
    spare_collector()
    rate_all(lane, records)
    lane.told("")  # measured when they come again, as the known ones are
    rate_all(lane, records)
    print(lane.told("packages"))
    now_s = int(time.time())
    for name, packages in (("renewals", 1), ("tenfold", 10)):
        count = RENEWED // packages
        lane, _ = prepared(World(clients=count, packages=packages, codes=100, renewal_s=now_s + 60), 0)
        spare_collector()
        for at in range(0, count, TICK_CLIENTS_MAX):
            lane.renew(list(map(str, range(at, at + TICK_CLIENTS_MAX))), (now_s + 60) * 1000)
        print(lane.told(name))


def rate_all(lane: Inside, records: list[Any]) -> None:
    """Take records through the steps, a batch at a time."""
    for at in range(0, len(records), BATCH):
        lane.rate(records[at : at + BATCH])


def run_of(tree: Path, clients: int) -> dict[str, float]:
    """Measure a working tree in a process of its own; returns workload → µs of a side, the last of each."""
    script = tree / "benchmarks" / "line.py"
    found = subprocess.run(  # noqa: S603 - the tree that was named
        [sys.executable, str(script), str(clients)],
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name: float(us) for name, us in re.findall(r"^(\w+) +([\d.]+) = ", found.stdout, re.MULTILINE)}


def compare(other: Path, clients: int, rounds: int) -> None:
    """Measure another tree and this one in turn, and print both medians of each workload, and the ratio."""
    trees = {"other": other, "this": Path(__file__).resolve().parents[1]}
    found: dict[str, defaultdict[str, list[float]]] = {name: defaultdict(list) for name in trees}
    for number in range(rounds):
        for name, tree in trees.items():
            for workload, us in run_of(tree, clients).items():
                found[name][workload].append(us)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(f"µs of a side, medians of {rounds} rounds; other: {other}")
    for workload, these in found["this"].items():
        if workload not in found["other"]:
            print(f"{workload:8} the other tree's line.py does not know it")
            continue
        before, now = median(found["other"][workload]), median(these)
        ratio = median(a / b for a, b in zip(these, found["other"][workload], strict=True))
        print(f"{workload:8} other {before:6.1f}  this {now:6.1f}  ratio {ratio:.3f}")


def main() -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clients", nargs="?", type=int, default=CLIENTS)
    parser.add_argument("--against", type=Path, help="another working tree")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    if given.against is None:
        measure(given.clients)
    else:
        compare(given.against.resolve(), given.clients, given.rounds)


if __name__ == "__main__":
    main()
