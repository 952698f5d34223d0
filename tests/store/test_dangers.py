"""What Redis is set to that is dangerous: each is named, with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from rater.local.redis import Redis
from rater.store.buckets import Buckets
from rater.store.dangers import dangers

NOW_MS = 1_793_692_800_000
WELL = {
    "aof_enabled": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok",
    "used_memory": str(80 << 20), "maxmemory": str(100 << 20), "server_time_usec": str(NOW_MS * 1000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("aof_enabled", "0", "has appendonly no: .*; set it to yes"),
        ("aof_last_write_status", "err", "could not write its append-only file .*; see its log"),
        ("rdb_last_bgsave_status", "err", "could not write its dump .*; see its log"),
        ("maxmemory", "0", "has no maxmemory: .*; set it below the memory of its machine"),
        ("used_memory", str(91 << 20), "uses 91 of 100 MiB, .*; raise maxmemory"),
        ("server_time_usec", str((NOW_MS + 60_000) * 1000), "is 60 s ahead of .* NTP"),
    ],
)
def test_each_is_named_with_its_remedy(field: str, value: str, says: str) -> None:
    """One thing that is wrong gives one sentence, with the server."""
    assert list(dangers("Redis at h:1", WELL, NOW_MS)) == []
    [told] = dangers("Redis at h:1", {**WELL, field: value}, NOW_MS)
    assert "Redis at h:1 " in told
    assert re.search(says, told)


def test_a_server_that_tells_less_is_no_fault() -> None:
    """Managed services leave out what they like."""
    assert [text.partition(":")[0] for text in dangers("Redis", {}, NOW_MS)] == []


async def told(server: Redis, prefix: str, *, asks_settings: bool) -> list[str]:
    """Return what is said of a server."""
    store = await Buckets.connect(server.url, prefix=prefix, buckets=1, lanes=1)
    try:
        return await store.remarks(asks_settings=asks_settings)
    finally:
        await store.close()


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_real_servers_are_understood(
    start_redis: Callable[..., Redis], prefix: str, flavour: str
) -> None:
    """Both tell the same of themselves: nothing where all is well, and what is not, with where it is."""
    server = start_redis(flavour=flavour, append_only=True, settings={"maxmemory": "1gb"})
    assert await told(server, prefix, asks_settings=True) == []
    slack = start_redis(flavour=flavour, append_only=True, settings={"appendfsync": "no"})
    [memory, fsync] = await told(slack, prefix, asks_settings=True)
    assert memory.startswith(f"Redis at 127.0.0.1:{slack.port} has no maxmemory")
    assert re.match(rf"Redis at 127.0.0.1:{slack.port} has appendfsync no: .*; set it to everysec", fsync)
    assert await told(slack, prefix, asks_settings=False) == [memory]
    bare = start_redis(flavour=flavour)
    [append, memory] = await told(bare, prefix, asks_settings=True)
    assert f"{bare.port} has appendonly no: " in append
    assert f"{bare.port} has no maxmemory: " in memory
