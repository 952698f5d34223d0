"""Commands about what clients have of packages: client-packages list, show, history, assign, stop, edit."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import click

from rater.cli.client_package_rows import (
    ACCOUNT,
    PACKAGE,
    PAST,
    a_line_each,
    account_row,
    package_row,
    past_row,
    state_text,
    system_row,
)
from rater.cli.commanding import Order, Writing, check, perform, show, told_if_missing, writing_options
from rater.cli.looking import lists, search
from rater.cli.options import WrongInput, invocation, page_options, pulled, run, settings_options
from rater.cli.printing import Row, print_json, print_pairs, print_rows, progress, say
from rater.cli.times import WHEN, shown_time
from rater.core.amounts import QUANTITY_MAX
from rater.core.kinds import ClientPackageStatus, Do

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.commands.records import ClientArgs
    from rater.queries.client_packages import ClientPackageUse, Wanted
    from rater.queries.history import AccountUse, Shown

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

_STATUSES = [of.value for of in ClientPackageStatus]
_PRESENT = (ClientPackageStatus.PENDING, ClientPackageStatus.ACTIVE)
_NOTHING = "there is no such client package; --status all looks at the archive too"


@click.group("client-packages")
def client_packages() -> None:
    """What clients have of packages, and what is left of the limits."""


# ------------------------------------------------------------------------------------------------- looking
@client_packages.command("list")
@click.option("--client", metavar="ID", help="Of this client only.")
@click.option(
    "--account", metavar="ID", help="Those that this account may use (its own, and of all accounts)."
)
@click.option("--package", metavar="ID", help="Of this package only.")
@click.option("--id", "of_id", metavar="ID", help="This client package only.")
@click.option(
    "--status", "statuses", type=click.Choice([*_STATUSES, "all"]), multiple=True,
    help="May be given several times; without it: pending and active.",
)  # fmt: skip
@page_options(100)
@settings_options(prints=True)
def client_packages_list(
    client: str | None,
    account: str | None,
    package: str | None,
    of_id: str | None,
    statuses: tuple[str, ...],
    page: int,
    rows: int,
) -> None:
    """List client packages: their period, what comes next, and what is left of each limit.

    A bar is full when all is used. Volumes are in counting units (seconds, pieces, KiB), money is in the
    package's currency.

    \b
    Examples:
      rater client-packages list --client 42
      rater client-packages list --package 1 --status archive --page 2 --rows 50
      rater client-packages list --status all --rows 0 --json
    """
    from rater.queries.client_packages import Wanted

    settings, as_json = invocation().settings(), invocation().json
    chosen = _STATUSES if "all" in statuses else statuses or _PRESENT
    wanted = Wanted(
        client=client, account=account, package=package, client_package=of_id,
        statuses=frozenset(map(ClientPackageStatus, chosen)),
    )  # fmt: skip
    if rows == 0:
        found = map(package_row, pulled(settings, _every(settings, wanted)))
        print_rows(found if as_json else a_line_each(found), PACKAGE, as_json=as_json, nothing=_NOTHING)
        return
    with progress("reading clients", None) as passed:
        uses, total = run(_page(settings, wanted, rows, page, passed), settings)
    listed = list(map(package_row, uses))
    nothing = _NOTHING if total == 0 else f"there is no page {page}"
    print_rows(listed if as_json else a_line_each(listed), PACKAGE, as_json=as_json, nothing=nothing)
    tell_page(page, rows, total)


def tell_page(page: int, rows: int, total: int | None) -> None:
    """Tell people which page of a list they see, where it has several. rows: of a page, 0: it has one.

    total: None: more than are counted.
    """
    if total is None and not invocation().json:
        say(f"page {page}; there are more than 10,000; --page N shows another, --rows 0 all")
    elif total is not None and rows and total > rows and not invocation().json:
        say(f"page {page} of {-(-total // rows)}, {total} in all; --page N shows another, --rows 0 all")


async def _every(settings: Settings, wanted: Wanted) -> AsyncIterator[ClientPackageUse]:
    from rater import app
    from rater.queries import client_packages as queries

    async with app.connections(settings) as at, lists(settings, at) as model:
        with told_if_missing():
            if model is None:
                async for use in queries.client_packages(at, wanted, _now_ms()):
                    yield use
                return
            from rater.queries import listed

            async for use in listed.wanted_client_packages(at, model, wanted, _now_ms()):
                yield use


async def _page(
    settings: Settings, wanted: Wanted, rows: int, page: int, passed: Callable[[float], None]
) -> tuple[list[ClientPackageUse], int | None]:
    from rater import app
    from rater.queries import client_packages as queries

    async with app.connections(settings) as at, lists(settings, at) as model:
        with told_if_missing():
            if model is None:
                return await queries.page_of(at, wanted, _now_ms(), rows=rows, page=page, passed=passed)
            from rater.queries import listed

            return await listed.page_of(at, model, wanted, _now_ms(), rows=rows, page=page)


@client_packages.command("show")
@click.argument("of_id", metavar="ID")
@click.option("--by-account", is_flag=True, help="What each account took of its limits in the last period.")
@settings_options(prints=True)
def client_packages_show(of_id: str, *, by_account: bool) -> None:
    """Show one client package: where it stands, what it waits for, its periods, what is left.

    \b
    Examples:
      rater client-packages show 42-3
      rater client-packages show 42-3 --by-account
    """
    settings = invocation().settings()
    if not by_account:
        shown = run(_shown(settings, of_id), settings)
        _show_system(system_row(shown.use), list(map(past_row, shown.periods)))
        return
    with progress("reading the journal", None) as passed:
        found = run(_by_account(settings, of_id, passed), settings)
    rows = list(map(account_row, found))
    print_rows(rows, ACCOUNT, as_json=invocation().json, nothing="no call took anything of its limits")


async def _shown(settings: Settings, of_id: str) -> Shown:
    from rater import app
    from rater.queries import history

    async with app.connections(settings) as at:
        with told_if_missing():
            return await history.client_package(at, of_id, _now_ms(), search(settings, at.store))


async def _by_account(settings: Settings, of_id: str, passed: Callable[[float], None]) -> list[AccountUse]:
    from rater import app
    from rater.queries import history

    now_ms = _now_ms()
    async with app.connections(settings) as at:
        with told_if_missing():
            use, periods = await history.client_package(at, of_id, now_ms, search(settings, at.store))
        begun = [one for one in periods if one.start_ms <= now_ms]
        return await history.use_by_account(at, use.client, of_id, begun[0], passed) if begun else []


def _did_text(did: Row) -> str:
    on_hold = f", on hold until {shown_time(did['hold_until'])}" if did["hold_until"] is not None else ""
    return f"{did['number']} ({did['account']}{on_hold})"


def _show_system(row: Row, periods: list[Row]) -> None:
    """Print the system information of a client package, its periods and limits."""
    if invocation().json:
        print_json({**row, "periods": periods})
        return
    yes = {True: "yes", False: "no"}
    pairs = {
        "client package": row["id"],
        "client": row["client"],
        "account": row["account"] or "All Accounts",
        "package": f"{row['package_name'] or ''} ({row['package']})",
        "status": ", ".join(dict.fromkeys((row["status"], state_text(row)))),
        "quantity": str(row["quantity"]),
        "charge on event": yes[row["charge_on_event"]],
        "charged": yes[row["charged"]],
        "reactivations": str(row["reactivations"]),
        "align to payment terms": yes[row["align_to_payment_terms"]],
        "recalculate to period": yes[row["recalculate_to_period"]],
        "start date": shown_time(row["start"]),
        "end date": shown_time(row["end"]) or "none",
        "next renewal": shown_time(row["next_renewal"]) or "none",
        "version": str(row["version"]),
    }
    if (charge := row["pending_charge"]) is not None:
        amount = f"{charge['amounts']['total']} {charge['currency']}"
        pairs |= {
            "pending charge": f"{amount}, missing {charge['missing']}",
            "waits since": shown_time(charge["since"]),
            "retry until": shown_time(charge["retry_until"]) or "without end",
        }
    if row["dids"]:
        pairs["DIDs"] = ", ".join(map(_did_text, row["dids"]))
    print_pairs(pairs.items())
    if periods:
        click.echo()
        print_rows(a_line_each(periods), PAST, as_json=False)


@client_packages.command("history")
@click.argument("of_id", metavar="ID")
@settings_options(prints=True)
def client_packages_history(of_id: str) -> None:
    """Show the periods of a client package, the newest first: used of each limit, start and stop.

    \b
    Example:
      rater client-packages history 42-3
    """
    settings, as_json = invocation().settings(), invocation().json
    rows = list(map(past_row, run(_shown(settings, of_id), settings).periods))
    nothing = "it has had no period yet"
    print_rows(rows if as_json else a_line_each(rows), PAST, as_json=as_json, nothing=nothing)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# ------------------------------------------------------------------------------------------------ changing
@client_packages.command("assign")
@click.option("--client", required=True, metavar="ID", help="The client.")
@click.option("--package", required=True, metavar="ID", help="The package.")
@click.option("--account", metavar="ID", help="For this account only; else for all of the client's.")
@click.option(
    "--start-date", type=WHEN, metavar="T", help="A date (00:00 at the client) or a time; else now."
)
@click.option("--end-date", type=WHEN, metavar="T", help="In the same forms; else without end.")
@click.option(
    "--quantity",
    type=click.IntRange(1, QUANTITY_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="How many times.",
)
@click.option(
    "--activate-in-past", is_flag=True, help="Begin at a start date in the past; periods since are charged."
)
@writing_options()
@settings_options(prints=True)
def client_packages_assign(
    client: str, package: str, account: str | None, start_date: str | None, end_date: str | None,
    quantity: int, writing: Writing, *, activate_in_past: bool,
) -> None:  # fmt: skip
    """Assign a package to a client, and print the id of the client package.

    Without funds it waits for them (`rater pending-charges list`), unless the package says otherwise.

    \b
    Examples:
      rater client-packages assign --client 42 --package 1
      rater client-packages assign --client 42 --package 1 --account sip-1001 --start-date 2026-12-01
      rater client-packages assign --client 42 --package 1 --dry-run
    """
    from rater.core.commands.records import AssignArgs

    settings = invocation().settings()
    args = AssignArgs(package, account, start_date, end_date, quantity, activate_in_past)
    order = Order(Do.ASSIGN, client, args)
    check(order, writing)
    run(_check_assignment(settings, client, package, account), settings)
    row = perform(settings, order, writing)
    show(row, None if writing.is_dry_run else str(row["client_package"]))


async def _check_assignment(settings: Settings, client: str, package: str, account: str | None) -> None:
    """Refuse what is not there. Raises WrongInput."""
    from rater import app
    from rater.queries import catalog
    from rater.queries.clients import NotThereError, state_of

    async with app.connections(settings) as at:
        with told_if_missing():
            held = await state_of(at.store, client)
            if account is not None and account not in held.state.accounts:
                raise NotThereError("account", account)
            found = await catalog.in_force(at.kafka, at.topics, at.catalogs)
            sold = {} if found is None else found[1].packages
            if package not in sold or sold[package].deleted:
                raise NotThereError("package", package)


def _change(of_id: str, do: Do, writing: Writing, args: ClientArgs | None = None, **more: Any) -> None:
    """Carry out a command on a client package, whose client is looked for first."""
    from rater.core.commands.records import NoArgs

    settings = invocation().settings()
    order = Order(do, "not known yet", NoArgs() if args is None else args, of_id, **more)
    check(order, writing)
    order = order._replace(client=run(_client_of(settings, of_id), settings))
    show(perform(settings, order, writing))


async def _client_of(settings: Settings, of_id: str) -> str:
    from rater import app
    from rater.queries.client_packages import commanded

    async with app.opened_store(settings) as store:
        with told_if_missing():
            return await commanded(store, of_id, search(settings, store))


@client_packages.command("stop")
@click.argument("of_id", metavar="ID")
@click.option("--at-period-end", is_flag=True, help="Let the present period end, and do not renew.")
@writing_options(takes_away=True)
@settings_options(prints=True)
def client_packages_stop(of_id: str, writing: Writing, *, at_period_end: bool) -> None:
    """Stop a client package from the beginning of its present period, and give back what that cost.

    With --at-period-end it only renews no more. It is told before what becomes of money and calls.

    \b
    Examples:
      rater client-packages stop 42-3
      rater client-packages stop 42-3 --at-period-end --yes --reason "ticket 512"
    """
    _change(of_id, Do.STOP_AT_PERIOD_END if at_period_end else Do.STOP_NOW, writing)


@client_packages.command("cancel")
@click.argument("of_id", metavar="ID")
@writing_options(takes_away=True)
@settings_options(prints=True)
def client_packages_cancel(of_id: str, writing: Writing) -> None:
    """Close a client package now; nothing is given back, and earlier calls still draw.

    \b
    Example:
      rater client-packages cancel 42-3
    """
    _change(of_id, Do.CANCEL, writing)


@client_packages.command("remove")
@click.argument("of_id", metavar="ID")
@writing_options(takes_away=True)
@settings_options(prints=True)
def client_packages_remove(of_id: str, writing: Writing) -> None:
    """Remove a client package of the archive with all its fees, which are reversed; its id stays taken.

    \b
    Example:
      rater client-packages remove 42-3
    """
    _change(of_id, Do.REMOVE, writing)


@client_packages.command("edit")
@click.argument("of_id", metavar="ID")
@click.option(
    "--end-date", required=True, metavar="T", help="A date (00:00 at the client) or a time, or `none`."
)
@click.option(
    "--expect-version", type=click.IntRange(1), metavar="N", help="Refuse if it is not this one (`show`)."
)
@writing_options()
@settings_options(prints=True)
def client_packages_edit(of_id: str, end_date: str, expect_version: int | None, writing: Writing) -> None:
    """Change the end date of a client package, to now or later; `none` takes it away.

    It may cut the present period, without a refund.

    \b
    Examples:
      rater client-packages edit 42-3 --end-date 2026-12-31
      rater client-packages edit 42-3 --end-date none --expect-version 7
    """
    from rater.core.commands.records import EndDateArgs

    try:
        end = None if end_date == "none" else WHEN.convert(end_date, None, None)
    except click.BadParameter as error:
        raise WrongInput(f"--end-date {error.message}, or none") from None
    _change(of_id, Do.EDIT_END_DATE, writing, EndDateArgs(end), expect_version=expect_version)
