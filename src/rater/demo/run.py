"""The demonstration: starts the servers and workers, loads, feeds, follows, shows, and ends it all.

Everything lives in one temporary folder and on loopback. Whatever ends it (Ctrl-C, a fault, the last call),
the processes are ended and the folder is removed; when this process is killed, the supervisors end the rest.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import orjson

from rater import app, config
from rater.config import Settings
from rater.core.commands.records import write_command
from rater.demo import catalog, summary
from rater.demo.calls import calls as generated
from rater.demo.calls import sides
from rater.demo.lives import LIVES, Doing, Order, Script
from rater.demo.tally import Tally
from rater.demo.view import REFRESH_S, Screen, Started, View, event_line, line
from rater.demo.workers import Worker, free_port, is_free, told
from rater.errors import Halt
from rater.jobs.load import sentences
from rater.local.child import HOST
from rater.local.kafka import Kafka
from rater.local.redis import Redis
from rater.stream.ingest import Ingest
from rater.stream.tail import Tail
from rater.stream.topics import INPUT_BYTES_MAX

Say = Callable[[str], None]
T = TypeVar("T")

RATE: Final = 150.0
"""Records per second while somebody looks on: fast enough to see limits run out, slow enough to read."""
PARTITIONS: Final = 4
CONSOLE_PORT: Final = 8080
"""Of the console, where nobody has it; else a free one."""
STUCK_S: Final = 90.0
"""Nothing new for so long although sides are missing: something is wrong, the sums say what."""

PAUSE_S: Final = 5.0
"""Between two scenes of the clients with lives of their own, while somebody looks on."""
SETTLE_S: Final = 10.0
"""So long the sums may take to agree: what is due goes on, and the topics are read before Redis."""

_TICK_S = 0.05
_CHUNK = 500  # records sent at once where there is no pace
_SCRAPE_S = 0.3
_POLL_MS = 200


class Plan(NamedTuple):
    """What was asked for."""

    calls: int | None
    exit_when_done: bool
    rate: float | None  # records per second; None: as fast as they are taken
    workers: int
    as_json: bool


def run(
    calls: int | None = None,
    exit_when_done: bool = False,  # noqa: FBT001, FBT002 - called by name
    rate: float | None = None,
    workers: int = 1,
    say: Say | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Run the demonstration; returns the exit code: 1 where sums do not agree, or it was cut short of them.

    calls: so many records, None: endless. exit_when_done: end when all are rated, and print the sums. rate:
    records per second, None: RATE while somebody looks on, else as fast as they are taken. Raises Halt with a
    sentence where something cannot be started.
    """
    if rate is None and not exit_when_done:
        rate = RATE
    plan = Plan(calls, exit_when_done, rate, workers, as_json)
    return asyncio.run(_until_stopped(plan, say or _say))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def _until_stopped(plan: Plan, say: Say) -> int:
    """Run until it is over or a signal says so; everything started is ended before this returns."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    tally = Tally(keep_ids=plan.exit_when_done)
    work = asyncio.create_task(_demonstrate(plan, tally, say))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if work.done():
        return work.result()
    say("ending all of it")
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    say(f"stopped after {line(tally, 0).partition(': ')[2]}")
    return 1 if plan.exit_when_done else 0


async def _demonstrate(plan: Plan, tally: Tally, say: Say) -> int:
    async with AsyncExitStack() as stack:
        temporary = TemporaryDirectory(prefix="rater-demo-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        kafka, redis = await stack.enter_async_context(_servers(folder, say))
        variables = {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "RATER_KAFKA__GROUP_ID": "rater-demo",
            "RATER_REDIS__URL": redis.url,
            "RATER_TOPICS__PARTITIONS": str(PARTITIONS),
            "RATER_TOPICS__REPLICATION_FACTOR": "1",
            "RATER_LOGS__LEVEL": "warning",
        }
        settings = _settings(variables)
        topics = app.topics_of(settings)
        await topics.create(app.kafka_client(settings), settings.topics.replication_factor)
        workers = await stack.enter_async_context(_workers(plan.workers, folder, variables))
        made_ms = _now_ms()
        example = await _load(settings, folder, workers, made_ms, say)
        console = [] if plan.exit_when_done else await _console(stack, folder, variables, workers, say)
        started = [
            Started("Kafka", f"{kafka.bootstrap_servers}  (process {kafka.pid})"),
            Started("Valkey", f"{redis.url}  (process {redis.pid})"),
            *(Started(f"worker {one.number}", f"{one.url}/metrics  (process {one.pid})") for one in workers),
            *console,
        ]
        for one in started:
            say(f"{one.what}: {one.where}")
        names = {client["id"]: client["name"] for client in example["clients"]}
        screen = Screen(View(started, names), tally, say)
        stack.callback(screen.close)
        show = _Show(plan, settings, tally, workers, screen, names)
        await show.run(made_ms)
        screen.close()
        return _sum_up(plan, tally, show.results, say) if plan.exit_when_done else 0


def _settings(variables: Mapping[str, str]) -> Settings:
    settings = config.load(None, variables)
    if isinstance(settings, list):
        raise Halt("; ".join(settings))
    return settings


# ------------------------------------------------------------------------------------------------- starting
@asynccontextmanager
async def _servers(folder: Path, say: Say) -> AsyncIterator[tuple[Kafka, Redis]]:
    """Start both servers; they are ended in order, also when the start itself is given up."""
    async with AsyncExitStack() as stack:
        redis = await _in_thread(lambda: Redis.start(folder / "valkey"))
        stack.push_async_callback(_in_thread, redis.stop)
        # The test's broker takes larger records than an input topic may: rejected ones need room for headers.
        limits = {"message.max.bytes": str(INPUT_BYTES_MAX)}
        starting = asyncio.create_task(
            asyncio.to_thread(Kafka.start, folder / "kafka", settings=limits, say=say)
        )
        try:
            kafka = await asyncio.shield(starting)
        except asyncio.CancelledError:
            kafka = await starting  # a thread cannot be given up: what it starts is ended
            await _in_thread(kafka.stop)
            raise
        stack.push_async_callback(_in_thread, kafka.stop)
        yield kafka, redis


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread what would hold up the loop; it goes on to its end even where we are cancelled."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


@asynccontextmanager
async def _workers(count: int, folder: Path, variables: Mapping[str, str]) -> AsyncIterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        for number in range(1, count + 1):
            named = {**variables, "RATER_WORKER__ID": f"demo-{number}"}
            workers.append(Worker(number, free_port(), folder, named))
        yield workers
    finally:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            await _in_thread(worker.stop)


async def _console(
    stack: AsyncExitStack, folder: Path, variables: Mapping[str, str], workers: list[Worker], say: Say
) -> list[Started]:
    """Serve the console in this process, with a token of this run, until `stack` ends it."""
    try:
        from rater.admin.access import Tokens, User  # noqa: PLC0415 - what it needs may not be there
        from rater.admin.program import serving  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        say(f"no console: it needs {error.name}, which is not installed: pip install 'rater[demo]'")
        return []
    own = {
        "RATER_ADMIN__PORT": str(CONSOLE_PORT if is_free(CONSOLE_PORT) else 0),
        "RATER_ADMIN__DATABASE": f"sqlite:///{folder / 'console.sqlite'}",
        "RATER_ADMIN__WORKERS": ",".join(one.address for one in workers),
        "RATER_ADMIN__JOBS_FOLDER": str(folder / "rerate-jobs"),
    }
    token = secrets.token_urlsafe(24)
    settings = _settings({**variables, **own})
    port = await stack.enter_async_context(serving(settings, Tokens([(User("demo", "administer"), token)])))
    return [Started("console", f"http://{HOST}:{port}  (token {token})")]


async def _load(
    settings: Settings, folder: Path, workers: list[Worker], made_ms: int, say: Say
) -> dict[str, Any]:
    """Load the example catalog of this moment; returns it."""
    example = catalog.build(made_ms)
    file = folder / "catalog.json"
    file.write_bytes(orjson.dumps(example))
    loading = asyncio.create_task(app.load(settings, [file], say))
    try:
        while not loading.done():
            await asyncio.wait((loading,), timeout=_SCRAPE_S)
            for worker in workers:
                worker.must_run()
    finally:
        loading.cancel()
    loaded = await loading
    for text in sentences(loaded, settings.topics.partitions):
        say(text)
    if isinstance(loaded, list) or not loaded.applied or loaded.refused:
        raise Halt("the example catalog was not taken; the lines above say why")
    return example


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# ------------------------------------------------------------------------------------- feeding and following
class _Show:
    """What goes on while calls are made: each of the tasks below does one thing."""

    def __init__(
        self, plan: Plan, settings: Settings, tally: Tally, workers: list[Worker], screen: Screen,
        names: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._plan, self._tally, self._workers, self._screen = plan, tally, workers, screen
        self._settings, self._names = settings, names
        self._client = app.kafka_client(settings)
        self._topics = app.topics_of(settings)
        self._all_sent = self._all_lived = False
        self.results: list[summary.Check] = []
        """The sums at the end, where an end was asked for."""

    async def run(self, made_ms: int) -> None:
        """Return when every side is accounted for, where an end was asked for; faults are raised.

        made_ms: when the catalog was made.
        """
        parts: tuple[Coroutine[Any, Any, None], ...] = (
            self._feed(), self._live(made_ms), self._follow_transactions(), self._follow_rejected(),
            self._follow_events(), self._ask_workers(), self._show(),
        )  # fmt: skip
        tasks = [asyncio.create_task(part) for part in (*parts, self._wait())]
        try:
            while not tasks[-1].done():
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                    if task is not tasks[-1]:
                        tasks.remove(task)  # the feeder, when it has sent all; the script at its end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self) -> None:
        """Send the records, at the pace that was asked for."""
        source = generated(secrets.randbelow(2**31), _now_ms(), _now_ms)
        limit, rate = self._plan.calls, self._plan.rate
        began = time.monotonic()
        sent = 0
        async with Ingest(self._client, self._topics.cdrs) as out:
            while limit is None or sent < limit:
                due = _CHUNK if rate is None else int((time.monotonic() - began) * rate) + 1 - sent
                if limit is not None:
                    due = min(due, limit - sent)
                for record in islice(source, due):
                    self._tally.fed(sides(record))
                    await out.send(orjson.dumps(record), key=_key(record))
                await out.flush()
                sent += due
                if rate is not None:
                    await asyncio.sleep(_TICK_S)
        self._all_sent = True

    async def _live(self, made_ms: int) -> None:
        """Play what happens to the clients with lives of their own; then, without end, top up others."""
        pause_s = 0.0 if self._plan.exit_when_done else PAUSE_S
        async with (
            Ingest(self._client, self._topics.cdrs) as out,
            app.sender(self._settings, self._screen.tell) as sender,
        ):

            async def call(record: dict[str, Any]) -> None:
                self._tally.fed(sides(record))
                await out.send(orjson.dumps(record), key=_key(record))
                await out.flush()

            async def order(one: Order) -> None:
                raw = write_command(
                    one.name, one.do, _now_ms() // 1000 * 1000, one.args, client=one.client, actor="demo",
                    client_package=one.client_package,
                )  # fmt: skip
                answer = await sender.send(one.name, one.client, raw)
                if answer.data is None:
                    self._tally.refused.append(f"{one.name}: {answer.refused or 'no worker answered'}")

            script = Script(made_ms, self._tally, Doing(call, order, asyncio.sleep, _now_ms, pause_s))
            await script.run()
            self._all_lived = True
            if not self._plan.exit_when_done:
                await script.top_up()

    async def _follow(self, topic: str) -> AsyncIterator[Any]:
        async with Tail(self._client, topic, dict.fromkeys(range(PARTITIONS), 0)) as tail:
            while True:
                for record in await tail.poll(_POLL_MS):
                    yield record

    async def _follow_transactions(self) -> None:
        async for record in self._follow(self._topics.transactions):
            if record.value is not None:  # else one of the system's own marks
                self._tally.transaction(record.value)

    async def _follow_rejected(self) -> None:
        async for record in self._follow(self._topics.rejected):
            self._tally.reject(dict(record.headers).get("reason", b"?").decode())

    async def _follow_events(self) -> None:
        async for record in self._follow(self._topics.events):
            event = self._tally.event(record.value)
            if event is not None and event.client in LIVES:
                self._screen.tell(event_line(event, self._names))

    async def _ask_workers(self) -> None:
        """Ask for what leaves no trace in a topic: duplicates, and how much waits."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                for worker in self._workers:
                    worker.must_run()
                answer = await told(self._workers, session)
                if answer is not None:
                    self._tally.duplicates = answer.duplicates
                    self._tally.lag_records, self._tally.lag_seconds = answer.lag_records, answer.lag_seconds
                await asyncio.sleep(_SCRAPE_S)

    async def _show(self) -> None:
        next_second = 0.0
        while True:
            now = time.monotonic()
            if now >= next_second:
                self._tally.second(now)
                next_second = now + 1
            self._screen.show(now)
            await asyncio.sleep(REFRESH_S)

    async def _wait(self) -> None:
        """Return with the sums when there is nothing more to wait for: never, where no end was asked for."""
        done, moved = -1, time.monotonic()
        while True:
            await asyncio.sleep(_SCRAPE_S)
            if not (self._plan.exit_when_done and self._all_sent):
                continue
            if self._all_lived and self._tally.is_complete():
                break
            if self._tally.done > done:
                done, moved = self._tally.done, time.monotonic()
            elif time.monotonic() - moved > STUCK_S:
                break  # the sums will not agree, and say what is missing
        until = time.monotonic() + SETTLE_S
        while not self.results or (_differs(self.results) and time.monotonic() < until):
            await asyncio.sleep(_SCRAPE_S)
            self.results = summary.checks(self._tally, await self._stored())

    async def _stored(self) -> dict[str, tuple[int, Mapping[str, int]]]:
        stored: dict[str, tuple[int, Mapping[str, int]]] = {}
        async with app.opened_store(self._settings) as store:
            for client in self._names:
                found = await store.client(client)
                if found is not None:
                    stored[client] = found[1], found[2]
        return stored


def _key(record: Mapping[str, Any]) -> bytes | None:
    """Return the client where the switch names it (its calls keep their order then), else none."""
    client = record.get("orig", {}).get("client")
    return None if client is None else str(client).encode()


# ------------------------------------------------------------------------------------------------- the sums
def _sum_up(plan: Plan, tally: Tally, results: list[summary.Check], say: Say) -> int:
    if plan.as_json:
        sys.stdout.write(json.dumps(summary.as_objects(tally, results)) + "\n")
    else:
        sys.stdout.write("\n".join(summary.lines(results)) + "\n")
    sys.stdout.flush()
    wrong = _differs(results)
    if wrong:
        say("the sums do not agree: this is a defect of rater, please report it")
    return 1 if wrong else 0


def _differs(results: list[summary.Check]) -> bool:
    return any(one.differs for one in results)
