"""A change that was lost is made again upon the client as it is now."""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.bucket.messages import CounterChange
from rater.core.clients.changes import ChangeEvent, ChangeTransaction
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, read_state
from rater.core.journal.outcomes import KeptChange
from rater.core.line.again import again

FIELD = "3.1.a"
STATE = ClientState("c", 9, 1, "c", None, "USD", "UTC", 0, None, None, None, {}, {}, [], 0, due_ms=7)
LOST = KeptChange(
    "commands", 3, 2, 0, "c", 4, b"", 12, [(FIELD, -2)],
    (ChangeTransaction("adjustment", 12, b"one"),), (ChangeEvent("command_done", b"c", b"told"),),
    [(9, b"h")], ["p"], [("3.1", b"row")],
)  # fmt: skip


def test_a_lost_change_is_made_again() -> None:
    """Its sums and what is told of it; the state goes one version on."""
    change = again(LOST, STATE, None, Known(5), at_ms=0, cause=Cause("x"), keep_ms=0)
    write = change.write
    assert read_state(write.state) == replace(STATE, version=10)
    assert (write.client, write.expected, write.version) == ("c", 9, 10)
    assert (write.least, write.most) == (-(2**53), 2**53 - 12)
    assert (write.delta, write.counters) == (12, [CounterChange(FIELD, -(2**53) + 2, 2**53, -2)])
    assert (write.hints, write.members, write.history) == (LOST.hints, LOST.members, LOST.history)
    assert (change.transactions, change.events, change.due_ms) == (LOST.transactions, LOST.events, 7)
