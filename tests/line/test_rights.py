"""A worker whose user lacks one right says which: for each right in the lists of Kafka and of Redis.

By default one of each kind; RATER_SECURITY=all, as in `make test-security`, for all of them.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from line.secured import ACL, Guarded, client_of, set_user, settings_of, token, worker_rules
from rater import app
from rater.cli import main
from rater.errors import Halt
from rater.local.redis import Redis
from rater.stream import dangers, rights
from rater.stream.rights import Right
from rater.stream.topics import Topics
from rater.worker.process import Worker

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
MANUAL = ACL.parents[1] / "deploy" / "README.md"
ALL = os.environ.get("RATER_SECURITY") == "all"

OF_KAFKA = list(rights.of_worker(Topics("", 1, {"pbx": "pbx"}), "g"))
SOME_OF_KAFKA = {
    ("cdrs", "Read"), ("transactions", "Write"), ("snapshots", "DescribeConfigs"), ("g", "Read"),
    ("g-", "Write"),
}  # fmt: skip
OF_REDIS = [rule for rule in worker_rules("") if rule.startswith("+")]
SOME_OF_REDIS = {"+hgetall", "+hset"}
OPTIONAL = {
    "+cluster|slots": "asked in a cluster alone",
    "+function|list": "without it a call shows whether the functions are there",
    "+function|load": "not needed where an administrator has loaded them: see tests/store/test_buckets.py",
}
"""Rights of Redis without which a worker rates, as config/redis-worker.acl says."""


def test_each_right_is_tried() -> None:
    """The lists are those of the product; what is left out of them here is told why."""
    assert OPTIONAL.keys() < set(OF_REDIS)
    assert {(right.name, right.operation) for right in OF_KAFKA} >= SOME_OF_KAFKA
    assert set(OF_REDIS) >= SOME_OF_REDIS
    assert len(OF_KAFKA) == len(set(OF_KAFKA))
    assert all(rule[1:] in ACL.read_text("utf-8") for rule in OF_REDIS)


def of_kafka() -> list[Any]:
    """Return each right, or one of each kind."""
    return [
        pytest.param(right, id=f"{right.kind} {right.name} {right.operation}")
        for right in OF_KAFKA
        if ALL or (right.name, right.operation) in SOME_OF_KAFKA
    ]


async def rates(environ: dict[str, str]) -> None:
    """Start a worker as its program does, and let it rate until it stops by itself."""
    async with asyncio.timeout(60), app.connected(settings_of(environ)) as shared:
        await Worker(shared).run()


@pytest.mark.parametrize("lacking", of_kafka())
async def test_a_right_in_kafka(
    guarded: Guarded, system_of: SystemOf, tmp_path: Path, prefix: str, lacking: Right
) -> None:
    """Without it the worker ends with a sentence that names the thing and the operation."""
    system = await system_of(kafka=guarded.plain, environ={"RATER_SOURCES__PBX__TOPIC": f"{prefix}.pbx"})
    name = lacking.name.replace("g", prefix) if lacking.kind in {"group", "transactional-id"} else None
    name = name or f"{prefix}.{lacking.name}"
    given = [
        right
        for right in rights.of_worker(system.topics, prefix)
        if (right.kind, right.name, right.operation) != (lacking.kind, name, lacking.operation)
    ]
    assert len(given) == len(OF_KAFKA) - 1
    await guarded.admin.allow(prefix, given)
    (tmp_path / "token").write_text(token(prefix), "utf-8")
    login = guarded.sasl("OAUTHBEARER", RATER_KAFKA__SASL_TOKEN_FILE=str(tmp_path / "token"))
    with pytest.raises(Halt) as caught:
        await rates({**system.environ, **login})
    said = str(caught.value)
    assert re.search(rf"\b{lacking.operation}\b", said), said
    assert name in said or f"kafka.{lacking.kind}".replace("transactional-id", "group_id") in said, said
    assert "`rater config acl --kafka`" in said


def of_redis() -> list[str]:
    """Return each right that a worker cannot do without, or some."""
    return [right for right in OF_REDIS if right not in OPTIONAL and (ALL or right in SOME_OF_REDIS)]


@pytest.mark.parametrize("lacking", of_redis())
async def test_a_right_in_redis(
    system_of: SystemOf, start_redis: Callable[..., Redis], prefix: str, lacking: str
) -> None:
    """Without it the worker ends with a sentence that names the command."""
    server = start_redis()
    system = await system_of(redis=server.url)
    set_user(server, "worker", "w", [rule for rule in worker_rules(prefix) if rule != lacking])
    login = {"RATER_REDIS__USERNAME": "worker", "RATER_REDIS__PASSWORD": "w"}
    with pytest.raises(Halt) as caught:
        await rates({**system.environ, **login})
    said = str(caught.value)
    assert re.search(rf"\b{lacking[1:]}\b", said, re.IGNORECASE), said
    assert "`rater config acl`" in said


async def test_keys_of_another_prefix(
    system_of: SystemOf, start_redis: Callable[..., Redis], prefix: str
) -> None:
    """A user who may not touch the keys of the prefix is told so."""
    server = start_redis()
    system = await system_of(redis=server.url)
    set_user(server, "worker", "w", worker_rules("another"))
    login = {"RATER_REDIS__USERNAME": "worker", "RATER_REDIS__PASSWORD": "w"}
    with pytest.raises(Halt, match=r"access a key.*`rater config acl`"):
        await rates({**system.environ, **login})
    assert prefix in system.settings.redis.prefix


async def test_without_rights_in_the_cluster_that_is_told(
    guarded: Guarded, system_of: SystemOf, tmp_path: Path, prefix: str
) -> None:
    """Brokers' settings are looked at where that is allowed; where it is not, a worker rates and says so."""
    system = await system_of(kafka=guarded.plain)
    (tmp_path / "token").write_text(token(prefix), "utf-8")
    login = guarded.sasl("OAUTHBEARER", RATER_KAFKA__SASL_TOKEN_FILE=str(tmp_path / "token"))
    await guarded.admin.allow(prefix, rights.of_worker(system.topics, prefix))
    client, wanted = client_of({**system.environ, **login}), dangers.Wanted(6000, 1)
    lacking = "the brokers' own settings were not looked at: our user may not DescribeConfigs on the cluster"
    said = await dangers.remarks(client, system.topics, wanted)
    assert [text for text in said if text.startswith(lacking)]
    await guarded.admin.allow(prefix, rights.of_check())
    async with asyncio.timeout(10):
        while any(text.startswith(lacking) for text in said):
            said = await dangers.remarks(client, system.topics, wanted)


def test_the_manual_has_the_same_lists() -> None:
    """deploy/README.md, Security, shows what the product asks for, for the names of the defaults."""
    text = MANUAL.read_text("utf-8")
    shown = [line.partition("#")[0] for line in text.splitlines() if line.startswith('"${acl[@]}"')]
    wanted = [*rights.of_worker(Topics("rater.", 4), "rater"), *rights.of_check()]
    printed = [line.partition("User:rater' ")[2] for line in rights.commands(wanted, "User:rater", "k")]
    assert {frozenset(line.split()[1:]) for line in shown} == {
        frozenset(line.replace("'", "").split()) for line in printed
    }
    assert f"user rater on >PASSWORD {' '.join(worker_rules('rater'))}\n" in text


def test_the_list_is_printed_as_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rater config acl --kafka` prints a command for each thing, for the names of the settings."""
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)
    flags = ["--bootstrap-servers", "k:9093", "--group-id", "g", "--topics-prefix", "t."]
    assert main(["config", "acl", "--kafka", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    granting = [line for line in lines if not line.startswith("#")]
    begin = "kafka-acls.sh --bootstrap-server k:9093 --add --allow-principal 'User:rater' "
    assert all(line.startswith(begin) for line in granting)
    ends = [line.removeprefix(begin) for line in granting]
    assert "--operation Read --operation Write --operation DescribeConfigs --topic 't.transactions'" in ends
    assert "--operation Read --group 'g'" in ends
    assert "--operation Write --transactional-id 'g-' --resource-pattern-type prefixed" in ends
    assert ends[-1] == "--operation DescribeConfigs --operation Describe --cluster"
    assert main(["config", "acl", "--kafka", *flags, "--principal", "User:CN=w"]) == 0
    assert "--allow-principal 'User:CN=w'" in capsys.readouterr().out
    assert main(["config", "acl", "--principal", "User:x"]) == 2
    assert "--kafka" in capsys.readouterr().err
