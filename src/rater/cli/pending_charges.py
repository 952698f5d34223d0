"""Commands about what waits for funds: pending-charges list, invoice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from rater.cli.client_package_rows import charge_row
from rater.cli.commanding import Order, Writing, check, perform, show, told_if_missing, writing_options
from rater.cli.looking import lists, search
from rater.cli.options import WrongInput, invocation, pulled, run, settings_options
from rater.cli.printing import Column, column, print_rows
from rater.cli.times import shown_time
from rater.core.kinds import Do

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.queries.pending_charges import PendingCharge

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.group("pending-charges")
def pending_charges() -> None:
    """What client packages wait for, where funds do not suffice."""


@pending_charges.command("list")
@click.option("--client", metavar="ID", help="Of this client only.")
@settings_options(prints=True)
def pending_charges_list(client: str | None) -> None:
    """List pending charges: the full amount with its parts, what is missing, since and until when.

    \b
    Examples:
      rater pending-charges list
      rater pending-charges list --client 42 --json
    """
    settings = invocation().settings()
    print_rows(
        map(charge_row, pulled(settings, _found(settings, client))), CHARGE, as_json=invocation().json,
        nothing="nothing waits",
    )  # fmt: skip


async def _found(settings: Settings, client: str | None) -> AsyncIterator[PendingCharge]:
    from rater import app
    from rater.queries import pending_charges as queries

    async with app.connections(settings) as at:
        with told_if_missing():
            if client is not None:
                async for charge in queries.pending_charges(at.store, client):
                    yield charge
                return
            async with lists(settings, at) as model:
                if model is None:
                    async for charge in queries.pending_charges(at.store):
                        yield charge
                    return
                from rater.queries import listed
                from rater.readmodel.asked import PendingCharges

                whole = PendingCharges()
                async for charge in listed.every(lambda page: listed.pending_charges(at, model, whole, page)):
                    yield charge


CHARGE = [
    column("id"),
    column("client"),
    column("client package", "client_package"),
    Column("activation", lambda row: row["amounts"]["activation"], right=True),
    Column("subscription", lambda row: row["amounts"]["subscription"], right=True),
    Column("tax", lambda row: row["amounts"]["tax"], right=True),
    Column("total", lambda row: row["amounts"]["total"], right=True),
    column("missing", right=True),
    column("currency"),
    Column("since", lambda row: shown_time(row["since"])),
    Column("retry until", lambda row: shown_time(row["retry_until"])),
    Column("invoiced", lambda row: "yes" if row["invoiced"] else "no"),
    Column("reason", lambda row: str(row["reason"]).replace("_", " ")),
]


@pending_charges.command("invoice")
@click.argument("of_id", metavar="ID")
@writing_options()
@settings_options(prints=True)
def pending_charges_invoice(of_id: str, writing: Writing) -> None:
    """Mark a pending charge for the invoice, which an event tells; ID is its own, or its client package's.

    \b
    Example:
      rater pending-charges invoice 42-3/5
    """
    from rater.core.commands.records import NoArgs

    settings = invocation().settings()
    check(Order(Do.INVOICE_PENDING_CHARGE, "any", NoArgs(), of_id), writing)
    client, client_package = run(_of(settings, of_id), settings)
    order = Order(Do.INVOICE_PENDING_CHARGE, client, NoArgs(), client_package)
    show(perform(settings, order, writing))


async def _of(settings: Settings, of_id: str) -> tuple[str, str]:
    """Return the client and client package of a pending charge. Raises WrongInput where there is none."""
    from rater import app
    from rater.queries import client_packages as queries
    from rater.queries import pending_charges as charges

    name, mark, period = of_id.rpartition("/")
    client_package = name if mark and period.isdigit() else of_id
    async with app.opened_store(settings) as store:
        with told_if_missing():
            held = await queries.holder(store, client_package, search(settings, store))
    for charge in charges.of_client(held.state, held.balance):
        if of_id in (charge.id, charge.client_package):
            return charge.client, charge.client_package
    raise WrongInput(
        f"there is no pending charge {of_id}; `rater pending-charges list` shows which there are"
    )
