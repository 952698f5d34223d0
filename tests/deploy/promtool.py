"""Prometheus and its promtool: what is installed, else what Debian's package has, unpacked below .venv.

RATER_PROMTOOL and RATER_PROMETHEUS name other ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

KEPT = Path(__file__).parents[2] / ".venv" / "prometheus"
PROGRAMS = ("promtool", "prometheus")
LACKING = (
    "there is no {program}, and no Debian package of it could be had ({why}): install Prometheus, "
    "or name its {program} in RATER_{PROGRAM}"
)


def promtool() -> str:
    """Return the path of a promtool; RuntimeError with the remedy where there is none."""
    return found("promtool")


def found(program: str) -> str:
    """Return the path of one of `PROGRAMS`; RuntimeError with the remedy where there is none."""
    named = os.environ.get(f"RATER_{program.upper()}") or shutil.which(program)
    if named:
        return named
    kept = KEPT / program
    if not kept.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            unpacked = _unpacked(Path(folder), program)
            for one in PROGRAMS:  # two processes may do it at once: the last one's count
                (unpacked / one).replace(KEPT / one)
    return str(kept)


def _unpacked(folder: Path, program: str) -> Path:
    """Fetch Debian's package into a folder, install nothing; where apt has no lists, they are got for it."""
    (folder / "lists").mkdir()
    own = ["-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"]
    attempts = (
        [["apt-get", "download", "prometheus"]],
        [["apt-get", *own, "update"], ["apt-get", *own, "download", "prometheus"]],
    )
    why = ""
    for commands in attempts:
        try:
            for command in commands:
                subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
            (package,) = folder.glob("prometheus_*.deb")
            subprocess.run(["dpkg", "-x", package, folder], capture_output=True, text=True, check=True)  # noqa: S603, S607
            return folder / "usr" / "bin"
        except subprocess.CalledProcessError as error:
            why = (error.stderr.splitlines() or [str(error)])[-1]
        except (OSError, ValueError) as error:
            why = str(error)
    raise RuntimeError(LACKING.format(program=program, PROGRAM=program.upper(), why=why))


def run(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool; returns its exit code and all that it printed."""
    command = [promtool(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr
