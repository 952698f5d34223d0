"""What lists and Redis hold becomes what the API answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rater.admin.answers import (
    ChargeRow,
    ClientPackageDetails,
    ClientPackageRow,
    ClientRow,
    CommandRow,
    DidRow,
    EventRow,
    FeeRow,
    LimitRow,
    LiveRow,
    NumberRow,
    PackageDetails,
    PackageRow,
    PeriodRow,
    RejectedRow,
    StatusSince,
    TermsRow,
    TransactionRow,
    WorkerRow,
)
from rater.admin.figures import READY, RECORDS, WAITING, Point, added, build, longest, whole
from rater.admin.job_answers import JobRow
from rater.admin.scraping import Scrape, Seen
from rater.core.amounts import format_micros
from rater.core.instants import rfc3339
from rater.queries.client_packages import ClientPackageUse
from rater.queries.clients import ClientSummary
from rater.queries.history import PastPeriod
from rater.queries.limits import LimitUse
from rater.queries.packages import Told
from rater.queries.pending_charges import PendingCharge
from rater.readmodel import rows


def instant(at_ms: int | None) -> str | None:
    """Return an instant in RFC 3339."""
    return None if at_ms is None else rfc3339(at_ms)


def limit_row(limit: LimitUse) -> LimitRow:
    """Return a limit as the API tells it."""
    show = format_micros if limit.kind == "money" else str
    return LimitRow(
        limit=limit.limit, kind="money" if limit.kind == "money" else "volume", service=limit.service,
        code=limit.code, code_name=limit.code_name, unit=limit.unit, size=show(limit.size),
        used=show(limit.used), left=show(limit.left),
    )  # fmt: skip


def charge_row(charge: PendingCharge) -> ChargeRow:
    """Return a pending charge as the API tells it."""
    parts = ("activation", "subscription", "tax", "total")
    return ChargeRow(
        id=charge.id, client=charge.client, client_package=charge.client_package, package=charge.package,
        period=charge.period, kind=charge.kind, reason=charge.reason,
        amounts={name: format_micros(getattr(charge, name)) for name in parts},
        missing=format_micros(charge.missing), currency=charge.currency, since=rfc3339(charge.since_ms),
        retry_until=instant(charge.retry_until_ms), invoiced=charge.invoiced,
    )  # fmt: skip


def client_package_row(use: ClientPackageUse) -> ClientPackageRow:
    """Return a client package as the API tells it."""
    status: Any = use.package_status
    return ClientPackageRow(
        id=use.id, client=use.client, account=use.account, package=use.package,
        package_name=use.package_name, package_status=status, status=use.status, state=use.state,
        why_pending=None if use.pending is None else use.pending.reason, quantity=use.quantity,
        version=use.version, period=use.period, period_start=instant(use.period_start_ms),
        period_stop=instant(use.period_stop_ms), start=rfc3339(use.start_ms), end=instant(use.end_ms),
        next_renewal=instant(use.renewal_ms), limits=list(map(limit_row, use.limits)),
    )  # fmt: skip


def details(use: ClientPackageUse, periods: Sequence[PastPeriod]) -> ClientPackageDetails:
    """Return a client package with its periods as the API tells it."""
    return ClientPackageDetails(
        client_package=client_package_row(use), charge_on_event=use.charge_on_event, charged=use.charged,
        reactivations=use.activations, align_to_payment_terms=use.aligned,
        recalculate_to_period=use.aligned and not use.full_charge,
        pending_charge=None if use.pending is None else charge_row(use.pending),
        dids=[
            DidRow(number=did.number, account=did.account, hold_until=instant(did.hold_until_ms))
            for did in use.dids
        ],
        periods=list(map(period_row, periods)),
    )  # fmt: skip


def period_row(period: PastPeriod) -> PeriodRow:
    """Return a period as the API tells it."""
    return PeriodRow(
        period=period.number, start=rfc3339(period.start_ms), stop=instant(period.stop_ms),
        voided=period.voided, limits=list(map(limit_row, period.limits)),
        fees=[FeeRow(fee.type, format_micros(fee.amount)) for fee in period.fees],
    )  # fmt: skip


def client_row(client: ClientSummary) -> ClientRow:
    """Return a client as the API tells it."""
    terms = client.payment_terms
    low = client.low_balance
    return ClientRow(
        id=client.id, name=client.name, reseller=client.reseller, currency=client.currency,
        balance=format_micros(client.balance), credit_limit=format_micros(client.credit_limit),
        low_balance=None if low is None else format_micros(low), time_zone=client.time_zone,
        payment_terms=None if terms is None else TermsRow(terms.every, terms.anchor),
        tax_profile=client.tax_profile, accounts=client.accounts, rate_tables=client.rate_tables,
        client_packages=client.client_packages, pending_charges=client.pending_charges,
        version=client.version,
    )  # fmt: skip


def transaction_row(one: rows.TransactionRow) -> TransactionRow:
    """Return a transaction as the API tells it."""
    return TransactionRow(
        published=rfc3339(one.published_ms), partition=one.partition, offset=one.offset, client=one.client,
        account=one.account, id=one.id, revision=one.revision, type=one.type, at=rfc3339(one.at_ms),
        client_package=one.client_package, called=one.called, what=one.what, drawn=one.drawn,
        billed=one.billed, amount=format_micros(one.amount), currency=one.currency, stands=one.stands,
    )  # fmt: skip


def package_row(one: rows.PackageRow) -> PackageRow:
    """Return a package as the API's lists tell it."""
    return msgspec.convert(msgspec.to_builtins(one), PackageRow)


def rejected_row(one: rows.RejectedRow, sources: Mapping[str, str]) -> RejectedRow:
    """Return a rejected record as the API tells it. sources: topic → name of the source."""
    return RejectedRow(
        at=rfc3339(one.rejected_ms), partition=one.partition, offset=one.offset, reason=one.reason,
        side=one.side, detail=one.detail, value=one.value, source=sources.get(one.topic or ""),
        topic=one.topic, source_partition=one.source_partition, source_offset=one.source_offset,
        attempt=one.attempt, job=one.job, again=one.again,
    )  # fmt: skip


def command_row(one: rows.CommandRow) -> CommandRow:
    """Return a command as the API tells it."""
    return CommandRow(
        id=one.id, key=one.key, do=one.do, at=rfc3339(one.at_ms), actor=one.actor, reason=one.reason,
        client=one.client, client_package=one.client_package, dry_run=one.dry_run, system=one.system,
        result=one.result, detail=one.detail,
    )  # fmt: skip


def event_row(one: rows.EventRow) -> EventRow:
    """Return an event as the API's lists tell it."""
    return EventRow(
        told=rfc3339(one.told_ms), partition=one.partition, offset=one.offset, id=one.id, type=one.type,
        at=rfc3339(one.at_ms), client=one.client, client_package=one.client_package,
        package_name=one.package_name, cause=one.cause, actor=one.actor,
    )  # fmt: skip


def worker_row(seen: Seen) -> WorkerRow:
    """Return what a worker said of itself as the API tells it."""
    row = WorkerRow(
        address=seen.address, answers=seen.reading is not None, since=rfc3339(seen.since_ms), why=seen.why,
        ready=None, version=None, engine=None, records=None, waiting=None, longest_wait_s=None,
    )  # fmt: skip
    if seen.reading is not None:
        values = seen.reading.values
        runs = build(values)
        row.ready, row.version, row.engine = (
            bool(whole(values, READY)),
            runs.get("version"),
            runs.get("engine"),
        )
        row.records, row.waiting = whole(values, RECORDS), whole(values, WAITING)
        row.longest_wait_s = longest(values)
    return row


def live_row(scrape: Scrape | None, newest: Point | None) -> LiveRow:
    """Return what the workers say as the API tells it. newest: how it goes."""
    return LiveRow(
        at=None if scrape is None else rfc3339(scrape.at_ms),
        workers=[] if scrape is None else list(map(worker_row, scrape.workers)),
        sums=added(()) if scrape is None else scrape.sums,
        records_per_second=None if newest is None else newest.records,
        latency_p50_s=None if newest is None else newest.p50,
        latency_p99_s=None if newest is None else newest.p99,
    )  # fmt: skip


def number_row(one: rows.DidRow) -> NumberRow:
    """Return a DID as the API tells it."""
    return NumberRow(
        number=one.number, tags=list(one.tags), state=one.state, client=one.client, account=one.account,
        client_package=one.client_package, hold_until=instant(one.hold_until_ms),
    )  # fmt: skip


def job_row(one: rows.JobRow) -> JobRow:
    """Return a re-rating job as the API tells it."""
    return JobRow(
        job=one.job, from_=rfc3339(one.from_ms), to=rfc3339(one.to_ms), started=rfc3339(one.started_ms),
        last=rfc3339(one.last_ms), clients=one.clients, done=one.done, given_up=one.given_up,
        calls=one.calls, changed=one.changed,
    )  # fmt: skip


def package_details(found: Told) -> PackageDetails:
    """Return a package as catalog files name its fields; volumes of limits are in counting units."""
    spec = found.package
    row = {name: msgspec.to_builtins(getattr(spec, name)) for name in spec.__struct_fields__}
    row["limits"] = [
        {
            name: format_micros(limit.limit) if name == "limit" and limit.type == "money" else value
            for name in limit.__struct_fields__
            if (value := getattr(limit, name)) not in (None, [], 0)
        }
        for limit in spec.limits
    ]
    return PackageDetails(
        package=row, versions=found.versions,
        statuses=[StatusSince(since, status) for since, status in found.statuses],
    )  # fmt: skip
