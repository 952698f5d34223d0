"""What becomes due of a client's packages, and what is done then: activation, renewal, the archive.

Pure: state, catalog and instant give what follows. Source of the rules: RULES.md section 4. What is due is
decided and dated at its moment, however late the tick or call that finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from rater.core.amounts import format_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import counter_field, size_of
from rater.core.catalog.packages import Package
from rater.core.clients.changes import Change
from rater.core.clients.counting import Bounds, first_bounds, next_bounds
from rater.core.clients.earlier import first_anchor, take_over, whole_second
from rater.core.clients.fees import (
    Fee,
    Unpayable,
    charged_of,
    fee_fields,
    fee_of,
    fee_text,
    refund_text,
    taxes_of,
)
from rater.core.clients.planning import STEP_MAX, Cause, Known, Plan, told
from rater.core.clients.state import Charged, ClientPackage, ClientState, HeldPeriod, Life, Waiting, id_order
from rater.core.instants import BEGINNING_MS, SECOND_MS, rfc3339
from rater.core.kinds import EventType, TransactionType
from rater.core.periods import Anchor, after, anchor_at, before, parse_span

IN_PAST_MAX = 400
"""Periods that an activation in the past opens in one step."""

TAKE_OVER, ACTIVATE, RENEW, ENABLE, ROLL = "take over", "activate", "renew", "enable", "roll"
EXPIRE, GIVE_UP, CANCEL, WITHDRAW = "expire", "give up", "cancel", "withdraw"
CLOSING = {EXPIRE, GIVE_UP, CANCEL, WITHDRAW}
"""What the home lane alone does: a call that did it could archive what a top-up before it would have kept."""


class Due(NamedTuple):
    """Something that is due of a client package."""

    at_ms: int
    what: str


# ------------------------------------------------------------------------------------------------- what is due
def zone_of(state: ClientState, catalog: Catalog, at_ms: int) -> ZoneInfo:
    """Return the client's time zone, by its rules at an instant."""
    return catalog.zones.at(state.zone, at_ms)


def end_of(held: ClientPackage, package: Package, zone: ZoneInfo) -> int | None:
    """Return the earlier end date of a client package and its package, None: neither has one."""
    ends = [at for at in (held.end_ms, package.latest.end_ms(zone)) if at is not None]
    return min(ends, default=None)


def due_of(state: ClientState, held: ClientPackage, catalog: Catalog) -> Due | None:
    """Return what is due of a client package next; None: nothing ever."""
    package, life = catalog.packages.get(held.package), held.life
    if package is None:
        return None
    if life is None:
        return Due(BEGINNING_MS, TAKE_OVER)
    if life.ended_ms is not None:
        return None
    zone = zone_of(state, catalog, state.changed_ms)
    found = list(_moments(held, life, package, zone))
    return min(found, key=lambda due: (due.at_ms, due.what not in CLOSING), default=None)


def _moments(held: ClientPackage, life: Life, package: Package, zone: ZoneInfo) -> Iterator[Due]:
    end, waiting = end_of(held, package, zone), life.waiting
    last = life.periods[-1] if life.periods else None
    gone = next((since for since, status in package.statuses() if status == "archived"), None)
    if gone is not None:
        yield Due(max(gone, held.assigned_ms), CANCEL)
    if waiting is not None:
        if waiting.until_ms is not None:
            yield Due(waiting.until_ms, GIVE_UP)
        if end is not None:
            yield Due(end, EXPIRE)
        if waiting.reason == "package_disabled":
            yield from (
                Due(since, ENABLE)
                for since, status in package.statuses()
                if status == "active" and since > waiting.since_ms
            )
    elif last is None:
        begin = package.latest.start_ms(zone)
        start = held.start_ms if begin is None else max(held.start_ms, begin)
        yield Due(max(held.assigned_ms, start), ACTIVATE)
        if end is not None:
            yield Due(max(end, held.assigned_ms), EXPIRE)
    elif (
        end is not None
        and last.start_ms >= end
        and last.start_ms > package.changed_ms
        and len(life.periods) > 1
    ):
        yield Due(max(package.changed_ms, held.assigned_ms), WITHDRAW)
    elif last.stop_ms is None or life.last or (end is not None and end <= last.stop_ms):
        stops = [at for at in (last.stop_ms, end) if at is not None]
        if stops:
            yield Due(min(stops), EXPIRE)
    else:
        yield Due(renewal_ms(last, package, zone), RENEW)
    if last is not None and last.rolled is None and len(life.periods) > 1:
        if any(limit.rollover for limit in package.at(life.periods[-2].by_ms).limits):
            yield Due(last.start_ms, ROLL)


def renewal_ms(last: HeldPeriod, package: Package, zone: ZoneInfo) -> int:
    """Return when the period after this one is due: its stop, a second before, or in advance."""
    assert last.stop_ms is not None  # noqa: S101 - the caller's
    spec = package.at(last.by_ms).spec
    moment = last.stop_ms
    if spec.advance_renew is not None:
        moment = before(last.stop_ms, parse_span(spec.advance_renew), zone)
    elif spec.renewal_charge == "before_period" and not spec.charge_on_event:
        moment = last.stop_ms - SECOND_MS
    return max(moment, last.start_ms)


def due_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return when something is due of a client next, None: never."""
    found = [due.at_ms for held in state.packages if (due := due_of(state, held, catalog)) is not None]
    return min(found, default=None)


def changed_packages(before: Catalog, after: Catalog) -> list[tuple[str, int]]:
    """Return the packages whose status or dates are others, and since when.

    Something may be due of their clients that the index does not know of.
    """
    return [
        (of, max(package.changed_ms, package.statuses()[-1][0]))
        for of, package in sorted(after.packages.items())
        if (old := before.packages.get(of)) is not None
        and (
            old.statuses() != package.statuses()
            or (old.latest.spec.start_date, old.latest.spec.end_date)
            != (package.latest.spec.start_date, package.latest.spec.end_date)
        )
    ]


def due_before_calls_ms(state: ClientState, catalog: Catalog) -> int | None:
    """Return the first moment from which a call has something to be done before it; None: never."""
    found = [
        due.at_ms
        for held in state.packages
        if (due := due_of(state, held, catalog)) is not None and due.what not in CLOSING
    ]
    return min(found, default=None)


# ------------------------------------------------------------------------------------------------ doing it
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
    if closing and state.due_ms is not None and state.due_ms <= upto_ms:
        # A hint that is no longer right: with the next moment, which may be later, it is put right.
        if due_ms(state, catalog) != state.due_ms:
            return finished(plan, state.changed_ms)
    return None


def woken_change(
    state: ClientState, catalog: Catalog, *, at_ms: int, known: Known, cause: Cause, keep_ms: int = 0
) -> Change | None:  # fmt: skip
    """Return what clears of pending charges when usage has raised the balance; None: nothing."""
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    at_ms = max(at_ms, state.changed_ms)
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
            found.append((due.at_ms, *turn(plan.catalog, held, due.at_ms), place, due))
    if not found:
        return None
    *_, place, due = min(found, key=lambda one: one[:-1])
    return due, place


def turn(catalog: Catalog, held: ClientPackage, at_ms: int) -> tuple[int, tuple[int, int, str]]:
    """Return what several client packages at one instant are ordered by: priority, then id."""
    package = catalog.packages.get(held.package)
    return (0 if package is None else package.at(at_ms).priority), id_order(held.id)


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
            _try_again(plan, place, at_ms)
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


# ------------------------------------------------------------------------------------------ opening of periods
class _Opening(NamedTuple):
    """A period that is to be opened, with its fees and their dates."""

    period: HeldPeriod
    fees: list[tuple[Fee, int]]
    bounds: Bounds


def _opening(
    plan: Plan, held: ClientPackage, package: Package, bounds: Bounds, by_ms: int, count: int, number: int,
    *, first: bool,
) -> _Opening:  # fmt: skip
    """Return a period with its fees. Raises Unpayable."""
    version, state = package.at(by_ms), plan.state
    taxes, by_event = taxes_of(state, plan.catalog), version.spec.charge_on_event
    early = version.spec.renewal_charge == "before_period" and not first
    date_ms = bounds.start_ms - SECOND_MS if early else bounds.start_ms
    kinds = [(TransactionType.ACTIVATION_FEE, bounds.start_ms)] if first else []
    if not by_event:
        kinds.append((TransactionType.SUBSCRIPTION_FEE, date_ms))
    fees = []
    for kind, at_ms in kinds:
        fee = fee_of(
            kind, version, quantity=held.quantity, share=bounds.share, count=count, taxes=taxes,
            currency=state.currency, catalog=plan.catalog, at_ms=at_ms,
        )  # fmt: skip
        if fee is not None:
            fees.append((fee, at_ms))
    period = HeldPeriod(
        number, bounds.start_ms, bounds.stop_ms, by_ms, count, bounds.share,
        tuple([fee.charged for fee, _ in fees]), taxes=tuple(taxes) if by_event else (),
    )  # fmt: skip
    return _Opening(period, fees, bounds)


def _paid(plan: Plan, package: Package, openings: list[_Opening], at_ms: int) -> str | None:
    """Return why the fees of these periods cannot be charged now; None: they can."""
    needed = -sum(fee.amount for one in openings for fee, _ in one.fees)
    if not package.at(at_ms).allow and not plan.affords(needed):
        return "funds"
    return None if plan.fits(-needed) else "amount_out_of_range"


def _charge(plan: Plan, place: int, package: Package, openings: list[_Opening], at_ms: int) -> None:
    """Open the periods: their fees are moved, the last one is counted on from."""
    held = plan.packages[place]
    life = held.life or Life()
    name = package.at(at_ms).name
    for one in openings:
        for fee, date_ms in one.fees:
            currency = package.at(one.period.by_ms).currency
            value = fee_text(
                plan.state, held, name, one.period, fee, currency=currency, at_ms=date_ms,
                catalog=plan.catalog.version,
            )  # fmt: skip
            plan.move(fee.charged.type, fee.amount, value)
    opened = tuple([one.period for one in openings])
    plan.put(
        place, held, numbered=opened[-1].number, count=opened[-1].count, periods=(*life.periods, *opened),
        waiting=None, counted=openings[-1].bounds.counted,
        first_ms=opened[0].start_ms if life.first_ms is None else life.first_ms, uncounted=life.counted,
    )  # fmt: skip


def _wait(
    plan: Plan, place: int, at_ms: int, kind: str, reason: str, openings: list[_Opening],
    until_ms: int | None,
) -> None:  # fmt: skip
    """Note a pending charge, or that one that waits already waits for something else."""
    held = plan.packages[place]
    life = held.life or Life()
    fees = [fee.charged for one in openings for fee, _ in one.fees]
    parts = {
        part: -sum(fee.net for fee in fees if fee.type == of)
        for part, of in (
            ("activation", TransactionType.ACTIVATION_FEE),
            ("subscription", TransactionType.SUBSCRIPTION_FEE),
        )
    }
    total = -sum(fee.amount for fee in fees)
    before_that = life.waiting
    waiting = Waiting(
        kind, reason, at_ms if before_that is None else before_that.since_ms,
        until_ms if before_that is None else before_that.until_ms, parts["activation"],
        parts["subscription"], total - sum(parts.values()), total,
        invoiced=before_that is not None and before_that.invoiced,
    )  # fmt: skip
    if before_that == waiting:
        return
    was = told(held, at_ms)
    held = plan.put(place, held, waiting=waiting)
    if before_that is None or before_that.reason != reason:
        number = life.numbered + 1
        plan.tell(
            EventType.CHARGE_PENDING, held, at_ms, period=number, before=was,
            data=charge_told(plan.state, waiting, plan.pin() if reason == "funds" else None),
        )  # fmt: skip


def charge_told(state: ClientState, waiting: Waiting, balance: int | None) -> dict[str, Any]:
    """Return what is told of a pending charge. balance: by which something is missing, None: nothing is."""
    until = waiting.until_ms
    return {
        "kind": waiting.kind, "reason": waiting.reason,
        "amounts": {
            "activation": format_micros(waiting.activation), "tax": format_micros(waiting.tax),
            "subscription": format_micros(waiting.subscription), "total": format_micros(waiting.total),
        },
        "missing": "0" if balance is None else format_micros(
            max(0, waiting.total - balance - state.credit_limit)
        ),
        "currency": state.currency, "since": rfc3339(waiting.since_ms),
        "retry_until": None if until is None else rfc3339(until), "invoiced": waiting.invoiced,
    }  # fmt: skip


def activate(plan: Plan, place: int, at_ms: int, by_ms: int) -> bool:
    """Open the first period, or note what it waits for; returns whether it was opened.

    at_ms: the moment; by_ms: the instant whose catalog it goes by. With activation in the past all periods
    that have begun since its start are opened in one step, all or none.
    """
    held = plan.packages[place]
    package = plan.catalog.packages[held.package]
    if package.status_at(at_ms) != "active":
        _wait(plan, place, at_ms, "activation", "package_disabled", [], None)
        return False
    openings: list[_Opening] = []
    try:
        for bounds, period_by_ms in _past(plan, held, package, at_ms, by_ms):
            count = len(openings) + 1
            openings.append(
                _opening(plan, held, package, bounds, period_by_ms, count, count, first=count == 1)
            )
        reason = _paid(plan, package, openings, at_ms)
    except Unpayable as error:
        openings, reason = [], error.reason
    if reason is not None:
        _wait(plan, place, at_ms, "activation", reason, openings, None)
        return False
    was, waited = told(held, at_ms), held.life is not None and held.life.waiting is not None
    _charge(plan, place, package, openings, at_ms)
    held, first = plan.packages[place], openings[0].period
    if waited:
        plan.tell(EventType.CHARGE_CLEARED, held, at_ms, period=first.number, before=was)
    plan.tell(EventType.ACTIVATED, held, at_ms, period=first.number, before=was)
    if held.activate_in_past and first.start_ms < at_ms:
        _need_rerate(plan, held, at_ms, openings[-1].period.number, first.start_ms)
    return True


def _past(
    plan: Plan, held: ClientPackage, package: Package, at_ms: int, by_ms: int
) -> Iterator[tuple[Bounds, int]]:
    """Yield the periods that an activation opens, each with the instant whose package version it has."""
    state, catalog = plan.state, plan.catalog
    anchor = _first_anchor(state, held, package, catalog, at_ms)
    period_by_ms = max(anchor.at_ms - 1, by_ms)
    zone = zone_of(state, catalog, period_by_ms)
    bounds = first_bounds(anchor, package.at(period_by_ms), zone, state.terms)
    yield bounds, period_by_ms
    end = end_of(held, package, zone)
    number = 1
    while held.activate_in_past and bounds.stop_ms is not None and bounds.stop_ms <= at_ms:
        if end is not None and bounds.stop_ms >= end:
            return
        number += 1
        if number > IN_PAST_MAX:
            raise Unpayable(
                "too_many_periods",
                f"an activation in the past opens at most {IN_PAST_MAX} periods; begin later",
            )
        period_by_ms = max(bounds.stop_ms - 1, by_ms)
        version = package.at(period_by_ms)
        bounds = next_bounds(bounds.counted, bounds.stop_ms, version, zone, state.terms)
        yield bounds, period_by_ms


def _first_anchor(
    state: ClientState, held: ClientPackage, package: Package, catalog: Catalog, at_ms: int
) -> Anchor:
    """Return where the first period begins: at the start date, or at the moment when it succeeds later."""
    zone = zone_of(state, catalog, held.assigned_ms)
    begin = package.latest.start_ms(zone)
    start = held.start_ms if begin is None else max(held.start_ms, begin)
    if not held.activate_in_past and whole_second(at_ms) > start:
        return anchor_at(whole_second(at_ms), zone_of(state, catalog, at_ms))
    if start != held.start_ms:
        return anchor_at(start, zone)
    return first_anchor(held, package, zone)


def renew(plan: Plan, place: int, at_ms: int, by_ms: int) -> bool:
    """Open the next period, or note what it waits for; returns whether it was opened.

    One that comes late opens the period that contains the moment; those that passed unpaid are skipped.
    """
    held = plan.packages[place]
    package, life = plan.catalog.packages[held.package], held.life
    assert life is not None and life.counted is not None  # noqa: S101, PT018 - it has had a period
    last = life.periods[-1]
    assert last.stop_ms is not None  # noqa: S101 - else nothing is renewed
    zone = zone_of(plan.state, plan.catalog, by_ms)
    if package.status_at(at_ms) != "active":
        until = _until(package, by_ms, last, zone)
        _wait(plan, place, at_ms, "renewal", "package_disabled", [], until)
        return False
    version, bounds = package.at(by_ms), None
    counted, start = life.counted, last.stop_ms
    while bounds is None or (bounds.stop_ms is not None and bounds.stop_ms <= at_ms):
        bounds = next_bounds(counted, start, version, zone, plan.state.terms)
        if bounds.stop_ms is not None:
            counted, start = bounds.counted, bounds.stop_ms
    openings: list[_Opening] = []
    try:
        openings = [
            _opening(plan, held, package, bounds, by_ms, life.count + 1, life.numbered + 1, first=False)
        ]
        reason = _paid(plan, package, openings, at_ms)
    except Unpayable as error:
        reason = error.reason
    if reason is not None:
        _wait(plan, place, at_ms, "renewal", reason, openings, _until(package, by_ms, last, zone))
        return False
    was, waited = told(held, at_ms), life.waiting is not None
    _charge(plan, place, package, openings, at_ms)
    held, period = plan.packages[place], openings[0].period
    if waited:
        plan.tell(EventType.CHARGE_CLEARED, held, at_ms, period=period.number, before=was)
    late = waited and at_ms > bounds.start_ms
    kind = EventType.RENEWED_LATE if late else EventType.RENEWED
    plan.tell(kind, held, at_ms, period=period.number, before=was)
    if late:
        _need_rerate(plan, held, at_ms, period.number, bounds.start_ms)
    return True


def _until(package: Package, by_ms: int, last: HeldPeriod, zone: ZoneInfo) -> int | None:
    """Return when a renewal that waits is given up."""
    renew_for = package.at(by_ms).spec.renew_for
    if renew_for is None or last.stop_ms is None:
        return None
    return after(last.stop_ms, parse_span(renew_for), zone)


def _need_rerate(plan: Plan, held: ClientPackage, at_ms: int, number: int, from_ms: int) -> None:
    data = {"from": rfc3339(from_ms), "to": rfc3339(at_ms)}
    plan.tell(EventType.RERATE_NEEDED, held, at_ms, period=number, data=data)


def retry(plan: Plan, at_ms: int) -> None:
    """Try pending charges again, for the balance or the credit limit rose; one too dear blocks no other."""
    waiting = [
        (held.life.waiting.since_ms, turn(plan.catalog, held, at_ms), place)
        for place, held in enumerate(plan.packages)
        if held.life is not None and held.life.waiting is not None
    ]
    for _, _, place in sorted(waiting):
        due = due_of(plan.state, plan.packages[place], plan.catalog)
        if due is None or due.at_ms > at_ms:
            _try_again(plan, place, at_ms)


def _try_again(plan: Plan, place: int, at_ms: int) -> None:
    held = plan.packages[place]
    life, package = held.life, plan.catalog.packages[held.package]
    assert life is not None and life.waiting is not None  # noqa: S101, PT018 - the caller's
    if package.status_at(at_ms) != "active":
        return
    delta = plan.delta
    if life.waiting.kind == "activation":
        activate(plan, place, at_ms, max(at_ms, held.assigned_ms))
    else:
        renew(plan, place, at_ms, max(at_ms, held.assigned_ms))
    if plan.delta > delta:  # a fee that pays the client
        retry(plan, at_ms)


# ----------------------------------------------------------------------------------------------------- closing
def close(plan: Plan, place: int, at_ms: int, kind: EventType, why: str) -> None:
    """Put a client package into the archive, with what was renewed in advance given back."""
    withdraw(plan, place, at_ms)
    held = plan.packages[place]
    was = told(held, at_ms)
    held = plan.put(place, held, ended_ms=at_ms, ended=why, waiting=None)
    number = held.life.numbered if held.life is not None else 0
    plan.tell(kind, held, at_ms, period=number, before=was, data={"why": why})


def withdraw(plan: Plan, place: int, at_ms: int) -> bool:
    """Take back a period that has not begun, and refund it; returns whether there was one."""
    held = plan.packages[place]
    life = held.life
    if life is None or len(life.periods) < 2 or life.periods[-1].start_ms <= at_ms:  # noqa: PLR2004 - the first one is never taken back
        return False
    period = life.periods[-1]
    amount = refund(plan, held, period, at_ms)
    plan.outdate(held, replace(period, voided=True, refunded=bool(amount)))
    plan.put(place, held, periods=life.periods[:-1], count=life.count - 1, counted=life.uncounted)
    return True


def refund(plan: Plan, held: ClientPackage, period: HeldPeriod, at_ms: int) -> int:
    """Give back what was charged for a period; returns the micros (0: nothing was)."""
    package = plan.catalog.packages[held.package]
    charged = [*period.charged, *event_charged(plan, held, period)]
    amount = -sum(one.amount for one in charged)
    if amount:
        value = refund_text(
            plan.state, held, package.at(at_ms).name, period, charged, at_ms=at_ms,
            catalog=plan.catalog.version,
        )  # fmt: skip
        plan.move(TransactionType.REFUND, amount, value)
    return amount


def event_charged(plan: Plan, held: ClientPackage, period: HeldPeriod) -> list[Charged]:
    """Return what the first call of a period has brought as its fee (charge on event), nothing without one."""
    package = plan.catalog.packages[held.package]
    if not package.at(period.by_ms).spec.charge_on_event:
        return []
    charged, net, amount = fee_fields(held.id, period.number)
    if not plan.counter(charged):
        return []
    return [charged_of(plan.counter(net), plan.counter(amount), period.taxes)]


def roll_over(plan: Plan, place: int) -> None:
    """Move what is left of volume limits into the period that begins, as far as their cap lets it."""
    held = plan.packages[place]
    life, package = held.life, plan.catalog.packages[held.package]
    assert life is not None  # noqa: S101 - it has two periods
    old, new = life.periods[-2:]
    rolling = {limit.id for limit in package.at(new.by_ms).limits if limit.kind == "volume"}
    moved: dict[str, int] = {}
    for limit in package.at(old.by_ms).limits:
        if not limit.rollover or limit.id not in rolling or old.voided:
            continue
        size, most = size_of(limit, held.quantity, old.share), limit.rollover * held.quantity
        used = plan.counter_up_to(counter_field(held.id, old.number, limit.id), size - most)
        if (rest := min(size - used, most)) > 0:
            moved[limit.id] = rest
    periods = (*life.periods[:-2], replace(old, moved=moved), replace(new, rolled=moved))
    plan.put(place, held, periods=periods)
