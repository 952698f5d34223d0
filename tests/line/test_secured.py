"""Servers that ask who we are: TLS, logins and least rights, end to end; what is renewed meanwhile.

By default one way to log in; RATER_SECURITY=all, as in `make test-security`, for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from line.secured import (
    Authority,
    Guarded,
    client_of,
    secure_redis,
    set_user,
    settings_of,
    token,
    worker_rules,
)
from rater import app
from rater.errors import Halt, StoreDown, StoreUnknown, StreamDown
from rater.jobs.audit import audit
from rater.local.redis import Redis
from rater.stream import rights
from rater.stream.topics import Topics, administrator
from traffic import catalog

pytestmark = pytest.mark.kafka

SOME_WAYS = ["SCRAM-SHA-512"]
WAYS = [*SOME_WAYS, "mTLS", "PLAIN", "OAUTHBEARER"]
WRONG = "wrong-one"
SystemOf = Callable[..., Awaitable[Any]]


# ------------------------------------------------------------------ end to end
async def worker_login(guarded: Guarded, how: str, user: str, folder: Path) -> dict[str, str]:
    """Return how a worker's user logs in at Kafka; the user is made where brokers know users."""
    secret = folder / "kafka-secret"
    if how == "mTLS":
        return guarded.mtls(*guarded.authority.pair(user))
    if how == "OAUTHBEARER":
        secret.write_text(token(user), "utf-8")
        return guarded.sasl(how, RATER_KAFKA__SASL_TOKEN_FILE=str(secret))
    if how == "PLAIN":
        user = "rater"
    else:
        await guarded.admin.scram_user(user, "rater")
    secret.write_text("rater\n", "utf-8")
    return guarded.sasl(how, RATER_KAFKA__SASL_USERNAME=user, RATER_KAFKA__SASL_PASSWORD_FILE=str(secret))


PRINCIPALS = {"mTLS": "CN={}", "PLAIN": "rater"}


@pytest.mark.parametrize("how", WAYS if os.environ.get("RATER_SECURITY") == "all" else SOME_WAYS)
async def test_end_to_end(
    guarded: Guarded, system_of: SystemOf, start_redis: Callable[..., Redis], tmp_path: Path, prefix: str,
    how: str,
) -> None:  # fmt: skip
    """A worker with the listed rights and no others rates by TLS, at a Kafka and a Redis with rights."""
    server = start_redis()
    system = await system_of(kafka=guarded.plain, redis=server.url)
    login = await worker_login(guarded, how, prefix, tmp_path)
    user = PRINCIPALS.get(how, "{}").format(prefix)
    await guarded.admin.allow(user, rights.of_worker(system.topics, prefix))
    async with secure_redis(server, guarded.authority, tmp_path, prefix) as redis:
        process = system.start_worker(**login, **redis)
        await system.until(lambda: asyncio.to_thread(has_taken_its_lane, process, tmp_path / "worker-0.log"))
        await system.load(catalog(2, 1))
        cdr = {"id": "1", "called": "380441234567", "answered_at": now(), "duration_ms": 90_000,
               "orig": {"client": "c1"}}  # fmt: skip
        await system.send([(json.dumps(cdr).encode(), None)])
        await system.settled()
        usage = [one for one in await system.transactions() if one["type"] == "usage"]
        assert [(one["id"], one["amount"]) for one in usage] == [("default/1/orig", "0")]
        assert await asyncio.to_thread(system.stop_worker, process) == 0
    said = [json.loads(line) for line in (tmp_path / "worker-0.log").read_text("utf-8").splitlines()]
    dangers = [line["reason"] for line in said if line["event"] == "set up dangerously"]
    assert ["one copy" in dangers[0], "were not looked at" in dangers[1]] == [True, True]
    assert any("has appendonly no" in reason for reason in dangers)
    store = await app.connect_store(system.settings)
    try:
        assert list((await audit(system.client, system.topics, store)).findings) == []
    finally:
        await store.close()


def has_taken_its_lane(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Return whether a worker rates; it has to live, and its log says why where it does not."""
    said = log.read_text("utf-8")
    assert process.poll() is None, said
    return "lane taken" in said


def now() -> str:
    """Return this minute."""
    return time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime())


# ------------------------------------------------------------------ what is renewed
async def reconnected(admin: Any) -> int:
    """Cut the connections of a client of aiokafka, and ask again; returns how many topics there are."""
    library = admin._client  # noqa: SLF001 - as a broker would cut them
    for connection in list(library._conns.values()):  # noqa: SLF001
        connection.close()
    async with asyncio.timeout(10):
        return len(await admin.list_topics())


async def test_a_password_is_read_again(guarded: Guarded, prefix: str, tmp_path: Path) -> None:
    """A client that lives on logs in with what the file says when it connects again."""
    login = await worker_login(guarded, "SCRAM-SHA-512", prefix, tmp_path)
    admin = await administrator(client_of(login), 10)
    try:
        await reconnected(admin)
        await guarded.admin.scram_user(prefix, "another")
        with pytest.raises(Exception, match=r"."):
            await reconnected(admin)
        (tmp_path / "kafka-secret").write_text("another\n", "utf-8")
        await reconnected(admin)
        (tmp_path / "kafka-secret").unlink()
        await reconnected(admin)  # by what it said before
    finally:
        await admin.close()


async def test_a_certificate_is_read_again(guarded: Guarded, prefix: str, tmp_path: Path) -> None:
    """A certificate that nobody trusts is replaced by one that is: the same client gets in."""
    other = Authority(tmp_path, "other")
    strange = other.pair("stranger", prefix)
    client = client_of(guarded.mtls(*strange))
    with pytest.raises(StreamDown):
        await administrator(client, 0.5)
    Authority.pair(guarded.authority, "worker", prefix)
    for kind in ("pem", "key"):
        (guarded.authority.folder / f"{prefix}.{kind}").replace(tmp_path / f"{prefix}.{kind}")
    admin = await administrator(client, 10)
    await admin.close()


async def test_a_password_of_redis_is_read_again(
    start_redis: Callable[..., Redis], guarded: Guarded, prefix: str, tmp_path: Path
) -> None:
    """Connections that are made after it changed log in with the new one."""
    server = start_redis()
    async with secure_redis(server, guarded.authority, tmp_path, prefix) as environ:
        environ |= {"RATER_REDIS__PREFIX": prefix}
        async with app.opened_store(settings_of(environ)) as store:
            set_user(server, "worker", "changed", worker_rules(prefix))
            (tmp_path / "redis-password").write_text("changed", "utf-8")
            with Client.from_url(server.url) as admin:
                admin.client_kill_filter(_type="normal", skipme=True)
            with contextlib.suppress(StoreDown, StoreUnknown):
                await store.accounts(["a"])
            assert await store.accounts(["a"]) == {}


async def test_who_does_not_get_in_is_told_why(
    guarded: Guarded, start_redis: Callable[..., Redis], prefix: str, tmp_path: Path
) -> None:
    """A certificate that we do not trust, and a password that is wrong, are named with the setting."""
    other = Authority(tmp_path, "other")
    await guarded.admin.scram_user(prefix, "right")
    login = guarded.sasl("SCRAM-SHA-512", RATER_KAFKA__SASL_USERNAME=prefix, RATER_KAFKA__SASL_PASSWORD=WRONG)
    [said] = await Topics("t.", 1).check(client_of(login), deadline_s=0.5)
    assert said.startswith("Kafka refuses kafka.sasl_username, kafka.sasl_password or kafka.sasl_mechanism (")
    assert "wrong-one" not in said
    [said] = await Topics("t.", 1).check(
        client_of({**login, "RATER_KAFKA__SSL_CAFILE": str(other.file)}), deadline_s=0.5
    )
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "kafka.ssl_cafile" in said
    server = start_redis()
    async with secure_redis(server, guarded.authority, tmp_path, prefix) as environ:
        strange = settings_of({**environ, "RATER_REDIS__SSL_CAFILE": str(other.file)})
        with pytest.raises(StoreDown, match=r"CERTIFICATE_VERIFY_FAILED.*redis\.ssl_cafile"):
            await app.connect_store(strange)
        (tmp_path / "redis-password").write_text("wrong-one", "utf-8")
        with pytest.raises(Halt, match=r"denied access.*redis\.password") as caught:
            await app.connect_store(settings_of(environ))
        assert "wrong-one" not in str(caught.value)
