"""What stands in the journal beside transactions: effects, states of clients, how they are written.

The journal is the truth (PROTOCOL.md section 2): each transaction bears, as a header, what it did to the
store.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, msgpack

from rater.core.amounts import LIMIT

COMMAND_INDEX_MIN = 2
"""Index of the first item of a command; below are the two sides of a CDR."""

EFFECT_HEADER = "e"
"""Of a transaction in the journal: what it did to the store, so that reconciling parses no JSON."""
CONTROL_HEADER = "control"
"""Of a record of ours in the journal, whose value is null."""

Headers = list[tuple[str, bytes]]
"""A list and nothing else: aiokafka's compiled batches take no other sequence."""
Outgoing = tuple[bytes | None, bytes | None, Headers]
"""A record to write: key, value, headers."""

Identity = tuple[str, int, int]
"""Topic, offset, index: one decision, wherever it is kept."""


_Sum = Annotated[int, Meta(ge=-LIMIT, le=LIMIT)]
"""What nobody of us wrote is not added to anybody's sums."""


class Effect(Struct, array_like=True):
    """What one transaction did to the store, and the record it came from (the journal's header `e`)."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    index: Annotated[int, Meta(ge=0)]  # 0 orig, 1 term, 2 and more: item of a command
    record_ms: _Sum
    lane_ms: Annotated[int, Meta(ge=0, le=LIMIT)]
    key: Annotated[bytes, Meta(max_length=8)]  # digest of the duplicate key; none for what has no duplicates
    content: Annotated[bytes, Meta(max_length=4)]  # digest of the rating content
    client: str
    balance: _Sum  # micros added to the balance
    counters: list[tuple[str, _Sum]]  # counter field, what was added


class State(Struct, array_like=True, tag="state"):
    """A client's new register, by the command record that changed it; the highest version wins.

    client "": only entries of the account index.
    """

    topic: str
    offset: int
    index: int
    client: str
    version: int
    register: bytes
    accounts: list[tuple[str, str]]  # (account, client), of the account index


_pack = msgpack.Encoder().encode


def effect_headers(effect: Effect) -> Headers:
    """Return the headers of a transaction."""
    return [(EFFECT_HEADER, _pack(effect))]


def state_record(state: State) -> Outgoing:
    """Return the journal's record of a state; its key is its client, as of a transaction."""
    return state.client.encode() or None, None, [(CONTROL_HEADER, _pack(state))]


class ApplyContext(Struct, array_like=True, tag="apply"):
    """What an apply is published with."""

    version: int  # of the register
    register: bytes
    delta: int  # micros added to the balance
    transaction: bytes | None  # JSON of the opening adjustment
