"""The consumer group's offsets of a lane: for the tools that show lag; nothing is read from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from rater.stream.connecting import later

COMMIT_WAIT_S = 1.0
"""How long an end may take to commit group offsets."""


def shown_in(group: str) -> str:
    """Return the group that the offsets are committed under. group: kafka.group_id, which has lanes alone."""
    return f"{group}.lanes"


class GroupOffsets:
    """Commits them while the lane goes on, one commit at a time."""

    def __init__(self) -> None:
        """Begin with nothing committed."""
        self._committing: asyncio.Task[None] | None = None
        self._last: Mapping[TopicPartition, int] = {}
        """As they were committed last."""

    def busy(self) -> bool:
        """Return whether a commit is under way."""
        return self._committing is not None and not self._committing.done()

    def commit(self, reader: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit where they have changed; does not wait, and errors do not matter."""
        if offsets != self._last:
            self._last = offsets
            self._committing = later(self._commit(reader, offsets))

    async def _commit(self, reader: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            await reader.commit(offsets)
        except (KafkaError, OSError, TimeoutError, asyncio.CancelledError):
            self._last = {}

    async def committed(self) -> None:
        """Wait for the commit that is under way, but not for long."""
        if self._committing is not None:
            # not cancelled: aiokafka shields the request, and its late error would be nobody's
            await asyncio.wait({self._committing}, timeout=COMMIT_WAIT_S)
