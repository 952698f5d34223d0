"""Commands about numbers that accounts hold: dids list, assign, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.client_package_rows import instant
from rater.cli.commanding import Order, Writing, check, perform, show, told_if_missing, writing_options
from rater.cli.options import invocation, run, settings_options
from rater.cli.printing import Column, Row, column, print_rows
from rater.cli.times import shown_time
from rater.core.kinds import DidState, Do

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rater.config import Settings
    from rater.queries.dids import DidUse, Wanted
    from rater.store.buckets import Buckets

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.group()
def dids() -> None:
    """Numbers that accounts hold."""


@dids.command("list")
@click.option("--tag", metavar="T", help="With this tag only.")
@click.option("--client", metavar="ID", help="Held by this client only.")
@click.option(
    "--state", type=click.Choice([state.replace(" ", "-") for state in DidState]), help="In this state only."
)
@settings_options(prints=True)
def dids_list(tag: str | None, client: str | None, state: str | None) -> None:
    """List numbers: tags, who holds each by which client package, until when it is on hold.

    \b
    Examples:
      rater dids list --tag kyiv --state free
      rater dids list --client 42 --json
    """
    from rater.queries.dids import Wanted

    settings = invocation().settings()
    wanted = Wanted(
        tag=tag, client=client, state=None if state is None else DidState(state.replace("-", " "))
    )
    print_rows(
        map(did_row, run(_found(settings, wanted), settings)), _DID, as_json=invocation().json,
        nothing="there is no such DID; the section dids of a catalog file brings them",
    )  # fmt: skip


async def _found(settings: Settings, wanted: Wanted) -> list[DidUse]:
    from rater import app
    from rater.queries import dids as queries

    async with app.connections(settings) as at:
        return await queries.dids(at, wanted)


def did_row(did: DidUse) -> Row:
    """Return a number as lists show it."""
    return {
        "number": did.number,
        "tags": did.tags,
        "state": did.state,
        "client": did.client,
        "account": did.account,
        "client_package": did.client_package,
        "hold_until": instant(did.hold_until_ms),
    }


_DID = [
    column("number"),
    Column("tags", lambda row: ", ".join(row["tags"])),
    column("state"),
    Column("until", lambda row: shown_time(row["hold_until"])),
    column("client"),
    column("account"),
    column("client package", "client_package"),
]


@dids.command("assign")
@click.argument("number", metavar="NUMBER")
@click.option("--account", required=True, metavar="ID", help="Who is to hold it.")
@writing_options()
@settings_options(prints=True)
def dids_assign(number: str, account: str, writing: Writing) -> None:
    """Give a number to an account, by a client package of its client that allows one more.

    \b
    Example:
      rater dids assign 380441112233 --account sip-1001
    """
    from rater.core.commands.records import DidAssignArgs

    settings = invocation().settings()
    number = number.removeprefix("+")
    order = Order(Do.DID_ASSIGN, "any", DidAssignArgs(number, account))
    check(order, writing)
    from rater.queries.clients import owner_of

    client = run(_asked(settings, account, owner_of), settings)
    show(perform(settings, _to_lane(order, client, number), writing))


@dids.command("release")
@click.argument("number", metavar="NUMBER")
@writing_options()
@settings_options(prints=True)
def dids_release(number: str, writing: Writing) -> None:
    """Take a number from whom holds it, in use or on hold; it is free then.

    \b
    Example:
      rater dids release 380441112233
    """
    from rater.core.commands.records import DidReleaseArgs

    settings = invocation().settings()
    number = number.removeprefix("+")
    order = Order(Do.DID_RELEASE, "any", DidReleaseArgs(number))
    check(order, writing)
    from rater.queries.dids import holder_of

    client = run(_asked(settings, number, holder_of), settings)
    show(perform(settings, _to_lane(order, client, number), writing))


def _to_lane(order: Order, client: str, number: str) -> Order:
    """Return a command of a client for the lane of a number."""
    from rater.core.clients.state import did_name

    return order._replace(client=client, name=did_name(number))


async def _asked(settings: Settings, of: str, ask: Callable[[Buckets, str], Awaitable[str]]) -> str:
    """Return the client that the store answers with. Raises WrongInput where there is none."""
    from rater import app

    async with app.opened_store(settings) as store:
        with told_if_missing():
            return await ask(store, of)
