"""What the auditor says of packages that live: fees, periods, money, commands and events, each once.

It goes by what was published and what Redis keeps, shares no code with the worker, and knows the clients of
`lives.py` by their names: `rich` ones have each period that their dates ask for, `poor` ones never owe. L1 to
L10 are the invariants of tests/README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from faults.auditor import CONTROL, EFFECT, MICRO, Evidence, Rec

Body = dict[str, Any]
FEES = "activation_fee", "subscription_fee"
ONCE = "assigned", "activated", "stopped", "cancelled", "archived", "removed"
HOUR_MS = 3_600_000
COMMANDED = "order-"
"""Commands whose ids begin so are ours; others are the worker's own and those of loads."""


class Period(NamedTuple):
    """A period as the client's state in Redis has it."""

    start_ms: int
    stop_ms: int
    voided: bool
    refunded: bool


class Held(NamedTuple):
    """A client package as the client's state in Redis has it. total: micros of a pending charge."""

    package: str
    quantity: int
    asked: str | None
    end_ms: int | None
    numbered: int
    periods: dict[int, Period]
    waiting: str
    total: int
    ended: bool
    last: bool


def held_in(state: bytes) -> dict[str, Held]:
    """Return client package → what a state (msgpack, arrays) says of it."""
    found = {}
    for one in msgspec.msgpack.decode(state)[13]:
        of_id, package, _, quantity, _, _, end_ms, asked, _, _, life = one
        _, numbered, _, periods, waiting, ended_ms, _, last, *_ = life
        found[of_id] = Held(
            package, quantity, asked, end_ms, numbered,
            {row[0]: Period(row[1], row[2], row[10], row[11]) for row in periods},
            waiting[1] if waiting else "", waiting[7] if waiting else 0, ended_ms is not None, last,
        )  # fmt: skip
    return found


@dataclass
class Lives:
    """What was read, by subject. at_ms: up to then all that is due was done."""

    evidence: Evidence
    at_ms: int
    bodies: list[Body] = field(default_factory=list)
    events: list[Body] = field(default_factory=list)
    commands: list[Body] = field(default_factory=list)
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    of_period: dict[tuple[str, str, int], dict[str, Body]] = field(default_factory=lambda: defaultdict(dict))
    """Client, client package, period → type → its transaction; of a reversal the type is `reversal TYPE`."""
    drawn: dict[tuple[str, str, int], list[Body]] = field(default_factory=lambda: defaultdict(list))
    packages: dict[str, Body] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort it."""
        said = self.evidence
        self.bodies = [json.loads(one.value) for one in said.journal if one.value is not None]
        self.events = [json.loads(one.value) for one in said.events if one.value is not None]
        self.commands = [
            body
            for one in said.commands
            if one.value and not one.headers and (body := json.loads(one.value))["id"].startswith(COMMANDED)
        ]
        self.held = {client: held_in(state) for client, state in said.states.items()}
        self.packages = {one["id"]: one for one in said.catalog["packages"]}
        for body in self.bodies:
            for draw in body.get("draws", ()):
                self.drawn[body["client"], draw["client_package"], draw["period"]].append(body)
            if body.get("client_package") is not None:
                kind = body["type"]
                if kind == "reversal":
                    kind = f"reversal {body['id'].rpartition('/')[2]}"
                self.of_period[body["client"], body["client_package"], body["period"]][kind] = body


def audit_lives(evidence: Evidence, at_ms: int) -> list[str]:
    """Return the findings, sentences that begin with the invariant. at_ms: all due up to then was done."""
    lives = Lives(evidence, at_ms)
    return [
        *once(lives), *opened(lives), *given_back(lives), *draws(lives), *versions(lives), *commanded(lives),
        *keys(lives), *told(lives), *complete(lives), *solvent(lives),
    ]  # fmt: skip


def made_again(evidence: Evidence) -> int:
    """Return how many changes Redis had lost that were made again, since others went on from them."""
    return sum(bool(said[14]) for _, said in changes(evidence))


def micros(text: str) -> int:
    """Return a decimal in micros."""
    return int(Decimal(text) / MICRO)


def instant_ms(text: str) -> int:
    """Return an instant in ms."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def once(lives: Lives) -> Iterator[str]:
    """L1: no fee, refund, reversal, adjustment or call is published twice."""
    times = Counter((body["client"], body["id"], body["revision"], body["type"]) for body in lives.bodies)
    return (f"L1 doubled: {name} was published {count} times" for name, count in times.items() if count > 1)


def opened(lives: Lives) -> Iterator[str]:
    """L2: a period is opened exactly if its fees are charged, and they are what the package costs."""
    for client, packages in lives.held.items():
        for of_id, held in packages.items():
            for number, period in held.periods.items():
                yield from fees(lives, (client, of_id, number), held, period)
    for (client, of_id, number), found in lives.of_period.items():
        one = lives.held.get(client, {}).get(of_id)
        if one is not None and number not in one.periods and "refund" not in found:
            yield f"L2 not opened: {client} {of_id} {number} has {sorted(found)}, and there is no such period"
        if one is not None and number > one.numbered:
            yield f"L2 not opened: {client} {of_id} {number}, which was never numbered"


def fees(lives: Lives, place: tuple[str, str, int], held: Held, period: Period) -> Iterator[str]:
    """L2, of one period."""
    package, found = lives.packages[held.package], lives.of_period.get(place, {})
    rates: Counter[str] = Counter()
    for row in package["fees"]:
        rates[f"{row['type']}_fee"] += micros(row["rate"])
    want = {name for name in rates if name != "activation_fee" or place[2] == 1}
    if package.get("charge_on_event") and not lives.drawn.get(place):
        want -= {"subscription_fee"}
    have = {name for name in FEES if name in found}
    if want - have:
        yield f"L2 not charged: {place} is open without {sorted(want - have)}"
    if have - want:
        yield f"L2 charged: {place} has {sorted(have - want)}, for which nothing asked"
    for name in have & want:
        body = found[name]
        if micros(body["net"]) != -rates[name] * held.quantity:
            yield f"L2 amount: {body['id']}: {body['net']} is not {rates[name] * held.quantity} micros"
        if instant_ms(body["period_start"]) != period.start_ms:
            yield f"L2 start: {body['id']} is of {body['period_start']}, the period of {period.start_ms}"


def given_back(lives: Lives) -> Iterator[str]:
    """L3: what is given back was charged, is its exact opposite, and goes with a period that is void.

    Of a client package that was removed fees and refunds are reversed one by one: all of it sums to nothing.
    """
    for place, found in lives.of_period.items():
        client, of_id, number = place
        charged = sum(micros(found[name]["amount"]) for name in FEES if name in found)
        if "refund" in found and micros(found["refund"]["amount"]) != -charged:
            yield f"L3 refund: {place}: {found['refund']['amount']} for {charged} micros"
        held = lives.held.get(client, {}).get(of_id)
        if held is None:
            left = sum(micros(body["amount"]) for body in found.values())
            if left:
                yield f"L3 removed: {place}: {left} micros are left of {sorted(found)}"
            continue
        if any(name.startswith("reversal") for name in found):
            yield f"L3 reversed: {place} was not removed, and has {sorted(found)}"
        period = held.periods.get(number)
        if period is not None and ("refund" in found) != (period.voided and charged != 0):
            yield f"L3 void: {place}: void {period.voided}, charged {charged} micros, has {sorted(found)}"


def draws(lives: Lives) -> Iterator[str]:
    """L4: no call drew from a period that was not opened, or outside of it."""
    for place, bodies in lives.drawn.items():
        fee = lives.of_period.get(place, {}).get("subscription_fee")
        if fee is None:
            yield f"L4 not opened: {len(bodies)} calls drew from {place}, first {bodies[0]['id']}"
            continue
        start, stop = instant_ms(fee["period_start"]), instant_ms(fee["period_stop"])
        for body in bodies:
            if not start <= instant_ms(body["at"]) < stop:
                yield f"L4 outside: {body['id']} of {body['at']} drew from {place}"


def versions(lives: Lives) -> Iterator[str]:
    """L5: each version of a client is one change in the journal, none is missing, the last is Redis' one.

    A change that was made again stands for its versions of before, which Redis has lost (decision 0099).
    The amounts of a change are its transactions' together.
    """
    found: Counter[tuple[str, int]] = Counter()
    shares: Counter[tuple[Any, ...]] = Counter()
    for record in lives.evidence.journal:
        if EFFECT in record.headers:
            topic, partition, offset, index, *rest = msgspec.msgpack.decode(record.headers[EFFECT])
            shares[partition, topic, offset, index] += rest[5]
    for lane, (topic, offset, index, _, _, client, version, _, delta, *more) in changes(lives.evidence):
        found.update((client, of) for of in (version, *more[5]))
        share = shares[lane, topic, offset, index]
        if share != delta:
            yield f"L5 shares: version {version} of {client} is {delta} micros, its transactions {share}"
    for (client, version), count in found.items():
        if count > 1:
            yield f"L5 doubled: version {version} of {client} is {count} changes"
    for client, stored in lives.evidence.stored.items():
        last = stored.get("v", 0)
        missing = [number for number in range(1, last + 1) if (client, number) not in found]
        if missing:
            yield f"L5 lost: {client} has version {last}, and no change to {missing}"
        if (client, last + 1) in found:
            yield f"L5 old: {client} has version {last} in Redis, and later changes"


def changes(evidence: Evidence) -> Iterator[tuple[int, list[Any]]]:
    """Yield lane and what is said of each change in the journal."""
    for record in evidence.journal:
        said = change_in(record)
        if said is not None:
            yield record.partition, said


def change_in(record: Rec) -> list[Any] | None:
    """Return what a record of the journal says of a change, None where it is none."""
    if CONTROL not in record.headers:
        return None
    tag, *said = msgspec.msgpack.decode(record.headers[CONTROL])
    return said if tag == "change" else None


def commanded(lives: Lives) -> Iterator[str]:
    """L6: each command has one result, a key takes effect once, and what it says it did was published."""
    results: dict[str, list[Body]] = defaultdict(list)
    for event in lives.events:
        if event["type"] in ("command_done", "command_refused"):
            results[event["cause"]].append(event)
    published = {(body["client"], body["id"], body["revision"], body["type"]): body for body in lives.bodies}
    first: Counter[tuple[str, str]] = Counter()
    for command in lives.commands:
        told_of = results[command["id"]]
        if len(told_of) != 1:
            yield f"L6 result: command {command['id']} has {len(told_of)} results"
        elif told_of[0]["type"] == "command_done":
            first[command["client"], command["key"]] += not told_of[0]["data"]["repeated"]
            yield from carried_out(command, told_of[0]["data"], published)
    for key, count in sorted(first.items()):
        if count != 1:
            yield f"L6 key: {key} took effect {count} times"
    for client, name, _, kind in published:
        key = name.rpartition("/")[2]
        if kind == "adjustment" and key != "opening" and (client, key) not in first:
            yield f"L6 invented: {name} was asked for by no command that is done"


def carried_out(command: Body, data: Body, published: dict[tuple[Any, ...], Body]) -> Iterator[str]:
    """L6, of one command that is done."""
    for body in data["transactions"]:
        if published.get((body["client"], body["id"], body["revision"], body["type"])) != body:
            yield f"L6 unpublished: {command['id']} tells of {body['id']}, which is not so in the journal"
    if command["do"] == "adjust":
        client = command["client"]
        money = published.get((client, f"adjust/{client}/{command['key']}", 1, "adjustment"))
        if money is None or Decimal(money["amount"]) != Decimal(command["args"]["amount"]):
            yield f"L6 adjustment: {command['id']} is done, and published is {money}"


def keys(lives: Lives) -> Iterator[str]:
    """L7: Redis remembers the key of each command that is done, and no other."""
    want: dict[str, set[str]] = defaultdict(set)
    done = {event["cause"] for event in lives.events if event["type"] == "command_done"}
    for command in lives.commands:
        if command["id"] in done:
            digest = hashlib.blake2b(command["key"].encode(), digest_size=8).hexdigest()
            want[command["client"]].add(f"key.{digest}")
    for client in sorted(want.keys() | lives.evidence.stored.keys()):
        have = {name for name in lives.evidence.stored.get(client, {}) if name.startswith("key.")}
        if have != want[client]:
            yield f"L7 keys: {client} has {len(have)}, and {len(want[client])} are done"


def told_of(
    events: list[Body],
) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str, int]]]:
    """Return how often each client package was told to be assigned and so on, each period to be opened."""
    times: Counter[tuple[str, str, str]] = Counter()
    periods: Counter[tuple[str, str, int]] = Counter()
    for event in events:
        of, kind = (event["client"], event["client_package"]), event["type"]
        if kind in ONCE:
            times[*of, kind] += 1
        if kind in ("renewed", "renewed_late"):
            periods[*of, event["period"]] += 1
        if kind == "activated":  # in the past: up to the period that holds then, in one step
            periods.update((*of, number) for number in range(1, event["after"]["period"] + 1))
    return times, periods


def told(lives: Lives) -> Iterator[str]:
    """L8: each assignment, activation and renewal is told once; a period that is open was told of."""
    times, periods = told_of(lives.events)
    for name, count in times.items():
        if count > 1:
            yield f"L8 doubled: {name} was told {count} times"
    for client, packages in lives.held.items():
        for of_id, held in packages.items():
            if times[client, of_id, "assigned"] != 1:
                yield f"L8 assigned: {client} {of_id}, {times[client, of_id, 'assigned']} times"
            if times[client, of_id, "removed"]:
                yield f"L8 removed: {client} {of_id} was, and is still there"
            for number in [one for one in held.periods if periods[client, of_id, one] != 1]:
                yield f"L8 opened: {client} {of_id} {number}, {periods[client, of_id, number]} times"


def complete(lives: Lives) -> Iterator[str]:
    """L9: what was due is done, or waits for what is not there; `rich` clients have each of their periods."""
    for client, packages in lives.held.items():
        balance = lives.evidence.stored.get(client, {}).get("b", 0)
        for of_id, held in packages.items():
            last = max((one.stop_ms for one in held.periods.values()), default=0)
            if held.ended:
                continue
            if held.end_ms is not None and held.end_ms <= lives.at_ms:
                yield f"L9 not archived: {client} {of_id} ended at {held.end_ms}"
            if held.waiting:
                if held.waiting == "funds" and balance >= held.total:
                    yield f"L9 waits: {client} {of_id} for {held.total} micros, and has {balance}"
            elif last <= lives.at_ms:
                yield f"L9 due: {client} {of_id} was over at {last}, and nothing happened"
            if client.startswith("rich"):
                yield from regular(lives, client, of_id, held)


def regular(lives: Lives, client: str, of_id: str, held: Held) -> Iterator[str]:
    """L9, of a package that nothing changes: periods from its date on, without a gap."""
    package = lives.packages[held.package]
    span = int(package["period"].split()[0]) * HOUR_MS
    begin = instant_ms(held.asked or "")
    ahead = HOUR_MS if "advance_renew" in package else 0
    ahead += 1000 * (package.get("renewal_charge") == "before_period")
    count = (lives.at_ms + ahead - begin) // span + 1
    have = [(one.start_ms, one.stop_ms) for _, one in sorted(held.periods.items())]
    want = [(begin + place * span, begin + (place + 1) * span) for place in range(count)]
    # What falls due after the last look may be done, or not yet.
    if have[:count] != want or len(have) > count + 1 or list(held.periods) != list(range(1, len(have) + 1)):
        yield f"L9 periods: {client} {of_id} has {have}, and not {want}"


def solvent(lives: Lives) -> Iterator[str]:
    """L10: who has neither calls nor debits never owes: fees were charged only where they were covered."""
    for client, stored in lives.evidence.stored.items():
        if client.startswith("poor") and stored.get("b", 0) < 0:
            yield f"L10 owes: {client} has {stored['b']} micros"
