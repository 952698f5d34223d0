"""`rater recycle`: rejected records go to their source's topic again, each once.

What is sent, and that it was, are one Kafka transaction (`core/line/recycling.py`): whoever is killed has
sent a record and noted it, or neither. Whether a call is rated is the line's affair, as of any record: sides
that were rated are duplicates.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat

from msgspec import Struct, field

from rater.core.cdr import Arrival, EveryService
from rater.core.line.recycling import (
    Again,
    Choice,
    Notes,
    Recycled,
    again,
    is_too_old,
    note_of,
    notes_for,
    refused_of,
)
from rater.core.sources.source_map import SourceMap
from rater.errors import Fenced, Halt, Retake, StreamDown
from rater.jobs import late as late_calls
from rater.jobs.late import LookedUp
from rater.stream.connecting import Connection
from rater.stream.rejections import Rejections, Sending
from rater.stream.topics import Topics

RECORDS_AT_ONCE = 500
BYTES_AT_ONCE = 2**20
"""Of one Kafka transaction: lanes read no further than to where an open one begins, so it is short."""


class Report(Struct):
    """What became of the rejected sides and records that were asked for.

    sent: records, by reason of the side that was met first. done: sides that go with these, or that were sent
    again before. older: records older than the duplicate window, which were not sent; known: sides that the
    journal has (with `late`). homeless: topics that no source reads now, and their sides. taken_back: sides
    that a re-rating has reversed, which another one rates again.
    """

    sent: Counter[str] = field(default_factory=Counter)
    done: int = 0
    older: int = 0
    known: int = 0
    homeless: Counter[str] = field(default_factory=Counter)
    taken_back: int = 0


class Recycling:
    """One run."""

    def __init__(
        self, client: Connection, topics: Topics, maps: Mapping[str, SourceMap | None], choice: Choice,
        window_ms: int, *, late: bool = False, dry_run: bool = False,
    ) -> None:  # fmt: skip
        """maps: of each source's topic. window_ms: the duplicate window. late: look up in the journal."""
        self._client, self._topics, self._maps, self._choice = client, topics, maps, choice
        self._window_ms, self._late, self._dry_run = window_ms, late, dry_run
        self._rejections = Rejections(client, topics)
        self._waiting: list[tuple[Again, str]] = []
        """Records that are to be sent, and why they were rejected."""
        self._bytes = 0
        self._report = Report()

    async def run(self, passed: Callable[[int, int], None], looked: late_calls.Passed) -> Report:
        """Send what is chosen; returns what became of it.

        passed: called with the offsets of rejected records that were read, and those to be read. looked: the
        same of the journal. Raises Halt, StreamDown.
        """
        try:
            await (self._rejections.look() if self._dry_run else self._rejections.open())
            at = 0
            for lane in range(self._topics.partitions):
                at = await self._lane(lane, at, passed, looked)
            await self._send(looked)
        except Fenced:
            raise Halt(
                "another `rater recycle` has begun and took over; what this one has sent is noted: run it "
                "again to see what is left"
            ) from None
        except Retake as error:
            raise StreamDown(f"{error}; what was sent is noted: run it again, and it goes on") from error
        finally:
            await self._rejections.close()
        return self._report

    async def _lane(
        self, lane: int, before: int, passed: Callable[[int, int], None], looked: late_calls.Passed
    ) -> int:
        """Go through a partition twice: notes lie behind what they are of."""
        total, notes, at = 2 * self._rejections.records, Notes(), 0
        async for records in self._rejections.read(lane):
            for record in records:
                note = self._note(lane, record.offset, record.headers)
                if note is not None:
                    notes.add(record.offset, note)
            at = records[-1].offset + 1
            passed(before + at, total)
        taken: set[tuple[str, int, int]] = set()
        async for records in self._rejections.read(lane):
            for record in records:
                one = refused_of(record.offset, record.timestamp, record.key, record.value, record.headers)
                if one is None or not self._choice.has(one):
                    continue
                if one.taken_back:
                    self._report.taken_back += 1
                    continue
                # By its bytes too: a topic that was recreated has another record at the same offset.
                name = *one.origin, hash(one.value)
                if name in taken or notes.has(one):
                    self._report.done += 1
                    continue
                taken.add(name)
                self._take(again(lane, one), one.reason)
                if self._full():
                    await self._send(looked)
            passed(before + at + records[-1].offset + 1, total)
        return before + 2 * at

    def _note(self, lane: int, at: int, headers: Sequence[tuple[str, bytes]]) -> Recycled | None:
        try:
            return note_of(headers)
        except ValueError as error:
            raise Halt(
                f"{self._topics.rejected}[{lane}]@{at} has a control record that cannot be read ({error}): "
                "it was written by a newer version of rater or by something else; run the version that wrote "
                "it"
            ) from error

    def _take(self, record: Again, reason: str) -> None:
        """Let a record wait to be sent, if it may be."""
        if record.topic not in self._maps:
            self._report.homeless[record.topic] += 1
            return
        now_ms, source_map = time.time_ns() // 1_000_000, self._maps[record.topic]
        if not self._late and is_too_old(
            record, Arrival(now_ms, self._window_ms, EveryService()), source_map
        ):
            self._report.older += 1
            return
        self._waiting.append((record, reason))
        self._bytes += record.size

    def _full(self) -> bool:
        if self._late:
            return len(self._waiting) >= late_calls.RECORDS_MAX or self._bytes >= late_calls.BYTES_MAX
        return len(self._waiting) >= RECORDS_AT_ONCE or self._bytes >= BYTES_AT_ONCE

    async def _send(self, looked: late_calls.Passed) -> None:
        """Send what waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        found: Iterable[LookedUp] = repeat(LookedUp([], 0, rateable=True))
        if self._late:
            now_ms = time.time_ns() // 1_000_000
            calls = [late_calls.call_of(record, self._maps[record.topic], now_ms) for record, _ in waiting]
            found = await late_calls.look_up_calls(self._client, self._topics, calls, looked)
        some: list[Again] = []
        out: list[Sending] = []
        size = 0
        for (record, reason), about in zip(waiting, found, strict=False):
            self._report.known += about.known
            some.append(record)
            if about.rateable:
                self._report.sent[reason] += 1
                headers = [*record.headers, *about.headers]
                out.append((record.topic, record.lane, record.key, record.value, headers))
            size += record.size
            if len(some) >= RECORDS_AT_ONCE or size >= BYTES_AT_ONCE:
                await self._write(some, out)
                some, out, size = [], [], 0
        await self._write(some, out)

    async def _write(self, some: list[Again], out: list[Sending]) -> None:
        """Write records, and notes of all that are done with these, unless it is a dry run."""
        if some and not self._dry_run:
            await self._rejections.send(out, [*notes_for(some)])
