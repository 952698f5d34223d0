"""The read model: how fast it is built and follows, and how fast its lists answer.

    python benchmarks/reading.py [--transactions N] [--packages N] [--url URL] [--live N]
    python benchmarks/reading.py --lists URL [--transactions N] [--packages N]

Transactions lie in a real Kafka (two lanes); they are read into a database that is not there yet (URL: as
`admin.database`; without it SQLite in a temporary folder), and `live` more behind them, when it is built.
Then clients with a package each are written, and each list is asked for pages of 50. Printed: transactions
per second of the clock and per second of CPU of this process, and for each list the median and the 99th
percentile. The second form asks the lists of a database that is there (`benchmarks/filling.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from rater import app
from rater.config import Settings, load
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import Content, LimitSpec, PackageHistory, PackageSpec
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life, Waiting
from rater.core.instants import DAY_MS, HOUR_MS, rfc3339
from rater.core.journal.records import Effect, effect_headers
from rater.core.kinds import ClientPackageStatus, TransactionType
from rater.core.notices import NOTICES
from rater.local.kafka import Kafka
from rater.local.redis import Redis
from rater.readmodel.asked import (
    ClientPackages,
    Clients,
    Listed,
    Page,
    PendingCharges,
    Transactions,
)
from rater.readmodel.asking import ReadModel
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, Changed
from rater.readmodel.writing import Writer

LANES = 2
PACKAGES = 200
BATCH = 2000
ASKED = 200
DEEP = 10_000
PAGE = 50
READY_S = 3600.0
NOW_MS = time.time_ns() // 1_000_000


def transaction(number: int, client: int) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return key, value and headers of a usage, or (of every fiftieth) a fee."""
    key, at = str(client), rfc3339(NOW_MS - number % DAY_MS)
    if number % 50:
        value: dict[str, Any] = {
            "id": f"fs1/5f1c{number:028x}/orig", "revision": 1, "type": "usage", "client": key,
            "account": f"sip-{client}", "side": "orig", "service": "calls",
            "cdr": {"source": "fs1", "id": f"5f1c{number:028x}"}, "at": at, "outcome": "rated",
            "caller": "14155550100", "called": "380441234567", "duration_ms": 65039, "code": "38044",
            "code_name": "Ukraine Kiev", "rate": {"table": "retail", "currency": "USD", "price": "0.06",
            "setup_fee": "0", "min_time": 1, "interval": 1, "grace_time": 0}, "billed": 66,
            "draws": [{"client_package": f"p{client}", "package": "1", "package_name": "Kiev 100",
            "limit": "m1", "kind": "volume", "period": 4, "taken": "60", "left": "0", "tag": "promo"}],
            "overage": 6, "setup_fee": "0", "amount": f"-0.{number % 1000:06}", "currency": "USD",
            "catalog": 1,
        }  # fmt: skip
    else:
        value = {
            "id": f"cp/p{client}/{number}/subscription_fee", "revision": 1, "type": "subscription_fee",
            "client": key, "account": None, "client_package": f"p{client}", "package": "1",
            "package_name": "Kiev 100", "period": number, "at": at, "amount": "-5.00", "currency": "USD",
        }  # fmt: skip
    effect = Effect(
        "rater.cdrs", number % LANES, number, 0, NOW_MS, NOW_MS, b"12345678", b"1234", key, -6000,
        [(f"p{client}.4.m1", 60)],
    )  # fmt: skip
    return key.encode(), orjson.dumps(value), effect_headers(effect)


async def write(settings: Settings, begin: int, number: int, clients: int) -> None:
    """Write transactions into the journal, each client's in any lane."""
    chance = random.Random(begin)  # noqa: S311 - traffic
    producer = AIOKafkaProducer(**app.kafka_client(settings), compression_type="zstd", linger_ms=50)
    await producer.start()
    topic = settings.topic("transactions")
    sent: list[Any] = []
    for at in range(begin, begin + number, BATCH):
        batch = producer.create_batch()
        for of in range(at, min(at + BATCH, begin + number)):
            key, value, headers = transaction(of, chance.randrange(clients))
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await producer.send_batch(batch, topic, partition=of % LANES))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        sent.append(await producer.send_batch(batch, topic, partition=at // BATCH % LANES))
        if len(sent) > 50:  # noqa: PLR2004 - batches on their way
            await asyncio.gather(*sent)
            sent.clear()
    await asyncio.gather(*sent)
    await producer.stop()


def catalog() -> Content:
    """Return packages with a limit each."""
    limit = LimitSpec(id="v", type="volume", service="calls", code="380*", limit=6000)
    specs = [
        PackageSpec(id=str(of), name=f"Package {of}", type="customer", currency="USD", limits=[limit])
        for of in range(PACKAGES)
    ]
    return Content(
        base="USD", packages={spec.id: PackageHistory([(0, spec)], [(0, "active")]) for spec in specs}
    )


def client(number: int) -> ClientState:
    """Return a client with a package: most active, some waiting, some in the archive."""
    period = HeldPeriod(1, NOW_MS - DAY_MS, NOW_MS + DAY_MS + number % DAY_MS, 0, 1)
    kind = number % 10
    life = Life(
        numbered=1, count=1, periods=(period,), first_ms=period.start_ms,
        ended_ms=NOW_MS - 1 if kind == 0 else None,
        waiting=Waiting("renewal", "funds", NOW_MS - number, total=5_000_000) if kind == 1 else None,
    )  # fmt: skip
    held = ClientPackage(
        f"p{number}", str(number % PACKAGES), None, 1, period.start_ms, period.start_ms, None, life=life
    )
    return ClientState(
        str(number), 1, 1, f"Client {number * 7919 % 1_000_003}", None, "USD", "UTC", 0, None, None, None, {},
        {f"sip-{number}": {}}, [held], 0,
    )  # fmt: skip


def write_clients(database: Database, number: int) -> float:
    """Write clients beside what follows; returns the seconds."""
    writer, content = Writer(database), catalog()
    compiled = compile_catalog(content, 1, NOTICES)
    writer.catalog(1, content)
    began = time.perf_counter()
    for at in range(0, number, BATCH):
        batch = Batch()
        for of in range(at, min(at + BATCH, number)):
            batch.changed[str(of)] = Changed(1, client(of), (0, of))
        writer.write(batch, {}, compiled, NOW_MS)
    return time.perf_counter() - began


FOUND: dict[str, Any] = {"lists": {}, "deep": {}, "rates": {}}
"""What was measured: list → median and p99 in ms; list → page 10,000 by page 1; rates by clock and CPU."""


async def asked(name: str, ask: Callable[[], Awaitable[Any]], times: int = ASKED) -> float:
    """Ask so often; prints and returns the median in ms."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        seconds.append((time.perf_counter() - began) * 1000)
    seconds.sort()
    median, worst = statistics.median(seconds), seconds[int(len(seconds) * 0.99)]
    print(f"{name:48} {median:8.1f} ms median {worst:8.1f} ms p99")
    FOUND["lists"][name] = [round(median, 1), round(worst, 1)]
    return median


async def deep(name: str, ask: Callable[[Page], Awaitable[Listed[Any]]]) -> None:
    """Compare the first page with the page DEEP pages behind it, by its key."""
    key, left = None, DEEP - 1
    while left > 0:
        step = min(left * PAGE, 1000)
        found = await ask(Page(rows=step, after=key))
        if found.next is None:
            break
        key, left = found.next, left - step // PAGE
    first = await asked(f"{name}, page 1", lambda: ask(Page()))
    last = await asked(f"{name}, page {DEEP - left}", lambda: ask(Page(after=key)))
    FOUND["deep"][name] = round(last / first, 2)
    print(f"{name}: page {DEEP - left} costs {last / first:.2f} times page 1")


async def lists(model: ReadModel, clients: int, transactions: int) -> None:
    """Ask each list."""
    chance, page = random.Random(1), Page()  # noqa: S311 - which are asked

    def some() -> str:
        return str(chance.randrange(clients))

    every = frozenset(ClientPackageStatus)
    hour_ms = (await model.transactions(Transactions(), Page(rows=1))).rows[0].published_ms - HOUR_MS

    async def client_page() -> None:
        client = some()
        await model.clients(Clients(text=client), Page(rows=1))
        await model.client_packages(ClientPackages(client=client, statuses=every), page)
        await model.transactions(Transactions(client=client), page)

    for name, ask in {
        "client packages": lambda: model.client_packages(ClientPackages(), page),
        "client packages, every status": lambda: model.client_packages(ClientPackages(statuses=every), page),
        "client packages of a package": lambda: model.client_packages(
            ClientPackages(package=str(chance.randrange(PACKAGES))), page
        ),
        "client packages of a client": lambda: model.client_packages(
            ClientPackages(client=some(), statuses=every), page
        ),
        "a client package": lambda: model.client_packages(ClientPackages(client_package=f"p{some()}"), page),
        "clients": lambda: model.clients(Clients(), page),
        "clients whose name begins with": lambda: model.clients(Clients(text=f"client {some()[:3]}"), page),
        "clients whose name begins with `c`": lambda: model.clients(Clients(text="c"), page),
        "a client by its account": lambda: model.clients(Clients(text=f"sip-{some()}"), page),
        "pending charges": lambda: model.pending_charges(PendingCharges(), page),
        "transactions": lambda: model.transactions(Transactions(), page),
        "transactions of a client": lambda: model.transactions(Transactions(client=some()), page),
        "fees of a client": lambda: model.transactions(
            Transactions(client=some(), type=TransactionType.SUBSCRIPTION_FEE), page
        ),
        "fees": lambda: model.transactions(Transactions(type=TransactionType.SUBSCRIPTION_FEE), page),
        "transactions of a call": lambda: model.transactions(
            Transactions(id=f"fs1/5f1c{chance.randrange(transactions):028x}"), page
        ),
        "transactions of an hour": lambda: model.transactions(Transactions(since_ms=hour_ms), page),
        "a client's page": client_page,
    }.items():
        await asked(name, ask)
    await deep("client packages", lambda of: model.client_packages(ClientPackages(), of))
    await deep("transactions", lambda of: model.transactions(Transactions(), of))


async def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure all of it."""
    with Kafka.start(folder / "kafka", heap_mb=512) as kafka, Redis.start(folder / "redis") as redis:
        url = options.url or f"sqlite:///{folder}/admin.sqlite"
        settings = load(
            None,
            {
                "RATER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "RATER_REDIS__URL": redis.url,
                "RATER_TOPICS__PARTITIONS": str(LANES), "RATER_TOPICS__REPLICATION_FACTOR": "1",
                "RATER_ADMIN__DATABASE": url,
            },
            {},
        )  # fmt: skip
        assert isinstance(settings, Settings), settings
        await app.topics_of(settings).create(app.kafka_client(settings), 1)
        await write(settings, 0, options.transactions, options.packages)
        async with app.read_model(settings) as model:
            began, busy_s = time.perf_counter(), time.process_time()
            assert await model.wait_until_now(READY_S)
            while not (await model.state()).built:  # noqa: ASYNC110 - it makes its indexes
                await asyncio.sleep(0.05)
            told("built", options.transactions, began, busy_s)
        if options.live:
            await write(settings, options.transactions, options.live, options.packages)
            async with app.read_model(settings) as model:
                began, busy_s = time.perf_counter(), time.process_time()
                assert await model.wait_until_now(READY_S)
                told("followed", options.live, began, busy_s)
        database = Database(url)
        seconds = write_clients(database, options.packages)
        print(f"clients with a package each: {options.packages / seconds:,.0f} a second")
        database.make_late()
        await lists(ReadModel(database, None), options.packages, options.transactions)
        database.close()


def told(what: str, number: int, began: float, busy_s: float) -> None:
    """Print a rate, by the clock and by CPU."""
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - busy_s
    FOUND["rates"][what] = [round(number / seconds), round(number / cpu_s)]
    print(f"{what}: {number / seconds:,.0f} transactions a second, {number / cpu_s:,.0f} a second of CPU")


def main() -> None:
    """Read the options, and measure in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=10_000_000)
    parser.add_argument("--packages", type=int, default=1_000_000)
    parser.add_argument("--live", type=int, default=200_000)
    parser.add_argument("--url", default="")
    parser.add_argument("--lists", default="")
    parser.add_argument("--json", type=Path, help="write what was measured into this file, too")
    options = parser.parse_args()
    if options.lists:
        database = Database(options.lists, makes=False)
        asyncio.run(lists(ReadModel(database, None), options.packages, options.transactions))
        database.close()
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(run(options, Path(folder)))
    if options.json:
        sizes = {name: getattr(options, name) for name in ("transactions", "packages", "live")}
        options.json.write_bytes(orjson.dumps({**sizes, **FOUND}, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
