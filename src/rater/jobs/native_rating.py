"""Rating without Kafka and Redis by the native engine and a native bucket: batches of records, for jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import structlog

from rater.core.bucket.messages import DrawReply, DrawRequest, Status, clients_of, unpack_results
from rater.core.cdr import SIDES
from rater.core.clients.state import write_state
from rater.core.instants import is_stamp
from rater.core.json_text import UNREADABLE
from rater.core.line import reading, steps
from rater.core.line.batch import Batch, Side
from rater.core.line.engine import Lacking, Place
from rater.core.notices import NOTICES, Notices
from rater.core.offline import (
    TOPIC,
    WINDOW_MS,
    Duplicate,
    Ended,
    Rated,
    Rater,
    Record,
    Transaction,
    place_of,
    published,
)
from rater.core.rating.transaction import TransactionHead, refused
from rater.core.sources.source_map import SourceMap
from rater.errors import Halt
from rater.native import engine
from rater.native.holding import Native
from rater.store.keys import Keys
from rater.store.packing import pack_draw, unpack_due

BATCH_RECORDS = 4000
"""Records that are rated together: more bring nothing."""
VIEWS_MAX = 100_000
"""Views of clients that the engine keeps: some 2 kB each."""
KEYS = Keys("", 0, 1)

log = structlog.get_logger()


class NativeRater(Rater):
    """Rates as `Rater` does, batches of records natively; what the engine returns goes by the steps.

    Sums and duplicates lie in a native bucket, on which the steps draw, too. `bucket` has the history of
    clients, which commands ask for. Decisions: decisions/0110-a-native-bucket.md.
    """

    def __init__(
        self, window_ms: int = WINDOW_MS, notices: Notices = NOTICES, *, unique: bool = False
    ) -> None:
        """Start as `Rater`. unique: a call comes once, as is known: no duplicates are looked for."""
        super().__init__(window_ms, notices)
        self.held = engine.Bucket(unique=unique)
        """Versions, balances and counters of clients, and duplicates."""
        self._native = Native()
        self._tried = 0
        """The catalog that the engine was given last."""
        self._whole: set[str] = set()
        """Clients whose first limits have not done: they are asked with all at once."""
        self.returned = 0
        """Sides that the engine returned to be rejected, and the steps rated: faults of the engine."""

    # ------------------------------------------------------------------ the bucket
    def ask(self, request: DrawRequest) -> DrawReply:
        """Have the native bucket carry out a request of the steps."""
        args = pack_draw(request, KEYS)
        try:
            raw = self.held.draw(args.keys, args.argv)
        except self._native.panic as panic:
            raise Halt(f"{_BROKEN}: {panic}") from panic
        reply = reply_of(raw, request)
        if reply.status == Status.OK:
            for change in request.changes:
                self._native.changed(change.client, change.state, keep=True)
                self.bucket.history[change.client].update(
                    {field: (change.version, row) for field, row in change.history}
                )
        return reply

    def balance(self, client: str) -> int:
        """See `Rater`."""
        found = self.held.client(client)
        return 0 if found is None else found[1]

    def used(self, client: str) -> dict[str, int]:
        """See `Rater`."""
        found = self.held.client(client)
        return {} if found is None else found[2]

    # ------------------------------------------------------------------ batches
    def rate_each(self, records: Sequence[Record], source_map: SourceMap | None = None) -> list[Rated]:
        """See `Rater`: the same comes of each record.

        Events are in the order of the records, and of one client in theirs.
        """
        found: list[Rated] = []
        for part in self._parts(records):
            found += self._rate(part, source_map)
        return found

    def _parts(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Yield the records in batches; all of one have the same generation of duplicates."""
        length_ms, lane_ms, begin = self.standing.generation_ms, self.standing.lane_ms, 0
        generation = lane_ms // length_ms
        for at, record in enumerate(records):
            if record.timestamp > lane_ms and is_stamp(record.timestamp):
                lane_ms = record.timestamp
            rises = lane_ms // length_ms > generation
            if at > begin and (rises or at - begin == BATCH_RECORDS):
                yield records[begin:at]
                begin = at
            if rises:
                generation = lane_ms // length_ms
                self.held.expire(generation - 1)
        if begin < len(records):
            yield records[begin:]

    def _rate(self, records: Sequence[Record], source_map: SourceMap | None) -> list[Rated]:
        by, begin_ms = self._engine_catalog(), self.standing.lane_ms
        if by is None:
            return super().rate_each(records, source_map)
        way = _Way(records, source_map, begin_ms)
        try:
            rating = self._native.batch(
                self.standing.lane, begin_ms, self.standing.window_ms, views_max=VIEWS_MAX, contextless=True
            )
            way.decode(rating, by)
            self.standing.lane_ms = rating.lane_ms
            self._draw_all(rating, by, way)
            way.render(rating)
            left = way.left(rating)
            suspect = way.suspect(rating, left)
        except self._native.panic as panic:
            if way.drawn:
                raise Halt(f"{_BROKEN}: {panic}") from panic
            self.standing.lane_ms = begin_ms
            return super().rate_each(records, source_map)
        for number, places in left:
            self._by_steps(way, number, places)
        self._tell_of_returned(way, suspect)
        self.standing.lane_ms = rating.lane_ms
        for number in sorted({*way.told, *way.later}):
            self._events += way.told[number] + way.later[number]
        return [Rated(ended, way.changes[at] + way.fees[at]) for at, ended in enumerate(way.ended)]

    def _engine_catalog(self) -> engine.Catalog | None:
        """Return the catalog as the engine has it; None: it cannot read it, and the steps rate."""
        version = self.catalog.version
        if self.content is not None and version > self._tried:
            self._tried = version
            try:
                self._native.load(self.content, version, self.catalog.notices)
            except ValueError:
                return None
        return self._native.catalog(version)

    def _draw_all(self, rating: engine.Batch, by: engine.Catalog, way: _Way) -> None:
        """Draw all that the engine rates."""
        generation = self.standing.lane_ms // self.standing.generation_ms
        while True:
            lacking = rating.identify(by)
            if not any(lacking):
                lacking = rating.prepare(by, 1, self._whole)
            if any(lacking):
                self._have(rating, lacking)
                continue
            requests = rating.requests()
            if not requests:
                return
            for request, _ in requests:
                self._draw(rating, request, generation, way)

    def _have(self, rating: engine.Batch, lacking: Lacking) -> None:
        """Tell the engine what it lacks. All that exists is in memory: what is not there does not exist."""
        clients, accounts, catalog = lacking
        if catalog > self.catalog.version:
            raise AssertionError(catalog)
        states = {client: write_state(self.states[client]) for client in clients if client in self.states}
        owners = {name: self.views.accounts[name] for name in accounts if name in self.views.accounts}
        rating.learn(clients, accounts, states, owners)

    def _draw(self, rating: engine.Batch, request: int, generation: int, way: _Way) -> None:
        """Draw by a request. Where nothing was done its sides are open again, or the steps have them."""
        before, way.drawn = way.drawn, True
        reply = self.held.draw_of(rating, request, generation)
        if reply[0] == Status.OK:
            for number, index, client in rating.settle(request, reply[2]):
                self._woken(rating, way, number, index, client)
            return
        way.drawn = before
        if reply[0] == Status.MORE:
            self._whole.update(rating.again(request, reply[2]))
        elif reply[0] == Status.DUE:
            clients = rating.packed(request, generation, 0, 0)[0]
            rating.again(request, ())
            rating.give_back([clients[row[0]] for row in reply[2]])
        else:  # one owner, one bucket, views of this very store
            raise AssertionError(reply)

    def _woken(self, rating: engine.Batch, way: _Way, number: int, index: int, client: str) -> None:
        """Do what waited for the balance that a side has raised, as of its record."""
        record, self.standing.lane_ms = way.records[number], way.times[number + 1]
        batch, side = Batch(self.standing, [(TOPIC, [record])]), Side(TOPIC, record, index)
        side.head = TransactionHead(client, "", "", "", ())
        self._wake(batch, side, self.fresh_views())
        steps.render(batch, self.standing)
        way.changes[number] += published(batch)[1]
        way.later[number] += [value for _, value, _ in batch.events if value is not None]
        rating.put(client, write_state(self.states[client]))
        self.standing.lane_ms = rating.lane_ms

    def _by_steps(self, way: _Way, number: int, places: set[Place]) -> None:
        """Rate by the steps these sides of a record, which the engine returned, and what of it is no side."""
        self.standing.lane_ms = way.times[number]
        batch, sides = self.decoded(way.records[number], way.source_map)
        sides = [side for side in sides if (number, side.index) in places]
        own = {id(side) for side in sides}
        batch.sides = [side for side in batch.sides if id(side) in own or side.rejection is not None]
        before = self.take()
        way.ended[number] = sorted([*way.ended[number], *self.rate_sides(batch, sides)], key=place_of)
        way.changes[number] += self._transactions
        way.later[number] += self._events
        self._transactions, self._events = before

    def _tell_of_returned(self, way: _Way, suspect: set[Place]) -> None:
        """Count and log sides that the steps rate and the engine does not, as a worker does."""
        rated = [place for place in sorted(suspect) if way.has_rated(place) and self._rejects(way, place)]
        if rated:
            self.returned += len(rated)
            first = [str(way.records[number].offset) for number, _ in rated[:10]]
            log.error("the native engine returned calls that Python rates", calls=len(rated), first=first)

    def _rejects(self, way: _Way, place: Place) -> bool:
        """Return whether the engine rejects a side also by the client as the steps have left it."""
        number, index = place
        by, value, record = self._engine_catalog(), way.values[number], way.records[number]
        if by is None or value is None:
            return False
        try:
            alone = self._native.batch(
                self.standing.lane, way.times[number], self.standing.window_ms, views_max=VIEWS_MAX,
                contextless=True,
            )  # fmt: skip
            alone.decode(
                by, TOPIC, [value], [record.offset], [record.timestamp], mapped=way.source_map is not None,
                replayed=[((1 << len(SIDES)) - 1) ^ (1 << index)],
            )  # fmt: skip
            while any(lacking := alone.identify(by)) or any(lacking := alone.prepare(by, 1, self._whole)):
                self._have(alone, lacking)
            alone.requests()
            return (0, index) not in alone.taken({0}) or (0, index) in alone.rejected()
        except self._native.panic:
            return True


class _Way:
    """A batch on its way, and what comes of each record."""

    def __init__(self, records: Sequence[Record], source_map: SourceMap | None, lane_ms: int) -> None:
        """lane_ms: the lane's time before the batch."""
        self.records, self.source_map = records, source_map
        self.times = [lane_ms]
        """The lane's time before each record, and behind the last."""
        for record in records:
            risen = record.timestamp > lane_ms and is_stamp(record.timestamp)
            lane_ms = record.timestamp if risen else lane_ms
            self.times.append(lane_ms)
        self.values = [self._value(record) for record in records]
        """As the engine takes them; None: the steps say what it is."""
        self.drawn = False
        """Whether something was, or may have been."""
        self.refused: set[int] = set()
        """Numbers of records that the engine did not take, or not with all sides."""
        self.ended: list[list[Ended]] = [[] for _ in records]
        self.changes, self.fees = defaultdict[int, list[bytes]](list), defaultdict[int, list[bytes]](list)
        """Record → transactions of changes before it, or that it woke; of fees that it brought."""
        self.told, self.later = defaultdict[int, list[bytes]](list), defaultdict[int, list[bytes]](list)
        """Record → events of its draws; of changes."""

    def decode(self, rating: engine.Batch, by: engine.Catalog) -> None:
        """Have the engine take the records."""
        mapped = self.source_map is not None
        self.refused.update(
            rating.decode(
                by, TOPIC, self.values, [record.offset for record in self.records],
                [record.timestamp for record in self.records],
                mapped=mapped,
            )
        )  # fmt: skip

    def _value(self, record: Any) -> bytes | None:
        if self.source_map is None:
            value: bytes | None = record.value
            return value
        mapped = reading.mapped_of(record, self.source_map)
        try:
            return msgspec.json.encode(mapped) if isinstance(mapped, dict) else None
        except (*UNREADABLE, OverflowError):  # texts that are none, or such numbers
            return None

    def render(self, rating: engine.Batch) -> None:
        """Take what comes of the sides that were drawn."""
        found, ended, last = rating.values(), self.ended, None
        for value, place in zip(found["transactions"], found["places"], strict=True):
            if place == last:  # the fee that the side brought stands behind it
                self.fees[place[0]].append(value)
            else:
                ended[place[0]].append(Transaction(SIDES[place[1]], value))
            last = place
        for _, _, value, (number, _) in found["events"]:
            self.told[number].append(value)
        for (number, index), outcome, name, _ in found["refused"]:
            ended[number] = sorted([*ended[number], refused(outcome, name, SIDES[index])], key=place_of)
        for number, index in found["duplicates"]:
            ended[number] = sorted([*ended[number], Duplicate(SIDES[index])], key=place_of)

    def left(self, rating: engine.Batch) -> list[tuple[int, set[Place]]]:
        """Return the numbers of the records that the steps go on with, in order, each with its sides."""
        returned = set(rating.returned())
        taken = set(rating.taken(self.refused)) if self.refused else set()
        out = []
        for number in sorted(self.refused | {number for number, _ in returned}):
            every = {(number, index) for index in range(len(SIDES))}
            out.append((number, every & returned | (every - taken if number in self.refused else set())))
        return out

    def suspect(self, rating: engine.Batch, left: list[tuple[int, set[Place]]]) -> set[Place]:
        """Return the sides that the engine rejects, or cannot read though it was given their record."""
        returned = set(rating.returned())
        unread = {
            place
            for number, places in left
            if number in self.refused and self.values[number] is not None
            for place in places - returned
        }
        return unread | set(rating.rejected())

    def has_rated(self, place: Place) -> bool:
        """Return whether a side has a transaction."""
        number, index = place
        return any(isinstance(one, Transaction) and one.side == SIDES[index] for one in self.ended[number])


_BROKEN = (
    "the native engine panicked while it drew, and what it holds may be half done; nothing of this job is "
    "published by it: run it again with RATER_WORKER__ENGINE=python, and report this"
)


def reply_of(raw: list[Any], request: DrawRequest) -> DrawReply:
    """Return what the native bucket answered to a request; of stale clients no states, for it has none."""
    status, number, *rest = raw
    if status == Status.OK:
        woken, results = unpack_results(rest[0])
        return DrawReply(Status.OK, number, results, woken, packed=rest[0])
    reply = DrawReply(Status(status), number)
    if status == Status.DUE:
        reply.due = unpack_due(rest[0], clients_of(request), request.changes)
    elif status == Status.MORE:
        reply.more = rest[0]
    elif status == Status.STALE:
        names = clients_of(request)
        reply.stale = [(names[index], b"") for index in rest[0]]
    return reply
