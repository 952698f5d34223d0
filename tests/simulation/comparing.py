"""A run beside the reference (tests/oracle): each outcome in every field, in the order of a bucket's draws.

A bucket is where all of a client comes together, and it carries out one call at a time: so the order of its
draws and of the states that loads make there is *the* order of loads and calls. Each draw says by which
catalog it was rated, and the bucket which state of the client it was drawn on; the reference is fed just so.
"""

from __future__ import annotations

import copy
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from oracle.reference import Catalog, Reference
from rater.core.clients.state import ClientState, read_state
from rater.core.instants import is_stamp
from rater.core.journal.outcomes import KeptChange, entries_of, unpack_kept
from rater.core.rating.transaction import Context, catalog_of
from simulation.clockwork import EPOCH_S

if TYPE_CHECKING:
    from simulation.checking import Rejected, Transaction
    from simulation.world import Sent, World

SIDES = ("orig", "term")
OUTCOMES = ("transaction", "duplicate", "duplicate_differs", "amount_out_of_range")
"""By the number that the bucket gives."""

Place = tuple[str, int, int]
"""Topic, lane, offset of a record."""
_context = msgspec.msgpack.Decoder(Context)


class Item(NamedTuple):
    """A side as it was drawn. catalog: that it was rated by; state: that its client's state, `raw`, needs."""

    place: Place
    side: str
    client: str
    outcome: str
    catalog: int
    state: int
    raw: bytes


def compare(
    world: World, transactions: list[Transaction], rejected: dict[Place, list[Rejected]], *, answered: bool
) -> Iterator[str]:
    """Give a sentence for each thing that is not as the reference has it.

    answered: also that what is sent after a load was answered is rated by it, whoever rates it; brokers that
    are killed may forget what they have answered.
    """
    if world.broker.recreated:
        return  # which of two records at an offset was drawn is not to be said
    books = Books(world)
    draws = [items_of(drawn) for drawn in world.server.drawn]
    ahead = ahead_of(draws)
    if ahead:  # what such a draw should have come to is not to be said: no catalog has all that it needs
        yield from ahead
        return
    sent = {(one.topic, one.lane, one.offset): one for one in world.sent}
    published = {
        (one.record, SIDES[one.index]): one.said for one in transactions if one.said["type"] == "usage"
    }
    yield from _each_draw(world, books, draws, sent, published)
    yield from _each_rejection(world, books, sent, rejected, draws)
    yield from each_ends(sent, published, rejected, draws)
    if answered:
        yield from _answered(world, sent, draws, rejected)


def ahead_of(draws: list[list[Item]]) -> list[str]:
    """Return the draws of lanes that have an older catalog than their client's state."""
    return [
        f"A: lane {item.place[1]} draws for {item.client}, whose state needs catalog {item.state}, "
        f"with catalog {item.catalog}"
        for items in draws
        for item in items
        if item.state > item.catalog
    ]


def items_of(drawn: Any) -> list[Item]:
    """Return the sides of a draw."""
    states = {client: read_state(raw).catalog for client, raw in drawn.states.items()}
    return [
        Item(
            (entry.topic, drawn.lane, entry.offset), SIDES[entry.index], client, OUTCOMES[outcome],
            catalog_of(_context.decode(entry.context).head), states[client], drawn.states[client],
        )
        for entry, client, outcome in zip(
            entries_of(drawn.context), drawn.clients, drawn.outcomes, strict=True
        )
    ]  # fmt: skip


class Books:
    """The catalogs that were loaded, as the reference reads them; a client's rows of one under another."""

    def __init__(self, world: World) -> None:
        self.rows = _rows_of(world)
        """Client and its state → the load whose rows of the client it has."""
        self.catalogs = [Catalog()]
        self.read: dict[tuple[int, str, int], Catalog] = {}
        files: list[tuple[int, dict[str, Any]]] = []
        for entry in world.visible((world.topics.commands, 0)):
            said = json.loads(entry.value) if entry.value and entry.value[:1] == b"{" else {}
            args = said.get("args", {})
            if args.get("part") == "manifest" and args["version"] == len(files) + 1:
                files.append((entry.at_ms, json.loads(world.files[(entry.key or b"").decode()])))
                catalog = Catalog()
                for at_ms, file in files:
                    catalog.load(file, at_ms)
                self.catalogs.append(catalog)

    def of(self, number: int, client: str | None, state: int) -> Catalog:
        """Return a catalog in which one client is as it was in an earlier one."""
        key = number, client or "", state
        found = self.read.get(key)
        if found is None:
            full, own = self.catalogs[number], self.catalogs[state]
            found = self.read[key] = copy.copy(full)
            if client is not None:
                found.clients = {name: rows for name, rows in full.clients.items() if name != client}
                if client in own.clients:
                    found.clients[client] = own.clients[client]
                found.client_packages = {
                    name: rows
                    for name, rows in own.client_packages.items()
                    if rows[0].row["client"] == client
                }
        return found

    def opening(self, client: str) -> int:
        """Return the opening balance in micros, which the load gives that makes the client."""
        for number, catalog in enumerate(self.catalogs):
            if client in catalog.clients:
                reference = Reference()
                row = catalog.clients[client][0].row
                reference.load({"clients": [row]}, 0, number)
                return reference.balances[client]
        raise AssertionError(client)


def _rows_of(world: World) -> dict[tuple[str, bytes], int]:
    """Return which load each state has the client's rows of.

    That is not the catalog that the state needs: what is due is done by a newer one before its load comes to
    the client, and a load itself goes on in steps of what is due before it.
    """
    found: dict[tuple[str, bytes], int] = {}
    known: dict[tuple[str, int], tuple[int, ClientState]] = {}
    """Client and version → the load, and the state, that was made last."""
    for carried in world.server.carried:
        for change in unpack_kept(carried.context, carried.packed):
            if not isinstance(change, KeptChange):
                continue
            client, state = change.client, read_state(change.state)
            number, before = known.get((client, change.version - 1), (0, None))
            if before is None or _told_by_rows(state) != _told_by_rows(before):
                entry = world.broker.partition((change.topic, carried.lane)).entries[change.offset]
                number = json.loads(entry.value or b"")["args"].get("version", number)
            known[client, change.version] = number, state
            found[client, change.state] = number
    return found


def _told_by_rows(state: ClientState) -> list[Any]:
    packages = [replace(of, end_ms=None, life=None) for of in state.packages]
    return [replace(state, packages=[], version=0, catalog=0, changed_ms=0, due_ms=0, calls_ms=0), packages]


def _told(one: dict[str, Any]) -> str:
    return one["outcome"] if one["outcome"] != "rejected" else str(one["reason"])


def _each_draw(
    world: World, books: Books, draws: list[list[Item]], sent: dict[Place, Sent],
    published: dict[tuple[Place, str], dict[str, Any]],
) -> Iterator[str]:  # fmt: skip
    """Give what differs of the sides that were drawn."""
    times = Counter((item.place, item.side) for items in draws for item in items)
    # What was drawn, lost by the store and not published is decided anew. In a run of one lane all that was
    # drawn behind it was undone with it, so the last decision of each side counts, in their order. With
    # several, another lane may have drawn behind it what stands: of such clients nothing can be said here, as
    # their order is that of a world in which the lost draw was, but as a whole (sums, limits) it is checked.
    unsure = {
        item.client
        for items in draws
        for item in items
        if world.lanes > 1 and times[item.place, item.side] > 1
    }
    reference = Reference()
    for items in draws:
        groups: dict[tuple[Place, str], list[Item]] = defaultdict(list)
        for item in items:
            times[item.place, item.side] -= 1
            if item.client not in unsure and not times[item.place, item.side]:
                groups[item.place, item.client].append(item)
        for (place, client), group in groups.items():
            first, record = group[0], sent[place]
            reference.catalog = books.of(first.catalog, client, books.rows[client, first.raw])
            reference.number = first.catalog
            if client not in reference.balances:
                reference.balances[client] = books.opening(client)
            outcomes = reference.rate(
                with_sides(record, [item.side for item in group]), _at_ms(world, place), place[1]
            )
            wanted = {one["side"]: one for one in outcomes}
            for item in group:
                yield from _differs(item, wanted[item.side], published)


def _differs(
    item: Item, wanted: dict[str, Any], published: dict[tuple[Place, str], dict[str, Any]]
) -> Iterator[str]:
    where = f"O: {item.place} {item.side}, catalog {item.catalog}, state of {item.client} {item.state}"
    if _told(wanted) != item.outcome:
        yield f"{where}: is {item.outcome}, the reference says {wanted}"
    got = published.get((item.place, item.side))
    if (
        item.outcome == "transaction"
        and got is not None
        and _told(wanted) == item.outcome
        and got != wanted["value"]
    ):
        value = wanted["value"]
        names = [name for name in {**value, **got} if value.get(name) != got.get(name)]
        said = ", ".join(f"{name} is {got.get(name)}, the reference says {value.get(name)}" for name in names)
        yield f"{where}: {said}"


def with_sides(record: Sent, sides: list[str]) -> bytes:
    """Return the record with these sides alone: each client is asked at a time of its own."""
    assert record.cdr is not None
    return json.dumps({
        name: value for name, value in record.cdr.items() if name not in SIDES or name in sides
    }).encode()  # fmt: skip


def _at_ms(world: World, place: Place) -> int:
    """Return when a record came, as its lane knows: to the ms, and where it has no time nearly so."""
    entry = world.broker.partition(place[:2]).entries[place[2]]
    if is_stamp(entry.at_ms):
        return entry.at_ms
    sent = next(one for one in world.sent if (one.topic, one.lane, one.offset) == place)
    return int((EPOCH_S + sent.at_s) * 1000)


def _each_rejection(
    world: World, books: Books, sent: dict[Place, Sent], rejected: dict[Place, list[Rejected]],
    draws: list[list[Item]],
) -> Iterator[str]:  # fmt: skip
    """Give the rejections that no state of the client since the record was sent explains."""
    drawn = {(item.place, item.side) for items in draws for item in items}
    states: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for state in world.server.states:
        states[state.client].append((state.at_s, books.rows[state.client, state.state]))
    for place, several in rejected.items():
        record = sent.get(place)
        for one in several if record is not None else ():
            if (place, one.side) in drawn:
                continue  # by the bucket
            assert record is not None
            client = _client_of(books, record, one.side)
            known = states[client] if client is not None else []
            # A rejection rests on a state looked up for its batch; after a loss that may be an old one.
            until_s = 0.0 if world.server.lost else record.at_s
            newest = max((version for since, version in world.answered if since < until_s), default=0)
            alone = client is not None and not record.cdr[one.side].get("client")  # type: ignore[index]
            # The entry of an account that is named alone is in a bucket of its own, written in its own time.
            since = max((no for at, no in known if (no <= newest if alone else at <= until_s)), default=0)
            numbers = {0, *(no for _, no in known)} if client is not None else {one.catalog}
            worlds = sorted(no for no in numbers if since <= no <= one.catalog)
            if 0 in worlds and (one.reason, one.value) == ("client_unknown", client):
                # A load writes the entry of an account before its client: for a moment an account that is
                # named alone leads to a client that does not exist yet. Before it is `account_unknown`.
                continue
            said = []
            for number in worlds:
                probe = Reference()
                probe.catalog = books.of(one.catalog, client, number)
                probe.balances = dict.fromkeys(probe.catalog.clients, 0)
                raw = record.raw if not one.side else with_sides(record, [one.side])
                said += probe.rate(raw, _at_ms(world, place), place[1])
            if not any(_alike(one, each) for each in said):
                yield (
                    f"O: {place} {one.side or 'record'} of {client} is rejected under catalog {one.catalog}: "
                    f"{one.reason} {one.value!r}; the reference, states {worlds}, says {said}"
                )


def _alike(one: Rejected, said: dict[str, Any]) -> bool:
    return (said["side"] or "", said.get("reason")) == (one.side, one.reason) and said["value"] in (
        None,
        one.value,
    )


def _client_of(books: Books, record: Sent, side: str) -> str | None:
    """Return whose state decides about a side."""
    if not side or record.cdr is None or not isinstance(record.cdr.get(side), dict):
        return None
    party = record.cdr[side]
    client: str | None = party.get("client")
    return client if client is not None else books.catalogs[-1].owner(party["account"])


def each_ends(
    sent: dict[Place, Sent], published: dict[tuple[Place, str], Any], rejected: dict[Place, list[Rejected]],
    draws: list[list[Item]],
) -> Iterator[str]:  # fmt: skip
    """I4: each side of each record is published, rejected or told to be a duplicate."""
    duplicates = {(item.place, item.side) for items in draws for item in items if item.outcome == "duplicate"}
    for place, record in sent.items():
        ended = {one.side for one in rejected.get(place, ())}
        if "" in ended or record.cdr is None:
            if ended != {""}:
                yield f"I4: the bad record {place} has the outcomes {ended}"
            continue
        for side in SIDES:
            if record.cdr.get(side) is not None:
                ways = (side in ended) + ((place, side) in published)
                if ways != 1 and not (ways == 0 and (place, side) in duplicates):
                    yield f"I4: {place} {side} of {record.cdr['id']} has {ways} outcomes"


def _answered(
    world: World, sent: dict[Place, Sent], draws: list[list[Item]], rejected: dict[Place, list[Rejected]]
) -> Iterator[str]:
    """B: what is sent after a load was answered is rated by it: so two workers agree about it."""
    told = [(item.place, item.catalog) for items in draws for item in items]
    told += [(place, one.catalog) for place, several in rejected.items() for one in several if one.side]
    for place, catalog in told:
        if place in sent:
            at_s = sent[place].at_s
            newest = max((version for since, version in world.answered if since < at_s), default=0)
            if catalog < newest:
                yield f"B: {place} was sent after catalog {newest} was answered, and is rated by {catalog}"
