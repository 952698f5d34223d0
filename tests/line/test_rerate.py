"""Re-rating on real servers: preview, apply, resume, beside live calls; and the audit behind each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from line.conftest import SOON, until
from rater import app
from rater.core.cdr import Arrival
from rater.core.cdr_decoding import decode
from rater.core.explaining.past import CUT
from rater.core.instants import rfc3339
from rater.core.line.reading import read
from rater.core.rerating.client import Window
from rater.jobs.rerate import ClientRow, Job, Summary
from rater.jobs.rerate_clients import give_up, unknown
from rater.jobs.rerate_reading import Selection
from rater.jobs.rerate_rejecting import topic_of_ours
from rater.queries.explained import explained, find
from rater.stream.journal import end_offsets

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
MINUTE = 60_000
STEPS = ("rerate_started", "rerate_done")
BEGAN = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 45 * 86_400))
"""When client packages began: in no month of theirs do the last hours lie in two periods."""


def catalog(price: str = "0.60", codes: str = "380", limit: int = 10, more: str = "") -> bytes:
    """Return a catalog of two clients, one of them with minutes of a month."""
    rates = ", ".join(f'{{code: "{code}", price: "{price}"}}' for code in codes.split())
    return f"""
currencies: {{base: USD}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{rates}]}}
packages:
  - {{id: "1", name: Ten, type: customer, currency: USD, period: 1 month,
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: {limit}}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "100", accounts: [{{id: sip-1}}],
     rate_tables: {{orig: {{calls: retail}}}}}}
  - {{id: "2", name: Bud, currency: USD, time_zone: UTC, balance: "100", accounts: [],
     rate_tables: {{orig: {{calls: retail}}}}}}
client_packages:
  - {{id: "7", client: "1", package: "1", start_date: {BEGAN}, activate_in_past: true}}
{more}
""".encode()


def cdr(name: str, at_ms: int, called: str = "38044123", client: str = "1", seconds: int = 60) -> bytes:
    """Return a call."""
    return json.dumps({
        "id": name, "answered_at": rfc3339(at_ms), "duration_ms": seconds * 1000, "called": called,
        "orig": {"client": client},
    }).encode()  # fmt: skip


class Found(NamedTuple):
    """What a run of a job has told."""

    clients: list[ClientRow]
    rows: list[tuple[str, int, int | None, int | None]]
    summary: Summary


async def rerate(
    system: Any, *, applies: bool = False, job: str = "j", clients: Collection[str] | None = None,
    window: tuple[int, int] = (0, 2**42), code: str = "", run: str = "run",
) -> Found:  # fmt: skip
    """Run a job in this process."""
    selection = Selection(clients, Window(*window), code)
    async with app.rerating(system.settings, f"{run}/{time.time_ns()}", print, applies=applies) as (
        at,
        sends,
    ):
        made = Job(at, selection, job)
        try:
            await made.run(lambda *_: None, sends)
            rows = [(one.transaction, one.revision, one.before, one.after) for one in made.rows()]
            return Found(list(made.clients()), rows, made.summary)
        finally:
            made.close()


async def audited(system: Any) -> None:
    """Assert that counters and balances are what the journal says."""
    ledger = await app.audit(system.settings)
    assert ledger.findings == []


def now() -> int:
    """Return the instant two hours ago, in whole minutes."""
    return time.time_ns() // 1_000_000 // MINUTE * MINUTE - 120 * MINUTE


async def test_preview_and_apply(system_of: SystemOf) -> None:
    """A late call, a rejected one that can be rated now, one that cannot be; then nothing is left."""
    system, start = await system_of(partitions=2), now()
    async with system.worker():
        await system.load(catalog(codes="380 49"), start - 100 * MINUTE)
        calls = [(cdr(f"c{n}", start + (n + 1) * MINUTE), None) for n in range(10)]
        others = [
            (cdr("late", start), None),
            (cdr("lost", start, "4930123"), None),
            (cdr("found", start + MINUTE // 2, "44123"), None),
            (cdr("other", start, "4930123", client="2"), None),
        ]
        await system.send(calls)
        await system.settled()
        await system.send(others, partition=1)
        await system.settled()
        assert [json.loads(one.value)["id"] for one in await system.rejected()] == ["found"]
        await system.load(catalog(codes="380 44"))
        shown = await rerate(system, clients={"1"})
        assert shown.rows == [
            ("default/late/orig", 2, -600_000, 0),
            ("default/lost/orig", 1, -600_000, None),
            ("default/found/orig", 1, None, -600_000),
            ("default/c9/orig", 2, 0, -600_000),
        ]
        assert shown.summary.applied is False
        before = await system.transactions()
        done = await rerate(system, applies=True, clients={"1"})
        assert sorted(done.rows, key=str) == sorted(shown.rows, key=str)
        assert done.clients == shown.clients
        assert (done.summary.left, done.summary.again) == ([], 0)
        await audited(system)
        made = [one for one in await system.transactions() if one not in before]
        assert sorted((one["type"], one["revision"]) for one in made) == [
            ("reversal", 1), ("reversal", 1), ("reversal", 1), ("usage", 1), ("usage", 2), ("usage", 2),
        ]  # fmt: skip
        assert {one["job"] for one in made} == {"j"}
        _, lost = await system.rejected()
        headers = {name: value.decode() for name, value in lost.headers}
        assert (lost.value, headers["reason"], headers["source_topic"], headers["source_partition"]) == (
            others[1][0], "rate_missing", system.topics.cdrs, "1",
        )  # fmt: skip
        again = await rerate(system, applies=True, clients={"1"})
        assert (again.rows, again.summary.changed) == ([], 0)
        # What comes again is a duplicate, whether a job has rated it or taken it back.
        await system.send([others[1], others[2]])
        await system.settled()
        assert len(await system.transactions()) == len(before) + len(made)
        events = [json.loads(one.value) for one in await system.read(system.topics.events)]
        steps = [(one["type"], one["data"]["job"]) for one in events if one["type"] in STEPS]
        assert steps == [("rerate_started", "j"), ("rerate_done", "j")]
        # It comes back by a re-rate, once it can be rated.
        await system.load(catalog(codes="380 44 49"))
        back = await rerate(system, applies=True)
        assert back.rows == [("default/lost/orig", 2, None, -600_000)]
        await audited(system)


async def test_what_a_job_has_made_is_explained(system_of: SystemOf) -> None:
    """Successors, first revisions, what was taken back, a call behind them; then the journal is cut."""
    system, start = await system_of(partitions=2), now()
    fees = 'charge_on_event: true, fees: [{type: subscription, name: Fee, rate: "5"}]'
    event = f"""  - {{id: "2", name: One, type: customer, currency: USD, period: 1 month, {fees},
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: 1}}]}}
clients:"""
    more = f'  - {{id: "8", client: "2", package: "2", start_date: {BEGAN}, activate_in_past: true}}'

    def whole(codes: str) -> bytes:
        return catalog(codes=codes, more=more).replace(b"clients:", event.encode(), 1)

    async with system.worker():
        await system.load(whole("380"), start - 100 * MINUTE)
        called = ["38044123"] * 8 + ["380501"] * 2
        of = [(cdr(f"c{n}", start + (n + 1) * MINUTE, one), None) for n, one in enumerate(called)]
        await system.send(of)
        await system.settled()
        await system.send([(cdr("second", start + MINUTE, client="2"), None)])
        await system.settled()
        others = [
            (cdr("late", start), None),
            (cdr("found", start + MINUTE // 2, "44123"), None),
            (cdr("first", start, client="2"), None),
        ]
        await system.send(others, partition=1)
        await system.settled()
        await system.load(whole("38044 44"))
        await rerate(system, applies=True)
        await system.send([(cdr("after", start + 20 * MINUTE, seconds=120), None)], partition=1)
        await system.settled()
    by_job = await told(system, "late")
    assert by_job["candidates"][0]["taken"] == "60"
    assert [note.split(",")[0] for note in by_job["notes"]] == ["job j has rated the call again"]
    assert (await told(system, "first"))["brings"] == "cp/8/2/subscription_fee"
    assert (await told(system, "second"))["brings"] is None
    found = await told(system, "found")
    assert (found["identified"]["by"], found["amount"], found["notes"]) == ("client", "-0.6", [])
    back = await told(system, "c9")
    assert back["candidates"][0]["taken"] == "60"
    assert back["notes"] == ["it was taken back later, by a reversal"]
    after = await told(system, "after")
    assert (after["candidates"][0]["taken"], after["amount"], after["notes"]) == ("60", "-0.6", [])
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    await admin.delete_records({TopicPartition(system.topics.transactions, 1): RecordsToDelete(3)})
    await admin.close()
    after = await told(system, "after")
    assert [one["taken"] for one in after["candidates"]] == ["60"]
    assert (after["notes"], after["identified"]["by"]) == ([CUT], "client")


async def told(system: Any, name: str) -> dict[str, Any]:
    """Return what is told of the one side of a call."""
    async with app.connections(system.settings) as at:
        found = await find(at, f"default/{name}", lambda _: None)
        (row,) = await explained(at, found, {}, lambda _: None)
        return row


async def test_live_calls_meanwhile(system_of: SystemOf) -> None:
    """Calls of the client go on, each once, late ones among them; then another run finds nothing."""
    system, start = await system_of(partitions=2), now()
    async with system.worker():
        await system.load(catalog(limit=60), start - 100 * MINUTE)
        calls = [(cdr(f"c{n}", start + n * 1000, seconds=30), None) for n in range(300)]
        await system.send(reversed(calls))
        await system.settled()

        async def live() -> None:
            for n in range(100):
                value = cdr(f"l{n}", start + (n % 7) * MINUTE, seconds=20)
                await system.send([(value, None)], partition=n % 2)
                await asyncio.sleep(0.02)

        await system.load(catalog(limit=60, price="0.90"))
        flow = asyncio.create_task(live())
        done = await rerate(system, applies=True)
        await flow
        await system.settled()
        assert done.summary.left == []
        assert done.summary.changed >= 300
        await audited(system)
        usage = [
            one for one in await system.transactions() if one["type"] == "usage" and one["revision"] == 1
        ]
        assert len({one["id"] for one in usage}) == len(usage) == 400
        await rerate(system, applies=True)
        assert (await rerate(system, applies=True)).rows == []
        await audited(system)


async def test_a_second_job_is_refused_until_the_first_is_given_up(system_of: SystemOf) -> None:
    """The refusal names the first, which was killed between two of its parts."""
    system, start = await system_of(), now()
    async with system.worker():
        await system.load(catalog(), start - 100 * MINUTE)
        await system.send([(cdr(f"c{n}", start + n * MINUTE), None) for n in range(60)])
        await system.settled()
        await system.load(catalog(price="1.20"))
        sent = 0

        async def killed(*_: Any) -> Any:
            raise asyncio.CancelledError

        async with app.rerating(system.settings, "run", print, applies=True) as (at, sends):
            assert sends is not None
            job = Job(at, Selection(None, Window(0, 2**42)), "first")
            answer = sends.answer

            async def answered(command_id: str) -> Any:
                nonlocal sent
                sent += 1
                if sent == 3:  # it has begun, and had a piece taken
                    await killed()
                return await answer(command_id)

            sends.answer = answered  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await job.run(lambda *_: None, sends)
            job.close()
        second = await rerate(system, applies=True, job="second")
        (why,) = second.summary.left
        assert "job 'first' rates calls of client '1' again since" in why
        await audited(system)
        async with app.rerating(system.settings, "run2", print, applies=True) as (at, sends):
            assert sends is not None
            assert await unknown(at, ["nobody", "1"]) == ["nobody"]
            assert await give_up(at, None, "first", sends) == (["1"], [])
        done = await rerate(system, applies=True, job="second")
        assert done.summary.left == []
        assert done.rows == []  # what the first had sent was taken
        await audited(system)
        assert (await rerate(system)).rows == []


def started(system: Any, *options: str) -> subprocess.Popen[str]:
    """Start `rater rerate` for all clients as a program."""
    arguments = [sys.executable, "-m", "rater", "rerate", "--all", "--from", "2026-01-01", "--json", *options]
    return subprocess.Popen(  # noqa: S603 - our own program
        [*arguments, "--to", rfc3339(time.time_ns() // 1_000_000)],
        env={**os.environ, **system.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


async def test_killed_and_resumed(system_of: SystemOf) -> None:
    """The program is killed while its pieces are taken, a worker too; resumed, it ends what it began."""
    system, start = await system_of(partitions=2, environ=SOON), now()
    workers = [system.start_worker(), system.start_worker()]
    for worker in workers:
        await system.started(worker)
    await system.load(catalog(limit=60), start - 100 * MINUTE)
    values = [cdr(f"c{n}", start + n * 1000, seconds=30, client=str(1 + n % 2)) for n in range(900)]
    await system.send([(value, None) for value in reversed(values)])
    await system.settled()
    await system.load(catalog(limit=60, price="0.90"))
    first = len(await system.transactions())

    async def some(more: int) -> bool:
        return len(await system.transactions()) >= first + more

    for pieces in (1, 600):
        running = started(system, "--apply", "--job", "j")
        await until(lambda more=pieces: some(more))  # type: ignore[misc]
        running.kill()
        running.communicate()
        if pieces == 1:
            system.stop_worker(workers[0], signal.SIGKILL)
    await audited(system)
    running = started(system, "--apply", "--job", "j")
    out, talk = await asyncio.to_thread(running.communicate)
    assert running.returncode == 0, talk
    summary = json.loads(out.splitlines()[-1])
    assert (summary["job"], summary["clients"], summary["calls"], summary["applied"]) == ("j", 2, 900, True)
    await audited(system)
    shown = await asyncio.to_thread(started(system).communicate)
    assert json.loads(shown[0].splitlines()[-1])["changed"] == 0
    usage = [one for one in await system.transactions() if one["type"] == "usage"]
    assert len(usage) == len({(one["id"], one["revision"]) for one in usage}) == 1800
    assert system.stop_worker(workers[1]) == 0


async def test_a_rejected_call_that_was_rated_at_another_client(system_of: SystemOf) -> None:
    """It was rated where it belonged by then; that it would be another's now makes no second charge of it."""
    system, start = await system_of(), now()
    value = json.dumps({
        "id": "c", "answered_at": rfc3339(start), "duration_ms": 60_000, "called": "38044123",
        "orig": {"gateway": "gw"},
    }).encode()  # fmt: skip
    owned, moved = (
        catalog(more=f'identification: [{{side: orig, gateway: gw, client: "{client}"}}]') for client in "21"
    )
    async with system.worker():
        await system.load(catalog(), start - 100 * MINUTE)
        await system.send([(value, None)])
        await system.settled()
        assert len(await system.rejected()) == 1
        await system.load(owned)
        await system.send([(value, None)])
        await system.settled()
        before = await system.transactions()
        assert [one["client"] for one in before if one["type"] == "usage"] == ["2"]
        await system.load(moved)
        for clients in (None, {"1"}):
            assert (await rerate(system, applies=True, clients=clients)).rows == []
        assert await system.transactions() == before


async def test_a_record_that_is_gone(system_of: SystemOf) -> None:
    """In place of it a CDR is rejected that is put together from the transaction, one of ours."""
    system, start = await system_of(), now()
    async with system.worker():
        await system.load(catalog(codes="380 49"), start - 100 * MINUTE)
        await system.send([(cdr("lost", start, "4930123"), None), (cdr("c", start), None)])
        await system.settled()
        await cut(system, {0: 2}, system.topics.cdrs)
        await system.load(catalog(codes="380"))
        assert (await rerate(system, applies=True)).rows == [("default/lost/orig", 1, -600_000, None)]
        (lost,) = await system.rejected()
        headers = {name: value.decode() for name, value in lost.headers}
        assert headers["source_topic"] == system.topics.cdrs
        assert "its record is gone by retention" in headers["detail"]
        arrival = Arrival(lost.timestamp, lost.timestamp, frozenset({"calls"}))
        made, came = read(lost, arrival, None), decode(cdr("lost", start, "4930123"), arrival)
        assert made == came
        await system.load(catalog(codes="380 49"))
        assert (await rerate(system, applies=True)).rows == [("default/lost/orig", 2, None, -600_000)]
        await audited(system)


def test_whose_topic_a_cdr_of_ours_is_said_to_be_of() -> None:
    """Not that of a source whose map reads another format, nor that of commands."""
    topics = SimpleNamespace(cdrs="cdrs", data=["cdrs", "pbx", "csv"], commands="commands")
    at: Any = SimpleNamespace(topics=topics, maps={"csv": None})
    named = ("cdrs", "pbx", "csv", "commands", "")
    assert [topic_of_ours(at, topic) for topic in named] == ["cdrs", "pbx", "cdrs", "cdrs", "cdrs"]


async def sums(system: Any) -> tuple[int, dict[str, int]]:
    """Return client 1's balance, and what is used of its counters."""
    async with app.opened_store(system.settings) as store:
        found = await store.client("1")
    assert found is not None
    return found[1], found[2]


async def cut(system: Any, ends: dict[int, int], topic: str | None = None) -> None:
    """Remove all that a topic, the journal unless another is named, has below these offsets."""
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    topic = topic or system.topics.transactions
    await admin.delete_records(
        {TopicPartition(topic, lane): RecordsToDelete(end) for lane, end in ends.items()}
    )
    await admin.close()


async def test_a_journal_that_is_cut(system_of: SystemOf) -> None:
    """What it has is rated again; the rest stands, and what may have been rated is not rated first."""
    system, start = await system_of(), now()
    async with system.worker():
        await system.load(catalog(codes="380 49"), start - 100 * MINUTE)
        await system.send([(cdr(f"c{n}", start + n * MINUTE), None) for n in range(8)])
        await system.send([(cdr("old", start, "44123"), None)])
        await system.settled()
        await system.load(catalog(codes="380 49", price="0.90"))
        assert (await rerate(system, applies=True)).summary.changed == 8
        ends = await end_offsets(system.client, system.topics.transactions, [0])
        await system.send([(cdr(f"d{n}", start + n * MINUTE), None) for n in range(4)])
        await system.settled()
        await cut(system, ends)
        before, _ = await sums(system)
        standing = await system.transactions()
        assert [one["amount"] for one in standing if one["type"] == "usage"] == ["0", "0", "-0.9", "-0.9"]
        await system.load(catalog(codes="380 44 49", price="1.20"))
        shown = await rerate(system)
        assert shown.rows == [
            ("default/d0/orig", 2, 0, 0), ("default/d1/orig", 2, 0, 0),
            ("default/d2/orig", 2, -900_000, -1_200_000), ("default/d3/orig", 2, -900_000, -1_200_000),
        ]  # fmt: skip
        done = await rerate(system, applies=True)
        assert (done.rows, done.summary.left, done.summary.unsure) == (shown.rows, [], 1)
        assert done.summary.journal_from_ms is not None
        assert (await rerate(system, applies=True)).rows == []
        balance, counters = await sums(system)
        assert (balance, counters["7.2.m"]) == (before - 2 * 300_000, 600)
