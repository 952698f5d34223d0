"""A managed cluster: TLS alone, a user without a right to administrate, and commands that nobody may give."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from line.test_snapshots import CATALOG, FEW, command, findings, send
from rater.errors import StoreDown
from rater.local.child import HOST
from rater.local.redis import Flavour, Redis
from rater.local.server import free_ports
from rater.store.link import Link
from store.conftest import Rights
from store.test_managed import REFUSED
from traffic import calls, distinct_sides

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
PASSWORD = "managed"  # noqa: S105 - of a server that lives as long as the test


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key, of no authority; return where they are."""
    paths = folder / "redis.pem", folder / "redis.key"
    subprocess.run(  # noqa: S603 - our own arguments
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",  # noqa: S607
         "-days", "2", "-subj", "/CN=redis", "-addext", f"subjectAltName=IP:{HOST}",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@asynccontextmanager
async def tls(door: int, server: int, folder: Path) -> AsyncIterator[Path]:
    """Serve by TLS at a port what a server at another one says in clear; gives whom to trust."""
    public, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(HOST, server)
        pumps = [asyncio.create_task(pump(reader, here)), asyncio.create_task(pump(there, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in pumps:
            one.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, here):
            end.transport.abort()

    async with await asyncio.start_server(serve, HOST, door, ssl=context):
        yield public


@pytest.mark.parametrize("flavour", ["valkey", pytest.param("redis", marks=pytest.mark.long)])
async def test_calls_are_rated_on_a_managed_cluster(
    system_of: SystemOf, start_redis: Callable[..., Redis], tmp_path: Path, prefix: str, flavour: Flavour
) -> None:
    """A worker needs no more than what `rater config acl` lists, and goes where the cluster says, by TLS."""
    (door,) = free_ports(1)
    settings = {f"rename-command {name}": '""' for name in REFUSED}
    settings[f"user {prefix}"] = " ".join(["on", f">{PASSWORD}", *Rights().rights(prefix)])
    settings["cluster-announce-port"] = str(door)
    server = start_redis(flavour=flavour, cluster=True, settings=settings)
    made = calls(100, 7, time.time_ns() // 1_000_000, **FEW)
    async with tls(door, server.port, tmp_path) as authority:
        environ = {
            "RATER_REDIS__USERNAME": prefix, "RATER_REDIS__PASSWORD": PASSWORD,
            "RATER_REDIS__BUCKETS": "2",
        }  # fmt: skip
        url = f"rediss://{HOST}:{door}?ssl_ca_certs={authority}"
        system = await system_of(partitions=2, redis=url, environ=environ)
        async with system.worker():
            await system.load(CATALOG)
            await send(system, made)
            await system.settled()
        usage = [one["id"] for one in await system.transactions() if one["type"] == "usage"]
        assert sorted(usage) == sorted(distinct_sides(made))
        assert await findings(system) == []
        code, out, said = await command(system, "check")
        hidden = [line for line in out.splitlines() if " let " in line or " tell " in line]
        assert (code, hidden) == (0, []), out + said


async def test_authorities_are_read_once(
    start_redis: Callable[..., Redis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each connection, which takes 31 ms of CPU each time; and again when one cannot be had."""
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def counted(*what: Any, **more: Any) -> ssl.SSLContext:
        made.append(make(*what, **more))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    server = start_redis()
    (door,) = free_ports(1)
    link = Link(f"rediss://{HOST}:{door}?ssl_ca_certs={tmp_path}/redis.pem", None, None, 30.0)
    async with tls(door, server.port, tmp_path):
        await link.open()
        await asyncio.gather(*(link.ask("key", "GET", "key") for _ in range(10)))
        assert len(made) == 1
        await link.close()
    with pytest.raises(StoreDown):
        await link.ask("key", "GET", "key")
    async with tls(door, server.port, tmp_path):  # by another certificate
        assert await link.ask("key", "GET", "key") is None
    assert len(made) == 2
    await link.close()
