"""A run of one lane beside the oracle of packages (tests/oracle/life.py): every transaction and event.

One lane decides one thing after the other, and the bucket says in which order: so the oracle is fed that.
What was decided, lost by the store and decided anew counts as it was decided last. A run of several lanes has
no such order: between a rise and what it clears another lane may draw.

Left out are clients of whom something was decided in another order than the oracle can be fed: a load that
reached them later than others, or is dated before their last change; a rise that was cleared after a crash,
with something between; an assignment dated before its package was disabled; what was late by a part of a
second. It knows no DIDs: those whose hold running out ended a client package are left out, and commands that
expect a version which DIDs have changed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from oracle.life import World as Oracle
from oracle.life_compare import CROSSINGS, event_row, plain
from oracle.life_compare import events as some_events
from oracle.life_compare import transactions as comparable
from rater.core.clients.state import read_state
from rater.core.journal.outcomes import KeptChange, Pending, unpack_kept
from rater.core.rating.transaction import Context, catalog_of
from simulation.comparing import OUTCOMES, SIDES, with_sides

if TYPE_CHECKING:
    from simulation.checking import Transaction
    from simulation.world import World

Row = dict[str, Any]
SECOND_MS = 1000
DID_EVENTS = {"did_assigned", "did_on_hold", "did_freed"}
_context = msgspec.msgpack.Decoder(Context)


def compare_life(world: World, transactions: list[Transaction], events: list[Row]) -> Iterator[str]:
    """Give a sentence for each thing that is not as the oracle has it."""
    if world.lanes > 1:
        return
    feed = _Feed(world, transactions, events)
    yield from feed.run()
    yield from feed.ends(transactions, events)


class _Feed:
    """The oracle, and how far it was taken."""

    def __init__(self, world: World, transactions: list[Transaction], events: list[Row]) -> None:
        self.world = world
        self.oracle = Oracle(1)
        self.usage = {
            (one.record, one.index): one.said for one in transactions if one.said["type"] == "usage"
        }
        self.assigned = {
            event["cause"]: event["client_package"] for event in events if event["type"] == "command_done"
        }
        """Command → the client package that it made or changed."""
        self.sent = {(one.topic, one.offset): one for one in world.sent}
        self.loads = self._loads()
        self.loaded = 0
        self.awaited: dict[str, int] = {}
        """Client → the load whose catalog counts already, and that has not come to the client yet."""
        self.ahead: dict[str, int] = {}
        """Client → up to when the oracle did all that was due, for a load changed one of its packages."""
        self.halfway: dict[str, int] = {}
        """Client → up to when the oracle did all that was due, for a command that did a step of it.

        Where it is refused then, the rest is left to a tick, and calls may come before that.
        """
        self.last: dict[str, tuple[Any, ...]] = {}
        """Client → what was decided of it last."""
        self.unsure: set[str] = set()
        """Clients of whom the order is not the oracle's."""
        self.numbered: set[str] = set()
        """Clients whose DIDs have changed versions of their client packages."""
        self.transactions: list[Row] = []
        self.events: list[Row] = []

    def _loads(self) -> list[tuple[int, int, Row]]:
        """Return the loads by version: offset of the manifest, its time, the file."""
        found: list[tuple[int, int, Row]] = []
        for entry in self.world.visible((self.world.topics.commands, 0)):
            said = json.loads(entry.value) if entry.value and entry.value[:1] == b"{" else {}
            if said.get("args", {}).get("part") == "manifest":
                assert said["args"]["version"] == len(found) + 1
                file = json.loads(self.world.files[(entry.key or b"").decode()])
                found.append((entry.offset, _ms(said["at"]), file))
        return found

    def run(self) -> Iterator[str]:
        """Feed all that was carried out, in its order."""
        kept = [unpack_kept(one.context, one.packed) for one in self.world.server.carried]
        last = {decided.identity: number for number, several in enumerate(kept) for decided in several}
        for number, several in enumerate(kept):
            counts = [decided for decided in several if last[decided.identity] == number]
            for decided in counts:
                if isinstance(decided, KeptChange):
                    yield from self._change(decided)
            groups: dict[tuple[str, int, str], list[Pending]] = defaultdict(list)
            for decided in counts:
                if isinstance(decided, Pending) and not self._is_lost(decided):
                    groups[decided.identity[0], decided.identity[1], decided.client].append(decided)
            for (topic, offset, client), group in groups.items():
                yield from self._sides(topic, offset, client, group)

    def _is_lost(self, side: Pending) -> bool:
        """Return whether a rated side was lost, and rejected as too late when it came again."""
        topic, offset, index = side.identity
        return not side.result.outcome and ((topic, 0, offset), index) not in self.usage

    # ------------------------------------------------------------------ what was carried out
    def _change(self, change: KeptChange) -> Iterator[str]:
        client, (topic, offset, index) = change.client, change.identity
        before, self.last[client] = self.last.get(client), change.identity
        if any(event.type in DID_EVENTS for event in change.events):
            self.numbered.add(client)
        if _ends_by_a_hold(change):
            self.unsure.add(client)
        if not _goes_on(change, self.halfway.get(client, 0)):
            self.halfway.pop(client, None)
        if topic == self.world.topics.commands:
            yield from self._commanded(change)
        elif index % 1000 in (2, 3):
            bound_ms = self._bound_ms(topic, offset)
            self._load_before(client, self._catalog_of(change), bound_ms)
            self.oracle.due(client, bound_ms, archive=False)
            self._take()
        elif before is None or before[:2] != (topic, offset) or _within_a_second(change):
            if self.world.calm and client not in self.unsure and not _within_a_second(change):
                yield f"C: {client}: something came between a rise, of {topic}@{offset}, and what it cleared"
            self.unsure.add(client)

    def _commanded(self, change: KeptChange) -> Iterator[str]:
        client, (topic, offset, _) = change.client, change.identity
        entry = self.world.broker.partition((topic, 0)).entries[offset]
        said = json.loads(entry.value or b"")
        upto_ms = said["args"]["until_ms"] if said["do"] == "tick" else _ms(said["at"])
        if said["do"] == "load_catalog":
            self._load_up_to(said["args"]["version"])
            if not _goes_on(change, upto_ms):
                self.awaited.pop(client, None)
            return
        self._load_before(client, sum(at < offset for at, _, _ in self.loads), upto_ms)
        owner = self.oracle.owners[client]
        if said["do"] == "tick" or not any(event.type == "command_done" for event in change.events):
            self.oracle.due(client, upto_ms)  # of a command: long work, done in steps before it is
            if said["do"] != "tick" and _goes_on(change, upto_ms):
                self.halfway[client] = upto_ms
        elif said["do"] in {"did_assign", "did_release"}:
            owner.last_ms = max(owner.last_ms, upto_ms)
            self.oracle.due(client, owner.last_ms)
        else:
            yield from self._obey(said, entry.at_ms)
        if _goes_on(change, upto_ms) and any(event.type == "command_done" for event in change.events):
            self.unsure.add(client)  # what it made due is left to a tick; calls may come before that
        self._take()

    def _obey(self, said: Row, record_ms: int) -> Iterator[str]:
        client = said["client"]
        if client in self.numbered and said.get("expect_version") is not None:
            self.unsure.add(client)
        if said["do"] == "assign":  # which number an id has that is made is the client's to say
            said["args"]["id"] = self.assigned[said["id"]]
        result = self.oracle.command(said, record_ms)
        self._take()
        if result.refused is not None:
            if client not in self.unsure and result.refused != "the package is not active":  # as of now
                yield f"C: {said} is done, the oracle says: {result.refused}"
            self.unsure.add(client)

    def _sides(self, topic: str, offset: int, client: str, group: list[Pending]) -> Iterator[str]:
        record = self.sent[topic, offset]
        self.last[client] = topic, offset
        catalog = max(catalog_of(_context.decode(one.entry.context).head) for one in group)
        self._load_before(client, catalog, self._bound_ms(topic, offset))
        if client in self.halfway:
            self.unsure.add(client)
        raw = with_sides(record, [SIDES[one.entry.index] for one in group])
        outcomes = {one["side"]: one for one in self.oracle.rate(raw, self._stamp(topic, offset))}
        self._take()
        for one in group:
            wanted = outcomes[SIDES[one.entry.index]]
            where = f"C: {topic}@{offset} {wanted['side']} of {client}"
            told = wanted["outcome"] if wanted["outcome"] != "rejected" else wanted["reason"]
            if client in self.unsure:
                continue
            if told != OUTCOMES[one.result.outcome]:
                yield f"{where} is {OUTCOMES[one.result.outcome]}, the oracle says {wanted}"
                self.unsure.add(client)
            elif told == "transaction" and (got := self.usage.get(((topic, 0, offset), one.entry.index))):
                yield from _differs(where, plain(wanted["value"]), plain(got))

    # ------------------------------------------------------------------ loads
    def _load_up_to(self, version: int) -> None:
        while self.loaded < version:
            _, at_ms, file = self.loads[self.loaded]
            self.loaded += 1
            for client, owner in self.oracle.owners.items():
                if owner.last_ms > at_ms:  # then that is when the load counts, and the oracle goes back
                    self.unsure.add(client)
            self.oracle.load(file, at_ms, self.loaded)
            self._take()
            self.awaited |= {row["id"]: self.loaded for row in file.get("clients", ())}
            changed = {row["id"] for row in file.get("packages", ())}
            for client, owner in self.oracle.owners.items():
                if any(life.row["package"] in changed for life in owner.lives.values()):
                    self.ahead[client] = at_ms

    def _load_before(self, client: str, version: int, upto_ms: int) -> None:
        """Load what a decision knew of. upto_ms: up to when it finds all done.

        Left out is a client of whom something was decided that is earlier than what the oracle has done with
        the load already: what the load itself makes of the client, and what was due then.
        """
        self._load_up_to(version)
        if client in self.awaited or upto_ms < self.ahead.get(client, upto_ms):
            self.unsure.add(client)
        self.ahead.pop(client, None)

    def _catalog_of(self, change: KeptChange) -> int:
        """Return the catalog by which a change was decided, as its transactions say it."""
        return max([json.loads(value)["catalog"] for _, _, value, _ in change.transactions], default=0)

    # ------------------------------------------------------------------ inside
    def _stamp(self, topic: str, offset: int) -> int:
        return self.world.broker.partition((topic, 0)).entries[offset].at_ms

    def _bound_ms(self, topic: str, offset: int) -> int:
        cdr = self.sent[topic, offset].cdr
        assert cdr is not None
        return min(_ms(cdr["answered_at"]), self._stamp(topic, offset))

    def _take(self) -> None:
        """Collect what the oracle has published and told."""
        result = self.oracle.result
        self.transactions += result.transactions
        self.events += [event_row(one) for one in result.events]
        result.transactions, result.events = [], []

    def ends(self, transactions: list[Transaction], events: list[Row]) -> Iterator[str]:
        """Compare all that was published of each client, and its balance."""
        self._load_up_to(len(self.loads))
        for client in sorted(self.oracle.balances.keys() - self.unsure):
            wanted = {_key(row): row for row in self.transactions if row["client"] == client}
            got = {
                _key(one.said): one.said
                for one in transactions
                if one.said["client"] == client and one.said["type"] != "usage"
            }
            for key in sorted(wanted.keys() | got.keys()):
                if key not in wanted or key not in got:
                    yield f"C: {client}: {key}: the oracle has {wanted.get(key)}, published is {got.get(key)}"
                    continue
                (row,) = comparable([wanted[key]])
                (said,) = comparable([got[key]], only=[wanted[key]])
                if (
                    key[2] == "adjustment" and "at" in row
                ):  # dated the client's last change, where that was later
                    said["at"] = row["at"]
                yield from _differs(f"C: {client}: {key}", row, said)
            ours, theirs = (
                some_events(
                    row for row in several if row["client"] == client and row["type"] not in CROSSINGS
                )
                for several in (self.events, events)
            )
            if ours != theirs:
                lacks = [one for one in ours if one not in theirs]
                more = [one for one in theirs if one not in ours]
                yield f"C: {client}: the oracle tells {lacks} more and {more} not"
            bucket = next(of for of in self.world.server.buckets if client in of.clients)
            if bucket.clients[client].balance != self.oracle.balances[client]:
                yield (
                    f"C: {client} has {bucket.clients[client].balance}, "
                    f"by the oracle {self.oracle.balances[client]}"
                )


def _goes_on(change: KeptChange, upto_ms: int) -> bool:
    """Return whether more is due of the client than the change has done: it is long."""
    state = read_state(change.state)
    return state.due_ms is not None and state.due_ms <= max(upto_ms, state.changed_ms)


def _ends_by_a_hold(change: KeptChange) -> bool:
    """Return whether a client package was given up because a number's hold ran out."""
    freed = [json.loads(event.value) for event in change.events if event.type == "did_freed"]
    over = {event["client_package"] for event in freed if event["data"]["why"] == "hold over"}
    ended = [json.loads(event.value) for event in change.events if event.type == "archived"]
    return any(event["client_package"] in over for event in ended)


def _within_a_second(change: KeptChange) -> bool:
    """Return whether a rise was late by a part of a second: the oracle knows none of these."""
    told = [json.loads(event.value) for event in change.events if event.type == "rerate_needed"]
    return any(_ms(one["data"]["to"]) - _ms(one["data"]["from"]) < SECOND_MS for one in told)


def _key(row: Row) -> tuple[str, int, str]:
    return row["id"], row["revision"], row["type"]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _differs(where: str, wanted: Row, got: Row) -> Iterator[str]:
    names = [name for name in wanted if wanted.get(name) != got.get(name)]
    if names:
        said = ", ".join(f"{of} is {got.get(of)}, the oracle says {wanted.get(of)}" for of in names)
        yield f"{where}: {said}"
