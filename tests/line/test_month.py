"""The month of one client that README.md works out: its commands are run, and print what it says.

The clock of commands stands at what the README's comments say, the worker's begins there; so instants are
those of the README. Of what is printed only the topics' prefix is replaced, by that of the settings' default.
`cat` of a file makes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rater import app
from rater.core.commands.records import TickArgs, write_command
from rater.core.kinds import Do
from rater.jobs.audit import audit

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
README = Path(__file__).parents[2] / "README.md"
HEADING = "### A month of one client"
CLOCKED = """
import os, sys, time
start, speed = map(float, os.environ["CLOCK"].split())
real, began = time.time, time.time()
time.time = lambda: start + (real() - began) * speed
time.time_ns = lambda: int(time.time() * 1e9)
from rater.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Runs `rater` with a clock that begins at the moment in CLOCK, and goes at the speed that follows there."""


class Step(NamedTuple):
    """A command of the README. at: what its clock shows, as the comment above it says; None: as before."""

    at: datetime | None
    command: str
    printed: str


def steps(text: str) -> Iterator[Step]:
    """Yield the commands of the README's month, in order."""
    month = text.partition(f"{HEADING}\n")[2].partition("\n### ")[0]
    for block in re.findall(r"^```\n(.*?)^```$", month, re.MULTILINE | re.DOTALL):
        at: datetime | None = None
        for part in re.split(r"^(?=\$ |# )", block, flags=re.MULTILINE):
            first, _, rest = part.partition("\n")
            if first.startswith("# "):
                at = datetime.strptime(first[2:], "%d %B %Y, %H:%M UTC").replace(tzinfo=UTC)
            elif first.startswith("$ "):
                yield Step(at, first[2:], rest.rstrip("\n"))
                at = None


class Machine:
    """The reader's machine: its clock, its folder, and a worker that runs."""

    def __init__(self, system: Any, folder: Path) -> None:
        self.system, self.folder = system, folder
        self._at = datetime.now(UTC)
        self._worker: Process | None = None
        self._waited = 0

    def _environ(self, speed: int) -> dict[str, str]:
        # The records' times come from Python's clock then, not from the C library's.
        more = {"CLOCK": f"{self._at.timestamp()} {speed}", "AIOKAFKA_NO_EXTENSIONS": "1"}
        return {**os.environ, **self.system.environ, **more}

    async def set_clock(self, at: datetime) -> None:
        """Let it be this moment now, and all be done that is due by it."""
        await self.stop()
        self._at = at
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLOCKED, "worker", env=self._environ(speed=1), stdout=log, stderr=log
            )
        await self._all_due()

    async def _all_due(self) -> None:
        """Ask each lane to do what is due, and wait for its answer; before a load it refuses."""
        system, at_ms = self.system, int(self._at.timestamp()) * 1000
        self._waited += 1
        names = {f"due-{self._waited}-{lane}" for lane in range(system.topics.partitions)}
        for lane, name in enumerate(sorted(names)):
            tick = write_command(name, Do.TICK, at_ms, TickArgs())
            await system.send([(tick, at_ms)], topic=system.topics.commands, partition=lane)

        async def answered() -> bool:
            found = [json.loads(record.value) for record in await system.read(system.topics.events)]
            return names <= {event["cause"] for event in found if event["type"].startswith("command_")}

        await system.until(answered)

    async def all_rated(self, calls: int) -> None:
        """Wait until so many calls are rated in all."""

        async def rated() -> bool:
            found = [one for one in await self.system.transactions() if one["type"] == "usage"]
            return len(found) >= calls

        await self.system.until(rated)

    async def stop(self) -> None:
        """Let the worker finish what it has begun."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.terminate()
            assert await worker.wait() == 0

    async def run(self, command: str) -> tuple[str, int]:
        """Run `rater …` as a reader would; returns all that it printed, and its exit code."""
        program, *arguments = shlex.split(command)
        assert program == "rater", command
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLOCKED, *arguments,
            cwd=self.folder, env=self._environ(speed=0), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
        text = printed.decode().replace(self.system.topics.prefix, "rater.")
        return "\n".join(map(str.rstrip, text.splitlines())), process.returncode or 0


async def played(found: list[Step], machine: Machine) -> None:
    """Run the steps one by one, and compare what each prints."""
    calls = 0
    for step in found:
        if step.at is not None:
            await machine.set_clock(step.at)
        if step.command.startswith("cat "):
            (machine.folder / step.command[4:]).write_text(step.printed + "\n", "utf-8")
            continue
        printed, code = await machine.run(step.command)
        assert (step.command, printed) == (step.command, step.printed)
        assert code == 0, step.command
        if step.command.startswith("rater ingest "):
            calls += len((machine.folder / shlex.split(step.command)[2]).read_text("utf-8").splitlines())
            await machine.all_rated(calls)


async def test_the_month_of_the_readme(system_of: SystemOf, tmp_path: Path) -> None:
    """Every command prints what the README says that it does, and the audit finds nothing in the end."""
    found = list(steps(README.read_text("utf-8")))
    assert len(found) > 10
    assert found[0].at is not None
    system = await system_of(partitions=4)  # as the default is
    machine = Machine(system, tmp_path)
    try:
        await played(found, machine)
    finally:
        await machine.stop()
    store = await app.connect_store(system.settings)
    try:
        assert list((await audit(system.client, system.topics, store)).findings) == []
    finally:
        await store.close()
