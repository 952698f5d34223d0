"""`rater audit --every`: the audit goes on from where it was, and looks at Redis a part at a time.

What it has read lies in a file (`audit_file`). Each round reads the journal on, looks at clients of which
something was read, at what differed before, and at the next of all clients and DIDs in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog
from msgspec import Struct

from rater.core.clients.state import did_name
from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Finding, Step
from rater.errors import Wait
from rater.jobs.audit import Progress, fold, read_on
from rater.jobs.audit_file import AuditFile
from rater.jobs.audit_looks import Looks
from rater.metrics import Metrics
from rater.store.buckets import Buckets
from rater.stream.journal import removed
from rater.stream.topics import Topics

log = structlog.get_logger()

RECORDS_AT_ONCE = 20_000
"""Records of the journal that are added to the file in one transaction of it."""
CLIENTS_PER_S = 1000
"""So many clients are looked at for each second between two rounds: 60,000 within a minute."""
CLIENTS_MIN = 1000
"""But so many in each round."""


_GONE = "a store that is lost cannot be rebuilt; restore the topic from a backup"


class Round(Struct):
    """What a round has found. looked: clients and DIDs that were looked at; whole: whether all were, by now.

    findings_total: also those that are not kept.
    """

    findings: list[Finding]
    findings_total: int
    transactions: int
    clients: int
    unsettled: int
    looked: int
    whole: bool


class RunningAudit:
    """An audit that goes on."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        store: Buckets,
        file: AuditFile,
        inventory: Callable[[], Awaitable[Collection[str] | None]],
        every_s: int,
    ) -> None:
        """inventory: returns the DIDs of the catalog in force, None: there is no catalog.

        every_s: between two rounds.
        """
        self._client, self._topics, self._store, self._file = client, topics, store, file
        self._inventory = inventory
        self._looks = Looks(store, file.book, file.usage)
        self._wrong: dict[str, list[Finding]] = {}
        """Name → what was wrong with it when it was looked at last."""
        self._unsettled: set[str] = set()
        self._turn: AsyncIterator[str] = self._names()
        self._whole = False
        self._count = max(CLIENTS_MIN, every_s * CLIENTS_PER_S)

    async def round(self, progress: Progress | None = None) -> Round:
        """Read on and look. Raises Halt, StreamDown, StoreDown."""
        touched, _ = await self._read_on(progress)
        count = self._count
        names = {*islice(touched, count), *self._unsettled, *islice(self._wrong, count)}
        names |= {name async for name in self._next(count)}
        suspects = await self._looks.look(names)
        settled = await self._looks.settle(suspects, self._steps_of)
        self._unsettled = set(settled.unsettled)
        for name in names:
            self._wrong.pop(name, None)
        self._wrong |= settled.found  # behind those that were not looked at: their turn is next
        topic = self._topics.transactions
        gone = [
            Finding("removed", f"{topic}[{lane}]", f"its records before offset {begin} were removed: {_GONE}")
            for lane, begin in (await removed(self._client, topic, list(self._file.positions))).items()
        ]
        found = [*self._file.findings(), *gone, *(one for of in self._wrong.values() for one in of)]
        total = self._file.count("findings") + len(gone) + sum(map(len, self._wrong.values()))
        return Round(
            found, total, self._file.count("transactions"), self._file.number(), len(self._unsettled),
            len(names), self._whole,
        )  # fmt: skip

    async def _steps_of(self, watched: Collection[str]) -> Mapping[str, Sequence[Step]]:
        return (await self._read_on(None, watched))[1]

    async def _read_on(
        self, progress: Progress | None, watched: Collection[str] = ()
    ) -> tuple[list[str], dict[str, list[Step]]]:
        """Read what the journal has by now into the file.

        Returns the clients of which something was read, and the steps of those that are watched.
        """
        touched, steps = dict[str, None](), defaultdict[str, list[Step]](list)
        file, positions, number = self._file, dict[int, int](), 0
        ledger = self._ledger(watched, steps)
        async for lane, records, end in read_on(self._client, self._topics, file.positions, progress):
            fold(ledger, lane, records)
            positions[lane] = end
            number += len(records)
            if number >= RECORDS_AT_ONCE:
                touched |= dict.fromkeys(ledger.clients())
                file.merge(ledger, positions)
                ledger, number = self._ledger(watched, steps), 0
        touched |= dict.fromkeys(ledger.clients())
        if positions:
            file.merge(ledger, positions)
        return list(touched), steps

    def _ledger(self, watched: Collection[str], steps: defaultdict[str, list[Step]]) -> Ledger:
        ledger = self._file.ledger()
        ledger.watched, ledger.steps = watched, steps
        return ledger

    async def _next(self, count: int) -> AsyncIterator[str]:
        """Yield the names whose turn it is; not more than there are."""
        for _ in range(count):
            try:
                name = await anext(self._turn, None)
            except Wait:
                self._turn = self._names()  # from the first again
                raise
            if name is None:
                self._turn, self._whole = self._names(), True
                return
            yield name

    async def _names(self) -> AsyncIterator[str]:
        """Yield the clients of the journal, those that Redis alone has, and the DIDs."""
        last = ""
        while some := self._file.clients(last, CLIENTS_MIN):
            for name in some:
                yield name
            last = some[-1]
        async for name in self._store.scan_clients():
            if not self._file.has(name):
                yield name
        inventory = self._looks.inventory = await self._inventory()
        for number in inventory or ():
            yield did_name(number)


async def rounds(
    running: RunningAudit,
    metrics: Metrics,
    every_s: int,
    count_pending: Callable[[], Awaitable[int]],
    progress: Progress | None,
) -> AsyncIterator[Round]:
    """Yield rounds without end, `every_s` seconds apart, and have metrics tell of them.

    What ends one that cannot be gone on with is told in the log, and the next begins. Raises Halt.
    """
    metrics.audits_every(every_s)
    count_at = 0.0
    while True:
        try:
            found = await running.round(progress)
            progress = None  # what comes after the first reading is short
            metrics.audited(found.findings_total)
            began = time.monotonic()
            if began >= count_at:  # it asks for all clients, so it takes a hundredth of the time at most
                metrics.pending_charges(await count_pending())
                count_at = time.monotonic() + 100 * (time.monotonic() - began)
        except Wait as error:
            log.warning("the audit waits", reason=str(error))
        else:
            yield found
        await asyncio.sleep(every_s)
