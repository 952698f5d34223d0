"""Calls of a client rated again, in order: the line's own steps, and the twin of functions.lua draws.

Records in order in, results out. The native engine does the same (native/src/rerate.rs), and says of most
calls no more than that they end as they did. Source of the rules: RULES.md 2 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.bucket.drawing import Funds, draw_item
from rater.core.bucket.messages import DrawItem, DrawResult, Outcome
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import SIDES
from rater.core.clients.planning import history_field, read_period
from rater.core.clients.state import ClientState, HeldPeriod
from rater.core.clients.views import ClientView, Views
from rater.core.journal.outcomes import brought_fee
from rater.core.line import steps
from rater.core.line.batch import LanePosition, Side, Standing
from rater.core.rating.identifying import rate_again
from rater.core.rating.transaction import FeeText, refused, rendered
from rater.core.reasons import Rejection
from rater.core.rerating.bounds import Bounds
from rater.core.rerating.calls import TOGETHER, PastSide, Takes, Told


class NewFee(NamedTuple):
    """The fee of a period that a call brings: its transaction, signed micros, what it adds to counters."""

    value: bytes
    amount: int
    takes: Takes


class Rated(NamedTuple):
    """How a call ends now. value: its transaction as of a first revision; rejection: it cannot be rated."""

    call: PastSide
    before: Told | None
    """What stands of it so far."""
    value: bytes = b""
    amount: int = 0
    takes: Takes = []  # noqa: RUF012 - never changed
    fee: NewFee | None = None
    rejection: Rejection | None = None


class Unchanged(NamedTuple):
    """Calls that end as they did: how many, billed units, signed micros."""

    calls: int
    volume: int
    amount: int


class _Record(NamedTuple):
    """In place of a call's record: nothing of it is asked but where it lies."""

    offset: int
    timestamp: int = -1
    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def with_history(state: ClientState, history: Mapping[str, bytes]) -> ClientState:
    """Return a client with the periods that have left its register: a call of then falls into them.

    history: CLIENT_PACKAGE.PERIOD → row.
    """
    packages = []
    for held in state.packages:
        life = held.life
        if life is not None:
            known = {period.number: period for period in life.periods}
            old = [
                period
                for field, raw in history.items()
                if field.startswith(f"{held.id}.")
                and (period := read_period(raw)).number not in known
                and field == history_field(held.id, period.number)
            ]
            if old:
                every = tuple(sorted((*old, *life.periods), key=_number))
                held = replace(held, life=replace(life, periods=every))  # noqa: PLW2901 - with its periods
        packages.append(held)
    return replace(state, packages=packages)


def _number(period: HeldPeriod) -> int:
    return period.number


class ClientRating:
    """One client's calls, rated again in the order in which they are given.

    counters, balance: as they are without the draws of the calls, in counting units and micros. They go on
    with each call; `bounds` says for which others the same would have come out.
    """

    def __init__(
        self, state: ClientState, catalog: Catalog, counters: Mapping[str, int], balance: int
    ) -> None:
        """Begin. state: `with_history`."""
        self.counters = dict(counters)
        self.balance = balance
        self.bounds = Bounds()
        self._catalog = catalog
        self._view = ClientView(state)
        self._last: tuple[str, str] = "", ""
        self._before = balance

    def rate(self, calls: Iterable[PastSide]) -> Iterator[Rated]:
        """Yield how each call ends, in order."""
        rest = iter(calls)
        while some := tuple(islice(rest, TOGETHER)):
            yield from self._rate(some)

    def _rate(self, calls: tuple[PastSide, ...]) -> Iterator[Rated]:
        sides = [self._side(place, call) for place, call in enumerate(calls)]
        views = Views()
        views.fetched[self._view.id] = self._view
        steps.price(sides, self._catalog, views)
        requests, _ = steps.match(sides, self._catalog, views, 1)
        items: dict[int, tuple[DrawItem, list[str], set[int]]] = {}
        for builder in requests.values():
            request = builder.request(_STANDING, 0, 0, 0, 0)
            fields, signed = request.uses[0].fields, set[int]()
            for side, item in zip(builder.sides, request.items, strict=True):
                signed |= {place for ask in item.fees for place in (ask.field + 1, ask.field + 2)}
                items[side.offset] = item, fields, signed  # sums of fees, of all calls of the request
        for place, (side, call) in enumerate(zip(sides, calls, strict=True)):
            before = call.told()
            if place not in items:
                assert side.rejection is not None  # noqa: S101 - what is not rejected is matched
                self.balance -= before.micros if before is not None else 0
                yield Rated(call, before, rejection=side.rejection)
            else:
                yield self._draw(side, call, before, *items[place])

    def rejection(self, call: PastSide) -> Rejection | None:
        """Return why a call cannot be rated, whatever is left of any limit; None: it can."""
        side, views = self._side(0, call), Views()
        views.fetched[self._view.id] = self._view
        steps.price([side], self._catalog, views)
        steps.match([side], self._catalog, views, 1)
        return side.rejection

    def _side(self, place: int, call: PastSide) -> Side:
        cdr = call.cdr()
        party = cdr.term if call.side else cdr.orig
        side = Side("", _Record(place), call.side, cdr, party)
        assert party is not None  # noqa: S101 - the call's side is there
        side.view, side.account, side.whole = self._view, call.account, True
        found = rate_again(cdr, SIDES[call.side], party, self._view, call.account, self._catalog)
        if isinstance(found, Rejection):
            side.rejection = found
        else:
            side.rate = found
        return side

    def _draw(
        self, side: Side, call: PastSide, before: Told | None, item: DrawItem, fields: list[str],
        signed: set[int],
    ) -> Rated:  # fmt: skip
        """Draw a call from what the calls before it have left. signed: see `draw_item`."""
        used = [self.counters.get(field, 0) for field in fields]
        if (call.source, call.id) != self._last:
            self._last, self._before = (call.source, call.id), self.balance
        funds, kept = Funds(self.balance, self._before, self._view.credit_limit), call.last_told()
        result = draw_item(item, used, _answered(funds, item, kept), signed)
        self.bounds.note(
            item, fields, used, funds, result,
            judged=kept is None or kept.balance_sufficient is None,
            fee_judged=kept is None or kept.fee_covered is None,
        )  # fmt: skip
        self.balance -= before.micros if before is not None else 0
        if result.outcome != Outcome.RATED:
            return Rated(call, before, rejection=refused(result.outcome, call.id, SIDES[call.side]))
        takes = [(fields[item.candidates[at].field], taken) for at, taken, _, _ in result.takes]
        fee = _new_fee(side, result)
        for field, units in takes + ([] if fee is None else fee.takes):
            self.counters[field] = self.counters.get(field, 0) + units
        self.balance += result.amount + (0 if fee is None else fee.amount)
        row, head = side.row, side.head
        assert row is not None and head is not None and side.rate_text is not None  # noqa: S101, PT018 - matched
        value = rendered(row, head, side.rate_text, side.limits, result)
        return Rated(call, before, value, result.amount, takes, fee)


def _answered(funds: Funds, item: DrawItem, kept: Told | None) -> Funds:
    """Return funds for which a transaction's answers come out again: they were given once for all."""
    balance, before, credit = funds
    if kept is not None and kept.balance_sufficient is not None:
        before = max(before, -credit) if kept.balance_sufficient else min(before, -credit - 1)
    if kept is not None and kept.fee_covered is not None and item.fees:
        dearest = min([0, *(ask.amount for ask in item.fees)])
        balance = max(balance, -credit - dearest) if kept.fee_covered else min(balance, -credit)
    return Funds(min(max(balance, -LIMIT), LIMIT), before, credit)


def _new_fee(side: Side, result: DrawResult) -> NewFee | None:
    assert side.row is not None and side.head is not None  # noqa: S101, PT018 - matched
    fees: tuple[FeeText, ...] = side.row.fees
    fee = brought_fee(side.head.packages, fees, result)
    return None if fee is None else NewFee(fee.value, fee.amount, fee.counters)


_STANDING: Any = Standing(0, "", 0, 1, LanePosition())
"""What a request asks of a lane; nobody sends it."""
