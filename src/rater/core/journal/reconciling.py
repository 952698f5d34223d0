"""Bring a bucket to what the journal says: the difference of kept outcomes and the lane's transactions.

The journal is the truth (PROTOCOL.md 3, rules 1 and 5). Of a lane's journal partition the records from the
bucket's floor on are compared with the outcomes that the bucket keeps:

- in the journal and kept: nothing to do, or the difference of both;
- in the journal, not kept: the store lost it (it was flushed or rolled back), so its effects are added;
- kept, not in the journal, at or above the lane's positions: decided and not yet published: `pending`. The
  record comes again, and is published as it was decided;
- kept, not in the journal, below the positions: something else was published for the record: undone.

What a change of a client did is taken once, by its record; the transactions behind it are shares of it. A
side that brought a fee has two transactions, always both, each with an effect of its own; what was kept of
both is taken back with the usage.

A long rebuild goes in parts. After a crash between two, records in base .. floor are in the bucket already,
but may still be those of kept outcomes, so they are read again and only looked up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import msgpack

from rater.core.bucket.messages import FenceReply, Outcome, Reconcile, bucket_of
from rater.core.journal.outcomes import (
    Decided,
    KeptChange,
    OutcomeEntry,
    Pending,
    brought_fee,
    pack_kept,
    read_copy,
    unpack_kept,
)
from rater.core.journal.records import (
    CHANGE_INDEX_MIN,
    ChangeRecord,
    Effect,
    Identity,
    StateRecord,
)
from rater.core.rating.transaction import Context

FORGET_GENERATIONS_MAX = 64
"""Generations that a key which is undone is looked for in; one is a day and an hour at least."""


class Effects(NamedTuple):
    """What a decision added: micros to the balance, and to counters."""

    balance: int
    counters: dict[str, int]


_rating = msgpack.Decoder(Context)

_NOTHING = Effects(0, {})


def effects(kept: Decided) -> Effects:
    """Return what a decision did to its client's sums."""
    if isinstance(kept, KeptChange):
        return Effects(kept.delta, dict(kept.counters))
    result = kept.result
    if result.outcome != Outcome.RATED:
        return _NOTHING
    counters: defaultdict[str, int] = defaultdict(int)
    balance = result.amount
    if result.takes:
        context = _rating.decode(kept.entry.context)
        packages = context.head.packages
        fee = brought_fee(packages, context.fees, result)
        if fee is not None:
            balance += fee.amount
            counters.update(fee.counters)
        fields = [packages[limit.group].field + limit.field for limit in context.limits]
        for index, taken, _, _ in result.takes:
            counters[fields[index]] += taken
    return Effects(balance, dict(counters))


class _Compared:
    """A kept decision, and whether the journal has it."""

    __slots__ = ("found", "kept")

    def __init__(self, kept: Decided) -> None:
        self.kept = kept
        self.found = False


class Reconciling:
    """The comparison of one bucket with one lane's journal. Read records in order; then `finish`."""

    def __init__(
        self,
        fenced: FenceReply,
        *,
        bucket: int,
        buckets: int,
        positions: Mapping[str, int],
        generation_ms: int,
        ready_token: int = -1,
    ) -> None:
        """Compare what `fence` answered.

        positions: topic -> next offset, of the lane's last mark. generation_ms: length of a duplicate
        generation. ready_token: the last owner who had all buckets in order (`Mark.token`). When the bucket
        does not know of it, it fell back to before, and others may have drawn meanwhile what it keeps as
        drawn: no side stays pending then. Changes do: a state cannot be undone, and half a change is
        wrong.
        """
        self._fell_back = fenced.token < ready_token
        self.read_from = min(fenced.floor, fenced.base)
        self.first_generation = 0
        """Duplicates of earlier ones are left out: no lane can ask for them any more."""
        self.included: Callable[[str], int] | None = None
        """Of a bucket put in place by snapshots: a client → the offset below which all is in its snapshot.

        Duplicates are in none, so they are taken wherever they are read.
        """
        self.pending: dict[Identity, Decided] = {}
        self.published: Mapping[int, Mapping[tuple[str, str], int]] = {}
        """Lane → topic and its id → position that it is not behind, as far as it is known."""
        self.floor = fenced.floor
        """Offset of the journal below which the bucket has all."""
        self._generation = fenced.lane_ms // generation_ms
        self._bucket = bucket
        self._buckets = buckets
        self._positions = positions
        self._generation_ms = generation_ms
        self._kept: dict[Identity, _Compared] = {
            kept.identity: _Compared(kept)
            for _, context, packed in fenced.outcomes
            for kept in unpack_kept(context, packed)
        }
        self.keeps = bool(self._kept)
        self._calls = [call for call, _, _ in fenced.outcomes]
        self._changed: Identity | None = None
        """Of the last change that was read: what follows under it are shares of its effect."""
        decided = [each.kept for each in self._kept.values()]
        self._keys = {kept.entry.key for kept in decided if isinstance(kept, Pending)}
        self._journaled: set[bytes] = set()  # of these keys: those that the journal has
        self._clear()

    def _clear(self) -> None:
        self._lane_ms = 0
        self._balances: defaultdict[str, int] = defaultdict(int)
        self._counters: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._duplicates: list[tuple[int, bytes, bytes]] = []
        self._states: dict[str, tuple[int, bytes]] = {}
        self._accounts: dict[str, str] = {}
        self._forget: list[tuple[int, bytes]] = []
        self._hints: list[tuple[int, bytes]] = []
        self._members: list[tuple[str, str]] = []
        self._history: list[tuple[str, int, str, bytes]] = []
        self._copies: list[tuple[int, str, bytes]] = []

    @property
    def size(self) -> int:
        """How many corrections have come together since the last `part`."""
        sums = len(self._balances) + len(self._counters) + len(self._states)
        listed = len(self._hints) + len(self._members) + len(self._history) + len(self._copies)
        return sums + listed + len(self._duplicates) + len(self._accounts) + len(self._forget)

    def read(self, records: Iterable[tuple[int, object]]) -> None:
        """Take (offset in the journal, what its header says) in order.

        What does not concern the bucket is passed.
        """
        for offset, said in records:
            if isinstance(said, Effect):
                if bucket_of(said.client, self._buckets) == self._bucket:
                    self._effect(said, lost=self._lacks(said.client, offset))
            elif isinstance(said, ChangeRecord):
                if bucket_of(said.client, self._buckets) == self._bucket:
                    self._change(said, lost=self._lacks(said.client, offset))
            elif isinstance(said, StateRecord):
                self._state(said, lost=offset >= self.floor)

    def _lacks(self, client: str, offset: int) -> bool:
        """Return whether the bucket does not have what a record says, unless it is kept."""
        return offset >= self.floor and (self.included is None or offset >= self.included(client))

    def _change(self, change: ChangeRecord, *, lost: bool) -> None:
        """Take one change, the whole of its effect; lost: unless it is kept, the bucket does not have it."""
        self._changed = identity = (change.topic, change.offset, change.index)
        decided = self._kept.get(identity)
        if decided is not None:
            decided.found = True
        if not lost:
            return
        self._lane_ms = max(self._lane_ms, change.lane_ms)
        self._add(change.client, Effects(change.delta, dict(change.counters)), 1)
        if decided is not None:
            self._add(decided.kept.client, effects(decided.kept), -1)
        self._register(change.client, change.version, change.state)
        self._hints += change.hints
        self._members += [(package, change.client) for package in change.members]
        self._history += [(change.client, change.version, *row) for row in change.history]
        if decided is None:
            self._copy(change)

    def _copy(self, change: ChangeRecord) -> None:
        """Leave what a change goes on from for the other lanes, where these may not have published it."""
        for lane, raw in change.upon:
            copy = read_copy(raw)
            topic, offset, index = copy.change.identity
            if offset >= self.published.get(lane, {}).get((topic, copy.topic_id), 0):
                name = f"{topic}/{offset}/{index}/{copy.change.version}"
                self._copies.append((lane, name, raw))

    def _register(self, client: str, version: int, state: bytes) -> None:
        there = self._states.get(client)
        if there is None or there[0] <= version:
            self._states[client] = (version, state)

    def _effect(self, effect: Effect, *, lost: bool) -> None:
        """Take one transaction; lost: unless it is kept, the bucket does not have it."""
        identity = effect.topic, effect.offset, effect.index
        if identity == self._changed:
            return  # its share of what the change did
        decided = self._kept.get(
            identity
        )  # none of a fee that a side brought: it is taken back with the side
        if effect.key in self._keys:
            self._journaled.add(effect.key)
        if decided is not None:
            decided.found = True
        if not lost:
            if self.included is not None:
                self._remember(effect, None)
            return
        self._lane_ms = max(self._lane_ms, effect.lane_ms)
        self._add(effect.client, Effects(effect.balance, dict(effect.counters)), 1)
        known = None
        if decided is not None:
            kept = decided.kept
            self._add(kept.client, effects(kept), -1)
            if isinstance(kept, Pending) and _remembered(kept):
                known = (kept.entry.key, kept.entry.content)
                if kept.entry.key != effect.key:
                    self._forget_key(kept.entry)
        self._remember(effect, known)

    def _remember(self, effect: Effect, known: tuple[bytes, bytes] | None) -> None:
        """Have a side's key among the duplicates. known: what is there of it."""
        generation = effect.lane_ms // self._generation_ms
        usable = effect.index < CHANGE_INDEX_MIN and effect.key
        if usable and generation >= self.first_generation and known != (effect.key, effect.content):
            self._duplicates.append((generation, effect.key, effect.content))

    def _state(self, state: StateRecord, *, lost: bool) -> None:
        """Take entries of the account index, and what a version before 2026-12 wrote of a client."""
        if state.client and bucket_of(state.client, self._buckets) == self._bucket:
            decided = self._kept.get((state.topic, state.offset, state.index))
            if decided is not None:
                decided.found = True
            if lost:
                self._register(state.client, state.version, state.state)
        if lost:
            for account, client in state.accounts:
                if bucket_of(account, self._buckets) == self._bucket:
                    self._accounts[account] = client

    def _add(self, client: str, what: Effects, sign: int) -> None:
        """Add effects to the sums; what comes to nothing again is left out."""
        if what.balance:
            self._balances[client] += sign * what.balance
            if not self._balances[client]:
                del self._balances[client]
        for field, delta in what.counters.items():
            self._counters[client, field] += sign * delta
            if not self._counters[client, field]:
                del self._counters[client, field]

    def part(self, lane: int, token: int, number: int, upto: int) -> Reconcile:
        """Return the corrections so far. upto: journal offset behind the last record that was read."""
        return self._reconcile(lane, token, number, upto, final=False)

    def finish(self, lane: int, token: int, number: int, owner_offset: int) -> Reconcile:
        """Return the last corrections, with the floor if with nothing else; fills `pending`.

        owner_offset: of the owner record, up to which the journal was read. What stays pending is put
        together under `call`, unless all that is kept stays.
        """
        staying: list[Decided] = []
        for identity, decided in self._kept.items():
            if decided.found:
                continue
            kept, (topic, offset, _) = decided.kept, identity
            fell_back = self._fell_back and isinstance(kept, Pending)
            if fell_back or offset < self._positions.get(topic, 0):
                self._undo(kept)
            else:
                staying.append(kept)
                self.pending[identity] = kept
        rewrite = len(staying) < len(self._kept)
        what = self._reconcile(lane, token, number, owner_offset, final=True)
        if rewrite:
            what.drop_calls = self._calls
            if staying:
                what.pending = [(number, *pack_kept(staying))]
                what.unsettled = [kept.client for kept in staying if isinstance(kept, KeptChange)]
        return what

    def _undo(self, kept: Decided) -> None:
        self._add(kept.client, effects(kept), -1)
        if isinstance(kept, Pending) and _remembered(kept):
            self._forget_key(kept.entry)

    def _forget_key(self, entry: OutcomeEntry) -> None:
        """Take a key out of the duplicates, unless another transaction stands for it."""
        if entry.key not in self._journaled:
            # It was remembered at the lane's time then: from its record's to what is kept as the lane's.
            first = max(entry.record_ms // self._generation_ms, self._generation - FORGET_GENERATIONS_MAX)
            self._forget += [(number, entry.key) for number in range(first, self._generation + 1)]

    def _reconcile(self, lane: int, token: int, number: int, floor: int, *, final: bool) -> Reconcile:
        what = Reconcile(
            lane=lane,
            token=token,
            number=number,
            floor=floor,
            lane_ms=self._lane_ms,
            balances=list(self._balances.items()),
            counters=[(client, field, delta) for (client, field), delta in self._counters.items()],
            duplicates=self._duplicates,
            states=[(client, *state) for client, state in self._states.items()],
            accounts=list(self._accounts.items()),
            forget=self._forget,
            hints=self._hints,
            members=self._members,
            history=self._history,
            copies=self._copies,
            final=final,
        )
        self._clear()
        self.floor = max(self.floor, floor)
        return what


def by_bucket(records: Iterable[tuple[int, object]], buckets: int) -> list[list[tuple[int, object]]]:
    """Return (offset, what its header says) of what concerns each bucket.

    Entries of the account index concern those of its accounts: they go to all.
    """
    found: list[list[tuple[int, object]]] = [[] for _ in range(buckets)]
    for record in records:
        said = record[1]
        if isinstance(said, Effect | ChangeRecord):
            found[bucket_of(said.client, buckets)].append(record)
        elif isinstance(said, StateRecord):
            for each in found:
                each.append(record)
    return found


def _remembered(side: Pending) -> bool:
    """Return whether the side put its key among those that duplicates are found by."""
    return side.result.outcome == Outcome.RATED
