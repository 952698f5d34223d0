"""Clients with their balances, as Redis holds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from msgspec import MsgspecError, Struct

from rater.core.catalog.specs import Tables
from rater.core.clients.state import ClientState, read_state
from rater.errors import Halt
from rater.store.buckets import Buckets


class ClientSummary(Struct, frozen=True, kw_only=True):
    """One client. Money in micros of its currency.

    accounts: their ids, sorted; rate_tables: side → service → table; client_packages: how many it has, those
    of the archive included; version: grows with each change; catalog: the version that it is read with.
    """

    id: str
    name: str
    reseller: str | None
    currency: str
    balance: int
    credit_limit: int
    low_balance: int | None
    time_zone: str
    accounts: list[str]
    rate_tables: Tables
    client_packages: int
    version: int
    catalog: int


class NotThereError(LookupError):
    """There is no such thing. kind: "client" or "account"; id: what was asked for."""

    def __init__(self, kind: str, of_id: str) -> None:
        super().__init__(f"there is no {kind} {of_id}")
        self.kind = kind
        self.id = of_id


class Held(NamedTuple):
    """What Redis holds of a client. counters: field → used; balance in micros."""

    state: ClientState
    counters: Mapping[str, int]
    balance: int


async def clients(
    store: Buckets, *, reseller: str | None = None, limit: int = 0
) -> AsyncIterator[ClientSummary]:
    """Yield clients in no order, of one reseller or all, at most `limit` (0: all).

    Raises Halt where what Redis holds of one cannot be read.
    """
    count = 0
    async for client_id in store.scan_clients():
        held = await held_of(store, client_id)
        if held is None or reseller not in (None, held.state.reseller):
            continue
        yield summary(held)
        count += 1
        if count == limit:
            return


async def held_of(store: Buckets, client_id: str) -> Held | None:
    """Return what Redis holds of a client; None: there is no such client. Raises Halt where it is garbled."""
    found = await store.client(client_id)
    if found is None:
        return None
    raw, balance, counters = found
    try:
        state = read_state(raw)
    except (MsgspecError, ValueError) as error:
        raise Halt(
            f"what Redis holds of client {client_id} cannot be read ({error}): nothing but rater may write "
            "keys of its prefix. Delete all keys of the prefix: they are rebuilt from Kafka"
        ) from error
    return Held(state, counters, balance)


def summary(held: Held) -> ClientSummary:
    """Return the client that Redis holds."""
    state = held.state
    return ClientSummary(
        id=state.id, name=state.name, reseller=state.reseller, currency=state.currency,
        balance=held.balance, credit_limit=state.credit_limit, low_balance=state.low_balance,
        time_zone=state.zone, accounts=sorted(state.accounts), rate_tables=state.rate_tables,
        client_packages=len(state.packages), version=state.version, catalog=state.catalog,
    )  # fmt: skip
