"""Processes that are measured: started under a supervisor, and what /proc tells of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

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


class Process:
    """A command under the supervisor of `rater.servers`: it ends when this process ends, however it ends."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RATER_")}
        kept |= {key: os.environ[key] for key in ("RATER_CACHE",) if key in os.environ}
        self.log = log
        self._supervisor = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-m", "rater.servers", "supervise", str(log), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept | dict(environ),
            start_new_session=True,
        )  # fmt: skip
        assert self._supervisor.stdout is not None
        word, _, rest = self._supervisor.stdout.readline().strip().partition(" ")
        assert word == "pid", rest
        self.pid = int(rest)

    def must_run(self) -> None:
        """Raise with its code and the end of its log when it has ended."""
        if not Path(f"/proc/{self.pid}").exists():
            code = self._supervisor.wait(STOP_S)
            raise RuntimeError("\n".join([f"it ended with code {code}:", *self.told().splitlines()[-20:]]))

    def told(self) -> str:
        """Return what it has written."""
        return self.log.read_text("utf-8", "replace")

    def wait(self) -> None:
        """Return when it has ended; raise with the end of its log when it failed."""
        if self._supervisor.wait():
            raise RuntimeError("\n".join(self.told().splitlines()[-20:]))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._supervisor.stdin is not None
        with suppress(BrokenPipeError, ValueError):
            self._supervisor.stdin.write(f"{int(number)}\n")
            self._supervisor.stdin.flush()

    def stop(self) -> None:
        """Let it finish what it has begun, and end it."""
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(STOP_S)
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()  # the supervisor kills what is left
        self._supervisor.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
