"""Clusters for the tests of scaling out, and the installations under load of the fault tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import engine, servers, start, system_of
from rater.local.redis import Flavour
from scale.cluster import Cluster

__all__ = ["engine", "servers", "start", "system_of"]

StartCluster = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def start_cluster(tmp_path: Path) -> AsyncIterator[StartCluster]:
    """Start clusters, of three primaries and three replicas unless told; they end with the test."""

    async def start(flavour: Flavour, **options: Any) -> Cluster:
        made = Cluster(tmp_path / f"cluster-{flavour}", flavour, **options)
        stack.callback(made.stop)
        await made.form()
        return made

    with ExitStack() as stack:
        yield start
