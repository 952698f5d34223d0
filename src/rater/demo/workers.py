"""A worker as a process of its own, and what it says about itself over HTTP.

When this process ends, however it ends, so does the worker (`rater.local.child`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from rater.errors import Halt
from rater.local.child import HOST, Child

STOP_S: Final = 20.0
"""So long a worker may take to commit what it has begun."""
_TAIL_LINES = 15
_KEPT = ("RATER_CACHE",)  # of our own variables: says where things are, not how to rate
_SAMPLE = re.compile(r"^(rater_\w+)(?:\{([^}]*)\})? ([0-9.e+-]+)$", re.MULTILINE)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: ours, but of the settings these alone."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("RATER_") or key in _KEPT}
    return ours | dict(settings)


class Worker:
    """A running worker. port: where it serves /metrics on loopback."""

    def __init__(self, number: int, port: int, folder: Path, settings: Mapping[str, str]) -> None:
        """Start a worker with these settings (environment variables); it may not be ready yet."""
        self.number, self.port = number, port
        self.log = folder / f"worker-{number}.log"
        command = [sys.executable, "-m", "rater", "worker"]
        environ = environment({**settings, "RATER_METRICS__PORT": str(port)})
        self._child = Child(command, folder, self.log, environ)
        self.pid = self._child.pid

    @property
    def address(self) -> str:
        """Host and port of where it tells about itself."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The same as a URL."""
        return f"http://{self.address}"

    def must_run(self) -> None:
        """Raise Halt with the end of its log when it has ended."""
        code = self._child.code
        if code is not None:
            tail = (
                self.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
                if self.log.exists()
                else []
            )
            raise Halt(
                "\n".join([f"worker {self.number} ended with code {code}; the end of its log:", *tail])
            )

    def ask_to_stop(self) -> None:
        """Tell it to finish what it has begun and end."""
        self._child.signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it, in order if it will, else at once; returns when it is gone."""
        self._child.stop(STOP_S)


class Told(NamedTuple):
    """What workers say of themselves."""

    duplicates: int
    lag_records: int
    lag_seconds: float


async def told(workers: list[Worker], session: aiohttp.ClientSession) -> Told | None:
    """Return the sum of what the workers say; None while one does not answer."""
    duplicates, lag_records, lag_seconds = 0, 0, 0.0
    for worker in workers:
        text = await _page(session, f"{worker.url}/metrics")
        if text is None:
            return None
        for name, labels, value in _SAMPLE.findall(text):
            if name == "rater_duplicates_total" and 'kind="same"' in labels:
                duplicates += int(float(value))
            elif name == "rater_consumer_lag_records":
                lag_records += int(float(value))
            elif name == "rater_consumer_lag_seconds":
                lag_seconds = max(lag_seconds, float(value))
    return Told(duplicates, lag_records, lag_seconds)


async def _page(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url) as answer:
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port."""
    with socket.socket() as one:
        return one.connect_ex((HOST, port)) != 0
