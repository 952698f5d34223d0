"""These tests need the native engine where it can be had; elsewhere they are left out, as the run says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import engines

collect_ignore_glob = ["test_*.py"] if engines.left_out() else []


@pytest.fixture(autouse=True)
def compared(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Count the sides that a test compares, for the end of the run."""
    from native.shadow import SEEN  # noqa: PLC0415 - without the engine it cannot be imported

    before = SEEN.sides
    yield
    record_property("compared", SEEN.sides - before)
