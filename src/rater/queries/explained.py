"""Why a transaction is what it is, by the journal; and what a call would come to now, by Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec

from rater.core.catalog.compiled import Catalog
from rater.core.cdr import SIDES, Arrival, Cdr, EveryService, Party
from rater.core.clients.state import write_state
from rater.core.commands.records import RerateFirstArgs, client_args, manifest_of, read_command
from rater.core.explaining import past
from rater.core.explaining.before import Before, Place
from rater.core.explaining.sides import explain
from rater.core.explaining.telling import Row, told
from rater.core.journal.records import CHANGE_INDEX_MIN, FEE_INDEX_MIN, ChangeRecord, Effect
from rater.core.json_text import quoted
from rater.core.kinds import TransactionType
from rater.core.line.reading import read
from rater.core.offline import Record
from rater.core.rating.identifying import wanted
from rater.core.rerating.rating import with_history
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.source_map import SourceMap
from rater.errors import Halt, Wait
from rater.queries import catalog as catalog_queries
from rater.queries.clients import state_of_raw
from rater.queries.connections import Connections
from rater.queries.transactions import published
from rater.stream import browsing
from rater.stream.journal import Mark, end_offset, read_range, understood
from rater.stream.records import bounds

NEAR_MS = 60_000
"""The sides of a record, and the fee that one brings, are published together, or nearly so."""

Passed = Callable[[int], None]
Maps = Mapping[str, SourceMap]
_ANY = Arrival(0, 0, EveryService())
_OF_FEES = ".fee."
"""In the fields of what is counted of fees that calls bring (RULES.md 4, Charge on event)."""
_OF_CALLS = TransactionType.USAGE, TransactionType.REVERSAL


class Found(NamedTuple):
    """A transaction as it lies in the journal. reversed_: a later record takes it back."""

    seen: browsing.Seen
    transaction: dict[str, Any]
    reversed_: bool

    @property
    def place(self) -> Place | None:
        """Where it lies, and what its header says; None: it has none."""
        said = understood(self.seen.headers)
        return Place(self.seen.partition, self.seen.offset, said) if isinstance(said, Effect) else None


async def find(at: Connections, asked: str, passed: Passed) -> list[Found]:
    """Return the transactions of an id, or of SOURCE/CDR: of each side and client the newest; orig first.

    passed: told how many offsets each step read. Raises as `browsing.newest`.
    """
    ids = {asked, *(f"{asked}/{side}" for side in SIDES)}
    begin = quoted(asked)[1:-1].encode()
    found: dict[tuple[str, str], Found] = {}
    back: set[tuple[Any, ...]] = set()
    first_ms = None
    records = browsing.newest(at.kafka, at.topics.transactions, range(at.topics.partitions), passed=passed)
    async with aclosing(records) as every:
        async for seen in every:
            if first_ms is not None and seen.at_ms < first_ms - NEAR_MS:
                break
            if seen.value is None or begin not in seen.value:
                continue
            one = published(seen, seen.value).transaction or {}
            if one.get("id") not in ids or (one["id"] != asked and one.get("type") not in _OF_CALLS):
                continue
            key = str(one.get("client")), one["id"]
            if one.get("type") == TransactionType.REVERSAL:
                back.add((*key, one.get("reverses")))
                continue  # what it takes back may be long before it
            if key not in found:
                found[key] = Found(seen, one, (*key, one.get("revision")) in back)
            first_ms = seen.at_ms if first_ms is None else first_ms
    return sorted(found.values(), key=lambda of: of.transaction["id"])


class _Journal:
    """What the journal tells of transactions that were found: clients before them, catalogs, fees."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.befores = [Before(place) for place in places]
        self.bodies: dict[int, int] = {}
        """Version of the catalog → offset of its body."""
        self.brings: dict[int, str] = {}
        """Number of a place → id of the fee that its side brought."""
        self._fees: dict[tuple[str, str], tuple[tuple[int, bool], Any]] = {}
        """(client, id) of fees that calls brought → (revision, is taken back), their call."""

    async def read(self, at: Connections, lanes: Mapping[int, tuple[int, int]], passed: Passed) -> None:
        """Read each lane from the first of these offsets up to the second."""
        keys = {before.place.effect.client.encode() for before in self.befores}
        for before in self.befores:
            before.cut = any(begin for begin, _ in lanes.values())
        for lane, (begin, end) in lanes.items():
            async for records in read_range(at.kafka, at.topics.transactions, lane, begin, end):
                passed(len(records))
                for offset, key, value, said in records:
                    if isinstance(said, Mark):
                        self.bodies[said.catalog] = said.body
                    elif key in keys and isinstance(said, Effect | ChangeRecord):
                        self._take(lane, offset, value, said)

    def _take(self, lane: int, offset: int, value: bytes | None, said: Effect | ChangeRecord) -> None:
        for number, before in enumerate(self.befores):
            own = before.place.effect
            if said.client != own.client:
                continue
            before.add(lane, offset, said)
            fee = own.topic, own.offset, own.index + FEE_INDEX_MIN
            if lane == before.place.lane and (said.topic, said.offset, said.index) == fee and value:
                self.brings[number] = str(msgspec.json.decode(value)["id"])
        if value and isinstance(said, Effect) and any(_OF_FEES in field for field, _ in said.counters):
            one = msgspec.json.decode(value)
            key, state = (said.client, one["id"]), (one["revision"], one["type"] == TransactionType.REVERSAL)
            if key not in self._fees or self._fees[key][0] < state:
                self._fees[key] = state, one.get("cdr")

    def brought(self, number: int, transaction: Mapping[str, Any]) -> str | None:
        """Return the id of the fee that a side is the first call for; None: there is none.

        Of one that a job has rated again it may have stood before, or come beside it.
        """
        if self.befores[number].place.effect.index < CHANGE_INDEX_MIN:
            return self.brings.get(number)
        for (client, name), ((_, is_back), cdr) in self._fees.items():
            if (client, cdr, is_back) == (transaction["client"], transaction["cdr"], False):
                return name
        return None


async def explained(at: Connections, found: Sequence[Found], maps: Maps, passed: Passed) -> list[Row]:
    """Return what is told of transactions of the journal, as they were. Raises as reading of it does."""
    sides = [one for one in found if one.transaction["type"] == TransactionType.USAGE and one.place]
    journal = _Journal([one.place for one in sides if one.place is not None])
    if sides:
        await journal.read(at, await _lanes(at, sides), passed)
    rows = []
    for one in found:
        catalog = await _catalog(at, one.transaction["catalog"], journal.bodies)
        if one in sides:
            number = sides.index(one)
            before = journal.befores[number]
            party = await _party(at, one, before.place.effect, maps)
            brings = journal.brought(number, one.transaction)
            row = past.usage(one.transaction, before, catalog, party, brings)
        else:
            row = past.fee(one.transaction, catalog)
        if one.reversed_:
            row["notes"].append("it was taken back later, by a reversal")
        rows.append(row)
    return rows


async def _lanes(at: Connections, sides: Sequence[Found]) -> dict[int, tuple[int, int]]:
    """Return by lane where the journal begins, and up to which offset to read, by the broker's time.

    In the sides' own lanes somewhat further: the mark behind them tells where their catalog lies.
    """
    lanes = range(at.topics.partitions)
    whole = await bounds(at.kafka, at.topics.transactions, at.topics.partitions)
    latest_ms = max(one.seen.at_ms for one in sides)
    until = await browsing.offsets_at(at.kafka, at.topics.transactions, lanes, latest_ms)
    behind = await browsing.offsets_at(at.kafka, at.topics.transactions, lanes, latest_ms + NEAR_MS)
    until |= {one.seen.partition: behind[one.seen.partition] for one in sides}
    return {lane: (begin, min(until[lane], end)) for lane, (begin, end) in whole.items()}


async def _catalog(at: Connections, version: int, bodies: Mapping[int, int]) -> Catalog:
    """Return a version of the catalog. Raises Halt, NoCatalog where it is not there any more."""
    body = bodies.get(version)
    if body is None:
        body = await _body(at, version)
    found = await at.catalogs.at(version, body)
    if found is None:
        raise Halt(f"the transaction names catalog {version}, which is none: something else wrote it")
    return found


async def _body(at: Connections, version: int) -> int:
    """Return where a version's body lies, as its manifest says."""
    commands = at.topics.commands
    end = await end_offset(at.kafka, commands, 0)
    async for records in read_range(at.kafka, commands, 0, 0, end):
        for _, _, value, said in records:
            manifest = manifest_of(value) if said is None else None
            if manifest is not None and manifest.version == version:
                return manifest.offset
    raise Halt(f"{commands}[0] has no manifest of catalog {version}: the topic was recreated; restore it")


async def _party(at: Connections, one: Found, effect: Effect, maps: Maps) -> Party | None:
    """Return the side of the record that a transaction is of; None: it is not there any more."""
    seen = await browsing.record_at(at.kafka, effect.topic, effect.partition, effect.offset)
    if seen is None:
        return None
    record, topic = Record(seen.value, seen.at_ms, headers=tuple(seen.headers)), effect.topic
    if topic == at.topics.commands:
        sent = _sent(seen.value)
        if sent is None:
            return None
        record, topic = sent
    cdr = _call(record, maps.get(topic))
    named = one.transaction["cdr"]
    if not isinstance(cdr, Cdr) or (cdr.source, cdr.id) != (named["source"], named["id"]):
        return None  # the topic was recreated since
    return cdr.orig if one.transaction["side"] == "orig" else cdr.term


def _sent(raw: bytes | None) -> tuple[Record, str] | None:
    """Return the record that a job had rated for the first time, and its source's topic; None: no such."""
    command = read_command(raw or b"")
    args = None if isinstance(command, str) else client_args(command)
    if not isinstance(args, RerateFirstArgs):
        return None
    headers = () if args.columns is None else ((COLUMNS, args.columns),)
    return Record(args.value, 0, headers=headers), args.topic


def _call(record: Any, source_map: SourceMap | None) -> Cdr | None:
    found = read(record, _ANY, source_map)
    return found if isinstance(found, Cdr) else None


# ------------------------------------------------------------------------------------------- what if
async def what_if(at: Connections, raw: bytes) -> list[Row]:
    """Return what is told of a CDR that comes in when its call ends: nothing is changed.

    Raises NoCatalog and Halt as the catalog is read; Wait while a load is on its way.
    """
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    if catalog is None:
        raise Halt("no catalog is loaded: nothing can be rated; load one with: rater load")
    cdr = _call(Record(raw, 0), None)
    come_ms = 0 if cdr is None else cdr.at_ms + (cdr.duration_ms or 0)
    rater = past.rater_of(catalog, come_ms)
    for client, account in () if cdr is None else [wanted(cdr, *side, catalog) for side in cdr.sides()]:
        owners = {} if account is None else await at.store.accounts([account])
        rater.views.accounts.update(owners)
        for name in {client, *owners.values()} - {None}:
            found = await at.store.client(str(name))
            if found is None:
                continue
            state = state_of_raw(str(name), found[0])
            if state.catalog > catalog.version:
                raise Wait(f"catalog {state.catalog} is being loaded")
            # A call may be of a period that has left the register.
            raw_state = write_state(with_history(state, await at.store.history(state.id)))
            past.put(rater, raw_state, *found[1:])
    return [told(one, catalog) for one in explain(rater, raw, come_ms)]
