"""Pages by keys: the rows behind a key, or before it, by an index, however far into a list they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Column, Connection, Row, Select, func, literal, select, tuple_, union_all

from rater.readmodel.asked import COUNT_MAX, Key, Listed, Page, checked, read_key, write_key

_R = TypeVar("_R")


class Order(NamedTuple):
    """What a list is sorted by: columns of its rows, all upwards or all downwards; like: a key's values.

    ahead: a column that rises with the others, by which they are found.
    """

    columns: tuple[Column[Any], ...]
    like: Key
    down: bool = False
    ahead: Column[Any] | None = None

    @property
    def names(self) -> list[str]:
        """The columns' names, as rows have them."""
        return [column.name for column in self.columns]


class Found(NamedTuple):
    """Rows of a page, and keys of what is behind and before them."""

    rows: list[Row[Any]]
    next: str | None
    previous: str | None

    def listed(self, made: Callable[[Row[Any]], _R], total: int | None) -> Listed[_R]:
        """Return the page as it is shown. made: what a row is shown as."""
        rows = [made(row) for row in self.rows]
        return Listed(rows=rows, next=self.next, previous=self.previous, total=total)


def find(run: Connection, branches: Sequence[Select[Any]], order: Order, page: Page) -> Found:
    """Return a page of rows. branches: lists of the same columns, which together are the list.

    Raises WrongAskedError.
    """
    checked(page)
    back = page.before is not None
    key = page.before if back else page.after
    down = order.down != back
    wanted = page.skip + page.rows + 1
    asked = [_bounded(one, order, key, "before" if back else "after", down=down) for one in branches]
    columns = order.columns if order.ahead is None else (order.ahead, *order.columns)
    sorted_by = [column.desc() if down else column.asc() for column in columns]
    if len(asked) == 1:
        whole = asked[0].order_by(*sorted_by).limit(page.rows + 1).offset(page.skip)
    else:
        parts = [select(one.order_by(*sorted_by).limit(wanted).subquery()) for one in asked]
        every = union_all(*parts).subquery()
        by = [every.c[name].desc() if down else every.c[name].asc() for name in order.names]
        whole = select(every).order_by(*by).limit(page.rows + 1).offset(page.skip)
    rows = list(run.execute(whole))
    more, rows = len(rows) > page.rows, rows[: page.rows]
    if back:
        rows.reverse()
    first = page.after is None and page.before is None and not page.skip
    has_next, has_previous = (True, more) if back else (more, not first)
    return Found(
        rows,
        _key_of(rows[-1], order) if rows and has_next else None,
        _key_of(rows[0], order) if rows and has_previous else None,
    )


def _bounded(asked: Select[Any], order: Order, key: str | None, field: str, *, down: bool) -> Select[Any]:
    if key is None:
        return asked
    values = tuple_(*map(literal, read_key(key, order.like, field)))
    place = tuple_(*order.columns)
    return asked.where(place < values if down else place > values)


def _key_of(row: Row[Any], order: Order) -> str:
    return write_key(tuple(getattr(row, name) for name in order.names))


def number(run: Connection, branches: Sequence[Select[Any]]) -> int | None:
    """Return how many rows there are, None: more than `COUNT_MAX`."""
    total = 0
    for one in branches:
        some = one.limit(COUNT_MAX + 1).subquery()
        total += run.execute(select(func.count()).select_from(some)).scalar_one()
        if total > COUNT_MAX:
            return None
    return total
