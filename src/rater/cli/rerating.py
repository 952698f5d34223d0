"""The command that rates calls again: rerate."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import click

from rater.cli.options import FAILED, WrongInput, invocation, run, settings_options
from rater.cli.printing import Column, Row, column, print_json, print_rows, say, shares
from rater.cli.times import MOMENT, shown_time

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.jobs.rerate import Job as Rerate
    from rater.jobs.rerate import Summary

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.command()
@click.option("--client", "clients", metavar="ID", multiple=True, help="Calls of this client; several times.")
@click.option("--all", "is_all", is_flag=True, help="Calls of all clients.")
@click.option("--from", "start", type=MOMENT, help="Calls of this moment or later: RFC 3339, a date, 7d ago.")
@click.option("--to", "stop", type=MOMENT, help="Calls before this moment.")
@click.option("--code", metavar="PREFIX", default="", help="Calls whose code begins so.")
@click.option("--apply", "applies", is_flag=True, help="Publish what changes; without it: show it.")
@click.option("--job", metavar="ID", help="Resume the job of this id; made when missing.")
@click.option("--give-up", "gives_up", is_flag=True, help="End the job of --job where it has begun.")
@settings_options(prints=True)
def rerate(
    clients: tuple[str, ...], start: int | None, stop: int | None, code: str, job: str | None, *,
    is_all: bool, applies: bool, gives_up: bool,
) -> int:  # fmt: skip
    """Rate calls again: show what changes, or have it published.

    The draws of the selected calls are taken back, and they are rated in the order of their times by the
    catalog of now. Of a call that changes a reversal and a successor are published. Calls go on meanwhile. A
    job that was killed is resumed by its id; run again it changes nothing.

    \b
    Examples:
      rater rerate --client 42 --from 2026-11-01 --to 2026-12-01
      rater rerate --client 42 --from 2026-11-01 --to 2026-12-01 --apply
      rater rerate --all --from 2026-11-01 --to 2026-12-01 --code 380 --apply --job november
      rater rerate --all --job november --give-up
    """
    if is_all == bool(clients):
        raise WrongInput("give --client ID, once or several times, or --all")
    if job is not None and not (0 < len(job) <= JOB_CHARS_MAX and job.isprintable()):
        raise WrongInput(f"--job {job!r}: write 1 to {JOB_CHARS_MAX} characters that can be seen")
    settings, named = invocation().settings(), None if is_all else frozenset(clients)
    if gives_up:
        if job is None:
            raise WrongInput("--give-up needs --job ID: which job to end")
        return run(_give_up(settings, named, job), settings)
    if start is None or stop is None or start >= stop:
        raise WrongInput("give --from and --to, the later one second: which calls, by their times")
    if code and not code.isdecimal():
        raise WrongInput(f"--code {code!r}: write the digits that codes begin with")
    from rater.core.rerating.client import Window
    from rater.jobs.rerate_reading import Selection

    selection = Selection(named, Window(start, stop), code)
    work = _rerate(settings, selection, job or uuid.uuid4().hex[:12], applies=applies)
    return run(work, settings)


JOB_CHARS_MAX = 64


async def _rerate(settings: Settings, selection: Any, job_id: str, *, applies: bool) -> int:
    from rater.app import rerating, spare_collector
    from rater.jobs.rerate import Job

    run_id = f"{job_id}/{uuid.uuid4().hex[:12]}"
    async with rerating(settings, run_id, say, applies=applies) as (sources, commands):
        await _refuse_unknown(sources, selection.clients)
        spare_collector()
        job = Job(sources, selection, job_id)
        try:
            if applies:
                say(f"job {job_id}; resume it by --job {job_id}")
            began = time.monotonic()
            with shares("reading the journal") as told:
                await job.run(told, commands)
            _print(job)
            return _sum_up(job.summary, selection, time.monotonic() - began)
        finally:
            job.close()


async def _refuse_unknown(sources: Any, clients: frozenset[str] | None) -> None:
    """Raise WrongInput where a client is named that there is not."""
    from rater.jobs.rerate_clients import unknown

    missing = await unknown(sources, clients)
    if missing:
        raise WrongInput(
            *(
                f"--client {name!r}: there is no such client; `rater clients list` shows those that there are"
                for name in missing
            )
        )


def _print(job: Rerate) -> None:
    from rater.jobs.rerate_telling import client_row, transaction_row

    as_json = invocation().json
    print_rows(map(client_row, job.clients()), CLIENT, as_json=as_json, nothing="there are no such calls")
    if as_json:
        for row in job.rows():
            print_json(transaction_row(row))
        summary = job.summary
        print_json({
            "job": summary.job, "clients": summary.clients, "calls": summary.calls,
            "changed": summary.changed, "applied": summary.applied,
        })  # fmt: skip
    elif job.summary.changed:
        click.echo()
        print_rows(map(transaction_row, job.rows()), TRANSACTION, as_json=False)


def _sum_up(summary: Summary, selection: Any, seconds: float) -> int:
    """Tell what was done, and what could not be; returns the exit code."""
    from rater.jobs.rerate_telling import notes

    did = "changed" if summary.applied else "would change; --apply publishes that"
    rate = round(summary.calls / seconds) if seconds > 0 else 0
    say(f"{summary.calls} calls of {summary.clients} clients, {rate} a second: {summary.changed} {did}")
    for sentence in notes(summary, selection.window):
        say(sentence)
    for sentence in summary.left:
        say(sentence)
    return FAILED if summary.left else 0


async def _give_up(settings: Settings, clients: frozenset[str] | None, job: str) -> int:
    from rater.app import rerating
    from rater.jobs.rerate_clients import give_up

    async with rerating(settings, f"{job}/{uuid.uuid4().hex[:12]}", say, applies=True) as (sources, commands):
        assert commands is not None  # noqa: S101 - it applies
        await _refuse_unknown(sources, clients)
        ended, left = await give_up(sources, clients, job, commands)
    say(f"job {job} is given up at {len(ended)} clients; what it has published stays")
    for sentence in left:
        say(sentence)
    return FAILED if left else 0


def _wider(row: Row) -> str:
    wider = row["wider"]
    return f"{shown_time(wider['from'])} to {shown_time(wider['to'])}" if isinstance(wider, dict) else ""


CLIENT = [
    column("client"),
    column("calls", right=True),
    column("changed", right=True),
    column("volume_before", right=True),
    column("volume_after", right=True),
    column("amount_before", right=True),
    column("amount_after", right=True),
    column("currency"),
    Column("wider", _wider),
]
TRANSACTION = [
    column("transaction"),
    column("revision", right=True),
    column("amount_before", right=True),
    column("amount_after", right=True),
]
