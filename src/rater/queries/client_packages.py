"""Client packages: where each stands, and what is left of its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import NamedTuple

from msgspec import Struct

from rater.core.catalog.compiled import Catalog
from rater.core.clients.fees import fee_fields
from rater.core.clients.periods import Period
from rater.core.clients.standing import standing
from rater.core.clients.state import ClientPackage, ClientState, HeldDid, client_package_name, id_order
from rater.core.kinds import ClientPackageState, ClientPackageStatus, TransactionType
from rater.core.reasons import shown
from rater.queries import catalog as catalog_queries
from rater.queries.clients import (
    ClientSummary,
    Held,
    NotThereError,
    every_state,
    held_of,
    owner_of,
    state_of,
    summary,
)
from rater.queries.connections import Connections
from rater.queries.limits import LimitUse, limits_of
from rater.queries.pending_charges import PendingCharge, pending_charge
from rater.store.buckets import Buckets


class ClientPackageUse(Struct, frozen=True, kw_only=True):
    """A client package now.

    account: None: all of the client's. package_name and package_status (None: the catalog has no such
    package) are the package's own. period: number of the present one, None where there is none; its limits
    and bounds are there only with it. start_ms, end_ms: of the client package. Instants are milliseconds UTC,
    None: no end. renewal_ms: when it is due to renew. pending: what it waits for. version: grows with each
    change of it, for `expect_version`; 0 of one that a version before left. activations: opened periods
    that were not withdrawn. charged: whether the present period's fee was.
    """

    id: str
    client: str
    account: str | None
    package: str
    package_name: str | None
    package_status: str | None
    status: ClientPackageStatus
    state: ClientPackageState
    quantity: int
    version: int
    period: int | None
    period_start_ms: int | None
    period_stop_ms: int | None
    start_ms: int
    end_ms: int | None
    renewal_ms: int | None
    pending: PendingCharge | None
    activations: int
    charged: bool
    charge_on_event: bool
    aligned: bool
    full_charge: bool
    dids: tuple[HeldDid, ...]
    limits: list[LimitUse]


PRESENT = frozenset({ClientPackageStatus.PENDING, ClientPackageStatus.ACTIVE})
"""Those that lists show unless asked otherwise (RULES.md section 6)."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which client packages are asked for; None: whichever. account: those that it may use."""

    client: str | None = None
    account: str | None = None
    package: str | None = None
    client_package: str | None = None
    statuses: Collection[ClientPackageStatus] = frozenset(ClientPackageStatus)

    def may_have(self, held: ClientPackage) -> bool:
        """Return whether a client package of the right client is one of those, but for its status."""
        return (
            self.package in (None, held.package)
            and self.client_package in (None, held.id)
            and (self.account is None or held.account in (None, self.account))
        )


class Page(NamedTuple):
    """Some of the client packages that are asked for, and how many there are in all."""

    rows: list[ClientPackageUse]
    total: int


Passed = Callable[[int], None]


async def client_packages(
    at: Connections, wanted: Wanted, now_ms: int, passed: Passed = lambda _: None
) -> AsyncIterator[ClientPackageUse]:
    """Yield client packages, those of a client one after the other, as they are found.

    passed: told how many clients each step read. Raises NotThereError where there is no such client or
    account, Halt where what is read is garbled.
    """
    client_id = await chosen(at.store, wanted)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    async for state in _states(at.store, client_id, passed, wanted.package):
        if any(_is_wanted(state, held, wanted, catalog, now_ms) for held in state.packages):
            found = await held_of(at.store, state.id)
            for use in uses(found, catalog, now_ms, wanted) if found is not None else ():
                yield use


async def page_of(
    at: Connections, wanted: Wanted, now_ms: int, *, rows: int, page: int, passed: Passed = lambda _: None
) -> Page:
    """Return a page of the client packages, which begin with 1, by client and then in the client's order.

    Raises as `client_packages`.
    """
    client_id = await chosen(at.store, wanted)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    total, last = 0, page * rows
    first: list[tuple[tuple[int, int, str], int, str]] = []
    async for state in _states(at.store, client_id, passed, wanted.package):
        for place, held in enumerate(state.packages):
            if _is_wanted(state, held, wanted, catalog, now_ms):
                total += 1
                first.append((id_order(state.id), place, held.id))
        if len(first) >= 2 * last + _SPARE:
            first.sort()
            del first[last:]
    shown = sorted(first)[last - rows : last]
    out: list[ClientPackageUse] = []
    for client in dict.fromkeys(order[2] for order, _, _ in shown):
        found, ids = await held_of(at.store, client), {of for order, _, of in shown if order[2] == client}
        if found is not None:
            out += [use for use in uses(found, catalog, now_ms, wanted) if use.id in ids]
    return Page(out, total)


_SPARE = 10_000
"""Rows beyond those of the page that are kept before they are sorted."""


def _is_wanted(
    state: ClientState, held: ClientPackage, wanted: Wanted, catalog: Catalog | None, now_ms: int
) -> bool:
    if not wanted.may_have(held):
        return False
    if len(wanted.statuses) == len(ClientPackageStatus):
        return True
    return standing(state, held, catalog, now_ms).status in wanted.statuses


async def client(
    at: Connections, client_id: str, now_ms: int
) -> tuple[ClientSummary, list[ClientPackageUse]]:
    """Return a client and all its client packages, the archive included. Raises as `client_packages`."""
    held = await state_of(at.store, client_id)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    return summary(held), uses(held, catalog, now_ms)


Search = Callable[[str], Awaitable[str | None]]
"""What finds the client of a client package that the index lacks; None: nobody has it."""


async def holder(store: Buckets, of_id: str, search: Search) -> Held:
    """Return the client that has a client package. Raises NotThereError where none has it, and Halt.

    It is found by the account index. What an earlier build assigned is not in there: that is searched.
    """
    name = client_package_name(of_id)
    found = (await store.accounts([name])).get(name)
    if found is not None:
        held = await held_of(store, found)
        if held is not None and any(of.id == of_id for of in held.state.packages):
            return held
        raise NotThereError("client package", of_id)
    client_id = await search(of_id)
    held = None if client_id is None else await held_of(store, client_id)
    if held is None or all(of.id != of_id for of in held.state.packages):
        raise NotThereError("client package", of_id)
    return held


async def searched(store: Buckets, of_id: str, say: Callable[[str], None]) -> str | None:
    """Search all clients for a client package, of which `say` is told; returns who has it."""
    say(f"client package {shown(of_id)} is not in the index; all clients are searched: ten seconds a million")
    async for state in every_state(store):
        if any(of.id == of_id for of in state.packages):
            return state.id
    return None


async def commanded(store: Buckets, of_id: str, search: Search) -> str:
    """Return the client to whom a command about a client package goes: also of one that was removed.

    Its lane knows a command that comes again by its key, and refuses others. Raises as `holder`.
    """
    name = client_package_name(of_id)
    found = (await store.accounts([name])).get(name)
    held = None if found is None else await held_of(store, found)
    if held is not None and of_id in held.state.removed:
        return held.state.id
    return (await holder(store, of_id, search)).state.id


async def chosen(store: Buckets, wanted: Wanted) -> str | None:
    """Return the one client that is asked for, None for all."""
    client_id = wanted.client
    if client_id is None and wanted.account is not None:
        client_id = await owner_of(store, wanted.account)
    if client_id is not None and await store.client(client_id) is None:
        raise NotThereError("client", client_id)
    if client_id is None and wanted.client_package is not None:
        name = client_package_name(wanted.client_package)
        return (await store.accounts([name])).get(name)
    return client_id


async def _states(
    store: Buckets, chosen: str | None, passed: Passed, package: str | None
) -> AsyncIterator[ClientState]:
    if chosen is None:
        async for state in every_state(store, passed, package):
            yield state
    elif (found := await held_of(store, chosen)) is not None:
        yield found.state


def uses(
    held: Held, catalog: Catalog | None, now_ms: int, wanted: Wanted | None = None
) -> list[ClientPackageUse]:
    """Return a client's packages as they are now: all, or those that are wanted."""
    asked = wanted or Wanted()
    found = [use_of(held, of, catalog, now_ms) for of in held.state.packages if asked.may_have(of)]
    return [use for use in found if use.status in asked.statuses]


def use_of(of: Held, held: ClientPackage, catalog: Catalog | None, now_ms: int) -> ClientPackageUse:
    """Return a client package as it is now: status, period, and what is left of its limits.

    What the catalog does not know (None: none was loaded) has neither period nor limits.
    """
    state, stands = of.state, standing(of.state, held, catalog, now_ms)
    package = catalog.packages.get(held.package) if catalog is not None else None
    period = stands.period
    limits: list[LimitUse] = []
    if catalog is not None and period is not None:
        limits = limits_of(held, period.held, period.version, of.counters, catalog)
    spec = None if package is None else (period.version if period is not None else package.latest).spec
    return ClientPackageUse(
        id=held.id,
        client=state.id,
        account=held.account,
        package=held.package,
        package_name=package.latest.name if package is not None else None,
        package_status=package.status_at(now_ms) if package is not None else None,
        status=stands.status,
        state=stands.state,
        quantity=held.quantity,
        version=0 if held.life is None else held.life.version,
        period=period.number if period is not None else None,
        period_start_ms=period.start_ms if period is not None else None,
        period_stop_ms=period.stop_ms if period is not None else None,
        start_ms=held.start_ms if stands.life.first_ms is None else stands.life.first_ms,
        end_ms=held.end_ms,
        renewal_ms=stands.renewal_ms,
        pending=pending_charge(state, held, of.balance),
        activations=stands.life.count,
        charged=_charged(held, period, of.counters),
        charge_on_event=spec is not None and spec.charge_on_event,
        aligned=spec is not None and spec.align_to_payment_terms,
        full_charge=spec is not None and spec.full_charge,
        dids=stands.life.dids,
        limits=limits,
    )


def _charged(held: ClientPackage, period: Period | None, counters: Mapping[str, int]) -> bool:
    """Return whether the fee of a period was charged: at its opening, or by the first call that drew."""
    if period is None:
        return False
    by_event, _, _ = fee_fields(held.id, period.number)
    fees = [fee for fee in period.held.charged if fee.type == TransactionType.SUBSCRIPTION_FEE]
    return bool(fees) or bool(counters.get(by_event))
