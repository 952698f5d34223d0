"""The command that shows client packages and what is left of them: client-packages list."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rater.cli.options import WrongInput, invocation, limit_option, pulled, settings_options
from rater.cli.printing import Column, Row, bar, column, is_terminal, print_rows
from rater.cli.times import shown_time
from rater.core.kinds import ClientPackageStatus

if TYPE_CHECKING:
    from rater.queries.packages import ClientPackageUse, LimitUse

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

_STATUSES = [of.value for of in ClientPackageStatus]
_PRESENT = (ClientPackageStatus.PENDING, ClientPackageStatus.ACTIVE)


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
    "--status", "statuses", type=click.Choice([*_STATUSES, "all"]), multiple=True,
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
    chosen = _STATUSES if "all" in statuses else statuses or _PRESENT

    async def found() -> AsyncIterator[ClientPackageUse]:
        from rater import app
        from rater.queries import packages as queries

        wanted = queries.Wanted(
            client=client, account=account, package=package, client_package=of_id,
            statuses=frozenset(map(ClientPackageStatus, chosen)),
        )  # fmt: skip
        now_ms = time.time_ns() // 1_000_000
        async with app.connections(settings) as at:
            with told_if_missing():
                async for use in queries.client_packages(at, wanted, now_ms, limit=limit):
                    yield use

    rows = map(package_row, pulled(settings, found()))
    as_json = invocation().json
    nothing = "there is no such client package; --status all looks at the archive too"
    print_rows(rows if as_json else a_line_each(rows), PACKAGE, as_json=as_json, nothing=nothing)


@contextmanager
def told_if_missing() -> Iterator[None]:
    """Tell of a client or account that is not there what to do: wrong input."""
    from rater.queries.clients import NotThereError

    try:
        yield
    except NotThereError as missing:
        remedy = {
            "account": "`rater clients show ID` lists those of a client",
            "client": "`rater clients list` shows which there are",
        }
        raise WrongInput(f"{missing}; {remedy[missing.kind]}") from missing


def package_row(use: ClientPackageUse) -> Row:
    """Return a client package as lists show it: instants in RFC 3339, amounts as decimal text."""
    return {
        "id": use.id,
        "client": use.client,
        "account": use.account,
        "package": use.package,
        "package_name": use.package_name,
        "package_status": use.package_status,
        "status": use.status,
        "quantity": use.quantity,
        "period": use.period,
        "period_start": _instant(use.period_start_ms),
        "period_stop": _instant(use.period_stop_ms),
        "start": _instant(use.start_ms),
        "end": _instant(use.end_ms),
        "limits": [_limit_row(limit) for limit in use.limits],
    }


def _limit_row(limit: LimitUse) -> Row:
    from rater.core.amounts import format_micros

    show = format_micros if limit.kind == "money" else str
    return {
        "limit": limit.limit,
        "kind": limit.kind,
        "service": limit.service,
        "code": limit.code,
        "code_name": limit.code_name,
        "unit": limit.unit,
        "size": show(limit.size),
        "used": show(limit.used),
        "left": show(limit.left),
        "bar": bar(limit.left, limit.size),
    }


def _instant(at_ms: int | None) -> str | None:
    from rater.core.instants import rfc3339

    return None if at_ms is None else rfc3339(at_ms)


def a_line_each(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a line for each limit; on a terminal what the line above says already is left out."""
    for row in rows:
        for place, limit in enumerate(row["limits"] or [{}]):
            yield {**(row if place == 0 or not is_terminal() else dict.fromkeys(row)), "of": limit}


PACKAGE = [
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
