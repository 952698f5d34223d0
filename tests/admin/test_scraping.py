"""Asking workers for their metrics: real servers, one of each kind that may stand at an address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rater.admin import scraping
from rater.admin.scraping import Scrape, Scraping
from rater.core.line.counts import Counts
from rater.health import HealthServer
from rater.metrics import Metrics

HOST = "127.0.0.1"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve /metrics so; gives the address."""
    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(*addresses: str) -> AsyncIterator[Callable[[], Awaitable[Scrape]]]:
    """Ask these; gives what returns the next scrape."""
    one = Scraping(addresses, every_s=0.05, answer_s=0.5)
    task = asyncio.create_task(one.run())

    async def following() -> Scrape:
        assert await one.wait(0 if one.last is None else one.last.number, 10)
        assert one.last is not None
        return one.last

    try:
        yield following
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(text: str, status: int = 200) -> Answer:
    """Return what answers so."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


async def elsewhere(_: web.Request) -> web.StreamResponse:
    """Send who asks to another address."""
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/metrics"})


async def silent(_: web.Request) -> web.StreamResponse:
    """Begin, and say nothing more."""
    await asyncio.sleep(60)
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """Say more than anybody can keep."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(b"#" * 65_536)
    return answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said("", 503), "it answers 503"),
        (elsewhere, "it answers 302"),
        (silent, "does not answer within 0.5 s"),
        (endless, "more than 100000 bytes"),
        (said("up 1\n"), "not those of a worker"),
        (said("rater_ready 1\nrater_cdrs_total many\n"), "cannot be read"),
    ],
)
async def test_who_is_no_worker_is_named_with_why(
    answer: Answer, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands at an address, a scrape ends, says why there is nothing of it, and sums go without."""
    monkeypatch.setattr(scraping, "BYTES_MAX", 100_000)
    health = HealthServer(metrics := Metrics(), list)
    metrics.add(Counts(cdrs=7), committed_ms=0)
    port = await health.start(HOST, 0)
    async with serving(answer) as address, asking(address, f"{HOST}:{port}") as following:
        found = await following()
        assert why in str(found.workers[0].why)
        assert (found.workers[0].reading, found.workers[1].why) == (None, None)
        assert (found.answered, found.sums.records) == (1, 7)
    await health.stop()


async def test_who_comes_and_goes_is_told_since_when() -> None:
    """A worker that ends is named as such, since the scrape that found it so; one that comes back, too."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        port = one.getsockname()[1]
    async with asking(f"{HOST}:{port}") as following:
        away = await following()
        assert away.workers[0].why == "it cannot be reached (connection refused)"
        health = HealthServer(Metrics(), list)
        await health.start(HOST, port)
        while (there := await following()).workers[0].reading is None:
            assert there.workers[0].since_ms == away.at_ms
        assert (there.workers[0].since_ms, there.answered) == (there.at_ms, 1)
        again = await following()
        assert again.workers[0].since_ms == there.at_ms < again.at_ms
        await health.stop()
        while (gone := await following()).workers[0].reading is not None:
            pass
        assert gone.workers[0].since_ms == gone.at_ms
        assert gone.sums.records == 0


async def test_without_addresses_nothing_is_asked() -> None:
    """It ends at once, and there is no scrape to wait for."""
    one = Scraping(())
    await asyncio.wait_for(one.run(), 5)
    assert one.last is None
    assert not await one.wait(0, 0.01)
