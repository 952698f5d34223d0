"""The composition root: settings in, connected parts out, closed in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import getpass
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from rater.catalogs import Catalogs
from rater.config import Settings
from rater.core.catalog.specs import Content
from rater.core.journal.auditing import Ledger
from rater.errors import Halt
from rater.health import HealthServer
from rater.jobs.audit import Progress
from rater.jobs.audit import audit as run_audit
from rater.jobs.load import Loader
from rater.metrics import Metrics
from rater.source_maps import open_maps
from rater.store.buckets import Buckets
from rater.stream.content import read_content
from rater.stream.journal import last_marks
from rater.stream.topics import Topics
from rater.worker.process import Worker
from rater.worker.shared import Readiness, Shared, WorkerConnections

log = structlog.get_logger()

Say = Callable[[str], None]


def kafka_client(settings: Settings) -> dict[str, Any]:
    """Return how aiokafka connects."""
    kafka = settings.kafka
    client: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "client_id": "rater",
    }
    if kafka.security_protocol.startswith("SASL"):
        client |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password,
        }
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
        context.check_hostname = kafka.ssl_check_hostname
        if kafka.ssl_certfile is not None:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
        client["ssl_context"] = context
    return client


def topics_of(settings: Settings) -> Topics:
    """Return the topics as the settings name them."""
    data = {name: source.topic for name, source in settings.sources.items()}
    return Topics(settings.topics.prefix, settings.topics.partitions, data)


async def connect_store(settings: Settings) -> Buckets:
    """Return the connected store."""
    redis = settings.redis
    return await Buckets.connect(
        redis.url, prefix=redis.prefix, buckets=redis.buckets, lanes=settings.topics.partitions,
        username=redis.username, password=redis.password, timeout_s=redis.timeout_s,
    )  # fmt: skip


def catalogs_of(settings: Settings) -> Catalogs:
    """Return the catalogs that lie in Kafka."""
    client, topic = kafka_client(settings), topics_of(settings).commands
    return Catalogs(lambda offsets: read_content(client, topic, offsets))


async def content_in_force(settings: Settings) -> tuple[int, Content] | None:
    """Return version and content of the newest catalog that a lane has adopted; None: none was loaded."""
    marks = await last_marks(
        kafka_client(settings), topics_of(settings).transactions, settings.topics.partitions
    )
    newest = max((mark for mark in marks if mark is not None), key=lambda mark: mark.catalog, default=None)
    if newest is None or not newest.catalog:
        return None
    body, content = await catalogs_of(settings).content(newest.body)
    return body.version, content


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Shared]:
    """Connect everything that a worker needs; raises Halt or Wait with a sentence of what is wrong."""
    client, topics = kafka_client(settings), topics_of(settings)
    maps, faults = open_maps(settings.sources)
    if faults:
        raise Halt("; ".join(faults))
    problems = await topics.check(client)
    if problems:
        raise Halt("\n".join(problems))
    store = await connect_store(settings)
    try:
        problems = await store.check()
        if problems:
            raise Halt("\n".join(problems))
        own = WorkerConnections(
            settings=settings,
            client=client,
            topics=topics,
            store=store,
            catalogs=catalogs_of(settings),
            maps=maps,
            metrics=Metrics(),
            worker_id=settings.worker.id or f"{socket.gethostname()}-{os.getpid()}",
        )
        yield Shared(own, Readiness(settings.kafka.bootstrap_servers))
    finally:
        await store.close()


async def run_worker(settings: Settings) -> None:
    """Rate until SIGTERM or SIGINT, then drain; a Halt is raised."""
    async with connected(settings) as shared:
        worker, metrics = Worker(shared), shared.connections.metrics
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, worker.stopping.set)
        health = HealthServer(metrics, shared.readiness.reasons)
        port = await health.start(settings.metrics.host, settings.metrics.port)
        lag = asyncio.create_task(_watch_lag(worker, metrics))
        spare_collector()
        log.info(
            "worker started",
            worker=shared.connections.worker_id,
            group=settings.kafka.group_id,
            metrics_port=port,
        )
        try:
            await worker.run()
        finally:
            lag.cancel()
            await health.stop()
            log.info("worker stopped", worker=shared.connections.worker_id)


def spare_collector() -> None:
    """Let the collector look seldom, and not at all at what is there now: that stays (PROTOCOL.md 5.7).

    A batch in the making is 50,000 objects or so, all in use: looking at them again and again finds nothing.
    But each look stops all lanes, 50 ms for 100,000 objects and 110 for 250,000, for no less of the time.
    Rating leaves no cycles behind; what others leave is found some seconds later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def load(settings: Settings, files: Sequence[str | Path], say: Say) -> int:
    """Load catalog files; returns the exit code: 0 done, 1 queued or refused in part, 2 faults."""
    client, topics = kafka_client(settings), topics_of(settings)
    problems = await topics.check(client)
    if problems:
        raise Halt("\n".join(problems))
    store = await connect_store(settings)
    try:
        loader = Loader(client, topics, store, catalogs_of(settings), say, getpass.getuser())
        loaded = await loader.load([Path(name) for name in files])
    finally:
        await store.close()
    if isinstance(loaded, list):
        for fault in loaded:
            say(str(fault))
        say(f"{len(loaded)} {'fault' if len(loaded) == 1 else 'faults'}: nothing was changed")
        return 2
    if not loaded.changed:
        say(f"nothing to change: catalog {loaded.version} says the same")
        return 0
    for reason in loaded.refused:
        say(f"refused: {reason}")
    if not loaded.applied:
        say(
            f"catalog {loaded.version} stays queued: no worker answered. It is applied as soon as workers "
            "own every lane; start them with `rater worker`"
        )
        return 1
    if loaded.refused:
        return 1
    say(f"catalog {loaded.version} is in use on all {topics.partitions} lanes")
    return 0


async def audit(
    settings: Settings, say: Say, *, as_json: bool = False, progress: Progress | None = None
) -> int:
    """Compare Redis with the journal; prints each finding to stdout; returns 0 when there is none, else 1."""
    client, topics = kafka_client(settings), topics_of(settings)
    store = await connect_store(settings)
    try:
        ledger = await run_audit(client, topics, store, progress)
    finally:
        await store.close()
    return _told(ledger, say, as_json=as_json)


async def audit_every(settings: Settings, say: Say, every_s: int, *, as_json: bool = False) -> None:
    """Audit again and again until it is stopped, and serve the last result as `rater_audit_drift`."""
    metrics = Metrics()
    health = HealthServer(metrics, list)
    port = await health.start(settings.metrics.host, settings.metrics.port)
    say(f"http://{settings.metrics.host}:{port}/metrics tells what the last audit found")
    client, topics = kafka_client(settings), topics_of(settings)
    try:
        while True:
            store = await connect_store(settings)
            try:
                ledger = await run_audit(client, topics, store)
            finally:
                await store.close()
            metrics.drift(ledger.findings_total)
            _told(ledger, say, as_json=as_json)
            await asyncio.sleep(every_s)
    finally:
        await health.stop()


def _told(ledger: Ledger, say: Say, *, as_json: bool) -> int:
    """Print the findings and return the exit code."""
    for finding in ledger.findings:
        text = msgspec.json.encode(finding).decode() if as_json else f"{finding.where}: {finding.problem}"
        sys.stdout.write(text + "\n")
    found = ledger.findings_total
    result = f"{found} {'finding' if found == 1 else 'findings'}" if found else "counters and balances agree"
    say(f"{ledger.transactions} transactions of {len(ledger.balances)} clients read: {result}")
    return 1 if found else 0


LAG_S = 1.0


async def _watch_lag(worker: Worker, metrics: Metrics) -> None:
    """Tell the lag of our lanes once a second."""
    told: set[tuple[str, int]] = set()
    while True:
        await asyncio.sleep(LAG_S)
        now_s, known = time.time(), set()
        for lane, reader in worker.readers():
            for topic, (records, last_ms) in (await reader.lag()).items():
                seconds = 0.0 if last_ms is None else max(0.0, now_s - last_ms / 1000)
                metrics.lag(topic, lane, records, seconds)
                known.add((topic, lane))
        for place in told - known:
            metrics.forget_lag(*place)
        told = known
