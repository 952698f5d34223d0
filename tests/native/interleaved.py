"""Two lanes with a batch each, whose steps and whose stores' answers come in any order; in both engines.

Views grow old, clients change and are forgotten, first limits do not do, something is due in the middle: what
an engine is told at its border, both are told, and what they say must be the same, bytes and lists.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any

from msgspec.structs import replace

from native.shadow import SEEN, compare_argv, native_of, same, shadowing
from native.world import BUCKETS, World
from rater.core.bucket.messages import DrawItem, DrawRequest, DrawResult, pack_results
from rater.core.clients.state import read_state, write_state
from rater.core.clients.views import Views
from rater.core.instants import DAY_MS
from rater.core.line.batch import Side
from rater.core.line.engine import Lacking, Packed, Rating, ReferenceRating
from rater.native import engine, feeding
from rater.store.packing import pack_sides

LANES = 2
WINDOW_MS = 7 * DAY_MS
ROUNDS_MAX = 40
TIMES = ("setup_at", "answered_at", "ended_at")


class Both:
    """A batch in both engines."""

    def __init__(self, lanes: Lanes, lane: int) -> None:
        """Take records, in two topics, some of a source map, some decided before."""
        self.lanes, self.world, self.rng = lanes, lanes.world, lanes.world.rng
        self.last: DrawRequest | None = None
        self.reference = ReferenceRating(
            Views(lanes.clients, lanes.accounts), lane, self.world.now_ms, WINDOW_MS, self._pack
        )
        self.native = engine.Batch(lanes.cache, lane, self.world.now_ms, WINDOW_MS)
        for topic in ("t.cdrs", "t.mapped"):
            self._take(topic)
        self.asked: list[tuple[int, int]] = []
        self.rounds = 0
        self.over = False

    def _pack(self, request: DrawRequest) -> Packed:
        self.last = request
        return pack_sides(request)

    def _take(self, topic: str) -> None:
        raws: list[bytes | None] = [self.world.record() for _ in range(self.rng.randrange(60))]
        mapped = topic == "t.mapped"
        if mapped:
            raws = [of_a_map(raw) for raw in raws]
        elif self.rng.random() < 0.3:
            raws.append(None)
        offsets = list(range(100, 100 + len(raws)))
        stamps = [self.world.now_ms + self.rng.randrange(2000) for _ in raws]
        skip = bytes(self.rng.choice((0, 0, 0, 1, 2)) for _ in raws) if self.rng.random() < 0.3 else None
        found = [
            one.decode(catalog, topic, raws, offsets, stamps, mapped=mapped, replayed=skip)
            for one, catalog in self.each()
        ]
        same("returned records", *found)
        same("lane_ms", self.reference.lane_ms, self.native.lane_ms)

    def each(self) -> list[tuple[Rating, Any]]:
        """Return both engines, each with its catalog."""
        return [(self.reference, self.world.catalog), (self.native, native_of(self.world.catalog))]

    # ------------------------------------------------------------------ one step
    def step(self) -> None:
        """Go on by a step: ask for what is lacking, or for requests, or answer one of them."""
        if self.asked:
            self._answer(*self.asked.pop(self.rng.randrange(len(self.asked))))
            return
        self.rounds += 1
        if self.rng.random() < 0.1:  # a client that was absent comes to be, and may be forgotten again
            forget = self.rng.random() < 0.5
            state = read_state(self.world.states[self.rng.choice(sorted(self.world.states))])
            for one, _ in self.each():
                one.put("nobody", write_state(replace(state, id="nobody", accounts={})))
                if forget:
                    one.forget("nobody")
        if self._lacks([one.identify(catalog) for one, catalog in self.each()]):
            return
        names = sorted(self.world.states)
        whole = self.rng.sample(names, min(len(names), self.rng.choice((0, 0, 1))))
        if self._lacks([one.prepare(catalog, BUCKETS, whole) for one, catalog in self.each()]):
            return
        found = [one.requests() for one, _ in self.each()]
        same("requests", *found)
        self.asked = found[0]
        same("returned", *[one.returned() for one, _ in self.each()])
        self.over = not self.asked

    def _lacks(self, lacking: Sequence[Lacking]) -> bool:
        same("lacking", *lacking)
        clients, accounts, catalog = lacking[0]
        assert not catalog
        if not clients and not accounts:
            return False
        states = {client: self.world.states[client] for client in clients if client in self.world.states}
        owners = {name: self.world.owners[name] for name in accounts if name in self.world.owners}
        for one, _ in self.each():
            one.learn(clients, accounts, states, owners)
        return True

    def _answer(self, request: int, bucket: int) -> None:
        rng = self.rng
        trim, floor = rng.randrange(10**6), rng.randrange(10**12)
        packed = [one.packed(request, 1000 + bucket, trim, floor) for one, _ in self.each()]
        if packed[0] != packed[1]:
            compare_argv([0, 0, *packed[0]], [0, 0, *packed[1]])
        assert self.last is not None
        SEEN.requests += 1
        clients = packed[0][0]
        what = (
            rng.choices(("ok", "stale", "more", "due"), (70, 12, 9, 9))[0]
            if self.rounds < ROUNDS_MAX
            else "ok"
        )
        more: list[int] = []
        cut = [place for place, item in enumerate(self.last.items) if item.cut]
        if cut and what == "ok" and self.rounds < ROUNDS_MAX and rng.random() < 0.4:
            what = "more"
        if what == "ok":
            results = self._results(self.last, self.reference.asked(request))
            woken = sorted(rng.sample(range(len(results)), min(len(results), rng.choice((0, 0, 2)))))
            raw = pack_results(woken, results)
            same("woken", *[one.settle(request, raw) for one, _ in self.each()])
            return
        if what == "stale":
            known = [client for client in clients if client in self.world.states]
            for client in rng.sample(known, min(2, len(known))):
                self.lanes.change(client)
                for one, _ in self.each():
                    one.put(client, self.world.states[client])
        elif what == "more":
            asked = cut or list(range(len(self.last.items)))
            more = sorted(rng.sample(asked, min(2, len(asked))))
        same("asked whole", *[sorted(one.again(request, more)) for one, _ in self.each()])
        if what == "due":
            given = rng.sample(clients, min(1, len(clients)))
            for one, _ in self.each():
                one.give_back(given)

    def _results(self, request: DrawRequest, sides: Sequence[Side]) -> list[DrawResult]:
        pairs: list[tuple[DrawItem, Side]] = list(zip(request.items, sides, strict=True))
        return [self.world.result(item, side) for item, side in pairs]

    def end(self) -> None:
        """Compare what is published."""
        expected, found = self.reference.render(), self.native.render()
        same("what is told", sorted(expected), sorted(found))
        for name, value in found.items():
            same(name, listed(expected[name]), listed(value))  # type: ignore[literal-required]
        same("returned", self.reference.returned(), self.native.returned())
        SEEN.transactions += len(found["transactions"])
        SEEN.returned += len(self.native.returned())


class Lanes:
    """What the lanes share, in both engines."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients: dict[str, Any] = {}
        self.accounts: dict[str, str] = {}
        self.cache = feeding.new_cache()

    def change(self, client: str) -> None:
        """Let a client be another: a higher version, maybe other limit, tables, accounts or packages."""
        rng, state = self.world.rng, read_state(self.world.states[client])
        what = rng.randrange(5)
        if what == 1:
            state = replace(state, credit_limit=state.credit_limit + 7, low_balance=rng.choice((None, 5)))
        elif what == 2:
            state = replace(state, accounts=dict(list(state.accounts.items())[1:]))
        elif what == 3:
            state = replace(state, packages=state.packages[1:])
        elif what == 4:
            state = replace(state, rate_tables={})
        for account in read_state(self.world.states[client]).accounts:
            if account not in state.accounts:
                self.world.owners.pop(account, None)
        self.world.states[client] = write_state(replace(state, version=state.version + 1))

    def load(self) -> None:
        """Let the catalog be a newer one, in the middle of batches."""
        self.world.now_ms += 1
        self.world.edit()

    def forget(self) -> None:
        """Have no views, as when there are too many."""
        self.clients.clear()
        self.accounts.clear()
        self.cache.clear()


def of_a_map(raw: bytes | None) -> bytes:
    """Return a record as a source map gives it: instants are ms."""
    row = json.loads(raw or b"{}")
    for name in TIMES:
        with contextlib.suppress(TypeError, ValueError):  # what is no time stays as it is
            row[name] = int(datetime.fromisoformat(row.get(name)).timestamp() * 1000)
    return json.dumps(row).encode()


def listed(value: Any) -> Any:
    """Return a value with lists where there are tuples."""
    return [listed(one) for one in value] if isinstance(value, list | tuple) else value


def compare(seed: int, batches: int = 4) -> None:
    """Take batches through both engines; raises Different."""
    with shadowing():
        world = World(seed)
        lanes, rng = Lanes(world), Random(f"interleaved {seed}")  # noqa: S311 - the same again
        under_way: list[Both] = []
        begun = 0
        while begun < batches or under_way:
            if begun < batches and len(under_way) < LANES:
                under_way.append(Both(lanes, begun))
                begun += 1
            one = rng.choice(under_way)
            if rng.random() < 0.05:
                lanes.forget()
            if rng.random() < 0.03:
                lanes.load()
            one.step()
            if one.over:
                one.end()
                under_way.remove(one)
