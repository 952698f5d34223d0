"""A deterministic event loop: time jumps to the next timer, and processes in it can be frozen and killed.

A process is a context: whatever a task of it starts belongs to it. A frozen or dead process is one whose
callbacks are put aside when their turn comes, so no line of it runs, not even a `finally`: that is what
SIGSTOP and SIGKILL do. Callbacks keep their order, as asyncio promises; what varies between seeds is when
the answers of servers come, and every await of the code is one for such an answer or for time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import types
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_790_000_000
"""What the clock on the wall shows when the loop's begins."""

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
OUTSIDE = Context()
"""Where servers live: no process's fate touches them."""


class Stuck(Exception):  # noqa: N818 - it says what the system is
    """Nothing can happen any more, or things happen without end."""


class Process:
    """A program of the simulation: what runs in its context stops when it is frozen or killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "runs"  # runs | frozen | dead | ghost: dead, and being cleared away
        self.parked: list[asyncio.Handle] = []
        self.steps = 0
        self.turns: dict[int, Callable[[], None]] = {}
        """Number of a step -> what happens to the process instead of going on."""
        self.kafka_cut = False
        self.store_cut = False

    def goes(self) -> bool:
        """Count a step, at which something may befall the process; return whether it goes on."""
        self.steps += 1
        if self.turns and self.state == "runs":
            turn = self.turns.pop(self.steps, None)
            if turn is not None:
                turn()
        return self.state in ("runs", "ghost")

    @property
    def alive(self) -> bool:
        """Whether it may still do anything, now or later."""
        return self.state in ("runs", "frozen")


class _Task(asyncio.Task[Any]):
    """A task that sets hold in the same place in each run: its hash is a number, not an address."""

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self.number = number
        context = kwargs.get("context")
        self.process = PROCESS.get() if context is None else context.get(PROCESS)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class _Future(asyncio.Future[Any]):
    """The same for futures."""

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self.number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class Loop(asyncio.BaseEventLoop):
    """Runs callbacks in order and jumps over time in which nothing happens."""

    _ready: deque[asyncio.Handle]

    def __init__(self, steps_max: int = 3_000_000) -> None:
        super().__init__()
        self.now = 0.0
        self.skipped_s = 0.0
        """What the clock on the wall has gone on while nothing ran, s."""
        self.steps = 0
        self._steps_max = steps_max
        self._numbers = itertools.count(1)
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Return the virtual time, s."""
        return self.now

    def wall_s(self) -> float:
        """Return what the clock on the wall shows, s since 1970."""
        return EPOCH_S + self.skipped_s + self.now

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future whose place in sets does not vary."""
        return _Future(loop=self, number=next(self._numbers))

    def create_task(
        self, coro: Any, *, name: Any = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Return a task whose place in sets does not vary."""
        return _Task(coro, loop=self, name=name, context=context, number=next(self._numbers))

    # The three below are BaseEventLoop's without its checks, and with a heap that compares numbers: a run is
    # little else than calls of them.
    def call_soon(  # type: ignore[override] # any arguments
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call back in turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override] # any arguments
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(  # type: ignore[override] # any arguments
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back after a time."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _process_events(self, _events: Any) -> None:
        """There are none: no sockets."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stuck("nothing is left to happen")
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        self.steps += len(ready)
        if self.steps > self._steps_max:
            raise Stuck(f"more than {self._steps_max} steps")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined] # noqa: SLF001 - no other way
            if process is None or process.goes():
                handle._run()  # noqa: SLF001 - what BaseEventLoop does here
            else:
                process.parked.append(handle)

    # ------------------------------------------------------------------ processes
    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work in a process."""
        context = Context()
        context.run(PROCESS.set, process)
        return self.create_task(work, name=process.name, context=context)

    def resume(self, process: Process, state: str = "runs") -> None:
        """Let a frozen process go on (or a dead one be cleared away): what it missed comes at once."""
        process.state = state
        self._ready.extend(process.parked)
        process.parked = []

    async def end_rest(self, process: Process) -> None:
        """End what still runs in a process but the task that asks, as asyncio.run does at its end."""
        rest: list[asyncio.Task[Any]] = [
            task
            for task in asyncio.all_tasks(self)
            if isinstance(task, _Task) and task.process is process and task is not asyncio.current_task()
        ]
        for task in sorted(rest, key=hash):
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def outside(self, delay: float, call: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call something of a server later."""
        return self.call_later(delay, call, *args, context=OUTSIDE)


def clear_away(loop: Loop, processes: list[Process]) -> None:
    """End all that is left of a run; clients of these processes do nothing any more."""
    for process in processes:
        loop.resume(process, "ghost")
    for _ in range(50):
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_pass())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _pass() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def wall_s() -> float:
    """Return what the clock on the wall shows, s since 1970."""
    loop = asyncio.get_running_loop()
    return loop.wall_s() if isinstance(loop, Loop) else EPOCH_S + loop.time()


class Clock(types.ModuleType):
    """Stands in for the module `time` where rater uses it."""

    def __init__(self) -> None:
        super().__init__("time")

    @staticmethod
    def monotonic() -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    perf_counter = monotonic

    @staticmethod
    def time() -> float:
        """Return the time on the wall."""
        return wall_s()

    @staticmethod
    def time_ns() -> int:
        """Return the time on the wall in ns."""
        return int(wall_s() * 10**9)


async def inline(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Stand in for asyncio.to_thread: no threads, so one order."""
    await asyncio.sleep(0)
    return function(*args, **kwargs)


def chance(rng: random.Random, probability: float) -> bool:
    """Return True so often; draws nothing when it cannot be."""
    return probability > 0 and rng.random() < probability
