"""The composition root: settings in, connected parts out, closed in reverse order."""

from __future__ import annotations

import asyncio
import gc
import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from rater.catalogs import Catalogs
from rater.config import Settings
from rater.core.catalog_files.merging import Fault
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.journal.auditing import Ledger
from rater.core.journal.snapshots import Digest
from rater.core.line.recycling import Choice
from rater.errors import Halt, NoCatalog
from rater.health import HealthServer
from rater.jobs.audit import Progress
from rater.jobs.audit import audit as run_audit
from rater.jobs.audit_file import AuditFile
from rater.jobs.commands import Sender
from rater.jobs.digest import digest
from rater.jobs.growing import Growing
from rater.jobs.load import Loaded, Loader
from rater.jobs.recycle import Recycling, Report
from rater.jobs.rerate_reading import Sources
from rater.jobs.rerate_sending import JobCommands
from rater.jobs.running_audit import Round, RunningAudit, rounds
from rater.logins import Secret, Tls
from rater.metrics import Metrics
from rater.queries import catalog as catalog_queries
from rater.queries.connections import Connections
from rater.queries.pending_charges import pending_charges
from rater.source_maps import open_maps
from rater.store.buckets import Buckets
from rater.store.link import Link
from rater.stream import rights
from rater.stream.content import read_content
from rater.stream.coverage import uncovered
from rater.stream.dangers import Wanted
from rater.stream.dangers import remarks as kafka_remarks
from rater.stream.logging_in import login
from rater.stream.topics import Topics, topic_ids
from rater.tracing import Tracer
from rater.worker.rebuilding import Rebuilt, Told
from rater.worker.rebuilding import rebuild as rebuild_all
from rater.worker.shared import Readiness, Shared, WorkerConnections

if TYPE_CHECKING:
    from rater.native.holding import Native
    from rater.readmodel.asking import ReadModel

log = structlog.get_logger()

READ_MODEL = "sqlite:///rater-admin.sqlite"
"""Where `rater admin` keeps the read model unless `admin.database` says otherwise."""


def kafka_client(settings: Settings) -> dict[str, Any]:
    """Return how aiokafka connects."""
    kafka = settings.kafka
    return {"bootstrap_servers": kafka.bootstrap_servers, "client_id": "rater", **login(kafka)}


def topics_of(settings: Settings) -> Topics:
    """Return the topics as the settings name them."""
    data = {name: source.topic for name, source in settings.sources.items()}
    sizes = {name: source.record_bytes_max for name, source in settings.sources.items() if source.map}
    return Topics(settings.topics.prefix, settings.topics.partitions, data, sizes, settings.journal_min_ms)


async def connect_store(settings: Settings, *, fixes: bool = True) -> Buckets:
    """Return the connected store. fixes: as of `Buckets.connect`."""
    redis = settings.redis
    password, tls = _redis_login(settings)
    return await Buckets.connect(
        redis.url, prefix=redis.prefix, buckets=redis.buckets, lanes=settings.topics.partitions,
        username=redis.username, password=password, timeout_s=redis.timeout_s, tls=tls, fixes=fixes,
    )  # fmt: skip


def _redis_login(settings: Settings) -> tuple[str | Secret | None, Tls | None]:
    """Return the password, or the file that has it, and TLS where the URL asks for it."""
    redis = settings.redis
    who = Secret(file, redis.password or "") if (file := redis.password_file) else redis.password
    # What stands behind the `?` of the URL is for the library, which makes its own context then.
    if not redis.url.startswith("rediss://") or "ssl_" in redis.url.partition("?")[2]:
        return who, None
    files = redis.ssl_cafile, redis.ssl_certfile, redis.ssl_keyfile
    return who, Tls(*files, check_hostname=redis.ssl_check_hostname)


def catalogs_of(settings: Settings, native: Native | None = None) -> Catalogs:
    """Return the catalogs that lie in Kafka. native: who has each of them, too."""
    client, topic = kafka_client(settings), topics_of(settings).commands
    beside = None if native is None else native.load
    return Catalogs(lambda offsets: read_content(client, topic, offsets), settings.events.notices, beside)


def native_engine(settings: Settings) -> Native | str:
    """Return the native engine, or why Python rates, as a sentence. Raises Halt where that is not wanted."""
    wanted = settings.worker.engine
    if wanted == "python":
        return "worker.engine is python: Python rates"
    try:
        from rater.native.holding import Native  # noqa: PLC0415 - it may not be there, which is no fault
    except ImportError as error:
        if wanted == "native":
            raise Halt(f"worker.engine is native, but {error}") from error
        return str(error)
    return Native(writes=True)


def _native(settings: Settings) -> Native | None:
    engine = native_engine(settings)
    return None if isinstance(engine, str) else engine


@asynccontextmanager
async def opened_store(settings: Settings, *, fixes: bool = False) -> AsyncIterator[Buckets]:
    """Connect the store, by default to read it, and close it in the end."""
    store = await connect_store(settings, fixes=fixes)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def connections(settings: Settings) -> AsyncIterator[Connections]:
    """Connect what `rater.queries` asks of the store and of the catalogs, and close it in the end."""
    async with opened_store(settings) as store:
        yield Connections(store, kafka_client(settings), topics_of(settings), catalogs_of(settings))


@asynccontextmanager
async def read_model(
    settings: Settings, metrics: Metrics | None = None, *, follows: bool = True
) -> AsyncIterator[ReadModel]:
    """Open the read model; follows: the topics are followed into it until it is left.

    Raises Halt where its database cannot be used, or the extra `admin` is missing.
    """
    try:
        from rater.readmodel.asking import ReadModel  # noqa: PLC0415 - SQLAlchemy is of an extra
        from rater.readmodel.database import Database  # noqa: PLC0415
        from rater.readmodel.following import Following  # noqa: PLC0415
    except ImportError as error:
        raise Halt(f"the read model needs the extra `admin` ({error}): pip install 'rater[admin]'") from error
    client, topics = kafka_client(settings), topics_of(settings)
    if follows and (problems := await topics.check(client)):
        raise Halt("\n".join(problems))
    async with AsyncExitStack() as stack:
        database = Database(settings.admin.database or READ_MODEL)
        stack.callback(database.close)
        following = None
        if follows:
            store = await stack.enter_async_context(opened_store(settings))
            following = Following(client, topics, store, catalogs_of(settings), database, metrics)
        model = ReadModel(database, following)
        task = asyncio.create_task(model.follow())
        try:
            yield model
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(
    settings: Settings, metrics: Metrics | None = None, *, deadline_s: float = 10.0
) -> AsyncIterator[Shared]:
    """Connect everything that a worker needs; raises Halt or Wait with a sentence of what is wrong.

    metrics: those that are served already. deadline_s: so long Kafka may take to answer.
    """
    client, topics = kafka_client(settings), topics_of(settings)
    maps, faults = open_maps(settings.sources)
    if faults:
        raise Halt("; ".join(faults))
    problems = await rights.lacking(client, topics, settings.kafka.group_id, deadline_s=deadline_s)
    problems = problems or await topics.problems(client, deadline_s=deadline_s)
    if problems:
        raise Halt("\n".join(problems))
    native = _native(settings)
    problems = await uncovered(client, topics, settings.redis.buckets)
    if problems:
        raise Halt("\n".join(problems))
    store = await connect_store(settings)
    tracer = None
    try:
        problems = await store.check()
        if problems:
            raise Halt("\n".join(problems))
        for text in await store.unseen():
            log.warning("Redis cannot be looked at whole", reason=text)
        worker_id = settings.worker.id or f"{socket.gethostname()}-{os.getpid()}"
        if settings.tracing.endpoint:
            tracer = Tracer(settings.tracing.endpoint, worker_id)
        measured = metrics or Metrics()
        measured.engine = "python" if native is None else "native"
        measured.catalog(None)
        measured.sources(topics.data)
        own = WorkerConnections(
            settings=settings,
            client=client,
            topics=topics,
            store=store,
            catalogs=catalogs_of(settings, native),
            maps=maps,
            metrics=measured,
            worker_id=worker_id,
            tracer=tracer,
        )
        yield Shared(own, Readiness(settings.kafka.bootstrap_servers), native)
    finally:
        if tracer is not None:
            await tracer.close()
        await store.close()


async def dangers(settings: Settings, store: Buckets, *, asks_settings: bool) -> list[tuple[str, str]]:
    """Return (where, sentence with its remedy) for what is set up dangerously, and lets a worker start.

    where: topics or redis. asks_settings: see `Buckets.remarks`. The topics have to be there. Raises Wait,
    Halt.
    """
    client, topics = kafka_client(settings), topics_of(settings)
    wanted = Wanted(settings.kafka.session_timeout_ms, settings.worker.duplicate_window_days * DAY_MS)
    told = [("topics", text) for text in await kafka_remarks(client, topics, wanted)]
    return told + [("redis", text) for text in await store.remarks(asks_settings=asks_settings)]


def spare_collector() -> None:
    """Let the collector look seldom, and not at all at what is there now: that stays (PROTOCOL.md 5.7).

    A batch in the making is 50,000 objects or so, all in use: looking at them again and again finds nothing.
    But each look stops all lanes, 50 ms for 100,000 objects and 110 for 250,000, for no less of the time.
    Rating leaves no cycles behind; lanes that go do, 1,500 objects each: every fifth look is at older ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 5, 100)


async def load(
    settings: Settings, files: Sequence[str | Path], progress: Callable[[str], None]
) -> Loaded | list[Fault]:
    """Load catalog files; returns what became of it, or every fault (nothing was changed then).

    progress: told of each step, in a sentence. Raises Halt where topics are not as they must be.
    """
    async with loader(settings, progress) as made:
        return await made.load([Path(name) for name in files])


@asynccontextmanager
async def loader(
    settings: Settings,
    progress: Callable[[str], None],
    *,
    actor: str | None = None,
    reason: str = "",
    key: str | None = None,
) -> AsyncIterator[Loader]:
    """Connect what loads catalogs, and close it in the end. Raises as `load`.

    actor: who asks, None: the user of this process; reason and key: what the commands say besides.
    """
    client, topics = kafka_client(settings), topics_of(settings)
    problems = await topics.check(client)
    if problems:
        raise Halt("\n".join(problems))
    async with opened_store(settings, fixes=True) as store:
        own = catalogs_of(settings)
        yield Loader(
            client, topics, store, own, progress, user() if actor is None else actor, reason=reason, key=key
        )


def user() -> str:
    """Return the name of the user of this process: who commands, unless they say otherwise."""
    return getpass.getuser()


async def grow_topics(settings: Settings, progress: Callable[[str], None]) -> int:
    """Add partitions up to `topics.partitions`; returns how many lanes there were. See `jobs/growing.py`."""
    redis, client, topics = settings.redis, kafka_client(settings), topics_of(settings)
    password, tls = _redis_login(settings)
    link = Link(redis.url, redis.username, password, redis.timeout_s, tls)
    try:
        await link.open()
        # Not connected as a store: that would refuse another number of lanes than Redis has.
        store = Buckets(link, redis.prefix, redis.buckets, topics.partitions)
        made = Loader(client, topics, store, catalogs_of(settings), progress, user())
        return await Growing(made, link, redis.prefix, redis.buckets, settings.kafka.group_id).grow()
    finally:
        await link.close()


@asynccontextmanager
async def sender(settings: Settings, progress: Callable[[str], None]) -> AsyncIterator[Sender]:
    """Check the topics, and give what sends commands. Raises as `load`."""
    client, topics = kafka_client(settings), topics_of(settings)
    problems = await topics.check(client)
    if problems:
        raise Halt("\n".join(problems))
    yield Sender(client, topics, settings.redis.buckets, progress)


@asynccontextmanager
async def rerating(
    settings: Settings, run: str, progress: Callable[[str], None], *, applies: bool, actor: str | None = None
) -> AsyncIterator[tuple[Sources, JobCommands | None]]:
    """Connect what a re-rating job reads and, where it applies, sends by; close it in the end.

    run: begins the ids of its commands. actor: who asks, None: the user of this process. Raises as `load`.
    """
    client, topics = kafka_client(settings), topics_of(settings)
    maps, faults = open_maps(settings.sources)
    problems = [*faults, *await topics.check(client)]
    if problems:
        raise Halt("\n".join(problems))
    native = _native(settings)
    catalogs = catalogs_of(settings, native)
    newest = partial(catalog_queries.newest, client, topics, catalogs)
    catalog = await newest()
    if catalog is None:
        raise Halt("there is no catalog yet; load one by `rater load`")
    async with opened_store(settings) as store:
        commands = JobCommands(client, topics, settings.redis.buckets, run, actor or user(), progress)
        try:
            if applies:
                await commands.open()
            sources = Sources(client, topics, store, maps, catalog, newest, native)
            yield sources, commands if applies else None
        finally:
            await commands.close()


async def audit(settings: Settings, progress: Progress | None = None) -> Ledger:
    """Compare Redis with the journal; returns the ledger with every finding."""
    client, topics = kafka_client(settings), topics_of(settings)
    async with opened_store(settings) as store:
        return await run_audit(
            client, topics, store, progress, await _inventory(settings, catalogs_of(settings))
        )


async def _inventory(settings: Settings, catalogs: Catalogs) -> frozenset[str] | None:
    """Return the DIDs of the catalog in force, None: none was loaded, or it is gone."""
    try:
        found = await catalog_queries.newest(kafka_client(settings), topics_of(settings), catalogs)
    except NoCatalog:
        return None
    return None if found is None else frozenset(found.dids)


async def recycle(
    settings: Settings,
    choice: Choice,
    passed: Progress,
    looked: Progress,
    *,
    late: bool = False,
    dry_run: bool = False,
) -> Report:
    """Send rejected records again; returns what became of them. See `jobs/recycle.py`."""
    maps, faults = open_maps(settings.sources)
    client, topics = kafka_client(settings), topics_of(settings)
    problems = faults or await topics.check(client)
    if problems:
        raise Halt("\n".join(problems))
    read_by = {source.topic: maps.get(source.topic) for source in settings.all_sources().values()}
    window_ms = settings.worker.duplicate_window_days * DAY_MS
    run = Recycling(client, topics, read_by, choice, window_ms, late=late, dry_run=dry_run)
    return await run.run(passed, looked)


async def rebuild(settings: Settings, told: Told) -> Rebuilt:
    """Rebuild what Redis lacks, while nobody rates."""
    async with connected(settings) as shared:
        spare_collector()
        return await rebuild_all(shared, told)


async def digest_of(settings: Settings) -> Digest:
    """Return the digest of what Redis holds."""
    async with opened_store(settings) as store:
        return await digest(store)


@asynccontextmanager
async def audits(
    settings: Settings, every_s: int, file: str = "", progress: Progress | None = None
) -> AsyncIterator[tuple[int, AsyncIterator[Round]]]:
    """Serve what an audit that goes on finds as `rater_audit_drift`, and how many charges wait.

    Gives the port, and its rounds without end, `every_s` seconds apart. file: where it keeps what it has
    read, "" for as long as it runs. Raises WrongFileError.
    """
    client, topics = kafka_client(settings), topics_of(settings)
    ids = await topic_ids(client, [topics.transactions])
    generation_ms = settings.worker.duplicate_window_days * DAY_MS + HOUR_MS
    audited = AuditFile(file, {"journal": ids[topics.transactions]}, topics.partitions, generation_ms)
    metrics = Metrics()
    health = HealthServer(metrics, list)
    catalogs = catalogs_of(settings)
    async with AsyncExitStack() as stack:
        stack.callback(audited.close)
        store = await stack.enter_async_context(opened_store(settings))
        port = await health.start(settings.metrics.host, settings.metrics.port)
        stack.push_async_callback(health.stop)
        running = RunningAudit(
            client, topics, store, audited, lambda: _inventory(settings, catalogs), every_s
        )
        yield port, rounds(running, metrics, every_s, lambda: count_pending(settings), progress)


async def count_pending(settings: Settings) -> int:
    """Return how many client packages wait to be paid."""
    async with opened_store(settings) as store:
        return sum([1 async for _ in pending_charges(store)])
