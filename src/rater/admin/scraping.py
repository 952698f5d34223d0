"""Asking the workers for their metrics, all at once and every few seconds, for the live page."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

import aiohttp
import structlog
from msgspec import Struct

from rater.admin.figures import History, Reading, Sums, added, read

log = structlog.get_logger()

EVERY_S = 2.0
ANSWER_S = 4.0
"""So long a worker may take to answer."""
BYTES_MAX = 4_000_000
"""Of an answer: a worker's own has some hundred kilobytes at the most."""
CONNECTIONS_MAX = 50
_CHUNK = 65_536


class Seen(Struct, frozen=True, kw_only=True):
    """A worker at a scrape. reading: what it said, None: nothing, and `why` says why.

    since_ms: since when it is so that it answers, or does not.
    """

    address: str
    reading: Reading | None
    why: str | None
    since_ms: int


class Scrape(Struct, frozen=True, kw_only=True):
    """All workers, asked at once. sums: of those that answered."""

    number: int
    at_ms: int
    workers: tuple[Seen, ...]
    sums: Sums

    @property
    def answered(self) -> int:
        """How many workers answered."""
        return sum(one.reading is not None for one in self.workers)


class Scraping:
    """What asks the workers, and keeps what they said."""

    def __init__(
        self, addresses: Sequence[str], *, every_s: float = EVERY_S, answer_s: float = ANSWER_S
    ) -> None:
        """addresses: HOST:PORT of each worker's metrics."""
        self.addresses = tuple(addresses)
        self.history = History()
        self.last: Scrape | None = None
        self._every_s, self._answer_s = every_s, answer_s
        self._moved = asyncio.Condition()

    async def run(self) -> None:
        """Ask until cancelled; without addresses there is nothing to ask."""
        if not self.addresses:
            return
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._answer_s),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "text/plain", "Accept-Encoding": "identity"},
            auto_decompress=False,
        ) as http:
            while True:
                began_s = time.monotonic()
                await self._scrape(http)
                await asyncio.sleep(max(0.0, began_s + self._every_s - time.monotonic()))

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait for a scrape behind that of a number; False: there is none by then."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.last is not None and self.last.number > after)
        except TimeoutError:
            return False
        return True

    async def _scrape(self, http: aiohttp.ClientSession) -> None:
        found = await asyncio.gather(*(self._ask(http, address) for address in self.addresses))
        at_ms = time.time_ns() // 1_000_000
        before = {} if self.last is None else {one.address: one for one in self.last.workers}
        workers = tuple(
            _seen(address, said, before.get(address), at_ms)
            for address, said in zip(self.addresses, found, strict=True)
        )
        known = {one.address: one.reading for one in workers if one.reading is not None}
        self.history.add(at_ms, known)
        number = 1 if self.last is None else self.last.number + 1
        sums = added(reading.values for reading in known.values())
        self.last = Scrape(number=number, at_ms=at_ms, workers=workers, sums=sums)
        async with self._moved:
            self._moved.notify_all()

    async def _ask(self, http: aiohttp.ClientSession, address: str) -> Reading | str:
        """Return what a worker said, or a sentence of why there is nothing of it."""
        try:
            text = (await _page(http, f"http://{address}/metrics")).decode("utf-8")
            return Reading(await asyncio.to_thread(read, text), time.monotonic())
        except TimeoutError:
            return f"it does not answer within {self._answer_s:g} s"
        except aiohttp.ClientConnectorError as error:
            return f"it cannot be reached ({_why(error.os_error)})"
        except UnicodeDecodeError:
            return "its metrics are not UTF-8"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error) or type(error).__name__


def _why(error: OSError) -> str:
    """Return in words why a connection could not be made; the loop's own text names the address once more."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()


async def _page(http: aiohttp.ClientSession, url: str) -> bytes:
    """Return what is at a URL. Raises ValueError with a sentence where it is not to be read."""
    async with http.get(url, allow_redirects=False) as answer:
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise ValueError(f"it answers {answer.status}")
        raw = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK):
            raw += chunk
            if len(raw) > BYTES_MAX:
                raise ValueError(f"it answers with more than {BYTES_MAX} bytes")
    return bytes(raw)


def _seen(address: str, said: Reading | str, before: Seen | None, at_ms: int) -> Seen:
    reading, why = (None, said) if isinstance(said, str) else (said, None)
    same = before is not None and (before.reading is None) == (reading is None)
    if not same and (before is not None or reading is None):
        log.info("a worker answers" if why is None else "a worker does not answer", address=address, why=why)
    since_ms = before.since_ms if before is not None and same else at_ms
    return Seen(address=address, reading=reading, why=why, since_ms=since_ms)
