"""The commands of a re-rating job: sent to the lanes of clients' buckets, several at a time, and answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rater.core.bucket.messages import bucket_of
from rater.core.commands.records import RerateArgs, read_event, write_command
from rater.core.kinds import Do, EventType
from rater.stream.connecting import Connection
from rater.stream.sending import Sending
from rater.stream.tail import EventTail
from rater.stream.topics import Topics

TOLD_S = 5.0
"""So long without an answer, and who waits is told."""
TOLD_AGAIN_S = 30.0


class Refused(Exception):  # noqa: N818 - the word of the rules
    """A part that the lane did not carry out: its sentence."""


class JobCommands:
    """Sends the parts of a job, and waits for what the lanes say of each."""

    def __init__(
        self, client: Connection, topics: Topics, buckets: int, run: str, actor: str,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Nothing is connected before `open`. run: begins the ids of the commands, and is used once."""
        self._client, self._topics, self._buckets = client, topics, buckets
        self._run, self._actor, self._say = run, actor, say
        self._sending, self._tail = Sending(client), EventTail(client, topics)
        self._count = 0
        self._answers: dict[str, dict[str, Any] | Refused] = {}
        self._waiting: set[str] = set()

    async def open(self) -> None:
        """Connect. Raises StreamDown, Halt."""
        await self._tail.open()
        await self._sending.open()

    async def close(self) -> None:
        """Let go; never raises."""
        await self._sending.close()
        await self._tail.close()

    async def send(self, client: str, args: RerateArgs) -> str:
        """Send a part; returns the id to wait for."""
        self._count += 1
        command_id = f"{self._run}/{self._count}"
        at_ms = time.time_ns() // 1_000_000
        value = write_command(
            command_id, Do.RERATE, at_ms, args, actor=self._actor, client=client, key="rerate"
        )
        lane = bucket_of(client, self._buckets) % self._topics.partitions
        self._waiting.add(command_id)
        await self._sending.send(self._topics.commands, lane, client.encode(), value)
        return command_id

    async def ask(self, client: str, args: RerateArgs) -> dict[str, Any]:
        """Send a part and return what its result tells. Raises Refused."""
        return await self.answer(await self.send(client, args))

    async def answer(self, command_id: str) -> dict[str, Any]:
        """Wait for what became of a part; while nobody answers that is told. Raises Refused."""
        since = told = time.monotonic()
        while command_id not in self._answers:
            now = time.monotonic()
            if now - since > TOLD_S and (told == since or now - told > TOLD_AGAIN_S):
                told = now
                self._say(
                    f"no worker has answered for {now - since:.0f} s; the job waits: start a worker, or stop "
                    "the job and resume it later"
                )
            for raw in await self._tail.poll(timeout_ms=200):
                self._take(raw)
        self._waiting.discard(command_id)
        answer = self._answers.pop(command_id)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _take(self, raw: bytes) -> None:
        event = read_event(raw)
        if event is None or event.cause not in self._waiting:
            return
        data = event.data if isinstance(event.data, dict) else {}
        if event.type == EventType.COMMAND_REFUSED:
            self._answers[event.cause] = Refused(str(data.get("reason")))
        elif event.type == EventType.COMMAND_DONE:
            self._answers[event.cause] = data
