"""Sending rejected records again: what would be sent, and sending it."""

from __future__ import annotations

from typing import Any

from rater import app
from rater.admin.office import FRESH_S, Moved, Shown, Visit, moment_ms
from rater.admin.problems import wrong
from rater.admin.reading import topic_of
from rater.core.line.recycling import Choice
from rater.core.reasons import Reason
from rater.jobs.recycle import Report

_FIELDS = ("reason", "source", "since", "until", "late")


async def look(visit: Visit) -> Shown:
    """Show the form; with `preview`, also what would be sent again."""
    values = {name: visit.query.get(name, "").strip() for name in _FIELDS}
    report = await _recycle(visit, values, dry_run=True) if "preview" in visit.query else None
    return Shown("recycle.html", _told(visit, values, report))


async def recycle(visit: Visit) -> Moved:
    """Send again what was shown."""
    values = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    report = await _recycle(visit, values, dry_run=False)
    await visit.office.model.wait_until_now(FRESH_S)
    count = sum(report.sent.values())
    return Moved("/rejected", f"{count} {'record was' if count == 1 else 'records were'} sent again")


async def _recycle(visit: Visit, values: dict[str, str], *, dry_run: bool) -> Report:
    reason, late = values["reason"], bool(values["late"])
    if reason and reason not in set(Reason):
        raise wrong("reason", f"{reason}: there is no such reason")
    if reason == Reason.TOO_OLD and not late:
        raise wrong(
            "late", "calls that are too old are sent only where their ids are looked up: choose that too"
        )
    times = {}
    for name in ("since", "until"):
        try:
            times[name] = moment_ms(values[name])
        except ValueError as error:
            raise wrong(name, str(error)) from error
    topic = topic_of(visit.office, values["source"] or None)
    choice = Choice(Reason(reason) if reason else None, topic, times["since"], times["until"])
    return await app.recycle(visit.office.settings, choice, _passed, _passed, late=late, dry_run=dry_run)


def _passed(_: int, __: int) -> None:
    """Progress of what is read: nobody looks on."""


def _told(visit: Visit, values: dict[str, str], report: Report | None) -> dict[str, Any]:
    return {
        "values": values, "report": report, "reasons": [of.value for of in Reason],
        "names": list(visit.office.settings.all_sources()),
        "days": visit.office.settings.worker.duplicate_window_days,
    }  # fmt: skip
