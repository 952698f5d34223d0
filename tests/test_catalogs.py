"""Catalogs as they lie in Kafka: read, checked, compiled."""

from __future__ import annotations

import msgspec
import pytest
from structlog.testing import capture_logs

from rater.catalogs import Catalogs, object_digest
from rater.core.catalog.specs import Content, objects
from rater.core.commands.records import ManifestBody, ObjectPlace
from rater.core.zones import INSTALLED, Release, installed


@pytest.mark.parametrize("zones", [[], [installed()]])
async def test_a_catalog_without_time_zones_is_told_once(zones: list[Release]) -> None:
    """One warning for each version that has none, with the remedy; none where the catalog has its own."""
    records = dict(enumerate(objects(Content(zones=zones)).items()))
    places = [ObjectPlace(name, object_digest(raw), [offset]) for offset, (name, raw) in records.items()]
    lying = {offset: raw for offset, (_, raw) in records.items()}
    lying[99] = msgspec.msgpack.encode(ManifestBody(7, 0, places))

    async def read(offsets: list[int]) -> dict[int, bytes]:
        return {offset: lying[offset] for offset in offsets}

    catalogs = Catalogs(read)
    with capture_logs() as logs:
        first = await catalogs.at(7, 99)
        assert first is await catalogs.at(7, 99)
    assert first is not None
    assert first.zones.carried is bool(zones)
    told = [line["problem"] for line in logs if line["log_level"] == "warning"]
    assert len(told) == (0 if zones else 1)
    for problem in told:
        assert problem.startswith("catalog 7 has no time zones")
        assert INSTALLED in problem
        assert problem.endswith("load any catalog file once more")
