"""What a lane does about several faults at once, and about a library that cancels it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from rater.errors import Fenced, Halt, NoCatalog, Retake, StoreDown, StreamDown
from rater.worker.faults import worst
from rater.worker.line import Line
from rater.worker.shared import Readiness, Shared

HALT, FENCED, RETAKE, DOWN, AWAY = Halt("gone"), Fenced(), Retake("emptied"), StoreDown("a"), StreamDown("b")
NONE, BUG = NoCatalog("none"), KeyError("bug")


@pytest.mark.parametrize(
    ("faults", "counts"),
    [
        ([DOWN], DOWN),
        ([DOWN, RETAKE], RETAKE),
        ([RETAKE, DOWN], RETAKE),
        ([FENCED, RETAKE, DOWN], FENCED),
        ([HALT, FENCED, DOWN], HALT),
        ([DOWN, NONE], NONE),
        ([BUG, FENCED], BUG),
        ([FENCED, RETAKE, BUG, DOWN], BUG),
        ([HALT, BUG], BUG),
        ([BUG, HALT], HALT),
        ([DOWN, AWAY], AWAY),
        ([AWAY, DOWN], DOWN),
        (
            [DOWN, ExceptionGroup("inner", [AWAY, ExceptionGroup("innermost", [DOWN, FENCED])]), RETAKE],
            FENCED,
        ),
        ([ExceptionGroup("inner", [DOWN, HALT]), FENCED], HALT),
    ],
)
def test_the_worst_fault_counts(faults: list[Exception], counts: Exception) -> None:
    """What is unknown or a Halt stops the worker; else the lane is dropped, taken again, or waits.

    The last of equals is told.
    """
    assert worst(ExceptionGroup("faults", faults)) is counts


class Torn(Line):
    """A line whose one half a library cancels, or waits for ever."""

    is_torn = True

    def __init__(self) -> None:
        """Have neither lane nor connections."""
        super().__init__(cast("Any", None), Shared(cast("Any", None), Readiness("kafka")))

    async def _process_all(self, *_: object) -> None:
        if self.is_torn:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    async def _commit_all(self, *_: object) -> None:
        await asyncio.Event().wait()


async def test_a_cancellation_that_nobody_asked_for_takes_the_lane_again() -> None:
    """Else half of the line would be gone, and the other wait for it for ever."""
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(Torn().run(asyncio.Event()), 5)
    assert isinstance(worst(caught.value), Retake)


async def test_a_cancellation_that_was_asked_for_is_obeyed() -> None:
    """A lane that is not drained in time is abandoned by it."""
    line = Torn()
    line.is_torn = False
    running = asyncio.create_task(line.run(asyncio.Event()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
