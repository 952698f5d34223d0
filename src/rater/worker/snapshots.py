"""Snapshots of the clients of a lane's own buckets, round by round, spread over time (PROTOCOL.md 3).

They go into the lane's Kafka transactions. A client of whom something is kept that is not settled waits for
the end of the round; so that this comes, a lane that has come to rest settles what it has published.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from functools import partial

import structlog
from msgspec import Struct, field

from rater.core.bucket.messages import DrawRequest, Status
from rater.core.bucket.restoring import ReadReply
from rater.core.journal.records import Outgoing
from rater.core.journal.snapshots import (
    RECORD_BYTES,
    AccountsHead,
    PackagesHead,
    RoundHead,
    largest,
    record_of,
    snapshots_of,
)
from rater.core.line.batch import Batch
from rater.store.keys import ACCOUNT_SHARDS
from rater.store.snapshots import CLIENTS, SCAN_COUNT
from rater.worker.buckets import LaneBuckets
from rater.worker.shared import SlowestLane

log = structlog.get_logger()

CLIENTS_READ = 300
"""Clients read by one call: some 5 ms of the server's time."""
SPREAD = 10
"""A round takes a tenth of the time from one to the next, if what has to be settled allows it."""
PAUSE_S = 10.0
"""The longest time between two pages of keys."""
SETTLE_S = 30.0
"""So soon a lane that has come to rest settles, and clients that wait are read again."""


class _Round(Struct):
    """A round under way, by bucket."""

    at_ms: int
    masters: list[object]
    positions: dict[int, tuple[int, ...]]
    """The floors at its beginning."""
    pages: AsyncIterator[list[tuple[int, str, str]]]
    """Of keys; what lies in them is still to be looked at."""
    pause_s: float
    """Between pages."""
    more: bool = True
    left: dict[int, dict[str, None]] = field(default_factory=dict)
    """Clients that are to be read."""
    waiting: dict[int, dict[str, None]] = field(default_factory=dict)
    """Clients that are to be read again."""
    written: dict[int, set[str]] = field(default_factory=dict)
    packages: dict[int, dict[str, None]] = field(default_factory=dict)


class Snapshots:
    """What a lane writes of its own buckets, and when."""

    def __init__(self, buckets: LaneBuckets, oldest: SlowestLane) -> None:
        """Write nothing before it is asked for."""
        self._buckets, self._oldest = buckets, oldest
        connections, lane = buckets.connections, buckets.lane
        lanes = connections.topics.partitions
        self._own = [at for at in range(connections.store.count) if at % lanes == lane.number]
        self._every_s = connections.settings.worker.snapshots_every_s
        self._round: _Round | None = None
        self._settle_s = min(SETTLE_S, self._every_s / SPREAD)
        self._settled_at = time.monotonic()
        self._next_at = self._settled_at + (self._settle_s if self._own else float("inf"))
        self._told = [cursor.floor for cursor in lane.cursors]

    def ready(self) -> bool:
        """Return whether something is to be done at once."""
        return bool(self._every_s) and time.monotonic() >= min(
            self._next_at, self._settled_at + self._settle_s
        )

    async def batches(self) -> list[Batch]:
        """Return a batch of what is to be written now, or of nothing but a mark, where that is due."""
        if not self._every_s:
            return []
        now, batch, settles = time.monotonic(), Batch(self._buckets.lane.standing, []), False
        if now >= self._next_at:
            batch.snapshots += await self._go_on()
        if now >= self._settled_at + self._settle_s:
            self._settled_at, settles = now, await self._settle()
        return [batch] if batch.snapshots or settles else []

    # ------------------------------------------------------------------ coming to rest
    async def _settle(self) -> bool:
        """Tell buckets what they may forget; returns whether a commit is lacking that proves the last one.

        Else a lane that has come to rest would keep for hours what it has published.
        """
        lane, store = self._buckets.lane, self._buckets.connections.store
        for bucket, cursor in enumerate(lane.cursors):
            if cursor.floor > self._told[bucket]:
                standing = lane.standing
                request = DrawRequest(
                    lane.number, lane.token, cursor.expected, standing.lane_ms,
                    standing.lane_ms // standing.generation_ms, cursor.trim, cursor.floor,
                    [], [], [], [], b"", contextless=True,
                )  # fmt: skip
                reply = await self._buckets.asked(partial(store.draw, bucket, request), patient=False)
                if reply.status == Status.OK:
                    cursor.expected, self._told[bucket] = reply.number, request.floor
        return any(cursor.published > cursor.trim for cursor in lane.cursors)

    # ------------------------------------------------------------------ a round
    async def _go_on(self) -> list[Outgoing]:
        """Do the next step of a round, beginning one where none is under way."""
        if self._round is None:
            self._round = await self._begin()
        of = self._round
        if of is None:
            self._next_at = time.monotonic() + self._settle_s
            return []
        records: list[Outgoing] = []
        if of.more:
            await self._page(of)
            self._next_at = time.monotonic() + of.pause_s
        elif not any(of.left.values()):
            of.left, of.waiting = of.waiting, {}
            self._next_at = time.monotonic() + (self._settle_s if any(of.left.values()) else 0)
        for bucket, names in of.left.items():
            if len(names) >= CLIENTS_READ or (names and not of.more):
                records += await self._read(of, bucket, names)
                break
        else:
            if not of.more and not any(of.waiting.values()):
                return await self._end(of)
        if largest(records) > RECORD_BYTES:
            log.error(
                "a client's snapshot is too large; the round is given up", lane=self._buckets.lane.number
            )
            self._over()
            return []
        return records

    async def _begin(self) -> _Round | None:
        """Begin a round; None: not now."""
        store = self._buckets.connections.store
        positions = {}
        for bucket in self._own:
            read = await self._ask(bucket, [])
            if read.status != Status.OK:
                return None
            positions[bucket] = tuple(read.floors)
        masters = await store.masters(self._own)
        places = sorted(set(masters))
        pages = sum([await store.keys_at(place) for place in places]) // SCAN_COUNT + 1

        async def every() -> AsyncIterator[list[tuple[int, str, str]]]:
            for place in places:
                async for page in store.scan(place):
                    yield page

        at_ms = time.time_ns() // 1_000_000
        return _Round(at_ms, list(masters), positions, every(), min(PAUSE_S, self._every_s / SPREAD / pages))

    async def _page(self, of: _Round) -> None:
        """Look at a page of keys: clients are to be read, packages are noted."""
        page = await anext(of.pages, None)
        if page is None:
            of.more = False
        for bucket, kind, name in page or ():
            if bucket in of.positions:
                if kind != CLIENTS:
                    of.packages.setdefault(bucket, {})[name] = None
                elif name not in of.written.get(bucket, ()):
                    of.left.setdefault(bucket, {})[name] = None

    async def _read(self, of: _Round, bucket: int, names: dict[str, None]) -> list[Outgoing]:
        """Read some clients of a bucket."""
        some = [name for name, _ in zip(names, range(CLIENTS_READ), strict=False)]
        read = await self._ask(bucket, some)
        if read.status != Status.OK:
            self._next_at = time.monotonic() + self._settle_s
            return []
        if read.copies:
            await self._oldest.lane_ms(self._buckets.connections)  # it brings the positions
        records, wait = snapshots_of(read, bucket, self._oldest.positions)
        for name in some:
            del names[name]
        of.waiting.setdefault(bucket, {}).update(dict.fromkeys(wait))
        of.written.setdefault(bucket, set()).update(row.client for row in read.clients)
        return records

    async def _end(self, of: _Round) -> list[Outgoing]:
        """Return the records that end a round: what there is besides clients, then that it has ended."""
        store, records = self._buckets.connections.store, list[Outgoing]()
        if list(await store.masters(self._own)) != of.masters:
            log.warning("a bucket has moved; its round begins again", lane=self._buckets.lane.number)
            self._round = None
            return []
        for bucket, positions in of.positions.items():
            for shard in range(ACCOUNT_SHARDS):
                records.append(
                    record_of(AccountsHead(bucket, shard), await store.account_shard(bucket, shard))
                )
            names = of.packages.get(bucket, ())
            members = [(name, await store.first_member(bucket, name)) for name in names]
            records.append(record_of(PackagesHead(bucket), [pair for pair in members if pair[1] is not None]))
            clients = len(of.written.get(bucket, ()))
            records.append(record_of(RoundHead(bucket, positions, clients, of.at_ms, store.count)))
        if not await self._known():  # behind all that was read
            self._next_at = time.monotonic() + self._settle_s
            return []
        if largest(records) > RECORD_BYTES:
            log.error(
                "an index's snapshot is too large; the round is given up", lane=self._buckets.lane.number
            )
            records = []
        self._over()
        return records

    async def _known(self) -> bool:
        """Return whether each bucket is open; leave the lane where one does not know us.

        On a server that was started anew, or that took over, the cursor of a scan means other keys, so
        clients may have been passed by.
        """
        replies = [await self._ask(bucket, []) for bucket in self._own]
        return all(reply.status == Status.OK for reply in replies)

    def _over(self) -> None:
        self._round, self._next_at = None, time.monotonic() + self._every_s * (1 - 1 / SPREAD)

    async def _ask(self, bucket: int, clients: Iterable[str]) -> ReadReply:
        lane, store = self._buckets.lane, self._buckets.connections.store
        asked = partial(
            store.read_clients, bucket, lane.number, lane.token, lane.cursors[bucket].expected, list(clients)
        )
        return await self._buckets.asked(asked, patient=False)
