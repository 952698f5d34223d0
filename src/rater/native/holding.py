"""What the lanes of a process share of the native engine: views of clients, catalogs, what it cannot take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import IO, ClassVar

from rater.core.catalog.compiled import VERSIONS_KEPT
from rater.core.catalog.specs import Content
from rater.core.notices import Notices
from rater.native import engine, feeding

DISTRUSTED_MAX = 10_000
"""Records kept as such. Those of one batch, where none alone makes the engine panic."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Native:
    """The native engine of a process."""

    panic: ClassVar[type[BaseException]] = engine.Panic
    """What a panic of the engine is raised as: of what it worked on nothing may be used again."""

    def __init__(self, *, writes: bool = False) -> None:
        """writes: what it renders it keeps as a run until it writes that for Kafka; no objects are made."""
        self.writes = writes
        self._cache = feeding.new_cache()
        self._catalogs: dict[int, engine.Catalog] = {}
        self._distrusted: dict[Place, None] = {}
        self.effects: type[engine.Effects] | None = engine.Effects
        """What adds up the journal's transactions when a store is rebuilt; None: it has panicked."""

    def load(self, content: Content, version: int, notices: Notices) -> None:
        """Make a catalog ready. Raises ValueError: it holds what the engine does not read."""
        try:
            self._catalogs[version] = feeding.load(content, version, notices)
        except self.panic as panic:
            raise ValueError(f"it panics: {panic}") from panic
        for old in sorted(self._catalogs)[:-VERSIONS_KEPT]:
            del self._catalogs[old]

    def catalog(self, version: int) -> engine.Catalog | None:
        """Return the catalog of this version; None: the engine has none."""
        return self._catalogs.get(version)

    def batch(
        self, lane: int, lane_ms: int, window_ms: int, *, views_max: int, contextless: bool = False
    ) -> engine.Batch:
        """Return an empty batch. lane_ms: the lane's time before it; views_max: when views are forgotten.

        contextless: no outcome is kept of its requests.
        """
        self._cache.trim(views_max)
        return engine.Batch(self._cache, lane, lane_ms, window_ms, contextless=contextless)

    def gathering(
        self, clients: Collection[str] | None, window: tuple[int, int], waiting: set[bytes]
    ) -> engine.Gathering:
        """Return what reads the journal's calls of clients in a window: see `engine.Gathering`."""
        return engine.Gathering(None if clients is None else set(clients), *window, waiting)

    def sorting(self) -> engine.Sorting:
        """Return what sorts entries in memory: see `engine.Sorting`."""
        return engine.Sorting()

    def merged(self, files: Sequence[IO[bytes]], run: bytes, code: str) -> engine.Merged:
        """Return what goes through sorted runs: see `engine.Merged`."""
        return engine.Merged(files, run, code)

    def again(
        self, catalog: engine.Catalog, state: bytes, balance: int, counters: Mapping[str, int],
        fees: list[tuple[str, str, str, str, int]],
    ) -> engine.Again:  # fmt: skip
        """Return what rates a client's calls again: see `engine.Again`."""
        return engine.Again(self._cache, catalog, state, balance, dict(counters), fees)

    def changed(self, client: str, state: bytes, *, keep: bool) -> None:
        """Take a client's state after a change; keep False: have no view of it until it is fetched again."""
        try:
            if keep:
                self._cache.put(client, state)
                return
        except self.panic:
            pass  # it is fetched when it is wanted, where a panic is the lane's
        self._cache.forget(client)

    def forget(self) -> None:
        """Have no view of any client."""
        self._cache.clear()

    def trusts(self, place: Place) -> bool:
        """Return whether the engine may take a record."""
        return place not in self._distrusted

    def distrust(self, places: list[Place]) -> None:
        """Keep records from the engine, which panicked over them."""
        self._distrusted.update(dict.fromkeys(places))
        for old in list(self._distrusted)[:-DISTRUSTED_MAX]:
            del self._distrusted[old]

    @property
    def distrusts(self) -> bool:
        """Whether there are records that the engine may not take."""
        return bool(self._distrusted)
