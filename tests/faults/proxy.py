"""TCP proxies between one worker and a server: answers lost, cut off, held back; requests that come late.

A `Gate` is one port in front of one server. What it does to a request or its answer is said by a `Rule`, for
so many times; a whole gate can be silent (nothing passes, connections stay) or shut (connections are reset).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Any, Literal

HOST = "127.0.0.1"

PRODUCE, FETCH, METADATA, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 0, 1, 3, 10, 11, 12, 14
INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = 22, 24, 26

Action = Literal["cut", "lose", "hold", "late"]


class Rule:
    """What happens to the next `times` requests that match, or to their answers.

    cut: the server does it, then the connection is reset. lose: the server does it, the answer never comes
    and the connection stays. hold: the answer comes `seconds` later. late: the connection is reset at once,
    and the server gets the request all the same, `seconds` later.
    """

    def __init__(
        self, matches: set[int] | tuple[bytes, ...], action: Action, *, times: int = 1, seconds: float = 0
    ) -> None:
        """matches: Kafka's API keys, or texts of which a Redis command has one."""
        self.matches = matches
        self.action = action
        self.times = times
        self.seconds = seconds
        self.hits = 0
        self.used_up = asyncio.Event()

    def takes(self, request: bytes) -> bool:
        """Tell whether this request is one of those, and count it."""
        if self.hits >= self.times:
            return False
        if isinstance(self.matches, tuple):
            matched = any(text in request for text in self.matches)
        else:
            matched = struct.unpack(">h", request[4:6])[0] in self.matches
        if matched:
            self.hits += 1
            if self.hits >= self.times:
                self.used_up.set()
        return matched


class Gate:
    """One port in front of a server of the given kind; `target` may change: open connections keep theirs."""

    def __init__(self, kind: Literal["kafka", "redis"], target: int) -> None:
        """Pass everything on to the port `target` of this machine."""
        self.kind = kind
        self.target = target
        self.port = 0
        self.rules: list[Rule] = []
        self.delay_s = 0.0
        """So much later each answer comes, as over a long way: those behind it are not held up by it."""
        self.on_message: Callable[[], None] = lambda: None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._shut = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, port)
        self.port = port

    async def stop(self) -> None:
        """End all of it."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for late in self._late:
            late.cancel()
        await asyncio.gather(*self._tasks, *self._late, return_exceptions=True)

    def arm(self, rule: Rule) -> Rule:
        """Let a rule hold from now on."""
        self.rules = [one for one in self.rules if not one.used_up.is_set()] + [rule]
        return rule

    def heal(self) -> None:
        """Let everything pass again."""
        self.rules.clear()
        self.delay_s = 0.0
        self._shut = False
        self._flowing.set()

    def silence(self) -> None:
        """Let nothing pass in either direction; connections stay, and what was sent arrives at `heal`."""
        self._flowing.clear()

    def shut(self) -> None:
        """Reset all connections, and every new one."""
        self._shut = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections."""
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        here: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._flowing.wait()
            if self._shut:
                return
            there, here = await asyncio.open_connection(HOST, self.target)
            asked: dict[int, Rule] = {}
            pumps = [
                asyncio.create_task(self._requests(reader, here, asked)),
                asyncio.create_task(self._answers(there, writer, asked)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or we are to end: either way both sides see a reset
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, here):
                if end is not None:
                    end.transport.abort()
            # The pumps are not awaited: this task would end cancelled, which asyncio reports as an error.
            self._tasks.discard(task)

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, asked: dict[int, Rule]
    ) -> None:
        read = _frame if self.kind == "kafka" else _command
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                request = await read(reader)
                await self._flowing.wait()
                self.on_message()
                rule = next((rule for rule in self.rules if rule.takes(request)), None)
                if rule is not None and rule.action == "late":
                    late = asyncio.create_task(self._deliver(request, rule.seconds))
                    self._late.add(late)
                    late.add_done_callback(self._late.discard)
                    return
                if rule is not None:
                    asked[struct.unpack(">i", request[8:12])[0] if self.kind == "kafka" else 0] = rule
                server.write(request)
                await server.drain()

    async def _answers(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, asked: dict[int, Rule]
    ) -> None:
        lost = False
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                answer = await (_frame(reader) if self.kind == "kafka" else reader.read(2**16))
                if not answer:
                    return
                await self._flowing.wait()
                self.on_message()
                correlation = struct.unpack(">i", answer[4:8])[0] if self.kind == "kafka" else 0
                rule = asked.pop(correlation, None)
                if rule is not None and rule.action == "cut":
                    return
                if rule is not None and rule.action == "hold":
                    await asyncio.sleep(rule.seconds)
                lost = lost and self.kind == "redis"  # nobody can tell where the next answer begins
                if lost or (rule is not None and rule.action == "lose"):
                    lost = True
                    continue
                if self.delay_s:
                    asyncio.get_running_loop().call_later(self.delay_s, client.write, answer)
                    continue
                client.write(answer)
                await client.drain()

    async def _deliver(self, request: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, self.target)
            writer.write(request)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(2**16), 10)
            writer.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """Return a request or an answer of Kafka's."""
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])


async def _command(reader: asyncio.StreamReader) -> bytes:
    """Return a command of Redis': an array of bulk strings."""
    line = await reader.readuntil(b"\r\n")
    parts = [line]
    for _ in range(int(line[1:]) if line.startswith(b"*") else 0):
        head = await reader.readuntil(b"\r\n")
        parts += [head, await reader.readexactly(int(head[1:]) + 2)]
    return b"".join(parts)
