"""The store in memory: what `rater.store.buckets.Buckets` promises, over the twin that equals functions.lua.

tests/store/test_machine.py proves twin and Lua equal; here is what lies between a worker and a server:
requests that come late, replies that do not come, servers that are away, begin anew, fall back, are emptied.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from engine_choice import InMemory, unpacked

from rater.core.bucket.messages import (
    CopiesReply,
    DrawReply,
    DrawRequest,
    DropReply,
    DueReply,
    FenceReply,
    MembersReply,
    Reconcile,
    Status,
    ViewsReply,
    bucket_of,
)
from rater.core.bucket.model import Bucket
from rater.core.bucket.restoring import ReadReply, Restore, RestoreReply, read_clients, restore
from rater.errors import StoreDown, StoreUnknown
from rater.store.buckets import ExpireReply
from rater.store.snapshots import CLIENTS, PACKAGES
from rater.store.stored_clients import StoredClient
from simulation.clockwork import OUTSIDE, PROCESS, chance

R = TypeVar("R")


class Drawn(NamedTuple):
    """A draw of calls that was carried out, item by item. context: as `keeping.pack_rows` wrote it."""

    lane: int
    context: bytes
    clients: list[str]
    outcomes: list[int]
    states: dict[str, bytes]
    """Client -> its state, as it was drawn on."""


class Carried(NamedTuple):
    """A request that was carried out, as it was kept, and what of its clients it found."""

    lane: int
    context: bytes
    packed: bytes
    states: dict[str, bytes]
    """Client of an item -> its state behind the changes of the request, which its items were drawn on."""


class State(NamedTuple):
    """A client's state that a load has made."""

    at_s: float
    client: str
    state: bytes


class Server:
    """One Redis with all buckets."""

    def __init__(
        self, rng: random.Random, buckets: int, tell: Callable[[str, str], None] = lambda _who, _what: None
    ) -> None:
        self.rng = rng
        self.tell = tell
        self.runs = 0
        self.buckets = [Bucket("run 0") for _ in range(buckets)]
        self.lost = False
        """Whether it ever lost or undid what it had answered."""
        self.up = True
        self.latency_s = (0.0003, 0.003)
        self.reply_lost = 0.0
        self.request_held = 0.0
        """It comes to the server after the client has given it up."""
        self.slow = 0.0
        self.late = 0.0
        """A draw is on its way for 50 to 200 ms, while other lanes go on."""
        self.drawn: list[Drawn] = []
        """In the order in which they were carried out: it stays whatever the store loses."""
        self.carried: list[Carried] = []
        self.states: list[State] = []
        self.again: list[str] = []
        """Sides that are to be asked with all limits, and were asked with the first ones again."""
        self.more: dict[tuple[int, int], tuple[int, set[bytes]]] = {}
        """(lane, bucket) -> token, and sides of which MORE was said since the last draw."""
        self.held: dict[tuple[str, str], float] = {}
        """(process, request) -> how late the next such request arrives."""
        self.done: Callable[[str, str], None] = lambda _who, _what: None
        """Told of each request that was carried out, before it is answered."""
        self._saved: list[Bucket] | None = None

    def delay(self) -> float:
        """Return how long a message takes."""
        if chance(self.rng, self.slow):
            return self.rng.uniform(0.2, 3.0)
        low, high = self.latency_s
        return low + (high - low) * self.rng.random()

    # ------------------------------------------------------------------ what happens to servers
    def restart(self) -> None:
        """Begin a new run with what there is."""
        self.runs += 1
        for bucket in self.buckets:
            bucket.run_id = f"run {self.runs}"

    def save(self) -> None:
        """Remember the state, to fall back to."""
        self._saved = copy.deepcopy(self.buckets)

    def roll_back(self, *, keep_run: bool = False) -> None:
        """Fall back to what was saved: by a failover, or, keeping the run, by a snapshot of the machine."""
        if self._saved is not None:
            self.lost = True
            self.buckets = copy.deepcopy(self._saved)
            if not keep_run:
                self.restart()
            for bucket in self.buckets:
                bucket.run_id = f"run {self.runs}"

    def lose(self, number: int | None = None) -> None:
        """Be emptied: one bucket, or all."""
        self.lost = True
        for at in range(len(self.buckets)):
            if number is None or at == number:
                self.buckets[at] = Bucket(f"run {self.runs}")


SERVERS: dict[str, Server] = {}
"""By URL."""


class Shelf(InMemory):
    """Stands in for `Buckets`."""

    def __init__(self, server: Server, lanes: int, timeout_s: float) -> None:
        self.server, self.lanes, self.timeout_s = server, lanes, timeout_s
        self.count = len(server.buckets)
        self._process = PROCESS.get()

    @classmethod
    async def connect(cls, url: str, *, buckets: int, lanes: int, timeout_s: float = 5.0, **_: Any) -> Self:
        """Connect."""
        shelf = cls(SERVERS[url], lanes, timeout_s)
        assert shelf.count == buckets
        return await shelf._ask("connect", lambda: shelf)

    async def close(self) -> None:
        """Let go."""

    async def unseen(self) -> list[str]:
        """All can be looked at."""
        return []

    async def check(self) -> list[str]:
        """Find nothing to complain about."""
        return []

    async def _ask(self, what: str, call: Callable[[], R]) -> R:
        server, process = self.server, self._process
        if process is not None and process.state == "ghost":
            raise StoreDown("gone")
        loop = asyncio.get_running_loop()
        if not server.up or (process is not None and process.store_cut):
            await asyncio.sleep(0.01)
            raise StoreDown("not reachable")
        answer: asyncio.Future[R] = loop.create_future()
        delay = server.held.pop((self._who(), what), 0.0)
        if chance(server.rng, server.request_held):
            delay = server.rng.uniform(0.5, 2 * self.timeout_s)
        if what == "draw" and chance(server.rng, server.late):
            delay = server.rng.uniform(0.05, 0.2)
        if delay:
            server.tell("redis", f"{what} of {self._who()}: the request is held for {delay:.2f} s")
        delay = delay or server.delay()
        loop.call_later(delay, self._arrive, what, call, answer, context=OUTSIDE)
        timer = loop.call_later(self.timeout_s, self._unknown, answer, context=OUTSIDE)
        try:
            return await answer
        finally:
            timer.cancel()

    @staticmethod
    def _unknown(answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(StoreUnknown("no answer"))

    def _arrive(self, what: str, call: Callable[[], R], answer: asyncio.Future[R]) -> None:
        server, process, loop = self.server, self._process, asyncio.get_running_loop()
        if not server.up or (process is not None and process.store_cut):
            loop.call_later(0.001, self._unknown, answer, context=OUTSIDE)
            return
        result = call()
        server.done(self._who(), what)
        if chance(server.rng, server.reply_lost):
            server.tell("redis", f"{what}: carried out, and its reply lost")
            if server.rng.random() < 0.7:
                loop.call_later(server.delay(), self._unknown, answer, context=OUTSIDE)
            return
        loop.call_later(server.delay(), self._deliver, answer, result, context=OUTSIDE)

    def _deliver(self, answer: asyncio.Future[R], result: R) -> None:
        if answer.done():
            return
        if self._process is not None and self._process.store_cut:
            self._unknown(answer)
        else:
            answer.set_result(result)

    def _who(self) -> str:
        return self._process.name if self._process is not None else "client"

    def _told(self, what: str, lane: int, bucket: int, status: Status) -> None:
        self.server.tell(self._who(), f"{what} lane {lane} bucket {bucket}: {Status(status).name}")

    def _note(self, bucket: int, request: DrawRequest, reply: DrawReply) -> None:
        server, states = self.server, self.server.buckets[bucket].states
        token, named = server.more.get((request.lane, bucket), (request.token, set()))
        if reply.status == Status.MORE and request.items:
            # A stale view, or another owner of the lane, has it all asked again from the beginning.
            asked = {request.items[item].key for item in reply.more}
            if token == request.token and asked & named:
                server.again.append(
                    f"P: lane {request.lane} bucket {bucket}: {len(asked & named)} of {len(request.items)} "
                    "sides need all limits, and are asked with the first ones again"
                )
            server.more[request.lane, bucket] = (
                request.token,
                asked | named if token == request.token else asked,
            )
            return
        server.more.pop((request.lane, bucket), None)
        if reply.status != Status.OK:
            return
        at_s = asyncio.get_running_loop().time()
        server.states += [State(at_s, change.client, change.state) for change in request.changes]
        found = {use.client: states[use.client] for use in request.uses}
        server.carried.append(Carried(request.lane, request.context, reply.packed, found))
        if request.items:
            clients = [request.uses[item.use].client for item in request.items]
            outcomes = [int(result.outcome) for result in reply.results]
            held = {client: states[client] for client in clients}
            server.drawn.append(Drawn(request.lane, request.context, clients, outcomes, held))

    # ------------------------------------------------------------------ as Buckets has them
    async def fence(self, bucket: int, lane: int, token: int) -> FenceReply:
        """See Buckets."""

        def call() -> FenceReply:
            reply = self.server.buckets[bucket].fence(lane, token)
            kept = [number for number, _, _ in reply.outcomes]
            self.server.tell(
                self._who(),
                f"fence lane {lane} bucket {bucket} token {token}: {Status(reply.status).name}, call "
                f"{reply.number}, floor {reply.floor}, kept {kept}",
            )
            return reply

        return await self._ask("fence", call)

    async def reconcile(self, bucket: int, what: Reconcile) -> tuple[Status, int]:
        """See Buckets."""
        what = unpacked(what)

        def call() -> tuple[Status, int]:
            status, number = self.server.buckets[bucket].reconcile(what)
            self.server.tell(
                self._who(),
                f"reconcile lane {what.lane} bucket {bucket}: {Status(status).name}; balances "
                f"{what.balances}, counters {what.counters}, {len(what.duplicates)} keys, dropped "
                f"{what.drop_calls}, forgotten {len(what.forget)}, floor {what.floor}",
            )
            return status, number

        return await self._ask("reconcile", call)

    async def register(self, bucket: int, lane: int, token: int, number: int) -> tuple[Status, int]:
        """See Buckets."""

        def register() -> tuple[Status, int]:
            reply = self.server.buckets[bucket].register(lane, token, number, self.lanes)
            self._told("register", lane, bucket, reply[0])
            return reply

        return await self._ask("register", register)

    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """See Buckets."""

        def draw() -> DrawReply:
            reply = self.server.buckets[bucket].draw(request)
            self._note(bucket, request, reply)
            results = " ".join(
                f"{request.uses[item.use].client}:"
                f"{('rated', 'duplicate', 'differs', 'range')[result.outcome]}"
                f"({result.amount},{','.join(str(take[1]) for take in result.takes)})"
                for item, result in zip(request.items, reply.results, strict=False)
            )
            self._told(f"draw {request.number} [{results}]", request.lane, bucket, reply.status)
            return reply

        return await self._ask("draw", draw)

    async def views(
        self, bucket: int, lane: int, token: int, number: int, clients: list[str], accounts: list[str]
    ) -> ViewsReply:
        """See Buckets."""

        def views() -> ViewsReply:
            return self.server.buckets[bucket].views(lane, token, number, clients, accounts)

        return await self._ask("views", views)

    async def kept(self, bucket: int, lane: int) -> list[tuple[int, bytes, bytes]]:
        """See Buckets."""
        return await self._ask("kept", lambda: self.server.buckets[bucket].kept(lane))

    async def list_copies(self, bucket: int, lane: int, token: int, number: int) -> CopiesReply:
        """See Buckets."""
        return await self._ask(
            "list_copies", lambda: self.server.buckets[bucket].list_copies(lane, token, number)
        )

    async def due(
        self, bucket: int, lane: int, token: int, number: int, upto: int, known: Mapping[int, int]
    ) -> DueReply:
        """See Buckets."""
        seen = dict(known)
        return await self._ask(
            "due", lambda: self.server.buckets[bucket].due(lane, token, number, upto, seen)
        )

    async def drop_due(
        self, bucket: int, lane: int, token: int, number: int, hour: int, length: int, upto: int
    ) -> DropReply:
        """See Buckets."""

        def drop() -> DropReply:
            reply = self.server.buckets[bucket].drop_due(lane, token, number, hour, length, upto)
            self._told(f"drop_due {hour} of {length}: {reply.dropped}", lane, bucket, reply.status)
            return reply

        return await self._ask("drop_due", drop)

    async def list_members(
        self, bucket: int, lane: int, token: int, number: int, package: str, first: int, count: int
    ) -> MembersReply:
        """See Buckets."""
        return await self._ask(
            "members",
            lambda: self.server.buckets[bucket].list_members(lane, token, number, package, first, count),
        )

    async def probe(self, bucket: int, lane: int, token: int, number: int) -> Status:
        """See Buckets."""
        return await self._ask("probe", lambda: self.server.buckets[bucket].probe(lane, token, number))

    async def expire(
        self, bucket: int, lane: int, token: int, number: int, lane_ms: int, length_ms: int
    ) -> ExpireReply:
        """See Buckets."""

        def expire() -> ExpireReply:
            held = self.server.buckets[bucket]
            return ExpireReply(*held.expire(lane, token, number, self.lanes, lane_ms, length_ms))

        return await self._ask("expire", expire)

    async def read_clients(
        self, bucket: int, lane: int, token: int, number: int, clients: list[str]
    ) -> ReadReply:
        """See Buckets."""

        def read() -> ReadReply:
            held = self.server.buckets[bucket]
            reply = copy.deepcopy(read_clients(held, lane, token, number, self.lanes, clients))
            self._told(f"read {clients} below {reply.floors}", lane, bucket, reply.status)
            return reply

        return await self._ask("read", read)

    async def restore(self, bucket: int, what: Restore) -> RestoreReply:
        """See Buckets."""

        def put() -> RestoreReply:
            reply = restore(self.server.buckets[bucket], what, self.lanes)
            names = [row.client for row in what.clients]
            self._told(
                f"restore {names} floors {what.floors}: {reply.whole}", what.lane, bucket, reply.status
            )
            return reply

        return await self._ask("restore", put)

    async def masters(self, buckets: Iterable[int]) -> list[int]:
        """See Buckets."""
        return [0 for _ in buckets]

    async def keys_at(self, _place: int) -> int:
        """See Buckets."""
        return await self._ask("keys", lambda: sum(len(held.states) for held in self.server.buckets))

    async def scan(self, _place: int) -> AsyncIterator[list[tuple[int, str, str]]]:
        """See Buckets: two clients a page, and the packages behind them."""
        names: list[tuple[int, str, str]] = await self._ask(
            "scan",
            lambda: [
                (number, kind, name)
                for number, held in enumerate(self.server.buckets)
                for kind, names in ((CLIENTS, held.states), (PACKAGES, held.members))
                for name in names
            ],
        )
        for at in range(0, len(names) + 1, 2):
            yield names[at : at + 2]

    async def account_shard(self, bucket: int, shard: int) -> list[tuple[str, str]]:
        """See Buckets: the first shard has all."""
        held = self.server.buckets[bucket].accounts
        return await self._ask("accounts", lambda: [] if shard else list(held.items()))

    async def first_member(self, bucket: int, package: str) -> str | None:
        """See Buckets."""
        held = self.server.buckets[bucket].members
        return await self._ask("member", lambda: next(iter(held.get(package, ())), None))

    async def client(self, client: str) -> tuple[bytes, int, dict[str, int]] | None:
        """See Buckets."""

        def look() -> tuple[bytes, int, dict[str, int]] | None:
            held = self.server.buckets[bucket_of(client, self.count)]
            state = held.states.get(client)
            if state is None:
                return None
            sums = held.clients[client]
            return state, sums.balance, dict(sums.used)

        return await self._ask("client", look)

    async def states(self, clients: Iterable[str]) -> dict[str, bytes]:
        """See Buckets."""
        names = list(clients)

        def look() -> dict[str, bytes]:
            held = [
                (name, self.server.buckets[bucket_of(name, self.count)].states.get(name)) for name in names
            ]
            return {name: blob for name, blob in held if blob is not None}

        return await self._ask("states", look)

    async def history(self, client: str) -> dict[str, bytes]:
        """See Buckets."""

        def look() -> dict[str, bytes]:
            held = self.server.buckets[bucket_of(client, self.count)].history.get(client, {})
            return {field: row for field, (_, row) in held.items()}

        return await self._ask("history", look)

    async def several(self, clients: Iterable[str]) -> dict[str, StoredClient]:
        """See Buckets."""
        found = {name: (await self.client(name), await self.history(name)) for name in clients}
        return {
            name: StoredClient(*held, history) for name, (held, history) in found.items() if held is not None
        }

    async def assigned(self, packages: Iterable[str]) -> frozenset[str]:
        """See Buckets."""
        names = list(packages)

        def look() -> frozenset[str]:
            return frozenset(
                name for name in names if any(bucket.members.get(name) for bucket in self.server.buckets)
            )

        return await self._ask("assigned", look)

    async def accounts(self, accounts: Iterable[str]) -> dict[str, str]:
        """See Buckets."""
        names = list(accounts)

        def look() -> dict[str, str]:
            held = [
                (name, self.server.buckets[bucket_of(name, self.count)].accounts.get(name)) for name in names
            ]
            return {name: owner for name, owner in held if owner is not None}

        return await self._ask("accounts", look)

    async def scan_clients(self) -> AsyncIterator[str]:
        """See Buckets."""
        for bucket in range(self.count):

            def scan(bucket: int = bucket) -> list[str]:
                return list(self.server.buckets[bucket].states)

            for name in await self._ask("scan", scan):
                yield name
