"""How far following is: of the building, behind the topics, and behind commands that somebody waits for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

from rater.readmodel.decoding import Batch, Record

Place = tuple[str, int]
"""Topic and partition."""
COMMANDS_KEPT = 10_000
"""Commands of which is known where they lie: the last ones."""


class Progress:
    """How far following is."""

    def __init__(self, commands: str, journal: str) -> None:
        """commands, journal: names of these topics."""
        self._commands, self._journal = commands, journal
        self.built = False
        self.positions: dict[Place, int] = {}
        self._begins: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._upto_s: dict[Place, float] = {}
        """Unix time up to which a partition is in the rows."""
        self._waiting: Collection[Place] = ()
        self._sent: OrderedDict[str, dict[int, int]] = OrderedDict()
        """Id of a command → partition → offset."""
        self._done: dict[int, int] = {}
        """Lane → the offset of `rater.commands` below which all is in the rows."""
        self._moved = asyncio.Condition()

    def begin(self, positions: Mapping[Place, int], ends: Mapping[Place, int], *, built: bool) -> None:
        """Note where reading begins, and where the topics end now."""
        self.built = built
        self.positions, self._begins, self._ends = dict(positions), dict(positions), dict(ends)
        now = time.time()
        self._upto_s = {place: now if at >= ends[place] else 0.0 for place, at in positions.items()}
        self._waiting = [place for place, at in positions.items() if at < ends[place]]

    async def read(
        self, batch: Batch, found: Mapping[Place, list[Record]], positions: Mapping[Place, int],
        waiting: Collection[Place],
    ) -> None:  # fmt: skip
        """Take note of what is in the rows now. waiting: partitions that have more."""
        now = time.time()
        for command, part, offset in batch.sent:
            self._sent.setdefault(command, {})[part] = offset
        while len(self._sent) > COMMANDS_KEPT:
            self._sent.popitem(last=False)
        for lane, mark in batch.marks.items():
            self._done[lane] = mark.positions.get(self._commands, 0)
        for place, records in found.items():
            self._upto_s[place] = max(self._upto_s.get(place, 0.0), records[-1].timestamp / 1000)
        for place in positions:
            if place not in waiting:
                self._upto_s[place] = now
        self._waiting = waiting
        self.positions = dict(positions)
        async with self._moved:
            self._moved.notify_all()

    @property
    def is_read(self) -> bool:
        """Return whether all is in the rows that was there at the beginning."""
        return all(at >= self._ends[place] for place, at in self.positions.items())

    @property
    def share(self) -> float:
        """Return how much of the building is done, 0 to 1."""
        if self.built:
            return 1.0
        whole = sum(self._ends[place] - at for place, at in self._begins.items())
        done = sum(min(at, self._ends[place]) - self._begins[place] for place, at in self.positions.items())
        return min(done / whole, 0.99) if whole > 0 else 0.0

    @property
    def behind_s(self) -> float:
        """Return how many seconds the rows are behind the topics."""
        upto = [self._upto_s[place] for place in self._waiting]
        return max(time.time() - min(upto), 0.0) if upto else 0.0

    async def wait_for(self, command: str, timeout_s: float) -> bool:
        """Wait until what a command did is in the rows; False: it is not by then."""

        def is_there() -> bool:
            sent = self._sent.get(command, {})
            return bool(sent) and all(self._done.get(part, 0) > offset for part, offset in sent.items())

        return await self._wait(is_there, timeout_s)

    async def wait_until(self, ends: Mapping[Place, int], timeout_s: float) -> bool:
        """Wait until all below these offsets is in the rows; False: it is not by then."""
        return await self._wait(
            lambda: all(self.positions.get(place, 0) >= end for place, end in ends.items()), timeout_s
        )

    async def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(is_so)
        except TimeoutError:
            return False
        return True
