"""What can be set: sections and keys, with their units, defaults, bounds and meaning.

Units end the names (`_ms`, `_s`, `_days`). Secrets never show in a `repr`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

from rater.core.cdr import MAPPED_BYTES, MAPPED_BYTES_MAX
from rater.core.decks.profile import Profile
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.notices import Notices

SECRETS = frozenset({"password", "sasl_password", "number_key"})
"""Keys whose value is never shown. Each has a twin KEY_file: a file that holds it (secrets of containers)."""

OWN_TOPICS = ("cdrs", "transactions", "commands", "rejected", "events", "snapshots")
"""The system's own topics, without prefix: no source may read them (CONTRACTS.md, Topics)."""

DEFAULT_SOURCE = "default"
"""The source that is always there: PREFIXcdrs, whose records are CDRs already."""

OUTAGE_DAYS = 7
"""So long there may be no worker while transactions are not kept for ever."""

NUMBER_KEY_CHARS = 16
"""So long the key of numbers is at least: a shorter one is found by trying."""

ADDRESS = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\Z"
"""HOST:PORT; an address of IPv6 stands in brackets."""

_HIDDEN = "***"
_NAME_CHARACTERS = "letters, digits, dots, dashes or underscores"


class Section(Struct, frozen=True, kw_only=True):
    """A table of the settings. Shows itself without secrets."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        for name in self.__struct_fields__:
            yield name, redacted(name, getattr(self, name))


class Kafka(Section, frozen=True, kw_only=True):
    """How to reach Kafka, and the group that shares out the lanes."""

    bootstrap_servers: Annotated[
        str,
        Meta(
            pattern=r"^\s*[^\s,]+(\s*,\s*[^\s,]+)*\s*\Z",
            description="brokers as HOST:PORT, commas between several",
        ),
    ] = "localhost:9092"
    # It also begins every transactional id, so two installations on one Kafka need two groups.
    group_id: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,200}\Z",
            description=f"the consumer group: 1 to 200 {_NAME_CHARACTERS}",
        ),
    ] = "rater"
    # Heartbeats share the event loop with rating: the client library's 10 s would declare a busy worker dead.
    session_timeout_ms: Annotated[
        int,
        Meta(ge=1_000, le=1_800_000, description="of silence, after which a worker's lanes go to others"),
    ] = 30_000
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    sasl_password_file: str | None = None
    sasl_token_file: Annotated[
        str | None, Meta(description="file of the token of OAUTHBEARER, which something else renews")
    ] = None
    ssl_cafile: Annotated[
        str | None, Meta(description="PEM file of the authorities; none: the machine's")
    ] = None
    ssl_certfile: Annotated[str | None, Meta(description="PEM file of our certificate")] = None
    ssl_keyfile: Annotated[str | None, Meta(description="PEM file of its key")] = None
    ssl_check_hostname: bool = True


class Redis(Section, frozen=True, kw_only=True):
    """How to reach Redis or Valkey, and how the state lies in it."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(rediss?://[^\s/]+|unix:///)",
            description="redis://HOST:PORT/DB, rediss://HOST:PORT/DB with TLS, or unix:///PATH; of a cluster "
            "some nodes, any of which tells of the others: redis://HOST:PORT,HOST:PORT",
        ),
    ] = "redis://localhost:6379/0"
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    ssl_cafile: Annotated[
        str | None, Meta(description="PEM file of the authorities; none: the machine's")
    ] = None
    ssl_certfile: Annotated[str | None, Meta(description="PEM file of our certificate")] = None
    ssl_keyfile: Annotated[str | None, Meta(description="PEM file of its key")] = None
    ssl_check_hostname: bool = True
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
            description=f"the begin of every key: 1 to 64 {_NAME_CHARACTERS}",
        ),
    ] = "rater"
    # Few and full: a call with 20 CDRs costs four times as much for each CDR as one with 500.
    buckets: Annotated[
        int, Meta(ge=1, le=1024, description="four for each Redis master; fixed when first used")
    ] = 4
    timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="seconds, after which the result of a call counts as unknown")
    ] = 5.0


class Topics(Section, frozen=True, kw_only=True):
    """The system's own topics."""

    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,100}\Z",
            description=f"the begin of each own topic: {_NAME_CHARACTERS}",
        ),
    ] = "rater."
    partitions: Annotated[
        int, Meta(ge=1, le=1024, description="lanes: as many workers can share the work")
    ] = 4
    replication_factor: Annotated[
        int, Meta(ge=1, le=15, description="copies of each topic: 3, on a single broker 1")
    ] = 3
    recreated: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9_-]{22}(, *[A-Za-z0-9_-]{22})*)?\Z",
            description="ids, of 22 characters, of topics that may be read anew; commas between several",
        ),
    ] = ""

    @property
    def recreated_ids(self) -> frozenset[str]:
        """`recreated`, taken apart."""
        return frozenset(one.strip() for one in self.recreated.split(",") if one.strip())


class Metrics(Section, frozen=True, kw_only=True):
    """Where /metrics, /livez and /readyz are served."""

    host: Annotated[str, Meta(min_length=1, description="the address to listen on; 0.0.0.0 for all")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="the port to listen on; 0 takes a free one")] = (
        9464
    )


class Worker(Section, frozen=True, kw_only=True):
    """The rating worker."""

    id: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._:-]{0,200}\Z",
            description="its name: letters, digits, dots, dashes; none: HOST-PID",
        ),
    ] = ""
    engine: Annotated[
        Literal["auto", "native", "python"],
        Meta(description="what rates; auto: the native engine where it is, else Python, at more CPU"),
    ] = "auto"
    duplicate_window_days: Annotated[
        int,
        Meta(ge=1, le=366, description="duplicates are known so long; older calls are refused as too_old"),
    ] = 7
    # Some thousand records bring a Kafka transaction's fixed cost (about 3 ms of CPU) below a microsecond for
    # each.
    batch_records_max: Annotated[int, Meta(ge=1, le=50_000, description="a batch is closed with so many")] = (
        4_000
    )
    batch_age_ms: Annotated[
        int, Meta(ge=1, le=10_000, description="a lane that keeps up begins no batch sooner after the last")
    ] = 50
    snapshots_every_s: Annotated[
        int,
        Meta(ge=0, le=2_592_000, description="each client's state goes to the snapshots so often; 0: never"),
    ] = 86_400
    stuck_after_s: Annotated[
        int, Meta(ge=1, le=86_400, description="a lane that commits nothing for so long is told as stuck")
    ] = 30


class Events(Section, frozen=True, kw_only=True):
    """Of what events tell ahead; the same for all workers."""

    limit_percents: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=100)], ...],
        Meta(description="percents of a limit's use that events tell of; none: they tell of none"),
    ] = (50, 80, 100)
    expiring_notice_hours: Annotated[
        int,
        Meta(ge=0, le=8760, description="before a period's stop an event tells of unused volume; 0: none"),
    ] = 0

    @property
    def notices(self) -> Notices:
        """The same, as catalogs take it."""
        return Notices(tuple(sorted(set(self.limit_percents))), self.expiring_notice_hours * HOUR_MS)


class Token(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask `rater admin`, and for what. token_file: holds the token, on one line."""

    name: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z")]
    role: Literal["view", "operate", "administer"]
    token_file: Annotated[str, Meta(min_length=1)]


_WEB = r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z"


class Oidc(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer of OpenID Connect whose people may log in to the console.

    redirect_url: where browsers come back to, as the issuer has it. roles: a value of the claim → the role
    that it gives; the strongest counts. audience: the API takes access tokens of the issuer that are for it.
    """

    issuer: Annotated[str, Meta(pattern=_WEB)]
    client_id: Annotated[str, Meta(min_length=1)]
    redirect_url: Annotated[str, Meta(pattern=_WEB)]
    roles: Annotated[dict[str, Literal["view", "operate", "administer"]], Meta(min_length=1)]
    client_secret_file: Annotated[str, Meta(min_length=1)] | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    roles_claim: Annotated[str, Meta(min_length=1)] = "groups"
    name_claim: Annotated[str, Meta(min_length=1)] = "preferred_username"
    audience: Annotated[str, Meta(min_length=1)] | None = None


class Admin(Section, frozen=True, kw_only=True):
    """The HTTP API and the console of `rater admin`."""

    host: Annotated[str, Meta(min_length=1, description="the address to listen on; 0.0.0.0 for all")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="the port to listen on; 0 takes a free one")] = (
        8080
    )
    tokens: Annotated[
        tuple[Token, ...] | None,
        Meta(
            description="[[admin.tokens]] in the file of settings, each with name, role (view, operate or "
            "administer) and token_file"
        ),
    ] = None
    oidc: Annotated[
        Oidc | None,
        Meta(
            description="[admin.oidc] in the file of settings, with issuer, client_id, redirect_url, roles "
            "(a table: a value of the claim = view, operate or administer); also client_secret_file, scopes, "
            "roles_claim, name_claim, audience"
        ),
    ] = None
    secure_cookies: Annotated[
        bool, Meta(description="browsers send the session over https alone: for a proxy in front with TLS")
    ] = False
    workers: Annotated[
        tuple[Annotated[str, Meta(pattern=ADDRESS)], ...],
        Meta(
            description="where the workers serve /metrics, as HOST:PORT each (metrics.host, metrics.port); "
            "none: the live page shows nothing"
        ),
    ] = ()
    database: Annotated[
        Annotated[str, Meta(pattern=r"^(sqlite:///.|postgresql://.)")] | None,
        Meta(description="the read model's database: sqlite:///PATH or postgresql://USER@HOST/DATABASE"),
    ] = None
    jobs_folder: Annotated[
        str, Meta(min_length=1, description="the folder that keeps re-rating jobs, and what they have found")
    ] = "rater-admin-jobs"


class Logs(Section, frozen=True, kw_only=True):
    """What is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: text on a terminal, else JSON")
    ] = "auto"
    numbers: Annotated[
        Literal["hidden", "plain"],
        Meta(description="telephone numbers: by pseudonyms of number_key (without one all alike), or plain"),
    ] = "hidden"
    number_key: str | None = None
    number_key_file: str | None = None


class Tracing(Section, frozen=True, kw_only=True):
    """Where spans are sent. Traces that records are of are passed on in any case."""

    endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^\s/@?]+(/[^\s@?]*)?)?\Z",
            description="a collector's URL for traces by OTLP, http://HOST:4318/v1/traces; none: no spans",
        ),
    ] = ""


class Source(Section, frozen=True, kw_only=True):
    """Where CDRs come from: a topic, and the map that reads its records."""

    topic: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,249}\Z", description=f"its Kafka topic: 1 to 249 {_NAME_CHARACTERS}"
        ),
    ]
    # None: the records are CDRs already. The name of a shipped map, or the path of a TOML file.
    map: Annotated[str | None, Meta(description="the name of a shipped map, or the path of a map's file")] = (
        None
    )
    # A FreeSWITCH document grows with each application that the call ran through: 80 kB and more are usual.
    record_bytes_max: Annotated[
        int, Meta(ge=1024, le=MAPPED_BYTES_MAX, description="bytes of a record; a larger one is too_large")
    ] = MAPPED_BYTES
    defaults: Annotated[dict[str, Any], Meta(description="fields of the CDR, for records that have none")] = (
        msgspec.field(default_factory=dict)
    )


class Settings(Section, frozen=True, kw_only=True):
    """All settings, checked."""

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    topics: Topics = Topics()
    metrics: Metrics = Metrics()
    worker: Worker = Worker()
    events: Events = Events()
    admin: Admin = Admin()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    sources: dict[str, Source] = msgspec.field(default_factory=dict)
    decks: dict[str, Profile] = msgspec.field(default_factory=dict)

    @property
    def journal_min_ms(self) -> int | None:
        """The shortest time that transactions may be kept for; None: for ever, for nothing stands for them.

        A rebuild reads from the last whole round of snapshots, and from the generation of duplicates before
        that of the slowest lane; what is kept beyond is the longest time without a worker.
        """
        worker = self.worker
        if not worker.snapshots_every_s:
            return None
        duplicates_ms = 2 * (worker.duplicate_window_days * DAY_MS + HOUR_MS)
        return max(3000 * worker.snapshots_every_s, duplicates_ms) + OUTAGE_DAYS * DAY_MS

    def topic(self, name: str) -> str:
        """Return the full name of one of `OWN_TOPICS`."""
        return self.topics.prefix + name

    def all_sources(self) -> dict[str, Source]:
        """Return the sources by name, the built-in one first."""
        return {DEFAULT_SOURCE: Source(topic=self.topic("cdrs")), **self.sources}


SECTIONS: dict[str, type[Section]] = {
    "kafka": Kafka, "redis": Redis, "topics": Topics, "metrics": Metrics, "worker": Worker,
    "events": Events, "admin": Admin, "logs": Logs, "tracing": Tracing,
}  # fmt: skip


def masked_url(url: str) -> str:
    """Return the URL without what may be a secret: the password, and the query (it may hold one too)."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{colon}{_HIDDEN if colon else ''}{at}{host}"
    return urlunsplit((parts.scheme, netloc, parts.path, _HIDDEN if parts.query else "", ""))


def redacted(key: str, value: Any) -> Any:
    """Return a setting's value without what may be a secret."""
    if (key in SECRETS or key == "tokens") and value is not None:
        return _HIDDEN
    if key in ("url", "database", "endpoint") and isinstance(value, str):
        try:
            return masked_url(value)
        except ValueError:  # "Invalid IPv6 URL"
            return _HIDDEN
    return value
