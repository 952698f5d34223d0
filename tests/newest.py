"""Run the tests that need no server on the newest other Python of this machine: `make test-newest`.

It gets an environment of its own from requirements.lock, kept in .venv/newest as long as both are the same.
Where no other Python is installed, or the lock cannot be installed for it, that is said, and it is no fault.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv" / "newest"
STAMP = VENV / "made-of"
TESTS = ("tests/core", "tests/golden", "tests/fuzz")
OLDEST = (3, 11)
"""requires-python of pyproject.toml."""
ASK = "import sys; print(*sys.version_info[:3], sys.version_info.releaselevel)"
ANSWER_S = 10


class Python(NamedTuple):
    """An interpreter. version: (3, 13, 0)."""

    version: tuple[int, ...]
    path: str


def others(found: Iterable[Python], ours: tuple[int, ...]) -> list[Python]:
    """Return those that rater supports and that are not ours (major and minor count), the newest first."""
    usable = [python for python in found if python.version[:2] >= OLDEST and python.version[:2] != ours[:2]]
    return sorted(usable, reverse=True)


def candidates() -> Iterator[Path]:
    """Yield what may be an interpreter: on the search path, and where uv and pyenv keep theirs."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [*(data / "uv" / "python").glob("*/bin"), *(pyenv / "versions").glob("*/bin")]
    for folder in folders:
        if folder.is_dir():
            yield from (file for file in folder.iterdir() if re.fullmatch(r"python3\.\d+", file.name))


def asked(path: Path) -> Python | None:
    """Return what an interpreter says of itself; None: it does not run, or is no release."""
    try:
        done = subprocess.run(  # noqa: S603
            [str(path), "-c", ASK], capture_output=True, text=True, timeout=ANSWER_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    *version, level = done.stdout.split()
    return Python(tuple(map(int, version)), str(path)) if level == "final" else None


def made(python: Python) -> bool:
    """Make the environment, unless it is there; return whether it could be."""
    content = f"{python.path} {python.version} {hashlib.sha256(LOCK.read_bytes()).hexdigest()}"
    if STAMP.is_file() and STAMP.read_text("utf-8") == content:
        return True
    # Without bytecode: most of it would be of modules that no test imports.
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--retries",
        "1",
    ]
    for command in (
        [python.path, "-m", "venv", "--clear", str(VENV)],
        [str(VENV / "bin" / "python"), *install, "--no-deps", "--require-hashes", "-r", str(LOCK)],
    ):
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603
            return False
    STAMP.write_text(content, "utf-8")
    return True


def main() -> int:
    """Run the tests on the first other Python that they can be run on; returns pytest's exit code."""
    found = others(filter(None, map(asked, candidates())), sys.version_info[:3])
    for python in found:
        name = f"Python {'.'.join(map(str, python.version))} ({python.path})"
        if not made(python):
            say(f"requirements.lock cannot be installed for {name}: no test was run there")
            continue
        say(f"the pure tests on {name}")
        command = [str(VENV / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([*command, *TESTS], cwd=ROOT, env=environ, check=False)  # noqa: S603
        return done.returncode
    if not found:
        say("no other Python is installed here, so the pure tests run on that of .venv alone")
    return 0


def say(text: str) -> None:
    """Tell what is going on, before what the next process tells."""
    sys.stdout.write(f"newest Python: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
