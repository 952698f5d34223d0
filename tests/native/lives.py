"""Packages whose dates and status move while clients have them, and lives as only commands leave them.

What is due of a client package follows from the dates that were loaded by then, version by version
(decisions/0102-dates-of-a-package-as-of-then.md): so loads come before, at and behind the moments that a
life has, their dates lie there too, and each client is asked what is open just before each moment, and at the
moment at which something is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from oracle.scenario import day, rfc3339, second
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import Content, PackageHistory, Status
from rater.core.clients.moments import due_moments
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life, Waiting
from rater.core.clients.views import ClientView
from rater.core.instants import DAY_MS, HOUR_MS, milliseconds

AGO_MS = (0, 0, 1, 999, 1000, 1001, HOUR_MS, DAY_MS, 3 * DAY_MS, 40 * DAY_MS)
STATUSES: tuple[Status, ...] = ("active", "active", "active", "disabled", "disabled", "archived")
REASONS = ("funds", "package_disabled", "currency_unknown", "amount_out_of_range")
ASKED_MAX = 16
FAR_MS = 4000 * DAY_MS
EARLIEST_MS, LATEST_MS = 1_500_000_000_000, 4_000_000_000_000
"""Between them all instants that are asked for."""


def moments_of(held: ClientPackage) -> list[int]:
    """Return the instants that a client package has."""
    found: list[int | None] = [held.assigned_ms, held.start_ms, held.end_ms]
    if (life := held.life) is not None:
        found += [life.ended_ms, life.dates_ms or None]
        for one in life.periods:
            found += [one.start_ms, one.stop_ms, one.by_ms, -(-one.by_ms // 1000) * 1000]
        if life.waiting is not None:
            found += [life.waiting.since_ms, life.waiting.until_ms]
    return sorted({at for at in found if at is not None})


# ------------------------------------------------------------------ loads
def moved(content: Content, states: Sequence[ClientState], rng: Random, now_ms: int) -> Content:
    """Return the content after loads up to now, some between what clients have been through."""
    content = msgspec.msgpack.decode(msgspec.msgpack.encode(content), type=Content)
    for name, history in content.packages.items():
        known = [
            at
            for state in states
            for held in state.packages
            if held.package == name
            for at in [*moments_of(held), *_last_starts(held)]
        ]
        _loaded(history, known or [now_ms], rng, now_ms)
    return content


def _last_starts(held: ClientPackage) -> list[int]:
    """Return the start of a period that follows another, some times, and instants since it was opened.

    An end there, loaded between, takes it back.
    """
    periods = held.life.periods if held.life is not None else ()
    if len(periods) < 2:
        return []
    start_ms, by_ms = periods[-1].start_ms, periods[-1].by_ms
    return [start_ms] * 6 + [by_ms + (start_ms - by_ms) * part // 4 for part in (1, 2, 3)] * 2


def _loaded(history: PackageHistory, known: list[int], rng: Random, now_ms: int) -> None:
    for _ in range(rng.choice((0, 0, 1, 2))):
        since = _instant(known, rng, now_ms) + rng.choice((0, 0, DAY_MS))
        if since > history.statuses[-1][0]:
            history.statuses.append((since, rng.choice(STATUSES)))
    for at_ms in sorted(_instant(known, rng, now_ms) for _ in range(rng.choice((0, 1, 1, 2, 3, 4)))):
        dates = [_instant_of(text) for text in (history.latest.start_date, history.latest.end_date)]
        fits = [at for at in dates if at is not None and history.versions[-1][0] < at <= now_ms]
        since = rng.choice(fits) if fits and rng.random() < 0.4 else at_ms  # as a date comes
        if since <= history.versions[-1][0]:
            continue
        spec = replace(history.latest, priority=rng.choice((-3, 0, 4)), name="renamed")
        if rng.random() < 0.5:
            spec = replace(spec, end_date=_date([*known, since], rng, now_ms))
        if rng.random() < 0.3:
            spec = replace(spec, start_date=_date([*known, since], rng, now_ms))
        history.versions.append((since, spec))


def _instant(known: list[int], rng: Random, now_ms: int) -> int:
    """Return when a load comes: some time ago, or about a moment that some client has."""
    at_ms = now_ms - rng.choice(AGO_MS)
    if rng.random() < 0.6:
        at_ms = rng.choice(known) + rng.choice((-DAY_MS, -1000, -1, 0, 0, 1, 1000))
    return min(at_ms, now_ms)


def _instant_of(date: str | None) -> int | None:
    """Return the instant that a date of a package names, None: a day, which begins by the client's clock."""
    at = None if date is None or "T" not in date else datetime.fromisoformat(date)
    return None if at is None else milliseconds(at)


def _date(known: list[int], rng: Random, now_ms: int) -> str | None:
    """Return a date that a load brings: about a moment that some client has, or now."""
    what = rng.random()
    if what < 0.25:
        return None
    if what < 0.4:
        return day(now_ms + rng.choice((-40, -2, 1, 2, 40)) * DAY_MS)
    near = rng.choice(known) if what < 0.9 else now_ms
    return second(near + rng.choice((-DAY_MS, -1000, 0, 0, 1000, HOUR_MS, DAY_MS)))


# ------------------------------------------------------------------ lives
def touched(state: ClientState, catalog: Catalog, rng: Random, now_ms: int) -> ClientState:
    """Return a client whose packages were given end dates, wait, were stopped or assigned anew."""
    packages = [
        _touched(held, _known(held, catalog, now_ms), rng, now_ms) if rng.random() < 0.6 else held
        for held in state.packages
    ]
    known = catalog.version if rng.random() < 0.3 else state.catalog
    new = replace(state, packages=packages, version=state.version + 1, catalog=known)
    if rng.random() < 0.2:
        new = replace(new, zones=_zones(new, rng, now_ms))
    if known == catalog.version:
        due_ms, calls_ms = due_moments(new, catalog)
        new = replace(new, due_ms=due_ms, calls_ms=calls_ms)
    return new


def _zones(state: ClientState, rng: Random, now_ms: int) -> list[tuple[int, str]]:
    known = [at for held in state.packages for at in moments_of(held)] or [now_ms]
    earlier, since = (
        rng.choice(("America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")),
        rng.choice(known),
    )
    return [(since - rng.choice((1, DAY_MS, 40 * DAY_MS)), earlier), (since, state.zone)]


def _known(held: ClientPackage, catalog: Catalog, now_ms: int) -> list[int]:
    """Return the instants of a client package and of the loads of its package."""
    found = [*moments_of(held), now_ms]
    if (package := catalog.packages.get(held.package)) is not None:
        found += [*package.changes(), *(since for since, _ in package.statuses[1:])]
    return found


def _touched(held: ClientPackage, known: list[int], rng: Random, now_ms: int) -> ClientPackage:
    life = held.life
    if life is None:
        return held
    past = [at for at in known if at <= now_ms] or [now_ms]
    last = life.periods[-1] if life.periods else None
    dates_ms = max(0, rng.choice(past) + rng.choice((-1000, -1, 0, 0, 0, 1, 1000, DAY_MS)))
    match rng.choice(TOUCHES):
        case "end":
            end_ms = rng.choice(known) + rng.choice((-DAY_MS, -1000, 0, 1000, DAY_MS))
            held = replace(held, end_ms=rng.choice((None, end_ms)), life=replace(life, dates_ms=dates_ms))
        case "dates":
            held = replace(held, life=replace(life, dates_ms=dates_ms))
        case "wait" if last is None or last.stop_ms is not None:
            held = replace(held, life=replace(life, waiting=_waiting(life, known, rng)))
        case "follow" if last is not None and last.stop_ms is not None:
            held = replace(held, life=replace(life, periods=(*life.periods, _following(last, known, rng))))
        case "late" if last is not None:  # opened in the middle of what it lasts, as when funds came then
            by_ms = last.start_ms + rng.choice((1, 500, 1000, HOUR_MS - 1, 20 * DAY_MS + 1))
            held = replace(held, life=replace(life, periods=(*life.periods[:-1], replace(last, by_ms=by_ms))))
        case "last":
            held = replace(held, life=replace(life, last=not life.last))
        case "anew":
            held = replace(
                held,
                assigned_ms=rng.choice(past),
                start_ms=rng.choice(known) + rng.choice((0, 0, 0, 1000, DAY_MS)),
                end_ms=rng.choice((None, None, rng.choice(known))),
                activate_in_past=rng.random() < 0.5,
                life=Life(dates_ms=rng.choice((0, dates_ms))),
            )
    return held


TOUCHES = (
    "end",
    "end",
    "dates",
    "dates",
    "wait",
    "wait",
    "follow",
    "follow",
    "late",
    "last",
    "anew",
    "anew",
    "anew",
)


def _waiting(life: Life, known: list[int], rng: Random) -> Waiting:
    total = rng.choice((0, 1, 7_000_000, 5_000_000_000))
    return Waiting(
        kind="renewal" if life.periods else "activation",
        reason=rng.choice(REASONS),
        since_ms=rng.choice(known),
        until_ms=rng.choice((None, rng.choice(known), rng.choice(known) + DAY_MS)),
        subscription=total,
        total=total,
        status_ms=max(0, rng.choice(known) + rng.choice((-1, 0, 0, 1))),
        steady=rng.random() < 0.8,
    )


def _following(last: HeldPeriod, known: list[int], rng: Random) -> HeldPeriod:
    """Return a period in advance behind the last one."""
    assert last.stop_ms is not None
    return replace(
        last,
        number=last.number + 1,
        start_ms=last.stop_ms,
        stop_ms=last.stop_ms + rng.choice((HOUR_MS, 30 * DAY_MS)),
        by_ms=min(last.stop_ms, rng.choice(known)),
        rolled=rng.choice((None, {}, {})),
        voided=False,
    )


# ------------------------------------------------------------------ questions
def questions(state: ClientState, catalog: Catalog, rng: Random, now_ms: int) -> list[list[bytes]]:
    """Return batches of a client's calls: before its moments, while nothing is due, and when something is."""
    due_ms = ClientView(state).due_ms(catalog)
    moments = {now_ms}
    for held in state.packages:
        moments |= {*moments_of(held)}
        package = catalog.packages.get(held.package)
        if package is not None:
            zone = catalog.zones.at(state.zone, state.changed_ms)
            moments |= set(package.changes())
            moments |= {since for since, _ in package.statuses}
            for version in package.versions:
                moments |= {at for at in (version.start_ms(zone), version.end_ms(zone)) if at is not None}
    about = {at + beside for at in moments for beside in (-1, 0)}
    before = sorted(at for at in about if EARLIEST_MS < at < min(due_ms, LATEST_MS))
    if len(before) > ASKED_MAX:
        before = sorted(rng.sample(before, ASKED_MAX))
    then = due_ms if EARLIEST_MS < due_ms < LATEST_MS else now_ms + FAR_MS
    if due_ms > EARLIEST_MS:
        before.append(then - 1)
    calls = [_call(state, at_ms, rng, n) for n, at_ms in enumerate([*before, then])]
    return [calls[:-1], calls[-1:]]


def _call(state: ClientState, at_ms: int, rng: Random, number: int) -> bytes:
    """Return a call that has a rate whenever it was."""
    party: dict[str, Any] = {"client": state.id}
    party["rate"] = {"code": "38044", "price": "0.06", "currency": state.currency}
    if state.accounts and rng.random() < 0.6:
        party["account"] = rng.choice(sorted(state.accounts))
    side = "orig" if rng.random() < 0.8 else "term"
    call = {"id": f"q{at_ms}/{number}", "called": "380441234567", "answered_at": rfc3339(at_ms)}
    return msgspec.json.encode({**call, "duration_ms": 61_000, side: party})
