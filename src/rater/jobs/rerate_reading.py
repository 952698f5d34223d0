"""What a re-rate reads: the journal, and the rejected records that can be rated now (decision 0111)."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from msgspec import Struct

from rater.core.amounts import LIMIT
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import FUTURE_MS_MAX, SIDES, Arrival, Cdr
from rater.core.clients.views import Views
from rater.core.journal.records import CHANGE_INDEX_MIN, Effect
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.core.line import steps
from rater.core.line.batch import Side
from rater.core.line.reading import header_of, read
from rater.core.reasons import Reason
from rater.core.rerating.calls import NOWHERE, PastSide, Place, Sent, Told, is_of_call, read_told, unrated
from rater.core.rerating.client import Window
from rater.core.rerating.sorting import Sorted, client_of, has_code, sorted_as, sorted_unrated
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.source_map import SourceMap
from rater.errors import Halt
from rater.jobs.rerate_calls import Calls
from rater.jobs.spooling import NativeSorter, Sorter
from rater.store.buckets import Buckets
from rater.stream import journal
from rater.stream.connecting import Connection
from rater.stream.fetching import FetchedBatch
from rater.stream.journal import end_offsets, read_range, read_records
from rater.stream.records import begins_ms, bounds
from rater.stream.topics import Topics

if TYPE_CHECKING:
    from rater.native.engine import Gathering
    from rater.native.holding import Native

log = structlog.get_logger()

IDENTIFIED_TOGETHER = 1000
"""Rejected records whose clients are looked up together."""
SENT_BYTES_MAX = 512 * 1024
"""A rejected record that is larger is left to `rater recycle`: it would not go into a command."""
NEVER_AGAIN = frozenset({Reason.TOO_OLD, Reason.DUPLICATE_DIFFERS})
"""Whether these were rated before only `rater recycle --late` can say; or they were."""

Passed = Callable[[int, int], None]
"""Called with the records read, and to be read."""


class Selection(Struct, frozen=True):
    """Which calls are rated again. clients: None: of all. code: a prefix of the identified code."""

    clients: Collection[str] | None
    window: Window
    code: str = ""

    def has_client(self, client: str) -> bool:
        """Return whether calls of a client are among them."""
        return self.clients is None or client in self.clients

    def has(self, told: Told) -> bool:
        """Return whether a transaction of a call is among them, of whatever code; fees are with their calls.

        Its code is asked of a call's last transaction alone (`latest`): an earlier revision may have another.
        """
        if not self.has_client(told.client):
            return False
        if told.client_package is not None:
            return True
        start, stop = self.window
        return start <= told.at_ms < stop


class Sources(NamedTuple):
    """What is read from. maps: by topic. newest: asks for the catalog that is in force by then.

    native: reads and rates the calls; None: Python does.
    """

    client: Connection
    topics: Topics
    store: Buckets
    maps: Mapping[str, SourceMap]
    catalog: Catalog
    newest: Callable[[], Awaitable[Catalog | None]]
    native: Native | None = None


class Reading:
    """The calls of a selection, sorted, and up to where the journal was read."""

    def __init__(self, sources: Sources, selection: Selection) -> None:
        """Read nothing yet."""
        self._at, self._selection = sources, selection
        self._positions: dict[int, int] = {}
        """Partition of the journal → offset up to which it was read."""
        self._pieces: dict[str, tuple[int, int]] = {}
        """Client → how many pieces of jobs were read, and the offset of the last one's command."""
        self._since: dict[str, list[tuple[Told, bytes, Effect]]] = {}
        """Client → what jobs have published of its calls since, as far as it was read and not asked for."""
        self.left_out = 0
        """Rejected records that are too large for a command."""
        self.rejected_from_ms: int | None = None
        """Time of the oldest rejected records, where older ones are gone; None: none are."""
        self.journal_from_ms: int | None = None
        """From when on the journal has all transactions, where older ones are gone; None: they are not."""
        self.unsure = 0
        """Rejected records that may have been rated by what is gone of the journal."""
        self.given_up: set[str] = set()
        """Ids of rejected calls that were sent to be rated: those without a transaction are not to be."""
        self._sorter = Sorter() if sources.native is None else NativeSorter(sources.native)
        self._gathering: Gathering | None = None
        """What reads the journal natively; None: Python does."""
        self._unrated: set[bytes] = set()
        self._waiting: set[bytes] = set()
        """Names of rejected calls, whosever they are."""
        self._rated: set[bytes] = set()

    async def read(self, passed: Passed) -> None:
        """Read all of it, the journal from where it begins. Raises Halt, StreamDown."""
        lanes, topic = range(self._at.topics.partitions), self._at.topics.transactions
        spans = await bounds(self._at.client, topic, len(lanes))
        self.journal_from_ms = await begins_ms(self._at.client, topic, spans)
        await self._read_rejected()
        ends = await end_offsets(self._at.client, topic, lanes)
        if self._at.native is not None:
            clients, window = self._selection.clients, self._selection.window
            self._gathering = self._at.native.gathering(clients, window, self._waiting)
        total, done = sum(ends[lane] - spans[lane][0] for lane in lanes), 0
        for lane in lanes:
            start = last = spans[lane][0]
            async for at in self._read_lane(lane, start, ends[lane]):
                done, last = done + at - last, at
                passed(min(done, total), total)
                await asyncio.sleep(0)
            self._positions[lane] = ends[lane]
        passed(total, total)

    async def _read_lane(self, lane: int, start: int, until: int) -> AsyncIterator[int]:
        """Read a partition of the journal; yields how far, again and again."""
        client, topic = self._at.client, self._at.topics.transactions
        if isinstance(self._sorter, NativeSorter) and self._gathering is not None:
            async with aclosing(journal.read_batches(client, topic, lane, start, until)) as batches:
                async for batch in batches:
                    if not self._gather(self._gathering, self._sorter, batch, start, until):
                        break
                    start = min(batch.end, until)
                    yield start
        async for records in journal.read_records(client, topic, lane, start, until):
            for record in records:
                self._take_record(record.value, record.headers)
            yield records[-1].offset + 1

    def _gather(
        self, gathering: Gathering, sorter: NativeSorter, batch: FetchedBatch, start: int, until: int
    ) -> bool:
        """Take a batch natively, and by Python what that leaves; False: it took nothing, for it panicked."""
        assert self._at.native is not None  # noqa: S101 - it has made this
        try:
            jobs, rated, left = gathering.take(sorter.now, batch.first, batch.records, start, until)
        except self._at.native.panic as panic:
            _tell_of(panic)
            self._gathering = None
            return False
        except ValueError as error:
            raise Halt(f"the journal's batch at offset {batch.first} cannot be read: {error}") from error
        sorter.look()
        self._rated.update(rated)
        pieces, unread = {one[0]: one for one in jobs}, {one[0]: one for one in left}
        # In their order: pieces are counted by their commands, which follow each other.
        for place in sorted([*pieces, *unread]):
            if place in pieces:
                self._count_piece(*pieces[place][1:])
            else:
                _, value, name, raw = unread[place]
                self._take_record(value, [(name, raw or b"")])
        return True

    def _take_record(self, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Take a record of the journal. Raises Halt where its header cannot be read."""
        said = journal.understood(headers)
        if value is not None and isinstance(said, Effect):
            self._take(value, said)

    def _take(self, value: bytes, effect: Effect) -> None:
        has_client = self._selection.has_client(effect.client)
        told = told_of(value) if has_client or self._waiting else None
        if told is None:
            return
        name = _digest(told.id)
        if name in self._waiting:
            self._rated.add(name)
        if not has_client:
            return
        self._count(told, effect)
        if self._selection.has(told):
            self._sorter.add(sorted_as(told, value, place_of(told, effect)))

    def clients(self) -> Iterator[tuple[str, Calls]]:
        """Yield each client with its calls, once."""
        if isinstance(self._sorter, NativeSorter):
            for client, some in groupby(self._sorter.calls(self._selection.code), key=itemgetter(0)):
                calls = Calls(self._selection.code, self._has)
                for _, fees, part, doubtful in some:
                    calls.take_part(fees, part, doubtful)
                calls.end()
                yield client, calls
            return
        entries = iter(self._sorter)
        entry = next(entries, None)
        while entry is not None:
            client, begin = client_of(entry[0])
            kept = _Run(begin, entry, entries)
            calls = Calls(self._selection.code, self._has)
            calls.take(kept)
            yield client, calls
            entry = kept.rest()

    def _has(self, call: PastSide) -> bool:
        """Return whether a call is to be rated again: one that was rejected, or by its code."""
        if call.revision:
            return has_code(call, self._selection.code)
        return not self.was_rated(call) and call.name not in self.given_up

    def _count(self, told: Told, effect: Effect) -> None:
        if told.job is not None and effect.index >= CHANGE_INDEX_MIN:
            self._count_piece(told.client, effect.offset)

    def _count_piece(self, client: str, command: int) -> None:
        """Count a piece, once for all that it published. command: offset of its command."""
        count, offset = self._pieces.get(client, (0, -1))
        self._pieces[client] = count + (offset != command), command

    def pieces(self, client: str) -> int:
        """Return how many pieces jobs have had published of a client, as far as they are known."""
        return self._pieces.get(client, (0, -1))[0]

    def was_rated(self, call: PastSide) -> bool:
        """Return whether a rejected call was rated since, at whatever time its transaction is.

        At whatever client, too: by rules or accounts of then it may have been another's.
        """
        return not call.revision and _digest(call.name) in self._rated

    def close(self) -> None:
        """Let go of what was read."""
        self._sorter.close()

    async def read_on(self, client: str) -> list[Sorted]:
        """Return, sorted, what jobs have published of a client's calls since it was asked last.

        Clients are gone through in order: of those before nothing is kept.
        """
        topic = self._at.topics.transactions
        ends = await end_offsets(self._at.client, topic, list(self._positions))
        for lane, start in self._positions.items():
            async for records in read_range(self._at.client, topic, lane, start, max(start, ends[lane])):
                for _, _, value, said in records:
                    if value is not None and isinstance(said, Effect) and said.client >= client:
                        self._keep(value, said)
            self._positions[lane] = max(start, ends[lane])
        self._since = {of: found for of, found in self._since.items() if of >= client}
        found: list[Sorted] = []
        for told, value, effect in self._since.pop(client, []):
            self._count(told, effect)  # now, for what is counted is known
            if self._selection.has(told):
                found.append(sorted_as(told, value, place_of(told, effect)))
        return sorted(found)

    def _keep(self, value: bytes, effect: Effect) -> None:
        told = told_of(value)
        if told is not None and told.job is not None and self._selection.has_client(told.client):
            self._since.setdefault(effect.client, []).append((told, value, effect))

    # ------------------------------------------------------------------ rejected records
    async def _read_rejected(self) -> None:
        topic = self._at.topics.rejected
        for lane, (start, end) in (await bounds(self._at.client, topic, self._at.topics.partitions)).items():
            some, oldest = list[Any](), start > 0
            async for records in read_records(self._at.client, topic, lane, start, end):
                if oldest:  # of those that are there
                    self.rejected_from_ms = max(self.rejected_from_ms or 0, records[0].timestamp)
                    oldest = False
                some += records
                if len(some) >= IDENTIFIED_TOGETHER:
                    await self._take_rejected(some)
                    some = []
            await self._take_rejected(some)

    async def _take_rejected(self, records: Iterable[Any]) -> None:
        sides = [side for record in records for side in _unrated_sides(self._at, record)]
        views = Views()
        while lacking := steps.identify(sides, self._at.catalog, views):
            states = await self._at.store.states(lacking.clients)
            owners = await self._at.store.accounts(lacking.accounts)
            if lacking.catalog:
                return  # clients of a newer catalog: a job that begins now has it
            views.learn(lacking.clients, lacking.accounts, states, owners, {})
        for side in sides:
            if side.rejection is None and side.view is not None and side.cdr is not None:
                self._add_unrated(side, side.cdr, side.view.id)

    def _add_unrated(self, side: Side, cdr: Cdr, client: str) -> None:
        start, stop = self._selection.window
        code = "" if side.rate is None else side.rate.code
        if not (self._selection.has_client(client) and start <= cdr.at_ms < stop):
            return
        if not code.startswith(self._selection.code):
            return
        value = side.record.value
        name = _digest(f"{client}\0{cdr.source}/{cdr.id}/{SIDES[side.index]}")
        if name in self._unrated:
            return  # it was rejected more than once
        if self.journal_from_ms is not None and cdr.at_ms < self.journal_from_ms + FUTURE_MS_MAX:
            self.unsure += 1  # duplicates of its time are forgotten, and so is a transaction of it
            return
        if len(value) > SENT_BYTES_MAX:
            self.left_out += 1
            return
        place = side.topic, int(header_of(side.record, "source_partition") or 0), side.record.offset
        sent = Sent(side.topic, value, header_of(side.record, COLUMNS))
        call = unrated(cdr, side.index, client, side.account, place, sent)
        self._unrated.add(name)
        self._waiting.add(_digest(call.name))
        self._sorter.add(sorted_unrated(call))


class _Run:
    """Entries of one client in front of a sorted stream; what is behind them is kept for the next."""

    def __init__(self, begin: bytes, first: Sorted, entries: Iterator[Sorted]) -> None:
        """begin: of the keys of this client."""
        self._begin, self._entries = begin, entries
        self._next: Sorted | None = first

    def __iter__(self) -> Iterator[Sorted]:
        while self._next is not None and self._next[0].startswith(self._begin):
            entry, self._next = self._next, next(self._entries, None)
            yield entry

    def rest(self) -> Sorted | None:
        """Return the first entry of the next client, whether these were gone through or not."""
        for _ in self:
            pass
        return self._next


def _unrated_sides(at: Sources, record: Any) -> list[Side]:
    """Return the sides of a rejected record, as far as it can be read now."""
    topic = (header_of(record, "source_topic") or b"").decode("utf-8", "replace")
    name = (header_of(record, "side") or b"").decode("utf-8", "replace")
    reason = (header_of(record, "reason") or b"").decode("utf-8", "replace")
    known = topic in at.topics.data or topic in at.maps
    if reason in NEVER_AGAIN or not known or record.value is None:
        return []
    arrival = Arrival(record.timestamp, record.timestamp, at.catalog.service_names)
    mapped = at.maps.get(topic)
    source_map = None if mapped is None else mapped.under(at.catalog.zones)
    found = read(record, arrival, source_map)
    if not isinstance(found, Cdr):
        return []
    return [
        Side(topic, record, index, found, party)
        for index, party in enumerate((found.orig, found.term))
        if party is not None and name in (SIDES[index], "")
    ]


def told_of(value: bytes) -> Told | None:
    """Return a transaction of a call, None: it is none, or cannot be read (the audit names it)."""
    try:
        told = read_told(value)
        told.takes()
        _ = told.at_ms, told.micros
    except (*UNREADABLE, TypeError):
        return None
    return told if is_of_call(told) and 0 <= told.revision <= LIMIT else None


def place_of(told: Told, effect: Effect) -> Place:
    """Return where a call's record lies; of what a job made it is that of the revision before."""
    first = told.type == TransactionType.USAGE and effect.index in range(len(SIDES))
    return (effect.topic, effect.partition, effect.offset) if first else NOWHERE


def _tell_of(panic: BaseException) -> None:
    log.error("the native engine panicked", problem="Python reads the journal", panic=str(panic))


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()
