"""Commands about what is sold: packages list, show, create, edit, disable, enable, archive, delete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli.client_packages import tell_page
from rater.cli.commanding import Writing, ask, told_if_missing, writing_options
from rater.cli.options import (
    FAILED,
    READABLE,
    WRONG_INPUT,
    invocation,
    page_options,
    run,
    settings_options,
)
from rater.cli.printing import Row, column, print_json, print_pairs, print_rows, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rater.config import Settings
    from rater.core.catalog.specs import Content
    from rater.core.catalog_files.fields import Fault
    from rater.core.catalog_files.package_changes import PackageChange
    from rater.jobs.load import Loaded
    from rater.jobs.packages import Edit, Planned
    from rater.queries.packages import PackageSummary, Told

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

_STATUSES = ("active", "disabled", "archived")


@click.group()
def packages() -> None:
    """What is sold: packages with their fees and limits."""


@packages.command("list")
@click.option("--reseller", metavar="ID", help="Of this reseller only.")
@click.option(
    "--status", "statuses", type=click.Choice([*_STATUSES, "all"]), multiple=True,
    help="May be given several times; without it: active.",
)  # fmt: skip
@click.option("--dynamic-tag", metavar="TAG", help="With this dynamic tag only.")
@click.option("--did-tag", metavar="TAG", help="That allow DIDs with this tag only.")
@page_options(100)
@settings_options(prints=True)
def packages_list(
    reseller: str | None, statuses: tuple[str, ...], dynamic_tag: str | None, did_tag: str | None, page: int,
    rows: int,
) -> None:  # fmt: skip
    """List packages of the catalog in force; fees are the sums of their rows.

    \b
    Examples:
      rater packages list
      rater packages list --reseller 7 --status all --rows 20 --page 2
    """
    from rater.queries import packages as queries

    settings = invocation().settings()
    chosen: Any = _STATUSES if "all" in statuses else statuses or ("active",)
    content = run(_content(settings), settings)
    wanted = queries.Wanted(statuses=chosen, reseller=reseller, dynamic_tag=dynamic_tag, did_tag=did_tag)
    found = [] if content is None else queries.packages(content, wanted)
    shown = found[(page - 1) * rows : page * rows] if rows else found
    nothing = "there is no such package; --status all looks at disabled and archived ones too"
    print_rows(
        map(_row, shown), _PACKAGE, as_json=invocation().json,
        nothing=nothing if not found else f"there is no page {page}",
    )  # fmt: skip
    tell_page(page, rows, len(found))


async def _content(settings: Settings) -> Content | None:
    from rater import app
    from rater.queries import catalog

    found = await catalog.in_force(
        app.kafka_client(settings), app.topics_of(settings), app.catalogs_of(settings)
    )
    return None if found is None else found[1]


def _row(package: PackageSummary) -> Row:
    return {name: getattr(package, name) for name in package.__struct_fields__}


_PACKAGE = [
    column("id"), column("status"), column("name"), column("activation fee", "activation_fee", right=True),
    column("subscription fee", "subscription_fee", right=True), column("currency"), column("period"),
    column("reseller"),
]  # fmt: skip


@packages.command("show")
@click.argument("of_id", metavar="ID")
@settings_options(prints=True)
def packages_show(of_id: str) -> None:
    """Show one package, with all its settings and the history of its status.

    Volumes of limits are in counting units (seconds, pieces, KiB).

    \b
    Example:
      rater packages show 1
    """
    from rater.queries import packages as queries
    from rater.queries.clients import NotThereError

    settings = invocation().settings()
    content = run(_content(settings), settings)
    found = None if content is None else queries.told(content, of_id)
    with told_if_missing():
        if found is None:
            raise NotThereError("package", of_id)
    row = _whole(found)
    if invocation().json:
        print_json(row)
        return
    print_pairs(_pairs(row))


def _whole(found: Told) -> Row:
    """Return a package as catalog files name its fields."""
    import msgspec

    from rater.core.amounts import format_micros

    spec = found.package
    row = {name: msgspec.to_builtins(getattr(spec, name)) for name in spec.__struct_fields__}
    row["limits"] = [
        {
            name: format_micros(limit.limit) if name == "limit" and limit.type == "money" else value
            for name in limit.__struct_fields__
            if (value := getattr(limit, name)) not in (None, [], 0)
        }
        for limit in spec.limits
    ]
    statuses = [{"since": since, "status": status} for since, status in found.statuses]
    return {**row, "statuses": statuses, "versions": found.versions}


def _pairs(row: Row) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        if isinstance(value, list):
            for place, one in enumerate(value):
                yield name.replace("_", " ") if place == 0 else "", _members(one)
        elif value not in (None, ""):
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            yield name.replace("_", " "), text


def _members(one: Row) -> str:
    """Return a fee, a limit … on one line."""
    told = {key: ", ".join(text) if isinstance(text, list) else text for key, text in one.items()}
    return "; ".join(f"{key} {text}" for key, text in told.items() if text not in (None, ""))


# ------------------------------------------------------------------------------------------------ changing
_FILE = click.option(
    "--file", "path", type=READABLE, required=True,
    help="A package as in a catalog file, or a list of them: YAML, or JSON (.json).",
)  # fmt: skip


@packages.command("create")
@_FILE
@writing_options()
@settings_options(prints=True)
def packages_create(path: str, writing: Writing) -> int:
    """Create packages from a file; an id that is there is refused.

    \b
    Example:
      rater packages create --file kiev-100.yaml --dry-run
    """
    return _put(path, writing, new=True)


@packages.command("edit")
@_FILE
@writing_options()
@settings_options(prints=True)
def packages_edit(path: str, writing: Writing) -> int:
    """Bring packages to what a file says of them; an id that is not there is refused.

    What the file leaves out gets its default, but for the status. Periods that are open keep what they opened
    with: fees, limits and the period's length change with the next one.

    \b
    Example:
      rater packages edit --file kiev-100.yaml --reason "ticket 512"
    """
    return _put(path, writing, new=False)


def _put(path: str, writing: Writing, *, new: bool) -> int:
    def made(content: Content | None) -> Edit:
        from rater.jobs.packages import put

        return put(Path(path), content, new=new)

    return _carry_out(made, writing)


def _set_status(of_id: str, status: Any, writing: Writing) -> int:
    def made(_: Content | None) -> Edit:
        from rater.jobs.packages import status_edit

        return status_edit(of_id, status)

    return _carry_out(made, writing, of_id)


@packages.command("disable")
@click.argument("of_id", metavar="ID")
@writing_options()
@settings_options(prints=True)
def packages_disable(of_id: str, writing: Writing) -> int:
    """Disable a package: it is neither assigned nor activated nor renewed, and its limits are not used.

    \b
    Example:
      rater packages disable 1 --reason "ticket 512"
    """
    return _set_status(of_id, "disabled", writing)


@packages.command("enable")
@click.argument("of_id", metavar="ID")
@writing_options()
@settings_options(prints=True)
def packages_enable(of_id: str, writing: Writing) -> int:
    """Enable a disabled package; what waited for that is tried again.

    \b
    Example:
      rater packages enable 1
    """
    return _set_status(of_id, "active", writing)


@packages.command("archive")
@click.argument("of_id", metavar="ID")
@writing_options(takes_away=True)
@settings_options(prints=True)
def packages_archive(of_id: str, writing: Writing) -> int:
    """Archive a package for good: what clients have of it now is cancelled.

    \b
    Example:
      rater packages archive 1
    """
    return _set_status(of_id, "archived", writing)


@packages.command("delete")
@click.argument("of_id", metavar="ID")
@writing_options(takes_away=True)
@settings_options(prints=True)
def packages_delete(of_id: str, writing: Writing) -> int:
    """Delete a package that no client ever had; its id is not given again.

    \b
    Example:
      rater packages delete 1
    """

    def made(_: Content | None) -> Edit:
        from rater.jobs.packages import deletion

        return deletion(of_id)

    return _carry_out(made, writing, of_id)


def _carry_out(made: Callable[[Content | None], Edit], writing: Writing, archived: str | None = None) -> int:
    """Show what an edit does where it is asked for, then load it; returns the exit code.

    archived: the package of whose clients it is told when it is archived.
    """
    settings, expected = invocation().settings(), None
    if writing.is_dry_run or not writing.is_sure:
        plan = run(_planned(settings, made, writing), settings)
        if isinstance(plan, list):
            return _refused(plan)
        _show(settings, plan, archived, is_dry_run=writing.is_dry_run)
        if writing.is_dry_run:
            return 0
        if plan.changes:
            ask()
        expected = plan.version
    return run(_loaded(settings, made, writing, expected), settings)


async def _planned(
    settings: Settings, made: Callable[[Content | None], Edit], writing: Writing
) -> Planned | list[Fault]:
    from rater import app
    from rater.jobs.packages import planned

    async with app.loader(settings, say, actor=writing.actor) as loader:
        return await planned(loader, made((await loader.present()).content))


async def _loaded(
    settings: Settings, made: Callable[[Content | None], Edit], writing: Writing, expected: int | None
) -> int:
    """Load an edit; returns the exit code. expected: the version of the catalog that was looked at."""
    from rater import app
    from rater.jobs.packages import planned

    own = app.loader(settings, say, actor=writing.actor, reason=writing.reason, key=writing.key)
    async with own as loader:
        plan = await planned(loader, made((await loader.present()).content))
        if isinstance(plan, list):
            return _refused(plan)
        version = plan.version if expected is None else expected
        loaded = await loader.load_rows(plan.edit.rows, expected=version, do=plan.edit.do)
    if isinstance(loaded, list):
        return _refused(loaded)
    for change in plan.changes if loaded.changed else ():
        _print(change, is_dry_run=False)
    return _told(settings, loaded)


def _told(settings: Settings, loaded: Loaded) -> int:
    from rater.jobs.load import sentences

    for text in sentences(loaded, settings.topics.partitions):
        say(text)
    return FAILED if loaded.refused or not loaded.applied else 0


def _refused(faults: list[Fault]) -> int:
    from rater.jobs.load import sentences

    for text in sentences(faults, 0):
        say(text)
    return WRONG_INPUT


def _show(settings: Settings, plan: Planned, archived: str | None, *, is_dry_run: bool) -> None:
    """Show what an edit would do: as data where that is all that is asked for, else as talk."""
    for change in plan.changes:
        _print(change, is_dry_run=True, as_talk=not is_dry_run)
    for note in plan.notes:
        say(f"note: {note}")
    if not plan.changes:
        say(f"nothing to change: catalog {plan.version} says the same")
    elif archived is not None and plan.changes[0].after == "archived":
        with progress("reading clients", None) as passed:
            count = run(_held(settings, archived, passed), settings)
        say(f"client packages of it that are pending or active, and will be cancelled: {count}")


async def _held(settings: Settings, package: str, passed: Callable[[float], None]) -> int:
    """Return how many client packages of a package are pending or active."""
    from rater import app
    from rater.core.kinds import ClientPackageStatus
    from rater.queries import client_packages as queries

    present = frozenset({ClientPackageStatus.PENDING, ClientPackageStatus.ACTIVE})
    async with app.connections(settings) as at:
        wanted = queries.Wanted(package=package, statuses=present)
        found = await queries.page_of(at, wanted, time.time_ns() // 1_000_000, rows=1, page=1, passed=passed)
        return found.total


def _print(change: PackageChange, *, is_dry_run: bool, as_talk: bool = False) -> None:
    import msgspec

    fields = {
        name: {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}
        for name, (before, after) in change.fields.items()
    }
    row = {
        "package": change.id, "before": change.before, "after": change.after, "fields": fields,
        "dry_run": is_dry_run,
    }  # fmt: skip
    if invocation().json and not as_talk:
        print_json(row)
        return
    status = f"{change.before or 'new'} → {change.after or 'deleted'}"
    would = "would be: " if is_dry_run else ""
    click.echo(
        f"package {change.id}: {would}{status if change.before != change.after else change.after}",
        err=as_talk,
    )
    for name, of in fields.items():
        click.echo(f"  {name}: {_text(of['before'])} → {_text(of['after'])}", err=as_talk)


def _text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
