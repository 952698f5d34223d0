"""The lists of the read model, as statements: each takes a connection, what is asked, and a page."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, false, func, or_, select

from rater.core.kinds import TransactionType
from rater.readmodel import asked as asking
from rater.readmodel import schema
from rater.readmodel.asked import Listed, Page
from rater.readmodel.decoding import id_key
from rater.readmodel.pages import Order, find, number
from rater.readmodel.rows import (
    ClientPackageRow,
    ClientRow,
    PendingChargeRow,
    TransactionRow,
)
from rater.readmodel.schema import KINDS, REVERSAL, STATUSES, USAGE
from rater.readmodel.standings import Charge, text_key

LAST = "\U0010ffff"
"""Behind all texts that begin alike."""
_charge = msgspec.msgpack.Decoder(Charge).decode


def kept(run: Connection, *names: str) -> int:
    """Return the sum of counts that are kept."""
    table = schema.count
    return int(
        run.execute(
            select(func.coalesce(func.sum(table.c.number), 0)).where(table.c.name.in_(names))
        ).scalar_one()
    )


def by_time(table: Any) -> Order:
    """Return the order of records: by their time and place, the newest first."""
    return Order((table.c.ms, table.c.part, table.c.place), (0, 0, 0), down=True)


def between(table: Any, since_ms: int | None, until_ms: int | None) -> list[Any]:
    """Return what holds for records of a span of time."""
    ms = table.c.ms
    return [
        *([] if since_ms is None else [ms >= since_ms]),
        *([] if until_ms is None else [ms < until_ms]),
    ]


# ------------------------------------------------------------------------------------------- transactions
def transactions(run: Connection, asked: asking.Transactions, page: Page) -> Listed[TransactionRow]:
    """Return transactions, those that were published last first."""
    t, order = schema.txn, by_time(schema.txn)
    where = between(t, asked.since_ms, asked.until_ms)
    if not asked.reversals and asked.type != TransactionType.REVERSAL:
        where.append(t.c.stands == 1)
    client = asked.client
    if asked.account is not None:
        client = client or owner_of(run, asked.account)
        where += [t.c.account == asked.account, *([] if client else [false()])]
    base: Select[Any] = select(t)
    kind = None if asked.type is None else KINDS.index(asked.type)
    if asked.id is not None:
        where.append(_of_id(asked.id))
    elif asked.client_package is not None:
        where.append(t.c.client_package == asked.client_package)
    elif kind not in (None, USAGE):
        where.append(schema.NO_USAGE)
    elif client is not None:
        base = base.join(schema.segment, t.c.segment == schema.segment.c.id)
        order = order._replace(ahead=schema.segment.c.id)
    if client is not None:
        where.append(t.c.client == client)
    if kind is not None:
        where.append(t.c.kind == kind)
    found = find(run, [base.where(*where)], order, page)
    name = _kept_name(asked)
    counted = base.with_only_columns(t.c.place).where(*where)
    return found.listed(_transaction, number(run, [counted]) if name is None else kept(run, name))


def _kept_name(asked: asking.Transactions) -> str | None:
    """Return the count that is kept of what is asked, None: there is none."""
    if asked == asking.Transactions(reversals=True):
        return "transactions/all"
    if asked == asking.Transactions(type=asked.type):
        return "transactions" if asked.type is None else f"transactions/{asked.type}"
    return None


def _of_id(asked: str) -> Any:
    """Return what holds for the transaction of an id, and for those of the call SOURCE/CDR."""
    t = schema.txn
    keys = {id_key(asked), id_key(asked.rpartition("/")[0])}
    return and_(
        t.c.segment.in_(select(schema.segment.c.id)), t.c.id_key.in_(keys),
        t.c.id.in_([asked, f"{asked}/orig", f"{asked}/term"]),
    )  # fmt: skip


def _transaction(row: Row[Any]) -> TransactionRow:
    return TransactionRow(
        published_ms=row.ms, partition=row.part, offset=row.place, client=row.client, account=row.account,
        id=row.id, revision=row.revision, type=KINDS[row.kind], at_ms=row.at_ms,
        client_package=row.client_package, called=row.called, what=row.what, drawn=row.drawn,
        billed=row.billed, amount=row.amount, currency=row.currency,
        stands=row.kind != REVERSAL and bool(row.stands),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- clients
def owner_of(run: Connection, account: str) -> str | None:
    """Return the client that an account belongs to."""
    table = schema.account
    return run.execute(select(table.c.client).where(table.c.id == account)).scalar_one_or_none()


def clients(run: Connection, asked: asking.Clients, page: Page) -> Listed[ClientRow]:
    """Return clients by id; those of a text by name."""
    c = schema.client
    mine = [] if asked.reseller is None else [c.c.reseller == asked.reseller]
    if asked.text is None:
        found = find(run, [select(c).where(*mine)], Order((c.c.key,), ("",)), page)
        total: int | None = kept(run, "clients" if asked.reseller is None else f"clients/{asked.reseller}")
    else:
        begins = text_key(asked.text)
        exact = [asked.text, owner_of(run, asked.text) or asked.text]
        branches = [
            select(c).where(
                c.c.name_key >= begins, c.c.name_key < begins + LAST, c.c.id.not_in(exact), *mine
            ),
            select(c).where(c.c.id.in_(exact), *mine),
        ]
        found = find(run, branches, Order((c.c.name_key, c.c.key), ("", "")), page)
        total = number(run, branches)
    return found.listed(_client, total)


def _client(row: Row[Any]) -> ClientRow:
    return ClientRow(
        id=row.id, name=row.name, reseller=row.reseller, currency=row.currency,
        credit_limit=row.credit_limit, accounts=row.accounts, client_packages=row.client_packages,
        pending_charges=row.pending, version=row.version, partition=row.part, offset=row.place,
    )  # fmt: skip


def client_packages(
    run: Connection, asked: asking.ClientPackages, page: Page
) -> Listed[ClientPackageRow]:  # fmt: skip
    """Return client packages by client, those of one in its order."""
    p = schema.client_package
    where: list[Any] = []
    client = asked.client
    if asked.account is not None:
        client = client or owner_of(run, asked.account)
        where += [or_(p.c.account.is_(None), p.c.account == asked.account), *([] if client else [false()])]
    for column, wanted in (
        (p.c.client, client),
        (p.c.package, asked.package),
        (p.c.id, asked.client_package),
    ):
        if wanted is not None:
            where.append(column == wanted)
    statuses = sorted({STATUSES.index(of) for of in asked.statuses})
    few = client is not None or asked.client_package is not None
    branches = (
        [select(p).where(p.c.status.in_(statuses), *where)]
        if few
        else [select(p).where(p.c.status == of, *where) for of in statuses] or [select(p).where(false())]
    )
    found = find(run, branches, Order((p.c.client_key, p.c.seat), ("", 0)), page)
    if few:
        total = number(run, branches)
    else:
        package = "" if asked.package is None else f"/{asked.package}"
        total = kept(run, *(f"client_packages/{STATUSES[of]}{package}" for of in statuses))
    return found.listed(_client_package, total)


def _client_package(row: Row[Any]) -> ClientPackageRow:
    return ClientPackageRow(
        client=row.client, id=row.id, account=row.account, package=row.package, status=STATUSES[row.status],
        state=row.state, quantity=row.quantity, version=row.version, period=row.period,
        period_start_ms=row.period_start_ms, period_stop_ms=row.period_stop_ms, start_ms=row.start_ms,
        end_ms=row.end_ms, renewal_ms=row.renewal_ms, partition=row.part, offset=row.place,
    )  # fmt: skip


def pending_charges(
    run: Connection, asked: asking.PendingCharges, page: Page
) -> Listed[PendingChargeRow]:  # fmt: skip
    """Return pending charges, those that wait longest first."""
    p = schema.client_package
    mine = [] if asked.client is None else [p.c.client == asked.client]
    branches = [select(p).where(p.c.since_ms.is_not(None), *mine)]
    found = find(run, branches, Order((p.c.since_ms, p.c.client_key, p.c.seat), (0, "", 0)), page)
    total = kept(run, "pending_charges") if asked.client is None else number(run, branches)
    return found.listed(lambda row: _pending_charge(row, _charge(row.charge)), total)


def _pending_charge(row: Row[Any], charge: Charge) -> PendingChargeRow:
    return PendingChargeRow(
        id=f"{row.id}/{charge.period}", client=row.client, client_package=row.id, package=row.package,
        period=charge.period, kind=charge.kind, reason=charge.reason, activation=charge.activation,
        subscription=charge.subscription, tax=charge.tax, total=charge.total, currency=charge.currency,
        since_ms=row.since_ms, retry_until_ms=charge.retry_until_ms, invoiced=charge.invoiced,
    )  # fmt: skip
