"""The drill: each alert fires because what it is for is caused, on a real stack, and its runbook clears it.

`make drill`. Prometheus evaluates deploy/prometheus/alerts.yaml as `drill_rules` rewrites it. What a scene
does once its alerts fire is what deploy/runbooks.md says. RATER_SCENES names some, with commas between.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.drill_rules import ALERTS, drill_rules, rules
from deploy.drill_stack import Stack, now_ms
from deploy.odd_worker import POISON
from deploy.scraping import Prometheus, wait
from rater import app, config
from rater.core.commands.records import AdjustArgs, write_command
from rater.core.instants import rfc3339
from rater.core.kinds import Do
from rater.local.child import ServerFault

pytestmark = pytest.mark.drill

Figure = Callable[[str], None]
FEW = [one for one in os.environ.get("RATER_SCENES", "").split(",") if one]
FIRES_S = 120.0
CLEARS_S = 150.0
DAY_MS = 86_400_000
CROWD = 15_000
"""Clients whose packages are activated at one moment: more than workers do in some seconds."""


class Drill:
    """The stack, its Prometheus, and what has fired."""

    def __init__(self, folder: Path, figure: Figure) -> None:
        """Start the servers and Prometheus; no worker yet."""
        self.stack = Stack(folder)
        ports = self.stack.ports
        jobs = {"rater": [ports["a"], ports["b"]], "rater-audit": [ports["audit"]]}
        self.prometheus = Prometheus.start(folder / "prometheus", jobs, drill_rules())
        self.figure = figure
        self.rehearsed: set[str] = set()
        self.began = time.monotonic()
        """When the scene did."""

    def scrape(self, *workers: str) -> None:
        """Have these workers scraped from now on."""
        self.prometheus.scrape("rater", [self.stack.ports[name] for name in workers])

    def close(self) -> None:
        """End all of it."""
        self.prometheus.stop()
        self.stack.close()

    def fires(self, *alerts: str, within_s: float = FIRES_S) -> None:
        """Wait until each of these has fired since the scene began."""
        seen: set[str] = set()

        def all_seen() -> bool:
            seen.update(self.prometheus.fired(time.monotonic() - self.began))
            return seen >= set(alerts)

        try:
            took_s = wait("alerts fire", all_seen, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {set(alerts) - seen}, and {seen} did") from error
        self.figure(f"fires within {took_s:.0f} s: {', '.join(alerts)}")
        self.rehearsed |= set(alerts)

    def clears(self, *alerts: str, within_s: float = CLEARS_S) -> None:
        """Wait until none of these fires."""
        took_s = wait(f"{alerts} clear", lambda: not self.prometheus.firing() & set(alerts), within_s)
        self.figure(f"clears within {took_s:.0f} s: {', '.join(alerts)}")

    def is_scraped(self, name: str) -> None:
        """Wait until a worker answers Prometheus."""
        query = f'up{{job="rater", instance="127.0.0.1:{self.stack.ports[name]}"}}'
        wait(f"{name} is scraped", lambda: self.prometheus.values(query) == [1], FIRES_S)

    def ready(self, workers: int) -> None:
        """Wait until so many workers rate."""
        query = 'sum(rater_ready{job="rater"})'
        wait(f"{workers} workers rate", lambda: self.prometheus.values(query) == [workers], CLEARS_S)


@pytest.fixture
def drill(tmp_path: Path, figure: Figure) -> Iterator[Drill]:
    """Everything, ended with the test."""
    made = Drill(tmp_path, figure)
    yield made
    made.close()


def moment(later_ms: int) -> str:
    """Return the instant that is so much later than now, in whole seconds as catalogs have it."""
    return rfc3339((now_ms() + later_ms) // 1000 * 1000)


def catalog() -> dict[str, Any]:
    """Return what is loaded first."""
    tables = {"orig": {"calls": "retail"}}
    volume = {"type": "volume", "service": "calls", "code": "380*", "limit": 1_000_000}
    package = {"type": "customer", "currency": "USD", "limits": [volume]}
    return {
        "currencies": {"base": "USD"},
        "rate_tables": [
            {"name": "retail", "currency": "USD", "rates": [{"code": "380", "price": "0.10"}]}
        ],
        "packages": [
            {"id": "plain", "name": "Plain", **package},
            {"id": "daily", "name": "Daily", "period": "1 day", **package},
            {"id": "dear", "name": "Dear", "period": "1 month",
             "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}], **package},
        ],
        "clients": [
            {"id": name, "name": name, "currency": "USD", "rate_tables": tables, "balance": "0.00"}
            for name in ("c1", "late")
        ],
        "client_packages": [
            {"id": "p-late", "client": "late", "package": "daily", "activate_in_past": True,
             "start_date": moment(-5 * DAY_MS)},
        ],
    }  # fmt: skip


def test_every_alert_fires_and_its_runbook_clears_it(drill: Drill) -> None:
    """One scene after the other, also behind one that fails; in the end each alert has had its turn."""
    failed = []
    for scene in SCENES[:1] + tuple(one for one in SCENES[1:] if not FEW or one.__name__[1:] in FEW):
        began = drill.began = time.monotonic()
        name = scene.__name__[1:]
        try:
            scene(drill)
        except (AssertionError, ServerFault, OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name}: {error}")
        drill.figure(f"scene {name}: {time.monotonic() - began:.0f} s")
    assert failed == []
    every = {rule["alert"] for rule in rules(ALERTS.read_text("utf-8"))}
    assert FEW or every - drill.rehearsed == set()


# ---------------------------------------------------------------- scenes
def _nothing_is_loaded(drill: Drill) -> None:
    """Two workers and no catalog; no audit. Load it; start the audit."""
    drill.stack.worker("a")
    drill.stack.worker("b")
    drill.fires("RaterNoCatalog", "RaterNoneReady", "RaterWorkerNotReady", "RaterAuditOld")
    drill.stack.load(**catalog())
    drill.stack.audit()
    drill.clears(
        "RaterNoCatalog", "RaterNoneReady", "RaterWorkerNotReady", "RaterAuditOld", "RaterWorkerDown"
    )
    drill.stack.feeding.set()


def _a_switch_falls_silent(drill: Drill) -> None:
    """Calls come, then none. Have the switch send again."""
    time.sleep(12)
    drill.stack.feeding.clear()
    drill.fires("RaterSourceSilent")
    drill.stack.feeding.set()
    drill.clears("RaterSourceSilent")


def _a_worker_hangs_and_redis_restarts(drill: Drill) -> None:
    """Until the group gives its lanes to another the buckets are closed. Restart it."""
    drill.stack.running["b"].signal(signal.SIGSTOP)
    drill.stack.redis.kill()
    drill.stack.redis.restart()
    drill.fires(
        "RaterWorkerDown", "RaterLaneWithoutOwner", "RaterLaneStuck", "RaterRedisRetries", "RaterLagSeconds",
        "RaterLagSecondsHigh", "RaterLagRecords", "RaterResultsLate",
    )  # fmt: skip
    drill.stack.end("b", signal.SIGCONT, signal.SIGKILL)
    drill.stack.worker("b")
    drill.ready(2)
    drill.clears(
        "RaterWorkerDown", "RaterLaneWithoutOwner", "RaterLaneStuck", "RaterRedisRetries", "RaterLagSeconds",
        "RaterLagSecondsHigh", "RaterLagRecords", "RaterResultsLate",
    )  # fmt: skip


def _servers_are_slow(drill: Drill) -> None:
    """A broker, then a Redis that answers late. Heal them."""
    for server, alert, pauses in (
        (drill.stack.kafka, "RaterCommitSlow", (2.0, 0.5)),
        (drill.stack.redis, "RaterDrawSlow", (1.2, 0.5)),
    ):
        heal = drill.stack.again(server.pause, server.resume, pauses)
        try:
            drill.fires(alert)
        finally:
            heal()
        drill.clears(alert)


def _calls_are_wrong(drill: Drill) -> None:
    """Of a client that nobody knows; twice and not the same; late. Complete the catalog, recycle."""
    stack = drill.stack
    stack.feeding.clear()
    stack.send(stack.calls(2000, "unknown", client="new"))
    stack.feeding.set()
    drill.fires("RaterRejected", "RaterMostRejected")
    new = {"id": "new", "name": "new", "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}}
    stack.load(clients=[new])
    stack.rater("recycle", "--reason", "client_unknown")
    drill.clears("RaterRejected", "RaterMostRejected")
    stack.send(stack.calls(10, "twice"))
    stack.send(stack.calls(10, "twice", duration_ms=120_000))
    drill.fires("RaterDuplicatesDiffer")
    drill.clears("RaterDuplicatesDiffer")
    stack.send(stack.calls(1000, "late", client="late", answered_at=rfc3339(now_ms() - 2 * DAY_MS)))
    drill.fires("RaterCallsLate")
    drill.clears("RaterCallsLate")


def _a_command_is_refused(drill: Drill) -> None:
    """Of a client that is not there. Who sent it is told; nothing was changed."""
    settings = config.load(None, drill.stack.settings)
    assert not isinstance(settings, list)

    async def send() -> str | None:
        async with app.sender(settings, print) as sender:
            raw = write_command("drill/1", Do.ADJUST, now_ms(), AdjustArgs("1"), client="nobody")
            return (await sender.send("drill/1", "nobody", raw)).refused

    assert asyncio.run(send()) is not None
    drill.fires("RaterCommandsRefused")
    drill.clears("RaterCommandsRefused")


def _packages_wait(drill: Drill) -> None:
    """For money: top up. For workers: a crowd is due at once, which they work off."""
    stack = drill.stack
    tables = {"orig": {"calls": "retail"}}
    poor = [f"poor{n}" for n in range(5)]
    stack.load(
        clients=[{"id": name, "name": name, "currency": "USD", "rate_tables": tables} for name in poor],
        client_packages=[{"id": f"p-{name}", "client": name, "package": "dear"} for name in poor],
    )
    drill.fires("RaterPendingCharges")
    for name in poor:
        stack.rater("clients", "adjust", name, "--amount", "10.00")
    drill.clears("RaterPendingCharges")
    crowd, start = [f"m{n}" for n in range(CROWD)], moment(45_000)
    stack.load(
        clients=[{"id": name, "name": name, "currency": "USD", "rate_tables": tables} for name in crowd],
        client_packages=[
            {"id": f"p-{name}", "client": name, "package": "plain", "start_date": start} for name in crowd
        ],
    )
    drill.fires("RaterRenewalsOverdue", within_s=120)
    drill.clears("RaterRenewalsOverdue")


def _files_run_out(drill: Drill) -> None:
    """A worker may open hardly more than it has open. Raise the limit."""
    pid = drill.stack.running["a"].pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (int(psutil.Process(pid).num_fds() * 1.15), before[1]))
    drill.fires("RaterFilesRunOut")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    drill.clears("RaterFilesRunOut")


def _workers_differ(drill: Drill) -> None:
    """A third one of an older version, by Python. Finish the roll-out."""
    drill.scrape("a", "b", "c")
    drill.stack.worker("c", "older", RATER_WORKER__ENGINE="python")
    drill.fires("RaterVersionsDiffer", "RaterEnginesDiffer")
    drill.stack.end("c")
    drill.scrape("a", "b")
    drill.clears("RaterVersionsDiffer", "RaterEnginesDiffer", "RaterWorkerDown")


def _an_engine_is_at_fault_and_a_catalog_late(drill: Drill) -> None:
    """A worker whose engine does not see some calls, and which takes a load seconds after the others."""
    stack = drill.stack
    drill.scrape("a", "b", "c")
    stack.worker("c", "blind", "slow", RATER_WORKER__STUCK_AFTER_S="60")
    drill.ready(3)
    stack.pour(stack.calls(400, POISON.decode()))
    drill.fires("RaterEngineReturned")
    load = {"rate_tables": [{"name": "more", "currency": "USD", "rates": [{"code": "1", "price": "0.02"}]}]}
    stack.load(**load)
    drill.fires("RaterCatalogsDiffer")
    drill.clears("RaterCatalogsDiffer")
    stack.end("c")
    drill.scrape("a", "b")
    drill.clears("RaterEngineReturned")


def _a_worker_is_started_again_and_again(drill: Drill) -> None:
    """It is killed four times. When it stays, the alert is over."""
    for _ in range(4):
        drill.stack.end("b", signal.SIGKILL)
        drill.stack.worker("b")
        time.sleep(1.5)
        drill.is_scraped("b")
        time.sleep(1.5)
    drill.fires("RaterRestarts")
    drill.ready(2)
    drill.clears("RaterRestarts")


def _redis_was_written_to(drill: Drill) -> None:
    """By somebody else, of a client that rests. Stop all workers, delete the keys, start them."""
    stack = drill.stack
    stack.falsify("late")
    drill.fires("RaterAuditDrift")
    stack.feeding.clear()
    stack.end("a")
    stack.end("b")
    stack.forget()
    stack.worker("a")
    stack.worker("b")
    drill.ready(2)
    drill.clears("RaterAuditDrift")


SCENES: tuple[Callable[[Drill], None], ...] = (
    _nothing_is_loaded, _a_switch_falls_silent, _a_worker_hangs_and_redis_restarts, _servers_are_slow,
    _calls_are_wrong, _a_command_is_refused, _packages_wait, _files_run_out, _workers_differ,
    _an_engine_is_at_fault_and_a_catalog_late, _a_worker_is_started_again_and_again, _redis_was_written_to,
)  # fmt: skip
