"""Checking catalog files without loading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rater.core.catalog_files.merging import Fault


def faults(files: Iterable[str]) -> list[Fault]:
    """Return every fault of catalog files by themselves, as `rater load` names it."""
    from rater.core.catalog_files.merging import read_files  # noqa: PLC0415 - YAML is slow to import

    folders = {str(Path(file).parent) for file in files}

    def open_file(name: str) -> bytes:
        for folder in folders:
            if (path := Path(folder) / name).is_file():
                return path.read_bytes()
        raise FileNotFoundError(2, "no such file", name)

    return read_files([(file, Path(file).read_bytes()) for file in files], open_file).faults
