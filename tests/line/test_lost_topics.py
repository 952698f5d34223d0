"""Topics that were recreated: the worker stops and says which, rather than rate again or lose calls."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("name", ["transactions", "cdrs", "commands"])
async def test_a_recreated_topic_stops_the_worker(system_of: SystemOf, name: str) -> None:
    """Its records are gone, and its offsets begin again: exit code 1, with a sentence that names it."""
    system = await system_of()
    async with system.worker():
        await system.load(catalog(3, 1))
        cdrs = calls(100, 3, time.time_ns() // 1_000_000, clients=3, contested_clients=1)
        await system.send([(raw, None) for raw in cdrs])
        await system.settled()
    topic = getattr(system.topics, name)
    admin = AIOKafkaAdminClient(**system.client)
    await admin.start()
    await admin.delete_topics([topic])

    async def gone() -> bool:
        return topic not in await admin.list_topics()

    await system.until(gone)
    await admin.close()
    await system.topics.create(system.client, 1)
    process = system.start_worker()

    async def ended() -> bool:
        return process.poll() is not None

    await system.until(ended)
    told = (system.folder / "worker-0.log").read_text()
    assert process.returncode == 1
    assert f"{topic}[0]" in told
    assert "recreated" in told
    assert "Traceback" not in told
