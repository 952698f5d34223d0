"""Numbers: giving one to an account, and taking it back."""

from __future__ import annotations

from typing import Any

from rater.admin.office import FRESH_S, Moved, Shown, Visit
from rater.admin.orders import Done, Writing, new_key
from rater.admin.pages.client_packages import balance_told
from rater.admin.problems import Problem
from rater.admin.shown import query
from rater.queries.clients import NotThereError, state_of
from rater.queries.dids import holder_of

_FIELDS = ("number", "account", "client", "reason")


async def assign_form(visit: Visit) -> Shown:
    """Show the form; with `preview`, also what it would do. client: whose accounts may be chosen."""
    values = {name: visit.query.get(name, "").strip() for name in _FIELDS}
    if "preview" not in visit.query:
        return await _assign_page(visit, values)
    try:
        done = await _assign(visit, values, Writing(visit.user, new_key(), dry_run=True))
    except (Problem, NotThereError) as error:
        return await _assign_page(visit, values, problem=error)
    return await _assign_page(visit, values, done=done)


async def assign(visit: Visit) -> Shown | Moved:
    """Give the number to the account."""
    values = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    writing = Writing(visit.user, visit.form.get("key") or new_key(), values["reason"])
    try:
        done = await _assign(visit, values, writing)
    except (Problem, NotThereError) as error:
        return await _assign_page(visit, values, problem=error)
    await visit.office.model.wait_until_now(FRESH_S)
    number = values["number"].removeprefix("+")
    notice = f"{number} is held by {values['account']}" + balance_told(done)
    return Moved("/dids" + query({"number": number}), notice)


async def _assign(visit: Visit, values: dict[str, str], writing: Writing) -> Done:
    for name in ("number", "account"):
        if not values[name]:
            raise Problem(422, f"{name}: is empty; write one")
    return await visit.office.orders.assign_did(values["number"], values["account"], writing)


async def _assign_page(
    visit: Visit, values: dict[str, str], done: Done | None = None, problem: Exception | None = None
) -> Shown:
    client = done.client if done is not None else values["client"]
    held = (await state_of(visit.office.at.store, client)).state if client else None
    told = {
        "values": values, "client": held, "done": done, "key": new_key(),
        "problem": None if problem is None else str(problem),
    }  # fmt: skip
    return Shown("did_assign.html", told, 200 if problem is None else getattr(problem, "status", 404))


async def look(visit: Visit) -> Shown:
    """Show what taking a number back would do."""
    writing = Writing(visit.user, new_key(), dry_run=True)
    try:
        done = await visit.office.orders.release_did(visit.path["number"], writing)
    except Problem as problem:
        return await _release_page(visit, None, problem)
    return await _release_page(visit, done)


async def release(visit: Visit) -> Shown | Moved:
    """Take the number back."""
    number, form = visit.path["number"], visit.form
    writing = Writing(visit.user, form.get("key") or new_key(), form.get("reason", "").strip())
    try:
        done = await visit.office.orders.release_did(number, writing)
    except Problem as problem:
        return await _release_page(visit, None, problem)
    await visit.office.model.wait_until_now(FRESH_S)
    return Moved("/dids" + query({"number": number}), f"{number} is free" + balance_told(done))


async def _release_page(visit: Visit, done: Done | None, problem: Problem | None = None) -> Shown:
    number, store = visit.path["number"], visit.office.at.store
    held = await state_of(store, done.client if done is not None else await holder_of(store, number))
    told: dict[str, Any] = {
        "number": number, "client": held.state, "done": done, "key": new_key(),
        "problem": None if problem is None else problem.details,
    }  # fmt: skip
    return Shown("did_release.html", told, 200 if problem is None else problem.status)
