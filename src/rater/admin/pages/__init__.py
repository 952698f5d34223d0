"""The pages of the console. What they do, the API does too; forms are plain, and work without JavaScript."""

from __future__ import annotations

from rater.admin.office import Moved, PageHandler, StreamHandler, Visit
from rater.admin.pages import (
    client_packages,
    clients,
    dids,
    events,
    explaining,
    lists,
    live,
    moving,
    package_form,
    packages,
    rates,
    recycling,
    rerating,
)


async def _first(_: Visit) -> Moved:
    """Go to where most begin."""
    return Moved("/client-packages")


PAGES = (
    PageHandler("GET", "/", "view", _first),
    PageHandler("GET", "/packages", "view", lists.packages),
    PageHandler("GET", "/new-package", "administer", package_form.new),
    PageHandler("POST", "/new-package", "administer", package_form.send_new),
    PageHandler("GET", "/packages/{id}", "view", packages.package),
    PageHandler("GET", "/packages/{id}/edit", "administer", package_form.edit),
    PageHandler("POST", "/packages/{id}/edit", "administer", package_form.send_edit),
    PageHandler("GET", "/packages/{id}/{action}", "administer", packages.look),
    PageHandler("POST", "/packages/{id}/{action}", "administer", packages.act),
    PageHandler("GET", "/client-packages", "view", lists.client_packages),
    PageHandler("GET", "/assign", "operate", client_packages.assign_form),
    PageHandler("POST", "/assign", "operate", client_packages.assign),
    PageHandler("GET", "/client-packages/{id}", "view", client_packages.client_package),
    PageHandler("GET", "/client-packages/{id}/{action}", "operate", client_packages.look),
    PageHandler("POST", "/client-packages/{id}/{action}", "operate", client_packages.act),
    PageHandler("GET", "/clients", "view", lists.clients),
    PageHandler("GET", "/clients/{id}", "view", clients.client),
    PageHandler("GET", "/clients/{id}/adjust", "operate", clients.adjust_form),
    PageHandler("POST", "/clients/{id}/adjust", "operate", clients.adjust),
    PageHandler("GET", "/transactions", "view", lists.transactions),
    PageHandler("GET", "/transactions/{partition}/{offset}", "view", clients.transaction),
    PageHandler("GET", "/pending-charges", "view", lists.pending_charges),
    PageHandler("GET", "/rejected", "view", lists.rejected),
    PageHandler("GET", "/rejected/recycle", "operate", recycling.look),
    PageHandler("POST", "/rejected/recycle", "operate", recycling.recycle),
    PageHandler("GET", "/dids", "view", lists.dids),
    PageHandler("GET", "/rate-tables", "view", rates.tables),
    PageHandler("GET", "/rate-tables/{id}", "view", rates.table),
    PageHandler("GET", "/import-deck", "administer", rates.form),
    PageHandler("POST", "/import-deck", "administer", rates.send, takes_file=True),
    PageHandler("GET", "/import-deck/{id}", "administer", rates.look),
    PageHandler("POST", "/import-deck/{id}", "administer", rates.load),
    PageHandler("GET", "/assign-did", "operate", dids.assign_form),
    PageHandler("POST", "/assign-did", "operate", dids.assign),
    PageHandler("GET", "/dids/{number}/release", "operate", dids.look),
    PageHandler("POST", "/dids/{number}/release", "operate", dids.release),
    PageHandler("GET", "/rerate-jobs", "view", rerating.jobs),
    PageHandler("GET", "/rerate", "operate", rerating.form),
    PageHandler("POST", "/rerate", "operate", rerating.ask),
    PageHandler("GET", "/rerate-jobs/{id}", "view", rerating.job),
    PageHandler("POST", "/rerate-jobs/{id}/{action}", "operate", rerating.act),
    PageHandler("GET", "/commands", "view", lists.commands),
    PageHandler("GET", "/events", "view", events.events),
    PageHandler("GET", "/events/{partition}/{offset}", "view", events.event),
    PageHandler("GET", "/live", "view", live.live),
    PageHandler("GET", "/explain", "view", explaining.form),
    PageHandler("POST", "/explain", "view", explaining.what_if),
)
"""All of them."""

STREAMS = (
    StreamHandler("/streams/live", "view", moving.live),
    StreamHandler("/streams/events", "view", moving.events),
    StreamHandler("/streams/clients/{id}", "view", moving.of_client),
)
"""What pages that move listen to."""
