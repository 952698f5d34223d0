"""More lists: what is sold, numbers, what was rejected, what happened, who asked for what, re-rating jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from rater.core.kinds import DidState, EventType
from rater.readmodel import asked as asking
from rater.readmodel import schema
from rater.readmodel.asked import Listed, Page
from rater.readmodel.catalog_rows import tags_of
from rater.readmodel.lists import LAST, between, by_time, kept
from rater.readmodel.pages import Order, find, number
from rater.readmodel.rows import CommandRow, DidRow, EventRow, JobRow, PackageRow, RejectedRow
from rater.readmodel.standings import text_key

ANSWERS = (EventType.COMMAND_DONE, EventType.COMMAND_REFUSED)
"""Events that say what became of a command."""


def packages(run: Connection, asked: asking.Packages, page: Page) -> Listed[PackageRow]:
    """Return packages by id."""
    p = schema.package
    where: list[Any] = [p.c.status.in_(list(asked.statuses))]
    for column, wanted in ((p.c.reseller, asked.reseller), (p.c.dynamic_tag, asked.dynamic_tag)):
        if wanted is not None:
            where.append(column == wanted)
    if asked.did_tag is not None:
        where.append(p.c.did_tags.contains(f"\n{asked.did_tag}\n", autoescape=True))
    if asked.text is not None:
        has = p.c.name_key.contains(text_key(asked.text), autoescape=True)
        where.append(or_(has, p.c.id == asked.text))
    branches = [select(p).where(*where)]
    found = find(run, branches, Order((p.c.key,), ("",)), page)
    names = {row.id: [f"client_packages/{of}/{row.id}" for of in ("pending", "active")] for row in found.rows}
    return found.listed(lambda row: _package(row, kept(run, *names[row.id])), number(run, branches))


def _package(row: Row[Any], assigned: int) -> PackageRow:
    return PackageRow(
        id=row.id, status=row.status, name=row.name, type=row.type, currency=row.currency,
        activation_fee=row.activation_fee, subscription_fee=row.subscription_fee, period=row.period,
        reseller=row.reseller, dynamic_tag=row.dynamic_tag, assigned=assigned,
    )  # fmt: skip


def dids(run: Connection, asked: asking.Dids, page: Page) -> Listed[DidRow]:
    """Return the numbers of the catalog in order, each with who holds it."""
    d, h = schema.did, schema.held_did
    where: list[Any] = []
    if asked.number is not None:
        where += [d.c.number >= asked.number, d.c.number < asked.number + LAST]
    if asked.tag is not None:
        where.append(d.c.tags.contains(f"\n{asked.tag}\n", autoescape=True))
    if asked.client is not None:
        where.append(h.c.client == asked.client)
    if asked.state is not None:
        where.append({
            DidState.FREE: h.c.client.is_(None),
            DidState.IN_USE: and_(h.c.client.is_not(None), h.c.hold_until_ms.is_(None)),
            DidState.ON_HOLD: h.c.hold_until_ms.is_not(None),
        }[asked.state])  # fmt: skip
    shown = select(d, h.c.client, h.c.account, h.c.client_package, h.c.hold_until_ms)
    branches = [shown.outerjoin(h, h.c.number == d.c.number).where(*where)]
    found = find(run, branches, Order((d.c.number,), ("",)), page)
    return found.listed(_did, number(run, branches))


def _did(row: Row[Any]) -> DidRow:
    held = DidState.IN_USE if row.hold_until_ms is None else DidState.ON_HOLD
    return DidRow(
        number=row.number, tags=tags_of(row.tags), state=DidState.FREE if row.client is None else held,
        client=row.client, account=row.account, client_package=row.client_package,
        hold_until_ms=row.hold_until_ms,
    )  # fmt: skip


def rejected(run: Connection, asked: asking.RejectedRecords, page: Page) -> Listed[RejectedRow]:
    """Return rejected records, the newest first."""
    r = schema.rejected
    where = between(r, asked.since_ms, asked.until_ms)
    if asked.reason is not None:
        where.append(r.c.reason == asked.reason)
    if asked.topic is not None:
        where.append(r.c.topic == asked.topic)
    if asked.again is not None:
        where.append(r.c.again == int(asked.again))
    branches = [select(r).where(*where)]
    found = find(run, branches, by_time(r), page)
    total: int | None
    if asked == asking.RejectedRecords(reason=asked.reason):
        total = kept(run, "rejected" if asked.reason is None else f"rejected/{asked.reason}")
    else:
        total = number(run, branches)
    return found.listed(_rejected, total)


def _rejected(row: Row[Any]) -> RejectedRow:
    return RejectedRow(
        rejected_ms=row.ms, partition=row.part, offset=row.place, reason=row.reason, side=row.side,
        detail=row.detail, value=row.value, topic=row.topic, source_partition=row.source_part,
        source_offset=row.source_place, attempt=row.attempt, job=row.job, again=bool(row.again),
    )  # fmt: skip


def events(run: Connection, asked: asking.Events, page: Page) -> Listed[EventRow]:
    """Return events, the newest first."""
    e = schema.event
    branches = [select(e).where(*between(e, asked.since_ms, asked.until_ms), *_of_events(asked))]
    found = find(run, branches, by_time(e), page)
    total: int | None
    if asked == asking.Events(type=asked.type, answers=asked.answers):
        total = _kept_events(run, asked)
    else:
        total = number(run, branches)
    return found.listed(_event, total)


def _kept_events(run: Connection, asked: asking.Events) -> int:
    if asked.type is not None:
        return kept(run, f"events/{asked.type}")
    left_out = 0 if asked.answers else kept(run, *(f"events/{of}" for of in ANSWERS))
    return kept(run, "events") - left_out


def _of_events(asked: asking.Events) -> list[Any]:
    e = schema.event
    wanted: list[Any] = [] if asked.client is None else [e.c.client == asked.client]
    if asked.type is not None:
        return [*wanted, e.c.type == asked.type]
    return wanted if asked.answers else [*wanted, e.c.type.not_in(ANSWERS)]


def events_on(run: Connection, asked: asking.Events, part: int, place: int, rows: int) -> list[EventRow]:
    """Return events of a partition from an offset on, in its order: so many at most."""
    e = schema.event
    on = select(e).where(e.c.part == part, e.c.place >= place, *_of_events(asked))
    return list(map(_event, run.execute(on.order_by(e.c.place).limit(rows))))


def _event(row: Row[Any]) -> EventRow:
    return EventRow(
        told_ms=row.ms, partition=row.part, offset=row.place, id=row.id, type=row.type, at_ms=row.at_ms,
        client=row.client, client_package=row.client_package, package_name=row.package_name, cause=row.cause,
        actor=row.actor,
    )  # fmt: skip


def commands(run: Connection, asked: asking.Commands, page: Page) -> Listed[CommandRow]:
    """Return commands with what became of them, the newest first."""
    c, r = schema.command, schema.result
    where = between(c, asked.since_ms, asked.until_ms)
    if not asked.system:
        where.append(schema.ASKED)
    for column, wanted in ((c.c.client, asked.client), (c.c.actor, asked.actor), (c.c.do, asked.do)):
        if wanted is not None:
            where.append(column == wanted)
    branches = [select(c, r.c.result, r.c.detail).outerjoin(r, r.c.id == c.c.id).where(*where)]
    found = find(run, branches, by_time(c), page)
    counted = [select(c.c.place).where(*where)]
    total = kept(run, "commands") if asked == asking.Commands() else number(run, counted)
    return found.listed(_command, total)


def _command(row: Row[Any]) -> CommandRow:
    return CommandRow(
        sent_ms=row.ms, partition=row.part, offset=row.place, id=row.id, key=row.key, do=row.do,
        at_ms=row.at_ms, actor=row.actor, reason=row.reason, client=row.client,
        client_package=row.client_package, dry_run=row.dry_run, system=bool(row.system), result=row.result,
        detail=row.detail,
    )  # fmt: skip


def jobs(run: Connection, asked: asking.Jobs, page: Page) -> Listed[JobRow]:
    """Return re-rating jobs, the newest first."""
    j = schema.job
    ended = j.c.done + j.c.given_up
    where = [] if asked.open is None else [j.c.clients > ended if asked.open else j.c.clients <= ended]
    branches = [select(j).where(*where)]
    found = find(run, branches, Order((j.c.started_ms, j.c.job), (0, ""), down=True), page)
    # Its public name has an underscore.
    return found.listed(lambda row: JobRow(**row._mapping), number(run, branches))  # noqa: SLF001


def numbers(run: Connection) -> dict[str, int]:
    """Return how many rows there are of each kind."""
    names = ("transactions", "clients", "pending_charges", "rejected", "events", "commands")
    packages_of = {f"client_packages/{of}": "client_packages" for of in schema.STATUSES}
    table, found = schema.count, dict.fromkeys((*names, "client_packages"), 0)
    asked = select(table).where(table.c.name.in_([*names, *packages_of]))
    for row in run.execute(asked):
        found[packages_of.get(row.name, row.name)] += row.number
    found["packages"] = run.execute(select(func.count()).select_from(schema.package)).scalar_one()
    return found
