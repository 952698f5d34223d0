"""Sending one command about a client, and waiting for what the lane of its bucket says it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rater.core.bucket.messages import bucket_of
from rater.core.commands.records import Event, read_event
from rater.core.kinds import EventType
from rater.stream.connecting import Connection
from rater.stream.sending import send_one
from rater.stream.tail import EventTail
from rater.stream.topics import Topics

TOLD_S = 3.0
"""A lane answers within a batch or two: so long without an answer, and who waits is told."""
QUIET_S = 15.0
"""No answer for so long: no worker has the lane."""


class Answer(NamedTuple):
    """What became of a command.

    data: of the event `command_done`, None: it was refused or nobody answered. refused: the reason, None
    where there is none. Neither: it stays queued.
    """

    client_package: str | None = None
    data: dict[str, Any] | None = None
    refused: str | None = None


class Sender:
    """Sends commands to the lanes of clients' buckets."""

    def __init__(
        self,
        client: Connection,
        topics: Topics,
        buckets: int,
        say: Callable[[str], None],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        """say: told in a sentence that nobody has answered yet. quiet_s: so long an answer is waited for."""
        self.kafka, self.topics, self.buckets, self._say = client, topics, buckets, say
        self._quiet_s = quiet_s

    async def send(self, command_id: str, client: str, value: bytes, name: str | None = None) -> Answer:
        """Send a command's JSON, and return what became of it. Raises Halt, StreamDown.

        name: by which it finds its lane, where that is not the client's.
        """
        lane = bucket_of(name or client, self.buckets) % self.topics.partitions
        tail = EventTail(self.kafka, self.topics)
        await tail.open()
        try:
            await send_one(self.kafka, self.topics.commands, lane, client.encode(), value)
            return await self._answer(tail, command_id, lane)
        finally:
            await tail.close()

    async def _answer(self, tail: EventTail, command_id: str, lane: int) -> Answer:
        sent, told = time.monotonic(), False
        while (waited := time.monotonic() - sent) < self._quiet_s:
            if waited > TOLD_S and not told:
                self._say(f"no worker has answered yet; lane {lane} has to be owned by one")
                told = True
            for raw in await tail.poll(timeout_ms=200):
                event = read_event(raw)
                if event is not None and event.cause == command_id and (answer := _read(event)) is not None:
                    return answer
        return Answer()


def _read(event: Event) -> Answer | None:
    data = event.data if isinstance(event.data, dict) else {}
    if event.type == EventType.COMMAND_REFUSED:
        return Answer(refused=str(data.get("reason")))
    return Answer(event.client_package, data) if event.type == EventType.COMMAND_DONE else None
