"""`rater decks import`: read a carrier's deck, show the difference, load it as any catalog."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rater.core.catalog_files.fields import Fault
from rater.core.decks.planning import Plan, plan
from rater.core.decks.profile import Profile
from rater.deck_files import Unreadable, read_sheet
from rater.jobs.load import Loader, uncollected


class Import(NamedTuple):
    """What is asked. effective_ms: from when rows hold that do not say it; None: from now on."""

    path: Path
    table: str
    profile: Profile
    effective_ms: int | None = None


async def planned(loader: Loader, asked: Import) -> Plan | list[Fault]:
    """Return what an import does to the newest catalog; nothing is changed."""
    present = await loader.present()
    with uncollected():
        try:
            sheet = read_sheet(asked.path, asked.profile.sheet, asked.profile.columns)
            return plan(
                present.content, present.version, sheet, asked.table, asked.profile,
                effective_ms=asked.effective_ms, now_ms=loader.now_ms(),
            )  # fmt: skip
        except Unreadable as error:
            return [Fault(error.file, error.place, "", error.problem)]
