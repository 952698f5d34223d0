"""What a lane does about several faults at once."""

from __future__ import annotations

import pytest

from rater.errors import Fenced, Halt, NoCatalog, Retake, StoreDown, StreamDown
from rater.worker import _worst

HALT, FENCED, RETAKE, DOWN, AWAY = Halt("gone"), Fenced(), Retake("emptied"), StoreDown("a"), StreamDown("b")
NONE, BUG = NoCatalog("none"), KeyError("bug")


@pytest.mark.parametrize(
    ("faults", "worst"),
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
def test_the_worst_fault_counts(faults: list[Exception], worst: Exception) -> None:
    """What is unknown or a Halt stops the worker; else the lane is dropped, taken again, or waits.

    The last of equals is told.
    """
    assert _worst(ExceptionGroup("faults", faults)) is worst
