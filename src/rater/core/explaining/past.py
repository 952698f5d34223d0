"""A transaction that was published, explained as it was: by the catalog, the state and the counters of then.

What the transaction says of itself is exact: rate, draws, arithmetic. Why other limits were passed over is
worked out again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from rater.core.bucket.draft import Client
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import CALLS, Party
from rater.core.clients.state import read_state, write_state
from rater.core.explaining.before import Before
from rater.core.explaining.sides import Explained, by_of, explain
from rater.core.explaining.telling import Row, candidates, of_transaction
from rater.core.journal.records import CHANGE_INDEX_MIN
from rater.core.offline import FOREVER_MS, Rater
from rater.core.reasons import Rejection
from rater.core.rerating.rating import with_history

NOT_EXACT = (
    "what was left of the limits when the call was rated is not known exactly, for calls of the client came "
    "by several lanes, or the catalog was changed meanwhile: what was taken is as published, why others were "
    "passed over as near as the journal tells"
)
NO_STATE = "the journal has no state of the client of then: which other limits there were is not known"
CUT = (
    "the journal does not begin with its first record: what was left of the limits when the call was rated "
    "is not known, nor why others were passed over"
)
AGAIN = (
    "job {job} has rated the call again, in the order of the calls' times: what was taken is as published, "
    "why others were passed over as near as the journal tells; whose call it is was not asked again"
)
GONE = (
    "the record of the call is not there any more, or cannot be read by the maps of now: what named its "
    "client is not known"
)


def put(rater: Rater, raw: bytes, balance: int, counters: Mapping[str, int]) -> None:
    """Let a rater have a client as it is: state, balance in micros, counter field → used."""
    state = read_state(raw)
    held = rater.bucket.clients[state.id] = Client()
    held.version, held.balance, held.used = state.version, balance, dict(counters)
    rater.bucket.states[state.id] = raw
    rater.learn(raw)


def rater_of(catalog: Catalog, lane_ms: int) -> Rater:
    """Return a rater without clients by a catalog, at a lane's time; no call is too old for it."""
    rater = Rater(FOREVER_MS)
    rater.catalog = catalog
    rater.standing.position = replace(rater.standing.position, lane_ms=lane_ms, catalog=catalog.version)
    return rater


def fee(transaction: Mapping[str, Any], catalog: Catalog) -> Row:
    """Return what is told of a transaction that is no side of a call."""
    row = of_transaction(transaction, catalog)
    if (cdr := transaction.get("cdr")) is not None:
        row["brought_by"] = f"{cdr['source']}/{cdr['id']}"
    return row


def usage(
    transaction: Mapping[str, Any], before: Before, catalog: Catalog, party: Party | None, brings: str | None
) -> Row:
    """Return what is told of a side of a call as it was rated.

    catalog: by which it was. party: the side as its record has it, None: the record is gone. brings: the id
    of the fee that was published with it.
    """
    row = of_transaction(transaction, catalog)
    row["brings"] = brings
    again = before.place.effect.index >= CHANGE_INDEX_MIN
    if again:
        row["notes"].append(AGAIN.format(job=transaction.get("job")))
    elif party is None:
        row["notes"].append(GONE)
    else:
        row["identified"]["by"] = by_of(party)
    if transaction["outcome"] == "zero":  # no limit is looked for
        return row
    if before.state is None or before.cut:
        row["notes"].append(CUT if before.cut else NO_STATE)
        row["candidates"] = [*map(_drawn, transaction["draws"])]
        return row
    rater = rater_of(catalog, before.place.effect.lane_ms)
    state = with_history(read_state(before.state), before.history)
    if state.catalog > catalog.version:  # another lane's change came between
        state = replace(state, catalog=catalog.version)
    put(rater, write_state(state), before.balance, before.counters)
    (one,) = explain(
        rater, record_of(transaction), before.place.effect.record_ms, before.balance - before.of_record
    )
    row["candidates"], exact = _as_published(one, transaction["draws"])
    if not (exact or again):
        row["notes"].append(NOT_EXACT)
    return row


def record_of(transaction: Mapping[str, Any]) -> bytes:
    """Return a CDR that is rated as the transaction's was: its client, account and rate are given."""
    of = transaction["rate"]
    rate = {
        "code": transaction["code"], "code_name": transaction["code_name"],
        **{name: of[name] for name in _RATE},
    }  # fmt: skip
    amount = "duration_ms" if transaction["service"] == CALLS else "volume"
    return msgspec.json.encode({
        **transaction["cdr"], "service": transaction["service"], amount: transaction[amount],
        "answered_at": transaction["at"], "caller": transaction["caller"], "called": transaction["called"],
        transaction["side"]: {
            "client": transaction["client"], "account": transaction["account"], "rate": rate,
        },
    })  # fmt: skip


_RATE = ("price", "setup_fee", "min_time", "interval", "grace_time", "currency")


def _as_published(one: Explained, draws: list[dict[str, Any]]) -> tuple[list[Row], bool]:
    """Return the candidates with what was published of each, and whether they were worked out so, too."""
    rows = candidates(one)
    drawn = {_key(draw): draw for draw in draws}
    exact = not isinstance(one.ended, Rejection)
    for row in rows:
        draw = drawn.pop(_key(row), None)
        taken = None if draw is None else draw["taken"]
        if taken != row["taken"]:
            exact, row["taken"], row["passed_over"] = False, taken, None
    return [*rows, *map(_drawn, drawn.values())], exact and not drawn


def _key(of: Mapping[str, Any]) -> tuple[Any, ...]:
    return of["client_package"], of["period"], of["limit"], of.get("rolled", False)


def _drawn(draw: Mapping[str, Any]) -> Row:
    names = ("client_package", "package", "package_name", "limit", "kind", "period", "taken")
    more = {name: draw[name] for name in ("currency", "rolled") if name in draw}
    return {**{name: draw[name] for name in names}, "passed_over": None, **more}
