"""Clients with their balances, as Redis holds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import MsgspecError, Struct

from rater.core.catalog.specs import Tables, TermsSpec
from rater.core.clients.state import ClientState, read_state
from rater.core.reasons import shown
from rater.errors import Halt
from rater.store.buckets import Buckets


class ClientSummary(Struct, frozen=True, kw_only=True):
    """One client. Money in micros of its currency.

    accounts: their ids, sorted; rate_tables: side → service → table; client_packages: how many it has, those
    of the archive included; pending_charges: how many of them wait; version: grows with each change; catalog:
    the version that it is read with.
    """

    id: str
    name: str
    reseller: str | None
    currency: str
    balance: int
    credit_limit: int
    low_balance: int | None
    time_zone: str
    payment_terms: TermsSpec | None
    tax_profile: str | None
    accounts: list[str]
    rate_tables: Tables
    client_packages: int
    pending_charges: int
    version: int
    catalog: int


class NotThereError(LookupError):
    """There is no such thing. kind: "client", "account", "client package" …; id: what was asked for."""

    def __init__(self, kind: str, of_id: str) -> None:
        super().__init__(f"there is no {kind} {shown(of_id)}")
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
    return Held(state_of_raw(client_id, raw), counters, balance)


async def state_of(store: Buckets, client_id: str) -> Held:
    """Return what Redis holds of a client. Raises NotThereError, and Halt as `held_of`."""
    held = await held_of(store, client_id)
    if held is None:
        raise NotThereError("client", client_id)
    return held


async def every_state(
    store: Buckets, passed: Callable[[int], None] = lambda _: None, package: str | None = None
) -> AsyncIterator[ClientState]:
    """Yield the states of all clients, in no order; passed: told how many each step read.

    package: of those alone that have or had it. A million take some minutes at most. Raises Halt where one
    cannot be read.
    """
    some: list[str] = []
    async for client_id in store.scan_clients() if package is None else store.members(package):
        some.append(client_id)
        if len(some) == _AT_ONCE:
            async for state in _states(store, some):
                yield state
            passed(len(some))
            some.clear()
    async for state in _states(store, some):
        yield state


_AT_ONCE = 5000
"""Clients whose states are read at once: some MB."""


async def owner_of(store: Buckets, account: str) -> str:
    """Return the client that an account belongs to. Raises NotThereError where there is no such account."""
    client = (await store.accounts([account])).get(account)
    if not client:
        raise NotThereError("account", account)
    return client


async def states_of(store: Buckets, client_ids: Iterable[str]) -> dict[str, ClientState]:
    """Return the states of those clients that exist. Raises Halt where one cannot be read."""
    return {state.id: state async for state in _states(store, sorted(client_ids))}


async def _states(store: Buckets, client_ids: list[str]) -> AsyncIterator[ClientState]:
    for client_id, raw in (await store.states(client_ids)).items():
        yield state_of_raw(client_id, raw)


def state_of_raw(client_id: str, raw: bytes) -> ClientState:
    """Return a client's state. Raises Halt where it cannot be read."""
    try:
        return read_state(raw)
    except (MsgspecError, ValueError) as error:
        raise Halt(
            f"what Redis holds of client {client_id} cannot be read ({error}): nothing but rater may write "
            "keys of its prefix. Delete all keys of the prefix: they are rebuilt from Kafka"
        ) from error


def summary(held: Held) -> ClientSummary:
    """Return the client that Redis holds."""
    state = held.state
    return ClientSummary(
        id=state.id, name=state.name, reseller=state.reseller, currency=state.currency,
        balance=held.balance, credit_limit=state.credit_limit, low_balance=state.low_balance,
        time_zone=state.zone, payment_terms=state.terms, tax_profile=state.tax_profile,
        accounts=sorted(state.accounts), rate_tables=state.rate_tables, client_packages=len(state.packages),
        pending_charges=sum(of.life is not None and of.life.waiting is not None for of in state.packages),
        version=state.version, catalog=state.catalog,
    )  # fmt: skip
