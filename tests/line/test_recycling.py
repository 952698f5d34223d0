"""`rater recycle`: rejected records again, each side once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from recycled import KYIV, ROME, catalog, cdr, recycled, rejections, usage_of

from line.test_rerate import rerate
from rater import app
from rater.core.bucket.messages import bucket_of
from rater.core.line.recycling import Choice
from rater.core.reasons import Reason

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def test_each_is_sent_again_once(system_of: SystemOf) -> None:
    """By reason; with the cause mended, it is rated. Once more sends nothing that was not rejected anew."""
    system = await system_of(partitions=2)
    both = cdr("both", ROME, orig="c0", term="c1")
    half = cdr("half", KYIV, orig="c0", term="nobody")
    async with system.worker():
        await system.load(catalog("380"))
        await system.send([(both, None), (b"?", None), (cdr("far", ROME), None)])
        await system.send([(half, None)], partition=1)
        await system.settled()
        first = [
            ("both", "orig", "rate_missing", "1"), ("both", "term", "rate_missing", "1"),
            ("?", "", "malformed", "1"), ("far", "orig", "rate_missing", "1"),
            ("half", "term", "client_unknown", "1"),
        ]  # fmt: skip
        assert sorted(await rejections(system)) == sorted(first)
        tried = await recycled(system, dry_run=True, reason=Reason.RATE_MISSING)
        assert tried.sent == {"rate_missing": 2}
        assert await rejections(system) == await rejections(system)
        assert await usage_of(system) == {"default/half/orig": 1}

        await system.load(catalog("380", "39"))
        report = await recycled(system, reason=Reason.RATE_MISSING)
        assert (report.sent, report.done) == ({"rate_missing": 2}, 1)  # the other side goes along
        rated = {f"default/{name}": 1 for name in ("both/orig", "both/term", "far/orig", "half/orig")}
        assert await usage_of(system) == rated
        again = await recycled(system, reason=Reason.RATE_MISSING)
        assert (again.sent, again.done) == ({}, 3)

        report = await recycled(system)
        assert report.sent == {"malformed": 1, "client_unknown": 1}
        anew = [("?", "", "malformed", "2"), ("half", "term", "client_unknown", "2")]
        assert sorted(await rejections(system)) == sorted(first + anew)
        await system.load(catalog("380", "39", clients=2).replace(b'"c1"', b'"nobody"'), name="nobody.yaml")
        report = await recycled(system, reason=Reason.CLIENT_UNKNOWN)
        assert (report.sent, report.done) == ({"client_unknown": 1}, 1)
    assert await usage_of(system) == rated | {"default/half/term": 1}
    ledger = await app.audit(system.settings)
    assert ledger.findings == []


async def test_by_source_and_time(system_of: SystemOf, prefix: str) -> None:
    """Sources are known by their topics, times are those of rejecting; what nobody reads is not sent."""
    system = await system_of(environ={"RATER_SOURCES__PBX__TOPIC": f"{prefix}.pbx"})
    async with system.worker():
        await system.load(catalog("380"))
        await system.send([(cdr("a", ROME), None)])
        await system.send([(cdr("b", ROME), None)], topic=f"{prefix}.pbx")
        await system.settled()
        await system.load(catalog("380", "39"))
        times = [record.timestamp for record in await system.rejected()]
        assert (await recycled(system, until_ms=min(times))).sent == {}
        assert (await recycled(system, since_ms=max(times) + 1)).sent == {}
        assert (await recycled(system, topic=f"{prefix}.pbx", since_ms=min(times))).sent == {
            "rate_missing": 1
        }
        assert await usage_of(system) == {"default/b/orig": 1}
        assert (await recycled(system, until_ms=max(times) + 1)).sent == {"rate_missing": 1}
    assert await usage_of(system) == {"default/a/orig": 1, "default/b/orig": 1}
    system.settings.sources.clear()
    gone = await recycled(system)
    assert (gone.sent, gone.done, gone.homeless) == ({}, 2, {})


async def test_what_a_re_rating_took_back_hides_no_other(system_of: SystemOf) -> None:
    """Its rejected record lies in its client's lane, and its origin in another, at the same offset."""
    system = await system_of(partitions=2)
    own = bucket_of("c0", system.settings.redis.buckets) % 2
    async with system.worker():
        await system.load(catalog("380", "39"))
        await system.send([(cdr("back", ROME), None)], partition=1 - own)
        await system.settled()
        await system.load(catalog("380"))
        await rerate(system, applies=True)
        await system.send([(cdr("late", ROME), None)], partition=own)
        await system.settled()
        places = [(record.partition, record.headers) for record in await system.rejected()]
        assert [(at, dict(said)["source_offset"]) for at, said in places] == [(own, b"0"), (own, b"0")]
        await system.load(catalog("380", "39"))
        report = await recycled(system)
        assert (report.sent, report.done, report.taken_back) == ({"rate_missing": 1}, 0, 1)
        assert await usage_of(system) == {"default/back/orig": 1, "default/late/orig": 1}
        await rerate(system, applies=True)
        assert await usage_of(system) == {"default/back/orig": 2, "default/late/orig": 1}
        assert (await recycled(system)).sent == {}
        assert (await app.audit(system.settings)).findings == []


async def test_two_records_of_one_offset(system_of: SystemOf) -> None:
    """A topic that was recreated has another record at an offset: both go, each once."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog("380"))
        await system.send([(cdr("old", ROME, orig="c0", term="c1"), None)])
        await system.settled()
        first, _ = await system.rejected()
        await system.send_whole(system.topics.rejected, replace(first, value=cdr("new", ROME)))
        await system.load(catalog("380", "39"))
        report = await recycled(system)
        assert (report.sent, report.done) == ({"rate_missing": 2}, 1)
        assert (await recycled(system)).sent == {}
    assert await usage_of(system) == dict.fromkeys(
        ("default/old/orig", "default/old/term", "default/new/orig"), 1
    )


KILLED = """
import os, signal, sys
from rater.cli import main
from rater.jobs import recycle
from rater.stream import endtxn, producer
recycle.RECORDS_AT_ONCE = 3
commit, left = producer.AIOKafkaProducer.commit_transaction, int(sys.argv[1])
async def dies(self):
    global left
    left -= 1
    if left < 0 and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(self)
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
producer.AIOKafkaProducer.commit_transaction = dies
raise SystemExit(main(["recycle"]))
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_half_way(system_of: SystemOf, when: str) -> None:
    """A recycling that is killed about its third commit has sent some; the next one sends the others."""
    system = await system_of(partitions=2)
    names = [f"x{n}" for n in range(14)]
    async with system.worker():
        await system.load(catalog("380"))
        await system.send([(cdr(name, ROME, orig="c0", term="c1"), None) for name in names[::2]])
        await system.send([(cdr(name, ROME), None) for name in names[1::2]], partition=1)
        await system.settled()
        await system.load(catalog("380", "39"))
        killed = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", KILLED, "3", when],
            env={**os.environ, **system.environ}, check=False, capture_output=True,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        begun = len(await system.read(system.topics.cdrs)) - len(names)
        report = await recycled(system)
        assert 0 < report.sent.total() < len(names), begun
        assert (await recycled(system)).sent == {}
        values = Counter(record.value for record in await system.read(system.topics.cdrs))
        assert set(values.values()) == {2}
    sides = {f"default/{name}/orig": 1 for name in names} | {f"default/{name}/term": 1 for name in names[::2]}
    assert await usage_of(system) == sides


async def test_two_at_once(system_of: SystemOf) -> None:
    """The one that began first stops with a sentence, or had ended; each record is sent once."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog("380"))
        await system.send([(cdr(f"x{n}", ROME), None) for n in range(40)])
        await system.settled()
    both = [app.recycle(system.settings, Choice(), lambda *_: None, lambda *_: None) for _ in range(2)]
    ends = await asyncio.gather(*both, return_exceptions=True)
    stopped = [end for end in ends if isinstance(end, BaseException)]
    assert all("another `rater recycle` has begun" in str(end) for end in stopped)
    values = Counter(record.value for record in await system.read(system.topics.cdrs))
    assert set(values.values()) == {2}
    assert len(stopped) < 2
