"""An auditor that shares no code with the worker: what the topics and Redis hold against what was sent.

`collect` reads with aiokafka (read_committed) and redis-py alone; `audit` is a pure function of what was
read, so that a test can show that it notices each kind of damage. I1 to I12 are the invariants of
tests/README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis

MICRO = Decimal("0.000001")
EFFECT, CONTROL = "e", "control"
NOBODY = "nobody"
"""Clients whose names begin so are in no catalog."""


@dataclass(frozen=True)
class Rec:
    """A record of a topic."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def digest(self) -> tuple[str, int, int, bytes]:
        """What tells it from every other record."""
        return (
            self.topic,
            self.partition,
            self.offset,
            hashlib.blake2b(self.value or b"", digest_size=8).digest(),
        )


@dataclass
class Evidence:
    """What was read after a run."""

    catalog: dict[str, Any]
    cdrs: str
    inputs: list[Rec]
    journal: list[Rec]
    rejected: list[Rec]
    events: list[Rec]
    stored: dict[str, dict[str, int]]
    """Client → hash field → number: "b" is the balance in micros, "v" the version, the rest counters."""
    ends: dict[str, tuple[int, int]]
    """Partition → (end of all records, end of the decided ones)."""
    watched: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    """What a read_committed reader saw during the run, in its order."""
    commands: list[Rec] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    """Client → its state, as Redis keeps it."""
    store_kept: bool = True
    """Redis never forgot what it had said yes to. Else a draw may tell what was left after draws that were
    then lost unpublished and made anew: sums and limits hold all the same."""


@dataclass
class Verdict:
    """What an audit found, and the three numbers that count."""

    found: list[str]
    sides: int
    lost: int
    doubled: int
    drift: int

    def __str__(self) -> str:
        """Return the numbers as they are printed."""
        others = len(self.found) - self.lost - self.doubled - self.drift
        return (
            f"{self.sides} sides, lost {self.lost}, doubled {self.doubled}, drift {self.drift}"
            + f", other findings {others}" * bool(others)
        )


# --- reading


async def read_topic(
    bootstrap: str, topic: str, partitions: int
) -> tuple[list[Rec], dict[str, tuple[int, int]]]:
    """Return all committed records of a topic, and the ends of its partitions."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    ends: dict[str, tuple[int, int]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as plain:
        all_ends = await plain.end_offsets(places)
    reader = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )  # fmt: skip
    async with reader:
        reader.assign(places)
        decided = await reader.end_offsets(places)
        await reader.seek_to_beginning(*places)
        found: list[Rec] = []
        while any([await reader.position(place) < decided[place] for place in places]):
            for records in (await reader.getmany(timeout_ms=200)).values():
                found += map(record_of, records)
    for place in places:
        ends[f"{topic}[{place.partition}]"] = all_ends[place], decided[place]
    return sorted(found, key=lambda one: (one.partition, one.offset)), ends


def record_of(record: Any) -> Rec:
    """Return a record of aiokafka's as ours."""
    return Rec(
        record.topic, record.partition, record.offset, record.timestamp, record.value, dict(record.headers)
    )


async def read_store(urls: list[str], prefix: str) -> dict[str, dict[str, int]]:
    """Return client → what its hash in Redis, or on one of a cluster's nodes, says."""
    stored: dict[str, dict[str, int]] = {}
    for url in urls:
        async with Redis.from_url(url) as redis:
            found: list[bytes] = [
                key async for key in redis.scan_iter(match=f"{prefix}{{*}}:c:*", count=1000)
            ]
            for key in found:
                fields: dict[Any, Any] = await redis.hgetall(key)
                stored[key.decode().partition(":c:")[2]] = numbers(fields)
    return stored


def numbers(fields: dict[bytes, bytes]) -> dict[str, int]:
    """Return what a client's hash says."""
    return {name.decode(): int(number) for name, number in fields.items()}


async def read_states(urls: list[str], prefix: str) -> dict[str, bytes]:
    """Return client → its state."""
    states: dict[str, bytes] = {}
    for url in urls:
        async with Redis.from_url(url) as redis:
            async for key in redis.scan_iter(match=f"{prefix}{{*}}:r:*", count=1000):
                raw: Any = await redis.get(key)
                states[key.decode().partition(":r:")[2]] = raw or b""
    return states


async def collect(
    bootstrap: str, topics: str, partitions: int, redis_urls: list[str], prefix: str, catalog: bytes
) -> Evidence:
    """Read everything, while nothing is rated. topics, prefix: how the names of topics and keys begin."""
    ends: dict[str, tuple[int, int]] = {}
    read: dict[str, list[Rec]] = {}
    for name in ("cdrs", "transactions", "rejected", "events", "commands"):
        read[name], of_topic = await read_topic(bootstrap, f"{topics}{name}", partitions)
        ends |= of_topic
    return Evidence(
        json.loads(catalog), f"{topics}cdrs", read["cdrs"], read["transactions"], read["rejected"],
        read["events"], await read_store(redis_urls, prefix), ends, commands=read["commands"],
        states=await read_states(redis_urls, prefix),
    )  # fmt: skip


# --- checking


@dataclass(frozen=True)
class SideIn:
    """One side of one input record."""

    partition: int
    offset: int
    index: int
    client: str
    content: tuple[Any, ...]


def audit(evidence: Evidence) -> Verdict:
    """Check every invariant; a finding is a sentence that begins with its name."""
    usage = [
        (one, json.loads(one.value)) for one in evidence.journal if one.value is not None
    ]  # all types: filtered below
    rated = [(one, body) for one, body in usage if body["type"] == "usage"]
    sides, unreadable = expected(evidence.inputs)
    lost, doubled = missing_and_twice(sides, rated)
    drift = drifts(evidence, [body for _, body in usage])
    rest = [
        *rejections(evidence, sides, unreadable, rated),
        *arithmetic(rated),
        *limits(evidence.catalog, [body for _, body in usage], store_kept=evidence.store_kept),
        *headers(evidence, usage, sides),
        *marks(evidence.journal),
        *unique_events(evidence.events),
        *open_transactions(evidence.ends),
        *readers_agree(evidence),
    ]
    return Verdict(
        [*lost, *doubled, *drift, *rest], sum(1 for _ in known(sides)), len(lost), len(doubled), len(drift)
    )


def expected(inputs: Iterable[Rec]) -> tuple[dict[str, list[SideIn]], list[Rec]]:
    """Return transaction id → the sides that ask for it, and the records of which no side can be read."""
    sides: dict[str, list[SideIn]] = defaultdict(list)
    unreadable = []
    for record in inputs:
        try:
            cdr = json.loads(record.value or b"")
        except ValueError:
            unreadable.append(record)
            continue
        for index, side in enumerate(("orig", "term")):
            if side not in cdr:
                continue
            client = cdr[side]["client"]
            content = (cdr["called"], cdr["answered_at"], cdr["duration_ms"], client)
            sides[f"default/{cdr['id']}/{side}"].append(
                SideIn(record.partition, record.offset, index, client, content)
            )
    return dict(sides), unreadable


def known(sides: dict[str, list[SideIn]]) -> Iterator[str]:
    """Yield the ids for which there must be a transaction."""
    return (name for name, asked in sides.items() if not asked[0].client.startswith(NOBODY))


def missing_and_twice(
    sides: dict[str, list[SideIn]], rated: list[tuple[Rec, dict[str, Any]]]
) -> tuple[list[str], list[str]]:
    """I1, I3, I4: each distinct side of a known client has exactly one transaction, and no other is there."""
    times = Counter((body["id"], body["revision"]) for _, body in rated)
    have = {name for name, _ in times}
    want = set(known(sides))
    lost = [f"I1 lost: {name} has no transaction" for name in sorted(want - have)]
    doubled = [
        f"I3 doubled: {name} has {count} transactions" for (name, _), count in times.items() if count > 1
    ]
    doubled += [f"I3 revision: {name} has revision {number}" for name, number in times if number != 1]
    doubled += [f"I4 invented: {name} was never asked for" for name in sorted(have - want)]
    return lost, doubled


def rejections(
    evidence: Evidence,
    sides: dict[str, list[SideIn]],
    unreadable: list[Rec],
    rated: list[tuple[Rec, dict[str, Any]]],
) -> Iterator[str]:
    """I9: what cannot be rated is rejected once, with its own bytes; what can be is not."""
    won: dict[str, tuple[Any, ...]] = {}
    for _, body in rated:
        won[body["id"]] = (body["called"], body["at"], body["duration_ms"], body["client"])
    want: Counter[tuple[int, int, str]] = Counter((one.partition, one.offset, "") for one in unreadable)
    for name, asked in sides.items():
        for one in asked:
            unknown = one.client.startswith(NOBODY)
            if unknown or (name in won and not same(one.content, won[name])):
                want[one.partition, one.offset, ("orig", "term")[one.index]] += 1
    have: Counter[tuple[int, int, str]] = Counter()
    values = {(one.partition, one.offset): one.value for one in evidence.inputs}
    for refused in evidence.rejected:
        said = {name: raw.decode() for name, raw in refused.headers.items()}
        place = int(said["source_partition"]), int(said["source_offset"])
        have[*place, said.get("side", "")] += 1
        if refused.value != values.get(place):
            yield f"I9 bytes: {refused.place} is not the record at {place}"
    for side, count in (want - have).items():
        yield f"I9 lost: {side} was to be rejected {count} times more"
    for side, count in (have - want).items():
        yield f"I9 doubled: {side} was rejected {count} times too often"


def same(asked: tuple[Any, ...], rated: tuple[Any, ...]) -> bool:
    """Tell whether a side's content is what was rated: its time is written with or without milliseconds."""
    return (asked[0], asked[1][:19], *asked[2:]) == (rated[0], rated[1][:19], *rated[2:])


def amount_of(draw: dict[str, Any]) -> Decimal:
    """Return what a draw took, in the numbers that Redis counts: units, or micros."""
    taken = Decimal(draw["taken"])
    return taken / MICRO if draw["kind"] == "money" else taken


def counted(body: dict[str, Any]) -> Counter[str]:
    """Return counter → what a transaction adds to it: its draws; of a fee that a call brought, the fee."""
    sums: Counter[str] = Counter()
    for draw in body.get("draws", ()):
        sums[f"{draw['client_package']}.{draw['period']}.{draw['limit']}"] += int(amount_of(draw))
    if body["type"] == "subscription_fee" and "cdr" in body:
        begin = f"{body['client_package']}.{body['period']}.fee"
        sums[f"{begin}.charged"] = 1
        for name in ("net", "amount"):
            sums[f"{begin}.{name}"] = int(Decimal(body[name]) / MICRO)
    return sums


def drifts(evidence: Evidence, bodies: list[dict[str, Any]]) -> list[str]:
    """I2: balances are the sums of amounts and counters the sums of draws, of every client, exactly."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for body in bodies:
        sums[body["client"]]["b"] += int(Decimal(body["amount"]) / MICRO)
        sums[body["client"]].update(counted(body))
    found = []
    for client in sorted(sums.keys() | evidence.stored.keys()):
        stored, sum_of = evidence.stored.get(client, {}), sums[client]
        found += [
            f"I2 drift: {client} {name}: Redis has {stored.get(name, 0)}, the journal {sum_of[name]}"
            for name in sorted((sum_of.keys() | stored.keys()) - {"v"})
            if sum_of[name] != stored.get(name, 0) and not name.startswith("key.")
        ]
    return found


def arithmetic(rated: list[tuple[Rec, dict[str, Any]]]) -> Iterator[str]:
    """I5: drawn and charged units make up the billed ones, and the amount is their price, to the micro."""
    for record, body in rated:
        free = sum(int(draw["taken"]) for draw in body["draws"] if draw["kind"] == "volume")
        if free + body["overage"] != body["billed"]:
            yield f"I5 units: {record.place}: {free} + {body['overage']} are not {body['billed']}"
        price = Decimal(body["rate"]["price"]) * body["overage"] / 60 + Decimal(body["setup_fee"])
        covered = sum(
            (Decimal(draw["covered"]) for draw in body["draws"] if draw["kind"] == "money"), Decimal(0)
        )
        owed = price.quantize(MICRO, ROUND_HALF_UP) - covered
        if abs(Decimal(body["amount"])) != owed:
            yield f"I5 amount: {record.place}: {body['amount']}, but {owed} is owed"


def limits(catalog: dict[str, Any], bodies: list[dict[str, Any]], *, store_kept: bool) -> Iterator[str]:
    """I6: no limit is overdrawn; and what each draw says is left follows from the draws before it.

    So every draw saw the result of all others: none was decided twice, or on an older state of the store.
    """
    of_package = {
        one["id"]: {
            limit.get("id", str(number)): Decimal(str(limit["limit"]))
            * (60 if limit["type"] == "volume" else 1)
            for number, limit in enumerate(one.get("limits", ()))
        }
        for one in catalog["packages"]
    }
    draws: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    quantities = {body["client_package"]: int(body["quantity"]) for body in bodies if "quantity" in body}
    for body in bodies:
        for draw in body.get("draws", ()):
            draws[body["client"], draw["client_package"], str(draw["period"]), draw["limit"]].append(draw)
    for name, drawn in draws.items():
        size = of_package[drawn[0]["package"]][drawn[0]["limit"]] * quantities.get(name[1], 1)
        left = size
        if sum(Decimal(draw["taken"]) for draw in drawn) > size:
            yield f"I6 overdrawn: {name} of {size}"
        for draw in sorted(drawn, key=lambda one: -Decimal(one["left"])) if store_kept else ():
            left -= Decimal(draw["taken"])
            if left != Decimal(draw["left"]):
                yield f"I6 order: {name}: {draw['left']} are left after a draw, but by the others {left}"
                break


def headers(
    evidence: Evidence, usage: list[tuple[Rec, dict[str, Any]]], sides: dict[str, list[SideIn]]
) -> Iterator[str]:
    """I7: one decision for each side of each record; header and value tell the same, of a record of ours.

    A change of a client has one identity, and a transaction for each of its amounts.
    """
    seen: set[tuple[Any, ...]] = set()
    cdrs = {(one.partition, one.offset) for one in evidence.inputs}
    for record, body in usage:
        topic, partition, offset, index, _, _, _, _, client, balance, counters = msgspec.msgpack.decode(
            record.headers[EFFECT]
        )
        by_call = body["type"] == "usage" or "cdr" in body
        identity = (topic, partition, offset, index, *(() if by_call else (body["id"], body["type"])))
        if identity in seen:
            yield f"I7 twice: {record.place} is of {topic}[{partition}]@{offset}, as one before"
        seen.add(identity)
        if partition != record.partition:
            yield f"I7 lane: {record.place} is of partition {partition}"
        told: Counter[str] = Counter()
        for name, units in counters:
            told[name] += units
        if (client, balance, told) != (body["client"], int(Decimal(body["amount"]) / MICRO), counted(body)):
            yield f"I7 header: {record.place}: the header tells another amount or other draws than the value"
        if body["type"] != "usage":
            found = topic != evidence.cdrs or (partition, offset) in cdrs
        else:
            found = any(
                (one.partition, one.offset, one.index) == (partition, offset, index)
                for one in sides.get(body["id"], ())
            )
        if not found:
            yield f"I7 source: {record.place} is not of the record that it names"


def marks(journal: list[Rec]) -> Iterator[str]:
    """I11: a lane's marks never go back, and a transaction is of a record between the marks around it."""
    before: dict[int, tuple[dict[str, int], int]] = {}
    waiting: dict[int, list[tuple[Rec, str, int]]] = defaultdict(list)
    for record in journal:
        if EFFECT in record.headers:
            topic, _, offset, *_ = msgspec.msgpack.decode(record.headers[EFFECT])
            waiting[record.partition].append((record, topic, offset))
        if CONTROL not in record.headers:
            continue
        tag, *said = msgspec.msgpack.decode(record.headers[CONTROL])
        if tag != "mark_v4":
            continue
        positions, _, _, _, lane_ms, *_ = said
        known_positions, known_ms = before.get(record.partition, ({}, 0))
        back = [topic for topic, at in known_positions.items() if positions.get(topic, 0) < at]
        if back or lane_ms < known_ms:
            yield f"I11 back: {record.place}: the mark of {back or 'lane time'} is before the one before it"
        for one, topic, offset in waiting.pop(record.partition, ()):
            if not known_positions.get(topic, 0) <= offset < positions.get(topic, 0):
                yield f"I11 between: {one.place} is of {topic}@{offset}, which is not between its marks"
        before[record.partition] = positions, lane_ms
    for lane, rest in waiting.items():
        yield f"I11 unmarked: lane {lane} has {len(rest)} transactions behind its last mark"


def unique_events(events: list[Rec]) -> Iterator[str]:
    """No event is told twice."""
    times = Counter(json.loads(one.value)["id"] for one in events if one.value)
    return (f"events: {name} was told {count} times" for name, count in times.items() if count > 1)


def open_transactions(ends: dict[str, tuple[int, int]]) -> Iterator[str]:
    """I8: at rest no Kafka transaction is open: all that was written is decided."""
    return (
        f"I8 open: {place} is decided up to {decided} of {end}"
        for place, (end, decided) in ends.items()
        if end != decided
    )


def readers_agree(evidence: Evidence) -> Iterator[str]:
    """I10: a reader saw during the run just what one sees after it, each record once, in order."""
    if not evidence.watched:
        return
    after = {one.digest for one in (*evidence.journal, *evidence.rejected)}
    during = Counter(evidence.watched)
    for place in sorted(after - during.keys()):
        yield f"I10 unseen: {place[:3]} was not seen during the run"
    for place in sorted(during.keys() - after):
        yield f"I10 vanished: {place[:3]} was seen during the run only"
    at: dict[tuple[str, int], int] = {}
    for topic, partition, offset, _ in evidence.watched:
        if offset <= at.get((topic, partition), -1):
            yield f"I10 order: {topic}[{partition}]@{offset} came after {at[topic, partition]}"
        at[topic, partition] = offset
