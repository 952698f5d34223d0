"""Due work that no call meets: found by the index of the lane's buckets, written as commands to ourselves.

A lane sees to the buckets whose commands come to it. One tick of a bucket is out at a time, with at most
TICK_CLIENTS clients: so work comes at the pace of the line, beside calls. Nothing rests on its
speed, for a call does what is due of its client itself (core/line/due.py).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

from rater.core.bucket.messages import bucket_of, read_hint
from rater.core.clients.state import read_state
from rater.core.commands.records import TickArgs, write_command
from rater.core.instants import HOUR_MS
from rater.core.journal.records import Outgoing
from rater.core.kinds import Do
from rater.store.buckets import Buckets
from rater.worker.lane import Lane
from rater.worker.shared import WorkerConnections

TICK_CLIENTS = 64
"""Clients of a tick: with 100, 4,006 of a million were renewed a second beside 2,000 CDR/s, and p99 of the
calls was 2.2 times that before (benchmarks/README.md)."""
LOOK_S = 1.0
"""How often the index is asked for what is new."""
AGAIN_S = 30.0
"""So long a tick that is out holds back the next one: brokers may forget its Kafka transaction."""
SWEEP_CLIENTS = 1000
"""Clients looked at in one go when what a version before left is taken over."""
MEMBERS = 5000
"""Clients of a package read in one piece."""

Ask = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class _Hints:
    """What was read of the index of one bucket."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}
        """Hour → how many of its hints were read."""
        self.left: list[tuple[int, str]] = []
        """(due moment, client) of those that were read and not worked off, in order."""
        self.out: tuple[str, float] | None = None
        """The tick that is out: its id, and since when."""
        self.looked_at = float("-inf")

    def waits(self) -> bool:
        """Return whether a tick is out that is to come back first."""
        return self.out is not None and time.monotonic() - self.out[1] < AGAIN_S

    def add(self, hints: list[tuple[int, str]]) -> None:
        """Add what was read."""
        self.left += hints
        self.left.sort()

    def due(self, now_ms: int) -> int:
        """Return how many of those that were read are due."""
        return bisect_right(self.left, now_ms, key=itemgetter(0))

    def next(self, now_ms: int) -> list[str]:
        """Take the clients of the next tick out of those that are due."""
        clients: dict[str, None] = {}
        taken = 0
        for due_ms, client in self.left:
            if due_ms > now_ms or len(clients) == TICK_CLIENTS:
                break
            clients[client] = None
            taken += 1
        del self.left[:taken]
        return list(clients)


class DueWork:
    """The due work of the buckets that a lane sees to."""

    def __init__(self, lane: Lane, connections: WorkerConnections, ask: Ask) -> None:
        """Work for this lane; ask: repeats a request to a bucket until it is answered."""
        self._lane, self._connections, self._ask = lane, connections, ask
        self._sweep: AsyncIterator[list[tuple[int, list[str]]]] | None = None
        self._swept: list[tuple[int, list[str]]] = []
        self._count = 0
        self._counted_at = float("-inf")

    @property
    def _store(self) -> Buckets:
        return self._connections.store

    @cached_property
    def _hints(self) -> dict[int, _Hints]:
        """By bucket of those that the lane sees to."""
        lanes = self._connections.topics.partitions
        return {
            bucket: _Hints() for bucket in range(self._store.count) if bucket % lanes == self._lane.number
        }

    def _overdue(self, now_ms: int) -> int:
        """Return how many hints are due and not in work."""
        return sum(hints.due(now_ms) for hints in self._hints.values())

    # ------------------------------------------------------------------ by the clock
    def ready(self) -> bool:
        """Return whether a tick could go out at once: then nobody waits for records before it does."""
        now_ms = time.time_ns() // 1_000_000
        left = {bucket for bucket, _ in self._swept}
        return any(
            (hints.due(now_ms) > 0 or bucket in left) and not hints.waits()
            for bucket, hints in self._hints.items()
        )

    async def ticks(self) -> list[Outgoing]:
        """Return the ticks that are to go out now: one of each bucket at most, none without a catalog."""
        now_ms, ticks = time.time_ns() // 1_000_000, list[Outgoing]()
        if self._lane.catalog is None:
            return ticks
        if time.monotonic() - self._counted_at >= LOOK_S:
            self._counted_at, self._lane.overdue = time.monotonic(), self._overdue(now_ms)
        for bucket, hints in self._hints.items():
            if hints.waits():
                continue
            # What is known is worked off first: of a million that are due few are here at a time.
            if not hints.due(now_ms) and time.monotonic() - hints.looked_at >= LOOK_S:
                hints.looked_at = time.monotonic()
                await self._look(bucket, hints, now_ms)
            clients = hints.next(now_ms) or await self._taken_over(bucket)
            if clients:
                hints.out = self._id(bucket, now_ms), time.monotonic()
                ticks.append(self._tick(hints.out[0], now_ms, bucket, clients, now_ms))
            else:
                hints.out = None
                await self._drop(bucket, hints, now_ms)
        return ticks

    def obeyed(self, bucket: int, command_id: str) -> None:
        """Note that a tick was carried out: the next one of its bucket may go."""
        hints = self._hints.get(bucket)
        if hints is not None and hints.out is not None and hints.out[0] == command_id:
            hints.out = None

    async def _look(self, bucket: int, hints: _Hints, now_ms: int) -> None:
        for hour, elements in await self._read(bucket, now_ms, hints.known):
            hints.known[hour] = hints.known.get(hour, 0) + len(elements)
            hints.add([read_hint(hour, element) for element in elements])

    async def _read(self, bucket: int, upto_ms: int, known: dict[int, int]) -> list[tuple[int, list[bytes]]]:
        lane = self._lane
        reply = await self._ask(
            lambda: self._store.due(
                bucket, lane.number, lane.token, lane.cursors[bucket].expected, upto_ms // HOUR_MS, known
            )
        )
        found: list[tuple[int, list[bytes]]] = reply.hints
        return found

    async def _drop(self, bucket: int, hints: _Hints, now_ms: int) -> None:
        """Drop the hours that are over and worked off."""
        lane, cursor = self._lane, self._lane.cursors[bucket]
        first = hints.left[0][0] // HOUR_MS if hints.left else now_ms // HOUR_MS
        for hour in sorted(hour for hour in hints.known if hour < min(first, now_ms // HOUR_MS)):
            length = hints.known[hour]
            reply = await self._ask(
                partial(
                    self._store.drop_due, bucket, lane.number, lane.token, cursor.expected, hour, length,
                    now_ms // HOUR_MS,
                )
            )  # fmt: skip
            cursor.expected = reply.number
            if reply.dropped:
                del hints.known[hour]

    # ------------------------------------------------------------------ asked for
    async def ticks_upto(self, upto_ms: int, command_id: str) -> list[Outgoing]:
        """Return the ticks that do all that is due up to an instant; the last one tells that it is done."""
        parts = []
        for bucket in self._hints:
            known: dict[int, int] = {}
            clients: dict[str, None] = {}
            while found := await self._read(bucket, upto_ms, known):
                for hour, elements in found:
                    known[hour] = known.get(hour, 0) + len(elements)
                    for due_ms, client in (read_hint(hour, element) for element in elements):
                        if due_ms <= upto_ms:
                            clients[client] = None
            parts += [(bucket, part) for part in _parts(clients)]
        return [
            self._tick(
                self._id(bucket, upto_ms), upto_ms, bucket, part, upto_ms,
                done=command_id if place == len(parts) else None,
            )
            for place, (bucket, part) in enumerate(parts, 1)
        ]  # fmt: skip

    async def package_ticks(self, changed: Iterable[tuple[str, int]]) -> list[Outgoing]:
        """Return ticks for the clients of packages that have changed; with each, when it did."""
        lane, ticks = self._lane, []
        for package, at_ms in changed:
            for bucket in self._hints:
                clients: dict[str, None] = {}
                first = 0
                while True:
                    reply = await self._ask(
                        partial(
                            self._store.list_members, bucket, lane.number, lane.token,
                            lane.cursors[bucket].expected, package, first, MEMBERS,
                        )
                    )  # fmt: skip
                    clients.update(dict.fromkeys(reply.clients))
                    first += len(reply.clients)
                    if len(reply.clients) < MEMBERS:
                        break
                until_ms = max(at_ms, time.time_ns() // 1_000_000)
                ticks += [
                    self._tick(self._id(bucket, until_ms), until_ms, bucket, part, until_ms)
                    for part in _parts(clients)
                ]
        return ticks

    # ------------------------------------------------------------------ coming from a version before
    async def _taken_over(self, bucket: int) -> list[str]:
        """Return clients of the bucket that a version before left, until all of them are taken over."""
        if self._lane.standing.position.life:
            return []
        if self._sweep is None:
            self._sweep = self._left()
        while not any(of == bucket for of, _ in self._swept):
            found = await anext(self._sweep, None)
            if found is None:
                if not self._swept:
                    self._lane.all_taken_over()
                return []
            self._swept += found
        place = next(n for n, (of, _) in enumerate(self._swept) if of == bucket)
        return self._swept.pop(place)[1]

    async def _left(self) -> AsyncIterator[list[tuple[int, list[str]]]]:
        """Yield (bucket, clients) of what is to be taken over, some at a time."""
        ids: list[str] = []
        async for client in self._store.scan_clients():
            if bucket_of(client, self._store.count) in self._hints:
                ids.append(client)
            if len(ids) >= SWEEP_CLIENTS:
                yield await self._lifeless(ids)
                ids = []
        yield await self._lifeless(ids)

    async def _lifeless(self, ids: list[str]) -> list[tuple[int, list[str]]]:
        found: dict[int, dict[str, None]] = {}
        for client, raw in (await self._store.states(ids)).items():
            if any(of.life is None for of in read_state(raw).packages):
                found.setdefault(bucket_of(client, self._store.count), {})[client] = None
        return [(bucket, part) for bucket, clients in found.items() for part in _parts(clients)]

    # ------------------------------------------------------------------ inside
    def _id(self, bucket: int, at_ms: int) -> str:
        self._count += 1
        return f"due/{bucket}/{self._lane.token}/{self._count}/{at_ms}"

    def _tick(
        self, command_id: str, at_ms: int, bucket: int, clients: list[str], until_ms: int,
        done: str | None = None,
    ) -> Outgoing:  # fmt: skip
        args = TickArgs(bucket, clients, until_ms, done)
        return None, write_command(command_id, Do.TICK, at_ms, args), []


def _parts(clients: Iterable[str]) -> list[list[str]]:
    every = list(clients)
    return [every[at : at + TICK_CLIENTS] for at in range(0, len(every), TICK_CLIENTS)]
