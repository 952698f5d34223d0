"""A package: its page, and its status."""

from __future__ import annotations

from typing import NamedTuple

from rater.admin.office import FRESH_S, Moved, Shown, Visit
from rater.admin.orders import PackageDone, Writing, new_key
from rater.admin.problems import Problem
from rater.admin.shown import part
from rater.core.catalog.specs import PackageHistory, Status
from rater.queries.clients import NotThereError


class Action(NamedTuple):
    """What can be done to a package. status: that it is to have; None: it is deleted."""

    status: Status | None
    title: str
    effect: str


ACTIONS = {
    "disable": Action(
        "disabled", "Disable",
        "It is neither assigned nor activated nor renewed, and its limits are not used. It can be enabled "
        "again.",
    ),
    "enable": Action("active", "Enable", "It can be assigned again; what waited for that is tried again."),
    "archive": Action(
        "archived", "Archive",
        "This is final: what clients have of it now is cancelled, and it cannot be assigned any more.",
    ),
    "delete": Action(
        None, "Delete", "This is possible while it was never assigned. Its id is not given again."
    ),
}  # fmt: skip


async def package(visit: Visit) -> Shown:
    """Show a package, with the history of its status."""
    history = await _history(visit)
    content = await visit.office.orders.content()
    reseller = content.resellers.get(history.latest.reseller or "")
    return Shown(
        "package.html",
        {
            "spec": history.latest, "history": history, "services": content.all_services(),
            "reseller": None if reseller is None else reseller.name, "actions": _fitting(visit, history),
        },
    )  # fmt: skip


def _fitting(visit: Visit, history: PackageHistory) -> list[tuple[str, Action]]:
    names = {"active": ["disable", "archive"], "disabled": ["enable", "archive"], "archived": []}
    found: list[str] = list(names[history.status])
    if not history.assigned:
        found.append("delete")
    return [(name, ACTIONS[name]) for name in found] if visit.user.may("administer") else []


async def look(visit: Visit) -> Shown:
    """Show what an action would do, before it is done."""
    action = _action(visit)
    try:
        done = await _carry_out(visit, action, Writing(visit.user, new_key(), dry_run=True))
    except Problem as problem:
        return await _page(visit, action, None, problem)
    return await _page(visit, action, done, None)


async def act(visit: Visit) -> Shown | Moved:
    """Do what was confirmed."""
    action = _action(visit)
    reason = visit.form.get("reason", "").strip()
    try:
        await _carry_out(visit, action, Writing(visit.user, visit.form.get("key") or new_key(), reason))
    except Problem as problem:
        return await _page(visit, action, None, problem)
    await visit.office.model.wait_until_now(FRESH_S)
    of_id = visit.path["id"]
    if action.status is None:
        return Moved("/packages", f"Package {of_id} is deleted")
    return Moved(f"/packages/{part(of_id)}", f"Package {of_id} is {action.status} now")


def _action(visit: Visit) -> Action:
    action = ACTIONS.get(visit.path["action"])
    if action is None:
        raise Problem(404, f"there is nothing at {visit.url.partition('?')[0]}")
    return action


async def _carry_out(visit: Visit, action: Action, writing: Writing) -> PackageDone:
    orders, of_id = visit.office.orders, visit.path["id"]
    if action.status is None:
        return await orders.delete(of_id, writing)
    return await orders.set_status(of_id, action.status, writing)


async def _page(visit: Visit, action: Action, done: PackageDone | None, problem: Problem | None) -> Shown:
    history = await _history(visit)
    told = {
        "spec": history.latest, "status": history.status, "action": action, "name": visit.path["action"],
        "done": done, "key": new_key(), "problem": None if problem is None else problem.details,
    }  # fmt: skip
    return Shown("package_action.html", told, 200 if problem is None else problem.status)


async def _history(visit: Visit) -> PackageHistory:
    content = await visit.office.orders.content()
    history = content.packages.get(visit.path["id"])
    if history is None or history.deleted:
        raise NotThereError("package", visit.path["id"])
    return history
