"""Pending charges: what client packages wait for, and how much is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from rater.core.clients.state import ClientPackage, ClientState, id_order
from rater.queries.clients import every_state, held_of, state_of
from rater.store.buckets import Buckets


class PendingCharge(Struct, frozen=True, kw_only=True):
    """What one client package waits for. Micros of the client's currency, positive: to pay.

    id: CLIENT_PACKAGE/PERIOD, the period that it would open. missing: of the total, what balance and credit
    limit lack. reason: why it waits (`funds`, `package_disabled` …). retry_until_ms: it is archived then.
    """

    id: str
    client: str
    client_package: str
    package: str
    period: int
    kind: str
    reason: str
    activation: int
    subscription: int
    tax: int
    total: int
    missing: int
    currency: str
    since_ms: int
    retry_until_ms: int | None
    invoiced: bool


def pending_charge(state: ClientState, held: ClientPackage, balance: int) -> PendingCharge | None:
    """Return what a client package waits for, None: nothing. balance: of its client, in micros."""
    life = held.life
    if life is None or life.waiting is None or life.ended_ms is not None:
        return None
    waiting, period = life.waiting, life.numbered + 1
    return PendingCharge(
        id=f"{held.id}/{period}", client=state.id, client_package=held.id, package=held.package,
        period=period, kind=waiting.kind, reason=waiting.reason, activation=waiting.activation,
        subscription=waiting.subscription, tax=waiting.tax, total=waiting.total,
        missing=max(waiting.total - balance - state.credit_limit, 0), currency=state.currency,
        since_ms=waiting.since_ms, retry_until_ms=waiting.until_ms, invoiced=waiting.invoiced,
    )  # fmt: skip


def of_client(state: ClientState, balance: int) -> list[PendingCharge]:
    """Return the pending charges of a client, in the order in which they are tried but for priorities."""
    found = [pending_charge(state, held, balance) for held in state.packages]
    return sorted(
        (one for one in found if one is not None),
        key=lambda one: (one.since_ms, id_order(one.client_package)),
    )


async def pending_charges(store: Buckets, client: str | None = None) -> AsyncIterator[PendingCharge]:
    """Yield pending charges, those of a client one after the other; of all clients in no order.

    Raises NotThereError where there is no such client, Halt where what Redis holds cannot be read.
    """
    if client is not None:
        held = await state_of(store, client)
        for charge in of_client(held.state, held.balance):
            yield charge
        return
    async for state in every_state(store):
        if any(of.life is not None and of.life.waiting is not None for of in state.packages):
            found = await held_of(store, state.id)
            for charge in of_client(found.state, found.balance) if found is not None else ():
                yield charge
