"""Spans of batches that have calls of a trace, as a collector gets them, and exemplars of /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from recycled import catalog, cdr

from line.test_traces import trace, transactions

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


class Collector:
    """A collector of OpenTelemetry, as far as it takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        """Nothing was sent yet."""
        self.spans: list[Any] = []
        self.services: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        """Take spans."""
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(names["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """A collector, and its address."""
    made, application = Collector(), web.Application()
    application.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    await runner.cleanup()


async def test_spans_of_batches_and_exemplars(system_of: SystemOf, collector: tuple[Collector, str]) -> None:
    """A batch with sampled calls has a span that names their traces, with one for each step; others none."""
    told, address = collector
    system = await system_of(partitions=1, environ={"RATER_TRACING__ENDPOINT": address})
    process = system.start_worker()
    await system.started(process)
    await system.load(catalog("380"))
    await system.send([(cdr("b", "380441234567"), None)])
    await system.send([(cdr("n", "380441234567"), None)], headers=trace(8, "00"))
    await system.settled()
    for number in (1, 2):
        await system.send([(cdr(f"a{number}", "380441234567"), None)], headers=trace(number))
    await system.settled()
    port = system.metrics_port(process)
    async with aiohttp.ClientSession() as session:
        form = {"Accept": "application/openmetrics-text;version=1.0.0"}
        async with session.get(f"http://127.0.0.1:{port}/metrics", headers=form) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            metrics = await answer.text()
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "trace_id" not in await answer.text()
    assert await asyncio.to_thread(system.stop_worker, process) == 0  # what is left is sent then
    rates = [span for span in told.spans if span.name == "rate"]
    linked = [int(link.trace_id.hex(), 16) for span in rates for link in span.links]
    assert sorted(linked) == [1, 2]
    assert told.services == {"rater"}
    for rate in rates:
        steps = [span for span in told.spans if span.parent_span_id == rate.span_id]
        names = [span.name for span in sorted(steps, key=lambda span: span.start_time_unix_nano)]
        assert (names[0], names[-1], "draw" in names) == ("decode", "commit", True)
        assert all(rate.start_time_unix_nano <= span.start_time_unix_nano for span in steps)
        assert max(span.end_time_unix_nano for span in steps) == rate.end_time_unix_nano
    shown = [line for line in metrics.splitlines() if "# {trace_id=" in line]
    assert any(
        line.startswith('rater_stage_seconds_bucket{le="') and 'stage="draw"' in line for line in shown
    )
    # The first one of the last batch, which may have both.
    first = [line for line in shown if line.startswith("rater_end_to_end_seconds")]
    assert any(f'trace_id="{of:032x}"' in line for line in first for of in (1, 2))
    assert any(rates[-1].trace_id.hex() in line for line in shown)


async def test_a_collector_that_is_away_holds_up_nobody(system_of: SystemOf) -> None:
    """Calls are rated, and a worker that is told to stop ends within seconds."""
    system = await system_of(
        partitions=1, environ={"RATER_TRACING__ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    )
    process = system.start_worker()
    await system.started(process)
    await system.load(catalog("380"))
    await system.send([(cdr("a", "380441234567"), None)], headers=trace(1))
    await system.settled()
    began = time.monotonic()
    assert system.stop_worker(process) == 0
    assert time.monotonic() - began < 15
    assert [one[3] for one in await transactions(system) if one[2] == "usage"] == [trace(1)]
