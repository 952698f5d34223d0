"""What a deck changes: by effective dates, full and partial, beside what is in force and scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.catalog.codes import RateTable, Row
from rater.core.catalog.specs import Content, DeckSpec, RateTableSpec
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.merging import Existing, Merged, merge
from rater.core.decks.cells import Cell
from rater.core.decks.planning import Plan, plan
from rater.core.decks.profile import Profile
from rater.core.decks.reading import Sheet
from rater.core.periods import canonical_when, when_ms, zone_of

HEAD = ("Code", "Rate", "Effective Date", "Status")


def day(text: str) -> int:
    """Return the instant of a date in UTC."""
    return when_ms(canonical_when(text), zone_of("UTC"))


NOW = day("2026-11-20T12:00:00Z")
DEC = day("2026-12-01")
OCT = day("2026-10-01")
BEFORE = Content(
    base="USD",
    currencies={"EUR": []},
    decks={"a-z": DeckSpec("a-z", {"380": "Ukraine", "44": "UK"})},
    rate_tables={
        "acme": RateTableSpec(
            "acme", "USD", "a-z", [Row("380", 10**9, 5 * 10**8, 60, 60, 3), Row("44", 10**8)]
        ),
    },
)


def found(
    *rows: Sequence[Cell], content: Content | None = BEFORE, table: str = "acme", **profile: Any
) -> Any:
    """Return the plan of a deck with these rows below HEAD, or faults."""
    head = profile.pop("head", HEAD)
    sheet = Sheet("acme.csv", "", enumerate([head, *rows], 1))
    effective = profile.pop("effective", None)
    return plan(content, 7, sheet, table, Profile(**profile), effective_ms=effective, now_ms=NOW)


def planned(*rows: Sequence[Cell], **more: Any) -> Plan:
    """Return the plan of a deck without faults."""
    made = found(*rows, **more)
    assert isinstance(made, Plan), [str(fault) for fault in made]
    return made


def faults(*rows: Sequence[Cell], **more: Any) -> list[str]:
    """Return the faults of a deck."""
    made = found(*rows, **more)
    assert isinstance(made, list)
    assert all(isinstance(fault, Fault) for fault in made)
    return [str(fault) for fault in made]


def counts(made: Plan) -> dict[str, int]:
    """Return how often each kind is there."""
    return {kind: count for kind, count in made.difference.counts.items() if count}


def prices(made: Plan, code: str) -> list[tuple[int, int | None, int | None]]:
    """Return (price, from, to) of a code's rows as they will be."""
    return [(row.price_e10, row.from_ms, row.to_ms) for row in made.table.rates if row.code == code]


def loaded(made: Plan, content: Content | None = BEFORE) -> Content:
    """Return the catalog after a load of the plan."""
    merged = merge(content, made.rows(), NOW, Existing({}, {}))
    assert isinstance(merged, Merged), merged
    return merged.content


def test_a_partial_notice_for_next_month() -> None:
    """Changed codes alone: old rows end when the new begin, the others stay."""
    made = planned(("380", "0.2", "2026-12-01", "Increase"), ("1", "0.01", "2026-12-01", "New"))
    assert counts(made) == {"dearer": 1, "new": 1, "moved": 1, "stays": 1}
    assert prices(made, "380") == [(10**9, None, DEC), (2 * 10**9, DEC, None)]
    assert prices(made, "1") == [(10**8, DEC, None)]
    assert prices(made, "44") == [(10**8, None, None)]
    row = made.table.rates[2]
    assert (row.code, row.setup_fee_e10, row.min_time, row.interval, row.grace_time) == (
        "380",
        5 * 10**8,
        60,
        60,
        3,
    )


def test_a_full_deck_closes_what_it_does_not_have() -> None:
    """Codes that a full deck lacks end when it begins: at its first day, not before now."""
    made = planned(("380", "0.1", "2026-12-01"), kind="full")
    assert counts(made) == {"unchanged": 1, "lost": 1}
    assert prices(made, "44") == [(10**8, None, DEC)]
    made = planned(("380", "0.1", "2026-10-01"), kind="full")
    assert prices(made, "44") == [(10**8, None, NOW)]
    assert prices(made, "380") == [(10**9, None, None)]
    # What stays has its day of long ago: the deck is December's all the same.
    rows = (("380", "0.1", "2026-10-01", "No change"), ("39", "0.2", "2026-12-01", "New"))
    made = planned(*rows, kind="full")
    assert prices(made, "44") == [(10**8, None, DEC)]
    assert counts(planned(*rows, kind="full", content=loaded(made))) == {"unchanged": 2}


def test_the_same_deck_again_changes_nothing() -> None:
    """What was loaded is unchanged the next time, row for row, by the load too."""
    rows = (
        ("380", "0.2", "2026-12-01", "Increase"),
        ("44", "0.005", "2026-10-01", "Decrease"),
        ("7", "1", "2026-12-01"),
    )
    for kind in ("full", "partial"):
        first = planned(*rows, kind=kind)
        content = loaded(first)
        again = planned(*rows, kind=kind, content=content)
        assert counts(again) == {"unchanged": 3}
        assert again.table == first.table
        merged = merge(content, again.rows(), NOW, Existing({}, {}))
        assert isinstance(merged, Merged)
        assert not merged.changed


def test_what_is_scheduled_is_compared_on_its_day() -> None:
    """A price for December is compared with December's, and replaces what was scheduled for that day."""
    content = loaded(planned(("380", "0.2", "2026-12-01")))
    made = planned(("380", "0.15", "2026-12-01"), content=content)
    (change,) = made.difference.changes
    assert change.kind == "cheaper"
    assert change.before is not None
    assert change.before.price_e10 == 2 * 10**9
    assert prices(made, "380") == [(10**9, None, DEC), (15 * 10**8, DEC, None)]


def test_a_full_deck_withdraws_what_was_scheduled() -> None:
    """A full deck without the rise of December takes it back: the price that holds goes on."""
    content = loaded(planned(("380", "0.2", "2026-12-01"), ("44", "0.01", "2026-12-01")))
    made = planned(("380", "0.1", "2026-10-01"), ("44", "0.01", "2026-10-01"), kind="full", content=content)
    assert counts(made)["withdrawn"] == 1
    table = RateTable("acme", "USD", None, made.table.rates)
    for at_ms in (NOW, DEC, DEC + 10**10):
        rate = table.lookup("380", at_ms)
        assert rate is not None
        assert rate.price_e10 == 10**9


def test_a_partial_notice_keeps_what_is_scheduled_later() -> None:
    """A partial notice says nothing of what was scheduled for later; people are told that it stays."""
    content = loaded(planned(("380", "0.2", "2026-12-01")))
    made = planned(("380", "0.15", "2026-11-25"), content=content)
    assert prices(made, "380") == [
        (10**9, None, day("2026-11-25")), (15 * 10**8, day("2026-11-25"), None), (2 * 10**9, DEC, None),
    ]  # fmt: skip
    assert "1 codes have rows for later from before, which stay" in made.notes


def test_an_old_notice_does_not_go_before_a_newer_row() -> None:
    """A notice that comes late holds until the row that the table has from a later day on; so does an end."""
    content = loaded(planned(("380", "0.12", "2026-11-10")))
    made = planned(("380", "0.11", "2026-11-01"), content=content)
    assert counts(made) == {"older": 1, "stays": 1}
    first, tenth = day("2026-11-01"), day("2026-11-10")
    assert prices(made, "380") == [(10**9, None, first), (11 * 10**8, first, None), (12 * 10**8, tenth, None)]
    content = loaded(made, content)
    assert planned(("380", "0.11", "2026-11-01"), content=content).table == made.table
    made = planned(("380", "", "2026-11-05", "closed"), content=content)
    assert counts(made) == {"older": 1, "stays": 1}
    assert prices(made, "380")[1:] == [(11 * 10**8, first, day("2026-11-05")), (12 * 10**8, tenth, None)]
    made = planned(("380", "0.11", "2026-11-01"), content=content, kind="full")
    assert counts(made) == {"cheaper": 1, "lost": 1}


def test_closed_and_blocked_codes_end() -> None:
    """A code ends on its day, without a price; the shorter code that calls fall to is named."""
    content = Content(
        base="USD",
        rate_tables={"acme": RateTableSpec("acme", "USD", None, [Row("38", 1), Row("380", 2), Row("7", 3)])},
    )
    made = planned(
        ("380", "", "2026-12-01", "Closed"),
        ("7", "n/a", "", "Blocked"),
        ("9", "", "", "Deleted"),
        content=content,
    )
    assert counts(made) == {"closed": 1, "blocked": 1, "absent": 1, "stays": 1}
    assert prices(made, "380") == [(2, None, DEC)]
    assert prices(made, "7") == [(3, None, NOW)]
    assert [(change.code, change.falls_to) for change in made.difference.changes] == [
        ("380", "38"), ("7", None), ("9", None),
    ]  # fmt: skip


def test_a_closed_code_takes_what_was_scheduled_with_it() -> None:
    """A code that is closed before its scheduled row begins has no row for later."""
    content = loaded(planned(("380", "0.2", "2026-12-01")))
    made = planned(("380", "", "2026-11-25", "closed"), content=content)
    assert prices(made, "380") == [(10**9, None, day("2026-11-25"))]


def test_a_price_and_its_end_in_one_deck() -> None:
    """A code whose price is followed by its end is not opened again when the deck comes again."""
    rows = (("380", "0.2", "2026-11-01"), ("380", "", "2026-12-01", "closed"))
    for kind in ("full", "partial"):
        first = planned(*rows, kind=kind)
        assert prices(first, "380")[1:] == [(2 * 10**9, day("2026-11-01"), DEC)]
        again = planned(*rows, kind=kind, content=loaded(first))
        assert again.table == first.table
        assert counts(again)["unchanged"] == 2


def test_dates_in_the_past_are_kept_and_told() -> None:
    """A price from October on begins in October; that rated calls keep their amounts is said."""
    made = planned(("380", "0.2", "2026-10-01"))
    assert prices(made, "380") == [(10**9, None, OCT), (2 * 10**9, OCT, None)]
    assert "1 changes begin before now, the first on 2026-10-01" in made.notes[0]


def test_without_dates_a_deck_holds_from_now_on() -> None:
    """Rows without a date hold from the import on, or from --effective; in a new table always."""
    head = HEAD[:2]
    assert prices(planned(("380", "0.2"), head=head), "380") == [(10**9, None, NOW), (2 * 10**9, NOW, None)]
    made = planned(("380", "0.2"), head=head, effective=DEC)
    assert prices(made, "380") == [(10**9, None, DEC), (2 * 10**9, DEC, None)]
    made = planned(("380", "0.2"), head=head, table="new", currency="USD", create=True)
    assert prices(made, "380") == [(2 * 10**9, None, None)]


def test_rows_that_follow_each_other() -> None:
    """A deck may bring today's and the next price; what is over by now is not brought back."""
    made = planned(
        ("380", "0.05", "2026-01-01"), ("380", "0.1", "2026-10-01"), ("380", "0.2", "2026-12-01"), kind="full"
    )
    assert prices(made, "380") == [(10**9, None, DEC), (2 * 10**9, DEC, None)]
    made = planned(("1", "0.05", "2026-10-01"), ("1", "0.1", "2026-12-01"))
    assert prices(made, "1") == [(5 * 10**8, OCT, DEC), (10**9, DEC, None)]
    assert counts(made) == {"new": 1, "dearer": 1, "moved": 1, "stays": 2}


def test_an_end_in_the_deck() -> None:
    """A row may bring its end."""
    head = ("Code", "Rate", "Valid from", "Valid to")
    made = planned(("380", "0.1", "2026-10-01", "2026-11-30"), head=head)
    assert prices(made, "380") == [(10**9, None, OCT), (10**9, OCT, DEC)]
    assert counts(made) == {"changed": 1, "stays": 1}
    made = planned(("380", "0.1", "2026-10-01", "2026-11-01"), head=head)
    assert counts(made) == {"closed": 1, "stays": 1}


def test_moves_beyond_the_bound_and_words_that_do_not_fit() -> None:
    """A price that moves more than the profile allows is marked; so is an increase that falls."""
    made = planned(("380", "0.12", "", "Decrease"), ("44", "0.02", "", "Increase"), move_percent=20)
    assert counts(made) == {"dearer": 2, "moved": 1, "doubtful": 1}
    assert [(change.code, change.moved, change.doubt) for change in made.difference.changes] == [
        ("380", False, True), ("44", True, False),
    ]  # fmt: skip


def test_increments_of_new_codes() -> None:
    """Of a new code without increment the profile's counts; else it is billed by the second, and said."""
    made = planned(("1", "0.1"))
    assert (made.table.rates[0].min_time, made.table.rates[0].interval) == (0, 1)
    assert any("billed by the second" in note for note in made.notes)
    made = planned(("1", "0.1"), increment="60/6")
    assert (made.table.rates[0].min_time, made.table.rates[0].interval) == (60, 6)
    assert not any("billed by the second" in note for note in made.notes)


def test_what_costs_nothing_is_told() -> None:
    """A price of 0 may be a slip, and one below it pays who calls."""
    made = planned(("380", "0"), ("381", "-0.01"), ("44", "0.01"))
    assert "calls cost nothing, or less than nothing, by 2 codes: 380, 381" in made.notes
    again = loaded(made)
    assert not any("cost nothing" in note for note in planned(("380", "0"), content=again).notes)


def test_fees_and_increments_that_change() -> None:
    """The same price with another increment is a change."""
    made = planned(("380", "0.1", "1/1"), head=("Code", "Rate", "Increment"))
    assert counts(made) == {"changed": 1, "stays": 1}


def test_a_table_that_is_not_there() -> None:
    """It is refused with the ones that are, unless the profile gives a currency and lets create."""
    (fault,) = faults(("380", "0.1"), table="acne")
    assert fault == (
        "acme.csv: --table: acne: no such rate table (there are acme); or give currency and create = true "
        "in the profile"
    )
    assert "no such rate table" in faults(("380", "0.1"), table="acne", currency="USD")[0]
    assert "no such currency" in faults(("380", "0.1"), table="b", currency="GBP", create=True)[0]
    made = planned(("380", "0.1"), table="b", currency="USD", create=True, code_deck="B")
    assert (made.is_new, made.table.name, made.table.code_deck) == (True, "b", "B")


def test_a_table_in_another_spelling_is_the_one_that_is_there() -> None:
    """Names are read as people read them."""
    assert planned(("380", "0.1"), table=" ACME").table.name == "acme"


def test_another_currency_or_code_deck_than_the_tables() -> None:
    """The profile has to fit the table."""
    assert "is in USD; import into another one" in faults(("380", "0.1"), currency="EUR")[0]
    assert "no such code deck" in faults(("380", "0.1"), code_deck="b-z")[0]
    assert "has the code deck a-z" in faults(("380", "0.1"), code_deck="b-z", create=True, currency="USD")[0]


def test_names_go_into_the_profiles_code_deck() -> None:
    """Names are added and changed there, not where they are spelt otherwise; without it none is touched."""
    head = ("Code", "Destination", "Rate")
    rows = (("380", "UKRAINE ", "0.1"), ("44", "United Kingdom", "0.01"), ("1", "USA", "0.1"))
    made = planned(*rows, head=head, code_deck="A-Z")
    assert made.code_deck == DeckSpec("a-z", {"380": "Ukraine", "44": "United Kingdom", "1": "USA"})
    assert [(one.code, one.before, one.after) for one in made.renamed] == [("44", "UK", "United Kingdom")]
    assert loaded(made).decks["a-z"].codes["1"] == "USA"
    made = planned(*rows, head=head)
    assert made.code_deck is None
    assert any("1 new codes have no name in the code deck a-z" in note for note in made.notes)


def test_spellings_of_a_name_are_told_before_the_load() -> None:
    """What the load will say of names is told with the difference."""
    head = ("Code", "Destination", "Rate")
    made = planned(
        ("1", "USA", "0.1"), ("12", "usa ", "0.1"), ("13", "Usa", "0.1"), head=head, code_deck="a-z"
    )
    told = 'code deck a-z: "USA" (1 code), "usa" (1 code) and "Usa" (1 code) are one name'
    assert made.load_notes[0] == told


def test_a_table_without_catalog() -> None:
    """The first thing that is loaded may not be a deck: its currency is not known."""
    new = {"table": "b", "create": True}
    (fault,) = faults(("380", "0.1"), content=None, currency="USD", **new)
    assert "load one with `currencies: {base: USD}`" in fault
    (fault,) = faults(("380", "0.1"), currency="GBP", **new)
    assert "no such currency" in fault


DAYS = ["", "2026-10-01", "2026-11-10", "2026-11-25", "2026-12-01", "2027-01-01"]
ROWS = st.lists(
    st.tuples(st.sampled_from(["1", "12", "123", "380"]), st.integers(1, 5), st.sampled_from(DAYS)),
    max_size=5, unique_by=lambda row: (row[0], row[2]),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["full", "partial"])
@given(before=ROWS, after=ROWS)
def test_the_table_says_what_the_deck_says(kind: str, before: list[Any], after: list[Any]) -> None:
    """Whatever was loaded: a deck's prices hold from their days on, what held before goes on till then."""

    def rows(said: list[Any]) -> list[Sequence[Cell]]:
        return [(code, str(price), when, "") for code, price, when in said]

    if not before or not after:
        return
    first = planned(*rows(before), content=Content(base="USD"), table="t", currency="USD", create=True)
    content = loaded(first, Content(base="USD"))
    made = planned(*rows(after), content=content, table="t", kind=kind)
    old, new = first.table.rates, made.table.rates
    days = {code: [day(when) if when else NOW for at, _, when in after if at == code] for code, _, _ in after}
    said = {(code, day(when) if when else NOW): price for code, price, when in after}
    held = {(row.code, row.from_ms): row.price_e10 for row in old if row.from_ms is not None}
    starts = min((day(when) for _, _, when in after if when and day(when) > NOW), default=NOW)
    scheduled = {code: [since for at, since in held if at == code] for code, _ in held}
    for at_ms in (NOW, day("2026-11-25"), DEC, day("2027-01-01"), day("2030-01-01")):
        for code in ("1", "12", "123", "380"):
            past = [since for since in days.get(code, []) if since <= at_ms]
            row = next((one for one in reversed(_of(new, code)) if _holds(one, at_ms)), None)
            if past:
                later = [since for since in scheduled.get(code, []) if max(past) < since <= at_ms]
                assert row is not None
                if kind == "full" or not later:
                    assert row.price_e10 == said[code, max(past)] * 10**10
                else:  # what a notice says is over when a row of the table begins behind it
                    assert row.price_e10 == held[code, max(later)]
            elif kind == "full" and code not in days and at_ms >= starts:
                assert row is None
            elif kind == "partial":
                was = next((one for one in reversed(_of(old, code)) if _holds(one, at_ms)), None)
                assert (row and row.price_e10) == (was and was.price_e10)


def _of(rows: list[Row], code: str) -> list[Row]:
    return [row for row in rows if row.code == code]


def _holds(row: Row, at_ms: int) -> bool:
    return (row.from_ms is None or row.from_ms <= at_ms) and (row.to_ms is None or at_ms < row.to_ms)
