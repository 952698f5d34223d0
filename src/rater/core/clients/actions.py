"""What administrators do to a client's packages and balance: each action as steps of a plan.

Source of the rules: RULES.md section 4 (Assign, Stopping). A refusal is a ValueError with the
sentence; nothing is changed then.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from rater.core.amounts import format_micros
from rater.core.clients.closing import close, event_charged, refund, withdraw
from rater.core.clients.dids import free_all, hold
from rater.core.clients.fees import negated, reversal_text
from rater.core.clients.moments import zone_of
from rater.core.clients.opening import retry
from rater.core.clients.planning import Plan, read_period
from rater.core.clients.state import Charged, ClientPackage, HeldPeriod, Life
from rater.core.instants import rfc3339
from rater.core.kinds import EventType, TransactionType
from rater.core.periods import when_ms

_encode = msgspec.json.Encoder().encode


def adjust(plan: Plan, amount: int, key: str, reason: str, at_ms: int) -> None:
    """Top a balance up, or correct it; what waited for funds is tried again."""
    if not amount:
        raise ValueError("an adjustment of 0 changes nothing; give the amount")
    if not plan.fits(amount):
        raise ValueError("the balance would leave ±9007199254.740992; give a smaller amount")
    state = plan.state
    value = _encode({
        "id": f"adjust/{state.id}/{key}", "revision": 1, "type": TransactionType.ADJUSTMENT,
        "client": state.id, "account": None, "at": rfc3339(at_ms), "actor": plan.cause.actor,
        "reason": reason, "key": key, "amount": format_micros(amount), "currency": state.currency,
        "catalog": plan.catalog.version,
    })  # fmt: skip
    plan.move(TransactionType.ADJUSTMENT, amount, value)
    if amount > 0:
        retry(plan, at_ms)


def life_of(held: ClientPackage) -> Life:
    """Return the life of a client package; what a version before left was taken over before an action."""
    assert held.life is not None  # noqa: S101 - due work comes first
    return held.life


def edit_end(plan: Plan, place: int, end_date: str | None, at_ms: int) -> None:
    """Give a client package another end date, or none; it may cut the period that runs, without refund."""
    held, state = plan.packages[place], plan.state
    life = life_of(held)
    if life.ended_ms is not None:
        raise ValueError(f"client package {held.id!r} is in the archive, which is final; assign it anew")
    end_ms = None if end_date is None else when_ms(end_date, zone_of(state, plan.catalog, at_ms))
    if end_ms is not None and end_ms < at_ms:
        raise ValueError(f"the end date {end_date} is before now; give now or later")
    if end_ms is not None and end_ms <= held.start_ms:
        raise ValueError(
            f"the end date {end_date} is not after the start of the first period; give a later one, "
            "or cancel it"
        )
    was = plan.told(held, at_ms)
    plan.put(place, replace(held, end_date=end_date, end_ms=end_ms), dates_ms=at_ms)
    delta = plan.delta
    if end_ms is not None and life.periods and life.periods[-1].start_ms >= end_ms:
        withdraw(plan, place, at_ms)
    plan.tell(EventType.END_DATE_CHANGED, plan.packages[place], at_ms, before=was)
    if plan.delta > delta:
        retry(plan, at_ms)


def current_period(held: ClientPackage, at_ms: int) -> HeldPeriod | None:
    """Return the period that runs at an instant; None: none does."""
    for period in reversed(life_of(held).periods):
        if period.start_ms <= at_ms:
            return period if period.stop_ms is None or at_ms < period.stop_ms else None
    return None


def _running(held: ClientPackage, at_ms: int) -> HeldPeriod:
    """Return the period that is to be stopped. Raises ValueError where none runs."""
    if life_of(held).ended_ms is not None:
        raise ValueError(f"client package {held.id!r} is in the archive already")
    period = current_period(held, at_ms)
    if period is None:
        raise ValueError(f"client package {held.id!r} is pending: it can only be cancelled")
    return period


def stop_now(plan: Plan, place: int, at_ms: int) -> None:
    """Stop at the beginning of the period that runs: all that was charged for it is given back."""
    held = plan.packages[place]
    period, delta = _running(held, at_ms), plan.delta
    was = plan.told(held, at_ms)
    withdraw(plan, place, at_ms)
    held = plan.packages[place]
    amount = refund(plan, held, period, at_ms)
    voided = replace(period, voided=True, refunded=bool(amount))
    held = plan.put(
        place, held, ended_ms=at_ms, ended="stopped", waiting=None,
        periods=tuple([voided if of.number == period.number else of for of in life_of(held).periods]),
    )  # fmt: skip
    plan.tell(
        EventType.STOPPED, held, at_ms, period=period.number, before=was,
        data={"refunded": format_micros(amount)},
    )  # fmt: skip
    data = {"from": rfc3339(period.start_ms), "to": rfc3339(at_ms)}
    plan.tell(EventType.RERATE_NEEDED, held, at_ms, period=period.number, data=data)
    hold(plan, place, at_ms)
    if plan.delta > delta:
        retry(plan, at_ms)


def stop_at_period_end(plan: Plan, place: int, at_ms: int) -> None:
    """Renew no more; what was renewed in advance is given back, and a renewal that waits is dropped."""
    held = plan.packages[place]
    life = life_of(held)
    if life.ended_ms is not None:
        raise ValueError(f"client package {held.id!r} is in the archive already")
    if not life.periods:
        raise ValueError(f"client package {held.id!r} is pending: it can only be cancelled")
    if life.last:
        raise ValueError(f"client package {held.id!r} is stopped at its period's end already")
    was = plan.told(held, at_ms)
    delta = plan.delta
    withdraw(plan, place, at_ms)
    held = plan.packages[place]
    last = life_of(held).periods[-1]
    if plan.stop_of(held, last, at_ms) is None:
        raise ValueError(
            f"the period of client package {held.id!r} has no end; stop it now, cancel it, or give it an "
            "end date"
        )
    held = plan.put(place, held, last=True, waiting=None)
    plan.tell(EventType.STOP_SCHEDULED, held, at_ms, period=last.number, before=was)
    if plan.delta > delta:
        retry(plan, at_ms)


def cancel(plan: Plan, place: int, at_ms: int) -> None:
    """Close a client package at this moment; nothing of the period that runs is given back."""
    held = plan.packages[place]
    if life_of(held).ended_ms is not None:
        raise ValueError(f"client package {held.id!r} is in the archive already")
    delta = plan.delta
    close(plan, place, at_ms, EventType.CANCELLED, "cancelled")
    if plan.delta > delta:
        retry(plan, at_ms)


def remove(plan: Plan, place: int, at_ms: int, history: Mapping[str, bytes]) -> None:
    """Take a client package out of the archive with all of its fees and refunds, each reversed.

    history: field → row of the periods that the register has no more.
    """
    held = plan.packages[place]
    life = life_of(held)
    if life.ended_ms is None:
        raise ValueError(f"client package {held.id!r} is not in the archive; stop or cancel it first")
    free_all(plan, place, at_ms)
    held, ended_ms = plan.packages[place], life.ended_ms
    was = plan.told(held, at_ms)
    begin = f"{held.id}."
    old = [
        read_period(raw)
        for field, raw in {**history, **plan.outdated}.items()
        if field.startswith(begin) and field[len(begin) :].isdigit()
    ]
    every = {period.number: period for period in (*old, *life.periods)}
    delta = plan.delta
    for _, period in sorted(every.items()):
        _reverse(plan, held, period, at_ms)
    del plan.packages[place]
    plan.state = replace(plan.state, removed=(*plan.state.removed, held.id))
    plan.tell(EventType.REMOVED, held, at_ms, period=life.numbered, before=was)
    if every:
        first = min(period.start_ms for period in every.values())
        data = {"from": rfc3339(first), "to": rfc3339(ended_ms)}
        plan.tell(EventType.RERATE_NEEDED, held, at_ms, period=life.numbered, data=data)
    if plan.delta > delta:
        retry(plan, at_ms)


def _reverse(plan: Plan, held: ClientPackage, period: HeldPeriod, at_ms: int) -> None:
    """Reverse the fees of a period and, where it was given back, its refund."""
    brought = event_charged(plan, held, period)
    charged = [*period.charged, *brought]
    back: list[Charged] = list(charged)
    if period.refunded:
        whole = [negated(one) for one in charged]
        net, amount = sum(one.net for one in whole), sum(one.amount for one in whole)
        taxes = tuple([tax for one in whole for tax in one.taxes])
        back.append(Charged(TransactionType.REFUND, net, taxes, amount))
    name = plan.catalog.packages[held.package].at(at_ms).name
    for one in back:
        value = reversal_text(
            plan.state,
            held,
            name,
            period,
            one,
            at_ms=at_ms,
            stop_ms=plan.stop_of(held, period, at_ms),
            catalog=plan.catalog.version,
            revision=period.fee_revision if one in brought else 1,
        )
        plan.move(TransactionType.REVERSAL, -one.amount, value)


def invoice(plan: Plan, place: int, at_ms: int) -> None:
    """Mark a pending charge for the invoice."""
    held = plan.packages[place]
    life = life_of(held)
    if life.waiting is None:
        raise ValueError(f"client package {held.id!r} has no pending charge")
    if life.waiting.invoiced:
        raise ValueError(f"the pending charge of client package {held.id!r} is marked already")
    was = plan.told(held, at_ms)
    held = plan.put(place, held, waiting=replace(life.waiting, invoiced=True))
    plan.tell(
        EventType.PENDING_CHARGE_INVOICED, held, at_ms, period=life.numbered + 1, before=was,
        data={"invoiced": True},
    )  # fmt: skip
