"""Handlers of the API about re-rating: its jobs, asking for one, applying it, giving it up."""

from __future__ import annotations

import hashlib

import msgspec

from rater.admin.job_answers import AskedJob, JobClient, JobDetails, JobList, JobRun, JobTransaction
from rater.admin.office import Call, Office, now_ms
from rater.admin.problems import wrong
from rater.admin.reading import between, page
from rater.admin.requests import RerateBody
from rater.admin.rerate_files import Asked, Folder, RunFolder
from rater.admin.telling import instant, job_row
from rater.core.instants import rfc3339
from rater.readmodel import asked as asking

ROWS_SHOWN = 100


async def rerate_jobs(call: Call) -> JobList:
    """List re-rating jobs."""
    found = await call.office.model.jobs(asking.Jobs(open=call.query.open), page(call.query))
    return JobList(
        rows=list(map(job_row, found.rows)), next=found.next, previous=found.previous, total=found.total,
        asked=[asked_job(asked, folder) for asked, folder in call.office.rerates.jobs()],
    )  # fmt: skip


async def rerate_job(call: Call) -> JobDetails:
    """Show a re-rating job."""
    return details_of(call.office, call.path["id"], call.query.rows)


async def rerate(call: Call) -> JobDetails:
    """Begin a re-rating job: a dry run is its preview, which goes on meanwhile."""
    asked = asked_of(call.body, job_of(call.key), call.user.name)
    await call.office.rerates.ask(asked, applies=not call.query.dry_run)
    return details_of(call.office, asked.job)


async def apply_rerate(call: Call) -> JobDetails:
    """Have published what a job changes, or go on with that."""
    await call.office.rerates.go_on(call.path["id"], "apply", dry_run=call.query.dry_run)
    return details_of(call.office, call.path["id"])


async def give_up_rerate(call: Call) -> JobDetails:
    """End a job at the clients where it has begun; what it has published stays."""
    await call.office.rerates.go_on(call.path["id"], "give_up", dry_run=call.query.dry_run)
    return details_of(call.office, call.path["id"])


def job_of(key: str) -> str:
    """Return the id of the job that a key asks for."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def asked_of(body: RerateBody, job: str, by: str) -> Asked:
    """Return what is asked. Raises Problem, which names the field."""
    if body.all == bool(body.clients):
        raise wrong("clients", "give clients, or all; not both")
    start, stop = between("from", body.from_), between("to", body.to)
    if start is None or stop is None:
        raise wrong("to" if start is not None else "from", "is empty; calls are chosen by their times")
    if start >= stop:
        raise wrong("to", f"{body.to} is not after {body.from_}; change one of them")
    clients = None if body.all else tuple(sorted(set(body.clients)))
    return Asked(
        job=job, by=by, at_ms=now_ms(), clients=clients, from_ms=start, to_ms=stop, code=body.code,
        reason=body.reason,
    )  # fmt: skip


def asked_job(asked: Asked, folder: Folder) -> AskedJob:
    """Return a job as lists tell it."""
    last = folder.last()
    now = last.progress()
    return AskedJob(
        job=asked.job, state=folder.state(), by=asked.by, asked=rfc3339(asked.at_ms),
        clients=None if asked.clients is None else list(asked.clients), from_=str(instant(asked.from_ms)),
        to=str(instant(asked.to_ms)), code=asked.code, reason=asked.reason, read=now.read, of=now.of,
        clients_done=now.clients, changed=now.changed, said=last.said(),
    )  # fmt: skip


def details_of(office: Office, job: str, rows: int = ROWS_SHOWN) -> JobDetails:
    """Return a job with what its runs found. Raises Problem where there is none."""
    asked, folder = office.rerates.job(job)
    return JobDetails(
        job=asked_job(asked, folder), preview=_run(folder.run("preview"), rows),
        applied=_run(folder.run("apply"), rows),
    )  # fmt: skip


def _run(of: RunFolder, rows: int) -> JobRun | None:
    if not of.is_there():
        return None
    found = of.found()
    if found is None:
        return JobRun(found=None, clients=[], transactions=[])
    return JobRun(
        found=found, clients=msgspec.convert(of.rows("clients", 0, rows), list[JobClient]),
        transactions=msgspec.convert(of.rows("transactions", 0, rows), list[JobTransaction]),
    )  # fmt: skip
