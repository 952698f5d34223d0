"""Sending rejected records again: recycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.options import FAILED, WrongInput, find_source, invocation, run, settings_options
from rater.cli.printing import print_json, say, shares, told_known
from rater.cli.topics import SINCE, UNTIL, reason_of

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.line.recycling import Choice
    from rater.jobs.recycle import Report

# Imports inside of functions: `rater --help` must not wait for Kafka's client library.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.command()
@click.option("--reason", metavar="REASON", help="Of this reason only, for example rate_missing.")
@click.option("--source", "name", metavar="NAME", help="Of this source of the settings only, or `default`.")
@SINCE
@UNTIL
@click.option(
    "--late", is_flag=True,
    help="Calls older than the duplicate window, too: ids are looked up in the journal first.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Tell what would be sent, and send nothing.")
@settings_options(prints=True)
def recycle(
    reason: str | None, name: str | None, since: int | None, until: int | None, *, late: bool, dry_run: bool
) -> int:
    """Send rejected records again, each once, as they came, to where they came from.

    For when the cause is mended: a rate was added, a client loaded. Sides that were rated are duplicates.
    What was sent again is noted, so the same command once more sends only what was rejected again. Calls
    older than `worker.duplicate_window_days` are not sent without --late: exit code 1. Times of --since and
    --until are those of rejecting.

    \b
    Examples:
      rater recycle --reason rate_missing --dry-run
      rater recycle --reason rate_missing --source pbx1 --since 7d
      rater recycle --reason too_old --late
    """
    settings = invocation().settings()
    wanted = reason_of(reason)
    if wanted == "too_old" and not late:
        raise WrongInput(
            "--reason too_old: these calls are older than worker.duplicate_window_days; add --late, which "
            "looks them up in the journal first"
        )
    from rater.core.line.recycling import Choice

    topic = find_source(settings, name).topic if name is not None else None
    choice = Choice(wanted, topic, since, until)
    report = run(_recycle(settings, choice, late=late, dry_run=dry_run), settings)
    _tell(report, settings, dry_run=dry_run)
    return FAILED if report.older or report.homeless else 0


async def _recycle(settings: Settings, choice: Choice, *, late: bool, dry_run: bool) -> Report:
    from rater import app

    with shares(f"reading {settings.topic('rejected')}") as passed, shares("reading the journal") as looked:
        return await app.recycle(settings, choice, passed, looked, late=late, dry_run=dry_run)


def _tell(report: Report, settings: Settings, *, dry_run: bool) -> None:
    if invocation().json:
        print_json({
            "sent": dict(report.sent), "dry_run": dry_run, "done": report.done,
            "too_old": report.older, "known": report.known, "topics_without_source": dict(report.homeless),
            "taken_back": report.taken_back,
        })  # fmt: skip
    else:
        would = "would be sent" if dry_run else "sent"
        for reason, number in sorted(report.sent.items()):
            click.echo(f"{reason}: {number} {'record' if number == 1 else 'records'} {would} again")
        if not report.sent:
            click.echo(f"nothing {would} again")
    if report.known:
        say(told_known(report.known))
    if report.older:
        days = settings.worker.duplicate_window_days
        say(
            f"{report.older} calls are older than {days} days, the duplicate window, and were not sent; "
            "--late looks them up in the journal and sends what it does not have"
        )
    if report.taken_back:
        say(
            f"{report.taken_back} {'side was' if report.taken_back == 1 else 'sides were'} taken back by a "
            "re-rating: `rater rerate` rates them again"
        )
    for topic, number in sorted(report.homeless.items()):
        say(
            f"{number} records came from {topic}, which no source of the settings reads: add one, or leave "
            "them"
        )
