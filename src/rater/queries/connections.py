"""What questions are asked of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rater.catalogs import Catalogs
from rater.store.buckets import Buckets
from rater.stream.topics import Topics


@dataclass(frozen=True)
class Connections:
    """Redis, connected; how Kafka is connected to (`kafka`), its topics, and the catalogs in them."""

    store: Buckets
    kafka: Mapping[str, Any]
    topics: Topics
    catalogs: Catalogs
