"""Whose call a side is, and at which rate: client, account, rate.

The views of clients that a batch needs are fetched by the caller, who is told of them (`Missing`).
Source of the rules: RULES.md 2, steps 2 and 4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from msgspec import Struct

from rater.core.catalog.codes import Rate
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Service
from rater.core.cdr import Cdr, GivenRate, Party
from rater.core.clients.views import ROUTES_MAX, ClientView, Route, Views
from rater.core.reasons import Reason, Rejection, Side, shown


class Missing(Struct, frozen=True):
    """What has to be looked up before the side can be identified: one of the two."""

    client: str | None
    account: str | None


class Ahead(Struct, frozen=True):
    """The client's state is of this version of the catalog, which the lane has not read of yet."""

    catalog: int


class Identified(Struct, gc=False):
    """Whose call it is and what it is rated at. rate None: unanswered, so none was looked up."""

    view: ClientView
    route: Route
    rate: Rate | None
    opened: Any = None
    """`matching.Opened`: what of the client was looked at for limits."""


def wanted(cdr: Cdr, side: Side, party: Party, catalog: Catalog) -> tuple[str | None, str | None]:
    """Return (client, account) as the CDR names them, else as the first identification rule that holds does.

    The view that is needed first is the client's, or without one the account's client's. (None, None): no
    rule holds.
    """
    client, account = party.client or None, party.account or None
    if client is None and account is None:
        found = catalog.rules.find(side, party.gateway, party.ip, party.login, cdr.caller)
        return (None, None) if found is None else found
    return client, account


def identify(
    cdr: Cdr, side: Side, party: Party, catalog: Catalog, views: Views
) -> Identified | Rejection | Missing | Ahead:
    """Return whose call it is and its rate; or why not; or what has to be looked up first.

    Reasons: service_unknown, client_unknown, account_unknown, account_mismatch, rate_missing. A client's
    state is read with no catalog older than its own, wherever it came from.
    """
    client, account = party.client, party.account
    view = views.find(client) if client else None
    if view is not None and view.catalog > catalog.version:
        return Ahead(view.catalog)
    # A route is made for an account of the client, so one that is found needs no further look.
    route = None if view is None else view.memo.get((side, account, cdr.service))
    if view is None or route is None or route.catalog is not catalog:
        if cdr.service not in catalog.services:
            return _no_service(cdr, side)
        whose = _whose(cdr, side, party, catalog, views)
        if not isinstance(whose, tuple):
            return whose
        view, account = whose
        if view.catalog > catalog.version:
            return Ahead(view.catalog)
        route = view.memo.get((side, account, cdr.service))
        if route is None or route.catalog is not catalog:
            route = route_of(view, side, account, catalog.services[cdr.service], catalog)
    if not cdr.answered:
        rate = None
    elif party.rate is not None:
        rate = given_rate(party.rate)
    else:
        table = route.table
        rate = None if table is None else table.lookup(cdr.called, cdr.at_ms)
        if rate is None:
            return _no_rate(cdr, side, view, account)
    return Identified(view, route, rate)


def route_of(view: ClientView, side: Side, account: str | None, service: Service, catalog: Catalog) -> Route:
    """Work out where a side, account and service lead to, and keep it with the view."""
    if len(view.memo) >= ROUTES_MAX:
        view.memo.clear()
    # The account's table for this side and service if it has one, else the client's.
    name = view.table_name(account, side, service.name)
    table = None if name is None else catalog.tables.get(name)
    route = view.memo[side, account, service.name] = Route(catalog, account, service, table)
    return route


def _no_service(cdr: Cdr, side: Side) -> Rejection:
    """Return the rejection of a side whose service went out of the catalog since it was decoded."""
    detail = f"service {shown(cdr.service)!r} is not in the catalog; load it, or correct the source's map"
    return Rejection(Reason.SERVICE_UNKNOWN, detail, shown(cdr.service), side)


def _whose(
    cdr: Cdr, side: Side, party: Party, catalog: Catalog, views: Views
) -> tuple[ClientView, str | None] | Rejection | Missing:
    client, account = wanted(cdr, side, party, catalog)
    if client is None:
        if account is None:
            return _nobody(party, cdr, side)
        client = views.owner(account)
        if client is None:
            return _no_account(account, side) if account in views.absent_accounts else Missing(None, account)
    view = views.find(client)
    if view is None:
        if client not in views.absent_clients:
            return Missing(client, None)
        detail = f"client {shown(client)!r} does not exist; load it, or correct what names it"
        return Rejection(Reason.CLIENT_UNKNOWN, detail, shown(client), side)
    if account is None or view.has_account(account):
        return view, account
    return _foreign_account(account, client, side, views)


def _foreign_account(account: str, client: str, side: Side, views: Views) -> Rejection | Missing:
    """Return why an account that the client does not have is refused: it is another client's, or nobody's."""
    owner = views.owner(account)
    if owner is None and account not in views.absent_accounts:
        return Missing(None, account)
    if owner is None or owner == client:  # the index may be newer than the view
        return _no_account(account, side)
    detail = (
        f"account {shown(account)!r} belongs to client {shown(owner)!r}, not to {shown(client)!r}; "
        "correct the record or the identification rule"
    )
    return Rejection(Reason.ACCOUNT_MISMATCH, detail, shown(account), side)


def _no_account(account: str, side: Side) -> Rejection:
    detail = f"account {shown(account)!r} does not exist; load it with its client, or correct what names it"
    return Rejection(Reason.ACCOUNT_UNKNOWN, detail, shown(account), side)


def _nobody(party: Party, cdr: Cdr, side: Side) -> Rejection:
    known = [("gateway", party.gateway), ("ip", party.ip), ("login", party.login), ("caller", cdr.caller)]
    value = ", ".join(f"{name} {text}" for name, text in known if text)
    detail = (
        f"`{side}` names no client or account, and no identification rule holds for "
        f"{shown(value) or 'a side without gateway, ip, login and caller'}; add a rule, or name the client"
    )
    return Rejection(Reason.CLIENT_UNKNOWN, detail, shown(value), side)


@lru_cache(maxsize=4096)
def given_rate(given: GivenRate) -> Rate:
    """Return a rate that the CDR brought, as it is: it has no table."""
    return Rate(
        None, given.currency, given.code, given.code_name, given.price_e10, given.setup_fee_e10,
        given.min_time, given.interval, given.grace_time,
    )  # fmt: skip


def _no_rate(cdr: Cdr, side: Side, view: ClientView, account: str | None) -> Rejection:
    name = view.table_name(account, side, cdr.service)
    if name is None:
        owner = f"client {shown(view.id)!r}" + (f", account {shown(account)!r}," if account else "")
        detail = (
            f"{owner} has no rate table for {side} {cdr.service}; assign one, or give the rate in the CDR"
        )
        return Rejection(Reason.RATE_MISSING, detail, cdr.called, side)
    detail = (
        f"rate table {shown(name)!r} has no code in force for {cdr.called} at the call's time; "
        "add one, or assign another table"
    )
    return Rejection(Reason.RATE_MISSING, detail, cdr.called, side)
