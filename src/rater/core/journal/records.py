"""What stands in the journal beside transactions: effects, changes of clients, how they are written.

The journal is the truth (PROTOCOL.md section 2): each transaction bears, as a header, what it did to the
store.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, msgpack

from rater.core.amounts import LIMIT

CHANGE_INDEX_MIN = 2
"""Index of the first change of a record; below are the two sides of a CDR.

Of a CDR 2 and 3 are changes that were due before orig and term, 4 and 5 what these woke, 6 and 7 the fees
that they brought; of a command 2 + the client's place in it (decisions/0060-one-change.md, 4).
"""
FEE_INDEX_MIN = 6
"""Index of the fee that orig brought (charge on event); the next is term's. Each is a part of its side."""
CDR_INDICES = range(8)
STEP_INDEX = 1000
"""Added to an index for each further step of one plan."""

EFFECT_HEADER = "e"
"""Of a transaction in the journal: what it did to the store, so that reconciling parses no JSON."""
CONTROL_HEADER = "control"
"""Of a record of ours in the journal, whose value is null."""
JOB_HEADER = "job"
"""Of a rejected record: the re-rating that has taken back what was published of the side."""

Headers = list[tuple[str, bytes]]
"""A list and nothing else: aiokafka's compiled batches take no other sequence."""
Outgoing = tuple[bytes | None, bytes | None, Headers]
"""A record to write: key, value, headers."""
Run = bytes
"""Records to write, as the native engine hands itself its own: no objects are made of them."""

Identity = tuple[str, int, int]
"""Topic, offset, index: one decision, wherever it is kept."""


_Sum = Annotated[int, Meta(ge=-LIMIT, le=LIMIT)]
"""A delta outside of ±2⁵³ in the journal was not written by rater, and is refused."""


_Field = Annotated[str, Meta(pattern=r"\.")]
"""Of a counter: beside it stand, in Redis, the client's version and balance, whose names have no dot."""


_Hour = Annotated[int, Meta(ge=0, le=LIMIT // 3_600_000)]
_Hint = Annotated[bytes, Meta(min_length=2)]


class Effect(Struct, array_like=True, gc=False):
    """What one transaction did to the store, and the record it came from (the journal's header `e`).

    Of a transaction of a change: its share of what the change did, which stands before it as a whole. Of a
    fee that a side brought: its own effect, beside that of the usage in the same Kafka transaction.
    """

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    index: Annotated[int, Meta(ge=0)]  # 0 orig, 1 term, 2 and more: `CHANGE_INDEX_MIN`
    record_ms: _Sum
    lane_ms: Annotated[int, Meta(ge=0, le=LIMIT)]
    key: Annotated[bytes, Meta(max_length=8)]  # digest of the duplicate key; none for what has no duplicates
    content: Annotated[bytes, Meta(max_length=4)]  # digest of the rating content
    client: str
    balance: _Sum  # micros added to the balance
    counters: list[tuple[_Field, _Sum]]  # counter field, what was added


class ChangeRecord(Struct, array_like=True, tag="change"):
    """A client's change as a whole: its new state (the highest version wins), what was added to its sums.

    Its transactions follow, each with an `Effect` of the same identity that is its share.
    """

    topic: str
    offset: Annotated[int, Meta(ge=0)]
    index: Annotated[int, Meta(ge=0)]
    record_ms: _Sum
    lane_ms: Annotated[int, Meta(ge=0, le=LIMIT)]
    client: str
    version: Annotated[int, Meta(ge=1, le=LIMIT)]
    state: bytes
    delta: _Sum  # micros added to the balance
    counters: list[tuple[_Field, _Sum]]  # counter field, what was added
    hints: list[tuple[_Hour, _Hint]] = []  # (hour since 1970, element), added to the due index
    members: list[str] = []  # packages to whose members the client was added
    history: list[tuple[_Field, bytes]] = []  # (CLIENT_PACKAGE.PERIOD, row)
    upon: list[tuple[Annotated[int, Meta(ge=0)], bytes]] = []
    """(lane, change as it is kept): what it goes on from, of other lanes, that was perhaps unpublished."""
    instead: list[int] = []
    """Versions that stand for nothing else any more: this was made under them, and lost (decision 0099)."""


class StateRecord(Struct, array_like=True, tag="state"):
    """Entries of the account index, by the command record that changed them; client "".

    Versions before 2026-12 wrote a client's new state so, and its effect with the transaction.
    """

    topic: str
    offset: int
    index: int
    client: str
    version: int
    state: bytes
    accounts: list[tuple[str, str]]  # (account, client), of the account index


_pack = msgpack.Encoder().encode


def effect_headers(effect: Effect) -> Headers:
    """Return the headers of a transaction."""
    return [(EFFECT_HEADER, _pack(effect))]


def state_record(state: StateRecord) -> Outgoing:
    """Return the journal's record of a state; its key is its client, as of a transaction."""
    return state.client.encode() or None, None, [(CONTROL_HEADER, _pack(state))]


def change_record(change: ChangeRecord) -> Outgoing:
    """Return the journal's record of a change; its key is its client, as of a transaction."""
    return change.client.encode(), None, [(CONTROL_HEADER, _pack(change))]
