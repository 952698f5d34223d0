"""The routes of the API."""

from __future__ import annotations

from rater.admin import (
    answers,
    job_answers,
    rate_answers,
    rates,
    reading,
    requests,
    rerating,
    writing,
)
from rater.admin.deck_imports import DeckDone
from rater.admin.orders import Done, PackageDone
from rater.admin.routes import Route

BASE = "/api/v1"

_PACKAGE = f"{BASE}/packages/{{id}}"
_CLIENT_PACKAGE = f"{BASE}/client-packages/{{id}}"

ROUTES = (
    Route("GET", f"{BASE}/health", "view", reading.health, "Whether it does its work", answers.HealthRow),
    Route(
        "GET", f"{BASE}/packages", "view", reading.packages, "List packages", answers.PackageList,
        requests.PackagesQuery,
    ),
    Route(
        "POST", f"{BASE}/packages", "administer", writing.create_package, "Create a package", PackageDone,
        requests.Dry, requests.PackageBody, raw=True,
    ),
    Route("GET", _PACKAGE, "view", reading.package, "Show a package", answers.PackageDetails),
    Route(
        "PUT", _PACKAGE, "administer", writing.edit_package, "Edit a package", PackageDone, requests.Dry,
        requests.PackageBody, raw=True,
    ),
    Route(
        "DELETE", _PACKAGE, "administer", writing.delete_package, "Delete a package that nobody had",
        PackageDone, requests.Dry,
    ),
    Route(
        "POST", f"{_PACKAGE}/status", "administer", writing.set_package_status,
        "Enable, disable or archive a package", PackageDone, requests.Dry, requests.StatusBody,
    ),
    Route(
        "GET", f"{BASE}/client-packages", "view", reading.client_packages, "List client packages",
        answers.ClientPackageList, requests.ClientPackagesQuery,
    ),
    Route(
        "POST", f"{BASE}/client-packages", "operate", writing.assign, "Assign a package", Done, requests.Dry,
        requests.AssignBody,
    ),
    Route(
        "GET", _CLIENT_PACKAGE, "view", reading.client_package, "Show a client package",
        answers.ClientPackageDetails,
    ),
    Route(
        "POST", f"{_CLIENT_PACKAGE}/stop-now", "operate", writing.stop_now,
        "Stop from the beginning of the period, with balance rollback", Done, requests.Dry,
        requests.ActionBody,
    ),
    Route(
        "POST", f"{_CLIENT_PACKAGE}/stop-at-period-end", "operate", writing.stop_at_period_end,
        "Do not renew any more", Done, requests.Dry, requests.ActionBody,
    ),
    Route(
        "POST", f"{_CLIENT_PACKAGE}/cancel", "operate", writing.cancel, "Close now, without a refund", Done,
        requests.Dry, requests.ActionBody,
    ),
    Route(
        "POST", f"{_CLIENT_PACKAGE}/remove", "administer", writing.remove,
        "Remove one of the archive, with all its fees", Done, requests.Dry, requests.ActionBody,
    ),
    Route(
        "POST", f"{_CLIENT_PACKAGE}/end-date", "operate", writing.edit_end_date, "Change the end date", Done,
        requests.Dry, requests.EndDateBody,
    ),
    Route(
        "GET", f"{BASE}/clients", "view", reading.clients, "List clients", answers.ClientList,
        requests.ClientsQuery,
    ),
    Route(
        "GET", f"{BASE}/clients/{{id}}", "view", reading.client, "Show a client", answers.ClientDetails,
    ),
    Route(
        "POST", f"{BASE}/clients/{{id}}/adjust", "operate", writing.adjust, "Add to the balance", Done,
        requests.Dry, requests.AdjustBody,
    ),
    Route(
        "GET", f"{BASE}/transactions", "view", reading.transactions, "List transactions",
        answers.TransactionList, requests.TransactionsQuery,
    ),
    Route(
        "GET", f"{BASE}/pending-charges", "view", reading.pending_charges, "List pending charges",
        answers.ChargeList, requests.PendingQuery,
    ),
    Route(
        "POST", f"{BASE}/pending-charges/{{id}}/invoice", "operate", writing.invoice,
        "Mark a pending charge for the invoice", Done, requests.Dry, requests.ReasonBody,
    ),
    Route(
        "GET", f"{BASE}/rejected", "view", reading.rejected, "List rejected records", answers.RejectedList,
        requests.RejectedQuery,
    ),
    Route(
        "POST", f"{BASE}/rejected/recycle", "operate", writing.recycle, "Send rejected records again",
        answers.RecycleDone, requests.Dry, requests.RecycleBody,
    ),
    Route(
        "GET", f"{BASE}/dids", "view", reading.dids, "List numbers, and who holds them", answers.DidList,
        requests.DidsQuery,
    ),
    Route(
        "POST", f"{BASE}/dids/{{number}}/assign", "operate", writing.assign_did,
        "Give a number to an account", Done, requests.Dry, requests.DidAssignBody,
    ),
    Route(
        "POST", f"{BASE}/dids/{{number}}/release", "operate", writing.release_did,
        "Take a number from whom holds it", Done, requests.Dry, requests.ReasonBody,
    ),
    Route(
        "GET", f"{BASE}/rate-tables", "view", rates.rate_tables, "List rate tables",
        rate_answers.RateTableList, requests.RateTablesQuery,
    ),
    Route(
        "GET", f"{BASE}/rate-tables/{{id}}/rates", "view", rates.rates, "List the rates of a table",
        rate_answers.RateList, requests.RatesQuery,
    ),
    Route(
        "POST", f"{BASE}/rate-tables/{{id}}/import", "administer", rates.import_deck,
        "Import a carrier's deck into a rate table", DeckDone, requests.DeckQuery, file=True,
    ),
    Route(
        "GET", f"{BASE}/rerate-jobs", "view", rerating.rerate_jobs, "List re-rating jobs",
        job_answers.JobList, requests.JobsQuery,
    ),
    Route(
        "POST", f"{BASE}/rerate-jobs", "operate", rerating.rerate,
        "Rate calls again; a dry run begins the preview", job_answers.JobDetails, requests.Dry,
        requests.RerateBody,
    ),
    Route(
        "GET", f"{BASE}/rerate-jobs/{{id}}", "view", rerating.rerate_job,
        "Show a re-rating job that was asked for here", job_answers.JobDetails, requests.RowsQuery,
    ),
    Route(
        "POST", f"{BASE}/rerate-jobs/{{id}}/apply", "operate", rerating.apply_rerate,
        "Have published what a job changes, or go on with it", job_answers.JobDetails, requests.Dry,
    ),
    Route(
        "POST", f"{BASE}/rerate-jobs/{{id}}/give-up", "operate", rerating.give_up_rerate,
        "End a job where it has begun; what it has published stays", job_answers.JobDetails, requests.Dry,
    ),
    Route(
        "GET", f"{BASE}/commands", "view", reading.commands, "List commands: who did what",
        answers.CommandList, requests.CommandsQuery,
    ),
    Route(
        "GET", f"{BASE}/events", "view", reading.events, "List events", answers.EventList,
        requests.EventsQuery,
    ),
    Route("GET", f"{BASE}/live", "view", reading.live, "What the workers do", answers.LiveRow),
    Route(
        "GET", f"{BASE}/explain", "view", reading.explain, "Explain a transaction or a call",
        answers.ExplainedRows, requests.ExplainQuery,
    ),
    Route(
        "POST", f"{BASE}/explain", "view", reading.explain_call, "What would come of a call",
        answers.ExplainedRows, body=requests.CallBody, raw=True,
    ),
)  # fmt: skip
"""All of them. What OpenAPI says of each is made of this table (`openapi.py`)."""
