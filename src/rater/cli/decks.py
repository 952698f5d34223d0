"""Commands about carriers' decks: decks import."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli.options import FAILED, READABLE, WRONG_INPUT, WrongInput, invocation, run, settings_options
from rater.cli.printing import column, print_json, print_pairs, print_rows, say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.catalog.codes import Row
    from rater.core.catalog_files.fields import Fault
    from rater.core.decks.difference import Change
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
    profile = _profile(settings, profile_name, _columns(columns))
    return run(_import(settings, _asked(file, table, profile, effective), is_applied=is_applied), settings)


def _asked(file: str, table: str, profile: Profile, effective: str | None) -> Import:
    from rater.core.periods import canonical_when, when_ms, zone_of
    from rater.jobs.decks import Import

    try:
        since = None if effective is None else when_ms(canonical_when(effective), zone_of(profile.zone))
    except ValueError as error:
        raise WrongInput(f"--effective {effective}: {error}") from None
    return Import(Path(file), table, profile, since)


def _columns(text: str) -> dict[str, str]:
    """Return field → header or letter."""
    from rater.core.decks.words import FIELDS

    out: dict[str, str] = {}
    rest = text
    while rest.strip():
        found = _COLUMN.match(rest)
        if found is None or found[1] not in FIELDS:
            raise WrongInput(f"--columns {rest}: write FIELD=COLUMN; fields are {', '.join(FIELDS)}")
        out[found[1]] = found[2].strip().strip("\"'")
        rest = rest[found.end() :]
    return out


_COLUMN = re.compile(r"""\s*(\w+)\s*=(\s*"[^"]*"\s*|\s*'[^']*'\s*|[^,"']*)(?:,|$)""")


def _profile(settings: Settings, name: str | None, columns: Mapping[str, str]) -> Profile:
    """Return the profile of the settings with the columns that were given."""
    import difflib

    from msgspec.structs import replace

    from rater.core.decks.profile import Profile

    if name is None:
        return Profile(columns=dict(columns))
    if name not in settings.decks:
        near = difflib.get_close_matches(name, settings.decks, 1)
        there = ", ".join(settings.decks) or "none"
        hint = f"did you mean {near[0]}?" if near else f"there are {there}"
        raise WrongInput(
            f"--profile {name}: there is no such profile; {hint}; or add [decks.{name}] to the settings"
        )
    profile = settings.decks[name]
    return replace(profile, columns={**profile.columns, **columns})


async def _import(settings: Settings, asked: Import, *, is_applied: bool) -> int:
    from rater import app
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
    if as_json:
        for row in _rows(plan, plan.difference.changes):
            print_json(row)
        print_json({"summary": _summary(plan, profile), "notes": plan.notes + plan.load_notes})
        return
    print_pairs([(name, str(value)) for name, value in _summary(plan, profile).items() if name != "counts"])
    _show_counts(plan, profile)
    for kind in _listed(plan):
        from rater.core.decks.difference import named

        changes = list(named(plan.difference.changes, kind))
        click.echo(f"\n{kind}" + (f" (the first {SHOWN} of {len(changes)})" if len(changes) > SHOWN else ""))
        print_rows(_rows(plan, changes[:SHOWN]), _COLUMNS, as_json=False)
    for note in plan.notes:
        say(f"note: {note}")


def _summary(plan: Plan, profile: Profile) -> dict[str, Any]:
    header = plan.deck.header
    from rater.core.decks.cells import letters

    return {
        "table": plan.table.name + (" (new)" if plan.is_new else ""),
        "currency": plan.table.currency,
        "code_deck": plan.table.code_deck,
        "catalog": plan.version,
        "deck": profile.kind,
        "header_row": header.row,
        "columns": ", ".join(
            f"{name} {letters(at)} {header.titles.get(at, '')!r}" for name, at in header.columns.items()
        ),
        "codes": plan.codes,
        "counts": {name: count for name, count in sorted(plan.difference.counts.items()) if count}
        | ({"renamed": len(plan.renamed)} if plan.renamed else {}),
    }


def _show_counts(plan: Plan, profile: Profile) -> None:
    from rater.core.decks.difference import KINDS

    across = {
        "moved": f"prices that move by more than {profile.move_percent} percent",
        "doubtful": "the deck's status says something else than its price",
    }
    counts = {**plan.difference.counts, "renamed": len(plan.renamed)}
    told = {**KINDS, **across, "renamed": "codes whose name in the code deck changes"}
    click.echo()
    for kind, prose in told.items():
        if counts.get(kind):
            click.echo(f"{counts[kind]:>8}  {kind:<10} {prose}")


def _listed(plan: Plan) -> Iterator[str]:
    from rater.core.decks.difference import KINDS, SILENT

    for kind in ("moved", "doubtful", *KINDS):
        if kind not in SILENT and plan.difference.counts[kind]:
            yield kind


_COLUMNS = [
    column("code"), column("name"), column("from"), column("before", right=True), column("after", right=True),
    column("terms"), column("falls to", "falls_to"), column("place"),
]  # fmt: skip


def _rows(plan: Plan, changes: list[Change]) -> Iterator[dict[str, Any]]:
    from rater.core.amounts import format_e10
    from rater.core.instants import rfc3339

    for change in changes:
        yield {
            "change": change.kind,
            "code": change.code,
            "name": plan.names.get(change.code, change.name),
            "from": None if change.from_ms is None else rfc3339(change.from_ms)[:19] + "Z",
            "before": None if change.before is None else format_e10(change.before.price_e10),
            "after": None if change.after is None else format_e10(change.after.price_e10),
            "terms": _terms(change.before, change.after),
            "moved": change.moved,
            "doubtful": change.doubt,
            "falls_to": change.falls_to,
            "place": plan.deck.place(change.row),
        }


def _terms(before: Row | None, after: Row | None) -> str | None:
    """Return fee and increment, `0.05 + 60/1`; of a change both."""
    from rater.core.amounts import format_e10

    told = [
        f"{format_e10(row.setup_fee_e10)} + {row.min_time}/{row.interval}" if row is not None else None
        for row in (before, after)
    ]
    if told[0] is not None and told[1] is not None and told[0] != told[1]:
        return f"{told[0]} → {told[1]}"
    return told[1] or told[0]
