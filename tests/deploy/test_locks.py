"""What is installed is locked: each package in one version, with hashes, from wherever."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(
    [ROOT / "requirements.lock", *(ROOT / "deploy").rglob("*.lock"), *(ROOT / "tests").rglob("*.lock")]
)
WHOLE = "requirements.lock"


def pins(lock: Path) -> dict[str, list[str]]:
    """Return the requirements of a lock, each with its hashes."""
    text = lock.read_text("utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return {line.split(" ")[0]: re.findall(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.relative_to(ROOT).as_posix())
def test_each_package_has_one_version_and_hashes(lock: Path) -> None:
    """And no address of an index: pip takes what has the hash, from the index that it is set to."""
    found = pins(lock)
    assert found
    assert all(re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9._+-]+", name) for name in found)
    assert all(found.values())
    assert not re.search(r"index-url|https?://", lock.read_text("utf-8"))


def test_production_is_a_part_of_what_is_tested() -> None:
    """The image installs the versions that the tests ran with."""
    assert pins(ROOT / "deploy" / "docker" / WHOLE).keys() <= pins(ROOT / WHOLE).keys()
    docker = (ROOT / "deploy" / "docker" / "Dockerfile").read_text("utf-8")
    installs = [line for line in docker.splitlines() if "pip install" in line and ".lock" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
