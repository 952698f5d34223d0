"""A client as Redis keeps it: its settings, accounts and client packages."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from rater.core.catalog.specs import Tables, TermsSpec


class Charged(Struct, array_like=True, gc=False):
    """A fee that was charged for a period; signed micros of the client's currency, as published."""

    type: str
    net: int
    taxes: list[tuple[str, str, int]]
    amount: int


class HeldPeriod(Struct, array_like=True, gc=False):
    """A period that was opened. stop_ms: as scheduled, None: never; by_ms: which version of the package."""

    number: int
    start_ms: int
    stop_ms: int | None
    by_ms: int
    count: int
    share: tuple[int, int] | None = None
    fees: list[Charged] = []
    moved: dict[str, int] = {}
    rolled: dict[str, int] = {}
    voided: bool = False


class Waiting(Struct, array_like=True, gc=False):
    """What waits for funds. Micros of the client's currency, positive: to pay."""

    kind: str
    since_ms: int
    until_ms: int | None
    reason: str
    activation: int
    subscription: int
    tax: int
    total: int
    invoiced: bool = False


class Life(Struct, array_like=True, gc=False):
    """Where a client package stands."""

    version: int = 1
    numbered: int = 0
    count: int = 0
    periods: list[HeldPeriod] = []
    waiting: Waiting | None = None
    ended_ms: int | None = None
    ended: str = ""
    last: bool = False


class ClientPackage(Struct, array_like=True, gc=False):
    """A package that a client has.

    assigned_ms: the `at` of the load that assigned it. start_ms: start of the first period, decided when it
    was assigned; what periods are counted from is `first_anchor`. end_ms: its own end date; that of the
    package comes on top (`ClientView.around`). start_date and end_date are as the load said them.
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


class ClientState(Struct, array_like=True, gc=False):
    """A client as Redis keeps it, msgpack. Money in micros of its currency.

    version grows with each change; catalog is the version of the catalog that it needs to be read with.
    zones: earlier and present zones by the instant since which each holds (the first from the beginning);
    empty while there was only one.
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
    due_ms: int | None = None
    removed: list[str] = []
    numbered: int = 0
    low: bool = False


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
