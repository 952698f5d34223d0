"""The life of packages on real servers: due work found by the clock, by calls and by commands, each once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from line.conftest import SOON
from rater import app
from rater.core.bucket.messages import bucket_of
from rater.core.instants import HOUR_MS, rfc3339
from rater.jobs.audit import audit
from rater.stream.producer import LaneProducer

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
NOW_MS = int(time.time()) * 1000
MINUTE_MS = 60_000


def at(offset_ms: int) -> str:
    """Return an instant before or after now."""
    return rfc3339(NOW_MS + offset_ms)


def catalog(clients: int = 1, balance: str = "50", **package: Any) -> bytes:
    """Return a catalog: each client has a package of an hour at 1.00 with 10 minutes, since three hours."""
    spec = {
        "id": "p", "name": "Hourly", "type": "customer", "currency": "USD", "period": "1 hour",
        "fees": [{"type": "subscription", "name": "Hour", "rate": "1"}],
        "limits": [{"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 10}],
        **package,
    }  # fmt: skip
    return json.dumps({
        "currencies": {"base": "USD", "rates": {}},
        "rate_tables": [
            {"name": "r", "currency": "USD", "rates": [{"code": "380", "price": "0.6", "interval": 1}]}
        ],
        "packages": [spec],
        "clients": [
            {"id": f"c{n}", "currency": "USD", "balance": balance, "rate_tables": {"orig": {"calls": "r"}}}
            for n in range(clients)
        ],
        "client_packages": [{"id": f"cp{n}", "client": f"c{n}", "package": "p"} for n in range(clients)],
    }).encode()  # fmt: skip


def call(name: str, client: str, offset_ms: int, seconds: int = 60) -> tuple[bytes, int]:
    """Return a call that began so long from now, and its record's time."""
    cdr = {
        "id": name, "called": "380501234567", "duration_ms": seconds * 1000, "answered_at": at(offset_ms),
        "orig": {"client": client},
    }  # fmt: skip
    return json.dumps(cdr).encode(), NOW_MS + offset_ms + seconds * 1000


async def command(system: Any, do: str, client: str, **fields: Any) -> dict[str, Any]:
    """Send a command of a client to its lane; returns the event that tells its result."""
    of_id = f"{do}-{time.monotonic_ns()}"
    bucket = bucket_of(client, 4)
    record = {"id": of_id, "do": do, "at": at(0), "client": client, **fields}
    await system.send(
        [(json.dumps(record).encode(), None)], topic=system.topics.commands,
        partition=bucket % system.topics.partitions,
    )  # fmt: skip
    found: list[dict[str, Any]] = []

    async def told() -> bool:
        found[:] = [event for event in await events(system) if event["cause"] == of_id]
        return any(event["type"].startswith("command_") for event in found)

    await system.until(told)
    return next(event for event in found if event["type"].startswith("command_"))


async def events(system: Any) -> list[dict[str, Any]]:
    """Return all events."""
    return [json.loads(record.value) for record in await system.read(system.topics.events)]


async def fees(system: Any) -> list[dict[str, Any]]:
    """Return all transactions but usage and openings."""
    return [one for one in await system.transactions() if one["type"] not in ("usage", "adjustment")]


async def checked(system: Any) -> None:
    """The audit finds nothing, and no transaction or event came twice."""
    store = await app.connect_store(system.settings)
    try:
        assert list((await audit(system.client, system.topics, store)).findings) == []
    finally:
        await store.close()
    names = Counter((t["id"], t["revision"], t["type"]) for t in await system.transactions())
    assert names.total() == len(names)
    told = Counter(event["id"] for event in await events(system))
    assert told.total() == len(told)


async def test_renewals_that_no_call_meets(system_of: SystemOf) -> None:
    """What is due is found by the clock: three hours of each of 250 clients, each charged once."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(250), at_ms=NOW_MS - 3 * HOUR_MS - MINUTE_MS)

        async def renewed() -> bool:
            return len(await fees(system)) >= 1000

        await system.until(renewed)
        found = await fees(system)
        assert {one["id"] for one in found} == {
            f"cp/cp{n}/{number}/subscription_fee" for n in range(250) for number in (1, 2, 3, 4)
        }
        kinds = Counter(event["type"] for event in await events(system))
        assert (kinds["assigned"], kinds["activated"], kinds["renewed"]) == (250, 250, 750)
    await checked(system)


async def test_a_tick_goes_out_with_what_the_one_before_did(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the ticks of 400 clients of one bucket the first alone has a commit of its own."""
    committed: list[tuple[int, int]] = []
    commit = LaneProducer.commit

    async def counted(
        producer: LaneProducer, transactions: list[Any], rejected: list[Any], events: list[Any], mark: Any,
        commands: Sequence[Any] = (), *rest: Any,
    ) -> int:  # fmt: skip
        ticks = [value for _, value, _ in commands if b'"clients":["c' in value]
        committed.append((len(transactions), len(ticks)))
        return await commit(producer, transactions, rejected, events, mark, commands, *rest)

    monkeypatch.setattr(LaneProducer, "commit", counted)
    system = await system_of(environ={"RATER_REDIS__BUCKETS": "1"})
    async with system.worker():
        await system.load(catalog(400), at_ms=NOW_MS - HOUR_MS - MINUTE_MS)

        async def renewed() -> bool:
            return len(await fees(system)) >= 800

        await system.until(renewed)
    ticks = [transactions for transactions, ticks in committed if ticks]
    assert len(ticks) >= 4
    assert ticks.count(0) <= 1
    await checked(system)


async def test_a_call_renews_before_it_draws(system_of: SystemOf) -> None:
    """Calls before, at and after a period's stop draw from their own periods, in any order."""
    system = await system_of(partitions=1)
    stop = -2 * HOUR_MS - MINUTE_MS
    records = [
        call("before", "c0", stop - 60_000, 30), call("at", "c0", stop, 30),
        call("late", "c0", stop - 30_000, 20), call("next", "c0", stop + HOUR_MS, 40),
    ]  # fmt: skip
    async with system.worker():
        await system.load(catalog(), at_ms=NOW_MS - 3 * HOUR_MS - MINUTE_MS)
        await system.send([(raw, max(ms, NOW_MS - 2 * HOUR_MS)) for raw, ms in records])
        await system.settled()
        usage = {t["cdr"]["id"]: t for t in await system.transactions() if t["type"] == "usage"}
        assert {name: (t["amount"], t["draws"][0]["period"]) for name, t in usage.items()} == {
            "before": ("0", 1), "at": ("0", 2), "late": ("0", 1), "next": ("0", 3),
        }  # fmt: skip
    await checked(system)


async def test_commands(system_of: SystemOf) -> None:
    """Top-up, assignment, stop and removal do what their dry runs say, once for each key."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(2, balance="0.5"), at_ms=NOW_MS - HOUR_MS // 2)
        assert [event["type"] for event in await events(system)].count("charge_pending") == 2
        dry = await command(system, "adjust", "c0", args={"amount": "10"}, key="k", dry_run=True)
        done = await command(system, "adjust", "c0", args={"amount": "10"}, key="k")
        assert done["data"]["balance_after"] == dry["data"]["balance_after"] == "9.5"
        ids = [[one["id"] for one in told["data"]["transactions"]] for told in (dry, done)]
        assert ids == [["adjust/c0/k", "cp/cp0/1/subscription_fee"]] * 2
        again = await command(system, "adjust", "c0", args={"amount": "10"}, key="k")
        assert again["data"]["repeated"]
        other = await command(system, "adjust", "c0", args={"amount": "11"}, key="k")
        assert (other["type"], "another key" in other["data"]["reason"]) == ("command_refused", True)
        assigned = await command(system, "assign", "c0", args={"package": "p"}, key="a")
        assert assigned["client_package"] == "c0-1"
        stopped = await command(system, "stop_now", "c0", client_package="c0-1", key="s")
        assert stopped["data"]["balance_after"] == "9.5"
        removed = await command(system, "remove", "c0", client_package="c0-1", key="r")
        assert [one["type"] for one in removed["data"]["transactions"]] == ["reversal", "reversal"]
        gone = await command(system, "cancel", "c0", client_package="c0-1")
        assert gone["type"] == "command_refused"
        unknown = await command(system, "adjust", "nobody", args={"amount": "1"})
        assert "no client" in unknown["data"]["reason"]
    await checked(system)


async def test_charge_on_event(system_of: SystemOf) -> None:
    """The first call that draws brings the fee of its period, once, with two lanes at it."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(charge_on_event=True), at_ms=NOW_MS - HOUR_MS // 2)
        for partition in range(2):
            calls = [call(f"{partition}-{n}", "c0", -20 * MINUTE_MS + n * 1000, 10) for n in range(20)]
            await system.send(calls, partition=partition)
        await system.settled()
        found = await fees(system)
        assert [(one["id"], one["amount"]) for one in found] == [("cp/cp0/1/subscription_fee", "-1")]
        assert found[0]["cdr"]["source"] == "default"
        usage = [t for t in await system.transactions() if t["type"] == "usage"]
        assert {t["amount"] for t in usage} == {"0"}
        stopped = await command(system, "stop_now", "c0", client_package="cp0")
        assert stopped["data"]["balance_after"] == "50"
    await checked(system)


async def test_a_terminated_call_clears_a_pending_charge(system_of: SystemOf) -> None:
    """The amount of a call for the client is as good as a top-up, and calls behind it draw already."""
    system = await system_of(partitions=1)
    rates = {"orig": {"calls": "r"}, "term": {"calls": "r"}}
    text = json.loads(catalog(balance="0.5"))
    text["clients"][0]["rate_tables"] = rates
    async with system.worker():
        await system.load(json.dumps(text).encode(), at_ms=NOW_MS - HOUR_MS // 2)
        came = json.loads(call("in", "c0", -20 * MINUTE_MS)[0])
        came["term"] = came.pop("orig")
        calls = [(json.dumps(came).encode(), NOW_MS - 19 * MINUTE_MS), call("out", "c0", -10 * MINUTE_MS, 30)]
        await system.send(calls)
        await system.settled()
        assert [one["id"] for one in await fees(system)] == ["cp/cp0/1/subscription_fee"]
        usage = {t["cdr"]["id"]: t["amount"] for t in await system.transactions() if t["type"] == "usage"}
        assert usage == {"in": "0.6", "out": "0"}
    await checked(system)


async def test_an_archived_package_ends(system_of: SystemOf) -> None:
    """A package that is archived takes its client packages with it, though no call and no renewal comes."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(catalog(150), at_ms=NOW_MS - HOUR_MS // 2)
        ended = json.loads(catalog(0))
        ended["packages"][0]["status"] = "archived"
        await system.load(json.dumps({"packages": ended["packages"]}).encode(), name="end.json")

        async def cancelled() -> bool:
            return Counter(event["type"] for event in await events(system))["cancelled"] == 150

        await system.until(cancelled)
    await checked(system)


async def test_two_workers_and_a_kill(system_of: SystemOf) -> None:
    """Renewals go on whichever worker dies: each fee once, each event once."""
    system = await system_of(partitions=4, environ=SOON)
    first, second = system.start_worker(), system.start_worker()
    await system.load(catalog(400), at_ms=NOW_MS - 3 * HOUR_MS - MINUTE_MS)

    async def some() -> bool:
        return len(await fees(system)) > 450

    await system.until(some)
    first.kill()

    async def all_done() -> bool:
        return len(await fees(system)) >= 1600

    await system.until(all_done)
    await asyncio.sleep(0)
    system.stop_worker(second)
    assert len(await fees(system)) == 1600
    await checked(system)


async def test_calls_of_the_very_moment_of_a_renewal(system_of: SystemOf) -> None:
    """Two workers, ticks and calls of the same clients at once: a call draws from the period of its time."""
    system = await system_of(partitions=4)
    first, second = system.start_worker(), system.start_worker()
    began_s = time.monotonic()
    await system.load(catalog(0), at_ms=NOW_MS - 2 * HOUR_MS)  # until both workers are there
    load_s = 1 + time.monotonic() - began_s
    stop_ms = int(time.time() + load_s + 3) * 1000  # the next load is no slower than the first
    await system.load(catalog(40), at_ms=stop_ms - HOUR_MS)
    began, moments = {}, range(stop_ms - 1500, stop_ms + 1500, 60)
    assert time.time() * 1000 < moments.start
    for step, moment_ms in enumerate(moments):
        await asyncio.sleep(max(0.0, moment_ms / 1000 - time.time()))
        for partition in range(4):
            records = []
            for n in range(partition, 40, 4):  # in the next step by another lane
                name, now_ms = f"{step}-{n}", int(time.time() * 1000)
                began[name] = now_ms
                records.append((call(name, f"c{n}", now_ms - NOW_MS, 1)[0], now_ms))
            await system.send(records, partition=(partition + step) % 4)
    late = [name for name, at_ms in began.items() if at_ms >= stop_ms]
    assert 200 < len(late) < len(began) - 200

    async def all_done() -> bool:
        found = await system.transactions()
        return sum(one["type"] == "usage" for one in found) == len(began) and len(found) >= len(began) + 120

    await system.until(all_done)
    usage = {t["cdr"]["id"]: t for t in await system.transactions() if t["type"] == "usage"}
    assert {name: (t["amount"], [d["period"] for d in t["draws"]]) for name, t in usage.items()} == {
        name: ("0", [1 + (at_ms >= stop_ms)]) for name, at_ms in began.items()
    }
    assert {one["id"] for one in await fees(system)} == {
        f"cp/cp{n}/{number}/subscription_fee" for n in range(40) for number in (1, 2)
    }
    system.stop_worker(first)
    system.stop_worker(second)
    await checked(system)


async def test_a_changed_package_is_told_once(system_of: SystemOf) -> None:
    """An edited package is one event with what it was and is, whatever the number of lanes."""
    system = await system_of(partitions=3)
    async with system.worker():
        await system.load(catalog(2), at_ms=NOW_MS - HOUR_MS // 2)
        edited = json.loads(catalog(0, priority=5))
        await system.load(json.dumps({"packages": edited["packages"]}).encode(), name="edited.json")
        found = [event for event in await events(system) if event["type"] == "package_changed"]
        assert [(one["before"], one["after"], one["data"]) for one in found] == [
            ({"priority": 0}, {"priority": 5}, {"package": "p"})
        ]
    await checked(system)
