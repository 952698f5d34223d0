"""A server in a folder that the caller gives, on 127.0.0.1 only: started, stopped, killed, restarted."""

from __future__ import annotations

import fcntl
import secrets
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from rater.local.child import HOST, STOP_S, Child, ServerFault

READY_S = 90.0
"""How long a server may take until it answers: a cold broker on a busy machine takes 20 s."""

INSTALL = "install rater[demo]"
# Below the ephemeral ports of Linux (from 32768) and macOS (from 49152): else, while a server is down, a
# client's outgoing connection may take its port, or connect to itself.
_PORTS = range(20_000, 32_000)
_POLL_S = 0.02
_TAIL_LINES = 20
_PORT_TRIES = 3


class Server(ABC):
    """What Kafka and Redis have in common: one child process in a folder, at a port that stays the same."""

    name: str

    def __init__(self, folder: Path, port: int | None) -> None:
        """Use `start` instead: it returns when the server answers."""
        self.folder = folder
        self.port = port or 0
        self._own_port = port is None
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's process id, the last one when it does not run."""
        assert self._child is not None  # noqa: S101 - start() has set it
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (paused counts)."""
        return self._child is not None and self._child.code is None

    def stop(self) -> None:
        """End it in order, also when it is paused; by force after STOP_S. Nothing when it does not run."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)
            self._child.signal(signal.SIGTERM)
            if not self._child.wait(STOP_S):
                self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL). Nothing when it does not run."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            if not self._child.wait(STOP_S):
                raise ServerFault(f"{self.name} (process {self.pid}) does not end when killed")

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nobody answers."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause (SIGCONT)."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again with the same port and folder, after an orderly stop when it runs. ServerFault."""
        self.stop()
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> Self:
        """Launch for the first time; when we chose the port and another process was faster, choose again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._own_port and not is_free(self.port):
            # Said here, for else the server that has the port would answer in place of ours.
            raise ServerFault(
                f"port {self.port} of {HOST} is in use: end the process that has it, or give another"
            )
        for attempt in range(1, _PORT_TRIES + 1):
            if self._own_port:
                self.port = free_ports(1)[0]
            try:
                self._launch()
                break
            except ServerFault as fault:
                if not self._own_port or attempt == _PORT_TRIES or "already in use" not in str(fault):
                    raise
        return self

    def _run(self, command: Sequence[str], log: Path, answers: Callable[[], bool]) -> None:
        """Start the command and return when it answers; ServerFault, with nothing left running, when not."""
        self._child = Child(command, self.folder, log)
        try:
            self._wait(self._child, answers)
        except BaseException:
            self.kill()
            raise

    def _wait(self, child: Child, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not answers():
            if child.code is not None:
                raise ServerFault(f"{self.name} ended with code {child.code}: {self._tail()}")
            if time.monotonic() > deadline:
                raise ServerFault(f"{self.name} does not answer after {READY_S:.0f} s: {self._tail()}")
            time.sleep(_POLL_S)

    @abstractmethod
    def _launch(self) -> None:
        """Write the configuration, start the process, wait until it answers."""

    @abstractmethod
    def _logs(self) -> Sequence[Path]:
        """Return the files that tell why it failed."""

    def _tail(self) -> str:
        lines: list[str] = []
        for path in self._logs():
            if path.exists():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return f"the end of its log in {self.folder}:\n" + "\n".join(lines or ["(empty)"])


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses now."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            candidate = socket.socket()
            try:
                candidate.bind((HOST, _PORTS[secrets.randbelow(len(_PORTS))]))
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        return [holder.getsockname()[1] for holder in held]
    finally:
        for holder in held:
            holder.close()


def is_free(port: int) -> bool:
    """Tell whether a server could listen there: old connections that still linger do not count."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into the cache or add to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def packaged(package: str, pattern: str) -> Path | None:
    """Return the file of an installed package, without importing it; None when there is none."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)
