"""Handlers of the API about rate tables: what they say, and importing a carrier's deck into one."""

from __future__ import annotations

import msgspec

from rater.admin.deck_imports import DeckAsked, DeckDone
from rater.admin.deck_imports import import_deck as carried_out
from rater.admin.office import Call, now_ms
from rater.admin.orders import Writing
from rater.admin.problems import wrong
from rater.admin.rate_answers import RateAnswer, RateList, RateTableList, RateTableRow
from rater.admin.reading import page
from rater.admin.telling import instant
from rater.admin.uploads import Upload
from rater.core.amounts import format_e10
from rater.queries import catalog as catalog_queries
from rater.queries import rate_tables as queries
from rater.queries.rate_tables import RateRow, TableSummary


async def rate_tables(call: Call) -> RateTableList:
    """List rate tables."""
    at = call.office.at
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    found = queries.tables(catalog, call.query.text, page(call.query))
    return RateTableList(
        rows=list(map(table_row, found.rows)), next=found.next, previous=found.previous, total=found.total
    )


async def rates(call: Call) -> RateList:
    """List the rates of a table."""
    query, name, at = call.query, call.path["id"], call.office.at
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    table, found = queries.rates(catalog, name, query.code, page(query), now_ms())
    number = query.number
    by = None if number is None else queries.rated_by(catalog, name, number, now_ms())
    return RateList(
        table=table_row(table), rated_by=None if by is None else rate_row(by),
        rows=list(map(rate_row, found.rows)), next=found.next, previous=found.previous, total=found.total,
    )  # fmt: skip


async def import_deck(call: Call) -> DeckDone:
    """Import a carrier's deck into a rate table, or tell the difference."""
    query = call.query
    if not query.dry_run and not query.seen:
        raise wrong("seen", "is missing; give what a dry run with this deck has answered as `seen`")
    asked = DeckAsked(
        Upload(query.file, call.body), call.path["id"], query.profile or "", query.columns, query.effective
    )
    writing = Writing(call.user, call.key, query.reason, query.dry_run)
    return await carried_out(call.office.settings, call.office.imports, asked, writing, query.seen)


def table_row(table: TableSummary) -> RateTableRow:
    """Return a rate table as the API tells it."""
    return msgspec.convert(msgspec.to_builtins(table), RateTableRow)


def rate_row(rate: RateRow) -> RateAnswer:
    """Return a row of a rate table as the API tells it."""
    return RateAnswer(
        code=rate.code, name=rate.name, state=rate.state, from_=instant(rate.from_ms),
        to=instant(rate.to_ms), price=format_e10(rate.price_e10), setup_fee=format_e10(rate.setup_fee_e10),
        min_time=rate.min_time, interval=rate.interval, grace_time=rate.grace_time,
    )  # fmt: skip
