"""Lists: packages, client packages, clients, transactions, pending charges, rejected records, commands."""

from __future__ import annotations

from typing import Any, get_args

from rater.admin.office import Shown, Visit, now_ms
from rater.admin.pages.listing import Pager
from rater.admin.reading import topic_of
from rater.core.catalog.specs import Status
from rater.core.kinds import ClientPackageStatus, DidState, Do, TransactionType
from rater.core.reasons import Reason
from rater.queries import listed
from rater.queries.clients import states_of
from rater.readmodel import asked

_PACKAGE_STATUSES: tuple[str, ...] = get_args(Status)
_STATUSES = tuple(of.value for of in ClientPackageStatus)
_PRESENT = ("pending", "active")
_TYPES = tuple(of.value for of in TransactionType)
_REASONS = tuple(of.value for of in Reason)
_DID_STATES = tuple(of.value for of in DidState)
_DOES = tuple(of.value for of in Do)


async def packages(visit: Visit) -> Shown:
    """Packages: id, status, name, fees, period, reseller (RULES.md section 6)."""
    pager = Pager(visit, "/packages", ("text", "reseller", "dynamic_tag", "did_tag"))
    wanted = asked.Packages(
        statuses=tuple(pager.choices("status", _PACKAGE_STATUSES, ("active",))), text=pager.text("text"),
        reseller=pager.text("reseller"), dynamic_tag=pager.text("dynamic_tag"),
        did_tag=pager.text("did_tag"),
    )  # fmt: skip
    found = await visit.office.model.packages(wanted, pager.page())
    content = await visit.office.orders.content()
    names = {of.id: of.name for of in content.resellers.values()}
    return _shown("packages.html", pager, found, statuses=_PACKAGE_STATUSES, resellers=names)


async def client_packages(visit: Visit) -> Shown:
    """Client packages, with what is left of their limits (RULES.md section 6)."""
    pager = Pager(visit, "/client-packages", ("client", "account", "package", "id"))
    chosen = pager.choices("status", _STATUSES, _PRESENT)
    wanted = asked.ClientPackages(
        client=pager.text("client"), account=pager.text("account"), package=pager.text("package"),
        client_package=pager.text("id"), statuses=frozenset(map(ClientPackageStatus, chosen)),
    )  # fmt: skip
    office = visit.office
    found = await listed.client_packages(office.at, office.model, wanted, pager.page(), now_ms())
    states = await states_of(office.at.store, {use.client for use in found.rows})
    return _shown("client_packages.html", pager, found, statuses=_STATUSES, clients=states)


async def clients(visit: Visit) -> Shown:
    """Clients, with their balances."""
    pager = Pager(visit, "/clients", ("text", "reseller"))
    wanted = asked.Clients(text=pager.text("text"), reseller=pager.text("reseller"))
    found = await listed.clients(visit.office.at, visit.office.model, wanted, pager.page())
    return _shown("clients.html", pager, found)


async def transactions(visit: Visit) -> Shown:
    """Money movements, the newest first."""
    names = ("client", "account", "client_package", "id", "type", "since", "until", "reversals")
    pager = Pager(visit, "/transactions", names)
    kind = pager.choice("type", _TYPES)
    wanted = asked.Transactions(
        client=pager.text("client"), account=pager.text("account"), id=pager.text("id"),
        client_package=pager.text("client_package"), type=None if kind is None else TransactionType(kind),
        since_ms=pager.moment("since"), until_ms=pager.moment("until"),
        reversals=pager.text("reversals") is not None,
    )  # fmt: skip
    found = await visit.office.model.transactions(wanted, pager.page())
    return _shown("transactions.html", pager, found, types=_TYPES)


async def pending_charges(visit: Visit) -> Shown:
    """What waits to be paid, the longest first."""
    pager = Pager(visit, "/pending-charges", ("client",))
    wanted = asked.PendingCharges(client=pager.text("client"))
    found = await listed.pending_charges(visit.office.at, visit.office.model, wanted, pager.page())
    return _shown("pending_charges.html", pager, found)


async def rejected(visit: Visit) -> Shown:
    """Sides and records that could not be rated, the newest first."""
    pager = Pager(visit, "/rejected", ("reason", "source", "again", "since", "until"))
    reason, again = pager.choice("reason", _REASONS), pager.choice("again", ("yes", "no"))
    wanted = asked.RejectedRecords(
        reason=None if reason is None else Reason(reason), topic=topic_of(visit.office, pager.text("source")),
        again=None if again is None else again == "yes", since_ms=pager.moment("since"),
        until_ms=pager.moment("until"),
    )  # fmt: skip
    found = await visit.office.model.rejected(wanted, pager.page())
    names = list(visit.office.settings.all_sources())
    return _shown("rejected.html", pager, found, reasons=_REASONS, names=names, sources=visit.office.sources)


async def dids(visit: Visit) -> Shown:
    """Numbers, and who holds them."""
    pager = Pager(visit, "/dids", ("number", "tag", "client", "state"))
    state = pager.choice("state", _DID_STATES)
    wanted = asked.Dids(
        number=pager.text("number"), tag=pager.text("tag"), client=pager.text("client"),
        state=None if state is None else DidState(state),
    )  # fmt: skip
    found = await visit.office.model.dids(wanted, pager.page())
    return _shown("dids.html", pager, found, states=_DID_STATES)


async def commands(visit: Visit) -> Shown:
    """Who did what: the audit trail."""
    pager = Pager(visit, "/commands", ("client", "actor", "do", "since", "until", "system"))
    do = pager.choice("do", _DOES)
    wanted = asked.Commands(
        client=pager.text("client"), actor=pager.text("actor"), do=None if do is None else Do(do),
        since_ms=pager.moment("since"), until_ms=pager.moment("until"),
        system=pager.text("system") is not None,
    )  # fmt: skip
    found = await visit.office.model.commands(wanted, pager.page())
    return _shown("commands.html", pager, found, does=_DOES)


def _shown(template: str, pager: Pager, found: asked.Listed[Any], **more: Any) -> Shown:
    return Shown(template, {"found": found, "pager": pager.told(found), **more})
