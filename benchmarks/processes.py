"""Processes that are measured: started under a supervisor, and what /proc tells of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from rater.demo.workers import environment
from rater.local.child import Child

TICKS = os.sysconf("SC_CLK_TCK")
STOP_S = 60.0


class Cpu(NamedTuple):
    """CPU seconds of a process since it began."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


def cpu(pid: int) -> Cpu:
    """Return what /proc/PID/stat says: all threads, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return Cpu(int(fields[11]) / TICKS, int(fields[12]) / TICKS)


def rss_mb(pid: int) -> float:
    """Return the resident memory, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def busy_s() -> float:
    """Return the CPU seconds that all processes of the machine have used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq, *_ = fields
    return (user + nice + system + irq + softirq) / TICKS


def processors() -> list[str]:
    """Return the name of each."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names or ["unknown"] * (os.cpu_count() or 1)


class Process(Child):
    """A command that is measured; it ends when this process ends, however it ends."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.log = log
        super().__init__(command, log.parent, log, environment(environ))

    def must_run(self) -> None:
        """Raise with its code and the end of its log when it has ended."""
        if self.code is not None:
            raise RuntimeError("\n".join([f"it ended with code {self.code}:", *self._end()]))

    def told(self) -> str:
        """Return what it has written."""
        return self.log.read_text("utf-8", "replace")

    def finished(self) -> None:
        """Return when it has ended; raise with the end of its log when it failed."""
        while not self.wait(STOP_S):
            pass
        if self.code:
            raise RuntimeError("\n".join(self._end()))

    def _end(self) -> list[str]:
        return self.told().splitlines()[-20:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(STOP_S)
