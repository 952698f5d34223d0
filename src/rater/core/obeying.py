"""What a chunk of a catalog load does: new registers, opening balances, and the event that tells of it."""

from __future__ import annotations

from typing import Any

import msgspec

from rater.core.amounts import format_micros
from rater.core.batching import COMMAND_INDEX_MIN, Call, Record, Side
from rater.core.clients import ClientRegister, apply_entry, write_register
from rater.core.commands import ClientsArgs, Command, Event, milliseconds, rfc3339, write_event
from rater.core.compiling import Catalog
from rater.core.drawing import Apply
from rater.core.reconciling import ApplyContext

_encode = msgspec.json.Encoder().encode


def chunk_call(
    topic: str, record: Record, command: Command, args: ClientsArgs, registers: dict[str, ClientRegister],
    catalog: Catalog,
) -> Call:  # fmt: skip
    """Return the call that brings the chunk's clients to what the load says; unchanged ones are left out."""
    at_ms = milliseconds(command.at)
    call = Call()
    for position, entry in enumerate(args.entries):
        old = registers.get(entry.id)
        if old is None and entry.client is None:
            continue  # its client was refused or never came: nothing to assign to
        new = apply_entry(old, entry, catalog, at_ms)
        if new is old:
            continue
        side = Side(topic, record, COMMAND_INDEX_MIN + position)
        opening = new.opening if old is None else 0
        transaction = _opening(new, opening, command, at_ms, catalog.version) if opening else None
        register = write_register(new)
        call.apply(
            side,
            Apply(new.id, 0 if old is None else old.version, register, new.version, opening),
            ApplyContext(new.version, register, opening, transaction),
        )
    return call


def _opening(register: ClientRegister, opening: int, command: Command, at_ms: int, catalog: int) -> bytes:
    """Return the adjustment that sets a new client's balance (contracts.md, Catalog file: `balance`)."""
    return _encode({
        "id": f"adjust/{register.id}/opening", "revision": 1, "type": "adjustment", "client": register.id,
        "account": None, "at": rfc3339(at_ms), "actor": command.actor, "reason": "opening balance",
        "key": "opening", "amount": format_micros(opening), "currency": register.currency, "catalog": catalog,
    })  # fmt: skip


def event(kind: str, command: Command, what: str, data: dict[str, Any]) -> bytes:
    """Return the event that tells what became of a command; its id is the same at each replay."""
    return write_event(
        Event(
            id=f"{command.id}/{what}", type=kind, at=rfc3339(milliseconds(command.at)), actor=command.actor,
            cause=command.id, data=data,
        )
    )  # fmt: skip
