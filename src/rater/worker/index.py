"""Entries of the account index that commands make: ids of client packages, and who holds a DID.

A client's change and the entry lie in two buckets. An entry is made before the change, and what frees a DID
tells the lane of its number (`Line.commit`), which takes the entry away: in between a number is at most held
for nobody. Entries of a number are written by its lane alone (decisions/0095-dids.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import client_package_name, did_name, did_of
from rater.core.commands.records import DidReleaseArgs, write_command
from rater.core.journal.records import Outgoing
from rater.core.kinds import Do
from rater.core.line import steps
from rater.core.line.batch import Batch
from rater.core.line.draw_request import RequestBuilder
from rater.core.reasons import shown
from rater.worker.buckets import LaneBuckets

OWN_RELEASE = "freed/"
"""Begins the ids of commands by which lanes tell that a DID was freed; nothing but its entry is looked at."""


class Refused(Exception):  # noqa: N818 - named for what becomes of the command
    """A sentence: why nothing of the command was done."""


def is_lane_of(buckets: LaneBuckets, number: str) -> bool:
    """Return whether this lane enters who holds a DID."""
    connections = buckets.connections
    lane = lane_of(did_name(number), connections.store.count, connections.topics.partitions)
    return lane == buckets.lane.number


async def claim_client_package(
    buckets: LaneBuckets, batch: Batch, record: Any, of_id: str, client: str, *, only_look: bool = False
) -> None:
    """Enter the id of a client package, before there is one. Raises Refused where it is another client's."""
    name = client_package_name(of_id)
    owner = await _owner(buckets, name)
    if owner not in {None, client}:
        raise Refused(f"the id {shown(of_id)!r} is that of a client package of client {shown(owner or '')!r}")
    if not only_look:  # also where it is ours: a crash may have kept it from the journal
        await enter(buckets, batch, record, name, client)


async def claim_did(
    buckets: LaneBuckets, batch: Batch, record: Any, number: str, client: str, *, only_look: bool = False
) -> None:
    """Enter that a client holds a DID, before it does. Raises Refused where another one holds it."""
    name = did_name(number)
    owner = await _owner(buckets, name)
    if owner not in {None, client}:
        by = f"by client {shown(owner or '')!r}"
        if await _holds(buckets, owner or "", number):
            raise Refused(f"DID {number} is held {by}; release it first")
        raise Refused(f"DID {number} was freed {by} just now; send the command again")
    if not only_look:
        await enter(buckets, batch, record, name, client)


async def settle_did(buckets: LaneBuckets, batch: Batch, record: Any, number: str, client: str) -> None:
    """Take the entry of a DID away unless it names another client, or this one holds the number.

    Also where it is gone already: a crash may have kept that from the journal.
    """
    name = did_name(number)
    if await _owner(buckets, name) in {None, client} and not await _holds(buckets, client, number):
        await enter(buckets, batch, record, name, "")


async def enter(buckets: LaneBuckets, batch: Batch, record: Any, name: str, client: str) -> None:
    """Make an entry of the index; client "": take it away. The journal gets it too."""
    views, request = buckets.views.of_batch(), RequestBuilder()
    request.accounts = [(name, client)]
    bucket = bucket_of(name, buckets.connections.store.count)
    while not await buckets.draw_one(batch, bucket, request, views):
        pass
    views.accounts.pop(name, None)
    batch.controls.append(steps.account_state(batch.commands_topic, record.offset, request.accounts))


async def _owner(buckets: LaneBuckets, name: str) -> str | None:
    """Return which client an entry names, as the store has it now."""
    bucket, views = bucket_of(name, buckets.connections.store.count), buckets.views.of_batch()
    views.accounts.pop(name, None)
    await buckets.look_up(bucket, set(), {name}, views)
    views.accounts.pop(name, None)
    return views.owners.get(name)


async def _holds(buckets: LaneBuckets, client: str, number: str) -> bool:
    """Return whether a client holds a DID, as the store has it now."""
    bucket, views = bucket_of(client, buckets.connections.store.count), buckets.views.of_batch()
    await buckets.look_up(bucket, {client}, set(), views)
    view = views.fetched.get(client)
    return view is not None and did_of(view.state, number) is not None


def to_numbers(batches: Iterable[Batch], buckets: int, lanes: int) -> dict[int, list[Outgoing]]:
    """Return the commands of batches that go to the lanes of numbers, by lane."""
    out: dict[int, list[Outgoing]] = {}

    def add(number: str, command: bytes) -> None:
        out.setdefault(lane_of(did_name(number), buckets, lanes), []).append((None, command, []))

    for batch in batches:
        for number, command in batch.to_numbers:
            add(number, command)
        for number, client, at_ms in batch.freed:
            command_id = f"{OWN_RELEASE}{number}/{at_ms}"
            args = DidReleaseArgs(number)
            add(number, write_command(command_id, Do.DID_RELEASE, at_ms, args, key="freed", client=client))
    return out


def lane_of(name: str, buckets: int, lanes: int) -> int:
    """Return the lane that sees to what has a name: a client, or an entry of the index."""
    return bucket_of(name, buckets) % lanes
