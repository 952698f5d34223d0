"""Calls older than the duplicate window: their ids are looked up in the journal (`--late`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rater.core.cdr import Arrival, Cdr, EveryService
from rater.core.journal.lookup import Lookup
from rater.core.journal.records import Effect, Headers
from rater.core.line.late import late_header
from rater.core.line.reading import Readable, read
from rater.core.sources.source_map import SourceMap
from rater.errors import Halt
from rater.stream.connecting import Connection
from rater.stream.journal import CutError, end_offsets, read_range
from rater.stream.topics import Topics

RECORDS_MAX = 100_000
"""So many records are looked up by one reading of the journal."""
BYTES_MAX = 64 * 2**20
"""And so many bytes of them, about."""

Passed = Callable[[int, int], None]
"""Called with the records of the journal that were read, and those to be read."""


class LookedUp(NamedTuple):
    """What becomes of a record. headers: what it is sent with besides; known: sides that the journal has.

    rateable: whether anything of it is left to rate, or to be rejected.
    """

    headers: Headers
    known: int
    rateable: bool


def call_of(record: Readable, source_map: SourceMap | None, now_ms: int) -> Cdr | None:
    """Return the call of a record, whatever its age; None: it is none, or is rejected as a whole."""
    found = read(record, Arrival(now_ms, now_ms, EveryService()), source_map)
    return found if isinstance(found, Cdr) else None


async def look_up_calls(
    client: Connection, topics: Topics, calls: Iterable[Cdr | None], passed: Passed | None = None
) -> list[LookedUp]:
    """Return what becomes of records, by their calls. Raises as `look_up`."""
    calls, at_ms, asked = list(calls), time.time_ns() // 1_000_000, Lookup()
    for call in calls:
        if call is not None:
            asked.ask(call)
    await look_up(client, topics, asked, passed)
    return [_become(call, asked, at_ms) for call in calls]


def _become(call: Cdr | None, asked: Lookup, at_ms: int) -> LookedUp:
    if call is None:
        return LookedUp([], 0, rateable=True)
    known = asked.known(call)
    rate = [name for name, _ in call.sides() if name not in known]
    return LookedUp([late_header(at_ms, known, rate)], len(known), rateable=bool(rate or call.rejected))


async def look_up(client: Connection, topics: Topics, asked: Lookup, passed: Passed | None = None) -> None:
    """Read the whole journal for what is asked.

    Raises Halt where the journal does not reach back to its beginning: what is gone may have been one of
    these calls.
    """
    if not len(asked):
        return
    ends = await end_offsets(client, topics.transactions, range(topics.partitions))
    total, done = sum(ends.values()), 0
    for lane, end in ends.items():
        try:
            async for records in read_range(client, topics.transactions, lane, 0, end):
                for _, _, value, said in records:
                    if value is not None and isinstance(said, Effect):
                        asked.see(value, said)
                if passed is not None:
                    passed(done + records[-1][0] + 1, total)
                await asyncio.sleep(0)
        except CutError as error:
            raise Halt(
                f"--late needs all of {topics.transactions}, and the first records of partition {lane} were "
                "removed: these may have been the calls that are asked for. Nothing more was sent; rate such "
                "calls by `rater rate`, and adjust the balances by `rater clients adjust`"
            ) from error
        done += end
