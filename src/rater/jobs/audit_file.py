"""The file of an audit that goes on: what it has read of the journal so far, in SQLite.

What a reading adds, and the positions behind it, are one transaction of the file: whoever dies has both or
neither. Memory holds what is being read, whatever the number of clients.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from rater.core.journal.auditing import PROBLEMS_MAX, Ledger, Open, Seen, digest_of
from rater.core.journal.comparing import Book, Finding, Move
from rater.errors import Halt

_ID = 0x72617465  # "rate": which program a file of SQLite is of
_FORMAT = "2"
_NEVER = -1
"""Generation of what is kept for ever: transactions without duplicates, such as fees."""
_ASKED_MAX = 500
_SIGN = 2**63

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE lane (lane INTEGER PRIMARY KEY, position INTEGER, lane_ms INTEGER, opened BLOB);
CREATE TABLE client (client TEXT PRIMARY KEY, balance INTEGER, changes INTEGER, lowest INTEGER,
    highest INTEGER, state BLOB) WITHOUT ROWID;
CREATE TABLE counter (client TEXT, field TEXT, used INTEGER, PRIMARY KEY (client, field)) WITHOUT ROWID;
CREATE TABLE move (client TEXT, id TEXT, place TEXT, move BLOB, PRIMARY KEY (client, id, place))
    WITHOUT ROWID;
CREATE TABLE seen (generation INTEGER, digest INTEGER, lane INTEGER, place INTEGER, owner INTEGER,
    amount INTEGER, PRIMARY KEY (generation, digest)) WITHOUT ROWID;
CREATE TABLE taken_back (digest INTEGER PRIMARY KEY, amount INTEGER);
CREATE INDEX taken_back_unseen ON taken_back (digest) WHERE amount IS NULL;
CREATE TABLE finding (kind TEXT, place TEXT, problem TEXT);
"""

_opened = msgspec.msgpack.Decoder(Open)
_move = msgspec.msgpack.Decoder(Move)
_pack = msgspec.msgpack.Encoder().encode


class WrongFileError(Exception):
    """A file that cannot be taken for an audit of this journal; the sentence says why."""


class _Published:
    """Which transactions were read, by the digests of their names: those that may come again."""

    def __init__(self, file: sqlite3.Connection, generation_ms: int) -> None:
        self._file, self._generation_ms = file, generation_ms

    def add(self, ledger: Ledger, slowest_ms: int) -> None:
        """Find what was published before, note what is new, and forget what cannot come again.

        slowest_ms: time of the slowest lane.
        """
        by: defaultdict[int, list[int]] = defaultdict(list)
        for digest, seen in ledger.seen.items():
            by[self._generation(seen)].append(digest)
        names = ledger.names or {}
        for generation, digests in by.items():
            known = dict(self._known(generation, digests))
            for digest, first in known.items():
                (name, client), again = names[digest], ledger.seen[digest]
                where = f"rater.transactions[{again.partition}]@{again.offset}"
                ledger.repeated(where, name, client, first, same=first.owner == again.owner)
            self._file.executemany(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (generation, digest - _SIGN, one.partition, one.offset, one.owner, one.amount)
                    for digest, one in ((digest, ledger.seen[digest]) for digest in digests)
                    if digest not in known
                ],
            )
        oldest = slowest_ms // self._generation_ms - 1
        self._take_back(ledger, oldest * self._generation_ms)
        self._file.execute("DELETE FROM seen WHERE generation >= 0 AND generation < ?", (oldest,))

    def _take_back(self, ledger: Ledger, known_ms: int) -> None:
        """Note what first usages came to that were reversed: they are forgotten, and these not.

        One of a call before `known_ms` that is not known is believed: only the whole journal can tell.
        """
        run = self._file.execute
        if run("SELECT 1 FROM taken_back WHERE amount IS NULL LIMIT 1").fetchone():  # its lane is behind
            self._file.executemany(
                "UPDATE taken_back SET amount = ? WHERE digest = ? AND amount IS NULL",
                [(one.amount, digest - _SIGN) for digest, one in ledger.seen.items()],
            )
        for digest, (amount, at_ms) in ledger.taken_back.items():
            was = self._amount(digest)
            if was is None and at_ms < known_ms:
                was = -amount
            run("INSERT OR IGNORE INTO taken_back VALUES (?, ?)", (digest - _SIGN, was))

    def _generation(self, seen: Seen) -> int:
        return _NEVER if seen.lane_ms is None else seen.lane_ms // self._generation_ms

    def _known(self, generation: int, digests: list[int]) -> Iterator[tuple[int, Seen]]:
        near = [_NEVER] if generation == _NEVER else [generation - 1, generation, generation + 1]
        for of in near:
            for at in range(0, len(digests), _ASKED_MAX):
                some = [digest - _SIGN for digest in digests[at : at + _ASKED_MAX]]
                marks = ",".join("?" * len(some))
                for digest, *row in self._file.execute(
                    "SELECT digest, lane, place, owner, amount FROM seen "  # noqa: S608 - question marks
                    f"WHERE generation = ? AND digest IN ({marks})",
                    (of, *some),
                ):
                    yield digest + _SIGN, Seen(*row)

    def usage(self, digest: int) -> int | None:
        """Return the amount of a transaction, micros; None: it was not published, or too long ago."""
        reversed_of = self._file.execute("SELECT amount FROM taken_back WHERE digest = ?", (digest - _SIGN,))
        (was,) = reversed_of.fetchone() or (None,)
        return self._amount(digest) if was is None else int(was)

    def _amount(self, digest: int) -> int | None:
        run, generation = self._file.execute, _NEVER - 1
        while True:
            following = "SELECT min(generation) FROM seen WHERE generation > ?"
            (generation,) = run(following, (generation,)).fetchone()
            if generation is None:
                return None
            of = "SELECT amount FROM seen WHERE generation = ? AND digest = ?"
            found = run(of, (generation, digest - _SIGN)).fetchone()
            if found:
                return int(found[0])


class AuditFile:
    """What was read so far."""

    def __init__(self, path: str, journal: Mapping[str, str], lanes: int, generation_ms: int) -> None:
        """Open the file, or begin a new one. path: "" is one that is gone with this process.

        journal: what the journal is known by. generation_ms: repeats of a call are known so long at least.
        Raises WrongFileError.
        """
        self._path = path
        self._about = {"format": _FORMAT, "lanes": str(lanes), "generation_ms": str(generation_ms), **journal}
        self._lanes = lanes
        try:
            # A process that dies leaves the file to the next; a second one at the same time is refused.
            self._file = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._published = _Published(self._file, generation_ms)
            self._begin()
        except sqlite3.Error as error:
            raise WrongFileError(self._why(error)) from error
        self.positions = dict.fromkeys(range(lanes), 0)
        self.lane_ms = dict.fromkeys(range(lanes), 0)
        self._opened: dict[int, Open] = {}
        for lane, position, lane_ms, opened in self._rows("SELECT * FROM lane"):
            self.positions[lane], self.lane_ms[lane] = position, lane_ms
            if opened is not None:
                self._opened[lane] = _opened.decode(opened)

    def _begin(self) -> None:
        run = self._file.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        if run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            if run("PRAGMA application_id").fetchone()[0] != _ID:
                raise WrongFileError(f"{self._path} is not the file of an audit; name another file")
            about = dict(run("SELECT name, value FROM about"))
            for name, value in self._about.items():
                if about.get(name) != value:
                    raise WrongFileError(
                        f"{self._path} is of an audit with another {name} ({about.get(name)}; here it is "
                        f"{value}); name another file, or delete it: it is made again from the journal"
                    )
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA cache_size = -65536")
        run("BEGIN IMMEDIATE")
        if not run("PRAGMA application_id").fetchone()[0]:
            for statement in _TABLES.split(";"):
                run(statement)
            self._file.executemany("INSERT INTO about VALUES (?, ?)", self._about.items())
            run(f"PRAGMA application_id = {_ID}")
        run("COMMIT")

    def _why(self, error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return f"{self._path} is in use by another audit; end that one, or name another file"
        return (
            f"{self._path or 'the temporary file of the audit'} cannot be used ({error}); name another file, "
            "or delete it: it is made again from the journal"
        )

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise Halt(self._why(error)) from error

    def close(self) -> None:
        """Let go."""
        self._file.close()

    # ------------------------------------------------------------------ what was read
    def ledger(self) -> Ledger:
        """Return one that goes on from here, to be merged, or forgotten where reading fails."""
        opened = {lane: msgspec.structs.replace(one) for lane, one in self._opened.items()}
        return Ledger(opened, keep_names=True)

    def merge(self, ledger: Ledger, positions: Mapping[int, int]) -> None:
        """Add what was read, up to these positions: all of it or nothing."""
        for lane, position in positions.items():
            self.positions[lane] = position
        self.lane_ms |= ledger.lane_ms
        self._opened = ledger.opened
        try:
            self._file.execute("BEGIN")
            self._published.add(ledger, min(self.lane_ms.values()))
            self._add_books(ledger)
            self._file.executemany(
                "INSERT OR REPLACE INTO lane VALUES (?, ?, ?, ?)",
                [
                    (
                        lane,
                        at,
                        self.lane_ms[lane],
                        _pack(self._opened[lane]) if lane in self._opened else None,
                    )
                    for lane, at in self.positions.items()
                ],
            )
            kept = self._file.execute("SELECT count(*) FROM finding").fetchone()[0]
            self._file.executemany(
                "INSERT INTO finding VALUES (?, ?, ?)",
                [
                    (one.kind, one.where, one.problem)
                    for one in ledger.findings[: max(0, PROBLEMS_MAX - kept)]
                ],
            )
            self._count("findings", ledger.findings_total)
            self._count("transactions", ledger.transactions)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise Halt(self._why(error)) from error

    def _count(self, name: str, number: int) -> None:
        self._file.execute(
            "INSERT INTO about VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (f"count/{name}", str(number)),
        )

    def count(self, name: str) -> int:
        """Return how many transactions were read, or findings made of what was read."""
        rows = self._rows("SELECT value FROM about WHERE name = ?", f"count/{name}")
        return sum(int(number) for (number,) in rows)

    def findings(self) -> list[Finding]:
        """Return what was wrong in what was read."""
        return [Finding(*row) for row in self._rows("SELECT * FROM finding")]

    def _add_books(self, ledger: Ledger) -> None:
        self._file.executemany(
            "INSERT INTO client VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "balance = balance + excluded.balance, changes = changes + excluded.changes, "
            "lowest = CASE WHEN excluded.changes = 0 THEN lowest WHEN changes = 0 THEN excluded.lowest "
            "ELSE min(lowest, excluded.lowest) END, "
            "state = CASE WHEN excluded.changes > 0 AND excluded.highest >= highest THEN excluded.state "
            "ELSE state END, highest = max(highest, excluded.highest)",
            [
                (name, book.balance, book.changes, book.lowest, book.highest, book.state)
                for name, book in ledger.books.items()
            ],
        )
        self._file.executemany(
            "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET used = used + excluded.used",
            [
                (name, field, units)
                for name, book in ledger.books.items()
                for field, units in book.counters.items()
            ],
        )
        self._file.executemany(
            "INSERT OR IGNORE INTO move VALUES (?, ?, ?, ?)",
            [
                (name, move.id, f"{move.type} {move.revision} {move.reverses}", _pack(move))
                for name, book in ledger.books.items()
                for move in book.moves
            ],
        )

    # ------------------------------------------------------------------ what is asked
    def book(self, client: str) -> Book:
        """Return what the journal says of a client."""
        found = Book()
        for row in self._rows("SELECT * FROM client WHERE client = ?", client):
            _, found.balance, found.changes, found.lowest, found.highest, found.state = row
        found.counters.update(self._rows("SELECT field, used FROM counter WHERE client = ?", client))
        found.moves = [
            _move.decode(raw) for (raw,) in self._rows("SELECT move FROM move WHERE client = ?", client)
        ]
        return found

    def usage(self, name: str) -> int | None:
        """Return the amount of a transaction, micros; None: it was not published, or too long ago."""
        try:
            return self._published.usage(digest_of(name))
        except sqlite3.Error as error:
            raise Halt(self._why(error)) from error

    def clients(self, after: str, limit: int) -> list[str]:
        """Return names of clients, in order, behind this one."""
        rows = self._rows("SELECT client FROM client WHERE client > ? ORDER BY client LIMIT ?", after, limit)
        return [name for (name,) in rows]

    def has(self, client: str) -> bool:
        """Return whether the journal names a client."""
        return bool(self._rows("SELECT 1 FROM client WHERE client = ?", client))

    def number(self) -> int:
        """Return how many clients the journal names."""
        return int(self._rows("SELECT count(*) FROM client")[0][0])
