"""Builds the native engine of this checkout beside its sources, where there is a toolchain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CRATE = Path(__file__).parents[2] / "src" / "rater" / "native"
ENGINE = CRATE / "engine.abi3.so"
LIBRARY = "libengine.dylib" if sys.platform == "darwin" else "libengine.so"


def sources() -> list[Path]:
    """Return what the engine is built from."""
    return [CRATE / "Cargo.toml", CRATE / "Cargo.lock", *sorted((CRATE / "src").glob("*.rs"))]


def is_current() -> bool:
    """Return whether the engine is there and no source is newer."""
    return ENGINE.exists() and ENGINE.stat().st_mtime >= max(path.stat().st_mtime for path in sources())


def build() -> bool:
    """Build it unless it is current: a minute. False: there is no cargo here.

    Raises CalledProcessError where it cannot be built.
    """
    if is_current():
        return True
    cargo = shutil.which("cargo")
    if cargo is None:
        return False
    # Not beside the sources: they are copied here and there.
    target = Path(os.environ.get("CARGO_TARGET_DIR", CRATE.parents[2] / "build" / "native"))
    command = [cargo, "build", "--release", "--locked", "--quiet"]
    subprocess.run(command, cwd=CRATE, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)  # noqa: S603
    made = ENGINE.with_suffix(f".{os.getpid()}")
    shutil.copy(target / "release" / LIBRARY, made)
    made.replace(ENGINE)  # at once: others may have the old one open, or be at the same
    return True
