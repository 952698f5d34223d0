"""What is done about faults of a lane's work: which of several counts, and cancellations of others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from rater.errors import Fenced, Retake, Wait


async def ours(work: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Do a part of a lane's work; a cancellation that nobody asked for is Retake.

    Libraries pass on those of their own tasks, and a task that one ends has ended without a word: its lane
    would be served by nobody.
    """
    try:
        await work(*arguments)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Retake("a library cancelled its own work, and ours with it") from None


def worst(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the one fault that says what to do: stop before drop before take again before wait.

    What is none of these stops too. Of equals it is the last.
    """
    faults = [
        worst(fault) if isinstance(fault, BaseExceptionGroup) else fault
        for fault in reversed(group.exceptions)
    ]
    return min(faults, key=_order)


def _order(fault: BaseException) -> int:
    kinds = (Fenced, Retake, Wait)
    return next((number for number, kind in enumerate(kinds) if isinstance(fault, kind)), -1)
