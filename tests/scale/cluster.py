"""A Redis or Valkey cluster of real processes: three primaries and a replica of each, or fewer.

It is asked for its own view of itself again and again: who is a primary changes as the tests hurt it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis as Client
from redis.crc import key_slot
from redis.exceptions import RedisError

from rater.local.child import HOST
from rater.local.redis import Flavour, Redis
from rater.local.server import free_ports

NODE_TIMEOUT_MS = 2000
"""Of silence, after which a node counts as failed. By default it is 15 s."""
SLOTS = 16_384
DEADLINE_S = 60.0
SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    "cluster-announce-ip": HOST,
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    "cluster-allow-replica-migration": "no",  # a node whose last slot has moved away stays what it is
    "cluster-replica-validity-factor": "0",  # a replica leads however old its copy is: the worst case
    "repl-diskless-sync-delay": "0",
}


class Seen(NamedTuple):
    """A node as another one sees it. master: the id of its primary, "" of a primary."""

    id: str
    port: int
    flags: str
    master: str
    slots: tuple[tuple[int, int], ...]

    @property
    def leads(self) -> bool:
        """Whether it is a primary that lives."""
        return "master" in self.flags and "fail" not in self.flags


class Cluster:
    """The nodes, by number: the primaries at first, then a replica of each."""

    def __init__(
        self, folder: Path, flavour: Flavour, *, primaries: int = 3, with_replicas: bool = True
    ) -> None:
        """Start the processes; `form` makes a cluster of them."""
        self.folder, self.flavour, self._primaries = folder, flavour, primaries
        count = 2 * primaries if with_replicas else primaries
        with ThreadPoolExecutor(count) as pool:
            self.nodes = list(pool.map(self._start, range(count)))

    def _start(self, number: int) -> Redis:
        settings = {**SETTINGS, "cluster-port": str(free_ports(1)[0])}
        return Redis.start(
            self.folder / f"node-{number}", flavour=self.flavour, append_only=True, settings=settings
        )

    async def form(self) -> None:
        """Share out the slots, let the nodes meet, and give each primary its replica."""
        share = SLOTS // self._primaries + 1
        for number, node in enumerate(self.nodes):
            await ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < self._primaries:
                last = min(SLOTS, (number + 1) * share) - 1
                await ask(node, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
        await self._meet(self.nodes[1:])
        for number, replica in enumerate(self.nodes[self._primaries :]):
            primary = str(await ask(self.nodes[number], "CLUSTER", "MYID"), "ascii")
            await ask(replica, "CLUSTER", "REPLICATE", primary)
        await self.sound()

    async def _meet(self, others: list[Redis]) -> None:
        first = self.nodes[0]
        for node in others:
            bus = (await ask(node, "CONFIG GET", "cluster-port"))["cluster-port"]
            await ask(first, "CLUSTER", "MEET", HOST, node.port, bus)

        async def met() -> bool:
            views = [await self.view(node) for node in self.nodes]
            return all(len(view) == len(self.nodes) for view in views)

        await until(met, "all nodes have met")

    async def join(self) -> Redis:
        """Let one more node join, an empty primary without slots or functions."""
        node = await asyncio.to_thread(self._start, len(self.nodes))
        self.nodes.append(node)
        await self._meet([node])
        await self.sound()
        return node

    def stop(self) -> None:
        """End the processes."""
        for node in self.nodes:
            node.kill()

    # ------------------------------------------------------------------ what it says of itself
    @property
    def urls(self) -> list[str]:
        """All nodes."""
        return [node.url for node in self.nodes]

    async def view(self, node: Redis) -> list[Seen]:
        """Return the nodes as one of them sees them."""
        found = []
        for address, told in (await ask(node, "CLUSTER NODES")).items():
            port = int(address.split("@")[0].rpartition(":")[2])
            slots = tuple((int(of[0]), int(of[-1])) for of in told["slots"])
            master = "" if told["master_id"] == "-" else told["master_id"]
            found.append(Seen(told["node_id"], port, told["flags"], master, slots))
        return found

    async def primary(self, slot: int, via: Redis | None = None) -> Redis:
        """Return who serves a slot, as a node sees it that answers."""
        while True:
            for node in [via] if via is not None else self.nodes:
                try:
                    view = await self.view(node)
                except (RedisError, OSError):
                    continue
                for seen in view:
                    if seen.leads and any(first <= slot <= last for first, last in seen.slots):
                        return self.at(seen.port)
            await asyncio.sleep(0.1)

    async def replica(self, primary: Redis) -> Redis:
        """Return a replica of a primary."""
        view = await self.view(primary)
        of = next(seen.id for seen in view if seen.port == primary.port)
        return self.at(next(seen.port for seen in view if seen.master == of))

    async def primaries(self) -> list[Redis]:
        """Return those that serve slots."""
        view = await self.view(self.nodes[0])
        return [self.at(seen.port) for seen in view if seen.leads and seen.slots]

    def at(self, port: int) -> Redis:
        """Return the node at a port."""
        return next(node for node in self.nodes if node.port == port)

    async def sound(self) -> None:
        """Wait until all nodes serve, agree on who has which slots, and all replicas follow."""

        async def whole() -> bool:
            try:
                told = [await ask(node, "CLUSTER INFO") for node in self.nodes]
                views = [await self.view(node) for node in self.nodes]
                roles = [await ask(node, "INFO", "replication") for node in self.nodes]
            except (RedisError, OSError):
                return False
            maps = {frozenset((seen.port, seen.slots) for seen in view if seen.leads) for view in views}
            return (
                len(maps) == 1
                and all(one["cluster_state"] == "ok" for one in told)
                and not any("fail" in seen.flags for view in views for seen in view)
                and all(role["role"] == "master" or role["master_link_status"] == "up" for role in roles)
            )

        await until(whole, "the cluster is sound")

    # ------------------------------------------------------------------ what is done to it
    @contextmanager
    def frozen(self, node: Redis) -> Iterator[None]:
        """Freeze a node (SIGSTOP), and let it go on afterwards."""
        node.pause()
        try:
            yield
        finally:
            node.resume()

    async def led_by_another(self, slot: int, before: Redis) -> Redis:
        """Wait until another node serves a slot, as the others see it; return it."""
        others = [node for node in self.nodes if node is not before]
        found = before

        async def another() -> bool:
            nonlocal found
            try:
                found = await self.primary(slot, others[0])
            except (RedisError, OSError):
                return False
            return found is not before and (await ask(found, "CLUSTER INFO"))["cluster_state"] == "ok"

        await until(another, f"another node serves slot {slot}")
        return found

    async def move_by_keys(self, slot: int, target: Redis, rest_s: float) -> None:
        """Move a slot key by key, and rest when half of its keys have moved."""
        source = await self.primary(slot)
        ids = {node: str(await ask(node, "CLUSTER", "MYID"), "ascii") for node in (source, target)}
        await ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100_000)
        assert keys
        for number, key in enumerate(keys):
            await ask(source, "MIGRATE", HOST, target.port, key, 0, 5000)
            if number == len(keys) // 2:
                await asyncio.sleep(rest_s)
        while keys := await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100_000):  # those made meanwhile
            for key in keys:
                await ask(source, "MIGRATE", HOST, target.port, key, 0, 5000)
        for node in (target, source):
            await ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    async def move_at_once(self, slot: int, target: Redis) -> None:
        """Move a slot as a whole, as Valkey 9 can."""
        source = await self.primary(slot)
        of = str(await ask(target, "CLUSTER", "MYID"), "ascii")
        await ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", of)

        async def done() -> bool:
            jobs = await ask(source, "CLUSTER", "GETSLOTMIGRATIONS")
            states = {job[b"state"] for job in jobs}
            assert not {b"failed", b"canceled"} & states, jobs
            return states == {b"success"}

        await until(done, f"slot {slot} has moved")


def slot_of(bucket: int) -> int:
    """Return the slot of a bucket: its number is the tag of its keys."""
    return int(key_slot(f"{{{bucket}}}".encode()))


async def ask(node: Redis, *command: Any) -> Any:
    """Send a command to a node."""
    async with Client.from_url(node.url, socket_timeout=5, socket_connect_timeout=5) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.1)
