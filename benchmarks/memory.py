"""Memory: bytes of Redis for a client, a client package, a period counter and an entry of the duplicates."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
from sizes import Sizes
from system import Servers, System

ENTRIES = 196_608
"""Duplicates: three quarters of the places of four buckets' tables, the middle between doublings."""


async def memory(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Add one kind of thing after the other to an empty Redis, and divide what it took."""
    clients = 20_000 if sizes.cdrs >= 100_000 else 2_000  # noqa: PLR2004 - the quick sizes
    entries = ENTRIES if clients >= 20_000 else ENTRIES // 16  # noqa: PLR2004 - the same
    async with System(on, "memory") as system:
        await system.start()
        await system.load(_catalog(1, held=False))
        whole, kinds = await _used(system), [await system.key_bytes()]
        for catalog in (_catalog(clients, held=False), _catalog(clients, held=True)):
            await system.load(catalog)
            kinds.append(await system.key_bytes())
        done = 0
        # Duplicates first: a call without a limit leaves nothing else behind. Then each limit of each client.
        for calls in (
            [_call(f"d{n}", 0, "4930") for n in range(entries)],
            [_call(f"c{n}", n, "1212") for n in range(clients)],
            [_call(f"k{n}", n, "38044") for n in range(clients)],
        ):
            done += await system.preload(calls)
            await system.until(done)
            kinds.append(await system.key_bytes())
        whole = await _used(system) - whole
    states = [kind["c"] + kind["r"] + kind["a"] for kind in kinds]
    client, package, _, first, second = [(after - before) / clients for before, after in pairwise(states)]
    seen = [kind.get("u", 0) for kind in kinds]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "client": client,
        "client_package": package,
        "counter_first": first,
        "counter_second": second,
        "package_whole": package + first + second,
        "duplicate": (seen[3] - seen[2]) / entries,
        "explained": (sum(kinds[-1].values()) - sum(kinds[0].values())) / whole,
        "clients": clients,
        "entries": entries,
    }


async def _used(system: System) -> int:
    return int((await system.info("memory"))["used_memory"])


def _call(name: str, client: int, code: str) -> bytes:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return orjson.dumps({"id": name, "called": f"{code}5550100", "answered_at": moment, "duration_ms": 60_000,
                         "orig": {"client": str(client), "account": f"sip-{client}"}})  # fmt: skip


def _catalog(clients: int, *, held: bool) -> bytes:
    start = (datetime.now(UTC) - timedelta(days=40)).strftime("%Y-%m-01T00:00:00Z")
    limits = [
        {"type": "volume", "service": "calls", "code": code, "limit": 10_000} for code in ("1*", "380*")
    ]
    return orjson.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [
            {"code": code, "price": "0.05"} for code in ("1", "380", "49")]}],
        "packages": [{"id": "1", "name": "Two limits", "type": "customer", "currency": "USD",
                      "period": "1 month", "limits": limits}],
        "clients": [{"id": str(n), "name": f"Client {n}", "currency": "USD", "time_zone": "UTC",
                     "balance": "100.00", "rate_tables": {"orig": {"calls": "retail"}},
                     "accounts": [{"id": f"sip-{n}"}]} for n in range(clients)],
        "client_packages": [{"id": str(n), "client": str(n), "package": "1", "start_date": start,
                             "activate_in_past": True} for n in range(clients)] if held else [],
    })  # fmt: skip
