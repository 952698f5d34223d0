"""Connections to Redis, one server or a cluster, and what each fault means for a call.

A call is sent once. What went wrong before anything was sent, or is refused by Redis before a function
begins, did nothing: StoreDown. A reply that does not come leaves it open: StoreUnknown. redis-py's own
cluster client repeats commands by itself in some of these cases, so this module keeps the map of the cluster
and uses its connections only. The map is asked of any node that answers, those first that gave no cause for
doubt: a node that hangs, or was cut off from the others, knows an old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Never, TypeVar

from hiredis import HiredisError, pack_command
from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    RedisSSLContext,
    SSLConnection,
    parse_url,
)
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from rater.config.redis_urls import each_node
from rater.errors import Halt, StoreDown, StoreUnknown
from rater.logins import Secret, Tls

_T = TypeVar("_T")
_CONNECTIONS_MAX = 1024  # each lane has one call in flight for each bucket
_MOVED = (AskError, ClusterDownError, ReadOnlyError, TryAgainError)  # AskError: MovedError too
_REFUSED = (BusyLoadingError, OutOfMemoryError, *_MOVED)
_REFUSED_BEGIN = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE")
_FULL = "max number of clients reached"  # said to a new connection, which is then closed
_UNKNOWN = ("unknown command", "unknown subcommand")
_DENIED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError, NoPermissionError)


class FunctionMissing(StoreDown):
    """The function library is not loaded where it was called."""


class Address(NamedTuple):
    """Where a node listens; for a Unix socket, host is its path and port 0."""

    host: str
    port: int


class _Credentials(CredentialProvider):
    """A user whose password lies in a file: each connection logs in with what it says then."""

    def __init__(self, username: str | None, password: Secret) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the user, if there is one, and the password."""
        password = self._password.read()
        return (password,) if self._username is None else (self._username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same."""
        return self.get_credentials()


class _TlsConnection(SSLConnection):
    """With one context for all: redis-py reads the machine's authorities for each connection, 31 ms of CPU.

    For 256 of these, of a worker whose primary has changed, nothing else would be done for eight seconds
    (findings/redis-py-reads-authorities-for-each-connection.sh). What renews itself is asked by `get`, too.
    """

    def __init__(self, *, shared: RedisSSLContext | Tls, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared  # type: ignore[assignment] # of which `get` is asked


class Link:
    """Sends a command to the server that has a key."""

    def __init__(
        self,
        url: str,
        username: str | None,
        password: str | Secret | None,
        timeout_s: float,
        tls: Tls | None = None,
    ) -> None:
        """Connect to nothing yet. url: of a server, or of some nodes of a cluster (`config.redis_urls`).

        tls: see `Buckets.connect`. Raises Halt when the URL cannot be read.
        """
        try:
            options, *others = [dict[str, Any](parse_url(one)) for one in each_node(url)]
        except ValueError as error:
            raise Halt(f"redis.url: {error}; write it like redis://HOST:PORT/DB") from error
        _log_in(options, username, password)
        options |= {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,  # CLIENT SETINFO would be one more right to grant
            "decode_responses": False,
        }
        self._class: type[Connection] = options.pop("connection_class", Connection)
        self._tls: RedisSSLContext | None = None
        try:
            first = self._class(**options)
        except (TypeError, RedisError) as error:
            raise Halt(
                f"redis.url: what stands behind its `?` is refused ({error}); correct it or take it away, or "
                "begin the URL with rediss:// if it is of TLS"
            ) from error
        shared: Tls | RedisSSLContext | None = None
        if isinstance(first, SSLConnection):
            self._class, shared = _TlsConnection, tls
            if shared is None:  # the URL says itself what its context is made of
                shared = self._tls = first.ssl_context
        self._seeds = [
            Address(one.pop("host", one.get("path", "localhost")), one.pop("port", 6379))
            for one in (options, *others)
        ]
        self._options = options if shared is None else {**options, "shared": shared}
        self._pools: dict[Address, ConnectionPool] = {}
        self._slots: list[tuple[int, int, Address]] = []
        self._stale = False
        self._doubted: Address | None = None
        """Where a command failed last, or found no cluster."""
        self._mapping = asyncio.Lock()
        self.cluster = False

    async def open(self) -> None:
        """Find out whether this is a cluster, and its map. Raises StoreDown, StoreUnknown or Halt."""
        self.cluster = await self._first(self._seeds, self._is_in_cluster)
        if self.cluster:
            await self._map()

    async def _is_in_cluster(self, seed: Address) -> bool:
        told = str(await self._send(seed, "INFO", "cluster"), "utf-8", "replace")
        found = "cluster_enabled:1" in told
        if not found and len(self._seeds) > 1:
            raise Halt(
                f"redis.url names {len(self._seeds)} nodes, but {seed.host}:{seed.port} is no cluster's: "
                "name the one server that has the data, or nodes of a cluster"
            )
        return found

    async def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.aclose() for pool in pools.values()), return_exceptions=True)

    async def primaries(self) -> list[Address]:
        """Return the servers that hold keys: one, but in a cluster. Raises StoreDown."""
        if not self.cluster:
            return self._seeds[:1]
        if self._stale:
            await self._map()
        return sorted({address for _, _, address in self._slots})

    async def ask(self, key: str, *command: Any) -> Any:
        """Send a command to the server that has this key.

        Raises StoreDown, when nothing was done; StoreUnknown, when that is not known; Halt, when it never
        will be.
        """
        return await self._send(await self._address(key), *command)

    async def ask_several(self, key: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once to the server that has this key; returns their replies, raises as `ask`."""
        return await self._send_several(await self._address(key), commands)

    async def ask_at(self, address: Address, *command: Any) -> Any:
        """Send a command to one of `primaries`; raises as `ask`."""
        return await self._send(address, *command)

    async def address(self, key: str) -> Address:
        """Return the server that has this key. Raises StoreDown when no server is known to."""
        return await self._address(key)

    async def _address(self, key: str) -> Address:
        if not self.cluster:
            return self._seeds[0]
        if self._stale:
            await self._map()
        slot = key_slot(key.encode())
        for first, last, address in self._slots:
            if first <= slot <= last:
                return address
        self._stale = True
        raise StoreDown(f"no node of the Redis cluster serves slot {slot}; see CLUSTER INFO there")

    async def _map(self) -> None:
        """Ask the nodes, until one answers, which of them serve which slots."""
        async with self._mapping:
            if self._slots and not self._stale:
                return  # another call has just done it
            known = dict.fromkeys([*(address for _, _, address in self._slots), *self._seeds])
            nodes = sorted(known, key=lambda address: address == self._doubted)
            self._slots = await self._first(nodes, self._slots_by)
            self._stale = False

    async def _slots_by(self, node: Address) -> list[tuple[int, int, Address]]:
        """Return the map as a node has it: first and last slot, and who serves them."""
        ranges = await self._send(node, "CLUSTER", "SLOTS")
        if not ranges:
            raise StoreDown(
                f"Redis at {node.host}:{node.port} knows of no slots: was it taken out of its cluster?"
            )
        return [
            (first, last, Address(str(primary[0] or b"", "utf-8") or node.host, primary[1]))
            for first, last, primary, *_ in ranges
        ]

    async def _first(self, nodes: Sequence[Address], ask: Callable[[Address], Awaitable[_T]]) -> _T:
        """Return what the first of these tells that can be asked. Raises StoreDown, StoreUnknown, Halt."""
        for node in nodes[:-1]:
            with suppress(StoreDown, StoreUnknown):
                return await ask(node)
        try:
            return await ask(nodes[-1])
        except (StoreDown, StoreUnknown) as fault:
            if len(nodes) == 1:
                raise
            raise StoreDown(f"none of {len(nodes)} Redis nodes answers; the last of them: {fault}") from fault

    def _doubt(self, address: Address) -> None:
        """Have the map asked anew before the next command, of this node last."""
        self._stale, self._doubted = True, address

    def _pool(self, address: Address) -> ConnectionPool:
        pool = self._pools.get(address)
        if pool is None:
            place: dict[str, Any] = (
                {} if "path" in self._options else {"host": address.host, "port": address.port}
            )
            pool = ConnectionPool(
                connection_class=self._class, max_connections=_CONNECTIONS_MAX, **place, **self._options
            )
            self._pools[address] = pool
        return pool

    async def _send(self, address: Address, *command: Any) -> Any:
        return (await self._send_several(address, (command,)))[0]

    async def _send_several(self, address: Address, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pool = self._pool(address)
        try:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        except _DENIED as error:
            _deny(address, error)
        except (RedisError, OSError) as error:
            self._doubt(address)
            if self._tls is not None:
                self._tls.context = None  # certificates may have been renewed: they are read again
            files = (
                ", redis.ssl_cafile and redis.ssl_certfile" if issubclass(self._class, SSLConnection) else ""
            )
            message = (
                f"Redis at {address.host}:{address.port} is not reachable ({error}); check redis.url{files}"
            )
            raise StoreDown(message) from error
        try:
            # redis-py packs in Python: 0.95 ms in place of 0.11 for 700 keys.
            await connection.send_packed_command(b"".join(map(pack_command, commands)))
            _obey_cancellation()
            return [await connection.read_response() for _ in commands]
        except (ResponseError, BusyLoadingError, *_DENIED) as error:
            if len(commands) > 1:
                await connection.disconnect(nowait=True)  # replies may still come
            await self._refused(pool, address, error, commands[0][0])
        except BaseException as error:
            await connection.disconnect(nowait=True)  # its reply may still come: never read it as another's
            if not isinstance(error, RedisError | OSError | HiredisError):
                raise
            where = f"Redis at {address.host}:{address.port}"
            if _FULL in str(error):
                raise StoreDown(
                    f"{where} takes no more connections: {error}; raise maxclients there"
                ) from error
            self._doubt(address)
            raise StoreUnknown(
                f"{where} did not answer: {str(error) or type(error).__name__}. Whether it did what "
                "was asked is found out as the lane is taken again"
            ) from error
        finally:
            await pool.release(connection)

    async def _refused(self, pool: ConnectionPool, address: Address, error: RedisError, name: str) -> Never:
        """Raise what an error reply to a command means."""
        text = str(error)
        where = f"Redis at {address.host}:{address.port}"
        if isinstance(error, _DENIED):
            _deny(address, error)
        if "Function not found" in text:
            raise FunctionMissing(f"{where} has no functions of rater; they are loaded again") from error
        if isinstance(error, _MOVED):
            self._doubt(address)
            if isinstance(error, AskError):  # it has just told where the slot is: nobody knows better
                self._doubted = None
            await pool.disconnect(inuse_connections=False)  # the name may lead elsewhere by now
        if isinstance(error, _REFUSED) or text.startswith(_REFUSED_BEGIN):
            raise StoreDown(f"{where} does nothing at present: {type(error).__name__}: {text}") from error
        if any(words in text for words in _UNKNOWN):
            raise Halt(
                f"{where} has no {name}: {text}. rater needs the commands that `rater config acl` lists; use "
                "a server, or a service, that offers them"
            ) from error
        raise Halt(
            f"{where} refused {name}: {text}. Check that redis.prefix is used by nothing else "
            "and that the functions loaded there are this version's"
        ) from error


def _log_in(options: dict[str, Any], username: str | None, password: str | Secret | None) -> None:
    """Put who we are into the options of connections, before what the URL says."""
    if username is not None:
        options["username"] = username
    if isinstance(password, Secret):
        options["credential_provider"] = _Credentials(options.pop("username", None), password)
        options.pop("password", None)
    elif password is not None:
        options["password"] = password


def _obey_cancellation() -> None:
    """Raise a cancellation that came while a command was sent.

    redis-py sends by `asyncio.wait_for`, which before Python 3.12 forgets one that comes when it has just
    sent (findings/redis-py-lost-cancellation.sh). A lane that waits for its bucket would then never end, and
    a rebalance of the group would wait for it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _deny(address: Address, error: Exception) -> Never:
    raise Halt(
        f"Redis at {address.host}:{address.port} denied access: {str(error).rstrip('.')}. Check "
        "redis.username and redis.password, and grant the user what `rater config acl` lists"
    ) from error
