"""One item of a draw: which limits of a client give how much, which fee that brings, what is charged.

Pure; functions.lua does the same (`draw_item` there). Source of the rules: RULES.md 2.1, 2.2.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from rater.core.amounts import LIMIT
from rater.core.bucket.messages import DrawItem, DrawResult, FeeAsk, FeeResult, ItemCandidate, Outcome


class Funds(NamedTuple):
    """What a client has while a call is worked out: balance, and the balance before the record in hand."""

    balance: int
    before: int
    credit_limit: int


class _Chosen(NamedTuple):
    """The candidates, with indices, of the client package that is drawn from; none: there is none.

    fee: what its first draw brings, with its index, where that was not charged yet. covered: see `FeeResult`.
    """

    candidates: list[tuple[int, ItemCandidate]]
    fee: tuple[int, FeeAsk] | None
    covered: bool | None


def draw_item(item: DrawItem, used: list[int], funds: Funds, signed: Collection[int] = ()) -> DrawResult:
    """Work out one item: which limits it draws and what is charged; changes nothing.

    used: what is used of each counter of the item's `Use.fields`. signed: those of the fields that may be
    below 0, sums of fees. The result's amount may make the balance leave the range: then the outcome is
    OUT_OF_RANGE and nothing is taken.
    """
    odd = item.candidates and not all(
        (-LIMIT if field in signed else 0) <= counter <= LIMIT for field, counter in enumerate(used)
    )
    if odd or not -LIMIT <= funds.balance <= LIMIT:
        return _OUT_OF_RANGE
    sufficient = funds.before + funds.credit_limit >= 0
    chosen = _choose(item, used, funds)
    takes, overage, waived = _take_volumes(item.billed, chosen.candidates, used)
    cost = (item.cost.without_s() if waived else item.cost).at(overage)
    if not -LIMIT <= cost <= LIMIT:
        return _OUT_OF_RANGE
    full = item.cost.at(item.billed)
    if (cost > 0) == (full > 0) and cost and full:
        rest = _take_money(chosen.candidates, used, abs(cost), takes)
        cost = rest if cost > 0 else -rest
    balance, fee = funds.balance, None if chosen.covered is None else FeeResult(None, chosen.covered)
    if takes and chosen.fee is not None:
        index, ask = chosen.fee
        fee = FeeResult(index, chosen.covered, ask.amount)
        balance += ask.amount
        sums = used[ask.field] + 1, used[ask.field + 1] + ask.net, used[ask.field + 2] + ask.amount
        if not all(-LIMIT <= one <= LIMIT for one in (balance, *sums)):
            return _OUT_OF_RANGE
    if not (-LIMIT <= cost <= LIMIT and -LIMIT <= balance + cost <= LIMIT):
        return _OUT_OF_RANGE
    judged = any(candidate.allow for candidate in item.candidates)
    return DrawResult(Outcome.RATED, cost, sufficient if judged else None, tuple(takes), fee)


_OUT_OF_RANGE = DrawResult(Outcome.OUT_OF_RANGE, 0, None, ())


def _choose(item: DrawItem, used: list[int], funds: Funds) -> _Chosen:
    """Return what the first candidate chooses that has anything left and is not passed over."""
    sufficient = funds.before + funds.credit_limit >= 0
    fees = {ask.group: (index, ask) for index, ask in enumerate(item.fees) if not used[ask.field]}
    passed: set[int] = set()
    for first in item.candidates:
        if first.size <= used[first.field] or first.group in passed or (first.allow and not sufficient):
            continue
        fee = fees.get(first.group)
        asked = 0 if fee is None or not fee[1].deny else fee[1].amount
        if asked < 0 and funds.balance + funds.credit_limit + asked < 0:
            passed.add(first.group)
            continue
        judged = fee is not None and fee[1].deny
        covered = False if passed else True if judged else None
        found = [pair for pair in enumerate(item.candidates) if pair[1].group == first.group]
        return _Chosen(found, fee, covered)
    return _Chosen([], None, False if passed else None)


def _take_volumes(
    billed: int, chosen: list[tuple[int, ItemCandidate]], used: list[int]
) -> tuple[list[tuple[int, int, int, int]], int, bool]:
    """Return the takes of volume limits, the overage, and whether the setup fee is waived."""
    takes: list[tuple[int, int, int, int]] = []
    need, waived = billed, False
    last = -1, 0  # index, taken: of the candidate that gave last
    for index, candidate in chosen:
        rest, cap = candidate.size - used[candidate.field], candidate.cap
        if cap < 0:  # together with the candidate before it
            cap = -cap - (last[1] if last[0] == index - 1 else 0)
        taken = min(need, rest, cap if candidate.cap else rest)
        if not candidate.money and taken > 0:
            takes.append((index, taken, rest - taken, 0))
            need -= taken
            last = index, taken
            waived = waived or candidate.waive
    return takes, need, waived


def does(item: DrawItem, result: DrawResult) -> bool:
    """Return whether the candidates of a cut item left nothing over, so that no further one could give."""
    volume = sum(taken for index, taken, _, _ in result.takes if not item.candidates[index].money)
    return result.outcome == Outcome.RATED and not result.amount and volume == item.billed


def _take_money(
    chosen: list[tuple[int, ItemCandidate]],
    used: list[int],
    cost: int,
    takes: list[tuple[int, int, int, int]],
) -> int:
    """Add the takes of money limits for an unsigned cost; return what of it is not covered."""
    for index, candidate in chosen:
        rest = candidate.size - used[candidate.field]
        if not candidate.money or rest <= 0:
            continue
        most = min(rest, candidate.cap or rest)
        need = candidate.to_package.at(cost) if candidate.to_package is not None else cost
        if need <= most:
            if need:
                takes.append((index, need, rest - need, cost))
            return 0
        worth = candidate.to_client.at(most) if candidate.to_client is not None else most
        covered = min(cost, worth)
        takes.append((index, most, rest - most, covered))
        cost -= covered
        if not cost:
            return 0
    return cost
