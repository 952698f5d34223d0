"""What systemd is told of this process: that it works, that it lives, that it drains (sd_notify(3))."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()
TOLD_S = 5.0
"""So often it is told how things stand, at the least."""
STATUS_CHARS_MAX = 500


class Systemd:
    """Tells systemd, where it asks for it (Type=notify); lives in the loop that it tells about.

    A loop that stands still tells nothing, so systemd's watchdog ends the process and starts it again.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """environ: of this process; without NOTIFY_SOCKET nobody is told anything."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address[:1] not in {"", "/", "@"}:
            log.warning("systemd is not told", reason=f"NOTIFY_SOCKET={self._address} is no path")
            self._address = ""
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        span_us = environ.get("WATCHDOG_USEC", "")
        self._every_s = min(TOLD_S, int(span_us) / 2e6) if watched and span_us.isdecimal() else TOLD_S
        self._failed = False

    async def run(self, reasons: Callable[[], list[str]], stopping: asyncio.Event) -> None:
        """Tell until it is cancelled; at once when `stopping` is set. reasons: why the process is not ready.

        READY=1 is told when this begins: a worker waits for Kafka and Redis by itself (decision 0119).
        """
        if not self._address:
            return
        self._tell("READY=1", _status(reasons()))
        await self._live(reasons, stopping)
        self._tell("STOPPING=1", "STATUS=draining")
        await self._live(lambda: ["draining"], asyncio.Event())

    async def _live(self, reasons: Callable[[], list[str]], until: asyncio.Event) -> None:
        while not until.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await until.wait()
            self._tell("WATCHDOG=1", _status(reasons()))

    def _tell(self, *lines: str) -> None:
        """Send one message. That systemd takes none stops nobody: rating goes on, the log tells it once."""
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(0)
                out.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._failed:
                log.warning("systemd is not told", reason=f"{self._address}: {error.strerror or error}")
            self._failed = True
        else:
            self._failed = False


def _status(reasons: list[str]) -> str:
    text = "; ".join(reasons) or "rating"
    return "STATUS=" + " ".join(text.split())[:STATUS_CHARS_MAX]
