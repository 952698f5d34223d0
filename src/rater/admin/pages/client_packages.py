"""A client package: its page, what can be done to it, and assigning one."""

from __future__ import annotations

from typing import Any, NamedTuple

from rater.admin.access import Notice, Role
from rater.admin.office import FRESH_S, Moved, Shown, Visit, now_ms
from rater.admin.orders import Done, Order, Writing, new_key
from rater.admin.problems import Problem, not_for
from rater.admin.shown import part, query
from rater.core.amounts import QUANTITY_MAX
from rater.core.commands.records import AssignArgs, ClientArgs, EndDateArgs, NoArgs
from rater.core.kinds import Do, EventType
from rater.queries import catalog as catalog_queries
from rater.queries.clients import state_of


class Action(NamedTuple):
    """What can be done to a client package. button: says it; effect: what it means, in a sentence."""

    do: Do
    title: str
    button: str
    effect: str
    role: Role = "operate"


ACTIONS = {
    "stop-now": Action(
        Do.STOP_NOW, "Stop now, with balance rollback", "Stop now",
        "It stops at the beginning of its present period: all that was charged for the period is given back, "
        "and calls that drew from it are to be rated again.",
    ),
    "stop-at-period-end": Action(
        Do.STOP_AT_PERIOD_END, "Stop at the period's end", "Stop at the end",
        "The present period runs to its end; then it does not renew. Nothing is given back.",
    ),
    "cancel": Action(
        Do.CANCEL, "Cancel", "Cancel it",
        "It closes at this moment. Nothing is given back; earlier calls still draw.",
    ),
    "remove": Action(
        Do.REMOVE, "Remove, with all transactions", "Remove it",
        "Every fee and refund of it is reversed, its draws are to be rated again, and it leaves all lists. "
        "Its id is not given again.", "administer",
    ),
    "end-date": Action(
        Do.EDIT_END_DATE, "Change the end date", "Change it",
        "The end date may be now or later. It may cut the present period, without a refund.",
    ),
    "invoice": Action(
        Do.INVOICE_PENDING_CHARGE, "Mark the pending charge for the invoice", "Mark it",
        "An event tells that this charge goes to the invoice. It still waits for funds.",
    ),
}  # fmt: skip


async def client_package(visit: Visit) -> Shown:
    """Show one: where it stands, its limits as bars, what it waits for, its history."""
    at, of_id = visit.office.at, visit.path["id"]
    use, periods = await visit.office.orders.shown(of_id, now_ms())
    held = await state_of(at.store, use.client)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    package = None if catalog is None else catalog.packages.get(use.package)
    return Shown(
        "client_package.html",
        {
            "use": use, "periods": periods, "client": held.state, "balance": held.balance,
            "spec": None if package is None else package.latest.spec, "actions": _fitting(visit, use),
            "stream": f"/streams/clients/{part(use.client)}",
        },
    )  # fmt: skip


def _fitting(visit: Visit, use: Any) -> list[tuple[str, Action]]:
    """Return the actions that a client package may have now, and this user may do."""
    if use.status == "archive":
        names = ["remove"]
    elif use.period is None:
        names = ["cancel", "end-date"]
    else:
        names = ["stop-now", "stop-at-period-end", "cancel", "end-date"]
    if use.pending is not None and not use.pending.invoiced:
        names.append("invoice")
    return [(name, ACTIONS[name]) for name in names if visit.user.may(ACTIONS[name].role)]


async def look(visit: Visit) -> Shown:
    """Show what an action would do, before it is done."""
    action, of_id = _action(visit), visit.path["id"]
    end_date = visit.query.get("end_date", "").strip()
    use, _ = await visit.office.orders.shown(of_id, now_ms())
    held = await state_of(visit.office.at.store, use.client)
    told: dict[str, Any] = {
        "use": use, "client": held.state, "action": action, "name": visit.path["action"],
        "end_date": end_date, "key": new_key(), "done": None, "problem": None,
        "reason": visit.query.get("reason", ""),
    }  # fmt: skip
    if action.do == Do.EDIT_END_DATE and "end_date" not in visit.query:
        return Shown("action.html", told)
    writing = Writing(visit.user, new_key(), dry_run=True)
    try:
        told["done"] = await _carry_out(visit, action, use.client, end_date, use.version or None, writing)
    except Problem as problem:
        told["problem"] = problem.details
        return Shown("action.html", told, problem.status)
    return Shown("action.html", told)


async def act(visit: Visit) -> Shown | Moved:
    """Do what was confirmed."""
    action, of_id, form = _action(visit), visit.path["id"], visit.form
    client = await visit.office.orders.holder(of_id)
    version = form.get("version", "")
    writing = Writing(visit.user, form.get("key") or new_key(), form.get("reason", "").strip())
    try:
        done = await _carry_out(
            visit,
            action,
            client,
            form.get("end_date", ""),
            int(version[:18]) or None if version.isdigit() else None,
            writing,
        )
    except Problem as problem:
        use, _ = await visit.office.orders.shown(of_id, now_ms())
        held = await state_of(visit.office.at.store, client)
        told = {
            "use": use, "client": held.state, "action": action, "name": visit.path["action"],
            "end_date": form.get("end_date", ""), "key": new_key(), "done": None, "problem": problem.details,
            "reason": form.get("reason", ""),
        }  # fmt: skip
        return Shown("action.html", told, problem.status)
    await visit.office.model.wait_until_now(FRESH_S)
    notice = f"{action.title}: done" + balance_told(done)
    if action.do == Do.REMOVE:
        return Moved(f"/clients/{part(client)}", offered(notice, done))
    return Moved(f"/client-packages/{part(of_id)}", offered(notice, done))


def _action(visit: Visit) -> Action:
    action = ACTIONS.get(visit.path["action"])
    if action is None:
        raise Problem(404, f"there is nothing at {visit.url.partition('?')[0]}")
    if not visit.user.may(action.role):
        raise not_for(visit.user, action.role)
    return action


async def _carry_out(
    visit: Visit, action: Action, client: str, end_date: str, version: int | None, writing: Writing
) -> Done:
    args: ClientArgs = EndDateArgs(end_date or None) if action.do == Do.EDIT_END_DATE else NoArgs()
    order = Order(action.do, client, args, visit.path["id"], version)
    return await visit.office.orders.command(order, writing)


def offered(text: str, done: Done) -> Notice:
    """Return a notice; where calls are to be rated again now it offers that."""
    for event in done.events:
        if event.get("type") == EventType.RERATE_NEEDED:
            window = {"from": event["data"]["from"], "to": event["data"]["to"]}
            url = "/rerate" + query({"client": done.client, **window})
            return Notice(
                f"{text}. Earlier calls stay as they are until they are rated again:", url, "do that"
            )
    return Notice(text)


def balance_told(done: Done) -> str:
    """Return what a command did to the balance, as the end of a sentence."""
    if done.repeated:
        return " before, with the same form; nothing was done now"
    if done.balance_before is None or done.balance_before == done.balance_after:
        return ""
    return f"; the balance went from {done.balance_before} to {done.balance_after}"


# ------------------------------------------------------------------------------------------------- assigning
_FIELDS = ("client", "account", "package", "start_date", "end_date", "quantity", "activate_in_past", "reason")


async def assign_form(visit: Visit) -> Shown:
    """Show the form of an assignment; with `preview`, also what it would do."""
    values = {name: visit.query.get(name, "").strip() for name in _FIELDS}
    if "preview" not in visit.query:
        return await _assign_page(visit, values)
    try:
        done = await _assign(visit, values, Writing(visit.user, new_key(), dry_run=True))
    except (Problem, LookupError) as error:
        return await _assign_page(visit, values, problem=error)
    return await _assign_page(visit, values, done=done)


async def assign(visit: Visit) -> Shown | Moved:
    """Assign a package as the form says."""
    values = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    writing = Writing(visit.user, visit.form.get("key") or new_key(), values["reason"])
    try:
        done = await _assign(visit, values, writing)
    except (Problem, LookupError) as error:
        return await _assign_page(visit, values, problem=error)
    await visit.office.model.wait_until_now(FRESH_S)
    notice = f"Client package {done.client_package}: assigned" + balance_told(done)
    return Moved(f"/client-packages/{part(done.client_package)}", offered(notice, done))


async def _assign(visit: Visit, values: dict[str, str], writing: Writing) -> Done:
    quantity = values["quantity"] or "1"
    for name in ("client", "package"):
        if not values[name]:
            raise Problem(422, f"{name}: is empty; choose one")
    if not (quantity.isascii() and quantity.isdigit()) or not 1 <= int(quantity[:9]) <= QUANTITY_MAX:
        raise Problem(422, f"quantity: {quantity[:40]} is no whole number of 1 to {QUANTITY_MAX}")
    account = values["account"] or None
    await visit.office.orders.check_assignment(values["client"], values["package"], account)
    args = AssignArgs(
        values["package"], account, values["start_date"] or None, values["end_date"] or None,
        int(quantity), bool(values["activate_in_past"]),
    )  # fmt: skip
    return await visit.office.orders.command(Order(Do.ASSIGN, values["client"], args), writing)


async def _assign_page(
    visit: Visit, values: dict[str, str], done: Done | None = None, problem: Exception | None = None
) -> Shown:
    content = await visit.office.orders.content()
    sold = [
        history_of.latest
        for history_of in content.packages.values()
        if not history_of.deleted and history_of.status == "active"
    ]
    held = None
    if values["client"] and problem is None:
        held = (await state_of(visit.office.at.store, values["client"])).state
    confirm = query({name: values[name] for name in _FIELDS})
    return Shown(
        "assign.html",
        {
            "values": values, "packages": sold, "client": held, "done": done, "key": new_key(),
            "problem": None if problem is None else str(problem), "again": confirm,
        },
        200 if problem is None else getattr(problem, "status", 404),
    )  # fmt: skip
