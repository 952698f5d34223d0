"""What the audit finds of one client: registers, refunds, reversals, revisions, DIDs."""

from __future__ import annotations

from typing import Any

import pytest

from rater.core.clients.state import ClientPackage, ClientState, HeldDid, Life, did_name, write_state
from rater.core.journal.comparing import (
    Book,
    Move,
    Step,
    Stored,
    compare,
    compare_dids,
    compare_entry,
    held_numbers,
    is_on_its_way,
)

FEE, ACTIVATION = "cp/1/1/subscription_fee", "cp/1/1/activation_fee"
CHARGED = [Move(FEE, "subscription_fee", 1, -5), Move(ACTIVATION, "activation_fee", 1, -2)]
REFUND = Move("cp/1/1/refund", "refund", 1, 7, None, [FEE, ACTIVATION])
REMOVED = [
    *CHARGED, REFUND, Move(FEE, "reversal", 1, 5, 1), Move(ACTIVATION, "reversal", 1, 2, 1),
    Move("cp/1/1/refund", "reversal", 1, -7, 1),
]  # fmt: skip


def state_of(*numbers: str, **other: Any) -> ClientState:
    """Return a client whose account holds these DIDs."""
    life = Life(dids=tuple(HeldDid(number, "sip") for number in numbers))
    given: dict[str, Any] = {
        "id": "c", "version": 1, "catalog": 1, "name": "", "reseller": None, "currency": "USD", "zone": "UTC",
        "credit_limit": 0, "low_balance": None, "terms": None, "tax_profile": None, "rate_tables": {},
        "accounts": {}, "packages": [ClientPackage("1", "p", None, 1, 0, 0, None, life=life)], "opening": 0,
        **other,
    }  # fmt: skip
    return ClientState(**given)


def told(moves: list[Move], usage: int | None = None) -> list[tuple[str, str]]:
    """Return kind and sentence of what is wrong with these movements."""
    found = compare("c", Book(moves=moves), None, lambda _: usage)
    assert all(one.where == "client c" for one in found)
    return [(one.kind, one.problem) for one in found]


@pytest.mark.parametrize("moves", [[], CHARGED, [*CHARGED, REFUND], REMOVED, REMOVED[::-1]])
def test_what_was_charged_and_given_back(moves: list[Move]) -> None:
    """In any order, for lanes are read one after the other."""
    assert told(moves) == []


def test_a_refund_of_something_else() -> None:
    """It gives back more than was charged, or what was never charged."""
    assert told([CHARGED[0], REFUND]) == [
        ("refund", f"cp/1/1/refund comes to 7 micros, and {FEE}, {ACTIVATION} to -5")
    ]
    assert told([*REMOVED[:-1]]) == [
        ("refund", f"cp/1/1/refund comes to 7 micros, and {FEE}, {ACTIVATION} to 0")
    ]


def test_a_reversal_of_something_else() -> None:
    """It takes back what was not published, or another amount."""
    nothing = f"the reversal of {FEE} revision 1 takes back what was not published"
    assert told([Move(FEE, "reversal", 1, 5, 1)]) == [("reversal", nothing)]
    other = f"the reversal of {FEE} revision 1 moves 4 micros, and what it takes back -5"
    assert told([CHARGED[0], Move(FEE, "reversal", 1, 4, 1)]) == [("reversal", other)]


def test_revisions_of_usage() -> None:
    """The first stands among what was seen; the next needs its reversal."""
    second = Move("s/1/orig", "usage", 2, -3)
    back = Move("s/1/orig", "reversal", 1, 4, 1)
    assert told([second, back], usage=-4) == []
    assert told([second, back], usage=-5) == [
        ("reversal", "the reversal of s/1/orig revision 1 moves 4 micros, and what it takes back -5")
    ]
    assert told([second], usage=-4) == [
        ("reversal", "s/1/orig revision 2 was published, and the one before not reversed")
    ]


def test_a_register_is_that_of_the_last_change() -> None:
    """Whatever the order in which the changes are read; one that was not read is not compared."""
    first, last = write_state(state_of()), write_state(state_of("380"))
    for order in ((1, 2), (2, 1)):
        book = Book()
        for version in order:
            book.change(version, [], (first, last)[version - 1])
        assert compare("c", book, Stored(0, {}, last), lambda _: None) == []
        assert compare("c", book, Stored(0, {}, None), lambda _: None) == []
        (found,) = compare("c", book, Stored(0, {}, first), lambda _: None)
        assert found.problem == "its register in Redis is not that of its change to version 2 in the journal"
    assert compare("c", Book(), Stored(0, {}, first), lambda _: None) == []


def test_dids_are_entered_for_who_holds_them() -> None:
    """Both ways; and the catalog has them."""
    stored = Stored(0, {}, write_state(state_of("100", "101", "102")))
    held = held_numbers(stored)
    assert held == ["100", "101", "102"]
    assert held_numbers(None) == held_numbers(Stored(0, {}, b"?")) == []
    owners = {did_name("100"): "c", did_name("101"): "d"}
    found = [(one.where, one.problem) for one in compare_dids("c", held, owners, {"101"})]
    assert found == [
        ("DID 100", "client c holds it, and the catalog has no such DID"),
        ("DID 101", "client c holds it, and it is entered for client d"),
        ("DID 102", "client c holds it, and it has no entry"),
    ]
    assert [*compare_dids("c", ["100"], owners, None)] == []
    assert [*compare_entry("100", None, [])] == [*compare_entry("100", "c", held)] == []
    (entered,) = compare_entry("100", "d", ["101"])
    assert entered.problem == "it is entered for client d, which does not hold it"


def steps_of(lane: int, *micros: int) -> list[Step]:
    """Return steps of a lane, each with a counter that goes up by 1."""
    return [Step(lane, one, [("1.1.m", 1)]) for one in micros]


@pytest.mark.parametrize(
    ("balance", "used", "steps", "explained"),
    [
        (-10, 5, [], True), (-12, 5, [], False),
        (-12, 6, steps_of(0, -2, -3), True), (-15, 7, steps_of(0, -2, -3), True),
        (-13, 6, steps_of(0, -2, -3), False), (-12, 7, steps_of(0, -2, -3), False),
        (-17, 6, steps_of(0, -2) + steps_of(1, -7, -1), True),
        (-20, 8, steps_of(0, -2) + steps_of(1, -7, -1), True),
        (-11, 6, steps_of(0, -2) + steps_of(1, -7, -1), False),
        (-24, 9, steps_of(0, -2) + steps_of(1, -7, -1) + steps_of(2, -4, -9), True),
        (-16, 6, steps_of(0, -2) + steps_of(1, -7, -1) + steps_of(2, -4, -9), False),
    ],
)  # fmt: skip
def test_what_was_drawn_and_is_published_later(
    balance: int, used: int, steps: list[Step], *, explained: bool
) -> None:
    """The store has the first steps of each lane; anything else is no matter of time."""
    before = -10, {"1.1.m": 5}
    assert is_on_its_way(before, Stored(balance, {"1.1.m": used}), steps) == explained
