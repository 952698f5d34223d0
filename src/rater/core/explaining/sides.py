"""How a side of a call is worked out, or would be: by the line's own steps, and nothing changes.

Source of the rules: RULES.md 2 and 2.1; CONTRACTS.md, Passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Literal, NamedTuple

from rater.core.bucket.drawing import Funds, draw_item
from rater.core.bucket.messages import DrawResult, Outcome
from rater.core.catalog.offers import Candidate
from rater.core.cdr import Party
from rater.core.clients.lifecycle import due_change
from rater.core.clients.planning import Cause
from rater.core.line.batch import Batch, Side
from rater.core.line.due import bound_ms, cause_of
from rater.core.offline import Rater, Record, Transaction, identify
from rater.core.rating.explaining import Passed, not_drawn, passed_over
from rater.core.rating.identifying import wanted
from rater.core.rating.matching import package_type
from rater.core.rating.transaction import refused, rendered
from rater.core.reasons import PassOver, Rejection
from rater.core.reasons import Side as SideName
from rater.core.sources.source_map import SourceMap

By = Literal["client", "account", "rule"]
"""What said whose call a side is: the record named the client, or the account, or a rule held."""


class Asked(NamedTuple):
    """A candidate of a side, and what became of it.

    taken: counting units, or micros of the limit's currency; passed_over: why it gave nothing; one of both.
    """

    client_package: str
    package: str
    period: int
    candidate: Candidate
    taken: int | None
    passed_over: PassOver | None


class Explained(NamedTuple):
    """How a side was worked out, or would be: up to where it ended.

    asked: the candidates in their order. passed: the limits of the client that were none, and why. due:
    transactions of what becomes due of the client before the call. brings: the fee that the call is the
    first of its period for (charge on event). side None: it could not be read.
    """

    side: SideName | None
    ended: Transaction | Rejection
    by: By | None = None
    client: str | None = None
    account: str | None = None
    asked: tuple[Asked, ...] = ()
    passed: tuple[Passed, ...] = ()
    due: tuple[bytes, ...] = ()
    brings: bytes | None = None

    @property
    def reasons(self) -> dict[str, PassOver]:
        """PACKAGE NAME/LIMIT → why it was passed over."""
        found = {f"{one.package_name}/{one.limit_id}": one.reason for one in self.passed}
        for one in self.asked:
            if one.passed_over is not None:
                found.setdefault(f"{one.candidate.package_name}/{one.candidate.limit_id}", one.passed_over)
        return found


def explain(
    rater: Rater, raw: bytes | None, record_ms: int, before: int | None = None, *,
    source_map: SourceMap | None = None, headers: tuple[tuple[str, bytes], ...] = (),
) -> list[Explained]:  # fmt: skip
    """Return how each side of a record, orig first, would be rated now, as if it had not been before.

    Each is worked out behind what is due of its client; where both are of one client, term behind orig.
    before: the client's balance before the record, micros, where that is another one than it has.
    """
    record, lane_ms = Record(raw, record_ms, headers=headers), rater.standing.lane_ms
    batch, sides = rater.decoded(record, source_map)
    identify(sides, rater.catalog, rater.fresh_views())
    out = []
    for side in batch.sides:
        at, known = rater, before
        if side in sides[1:] and side.view is not None and side.view is sides[0].view:
            at = _copy(rater)
            known = at.balance(side.view.id) if known is None else known
            at.draw(at.decoded(record, source_map)[0], [_again(sides[0])])
            at.take()
        out.append(_one(at, batch, side if at is rater else _again(side), known))
    rater.standing.lane_ms = lane_ms
    return sorted(out, key=lambda one: one.side == "term")


def _again(side: Side) -> Side:
    """Return a side that nothing is known of yet."""
    return Side(side.topic, side.record, side.index, side.cdr, side.party)


def _one(rater: Rater, batch: Batch, side: Side, before: int | None) -> Explained:
    if side.view is None and side.party is not None:
        identify([side], rater.catalog, rater.fresh_views())
    cdr, view, name, whose = side.cdr, side.view, side.name, _whose(rater, side)
    if side.rejection is not None:
        return Explained(name, side.rejection, *whose)
    assert cdr is not None and view is not None and name is not None  # noqa: S101, PT018 - identified
    at = rater
    due: tuple[bytes, ...] = ()
    if view.due_ms(rater.catalog) <= (upto_ms := bound_ms(side, rater.standing)):
        at = _copy(rater)
        at.take()
        _settle(at, view.id, upto_ms, cause_of(side, at.standing))
        due = tuple(at.take()[0])
        side = _again(side)
    builders, _ = at.matched(batch, [side], at.fresh_views())
    ended = side.rejection
    found = Explained(name, Transaction(name, b""), whose[0], view.id, side.account, due=due)
    if ended is not None:
        return found._replace(ended=ended)
    (item,) = (request := at.request(builders[0])).items
    counters, balance = at.used(view.id), at.balance(view.id)
    used = [counters.get(field, 0) for field in request.uses[0].fields]
    funds = Funds(balance, balance if before is None else before, view.credit_limit)
    signed = {field for ask in item.fees for field in (ask.field + 1, ask.field + 2)}
    result = draw_item(item, used, funds, signed)
    fee = result.fee
    if result.outcome != Outcome.RATED:
        return found._replace(ended=refused(result.outcome, cdr.id, name))
    return found._replace(
        ended=Transaction(name, _transaction(side, result)),
        asked=_asked(side, result, not_drawn(item, used, funds, result)),
        passed=_passed(at, side),
        brings=None if fee is None or fee.charged is None else side.fees[fee.charged].text.value.encode(),
    )


def _settle(rater: Rater, client: str, upto_ms: int, cause: Cause) -> None:
    """Do what is due of a client before a call up to an instant."""
    due = partial(due_change, upto_ms=upto_ms, now_ms=rater.standing.lane_ms, cause=cause, closing=False)
    while change := due(rater.states[client], rater.catalog, known=rater.known(client)):
        rater.carry_out(change, upto_ms)


def _whose(rater: Rater, side: Side) -> tuple[By | None, str | None, str | None]:
    """Return what says whose call a side is, and the client and account that it says; None: nothing does."""
    cdr, party, name = side.cdr, side.party, side.name
    if cdr is None or party is None or name is None:
        return None, None, None
    client, account = wanted(cdr, name, party, rater.catalog)
    if client is None and account is None:
        return None, None, None
    if client is None and account is not None:
        client = rater.views.accounts.get(account)
    return by_of(party), client, account


def by_of(party: Party) -> By:
    """Return what says whose call a side is, if anything does."""
    return "client" if party.client else "account" if party.account else "rule"


def _copy(rater: Rater) -> Rater:
    """Return a rater like this one, with clients of its own; the catalog does not change and is shared."""
    return deepcopy(rater, {id(shared): shared for shared in (rater.catalog, rater.content)})


def _transaction(side: Side, result: DrawResult) -> bytes:
    row, head, rate = side.row, side.head, side.rate_text
    assert row is not None and head is not None and rate is not None  # noqa: S101, PT018 - it was matched
    return rendered(row, head, rate, side.limits, result)


def _asked(side: Side, result: DrawResult, reasons: Mapping[int, PassOver]) -> tuple[Asked, ...]:
    opened, view = side.opened, side.view
    if opened is None or view is None:
        return ()
    gave = {index: taken for index, taken, _, _ in result.takes}
    return tuple(
        Asked(
            view.packages[one.group].id, view.packages[one.group].package,
            int(opened.packages[one.group].period), one, gave.get(index), reasons.get(index),
        )
        for index, one in enumerate(side.candidates)
    )  # fmt: skip


def _passed(rater: Rater, side: Side) -> tuple[Passed, ...]:
    cdr, view, rate, priced, name = side.cdr, side.view, side.rate, side.priced, side.name
    if cdr is None or view is None or rate is None or priced is None or name is None or not priced.billed:
        return ()  # no limit is looked for
    kind = package_type(priced.sign, name)
    return tuple(
        passed_over(view, side.account, cdr.service, kind, rate.code, priced.billed, cdr.at_ms, rater.catalog)
    )
