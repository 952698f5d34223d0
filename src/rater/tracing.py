"""Spans by OpenTelemetry (the extra `tracing`): of each batch that has calls of a trace, and of its steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rater import __version__
from rater.core.journal.traces import Timed, read_trace
from rater.core.line.batch import Batch
from rater.errors import Halt

if TYPE_CHECKING:
    from opentelemetry.trace import Link

LINKS_MAX = 128
"""Traces that a batch's span names: what collectors take of a span."""
STEPS_MAX = 32
"""Spans of steps of a batch: a batch is asked again and again where its clients change meanwhile."""
EXPORT_S = 2
"""So long a collector may take for what it is sent, and a worker that ends waits for it."""


class Tracer:
    """Sends spans to a collector, in a thread of its own; what it does not take is dropped, and logged."""

    def __init__(self, endpoint: str, worker: str) -> None:
        """Raises Halt where OpenTelemetry is not installed. worker: its name."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise Halt(
                f"tracing.endpoint is set, but OpenTelemetry is not installed ({error}): pip install "
                "'rater[tracing]', or leave tracing.endpoint empty"
            ) from error
        names = {"service.name": "rater", "service.version": __version__, "service.instance.id": worker}
        # Whether a call's trace is kept its switch has decided; a batch is asked for only where one is.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(names), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rater", __version__)

    def publish(self, lane: int, batch: Batch, timed: Sequence[Timed]) -> str:
        """Make the spans of a batch that is committed; returns the id of their trace, "": none was wanted.

        timed: its steps, in order. A call's own trace is named by a link: a batch has thousands of calls.
        """
        from opentelemetry.context import Context  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind, format_trace_id, set_span_in_context  # noqa: PLC0415 - an extra

        links = _links(batch)
        if not links:
            return ""
        attributes = {"rater.lane": lane, "rater.records": batch.records, "rater.catalog": batch.catalog}
        begin_ns, end_ns = timed[0].begin_ns, timed[-1].end_ns
        whole = self._tracer.start_span(
            "rate", Context(), kind=SpanKind.CONSUMER, links=links, attributes=attributes, start_time=begin_ns
        )
        within = set_span_in_context(whole, Context())
        for one in [*timed[: STEPS_MAX - 1], timed[-1]]:
            self._tracer.start_span(one.stage, within, start_time=one.begin_ns).end(one.end_ns)
        whole.end(end_ns)
        return format_trace_id(whole.get_span_context().trace_id)

    async def close(self) -> None:
        """Send what is left, within EXPORT_S; never raises."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut() -> None:
            self._provider.shutdown()
            loop.call_soon_threadsafe(done.set)

        # A thread that nothing waits for: the loop's own would be waited for at the end of the program.
        threading.Thread(target=shut, daemon=True).start()
        try:
            async with asyncio.timeout(EXPORT_S):
                await done.wait()
        except TimeoutError:
            pass


def _links(batch: Batch) -> list[Link]:
    """Return links to the traces of a batch's calls, as far as these are kept."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    found: dict[str, Link] = {}
    for raw in batch.traces.of.values():
        trace = read_trace(raw)
        if trace.is_sampled and trace.trace_id not in found:
            context = SpanContext(
                int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True,
                trace_flags=TraceFlags(trace.flags),
            )  # fmt: skip
            found[trace.trace_id] = Link(context)
            if len(found) == LINKS_MAX:
                break
    return list(found.values())
