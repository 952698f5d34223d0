#!/usr/bin/env bash
# redis-py 8.1.0 on Python 3.11: a task that is cancelled while its command is being sent goes on.
#
# A task asks a server again and again and is cancelled after so many turns of the event loop, for each number of turns. One
# would expect CancelledError at the next await, wherever that is. What happens: with a socket_timeout, redis.asyncio sends by
# asyncio.wait_for, which before Python 3.12 returns the result and forgets the cancellation when what it waits for has just
# ended; so at some turns the task goes on for ever. Whoever cancels tasks that repeat commands (and whoever waits for them)
# has to look at asyncio.current_task().cancelling() after a command, or run Python 3.12.
#
# Installs pinned public packages in a temporary folder; needs python3.11. Exit code 0: seen again; 1: it behaves otherwise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3.11 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "redis==8.1.0"

cat > "$folder/look.py" <<'EOF'
import asyncio
import platform
import sys

import redis
from redis.asyncio import Redis

TURNS = 40


async def serve(reader, writer):
    """Answer every command with +PONG."""
    try:
        while head := await reader.readline():
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                await reader.readexactly(size + 2)
            writer.write(b"+PONG\r\n")
            await writer.drain()
    except (ValueError, OSError, EOFError):
        pass
    finally:
        writer.close()


async def again_and_again(client):
    while True:
        await client.execute_command("PING")


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis(
        host="127.0.0.1", port=port, protocol=2, socket_timeout=5, driver_info=None, single_connection_client=True
    )
    await client.execute_command("PING")
    lost = []
    for turns in range(TURNS):
        task = asyncio.create_task(again_and_again(client))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=0.5)
        if not ended:
            lost.append(turns)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0.01)
    print(f"Python {platform.python_version()}, redis-py {redis.__version__}")
    print(f"cancelled after 0 to {TURNS - 1} turns of the loop; goes on at {len(lost)} of them: {lost}")
    server.close()
    return 0 if lost else 1


sys.exit(asyncio.run(asyncio.wait_for(main(), 60)))
EOF
"$python" "$folder/look.py"
