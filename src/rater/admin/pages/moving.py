"""What pages that move listen to: that what they show is another by now, or what has happened.

Who opens a stream is told at once that something changed: it may have, since the page was shown.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from rater.admin.office import Visit
from rater.admin.pages.events import read_places, wanted, write_places
from rater.admin.streams import BEAT, BEAT_S, BEGIN, message, noted
from rater.readmodel import asked
from rater.readmodel.asking import ReadModel
from rater.readmodel.rows import EventRow

Part = Callable[[str, Mapping[str, Any]], str]

PACE_S = 1.0
"""A page asks for itself again no sooner than this, however much happens."""
ROWS = 200
"""Events that are read at once, or one of each partition: other requests wait while they are rendered."""
_CHANGED = message("changed", "1")


async def live(visit: Visit, _: Part) -> AsyncGenerator[bytes, None]:
    """Tell of each scrape of the workers."""
    yield BEGIN
    scraping, number = visit.office.scraping, 0
    while True:
        if await scraping.wait(number, BEAT_S) and scraping.last is not None:
            number = scraping.last.number
            yield _CHANGED
        else:
            yield BEAT


async def of_client(visit: Visit, _: Part) -> AsyncGenerator[bytes, None]:
    """Tell that something of a client has changed."""
    yield BEGIN
    with visit.office.model.listening(visit.path["id"]) as listener:
        yield _CHANGED
        while True:
            if await listener.wait(BEAT_S):
                yield _CHANGED
                await asyncio.sleep(PACE_S)
            else:
                yield BEAT


async def events(visit: Visit, part: Part) -> AsyncGenerator[bytes, None]:
    """Tell each event behind the place that the page, or the browser that comes again, has reached.

    Raises Problem for filters or a place that cannot be.
    """
    model, wished = visit.office.model, wanted(visit)
    now = await model.events_upto()
    upto = read_places(visit.query.get("after"), now)
    yield BEGIN
    with model.listening() as listener:
        parts = set(range(len(upto)))
        while True:
            reached = await model.events_upto()
            full = set[int]()
            for row in await _new(model, wished, upto, parts, full):
                upto[row.partition] = row.offset + 1
                yield message("told", part("_event.html", {"one": row}), write_places(upto))
            for of in parts - full:  # what the filters leave out is not looked at again
                upto[of] = max(upto[of], reached[of])
            yield noted(write_places(upto))
            parts = full
            if parts:
                await asyncio.sleep(0)
            else:
                while not await listener.wait(BEAT_S):
                    yield BEAT
                await asyncio.sleep(PACE_S)
            parts |= listener.parts
            listener.parts.clear()


async def _new(
    model: ReadModel, wished: asked.Events, upto: list[int], parts: set[int], full: set[int]
) -> list[EventRow]:
    """Return events behind these places, by their time, those of a partition in its order.

    full: gets the partitions that may have more.
    """
    found, most = [], max(1, ROWS // max(1, len(parts)))
    for part in sorted(parts):
        rows = await model.events_on(wished, part, upto[part], most)
        if len(rows) == most:
            full.add(part)
        found.append(rows)
    return list(heapq.merge(*found, key=lambda row: row.told_ms))
