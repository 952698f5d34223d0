"""The buckets in Redis: each method is one step of functions.lua (in Python: core/bucket/model.py).

Every method raises StoreDown when nothing was done, StoreUnknown when that is not known (take the lane again,
never
repeat), Halt when the configuration is at fault. Nothing is repeated here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from msgspec import MsgspecError

from rater.core.bucket.messages import (
    EXPIRE_GENERATIONS_MAX,
    DrawReply,
    DrawRequest,
    FenceReply,
    Reconcile,
    Status,
    ViewsReply,
    bucket_of,
    clients_of,
    unpack_results,
)
from rater.errors import Halt
from rater.store.keys import Keys, client_of, states_pattern
from rater.store.link import FunctionMissing, Link
from rater.store.packing import Args, changes, pack_draw, pack_reconcile, unpack_due, unpack_fence
from rater.store.provisioning import LIBRARY, Library, provision

_READ_MAX = 1000  # keys of one reading command
_SCAN_COUNT = 1000


class ExpireReply(NamedTuple):
    """What a bucket dropped. call: number of the next call."""

    status: Status
    number: int
    dropped: int


class Buckets:
    """The store of clients, in `count` buckets."""

    def __init__(self, link: Link, *, prefix: str, buckets: int, lanes: int) -> None:
        """Use `connect`."""
        self.count = buckets
        self.lanes = lanes
        self._link = link
        self._prefix = prefix
        self._keys = [Keys(prefix, bucket, buckets) for bucket in range(buckets)]
        self._library = Library(link)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str,
        buckets: int,
        lanes: int,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = 5.0,
    ) -> Self:
        """Connect, load the functions where absent or different, fix buckets and lanes at first use.

        username and password go before those in the URL. Raises Halt when the store was provisioned with
        other numbers of buckets or lanes.
        """
        link = Link(url, username, password, timeout_s)
        store = cls(link, prefix=prefix, buckets=buckets, lanes=lanes)
        try:
            await link.open()
            for address in await link.primaries():
                await store._library.load(address)
            await provision(link, prefix, buckets, lanes)
        except BaseException:
            await link.close()
            raise
        return store

    async def close(self) -> None:
        """Close all connections."""
        await self._link.close()

    async def check(self) -> list[str]:
        """Return a sentence for each thing about the servers that must be changed, each with its remedy."""
        return await self._library.check()

    # ------------------------------------------------------------------ taking a lane
    async def fence(self, bucket: int, lane: int, token: int) -> FenceReply:
        """Make `token` the lane's owner; returns what the bucket keeps of the lane."""
        keys = self._keys[bucket]
        names = [keys.gate, keys.lane(lane), keys.outcomes(lane)]
        with self._understood(bucket, "fence"):
            return unpack_fence(await self._call(bucket, "fence", Args(names, [lane, token])))

    async def reconcile(self, bucket: int, what: Reconcile) -> tuple[Status, int]:
        """Add corrections; returns (status, number of the next call)."""
        with self._understood(bucket, "reconcile"):
            reply = await self._call(bucket, "reconcile", pack_reconcile(what, self._keys[bucket]))
            return _head(reply)

    async def register(self, bucket: int, lane: int, token: int, number: int) -> tuple[Status, int]:
        """Note that the lane agrees with the bucket; the last of all lanes opens its gate."""
        argv = [lane, token, number, self.lanes]
        with self._understood(bucket, "register"):
            return _head(await self._call(bucket, "register", Args(self._lane_keys(bucket, lane), argv)))

    # ------------------------------------------------------------------ rating
    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """Change clients, then draw: all of it, or nothing and a status."""
        keys = self._keys[bucket]
        args = pack_draw(request, keys)
        function = "change" if changes(request) else "draw"
        with self._understood(bucket, function):
            reply = await self._call(bucket, function, args)
            status, number = _head(reply)
            match status:
                case Status.OK:
                    woken, results = unpack_results(reply[2])
                    return DrawReply(status, number, results, woken, [], reply[2])
                case Status.STALE:
                    return await self._stale(bucket, request, number, reply[2])
                case Status.DUE:
                    return DrawReply(status, number, due=unpack_due(reply[2], request))
                case Status.MORE:
                    return DrawReply(status, number, more=reply[2])
            return DrawReply(status, number)

    async def _stale(self, bucket: int, request: DrawRequest, number: int, indices: list[int]) -> DrawReply:
        """Return the answer STALE, with the states as they are now."""
        named = clients_of(request)
        clients = [named[index] for index in indices]
        base = self._keys[bucket].client_state
        fresh = await self._read(bucket, [base + client for client in clients])
        if None in fresh:  # emptied since the script ran
            return DrawReply(Status.REGRESSED, number)
        stale = [(client, blob) for client, blob in zip(clients, fresh, strict=True) if blob is not None]
        return DrawReply(Status.STALE, number, stale=stale)

    async def views(
        self, bucket: int, lane: int, token: int, number: int, clients: list[str], accounts: list[str]
    ) -> ViewsReply:
        """Return client states and account index entries; what is absent does not exist."""
        keys = self._keys[bucket]
        names = self._lane_keys(bucket, lane)
        names += [keys.client_state + client for client in clients]
        names += map(keys.accounts, accounts)
        argv = [lane, token, number, len(clients), *accounts]
        with self._understood(bucket, "views"):
            reply = await self._call(bucket, "views", Args(names, argv))
            status, _ = _head(reply)
            if status != Status.OK:
                return ViewsReply(status, {}, {})
            at = 2 + len(clients)
            states = zip(clients, reply[2:at], strict=True)
            owners = zip(accounts, reply[at:], strict=True)
            return ViewsReply(
                status,
                {client: blob for client, blob in states if blob is not None},
                {account: str(owner, "utf-8") for account, owner in owners if owner is not None},
            )

    async def probe(self, bucket: int, lane: int, token: int, number: int) -> Status:
        """Return whether a draw would be heard."""
        args = Args(self._lane_keys(bucket, lane), [lane, token, number])
        with self._understood(bucket, "probe"):
            return _head(await self._call(bucket, "probe", args))[0]

    async def expire(
        self, bucket: int, lane: int, token: int, number: int, lane_ms: int, length_ms: int
    ) -> ExpireReply:
        """Drop duplicate generations that no lane can ask for any more, and note the lane's time.

        lane_ms: the highest record time of the lane so far. length_ms: of a generation. At most
        EXPIRE_GENERATIONS_MAX are dropped in one call.
        """
        keys = self._keys[bucket]
        with self._understood(bucket, "expire"):
            first = await self._link.ask(keys.gate, "HGET", keys.gate, "gen_min")
            names = self._lane_keys(bucket, lane)
            if first is not None:
                names += [keys.generation(int(first) + ahead) for ahead in range(EXPIRE_GENERATIONS_MAX)]
            argv = [lane, token, number, self.lanes, length_ms, first or b"", lane_ms]
            reply = await self._call(bucket, "expire", Args(names, argv))
            return ExpireReply(*_head(reply), reply[2])

    # ------------------------------------------------------------------ reading, for people
    async def client(self, client: str) -> tuple[bytes, int, dict[str, int]] | None:
        """Return (state, balance in micros, counter field -> used), None when there is no such client.

        The state and the sums are read one after the other: a draw may lie between.
        """
        bucket = bucket_of(client, self.count)
        keys = self._keys[bucket]
        state = await self._link.ask(keys.gate, "GET", keys.client_state + client)
        if state is None:
            return None
        fields = _pairs(await self._link.ask(keys.gate, "HGETALL", keys.client + client))
        sums = {name: int(value) for name, value in fields.items()}
        sums.pop("v", None)
        return state, sums.pop("b", 0), sums

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
                owners = await self._link.ask(key, "HMGET", key, *members)
                pairs = zip(members, owners, strict=True)
                found |= {name: str(owner, "utf-8") for name, owner in pairs if owner is not None}
        return found

    async def assigned(self, packages: Iterable[str]) -> frozenset[str]:
        """Return those of the packages that some client has or had, as the indexes of their clients tell."""
        asked = [(of, keys.gate, keys.members(of)) for of in packages for keys in self._keys]
        return frozenset([of for of, gate, key in asked if await self._link.ask(gate, "EXISTS", key)])

    async def history(self, client: str) -> dict[str, bytes]:
        """Return what of a client's earlier periods was kept: CLIENT_PACKAGE.PERIOD → the row."""
        keys = self._keys[bucket_of(client, self.count)]
        return _pairs(await self._link.ask(keys.gate, "HGETALL", keys.history + client))

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

    async def _call(self, bucket: int, function: str, args: Args) -> Any:
        key = self._keys[bucket].gate
        name = f"{LIBRARY}_{function}"
        try:
            return await self._link.ask(key, "FCALL", name, len(args.keys), *args.keys, *args.argv)
        except FunctionMissing:
            await self._library.load(await self._link.address(key))
            raise


def _head(reply: list[Any]) -> tuple[Status, int]:
    """Return what every reply begins with: the status and the number of the next call."""
    status, number, *_ = reply
    return Status(status), int(number)


def _pairs(fields: list[bytes]) -> dict[str, bytes]:
    """Return what HGETALL answered."""
    return {str(name, "utf-8"): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
