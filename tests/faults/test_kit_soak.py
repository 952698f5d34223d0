"""A soak with the settings of deploy/compose.yaml: workers come and go under load, beside an audit.

`make soak` runs an hour of it; RATER_SOAK_MINUTES says how long.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from redis.asyncio import Redis as RedisClient

from faults.behind import USUAL, aborted
from faults.calls import calls, catalog
from faults.measured import MIB, highest
from faults.rig import Rig, Servers, Slot, free_ports, started, until
from faults.test_times import replayed
from rater.config.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("F10", "F42")]

Figure = Callable[[str], None]
MINUTES = float(os.environ.get("RATER_SOAK_MINUTES", "5"))
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
SEED = 41
TURNS = 60
"""So often a worker is added or removed, at most every 10 s."""
GROWTH_MIB = 32.0
"""A process may be so much higher in the second half than in the first, as in test_soak.py."""
SAMPLE_S = 1.0
OF_THE_PLACE = ("LISTENERS", "LISTENER", "VOTERS", "NODE", "PROCESS", "DIRS", "INTER_BROKER")
"""Words of broker settings that say where it stands, not how it works."""


def kit() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return what the compose file sets: of workers (variables), of the broker, of Redis."""
    of = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    workers = {
        **USUAL,
        **{
            name: value
            for name, value in of["worker"]["environment"].items()
            if name not in ("RATER_KAFKA__BOOTSTRAP_SERVERS", "RATER_REDIS__URL")
        },
    }
    broker = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in of["kafka"]["environment"].items()
        if not any(word in name for word in OF_THE_PLACE)
    }
    words = of["redis"]["command"][1:]
    redis = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    return workers, broker, redis


@contextmanager
def auditing(rig: Rig, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the audit as the compose file does; gives its process and the URL of its metrics."""
    (port,) = free_ports(1)
    environ = {
        **os.environ,
        **rig.settings_of(rig.servers.bootstrap, rig.primary.url),
        "RATER_METRICS__PORT": str(port),
    }
    with (folder / "audit.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rater", "audit", "--every", "10s"], env=environ, stdout=log, stderr=log
        )
        try:
            yield process, f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()
            process.wait(60)


def _drift(url: str) -> float:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        found = re.search(r"^rater_audit_drift (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


async def clean(url: str) -> bool:
    """Return whether the audit says that nothing differs; not while it gives no answer."""
    try:
        return await asyncio.to_thread(_drift, url) == 0.0
    except OSError:
        return False


class Memory:
    """What processes and Redis hold, in MiB, sample by sample."""

    def __init__(self, rig: Rig, processes: dict[str, int]) -> None:
        """processes: name → pid."""
        self._rig = rig
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self.samples: dict[str, list[float]] = {name: [] for name in (*processes, "Redis")}

    async def run(self) -> None:
        """Write it down until cancelled."""
        async with RedisClient.from_url(self._rig.primary.url) as redis:
            while True:
                for name, process in self._processes.items():
                    self.samples[name].append(process.memory_info().rss / MIB)
                info: dict[str, Any] = await redis.info("memory")
                self.samples["Redis"].append(int(info["used_memory"]) / MIB)
                await asyncio.sleep(SAMPLE_S)

    def series(self, points: int = 12) -> Iterator[str]:
        """Yield a line for each: its memory at so many moments, evenly spread."""
        for name, found in self.samples.items():
            step = max(1, len(found) // points)
            yield f"{name}: {', '.join(f'{one:.0f}' for one in found[::step])} MiB"


async def turned(rig: Rig, steady: Slot, number: int, environ: dict[str, str]) -> None:
    """Add a worker where there is room and it is its turn, else remove one; the steady one stays."""
    free = [slot for slot in rig.slots if not slot.alive]
    others = [slot for slot in rig.running() if slot is not steady]
    if free and (number % 2 == 0 or not others):
        rig.launch(free[0], environ=environ)
        await started(free[0])
    else:
        assert await rig.end(rig.rng.choice(others), signal.SIGTERM) == 0


async def test_the_kit_for_long(tmp_path: Path, figure: Figure) -> None:
    """Workers come and go for as long as it lasts: the audits find nothing, and memory stays what it was."""
    environ, broker, redis = kit()
    servers = await asyncio.to_thread(Servers, tmp_path / "servers", broker)
    rig = Rig(
        servers,
        tmp_path,
        SEED,
        catalog(),
        partitions=int(environ["RATER_TOPICS__PARTITIONS"]),
        buckets=Settings().redis.buckets,
    )
    rig.least = 1
    rig.rate_per_s = 100 if MINUTES > 10 else 200
    try:
        for name, value in redis.items():
            await rig.redis("CONFIG", "SET", name, value)
        await rig.start(calls(SEED), workers=2, environ=environ)
        steady = rig.slots[0]
        await started(steady)
        await rig.progress(everywhere=True)
        assert steady.process is not None
        with auditing(rig, tmp_path) as (audit, url):
            memory = Memory(rig, {"a worker": steady.process.pid, "the audit": audit.pid})
            sampling = asyncio.create_task(memory.run())
            end, pause_s, turns = time.monotonic() + MINUTES * 60, max(10.0, MINUTES * 60 / TURNS), 0
            while time.monotonic() < end:
                await asyncio.sleep(min(pause_s, max(0.0, end - time.monotonic())))
                await turned(rig, steady, turns, environ)
                turns += 1
                assert not sampling.done() or sampling.result() is None
            await rig.progress(everywhere=True)
            await rig.settled()
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            for line in memory.series():
                figure(f"soak of {MINUTES:g} min, {line}")
            await until(lambda: clean(url), "the audit that goes on finds nothing")
            again, told = replayed(rig), rig.lateness()
            verdict = await rig.sound()
            undone = await aborted(rig)
            await until(lambda: clean(url), "the audit that goes on finds nothing of what workers left")
        figure(
            f"soak of {MINUTES:g} min with the settings of the compose file at {rig.rate_per_s} CDR/s, "
            f"workers added or removed {turns} times: {told}, decided by one and published by another: "
            f"{again}, records of aborted Kafka transactions: {undone}; drift 0; {verdict}"
        )
        for name in ("a worker", "the audit"):
            before, after = highest(memory.samples[name])
            assert after <= before + GROWTH_MIB, (name, before, after)
    finally:
        await rig.close()
        await asyncio.to_thread(servers.stop)
