"""The end of client packages and of their periods: the archive, what is taken back, what is given back.

Source of the rules: RULES.md section 4 (Renewal, Stopping, DIDs).
"""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.clients.dids import free_over, hold
from rater.core.clients.fees import charged_of, fee_fields, refund_text
from rater.core.clients.planning import Plan
from rater.core.clients.state import Charged, ClientPackage, HeldPeriod
from rater.core.kinds import EventType, TransactionType


def close(plan: Plan, place: int, at_ms: int, kind: EventType, why: str) -> None:
    """Put a client package into the archive, with what was renewed in advance given back."""
    withdraw(plan, place, at_ms)
    held = plan.packages[place]
    was = plan.told(held, at_ms)
    held = plan.put(place, held, ended_ms=at_ms, ended=why, waiting=None)
    number = held.life.numbered if held.life is not None else 0
    plan.tell(kind, held, at_ms, period=number, before=was, data={"why": why})
    hold(plan, place, at_ms)


def run_out(plan: Plan, place: int, at_ms: int) -> None:
    """Free DIDs whose hold is over; a renewal that waits for funds is given up with them."""
    held = plan.packages[place]
    waiting = held.life.waiting if held.life is not None else None
    if waiting is not None and waiting.reason == "funds":
        close(plan, place, at_ms, EventType.ARCHIVED, "unpaid")
    free_over(plan, place, at_ms)


def withdraw(plan: Plan, place: int, at_ms: int) -> bool:
    """Take back a period that has not begun, and refund it; returns whether there was one."""
    held = plan.packages[place]
    life = held.life
    if life is None or len(life.periods) < 2 or life.periods[-1].start_ms <= at_ms:  # noqa: PLR2004 - the first one is never taken back
        return False
    period = life.periods[-1]
    amount = refund(plan, held, period, at_ms)
    plan.outdate(held, replace(period, voided=True, refunded=bool(amount)))
    plan.put(
        place, held, periods=life.periods[:-1], count=life.count - 1, counted=life.uncounted, dates_ms=at_ms
    )
    return True


def refund(plan: Plan, held: ClientPackage, period: HeldPeriod, at_ms: int) -> int:
    """Give back what was charged for a period; returns the micros (0: nothing was)."""
    package = plan.catalog.packages[held.package]
    charged = [*period.charged, *event_charged(plan, held, period)]
    amount = -sum(one.amount for one in charged)
    if amount:
        value = refund_text(
            plan.state, held, package.at(at_ms).name, period, charged, at_ms=at_ms,
            stop_ms=plan.stop_of(held, period, at_ms), catalog=plan.catalog.version,
        )  # fmt: skip
        plan.move(TransactionType.REFUND, amount, value)
    return amount


def event_charged(plan: Plan, held: ClientPackage, period: HeldPeriod) -> list[Charged]:
    """Return what the first call of a period has brought as its fee (charge on event), if one did."""
    package = plan.catalog.packages[held.package]
    if not package.at(period.by_ms).spec.charge_on_event:
        return []
    charged, net, amount = fee_fields(held.id, period.number)
    if not plan.counter(charged):
        return []
    return [charged_of(plan.counter(net), plan.counter(amount), period.taxes)]
