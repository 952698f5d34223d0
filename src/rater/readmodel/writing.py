"""Writing into the read model: what a batch of records says, and the positions behind it, in one transaction.

Whoever dies has both or neither. There is one writer: it stops where another one has moved the positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, delete, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import Content
from rater.errors import Halt
from rater.readmodel import schema
from rater.readmodel.client_writing import ClientWriter, Turned
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, Changed
from rater.readmodel.transaction_writing import TransactionWriter

BUILT = "built"
SINCE = "since_ms"
CATALOG = "catalog"
TRIMMED_AT_ONCE = 5000

_JOB = """INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job) DO UPDATE SET
started_ms = CASE WHEN excluded.started_ms < job.started_ms THEN excluded.started_ms ELSE job.started_ms END,
last_ms = CASE WHEN excluded.last_ms > job.last_ms THEN excluded.last_ms ELSE job.last_ms END,
clients = job.clients + excluded.clients, done = job.done + excluded.done,
given_up = job.given_up + excluded.given_up, calls = job.calls + excluded.calls,
changed = job.changed + excluded.changed"""


class Writer:
    """What writes into a database."""

    def __init__(self, database: Database) -> None:
        """Go on from what is there."""
        self._db = database
        self.said = database.said()
        self.positions = database.positions()
        self._clients = ClientWriter(database)
        with database.engine.connect() as run:
            self._transactions = TransactionWriter(database, run, built=BUILT in self.said)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, Counter[str]]]:
        counts: Counter[str] = Counter()
        try:
            with self._db.engine.begin() as run:
                yield run, counts
                rows = [(name, number) for name, number in counts.items() if number]
                self._db.put(run, schema.count, rows, adds=["number"])
        except SQLAlchemyError as error:
            raise Halt(self._db.why(error)) from error

    def write(
        self, batch: Batch, positions: Mapping[tuple[str, int], int], catalog: Catalog | None, now_ms: int
    ) -> None:
        """Add what records said, up to these positions: all of it or nothing.

        Raises Halt where the database cannot be written to, or somebody else writes into it.
        """
        with self._writing() as (run, counts):
            self._move(run, positions)
            self._transactions.write(run, batch, counts)
            self._clients.write(run, batch.changed, catalog, now_ms, counts)
            self._rejected(run, batch, counts)
            self._db.insert(run, schema.event, batch.events)
            counts["events"] += len(batch.events)
            for row in batch.events:
                counts[f"events/{row[4]}"] += 1
            self._db.insert(run, schema.command, batch.commands)
            counts["commands"] += sum(not row[-1] for row in batch.commands)
            self._db.put(run, schema.result, batch.results)
            self._db.many(run, _JOB, batch.jobs)
        self.positions |= positions

    def _move(self, run: Connection, positions: Mapping[tuple[str, int], int]) -> None:
        for (topic, part), upto in positions.items():
            before = self.positions.get((topic, part))
            if before == upto:
                continue
            if before is None:
                new = "INSERT INTO position VALUES (?, ?, ?) ON CONFLICT (topic, part) DO NOTHING"
                done = self._db.one(run, new, (topic, part, upto))
            else:
                moved = 'UPDATE position SET "next" = ? WHERE topic = ? AND part = ? AND "next" = ?'
                done = self._db.one(run, moved, (upto, topic, part, before))
            if done.rowcount != 1:
                raise Halt(
                    f"another process follows the topics into {self._db.shown}: end one of the two, or give "
                    "one of them another admin.database"
                )

    def _rejected(self, run: Connection, batch: Batch, counts: Counter[str]) -> None:
        self._db.insert(run, schema.rejected, batch.rejected)
        counts["rejected"] += len(batch.rejected)
        for row in batch.rejected:
            counts[f"rejected/{row[3]}"] += 1
        again = [
            (part, topic, offset, note) for part, topic, offsets, note in batch.again for offset in offsets
        ]
        self._db.many(
            run,
            "UPDATE rejected SET again = 1 WHERE part = ? AND topic = ? AND source_place = ? AND place < ?",
            again,
        )

    # ------------------------------------------------------------------ besides
    def restore(
        self, changed: Mapping[str, Changed], catalog: Catalog | None, now_ms: int
    ) -> None:  # fmt: skip
        """Bring clients to states of snapshots, or look at them again as they stand now."""
        with self._writing() as (run, counts):
            self._clients.write(run, changed, catalog, now_ms, counts)

    def turned(self, now_ms: int, limit: int) -> list[Turned]:
        """Return clients of whom a package stands differently by now."""
        try:
            with self._db.engine.connect() as run:
                return self._clients.turned(run, now_ms, limit)
        except SQLAlchemyError as error:
            raise Halt(self._db.why(error)) from error

    def postpone(self, clients: Collection[str], now_ms: int) -> None:
        """Look at these clients later."""
        with self._writing() as (run, _):
            self._clients.postpone(run, clients, now_ms)

    def catalog(self, version: int, content: Content) -> None:
        """Put the packages and numbers of a catalog in the place of those before."""
        with self._writing() as (run, _):
            self._clients.catalog(run, content)
            self._db.note(run, {CATALOG: str(version)})

    def note(self, said: Mapping[str, str]) -> None:
        """Note something about the database as a whole."""
        with self._writing() as (run, _):
            self._db.note(run, said)
        self.said |= said

    def finish(self) -> None:
        """End the building: make the indexes, carry out the reversals, and note that it is built."""
        try:
            self._db.make_late()
        except SQLAlchemyError as error:
            raise Halt(self._db.why(error)) from error
        with self._writing() as (run, counts):
            self._transactions.finish(run, counts)
            self._db.note(run, {BUILT: "1"})
        self.said[BUILT] = "1"

    def trim(self, table_name: str, begins: Mapping[int, int]) -> int:
        """Take out the oldest rows whose records are gone. begins: by partition, what is there; how many."""
        table = schema.metadata.tables[table_name]
        at = (table.c.ms, table.c.part, table.c.place)
        taken = 0
        while True:
            with self._writing() as (run, counts):
                kind = table.c.reason if table_name == "rejected" else table.c.type
                oldest = run.execute(select(*at, kind).order_by(*at).limit(TRIMMED_AT_ONCE)).all()
                gone = [row for row in oldest if row.place < begins.get(row.part, 0)]
                for row in gone:
                    run.execute(delete(table).where(tuple_(*at) == tuple_(*row[:3])))
                    counts[f"{table_name}/{row[3]}"] -= 1
                counts[table_name] -= len(gone)
            taken += len(gone)
            if len(gone) < TRIMMED_AT_ONCE:
                return taken
