"""What must be true of a run when all is drained, by the topics and the store alone: no code of rater.

Names I1 ... are those of tests/README.md, The fault suite.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from simulation.comparing import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.world import Sent, World

MICROS = 10**6
SIDES = ("orig", "term")
LIMITS = {"volume": 120, "money": 1_500_000, "both": 120, "sold": 120}
REASONS_OF_BAD = {
    "malformed", "missing_field", "bad_duration", "bad_time", "account_unknown", "client_unknown",
}  # fmt: skip

Record = tuple[str, int, int]
"""Topic, lane, offset."""


class Transaction(msgspec.Struct):
    """One published transaction: where, of which record and side, and what it says."""

    where: str
    record: Record
    index: int
    said: dict[str, Any]
    effect: list[Any]


class Rejected(msgspec.Struct):
    """One rejected record."""

    reason: str
    side: str
    raw: bytes | None
    value: str
    catalog: int


def check(world: World) -> list[str]:
    """Return a sentence for each thing that is not as it must be."""
    transactions = list(transactions_of(world))
    rejected, undone = rejected_of(world), _undone(world)
    return [
        *once(transactions, rejected),
        *_each_side(world, transactions, rejected, undone),
        *sums(world, transactions),
        *_drawn_over(transactions),
        *_amounts(transactions),
        *_order(world, transactions, undone),
        *marks(world),
        *changes(world, transactions),
        *events(world),
        *nothing_hangs(world),
        *compare(world, transactions, rejected, answered=False),
        *world.server.again,
    ]


def check_any(world: World) -> list[str]:
    """Return the same of a run with any catalogs: what depends on those is left to the reference."""
    transactions, rejected = list(transactions_of(world)), rejected_of(world)
    return [
        *once(transactions, rejected),
        *sums(world, transactions),
        *marks(world),
        *changes(world, transactions),
        *events(world),
        *nothing_hangs(world),
        *compare(world, transactions, rejected, answered=True),
        *world.server.again,
    ]


def transactions_of(world: World) -> Iterator[Transaction]:
    """Yield what was published, lane by lane."""
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.transactions, lane)):
            if entry.value is None:
                continue
            effect = msgspec.msgpack.decode(dict(entry.headers)["e"])
            record = (effect[0], effect[1], effect[2])
            where = f"transactions[{lane}]@{entry.offset}"
            yield Transaction(where, record, effect[3], json.loads(entry.value), effect)


def rejected_of(world: World) -> dict[Record, list[Rejected]]:
    """Return the rejections of each record."""
    found: dict[Record, list[Rejected]] = defaultdict(list)
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.rejected, lane)):
            said = {name: raw.decode() for name, raw in entry.headers}
            record = (said["source_topic"], int(said["source_partition"]), int(said["source_offset"]))
            found[record].append(
                Rejected(said["reason"], said["side"], entry.value, said["value"], int(said["catalog"]))
            )
    return found


def once(transactions: list[Transaction], rejected: dict[Record, list[Rejected]]) -> Iterator[str]:
    """I1, I3, I7: a side of a record has one outcome, a side of a call one transaction; header = value."""
    by_side: dict[tuple[Record, int], str] = {}
    by_id: dict[tuple[str, str, int], str] = {}  # a reversal's revision below 0
    for one in transactions:
        known = by_side.setdefault((one.record, one.index), one.where)
        if known != one.where and one.index < len(SIDES):  # a change may have several
            yield f"I1: {one.where} and {known} are of one record {one.record} side {one.index}"
        known = by_id.setdefault(
            (
                one.said["id"],
                one.said["client"],
                one.said["revision"] if one.said["type"] != "reversal" else -one.said["reverses"],
            ),
            one.where,
        )
        if known != one.where:
            yield f"I3: {one.said['id']} is published twice, at {known} and {one.where}"
        drawn: dict[str, int] = defaultdict(int)
        for name, units in counted(one.said):
            drawn[name] += units
        value = (one.said["client"], micros(one.said["amount"]), dict(drawn))
        header = (one.effect[8], one.effect[9], dict(one.effect[10]))
        if value != header:
            yield f"I7: {one.where} says {value}, its header {header}"
    for record, several in rejected.items():
        sides = [each.side for each in several]
        if len(set(sides)) != len(sides):
            yield f"I1: {record} is rejected twice: {[(each.reason, each.side) for each in several]}"
        for each in several:
            where = by_side.get((record, SIDES.index(each.side))) if each.side else None
            if where is not None:
                yield f"I1: {record} {each.side} is rejected ({each.reason}) and rated at {where}"


def _each_side(
    world: World, transactions: list[Transaction], rejected: dict[Record, list[Rejected]],
    undone: dict[str, set[Any]],
) -> Iterator[str]:  # fmt: skip
    """I4, I9: nothing is lost, duplicates come out as duplicates only, rejected bytes are the input's."""
    sent = {(one.topic, one.lane, one.offset): one for one in world.sent}
    contents = {one.said["id"]: _content(sent[one.record]) for one in transactions if one.record in sent}
    rated = {(one.record, one.index) for one in transactions}
    for record, one in sent.items():
        got = {each.side: each.reason for each in rejected.get(record, ())}
        if any(each.raw != one.raw for each in rejected.get(record, ())):
            yield f"I9: {record} is rejected with other bytes than it came with"
        if one.cdr is None or "" in got:
            if set(got) != {""} or got[""] not in REASONS_OF_BAD:
                yield f"I4: the bad record {record} {one.raw!r} has the outcome {got}"
            continue
        for index, side in enumerate(SIDES):
            if side in one.cdr:
                others = undone.get(one.cdr["id"], set())
                its = (record, index) in rated
                yield from _side(one, side, got.get(side), contents, others, rated=its)
    for record in rejected.keys() - sent.keys():
        yield f"I1: {record} is rejected and was never sent"
    for transaction in transactions:
        if transaction.said["type"] == "usage" and transaction.record not in sent:
            yield f"I1: {transaction.where} is of {transaction.record}, which was never sent"


def _undone(world: World) -> dict[str, set[Any]]:
    """Return the contents a copy may have been compared with, for calls where that may have been lost.

    A copy is compared with what the store holds, published or not. Where the store then loses a draw that was
    not published, its record is rated again later, and a copy in another lane may be rated before it: then it
    is that record which is told to differ, or to be a duplicate. One of them is rated, once; only who is told
    what is not as it would have been.
    """
    if not world.server.lost:
        return {}
    lanes: dict[str, set[int]] = defaultdict(set)
    contents: dict[str, set[Any]] = defaultdict(set)
    for one in world.sent:
        if one.cdr is not None:
            lanes[one.cdr["id"]].add(one.lane)
            contents[one.cdr["id"]].add(_content(one))
    return {name: contents[name] for name, several in lanes.items() if len(several) > 1}


def _side(
    one: Sent,
    side: str,
    reason: str | None,
    contents: dict[str, Any],
    undone: set[Any],
    *,
    rated: bool,
) -> Iterator[str]:
    assert one.cdr is not None
    where = f"{one.topic}[{one.lane}]@{one.offset} {side} of {one.cdr['id']}"
    party = one.cdr[side]
    client = party.get("client") or party["account"].removeprefix("a-")
    standing = contents.get(f"default/{one.cdr['id']}/{side}")
    if reason is not None:
        unknown = reason in ("client_unknown", "account_unknown")
        if reason == "duplicate_differs":
            if standing is None or not ({standing} | undone) - {_content(one)}:
                yield f"I3: {where} is told to differ from {standing}"
        elif not (unknown and client in ("nobody", "late")):
            yield f"I4: {where} is rejected: {reason}"
    elif not rated:
        if standing is None:
            yield f"I4: {where} is lost: neither rated nor rejected"
        elif standing != _content(one) and not undone:
            yield f"I3: {where} differs from what was rated, and nobody is told"


def _content(one: Sent) -> Any:
    return None if one.cdr is None else one.cdr["duration_ms"]


def sums(world: World, transactions: list[Transaction]) -> Iterator[str]:
    """I2: the store holds the sums of what was published."""
    balances: dict[str, int] = defaultdict(int)
    used: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in transactions:
        client = one.said["client"]
        balances[client] += micros(one.said["amount"])
        for name, units in counted(one.said):
            used[client][name] += units
        if one.record[0] == world.topics.commands and one.index >= len(SIDES):
            for name, units in one.effect[10]:  # its share of a change, which has it, too
                used[client][name] -= units
    for _, said in journaled(world):
        for name, units in said[9]:
            used[said[5]][name] += units
    held = {name: each for bucket in world.server.buckets for name, each in bucket.clients.items()}
    for name in sorted(balances.keys() | held.keys()):
        balance = held[name].balance if name in held else 0
        if balance != balances[name]:
            yield f"I2: {name} has the balance {balance}, the journal's amounts sum to {balances[name]}"
        counters = {field: taken for field, taken in held[name].used.items() if taken} if name in held else {}
        drawn = {field: taken for field, taken in used[name].items() if taken}
        if drawn != counters:
            yield f"I2: {name} has the counters {counters}, the journal's draws sum to {drawn}"


def _drawn_over(transactions: list[Transaction]) -> Iterator[str]:
    """I6: no limit is overdrawn."""
    used: dict[tuple[str, str], int] = defaultdict(int)
    for one in transactions:
        for draw in one.said.get("draws", ()):
            key = one.said["client"], _field(draw)
            used[key] += _taken(draw)
            limit = LIMITS[draw["package"]] if draw["kind"] == "volume" else LIMITS["money"]
            if used[key] > limit:
                yield f"I6: {key[0]} {key[1]} has {limit}, {used[key]} are drawn ({one.where})"


def _amounts(transactions: list[Transaction]) -> Iterator[str]:
    """I5: what is drawn and what is charged make up the call, exactly."""
    for one in transactions:
        said = one.said
        if said["type"] != "usage":
            continue
        volume = sum(_taken(draw) for draw in said["draws"] if draw["kind"] == "volume")
        money = sum(_taken(draw) for draw in said["draws"] if draw["kind"] == "money")
        billed = int(said["billed"])
        if said["duration_ms"] != billed * 1000 or volume + int(said["overage"]) != billed:
            yield f"I5: {one.where}: {volume} drawn and {said['overage']} over do not make {billed}"
        cost = int(said["overage"]) * micros(said["rate"]["price"]) // 60
        if abs(micros(said["amount"])) + money != cost:
            yield f"I5: {one.where}: {said['amount']} and {money} of limits do not make {cost}"


def _order(world: World, transactions: list[Transaction], undone: dict[str, set[Any]]) -> Iterator[str]:
    """I8: of one call's copies in a lane the first is rated; each lane publishes in its records' order."""
    sent = {(one.topic, one.lane, one.offset): one for one in world.sent}
    first: dict[tuple[str, str, int], int] = {}
    for one in world.sent:
        if one.cdr is not None:
            first.setdefault((one.cdr["id"], one.topic, one.lane), one.offset)
    last: dict[tuple[str, int], int] = {}
    for transaction in transactions:
        record, said = transaction.record, transaction.said
        if said["type"] != "usage" or record not in sent:
            continue
        _, call, _ = said["id"].split("/")
        if said["client"] != "late" and call not in undone and record[2] != first[call, record[0], record[1]]:
            yield f"I8: of {call} in lane {record[1]} {record[0]}@{record[2]} is rated and not the first"
        before = last.get((record[0], record[1]), -1)
        if record[2] < before:
            yield f"I8: {transaction.where} of {record} comes after one of @{before}"
        last[record[0], record[1]] = max(record[2], before)


def changes(world: World, transactions: list[Transaction]) -> Iterator[str]:
    """I12: each change of a client is published once and whole; the store holds the last one of each."""
    shares: dict[tuple[Record, int], int] = defaultdict(int)
    for one in transactions:
        shares[one.record, one.index] += int(one.effect[9])
    versions: dict[str, dict[int, bytes]] = defaultdict(dict)
    accounted: dict[str, set[int]] = defaultdict(set)
    for (lane, at), said in journaled(world):
        topic, offset, index, _, _, client, version, state, delta = said[:9]
        where = f"transactions[{lane}]@{at}"
        if version in versions[client]:
            yield f"I12: {where} is {client}'s version {version}, which was published before"
        versions[client][version] = state
        accounted[client] |= {version, *said[14]}
        if shares[(topic, lane, offset), index] != delta:
            made = shares[(topic, lane, offset), index]
            yield f"I12: {where} adds {delta} to {client}, its transactions {made}"
    for client, known in accounted.items():
        if lacking := set(range(1, max(known))) - known:
            yield f"I12: {client} is of version {max(known)}, and {sorted(lacking)} are in no journal"
    for bucket in world.server.buckets:
        for client in bucket.clients:
            last = max(versions[client], default=0)
            held = bucket.clients[client].version
            if held != last or bucket.states.get(client) != versions[client].get(last):
                yield f"I12: {client} is of version {held} in the store, and of {last} in the journal"


def events(world: World) -> Iterator[str]:
    """I13: each command is answered by one event, whatever died meanwhile.

    Of what draws tell the client belongs to the id: a call may be rated at two.
    """
    told: Counter[tuple[str, str | None]] = Counter()
    for lane in range(world.lanes):
        events = world.visible((world.topics.events, lane))
        values = [json.loads(entry.value or b"") for entry in events]
        told.update((value["id"], value["client"]) for value in values)
    names = {name for name, _ in told}
    for (name, _), times in told.items():
        if times > 1:
            yield f"I13: the event {name} is told {times} times"
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.commands, lane)):
            said = json.loads(entry.value) if entry.value and entry.value[:1] == b"{" else {}
            if said.get("do") != "load_catalog":
                continue
            manifest = said["args"].get("part") == "manifest"
            done = f"catalog_loaded/{lane}" if manifest else "done"
            if not any(f"{said['id']}/{what}" in names for what in (done, f"refused/{lane}")):
                yield f"I13: nothing tells that {said['id']} is done ({done})"


def journaled(world: World) -> Iterator[tuple[tuple[int, int], list[Any]]]:
    """Yield ((lane, offset), what it says) of the changes in the journal."""
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.transactions, lane)):
            said = msgspec.msgpack.decode(dict(entry.headers).get("control", b"\xc0"))
            if said and said[0] == "change":
                yield (lane, entry.offset), said[1:]


def marks(world: World) -> Iterator[str]:
    """I11: marks and catalog versions never fall, and a mark names no older one than what it goes with."""
    for lane in range(world.lanes):
        positions: dict[str, int] = {}
        version = beside = 0
        for entry in world.visible((world.topics.transactions, lane)):
            if entry.value is not None:
                beside = max(beside, json.loads(entry.value)["catalog"])
                continue
            said = msgspec.msgpack.decode(dict(entry.headers)["control"])
            if said[0] != "mark_v4":
                continue
            for topic, at in said[1].items():
                if at < positions.get(topic, 0):
                    yield f"I11: transactions[{lane}]@{entry.offset} falls from {positions[topic]} to {at}"
            positions = said[1]
            if said[3] < version:
                yield f"I11: transactions[{lane}]@{entry.offset} falls from catalog {version} to {said[3]}"
            if said[3] < beside:
                yield f"I11: transactions[{lane}]@{entry.offset} marks catalog {said[3]} beside {beside}"
            version, beside = said[3], 0


def nothing_hangs(world: World) -> Iterator[str]:
    """I8 of Kafka: at rest nothing is undecided."""
    for topic in (world.topics.transactions, world.topics.rejected, world.topics.events):
        for lane in range(world.lanes):
            partition = world.broker.partition((topic, lane))
            if partition.stable != partition.end:
                yield f"I8: {topic}[{lane}] is decided up to {partition.stable} of {partition.end}"


def counted(said: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the counters of a transaction, and what it adds to each: of draws, and of a fee on event."""
    for draw in said.get("draws", ()):
        yield _field(draw), _taken(draw)
    if said.get("client_package") and said.get("cdr"):
        begin = f"{said['client_package']}.{said['period']}.fee."
        yield f"{begin}charged", -1 if said["type"] == "reversal" else 1
        yield f"{begin}net", micros(said["net"])
        yield f"{begin}amount", micros(said["amount"])


def _field(draw: dict[str, Any]) -> str:
    return f"{draw['client_package']}.{draw['period']}.{draw['limit']}" + ".rolled" * bool(draw.get("rolled"))


def _taken(draw: dict[str, Any]) -> int:
    return micros(draw["taken"]) if draw["kind"] == "money" else int(draw["taken"])


def micros(text: str) -> int:
    """Return an amount in micros."""
    return int(Decimal(text) * MICROS)
