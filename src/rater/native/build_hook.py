"""Puts the native engine into a wheel where it can be built; else the wheel is pure (hatchling runs this).

One distribution, one version. RATER_ENGINE_TARGET names the machine that `make wheels` builds for, with the
oldest glibc ("aarch64-unknown-linux-gnu.2.17"); then what is lacking is an error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

LICENSE = re.compile("licen[cs]e|copying|copyright|notice", re.IGNORECASE)


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


def licenses(tools: Any, triple: str) -> dict[str, str]:
    """Return the license texts of the crates in the engine → where the wheel has them."""
    done = subprocess.run(  # noqa: S603
        [tools.cargo, "metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", triple],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    texts = {}
    for crate in json.loads(done.stdout)["packages"]:
        if crate["source"] is not None:
            folder = Path(crate["manifest_path"]).parent
            found = sorted(path for path in folder.iterdir() if LICENSE.match(path.name) and path.is_file())
            # Where one may choose, it is MIT.
            for path in [path for path in found if "MIT" in path.name] or found:
                texts[str(path)] = f"rater/native/licenses/{crate['name']}-{crate['version']}/{path.name}"
    return texts


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
            platform = platform_of(target)
            tools = building.toolchain()
            library = building.compiled(tools, target)
        except (building.Lacking, building.Failed, ValueError) as error:
            if target is not None:
                self.app.abort(f"no native wheel: {error}")
            self.app.display_warning(f"a wheel without the native engine: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["force_include"][str(library)] = f"rater/native/{building.ENGINE.name}"
        build_data["force_include"].update(licenses(tools, building.triple_of(tools, target)))
