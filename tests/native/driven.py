"""The line driven by the native engine, over the oracle's buckets: what the worker is to do with an engine.

The engine rates all that it can, and its requests draw. What it returns goes through the steps behind that:
sides that are rejected, and all sides of clients of whom something is due. What comes of the oracle's cases
must be what the steps alone make of them, in every byte of each side, and in what the buckets hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import msgpack

from native.shadow import SEEN, native_of, records_of, shadowing
from oracle import lanes, variants
from oracle.scenario import make
from rater.core.amounts import LIMB, Form
from rater.core.bucket.messages import (
    ANY_RISE,
    DrawItem,
    DrawRequest,
    FeeAsk,
    ItemCandidate,
    Status,
    Use,
    bucket_of,
)
from rater.core.cdr import SIDES, Arrival, Cdr
from rater.core.cdr_decoding import decode
from rater.core.instants import is_stamp
from rater.core.kinds import DuplicateKind, SideOutcome, TransactionType
from rater.core.line import steps
from rater.core.line.batch import Batch, Side, timestamp
from rater.core.line.engine import Packed, Rating
from rater.core.rating.transaction import TransactionHead, refused
from rater.native import engine, feeding
from rater.worker.commands import carry_out, catch_up
from rater.worker.line import ROUNDS_MAX, Line

_OUT_OF_RANGE = 2**54
OUTCOMES = (SideOutcome.RATED, SideOutcome.ZERO, SideOutcome.DUPLICATE)
_caches: dict[int, engine.Cache] = {}


# ------------------------------------------------------------------ a request is read again
def read_request(packed: Packed, position: tuple[int, int], lane: int) -> DrawRequest:
    """Return what a packed call of sides asks, for the buckets in memory. position: token and number."""
    clients, payload, digests, context, changes = packed
    flat = iter(msgpack.decode(payload))
    lane_ms, generation, trim, floor, kept, count, uses_count, _, _, items = [next(flat) for _ in range(10)]
    assert count == uses_count == len(clients)
    uses = [_use(client, flat) for client in clients]
    found = [_item(flat, digests[20 * place : 20 * place + 20]) for place in range(items)]
    assert next(flat, None) is None
    if changes is not None:
        _read_changes(msgpack.decode(changes), uses, found)
    token, number = position
    return DrawRequest(
        lane=lane, token=token, number=number, lane_ms=lane_ms, generation=generation, trim=trim, floor=floor,
        changes=[], accounts=[], uses=uses, items=found, context=context, contextless=not kept,
    )  # fmt: skip


def _use(client: str, flat: Iterator[Any]) -> Use:
    version, credit_limit, fields = next(flat), next(flat), next(flat)
    return Use(client, version, credit_limit, [next(flat) for _ in range(fields)])


def _number(value: int | list[int]) -> int:
    if isinstance(value, int):
        return value
    sign, *limbs = value
    total = sum(limb * int(LIMB**place) for place, limb in enumerate(limbs))
    return sign * total


def _item(flat: Iterator[Any], digests: bytes) -> DrawItem:
    place, head, billed = next(flat), next(flat), next(flat)
    cost = Form(*[_number(next(flat)) for _ in range(3)])
    rest = [next(flat) for _ in range(head // 4)]
    candidates, numbers = [], iter(rest)
    for field in numbers:
        size, code = next(numbers), next(numbers)
        cap = next(numbers) if code & 8 else 0
        to_package = to_client = None
        if code & 16:
            a, d, b, e = [_number(next(numbers)) for _ in range(4)]
            to_package, to_client = Form(a, 0, d), Form(b, 0, e)
        money, waive, allow = (bool(code & bit) for bit in (1, 2, 4))
        candidates.append(
            ItemCandidate(field - 3, size, code // 32, money, waive, allow, cap, to_package, to_client)
        )
    key, content, older = digests[:8], digests[8:12], digests[12:]
    use, same_record, asked = max(place, ~place), bool(head & 1), tuple(candidates)
    return DrawItem(use, key, content, billed, cost, same_record, asked, place < 0, older)


def _read_changes(flat: list[Any], uses: Sequence[Use], items: Sequence[DrawItem]) -> None:
    numbers = iter(flat)
    assert next(numbers) == 2
    for use in uses:
        wake = next(numbers)
        use.wake = None if wake == _OUT_OF_RANGE else wake
        assert use.wake is None or use.wake >= ANY_RISE
    assert [next(numbers) for _ in range(4)] == [0, False, 0, 0]
    fees = iter([next(numbers) for _ in range(next(numbers))])
    for place in fees:
        use, count = next(fees), next(fees)
        item = items[place - 1]
        assert item.use == use - 1
        asked = []
        for _ in range(count):
            code, field, net, amount, deny = [next(fees) for _ in range(5)]
            asked.append(FeeAsk(code // 32, field - 3, net, amount, bool(deny)))
        item.fees = tuple(asked)
    marks = iter([next(numbers) for _ in range(next(numbers))])
    for place in marks:
        uses[place - 1].mark = next(marks)
    assert next(numbers) == 0
    assert next(numbers, None) is None


# ------------------------------------------------------------------ the line
async def process(self: Line, batch: Batch) -> None:
    """Do what `Line.process` does, by the native engine first."""
    standing = self.lane.standing
    for record in batch.commands:
        await carry_out(self.buckets, batch, record)
    batch.position = standing.position
    begin_ms = max([standing.lane_ms, *filter(is_stamp, map(timestamp, batch.commands))])
    rating, refused, skipped = _take(self, batch, begin_ms)
    standing.lane_ms = rating.lane_ms
    if batch.decided_by > batch.catalog:
        await catch_up(self.buckets, batch, batch.decided_by)
    told = len(batch.events)
    await _rate(self, batch, rating)
    sides = _left(self, batch, begin_ms, _Left(set(refused), set(rating.returned()), skipped))
    if sides or batch.woken:
        await self.decide(batch, sides, self.shared.views.of_batch())
    batch.position = standing.position = standing.position.behind(batch.last)
    steps.render(batch, standing)
    _publish(batch, rating, told)
    batch.pending_left = len(standing.pending)


def _take(self: Line, batch: Batch, lane_ms: int) -> tuple[engine.Batch, list[int], dict[int, int]]:
    """Take the records natively; what was decided before is replayed at once: bits of sides, by record."""
    standing, catalog = self.lane.standing, self.lane.catalog
    cache = _caches.setdefault(id(self.shared), feeding.new_cache())
    if not self.shared.views.clients:
        cache.clear()  # they were forgotten by the case
    rating = engine.Batch(cache, standing.lane, lane_ms, standing.window_ms)
    returned, skipped = list[int](), dict[int, int]()
    for topic, records in batch.polled:
        batch.counts.cdrs += len(records)
        batch.counts.arrivals.update(map(timestamp, records))
        skip = [
            sum(1 << index for index in steps._replayed(batch, standing, topic, record) if index < 2)  # noqa: SLF001
            for record in records
        ]
        returned += rating.decode(
            None if catalog is None else native_of(catalog),
            topic,
            [record.value for record in records],
            [record.offset for record in records],
            [record.timestamp for record in records],
            replayed=skip,
        )
        skipped |= {id(record): bits for record, bits in zip(records, skip, strict=True)}
    return rating, returned, skipped


async def _rate(self: Line, batch: Batch, rating: engine.Batch) -> None:
    """Draw all that the engine rates; what it cannot go on with is returned."""
    buckets, store = self.buckets, self.connections.store
    rounds = 0
    while True:
        catalog = self.lane.catalog
        if catalog is None:
            return
        lacking = rating.identify(native_of(catalog))
        if not any(lacking):
            lacking = rating.prepare(native_of(catalog), store.count, sorted(buckets.ask_whole))
        if any(lacking):
            await _have(self, batch, rating, lacking)
            continue
        requests = rating.requests()
        if not requests:
            return
        rounds += 1
        for number, bucket in requests:
            await _draw(self, batch, rating, number, bucket, last=rounds >= ROUNDS_MAX)


async def _have(self: Line, batch: Batch, rating: Rating, lacking: tuple[list[str], list[str], int]) -> None:
    clients, accounts, catalog = lacking
    count, lane = self.connections.store.count, self.lane
    for bucket in sorted({bucket_of(name, count) for name in (*clients, *accounts)}):
        mine = [name for name in clients if bucket_of(name, count) == bucket]
        theirs = [name for name in accounts if bucket_of(name, count) == bucket]
        expected = lane.cursors[bucket].expected
        reply = await self.connections.store.views(bucket, lane.number, lane.token, expected, mine, theirs)
        rating.learn(mine, theirs, reply.states, reply.accounts)
    if catalog and (lane.catalog is None or catalog > lane.catalog.version):
        await catch_up(self.buckets, batch, catalog)


async def _draw(
    self: Line, batch: Batch, rating: Rating, number: int, bucket: int, *, last: bool
) -> None:  # fmt: skip
    lane, cursor, standing = self.lane, self.lane.cursors[bucket], self.lane.standing
    packed = rating.packed(number, rating.lane_ms // standing.generation_ms, cursor.trim, cursor.floor)
    request = read_request(packed, (lane.token, cursor.expected), standing.lane)
    reply = await self.connections.store.draw(bucket, request)
    SEEN.requests += 1
    if reply.status == Status.OK:
        store: Any = self.connections.store
        store.system.asking[lane.number][bucket].draws -= 1  # of two ways each may have one request
        batch.requests[bucket] = request.number
        cursor.expected = reply.number
        records = records_of(batch)
        for record, index, client in rating.settle(number, reply.packed):
            side = Side(_topic(batch, record), records[record], index)
            side.head = TransactionHead(client, "", "", "", ())
            batch.woken.append(side)
        return
    if reply.status == Status.STALE:
        for client, state in reply.stale:
            rating.put(client, state)
    due = [one.client for one in reply.due]
    more = list(reply.more)
    self.buckets.ask_whole |= set(rating.again(number, more))
    rating.give_back(packed[0] if last else due)


def _topic(batch: Batch, number: int) -> str:
    for topic, records in batch.polled:
        if number < len(records):
            return topic
        number -= len(records)
    raise IndexError(number)


class _Left(NamedTuple):
    """What is left to the steps: records, sides; of each record the bits of sides decided before."""

    refused: set[int]
    returned: set[tuple[int, int]]
    skipped: dict[int, int]


def _left(self: Line, batch: Batch, lane_ms: int, left: _Left) -> list[Side]:
    """Return the sides that the steps go on with, read by the reference; rejected ones are settled."""
    standing, catalog = self.lane.standing, self.lane.catalog
    services = frozenset[str]() if catalog is None else catalog.service_names
    numbers = left.refused | {number for number, _ in left.returned}
    sides, number = list[Side](), -1
    for topic, records in batch.polled:
        for record in records:
            number += 1
            if record.timestamp > lane_ms and is_stamp(record.timestamp):
                lane_ms = record.timestamp
            if number not in numbers:
                continue
            found = decode(record.value, Arrival(lane_ms, standing.window_ms, services))
            replayed = [index for index in (0, 1) if left.skipped[id(record)] >> index & 1]
            if isinstance(found, Cdr):
                for name, party in found.sides():
                    index = SIDES.index(name)
                    if (number, index) in left.returned:
                        sides.append(Side(topic, record, index, found, party))
            rejected = found.rejected if isinstance(found, Cdr) else found
            steps._take_rejected(batch, topic, record, rejected, replayed)  # noqa: SLF001
    batch.sides += sides
    SEEN.returned += len(sides)
    return sides


def _publish(batch: Batch, rating: engine.Batch, told: int) -> None:
    """Add what the engine makes of its sides; what was refused is rejected as the reference says.

    told: so many events are of what was carried out before the engine drew (`Side.told`).
    """
    found = rating.render()
    batch.transactions += found["transactions"]
    batch.events[told:told] = [(key, value, []) for _, key, value, _ in found["events"]]
    counts = batch.counts
    for which, row in zip(SIDES, found["sides"], strict=True):
        counts.sides.update({(which, outcome): number for outcome, number in zip(OUTCOMES, row, strict=True)})
    counts.duplicates[DuplicateKind.SAME] += sum(row[2] for row in found["sides"])
    counts.transactions[TransactionType.USAGE] += sum(row[0] + row[1] for row in found["sides"])
    records = records_of(batch)
    for (number, index), outcome, name, catalog in found["refused"]:
        side = Side(_topic(batch, number), records[number], index, catalog=catalog)
        steps._reject(batch, side, refused(outcome, name, SIDES[index]))  # noqa: SLF001
    SEEN.transactions += len(found["transactions"])


NAMES = ("cut-1", "cut-7", "cut-all", "evict", "stale-all", "crash-stale", "lanes-between-2")


def compare(seed: int, names: Sequence[str] = NAMES, size: int | None = None) -> None:
    """Run a scenario by the steps, one record at a time, and by the engine under each variant."""
    scenario = make(seed, size=size)
    with lanes.standing_in():
        wanted = variants.base(scenario)
        for name in names:
            with driving():
                variants.check(scenario, name, wanted, seed)


@contextlib.contextmanager
def driving() -> Iterator[None]:
    """Let lines rate by the native engine meanwhile."""
    original = Line.process
    with shadowing(beside=False):
        Line.process = process  # type: ignore[method-assign]
        try:
            yield
        finally:
            Line.process = original  # type: ignore[method-assign]
            _caches.clear()
