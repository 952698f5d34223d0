"""/metrics, /livez and /readyz of a process, over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from rater.errors import Halt
from rater.metrics import Metrics

SHUTDOWN_S = 1.0
"""How long a scrape that is under way may hold up the end of the process."""


class HealthServer:
    """Serves what Prometheus and an orchestrator ask. Lives in the loop it tells about."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], list[str]]) -> None:
        """Serve these metrics; `not_ready` returns why the process is not ready, nothing when it is."""
        self._metrics = metrics
        self._not_ready = not_ready
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (a free one for 0). Halt when it cannot be had."""
        application = web.Application()
        application.router.add_get("/metrics", self._scrape)
        application.router.add_get("/livez", self._live)
        application.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            message = (
                f"cannot listen on {host}:{port} ({error.strerror or error}): give metrics.host and "
                f"metrics.port "
                "an address of this machine and a port that is free (0 takes one)"
            )
            raise Halt(message) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _scrape(self, request: web.Request) -> web.Response:
        self._metrics.ready(is_ready=not self._not_ready())
        body, form = self._metrics.exposed(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": form})

    async def _live(self, _request: web.Request) -> web.Response:
        # The answer itself is the proof: it comes from the loop that rates.
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        reasons = self._not_ready()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)
