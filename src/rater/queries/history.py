"""The periods that a client package had, and who of the client's accounts used its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import parse_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import escaped
from rater.core.catalog.packages import Package
from rater.core.clients.periods import period_of
from rater.core.clients.state import Charged, ClientPackage, HeldPeriod
from rater.core.instants import HOUR_MS
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.errors import Halt
from rater.queries import catalog as catalog_queries
from rater.queries.client_packages import ClientPackageUse, holder, use_of
from rater.queries.clients import Held
from rater.queries.connections import Connections
from rater.queries.limits import LimitUse, limits_of
from rater.queries.standing import Opened, opened
from rater.queries.transactions import transactions

CALENDAR_MAX = 1000
"""Periods of a client package that an earlier build assigned: they follow each other without end."""


class PastPeriod(Struct, frozen=True, kw_only=True):
    """A period that was opened, present and coming ones included. Instants are milliseconds UTC.

    fees: what was charged for it, signed micros of the client's currency. voided: it was stopped from its
    beginning, or withdrawn, and counts for no call.
    """

    number: int
    start_ms: int
    stop_ms: int | None
    limits: list[LimitUse]
    fees: list[Charged]
    voided: bool


class AccountUse(Struct, frozen=True, kw_only=True):
    """What an account's calls took of a limit in a period; account None: of calls that named none.

    taken: whole counting units, or micros of `currency`, None of a volume limit.
    """

    account: str | None
    period: int
    limit: str
    taken: int
    currency: str | None


class Shown(NamedTuple):
    """A client package now, and its periods, the newest first."""

    use: ClientPackageUse
    periods: list[PastPeriod]


async def client_package(at: Connections, of_id: str, now_ms: int, say: Callable[[str], None]) -> Shown:
    """Return a client package and its periods. Raises as `holder`."""
    held = await holder(at.store, of_id, say)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    own = next(of for of in held.state.packages if of.id == of_id)
    package = catalog.packages.get(own.package) if catalog is not None else None
    if catalog is None or package is None:
        found = []
    elif own.life is None:
        found = _by_calendar(held, own, package, now_ms)
    else:
        rows = await at.store.history(held.state.id)
        kept = [_row(of_id, raw) for name, raw in rows.items() if name.rpartition(".")[0] == escaped(of_id)]
        periods = {one.number: one for one in (*kept, *own.life.periods)}
        found = [
            opened(held.state, own, package, periods[number]) for number in sorted(periods, reverse=True)
        ]
    past = [_past(held, own, one, catalog) for one in found] if catalog is not None else []
    return Shown(use_of(held, own, catalog, now_ms), past)


def _row(of_id: str, raw: bytes) -> HeldPeriod:
    try:
        return msgspec.msgpack.decode(raw, type=HeldPeriod)
    except UNREADABLE as error:
        raise Halt(
            f"what Redis holds of earlier periods of client package {of_id} cannot be read ({error}): "
            "nothing but rater may write keys of its prefix"
        ) from error


def _by_calendar(held: Held, own: ClientPackage, package: Package, now_ms: int) -> list[Opened]:
    """Return the periods up to now of one that an earlier build assigned, at most CALENDAR_MAX."""
    found: list[Opened] = []
    at_ms = now_ms if own.end_ms is None else min(now_ms, own.end_ms - 1)
    while len(found) < CALENDAR_MAX:
        period = period_of(held.state, own, package, at_ms)
        if period is None:
            break
        found.append(Opened(period.number, period.start_ms, period.stop_ms, period.version))
        at_ms = period.start_ms - 1
    return found


def _past(held: Held, own: ClientPackage, period: Opened, catalog: Catalog) -> PastPeriod:
    kept = period.held
    return PastPeriod(
        number=period.number, start_ms=period.start_ms, stop_ms=period.stop_ms,
        limits=limits_of(own, period, held.counters, catalog),
        fees=[] if kept is None else kept.fees, voided=kept is not None and kept.voided,
    )  # fmt: skip


async def use_by_account(
    at: Connections, client: str, of_id: str, period: PastPeriod, passed: Callable[[int], None]
) -> list[AccountUse]:
    """Return what each account took of a client package's limits in a period, as the journal tells.

    passed: told how many offsets each step read. A call cannot come in more than an hour before its time, so
    the journal is read back to an hour before the period's start.
    """
    sums: dict[tuple[str | None, str, str | None], int] = {}
    found = transactions(
        at.kafka, at.topics, client=client, since_ms=period.start_ms - HOUR_MS, passed=passed
    )
    async for one in found:
        value = one.transaction or {}
        for limit, currency, taken in _takes(value, of_id, period.number):
            key = value.get("account"), limit, currency
            sums[key] = sums.get(key, 0) + taken
    return [
        AccountUse(account=account, period=period.number, limit=limit, taken=taken, currency=currency)
        for (account, limit, currency), taken in sorted(sums.items(), key=str)
        if taken
    ]


def _takes(value: dict[str, Any], of_id: str, period: int) -> list[tuple[str, str | None, int]]:
    """Return (limit, currency, taken) of a transaction's draws from the period of a client package.

    Of a reversal taken is below zero, as all its numbers.
    """
    if value.get("type") not in {TransactionType.USAGE, TransactionType.REVERSAL}:
        return []
    draws = value.get("draws")
    return [
        take
        for draw in (draws if isinstance(draws, list) else [])
        if isinstance(draw, dict)
        and (draw.get("client_package"), draw.get("period")) == (of_id, period)
        and (take := _take(draw)) is not None
    ]


def _take(draw: dict[str, Any]) -> tuple[str, str | None, int] | None:
    """Return (limit, currency, taken) of a draw, None: something else than rater wrote it."""
    currency = draw.get("currency")
    try:
        taken = int(draw["taken"]) if currency is None else parse_micros(draw["taken"])
    except (KeyError, TypeError, ValueError):
        return None
    return str(draw.get("limit")), currency, taken
