"""Calls of functions.lua, and those that snapshots are made by and put in place with (PROTOCOL.md 3).

Raises as `Buckets` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import MsgspecError

from rater.core.bucket.messages import Status
from rater.core.bucket.restoring import ClientRow, ReadReply, Restore, RestoreReply
from rater.errors import Halt
from rater.store.keys import kind_of
from rater.store.link import Address, FunctionMissing, Link
from rater.store.packing import Args, pack_restore, unpack_outcomes
from rater.store.provisioning import LIBRARY, Library
from rater.store.stored_clients import StoredClients

SCAN_COUNT = 500
"""Keys looked at by one page of `scan`, about."""
CLIENTS, PACKAGES = "r", "p"
"""Kinds of keys: of a client's register, of a package's members."""


class SnapshotStore(StoredClients):
    """The store as snapshots are made of it, and as it is put in place by them."""

    def __init__(self, link: Link, prefix: str, buckets: int, lanes: int) -> None:
        """Use `Buckets.connect`."""
        super().__init__(link, prefix, buckets)
        self.lanes = lanes
        self._library = Library(link)

    async def read_clients(
        self, bucket: int, lane: int, token: int, number: int, clients: Sequence[str]
    ) -> ReadReply:
        """Return clients with all that is kept, as of one instant."""
        keys = self._keys[bucket]
        names = self._lane_keys(bucket, lane)
        for each in range(self.lanes):
            names += (keys.lane(each), keys.outcomes(each), keys.copies(each))
        for client in clients:
            names += (keys.client + client, keys.client_state + client, keys.history(client))
        argv = [lane, token, number, self.lanes, len(clients)]
        with self._understood(bucket, "read"):
            reply = await self._call(bucket, "read", Args(names, argv))
            status, _ = head(reply)
            if status != Status.OK:
                return ReadReply(status)
            floors, outcomes, copies, *rows = reply[2:]
            return ReadReply(
                status,
                floors,
                [
                    (of, context, packed)
                    for of, fields in enumerate(outcomes)
                    for _, context, packed in unpack_outcomes(fields)
                ],
                [(of, copy) for of, fields in enumerate(copies) for copy in fields[1::2]],
                [
                    _row(client, *rows[3 * at : 3 * at + 3])
                    for at, client in enumerate(clients)
                    if rows[3 * at] is not None
                ],
            )

    async def restore(self, bucket: int, what: Restore) -> RestoreReply:
        """Put a part of what snapshots say in place, or ask how far a bucket is."""
        with self._understood(bucket, "restore"):
            reply = await self._call(bucket, "restore", pack_restore(what, self._keys[bucket], self.lanes))
            status, number = head(reply)
            if status != Status.OK:
                return RestoreReply(status, number)
            whole, floor, base = reply[2:]
            return RestoreReply(status, number, None if whole < 0 else whole, floor, base)

    async def rows(self, bucket: int, clients: Sequence[str]) -> list[ClientRow]:
        """Return clients of a bucket, read one after the other: whoever changes them is to rest."""
        keys, ask = self._keys[bucket], self._link.ask
        states = await self._read(bucket, [keys.client_state + client for client in clients])
        there = [(client, state) for client, state in zip(clients, states, strict=True) if state is not None]
        sums = await asyncio.gather(*(ask(keys.gate, "HGETALL", keys.client + client) for client, _ in there))
        history = await asyncio.gather(
            *(ask(keys.gate, "HGETALL", keys.history(client)) for client, _ in there)
        )
        return [_row(*of, *held) for of, held in zip(there, zip(sums, history, strict=True), strict=True)]

    async def masters(self, buckets: Sequence[int]) -> list[Address]:
        """Return the server of each bucket, as far as is known."""
        return [await self._link.address(self._keys[bucket].gate) for bucket in buckets]

    async def scan(self, address: Address) -> AsyncIterator[list[tuple[int, str, str]]]:
        """Yield, page by page, (bucket, kind, name) of the clients and the packages that have keys there.

        All that is there the whole time is among them, perhaps twice.
        """
        cursor = b"0"
        while True:
            cursor, names = await self._link.ask_at(
                address, "SCAN", cursor, "MATCH", f"{self._prefix}{{*}}:?:*", "COUNT", SCAN_COUNT
            )
            found = [kind_of(self._prefix, str(name, "utf-8")) for name in names]
            yield [one for one in found if one is not None and one[1] in (CLIENTS, PACKAGES)]
            if cursor == b"0":
                return

    async def keys_at(self, address: Address) -> int:
        """Return how many keys a server has, of whoever."""
        found = str(await self._link.ask_at(address, "INFO", "keyspace"), "utf-8", "replace")
        return sum(
            int(part.partition("keys=")[2].partition(",")[0]) for part in found.split() if "keys=" in part
        )

    async def account_shard(self, bucket: int, shard: int) -> list[tuple[str, str]]:
        """Return a part of a bucket's account index: (account, client). shard: below ACCOUNT_SHARDS."""
        key = self._keys[bucket].account_shard(shard)
        found = await self._link.ask(key, "HGETALL", key)
        return [
            (str(account, "utf-8"), str(client, "utf-8"))
            for account, client in zip(found[::2], found[1::2], strict=True)
        ]

    async def first_member(self, bucket: int, package: str) -> str | None:
        """Return one client that was ever given a package; None: there is none in the bucket."""
        key = self._keys[bucket].members(package)
        found = await self._link.ask(key, "LRANGE", key, 0, 0)
        return str(found[0], "utf-8") if found else None

    # ------------------------------------------------------------------ inside
    @contextmanager
    def _understood(self, bucket: int, function: str) -> Iterator[None]:
        """Turn a reply that is none of the function's into a Halt: time does not heal it."""
        try:
            yield
        except (LookupError, TypeError, ValueError, MsgspecError) as error:
            raise Halt(
                f"Redis answered {LIBRARY}_{function} at {self._keys[bucket].gate} with what this version "
                f"cannot read ({type(error).__name__}: {error}). Load this version's functions.lua there, "
                f"and let nothing else write keys that begin with {self._prefix}{{"
            ) from error

    def _lane_keys(self, bucket: int, lane: int) -> list[str]:
        return [self._keys[bucket].gate, self._keys[bucket].lane(lane)]

    async def _call(self, bucket: int, function: str, args: Args) -> Any:
        key = self._keys[bucket].gate
        name = f"{LIBRARY}_{function}"
        try:
            return await self._link.ask(key, "FCALL", name, len(args.keys), *args.keys, *args.argv)
        except FunctionMissing:
            await self._library.load(await self._link.address(key))
            raise


def head(reply: list[Any]) -> tuple[Status, int]:
    """Return what every reply begins with: the status and the number of the next call."""
    status, number, *_ = reply
    return Status(status), int(number)


def _row(client: str, state: bytes, sums: list[bytes], history: list[bytes]) -> ClientRow:
    counters = {str(name, "utf-8"): int(value) for name, value in zip(sums[::2], sums[1::2], strict=True)}
    version, balance = counters.pop("v", 0), counters.pop("b", 0)
    rows = []
    for field, text in zip(history[::2], history[1::2], strict=True):
        by, _, row = text.partition(b":")
        rows.append((str(field, "utf-8"), int(by), row))
    return ClientRow(client, version, state, balance, counters, rows)
