"""The chunks of a catalog load, and what one does: new states, opening balances, the event that tells of it.

`rater load` writes what was checked; but whoever may write to the topic may write anything, and what is done
is done to balances. So a chunk that cannot be one of a load is refused as a whole (`chunk_fault`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rater.core.amounts import LIMIT, QUANTITY_MAX
from rater.core.bucket.messages import bucket_of
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import ClientEntry
from rater.core.catalog_files.fields import CODE, TEXT_CHARS_MAX
from rater.core.clients.alike import Alike
from rater.core.clients.changes import ChangeEvent
from rater.core.clients.loading import load_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, client_package_name, did_name
from rater.core.commands.records import (
    CHUNK_ACCOUNTS_MAX,
    CHUNK_CLIENTS_MAX,
    AccountsArgs,
    ClientsArgs,
    Command,
    DidAssignArgs,
    Event,
    LoadArgs,
    write_command,
    write_event,
)
from rater.core.instants import milliseconds, rfc3339
from rater.core.journal.records import CHANGE_INDEX_MIN
from rater.core.kinds import Do, EventType
from rater.core.line.batch import Record
from rater.core.line.draw_request import RequestBuilder
from rater.core.reasons import shown


def parts_of(entries: Sequence[ClientEntry], version: int, buckets: int) -> list[tuple[int, LoadArgs]]:
    """Return the chunks of a load, each with its bucket: what is behind its manifest, in order.

    The account index comes first: a call that names an account alone must find it once its client is there.
    """
    names: dict[int, list[tuple[str, str]]] = {}
    clients: dict[int, list[ClientEntry]] = {}
    for entry in entries:
        clients.setdefault(bucket_of(entry.id, buckets), []).append(entry)
        accounts = [account.id for account in entry.client.accounts] if entry.client is not None else []
        for name in (*accounts, *(client_package_name(of.id) for of in entry.packages)):
            names.setdefault(bucket_of(name, buckets), []).append((name, entry.id))
    return [
        (bucket, AccountsArgs(version, bucket, index[at : at + CHUNK_ACCOUNTS_MAX]))
        for bucket, index in sorted(names.items())
        for at in range(0, len(index), CHUNK_ACCOUNTS_MAX)
    ] + [
        (bucket, ClientsArgs(version, bucket, of_bucket[at : at + CHUNK_CLIENTS_MAX]))
        for bucket, of_bucket in sorted(clients.items())
        for at in range(0, len(of_bucket), CHUNK_CLIENTS_MAX)
    ]


def chunk_fault(args: ClientsArgs | AccountsArgs, catalog: Catalog | None, buckets: int) -> str | None:
    """Return why a chunk is none of a load that this lane knows of, as a sentence; None: it is one."""
    if catalog is None or catalog.version < args.version:
        return f"catalog {args.version} is not loaded in this lane; load the files again"
    if args.bucket >= buckets:
        return f"there is no bucket {args.bucket}; there are {buckets}"
    if isinstance(args, AccountsArgs):
        names = [account for account, _ in args.entries]
    else:
        names = [entry.id for entry in args.entries]
        for entry in args.entries:
            problem = _entry_fault(entry)
            if problem is not None:
                return f"client {shown(entry.id)!r}: {problem}"
    if len(set(names)) < len(names):
        return "the chunk names something twice"
    if any(name.startswith(did_name("")) for name in names):
        return "who holds a DID is entered by the command that assigns it"
    odd = next((name for name in names if bucket_of(name, buckets) != args.bucket), None)
    return None if odd is None else f"{shown(odd)!r} does not belong to bucket {args.bucket} of {buckets}"


def _entry_fault(entry: ClientEntry) -> str | None:
    """Return what `rater load` would never write of a client; dates and zones are read when it is applied."""
    spec = entry.client
    if not entry.id or len(entry.id) > TEXT_CHARS_MAX:
        return f"an id has 1 to {TEXT_CHARS_MAX} characters"
    if spec is not None:
        if spec.id != entry.id:
            return _OF_ANOTHER
        for number in (spec.balance, spec.credit_limit, spec.low_balance or 0):
            if not -LIMIT <= number <= LIMIT:
                return f"amounts are at most {LIMIT} micros"
    for of in entry.packages:
        if of.client != entry.id:
            return _OF_ANOTHER
        if not 1 <= of.quantity <= QUANTITY_MAX:
            return f"quantities are 1 to {QUANTITY_MAX}"
    odd = [did for did, account in entry.dids if not CODE.fullmatch(did) or len(account) > TEXT_CHARS_MAX]
    return f"{shown(odd[0])!r} is no DID, or its account no account" if odd else None


_OF_ANOTHER = "the entry holds rows of another client"


def chunk_call(
    topic: str, record: Record, command: Command, args: ClientsArgs, states: dict[str, ClientState],
    catalog: Catalog, known: Mapping[str, Known], keep_ms: int, index_of: Callable[[int], int], alike: Alike,
) -> tuple[RequestBuilder, bool]:  # fmt: skip
    """Return the call that brings the chunk's clients to what the load says, and whether it is but a step.

    Unchanged ones are left out. The last change of the last step bears the event that the command is done.
    known: what the bucket told of clients; keep_ms: as of `load_change`; index_of: place of a change in the
    chunk → its index under the command; alike: plans of this catalog and load (`Alike.goes_by`). Raises
    ValueError with a sentence where an entry has a date, zone or number that is none.
    """
    changes, more, at_ms = [], False, milliseconds(command.at)
    for position, entry in enumerate(args.entries):
        old = states.get(entry.id)
        if old is None and entry.client is None:
            continue  # its client was refused or never came: nothing to assign to
        told = known.get(entry.id, _NOTHING)
        try:
            change = alike.load_change(entry, command.id, told) if old is None else load_change(
                old, entry, catalog, at_ms=at_ms, cause=Cause(command.id, command.actor), known=told,
                keep_ms=keep_ms,
            )  # fmt: skip
        except (ValueError, OverflowError) as error:
            raise ValueError(f"client {shown(entry.id)!r}: {shown(str(error))}") from error
        if change is not None:
            changes.append((index_of(CHANGE_INDEX_MIN + position), change))
            more = more or (old is not None and change.due_by(max(at_ms, old.changed_ms)))
    request = RequestBuilder()
    if changes and not more:
        last = changes[-1][1]
        last.events = (*last.events, event(EventType.COMMAND_DONE, command, "done", {}))
    for index, change in changes:
        request.change(change, topic, record, index)
    return request, more


_NOTHING = Known()


def event(
    kind: EventType, command: Command, what: str, data: dict[str, Any], client_package: str | None = None
) -> ChangeEvent:
    """Return the event that tells what became of a command; its id is the same at each replay."""
    value = write_event(
        Event(
            id=f"{command.id}/{what}", type=kind, at=rfc3339(milliseconds(command.at)), actor=command.actor,
            client=command.client, client_package=client_package or command.client_package,
            cause=command.id, data=data,
        )
    )  # fmt: skip
    return ChangeEvent(kind, (command.client or command.id).encode(), value)


def did_command_ids(chunk: str, args: LoadArgs) -> Iterator[str]:
    """Yield the ids of the commands that assign the DIDs of a part of a load."""
    if isinstance(args, ClientsArgs):
        yield from (_did_command_id(chunk, number) for entry in args.entries for number, _ in entry.dids)


def _did_command_id(chunk: str, number: str) -> str:
    return f"{OF_LOAD}{chunk}/{number}"


OF_LOAD = "dids/"
"""Begins the ids of commands that assign the DIDs of a load: they are of its time, when it was checked."""


def did_commands(command: Command, args: ClientsArgs) -> Iterator[tuple[str, bytes]]:
    """Yield (number, command) of the DIDs that a chunk assigns: they are asked for once it is carried out.

    Each goes to the lane of its number. The same chunk gives the same commands.
    """
    for entry in args.entries:
        for number, account in entry.dids:
            yield number, write_command(
                _did_command_id(command.id, number), Do.DID_ASSIGN, milliseconds(command.at),
                DidAssignArgs(number, account), actor=command.actor, reason=command.reason,
                key=f"did-{args.version}-{number}", client=entry.id,
            )  # fmt: skip


def package_events(before: Catalog, after: Catalog) -> Iterator[ChangeEvent]:
    """Yield an event for each package that is new or changed, with what of it was and is."""
    for of, package in sorted(after.packages.items()):
        old = before.packages.get(of)
        new = package.latest.spec
        was = None if old is None else old.latest.spec
        names = [
            name for name in new.__struct_fields__ if was is None or getattr(was, name) != getattr(new, name)
        ]
        if not names:
            continue
        kind = EventType.PACKAGE_CHANGED
        value = write_event(
            Event(
                id=f"package/{of}/{after.version}/{kind}", type=kind,
                at=rfc3339(max(package.changed_ms, package.statuses[-1][0])), package_name=new.name,
                cause=f"catalog/{after.version}",
                before=None if was is None else {name: getattr(was, name) for name in names},
                after={name: getattr(new, name) for name in names}, data={"package": of},
            )
        )  # fmt: skip
        yield ChangeEvent(kind, of.encode(), value)
