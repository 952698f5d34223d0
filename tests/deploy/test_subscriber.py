"""The example of a subscriber, on a real broker: each event of its types is told, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from rater.local.child import Child

PROGRAM = Path(__file__).parents[2] / "deploy" / "subscriber" / "notify.py"
WITHIN_S = 60.0


class Address:
    """A web address that takes events: the first attempt of each it refuses, and some it lets wait."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.asked: Counter[str] = Counter()
        self.taken: list[str] = []
        self.waits: set[str] = set()
        self._came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Take an event."""
        event = await request.json()
        assert request.headers["Idempotency-Key"] == event["id"]
        self.asked[event["id"]] += 1
        self._came.set()
        if event["id"] in self.waits:
            await asyncio.sleep(WITHIN_S)
        if self.asked[event["id"]] == 1:
            return web.Response(status=503)
        self.taken.append(event["id"])
        self._came.set()
        return web.Response(status=204)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def has(self, *ids: str) -> None:
        """Wait until these were taken."""
        await self.until(lambda: set(ids) <= set(self.taken))


def event(name: str, kind: str = "low_balance") -> bytes:
    """Return an event as rater writes it."""
    return json.dumps({"id": name, "type": kind, "client": "42"}).encode()


@pytest.fixture
async def topic(kafka: str, prefix: str) -> AsyncIterator[str]:
    """A topic of events."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(f"{prefix}events", 1, 1)])
    yield f"{prefix}events"
    await admin.delete_topics([f"{prefix}events"])
    await admin.close()


async def write(kafka: str, topic: str, *values: bytes, commit: bool = True) -> None:
    """Write records in one Kafka transaction, and commit it or not."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{topic}-writer")
    await producer.start()
    try:
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(topic, value, key=b"42", partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


@pytest.mark.kafka
async def test_each_event_is_told_until_it_is_taken(kafka: str, topic: str, tmp_path: Path) -> None:
    """In order, also after the address refused it and the program was killed; nothing else is told."""
    address = Address()
    application = web.Application()
    application.router.add_post("/TOKEN", address.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    environ = {
        **os.environ, "KAFKA": kafka, "TOPIC": topic, "GROUP": topic,
        "WEBHOOK_URL": f"http://127.0.0.1:{runner.addresses[0][1]}/TOKEN?key=TOKEN",
    }  # fmt: skip

    def started(name: str) -> Child:
        return Child([sys.executable, str(PROGRAM)], tmp_path, tmp_path / f"{name}.log", environ)

    await write(kafka, topic, event("a"), event("x", "renewed"), b"no JSON", b"[]", event("b"))
    await write(kafka, topic, event("never"), commit=False)
    first = await asyncio.to_thread(started, "first")
    try:
        await address.has("a", "b")
        address.waits.add("d")
        await write(kafka, topic, event("c"), event("d"), event("e"))
        await address.until(lambda: address.asked["d"] > 0)
    finally:
        first.signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait, 20)
    address.waits.clear()
    second = await asyncio.to_thread(started, "second")
    try:
        await address.has("d", "e")
    finally:
        second.signal(signal.SIGTERM)
        await asyncio.to_thread(second.wait, 20)
        await runner.cleanup()
    assert second.code == 0
    # c was taken and not committed when the program was killed: it is told again, a and b are not.
    assert address.taken[:3] == ["a", "b", "c"]
    assert address.taken[3:] in (["c", "d", "e"], ["d", "e"])
    assert address.asked.keys() == {"a", "b", "c", "d", "e"}
    told = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert "event a was not taken by http://127.0.0.1" in told
    assert "TOKEN" not in told


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "WEBHOOK_URL is not set: set it to the one that takes events"),
        (
            {"WEBHOOK_URL": "crm.example/TOKEN"},
            "WEBHOOK_URL is no address: set it to the one that takes events",
        ),
        ({"WEBHOOK_URL": "http://127.0.0.1/", "TYPES": " , "}, "TYPES is empty: name the types of events"),
    ],
)
def test_wrong_variables_are_told(variables: dict[str, str], sentence: str) -> None:
    """In a sentence, with exit code 2."""
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, PROGRAM],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert "TOKEN" not in done.stderr
