"""Commands that show clients as Redis holds them: clients list, clients show."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from rater.cli.client_packages import PACKAGE, a_line_each, package_row, told_if_missing
from rater.cli.options import invocation, limit_option, pulled, run, settings_options
from rater.cli.printing import Column, Row, column, print_json, print_pairs, print_rows, say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.queries.clients import ClientSummary
    from rater.queries.packages import ClientPackageUse

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


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

    async def found() -> AsyncIterator[ClientSummary]:
        from rater import app
        from rater.queries import clients as queries

        async with app.opened_store(settings) as store:
            async for one in queries.clients(store, reseller=reseller, limit=limit):
                yield one

    count = print_rows(
        map(client_row, pulled(settings, found())), _CLIENT, as_json=invocation().json,
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


def client_row(client: ClientSummary) -> Row:
    """Return a client as lists show it: money as decimal text."""
    from rater.core.amounts import format_micros

    return {
        "id": client.id,
        "name": client.name,
        "reseller": client.reseller,
        "currency": client.currency,
        "balance": format_micros(client.balance),
        "credit_limit": format_micros(client.credit_limit),
        "low_balance": None if client.low_balance is None else format_micros(client.low_balance),
        "time_zone": client.time_zone,
        "accounts": client.accounts,
        "client_packages": client.client_packages,
        "version": client.version,
        "catalog": client.catalog,
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
    found, uses = run(_client(settings, client_id), settings)
    client, packages = client_row(found), list(map(package_row, uses))
    if invocation().json:
        print_json({**client, "client_packages": packages, "rate_tables": found.rate_tables})
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
    for side, tables in found.rate_tables.items():
        print_pairs(
            [(f"{side} rates", ", ".join(f"{service}: {table}" for service, table in tables.items()))]
        )
    if packages:
        click.echo()
        print_rows(a_line_each(packages), PACKAGE, as_json=False)


async def _client(settings: Settings, client_id: str) -> tuple[ClientSummary, list[ClientPackageUse]]:
    from rater import app
    from rater.queries import packages as queries

    async with app.connections(settings) as at:
        with told_if_missing():
            return await queries.client(at, client_id, time.time_ns() // 1_000_000)
