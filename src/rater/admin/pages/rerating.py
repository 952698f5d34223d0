"""Rating calls again: asking for it, the difference before it is published, and how far a job is."""

from __future__ import annotations

import re
from typing import Any

from rater.admin.office import Moved, Shown, Visit
from rater.admin.orders import new_key
from rater.admin.pages.listing import Pager
from rater.admin.problems import Problem, wrong
from rater.admin.requests import RerateBody
from rater.admin.rerate_files import ROWS_KEPT, Run
from rater.admin.rerating import asked_job, asked_of, details_of, job_of
from rater.admin.shown import part
from rater.readmodel import asked as asking

_FIELDS = ("client", "all", "from", "to", "code", "reason")
_REFRESH_S = 2
_RUNS: dict[str, Run] = {"preview": "preview", "apply": "apply", "give-up": "give_up"}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?")
_FRACTION = re.compile(r"(\.0+)?Z$")
_DIGITS_MAX = 64


async def jobs(visit: Visit) -> Shown:
    """Re-rating jobs, the newest first: those that were asked for here, and all as the journal tells."""
    pager = Pager(visit, "/rerate-jobs", ("open",))
    is_open = pager.choice("open", ("yes", "no"))
    wanted = asking.Jobs(open=None if is_open is None else is_open == "yes")
    found = await visit.office.model.jobs(wanted, pager.page())
    asked = [asked_job(one, folder) for one, folder in visit.office.rerates.jobs()]
    return Shown(
        "rerate_jobs.html",
        {"found": found, "pager": pager.told(found), "asked": asked, "known": {one.job for one in asked}},
    )  # fmt: skip


async def form(visit: Visit) -> Shown:
    """Show the form; what others link to is filled in."""
    return _form_page({name: visit.query.get(name, "").strip() for name in _FIELDS})


async def ask(visit: Visit) -> Shown | Moved:
    """Begin the preview."""
    values = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    try:
        if values["code"] and not (values["code"].isascii() and values["code"].isdigit()):
            raise wrong("code", f"{values['code'][:80]}: write the digits that codes begin with")
        body = RerateBody(
            clients=[name for name in re.split(r"[,\s]+", values["client"]) if name], all=bool(values["all"]),
            from_=_instant(values["from"]), to=_instant(values["to"]), code=values["code"][:_DIGITS_MAX],
            reason=values["reason"][:1000],
        )  # fmt: skip
        asked = asked_of(body, job_of(visit.form.get("key") or new_key()), visit.user.name)
        await visit.office.rerates.ask(asked, applies=False)
    except Problem as problem:
        return _form_page(values, problem)
    return Moved(f"/rerate-jobs/{asked.job}")


async def job(visit: Visit) -> Shown:
    """Show a job: how far it is, and what it changes."""
    return _job_page(visit)


async def act(visit: Visit) -> Shown | Moved:
    """Apply a job, go on with it, or give it up."""
    run, of_id = _RUNS.get(visit.path["action"]), visit.path["id"]
    if run is None:
        raise Problem(404, f"there is nothing at {visit.url.partition('?')[0]}")
    try:
        await visit.office.rerates.go_on(of_id, run)
    except Problem as problem:
        return _job_page(visit, problem)
    return Moved(f"/rerate-jobs/{part(of_id)}")


def _instant(text: str) -> str:
    """Return a time of the form, which is UTC and has no zone, in RFC 3339; others as they are."""
    found = _TIME.fullmatch(text)
    return text if found is None else f"{found[1]}{found[2] or ':00'}Z"


def _form_page(values: dict[str, str], problem: Problem | None = None) -> Shown:
    shown = values | {name: _local(values[name]) for name in ("from", "to")}
    told = {
        "values": shown, "key": new_key(), "problem": None if problem is None else problem.details,
    }  # fmt: skip
    return Shown("rerate.html", told, 200 if problem is None else problem.status)


def _local(text: str) -> str:
    """Return an instant in UTC as the form takes it."""
    return f"{text}T00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else _FRACTION.sub("", text)


def _job_page(visit: Visit, problem: Problem | None = None) -> Shown:
    found = details_of(visit.office, visit.path["id"])
    goes_on = found.job.state in {"previewing", "applying", "giving up"}
    told: dict[str, Any] = {
        "job": found.job, "runs": [("apply", found.applied), ("preview", found.preview)], "kept": ROWS_KEPT,
        "refresh": _REFRESH_S if goes_on and problem is None else None, "buttons": _buttons(visit, found),
        "problem": None if problem is None else problem.details,
    }  # fmt: skip
    return Shown("rerate_job.html", told, 200 if problem is None else problem.status)


def _buttons(visit: Visit, found: Any) -> list[tuple[str, str]]:
    """Return (action, what its button says) of what can be done now, by this user."""
    if not visit.user.may("operate"):
        return []
    state, applied = found.job.state, found.applied is not None
    preview = found.preview.found if found.preview is not None else None
    match state:
        case "previewed" if preview is not None and preview.changed:
            return [("apply", "Apply it")]
        case "stopped" | "failed" | "not all done" if applied:
            return [("apply", "Go on"), ("give-up", "Give it up")]
        case "applying":
            return [("give-up", "Give it up")]
        case "stopped" | "failed":
            return [("preview", "Preview again")]
    return []
