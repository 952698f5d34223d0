"""Calls as the journal has them: the last that was published of each side, and what it drew.

Source of the rules: RULES.md section 5; CONTRACTS.md, Transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from struct import Struct as Layout
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import parse_micros
from rater.core.catalog.offers import ROLLED, counter_field
from rater.core.cdr import CALLS, SIDES, Cdr, GivenRate, Party
from rater.core.clients.fees import fee_fields
from rater.core.instants import milliseconds
from rater.core.kinds import TransactionType
from rater.core.reasons import Side

Takes = list[tuple[str, int]]
"""(counter field, what was added to it)."""
Place = tuple[str, int, int]
"""Topic, partition and offset of the record that a call came in with."""
NOWHERE: Place = ("", 0, 0)
TOGETHER = 500
"""Calls that are rated by one request, whose counters are judged together."""


class Sent(NamedTuple):
    """A record of a source as it came. columns: its header row, of CSV."""

    topic: str
    value: bytes
    columns: bytes | None = None


class Draw(Struct, frozen=True):
    """A draw as its transaction tells it."""

    client_package: str
    limit: str
    kind: str
    period: int
    taken: str
    tag: str | None = None
    covered: str | None = None
    rolled: bool = False

    def take(self) -> tuple[str, int]:
        """Return the counter's field and what was taken."""
        field = counter_field(self.client_package, self.period, self.limit)
        taken = parse_micros(self.taken) if self.kind == "money" else int(self.taken)
        return field + (ROLLED if self.rolled else ""), taken


class RateSaid(Struct, frozen=True):
    """A rate as a transaction tells it; table None: the CDR brought it."""

    table: str | None
    currency: str
    price: str
    setup_fee: str
    min_time: int
    interval: int
    grace_time: int


class CdrName(Struct, frozen=True):
    """Which CDR a transaction is of."""

    source: str
    id: str


class Told(Struct):
    """A transaction of a side, of its reversal, or of a fee that a call brought, as it was published."""

    id: str
    revision: int
    type: str
    client: str
    amount: str
    at: str
    cdr: CdrName | None = None
    side: Side | None = None
    account: str | None = None
    service: str = CALLS
    why: str | None = None
    caller: str | None = None
    called: str = ""
    duration_ms: int | None = None
    volume: int | None = None
    code: str | None = None
    code_name: str | None = None
    rate: RateSaid | None = None
    billed: int = 0
    draws: list[Draw] = []
    balance_sufficient: bool | None = None
    fee_covered: bool | None = None
    client_package: str | None = None
    period: int | None = None
    net: str | None = None
    job: str | None = None

    @property
    def micros(self) -> int:
        """The signed amount, micros."""
        return parse_micros(self.amount)

    @property
    def at_ms(self) -> int:
        """The call's time."""
        return milliseconds(datetime.fromisoformat(self.at))

    def takes(self) -> Takes:
        """Return what it added to counters."""
        if self.client_package is not None:
            fields = fee_fields(self.client_package, self.period or 0)
            charged = -1 if self.type == TransactionType.REVERSAL else 1
            return list(zip(fields, (charged, parse_micros(self.net or "0"), self.micros), strict=True))
        return [draw.take() for draw in self.draws]


class PastSide(Struct, array_like=True, tag="side"):
    """A side of a call, and what is published of it.

    The call is what its transaction told, or, of one that was never rated, its CDR. value: the last usage
    transaction, b"" for none; revision: of that one, 0 for none. stands: it was not reversed. place: where
    its record lies; sent: the record itself, of one that was rejected.
    """

    client: str
    account: str | None
    side: int
    source: str
    id: str
    service: str
    at_ms: int
    amount: int
    unanswered: bool
    caller: str | None
    called: str
    given: GivenRate | None = None
    value: bytes = b""
    revision: int = 0
    stands: bool = False
    place: Place = NOWHERE
    sent: Sent | None = None

    @property
    def name(self) -> str:
        """The id of its transaction."""
        return f"{self.source}/{self.id}/{SIDES[self.side]}"

    def told(self) -> Told | None:
        """Return the transaction that stands; None: there is none."""
        return _told.decode(self.value) if self.stands else None

    def last_told(self) -> Told | None:
        """Return the last usage transaction, whether it stands or not."""
        return _told.decode(self.value) if self.value else None

    def cdr(self) -> Cdr:
        """Return the CDR as far as rating goes by it."""
        party = Party(self.client, self.account, rate=self.given)
        used = self.amount > 0
        answered = None if self.unanswered and not used else self.at_ms
        return Cdr(
            self.source, self.id, self.service, None if answered is not None else self.at_ms, answered, None,
            self.at_ms, self.amount if self.service == CALLS else None,
            None if self.service == CALLS else self.amount, used, self.caller, self.called,
            None if self.side else party, party if self.side else None,
        )  # fmt: skip


_told = msgspec.json.Decoder(Told)


def read_told(value: bytes) -> Told:
    """Return what a transaction tells. Raises msgspec.MsgspecError, ValueError."""
    return _told.decode(value)


def is_of_call(told: Told) -> bool:
    """Return whether a transaction is of a call: its usage, a reversal of that, or a fee that it brought."""
    if told.cdr is None:
        return False
    usage = told.type == TransactionType.USAGE
    return usage or told.type in {TransactionType.REVERSAL, TransactionType.SUBSCRIPTION_FEE}


def call_of(told: Told, value: bytes, place: Place) -> PastSide:
    """Return the call of a usage transaction."""
    assert told.cdr is not None  # noqa: S101 - `is_of_call`
    amount = told.duration_ms if told.service == CALLS else told.volume
    given = None
    if told.rate is not None and told.rate.table is None and told.code is not None:
        rate = told.rate
        given = GivenRate(
            told.code, rate.price, rate.currency, told.code_name, rate.setup_fee, rate.min_time,
            rate.interval, rate.grace_time,
        )  # fmt: skip
    return PastSide(
        told.client, told.account, SIDES.index(told.side or "orig"), told.cdr.source, told.cdr.id,
        told.service, told.at_ms, amount or 0, told.why == "unanswered", told.caller, told.called, given,
        value, told.revision, stands=True, place=place,
    )  # fmt: skip


def unrated(
    cdr: Cdr, side: int, client: str, account: str | None, place: Place, sent: Sent | None = None
) -> PastSide:
    """Return the call of a side that was rejected."""
    party = cdr.term if side else cdr.orig
    amount = cdr.duration_ms if cdr.service == CALLS else cdr.volume
    return PastSide(
        client, account, side, cdr.source, cdr.id, cdr.service, cdr.at_ms, amount or 0,
        cdr.answered_ms is None, cdr.caller, cdr.called, None if party is None else party.rate,
        place=place, sent=sent,
    )  # fmt: skip


class Fee(Struct, array_like=True, tag="fee"):
    """The fee of a period that a call brought, as it was published last; stands: it was not reversed."""

    client: str
    id: str
    value: bytes
    revision: int
    stands: bool = True

    def told(self) -> Told:
        """Return its transaction."""
        return _told.decode(self.value)


def pack(one: PastSide | Fee) -> bytes:
    """Return a call or a fee as it is kept while it waits for its turn."""
    return _encode(one)


def unpack(raw: bytes) -> PastSide | Fee:
    """Return what was packed."""
    return _kept.decode(raw)


def together(calls: Iterable[bytes]) -> Iterator[bytes]:
    """Yield packed calls TOGETHER at a time, the last fewer, each with its length ahead."""
    rest = iter(calls)
    while some := list(islice(rest, TOGETHER)):
        yield b"".join([part for raw in some for part in (_length.pack(len(raw)), raw)])


def apart(part: bytes) -> Iterator[bytes]:
    """Yield the calls of a part that `together` has made, or the native engine."""
    at = 0
    while at < len(part):
        (size,) = _length.unpack_from(part, at)
        at += _length.size + size
        yield part[at - size : at]


_length = Layout("<I")
_encode = msgspec.msgpack.Encoder().encode
_kept: msgspec.msgpack.Decoder[PastSide | Fee] = msgspec.msgpack.Decoder(PastSide | Fee)
