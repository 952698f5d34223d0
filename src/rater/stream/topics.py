"""The topics: their names, their settings and why, creating them, and finding what would lose data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from rater.core.instants import DAY_MS
from rater.errors import Halt, StreamDown
from rater.stream import metadata
from rater.stream.connecting import (
    FORBIDDEN,
    NOBODY,
    REQUEST_TIMEOUT_MS,
    RETRY_S,
    Connection,
    refusal,
    shut,
    started,
)

DEFAULT_BYTES = 1_048_588
"""The largest batch of records that Kafka takes by default."""
INPUT_BYTES_MAX = 10 * 2**20
"""The largest record that an input topic may take."""
RECORD_BYTES_MAX = 11 * 2**20
"""The largest record we write: a rejected input with its headers."""
HEADERS_BYTES = 64 * 1024
"""Room for the headers of a rejected record."""
INPUT_RETENTION_MIN_MS = DAY_MS
"""Below it a night's outage loses calls that nobody has rated."""
REPLICAS_SAFE = 3
"""From so many copies on a write waits for two: one broker may die without loss and without standstill."""


class Spec(NamedTuple):
    """A topic as it is created: its settings, and for each the reason."""

    name: str
    partitions: int
    settings: dict[str, str]
    reasons: dict[str, str]


class Topics:
    """The names of all topics. partitions: lanes; sources: source name -> its own topic."""

    def __init__(
        self,
        prefix: str,
        partitions: int,
        sources: Mapping[str, str] | None = None,
        record_bytes: Mapping[str, int] | None = None,
        journal_min_ms: int | None = None,
    ) -> None:
        """prefix: begins each of the system's own topics. record_bytes: source name -> its largest record.

        journal_min_ms: the shortest time that transactions may be kept for; None: they are kept for ever, for
        no snapshots are written.
        """
        self.prefix = prefix
        self.partitions = partitions
        self.sources = {name: topic for name, topic in (sources or {}).items() if topic != f"{prefix}cdrs"}
        self.record_bytes = {topic: (record_bytes or {}).get(name, 0) for name, topic in self.sources.items()}
        """Topic -> the largest record that its source takes; 0: a CDR."""
        self.journal_min_ms = journal_min_ms
        self.cdrs = f"{prefix}cdrs"
        self.transactions = f"{prefix}transactions"
        self.commands = f"{prefix}commands"
        self.rejected = f"{prefix}rejected"
        self.events = f"{prefix}events"
        self.snapshots = f"{prefix}snapshots"
        self.data = [self.cdrs, *dict.fromkeys(self.sources.values())]

    def specs(self, replication: int) -> list[Spec]:
        """Return every topic as it should be created with so many copies."""
        forever = {
            "cleanup.policy": ("delete", "compaction would take away records that Redis is rebuilt from"),
            "retention.ms": ("-1", "Redis is rebuilt from it"),
            "retention.bytes": ("-1", "Redis is rebuilt from it"),
            "max.message.bytes": (str(RECORD_BYTES_MAX), "a client's state with many accounts is one record"),
        }
        inputs = {
            "cleanup.policy": ("delete", "compaction would take away calls: the key is the client"),
            "retention.ms": (str(7 * DAY_MS), "calls must outlive the longest time without a worker"),
            "retention.bytes": ("-1", "a size limit takes away calls that nobody has rated, when many come"),
        }
        stamped = {
            "message.timestamp.type": (
                "LogAppendTime",
                "a worker's clock may be wrong, and Kafka refuses records that are an hour ahead of its own",
            )
        }
        results = {
            **stamped,
            "cleanup.policy": ("delete", "each record counts, whatever its key"),
            "retention.ms": (str(30 * DAY_MS), "people need time to look at them and to mend"),
            "retention.bytes": ("-1", "one bad file must not push out what nobody has seen yet"),
        }
        own = {
            **{topic: {**inputs, **self._size_of(topic)} for topic in self.data},
            self.transactions: {**forever, **stamped},
            self.commands: forever,
            self.rejected: {
                **results,
                "max.message.bytes": (str(RECORD_BYTES_MAX), "it takes any input record, with headers added"),
            },
            self.events: results,
            self.snapshots: {"cleanup.policy": ("compact", "only a client's last state is needed")},
        }
        return [self._spec(name, settings, replication) for name, settings in own.items()]

    def _size_of(self, topic: str) -> dict[str, tuple[str, str]]:
        size = max(DEFAULT_BYTES, self.record_bytes.get(topic, 0) + HEADERS_BYTES)
        reason = "its source takes records of this size; larger ones should come whole to be rejected"
        return {"max.message.bytes": (str(size), reason)}

    def _spec(self, name: str, settings: dict[str, tuple[str, str]], replication: int) -> Spec:
        if replication >= REPLICAS_SAFE:
            settings = {
                **settings,
                "min.insync.replicas": ("2", "what is confirmed survives the loss of a broker"),
            }
        return Spec(
            name,
            self.partitions,
            {key: value for key, (value, _) in settings.items()},
            {key: reason for key, (_, reason) in settings.items()},
        )

    async def create(self, client: Connection, replication: int, *, deadline_s: float = 30.0) -> list[str]:
        """Create what is missing, in one call, and alter nothing; return a sentence for each topic.

        Raises StreamDown, or Halt when the broker refuses.
        """
        specs = self.specs(replication)
        async with _admin(client, deadline_s) as admin, asyncio.timeout(deadline_s):
            present = await _counts(admin, [spec.name for spec in specs])
            absent = [spec for spec in specs if present[spec.name] is None]
            if absent:
                await _create(admin, absent, replication)
        created = {spec.name for spec in absent}
        copies = "1 copy" if replication == 1 else f"{replication} copies"
        return [
            f"{spec.name}: created with {spec.partitions} partitions and {copies}"
            if spec.name in created
            else f"{spec.name}: is there already with {present[spec.name]} partitions, nothing was changed"
            for spec in specs
        ]

    async def check(self, client: Connection, *, deadline_s: float = 10.0) -> list[str]:
        """Return a sentence with its remedy for each thing that would lose data or stop the worker."""
        try:
            return await self.problems(client, deadline_s=deadline_s)
        except (StreamDown, Halt) as error:
            return [str(error)]

    async def problems(self, client: Connection, *, deadline_s: float) -> list[str]:
        """Return a sentence for each thing about the topics that would lose data or stop the worker.

        Raises StreamDown where Kafka is away, Halt where it refuses us; both name the setting to look at.
        """
        names = [spec.name for spec in self.specs(1)]
        try:
            async with _admin(client, deadline_s) as admin:
                present = await _counts(admin, names)
                settings = await _settings(admin, [name for name in names if present[name] is not None])
        except StreamDown as error:
            raise StreamDown(await why_down(client, error)) from error
        return [*self.misfits(present), *self._losses(settings), *self._sizes(settings)]

    def misfits(self, present: Mapping[str, int | None]) -> Iterator[str]:
        """Yield a sentence for each topic that is missing or has a number of partitions that cannot be.

        present: topic -> partitions, None: it is missing.
        """
        for name, count in present.items():
            if count is None:
                yield missing(name)
            elif name in self.sources.values() and count > self.partitions:
                yield (
                    f"{name}: has {count} partitions, but there are only {self.partitions} lanes, so nobody "
                    f"would read the others; recreate it with at most {self.partitions}, or raise "
                    "topics.partitions before the first start"
                )
            elif name not in self.sources.values() and name != self.snapshots and count != self.partitions:
                yield (
                    f"{name}: has {count} partitions, but topics.partitions is {self.partitions}; set "
                    f"topics.partitions to {count}, or, for more lanes, add some by `rater topics grow`"
                )

    def another(self, topic: str, lane: int | None, why: str, identity: str = "") -> str:
        """Return the sentence for a topic that is not the one that we knew, and the remedy.

        lane: where it was seen; None: on all. identity: its id now, "" where the broker tells none.
        """
        place = topic if lane is None else f"{topic}[{lane}]"
        told = f"{place} is not the topic that was read before: {why}; it was recreated or replaced: "
        if topic == self.transactions:
            return (
                f"{told}what was rated is known from it alone, so restore it from a backup before a worker "
                "starts again"
            )
        if topic == self.commands:
            return f"{told}the catalogs lie in it, so restore it from a backup before a worker starts again"
        if not identity:
            return f"{told}restore it, or give the source a topic of another name"
        return (
            f"{told}to have it read from its beginning, add its id to topics.recreated = {identity!r} and "
            "start the workers again; calls that were rated before are known as duplicates for "
            "worker.duplicate_window_days"
        )

    def _losses(self, settings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        for name, found in settings.items():
            if name == self.snapshots:
                if "delete" in found["cleanup.policy"]:
                    yield _set(name, found, "cleanup.policy", "compact", "it loses what idle clients have")
            elif "compact" in found["cleanup.policy"]:
                yield _set(name, found, "cleanup.policy", "delete", "it loses records that share a key")
            if name == self.commands:
                yield from _kept_forever(name, found, "the catalogs lie in this topic")
            elif name == self.transactions:
                yield from self._kept_for_rebuilds(name, found)
            elif name in self.data:
                yield from _kept_long(name, found)

    def _kept_for_rebuilds(self, name: str, found: Mapping[str, str]) -> Iterator[str]:
        least, kept_ms = self.journal_min_ms, int(found["retention.ms"])
        if least is None or found["retention.bytes"] != "-1":
            yield from _kept_forever(name, found, "Redis is rebuilt from this topic")
        elif 0 <= kept_ms < least:
            why = f"snapshots and duplicates need {least / DAY_MS:.0f} days of it when Redis is rebuilt"
            yield _set(name, found, "retention.ms", f"{least} or more, or to -1", why)

    def _sizes(self, settings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        for name in (self.transactions, self.commands, self.rejected, self.events):
            found = settings.get(name)
            if found is not None and int(found["max.message.bytes"]) < DEFAULT_BYTES:
                yield _set(
                    name, found, "max.message.bytes", str(RECORD_BYTES_MAX), "we write batches of up to 1 MiB"
                )
        if self.rejected not in settings:
            return
        room = int(settings[self.rejected]["max.message.bytes"]) - HEADERS_BYTES
        for name in self.data:
            size = int(settings[name]["max.message.bytes"]) if name in settings else 0
            if size > INPUT_BYTES_MAX:
                yield _set(
                    name,
                    settings[name],
                    "max.message.bytes",
                    str(INPUT_BYTES_MAX),
                    "the largest record we can reject",
                )
            elif DEFAULT_BYTES < self.record_bytes.get(name, 0) > size > 0:
                yield _set(
                    name,
                    settings[name],
                    "max.message.bytes",
                    str(self.record_bytes[name] + HEADERS_BYTES),
                    f"and its source takes records of {self.record_bytes[name]}, which it would turn away",
                )
            elif size > room:
                yield (
                    f"{self.rejected}: max.message.bytes leaves {room} bytes, but {name} takes records of "
                    f"{size}, which could not be rejected; set it to {RECORD_BYTES_MAX}"
                )


def _kept_forever(name: str, found: Mapping[str, str], why: str) -> Iterator[str]:
    for key in ("retention.ms", "retention.bytes"):
        if found[key] != "-1":
            yield _set(name, found, key, "-1", why)


def _kept_long(name: str, found: Mapping[str, str]) -> Iterator[str]:
    if 0 <= int(found["retention.ms"]) < INPUT_RETENTION_MIN_MS:
        yield _set(name, found, "retention.ms", str(7 * DAY_MS), "an outage would lose unrated calls")
    if found["retention.bytes"] != "-1":
        yield _set(name, found, "retention.bytes", "-1", "a rush would push out unrated calls")


def _set(name: str, found: Mapping[str, str], key: str, value: str, why: str) -> str:
    return f"{name}: {key} is {found[key]}, {why}; set it to {value}"


@asynccontextmanager
async def _admin(client: Connection, deadline_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = await administrator(client, deadline_s)
    try:
        yield admin
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, OSError, TimeoutError, *NOBODY) as error:
        raise StreamDown(f"Kafka did not answer ({type(error).__name__}: {error})") from error
    finally:
        await shut(admin)


async def administrator(client: Connection, deadline_s: float) -> AIOKafkaAdminClient:
    """Return a started admin client. Raises StreamDown, Halt."""
    return await started(
        lambda: AIOKafkaAdminClient(**{"request_timeout_ms": REQUEST_TIMEOUT_MS, **client}), deadline_s
    )


def missing(topic: str) -> str:
    """Return the sentence for a topic that is not there."""
    return f"{topic}: the topic is missing; create it by `rater topics create`"


async def partition_counts(
    client: Connection, names: list[str], *, deadline_s: float = 30.0
) -> dict[str, int | None]:
    """Return each topic's number of partitions; None: there is no such topic. Raises StreamDown, Halt."""
    async with _admin(client, deadline_s) as admin:
        return await _counts(admin, names)


async def configured(
    client: Connection, names: list[str], *, deadline_s: float = 30.0
) -> dict[str, dict[str, str]]:
    """Return the settings of topics that are there. Raises StreamDown, Halt."""
    async with _admin(client, deadline_s) as admin:
        return await _settings(admin, names)


async def topic_ids(client: Connection, names: list[str], *, deadline_s: float = 30.0) -> dict[str, str]:
    """Return each topic's id, "" where the broker tells none.

    Raises StreamDown, Halt also for a topic that is missing.
    """
    async with _admin(client, deadline_s) as admin:
        found = await described(admin, names)
    ids: dict[str, str] = {}
    for name, topic in found.items():
        if topic is None:
            raise Halt(missing(name))
        ids[name] = topic.id
    return ids


async def described(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, metadata.Found | None]:
    """Return what each topic is; None: there is no such topic. Raises KafkaError.

    `describe_topics` would create it where the broker has auto.create.topics.enable (Kafka's default), with
    the broker's settings.
    """
    answer = await admin._send_request(metadata.Ask(names))  # noqa: SLF001 - see above
    return {**dict.fromkeys(names), **metadata.read(answer)}


async def _counts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int | None]:
    """Return each topic's number of partitions; None: there is no such topic."""
    found = await described(admin, names)
    return {name: None if topic is None else topic.partitions for name, topic in found.items()}


async def _create(admin: AIOKafkaAdminClient, specs: list[Spec], replication: int) -> None:
    """Create topics; raises Halt with a sentence for each that the broker refused."""
    reply = await admin.create_topics(
        [NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.settings) for spec in specs]
    )
    refused = []
    for answer in reply.topic_errors:
        name, code, message = (*answer, "")[:3]
        error = for_code(code)
        if error is InvalidReplicationFactorError:
            why = f"{replication} copies are more than there are brokers; lower topics.replication_factor"
            refused.append(f"{name}: {why}")
        elif error.errno != 0 and error is not TopicAlreadyExistsError:
            refused.append(f"{name}: the broker refused to create it ({error.__name__}: {message})")
    if refused:
        raise Halt("; ".join(refused))
    # The controller has made them; the brokers learn of them within milliseconds.
    while None in (await _counts(admin, [spec.name for spec in specs])).values():  # noqa: ASYNC110 - theirs
        await asyncio.sleep(RETRY_S)


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    found: dict[str, dict[str, str]] = {}
    for reply in await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    ):
        for code, message, _, name, entries in reply.resources:
            error = for_code(code)
            if error.errno != 0:
                raise error(message)
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


TLS_SETTINGS = "kafka.bootstrap_servers, kafka.security_protocol, kafka.ssl_cafile or kafka.ssl_certfile"
WHY_TIMEOUT_MS = 3000
"""So long a broker may take to say why it does not let us in: nobody is told of anything meanwhile."""


async def why_down(client: Connection, error: StreamDown) -> str:
    """Return why no broker lets us in; aiokafka only logs the reason, so each is tried once more by hand.

    Raises Halt where one refuses us.
    """
    servers, is_tls = client.get("bootstrap_servers", ""), "ssl_context" in client
    why = str(error)
    for host, port, _ in collect_hosts(servers):
        try:
            connection = await create_conn(
                host,
                port,
                request_timeout_ms=WHY_TIMEOUT_MS,
                **{key: value for key, value in client.items() if key != "bootstrap_servers"},
            )
        except FORBIDDEN as refused:
            raise Halt(refusal(refused)) from refused
        except TimeoutError:
            why = f"{host}:{port}: no answer within {WHY_TIMEOUT_MS / 1000:g} s"
        except (KafkaError, OSError) as failure:
            why = f"{host}:{port}: {_root(failure)}"
        else:
            connection.close()
    return (
        f"Kafka is not reachable at kafka.bootstrap_servers = {servers!r} ({why}); start it, or correct "
        + (TLS_SETTINGS if is_tls else "kafka.bootstrap_servers or kafka.security_protocol")
    )


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
