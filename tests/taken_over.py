"""What a lane leaves in Kafka and Redis when its worker is killed, recorded; and taking it over.

    PYTHONPATH=$PWD/src:$PWD/tests python -m taken_over OUT      writes tests/data/kept-DATE.json

It was run once, by the version whose name the file bears, and is to be run again when a later version is to
be taken over too: a file for each (this module, with that version's src). It rates on a real Valkey, with the
worker's own line and Kafka as lists (`oracle.lanes`), and records

- `killed`: two states: the worker was killed between draw and commit, where some calls were published and
  some drawn only; and it was killed once more after the lane had been taken and before anything was
  published, so that what is kept was written by `reconcile`;
- of each: all keys of Redis, the journal with the bytes of its headers, what is kept as it was read then, and
  what taking the lane over and rating on publishes;
- `drawn`: digests of the transactions that would have been published if the worker had lived;
- the commands and calls that the lane reads, and the catalogs that they name.

Calls and loads are chosen so that each kind of outcome is kept: sides with several draws, money in another
currency, the balance told, zero of both kinds, duplicates, one that differs, one rejected by the draw;
clients with opening balances, a client that changes, entries of the account index.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import redis

from oracle.lanes import Broker, Record, metrics, settings, standing_in
from rater.catalogs import Catalogs, object_digest
from rater.core.bucket.messages import DrawResult, bucket_of, unpack_results
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import Existing, Merged, merge, objects, read_files, wanted
from rater.core.clients.state import read_state
from rater.core.commands.records import (
    AccountsArgs,
    ClientsArgs,
    LoadArgs,
    ManifestArgs,
    ManifestBody,
    ObjectPlace,
    write_command,
)
from rater.core.journal.outcomes import KeptChange, OutcomeEntry, Pending, unpack_entries, unpack_kept
from rater.core.journal.reconciling import effects
from rater.core.kinds import Do
from rater.core.line.batch import slices
from rater.local.redis import Redis
from rater.store.buckets import Buckets
from rater.stream.journal import control_record, understood
from rater.stream.topics import Topics
from rater.worker.line import Line
from rater.worker.shared import Readiness, Shared, WorkerConnections
from rater.worker.takeover import take

BUCKETS = 2
WINDOW_DAYS = 7
NOW_MS = 1_795_946_400_000
"""2026-11-29T10:00:00Z."""
AGAIN_MS = NOW_MS + 90_000
OBJECTS_FROM = 10_000
"""Offsets of a catalog's objects: beyond those of the bodies that commands name."""
ALL = 10**6
CHANGES = b"\x01"
"""Begins what is kept of a call with changes."""
CONTEXT_FIELDS, LIMIT_FIELDS = 13, 7
"""Of what is kept of a side, before it had fees, and of each limit, before that had percents."""

Raw = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""A record of Kafka: key, value, headers."""


Held = dict[bytes, bytes] | list[bytes] | bytes
"""What a key of Redis holds: a hash, a list, a text."""


class StateRecord(NamedTuple):
    """What is there when a worker is killed. redis: (key without prefix, what it holds)."""

    redis: list[tuple[str, Held]]
    journal: list[Raw]


class Inputs(NamedTuple):
    """What a lane reads. loads: of each version, when, the offset of its body, and its file."""

    loads: list[tuple[int, int, str]]
    commands: list[Record]
    calls: list[Record]
    again: list[Record]
    """Calls that come when the lane was taken over: all those before once more, and new ones behind them."""


# ------------------------------------------------------------------ bytes in JSON
def told(value: Any) -> Any:
    """Return a value as JSON has it: bytes are text where they are text, else {"b64": ...}."""
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = ""
        if text and text.isprintable():
            return {"text": text}
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"fields": [[told(name), told(one)] for name, one in sorted(value.items())]}
    if isinstance(value, (list, tuple)):
        return [told(one) for one in value]
    return value


def read(value: Any) -> Any:
    """Return what `told` was given, but for tuples, which are lists."""
    if isinstance(value, dict):
        if "text" in value:
            return value["text"].encode()
        if "b64" in value:
            return base64.b64decode(value["b64"])
        return {read(name): read(one) for name, one in value["fields"]}
    if isinstance(value, list):
        return [read(one) for one in value]
    return value


def state_of(given: dict[str, Any]) -> StateRecord:
    """Return a state of the file."""
    journal = [
        (key, value, [(name, raw) for name, raw in headers]) for key, value, headers in read(given["journal"])
    ]
    return StateRecord([(key, content) for key, content in read(given["redis"])], journal)


def inputs_of(given: dict[str, Any]) -> Inputs:
    """Return the inputs of the file."""
    commands, calls, new = (
        [Record(*one) for one in read(given[name])] for name in ("commands", "calls", "new")
    )
    repeats = [one._replace(offset=len(calls) + one.offset, timestamp=AGAIN_MS) for one in calls]
    return Inputs(
        [(at_ms, body, file) for at_ms, body, file in given["loads"]], commands, calls, [*repeats, *new]
    )


# ------------------------------------------------------------------ a lane
def put_content(broker: Broker, loads: Sequence[tuple[int, int, str]]) -> list[Content]:
    """Put the catalogs of loads where commands and marks say that they are; returns them."""
    found: list[Content] = []
    for version, (at_ms, body, raw) in enumerate(loads, 1):
        file = read_files([("catalog.json", raw.encode())], _no_part)
        merged = merge(found[-1] if found else None, file, at_ms, Existing({}, {}))
        assert isinstance(merged, Merged), [str(fault) for fault in merged]
        places = []
        for name, one in objects(merged.content).items():
            offset = OBJECTS_FROM + len(broker.content)
            broker.content[offset] = one
            places.append(ObjectPlace(name, object_digest(one), [offset]))
        broker.content[body] = msgspec.msgpack.encode(ManifestBody(version, at_ms, places))
        found.append(merged.content)
    return found


def _no_part(name: str) -> bytes:
    raise FileNotFoundError(name)


class Lane:
    """Lane 0 of one, on a Redis, with Kafka as lists; the headers of its journal are kept as they are."""

    def __init__(self, store: Buckets, loads: Sequence[tuple[int, int, str]], journal: list[Raw]) -> None:
        self.broker = Broker(1)
        self.journal = journal
        self.broker.journal[0] = [(key, value, understood(headers)) for key, value, headers in journal]
        put_content(self.broker, loads)
        self.topics = Topics("t.", 1, {})
        connections = WorkerConnections(
            settings=settings(WINDOW_DAYS), client=cast("Any", self.broker), topics=self.topics, store=store,
            catalogs=Catalogs(self.broker.read), maps={}, metrics=metrics(), worker_id="w",
        )  # fmt: skip
        self.shared = Shared(connections, Readiness("kafka"))
        self.line: Line

    async def take(self) -> None:
        """Take the lane: what is appended to the journal meanwhile are an owner record and a mark."""
        before = len(self.broker.journal[0])
        self.line = Line(await take(0, self.shared), self.shared)
        said = [one for _, _, one in self.broker.journal[0][before:]]
        self.journal += [control_record(cast("Any", one)) for one in said]

    async def rate(
        self, commands: Sequence[Record], calls: Sequence[Record], *, commit: bool = True
    ) -> dict[str, Any]:
        """Rate what the lane has not read yet of these in one batch; returns all that is published of it."""
        line, at = self.line, self.line.lane.standing.position.positions
        self.broker.commands[0] = list(commands)
        polled = [
            (topic, [one for one in records if one.offset >= at.get(topic, 0)])
            for topic, records in ((self.topics.commands, commands), (self.topics.cdrs, calls))
        ]
        (batch,) = slices(line.lane.standing, cast("Any", [one for one in polled if one[1]]), ALL)
        await line.process(batch)
        published: dict[str, Any] = {
            "journal": [*batch.controls, *batch.transactions],
            "rejected": batch.rejected,
            "events": batch.events,
        }
        if commit:
            await line.commit([batch])
            mark = control_record(cast("Any", self.broker.journal[0][-1][2]))
            published["journal"].append(mark)
            self.journal += published["journal"]
        return published


def keyspace(client: redis.Redis, prefix: str) -> list[tuple[str, Held]]:
    """Return all keys of a prefix and what they hold."""
    found: list[tuple[str, Held]] = []
    for raw in sorted(cast("Any", client.keys(f"{prefix}{{*"))):
        key = raw.decode()
        kind = client.type(key)
        content: Any
        if kind == b"list":
            content = client.lrange(key, 0, -1)
        else:
            content = client.hgetall(key) if kind == b"hash" else client.get(key)
        found.append((key.removeprefix(prefix), content))
    return found


def restore(client: redis.Redis, prefix: str, content: Sequence[tuple[str, Held]]) -> None:
    """Put keys into Redis as they were."""
    for key, what in content:
        if isinstance(what, dict):
            client.hset(prefix + key, mapping=cast("Any", what))
        elif isinstance(what, list):
            client.rpush(prefix + key, *what)
        else:
            client.set(prefix + key, what)


async def connected(url: str, prefix: str) -> Buckets:
    """Connect to the buckets."""
    return await Buckets.connect(url, prefix=prefix, buckets=BUCKETS, lanes=1)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run work on lanes, whose Kafka is lists."""

    async def go() -> Any:
        return await work()

    with standing_in():
        return asyncio.run(go())


def take_over(url: str, prefix: str, state: StateRecord, inputs: Inputs) -> dict[str, Any]:
    """Take the lane over from a state, and rate on; returns all that is published, and the sums then.

    `taken`: owner record and mark. `waiting`: what the lane had not published. `again`: what came then.
    """

    async def work() -> dict[str, Any]:
        store = await connected(url, prefix)
        try:
            lane = Lane(store, inputs.loads, list(state.journal))
            before = len(lane.journal)
            await lane.take()
            pending = sorted(list(one) for one in lane.line.lane.standing.pending)
            taken = lane.journal[before:]
            waiting = await lane.rate(inputs.commands, inputs.calls)
            again = await lane.rate(inputs.commands, inputs.again)
            return {"pending": pending, "taken": taken, "waiting": waiting, "again": again}
        finally:
            await store.close()

    with redis.Redis.from_url(url) as client:
        restore(client, prefix, state.redis)
        found: dict[str, Any] = run(work)
        found["sums"] = [
            (key, content) for key, content in keyspace(client, prefix) if key.split(":")[1] in ("c", "r")
        ]
    return found


def digest(raw: bytes) -> str:
    """Return what stands for long bytes that are in the file already."""
    return sha256(raw).hexdigest()[:16]


def decisions(state: StateRecord) -> Iterator[tuple[str, int, OutcomeEntry, DrawResult | KeptChange | None]]:
    """Yield each decision that is kept, as today's code reads it: key in Redis, call, entry, result.

    An apply of then is a change, or None where it was not done.
    """
    for key, fields in state.redis:
        if not isinstance(fields, dict) or key.split(":")[1] != "o":
            continue
        for call in sorted(int(field[:-1]) for field in fields if field.endswith(b"c")):
            context, packed = fields[b"%dc" % call], fields[b"%dr" % call]
            if context[:1] == CHANGES:
                for one in unpack_kept(context, packed):
                    yield (key, call, one.entry, one.result) if isinstance(one, Pending) else (
                        key, call, _entry_of(one), one
                    )  # fmt: skip
                continue
            changes = [one for one in unpack_kept(context, packed) if isinstance(one, KeptChange)]
            done = {one.identity: one for one in changes}
            applied, results = unpack_results(packed)
            decided: list[DrawResult | None] = [*(None for _ in applied), *results]
            for entry, result in zip(unpack_entries(context), decided, strict=True):
                yield key, call, entry, result or done.get((entry.topic, entry.offset, entry.index))


def _entry_of(change: KeptChange) -> OutcomeEntry:
    """Return a change in the place of a side; its state is its context."""
    record = change.topic, change.offset, change.index, change.record_ms
    return OutcomeEntry(*record, b"", b"", change.client, change.state)


def _as_then(context: bytes) -> bytes:
    """Return a side's context without fees and percents, of which versions before knew nothing."""
    fields = msgspec.msgpack.decode(context)
    if isinstance(fields, list) and len(fields) == CONTEXT_FIELDS + 1 and not fields[-1]:
        *others, limits, _ = fields
        assert not any(limit[LIMIT_FIELDS:] != [[]] for limit in limits)
        return msgspec.msgpack.encode([*others, [limit[:LIMIT_FIELDS] for limit in limits]])
    return context


def kept(state: StateRecord, *, before_life: bool = False) -> list[Any]:
    """Return the same in plain lists, with what each did to its client's sums; contexts by their digest.

    before_life: contexts as they were before the life of packages.
    """
    found = []
    for key, call, entry, result in decisions(state):
        context = digest(_as_then(entry.context) if before_life else entry.context)
        if isinstance(result, DrawResult):
            balance, counters = effects(Pending(entry, result))
            plain: Any = [*result[:3], [list(one) for one in result[3]]]
        else:
            balance, counters = (0, {}) if result is None else effects(result)
            plain = result is not None
        found.append([
            key, call, entry.topic, entry.offset, entry.index, entry.record_ms, entry.key, entry.content,
            entry.client, context, plain, balance, [list(one) for one in counters.items()],
        ])  # fmt: skip
    return found


# ------------------------------------------------------------------ the maker
def _volume(name: str, code: str, minutes: int, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "volume", "service": "calls", "code": code, "limit": minutes, **more}


FIRST: dict[str, Any] = {
    "currencies": {"base": "USD", "rates": {"EUR": "1.08", "GBP": [{"rate": "1.27", "from": "2026-01-01"}]}},
    "code_decks": [
        {"name": "a-z", "codes": {"380": "Ukraine", "38044": "Ukraine Kiev", "1": "USA", "44": "UK"}}
    ],
    "services": [{"name": "sms_mt", "unit": "piece", "price_unit": 1}],
    "rate_tables": [
        {"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": [
            {"code": "380", "price": "0.10", "setup_fee": "0.05", "interval": 60, "min_time": 60},
            {"code": "38044", "price": "0.0333333333", "setup_fee": "0.01"},
            {"code": "1", "price": "0.60", "interval": 6, "grace_time": 5}]},
        {"name": "carrier", "currency": "USD", "code_deck": "a-z", "rates": [
            {"code": "380", "price": "0.02"}, {"code": "1", "price": "-0.01"}]},
        {"name": "euro", "currency": "EUR", "rates": [
            {"code": "44", "price": "2.5", "setup_fee": "1.23456789"},
            {"code": "1", "price": "0.0123456789"}]},
        {"name": "large", "currency": "USD", "rates": [{"code": "380", "price": "900000000"}]},
    ],
    "packages": [
        {"id": "1", "name": "Minutes", "type": "customer", "currency": "USD", "period": "1 month",
         "setup_fee": "dont_charge", "limits": [
             _volume("a.0", "38044", 1), _volume("b", "380*", 2),
             {"id": "c", "type": "money", "service": "calls", "code": "*", "limit": "0.20"}]},
        {"id": "2", "name": "Bonus", "type": "customer", "currency": "GBP", "client_balance": "allow",
         "dynamic_tag": 'a "quoted" ö', "priority": 2, "limits": [
             _volume("p%", "1*", 3, per_call_max=30),
             {"id": "m", "type": "money", "service": "calls", "code": "*", "limit": "1.00"}]},
        {"id": "3", "name": "Many", "type": "customer", "currency": "USD", "period": "1 day",
         "limits": [_volume(f"v{n}", "*", 1) for n in range(6)]},
        {"id": "4", "name": "Vendor", "type": "vendor", "currency": "USD", "limits": [_volume("w", "*", 4)]},
    ],
    "clients": [
        {"id": "42", "currency": "USD", "time_zone": "Europe/Kyiv", "balance": "100.00",
         "rate_tables": {"orig": {"calls": "retail", "sms_mt": "retail"}}, "accounts": [{"id": "sip-42"}]},
        {"id": "43", "currency": "EUR", "time_zone": "UTC", "balance": "-3", "credit_limit": "5",
         "rate_tables": {"orig": {"calls": "euro"}}, "accounts": [{"id": "sip-43"}]},
        {"id": "44", "currency": "USD", "time_zone": "America/New_York", "balance": "0.10",
         "rate_tables": {"orig": {"calls": "retail"}}},
        {"id": "45", "currency": "USD", "time_zone": "UTC", "balance": "-9007199254.74",
         "rate_tables": {"orig": {"calls": "retail"}}},
        {"id": "V", "currency": "USD", "time_zone": "UTC", "rate_tables": {"term": {"calls": "carrier"}}},
    ],
    "client_packages": [
        {"id": "7", "client": "42", "package": "1", "start_date": "2026-11-03", "activate_in_past": True},
        {"id": "cp.8", "client": "42", "package": "2", "start_date": "2026-11-01", "activate_in_past": True},
        {"id": "9", "client": "43", "package": "2", "start_date": "2026-11-01T00:00:00Z",
         "activate_in_past": True, "quantity": 2},
        {"id": "10", "client": "44", "package": "3", "start_date": "2026-11-20", "activate_in_past": True},
        {"id": "11", "client": "V", "package": "4", "start_date": "2026-11-20", "activate_in_past": True},
    ],
    "identification": [{"side": "term", "gateway": "gw-1", "client": "V"}],
}  # fmt: skip
SECOND: dict[str, Any] = {
    "packages": [
        {"id": "5", "name": "More", "type": "customer", "currency": "USD", "priority": 9,
         "limits": [_volume("x", "380*", 5)]},
    ],
    "clients": [
        {"id": "50", "currency": "USD", "time_zone": "UTC", "balance": "25.00",
         "rate_tables": {"orig": {"calls": "retail"}}, "accounts": [{"id": "sip-50"}, {"id": "trunk-50"}]},
        {"id": "51", "currency": "EUR", "time_zone": "UTC", "balance": "-0.000001",
         "rate_tables": {"orig": {"calls": "euro"}}},
        {"id": "52", "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}},
        {"id": "42", "currency": "USD", "time_zone": "Europe/Kyiv", "credit_limit": "7.5",
         "rate_tables": {"orig": {"calls": "retail", "sms_mt": "retail"}}, "accounts": [{"id": "sip-42b"}]},
    ],
    "client_packages": [
        {"id": "20", "client": "50", "package": "1"},
        {"id": "21", "client": "42", "package": "5", "start_date": "2026-11-28", "activate_in_past": True},
    ],
}  # fmt: skip


def _call(name: str, called: str, seconds: float, orig: dict[str, Any] | None = None, **more: Any) -> bytes:
    found = {
        "id": name, "caller": "14155550100", "called": called, "answered_at": "2026-11-29T09:30:00.250Z",
        "duration_ms": round(seconds * 1000), "orig": orig or {"client": "42"},
    }  # fmt: skip
    return json.dumps({key: one for key, one in {**found, **more}.items() if one is not None}).encode()


KIEV, MOBILE, NEW_YORK, LONDON = "380441234567", "380501234567", "12125550100", "442071234567"
PUBLISHED = [
    _call("first-1", KIEV, 30),
    _call("first-2", NEW_YORK, 61, {"client": "43"}),
    _call("first-3", MOBILE, 20, {"client": "44"}, term={"gateway": "gw-1"}),
]
DRAWN = [
    _call("several", KIEV, 600, term={"gateway": "gw-1"}),
    _call("capped", NEW_YORK, 90),
    _call("pounds", LONDON, 20, {"client": "43"}),
    _call("all-limits", MOBILE, 350, {"client": "44"}, term={"client": "V"}),
    _call("unanswered", MOBILE, 0, answered_at=None, setup_at="2026-11-29T09:30:00Z"),
    _call("grace", NEW_YORK, 4),
    _call("first-1", KIEV, 30),
    _call("first-2", NEW_YORK, 62, {"client": "43"}),
    _call("several", KIEV, 600, term={"gateway": "gw-1"}),
    _call("range", NEW_YORK, 3000, {"client": "45"}),
    _call("no-rate", "79031234567", 10),
    b"not json",
    _call('quo"ted ü', MOBILE, 70, {"account": "sip-42"}, caller='a"ö'),
    _call("sms", MOBILE, 0, duration_ms=None, service="sms_mt", volume=2),
    _call("given", MOBILE, 70, {"client": "42", "rate": {"code": "380", "price": "12345.6789012345",
                                                         "currency": "EUR", "interval": 1}}),
]  # fmt: skip
CHANGED = [
    _call("by-account", MOBILE, 125, {"account": "sip-50"}),
    _call("after-load", KIEV, 400, {"account": "sip-42b"}, term={"gateway": "gw-1"}),
    _call("euro", LONDON, 9, {"client": "51"}),
]
NEW = [
    _call("new-1", KIEV, 500, term={"client": "V"}),
    _call("new-2", MOBILE, 5000, {"client": "50"}),
    _call("new-3", NEW_YORK, 45, {"client": "44"}),
    _call("new-4", LONDON, 60, {"client": "43"}),
]


class _Maker:
    """The lane that is killed: its inputs come into being as it goes on."""

    def __init__(self, store: Buckets) -> None:
        self.store = store
        self.loads: list[tuple[int, int, str]] = []
        self.commands: list[Record] = []
        self.calls: list[Record] = []
        self.journal: list[Raw] = []

    async def load(self, at_ms: int, file: dict[str, Any]) -> None:
        """Write the commands of a load, as `rater.loader` does."""
        raw, version, body = json.dumps(file), len(self.loads) + 1, 3000 + len(self.loads)
        checked = read_files([("catalog.json", raw.encode())], _no_part)
        clients, accounts = wanted(checked)
        found = await self.store.states(clients)
        known = {name: read_state(one) for name, one in found.items()}
        before = put_content(Broker(1), self.loads)
        existing = Existing(known, await self.store.accounts(accounts))
        merged = merge(before[-1] if before else None, checked, at_ms, existing)
        assert isinstance(merged, Merged), [str(fault) for fault in merged]
        self.loads.append((at_ms, body, raw))
        parts = self._parts(version, merged.entries)
        for number, args in enumerate([ManifestArgs(version, body, len(parts)), *parts]):
            command = write_command(f"load{version}/{number}", Do.LOAD_CATALOG, at_ms, args, actor="anna")
            self.commands.append(Record(len(self.commands), at_ms, b"load", command))

    @staticmethod
    def _parts(version: int, entries: Sequence[ClientEntry]) -> list[LoadArgs]:
        accounts: list[list[tuple[str, str]]] = [[] for _ in range(BUCKETS)]
        clients: list[list[ClientEntry]] = [[] for _ in range(BUCKETS)]
        for entry in entries:
            clients[bucket_of(entry.id, BUCKETS)].append(entry)
            for account in entry.client.accounts if entry.client is not None else ():
                accounts[bucket_of(account.id, BUCKETS)].append((account.id, entry.id))
        return [
            *(AccountsArgs(version, bucket, own) for bucket, own in enumerate(accounts) if own),
            *(ClientsArgs(version, bucket, own) for bucket, own in enumerate(clients) if own),
        ]

    def send(self, at_ms: int, values: Sequence[bytes]) -> None:
        """Put calls into the topic."""
        first = len(self.calls)
        self.calls += [Record(first + n, at_ms + 10 * n, b"k", raw) for n, raw in enumerate(values)]

    async def rate_until_killed(self) -> list[Any]:
        """Publish some, then draw only; returns what would have been published."""
        await self.load(NOW_MS, FIRST)
        lane = Lane(self.store, self.loads, self.journal)
        await lane.take()
        await lane.rate(self.commands, [])
        self.send(NOW_MS + 1000, PUBLISHED)
        await lane.rate(self.commands, self.calls)
        self.send(NOW_MS + 2000, DRAWN)
        drawn = [await lane.rate(self.commands, self.calls, commit=False)]
        await self.load(NOW_MS + 60_000, SECOND)
        put_content(lane.broker, self.loads)
        self.send(NOW_MS + 61_000, CHANGED)
        drawn.append(await lane.rate(self.commands, self.calls, commit=False))
        return drawn


def make(url: str) -> dict[str, Any]:
    """Return what the file holds, rated on a Redis that is given away."""
    states: list[StateRecord] = []
    drawn: list[Any] = []
    given: dict[str, Any] = {}

    async def first() -> None:
        store = await connected(url, "a")
        maker = _Maker(store)
        drawn.extend(await maker.rate_until_killed())
        await store.close()
        states.append(StateRecord(keyspace(client, "a"), list(maker.journal)))
        new = [Record(2 * len(maker.calls) + n, AGAIN_MS + 10 * n, b"k", raw) for n, raw in enumerate(NEW)]
        given.update(
            loads=maker.loads,
            commands=told([list(one[:4]) for one in maker.commands]),
            calls=told([list(one[:4]) for one in maker.calls]),
            new=told([list(one[:4]) for one in new]),
        )

    async def second() -> None:
        store = await connected(url, "b")
        lane = Lane(store, inputs_of(given).loads, list(states[0].journal))
        await lane.take()
        await store.close()
        states.append(StateRecord(keyspace(client, "b"), lane.journal))

    with redis.Redis.from_url(url) as client:
        run(first)
        restore(client, "b", states[0].redis)
        run(second)
    killed = [
        {
            "redis": state.redis,
            "journal": state.journal,
            "kept": kept(state),
            "published": take_over(url, f"p{number}", state, inputs_of(given)),
        }
        for number, state in enumerate(states)
    ]
    return {
        "inputs": given,
        "drawn": [digest(value or b"") for one in drawn for _, value, _ in one["journal"] if value],
        "killed": [{name: told(one) for name, one in each.items()} for each in killed],
    }


def main() -> None:
    """Write the file that is named."""
    with tempfile.TemporaryDirectory() as folder, Redis.start(Path(folder)) as server:
        made = make(server.url)
    Path(sys.argv[1]).write_text(json.dumps(made, ensure_ascii=False, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
