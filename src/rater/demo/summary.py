"""The sums at the end, and whether they agree: what was sent, what the topics say, what Redis holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rater.core.amounts import format_micros
from rater.demo import lives
from rater.demo.tally import Tally, shown

Stored = Mapping[str, tuple[int, Mapping[str, int]]]
"""Client → balance in micros, counters (CLIENT_PACKAGE.PERIOD.LIMIT → used), as Redis holds them."""


class Check(NamedTuple):
    """One thing that has to hold. differs: what does not agree, empty when all does."""

    name: str
    text: str
    differs: str = ""


_SHOWN = 3  # differences told one by one


def checks(tally: Tally, stored: Stored) -> list[Check]:
    """Return everything that is compared."""
    return [
        _sides(tally), _once(tally), _balances(tally, stored), _counters(tally, stored), _lives(tally, stored)
    ]  # fmt: skip


def _sides(tally: Tally) -> Check:
    rated, zero, rejected = tally.outcomes["rated"], tally.outcomes["zero"], tally.rejected.total()
    text = (
        f"{shown(tally.fed_sides)} sent in {shown(tally.fed_records)} records = {shown(rated)} rated "
        f"+ {shown(zero)} zero + {shown(rejected)} rejected + {shown(tally.duplicates)} seen before"
    )
    off = tally.done - tally.fed_sides
    return Check("sides", text, f"{shown(abs(off))} {'too many' if off > 0 else 'missing'}" if off else "")


def _once(tally: Tally) -> Check:
    others = {kind: number for kind, number in sorted(tally.types.items()) if kind != "usage"}
    text = f"{shown(tally.types['usage'])} of usage"
    text += "".join(f", {shown(number)} of {kind}" for kind, number in others.items()) + ", each once"
    differs = [f"{name} came twice" for name in tally.twice]
    differs += [f"{tally.unreadable} cannot be read"] if tally.unreadable else []
    return Check("transactions", text, _some(differs))


def _balances(tally: Tally, stored: Stored) -> Check:
    differs = []
    for client in sorted(tally.balances.keys() | stored.keys()):
        summed, held = tally.balances[client], stored.get(client, (0, {}))[0]
        if summed != held:
            differs.append(
                f"client {client}: amounts sum to {format_micros(summed)}, Redis has {format_micros(held)}"
            )
    return Check(
        "balances",
        f"{shown(len(stored))} clients: usage + fees + refunds + adjustments = balance in Redis",
        _some(differs),
    )


_DOTS = 2  # of CLIENT_PACKAGE.PERIOD.LIMIT; others hold the keys of commands, and fees that calls brought


def _counters(tally: Tally, stored: Stored) -> Check:
    held = {
        (client, field): used
        for client, (_, counters) in stored.items()
        for field, used in counters.items()
        if field.count(".") == _DOTS
    }
    keys = {key for key, units in tally.counters.items() if units} | {
        key for key, used in held.items() if used
    }
    differs = [
        f"client {client} counter {field}: draws sum to {tally.counters[client, field]}, "
        f"Redis has {held.get((client, field), 0)}"
        for client, field in sorted(keys)
        if tally.counters[client, field] != held.get((client, field), 0)
    ]
    spent = sum(bar.left <= 0 for bar in tally.bars.values())
    text = f"{shown(len(keys))} limits: sum of draws = counter in Redis; {shown(spent)} used up"
    return Check("counters", text, _some(differs))


def _lives(tally: Tally, stored: Stored) -> Check:
    balances = {client: stored[client][0] for client in lives.LIVES if client in stored}
    has = ", ".join(f"{client} has {format_micros(life.balance)}" for client, life in lives.LIVES.items())
    text = f"{shown(len(lives.LIVES))} clients with a life of their own: {has}"
    return Check("lives", text, _some(lives.differences(tally, balances)))


def _some(differs: list[str]) -> str:
    more = len(differs) - _SHOWN
    return "; ".join(differs[:_SHOWN] + ([f"and {shown(more)} more"] if more > 0 else []))


def lines(results: list[Check]) -> list[str]:
    """Return the checks as text, one line for each, and one for the whole."""
    told = [
        f"{one.name:<13} {one.text}: {'agrees' if not one.differs else f'DIFFERS: {one.differs}'}"
        for one in results
    ]
    wrong = sum(bool(one.differs) for one in results)
    return [*told, "all sums agree" if not wrong else f"{wrong} of {len(results)} sums do not agree"]


def as_objects(tally: Tally, results: list[Check]) -> dict[str, object]:
    """Return the same for programs."""
    return {
        "records": tally.fed_records,
        "sides": tally.fed_sides,
        "rated": tally.outcomes["rated"],
        "zero": tally.outcomes["zero"],
        "rejected": dict(sorted(tally.rejected.items())),
        "duplicates": tally.duplicates,
        "transactions": dict(sorted(tally.types.items())),
        "events": dict(sorted(tally.events.items())),
        "checks": [{"name": one.name, "agrees": not one.differs, "differs": one.differs} for one in results],
        "agrees": not any(one.differs for one in results),
    }
