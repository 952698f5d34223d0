"""Pages of the read model, their rows made whole by Redis, as the same lists without it show them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from rater.core.kinds import ClientPackageStatus
from rater.queries import catalog as catalog_queries
from rater.queries.client_packages import ClientPackageUse, Wanted, chosen, use_of
from rater.queries.clients import ClientSummary, Held, held_of, summary
from rater.queries.connections import Connections
from rater.queries.pending_charges import PendingCharge, of_client
from rater.readmodel.asked import (
    COUNT_MAX,
    ROWS_MAX,
    ClientPackages,
    Clients,
    Listed,
    Page,
    PendingCharges,
)
from rater.store.buckets import Buckets
from rater.stream import browsing, records

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


async def owner_of(model: ReadModel, client_package: str) -> str | None:
    """Return the client that has or had a client package, None: nobody. Raises as the list."""
    wanted = ClientPackages(client_package=client_package, statuses=frozenset(ClientPackageStatus))
    rows = (await model.client_packages(wanted, Page(rows=1))).rows
    return rows[0].client if rows else None


async def wanted_client_packages(
    at: Connections, model: ReadModel, wanted: Wanted, now_ms: int, *, skip: int = 0, rows: int = 0
) -> AsyncIterator[ClientPackageUse]:
    """Yield client packages by client, behind those that are skipped; rows: so many, 0: all.

    Raises NotThereError where there is no such client or account, and as `client_packages`.
    """
    await chosen(at.store, wanted)
    async for use in every(
        lambda page: client_packages(at, model, _asked(wanted), page, now_ms), skip=skip, rows=rows
    ):
        yield use


async def page_of(
    at: Connections, model: ReadModel, wanted: Wanted, now_ms: int, *, rows: int, page: int
) -> tuple[list[ClientPackageUse], int | None]:
    """Return a page of the client packages and how many there are, None: more than are counted.

    Raises as `wanted_client_packages`.
    """
    found = wanted_client_packages(at, model, wanted, now_ms, skip=(page - 1) * rows, rows=rows)
    total = (await model.client_packages(_asked(wanted), Page(rows=1))).total
    return [use async for use in found], total


def _asked(wanted: Wanted) -> ClientPackages:
    return ClientPackages(
        client=wanted.client, account=wanted.account, package=wanted.package,
        client_package=wanted.client_package, statuses=wanted.statuses,
    )  # fmt: skip


async def every(
    ask: Callable[[Page], Awaitable[Listed[T]]], *, skip: int = 0, rows: int = 0
) -> AsyncIterator[T]:
    """Yield the rows of a list page by page, behind those that are skipped; rows: so many, 0: all."""
    key, left = None, rows
    while True:
        passed = min(skip, COUNT_MAX)
        found = await ask(
            Page(rows=min(left or ROWS_MAX, ROWS_MAX) if passed == skip else 1, after=key, skip=passed)
        )
        key, skip = found.next, skip - passed
        if skip:
            skip -= 1
        else:
            for row in found.rows:
                yield row
            left -= len(found.rows)
        if key is None or (rows and left <= 0):
            return


async def behind_s(at: Connections, model: ReadModel) -> float:
    """Return how many seconds the rows are behind the topics: the age of the first record not in them.

    For who asks a read model that another process follows. Raises StreamDown.
    """
    read, topics, now_s = await model.positions(), at.topics, time.time()
    oldest_s = now_s
    for topic in (topics.transactions, topics.commands, topics.events, topics.rejected):
        for part, (first, end) in (await records.bounds(at.kafka, topic, topics.partitions)).items():
            upto = max(read.get((topic, part), 0), first)
            if upto < end:
                oldest_s = min(oldest_s, await records.first_ms(at.kafka, topic, part, upto, end) / 1000)
    return max(now_s - oldest_s, 0.0)


async def text(at: Connections, topic: str, partition: int, offset: int) -> browsing.Seen | None:
    """Return the record that a row is of; None: it is not there any more. Raises Halt, StreamDown."""
    return await browsing.record_at(at.kafka, topic, partition, offset)


async def _held(store: Buckets, clients_of: Iterable[str]) -> dict[str, Held]:
    names = list(dict.fromkeys(clients_of))
    found = await asyncio.gather(*(held_of(store, name) for name in names))
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def _with(found: Listed[T], rows: list[U]) -> Listed[U]:
    return Listed(rows=rows, next=found.next, previous=found.previous, total=found.total)
