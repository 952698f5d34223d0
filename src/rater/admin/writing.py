"""Handlers of the API that change something, or tell what they would change."""

from __future__ import annotations

import msgspec

from rater import app
from rater.admin.answers import RecycleDone
from rater.admin.office import Call
from rater.admin.orders import Done, Order, PackageDone, Writing
from rater.admin.problems import Problem, wrong
from rater.admin.reading import between, topic_of
from rater.core.commands.records import AdjustArgs, AssignArgs, ClientArgs, EndDateArgs, NoArgs
from rater.core.kinds import Do
from rater.core.line.recycling import Choice
from rater.core.reasons import Reason


def _how(call: Call) -> Writing:
    return Writing(call.user, call.key, getattr(call.body, "reason", "") or "", call.query.dry_run)


async def create_package(call: Call) -> PackageDone:
    """Create a package."""
    return await call.office.orders.put_package(call.body, _how(call), new=True)


async def edit_package(call: Call) -> PackageDone:
    """Bring a package to what its row says; what is left out gets its default, but for the status."""
    try:
        row = msgspec.json.decode(call.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"not JSON: {error}") from error
    if not isinstance(row, dict) or row.get("id") != call.path["id"]:
        raise wrong("id", f"has to be {call.path['id']}, as in the address")
    return await call.office.orders.put_package(call.body, _how(call), new=False)


async def set_package_status(call: Call) -> PackageDone:
    """Enable, disable or archive a package."""
    return await call.office.orders.set_status(call.path["id"], call.body.status, _how(call))


async def delete_package(call: Call) -> PackageDone:
    """Delete a package that no client ever had."""
    return await call.office.orders.delete(call.path["id"], _how(call))


async def assign(call: Call) -> Done:
    """Assign a package to a client."""
    body = call.body
    await call.office.orders.check_assignment(body.client, body.package, body.account)
    args = AssignArgs(
        body.package, body.account, body.start_date, body.end_date, body.quantity, body.activate_in_past
    )
    return await call.office.orders.command(Order(Do.ASSIGN, body.client, args), _how(call))


async def _act(call: Call, do: Do, args: ClientArgs | None = None) -> Done:
    orders, of_id = call.office.orders, call.path["id"]
    client = await orders.holder(of_id)
    order = Order(do, client, args or NoArgs(), of_id, call.body.expect_version)
    return await orders.command(order, _how(call))


async def stop_now(call: Call) -> Done:
    """Stop a client package from the beginning of its period, and give back what that cost."""
    return await _act(call, Do.STOP_NOW)


async def stop_at_period_end(call: Call) -> Done:
    """Let the present period of a client package end, and do not renew."""
    return await _act(call, Do.STOP_AT_PERIOD_END)


async def cancel(call: Call) -> Done:
    """Close a client package now; nothing is given back."""
    return await _act(call, Do.CANCEL)


async def remove(call: Call) -> Done:
    """Remove a client package of the archive, with all its fees."""
    return await _act(call, Do.REMOVE)


async def edit_end_date(call: Call) -> Done:
    """Change the end date of a client package, or take it away."""
    return await _act(call, Do.EDIT_END_DATE, EndDateArgs(call.body.end_date))


async def adjust(call: Call) -> Done:
    """Add an amount to a client's balance."""
    order = Order(Do.ADJUST, call.path["id"], AdjustArgs(call.body.amount))
    return await call.office.orders.adjust(order, _how(call))


async def invoice(call: Call) -> Done:
    """Mark the pending charge of a client package for the invoice."""
    client, client_package = await call.office.orders.charged(call.path["id"])
    order = Order(Do.INVOICE_PENDING_CHARGE, client, NoArgs(), client_package)
    return await call.office.orders.command(order, _how(call))


async def assign_did(call: Call) -> Done:
    """Give a number to an account."""
    return await call.office.orders.assign_did(call.path["number"], call.body.account, _how(call))


async def release_did(call: Call) -> Done:
    """Take a number from whom holds it."""
    return await call.office.orders.release_did(call.path["number"], _how(call))


async def recycle(call: Call) -> RecycleDone:
    """Send rejected records again, each once."""
    body = call.body
    if body.reason == Reason.TOO_OLD and not body.late:
        raise wrong("late", "too_old calls are older than the duplicate window: they need late = true")
    topic = topic_of(call.office, body.source)
    choice = Choice(body.reason, topic, between("since", body.since), between("until", body.until))
    report = await app.recycle(
        call.office.settings, choice, _passed, _passed, late=body.late,
        dry_run=call.query.dry_run,
    )  # fmt: skip
    return RecycleDone(
        sent=dict(report.sent), dry_run=call.query.dry_run, too_old=report.older, known=report.known,
        taken_back=report.taken_back, topics_without_source=dict(report.homeless),
    )  # fmt: skip


def _passed(_: int, __: int) -> None:
    """Progress of what is read: nobody looks on."""
