"""Servers for the tests: one broker and one Redis of each flavour per process, and others to kill and freeze.

RATER_TEST_KAFKA (bootstrap servers) and RATER_TEST_REDIS (URL) name servers that are used instead.
`make test` runs two processes, each with servers of its own (README.md, Two processes).
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import hypothesis
import pytest
import structlog

import engines
from rater.local.kafka import Kafka
from rater.local.redis import Flavour, Redis

OPEN_FILES = 65_536  # a broker holds several files for each partition, and a run makes hundreds of partitions

FIRST = ("servers", "start_kafka", "kafka", "start_redis", "redis_of")
"""Fixtures that start servers, the longest tests first."""
Figure = Callable[[str], None]
LACKING = pytest.StashKey[str | None]()
"""Why there is no native engine."""


def pytest_configure(config: pytest.Config) -> None:
    """Let this process and the servers that it starts open more files, as far as the system allows.

    No example of Hypothesis has a deadline, unless a profile was named.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if config.getoption("--hypothesis-profile", default=None) is not None:
        return
    # An example may take long because the other process has the processor.
    hypothesis.settings.register_profile("rater", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("rater")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests, put the files whose tests use servers first, and what computes last.

    Those that are marked `long` run where RATER_FAULTS=all asks for them (make test-long and others).

    Of two processes (`--dist worksteal`) the one begins with the first half and the other with the second, so
    tests with deadlines of their own wait beside tests that compute; who is done takes from the other's end.
    """
    if os.environ.get("RATER_FAULTS") != "all":
        out = [item for item in items if item.get_closest_marker("long") is not None]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    ranks: dict[Path, int] = {}
    for item in items:
        used = getattr(item, "fixturenames", ())
        rank = next((at for at, name in enumerate(FIRST) if name in used), len(FIRST))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build the native engine, before there are other processes."""
    if not hasattr(session.config, "workerinput"):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            session.config.stash[LACKING] = engines.built()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """Print what was measured, by whichever process, and at the end which engines were compared."""
    reports = [one for reports in terminalreporter.stats.values() for one in reports]
    figures = properties(reports, "call", "figure")
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
    yield
    engines_told = engines.told(config.stash.get(LACKING, None), properties(reports, "teardown", "compared"))
    if engines_told is not None:
        terminalreporter.write_line(engines_told)


def properties(reports: list[Any], when: str, name: str) -> list[Any]:
    """Return what tests recorded under a name, as reported at a step of each."""
    reported = [report for report in reports if getattr(report, "when", None) == when]
    return [value for report in reported for key, value in report.user_properties if key == name]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Return what takes a line to print at the end of the run."""
    return lambda line: record_property("figure", line)


def pytest_collection_finish() -> None:
    """Leave out of later collections what is there now: they are quick then (`let_go`)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def let_go(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what a test with servers has left, so that no other one is told of it.

    aiokafka forgets a connection that is still being opened when its client stops: nobody closes it, and a
    warning comes when it is collected, which else is within whatever test runs then.
    """
    yield
    if any(name in request.fixturenames for name in FIRST):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command did to the process's logs: it sends them to a stream that ends with its test."""
    structured, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**structured)
    root.handlers[:] = handlers
    root.setLevel(level)


class RedisOf(Protocol):
    """The URL of the run's Redis of a flavour."""

    def __call__(self, flavour: Flavour = "valkey", *, cluster: bool = False) -> str:
        """Start it when it does not run yet."""


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap servers of the run's broker. Take names of your own (`prefix`); delete nothing."""
    given = os.environ.get("RATER_TEST_KAFKA")
    if given:
        yield given
        return
    with Kafka.start(tmp_path_factory.mktemp("kafka")) as server:
        yield server.bootstrap_servers


@pytest.fixture(scope="session")
def redis_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisOf]:
    """The run's Redis servers by flavour, each started when it is first asked for."""
    started: dict[tuple[Flavour, bool], Redis] = {}

    def url(flavour: Flavour = "valkey", *, cluster: bool = False) -> str:
        if (flavour, cluster) not in started:
            folder = tmp_path_factory.mktemp(f"{flavour}-cluster" if cluster else flavour)
            started[flavour, cluster] = stack.enter_context(
                Redis.start(folder, flavour=flavour, cluster=cluster)
            )
        return started[flavour, cluster].url

    with ExitStack() as stack:
        yield url


@pytest.fixture(scope="session")
def redis_url(redis_of: RedisOf) -> str:
    """The URL of the run's Valkey. Take a prefix of your own (`prefix`); flush nothing."""
    return os.environ.get("RATER_TEST_REDIS") or redis_of()


@pytest.fixture
def prefix() -> str:
    """A name that no other test and no earlier run has used, for topics, groups and Redis keys."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def start_kafka(tmp_path: Path) -> Iterator[Callable[..., Kafka]]:
    """Start brokers of the test's own (arguments of Kafka.start but the folder), to kill and freeze."""

    def start(**options: Any) -> Kafka:
        server = Kafka.start(tmp_path / f"kafka-{uuid4().hex[:6]}", **options)
        stack.callback(server.kill)
        return server

    with ExitStack() as stack:
        yield start


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Start Redis servers of the test's own (arguments of Redis.start but the folder), to kill and freeze."""

    def start(**options: Any) -> Redis:
        server = Redis.start(tmp_path / f"redis-{uuid4().hex[:6]}", **options)
        stack.callback(server.kill)
        return server

    with ExitStack() as stack:
        yield start
