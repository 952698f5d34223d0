"""Tests with Helm itself are run by `make test-deploy`, which sets RATER_HELM, the drill by `make drill`."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out, unless they are asked for."""
    left_out = {
        mark
        for mark, variable in (("helm", "RATER_HELM"), ("panels", "RATER_HELM"), ("drill", "RATER_DRILL"))
        if variable not in os.environ
    }
    out = [item for item in items if any(item.get_closest_marker(mark) for mark in left_out)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
