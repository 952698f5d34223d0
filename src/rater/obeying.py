"""Commands in the line: adopting a catalog version, and bringing the clients of a load to what it says.

A command takes the same path as a CDR: read from the lane's topics, decided by one call of the bucket,
published with the mark. It is not decided twice: what was drawn for it and not published is found by its
offset.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from rater.core import batching
from rater.core.batching import Batch, Call
from rater.core.commands import (
    AccountsArgs,
    ClientsArgs,
    Command,
    Do,
    ManifestArgs,
    load_args,
    manifest_of,
    read_command,
)  # fmt: skip
from rater.core.obeying import chunk_call, event
from rater.errors import Retake
from rater.stream.journal import end_offset, read_range

if TYPE_CHECKING:
    from rater.worker import Line

log = structlog.get_logger()

CATCH_UP_S = 30.0
"""The longest that a committed manifest may stay invisible to us: a transaction's markers take
milliseconds."""


async def obey(line: Line, batch: Batch, record: Any) -> None:
    """Carry out one record of the commands topic."""
    if _replayed(line, batch, record):
        return
    line.taken.obeyed = record.offset + 1
    if any(name == "control" for name, _ in record.headers or ()):
        return  # content of a catalog: read by those whom a manifest points to it
    command = read_command(record.value)
    if isinstance(command, str):
        log.warning("not a command", lane=line.taken.lane, offset=record.offset, reason=command)
        return
    result = "done"
    match command.do:
        case Do.LOAD_CATALOG:
            result = await _load(line, batch, record, command)
        case Do.TICK:
            pass  # its record's time moves the lane's
        case _:
            result = "refused"
            reason = f"this version does not know the command {command.do!r}"
            _tell(batch, "command_refused", command, "refused", {"reason": reason})
    batch.counts.commands[command.do, result] += 1


def _replayed(line: Line, batch: Batch, record: Any) -> bool:
    """Settle a command whose outcome is kept; the whole of it was one call."""
    pending, topic = line.taken.standing.pending, batch.commands_topic
    kept = sorted(key for key in pending if key[0] == topic and key[1] == record.offset)
    for key in kept:
        batching.replay(batch, topic, record, key[2], pending.pop(key))
    if kept:
        command = read_command(record.value)
        if not isinstance(command, str):
            _tell(batch, "command_done", command, "done", {})
    return bool(kept)


async def _load(line: Line, batch: Batch, record: Any, command: Command) -> str:
    args = load_args(command)
    if isinstance(args, str):
        _tell(batch, "command_refused", command, "refused", {"reason": args})
        return "refused"
    match args:
        case ManifestArgs():
            await adopt(line, args.version, args.offset)
            data = {"version": args.version, "lane": line.taken.lane}
            _tell(batch, "catalog_loaded", command, f"catalog_loaded/{line.taken.lane}", data)
        case ClientsArgs():
            await _apply_clients(line, batch, record, command, args)
            _tell(batch, "command_done", command, "done", {})
        case AccountsArgs():
            call = Call()
            call.accounts = args.entries
            await line.draw_one(batch, args.bucket, call)
            batch.controls.append(batching.account_state(batch.commands_topic, record.offset, args.entries))
            _tell(batch, "command_done", command, "done", {})
    return "done"


async def adopt(line: Line, version: int, body: int) -> None:
    """Make a catalog version the lane's, unless it has a newer one."""
    taken = line.taken
    if taken.catalog is not None and taken.catalog.version >= version:
        return
    taken.catalog = await line.parts.catalogs.at(version, body)
    taken.body = body
    line.parts.metrics.catalog(version)
    await taken.source.enable_data()


async def catch_up(line: Line, version: int) -> None:
    """Adopt a catalog version that a client's view needs and that this lane has not read of yet.

    Another lane has, so the load is committed and its manifest lies ahead in our partition too.
    """
    taken, parts = line.taken, line.parts
    lane, topic = taken.lane, parts.topics.commands
    until = time.monotonic() + CATCH_UP_S
    while taken.catalog is None or taken.catalog.version < version:
        end = await end_offset(parts.client, topic, lane)
        async for records in read_range(parts.client, topic, lane, taken.obeyed, end):
            for _, _, raw, _ in records:
                args = manifest_of(raw)
                if args is not None and args.version >= version:
                    await adopt(line, args.version, args.offset)
        if time.monotonic() > until:
            raise Retake(f"catalog {version} is needed by a client and not in {topic}[{lane}]")


async def _apply_clients(line: Line, batch: Batch, record: Any, command: Command, args: ClientsArgs) -> None:
    taken, ids = line.taken, {entry.id for entry in args.entries}
    assert taken.catalog is not None  # noqa: S101 - the load's manifest stands before its chunks in each partition
    while True:
        views = line.parts.batch_views()
        for client in ids:
            views.clients.pop(client, None)
        await line.look_up(args.bucket, ids, set(), views)
        registers = {client: views.clients[client].register for client in ids if client in views.clients}
        call = chunk_call(batch.commands_topic, record, command, args, registers, taken.catalog)
        for client in ids:
            views.clients.pop(client, None)  # the next call looks up what this one makes of it
        if not call.applies:
            return
        await line.draw_one(batch, args.bucket, call)
        batch.sides += call.sides
        if all(side.result for side in call.sides):
            return


def _tell(batch: Batch, kind: str, command: Command, what: str, data: dict[str, Any]) -> None:
    key = (command.client or command.id).encode()
    batch.events.append((key, event(kind, command, what, data), []))
    batch.counts.events[kind] += 1
