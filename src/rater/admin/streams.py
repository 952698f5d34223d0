"""Server-sent events: what moves on a page is told as it happens; nothing is kept for who does not read.

A stream sends what it finds when it looks, so a slow reader holds up nobody, and one that does not read is
let go: its browser comes again, and says up to where it has all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager

import structlog
from aiohttp import web

from rater.admin.access import Session, Sessions
from rater.admin.problems import Problem

log = structlog.get_logger()

STREAMS_MAX = 200
STREAMS_OF_SESSION_MAX = 12
"""Each is a page that somebody looks at: those in the background end theirs."""
WRITE_S = 10.0
"""So long nothing may be read of what was written; what lies between is a few hundred kilobytes."""
BEAT_S = 15.0
"""A stream says something at least so often: proxies end those that are silent."""
AGAIN_MS = 2000
"""So soon a browser comes again when its stream has ended."""
BEGIN = f"retry: {AGAIN_MS}\n\n".encode()
BEAT = b": \n\n"


def message(event: str, data: str, last: str | None = None) -> bytes:
    """Return a message. last: what a browser that comes again says that it had last."""
    lines = [f"id: {last}"] if last is not None else []
    return (
        "\n".join([*lines, f"event: {event}", *(f"data: {line}" for line in data.splitlines())]).encode()
        + b"\n\n"
    )


def noted(last: str) -> bytes:
    """Return what has a browser remember up to where it has all, and tells it nothing else."""
    return f"id: {last}\n\n".encode()


class Streams:
    """The streams that are open."""

    def __init__(self, sessions: Sessions, headers: Mapping[str, str], *, write_s: float = WRITE_S) -> None:
        """headers: of each answer."""
        self._sessions, self._headers, self._write_s = sessions, headers, write_s
        self.open: Counter[str] = Counter()
        """Session → how many streams it has."""

    async def serve(
        self, request: web.Request, session: Session, source: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Send what comes of a source until nobody reads it, or the session ends.

        source: its first message comes at once. Raises Problem as it does then, and where too many are open.
        """
        async with aclosing(source) as messages:
            with self._counted(session):
                first = await anext(messages)
                answer = web.StreamResponse(
                    headers={
                        **self._headers,
                        "Content-Type": "text/event-stream; charset=utf-8",
                        "X-Accel-Buffering": "no",
                    }
                )
                await answer.prepare(request)
                try:
                    await self._write(answer, first)
                    async for one in messages:
                        if self._sessions.find(session.id, time.monotonic(), by_itself=True) is None:
                            break
                        await self._write(answer, one)
                except (TimeoutError, ConnectionError) as error:
                    log.info("a stream was let go", path=request.path, why=str(error) or "nobody reads it")
                    _cut(request)
                except Exception:  # what it began cannot become another answer
                    log.exception("a stream ends by a fault", path=request.path)
                    _cut(request)
        return answer

    async def _write(self, answer: web.StreamResponse, raw: bytes) -> None:
        async with asyncio.timeout(self._write_s):
            await answer.write(raw)

    @contextmanager
    def _counted(self, session: Session) -> Iterator[None]:
        if self.open.total() >= STREAMS_MAX or self.open[session.id] >= STREAMS_OF_SESSION_MAX:
            raise Problem(
                503, "too many pages are open that move by themselves: close some, or open this one later",
                retry_s=30,
            )  # fmt: skip
        self.open[session.id] += 1
        try:
            yield
        finally:
            self.open[session.id] -= 1
            if not self.open[session.id]:
                del self.open[session.id]


def _cut(request: web.Request) -> None:
    """End a connection at once, whatever of it was not read."""
    if request.transport is not None:
        request.transport.abort()
