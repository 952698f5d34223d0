"""Re-rating jobs that were asked for here: each run is a process, and is found again after a restart."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from rater.admin.problems import Problem, wrong
from rater.admin.rerate_files import JOB, Asked, Folder, Run
from rater.config import Settings
from rater.core.instants import rfc3339
from rater.queries.clients import states_of
from rater.queries.connections import Connections
from rater.readmodel import asked as asking
from rater.readmodel.asked import Page
from rater.readmodel.asking import ReadModel

log = structlog.get_logger()

RUNNING_MAX = 2
"""Runs at once: each reads the whole journal."""
JOBS_MAX = 100
"""Jobs that are kept; of more the oldest that have ended go."""
CLIENTS_MAX = 1000
STOP_S = 5.0


class Rerates:
    """The jobs of a folder, and the processes of their runs."""

    def __init__(self, settings: Settings, at: Connections, model: ReadModel) -> None:
        """Name the folder; nothing is begun."""
        self._settings, self._at, self._model = settings, at, model
        self.path = Path(settings.admin.jobs_folder)
        self._waiting = set[asyncio.Task[None]]()
        self._turn = asyncio.Lock()

    # ------------------------------------------------------------------------------------------- looking
    def jobs(self) -> list[tuple[Asked, Folder]]:
        """Return the jobs, the newest first."""
        names = [one.name for one in self.path.iterdir()] if self.path.is_dir() else []
        found = [Folder(self.path, name) for name in names if JOB.fullmatch(name)]
        known = [(asked, folder) for folder in found if (asked := folder.asked()) is not None]
        return sorted(known, key=lambda one: (-one[0].at_ms, one[0].job))

    def job(self, job: str) -> tuple[Asked, Folder]:
        """Return a job. Raises Problem where it is not one that was asked for here."""
        asked = Folder(self.path, job).asked() if JOB.fullmatch(job) else None
        if asked is None:
            raise Problem(404, f"there is no job {job[:80]} that was asked for here")
        return asked, Folder(self.path, job)

    # ------------------------------------------------------------------------------------------ beginning
    async def ask(self, asked: Asked, *, applies: bool) -> Folder:
        """Begin a job: its preview, or (applies) publishing at once. The same again is the same job.

        Raises Problem where clients are not there, the id is that of another job, or it cannot begin now.
        """
        async with self._turn:
            folder = Folder(self.path, asked.job)
            known = folder.asked()
            if known is not None:
                if msgspec.structs.replace(known, at_ms=asked.at_ms) != asked:
                    raise Problem(409, f"job {asked.job} was asked for with something else; give another key")
                return folder
            await self._check_clients(asked)
            run: Run = "apply" if applies else "preview"
            await self._check_begins(asked, run)
            self._make_room()
            folder.begin(asked)
            await self._begin(folder, run)
            return folder

    async def go_on(self, job: str, run: Run, *, dry_run: bool = False) -> Folder:
        """Begin the next run of a job, or one that was stopped once more; where it goes on nothing is done.

        dry_run: only look whether that can be. Raises Problem where it cannot.
        """
        async with self._turn:
            asked, folder = self.job(job)
            if _is_done(folder, run):
                return folder
            if run != "give_up":
                await self._check_begins(asked, run)
            if not dry_run:
                if run == "give_up":
                    await self._stop([folder])
                await self._begin(folder, run)
            return folder

    async def resume(self) -> None:
        """Go on with what was being published when this program, or its machine, ended."""
        for asked, folder in self.jobs():
            if folder.state() == "stopped" and (folder.run("apply").is_there()):
                run: Run = "give_up" if folder.run("give_up").is_there() else "apply"
                log.info("a re-rating job is resumed", job=asked.job)
                await self._begin(folder, run)

    async def close(self) -> None:
        """Stop the runs; `resume` goes on with them."""
        await self._stop([folder for _, folder in self.jobs()])
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _begin(self, folder: Folder, run: Run) -> None:
        of = folder.run(run)
        shutil.rmtree(of.path, ignore_errors=True)
        of.path.mkdir(parents=True)
        lock = os.open(of.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the process has it as long as it lives
            with (of.path / "log").open("wb") as told:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "rater.admin.rerate_run", run, str(folder.path.absolute()),
                    stdin=asyncio.subprocess.PIPE, stdout=told, stderr=told, pass_fds=(lock,),
                    start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(lock)
        (of.path / "pid").write_text(f"{process.pid}\n", "utf-8")
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(msgspec.json.encode(self._settings))
            await process.stdin.drain()
        process.stdin.close()
        task = asyncio.create_task(_ended(process, folder.path.name))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _stop(self, folders: list[Folder]) -> None:
        runs = [of for folder in folders if (of := folder.last()).is_running()]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for of in runs:
                if (pid := of.pid()) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            for _ in range(int(STOP_S / 0.05)):
                if not any(of.is_running() for of in runs):
                    return
                await asyncio.sleep(0.05)

    def _make_room(self) -> None:
        for _, folder in self.jobs()[JOBS_MAX - 1 :]:
            if folder.state() not in {"previewing", "applying", "giving up", "stopped"}:
                shutil.rmtree(folder.path, ignore_errors=True)

    # -------------------------------------------------------------------------------------------- refusing
    async def _check_clients(self, asked: Asked) -> None:
        names = asked.clients or ()
        if asked.clients is not None and not 1 <= len(names) <= CLIENTS_MAX:
            raise wrong("clients", f"give 1 to {CLIENTS_MAX} clients, or all")
        found = await states_of(self._at.store, set(names))
        missing = [name for name in names if name not in found]
        if missing:
            raise wrong("clients", f"there is no client {', '.join(missing[:10])}")

    async def _check_begins(self, asked: Asked, run: Run) -> None:
        running = [(other, state) for other, folder in self.jobs() if (state := folder.state()) in _GO_ON]
        if run == "apply":
            for other, state in running:
                if state != "previewing" and other.job != asked.job and other.shares(asked):
                    raise _taken(other.job, other.at_ms)
            await self._check_registers(asked)
        if len(running) >= RUNNING_MAX:
            names = ", ".join(other.job for other, _ in running)
            raise Problem(409, f"{len(running)} jobs are under way ({names}); wait until one has ended")

    async def _check_registers(self, asked: Asked) -> None:
        """Refuse what the lanes would refuse, before it begins: another job is at a client of this one."""
        if asked.clients is None:
            found = await self._model.jobs(asking.Jobs(open=True), Page(rows=100))
            for one in found.rows:
                if one.job != asked.job:
                    raise _taken(one.job, one.started_ms)
            return
        for state in (await states_of(self._at.store, set(asked.clients))).values():
            now = state.rerating
            if now is not None and now.job != asked.job:
                raise _taken(now.job, now.since_ms, state.id)


def _is_done(folder: Folder, run: Run) -> bool:
    """Return whether a run need not be begun. Raises Problem where it cannot be."""
    state, job = folder.state(), folder.path.name
    applied, given_up = folder.run("apply").is_there(), folder.run("give_up").is_there()
    match run:
        case "apply" if given_up:
            raise Problem(409, f"job {job} was given up; ask for another one")
        case "give_up" if not applied:
            raise Problem(409, f"job {job} has changed nothing, so there is nothing to give up")
        case "preview":
            return applied or state in {"previewing", "previewed"}
        case "apply":
            return state in {"applying", "done"}
    return state in {"done", "giving up", "given up"}


_GO_ON = frozenset({"previewing", "applying", "giving up"})


def _taken(job: str, since_ms: int, client: str | None = None) -> Problem:
    of = f"calls of client {client}" if client is not None else "calls of the same clients"
    return Problem(
        409,
        f"job {job} rates {of} again since {rfc3339(since_ms)}: wait until it is done, resume it, or give it "
        "up; nothing was begun",
    )


async def _ended(process: Any, job: str) -> None:
    code = await process.wait()
    log.info("a run of a re-rating job has ended", job=job, exit_code=code)
