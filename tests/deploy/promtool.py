"""Prometheus' promtool: the one that is installed, else that of Debian's package, unpacked below .venv.

RATER_PROMTOOL names another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

KEPT = Path(__file__).parents[2] / ".venv" / "promtool"
LACKING = (
    "there is no promtool, and no Debian package of it could be had ({why}): install Prometheus, "
    "or name its promtool in RATER_PROMTOOL"
)


def promtool() -> str:
    """Return the path of a promtool; RuntimeError with the remedy where there is none."""
    named = os.environ.get("RATER_PROMTOOL") or shutil.which("promtool")
    if named:
        return named
    if not KEPT.is_file():
        KEPT.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT.parent) as folder:
            # Two processes may do it at once: the last one's counts.
            _unpacked(Path(folder)).replace(KEPT)
    return str(KEPT)


def _unpacked(folder: Path) -> Path:
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
            return folder / "usr" / "bin" / "promtool"
        except subprocess.CalledProcessError as error:
            why = (error.stderr.splitlines() or [str(error)])[-1]
        except (OSError, ValueError) as error:
            why = str(error)
    raise RuntimeError(LACKING.format(why=why))


def run(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool; returns its exit code and all that it printed."""
    command = [promtool(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr
