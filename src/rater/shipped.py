"""Files that users look for in the checkout's config/; an installed package carries them (pyproject.toml)."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

_PACKAGED = "_config"  # where the wheel carries config/ (force-include)
_CHECKOUT = Path(__file__).parents[2] / "config"


def config() -> Traversable:
    """Return the folder of the installed package, or of the checkout that it runs from."""
    folder = resources.files("rater") / _PACKAGED
    return folder if folder.is_dir() else _CHECKOUT
