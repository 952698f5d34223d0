"""Periods that have left registers of clients, for calls of then: late ones, first revisions of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rater.core.clients.views import ClientView
from rater.core.line.batch import Side
from rater.core.line.late import is_late
from rater.core.rerating.rating import with_history
from rater.store.buckets import Buckets

CLIENTS_MAX = 1000
"""Clients that are remembered with all their periods."""


class Past:
    """Clients with all their periods, as sides have asked for them."""

    def __init__(self, store: Buckets) -> None:
        """Remember none."""
        self._store = store
        self._views: dict[str, ClientView] = {}

    async def show(self, sides: Sequence[Side]) -> None:
        """Have sides that may be older than the duplicate window go by all periods of their clients.

        A register keeps periods as long as calls within the window may fall into them; a call draws from the
        period that it lies in, however long that is over (RULES.md 2, step 5).
        """
        old = [side for side in sides if _may_be_old(side)]
        if not old:
            return  # nearly always
        views = {view.id: view for side in old if (view := side.view) is not None}
        asked = [view for view in views.values() if not self._has(view)]
        if len(self._views) + len(asked) > CLIENTS_MAX:
            self._views.clear()
            asked = [*views.values()]
        # Asked for behind the register: what left that since is in both, and is taken once.
        found = await asyncio.gather(*(self._store.history(view.id) for view in asked))
        for view, history in zip(asked, found, strict=True):
            self._views[view.id] = ClientView(with_history(view.state, history)) if history else view
        for side in old:
            if side.view is not None:
                side.view = self._views[side.view.id]

    def _has(self, view: ClientView) -> bool:
        known = self._views.get(view.id)
        return known is not None and (known.version, known.catalog) == (view.version, view.catalog)


def _may_be_old(side: Side) -> bool:
    if side.rejection is not None or side.view is None or not side.view.packages:
        return False
    return side.job is not None or bool(side.record.headers and is_late(side.record))
