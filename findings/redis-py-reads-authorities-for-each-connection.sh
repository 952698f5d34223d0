#!/usr/bin/env bash
# redis-py 8.1.0: what each new TLS connection of a pool costs.
#
# A pool of redis.asyncio opens 40 connections by TLS to a server in another process. One would expect a handshake each, some
# 1 to 3 ms of CPU, and the authorities to be read once for the pool. What happens: each connection has a context of its own,
# and ssl.create_default_context reads the machine's whole bundle of authorities for it, also where ssl_ca_certs names another:
# 20 to 30 ms, in the event loop, while nothing else is done. Whoever has hundreds of connections (and loses all of them when
# a primary changes) gives all connections one RedisSSLContext, and clears its `context` where certificates may be new.
#
# Installs the pinned public package in a temporary folder; needs python3.11 and openssl. Exit code 0: seen again; 1: not.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

python3.11 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "redis==8.1.0"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=redis \
  -addext subjectAltName=IP:127.0.0.1 -out "$folder/redis.pem" -keyout "$folder/redis.key" 2> /dev/null

cat > "$folder/serve.py" <<'PY'
import asyncio
import ssl
import sys


async def serve(reader, writer):
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


async def main(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/redis.pem", f"{folder}/redis.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1]))
PY

cat > "$folder/look.py" <<'PY'
import asyncio
import sys
import time

from redis.asyncio.connection import ConnectionPool, SSLConnection

COUNT = 40


class OneContext(SSLConnection):
    def __init__(self, *, shared, **options):
        super().__init__(**options)
        self.ssl_context = shared


async def cost_ms(port, connection_class, **options):
    """Return the CPU of this process for each connection that is opened and used."""
    options |= {"host": "127.0.0.1", "port": port, "ssl_ca_certs": sys.argv[2], "protocol": 2, "driver_info": None}
    options |= {"socket_timeout": 60, "socket_connect_timeout": 60}
    pool = ConnectionPool(connection_class=connection_class, **options)
    before = time.process_time()
    held = [await pool.get_connection() for _ in range(COUNT)]
    for connection in held:
        await connection.send_command("PING")
        await connection.read_response()
    took = (time.process_time() - before) * 1000 / COUNT
    for connection in held:
        await connection.disconnect()
    return took


async def main(port):
    own = await cost_ms(port, SSLConnection)
    shared = SSLConnection(ssl_ca_certs=sys.argv[2]).ssl_context
    one = await cost_ms(port, OneContext, shared=shared)
    print(f"CPU of a connection: {own:.1f} ms with a context each, {one:.1f} ms with one for all")
    return 0 if own > 3 * one else 1


sys.exit(asyncio.run(main(int(sys.argv[1]))))
PY

"$python" "$folder/serve.py" "$folder" > "$folder/port" &
server=$!
for _ in $(seq 100); do [ -s "$folder/port" ] && break; sleep 0.1; done
"$python" "$folder/look.py" "$(cat "$folder/port")" "$folder/redis.pem"
