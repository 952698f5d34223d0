"""A client as Redis keeps it: its settings, accounts and client packages."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from rater.core.catalog.specs import Tables, TermsSpec


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


_decode = msgspec.msgpack.Decoder(ClientState).decode
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def read_state(raw: bytes) -> ClientState:
    """Return the state in the bytes; msgspec.MsgspecError when there is none."""
    return _decode(raw)


def write_state(state: ClientState) -> bytes:
    """Return the state as bytes; equal states give equal bytes."""
    return _encode(state)
