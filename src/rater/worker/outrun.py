"""Changes of clients that other lanes went on from before they were published (decision 0099).

A lane does not wait for another one's commit. So what it goes on from is kept with its own change, as a copy:
were Redis to lose both, and the other lane to have died before it published its own, nobody could say any
more what that was. The copy waits in the bucket for the other lane, which draws and publishes the change once
more, as it was, when its record comes again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from msgspec.structs import replace

from rater.core.bucket.messages import bucket_of
from rater.core.clients.planning import Cause
from rater.core.commands.records import LOADS, Command, read_command
from rater.core.instants import is_stamp
from rater.core.journal.outcomes import KeptChange, read_copy
from rater.core.journal.records import Identity
from rater.core.kinds import EventType
from rater.core.line.again import again
from rater.core.line.batch import Batch
from rater.core.line.draw_request import RequestBuilder
from rater.core.reasons import shown
from rater.errors import Retake
from rater.worker.buckets import LaneBuckets

log = structlog.get_logger()


async def _find_lost(buckets: LaneBuckets) -> dict[Identity, KeptChange]:
    """Return those changes of the lane that others went on from and that are neither published nor kept.

    Asked when the gate is open: then every lane has left its copies.
    """
    lane, found = buckets.lane, dict[Identity, KeptChange]()
    standing, connections = lane.standing, buckets.connections
    for bucket, cursor in enumerate(lane.cursors):
        reply = await buckets.asked(
            partial(connections.store.list_copies, bucket, lane.number, lane.token, cursor.expected)
        )
        for copy in map(read_copy, reply.changes):
            change, topic = copy.change, copy.change.topic
            if topic in connections.topics.data and copy.topic_id != lane.ids.get(topic, ""):
                continue  # of a topic that is gone: its records come no more
            published = change.offset < standing.position.positions.get(topic, 0)
            newest = found.get(change.identity, change)  # of those that were made again and lost again
            if not published and change.identity not in standing.pending and newest.version <= change.version:
                found[change.identity] = change
    if found:
        log.warning("changes that were lost are made again", lane=lane.number, changes=len(found))
    return found


async def make_again(buckets: LaneBuckets, batch: Batch) -> None:
    """Draw the lost changes of a batch's records; they are pending then, as if they had never been lost."""
    standing = buckets.lane.standing
    if standing.lost is None:
        standing.lost = await _find_lost(buckets)
    if not standing.lost:
        return
    for topic, records in [*batch.polled, (batch.commands_topic, batch.commands)]:
        for record in records:
            for identity in sorted(one for one in standing.lost if one[:2] == (topic, record.offset)):
                lost = standing.lost.pop(identity)
                if topic == batch.commands_topic:
                    lost = _of_command(lost, record)
                made = await _make_again(buckets, batch, record, lost)
                if made is not None:
                    standing.pending[identity] = made


def _of_command(lost: KeptChange, record: Any) -> KeptChange:
    """Return a change of a command as it is to be made again.

    That a chunk of a load is done is told with the last of its clients, and others of them may be lost: it is
    carried out anew for these, and told then.
    """
    command = read_command(record.value)
    if not isinstance(command, Command) or command.do not in LOADS:
        return lost
    events = [event for event in lost.events if event.type != EventType.COMMAND_DONE]
    return replace(lost, events=tuple(events))


async def _make_again(buckets: LaneBuckets, batch: Batch, record: Any, lost: KeptChange) -> KeptChange | None:
    bucket = bucket_of(lost.client, buckets.connections.store.count)
    lane, views = buckets.lane, buckets.views.of_batch()
    stamp, drawn = record.timestamp, Batch(lane.standing, [])
    at_ms = stamp if is_stamp(stamp) else lane.standing.lane_ms
    cause = Cause(f"{lost.topic}/{lane.number}/{lost.offset}")
    while True:
        if lost.client not in views.fetched or lost.client not in views.known:
            await buckets.look_up(bucket, {lost.client}, set(), views)
        view = views.fetched.get(lost.client)
        if view is None:
            raise Retake(f"client {lost.client!r} is gone, which another lane has changed")
        change = again(
            lost, view.state, lane.catalog, views.known[lost.client], at_ms=at_ms, cause=cause,
            keep_ms=buckets.keep_ms,
        )  # fmt: skip
        request = RequestBuilder()
        request.change(change, lost.topic, record, lost.index)
        request.changes[0].instead = [*lost.instead, lost.version]
        if await buckets.draw_one(drawn, bucket, request, views, keep=False):
            batch.requests.update(drawn.requests)
            return drawn.changes[0]
        if request.due and len(change.transactions) == len(lost.transactions):
            log.error(
                "a change that was lost cannot be made again: a sum would leave what is kept of one; "
                "`rater audit` names it",
                client=shown(lost.client), version=lost.version, lane=buckets.lane.number,
            )  # fmt: skip
            return None
