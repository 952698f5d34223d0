"""The opening of periods: activation, renewal, what waits for funds and is tried again, what rolls over.

Source of the rules: RULES.md section 4 (Assign, Renewal, Fees of periods).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from rater.core.amounts import format_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import counter_field, size_of
from rater.core.catalog.packages import Package, PackageVersion
from rater.core.clients.counting import Bounds, first_bounds, next_bounds
from rater.core.clients.dids import use_again
from rater.core.clients.earlier import first_anchor, whole_second
from rater.core.clients.fees import Fee, Unpayable, fee_of, fee_text, taxes_of
from rater.core.clients.moments import clock_of, due_of, earliest_start, end_by, rolls_into, turn, zone_of
from rater.core.clients.planning import Plan
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life, Waiting, zone_name
from rater.core.instants import SECOND_MS, rfc3339
from rater.core.kinds import EventType, TransactionType
from rater.core.periods import Anchor, after, anchor_at, parse_span

IN_PAST_MAX = 400
"""Periods that an activation in the past opens in one step."""


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


def _paid(plan: Plan, package: Package, openings: list[_Opening], by_ms: int) -> str | None:
    """Return why the fees of these periods cannot be charged now; None: they can."""
    needed = -sum(fee.amount for one in openings for fee, _ in one.fees)
    if not package.at(by_ms).allow and not plan.affords(needed):
        return "funds"
    return None if plan.fits(-needed) else "amount_out_of_range"


def _charge(plan: Plan, place: int, package: Package, openings: list[_Opening], by_ms: int) -> None:
    """Open the periods: their fees are moved, the last one is counted on from."""
    held = plan.packages[place]
    life = held.life or Life()
    name = package.at(by_ms).name
    for one in openings:
        for fee, date_ms in one.fees:
            currency = package.at(one.period.by_ms).currency
            value = fee_text(
                plan.state, held, name, one.period, fee, currency=currency, at_ms=date_ms,
                stop_ms=plan.stop_of(held, one.period, by_ms), catalog=plan.catalog.version,
            )  # fmt: skip
            plan.move(fee.charged.type, fee.amount, value)
    opened = _rolling(package, life.periods[-1:], openings)
    plan.put(
        place, held, numbered=opened[-1].number, count=opened[-1].count, periods=(*life.periods, *opened),
        waiting=None, counted=openings[-1].bounds.counted,
        first_ms=opened[0].start_ms if life.first_ms is None else life.first_ms,
        uncounted=openings[-2].bounds.counted if len(openings) > 1 else life.counted,
    )  # fmt: skip


def _rolling(
    package: Package, before: tuple[HeldPeriod, ...], openings: list[_Opening]
) -> tuple[HeldPeriod, ...]:
    """Return new periods that know whether anything is to be moved into them from the one before."""
    out: list[HeldPeriod] = []
    previous = before[-1] if before else None
    for period, _, _ in openings:
        rolls = previous is not None and package.at(previous.by_ms).rolls
        out.append(period if rolls else replace(period, rolled={}))
        previous = period
    return tuple(out)


def _wait(
    plan: Plan, place: int, at_ms: int, by_ms: int, kind: str, reason: str, openings: list[_Opening],
    until_ms: int | None,
) -> None:  # fmt: skip
    """Note a pending charge, or that one that waits already waits for something else."""
    held = plan.packages[place]
    life, package = held.life or Life(), plan.catalog.packages[held.package]
    latest = package.at(at_ms)
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
        status_ms=max(0, package.status_around(by_ms)[0]),
        steady=not latest.spec.align_to_payment_terms and latest.currency == plan.state.currency,
    )  # fmt: skip
    if before_that == waiting:
        return
    was = plan.told(held, at_ms)
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


def _loaded_by(plan: Plan, package: Package, by_ms: int) -> int:
    """Return an instant, or the one before it where that says the same of the package.

    For a load of this very second may still come, and a period keeps what it was opened with.
    """
    if by_ms % SECOND_MS:  # before a due moment: nothing is loaded then any more
        return by_ms
    state, zones = plan.state, plan.catalog.zones
    same = (
        package.at(by_ms) is package.at(by_ms - 1)
        and package.status_at(by_ms) == package.status_at(by_ms - 1)
        and zone_name(state, by_ms) == zone_name(state, by_ms - 1)
        and zones.at(state.zone, by_ms) is zones.at(state.zone, by_ms - 1)
    )
    return by_ms - 1 if same else by_ms


def activate(plan: Plan, place: int, at_ms: int, by_ms: int) -> bool:
    """Open the first period, or note what it waits for; returns whether it was opened.

    at_ms: the moment; by_ms: the instant whose catalog it goes by. With activation in the past all periods
    that have begun since its start are opened in one step, all or none.
    """
    held = plan.packages[place]
    package = plan.catalog.packages[held.package]
    by_ms = _loaded_by(plan, package, by_ms)
    if package.status_at(by_ms) != "active":
        _wait(plan, place, at_ms, by_ms, "activation", "package_disabled", [], None)
        return False
    openings: list[_Opening] = []
    try:
        for bounds, period_by_ms in _past(plan, held, package, at_ms, by_ms):
            count = len(openings) + 1
            openings.append(
                _opening(plan, held, package, bounds, period_by_ms, count, count, first=count == 1)
            )
        reason = _paid(plan, package, openings, by_ms)
    except Unpayable as error:
        openings, reason = [], error.reason
        plan.unpayable[held.id] = str(error)
    if reason is not None:
        _wait(plan, place, at_ms, by_ms, "activation", reason, openings, None)
        return False
    was, waited = plan.told(held, at_ms), held.life is not None and held.life.waiting is not None
    _charge(plan, place, package, openings, by_ms)
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
    anchor = _first_anchor(state, held, package, catalog, at_ms, by_ms)
    period_by_ms = max(anchor.at_ms - 1, by_ms)
    zone = zone_of(state, catalog, period_by_ms)
    bounds = first_bounds(anchor, package.at(period_by_ms), zone, state.terms)
    yield bounds, period_by_ms
    end = end_by(held, package.at(by_ms), zone)
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
    state: ClientState, held: ClientPackage, package: Package, catalog: Catalog, at_ms: int, by_ms: int
) -> Anchor:
    """Return where the first period begins: at the start date, or at the moment when it succeeds later."""
    name, zone = zone_name(state, held.assigned_ms), zone_of(state, catalog, held.assigned_ms)
    start = earliest_start(held, package.at(by_ms), zone)
    if not held.activate_in_past and whole_second(at_ms) > start:
        return anchor_at(whole_second(at_ms), zone_of(state, catalog, at_ms))
    if start != held.start_ms or name != state.zone:  # as after any change of the zone
        return anchor_at(start, zone_of(state, catalog, at_ms))
    return first_anchor(held, package, zone)


def renew(plan: Plan, place: int, at_ms: int, by_ms: int) -> bool:
    """Open the next period, or note what it waits for; returns whether it was opened.

    One that comes late opens the period that contains the moment; those that passed unpaid are skipped.
    """
    held = plan.packages[place]
    package, life = plan.catalog.packages[held.package], held.life
    assert life is not None and life.counted is not None  # noqa: S101, PT018 - it has had a period
    last, by_ms = life.periods[-1], _loaded_by(plan, package, by_ms)
    assert last.stop_ms is not None  # noqa: S101 - else nothing is renewed
    zone = zone_of(plan.state, plan.catalog, by_ms)
    if package.status_at(by_ms) != "active":
        until = _until(package, by_ms, last, zone)
        _wait(plan, place, at_ms, by_ms, "renewal", "package_disabled", [], until)
        return False
    version, bounds = package.at(by_ms), None
    counted, start = life.counted, last.stop_ms
    while bounds is None or (bounds.stop_ms is not None and bounds.stop_ms <= at_ms):
        bounds = next_bounds(counted, start, version, zone, plan.state.terms)
        if bounds.stop_ms is not None:
            counted, start = bounds.counted, bounds.stop_ms
    if life.waiting is not None and _behind_end(plan, held, version, bounds.start_ms):
        status_ms = max(0, package.status_around(by_ms)[0])
        if status_ms != life.waiting.status_ms:  # it was tried, so being enabled is nothing due any more
            plan.put(place, held, waiting=replace(life.waiting, status_ms=status_ms))
        return False
    openings: list[_Opening] = []
    try:
        openings = [
            _opening(plan, held, package, bounds, by_ms, life.count + 1, life.numbered + 1, first=False)
        ]
        reason = _paid(plan, package, openings, by_ms)
    except Unpayable as error:
        reason = error.reason
    if reason is not None:
        _wait(plan, place, at_ms, by_ms, "renewal", reason, openings, _until(package, by_ms, last, zone))
        return False
    was, waited = plan.told(held, at_ms), life.waiting is not None
    _charge(plan, place, package, openings, by_ms)
    held, period = plan.packages[place], openings[0].period
    if waited:
        plan.tell(EventType.CHARGE_CLEARED, held, at_ms, period=period.number, before=was)
    late = waited and at_ms > bounds.start_ms
    kind = EventType.RENEWED_LATE if late else EventType.RENEWED
    plan.tell(kind, held, at_ms, period=period.number, before=was)
    use_again(plan, place, at_ms)
    if late:
        _need_rerate(plan, held, at_ms, period.number, bounds.start_ms)
    return True


def _behind_end(plan: Plan, held: ClientPackage, version: PackageVersion, start_ms: int) -> bool:
    """Return whether a period that is waited for would begin at an end date, or later."""
    end = end_by(held, version, clock_of(plan.state, held, plan.catalog))
    return end is not None and end <= start_ms


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
        held = plan.packages[place]
        due = due_of(plan.state, held, plan.catalog, holds=False)
        # One that pays the client when it clears has the others tried before it returns.
        waits = held.life is not None and held.life.waiting is not None
        if waits and (due is None or due.at_ms > at_ms):
            try_again(plan, place, at_ms)


def try_again(plan: Plan, place: int, at_ms: int) -> None:
    """Try one pending charge again, unless the package is disabled."""
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


def roll_over(plan: Plan, place: int) -> None:
    """Move what is left of volume limits into the period that begins, as far as their cap lets it."""
    held = plan.packages[place]
    life, package = held.life, plan.catalog.packages[held.package]
    into = None if life is None else rolls_into(life)
    assert life is not None and into is not None  # noqa: S101, PT018 - that is due
    old, new = life.periods[into - 1 : into + 1]
    rolling = {limit.id for limit in package.at(new.by_ms).limits if limit.kind == "volume"}
    moved: dict[str, int] = {}
    for limit in package.at(old.by_ms).limits:
        if not limit.rollover or limit.id not in rolling or old.voided:
            continue
        size, most = size_of(limit, held.quantity, old.share), limit.rollover * held.quantity
        used = plan.counter_up_to(counter_field(held.id, old.number, limit.id), size - most)
        if (rest := min(size - used, most)) > 0:
            moved[limit.id] = rest
    changed = replace(old, moved=moved), replace(new, rolled=moved)
    periods = (*life.periods[: into - 1], *changed, *life.periods[into + 1 :])
    plan.put(place, held, periods=periods)
