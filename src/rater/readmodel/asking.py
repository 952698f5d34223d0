"""The read model as it is asked: its lists, how far it is, and waiting until it has what was just done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import structlog
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from rater.errors import Halt
from rater.readmodel import lists, more_lists
from rater.readmodel.asked import (
    ClientPackages,
    Clients,
    Commands,
    Dids,
    Events,
    Jobs,
    Listed,
    Packages,
    Page,
    PendingCharges,
    RejectedRecords,
    Transactions,
)
from rater.readmodel.database import Database
from rater.readmodel.following import Following
from rater.readmodel.listening import Listener, Listening
from rater.readmodel.rows import (
    ClientPackageRow,
    ClientRow,
    CommandRow,
    DidRow,
    EventRow,
    JobRow,
    PackageRow,
    PendingChargeRow,
    RejectedRow,
    TransactionRow,
)
from rater.readmodel.writing import BUILT, SINCE

log = structlog.get_logger()

T = TypeVar("T")


class State(Struct, frozen=True, kw_only=True):
    """How far the read model is.

    built: else it is being built, `progress` of it (0 to 1) is done, and lists show what is there. behind_s:
    seconds behind the topics, None: nothing follows them here. since_ms: the journal was cut, and
    transactions begin here; None: with the first. rows: of each kind, how many.
    """

    built: bool
    progress: float
    behind_s: float | None
    since_ms: int | None
    rows: dict[str, int]


class ReadModel:
    """What lists are asked of. Any number may be asked at once; SQL runs in threads.

    Lists raise WrongAskedError for a page or a key that cannot be, Halt where the database cannot be read.
    """

    def __init__(self, database: Database, following: Following | None) -> None:
        """following: what follows the topics into the database, None: another process does."""
        self._db, self._following = database, following
        self._failed: str | None = None

    async def _run(self, asked: Callable[[Connection], T]) -> T:
        def run() -> T:
            try:
                with self._db.engine.connect() as connection:
                    return asked(connection)
            except SQLAlchemyError as error:
                raise Halt(self._db.why(error)) from error

        return await asyncio.to_thread(run)

    # ------------------------------------------------------------------ lists
    async def transactions(self, asked: Transactions, page: Page) -> Listed[TransactionRow]:
        """Return transactions, those that were published last first."""
        return await self._run(lambda run: lists.transactions(run, asked, page))

    async def client_packages(self, asked: ClientPackages, page: Page) -> Listed[ClientPackageRow]:
        """Return client packages by client, those of one in its order."""
        return await self._run(lambda run: lists.client_packages(run, asked, page))

    async def clients(self, asked: Clients, page: Page) -> Listed[ClientRow]:
        """Return clients by id; those of a text by name."""
        return await self._run(lambda run: lists.clients(run, asked, page))

    async def packages(self, asked: Packages, page: Page) -> Listed[PackageRow]:
        """Return packages by id."""
        return await self._run(lambda run: more_lists.packages(run, asked, page))

    async def pending_charges(self, asked: PendingCharges, page: Page) -> Listed[PendingChargeRow]:
        """Return pending charges, those that wait longest first."""
        return await self._run(lambda run: lists.pending_charges(run, asked, page))

    async def rejected(self, asked: RejectedRecords, page: Page) -> Listed[RejectedRow]:
        """Return rejected records, the newest first."""
        return await self._run(lambda run: more_lists.rejected(run, asked, page))

    async def dids(self, asked: Dids, page: Page) -> Listed[DidRow]:
        """Return the numbers of the catalog in order."""
        return await self._run(lambda run: more_lists.dids(run, asked, page))

    async def events(self, asked: Events, page: Page) -> Listed[EventRow]:
        """Return events, the newest first."""
        return await self._run(lambda run: more_lists.events(run, asked, page))

    async def commands(self, asked: Commands, page: Page) -> Listed[CommandRow]:
        """Return commands, the newest first: who did what."""
        return await self._run(lambda run: more_lists.commands(run, asked, page))

    async def jobs(self, asked: Jobs, page: Page) -> Listed[JobRow]:
        """Return re-rating jobs, the newest first."""
        return await self._run(lambda run: more_lists.jobs(run, asked, page))

    # ------------------------------------------------------------------ how far it is
    async def state(self) -> State:
        """Return how far the read model is."""
        said = await asyncio.to_thread(self._db.said)
        progress = None if self._following is None else self._following.progress
        built = BUILT in said
        share = 0.0 if progress is None else progress.share
        return State(
            built=built,
            progress=1.0 if built else share,
            behind_s=None if progress is None else progress.behind_s,
            since_ms=int(said[SINCE]) if SINCE in said else None,
            rows=await self._run(more_lists.numbers),
        )

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return up to where each partition of a topic is in the rows. Raises Halt as lists do."""
        try:
            return await asyncio.to_thread(self._db.positions)
        except SQLAlchemyError as error:
            raise Halt(self._db.why(error)) from error

    async def is_built(self) -> bool:
        """Return whether all that was there when it was begun is in the rows. Raises Halt as lists do."""
        try:
            return BUILT in await asyncio.to_thread(self._db.said)
        except SQLAlchemyError as error:
            raise Halt(self._db.why(error)) from error

    async def wait_for(self, command_id: str, timeout_s: float) -> bool:
        """Wait until what a command of a client did is in the rows; False: it is not by then.

        Of commands of the last minutes, and of those that come; for loads: `wait_until_now`.
        """
        if self._following is None:
            return False
        return await self._following.progress.wait_for(command_id, timeout_s)

    async def wait_until_now(self, timeout_s: float) -> bool:
        """Wait until all that is committed by now is in the rows; False: it is not by then.

        Raises StreamDown, Halt as Kafka is.
        """
        if self._following is None:
            return False
        return await self._following.caught_up(timeout_s)

    # ------------------------------------------------------------------ as it happens
    def listening(self, client: str | None = None) -> AbstractContextManager[Listener]:
        """Give somebody who hears of what comes into the rows: of a client, None: of events."""
        return (Listening() if self._following is None else self._following.listening).listener(client)

    async def events_upto(self) -> list[int]:
        """Return, for each partition of the topic of events, the offset below which all is in the rows."""
        return [] if self._following is None else await asyncio.to_thread(self._following.events_upto)

    async def events_on(self, asked: Events, part: int, place: int, rows: int) -> list[EventRow]:
        """Return events of a partition from an offset on, in its order: so many at most."""
        return await self._run(lambda run: more_lists.events_on(run, asked, part, place, rows))

    # ------------------------------------------------------------------ following
    async def follow(self) -> None:
        """Follow the topics until cancelled, or until something that time does not heal (`failed`)."""
        if self._following is None:
            return
        try:
            await self._following.run()
        except Exception as error:
            self._failed = str(error) or repr(error)
            log.exception("the read model stops")

    def failed(self) -> str | None:
        """Return why the topics are not followed any more, a sentence; None: they are."""
        return self._failed
