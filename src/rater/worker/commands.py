"""Commands in the line: adopting a catalog version, and bringing the clients of a load to what it says.

A command takes the same path as a CDR: read from the lane's topics, decided by one call of the bucket,
published with the mark. It is not decided twice: what was drawn for it and not published is found by its
offset.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Any

import structlog
from msgspec.structs import replace

from rater.core.bucket.messages import bucket_of
from rater.core.clients.alike import Alike
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import due_change
from rater.core.clients.moments import changed_packages
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, client_package_name, did_name
from rater.core.clients.views import Views
from rater.core.commands.acting import Acted, act, time_fault
from rater.core.commands.loads import OF_LOAD, chunk_call, chunk_fault, did_commands, event, package_events
from rater.core.commands.records import (
    LOADS,
    RERATE_ARGS,
    AssignArgs,
    ClientArgs,
    ClientsArgs,
    Command,
    DidAssignArgs,
    DidReleaseArgs,
    ManifestArgs,
    RerateArgs,
    RerateFirstArgs,
    TickArgs,
    client_args,
    load_args,
    manifest_of,
    read_command,
    read_event,
)
from rater.core.instants import is_stamp, milliseconds
from rater.core.journal.outcomes import KeptChange
from rater.core.journal.records import CHANGE_INDEX_MIN, CONTROL_HEADER
from rater.core.kinds import Do, EventType, Result
from rater.core.line import steps
from rater.core.line.batch import Batch
from rater.core.line.draw_request import RequestBuilder
from rater.core.reasons import shown
from rater.errors import NoCatalog, Retake
from rater.stream.journal import end_offset, read_range
from rater.worker.buckets import LaneBuckets
from rater.worker.index import (
    OWN_RELEASE,
    Refused,
    claim_client_package,
    claim_did,
    enter,
    is_lane_of,
    settle_did,
)
from rater.worker.rerating import note_part

log = structlog.get_logger()


CATCH_UP_S = 30.0
"""The longest that a committed manifest may stay invisible to us: a transaction's markers take some ms."""
OWN_TICK = "tick/"
"""Begins the ids of a lane's commands to itself that only move its time."""
EXACT_TRIES = 3
"""So often a command is decided for the very balance that its result tells; then it tells none."""
AGAIN_S = 2.0
"""How long to wait before a manifest that points at no catalog is looked at again, and then refused."""


async def carry_out(buckets: LaneBuckets, batch: Batch, record: Any) -> None:
    """Carry out one record of the commands topic.

    What is no command is passed over with a line in the log; one that cannot be carried out is refused with
    an event. Neither stops the lane: it has nothing to do with calls. Halt is for data that is gone.
    """
    if _replayed(buckets, batch, record):
        await _tell_again(buckets, batch, record)
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
        case Do.TICK if command.id.startswith(OWN_TICK):
            pass  # its record's time moves the lane's
        case Do.DID_RELEASE if command.id.startswith(OWN_RELEASE):
            args = client_args(command)
            if isinstance(args, DidReleaseArgs) and is_lane_of(buckets, args.number):
                await settle_did(buckets, batch, record, args.number, command.client or "")
        case _:
            result = await _obey(buckets, batch, record, command)
    if not command.dry_run:
        batch.counts.commands[command.do, result] += 1


def _replayed(buckets: LaneBuckets, batch: Batch, record: Any) -> bool:
    """Settle what is kept of a command; returns whether that was the whole of it.

    It was where that it is done is kept too. Else a part may be lacking: then the command is carried out as
    if it were new, for what was done needs nothing more.
    """
    pending, topic = buckets.lane.standing.pending, batch.commands_topic
    found = sorted(key for key in pending if key[0] == topic and key[1] == record.offset)
    kept = [pending.pop(key) for key in found]
    for decided in kept:
        steps.replay(batch, record, decided)
    return any(
        event.type == EventType.COMMAND_DONE
        for one in kept
        if isinstance(one, KeptChange)
        for event in one.events
    )


async def _tell_again(buckets: LaneBuckets, batch: Batch, record: Any) -> None:
    """Do again what a replayed command did beside its changes: nobody has read of it yet."""
    command = read_command(record.value)
    assert isinstance(command, Command)  # noqa: S101 - it was carried out
    if command.do in LOADS:
        chunk = load_args(command)
        if isinstance(chunk, ClientsArgs):
            batch.to_numbers += did_commands(command, chunk)
        return
    args, client = client_args(command), command.client or ""
    if isinstance(args, DidAssignArgs):
        await enter(buckets, batch, record, did_name(args.number), client)
    elif isinstance(args, RERATE_ARGS):
        note_part(batch, args)
    elif isinstance(args, AssignArgs):
        done = read_event(batch.events[-1][1] or b"")
        if done is not None and done.client_package is not None:
            await enter(buckets, batch, record, client_package_name(done.client_package), client)


async def _load(buckets: LaneBuckets, batch: Batch, record: Any, command: Command) -> Result:
    try:
        await _do_load(buckets, batch, record, command)
    except (Refused, NoCatalog) as error:
        _refuse(buckets, batch, command, str(error))
        return Result.REFUSED
    return Result.DONE


async def _do_load(buckets: LaneBuckets, batch: Batch, record: Any, command: Command) -> None:
    args = load_args(command)
    if isinstance(args, str):
        raise Refused(args)
    if isinstance(args, ManifestArgs):
        await adopt(buckets, batch, args.version, args.offset)
        data = {"version": args.version, "lane": buckets.lane.number}
        _tell(batch, EventType.CATALOG_LOADED, command, f"catalog_loaded/{buckets.lane.number}", data)
        return
    fault = chunk_fault(args, buckets.lane.catalog, buckets.connections.store.count)
    if fault is not None:
        raise Refused(fault)
    if isinstance(args, ClientsArgs):
        batch.to_numbers += did_commands(command, args)
        if await _change_clients(buckets, batch, record, command, args):
            return  # the last change tells that it is done
    else:
        request = RequestBuilder()
        request.accounts = args.entries
        await buckets.draw_one(batch, args.bucket, request, buckets.views.of_batch())
        batch.controls.append(steps.account_state(batch.commands_topic, record.offset, args.entries))
    _tell(batch, EventType.COMMAND_DONE, command, "done", {})


async def adopt(buckets: LaneBuckets, batch: Batch, version: int, body: int) -> None:
    """Make a catalog version the lane's, unless it has a newer one.

    Ticks see to the clients of packages whose status or dates it changes; lane 0 tells of changed packages.
    """
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
    before = lane.catalog
    lane.adopt(catalog, body)
    buckets.readiness.bare.discard(lane.number)
    connections.metrics.catalog(catalog)
    await lane.reader.enable_data()
    if before is None:
        return
    batch.ticks += await buckets.due.package_ticks(changed_packages(before, catalog))
    if lane.number == 0:
        batch.tell(package_events(before, catalog))


async def catch_up(buckets: LaneBuckets, batch: Batch, version: int) -> None:
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
                        await adopt(buckets, batch, args.version, args.offset)
        if time.monotonic() > until:
            raise Retake(f"catalog {version} is needed by a client and not in {topic}[{lane.number}]")


async def _change_clients(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: ClientsArgs
) -> bool:
    """Bring the clients of a chunk to what the load says; returns whether anything was changed."""
    catalog, ids, at_ms = buckets.lane.catalog, {entry.id for entry in args.entries}, milliseconds(command.at)
    assert catalog is not None  # noqa: S101 - the load's manifest stands before its chunks in each partition
    if buckets.alike is None or not buckets.alike.goes_by(catalog, at_ms, command.actor):
        buckets.alike = Alike(catalog, at_ms, command.actor)
    views = buckets.views.of_batch()
    await buckets.look_up(args.bucket, ids, set(), views)
    while True:
        states = {client: view.state for client, view in views.fetched.items()}
        try:
            request, more = chunk_call(
                batch.commands_topic, record, command, args, states, catalog, views.known, buckets.keep_ms,
                partial(batch.step_index, batch.commands_topic, record.offset), buckets.alike,
            )  # fmt: skip
        except ValueError as error:
            raise Refused(str(error)) from error
        # Loads come by the million: who calls is looked up again.
        done = not request.changes or await buckets.draw_one(batch, args.bucket, request, views, keep=False)
        if done and not more:
            return bool(request.changes)
        if done:
            await buckets.look_up(args.bucket, ids, set(), views)


async def _obey(buckets: LaneBuckets, batch: Batch, record: Any, command: Command) -> Result:
    """Carry out a command of a client, or a tick."""
    args = client_args(command)
    stamp, at_ms = record.timestamp, milliseconds(command.at)
    own = (isinstance(args, TickArgs) and args.until_ms is not None) or command.id.startswith(OF_LOAD)
    fault = args if isinstance(args, str) else None if own else time_fault(command, stamp)
    if isinstance(args, str) or fault is not None or buckets.lane.catalog is None:
        _refuse(buckets, batch, command, fault or _NO_CATALOG)
        return Result.REFUSED
    try:
        if isinstance(args, TickArgs):
            upto_ms = min(at_ms, stamp) if is_stamp(stamp) else at_ms
            await _tick(buckets, batch, record, command, args, upto_ms)
        elif isinstance(args, DidAssignArgs | DidReleaseArgs):
            await _act_on_did(buckets, batch, record, command, args)
        elif isinstance(args, RERATE_ARGS):
            await _rerate(buckets, batch, record, command, args)
        else:
            await _act(buckets, batch, record, command, args)
    except (Refused, ValueError) as error:
        _refuse(buckets, batch, command, str(error))
        return Result.REFUSED
    return Result.DONE


_NO_CATALOG = "there is no catalog yet; load one by `rater load`"


async def _rerate(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: RerateArgs
) -> None:
    """Do a part of a re-rating job. Raises as `_act`."""
    if isinstance(args, RerateFirstArgs):
        batch.firsts.append((record, args))
        _tell(batch, EventType.COMMAND_DONE, command, "done", {"job": args.job})
    else:
        await _act(buckets, batch, record, command, args)
    note_part(batch, args)


async def _act_on_did(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: DidAssignArgs | DidReleaseArgs
) -> None:
    """Assign or release a DID, and leave its entry as the client is then. Raises as `_act`."""
    if not is_lane_of(buckets, args.number):
        raise Refused(f"DID {args.number} is given out by another lane; write the command to its partition")
    refusal: Exception | None = None
    try:
        await _act(buckets, batch, record, command, args)
    except (Refused, ValueError) as error:
        refusal = error
    if not command.dry_run:  # where it was refused too: an entry may be ours from before a crash
        await settle_did(buckets, batch, record, args.number, command.client or "")
    if refusal is not None:
        raise refusal


async def _act(buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: ClientArgs) -> None:
    """Do what a command asks for. Raises Refused or ValueError with the sentence why nothing was done."""
    client, count = command.client or "", buckets.connections.store.count
    bucket, views, refused = bucket_of(client, count), buckets.views.of_batch(), 0
    history: dict[str, bytes] = {}
    while True:
        if client not in views.fetched or client not in views.known:
            await buckets.look_up(bucket, {client}, set(), views)
            await _learn_counters(buckets, client, views)
        view, catalog = views.fetched.get(client), buckets.lane.catalog
        if view is None or catalog is None:
            raise Refused(f"there is no client {shown(client)!r}; `rater clients list` shows them")
        if view.catalog > catalog.version:
            await catch_up(buckets, batch, view.catalog)
            continue
        if command.do == Do.REMOVE:
            history = await buckets.connections.store.history(client)
        acted = act(
            view.state, command, args, catalog, known=views.known[client], history=history,
            keep_ms=buckets.keep_ms, exact=refused < EXACT_TRIES or command.dry_run,
        )  # fmt: skip
        if acted.change is not None and not acted.more:
            await _claim(buckets, batch, record, command, args, acted)
        if acted.change is None or (command.dry_run and not acted.more):
            batch.tell([event(EventType.COMMAND_DONE, command, "done", acted.data, acted.client_package)])
            return
        request = RequestBuilder()
        index = batch.step_index(batch.commands_topic, record.offset, CHANGE_INDEX_MIN)
        request.change(acted.change, batch.commands_topic, record, index)
        if not await buckets.draw_one(batch, bucket, request, views):
            refused += 1
        elif not acted.more:
            return


async def _learn_counters(buckets: LaneBuckets, client: str, views: Views) -> None:
    """Read what a client's counters hold: keys that were used, fees that calls have brought.

    The bucket asks for each that a change rests on. But a dry run never gets there, nor does a command that
    is refused: one that comes again by its key, to what it has closed itself, would be.
    """
    found = await buckets.connections.store.client(client)
    known = views.known.get(client)
    if found is not None and known is not None:
        _, _, counters = found
        views.known[client] = Known(known.balance, counters)


async def _claim(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: ClientArgs, acted: Acted
) -> None:
    """Make the entry of the index that a command rests on, or look for it alone. Raises Refused."""
    client = command.client or ""
    if isinstance(args, AssignArgs) and acted.client_package is not None:
        await claim_client_package(
            buckets, batch, record, acted.client_package, client, only_look=command.dry_run
        )
    elif isinstance(args, DidAssignArgs):
        await claim_did(buckets, batch, record, args.number, client, only_look=command.dry_run)


async def _tick(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, args: TickArgs, upto_ms: int
) -> None:
    """Do what is due of the clients that are named; without any, have it done by ticks that name them."""
    if args.bucket is None or args.clients is None:
        ticks = await buckets.due.ticks_upto(upto_ms, command.id)
        batch.ticks += ticks
        if not ticks:
            _tell(batch, EventType.COMMAND_DONE, command, "done", {})
        return
    if args.bucket >= buckets.connections.store.count:
        raise Refused(f"there is no bucket {args.bucket}")
    await _do_due(
        buckets, batch, record, command, args.bucket, args.clients,
        upto_ms if args.until_ms is None else args.until_ms,
    )  # fmt: skip
    buckets.due.obeyed(args.bucket, command.id)
    if args.done is not None:
        _tell(batch, EventType.COMMAND_DONE, replace(command, id=args.done), "done", {})


async def _do_due(
    buckets: LaneBuckets, batch: Batch, record: Any, command: Command, bucket: int, clients: list[str],
    upto_ms: int,
) -> None:  # fmt: skip
    """Do what is due of clients of a bucket up to an instant, step by step until nothing is."""
    views, waiting = buckets.views.of_batch(), {client: place for place, client in enumerate(clients)}
    found: dict[str, tuple[ClientState, Known]] = {}
    while waiting:
        if lacking := waiting.keys() - found.keys():
            found |= await buckets.states(bucket, lacking)
        newest = max([state.catalog for state, _ in found.values()], default=0)
        if buckets.lane.catalog is not None and newest > buckets.lane.catalog.version:
            await catch_up(buckets, batch, newest)
        catalog, now_ms = buckets.lane.catalog, max(upto_ms, buckets.lane.standing.lane_ms)
        assert catalog is not None  # noqa: S101 - the caller looked
        request, planned, cause = RequestBuilder(), dict[str, Change](), Cause(command.id)
        for client, place in waiting.items():
            if (as_it_is := found.get(client)) is None:
                continue
            state, known = as_it_is
            change = due_change(
                state, catalog, upto_ms=upto_ms, now_ms=now_ms, known=known, cause=cause, closing=True,
                keep_ms=buckets.keep_ms,
            )  # fmt: skip
            if change is not None:
                planned[client] = change
                index = batch.step_index(batch.commands_topic, record.offset, CHANGE_INDEX_MIN + place)
                request.change(change, batch.commands_topic, record, index)
        if not planned or await buckets.draw_one(batch, bucket, request, views, keep=False):
            # The next is due later, nearly always: else the client is looked up again.
            waiting = {of: waiting[of] for of, done in planned.items() if done.due_by(upto_ms)}
            for client in waiting:
                del found[client]
        else:
            waiting = {of: waiting[of] for of in planned}
            found |= {of: (view.state, Known()) for of, view in views.fetched.items() if of in planned}
            found |= {of: (found[of][0], known) for of, known in views.known.items() if of in planned}


def _refuse(buckets: LaneBuckets, batch: Batch, command: Command, reason: str) -> None:
    """Tell that nothing of a command was done, and why: to who sent it, and in the log."""
    lane = buckets.lane.number
    log.warning("command refused", lane=lane, command=command.id, do=command.do, reason=reason)
    # Of a manifest every lane has a copy.
    _tell(batch, EventType.COMMAND_REFUSED, command, f"refused/{lane}", {"reason": reason, "lane": lane})


def _tell(batch: Batch, kind: EventType, command: Command, what: str, data: dict[str, Any]) -> None:
    batch.tell([event(kind, command, what, data)])
