"""Commands about clients and their balances: clients list, show, adjust."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from rater.cli.client_package_rows import PACKAGE, a_line_each, charge_row, package_row
from rater.cli.commanding import Order, Writing, check, perform, show, told_if_missing, writing_options
from rater.cli.looking import lists
from rater.cli.options import invocation, limit_option, pulled, run, settings_options
from rater.cli.pending_charges import CHARGE
from rater.cli.printing import Column, Row, column, print_json, print_pairs, print_rows, say
from rater.core.kinds import Do

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.queries.client_packages import ClientPackageUse
    from rater.queries.clients import ClientSummary

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
    """List clients with their balances: by id from a read model (admin.database), else in no order.

    \b
    Examples:
      rater clients list
      rater clients list --limit 0 --json
    """
    settings = invocation().settings()

    async def found() -> AsyncIterator[ClientSummary]:
        from rater import app
        from rater.queries import clients as queries

        async with app.connections(settings) as at, lists(settings, at) as model:
            if model is None:
                async for one in queries.clients(at.store, reseller=reseller, limit=limit):
                    yield one
                return
            from rater.queries import listed
            from rater.readmodel.asked import Clients

            wanted = Clients(reseller=reseller)
            async for one in listed.every(lambda page: listed.clients(at, model, wanted, page), rows=limit):
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
        "payment_terms": None
        if client.payment_terms is None
        else {"every": client.payment_terms.every, "anchor": client.payment_terms.anchor},
        "tax_profile": client.tax_profile,
        "accounts": client.accounts,
        "client_packages": client.client_packages,
        "pending_charges": client.pending_charges,
        "version": client.version,
        "catalog": client.catalog,
    }


@clients.command("show")
@click.argument("client_id", metavar="ID")
@settings_options(prints=True)
def clients_show(client_id: str) -> None:
    """Show one client: balance, credit, terms, taxes, accounts, rate tables, what waits, and what it has.

    Client packages of the archive are shown too.

    \b
    Example:
      rater clients show 42
    """
    settings = invocation().settings()
    found, uses = run(_client(settings, client_id), settings)
    client, packages = client_row(found), list(map(package_row, uses))
    charges = [charge_row(use.pending) for use in uses if use.pending is not None]
    if invocation().json:
        print_json({
            **client, "client_packages": packages, "pending_charges": charges,
            "rate_tables": found.rate_tables,
        })  # fmt: skip
        return
    terms = client["payment_terms"]
    shown = {
        "client": client["id"],
        "name": client["name"],
        "reseller": client["reseller"] or "",
        "balance": f"{client['balance']} {client['currency']}",
        "credit limit": f"{client['credit_limit']} {client['currency']}",
        "low balance": ""
        if client["low_balance"] is None
        else f"{client['low_balance']} {client['currency']}",
        "payment terms": "" if terms is None else f"{terms['every']} from {terms['anchor']}",
        "time zone": client["time_zone"],
        "tax profile": client["tax_profile"] or "",
        "accounts": ", ".join(client["accounts"]),
    }
    print_pairs((label, str(text)) for label, text in shown.items())
    for side, tables in found.rate_tables.items():
        print_pairs(
            [(f"{side} rates", ", ".join(f"{service}: {table}" for service, table in tables.items()))]
        )
    if charges:
        click.echo("\npending charges")
        print_rows(charges, CHARGE, as_json=False)
    if packages:
        click.echo()
        print_rows(a_line_each(packages), PACKAGE, as_json=False)


async def _client(settings: Settings, client_id: str) -> tuple[ClientSummary, list[ClientPackageUse]]:
    from rater import app
    from rater.queries import client_packages as queries

    async with app.connections(settings) as at:
        with told_if_missing():
            return await queries.client(at, client_id, time.time_ns() // 1_000_000)


@clients.command("adjust")
@click.argument("client_id", metavar="ID")
@click.option("--amount", required=True, metavar="A", help="In the client's currency; -5.00 takes away.")
@writing_options()
@settings_options(prints=True)
def clients_adjust(client_id: str, amount: str, writing: Writing) -> None:
    """Add an amount to a client's balance: a top-up, or a correction. What waits for funds is tried again.

    \b
    Examples:
      rater clients adjust 42 --amount 20.00 --key payment-991
      rater clients adjust 42 --amount -5.00 --reason "ticket 512" --dry-run
    """
    from rater.core.commands.records import AdjustArgs

    settings = invocation().settings()
    order = Order(Do.ADJUST, client_id, AdjustArgs(amount))
    check(order, writing)
    run(_must_exist(settings, client_id), settings)
    show(perform(settings, order, writing))


async def _must_exist(settings: Settings, client_id: str) -> None:
    from rater import app
    from rater.queries.clients import state_of

    async with app.opened_store(settings) as store:
        with told_if_missing():
            await state_of(store, client_id)
