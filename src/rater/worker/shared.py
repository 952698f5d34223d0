"""What the lanes of one worker process share: connections, cache of client views, readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rater.catalogs import Catalogs
from rater.config import Settings
from rater.core.clients.views import ClientView, Views
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.sources.source_map import SourceMap
from rater.metrics import Metrics
from rater.store.buckets import Buckets
from rater.stream.journal import last_marks
from rater.stream.snapshots import SnapshotIndexes
from rater.stream.topics import Topics
from rater.tracing import Tracer

if TYPE_CHECKING:
    from rater.native.holding import Native  # an import that fails where the engine is not

VIEWS_MAX = 250_000
"""Client views kept, about 2 KB each; the cache is emptied when it is full, for the busy ones come back at
once."""
AGE_LANES = 4
"""The batch age is for so many lanes and grows with more: a batch costs 2-3 ms of this process whatever it
carries, 1-1.5 of it the Kafka transaction (PROTOCOL.md 5.3)."""
LOOK_BACK_S = 60.0
"""The last marks of all lanes are read again so often, at most: every lane of a worker needs them at once."""


@dataclass(frozen=True)
class WorkerConnections:
    """What a worker is connected to and set to; `app` makes it and closes it."""

    settings: Settings
    client: Mapping[str, Any]
    """How aiokafka connects."""
    topics: Topics
    store: Buckets
    catalogs: Catalogs
    maps: Mapping[str, SourceMap]
    """Data topic → the map by which its records are read; none of a topic of records of ours."""
    metrics: Metrics
    worker_id: str
    tracer: Tracer | None = None
    """Makes spans; None: nobody asked for them."""

    @property
    def window_ms(self) -> int:
        """The duplicate window."""
        return self.settings.worker.duplicate_window_days * DAY_MS

    @property
    def generation_ms(self) -> int:
        """Length of a generation of duplicate entries: a repeat in the window is in the next at most."""
        return self.window_ms + HOUR_MS


class ViewCache:
    """Clients' views and accounts' clients, as any lane of the process has fetched them last.

    They may be old: a draw names the version of the view that it used, and is refused then.
    """

    def __init__(self) -> None:
        self.clients: dict[str, ClientView] = {}
        self.accounts: dict[str, str] = {}

    def of_batch(self) -> Views:
        """Return the cache for one batch: what is absent is known for that batch only."""
        if len(self.clients) > VIEWS_MAX:
            self.clients.clear()
        if len(self.accounts) > VIEWS_MAX:
            self.accounts.clear()
        return Views(self.clients, self.accounts)

    def clear(self) -> None:
        """Forget all."""
        self.clients.clear()
        self.accounts.clear()


class Readiness:
    """Whether this worker rates, and why not: /readyz shows it."""

    def __init__(self, servers: str) -> None:
        """servers: the addresses of Kafka, for the sentence that it does not answer."""
        self._servers = servers
        self.lanes: set[int] = set()
        """Lanes that the group has given us."""
        self.waiting: dict[int, str] = {}
        """Lane → why it does not rate now."""
        self.bare: set[int] = set()
        """Our lanes that have no catalog yet: they rate nothing, and that is no fault."""
        self.stuck: dict[int, str] = {}
        """Lane → how it makes no progress."""
        self.topic_faults: list[str] = []
        """Sentences of what is wrong with topics and may pass."""
        self.kafka_away = False

    def reasons(self) -> list[str]:
        """Return why this worker is not ready; nothing when it is."""
        if self.kafka_away:
            return [f"Kafka at {self._servers} does not answer"]
        if not self.lanes:
            return [*self.topic_faults, "the group has given this worker no lane yet"]
        bare = [(lane, "there is no catalog yet; load one by `rater load`") for lane in self.bare]
        return self.topic_faults + [
            f"lane {lane}: {reason}"
            for lane, reason in sorted([*self.waiting.items(), *self.stuck.items(), *bare])
        ]

    def unready(self, lane: int, reason: str) -> None:
        """Note that a lane waits."""
        self.waiting[lane] = reason

    def ready(self, lane: int) -> None:
        """Note that a lane rates."""
        self.waiting.pop(lane, None)


class SlowestLane:
    """The lowest time of any lane, as the last marks of all lanes had it when they were read.

    Lane time never runs backwards, so what was read a while ago holds too.
    """

    def __init__(self) -> None:
        self._lane_ms = 0
        self.positions: dict[int, Mapping[tuple[str, str], int]] = {}
        """Lane → topic and its id → position that it is not behind, as the same marks had it."""
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def lane_ms(self, connections: WorkerConnections) -> int:
        """Return a time that no lane is behind, ms."""
        async with self._reading:
            if time.monotonic() - self._read_at > LOOK_BACK_S:
                topics = connections.topics
                marks = await last_marks(connections.client, topics.transactions, topics.partitions)
                self.positions = {
                    lane: {(topic, mark.ids.get(topic, "")): at for topic, at in mark.positions.items()}
                    for lane, mark in enumerate(marks)
                    if mark is not None
                }
                self._lane_ms = min(0 if mark is None else mark.lane_ms for mark in marks)
                self._read_at = time.monotonic()
        return self._lane_ms


@dataclass(frozen=True)
class Shared:
    """One of each for all lanes of the process."""

    connections: WorkerConnections
    readiness: Readiness
    native: Native | None = None
    """The native engine; None: Python rates all."""
    views: ViewCache = field(default_factory=ViewCache)
    slowest: SlowestLane = field(default_factory=SlowestLane)
    """For who takes a lane."""
    indexes: SnapshotIndexes = field(default_factory=SnapshotIndexes)
    """Of snapshots, while buckets are put in place."""
    rebuilding: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Lane → records of its journal that were read and are to be read, while buckets are brought to it."""
    read: dict[int, int] = field(default_factory=dict)
    """Lane → offsets of its journal that its last take-over has read."""
    oldest: SlowestLane = field(default_factory=SlowestLane)
    """For what may leave the states of clients: asked at other times."""

    def forget_views(self) -> None:
        """Have no view of any client: what made them may be lost."""
        self.views.clear()
        if self.native is not None:
            self.native.forget()

    @property
    def batch_age_s(self) -> float:
        """So long a lane that keeps up lets a batch gather."""
        lanes = len(self.readiness.lanes)
        return self.connections.settings.worker.batch_age_ms / 1000 * max(1.0, lanes / AGE_LANES)
