"""Client packages: where each stands, and what is left of its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

from msgspec import Struct

from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import counter_field
from rater.core.catalog.packages import Limit
from rater.core.clients.periods import Period, period_of
from rater.core.clients.state import ClientPackage
from rater.core.clients.views import ClientView
from rater.core.kinds import ClientPackageStatus
from rater.queries import catalog as catalog_queries
from rater.queries.clients import ClientSummary, Held, NotThereError, held_of, summary
from rater.queries.connections import Connections
from rater.store.buckets import Buckets


class LimitUse(Struct, frozen=True, kw_only=True):
    """A limit of a client package in its present period.

    size: the limit times the quantity of the package. size, used and left of a money limit are micros of
    `unit`, a currency; of a volume, whole counting units, named by `unit`. left is never below 0.
    """

    limit: str
    kind: str
    service: str
    code: str | None
    code_name: str | None
    unit: str
    size: int
    used: int
    left: int


class ClientPackageUse(Struct, frozen=True, kw_only=True):
    """A client package now.

    account: None: all of the client's. package_name and package_status (None: the catalog has no such
    package) are the package's own. period: number of the present one, None where there is none; its limits
    and bounds are there only with it. Instants are milliseconds UTC, None: no end.
    """

    id: str
    client: str
    account: str | None
    package: str
    package_name: str | None
    package_status: str | None
    status: ClientPackageStatus
    quantity: int
    period: int | None
    period_start_ms: int | None
    period_stop_ms: int | None
    start_ms: int
    end_ms: int | None
    limits: list[LimitUse]


class Wanted(Struct, frozen=True, kw_only=True):
    """Which client packages are asked for; None: whichever. account: those that it may use."""

    client: str | None = None
    account: str | None = None
    package: str | None = None
    client_package: str | None = None
    statuses: Collection[ClientPackageStatus] = frozenset(ClientPackageStatus)

    def has(self, use: ClientPackageUse) -> bool:
        """Return whether a client package of the right client is one of those."""
        return (
            use.status in self.statuses
            and self.package in (None, use.package)
            and self.client_package in (None, use.id)
            and (self.account is None or use.account in (None, self.account))
        )


async def client_packages(
    at: Connections, wanted: Wanted, now_ms: int, *, limit: int = 0
) -> AsyncIterator[ClientPackageUse]:
    """Yield client packages, those of a client one after the other, at most `limit` (0: all).

    Raises NotThereError where there is no such client or account, Halt where what is read is garbled.
    """
    chosen = await _chosen(at.store, wanted)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    count = 0
    async for client_id in _each(at.store, chosen):
        held = await held_of(at.store, client_id)
        for use in [] if held is None else uses(held, catalog, now_ms):
            if wanted.has(use):
                yield use
                count += 1
                if count == limit:
                    return


async def client(
    at: Connections, client_id: str, now_ms: int
) -> tuple[ClientSummary, list[ClientPackageUse]]:
    """Return a client and all its client packages, the archive included. Raises as `client_packages`."""
    held = await held_of(at.store, client_id)
    if held is None:
        raise NotThereError("client", client_id)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    return summary(held), uses(held, catalog, now_ms)


async def _chosen(store: Buckets, wanted: Wanted) -> str | None:
    """Return the one client that is asked for, None for all."""
    client_id = wanted.client
    if client_id is None and wanted.account is not None:
        client_id = (await store.accounts([wanted.account])).get(wanted.account)
        if client_id is None:
            raise NotThereError("account", wanted.account)
    if client_id is not None and await store.client(client_id) is None:
        raise NotThereError("client", client_id)
    return client_id


async def _each(store: Buckets, chosen: str | None) -> AsyncIterator[str]:
    if chosen is not None:
        yield chosen
        return
    async for client_id in store.scan_clients():
        yield client_id


def uses(held: Held, catalog: Catalog | None, now_ms: int) -> list[ClientPackageUse]:
    """Return a client's packages as they are now."""
    view = ClientView(held.state)
    return [use_of(view, package, held.counters, catalog, now_ms) for package in held.state.packages]


def use_of(
    view: ClientView, held: ClientPackage, counters: Mapping[str, int], catalog: Catalog | None, now_ms: int
) -> ClientPackageUse:
    """Return a client package as it is now: status, period, and what is left of its limits.

    It is active where a period holds the moment and the package is not archived, pending before the first
    one. What the catalog does not know (None: none was loaded) has neither period nor limits.
    """
    package = catalog.packages.get(held.package) if catalog is not None else None
    period = period_of(view.state, held, package, now_ms) if package is not None else None
    limits: list[LimitUse] = []
    if catalog is not None and period is not None:
        limits = [_limit(held, period, limit, counters, catalog) for limit in period.version.limits]
    begins = None
    if package is not None:
        begins = package.latest.start_ms(package.zones.latest(view.state.zone))
    is_early = now_ms < max(held.start_ms, begins or 0)
    status = ClientPackageStatus.PENDING if is_early else ClientPackageStatus.ARCHIVE
    if period is not None and package is not None and package.status_at(now_ms) != "archived":
        status = ClientPackageStatus.ACTIVE
    return ClientPackageUse(
        id=held.id,
        client=view.id,
        account=held.account,
        package=held.package,
        package_name=package.latest.name if package is not None else None,
        package_status=package.status_at(now_ms) if package is not None else None,
        status=status,
        quantity=held.quantity,
        period=period.number if period is not None else None,
        period_start_ms=period.start_ms if period is not None else None,
        period_stop_ms=period.stop_ms if period is not None else None,
        start_ms=held.start_ms,
        end_ms=held.end_ms,
        limits=limits,
    )


def _limit(
    held: ClientPackage, period: Period, limit: Limit, counters: Mapping[str, int], catalog: Catalog
) -> LimitUse:
    size = limit.size * held.quantity
    used = counters.get(counter_field(held.id, period.number, limit.id), 0)
    is_money = limit.kind == "money"
    return LimitUse(
        limit=limit.id,
        kind=limit.kind,
        service=limit.service,
        code=limit.code,
        code_name=limit.code_name,
        unit=period.version.currency if is_money else catalog.services[limit.service].unit,
        size=size,
        used=used,
        left=max(size - used, 0),
    )
