"""Tests with Helm itself run by `make test-deploy` alone, which sets RATER_HELM."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out, unless they are asked for."""
    if "RATER_HELM" in os.environ:
        return
    out = [item for item in items if item.get_closest_marker("helm") is not None]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
