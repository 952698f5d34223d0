"""What the command line is connected to, as the tests put it there. Nothing here needs a server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import rater as package
from rater.config import Settings
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content, FeeSpec, LimitSpec, PackageHistory, PackageSpec
from rater.core.clients.state import ClientPackage, ClientState, write_state
from rater.errors import Halt
from rater.stream.browsing import Seen
from rater.stream.topics import Topics

Capture = pytest.CaptureFixture[str]
Put = Callable[..., None]
PutRecords = Callable[..., list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that the tests run on."""
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Put a stand-in in the place of `rater.app`."""

    def put(**functions: Any) -> None:
        stub = SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, "rater.app", stub)
        monkeypatch.setattr(package, "app", stub, raising=False)

    return put


# ------------------------------------------------------------------------------------------- Kafka and Redis
class _Topics:
    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    async def check(self, _: object) -> list[str]:
        return self.problems

    async def create(self, _: object, replication: int) -> list[str]:
        return [f"rater.cdrs: created with 4 partitions and {replication} copies"]


async def nothing(*_: object) -> list[Any]:
    """Find nothing."""
    return []


def giving(found: list[Any] | None) -> Callable[..., Any]:
    """Return what finds this, whatever it is asked."""

    async def find(*_: object, **__: object) -> list[Any]:
        return found or []

    return find


@pytest.fixture
def world(app: Put, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Let topics and store have these problems, records these times, and this catalog be in force."""

    def put(
        *,
        topics: list[str] | None = None,
        store: list[str] | Exception | None = None,
        loaded: tuple[int, Content] | Exception | None = None,
        stamps: list[str] | None = None,
        dangers: list[tuple[str, str]] | None = None,
        rights: list[str] | None = None,
    ) -> None:
        @asynccontextmanager
        async def opened_store(_: Settings) -> AsyncIterator[Any]:
            if isinstance(store, Exception):
                raise store

            async def check() -> list[str]:
                return store or []

            yield SimpleNamespace(check=check, remarks=nothing, unseen=nothing)

        async def in_force(*_: object) -> tuple[int, Content] | None:
            if isinstance(loaded, Exception):
                raise loaded
            return loaded

        def engine(settings: Settings) -> str:
            if settings.worker.engine == "native":
                raise Halt("worker.engine is native, but there is none")
            return "there is none"

        app(
            kafka_client=lambda _: {}, topics_of=lambda _: _Topics(topics or []), opened_store=opened_store,
            catalogs_of=lambda _: None, native_engine=engine, dangers=giving(dangers),
        )  # fmt: skip

        monkeypatch.setattr("rater.queries.catalog.in_force", in_force)
        monkeypatch.setattr("rater.stream.stamps.remarks", giving(stamps))
        monkeypatch.setattr("rater.stream.rights.lacking", giving(rights))

        monkeypatch.setattr("rater.cli.checking._snapshots", nothing)

    return put


# ------------------------------------------------------------------------------------------- what topics hold
@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch, app: Put) -> PutRecords:
    """Let records be what a topic holds, the newest first; gives what was asked of it."""

    def put(*records: Seen) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        async def newest(_: object, topic: str, partitions: range, **more: Any) -> AsyncIterator[Seen]:
            asked.append({"topic": topic, "partitions": list(partitions), **more})
            for record in records:
                yield record

        def topics_of(settings: Settings) -> Topics:
            return Topics(settings.topics.prefix, settings.topics.partitions)

        app(kafka_client=lambda _: {}, topics_of=topics_of)

        async def begins_ms(*_: object) -> None:
            pass

        monkeypatch.setattr("rater.stream.browsing.newest", newest)
        monkeypatch.setattr("rater.queries.transactions.begins_ms", begins_ms)
        return asked

    return put


def seen(raw: bytes | None, key: bytes = b"42", **headers: str) -> Seen:
    """Return a record of a topic."""
    return Seen(0, 5, 1_793_692_800_000, key, raw, [(name, text.encode()) for name, text in headers.items()])


# ------------------------------------------------------------------------------------------- what Redis holds
JULY_MS, NOVEMBER_MS = 1_782_864_000_000, 1_793_491_200_000
KIEV = PackageSpec(
    "1", "Kiev 100", "customer", "USD", period="1 month",
    fees=[FeeSpec("activation", "Set-up", "2"), FeeSpec("subscription", "Monthly", "5"),
          FeeSpec("subscription", "Support", "0.5")],
    limits=[
        LimitSpec("m1", "volume", "calls", 6_000, code="38044*"),
        LimitSpec("b1", "money", "calls", 2_000_000, code="380*"),
    ],
)  # fmt: skip
CONTENT = Content(base="USD", packages={"1": PackageHistory([(0, KIEV)], [(0, "active")], assigned=True)})
CATALOG = compile_catalog(CONTENT, 7)


def register(**packages: tuple[int, int | None]) -> ClientState:
    """Return a client with client packages, by id the [start, end) of each."""
    held = [
        ClientPackage(of, "1", None, 2, JULY_MS, start_ms, end_ms)
        for of, (start_ms, end_ms) in packages.items()
    ]
    return ClientState(
        id="42",
        version=3,
        catalog=7,
        name="Rose",
        reseller="1",
        currency="USD",
        zone="UTC",
        credit_limit=0,
        low_balance=5_000_000,
        terms=None,
        tax_profile=None,
        rate_tables={"orig": {"calls": "retail"}},
        accounts={"sip-1001": {}},
        packages=held,
        opening=0,
    )


class Store:
    """A store with one client, 42; index: what the account index has of it beside its account."""

    def __init__(self, held: ClientState, counters: dict[str, int]) -> None:
        self.found = (write_state(held), 49_994_000, counters)
        self.rows: dict[str, bytes] = {}
        self.index = ["sip-1001"]

    async def client(self, client: str) -> tuple[bytes, int, dict[str, int]] | None:
        """The state, the balance and the counters."""
        return self.found if client == "42" else None

    async def accounts(self, accounts: list[str]) -> dict[str, str]:
        """The clients of accounts and client packages."""
        return {account: "42" for account in accounts if account in self.index}

    async def states(self, clients: list[str]) -> dict[str, bytes]:
        """The states."""
        return {client: self.found[0] for client in clients if client == "42"}

    async def history(self, client: str) -> dict[str, bytes]:
        """The rows of earlier periods."""
        return self.rows if client == "42" else {}

    async def scan_clients(self) -> AsyncIterator[str]:
        """Two, of which one is gone by then."""
        yield "42"
        yield "gone"

    def members(self, package: str) -> AsyncIterator[str]:
        """The same, of any package."""
        assert package
        return self.scan_clients()


@pytest.fixture
def store_of(app: Put, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """Put a store with one client in the place of Redis, and this catalog in that of Kafka."""

    def put(
        held: ClientState, counters: dict[str, int] | None = None, content: Content = CONTENT, **more: Any
    ) -> Store:
        made, catalog = Store(held, counters or {}), compile_catalog(content, 7)

        @asynccontextmanager
        async def opened_store(_: Settings) -> AsyncIterator[Store]:
            yield made

        @asynccontextmanager
        async def connections(settings: Settings) -> AsyncIterator[Any]:
            topics = Topics(settings.topics.prefix, settings.topics.partitions)
            yield SimpleNamespace(store=made, kafka={}, topics=topics, catalogs=None)

        async def newest(*_: object) -> Catalog:
            return catalog

        async def in_force(*_: object) -> tuple[int, Content]:
            return 7, content

        app(
            opened_store=opened_store, connections=connections, kafka_client=lambda _: {},
            topics_of=lambda _: None, catalogs_of=lambda _: None, user=lambda: "anna", **more,
        )  # fmt: skip
        monkeypatch.setattr("rater.queries.catalog.newest", newest)
        monkeypatch.setattr("rater.queries.catalog.in_force", in_force)
        return made

    return put


@pytest.fixture
def store(store_of: Callable[..., Store]) -> Store:
    """Redis with one client that has an active, a coming and an ended client package."""
    far_ms = time.time_ns() // 1_000_000 + 10**9
    return store_of(register(active=(JULY_MS - 10**11, None), coming=(far_ms, None), ended=(0, 1)))
