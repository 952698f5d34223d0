"""`--late`: calls older than the duplicate window are rated once, as the journal knows them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from recycled import catalog, cdr, records, recycled, rejections, usage_of

from rater import app
from rater.core.instants import DAY_MS
from rater.core.reasons import Reason
from rater.queries.explained import explained, find
from rater.worker import buckets, shared

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


async def test_late_finds_in_the_journal_what_the_window_has_forgotten(
    system_of: SystemOf, tmp_path: Any
) -> None:
    """An old call is rated once: not where the journal has it, though the window knows it no more."""
    system = await system_of(partitions=2, environ={"RATER_WORKER__DUPLICATE_WINDOW_DAYS": "1"})
    now_ms = time.time_ns() // 1_000_000
    half = cdr("half", days=5, orig="c0", term="c1")
    part = json.dumps({name: of for name, of in json.loads(half).items() if name != "term"}).encode()
    async with system.worker() as worker:
        await system.load(catalog("380"), at_ms=(now_ms - 6 * DAY_MS) // 1000 * 1000)
        await system.send([(part, now_ms - 5 * DAY_MS), (cdr("seen", days=5), now_ms - 5 * DAY_MS)])
        await system.send([(cdr("young"), now_ms)])  # five days on: what came before is forgotten
        await system.send([(cdr("young2"), now_ms)], partition=1)
        await system.send([(half, now_ms), (cdr("seen", days=5), now_ms), (cdr("new", days=5), now_ms)])
        await system.settled()
        rated = {f"default/{name}/orig": 1 for name in ("half", "seen", "young", "young2")}
        assert await usage_of(system) == rated
        assert Counter(reason for _, _, reason, _ in await rejections(system)) == {"too_old": 4}
        assert (await recycled(system)).older == 3
        report = await recycled(system, late=True, reason=Reason.TOO_OLD)
        assert (report.sent, report.known) == ({"too_old": 2}, 2)
        rated |= {"default/half/term": 1, "default/new/orig": 1}
        assert await usage_of(system) == rated
        assert len(await rejections(system)) == 4
        assert (await recycled(system, late=True)).sent == {}
        filed = cdr("filed", days=9)
        await ingested_late(system, tmp_path, [half, cdr("new", days=5), filed, b"?"])
        rated |= {"default/filed/orig": 1}
        assert await usage_of(system) == rated
        assert (await rejections(system))[-1][2] == "malformed"
        values = [record.value for record in await system.read(system.topics.cdrs)]
        known = 1 + values.count(filed) - 1  # half's orig; what both programs sent, but once
        told = worker.connections.metrics.exposition().decode()
        assert f'rater_duplicates_total{{kind="same"}} {known}.0' in told
        assert "rater_engine_returned_total 0.0" in told
    assert (await app.audit(system.settings)).findings == []


async def test_a_late_call_draws_from_its_period(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its period has left the client's register, and is in the history; so do later calls of the client."""
    monkeypatch.setattr(buckets, "EXPIRE_S", 0.0)
    monkeypatch.setattr(shared, "LOOK_BACK_S", 0.0)
    system = await system_of(environ={"RATER_WORKER__DUPLICATE_WINDOW_DAYS": "1"})
    now_ms, days = time.time_ns() // 1_000_000, 10
    daily = {
        "id": "1", "name": "Daily", "type": "customer", "currency": "USD", "period": "1 day",
        "limits": [{"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 1}],
    }  # fmt: skip
    start, end = (
        time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(now_ms / 1000 - 60 + at * 86_400))
        for at in (-days, days)
    )
    held = {"id": "7", "client": "c0", "package": "1", "start_date": start, "activate_in_past": True}
    whole = json.loads(catalog("380")) | {"packages": [daily], "client_packages": [held]}
    async with system.worker():
        await system.load(json.dumps(whole).encode(), at_ms=(now_ms - days * DAY_MS) // 1000 * 1000)
        await system.send([(cdr(f"x{n}", days=7), now_ms) for n in range(2)])
        await system.settled()
        held["end_date"] = end  # a change of the client package takes old periods out of the register
        await system.load(json.dumps(whole).encode())
        store = await app.connect_store(system.settings)
        assert await store.history("c0")
        await store.close()
        report = await recycled(system, late=True, reason=Reason.TOO_OLD)
        assert report.sent == {"too_old": 2}
        await system.send([(cdr(f"after{n}"), now_ms) for n in range(2)])
        await system.settled()
        told = {one["cdr"]["id"]: one for one in await system.transactions() if one["type"] == "usage"}
        drawn = [
            ([of["period"] for of in told[name]["draws"]], told[name]["amount"])
            for name in ("x0", "x1", "after0", "after1")
        ]
        assert drawn == [([4], "0"), ([], "-0.1"), ([11], "0"), ([], "-0.1")]
        async with app.connections(system.settings) as at:
            found = await find(at, "default/x0/orig", lambda _: None)
            (row,) = await explained(at, found, {}, lambda _: None)
        assert ([of["period"] for of in row["candidates"]], row["notes"]) == ([4], [])
    assert (await app.audit(system.settings)).findings == []


async def ingested_late(system: Any, folder: Any, cdrs: list[bytes]) -> None:
    """Two programs ingest one file at the same time: each looks its calls up before the other's are rated."""
    file = folder / "late.jsonl"
    file.write_bytes(b"".join(one + b"\n" for one in cdrs))
    command = [sys.executable, "-m", "rater", "ingest", str(file), "--source", "default", "--late"]
    both = await asyncio.gather(
        *(
            asyncio.to_thread(
                subprocess.run,
                command,
                env={**os.environ, **system.environ},
                check=False,
                capture_output=True,
            )
            for _ in range(2)
        )
    )
    for done in both:
        assert done.returncode == 0, done.stderr
        assert b"are in the journal" in done.stderr
    await records(system)
    await system.settled()
