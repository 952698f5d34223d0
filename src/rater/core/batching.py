"""The pure steps of the straight line over a batch: decode, wanted, match, settle, render, outgoing.

A batch is what one poll brought in (or a slice of it). Its records become sides; each side ends as a
transaction, a rejected record or a duplicate, in the order of the records. Between the steps the worker
awaits the store; here nothing awaits. One step runs over all sides before the next begins: that is what makes
one call for each bucket possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from rater.core import rating
from rater.core.cdr import Arrival, Cdr, Party, decode_object
from rater.core.cdr import decode as decode_cdr
from rater.core.clients import client_bucket
from rater.core.compiling import Catalog
from rater.core.counts import Counts
from rater.core.drawing import Apply, DrawCall, DrawReply, DrawResult, Outcome, Use
from rater.core.identifying import Identified, Missing, Views
from rater.core.identifying import identify as identify_side
from rater.core.identifying import wanted as wanted_of
from rater.core.mapping import SourceMap
from rater.core.matching import match as match_limits
from rater.core.reasons import Reason, Rejection
from rater.core.reasons import Side as SideName
from rater.core.reconciling import ApplyContext, Effect, OutcomeEntry, Pending
from rater.core.slots import Skipped

Header = tuple[str, bytes]
Outgoing = tuple[bytes | None, bytes | None, list[Header]]
"""Key, value and headers of a record to publish."""

SIDE_INDEX = {"orig": 0, "term": 1}
SIDE_NAME: tuple[SideName, SideName] = ("orig", "term")
COMMAND_INDEX_MIN = 2
"""Indices of a record's effects: 0 and 1 are the sides of a CDR, from here on the items of a command."""

_pack = msgspec.msgpack.Encoder().encode
_context = msgspec.msgpack.Decoder(rating.Context)
_apply_context = msgspec.msgpack.Decoder(ApplyContext)


class Record(Protocol):
    """A Kafka record as the client library hands it out."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class Standing(msgspec.Struct):
    """Where a lane stands before a batch, and the rules that hold for it."""

    lane: int
    commands_topic: str
    window_ms: int
    generation_ms: int
    positions: dict[str, int]
    times: dict[str, int]
    lane_ms: int
    pending: dict[tuple[str, int, int], Pending]
    """Outcomes that were decided before and not published: found by (topic, offset, index), never decided
    again."""


class Side:
    """One side of a CDR (or one item of a command) on its way through the line."""

    __slots__ = (
        "cdr", "context", "entry", "index", "name", "offset", "party", "record", "record_ms", "rejection",
        "replayed", "result", "topic",
    )  # fmt: skip

    def __init__(self, topic: str, record: Record, index: int) -> None:
        self.topic = topic
        self.record = record
        self.offset = record.offset
        self.record_ms = record.timestamp
        self.index = index
        self.name: SideName | None = SIDE_NAME[index] if 0 <= index < COMMAND_INDEX_MIN else None
        self.cdr: Cdr | None = None
        self.party: Party | None = None
        self.rejection: Rejection | None = None
        self.entry: OutcomeEntry | None = None
        self.context: rating.Context | ApplyContext | None = None
        self.result: DrawResult | bool | None = None
        self.replayed = False


class Batch:
    """What a poll brought in, and what becomes of it."""

    def __init__(self, standing: Standing, polled: list[tuple[str, list[Any]]]) -> None:
        self.polled = [(topic, records) for topic, records in polled if topic != standing.commands_topic]
        self.commands: list[Any] = [
            record for topic, records in polled if topic == standing.commands_topic for record in records
        ]
        self.commands_topic = standing.commands_topic
        self.lane = standing.lane
        self.records = sum(len(records) for _, records in polled)
        self.sides: list[Side] = []
        self.events: list[Outgoing] = []
        self.controls: list[Outgoing] = []
        """Control records of the journal beside the mark (states of the account index)."""
        self.transactions: list[Outgoing] = []
        self.rejected: list[Outgoing] = []
        self.ticks: list[Outgoing] = []
        """Commands of the lane to itself."""
        self.counts = Counts()
        self.calls: dict[int, int] = {}
        """Bucket → number of the last call that carried something of this batch."""
        self.positions: dict[str, int] = dict(standing.positions)
        self.times: dict[str, int] = dict(standing.times)
        for topic, records in polled:
            if records:
                self.positions[topic] = records[-1].offset + 1
                self.times[topic] = records[-1].timestamp
        self.lane_ms = standing.lane_ms
        self.catalog = 0
        self.body = 0
        self.pending_left = 0
        """Outcomes of a predecessor that had not come again when this batch was rated."""
        self.fresh: set[str] = set()
        """Clients whose view was fetched for this batch: a rejection may rest on such a view alone."""


def slices(standing: Standing, polled: list[tuple[str, list[Any]]], records_max: int) -> list[Batch]:
    """Cut what came in into batches of at most `records_max` records, moving the standing behind each.

    The lane's time stays within one generation of duplicates in a batch: its keys all go into that one.
    """
    batches = []
    for group in _by_generation(standing, polled):
        piece: list[tuple[str, list[Any]]] = []
        room = records_max
        for topic, records in group:
            at = 0
            while at < len(records):
                part = records[at : at + room]
                piece.append((topic, part))
                at += len(part)
                room -= len(part)
                if not room:
                    batches.append(_cut(standing, piece))
                    piece, room = [], records_max
        if piece:
            batches.append(_cut(standing, piece))
    return batches


def _by_generation(
    standing: Standing, polled: list[tuple[str, list[Any]]]
) -> list[list[tuple[str, list[Any]]]]:
    """Part what came in where the lane's time enters another generation: seldom, or after a long absence."""
    lane_ms, length_ms = standing.lane_ms, standing.generation_ms
    latest_ms = max((record.timestamp for _, records in polled for record in records), default=0)
    if latest_ms // length_ms <= lane_ms // length_ms:
        return [polled]
    groups: list[list[tuple[str, list[Any]]]] = [[]]
    for topic, records in polled:
        start = 0
        for at, record in enumerate(records):
            if record.timestamp // length_ms > lane_ms // length_ms:
                if at > start:
                    groups[-1].append((topic, records[start:at]))
                groups.append([])
                start = at
            lane_ms = max(lane_ms, record.timestamp)
        groups[-1].append((topic, records[start:]))
    return [group for group in groups if group]


def _cut(standing: Standing, piece: list[tuple[str, list[Any]]]) -> Batch:
    batch = Batch(standing, piece)
    standing.positions, standing.times = dict(batch.positions), dict(batch.times)
    return batch


# ----------------------------------------------------------------------------------------------------- decode
def decode(
    batch: Batch, standing: Standing, maps: Mapping[str, SourceMap], services: frozenset[str]
) -> list[Side]:
    """Return the sides that have to be rated; what was decided before, or cannot be read, is settled."""
    sides: list[Side] = []
    lane_ms = standing.lane_ms
    for record in batch.commands:
        lane_ms = max(lane_ms, record.timestamp)
    arrival = Arrival(lane_ms, standing.window_ms, services)
    for topic, records in batch.polled:
        source_map = maps.get(topic)
        batch.counts.cdrs += len(records)
        for record in records:
            if record.timestamp > lane_ms:
                lane_ms = record.timestamp
                arrival = Arrival(lane_ms, standing.window_ms, services)
            batch.counts.arrivals[record.timestamp] += 1
            replayed = _replayed(batch, standing, topic, record) if standing.pending else ()
            found = _read(record.value, arrival, source_map)
            if isinstance(found, Skipped):
                batch.counts.skipped += 1
                continue
            sides += _take_sides(batch, topic, record, found, replayed)
    batch.lane_ms = standing.lane_ms = lane_ms
    return sides


def _take_sides(
    batch: Batch, topic: str, record: Record, found: Cdr | tuple[Rejection, ...], replayed: Sequence[int]
) -> list[Side]:
    """Put the sides of a record into the batch; returns those that have to be rated."""
    sides: list[Side] = []
    rejected = found.rejected if isinstance(found, Cdr) else found
    if isinstance(found, Cdr):
        for name, party in found.sides():
            index = SIDE_INDEX[name]
            if index not in replayed:
                side = Side(topic, record, index)
                side.cdr, side.party = found, party
                sides.append(side)
        batch.sides += sides
    for rejection in rejected:
        index = SIDE_INDEX.get(rejection.side or "", -1)
        if index not in replayed:
            side = Side(topic, record, index)
            side.rejection = rejection
            batch.sides.append(side)
    return sides


def _read(
    value: bytes | None, arrival: Arrival, source_map: SourceMap | None
) -> Cdr | tuple[Rejection, ...] | Skipped:
    if source_map is None:
        return decode_cdr(value, arrival)
    mapped = source_map.apply(value or b"")
    if not isinstance(mapped, dict):
        return mapped
    found = decode_object(mapped, arrival)
    if isinstance(found, Cdr):
        return found if not found.rejected else replace(found, rejected=source_map.named(found.rejected))
    return source_map.named(found)


def _replayed(batch: Batch, standing: Standing, topic: str, record: Record) -> list[int]:
    """Take the sides of a record that were decided before out of the pending ones; they need no decision."""
    found = []
    for index in (0, 1):
        pending = standing.pending.pop((topic, record.offset, index), None)
        if pending is not None:
            replay(batch, topic, record, index, pending)
            found.append(index)
    return found


def replay(batch: Batch, topic: str, record: Record, index: int, pending: Pending) -> None:
    """Settle a side, or an item of a command, by the outcome that was kept of it."""
    side = Side(topic, record, index)
    side.entry, side.result, side.replayed = pending.entry, pending.result, True
    decoder = _context if index < COMMAND_INDEX_MIN else _apply_context
    side.context = decoder.decode(pending.entry.context)
    batch.counts.replayed += 1
    batch.sides.append(side)


# --------------------------------------------------------------------------------------------------- identify
Found = list[tuple[Side, Identified]]
Wanted = dict[int, tuple[set[str], set[str]]]
"""Bucket → (clients, accounts) that have to be looked up in the store."""


def identify(
    batch: Batch, sides: Iterable[Side], catalog: Catalog, views: Views, buckets: int, found: Found
) -> tuple[list[Side], Wanted]:
    """Add whose call each side is to `found`; return the sides that need something looked up first."""
    again: list[Side] = []
    wanted: Wanted = {}
    for side in sides:
        identified = identify_side(side.cdr, side.name, side.party, catalog, views)  # type: ignore[arg-type]
        if isinstance(identified, Identified):
            found.append((side, identified))
            continue
        if isinstance(identified, Rejection):
            client = _whose_view(side, catalog, views)
            if client is None or client in batch.fresh:
                side.rejection = identified
                continue
            # A draw names the version of the view it used, so an old one is found out; a rejection draws
            # nothing: it may be the cache's fault, and is looked at again with a view of now.
            del views.clients[client]
            identified = Missing(client, None)
        again.append(side)
        if identified.client is not None:
            batch.fresh.add(identified.client)
            wanted.setdefault(client_bucket(identified.client, buckets), (set(), set()))[0].add(
                identified.client
            )
        elif identified.account is not None:
            wanted.setdefault(client_bucket(identified.account, buckets), (set(), set()))[1].add(
                identified.account
            )
    return again, wanted


def _whose_view(side: Side, catalog: Catalog, views: Views) -> str | None:
    """Return the client whose view a rejection rests on, None when it rests on none."""
    client, account = wanted_of(side.cdr, side.name, side.party, catalog)  # type: ignore[arg-type]
    if client is None and account is not None:
        client = views.accounts.get(account)
    return client if client in views.clients else None


# ------------------------------------------------------------------------------------------------------ match
class Call:
    """One draw call in the making: the sides of a batch that fall into one bucket."""

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.uses: list[Use] = []
        self.items: list[Any] = []
        self.applies: list[Apply] = []
        self.accounts: list[tuple[str, str]] = []
        self.entries: list[OutcomeEntry] = []
        self._use_of: dict[str, int] = {}
        self._fields: list[dict[str, int]] = []
        self._last: tuple[Record, str] | None = None

    def add(self, side: Side, identified: Identified, priced: rating.Priced, catalog: Catalog) -> None:
        """Add a side: what it may draw from and what it costs."""
        cdr, view, name = side.cdr, identified.view, side.name
        assert cdr is not None  # noqa: S101 - decoded before it came here
        assert side.party is not None  # noqa: S101 - the same
        matched = match_limits(identified, name, cdr.at_ms, priced.billed, priced.sign, catalog)  # type: ignore[arg-type]
        if isinstance(matched, Rejection):
            side.rejection = matched
            return
        use = self._use_of.get(view.id)
        if use is None:
            use = self._use_of[view.id] = len(self.uses)
            self._fields.append({})
            self.uses.append(Use(view.id, view.version, view.credit_limit, []))
        key, content = rating.digests(cdr, name, identified, side.party)  # type: ignore[arg-type]
        here = (side.record, view.id)
        same = self._last is not None and self._last[0] is side.record and self._last[1] == view.id
        self._last = here
        self.items.append(
            rating.request(priced, matched, use, self._fields[use], key, content, same_record=same)
        )
        side.context = rating.context(cdr, name, identified, priced, matched, catalog)  # type: ignore[arg-type]
        side.entry = OutcomeEntry(
            side.topic, side.offset, side.index, side.record_ms, key, content, view.id, _pack(side.context)
        )
        self.entries.append(side.entry)
        self.sides.append(side)

    def apply(self, side: Side, apply: Apply, context: ApplyContext) -> None:
        """Add a client's new state, which an item of a command asks for."""
        self.applies.append(apply)
        side.context = context
        side.entry = OutcomeEntry(
            side.topic, side.offset, side.index, side.record_ms, b"", b"", apply.client, _pack(context)
        )
        self.entries.append(side.entry)
        self.sides.append(side)

    def request(self, standing: Standing, token: int, call: int, trim: int, floor: int) -> DrawCall:
        """Return the call as the store takes it."""
        for use, fields in zip(self.uses, self._fields, strict=True):
            use.fields = list(fields)
        return DrawCall(
            lane=standing.lane, token=token, call=call, lane_ms=standing.lane_ms,
            generation=standing.lane_ms // standing.generation_ms, trim=trim, floor=floor,
            applies=self.applies, accounts=self.accounts, uses=self.uses, items=self.items,
            context=_pack(self.entries), contextless=not self.entries,
        )  # fmt: skip


def match(found: Found, catalog: Catalog, buckets: int) -> dict[int, Call]:
    """Return bucket → call, with what each side may draw from and what it costs."""
    calls: dict[int, Call] = {}
    for side, identified in found:
        priced = rating.price(side.cdr, side.name, identified, catalog)  # type: ignore[arg-type]
        if isinstance(priced, Rejection):
            side.rejection = priced
            continue
        bucket = client_bucket(identified.view.id, buckets)
        call = calls.get(bucket)
        if call is None:
            call = calls[bucket] = Call()
        call.add(side, identified, priced, catalog)
    return calls


def settle(call: Call, reply: DrawReply) -> None:
    """Note what became of a call's sides (applies come first, then items, in order)."""
    applied = len(reply.applied)
    for side, done in zip(call.sides, reply.applied, strict=False):
        side.result = done
    for side, result in zip(call.sides[applied:], reply.results, strict=True):
        side.result = result


# ----------------------------------------------------------------------------------------------------- render
def render(batch: Batch, standing: Standing) -> None:
    """Turn every side into what is published of it."""
    counts = batch.counts
    outcomes: Counter[tuple[str, str]] = counts.sides
    for side in batch.sides:
        if side.rejection is not None:
            _reject(batch, side, side.rejection)
        elif side.index >= COMMAND_INDEX_MIN:
            _state(batch, standing, side)
        else:
            result = side.result
            assert isinstance(result, DrawResult)  # noqa: S101 - settle gave one to each
            name = SIDE_NAME[side.index]
            if result.outcome == Outcome.RATED:
                context = side.context
                assert isinstance(context, rating.Context)  # noqa: S101 - decoded or made above
                batch.transactions.append(_transaction(standing, side, context, result))
                outcomes[name, "zero" if context.zero else "rated"] += 1
                counts.transactions["usage"] += 1
                for index, _, _, _ in result.takes:
                    counts.draws["money" if context.candidates[index].money else "volume"] += 1
            elif result.outcome == Outcome.DUPLICATE:
                outcomes[name, "duplicate"] += 1
                counts.duplicates["same"] += 1
            else:
                _reject(batch, side, rating.refused(result.outcome, side.cdr.id if side.cdr else "", name))


def _transaction(standing: Standing, side: Side, context: rating.Context, result: DrawResult) -> Outgoing:
    entry = side.entry
    assert entry is not None  # noqa: S101 - every drawn side has one
    taken: dict[str, int] = {}
    for index, units, _, _ in result.takes:
        field = context.candidates[index].field
        taken[field] = taken.get(field, 0) + units
    effect = Effect(
        entry.topic, standing.lane, entry.offset, entry.index, entry.record_ms, standing.lane_ms, entry.key,
        entry.content, context.client, result.amount, list(taken.items()),
    )  # fmt: skip
    return context.client.encode(), rating.render(context, result), [("e", _pack(effect))]


def _state(batch: Batch, standing: Standing, side: Side) -> None:
    """Publish a client's new state, and its opening balance as an adjustment."""
    context, entry = side.context, side.entry
    if not side.result or not isinstance(context, ApplyContext) or entry is None:
        return
    state = [
        "state",
        entry.topic,
        entry.offset,
        entry.index,
        entry.client,
        context.version,
        context.register,
        [],
    ]
    batch.transactions.append((entry.client.encode(), None, [("control", _pack(state))]))
    if context.transaction is not None:
        effect = Effect(
            entry.topic, standing.lane, entry.offset, entry.index, entry.record_ms, standing.lane_ms, b"",
            b"", entry.client, context.delta, [],
        )  # fmt: skip
        batch.transactions.append((entry.client.encode(), context.transaction, [("e", _pack(effect))]))
        batch.counts.transactions["adjustment"] += 1


def account_state(topic: str, offset: int, accounts: list[tuple[str, str]]) -> Outgoing:
    """Return the control record that keeps entries of the account index."""
    state = ["state", topic, offset, COMMAND_INDEX_MIN, "", 0, b"", accounts]
    return None, None, [("control", _pack(state))]


def _reject(batch: Batch, side: Side, rejection: Rejection) -> None:
    record = side.record
    headers: list[Header] = [
        ("reason", rejection.reason.value.encode()),
        ("detail", rejection.detail.encode("utf-8", "backslashreplace")),
        ("value", rejection.value.encode("utf-8", "backslashreplace")),
        ("side", (rejection.side or "").encode()),
        ("source_topic", side.topic.encode()),
        ("source_partition", b"%d" % batch.lane),
        ("source_offset", b"%d" % side.offset),
        ("catalog", b"%d" % batch.catalog),
        ("attempt", next((value for name, value in record.headers or () if name == "attempt"), b"1")),
    ]
    batch.rejected.append((record.key, record.value, headers))
    batch.counts.rejected[rejection.reason.value] += 1
    batch.counts.sides[rejection.side or "none", "rejected"] += 1
    if rejection.reason is Reason.DUPLICATE_DIFFERS:
        batch.counts.duplicates["differs"] += 1
