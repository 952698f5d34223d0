"""The draw: which limits give how much, and what is charged (RULES.md 2 steps 9 to 12, 2.1, 2.2)."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.amounts import LIMIT, Form, half_up
from rater.core.bucket.drawing import Funds, draw_item
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawRequest,
    DrawResult,
    FeeAsk,
    FeeResult,
    ItemCandidate,
    Outcome,
    Status,
    Use,
    pack_results,
    unpack_results,
)
from rater.core.bucket.model import Bucket


class Limit(NamedTuple):
    """A limit of a client in a test; its counter is its place in the list."""

    size: int
    group: int
    money: bool
    waive: bool
    allow: bool
    cap: int
    rate: tuple[int, int] | None
    """Client's currency to the package's, as n / d; None: the same."""


def candidate(field: int, of: Limit) -> ItemCandidate:
    """Return the limit as an item names it."""
    there = back = None
    if of.money and of.rate is not None:
        n, d = of.rate
        there, back = Form(n, 0, d), Form(d, 0, n)
    cap = 0 if of.money else of.cap
    return ItemCandidate(field, of.size, of.group, of.money, of.waive, of.allow, cap, there, back)


ONE_A_SECOND = Form(-1, 0, 1)


def item(
    key: str,
    billed: int = 60,
    cost: Form = ONE_A_SECOND,
    asked: tuple[ItemCandidate, ...] = (),
    *,
    content: bytes = b"same",
    same_record: bool = False,
) -> DrawItem:
    """Return a side of a call of client 42; it costs 1 a second unless said."""
    return DrawItem(0, key.encode().ljust(8), content, billed, cost, same_record, asked)


# Small numbers: ends meet, and halves are rounded, the more often.
LIMITS = st.lists(
    st.builds(
        Limit,
        size=st.integers(1, 30),
        group=st.integers(0, 2),
        money=st.booleans(),
        waive=st.booleans(),
        allow=st.booleans(),
        cap=st.sampled_from([0, 0, 3, 8]),
        rate=st.none() | st.tuples(st.integers(1, 7), st.integers(1, 7)),
    ),
    max_size=6,
)


@st.composite
def items(draw: st.DrawFn) -> tuple[list[Limit], list[DrawItem]]:
    """Draw limits in the order of RULES.md 2.1 (volumes first, a group agrees in `allow`), and calls."""
    limits = sorted(draw(LIMITS), key=lambda one: one.money)
    rules = {group: draw(st.booleans()) for group in range(3)}
    limits = [one._replace(allow=rules[one.group]) for one in limits]
    calls = []
    for number in range(draw(st.integers(0, 8))):
        names = draw(st.lists(st.sampled_from(range(len(limits))), unique=True)) if limits else []
        a, s, d = draw(st.integers(-4, 4)), draw(st.integers(-20, 20)), draw(st.integers(1, 3))
        asked = tuple(candidate(name, limits[name]) for name in sorted(names))
        same = draw(st.booleans()) and number > 0
        calls.append(item(str(number), draw(st.integers(0, 30)), Form(a, s, d), asked, same_record=same))
    return limits, calls


def bucket(balance: int = 0) -> tuple[Bucket, int]:
    """Return a bucket with client 42, and the number of the next call."""
    made = Bucket()
    call = made.fence(0, 1).number
    _, call = made.register(0, 1, call, 1)
    reply = made.draw(request(call, [], [], [ClientWrite("42", 0, 1, b"r", delta=balance)]))
    assert reply.status == Status.OK
    return made, reply.number


def request(
    number: int,
    fields: list[str],
    asked: list[DrawItem],
    changes: list[ClientWrite] | None = None,
    credit: int = 0,
) -> DrawRequest:
    """Return a call of lane 0 for client 42."""
    uses = [] if changes else [Use("42", 1, credit, fields)]
    return DrawRequest(0, 1, number, 0, 5, 0, 0, changes or [], [], uses, asked, b"")


@settings(max_examples=400, deadline=None)
@given(items(), st.integers(-30, 30), st.integers(0, 9))
def test_sums_agree_and_nothing_is_overdrawn(
    scene: tuple[list[Limit], list[DrawItem]], balance: int, credit: int
) -> None:
    """After any calls a counter is the sum of its takes and within its limit, the balance that of amounts."""
    limits, asked = scene
    made, call = bucket(balance)
    fields = [f"1.1.{number}" for number in range(len(limits))]
    reply = made.draw(request(call, fields, asked, credit=credit))
    assert reply.status == Status.OK
    used = dict.fromkeys(fields, 0)
    sum_of_amounts = 0
    for one, result in zip(asked, reply.results, strict=True):
        assert result.outcome == Outcome.RATED
        sum_of_amounts += result.amount
        for index, taken, left, _ in result.takes:
            field = fields[one.candidates[index].field]
            used[field] += taken
            assert taken > 0
            assert left == one.candidates[index].size - used[field]
    client = made.clients["42"]
    assert client.balance == balance + sum_of_amounts
    assert {field: client.used.get(field, 0) for field in fields} == used
    assert all(used[field] <= limit.size for field, limit in zip(fields, limits, strict=True))


@settings(max_examples=400, deadline=None)
@given(
    items(),
    st.integers(-300, 300),
    st.integers(0, 100),
    st.lists(st.integers(0, 30), min_size=6, max_size=6),
)
def test_one_call(
    scene: tuple[list[Limit], list[DrawItem]], balance: int, credit: int, used: list[int]
) -> None:
    """What is taken comes from one package, volumes first and each all it can; parts add up to the cost."""
    _, asked = scene
    for one in asked:
        result = draw_item(one, used, Funds(balance, balance, credit))
        assert result.outcome == Outcome.RATED
        check_choice(one, used, balance + credit >= 0, result)
        check_parts(one, used, result)


def check_choice(side: DrawItem, used: list[int], sufficient: bool, result: DrawResult) -> None:  # noqa: FBT001
    """Check that the first candidate with anything left, and whose rule allows it, chose the package."""
    able = [
        one.group for one in side.candidates if one.size > used[one.field] and (sufficient or not one.allow)
    ]
    groups = {side.candidates[index].group for index, *_ in result.takes}
    assert groups <= set(able[:1])
    judged = any(one.allow for one in side.candidates)
    assert result.balance_sufficient == (sufficient if judged else None)
    if able and side.billed and not side.candidates[0].money:
        first = next(one for one in side.candidates if one.group == able[0] and one.size > used[one.field])
        assert first.money or result.takes, "minutes are left and were not taken"


def check_parts(side: DrawItem, used: list[int], result: DrawResult) -> None:
    """Check that volumes and overage make the billed volume, and covered and charged the cost."""
    overage, waived = side.billed, False
    volumes = [take for take in result.takes if not side.candidates[take[0]].money]
    assert list(result.takes[: len(volumes)]) == volumes
    assert [index for index, *_ in result.takes] == sorted(index for index, *_ in result.takes)
    for index, taken, left, covered in volumes:
        one = side.candidates[index]
        rest = one.size - used[one.field]
        assert taken == min(overage, rest, one.cap or rest)
        assert (left, covered) == (rest - taken, 0)
        overage -= taken
        waived = waived or one.waive
    a, s, d = side.cost
    cost = half_up(a * overage + (0 if waived else s), d)
    full = half_up(a * side.billed + s, d)
    money = result.takes[len(volumes) :]
    covered = sum(take[3] for take in money)
    if cost == 0 or full == 0 or (cost > 0) != (full > 0):
        assert not money
        assert result.amount == cost
        return
    sign = 1 if cost > 0 else -1
    rest = abs(cost)
    for index, taken, left, part in money:
        one = side.candidates[index]
        has = one.size - used[one.field]
        need = rest if one.to_package is None else one.to_package.at(rest)
        assert taken == min(need, has)
        assert left == has - taken
        assert part == (
            rest if need <= has else min(rest, taken if one.to_client is None else one.to_client.at(taken))
        )
        rest -= part
    assert abs(cost) - covered == rest
    # Nothing is left to charge where a limit had enough, also when its need was 0 and no draw is shown.
    assert result.amount == sign * rest or (result.amount == 0 and covered_unseen(side, used, result, rest))


def covered_unseen(side: DrawItem, used: list[int], result: DrawResult, rest: int) -> bool:
    """Return whether a money limit that is not shown covers the rest, being worth 0 in its currency."""
    shown = {index for index, *_ in result.takes}
    return any(
        one.money and index not in shown and one.size > used[one.field]
        and one.to_package is not None and one.to_package.at(rest) == 0
        for index, one in enumerate(side.candidates)
    )  # fmt: skip


def test_exactly_enough_money() -> None:
    """Enough in the package's currency covers the whole cost, though what was taken is worth less again."""
    bonus = candidate(0, Limit(1, 0, money=True, waive=False, allow=False, cap=0, rate=(1, 3)))
    result = draw_item(item("k", 4, asked=(bonus,)), [0], Funds(0, 0, 0))
    assert (result.amount, result.takes) == (0, ((0, 1, 0, 4),))


def test_a_cost_of_nothing_needs_no_money() -> None:
    """When fee and price cancel out, money limits are not asked, whatever the minutes leave of the two."""
    minutes = candidate(0, Limit(4, 0, money=False, waive=False, allow=False, cap=0, rate=None))
    bonus = candidate(1, Limit(9, 0, money=True, waive=False, allow=False, cap=0, rate=None))
    result = draw_item(item("k", 10, Form(1, -10, 1), (minutes, bonus)), [0, 0], Funds(0, 0, 0))
    assert (result.amount, result.takes) == (-4, ((0, 4, 0, 0),))


def test_repeats() -> None:
    """The same key again is a duplicate, with other content it differs; neither changes anything."""
    made, call = bucket()
    same, other = item("k"), item("k", content=b"else")
    first = made.draw(request(call, [], [same, same, other]))
    again = made.draw(request(first.number, [], [other, same]))
    outcomes = [result.outcome for result in (*first.results, *again.results)]
    assert outcomes == [Outcome.RATED, Outcome.DUPLICATE, Outcome.DIFFERS, Outcome.DIFFERS, Outcome.DUPLICATE]
    assert made.clients["42"].balance == -60


def test_both_sides_are_judged_on_one_balance() -> None:
    """`allow` looks at the balance before the record; the next record at what both of its sides left."""
    made, call = bucket(balance=10)
    asked = ItemCandidate(
        0, 1000, 0, money=False, waive=False, allow=True, cap=0, to_package=None, to_client=None
    )
    calls = [item("1"), item("2", asked=(asked,), same_record=True), item("3", asked=(asked,))]
    results = made.draw(request(call, ["1.1.0"], calls)).results
    assert [result.balance_sufficient for result in results] == [None, True, False]
    assert [result.amount for result in results] == [-60, 0, -60]


def test_beyond_the_range_nothing_is_drawn() -> None:
    """An amount, or a balance after it, beyond 2^53 is refused as a whole: no draw, no duplicate."""
    made, call = bucket(balance=-LIMIT)
    minutes = ItemCandidate(
        0, 10, 0, money=False, waive=False, allow=False, cap=0, to_package=None, to_client=None
    )
    asked = item("k", asked=(minutes,))
    reply = made.draw(request(call, ["1.1.0"], [asked]))
    assert reply.results == [DrawResult(Outcome.OUT_OF_RANGE, 0, None, ())]
    assert made.clients["42"].used.get("1.1.0", 0) == 0
    again = made.draw(request(reply.number, ["1.1.0"], [asked]))
    assert again.results[0].outcome == Outcome.OUT_OF_RANGE
    # A fee that the price outweighs may be beyond the range once the minutes are free.
    fee = item("f", 10, Form(-LIMIT, LIMIT + 1, 1), (minutes,))
    assert draw_item(fee, [0], Funds(0, 0, 0)).outcome == Outcome.OUT_OF_RANGE


# ------------------------------------------------------------------ fees that a first draw brings
CHARGED, NET, AMOUNT = 1, 2, 3
"""Places of the first client package's sums among FEE_FIELDS; its limit's counter is before them."""
FEE_FIELDS = ["1.1.a", *(f"1.1.fee.{name}" for name in ("charged", "net", "amount")), "2.1.a"]
FEE_FIELDS += [f"2.1.fee.{name}" for name in ("charged", "net", "amount")]
FIRST, OTHER = (
    ItemCandidate(4 * group, 100, group, False, False, False, 0, None, None)  # noqa: FBT003 - its own order
    for group in range(2)
)


def fee(group: int, amount: int, *, deny: bool = True) -> FeeAsk:
    """Return what the first draw of a client package brings; a sixth of it is tax."""
    return FeeAsk(group, 4 * group + CHARGED, amount * 5 // 6, amount, deny)


def bring(
    funds: int, asked: list[FeeAsk], *, used: list[int] | None = None, credit: int = 0, billed: int = 60
) -> DrawResult:
    """Work out one call of both client packages, 1 a second, at a balance."""
    one = item("f", billed, ONE_A_SECOND, (FIRST, OTHER))
    one.fees = tuple(asked)
    return draw_item(one, used or [0] * 8, Funds(funds, funds, credit), {2, 3, 6, 7})


def test_the_first_draw_brings_the_fee() -> None:
    """Worked example 10: the fee goes with the first call, in one step; the second pays nothing."""
    made, call = bucket(10)
    calls = [item(name, 60, ONE_A_SECOND, (FIRST,)) for name in "ab"]
    for one in calls:
        one.fees = (fee(0, -6),)
    first, second = made.draw(request(call, FEE_FIELDS, calls)).results
    assert first == DrawResult(
        Outcome.RATED, 0, None, ((0, 60, 40, 0),), FeeResult(0, covered=True, amount=-6)
    )
    assert second == DrawResult(Outcome.RATED, -20, None, ((0, 40, 0, 0),))
    client = made.clients["42"]
    assert (client.balance, client.used) == (
        10 - 6 - 20,
        dict(zip(FEE_FIELDS, (100, 1, -5, -6), strict=False)),
    )


def test_a_fee_that_is_not_covered_passes_its_package_over() -> None:
    """Funds are balance and credit limit at this side, to the micro; the other package gives instead."""
    assert bring(5, [fee(0, -6)]) == DrawResult(
        Outcome.RATED, 0, None, ((1, 60, 40, 0),), FeeResult(None, covered=False)
    )
    assert bring(6, [fee(0, -6)]).fee == FeeResult(0, covered=True, amount=-6)
    assert bring(5, [fee(0, -6)], credit=1).fee == FeeResult(0, covered=True, amount=-6)
    both = bring(5, [fee(0, -6), fee(1, -4)])
    assert (both.takes, both.fee) == (((1, 60, 40, 0),), FeeResult(1, covered=False, amount=-4))
    neither = bring(3, [fee(0, -6), fee(1, -4)])
    assert (neither.amount, neither.takes, neither.fee) == (-60, (), FeeResult(None, covered=False))


def test_what_is_told_of_fees() -> None:
    """Only of packages under `deny` that were not charged yet and had something left when their turn came."""
    assert bring(0, [fee(0, -6, deny=False)]).fee == FeeResult(0, None, -6)
    assert bring(0, [fee(0, 0)]).fee == FeeResult(0, covered=True, amount=0)
    assert bring(-9, [fee(0, 7)]).fee == FeeResult(0, covered=True, amount=7)
    charged, used_up = [0, 1, -5, -6, 0, 0, 0, 0], [100, 0, 0, 0, 0, 0, 0, 0]
    assert bring(0, [fee(0, -6)], used=charged).fee is None
    assert bring(0, [fee(0, -6)], used=used_up).fee is None
    assert bring(9, [fee(1, -6)]).fee is None  # the first package gives, the second is not asked


def test_no_draw_brings_no_fee() -> None:
    """A package that is chosen and gives nothing charges nothing; that it could is told."""
    assert bring(9, [fee(0, -6)], billed=0) == DrawResult(
        Outcome.RATED, 0, None, (), FeeResult(None, covered=True)
    )


def test_a_later_item_sees_the_balance_that_a_fee_has_left() -> None:
    """Of two calls in one request the first one's fee is paid before the second is judged."""
    made, call = bucket(10)
    calls = [item("a", 60, ONE_A_SECOND, (FIRST,)), item("b", 60, ONE_A_SECOND, (OTHER,), same_record=True)]
    calls[0].fees, calls[1].fees = (fee(0, -6),), (fee(1, -6),)
    first, second = made.draw(request(call, FEE_FIELDS, calls)).results
    assert (first.fee, first.amount) == (FeeResult(0, covered=True, amount=-6), 0)
    assert (second.fee, second.amount) == (FeeResult(None, covered=False), -60)


def test_a_fee_out_of_range_draws_nothing() -> None:
    """Balance and each sum stay within 2^53 micros, the usage's amount included."""
    refused = DrawResult(Outcome.OUT_OF_RANGE, 0, None, ())
    assert bring(5 - LIMIT, [fee(0, -6, deny=False)], credit=LIMIT) == refused
    assert bring(6 + 40 - LIMIT, [fee(0, -6, deny=False)], billed=140) == DrawResult(
        Outcome.RATED, -40, None, ((0, 100, 0, 0),), FeeResult(0, None, -6)
    )
    assert bring(6 + 39 - LIMIT, [fee(0, -6, deny=False)], billed=140) == refused
    assert bring(9, [fee(0, -6)], used=[0, 0, 4 - LIMIT, 0, 0, 0, 0, 0]) == refused
    assert bring(9, [fee(0, -6)], used=[0, 0, 0, 5 - LIMIT, 0, 0, 0, 0]) == refused
    assert bring(9, [fee(0, -6)], used=[0, -1, 0, 0, 0, 0, 0, 0]) == refused  # a fault of the store


def test_the_item_tells_that_crosses_the_mark() -> None:
    """A balance at the mark is not low; what takes it below tells it, and what takes it to the mark again."""
    made, call = bucket(100)
    amounts = (-60, -1, -9, 9, 1, 0)
    calls = [item(str(n), 1, Form(amount, 0, 1)) for n, amount in enumerate(amounts)]
    asked = request(call, [], calls)
    asked.uses[0].mark = 40
    assert [result.low for result in made.draw(asked).results] == [None, True, None, None, False, None]


def test_a_fee_crosses_the_mark_with_its_call() -> None:
    """What is told is of both together: a call that gives back what its fee takes crosses nothing."""
    made, call = bucket(40)
    calls = [item("a", 60, ONE_A_SECOND, (FIRST,)), item("b", 60, Form(1, 0, 1), (OTHER,))]
    calls[0].fees, calls[1].fees = (fee(0, -6),), (fee(1, -6),)
    asked = request(call, FEE_FIELDS, calls)
    asked.uses[0].mark = 40
    first, second = made.draw(asked).results
    assert (first.amount, first.low, second.low) == (0, True, None)


_TAKES = st.lists(st.tuples(*[st.integers(0, 2**53)] * 4), max_size=4).map(tuple)
_SIGNED = st.integers(-(2**53), 2**53)
_JUDGED = st.sampled_from([None, False, True])
_FEES = st.none() | st.builds(FeeResult, st.none() | st.integers(0, 5), _JUDGED, _SIGNED)
_RESULTS = st.builds(DrawResult, st.just(0), _SIGNED, _JUDGED, _TAKES, _FEES, _JUDGED) | st.sampled_from(
    [DrawResult(code, 0, None, ()) for code in (1, 2, 3)]
)


@given(st.lists(st.integers(0, 9), max_size=3), st.lists(_RESULTS, max_size=6))
def test_packed_results_come_back(woken: list[int], results: list[DrawResult]) -> None:
    """What the store keeps of an outcome is the outcome."""
    assert unpack_results(pack_results(woken, results)) == (woken, results)
