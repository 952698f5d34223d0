"""`rater rerate`: what is asked for, what is told, and what is refused before anything is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.rerating.client import Window
from rater.core.rerating.difference import Row
from rater.jobs import rerate, rerate_clients
from rater.jobs.rerate import ClientRow, Summary
from rater.jobs.rerate_reading import Selection

DAYS = ["--from", "2026-10-01", "--to", "2026-10-02"]


@pytest.fixture
def jobs(app: Put, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put a job in place that has found one client; returns those that were begun: selection, id, applied."""
    begun: list[Any] = []

    @asynccontextmanager
    async def rerating(
        _: Settings, run: str, say: Callable[[str], None], *, applies: bool
    ) -> AsyncIterator[tuple[Any, Any]]:
        del run, say
        yield "sources", "commands" if applies else None

    class Found:
        def __init__(self, sources: Any, selection: Selection, job: str) -> None:
            assert sources == "sources"
            self.selection, self.summary = selection, Summary(job, applied=False)

        async def run(self, passed: Callable[[int, int], None], commands: Any) -> None:
            passed(1, 1)
            self.summary.applied = commands is not None
            self.summary.clients, self.summary.calls, self.summary.changed = 1, 2, 1
            begun.append((self.selection, self.summary.job, commands))

        def clients(self) -> list[ClientRow]:
            month = Window(1_790_812_800_000, 1_793_491_200_000)
            return [ClientRow("42", 2, 1, 150, 150, -290_000, -170_000, "USD", month)]

        def rows(self) -> list[Row]:
            return [Row("default/b1/orig", 2, -90_000, None)]

        def close(self) -> None:
            begun.append("closed")

    async def unknown(sources: Any, clients: Collection[str] | None) -> list[str]:
        assert sources == "sources"
        return sorted({"nobody", "none"} & set(clients or ()))

    app(rerating=rerating, spare_collector=lambda: None)
    monkeypatch.setattr(rerate, "Job", Found)
    monkeypatch.setattr(rerate_clients, "unknown", unknown)
    return begun


def test_a_preview(jobs: list[Any], capsys: Capture) -> None:
    """The lines are data: clients, then transactions, then the sum of it."""
    assert main(["rerate", "--client", "42", "--client", "43", *DAYS, "--code", "380", "--json"]) == 0
    (selection, job, commands), closed = jobs
    window = Window(1_790_812_800_000, 1_790_899_200_000)
    assert (selection, commands, closed) == (
        Selection(frozenset({"42", "43"}), window, "380"),
        None,
        "closed",
    )
    assert len(job) == 12
    told = capsys.readouterr()
    assert [json.loads(line) for line in told.out.splitlines()] == [
        {
            "client": "42", "calls": 2, "changed": 1, "volume_before": 150, "volume_after": 150,
            "amount_before": "-0.29", "amount_after": "-0.17", "currency": "USD",
            "wider": {"from": "2026-10-01T00:00:00.000Z", "to": "2026-11-01T00:00:00.000Z"},
        },
        {"transaction": "default/b1/orig", "revision": 2, "amount_before": "-0.09", "amount_after": None},
        {"job": job, "clients": 1, "calls": 2, "changed": 1, "applied": False},
    ]  # fmt: skip
    assert "1 would change; --apply publishes that" in told.err


def test_an_apply_for_people(jobs: list[Any], capsys: Capture) -> None:
    """The job's id is told first: who kills it can resume it."""
    assert main(["rerate", "--all", *DAYS, "--apply", "--job", "november"]) == 0
    assert jobs[0][1:] == ("november", "commands")
    assert jobs[0][0].clients is None
    told = capsys.readouterr()
    assert told.err.splitlines()[0] == "job november; resume it by --job november"
    assert "2026-10-01 00:00:00 to 2026-11-01 00:00:00" in told.out
    assert "default/b1/orig" in told.out


def test_what_could_not_be_done_is_told(
    jobs: list[Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that another job holds, calls that came in meanwhile, records that are gone: exit code 1."""
    run = rerate.Job.run

    async def left(self: Any, passed: Any, commands: Any) -> None:
        await run(self, passed, commands)
        self.summary.left = ["client '42': job 'first' rates its calls again"]
        self.summary.again, self.summary.left_out, self.summary.rejected_from_ms = 3, 1, 1_790_900_000_000
        self.summary.unsure, self.summary.journal_from_ms = 2, 1_790_900_000_000

    monkeypatch.setattr(rerate.Job, "run", left)
    assert main(["rerate", "--all", *DAYS, "--apply"]) == 1
    told = capsys.readouterr().err
    for sentence in (
        "clients were worked out anew 3 times",
        "1 rejected records are too large",
        "rejected records from before 2026-10-02T00:13:20.000Z are gone",
        "the journal begins at 2026-10-02T00:13:20.000Z: what was published before is gone",
        "2 rejected records are of calls of before: they may have been rated then",
        "client '42': job 'first' rates its calls again",
    ):
        assert sentence in told
    assert jobs[-1] == "closed"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*DAYS], "give --client ID, once or several times, or --all"),
        (["--all", "--client", "42", *DAYS], "give --client ID, once or several times, or --all"),
        (
            ["--all", "--from", "2026-10-02", "--to", "2026-10-02"],
            "the later one second",
        ),
        (["--all", "--from", "2026-10-02"], "give --from and --to"),
        (["--all", "--from", "soon", "--to", "2026-10-02"], "'soon' is no time"),
        (["--all", *DAYS, "--code", "38*"], "--code '38*': write the digits that codes begin with"),
        (["--all", *DAYS, "--job", ""], "--job '': write 1 to 64 characters that can be seen"),
        (["--all", "--give-up"], "--give-up needs --job ID: which job to end"),
    ],
)
def test_wrong_input(arguments: list[str], sentence: str, jobs: list[Any], capsys: Capture) -> None:
    """A sentence, exit code 2, and nothing is read."""
    assert main(["rerate", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert jobs == []


@pytest.mark.parametrize("more", [DAYS, ["--job", "first", "--give-up"]])
def test_clients_that_there_are_not(more: list[str], jobs: list[Any], capsys: Capture) -> None:
    """Each is named, exit code 2, and nothing is begun."""
    assert main(["rerate", "--client", "none", "--client", "42", "--client", "nobody", *more]) == 2
    told = capsys.readouterr().err
    for name in ("nobody", "none"):
        assert f"--client '{name}': there is no such client; `rater clients list` shows those" in told
    assert "'42'" not in told
    assert jobs == []


@pytest.mark.parametrize("left", [[], ["client '43': job 'first' has ended there"]])
def test_a_job_is_given_up(
    left: list[str], jobs: list[Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the clients that are named; no window is needed. Where it is refused that is told: exit code 1."""

    async def give_up(sources: Any, clients: Any, job: str, commands: Any) -> tuple[list[str], list[str]]:
        assert (sources, clients, job, commands) == ("sources", frozenset({"42"}), "first", "commands")
        return ["42"], left

    monkeypatch.setattr(rerate_clients, "give_up", give_up)
    assert main(["rerate", "--client", "42", "--job", "first", "--give-up"]) == (1 if left else 0)
    told = capsys.readouterr().err
    assert "job first is given up at 1 clients; what it has published stays" in told
    assert all(sentence in told for sentence in left)
    assert jobs == []
