"""How a client's state changes: the one place that decides it, as a value.

A `Change` is decided here by pure functions, carried out whole or not at all by one call of the bucket, kept
whole with its outcome and published from what was kept. Why: decisions/0060-one-change.md. Source of the
rules: RULES.md section 4 (Assign, Periods).
"""

from __future__ import annotations

from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from rater.core.amounts import LIMIT, format_micros
from rater.core.bucket.messages import ClientWrite
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import PackageVersion
from rater.core.catalog.specs import ClientEntry, ClientPackageSpec, ClientSpec
from rater.core.clients.periods import whole_second
from rater.core.clients.state import ClientPackage, ClientState, write_state
from rater.core.instants import rfc3339
from rater.core.kinds import TransactionType
from rater.core.periods import (
    when_ms,
)

_encode = msgspec.json.Encoder().encode


class ChangeTransaction(NamedTuple):
    """One transaction of a change: its type, its signed micros of the client's currency, its JSON."""

    type: str
    amount: int
    value: bytes


class ChangeEvent(NamedTuple):
    """One event of a change: its type, its key, its JSON."""

    type: str
    key: bytes
    value: bytes


class Change(Struct):
    """What becomes of a client: the new state and its conditions, and all that is published of it.

    The amounts of the transactions add up to the write's delta.
    """

    write: ClientWrite
    transactions: tuple[ChangeTransaction, ...] = ()
    events: tuple[ChangeEvent, ...] = ()


def load_change(
    state: ClientState | None, entry: ClientEntry, catalog: Catalog, *, at_ms: int, actor: str,
    balance: int | None = None,
) -> Change | None:  # fmt: skip
    """Return what a load makes of a client; None: nothing.

    at_ms, actor: of the command that brings the entry. balance: micros that are known to lie there, None
    when that is not known. Raises ValueError, with a sentence, for what cannot be applied (`apply_entry`),
    and when the opening balance would take the sum out of range.
    """
    new = apply_entry(state, entry, catalog, at_ms)
    if new is state:
        return None
    opening = new.opening if state is None else 0
    least, most = max(-LIMIT, -LIMIT - opening), min(LIMIT, LIMIT - opening)
    if balance is not None and not least <= balance <= most:
        raise ValueError(
            f"its opening balance of {format_micros(opening)} cannot be added to the "
            f"{format_micros(balance)} that are there: balances are at most {format_micros(LIMIT)}"
        )
    transactions: tuple[ChangeTransaction, ...] = ()
    if opening:
        value = _opening(new, opening, actor, at_ms, catalog.version)
        transactions = (ChangeTransaction(TransactionType.ADJUSTMENT, opening, value),)
    return Change(
        ClientWrite(
            client=new.id, expected=0 if state is None else state.version, version=new.version,
            state=write_state(new), least=least, most=most, delta=opening,
        ),
        transactions,
    )  # fmt: skip


def _opening(state: ClientState, opening: int, actor: str, at_ms: int, catalog: int) -> bytes:
    """Return the adjustment that sets a new client's balance (CONTRACTS.md, Catalog file: `balance`)."""
    return _encode({
        "id": f"adjust/{state.id}/opening", "revision": 1, "type": TransactionType.ADJUSTMENT,
        "client": state.id, "account": None, "at": rfc3339(at_ms), "actor": actor,
        "reason": "opening balance", "key": "opening", "amount": format_micros(opening),
        "currency": state.currency, "catalog": catalog,
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


def apply_entry(state: ClientState | None, entry: ClientEntry, catalog: Catalog, at_ms: int) -> ClientState:
    """Return the client with what a load says of it; the same object when that changes nothing.

    The load has been checked against the state of its time (`loading.merge`). What may not change any more
    and differs nevertheless (two loads at once) is left as it is: the currency, and all of a client package
    but its end date. ValueError: there is no such client and the entry does not bring it.
    """
    if state is None:
        if entry.client is None:
            raise ValueError(f"client {entry.id!r} does not exist, and the entry does not bring it")
        return _new(entry.client, entry.packages, catalog, at_ms)
    changes: dict[str, Any] = {}
    if entry.client is not None and not same_client(state, entry.client):
        changes = _client_changes(state, entry.client, at_ms)
    zone = catalog.zones.at(changes.get("zone", state.zone), at_ms)
    packages = _packages(state.packages, entry.packages, catalog, zone, at_ms)
    if packages is not state.packages:
        changes["packages"] = packages
    if not changes:
        return state
    return msgspec.structs.replace(state, version=state.version + 1, catalog=catalog.version, **changes)


def _new(spec: ClientSpec, packages: list[ClientPackageSpec], catalog: Catalog, at_ms: int) -> ClientState:
    return ClientState(
        id=spec.id, version=1, catalog=catalog.version, currency=spec.currency,
        accounts={account.id: account.rate_tables for account in spec.accounts},
        packages=_packages([], packages, catalog, catalog.zones.at(spec.time_zone, at_ms), at_ms),
        opening=spec.balance, **_told(spec),
    )  # fmt: skip


def _client_changes(state: ClientState, spec: ClientSpec, at_ms: int) -> dict[str, Any]:
    changes = _told(spec)
    changes["accounts"] = state.accounts | {of.id: of.rate_tables for of in spec.accounts}
    if spec.time_zone != state.zone:
        changes["zones"] = (*(state.zones or ((0, state.zone),)), (at_ms, spec.time_zone))
    return changes


def _packages(
    held: list[ClientPackage], specs: list[ClientPackageSpec], catalog: Catalog, zone: ZoneInfo, at_ms: int
) -> list[ClientPackage]:
    """Return the client packages with those of the load; the same list when nothing changes."""
    places = {of.id: place for place, of in enumerate(held)}
    out, changed = list(held), False
    for spec in specs:
        place = places.get(spec.id)
        if place is None:
            package = catalog.packages.get(spec.package)
            if package is None:
                continue  # checked by the load; nothing is better than a client package of nothing
            places[spec.id] = len(out)
            out.append(assign(spec, package.at(at_ms), zone, at_ms))
        elif out[place].end_date != spec.end_date:
            end_ms = None if spec.end_date is None else when_ms(spec.end_date, zone)
            out[place] = msgspec.structs.replace(out[place], end_date=spec.end_date, end_ms=end_ms)
        else:
            continue
        changed = True
    return out if changed else held


def assign(spec: ClientPackageSpec, version: PackageVersion, zone: ZoneInfo, at_ms: int) -> ClientPackage:
    """Return the client package that an assignment at this instant makes (RULES.md section 4, Assign)."""
    return ClientPackage(
        id=spec.id, package=spec.package, account=spec.account, quantity=spec.quantity,
        assigned_ms=whole_second(at_ms),
        start_ms=first_start(spec, version.start_ms(zone), zone, at_ms),
        end_ms=None if spec.end_date is None else when_ms(spec.end_date, zone),
        start_date=spec.start_date, end_date=spec.end_date, activate_in_past=spec.activate_in_past,
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
