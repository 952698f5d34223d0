"""What must be true of numbers (DIDs) and of the account index, when all that is due is done.

By topics and store alone, and by what the buckets carried out, in its order. The names N1 ... are of this
module.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import (
    ClientPackage,
    ClientState,
    HeldDid,
    client_package_name,
    did_name,
    dids_of,
    read_state,
)
from rater.core.instants import rfc3339
from rater.core.journal.outcomes import KeptChange, unpack_kept

if TYPE_CHECKING:
    from simulation.world import World

Event = dict[str, Any]
KINDS = {"did_assigned", "did_on_hold", "did_freed"}


class Holding(NamedTuple):
    """A number that a client holds. until: as events say it; None: it is in use."""

    client_package: str
    account: str
    until: str | None


def check_dids(world: World, events: list[Event]) -> list[str]:
    """Return a sentence for each thing that is not as it must be."""
    states = {
        client: read_state(raw)
        for bucket in world.server.buckets
        for client, raw in bucket.states.items()
    }  # fmt: skip
    told = [event for event in events if event["type"] in KINDS]
    return [
        *_held_once(states),
        *_index(world, states),
        *_told(states, told),
        *_given_on(world, told),
        *_answered(world, events),
    ]


def _held_once(states: dict[str, ClientState]) -> Iterator[str]:
    """N1: a number has one holder at most."""
    holders: dict[str, list[str]] = defaultdict(list)
    for client, state in states.items():
        for _, did in dids_of(state):
            holders[did.number].append(client)
    for number, several in holders.items():
        if len(several) > 1:
            yield f"N1: {number} is held by {several}"


def _index(world: World, states: dict[str, ClientState]) -> Iterator[str]:
    """N2: the account index names who holds each number, no other number, and who has each client package."""
    entries: dict[str, str] = {}
    for number, bucket in enumerate(world.server.buckets):
        for name, client in bucket.accounts.items():
            entries[name] = client
            if bucket_of(name, len(world.server.buckets)) != number:
                yield f"N2: {name!r} lies in bucket {number}"
    wanted = {
        did_name(did.number): client for client, state in states.items() for _, did in dids_of(state)
    }  # fmt: skip
    found = {name: client for name, client in entries.items() if name.startswith(did_name(""))}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            yield f"N2: {name!r} is held by {wanted.get(name)}, the index says {found.get(name)}"
    for client, state in states.items():
        for held in state.packages:
            if entries.get(client_package_name(held.id)) != client:
                owner = entries.get(client_package_name(held.id))
                yield f"N2: {held.id} is of {client}, the index says {owner}"


def _told(states: dict[str, ClientState], told: list[Event]) -> Iterator[str]:
    """N3: events tell each step of a number once: by them each client holds just what its state says."""
    found: dict[str, dict[str, Holding]] = defaultdict(dict)
    for event in sorted(told, key=_version):  # those of one change are published in their order
        numbers, where = found[event["client"]], f"N3: {event['id']}"
        number, before = event["data"]["number"], numbers.get(event["data"]["number"])
        now = Holding(event["client_package"], event["account"], event["data"].get("hold_until"))
        back = event["data"].get("back", False)
        if event["type"] == "did_assigned":
            if before is not None if not back else before is None or before.until is None:
                yield f"{where} (back: {back}), which was {before}"
            numbers[number] = now
        elif before is None or before[:2] != now[:2]:
            yield f"{where}, which was {before}"
        elif event["type"] == "did_freed":
            del numbers[number]
        else:
            if before.until is not None:
                yield f"{where}, which was on hold until {before.until}"
            numbers[number] = now
    for client, state in states.items():
        held = {did.number: _holding(of, did) for of, did in dids_of(state)}
        if held != found[client]:
            yield f"N3: {client} holds {held}, by the events {found[client]}"


def _holding(held: ClientPackage, did: HeldDid) -> Holding:
    until = None if did.hold_until_ms is None else rfc3339(did.hold_until_ms)
    return Holding(held.id, did.account, until)


def _version(event: Event) -> int:
    return int(event["id"].split("/")[1])


def _given_on(world: World, told: list[Event]) -> Iterator[str]:
    """N4: in the order of the buckets, a number is given on when the client before it held it no more."""
    known, done = {event["id"]: event for event in told}, _carried_out(world)
    holder: dict[str, str] = {}
    for name in sorted(done.keys() & known.keys(), key=lambda name: done[name]):
        event = known[name]
        number, client = event["data"]["number"], event["client"]
        if event["type"] == "did_assigned" and not event["data"].get("back"):
            if number in holder:
                yield f"N4: {number} is given to {client} while {holder[number]} holds it ({name})"
            holder[number] = client
        elif event["type"] == "did_freed" and holder.pop(number, client) != client:
            yield f"N4: {number} is freed by {client}, another one holds it ({name})"
    for name in known.keys() - done.keys():
        yield f"N4: {name} was never carried out"


def _carried_out(world: World) -> dict[str, tuple[int, int]]:
    """Return id of an event → its place in the order in which changes were carried out last."""
    return {
        json.loads(event.value)["id"]: (at, place)
        for at, carried in enumerate(world.server.carried)
        for change in unpack_kept(carried.context, carried.packed)
        if isinstance(change, KeptChange)
        for place, event in enumerate(change.events)
        if event.type in KINDS
    }


def _answered(world: World, events: list[Event]) -> Iterator[str]:
    """N5: each row of a load that assigns a number is answered once, whether it got it or not."""
    answers: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event["type"] in {"command_done", "command_refused"}:
            answers[event["cause"]].append(event["id"])
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.commands, lane)):
            said = json.loads(entry.value) if entry.value and entry.value[:1] == b"{" else {}
            of = said.get("id", "")
            if of.startswith("dids/") and len(answers[of]) != 1:
                yield f"N5: {of} is answered by {answers[of]}"
