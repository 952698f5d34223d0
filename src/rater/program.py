"""The worker as a program: it waits for its servers, rates until it is told to stop, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from contextlib import AsyncExitStack
from itertools import chain, repeat
from typing import TYPE_CHECKING

import structlog

from rater.app import connected, dangers, native_engine, spare_collector
from rater.errors import Halt, Retake, StreamDown, Wait
from rater.health import HealthServer
from rater.logs import OF_SETTINGS
from rater.metrics import Metrics
from rater.systemd import Systemd
from rater.worker.process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from rater.config import Settings
    from rater.store.buckets import Buckets
    from rater.worker.shared import Shared

log = structlog.get_logger()

LAG_S = 1.0

FIRST_ATTEMPT_S = 2.0
"""So soon a worker that starts tells that Kafka is away."""
ATTEMPT_S = 30.0
"""Each later attempt may take so long: of several brokers, those that are down cost a time-out each."""
AGAIN_S = 1.0
TOLD_AGAIN_S = 60.0
"""A worker that waits for its servers says so again after so many seconds."""


class Starting:
    """A worker that has no connections yet: it waits until Kafka and Redis are there, and says so."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self.metrics = Metrics()
        self._settings = settings
        self._shared: Shared | None = None
        self._waits = "the worker is connecting to Kafka and Redis"
        self._told_at = float("-inf")

    def reasons(self) -> list[str]:
        """Return why this worker is not ready; nothing when it is."""
        return [self._waits] if self._shared is None else self._shared.readiness.reasons()

    async def connect(self, stack: AsyncExitStack) -> Shared:
        """Return what is connected, which `stack` closes; raises Halt for what waiting does not heal."""
        for deadline_s in chain([FIRST_ATTEMPT_S], repeat(ATTEMPT_S)):
            connecting = connected(self._settings, self.metrics, deadline_s=deadline_s)
            try:
                self._shared = await stack.enter_async_context(connecting)
            except Wait as error:
                self._wait(error)
                await asyncio.sleep(AGAIN_S)
            else:
                break
        assert self._shared is not None  # noqa: S101 - the attempts do not end before
        return self._shared

    def _wait(self, error: Wait) -> None:
        event = f"waiting for {'Kafka' if isinstance(error, StreamDown) else 'Redis'}"
        waits, now = f"{event}: {error}", time.monotonic()
        if waits != self._waits or now - self._told_at >= TOLD_AGAIN_S:
            log.warning(event, reason=str(error))
            self._waits, self._told_at = waits, now


async def run_worker(settings: Settings) -> None:
    """Rate until SIGTERM or SIGINT, then drain; a Halt is raised.

    While Kafka or Redis is away it waits for them; /readyz tells so from the beginning.
    """
    stopping = asyncio.Event()
    _on_signals(stopping.set)
    starting = Starting(settings)
    health = HealthServer(starting.metrics, starting.reasons)
    port = await health.start(settings.metrics.host, settings.metrics.port)
    log.info("worker starting", metrics_port=port)
    telling = asyncio.create_task(Systemd(os.environ).run(starting.reasons, stopping))
    try:
        async with AsyncExitStack() as stack:
            connecting = asyncio.create_task(starting.connect(stack))
            stopped = asyncio.create_task(stopping.wait())
            try:
                await asyncio.wait([connecting, stopped], return_when=asyncio.FIRST_COMPLETED)
                if connecting.done():
                    await _rate(connecting.result(), stopping)
                else:
                    log.info("worker stopped")
            finally:
                connecting.cancel()
                stopped.cancel()
                await asyncio.gather(connecting, stopped, return_exceptions=True)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await health.stop()


async def _rate(shared: Shared, stopping: asyncio.Event) -> None:
    """Run a worker that has its connections."""
    worker, own = Worker(shared), shared.connections
    worker.stopping = stopping
    lag = asyncio.create_task(watch_lag(worker, own.metrics))
    warning = asyncio.create_task(_warn(own.settings, own.store))
    spare_collector()
    log.info(
        "worker started", worker=own.worker_id, group=own.settings.kafka.group_id, engine=own.metrics.engine
    )
    if shared.native is None:
        log.info("no native engine", reason=native_engine(own.settings))
    try:
        await worker.run()
    finally:
        lag.cancel()
        warning.cancel()
        log.info("worker stopped", worker=own.worker_id)


async def _warn(settings: Settings, store: Buckets) -> None:
    """Warn once of what is set up dangerously; `rater check` tells the same."""
    try:
        for where, text in await dangers(settings, store, asks_settings=False):
            log.warning(OF_SETTINGS, where=where, reason=text)
    except (Wait, Halt) as error:
        log.warning("not looked at, whether anything is set up dangerously", reason=str(error))


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop)


async def watch_lag(worker: Worker, metrics: Metrics) -> None:
    """Tell the lag of our lanes, also that of due work, once a second.

    A lane whose lag the library does not tell just now, as when it is being lost, has none meanwhile: what
    stood there before would look like a lane that keeps up.
    """
    told: set[tuple[str, int]] = set()
    while True:
        await asyncio.sleep(LAG_S)
        known = set[tuple[str, int]]()
        for lane, reader in worker.readers():
            try:
                lags = await reader.lag()
            except Retake as error:
                log.warning("the lag is not known", lane=lane, reason=str(error))
                continue
            now_s = time.time()
            for topic, (records, last_ms) in lags.items():
                seconds = 0.0 if last_ms is None else max(0.0, now_s - last_ms / 1000)
                metrics.lag(topic, lane, records, seconds)
                known.add((topic, lane))
        metrics.overdue(worker.overdue())
        for place in told - known:
            metrics.forget_lag(*place)
        told = known
