"""What is due of a client before its calls: planned here, carried out by the draw that has the calls.

A change stands before all sides of its client in a request. So sides of a client that lie on both sides of a
due moment go in two requests, one after the other: how a backlog is cut must not decide whether a fee or a
call comes first. Source of the rules: RULES.md section 4 (Renewal).
"""

from __future__ import annotations

from typing import NamedTuple

from rater.core.catalog.compiled import Catalog
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import due_change, woken_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import read_state
from rater.core.clients.views import ClientView, Views
from rater.core.instants import is_stamp
from rater.core.journal.records import CHANGE_INDEX_MIN
from rater.core.line.batch import Batch, Side, Standing

WOKEN_INDEX_MIN = 4
"""Index of the first change that a side woke (decisions/0060-one-change.md, 4)."""


class Planned(NamedTuple):
    """A change that has to stand before a side, and the client's view behind it."""

    change: Change
    side: Side
    view: ClientView


class Parted(NamedTuple):
    """Sides that go on now, with the changes before them, and those that wait for the next request."""

    now: list[Side]
    changes: list[Planned]
    later: list[Side]


def bound_ms(side: Side) -> int:
    """Return up to when something is done before a call: the earlier of its time and its record's.

    A record without a time says nothing of it; its call is at most an hour ahead of the lane's time.
    """
    assert side.cdr is not None  # noqa: S101 - it was identified
    at_ms, stamp = side.cdr.at_ms, side.record.timestamp
    return min(at_ms, stamp) if is_stamp(stamp) else at_ms


def part(sides: list[Side], catalog: Catalog, views: Views, standing: Standing, keep_ms: int) -> Parted:
    """Return identified sides in two parts, with what is due before those of the first.

    The sides of a client keep their order. One whose due work was planned has the view behind it.
    """
    if not views.parted and not any(
        side.view is not None and side.rejection is None and side.view.due_ms(catalog) <= bound_ms(side)
        for side in sides
    ):
        return Parted(sides, [], [])  # nothing is due: nearly always
    parted = Parted([], [], [])
    seen: dict[str, ClientView] = {}
    waits: set[str] = set()
    for side in sides:
        view = side.view
        if view is None or side.rejection is not None:
            parted.now.append(side)
            continue
        client = view.id
        if client in waits or views.parted.get(client) is side:
            waits.add(client)
            parted.later.append(side)
            continue
        view = seen.get(client, view)
        if view.due_ms(catalog) <= bound_ms(side):
            planned = _planned(side, view, catalog, views, standing, keep_ms)
            if planned is not None and client in seen:
                waits.add(client)
                parted.later.append(side)
                continue
            if planned is not None:
                parted.changes.append(planned)
                view = planned.view
                if view.due_ms(catalog) <= bound_ms(side):  # a long plan goes on
                    waits.add(client)
                    parted.later.append(side)
                    continue
        seen[client] = side.view = view
        parted.now.append(side)
    return parted


def _planned(
    side: Side, view: ClientView, catalog: Catalog, views: Views, standing: Standing, keep_ms: int
) -> Planned | None:
    change = due_change(
        view.state, catalog, upto_ms=bound_ms(side), now_ms=standing.lane_ms,
        known=views.known.get(view.id, Known()), cause=cause_of(side, standing), closing=False,
        keep_ms=keep_ms,
    )  # fmt: skip
    if change is None:
        return None
    return Planned(change, side, ClientView(read_state(change.write.state)))


def cause_of(side: Side, standing: Standing) -> Cause:
    """Return the place of a side's record as the cause of what it brings."""
    return Cause(f"{side.topic}/{standing.lane}/{side.offset}")


def index_of(batch: Batch, side: Side, first: int = CHANGE_INDEX_MIN) -> int:
    """Return the index of the next change that stands before a side, or (WOKEN_INDEX_MIN) that it woke."""
    return batch.step_index(side.topic, side.offset, first + side.index)


def woken(
    side: Side, view: ClientView, catalog: Catalog, views: Views, standing: Standing, keep_ms: int
) -> Change | None:
    """Return what clears now that a side has raised its client's balance; None: nothing."""
    stamp = side.record.timestamp
    return woken_change(
        view.state, catalog, at_ms=stamp if is_stamp(stamp) else standing.lane_ms,
        known=views.known.get(view.id, Known()), cause=cause_of(side, standing), keep_ms=keep_ms,
    )  # fmt: skip
