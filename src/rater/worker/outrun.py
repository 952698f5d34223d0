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

from rater.core.bucket.messages import bucket_of
from rater.core.journal.outcomes import KeptChange, again, read_change
from rater.core.journal.records import Identity
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
    standing, store = lane.standing, buckets.connections.store
    for bucket, cursor in enumerate(lane.cursors):
        reply = await buckets.asked(
            partial(store.list_copies, bucket, lane.number, lane.token, cursor.expected)
        )
        for change in map(read_change, reply.changes):
            published = change.offset < standing.position.positions.get(change.topic, 0)
            if not published and change.identity not in standing.pending:
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
                made = await _make_again(buckets, batch, record, standing.lost.pop(identity))
                if made is not None:
                    standing.pending[identity] = made


async def _make_again(buckets: LaneBuckets, batch: Batch, record: Any, lost: KeptChange) -> KeptChange | None:
    bucket = bucket_of(lost.client, buckets.connections.store.count)
    views, drawn = buckets.views.of_batch(), Batch(buckets.lane.standing, [])
    while True:
        await buckets.look_up(bucket, {lost.client}, set(), views)
        view = views.fetched.get(lost.client)
        if view is None:
            raise Retake(f"client {lost.client!r} is gone, which another lane has changed")
        request = RequestBuilder()
        request.change(again(lost, view.state), lost.topic, record, lost.index)
        request.changes[0].instead = [*lost.instead, lost.version]
        if await buckets.draw_one(drawn, bucket, request, views, keep=False):
            batch.requests.update(drawn.requests)
            return drawn.changes[0]
        if request.due:
            log.error(
                "a change that was lost cannot be made again: a sum would leave what is kept of one; "
                "`rater audit` names it",
                client=shown(lost.client), version=lost.version, lane=buckets.lane.number,
            )  # fmt: skip
            return None
