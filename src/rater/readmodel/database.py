"""The database of the read model: opened, made, and written to by the thousand rows.

SQLite or PostgreSQL, by the same statements. Each version of the tables has a database of its own: a file
with the version in its name, or a schema; so another one is built beside that which is looked at meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from rater.errors import Halt
from rater.readmodel import schema

NAME = f"rater_admin_{schema.SCHEMA}"
"""The schema in PostgreSQL."""
_SQLITE = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -131072",
    "PRAGMA mmap_size = 1073741824",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 8000",
    "PRAGMA busy_timeout = 10000",
)
_ID = 0x72617461  # "rata": which program a file of SQLite is of


def file_of(url: URL) -> Path:
    """Return the file that a URL of SQLite means: its version stands before the end of its name."""
    named = Path(str(url.database))
    return named.with_name(f"{named.stem}.v{schema.SCHEMA}{named.suffix}")


class Database:
    """An open database."""

    def __init__(self, url: str, *, makes: bool = True) -> None:
        """Connect. makes: what is lacking; else it is looked at, as another process has made it.

        Raises Halt with a sentence where that cannot be.
        """
        self.shown = url
        try:
            given = make_url(url)
            self.is_sqlite = given.get_backend_name() == "sqlite"
            self.shown = given.render_as_string(hide_password=True)
            if self.is_sqlite:
                self.shown = str(file_of(given))
                given = given.set(database=self.shown)
            else:
                given = given.set(drivername="postgresql+psycopg")
            self.engine = self._engine(given)
            if makes:
                self._make()
            elif self.is_sqlite and not Path(self.shown).is_file():
                raise Halt(f"there is no {self.shown} (admin.database) yet: `rater admin` makes it")
        except (ArgumentError, SQLAlchemyError, ModuleNotFoundError) as error:
            raise Halt(self.why(error)) from error
        self._statements: dict[tuple[str, str, tuple[str, ...]], str] = {}

    def _engine(self, url: URL) -> Engine:
        if not self.is_sqlite:
            return create_engine(url, pool_size=8, connect_args={"options": f"-csearch_path={NAME}"})
        engine = create_engine(url, pool_size=8, connect_args={"check_same_thread": False})

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: object) -> None:
            for pragma in _SQLITE:
                connection.execute(pragma)

        return engine

    def why(self, error: Exception) -> str:
        """Return the sentence for what the database says."""
        cause = getattr(error, "orig", None) or error
        return (
            f"the database {self.shown} of the read model (admin.database) cannot be used: {cause}. Correct "
            "the setting, or see to the database; it holds nothing that is not built again from Kafka"
        )

    def _make(self) -> None:
        with self.engine.begin() as run:
            if self.is_sqlite:
                self._is_ours(run)
            else:
                run.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {NAME}")
            for table in schema.metadata.sorted_tables:
                run.execute(CreateTable(table, if_not_exists=True))
            for index in schema.EARLY_INDEXES:
                run.execute(CreateIndex(index, if_not_exists=True))

    def _is_ours(self, run: Connection) -> None:
        has = run.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        if has and run.exec_driver_sql("PRAGMA application_id").scalar_one() != _ID:
            raise Halt(f"{self.shown} is a database of something else; give admin.database another path")
        run.exec_driver_sql(f"PRAGMA application_id = {_ID}")

    def close(self) -> None:
        """Let go."""
        self.engine.dispose()

    # ------------------------------------------------------------------ what is known of it
    def said(self) -> dict[str, str]:
        """Return what is noted about the database as a whole."""
        with self.engine.connect() as run:
            return {row.name: row.value for row in run.execute(select(schema.about))}

    def positions(self) -> dict[tuple[str, int], int]:
        """Return up to where each partition of a topic is in the rows."""
        with self.engine.connect() as run:
            return {(row.topic, row.part): row.next for row in run.execute(select(schema.position))}

    def make_late(self) -> None:
        """Make the indexes that building leaves for its end."""
        for index in schema.LATE_INDEXES:
            with self.engine.begin() as run:
                run.execute(CreateIndex(index, if_not_exists=True))
        with self.engine.begin() as run:
            run.exec_driver_sql("ANALYZE")

    # ------------------------------------------------------------------ writing
    def note(self, run: Connection, said: Mapping[str, str]) -> None:
        """Note something about the database as a whole."""
        self.put(run, schema.about, list(said.items()))

    def many(self, run: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row; `?` stands for its values in order."""
        if rows:
            run.exec_driver_sql(self._dialect(statement), [tuple(row) for row in rows])

    def one(self, run: Connection, statement: str, values: Sequence[Any]) -> Any:
        """Run a statement once, and return its result."""
        return run.exec_driver_sql(self._dialect(statement), tuple(values))

    def _dialect(self, statement: str) -> str:
        return statement if self.is_sqlite else statement.replace("?", "%s")

    def insert(self, run: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
        """Add rows that are not there, each with all columns of the table in order."""
        if not rows:
            return
        names = _quoted(column.name for column in table.columns)
        driver: Any = run.connection.driver_connection
        dbapi: Any = self.engine.dialect.dbapi
        try:
            if self.is_sqlite:
                marks = ", ".join("?" * len(table.columns))
                driver.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608 - names
                return
            with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        except dbapi.Error as error:
            raise Halt(self.why(error)) from error

    def put(
        self, run: Connection, table: Table, rows: Sequence[Sequence[Any]], *, adds: Iterable[str] = ()
    ) -> None:
        """Add rows, or replace those of the same key. adds: columns that are added to what is there."""
        key = table.name, "put", tuple(adds)
        if key not in self._statements:
            self._statements[key] = _upsert(table, set(adds))
        self.many(run, self._statements[key], rows)


def _upsert(table: Table, adds: set[str]) -> str:
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(
        f'"{name}" = '
        + (f'{table.name}."{name}" + excluded."{name}"' if name in adds else f'excluded."{name}"')
        for name in names
        if name not in keys
    )
    return (
        f"INSERT INTO {table.name} ({_quoted(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608 - names
        f"ON CONFLICT ({_quoted(keys)}) DO " + (f"UPDATE SET {changes}" if changes else "NOTHING")
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
