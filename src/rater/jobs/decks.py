"""`rater decks import`: read a carrier's deck, show the difference, load it as any catalog."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from rater.core.catalog_files.fields import Fault
from rater.core.decks.planning import Plan, plan
from rater.core.decks.profile import Profile
from rater.deck_files import Unreadable, read_sheet, sheet_of
from rater.jobs.load import Loader, Present, uncollected


class Import(NamedTuple):
    """What is asked. effective_ms: from when rows hold that do not say it; None: from now on.

    raw: the bytes of the file; None: it is read from the path `file`.
    """

    file: str
    table: str
    profile: Profile
    effective_ms: int | None = None
    raw: bytes | None = None


async def planned(loader: Loader, asked: Import) -> Plan | list[Fault]:
    """Return what an import does to the newest catalog; nothing is changed. It is worked out in a thread."""
    present, now_ms = await loader.present(), loader.now_ms()
    with uncollected():
        return await asyncio.to_thread(_planned, present, asked, now_ms)


def _planned(present: Present, asked: Import, now_ms: int) -> Plan | list[Fault]:
    sheet_name, columns = asked.profile.sheet, asked.profile.columns
    try:
        if asked.raw is None:
            sheet = read_sheet(Path(asked.file), sheet_name, columns)
        else:
            sheet = sheet_of(asked.file, asked.raw, sheet_name, columns)
        return plan(
            present.content, present.version, sheet, asked.table, asked.profile,
            effective_ms=asked.effective_ms, now_ms=now_ms,
        )  # fmt: skip
    except Unreadable as error:
        return [Fault(error.file, error.place, "", error.problem)]
