"""A client: its page, its balance, and one of its transactions in full."""

from __future__ import annotations

import json

from rater.admin.office import FRESH_S, Moved, Shown, Visit, now_ms
from rater.admin.orders import Done, Order, Writing, new_key
from rater.admin.pages.client_packages import balance_told
from rater.admin.pages.listing import place_of
from rater.admin.problems import Problem
from rater.admin.shown import part
from rater.core.commands.records import AdjustArgs
from rater.core.kinds import Do
from rater.queries import listed
from rater.queries.client_packages import client as client_of
from rater.queries.clients import state_of
from rater.queries.transactions import published
from rater.readmodel import asked
from rater.readmodel.asked import Page

_TRANSACTIONS, _PACKAGES = 20, 50
"""Of a client, on its page: so many transactions, client packages, and of these in the archive."""


async def client(visit: Visit) -> Shown:
    """Show a client: balance, settings, client packages, and the newest transactions."""
    office, of_id = visit.office, visit.path["id"]
    found, uses = await client_of(office.at, of_id, now_ms())
    held = await state_of(office.at.store, of_id)
    archive = [use for use in uses if use.status == "archive"]
    present = [use for use in uses if use.status != "archive"]
    moved = await office.model.transactions(asked.Transactions(client=of_id), Page(rows=_TRANSACTIONS))
    content = await office.orders.content()
    reseller = content.resellers.get(found.reseller or "")
    return Shown(
        "client.html",
        {
            "client": found, "state_of_client": held.state, "moved": moved,
            "present": present[:_PACKAGES], "archive": archive[:_PACKAGES], "packages": len(uses),
            "shown": len(present[:_PACKAGES]) + len(archive[:_PACKAGES]), "archived": len(archive),
            "reseller": None if reseller is None else reseller.name,
            "stream": f"/streams/clients/{part(of_id)}",
        },
    )  # fmt: skip


async def adjust_form(visit: Visit) -> Shown:
    """Show the form of an adjustment; with an amount, also what it would do."""
    amount, reason = (visit.query.get(name, "").strip() for name in ("amount", "reason"))
    if not amount:
        return await _page(visit, amount, reason)
    try:
        done = await _adjust(visit, amount, Writing(visit.user, new_key(), reason, dry_run=True))
    except Problem as problem:
        return await _page(visit, amount, reason, problem=problem)
    return await _page(visit, amount, reason, done=done)


async def adjust(visit: Visit) -> Shown | Moved:
    """Add an amount to a balance."""
    amount, reason = (visit.form.get(name, "").strip() for name in ("amount", "reason"))
    writing = Writing(visit.user, visit.form.get("key") or new_key(), reason)
    try:
        done = await _adjust(visit, amount, writing)
    except Problem as problem:
        return await _page(visit, amount, reason, problem=problem)
    await visit.office.model.wait_until_now(FRESH_S)
    return Moved(f"/clients/{part(visit.path['id'])}", f"Adjusted by {amount}" + balance_told(done))


async def _adjust(visit: Visit, amount: str, writing: Writing) -> Done:
    order = Order(Do.ADJUST, visit.path["id"], AdjustArgs(amount))
    return await visit.office.orders.adjust(order, writing)


async def _page(
    visit: Visit, amount: str, reason: str, done: Done | None = None, problem: Problem | None = None
) -> Shown:
    held = await state_of(visit.office.at.store, visit.path["id"])
    told = {
        "client": held.state, "balance": held.balance, "amount": amount, "reason": reason, "done": done,
        "key": new_key(), "problem": None if problem is None else problem.detail,
    }  # fmt: skip
    return Shown("adjust.html", told, 200 if problem is None else problem.status)


async def transaction(visit: Visit) -> Shown:
    """Show a transaction in full, as it lies in the journal."""
    at = visit.office.at
    place = place_of(visit, at.topics.partitions)
    seen = None if place is None else await listed.text(at, at.topics.transactions, *place)
    found = None if seen is None or seen.value is None else published(seen, seen.value).transaction
    if found is None:
        where = f"{at.topics.transactions}[{visit.path['partition']}] {visit.path['offset']}"
        raise Problem(404, f"there is no transaction at {where}")
    return Shown("transaction.html", {"one": found, "whole": json.dumps(found, indent=2, ensure_ascii=False)})
