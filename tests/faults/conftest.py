"""Servers and installations for the fault tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.calls import calls, catalog
from faults.rig import Rig, Servers
from line.conftest import engine, system_of

__all__ = ["engine", "system_of"]

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The broker and the Redis servers that the fault tests hurt."""
    library = logging.getLogger("aiokafka")
    level = library.level
    library.setLevel(logging.CRITICAL)  # it tells of a broker that is away fifty times a second
    made = Servers(tmp_path_factory.mktemp("faults"))
    yield made
    made.stop()
    library.setLevel(level)


@pytest.fixture
async def start(servers: Servers, tmp_path: Path) -> AsyncIterator[Start]:
    """Start an installation under load: seed, and options of Rig and Rig.start; it ends with the test."""
    made: list[Rig] = []

    async def begin(seed: int, **options: Any) -> Rig:
        sizes = {name: options.pop(name) for name in ("partitions", "buckets") if name in options}
        rig = Rig(servers, tmp_path, seed, options.pop("catalog", None) or catalog(), **sizes)
        rig.cluster = options.pop("cluster", [])
        made.append(rig)
        await rig.start(options.pop("source", None) or calls(seed), **options)
        return rig

    yield begin
    for rig in made:
        await asyncio.wait_for(rig.close(), 300)
