"""Events as they happen, from a real database: each is told once, wherever a stream is cut."""

from __future__ import annotations

import random
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rater.admin.office import Visit
from rater.admin.pages import moving
from rater.admin.pages.events import read_places, write_places
from rater.admin.problems import Problem
from rater.admin.streams import BEAT
from rater.core.commands.records import Event, write_event
from rater.core.kinds import EventType
from rater.readmodel.asking import ReadModel
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch
from rater.readmodel.following import Following
from rater.readmodel.writing import Writer
from rater.stream.topics import Topics

PARTS = 3
AT_MS = 1_800_000_000_000


class Told:
    """A read model into which events are written, and what was told of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Nothing has happened yet. seed: of what will."""
        self.chance = random.Random(seed)  # noqa: S311 - a test's order, not a secret
        database = Database(f"sqlite:///{folder}/a.sqlite")
        self._topics, nobody = Topics("", PARTS), cast("Any", None)
        self._following = Following({}, self._topics, nobody, nobody, database)
        self.model, self._writer = ReadModel(database, self._following), Writer(database)
        self._next = [0] * PARTS
        self.written: list[str] = []
        """PARTITION-OFFSET of those of client 1."""

    def happen(self, most: int) -> None:
        """Write a batch: partitions side by side, whose times go to and fro, of two clients."""
        batch = Batch()
        for _ in range(self.chance.randint(1, most)):
            part, client = self.chance.randrange(PARTS), self.chance.choice("12")
            event = Event("e", EventType.ACTIVATED, "2026-11-03T10:00:00.000Z", client=client)
            batch.add_event(
                cast(
                    "Any",
                    SimpleNamespace(
                        partition=part, offset=self._next[part], value=write_event(event),
                        timestamp=AT_MS + self.chance.randint(-50, 50),
                    ),
                )
            )  # fmt: skip
            if client == "1":
                self.written.append(f"{part}-{self._next[part]}")
            self._next[part] += self.chance.randint(1, 3)  # marks of transactions have offsets, too
        positions = {(self._topics.events, part): upto for part, upto in enumerate(self._next)}
        self._writer.write(batch, positions, None, AT_MS)
        self._following.listening.tell(batch)

    async def listen(self, after: str, messages: int) -> tuple[str, list[str]]:
        """Open a stream, take so many messages, and cut it; returns the last id, and what was told."""
        query = {"client": "1", "after": after}
        visit = Visit(
            cast("Any", SimpleNamespace(model=self.model)), cast("Any", None), {}, query, {}, {}, ""
        )
        told: list[str] = []
        stream = moving.events(visit, lambda _, of: f"{of['one'].partition}-{of['one'].offset}")
        async with aclosing(stream) as source:
            async for raw in source:
                fields = dict(line.partition(": ")[::2] for line in raw.decode().strip().split("\n"))
                after = fields.get("id", after)
                if "data" in fields:
                    told.append(fields["data"])
                messages -= 1
                if not messages or raw == BEAT:
                    break
        return after, told


@pytest.mark.parametrize("seed", range(10))
async def test_each_event_is_told_once(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are cut after any message, and go on behind it: nothing is lost, and nothing comes twice."""
    for name, value in (("BEAT_S", 0.02), ("PACE_S", 0.0), ("ROWS", 4)):
        monkeypatch.setattr(moving, name, value)
    of = Told(tmp_path, seed)
    of.happen(10)
    of.written.clear()
    after, told = write_places(await of.model.events_upto()), list[str]()
    for _ in range(12):
        if of.chance.random() < 0.7:
            of.happen(of.chance.choice([2, 30]))
        after, some = await of.listen(after, of.chance.choice([1, 2, 3, 8, 1000]))
        told += some
    after, some = await of.listen(after, 10**6)
    told += some
    assert sorted(told) == sorted(of.written)
    assert read_places(after, [0] * PARTS) == await of.model.events_upto()
    for part in range(PARTS):  # of a partition in its order
        mine = [int(one.partition("-")[2]) for one in told if one.startswith(f"{part}-")]
        assert mine == sorted(mine)


def test_places_are_text() -> None:
    """An offset for each partition; partitions that were added since begin at 0."""
    assert write_places([3, 0, 12]) == "3-0-12"
    assert read_places("3-0-12", [9, 9, 9]) == [3, 0, 12]
    assert read_places("3-0-12", [9, 9, 9, 9]) == [3, 0, 12, 0]
    assert read_places(None, [9, 8]) == [9, 8]


@pytest.mark.parametrize("text", ["", "-", "1-", "x", "1-2-3", "1.5-2", "-1-2", "1" * 30, "\u0661-2"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """Of another topic, or made up."""
    with pytest.raises(Problem, match="after"):
        read_places(text, [0, 0])
