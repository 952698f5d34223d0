"""Snapshots of clients: what the journal says of each up to a position in every lane's partition.

Source of the rules: PROTOCOL.md 3, rule 17. A snapshot is made of what a bucket holds, less what kept
outcomes did: so it tells of the journal below the bucket's floors alone, whoever has published what since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from msgspec import Struct, msgpack

from rater.core.bucket.messages import hint_of
from rater.core.bucket.restoring import ClientRow, ReadReply
from rater.core.clients.state import read_state
from rater.core.journal.outcomes import changes_of, entries_of, read_copy, unpack_kept
from rater.core.journal.reconciling import effects
from rater.core.journal.records import Outgoing

SNAPSHOT_HEADER = "snapshot"
"""Of a record of ours in the topic of snapshots; its value is the body, msgpack."""
RECORD_BYTES = 1_000_000
"""Bytes of a record, which any topic takes; a round with a larger one does not end, and its bucket is rebuilt
from the journal alone."""

Positions = tuple[int, ...]
"""By lane: the offset in its journal partition below which all is in a snapshot. Lanes that were added since
are not among them, for nothing of theirs is in it (`reach_of`)."""
Published = Mapping[int, Mapping[tuple[str, str], int]]
"""Lane → topic and its id → position that the lane is not behind."""


class ClientHead(Struct, array_like=True, frozen=True, tag="client"):
    """Of a client's snapshot; the body is a `ClientBody`."""

    bucket: int
    client: str
    positions: Positions


class RoundHead(Struct, array_like=True, frozen=True, tag="round"):
    """Of the end of a round: each client with something below these positions has a snapshot before it.

    clients: how many were written in it. at_ms: when it began, by the clock of who wrote it. buckets: how
    many the store had: it tells nothing of one with another number. No body.
    """

    bucket: int
    positions: Positions
    clients: int
    at_ms: int
    buckets: int

    def counts(self, lanes: int, buckets: int) -> bool:
        """Return whether it is of so many buckets, and of these lanes or those before some were added."""
        return len(self.positions) <= lanes and self.buckets == buckets

    @property
    def place(self) -> tuple[str | int, ...]:
        """What its key says."""
        return "round", self.bucket


class AccountsHead(Struct, array_like=True, frozen=True, tag="accounts"):
    """Of a part of a bucket's account index; the body is a list of (account, client)."""

    bucket: int
    shard: int

    @property
    def place(self) -> tuple[str | int, ...]:
        """What its key says."""
        return "accounts", self.bucket, self.shard


class PackagesHead(Struct, array_like=True, frozen=True, tag="packages"):
    """Of the packages that clients of a bucket were ever given; the body: (package, one of the clients)."""

    bucket: int

    @property
    def place(self) -> tuple[str | int, ...]:
        """What its key says."""
        return "packages", self.bucket


Head = ClientHead | RoundHead | AccountsHead | PackagesHead


class ClientBody(Struct, array_like=True, frozen=True):
    """What a client's snapshot says: sums are those of the journal below its positions, none of them 0."""

    version: int
    state: bytes
    balance: int
    counters: dict[str, int]
    history: list[tuple[str, int, bytes]]


def reach_of(positions: Positions, lane: int) -> int:
    """Return the offset in a lane's journal below which all is in a snapshot."""
    return positions[lane] if lane < len(positions) else 0


_encode = msgpack.Encoder().encode
_head = msgpack.Decoder(Head)
_body = msgpack.Decoder(ClientBody)
_pairs = msgpack.Decoder(list[tuple[str, str]])


def record_of(head: Head, body: object = None) -> Outgoing:
    """Return the record of a snapshot. Its key is what the latest record of counts."""
    key = head.client if isinstance(head, ClientHead) else "\x00" + "/".join(map(str, head.place))
    return key.encode(), _encode(body), [(SNAPSHOT_HEADER, _encode(head))]


def read_head(headers: Iterable[tuple[str, bytes]]) -> Head | None:
    """Return what a record is; None: none of ours. Raises msgspec.MsgspecError where it cannot be read."""
    for name, raw in headers:
        if name == SNAPSHOT_HEADER:
            head: Head = _head.decode(raw)
            return head
    return None


def read_client(head: ClientHead, value: bytes) -> ClientRow:
    """Return the client of a snapshot. Raises msgspec.MsgspecError, ValueError."""
    body = _body.decode(value)
    state = read_state(body.state)
    if (state.id, state.version) != (head.client, body.version):
        message = f"the snapshot of client {head.client!r} holds the state of {state.id!r}"
        raise ValueError(message)
    return ClientRow(head.client, *(getattr(body, name) for name in body.__struct_fields__))


def read_pairs(value: bytes) -> list[tuple[str, str]]:
    """Return the pairs of an index's snapshot. Raises msgspec.MsgspecError."""
    return _pairs.decode(value)


def unsettled_clients(read: ReadReply, published: Published) -> set[str]:
    """Return the clients of whom a change may not be in the journal: it is kept, or waits as a copy."""
    found = {change.client for _, context, _ in read.outcomes for change in changes_of(context)}
    for lane, raw in read.copies:
        copy = read_copy(raw)
        topic, offset, _ = copy.change.identity
        if offset >= published.get(lane, {}).get((topic, copy.topic_id), 0):
            found.add(copy.change.client)
    return found


def snapshots_of(read: ReadReply, bucket: int, published: Published) -> tuple[list[Outgoing], list[str]]:
    """Return the records of the clients that were read, and those clients that are to be read later."""
    wait = unsettled_clients(read, published)
    wanted = {row.client for row in read.clients} - wait
    balances: defaultdict[str, int] = defaultdict(int)
    counters: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for _, context, packed in read.outcomes:
        if not wanted.isdisjoint(entry.client for entry in entries_of(context)):
            for kept in unpack_kept(context, packed):
                did = effects(kept) if kept.client in wanted else None
                if did is not None:
                    balances[kept.client] += did.balance
                    for field, units in did.counters.items():
                        counters[kept.client][field] += units
    positions = tuple(read.floors)
    records = []
    for row in read.clients:
        if row.client in wanted:
            less = counters[row.client]
            sums = {
                field: row.counters.get(field, 0) - less.get(field, 0) for field in {*row.counters, *less}
            }
            body = ClientBody(
                row.version, row.state, row.balance - balances[row.client],
                {field: used for field, used in sorted(sums.items()) if used}, sorted(row.history),
            )  # fmt: skip
            records.append(record_of(ClientHead(bucket, row.client, positions), body))
    return records, sorted(row.client for row in read.clients if row.client in wait)


def index_of(row: ClientRow) -> tuple[list[tuple[str, str]], list[tuple[int, bytes]]]:
    """Return (package, client) and the due hint of a client: what its register says for the indexes."""
    state = read_state(row.state)
    packages = dict.fromkeys(held.package for held in state.packages)
    hints = [] if state.due_ms is None else [hint_of(state.due_ms, state.id)]
    return [(package, row.client) for package in packages], hints


class Digest:
    """What clients add up to, in whatever order they come: equal states of a store have an equal digest.

    Counters that are 0 count as absent, for a store that was rebuilt has none of those.
    """

    def __init__(self) -> None:
        """Of nothing."""
        self.clients = 0
        self._sum = 0

    def add(self, row: ClientRow) -> None:
        """Take one client."""
        self.clients += 1
        counters = sorted((field, used) for field, used in row.counters.items() if used)
        self._take([row.client, row.version, row.state, str(row.balance), counters, sorted(row.history)])

    def add_account(self, account: str, client: str) -> None:
        """Take one entry of the account index."""
        self._take([account, client])

    def _take(self, what: object) -> None:
        self._sum += int.from_bytes(blake2b(_encode(what), digest_size=16).digest(), "big")

    @property
    def text(self) -> str:
        """The digest, 32 hexadecimal digits."""
        return f"{self._sum % 2**128:032x}"


def largest(records: Sequence[Outgoing]) -> int:
    """Return the bytes of the largest record."""
    return max((len(value or b"") for _, value, _ in records), default=0)
