"""On real servers: what is offered to be rated again, its window, and what the offered command does."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rater import app
from rater.core.instants import HOUR_MS, rfc3339

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
MINUTE_MS = 60_000
OFFERED = "calls of this time can be rated again: "


def second(at_ms: int) -> str:
    """Return an instant as catalog files have it."""
    return rfc3339(at_ms).replace(".000Z", "Z")


def catalog(begin_ms: int, later: str = "") -> bytes:
    """Return a catalog: a client with an hourly package and money for one hour, another client in euros."""
    return f"""
currencies: {{base: USD, rates: {{EUR: [{{rate: "1.10"}}, {later}]}}}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "0.60"}}]}}
packages:
  - {{id: "1", name: Hourly, type: customer, currency: USD, period: 1 hour, renew_for: 7 days,
     fees: [{{type: subscription, name: Hour, rate: "5"}}],
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: 10}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "5",
     rate_tables: {{orig: {{calls: retail}}}}}}
  - {{id: "2", name: Bud, currency: EUR, time_zone: UTC, balance: "100",
     rate_tables: {{orig: {{calls: retail}}}}}}
client_packages:
  - {{id: "7", client: "1", package: "1", start_date: "{second(begin_ms)}"}}
""".encode()


def cdr(name: str, at_ms: int, client: str = "1") -> tuple[bytes, None]:
    """Return a call of a minute."""
    of = {"id": name, "answered_at": rfc3339(at_ms), "duration_ms": MINUTE_MS, "called": "380501234567"}
    return json.dumps({**of, "orig": {"client": client}}).encode(), None


async def command(system: Any, *arguments: str) -> tuple[str, str]:
    """Run `rater`, which does what it is asked; returns what it prints, and what it tells."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rater", *arguments, env={**os.environ, **system.environ},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


async def needed(system: Any) -> list[tuple[str, str, str]]:
    """Return client package and window of each event that names calls to be rated again."""
    events = [json.loads(one.value) for one in await system.read(system.topics.events)]
    return [
        (event["client_package"], event["data"]["from"], event["data"]["to"])
        for event in events
        if event["type"] == "rerate_needed"
    ]


async def amounts(system: Any) -> dict[str, str]:
    """Return the amount that stands of each call."""
    found: dict[str, str] = {}
    for one in await system.transactions():
        if one["type"] == "usage":
            found[one["cdr"]["id"]] = one["amount"]
    return found


async def again(system: Any, told: str) -> list[dict[str, Any]]:
    """Do what a command has offered, and have it published; returns the transactions that change."""
    (line,) = [line for line in told.splitlines() if line.startswith(OFFERED)]
    name, *arguments = shlex.split(line.removeprefix(OFFERED))
    assert name == "rater"
    shown, _ = await command(system, *arguments, "--json")
    done, _ = await command(system, *arguments, "--json", "--apply")
    shown_rows, rows = ([json.loads(one) for one in out.splitlines()] for out in (shown, done))
    assert rows[:-1] == shown_rows[:-1]
    return [row for row in rows if "transaction" in row]


async def test_a_late_renewal_offers_its_period(system_of: SystemOf) -> None:
    """Calls of the period that opened late are rated again up to the payment; those of the gap stand."""
    now_ms = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    begin_ms = now_ms - 2 * HOUR_MS - 20 * MINUTE_MS
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(begin_ms), begin_ms)
        gap, period, later = (begin_ms + minutes * MINUTE_MS for minutes in (90, 120, 130))
        await system.send([cdr("paid", begin_ms + MINUTE_MS), cdr("gap", gap)])
        await system.send([cdr("late", later), cdr("first", period)], partition=1)
        await system.settled()
        assert await amounts(system) == {"paid": "0", "gap": "-0.6", "late": "-0.6", "first": "-0.6"}
        assert await needed(system) == []
        _, told = await command(system, "clients", "adjust", "1", "--amount", "20", "--key", "paid-now")
        ((of, since, until),) = await needed(system)
        assert (of, since) == ("7", rfc3339(period))
        (paid,) = [one for one in await system.transactions() if one.get("key") == "paid-now"]
        assert until == paid["at"]
        changed = await again(system, told)
        assert {row["transaction"]: (row["amount_before"], row["amount_after"]) for row in changed} == {
            "default/first/orig": ("-0.6", "0"), "default/late/orig": ("-0.6", "0"),
        }  # fmt: skip
        assert await amounts(system) == {"paid": "0", "gap": "-0.6", "late": "0", "first": "0"}
        assert (await app.audit(system.settings)).findings == []
        assert await again(system, told) == []


async def test_an_activation_in_the_past_offers_the_time_since(system_of: SystemOf) -> None:
    """From the start date to the command; calls before it stand."""
    now_ms = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    start_ms = now_ms - 30 * MINUTE_MS
    system = await system_of(partitions=2)
    async with system.worker():
        bare = catalog(now_ms).partition(b"client_packages:")[0].replace(b'balance: "5"', b'balance: "50"')
        await system.load(bare, now_ms - 3 * HOUR_MS)
        await system.send([cdr("before", start_ms - MINUTE_MS), cdr("in", start_ms)])
        await system.settled()
        _, told = await command(
            system, "client-packages", "assign", "--client", "1", "--package", "1", "--start-date",
            second(start_ms), "--activate-in-past",
        )  # fmt: skip
        ((_, since, until),) = await needed(system)
        assert since == rfc3339(start_ms)
        assert rfc3339(now_ms) <= until
        assert [row["transaction"] for row in await again(system, told)] == ["default/in/orig"]
        assert await amounts(system) == {"before": "-0.6", "in": "0"}
        assert (await app.audit(system.settings)).findings == []


async def test_a_changed_currency_rate_has_no_effect(system_of: SystemOf) -> None:
    """Calls are converted as of their time: none changes, while one of now is converted by the new rate."""
    now_ms = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    system = await system_of()
    async with system.worker():
        await system.load(catalog(now_ms), now_ms - HOUR_MS)
        await system.send([cdr(f"c{n}", now_ms - (9 - n) * MINUTE_MS, "2") for n in range(3)])
        await system.settled()
        later = f'{{rate: "2", from: "{second(now_ms)}"}}'
        await system.load(catalog(now_ms, later))
        line = (
            f"--client 2 --from {rfc3339(now_ms - HOUR_MS)} --to {rfc3339(now_ms + HOUR_MS)} --json --apply"
        )
        rows = [json.loads(one) for one in (await command(system, "rerate", *line.split()))[0].splitlines()]
        assert (rows[-1]["calls"], rows[-1]["changed"], len(rows)) == (3, 0, 2)
        await system.send([cdr("new", time.time_ns() // 1_000_000, "2")])
        await system.settled()
        assert await amounts(system) == {
            "c0": "-0.545455",
            "c1": "-0.545455",
            "c2": "-0.545455",
            "new": "-0.3",
        }
        assert (await app.audit(system.settings)).findings == []
