"""What the agents of one worker process share: connections, catalogs, cached client views, its state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rater.catalogs import Catalogs
from rater.config import Settings
from rater.core.clients.views import ClientView, Views
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.sources.source_map import SourceMap
from rater.metrics import Metrics
from rater.store.buckets import Buckets
from rater.stream.topics import Topics

VIEWS_MAX = 250_000
"""Client views kept, about 2 KB each; the cache is emptied when it is full, for the busy ones come back at
once."""


@dataclass
class Parts:
    """The connected parts; `app` makes them and closes them in reverse order."""

    settings: Settings
    client: Mapping[str, Any]
    topics: Topics
    store: Buckets
    catalogs: Catalogs
    maps: dict[str, SourceMap]
    metrics: Metrics
    worker_id: str
    views: dict[str, ClientView] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    waiting: dict[int, str] = field(default_factory=dict)
    """Lane → why it does not rate now; /readyz shows it."""
    bare: set[int] = field(default_factory=set)
    """Our lanes that have no catalog yet: they rate nothing, and that is no fault."""
    stuck: dict[int, str] = field(default_factory=dict)
    """Lane → how it makes no progress; the same."""
    topic_faults: list[str] = field(default_factory=list)
    """Sentences of what is wrong with topics and may pass; the same."""
    lanes: set[int] = field(default_factory=set)
    kafka_away: bool = False
    slowest_ms: int = 0
    """No lane is behind this time; as of `looked_back_at`."""
    looked_back_at: float = float("-inf")
    looking_back: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def window_ms(self) -> int:
        """The duplicate window."""
        return self.settings.worker.duplicate_window_days * DAY_MS

    @property
    def generation_ms(self) -> int:
        """Length of a generation of duplicate entries: a repeat in the window is in the next at most."""
        return self.window_ms + HOUR_MS

    def batch_views(self) -> Views:
        """Return the cache for one batch: what is absent is known for that batch only."""
        if len(self.views) > VIEWS_MAX:
            self.views.clear()
        if len(self.accounts) > VIEWS_MAX:
            self.accounts.clear()
        return Views(self.views, self.accounts)

    def reasons(self) -> list[str]:
        """Return why this worker is not ready; nothing when it is."""
        if self.kafka_away:
            return [f"Kafka at {self.settings.kafka.bootstrap_servers} does not answer"]
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
