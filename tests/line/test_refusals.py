"""Servers that are away or set up so that records or balances would be lost: `check` and `worker` say so.

Where they are away, the worker waits for them (test_readiness.py); other commands give up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from redis import Redis

from rater import app
from rater.cli import main
from rater.config import Settings, load

pytestmark = pytest.mark.kafka

Capture = pytest.CaptureFixture[str]
PARTITIONS = 2
ABOUT_A_WEEK_MS = "604801000"
EXAMPLE = str(Path(__file__).parents[2] / "config" / "example.yaml")


def nobody() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def environ(kafka: str, redis_url: str, prefix: str) -> dict[str, str]:
    """Return settings with which all is well, but that the topics are not there yet."""
    return {
        "RATER_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "RATER_KAFKA__GROUP_ID": prefix,
        "RATER_REDIS__URL": redis_url,
        "RATER_REDIS__PREFIX": prefix,
        "RATER_TOPICS__PREFIX": f"{prefix}.",
        "RATER_TOPICS__PARTITIONS": str(PARTITIONS),
        "RATER_TOPICS__REPLICATION_FACTOR": "1",
        "RATER_METRICS__PORT": "0",
    }


@pytest.fixture
def both_say(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> Callable[..., None]:
    """Return what checks that `check` and `worker` each end with code 1 and say all of the given texts.

    commands: others than these two.
    """

    def check(*texts: str, commands: Sequence[Sequence[str]] = (["check"], ["worker"])) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        for command in commands:
            capsys.readouterr()
            code = main(command)
            told = "".join(capsys.readouterr())
            assert code == 1, told
            for text in texts:
                assert text in told, f"{command} does not say {text!r}, but: {told}"
            assert "Traceback" not in told

    return check


def settings(environ: dict[str, str]) -> Settings:
    """Return the settings of an environment."""
    read = load(None, environ, {})
    assert isinstance(read, Settings)
    return read


def create(environ: dict[str, str]) -> None:
    """Make the topics as they must be."""
    made = settings(environ)
    asyncio.run(app.topics_of(made).create(app.kafka_client(made), 1))


def administer(environ: dict[str, str], work: Callable[[AIOKafkaAdminClient], Any]) -> None:
    """Do something with the broker's admin client."""

    async def ask() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=environ["RATER_KAFKA__BOOTSTRAP_SERVERS"])
        await client.start()
        await work(client)
        await client.close()

    asyncio.run(ask())


def test_kafka_is_not_reachable(environ: dict[str, str], both_say: Callable[..., None]) -> None:
    """A broker that nobody answers at is named with its address and the setting."""
    environ["RATER_KAFKA__BOOTSTRAP_SERVERS"] = away = nobody()
    both_say(away, "kafka.bootstrap_servers", commands=[["check"]])


def test_the_library_does_not_repeat_itself(environ: dict[str, str]) -> None:
    """Of the many attempts to reach Kafka, a command shows one line before its own sentence, or two."""
    environ["RATER_KAFKA__BOOTSTRAP_SERVERS"] = nobody()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "rater", "load", EXAMPLE],
        env={**os.environ, **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    *library, sentence = done.stderr.splitlines()
    assert done.returncode == 1
    assert sentence.startswith("rater: Kafka is not reachable at kafka.bootstrap_servers")
    assert 1 <= len(library) <= 2, library


def test_redis_is_not_reachable(environ: dict[str, str], both_say: Callable[..., None]) -> None:
    """A Redis that does not answer is named with its address."""
    create(environ)
    environ["RATER_REDIS__URL"] = f"redis://{(away := nobody())}"
    both_say(away, "redis.url", commands=[["check"], ["load", EXAMPLE]])


def test_redis_refuses_the_password(
    environ: dict[str, str], both_say: Callable[..., None], start_redis: Callable[..., Any]
) -> None:
    """A wrong password is said to be one, with the setting to mend, and is not shown."""
    server = start_redis()
    create(environ)
    with Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
    environ |= {"RATER_REDIS__URL": server.url, "RATER_REDIS__PASSWORD": "wrong-one"}
    both_say("redis.password")
    with Redis.from_url(server.url, password="right") as client:  # noqa: S106 - of this test's own server
        client.config_set("requirepass", "")


def test_topics_are_missing(environ: dict[str, str], both_say: Callable[..., None]) -> None:
    """Every missing topic is named, with the command that makes them."""
    prefix = environ["RATER_TOPICS__PREFIX"]
    both_say(f"{prefix}cdrs", f"{prefix}transactions", f"{prefix}rejected", "rater topics create")


def test_a_topic_has_too_few_partitions(environ: dict[str, str], both_say: Callable[..., None]) -> None:
    """A topic with fewer partitions than lanes is named, with both numbers."""
    topic = f"{environ['RATER_TOPICS__PREFIX']}transactions"
    administer(environ, lambda admin: admin.create_topics([NewTopic(topic, 1, 1)]))
    create(environ)
    both_say(topic, "1 partition", "topics.partitions")


def test_retention_loses_data(environ: dict[str, str], both_say: Callable[..., None]) -> None:
    """A journal that Kafka would delete is named, with the setting that keeps it."""
    create(environ)
    topic = f"{environ['RATER_TOPICS__PREFIX']}transactions"

    async def shorten(admin: AIOKafkaAdminClient) -> None:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": ABOUT_A_WEEK_MS})]
        )
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        async with asyncio.timeout(10):  # the broker takes it over a moment after it has said yes
            while ABOUT_A_WEEK_MS not in str((await admin.describe_configs([asked]))[0]):  # noqa: ASYNC110 - a broker signals nothing
                await asyncio.sleep(0.05)

    administer(environ, shorten)
    both_say(topic, "retention.ms", "-1")


def test_redis_evicts(
    environ: dict[str, str], both_say: Callable[..., None], start_redis: Callable[..., Any]
) -> None:
    """A Redis that would delete balances when memory is short is refused."""
    server = start_redis()
    create(environ)
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    environ["RATER_REDIS__URL"] = server.url
    both_say("maxmemory-policy", "allkeys-lru", "noeviction")
