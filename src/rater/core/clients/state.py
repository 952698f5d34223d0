"""A client as Redis keeps it: its settings, accounts and client packages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

import msgspec
from msgspec import Struct

from rater.core.catalog.specs import Tables, TermsSpec


class Charged(Struct, array_like=True, frozen=True, gc=False):
    """A fee as it was charged: signed micros of the client's currency, taxes as (name, percent, micros).

    type: of its transaction. net and taxes add up to amount.
    """

    type: str
    net: int
    taxes: tuple[tuple[str, str, int], ...]
    amount: int


class HeldPeriod(Struct, array_like=True, frozen=True, gc=False):
    """A period that was opened: [start, stop), None: without end. What ends it earlier is not in it.

    by_ms: the package's version that was in force then is the period's. count: activations of the client
    package until this one, for discounts. share: (seconds of it, seconds of a whole one), None: a whole one.
    charged: what was charged when it opened. moved, rolled: by limit, what left it for the next period, and
    what came from the one before (counting units). taxes: (name, percent) of a fee that its first call
    brings. voided: nothing draws from it any more. refunded: what was charged was given back. told: that
    volume of it expires was told, or none did. fee_revision: of the fee
    that a call has brought, or of the next one.
    """

    number: int
    start_ms: int
    stop_ms: int | None
    by_ms: int
    count: int
    share: tuple[int, int] | None = None
    charged: tuple[Charged, ...] = ()
    moved: dict[str, int] = {}
    rolled: dict[str, int] | None = None
    taxes: tuple[tuple[str, str], ...] = ()
    voided: bool = False
    refunded: bool = False
    told: bool = False
    fee_revision: int = 1


class Waiting(Struct, array_like=True, frozen=True, gc=False):
    """A pending charge: micros of the client's currency, above 0 to be paid.

    kind: activation or renewal. reason: funds, package_disabled, currency_unknown or amount_out_of_range.
    until_ms: when it is given up, None: never. status_ms: since when the package had the status that it had
    when it was tried last. steady: the amount is the same at other moments by the same catalog.
    """

    kind: str
    reason: str
    since_ms: int
    until_ms: int | None = None
    activation: int = 0
    subscription: int = 0
    tax: int = 0
    total: int = 0
    invoiced: bool = False
    status_ms: int = 0
    steady: bool = True


class Counted(Struct, array_like=True, frozen=True, gc=False):
    """What the boundaries of later periods are counted from: boundary n is n spans after a local time.

    at_ms, local: of boundary 0 (`periods.Anchor`). place: the boundary at which the last period stops;
    stride: boundaries from one stop to the next. terms: those that it is aligned to.
    """

    at_ms: int
    local: str
    span: str | None
    zone: str
    place: int
    stride: int = 1
    terms: TermsSpec | None = None


class HeldDid(Struct, array_like=True, frozen=True, gc=False):
    """A DID that an account holds by a client package; on hold until an instant, None: in use."""

    number: str
    account: str
    hold_until_ms: int | None = None


class Life(Struct, array_like=True, frozen=True, gc=False):
    """What became of a client package.

    version grows with each change of it. numbered: the number given to a period last; count: activations.
    periods: oldest first, those that a call may still fall into; what is older is history. ended_ms: since
    when it is in the archive; ended: why. last: no further renewal. counted: from where later periods are;
    uncounted: the same before the last one was opened, which may be taken back. first_ms: start of the first.
    dids: in the order in which they were assigned. dates_ms: since when its own end date is what it is, or
    the period that was to follow taken back: what follows from that is due then at the earliest.
    """

    version: int = 1
    numbered: int = 0
    count: int = 0
    periods: tuple[HeldPeriod, ...] = ()
    waiting: Waiting | None = None
    ended_ms: int | None = None
    ended: str = ""
    last: bool = False
    counted: Counted | None = None
    first_ms: int | None = None
    uncounted: Counted | None = None
    dids: tuple[HeldDid, ...] = ()
    dates_ms: int = 0


class ClientPackage(Struct, array_like=True, gc=False):
    """A package that a client has.

    assigned_ms: the `at` of the load that assigned it. start_ms: start of the first period, decided when it
    was assigned; what periods are counted from is `first_anchor`. end_ms: its own end date; that of the
    package comes on top (`lifecycle.end_of`). start_date and end_date are as the load said them. life: None
    in what a version before 2026-12 wrote: it is taken over when it is met (`earlier`).
    """

    id: str
    package: str
    account: str | None
    quantity: int
    assigned_ms: int
    start_ms: int
    end_ms: int | None
    start_date: str | None = None
    end_date: str | None = None
    activate_in_past: bool = False
    life: Life | None = None


class Rerating(Struct, array_like=True, frozen=True, gc=False):
    """The job that rates calls of a client again: its id, since when, and the calls of [from_ms, to_ms)."""

    job: str
    since_ms: int
    from_ms: int
    to_ms: int


class ClientState(Struct, array_like=True, gc=False):
    """A client as Redis keeps it, msgpack. Money in micros of its currency.

    version grows with each change; catalog is the version of the catalog that it needs to be read with.
    zones: earlier and present zones by the instant since which each holds (the first from the beginning);
    empty while there was only one. changed_ms: the instant of the last change. due_ms: when something was due
    next as of that change, None: never; the index of due work has it; calls_ms: the same of what a call does
    before it. numbered: the number given last to a
    client package that a command assigned; removed: ids that are not given again. rerating: the job that
    rates its calls again, which no other may do meanwhile; rerated: pieces that jobs have
    had published.
    """

    id: str
    version: int
    catalog: int
    name: str
    reseller: str | None
    currency: str
    zone: str
    credit_limit: int
    low_balance: int | None
    terms: TermsSpec | None
    tax_profile: str | None
    rate_tables: Tables
    accounts: dict[str, Tables]
    packages: list[ClientPackage]
    opening: int
    zones: tuple[tuple[int, str], ...] = ()
    changed_ms: int = 0
    due_ms: int | None = None
    calls_ms: int | None = None
    numbered: int = 0
    removed: tuple[str, ...] = ()
    rerating: Rerating | None = None
    rerated: int = 0


def zone_name(state: ClientState, at_ms: int) -> str:
    """Return the time zone that the client had at an instant."""
    zones = state.zones
    return zones[bisect_right(zones, at_ms, 1, key=itemgetter(0)) - 1][1] if zones else state.zone


def id_order(name: str) -> tuple[int, int, str]:
    """Return what ids are sorted by: ids that are numbers as numbers and first, the others as text."""
    digits = len(name)
    # A number of 4,300 digits or more is refused by int(), and is no id that anybody meant as a number.
    return (0, int(name), name) if name.isascii() and name.isdigit() and digits <= 64 else (1, 0, name)  # noqa: PLR2004


_decode = msgspec.msgpack.Decoder(ClientState).decode
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def read_state(raw: bytes) -> ClientState:
    """Return the state in the bytes; msgspec.MsgspecError when there is none."""
    return _decode(raw)


def write_state(state: ClientState) -> bytes:
    """Return the state as bytes; equal states give equal bytes."""
    return _encode(state)


def client_package_name(client_package: str) -> str:
    """Return the name by which the account index finds the client of a client package.

    No account has it: their ids have no control characters.
    """
    return f"\x00{client_package}"


def did_name(number: str) -> str:
    """Return the name by which the account index finds the client that holds a DID."""
    return f"\x01{number}"


def dids_of(state: ClientState) -> Iterator[tuple[ClientPackage, HeldDid]]:
    """Yield the DIDs of a client, each with the client package that gives it."""
    for held in state.packages:
        for did in held.life.dids if held.life is not None else ():
            yield held, did


def did_of(state: ClientState, number: str) -> tuple[ClientPackage, HeldDid] | None:
    """Return a DID of the client with the client package that gives it; None: it holds none such."""
    return next((found for found in dids_of(state) if found[1].number == number), None)
