"""DIDs on real servers: one client gets a number, whoever asks; what frees it lets another have it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis

from line.conftest import SOON
from line.test_life import NOW_MS, SystemOf, checked, events
from rater import app
from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import client_package_name, did_name, dids_of, read_state
from rater.core.instants import DAY_MS, HOUR_MS, rfc3339
from rater.worker.due_work import DueWork

pytestmark = pytest.mark.kafka

NUMBERS = [f"3804411122{n:02}" for n in range(20)]


def catalog(accounts: dict[str, str] | None = None, **row: Any) -> bytes:
    """Return two clients with a package of an hour for 1.00, that is paid once; accounts: of numbers."""
    row = {"quantity": 30, "allowed_tags": ["kyiv"], "on_hold_days": 1, **row}
    return json.dumps({
        "currencies": {"base": "USD", "rates": {}},
        "packages": [{
            "id": "p", "name": "Hourly", "type": "customer", "currency": "USD", "period": "1 hour",
            "fees": [{"type": "subscription", "name": "Hour", "rate": "1"}], "did_limits": [row],
        }],
        "clients": [
            {"id": name, "currency": "USD", "balance": "1", "accounts": [{"id": f"sip-{name}"}]}
            for name in ("c0", "c1")
        ],
        "client_packages": [
            {"id": f"of-{name}", "client": name, "package": "p"} for name in ("c0", "c1")
        ],
        "dids": [
            {"number": number, "tags": ["kyiv"], "account": (accounts or {}).get(number)}
            for number in NUMBERS
        ],
    }).encode()  # fmt: skip


def asked(do: str, number: str, client: str, of_id: str, **fields: Any) -> bytes:
    """Return a command about a number; its key is its id, unless there is `key`."""
    args = {"number": number, **({"account": f"sip-{client}"} if do == "did_assign" else {})}
    command = {"id": of_id, "key": of_id, "do": do, "at": rfc3339(int(time.time()) * 1000), "client": client}
    return json.dumps({**command, "args": args, **fields}).encode()


async def send(system: Any, number: str, *commands: bytes) -> None:
    """Send commands to the lane of a number."""
    lane = bucket_of(did_name(number), 4) % system.topics.partitions
    await system.send([(one, None) for one in commands], topic=system.topics.commands, partition=lane)


async def told(system: Any, causes: set[str]) -> dict[str, dict[str, Any]]:
    """Wait for the results of commands; returns them by the command."""
    found: dict[str, dict[str, Any]] = {}

    async def all_told() -> bool:
        for event in await events(system):
            if event["cause"] in causes and event["type"].startswith("command_"):
                found[event["cause"]] = event
        return found.keys() == causes

    await system.until(all_told)
    return found


async def held(system: Any) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the numbers that clients hold, and who holds each by the account index."""
    store = await app.connect_store(system.settings)
    try:
        states = {name: read_state(raw) for name, raw in (await store.states(["c0", "c1"])).items()}
        index = await store.accounts([did_name(number) for number in NUMBERS])
    finally:
        await store.close()
    numbers = {name: [did.number for _, did in dids_of(state)] for name, state in states.items()}
    return numbers, {name[1:]: client for name, client in index.items() if client}


async def agreed(system: Any, numbers: dict[str, list[str]]) -> None:
    """Wait until clients hold these numbers, and the index says the same."""
    owners = {number: client for client, of in numbers.items() for number in of}

    async def as_said() -> bool:
        by_client, index = await held(system)
        return {name: sorted(of) for name, of in by_client.items()} == numbers and index == owners

    await system.until(as_said)


async def test_two_clients_race_for_numbers(system_of: SystemOf) -> None:
    """Of two that ask for a number one gets it, whichever lane is killed meanwhile; each is told once."""
    system = await system_of(partitions=4)
    first, second = system.start_worker(), system.start_worker()
    await system.load(catalog(), at_ms=NOW_MS - HOUR_MS // 2)
    keys: set[str] = set()
    for place, number in enumerate(NUMBERS):
        names = ("c0", "c1") if place % 2 else ("c1", "c0")
        commands = {
            f"{number}-{name}": asked("did_assign", number, name, f"{number}-{name}") for name in names
        }
        keys |= commands.keys()
        await send(system, number, *commands.values())
        if place == len(NUMBERS) // 2:
            first.kill()
    results = await told(system, keys)
    kinds = Counter(event["type"] for event in results.values())
    assert kinds == {"command_done": len(NUMBERS), "command_refused": len(NUMBERS)}
    # Each went to who asked first.
    await agreed(system, {"c0": NUMBERS[1::2], "c1": NUMBERS[::2]})
    system.stop_worker(second)
    await checked(system)


async def test_released_and_given_on(system_of: SystemOf) -> None:
    """A number that was released is another client's with the next command; dry runs give nothing."""
    system = await system_of(partitions=4)
    number = NUMBERS[0]
    async with system.worker():
        await system.load(catalog(), at_ms=NOW_MS - HOUR_MS // 2)
        await send(
            system, number, asked("did_assign", number, "c0", "a"), asked("did_assign", number, "c1", "b"),
            asked("did_assign", number, "c1", "dry", dry_run=True), asked("did_release", number, "c1", "c"),
            asked("did_release", number, "c0", "d"), asked("did_assign", number, "c1", "e"),
            asked("did_assign", number, "c0", "again", key="a"),
        )  # fmt: skip
        results = await told(system, set("abcde") | {"dry", "again"})
        assert [results[name]["type"] for name in ("a", "b", "dry", "c", "d", "e")] == [
            "command_done", "command_refused", "command_refused", "command_refused", "command_done",
            "command_done",
        ]  # fmt: skip
        assert results["again"]["data"]["repeated"]
        assert "is held by client c0" in results["dry"]["data"]["reason"].replace("'", "")
        await agreed(system, {"c0": [], "c1": [number]})
    await checked(system)


@pytest.mark.parametrize("do", ["did_assign", "did_release", "assign"])
async def test_killed_between_draw_and_commit(
    do: str, system_of: SystemOf, start_redis: Callable[..., Any]
) -> None:
    """What a command entered into the index is in the journal too, whoever publishes it: it is rebuilt."""
    redis = start_redis()
    system = await system_of(partitions=1, redis=redis.url, environ=SOON)
    number, released = NUMBERS[0], do == "did_release"
    async with system.worker():
        await system.load(catalog({number: "sip-c0"} if released else None), at_ms=NOW_MS - HOUR_MS // 2)
        if released:
            await agreed(system, {"c0": [number], "c1": []})
    # Taking the lane is the first commit; before the next one it is killed, with what it has drawn.
    killed = system.start_worker("before a commit:2:SIGKILL")
    log = system.folder / f"worker-{system.processes.index(killed)}.log"

    async def taken() -> bool:
        return b"lane taken" in log.read_bytes()

    await system.until(taken)
    command = asked(do, number, "c0", "k")
    if do == "assign":
        command = json.dumps({**json.loads(command), "args": {"package": "p", "id": "mine"}}).encode()
    await system.send([(command, None)], topic=system.topics.commands, partition=0)
    assert await asyncio.to_thread(killed.wait, 30) == -signal.SIGKILL
    assert [event for event in await events(system) if event["cause"] == "k"] == []
    numbers: dict[str, list[str]] = {"c0": [number] if do == "did_assign" else [], "c1": []}
    async with system.worker():
        assert (await told(system, {"k"}))["k"]["type"] == "command_done"
        await agreed(system, numbers)
    async with Redis.from_url(redis.url) as server:
        await server.flushall()
    async with system.worker():
        await agreed(system, numbers)
        store = await app.connect_store(system.settings)
        try:
            names = [client_package_name(of) for of in ("mine", "of-c0")]
            found = await store.accounts(names)
        finally:
            await store.close()
        assert found == dict.fromkeys(names if do == "assign" else names[1:], "c0")
    await checked(system)


async def test_a_load_assigns_and_an_archive_frees(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with an account are assigned behind the load, once; the hold of each runs out, and it is free."""
    system = await system_of(partitions=4)
    rows = dict.fromkeys(NUMBERS[:3], "sip-c0")
    kinds: Counter[str] = Counter()

    async def told(kind: str) -> bool:
        nonlocal kinds
        kinds = Counter(event["type"] for event in await events(system))
        return kinds[kind] == 3

    async with system.worker():
        # The load is of two days ago, so all is due at once: not before the numbers are assigned.
        with monkeypatch.context() as patched:
            patched.setattr(DueWork, "ticks", AsyncMock(return_value=[]))
            assert await system.tried_load(catalog(rows), at_ms=NOW_MS - 2 * DAY_MS) == []
            await system.until(partial(told, "did_assigned"))
        await system.until(partial(told, "did_freed"))
        assert (kinds["did_assigned"], kinds["did_on_hold"], kinds["archived"]) == (3, 3, 1)
        await agreed(system, {"c0": [], "c1": []})
        # The same rows again ask for nothing; what cannot be is refused by the load.
        assert await system.tried_load(catalog(rows), at_ms=NOW_MS) == []
        await asyncio.sleep(0)
        (fault,) = await system.tried_load(catalog({**rows, NUMBERS[5]: "sip-c0"}, allowed_tags=["lviv"]))
        assert "no client package for it that allows DID" in fault
    await checked(system)
