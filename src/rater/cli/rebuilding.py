"""The command that brings Redis back: rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.options import invocation, run, settings_options
from rater.cli.printing import print_json, say, shares

if TYPE_CHECKING:
    from rater.config import Settings

# Imports inside of functions: `rater --help` must not wait for Kafka's and Redis's client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.command()
@click.option("--check", "checks", is_flag=True, help="Change nothing: print the digest of what Redis holds.")
@settings_options(prints=True)
def rebuild(*, checks: bool) -> int:
    """Bring all of Redis back from snapshots and the journal, with nobody rating meanwhile.

    Workers that find Redis empty do the same by themselves. The digest of --check is of all clients:
    packages, balances, counters, accounts. Two states of a store that rests are equal if their digests are.

    \b
    Examples:
      rater --config rater.toml rebuild --check
      rater --config rater.toml rebuild
    """
    settings, as_json = invocation().settings(), invocation().json
    work = _check if checks else _rebuild
    return run(work(settings, as_json=as_json), settings)


async def _check(settings: Settings, *, as_json: bool) -> int:
    from rater import app

    found = await app.digest_of(settings)
    if as_json:
        print_json({"clients": found.clients, "digest": found.text})
    else:
        click.echo(f"{found.clients} clients, digest {found.text}")
    return 0


async def _rebuild(settings: Settings, *, as_json: bool) -> int:
    from rater import app

    with shares("reading the journal") as told:
        done = await app.rebuild(settings, told)
    if as_json:
        print_json({"lanes": done.lanes, "records": done.records, "seconds": round(done.seconds, 3)})
    say(f"{done.lanes} lanes brought to the journal, {done.records} records of it, in {done.seconds:.1f} s")
    return 0
