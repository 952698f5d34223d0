"""A call of a bucket half worked out: what it changes and draws, before any of it is put in place.

Pure; functions.lua does the same. Source of the rules: RULES.md 2.1, 2.2.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rater.core.amounts import LIMIT
from rater.core.bucket.drawing import Funds, does, draw_item
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawReply,
    DrawRequest,
    DrawResult,
    Due,
    Outcome,
    Status,
    Use,
    clients_of,
    crossing,
    wakes,
)

if TYPE_CHECKING:
    from rater.core.bucket.model import Bucket


class Client:
    """One client of a bucket. version None: only sums are known (a store that is being rebuilt)."""

    __slots__ = ("balance", "used", "version")

    def __init__(self) -> None:
        self.version: int | None = None
        self.balance = 0
        self.used: dict[str, int] = {}


class Draft:
    """A call half worked out: the READ phase's picture of the clients; the WRITE phase puts it in place."""

    def __init__(self, bucket: Bucket) -> None:
        """Begin with what the bucket holds."""
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
        self.results: list[DrawResult] = []
        self.rose: set[str] = set()
        """Clients whose balance has come to what they wait for."""

    def version(self, client: str) -> int | None:
        """Return a client's version as far as the call has come; None: it is not there."""
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

    def unsettled(self, request: DrawRequest) -> list[tuple[str, int]]:
        """Return the clients whose change goes on from one that may be unpublished, of which other lane."""
        made = [
            (of.client, self.bucket.unsettled.get(of.client, (request.lane, 0))[0])
            for of in request.changes
            if not of.carries
        ]
        return [(client, lane) for client, lane in made if lane != request.lane]

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

    def work_out(self, request: DrawRequest) -> DrawReply | None:
        """Do the changes, then the items; returns the answer where that cannot be, and nothing is to be."""
        unsettled = self.unsettled(request)
        if unsettled:
            return DrawReply(Status.UNSETTLED, request.number, unsettled=unsettled)
        for change in request.changes:
            self.change(change)
        if not self.due:
            self.results = [self.item(request, number, item) for number, item in enumerate(request.items)]
        if self.due:
            return DrawReply(Status.DUE, request.number, due=self.due)
        if self.more:
            return DrawReply(Status.MORE, request.number, more=self.more)
        return None

    def item(self, request: DrawRequest, number: int, item: DrawItem) -> DrawResult:
        """Draw one item, or note why that cannot be."""
        use = request.uses[item.use]
        balance = self.balances[use.client]
        if use.client in self.rose:
            self.rose.remove(use.client)
            self.due.append(Due(use.client, number, balance, {}))
        before = self.before.get(use.client, balance) if item.same_record else balance
        self.before[use.client] = before
        known = self.bucket.duplicates.known(request.generation, item.key, item.older, self.keys)
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
        """Return what a counter holds as far as the call has come."""
        found = self.used.get((client, field))
        if found is None:
            stored = self.bucket.clients.get(client)
            found = 0 if stored is None else stored.used.get(field, 0)
        return found

    def write(self, request: DrawRequest) -> None:
        """Put it all in place."""
        generation = request.generation
        for client, version in self.versions.items():
            if version is not None:
                stored = self.bucket.clients.setdefault(client, Client())
                stored.version, stored.balance = version, self.balances[client]
        for (client, field), used in self.used.items():
            self.bucket.clients[client].used[field] = used
        for change in self.changes:
            self.bucket.states[change.client] = change.state
            self.bucket.due_index.add(change.hints)
            for package in change.members:
                self.bucket.members[package].append(change.client)
            for field, row in change.history:
                self.bucket.history[change.client][field] = change.version, row
        for key, content in self.keys.items():
            self.bucket.duplicates.remember(generation, key, content)


def _fits(held: int, delta: int) -> bool:
    return -LIMIT <= held <= LIMIT and -LIMIT <= held + delta <= LIMIT
