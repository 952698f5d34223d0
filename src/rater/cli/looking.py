"""The read model, for commands that list: it is asked where one is configured, and how old it is, is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rater.cli.printing import say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.queries.client_packages import Search
    from rater.queries.connections import Connections
    from rater.readmodel.asking import ReadModel
    from rater.store.buckets import Buckets

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415


@asynccontextmanager
async def lists(settings: Settings, at: Connections) -> AsyncIterator[ReadModel | None]:
    """Open the read model for a list, and tell how old it is; None: topics and Redis are asked."""
    async with _opened(settings) as model:
        if model is not None:
            from rater.queries.listed import behind_s

            say(f"from the read model, {await behind_s(at, model):.0f} s behind the topics")
        yield model


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[ReadModel | None]:
    """Open the read model that `rater admin` keeps; None where none is configured, or it is of no use now.

    Of the latter is told why.
    """
    from rater.errors import Halt

    if settings.admin.database is None:
        yield None
        return
    try:
        from rater.readmodel.asking import ReadModel
        from rater.readmodel.database import Database

        database = Database(settings.admin.database, makes=False)
    except (ImportError, Halt) as error:
        say(f"not from the read model: {error}")
        yield None
        return
    model = ReadModel(database, None)
    try:
        why = "" if await model.is_built() else f"{database.shown} is being built"
    except Halt as error:
        why = str(error)
    if why:
        say(f"not from the read model: {why}")
    try:
        yield None if why else model
    finally:
        database.close()


def search(settings: Settings, store: Buckets) -> Search:
    """Return what finds the client of a client package that the index lacks."""

    async def found(of_id: str) -> str | None:
        from rater.queries.client_packages import searched

        async with _opened(settings) as model:
            if model is None:
                return await searched(store, of_id, say)
            from rater.queries.listed import owner_of

            return await owner_of(model, of_id)

    return found
