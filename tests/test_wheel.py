"""Who installs the built wheel and nothing else has all that README.md shows, but `make`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
CDR = {
    "id": "a1b2", "called": "380441234567", "answered_at": "2026-11-26T10:00:00Z", "duration_ms": 65039,
    "orig": {"account": "sip-1001"}, "term": {"gateway": "gw-kiev"},
}  # fmt: skip
"""The one that README.md shows."""
DEADLINE_S = 60.0

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """Return ours, but for what would lead Python to the checkout or `rater` to other settings."""
    ours = os.environ.items()
    return {name: value for name, value in ours if not name.startswith(("RATER_", "PYTHON", "COVERAGE_"))}


@pytest.fixture(scope="module")
def rater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `rater` of an environment with the built wheel; its dependencies are those that the tests have."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, env=environment(), check=True, capture_output=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)  # noqa: S603
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], env=environment(), check=True, capture_output=True)  # noqa: S603
    (site,) = (venv / "lib").glob("python*/site-packages")
    # A path in a .pth comes last, and the .pth files in it are not read: so the checkout is not found by it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return venv / "bin" / "rater"


@pytest.fixture
def run(rater: Path, tmp_path: Path) -> Run:
    """Run the installed `rater` in an empty folder, and return what it says; it must end with code 0."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: S603
            [str(rater), *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("command", "file"),
    [("example", "example.yaml"), ("settings", "rater.toml"), ("acl", "redis-worker.acl")],
)
def test_the_files_to_begin_with_are_printed(command: str, file: str, run: Run) -> None:
    """`rater config …` prints the file of config/, as it is."""
    assert run("config", command).stdout == (CONFIG / file).read_text("utf-8")


def test_the_source_maps_are_there(run: Run) -> None:
    """`rater sources list` names the maps of config/sources, and `show` prints each."""
    maps = {file.stem: file.read_text("utf-8") for file in (CONFIG / "sources").glob("*.toml")}
    listed = [json.loads(line)["map"] for line in run("sources", "list", "--json").stdout.splitlines()]
    assert sorted(name for name in listed if name is not None) == sorted(maps)
    assert run("sources", "show", "asterisk").stdout == maps["asterisk"]


def test_the_native_engine_is_in_it_or_that_is_told(rater: Path, tmp_path: Path) -> None:
    """Where the engine of this checkout could be built, the wheel has one; else importing it says why not."""
    (native,) = rater.parents[1].glob("lib/python*/site-packages/rater/native")
    done = subprocess.run(  # noqa: S603
        [str(rater.with_name("python")), "-c", "import rater.native.engine; print(rater.native.__file__)"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if (ROOT / "src" / "rater" / "native" / "engine.abi3.so").exists():
        assert done.stdout.strip() == str(native / "__init__.py"), done.stderr
    else:
        assert "ImportError: there is no native engine here, so Python rates" in done.stderr
    assert not list(native.glob("Cargo.*"))


@contextmanager
def working(rater: Path, folder: Path) -> Iterator[None]:
    """Run the installed worker meanwhile; it is drained at the end."""
    with (folder / "worker.log").open("wb") as log:
        command = [str(rater), "--config", "my.toml", "worker"]
        process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=log)  # noqa: S603
    try:
        yield
    finally:
        process.terminate()
        code = process.wait(DEADLINE_S)
    assert code == 0, (folder / "worker.log").read_text()


@pytest.mark.kafka
def test_the_printed_files_rate_a_call(
    rater: Path, run: Run, tmp_path: Path, kafka: str, redis_url: str, prefix: str
) -> None:
    """With the printed settings and catalog alone a new user loads, sends the CDR and sees it rated."""
    settings = run("config", "settings").stdout
    for before, after in (
        ('bootstrap_servers = "localhost:9092"', f'bootstrap_servers = "{kafka}"'),
        ('group_id = "rater"', f'group_id = "{prefix}"'),
        ('url = "redis://localhost:6379/0"', f'url = "{redis_url}"'),
        ('prefix = "rater"', f'prefix = "{prefix}"'),
        ('prefix = "rater."', f'prefix = "{prefix}."'),
        ("replication_factor = 3", "replication_factor = 1"),
        ("port = 9464", "port = 0"),
    ):
        assert settings.count(f"\n{before}\n") == 1, before
        settings = settings.replace(f"\n{before}\n", f"\n{after}\n")
    (tmp_path / "my.toml").write_text(settings, "utf-8")
    (tmp_path / "catalog.yaml").write_text(run("config", "example").stdout, "utf-8")
    (tmp_path / "cdrs.jsonl").write_text(json.dumps(CDR) + "\n", "utf-8")

    def told(*arguments: str) -> str:
        return run("--config", "my.toml", *arguments).stdout

    told("topics", "create")
    # All is right; what a lost Redis is rebuilt from yet is told, and what this Kafka and Redis are set to.
    told_of = told("check", "--catalog", "catalog.yaml").splitlines()
    assert sum("no round has ended yet" in line for line in told_of) == 1
    assert all(": warning: " in line for line in told_of), told_of
    with working(rater, tmp_path):
        told("load", "catalog.yaml")
        told("ingest", "cdrs.jsonl", "--source", "default")
        until = time.monotonic() + DEADLINE_S
        while str(CDR["id"]) not in told("transactions", "--json"):
            assert time.monotonic() < until, (tmp_path / "worker.log").read_text()
    usages = [json.loads(line) for line in told("transactions", "--json").splitlines()]
    assert {one["id"].split("/")[1] for one in usages if one["type"] == "usage"} == {CDR["id"]}
