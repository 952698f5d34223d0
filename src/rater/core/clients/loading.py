"""What a catalog load makes of a client: its settings, what is assigned to it, and what follows from that.

Source of the rules: RULES.md section 4 (Assign, Periods); CONTRACTS.md, Catalog file.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from rater.core.amounts import LIMIT, format_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import PackageVersion
from rater.core.catalog.specs import ClientEntry, ClientPackageSpec, ClientSpec
from rater.core.clients.actions import edit_end
from rater.core.clients.changes import Change
from rater.core.clients.earlier import whole_second
from rater.core.clients.lifecycle import finished, settle_before, settle_due
from rater.core.clients.opening import retry
from rater.core.clients.planning import Cause, Known, Plan
from rater.core.clients.state import ClientPackage, ClientState, Life
from rater.core.instants import rfc3339
from rater.core.kinds import EventType, TransactionType
from rater.core.periods import when_ms

_encode = msgspec.json.Encoder().encode


def load_change(
    state: ClientState | None, entry: ClientEntry, catalog: Catalog, *, at_ms: int, cause: Cause,
    known: Known | None = None, keep_ms: int = 0,
) -> Change | None:  # fmt: skip
    """Return what a load makes of a client, with all that is due of it until then; None: nothing.

    at_ms: of the load. known: what the bucket told of the client. What may not change any more and differs
    nevertheless (two loads at once) is left as it is. While the change is `due_by` the load, ask again with
    its state: what is due goes first, in steps. Raises ValueError, with a sentence, for what cannot be
    applied, and when the opening balance would take the sum out of range.
    """
    known, at_ms = known or Known(), whole_second(at_ms)
    if state is None:
        return _new(entry, catalog, at_ms, cause, known)
    packages = [spec for spec in entry.packages if _differs(state, spec, catalog)]
    client = None if entry.client is None or same_client(state, entry.client) else entry.client
    if client is None and not packages:
        return None
    at_ms = max(at_ms, state.changed_ms)
    plan = Plan(state, catalog, known, cause, keep_ms=keep_ms)
    last_ms, goes_on = settle_before(plan, at_ms)
    if goes_on:
        return finished(plan, last_ms)
    credit = state.credit_limit
    if client is not None:
        _change_client(plan, client, at_ms)
    _apply_packages(plan, packages, at_ms)
    if plan.state.credit_limit > credit:
        retry(plan, at_ms)
    settle_due(plan, at_ms, at_ms, closing=True, since_ms=at_ms)
    return finished(plan, at_ms)


def _new(entry: ClientEntry, catalog: Catalog, at_ms: int, cause: Cause, known: Known) -> Change:
    spec = entry.client
    if spec is None:
        raise ValueError(f"client {entry.id!r} does not exist, and the entry does not bring it")
    catalog.zones.at(spec.time_zone, at_ms)  # ValueError: there is none; calls could not be rated in it
    state = ClientState(
        id=spec.id, version=1, catalog=catalog.version, currency=spec.currency,
        accounts={account.id: account.rate_tables for account in spec.accounts}, packages=[],
        opening=spec.balance, **_told(spec),
    )  # fmt: skip
    plan = Plan(state, catalog, known, cause, new=True)
    if spec.balance:
        if not plan.fits(spec.balance):
            raise ValueError(
                f"its opening balance of {format_micros(spec.balance)} cannot be added to the "
                f"{format_micros(plan.balance)} that are there: balances are at most {format_micros(LIMIT)}"
            )
        value = opening_text(state, format_micros(spec.balance), cause.actor, at_ms, catalog.version)
        plan.move(TransactionType.ADJUSTMENT, spec.balance, value)
    _apply_packages(plan, entry.packages, at_ms)
    settle_due(plan, at_ms, at_ms, closing=True, since_ms=at_ms)
    return finished(plan, at_ms)


def opening_text(state: ClientState, amount: str, actor: str, at_ms: int, catalog: int) -> bytes:
    """Return the adjustment that sets a new client's balance (CONTRACTS.md, Catalog file: `balance`)."""
    return _encode({
        "id": f"adjust/{state.id}/opening", "revision": 1, "type": TransactionType.ADJUSTMENT,
        "client": state.id, "account": None, "at": rfc3339(at_ms), "actor": actor,
        "reason": "opening balance", "key": "opening", "amount": amount, "currency": state.currency,
        "catalog": catalog,
    })  # fmt: skip


def _told(spec: ClientSpec) -> dict[str, Any]:
    """Return what a load sets of a client, new or not."""
    return {
        "name": spec.name,
        "reseller": spec.reseller,
        "zone": spec.time_zone,
        "credit_limit": spec.credit_limit,
        "low_balance": spec.low_balance,
        "terms": spec.payment_terms,
        "tax_profile": spec.tax_profile,
        "rate_tables": spec.rate_tables,
    }


def same_client(state: ClientState, spec: ClientSpec) -> bool:
    """Return whether a row of the client changes nothing. Its balance never does, absent accounts stay."""
    return all(getattr(state, name) == value for name, value in _told(spec).items()) and all(
        state.accounts.get(account.id) == account.rate_tables for account in spec.accounts
    )


def same_package(held: ClientPackage, spec: ClientPackageSpec) -> bool:
    """Return whether a load's row of a client package changes nothing."""
    return (
        held.end_date == spec.end_date
        and held.package == spec.package
        and held.account == spec.account
        and held.start_date == spec.start_date
        and held.quantity == spec.quantity
        and held.activate_in_past == spec.activate_in_past
    )


def _differs(state: ClientState, spec: ClientPackageSpec, catalog: Catalog) -> bool:
    """Return whether a row of a client package changes anything: it is new, or its end date is another."""
    if spec.id in state.removed:
        return False
    held = next((of for of in state.packages if of.id == spec.id), None)
    return held.end_date != spec.end_date if held is not None else spec.package in catalog.packages


def _change_client(plan: Plan, spec: ClientSpec, at_ms: int) -> None:
    state = plan.state
    plan.catalog.zones.at(spec.time_zone, at_ms)  # ValueError, as of a new one
    changes = _told(spec)
    changes["accounts"] = state.accounts | {of.id: of.rate_tables for of in spec.accounts}
    if spec.time_zone != state.zone:
        changes["zones"] = (*(state.zones or ((0, state.zone),)), (at_ms, spec.time_zone))
    before = {name: getattr(state, name) for name in changes}
    plan.state = replace(state, **changes)
    names = [name for name in changes if name != "zones" and before[name] != changes[name]]
    plan.events.append(
        plan.event(
            EventType.CLIENT_CHANGED, "0/0", at_ms,
            before={name: _shown(name, before[name]) for name in names},
            after={name: _shown(name, changes[name]) for name in names},
        )
    )  # fmt: skip


def _shown(name: str, value: Any) -> Any:
    return format_micros(value) if name in ("credit_limit", "low_balance") and value is not None else value


def _apply_packages(plan: Plan, specs: list[ClientPackageSpec], at_ms: int) -> None:
    for spec in specs:
        place = plan.place_of(spec.id)
        package = plan.catalog.packages.get(spec.package)
        if spec.id in plan.state.removed or (place is None and package is None):
            continue  # checked by the load; nothing is better than a client package of nothing
        if place is not None:
            life = plan.packages[place].life
            ended = life is not None and life.ended_ms is not None  # since the load was checked
            if plan.packages[place].end_date != spec.end_date and not ended:
                edit_end(plan, place, spec.end_date, at_ms)
        elif package is not None:
            assign(plan, spec, package.at(at_ms), at_ms)


def assign(plan: Plan, spec: ClientPackageSpec, version: PackageVersion, at_ms: int) -> None:
    """Add the client package that an assignment at this instant makes; it is activated when that is due."""
    zone = plan.catalog.zones.at(plan.state.zone, at_ms)
    held = ClientPackage(
        id=spec.id, package=spec.package, account=spec.account, quantity=spec.quantity,
        assigned_ms=whole_second(at_ms),
        start_ms=first_start(spec, version.start_ms(zone), zone, at_ms),
        end_ms=None if spec.end_date is None else when_ms(spec.end_date, zone),
        start_date=spec.start_date, end_date=spec.end_date, activate_in_past=spec.activate_in_past,
        life=Life(),
    )  # fmt: skip
    plan.assign(held)
    plan.tell(
        EventType.ASSIGNED, held, at_ms,
        data={"package": held.package, "quantity": held.quantity, "start": rfc3339(held.start_ms)},
    )  # fmt: skip


def first_start(spec: ClientPackageSpec, package_start_ms: int | None, zone: ZoneInfo, at_ms: int) -> int:
    """Return the start of the first period.

    The latest of the assignment's start, the package's start and, without `activate_in_past`, the instant of
    the load (also when no start is given at all).
    """
    at = whole_second(at_ms)
    given = [] if spec.start_date is None else [when_ms(spec.start_date, zone)]
    if package_start_ms is not None:
        given.append(package_start_ms)
    if not given or not spec.activate_in_past:
        given.append(at)
    return max(given)
