"""Handlers of the API that look, and change nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from rater.admin.answers import (
    ChargeList,
    ClientDetails,
    ClientList,
    ClientPackageDetails,
    ClientPackageList,
    CommandList,
    DidList,
    EventList,
    ExplainedRows,
    HealthRow,
    LiveRow,
    PackageDetails,
    PackageList,
    RejectedList,
    TransactionList,
)
from rater.admin.office import Call, Office, moment_ms, now_ms
from rater.admin.problems import Problem, wrong
from rater.admin.requests import Paged
from rater.admin.telling import (
    charge_row,
    client_package_row,
    client_row,
    command_row,
    details,
    event_row,
    live_row,
    number_row,
    package_details,
    package_row,
    rejected_row,
    transaction_row,
)
from rater.queries import client_packages as client_package_queries
from rater.queries import listed
from rater.queries import packages as package_queries
from rater.queries.clients import NotThereError
from rater.queries.explained import explained, find, what_if
from rater.readmodel import asked
from rater.readmodel.asked import Listed, Page, WrongAskedError


def page(query: Paged) -> Page:
    """Return which rows a query asks for."""
    return Page(rows=query.rows, after=query.after, before=query.before)


def between(field: str, text: str | None) -> int | None:
    """Return a bound in time. Raises Problem, which names the field."""
    try:
        return moment_ms(text)
    except ValueError as error:
        raise wrong(field, str(error)) from error


async def packages(call: Call) -> PackageList:
    """List packages."""
    query = call.query
    wanted = asked.Packages(
        statuses=tuple(query.status) or ("active",), reseller=query.reseller, dynamic_tag=query.dynamic_tag,
        did_tag=query.did_tag, text=query.text,
    )  # fmt: skip
    found = await call.office.model.packages(wanted, page(query))
    return PackageList(rows=list(map(package_row, found.rows)), **_counted(found))


async def package(call: Call) -> PackageDetails:
    """Show a package."""
    found = package_queries.told(await call.office.orders.content(), call.path["id"])
    if found is None:
        raise NotThereError("package", call.path["id"])
    return package_details(found)


async def client_packages(call: Call) -> ClientPackageList:
    """List client packages."""
    query = call.query
    wanted = asked.ClientPackages(
        client=query.client, account=query.account, package=query.package, client_package=query.id,
        statuses=frozenset(query.status) or client_package_queries.PRESENT,
    )  # fmt: skip
    office = call.office
    found = await listed.client_packages(office.at, office.model, wanted, page(query), now_ms())
    return ClientPackageList(rows=list(map(client_package_row, found.rows)), **_counted(found))


async def client_package(call: Call) -> ClientPackageDetails:
    """Show a client package, with its periods."""
    found = await call.office.orders.shown(call.path["id"], now_ms())
    return details(found.use, found.periods)


async def clients(call: Call) -> ClientList:
    """List clients."""
    wanted = asked.Clients(text=call.query.text, reseller=call.query.reseller)
    found = await listed.clients(call.office.at, call.office.model, wanted, page(call.query))
    return ClientList(rows=list(map(client_row, found.rows)), **_counted(found))


async def client(call: Call) -> ClientDetails:
    """Show a client, with its client packages."""
    found, uses = await client_package_queries.client(call.office.at, call.path["id"], now_ms())
    return ClientDetails(client=client_row(found), client_packages=list(map(client_package_row, uses)))


async def transactions(call: Call) -> TransactionList:
    """List transactions."""
    query = call.query
    wanted = asked.Transactions(
        client=query.client, account=query.account, type=query.type, client_package=query.client_package,
        id=query.id, since_ms=between("since", query.since), until_ms=between("until", query.until),
        reversals=query.reversals,
    )  # fmt: skip
    found = await call.office.model.transactions(wanted, page(query))
    return TransactionList(rows=list(map(transaction_row, found.rows)), **_counted(found))


async def pending_charges(call: Call) -> ChargeList:
    """List pending charges."""
    wanted, office = asked.PendingCharges(client=call.query.client), call.office
    found = await listed.pending_charges(office.at, office.model, wanted, page(call.query))
    return ChargeList(rows=list(map(charge_row, found.rows)), **_counted(found))


async def rejected(call: Call) -> RejectedList:
    """List rejected records."""
    query, office = call.query, call.office
    wanted = asked.RejectedRecords(
        reason=query.reason, topic=topic_of(office, query.source), again=query.again,
        since_ms=between("since", query.since), until_ms=between("until", query.until),
    )  # fmt: skip
    found = await office.model.rejected(wanted, page(query))
    told = partial(rejected_row, sources=office.sources)
    return RejectedList(rows=list(map(told, found.rows)), **_counted(found))


async def commands(call: Call) -> CommandList:
    """List commands: who did what."""
    query = call.query
    wanted = asked.Commands(
        client=query.client, actor=query.actor, do=query.do, since_ms=between("since", query.since),
        until_ms=between("until", query.until), system=query.system,
    )  # fmt: skip
    found = await call.office.model.commands(wanted, page(query))
    return CommandList(rows=list(map(command_row, found.rows)), **_counted(found))


async def events(call: Call) -> EventList:
    """List events."""
    query = call.query
    wanted = asked.Events(
        client=query.client, type=query.type, answers=query.answers,
        since_ms=between("since", query.since), until_ms=between("until", query.until),
    )  # fmt: skip
    found = await call.office.model.events(wanted, page(query))
    return EventList(rows=list(map(event_row, found.rows)), **_counted(found))


async def live(call: Call) -> LiveRow:
    """Say what the workers do."""
    scraping = call.office.scraping
    return live_row(scraping.last, scraping.history.points[-1] if scraping.history.points else None)


async def dids(call: Call) -> DidList:
    """List numbers, and who holds them."""
    query = call.query
    wanted = asked.Dids(number=query.number, tag=query.tag, client=query.client, state=query.state)
    found = await call.office.model.dids(wanted, page(query))
    return DidList(rows=list(map(number_row, found.rows)), **_counted(found))


async def explain(call: Call) -> ExplainedRows:
    """Say why a transaction, or both sides of a call, are what they are."""
    return ExplainedRows(await explained_rows(call.office, call.query.id))


async def explained_rows(office: Office, asked_id: str) -> list[dict[str, Any]]:
    """Return what is told of a transaction, or of both sides of a call. Raises Problem."""
    found = await find(office.at, asked_id, lambda _: None)
    if not found:
        raise Problem(
            404,
            f"there is no transaction {asked_id}, and no call of this source and id that was rated; it may "
            "be among the rejected records",
        )
    return await explained(office.at, found, office.maps, lambda _: None)


async def explain_call(call: Call) -> ExplainedRows:
    """Say what would come of a call; nothing is changed. Raises DecodeError for what is no JSON."""
    msgspec.json.decode(call.body)
    return ExplainedRows(await what_if(call.office.at, call.body.strip()))


async def health(call: Call) -> HealthRow:
    """Say whether this process does its work."""
    reasons = call.office.not_ready()
    return HealthRow(not reasons, reasons)


def topic_of(office: Office, source: str | None) -> str | None:
    """Return the topic of a source of the settings. Raises Problem where there is none of this name."""
    if source is None:
        return None
    known = office.settings.all_sources()
    if source not in known:
        raise wrong("source", f"{source}: there is no such source; there are {', '.join(known)}")
    return known[source].topic


def _counted(found: Listed[Any]) -> dict[str, Any]:
    return {"next": found.next, "previous": found.previous, "total": found.total}


def of_page(error: WrongAskedError) -> Problem:
    """Return the problem of a page that cannot be given."""
    return wrong(error.field, str(error))
