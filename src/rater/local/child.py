"""A command under a supervisor of its own, so that it ends when this process does.

The supervisor (`python -m rater.local.child supervise ...`) holds a pipe from this process: when the pipe
closes, also because this process was killed, it kills its child. Signals go through the supervisor as well,
for only a parent can be sure that a process id still names its child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rater.errors import Halt

Say = Callable[[str], None]

HOST = "127.0.0.1"
STOP_S = 60.0
"""How long a server may take to end by itself before it is killed."""


class ServerFault(Halt):
    """A server cannot be had or does not answer; the sentence says why, with the end of its log."""


def cache_folder() -> Path:
    """Return the folder for what is fetched or made once: RATER_CACHE, else ~/.cache/rater."""
    return Path(os.environ.get("RATER_CACHE") or Path.home() / ".cache" / "rater")


def _supervise(log: str, command: Sequence[str]) -> int:
    """Run a command until it ends or the pipe on the standard input closes; return its code as a shell does.

    Says "pid N" first. Each line of the pipe is the number of a signal for the child, answered by "sent".
    """
    with Path(log).open("ab") as output:
        try:
            child = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            print(f"error {error.strerror}: {command[0]}", flush=True)  # noqa: T201 - the pipe to the parent
            return 127
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.kill())
    print(f"pid {child.pid}", flush=True)  # noqa: T201 - the pipe to the parent

    def send_signals() -> None:
        for line in sys.stdin:
            child.send_signal(int(line))
            with suppress(BrokenPipeError):
                print("sent", flush=True)  # noqa: T201 - the pipe to the parent
        child.kill()

    threading.Thread(target=send_signals, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


class Child:
    """A command under a supervisor of its own: when this process ends, however it ends, so does it."""

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start it; ServerFault when it cannot be. environ: its whole environment, ours without one."""
        self._supervisor = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "rater.local.child", "supervise", str(log), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environ,
            start_new_session=True,  # Ctrl-C in the terminal reaches us, and we end the servers in order
        )
        word, _, rest = self._answer().partition(" ")
        if word != "pid":
            self.wait(STOP_S)
            raise ServerFault(f"cannot start {command[0]}: {rest or 'its supervisor ended at once'}")
        self.pid = int(rest)

    def _answer(self) -> str:
        assert self._supervisor.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        return self._supervisor.stdout.readline().strip()

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._supervisor.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child; nothing when it has ended."""
        assert self._supervisor.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        if self.code is None and not self._supervisor.stdin.closed:
            with suppress(BrokenPipeError):
                self._supervisor.stdin.write(f"{int(number)}\n")
                self._supervisor.stdin.flush()
                self._answer()

    def wait(self, timeout_s: float) -> bool:
        """Tell whether the child ended within so many seconds."""
        try:
            self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._let_go()
        return True

    def stop(self, timeout_s: float) -> None:
        """End it, in order if it will within so many seconds, else at once; returns when it is gone."""
        self.signal(signal.SIGTERM)
        self.wait(timeout_s)
        self._let_go()  # the supervisor kills what is left
        self._supervisor.wait()

    def _let_go(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


if __name__ == "__main__":
    if sys.argv[1:2] != ["supervise"]:
        sys.exit("this module is run by itself only: python -m rater.local.child supervise LOG COMMAND...")
    sys.exit(_supervise(sys.argv[2], sys.argv[3:]))
