"""Clients with all that is due done, as lanes do it by and by."""

from __future__ import annotations

from rater.core.catalog.compiled import Catalog
from rater.core.clients.lifecycle import due_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, read_state


def lived(state: ClientState, catalog: Catalog, at_ms: int) -> ClientState:
    """Return the client with all that is due until an instant done; it has money enough."""
    while True:
        change = due_change(
            state, catalog, upto_ms=at_ms, now_ms=at_ms, known=Known(), cause=Cause("tick"), closing=True
        )
        if change is None:
            return state
        state = read_state(change.write.state)
