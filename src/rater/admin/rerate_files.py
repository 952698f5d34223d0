"""The folder of a re-rating job: what was asked, and what its runs have found; read by who did not write it.

JOBS/ID/asked.json is what was asked. Each run has a folder: `preview`, `apply`, `give_up`. In it lie `lock`,
which its process holds, `pid`, `log`, `progress.json`, the first rows of what it found, and at the end
`found.json`.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")

Run = Literal["preview", "apply", "give_up"]
State = Literal[
    "previewing",
    "previewed",
    "applying",
    "done",
    "not all done",
    "stopped",
    "failed",
    "giving up",
    "given up",
]
ROWS_KEPT = 10_000
"""Clients, and transactions, of which a run keeps what it found; sums are of all."""
_SAID_BYTES = 2000
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""A job's id, here."""


class Asked(Struct, frozen=True, kw_only=True):
    """What was asked. by: whose token. clients None: all. from_ms, to_ms: of calls. code: a prefix of it."""

    job: str
    by: str
    at_ms: int
    clients: tuple[str, ...] | None
    from_ms: int
    to_ms: int
    code: str = ""
    reason: str = ""

    def shares(self, other: Asked) -> bool:
        """Return whether both may be about one client."""
        if self.clients is None or other.clients is None:
            return True
        return not set(self.clients).isdisjoint(other.clients)


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is: records of the journal, of so many; clients that were worked out, changed calls."""

    read: int = 0
    of: int = 0
    clients: int = 0
    changed: int = 0


class Sum(Struct, frozen=True, kw_only=True):
    """Of all clients of a currency: amounts of their calls, decimals; volumes in counting units."""

    currency: str
    clients: int
    calls: int
    changed: int
    volume_before: int
    volume_after: int
    amount_before: str
    amount_after: str


class Found(Struct, frozen=True, kw_only=True):
    """What a run found, or did. failed: why it ended before; left: clients that it has not done, with why.

    notes: sentences on what one may not expect.
    """

    clients: int = 0
    calls: int = 0
    changed: int = 0
    sums: list[Sum] = []
    notes: list[str] = []
    left: list[str] = []
    failed: str | None = None


class Folder:
    """The folder of one job."""

    def __init__(self, jobs: Path, job: str) -> None:
        """Name it; it may not be there. Raises ValueError for what is no id."""
        if not JOB.fullmatch(job):
            raise ValueError(f"{job[:80]!r} is no id of a job here: letters, digits, dashes, underscores")
        self.path = jobs / job

    def asked(self) -> Asked | None:
        """Return what was asked; None: there is no such job here."""
        return _read(self.path / "asked.json", Asked)

    def begin(self, asked: Asked) -> None:
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.path / "asked.json", asked)

    def run(self, run: Run) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.path / run)

    def state(self) -> State:
        """Return where the job stands: by its last run."""
        for run, words in _WORDS:
            of = self.run(run)
            if of.is_there():
                return of.state(*words)
        return "stopped"

    def last(self) -> RunFolder:
        """Return the folder of the last run."""
        return next((of for run, _ in _WORDS if (of := self.run(run)).is_there()), self.run("preview"))


_WORDS: tuple[tuple[Run, tuple[State, State]], ...] = (
    ("give_up", ("giving up", "given up")),
    ("apply", ("applying", "done")),
    ("preview", ("previewing", "previewed")),
)
"""Runs, the last one first → how it is said that one goes on, and that it has ended."""


class RunFolder:
    """The folder of one run of a job."""

    def __init__(self, path: Path) -> None:
        """Name it; it may not be there."""
        self.path = path

    def is_there(self) -> bool:
        """Return whether this run was begun."""
        return self.path.is_dir()

    def found(self) -> Found | None:
        """Return what it found; None: it has not ended, or was killed."""
        return _read(self.path / "found.json", Found)

    def progress(self) -> Progress:
        """Return how far it is."""
        return _read(self.path / "progress.json", Progress) or Progress()

    def state(self, goes_on: State, ended: State) -> State:
        """Return where it stands, in the words of its kind."""
        found = self.found()
        if found is not None:
            return "failed" if found.failed is not None else "not all done" if found.left else ended
        return goes_on if self.is_running() else "stopped"

    def is_running(self) -> bool:
        """Return whether a process holds the lock, whoever began it."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def pid(self) -> int | None:
        """Return the process that runs; None: none does."""
        try:
            pid = int((self.path / "pid").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return pid if self.is_running() else None

    def said(self) -> str:
        """Return the last line that its process has told: that no worker answers, for example; "": none."""
        try:
            lines = (self.path / "log").read_bytes()[-_SAID_BYTES:].decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def rows(self, name: Literal["clients", "transactions"], skip: int, count: int) -> list[dict[str, Any]]:
        """Return rows of what it found."""
        return list(islice(self._lines(name), skip, skip + count))

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with (self.path / f"{name}.jsonl").open("rb") as file:
                yield from map(msgspec.json.decode, file)
        except FileNotFoundError:
            return


def write(path: Path, value: Struct) -> None:
    """Write a file whole, or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(msgspec.json.encode(value))
    beside.replace(path)


def _read(path: Path, form: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except (OSError, msgspec.MsgspecError):
        return None
