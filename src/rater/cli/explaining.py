"""Commands that say why: explain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli.options import READABLE, Failed, invocation, run, settings_options
from rater.cli.printing import print_json, progress, say, shown_line

if TYPE_CHECKING:
    from rater.config import Settings

# Imports inside of functions: `rater --help` must not wait for Kafka's client library.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

Rows = list[dict[str, Any]]


@click.command()
@click.argument("asked", metavar="ID", required=False)
@click.option("--file", "file", type=READABLE, help="A CDR (JSON): what would come of it. Nothing changes.")
@settings_options(prints=True)
def explain(asked: str | None, file: str | None) -> None:
    """Say why a transaction is what it is, or what would come of a call.

    ID is a transaction's id, or SOURCE/CDR: both sides of a call. Told are whose call it is, the rate, the
    limits in their order with what each gave or why it was passed over, and the arithmetic. It is as it was:
    by the catalog of then, and by the journal, which is read up to there.

    \b
    Examples:
      rater explain fs1/fs1-5f1c
      rater explain cp/3/4/subscription_fee --json
      rater explain --file call.json
    """
    if (asked is None) == (file is None):
        raise click.UsageError("give a transaction's id or SOURCE/CDR, or --file CDR.json")
    settings = invocation().settings()
    if file is not None:
        rows = run(_what_if(settings, Path(file).read_bytes()), settings)
    else:
        with progress(f"reading {settings.topic('transactions')}", None) as passed:
            rows = run(_past(settings, str(asked), passed), settings)
    for place, row in enumerate(rows):
        if invocation().json:
            print_json(row)
        else:
            _print(row, is_first=not place)


def _print(row: dict[str, Any], *, is_first: bool) -> None:
    from rater.core.explaining.telling import in_words

    if not is_first:
        click.echo()
    for line in in_words(row):
        click.echo(shown_line(line))


async def _what_if(settings: Settings, raw: bytes) -> Rows:
    from rater.app import connections
    from rater.queries.explained import what_if

    async with connections(settings) as at:
        return await what_if(at, raw.strip())


async def _past(settings: Settings, asked: str, passed: Callable[[float], None]) -> Rows:
    from rater.app import connections
    from rater.core.kinds import TransactionType
    from rater.queries.explained import explained, find
    from rater.source_maps import open_maps

    maps, _ = open_maps(settings.sources)  # where one is at fault, what named the client is not known
    async with connections(settings) as at:
        found = await find(at, asked, passed)
        if not found:
            raise Failed(
                f"there is no transaction {asked}, and no call of this source and id that was rated; see "
                "rater transactions, or rater rejected list where it may have been refused"
            )
        calls = [one for one in found if one.transaction["type"] == TransactionType.USAGE]
        if len(calls) == 1 and calls[0].transaction["id"] != asked:
            say(f"published was side {calls[0].transaction['side']} alone, or the other one at another time")
        return await explained(at, found, maps, passed)
