"""What Redis is set to that may cost time or data later: warnings, each with its remedy.

What would lose balances is refused (`Library.check`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from rater.clocks import clock_differs
from rater.errors import Halt
from rater.store.link import Address, Link
from rater.store.provisioning import read_info

FULL = 0.9
"""The part of its memory from which on a server is said to be nearly full."""


async def remarks(link: Link, buckets: int, *, asks_settings: bool) -> list[str]:
    """Return a sentence for each dangerous setting of the servers. Raises StoreDown, StoreUnknown, Halt.

    asks_settings: also for what INFO does not tell. A worker's user may not ask for it, and need not.
    """
    found: list[str] = []
    primaries = await link.primaries()
    if len(primaries) > buckets:
        found.append(
            f"redis.buckets is {buckets}, and the cluster has {len(primaries)} primaries: the others have no "
            "work; it is fixed when first used, so choose four for each before"
        )
    for address in primaries:
        info = read_info(await link.ask_at(address, "INFO", "everything"))
        now_ms = time.time_ns() // 1_000_000
        found += dangers(f"Redis at {address.host}:{address.port}", info, now_ms)
        if asks_settings and info.get("aof_enabled") == "1":
            found += await _fsync(link, address)
    return found


def dangers(where: str, info: Mapping[str, str], now_ms: int) -> Iterator[str]:
    """Yield what INFO tells that is dangerous. where: begins each sentence; now_ms: by our clock."""
    if info.get("aof_enabled") == "0":
        yield (
            f"{where} has appendonly no: after a restart all is rebuilt from Kafka, and nothing is rated "
            "meanwhile; set it to yes"
        )
    for key, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "dump")):
        if info.get(key, "ok") != "ok":
            yield f"{where} could not write its {what} ({key} is {info[key]}); see its log, and free its disk"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if "maxmemory" in info and not most:  # a service may hide it
        yield (
            f"{where} has no maxmemory: when memory is short the system ends it, in place of a refusal that "
            "rating waits for; set it below the memory of its machine"
        )
    elif used > FULL * most:
        yield (
            f"{where} uses {used >> 20} of {most >> 20} MiB, and rating waits when it is full; raise "
            "maxmemory, or lower worker.duplicate_window_days"
        )
    their_us = info.get("server_time_usec", "")
    if their_us.isdigit():
        yield from clock_differs(f"the clock of {where}", int(their_us) // 1000, now_ms)


async def _fsync(link: Link, address: Address) -> list[str]:
    try:
        found = await link.ask_at(address, "CONFIG", "GET", "appendfsync")
    except Halt:  # our user may not ask, as a rule; nor does a managed service answer
        return []
    if not found or found[-1] != b"no":
        return []
    where = f"Redis at {address.host}:{address.port}"
    why = "half a minute and more may be lost with its machine, and is rebuilt from Kafka"
    return [f"{where} has appendfsync no: {why}; set it to everysec"]
