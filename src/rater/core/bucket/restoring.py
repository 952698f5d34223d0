"""Snapshots and the bucket: what is read of its clients, and how one that lost all is put in place again.

Pure; functions.lua does the same. Source of the rules: PROTOCOL.md 3, rule 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from rater.core.bucket.draft import Client
from rater.core.bucket.messages import Status

if TYPE_CHECKING:
    from rater.core.bucket.model import Bucket


class ClientRow(NamedTuple):
    """What a bucket holds of a client. counters: field → used; history: (field, version that put it, row)."""

    client: str
    version: int
    state: bytes
    balance: int
    counters: dict[str, int]
    history: list[tuple[str, int, bytes]]


class ReadReply(Struct):
    """Clients, and what of them may not be in the journal yet, as of one instant.

    CLOSED also while a lane is brought to the journal in parts.
    """

    status: Status
    floors: list[int] = []
    """By lane: the offset of its journal below which all is in the bucket."""
    outcomes: list[tuple[int, bytes, bytes]] = []
    """(lane, context, packed results) of all that is kept: this lies above the floors, or nowhere yet."""
    copies: list[tuple[int, bytes]] = []
    """(lane, change) that others went on from, published or not."""
    clients: list[ClientRow] = []
    """Those that are there, of those that were asked for."""


class Restore(Struct):
    """A part of what snapshots say of a bucket that lost all; it takes the place of what is there.

    Nothing in it: it is asked how far the bucket is.
    """

    lane: int
    token: int
    number: int
    clients: list[ClientRow] = []
    accounts: list[tuple[str, str]] = []
    members: list[tuple[str, str]] = []  # (package, client)
    hints: list[tuple[int, bytes]] = []  # (hour, element)
    floors: list[int] | None = None
    """By lane, with the last part: below these all is in it. Empty: there are no snapshots to go by, which is
    passed over where somebody has begun to."""
    upto: int = 0
    """With floors: the snapshots' offset up to which they were read."""


class RestoreReply(NamedTuple):
    """How far a bucket is, with floor and base of the asking lane.

    whole: offset up to which the snapshots were read that it was put in place by, 0: it was by none, None: it
    is not in place yet.
    """

    status: Status
    number: int
    whole: int | None = None
    floor: int = 0
    base: int = 0


class Rebuilt:
    """What a bucket notes of being put in place."""

    __slots__ = ("begun", "whole")

    def __init__(self) -> None:
        self.begun = False
        self.whole: int | None = None


MIXED = "a worker of an earlier version wrote to a bucket that is put in place from snapshots"


def read_clients(
    bucket: Bucket, lane: int, token: int, number: int, lanes: int, clients: list[str]
) -> ReadReply:
    """Return clients with all that is kept; changes nothing."""
    status = bucket.probe(lane, token, number)
    every = [bucket.lane(each) for each in range(lanes)]
    if status == Status.OK and any(each.base < each.floor for each in every):
        status = Status.CLOSED
    if status != Status.OK:
        return ReadReply(status)
    return ReadReply(
        status,
        [each.floor for each in every],
        [(of, *kept) for of, each in enumerate(every) for _, kept in sorted(each.outcomes.items())],
        [(of, copy) for of in range(lanes) for copy in bucket.copies[of].values()],
        [_row(bucket, client) for client in clients if client in bucket.states],
    )


def _row(bucket: Bucket, client: str) -> ClientRow:
    held = bucket.clients[client]
    history = [(field, version, row) for field, (version, row) in bucket.history[client].items()]
    return ClientRow(client, held.version or 0, bucket.states[client], held.balance, dict(held.used), history)


def restore(bucket: Bucket, what: Restore, lanes: int) -> RestoreReply:
    """Put a part in place, or tell how far the bucket is. Raises ValueError where others wrote meanwhile."""
    status = bucket.guard(what.lane, what.token, what.number)
    own = bucket.lane(what.lane)
    if status != Status.OK:
        return RestoreReply(status, own.number)
    noted = bucket.rebuilt
    if noted.whole is None and (bucket.open or any(bucket.lane(each).floor for each in range(lanes))):
        if noted.begun:
            raise ValueError(MIXED)
        return RestoreReply(status, own.number, 0, own.floor, own.base)
    if noted.whole is not None or not (
        what.clients or what.accounts or what.members or what.floors is not None
    ):
        return RestoreReply(status, own.number, noted.whole, own.floor, own.base)
    if what.floors == [] and noted.begun:  # who finds no snapshots comes too late to say so
        return RestoreReply(status, own.number, None, own.floor, 0)
    for row in what.clients:
        _put(bucket, row)
    bucket.accounts.update(what.accounts)
    for package, client in what.members:
        bucket.members[package].append(client)
    bucket.due_index.add(what.hints)
    noted.begun = what.floors is None
    if what.floors is not None:
        noted.whole = what.upto
        for each, floor in enumerate(what.floors):
            known = bucket.lanes.setdefault(each, type(own)())
            known.floor, known.base = floor, 0
    number = bucket.bump(what.lane)
    return RestoreReply(status, number, noted.whole, own.floor, own.base)


def _put(bucket: Bucket, row: ClientRow) -> None:
    held = bucket.clients[row.client] = Client()
    held.version, held.balance, held.used = row.version, row.balance, dict(row.counters)
    bucket.states[row.client] = row.state
    bucket.history[row.client] = {field: (version, text) for field, version, text in row.history}
