"""Which row a DID counts in, how long it is on hold, and what a load's part may say of DIDs."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.bucket.messages import bucket_of
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import ClientEntry, Content, DidLimitSpec, DidSpec
from rater.core.clients.did_rows import fits, hold_end, rows_of, tags_of
from rater.core.clients.state import did_name
from rater.core.commands.loads import OF_LOAD, chunk_fault, did_command_ids, did_commands
from rater.core.commands.records import (
    AccountsArgs,
    ClientsArgs,
    Command,
    DidAssignArgs,
    client_args,
    read_command,
)
from rater.core.instants import instant, milliseconds

KYIV = ZoneInfo("Europe/Kyiv")
SOME = st.lists(st.sampled_from(["gold", "kyiv", "lviv"]), max_size=2)


def catalog(**tags: list[str]) -> Any:
    """Return a catalog of numbers with these tags."""
    return compile_catalog(Content(dids={number: DidSpec(number, of) for number, of in tags.items()}), 1)


def test_the_first_row_with_room() -> None:
    """A DID counts in the first row that it fits and that has room; quantity multiplies the room."""
    rows = [DidLimitSpec(1, ["kyiv"]), DidLimitSpec(1, ["gold", "kyiv"]), DidLimitSpec(1)]
    known = catalog(a=["kyiv"], b=["kyiv", "gold"], c=["lviv"], d=["kyiv"])
    assert rows_of(["a", "b", "c", "d"], rows, 1, known) == [rows[0], rows[1], rows[2], None]
    assert rows_of(["a", "b", "c", "d"], rows, 2, known) == [rows[0], rows[0], rows[2], rows[1]]
    assert rows_of(["c", "c", "c"], rows[:2], 9, known) == [None] * 3
    assert rows_of(["unknown"], rows, 1, known) == [rows[2]]


@given(
    st.lists(st.builds(DidLimitSpec, st.integers(1, 3), SOME), max_size=4),
    st.lists(SOME, max_size=8),
    st.integers(1, 2),
)
def test_rows_hold_what_they_allow(rows: list[DidLimitSpec], tags: list[list[str]], quantity: int) -> None:
    """No row has more than its room; who has none fits no row that had room left when its turn came."""
    numbers = [str(n) for n in range(len(tags))]
    known = catalog(**dict(zip(numbers, tags, strict=True)))
    found = rows_of(numbers, rows, quantity, known)
    for place, (number, row) in enumerate(zip(numbers, found, strict=True)):
        before = [id(one) for one in found[:place]]
        room = [one for one in rows if before.count(id(one)) < one.quantity * quantity]
        assert row is next((one for one in room if fits(one, tags_of(number, known))), None)


@pytest.mark.parametrize(
    ("days", "stop", "end"),
    [
        (5, "2026-11-30T22:00", "2026-12-05T22:00"),
        (1, "2026-10-24T21:00", "2026-10-25T22:00"),  # clocks go back: 25 hours
        (1, "2026-03-28T22:00", "2026-03-29T21:00"),
        (0, "2026-11-30T22:00", None),
        (10**9, "2026-11-30T22:00", "9998-12-31T00:00"),
    ],
)
def test_how_long_a_hold_is(days: int, stop: str, end: str | None) -> None:
    """Days of the calendar at the client, to the same local time; the calendar bounds it."""
    stop_ms = milliseconds(datetime.fromisoformat(stop).replace(tzinfo=UTC))
    found = hold_end(DidLimitSpec(1, on_hold_days=days), stop_ms, KYIV)
    assert (None if found is None else instant(found).strftime("%Y-%m-%dT%H:%M")) == end
    assert hold_end(None, stop_ms, KYIV) is None


def test_commands_of_a_part() -> None:
    """A part of a load asks for each of its numbers once, in the name of who loads."""
    entries = [ClientEntry("42", dids=[("3801", "a"), ("3802", "b")]), ClientEntry("43")]
    args, part = ClientsArgs(7, 0, entries), Command("load/0", "load_catalog", instant(5000), actor="anna")
    found = [(number, read_command(raw)) for number, raw in did_commands(part, args)]
    assert [number for number, _ in found] == ["3801", "3802"]
    for number, command in found:
        assert isinstance(command, Command)
        assert (command.client, command.actor, command.key) == ("42", "anna", f"did-7-{number}")
        assert isinstance(client_args(command), DidAssignArgs)
    ids = [command.id for _, command in found if isinstance(command, Command)]
    assert ids == list(did_command_ids("load/0", args)) == [f"{OF_LOAD}load/0/{n}" for n in ("3801", "3802")]


def test_parts_that_are_none() -> None:
    """Who holds a number is entered by its own command; what is no number is refused."""
    known: Any = SimpleNamespace(version=7)
    name = did_name("3801")
    entered = AccountsArgs(7, bucket_of(name, 4), [(name, "42")])
    assert "by the command that assigns it" in (chunk_fault(entered, known, 4) or "")
    bent = ClientsArgs(7, bucket_of("42", 4), [ClientEntry("42", dids=[("38x", "a")])])
    assert "'38x' is no DID" in (chunk_fault(bent, known, 4) or "")


@pytest.mark.parametrize("number", ["+380", "380", "", "38 0", "+", "1" * 65])
def test_numbers_of_commands(number: str) -> None:
    """Digits, with a + in front or not; else a sentence."""
    command = Command("c", "did_assign", instant(0), key="k", client="42")
    command.args = msgspec.Raw(msgspec.json.encode({"number": number, "account": "a"}))
    found = client_args(command)
    if number in ("+380", "380"):
        assert found == DidAssignArgs("380", "a")
    else:
        assert isinstance(found, str)
