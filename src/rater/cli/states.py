"""Commands that read the state of clients as Redis holds it: clients, client-packages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from rater.cli.asking import WrongInput, invocation, limit_option, pulled, settings_options
from rater.cli.moments import shown_time
from rater.cli.telling import Column, Row, bar, column, is_terminal, print_json, print_pairs, print_rows, say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.catalog.compiled import Catalog
    from rater.core.catalog.packages import Limit
    from rater.core.clients.periods import Period
    from rater.core.clients.state import ClientPackage, ClientState
    from rater.core.clients.views import ClientView
    from rater.store.buckets import Buckets

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

STATUSES = ("pending", "active", "archive")


@click.group()
def clients() -> None:
    """Clients and their balances."""


@clients.command("list")
@click.option("--reseller", metavar="ID", help="Of this reseller only.")
@limit_option(100)
@settings_options(prints=True)
def clients_list(reseller: str | None, limit: int) -> None:
    """List clients with their balances, in no order (there may be a million).

    \b
    Examples:
      rater clients list
      rater clients list --limit 0 --json
    """
    settings = invocation().settings()

    async def rows() -> AsyncIterator[Row]:
        from rater.app import connect_store

        store = await connect_store(settings)
        count = 0
        try:
            async for client_id in store.scan_clients():
                found = await _client(store, client_id)
                if found is not None and reseller in (None, found[0].reseller):
                    yield _client_row(found[0], found[2])
                    count += 1
                    if count == limit:
                        break
        finally:
            await store.close()

    count = print_rows(
        pulled(settings, rows()), _CLIENT, as_json=invocation().json,
        nothing="there are no clients; load a catalog with: rater load FILE",
    )  # fmt: skip
    if limit and count == limit and not invocation().json:
        say(f"the first {limit}; --limit 0 shows all")


_CLIENT = [
    column("id"),
    column("name"),
    column("reseller"),
    column("balance", right=True),
    column("credit limit", "credit_limit", right=True),
    column("currency"),
    Column("accounts", lambda row: str(len(row["accounts"])), right=True),
    Column("packages", lambda row: str(row["client_packages"]), right=True),
]


async def _client(store: Buckets, client_id: str) -> tuple[ClientState, dict[str, int], int] | None:
    """Return a client's register, counters and balance; None: there is no such client."""
    from msgspec import MsgspecError

    from rater.core.clients.state import read_state
    from rater.errors import Halt

    found = await store.client(client_id)
    if found is None:
        return None
    raw, balance, counters = found
    try:
        register = read_state(raw)
    except (MsgspecError, ValueError) as error:
        raise Halt(
            f"what Redis holds of client {client_id} cannot be read ({error}): nothing but rater may write "
            "keys of its prefix. Delete all keys of the prefix: they are rebuilt from Kafka"
        ) from error
    return register, counters, balance


def _client_row(register: ClientState, balance: int) -> dict[str, Any]:
    from rater.core.amounts import format_micros

    return {
        "id": register.id,
        "name": register.name,
        "reseller": register.reseller,
        "currency": register.currency,
        "balance": format_micros(balance),
        "credit_limit": format_micros(register.credit_limit),
        "low_balance": None if register.low_balance is None else format_micros(register.low_balance),
        "time_zone": register.zone,
        "accounts": sorted(register.accounts),
        "client_packages": len(register.packages),
        "version": register.version,
        "catalog": register.catalog,
    }


@clients.command("show")
@click.argument("client_id", metavar="ID")
@settings_options(prints=True)
def clients_show(client_id: str) -> None:
    """Show one client: balance, credit, accounts, rate tables, and its client packages, archive included.

    \b
    Example:
      rater clients show 42
    """
    settings = invocation().settings()
    rows = list(pulled(settings, _package_rows(settings, client_id=client_id)))
    client = next(row for row in rows if "package" not in row)
    packages = [row for row in rows if "package" in row]
    if invocation().json:
        print_json({**client, "client_packages": packages})
        return
    shown = {
        "client": client["id"],
        "name": client["name"],
        "reseller": client["reseller"] or "",
        "balance": f"{client['balance']} {client['currency']}",
        "credit limit": f"{client['credit_limit']} {client['currency']}",
        "time zone": client["time_zone"],
        "accounts": ", ".join(client["accounts"]),
    }
    print_pairs((label, str(text)) for label, text in shown.items())
    for side, tables in client["rate_tables"].items():
        print_pairs(
            [(f"{side} rates", ", ".join(f"{service}: {table}" for service, table in tables.items()))]
        )
    if packages:
        click.echo()
        print_rows(_flat(packages), _PACKAGE, as_json=False)


@click.group("client-packages")
def client_packages() -> None:
    """Client packages and what is left of their limits."""


@client_packages.command("list")
@click.option("--client", metavar="ID", help="Of this client only.")
@click.option(
    "--account", metavar="ID", help="Those that this account may use (its own, and of all accounts)."
)
@click.option("--package", metavar="ID", help="Of this package only.")
@click.option("--id", "of_id", metavar="ID", help="This client package only.")
@click.option(
    "--status", "statuses", type=click.Choice([*STATUSES, "all"]), multiple=True,
    help="May be given several times; without it: pending and active.",
)  # fmt: skip
@limit_option(100)
@settings_options(prints=True)
def client_packages_list(
    client: str | None,
    account: str | None,
    package: str | None,
    of_id: str | None,
    statuses: tuple[str, ...],
    limit: int,
) -> None:
    """List client packages: their period, and what is left of each limit in it.

    A bar is full when nothing was used. Volumes are in counting units (seconds, pieces, KiB), money is in the
    package's currency.

    \b
    Examples:
      rater client-packages list --client 42
      rater client-packages list --package 1 --status archive --json
    """
    settings = invocation().settings()
    wanted = set(STATUSES) if "all" in statuses else set(statuses or ("pending", "active"))

    def rows() -> Iterator[Row]:
        count = 0
        for row in pulled(settings, _package_rows(settings, client_id=client, account=account)):
            if "package" not in row or row["status"] not in wanted:
                continue
            if package not in (None, row["package"]) or of_id not in (None, row["id"]):
                continue
            if account is not None and row["account"] not in (None, account):
                continue
            yield row
            count += 1
            if count == limit:
                return

    as_json = invocation().json
    nothing = "there is no such client package; --status all looks at the archive too"
    print_rows(rows() if as_json else _flat(rows()), _PACKAGE, as_json=as_json, nothing=nothing)


async def _package_rows(
    settings: Settings, *, client_id: str | None = None, account: str | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Yield the client packages of the clients asked for, each client's own row before them."""
    from rater.app import connect_store
    from rater.core.clients.views import ClientView

    store = await connect_store(settings)
    now_ms = time.time_ns() // 1_000_000
    try:
        chosen = await _chosen(store, client_id, account)
        catalog = await _catalog(settings)
        async for each in _each(store, chosen):
            found = await _client(store, each)
            if found is None:
                continue
            register, counters, balance = found
            yield {**_client_row(register, balance), "rate_tables": register.rate_tables}
            seen = ClientView(register)
            for held in register.packages:
                yield package_row(seen, held, counters, catalog, now_ms)
    finally:
        await store.close()


async def _chosen(store: Buckets, client_id: str | None, account: str | None) -> str | None:
    """Return the one client that was asked for, None for all. Raises WrongInput where there is none."""
    if client_id is None and account is not None:
        client_id = (await store.accounts([account])).get(account)
        if client_id is None:
            raise WrongInput(
                f"there is no account {account}; `rater clients show ID` lists those of a client"
            )
    if client_id is not None and await store.client(client_id) is None:
        raise WrongInput(f"there is no client {client_id}; `rater clients list` shows which there are")
    return client_id


async def _each(store: Buckets, chosen: str | None) -> AsyncIterator[str]:
    if chosen is not None:
        yield chosen
        return
    async for client_id in store.scan_clients():
        yield client_id


async def _catalog(settings: Settings) -> Catalog | None:
    """Return the newest catalog that a lane has adopted; None: none was loaded."""
    from rater.app import catalogs_of, kafka_client
    from rater.stream.journal import last_marks

    marks = await last_marks(
        kafka_client(settings), settings.topic("transactions"), settings.topics.partitions
    )
    newest = max((mark for mark in marks if mark is not None), key=lambda mark: mark.catalog, default=None)
    return None if newest is None else await catalogs_of(settings).at(newest.catalog, newest.body)


def package_row(
    client: ClientView, held: ClientPackage, counters: Mapping[str, int], catalog: Catalog | None, now_ms: int
) -> dict[str, Any]:
    """Return a client package as lists show it: status, period, and what is left of its limits."""
    package = catalog.packages.get(held.package) if catalog is not None else None
    period = client.period(held, package, now_ms) if package is not None else None
    limits: list[dict[str, Any]] = []
    if catalog is not None and period is not None:
        limits = [_limit(held, period, limit, counters, catalog) for limit in period.version.limits]
    begins = None
    if package is not None:
        begins = package.latest.start_ms(package.zones.latest(client.register.zone))
    status = "pending" if now_ms < max(held.start_ms, begins or 0) else "archive"
    if period is not None and package is not None and package.status_at(now_ms) != "archived":
        status = "active"
    return {
        "id": held.id,
        "client": client.id,
        "account": held.account,
        "package": held.package,
        "package_name": package.latest.name if package is not None else None,
        "package_status": package.status_at(now_ms) if package is not None else None,
        "status": status,
        "quantity": held.quantity,
        "period": period.number if period is not None else None,
        "period_start": _instant(period.start_ms if period is not None else None),
        "period_stop": _instant(period.stop_ms if period is not None else None),
        "start": _instant(held.start_ms),
        "end": _instant(held.end_ms),
        "limits": limits,
    }


def _limit(
    held: ClientPackage, period: Period, limit: Limit, counters: Mapping[str, int], catalog: Catalog
) -> dict[str, Any]:
    from rater.core.amounts import format_micros
    from rater.core.rating.matching import counter_field

    size = limit.size * held.quantity
    used = counters.get(counter_field(held.id, period.number, limit.id), 0)
    left = max(size - used, 0)
    is_money = limit.kind == "money"
    show = format_micros if is_money else str
    return {
        "limit": limit.id,
        "kind": limit.kind,
        "service": limit.service,
        "code": limit.code,
        "code_name": limit.code_name,
        "unit": period.version.currency if is_money else catalog.services[limit.service].unit,
        "size": show(size),
        "used": show(used),
        "left": show(left),
        "bar": bar(left, size),
    }


def _instant(at_ms: int | None) -> str | None:
    from rater.core.instants import rfc3339

    return None if at_ms is None else rfc3339(at_ms)


def _flat(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a line for each limit; on a terminal what the line above says already is left out."""
    for row in rows:
        for place, limit in enumerate(row["limits"] or [{}]):
            yield {**(row if place == 0 or not is_terminal() else dict.fromkeys(row)), "of": limit}


_PACKAGE = [
    column("id"),
    column("client"),
    Column("account", lambda row: row["account"] or ("" if row["id"] is None else "all")),
    Column("package", lambda row: str(row["package_name"] or row["package"] or "")),
    column("status"),
    column("period", right=True),
    Column("from", lambda row: shown_time(row["period_start"] or row["start"])),
    Column("to", lambda row: shown_time(row["period_stop"] or row["end"])),
    Column("code", lambda row: str(row["of"].get("code") or row["of"].get("code_name") or "")),
    Column("left", lambda row: str(row["of"].get("bar", "")), style=lambda row: _colour(row["of"])),
    Column("", lambda row: _of(row["of"]), right=True),
]


def _of(limit: Row) -> str:
    return f"{limit['left']} of {limit['size']} {limit['unit']}" if limit else ""


def _colour(limit: Row) -> str:
    return "red" if limit.get("left") == "0" else "green"
