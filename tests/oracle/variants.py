"""One scenario under many circumstances that must change nothing.

The base is one batch for each record with every memo emptied before it; it equals the reference, which is
written apart and knows how packages live, in every field. Then each variant equals the base in every byte
that is published, and in what the buckets hold in the end. Variants with two lanes equal a base that takes
the records in the order in which they were drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from oracle import lanes
from oracle.lanes import Broken, Ended, Final, System
from oracle.life import World
from oracle.scenario import LoadStep, RecordStep, Scenario, Step
from rater.core.clients.state import write_state

ALL = 10**9


@dataclass(frozen=True)
class Result:
    """How each record ended, by the number of its step, and what the buckets hold."""

    ended: dict[int, list[Ended]]
    final: Final
    order: tuple[tuple[int, int], ...] = ()
    """(lane, step) in the order of draws; lane -1: a load."""


@dataclass(frozen=True)
class Setup:
    """A circumstance. cut: records of a batch; 0: drawn anew for each batch."""

    cut: int = ALL
    buckets: int = 4
    lanes: int = 1
    processes: int = 1
    forget: str = ""
    """When memos are emptied: before each batch, before each call of the store."""
    evict: float = 0.0
    """How often, before a call of the store, clients and accounts are forgotten."""
    stale: float = 0.0
    """How often, before a call of the store, clients are known again as they were before a load."""
    bounds: bool = False
    crash: bool = False
    between: bool = False
    """Whether the other lane works between a lane's calls of the store."""
    apart: bool = False
    """Whether lanes read a load each in its own time: then only the invariants are looked at."""


class Different(AssertionError):  # noqa: N818 - what it says
    """Two runs differ that must not."""


VARIANTS: dict[str, Setup] = {
    "cut-1": Setup(cut=1),
    "cut-2": Setup(cut=2),
    "cut-7": Setup(cut=7),
    "cut-100": Setup(cut=100),
    "cut-all": Setup(),
    "cut-any": Setup(cut=0),
    "forget-batch": Setup(cut=7, forget="batch"),
    "forget-call": Setup(forget="call"),
    "evict": Setup(cut=0, evict=0.5),
    "evict-all": Setup(evict=0.5),
    "stale": Setup(cut=0, stale=0.5),
    "stale-all": Setup(stale=0.7),
    "crash": Setup(cut=0, crash=True),
    "crash-stale": Setup(cut=0, crash=True, stale=0.3, evict=0.2),
    "bucket-1": Setup(cut=7, buckets=1),
    "buckets-2": Setup(cut=0, buckets=2),
    "buckets-3": Setup(buckets=3),
    "buckets-5": Setup(cut=0, buckets=5),
    "bounds": Setup(bounds=True),
    "bounds-cut": Setup(cut=0, bounds=True),
    "lanes": Setup(cut=0, lanes=2, buckets=3),
    "lanes-2-processes": Setup(cut=0, lanes=2, processes=2, buckets=3),
    "lanes-between": Setup(cut=0, lanes=2, buckets=1, between=True),
    "lanes-between-2": Setup(cut=0, lanes=2, processes=2, buckets=1, between=True),
    "lanes-crash": Setup(cut=0, lanes=2, buckets=3, crash=True),
    "lanes-apart": Setup(cut=0, lanes=2, buckets=2, between=True, apart=True),
    "lanes-apart-2": Setup(cut=0, lanes=2, processes=2, buckets=2, between=True, apart=True),
}


# ------------------------------------------------------------------ the base
def base(scenario: Scenario) -> Result:
    """Rate a scenario one record at a time without memos, and compare it with the reference."""
    found = one_by_one(scenario, [(0, number) for number in range(len(scenario.steps))], lanes_count=1)
    check_reference(scenario, found, [(0, number) for number in range(len(scenario.steps))])
    return found


def one_by_one(
    scenario: Scenario, order: Sequence[tuple[int, int]], lanes_count: int, buckets: int = 4
) -> Result:
    """Rate records (lane, step) one at a time, in this order, memos emptied before each."""
    out: list[Result] = []

    async def work() -> None:
        system = System(scenario, lanes=lanes_count, buckets=buckets)
        await system.open()
        for lane, number in order:
            step = scenario.steps[number]
            if isinstance(step, LoadStep):
                system.load(step)
                for each in range(lanes_count):
                    while await system.step(each, 0):
                        pass
                continue
            system.send(step, number, lane)
            lanes.forget(system)
            await system.step(lane, 1)
        out.append(Result(system.ended, system.final()))

    lanes.run(work)
    return out[0]


def check_reference(scenario: Scenario, found: Result, order: Sequence[tuple[int, int]]) -> None:
    """Compare with the reference, fed in this order."""
    reference, version, probe = World(scenario.window_days), 0, lanes.Witness(scenario.window_days)
    for lane, number in order:
        step = scenario.steps[number]
        if isinstance(step, LoadStep):
            probe.load(step)
            if probe.rater.catalog.version > version:
                version = probe.rater.catalog.version
                reference.load(step.file, step.at_ms, version)
            continue
        wanted = sorted(reference.rate(step.raw, step.record_ms, lane), key=lambda one: _place(one["side"]))
        got = found.ended[number]
        same = len(wanted) == len(got) and all(
            _like(one, ended) for one, ended in zip(wanted, got, strict=True)
        )
        if not same:
            message = (
                f"step {number}: the reference says\n  {wanted}\nthe line\n  {[_told(one) for one in got]}"
            )
            raise Different(message)
    balances = {name: units for name, units in reference.balances.items() if units}
    held = {name: units for name, units in found.final.balances.items() if units}
    _equal("balances (reference, line)", balances, held)
    counters = {name: units for name, units in reference.counters.items() if units}
    _equal("counters (reference, line)", counters, dict(found.final.counters))


def _place(side: str | None) -> int:
    return lanes.SIDES.index(side) if side else -1


def _like(wanted: dict[str, Any], ended: Ended) -> bool:
    if (wanted["side"], wanted["outcome"]) != ended[:2]:
        return False
    if ended.outcome == "transaction":
        return bool(wanted["value"] == ended.value)
    if ended.outcome == "rejected":
        if ended.reason == "malformed":  # how much of what is malformed is shown, is nowhere said
            return bool(wanted["reason"] == ended.reason)
        return wanted["reason"] == ended.reason and wanted.get("value") in (None, ended.value)
    return True


def _told(ended: Ended) -> tuple[Any, ...]:
    return ended[:4]


def _equal(what: str, one: dict[Any, Any], other: dict[Any, Any]) -> None:
    if one != other:
        keys = sorted({key for key in (*one, *other) if one.get(key) != other.get(key)}, key=str)
        message = f"{what} differ: " + ", ".join(
            f"{key}: {one.get(key)} / {other.get(key)}" for key in keys[:5]
        )
        raise Different(message)


# ------------------------------------------------------------------ variants
JUDGED_BY_TIME = {"time_in_future", "too_old", "bad_duration"}
"""A lane that was lost knows its time of then, so a record that left nothing is judged by a later time."""


def check(scenario: Scenario, name: str, wanted: Result, seed: int = 0) -> None:
    """Run a scenario under a variant and compare; raises AssertionError."""
    setup = VARIANTS[name]
    rng = Random(f"{name} {scenario.seed} {seed}")  # noqa: S311 - the same again
    got = _Run(scenario, setup, rng).result()
    if setup.apart:
        return
    if setup.lanes > 1:
        order = [(max(lane, 0), number) for lane, number in got.order]
        wanted = one_by_one(scenario, order, setup.lanes, setup.buckets)
        check_reference(scenario, wanted, order)
    compare(wanted, got, crash=setup.crash)


def compare(wanted: Result, got: Result, *, crash: bool = False) -> None:
    """Compare two runs in every byte, in the order of draws.

    After a crash, as far as both knew the same time: what comes behind a side that one of them drew and the
    other refused draws on what that one has left.
    """
    drawn = [number for _, number in got.order if number in got.ended]
    for number in dict.fromkeys((*drawn, *sorted(wanted.ended.keys() | got.ended.keys()))):
        one, other = wanted.ended.get(number, []), got.ended.get(number, [])
        if one != other:
            if crash and {ended.reason for ended in (*one, *other)} & JUDGED_BY_TIME:
                return
            message = (
                f"step {number}: one by one\n  {list(map(_shown, one))}\nhere\n  {list(map(_shown, other))}"
            )
            raise Different(message)
    for what in Final._fields:
        _equal(what, getattr(wanted.final, what), getattr(got.final, what))


def _shown(ended: Ended) -> Any:
    return ended[:4] if ended.published is None else (*ended[:3], ended.published)


class _Run:
    """A run of a scenario under a setup."""

    def __init__(self, scenario: Scenario, setup: Setup, rng: Random) -> None:
        self.scenario, self.setup, self.rng = scenario, setup, rng
        self.system = System(scenario, lanes=setup.lanes, buckets=setup.buckets, processes=setup.processes)
        self.before: list[dict[str, Any]] = []
        """What was known of clients before loads, by process."""
        self.resting = True
        self.order: list[tuple[int, int]] = []

    def result(self) -> Result:
        if self.setup.bounds:
            with lanes.bounds_at_one():
                lanes.run(self._work)
        else:
            lanes.run(self._work)
        final = self.system.final()
        order = tuple(self.order)
        return Result(self.system.ended, final, order)

    async def _work(self) -> None:
        system, setup = self.system, self.setup
        await system.open()
        system.pause = self._pause
        numbered = list(enumerate(self.scenario.steps))
        if setup.apart:
            for number, step in numbered:
                if isinstance(step, LoadStep):
                    await self._drain()  # who loads waits for the results of the load before
                await self._put(number, step)
                if isinstance(step, RecordStep) and self.rng.random() < 0.1:
                    await self._some(self.rng.randrange(setup.lanes))
            await self._drain()
            return
        at = 0
        while at < len(numbered):
            segment = [numbered[at]]
            while at + len(segment) < len(numbered) and isinstance(
                numbered[at + len(segment)][1], RecordStep
            ):
                segment.append(numbered[at + len(segment)])
            at += len(segment)
            for number, step in segment:
                await self._put(number, step)
            if setup.lanes > 1 or system.sweeps:
                self._note()
                await self._obey()
                system.sweeps = False
            await self._drain()
            self._note()

    def _note(self) -> None:
        """Take over the order of what was drawn."""
        known = set(self.order)  # after a crash a record comes again, and was drawn before
        self.order += [one for one in dict.fromkeys(self.system.order) if one not in known]

    async def _put(self, number: int, step: Step) -> None:
        if isinstance(step, LoadStep):
            self.before = [dict(shared.views.clients) for shared in self.system.shared]
            self.system.load(step)
            self.order.append((-1, number))
        else:
            self.system.send(step, number, step.lane_hint % self.setup.lanes)

    async def _obey(self) -> None:
        """Let all lanes obey all commands, in turns, before calls go on."""
        waits = True
        while waits:
            waits = False
            for lane in self.rng.sample(range(self.setup.lanes), self.setup.lanes):
                ahead = self.system.waiting(lane)
                if ahead and ahead[0].command:
                    waits = True
                    await self.system.step(lane, 0, commands=self.rng.randrange(1, 4))

    async def _drain(self) -> None:
        """Let lanes take what waits."""
        while True:
            waiting = [lane for lane in range(self.setup.lanes) if self.system.waiting(lane)]
            if not waiting:
                return
            await self._some(self.rng.choice(waiting))

    def _cut(self) -> int:
        return self.setup.cut or self.rng.choice((1, 2, 3, 7, 20, 100, ALL))

    async def _some(self, lane: int) -> None:
        """Let a lane take one batch, or crash."""
        setup, system = self.setup, self.system
        if setup.forget == "batch":
            lanes.forget(system)
        if setup.stale:
            self._make_stale(lane)
        if setup.crash and self.rng.random() < 0.4:
            for _ in range(self.rng.randrange(1, 4)):
                await system.step(lane, self._cut(), commit=False)
            await system.retake(lane)
            self.before = []
            return
        if not setup.cut and self.rng.random() < 0.05:
            await system.lines[lane].buckets.expire()
        commands = self.rng.choice((None, 0, 0, 1, 2, 3)) if setup.apart else None
        self.resting = False
        await system.step(lane, self._cut(), commands=commands)
        self.resting = True

    async def _pause(self, what: str, lane: int, bucket: int, clients: Sequence[str]) -> None:
        del bucket, clients
        setup, system, rng = self.setup, self.system, self.rng
        if setup.forget == "call" and what == "draw":
            lanes.forget_functions()
            lanes.forget_views(system)
        if setup.evict and rng.random() < setup.evict:
            for shared in system.shared:
                for name in [name for name in shared.views.clients if rng.random() < 0.5]:
                    shared.views.clients.pop(name, None)
                if shared.native is not None:
                    shared.native.forget()
                if rng.random() < setup.evict:
                    shared.views.accounts.clear()
        if setup.stale and rng.random() < setup.stale:
            self._make_stale(lane)
        # Once a batch has drawn its order is noted, though clients with due work go on in another draw.
        undrawn = bool(system.rating[lane])
        if (
            setup.between
            and undrawn
            and not self.resting
            and what in ("draw", "views")
            and rng.random() < 0.4
        ):
            self.resting = True  # not again inside of this
            others = [other for other in range(setup.lanes) if other != lane and system.waiting(other)]
            if others:
                commands = self.rng.choice((None, 0, 1, 2)) if setup.apart else None
                await system.step(others[0], self._cut(), commands=commands)
            self.resting = False

    def _make_stale(self, lane: int) -> None:
        """Let clients be known as they were before a load, but those that were looked up for this batch."""
        fresh = self.system.looked_up[lane]
        for shared, before in zip(self.system.shared, self.before, strict=False):
            for name, view in before.items():
                if name not in fresh and self.rng.random() < 0.5:
                    shared.views.clients[name] = view
                    if shared.native is not None:
                        shared.native.changed(name, write_state(view.state), keep=True)


# ------------------------------------------------------------------ a failing case
@dataclass(frozen=True)
class Failure:
    """What differs first, under which variant, in which scenario."""

    seed: int
    variant: str
    problem: str
    scenario: Scenario


def failure_of(scenario: Scenario, names: Sequence[str], seed: int = 0) -> Failure | None:
    """Run the base and the variants; return what is wrong first."""
    name = "base"
    try:
        wanted = base(scenario)
        for each in names:
            name = each
            check(scenario, name, wanted, seed)
    except Exception as error:  # noqa: BLE001 - whatever comes out is a fault
        return Failure(scenario.seed, name, _problem(error), scenario)
    return None


def _problem(error: BaseException) -> str:
    if isinstance(error, (Broken, Different)):
        return str(error)
    if isinstance(error, BaseExceptionGroup):
        return _problem(error.exceptions[0])
    return f"{type(error).__name__}: {error}"


def shrunk(failure: Failure, still: Callable[[Scenario], bool] | None = None, tries: int = 600) -> Failure:
    """Drop steps, then rows of catalogs, while the variant still fails; `still` may say that it is enough."""
    names = [] if failure.variant == "base" else [failure.variant]
    best = failure
    for pieces in (_without_steps, _without_rows):
        size = max(1, len(best.scenario.steps) // 2)
        while size and tries:
            at = 0
            while tries and (fewer := pieces(best.scenario, at, size)) is not None:
                tries -= 1
                found = _fails(fewer, failure.variant, names) if still is None or still(fewer) else None
                if found is not None:
                    best = found
                else:
                    at += size
            size //= 2
    return best


def _fails(scenario: Scenario, variant: str, names: Sequence[str]) -> Failure | None:
    """Return the failure if the variant still fails, and not because a load is refused now."""
    if not any(isinstance(step, LoadStep) for step in scenario.steps):
        return None
    found = failure_of(scenario, names)
    if found is None or found.variant != variant or "faulty load" in found.problem:
        return None
    return found


def _without_steps(scenario: Scenario, at: int, size: int) -> Scenario | None:
    """Return the scenario without so many steps; None: there are none there."""
    if at >= len(scenario.steps):
        return None
    return replace(scenario, steps=scenario.steps[:at] + scenario.steps[at + size :])


def _without_rows(scenario: Scenario, at: int, size: int) -> Scenario | None:
    """Return the scenario without so many rows of catalogs, rates, limits and accounts; None: as above."""
    steps = [
        LoadStep(step.at_ms, json.loads(json.dumps(step.file))) if isinstance(step, LoadStep) else step
        for step in scenario.steps
    ]
    places: list[tuple[list[Any], int]] = []
    for step in steps:
        if not isinstance(step, LoadStep):
            continue
        for rows in step.file.values():
            if not isinstance(rows, list):
                continue
            for number, row in enumerate(rows):
                places.append((rows, number))
                for inner in ("rates", "limits", "accounts"):
                    within = row.get(inner)
                    if isinstance(within, list):
                        places += [(within, each) for each in range(len(within))]
    if at >= len(places):
        return None
    for rows, number in reversed(places[at : at + size]):
        del rows[number]
    return replace(scenario, steps=tuple(steps))
