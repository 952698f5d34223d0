"""Whatever is made from a seed, through both engines: worlds, records, lanes in turns, lines, buckets, jobs.

    PYTHONPATH=src:tests python -m native.worlds --sides 10000000 --jobs 2

The first difference is told, with 1 as exit code. `native.planted` asks the same of an engine with a fault.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import UTC, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

from native import buckets, cases, dates, driven, interleaved, offline, reading
from native.lives import FAR_MS, questions
from native.shadow import SEEN, Seen, Shadow, same, shadowing
from native.world import BALANCE, BUCKETS, KEEP_MS, World
from oracle.lanes import traced
from rater.core.catalog.compiled import Catalog
from rater.core.clients.state import ClientState, read_state
from rater.core.clients.views import Views
from rater.core.instants import DAY_MS, EPOCH, HOUR_MS
from rater.core.line import batch as batches
from rater.core.line import steps
from rater.core.line.batch import Batch, LanePosition, Side, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import part
from rater.core.number_text import digits_of
from rater.core.periods import Span, after, local_of
from rater.core.zones import Zones, installed
from rater.native import engine, feeding

BATCH = 400
LATER = 4
"""So often packages and clients become others, and are asked anew."""
PIECE = 5
"""Seeds of one task."""
CASE_SIZE, DATES, CALLS = 20, 25, 400


class Lane:
    """A lane without its servers, taken through the steps as `worker.Line` does."""

    def __init__(self, world: World, shadow: Shadow, window_ms: int = 7 * DAY_MS) -> None:
        self.world, self.shadow = world, shadow
        self.clients: dict[str, Any] = {}
        self.accounts: dict[str, str] = {}
        position = LanePosition(lane_ms=world.now_ms)
        self.standing = Standing(2, "commands", window_ms, 8 * DAY_MS, position)
        self.offset = 0

    def rate(self, records: Sequence[bytes]) -> None:
        """Take records through both engines: a batch, or two where the lane's time enters a generation."""
        stamped = [
            SimpleNamespace(
                offset=self.offset + n,
                timestamp=self.stamp(),
                key=None,
                value=raw,
                headers=traced(self.offset + n),
            )
            for n, raw in enumerate(records)
        ]
        self.offset += len(records)
        half = len(stamped) // 2
        polled: list[tuple[str, list[Any]]] = [("t.cdrs", stamped[:half]), ("t.other", stamped[half:])]
        for batch in batches.slices(self.standing, polled, len(stamped)):
            self._rate(batch)

    def _rate(self, batch: Batch) -> None:
        world, standing, catalog = self.world, self.standing, self.world.catalog
        lane_ms = standing.lane_ms
        sides = steps.decode(batch, standing, {}, catalog.service_names)
        self.shadow.decoded(batch, standing, lane_ms, set(), sides, catalog)
        views = Views(self.clients, self.accounts)
        if world.rng.random() < 0.3:
            self.clients.clear()
        while True:
            self._identify(sides, catalog, views)
            now, changes, later = part(sides, catalog, views, standing, KEEP_MS)
            lacking = steps.price(now, catalog, views)
            if not lacking:
                _, lacking = steps.match(now, catalog, views, BUCKETS)
                if not lacking:
                    break
            self._have(lacking, views)
        whole = set(world.rng.sample(sorted(world.states), min(1, len(world.states))))
        self.shadow.matched(batch, standing, sides, catalog, views, BUCKETS, whole, set())
        held = {id(side) for side in later} | {
            id(side)
            for side in now
            for planned in changes
            if side.view is not None and side.view.id == planned.view.id
        }
        self._settle(
            [side for side in now if side.rejection is None and id(side) not in held],
            catalog,
            views,
            whole,
        )
        batch.sides = [side for side in batch.sides if side.rejection is not None or side.result is not None]
        self.shadow.rendered(batch, standing)

    def stamp(self) -> int:
        """Return a record's timestamp, seldom none."""
        rng = self.world.rng
        return rng.choice((-1, 5)) if rng.random() < 0.02 else self.world.now_ms + rng.randrange(2000)

    def _settle(self, sides: list[Side], catalog: Catalog, views: Views, whole: set[str]) -> None:
        """Give every side a result, as it was asked for with all limits of some clients."""
        requests, lacking = steps.match(sides, catalog, views, BUCKETS, whole)
        assert not lacking
        for builder in requests.values():
            request: RequestBuilder = builder
            for side, item in zip(request.sides, request.items, strict=True):
                side.result = self.world.result(item, side)

    def _identify(self, sides: list[Side], catalog: Catalog, views: Views) -> None:
        while lacking := steps.identify(sides, catalog, views):
            self._have(lacking, views)

    def _have(self, lacking: steps.Lacking, views: Views) -> None:
        states, owners = self.world.states, self.world.owners
        views.learn(
            lacking.clients,
            lacking.accounts,
            {client: states[client] for client in lacking.clients if client in states},
            {account: owners[account] for account in lacking.accounts if account in owners},
            dict.fromkeys(lacking.clients & states.keys(), BALANCE),
        )


# ------------------------------------------------------------------ all of a seed
def compare(seed: int, batches_max: int = 3, records: int = BATCH) -> None:
    """Compare the engines over a world; raises Different."""
    with shadowing() as shadow:
        world = World(seed)
        for later in range(LATER + 1):
            if later:
                world.edit()
                world.grow_older()
            for raw in list(world.states.values()):
                _ask(world, shadow, read_state(raw))
        world.edges = world.edges_of()
        lane = Lane(world, shadow)
        for _ in range(batches_max):
            lane.rate([world.record() for _ in range(records)])


def _ask(world: World, shadow: Shadow, client: ClientState) -> None:
    """Compare what is open to a client's calls at its moments, and when something is due before them."""
    now_ms = world.now_ms
    for calls in questions(client, world.catalog, world.rng, now_ms):
        world.now_ms = now_ms + FAR_MS  # all of them are over
        Lane(world, shadow, window_ms=3 * FAR_MS).rate(calls)
    world.now_ms = now_ms


def _dates(seed: int) -> None:
    for one in range(seed * DATES, (seed + 1) * DATES):
        dates.compare(one)


def _read(seed: int) -> None:
    rng = Random(f"reading {seed}")  # noqa: S311 - the same again
    reading.Readers().compare([reading.record(rng) for _ in range(BATCH)])


def _numbers(seed: int) -> None:
    rng, cache = Random(seed), feeding.new_cache()  # noqa: S311 - the same again
    for _ in range(1000):
        text = "".join(rng.choice("++00(()) - 12344935") for _ in range(rng.randrange(14)))
        same("digits", digits_of(text), cache.digits_of(text), text)


def _zone(seed: int) -> None:
    """Compare each hour of two years in a zone, and months from days on."""
    names = sorted(installed().rules)
    rng = Random(f"zone {seed}")  # noqa: S311 - the same again
    name = rng.choice(names if rng.random() < 0.5 else ZONES)
    zone, native = Zones([installed()]).latest(name), engine.Zone(installed().rules[name])
    # By transitions, and by the rule behind the last one.
    for year in (rng.randrange(1970, 2026), rng.randrange(2026, 2100)):
        for hour in range(24 * 366):
            at_ms = (year - 1970) * 31_556_952_000 // HOUR_MS * HOUR_MS + hour * HOUR_MS
            local = (local_of(at_ms, zone).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
            same("local time", local, native.local_of(at_ms), name, at_ms)
            asked = (EPOCH + timedelta(milliseconds=at_ms)).replace(tzinfo=zone, fold=0)
            instant = (asked.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
            same("instant", instant, native.instant_of(at_ms), name, at_ms)
    for _ in range(200):
        at_ms, days = rng.randrange(4_000_000_000_000), rng.randrange(1, 60)
        then = after(at_ms, Span(days, "day"), zone)
        assert then is not None
        same("span", after(then, Span(1, "month"), zone), native.later(at_ms, days, 1), name, at_ms)


ZONES = (
    "Europe/Kyiv",
    "America/New_York",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "America/Santiago",
    "Asia/Kolkata",
)
KINDS: tuple[tuple[str, Callable[[int], object], int], ...] = (
    ("reading", _read, 1),
    ("bucket", lambda seed: buckets.compare(seed, calls=CALLS), 1),
    ("numbers", _numbers, 1),
    ("interleaved", interleaved.compare, 1),
    ("dates", _dates, 1),
    ("world", compare, 1),
    ("zone", _zone, 5),
    ("offline", lambda seed: offline.compare(seed, size=CASE_SIZE), 1),
    ("case", lambda seed: cases.compare(seed, size=CASE_SIZE), 5),
    ("driven", lambda seed: driven.compare(seed, size=CASE_SIZE), 5),
)
"""What is made from a seed, and from which: all, or each fifth one."""


def work(given: tuple[int, int]) -> tuple[Seen, str]:
    """Compare what is made from seeds; returns what was seen, and the first difference."""
    first, count = given
    before, problem = Seen(**vars(SEEN)), ""
    for seed, (name, kind, each) in itertools.product(range(first, first + count), KINDS):
        if seed % each:
            continue
        try:
            kind(seed)
        except (Exception, engine.Panic) as error:  # noqa: BLE001 - whatever it is, one of the engines does not do it
            problem = f"{name} {seed}: {type(error).__name__}: {error}"
            break
    return Seen(**{name: number - getattr(before, name) for name, number in vars(SEEN).items()}), problem


def main() -> int:
    """Compare so many sides, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    total, begun, seed = Seen(), time.monotonic(), given.seed
    with ProcessPoolExecutor(given.jobs) as pool:
        running: set[Future[tuple[Seen, str]]] = set()
        while total.sides < given.sides or running:
            while total.sides < given.sides and len(running) < given.jobs:
                running.add(pool.submit(work, (seed, PIECE)))
                seed += PIECE
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for seen, problem in (future.result() for future in done):
                total = Seen(**{name: number + getattr(seen, name) for name, number in vars(total).items()})
                if problem:
                    pool.shutdown(wait=False, cancel_futures=True)
                    sys.stdout.write(f"{problem}\n{total}\n1 difference\n")
                    return 1
            sys.stderr.write(f"{total.sides:,} sides\r")
    sys.stdout.write(f"{total}, {time.monotonic() - begun:.0f} s\n0 differences\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
