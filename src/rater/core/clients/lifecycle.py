"""What becomes due of a client is done here, in order; what usage has woken too.

Pure: state, catalog and instant give what follows. Source of the rules: RULES.md section 4. What is due is
decided and dated at its moment, however late the tick or call that finds it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec.structs import replace

from rater.core.catalog.compiled import Catalog
from rater.core.clients.changes import Change
from rater.core.clients.closing import close, run_out, withdraw
from rater.core.clients.dids import hold
from rater.core.clients.earlier import take_over, whole_second
from rater.core.clients.expiring import tell_expiring
from rater.core.clients.moments import (
    CANCEL,
    CLOSING,
    ENABLE,
    EXPIRE,
    GIVE_UP,
    NOTICE,
    TAKE_OVER,
    Due,
    due_ms,
    due_of,
    first_of,
    notice_of,
    turn,
)
from rater.core.clients.opening import activate, renew, retry, roll_over, try_again
from rater.core.clients.planning import STEP_MAX, Cause, Known, Plan
from rater.core.clients.state import ClientPackage, ClientState
from rater.core.kinds import EventType


def due_change(
    state: ClientState, catalog: Catalog, *, upto_ms: int, now_ms: int, known: Known, cause: Cause,
    closing: bool, keep_ms: int = 0,
) -> Change | None:  # fmt: skip
    """Return what is due of a client up to an instant, done; None: nothing is.

    closing: also what the home lane alone does. now_ms: time of the lane, up to which client packages of a
    version before are taken over. keep_ms: calls before cannot come any more, so that periods which stopped
    before are history; 0: not known. A plan ends when it is full: ask again with its state.
    """
    if _nothing_due(state, catalog, upto_ms, closing=closing):
        return None
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    last_ms = settle_due(plan, upto_ms, now_ms, closing=closing)
    if last_ms is not None:
        return finished(plan, last_ms)
    met = (state.due_ms is not None and state.due_ms <= upto_ms) or state.catalog != catalog.version
    if closing and met and due_ms(state, catalog) != state.due_ms:
        # The hint is no longer right: what is due next may be later, or sooner by a newer catalog (as of the
        # end date that a package was given), and the index has to know.
        return finished(plan, state.changed_ms)
    return None


def _nothing_due(state: ClientState, catalog: Catalog, upto_ms: int, *, closing: bool) -> bool:
    """Return whether the state itself says that nothing is due; False: it has to be looked for.

    A tick asks it of clients whose hints are older than their state, or whom a call has met before: one of
    these takes it 3.6 µs with the reading of its state, in place of 6.8; a renewal takes 48 in that run.
    """
    next_ms = state.due_ms if closing else state.calls_ms
    return (
        state.catalog == catalog.version
        and next_ms is not None
        and next_ms > upto_ms
        and all(held.life is not None for held in state.packages)
        and not (closing and _told_by(state, catalog, upto_ms))
    )


def _told_by(state: ClientState, catalog: Catalog, upto_ms: int) -> bool:
    """Return whether something is to be told up to an instant: settings may be others than the state's."""
    notices = [notice_of(state, held, catalog) for held in state.packages]
    return any(notice is not None and notice.at_ms <= upto_ms for notice in notices)


def woken_change(
    state: ClientState, catalog: Catalog, *, at_ms: int, known: Known, cause: Cause, keep_ms: int = 0
) -> Change | None:  # fmt: skip
    """Return what clears of pending charges when usage has raised the balance; None: nothing."""
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    at_ms = max(whole_second(at_ms), state.changed_ms)  # RULES.md 4: instants are whole seconds
    retry(plan, at_ms)
    return finished(plan, at_ms) if plan.touched else None


def settle_before(plan: Plan, at_ms: int) -> tuple[int, bool]:
    """Do what is due before an action, up to its instant; returns its last moment, and whether it goes on.

    Where it goes on the plan is but a step, and a change of that moment, not of the action's: that may still
    be refused, and the next one be of an earlier instant.
    """
    last_ms = settle_due(plan, at_ms, at_ms, closing=True)
    last_ms = plan.state.changed_ms if last_ms is None else last_ms
    next_ms, _ = _first_of(plan, last_ms)
    return last_ms, next_ms is not None and next_ms <= at_ms


def finished(plan: Plan, at_ms: int) -> Change:
    """Return the plan as a change, with when something is due next."""
    return plan.change(*_first_of(plan, at_ms), at_ms)


def _first_of(plan: Plan, at_ms: int) -> tuple[int | None, int | None]:
    """Return when something is due once the plan is carried out at an instant, and first what calls do."""
    state = plan.state
    if not all(map(_is_open, plan.packages)):
        state = replace(state, changed_ms=max(state.changed_ms, at_ms))
    return first_of(
        _due(plan, place) if _is_open(held) else (due_of(state, held, plan.catalog), None)
        for place, held in enumerate(plan.packages)
    )


def _is_open(held: ClientPackage) -> bool:
    """Return whether what is due of it does not depend on when its client was changed last."""
    return held.life is not None and bool(held.life.periods)


def _due(plan: Plan, place: int) -> tuple[Due | None, Due | None]:
    """Return what is due of a client package of the plan, and what is to be told of it.

    Remembered while nothing of it is changed: of ten that are due at once each is looked at twice in place of
    a dozen times (benchmarks/line.py, `tenfold`: 1,300 → 600 µs of a client).
    """
    held = plan.packages[place]
    of, state, found = plan.due.get(place, _UNKNOWN)
    if of is not held or state is not plan.state:
        found = due_of(plan.state, held, plan.catalog), notice_of(plan.state, held, plan.catalog)
        plan.due[place] = held, plan.state, found
    return found


_UNKNOWN: tuple[None, None, tuple[None, None]] = None, None, (None, None)


def settle_due(
    plan: Plan, upto_ms: int, now_ms: int, *, closing: bool, since_ms: int | None = None
) -> int | None:  # fmt: skip
    """Do what is due up to an instant, in order, until the plan is full; returns the last moment, None: none.

    since_ms: of an action that made it due. Then nothing is told earlier, and all is done at once: periods of
    the past that an assignment opens are due when it is made, and calls that lie in them do not wait for it.
    """
    last_ms, done, whole = None, 0, since_ms is not None
    while whole or (done < STEP_MAX and not plan.full):
        if (found := _first(plan, closing=closing)) is None:
            break
        due, place = found
        if due.at_ms > upto_ms:
            break
        delta, done = plan.delta, done + 1
        last_ms = now_ms if due.what == TAKE_OVER else due.at_ms
        if due.what == NOTICE:
            tell_expiring(plan, place, max(due.at_ms, since_ms or 0))
        else:
            _obey(plan, place, due, now_ms)
        if plan.delta > delta:
            retry(plan, due.at_ms)
    return last_ms


def _first(plan: Plan, *, closing: bool) -> tuple[Due, int] | None:
    """Return what is due first: of several at one instant by priority, then id."""
    found = [
        (due, place)
        for place in range(len(plan.packages))
        if (due := _next(plan, place, notices=closing)) is not None and (closing or due.what not in CLOSING)
    ]
    if len(found) <= 1:
        return found[0] if found else None
    at_ms = min([due.at_ms for due, _ in found])
    first = [one for one in found if one[0].at_ms == at_ms]
    return min(first, key=partial(_turn, plan)) if len(first) > 1 else first[0]


def _next(plan: Plan, place: int, *, notices: bool) -> Due | None:
    """Return what is done of a client package next; notices: what is to be told of, too."""
    due, notice = _due(plan, place)
    return notice if notices and notice is not None and (due is None or notice.at_ms < due.at_ms) else due


def _turn(plan: Plan, one: tuple[Due, int]) -> tuple[Any, ...]:
    """Return what is compared of several that are due at one instant."""
    (at_ms, what, _), place = one
    held, waits_since = plan.packages[place], -1
    if what == ENABLE and held.life is not None and held.life.waiting is not None:
        waits_since = held.life.waiting.since_ms  # as all that is tried again
    return waits_since, *turn(plan.catalog, held, at_ms), place


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
            activate(plan, place, at_ms, at_ms if due.loaded else max(at_ms - 1, held.assigned_ms))
        case "renew":
            opened_by = held.life.periods[-1].by_ms if held.life is not None else 0
            by_ms = max(at_ms - 1, held.assigned_ms, opened_by)
            renew(plan, place, at_ms, at_ms if due.loaded else by_ms)
        case "enable":
            try_again(plan, place, at_ms)
        case "roll":
            roll_over(plan, place)
        case "withdraw":
            withdraw(plan, place, at_ms)
        case "hold":
            hold(plan, place, at_ms)
        case "free":
            run_out(plan, place, at_ms)
        case _:
            close(plan, place, at_ms, *_ENDS[due.what])


_ENDS = {
    CANCEL: (EventType.CANCELLED, "cancelled"),
    GIVE_UP: (EventType.ARCHIVED, "unpaid"),
    EXPIRE: (EventType.ARCHIVED, "expired"),
}
"""What is due → the event of a client package that goes into the archive, and why it does."""
