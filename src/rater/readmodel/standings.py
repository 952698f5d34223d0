"""A client's state becomes rows: the client, its accounts, its packages as they stand, the DIDs it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from rater.core.catalog.compiled import Catalog
from rater.core.clients.moments import end_of, zone_of
from rater.core.clients.periods import period_around
from rater.core.clients.standing import standing
from rater.core.clients.state import ClientPackage, ClientState, dids_of, id_order
from rater.core.instants import NEVER_MS
from rater.core.kinds import ClientPackageStatus
from rater.readmodel.schema import STATUSES

_encode = msgspec.msgpack.encode
_DIGITS_MAX = 64
NAME_CHARS = 200
"""So much of a name is looked for."""


class Charge(msgspec.Struct, array_like=True, frozen=True):
    """A pending charge, but for what its client package's row says of it."""

    period: int
    kind: str
    reason: str
    activation: int
    subscription: int
    tax: int
    total: int
    currency: str
    retry_until_ms: int | None
    invoiced: bool


class ClientRows(NamedTuple):
    """The rows of a client, each a tuple of its table's columns."""

    client: tuple[Any, ...]
    accounts: list[tuple[str, str]]
    packages: list[tuple[Any, ...]]
    dids: list[tuple[Any, ...]]


def order_key(of_id: str) -> str:
    """Return what an id is sorted by as text: as `id_order` sorts."""
    is_text, _, _ = id_order(of_id)
    if is_text:
        return f"1{of_id}"
    digits = of_id.lstrip("0")
    return f"0{len(digits):02}{digits} {of_id}"


def text_key(name: str) -> str:
    """Return what the beginning of a name is looked for by: in any case."""
    return name[:NAME_CHARS].casefold()


def rows_of(state: ClientState, catalog: Catalog | None, now_ms: int, place: tuple[int, int]) -> ClientRows:
    """Return the rows of a client at a moment. place: partition and offset of its state."""
    key = order_key(state.id)
    packages = [
        _package_row(state, held, seat, key, catalog, now_ms, place)
        for seat, held in enumerate(state.packages)
    ]
    pending = sum(_waits(held) for held in state.packages)
    client = (
        state.id, key, state.name, text_key(state.name), state.reseller, state.currency, state.credit_limit,
        len(state.accounts), len(state.packages), pending, state.version, *place,
    )  # fmt: skip
    dids = [(did.number, state.id, did.account, held.id, did.hold_until_ms) for held, did in dids_of(state)]
    return ClientRows(client, [(account, state.id) for account in state.accounts], packages, dids)


def _waits(held: ClientPackage) -> bool:
    return held.life is not None and held.life.waiting is not None and held.life.ended_ms is None


def _package_row(
    state: ClientState, held: ClientPackage, seat: int, key: str, catalog: Catalog | None, now_ms: int,
    place: tuple[int, int],
) -> tuple[Any, ...]:  # fmt: skip
    stands = standing(state, held, catalog, now_ms)
    period = stands.period
    waiting = held.life.waiting if held.life is not None and _waits(held) else None
    charge = None
    if waiting is not None:
        charge = Charge(
            stands.life.numbered + 1, waiting.kind, waiting.reason, waiting.activation, waiting.subscription,
            waiting.tax, waiting.total, state.currency, waiting.until_ms, waiting.invoiced,
        )  # fmt: skip
    return (
        held.id, state.id, key, seat, held.account, held.package, STATUSES.index(stands.status), stands.state,
        held.quantity, 0 if held.life is None else held.life.version,
        None if period is None else period.number,
        None if period is None else period.start_ms,
        None if period is None else period.stop_ms,
        held.start_ms if stands.life.first_ms is None else stands.life.first_ms,
        held.end_ms, stands.renewal_ms, _turns_ms(state, held, catalog, now_ms),
        None if waiting is None else waiting.since_ms, None if charge is None else _encode(charge), *place,
    )  # fmt: skip


def _turns_ms(state: ClientState, held: ClientPackage, catalog: Catalog | None, now_ms: int) -> int | None:
    """Return when a client package stands differently by time alone, None: it does not."""
    package = None if catalog is None else catalog.packages.get(held.package)
    if catalog is None or package is None:
        moments = [held.start_ms]
    else:
        stands = standing(state, held, catalog, now_ms)
        if stands.status == ClientPackageStatus.ARCHIVE:
            return None
        whole = msgspec.structs.replace(held, life=stands.life)
        until = period_around(state, whole, package, now_ms)[2]
        end = end_of(whole, package, zone_of(state, catalog, now_ms))
        ended = stands.life.ended_ms
        moments = [until, NEVER_MS if end is None else end, NEVER_MS if ended is None else ended]
    coming = [at for at in moments if now_ms < at < NEVER_MS]
    return min(coming, default=None)
