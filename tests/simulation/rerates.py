"""Runs in which calls are rated again while they flow, and jobs, workers and servers die.

Prices change in the middle; calls come late, in any order, and some can be rated only behind the load. Jobs
start at any moment and die at any step. In the end one is resumed until it is done.

What must be true: what `checking` says of any run that holds here; of each id the revisions follow one
another, each reversed before the next; limits are not overdrawn when the jobs are done; another run finds
nothing; the audit agrees.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rater import app
from rater.core.commands.records import RerateSwapArgs
from rater.core.rerating.client import Window
from rater.errors import Fenced, Halt, NoCatalog, Retake, Wait
from rater.jobs.rerate import Job, Summary
from rater.jobs.rerate_reading import Selection
from simulation import checking
from simulation.checking import LIMITS, Transaction, transactions_of
from simulation.scenario import DRAIN_S, TRAFFIC_S, Profile, Scenario, call_of, catalog
from simulation.world import World

ALWAYS = Window(0, 2**42)
RERATES = Profile(name="rerates", lanes=(1, 1, 2, 3), workers=(1, 1, 2), faults=(0, 4), bad=0.05)


class Rerates(Scenario):
    """One seed's run."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        super().__init__(seed, profile or RERATES)
        self.jobs: list[asyncio.Task[Summary | None]] = []
        self.runs = 0

    async def _live(self, world: World) -> None:
        rng, profile = self.rng, self.profile
        for _ in range(rng.choice(profile.workers)):
            world.add_worker()
        await world.begin_load(catalog(), applied=True)
        actions: list[tuple[float, Callable[[], object]]] = self._traffic()
        kinds, weights = list(profile.weights), list(profile.weights.values())
        for _ in range(rng.randint(*profile.faults)):
            kind = rng.choices(kinds, weights)[0]
            actions.append((rng.choice(actions)[0] + rng.random() * 0.1, getattr(self, f"_{kind}")()))
        actions.append((rng.random() * TRAFFIC_S, partial(world.begin_load, catalog(2))))
        for _ in range(rng.choice((1, 2, 2, 3))):
            crash_at = rng.choice((0, rng.randrange(1, 400), rng.randrange(1, 1500)))
            job = rng.choice(("a", "a", "b"))
            actions.append((rng.random() * TRAFFIC_S, partial(self._begin_job, job, crash_at)))
        began = world.loop.now
        for at, action in sorted(actions, key=lambda pair: pair[0]):
            await asyncio.sleep(max(0.0, began + at - world.loop.now))
            action()
        await asyncio.sleep(rng.random() * 4)
        world.heal()
        await self._settle()
        ends = await asyncio.gather(*self.jobs)
        if all(summary is not None and not summary.left for summary in ends):
            world.faults += overdrawn(world)  # what a job that died has left is put right when it is resumed
        for job in ("a", "b"):
            summary = await self._finish(job)
            if job == "b" and summary is not None:  # by then all is drained, and nobody else is at work
                world.faults += [f"R2: {one} is left" for one in summary.left]
        await world.drained(DRAIN_S)
        world.faults += overdrawn(world)
        again = await self._once("c", applies=False)
        if again is None or again.changed:
            world.faults.append(f"R3: another run finds {again}")
        await world.stop_workers()
        await asyncio.sleep(0.1)
        world.faults += await world.audited()
        world.faults += world.halts + check(world)

    def _begin_job(self, job: str, crash_at: int) -> None:
        self.jobs.append(self.world.loop.create_task(self._once(job, crash_at)))

    async def _finish(self, job: str) -> Summary | None:
        for _ in range(20):
            summary = await self._once(job)
            if summary is not None:
                return summary
            await asyncio.sleep(0.5)
        self.world.faults.append(f"R1: job {job} does not end")
        return None

    async def _once(self, job: str, crash_at: int = 0, *, applies: bool = True) -> Summary | None:
        """Run a job once; None: it died, or could not be connected."""
        world = self.world
        self.runs += 1
        process = world.process(f"job{self.runs}")
        died: asyncio.Future[None] = world.loop.create_future()

        def die() -> None:
            world.tell(process.name, "is killed")
            process.state = "dead"
            if not died.done():
                died.set_result(None)

        if crash_at:
            process.turns[crash_at] = die
        world.tell(process.name, f"job {job} begins")
        work = world.loop.spawn(process, self._run(job, f"{job}-{self.runs}", applies=applies))
        world.kept.append(work)
        ends: list[asyncio.Future[Any]] = [work, died]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() or died.done():
            return None
        error = work.exception()
        if error is not None:
            world.tell(process.name, f"ends: {type(error).__name__}: {error}")
            if not isinstance(error, Wait | Halt | Retake | Fenced | NoCatalog):
                world.faults.append(f"a job ended with {type(error).__name__}: {error}")
            return None
        world.tell(process.name, f"job {job} is done: {work.result()}")
        return work.result()

    async def _run(self, job: str, run: str, *, applies: bool) -> Summary:
        async with app.rerating(self.world.settings, run, lambda _: None, applies=applies) as (at, sends):
            made = Job(at, Selection(None, ALWAYS), job)
            try:
                await made.run(lambda *_: None, sends)
                return made.summary
            finally:
                made.close()


class Contested(Rerates):
    """A live call takes the last units of a limit between a job's look at them and its piece."""

    async def _live(self, world: World) -> None:
        world.add_worker()
        await world.begin_load(catalog(), applied=True)
        for number in range(4):
            world.send(0, call_of(f"n{number}", "free"))
        await world.drained(DRAIN_S)
        await world.begin_load(catalog(2), applied=True)  # the client has free minutes, from long ago
        async with app.rerating(world.settings, "contested", lambda _: None, applies=True) as (at, sends):
            assert sends is not None
            send = sends.send

            async def contested(client: str, args: Any) -> str:
                if isinstance(args, RerateSwapArgs) and not self.runs:
                    self.runs += 1
                    world.send(0, call_of("live", "free", 59))
                    await world.drained(DRAIN_S)
                return await send(client, args)

            sends.send = contested  # type: ignore[method-assign]
            job = Job(at, Selection(None, ALWAYS), "a")
            await job.run(lambda *_: None, sends)
            job.close()
        await world.drained(DRAIN_S)
        world.faults += [*overdrawn(world), *world.halts, *check(world)]
        await world.stop_workers()


def check(world: World) -> list[str]:
    """Return a sentence for each thing that is not as it must be."""
    transactions = list(transactions_of(world))
    return [
        *checking.once(transactions, {}),
        *checking.sums(world, transactions),
        *checking.marks(world),
        *checking.changes(world, transactions),
        *checking.events(world),
        *checking.nothing_hangs(world),
        *_revisions(transactions),
        *_each_call(world, transactions),
    ]


def _revisions(transactions: list[Transaction]) -> Iterator[str]:
    """R4: of an id at a client there is each revision once, and all but the last are reversed, once."""
    made: dict[tuple[str, str], list[int]] = defaultdict(list)
    back: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in transactions:
        if one.said.get("cdr") is None:
            continue
        key = one.said["client"], one.said["id"]
        (back if one.said["type"] == "reversal" else made)[key].append(one.said["revision"])
    for key, revisions in made.items():
        if sorted(revisions) != list(range(1, len(revisions) + 1)):
            yield f"R4: {key} has the revisions {revisions}"
        if sorted(back[key]) not in ([*range(1, len(revisions))], [*range(1, len(revisions) + 1)]):
            yield f"R4: {key} has the revisions {revisions}, and of these {back[key]} are reversed"


def _each_call(world: World, transactions: list[Transaction]) -> Iterator[str]:
    """R5: each call that names a client of the catalog stands once in the end; one of nobody is rejected."""
    standing: dict[str, int] = defaultdict(int)
    for one in transactions:
        if one.said.get("side"):
            standing[one.said["id"]] += -1 if one.said["type"] == "reversal" else 1
    for sent in world.sent:
        if sent.cdr is None:
            continue
        for side in ("orig", "term"):
            party = sent.cdr.get(side)
            if party is None or party.get("client") == "nobody":
                continue
            name = f"default/{sent.cdr['id']}/{side}"
            if standing[name] != 1:
                yield f"R5: {name} stands {standing[name]} times, of {json.dumps(sent.cdr)}"


def overdrawn(world: World) -> Iterator[str]:
    """I6: when the jobs are done no counter holds more than its limit."""
    for bucket in world.server.buckets:
        for client, held in bucket.clients.items():
            for field, used in held.used.items():
                package = field.partition(".")[0].rpartition("-")[2]
                money = package == "money" or (package == "both" and field.endswith(".1"))
                limit = LIMITS["money"] if money else LIMITS.get(package, used)
                if used > limit or used < 0:
                    yield f"I6: {client} {field} holds {used} of {limit}"
