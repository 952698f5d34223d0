"""Puts the native engine into a wheel where it can be built; else the wheel is pure (hatchling runs this).

One distribution, one version. RATER_ENGINE_TARGET names the machine that `make wheels` builds for, with the
oldest glibc ("aarch64-unknown-linux-gnu.2.17"); then what is lacking is an error.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


def _building() -> ModuleType:
    """Load building.py: the package that it belongs to is only being made."""
    name = "rater_engine_building"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("building.py"))
    if spec is None or spec.loader is None:
        raise ImportError("building.py is not beside the build hook")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def platform_of(target: str | None) -> str:
    """Return a wheel's platform tag: of a target with its glibc, or of this machine."""
    if target is None:
        # What is linked against the glibc of this machine is nothing for others: no manylinux, no musllinux.
        return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
    parts = re.fullmatch(r"(\w+)-unknown-linux-gnu\.(\d+)\.(\d+)", target)
    if parts is None:
        raise ValueError(f"RATER_ENGINE_TARGET={target!r} is not such as x86_64-unknown-linux-gnu.2.17")
    return f"manylinux_{parts[2]}_{parts[3]}_{parts[1]}"


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the native engine into a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the engine and add it. An editable install has none: `make engine` builds it, in sight."""
        if version == "editable":
            return
        building = _building()
        target = os.environ.get("RATER_ENGINE_TARGET")
        try:
            library = building.compiled(building.toolchain(), target)
        except (building.Lacking, building.Failed) as error:
            if target is not None:
                raise
            self.app.display_warning(f"a wheel without the native engine: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform_of(target)}"
        build_data["force_include"][str(library)] = f"rater/native/{building.ENGINE.name}"
