"""Streams of server-sent events over real connections: who does not read is let go, and each has an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from rater.admin import streams
from rater.admin.access import SESSION_S, Session, Sessions, User
from rater.admin.problems import Problem
from rater.admin.streams import BEGIN, Streams, message, noted
from rater.core.kinds import EventType
from rater.readmodel.decoding import Batch
from rater.readmodel.listening import Listening

HOST = "127.0.0.1"
Source = Callable[[], AsyncGenerator[bytes, None]]


@asynccontextmanager
async def streaming(source: Source, write_s: float = 5.0) -> AsyncIterator[tuple[str, Streams, Sessions]]:
    """Serve a stream to one session."""
    sessions = Sessions()
    sessions.begin(session := Session("s", User("vera", "view"), "csrf", time.monotonic()))
    served = Streams(sessions, {"X-Content-Type-Options": "nosniff"}, write_s=write_s)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await served.serve(request, session, source())
        except Problem as problem:
            return web.Response(status=problem.status)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}/", served, sessions
    finally:
        await runner.cleanup()


async def until_none_is_open(served: Streams) -> None:
    """Wait until each stream has ended."""
    async with asyncio.timeout(20):
        while True:
            if not served.open:
                return
            await asyncio.sleep(0.02)


async def endless() -> AsyncGenerator[bytes, None]:
    """Yield as much as is taken."""
    yield BEGIN
    while True:
        yield b": " + b"x" * 65_536 + b"\n\n"


async def beats() -> AsyncGenerator[bytes, None]:
    """Yield a little, again and again."""
    yield BEGIN
    while True:
        yield streams.BEAT
        await asyncio.sleep(0.02)


async def test_who_does_not_read_is_let_go() -> None:
    """What fits into the buffers of the connection is written, then the stream ends; nothing piles up."""
    async with (
        streaming(endless, write_s=0.3) as (url, served, _),
        aiohttp.ClientSession(read_bufsize=1024) as http,
    ):
        answer = await http.get(url)
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        await until_none_is_open(served)
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_who_goes_away_is_forgotten() -> None:
    """A page that is closed leaves no stream behind."""
    async with streaming(beats) as (url, served, _), aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            assert await answer.content.readuntil(b"\n\n") == BEGIN
            assert served.open == {"s": 1}
        await until_none_is_open(served)


async def test_so_many_are_open_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One session cannot take them all; nor can all together be more than so many."""
    async with streaming(beats) as (url, served, _), aiohttp.ClientSession() as http:
        for name in ("STREAMS_OF_SESSION_MAX", "STREAMS_MAX"):
            with monkeypatch.context() as patch:
                patch.setattr(streams, name, 2)
                answers = [await http.get(url) for _ in range(3)]
                assert [answer.status for answer in answers] == [200, 200, 503]
                for answer in answers:
                    answer.close()
                await until_none_is_open(served)


async def test_a_stream_ends_with_its_session() -> None:
    """Who logs out sees nothing more; and listening does not keep a session that nobody uses."""
    async with streaming(beats) as (url, served, sessions), aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            await answer.content.readuntil(b"\n\n")
            began_s = sessions.find("s", 0, by_itself=True)
            assert began_s is not None
            await asyncio.sleep(0.1)
            assert sessions.find("s", 0, by_itself=True) is began_s
            assert began_s.seen_s < time.monotonic() - 0.1
            began_s.seen_s -= SESSION_S
            async with asyncio.timeout(10):
                await answer.content.read()
        await until_none_is_open(served)


async def test_what_cannot_be_streamed_is_refused_before_it_begins() -> None:
    """A wrong filter is an answer with a status, not a stream that ends."""

    async def wrong() -> AsyncGenerator[bytes, None]:
        for one in list[bytes]():
            yield one
        raise Problem(422, "no")

    async with streaming(wrong) as (url, served, _), aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 422
        assert not served.open


def test_messages_are_lines() -> None:
    """As browsers read them: what has line breaks is several lines of data."""
    assert message("told", "a\nb", "1-2") == b"id: 1-2\nevent: told\ndata: a\ndata: b\n\n"
    assert message("changed", "1") == b"event: changed\ndata: 1\n\n"
    assert noted("3") == b"id: 3\n\n"


async def test_who_listens_hears_of_what_is_meant() -> None:
    """A client's listener hears of its transactions and states alone, one of events of their partitions."""
    listening, batch = Listening(), Batch()
    with listening.listener("42") as rose, listening.listener("43") as lily, listening.listener() as events:
        batch.txns.append((0, 0, 0, 0, "42"))
        batch.events.append((0, 3, 17, "id", EventType.ACTIVATED))
        listening.tell(batch)
        assert await rose.wait(0.01)
        assert not await rose.wait(0.01)
        assert not await lily.wait(0.01)
        assert await events.wait(0.01)
        assert events.parts == {3}
        listening.tell_clients({"43"})
        assert await lily.wait(0.01)
        assert not await events.wait(0.01)
    listening.tell(batch)
    assert not await rose.wait(0.01)
