"""Codes, rate tables and patterns."""

from hypothesis import given
from hypothesis import strategies as st

from rater.core.catalog.codes import Deck, RateTable, Row, pattern_rank

digits = st.text("0123", min_size=1, max_size=4)


@given(
    st.lists(st.tuples(digits, st.none() | st.integers(0, 9), st.none() | st.integers(10, 20)), max_size=12),
    st.text("0123", min_size=1, max_size=6),
    st.integers(0, 20),
)
def test_lookup_agrees_with_the_rule(
    rows: list[tuple[str, int | None, int | None]], number: str, at_ms: int
) -> None:
    """The longest code that begins the number and has a row in force is found (RULES.md 2, step 4)."""
    unique = {(code, start): stop for code, start, stop in rows}
    table = RateTable(
        "t", "USD", Deck("d", {}),
        [
            Row(code, position, from_ms=start, to_ms=stop)
            for position, ((code, start), stop) in enumerate(unique.items())
         ],
    )  # fmt: skip
    expected = None
    for length in range(len(number), 0, -1):
        own = [
            (-1 if start is None else start, position, stop)
            for position, ((code, start), stop) in enumerate(unique.items())
            if code == number[:length] and (start is None or start <= at_ms)
        ]
        if own and (max(own)[2] is None or at_ms < (max(own)[2] or 0)):
            expected = max(own)[1]
            break
    found = table.lookup(number, at_ms)
    assert (None if found is None else found.price_e10) == expected


def test_patterns() -> None:
    """`121` is exact, `121*` reaches longer codes, a longer wildcard is more specific (RULES.md 3.1)."""
    assert pattern_rank("121", "1212") is None
    exact, longer, shorter, all_codes = (pattern_rank(p, "1212") for p in ("1212", "121*", "1*", "*"))
    assert exact is not None
    assert longer is not None
    assert shorter is not None
    assert all_codes is not None
    assert exact < longer < shorter < all_codes


def test_a_rate_keeps_the_spelling_of_its_codes_row() -> None:
    """A transaction shows the code name as the deck spells it for that code, whatever its name reads like."""
    deck = Deck("d", {"1242": "Bahamas", "124235": "BAHAMAS "})
    table = RateTable("t", "USD", deck, [Row("1242", 1), Row("124235", 1)])
    rates = [table.lookup(number, 0) for number in ("12421", "1242351")]
    assert [rate and rate.name for rate in rates] == ['"Bahamas"', '"BAHAMAS "']
    assert deck.codes_named("bahamas") == {"1242", "124235"}
    assert deck.codes_named("Bahama") == frozenset()
