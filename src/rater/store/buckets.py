"""The buckets in Redis: each method is one step of functions.lua (in Python: core/bucket/model.py).

Every method raises StoreDown when nothing was done, StoreUnknown when that is not known (take the lane again,
never
repeat), Halt when the configuration is at fault. Nothing is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from rater.core.bucket.messages import (
    DUE_HINTS_MAX,
    DUE_HOURS_MAX,
    EXPIRE_GENERATIONS_MAX,
    ClientWrite,
    CopiesReply,
    DrawReply,
    DrawRequest,
    DropReply,
    DueReply,
    FenceReply,
    MembersReply,
    PackedDraw,
    Reconcile,
    Status,
    ViewsReply,
    clients_of,
    unpack_results,
)
from rater.logins import Secret, Tls
from rater.store import dangers
from rater.store.link import Link
from rater.store.packing import (
    Args,
    changes,
    pack_draw,
    pack_reconcile,
    unpack_due,
    unpack_fence,
    unpack_outcomes,
    with_keys,
)
from rater.store.provisioning import is_provisioned, provision, unreadable
from rater.store.snapshots import SnapshotStore, head

Writes = Sequence[ClientWrite]


class ExpireReply(NamedTuple):
    """What a bucket dropped. call: number of the next call."""

    status: Status
    number: int
    dropped: int


class Buckets(SnapshotStore):
    """The store of clients, in `count` buckets."""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str,
        buckets: int,
        lanes: int,
        username: str | None = None,
        password: str | Secret | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
        fixes: bool = True,
    ) -> Self:
        """Connect, load the functions where absent or different, fix buckets and lanes at first use.

        username and password go before those in the URL. tls: of a URL with TLS; None: what it says behind
        its `?`. fixes: False: who only reads leaves a store that was emptied to those who write. Raises Halt
        when the store was provisioned with other numbers of buckets or lanes.
        """
        link = Link(url, username, password, timeout_s, tls)
        store = cls(link, prefix, buckets, lanes)
        try:
            await link.open()
            for address in await link.primaries():
                await store._library.load(address)
            await (provision if fixes else is_provisioned)(link, prefix, buckets, lanes)
        except BaseException:
            await link.close()
            raise
        return store

    async def close(self) -> None:
        """Close all connections."""
        await self._link.close()

    async def check(self) -> list[str]:
        """Return a sentence for each thing about the servers that must be changed, each with its remedy."""
        denied = await unreadable(self._link, self._prefix, len(self._keys))
        return denied + await self._library.check()

    async def remarks(self, *, asks_settings: bool = False) -> list[str]:
        """Return a sentence for each dangerous setting of the servers, with its remedy; see `dangers`."""
        return await dangers.remarks(self._link, len(self._keys), asks_settings=asks_settings)

    async def unseen(self) -> list[str]:
        """Return a sentence for each thing that `check` could not look at."""
        return await self._library.unseen()

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
            return head(reply)

    async def register(self, bucket: int, lane: int, token: int, number: int) -> tuple[Status, int]:
        """Note that the lane agrees with the bucket; the last of all lanes opens its gate."""
        argv = [lane, token, number, self.lanes]
        with self._understood(bucket, "register"):
            return head(await self._call(bucket, "register", Args(self._lane_keys(bucket, lane), argv)))

    # ------------------------------------------------------------------ rating
    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """Change clients, then draw: all of it, or nothing and a status."""
        args = pack_draw(request, self._keys[bucket])
        return await self._draw(bucket, args, clients_of(request), request.changes)

    async def draw_packed(self, bucket: int, packed: PackedDraw) -> DrawReply:
        """Draw, by a request that an engine has packed, which unpacks what came of it."""
        return await self._draw(bucket, with_keys(packed, self._keys[bucket]), packed.clients, None)

    async def _draw(self, bucket: int, args: Args, named: list[str], writes: Writes | None) -> DrawReply:
        """Return the answer. named: the clients of the request; writes: None, who asks unpacks what came."""
        function = "change" if changes(args) else "draw"
        with self._understood(bucket, function):
            reply = await self._call(bucket, function, args)
            status, number = head(reply)
            match status:
                case Status.OK:
                    woken, results = ([], []) if writes is None else unpack_results(reply[2])
                    return DrawReply(status, number, results, woken, packed=reply[2])
                case Status.STALE:
                    return await self._stale(bucket, [named[index] for index in reply[2]], number)
                case Status.DUE:
                    return DrawReply(status, number, due=unpack_due(reply[2], named, writes or ()))
                case Status.MORE:
                    return DrawReply(status, number, more=reply[2])
                case Status.UNSETTLED:
                    return DrawReply(status, number, unsettled=[(named[at], lane) for at, lane in reply[2]])
            return DrawReply(status, number)

    async def _stale(self, bucket: int, clients: list[str], number: int) -> DrawReply:
        """Return the answer STALE, with the states as they are now."""
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
        names += [keys.client + client for client in clients]
        names += map(keys.accounts, accounts)
        argv = [lane, token, number, len(clients), *accounts]
        with self._understood(bucket, "views"):
            reply = await self._call(bucket, "views", Args(names, argv))
            status, _ = head(reply)
            if status != Status.OK:
                return ViewsReply(status, {}, {})
            at = 2 + len(clients)
            found = list(zip(clients, reply[2:at], reply[at : at + len(clients)], strict=True))
            owners = zip(accounts, reply[at + len(clients) :], strict=True)
            return ViewsReply(
                status,
                {client: blob for client, blob, _ in found if blob is not None},
                {account: str(owner, "utf-8") for account, owner in owners if owner is not None},
                {client: int(balance or 0) for client, blob, balance in found if blob is not None},
            )

    async def kept(self, bucket: int, lane: int) -> list[tuple[int, bytes, bytes]]:
        """Return the outcomes that are kept of a lane: (call number, context, packed results)."""
        key = self._keys[bucket].outcomes(lane)
        with self._understood(bucket, "kept"):
            return unpack_outcomes(await self._link.ask(key, "HGETALL", key))

    async def list_copies(self, bucket: int, lane: int, token: int, number: int) -> CopiesReply:
        """Return the lane's changes that others went on from."""
        status = await self.probe(bucket, lane, token, number)
        if status != Status.OK:
            return CopiesReply(status)
        key = self._keys[bucket].copies(lane)
        return CopiesReply(status, (await self._link.ask(key, "HGETALL", key))[1::2])

    async def due(
        self, bucket: int, lane: int, token: int, number: int, upto: int, known: Mapping[int, int]
    ) -> DueReply:
        """Return the hints of hours up to `upto`; known: hour -> how many of it were read before."""
        hours = await self._hours(bucket, upto)
        found = DueReply(Status.OK)
        for at in range(0, len(hours) or 1, DUE_HOURS_MAX):
            part = hours[at : at + DUE_HOURS_MAX]
            names = [*self._lane_keys(bucket, lane), *map(self._keys[bucket].due, part)]
            room = DUE_HINTS_MAX - sum(len(hints) for _, hints in found.hints)
            argv = [lane, token, number, room, *(known.get(hour, 0) for hour in part)]
            with self._understood(bucket, "due"):
                reply = await self._call(bucket, "due", Args(names, argv))
                status, _ = head(reply)
                if status != Status.OK:
                    return DueReply(status)
                found.total += reply[2]
                found.hints += [
                    (part[place], hints) for place, hints in zip(reply[3::2], reply[4::2], strict=True)
                ]
        return found

    async def drop_due(
        self, bucket: int, lane: int, token: int, number: int, hour: int, length: int, upto: int
    ) -> DropReply:
        """Drop an hour's hints if they are `length` still, which the caller has read.

        The lowest hour moves to the next that has any, or behind `upto`, by DUE_HOURS_MAX hours at most.
        """
        hours = (await self._hours(bucket, upto))[:DUE_HOURS_MAX]
        name = self._keys[bucket].due
        names = [*self._lane_keys(bucket, lane), name(hour), *map(name, hours)]
        argv = [lane, token, number, length, hours[0] if hours else b""]
        with self._understood(bucket, "drop_due"):
            reply = await self._call(bucket, "drop_due", Args(names, argv))
            return DropReply(*head(reply), dropped=bool(reply[2]))

    async def _hours(self, bucket: int, upto: int) -> range:
        """Return the hours of the due index that may have hints, up to one."""
        gate = self._keys[bucket].gate
        first = await self._link.ask(gate, "HGET", gate, "due_min")
        return range(0) if first is None else range(int(first), upto + 1)

    async def list_members(
        self, bucket: int, lane: int, token: int, number: int, package: str, first: int, count: int
    ) -> MembersReply:
        """Return clients that were ever given a package: `count` of them from place `first` on, or fewer."""
        names = [*self._lane_keys(bucket, lane), self._keys[bucket].members(package)]
        with self._understood(bucket, "members"):
            reply = await self._call(bucket, "members", Args(names, [lane, token, number, first, count]))
            status, _ = head(reply)
            if status != Status.OK:
                return MembersReply(status)
            return MembersReply(status, [str(client, "utf-8") for client in reply[2]])

    async def probe(self, bucket: int, lane: int, token: int, number: int) -> Status:
        """Return whether a draw would be heard."""
        args = Args(self._lane_keys(bucket, lane), [lane, token, number])
        with self._understood(bucket, "probe"):
            return head(await self._call(bucket, "probe", args))[0]

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
            for at in range(0 if first is None else EXPIRE_GENERATIONS_MAX):
                names += (keys.generation(int(first) + at), keys.cells(int(first) + at))
            argv = [lane, token, number, self.lanes, length_ms, first or b"", lane_ms]
            reply = await self._call(bucket, "expire", Args(names, argv))
            return ExpireReply(*head(reply), reply[2])


def _pairs(fields: list[bytes]) -> dict[str, bytes]:
    """Return what HGETALL answered."""
    return {str(name, "utf-8"): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
