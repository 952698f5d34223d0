"""What the auditor checks of packages that live: changes of clients, fees, refunds, reversals, their events.

Pure functions of what was read, as in `auditor.py`, which calls them; no code of the worker either.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from faults.auditor import Rec

MICRO = Decimal("0.000001")
FEES = ("activation_fee", "subscription_fee")
OPENINGS = ("activated", "renewed", "renewed_late")
Body = dict[str, Any]
Identity = tuple[int, str, int, int]
"""Partition, topic, offset, index."""


class Changed(NamedTuple):
    """A change of a client, as its journal record says it."""

    place: str
    identity: Identity
    client: str
    version: int
    delta: int
    counters: list[tuple[str, int]]


def changes_of(journal: Iterable[Rec]) -> Iterator[Changed]:
    """Yield the changes of clients."""
    for record in journal:
        tag, *said = msgspec.msgpack.decode(record.headers.get("control", b"\x91\xa0"))
        if tag == "change":
            topic, offset, index, _, _, client, version, _, delta, counters, *_ = said
            yield Changed(
                record.place, (record.partition, topic, offset, index), client, version, delta, counters
            )


def counted(body: Body) -> Iterator[tuple[str, int]]:
    """Yield the counters of a transaction, and what it adds: of draws, and of a fee that a call brings."""
    for draw in body.get("draws", ()):
        taken = Decimal(draw["taken"])
        name = f"{draw['client_package']}.{draw['period']}.{draw['limit']}"
        yield (
            name + ".rolled" * bool(draw.get("rolled")),
            int(taken / MICRO if draw["kind"] == "money" else taken),
        )
    if body["type"] in FEES and body.get("cdr"):
        begin = f"{body['client_package']}.{body['period']}.fee."
        yield f"{begin}charged", 1
        yield f"{begin}net", micros(body["net"])
        yield f"{begin}amount", micros(body["amount"])


def micros(text: str) -> int:
    """Return an amount in micros."""
    return int(Decimal(text) / MICRO)


def life(journal: list[Rec], bodies: list[tuple[Rec, Body]], events: list[Rec]) -> Iterator[str]:
    """L1 to L4: changes, what they charge and give back, and what is told of them."""
    told = [json.loads(one.value) for one in events if one.value]
    yield from whole_changes(journal, bodies)
    yield from once(bodies)
    yield from fees(journal, bodies, told)
    yield from given_back(bodies)
    yield from told_of_changes(journal, told)


def whole_changes(journal: list[Rec], bodies: list[tuple[Rec, Body]]) -> Iterator[str]:
    """L4: each version of a client is published once, none is lacking, and its transactions add up to it."""
    shares: Counter[Identity] = Counter()
    for record, _ in bodies:
        *_, balance, _ = msgspec.msgpack.decode(record.headers["e"])
        shares[_identity(record)] += balance
    versions: dict[str, list[int]] = defaultdict(list)
    known: set[Identity] = set()
    for change in changes_of(journal):
        versions[change.client].append(change.version)
        known.add(change.identity)
        if shares[change.identity] != change.delta:
            made = shares[change.identity]
            yield f"L4 sum: {change.place} adds {change.delta} to {change.client}, its transactions {made}"
    for client, several in versions.items():
        if sorted(several) != list(range(1, len(several) + 1)):
            yield f"L4 versions: {client} has the versions {sorted(several)}"
    for record, body in bodies:
        if body["type"] != "usage" and not body.get("cdr") and _identity(record) not in known:
            yield f"L4 alone: {record.place} is of type {body['type']} and of no change"


def _identity(record: Rec) -> Identity:
    topic, partition, offset, index, *_ = msgspec.msgpack.decode(record.headers["e"])
    return partition, topic, offset, index


def once(bodies: list[tuple[Rec, Body]]) -> Iterator[str]:
    """I3: what is no usage is there once too: of an id, a revision and a type."""
    times = Counter(
        (body["client"], body["id"], body["revision"], body["type"])
        for _, body in bodies
        if body["type"] != "usage"
    )
    for name, count in times.items():
        if count > 1:
            yield f"I3 doubled: {name} has {count} transactions"


def fees(journal: list[Rec], bodies: list[tuple[Rec, Body]], told: list[Body]) -> Iterator[str]:
    """L1: net and taxes of a fee make up its amount; its period was opened, which is told once.

    What opens several periods at once, in the past, tells of one of them.
    """
    versions = {change.identity: (change.client, change.version) for change in changes_of(journal)}
    openings = {(*_version(one), one["client_package"]) for one in told if one["type"] in OPENINGS}
    held = {one["client_package"] for one in told if one["type"] in OPENINGS}
    opened = Counter((one["client_package"], one["period"]) for one in told if one["type"] in OPENINGS)
    for (name, number), count in opened.items():
        if count > 1:
            yield f"L1 opened: that period {number} of {name} was opened is told {count} times"
    for record, body in bodies:
        if body["type"] not in FEES:
            continue
        whole = Decimal(body["net"]) + sum(Decimal(tax["amount"]) for tax in body["taxes"])
        if whole != Decimal(body["amount"]):
            yield f"L1 amount: {record.place}: net and taxes are {whole}, the amount is {body['amount']}"
        name, version = body["client_package"], versions.get(_identity(record), ("", 0))
        with_it = name in held if body.get("cdr") else (*version, name) in openings
        if (name, body["period"]) not in opened and not with_it:
            yield f"L1 untold: {record.place}: nothing tells that its period was opened"


def given_back(bodies: list[tuple[Rec, Body]]) -> Iterator[str]:
    """L2: a refund gives back all of what it names, once; a reversal takes back what it reverses."""
    first = {
        (body["client"], body["id"]): micros(body["amount"])
        for _, body in bodies
        if body["type"] != "reversal"
    }
    again: Counter[tuple[str, str]] = Counter()
    for record, body in bodies:
        if body["type"] == "refund":
            names = [(body["client"], name) for name in body["of"]]
            again.update(names)
            whole = -sum(first.get(name, 0) for name in names)
            if micros(body["amount"]) != whole or not all(name in first for name in names):
                yield f"L2 refund: {record.place} gives back {body['amount']}, not {whole} micros"
        elif body["type"] == "reversal":
            was = first.get((body["client"], body["id"]))
            if was is None or micros(body["amount"]) != -was:
                yield f"L2 reversal: {record.place} takes back {body['amount']} of {was} micros"
    for (_, name), count in again.items():
        if count > 1:
            yield f"L2 twice: {name} is given back {count} times"


def told_of_changes(journal: list[Rec], told: list[Body]) -> Iterator[str]:
    """L3: what is told of a client's version was published: event and change go together."""
    versions = {(change.client, change.version) for change in changes_of(journal)}
    for event in told:
        version = _version(event)
        if version[1] and version not in versions:
            yield f"L3 alone: {event['id']} is told of a change that is not in the journal"


def _version(event: Body) -> tuple[str, int]:
    """Return the client and its version behind the change that an event tells of; 0: it tells of none."""
    client, begin = event.get("client") or "", event["id"].partition(f"/{event.get('type')}/")[0]
    version = begin.removeprefix(f"{client}/")
    return client, int(version) if client and version != begin and version.isdigit() else 0
