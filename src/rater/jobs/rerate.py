"""`rater rerate`: rate calls again, show what changes, and have it published.

Each client is worked out for itself (core/rerating), from the journal, its register and its counters. What
changes is sent in pieces to the lane of its bucket, which takes them unless what they rest on has moved:
then the client is worked out anew (decision 0112). A job that was killed is resumed by running it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
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
from rater.core.rerating.calls import NOWHERE, read_told
from rater.core.rerating.client import Piece, Sums, Window, Work, wider
from rater.core.rerating.difference import Entry, Row, open_fees
from rater.core.rerating.rating import with_history
from rater.core.rerating.sorting import sorted_as
from rater.jobs.audit_looks import CLIENTS_AT_ONCE
from rater.jobs.native_again import Unlike, ways
from rater.jobs.rerate_calls import Calls
from rater.jobs.rerate_reading import Passed, Reading, Selection, Sources
from rater.jobs.rerate_rejecting import rejected_again
from rater.jobs.rerate_sending import JobCommands, Refused
from rater.jobs.spooling import Sorter, Spool, merged
from rater.store.stored_clients import StoredClient

AHEAD = 4
"""Pieces of a client that are on their way at once."""
TRIES_MAX = 50
"""So often a client is worked out anew without a piece being taken; then the job gives up on it for now."""
PAUSE_S = 0.2
"""Before a client is worked out anew."""
TOGETHER_BYTES = 8 * 2**20
"""Clients are read from Redis several at a time, as long as their calls are no more than this."""


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
        for some in self._together():
            found = await self.sources.store.several([client for client, _ in some])
            for client, calls in some:
                await self._rate(_ClientJob(self, client, calls, commands), found.get(client))

    def _together(self) -> Iterator[list[tuple[str, Calls]]]:
        """Yield clients with their calls, as many as are read from Redis at once."""
        some, size = list[tuple[str, Calls]](), 0
        for client, calls in self.reading.clients():
            if not calls.spool.count:
                continue
            some.append((client, calls))
            size += calls.spool.size
            if len(some) == CLIENTS_AT_ONCE or size > TOGETHER_BYTES:
                yield some
                some, size = [], 0
        if some:
            yield some

    async def _rate(self, one: _ClientJob, found: StoredClient | None) -> None:
        try:
            row = await one.run(found)
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

    def __init__(self, job: Job, client: str, calls: Calls, commands: JobCommands | None) -> None:
        self._job, self._client, self._calls, self._commands = job, client, calls, commands
        self._found: StoredClient
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

    async def run(self, found: StoredClient | None) -> ClientRow | None:
        """Work the client out, and have it published if that is asked for; None: nothing is to be told.

        found: as Redis had it a moment ago.
        """
        if not await self._work_out(found):
            return None
        first = self._work.difference
        if not first.calls:
            return None
        if self._commands is None:
            self._changed = first.changed
            self._tell(self._read_entries())
        elif self._has_work() and await self._look_again() and self._has_work():
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

    async def _work_out(self, found: StoredClient | None) -> bool:
        """Work out what changes, from what is there; False: there is no such client any more."""
        if found is None:
            self._job.summary.left.append(f"client {shown(self._client)!r} is not there")
            return False
        self._found = found
        self._state = read_state(found.state)
        if found.history:
            self._state = with_history(self._state, found.history)
        sums, catalog = Sums(found.balance, found.counters), self._job.catalog
        fees = open_fees(self._state, self._calls.fees)
        state = None if found.history else found.state
        for again in ways(self._job.sources.native, catalog, self._state, sums, state):
            self._entries.close()
            self._entries = Spool()
            try:
                self._work = Work(again, sums, fees, lambda: self._calls.spool, self._job.summary.job)
                await self._work_through()
            except Unlike:
                continue
            break
        return True

    async def _work_through(self) -> None:
        for count, entry in enumerate(self._work.entries(), 1):
            self._entries.add(_pack(entry))
            if count % 100 == 0:
                await asyncio.sleep(0)

    def _has_work(self) -> bool:
        """Return whether anything changes, or an earlier run or another job has left the client."""
        return bool(self._entries.count) or self._state.rerating is not None

    async def _look_again(self) -> bool:
        """Work the client out from what is there now: it may have moved while others were rated again."""
        found = (await self._job.sources.store.several([self._client])).get(self._client)
        return found == self._found or await self._work_out(found)

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
        now = await self._job.sources.store.several([self._client])
        await self._work_out(now.get(self._client))
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
            args = RerateFirstArgs(self._job.summary.job, topic, SIDES[call.side], value, columns)
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
                self._taken.add(sorted_as(read_told(one.value), one.value, NOWHERE))
        return bool(told.get("settled"))

    async def _swap(self, piece: Piece, version: int) -> RerateSwapArgs:
        values = [one.value.decode() for entry in piece.entries for one in entry.movements]
        rejected = [
            await rejected_again(self._job.sources, entry.call, entry.rejection)
            for entry in piece.entries
            if entry.rejection is not None and entry.call is not None
        ]
        return RerateSwapArgs(
            self._job.summary.job, version, self._job.catalog.version, piece.least, piece.most,
            piece.counters, values, rejected,
        )  # fmt: skip


def _give_in(tries: int, job: str) -> None:
    if tries == TRIES_MAX:
        raise Refused(f"it moves on faster than its calls are rated again; resume by --job {job} later")
