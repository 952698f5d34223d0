"""`rater load`: check a catalog as a whole, publish it as a whole, wait for the workers' results.

Order (core/commands/records.py): content and body first, by Kafka transactions of their own that nothing
names yet; then, in one Kafka transaction, a manifest in every partition and the chunks of clients behind it.
A load that dies before that last commit has changed nothing. All loads share one transactional id: of two at
once, the first is fenced. So files are checked against the present state before, by plain reading: one that
is faulty or changes nothing takes over from nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rater.catalogs import Catalogs, object_digest
from rater.core.catalog.specs import Content
from rater.core.catalog_files.merging import (
    CatalogFile,
    Existing,
    Fault,
    Merged,
    doubted,
    merge,
    objects,
    read_files,
    wanted,
    warnings,
)
from rater.core.catalog_files.unmatched import unmatched
from rater.core.clients.state import ClientState, read_state
from rater.core.commands.loads import OF_LOAD, did_command_ids, parts_of
from rater.core.commands.records import (
    Event,
    ManifestArgs,
    ManifestBody,
    ObjectPlace,
    manifest_of,
    read_event,
    write_command,
)
from rater.core.kinds import Do, EventType
from rater.errors import Fenced, Halt, NoCatalog
from rater.store.buckets import Buckets
from rater.stream.content import Writer, undecided
from rater.stream.journal import Owner, Piece, control_record, end_offset, last_mark, read_range
from rater.stream.tail import EventTail
from rater.stream.topics import Topics

PIECE_BYTES = 900_000
"""Of one content record: below the broker's default of 1 MiB for a record batch."""
QUIET_S = 15.0
"""No result from any worker for so long: none is running."""
UNDECIDED_S = 45.0
"""A dead worker's Kafka transaction is ended by the broker before; what stays open longer was forgotten."""

Say = Callable[[str], None]


class Loaded(NamedTuple):
    """What a load did. applied: by the workers (False: queued); refused: reasons of parts not taken."""

    version: int
    changed: bool
    applied: bool
    refused: list[str]


def sentences(loaded: Loaded | list[Fault], lanes: int) -> list[str]:
    """Return what became of a load, in sentences for people. lanes: how many there are."""
    if isinstance(loaded, list):
        found = f"{len(loaded)} {'fault' if len(loaded) == 1 else 'faults'}"
        return [*map(str, loaded), f"{found}: nothing was changed"]
    if not loaded.changed:
        return [f"nothing to change: catalog {loaded.version} says the same"]
    refused = [f"refused: {reason}" for reason in loaded.refused]
    if not loaded.applied:
        queued = (
            f"catalog {loaded.version} stays queued: no worker answered. It is applied as soon as workers "
            "own every lane; start them with `rater worker`"
        )
        return [*refused, queued]
    return refused or [f"catalog {loaded.version} is in use on all {lanes} lanes"]


class Present(NamedTuple):
    """The newest catalog; version 0 and None: none was loaded. offset: of its body in the commands."""

    version: int
    body: ManifestBody | None
    content: Content | None
    offset: int = 0

    def after(self, at_ms: int) -> int:
        """Return the `at` of a load that follows it: not before the next second, whatever clocks say.

        What a load assigns opens with what it brings, which is found by its instant. Lane time is that of
        the load before anyway.
        """
        return at_ms if self.body is None else max(at_ms, self.body.at_ms + 1000)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let Python's cycle collector wait: searching many new objects without cycles takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Loader:
    """Loads catalog files."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        store: Buckets,
        catalogs: Catalogs,
        say: Say,
        actor: str,
        reason: str = "",
        key: str | None = None,
        now_ms: Callable[[], int] = lambda: int(time.time()) * 1000,
    ) -> None:
        """Work on these connections; `say` tells progress. now_ms: whole seconds, as in the catalog.

        actor, reason, key: what the commands say of who asked, why, and under which key.
        """
        self.now_ms = now_ms
        self.client, self.topics, self.store, self.catalogs = client, topics, store, catalogs
        self.say = say
        self.actor, self.reason, self.key = actor, reason, key
        self._read: Present | None = None

    async def load(self, files: Sequence[Path]) -> Loaded | list[Fault]:
        """Load files; returns every fault instead when there is one, and has then changed nothing."""
        with uncollected():
            return await self.load_rows(read_catalog(files))

    async def load_rows(
        self, read: CatalogFile, expected: int | None = None, do: Do = Do.LOAD_CATALOG
    ) -> Loaded | list[Fault]:
        """Load rows that were read; as `load`. expected: the version of the catalog that they were made for.

        do: what the manifests are to say of the load. Raises Halt where another load came in between.
        """
        with uncollected():
            at_ms = self.now_ms()
            present, merged, decided = await self._look(read, at_ms)
            _check_expected(present, expected)
            if isinstance(merged, list):
                return merged
            at_ms = present.after(at_ms)
            # Undecided still: a broker forgot to end it (decision 0025); our writer will.
            if not merged.changed and decided:
                return self._unchanged(read, present, merged)
            # Records and commands have one time: lane time comes from records, and is then the load's now.
            everywhere = [(self.topics.commands, lane) for lane in range(self.topics.partitions)]
            writer = Writer(self.client, f"{self.topics.prefix}catalog", everywhere, at_ms=at_ms)
            await writer.open()
            try:
                return await self._load(read, writer, at_ms, present, merged, expected, do)
            except Fenced:
                raise Halt(
                    "another load began meanwhile and took over; nothing was changed: load again"
                ) from None
            finally:
                await writer.close()

    async def _load(
        self,
        file: CatalogFile,
        writer: Writer,
        at_ms: int,
        seen: Present,
        found: Merged,
        expected: int | None,
        do: Do,
    ) -> Loaded | list[Fault]:
        """Load by a writer that nobody else has; seen, found: what was there, and came out, before it had."""
        # Our own record ends the reading: what loads before us committed lies below it (PROTOCOL.md 5.4).
        key, value, headers = control_record(Owner(self.actor, "load"))
        (own,) = await writer.write([(self.topics.commands, 0, key, value, headers)])
        present = await self.current(own)
        _check_expected(present, expected)
        merged: Merged | list[Fault] = found
        if present.version != seen.version:
            at_ms = writer.at_ms = present.after(at_ms)
            merged = merge(present.content, file, at_ms, await self._existing(present, file))
        if isinstance(merged, list):
            return merged
        if not merged.changed:
            return self._unchanged(file, present, merged)
        _note(self.say, file, present, merged)
        load_id = uuid.uuid4().hex
        version = present.version + 1
        offset = await self._write_content(writer, merged.content, version, at_ms, present.body)
        records, commands = self._commands(load_id, do, version, offset, at_ms, merged)
        tail = EventTail(self.client, self.topics)
        await tail.open()
        try:
            await writer.write(records)
            self.say(f"catalog {version} published: {_sent(len(merged.entries), len(commands))}")
            return await self._results(tail, load_id, version, commands)
        finally:
            await tail.close()

    def _unchanged(self, file: CatalogFile, present: Present, merged: Merged) -> Loaded:
        _note(self.say, file, present, merged)
        return Loaded(present.version, changed=False, applied=True, refused=[])

    async def _look(self, file: CatalogFile, at_ms: int) -> tuple[Present, Merged | list[Fault], bool]:
        """Return what is there, what comes out, and whether all is decided; takes over from nobody.

        Behind an open Kafka transaction nothing can be read, a load neither. So what would be said and done
        with is looked at again when it has ended: by another load, or by the broker for a dead worker.
        """
        commands, lanes = self.topics.commands, range(self.topics.partitions)
        until = time.monotonic() + UNDECIDED_S
        waited = False
        while True:
            waits = bool(await undecided(self.client, commands, lanes))
            late = time.monotonic() > until
            if not waited or not waits or late:
                present = await self.current(await end_offset(self.client, commands, 0))
                existing = await self._existing(present, file)
                merged = merge(present.content, file, present.after(at_ms), existing)
                if not waits or late or file.faults or (isinstance(merged, Merged) and merged.changed):
                    return present, merged, not waits
                self.say("waits for another load to end, or a killed one to be forgotten")
            waited = True
            await asyncio.sleep(0.2)

    async def preview(self, read: CatalogFile) -> tuple[Present, Merged | list[Fault]]:
        """Return the newest catalog, and what a load of these rows would make of it; nothing is changed."""
        with uncollected():
            present, merged, _ = await self._look(read, self.now_ms())
            return present, merged

    async def present(self) -> Present:
        """Return the newest catalog, queued ones included."""
        return await self.current(await end_offset(self.client, self.topics.commands, 0))

    async def current(self, until: int) -> Present:
        """Return the newest catalog of those whose manifest lies below this offset of the commands.

        One that was read is not read again: a copy of a million rows takes 200 MB.
        """
        commands = self.topics.commands
        journal_end = await end_offset(self.client, self.topics.transactions, 0)
        mark = (
            await last_mark(self.client, self.topics.transactions, 0, journal_end - 1)
            if journal_end
            else None
        )
        found = [(mark.catalog, mark.body)] if mark is not None and mark.catalog else []
        start = mark.positions.get(commands, 0) if mark is not None else 0
        async for records in read_range(self.client, commands, 0, start, until):
            for _, _, raw, _ in records:
                args = manifest_of(raw)
                if args is not None:
                    found.append((args.version, args.offset))
        for version, offset in sorted(found, reverse=True):
            if self._read is not None and (version, offset) == (self._read.version, self._read.offset):
                return self._read
            try:
                body, content = await self.catalogs.content(offset)
            except NoCatalog:
                continue  # the lanes refuse it too (`worker/commands.py`, `adopt`)
            if body.version == version:
                self._read = Present(version, body, content, offset)
                return self._read
        if mark is not None and mark.catalog:
            raise Halt(
                f"the catalog that the lanes rate by, version {mark.catalog}, is not in "
                f"{commands}[0] any more: restore the topic"
            )
        return Present(0, None, None)

    async def _existing(self, present: Present, file: CatalogFile) -> Existing:
        clients, accounts = wanted(file)
        owners = await self.store.accounts(list(accounts))
        states = await self.store.states(list(set(clients) | set(owners.values())))
        known: dict[str, ClientState] = {name: read_state(raw) for name, raw in states.items()}
        packages = doubted(present.content, file) if present.content is not None else set()
        return Existing(known, owners, await self.store.assigned(packages))

    async def _write_content(
        self, writer: Writer, content: Content, version: int, at_ms: int, before: ManifestBody | None
    ) -> int:
        """Write what changed of the content, then the body that lists all; returns the body's offset."""
        known = {place.digest: place.offsets for place in before.objects} if before is not None else {}
        wanted_objects = {name: (object_digest(raw), raw) for name, raw in objects(content).items()}
        pieces = [
            (name, raw[at : at + PIECE_BYTES])
            for name, (digest, raw) in wanted_objects.items()
            if digest not in known
            for at in range(0, max(len(raw), 1), PIECE_BYTES)
        ]
        _, _, headers = control_record(Piece())
        commands = self.topics.commands
        offsets = (
            await writer.write([(commands, 0, None, piece, headers) for _, piece in pieces]) if pieces else []
        )
        places: dict[str, list[int]] = {name: [] for name in wanted_objects}
        for (name, _), offset in zip(pieces, offsets, strict=True):
            places[name].append(offset)
        body = ManifestBody(
            version,
            at_ms,
            [
                ObjectPlace(name, digest, places[name] or known[digest])
                for name, (digest, _) in wanted_objects.items()
            ],
        )
        (offset,) = await writer.write([(commands, 0, None, msgspec.msgpack.encode(body), headers)])
        return offset

    def _commands(
        self, load_id: str, do: Do, version: int, body: int, at_ms: int, merged: Merged
    ) -> tuple[list[tuple[str, int, bytes | None, bytes | None, list[tuple[str, bytes]]]], list[str]]:
        """Return the records of the load, and the ids of the commands beside manifests that are waited for.

        Those that assign DIDs the workers write. do: what the manifests say; parts are those of a load.
        """
        partitions, topic = self.topics.partitions, self.topics.commands
        parts = parts_of(merged.entries, version, self.store.count)
        manifest = ManifestArgs(version, body, len(parts))
        command = partial(write_command, at_ms=at_ms, actor=self.actor, reason=self.reason)
        whole = command(f"{load_id}/catalog", do, args=manifest, key=self.key)
        records = [(lane, whole) for lane in range(partitions)] + [
            (bucket % partitions, command(f"{load_id}/{n}", Do.LOAD_CATALOG, args=args))
            for n, (bucket, args) in enumerate(parts)
        ]
        commands = [f"{load_id}/{n}" for n in range(len(parts))]
        commands += [of for n, (_, args) in enumerate(parts) for of in did_command_ids(commands[n], args)]
        return [(topic, lane, load_id.encode(), value, []) for lane, value in records], commands

    async def _results(self, tail: EventTail, load_id: str, version: int, commands: list[str]) -> Loaded:
        """Wait for the event of every lane, and of each of these commands."""
        missing = {f"{load_id}/catalog/catalog_loaded/{lane}" for lane in range(self.topics.partitions)}
        missing |= {f"{of}/done" for of in commands}
        total, said, refused, heard = len(missing), 0, list[str](), time.monotonic()
        while missing:
            ours = [raw for raw in await tail.poll(timeout_ms=1000) if load_id.encode() in raw]
            heard = time.monotonic() if ours else heard
            for event in _of_parts(ours, load_id):
                if event.type == EventType.COMMAND_REFUSED and isinstance(event.data, dict):
                    refused.append(str(event.data.get("reason")))
                    missing.discard(f"{event.cause}/done")
                    missing -= {of for of in missing if of.startswith(f"{OF_LOAD}{event.cause}/")}
                    missing.discard(f"{event.cause}/catalog_loaded/{event.data.get('lane')}")
                missing.discard(event.id)
            if (total - len(missing)) // 50 > said:
                said = (total - len(missing)) // 50
                self.say(f"applied {total - len(missing)} of {total} parts")
            if time.monotonic() - heard > QUIET_S:
                return Loaded(version, changed=True, applied=False, refused=refused)
        return Loaded(version, changed=True, applied=True, refused=refused)


_TOLD_OF_PARTS = re.compile(
    f'"type":"(?:{EventType.CATALOG_LOADED}|{EventType.COMMAND_DONE}|{EventType.COMMAND_REFUSED})"'.encode()
)


def _of_parts(found: list[bytes], load_id: str) -> Iterator[Event]:
    """Yield events that tell of a load's parts; those of its clients, by the million, take 6 µs to read."""
    for event in map(read_event, filter(_TOLD_OF_PARTS.search, found)):
        if event is not None and load_id in (event.cause or ""):
            yield event


def _sent(clients: int, parts: int) -> str:
    return f"{_counted(clients, 'client')} in {_counted(parts, 'part')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def notes_of(file: CatalogFile, present: Present, merged: Merged) -> list[str]:
    """Return sentences on what rows say that is unusual, matches nothing, or was read otherwise."""
    return [*warnings(file, present.content), *unmatched(merged.content, file), *merged.notes]


def _note(say: Say, file: CatalogFile, present: Present, merged: Merged) -> None:
    for note in notes_of(file, present, merged):
        say(f"note: {note}")


def _check_expected(present: Present, expected: int | None) -> None:
    if expected is not None and present.version != expected:
        raise Halt(
            f"another load came meanwhile (catalog {present.version}, not {expected}); nothing was changed: "
            "look at the difference again"
        )


def read_catalog(files: Sequence[Path]) -> CatalogFile:
    """Return what catalog files say by themselves, with their faults."""
    return read_files([(str(path), path.read_bytes()) for path in files], _beside(files))


def _beside(files: Sequence[Path]) -> Callable[[str], bytes]:
    """Return what opens the CSV parts that a catalog file names: beside the file, or by an absolute path."""
    folders = [path.parent for path in files]

    def opened(name: str) -> bytes:
        for folder in folders:
            path = folder / name
            if path.is_file():
                return path.read_bytes()
        raise FileNotFoundError(name)

    return opened
