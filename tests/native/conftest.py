"""The engine of this checkout is built first; without cargo nothing is compared, and the run says so."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("native_building", Path(__file__).with_name("building.py"))
assert _spec is not None
assert _spec.loader is not None
_building = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_building)

collect_ignore_glob: list[str] = []
if not _building.build():
    collect_ignore_glob.append("test_*.py")
    sys.stderr.write("no cargo here: the native engine is not compared with the reference\n")
