"""The periods that a client package had, and who of the client's accounts used its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from rater.core.amounts import parse_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Package
from rater.core.clients.earlier import take_over
from rater.core.clients.periods import bounded
from rater.core.clients.planning import read_period
from rater.core.clients.state import Charged, ClientPackage, ClientState, HeldPeriod
from rater.core.instants import HOUR_MS
from rater.core.json_text import UNREADABLE
from rater.core.kinds import TransactionType
from rater.errors import Halt
from rater.queries import catalog as catalog_queries
from rater.queries.client_packages import ClientPackageUse, Search, holder, use_of
from rater.queries.clients import Held
from rater.queries.connections import Connections
from rater.queries.limits import LimitUse, limits_of
from rater.queries.transactions import transactions


class PastPeriod(Struct, frozen=True, kw_only=True):
    """A period that was opened, present and coming ones included. Instants are milliseconds UTC.

    fees: what was charged for it, signed micros of the client's currency. voided: it was stopped from its
    beginning, or withdrawn, and counts for no call.
    """

    number: int
    start_ms: int
    stop_ms: int | None
    limits: list[LimitUse]
    fees: tuple[Charged, ...]
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


async def client_package(at: Connections, of_id: str, now_ms: int, search: Search) -> Shown:
    """Return a client package and its periods. Raises as `holder`."""
    held = await holder(at.store, of_id, search)
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    own = next(of for of in held.state.packages if of.id == of_id)
    package = catalog.packages.get(own.package) if catalog is not None else None
    past: list[PastPeriod] = []
    if catalog is not None and package is not None:
        kept = await at.store.history(held.state.id)
        rows = [_row(of_id, raw) for name, raw in kept.items() if name.rpartition(".")[0] == of_id]
        periods = _periods(held.state, own, package, rows, now_ms)
        past = [_past(held, own, package, one, catalog) for one in periods]
    return Shown(use_of(held, own, catalog, now_ms), past)


def _row(of_id: str, raw: bytes) -> HeldPeriod:
    try:
        return read_period(raw)
    except UNREADABLE as error:
        raise Halt(
            f"what Redis holds of earlier periods of client package {of_id} cannot be read ({error}): "
            "nothing but rater may write keys of its prefix"
        ) from error


def _periods(
    state: ClientState, own: ClientPackage, package: Package, rows: list[HeldPeriod], now_ms: int
) -> list[HeldPeriod]:
    """Return all periods of a client package, the newest first: of register and history.

    Those that a version before left are counted by the calendar: they have neither row nor number 1.
    """
    known = {one.number: one for one in (*rows, *(own.life.periods if own.life is not None else ()))}
    first = min(known, default=None)
    if own.life is None or (first is not None and first > 1):
        until_ms = now_ms if first is None else known[first].start_ms - 1
        before = replace(own, life=None)
        found = take_over(state, before, package, until_ms, max(own.start_ms, 1)).periods
        known = {one.number: one for one in found} | known
    return [known[number] for number in sorted(known, reverse=True)]


def _past(
    held: Held, own: ClientPackage, package: Package, period: HeldPeriod, catalog: Catalog
) -> PastPeriod:
    bounds = bounded(held.state, own, package, period)
    return PastPeriod(
        number=period.number, start_ms=period.start_ms,
        stop_ms=period.stop_ms if bounds is None else bounds.stop_ms,
        limits=limits_of(own, period, package.at(period.by_ms), held.counters, catalog),
        fees=period.charged, voided=period.voided,
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
