"""Following the topics: what is committed there is read, and written into the database, batch by batch.

Building is the same from the beginning, without the indexes that its end makes. Where retention has cut the
journal, clients are taken from snapshots, and transactions begin with the first that is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from rater.catalogs import Catalogs
from rater.core.catalog.compiled import Catalog
from rater.core.clients.state import read_state
from rater.core.journal.snapshots import ClientHead, read_client
from rater.errors import Halt, NoCatalog, Wait
from rater.metrics import Metrics
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, Changed
from rater.readmodel.listening import Listening
from rater.readmodel.progress import Progress
from rater.readmodel.writing import BUILT, CATALOG, SINCE, Writer
from rater.store.buckets import Buckets
from rater.stream.connecting import Connection
from rater.stream.journal import last_marks
from rater.stream.onward import Onward, Place
from rater.stream.records import begins_ms, bounds
from rater.stream.snapshots import read_snapshots
from rater.stream.topics import Topics, topic_ids

log = structlog.get_logger()

RECORDS_MAX = 20_000
"""Records of one transaction of the database."""
WAIT_MS = 100
"""So long a look for new records waits."""
AGAIN_S = 1.0
"""So soon it is tried again where Kafka or Redis is away; so often what time alone changes is looked for."""
TRIM_S = 600.0
"""So often rows are taken out whose records are gone."""
TURNED_MAX = 500
"""Clients that are looked at together because of the time."""


class Following:
    """What follows the topics into a database."""

    def __init__(
        self,
        client: Connection,
        topics: Topics,
        store: Buckets,
        catalogs: Catalogs,
        database: Database,
        metrics: Metrics | None = None,
    ) -> None:
        """store: asked for clients whose packages stand differently by time alone."""
        self._client, self._topics, self._store, self._catalogs = client, topics, store, catalogs
        self._db, self._metrics = database, metrics
        self._writer: Writer | None = None
        self._catalog: Catalog | None = None
        self._asked = False
        self._looked_s = self._trimmed_s = 0.0
        self.progress = Progress(topics.commands, topics.transactions)
        self.listening = Listening()

    async def run(self) -> None:
        """Follow until cancelled. Raises Halt where time heals nothing; what is away is waited for."""
        while True:
            try:
                await self._follow()
            except Wait as error:
                log.warning("the read model waits", reason=str(error))
                await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        self._writer = writer = await asyncio.to_thread(Writer, self._db)
        positions = await self._begin(writer)
        async with Onward(self._client, positions) as reader:
            self.progress.begin(positions, await self._ends(), built=BUILT in writer.said)
            while True:
                found = await reader.gather(RECORDS_MAX, WAIT_MS)
                batch = await asyncio.to_thread(self._decoded, found)
                await self._adopt(batch)
                await asyncio.to_thread(
                    writer.write, batch, dict(reader.positions), self._catalog, time.time_ns() // 1_000_000
                )
                waiting = {place for place in reader.positions if reader.waits(place)}
                await self.progress.read(batch, found, reader.positions, waiting)
                self.listening.tell(batch)
                if self._metrics is not None:
                    self._metrics.read_model(batch.records, self.progress.behind_s)
                if self.progress.is_read and BUILT not in writer.said:
                    log.info("the read model makes its indexes", records=sum(reader.positions.values()))
                    await asyncio.to_thread(writer.finish)
                    log.info("the read model is built", database=self._db.shown)
                self.progress.built = BUILT in writer.said
                await self._besides(writer)

    def _decoded(self, found: Mapping[Place, list[object]]) -> Batch:
        batch, topics = Batch(), self._topics
        take = {
            topics.transactions: batch.add_journal, topics.rejected: batch.add_rejected,
            topics.events: batch.add_event, topics.commands: batch.add_command,
        }  # fmt: skip
        for (topic, _), records in found.items():
            add = take[topic]
            for record in records:
                add(record)  # type: ignore[arg-type]  # records of Kafka's library, which has no types
        if batch.unreadable:
            log.warning("records that are none of ours are in no list", records=batch.unreadable)
        return batch

    async def caught_up(self, timeout_s: float) -> bool:
        """Wait until all that is committed by now is in the rows; False: it is not by then."""
        return await self.progress.wait_until(await self._ends(), timeout_s)

    def events_upto(self) -> list[int]:
        """Return, for each partition of the topic of events, the offset below which all is in the rows."""
        positions, name = self._db.positions(), self._topics.events
        return [positions.get((name, part), 0) for part in range(self._topics.partitions)]

    # ------------------------------------------------------------------ where to begin
    async def _begin(self, writer: Writer) -> dict[Place, int]:
        """Return where to read on, having looked whether the topics still are those that were read."""
        names = self._followed()
        ids = await topic_ids(self._client, list(names))
        for name, topic_id in ids.items():
            known = writer.said.get(f"topic/{name}")
            if known not in (None, topic_id):
                raise Halt(
                    f"the topic {name} was created anew since it was read into {self._db.shown}: delete that "
                    "database, or name another one by admin.database; it is built again from Kafka"
                )
        await asyncio.to_thread(writer.note, {f"topic/{name}": of for name, of in ids.items()})
        positions: dict[Place, int] = {}
        cut = False
        for name in names:
            spans = await bounds(self._client, name, self._topics.partitions)
            for part, (first, _) in spans.items():
                at = writer.positions.get((name, part), 0)
                cut |= name == self._topics.transactions and at < first
                positions[name, part] = max(at, first)
            if cut and name == self._topics.transactions:
                await self._restore(writer, spans)
        return positions

    def _followed(self) -> tuple[str, ...]:
        topics = self._topics
        return topics.transactions, topics.commands, topics.events, topics.rejected

    async def _ends(self) -> dict[Place, int]:
        found: dict[Place, int] = {}
        for name in self._followed():
            spans = await bounds(self._client, name, self._topics.partitions)
            found |= {(name, part): end for part, (_, end) in spans.items()}
        return found

    async def _restore(self, writer: Writer, spans: Mapping[int, tuple[int, int]]) -> None:
        """Take clients from snapshots: records of the journal that would tell of them are gone."""
        since = await begins_ms(self._client, self._topics.transactions, spans)
        log.warning(
            "the journal was cut: clients are read from snapshots, and older transactions are in no list"
        )
        await self._adopt(Batch())
        snapshots = await bounds(self._client, self._topics.snapshots, self._topics.partitions)
        for part, (_, end) in snapshots.items():
            async for records in read_snapshots(self._client, self._topics.snapshots, part, end):
                changed: dict[str, Changed] = {}
                for offset, head, body in records:
                    if isinstance(head, ClientHead):
                        row = read_client(head, body)
                        changed[head.client] = Changed(row.version, read_state(row.state), (part, offset))
                now_ms = time.time_ns() // 1_000_000
                await asyncio.to_thread(writer.restore, changed, self._catalog, now_ms)
        if since is not None:
            await asyncio.to_thread(writer.note, {SINCE: str(since)})

    # ------------------------------------------------------------------ the catalog
    async def _adopt(self, batch: Batch) -> None:
        """Have the catalog that marks, or states of clients, name."""
        have = -1 if self._catalog is None else self._catalog.version
        newest = max(batch.marks.values(), key=lambda mark: mark.catalog, default=None)
        needed = max((one.state.catalog for one in batch.changed.values()), default=0)
        if not self._asked or needed > max(have, 0 if newest is None else newest.catalog):
            self._asked = True  # marks that come later tell of later ones
            marks = await last_marks(self._client, self._topics.transactions, self._topics.partitions)
            known = [mark for mark in (*marks, newest) if mark is not None]
            newest = max(known, key=lambda mark: mark.catalog, default=None)
        if newest is None or newest.catalog <= max(have, 0):
            return
        try:
            catalog = await self._catalogs.at(newest.catalog, newest.body)
            _, content = await self._catalogs.content(newest.body)
        except NoCatalog as error:
            log.warning("the read model goes on with the catalog before", reason=str(error))
            return
        writer = self._writer
        if writer is not None and catalog is not None:
            if writer.said.get(CATALOG) != str(newest.catalog):
                await asyncio.to_thread(writer.catalog, newest.catalog, content)
            self._catalog = catalog

    # ------------------------------------------------------------------ besides
    async def _besides(self, writer: Writer) -> None:
        """See to what no record says: what time changes, what is gone; and tell how it stands."""
        if BUILT not in writer.said or time.monotonic() - self._looked_s < AGAIN_S:
            return
        self._looked_s = time.monotonic()
        await self._look_again(writer)
        if time.monotonic() - self._trimmed_s >= TRIM_S:
            self._trimmed_s = time.monotonic()
            for name, topic in (("rejected", self._topics.rejected), ("event", self._topics.events)):
                spans = await bounds(self._client, topic, self._topics.partitions)
                begins = {part: first for part, (first, _) in spans.items()}
                await asyncio.to_thread(writer.trim, name, begins)

    async def _look_again(self, writer: Writer) -> None:
        now_ms = time.time_ns() // 1_000_000
        turned = await asyncio.to_thread(writer.turned, now_ms, TURNED_MAX)
        if not turned:
            return
        states = await self._store.states([one.client for one in turned])
        changed = {}
        for one in turned:
            raw = states.get(one.client)
            state = None if raw is None else read_state(raw)
            # Another version is on its way in the journal, and has the client looked at anyway.
            if state is not None and state.version == one.version:
                changed[one.client] = Changed(one.version, state, one.place)
        await asyncio.to_thread(writer.restore, changed, self._catalog, now_ms)
        self.listening.tell_clients(changed)
        await asyncio.to_thread(writer.postpone, [one.client for one in turned], now_ms)
