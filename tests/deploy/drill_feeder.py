"""Sends each line of its standard input as a record to the topic of CDRs, by settings of the environment."""

from __future__ import annotations

import asyncio
import os
import sys

from rater import app
from rater.config import load
from rater.errors import StreamDown
from rater.stream.ingest import Ingest


async def main() -> None:
    """Send until the input ends; while the broker is away what comes waits."""
    settings = load(None, os.environ)
    assert not isinstance(settings, list), settings
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, None)

    reading = loop.run_in_executor(None, read)
    topic = app.topics_of(settings).cdrs
    unsent: list[bytes] = []
    while True:
        try:
            async with Ingest(app.kafka_client(settings), topic) as out:
                while True:
                    if not unsent:
                        line = await lines.get()
                        if line is None:
                            await reading
                            return
                        unsent = [line]
                        while not lines.empty() and (more := lines.get_nowait()) is not None:
                            unsent.append(more)
                    for one in unsent:
                        await out.send(one, key=one[:60])  # to all partitions
                    await out.flush()
                    unsent = []
        except StreamDown:
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
