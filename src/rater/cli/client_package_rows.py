"""Client packages as lists show them: rows for programs, columns for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rater.cli.printing import Column, Row, bar, column, is_terminal
from rater.cli.times import shown_time

if TYPE_CHECKING:
    from rater.queries.client_packages import ClientPackageUse
    from rater.queries.history import AccountUse, PastPeriod
    from rater.queries.limits import LimitUse
    from rater.queries.pending_charges import PendingCharge

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415


def package_row(use: ClientPackageUse) -> Row:
    """Return a client package as lists show it: instants in RFC 3339, amounts as decimal text."""
    return {
        "id": use.id,
        "client": use.client,
        "account": use.account,
        "package": use.package,
        "package_name": use.package_name,
        "package_status": use.package_status,
        "status": use.status,
        "state": use.state,
        "why_pending": None if use.pending is None else use.pending.reason,
        "quantity": use.quantity,
        "version": use.version,
        "period": use.period,
        "period_start": instant(use.period_start_ms),
        "period_stop": instant(use.period_stop_ms),
        "start": instant(use.start_ms),
        "end": instant(use.end_ms),
        "next_renewal": instant(use.renewal_ms),
        "limits": list(map(limit_row, use.limits)),
    }


def system_row(use: ClientPackageUse) -> Row:
    """Return the system information of a client package (RULES.md section 4), and what it waits for."""
    return {
        **package_row(use),
        "charge_on_event": use.charge_on_event,
        "charged": use.charged,
        "reactivations": use.activations,
        "align_to_payment_terms": use.aligned,
        "recalculate_to_period": use.aligned and not use.full_charge,
        "pending_charge": None if use.pending is None else charge_row(use.pending),
        "dids": [
            {"number": did.number, "account": did.account, "hold_until": instant(did.hold_until_ms)}
            for did in use.dids
        ],
    }


def limit_row(limit: LimitUse) -> Row:
    """Return a limit in a period: size, used and left as decimal text."""
    from rater.core.amounts import format_micros

    show = format_micros if limit.kind == "money" else str
    return {
        "limit": limit.limit,
        "kind": limit.kind,
        "service": limit.service,
        "code": limit.code,
        "code_name": limit.code_name,
        "unit": limit.unit,
        "size": show(limit.size),
        "used": show(limit.used),
        "left": show(limit.left),
        "bar": bar(limit.used, limit.size),
    }


def charge_row(charge: PendingCharge) -> Row:
    """Return a pending charge (CONTRACTS.md, Events)."""
    from rater.core.amounts import format_micros

    parts = ("activation", "subscription", "tax", "total")
    return {
        "id": charge.id,
        "client": charge.client,
        "client_package": charge.client_package,
        "period": charge.period,
        "amounts": {name: format_micros(getattr(charge, name)) for name in parts},
        "missing": format_micros(charge.missing),
        "currency": charge.currency,
        "since": instant(charge.since_ms),
        "retry_until": instant(charge.retry_until_ms),
        "invoiced": charge.invoiced,
        "package": charge.package,
        "kind": charge.kind,
        "reason": charge.reason,
    }


def past_row(period: PastPeriod) -> Row:
    """Return one period of a client package, with what of its limits was used."""
    from rater.core.amounts import format_micros

    return {
        "period": period.number,
        "start": instant(period.start_ms),
        "stop": instant(period.stop_ms),
        "voided": period.voided,
        "limits": list(map(limit_row, period.limits)),
        "fees": [{"type": fee.type, "amount": format_micros(fee.amount)} for fee in period.fees],
    }


def account_row(use: AccountUse) -> Row:
    """Return what an account took of a limit in a period."""
    from rater.core.amounts import format_micros

    return {
        "account": use.account,
        "period": use.period,
        "limit": use.limit,
        "taken": str(use.taken) if use.currency is None else format_micros(use.taken),
        "currency": use.currency,
    }


def instant(at_ms: int | None) -> str | None:
    """Return an instant in RFC 3339."""
    from rater.core.instants import rfc3339

    return None if at_ms is None else rfc3339(at_ms)


def a_line_each(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a line for each limit; on a terminal what the line above says already is left out."""
    for row in rows:
        for place, limit in enumerate(row["limits"] or [{}]):
            yield {**(row if place == 0 or not is_terminal() else dict.fromkeys(row)), "of": limit}


def state_text(row: Row) -> str:
    """Return what comes next for a client package, and why where it waits for something else than funds."""
    if row["state"] != "waits":
        return str(row["state"] or "")
    return f"waits ({str(row['why_pending']).replace('_', ' ')})"


_CODE = Column("code", lambda row: str(row["of"].get("code") or row["of"].get("code_name") or ""))
_USED = Column("used", lambda row: str(row["of"].get("bar", "")), style=lambda row: _colour(row["of"]))

PACKAGE = [
    column("id"),
    column("client"),
    Column("account", lambda row: row["account"] or ("" if row["id"] is None else "all")),
    Column("package", lambda row: str(row["package_name"] or row["package"] or "")),
    column("status"),
    Column("state", state_text),
    column("period", right=True),
    Column("from", lambda row: shown_time(row["period_start"] or row["start"])),
    Column("to", lambda row: shown_time(row["period_stop"] or row["end"])),
    _CODE,
    _USED,
    Column("", lambda row: _of(row["of"]), right=True),
]

PAST = [
    column("period", right=True),
    Column("from", lambda row: shown_time(row["start"])),
    Column("to", lambda row: shown_time(row["stop"])),
    _CODE,
    _USED,
    Column("", lambda row: _of(row["of"]), right=True),
    Column("", lambda row: "voided" if row["voided"] else ""),
]

ACCOUNT = [
    Column("account", lambda row: str(row["account"] or "none")),
    column("limit"),
    Column("taken", lambda row: " ".join(filter(None, (row["taken"], row["currency"]))), right=True),
]


def _of(limit: Row) -> str:
    return f"{limit['used']} / {limit['size']} {limit['unit']}" if limit else ""


def _colour(limit: Row) -> str:
    return "red" if limit.get("left") == "0" else "green"
