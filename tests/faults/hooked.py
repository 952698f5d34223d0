"""`rater` as it is, with a clock that can jump, a loop that can be blocked, and a point at which it dies.

Run as a program by the fault tests in place of `python -m rater`; nothing of it is in the product.

RATER_FAULT_CLOCK: a file of 8 bytes, the nanoseconds (signed, big-endian) that the wall clock is off by.
RATER_FAULT_POINT: NAME:N:SIGNAL, the signal that the process sends itself at the Nth passing of a point.
SIGUSR1 blocks the event loop for RATER_FAULT_BLOCK_S seconds.
SIGUSR2 logs how many asyncio tasks there are.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


def jump(path: str) -> None:
    """Let the wall clock be off by what the file says, whenever it is asked; goes before all imports."""
    with Path(path).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)
    true_ns = time.time_ns

    def now_ns() -> int:
        return true_ns() + int(struct.unpack(">q", shared[:8])[0])

    time.time_ns = now_ns
    time.time = lambda: now_ns() / 1e9


POINTS = {
    "producer opened": ("LaneProducer", "open", "after"),
    "lane claimed": ("LaneProducer", "claim", "after"),
    "bucket fenced": ("Buckets", "fence", "after"),
    "bucket reconciled": ("Buckets", "reconcile", "after"),
    "bucket registered": ("Buckets", "register", "after"),
    "source opened": ("LaneReader", "open", "after"),
    "records polled": ("LaneReader", "poll", "after"),
    "before a draw": ("Buckets", "_draw", "before"),
    "after a draw": ("Buckets", "_draw", "after"),
    "before a commit": ("LaneProducer", "commit", "before"),
    "all produced": ("AIOKafkaProducer", "commit_transaction", "before"),
    "transaction ended": ("AIOKafkaProducer", "commit_transaction", "after"),
    "after a commit": ("LaneProducer", "commit", "after"),
}
"""The awaits of a worker that change something outside, or learn of it."""

CHANGE_POINTS = {
    "before a change": ("Buckets", "draw", "before"),
    "after a change": ("Buckets", "draw", "after"),
    "before a commit of changes": ("LaneProducer", "commit", "before"),
    "after a commit of changes": ("LaneProducer", "commit", "after"),
    "due work looked up": ("Buckets", "due", "after"),
}
"""The same where a client changes: by its packages, commands and loads. Calls alone do not pass them."""


CALL_POINTS = {"after a draw of calls": ("Buckets", "_draw", "after")}
"""The same where nothing but calls draws."""


def counts(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether a passing is one of a point; args: of the method, itself first."""
    if name.endswith(" a change"):
        return bool(args[2].changes or args[2].accounts)
    if name.endswith(" of calls"):
        return bool(args[3]) and not args[4]
    if name.endswith(" a commit of changes"):
        return any(b"\xa6change" in value for one in args[1] for _, value in one.headers)  # msgpack: 6 bytes
    return True


def die_at(name: str, passing: int, number: int) -> None:
    """Send ourselves a signal at the Nth passing of a point."""
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415 - not before the clock was set

    from rater.store.buckets import Buckets  # noqa: PLC0415 - the same
    from rater.stream.lane_reader import LaneReader  # noqa: PLC0415 - the same
    from rater.stream.producer import LaneProducer  # noqa: PLC0415 - the same

    owners: dict[str, Any] = {
        one.__name__: one for one in (AIOKafkaProducer, Buckets, LaneProducer, LaneReader)
    }
    owner, method, when = {**POINTS, **CHANGE_POINTS, **CALL_POINTS}[name]
    original: Callable[..., Awaitable[Any]] = getattr(owners[owner], method)
    left = passing

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

    async def instead(*args: Any, **options: Any) -> Any:
        if when == "before" and counts(name, args):
            passed()
        result = await original(*args, **options)
        if when == "after" and counts(name, args):
            passed()
        return result

    setattr(owners[owner], method, instead)


def count_tasks(*_: object) -> None:
    """Log the number of tasks; past Python's buffers, for a signal may come while they are being written."""
    import asyncio  # noqa: PLC0415 - not before the clock was set

    os.write(2, json.dumps({"tasks": len(asyncio.all_tasks())}).encode() + b"\n")


def run() -> int:
    """Run `rater` with the arguments of this program."""
    environ = os.environ
    if "RATER_FAULT_CLOCK" in environ:
        jump(environ["RATER_FAULT_CLOCK"])
    block_s = float(environ.get("RATER_FAULT_BLOCK_S", "1"))
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(block_s))
    signal.signal(signal.SIGUSR2, count_tasks)
    if "RATER_FAULT_POINT" in environ:
        name, passing, number = environ["RATER_FAULT_POINT"].split(":")
        die_at(name, int(passing), signal.Signals[number])
    from rater.cli import main  # noqa: PLC0415 - not before the clock was set

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
