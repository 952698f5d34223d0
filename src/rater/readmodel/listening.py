"""Who is told, in this process, as soon as something new is in the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from rater.readmodel.decoding import Batch

PART, CLIENT = 1, 4
"""Where rows of events have their partition, and rows of transactions their client."""


class Listener:
    """Somebody who waits for news of a client, or of events.

    parts: partitions of the topic of events that have brought some; who listens takes them out.
    """

    def __init__(self, client: str | None = None) -> None:
        """client: of whom; None: of events."""
        self.client = client
        self.parts: set[int] = set()
        self._bell = asyncio.Event()

    def hear(self, parts: Collection[int], clients: Collection[str]) -> None:
        """Take note of what is new."""
        if self.client is None:
            self.parts.update(parts)
        if bool(parts) if self.client is None else self.client in clients:
            self._bell.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news, also those since the last time; False: there are none by then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True


class Listening:
    """All who listen. They keep what is new, not what it says: that is in the rows."""

    def __init__(self) -> None:
        """Nobody does yet."""
        self._open: set[Listener] = set()

    @contextmanager
    def listener(self, client: str | None = None) -> Iterator[Listener]:
        """Give one that hears what comes from now on, until it is left."""
        one = Listener(client)
        self._open.add(one)
        try:
            yield one
        finally:
            self._open.discard(one)

    def tell(self, batch: Batch) -> None:
        """Tell what a batch brought, which is in the rows."""
        if self._open:
            self._tell(
                {row[PART] for row in batch.events},
                {row[CLIENT] for row in batch.txns} | batch.changed.keys(),
            )

    def tell_clients(self, clients: Collection[str]) -> None:
        """Tell that clients stand differently."""
        self._tell((), clients)

    def _tell(self, parts: Collection[int], clients: Collection[str]) -> None:
        for one in self._open:
            one.hear(parts, clients)
