"""Pages of the read model, their rows made whole by Redis, as the same lists without it show them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from rater.queries import catalog as catalog_queries
from rater.queries.client_packages import ClientPackageUse, use_of
from rater.queries.clients import ClientSummary, Held, held_of, summary
from rater.queries.connections import Connections
from rater.queries.pending_charges import PendingCharge, of_client
from rater.readmodel.asked import ClientPackages, Clients, Listed, Page, PendingCharges
from rater.store.buckets import Buckets
from rater.stream import browsing

if TYPE_CHECKING:
    from rater.readmodel.asking import ReadModel

T = TypeVar("T")
U = TypeVar("U")


async def client_packages(
    at: Connections, model: ReadModel, asked: ClientPackages, page: Page, now_ms: int
) -> Listed[ClientPackageUse]:
    """Return client packages as they are now, with what is left of their limits.

    What was removed since the rows were written is left out. Raises as `ReadModel.client_packages`, and Halt.
    """
    found = await model.client_packages(asked, page)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    held = await _held(at.store, (row.client for row in found.rows))
    uses = []
    for row in found.rows:
        owner = held.get(row.client)
        own = next((of for of in owner.state.packages if of.id == row.id), None) if owner else None
        if owner is not None and own is not None:
            uses.append(use_of(owner, own, catalog, now_ms))
    return _with(found, uses)


async def clients(
    at: Connections, model: ReadModel, asked: Clients, page: Page
) -> Listed[ClientSummary]:  # fmt: skip
    """Return clients with their balances. Raises as `client_packages`."""
    found = await model.clients(asked, page)
    held = await _held(at.store, (row.id for row in found.rows))
    return _with(found, [summary(held[row.id]) for row in found.rows if row.id in held])


async def pending_charges(
    at: Connections, model: ReadModel, asked: PendingCharges, page: Page
) -> Listed[PendingCharge]:  # fmt: skip
    """Return pending charges, with what is missing now. Raises as `client_packages`."""
    found = await model.pending_charges(asked, page)
    held = await _held(at.store, (row.client for row in found.rows))
    charges = {
        (of.client, of.client_package): of
        for one in held.values()
        for of in of_client(one.state, one.balance)
    }
    keys = [(row.client, row.client_package) for row in found.rows]
    return _with(found, [charges[key] for key in keys if key in charges])


async def text(at: Connections, topic: str, partition: int, offset: int) -> browsing.Seen | None:
    """Return the record that a row is of; None: it is not there any more. Raises Halt, StreamDown."""
    return await browsing.record_at(at.kafka, topic, partition, offset)


async def _held(store: Buckets, clients_of: Iterable[str]) -> dict[str, Held]:
    names = list(dict.fromkeys(clients_of))
    found = await asyncio.gather(*(held_of(store, name) for name in names))
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def _with(found: Listed[T], rows: list[U]) -> Listed[U]:
    return Listed(rows=rows, next=found.next, previous=found.previous, total=found.total)
