"""Whose call a side is, and at which rate: client, account, rate.

The views of clients that a batch needs are fetched by the caller, who is told of them (`Missing`).
Source of the rules: RULES.md 2, steps 2 and 4.
"""

from __future__ import annotations

from msgspec import Struct

from rater.core.catalog.codes import Rate, name_text, price_text
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import Cdr, GivenRate, Party
from rater.core.clients.views import ClientView, Views
from rater.core.reasons import Reason, Rejection, Side, shown


class Missing(Struct, frozen=True):
    """What has to be looked up before the side can be identified: one of the two."""

    client: str | None
    account: str | None


class Ahead(Struct, frozen=True):
    """The client's state is of this version of the catalog, which the lane has not read of yet."""

    catalog: int


class Identified(Struct, gc=False):
    """Whose call it is and what it is rated at. rate None: nothing was used, so none was looked up."""

    view: ClientView
    account: str | None
    rate: Rate | None


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


def identify(  # noqa: PLR0911 - one for each way that it ends
    cdr: Cdr, side: Side, party: Party, catalog: Catalog, views: Views
) -> Identified | Rejection | Missing | Ahead:
    """Return whose call it is and its rate; or why not; or what has to be looked up first.

    Reasons: service_unknown, client_unknown, account_unknown, account_mismatch, rate_missing. A client's
    state is read with no catalog older than its own, wherever it came from: a service that it brings is too.
    """
    client, account = wanted(cdr, side, party, catalog)
    if client is None and account is not None:
        client = views.owner(account)
    view = None if client is None else views.find(client)
    if view is not None and view.catalog > catalog.version:
        return Ahead(view.catalog)
    if cdr.service not in catalog.services:
        return _no_service(cdr, side)
    if client is None:
        if account is None:
            return _nobody(party, cdr, side)
        return _no_account(account, side) if account in views.absent_accounts else Missing(None, account)
    if view is None:
        return _no_client(client, side) if client in views.absent_clients else Missing(client, None)
    if account is not None and account not in view.accounts:
        return _foreign_account(account, client, side, views)
    rate = _rate_of(cdr, side, party, view, account, catalog)
    return rate if isinstance(rate, Rejection) else Identified(view, account, rate)


def rate_again(
    cdr: Cdr, side: Side, party: Party, view: ClientView, account: str | None, catalog: Catalog
) -> Rate | Rejection | None:
    """Return the rate of a side that was found before: client and account stand (RULES.md 5).

    None: nothing was used. Reasons: service_unknown, rate_missing.
    """
    if cdr.service not in catalog.services:
        return _no_service(cdr, side)
    return _rate_of(cdr, side, party, view, account, catalog)


def _rate_of(
    cdr: Cdr, side: Side, party: Party, view: ClientView, account: str | None, catalog: Catalog
) -> Rate | Rejection | None:
    if not cdr.used:
        return None
    if party.rate is not None:
        return given_rate(party.rate)
    name = view.table_name(account, side, cdr.service)
    table = None if name is None else catalog.tables.get(name)
    rate = None if table is None else table.lookup(cdr.called, cdr.at_ms)
    return _no_rate(cdr, side, view, account) if rate is None else rate


def _no_service(cdr: Cdr, side: Side) -> Rejection:
    """Return the rejection of a side whose service went out of the catalog since it was decoded."""
    detail = f"service {shown(cdr.service)!r} is not in the catalog; load it, or correct the source's map"
    return Rejection(Reason.SERVICE_UNKNOWN, detail, shown(cdr.service), side)


def _no_client(client: str, side: Side) -> Rejection:
    detail = f"client {shown(client)!r} does not exist; load it, or correct what names it"
    return Rejection(Reason.CLIENT_UNKNOWN, detail, shown(client), side)


def _foreign_account(account: str, client: str, side: Side, views: Views) -> Rejection | Missing:
    """Return why an account that the client does not have is refused: it is another client's, or nobody's.

    That rests on the index of now: whose account it was when it was cached says nothing.
    """
    owner = views.owners.get(account)
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


def given_rate(given: GivenRate) -> Rate:
    """Return a rate that the CDR brought, as it is: it has no table."""
    price = given.price_e10, given.setup_fee_e10, given.min_time, given.interval, given.grace_time
    text = price_text(None, given.currency, *price)
    return Rate(given.currency, given.code, name_text(given.code_name), *price, text)


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
