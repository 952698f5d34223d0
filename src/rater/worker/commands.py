"""Commands in the line: adopting a catalog version, and bringing the clients of a load to what it says.

A command takes the same path as a CDR: read from the lane's topics, decided by one call of the bucket,
published with the mark. It is not decided twice: what was drawn for it and not published is found by its
offset.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import structlog

from rater.core.commands.loads import chunk_call, chunk_fault, event
from rater.core.commands.records import (
    LOADS,
    ClientsArgs,
    Command,
    ManifestArgs,
    load_args,
    manifest_of,
    read_command,
)
from rater.core.journal.outcomes import KeptChange
from rater.core.journal.records import CONTROL_HEADER
from rater.core.kinds import Do, EventType, Result
from rater.core.line import steps
from rater.core.line.batch import Batch
from rater.core.line.draw_request import RequestBuilder
from rater.errors import NoCatalog, Retake
from rater.stream.journal import end_offset, read_range
from rater.worker.buckets import LaneBuckets

log = structlog.get_logger()


class _Refused(Exception):  # noqa: N818 - named for what becomes of the command
    """A sentence: why nothing of the command was done."""


CATCH_UP_S = 30.0
"""The longest that a committed manifest may stay invisible to us: a transaction's markers take
milliseconds."""


AGAIN_S = 2.0
"""How long to wait before a manifest that points at no catalog is looked at again, and then refused."""


async def carry_out(buckets: LaneBuckets, batch: Batch, record: Any) -> None:
    """Carry out one record of the commands topic.

    What is no command is passed over with a line in the log; one that cannot be carried out is refused with
    an event. Neither stops the lane: it has nothing to do with calls. Halt is for data that is gone.
    """
    if _replayed(buckets, batch, record):
        return
    if any(name == CONTROL_HEADER for name, _ in record.headers or ()):
        return  # content of a catalog: read by those whom a manifest points to it
    command = read_command(record.value)
    if isinstance(command, str):
        log.warning("not a command", lane=buckets.lane.number, offset=record.offset, reason=command)
        return
    result = Result.DONE
    match command.do:
        case do if do in LOADS:
            result = await _load(buckets, batch, record, command)
        case Do.TICK:
            pass  # its record's time moves the lane's
        case _:
            result = Result.REFUSED
            _refuse(buckets, batch, command, f"this version does not know the command {command.do!r}")
    batch.counts.commands[command.do, result] += 1


def _replayed(buckets: LaneBuckets, batch: Batch, record: Any) -> bool:
    """Settle what is kept of a command; returns whether that was the whole of it.

    It was where its events are kept too. Outcomes of versions before 2026-12 have none, and may lack a part:
    then the command is carried out as if it were new, for what was done needs nothing more.
    """
    pending, topic = buckets.lane.standing.pending, batch.commands_topic
    found = sorted(key for key in pending if key[0] == topic and key[1] == record.offset)
    kept = [pending.pop(key) for key in found]
    for decided in kept:
        steps.replay(batch, record, decided)
    return any(isinstance(one, KeptChange) and one.events for one in kept)


async def _load(buckets: LaneBuckets, batch: Batch, record: Any, command: Command) -> Result:
    try:
        await _do_load(buckets, batch, record, command)
    except (_Refused, NoCatalog) as error:
        _refuse(buckets, batch, command, str(error))
        return Result.REFUSED
    return Result.DONE


async def _do_load(buckets: LaneBuckets, batch: Batch, record: Any, command: Command) -> None:
    args = load_args(command)
    if isinstance(args, str):
        raise _Refused(args)
    if isinstance(args, ManifestArgs):
        await adopt(buckets, args.version, args.offset)
        data = {"version": args.version, "lane": buckets.lane.number}
        _tell(batch, EventType.CATALOG_LOADED, command, f"catalog_loaded/{buckets.lane.number}", data)
        return
    fault = chunk_fault(args, buckets.lane.catalog, buckets.connections.store.count)
    if fault is not None:
        raise _Refused(fault)
    if isinstance(args, ClientsArgs):
        if await _change_clients(buckets, batch, record, command, args):
            return  # the last change tells that it is done
    else:
        request = RequestBuilder()
        request.accounts = args.entries
        await buckets.draw_one(batch, args.bucket, request, buckets.views.of_batch())
        batch.controls.append(steps.account_state(batch.commands_topic, record.offset, args.entries))
    _tell(batch, EventType.COMMAND_DONE, command, "done", {})


async def adopt(buckets: LaneBuckets, version: int, body: int) -> None:
    """Make a catalog version the lane's, unless it has a newer one."""
    lane, connections = buckets.lane, buckets.connections
    if lane.catalog is not None and lane.catalog.version >= version:
        return
    try:
        catalog = await connections.catalogs.at(version, body)
    except NoCatalog:
        # Refused in one lane and taken in another it would leave the two at odds. So look twice: for a moment
        # a new leader may not show what was committed before the manifest.
        await asyncio.sleep(AGAIN_S)
        catalog = await connections.catalogs.at(version, body)
    assert catalog is not None  # noqa: S101 - versions of manifests begin at 1
    lane.adopt(catalog, body)
    buckets.readiness.bare.discard(lane.number)
    connections.metrics.catalog(catalog)
    await lane.reader.enable_data()


async def catch_up(buckets: LaneBuckets, version: int) -> None:
    """Adopt a catalog version that a client's view needs and that this lane has not read of yet.

    Another lane has, so the load is committed and its manifest lies ahead in our partition too.
    """
    lane, client, topic = buckets.lane, buckets.connections.client, buckets.connections.topics.commands
    until = time.monotonic() + CATCH_UP_S
    while lane.catalog is None or lane.catalog.version < version:
        start = lane.standing.position.positions.get(topic, 0)
        end = await end_offset(client, topic, lane.number)
        async for records in read_range(client, topic, lane.number, start, end):
            for _, _, raw, _ in records:
                args = manifest_of(raw)
                if args is not None and args.version >= version:
                    # One that points at no catalog is refused when its turn comes.
                    with contextlib.suppress(NoCatalog):
                        await adopt(buckets, args.version, args.offset)
        if time.monotonic() > until:
            raise Retake(f"catalog {version} is needed by a client and not in {topic}[{lane.number}]")


async def _change_clients(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: ClientsArgs
) -> bool:
    """Bring the clients of a chunk to what the load says; returns whether anything was changed."""
    lane, ids = buckets.lane, {entry.id for entry in args.entries}
    balances: dict[str, int] = {}
    assert lane.catalog is not None  # noqa: S101 - the load's manifest stands before its chunks in each partition
    while True:
        views = buckets.views.of_batch()
        await buckets.look_up(args.bucket, ids, set(), views)
        states = {client: view.state for client, view in views.fetched.items()}
        try:
            request = chunk_call(batch.commands_topic, record, command, args, states, lane.catalog, balances)
        except ValueError as error:
            raise _Refused(str(error)) from error
        for client in ids:
            views.clients.pop(client, None)  # the next call looks up what this one makes of it
        if not request.changes:
            return False
        if await buckets.draw_one(batch, args.bucket, request, views):
            return True
        balances |= {due.client: due.balance for due in request.due}


def _refuse(buckets: LaneBuckets, batch: Batch, command: Command, reason: str) -> None:
    """Tell that nothing of a command was done, and why: to who sent it, and in the log."""
    lane = buckets.lane.number
    log.warning("command refused", lane=lane, command=command.id, do=command.do, reason=reason)
    # Of a manifest every lane has a copy.
    _tell(batch, EventType.COMMAND_REFUSED, command, f"refused/{lane}", {"reason": reason, "lane": lane})


def _tell(batch: Batch, kind: EventType, command: Command, what: str, data: dict[str, Any]) -> None:
    told = event(kind, command, what, data)
    batch.events.append((told.key, told.value, []))
    batch.counts.events[kind] += 1
