"""Changes of clients on a lane: replayed byte for byte, planned again when refused, told when impossible."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fuzz.world import LOADED_MS, Lane, Store, load_of
from rater.core.amounts import LIMIT
from rater.core.bucket.messages import DrawReply, DrawRequest, Reconcile, Status, bucket_of
from rater.core.bucket.model import Bucket
from rater.core.clients.changes import ChangeEvent, ChangeTransaction
from rater.core.clients.state import read_state, write_state
from rater.core.instants import instant
from rater.core.journal.outcomes import KeptChange
from rater.core.journal.reconciling import Reconciling
from rater.core.journal.records import ChangeRecord, Effect, change_record
from rater.core.line import steps
from rater.core.line.batch import Batch
from rater.stream.journal import understood

ROSE = bucket_of("42", Store.count)


def calls(seconds: list[int]) -> list[bytes]:
    """Return calls of two clients, so long."""
    at = instant(LOADED_MS).isoformat()
    return [
        json.dumps(
            {"id": f"n{n}", "called": "380501234567", "answered_at": at, "duration_ms": 1000 * length}
            | {"orig": {"client": "42"}, "term": {"client": "43"}}
        ).encode()
        for n, length in enumerate(seconds)
    ]


def taken_again(lane: Lane, upto: int) -> Lane:
    """Take the lane of a worker that died before it published what it drew. upto: where it stood."""
    again = Lane(lane.content)
    again.store.buckets, again.lane.token = lane.store.buckets, 2
    for number, bucket in enumerate(lane.store.buckets):
        fenced = bucket.fence(0, 2)
        positions = {lane.topics.commands: upto}
        of = Reconciling(fenced, bucket=number, buckets=4, positions=positions, generation_ms=10**9)
        _, call = bucket.reconcile(of.finish(0, 2, fenced.number, 500))
        _, again.lane.cursors[number].expected = bucket.register(0, 2, call, 1)
        again.lane.standing.pending |= of.pending
    return again


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 300), max_size=4))
def test_a_replay_publishes_the_same_bytes(seconds: list[int]) -> None:
    """Changes, their transactions and events, and the sides of calls come as they were decided.

    So does what was not kept, for nothing was changed by it: entries of the account index, the manifest.
    """

    async def go() -> tuple[Batch, Batch, int]:
        lane = Lane()
        first = await lane.rate(load_of().commands, calls(seconds))
        again = taken_again(lane, 0)
        return first, await again.rate(load_of().commands, calls(seconds)), len(again.lane.standing.pending)

    first, again, left = asyncio.run(go())
    assert again.transactions == first.transactions
    assert sorted(map(repr, again.events)) == sorted(map(repr, first.events))
    assert again.rejected == first.rejected
    assert again.controls == first.controls
    assert again.counts.replayed == 2 + first.counts.transactions["usage"]
    assert left == 0


def said(batch: Batch, of: type[Any]) -> list[Any]:
    """Return what headers of a kind say in a batch."""
    return [one for _, _, headers in batch.transactions if isinstance(one := understood(headers), of)]


def test_a_load_publishes_each_change_with_its_share() -> None:
    """A change stands before its transactions, says what they add up to, and is told done once a chunk."""
    batch = asyncio.run(Lane().rate(load_of().commands))
    changes = {one.client: one for one in said(batch, ChangeRecord)}
    shares = said(batch, Effect)
    assert next((one.client, one.balance) for one in shares) == ("42", 50_000_000)
    assert {name: one.delta for name, one in changes.items()} == {
        name: sum(one.balance for one in shares if one.client == name) for name in ("42", "43")
    }
    assert all(read_state(one.state).version == one.version == 1 for one in changes.values())
    told = [json.loads(value or b"")["id"] for _, value, _ in batch.events]
    assert sorted(one for one in told if one.startswith("load1/")) == sorted(
        [f"load1/{n}/{'done' if n else 'catalog_loaded/0'}" for n in range(len(load_of().commands))]
    )


def test_a_change_may_have_several_transactions_and_events() -> None:
    """Replayed, it stands first as a whole, then each transaction with its share; events are as they were."""
    lane = Lane()
    standing = lane.lane.standing
    transactions = (
        ChangeTransaction("subscription_fee", -5, b"fee"),
        ChangeTransaction("refund", 3, b"refund"),
    )
    events = (ChangeEvent("renewed", b"3", b"one"), ChangeEvent("charge_cleared", b"3", b"two"))
    kept = KeptChange("t.cdrs", 7, 2, LOADED_MS, "42", 4, b"r", -2, [("3.1.a", 6)], transactions, events)
    batch = Batch(standing, [])
    steps.replay(batch, SimpleNamespace(offset=7, timestamp=LOADED_MS), kept)
    steps.render(batch, standing)
    whole = ChangeRecord("t.cdrs", 7, 2, LOADED_MS, LOADED_MS, "42", 4, b"r", -2, [("3.1.a", 6)])
    assert batch.transactions[0] == change_record(whole)
    assert [(key, value) for key, value, _ in batch.transactions[1:]] == [(b"42", b"fee"), (b"42", b"refund")]
    headers = [dict(headers)["e"] for _, _, headers in batch.transactions[1:]]
    shares = [msgspec.msgpack.decode(raw, type=Effect) for raw in headers]
    assert [(one.index, one.balance, one.counters) for one in shares] == [(2, -5, []), (2, 3, [])]
    assert batch.events == [(b"3", b"one", []), (b"3", b"two", [])]
    assert batch.counts.transactions == {"subscription_fee": 1, "refund": 1, "usage": 0}
    assert batch.counts.events == {"renewed": 1, "charge_cleared": 1}


def test_what_was_due_before_a_call_is_replayed_with_it() -> None:
    """A change that a call's record asked for comes again with that record, before its sides."""
    lane = Lane()
    asyncio.run(lane.rate(load_of().commands))
    kept = KeptChange(lane.topics.cdrs, lane.offset, 2, LOADED_MS, "42", 4, b"r", 0, [], (), ())
    lane.lane.standing.pending[kept.identity] = kept
    batch = asyncio.run(lane.rate([], calls([60])))
    assert (batch.changes, batch.pending_left, len(batch.sides)) == ([kept], 0, 2)


def rated(lane: Lane, before: Callable[[int], None]) -> Batch:
    """Carry a load out; before: called with the number of each draw of changes, before it is made."""
    real, draws = lane.store.draw, 0

    async def draw(bucket: int, request: DrawRequest) -> DrawReply:
        nonlocal draws
        if request.changes and bucket == ROSE:
            draws += 1
            before(draws)
        return await real(bucket, request)

    lane.store.draw = draw  # type: ignore[method-assign]
    batch = asyncio.run(lane.rate(load_of().commands))
    lane.check_store()
    return batch


def correct(bucket: Bucket, **what: Any) -> None:
    """Have another lane correct what a bucket holds."""
    call = bucket.fence(9, 1).number
    assert bucket.reconcile(Reconcile(lane=9, token=1, number=call, floor=0, **what))[0] == Status.OK


def test_a_change_of_an_old_version_is_planned_again() -> None:
    """A client that came to be since its state was read keeps its balance; the row is applied to it."""
    other = Lane()
    asyncio.run(other.rate(load_of().commands))
    state = read_state(other.store.buckets[ROSE].states["42"])
    lane = Lane()

    def made(draws: int) -> None:
        if draws == 1:
            lily = structs.replace(state, version=7, name="Lily")
            correct(lane.store.buckets[ROSE], states=[("42", 7, write_state(lily))])

    batch = rated(lane, made)
    (change,) = [one for one in said(batch, ChangeRecord) if one.client == "42"]
    assert (change.version, change.delta) == (8, 0)
    assert read_state(change.state).name == "Rose"


def test_an_opening_balance_that_cannot_be_added_is_refused() -> None:
    """Where a sum without a client leaves no room, the chunk is refused, by a sentence with both numbers."""
    lane = Lane()
    bucket = lane.store.buckets[ROSE]
    correct(bucket, balances=[("42", LIMIT - 1)])
    batch = rated(lane, lambda _: None)
    events = [json.loads(value or b"") for _, value, _ in batch.events]
    (reason,) = [event["data"]["reason"] for event in events if event["type"] == "command_refused"]
    assert "opening balance of 50 cannot be added to the 9007199254.740991 that are there" in reason
    assert (bucket.clients["42"].version, bucket.clients["42"].balance) == (None, LIMIT - 1)
    assert "43" in {one.client for one in said(batch, ChangeRecord)}
