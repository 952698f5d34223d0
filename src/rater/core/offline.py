"""Rating without Kafka and Redis: a catalog and one bucket in memory, record by record.

The line's own steps; the twin of functions.lua draws. For `rater rate`, `rater explain`, the golden cases,
and whoever needs to know what would come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from rater.core.bucket.messages import DrawReply, DrawRequest, Outcome, Status
from rater.core.bucket.model import Bucket
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import CatalogFile, Existing, Fault, merge, read_files, wanted
from rater.core.clients.changes import Change, ChangeEvent
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.moments import changed_packages
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, client_package_name, did_name, dids_of, read_state
from rater.core.clients.views import ClientView, Views
from rater.core.commands.acting import act, time_fault
from rater.core.commands.loads import did_commands, event
from rater.core.commands.records import (
    AssignArgs,
    ClientArgs,
    ClientsArgs,
    Command,
    DidAssignArgs,
    TickArgs,
    client_args,
    read_command,
)
from rater.core.instants import DAY_MS, HOUR_MS, instant, milliseconds
from rater.core.journal.records import CHANGE_INDEX_MIN, Effect
from rater.core.kinds import Do, EventType
from rater.core.line import steps
from rater.core.line.batch import Batch, LanePosition, Side, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import WOKEN_INDEX_MIN, index_of, part, woken
from rater.core.notices import NOTICES, Notices
from rater.core.reasons import Rejection
from rater.core.reasons import Side as SideName
from rater.core.sources.source_map import SourceMap

SIDE_INDICES = range(2)
TOPIC = "cdrs"
"""What all records are of."""

WINDOW_MS = 7 * DAY_MS
"""The duplicate window's default (CONTRACTS.md, `worker.duplicate_window_days`)."""
FOREVER_MS = 1000 * 366 * DAY_MS
"""A duplicate window of those who know that no call is too old: each is remembered."""


class Record(NamedTuple):
    """A record of a source, as a Kafka record has it."""

    value: bytes | None
    timestamp: int
    offset: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Transaction(NamedTuple):
    """A side that was rated or is a zero transaction; value: the transaction's JSON."""

    side: SideName
    value: bytes


class Duplicate(NamedTuple):
    """A side that was rated before, with the same content."""

    side: SideName


Ended = Transaction | Rejection | Duplicate


class Rated(NamedTuple):
    """What became of a record: each of its sides; transactions beside them, of fees and of what was due."""

    ended: list[Ended]
    changes: list[bytes]


class Rater:
    """Rates records one by one against loaded catalogs; keeps counters, balances and duplicates in memory."""

    def __init__(self, window_ms: int = WINDOW_MS, notices: Notices = NOTICES) -> None:
        """Start without a catalog: every service is unknown until one is loaded."""
        self.content: Content | None = None
        self.catalog: Catalog = compile_catalog(Content(), 0, notices)
        self.states: dict[str, ClientState] = {}
        self.views = Views()
        self.bucket = Bucket()
        self.standing = Standing(0, "", window_ms, window_ms + HOUR_MS, LanePosition())
        """Where its lane stands: its time never runs backwards."""
        self._transactions: list[bytes] = []
        self._events: list[bytes] = []
        self._number = self.bucket.fence(0, 0).number
        _, self._number = self.bucket.register(0, 0, self._number, 1)

    def load(
        self, files: Sequence[tuple[str, bytes]], at_ms: int, open_file: Callable[[str], bytes] | None = None
    ) -> list[Fault]:
        """Load catalog files as `rater load` does, now; returns the faults, and then changed nothing.

        `open_file` reads the CSV parts that a file names; without it there are none.
        """
        return self.merge(read_files(list(files), open_file or _no_parts), at_ms)

    def merge(self, file: CatalogFile, at_ms: int) -> list[Fault]:
        """Load the rows of catalog files, now; returns the faults, and then changed nothing."""
        clients, accounts = wanted(file)
        owners = {
            account: self.views.accounts[account] for account in accounts if account in self.views.accounts
        }
        known = {name: self.states[name] for name in {*clients, *owners.values()} if name in self.states}
        assigned = {held.package for state in self.states.values() for held in state.packages}
        merged = merge(self.content, file, at_ms, Existing(known, owners, assigned))
        if isinstance(merged, list):
            return merged
        if merged.changed:
            self.content, before = merged.content, self.catalog
            self.catalog = compile_catalog(merged.content, before.version + 1, before.notices)
            self.standing.position = replace(self.standing.position, catalog=self.catalog.version)
            self._change(merged.entries, at_ms)
            packages = dict(changed_packages(before, self.catalog))
            for client in sorted(self.states):  # packages have another status, or other dates
                if any(held.package in packages for held in self.states[client].packages):
                    self._do_due(client, at_ms)
        return []

    def _change(self, entries: Sequence[ClientEntry], at_ms: int) -> None:
        """Carry out what a load changes of clients, as a chunk of it does."""
        for entry in entries:
            more = True
            while more:
                old = self.states.get(entry.id)
                known = Known() if old is None else self.known(entry.id)
                change = load_change(old, entry, self.catalog, at_ms=at_ms, cause=Cause("load"), known=known)
                if change is not None:
                    self.carry_out(change, at_ms)
                more = old is not None and change is not None and change.due_by(max(at_ms, old.changed_ms))
        _assign_dids(self, entries, at_ms)

    def carry_out(self, change: Change, at_ms: int) -> None:
        """Do a change of a client, and keep what it publishes for `take`."""
        builder = RequestBuilder()
        builder.change(change, "", Record(None, at_ms), CHANGE_INDEX_MIN)
        self._ok(self.ask(self.request(builder)))
        self.learn(change.write.state)
        self._transactions += [one.value for one in change.transactions]
        self._events += [one.value for one in change.events]

    def learn(self, raw: bytes) -> None:
        """Take a client's state as it is now."""
        state = read_state(raw)
        for _, did in dids_of(self.states.get(state.id, state)):
            self.views.accounts.pop(did_name(did.number), None)
        self.states[state.id] = state
        self.views.clients[state.id] = ClientView(state)
        self.views.accounts.update(dict.fromkeys(_names(state), state.id))

    def command(self, raw: bytes, record_ms: int) -> None:
        """Carry out a command of a client, or a tick without arguments; `take` gives what it published.

        A refusal is an event, as on the line.
        """
        command = read_command(raw)
        if isinstance(command, str):
            raise ValueError(command)  # noqa: TRY004 - a value of the type bytes that is no command
        refused = _refusal(self, command, record_ms)
        if refused is not None:
            told = event(EventType.COMMAND_REFUSED, command, "refused/0", {"reason": refused, "lane": 0})
            self.note(told)

    def note(self, told: ChangeEvent) -> None:
        """Keep an event for `take`."""
        self._events.append(told.value)

    def known(self, client: str) -> Known:
        """Return what the bucket would tell of a client."""
        return Known(self.balance(client), self.used(client))

    def tick(self, at_ms: int) -> None:
        """Do all that is due up to an instant, as lanes do it by and by."""
        for client in sorted(self.states):
            self._do_due(client, at_ms)
        self.standing.lane_ms = max(self.standing.lane_ms, at_ms)

    def _do_due(self, client: str, at_ms: int) -> None:
        due = partial(due_change, upto_ms=at_ms, cause=Cause("tick"), closing=True)
        now_ms = max(at_ms, self.standing.lane_ms)
        while change := due(self.states[client], self.catalog, now_ms=now_ms, known=self.known(client)):
            self.carry_out(change, at_ms)

    def take(self) -> tuple[list[bytes], list[bytes]]:
        """Return the transactions and events of changes since it was asked last, in order."""
        found, self._transactions, self._events = (self._transactions, self._events), [], []
        return found

    def ask(self, request: DrawRequest) -> DrawReply:
        """Have the bucket carry out a request."""
        return self.bucket.draw(request)

    def balance(self, client: str) -> int:
        """Return a client's balance in micros of its currency; 0 for one that does not exist."""
        state = self.bucket.clients.get(client)
        return 0 if state is None else state.balance

    def used(self, client: str) -> dict[str, int]:
        """Return counter field → what is used of it (counting units or micros)."""
        state = self.bucket.clients.get(client)
        return {} if state is None else dict(state.used)

    def rate(self, raw: bytes | None, record_ms: int) -> list[Ended]:
        """Rate one record; returns what became of each of its sides, orig first."""
        return self.rate_record(Record(raw, record_ms))

    def rate_record(self, record: Record, source_map: SourceMap | None = None) -> list[Ended]:
        """Rate one record as `rate`; source_map: by which a switch's own is read."""
        return self.rate_sides(*self.decoded(record, source_map))

    def rate_all(self, records: Sequence[Record], source_map: SourceMap | None = None) -> list[list[Ended]]:
        """Rate records in their order; returns what became of each as `rate_record` does."""
        rated = self.rate_each(records, source_map)
        self._transactions += [value for one in rated for value in one.changes]
        return [one.ended for one in rated]

    def rate_each(self, records: Sequence[Record], source_map: SourceMap | None = None) -> list[Rated]:
        """Rate records in their order; what they bring beside stands with each, and not in `take`."""
        found = list[Rated]()
        for record in records:
            begin = len(self._transactions)
            ended = self.rate_record(record, source_map)
            found.append(Rated(ended, self._transactions[begin:]))
            del self._transactions[begin:]
        return found

    def rate_sides(self, batch: Batch, sides: list[Side]) -> list[Ended]:
        """Rate sides of a batch of one record; returns what became of all that the batch has, orig first."""
        self.draw(batch, sides)
        steps.render(batch, self.standing)
        of_sides, of_changes = published(batch)
        self._transactions += of_changes
        self._events += [value for _, value, _ in batch.events if value is not None]
        return sorted(_ended(batch, of_sides), key=place_of)

    def draw(self, batch: Batch, sides: list[Side]) -> None:
        """Draw for the sides of a batch, with what is due before them, and what they wake."""
        views = self.fresh_views()
        while sides:
            builders, later = self.matched(batch, sides, views)
            sides = later
            for builder in builders:
                if not self._drawn(batch, builder, views):
                    again = {id(side) for side in (*builder.sides, *later)}
                    sides = [side for side in batch.sides if id(side) in again]
            while batch.woken:
                self._wake(batch, batch.woken.pop(0), views)

    def _drawn(self, batch: Batch, builder: RequestBuilder, views: Views) -> bool:
        """Draw a request; False: something is due before one of its sides, nothing was changed."""
        reply = self.ask(self.request(builder))
        if reply.status == Status.DUE:
            for due in reply.due:
                assert due.item is not None  # noqa: S101 - changes are planned with what is there
                views.parted.setdefault(due.client, builder.sides[due.item])  # the first of several
            return False
        self._ok(reply)
        steps.settle(batch, builder, reply)
        for change in builder.changes:
            self.learn(change.state)
        return True

    def _wake(self, batch: Batch, side: Side, views: Views) -> None:
        assert side.head is not None  # noqa: S101 - it was drawn
        view = self.views.clients[side.head.client]
        views.known[view.id] = self.known(view.id)
        change = woken(side, view, self.catalog, views, self.standing, 0)
        if change is not None:
            request = RequestBuilder()
            index = index_of(batch, side, WOKEN_INDEX_MIN)
            request.change(change, side.topic, side.record, index)
            self._drawn(batch, request, views)

    def fresh_views(self) -> Views:
        """Return views that know all that exists."""
        views = Views(self.views.clients, self.views.accounts)
        views.fetched, views.owners = self.views.clients, self.views.accounts
        return views

    def decoded(self, record: Record, source_map: SourceMap | None) -> tuple[Batch, list[Side]]:
        """Return the batch of one record, and its sides that are to be rated."""
        batch = Batch(self.standing, [(TOPIC, [record])])
        return batch, steps.decode(batch, self.standing, {TOPIC: source_map}, self.catalog.service_names)

    def matched(
        self, batch: Batch, sides: list[Side], views: Views
    ) -> tuple[list[RequestBuilder], list[Side]]:
        """Return the request of sides, if any is to be drawn, and those that wait for it.

        Sides are asked with all limits, for nobody asks again.
        """
        for side in sides:
            side.whole = True
            if side.party is not None and side.view is None:
                side.identified_by = None
        identify(sides, self.catalog, views)
        for side in sides:
            if side.view is not None:
                views.known[side.view.id] = self.known(side.view.id)
        now, changes, later = part(sides, self.catalog, views, self.standing, 0)
        views.parted.clear()
        steps.price(now, self.catalog, views)
        builders, _ = steps.match(now, self.catalog, views, 1)
        steps.add_changes(builders, batch, changes, 1)
        return list(builders.values()), later

    def _ok(self, reply: DrawReply) -> None:
        if reply.status != Status.OK:  # one owner, one bucket, views of this very store
            raise AssertionError(reply.status)
        self._number = reply.number

    def request(self, builder: RequestBuilder) -> DrawRequest:
        """Return the request of sides and changes."""
        return builder.request(self.standing, 0, self._number, self._number, 0)


def identify(sides: list[Side], catalog: Catalog, views: Views) -> None:
    """Find whose calls sides are, and at which rates; what is not in memory does not exist.

    Raises ValueError where a client was changed by a newer catalog than this one.
    """
    while lacking := steps.identify(sides, catalog, views):
        if lacking.catalog:
            raise ValueError(f"a client needs catalog {lacking.catalog}, not {catalog.version}")
        views.absent_clients |= lacking.clients
        views.absent_accounts |= lacking.accounts


def _names(state: ClientState) -> list[str]:
    """Return the names by which the account index finds a client."""
    names = [client_package_name(of.id) for of in state.packages]
    return [*state.accounts, *names, *(did_name(did.number) for _, did in dids_of(state))]


def _assign_dids(rater: Rater, entries: Sequence[ClientEntry], at_ms: int) -> None:
    """Assign the DIDs of a load, as the commands behind its parts do."""
    load = Command("load", Do.LOAD_CATALOG, instant(at_ms))
    for _, command in did_commands(load, ClientsArgs(rater.catalog.version, 0, list(entries))):
        rater.command(command, at_ms)


def _refusal(rater: Rater, command: Command, record_ms: int) -> str | None:
    """Carry out a command; returns why it was not."""
    args, at_ms = client_args(command), milliseconds(command.at)
    if isinstance(args, str):
        return args
    refused = time_fault(command, record_ms)
    if refused is not None:
        return refused
    if isinstance(args, TickArgs):
        rater.tick(min(at_ms, record_ms))
        rater.note(event(EventType.COMMAND_DONE, command, "done", {}))
        return None
    try:
        _obey(rater, command, args, at_ms)
    except ValueError as error:
        return str(error)
    return None


def _obey(rater: Rater, command: Command, args: ClientArgs, at_ms: int) -> None:
    client = command.client or ""
    if client not in rater.states:
        raise ValueError(f"there is no client {client!r}")
    while True:
        acted = act(
            rater.states[client], command, args, rater.catalog, known=rater.known(client), keep_ms=0,
            history={field: row for field, (_, row) in rater.bucket.history[client].items()},
        )  # fmt: skip
        name = client_package_name(acted.client_package or "")
        owner = rater.views.accounts.get(name, client)
        if isinstance(args, AssignArgs) and owner != client:
            raise ValueError(f"the id {acted.client_package!r} is that of a client package of {owner!r}")
        if isinstance(args, DidAssignArgs):
            holder = rater.views.accounts.get(did_name(args.number), client)
            if holder != client:
                raise ValueError(f"DID {args.number} is held by client {holder!r}; release it first")
        if acted.change is not None and (acted.more or not command.dry_run):
            rater.carry_out(acted.change, at_ms)
        else:
            told = event(EventType.COMMAND_DONE, command, "done", acted.data, acted.client_package)
            rater.note(told)
        if not acted.more:
            return


def _ended(batch: Batch, transactions: Iterable[bytes]) -> Iterator[Ended]:
    """Yield what became of the sides of a batch; transactions: of those that were rated, in order."""
    usage = iter(transactions)
    for side in batch.sides:
        if side.rejection is not None:
            yield side.rejection
        elif side.result is not None and side.result.outcome == Outcome.RATED:
            yield Transaction(_name(side), next(usage))
        else:
            yield Duplicate(_name(side))


def published(batch: Batch) -> tuple[list[bytes], list[bytes]]:
    """Return the transactions of a batch: those of sides, and those of changes."""
    found: tuple[list[bytes], list[bytes]] = [], []
    for _, value, headers in batch.transactions:
        if value is not None:
            index = msgspec.msgpack.decode(headers[0][1], type=Effect).index
            found[index not in SIDE_INDICES].append(value)
    return found


def _name(side: Side) -> SideName:
    assert side.name is not None  # noqa: S101 - a side that was drawn has one
    return side.name


def place_of(ended: Ended) -> int:
    """Return what sorts the sides of a record: orig first."""
    return 1 if ended.side == "term" else 0


def _no_parts(name: str) -> bytes:
    raise FileNotFoundError(name)
