"""How far back a rebuild of Redis reaches: the journal's beginning, and the last rounds of snapshots."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition

from rater.core.instants import HOUR_MS
from rater.core.journal.snapshots import RoundHead, reach_of, read_head
from rater.stream.connecting import Connection, reading
from rater.stream.journal import DEADLINE_S, STEP_BACK, read_until
from rater.stream.topics import Topics, configured


async def last_rounds(client: Connection, topics: Topics, buckets: int) -> dict[int, RoundHead]:
    """Return the last round of each bucket that has one, by the end of the topic. Raises StreamDown, Halt.

    One of more lanes, or of another number of buckets, is none.
    """
    found: dict[int, RoundHead] = {}
    for partition in range(topics.partitions):
        wanted = {bucket for bucket in range(buckets) if bucket % topics.partitions == partition}
        place = TopicPartition(topics.snapshots, partition)
        async with reading(client, [place], deadline_s=DEADLINE_S) as reader:
            first = (await reader.beginning_offsets([place]))[place]
            start = end = (await reader.end_offsets([place]))[place]
            back = STEP_BACK
            while start > first and not wanted <= found.keys():
                start, upto = max(first, end - back), start
                rounds: dict[int, RoundHead] = {}
                async for records in read_until(reader, place, start, upto, DEADLINE_S):
                    heads = [read_head(record.headers) for record in records]
                    rounds |= {head.bucket: head for head in heads if isinstance(head, RoundHead)}
                found = {**rounds, **found}
                back *= 4
    return {at: head for at, head in found.items() if head.counts(topics.partitions, buckets)}


async def uncovered(client: Connection, topics: Topics, buckets: int) -> list[str]:
    """Return a sentence for each lane whose journal is cut shorter than snapshots reach, if it is kept so.

    Where it is kept for ever again, what has been removed is removed: workers may go on with what Redis has,
    and write snapshots. Raises StreamDown, Halt.
    """
    firsts = await _beginnings(client, topics)
    kept = (await configured(client, [topics.transactions])).get(topics.transactions, {})
    if not any(firsts.values()) or kept.get("retention.ms") == "-1":
        return []
    rounds = await last_rounds(client, topics, buckets)
    return [
        f"{topics.transactions}[{lane}] begins at offset {first}, and snapshots reach back to "
        f"{'nothing' if reach is None else reach} of it: a lost Redis could not be rebuilt; set retention.ms "
        f"of {topics.transactions} to -1 until each bucket has a round of snapshots (`rater check` tells)"
        for lane, first in firsts.items()
        if first and ((reach := _reach(rounds, lane, buckets)) is None or reach < first)
    ]


def _reach(rounds: Mapping[int, RoundHead], lane: int, buckets: int) -> int | None:
    """Return the offset of a lane's journal from which all buckets can be rebuilt; None: from none."""
    if len(rounds) < buckets:
        return None
    return min(reach_of(found.positions, lane) for found in rounds.values())


async def _beginnings(client: Connection, topics: Topics) -> dict[int, int]:
    places = [TopicPartition(topics.transactions, lane) for lane in range(topics.partitions)]
    async with reading(client, places, deadline_s=DEADLINE_S) as reader:
        found = await reader.beginning_offsets(places)
    return {place.partition: first for place, first in found.items()}


async def remarks(client: Connection, topics: Topics, buckets: int, every_s: int, now_ms: int) -> list[str]:
    """Return sentences on snapshots that are missing or old: a lost Redis takes longer to come back then.

    every_s: how often they are written, 0: never. Raises StreamDown, Halt.
    """
    if not every_s:
        return [f"{topics.snapshots}: none are written (worker.snapshots_every_s is 0): {_WHOLE}"]
    rounds = await last_rounds(client, topics, buckets)
    lacking = sorted(set(range(buckets)) - rounds.keys())
    if lacking:
        names = ", ".join(map(str, lacking))
        return [f"{topics.snapshots}: no round has ended yet of buckets {names}: until then {_WHOLE}"]
    oldest_ms = now_ms - min(found.at_ms for found in rounds.values())
    if oldest_ms > 2000 * every_s:
        ago, due = f"{oldest_ms / HOUR_MS:.0f} h ago", f"{every_s / 3600:g} h"
        why = f"and one is due every {due}: look in the workers' logs why none ends"
        return [f"{topics.snapshots}: the oldest round began {ago}, {why}"]
    return []


_WHOLE = "a lost Redis is rebuilt from the whole of the journal"
