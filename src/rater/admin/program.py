"""`rater admin` as a program: it connects, serves until it is told to stop, and ends what it began."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from rater import app
from rater.admin.access import Tokens
from rater.admin.office import Office, read_tokens
from rater.admin.oidc import open_issuer
from rater.admin.orders import Orders
from rater.admin.rerates import Rerates
from rater.admin.scraping import Scraping
from rater.admin.server import AdminServer
from rater.config import Settings
from rater.errors import Halt
from rater.metrics import Metrics
from rater.source_maps import open_maps

log = structlog.get_logger()


@asynccontextmanager
async def serving(settings: Settings, tokens: Tokens | None = None) -> AsyncIterator[int]:
    """Serve the API and the console; gives the port.

    tokens: those that may ask, None: those of the settings. Raises Halt and Wait with a sentence of what is
    wrong.
    """
    known = read_tokens(settings) if tokens is None else tokens
    issuer = None if settings.admin.oidc is None else open_issuer(settings.admin.oidc)
    maps, _ = open_maps(settings.sources)  # where one is at fault, what named a client is not known
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        if issuer is not None:
            stack.push_async_callback(issuer.close)
        at = await stack.enter_async_context(app.connections(settings))
        problems = await at.topics.check(dict(at.kafka))
        if problems:
            raise Halt("\n".join(problems))
        model = await stack.enter_async_context(app.read_model(settings, metrics))
        sources = {source.topic: name for name, source in settings.all_sources().items()}
        scraping = Scraping(settings.admin.workers)
        stack.push_async_callback(_ended, asyncio.create_task(scraping.run()))
        rerates = Rerates(settings, at, model)
        orders = Orders(settings, at, model)
        office = Office(settings, at, model, orders, rerates, maps, known, sources, scraping, issuer)
        server = AdminServer(office, metrics)
        port = await server.start(settings.admin.host, settings.admin.port)
        stack.push_async_callback(rerates.close)
        stack.push_async_callback(server.stop)
        await rerates.resume()
        yield port


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def run_admin(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `serving`."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopping.set)
    async with serving(settings) as port:
        log.info("admin started", address=f"http://{settings.admin.host}:{port}", port=port)
        await stopping.wait()
    log.info("admin stopped")
