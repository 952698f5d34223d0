"""What systemd is told, on a real datagram socket, and what a worker's process tells it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rater.systemd import STATUS_CHARS_MAX, Systemd

WAIT_S = 30.0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a socket as systemd has it; its name is the path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "notify"))
        own.settimeout(WAIT_S)
        yield own


async def heard(told: socket.socket) -> list[str]:
    """Return the lines of the next message."""
    return (await asyncio.to_thread(told.recv, 4096)).decode().split("\n")


async def test_it_tells_ready_alive_and_draining(told: socket.socket) -> None:
    """READY first, WATCHDOG twice in its time, STATUS as it stands, STOPPING as soon as it drains."""
    reasons, stopping = ["waiting for\nKafka"], asyncio.Event()
    systemd = Systemd({"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": "100000"})
    running = asyncio.create_task(systemd.run(lambda: reasons, stopping))
    try:
        assert await heard(told) == ["READY=1", "STATUS=waiting for Kafka"]
        began = time.monotonic()
        assert await heard(told) == ["WATCHDOG=1", "STATUS=waiting for Kafka"]
        assert time.monotonic() - began < WAIT_S / 2
        reasons.clear()
        while (lines := await heard(told)) != ["WATCHDOG=1", "STATUS=rating"]:
            assert lines[0] == "WATCHDOG=1"
        stopping.set()
        while (lines := await heard(told))[0] != "STOPPING=1":
            assert lines == ["WATCHDOG=1", "STATUS=rating"]
        assert lines == ["STOPPING=1", "STATUS=draining"]
        assert await heard(told) == ["WATCHDOG=1", "STATUS=draining"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_abstract_socket_is_reached() -> None:
    """The manager may name one by an @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(f"\0rater-{os.getpid()}")
        own.settimeout(WAIT_S)
        running = asyncio.create_task(
            Systemd({"NOTIFY_SOCKET": f"@rater-{os.getpid()}"}).run(lambda: ["x" * 9999], asyncio.Event())
        )
        assert await heard(own) == ["READY=1", "STATUS=" + "x" * STATUS_CHARS_MAX]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
async def test_it_ends_where_nobody_asks(environ: dict[str, str]) -> None:
    """Started by hand, there is nobody to tell; an address that we do not know is told in the log."""
    await asyncio.wait_for(Systemd(environ).run(list, asyncio.Event()), WAIT_S)


async def test_a_socket_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    """Nor does one that takes no more."""
    gone = Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "2000"})
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gone.run(list, asyncio.Event()), 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        deaf = Systemd({"NOTIFY_SOCKET": str(tmp_path / "full"), "WATCHDOG_USEC": "200"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deaf.run(list, asyncio.Event()), 0.5)


async def test_the_watchdog_of_another_process_is_not_ours(told: socket.socket) -> None:
    """WATCHDOG_PID says whose it is; the default goes on."""
    environ = {"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": "2", "WATCHDOG_PID": "1"}
    running = asyncio.create_task(Systemd(environ).run(list, asyncio.Event()))
    assert (await heard(told))[0] == "READY=1"
    told.settimeout(0.3)
    with pytest.raises(TimeoutError):
        await heard(told)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_worker_tells_while_it_waits_for_kafka(told: socket.socket) -> None:
    """A worker is up before its servers are, lives meanwhile, and says that it stops when it is told to."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RATER_")},
        "NOTIFY_SOCKET": told.getsockname(),
        "WATCHDOG_USEC": "1000000",
        "RATER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "RATER_METRICS__PORT": "0",
    }
    command = [sys.executable, "-m", "rater", "worker"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as worker:  # noqa: S603
        try:
            first = told.recv(4096).decode()
            assert first.startswith("READY=1\nSTATUS=the worker is connecting to Kafka")
            deadline = time.monotonic() + WAIT_S
            while "STATUS=waiting for Kafka" not in told.recv(4096).decode():
                assert time.monotonic() < deadline
            worker.send_signal(signal.SIGTERM)
            while not told.recv(4096).decode().startswith("STOPPING=1"):
                assert time.monotonic() < deadline
            assert worker.wait(WAIT_S) == 0
        finally:
            worker.kill()
