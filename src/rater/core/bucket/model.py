"""What functions.lua does, stated in Python: the state of one bucket and every way it may change.

This is the fake of unit tests, the oracle that the Lua is compared with, and the engine of offline rating and
of re-rate previews. Source of the rules: RULES.md 2.1, 2.2; PROTOCOL.md 3.
"""

from __future__ import annotations

from collections import defaultdict

from rater.core.bucket.draft import Client, Draft
from rater.core.bucket.due_index import DueIndex
from rater.core.bucket.duplicates import Duplicates
from rater.core.bucket.messages import (
    CopiesReply,
    DrawReply,
    DrawRequest,
    DropReply,
    DueReply,
    FenceReply,
    MembersReply,
    Reconcile,
    Status,
    ViewsReply,
    pack_results,
)
from rater.core.bucket.restoring import Rebuilt


class Lane:
    """What a bucket knows of a lane; outcomes: call number -> (context, packed results).

    changed: of those calls that changed clients, which ones.
    """

    __slots__ = ("base", "changed", "floor", "number", "outcomes", "token")

    def __init__(self) -> None:
        self.token = -1
        self.number = 0
        self.floor = 0
        self.base = 0
        self.outcomes: dict[int, tuple[bytes, bytes]] = {}
        self.changed: dict[int, list[str]] = {}


class Bucket:
    """One bucket's whole state. `run_id` is the server's; set another one to restart it with its state."""

    def __init__(self, run_id: str = "0") -> None:
        """Start empty, closed to every lane."""
        self.run_id = run_id
        self.open = ""
        self.registered: dict[int, str] = {}
        self.times: dict[int, int] = {}
        self.lanes: dict[int, Lane] = {}
        self.clients: dict[str, Client] = {}
        self.states: dict[str, bytes] = {}
        self.accounts: dict[str, str] = {}
        self.duplicates = Duplicates()
        self.due_index = DueIndex()
        self.members: defaultdict[str, list[str]] = defaultdict(list)
        self.history: defaultdict[str, dict[str, tuple[int, bytes]]] = defaultdict(dict)
        """Client → field → (version that put it, row)."""
        self.unsettled: dict[str, tuple[int, int]] = {}
        """Client → lane and call of its last change, while the outcome of that is kept."""
        self.copies: defaultdict[int, dict[str, bytes]] = defaultdict(dict)
        """Lane → identity → a change of it that others went on from."""
        self.rebuilt = Rebuilt()

    def lane(self, lane: int) -> Lane:
        """Return what is known of a lane."""
        return self.lanes.get(lane) or Lane()

    def guard(self, lane: int, token: int, number: int) -> Status:
        """A lane's own token and the number that is expected, or nothing is done."""
        stored = self.lane(lane)
        if token < stored.token:
            return Status.FENCED
        if token > stored.token or number != stored.number:
            return Status.REGRESSED
        return Status.OK

    def _gate(self, lane: int, token: int, number: int) -> Status:
        """The guard, and every lane registered under the server's current run.

        A lane that is not registered itself is REGRESSED: waiting for others would never end.
        """
        status = self.guard(lane, token, number)
        if status != Status.OK or self.open == self.run_id:
            return status
        return Status.CLOSED if self.registered.get(lane) == self.run_id else Status.REGRESSED

    def _expected(self, lane: int) -> int:
        return self.lane(lane).number

    def bump(self, lane: int) -> int:
        """Move on to the lane's next call number, and return it."""
        self.lanes[lane].number += 1
        return self.lanes[lane].number

    def fence(self, lane: int, token: int) -> FenceReply:
        """Make `token` the lane's owner; returns what is kept of it. A repeat with one token is harmless."""
        stored = self.lanes.setdefault(lane, Lane())
        if token < stored.token:
            return FenceReply(Status.FENCED, stored.number, 0, [], 0)
        before, stored.token = stored.token, token
        outcomes = self.kept(lane)
        lane_ms = self.times.get(lane, 0)
        return FenceReply(Status.OK, self.bump(lane), stored.floor, outcomes, lane_ms, stored.base, before)

    def reconcile(self, what: Reconcile) -> tuple[Status, int]:
        """Add corrections; the gate is not asked, for this is what opens it."""
        status = self.guard(what.lane, what.token, what.number)
        if status != Status.OK:
            return status, self._expected(what.lane)
        lane = self.lanes[what.lane]
        self._correct(what)
        for call in what.drop_calls:
            self._forget(what.lane, call)
        lane.outcomes.update({call: (context, packed) for call, context, packed in what.pending})
        others = {of for of, (lane_id, _) in self.unsettled.items() if lane_id != what.lane}
        self._changed(what.lane, what.number, [of for of in what.unsettled if of not in others])
        lane.floor = max(lane.floor, what.floor)
        lane.base = lane.floor if what.final else lane.base
        self._raise_time(what.lane, what.lane_ms)
        return Status.OK, self.bump(what.lane)

    def _correct(self, what: Reconcile) -> None:
        """Add corrections of what is not a lane's own."""
        _correct_clients(self, what)
        for generation, key in what.forget:
            self.duplicates.forget(generation, key)
        for generation, key, content in what.duplicates:
            self.duplicates.remember(generation, key, content)
        self._index(what.accounts)
        self.due_index.add(what.hints)
        for package, client in what.members:
            self.members[package].append(client)
        for of, identity, change in what.copies:
            self.copies[of][identity] = change

    def register(self, lane: int, token: int, number: int, lanes: int) -> tuple[Status, int]:
        """Note that the lane agrees with this run of the server; the last of all lanes opens the gate."""
        status = self.guard(lane, token, number)
        if status != Status.OK:
            return status, self._expected(lane)
        self.registered[lane] = self.run_id
        if all(self.registered.get(other) == self.run_id for other in range(lanes)):
            self.open = self.run_id
        return Status.OK, self.bump(lane)

    def draw(self, request: DrawRequest) -> DrawReply:
        """Change clients, then draw, then keep the outcome: all of it, or nothing and a status."""
        status = self._gate(request.lane, request.token, request.number)
        if status != Status.OK:
            return DrawReply(status, self._expected(request.lane))
        draft = Draft(self)
        stale = draft.admit(request)
        if stale is None:
            return DrawReply(Status.LOST, request.number)
        if stale:
            return self._stale(request, stale)
        refusal = draft.work_out(request)
        if refusal is not None:
            return refusal
        draft.write(request)
        packed = pack_results(draft.woken, draft.results)
        self._keep(request, packed)
        return DrawReply(Status.OK, self.bump(request.lane), draft.results, draft.woken, [], packed)

    def _stale(self, request: DrawRequest, clients: list[str]) -> DrawReply:
        fresh = [(client, self.states[client]) for client in clients if client in self.states]
        # A client of which no state is there: on a server it was emptied since the script ran.
        if len(fresh) < len(clients):
            return DrawReply(Status.REGRESSED, request.number)
        return DrawReply(Status.STALE, request.number, stale=fresh)

    def _keep(self, request: DrawRequest, packed: bytes) -> None:
        """The lane's own part of a draw: account index, outcome, trim, floor, time."""
        lane = self.lanes[request.lane]
        self._index(request.accounts)
        if not request.contextless:
            lane.outcomes[request.number] = (request.context, packed)
            self._changed(request.lane, request.number, [change.client for change in request.changes])
        for number in [number for number in lane.outcomes if number <= min(request.trim, request.number - 1)]:
            self._forget(request.lane, number)
        lane.floor = lane.base = max(lane.floor, request.floor)
        self._raise_time(request.lane, request.lane_ms)

    def _changed(self, lane: int, call: int, clients: list[str]) -> None:
        """Note that the outcome of a call is kept in which these clients were changed."""
        if clients:
            self.lanes[lane].changed[call] = clients
            self.unsettled.update(dict.fromkeys(clients, (lane, call)))

    def _forget(self, lane: int, call: int) -> None:
        """Drop the outcome of a call, and that clients were changed in it."""
        self.lanes[lane].outcomes.pop(call, None)
        for client in self.lanes[lane].changed.pop(call, ()):
            if self.unsettled.get(client) == (lane, call):
                del self.unsettled[client]

    def _raise_time(self, lane: int, lane_ms: int) -> None:
        if lane_ms > self.times.get(lane, 0):
            self.times[lane] = lane_ms

    def _index(self, accounts: list[tuple[str, str]]) -> None:
        for account, client in accounts:
            if client:
                self.accounts[account] = client
            else:
                self.accounts.pop(account, None)

    def views(
        self, lane: int, token: int, number: int, clients: list[str], accounts: list[str]
    ) -> ViewsReply:
        """Return states and account index entries; changes nothing."""
        status = self._gate(lane, token, number)
        if status != Status.OK:
            return ViewsReply(status, {}, {})
        return ViewsReply(
            status,
            {client: self.states[client] for client in clients if client in self.states},
            {account: self.accounts[account] for account in accounts if account in self.accounts},
            {client: self.clients[client].balance for client in clients if client in self.states},
        )

    def list_copies(self, lane: int, token: int, number: int) -> CopiesReply:
        """Return the lane's changes that others went on from; changes nothing."""
        status = self._gate(lane, token, number)
        return CopiesReply(status, list(self.copies[lane].values()) if status == Status.OK else [])

    def kept(self, lane: int) -> list[tuple[int, bytes, bytes]]:
        """Return the outcomes that are kept of a lane: (call number, context, packed results)."""
        outcomes = self.lane(lane).outcomes
        return [(call, *outcomes[call]) for call in sorted(outcomes)]

    def due(self, lane: int, token: int, number: int, upto: int, known: dict[int, int]) -> DueReply:
        """Return hints of hours up to `upto`, behind those of each that are known; changes nothing."""
        status = self._gate(lane, token, number)
        if status != Status.OK:
            return DueReply(status)
        return DueReply(status, *self.due_index.read(upto, known))

    def drop_due(self, lane: int, token: int, number: int, hour: int, length: int, upto: int) -> DropReply:
        """Drop an hour's hints if they are so many, and move the lowest hour on."""
        status = self._gate(lane, token, number)
        if status != Status.OK:
            return DropReply(status, self._expected(lane), dropped=False)
        dropped = self.due_index.drop(hour, length, upto)
        return DropReply(status, self.bump(lane), dropped=dropped)

    def list_members(
        self, lane: int, token: int, number: int, package: str, first: int, count: int
    ) -> MembersReply:
        """Return a piece of a package's members; changes nothing."""
        status = self._gate(lane, token, number)
        if status != Status.OK:
            return MembersReply(status)
        return MembersReply(status, self.members[package][first : first + count])

    def probe(self, lane: int, token: int, number: int) -> Status:
        """Return whether a draw would be heard; changes nothing."""
        return self._gate(lane, token, number)

    def expire(
        self, lane: int, token: int, number: int, lanes: int, lane_ms: int, length_ms: int
    ) -> tuple[Status, int, int]:
        """Drop generations that no lane can ask for any more; returns (status, call, how many were dropped).

        A lane without a time holds everything back: what it will bring is not known. lane_ms: the lane's own
        time, which the bucket else learns by draws alone, and not every lane draws from every bucket.
        """
        status = self._gate(lane, token, number)
        if status != Status.OK:
            return status, self._expected(lane), 0
        self._raise_time(lane, lane_ms)
        dropped = 0
        if all(other in self.times for other in range(lanes)):
            bound = min(self.times[other] for other in range(lanes)) // length_ms - 1
            dropped = self.duplicates.expire(bound)
        return status, self.bump(lane), dropped


def _correct_clients(bucket: Bucket, what: Reconcile) -> None:
    for client, delta in what.balances:
        bucket.clients.setdefault(client, Client()).balance += delta
    for client, field, delta in what.counters:
        used = bucket.clients.setdefault(client, Client()).used
        used[field] = used.get(field, 0) + delta
    for client, version, state in what.states:
        stored = bucket.clients.setdefault(client, Client())
        if stored.version is None or version >= stored.version:
            stored.version = version
            bucket.states[client] = state
    for client, version, field, row in what.history:
        if version >= bucket.history[client].get(field, (0, b""))[0]:
            bucket.history[client][field] = version, row
