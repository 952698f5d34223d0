"""`rater rerate`: rate calls again, show what changes, and have it published.

Each client is worked out for itself (core/rerating), from the journal, its register and its counters. What
changes is sent in pieces to the lane of its bucket, which takes them unless what they rest on has moved:
then the client is worked out anew (decision 0112). A job that was killed is resumed by running it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rater.core.cdr import SIDES
from rater.core.clients.state import ClientState, read_state
from rater.core.commands.records import (
    RerateBeginArgs,
    RerateEndArgs,
    RerateFirstArgs,
    RerateSwapArgs,
)
from rater.core.commands.rerates import MOVED_ON
from rater.core.reasons import shown
from rater.core.rerating.calls import (
    NOWHERE,
    Fee,
    PastSide,
    latest,
    pack,
    read_told,
    sorted_again,
    sorted_as,
    unpack,
)
from rater.core.rerating.client import Piece, Sums, Window, Work, wider
from rater.core.rerating.difference import Entry, Row
from rater.core.rerating.rating import with_history
from rater.jobs.audit_looks import CLIENTS_AT_ONCE, batched
from rater.jobs.rerate_reading import Passed, Reading, Selection, Sources
from rater.jobs.rerate_rejecting import rejected_again
from rater.jobs.rerate_sending import JobCommands, Refused
from rater.jobs.spooling import Sorted, Sorter, Spool, merged

AHEAD = 4
"""Pieces of a client that are on their way at once."""
TRIES_MAX = 50
"""So often a client is worked out anew without a piece being taken; then the job gives up on it for now."""
PAUSE_S = 0.2
"""Before a client is worked out anew."""


class ClientRow(NamedTuple):
    """What a re-rate finds of a client. Volumes: billed counting units; amounts: micros of its currency."""

    client: str
    calls: int
    changed: int
    volume_before: int
    volume_after: int
    amount_before: int
    amount_after: int
    currency: str
    wider: Window | None


class Summary(Struct):
    """What a job did, or would do.

    again: how often clients were worked out anew, for they had moved on. left: clients that it has not done,
    each with a sentence why. left_out: rejected records that are too large for it. rejected_from_ms: time of
    the oldest rejected records, where older ones are gone; None: none are. journal_from_ms: the same of the
    journal; unsure: rejected records of calls of before, which may have been rated then.
    """

    job: str
    applied: bool
    clients: int = 0
    calls: int = 0
    changed: int = 0
    again: int = 0
    left: list[str] = []
    left_out: int = 0
    rejected_from_ms: int | None = None
    journal_from_ms: int | None = None
    unsure: int = 0


class _Calls:
    """A client's calls, sorted, in a file; and the fees that calls brought."""

    def __init__(self, reading: Reading, entries: Iterator[Sorted]) -> None:
        self._reading = reading
        self.spool, self.fees = Spool(), list[Fee]()
        for one in latest(entries, reading.code):
            if isinstance(one, Fee):
                self.fees.append(one)
            elif not reading.was_rated(one) and (one.revision or one.name not in reading.given_up):
                self.spool.add(pack(one))

    def __call__(self) -> Iterator[PastSide]:
        """Yield the calls in order."""
        for raw in self.spool:
            one = unpack(raw)
            assert isinstance(one, PastSide)  # noqa: S101 - fees are kept apart
            yield one

    def with_more(self, more: Iterator[Sorted]) -> _Calls:
        """Return the calls with what was published of them since; this one is let go of."""
        fees = sorted(map(sorted_again, self.fees))
        made = _Calls(self._reading, merged(fees, map(sorted_again, self()), more))
        self.spool.close()
        return made


_pack = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry)
_client = msgspec.msgpack.Decoder(ClientRow)
_row = msgspec.msgpack.Decoder(Row)


class Job:
    """One run of a re-rating job."""

    def __init__(self, sources: Sources, selection: Selection, job: str) -> None:
        """Nothing is read before `run`."""
        self.sources, self.selection = sources, selection
        self.catalog = sources.catalog
        self.reading = Reading(sources, selection)
        self.summary = Summary(job, applied=False)
        self._clients, self._rows = Spool(), Spool()

    async def run(self, passed: Passed, commands: JobCommands | None) -> None:
        """Do it; `clients` and `rows` tell then. commands: to have it published, None: a preview."""
        await self.reading.read(passed)
        self.summary.applied = commands is not None
        self.summary.left_out = self.reading.left_out
        self.summary.rejected_from_ms = self.reading.rejected_from_ms
        self.summary.journal_from_ms = self.reading.journal_from_ms
        self.summary.unsure = self.reading.unsure
        for client, entries in self.reading.clients():
            calls = _Calls(self.reading, entries)
            one = _ClientJob(self, client, calls, commands)
            try:
                row = await one.run() if calls.spool.count else None
            finally:
                one.close()
            if row is not None:
                self.summary.clients += 1
                self.summary.calls += row.calls
                self.summary.changed += row.changed
                self._clients.add(_pack(row))

    def clients(self) -> Iterator[ClientRow]:
        """Yield what was found of each client."""
        return map(_client.decode, self._clients)

    def rows(self) -> Iterator[Row]:
        """Yield the transactions that change, or have changed."""
        return map(_row.decode, self._rows)

    def tell(self, row: Row) -> None:
        """Keep a transaction that changes."""
        self._rows.add(_pack(row))

    async def look_for_catalog(self) -> None:
        """Go by the catalog that is in force now."""
        newest = await self.sources.newest()
        if newest is not None and newest.version > self.catalog.version:
            self.catalog = newest

    def close(self) -> None:
        """Let go of the files."""
        self.reading.close()
        self._clients.close()
        self._rows.close()


class _ClientJob:
    """The job at one client."""

    def __init__(self, job: Job, client: str, calls: _Calls, commands: JobCommands | None) -> None:
        self._job, self._client, self._calls, self._commands = job, client, calls, commands
        self._state: ClientState
        self._work: Work
        self._entries = Spool()
        self._taken = Sorter()
        """What was published since the client was worked out."""
        self._firsts: set[str] = set()
        """Ids of rejected calls that were sent to be rated."""
        self._changed = 0
        self._gone = 0
        """Pieces of jobs of which the journal is cut."""

    async def run(self) -> ClientRow | None:
        """Work the client out, and have it published if that is asked for; None: nothing is to be told."""
        if not await self._work_out():
            return None
        first = self._work.difference
        if not first.calls:
            return None
        if self._commands is None:
            self._changed = first.changed
            self._tell(self._read_entries())
        elif (
            self._entries.count or self._state.rerating is not None
        ):  # an earlier run has left it, or another job
            await self._publish(self._commands)
        last = self._work.difference
        window, catalog = self._job.selection.window, self._job.catalog
        return ClientRow(
            self._client, first.calls, self._changed, first.volume_before, last.volume_after,
            first.amount_before, last.amount_after, self._state.currency, wider(self._state, catalog, window),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the files."""
        self._calls.spool.close()
        self._entries.close()
        self._taken.close()

    async def _work_out(self) -> bool:
        """Work out what changes, from what is there now; False: there is no such client any more."""
        store = self._job.sources.store
        found = await store.client(self._client)
        if found is None:
            self._job.summary.left.append(f"client {shown(self._client)!r} is not there")
            return False
        raw, balance, counters = found
        self._state = with_history(read_state(raw), await store.history(self._client))
        sums = Sums(balance, counters)
        self._work = Work(
            self._state, self._job.catalog, sums, self._calls.fees, self._calls, self._job.summary.job
        )
        self._entries.close()
        self._entries = Spool()
        for count, entry in enumerate(self._work.entries(), 1):
            self._entries.add(_pack(entry))
            if count % 100 == 0:
                await asyncio.sleep(0)
        return True

    def _read_entries(self) -> Iterator[Entry]:
        return map(_entry.decode, self._entries)

    def _tell(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            for row in entry.rows:
                self._job.tell(row)

    # ------------------------------------------------------------------ publishing
    async def _publish(self, commands: JobCommands) -> None:
        """Have all that changes published, however often the client moves on."""
        job, tries = self._job.summary.job, 0
        try:
            # What begins the job is a version of its own, but not where another process of the job has begun.
            begun = self._state.rerating is not None and self._state.rerating.job == job
            version = await self._begin(commands)
            is_as_seen = version == self._state.version + (not begun) and self._is_as_read()
            done = is_as_seen and await self._go_on(commands, version)
            while not done:
                before = self._changed
                version = await self._again(commands)
                is_as_seen = version == self._state.version and self._is_as_read()
                done = is_as_seen and await self._go_on(commands, version)
                tries = 0 if self._changed > before else tries + 1
                _give_in(tries, job)
            calls = self._work.difference.calls
            await commands.ask(self._client, RerateEndArgs(job, True, calls, self._changed))  # noqa: FBT003
        except Refused as refused:
            self._job.summary.left.append(f"client {shown(self._client)!r}: {refused}")

    def _is_as_read(self) -> bool:
        """Return whether the journal told of all that jobs have published by the time of the register.

        Another job may have come in between, or another process of this one.
        """
        return self._state.rerated == self._job.reading.pieces(self._client) + self._gone

    async def _begin(self, commands: JobCommands) -> int:
        """Begin at the client, or ask where it stands; returns its version. All before is published then."""
        window = self._job.selection.window
        begin = RerateBeginArgs(self._job.summary.job, window.from_ms, window.to_ms)
        return int((await commands.ask(self._client, begin))["version"])

    async def _again(self, commands: JobCommands) -> int:
        """Work the client out anew, from what was published since; returns the version that it has."""
        await asyncio.sleep(PAUSE_S)
        await self._job.look_for_catalog()
        counted = await self._rerated()
        await self._begin(commands)
        found = await self._job.reading.read_on(self._client)
        self._calls = self._calls.with_more(merged(self._taken, found))
        self._taken.close()
        self._taken = Sorter()
        if self._firsts:
            self._tell_firsts()
        await self._work_out()
        if self._job.reading.journal_from_ms is not None and self._state.rerated == counted:
            # None was taken since, so all that the journal does not tell of lies before its beginning.
            self._gone = counted - self._job.reading.pieces(self._client)
        return await self._begin(commands)

    async def _rerated(self) -> int:
        """Return the pieces that the client's register has had by now."""
        found = await self._job.sources.store.states([self._client])
        return read_state(found[self._client]).rerated if self._client in found else 0

    def _tell_firsts(self) -> None:
        """Tell of the calls that had their first revision now; what has none will have none."""
        for call in self._calls():
            told = call.told()
            if told is not None and call.name in self._firsts:
                self._changed += 1
                self._job.tell(Row(call.name, call.revision, None, told.micros))
        self._firsts.clear()

    async def _go_on(self, commands: JobCommands, version: int) -> bool:
        """Have first revisions made, or else pieces taken; returns whether nothing is left to be done."""
        await self._rate_first(commands)
        if self._firsts:
            return False
        moved = await self._send_pieces(commands, version)
        self._job.summary.again += moved
        return not moved

    async def _rate_first(self, commands: JobCommands) -> None:
        """Have calls rated that were rejected; those that cannot be all the same are given up."""
        sent: deque[str] = deque()
        for entry in self._read_entries():
            call = entry.call
            if not entry.first or call is None or call.sent is None:
                continue
            self._firsts.add(call.name)
            self._job.reading.given_up.add(call.name)
            topic, value, columns = call.sent
            job, side = self._job.summary.job, SIDES[call.side]
            args = RerateFirstArgs(job, topic, side, value, columns, call.trace)
            sent.append(await commands.send(self._client, args))
            if len(sent) >= AHEAD:
                await commands.answer(sent.popleft())
        while sent:
            await commands.answer(sent.popleft())

    async def _send_pieces(self, commands: JobCommands, version: int) -> bool:
        """Send the pieces in order, some ahead; returns whether the client has moved on before the last."""
        sent: deque[tuple[str, Piece]] = deque()
        moved = False
        for place, piece in enumerate(self._work.pieces(self._read_entries())):
            if len(sent) >= AHEAD:
                moved = await self._settled(commands, *sent.popleft()) or moved
            if moved:
                break
            sent.append((await commands.send(self._client, await self._swap(piece, version + place)), piece))
        while sent:
            moved = await self._settled(commands, *sent.popleft()) or moved
        return moved

    async def _settled(self, commands: JobCommands, command_id: str, piece: Piece) -> bool:
        """Wait for a piece; returns whether the client is another than it was worked out for."""
        try:
            told = await commands.answer(command_id)
        except Refused as refused:
            if MOVED_ON in str(refused):
                return True
            raise
        self._changed += sum(entry.call is not None for entry in piece.entries)
        self._tell(piece.entries)
        for entry in piece.entries:
            for one in entry.movements:
                self._taken.add(sorted_as(read_told(one.value), one.value, NOWHERE, one.trace))
        return bool(told.get("settled"))

    async def _swap(self, piece: Piece, version: int) -> RerateSwapArgs:
        moved = [one for entry in piece.entries for one in entry.movements]
        values, traces = [one.value.decode() for one in moved], [one.trace for one in moved]
        rejected = [
            await rejected_again(self._job.sources, entry.call, entry.rejection)
            for entry in piece.entries
            if entry.rejection is not None and entry.call is not None
        ]
        return RerateSwapArgs(
            self._job.summary.job, version, self._job.catalog.version, piece.least, piece.most,
            piece.counters, values, rejected, traces if any(traces) else [],
        )  # fmt: skip


def _give_in(tries: int, job: str) -> None:
    if tries == TRIES_MAX:
        raise Refused(f"it moves on faster than its calls are rated again; resume by --job {job} later")


async def give_up(
    sources: Sources, clients: Collection[str] | None, job: str, commands: JobCommands
) -> list[str]:
    """End a job at all clients where it has begun, without going on; returns these. clients: None: all."""
    found = []
    names = [of async for of in sources.store.scan_clients()] if clients is None else sorted(clients)
    for some in batched(names, CLIENTS_AT_ONCE):
        for client, raw in (await sources.store.states(some)).items():
            now = read_state(raw).rerating
            if now is not None and now.job == job:
                await commands.ask(client, RerateEndArgs(job, False))  # noqa: FBT003
                found.append(client)
    return found
