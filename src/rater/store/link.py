"""Connections to Redis, one server or a cluster, and what each fault means for a call.

A call is sent once. What went wrong before anything was sent, or is refused by Redis before a function
begins, did nothing: StoreDown. A reply that does not come leaves it open: StoreUnknown. redis-py's own
cluster client repeats commands by itself in some of these cases, so this module keeps the map of the cluster
and uses its connections only.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Never

from hiredis import HiredisError, pack_command
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, parse_url
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

from rater.errors import Halt, StoreDown, StoreUnknown
from rater.logins import Secret, Tls

_CONNECTIONS_MAX = 1024  # each lane has one call in flight for each bucket
_MOVED = (AskError, ClusterDownError, ReadOnlyError, TryAgainError)  # AskError: MovedError too
_REFUSED = (BusyLoadingError, OutOfMemoryError, *_MOVED)
_REFUSED_BEGIN = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE")
_FULL = "max number of clients reached"  # said to a new connection, which is then closed
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
    """A connection by TLS whose certificates are read again when they are renewed."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = tls  # type: ignore[assignment] # of which `get` is asked


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
        """Connect to nothing yet. tls: see `Buckets.connect`. Raises Halt when the URL cannot be read."""
        try:
            options: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise Halt(f"redis.url: {error}; write it like redis://HOST:PORT/DB") from error
        if username is not None:
            options["username"] = username
        if isinstance(password, Secret):
            options["credential_provider"] = _Credentials(options.pop("username", None), password)
            options.pop("password", None)
        elif password is not None:
            options["password"] = password
        options |= {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,  # CLIENT SETINFO would be one more right to grant
            "decode_responses": False,
        }
        self._class: type[Connection] = options.pop("connection_class", Connection)
        if tls is not None and self._class is SSLConnection:
            self._class, options["tls"] = _TlsConnection, tls
        try:
            self._class(**options)
        except (TypeError, RedisError) as error:
            raise Halt(
                f"redis.url: what stands behind its `?` is refused ({error}); correct it or take it away, or "
                "begin the URL with rediss:// if it is of TLS"
            ) from error
        self._seed = Address(options.pop("host", options.get("path", "localhost")), options.pop("port", 6379))
        self._options = options
        self._pools: dict[Address, ConnectionPool] = {}
        self._slots: list[tuple[int, int, Address]] = []
        self._stale = False
        self._mapping = asyncio.Lock()
        self.cluster = False

    async def open(self) -> None:
        """Find out whether this is a cluster, and its map. Raises StoreDown, StoreUnknown or Halt."""
        info = str(await self._send(self._seed, "INFO", "cluster"), "utf-8", "replace")
        self.cluster = "cluster_enabled:1" in info
        if self.cluster:
            await self._map()

    async def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.aclose() for pool in pools.values()), return_exceptions=True)

    async def primaries(self) -> list[Address]:
        """Return the servers that hold keys: one, but in a cluster. Raises StoreDown."""
        if not self.cluster:
            return [self._seed]
        if self._stale:
            await self._map()
        return sorted({address for _, _, address in self._slots})

    async def ask(self, key: str, *command: Any) -> Any:
        """Send a command to the server that has this key.

        Raises StoreDown, when nothing was done; StoreUnknown, when that is not known; Halt, when it never
        will be.
        """
        return await self._send(await self._address(key), *command)

    async def ask_at(self, address: Address, *command: Any) -> Any:
        """Send a command to one of `primaries`; raises as `ask`."""
        return await self._send(address, *command)

    async def address(self, key: str) -> Address:
        """Return the server that has this key. Raises StoreDown when no server is known to."""
        return await self._address(key)

    async def _address(self, key: str) -> Address:
        if not self.cluster:
            return self._seed
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
            fault: Exception = StoreDown(f"no node of the Redis cluster at {self._seed.host} answers")
            for address in dict.fromkeys([*(address for _, _, address in self._slots), self._seed]):
                try:
                    ranges = await self._send(address, "CLUSTER", "SLOTS")
                except (StoreDown, StoreUnknown) as error:
                    fault = error
                    continue
                self._slots = [
                    (first, last, Address(str(primary[0] or b"", "utf-8") or address.host, primary[1]))
                    for first, last, primary, *_ in ranges
                ]
                self._stale = False
                return
            raise StoreDown(str(fault)) from fault

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
        pool = self._pool(address)
        try:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        except _DENIED as error:
            _deny(address, error)
        except (RedisError, OSError) as error:
            self._stale = True
            files = (
                ", redis.ssl_cafile and redis.ssl_certfile" if issubclass(self._class, SSLConnection) else ""
            )
            message = (
                f"Redis at {address.host}:{address.port} is not reachable ({error}); check redis.url{files}"
            )
            raise StoreDown(message) from error
        try:
            # redis-py packs in Python: 0.95 ms in place of 0.11 for 700 keys.
            await connection.send_packed_command(pack_command(command))
            _obey_cancellation()
            return await connection.read_response()
        except ResponseError as error:
            await self._refused(pool, address, error)
        except (BusyLoadingError, *_DENIED) as error:
            await self._refused(pool, address, error)
        except BaseException as error:
            await connection.disconnect(nowait=True)  # its reply may still come: never read it as another's
            if not isinstance(error, RedisError | OSError | HiredisError):
                raise
            where = f"Redis at {address.host}:{address.port}"
            if _FULL in str(error):
                raise StoreDown(
                    f"{where} takes no more connections: {error}; raise maxclients there"
                ) from error
            self._stale = True
            raise StoreUnknown(
                f"{where} did not answer: {str(error) or type(error).__name__}. Whether it did what "
                "was asked is found out as the lane is taken again"
            ) from error
        finally:
            await pool.release(connection)

    async def _refused(self, pool: ConnectionPool, address: Address, error: RedisError) -> Never:
        """Raise what an error reply means."""
        text = str(error)
        where = f"Redis at {address.host}:{address.port}"
        if isinstance(error, _DENIED):
            _deny(address, error)
        if "Function not found" in text:
            raise FunctionMissing(f"{where} has no functions of rater; they are loaded again") from error
        if isinstance(error, _MOVED):
            self._stale = True
            await pool.disconnect(inuse_connections=False)  # the name may lead elsewhere by now
        if isinstance(error, _REFUSED) or text.startswith(_REFUSED_BEGIN):
            raise StoreDown(f"{where} does nothing at present: {type(error).__name__}: {text}") from error
        raise Halt(
            f"{where} refused a command: {text}. Check that redis.prefix is used by nothing else "
            "and that the functions loaded there are this version's"
        ) from error


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
