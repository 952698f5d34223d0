"""The worker's code on a store in memory: a lane that obeys commands, a journal that is read back.

The store is `core/bucket/model.Bucket`, which functions.lua is compared with elsewhere; what is under test
here is everything above it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import msgspec
from engine_choice import InMemory, native_engine

from golden.cases import load_cases
from rater.catalogs import Catalogs, object_digest
from rater.config import Settings, load
from rater.core.bucket.messages import CopiesReply, DrawReply, DrawRequest, Status, ViewsReply, bucket_of
from rater.core.bucket.model import Bucket
from rater.core.catalog_files.merging import Existing, Merged, merge, objects, read_files
from rater.core.clients.state import read_state
from rater.core.clients.views import ClientView
from rater.core.commands.records import (
    AccountsArgs,
    ClientsArgs,
    ManifestArgs,
    ManifestBody,
    ObjectPlace,
    write_command,
)
from rater.core.journal.reconciling import Reconciling
from rater.core.journal.records import ChangeRecord, Effect, StateRecord
from rater.core.kinds import Do, Result
from rater.core.line import batch as batch_module
from rater.core.line.batch import Batch
from rater.core.offline import Rater, Transaction
from rater.errors import Halt, NoCatalog
from rater.metrics import Metrics
from rater.store.keys import Keys
from rater.store.packing import pack_reconcile
from rater.stream.journal import Mark
from rater.stream.producer import LaneProducer
from rater.stream.topics import Topics
from rater.worker.lane import Lane as OwnLane
from rater.worker.line import Line
from rater.worker.shared import Readiness, Shared, WorkerConnections

LOADED_MS = 1_789_430_400_000  # 2026-09-15, as golden cases are loaded
BUCKETS = 4
EVENT_BYTES_MAX = 20_000
"""Far below what a topic takes: an event that is too large would end the lane."""

RICH = b"""
currencies: {base: USD, rates: {EUR: "1.08", GBP: [{rate: "1.27", from: 2026-01-01}, {rate: "1.30", from: 2026-10-01}]}}
services:
  - {name: sms_mt, unit: piece, price_unit: 1}
resellers:
  - {id: "1", name: Main}
code_decks:
  - name: a-z
    codes:
      "380": Ukraine
      "38044": Ukraine Kiev
  - {name: beside, file: deck.csv}
rate_tables:
  - name: retail
    currency: USD
    code_deck: a-z
    rates:
      - {code: "380", price: "0.10", setup_fee: "0.05", min_time: 60, interval: 60, grace_time: 0, effective_from: 2026-01-01T00:00:00Z, effective_to: null}
      - {code: "38044", price: "0.06"}
  - {name: beside, currency: EUR, file: rates.csv}
tax_profiles:
  - {name: vat20, taxes: [{name: VAT, percent: "20"}]}
packages:
  - id: "1"
    name: Kiev 100
    type: customer
    currency: USD
    period: 1 month
    advance_renew: 3 days
    renew_for: 10 days
    fees: [{type: subscription, name: Monthly, rate: "5.00", note: ""}]
    discounts: [{activation_count: 2, discount: "1.00"}]
    did_limits: [{quantity: 2, allowed_tags: [kyiv], on_hold_days: 5}]
    limits:
      - {id: m1, type: volume, service: calls, code: "38044*", limit: 100, exclude: ["380449*"], min_call: 6, per_call_max: 3600, rollover: 30}
  - id: "2"
    name: Bonus
    reseller: "1"
    status: active
    type: customer
    currency: EUR
    period: null
    setup_fee: dont_charge
    client_balance: allow
    renewal_charge: on_period
    priority: 5
    dynamic_tag: promo
    start_date: 2026-01-01
    end_date: 2030-01-01T00:00:00Z
    limits:
      - {type: money, service: calls, code_deck: a-z, code_name: Ukraine Kiev, limit: "2.00"}
clients:
  - id: "42"
    name: Rose
    reseller: "1"
    currency: USD
    time_zone: Europe/Kyiv
    balance: "50.00"
    credit_limit: "0"
    low_balance: "5.00"
    payment_terms: {every: 1 month, anchor: 2026-01-01}
    tax_profile: vat20
    rate_tables: {orig: {calls: retail}, term: {calls: beside}}
    accounts: [{id: sip-1, rate_tables: {orig: {calls: beside}}}, {id: sip-2}]
  - {id: "43", name: Violet, currency: EUR, rate_tables: {orig: {calls: retail}}, accounts: [{id: sip-3}]}
identification:
  - {side: orig, gateway: gw-kiev, ip: 203.0.113.0/24, login: "1001", caller_prefix: "1415", client: "42", account: sip-1}
client_packages:
  - {id: "3", client: "42", account: null, package: "1", start_date: 2026-01-01T00:00:00Z, end_date: null, activate_in_past: true, quantity: 1}
  - {id: "4", client: "43", account: sip-3, package: "2", start_date: 2026-01-01, end_date: 2029-01-01, quantity: 2}
dids:
  - {number: "380441112233", tags: [kyiv], account: sip-1}
"""  # noqa: E501 - one row of a catalog on one line

_PARTS = {
    "deck.csv": b"code,code_name\n380,Ukraine\n1,USA\n",
    "rates.csv": b"code,price,setup_fee,interval\n380,0.09,0.01,6\n1,0.02,,\n",
}
CSVS = (
    (
        b"id,currency,name,accounts,rate_tables,payment_terms,balance\n"
        b'7,USD,Iris,"[{""id"": ""a7""}]","{""orig"": {""calls"": ""retail""}}","{""every"": ""1 month"", ""anchor"": ""2026-01-01""}",5\n'  # noqa: E501 - the same
        b'8,EUR,"Li, ly",,,,\n'
    ),
    (
        b"id,client,package,account,start_date,end_date,quantity,activate_in_past\n"
        b"9,42,1,,2026-01-01,,1,true\n10,43,2,sip-3,,2029-01-01,2,false\n"
    ),
)


def open_part(name: str) -> bytes:
    """Return the CSV that stands beside RICH."""
    try:
        return _PARTS[name]
    except KeyError:
        raise FileNotFoundError(name) from None


# ------------------------------------------------------------------ a load, as `rater load` writes it
class Load(NamedTuple):
    """content: records of partition 0 by offset; commands: those of all partitions, manifest first."""

    content: dict[int, bytes]
    body: int
    commands: list[bytes]


@cache
def load_of(version: int = 1) -> Load:
    """Return the records of a load of RICH."""
    file = read_files([("rich.yaml", RICH)], open_part)
    merged = merge(None, file, LOADED_MS, Existing({}, {}))
    assert isinstance(merged, Merged), merged
    content = dict(enumerate(objects(merged.content).values()))
    places = [
        ObjectPlace(name, object_digest(raw), [offset])
        for offset, (name, raw) in enumerate(objects(merged.content).items())
    ]
    body = len(content)
    content[body] = msgspec.msgpack.encode(ManifestBody(version, LOADED_MS, places))
    parts: list[Any] = [ManifestArgs(version, body, 2)]
    for bucket in range(BUCKETS):
        accounts = [
            (account.id, entry.id)
            for entry in merged.entries
            for account in (entry.client.accounts if entry.client is not None else ())
            if bucket_of(account.id, BUCKETS) == bucket
        ]
        clients = [entry for entry in merged.entries if bucket_of(entry.id, BUCKETS) == bucket]
        parts += [AccountsArgs(version, bucket, accounts)] if accounts else []
        parts += [ClientsArgs(version, bucket, clients)] if clients else []
    commands = [
        write_command(f"load{version}/{n}", Do.LOAD_CATALOG, LOADED_MS, args, actor="anna", reason="test")
        for n, args in enumerate(parts)
    ]
    return Load(content, body, commands)


def commands() -> list[bytes]:
    """Return commands of every kind."""
    newer = [raw.replace(b'"version":1', b'"version":2') for raw in load_of().commands]
    changed = [raw.replace(b"Rose", b"Lily").replace(b"Violet", b"Iris") for raw in load_of().commands]
    tick = write_command("tick/1", Do.TICK, LOADED_MS, {})
    return [*load_of().commands, *newer, *changed, tick, tick.replace(b'"tick"', b'"adjust"')]


def content_records() -> list[tuple[str, bytes]]:
    """Return (which, bytes) of the body, and of each object of the content."""
    load_ = load_of(2)
    return [("body", load_.content[load_.body])] * 8 + [
        (f"object{offset}", raw) for offset, raw in load_.content.items() if offset != load_.body
    ]


# ------------------------------------------------------------------ the lane
class Store(InMemory):
    """Buckets in memory, asked as the worker asks Redis: what it sends must be packable."""

    count = BUCKETS

    def __init__(self) -> None:
        self.buckets = [Bucket() for _ in range(BUCKETS)]
        self.calls = []
        for bucket in self.buckets:
            call = bucket.fence(0, 1).number
            _, call = bucket.register(0, 1, call, 1)
            self.calls.append(call)

    async def views(
        self, bucket: int, lane: int, token: int, number: int, clients: list[str], accounts: list[str]
    ) -> ViewsReply:
        """Return registers and index entries."""
        for name in (*clients, *accounts):
            name.encode()
        return self.buckets[bucket].views(lane, token, number, clients, accounts)

    async def list_copies(self, bucket: int, lane: int, token: int, number: int) -> CopiesReply:
        """Return nothing: there is one lane."""
        return self.buckets[bucket].list_copies(lane, token, number)

    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """Draw; what Lua cannot hold exactly is refused as loudly as packing refuses it."""
        msgspec.msgpack.encode([(one.client, one.version, one.delta, one.state) for one in request.changes])
        msgspec.msgpack.encode(request.accounts)
        return self.buckets[bucket].draw(request)


TIMES = (LOADED_MS, -9, LOADED_MS, LOADED_MS // 1000, LOADED_MS * 1000, LOADED_MS * 10**6)
"""Of records: some tell nothing."""


class _Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any = ()


@cache
def _settings() -> Settings:
    found = load(None, {}, {})
    assert isinstance(found, Settings), found
    return found


@cache
def _metrics() -> Metrics:
    return Metrics()


class Lane:
    """One lane on a store in memory. Kafka is what `content` holds of partition 0 and what is polled."""

    def __init__(self, content: dict[int, bytes] | None = None) -> None:
        self.store = Store()
        self.content = dict(load_of().content if content is None else content)
        self.topics = Topics("t.", 1, {})
        native = native_engine()
        beside = None if native is None else native.load
        connections = WorkerConnections(
            settings=_settings(), client={}, topics=self.topics, store=cast("Any", self.store),
            catalogs=Catalogs(self.read, beside=beside), maps={}, metrics=_metrics(), worker_id="w",
        )  # fmt: skip
        mark = Mark(positions={}, times={}, catalog=0, body=0, lane_ms=LOADED_MS)
        self.lane = OwnLane(0, 1, cast("LaneProducer", None), mark, connections)
        for cursor, expected in zip(self.lane.cursors, self.store.calls, strict=True):
            cursor.expected = expected
        self.lane.reader = cast("Any", SimpleNamespace(enable_data=_nothing))
        self.shared = Shared(connections, Readiness("kafka"), native)
        self.line = Line(self.lane, self.shared)
        self.offset = 100

    async def read(self, offsets: list[int]) -> dict[int, bytes]:
        """Read content as `stream.content.read_content` does."""
        gone = [offset for offset in offsets if offset not in self.content]
        if gone:
            raise NoCatalog(f"t.commands[0] has no record at offset {gone[0]}")
        return {offset: self.content[offset] for offset in offsets}

    async def rate(self, commands: Iterable[bytes | None], cdrs: Iterable[bytes] = ()) -> Batch:
        """Carry out a batch."""
        polled = []
        for topic, values in ((self.topics.commands, commands), (self.topics.cdrs, cdrs)):
            records = [
                _Record(self.offset + n, TIMES[n % len(TIMES)] + n, b"k", value)
                for n, value in enumerate(values)
            ]
            if records:
                polled.append((topic, records))
        self.offset += 100
        [batch] = batch_module.slices(self.lane.standing, polled, 1_000_000)
        await self.line.process(batch)
        return batch

    def check_store(self) -> None:
        """Nothing in a bucket is another bucket's, or cannot be read."""
        for number, bucket in enumerate(self.store.buckets):
            for name, raw in bucket.states.items():
                register = read_state(raw)
                assert register.id == name, f"{name!r} holds the register of {register.id!r}"
                assert bucket_of(name, BUCKETS) == number, f"{name!r} is in bucket {number}"
                ClientView(register)
            for account, owner in bucket.accounts.items():
                assert account
                assert owner
                assert bucket_of(account, BUCKETS) == number, f"{account!r} is in bucket {number}"


async def _nothing() -> None:
    return


def _cdr(number: int, client: str) -> bytes:
    return json.dumps({
        "id": f"good-{number}", "called": "380501234567", "answered_at": "2026-09-15T00:00:00Z",
        "duration_ms": 60_000, "orig": {"client": client},
    }).encode()  # fmt: skip


def _sides(batch: Batch) -> list[str]:
    """Return which sides have ended, whoever rated them."""
    return [name for (name, _), times in batch.counts.sides.items() for _ in range(times)]


def _check_events(batch: Batch) -> None:
    for _, value, headers in batch.events:
        event = json.loads(value or b"")
        assert event["id"]
        assert len(value or b"") <= EVENT_BYTES_MAX, f"an event of {len(value or b'')} bytes"
        assert not headers
        if event["type"] == "command_refused":
            assert event["data"]["reason"]


def _run(work: Coroutine[Any, Any, None]) -> None:
    # Nothing becomes visible a moment later here.
    with patch("rater.worker.commands.AGAIN_S", 0):
        asyncio.run(work)


def obeyed(raw: bytes, *, with_catalog: bool) -> None:
    """Carry out one command in a lane; its neighbours are carried out and rated all the same."""

    async def go() -> None:
        lane = Lane()
        if with_catalog:
            await lane.rate(load_of().commands)
            assert lane.lane.catalog is not None
        batch = await lane.rate([raw, write_command("tick/2", Do.TICK, LOADED_MS, {})], [_cdr(1, "42")])
        _check_events(batch)
        lane.check_store()
        assert batch.position.positions[lane.topics.commands] == lane.offset - 100 + 2
        assert batch.counts.commands["tick", Result.DONE] >= 1
        if with_catalog:
            assert _sides(batch) == ["orig"]
            assert len(batch.transactions) + len(batch.rejected) >= 1
        after = await lane.rate(load_of().commands, [_cdr(2, "43")])
        _check_events(after)
        lane.check_store()

    _run(go())


def adopted(which: str, raw: bytes) -> None:
    """Adopt a version whose body, or one object, is `raw`: it is taken or refused, and the lane goes on."""

    async def go() -> None:
        lane = Lane()
        await lane.rate(load_of().commands)
        load_ = load_of(2)
        base = 1000
        content = {base + offset: value for offset, value in load_.content.items()}
        body = msgspec.msgpack.decode(load_.content[load_.body], type=ManifestBody)
        for place in body.objects:
            place.offsets = [base + offset for offset in place.offsets]
        content[base + load_.body] = raw
        if which != "body":  # the digest is right: its author made the object so
            number = int(which.removeprefix("object"))
            content[base + number] = raw
            body.objects[number].digest = object_digest(raw)
            content[base + load_.body] = msgspec.msgpack.encode(body)
        lane.content |= content
        manifest = write_command(
            "two", Do.LOAD_CATALOG, LOADED_MS, ManifestArgs(2, base + load_.body, 0), actor="anna"
        )
        batch = await lane.rate([manifest, *load_.commands[1:]], [_cdr(1, "42")])
        _check_events(batch)
        lane.check_store()
        types = [json.loads(value or b"")["type"] for _, value, _ in batch.events]
        assert types[0] == ("catalog_loaded" if lane.lane.catalog.version == 2 else "command_refused")  # type: ignore[union-attr]
        assert _sides(batch) == ["orig"]

    _run(go())


# ------------------------------------------------------------------ the journal
@cache
def register() -> bytes:
    """Return a client's register, as a state has it."""
    rater = Rater()
    assert not rater.load([("rich.yaml", RICH)], LOADED_MS, open_part)
    return rater.bucket.states["42"]


@cache
def transactions() -> list[bytes]:
    """Return values of the journal."""
    case = load_cases()[7]
    rater = Rater()
    assert not rater.load([("catalog.yaml", case.catalog)], LOADED_MS)
    return [
        one.value
        for raw, at_ms in case.records
        for one in rater.rate(raw, at_ms)
        if isinstance(one, Transaction)
    ]


def taken(said: object) -> None:
    """Take a lane whose journal says so: the bucket is brought to it, or it halts with a sentence."""
    if isinstance(said, Effect | ChangeRecord | StateRecord):
        for number in range(BUCKETS):
            bucket = Bucket()
            reconciling = Reconciling(
                bucket.fence(0, 9), bucket=number, buckets=BUCKETS, positions={}, generation_ms=608_400_000
            )
            reconciling.read([(7, said), (8, said)])
            what = reconciling.finish(0, 9, 1, 9)
            pack_reconcile(what, Keys("p", number, BUCKETS))
            status, _ = bucket.reconcile(what)
            assert status == Status.OK
            for raw in bucket.states.values():
                ClientView(read_state(raw))
    elif isinstance(said, Mark):

        async def go() -> None:
            lane = Lane()
            try:
                await Catalogs(lane.read).at(said.catalog, said.body)
            except Halt as error:
                assert str(error)  # noqa: PT017 - it may be a catalog as well
            standing = lane.lane.standing
            msgspec.msgpack.encode([said.positions, said.times, said.lane_ms])
            standing.lane_ms = max(standing.lane_ms, said.lane_ms)
            await lane.rate(load_of().commands, [_cdr(1, "42")])

        _run(go())
