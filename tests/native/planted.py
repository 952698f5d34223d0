"""Faults that are planted in a copy of the native engine, one at a time: each has to be seen.

    PYTHONPATH=src:tests python -m native.planted [--only NAME] [--since NAME] [--sides 200000]

Builds each without optimisation: some seconds for each. Then `native.worlds` looks until the engines
differ, at so many sides at most.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import engines
from native.planted_faults import PLANTED, Fault

BUILDING = engines.building()
CRATE: Path = BUILDING.CRATE
TESTS = Path(__file__).parents[1]
QUICKLY = {"CARGO_PROFILE_PLANTED_OPT_LEVEL": "0", "CARGO_PROFILE_PLANTED_CODEGEN_UNITS": "256"}
"""What a fault does not touch is not compiled again: some seconds for a fault in place of a minute."""


class Looked(NamedTuple):
    """What became of a planted fault: by what it was seen, empty: it was not."""

    seen_by: str
    seconds: float


def planted(fault: Fault, crate: Path) -> None:
    """Put a fault into a copy of the crate."""
    path = crate / "src" / fault.file
    text = path.read_text("utf-8")
    if text.count(fault.before) < 1:
        raise ValueError(f"{fault.name}: {fault.before!r} is not in {fault.file} any more")
    path.write_text(text.replace(fault.before, fault.after, 1), "utf-8")


def look(fault: Fault, tree: Path, target: Path, sides: int) -> Looked:
    """Build a fault, and compare until it is seen."""
    begun = time.monotonic()
    crate = tree / "rater" / "native"
    for path in (CRATE / "src").glob("*.rs"):
        copy = crate / "src" / path.name
        if not copy.exists() or copy.read_text("utf-8") != path.read_text("utf-8"):
            shutil.copyfile(path, copy)
    planted(fault, crate)
    environment = {**BUILDING.environment(), **QUICKLY, "CARGO_TARGET_DIR": str(target)}
    command = [BUILDING.toolchain().cargo, "build", "--profile", "planted", "--locked", "--quiet"]
    built = subprocess.run(command, cwd=crate, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if built.returncode:
        raise ValueError(f"{fault.name} does not compile:\n{built.stderr}")
    shutil.copy(target / "planted" / BUILDING.LIBRARY, crate / BUILDING.ENGINE.name)
    both = os.pathsep.join((str(tree), str(TESTS)))
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "native.worlds", "--sides", str(sides)],
        env={**os.environ, "PYTHONPATH": both},
        capture_output=True,
        text=True,
        check=False,
    )
    first = (done.stdout.splitlines() or [done.stderr[-200:]])[0][:120]
    return Looked(first if done.returncode else "", time.monotonic() - begun)


def main() -> int:
    """Look for each, and say which were not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="these alone")
    parser.add_argument("--since", help="this one and those behind it in the list")
    parser.add_argument("--sides", type=int, default=200_000, help="to be compared at most for each")
    given = parser.parse_args()
    names = [fault.name for fault in PLANTED]
    if unknown := {*given.only, given.since or names[0]} - {*names}:
        parser.error(f"no planted fault is called {', '.join(sorted(unknown))}")
    since = names.index(given.since) if given.since else 0
    wanted = [fault for fault in PLANTED[since:] if not given.only or fault.name in given.only]
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "src"
        ignored = shutil.ignore_patterns("target", "*.so", "__pycache__")
        shutil.copytree(CRATE.parent, tree / "rater", ignore=ignored)
        for fault in wanted:
            found = look(fault, tree, Path(folder) / "target", given.sides)
            sys.stdout.write(f"{fault.name:32} {found.seconds:4.0f} s  {found.seen_by or 'NOT SEEN'}\n")
            sys.stdout.flush()
            if not found.seen_by:
                missed.append(fault.name)
    sys.stdout.write(f"{len(wanted) - len(missed)} of {len(wanted)} planted faults were seen\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
