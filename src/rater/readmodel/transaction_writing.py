"""Transactions into the read model: each in its segment, and what reversals take back stands no more."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select

from rater.readmodel import schema
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, Reversal, id_key
from rater.readmodel.schema import KINDS, REVERSAL

SEGMENT_ROWS = 500_000
"""Transactions of a segment: the part of its indexes that is written to stays in memory."""
_COLUMNS = [column.name for column in schema.txn.columns]
_SEGMENT, _CLIENT, _ID, _REVISION, _KIND, _STANDS = map(
    _COLUMNS.index, ("segment", "client", "id", "revision", "kind", "stands")
)
_TAKE_BACK = (
    "UPDATE txn SET stands = 0 WHERE segment IN (SELECT id FROM segment) AND id_key = ? AND client = ? "
    "AND id = ? AND revision = ? AND kind <> ? AND stands = 1 RETURNING kind"
)


class TransactionWriter:
    """What writes transactions into a database."""

    def __init__(self, database: Database, run: Connection, *, built: bool) -> None:
        """built: reversals are carried out at once; else when all is read and there are indexes."""
        self._db, self._built = database, built
        rows = run.execute(select(schema.segment).order_by(schema.segment.c.id)).all()
        self._froms: list[int] = [row.from_ms for row in rows]
        self._sizes: list[int] = [row.rows for row in rows]
        self._latest_ms = 0
        self._waiting = {Reversal(*row) for row in run.execute(select(schema.taken_back))} if built else set()
        """Reversals whose transactions were not read yet."""

    def write(self, run: Connection, batch: Batch, counts: Counter[str]) -> None:
        """Add a batch's transactions. counts: what becomes more."""
        rows = batch.txns
        if rows:
            self._place(run, rows)
            if self._waiting:
                self._stand(run, rows)
            self._db.insert(run, schema.txn, rows)
            counts["transactions/all"] += len(rows)
            counts["transactions"] += sum(row[_STANDS] for row in rows)
            for kind, number in Counter(
                row[_KIND] for row in rows if row[_STANDS] or row[_KIND] == REVERSAL
            ).items():
                counts[f"transactions/{KINDS[kind]}"] += number
        if not self._built:
            self._db.put(run, schema.taken_back, batch.reversals)
        elif batch.reversals:
            self._waiting |= self._take_back(run, batch.reversals, counts)

    def _place(self, run: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Give each transaction its segment: that of its time."""
        if not self._froms:
            self._froms, self._sizes = [0], [0]
        froms, sizes = self._froms, Counter[int]()
        for at, row in enumerate(rows):
            of = max(bisect_right(froms, row[0]) - 1, 0)
            sizes[of] += 1
            if of:
                rows[at] = (*row[:_SEGMENT], of, *row[_SEGMENT + 1 :])
        self._latest_ms = max(self._latest_ms, *(row[0] for row in rows), 0)
        for of, number in sizes.items():
            self._sizes[of] += number
        if self._sizes[-1] >= SEGMENT_ROWS and self._latest_ms >= froms[-1]:
            froms.append(self._latest_ms + 1)
            self._sizes.append(0)
            sizes[len(froms) - 1] = 0
        self._db.put(run, schema.segment, [(of, froms[of], self._sizes[of]) for of in sizes])

    def _stand(self, run: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Note of new transactions that their reversals were read before."""
        for at, row in enumerate(rows):
            own = Reversal(row[_CLIENT], row[_ID], row[_REVISION])
            if own in self._waiting and row[_KIND] != REVERSAL:
                rows[at] = (*row[:_STANDS], 0)
                self._waiting.discard(own)
                self._db.one(
                    run, "DELETE FROM taken_back WHERE client = ? AND id = ? AND revision = ?", own
                )  # fmt: skip

    def _take_back(
        self, run: Connection, reversals: Iterable[Reversal], counts: Counter[str]
    ) -> set[Reversal]:  # fmt: skip
        """Carry reversals out; returns those whose transactions are not there yet, which are kept."""
        lacking = set()
        for one in reversals:
            key = id_key(one.id.rpartition("/")[0])
            asked = key, one.client, one.id, one.revision, REVERSAL
            found = self._db.one(run, _TAKE_BACK, asked).all()
            counts["transactions"] -= len(found)
            for row in found:
                counts[f"transactions/{KINDS[row.kind]}"] -= 1
            if not found:
                lacking.add(one)
        self._db.put(run, schema.taken_back, sorted(lacking))
        return lacking

    def finish(self, run: Connection, counts: Counter[str]) -> None:
        """Carry out what was left for the end of building, when there are indexes."""
        every = [Reversal(*row) for row in run.execute(select(schema.taken_back))]
        self._db.one(run, "DELETE FROM taken_back", ())
        self._waiting = self._take_back(run, every, counts)
        self._built = True
