"""Whether the native engine is compared with the reference (README.md, The native engine)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SHOWN = len("rater-engine-") + 12
"""So much of an engine's name is told."""


def loaded(path: Path) -> ModuleType:
    """Load a module that is run as a file: its package may be unusable."""
    name = f"loaded_{path.stem}_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def building() -> ModuleType:
    """Return building.py of the `rater` that is tested: of a checkout, or of an installed wheel."""
    found = importlib.util.find_spec("rater")
    assert found is not None
    assert found.origin is not None
    return loaded(Path(found.origin).parent / "native" / "building.py")


def left_out() -> bool:
    """Return whether the engine is not here and cannot be built. What could be and is not lets tests fail."""
    native = building()
    if native.unusable() is None:
        return False
    try:
        native.toolchain()
    except native.Lacking:
        return True
    return not native.sources()


def built() -> str | None:
    """Build the engine of a checkout, in sight; return why there is none, as a sentence. None: there is."""
    native = building()
    try:
        if native.sources():
            native.build()
    except (native.Lacking, native.Failed) as error:
        return str(error)
    why: str | None = native.unusable()
    return why


def told(why: str | None, compared: list[int]) -> str | None:
    """Return which engines a run compared; None: it has no such tests.

    why: there is no native engine, as `built` says. compared: how many sides each test compared.
    """
    if why is not None:
        return f"native engine not compared: {why}"
    if not compared:
        return None
    native = building()
    name = native.name_of(native.ENGINE) or "of unknown sources"
    return f"engines compared: native ({name[:SHOWN]}) and reference, {sum(compared):,} sides"
