"""What a re-rating job asks of a client: to begin, to put transactions right, to end.

A job works out beside the line what changes, and the lane of the client's bucket carries it out, unless the
client has moved on meanwhile (RULES.md section 5; decision 0112).
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rater.core.clients.opening import retry
from rater.core.clients.planning import Plan
from rater.core.clients.state import Rerating
from rater.core.commands.records import (
    RerateArgs,
    RerateBeginArgs,
    RerateEndArgs,
    RerateFirstArgs,
    RerateSwapArgs,
)
from rater.core.instants import rfc3339
from rater.core.json_text import UNREADABLE
from rater.core.kinds import EventType, RerateOutcome, TransactionType
from rater.core.reasons import shown
from rater.core.rerating.calls import Told, is_of_call, read_told

MOVED_ON = "moved on: "
"""Begins the refusal of what was worked out for a client that is another by now: work it out anew."""


def rerate(plan: Plan, args: RerateArgs, at_ms: int) -> dict[str, Any] | None:
    """Do a part of a job at a client; returns what its result tells, None: it is done already.

    Raises ValueError with the sentence why it is not carried out.
    """
    match args:
        case RerateBeginArgs():
            return _begin(plan, args, at_ms)
        case RerateSwapArgs():
            return _swap(plan, args, at_ms)
        case RerateEndArgs():
            return _end(plan, args, at_ms)
        case _:
            raise ValueError("a side that is rated for the first time changes its client as any call does")


def _begin(plan: Plan, args: RerateBeginArgs, at_ms: int) -> dict[str, Any] | None:
    now = plan.state.rerating
    if now is not None and now.job != args.job:
        raise ValueError(
            f"job {shown(now.job)!r} rates calls of client {shown(plan.state.id)!r} again since "
            f"{rfc3339(now.since_ms)}: wait until it is done, resume it by --job {shown(now.job)}, or give "
            f"it up by --job {shown(now.job)} --give-up"
        )
    if now is not None:
        return None
    plan.state = replace(plan.state, rerating=Rerating(args.job, at_ms, args.from_ms, args.to_ms))
    data = {"job": args.job, "from": rfc3339(args.from_ms), "to": rfc3339(args.to_ms)}
    plan.events.append(plan.event(EventType.RERATE_STARTED, "0/0", at_ms, data=data))
    return {"job": args.job, "version": plan.version}


def _end(plan: Plan, args: RerateEndArgs, at_ms: int) -> dict[str, Any] | None:
    now = plan.state.rerating
    if now is None or now.job != args.job:
        return None
    plan.state = replace(plan.state, rerating=None)
    data = {
        "job": args.job, "from": rfc3339(now.from_ms), "to": rfc3339(now.to_ms), "given_up": not args.done,
        "calls": args.calls, "changed": args.changed,
    }  # fmt: skip
    plan.events.append(plan.event(EventType.RERATE_DONE, "0/0", at_ms, data=data))
    return {"job": args.job, "version": plan.version}


def _swap(plan: Plan, args: RerateSwapArgs, at_ms: int) -> dict[str, Any]:
    state = plan.state
    if state.rerating is None or state.rerating.job != args.job:
        raise ValueError(
            f"job {shown(args.job)!r} has not begun at client {shown(state.id)!r}, or was given up"
        )
    if state.version != args.version:
        raise ValueError(f"{MOVED_ON}client {shown(state.id)!r} is at version {state.version}")
    if plan.catalog.version != args.catalog:
        raise ValueError(f"{MOVED_ON}catalog {plan.catalog.version} is in force")
    said = [_told(plan, value) for value in args.transactions]
    fault = _sums_fault(args, said)
    if fault is not None:
        raise ValueError(f"{fault}: no job has written this")
    held = [plan.counter_within(of) for of in args.counters]
    if not (plan.within(args.least, args.most) and all(held)):
        raise ValueError(f"{MOVED_ON}calls of client {shown(state.id)!r} have drawn what this rests on")
    if not plan.fits(sum(told.micros for told in said)):
        raise ValueError("the balance would leave ±9007199254.740992; adjust it first")
    for told, value in zip(said, args.transactions, strict=True):
        plan.move(told.type, told.micros, value.encode(), tuple(told.takes()))
        _count_fee(plan, told)
    plan.state = replace(plan.state, rerated=plan.state.rerated + 1)
    plan.tells_balance = False  # RULES.md 4, Thresholds: re-rating tells none
    before = len(plan.events)
    if plan.delta > 0:
        retry(plan, at_ms)
    return {"job": args.job, "version": plan.version, "settled": len(plan.events) > before}


def _told(plan: Plan, value: str) -> Told:
    try:
        told = read_told(value.encode())
        told.takes()
        _ = told.micros, told.at_ms
    except (*UNREADABLE, TypeError) as error:
        raise ValueError(f"a transaction cannot be read: {shown(str(error))}") from None
    if told.client != plan.state.id or not is_of_call(told) or told.revision < 1:
        raise ValueError(f"{shown(told.id)} revision {told.revision} is not of a call of this client")
    return told


def _sums_fault(args: RerateSwapArgs, said: list[Told]) -> str | None:
    """Return what is wrong with a part's counters: they are the sums of what its transactions draw."""
    sums: dict[str, int] = {}
    for told in said:
        for field, units in told.takes():
            sums[field] = sums.get(field, 0) + units
    deltas = {of.field: of.delta for of in args.counters}
    if len(deltas) < len(args.counters):
        return "a counter is named twice"
    if any("." not in field for field in deltas):
        return "a counter's field has no dot"
    for field in sums.keys() | deltas.keys():
        if sums.get(field, 0) != deltas.get(field, 0):
            return f"counter {shown(field)} moves by other than the draws"
    return None


def _count_fee(plan: Plan, told: Told) -> None:
    """Note the revision of the fee that stands, or of the next one, which a call may bring on the line."""
    if told.client_package is None:
        return
    place = plan.place_of(told.client_package)
    held = None if place is None else plan.packages[place]
    if place is None or held is None or held.life is None:
        return
    revision = told.revision + (told.type == TransactionType.REVERSAL)
    periods = tuple(
        [
            replace(of, fee_revision=max(of.fee_revision, revision)) if of.number == told.period else of
            for of in held.life.periods
        ]
    )
    if periods != held.life.periods:
        plan.put(place, held, periods=periods)


def counted(args: RerateArgs) -> dict[RerateOutcome, int]:
    """Return how calls ended by a part of a job, once it is carried out."""
    match args:
        case RerateSwapArgs():
            kinds: dict[str, set[str]] = {}
            for told in (read_told(value.encode()) for value in args.transactions):
                if told.client_package is None:
                    kinds.setdefault(told.id, set()).add(told.type)
            changed = sum(TransactionType.USAGE in of for of in kinds.values())
            return {RerateOutcome.CHANGED: changed, RerateOutcome.REJECTED: len(kinds) - changed}
        case RerateFirstArgs():
            return {RerateOutcome.FIRST: 1}
        case RerateEndArgs() if args.done:
            return {RerateOutcome.UNCHANGED: max(0, args.calls - args.changed)}
        case _:
            return {}
