"""What pages with lists share: filters in the URL, which page it is, and where the others are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rater.admin.office import Visit, moment_ms
from rater.admin.problems import wrong
from rater.admin.shown import query
from rater.readmodel.asked import COUNT_MAX, Listed, Page

T = TypeVar("T")

ROWS = (25, 50, 100, 200)
"""Rows of a page that may be chosen."""
ROWS_FIRST = 50
_PAGE_MAX = 10**9


class Pager:
    """Where a list is: its filters, the rows of a page, and the number of the page."""

    def __init__(self, visit: Visit, path: str, names: tuple[str, ...]) -> None:
        """Read the URL. names: of the filters. Raises Problem for numbers that are none."""
        self.path, self._visit = path, visit
        self.filters = {name: visit.query.get(name, "").strip() for name in names}
        self.several: dict[str, list[str]] = {}
        self.rows = _number(visit, "rows", ROWS_FIRST)
        self.number = _number(visit, "page", 1)
        if self.rows not in ROWS:
            raise wrong("rows", f"{self.rows}: there are pages of {', '.join(map(str, ROWS))}")

    def text(self, name: str) -> str | None:
        """Return what a filter says, None: nothing."""
        return self.filters[name] or None

    def choices(self, name: str, known: tuple[str, ...], first: tuple[str, ...]) -> list[str]:
        """Return the chosen ones of several; `first` where none is chosen. Raises Problem for others."""
        given = self._visit.every.get(name, [])
        for one in given:
            if one not in known:
                raise wrong(name, f"{one}: there are {', '.join(known)}")
        self.several[name] = given or list(first)
        return self.several[name]

    def choice(self, name: str, known: tuple[str, ...]) -> str | None:
        """Return the chosen one, None: whichever. Raises Problem for others."""
        found = self.text(name)
        if found is not None and found not in known:
            raise wrong(name, f"{found}: there are {', '.join(known)}")
        return found

    def moment(self, name: str) -> int | None:
        """Return a bound in time: a date (00:00 UTC) or RFC 3339. Raises Problem for others."""
        try:
            return moment_ms(self.text(name))
        except ValueError as error:
            raise wrong(name, str(error)) from error

    def page(self) -> Page:
        """Return which rows to ask for. Raises Problem where a page is too far to jump to."""
        after, before = (self._visit.query.get(name) or None for name in ("after", "before"))
        if after is not None or before is not None:
            return Page(rows=self.rows, after=after, before=None if after is not None else before)
        skip = (self.number - 1) * self.rows
        if skip > COUNT_MAX:
            raise wrong(
                "page", f"{self.number} is too far to jump to: the first {COUNT_MAX // self.rows} pages can "
                "be opened by their number, further ones one after the other"
            )  # fmt: skip
        return Page(rows=self.rows, skip=skip)

    def told(self, found: Listed[T]) -> dict[str, Any]:
        """Return what the page says of its list, and of the pages beside it."""
        values: Mapping[str, Any] = {**self.filters, **self.several, "rows": self.rows}
        pages = None if found.total is None else max(1, -(-found.total // self.rows))
        return {
            "path": self.path, "filters": self.filters, "several": self.several, "rows": self.rows,
            "rows_known": ROWS, "number": self.number, "pages": pages, "total": found.total,
            "next": None if found.next is None
            else self.path + query(values, page=self.number + 1, after=found.next),
            "previous": None if found.previous is None
            else self.path + query(values, page=max(1, self.number - 1), before=found.previous),
        }  # fmt: skip


def place_of(visit: Visit, partitions: int) -> tuple[int, int] | None:
    """Return partition and offset of a path; None: a topic of so many partitions has no such place."""
    partition, offset = visit.path["partition"], visit.path["offset"]
    if not (partition.isdecimal() and offset.isdecimal() and (partition + offset).isascii()):
        return None
    if len(partition) > 6 or len(offset) > 18 or int(partition) >= partitions:  # noqa: PLR2004 - of Kafka's numbers
        return None
    return int(partition), int(offset)


def _number(visit: Visit, name: str, default: int) -> int:
    text = visit.query.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) <= _PAGE_MAX:
        raise wrong(name, f"{text[:40]} is no number of 1 to {_PAGE_MAX}")
    return int(text)
