"""The worker's own line in one process: its lanes over buckets in memory, Kafka as lists.

What lies between a lane and its servers is stood in for (`standing_in`); all else is the product: taking a
lane, obeying a load's commands, `Line.process`, `Line.commit`. While it goes on the invariants are asserted:

- at a draw that is done, no client's state is newer than the lane's catalog;
- each counter that a side names is that of its own client package and period;
- a bucket carries out sides once, and once more for changes ahead of some, for a rise that reaches what
  waits, for a catalog that the lane catches up with (STALE), for half of what does not come to rest in
  ROUNDS_MAX; what it answers otherwise is not asked alike again: a side that needs all its limits by the
  first of them, a change by other sums than were told;
- a bucket's sums are the sums of what the journal's headers say;
- mark, rejected records and transactions of one batch name one catalog; but what was drawn before the lane
  caught up, and was rejected beside it, names that of the draw;
- each side ends once;
- what the line rejects is rejected alike by a rater that has no caches (`Witness`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec
import structlog
from engine_choice import InMemory, native_engine, read_request, unpacked
from kafka_form import batch_of
from lives import lived
from msgspec import structs

from oracle.scenario import LoadStep, RecordStep, Scenario, is_time
from rater.catalogs import Catalogs, object_digest
from rater.config import Settings
from rater.config import load as load_settings
from rater.core.bucket.messages import (
    CopiesReply,
    DrawReply,
    DrawRequest,
    Due,
    FenceReply,
    MembersReply,
    PackedDraw,
    Reconcile,
    Status,
    ViewsReply,
    bucket_of,
)
from rater.core.bucket.model import Bucket
from rater.core.bucket.restoring import Restore, RestoreReply, restore
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import Existing, Merged, merge, objects, read_files, wanted
from rater.core.clients.periods import period_of
from rater.core.clients.state import ClientState, read_state, write_state
from rater.core.clients.views import ClientView
from rater.core.commands.loads import parts_of
from rater.core.commands.records import (
    LoadArgs,
    ManifestArgs,
    ManifestBody,
    ObjectPlace,
    write_command,
)
from rater.core.journal.outcomes import entries_of
from rater.core.journal.records import CHANGE_INDEX_MIN, EFFECT_HEADER, Effect, Outgoing
from rater.core.journal.traces import TRACE_HEADER
from rater.core.kinds import Do, DuplicateKind
from rater.core.line.batch import Batch, slices
from rater.core.offline import Duplicate, Rater, Transaction
from rater.core.rating.transaction import Context
from rater.metrics import Metrics
from rater.store.buckets import ExpireReply
from rater.stream import journal, lane_reader, producer, snapshots, topics
from rater.stream.journal import Mark, Owner, control_record, understood
from rater.stream.topics import Topics
from rater.worker.ahead import ROUNDS_MAX
from rater.worker.line import Line
from rater.worker.shared import Readiness, Shared, WorkerConnections
from rater.worker.takeover import take

CALLS_MAX = 20_000
"""Of the store in one batch: more is a line that goes round without end."""
SIDES = ("orig", "term")

_context = msgspec.msgpack.Decoder(Context)


class Broken(AssertionError):  # noqa: N818 - what it says
    """An invariant does not hold."""


def hold(condition: object, problem: str) -> None:
    """Raise Broken unless the condition holds."""
    if not condition:
        raise Broken(problem)


class Record(NamedTuple):
    """A Kafka record, as the client library hands it out."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any = ()


def traced(number: int) -> list[tuple[str, bytes]]:
    """Return the headers of a record of calls: two in three are of a trace."""
    return [(TRACE_HEADER, b"00-%032x-%016x-01" % (number + 1, number + 7))] if number % 3 else []


class Input(NamedTuple):
    """What a lane reads, in the order in which it is to: a command, or a record of calls."""

    command: bool
    record: Record


class Ended(NamedTuple):
    """How one side of a record ended.

    outcome: transaction, rejected, duplicate. value: the transaction, decoded; or the header `value`.
    published: key, value and headers; of an effect without the lane's time, which depends on where a batch
    was cut.
    """

    side: str | None
    outcome: str
    reason: str | None
    value: Any
    published: Any


class Final(NamedTuple):
    """What the buckets hold in the end: balances, counters that are not 0, registers, the account index."""

    balances: dict[str, int]
    counters: dict[tuple[str, str], int]
    states: dict[str, bytes]
    accounts: dict[str, str]


# ------------------------------------------------------------------ Kafka
class Broker(dict[str, Any]):
    """Kafka as lists: commands and journal by lane, and the content of catalogs."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.commands: list[list[Record]] = [[] for _ in range(number)]
        self.journal: list[list[tuple[bytes | None, bytes | None, Any]]] = [[] for _ in range(number)]
        self.content: dict[int, bytes] = {}

    async def read(self, offsets: list[int]) -> dict[int, bytes]:
        """Read content as `stream.content.read_content` does."""
        return {offset: self.content[offset] for offset in offsets}

    def read_of(self, topic: str, partition: int) -> list[journal.Read]:
        """Return all of a partition."""
        if topic.endswith("snapshots"):
            return []
        if topic.endswith("commands"):
            return [(one.offset, one.key, one.value, None) for one in self.commands[partition]]
        return [(at, key, value, said) for at, (key, value, said) in enumerate(self.journal[partition])]


async def _read_range(
    client: Broker, topic: str, partition: int, start: int, until: int, **_: Any
) -> AsyncIterator[list[journal.Read]]:
    found = [one for one in client.read_of(topic, partition) if start <= one[0] < until]
    if found:
        yield found


async def _read_records(
    client: Broker, topic: str, partition: int, start: int, until: int, **_: Any
) -> AsyncIterator[list[Any]]:
    async for some in _read_range(client, topic, partition, start, until):
        yield [
            SimpleNamespace(offset=at, key=key, value=value, headers=_headers(said))
            for at, key, value, said in some
        ]


async def _read_batches(*asked: Any) -> AsyncIterator[Any]:
    async for records in _read_records(*asked):
        yield batch_of(records)


def _headers(said: Any) -> Any:
    return (
        [(EFFECT_HEADER, msgspec.msgpack.encode(said))]
        if isinstance(said, Effect)
        else control_record(said)[2]
    )


async def _read_snapshots(*_: Any) -> AsyncIterator[list[Any]]:
    found: list[list[Any]] = []  # there are none
    for records in found:
        yield records


async def _offset_of(*_: Any, **__: Any) -> int:
    raise AssertionError("there are no snapshots")


async def _end_offset(client: Broker, topic: str, partition: int, **_: Any) -> int:
    return len(client.read_of(topic, partition))


async def _last_mark(client: Broker, topic: str, partition: int, owner_offset: int, **_: Any) -> Mark | None:
    found = [
        said
        for at, _, _, said in client.read_of(topic, partition)
        if isinstance(said, Mark) and at < owner_offset
    ]
    return found[-1] if found else None


async def _last_marks(client: Broker, topic: str, lanes: int, **_: Any) -> list[Mark | None]:
    return [await _last_mark(client, topic, lane, sys.maxsize) for lane in range(lanes)]


class _Producer:
    """Stands in for `LaneProducer`: what is committed goes to the journal at once."""

    def __init__(self, client: Broker, _topics: Topics, _group: str, lane: int, **_: Any) -> None:
        self.journal = client.journal[lane]
        self.marks: list[Mark] = []

    async def open(self) -> None:
        """Open."""

    async def close(self) -> None:
        """Close."""

    async def claim(self, owner: Owner) -> int:
        """Write the owner record."""
        return self._write([control_record(owner)])

    async def commit(
        self, transactions: Sequence[Outgoing], _rejected: Any, _events: Any, mark: Mark, *_: Any
    ) -> int:
        """Write the journal's records, the mark last."""
        self.marks.append(mark)
        return self._write([*transactions, control_record(mark)])

    def _write(self, records: Sequence[Outgoing]) -> int:
        for key, value, headers in records:
            self.journal.append((key, value, understood(headers)))
        return len(self.journal) - 1


class _Source:
    """Stands in for `LaneReader`; what is polled is handed to the line by `System`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.held: list[Any] = []

    def backlog(self) -> int:
        """Return that nothing waits."""
        return 0

    async def open(self) -> None:
        """Open."""

    async def close(self) -> None:
        """Close."""

    async def enable_data(self) -> None:
        """Read calls too."""

    def committed(self, positions: Mapping[str, int], times: Mapping[str, int]) -> None:
        """Tell the group."""


async def _topic_ids(_client: Any, names: list[str]) -> dict[str, str]:
    return dict.fromkeys(names, "")


_STAND_INS: list[tuple[Any, Any]] = [
    (topics.topic_ids, _topic_ids),
    (journal.read_range, _read_range),
    (journal.read_records, _read_records),
    (journal.read_batches, _read_batches),
    (journal.offset_of, _offset_of),
    (snapshots.read_snapshots, _read_snapshots),
    (journal.end_offset, _end_offset),
    (journal.last_mark, _last_mark),
    (journal.last_marks, _last_marks),
    (producer.LaneProducer, _Producer),
    (lane_reader.LaneReader, _Source),
]


@cache
def _places() -> list[tuple[Any, str, Any, Any]]:
    """Return (module, name, original, stand-in) wherever the product has an original under a name."""
    by_id = {id(original): (original, stand_in) for original, stand_in in _STAND_INS}
    return [
        (module, name, *by_id[id(value)])
        for path, module in list(sys.modules.items())
        if path.split(".")[0] == "rater"
        for name, value in list(vars(module).items())
        if id(value) in by_id
    ]


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Let the product find lists where Kafka was, and log nothing."""
    logged = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False
    )
    for module, name, _, stand_in in _places():
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for module, name, original, _ in _places():
            setattr(module, name, original)
        structlog.configure(**logged)


# ------------------------------------------------------------------ the store
Pause = Callable[[str, int, int, Sequence[str]], Awaitable[None]]
"""Called before each call of the store: what, lane, bucket, the clients that it names."""


class Store(InMemory):
    """The buckets of a `System`, asked as the worker asks Redis."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.count = len(system.buckets)

    async def _before(self, what: str, lane: int, bucket: int, clients: Sequence[str] = ()) -> Bucket:
        system = self.system
        system.calls[lane] += 1
        hold(system.calls[lane] < CALLS_MAX, f"lane {lane} asks the store without end")
        if system.pause is not None:
            await system.pause(what, lane, bucket, clients)
        return system.buckets[bucket]

    async def views(
        self, bucket: int, lane: int, token: int, number: int, clients: list[str], accounts: list[str]
    ) -> ViewsReply:
        """See Buckets."""
        held = await self._before("views", lane, bucket, clients)
        self.system.looked_up[lane].update(clients)
        return held.views(lane, token, number, clients, accounts)

    async def list_members(
        self, bucket: int, lane: int, token: int, number: int, package: str, first: int, count: int
    ) -> MembersReply:
        """See Buckets."""
        held = await self._before("members", lane, bucket, [])
        return held.list_members(lane, token, number, package, first, count)

    async def kept(self, bucket: int, lane: int) -> list[tuple[int, bytes, bytes]]:
        """See Buckets."""
        return (await self._before("kept", lane, bucket)).kept(lane)

    async def list_copies(self, bucket: int, lane: int, token: int, number: int) -> CopiesReply:
        """See Buckets."""
        return (await self._before("list_copies", lane, bucket)).list_copies(lane, token, number)

    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """See Buckets."""
        return await self._draw(bucket, request, engine=False)

    async def draw_packed(self, bucket: int, packed: PackedDraw) -> DrawReply:
        """See Buckets."""
        return await self._draw(bucket, read_request(packed), engine=True)

    async def _draw(self, bucket: int, request: DrawRequest, *, engine: bool) -> DrawReply:
        held = await self._before("draw", request.lane, bucket, [use.client for use in request.uses])
        reply = held.draw(request)
        self.system.drawn(bucket, request, reply, engine=engine)
        return reply

    async def fence(self, bucket: int, lane: int, token: int) -> FenceReply:
        """See Buckets."""
        return self.system.buckets[bucket].fence(lane, token)

    async def restore(self, bucket: int, what: Restore) -> RestoreReply:
        """See Buckets."""
        return restore(self.system.buckets[bucket], what, self.system.lanes)

    async def reconcile(self, bucket: int, what: Reconcile) -> tuple[Status, int]:
        """See Buckets."""
        return self.system.buckets[bucket].reconcile(unpacked(what))

    async def register(self, bucket: int, lane: int, token: int, number: int) -> tuple[Status, int]:
        """See Buckets."""
        return self.system.buckets[bucket].register(lane, token, number, self.system.lanes)

    async def probe(self, bucket: int, lane: int, token: int, number: int) -> Status:
        """See Buckets."""
        return self.system.buckets[bucket].probe(lane, token, number)

    async def expire(
        self, bucket: int, lane: int, token: int, number: int, lane_ms: int, length_ms: int
    ) -> ExpireReply:
        """See Buckets."""
        held = self.system.buckets[bucket]
        return ExpireReply(*held.expire(lane, token, number, self.system.lanes, lane_ms, length_ms))


class _Asking:
    """What a batch asked of one bucket so far."""

    def __init__(self) -> None:
        self.draws = self.done = 0
        """By the steps: in all, and those that were carried out. The engine has requests of its own."""
        self.stale = self.more = self.rises = 0
        self.parts = self.woken = 0
        """Requests with changes ahead of sides, which may have parted these; and changes by themselves."""
        self.named: set[bytes] = set()
        """Keys of the sides that are to be asked with all limits, since a view was stale."""
        self.told: dict[str, Due] = {}
        """What was told of clients since anything was done, all that they know by then."""
        self.ahead: set[tuple[str, bytes]] = set()
        """Clients of whom something is due ahead of a side, and its key."""

    def done_or_stale(self) -> None:
        """Forget what was told: it may be otherwise."""
        self.told.clear()
        self.ahead.clear()

    def due(self, request: DrawRequest, reply: DrawReply) -> None:
        """Check a draw ahead of which something is due: it is not asked alike again."""
        ahead = {(one.client, request.items[one.item].key) for one in reply.due if one.item is not None}
        hold(not ahead & self.ahead, f"{ahead & self.ahead}: not parted there")
        self.ahead = ahead  # what others tell then is of another way of parting
        self.rises += bool(ahead)
        self.parts += not ahead
        for one in reply.due if not ahead else ():
            old = self.told.get(one.client)
            hold(
                old is None or old.balance != one.balance or one.counters.items() - old.counters.items(),
                f"a change of {one.client} goes by other sums than were told: {one}",
            )
            counters = {**({} if old is None else old.counters), **one.counters}
            self.told[one.client] = one._replace(counters=counters)


# ------------------------------------------------------------------ the lanes
@cache
def settings(window_days: int) -> Settings:
    """Return settings with this duplicate window."""
    found = load_settings(None, {}, {"worker.duplicate_window_days": str(window_days)})
    assert isinstance(found, Settings), found
    return found


@cache
def metrics() -> Metrics:
    """Return the process's metrics."""
    return Metrics()


@lru_cache(maxsize=64)  # the variants of a scenario load the same
def read_of(raw: str) -> Any:
    """Return the checked rows of a catalog file."""
    return read_files([("catalog.json", raw.encode())], _no_part)


def _no_part(name: str) -> bytes:
    raise FileNotFoundError(name)


class Witness:
    """A rater of the product without lanes, loaded with the same: what it says rests on no old view."""

    def __init__(self, window_days: int) -> None:
        self.rater = Rater(window_ms=window_days * 86_400_000)

    def load(self, step: LoadStep) -> None:
        """Load a file."""
        faults = self.rater.load([("catalog.json", json.dumps(step.file).encode())], step.at_ms)
        assert not faults, faults

    def check(self, raw: bytes, lane_ms: int, ended: Ended) -> None:
        """Check that what was rejected is rejected alike."""
        if ended.reason == "duplicate_differs" or (
            ended.reason == "amount_out_of_range" and not ended.value.count(" ")
        ):
            return  # it rests on sums and earlier calls, which the witness has not
        self.rater.standing.lane_ms = lane_ms
        for one in self.rater.rate(raw, lane_ms):
            if one.side == ended.side:
                if isinstance(one, (Transaction, Duplicate)):
                    raise Broken(
                        f"{ended.side} of {raw!r} is {ended.reason}; with an empty cache it is {one!r}"
                    )
                if (one.reason.value, one.value) != (ended.reason, ended.value):
                    alike = one.reason.value, one.value
                    raise Broken(f"{ended.side} of {raw!r} is {ended[2:4]}; with an empty cache {alike}")


class System:
    """Lanes over buckets; loads and records are put into their inputs, and `step` lets a lane take some."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        lanes: int = 1,
        buckets: int = 4,
        processes: int = 1,
        witness: bool = True,
    ) -> None:
        """processes: lane l is one of process l % processes; what caches there are is shared in a process."""
        self.scenario, self.lanes, self.processes = scenario, lanes, processes
        self.broker = Broker(lanes)
        self.topics = Topics("t.", lanes, {})
        self.buckets = [Bucket() for _ in range(buckets)]
        self.inputs: list[list[Input]] = [[] for _ in range(lanes)]
        self.lines: list[Line] = []
        self.shared = [self._shared() for _ in range(processes)]
        self.content: Content | None = None
        self.contents: dict[int, Content] = {}
        self.version = 0
        self.loaded_ms = 0
        self.sweeps = False
        """Whether the last load changes status or dates of packages, so that ticks see to their clients."""
        self.pause: Pause | None = None
        self.calls = [0] * lanes
        self.looked_up: list[set[str]] = [set() for _ in range(lanes)]
        self.asking: list[dict[int, _Asking]] = [{} for _ in range(lanes)]
        self.in_flight = 0
        self.drawn_by: list[set[int]] = [set() for _ in range(lanes)]
        """Catalogs by which something of the lane's batch was drawn."""
        self.lost = [False] * lanes
        """Whether a lane has drawn what is not published yet."""
        self.ended: dict[int, list[Ended]] = {}
        """By the number of the scenario's step."""
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.rating: list[list[Record]] = [[] for _ in range(lanes)]
        """Records of the batch that a lane has in hand, until they stand in `order`."""
        self.order: list[tuple[int, int]] = []
        """(lane, step) of records, as they were drawn."""
        self._balances: defaultdict[str, int] = defaultdict(int)
        self._counters: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._touched: set[str] = set()
        self._needs: dict[str, int] = {}
        """Client → the catalog of the load that made its state."""
        self._views: dict[bytes, ClientView] = {}
        self.witness = Witness(scenario.window_days) if witness else None

    def _shared(self) -> Shared:
        native = native_engine()
        connections = WorkerConnections(
            settings=settings(self.scenario.window_days), client=cast("Any", self.broker), topics=self.topics,
            store=cast("Any", Store(self)), catalogs=self._catalogs(native), maps={}, metrics=metrics(),
            worker_id="w",
        )  # fmt: skip
        return Shared(connections, Readiness("kafka"), native)

    def _catalogs(self, native: Any) -> Catalogs:
        beside = None if native is None else native.load
        return Catalogs(self.broker.read, beside=beside)

    async def open(self) -> None:
        """Take all lanes."""
        for lane in range(self.lanes):
            self.lines.append(await self._take(lane))

    async def _take(self, lane: int) -> Line:
        shared = self.shared[lane % self.processes]
        shared.readiness.lanes.add(lane)
        return Line(await take(lane, shared), shared)

    async def retake(self, lane: int) -> None:
        """Lose a lane as a crash does, with what it has drawn and not published, and take it again."""
        self.shared[lane % self.processes] = self._shared()
        for other in range(self.lanes):
            if other % self.processes == lane % self.processes:
                self.lines[other] = await self._take(other)

    # ------------------------------------------------------------------ loads
    def load(self, step: LoadStep) -> bool:
        """Publish a load; False: it changes nothing."""
        file = read_of(json.dumps(step.file))
        clients, accounts = wanted(file)
        owners = {
            account: owner
            for account in accounts
            if (owner := self.buckets[bucket_of(account, len(self.buckets))].accounts.get(account))
            is not None
        }
        known: dict[str, ClientState] = {}
        for name in {*clients, *owners.values()}:
            raw = self.buckets[bucket_of(name, len(self.buckets))].states.get(name)
            if raw is not None:
                known[name] = read_state(raw)
        merged = merge(self.content, file, step.at_ms, Existing(known, owners))
        assert isinstance(merged, Merged), (
            f"the generator made a faulty load: {[str(fault) for fault in merged]}"
        )
        if not merged.changed:
            return False
        if self.witness is not None:
            self.witness.load(step)
        self.version += 1
        self.loaded_ms, self.sweeps = step.at_ms, _sweeps(self.content, merged.content)
        self.content = self.contents[self.version] = merged.content
        body = self._write_content(merged.content, step.at_ms)
        self._publish(body, step.at_ms, merged.entries)
        return True

    def _write_content(self, content: Content, at_ms: int) -> int:
        places, store = [], self.broker.content
        for name, raw in objects(content).items():
            offset = len(store)
            store[offset] = raw
            places.append(ObjectPlace(name, object_digest(raw), [offset]))
        body = len(store)
        store[body] = msgspec.msgpack.encode(ManifestBody(self.version, at_ms, places))
        return body

    def _publish(self, body: int, at_ms: int, entries: Sequence[ClientEntry]) -> None:
        """Write the commands, as `rater.loader` does: manifests, then the account index, then clients."""
        parts = parts_of(entries, self.version, len(self.buckets))
        manifest = ManifestArgs(self.version, body, len(parts))
        for lane in range(self.lanes):
            self._command(lane, f"load{self.version}/catalog", at_ms, manifest)
        for number, (bucket, args) in enumerate(parts):
            self._command(bucket % self.lanes, f"load{self.version}/{number}", at_ms, args)

    def _command(self, lane: int, name: str, at_ms: int, args: LoadArgs) -> None:
        log = self.broker.commands[lane]
        log.append(
            Record(len(log), at_ms, b"load", write_command(name, Do.LOAD_CATALOG, at_ms, args, actor="anna"))
        )
        self.inputs[lane].append(Input(command=True, record=log[-1]))

    def _tick(self, lane: int, batch: Batch) -> None:
        """Let the lane read the ticks that it wrote to itself, before calls that it has not read yet.

        They do what is due by the load that they are of; what comes later is left to calls.
        """
        log, inputs = self.broker.commands[lane], self.inputs[lane]
        for _, value, _ in batch.ticks:
            row = json.loads(value or b"")
            row["args"]["until_ms"] = self.loaded_ms
            log.append(Record(len(log), self.loaded_ms, None, json.dumps(row).encode()))
            unread = [one for one in self.waiting(lane) if not one.command]
            place = inputs.index(unread[0]) if unread else len(inputs)
            inputs.insert(place, Input(command=True, record=log[-1]))

    def send(self, step: RecordStep, number: int, lane: int) -> None:
        """Put a record into a lane's topic; its offset is the number of the step."""
        record = Record(number, step.record_ms, b"k", step.raw, traced(number))
        self.inputs[lane].append(Input(command=False, record=record))

    # ------------------------------------------------------------------ work
    def waiting(self, lane: int) -> list[Input]:
        """Return what the lane has not read yet."""
        positions = self.lines[lane].lane.standing.position.positions
        commands = positions.get(self.topics.commands, 0)
        records = positions.get(self.topics.cdrs, 0)
        return [
            one for one in self.inputs[lane] if one.record.offset >= (commands if one.command else records)
        ]

    async def step(
        self, lane: int, records: int, *, commit: bool = True, commands: int | None = None
    ) -> bool:
        """Let a lane take the commands that are next and up to so many records behind; False: nothing waits.

        commands: at most so many, and no record unless these are all; 0: records alone, for what lies in
        their topic may be read before a command that was written first. commit False: it is drawn only.
        """
        waiting = self.waiting(lane)
        if commands == 0 and self.lines[lane].lane.catalog is not None:
            waiting, commands = [one for one in waiting if not one.command], None
        ahead = [one.record for one in waiting]
        first = next((at for at, one in enumerate(waiting) if not one.command), len(waiting))
        if commands and commands < first:
            first, records = commands, 0
        stop = next((at for at in range(first, len(waiting)) if waiting[at].command), len(waiting))
        stop = min(stop, first + records)
        polled = [
            (topic, piece)
            for topic, piece in ((self.topics.commands, ahead[:first]), (self.topics.cdrs, ahead[first:stop]))
            if piece
        ]
        if not polled:
            return False
        line = self.lines[lane]
        for batch in slices(line.lane.standing, cast("Any", polled), sys.maxsize):
            await self._rate(lane, line, batch, ahead[first:stop], commit=commit)
        return True

    async def _rate(
        self, lane: int, line: Line, batch: Batch, records: list[Record], *, commit: bool
    ) -> None:
        before = line.lane.standing.lane_ms
        lane_ms = max([before, *filter(is_time, (one.timestamp for one in batch.commands))])
        asking = self.asking[lane] = {}
        self.drawn_by[lane] = set()
        self.calls[lane] = 0
        self.looked_up[lane] = set()
        own = batch.last[self.topics.cdrs].offset + 1 if self.topics.cdrs in batch.last else 0
        of_batch = [one for one in records if one.offset < own and one.offset not in self.ended]
        self.rating[lane] = of_batch
        quiet = self.version if self.quiet() or self.lanes == 1 else -1
        self.in_flight += 1
        await line.process(batch)
        self.in_flight -= 1
        self._order(lane)
        for bucket, asked in asking.items():
            taken_apart = asked.draws // ROUNDS_MAX  # the second half of what did not come to rest
            hold(
                asked.done <= 1 + asked.stale + asked.parts + asked.woken + asked.rises + taken_apart,
                f"bucket {bucket} was drawn from {asked.draws} times, {asked.done} of them done: "
                f"stale {asked.stale}, more {asked.more}, parts {asked.parts}, woken {asked.woken}, "
                f"rises {asked.rises}",
            )
        if commit:
            await line.commit([batch])
            self._tick(lane, batch)
            self.lost[lane] = bool(line.lane.standing.pending)
            self._published(lane, batch, of_batch, lane_ms, alone=quiet == self.version and self.quiet())
            self._check_sums()
        else:
            self.lost[lane] = True

    def _order(self, lane: int) -> None:
        """Note that the lane's batch is rated: when it draws, or in the end where it draws nothing."""
        self.order += [(lane, one.offset) for one in self.rating[lane]]
        self.rating[lane] = []

    # ------------------------------------------------------------------ invariants
    def drawn(self, bucket: int, request: DrawRequest, reply: DrawReply, *, engine: bool) -> None:
        """Check a draw, and what was asked before it in the same batch."""
        asked = self.asking[request.lane].setdefault(bucket, _Asking())
        if reply.status == Status.UNSETTLED:
            return
        if not request.items:
            asked.woken += 1  # what a side woke may do what another waits for
            asked.done_or_stale()
            self._touched.update(one.client for one in request.changes)
            # One load at a time is on its way.
            self._needs.update(
                (one.client, self.version) for one in request.changes if reply.status == Status.OK
            )
            return
        asked.draws += not engine
        if reply.status == Status.STALE:
            asked.stale += 1
            hold(asked.stale <= 200, f"bucket {bucket} answers STALE again and again")
            asked.named.clear()
            asked.done_or_stale()
        elif reply.status == Status.MORE:
            asked.more += 1
            asked.ahead.clear()  # they part anew
            for item in reply.more:
                key = request.items[item].key
                hold(
                    key not in asked.named,
                    f"a side of {request.uses[request.items[item].use].client} needs all its limits, and is "
                    f"asked again with the first of them ({asked.more} times MORE, "
                    f"{len(request.items)} sides)",
                )
                asked.named.add(key)
        elif reply.status == Status.DUE:
            if not engine:
                asked.due(request, reply)
        elif reply.status == Status.OK:
            asked.done += not engine
            asked.parts += bool(request.changes)
            asked.done_or_stale()
            self._check_draw(bucket, request)

    def _check_draw(self, bucket: int, request: DrawRequest) -> None:
        catalog = self.lines[request.lane].lane.catalog
        version = 0 if catalog is None else catalog.version
        self.drawn_by[request.lane].add(version)
        held = self.buckets[bucket]
        for use in request.uses:
            self._touched.add(use.client)
            hold(
                self._needs[use.client] <= version,
                f"lane {request.lane} draws for client {use.client}, whose state needs catalog "
                f"{self._needs[use.client]}, with catalog {version}",
            )
        entries = entries_of(request.context)
        for item, entry in zip(request.items, entries, strict=True):
            if not item.candidates:
                continue
            use, said = request.uses[item.use], _context.decode(entry.context)
            named = [use.fields[one.field] for one in item.candidates]
            view = self._view(held.states[use.client])
            for one, field in zip(said.limits, named, strict=True):
                package = view.packages[one.group]
                period = (
                    period_of(view.state, package, catalog.packages[package.package], said.at_ms)
                    if catalog
                    else None
                )
                own = None if period is None else f"{_escaped(package.id)}.{period.number}{one.field}"
                if not field == own == said.head.packages[one.group].field + one.field:
                    raise Broken(
                        f"a call of client {use.client} at {said.at_ms} names the counter {field}, "
                        f"and its own is {own}"
                    )
        self._order(request.lane)

    def _view(self, raw: bytes) -> ClientView:
        found = self._views.get(raw)
        if found is None:
            found = self._views[raw] = ClientView(read_state(raw))
        return found

    def _published(
        self, lane: int, batch: Batch, records: list[Record], lane_ms: int, *, alone: bool
    ) -> None:
        """Take in what a batch published: how each side ended, and what it did to sums.

        alone: no load was on its way meanwhile.
        """
        ended: dict[int, list[Ended]] = {one.offset: [] for one in records}
        catalogs = {batch.catalog}
        for key, value, headers in batch.transactions:
            said = understood(headers)
            if not isinstance(said, Effect):
                continue
            self._balances[said.client] += said.balance
            self._touched.add(said.client)
            for field, delta in said.counters:
                self._counters[said.client][field] += delta
            if said.index >= CHANGE_INDEX_MIN:
                continue
            said.lane_ms = 0
            transaction = json.loads(value or b"")
            if not batch.counts.replayed:
                catalogs.add(transaction["catalog"])
            self._check_transaction(transaction, said)
            ended[said.offset].append(
                Ended(
                    SIDES[said.index],
                    "transaction",
                    None,
                    transaction,
                    (key, value, msgspec.msgpack.encode(said)),
                )
            )
        for key, value, headers in batch.rejected:
            said_of = {name: raw.decode() for name, raw in headers}
            if said_of["reason"] != "service_unknown":  # judged by the catalog that the batch began with
                catalogs.add(int(said_of["catalog"]))
            ended[int(said_of["source_offset"])].append(
                Ended(
                    said_of["side"] or None,
                    "rejected",
                    said_of["reason"],
                    said_of["value"],
                    (key, value, headers),
                )
            )
        drawn = self.drawn_by[lane] | {batch.catalog}
        hold(catalogs <= drawn, f"one batch names catalogs {sorted(catalogs)}: mark, transactions, rejected")
        hold(max(catalogs) == batch.catalog, f"the mark names catalog {batch.catalog}, others {catalogs}")
        self._end(lane, batch, records, ended, lane_ms, alone=alone)
        self.events += [(lane, json.loads(value or b"")) for _, value, _ in batch.events]
        self._check_traces(batch)

    def _check_traces(self, batch: Batch) -> None:
        """Check that all that is published of a record is of its trace."""
        places = list[tuple[str, int, Any]]()
        for _, _, headers in batch.transactions:
            said = understood(headers)
            if isinstance(said, Effect):
                places.append((said.topic, said.offset, headers))
        for _, _, headers in batch.rejected:
            origin = dict(headers)
            places.append((origin["source_topic"].decode(), int(origin["source_offset"]), headers))
        for _, value, headers in batch.events:
            topic, _, place = (json.loads(value or b"")["cause"] or "").partition("/")
            if topic == self.topics.cdrs:
                places.append((topic, int(place.rpartition("/")[2]), headers))
        for topic, offset, headers in places:
            found = [one for one in headers if one[0] == TRACE_HEADER]
            wanted = traced(offset) if topic == self.topics.cdrs else []
            hold(found == wanted, f"{topic}@{offset} is of {wanted}, what is published of it of {found}")

    def _check_transaction(self, transaction: dict[str, Any], said: Effect) -> None:
        """Check that a transaction says the same as its header."""
        drawn = []
        for draw in transaction["draws"]:
            name = f"{_escaped(draw['client_package'])}.{draw['period']}.{_escaped(draw['limit'])}"
            name += ".rolled" if draw.get("rolled") else ""
            drawn.append((name, _units(draw["taken"]) if draw["kind"] == "money" else int(draw["taken"])))
        header = said.balance, [tuple(one) for one in said.counters], said.client
        if (_units(transaction["amount"]), drawn, transaction["client"]) != header:
            raise Broken(f"transaction and header differ: {transaction} {said}")

    def _end(
        self, lane: int, batch: Batch, records: list[Record], ended: dict[int, list[Ended]], lane_ms: int,
        *, alone: bool,
    ) -> None:  # fmt: skip
        """Infer the duplicates, which leave nothing, and check that each side ended once."""
        duplicates = 0
        for record in records:
            lane_ms = max(lane_ms, record.timestamp if is_time(record.timestamp) else 0)
            sides = ended[record.offset]
            there = [one.side for one in sides]
            if None not in there:
                for side in _sides_of(record.value):
                    if side not in there:
                        duplicates += 1
                        sides.append(Ended(side, "duplicate", None, None, None))
            sides.sort(key=lambda one: SIDES.index(one.side) if one.side else -1)
            names = [one.side for one in sides]
            if not sides or len(set(names)) != len(names):
                raise Broken(f"sides of {record.value!r} ended as {sides}")
            self.ended[record.offset] = sides
            if self.witness is not None and alone:
                for one in sides:
                    if one.outcome == "rejected":
                        self.witness.check(record.value or b"", lane_ms, one)
        told = batch.counts.duplicates[DuplicateKind.SAME]
        hold(duplicates == told, f"{duplicates} duplicates in a batch that counts {told} (lane {lane})")

    def quiet(self) -> bool:
        """Return whether all lanes have obeyed all commands, and none is in the middle of a batch."""
        return not self.in_flight and all(
            line.lane.standing.position.positions.get(self.topics.commands, 0)
            == len(self.broker.commands[lane])
            and line.lane.catalog is not None
            and line.lane.catalog.version == self.version
            for lane, line in enumerate(self.lines)
        )

    def _check_sums(self, *, every: bool = False) -> None:
        """Compare the sums of clients that something was done for with those of the headers."""
        if self.in_flight or any(self.lost):
            return
        names = {name for held in self.buckets for name in held.clients} if every else self._touched
        for name in names:
            held = self.buckets[bucket_of(name, len(self.buckets))].clients.get(name)
            if held is None:
                continue
            hold(
                held.balance == self._balances[name],
                f"the balance of {name} is {held.balance}; its transactions make {self._balances[name]}",
            )
            used = {field: units for field, units in held.used.items() if units}
            said = {field: units for field, units in self._counters[name].items() if units}
            if used != said:
                raise Broken(f"the counters of {name} are {used}; its transactions make {said}")
        self._touched = set()

    def final(self) -> Final:
        """Return what the buckets hold."""
        self._check_sums(every=True)
        balances, counters, states, accounts = {}, {}, {}, {}
        for held in self.buckets:
            states.update(held.states)
            accounts.update(held.accounts)
            for name, client in held.clients.items():
                balances[name] = client.balance
                counters.update({(name, field): units for field, units in client.used.items() if units})
        return Final(balances, counters, self._settled(states), accounts)

    def _settled(self, states: dict[str, bytes]) -> dict[str, bytes]:
        """Return the clients with all done that is due by the last record.

        Without how many steps it took, and which periods of before have gone to the history.
        """
        if not self.contents:
            return states
        newest = max(self.contents)
        catalog = compile_catalog(self.contents[newest], newest)
        stamps = [one.record.timestamp for lane in self.inputs for one in lane]
        until_ms = max(filter(is_time, stamps), default=0)
        out = {}
        for name, raw in states.items():
            state = lived(read_state(raw), catalog, max(until_ms, read_state(raw).changed_ms))
            packages = [
                structs.replace(
                    one, life=one.life and structs.replace(one.life, version=0, periods=one.life.periods[-1:])
                )
                for one in state.packages
            ]
            out[name] = write_state(
                structs.replace(state, version=0, catalog=0, changed_ms=0, packages=packages)
            )
        return out


def _sweeps(before: Content | None, after: Content) -> bool:
    """Return whether status or dates of packages change, so that something may be due of their clients."""
    old = {} if before is None else before.packages
    return any(
        (one.statuses, one.latest.start_date, one.latest.end_date)
        != (of.statuses, of.latest.start_date, of.latest.end_date)
        for name, one in after.packages.items()
        if (of := old.get(name)) is not None
    )


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E")


def _units(text: str) -> int:
    """Return the micros of a decimal, exactly."""
    whole, _, part = text.removeprefix("-").partition(".")
    units = int(whole) * 10**6 + int((part + "000000")[:6])
    return -units if text.startswith("-") else units


def _sides_of(raw: bytes | None) -> list[str]:
    """Return the sides that a record has, as another reader of JSON sees them."""
    try:
        record = json.loads(raw or b"")
    except ValueError:
        return []
    if not isinstance(record, dict):
        return []
    return [side for side in SIDES if record.get(side) is not None]


# ------------------------------------------------------------------ memos
def _modules() -> list[Any]:
    return [
        module for path, module in list(sys.modules.items()) if path == "rater" or path.startswith("rater.")
    ]


@cache
def _memos() -> tuple[list[Any], list[dict[Any, Any]]]:
    """Return the functions that remember, and the dictionaries of modules that are there to be filled.

    But those of zones: they read files that never change, and for each record that would be all of the time.
    """
    functions: dict[int, Any] = {}
    dicts: dict[int, dict[Any, Any]] = {}
    for module in _modules():
        if not module.__name__.startswith("rater.core."):
            continue
        for name, value in vars(module).items():
            if callable(getattr(value, "cache_clear", None)) and value.__module__ != "rater.core.zones":
                functions[id(value)] = value
            elif type(value) is dict and name.startswith("_recent"):
                dicts[id(value)] = value
    return list(functions.values()), list(dicts.values())


def forget(system: System) -> None:
    """Empty every memo: of functions and modules, of views, of lanes, and of the catalogs that they hold."""
    forget_functions()
    forget_views(system)
    made: dict[tuple[int, int], Catalog] = {}
    for lane, line in enumerate(system.lines):
        line.buckets.ask_whole.clear()
        if line.lane.catalog is not None:
            key = lane % system.processes, line.lane.catalog.version
            if key not in made:
                made[key] = compile_catalog(system.contents[key[1]], key[1])
            line.lane.catalog = made[key]


def forget_rater(rater: Rater) -> None:
    """Empty every memo that rating without lanes has: of functions and modules, of views, of the catalog."""
    forget_functions()
    for name, state in rater.states.items():
        rater.views.clients[name] = ClientView(state)
    if rater.content is not None:
        rater.catalog = compile_catalog(rater.content, rater.catalog.version)


def forget_functions() -> None:
    """Empty the memos of functions and modules."""
    functions, dicts = _memos()
    for function in functions:
        function.cache_clear()
    for memo in dicts:
        memo.clear()


def forget_views(system: System) -> None:
    """Empty what the processes know of clients and accounts."""
    for shared in system.shared:
        shared.forget_views()


BOUNDS = {
    "SPANS_MAX", "OPENED_MAX", "OFFERS_MAX", "VIEWS_MAX", "ASK_WHOLE_MAX",
}  # fmt: skip
"""Of what a view, a catalog, a module and a worker remember."""


@contextlib.contextmanager
def bounds_at_one() -> Iterator[None]:
    """Let each memo hold one thing."""
    found = [
        (module, name, vars(module)[name]) for module in _modules() for name in BOUNDS & vars(module).keys()
    ]
    for module, name, _ in found:
        setattr(module, name, 1)
    try:
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run some work on lanes."""

    async def go() -> None:
        await work()

    with standing_in():
        asyncio.run(go())
