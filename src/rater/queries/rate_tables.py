"""Rate tables: which there are, and what a table says of the codes that begin so."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from rater.core.catalog.codes import Rate, RateTable
from rater.core.catalog.compiled import Catalog
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.queries.clients import NotThereError
from rater.readmodel.asked import Listed, Page, checked, read_key, write_key

RateState = Literal["in force", "to come", "ended"]


class TableSummary(Struct, frozen=True, kw_only=True):
    """A rate table. codes: how many it has; rows: of all of them, for each date one."""

    name: str
    currency: str
    code_deck: str | None
    codes: int
    rows: int


class RateRow(Struct, frozen=True, kw_only=True):
    """A row of a rate table, units as in `Rate`. from_ms None: from the beginning; to_ms None: no end.

    name: of its code in the table's code deck.
    """

    code: str
    name: str | None
    state: RateState
    from_ms: int | None
    to_ms: int | None
    price_e10: int
    setup_fee_e10: int
    min_time: int
    interval: int
    grace_time: int


def tables(catalog: Catalog | None, text: str | None, page: Page) -> Listed[TableSummary]:
    """Return the rate tables by name; text: what the name has, in any case. catalog None: there is none."""
    known = {} if catalog is None else catalog.tables
    wanted = (text or "").casefold()
    names = sorted(name for name in known if wanted in name.casefold())
    found = _page(names, 0, len(names), page)
    return Listed(
        rows=[_summary(known[name]) for name in found.keys], next=found.next, previous=found.previous,
        total=len(names),
    )  # fmt: skip


def rates(
    catalog: Catalog | None, table: str, prefix: str | None, page: Page, now_ms: int
) -> tuple[TableSummary, Listed[RateRow]]:
    """Return a rate table, and its rows by code, those of so many codes. prefix: what codes begin with.

    Raises NotThereError where there is no such table.
    """
    of = _table(catalog, table)
    codes, begin = of.codes, prefix or ""
    first, last = bisect_left(codes, begin), bisect_left(codes, begin + _BEHIND)
    found = _page(codes, first, last, page)
    listed = [row for code in found.keys for row in _rows(of, code, now_ms)]
    return _summary(of), Listed(
        rows=listed, next=found.next, previous=found.previous, total=last - first
    )  # fmt: skip


def rated_by(catalog: Catalog | None, table: str, number: str, now_ms: int) -> RateRow | None:
    """Return by which row calls to a number are rated now (RULES.md 2, step 4); None: by none."""
    of = _table(catalog, table)
    found = of.lookup(number, now_ms)
    return None if found is None else _row(of, found, "in force")


_BEHIND = ":"
"""Sorts behind every digit."""


def _table(catalog: Catalog | None, name: str) -> RateTable:
    found = None if catalog is None else catalog.tables.get(name)
    if found is None:
        raise NotThereError("rate table", name)
    return found


def _summary(table: RateTable) -> TableSummary:
    return TableSummary(
        name=table.name, currency=table.currency, code_deck=None if table.deck is None else table.deck.name,
        codes=len(table), rows=table.rows,
    )  # fmt: skip


def _rows(table: RateTable, code: str, now_ms: int) -> list[RateRow]:
    """Return the rows of a code; of those that have begun the last counts, until it ends."""
    found = table.rates_of(code)
    begun = [rate for rate in found if rate.from_ms <= now_ms]
    present = begun[-1] if begun and now_ms < begun[-1].to_ms else None
    return [
        _row(table, rate, "to come" if rate.from_ms > now_ms else "in force" if rate is present else "ended")
        for rate in found
    ]


def _row(table: RateTable, rate: Rate, state: RateState) -> RateRow:
    return RateRow(
        code=rate.code, name=None if table.deck is None else table.deck.codes.get(rate.code), state=state,
        from_ms=None if rate.from_ms == BEGINNING_MS else rate.from_ms,
        to_ms=None if rate.to_ms == NEVER_MS else rate.to_ms, price_e10=rate.price_e10,
        setup_fee_e10=rate.setup_fee_e10, min_time=rate.min_time, interval=rate.interval,
        grace_time=rate.grace_time,
    )  # fmt: skip


class _Found(NamedTuple):
    keys: Sequence[str]
    next: str | None
    previous: str | None


def _page(keys: Sequence[str], first: int, last: int, page: Page) -> _Found:
    """Return a page of the sorted keys between two places. Raises WrongAskedError for what is none."""
    page = checked(page)
    begin = first + page.skip
    if page.after is not None:
        begin = max(first, bisect_right(keys, str(read_key(page.after, ("",), "after")[0])))
    elif page.before is not None:
        end = min(last, bisect_left(keys, str(read_key(page.before, ("",), "before")[0])))
        begin = max(first, end - page.rows)
        last_shown = max(begin, end)
        return _shown(keys, first, last, begin, last_shown)
    return _shown(keys, first, last, min(begin, last), min(begin + page.rows, last))


def _shown(keys: Sequence[str], first: int, last: int, begin: int, end: int) -> _Found:
    end = max(begin, end)
    return _Found(
        keys[begin:end], write_key((keys[end - 1],)) if first <= end - 1 and end < last else None,
        write_key((keys[begin],)) if first < begin < len(keys) else None,
    )  # fmt: skip
