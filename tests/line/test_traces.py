"""A call's trace: what is published of it bears it, however and whenever that comes about."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from recycled import ROME, recycled
from recycled import catalog as recycled_catalog
from recycled import cdr as recycled_cdr

from line.conftest import SOON
from rater.core.journal.traces import TRACE_HEADER

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
Headers = list[tuple[str, bytes]]


def trace(number: int, flags: str = "01") -> Headers:
    """Return the headers of a record of a trace."""
    return [(TRACE_HEADER, f"00-{number:032x}-{number:016x}-{flags}".encode())]


def traces_of(record: Any) -> Headers:
    """Return those of its headers that are of traces."""
    return [one for one in record.headers if one[0] == TRACE_HEADER]


async def transactions(system: Any) -> list[tuple[str, int, str, Headers]]:
    """Return id, revision, type and trace of each transaction."""
    found = [record for record in await system.read(system.topics.transactions) if record.value]
    said = [(json.loads(record.value), traces_of(record)) for record in found]
    return [(one["id"], one["revision"], one["type"], of) for one, of in said]


def low(raw: bytes) -> bytes:
    """Return a catalog whose clients have a mark that their first call takes them below."""
    whole = json.loads(raw)
    return json.dumps(
        {**whole, "clients": [{**of, "low_balance": "9.95"} for of in whole["clients"]]}
    ).encode()


async def test_all_that_is_published_of_a_record_bears_its_trace(system_of: SystemOf) -> None:
    """Transactions, events, what is rejected and what is sent again; another form is not passed on."""
    system = await system_of(partitions=1)
    async with system.worker() as worker:
        await system.load(low(recycled_catalog("380")))
        kyiv = "380441234567"
        await system.send([(recycled_cdr("a", kyiv, orig="c0", term="c1"), None)], headers=trace(1))
        await system.send([(recycled_cdr("b", kyiv), None)])
        await system.send([(recycled_cdr("c", kyiv), None)], headers=[(TRACE_HEADER, b"00-no")])
        await system.send([(recycled_cdr("far", ROME), None)], headers=trace(2))
        await system.settled()
        found = {name: of for name, _, _, of in await transactions(system)}
        assert found["default/a/orig"] == found["default/a/term"] == trace(1)
        assert found["default/b/orig"] == found["default/c/orig"] == []
        events = [one for one in await system.read(system.topics.events) if b"low_balance" in one.value]
        assert [traces_of(one) for one in events] == [trace(1)]
        (rejected,) = await system.rejected()
        assert traces_of(rejected) == trace(2)
        await system.load(low(recycled_catalog("380", "39")))
        await recycled(system)
        await system.settled()
        again = [record for record in await system.read(system.topics.cdrs) if record.value == rejected.value]
        assert [traces_of(record) for record in again] == [trace(2), trace(2)]

        async def rated() -> bool:
            return ("default/far/orig", 1, "usage", trace(2)) in await transactions(system)

        await system.until(rated)
        assert b"rater_engine_returned_total 0.0" in worker.connections.metrics.exposition()


async def test_what_was_drawn_and_not_published_is_published_with_its_trace(system_of: SystemOf) -> None:
    """Its record comes again, and brings it."""
    system = await system_of(partitions=1, environ=SOON)
    doomed = system.start_worker("after a draw of calls:1:SIGKILL")
    await system.started(doomed)
    await system.load(recycled_catalog("380"))
    await system.send([(recycled_cdr("a", "380441234567"), None)], headers=trace(5))
    await asyncio.to_thread(doomed.wait)
    assert doomed.returncode == -signal.SIGKILL
    assert [one for one in await transactions(system) if one[2] == "usage"] == []
    async with system.worker() as worker:
        await system.settled()
        assert b"rater_replayed_total 1.0" in worker.connections.metrics.exposition()
    usage = [one for one in await transactions(system) if one[2] == "usage"]
    assert usage == [("default/a/orig", 1, "usage", trace(5))]
