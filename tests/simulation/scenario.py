"""A run out of a seed: a system, its traffic, what goes wrong; then all heals and everything is drained."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from simulation.broker import Faults
from simulation.checking import check
from simulation.clockwork import EPOCH_S, Process
from simulation.world import STALE_S, Slot, World

MINUTES = 2
"""Of the small volume limits."""
MONEY = "1.50"
CLIENTS = ("free", "volume", "money", "both", "vendor")
TRAFFIC_S = 4.0
DRAIN_S = 120.0


@dataclass
class Profile:
    """What may go wrong, as weights; the ablations turn up what their safeguard is for."""

    name: str = "mixed"
    lanes: tuple[int, ...] = (1, 2, 2, 3)
    buckets: tuple[int, ...] = (1, 2)
    workers: tuple[int, ...] = (1, 2, 2, 3)
    cdrs: tuple[int, int] = (10, 40)
    duplicates: float = 0.2
    bad: float = 0.1
    faults: tuple[int, int] = (1, 7)
    weights: dict[str, int] = field(
        default_factory=lambda: {
            "crash": 5, "freeze": 4, "cut_kafka": 2, "cut_store": 2, "kafka_away": 1, "store_away": 1,
            "kafka_killed": 1,
            "restart": 2, "roll_back": 3, "snapshot": 2, "flush": 2, "lose_bucket": 1, "join": 2, "leave": 2,
            "noise": 4,
        }
    )  # fmt: skip
    noise: tuple[str, ...] = ("end_lost", "end_held", "batch_refused", "fetch_failed", "slow", "reply_lost",
                              "request_held", "store_slow")  # fmt: skip
    second_load: float = 0.5
    late_duplicates: int = 3
    snapshots_s: tuple[int, ...] = (1, 1, 2, 86_400)
    """From one round of snapshots to the next."""
    undated: float = 0.0
    """How many of the runs have records without a time, and calls as late as their arrival allows."""


def catalog(version: int = 1) -> bytes:
    """Return the catalog, or its second version: a dearer rate, a client more, a package more."""
    price = "0.60" if version == 1 else "1.20"
    tables = {"orig": {"calls": "retail"}, "term": {"calls": "retail"}}
    volume = {"type": "volume", "service": "calls", "code": "*", "limit": MINUTES}
    money = {"type": "money", "service": "calls", "code": "*", "limit": MONEY}
    limits = {"volume": [volume], "money": [money], "both": [volume, money]}
    clients = [*CLIENTS, "late"] if version > 1 else list(CLIENTS)
    assigned = [("volume", "volume"), ("money", "money"), ("both", "both"), ("vendor", "sold")]
    if version > 1:
        assigned.append(("free", "volume"))
    return json.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [{"code": "1", "price": price}]}],
        "packages": [
            {"id": name, "name": name, "type": "customer", "currency": "USD", "limits": own}
            for name, own in limits.items()
        ] + [{"id": "sold", "name": "sold", "type": "vendor", "currency": "USD", "limits": [volume]}],
        "clients": [{"id": name, "name": name, "currency": "USD", "time_zone": "UTC", "balance": "5.00",
                     "rate_tables": tables, "accounts": [{"id": f"a-{name}"}]} for name in clients],
        "client_packages": [
            {"id": f"{client}-{package}", "client": client, "package": package,
             "start_date": "2026-01-01T00:00:00Z", "activate_in_past": True} for client, package in assigned
        ],
    }).encode()  # fmt: skip


def call_of(name: str, client: str, seconds: int = 30) -> dict[str, Any]:
    """Return the CDR of one call."""
    return {
        "id": name, "called": "12025550100", "answered_at": "2026-09-21T13:00:00Z",
        "duration_ms": seconds * 1000, "orig": {"client": client},
    }  # fmt: skip


MIXED = Profile(undated=0.3)
HARD = Profile(name="hard", faults=(8, 20), duplicates=0.4, bad=0.2, late_duplicates=10, undated=0.3)
"""Fault upon fault: what goes wrong while something else is being mended."""


class Scenario:
    """One seed's run."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        """profile: else the seed chooses."""
        self.profile = profile = profile or (MIXED if seed % 3 else HARD)
        self.rng = rng = random.Random(f"{seed} {profile.name}")  # noqa: S311 - a simulation
        self.world = World(
            rng.getrandbits(32),
            lanes=rng.choice(profile.lanes),
            buckets=rng.choice(profile.buckets),
            batch_max=rng.choice((1, 3, 4000, 4000)),
            extra_topic=rng.random() < 0.25,
            snapshots_s=random.Random(f"{seed} snapshots").choice(profile.snapshots_s),  # noqa: S311 - the same
        )
        self.world.broker.batch_records_max = rng.choice((0, 0, 1, 3))
        self.world.broker.fetch_max = rng.choice((0, 0, 0, 7))
        self.stamps = random.Random(f"{seed} stamps")  # noqa: S311 - the same
        self.undated = self.stamps.random() < profile.undated
        self.ends: dict[tuple[str, int], str] = {}
        """Call and its duration → when it was answered, where that is as late as its first arrival allows."""

    def run(self) -> World:
        """Run it; raises Failure."""
        self.world.run(self._live)
        return self.world

    async def _live(self, world: World) -> None:
        rng, profile = self.rng, self.profile
        for _ in range(rng.choice(profile.workers)):
            world.add_worker()
        await world.begin_load(catalog(), rng.choice((0, 0, 0, rng.randrange(1, 400))), applied=True)
        actions: list[tuple[float, Callable[[], object]]] = self._traffic()
        kinds, weights = list(profile.weights), list(profile.weights.values())
        for _ in range(rng.randint(*profile.faults)):
            kind = rng.choices(kinds, weights)[0]
            # Mostly where there is work: between a record's arrival and its commit.
            busy_s = rng.choice(actions)[0] + rng.random() * 0.1
            at_s = busy_s if rng.random() < 0.7 else rng.random() * TRAFFIC_S
            actions.append((at_s, getattr(self, f"_{kind}")()))
        if rng.random() < profile.second_load:
            for _ in range(rng.choice((1, 1, 1, 2))):  # two at once: one fences the other
                crash_at = rng.choice((0, 0, rng.randrange(1, 400)))
                second = partial(world.begin_load, catalog(2), crash_at)
                actions.append((rng.random() * TRAFFIC_S, second))
        began = world.loop.now
        for at, action in sorted(actions, key=lambda pair: pair[0]):
            await asyncio.sleep(max(0.0, began + at - world.loop.now))
            action()
        await asyncio.sleep(rng.random() * rng.choice((4, 4, 4, 40)))
        world.heal()
        await self._settle()
        for sent in rng.sample(world.sent, min(profile.late_duplicates, len(world.sent))):
            world.send(rng.randrange(world.lanes), sent.cdr or sent.raw)
        await self._settle()
        await world.stop_workers()
        await asyncio.sleep(0.1)
        if not world.faults and rng.random() < 0.1:
            world.faults += await world.audited()
        world.faults += world.halts + check(world)

    async def _settle(self) -> None:
        world = self.world
        if world.loads:
            await asyncio.wait(world.loads)
        await world.drained(DRAIN_S)

    # ------------------------------------------------------------------ traffic
    def _traffic(self) -> list[tuple[float, Callable[[], object]]]:
        rng, profile, world = self.rng, self.profile, self.world
        actions: list[tuple[float, Callable[[], object]]] = []
        made: list[dict[str, Any] | bytes] = []
        at_s = 0.0
        for number in range(rng.randint(*profile.cdrs)):
            lane, topic = rng.randrange(world.lanes), rng.choice(world.topics.data)
            if made and rng.random() < profile.duplicates:
                cdr: dict[str, Any] | bytes = rng.choice(made[-12:])
                if isinstance(cdr, dict) and rng.random() < 0.2:
                    cdr = {**cdr, "duration_ms": cdr["duration_ms"] + 1000}
            elif rng.random() < profile.bad:
                cdr = rng.choice(
                    (b"{", b"[]", b'{"id": 1}', b"\xff", {**self._cdr(number), "orig": {"client": "nobody"}})
                )
            else:
                cdr = self._cdr(number)
            made.append(cdr)
            at_s = at_s + rng.random() * 0.05 if rng.random() < 0.6 else rng.random() * TRAFFIC_S
            actions.append((at_s, partial(self._send_call if self.undated else world.send, lane, cdr, topic)))
        return actions

    def _send_call(self, lane: int, cdr: dict[str, Any] | bytes, topic: str) -> None:
        """Send a call that ends nearly an hour after its arrival, every second one without a time.

        It is rated if the lane's time is no older than STALE_S, and refused by that of the load before it.
        """
        now_s = EPOCH_S + self.world.loop.now
        stamp = self.stamps.choice((None, None, None, -1, int(now_s), int(now_s * 10**6)))
        if isinstance(cdr, dict):
            latest = now_s + 3600 - 2 * STALE_S - cdr["duration_ms"] / 1000
            told = datetime.fromtimestamp(int(latest), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            cdr = {**cdr, "answered_at": self.ends.setdefault((cdr["id"], cdr["duration_ms"]), told)}
        self.world.send(lane, cdr, topic, stamp)

    def _cdr(self, number: int) -> dict[str, Any]:
        rng = self.rng
        at = datetime.fromtimestamp(EPOCH_S - rng.randrange(60, 3600), UTC)
        client = rng.choice(CLIENTS[:4] if rng.random() < 0.9 else (*CLIENTS[:4], "late"))
        cdr: dict[str, Any] = {
            "id": f"n{number}", "called": "12025550100", "answered_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_ms": rng.randrange(1, 60) * 1000,
            "orig": {"account": f"a-{client}"} if rng.random() < 0.2 else {"client": client},
        }  # fmt: skip
        if rng.random() < 0.4:
            cdr["term"] = {"client": "vendor" if rng.random() < 0.8 else client}
        return cdr

    # ------------------------------------------------------------------ what goes wrong
    def _slot(self) -> Slot:
        return self.rng.choice(self.world.slots)

    def _soon(self, slot: Slot, what: Callable[[], None]) -> Callable[[], None]:
        """Let it happen at one of the next steps of a worker: at any await that it may stand at."""
        ahead = self.rng.randrange(1, self.rng.choice((2, 30, 100, 600)))

        def set_up() -> None:
            process = slot.process
            if process is not None and process.alive:
                process.turns[process.steps + ahead] = what

        return set_up

    def _crash(self) -> Callable[[], None]:
        slot = self._slot()
        return self._soon(slot, lambda: self.world.crash(slot))

    def _freeze(self) -> Callable[[], None]:
        slot = self._slot()
        for_s = self.rng.choice((0.2, 3.0, self.rng.uniform(6, 14), self.rng.uniform(6, 45)))
        return self._soon(slot, lambda: self.world.freeze(slot, for_s))

    def _cut(self, name: str) -> Callable[[], None]:
        slot, for_s = (
            self._slot(),
            self.rng.choice((0.1, 2.0, self.rng.uniform(4, 12), self.rng.uniform(20, 45))),
        )

        def cut() -> None:
            process = slot.process
            if process is None or not process.alive:
                return
            self.world.tell(process.name, f"{name} for {for_s:.2f} s")
            setattr(process, name, True)
            self.world.loop.outside(for_s, self._mend, process, name)

        return cut

    def _mend(self, process: Process, name: str) -> None:
        setattr(process, name, False)

    def _cut_kafka(self) -> Callable[[], None]:
        return self._cut("kafka_cut")

    def _cut_store(self) -> Callable[[], None]:
        return self._cut("store_cut")

    def _away(self, what: Any, name: str) -> Callable[[], None]:
        for_s = self.rng.choice((0.2, 2.0, 8.0))

        def go() -> None:
            self.world.tell(name, f"is away for {for_s:g} s")
            what.up = False
            self.world.loop.outside(for_s, setattr, what, "up", True)  # noqa: FBT003 - setattr's

        return go

    def _kafka_away(self) -> Callable[[], None]:
        return self._away(self.world.broker, "kafka")

    def _kafka_killed(self) -> Callable[[], None]:
        """All brokers are killed about when one has answered a commit and before it has marked it."""
        broker, loop = self.world.broker, self.world.loop
        go, after_s = self._away(broker, "kafka"), self.rng.uniform(0, 0.02)

        def kill() -> None:
            broker.faults.marker_s = Faults().marker_s
            broker.forget_marks()
            go()

        def aim() -> None:
            broker.faults.marker_s = (0.02, 0.03)
            broker.on_commit = lambda: loop.outside(after_s, kill)

        return aim

    def _store_away(self) -> Callable[[], None]:
        return self._away(self.world.server, "redis")

    def _store(self, what: str, call: Callable[[], None]) -> Callable[[], None]:
        def do() -> None:
            if not self.world.healed:
                self.world.tell("redis", what)
                call()

        return do

    def _restart(self) -> Callable[[], None]:
        return self._store("restarts with its data", self.world.server.restart)

    def _back(self, *, keep_run: bool) -> Callable[[], None]:
        after_s = self.rng.choice((0.05, 0.5, self.rng.uniform(0.5, 3)))
        server = self.world.server

        def save() -> None:
            self.world.tell("redis", "its state is saved")
            server.save()
            self.world.loop.outside(
                after_s,
                self._store("falls back to what was saved", lambda: server.roll_back(keep_run=keep_run)),
            )

        return save

    def _roll_back(self) -> Callable[[], None]:
        return self._back(keep_run=False)

    def _snapshot(self) -> Callable[[], None]:
        # With its run kept, as of a machine that is set back, the server's gate knows nothing of it: a lane
        # that lost nothing decides before the others have reconciled. One lane is all right: its calls count.
        return self._back(keep_run=self.world.lanes == 1)

    def _flush(self) -> Callable[[], None]:
        return self._store("is emptied", self.world.server.lose)

    def _lose_bucket(self) -> Callable[[], None]:
        number = self.rng.randrange(len(self.world.server.buckets))
        return self._store(f"loses bucket {number}", lambda: self.world.server.lose(number))

    def _join(self) -> Callable[[], None]:
        def join() -> None:
            if len(self.world.slots) < 4:
                self.world.add_worker()

        return join

    def _leave(self) -> Callable[[], None]:
        slot, back_s = self._slot(), self.rng.uniform(0.5, 4)

        def leave() -> None:
            if slot.worker is not None:
                self.world.tell(slot.name, "is told to stop")
                slot.wanted = False
                slot.worker.stopping.set()
                self.world.loop.outside(back_s, self._again, slot)

        return leave

    def _again(self, slot: Slot) -> None:
        if self.world.healed:
            return
        slot.wanted = True
        self.world.start(slot)

    def _noise(self) -> Callable[[], None]:
        name, share = self.rng.choice(self.profile.noise), self.rng.choice((0.02, 0.1, 0.3))
        for_s = self.rng.choice((0.2, 1.0, 3.0))
        world = self.world
        target: Any = world.broker.faults if hasattr(Faults(), name) else world.server
        own = name.removeprefix("store_")

        def begin() -> None:
            world.tell("world", f"{name}: {share:.0%} for {for_s:g} s")
            setattr(target, own, share)
            world.loop.outside(for_s, setattr, target, own, 0.0)

        return begin
