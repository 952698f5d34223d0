"""The native engine is built where cargo is, and told of where it is not; one of other sources is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import engines
from engines import loaded

ROOT = Path(__file__).parents[1]
CRATE = ROOT / "src" / "rater" / "native"
COST = "so Python rates, at some four times the CPU of a CDR"
NEEDED = "install Rust 1.88 or newer and repeat `make`"
TOLD = "echo 'cargo 1.95.0 (f2d3ce0bd 2026-03-21)'; echo 'host: x86_64-unknown-linux-gnu'"
NO_CRATES = "printf 'error: no\\n\\nCaused by:\\n  deep\\n  Could not resolve host\\n' >&2; exit 101"
METADATA = 'echo "$METADATA"'
"""Of `cargo metadata`, of crates in the engine: one with a choice of licenses, one with one, and our own."""
BUILD = 'mkdir -p "$CARGO_TARGET_DIR/release"; printf "%s" "$MADE" > "$CARGO_TARGET_DIR/release/$LIBRARY"'

Cargo = Callable[..., None]


@pytest.fixture
def crate(tmp_path: Path) -> ModuleType:
    """Return building.py of a copy of the crate, in a package that can be imported, without an engine."""
    package = tmp_path / "tree" / "rater"
    native = package / "native"
    shutil.copytree(CRATE, native, ignore=shutil.ignore_patterns("target", "*.so", "__pycache__"))
    shutil.copy(ROOT / "src" / "rater" / "__init__.py", package)
    return loaded(native / "building.py")


@pytest.fixture
def cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cargo:
    """Put a cargo of shell lines in the place of all that is in the path, but the shell's own tools."""
    (folder := tmp_path / "bin").mkdir()
    for tool in ("mkdir", "sh"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path / "target"))
    for name in ("LICENSE-APACHE", "LICENSE-MIT", "src/license.rs"):
        (path := tmp_path / "both" / name).parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "COPYING").touch()
    packages = [
        {
            "name": name,
            "version": "1.2",
            "source": source,
            "manifest_path": str(tmp_path / name / "Cargo.toml"),
        }
        for name, source in (("both", "registry"), ("one", "registry"), ("rater-engine", None))
    ]
    monkeypatch.setenv("METADATA", json.dumps({"packages": packages}))

    def put(told: str = TOLD, fetch: str = "true", build: str = BUILD, *, linker: bool = True) -> None:
        cases = {"-vV": told, "fetch": fetch, "metadata": METADATA, "build|zigbuild": build}
        lines = "".join(f"{case}) {does};;\n" for case, does in cases.items())
        (folder / "cargo").write_text(f"#!/bin/sh\ncase $1 in\n{lines}esac\n", "utf-8")
        (folder / "cargo").chmod(0o700)
        if linker:
            (folder / "cc").symlink_to(folder / "cargo")

    return put


def imported(crate: ModuleType) -> str:
    """Return what importing the engine of a copy says; empty: it is there."""
    done = subprocess.run(
        [sys.executable, "-c", "import rater.native"],
        env={**os.environ, "PYTHONPATH": str(Path(crate.CRATE).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    return lines[-1] if lines else ""


def test_the_version_that_is_told_is_the_crates() -> None:
    """The sentences name the oldest cargo that Cargo.toml names."""
    manifest = tomllib.loads((CRATE / "Cargo.toml").read_text("utf-8"))
    assert manifest["package"]["rust-version"] == loaded(CRATE / "building.py").RUST


def test_the_engine_here_is_of_the_sources_here() -> None:
    """Where cargo is, it is here, or nothing is compared. build.rs writes the digest of building.py."""
    building = loaded(CRATE / "building.py")
    assert building.main() == 0
    try:
        building.toolchain()
    except building.Lacking:
        assert COST in building.unusable()
    else:
        assert building.unusable() is None
        assert building.is_of_these_sources(building.ENGINE)


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ({"told": "echo 'error: no default toolchain' >&2; exit 1"}, "does not run (no default toolchain)"),
        ({"told": "echo 'host: x'"}, "does not run (no reason)"),
        ({"told": f"{TOLD.replace('1.95.0', '1.63.0')}"}, "cargo 1.63.0 is too old for the native engine"),
        ({"told": f"{TOLD.replace('1.95.0', '1.87.9-beta.2')}"}, "cargo 1.87.9-beta.2 is too old"),
        (
            {"fetch": NO_CRATES},
            "cargo cannot get the engine's crates (no: Could not resolve host)",
        ),
        ({"build": "exit 101", "linker": False}, "cargo finds no linker `cc` (Debian: gcc)"),
    ],
)
def test_what_is_lacking_is_told_in_a_line(
    crate: ModuleType,
    cargo: Cargo,
    capsys: pytest.CaptureFixture[str],
    lacking: dict[str, str],
    sentence: str,
) -> None:
    """Each lack is one line that says what it costs and the remedy, is no fault, and leaves no engine."""
    cargo(**lacking)
    assert crate.main() == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if COST in line]
    assert line.startswith("native engine: ")
    assert sentence in line
    assert line == lines[-1]
    assert "repeat" in line.partition(COST)[2]
    assert not Path(crate.ENGINE).exists()


def test_without_cargo(
    crate: ModuleType, cargo: Cargo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing but Python is here, or a cargo that cannot be run."""
    assert crate.main() == 0
    assert capsys.readouterr().err == (
        f"native engine: there is no cargo here to build it, {COST}; to get it, {NEEDED}, "
        "or install a wheel that `make wheels` made\n"
    )
    cargo()
    (tmp_path / "bin" / "cargo").write_bytes(b"\x7fELF of another machine")
    assert crate.main() == 0
    assert "cargo does not run (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"build": "exit 101"}, "native engine: it cannot be built: cargo says above why"),
        ({"build": "true"}, "cargo made no libengine."),
        (
            {"fetch": "echo 'error: cannot update the lock file because --locked was passed' >&2; exit 101"},
            "Cargo.lock is not that of Cargo.toml",
        ),
    ],
)
def test_what_does_not_compile_is_a_fault(
    crate: ModuleType, cargo: Cargo, capsys: pytest.CaptureFixture[str], fault: dict[str, str], sentence: str
) -> None:
    """`make test` ends there; `make demo` goes on, with Python."""
    cargo(**fault)
    assert crate.main() == 1
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_an_engine_of_other_sources_is_refused_and_rebuilt(
    crate: ModuleType, cargo: Cargo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Changed, added, removed, renamed: each makes the engine another one's, until it is built again."""
    cargo()
    monkeypatch.setenv("LIBRARY", crate.LIBRARY)
    folder = Path(crate.CRATE) / "src"
    some = next(folder.glob("*.rs"))
    assert "there is no native engine here" in imported(crate)
    for change in (
        lambda: None,
        lambda: some.write_text("// changed\n" + some.read_text("utf-8"), "utf-8"),
        (folder / "rules").mkdir,
        (folder / "rules" / "more.rs").touch,
        lambda: (folder / "rules" / "more.rs").rename(folder / "rules" / "most.rs"),
        (folder / "rules" / "most.rs").unlink,
        lambda: (folder.parent / "Cargo.lock").write_text("# changed\n", "utf-8"),
    ):
        before = crate.digest()
        change()
        if crate.digest() != before:
            assert "was built from other sources" in crate.unusable()
            assert f"ImportError: {crate.unusable()}" == imported(crate)
        monkeypatch.setenv("MADE", f"an engine, rater-engine-{crate.digest()}, of these")
        capsys.readouterr()
        fresh = crate.unusable() is None
        assert crate.main() == 0
        assert ("built in" in capsys.readouterr().err) is not fresh
        assert crate.unusable() is None
        assert imported(crate) == ""
    assert sorted(Path(crate.CRATE).glob("*.so")) == [crate.ENGINE]


@pytest.mark.parametrize(
    ("given", "left_out", "sentence"),
    [
        (None, True, "there is no cargo here to build it"),
        ({"told": TOLD.replace("1.95.0", "1.63.0")}, True, "cargo 1.63.0 is too old for the native engine"),
        ({"fetch": NO_CRATES}, False, "cargo cannot get the engine's crates"),
        ({"build": "exit 101", "linker": False}, False, "cargo finds no linker `cc`"),
        ({"build": "exit 101"}, False, "it cannot be built"),
        ({}, False, None),
    ],
)
def test_only_without_cargo_nothing_is_compared(
    crate: ModuleType,
    cargo: Cargo,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str] | None,
    left_out: bool,  # noqa: FBT001 - a column of the table
    sentence: str | None,
) -> None:
    """A cargo that should do and does not lets the engine's tests fail; a run says what was compared."""
    monkeypatch.setattr(engines, "building", lambda: crate)
    monkeypatch.setenv("LIBRARY", crate.LIBRARY)
    monkeypatch.setenv("MADE", f"an engine, rater-engine-{crate.digest()}, of these")
    if given is not None:
        cargo(**given)
    why = engines.built()
    assert engines.left_out() is left_out
    if sentence is None:
        assert why is None
        assert engines.told(why, []) is None
        name = f"rater-engine-{crate.digest()[:12]}"
        assert (
            engines.told(why, [1200, 34]) == f"engines compared: native ({name}) and reference, 1,234 sides"
        )
    else:
        assert why is not None
        assert engines.told(why, []) == f"native engine not compared: {why}"
        assert sentence in why


def test_in_a_pure_wheel_nothing_is_compared(
    crate: ModuleType, cargo: Cargo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to be built from, whatever cargo there is."""
    monkeypatch.setattr(engines, "building", lambda: crate)
    cargo()
    for path in crate.sources():
        path.unlink()
    assert "there is no native engine here" in (engines.built() or "")
    assert engines.left_out()


def test_other_pythons_have_no_engine(
    crate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A free-threaded Python has another ABI, PyPy has none; nothing is built for them."""
    monkeypatch.setattr(crate.sysconfig, "get_config_var", lambda name: int(name == "Py_GIL_DISABLED"))
    assert crate.main() == 0
    assert "does not run on a free-threaded Python" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(crate.sys.implementation, "name", "pypy")
    assert f"runs on CPython alone, and this is pypy, {COST}" in crate.unusable()


def wheel(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel of this checkout by the hook; the library is that of CARGO_TARGET_DIR."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False
    )


def parts(folder: Path, form: str) -> set[str]:
    """Return what the one wheel of such a name has of the native engine."""
    (path,) = folder.glob(form)
    with zipfile.ZipFile(path) as archive:
        below = [name.removeprefix("rater/native/") for name in archive.namelist() if "/native/" in name]
    return set(below)


def test_the_hook_makes_the_wheel_that_can_be_made(tmp_path: Path, cargo: Cargo) -> None:
    """Without cargo the wheel is pure, and it says so; with it, it is native; pip takes the native one."""
    dist, pure = tmp_path / "dist", {"__init__.py", "building.py", "feeding.py", "holding.py", "engine.pyi"}
    native = pure | {"engine.abi3.so", "licenses/both-1.2/LICENSE-MIT", "licenses/one-1.2/COPYING"}
    without = wheel(dist)
    assert without.returncode == 0, without.stderr
    assert "a wheel without the native engine: there is no cargo" in without.stdout + without.stderr
    assert parts(dist, "rater-*-py3-none-any.whl") == pure

    cargo()
    library = loaded(CRATE / "building.py").LIBRARY
    done = wheel(dist, LIBRARY=library, MADE="an engine")
    assert done.returncode == 0, done.stderr
    assert parts(dist, "rater-*-cp311-abi3-*.whl") == native

    (chosen := tmp_path / "chosen").mkdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-index",
        "--quiet",
        "--dest",
        str(chosen),
    ]
    subprocess.run([*pip, "--find-links", str(dist), "rater"], check=True, env={**os.environ})  # noqa: S603
    assert parts(chosen, "*.whl") == native


def test_a_target_is_named_or_refused(tmp_path: Path, cargo: Cargo) -> None:
    """`make wheels` gets the wheel that it asks for, with its tag, or an error; never a pure one instead."""
    target = "aarch64-unknown-linux-gnu.2.17"
    without = wheel(tmp_path / "none", RATER_ENGINE_TARGET=target)
    assert without.returncode != 0
    assert "no native wheel: there is no cargo here" in without.stderr
    assert "Traceback" not in without.stderr
    cargo(build=BUILD.replace("/release", "/aarch64-unknown-linux-gnu/release"))
    done = wheel(
        tmp_path, RATER_ENGINE_TARGET=target, LIBRARY=loaded(CRATE / "building.py").LIBRARY, MADE="an engine"
    )
    assert done.returncode == 0, done.stderr
    assert "engine.abi3.so" in parts(tmp_path, "rater-*-cp311-abi3-manylinux_2_17_aarch64.whl")
    other = wheel(tmp_path, RATER_ENGINE_TARGET="x86_64-apple-darwin")
    assert other.returncode != 0
    assert "'x86_64-apple-darwin' is not such as x86_64-unknown-linux-gnu.2.17" in other.stderr
    assert not list(tmp_path.rglob("*none-any.whl"))


def test_the_glibc_of_a_wheel_is_read_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are compared as numbers, and only whole names count."""
    monkeypatch.syspath_prepend(CRATE)
    wheels = loaded(CRATE / "wheels.py")
    assert wheels.glibc_of(b"\0GLIBC_2.3\0GLIBC_2.17\0GLIBC_2.2.5\0xGLIBC_2.36\0GLIBC_2.35b\0") == (2, 17)
