"""What draws tell beside their transactions: percents of limits, and a balance at its client's mark."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from rater.core.bucket.messages import DrawResult, Outcome, crossing
from rater.core.catalog.offers import LimitText, marks_of
from rater.core.kinds import EventType
from rater.core.rating.crossings import crosses, draw_events

percents = st.lists(st.integers(1, 100), unique=True).map(sorted)


def limit(size: int, of: list[int]) -> LimitText:
    """Return a limit of which these percents are told."""
    return LimitText(
        money=False, waive=False, group=0, field=".m", prefix="", tag="", marks=marks_of(size, of)
    )


def transaction(*limits: str) -> bytes:
    """Return a side's transaction with a draw from each of these limits."""
    draws = [{"client_package": "3", "package_name": "P", "limit": name, "period": 2} for name in limits]
    return json.dumps({
        "id": "s/a/orig", "revision": 1, "client": "42", "account": None, "at": "2026-11-01T00:00:00.000Z",
        "draws": draws,
    }).encode()  # fmt: skip


@given(st.integers(0, 10**12), percents, st.lists(st.integers(1, 10**6), max_size=9), st.data())
@example(1, [50, 80, 100], [], None)
def test_each_percent_is_told_by_the_take_that_crosses_it(
    size: int, of: list[int], parts: list[int], data: st.DataObject | None
) -> None:
    """Whatever calls take of a limit, one after the other: each percent once, when it is reached."""
    used, told = 0, list[int]()
    whole = sum(parts) or 1
    takes = [max(1, size * part // whole) for part in parts]
    if data is None or data.draw(st.booleans()):
        takes.append(size)  # the last one takes what is left
    for number, asked in enumerate(takes):
        taken = min(asked, size - used)
        if taken <= 0:
            break
        before, used = used, used + taken
        result = DrawResult(Outcome.RATED, 0, None, ((0, taken, size - used, 0),))
        found = draw_events(transaction("m"), [limit(size, of)], result, "t/0/7")
        crossed = [json.loads(event.value)["data"]["percent"] for event in found]
        assert crossed == [one for one in of if before * 100 < one * size <= used * 100], number
        assert crosses(limit(size, of).marks, taken, size - used) == bool(crossed)
        told += crossed
    assert told == [one for one in of if 0 < one * size <= used * 100]


def test_what_is_told_of_a_limit() -> None:
    """Its id is the transaction's, with limit and percent; of a limit of no size, or no percents, nothing."""
    result = DrawResult(Outcome.RATED, 0, None, ((1, 10, 90, 0), (0, 5, 0, 0)))
    (first, second) = draw_events(
        transaction("a/b", "m"), [limit(10, [50, 100]), limit(100, [10])], result, "t/0/7"
    )
    assert (first.type, first.key) == (EventType.LIMIT_THRESHOLD, b"42")
    assert json.loads(first.value) == {
        "id": "s/a/orig/1/limit_threshold/a/b/10", "type": "limit_threshold",
        "at": "2026-11-01T00:00:00.000Z",
        "client": "42", "account": None, "client_package": "3", "package_name": "P", "period": 2,
        "cause": "t/0/7", "actor": None, "before": None, "after": None,
        "data": {"limit": "a/b", "percent": 10},
    }  # fmt: skip
    assert json.loads(second.value)["data"] == {"limit": "m", "percent": 100}
    assert marks_of(0, [50, 100]) == marks_of(-3, [100]) == marks_of(10, []) == ()


def test_a_balance_at_its_mark_is_not_low() -> None:
    """Below it is low; a client without a mark crosses none."""
    assert [crossing(*pair, 5) for pair in ((5, 4), (4, 5), (5, 5), (4, 3), (9, 5), (3, 6))] == [
        True, False, None, None, None, False,
    ]  # fmt: skip
    assert crossing(5, -5, None) is None
    result = DrawResult(Outcome.RATED, -5, None, (), None, low=True)
    (event,) = draw_events(transaction(), [], result, "t/0/7")
    assert json.loads(event.value)["id"] == "s/a/orig/1/low_balance"
    assert json.loads(event.value)["client_package"] is None
