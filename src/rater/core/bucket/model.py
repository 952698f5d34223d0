"""What functions.lua does, stated in Python: the state of one bucket and every way it may change.

This is the fake of unit tests, the oracle that the Lua is compared with, and the engine of offline rating and
of re-rate previews. Source of the rules: RULES.md 2.1, 2.2; PROTOCOL.md 3.
"""

from __future__ import annotations

from collections import defaultdict

from rater.core.amounts import LIMIT
from rater.core.bucket.drawing import Funds, does, draw_item
from rater.core.bucket.due_index import DueIndex
from rater.core.bucket.messages import (
    EXPIRE_GENERATIONS_MAX,
    ClientWrite,
    DrawItem,
    DrawReply,
    DrawRequest,
    DrawResult,
    DropReply,
    Due,
    DueReply,
    FenceReply,
    MembersReply,
    Outcome,
    Reconcile,
    Status,
    Use,
    ViewsReply,
    clients_of,
    crossing,
    pack_results,
    wakes,
)


class _Client:
    """One client of a bucket. version None: only sums are known (a store that is being rebuilt)."""

    __slots__ = ("balance", "used", "version")

    def __init__(self) -> None:
        self.version: int | None = None
        self.balance = 0
        self.used: dict[str, int] = {}


class _Lane:
    """What a bucket knows of a lane; outcomes: call number -> (context, packed results)."""

    __slots__ = ("base", "floor", "number", "outcomes", "token")

    def __init__(self) -> None:
        self.token = -1
        self.number = 0
        self.floor = 0
        self.base = 0
        self.outcomes: dict[int, tuple[bytes, bytes]] = {}


class _Draft:
    """A call half worked out: the READ phase's picture of the clients; the WRITE phase puts it in place."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.versions: dict[str, int | None] = {}
        self.balances: dict[str, int] = {}
        self.before: dict[str, int] = {}
        self.used: dict[tuple[str, str], int] = {}
        self.signed: defaultdict[int, set[int]] = defaultdict(set)
        """Use → its fields that are sums of fees, and may be below 0."""
        self.changes: list[ClientWrite] = []
        self.keys: dict[bytes, bytes] = {}
        self.more: list[int] = []
        self.due: list[Due] = []
        self.woken: list[int] = []
        self.rose: set[str] = set()
        """Clients whose balance has come to what they wait for."""

    def version(self, client: str) -> int | None:
        if client not in self.versions:
            stored = self.bucket.clients.get(client)
            self.versions[client] = None if stored is None else stored.version
            self.balances[client] = 0 if stored is None else stored.balance
        return self.versions[client]

    def admit(self, request: DrawRequest) -> list[str] | None:
        """Return the clients whose version is not the one that was named; None: one of them is gone."""
        for item in request.items:
            for ask in item.fees:
                self.signed[item.use] |= {ask.field + 1, ask.field + 2}
        stale: set[str] = set()
        for change in request.changes:
            version = self.version(change.client)
            if (version or 0) == change.expected:
                self.versions[change.client] = change.version
            elif version is None:
                return None
            else:
                stale.add(change.client)
        for use in request.uses:
            version = self.version(use.client)
            if version is None:
                return None
            if version != use.version:
                stale.add(use.client)
        return [client for client in clients_of(request) if client in stale]

    def change(self, change: ClientWrite) -> None:
        """Do a change if its conditions hold; else note that it is due."""
        balance = self.balances[change.client]
        held = {of.field: self.used_of(change.client, of.field) for of in change.counters}
        if (
            change.least <= balance <= change.most
            and _fits(balance, change.delta)
            and all(
                of.least <= held[of.field] <= of.most and _fits(held[of.field], of.delta)
                for of in change.counters
            )
        ):
            self.balances[change.client] = balance + change.delta
            self.changes.append(change)
            for of in change.counters:
                if of.delta:
                    self.used[change.client, of.field] = held[of.field] + of.delta
        else:
            self.due.append(Due(change.client, None, balance, held))

    def item(self, request: DrawRequest, number: int, item: DrawItem) -> DrawResult:
        use = request.uses[item.use]
        balance = self.balances[use.client]
        if use.client in self.rose:
            self.rose.remove(use.client)
            self.due.append(Due(use.client, number, balance, {}))
        before = self.before.get(use.client, balance) if item.same_record else balance
        self.before[use.client] = before
        known = self.keys.get(item.key) or self.bucket.known(request.generation, item.key, item.older)
        if known is not None:
            same = known == item.content
            return DrawResult(Outcome.DUPLICATE if same else Outcome.DIFFERS, 0, None, ())
        used = [self.used_of(use.client, field) for field in use.fields]
        funds = Funds(balance, before, use.credit_limit)
        result = draw_item(item, used, funds, self.signed[item.use])
        if item.cut and not does(item, result):
            self.more.append(number)
        if result.outcome == Outcome.RATED:
            self.keys[item.key] = item.content
            self.take(use, item, used, result)
            after = self.balances[use.client]
            low = crossing(balance, after, use.mark)
            if low is not None:
                result = result._replace(low=low)
            if use.wake is not None and wakes(balance, after, use.wake):
                self.rose.add(use.client)
                self.woken.append(number)
        return result

    def take(self, use: Use, item: DrawItem, used: list[int], result: DrawResult) -> None:
        """Add to balance and counters what an item got."""
        self.balances[use.client] += result.amount
        for index, taken, _, _ in result.takes:
            field = item.candidates[index].field
            self.used[use.client, use.fields[field]] = used[field] + taken
        if result.fee is not None and result.fee.charged is not None:
            ask = item.fees[result.fee.charged]
            self.balances[use.client] += ask.amount
            for field, delta in enumerate((1, ask.net, ask.amount), ask.field):
                self.used[use.client, use.fields[field]] = used[field] + delta

    def used_of(self, client: str, field: str) -> int:
        found = self.used.get((client, field))
        if found is None:
            stored = self.bucket.clients.get(client)
            found = 0 if stored is None else stored.used.get(field, 0)
        return found

    def write(self, generation: int) -> None:
        for client, version in self.versions.items():
            if version is not None:
                stored = self.bucket.clients.setdefault(client, _Client())
                stored.version, stored.balance = version, self.balances[client]
        for (client, field), used in self.used.items():
            self.bucket.clients[client].used[field] = used
        for change in self.changes:
            self.bucket.put(change)
        for key, content in self.keys.items():
            self.bucket.remember(generation, key, content)


def _fits(held: int, delta: int) -> bool:
    return -LIMIT <= held <= LIMIT and -LIMIT <= held + delta <= LIMIT


class Bucket:
    """One bucket's whole state. `run_id` is the server's; set another one to restart it with its state."""

    def __init__(self, run_id: str = "0") -> None:
        """Start empty, closed to every lane."""
        self.run_id = run_id
        self.open = ""
        self.registered: dict[int, str] = {}
        self.times: dict[int, int] = {}
        self.generation_min: int | None = None
        self.lanes: dict[int, _Lane] = {}
        self.clients: dict[str, _Client] = {}
        self.states: dict[str, bytes] = {}
        self.accounts: dict[str, str] = {}
        self.generations: dict[int, dict[bytes, bytes]] = {}
        self.due_index = DueIndex()
        self.members: defaultdict[str, list[str]] = defaultdict(list)
        self.history: defaultdict[str, dict[str, tuple[int, bytes]]] = defaultdict(dict)
        """Client → field → (version that put it, row)."""

    def _guard(self, lane: int, token: int, number: int) -> Status:
        """A lane's own token and the number that is expected, or nothing is done."""
        stored = self.lanes.get(lane) or _Lane()
        if token < stored.token:
            return Status.FENCED
        if token > stored.token or number != stored.number:
            return Status.REGRESSED
        return Status.OK

    def _gate(self, lane: int, token: int, number: int) -> Status:
        """The guard, and every lane registered under the server's current run.

        A lane that is not registered itself is REGRESSED: waiting for others would never end.
        """
        status = self._guard(lane, token, number)
        if status != Status.OK or self.open == self.run_id:
            return status
        return Status.CLOSED if self.registered.get(lane) == self.run_id else Status.REGRESSED

    def _expected(self, lane: int) -> int:
        return self.lanes[lane].number if lane in self.lanes else 0

    def _bump(self, lane: int) -> int:
        self.lanes[lane].number += 1
        return self.lanes[lane].number

    def known(self, generation: int, key: bytes, older: bytes = b"") -> bytes | None:
        """Return the content under which a key was rated, asking this generation and its neighbours.

        older: the key as earlier versions made it; asked where the key itself is not known.
        """
        for near in (generation, generation - 1, generation + 1):
            entries = self.generations.get(near, {})
            found = entries.get(key) or entries.get(older)
            if found is not None:
                return found
        return None

    def remember(self, generation: int, key: bytes, content: bytes) -> None:
        """Keep a key in a generation."""
        self.generations.setdefault(generation, {})[key] = content
        if self.generation_min is None or generation < self.generation_min:
            self.generation_min = generation

    def put(self, change: ClientWrite) -> None:
        """Keep what a change says besides version and sums."""
        self.states[change.client] = change.state
        self.due_index.add(change.hints)
        for package in change.members:
            self.members[package].append(change.client)
        for field, row in change.history:
            self.history[change.client][field] = change.version, row

    def fence(self, lane: int, token: int) -> FenceReply:
        """Make `token` the lane's owner; returns what is kept of it. A repeat with one token is harmless."""
        stored = self.lanes.setdefault(lane, _Lane())
        if token < stored.token:
            return FenceReply(Status.FENCED, stored.number, 0, [], 0)
        before, stored.token = stored.token, token
        outcomes = [(call, *stored.outcomes[call]) for call in sorted(stored.outcomes)]
        lane_ms = self.times.get(lane, 0)
        return FenceReply(Status.OK, self._bump(lane), stored.floor, outcomes, lane_ms, stored.base, before)

    def reconcile(self, what: Reconcile) -> tuple[Status, int]:
        """Add corrections; the gate is not asked, for this is what opens it."""
        status = self._guard(what.lane, what.token, what.number)
        if status != Status.OK:
            return status, self._expected(what.lane)
        lane = self.lanes[what.lane]
        self._correct(what)
        for call in what.drop_calls:
            lane.outcomes.pop(call, None)
        lane.outcomes.update({call: (context, packed) for call, context, packed in what.pending})
        lane.floor = max(lane.floor, what.floor)
        if what.final:
            lane.base = lane.floor
        self._raise_time(what.lane, what.lane_ms)
        return Status.OK, self._bump(what.lane)

    def _correct(self, what: Reconcile) -> None:
        """Add corrections of what is not a lane's own."""
        for client, delta in what.balances:
            self.clients.setdefault(client, _Client()).balance += delta
        for client, field, delta in what.counters:
            used = self.clients.setdefault(client, _Client()).used
            used[field] = used.get(field, 0) + delta
        for client, version, state in what.states:
            stored = self.clients.setdefault(client, _Client())
            if stored.version is None or version >= stored.version:
                stored.version = version
                self.states[client] = state
        for generation, key in what.forget:
            self.generations.get(generation, {}).pop(key, None)
        for generation, key, content in what.duplicates:
            self.remember(generation, key, content)
        self._index(what.accounts)
        self.due_index.add(what.hints)
        for package, client in what.members:
            self.members[package].append(client)
        for client, version, field, row in what.history:
            if version >= self.history[client].get(field, (0, b""))[0]:
                self.history[client][field] = version, row

    def register(self, lane: int, token: int, number: int, lanes: int) -> tuple[Status, int]:
        """Note that the lane agrees with this run of the server; the last of all lanes opens the gate."""
        status = self._guard(lane, token, number)
        if status != Status.OK:
            return status, self._expected(lane)
        self.registered[lane] = self.run_id
        if all(self.registered.get(other) == self.run_id for other in range(lanes)):
            self.open = self.run_id
        return Status.OK, self._bump(lane)

    def draw(self, request: DrawRequest) -> DrawReply:
        """Change clients, then draw, then keep the outcome: all of it, or nothing and a status."""
        status = self._gate(request.lane, request.token, request.number)
        if status != Status.OK:
            return DrawReply(status, self._expected(request.lane))
        draft = _Draft(self)
        stale = draft.admit(request)
        if stale is None:
            return DrawReply(Status.LOST, request.number)
        if stale:
            return self._stale(request, stale)
        for change in request.changes:
            draft.change(change)
        results = []
        if not draft.due:
            results = [draft.item(request, number, item) for number, item in enumerate(request.items)]
        if draft.due:
            return DrawReply(Status.DUE, request.number, due=draft.due)
        if draft.more:
            return DrawReply(Status.MORE, request.number, more=draft.more)
        draft.write(request.generation)
        packed = pack_results(draft.woken, results)
        self._keep(request, packed)
        return DrawReply(Status.OK, self._bump(request.lane), results, draft.woken, [], packed)

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
        for number in [number for number in lane.outcomes if number <= min(request.trim, request.number - 1)]:
            del lane.outcomes[number]
        lane.floor = lane.base = max(lane.floor, request.floor)
        self._raise_time(request.lane, request.lane_ms)

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
        return DropReply(status, self._bump(lane), dropped=dropped)

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
        if self.generation_min is not None and all(other in self.times for other in range(lanes)):
            bound = min(self.times[other] for other in range(lanes)) // length_ms - 1
            stop = max(self.generation_min, min(bound, self.generation_min + EXPIRE_GENERATIONS_MAX))
            dropped = stop - self.generation_min
            for generation in range(self.generation_min, stop):
                self.generations.pop(generation, None)
            self.generation_min = stop
        return status, self._bump(lane), dropped
