"""Clients as Redis holds them, read beside the line: no lane asks, no gate is asked, nothing is changed.

Raises as `Buckets` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from rater.core.bucket.messages import bucket_of
from rater.store.keys import Keys, client_of, states_pattern
from rater.store.link import Link

_READ_MAX = 1000  # keys of one reading command
_SCAN_COUNT = 1000


class StoredClient(NamedTuple):
    """A client: its state, balance in micros, what is used of its counters, and periods that have left it.

    history: CLIENT_PACKAGE.PERIOD -> row.
    """

    state: bytes
    balance: int
    counters: dict[str, int]
    history: dict[str, bytes]


class StoredClients:
    """The clients of `count` buckets, for people and for questions."""

    def __init__(self, link: Link, prefix: str, buckets: int) -> None:
        """Read by this connection what lies under the prefix."""
        self.count = buckets
        self._link = link
        self._prefix = prefix
        self._keys = [Keys(prefix, bucket, buckets) for bucket in range(buckets)]

    async def client(self, client: str) -> tuple[bytes, int, dict[str, int]] | None:
        """Return (state, balance in micros, counter field -> used), None when there is no such client.

        The state and the sums are read one after the other: a draw may lie between.
        """
        bucket = bucket_of(client, self.count)
        keys = self._keys[bucket]
        state = await self._link.ask(keys.gate, "GET", keys.client_state + client)
        if state is None:
            return None
        fields = await self._link.ask(keys.gate, "HGETALL", keys.client + client)
        return state, *_sums(fields)

    async def several(self, clients: Iterable[str]) -> dict[str, StoredClient]:
        """Return those of the clients that exist; of a bucket all are asked for at once.

        The state, the sums and the history of a client are read one after the other, as by `client`.
        """
        out: dict[str, StoredClient] = {}
        for bucket, names in self._by_bucket(clients).items():
            keys = self._keys[bucket]
            asked: list[tuple[str, ...]] = [("MGET", *(keys.client_state + name for name in names))]
            asked += [("HGETALL", keys.client + name) for name in names]
            asked += [("HGETALL", keys.history(name)) for name in names]
            states, *found = await self._link.ask_several(keys.gate, asked)
            rows = zip(names, states, found[: len(names)], found[len(names) :], strict=True)
            for name, state, sums, history in rows:
                if state is not None:
                    out[name] = StoredClient(state, *_sums(sums), _history(history))
        return out

    async def history(self, client: str) -> dict[str, bytes]:
        """Return the periods of a client that have left its state: CLIENT_PACKAGE.PERIOD -> row."""
        key = self._keys[bucket_of(client, self.count)].history(client)
        return _history(await self._link.ask(key, "HGETALL", key))

    async def assigned(self, packages: Iterable[str]) -> frozenset[str]:
        """Return those of the packages that some client has or had, as the indexes of their clients tell."""
        asked = [(of, keys.members(of)) for of in packages for keys in self._keys]
        return frozenset([of for of, key in asked if await self._link.ask(key, "EXISTS", key)])

    async def members(self, package: str) -> AsyncIterator[str]:
        """Yield the id of each client that has or had the package, once, in no order.

        What a version before assigned comes to the index when its client is taken over.
        """
        for keys in self._keys:
            key, first, seen = keys.members(package), 0, set[bytes]()
            while names := await self._link.ask(key, "LRANGE", key, first, first + _SCAN_COUNT - 1):
                for name in names:
                    if name not in seen:
                        seen.add(name)
                        yield str(name, "utf-8")
                first += len(names)

    async def states(self, clients: Iterable[str]) -> dict[str, bytes]:
        """Return the states of those clients that exist."""
        found: dict[str, bytes] = {}
        for bucket, names in self._by_bucket(clients).items():
            base = self._keys[bucket].client_state
            blobs = await self._read(bucket, [base + name for name in names])
            found |= {name: blob for name, blob in zip(names, blobs, strict=True) if blob is not None}
        return found

    async def accounts(self, accounts: Iterable[str]) -> dict[str, str]:
        """Return the clients of those accounts that exist."""
        found: dict[str, str] = {}
        for bucket, names in self._by_bucket(accounts).items():
            shards: defaultdict[str, list[str]] = defaultdict(list)
            for name in names:
                shards[self._keys[bucket].accounts(name)].append(name)
            for key, members in shards.items():
                for at in range(0, len(members), _READ_MAX):
                    asked = members[at : at + _READ_MAX]
                    owners = await self._link.ask(key, "HMGET", key, *asked)
                    pairs = zip(asked, owners, strict=True)
                    found |= {name: str(owner, "utf-8") for name, owner in pairs if owner is not None}
        return found

    async def scan_clients(self) -> AsyncIterator[str]:
        """Yield the id of each client, once, in no order; those made meanwhile may be missing."""
        seen: set[str] = set()
        for address in await self._link.primaries():
            cursor = b"0"
            while True:
                cursor, names = await self._link.ask_at(
                    address, "SCAN", cursor, "MATCH", states_pattern(self._prefix), "COUNT", _SCAN_COUNT
                )
                for name in names:
                    client = client_of(self._prefix, str(name, "utf-8"))
                    if client is not None and client not in seen:
                        seen.add(client)
                        yield client
                if cursor == b"0":
                    break

    def _by_bucket(self, names: Iterable[str]) -> dict[int, list[str]]:
        grouped: defaultdict[int, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            grouped[bucket_of(name, self.count)].append(name)
        return grouped

    async def _read(self, bucket: int, names: list[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(names), _READ_MAX):
            found += await self._link.ask(self._keys[bucket].gate, "MGET", *names[at : at + _READ_MAX])
        return found


def _sums(fields: list[bytes]) -> tuple[int, dict[str, int]]:
    """Return the balance and what is used of each counter, as a client's hash has them."""
    sums = {str(name, "utf-8"): int(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}
    sums.pop("v", None)
    return sums.pop("b", 0), sums


def _history(found: list[bytes]) -> dict[str, bytes]:
    rows = zip(found[::2], found[1::2], strict=True)
    return {str(field, "utf-8"): row.partition(b":")[2] for field, row in rows}
