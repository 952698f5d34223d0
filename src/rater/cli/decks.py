"""Commands about carriers' decks: decks import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli.options import FAILED, READABLE, WRONG_INPUT, WrongInput, invocation, run, settings_options
from rater.cli.printing import column, print_json, print_pairs, print_rows, say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.catalog_files.fields import Fault
    from rater.core.decks.planning import Plan
    from rater.core.decks.profile import Profile
    from rater.jobs.decks import Import

# Imports inside of functions: `rater --help` must not wait for Kafka's and Redis's client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

SHOWN = 20
"""Changes of a kind that people are shown; programs get all of them (--json)."""
FAULTS_SHOWN = 50


@click.group()
def decks() -> None:
    """Carriers' rate decks."""


@decks.command("import")
@click.argument("file", type=READABLE)
@click.option("--table", required=True, metavar="NAME", help="The rate table that takes the rates.")
@click.option(
    "--profile", "profile_name", metavar="P", help="How this carrier writes decks: [decks.P] of the settings."
)
@click.option(
    "--columns", metavar="FIELD=COLUMN,…", default="",
    help='Columns by header or letter: code=A,price="Rate per min". Nothing behind =: it is not read.',
)  # fmt: skip
@click.option("--effective", metavar="DATE", help="From when rows hold that do not say it; else from now on.")
@click.option("--apply", "is_applied", is_flag=True, help="Load it. Without it nothing is changed.")
@settings_options(prints=True)
def decks_import(
    file: str, table: str, profile_name: str | None, columns: str, effective: str | None, *, is_applied: bool
) -> int:
    """Import a carrier's rate deck: show what it changes in a rate table; with --apply load it.

    FILE is a workbook (.xlsx) or text (commas, semicolons, tabs, bars; UTF-8, UTF-16, Windows-1252), also as
    .gz or .zip. The header row is found by its words. Every fault is named with sheet, row and value; then
    nothing is changed.

    \b
    Examples:
      rater decks import acme.xlsx --table acme --profile acme
      rater decks import notice.csv --table acme --columns "code=Dial Code,price=D" --effective 2026-12-01
      rater decks import acme.xlsx --table acme --profile acme --apply
    """
    settings = invocation().settings()
    profile = _profile(settings, profile_name, columns)
    return run(_import(settings, _asked(file, table, profile, effective), is_applied=is_applied), settings)


def _asked(file: str, table: str, profile: Profile, effective: str | None) -> Import:
    from rater.core.decks.profile import effective_ms
    from rater.jobs.decks import Import

    try:
        since = effective_ms(effective, profile)
    except ValueError as error:
        raise WrongInput(f"--effective {effective}: {error}") from None
    return Import(file, table, profile, since)


def _profile(settings: Settings, name: str | None, columns: str) -> Profile:
    """Return the profile of the settings with the columns that were given."""
    from rater.core.decks.profile import chosen, columns_of

    try:
        named = columns_of(columns)
    except ValueError as error:
        raise WrongInput(f"--columns {error}") from None
    try:
        return chosen(settings.decks, name, named)
    except ValueError as error:
        raise WrongInput(f"--profile {error}") from None


async def _import(settings: Settings, asked: Import, *, is_applied: bool) -> int:
    from rater import app
    from rater.core.decks.telling import reason
    from rater.jobs.decks import planned
    from rater.jobs.load import sentences

    async with app.loader(settings, say) as loader:
        plan = await planned(loader, asked)
        if isinstance(plan, list):
            return _refused(plan)
        _show(plan, asked.profile, as_json=invocation().json)
        if not is_applied:
            for note in () if invocation().json else plan.load_notes:
                say(f"note: {note}")
            say("nothing was changed; with --apply it is loaded")
            return 0
        loader.reason = reason(plan, Path(asked.file).name)
        rows, version = plan.rows(), plan.version
        del plan  # two catalogs, each of a million rows perhaps, are in memory from now on
        loaded = await loader.load_rows(rows, expected=version)
    if isinstance(loaded, list):
        return _refused(loaded)
    for text in sentences(loaded, settings.topics.partitions):
        say(text)
    return FAILED if loaded.refused or not loaded.applied else 0


def _refused(faults: list[Fault]) -> int:
    for fault in faults[:FAULTS_SHOWN]:
        say(str(fault))
    if len(faults) > FAULTS_SHOWN:
        say(f"and {len(faults) - FAULTS_SHOWN} more")
    say(f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}: nothing was changed")
    return WRONG_INPUT


def _show(plan: Plan, profile: Profile, *, as_json: bool) -> None:
    """Show the difference: all of it as JSON, else the counts and the first changes of each kind."""
    from rater.core.decks.difference import named
    from rater.core.decks.telling import listed, rows, summary

    told = summary(plan, profile)
    if as_json:
        for row in rows(plan, plan.difference.changes):
            print_json(row)
        print_json({"summary": told, "notes": plan.notes + plan.load_notes})
        return
    print_pairs([(name, str(value)) for name, value in told.items() if name != "counts"])
    _show_counts(plan, profile)
    for kind in listed(plan):
        changes = list(named(plan.difference.changes, kind))
        click.echo(f"\n{kind}" + (f" (the first {SHOWN} of {len(changes)})" if len(changes) > SHOWN else ""))
        print_rows(rows(plan, changes[:SHOWN]), _COLUMNS, as_json=False)
    for note in plan.notes:
        say(f"note: {note}")


def _show_counts(plan: Plan, profile: Profile) -> None:
    from rater.core.decks.telling import counts, meanings

    found = counts(plan)
    click.echo()
    for kind, prose in meanings(profile).items():
        if found.get(kind):
            click.echo(f"{found[kind]:>8}  {kind:<10} {prose}")


_COLUMNS = [
    column("code"), column("name"), column("from"), column("before", right=True), column("after", right=True),
    column("terms"), column("falls to", "falls_to"), column("place"),
]  # fmt: skip
