"""Re-rating, by the API and by the console of the real program: preview, apply, refuse, resume, audit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from admin.conftest import DEADLINE_S, Api, Console, Visitor
from rater import app
from rater.admin.shown import MINUS
from rater.config import Settings, load
from rater.core.commands.records import RerateBeginArgs, RerateEndArgs
from rater.core.instants import DAY_MS, rfc3339

pytestmark = pytest.mark.kafka

FILE = {"Content-Type": "application/octet-stream"}


def window() -> tuple[str, str]:
    """Return yesterday and tomorrow."""
    now_ms = int(time.time()) * 1000
    return rfc3339(now_ms - DAY_MS), rfc3339(now_ms + DAY_MS)


async def made_dearer(console: Console, api: Api, number: int, calls: int = 3) -> None:
    """Let a client have calls, whose price was another since yesterday, as the carrier says now."""
    client = f"r{number}"
    console.calls(client, calls)
    await api.until(f"/transactions?client={client}&type=usage", lambda found: len(found["rows"]) >= calls)
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    path = f"/rate-tables/carrier%2F{number}/import?effective={since}"
    deck = b"code,price\n380,0.15\n"
    _, would = await api.ask("POST", f"{path}&dry_run=true", deck, headers=FILE)
    status, done = await api.ask("POST", f"{path}&seen={would['seen']}", deck, headers=FILE)
    assert status == 200, done
    assert any("keep their amounts" in note for note in would["notes"])


async def ended(api: Api, job: str, state: str) -> Any:
    """Return a job that is where it should be."""
    return await api.until(f"/rerate-jobs/{job}", lambda found: found["job"]["state"] == state)


async def test_calls_are_rated_again_by_hand(console: Console, visitor: Visitor, api: Api) -> None:
    """The form, the difference in money, applying it; then nothing is left to change."""
    await made_dearer(console, api, 6)
    start, stop = window()
    await visitor.get(f"/rerate?client=r6&from={start}&to={stop}")
    assert f'value="{start[:19]}"' in visitor.page
    fields = {"client": "r6", "from": start[:19], "to": stop[:19], "code": "380", "reason": "ticket 6"}
    await visitor.send("/rerate", fields)
    path = visitor.url
    job = path.rpartition("/")[2]
    await ended(api, job, "previewed")
    await visitor.get(path)
    assert "3 calls of 1 client: 3 would change" in visitor.text, visitor.text
    assert f"{MINUS}0.30 USD {MINUS}0.45 USD" in visitor.text
    assert "http-equiv" not in visitor.page
    await visitor.send(f"{path}/apply", {})
    assert visitor.url == path
    await ended(api, job, "done")
    await visitor.get(path)
    assert "What was published" in visitor.text
    await api.until(
        "/rerate-jobs", lambda found: any(row["job"] == job and row["done"] for row in found["rows"])
    )
    await visitor.get("/rerate-jobs")
    assert visitor.page.count(f">{job}</a>") == 2
    _, found = await api.ask("GET", "/clients/r6")
    assert found["client"]["balance"] == "99.55"
    commands = await api.until("/commands?client=r6&system=true", lambda found: found["rows"])
    assert "anna" in {row["actor"] for row in commands["rows"] if row["do"] == "rerate"}


async def test_a_second_job_at_a_client_is_refused(console: Console, visitor: Visitor, api: Api) -> None:
    """It is told which job was first; when that was given up it may begin."""
    await made_dearer(console, api, 7, calls=1)
    settings = load(str(console.folder / "rater.toml"))
    assert isinstance(settings, Settings)
    start, stop = window()
    async with app.rerating(settings, uuid4().hex, lambda _: None, applies=True) as (_, commands):
        assert commands is not None
        await commands.ask("r7", RerateBeginArgs("first-job", 0, 1))
        body = {"clients": ["r7"], "from": start, "to": stop}
        status, refused = await api.ask("POST", "/rerate-jobs", body)
        assert (status, "job first-job rates calls of client r7" in refused["detail"]) == (409, True), refused
        key = uuid4().hex
        status, would = await api.ask("POST", "/rerate-jobs?dry_run=true", body, key=key)
        job = would["job"]["job"]
        await ended(api, job, "previewed")
        await visitor.get(f"/rerate-jobs/{job}")
        await visitor.send(f"/rerate-jobs/{job}/apply", {})
        assert visitor.status == 409
        assert "first-job" in visitor.text
        await commands.ask("r7", RerateEndArgs("first-job", done=False))
    await visitor.send(f"/rerate-jobs/{job}/apply", {})
    assert visitor.status == 200
    await ended(api, job, "done")
    for _ in range(2):  # the same request again is the same job; to apply it again does nothing
        status, again = await api.ask("POST", "/rerate-jobs?dry_run=true", body, key=key)
        assert (status, again["job"]["job"], again["job"]["state"]) == (200, job, "done")
        assert (await api.ask("POST", f"/rerate-jobs/{job}/apply"))[0] == 200
    status, refused = await api.ask("POST", "/rerate-jobs?dry_run=true", {**body, "code": "1"}, key=key)
    assert status == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"clients": ["r8"], "from": "soon", "to": "2026-01-01"}, "from"),
        ({"clients": ["r8"], "from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"clients": ["r8"], "all": True, "from": "2026-01-01", "to": "2026-01-02"}, "clients"),
        ({"from": "2026-01-01", "to": "2026-01-02"}, "clients"),
        ({"clients": ["nobody"], "from": "2026-01-01", "to": "2026-01-02"}, "clients"),
        ({"clients": ["r8"], "from": "2026-01-01", "to": "2026-01-02", "code": "x"}, "code"),
    ],
)
async def test_wrong_windows_name_the_field(api: Api, body: dict[str, Any], field: str) -> None:
    """Nothing is begun."""
    _, before = await api.ask("GET", "/rerate-jobs")
    status, answer = await api.ask("POST", "/rerate-jobs", body)
    assert status in {400, 422}, answer
    assert answer["errors"][0]["field"] == field
    _, after = await api.ask("GET", "/rerate-jobs")
    assert after["asked"] == before["asked"]
    assert (await api.ask("POST", "/rerate-jobs", body, role="view"))[0] == 403
    assert (await api.ask("GET", "/rerate-jobs/..%2F..%2Fetc"))[0] == 404


async def test_a_job_outlives_the_console(console: Console, api: Api) -> None:
    """The console is killed: the job goes on. Killed as well it is resumed, and nothing is done twice."""
    await made_dearer(console, api, 8, calls=5)
    start, stop = window()
    status, begun = await api.ask("POST", "/rerate-jobs", {"clients": ["r8"], "from": start, "to": stop})
    assert status == 200, begun
    job = begun["job"]["job"]
    os.kill(pid_of(console.folder / "jobs" / job / "apply"), signal.SIGKILL)
    status, stopped = await api.ask("GET", f"/rerate-jobs/{job}")
    assert stopped["job"]["state"] in {"stopped", "applying"}
    status, preview = await api.ask(
        "POST", "/rerate-jobs?dry_run=true", {"clients": ["r8"], "from": start, "to": stop}
    )
    assert status == 200, preview
    console.restart_admin()
    async with asyncio.timeout(DEADLINE_S):
        async with type(api.http)(console.url) as http:
            found = await ended(Api(http), job, "done")
            assert found["applied"]["found"]["changed"] == 5
            other = await ended(Api(http), preview["job"]["job"], "previewed")
            assert other["preview"]["found"]["calls"] == 5
            _, client = await Api(http).ask("GET", "/clients/r8")
            assert client["client"]["balance"] == "99.25"
    console.rater("audit")


def pid_of(folder: Path) -> int:
    """Return the process of a run."""
    return int((folder / "pid").read_text())
