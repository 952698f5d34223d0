"""Runs `rater` with a sampling profiler inside, so that a profile needs no other program and no privilege.

    python benchmarks/sampled.py OUT worker

SIGUSR1 begins, SIGUSR2 ends and writes OUT: lines "frame;frame;frame microseconds", outermost first. A sample
is taken about every 2 ms of CPU and weighs the CPU time since the one before, for a long call in C is one
sample. The collector's time is a frame of its own, "gc".
"""

from __future__ import annotations

import gc
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from time import process_time
from types import FrameType
from typing import Any

from rater.cli import main

EVERY_S = 0.002
_INSTALLED = re.compile(r"^.*(/site-packages/|/src/|/benchmarks/|/lib/python3[.0-9]*/)")


class Sampler:
    """Counts stacks of the main thread."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.stacks: Counter[tuple[str, ...]] = Counter()
        self.last = 0.0
        self.collecting = self.collected = 0.0

    def begin(self, _number: int, _frame: FrameType | None) -> None:
        """Begin to sample."""
        gc.callbacks.append(self.gc)
        self.last = process_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """End it and write what was found."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = [f"{';'.join(stack)} {us}\n" for stack, us in sorted(self.stacks.items()) if us]
        self.out.write_text("".join(lines), "utf-8")

    def gc(self, phase: str, _info: dict[str, Any]) -> None:
        """Note how long a collection took."""
        now = process_time()
        if phase == "stop" and self.collecting:
            self.collected += now - self.collecting
        self.collecting = now if phase == "start" else 0.0

    def sample(self, _number: int, frame: FrameType | None) -> None:
        """Take one sample."""
        now = process_time()
        if self.collecting:  # signals wait for the end of a collection, and are seen where it is noted
            self.collected += now - self.collecting
            self.collecting = now
        us, collected = int((now - self.last) * 1e6), int(self.collected * 1e6)
        self.last, self.collected = now, 0.0
        if frame is not None and frame.f_code is Sampler.gc.__code__:
            frame = frame.f_back
        stack: list[str] = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{_INSTALLED.sub('', code.co_filename).removesuffix('.py')}:{code.co_name}")
            frame = frame.f_back
        self.stacks[tuple(reversed(stack))] += us - collected
        self.stacks["gc",] += collected


if __name__ == "__main__":
    sampler = Sampler(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGUSR2, sampler.end)
    signal.signal(signal.SIGPROF, sampler.sample)
    main()
