"""Health: what an orchestrator and Prometheus are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from rater.errors import Halt
from rater.health import HealthServer
from rater.metrics import Metrics


@asynccontextmanager
async def serving(reasons: list[str]) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    """Give a client, and the port of a server that is not ready for these reasons."""
    server = HealthServer(Metrics(), lambda: reasons)
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client, port
    finally:
        await server.stop()


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    """/metrics has the text format and its content type."""
    async with serving([]) as (client, _), client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert "rater_build_info{" in await answer.text()


async def test_open_metrics_where_that_is_accepted() -> None:
    """As Prometheus asks for it: exemplars need it."""
    accepted = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"}
    async with serving([]) as (client, _), client.get("/metrics", headers=accepted) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await answer.text()).endswith("# EOF\n")


async def test_whatever_is_accepted_is_answered() -> None:
    """Anybody may send a header: it is no fault of ours, and none for the log."""
    accepted = {"Accept": "application/openmetrics-text; version=x.y, */*; q=z"}
    async with serving([]) as (client, _), client.get("/metrics", headers=accepted) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")


async def test_live_whenever_it_answers() -> None:
    """/livez is 200 also while the worker is not ready."""
    async with serving(["no catalog"]) as (client, _), client.get("/livez") as answer:
        assert answer.status == 200
        assert await answer.json() == {"live": True}


async def test_ready_tells_why_not() -> None:
    """/readyz is 503 with the reasons until there are none."""
    reasons = ["no catalog was loaded: rater load FILE"]
    async with serving(reasons) as (client, _):
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {"ready": False, "reasons": reasons}
        async with client.get("/metrics") as answer:
            assert "\nrater_ready 0.0\n" in await answer.text()
        reasons.clear()
        async with client.get("/metrics") as answer:
            assert "\nrater_ready 1.0\n" in await answer.text()
        async with client.get("/readyz") as answer:
            assert answer.status == 200
            assert await answer.json() == {"ready": True, "reasons": []}


async def test_a_taken_port_is_a_sentence() -> None:
    """A port that is in use stops the program with what to do."""
    async with serving([]) as (_, port):
        with pytest.raises(Halt, match=rf"cannot listen on 127\.0\.0\.1:{port} .*metrics\.port"):
            await HealthServer(Metrics(), list).start("127.0.0.1", port)


async def test_stopping_twice_is_harmless() -> None:
    """A server that was never started, or is stopped already, can be stopped."""
    server = HealthServer(Metrics(), list)
    await server.stop()
    await server.start("127.0.0.1", 0)
    await server.stop()
    await server.stop()
