"""What becomes due of a client is done here, in order; what usage has woken too.

Pure: state, catalog and instant give what follows. Source of the rules: RULES.md section 4. What is due is
decided and dated at its moment, however late the tick or call that finds it.
"""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.catalog.compiled import Catalog
from rater.core.clients.changes import Change
from rater.core.clients.closing import close, withdraw
from rater.core.clients.earlier import take_over, whole_second
from rater.core.clients.moments import (
    CLOSING,
    ENABLE,
    TAKE_OVER,
    Due,
    due_before_calls_ms,
    due_ms,
    due_of,
    turn,
)
from rater.core.clients.opening import activate, renew, retry, roll_over, try_again
from rater.core.clients.planning import STEP_MAX, Cause, Known, Plan
from rater.core.clients.state import ClientState
from rater.core.kinds import EventType


def due_change(
    state: ClientState, catalog: Catalog, *, upto_ms: int, now_ms: int, known: Known, cause: Cause,
    closing: bool, keep_ms: int = 0,
) -> Change | None:  # fmt: skip
    """Return what is due of a client up to an instant, done; None: nothing is.

    closing: also what the home lane alone does. now_ms: time of the lane, up to which client packages of a
    version before are taken over. keep_ms: calls before cannot come any more, so that periods which stopped
    before are history; 0: not known. A plan ends after STEP_MAX transactions: ask again with its state.
    """
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    last_ms = settle_due(plan, upto_ms, now_ms, closing=closing)
    if last_ms is not None:
        return finished(plan, last_ms)
    hinted = closing and state.due_ms is not None and state.due_ms <= upto_ms
    if hinted and due_ms(state, catalog) != state.due_ms:
        # The hint is no longer right: what is due next may be later, and the index has to know.
        return finished(plan, state.changed_ms)
    return None


def woken_change(
    state: ClientState, catalog: Catalog, *, at_ms: int, known: Known, cause: Cause, keep_ms: int = 0
) -> Change | None:  # fmt: skip
    """Return what clears of pending charges when usage has raised the balance; None: nothing."""
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    at_ms = max(whole_second(at_ms), state.changed_ms)  # RULES.md 4: instants are whole seconds
    retry(plan, at_ms)
    return finished(plan, at_ms) if plan.touched else None


def finished(plan: Plan, at_ms: int) -> Change:
    """Return the plan as a change, with when something is due next."""
    state = replace(plan.state, packages=plan.packages, changed_ms=max(plan.state.changed_ms, at_ms))
    return plan.change(due_ms(state, plan.catalog), due_before_calls_ms(state, plan.catalog), at_ms)


def settle_due(plan: Plan, upto_ms: int, now_ms: int, *, closing: bool) -> int | None:
    """Do what is due up to an instant, in order; returns the last moment, None: nothing was."""
    last_ms = None
    while len(plan.transactions) < STEP_MAX and (found := _first(plan, closing=closing)) is not None:
        due, place = found
        if due.at_ms > upto_ms:
            break
        delta = plan.delta
        last_ms = now_ms if due.what == TAKE_OVER else due.at_ms
        _obey(plan, place, due, now_ms)
        if plan.delta > delta:
            retry(plan, due.at_ms)
    return last_ms


def _first(plan: Plan, *, closing: bool) -> tuple[Due, int] | None:
    """Return what is due first: of several at one instant by priority, then id."""
    found = []
    for place, held in enumerate(plan.packages):
        due = due_of(plan.state, held, plan.catalog)
        if due is not None and (closing or due.what not in CLOSING):
            waits_since = -1
            if due.what == ENABLE and held.life is not None and held.life.waiting is not None:
                waits_since = held.life.waiting.since_ms  # as all that is tried again
            found.append((due.at_ms, waits_since, *turn(plan.catalog, held, due.at_ms), place, due))
    if not found:
        return None
    *_, place, due = min(found, key=lambda one: one[:-1])
    return due, place


def _obey(plan: Plan, place: int, due: Due, now_ms: int) -> None:
    held, at_ms = plan.packages[place], due.at_ms
    package = plan.catalog.packages[held.package]
    match due.what:
        case "take over":
            life = take_over(plan.state, held, package, now_ms, plan.keep_ms)
            plan.packages[place] = replace(held, life=life)
            plan.touched.add(held.id)
            plan.become_member(held.package)
        case "activate":
            activate(plan, place, at_ms, max(at_ms - 1, held.assigned_ms))
        case "renew":
            renew(plan, place, at_ms, max(at_ms - 1, held.assigned_ms))
        case "enable":
            try_again(plan, place, at_ms)
        case "roll":
            roll_over(plan, place)
        case "cancel":
            close(plan, place, at_ms, EventType.CANCELLED, "cancelled")
        case "withdraw":
            withdraw(plan, place, at_ms)
        case "give up":
            close(plan, place, at_ms, EventType.ARCHIVED, "unpaid")
        case _:
            close(plan, place, at_ms, EventType.ARCHIVED, "expired")
