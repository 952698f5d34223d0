"""Rate tables as they are listed: pages of codes, what holds when, what rates a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.catalog.codes import Row
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content, DeckSpec, RateTableSpec
from rater.queries.clients import NotThereError
from rater.queries.rate_tables import rated_by, rates, tables
from rater.readmodel.asked import Page, WrongAskedError

NOW_MS = 1_000_000


def catalog(rows: list[Row], names: dict[str, str] | None = None) -> Catalog:
    """Return a catalog of one table."""
    deck = None if names is None else "d"
    content = Content(
        decks={} if names is None else {"d": DeckSpec("d", names)},
        rate_tables={"t": RateTableSpec("t", "USD", deck, rows)},
    )
    return compile_catalog(content, 1)


@given(
    st.sets(st.text("0123456789", min_size=1, max_size=4), max_size=30),
    st.text("0123456789", max_size=2), st.integers(1, 7),
)  # fmt: skip
def test_pages_are_the_codes_that_begin_so(codes: set[str], prefix: str, size: int) -> None:
    """Forth by `next` and back by `previous` they are all codes of the prefix, each once and in order."""
    of = catalog([Row(code, 1) for code in sorted(codes)])
    wanted = sorted(code for code in codes if code.startswith(prefix))
    found: list[str] = []
    after, firsts = None, list[list[str]]()
    while True:
        _, page = rates(of, "t", prefix or None, Page(rows=size, after=after), NOW_MS)
        assert page.total == len(wanted)
        firsts.append([row.code for row in page.rows])
        found += firsts[-1]
        if page.next is None:
            break
        after = page.next
    assert found == wanted
    for before in reversed(firsts[:-1]):
        assert page.previous is not None
        _, page = rates(of, "t", prefix or None, Page(rows=size, before=page.previous), NOW_MS)
        assert [row.code for row in page.rows] == before


def test_of_the_rows_of_a_code_one_holds() -> None:
    """The one that began last, until it ends; the others have ended or are to come."""
    rows = [
        Row("1", 10, from_ms=None, to_ms=None), Row("1", 20, from_ms=NOW_MS - 5, to_ms=NOW_MS + 5),
        Row("1", 30, from_ms=NOW_MS + 5), Row("12", 40, from_ms=5, to_ms=NOW_MS),
    ]  # fmt: skip
    of = catalog(rows, {"1": "One"})
    summary, found = rates(of, "t", None, Page(), NOW_MS)
    assert (summary.codes, summary.rows, summary.code_deck) == (2, 4, "d")
    assert [(row.code, row.name, row.state) for row in found.rows] == [
        ("1", "One", "ended"), ("1", "One", "in force"), ("1", "One", "to come"), ("12", None, "ended"),
    ]  # fmt: skip
    by = rated_by(of, "t", "123", NOW_MS)
    assert by is not None
    assert (by.code, by.price_e10) == ("1", 20)
    assert rated_by(of, "t", "9", NOW_MS) is None


def test_what_is_not_there() -> None:
    """No catalog, no table, a key of another list."""
    assert tables(None, None, Page()).rows == []
    assert [row.name for row in tables(catalog([]), "T", Page()).rows] == ["t"]
    with pytest.raises(NotThereError):
        rates(None, "t", None, Page(), NOW_MS)
    with pytest.raises(WrongAskedError):
        rates(catalog([]), "t", None, Page(after="x"), NOW_MS)
