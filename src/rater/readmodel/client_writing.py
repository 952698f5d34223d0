"""Clients into the read model: a client's newest state, with its accounts, packages and DIDs; the catalog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, select, update

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import Content
from rater.readmodel import schema
from rater.readmodel.catalog_rows import did_rows, package_rows
from rater.readmodel.database import Database
from rater.readmodel.decoding import Changed
from rater.readmodel.schema import STATUSES
from rater.readmodel.standings import ClientRows, rows_of

AGAIN_MS = 5000
"""So soon a client package is looked at again whose client is being changed."""
_ASKED_MAX = 500
_CLIENT = [column.name for column in schema.client.columns]
_PACKAGE = [column.name for column in schema.client_package.columns]
_RESELLER = _CLIENT.index("reseller")
_OF_PACKAGE, _STATUS, _SINCE = map(_PACKAGE.index, ("package", "status", "since_ms"))


class Turned(NamedTuple):
    """A client of whom something stands differently by now: the version and the place of its state."""

    client: str
    version: int
    place: tuple[int, int]


class ClientWriter:
    """What writes clients into a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def write(
        self, run: Connection, changed: Mapping[str, Changed], catalog: Catalog | None, now_ms: int,
        counts: Counter[str],
    ) -> None:  # fmt: skip
        """Bring clients to these states, but for those that are at a later version already."""
        for names in _parts(list(changed)):
            found = run.execute(select(schema.client).where(schema.client.c.id.in_(names))).all()
            before = {row.id: tuple(row) for row in found}
            newer = {row.id for row in found if row.version > changed[row.id].version}
            rows = {
                name: rows_of(changed[name].state, catalog, now_ms, changed[name].place)
                for name in names
                if name not in newer
            }
            self._write(run, rows, before, counts)

    def _write(
        self, run: Connection, rows: Mapping[str, ClientRows], before: Mapping[str, tuple[Any, ...]],
        counts: Counter[str],
    ) -> None:  # fmt: skip
        for name, own in rows.items():
            _count_client(counts, before.get(name), -1)
            _count_client(counts, own.client, 1)
        self._db.put(run, schema.client, [own.client for own in rows.values()])
        for table, new in (
            (schema.account, [row for own in rows.values() for row in own.accounts]),
            (schema.held_did, [row for own in rows.values() for row in own.dids]),
        ):
            self._replace(run, table, rows, new)
        packages = [row for own in rows.values() for row in own.packages]
        for row, number in self._replace(run, schema.client_package, rows, packages):
            _count_package(counts, row, number)

    def _replace(
        self, run: Connection, table: Table, clients: Collection[str], new: Sequence[tuple[Any, ...]]
    ) -> list[tuple[tuple[Any, ...], int]]:
        """Put rows in the place of those of clients; returns (row, -1: gone, 1: new) of what differs."""
        found = run.execute(select(table).where(table.c.client.in_(list(clients))))
        old = {row[0]: tuple(row) for row in found}
        fresh = [row for row in new if old.get(row[0]) != row]
        gone = [old[of] for of in old.keys() - {row[0] for row in new}]
        key = table.columns[0].name
        self._db.many(run, f"DELETE FROM {table.name} WHERE {key} = ?", [(row[0],) for row in gone])  # noqa: S608 - names
        self._db.put(run, table, fresh)
        before = [old[row[0]] for row in fresh if row[0] in old]
        return [*((row, -1) for row in (*gone, *before)), *((row, 1) for row in fresh)]

    # ------------------------------------------------------------------ by time alone
    def turned(self, run: Connection, now_ms: int, limit: int) -> list[Turned]:
        """Return clients of whom a package stands differently by now."""
        package, client = schema.client_package, schema.client
        asked = (
            select(client.c.id, client.c.version, client.c.part, client.c.place)
            .join(package, package.c.client == client.c.id)
            .where(package.c.turns_ms <= now_ms)
            .limit(limit)
        )
        rows = {row.id: row for row in run.execute(asked)}
        return [Turned(row.id, row.version, (row.part, row.place)) for row in rows.values()]

    def postpone(self, run: Connection, clients: Collection[str], now_ms: int) -> None:
        """Look at these clients later: they are being changed, or cannot be read."""
        package = schema.client_package
        run.execute(
            update(package)
            .where(package.c.client.in_(list(clients)), package.c.turns_ms <= now_ms)
            .values(turns_ms=now_ms + AGAIN_MS)
        )

    # ------------------------------------------------------------------ the catalog
    def catalog(self, run: Connection, content: Content) -> None:
        """Put packages and numbers of a catalog in the place of those before.

        Client packages of what has changed are looked at again.
        """
        table = schema.package
        old = {row.id: tuple(row) for row in run.execute(select(table))}
        rows = package_rows(content)
        fresh = [row for row in rows if old.get(row[0]) != row]
        gone = [(of,) for of in old.keys() - {row[0] for row in rows}]
        self._db.many(run, "DELETE FROM package WHERE id = ?", gone)
        self._db.put(run, table, fresh)
        again = [(row[0],) for row in (*fresh, *gone)]
        self._db.many(run, "UPDATE client_package SET turns_ms = 0 WHERE package = ?", again)
        numbers = dict(did_rows(content))
        held = {row.number: row.tags for row in run.execute(select(schema.did))}
        self._db.many(run, "DELETE FROM did WHERE number = ?", [(of,) for of in held.keys() - numbers.keys()])
        self._db.put(run, schema.did, [row for row in numbers.items() if held.get(row[0]) != row[1]])


def _parts(names: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(names), _ASKED_MAX):
        yield names[at : at + _ASKED_MAX]


def _count_client(counts: Counter[str], row: tuple[Any, ...] | None, number: int) -> None:
    if row is not None:
        counts["clients"] += number
        counts[f"clients/{row[_RESELLER]}"] += number


def _count_package(counts: Counter[str], row: tuple[Any, ...], number: int) -> None:
    status = STATUSES[row[_STATUS]]
    counts[f"client_packages/{status}"] += number
    counts[f"client_packages/{status}/{row[_OF_PACKAGE]}"] += number
    counts["pending_charges"] += number * (row[_SINCE] is not None)
