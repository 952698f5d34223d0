"""The process of one run of a re-rating job: `rater.admin.rerate_run RUN FOLDER`, settings on stdin.

It is one of its own so that the console answers meanwhile, and outlives a console that is killed: what it
finds lies in its folder. Killed itself, it is resumed by running it again (decision 0156).
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec

from rater import app, logs
from rater.admin.rerate_files import ROWS_KEPT, Asked, Folder, Found, Progress, Run, RunFolder, Sum, write
from rater.config import Settings
from rater.core.amounts import format_micros
from rater.core.rerating.client import Window
from rater.errors import Fenced, Halt, NoCatalog, Wait
from rater.jobs.rerate import ClientRow, Job
from rater.jobs.rerate_clients import give_up, unknown
from rater.jobs.rerate_reading import Selection
from rater.jobs.rerate_telling import client_row, notes, transaction_row
from rater.pseudonyms import Pseudonyms

NICE = 10
"""Workers on this machine go first."""
TOLD_EVERY_S = 0.5


async def run_job(settings: Settings, asked: Asked, of: RunFolder, run: Run) -> Found:
    """Do a run; returns what it found. Raises Halt, Wait, Fenced, NoCatalog with a sentence."""
    run_id = f"{asked.job}/{uuid.uuid4().hex[:12]}"
    applies = run != "preview"
    clients = None if asked.clients is None else frozenset(asked.clients)
    connected = app.rerating(settings, run_id, _said, applies=applies, actor=asked.by)
    async with connected as (sources, commands):
        if run == "give_up":
            assert commands is not None  # noqa: S101 - it applies
            ended, left = await give_up(sources, clients, asked.job, commands)
            return Found(clients=len(ended), left=left)
        missing = await unknown(sources, clients)
        if missing:
            raise Halt("; ".join(f"there is no client {name!r}" for name in missing))
        app.spare_collector()
        window = Window(asked.from_ms, asked.to_ms)
        job = Job(sources, Selection(clients, window, asked.code), asked.job)
        told = _Telling(job, of)
        telling = asyncio.create_task(told.go_on())
        try:
            await job.run(told.passed, commands)
            return await asyncio.to_thread(_write_found, job, of, window)
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            job.close()


class _Telling:
    """Tells how far a job is."""

    def __init__(self, job: Job, of: RunFolder) -> None:
        self._job, self._of, self._read, self._total = job, of, 0, 0

    def passed(self, read: int, total: int) -> None:
        """Note what was read of the journal."""
        self._read, self._total = read, total

    async def go_on(self) -> None:
        """Write it now and then."""
        while True:
            summary = self._job.summary
            now = Progress(
                read=self._read, of=self._total, clients=summary.clients, changed=summary.changed
            )  # fmt: skip
            write(self._of.path / "progress.json", now)
            await asyncio.sleep(TOLD_EVERY_S)


def _write_found(job: Job, of: RunFolder, window: Window) -> Found:
    sums: dict[str, list[int]] = {}
    with (of.path / "clients.jsonl").open("wb") as file:
        for count, row in enumerate(job.clients()):
            _add(sums.setdefault(row.currency, [0] * 7), row)
            if count < ROWS_KEPT:
                file.write(msgspec.json.encode(client_row(row)) + b"\n")
    with (of.path / "transactions.jsonl").open("wb") as file:
        _write_rows(file, map(transaction_row, islice(job.rows(), ROWS_KEPT)))
    summary = job.summary
    return Found(
        clients=summary.clients, calls=summary.calls, changed=summary.changed,
        sums=[_sum(currency, numbers) for currency, numbers in sorted(sums.items())],
        notes=notes(summary, window), left=summary.left[:ROWS_KEPT],
    )  # fmt: skip


def _write_rows(file: Any, rows: Iterable[dict[str, Any]]) -> None:
    file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _add(numbers: list[int], row: ClientRow) -> None:
    of_row = (
        1, row.calls, row.changed, row.volume_before, row.volume_after, row.amount_before, row.amount_after,
    )  # fmt: skip
    numbers[:] = [before + more for before, more in zip(numbers, of_row, strict=True)]


def _sum(currency: str, numbers: list[int]) -> Sum:
    clients, calls, changed, volume_before, volume_after, before, after = numbers
    return Sum(
        currency=currency, clients=clients, calls=calls, changed=changed, volume_before=volume_before,
        volume_after=volume_after, amount_before=format_micros(before), amount_after=format_micros(after),
    )  # fmt: skip


def main() -> None:
    """Do the run that the arguments name, and write what came of it."""
    run, folder = cast("Run", sys.argv[1]), Path(sys.argv[2])
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    numbers = Pseudonyms(settings.logs.number_key) if settings.logs.numbers == "hidden" else None
    logs.set_up("warning", settings.logs.format, numbers=numbers)
    os.nice(NICE)
    job = Folder(folder.parent, folder.name)
    asked, of = job.asked(), job.run(run)
    if asked is None:
        raise SystemExit(f"{folder}: there is no asked.json; ask for the job again")
    try:
        found = asyncio.run(run_job(settings, asked, of, run))
    except (Halt, Wait, Fenced, NoCatalog) as error:
        found = Found(failed=str(error))
    write(of.path / "found.json", found)


def _said(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
