"""Which catalog is in force, and which release of the time zones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from rater.catalogs import Catalogs
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import Content
from rater.core.zones import INSTALLED, Zones, installed
from rater.stream.journal import Mark, last_marks
from rater.stream.topics import Topics


class TimeZones(Struct, frozen=True):
    """Which release of tzdata cuts periods.

    installed: the one here. catalog: the version of the catalog in force, None where none was loaded.
    in_force: the release that this catalog carries, None where it carries none (then each worker goes by the
    one installed with it). load_brings: whether the next load from here brings the installed one.
    """

    installed: str
    catalog: int | None
    in_force: str | None
    load_brings: bool


async def newest(kafka: Mapping[str, Any], topics: Topics, catalogs: Catalogs) -> Catalog | None:
    """Return the newest catalog that a lane has adopted, compiled; None: none was loaded.

    Raises NoCatalog where it cannot be read, Halt and StreamDown as Kafka is.
    """
    mark = await _newest_mark(kafka, topics)
    return None if mark is None else await catalogs.at(mark.catalog, mark.body)


async def in_force(
    kafka: Mapping[str, Any], topics: Topics, catalogs: Catalogs
) -> tuple[int, Content] | None:
    """Return version and content of the newest catalog that a lane has adopted; None: none was loaded.

    Raises as `newest`.
    """
    mark = await _newest_mark(kafka, topics)
    if mark is None or not mark.catalog:
        return None
    body, content = await catalogs.content(mark.body)
    return body.version, content


def time_zones(found: tuple[int, Content] | None) -> TimeZones:
    """Return which release of the time zones is in force, and which is installed here. found: `in_force`."""
    if found is None:
        return TimeZones(INSTALLED, None, None, load_brings=True)
    version, content = found
    if not content.zones:
        return TimeZones(INSTALLED, version, None, load_brings=True)
    newer = installed().newer(content.zones[-1])
    return TimeZones(INSTALLED, version, Zones(content.zones).name, load_brings=newer)


async def _newest_mark(kafka: Mapping[str, Any], topics: Topics) -> Mark | None:
    marks = await last_marks(kafka, topics.transactions, topics.partitions)
    return max((mark for mark in marks if mark is not None), key=lambda mark: mark.catalog, default=None)
