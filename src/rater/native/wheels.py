"""Makes the wheels of a release: a pure one, and native ones for old glibc (`make wheels`).

    python src/rater/native/wheels.py FOLDER

zig links them for glibc 2.17 (manylinux2014); it comes from PyPI, as wheels.lock says, into an environment of
its own. A wheel for another processor needs Rust's standard library for it, which `rustup target add` brings.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# As a script has it beside itself: the package may be unusable as yet.
from building import MINUTES, Lacking, toolchain  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[3]
LOCK = Path(__file__).with_name("wheels.lock")
ZIG = ROOT / ".venv" / "wheels"
STAMP = ZIG / "made-of"
GLIBC = (2, 17)
BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
"""As pip does it: `hatchling build` would tell the path, which is a temporary one."""
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")


def with_zig() -> dict[str, str]:
    """Return our environment with cargo-zigbuild and zig, which are installed unless they are there."""
    made_of = f"{sys.version} {hashlib.sha256(LOCK.read_bytes()).hexdigest()}"
    if not STAMP.is_file() or STAMP.read_text("utf-8") != made_of:
        say("zig is installed, once: 400 MB")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ZIG)], check=True)  # noqa: S603
        install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]
        subprocess.run([str(ZIG / "bin" / "python"), *install, "-r", str(LOCK)], check=True)  # noqa: S603
        STAMP.write_text(made_of, "utf-8")
    return {**os.environ, "PATH": os.pathsep.join((str(ZIG / "bin"), os.environ.get("PATH", os.defpath)))}


def has_library(target: str) -> bool:
    """Return whether Rust's standard library for a target is installed."""
    if shutil.which("rustc") is None:
        return False
    command = ["rustc", "--print", "target-libdir", "--target", target]
    done = subprocess.run(command, cwd=LOCK.parent, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode == 0 and any(Path(done.stdout.strip()).glob("libstd-*"))


def glibc_of(library: bytes) -> tuple[int, ...]:
    """Return the newest version of glibc that a library asks for."""
    versions = re.findall(rb"\0GLIBC_(\d+(?:\.\d+)+)(?=\0)", library)
    return max(tuple(int(part) for part in version.split(b".")) for version in versions)


def wheel(folder: Path, environment: dict[str, str]) -> Path:
    """Build a wheel into a folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        subprocess.run([sys.executable, "-c", BUILD, made], cwd=ROOT, env=environment, check=True)  # noqa: S603
        (path,) = Path(made).glob("*.whl")
        return path.replace(folder / path.name)


def native(folder: Path, target: str, environment: dict[str, str]) -> Path:
    """Build the native wheel of a target; ValueError: it asks for a newer glibc than its name says."""
    wanted = f"{target}.{'.'.join(map(str, GLIBC))}"
    say(f"cargo builds the engine for {wanted}; {MINUTES}")
    made = wheel(folder, {**environment, "RATER_ENGINE_TARGET": wanted})
    with zipfile.ZipFile(made) as parts:
        needs = glibc_of(parts.read("rater/native/engine.abi3.so"))
    if needs > GLIBC:
        made.unlink()
        raise ValueError(f"the engine for {target} asks for glibc {'.'.join(map(str, needs))}")
    return made


def main() -> int:
    """Build what can be built, and say what cannot, and why."""
    folder = Path(sys.argv[1]).absolute()
    made = [wheel(folder, {**os.environ, "HATCH_BUILD_NO_HOOKS": "1"})]
    try:
        toolchain()
    except Lacking as lacking:
        say(f"{made[0].name} alone, without the native engine: {lacking}")
        return 0
    targets = [target for target in TARGETS if has_library(target)]
    environment = with_zig() if targets else {}
    made += [native(folder, target, environment) for target in targets]
    for path in made:
        say(f"{path.name}, {path.stat().st_size // 1000} kB")
    for target in TARGETS:
        if target not in targets:
            say(f"none for {target}: `rustup target add {target}` brings what it lacks")
    return 0


def say(text: str) -> None:
    """Tell what is going on, before what the next process tells."""
    sys.stdout.write(f"wheels: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"wheels: this failed, as it says above: {' '.join(error.cmd)}")
    except ValueError as error:
        sys.exit(f"wheels: {error}")
