"""Calls as arguments and replies back: packed is what functions.lua reads, and no number is changed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import msgpack

from rater.core.amounts import LIMIT, Form, limbs
from rater.core.bucket.messages import (
    ClientWrite,
    CounterChange,
    DrawItem,
    DrawRequest,
    Due,
    FeeAsk,
    ItemCandidate,
    Reconcile,
    Status,
    Use,
)
from rater.store.keys import Keys
from rater.store.packing import Args, changes, pack_draw, pack_reconcile, unpack_due, unpack_fence

KEYS = Keys("p", 0, 1)
HEAD = 10  # numbers of the payload before the uses


def packed(**what: Any) -> Args:
    """Return the arguments of a draw that has only what is given."""
    given = {"changes": [], "accounts": [], "uses": [], "items": [], "context": b"context", **what}
    return pack_draw(DrawRequest(0, 1, 2, 3, 4, 5, 6, **given), KEYS)


def payload(args: Args) -> list[Any]:
    """Return the flat list of a call."""
    return msgpack.decode(args.argv[3], type=list)


def item(cost: Form, billed: int = 60, *candidates: ItemCandidate) -> DrawItem:
    """Return an item of the only use."""
    return DrawItem(0, b"12345678", b"same", billed, cost, same_record=False, candidates=candidates)


def test_draw_is_laid_out_as_the_functions_read_it() -> None:
    """Keys and arguments stand in the order that the header of rater_v4_change states."""
    money = ItemCandidate(1, 90, 2, True, False, True, 7, Form(3, 0, 2), None)  # noqa: FBT003 - its own order
    asking = item(Form(-1, 2, 3), 60, money)
    asking.fees = (FeeAsk(2, 0, -4, -5, deny=True), FeeAsk(0, 3, -6, -7, deny=False))
    change = ClientWrite("new", 0, 1, b"register", 3, 9, -5, [CounterChange("1.1.a", 0, 4, 2)])
    change.hints, change.members = [(8, b"\x00\x09new"), (7, b"\x01\x00new")], ["gold"]
    change.history, change.carries = [("3.1", b"row")], True
    args = packed(
        changes=[change],
        accounts=[("account", "new")],
        uses=[Use("c", 8, 100, ["1.1.a", "1.1.b"], wake=7), Use("d", 1, 0, [], mark=-8)],
        items=[asking],
    )
    assert changes(args)
    assert args.keys == [
        "p{0}:g", "p{0}:l:0", "p{0}:o:0", "p{0}:u:4", "p{0}:u:3", "p{0}:u:5",
        "p{0}:f:4", "p{0}:f:3", "p{0}:f:5",
        "p{0}:c:c", "p{0}:c:d", "p{0}:c:new", "p{0}:r:new", KEYS.accounts("account"),
        "p{0}:d:8", "p{0}:d:7", "p{0}:p:gold", "p{0}:h:new", "p{0}:m", "p{0}:w",
    ]  # fmt: skip
    assert args.argv[:3] == [0, 1, 2]
    assert args.argv[4:6] == [b"12345678same12345678", b"context"]
    assert msgpack.decode(args.argv[6]) == [
        13, 3, 0, 1, 3, 9, -5, 1, "1.1.a", 0, 4, 2, 7, 2**54,
        4, 15, 9, 16, 10, 7, 2, 17, "new", 3, 18, "3.1", 11,
        13, 1, 1, 2, 64, 3, -4, -5, 1, 0, 6, -6, -7, 0,
        2, 2, -8, 1, 3,
    ]  # fmt: skip
    assert args.argv[7:] == [b"register", b"\x00\x09new", b"\x01\x00new", b"1:row"]
    code = 1 + 4 + 8 + 16 + 32 * 2  # money, allow, cap, conversion, group 2
    assert payload(args) == [
        3, 4, 5, 6, 1, 3, 2, 1, 1, 1,
        8, 100, 2, "1.1.a", "1.1.b",
        1, 0, 0,
        "account", "new",
        0, 4 * 8 + 2, 60, -1, 2, 3, 4, 90, code, 7, 3, 2, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "billed", "plain"),
    [
        (Form(2**52 - 1, 0, 1), 1, True),
        (Form(2**52, 0, 1), 1, False),
        (Form(-1, -1, 1), 2**52 - 2, True),
        (Form(-1, -1, 1), 2**52 - 1, False),
        (Form(1, 2**52, 1), 0, False),
        (Form(0, 0, 2**52), 5, False),
        (Form(2**64, 0, 1), 0, False),  # nothing is due, and the number alone is too large
        (Form(-(2**80), 2**81, 2**90), LIMIT, False),
    ],
)
def test_numbers_that_doubles_do_not_hold_go_as_limbs(cost: Form, billed: int, plain: bool) -> None:  # noqa: FBT001
    """A cost goes as plain numbers only where every step of the script is below 2^52, else in limbs."""
    flat = payload(packed(uses=[Use("c", 1, 0, [])], items=[item(cost, billed)]))
    assert flat[-3:] == (list(cost) if plain else [limbs(number) for number in cost])


def test_conversion_of_nothing_fits() -> None:
    """Currency rates of many digits are packed in limbs also where cost and limit are 0."""
    rate = Form(2**70, 0, 3)
    money = ItemCandidate(0, 0, 0, True, False, False, 0, rate, rate)  # noqa: FBT003 - its own order
    flat = payload(packed(uses=[Use("c", 1, 0, ["1.1.a"])], items=[item(Form(0, 0, 1), 0, money)]))
    assert flat[-4:] == [limbs(2**70), limbs(3)] * 2


def test_sides_alone_go_as_they_always_did() -> None:
    """A call without changes has no argument more, and is for rater_v4_draw."""
    args = packed(uses=[Use("c", 1, 0, [])], items=[item(Form(1, 0, 1))])
    assert not changes(args)
    assert args.argv[4:] == [b"12345678same12345678", b"context"]
    assert payload(args) == [3, 4, 5, 6, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 60, 1, 0, 1]
    assert changes(packed(uses=[Use("c", 1, 0, [], wake=0)]))
    assert changes(packed(uses=[Use("c", 1, 0, [], mark=0)]))


def test_what_is_due_comes_with_its_numbers() -> None:
    """Balance and counters of a change come by their names, also beyond what doubles hold."""
    change = ClientWrite("b", 0, 1, b"", counters=[CounterChange("x", 0, 1, 0), CounterChange("y", 0, 1, 0)])
    rows: list[list[Any]] = [[1, -1, b"9007199254740993", 5, b"-9007199254740993"], [0, 3, 7]]
    assert unpack_due(rows, ["a", "b"], [change]) == [
        Due("b", None, 2**53 + 1, {"x": 5, "y": -(2**53) - 1}),
        Due("a", 3, 7, {}),
    ]


def test_sums_go_as_text() -> None:
    """Corrections of sums keep every digit; bytes lie outside the payload, whose reader knows no bytes."""
    what = Reconcile(
        0, 1, 2, 3,
        balances=[("c", 2**63 + 1)],
        counters=[("c", "1.1.a", -(2**53) - 1)],
        duplicates=[(7, b"12345678", b"same")],
        forget=[(6, b"87654321")],
        pending=[(4, b"context", b"results")],
        hints=[(9, b"\x00\x00c"), (8, b"\x00\x01c")],
        members=[("gold", "c")],
        history=[("c", 2**53, "3.1", b"row")],
        copies=[(3, "calls/7/2", b"change")],
        unsettled=["c"],
    )  # fmt: skip
    args = pack_reconcile(what, KEYS)
    lists = msgpack.decode(args.argv[3], type=list)
    assert lists[4] == [4, "b", "9223372036854775809", 4, "1.1.a", "-9007199254740993"]
    assert args.keys[3:8] == ["p{0}:c:c", "p{0}:u:6", "p{0}:f:6", "p{0}:u:7", "p{0}:f:7"]
    indexed = ["p{0}:d:9", "p{0}:d:8", "p{0}:p:gold", "p{0}:h:c", "p{0}:k:3", "p{0}:w"]
    assert args.keys[8:] == [*indexed, "p{0}:m"]
    assert (lists[6], lists[7], lists[10]) == ([5, 6, 5], [7, 8, 6, 7], ["4", 8, 9])
    assert lists[11:] == [
        [9, 10, 10, 11],
        8,
        [11, "c"],
        [12, 2**53, "3.1", 12],
        [13, "calls/7/2", 13],
        [14, "c"],
    ]
    assert args.argv[4:9] == [b"87654321", b"12345678", b"same", b"context", b"results"]
    assert args.argv[9:] == [b"\x00\x00c", b"\x00\x01c", b"9007199254740992:row", b"change"]


def test_fence_gives_outcomes_in_order_of_calls() -> None:
    """Outcomes come by call number, not in the order of the hash's fields."""
    fields = [b"10r", b"R10", b"9c", b"C9", b"10c", b"C10", b"9r", b"R9"]
    reply = unpack_fence([0, 11, 5, 4, 77, fields, 3])
    assert reply.outcomes == [(9, b"C9", b"R9"), (10, b"C10", b"R10")]
    assert (reply.status, reply.number, reply.floor, reply.base, reply.lane_ms) == (Status.OK, 11, 5, 4, 77)
    assert reply.token == 3


@pytest.mark.parametrize(
    "reply",
    [[], [0], [0, 1], [0, 1, 2, 3, 4, [b"9c"], 0], [0, 1, 2, 3, 4, [b"9c", b"C9"], 0], [77, 1], 7, None],
)
def test_half_a_fence_reply_is_no_reply(reply: Any) -> None:
    """A reply that lacks something is an error, not a lane without outcomes."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        unpack_fence(reply)
