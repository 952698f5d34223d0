"""Records that somebody else wrote to the system's own topics: commands and journal.

Decided: what is no command is passed over with a line in the log; a command that cannot be carried out is
refused, with an event and a line in the log; the lane goes on. A record of the journal without a header of
ours is nobody's: it is passed over, and the audit finds it. A header of ours that cannot be read stops who
reads it, for what it did to the balances is not known: a worker that runs does not read it, the next owner
does.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rater import app
from rater.cli import main
from rater.core.bucket.messages import bucket_of
from rater.core.commands.records import AccountsArgs, ClientsArgs, ManifestArgs, write_command
from rater.core.kinds import Do
from rater.jobs.audit import audit
from traffic import catalog

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SystemOf = Callable[..., Awaitable[Any]]


def cdr(number: int) -> bytes:
    """Return a good CDR of now."""
    return json.dumps({
        "id": f"good-{number}", "called": "380501234567", "duration_ms": 60_000, "orig": {"client": "c1"},
        "answered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }).encode()  # fmt: skip


def command(name: str, args: Any, do: Do = Do.LOAD_CATALOG) -> bytes:
    """Return a command of now."""
    return write_command(name, do, int(time.time()) * 1000, args, actor="mallory")


async def rated(system: Any, numbers: range) -> None:
    """Send good CDRs and wait for their transactions: each comes once."""
    ours = re.compile(rb'"id":"(default/good-[^"]*)"')
    ids: list[str] = []

    async def all_there() -> bool:
        found = [ours.search(record.value or b"") for record in await system.read(system.topics.transactions)]
        ids[:] = sorted(one[1].decode() for one in found if one is not None)
        return len(ids) >= numbers.stop

    await system.send((cdr(number), None) for number in numbers)
    await system.until(all_there)
    assert ids == sorted(f"default/good-{number}/orig" for number in range(numbers.stop))


async def test_commands_that_nobody_understands(system_of: SystemOf) -> None:
    """Whatever lies on the commands topic: calls are rated, also after a restart, and the next load works."""
    system = await system_of()
    other = 1 - bucket_of("c1", 2)  # one of which c1 is not, among any even number of buckets
    refused = {
        "unknown": b'{"id": "unknown", "do": "dance", "at": "2026-11-26T10:00:00Z"}',
        "args": command("args", {"part": "x"}).replace(b'"x"', b'"\xff"'),
        "nowhere": command("nowhere", ManifestArgs(7, 1_000_000, 0)),
        "no body": command("no body", ManifestArgs(8, 0, 0)),
        "ahead": command("ahead", ClientsArgs(99, 0, [])),
        "bucket": command("bucket", AccountsArgs(1, 1_000_000, [])),
        "foreign": command("foreign", AccountsArgs(1, other, [("c1", "c2")])),
        "bent": command("bent", ClientsArgs(1, bucket_of("c1", 4), [])).replace(
            b'"entries":[]',
            b'"entries":[{"id":"c1","client":{"id":"c1","currency":"USD","time_zone":"Nowhere"}}]',
        ),
    }
    no_commands = [
        None, b"", b"{", b"[" * 50_000, b"\xff", b'{"id": "x"}',
        b'{"id": 5, "do": "tick", "at": "2026-11-26T10:00:00Z"}',
        b'{"id": "naive", "do": "tick", "at": "2026-11-26T10:00:00"}',
        b'{"id": "' + b"x" * 500_000 + b'", "do": "tick", "at": "2026-11-26T10:00:00Z"}',
    ]  # fmt: skip
    process = system.start_worker()
    await system.load(catalog(4, 1))
    poison = [*no_commands, *refused.values(), command("tick", {}, Do.TICK)]
    await system.send(((raw, None) for raw in poison), topic=system.topics.commands)
    await rated(system, range(3))
    told: dict[str, str] = {}
    async with asyncio.timeout(60):  # calls do not wait for all of them
        while len(told) < len(refused):
            await asyncio.sleep(0.2)
            events = [json.loads(record.value) for record in await system.read(system.topics.events)]
            refusals = [event for event in events if event["type"] == "command_refused"]
            told = {event["cause"]: event["data"]["reason"] for event in refusals}
    assert told.keys() == refused.keys()
    assert all(told.values())
    assert system.stop_worker(process) == 0
    log = (system.folder / "worker-0.log").read_text()
    assert log.count('"event": "not a command"') == len(no_commands)
    assert log.count('"event": "command refused"') == len(refused)
    assert "Traceback" not in log
    process = system.start_worker()
    await rated(system, range(3, 6))
    loaded = await system.load(catalog(5, 1))
    assert (loaded.changed, loaded.refused) == (True, [])
    assert loaded.version == 2  # what was refused is no version
    await rated(system, range(6, 8))
    assert system.stop_worker(process) == 0


async def test_records_of_others_in_the_journal(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records without a header of ours stop nothing and audits find them; what seems to be ours halts."""
    system = await system_of()
    journal = system.topics.transactions

    async def foreign(value: bytes | None, *headers: tuple[str, bytes]) -> None:
        record = SimpleNamespace(key=b"c1", value=value, headers=headers, partition=0)
        await system.send_whole(journal, record)

    process = system.start_worker()
    await system.load(catalog(4, 1))
    await rated(system, range(2))
    for value in (b"hello", b"\xff", b"[" * 5_000, b'{"draws": 5, "type": "usage"}', None):
        await foreign(value)
        await foreign(value, ("trace", b"1"))
    one = {"id": "default/foreign/orig", "revision": 1, "type": "usage", "client": "c1", "amount": "1.5"}
    await foreign(json.dumps(one).encode())
    await rated(system, range(2, 4))
    assert system.stop_worker(process) == 0
    process = system.start_worker()
    await rated(system, range(4, 6))

    store = await app.connect_store(system.settings)
    try:
        ledger = await audit(system.client, system.topics, store)
    finally:
        await store.close()
    kinds = sorted(finding.kind for finding in ledger.findings)
    assert kinds == ["balance", "header", *["unreadable"] * 8], ledger.findings

    # A state whose register is none, then a header that is no msgpack: the worker that runs reads neither.
    state = msgspec.msgpack.encode(["state", "t", 5, 2, "c1", 9, b"register", []])
    await foreign(None, ("control", state))
    await rated(system, range(6, 8))
    assert system.stop_worker(process) == 0
    process = system.start_worker()
    assert process.wait(60) == 1
    log = (system.folder / "worker-2.log").read_text()
    assert "the journal has a header 'control' that cannot be read" in log
    assert "Traceback" not in log

    for name, text in system.environ.items():
        monkeypatch.setenv(name, text)
    capsys.readouterr()
    assert await _in_a_thread(main, ["transactions", "--limit", "0", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("unreadable" in row for row in shown) == 6
    assert await _in_a_thread(main, ["audit"]) == 1
    told = "".join(capsys.readouterr())
    assert "the journal has a header 'control' that cannot be read" in told
    assert "Traceback" not in told


async def _in_a_thread(work: Callable[[list[str]], int], arguments: list[str]) -> int:
    import asyncio  # noqa: PLC0415 - the command runs a loop of its own

    return await asyncio.to_thread(work, arguments)
