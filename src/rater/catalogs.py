"""The catalogs in use: each version is read once, compiled in a thread, and shared by the process's lanes.

A catalog's content lies in records of partition 0 of `rater.commands`; a small body, also there, lists them;
the manifest in every partition and the mark of every lane point at the body. So any lane can find any version
again.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
import structlog

from rater.core.catalog.compiled import VERSIONS_KEPT, compile_catalog
from rater.core.catalog_files.merging import from_objects
from rater.core.commands.records import ManifestBody
from rater.core.json_text import UNREADABLE
from rater.core.notices import NOTICES
from rater.core.reasons import shown
from rater.core.zones import INSTALLED
from rater.errors import NoCatalog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rater.core.catalog.compiled import Catalog
    from rater.core.catalog.specs import Content
    from rater.core.notices import Notices

    ReadContent = Callable[[list[int]], Awaitable[dict[int, bytes]]]
    """Read the content records at these offsets of partition 0 of `rater.commands`."""
    LoadBeside = Callable[[Content, int, Notices], None]
    """Take a catalog's content, version, and of what events tell."""

log = structlog.get_logger()


_REMEDY = "the topic was recreated, or something else wrote to it: restore it, or load the catalog anew"


class Catalogs:
    """Compiled catalogs by version."""

    def __init__(
        self, read: ReadContent, notices: Notices = NOTICES, beside: LoadBeside | None = None
    ) -> None:
        """Read content by `read`. notices: of what events tell ahead.

        beside: who has each catalog too, or raises ValueError: then what it is for goes without it.
        """
        self._read, self._notices, self._beside = read, notices, beside
        self._compiled: dict[int, asyncio.Task[Catalog]] = {}
        self._objects: dict[bytes, bytes] = {}

    async def at(self, version: int, body_offset: int) -> Catalog | None:
        """Return the catalog of this version, whose body lies at `body_offset`; None for version 0."""
        if version == 0:
            return None
        task = self._compiled.get(version)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._compile(version, body_offset))
            self._compiled[version] = task
            for old in sorted(self._compiled)[:-VERSIONS_KEPT]:
                del self._compiled[old]
        return await asyncio.shield(task)

    async def _compile(self, version: int, body_offset: int) -> Catalog:
        body, content = await self.content(body_offset)
        if body.version != version:
            message = (
                f"the catalog body at rater.commands[0]@{body_offset} is version {body.version}, not "
                f"{version}: {_REMEDY}"
            )
            raise NoCatalog(message)
        try:
            catalog = await asyncio.to_thread(compile_catalog, content, version, self._notices)
        except Exception as error:
            message = f"version {version} of the catalog cannot be compiled ({shown(repr(error))}): {_REMEDY}"
            raise NoCatalog(message) from error
        await self._have_beside(content, version)
        if not catalog.zones.carried:
            log.warning("catalog without time zones", version=version, problem=without_zones(version))
        log.info(
            "catalog compiled", version=version, packages=len(catalog.packages), tables=len(catalog.tables)
        )
        return catalog

    async def _have_beside(self, content: Content, version: int) -> None:
        if self._beside is None:
            return
        try:
            await asyncio.to_thread(self._beside, content, version, self._notices)
        except ValueError as error:
            problem = f"the native engine cannot read it ({shown(str(error))}): Python rates by it; report it"
            log.warning("catalog without the native engine", version=version, problem=problem)

    async def content(self, body_offset: int) -> tuple[ManifestBody, Content]:
        """Return a version's body and content, reading what is not in memory.

        Raises NoCatalog where there is none, Halt where it was removed.
        """
        raw = (await self._read([body_offset]))[body_offset]
        try:
            body = msgspec.msgpack.decode(raw, type=ManifestBody)
        except UNREADABLE as error:
            message = f"rater.commands[0]@{body_offset} is no catalog body ({shown(str(error))}): {_REMEDY}"
            raise NoCatalog(message) from error
        offsets = [offset for place in body.objects for offset in place.offsets]
        if len(set(offsets)) < len(offsets):  # each piece is written for one object: else a MB becomes a TB
            message = f"the catalog body at rater.commands[0]@{body_offset} lists a piece twice: {_REMEDY}"
            raise NoCatalog(message)
        missing = [place for place in body.objects if place.digest not in self._objects]
        pieces = await self._read([offset for place in missing for offset in place.offsets])
        fresh = {place.digest: b"".join(pieces[offset] for offset in place.offsets) for place in missing}
        objects = {
            place.digest: fresh[place.digest] if place.digest in fresh else self._objects[place.digest]
            for place in body.objects
        }
        for place in body.objects:
            if object_digest(objects[place.digest]) != place.digest:
                message = (
                    f"catalog content {shown(place.name)!r} in rater.commands[0] is not what version "
                    f"{body.version} lists: {_REMEDY}"
                )
                raise NoCatalog(message)
        try:
            content = from_objects({place.name: objects[place.digest] for place in body.objects})
        except (*UNREADABLE, KeyError) as error:
            message = (
                f"the content of catalog {body.version} cannot be read ({shown(repr(error))}): {_REMEDY}"
            )
            raise NoCatalog(message) from error
        self._objects = objects
        return body, content


def without_zones(version: int) -> str:
    """Return the sentence on a catalog that was loaded before catalogs carried time zones."""
    return (
        f"catalog {version} has no time zones, so periods are cut by the tzdata that is installed with each "
        f"worker (here {INSTALLED}), and two may disagree; load any catalog file once more"
    )


def object_digest(raw: bytes) -> bytes:
    """Return the digest by which a manifest body names an object of the content."""
    return blake2b(raw, digest_size=16).digest()
