"""What a lane does about several faults at once, and about a library that cancels it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fuzz.world import LOADED_MS, Lane, load_of
from rater import program
from rater.core.commands.records import AdjustArgs, write_command
from rater.core.kinds import Do, Result
from rater.errors import Fenced, Halt, NoCatalog, Retake, StoreDown, StreamDown
from rater.metrics import Metrics
from rater.worker import process, takeover
from rater.worker.faults import worst
from rater.worker.line import Line
from rater.worker.process import Worker
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
        """Have neither lane nor connections: `run` asks for none."""

    async def _process_all(self, *_: object) -> None:
        if self.is_torn:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    async def _commit_all(self, *_: object) -> None:
        await asyncio.Event().wait()


class Failing(Torn):
    """A line whose one half fails, while the other waits."""

    async def _process_all(self, *_: object) -> None:
        raise Retake("again")


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


async def test_a_lane_that_failed_is_not_taken_for_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TaskGroup of Python 3.11 leaves its task cancelled for good; `Link` would end the lane by that."""
    counted: list[int] = []
    stop = asyncio.Event()

    async def closed() -> None:
        """Close nothing."""

    async def take(*_: object) -> Any:
        task = asyncio.current_task()
        assert task is not None
        counted.append(task.cancelling())
        if len(counted) > 1:
            stop.set()
        return SimpleNamespace(catalog=object(), close=closed)

    monkeypatch.setattr(process, "take", take)
    monkeypatch.setattr(process, "Line", lambda *_: Failing())
    monkeypatch.setattr(process, "BACKOFF_S", (0.0, 0.0))
    worker = Worker(nothing(session_s=1.0))
    monkeypatch.setattr(worker, "_watch", SimpleNamespace(taken=id, lost=id))
    await asyncio.wait_for(worker._serve(0, stop), 5)  # noqa: SLF001 - one lane alone
    assert counted == [0, 0]


def nothing(session_s: float) -> Shared:
    """Return what lanes share where there is neither Kafka nor Redis."""
    kafka = SimpleNamespace(session_timeout_ms=int(session_s * 1000))
    return Shared(cast("Any", SimpleNamespace(settings=SimpleNamespace(kafka=kafka))), Readiness("kafka"))


class Deaf(Worker):
    """A worker whose lanes do not hear that they are to end."""

    def __init__(self) -> None:
        """Have neither connections nor a store."""
        super().__init__(nothing(session_s=30.0))
        self.may_end = asyncio.Event()

    async def _serve(self, lane: int, stop: asyncio.Event) -> None:
        del lane, stop
        while not self.may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.may_end.wait()


async def test_a_lane_that_does_not_end_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the callback of the group would wait for it for ever, and with it all workers of the group."""
    monkeypatch.setattr(process, "DRAIN_S", 0.01)
    monkeypatch.setattr(process, "LET_GO_S", 0.01)
    worker = Deaf()
    await worker.assign({0, 1})
    await asyncio.wait_for(worker.drop({0, 1}), 5)
    with pytest.raises(Halt, match=r"lane-0, lane-1 did not end 0\.01 s after it was abandoned"):
        await worker._fault  # noqa: SLF001 - what `run` waits for
    worker.may_end.set()


class Slow(Worker):
    """A worker whose lane takes its time to end."""

    drained = False

    async def _serve(self, lane: int, stop: asyncio.Event) -> None:
        del lane
        await stop.wait()
        await asyncio.sleep(0.2)
        self.drained = True


@pytest.mark.parametrize(("session_s", "ending"), [(0.1, False), (0.1, True), (30.0, False)])
async def test_a_lane_is_drained_as_long_as_the_group_waits(session_s: float, *, ending: bool) -> None:
    """Else its worker is thrown out, comes back, and stops what the others take: with them, for ever."""
    worker = Slow(nothing(session_s))
    await worker.assign({0})
    await asyncio.sleep(0)
    worker._ending = ending  # noqa: SLF001 - nobody waits for a worker that ends
    await asyncio.wait_for(worker.drop({0}), 5)
    assert worker.drained == (ending or session_s > 1)


async def test_a_worker_that_ends_waits_for_what_the_group_takes_away() -> None:
    """Its lanes are being given up already, and not yet: who left them alone would cut them off."""
    worker = Slow(nothing(session_s=30.0))
    await worker.assign({0})
    await asyncio.sleep(0)
    revoking = asyncio.create_task(worker.drop({0}))
    await asyncio.sleep(0)
    worker._ending = True  # noqa: SLF001 - as `run` does
    await asyncio.wait_for(worker.drop(set(worker._lanes)), 5)  # noqa: SLF001 - the same
    assert worker.drained
    await revoking
    assert not worker._lanes  # noqa: SLF001 - they may be assigned again


async def test_a_dry_run_is_no_command_that_was_refused() -> None:
    """Whoever looks at what a command would do is told; the alert is for what was asked for and not done."""
    lane = Lane()
    await lane.rate(load_of().commands)
    asked = [
        write_command(f"adjust/{dry}", Do.ADJUST, LOADED_MS, AdjustArgs("1"), client="nobody", dry_run=dry)
        for dry in (True, False)
    ]
    batch = await lane.rate(asked)
    assert dict(batch.counts.commands) == {("adjust", Result.REFUSED): 1}
    assert len(batch.events) == 2


async def test_one_lane_without_a_lag_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library does not tell of one lane is not told; the others' lag is told on."""
    monkeypatch.setattr(program, "LAG_S", 0.01)
    asked, enough = list[int](), asyncio.Event()

    class Reader:
        def __init__(self, lane: int) -> None:
            self.lane = lane

        async def lag(self) -> dict[str, tuple[int, int | None]]:
            asked.append(self.lane)
            if len(asked) > 8:  # lane 0 has asked three times in vain
                enough.set()
            if self.lane == 0 and len(asked) > 2:
                raise Retake("lane 0 is not read")
            return {"rater.cdrs": (len(asked), 0)}

    worker = SimpleNamespace(readers=lambda: [(0, Reader(0)), (1, Reader(1))], overdue=lambda: 0)
    metrics = Metrics()
    telling = asyncio.create_task(program.watch_lag(cast("Any", worker), metrics))
    await asyncio.wait_for(enough.wait(), 10)
    telling.cancel()
    told = metrics.exposition().decode()
    assert 'rater_consumer_lag_records{partition="0"' not in told
    assert re.search(r'rater_consumer_lag_records{partition="1",topic="rater.cdrs"} 10', told)


async def test_how_far_a_lane_is_rebuilt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour's reading of the journal is no hour of the same sentence in /readyz."""
    readiness, seen = Readiness("kafka:9092"), list[str]()

    async def added(*_: object) -> AsyncIterator[int]:
        for upto in (50, 75, 110):
            yield upto
            seen.append(readiness.waiting[3])

    monkeypatch.setattr(takeover, "_added", added)
    lane = SimpleNamespace(number=3, token=110)
    buckets = cast("Any", SimpleNamespace(lane=lane, connections=None))
    shared = cast("Any", SimpleNamespace(readiness=readiness, rebuilding={}))
    adding = cast("Any", SimpleNamespace(full=lambda _: []))
    await takeover._read_journal(buckets, adding, [], 10, shared)  # noqa: SLF001 - all that a take-over reads by
    assert seen == [
        f"the lane is being taken: {done} of 100 records of the journal are read" for done in (40, 65, 100)
    ]
