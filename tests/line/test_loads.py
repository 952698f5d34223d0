"""Loads at once, on real servers: a file is checked before its load takes over from another one."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from rater import app
from rater.catalogs import Catalogs
from rater.cli.running import load_files
from rater.core.commands import loads
from rater.core.instants import rfc3339
from rater.errors import Halt
from rater.jobs import load as load_module
from rater.jobs.load import Loader, sentences
from rater.stream.content import Writer
from traffic import catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
Capture = pytest.CaptureFixture[str]


class Held:
    """The first call of a method stops at its end, or its beginning, until `go_on`; the others pass."""

    def __init__(self, patch: pytest.MonkeyPatch, of: type, name: str, *, before: bool = False) -> None:
        self.reached, self._go = asyncio.Event(), asyncio.Event()
        self.calls = 0
        work = getattr(of, name)

        async def held(*args: Any) -> Any:
            self.calls += 1
            first = self.calls == 1
            if first and before:
                await self._stop()
            result = await work(*args)
            if first and not before:
                await self._stop()
            return result

        patch.setattr(of, name, held)

    async def _stop(self) -> None:
        self.reached.set()
        await self._go.wait()

    def go_on(self) -> None:
        """Let the first call go on."""
        self._go.set()


@pytest.fixture
async def system(system_of: SystemOf) -> AsyncIterator[Any]:
    """Return a system of two lanes with a worker and a first catalog."""
    made = await system_of(partitions=2)
    async with made.worker():
        await made.load(catalog(3, 1))
        yield made


async def load(system: Any, raw: bytes, name: str, capsys: Capture) -> tuple[int, str]:
    """Load as the command does; returns its exit code and what it says."""
    path = system.folder / name
    path.write_bytes(raw)
    capsys.readouterr()
    code = await load_files(system.settings, [str(path)])
    return code, capsys.readouterr().err


def changed(**sections: Any) -> bytes:
    """Return a catalog file of these sections."""
    return json.dumps(sections).encode()


async def test_a_faulty_file_ends_no_load(
    system: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """While a load is between its content and its manifest, faulty files are told so, and it finishes."""
    held = Held(monkeypatch, Loader, "_write_content")
    loading = asyncio.create_task(system.load(catalog(30, 2)))
    await held.reached.wait()
    by_itself = changed(resellers=[{"id": 1}])
    against_loaded = changed(clients=[{"id": "new", "currency": "XYZ"}])
    for raw, told in ((by_itself, "resellers[0].id"), (against_loaded, "no such currency")):
        code, said = await load(system, raw, "faulty.json", capsys)
        assert code == 2
        assert told in said
        assert "1 fault: nothing was changed" in said
    held.go_on()
    loaded = await loading
    assert (loaded.version, loaded.changed, loaded.refused) == (2, True, [])


async def test_a_file_that_changes_nothing_ends_no_load(
    system: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """While another load is under way, a file that the catalog says already is told so, and it finishes."""
    held = Held(monkeypatch, Loader, "_write_content")
    loading = asyncio.create_task(system.load(catalog(30, 2)))
    await held.reached.wait()
    code, said = await load(system, catalog(3, 1), "same.json", capsys)
    assert (code, "nothing to change: catalog 1 says the same" in said) == (0, True)
    held.go_on()
    assert (await loading).version == 2


async def test_a_good_file_takes_over(system: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Of two good loads at once the second one wins, and the first is told, having changed nothing."""
    held = Held(monkeypatch, Loader, "_write_content")
    loading = asyncio.create_task(system.load(catalog(30, 2)))
    await held.reached.wait()
    code, said = await load(system, changed(resellers=[{"id": "7"}]), "other.json", capsys)
    assert (code, "catalog 2 is in use" in said) == (0, True)
    held.go_on()
    with pytest.raises(Halt, match=r"another load began meanwhile and took over; nothing was changed"):
        await loading


async def test_what_was_loaded_since_the_first_look_counts(
    system: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A file that was good when it was looked at is checked again once its load has taken over."""
    file = changed(services=[{"name": "sms", "unit": "piece", "price_unit": 1}])
    for name, price_unit, end in (("faulty", 2, 2), ("same", 1, 0)):
        service = {"name": name, "unit": "piece", "price_unit": price_unit}
        file = changed(services=[{**service, "price_unit": 1}])
        with monkeypatch.context() as patch:
            held = Held(patch, Writer, "open", before=True)
            loading = asyncio.create_task(load(system, file, f"{name}.json", capsys))
            await held.reached.wait()
            await system.load(changed(services=[service]), name="between.json")
            held.go_on()
            code, _ = await loading
        assert code == end
    before = await system.load(file, name="last.json")
    assert (before.version, before.changed) == (3, False)


async def test_behind_an_open_transaction_it_waits(system: Any) -> None:
    """What cannot be read yet is waited for before a file is said to be faulty, or to change nothing."""
    waiting = asyncio.Event()
    other = AIOKafkaProducer(**system.client, transactional_id=f"{system.topics.prefix}other")
    await other.start()
    await other.begin_transaction()
    await other.send_and_wait(system.topics.commands, b"{}", partition=0)

    def say(text: str) -> None:
        if text.startswith("waits for another load"):
            waiting.set()

    path = system.folder / "same.json"
    path.write_bytes(catalog(3, 1))
    loading = asyncio.create_task(app.load(system.settings, [path], say))
    await waiting.wait()
    await other.commit_transaction()
    await other.stop()
    loaded = await loading
    assert sentences(loaded, 2) == ["nothing to change: catalog 1 says the same"]


async def test_what_stays_undecided_is_ended_by_loading_again(
    system: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Where a lane stays undecided, a load that changes nothing takes over too, and ends what it can."""
    monkeypatch.setattr(load_module, "UNDECIDED_S", 0.0)
    opened = Held(monkeypatch, Writer, "open")
    opened.go_on()
    other = AIOKafkaProducer(**system.client, transactional_id=f"{system.topics.prefix}other")
    await other.start()
    await other.begin_transaction()
    await other.send_and_wait(system.topics.commands, b"{}", partition=1)
    code, said = await load(system, catalog(3, 1), "same.json", capsys)
    assert (code, "nothing to change: catalog 1 says the same" in said) == (0, True)
    assert opened.calls == 1
    await other.abort_transaction()
    await other.stop()


@pytest.mark.parametrize("behind_s", [0, 5])
async def test_a_load_opens_with_what_it_brings_whatever_its_clock_says(
    system_of: SystemOf, behind_s: int
) -> None:
    """What a load edits holds for what it assigns, also where its clock is behind that of the load before."""
    system = await system_of()
    at_ms = int(time.time()) * 1000 - 600_000
    file = json.loads(catalog(2, 0))
    package, (first, second) = file["packages"][0], file["client_packages"][:2]
    package["limits"] = [{"id": "m", "type": "volume", "service": "calls", "code": "*", "limit": 10}]
    async with system.worker():
        await system.load(json.dumps({**file, "client_packages": [first]}).encode(), at_ms=at_ms)
        package["limits"][0]["limit"] = 1
        edited = {"packages": [package], "client_packages": [second]}
        await system.load(json.dumps(edited).encode(), at_ms=at_ms - behind_s * 1000)
        cdr = {"id": "1", "called": "380441234567", "answered_at": rfc3339(at_ms + 60_000),
               "duration_ms": 90_000, "orig": {"client": second["client"]}}  # fmt: skip
        await system.send([(json.dumps(cdr).encode(), None)])
        await system.settled()
        (usage,) = [one for one in await system.transactions() if one["type"] == "usage"]
        assert [(draw["taken"], draw["left"]) for draw in usage["draws"]] == [("60", "0")]


async def test_a_load_reads_the_present_catalog_once(
    system: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at before the load, and again when nobody else can load; the same is not read again."""
    reads: Counter[tuple[int, int]] = Counter()  # of whom, at which offset
    content = Catalogs.content

    async def counted(self: Catalogs, offset: int) -> Any:
        reads[id(self), offset] += 1
        return await content(self, offset)

    monkeypatch.setattr(Catalogs, "content", counted)
    more = changed(services=[{"name": "faxes", "unit": "page", "price_unit": 1}])
    code, told = await load(system, more, "services.json", capsys)
    assert code == 0, told
    assert sorted(reads.values()) == [1, 1], reads


async def test_what_is_done_is_told_once(
    system: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a load in many parts, whose clients tell events of their own, each fifty parts are told once."""
    monkeypatch.setattr(loads, "CHUNK_CLIENTS_MAX", 3)
    package = {"id": "free", "name": "Free", "type": "customer", "currency": "USD"}
    clients = [{"id": f"new-{n}", "currency": "USD", "balance": "1"} for n in range(400)]
    held = [{"id": f"held-{n}", "client": f"new-{n}", "package": "free"} for n in range(400)]
    raw = changed(packages=[package], clients=clients, client_packages=held)
    code, said = await load(system, raw, "many.json", capsys)
    assert (code, "catalog 2 is in use on all 2 lanes" in said) == (0, True), said
    told = [line for line in said.splitlines() if line.startswith("applied")]
    assert len(told) == len(set(told)) > 0, told
    store = await app.connect_store(system.settings)
    assert len(await store.states(f"new-{n}" for n in range(400))) == 400
    await store.close()
    again, said = await load(system, raw, "many.json", capsys)
    assert (again, "nothing to change: catalog 2 says the same" in said) == (0, True), said
