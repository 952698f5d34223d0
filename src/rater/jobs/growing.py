"""`rater topics grow`: more partitions and so more lanes, while no worker runs (decision 0129).

In this order, each step harmless when it comes twice, so that whoever was interrupted begins again: topics,
`rater.commands` last of them; the newest catalog's manifest into each new partition of that, for lanes rate
by what they read there; the number of lanes in Redis. Until that is there no worker starts, neither with the
old number of partitions nor with the new one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from rater.core.commands.records import ManifestArgs, manifest_of, write_command
from rater.core.kinds import Do
from rater.errors import Fenced, Halt
from rater.jobs.load import Loader, Present
from rater.store.link import Link
from rater.store.provisioning import provisioned, widen
from rater.stream.content import Writer
from rater.stream.group import member_count
from rater.stream.journal import Owner, control_record, end_offset, read_range
from rater.stream.partitions import add_partitions
from rater.stream.topics import Topics, missing, partition_counts


class Growing:
    """Adds partitions to the system's own topics. A source's own topic may have fewer: it stays as it is."""

    def __init__(self, loader: Loader, link: Link, prefix: str, buckets: int, group: str) -> None:
        """loader: on the topics with the new number. prefix, buckets: of Redis. group: of the workers."""
        self._loader, self._link = loader, link
        self._prefix, self._buckets, self._group = prefix, buckets, group
        self._topics: Topics = loader.topics

    async def grow(self) -> int:
        """Do it; returns how many lanes there were. Raises Halt, before anything is changed, and Wait."""
        topics, wanted = self._topics, self._topics.partitions
        own = [topics.transactions, topics.rejected, topics.events, topics.snapshots, topics.cdrs]
        counts = await partition_counts(self._loader.client, [*own, topics.commands])
        lanes = await self._provisioned(counts)
        if lanes == wanted:  # which is noted last
            return lanes
        before = await self._before(counts, lanes)
        for names in (own, [topics.commands]):
            lacking = [name for name in names if (counts[name] or 0) < wanted]
            if lacking:
                await add_partitions(self._loader.client, lacking, wanted)
        await self._hand_on_catalog()
        await widen(self._link, self._prefix, self._buckets, wanted)
        return before

    async def _provisioned(self, counts: Mapping[str, int | None]) -> int | None:
        """Return how many lanes Redis knows, None: it is empty. Raises Halt for what is wrong anyhow."""
        absent = [missing(name) for name, count in counts.items() if count is None]
        if absent:
            raise Halt("\n".join(absent))
        buckets, lanes = await provisioned(self._link, self._prefix)
        if buckets not in {None, self._buckets}:
            raise Halt(
                f"redis.buckets is {self._buckets}, but Redis was first used with {buckets}: set it back"
            )
        return lanes

    async def _before(self, counts: Mapping[str, int | None], lanes: int | None) -> int:
        """Return how many lanes there are so far. Raises Halt where no more can be had."""
        wanted, topics = self._topics.partitions, self._topics
        found = {name: count or 0 for name, count in counts.items() if name != topics.snapshots}
        above = [f"{name} has {count}" for name, count in found.items() if count > wanted]
        if above:
            raise Halt(
                f"topics.partitions is {wanted}, but {', '.join(above)}: partitions cannot be taken away; "
                "set topics.partitions to the highest of these numbers"
            )
        # Of a run that was interrupted: `rater.commands` has grown last, and the number in Redis behind it.
        before = min([*found.values(), *([] if lanes is None else [lanes])])
        if self._buckets > before:
            raise Halt(
                f"redis.buckets is {self._buckets}, more than the {before} partitions so far: the commands "
                f"of buckets {before} and above would go to other lanes than before, and out of order after "
                "a loss of Redis; partitions can be added where there are as many as buckets, or more. "
                "Nothing was changed"
            )
        workers = await member_count(self._loader.client, self._group)
        if workers:
            raise Halt(
                f"{workers} {'worker runs' if workers == 1 else 'workers run'} in the group {self._group}: "
                "stop all of them, which drain, then do it again; nothing was changed"
            )
        return before

    async def _hand_on_catalog(self) -> None:
        """Write the newest catalog's manifest into partitions that have none of it."""
        loader, commands = self._loader, self._topics.commands
        everywhere = [(commands, lane) for lane in range(self._topics.partitions)]
        writer = Writer(loader.client, f"{self._topics.prefix}catalog", everywhere)
        await writer.open()  # a load that is under way is fenced by it
        try:
            # As a load does: what was loaded before lies below a record of our own.
            (own,) = await writer.write([(commands, 0, *control_record(Owner(loader.actor, "grow")))])
            present = await loader.current(own)
            lacking = [lane for _, lane in everywhere if present.version > await self._newest(lane)]
            if lacking:
                await self._write(writer, present, lacking)
        except Fenced:
            raise Halt("a load began meanwhile; wait until it has ended, then do it again") from None
        finally:
            await writer.close()

    async def _newest(self, lane: int) -> int:
        """Return the newest version that a partition of the commands has a manifest of, 0: of none."""
        client, commands = self._loader.client, self._topics.commands
        newest = 0
        async for records in read_range(client, commands, lane, 0, await end_offset(client, commands, lane)):
            for _, _, raw, _ in records:
                args = manifest_of(raw)
                newest = max(newest, 0 if args is None else args.version)
        return newest

    async def _write(self, writer: Writer, present: Present, lanes: list[int]) -> None:
        """Write a catalog's manifest into these partitions, all or none."""
        command_id = f"grown/{uuid.uuid4().hex}"
        at_ms = int(time.time()) * 1000
        args = ManifestArgs(present.version, present.offset)
        value = write_command(
            command_id, Do.LOAD_CATALOG, at_ms, args, actor=self._loader.actor, reason="partitions were added"
        )
        commands, key = self._topics.commands, command_id.encode()
        await writer.write([(commands, lane, key, value, []) for lane in lanes])
