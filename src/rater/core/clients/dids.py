"""DIDs that a client's accounts hold: assigned, on hold, back in use, freed; each as steps of a plan.

Source of the rules: RULES.md section 4, DIDs. A refusal is a ValueError with the sentence. Which client holds
a number is in the account index too (`did_name`); of that the lane of the number takes care.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rater.core.catalog.specs import DidLimitSpec
from rater.core.clients.did_rows import fits, hold_end, rows_of, tags_of
from rater.core.clients.moments import clock_of, turn
from rater.core.clients.periods import Period, period_of
from rater.core.clients.planning import Plan
from rater.core.clients.state import ClientPackage, HeldDid, HeldPeriod, Life, did_of
from rater.core.instants import NEVER_MS, rfc3339
from rater.core.kinds import EventType
from rater.core.reasons import shown


class _Told(Struct):
    """What `freed_number` reads of an event."""

    data: dict[str, Any]


_told = msgspec.json.Decoder(_Told)


def freed_number(event: bytes) -> str:
    """Return the number that an event `did_freed` tells of."""
    return str(_told.decode(event).data["number"])


class _Giver(NamedTuple):
    """A client package that may give DIDs to an account, and its period then."""

    place: int
    held: ClientPackage
    life: Life
    period: Period

    @property
    def rows(self) -> list[DidLimitSpec]:
        """What it allows, as of its period's opening."""
        return self.period.version.spec.did_limits


def assign_did(plan: Plan, number: str, account: str, at_ms: int) -> str:
    """Give a DID to an account; returns the client package that gives it."""
    state = plan.state
    if number not in plan.catalog.dids:
        raise ValueError(f"there is no DID {shown(number)}; load it in the section dids")
    if account not in state.accounts:
        raise ValueError(f"client {state.id!r} has no account {shown(account)!r}")
    found = did_of(replace(state, packages=plan.packages), number)
    if found is not None:
        raise ValueError(_held(number, *found))
    givers = list(_givers(plan, account, at_ms))
    for giver in givers:
        numbers = [*(did.number for did in giver.life.dids), number]
        if rows_of(numbers, giver.rows, giver.held.quantity, plan.catalog)[-1] is None:
            continue
        was, did = plan.told(giver.held, at_ms), HeldDid(number, account)
        held = plan.put(giver.place, giver.held, dids=(*giver.life.dids, did))
        plan.tell(EventType.DID_ASSIGNED, held, at_ms, period=giver.period.number, before=was, did=did)
        return held.id
    raise ValueError(_none_gives(plan, number, account, givers))


def _held(number: str, held: ClientPackage, did: HeldDid) -> str:
    until = did.hold_until_ms
    how = "in use" if until is None else f"on hold until {rfc3339(until)}"
    return (
        f"DID {number} is held by account {did.account!r} already, by client package {held.id!r} ({how}); "
        "release it first"
    )


def _givers(plan: Plan, account: str, at_ms: int) -> Iterator[_Giver]:
    """Yield the client packages that are active for an account, by priority, then id."""
    order = sorted((turn(plan.catalog, held, at_ms), place) for place, held in enumerate(plan.packages))
    for _, place in order:
        held = plan.packages[place]
        package = plan.catalog.packages.get(held.package)
        if package is None or held.life is None or held.account not in {None, account}:
            continue
        period = period_of(plan.state, held, package, at_ms)
        if period is not None and package.status_at(at_ms) == "active":
            yield _Giver(place, held, held.life, period)


def _none_gives(plan: Plan, number: str, account: str, givers: list[_Giver]) -> str:
    """Return why no client package gives a DID to an account."""
    tags = tags_of(number, plan.catalog)
    of = f"client {plan.state.id!r} has no active client package for account {account!r}"
    if not any(giver.rows for giver in givers):
        return f"{of} that allows DIDs; assign one"
    if not any(fits(row, tags) for giver in givers for row in giver.rows):
        named = f"with the tags {shown(', '.join(tags))}" if tags else "without tags"
        return f"{of} that allows a DID {named}; give another number, or assign another package"
    held = sum(len(giver.life.dids) for giver in givers)
    return f"{of} that has room for DID {number}: {held} are held; release one, or assign another package"


def release_did(plan: Plan, number: str, at_ms: int) -> str:
    """Free a DID, in use or on hold; returns the client package that gave it."""
    found = did_of(replace(plan.state, packages=plan.packages), number)
    if found is None:
        raise ValueError(f"client {plan.state.id!r} does not hold DID {shown(number)}")
    place = plan.place_of(found[0].id)
    assert place is not None  # noqa: S101 - it was found there
    _free(plan, place, at_ms, (found[1],), "released")
    return found[0].id


def hold(plan: Plan, place: int, at_ms: int) -> None:
    """Put the DIDs of a client package on hold, as its period stopped; those without a hold are freed."""
    held = plan.packages[place]
    life = held.life
    if life is None or all(did.hold_until_ms is not None for did in life.dids):
        return
    period, zone = _last(life, at_ms), clock_of(plan.state, held, plan.catalog)
    rows = plan.catalog.packages[held.package].at(period.by_ms).spec.did_limits
    in_rows = rows_of([did.number for did in life.dids], rows, held.quantity, plan.catalog)
    kept, freed, new = [], [], []
    for did, row in zip(life.dids, in_rows, strict=True):
        until = did.hold_until_ms if did.hold_until_ms is not None else hold_end(row, at_ms, zone)
        if until is None:
            freed.append(did)
            continue
        kept.append(replace(did, hold_until_ms=until))
        if did.hold_until_ms is None:
            new.append(kept[-1])
    was = plan.told(held, at_ms)
    held = plan.put(place, held, dids=(*kept, *freed))
    for did in new:
        told = {"hold_until": rfc3339(did.hold_until_ms or 0)}
        plan.tell(EventType.DID_ON_HOLD, held, at_ms, period=period.number, before=was, data=told, did=did)
    _free(plan, place, at_ms, tuple(freed), "no hold")


def use_again(plan: Plan, place: int, at_ms: int) -> None:
    """Take DIDs that are on hold back into use: their client package is renewed."""
    held = plan.packages[place]
    life = held.life
    if life is None or all(did.hold_until_ms is None for did in life.dids):
        return
    was = plan.told(held, at_ms)
    again = tuple([replace(did, hold_until_ms=None) for did in life.dids])
    back = [did for did, before in zip(again, life.dids, strict=True) if before.hold_until_ms is not None]
    held = plan.put(place, held, dids=again)
    for did in back:
        plan.tell(
            EventType.DID_ASSIGNED, held, at_ms, period=life.numbered, before=was, data={"back": True},
            did=did,
        )  # fmt: skip


def free_all(plan: Plan, place: int, at_ms: int) -> None:
    """Free what a client package still has on hold: it is removed."""
    life = plan.packages[place].life
    _free(plan, place, at_ms, () if life is None else life.dids, "removed")


def free_over(plan: Plan, place: int, at_ms: int) -> None:
    """Free the DIDs of a client package whose hold has run out."""
    life = plan.packages[place].life
    over = [] if life is None else [did for did in life.dids if (did.hold_until_ms or NEVER_MS) <= at_ms]
    _free(plan, place, at_ms, tuple(over), "hold over")


def _free(plan: Plan, place: int, at_ms: int, dids: tuple[HeldDid, ...], why: str) -> None:
    held = plan.packages[place]
    life = held.life
    if life is None or not dids:
        return
    was = plan.told(held, at_ms)
    held = plan.put(place, held, dids=tuple([did for did in life.dids if did not in dids]))
    number = _last(life, at_ms).number
    for did in dids:
        plan.tell(EventType.DID_FREED, held, at_ms, period=number, before=was, data={"why": why}, did=did)


def _last(life: Life, at_ms: int) -> HeldPeriod:
    """Return the last period that has begun; what holds DIDs has had one."""
    return next((of for of in reversed(life.periods) if of.start_ms <= at_ms), life.periods[0])
