"""Workers of both engines in one system: who rates may change in mid-stream, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_choice import is_native_here

from line.conftest import SOON
from line.test_line import check_store, each_once, findings, send_all
from traffic import calls, catalog

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not is_native_here(), reason="there is no native engine here, as the last line says"),
]


@pytest.mark.parametrize("engines", [("native", "python"), ("python", "native")], ids="-then-".join)
async def test_one_engine_takes_over_from_the_other(
    engines: tuple[str, str], system_of: Callable[..., Awaitable[Any]]
) -> None:
    """What the one has drawn and not published the other publishes as it was decided, and goes on."""
    system = await system_of(partitions=2, environ=SOON)
    first, second = ({"RATER_WORKER__ENGINE": name} for name in engines)
    doomed = system.start_worker("after a draw of calls:2:SIGKILL", **first)
    await system.load(catalog())
    cdrs = calls(20_000, 5, time.time_ns() // 1_000_000)
    await send_all(system, cdrs)
    await asyncio.to_thread(doomed.wait)
    assert doomed.returncode == -signal.SIGKILL
    system.start_worker(**second)
    await system.settled()
    taken = [line for line in told(system, 1) if line["event"] == "lane taken"]
    assert sum(line["pending"] for line in taken) > 0, "nothing was drawn and not published"
    started = [line for at in (0, 1) for line in told(system, at) if line["event"] == "worker started"]
    assert [line["engine"] for line in started] == list(engines)
    transactions = await system.transactions()
    each_once(transactions, cdrs)
    assert not await system.rejected()
    await check_store(system, transactions)
    assert await findings(system) == []


def told(system: Any, number: int) -> list[dict[str, Any]]:
    """Return what a worker has logged."""
    log = system.folder / f"worker-{number}.log"
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
