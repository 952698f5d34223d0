"""Builds the native engine with cargo, and says whether the one that is here is of the sources beside it.

    python src/rater/native/building.py      once, and again where its sources have changed

It needs nothing but Python, for the build hook (build_hook.py) runs it, too, before there is a package. The
digest of the sources lies in the engine (build.rs), as the name that a library has for itself: it is read
before the engine is loaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

CRATE = Path(__file__).parent
ENGINE = CRATE / "engine.abi3.so"
LIBRARY = "libengine.dylib" if sys.platform == "darwin" else "libengine.so"
CARGO = (1, 88)
"""The oldest that the crate names (rust-version in Cargo.toml)."""
NAME = re.compile(rb"rater-engine-[0-9a-f]{32}")
MINUTES = "a minute or two on two cores"
COST = "so Python rates, at some four times the CPU of a CDR"
RUST = ".".join(map(str, CARGO))
REMEDY = f"install Rust {RUST} or newer and repeat `make`, or install a wheel that `make wheels` made"


class Lacking(Exception):  # noqa: N818 - nothing went wrong
    """What building needs is not here; the reference rates instead. Its text is one sentence for people."""


class Failed(Exception):  # noqa: N818 - the same form
    """The sources cannot be built by a toolchain that should do. Its text is one sentence for people."""


class Toolchain(NamedTuple):
    """The cargo of this machine. version: "1.95.0". host: the triple that it builds for."""

    cargo: str
    version: str
    host: str


def sources() -> list[Path]:
    """Return what the engine is built from; none in an installed wheel."""
    heads = [CRATE / name for name in ("Cargo.toml", "Cargo.lock", "build.rs")]
    return [path for path in heads if path.is_file()] + list((CRATE / "src").rglob("*.rs"))


def digest() -> str:
    """Return what names the sources: build.rs computes the same."""
    told = hashlib.blake2b(digest_size=16)
    for name, path in sorted((path.relative_to(CRATE).as_posix(), path) for path in sources()):
        content = path.read_bytes()
        told.update(f"{name}\0{len(content)}\0".encode() + content)
    return told.hexdigest()


def name_of(engine: Path) -> str | None:
    """Return the name that a built engine has for itself: rater-engine- and the digest of its sources."""
    found = NAME.search(engine.read_bytes())
    return None if found is None else found[0].decode()


def is_of_these_sources(engine: Path) -> bool:
    """Return whether a built engine is of the sources that lie here."""
    return name_of(engine) == f"rater-engine-{digest()}"


def unusable() -> str | None:
    """Return why the native engine cannot be used, as a sentence with the remedy; None: it can."""
    if (unsuited := _unsuited()) is not None:
        return unsuited
    if not ENGINE.is_file():
        return f"there is no native engine here, {COST}; to get it, {REMEDY}"
    if sources() and not is_of_these_sources(ENGINE):
        return f"the native engine here was built from other sources, {COST}; `make engine` builds it anew"
    return None


def _unsuited() -> str | None:
    """Return why this Python can use no engine of the stable ABI, as a sentence; None: it can."""
    if sys.implementation.name != "cpython":
        return f"the native engine runs on CPython alone, and this is {sys.implementation.name}, {COST}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return f"the native engine does not run on a free-threaded Python, {COST}; use one with the lock"
    return None


def toolchain() -> Toolchain:
    """Return the cargo of this machine; Lacking: none that does, or this Python has no use for it."""
    if (unsuited := _unsuited()) is not None:
        raise Lacking(unsuited)
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Lacking(f"there is no cargo here to build it, {COST}; to get it, {REMEDY}")
    try:
        # In the crate's folder, where rustup's overrides count, as they do for the build.
        done = _run([cargo, "-vV"])
    except OSError as error:
        raise Lacking(
            f"{cargo} does not run ({error.strerror}), {COST}; to get the engine, {REMEDY}"
        ) from error
    told = re.match(r"cargo ((\d+)\.(\d+)\S*)", done.stdout)
    host = re.search(r"^host: (\S+)$", done.stdout, re.MULTILINE)
    if done.returncode or told is None or host is None:
        raise Lacking(f"{cargo} does not run ({_first(done.stderr)}), {COST}; to get the engine, {REMEDY}")
    if (int(told[2]), int(told[3])) < CARGO:
        raise Lacking(f"cargo {told[1]} is too old for the native engine, {COST}; to get it, {REMEDY}")
    return Toolchain(cargo, told[1], host[1])


def fetch(tools: Toolchain, target: str) -> None:
    """See to it that cargo has the crates; Lacking: it cannot get them, Failed: the lock is an old one."""
    command = [tools.cargo, "fetch", "--locked", "--target", target]
    if _run([*command, "--offline"]).returncode == 0:
        return
    # Where nothing answers, cargo would try four times, half a minute each.
    patience = {"CARGO_NET_RETRY": "1", "CARGO_HTTP_TIMEOUT": "15"}
    done = _run(command, {**patience, **os.environ})
    if done.returncode == 0:
        return
    if "--locked was passed" in done.stderr:
        raise Failed(
            "Cargo.lock is not that of Cargo.toml: run `cargo update --workspace` in src/rater/native"
        )
    remedy = "let it reach crates.io or a mirror once, and repeat `make`"
    raise Lacking(f"cargo cannot get the engine's crates ({_first(done.stderr)}), {COST}; {remedy}")


def compiled(tools: Toolchain, target: str | None = None) -> Path:
    """Build the crate, progress to standard error, and return the library.

    target: a triple, and the oldest glibc it is to run with ("x86_64-unknown-linux-gnu.2.17"), for
    cargo-zigbuild; None: this machine. Raises Lacking, Failed.
    """
    triple = triple_of(tools, target)
    fetch(tools, triple)
    arguments = ["build"] if target is None else ["zigbuild", "--target", target]
    command = [tools.cargo, *arguments, "--release", "--locked", "--offline"]
    done = subprocess.run(command, cwd=CRATE, env=environment(), check=False)  # noqa: S603
    folder = target_folder() / ("" if target is None else triple) / "release"
    if done.returncode and target is None and shutil.which("cc") is None:
        raise Lacking(
            f"cargo finds no linker `cc` (Debian: gcc) for the native engine, {COST}; install it and repeat"
        )
    if done.returncode:
        raise Failed("it cannot be built: cargo says above why")
    if not (folder / LIBRARY).is_file():
        raise Failed(f"cargo made no {LIBRARY}: {triple} has no shared libraries, or builds elsewhere")
    return folder / LIBRARY


def triple_of(tools: Toolchain, target: str | None) -> str:
    """Return what cargo calls a target, without its glibc."""
    return tools.host if target is None else re.sub(r"[.\d]+$", "", target)


def put(library: Path) -> None:
    """Copy a built library to where Python imports it: at once, for others may have the old one open."""
    made = ENGINE.with_suffix(f".{os.getpid()}.so")
    try:
        shutil.copyfile(library, made)
        made.replace(ENGINE)
    finally:
        made.unlink(missing_ok=True)


def target_folder() -> Path:
    """Return where cargo builds."""
    return CRATE / os.environ.get("CARGO_TARGET_DIR", "target")


def environment() -> dict[str, str]:
    """Return what cargo runs with: the stable ABI needs no Python, and the one in the path may be too old."""
    ours = {name: value for name, value in os.environ.items() if name != "CARGO_BUILD_TARGET"}
    return {**ours, "PYO3_NO_PYTHON": "1", "CARGO_TARGET_DIR": str(target_folder())}


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the crate's folder."""
    return subprocess.run(  # noqa: S603
        command, cwd=CRATE, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def _first(text: str) -> str:
    """Return what cargo says went wrong, in one line: the first error, and its last cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason"]
    error = next((line for line in lines if line.startswith("error")), lines[0])
    cause = f": {lines[-1]}" if "Caused by:" in lines else ""
    return error.removeprefix("error: ") + cause


def _say(text: str) -> None:
    sys.stderr.write(f"native engine: {text}\n")
    sys.stderr.flush()


def build() -> None:
    """Build the engine unless it is here, progress to standard error. Raises Lacking, Failed."""
    if unusable() is None:
        return
    tools = toolchain()
    _say(f"cargo {tools.version} builds it, once; {MINUTES}")
    begun = time.monotonic()
    put(compiled(tools))
    _say(f"built in {time.monotonic() - begun:.0f} s")


def main() -> int:
    """Build the engine. 0: it is here, or it cannot be had, as is told; 1: it does not compile."""
    try:
        build()
    except Lacking as lacking:
        _say(str(lacking))
    except Failed as failed:
        _say(str(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
