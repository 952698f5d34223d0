"""A change that Redis has lost and others went on from, as one of its client as it is now (decision 0099)."""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.bucket.messages import ClientWrite, CounterChange
from rater.core.catalog.compiled import Catalog
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import woken_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, write_state
from rater.core.journal.outcomes import KeptChange


def again(
    lost: KeptChange, state: ClientState, catalog: Catalog | None, known: Known, *, at_ms: int, cause: Cause,
    keep_ms: int,
) -> Change:  # fmt: skip
    """Return a lost change with the same sums, transactions and events.

    The state has long what it did, and the rest does no harm twice. What waits now and clears by its money is
    cleared with it, unless the catalog is lacking that the state needs.
    """
    cleared = None
    if lost.delta > 0 and known.balance is not None and catalog and catalog.version >= state.catalog:
        there = Known(known.balance + lost.delta, _behind(known, lost))
        cleared = woken_change(state, catalog, at_ms=at_ms, known=there, cause=cause, keep_ms=keep_ms)
    if cleared is None:
        new = replace(state, version=state.version + 1)
        write = ClientWrite(lost.client, state.version, new.version, write_state(new))
        cleared = Change(write, due_ms=state.due_ms)
    return Change(
        _with(lost, cleared.write), (*lost.transactions, *cleared.transactions),
        (*lost.events, *cleared.events), cleared.due_ms,
    )  # fmt: skip


def _behind(known: Known, lost: KeptChange) -> dict[str, int]:
    """Return what counters hold once the change is made again."""
    counters = dict(known.counters)
    for field, delta in lost.counters:
        counters[field] = counters.get(field, 0) + delta
    return counters


def _with(lost: KeptChange, write: ClientWrite) -> ClientWrite:
    """Return a write that was decided behind the change, as one that does both."""
    added = dict(lost.counters)
    asked = {of.field: of for of in write.counters}
    return replace(
        write,
        least=max(-LIMIT, write.least - lost.delta), most=min(LIMIT, write.most - lost.delta),
        delta=write.delta + lost.delta,
        counters=[
            _shifted(asked.get(field) or CounterChange(field, -LIMIT, LIMIT, 0), added.get(field, 0))
            for field in dict.fromkeys([*asked, *added])
        ],
        hints=[*lost.hints, *write.hints], members=[*lost.members, *write.members],
        history=[*lost.history, *write.history],
    )  # fmt: skip


def _shifted(asked: CounterChange, added: int) -> CounterChange:
    least, most = max(-LIMIT, asked.least - added), min(LIMIT, asked.most - added)
    return CounterChange(asked.field, least, most, asked.delta + added)
